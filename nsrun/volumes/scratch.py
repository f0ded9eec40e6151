"""emptyDir: a directory, or a tmpfs, that is the pod's own (Kubernetes pkg/volume/emptydir/empty_dir.go)."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable
from pathlib import Path

from nsrun import native

_OPEN_TO_ALL = 0o777
_SETGID = 0o2000
_PRIVATE = 0o700


def make_directory(target: Path, group: int | None = None) -> None:
    """Make an empty directory that everybody may write to; one that is there already is left as it is.

    It has its name only once it is whole: under it nobody finds one with another mode.

    Args:
        target: where; the directory above is made if need be, for nobody else.
        group: fsGroup: it belongs to that group then, and so does what is made in it.

    Raises:
        OSError: it cannot be made.
    """
    if target.is_dir():
        return
    # A volume's name is a DNS label: no other volume has this one.
    raw = target.with_name(f".{target.name}.new")
    os.makedirs(target.parent, mode=_PRIVATE, exist_ok=True)
    with contextlib.suppress(FileExistsError):
        os.mkdir(raw, _PRIVATE)
    if group is not None:
        os.chown(raw, -1, group)
    os.chmod(raw, _OPEN_TO_ALL | (_SETGID if group is not None else 0))
    os.rename(raw, target)


def mount_huge_pages(target: Path, page_size: int, group: int | None = None) -> None:
    """Mount a hugetlbfs at `target`, unless something is mounted there already.

    Args:
        target: made if need be.
        page_size: bytes.
        group: fsGroup, as for `make_directory`.

    Raises:
        OSError: it cannot be mounted; EINVAL, there are no pages of this size.
    """

    def configure(fs: int) -> None:
        native.fsconfig_string(fs, "source", "nodev")
        native.fsconfig_string(fs, "pagesize", f"{page_size >> 10}K")

    _mount("hugetlbfs", target, configure, _OPEN_TO_ALL, group)


def mount_memory(target: Path, size: int = 0, group: int | None = None, mode: int = _OPEN_TO_ALL) -> None:
    """Mount a tmpfs at `target`, unless one is there already. It is not swapped out where the kernel can keep it from that (6.4).

    Args:
        target: made if need be.
        size: bytes; 0: half of the machine's memory, as the kernel has it.
        group: fsGroup, as for `make_directory`.
        mode: of its root.

    Raises:
        OSError: it cannot be mounted.
    """

    def configure(fs: int) -> None:
        native.fsconfig_string(fs, "source", "tmpfs")
        if size:
            native.fsconfig_string(fs, "size", str(size))
        try:
            native.fsconfig_flag(fs, "noswap")
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise

    _mount("tmpfs", target, configure, mode, group)


def _mount(kind: str, target: Path, configure: Callable[[int], None], mode: int, group: int | None) -> None:
    """Mount a file system of its own at `target`, whose root has this mode and group; what is mounted there already stays.

    Args:
        kind: as fsopen(2) has it.
        configure: tells the descriptor of fsopen(2) the rest.
    """
    os.makedirs(target, mode=_PRIVATE, exist_ok=True)
    # It is a device of its own.
    if os.stat(target).st_dev != os.stat(target.parent).st_dev:
        return
    fs = native.fsopen(kind)
    try:
        configure(fs)
        native.fsconfig_string(fs, "mode", f"{mode | (_SETGID if group is not None else 0):o}")
        if group is not None:
            native.fsconfig_string(fs, "gid", str(group))
        native.fsconfig_create(fs)
        tree = native.fsmount(fs, native.flags("MOUNT_ATTR_NODEV"))
    finally:
        os.close(fs)
    try:
        native.move_mount(tree, target)
    finally:
        os.close(tree)
