"""Reading what a container wrote into a volume: it may be anything, and anything at the next moment."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

from nsrun import native

_TRIES = 1000


def read_file(volume: Path, below: str, most: int) -> bytes:
    """A file of a volume, whose links lead nowhere else: an absolute one begins at the volume's root, and `..` stops there.

    Args:
        volume: a directory.
        below: a path in it.
        most: bytes that it may have.

    Raises:
        OSError: it is not there, is not a regular file (EINVAL), is larger (EFBIG), or cannot be read.
    """
    fd = _opened(volume, below)
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise OSError(errno.EINVAL, "not a regular file", str(volume / below))
        parts, size = [], 0
        while part := os.read(fd, most + 1 - size):
            parts.append(part)
            size += len(part)
            if size > most:
                raise OSError(errno.EFBIG, os.strerror(errno.EFBIG), str(volume / below))
        return b"".join(parts)
    finally:
        os.close(fd)


def _opened(volume: Path, below: str) -> int:
    top = native.openat2(volume, os.O_PATH | os.O_DIRECTORY)
    resolve = native.flags("RESOLVE_IN_ROOT|RESOLVE_NO_MAGICLINKS")
    try:
        for _ in range(_TRIES):
            try:
                # A pipe without a writer must not hold anybody up, nor a terminal become ours.
                return native.openat2(below, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY, resolve=resolve, dir_fd=top)
            except OSError as error:
                # Somebody renames things while a ".." is being walked.
                if error.errno != errno.EAGAIN:
                    raise
        raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN), str(volume / below))
    finally:
        os.close(top)
