"""Ids, the five capability sets, no_new_privs, seccomp: as /proc/self/status shows them after execve."""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Iterator

import prctl
import pytest

from nsrun import native
from tests.ns.core.driver import Box, L, Op, op, run

NAMES = """
CHOWN DAC_OVERRIDE FSETID FOWNER MKNOD NET_RAW SETGID SETUID SETFCAP SETPCAP NET_BIND_SERVICE SYS_CHROOT KILL AUDIT_WRITE
"""
DEFAULT = sum(1 << getattr(L, f"CAP_{name}") for name in NAMES.split())
EVERYTHING = (1 << 64) - 1


def caps(box: Box, after: list[Op]) -> dict[str, int]:
    fields = box.run(after=after, command=["caps"]).fields()
    return {name: int(value, 16) for name, value in fields.items() if name.startswith("Cap")}


def own() -> int:
    return native.capget()[1]


def test_user_and_groups(box: Box) -> None:
    groups = struct.pack("=3I", 50, 29, 1234567)
    out = box.run(after=[op("USER", groups, 1000, 1001)], command=["ids"])
    assert out.text == "uid=1000 euid=1000 gid=1001 egid=1001 groups=29,50,1234567\n"


def test_no_groups_and_untouched_groups(box: Box) -> None:
    assert box.run(after=[op("USER", b"", 7, 8)], command=["ids"]).text == "uid=7 euid=7 gid=8 egid=8 groups=\n"
    out = box.another().run(after=[op("USER", b"", 0, 0), op("USER", 7, 8)], command=["ids"])
    assert out.text == "uid=7 euid=7 gid=8 egid=8 groups=\n"
    out = box.another().run(after=[op("USER", struct.pack("=I", 50), 0, 0), op("USER", 7, 8)], command=["ids"])
    assert out.text == "uid=7 euid=7 gid=8 egid=8 groups=50\n"


def test_groups_in_part() -> None:
    with pytest.raises(native.ProgramError) as caught:
        run([op("USER", b"\x01\x00\x00", 7, 8)])
    assert (caught.value.code_name, caught.value.errno, caught.value.subject) == (
        "USER",
        errno.EINVAL,
        "supplementary groups",
    )


def test_user_without_privilege() -> None:
    with pytest.raises(native.ProgramError) as caught:
        run([op("CAPS", 0, 0, 0, 0), op("USER", 1, 0)])
    assert (caught.value.errno, caught.value.subject) == (errno.EPERM, "user")


def test_root_with_the_default_set(box: Box) -> None:
    seen = caps(box, [op("BOUNDING", DEFAULT), op("CAPS", DEFAULT, DEFAULT, 0, 0)])
    assert seen == {"CapInh": 0, "CapPrm": DEFAULT, "CapEff": DEFAULT, "CapBnd": DEFAULT, "CapAmb": 0}


@pytest.fixture
def keeping_caps() -> Iterator[None]:
    """Whoever is started becomes another user without losing what it has: inherited, until execve (PR_SET_KEEPCAPS)."""
    prctl.set_keepcaps(True)
    try:
        yield
    finally:
        prctl.set_keepcaps(False)


@pytest.mark.usefixtures("keeping_caps")
def test_each_of_the_five_sets_by_itself(box: Box) -> None:
    """For a user that is not root, so that execve computes from the sets and not from the id."""
    kill, chown, raw, bind = (
        1 << getattr(L, f"CAP_{name}") for name in ("KILL", "CHOWN", "NET_RAW", "NET_BIND_SERVICE")
    )
    after = [
        op("BOUNDING", kill | chown | raw | bind),
        op("USER", b"", 1000, 1000),
        op("CAPS", kill | raw, kill | chown | raw, chown | raw | bind, raw | chown),
    ]
    seen = caps(box, after)
    # P'(ambient) = P(ambient); P'(permitted) = P'(effective) = ambient; inheritable and bounding stay (capabilities(7)).
    assert seen == {
        "CapInh": chown | raw | bind,
        "CapPrm": chown | raw,
        "CapEff": chown | raw,
        "CapBnd": kill | chown | raw | bind,
        "CapAmb": chown | raw,
    }


@pytest.mark.usefixtures("keeping_caps")
def test_user_loses_everything_without_ambient(box: Box) -> None:
    after = [op("USER", b"", 1000, 1000), op("CAPS", DEFAULT, DEFAULT, 0, 0)]
    seen = caps(box, after)
    assert (seen["CapPrm"], seen["CapEff"], seen["CapAmb"]) == (0, 0, 0)


