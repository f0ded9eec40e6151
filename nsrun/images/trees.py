"""Directory trees: what of a file counts, and how they are removed however deep they are."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import itertools
import os
import stat
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

KEPT_ATTRIBUTES = ("user.", "trusted.", "security.capability", "system.posix_acl_")
"""Extended attributes that an image keeps. `trusted.overlay.*` and `user.overlay.*` would steer the overlay that it becomes a layer of."""

MAX_DEPTH = 200
"""Directories within directories that an image may have."""


def keeps_attribute(name: str) -> bool:
    """Whether an extended attribute comes along into an image."""
    return name.startswith(KEPT_ATTRIBUTES) and not name.startswith(("user.overlay.", "trusted.overlay."))


def remove_tree(path: Path) -> None:
    """Removes a directory with all that is in it; one that is not there is fine.

    However deep it is: directories found inside are first moved up to the top and then emptied in turn, so neither a path nor a
    recursion grows with the depth that a container chose. Symbolic links are removed, never followed. What a privileged container made
    immutable, or such that it can only grow (chattr(1)), is not spared.

    Raises:
        OSError: with the name of what cannot be removed, after that of the directory; EBUSY where something is mounted in it.
    """
    try:
        _remove_tree(path)
    except OSError as error:
        if error.filename in (None, str(path)) or os.path.isabs(error.filename):
            raise
        raise OSError(error.errno, error.strerror, os.path.join(path, error.filename)) from error


def _remove_tree(path: Path) -> None:
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
        try:
            os.rmdir(path)
        except PermissionError:
            _loosen(top)
            os.rmdir(path)
    finally:
        os.close(top)


def _empty(top: int, name: str, fresh: Iterator[str]) -> None:
    """Removes the entry `name` of the directory `top`; directories in it are moved to `top` under fresh names."""
    try:
        _freely(os.unlink, top, name)
        return
    except IsADirectoryError:
        pass
    inside = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=top)
    try:
        if os.fstat(inside).st_dev != os.fstat(top).st_dev:
            raise OSError(errno.EBUSY, os.strerror(errno.EBUSY), name)
        for entry in os.listdir(inside):
            try:
                _freely(os.unlink, inside, entry)
            except IsADirectoryError:
                _move_up(inside, entry, top, fresh)
    finally:
        os.close(inside)
    os.rmdir(name, dir_fd=top)


def _move_up(inside: int, entry: str, top: int, fresh: Iterator[str]) -> None:
    with contextlib.suppress(OSError):
        _freely(os.rmdir, inside, entry)
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


def _freely(remove: Callable[..., Any], directory: int, name: str) -> None:
    """Removes the entry `name` of `directory`, whatever was done to keep it there."""
    try:
        remove(name, dir_fd=directory)
    except PermissionError:
        _loosen(directory)
        # Nothing else has such flags, and a device might do something when it is opened.
        if stat.S_IFMT(os.lstat(name, dir_fd=directory).st_mode) in (stat.S_IFREG, stat.S_IFDIR):
            fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=directory)
            try:
                _loosen(fd)
            finally:
                os.close(fd)
        remove(name, dir_fd=directory)


def _loosen(fd: int) -> None:
    """Takes from a file or directory what keeps even root from changing or removing it; where there is no such thing, nothing."""
    from nsrun.native import lib

    kept = lib.FS_IMMUTABLE_FL | lib.FS_APPEND_FL
    with contextlib.suppress(OSError):
        # The kernel reads and writes an int, whatever the number of the call says.
        (flags,) = struct.unpack("i", fcntl.ioctl(fd, lib.FS_IOC_GETFLAGS, struct.pack("i", 0)))
        if flags & kept:
            fcntl.ioctl(fd, lib.FS_IOC_SETFLAGS, struct.pack("i", flags & ~kept))
