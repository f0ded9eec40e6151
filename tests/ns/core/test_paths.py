"""An image may hold any symlink; no target path leaves the root."""

from __future__ import annotations

import errno
import subprocess
import sys
from pathlib import Path

import pytest

from nsrun import native
from tests.ns.core.driver import Box, L, Op, op, run


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A directory of the host that hostile links point to."""
    path = tmp_path / "outside"
    path.mkdir()
    (path / "file").write_text("host")
    return path


@pytest.fixture
def hostile(box: Box, outside: Path) -> Box:
    """Links as an evil image has them: absolute, climbing, in a loop, dangling, through /proc."""
    image = box.upper
    (image / "absolute").symlink_to(outside)
    (image / "climbing").symlink_to("../" * 30 + str(outside).lstrip("/"))
    (image / "file-link").symlink_to(outside / "file")
    (image / "loop").symlink_to("loop2")
    (image / "loop2").symlink_to("loop")
    (image / "dangling").symlink_to("/run/made/later")
    (image / "relative").mkdir()
    (image / "relative/link").symlink_to("../other/place")
    (image / "magic").symlink_to("/proc/self/root")
    (image / "magic-cwd").symlink_to("/proc/1/cwd")
    return box


def untouched(outside: Path) -> bool:
    return sorted(path.name for path in outside.iterdir()) == ["file"] and (outside / "file").read_text() == "host"


MAKERS = {
    "MKDIR": lambda path: op("MKDIR", f"{path}/new", 0o755),
    "FILE": lambda path: op("FILE", f"{path}/new", 0o644),
    "SYMLINK": lambda path: op("SYMLINK", "text", f"{path}/new"),
    "MKNOD": lambda path: op("MKNOD", f"{path}/new", L.S_IFCHR | 0o666, 1, 3),
    "BIND": lambda path: op("BIND", "/usr", f"{path}/new", -1, L.NSR_BIND_MAKE_TARGET),
    "CHDIR": lambda path: op("CHDIR", f"{path}/new", 1),
}


@pytest.mark.parametrize("code", MAKERS)
@pytest.mark.parametrize("link", ["absolute", "climbing"])
def test_what_is_made_is_made_inside(hostile: Box, outside: Path, code: str, link: str) -> None:
    """The link's target does not exist in the root, so it is made there: at the same path, inside."""
    out = hostile.run([MAKERS[code](f"/{link}")], command=["stat", f"{outside}/new"])
    assert out.exit == 0, out.text
    assert untouched(outside)
    assert (hostile.upper / str(outside).lstrip("/")).is_dir()


@pytest.mark.parametrize("code", MAKERS)
def test_climbing_path_stays_inside(hostile: Box, outside: Path, code: str) -> None:
    climbing = "/" + "../" * 30 + str(outside).lstrip("/")
    assert hostile.run([MAKERS[code](climbing)], command=["stat", f"{outside}/new"]).exit == 0
    assert untouched(outside)


def test_binding_on_a_link_binds_inside(hostile: Box, outside: Path) -> None:
    inside = hostile.upper / str(outside).lstrip("/")
    inside.mkdir(parents=True)
    out = hostile.run([op("BIND", "/dev", "/absolute", L.NSR_NO_SLOT)], command=["mounts"])
    assert any(line.startswith(f"{outside} / ") for line in out.lines), out.text


@pytest.mark.parametrize("path", ["/absolute", "/absolute/."])
def test_no_file_system_is_mounted_on_a_link(hostile: Box, outside: Path, path: str) -> None:
    (hostile.upper / str(outside).lstrip("/")).mkdir(parents=True)
    with pytest.raises(native.ProgramError) as caught:
        hostile.run([op("MOUNT", "tmpfs", path)])
    assert (caught.value.errno, caught.value.subject) == (errno.ELOOP, path)


