"""The probes of one pod: a timer for whichever is due next, a task for each that is under way, none for those that wait.

Nothing here has to survive: results are in the ledger, and how many in a row there were begins anew with a new server, as the
kubelet's does. That a run is due is asked of `nsrun.reconcile.probing`; what follows from a verdict, of `settle` and `decide`.
"""

from __future__ import annotations

import asyncio
import logging
import math
import random
from typing import TYPE_CHECKING

from nsrun.probes import Outcome, Result
from nsrun.reconcile.model import Observed, ProbeKind, Role
from nsrun.reconcile.order import View, views_of
from nsrun.reconcile.probing import (
    Target,
    Worker,
    due_at,
    finish,
    new_worker,
    observe,
    probes_of,
    take,
    target_of,
    timing_of,
)
from nsrun.server.clock import Timer
from nsrun.server.probe_run import ProbeRunner
from nsrun.spec.model import Container, Pod, Probe
from nsrun.status.events import PROBE_WARNING, UNHEALTHY, WARNING

if TYPE_CHECKING:
    from nsrun.server.engine import PodEngine

TRIES = 3
"""Runs of a probe that could not be made (pkg/kubelet/prober/prober.go maxProbeRetries)."""
TOGETHER_S = 0.01
"""Runs that are due within this time are begun together, all pods': half of what a run costs is that the server wakes up for it."""
MESSAGE_MAX = 1024
"""Characters of an event's text: the API server's limit for notes, so that what a command prints does not fill the ledger."""

_WORDS = {ProbeKind.STARTUP: "Startup", ProbeKind.READINESS: "Readiness", ProbeKind.LIVENESS: "Liveness"}
_LOG = logging.getLogger("nsrun.prober")


class _Slot:
    """A worker and what belongs to it."""

    __slots__ = ("container", "kind", "probe", "runner", "target", "worker")

    def __init__(self, engine: PodEngine, container: Container, kind: ProbeKind, probe: Probe, worker: Worker) -> None:
        self.runner = ProbeRunner(engine, container, kind, probe)
        self.container = container
        self.kind = kind
        self.probe = probe
        self.worker = worker
        self.target = Target()


class Prober:
    """All probes of a pod."""

    def __init__(self, engine: PodEngine) -> None:
        self._engine = engine
        self._slots: dict[tuple[str, ProbeKind], _Slot] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._timer: Timer | None = None
        self._timer_at = 0.0

    def sync(self, observed: Observed) -> None:
        """See how the containers are now. At the end of each turn of the pod's loop."""
        engine = self._engine
        if not self._slots and not _has_probes(engine.pod):
            return
        now = engine.world.clock.now()
        views = views_of(engine.pod, observed)
        kept: dict[tuple[str, ProbeKind], _Slot] = {}
        for view in (*views.inits, *views.mains):
            if view.role is Role.INIT:
                continue
            for kind, probe in probes_of(view.container).items():
                slot = self._slot(view, kind, probe, now)
                slot.target = target_of(view, observed, kind)
                slot.worker = observe(slot.worker, slot.target, now)
                kept[view.name, kind] = slot
        self._slots = kept
        self._arm(now)

    def _slot(self, view: View, kind: ProbeKind, probe: Probe, now: float) -> _Slot:
        timing = timing_of(probe, self._engine.tempo)
        slot = self._slots.get((view.name, kind))
        if slot is not None and slot.worker.timing == timing and _same(slot.container, view.container):
            return slot
        instance = view.instance
        adopted = (
            slot is None
            and instance is not None
            and instance.started_at is not None
            and instance.started_at < self._engine.world.began_at
        )
        worker = new_worker(kind, timing, now, chance=random.random() if adopted else 0.0)  # noqa: S311 - spreads load
        return _Slot(self._engine, view.container, kind, probe, worker)

    def _arm(self, now: float) -> None:
        times = [at for slot in self._slots.values() if (at := _when(slot.worker, now)) is not None]
        if not times:
            self._disarm()
            return
        at = min(times)
        if self._timer is not None and self._timer_at == at:
            return
        self._disarm()
        self._timer_at = at
        self._timer = self._engine.world.clock.call_at(max(at, now), self._tick)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _tick(self) -> None:
        self._timer = None
        now = self._engine.world.clock.now()
        for slot in self._slots.values():
            slot.worker, due = take(slot.worker, slot.target, now)
            if due:
                task = asyncio.get_running_loop().create_task(self._run(slot, slot.target.instance_id))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
        self._arm(now)

    async def _run(self, slot: _Slot, instance_id: str) -> None:
        engine = self._engine
        success: bool | None = None
        text = ""
        try:
            outcome = await self._try(slot, instance_id)
            if outcome is not None:
                success, text = self._judge(slot, outcome), outcome.text
        except Exception:
            # Nobody awaits this task, and the next run is armed below: a bug in one run must not end the probing.
            _LOG.exception("pod %s: the %s probe of %s: a bug", engine.label, slot.kind.value, slot.container.name)
        finally:
            slot.worker, verdict = finish(slot.worker, instance_id, success)
        try:
            if verdict is not None:
                engine.probe_result(slot.container.name, instance_id, slot.kind, verdict, text)
        except Exception:
            # As above. What was said is in the ledger; the pod's loop sees it, and tells what is the matter.
            _LOG.exception("pod %s: the %s probe of %s", engine.label, slot.kind.value, slot.container.name)
        if self._slots.get((slot.container.name, slot.kind)) is slot:
            self._arm(engine.world.clock.now())

    async def _try(self, slot: _Slot, instance_id: str) -> Outcome | None:
        """Run it, again when it could not be made. None: the container is not there any more."""
        outcome: Outcome | None = None
        for _ in range(TRIES):
            outcome = await slot.runner.run(instance_id, slot.worker.timing.timeout_s)
            if outcome is None or not outcome.errored:
                break
        return outcome if slot.target.running and slot.target.instance_id == instance_id else None

    def _judge(self, slot: _Slot, outcome: Outcome) -> bool | None:
        """What counts of a run, and the event that tells of it (pkg/kubelet/prober/prober.go probe)."""
        word = _WORDS[slot.kind]
        if outcome.errored:
            state = outcome.result.value
            self._note(slot, UNHEALTHY, f"{word} probe errored and resulted in {state} state: {outcome.text}")
            return None
        if outcome.result is Result.SUCCESS:
            return True
        if outcome.result is Result.WARNING:
            self._note(slot, PROBE_WARNING, f"{word} probe warning: {outcome.text}")
            return True
        self._note(slot, UNHEALTHY, f"{word} probe failed: {outcome.text}")
        return False

    def _note(self, slot: _Slot, reason: str, text: str) -> None:
        self._engine.note(WARNING, reason, text[:MESSAGE_MAX], slot.container.name)

    def close(self) -> None:
        """Probe no more."""
        self._disarm()
        self._slots = {}
        for task in self._tasks:
            task.cancel()


def _when(worker: Worker, now: float) -> float | None:
    at = due_at(worker)
    if at is None or at <= now or worker.timing.period_s < 1.0:
        return at
    return math.ceil(at / TOGETHER_S) * TOGETHER_S


def _has_probes(pod: Pod) -> bool:
    everyone = (*pod.spec.containers, *pod.spec.initContainers)
    return any(one.livenessProbe or one.readinessProbe or one.startupProbe for one in everyone)


def _same(one: Container, other: Container) -> bool:
    return one is other or one == other
