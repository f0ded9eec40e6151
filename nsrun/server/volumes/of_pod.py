"""The volumes of one pod: set up before its first sandbox, there for as long as the pod, taken away with it.

Nothing is remembered of them: what is there is seen on disk and in the mounts, whoever made it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING

from nsrun.errors import NsrunError, errno_text
from nsrun.plan import Program, VolumeSource
from nsrun.reconcile.model import Waiting
from nsrun.server.volumes.kind import VolumeKind
from nsrun.server.volumes.kinds import with_kinds
from nsrun.server.volumes.mounting import begin
from nsrun.spec.model import Container, Pod, Volume
from nsrun.state.files import remove_tree
from nsrun.status.events import FAILED_MOUNT, WARNING
from nsrun.volumes import remove_volumes

if TYPE_CHECKING:
    from nsrun.server.engine import PodEngine

FIRST_RETRY_S = 0.5
LAST_RETRY_S = 122.0
"""A volume that cannot be set up is tried again after 0.5, 1, 2, ... s (Kubernetes pkg/util/goroutinemap/exponentialbackoff)."""

_LOG = logging.getLogger("nsrun.volumes")


class Volumes:
    """The volumes of `engine`'s pod."""

    def __init__(self, engine: PodEngine) -> None:
        self._engine = engine
        self._told: Pod | None = None
        """The pod that the volumes were last seen to tell of by this server."""

    def sources(self) -> Mapping[str, VolumeSource]:
        """Where they lie, by name."""
        found = {}
        for volume, kind in with_kinds(self._engine.pod.spec.volumes):
            source = kind.source(self._engine, volume)
            if source is not None:
                found[volume.name] = source
        return found

    async def set_up(self) -> bool:
        """Make what is not there yet; whether all of them are there now. If not, the ledger says when to try again."""
        engine = self._engine
        if not engine.pod.spec.volumes:
            return True
        failed: dict[str, str] = {}
        ready: list[tuple[Volume, VolumeKind]] = []
        for volume, kind in with_kinds(engine.pod.spec.volumes):
            try:
                await kind.prepare(engine, volume)
                ready.append((volume, kind))
            except (NsrunError, OSError) as error:
                failed[volume.name] = _told(error)
        # For a path of the host may be on a slow disk.
        failed |= await asyncio.to_thread(self._set_up, ready)
        ledger = engine.ledger
        before = ledger.sandbox_waiting
        if before is not None and before.reason != FAILED_MOUNT:
            before = None
        if not failed:
            if before is not None:
                ledger.sandbox_waiting = None
                engine.touch()
            return True
        delay_s = FIRST_RETRY_S if before is None else min(before.delay_s * 2, LAST_RETRY_S)
        texts = [f'MountVolume.SetUp failed for volume "{name}" : {text}' for name, text in failed.items()]
        for text in texts:
            engine.note(WARNING, FAILED_MOUNT, text)
        _LOG.info("pod %s: %s", engine.label, "; ".join(texts))
        again = engine.world.clock.now() + delay_s
        ledger.sandbox_waiting = Waiting(FAILED_MOUNT, "; ".join(texts), retry_at=again, delay_s=delay_s)
        engine.touch()
        return False

    def _set_up(self, volumes: list[tuple[Volume, VolumeKind]]) -> dict[str, str]:
        """In a thread: why what could not be set up, by name."""
        failed: dict[str, str] = {}
        for volume, kind in volumes:
            try:
                kind.set_up(self._engine, volume)
            except (NsrunError, OSError) as error:
                failed[volume.name] = _told(error)
        return failed

    def refresh(self) -> None:
        """Have the volumes that tell of the pod tell what it is now. They are few and small, and in memory.

        Raises:
            NsrunError, OSError: they cannot be written; they are as they were, and it is tried again.
        """
        engine = self._engine
        if self._told is engine.pod or engine.deleting:
            return
        for volume, kind in with_kinds(engine.pod.spec.volumes):
            kind.refresh(engine, volume)
        self._told = engine.pod

    def begin(self, container: Container, program: Program) -> list[int]:
        """Make what an instance needs of them right before it is made: see `mounting.begin`."""
        return begin(self._engine.pod, self.sources(), container, program, self._engine.label)

    async def tear_down(self) -> None:
        """Take all of them away. Nothing of the pod runs any more.

        Raises:
            NsrunError, OSError: something stays mounted in them, or cannot be removed; it can be tried again.
        """
        await asyncio.to_thread(self._tear_down)

    def _tear_down(self) -> None:
        engine = self._engine
        for volume, kind in with_kinds(engine.pod.spec.volumes):
            kind.tear_down(engine, volume)
        remove_volumes([engine.paths.memory_volumes, engine.paths.disk_volumes], remove_tree)


def _told(error: NsrunError | OSError) -> str:
    if isinstance(error, NsrunError):
        return error.brief
    return f"{error.filename or 'set up'}: {errno_text(error.errno or 0)}"
