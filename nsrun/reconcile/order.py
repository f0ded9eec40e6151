"""Which containers may start now: init containers in a row, sidecars, mains together (S-INIT, S-SIDECAR, S-START, S-RESTART).

Source: kubelet pkg/kubelet/kuberuntime/kuberuntime_manager.go computePodActions, kuberuntime_container.go
computeInitContainerActions, pkg/kubelet/container/helpers.go, pkg/api/v1/pod/util.go ContainerShouldRestart.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from nsrun.reconcile.backoff import due, retry_due
from nsrun.reconcile.ledger import PROBE_CAUSES, looked_back_at
from nsrun.reconcile.model import (
    Action,
    ContainerLedger,
    HookKind,
    HookRun,
    Instance,
    InstanceState,
    Observed,
    ProbeResults,
    Role,
    RunHook,
    StartContainer,
    StopCause,
    WakeAt,
)
from nsrun.reconcile.policy import is_sidecar, restarts_after_kill, should_restart
from nsrun.spec.containers import as_container
from nsrun.spec.model import Container, Pod

_WHATEVER = (StopCause.REQUEST, StopCause.CHANGED)


@dataclass(frozen=True, slots=True)
class View:
    """A container with all that is known of it. `instance` is the newest one of the present sandbox.

    `tempo`: delays of its back-off are divided by it.
    """

    container: Container
    role: Role
    ledger: ContainerLedger
    instance: Instance | None
    tempo: float = 1.0

    @property
    def name(self) -> str:
        """The container's name."""
        return self.container.name

    @property
    def alive(self) -> bool:
        """Whether a process of it exists, or may be about to."""
        return self.instance is not None and self.instance.alive

    @property
    def running(self) -> bool:
        """Whether it runs and its postStart hook, if it has one, is done: before that nobody takes it for running (S-HOOK)."""
        if self.instance is None or self.instance.state is not InstanceState.RUNNING:
            return False
        if not self.has_post_start:
            return True
        hook = self.post_start
        return hook is not None and hook.finished_at is not None and hook.error is None

    @property
    def has_post_start(self) -> bool:
        """Whether it has a postStart hook."""
        lifecycle = self.container.lifecycle
        return lifecycle is not None and lifecycle.postStart is not None

    @property
    def has_pre_stop(self) -> bool:
        """Whether it has a preStop hook."""
        lifecycle = self.container.lifecycle
        return lifecycle is not None and lifecycle.preStop is not None

    @property
    def post_start(self) -> HookRun | None:
        """The postStart hook of the present instance, if it was begun."""
        return self._own(self.ledger.post_start)

    @property
    def pre_stop(self) -> HookRun | None:
        """The preStop hook of the present instance, if it was begun."""
        return self._own(self.ledger.pre_stop)

    def _own(self, hook: HookRun | None) -> HookRun | None:
        own = hook is not None and self.instance is not None and hook.instance_id == self.instance.id
        return hook if own else None

    @property
    def probes(self) -> ProbeResults | None:
        """What the probes of the present instance said last, if anything."""
        known = self.ledger.probes
        if known is None or self.instance is None or known.instance_id != self.instance.id:
            return None
        return known

    @property
    def started(self) -> bool:
        """Whether it runs and its startup probe, if it has one, has succeeded (S-COND)."""
        if not self.running or self.container.startupProbe is None:
            return self.running
        return self.probes is not None and self.probes.startup is True

    @property
    def ready(self) -> bool:
        """Whether it is started and its readiness probe, if it has one, succeeds (S-COND)."""
        if not self.started or self.container.readinessProbe is None:
            return self.started
        return self.probes is not None and self.probes.readiness

    @property
    def is_sidecar(self) -> bool:
        """Whether it is a native sidecar."""
        return self.role is Role.SIDECAR

    @property
    def restart_requested(self) -> bool:
        """Whether there will be another instance whatever the policy says."""
        return self.ledger.stop is not None and self.ledger.stop.cause in _WHATEVER

    def wants_instance(self, pod: Pod) -> bool:
        """Whether it runs, has never run, or has to run again: False once it is done for good."""
        last = self.ledger.last
        if self.alive or last is None or self.restart_requested or self.is_sidecar:
            return True
        if last.stopped_by is StopCause.RESTART_ALL:
            return True
        if last.stopped_by in PROBE_CAUSES:
            return restarts_after_kill(pod, self.container)
        return should_restart(pod, self.container, last.exit_code or 0, by_itself=last.state is not InstanceState.LOST)

    def failed_for_good(self, pod: Pod) -> bool:
        """Whether its newest instance failed and it will have no other."""
        last = self.ledger.last
        return last is not None and last.exit_code != 0 and not self.wants_instance(pod)


@dataclass(frozen=True, slots=True)
class Views:
    """The containers of a pod in the order of the manifest. Ephemeral containers are none of `all`: they count for nothing."""

    inits: tuple[View, ...]
    mains: tuple[View, ...]
    ephemerals: tuple[View, ...] = ()

    @property
    def all(self) -> tuple[View, ...]:
        """Init containers, sidecars among them, then mains."""
        return self.inits + self.mains

    @property
    def sidecars(self) -> tuple[View, ...]:
        """The native sidecars among the init containers."""
        return tuple(view for view in self.inits if view.is_sidecar)

    @property
    def initialized(self) -> bool:
        """Whether a main container was begun in this sandbox."""
        return any(view.instance is not None for view in self.mains)

    @property
    def anything_alive(self) -> bool:
        """Whether any container has a process, ephemeral ones included."""
        return any(view.alive for view in (*self.inits, *self.mains, *self.ephemerals))


