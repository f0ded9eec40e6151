"""image: the tree of an image, mounted once for the pod when the first container that mounts it is started.

As under a kubelet it is the container that waits for the image, not the pod (Kubernetes pkg/kubelet/kuberuntime/kuberuntime_manager.go
getImageVolumes, toKubeContainerImageVolumes).
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import TYPE_CHECKING

from nsrun.images import Image, ImageError
from nsrun.plan.image import HOST_IMAGE_NAMES
from nsrun.server.pulls import failed
from nsrun.server.volumes.kind import VolumeKind
from nsrun.spec.model import Container, Pod, Volume
from nsrun.volumes import mount_layers

if TYPE_CHECKING:
    from nsrun.server.engine import PodEngine

_BASE = "base"
"""The layer below all others, which has what containers mount on (`nsrun.images.layers`)."""


class ImageTree(VolumeKind):
    """image volumes. Which image one is, is in the ledger before it is mounted: it stays that for as long as the pod."""

    def set_up(self, engine: PodEngine, volume: Volume, /) -> None:
        known = engine.ledger.volume_images.get(volume.name)
        if known is not None:
            _mount(engine, volume, engine.world.images.by_id(known))


def mounts_images(pod: Pod, container: Container) -> bool:
    """Whether a container mounts an image volume."""
    names = {volume.name for volume in _volumes(pod)}
    return any(mount.name in names for mount in container.volumeMounts)


def _volumes(pod: Pod) -> list[Volume]:
    """The image volumes, without those of the built-in image: `up --ignore-unsupported` warned of them."""
    return [
        volume
        for volume in pod.spec.volumes
        if volume.image is not None and volume.image.reference not in HOST_IMAGE_NAMES
    ]


async def mounted_for(engine: PodEngine, container: Container) -> bool:
    """Whether the image volumes that a container mounts are there; what is missing is pulled or mounted from here on.

    If one cannot be had, the container's ledger says why, and when it is tried again.

    Raises:
        NsrunError, OSError: the ledger cannot be stored, or an image cannot be mounted.
    """
    names = {mount.name for mount in container.volumeMounts}
    ready = True
    for volume in _volumes(engine.pod):
        if volume.name not in names:
            continue
        if volume.name not in engine.ledger.volume_images:
            try:
                image = engine.pulls.image_for_volume(volume, container.name)
            except ImageError as error:
                failed(engine, container.name, (volume.image and volume.image.reference) or "", error)
                return False
            if image is None:
                ready = False
                continue
            engine.ledger.volume_images[volume.name] = image.id
            engine.touch()
            engine.save()
        async with engine.pulls.mounting:
            await asyncio.to_thread(KIND.set_up, engine, volume)
    return ready


def _mount(engine: PodEngine, volume: Volume, image: Image) -> None:
    layers = [lower for lower in image.rootfs.lowers if os.path.basename(os.path.dirname(lower)) != _BASE]
    mount_layers(Path(engine.paths.memory_volumes) / volume.name, layers or image.rootfs.lowers)


KIND = ImageTree()
