"""When a container is probed, and what its probes' results amount to (S-PROBE). Pure: the clock and the chance are the caller's.

A kubelet has a ticker for each probe of each container from the moment on that it works on the pod; each tick is a run, unless the
container is not in a state to be probed. So the first run of a liveness or startup probe comes up to a period after the container's
start, and not at it. A readiness probe is run when its container has become started as well, and its ticker begins anew there.

Source: Kubernetes pkg/kubelet/prober/{worker,prober_manager}.go. Beyond it: what consecutive runs said of one instance is not held against
the next one; and only containers that ran before the server came are given a random first tick.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from nsrun.reconcile.backoff import due
from nsrun.reconcile.model import Observed, ProbeKind
from nsrun.reconcile.order import View
from nsrun.spec.model import Container, Probe

LOOKS_S = (0.25, 1.0)
"""A container without startup probe is started as soon as it runs; a kubelet notices that within a second, once a second, and runs its
readiness probe then. Here it is run so long after the start: few programs listen sooner, and nobody's first look comes later."""
SHORTEST_S = 0.01
"""No period is made shorter than this by a time scale."""


@dataclass(frozen=True, slots=True)
class Timing:
    """The numbers of a probe. Period and initial delay are in real seconds, a time scale taken into account; the timeout has none."""

    period_s: float
    initial_delay_s: float
    timeout_s: float
    successes: int
    failures: int
    tempo: float = 1.0


def timing_of(probe: Probe, tempo: float = 1.0) -> Timing:
    """The numbers, with the defaults of pkg/apis/core/v1/defaults.go for what is missing."""
    return Timing(
        period_s=max((probe.periodSeconds or 10) / tempo, SHORTEST_S),
        initial_delay_s=(probe.initialDelaySeconds or 0) / tempo,
        timeout_s=float(probe.timeoutSeconds or 1),
        successes=probe.successThreshold or 1,
        failures=probe.failureThreshold or 3,
        tempo=tempo,
    )


def probes_of(container: Container) -> dict[ProbeKind, Probe]:
    """The probes that a container has."""
    found = {
        ProbeKind.STARTUP: container.startupProbe,
        ProbeKind.READINESS: container.readinessProbe,
        ProbeKind.LIVENESS: container.livenessProbe,
    }
    return {kind: probe for kind, probe in found.items() if probe is not None}


@dataclass(frozen=True, slots=True)
class Target:
    """What a worker has to know of its container.

    Attributes:
        instance_id: of the newest instance, "" when there is none.
        running: it runs (its postStart hook is done).
        since: when it was started, seconds since the epoch.
        started: it runs, and its startup probe, if it has one, has succeeded.
        result: what this probe said last of this instance; None when it has not said anything yet.
        stopping: it is to end, alone or with its pod.
    """

    instance_id: str = ""
    running: bool = False
    since: float = 0.0
    started: bool = False
    result: bool | None = None
    stopping: bool = False


def target_of(view: View, observed: Observed, kind: ProbeKind) -> Target:
    """The target of a container's probe as it is observed."""
    instance = view.instance
    if instance is None:
        return Target()
    result: bool | None = None
    if view.probes is not None:
        match kind:
            case ProbeKind.STARTUP:
                result = view.probes.startup
            case ProbeKind.READINESS:
                result = view.probes.readiness
            case ProbeKind.LIVENESS:
                result = view.probes.liveness
    return Target(
        instance_id=instance.id,
        running=view.running,
        since=instance.started_at or 0.0,
        started=view.started,
        result=result,
        stopping=observed.deletion is not None or observed.failure is not None or view.ledger.stop is not None,
    )


@dataclass(frozen=True, slots=True)
class Worker:
    """One probe of one container. Changed by the functions below alone.

    Attributes:
        kind: which probe.
        timing: its numbers.
        anchor: a tick; the others are whole periods before and after it.
        next_at: the next run, None when nothing is due before the container changes.
        looks: runs besides the ticks.
        instance_id: what it has seen of the container, as do `seen_unstarted` and `was_started`.
        last: the last result that counts, of `run` consecutive ones.
        busy: a run is under way.
        hold: nothing is run before there is another instance.
    """

    kind: ProbeKind
    timing: Timing
    anchor: float
    next_at: float | None = None
    looks: tuple[float, ...] = ()
    instance_id: str = ""
    seen_unstarted: bool = False
    was_started: bool = False
    last: bool | None = None
    run: int = 0
    busy: bool = False
    hold: bool = False


def new_worker(kind: ProbeKind, timing: Timing, now: float, *, chance: float = 0.0) -> Worker:
    """A worker that begins now.

    Args:
        kind: which probe.
        timing: its numbers.
        now: seconds since the epoch.
        chance: 0 to 1, the share of a period until the first tick: for containers that ran before the server came, lest all
            of them are probed at the same moment.
    """
    return Worker(kind, timing, anchor=now + chance * timing.period_s)


