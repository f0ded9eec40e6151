"""Volumes that are files of the server's making, and are made anew when the pod or an object that they are made of changes."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from nsrun.plan import volume_files, volume_references
from nsrun.plan.projections import has_own_memory
from nsrun.plan.volumes import SHARED
from nsrun.server.values import data_of
from nsrun.server.volumes.kind import VolumeKind, group_of
from nsrun.spec.model import Volume
from nsrun.state.files import remove_tree
from nsrun.state.layout import PRIVATE
from nsrun.volumes import make_directory, mount_memory, write_files
from nsrun.volumes.atomic import DATA

if TYPE_CHECKING:
    from nsrun.server.engine import PodEngine


class Files(VolumeKind):
    """configMap, secret, downwardAPI and projected volumes."""

    refreshes = True

    def set_up(self, engine: PodEngine, volume: Volume, /) -> None:
        target = _target(engine, volume)
        size, group = engine.world.node.memory, group_of(engine)
        if has_own_memory(volume):
            mount_memory(target, size, group)
        else:
            mount_memory(target.parent, size, mode=PRIVATE)
            make_directory(target, group)
        _write(engine, volume, target)

    def refresh(self, engine: PodEngine, volume: Volume, /) -> None:
        target = _target(engine, volume)
        # Before they were set up there is nothing to bring up to date.
        if os.path.lexists(target / DATA):
            _write(engine, volume, target)


def _target(engine: PodEngine, volume: Volume) -> Path:
    place = engine.paths.memory_volumes
    return (place if has_own_memory(volume) else place / SHARED) / volume.name


def _write(engine: PodEngine, volume: Volume, target: Path) -> None:
    objects = data_of(engine.world, engine.namespace, volume_references(volume))
    files = volume_files(engine.pod, volume, engine.world.node, objects)
    write_files(target, files, engine.world.clock.now(), remove_tree, group_of(engine))
