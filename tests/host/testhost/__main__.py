"""`python -m tests.host.testhost -- COMMAND…`: run a command in a test host and say what it left behind.

Two processes. The *outer* one stays in the machine's own namespaces: it starts the inner one through unshare(1), waits,
and removes the cgroup and the directory; after a SIGKILL of its own the next outer one does that for it (an flock tells).
The *inner* one is PID 1 of the test host: it makes the links, runs the command, reaps orphans, and looks for leaks.

Exit status: the command's; 97 when it succeeded and left something behind; 98 when the test host cannot be made.
"""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
import select
import shutil
import signal
import subprocess
import sys
import time
from contextlib import ExitStack, suppress
from pathlib import Path
from types import FrameType
from typing import BinaryIO

from tests.host import testhost
from tests.host.testhost import Machine, leaks

PREFIX = "nsrun-test-"
HAND_MADE = "nsrun"
LINES_SHOWN = 40
EXIT_LEAK = 97
EXIT_CANNOT = 98


def unified_tree() -> Path | None:
    """Where cgroup2 is mounted and can be written, or None."""
    for line in Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines():
        left, _, right = line.partition(" - ")
        if right.split()[0] == "cgroup2":
            return Path(left.split()[4])
    return None


def remove_cgroup(base: Path) -> None:
    """Kill what lives below `base` and remove it, deepest directory first."""
    if not base.is_dir():
        return
    deadline = time.monotonic() + 10
    while True:
        try:
            (base / "cgroup.kill").write_text("1", encoding="ascii")
            for top in [*testhost.legacy_twins(base), base]:
                for path, _, _ in os.walk(top, topdown=False):
                    os.rmdir(path)
            return
        except FileNotFoundError:
            if not base.is_dir():
                return
        except OSError as error:
            # The killed are not gone at once; a server that dies last may have made more.
            if error.errno not in (errno.EBUSY, errno.ENOTEMPTY, errno.ENODEV) or time.monotonic() > deadline:
                raise
        time.sleep(0.01)


def remove_directory(directory: Path) -> None:
    """Remove `directory`, where killed processes may still be writing for a moment."""
    deadline = time.monotonic() + 5
    while True:
        try:
            shutil.rmtree(directory)
            return
        except FileNotFoundError:
            # Somebody else's removal met ours.
            if not directory.exists():
                return
        except OSError:
            if time.monotonic() > deadline:
                raise
        time.sleep(0.05)


def make_directory() -> tuple[str, Path, BinaryIO]:
    """(identity, directory, its lock, held) of a new test host."""
    while True:
        identity = secrets.token_hex(3)
        directory = Path("/tmp", PREFIX + identity)
        directory.mkdir(mode=0o755)
        # Until it is locked another wrapper takes it for abandoned, and removes it.
        with suppress(FileNotFoundError):
            lock = open(directory / "lock", "ab")  # noqa: SIM115 - held for the life of this process
            fcntl.flock(lock, fcntl.LOCK_EX)
            if os.fstat(lock.fileno()).st_nlink:
                return identity, directory, lock
            lock.close()


def remove_abandoned() -> None:
    """Finish what a killed wrapper could not: directories whose lock is free have no owner."""
    for directory in Path("/tmp").glob(f"{PREFIX}*"):
        # Another wrapper may clean up at the same moment.
        with suppress(FileNotFoundError, NotADirectoryError), open(directory / "lock", "ab") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            tree = unified_tree()
            if tree is not None:
                remove_cgroup(tree / directory.name)
            remove_directory(directory)