def observe(worker: Worker, target: Target, now: float) -> Worker:
    """The worker once it has seen how its container is."""
    if target.instance_id != worker.instance_id:
        worker = replace(
            worker,
            instance_id=target.instance_id,
            next_at=None,
            looks=(),
            seen_unstarted=False,
            was_started=False,
            last=None,
            run=0,
            hold=False,
        )
    decided = (worker.kind is ProbeKind.STARTUP and target.result is not None) or (
        worker.kind is ProbeKind.LIVENESS and target.result is False
    )
    if decided and not worker.hold:
        worker = replace(worker, hold=True)
    if worker.kind is ProbeKind.READINESS and target.started and not worker.was_started:
        worker = _look(worker, target, now)
    worker = replace(
        worker,
        was_started=target.started,
        seen_unstarted=worker.seen_unstarted or (target.running and not target.started),
    )
    if not _may_run(worker, target):
        return replace(worker, next_at=None, looks=())
    over = due(target.since, worker.timing.initial_delay_s, now)
    period = worker.timing.period_s
    if worker.anchor > now + max(period, LOOKS_S[-1]) or (worker.next_at or 0.0) > max(now, over) + period:
        # The clock was set back: the ticks begin anew.
        worker = replace(worker, anchor=now, next_at=None, looks=())
    if worker.next_at is None:
        worker = replace(worker, next_at=_tick(worker, max(now, over)))
    return worker


def _look(worker: Worker, target: Target, now: float) -> Worker:
    """What a container that has just become started means for its readiness probe."""
    if target.result:
        # It was ready when the server before this one ended.
        return worker
    if worker.seen_unstarted:
        return _triggered(worker, (now,))
    looks = tuple(target.since + after_s / worker.timing.tempo for after_s in LOOKS_S)
    ahead = tuple(at for at in looks if now < at <= now + LOOKS_S[-1])
    return _triggered(worker, ahead or (now,))


def _triggered(worker: Worker, looks: tuple[float, ...]) -> Worker:
    """A run at each of these times; the ticks begin anew at the first one."""
    return replace(worker, looks=looks, anchor=looks[0], next_at=None)


def _may_run(worker: Worker, target: Target) -> bool:
    if worker.hold or not target.running:
        return False
    if worker.kind is ProbeKind.READINESS:
        return target.started
    if target.stopping:
        return False
    return target.started is (worker.kind is ProbeKind.LIVENESS)


def _tick(worker: Worker, at: float) -> float:
    """The first tick at or after `at`."""
    period = worker.timing.period_s
    count = max(0, math.ceil((at - worker.anchor) / period))
    tick = worker.anchor + count * period
    return tick if tick >= at else tick + period


def due_at(worker: Worker) -> float | None:
    """When the worker is to be run next; None when something else has to happen before."""
    if worker.busy or worker.next_at is None:
        return None
    return min((worker.next_at, *worker.looks))


def take(worker: Worker, target: Target, now: float) -> tuple[Worker, bool]:
    """Consume what is due by `now`: the worker, and whether the probe is to be run now. It is then `busy` until `finish`."""
    at = due_at(worker)
    if at is None or at > now:
        return worker, False
    left = tuple(look for look in worker.looks if look > now)
    if len(left) < len(worker.looks):
        worker = replace(worker, looks=left, anchor=now)
    over = due(target.since, worker.timing.initial_delay_s, now)
    after = _tick(worker, max(now, over))
    worker = replace(worker, next_at=after if after > now else after + worker.timing.period_s)
    if now < over:
        return worker, False
    return replace(worker, busy=True), True


def finish(worker: Worker, instance_id: str, success: bool | None) -> tuple[Worker, bool | None]:
    """Take the result of a run: the worker, and what the probe says now, or None when it says nothing new.

    Args:
        worker: whose run it was.
        instance_id: of the instance that was probed; about another one than the newest nothing is said.
        success: None when the probe could not be made, which does not count.
    """
    worker = replace(worker, busy=False)
    if success is None or instance_id != worker.instance_id or worker.hold:
        return worker, None
    run = worker.run + 1 if worker.last is success else 1
    worker = replace(worker, last=success, run=run, looks=() if success else worker.looks)
    if run < (worker.timing.successes if success else worker.timing.failures):
        return worker, None
    if worker.kind is ProbeKind.STARTUP or (worker.kind is ProbeKind.LIVENESS and not success):
        # Either it has started for good, or it is going to be killed: until there is another one nothing is to be learned.
        worker = replace(worker, hold=True, run=0, next_at=None, looks=())
    return worker, success
