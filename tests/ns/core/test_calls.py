"""The system calls that Python lacks, and their errors."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from nsrun import native
from tests.ns.core.driver import L, op


def test_sealed_memory_file() -> None:
    data = os.urandom(3_000_000)
    fd = native.memfd(data, "name")
    try:
        assert os.pread(fd, len(data) + 1, 0) == data
        assert not os.get_inheritable(fd)
        with pytest.raises(PermissionError):
            os.write(fd, b"x")
        with pytest.raises(PermissionError):
            os.ftruncate(fd, 1)
        with pytest.raises(PermissionError):
            fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE)
    finally:
        os.close(fd)


def test_pidfd(lower: Path) -> None:
    with native.run(native.encode([op("EXEC", lower / "bin/pause", "pause")])) as child:
        other = native.pidfd_open(child.pid)
        copy = native.pidfd_getfd(other, 1)
        assert os.fstat(copy) == os.fstat(1)
        native.pidfd_send_signal(other, signal.SIGKILL)
        assert child.wait() == -signal.SIGKILL
        with pytest.raises(ProcessLookupError):
            native.pidfd_send_signal(other, 0)
        with pytest.raises(ChildProcessError):
            child.wait()
        os.close(copy)
        os.close(other)
    child.close()


@pytest.mark.parametrize(
    ("call", "number", "text"),
    [
        (lambda: native.unshare(1), errno.EINVAL, "unshare: "),
        (lambda: native.setns(0, L.CLONE_NEWNET), errno.EINVAL, "setns: "),
        (lambda: native.pidfd_open(2**22 + 1), errno.ESRCH, "pidfd_open: "),
        (lambda: native.open_tree("/no/where", 0), errno.ENOENT, "open_tree: "),
        (lambda: native.openat2("../x", os.O_RDONLY, resolve=L.RESOLVE_BENEATH), errno.EXDEV, "openat2: "),
        (lambda: native.fsopen("nosuchfs"), errno.ENODEV, "fsopen: "),
        (lambda: native.mount(None, "/no/where", "tmpfs"), errno.ENOENT, "mount: "),
        (lambda: native.umount2("/no/where"), errno.ENOENT, "umount2: "),
        (lambda: native.pivot_root("/no/where", "/"), errno.ENOENT, "pivot_root: "),
        (lambda: native.mount_setattr("/no/where", attr_set=L.MOUNT_ATTR_RDONLY), errno.ENOENT, "mount_setattr: "),
        (lambda: native.close_range(5, 4), errno.EINVAL, "close_range: "),
        (lambda: native.capget(2**22 + 1), errno.ESRCH, "capget: "),
        (lambda: native.inotify_add_watch(-1, "/", L.IN_CREATE), errno.EBADF, "inotify_add_watch: "),
        (lambda: native.move_mount(-1, "/"), errno.EBADF, "move_mount: "),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_errors_keep_errno_and_say_the_call(call: Callable[[], object], number: int, text: str) -> None:
    with pytest.raises(OSError, match=text) as caught:
        call()
    assert caught.value.errno == number


def test_inotify(tmp_path: Path) -> None:
    fd = native.inotify_init1(L.IN_NONBLOCK)
    try:
        native.inotify_add_watch(fd, tmp_path, L.IN_CREATE)
        with pytest.raises(BlockingIOError):
            os.read(fd, 4096)
        (tmp_path / "new").touch()
        assert b"new\0" in os.read(fd, 4096)
        assert not os.get_inheritable(fd)
    finally:
        os.close(fd)


SCRIPT = """
import os, sys
from nsrun import native
L = native.lib
native.unshare(L.CLONE_NEWNS)
native.mount_setattr("/", propagation=L.MS_PRIVATE, recursive=True)
fs = native.fsopen("tmpfs")
native.fsconfig_string(fs, "mode", "0710")
native.fsconfig_flag(fs, "ro")
native.fsconfig_create(fs)
mount = native.fsmount(fs, L.MOUNT_ATTR_NOEXEC)
native.move_mount(mount, sys.argv[1])
assert os.stat(sys.argv[1]).st_mode & 0o777 == 0o710
tree = native.open_tree(sys.argv[1], L.OPEN_TREE_CLONE)
assert not os.get_inheritable(tree)
native.umount2(sys.argv[1], L.MNT_DETACH)
native.mount("none", sys.argv[1], "tmpfs", L.MS_NOSUID, "size=1m")
native.umount2(sys.argv[1], 0)
before = os.readlink("/proc/self/ns/uts")
fd = os.open("/proc/self/ns/uts", os.O_RDONLY)
native.unshare(L.CLONE_NEWUTS)
assert os.readlink("/proc/self/ns/uts") != before
native.setns(fd, L.CLONE_NEWUTS)
assert os.readlink("/proc/self/ns/uts") == before
class Name:
    code = "HOSTNAME"
    def args(self): return ()
    def strings(self): return (b"applied",)