def outer(command: list[str]) -> int:
    """Make what is outside of the namespaces, run the inner process in them, remove it all."""
    remove_abandoned()
    identity, directory, lock = make_directory()
    tree = unified_tree()
    base = tree / (PREFIX + identity) if tree is not None else None
    if base is not None:
        try:
            base.mkdir()
        except OSError as error:
            print(f"testhost: no cgroup of our own: {error}", file=sys.stderr)
            base = None
    # setpriv ties unshare to our life, --kill-child the inner process to unshare's.
    argv = [
        "setpriv",
        "--pdeathsig",
        "KILL",
        "unshare",
        "--net",
        "--mount",
        "--pid",
        "--ipc",
        "--uts",
        "--fork",
        "--kill-child=KILL",
        "--mount-proc",
    ]
    argv += ["--propagation", "private", sys.executable, "-m", "tests.host.testhost", "--inside"]
    argv += [identity, str(base or ""), *command]
    environment = {**os.environ, "PYTHONPATH": str(testhost.REPOSITORY), "PYTHONSAFEPATH": "1"}
    child: subprocess.Popen[bytes] | None = None

    def stop(number: int, frame: FrameType | None) -> None:
        sys.exit(128 + number)

    # The terminal's Ctrl-C reaches the command by itself; a SIGTERM is for us.
    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGHUP, stop)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        child = subprocess.Popen(argv, env=environment, cwd=testhost.REPOSITORY)
        return _status(child.wait())
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        if child is not None and child.poll() is None:
            end(child)
        if base is not None:
            remove_cgroup(base)
        remove_directory(directory)
        lock.close()


def end(unshare: subprocess.Popen[bytes]) -> None:
    """Kill the test host; returns when all of its processes are gone, at latest after ten seconds."""
    children = Path(f"/proc/{unshare.pid}/task/{unshare.pid}/children")
    with ExitStack() as stack:
        first = []
        with suppress(OSError):
            for pid in children.read_text(encoding="ascii").split():
                first.append(os.pidfd_open(int(pid)))
                stack.callback(os.close, first[-1])
        unshare.kill()
        unshare.wait()
        # PID 1 of a namespace ends after the others.
        for pidfd in first:
            select.select([pidfd], [], [], 10)


def _status(returncode: int) -> int:
    return 128 - returncode if returncode < 0 else returncode


def tool(*argv: str) -> None:
    """Run a command that makes a part of the test host."""
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"testhost: {' '.join(argv)}: {done.stderr.strip() or done.returncode}")


def inner(identity: str, base: str, command: list[str]) -> int:
    """PID 1 of the test host."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    own_mounts()
    outside = start_outside()
    machine = Machine(
        id=identity,
        directory=f"/tmp/{PREFIX}{identity}",
        cgroup_base=base or None,
        link=testhost.LINK,
        address=testhost.HOST_ADDRESS,
        gateway=testhost.GATEWAY,
        beyond=testhost.BEYOND,
        port=testhost.PORT,
        outside_pid=outside.pid,
    )
    own_links(outside.pid)
    os.environ[testhost.ENVIRONMENT] = machine.to_environment()
    if base:
        # For commands that no test gave a cgroup of its own: without it they would make one that nobody removes after a kill. Not the
        # base itself, as a server removes its base with the last pod.
        os.environ["NSRUN_CGROUP_BASE"] = f"{base}/{HAND_MADE}"
    before = leaks.take(machine)
    status = run_and_reap(command)
    lines = leaks.leaked(machine, before, patience=5.0)
    for line in lines[:LINES_SHOWN]:
        print(f"testhost: left behind: {line}", file=sys.stderr)
    if len(lines) > LINES_SHOWN:
        print(f"testhost: left behind: {len(lines) - LINES_SHOWN} things more", file=sys.stderr)
    outside.kill()
    outside.wait()
    return EXIT_LEAK if lines and status == 0 else status


def own_mounts() -> None:
    """An empty /run, and a /sys that shows this network namespace with the machine's cgroup tree in it."""
    tool("mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", "/run")
    cgroup = Path("/sys/fs/cgroup")
    if cgroup.is_dir():
        Path("/run/cgroup").mkdir()
        tool("mount", "--rbind", "/sys/fs/cgroup", "/run/cgroup")
        tool("umount", "--recursive", "/sys/fs/cgroup")
        tool("mount", "-t", "sysfs", "sysfs", "/sys")
        tool("mount", "--move", "/run/cgroup", "/sys/fs/cgroup")
        Path("/run/cgroup").rmdir()
    Path("/run/netns").mkdir()


