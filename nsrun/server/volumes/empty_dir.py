"""emptyDir: a directory on disk, a tmpfs, or huge pages."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nsrun.plan import memory_size
from nsrun.plan.volumes import has_huge_pages, huge_page_size, in_memory
from nsrun.server.volumes.kind import VolumeKind, group_of
from nsrun.spec.model import Volume
from nsrun.volumes import make_directory, mount_huge_pages, mount_memory

if TYPE_CHECKING:
    from nsrun.server.engine import PodEngine


class EmptyDir(VolumeKind):
    """emptyDir volumes."""

    def set_up(self, engine: PodEngine, volume: Volume, /) -> None:
        source, group = volume.emptyDir, group_of(engine)
        if source is None:
            return
        if has_huge_pages(source):
            size = huge_page_size(engine.pod, source.medium or "")
            mount_huge_pages(engine.paths.memory_volumes / volume.name, size, group)
        elif in_memory(source):
            size = memory_size(engine.pod, source, engine.world.node.memory)
            mount_memory(engine.paths.memory_volumes / volume.name, size, group)
        else:
            make_directory(engine.paths.disk_volumes / volume.name, group)
