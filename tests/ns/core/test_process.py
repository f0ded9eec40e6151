"""What a process carries through execve."""

from __future__ import annotations

import errno
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from nsrun import native
from tests.ns.core.driver import ALONE, Box, L, op, run


def test_working_directory(box: Box) -> None:
    assert box.run(after=[op("CHDIR", "/home/app")], command=["cwd"]).text == "/home/app\n"


def test_working_directory_is_made(box: Box) -> None:
    out = box.run(after=[op("CHDIR", "/srv/new/one", 1)], command=["seq", "cwd", ";", "stat", "/srv/new/one"])
    assert "/srv/new/one d 0755 0 0 0" in out.lines
    assert "/srv/new/one" in out.lines


def test_working_directory_before_the_pivot_is_the_roots(box: Box) -> None:
    """Left outside, it would be a way back to the host."""
    before = [op("CHDIR", "/etc")]
    out = box.run(before, command=["seq", "cwd", ";", "cat", "passwd", ";", "ls", "/proc/self/cwd/.."])
    assert "usr" not in out.lines


def test_umask_and_its_default(box: Box) -> None:
    assert "umask=0027" in box.run(after=[op("UMASK", 0o27)], command=["self"]).text


def test_umask_is_inherited_otherwise(lower: Path) -> None:
    before = os.umask(0o31)
    try:
        out = run([op("STDIO", 0, 0, 0), op("EXEC", lower / "bin/self", "self")])
    finally:
        os.umask(before)
    assert "umask=0031" in out.text


def test_limits(box: Box) -> None:
    after = [op("RLIMIT", L.RLIMIT_NOFILE, 100, 200), op("RLIMIT", L.RLIMIT_CORE, 0, 0)]
    seen = box.run(after=after, command=["rlimits"]).fields()
    assert (seen["nofile"], seen["core"]) == ("100 200", "0 0")


def test_limit_failures() -> None:
    for values, number in (((L.RLIMIT_NOFILE, 2, 1), errno.EINVAL), ((99, 1, 1), errno.EINVAL)):
        with pytest.raises(native.ProgramError) as caught:
            run([op("RLIMIT", *values)])
        assert (caught.value.code_name, caught.value.errno) == ("RLIMIT", number)
    with pytest.raises(native.ProgramError) as caught:
        run([op("RLIMIT", L.RLIMIT_NPROC, 1, 1), op("USER", 1, 1), op("RLIMIT", L.RLIMIT_NPROC, -1, -1)])
    assert (caught.value.step, caught.value.errno) == (2, errno.EPERM)


def test_oom_score(box: Box) -> None:
    assert "oom_score_adj=777" in box.run([op("OOM_SCORE_ADJ", 777)], command=["self"]).text


def test_oom_score_refused(lower: Path) -> None:
    unprivileged = op("USER", 1, 1)
    lowering = [op("OOM_SCORE_ADJ", 500), op("CAPS", 0, 0, 0, 0)]
    with pytest.raises(native.ProgramError) as caught:
        run([*lowering, op("OOM_SCORE_ADJ", -998)])
    assert (caught.value.code_name, caught.value.errno) == ("OOM_SCORE_ADJ", errno.EACCES)
    assert caught.value.subject == "/proc/self/oom_score_adj"
    out = run([*lowering, op("OOM_SCORE_ADJ", -998, 1), op("STDIO", 0, 0, 0), op("EXEC", lower / "bin/true", "true")])
    assert out.exit == 0
    with pytest.raises(native.ProgramError) as caught:
        run([op("OOM_SCORE_ADJ", 1001, 1), unprivileged])
    assert caught.value.errno == errno.EINVAL


def test_oom_score_goes_to_a_procfs_and_nowhere_else(box: Box, tmp_path: Path) -> None:
    """Whoever enters a container finds the container's /proc, and links of its making."""
    (tmp_path / "self").mkdir()
    (tmp_path / "self" / "oom_score_adj").write_text("untouched")
    fake = [op("MKDIR", "/proc", 0o755), op("BIND", str(tmp_path), "/proc", L.NSR_NO_SLOT)]
    with pytest.raises(native.ProgramError) as caught:
        box.run(fake, after=[op("OOM_SCORE_ADJ", 600), op("STDIO", 0, 0, 0)], command=["true"])
    assert (caught.value.code_name, caught.value.errno) == ("OOM_SCORE_ADJ", errno.EXDEV)
    assert (tmp_path / "self" / "oom_score_adj").read_text() == "untouched"


