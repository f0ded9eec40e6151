"""What the overlay of some layers shows, without mounting it: layers as they lie on disk, topmost first.

A whiteout is a character device 0/0, an opaque directory has the attribute below: both as overlayfs has them (kernel
Documentation/filesystems/overlayfs.rst). Never leaves the layers: symbolic links are followed inside the merged root only, and only
where asked.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence

OPAQUE = "trusted.overlay.opaque"
HAS_WHITEOUTS = "trusted.overlay.origin"
"""Of a directory, with any value: it may have whiteouts in it although no other layer has that directory (the kernel's
fs/overlayfs/inode.c, ovl_get_inode). Without it the overlay lists their names, and then says that there is nothing."""
_MAX_LINKS = 40
_REMEMBERED = 4096
"""Directories."""

Layer = str | bytes


def is_whiteout(status: os.stat_result) -> bool:
    """Whether this says that what is below is gone."""
    return stat.S_ISCHR(status.st_mode) and status.st_rdev == 0


def is_opaque(path: str | bytes) -> bool:
    """Whether a directory of a layer hides what the layers below have in it."""
    try:
        return os.getxattr(path, OPAQUE, follow_symlinks=False) == b"y"
    except OSError:
        return False


class Merged:
    """A read-only look at layers.

    Args:
        lowers: their directories, topmost first.
    """

    def __init__(self, lowers: Sequence[Layer]) -> None:
        self._lowers = [os.fsencode(lower) for lower in lowers]
        self._walked: dict[tuple[bytes, ...], list[bytes]] = {}
        """Of directories that were gone through: what is looked for next mostly lies beside."""

    def find(self, path: bytes) -> bytes | None:
        """Where the entry that the overlay shows at `path` lies; None where it shows none. Links are not followed on the way."""
        found = self._walk([step for step in path.split(b"/") if step not in (b"", b".")], first=True)
        return found[0] if found else None

    def resolve(self, path: bytes) -> bytes | None:
        """As `find`, following symbolic links within the root, the last one included."""
        steps = self.target(path)
        return None if steps is None else self.find(b"/".join(steps))

    def target(self, path: bytes) -> tuple[bytes, ...] | None:
        """The path without links that a path leads to within the root; None where it leads nowhere. The last step need not be there."""
        left = [step for step in reversed(path.split(b"/")) if step not in (b"", b".")]
        done: list[bytes] = []
        links = 0
        while left:
            step = left.pop()
            if step == b"..":
                del done[-1:]
                continue
            found = self._walk([*done, step], first=True)
            if not found:
                if left:
                    return None
                return (*done, step)
            mode = os.lstat(found[0]).st_mode
            if stat.S_ISLNK(mode):
                links += 1
                if links > _MAX_LINKS:
                    return None
                text = os.readlink(found[0])
                if text.startswith(b"/"):
                    done.clear()
                left += [one for one in reversed(text.split(b"/")) if one not in (b"", b".")]
            elif left and not stat.S_ISDIR(mode):
                return None
            else:
                done.append(step)
        return tuple(done)

    def named(self, path: bytes) -> list[bytes]:
        """The entries at `path` of all layers above what took the name away, topmost first; the first is the one that `find` finds.

        Others than the first are of directories only, and may be hidden: an opaque directory hides what is in those below, but the
        name never was another's.
        """
        return self._walk([step for step in path.split(b"/") if step not in (b"", b".")], through=True)

    def _walk(self, steps: Sequence[bytes], *, first: bool = False, through: bool = False) -> list[bytes]:
        """The entries at a path of which the merged one is made, topmost first: several only for a directory. Or the first of them."""
        if not steps:
            return self._lowers
        above = tuple(steps[:-1])
        here = self._walked.get(above)
        if here is None:
            here = self._lowers
            for step in above:
                here = self._entries(here, step, inside=True)
            if len(self._walked) >= _REMEMBERED:
                self._walked.clear()
            self._walked[above] = here
        return self._entries(here, steps[-1], first=first, through=through)

    @staticmethod
    def _entries(
        directories: Sequence[bytes], step: bytes, *, first: bool = False, inside: bool = False, through: bool = False
    ) -> list[bytes]:
        """Those at a name in directories that one is made of.

        Args:
            first: only the topmost.
            inside: only a directory, to go on from: behind a link, the system's own look at a path would leave the layers.
            through: also those that an opaque directory hides.
        """
        found: list[bytes] = []
        if step == b"..":
            return found
        for directory in directories:
            path = directory + b"/" + step
            try:
                status = os.lstat(path)
            except (FileNotFoundError, NotADirectoryError):
                continue
            if is_whiteout(status):
                break
            if not stat.S_ISDIR(status.st_mode):
                if not found and not inside:
                    found.append(path)
                break
            found.append(path)
            if first or (not through and is_opaque(path)):
                break
        return found
