"""What a directory takes on its disk, as the kubelet counts it: blocks, a file with several names once, one file system only.

Source: Kubernetes pkg/volume/util/fs, cAdvisor fs/fs.go GetDirUsage. Containers change the tree meanwhile: no link is followed, and
nothing outside is ever looked at.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from dataclasses import dataclass

from nsrun import native

BLOCK = 512
_LONG = 2000
"""Of a path from a directory that is held open: below that, the next is held (the kernel takes paths of up to 4095 bytes)."""
_DEEPEST = 64
"""Directories that are held open at most: what lies more than 128,000 bytes of path deep is not counted."""


@dataclass(slots=True)
class Usage:
    """Bytes on the disk and names seen; `complete` is false where there was not time enough for all."""

    used: int = 0
    names: int = 0
    complete: bool = True


def disk_usage(directory: str | os.PathLike[str], stop: Callable[[], bool] = lambda: False) -> Usage:
    """Measure a directory. One that is not there takes nothing.

    Args:
        directory: its last part must not be a link.
        stop: asked before each directory; the rest is left out once it says so.

    Raises:
        OSError: the directory itself cannot be opened.
    """
    usage = Usage()
    try:
        top = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return usage
    try:
        status = os.fstat(top)
        usage.used += status.st_blocks * BLOCK
        usage.names += 1
        _Walk(usage, status.st_dev, stop).below(top, 0)
    finally:
        os.close(top)
    return usage


class _Walk:
    def __init__(self, usage: Usage, device: int, stop: Callable[[], bool]) -> None:
        self._usage = usage
        self._device = device
        self._stop = stop
        self._seen: set[int] = set()
        self._flags = native.flags("RESOLVE_BENEATH|RESOLVE_NO_SYMLINKS|RESOLVE_NO_XDEV")

    def below(self, base: int, depth: int) -> None:
        """Count what is in a directory that is open as `base`."""
        left = [""]
        while left and self._usage.complete:
            path = left.pop()
            try:
                fd = self._open(base, path)
            except OSError as error:
                if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOMEM):
                    raise
                continue  # it went, or is something else by now
            try:
                if len(path) > _LONG:
                    if depth < _DEEPEST:
                        self.below(fd, depth + 1)
                else:
                    self._entries(fd, path, left)
            finally:
                os.close(fd)

    def _open(self, base: int, path: str) -> int:
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
        return native.openat2(path or ".", flags, resolve=self._flags, dir_fd=base)

    def _entries(self, fd: int, path: str, left: list[str]) -> None:
        usage = self._usage
        if self._stop():
            usage.complete = False
            return
        with os.scandir(fd) as entries:
            for entry in entries:
                try:
                    status = entry.stat(follow_symlinks=False)
                except OSError:
                    continue
                if status.st_dev != self._device:
                    continue
                usage.names += 1
                if status.st_nlink > 1 and not entry.is_dir(follow_symlinks=False):
                    if status.st_ino in self._seen:
                        continue
                    self._seen.add(status.st_ino)
                usage.used += status.st_blocks * BLOCK
                if entry.is_dir(follow_symlinks=False):
                    left.append(f"{path}/{entry.name}" if path else entry.name)
