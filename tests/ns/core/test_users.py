"""A user namespace and what belongs to it: made, found again by the network namespace, entered; mounts with its ids."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from nsrun import native
from tests.ns.core.driver import Box, L, Op, op, run

FIRST = 0x70000000 + 4000 * 65536
COUNT = 65536
OWNED = L.CLONE_NEWNET | L.CLONE_NEWIPC | L.CLONE_NEWUTS
MADE = op("USER_NAMESPACE", FIRST, COUNT, OWNED)
ENTERED = [op("ENTER_USER", L.CLONE_NEWNS | L.CLONE_NEWCGROUP), op("USER", 0, 0, "")]

pytestmark = pytest.mark.skipif(
    Path("/proc/self/uid_map").read_text(encoding="ascii").split() != ["0", "0", "4294967295"],
    reason="only who has all ids can give some away",
)


def in_it(box: Box, *command: str, before: tuple[Op, ...] = (), mapped: tuple[Op, ...] = ()) -> str:
    """What a command in a box says whose processes are in a user namespace of their own."""
    program = [MADE, *mapped, *box.program(before, ENTERED, command=command)]
    done = run(program, clone_flags=L.CLONE_NEWNS)
    assert done.exit == 0, done.text
    return done.text


def test_S_USERNS_made_found_and_entered(box: Box) -> None:
    lines = in_it(box, "ids").splitlines()
    assert lines == ["uid=0 euid=0 gid=0 egid=0 groups="]
    assert in_it(box.another(), "cat", "/proc/self/uid_map").split() == ["0", str(FIRST), str(COUNT)]
    assert in_it(box.another(), "cat", "/proc/self/gid_map").split() == ["0", str(FIRST), str(COUNT)]
    inside = dict(line.split() for line in in_it(box.another(), "ns").splitlines())
    for kind in ("user", "net", "ipc", "uts", "mnt", "cgroup"):
        assert inside[kind] != str(os.stat(f"/proc/self/ns/{kind}").st_ino), kind
    assert inside["pid"] == str(os.stat("/proc/self/ns/pid").st_ino)


def test_S_USERNS_files_have_its_ids_on_a_mount_that_says_so(box: Box, tmp_path: Path) -> None:
    volume = tmp_path / "volume"
    volume.mkdir()
    (volume / "f").write_text("x")
    flags = L.NSR_BIND_MAKE_TARGET | L.NSR_BIND_ID_MAP
    bind = op("BIND", str(volume), "/volume", -1, flags)
    plain = op("BIND", str(volume), "/plain", -1, L.NSR_BIND_MAKE_TARGET)
    said = in_it(
        box,
        "stat",
        "/volume/f",
        "/plain/f",
        "/bin",
        "/made",
        before=(bind, plain, op("MKDIR", "/made", 0o755)),
        mapped=(op("ID_MAP", str(box.lower)), op("FS_USER", FIRST, FIRST)),
    )
    owners = {line.split()[0]: line.split()[3] for line in said.splitlines()}
    assert owners == {"/volume/f": "0", "/plain/f": "65534", "/bin": "0", "/made": "0"}
    assert (box.upper / "made").stat().st_uid == FIRST
    assert (volume / "f").stat().st_uid == (box.lower / "bin").stat().st_uid == 0, "nothing is changed on disk"


@pytest.mark.parametrize(
    ("ops", "code", "number", "subject"),
    [
        ([op("USER_NAMESPACE", FIRST, 0, OWNED)], "USER_NAMESPACE", errno.EINVAL, "uid_map"),
        ([op("USER_NAMESPACE", 2**32 - 1, 2, OWNED)], "USER_NAMESPACE", errno.EINVAL, "uid_map"),
        ([op("USER_NAMESPACE", FIRST, COUNT, 1)], "USER_NAMESPACE", errno.EINVAL, "its namespaces"),
        ([MADE, op("ID_MAP", "/proc/sys")], "ID_MAP", errno.EINVAL, "/proc/sys"),
        ([MADE, op("ID_MAP", "/not/there")], "ID_MAP", errno.ENOENT, "/not/there"),
        ([MADE, op("ROOT", "/tmp"), op("BIND", "/proc/sys", "/x", -1, L.NSR_BIND_ID_MAP)], "BIND", errno.EINVAL, "/proc/sys (id-mapped)"),
        # In the machine's own network namespace there is nothing to enter.
        ([op("ENTER_USER", 0)], "ENTER_USER", errno.EINVAL, "user namespace"),
    ],
)  # fmt: skip
def test_S_USERNS_what_fails_is_named(ops: list[Op], code: str, number: int, subject: str) -> None:
    with pytest.raises(native.ProgramError) as caught:
        run(ops, clone_flags=L.CLONE_NEWNS)
    assert (caught.value.code_name, caught.value.errno, caught.value.subject) == (code, number, subject)


def test_S_USERNS_what_may_have_its_ids_comes_without_where_it_cannot(box: Box) -> None:
    flags = L.NSR_BIND_MAKE_TARGET | L.NSR_BIND_MAY_ID_MAP
    said = in_it(box, "stat", "/sys-of-it", before=(op("BIND", "/proc/sys", "/sys-of-it", -1, flags),))
    assert said.split()[3] == "65534"
