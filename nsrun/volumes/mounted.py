"""What is mounted below a pod's volumes, as the kernel tells it, and how all of that is taken away."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Callable
from pathlib import Path

from nsrun import native
from nsrun.volumes.errors import VolumeError

_ESCAPE = re.compile(rb"\\([0-7]{3})")
_TRIES = 20


def _lines() -> list[list[bytes]]:
    with open("/proc/self/mountinfo", "rb") as file:
        return [line.split() for line in file]


def _plain(path: bytes) -> bytes:
    """A path of mountinfo, which writes blanks, tabs, newlines and backslashes as octal numbers (proc_pid_mountinfo(5))."""
    return _ESCAPE.sub(lambda match: bytes([int(match[1], 8)]), path) if b"\\" in path else path


def mount_points(directory: Path) -> list[bytes]:
    """Where something is mounted, at `directory` or below; a path twice where there are two mounts on each other. Oldest first."""
    top = os.fsencode(os.path.realpath(directory))
    wanted = os.fsencode(directory)
    found = (_plain(fields[4]) for fields in _lines())
    return [wanted + path[len(top) :] for path in found if path == top or path.startswith(top + b"/")]


def remove_volumes(directories: list[Path], remove_tree: Callable[[Path], None]) -> None:
    """Unmount whatever is mounted in the directories, whoever did it, then remove them. One that is not there is fine.

    A container with propagation both ways may have mounted anything in its volumes, the machine's root included: nothing is
    removed as long as anything is mounted there.

    Args:
        directories: of one pod that runs no more.
        remove_tree: removes a directory without following links.

    Raises:
        OSError: EBUSY, something stays mounted; or a directory cannot be removed.
    """
    for directory in directories:
        if not os.path.lexists(directory):
            continue
        for _ in range(_TRIES):
            points = mount_points(directory)
            if not points:
                break
            for point in reversed(points):
                _unmount(point)
        else:
            raise OSError(errno.EBUSY, os.strerror(errno.EBUSY), os.fsdecode(points[-1]))
        remove_tree(directory)


def _unmount(point: bytes) -> None:
    try:
        native.umount2(point, native.flags("MNT_DETACH|UMOUNT_NOFOLLOW"))
    except OSError as error:
        # Gone with the one above it.
        if error.errno not in (errno.EINVAL, errno.ENOENT):
            raise


def check_propagation(path: str, *, both_ways: bool) -> None:
    """Raise unless mounts made on the host can come to a container by this path, and with `both_ways` the other way round, too.

    Raises:
        VolumeError: in containerd's words (internal/cri/opts ensureShared, ensureSharedOrSlave).
    """
    real = os.fsencode(os.path.realpath(path))
    best, options = b"", [b""]
    for fields in _lines():
        point = _plain(fields[4])
        if (real == point or real.startswith(point.rstrip(b"/") + b"/")) and len(point) >= len(best):
            best, options = point, fields[6 : fields.index(b"-")]
    shared = any(option.startswith(b"shared:") for option in options)
    slave = any(option.startswith(b"master:") for option in options)
    if shared or (slave and not both_ways):
        return
    wanted = "shared" if both_ways else "shared or slave"
    raise VolumeError(
        f'path "{path}" is mounted on "{os.fsdecode(best)}" but it is not a {wanted} mount',
        resolution=f"mount --make-rshared {os.fsdecode(best)}",
    )
