"""The volumes of one pod: set up before its first sandbox, there for as long as the pod, taken away with it.

Nothing is remembered of them: what is there is seen on disk and in the mounts, whoever made it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from nsrun.errors import NsrunError, errno_text
from nsrun.plan import PlanError, Program, Reference, VolumeSource, volume_references
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
        self._kinds: tuple[Pod, list[tuple[Volume, VolumeKind]]] | None = None
        """Those of this pod, so that they need not be looked up again and again."""
        self._news = 0
        """How often an object that they are made of has changed, or there was a reason to look at all of them."""
        self._told: tuple[Pod, int] | None = None
        """The pod and the number of news that this server has last seen them hold."""
        self._refused = ""
        """Why they could not be brought up to date, which is told once."""
        self._refresh_at: float | None = None
        self._delay_s = 0.0

    def _with_kinds(self) -> list[tuple[Volume, VolumeKind]]:
        pod = self._engine.pod
        if self._kinds is None or self._kinds[0] is not pod:
            self._kinds = pod, list(with_kinds(pod.spec.volumes))
        return self._kinds[1]

    def sources(self) -> Mapping[str, VolumeSource]:
        """Where they lie, by name."""
        found = {}
        for volume, kind in self._with_kinds():
            source = kind.source(self._engine, volume)
            if source is not None:
                found[volume.name] = source
        return found

    async def set_up(self) -> bool:
        """Make what is not there yet; whether all of them are there now. If not, the ledger says when to try again."""
        engine = self._engine
        if not engine.pod.spec.volumes:
            return True
        told = engine.pod, self._news
        failed: dict[str, str] = {}
        ready: list[tuple[Volume, VolumeKind]] = []
        for volume, kind in self._with_kinds():
            try:
                await kind.prepare(engine, volume)
                ready.append((volume, kind))
            except (NsrunError, OSError) as error:
                failed[volume.name] = _text(error)
        # For a path of the host may be on a slow disk.
        failed |= await asyncio.to_thread(self._set_up, ready)
        ledger = engine.ledger
        before = ledger.sandbox_waiting
        if before is not None and before.reason != FAILED_MOUNT:
            before = None
        if not failed:
            self._told = told
            if before is not None:
                ledger.sandbox_waiting = None
                engine.touch()
            return True
        delay_s = FIRST_RETRY_S if before is None else min(before.delay_s * 2, LAST_RETRY_S) or FIRST_RETRY_S
        texts = _texts(failed)
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
                failed[volume.name] = _text(error)
        return failed

    def object_changed(self, reference: Reference) -> None:
        """An object of the pod's namespace has come, gone, or changed: what is made of it is looked at, at once."""
        if any(reference in volume_references(volume) for volume in self._engine.pod.spec.volumes):
            self._news += 1
            self.retry_now()
            self._engine.wake()

    def retry_now(self) -> None:
        """Let what could not be set up or brought up to date for want of an object not wait any longer."""
        engine = self._engine
        self._refresh_at = None
        waiting = engine.ledger.sandbox_waiting
        if waiting is not None and waiting.reason == FAILED_MOUNT:
            engine.ledger.sandbox_waiting = replace(waiting, retry_at=engine.world.clock.now(), delay_s=0.0)
            engine.touch()
            engine.wake()

    async def refresh(self) -> float | None:
        """Have the volumes hold what pod and objects say now; when to look again, if they cannot.

        What cannot be brought up to date is as it was, an event tells of it, and the pod's life goes on meanwhile.
        """
        engine = self._engine
        now = engine.world.clock.now()
        wanted = engine.pod, self._news
        told = self._told
        if told is not None and told[0] is wanted[0] and told[1] == wanted[1]:
            return None
        kept = [one for one in self._with_kinds() if one[1].refreshes]
        # Before there is a sandbox they are looked at as they are set up.
        if engine.deleting or engine.finished or not kept or not engine.ledger.sandbox_ready:
            return None
        if self._refresh_at is not None and now < self._refresh_at:
            return self._refresh_at
        failed, permanent = await asyncio.to_thread(self._refresh, kept)
        if not failed:
            self._told, self._refused, self._refresh_at, self._delay_s = wanted, "", None, 0.0
            return None
        texts = _texts(failed)
        if (said := "; ".join(texts)) != self._refused:
            self._refused = said
            for text in texts:
                engine.note(WARNING, FAILED_MOUNT, text)
            _LOG.info("pod %s: volumes stay as they were: %s", engine.label, said)
        if permanent:
            # Only another object, or another pod, can change that.
            self._told = wanted
            return None
        self._delay_s = min(self._delay_s * 2, LAST_RETRY_S) or FIRST_RETRY_S
        self._refresh_at = now + self._delay_s
        return self._refresh_at

    def _refresh(self, volumes: list[tuple[Volume, VolumeKind]]) -> tuple[dict[str, str], bool]:
        """In a thread: why what could not be brought up to date, by name; and whether that is only for want of objects."""
        failed: dict[str, str] = {}
        permanent = True
        for volume, kind in volumes:
            try:
                kind.refresh(self._engine, volume)
            except (NsrunError, OSError) as error:
                failed[volume.name] = _text(error)
                permanent = permanent and isinstance(error, PlanError)
        return failed, permanent

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
        for volume, kind in self._with_kinds():
            kind.tear_down(engine, volume)
        remove_volumes([engine.paths.memory_volumes, engine.paths.disk_volumes], remove_tree)


def _texts(failed: Mapping[str, str]) -> list[str]:
    return [f'MountVolume.SetUp failed for volume "{name}" : {text}' for name, text in failed.items()]


def _text(error: NsrunError | OSError) -> str:
    if isinstance(error, NsrunError):
        return error.brief
    return f"{error.filename or 'set up'}: {errno_text(error.errno or 0)}"