@pytest.mark.parametrize("file", ["attr/apparmor/exec", "attr/exec"])
def test_a_profile_goes_to_a_procfs_and_nowhere_else(box: Box, tmp_path: Path, file: str) -> None:
    """A container with a /proc of its making would go without its profile (CVE-2019-16884)."""
    (tmp_path / "self" / file).parent.mkdir(parents=True)
    (tmp_path / "self" / file).write_text("untouched")
    fake = [op("MKDIR", "/proc", 0o755), op("BIND", str(tmp_path), "/proc", L.NSR_NO_SLOT)]
    with pytest.raises(native.ProgramError) as caught:
        box.run(fake, after=[op("APPARMOR", "x"), op("STDIO", 0, 0, 0)], command=["true"])
    assert (caught.value.code_name, caught.value.errno) == ("APPARMOR", errno.EXDEV)
    assert (tmp_path / "self" / file).read_text() == "untouched"


def test_a_profile_that_the_kernel_does_not_have_ends_the_program() -> None:
    rest = [op("STDIO", 0, 0, 0), op("EXEC", "/bin/true", "true")]
    with pytest.raises(native.ProgramError) as caught:
        run([op("APPARMOR", "tests-never-loaded"), *rest])
    assert (caught.value.code_name, caught.value.errno != 0) == ("APPARMOR", True)
    with pytest.raises(native.ProgramError) as caught:
        run([op("APPARMOR", "x" * 4095), *rest])
    assert (caught.value.code_name, caught.value.errno) == ("APPARMOR", errno.ENAMETOOLONG)


@pytest.mark.parametrize("kind", ["link", "file", "other"])
def test_a_dev_null_that_is_none_is_no_standard_stream(box: Box, kind: str) -> None:
    (box.upper / "dev").mkdir(exist_ok=True)
    place = box.upper / "dev" / "null"
    if kind == "link":
        (box.upper / "target").write_text("")
        place.symlink_to("/target")
    elif kind == "file":
        place.write_text("")
    else:
        os.mknod(place, 0o20666, os.makedev(1, 5))
    with pytest.raises(native.ProgramError) as caught:
        box.run(after=[op("STDIO", L.NSR_NO_SLOT, 0, 0)], command=["true"], system=False)
    assert caught.value.code_name == "STDIO"
    assert caught.value.errno == (errno.ELOOP if kind == "link" else errno.ENODEV)


def test_session(box: Box) -> None:
    fields = dict(part.split("=") for part in box.run(after=[op("SETSID")], command=["self"]).text.split())
    assert (fields["pid"], fields["sid"], fields["pgid"]) == ("1", "1", "1")
    with pytest.raises(native.ProgramError) as caught:
        run([op("SETSID"), op("SETSID")])
    assert (caught.value.step, caught.value.errno) == (1, errno.EPERM)


def test_only_the_standard_descriptors_are_left(box: Box) -> None:
    extra = [os.open("/etc/passwd", os.O_RDONLY) for _ in range(5)]
    for fd in extra:
        os.set_inheritable(fd, True)
    try:
        out = box.run(command=["fds"], slots=extra)
    finally:
        for fd in extra:
            os.close(fd)
    lines = dict(line.split(" ", 1) for line in out.lines)
    assert sorted(lines) == ["0", "1", "2"]
    assert lines["0"] == "/dev/null"
    assert lines["1"] == lines["2"]
    assert lines["1"].startswith("pipe:")


def test_standard_streams_change_hands(box: Box) -> None:
    """Else a user that is not root could not open /dev/stdout; /dev/null and files stay whose they are."""
    file = os.open(box.directory / "file", os.O_RDWR | os.O_CREAT)
    try:
        after = [op("STDIO", 1, 0, 0), op("STDIO_OWNER", 1000), op("USER", b"", 1000, 1000)]
        out = box.run(after=after, command=["write", "/proc/self/fd/1", "opened"], slots=[file])
        refused = box.another().run(
            after=[after[0], after[2]], command=["write", "/proc/self/fd/1", "opened"], slots=[file]
        )
        null = box.another().run(after=[op("STDIO_OWNER", 1000)], command=["stat", "/dev/null"])
        assert os.fstat(file).st_uid == 0
    finally:
        os.close(file)
    assert out.text == "opened"
    assert "EACCES" in refused.text
    assert null.text == "/dev/null c 0666 0 0 1:3\n"


def test_slots_that_are_standard_descriptors_themselves(lower: Path) -> None:
    """The caller's own 0, 1 and 2, crossed: no copy may overwrite one that is still wanted."""
    script = f"""
from nsrun import native
from tests.ns.core.driver import op
ops = [op("STDIO", 2, 1, 0), op("EXEC", {str(lower / "bin/fds")!r}, "fds")]
raise SystemExit(native.run(native.encode(ops), [2, 1, 0]).wait())
"""
    with open("/dev/null", "rb") as null, open("/dev/zero", "wb") as zero:
        done = subprocess.run(
            [sys.executable, "-c", script],
            stdin=null,
            stderr=zero,
            stdout=subprocess.PIPE,
            text=True,
            timeout=30,
            check=True,
        )
    lines = dict(line.split(" ", 1) for line in done.stdout.splitlines())
    assert (lines["0"], lines["2"]) == ("/dev/null", "/dev/zero")
    assert lines["1"].startswith("pipe:")


