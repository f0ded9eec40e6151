"""fsGroup of volumes that were there before their pod (S-VOL; Kubernetes pkg/volume/volume_linux.go)."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from pathlib import Path

from nsrun import native

_WRITES, _READS, _ENTERS = 0o660, 0o440, 0o110


def give_to_group(
    volume: Path, group: int, *, read_only: bool = False, on_root_mismatch: bool = False
) -> OSError | None:
    """Have everything in a volume belong to a group that may read it, and write to it; links are left alone, and not followed.

    What containers do meanwhile leads to nothing outside of the volume. The root comes last: whoever is killed before has not
    made it look as if all were done.

    Args:
        volume: a directory, or a file, which is all there is then.
        group: fsGroup.
        read_only: no container may write to it.
        on_root_mismatch: fsGroupChangePolicy OnRootMismatch: nothing is done if the root is as it should be.

    Returns:
        Why the first of those could not be given that could not: as a kubelet, the others were.

    Raises:
        OSError: the volume is not there.
    """
    mask = _READS if read_only else _WRITES
    top = native.openat2(volume, os.O_PATH)
    try:
        root = os.fstat(top)
        if not stat.S_ISDIR(root.st_mode):
            return _give(top, group, mask)
        wanted = mask | _ENTERS | stat.S_ISGID
        if on_root_mismatch and root.st_gid == group and root.st_mode & wanted == wanted:
            return None
        first: OSError | None = None
        below, directories = [""], []
        while below:
            at = below.pop()
            directories.append(at)
            try:
                first = _entries(top, at, group, mask, below) or first
            except OSError as error:
                first = first or error
        for at in reversed(directories):
            first = _directory(top, at, group, wanted) or first
        return first
    finally:
        os.close(top)


def _beneath(top: int, path: str, flags: int) -> int:
    resolve = native.flags("RESOLVE_BENEATH|RESOLVE_NO_SYMLINKS")
    return native.openat2(path or ".", flags | os.O_NOFOLLOW, resolve=resolve, dir_fd=top)


def _entries(top: int, at: str, group: int, mask: int, below: list[str]) -> OSError | None:
    """Give what is in a directory, and name the directories in it."""
    first: OSError | None = None
    fd = _beneath(top, at, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with os.scandir(fd) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    below.append(f"{at}/{entry.name}" if at else entry.name)
                elif not entry.is_symlink():
                    try:
                        one = native.openat2(entry.name, os.O_PATH | os.O_NOFOLLOW, dir_fd=fd)
                    except OSError as error:
                        if error.errno != errno.ENOENT:
                            first = first or error
                        continue
                    try:
                        failed = _give(one, group, mask)
                        first = first or failed
                    finally:
                        os.close(one)
    finally:
        os.close(fd)
    return first


def _directory(top: int, at: str, group: int, mask: int) -> OSError | None:
    try:
        fd = _beneath(top, at, os.O_PATH | os.O_DIRECTORY)
    except OSError as error:
        return None if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP) else error
    try:
        return _give(fd, group, mask)
    finally:
        os.close(fd)


def _give(fd: int, group: int, mask: int) -> OSError | None:
    """Give what a descriptor of O_PATH stands for; by it, since a name may stand for something else by now."""
    mode = os.fstat(fd).st_mode
    if stat.S_ISLNK(mode):
        return None
    with contextlib.suppress(FileNotFoundError):
        try:
            os.chown(f"/proc/self/fd/{fd}", -1, group)
            # Giving a file away takes its set-id bits; with them comes back what it had.
            os.chmod(f"/proc/self/fd/{fd}", stat.S_IMODE(mode) | mask)
        except FileNotFoundError:
            raise
        except OSError as error:
            return error
    return None
