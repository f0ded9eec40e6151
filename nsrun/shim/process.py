"""A shim as a process: starting one, asking whether it lives, reading what it left on disk."""

from __future__ import annotations

import contextlib
import fcntl
import functools
import os
import socket
from collections.abc import Iterator
from pathlib import Path

from nsrun import native
from nsrun.shim import wire
from nsrun.shim.errors import ShimError
from nsrun.shim.records import Job, Record

SOCKET = "shim.sock"
LOCK = "shim.lock"
RECORDS = "containers"
JOBS = "jobs"

# First number that a descriptor to be inherited may have here: above the places (3, 4, 5) it has in the shim, so that
# the moves into those places cannot overwrite one another.
_CLEAR_OF_TARGETS = 10


@contextlib.contextmanager
def directory(path: Path | str) -> Iterator[int]:
    """A close-on-exec descriptor of a directory."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


class Spawned:
    """A shim on its way. `wait` has to be called once: it reaps the process that forks the shim."""

    def __init__(self, pid: int, pod_dir: Path | str) -> None:
        self._pid = pid
        self._pod_dir = pod_dir

    def wait(self) -> None:
        """Blocks until the shim is ready: at once when it has answered to anything.

        Raises:
            ShimError: SPAWN with the errno of what failed.
        """
        # The process that was spawned forks the shim, waits until that one is ready, and ends with its errno.
        status = os.waitstatus_to_exitcode(os.waitpid(self._pid, 0)[1])
        if status != 0:
            raise ShimError("SPAWN", status if status > 0 else 10, str(self._pod_dir))


def spawn(pod_dir: Path | str, name: str) -> None:
    """Starts a shim that serves `pod_dir`, as `begin_spawn`, and waits until it is ready: a millisecond or two.

    Raises:
        ShimError: SPAWN with EBUSY when a living shim holds the directory's lock; else the errno of what failed.
    """
    begin_spawn(pod_dir, name).wait()


def begin_spawn(pod_dir: Path | str, name: str) -> Spawned:
    """Begins to start a shim that serves `pod_dir` and shows as `nsrun-shim NAME` in ps.

    The shim belongs to nobody: own session, child of init. Its socket takes connections and requests when this returns; should
    the shim fail to start, they are hung up.

    Raises:
        ShimError: SPAWN with EBUSY when a living shim holds the directory's lock; else the errno of what failed.
    """
    with contextlib.ExitStack() as stack:
        try:
            directory_fd = stack.enter_context(directory(pod_dir))
            lock = os.open(LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600, dir_fd=directory_fd)
            stack.callback(os.close, lock)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise ShimError("SPAWN", 16, str(pod_dir), brief=f"a shim is already running for {pod_dir}") from None
            listener = stack.enter_context(_listen(directory_fd))
            return Spawned(_exec(name, (listener.fileno(), directory_fd, lock)), pod_dir)
        except OSError as error:
            raise ShimError("SPAWN", error.errno or 0, str(pod_dir)) from error


def _listen(directory_fd: int) -> socket.socket:
    """The bound socket. It is put in place under its final name only when it listens already."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)
    try:
        # We hold the lock: whatever has the name belongs to a dead shim.
        with contextlib.suppress(FileNotFoundError):
            os.unlink(SOCKET, dir_fd=directory_fd)
        listener.bind(f"/proc/self/fd/{directory_fd}/{SOCKET}")
        os.chmod(SOCKET, 0o600, dir_fd=directory_fd)
        listener.listen(64)
    except BaseException:
        listener.close()
        raise
    return listener


@functools.cache
def _program() -> int:
    """A descriptor of the shim's executable on a read-only mount of its own, kept: giving such a mount back takes a millisecond.

    Not by its path: a process in a container could write through /proc/PID/exe of what the shim starts there.
    """
    program = native.unwritable(native.shim_path())
    try:
        return fcntl.fcntl(program, fcntl.F_DUPFD_CLOEXEC, _CLEAR_OF_TARGETS)
    finally:
        os.close(program)


def _exec(name: str, descriptors: tuple[int, int, int]) -> int:
    moved: list[int] = []
    try:
        moved.extend(fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, _CLEAR_OF_TARGETS) for fd in descriptors)
        actions = [(os.POSIX_SPAWN_DUP2, fd, target) for target, fd in enumerate(moved, 3)]
        return os.posix_spawn(f"/proc/self/fd/{_program()}", ["nsrun-shim", name], {}, file_actions=actions)
    finally:
        for fd in moved:
            os.close(fd)


def shim_alive(pod_dir: Path | str) -> bool:
    """Whether a shim holds the directory's lock. False too when the directory is not there."""
    try:
        with directory(pod_dir) as directory_fd:
            lock = os.open(LOCK, os.O_RDONLY | os.O_CLOEXEC, dir_fd=directory_fd)
    except FileNotFoundError:
        return False
    try:
        # Shared, so that two who ask at the same time do not take each other for a shim.
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(lock)
    return False


def read_records(pod_dir: Path | str) -> list[Record]:
    """Every instance that the directory's shim, alive or dead, wrote down; oldest first.

    A file that is no whole record of this wire version (the shim was killed before it had written it) is left out: no
    process was made for it.
    """
    records: list[Record] = []
    try:
        with directory(Path(pod_dir) / RECORDS) as records_fd:
            for name in os.listdir(records_fd):
                with contextlib.suppress(FileNotFoundError):
                    record = wire.parse_record(_read(name, records_fd))
                    if record is not None and record.id == name:
                        records.append(record)
    except FileNotFoundError:
        return []
    return sorted(records, key=lambda record: (record.started_ns or record.finished_ns, record.attempt, record.id))


def read_job(pod_dir: Path | str, target: str, name: str) -> Job | None:
    """What the shim, alive or dead, wrote down about a job; None when it was never begun.

    Raises:
        OSError: the file is there and cannot be read.
    """
    try:
        with directory(Path(pod_dir) / JOBS) as jobs_fd:
            data = _read(f"{target}.{name}", jobs_fd, wire.RECORD_SIZE + wire.JOB_OUTPUT)
    except FileNotFoundError:
        return None
    record = wire.parse_record(data[: wire.RECORD_SIZE])
    # Its shim was killed before it had written it: no process was made.
    return None if record is None else Job(record, data[wire.RECORD_SIZE :])


def forget_jobs(pod_dir: Path | str, target: str) -> None:
    """Remove what is written down about the jobs of an instance. To be called when its shim does not know the instance any more."""
    with contextlib.suppress(FileNotFoundError), directory(Path(pod_dir) / JOBS) as jobs_fd:
        for name in os.listdir(jobs_fd):
            if name.startswith(f"{target}."):
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(name, dir_fd=jobs_fd)


def _read(name: str, directory_fd: int, size: int = 4096) -> bytes:
    descriptor = os.open(name, os.O_RDONLY | os.O_CLOEXEC, dir_fd=directory_fd)
    try:
        return os.read(descriptor, size)
    finally:
        os.close(descriptor)
