"""Directory trees: what of a file counts, and how they are removed however deep they are."""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
from collections.abc import Iterator
from pathlib import Path

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
