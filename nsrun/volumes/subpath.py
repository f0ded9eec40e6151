"""Parts of volumes, in which containers may change anything at any moment: found and made without ever leaving the volume (S-VOL)."""

from __future__ import annotations

import errno
import os
import stat

from nsrun import native

_TRIES = 1000
_DIRECTORY = os.O_PATH | os.O_DIRECTORY


def _beneath(directory: int, path: str, flags: int) -> int:
    """Open what lies below a directory; a way that leads out of it, by `..` or by a link, is EXDEV."""
    resolve = native.flags("RESOLVE_BENEATH|RESOLVE_NO_MAGICLINKS")
    for _ in range(_TRIES):
        try:
            return native.openat2(path, flags, resolve=resolve, dir_fd=directory)
        except OSError as error:
            # Somebody renames or mounts things while a ".." is being walked.
            if error.errno != errno.EAGAIN:
                raise
    raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN), path)


def make_sub_path(volume: str, below: str) -> None:
    """Make the directory `below` in a volume, with its parents, where nothing is: with the mode and group of the volume's root.

    Args:
        volume: a directory.
        below: clean and relative.

    Raises:
        OSError: EXDEV, a link on the way leads out of the volume; ENOTDIR, a file is on the way; or what else the kernel says.
    """
    top = native.openat2(volume, _DIRECTORY)
    try:
        try:
            os.close(_beneath(top, below, os.O_PATH))
            return
        except FileNotFoundError:
            pass
        root = os.fstat(top)
        at, made = os.dup(top), ""
        try:
            for name in below.split("/"):
                made = f"{made}/{name}" if made else name
                _make(at, name, root)
                # From the top again: a link that says ".." may still stay inside.
                deeper = _beneath(top, made, _DIRECTORY)
                os.close(at)
                at = deeper
        finally:
            os.close(at)
    finally:
        os.close(top)


def _make(parent: int, name: str, root: os.stat_result) -> None:
    try:
        os.mkdir(name, 0o700, dir_fd=parent)
    except FileExistsError:
        return
    # Not by its name: it may be something else by now.
    fd = native.openat2(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=parent)
    try:
        if root.st_mode & stat.S_ISGID:
            os.fchown(fd, -1, root.st_gid)
        os.fchmod(fd, root.st_mode & (stat.S_ISGID | 0o777))
    finally:
        os.close(fd)


def open_tree(path: str, below: str) -> int:
    """A descriptor with a copy of the mounts at a path, which go on taking part in what is mounted there on the host.

    Args:
        path: of the host.
        below: a part of the directory there; empty for all of it.

    Raises:
        OSError: it is not there, or leads out of the directory.
    """
    flags = native.flags("OPEN_TREE_CLONE|AT_RECURSIVE")
    if not below:
        return native.open_tree(path, flags)
    top = native.openat2(path, _DIRECTORY)
    try:
        fd = _beneath(top, below, os.O_PATH)
    finally:
        os.close(top)
    try:
        return native.open_tree("", flags | native.flags("AT_EMPTY_PATH"), dir_fd=fd)
    finally:
        os.close(fd)
