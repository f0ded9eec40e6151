"""Files that are either the old or the new one, whenever the power or the process ends."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from nsrun.images import remove_tree

__all__ = ["TEMPORARY", "read_or_none", "remove_tree", "unlink_if_there", "write_atomic"]

TEMPORARY = ".tmp"
"""Suffix of a file that is being written; one writer per directory, so the name is fixed and a leftover is overwritten."""


def write_atomic(path: Path, data: bytes, *, mode: int = 0o600, durable: bool = False) -> None:
    """Replace `path` by `data`, or leave it as it was.

    Args:
        path: the file; its directory must exist.
        data: the whole contents.
        mode: permission bits of the new file.
        durable: fsync file and directory, for what must survive a power cut (`lib/`). `run/` does not outlive a
            reboot, and there the page cache survives every SIGKILL.

    Raises:
        OSError: with the file's name; the old one is still there, and no leftover beside it.
    """
    temporary = f"{path}{TEMPORARY}"
    try:
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, mode)
        try:
            view = memoryview(data)
            while view:
                view = view[os.write(fd, view) :]
            if durable:
                os.fsync(fd)
        finally:
            os.close(fd)
        os.rename(temporary, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        # A write on a descriptor tells of no name.
        raise OSError(error.errno, error.strerror, str(path)) from error
    if durable:
        sync_directory(path.parent)


def sync_directory(path: Path) -> None:
    """fsync a directory, so that a rename or an unlink in it survives a power cut."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def read_or_none(path: str | Path) -> bytes | None:
    """The contents, or None when there is no such file."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        size = os.fstat(fd).st_size
        data = os.read(fd, size + 1)
        while more := os.read(fd, 1 << 20):
            data += more
        return data
    finally:
        os.close(fd)


def unlink_if_there(path: str | os.PathLike[str]) -> None:
    """Unlink; a file that is not there is fine."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
