"""image: the tree of an image, read-only."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from nsrun import native
from nsrun.plan import ops
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
    overlay = ops.Overlay(str(target), tuple(lowers), attributes="MOUNT_ATTR_RDONLY|MOUNT_ATTR_NODEV")
    native.apply(native.encode([overlay]))