@pytest.mark.parametrize("path", ["/to-proc/uptime", "/to-proc/version", "/proc/uptime"])
def test_no_link_leads_a_mount_into_proc(hostile: Box, path: str) -> None:
    (hostile.upper / "to-proc").symlink_to("/proc")
    program = [op("MKDIR", "/proc", 0o755), op("MOUNT", "proc", "/proc"), op("BIND", "/dev/null", path, L.NSR_NO_SLOT)]
    if path.startswith("/proc/"):
        out = hostile.run(program, command=["mounts"])
        assert any(line.startswith(f"{path} /null") for line in out.lines), out.text
    else:
        with pytest.raises(native.ProgramError) as caught:
            hostile.run(program)
        assert (caught.value.errno, caught.value.subject) == (errno.ELOOP, path)


@pytest.mark.parametrize("code", ["MASK", "READONLY", "ATTR", "MOUNT"])
def test_the_hosts_file_is_not_found_through_a_link(hostile: Box, outside: Path, code: str) -> None:
    ops: dict[str, Op] = {
        "MASK": op("MASK", "/file-link"),
        "READONLY": op("READONLY", "/file-link"),
        "ATTR": op("ATTR", "/file-link", 1, 0, 0),
        "MOUNT": op("MOUNT", "tmpfs", "/absolute"),
    }
    if code in {"MASK", "READONLY"}:
        assert hostile.run([ops[code]], command=["mounts"]).text.count("\n") == 3
    else:
        with pytest.raises(native.ProgramError) as caught:
            hostile.run([ops[code]])
        assert caught.value.errno == (errno.ELOOP if code == "MOUNT" else errno.ENOENT)
    assert untouched(outside)


@pytest.mark.parametrize("code", MAKERS)
def test_loops_and_magic_links_end(hostile: Box, code: str) -> None:
    for number, path in enumerate(("/loop", "/magic", "/magic-cwd")):
        with pytest.raises(native.ProgramError) as caught:
            run([*_with_proc(hostile, number), MAKERS[code](path)])
        assert (caught.value.code_name, caught.value.errno) == (code, errno.ELOOP), path


def _with_proc(box: Box, number: int) -> list[Op]:
    work = box.directory / f"work{number}"
    upper = box.upper
    work.mkdir()
    return [
        op("PRIVATE"),
        op("OVERLAY", box.merged, upper, work, box.lower),
        op("ROOT", box.merged),
        op("MKDIR", "/proc", 0o755),
        op("MOUNT", "proc", "/proc"),
    ]


def test_dangling_links_are_followed_and_made(hostile: Box) -> None:
    before = [op("MKDIR", "/dangling/deeper", 0o700), op("FILE", "/relative/link/file", 0o640)]
    out = hostile.run(before, command=["stat", "/run/made/later/deeper", "/other/place/file", "/other"])
    assert out.lines == [
        "/run/made/later/deeper d 0700 0 0 0",
        "/other/place/file f 0640 0 0 0".replace(" f ", " - "),
        "/other d 0755 0 0 0",
    ]


def test_file_on_a_dangling_link(hostile: Box) -> None:
    out = hostile.run([op("FILE", "/dangling", 0o600)], command=["stat", "/run/made/later"])
    assert out.text == "/run/made/later - 0600 0 0 0\n"


def test_made_things_have_the_mode_asked_for_and_owner(box: Box) -> None:
    before = [
        op("UMASK", 0o077),
        op("MKDIR", "/a/b/c", 0o1777, 5, 6),
        op("FILE", "/a/file", 0o666),
        op("MKNOD", "/a/pipe", L.S_IFIFO | 0o622, 0, 0),
        op("MKNOD", "/a/disk", L.S_IFBLK | 0o660, 7, 1),
        op("SYMLINK", "any/text at all", "/a/link"),
    ]
    out = box.run(before, command=["stat", "/a", "/a/b", "/a/b/c", "/a/file", "/a/pipe", "/a/disk", "/a/link"])
    assert out.lines == [
        "/a d 0755 0 0 0",
        "/a/b d 0755 0 0 0",
        "/a/b/c d 1777 5 6 0",
        "/a/file - 0666 0 0 0",
        "/a/pipe p 0622 0 0 0",
        "/a/disk b 0660 0 0 7:1",
        "/a/link l 0777 0 0 15 -> any/text at all",
    ]


