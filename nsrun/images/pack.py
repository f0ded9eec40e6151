"""Directories as tar archives: a stream of what is in one, in an order that is always the same, with all that counts.

Stays on the source's file system. Sockets are left out, and so are device nodes below dev/, which a container has of its own. Times are
whole seconds, as image builders write them.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator

from nsrun.errors import SpecError, StepError
from nsrun.images.tar import BLOCK, DIRECTORY, FIFO, FILE, HARD_LINK, SYMLINK
from nsrun.images.trees import MAX_DEPTH, keeps_attribute

_CHUNK = 1 << 18
_OCTAL_7, _OCTAL_11 = 0o7777777, 0o77777777777


class Pack:
    """An archive of a directory, made while it is read.

    Args:
        directory: the directory.
        subject: what errors begin with.
    """

    def __init__(self, directory: str, *, subject: str) -> None:
        self._top = os.fsencode(directory)
        self._subject = subject
        self._hard_links: dict[tuple[int, int], bytes] = {}
        self._device = 0
        self._pieces = self._all()
        self._left = b""

    def read(self, size: int, /) -> bytes:
        """At most `size` bytes; none at the end.

        Raises:
            SpecError: there is a device node in it, or it is too deep, or it changes meanwhile.
            StepError: something cannot be read.
        """
        while not self._left:
            try:
                self._left = next(self._pieces, b"")
            except OSError as error:
                name = os.fsdecode(error.filename) if error.filename else ""
                raise StepError("read", name, error.errno or 0, what=self._subject) from error
            if not self._left:
                return b""
        piece, self._left = self._left[:size], self._left[size:]
        return piece

    def _all(self) -> Iterator[bytes]:
        top = os.stat(self._top)
        self._device = top.st_dev
        yield self._head(b"./", top, DIRECTORY, path=self._top)
        # Not recursive: a tree may be deeper than Python's stack.
        pending: list[tuple[bytes, int]] = [(b"", 0)]
        while pending:
            relative, depth = pending.pop()
            if depth > MAX_DEPTH:
                raise SpecError(f"{self._subject}: {os.fsdecode(relative)} is more than {MAX_DEPTH} directories deep")
            inner: list[tuple[bytes, int]] = []
            for name in sorted(os.listdir(os.path.join(self._top, relative))):
                path = os.path.join(relative, name)
                status = os.lstat(os.path.join(self._top, path))
                yield from self._entry(path, status)
                if stat.S_ISDIR(status.st_mode) and status.st_dev == self._device:
                    inner.append((path, depth + 1))
            pending += reversed(inner)
        yield bytes(2 * BLOCK)

    def _entry(self, name: bytes, status: os.stat_result) -> Iterator[bytes]:
        path, mode = os.path.join(self._top, name), status.st_mode
        if stat.S_ISSOCK(mode):
            return
        if stat.S_ISCHR(mode) or stat.S_ISBLK(mode):
            if not name.startswith(b"dev/"):
                raise SpecError(
                    f"{self._subject}: {os.fsdecode(name)} is a device node",
                    resolution="Images hold no devices; remove it, or leave it out.",
                )
            return
        if stat.S_ISDIR(mode):
            yield self._head(name + b"/", status, DIRECTORY, path=path)
            return
        if status.st_nlink > 1:
            key = (status.st_dev, status.st_ino)
            first = self._hard_links.setdefault(key, name)
            if first != name:
                yield self._head(name, status, HARD_LINK, link=first)
                return
        if stat.S_ISLNK(mode):
            yield self._head(name, status, SYMLINK, link=os.readlink(path))
        elif stat.S_ISFIFO(mode):
            yield self._head(name, status, FIFO, path=path)
        else:
            yield from self._file(name, path)

    def _file(self, name: bytes, path: bytes) -> Iterator[bytes]:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            status = os.fstat(fd)
            if not stat.S_ISREG(status.st_mode):
                raise OSError(errno.ESTALE, os.strerror(errno.ESTALE), path)
            yield self._head(name, status, FILE, path=path, size=status.st_size)
            left = status.st_size
            while left:
                data = os.read(fd, min(left, _CHUNK))
                if not data:
                    raise SpecError(
                        f"{self._subject}: {os.fsdecode(name)} became shorter while it was read",
                        resolution="Stop what writes there, and try again.",
                    )
                left -= len(data)
                yield data
            if status.st_size % BLOCK:
                yield bytes(-status.st_size % BLOCK)
        finally:
            os.close(fd)

    def _head(
        self,
        name: bytes,
        status: os.stat_result,
        kind: bytes,
        *,
        path: bytes | None = None,
        link: bytes = b"",
        size: int = 0,
    ) -> bytes:
        pax: dict[bytes, bytes] = {}
        if len(name) > 100:
            pax[b"path"] = name
        if len(link) > 100:
            pax[b"linkpath"] = link
        uid, gid, mtime = status.st_uid, status.st_gid, status.st_mtime_ns // 1_000_000_000
        if uid > _OCTAL_7:
            pax[b"uid"], uid = b"%d" % uid, 0
        if gid > _OCTAL_7:
            pax[b"gid"], gid = b"%d" % gid, 0
        if not 0 <= mtime <= _OCTAL_11:
            pax[b"mtime"], mtime = b"%d" % mtime, 0
        shown = size
        if size > _OCTAL_11:
            pax[b"size"], shown = b"%d" % size, 0
        if path is not None:
            for attribute in _attributes(path):
                if keeps_attribute(attribute):
                    pax[b"SCHILY.xattr." + os.fsencode(attribute)] = os.getxattr(path, attribute, follow_symlinks=False)
        mode = stat.S_IMODE(status.st_mode)
        head = _header(name, mode, uid, gid, shown, mtime, kind, link)
        return (_pax(name, pax) if pax else b"") + head


def _header(name: bytes, mode: int, uid: int, gid: int, size: int, mtime: int, kind: bytes, link: bytes) -> bytes:
    block = b"".join(
        (
            name[:100].ljust(100, b"\0"),
            b"%07o\0%07o\0%07o\0%011o\0%011o\0" % (mode, uid, gid, size, mtime),
            b" " * 8,
            kind,
            link[:100].ljust(100, b"\0"),
            b"ustar\x0000",
            bytes(64),
            b"%07o\0%07o\0" % (0, 0),
            bytes(167),
        )
    )
    return block[:148] + b"%06o\0 " % sum(block) + block[156:]


def file_header(name: bytes, size: int) -> bytes:
    """The header of a file of root's, of the epoch's first second; its name has at most 100 bytes."""
    if size <= _OCTAL_11:
        return _header(name, 0o644, 0, 0, size, 0, FILE, b"")
    return _pax(name, {b"size": b"%d" % size}) + _header(name, 0o644, 0, 0, 0, 0, FILE, b"")


def _pax(name: bytes, pairs: dict[bytes, bytes]) -> bytes:
    text = b""
    for key, value in sorted(pairs.items()):
        rest = b" " + key + b"=" + value + b"\n"
        length = len(rest)
        while len(b"%d" % length) + len(rest) != length:
            length = len(b"%d" % length) + len(rest)
        text += b"%d" % length + rest
    short = (b"PaxHeaders/" + name.rstrip(b"/").rpartition(b"/")[2])[:100]
    head = _header(short, 0o644, 0, 0, len(text), 0, b"x", b"")
    return head + text + bytes(-len(text) % BLOCK)


def _attributes(path: bytes) -> list[str]:
    try:
        return os.listxattr(path, follow_symlinks=False)
    except OSError as error:
        if error.errno in (errno.ENOTSUP, errno.EACCES, errno.EPERM):
            return []
        raise