def test_signals_are_default(lower: Path) -> None:
    """What the caller ignores or blocks is not handed on, when the program says so, and is when it does not."""
    script = f"""
import signal
from nsrun import native
from tests.ns.core.driver import op
for number in range(1, 65):
    if number not in (9, 17, 19, 32, 33):
        signal.signal(number, signal.SIG_IGN)
signal.pthread_sigmask(signal.SIG_BLOCK, {{10, 34}})
for reset in ([op("SIGNALS_DEFAULT")], []):
    native.run(native.encode([*reset, op("EXEC", {str(lower / "bin/signals")!r}, "signals")])).wait()
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=30, check=True)
    first, second, _ = done.stdout.split("pdeathsig 0\n")
    assert first == ""
    assert "blocked 10" in second
    assert "ignored 15" in second


# --- the parent's death ---

PARENT = """
import sys, time
from nsrun import native
child = native.run(bytes.fromhex(sys.stdin.readline()), clone_flags=int(sys.argv[1]))
print(child.pid, flush=True)
time.sleep(60)
"""


def orphaned(ops: list[object], flags: int, *, seconds: float) -> bool:
    """Start the program from a parent that is then killed: has the child ended within `seconds`?"""
    program = native.encode(ops)  # type: ignore[arg-type]
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, str(flags)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with parent:
        assert parent.stdin is not None
        assert parent.stdout is not None
        parent.stdin.write(program.hex() + "\n")
        parent.stdin.flush()
        pidfd = native.pidfd_open(int(parent.stdout.readline()))
        try:
            parent.kill()
            parent.wait()
            gone = bool(select.select([pidfd], [], [], seconds)[0])
            if not gone:
                native.pidfd_send_signal(pidfd, signal.SIGKILL)
            return gone
        finally:
            os.close(pidfd)


@pytest.mark.parametrize("flags", [0, ALONE], ids=["same-pid-namespace", "init-of-its-own"])
@pytest.mark.parametrize("user", [0, 1000])
def test_dies_with_its_parent(box: Box, flags: int, user: int) -> None:
    after = [op("USER", user, user), op("PDEATHSIG", signal.SIGKILL)]
    ops = box.program(after=after, command=["sleep", "60"], stdio=False)
    assert orphaned([*ops], flags | L.CLONE_NEWNS, seconds=10)


def test_does_not_die_with_its_parent_otherwise(box: Box) -> None:
    """The other order: a change of ids clears the setting. This is why USER comes first."""
    after = [op("PDEATHSIG", signal.SIGKILL), op("USER", 1000, 1000)]
    ops = box.program(after=after, command=["sleep", "60"], stdio=False)
    assert not orphaned([*ops], ALONE, seconds=0.3)


@pytest.mark.requires("cgroup2")
@pytest.mark.parametrize("watching", [True, False])
def test_parent_that_died_before_the_setting(lower: Path, tmp_path: Path, watching: bool) -> None:
    """Born frozen in a cgroup, orphaned, thawed: without PDEATHSIG's look at the report socket it would exec."""
    mounted = next(
        line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines() if " - cgroup2 " in line
    )
    group = Path(mounted) / f"nsrun-test-{os.getpid()}-{watching:d}"
    group.mkdir()
    mark = tmp_path / "exec'ed"
    ops = [op("PDEATHSIG", signal.SIGKILL)] if watching else []
    program = native.encode([*ops, op("EXEC", lower / "bin/write", "write", mark, "x")])
    script = """
import os, sys
from nsrun import native
native.run(bytes.fromhex(sys.stdin.readline()), cgroup_fd=os.open(sys.argv[1], os.O_RDONLY | os.O_DIRECTORY))
"""
    try:
        (group / "cgroup.freeze").write_text("1")
        parent = subprocess.Popen([sys.executable, "-c", script, str(group)], stdin=subprocess.PIPE, text=True)
        with parent:
            assert parent.stdin is not None
            parent.stdin.write(program.hex() + "\n")
            parent.stdin.flush()
            await_(lambda: (group / "cgroup.procs").read_text() != "")
            parent.kill()
            parent.wait()
            (group / "cgroup.freeze").write_text("0")
            await_(lambda: (group / "cgroup.procs").read_text() == "")
        assert mark.exists() == (not watching)
    finally:
        (group / "cgroup.kill").write_text("1")
        await_(lambda: (group / "cgroup.procs").read_text() == "")
        group.rmdir()


def await_(condition: object, seconds: float = 10) -> None:
    assert callable(condition)
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)
