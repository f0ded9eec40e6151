"""Volumes that are files of the server's making: they tell of the pod, and are written anew when that changes."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from nsrun.plan import volume_files
from nsrun.server.volumes.kind import VolumeKind, group_of
from nsrun.spec.model import Volume
from nsrun.state.files import remove_tree
from nsrun.volumes import mount_memory, write_files
from nsrun.volumes.atomic import DATA

if TYPE_CHECKING:
    from nsrun.server.engine import PodEngine


class Files(VolumeKind):
    """downwardAPI and projected volumes."""

    def set_up(self, engine: PodEngine, volume: Volume, /) -> None:
        mount_memory(engine.paths.memory_volumes / volume.name, engine.world.node.memory, group_of(engine))
        _write(engine, volume)

    def refresh(self, engine: PodEngine, volume: Volume, /) -> None:
        # Before they were set up there is nothing to bring up to date.
        if os.path.lexists(engine.paths.memory_volumes / volume.name / DATA):
            _write(engine, volume)


def _write(engine: PodEngine, volume: Volume) -> None:
    write_files(
        engine.paths.memory_volumes / volume.name,
        volume_files(engine.pod, volume, engine.world.node),
        engine.world.clock.now(),
        remove_tree,
        group_of(engine),
    )
