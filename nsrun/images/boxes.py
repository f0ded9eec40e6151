"""Files that hold images: a directory, or a tar archive of one. Read without trust, and without unpacking the archive."""

from __future__ import annotations

import contextlib
import os
import posixpath
import stat
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

from nsrun import native
from nsrun.errors import SpecError, StepError
from nsrun.images import tar
from nsrun.images.compression import CompressionError, Plain, Reader, kind_of
from nsrun.images.tar import TarError, TarReader

MAX_FILES = 200_000
_CHUNK = 1 << 20


class Box(Protocol):
    """Named files."""

    def has(self, name: str) -> bool:
        """Whether there is a file of this name."""

    def open(self, name: str) -> AbstractContextManager[Reader]:
        """A file from its beginning.

        Raises:
            SpecError: there is none.
            StepError: it cannot be read.
        """


def read(box: Box, name: str, limit: int) -> bytes:
    """A small file.

    Raises:
        SpecError: it has more than `limit` bytes, or is not there.
    """
    pieces = []
    size = 0
    with box.open(name) as reader:
        while data := reader.read(_CHUNK):
            pieces.append(data)
            size += len(data)
            if size > limit:
                raise SpecError(f"{name} has more than {limit} bytes")
    return b"".join(pieces)


class Directory:
    """A directory; links in it are followed as long as they stay in it."""

    def __init__(self, path: str) -> None:
        self._path = path

    def _open(self, name: str) -> int:
        top = os.open(self._path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            resolve = native.lib.RESOLVE_BENEATH | native.lib.RESOLVE_NO_MAGICLINKS
            return native.openat2(name, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY, resolve=resolve, dir_fd=top)
        finally:
            os.close(top)

    def has(self, name: str) -> bool:
        """Whether there is a file of this name."""
        try:
            fd = self._open(name)
        except OSError:
            return False
        os.close(fd)
        return True

    @contextlib.contextmanager
    def open(self, name: str) -> Iterator[Reader]:
        """A file from its beginning."""
        try:
            fd = self._open(name)
        except FileNotFoundError:
            raise SpecError(f"{self._path}: there is no {name} in it") from None
        except OSError as error:
            raise StepError("read", f"{self._path}/{name}", error.errno or 0) from error
        with open(fd, "rb", buffering=0) as file:
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                raise SpecError(f"{self._path}/{name} is no file")
            yield file


class _Piece:
    """Some bytes of a file, by offset: several can be read from one descriptor."""

    def __init__(self, fd: int, offset: int, size: int) -> None:
        self._fd = fd
        self._offset = offset
        self._left = size

    def read(self, size: int, /) -> bytes:
        data = os.pread(self._fd, min(size, self._left), self._offset)
        self._offset += len(data)
        self._left -= len(data)
        return data


class Archive:
    """A tar archive that can be read at any place.

    Args:
        fd: of the archive; stays the caller's.
        path: how errors name it.

    Raises:
        SpecError: it is none.
    """

    def __init__(self, fd: int, path: str) -> None:
        self._fd = fd
        self._path = path
        self._files: dict[str, tuple[int, int]] = {}
        self._links: dict[str, str] = {}
        with open(os.dup(fd), "rb", buffering=0) as file:
            file.seek(0)
            reader = TarReader(file, seek=lambda size: file.seek(size, os.SEEK_CUR))
            try:
                for entry in reader:
                    self._note(entry, reader.offset)
            except TarError as error:
                raise SpecError(f"{path} is not a whole tar archive: {error}") from error
            if any(offset + size > file.seek(0, os.SEEK_END) for offset, size in self._files.values()):
                raise SpecError(f"{path} is not a whole tar archive: it ends in the middle")

    def _note(self, entry: tar.Entry, offset: int) -> None:
        name = posixpath.normpath("/" + os.fsdecode(entry.name)).lstrip("/")
        if len(self._files) + len(self._links) >= MAX_FILES:
            raise SpecError(f"{self._path} has more than {MAX_FILES} files")
        self._links.pop(name, None)
        self._files.pop(name, None)
        if entry.type == tar.FILE and entry.sparse is None:
            self._files[name] = (offset, entry.size)
        elif entry.type == tar.SYMLINK:
            self._links[name] = posixpath.join(posixpath.dirname("/" + name), os.fsdecode(entry.link))
        elif entry.type == tar.HARD_LINK:
            self._links[name] = "/" + os.fsdecode(entry.link)

    def _find(self, name: str) -> tuple[int, int] | None:
        name = posixpath.normpath("/" + name).lstrip("/")
        for _ in range(40):
            if name in self._files:
                return self._files[name]
            if name not in self._links:
                return None
            name = posixpath.normpath(self._links[name]).lstrip("/")
        return None

    def has(self, name: str) -> bool:
        """Whether there is a file of this name."""
        return self._find(name) is not None

    @contextlib.contextmanager
    def open(self, name: str) -> Iterator[Reader]:
        """A file from its beginning."""
        found = self._find(name)
        if found is None:
            raise SpecError(f"{self._path}: there is no {name} in it")
        yield _Piece(self._fd, *found)


@contextlib.contextmanager
def archive_of(fd: int, path: str, temporary: Path) -> Iterator[Archive]:
    """The archive that a descriptor reads: as it is when it is a file of its own, else by way of a file in `temporary`.

    Raises:
        SpecError: it is no archive.
        StepError: it cannot be read, or there is no room.
    """
    try:
        if stat.S_ISREG(os.fstat(fd).st_mode) and not kind_of(os.pread(fd, 6, 0)):
            yield Archive(fd, path)
            return
        with open(os.dup(fd), "rb", buffering=0) as source, open(temporary / "spool", "w+b", buffering=0) as spool:
            plain = Plain(source)
            while data := plain.read(_CHUNK):
                view = memoryview(data)
                while view:
                    view = view[spool.write(view) :]
            yield Archive(spool.fileno(), path)
    except CompressionError as error:
        raise SpecError(f"{path} is not a whole tar archive: {error}") from error
    except OSError as error:
        raise StepError("read", path, error.errno or 0) from error
