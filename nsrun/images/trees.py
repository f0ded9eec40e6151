"""Directory trees: copied with all that counts, and removed however deep they are."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import itertools
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from nsrun.errors import SpecError, StepError

KEPT_ATTRIBUTES = ("user.", "security.capability")
"""Extended attributes that an image keeps. `trusted.overlay.*` and `user.overlay.*` would steer the overlay that it becomes a layer of."""

MAX_DEPTH = 200
"""Directories within directories that an image may have."""

_CHUNK = 1 << 20


class Hash(Protocol):
    """What hashlib's objects have in common."""

    def update(self, data: bytes, /) -> None:
        """Takes more data."""


def keeps_attribute(name: str) -> bool:
    """Whether an extended attribute comes along into an image."""
    return name.startswith(KEPT_ATTRIBUTES) and not name.startswith("user.overlay.")


def remove_tree(path: Path) -> None:
    """Removes a directory with all that is in it; one that is not there is fine.

    However deep it is: directories found inside are first moved up to the top and then emptied in turn, so neither a path nor a
    recursion grows with the depth that a container chose. Symbolic links are removed, never followed.

    Raises:
        OSError: with the name of what cannot be removed; EBUSY where something is mounted in it.
    """
    try:
        top = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    except NotADirectoryError:
        path.unlink()
        return
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
        path.unlink()
        return
    try:
        # A mount (ours are in other namespaces) must not be emptied.
        fresh = (f".{number}" for number in itertools.count())
        while names := os.listdir(top):
            for name in names:
                _empty(top, name, fresh)
    finally:
        os.close(top)
    os.rmdir(path)


def _empty(top: int, name: str, fresh: Iterator[str]) -> None:
    """Removes the entry `name` of the directory `top`; directories in it are moved to `top` under fresh names."""
    try:
        os.unlink(name, dir_fd=top)
        return
    except IsADirectoryError:
        pass
    inside = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=top)
    try:
        if os.fstat(inside).st_dev != os.fstat(top).st_dev:
            raise OSError(errno.EBUSY, os.strerror(errno.EBUSY), name)
        for entry in os.listdir(inside):
            try:
                os.unlink(entry, dir_fd=inside)
            except IsADirectoryError:
                _move_up(inside, entry, top, fresh)
    finally:
        os.close(inside)
    os.rmdir(name, dir_fd=top)


def _move_up(inside: int, entry: str, top: int, fresh: Iterator[str]) -> None:
    with contextlib.suppress(OSError):
        os.rmdir(entry, dir_fd=inside)
        return
    for target in fresh:
        try:
            # Onto something that exists a directory is only renamed if that is an empty directory, which is no loss here.
            os.rename(entry, target, src_dir_fd=inside, dst_dir_fd=top)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
                raise
        else:
            return