def start_outside() -> subprocess.Popen[bytes]:
    """The outside world's process, when it is listening."""
    read_end, write_end = os.pipe()
    try:
        argv = ["unshare", "--net", "sh", "-c", 'ip link set lo up && exec "$@"', "outside"]
        argv += [
            sys.executable,
            "-m",
            "tests.host.testhost.outside",
            str(testhost.PORT),
            str(write_end),
            testhost.GATEWAY,
            testhost.BEYOND,
        ]
        child = subprocess.Popen(argv, pass_fds=(write_end,), stdin=subprocess.DEVNULL)
        os.close(write_end)
        write_end = -1
        if os.read(read_end, 1) != b"1":
            sys.exit("testhost: the outside world did not start")
        return child
    finally:
        os.close(read_end)
        if write_end != -1:
            os.close(write_end)


def own_links(outside_pid: int) -> None:
    """The link between this machine and the outside, with addresses and the default route."""
    prefix = testhost.PREFIX
    tool("ip", "link", "set", "lo", "up")
    tool("ip", "link", "add", testhost.LINK, "type", "veth", "peer", "name", "in0", "netns", str(outside_pid))
    tool("ip", "address", "add", f"{testhost.HOST_ADDRESS}/{prefix}", "dev", testhost.LINK)
    tool("ip", "link", "set", testhost.LINK, "up")
    enter = ("nsenter", "--net", "--target", str(outside_pid), "ip")
    tool(*enter, "address", "add", f"{testhost.GATEWAY}/{prefix}", "dev", "in0")
    tool(*enter, "address", "add", f"{testhost.BEYOND}/32", "dev", "lo")
    six = Path("/proc/sys/net/ipv6").exists()
    if six:
        tool("ip", "address", "add", f"{testhost.HOST_ADDRESS6}/64", "dev", testhost.LINK, "nodad")
        tool(*enter, "address", "add", f"{testhost.GATEWAY6}/64", "dev", "in0", "nodad")
        tool(*enter, "address", "add", f"{testhost.BEYOND6}/128", "dev", "lo", "nodad")
    tool(*enter, "link", "set", "in0", "up")
    carrier = Path("/sys/class/net", testhost.LINK, "carrier")
    deadline = time.monotonic() + 5
    # Until then the routes say linkdown.
    while carrier.read_text(encoding="ascii") != "1\n":
        if time.monotonic() > deadline:
            sys.exit(f"testhost: {testhost.LINK} has no carrier")
        time.sleep(0.001)
    tool("ip", "route", "add", "default", "via", testhost.GATEWAY)
    if six:
        tool("ip", "-6", "route", "add", "default", "via", testhost.GATEWAY6)


def run_and_reap(command: list[str]) -> int:
    """Run the command to its end, reaping whatever the test host's processes leave to PID 1."""
    pid = os.posix_spawnp(command[0], command, os.environ, setsigdef=[signal.SIGINT])
    while True:
        ended, status = os.waitpid(-1, 0)
        if ended == pid:
            return _status(os.waitstatus_to_exitcode(status))


def main() -> int:
    """Tell the two processes apart."""
    words = sys.argv[1:]
    if words[:1] == ["--inside"]:
        return inner(words[1], words[2], words[3:])
    if words[:1] == ["--"]:
        words = words[1:]
    if not words:
        print(__doc__, file=sys.stderr)
        return 2
    try:
        return outer(words)
    except OSError as error:
        print(f"testhost: {error}", file=sys.stderr)
        return EXIT_CANNOT


if __name__ == "__main__":
    sys.exit(main())
