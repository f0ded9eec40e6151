"""image: the tree of an image, read-only."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from nsrun import native
from nsrun.volumes.mounted import mount_points


def mount_layers(target: Path, lowers: Sequence[str]) -> None:
    """Mount what layers show together at `target`, unless something is mounted there already. Nobody can write to it.

    Args:
        target: made if need be.
        lowers: directories of layers, topmost first; at least one.

    Raises:
        OSError: they cannot be mounted.
    """
    os.makedirs(target, mode=0o700, exist_ok=True)
    if os.fsencode(target) in mount_points(target):
        return
    attributes = native.flags("MOUNT_ATTR_RDONLY|MOUNT_ATTR_NODEV")
    if len(lowers) == 1:
        # An overlay without an upper layer has two lower ones at least.
        tree = native.open_tree(lowers[0], native.flags("OPEN_TREE_CLONE"))
    else:
        fs = native.fsopen("overlay")
        try:
            for lower in lowers:
                native.fsconfig_string(fs, "lowerdir+", lower)
            native.fsconfig_create(fs)
            tree = native.fsmount(fs, attributes)
        finally:
            os.close(fs)
    try:
        native.mount_setattr("", attr_set=attributes, dir_fd=tree)
        native.move_mount(tree, target)
    finally:
        os.close(tree)