class TreeCopy:
    """Copies a directory into a fresh one: files, directories, links, fifos, with owner, mode, times and kept attributes.

    Stays on the source's file system. Sockets are left out, and so are device nodes below dev/, which a container has of its own.
    `size` is the sum of the files' bytes; `digest` depends on all that was copied but times.
    """

    def __init__(self, source: str, target: str) -> None:
        self._source = source
        self._target = target
        self._hard_links: dict[tuple[int, int], str] = {}
        self._device = 0
        self._hash = hashlib.sha256()
        self.size = 0

    @property
    def digest(self) -> str:
        """64 hexadecimal digits."""
        return self._hash.hexdigest()

    def run(self) -> None:
        """Copies.

        Raises:
            SpecError: there is a device node in it, or it is too deep.
            StepError: something cannot be read or written.
        """
        try:
            facts = os.stat(self._source)
            self._device = facts.st_dev
            # Not recursive: a tree may be deeper than Python's stack. Directories get their times when all in them is there.
            pending = [("", 0)]
            made: list[tuple[str, os.stat_result]] = [("", facts)]
            self._note("d", "", facts)
            while pending:
                relative, depth = pending.pop()
                if depth > MAX_DEPTH:
                    raise SpecError(
                        f"cannot import {self._source}: {relative} is more than {MAX_DEPTH} directories deep"
                    )
                with os.scandir(os.path.join(self._source, relative)) as entries:
                    found = sorted(entries, key=lambda entry: entry.name)
                for entry in found:
                    path = os.path.join(relative, entry.name)
                    if self._entry(path, status := entry.stat(follow_symlinks=False)):
                        made.append((path, status))
                        if status.st_dev == self._device:
                            pending.append((path, depth + 1))
            for path, status in reversed(made):
                self._finish(path, status)
        except OSError as error:
            raise StepError("import", error.filename or self._source, error.errno or 0) from error

    def _note(self, kind: str, path: str, status: os.stat_result, content: bytes = b"") -> None:
        head = f"{kind} {status.st_mode:o} {status.st_uid} {status.st_gid} {len(content)} {path}\0"
        self._hash.update(head.encode("utf-8", "surrogateescape") + content)

    def _entry(self, path: str, status: os.stat_result) -> bool:
        """Copies one; whether it is a directory, whose contents are to follow."""
        source, target = os.path.join(self._source, path), os.path.join(self._target, path)
        mode = status.st_mode
        if stat.S_ISDIR(mode):
            os.mkdir(target, 0o700)
            self._note("d", path, status)
            return True
        if stat.S_ISSOCK(mode):
            return False
        if stat.S_ISCHR(mode) or stat.S_ISBLK(mode):
            if not path.startswith("dev/"):
                raise SpecError(
                    f"cannot import {self._source}: {path} is a device node",
                    resolution="Images hold no devices; remove it, or leave it out.",
                )
            return False
        if status.st_nlink > 1 and not stat.S_ISDIR(mode):
            key = (status.st_dev, status.st_ino)
            if key in self._hard_links:
                os.link(os.path.join(self._target, self._hard_links[key]), target, follow_symlinks=False)
                self._note("h", path, status, self._hard_links[key].encode("utf-8", "surrogateescape"))
                return False
            self._hard_links[key] = path
        if stat.S_ISLNK(mode):
            text = os.readlink(source)
            os.symlink(text, target)
            self._note("l", path, status, os.fsencode(text))
            os.chown(target, status.st_uid, status.st_gid, follow_symlinks=False)
            os.utime(target, ns=(status.st_atime_ns, status.st_mtime_ns), follow_symlinks=False)
            return False
        if stat.S_ISFIFO(mode):
            os.mkfifo(target, 0o600)
            self._note("p", path, status)
        else:
            self._file(source, target, path, status)
        self._finish(path, status)
        return False

    def _file(self, source: str, target: str, path: str, status: os.stat_result) -> None:
        with (
            open(
                os.open(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC), "rb", buffering=0
            ) as reader,
            open(
                os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb", buffering=0
            ) as writer,
        ):
            content = hashlib.sha256()
            cloned = _clone(reader.fileno(), writer.fileno(), status.st_size)
            while data := reader.read(_CHUNK):
                content.update(data)
                if not cloned:
                    view = memoryview(data)
                    while view:
                        view = view[writer.write(view) :]
                self.size += len(data)
        self._note("f", path, status, content.digest())

    def _finish(self, path: str, status: os.stat_result) -> None:
        source, target = os.path.join(self._source, path), os.path.join(self._target, path)
        os.chown(target, status.st_uid, status.st_gid)
        os.chmod(target, stat.S_IMODE(status.st_mode))
        for name in _attributes(source):
            if keeps_attribute(name):
                os.setxattr(target, name, os.getxattr(source, name))
        os.utime(target, ns=(status.st_atime_ns, status.st_mtime_ns))


def _attributes(path: str) -> list[str]:
    try:
        return os.listxattr(path)
    except OSError as error:
        if error.errno in (errno.ENOTSUP, errno.EACCES, errno.EPERM):
            return []
        raise


_FICLONE = 0x40049409
"""_IOW(0x94, 9, int) of linux/fs.h."""


def _clone(source: int, target: int, size: int) -> bool:
    """Shares the blocks instead of copying them, where the file system can (btrfs, xfs)."""
    import fcntl

    if not size:
        return False
    try:
        fcntl.ioctl(target, _FICLONE, source)
    except OSError:
        return False
    return True