def test_what_the_caller_does_not_have_is_left_out(box: Box) -> None:
    """All 64 bits, of which no kernel has all and this caller perhaps fewer."""
    seen = caps(box, [op("BOUNDING", EVERYTHING), op("CAPS", *[EVERYTHING] * 4)])
    assert seen == {"CapInh": own(), "CapPrm": own(), "CapEff": own(), "CapBnd": own(), "CapAmb": own()}
    lacking = 1 << L.CAP_SYS_ADMIN
    again = box.another()
    without = [op("CAPS", EVERYTHING ^ lacking, EVERYTHING ^ lacking, 0, 0), op("BOUNDING", EVERYTHING ^ lacking)]
    seen = caps(again, [*without, op("CAPS", EVERYTHING, EVERYTHING, EVERYTHING, EVERYTHING)])
    assert seen["CapPrm"] == seen["CapAmb"] == own() & ~lacking


def test_nothing_at_all(box: Box) -> None:
    seen = caps(box, [op("BOUNDING", 0), op("CAPS", 0, 0, 0, 0)])
    assert set(seen.values()) == {0}
    with pytest.raises(native.ProgramError) as caught:
        run([op("CAPS", 0, 0, 0, 0), op("BOUNDING", 0)])
    assert (caught.value.step, caught.value.code_name, caught.value.errno) == (1, "BOUNDING", errno.EPERM)


def test_no_new_privs(box: Box) -> None:
    assert box.run(after=[op("NO_NEW_PRIVS")], command=["caps"]).fields()["NoNewPrivs"] == "1"
    again = box.another()
    assert again.run(command=["caps"]).fields()["NoNewPrivs"] == "0"


# --- seccomp ---

BPF_LD_W_ABS, BPF_JEQ, BPF_RET = 0x20, 0x15, 0x06
ALLOW, ERRNO = 0x7FFF0000, 0x00050000


def refusing(number: int, error: int) -> bytes:
    """A filter that answers `error` to one system call and allows the others."""
    rules = [(BPF_LD_W_ABS, 0, 0, 0), (BPF_JEQ, 0, 1, number), (BPF_RET, 0, 0, ERRNO | error), (BPF_RET, 0, 0, ALLOW)]
    return b"".join(struct.pack("=HBBI", *rule) for rule in rules)


SETHOSTNAME = {"x86_64": 170, "aarch64": 161}


@pytest.mark.skipif(os.uname().machine not in SETHOSTNAME, reason="the call's number is not written here")
@pytest.mark.parametrize("way", ["privileged", "no_new_privs"])
def test_seccomp(box: Box, way: str) -> None:
    fd = native.memfd(refusing(SETHOSTNAME[os.uname().machine], errno.EXDEV), "filter")
    try:
        after = (
            [op("SECCOMP", 1)]
            if way == "privileged"
            else [op("NO_NEW_PRIVS"), op("CAPS", 0, 0, 0, 0), op("SECCOMP", 1)]
        )
        out = box.run(after=after, command=["seq", "try", "sethostname", ";", "caps"], slots=[fd])
    finally:
        os.close(fd)
    assert "sethostname EXDEV" in out.lines
    assert "Seccomp 2" in out.lines


@pytest.mark.parametrize(
    ("content", "number"),
    [
        (b"", errno.EINVAL),
        (b"\0" * 7, errno.EINVAL),
        (b"\0" * 8 * 4097, errno.EINVAL),
        (b"\xff" * 16, errno.EINVAL),
    ],
    ids=["empty", "part", "too-long", "no-filter"],
)
def test_seccomp_failures(content: bytes, number: int) -> None:
    fd = native.memfd(content, "filter")
    try:
        with pytest.raises(native.ProgramError) as caught:
            run([op("SECCOMP", 1)], [fd])
    finally:
        os.close(fd)
    assert (caught.value.code_name, caught.value.errno, caught.value.subject) == ("SECCOMP", number, "filter")


def test_seccomp_without_privilege() -> None:
    fd = native.memfd(refusing(0, 1), "filter")
    try:
        with pytest.raises(native.ProgramError) as caught:
            run([op("CAPS", 0, 0, 0, 0), op("SECCOMP", 1)], [fd])
    finally:
        os.close(fd)
    assert caught.value.errno == errno.EACCES
