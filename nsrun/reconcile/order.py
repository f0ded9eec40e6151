"""Which containers may start now: init containers in a row, sidecars, mains together (S-INIT, S-SIDECAR, S-START, S-RESTART).

Source: kubelet pkg/kubelet/kuberuntime/kuberuntime_manager.go computePodActions, kuberuntime_container.go
computeInitContainerActions, pkg/kubelet/container/helpers.go, pkg/api/v1/pod/util.go ContainerShouldRestart.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from nsrun.reconcile.backoff import due
from nsrun.reconcile.model import (
    Action,
    ContainerLedger,
    Instance,
    InstanceState,
    Observed,
    Role,
    StartContainer,
    WakeAt,
)
from nsrun.spec.model import Container, Pod

ALWAYS, ON_FAILURE, NEVER = "Always", "OnFailure", "Never"


def is_sidecar(container: Container) -> bool:
    """Whether an init container is a native sidecar (S-SIDECAR)."""
    return container.restartPolicy == ALWAYS


def should_restart(pod: Pod, container: Container, exit_code: int, *, by_itself: bool = True) -> bool:
    """Whether the policy wants another instance after an exit with `exit_code` (S-RESTART).

    `by_itself` is False when it did not exit but was lost; then rules on exit codes do not count.
    """
    policy = pod.spec.restartPolicy or ALWAYS
    if container.restartPolicy is not None:
        if by_itself:
            for rule in container.restartPolicyRules:
                codes = rule.exitCodes
                if codes is not None and (exit_code in codes.values) == (codes.operator == "In"):
                    return rule.action == "Restart"
        policy = container.restartPolicy
    return policy == ALWAYS or (policy != NEVER and exit_code != 0)


@dataclass(frozen=True, slots=True)
class View:
    """A container with all that is known of it. `instance` is the newest one of the present sandbox."""

    container: Container
    role: Role
    ledger: ContainerLedger
    instance: Instance | None

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
        """Whether it counts as started (there is no startup probe that would have to succeed)."""
        return self.instance is not None and self.instance.state is InstanceState.RUNNING

    @property
    def is_sidecar(self) -> bool:
        """Whether it is a native sidecar."""
        return self.role is Role.SIDECAR

    @property
    def restart_requested(self) -> bool:
        """Whether somebody asked for a restart that has not happened yet."""
        return self.ledger.stop_requested_at is not None

    def wants_instance(self, pod: Pod) -> bool:
        """Whether it runs, has never run, or has to run again: False once it is done for good."""
        last = self.ledger.last
        if self.alive or last is None or self.restart_requested or self.is_sidecar:
            return True
        return should_restart(pod, self.container, last.exit_code or 0, by_itself=last.state is not InstanceState.LOST)

    def failed_for_good(self, pod: Pod) -> bool:
        """Whether its newest instance failed and it will have no other."""
        last = self.ledger.last
        return last is not None and last.exit_code != 0 and not self.wants_instance(pod)


@dataclass(frozen=True, slots=True)
class Views:
    """The containers of a pod in the order of the manifest."""

    inits: tuple[View, ...]
    mains: tuple[View, ...]

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
        """Whether a main container was begun in this sandbox: finished inits never rerun in it from then on (S-INIT)."""
        return any(view.instance is not None for view in self.mains)

    @property
    def anything_alive(self) -> bool:
        """Whether any container has a process."""
        return any(view.alive for view in self.all)


def views_of(pod: Pod, observed: Observed) -> Views:
    """Join spec and (settled) observation."""

    def view(container: Container, role: Role) -> View:
        ledger = observed.ledgers.get(container.name, ContainerLedger())
        return View(container, role, ledger, observed.current.get(container.name))

    return Views(
        inits=tuple(view(one, Role.SIDECAR if is_sidecar(one) else Role.INIT) for one in pod.spec.initContainers),
        mains=tuple(view(one, Role.MAIN) for one in pod.spec.containers),
    )


@dataclass(frozen=True, slots=True)
class Finish:
    """A pod whose work is over: since when (seconds since the epoch, None = not known), and why."""

    since: float | None
    reason: str


def finish_of(pod: Pod, observed: Observed, views: Views) -> Finish | None:
    """Whether the pod's work is over: an init container failed for good, or no main has anything left to do."""
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
    if views.initialized:
        actions += _restart_sidecars(views.inits, now)
    else:
        position = max((at for at, view in enumerate(views.inits) if view.instance is not None), default=-1)
        # What stands before the newest init that was begun has had its turn; a sidecar there may have died since.
        actions += _restart_sidecars(views.inits[: max(position, 0)], now)
        for at in range(max(position, 0), len(views.inits)):
            view = views.inits[at]
            if view.is_sidecar and view.running:
                continue
            if view.role is Role.INIT and view.instance is not None and _succeeded(view.instance):
                continue
            if not view.alive:
                actions += _start(view, now)
            return actions
    for view in views.mains:
        if not view.alive and view.wants_instance(pod):
            actions += _start(view, now)
    return actions


def _succeeded(instance: Instance) -> bool:
    return instance.state is InstanceState.EXITED and instance.exit_code == 0


def _restart_sidecars(inits: Sequence[View], now: float) -> list[Action]:
    actions: list[Action] = []
    for view in inits:
        if view.is_sidecar and not view.alive:
            actions += _start(view, now)
    return actions


def restart_due(ledger: ContainerLedger, now: float) -> float:
    """When the next instance may begin, as far as the back-off is concerned (S-BACKOFF)."""
    last = ledger.last
    if last is None or last.finished_at is None or ledger.backoff_s <= 0 or ledger.stop_requested_at is not None:
        return now
    return due(last.finished_at, ledger.backoff_s, now)


def _start(view: View, now: float) -> list[Action]:
    ledger = view.ledger
    at = restart_due(ledger, now)
    why = "first start"
    if ledger.last is not None:
        why = f"restart after exit {ledger.last.exit_code}"
        if ledger.stop_requested_at is not None:
            why = ledger.stop_reason or "restart requested"
    if ledger.waiting is not None:
        again = due(ledger.waiting.retry_at - ledger.waiting.delay_s, ledger.waiting.delay_s, now)
        if again > max(at, now):
            return [WakeAt(f"container {view.name}: {ledger.waiting.reason}, to be tried again", again)]
        why += f", tried again after {ledger.waiting.reason}"
    if at > now:
        return [WakeAt(f"container {view.name}: back-off {ledger.backoff_s:g}s", at)]
    return [StartContainer(f"container {view.name}: {why}", view.name, ledger.starts, view.role)]