def views_of(pod: Pod, observed: Observed) -> Views:
    """Join spec and (settled) observation."""

    def view(container: Container, role: Role) -> View:
        ledger = observed.ledgers.get(container.name, ContainerLedger())
        return View(container, role, ledger, observed.current.get(container.name), observed.tempo)

    return Views(
        inits=tuple(view(one, Role.SIDECAR if is_sidecar(one) else Role.INIT) for one in pod.spec.initContainers),
        mains=tuple(view(one, Role.MAIN) for one in pod.spec.containers),
        ephemerals=tuple(view(as_container(one), Role.EPHEMERAL) for one in pod.spec.ephemeralContainers),
    )


@dataclass(frozen=True, slots=True)
class Finish:
    """A pod whose work is over: since when (seconds since the epoch, None = not known), and why.

    `grace_s`: what its containers get to end; None = the pod's own grace period.
    """

    since: float | None
    reason: str
    grace_s: float | None = None


def finish_of(pod: Pod, observed: Observed, views: Views) -> Finish | None:
    """Whether the pod's work is over: it failed as a whole, an init failed for good, or no main has anything left to do."""
    if observed.failure is not None:
        failure = observed.failure
        return Finish(failure.at, f"the pod has failed: {failure.reason}", failure.grace_s)
    if observed.restart_all is not None:
        return None
    for view in views.inits:
        if view.role is Role.INIT and view.failed_for_good(pod):
            last = view.ledger.last
            return Finish(last.finished_at if last else None, f"init container {view.name} failed and is not restarted")
    ends = [view.ledger.last.finished_at for view in views.mains if view.ledger.last is not None]
    since = max((end for end in ends if end is not None), default=None)
    if not any(view.wants_instance(pod) for view in views.mains):
        return Finish(since, "all main containers are done")
    if observed.terminal:
        return Finish(since, "the pod has finished")
    return None


def starts(pod: Pod, views: Views, now: float) -> list[Action]:
    """The instances to begin now in a ready sandbox of a pod with work left, and when the next is due."""
    actions: list[Action] = []
    for view in views.ephemerals:
        if view.ledger.starts == 0:
            actions += _start(view, now)
    if any(view.alive for view in views.mains):
        # Whatever became of the inits since: they never rerun beside a main container.
        actions += _restart_sidecars(views.inits, now)
    else:
        position = max((at for at, view in enumerate(views.inits) if view.instance is not None), default=-1)
        # What stands before the newest init that was begun has had its turn; a sidecar there may have died since.
        actions += _restart_sidecars(views.inits[: max(position, 0)], now)
        for at in range(max(position, 0), len(views.inits)):
            view = views.inits[at]
            if view.is_sidecar and view.started:
                continue
            if view.role is Role.INIT and view.instance is not None and _succeeded(view.instance):
                continue
            if not view.alive:
                actions += _start(view, now)
            return actions
    for view in views.mains:
        if view.alive:
            begun = True
        elif view.wants_instance(pod):
            begun_now = _start(view, now)
            actions += begun_now
            begun = any(isinstance(action, StartContainer) for action in begun_now)
        else:
            begun = False
        if begun and view.has_post_start and not view.running:
            # Its postStart hook comes before the start of the next container, whether it succeeds or not (S-START).
            break
    return actions


def hooks_after_start(views: Views) -> list[Action]:
    """The postStart hooks that are to be run: once per instance, as soon as it runs (S-HOOK)."""
    return [
        RunHook(f"container {view.name} has started", view.name, view.instance.id, HookKind.POST_START)
        for view in views.all
        if view.has_post_start
        and view.instance is not None
        and view.instance.state is InstanceState.RUNNING
        and view.ledger.stop is None
        and view.post_start is None
    ]


def _succeeded(instance: Instance) -> bool:
    return instance.state is InstanceState.EXITED and instance.exit_code == 0


def _restart_sidecars(inits: Sequence[View], now: float) -> list[Action]:
    actions: list[Action] = []
    for view in inits:
        if view.is_sidecar and not view.alive:
            actions += _start(view, now)
    return actions


def restart_due(view: View, now: float) -> float:
    """When the next instance may begin, as far as the back-off is concerned (S-BACKOFF)."""
    ledger = view.ledger
    counted, last = looked_back_at(ledger), ledger.last
    if counted is None or last is None or counted.finished_at is None or last.finished_at is None:
        return now
    if ledger.backoff_s <= 0 or ledger.afresh or view.restart_requested:
        return now
    delay_s = ledger.backoff_s / view.tempo
    if counted is not last and not counted.finished_at <= last.finished_at < counted.finished_at + delay_s:
        # When it was killed for its probe, the time since the end before was up already.
        return now
    return due(last.finished_at, delay_s, now)


def _start(view: View, now: float) -> list[Action]:
    ledger = view.ledger
    at = restart_due(view, now)
    why = "first start"
    if ledger.last is not None:
        why = f"restart after exit {ledger.last.exit_code}"
        if view.restart_requested and ledger.stop is not None:
            why = ledger.stop.message
    waiting = ledger.waiting
    if waiting is not None:
        again = retry_due(waiting, view.tempo, now)
        if again > max(at, now):
            return [WakeAt(f"container {view.name}: {waiting.reason}, to be tried again", again)]
        why += f", tried again after {waiting.reason}"
    if at > now:
        return [WakeAt(f"container {view.name}: back-off {ledger.backoff_s:g}s", at)]
    return [StartContainer(f"container {view.name}: {why}", view.name, ledger.starts, view.role)]
