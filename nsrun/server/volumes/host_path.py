"""hostPath: a path of the machine."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nsrun.plan.volumes import host_path
from nsrun.server.volumes.kind import VolumeKind
from nsrun.spec.model import Volume
from nsrun.volumes import check_host_path

if TYPE_CHECKING:
    from nsrun.server.engine import PodEngine


class HostPath(VolumeKind):
    """hostPath volumes."""

    def set_up(self, _engine: PodEngine, volume: Volume, /) -> None:
        if volume.hostPath is not None:
            check_host_path(host_path(volume.hostPath.path), volume.hostPath.type or "")
