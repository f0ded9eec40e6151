"""Images that nobody uses are removed when the disk fills up, and, if so set, when they are old.

Source: kubelet pkg/kubelet/images/image_gc_manager.go, whose words the log has: every five minutes; above the high mark the least recently
used go until the low mark is reached; none that is in use, none that was not there for the minimum age. Beyond the kubelet: what was
loaded or imported has no registry to come from again, and is not thrown away where that could not make room enough.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from nsrun.errors import NsrunError
from nsrun.images import Image
from nsrun.images.settings import ImageSettings

if TYPE_CHECKING:
    from nsrun.server.world import World

_LOG = logging.getLogger("nsrun.imagegc")


def used_since(image: Image, last_used: Mapping[str, float]) -> float:
    """When an image was used last, as far as that is known: at the earliest when it came."""
    return max(image.added, last_used.get(image.digest, 0.0))


def candidates(
    images: Iterable[Image],
    in_use: Mapping[str, Any],
    last_used: Mapping[str, float],
    now: float,
    minimum_age_s: float,
) -> list[Image]:
    """What may be removed, the least recently used first; an image that has several names once."""
    result: dict[str, Image] = {}
    used = {image.digest for image in images if image.id in in_use or image.reference in in_use}
    for image in images:
        if not image.digest or image.digest in used:
            continue
        if now - used_since(image, last_used) >= minimum_age_s:
            result.setdefault(image.digest, image)
    return sorted(result.values(), key=lambda image: used_since(image, last_used))


def to_free(total: int, available: int, settings: ImageSettings) -> int:
    """Bytes that have to go from a disk; 0 below the high mark."""
    if not total or (total - available) * 100 < total * settings.gc_high_percent:
        return 0
    return max(total * (100 - settings.gc_low_percent) // 100 - available, 0)


def worth_it(found: Sequence[Image], wanted: int) -> list[Image]:
    """Of what may be removed, what is: all of it where that can make the room that is wanted, else only what can be pulled again.

    Args:
        found: what may be removed.
        wanted: bytes. An image takes at most twice its size: as it came and unpacked.
    """
    if 2 * sum(image.size for image in found) >= wanted:
        return list(found)
    return [image for image in found if image.origin == "pull"]


class ImageCollector:
    """Looks at the disk every five minutes, or as often as the settings say.

    Args:
        world: whose images and settings.
    """

    def __init__(self, world: World) -> None:
        self._world = world
        self._last_used: dict[str, float] = {}
        self._task: asyncio.Task[None] | None = None

    def begin(self) -> None:
        """Start to look, for the first time in a while."""
        self._task = asyncio.get_running_loop().create_task(self._live(), name="image gc")

    async def _live(self) -> None:
        while True:
            await asyncio.sleep(self._world.image_settings.gc_period_s)
            try:
                await self.collect()
            except (NsrunError, OSError) as error:
                _LOG.warning("image gc: %s", error)

    async def collect(self) -> list[str]:
        """Removes what has to go now; gives the names.

        Raises:
            NsrunError, OSError: something cannot be read or removed.
        """
        world, now = self._world, self._world.clock.now()
        images = await asyncio.to_thread(world.images.list)
        in_use = world.images_in_use()
        for image in images:
            if image.id in in_use or image.reference in in_use:
                self._last_used[image.digest] = now
        settings = world.image_settings
        gone: list[str] = []
        if settings.gc_maximum_age_s:
            old = [
                image
                for image in candidates(images, in_use, self._last_used, now, settings.gc_maximum_age_s)
                if now - used_since(image, self._last_used) >= settings.gc_maximum_age_s
            ]
            for image in old:
                gone += await self._remove(image)
        total, available = self._disk()
        wanted = to_free(total, available, settings)
        if not wanted:
            return gone
        _LOG.warning(
            "disk usage on image filesystem %s is over the high threshold, trying to free bytes down to the low threshold:"
            " usage %d %%, high threshold %d %%, low threshold %d %%, amount to free %d bytes",
            world.layout.lib,
            (total - available) * 100 // total,
            settings.gc_high_percent,
            settings.gc_low_percent,
            wanted,
        )
        found = [
            image
            for image in candidates(images, in_use, self._last_used, now, settings.gc_minimum_age_s)
            if image.name not in gone
        ]
        chosen = worth_it(found, wanted)
        if len(chosen) < len(found):
            _LOG.info(
                "%d unused images that were loaded or imported stay: removing all that nobody uses would not free %d bytes",
                len(found) - len(chosen),
                wanted,
            )
        for image in chosen:
            gone += await self._remove(image)
            if not self._under():
                continue
            break
        else:
            freed = max(self._disk()[1] - available, 0)
            _LOG.warning(
                "failed to garbage collect required amount of images on %s."
                " Attempted to free %d bytes, but only found %d bytes eligible to free.",
                world.layout.lib,
                wanted,
                freed,
            )
        return gone

    async def _remove(self, image: Image) -> list[str]:
        # Asked anew: a pod may have begun meanwhile.
        done = await asyncio.to_thread(
            self._world.images.prune, self._world.images_in_use(), only=[image.digest], partial_s=0.0
        )
        if not done[0]:
            return []
        _LOG.info("removed image %s, which nobody uses", image.name or image.id)
        return [image.name or image.id]

    def _disk(self) -> tuple[int, int]:
        facts = os.statvfs(self._world.layout.lib)
        return facts.f_blocks * facts.f_frsize, facts.f_bavail * facts.f_frsize

    def _under(self) -> bool:
        total, available = self._disk()
        return available * 100 >= total * (100 - self._world.image_settings.gc_low_percent)

    async def close(self) -> None:
        """Stop looking."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