native.unshare(L.CLONE_NEWUTS)
native.apply(native.encode([Name()]))
assert os.uname().nodename == "applied"
try:
    native.apply(b"nonsense")
except native.ProgramError as error:
    assert error.code_name == "INVALID"
print("done")
"""


def test_mount_calls_and_namespaces(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path)], capture_output=True, text=True, timeout=30, check=False
    )
    assert (done.stdout, done.stderr) == ("done\n", "")


def test_capabilities_are_those_of_proc() -> None:
    status = dict(line.split(":\t", 1) for line in Path("/proc/self/status").read_text().splitlines() if ":\t" in line)
    assert native.capget() == tuple(int(status[name], 16) for name in ("CapEff", "CapPrm", "CapInh"))


@pytest.mark.requires("cgroup2")
def test_born_in_a_cgroup(lower: Path) -> None:
    mounted = next(
        line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines() if " - cgroup2 " in line
    )
    group = Path(mounted) / f"nsrun-test-{os.getpid()}"
    group.mkdir()
    try:
        fd = os.open(group, os.O_RDONLY | os.O_DIRECTORY)
        with native.run(native.encode([op("EXEC", lower / "bin/pause", "pause")]), cgroup_fd=fd) as child:
            os.close(fd)
            assert (group / "cgroup.procs").read_text() == f"{child.pid}\n"
            (group / "cgroup.kill").write_text("1")
            assert child.wait() == -signal.SIGKILL
    finally:
        group.rmdir()


@pytest.mark.parametrize("kept", [True, False])
def test_a_running_program_is_not_a_way_to_write_it(lower: Path, tmp_path: Path, kept: bool) -> None:
    """The second half shows that the first one tells something."""
    program = tmp_path / "sleep"
    program.write_bytes((lower / "bin/testbox").read_bytes())
    program.chmod(0o755)
    tree = native.unwritable(program)
    pid = os.posix_spawn(f"/proc/self/fd/{tree}" if kept else program, ["sleep", "60"], {})
    os.close(tree)
    exe = os.open(f"/proc/{pid}/exe", os.O_PATH)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    try:
        if kept:
            with pytest.raises(OSError, match="Read-only") as caught:
                os.open(f"/proc/self/fd/{exe}", os.O_WRONLY)
            assert caught.value.errno == errno.EROFS
        else:
            os.close(os.open(f"/proc/self/fd/{exe}", os.O_WRONLY))
    finally:
        os.close(exe)


def test_nothing_leaks(lower: Path) -> None:
    """Descriptors of this process, over good and failing starts."""

    def count() -> int:
        return len(os.listdir("/proc/self/fd"))

    before = count()
    for _ in range(20):
        with native.run(native.encode([op("EXEC", lower / "bin/true", "true")])) as child:
            assert child.wait() == 0
        with pytest.raises(native.ProgramError):
            native.run(native.encode([op("EXEC", "/no/where", "x")]))
        with pytest.raises(OSError, match="clone3"):
            native.run(native.encode([]), clone_flags=L.CLONE_NEWUSER | L.CLONE_NEWTIME | 1)
    assert count() == before


def test_too_many_slots() -> None:
    with pytest.raises(OSError, match="clone3") as caught:
        native.run(native.encode([]), [0] * (L.NSR_FD_MAX + 1))
    assert caught.value.errno == errno.E2BIG


def test_program_without_exec_ends() -> None:
    with native.run(native.encode([])) as child:
        assert child.wait() == 0


IMPORT = """
import sys, time, types
package = sys.modules["nsrun"] = types.ModuleType("nsrun")
package.__path__ = [sys.argv[1]]
before = set(sys.modules)
start = time.process_time()
import nsrun.native
print(time.process_time() - start)
print(sorted({"asyncio", "cffi", "ctypes", "dataclasses", "enum", "inspect", "re", "typing"} & (set(sys.modules) - before)))
"""


def test_import_is_cheap(tmp_path: Path) -> None:
    """Every command pays for it: no module of weight, and at best at most 5 ms. Compiled once, and without the package's own face."""
    environment = {**os.environ, "PYTHONPYCACHEPREFIX": str(tmp_path)}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    command = [sys.executable, "-c", IMPORT, str(Path(native.__file__).parents[1])]
    runs = [
        subprocess.run(
            command, capture_output=True, text=True, timeout=30, check=True, env=environment
        ).stdout.splitlines()
        for _ in range(10)
    ]
    assert {modules for _, modules in runs} == {"[]"}
    if "libasan" not in os.environ.get("LD_PRELOAD", ""):
        assert min(float(seconds) for seconds, _ in runs) < 0.005
