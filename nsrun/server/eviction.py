"""What a pod takes of the disk, measured every ten seconds while it runs and has a limit; it has to go when it takes more.

What an earlier server left is measured at once: servers that are killed one after the other would never come to it.
That it has to go is in the ledger before anything of it is stopped: once the disk is free again, nobody would know.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from nsrun.errors import StepError
from nsrun.reconcile.eviction import INTERVAL_S, DiskUse, Wanted, evict, wanted
from nsrun.status.events import EVICTED, WARNING
from nsrun.volumes import disk_usage

if TYPE_CHECKING:
    from nsrun.server.engine import PodEngine
    from nsrun.spec.model import Pod

SHARE = 20
"""A measurement is followed by at least this many times its own length without one: large trees cost 5 % of a processor at most."""

_LOG = logging.getLogger("nsrun.eviction")
_READER = ThreadPoolExecutor(1, "disk use")
"""One tree is read at a time; who waits for that keeps nobody else from having a thread."""


class DiskWatch:
    """The disk use of one pod. Without limits in its manifest nothing is ever measured.

    Args:
        engine: the pod.
    """

    def __init__(self, engine: PodEngine) -> None:
        self._engine = engine
        self._asked: Pod | None = None
        self._wanted = Wanted()
        self._task: asyncio.Task[None] | None = None
        self._stop = threading.Event()
        self._adopted = engine.ledger.sandbox_ready

    def sync(self) -> None:
        """Once a turn: begin to watch, or stop."""
        engine = self._engine
        if self._asked is not engine.pod:
            self._asked, self._wanted = engine.pod, wanted(engine.pod, static=engine.static is not None)
        going = engine.ledger.sandbox_ready and not (engine.deleting or engine.finished or engine.ledger.failure)
        if not (self._wanted and going):
            self.close()
        elif self._task is None:
            self._stop = threading.Event()
            self._task = asyncio.get_running_loop().create_task(self._watch(), name=f"disk use of {engine.label}")

    def close(self) -> None:
        """Stop measuring; what is being read is left at the next directory."""
        self._stop.set()
        if self._task is not None:
            self._task.cancel()
            self._task = None

    async def _watch(self) -> None:
        engine, took_s = self._engine, 0.0
        loop = asyncio.get_running_loop()
        while True:
            if self._adopted:
                self._adopted = False
            else:
                await asyncio.sleep(max(INTERVAL_S / engine.tempo, SHARE * took_s))
            began = time.monotonic()
            try:
                use = await loop.run_in_executor(_READER, self._measure, self._places(), self._stop)
            except OSError as error:
                _LOG.warning("pod %s: measuring its disk use: %s", engine.label, error)
                continue
            finally:
                took_s = time.monotonic() - began
            if self._evict(use):
                return

    def _evict(self, use: DiskUse) -> bool:
        engine = self._engine
        failure = evict(engine.pod, use, engine.world.clock.now())
        if failure is None or engine.ledger.failure is not None or engine.deleting or engine.finished:
            return False
        engine.note(WARNING, EVICTED, failure.message)
        engine.ledger.failure = failure
        engine.touch()
        try:
            engine.save()
        except StepError as error:
            # It is asked for again at the next look.
            _LOG.warning("%s", error)
            engine.ledger.failure = None
            return False
        _LOG.info("pod %s is evicted: %s", engine.label, failure.message)
        engine.wake()
        return True

    def _places(self) -> tuple[dict[str, Path], dict[str, list[Path]]]:
        """Directories of volumes, and of containers, by name."""
        engine = self._engine
        volumes = {name: engine.paths.disk_volumes / name for name in self._wanted.volumes}
        containers: dict[str, list[Path]] = {}
        for instance in engine.mirror.instances() if self._wanted.containers else ():
            if instance.alive:
                containers[instance.name] = [
                    engine.paths.root(instance.id) / "upper",
                    engine.log_directory / instance.name,
                ]
        return volumes, containers

    @staticmethod
    def _measure(places: tuple[dict[str, Path], dict[str, list[Path]]], stop: threading.Event) -> DiskUse:
        """In a thread."""
        volumes, containers = places
        return DiskUse(
            {name: disk_usage(path, stop.is_set).used for name, path in volumes.items()},
            {name: sum(disk_usage(one, stop.is_set).used for one in paths) for name, paths in containers.items()},
        )