def test_what_is_there_already_is_left_alone(box: Box) -> None:
    before = [
        op("MKDIR", "/tmp", 0o700, 1, 1),
        op("FILE", "/etc/passwd", 0o600),
        op("SYMLINK", "other", "/bin/sleep"),
        op("MKNOD", "/dev/null", L.S_IFCHR | 0o600, 1, 3),
    ]
    out = box.run(before, command=["stat", "/tmp", "/bin/sleep", "/dev/null"])
    assert out.lines[0] == "/tmp d 1777 0 0 0"
    assert out.lines[1].endswith("-> testbox")
    assert out.lines[2] == "/dev/null c 0666 0 0 1:3"


@pytest.mark.parametrize(
    ("bad", "number"),
    [
        (op("MKDIR", "/etc/passwd", 0o755), errno.ENOTDIR),
        (op("MKDIR", "/etc/passwd/below", 0o755), errno.ENOTDIR),
        (op("FILE", "/etc", 0o644), errno.EISDIR),
        (op("FILE", "/new/", 0o644), errno.EINVAL),
        (op("FILE", "/new/..", 0o644), errno.EINVAL),
        (op("MKDIR", "/" + "x" * 256, 0o755), errno.ENAMETOOLONG),
        (op("FILE", "/" + "x" * 256, 0o644), errno.ENAMETOOLONG),
        (op("MKDIR", "/" + "x/" * 2100, 0o755), errno.ENAMETOOLONG),
        (op("FILE", "/" + "x/" * 2100 + "y", 0o644), errno.ENAMETOOLONG),
        (op("MKNOD", "/etc/passwd", L.S_IFCHR | 0o666, 1, 3), errno.EEXIST),
        (op("MKNOD", "/dev/null", L.S_IFCHR | 0o666, 1, 5), errno.EEXIST),
        (op("CHDIR", "/nowhere"), errno.ENOENT),
        (op("CHDIR", "/etc/passwd"), errno.ENOTDIR),
    ],
    ids=lambda value: value.code if isinstance(value, Op) else errno.errorcode[value],
)
def test_failures_name_the_path(box: Box, bad: Op, number: int) -> None:
    with pytest.raises(native.ProgramError) as caught:
        box.run([bad])
    error = caught.value
    assert (error.code_name, error.errno) == (bad.code, number)
    assert error.step == 8
    assert bad.texts[0].decode().endswith(error.subject)
    assert len(error.subject) == min(len(bad.texts[0]), L.NSR_SUBJECT_LEN)


@pytest.mark.requires("userns")
@pytest.mark.parametrize(("minor", "answer"), [(3, "1:3"), (5, "ENODEV")])
def test_device_is_bound_where_it_cannot_be_made(box: Box, minor: int, answer: str) -> None:
    """In a user namespace mknod is EPERM: the host's node of that name serves, if it is that device."""
    ops = [
        op("PRIVATE"),
        op("MOUNT", "tmpfs", "/mnt"),
        op("ROOT", "/mnt"),
        op("MKDIR", "/dev", 0o755),
        op("MKNOD", "/dev/null", L.S_IFCHR | 0o666, 1, minor),
        op("EXEC", box.lower / "bin/stat", "stat", "/mnt/dev/null"),
    ]
    script = """
import errno, sys
from nsrun import native
try:
    child = native.run(bytes.fromhex(sys.stdin.read()), clone_flags=int(sys.argv[1]))
except native.ProgramError as error:
    print(error.code_name, errno.errorcode[error.errno])
else:
    assert child.wait() == 0
"""
    done = subprocess.run(
        ["unshare", "--user", "--map-root-user", sys.executable, "-c", script, str(L.CLONE_NEWNS | L.CLONE_NEWPID)],
        input=native.encode(ops).hex(),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.stderr == ""
    assert done.stdout.split()[0] in {"/mnt/dev/null", "MKNOD"}
    assert done.stdout.split()[-1] == answer
