"""One server per root directory."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from pathlib import Path

from nsrun.errors import ConflictError, StepError


class RootLock:
    """The flock on `run/lock`, from construction until `close` or the end of the process.

    The kernel drops it when the holder dies, however it dies; the pid in the file is only for the message.

    Raises:
        ConflictError: another process holds it; the message says which.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self.fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise StepError("open the lock", str(path), error.errno or 0) from error
        try:
            fcntl.flock(self.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = holder_of(path)
            os.close(self.fd)
            if error.errno not in (errno.EWOULDBLOCK, errno.EAGAIN):
                raise StepError("lock", str(path), error.errno or 0) from error
            raise ConflictError(
                f"another server already holds {path}" + (f": process {holder}" if holder else ""),
                details="Each root directory has one server.",
                resolution="Use that one (nsrun server status), stop it (nsrun server stop), or choose another --root.",
            ) from error
        with contextlib.suppress(OSError):
            # A full disk must not keep a server from starting: the number only words a message.
            os.ftruncate(self.fd, 0)
            os.pwrite(self.fd, f"{os.getpid()}\n".encode(), 0)

    def stands(self) -> bool:
        """Whether the path still names the file that is locked: if not, nobody finds this holder any more."""
        held = os.fstat(self.fd)
        try:
            there = os.stat(self.path)
        except OSError:
            return False
        return (held.st_dev, held.st_ino) == (there.st_dev, there.st_ino)

    def close(self) -> None:
        """Give the lock up."""
        os.close(self.fd)


def holder_of(path: Path) -> int | None:
    """The pid that the holder wrote, if it still exists."""
    try:
        with open(path, "rb") as file:
            pid = int(file.read(32) or b"0")
    except (OSError, ValueError):
        return None
    return pid if pid > 0 and os.path.exists(f"/proc/{pid}") else None
