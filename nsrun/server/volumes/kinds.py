"""The kinds of volumes that there are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from nsrun.server.volumes.claim import Claimed
from nsrun.server.volumes.empty_dir import EmptyDir
from nsrun.server.volumes.files import Files
from nsrun.server.volumes.host_path import HostPath
from nsrun.server.volumes.image import KIND as IMAGE_TREE
from nsrun.spec.model import Volume

if TYPE_CHECKING:
    from nsrun.server.volumes.kind import VolumeKind

_FILES = Files()
_CLAIMED = Claimed()
KINDS: Mapping[str, VolumeKind] = {
    "emptyDir": EmptyDir(),
    "hostPath": HostPath(),
    "configMap": _FILES,
    "secret": _FILES,
    "downwardAPI": _FILES,
    "projected": _FILES,
    "persistentVolumeClaim": _CLAIMED,
    "ephemeral": _CLAIMED,
    "image": IMAGE_TREE,
}
"""By the field of the manifest's volume."""


def kind_of(volume: Volume) -> VolumeKind | None:
    """The volume's kind; None for one that nsrun has not, of which `up --ignore-unsupported` warned."""
    return next((kind for name, kind in KINDS.items() if getattr(volume, name) is not None), None)


def with_kinds(volumes: list[Volume]) -> Iterator[tuple[Volume, VolumeKind]]:
    """The volumes that nsrun has, with their kinds."""
    for volume in volumes:
        kind = kind_of(volume)
        if kind is not None:
            yield volume, kind
