"""The conditions of a pod (S-COND). Source: kubelet pkg/kubelet/status/generate.go, pkg/kubelet/status/status_manager.go."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from nsrun.reconcile.model import Observed, SandboxState, StopCause
from nsrun.reconcile.order import View, Views
from nsrun.spec.model import ContainerStatus, Pod, PodCondition, PodStatus
from nsrun.status.phase import FAILED, SUCCEEDED
from nsrun.status.times import rfc3339

READY_TO_START = "PodReadyToStartContainers"
INITIALIZED = "Initialized"
READY = "Ready"
CONTAINERS_READY = "ContainersReady"
SCHEDULED = "PodScheduled"
RESTARTING_ALL = "AllContainersRestarting"
RESIZE_PENDING = "PodResizePending"
RESIZE_IN_PROGRESS = "PodResizeInProgress"
OWN = (
    READY_TO_START,
    INITIALIZED,
    READY,
    CONTAINERS_READY,
    SCHEDULED,
    RESTARTING_ALL,
    RESIZE_PENDING,
    RESIZE_IN_PROGRESS,
)


def foreign(previous: Iterable[PodCondition]) -> list[PodCondition]:
    """The conditions that somebody else has set, as they are: those of readiness gates, DisruptionTarget."""
    return [condition for condition in previous if condition.type not in OWN]


def with_condition(status: PodStatus, condition: PodCondition, now: float) -> PodStatus:
    """`status` with a condition that is not nsrun's own, such as a readiness gate's; in the place of one of the same type.

    `lastTransitionTime` is filled in: it stays as long as the condition's status does.
    """
    assert condition.type not in OWN
    before = next((one for one in status.conditions if one.type == condition.type), None)
    kept = before.lastTransitionTime if before is not None and before.status == condition.status else None
    new = msgspec.structs.replace(condition, lastTransitionTime=kept or rfc3339(now))
    others = [new if one is before else one for one in status.conditions]
    return msgspec.structs.replace(status, conditions=others if before is not None else [new, *others])


def conditions(
    pod: Pod,
    observed: Observed,
    views: Views,
    statuses: Mapping[str, ContainerStatus],
    phase: str,
    previous: Iterable[PodCondition],
    now: float,
) -> list[PodCondition]:
    """All conditions in the kubelet's order; a lastTransitionTime stays as long as the status does.

    Conditions of `previous` that are not nsrun's own are kept as they are, in front. `phase` is the one that the pod comes to,
    also while its last containers are being stopped.
    """
    before = {condition.type: condition for condition in previous}
    containers_ready = _containers_ready(views, statuses, phase)
    made = [
        PodCondition(type=READY_TO_START, status=_truth(observed.sandbox.state is SandboxState.READY)),
        _initialized(views, statuses, phase, before.get(INITIALIZED)),
        _ready(pod, containers_ready, before),
        containers_ready,
        PodCondition(type=SCHEDULED, status="True"),
    ]
    if _could_restart_all(pod):
        made.append(_restarting_all(observed, phase))
    made += _resizing(observed)
    for condition in made:
        old = before.get(condition.type)
        kept = old.lastTransitionTime if old is not None and old.status == condition.status else None
        condition.lastTransitionTime = kept or rfc3339(now)
        condition.observedGeneration = pod.metadata.generation
    return foreign(before.values()) + made


def not_scheduled(pod: Pod, message: str, previous: Iterable[PodCondition], now: float) -> list[PodCondition]:
    """The conditions of a pod that waits for a scheduler; those that are not nsrun's own are kept."""
    before = {condition.type: condition for condition in previous}
    old = before.get(SCHEDULED)
    kept = old.lastTransitionTime if old is not None and old.status == "False" else None
    made = PodCondition(
        type=SCHEDULED,
        status="False",
        reason="SchedulingGated" if pod.spec.schedulingGates else "Unschedulable",
        message=message,
        lastTransitionTime=kept or rfc3339(now),
        observedGeneration=pod.metadata.generation,
    )
    return [*foreign(before.values()), made]


def _resizing(observed: Observed) -> list[PodCondition]:
    """What there is of a resize (pkg/kubelet/status/status_manager.go GetPodResizeConditions)."""
    resize = observed.resize
    if resize is None:
        return []
    found = []
    if resize.reason:
        found.append(PodCondition(type=RESIZE_PENDING, status="True", reason=resize.reason, message=resize.message))
    if resize.in_progress:
        reason, message = ("Error", resize.error) if resize.error else (None, None)
        found.append(PodCondition(type=RESIZE_IN_PROGRESS, status="True", reason=reason, message=message))
    return found


def _truth(value: bool) -> str:
    return "True" if value else "False"


def _names(names: list[str]) -> str:
    return f"[{' '.join(names)}]"


def _initialized(
    views: Views, statuses: Mapping[str, ContainerStatus], phase: str, before: PodCondition | None
) -> PodCondition:
    if phase == SUCCEEDED:
        return PodCondition(type=INITIALIZED, status="True", reason="PodCompleted")
    for view in views.mains:
        state = statuses[view.name].state
        if state.running is not None or state.terminated is not None or _was_reset(view):
            return PodCondition(type=INITIALIZED, status="True")
    incomplete = []
    for view in views.inits:
        status = statuses[view.name]
        if not (status.started if view.is_sidecar else status.ready):
            incomplete.append(view.name)
    # Once initialized, a pod is never called uninitialized again, also while all of it is started anew.
    if incomplete and not (before is not None and before.status == "True"):
        return PodCondition(
            type=INITIALIZED,
            status="False",
            reason="ContainersNotInitialized",
            message=f"containers with incomplete status: {_names(incomplete)}",
        )
    return PodCondition(type=INITIALIZED, status="True")


def _was_reset(view: View) -> bool:
    """Whether it ran, and was made to end because all containers are started anew: a pod that was initialized stays so."""
    last = view.ledger.last
    return last is not None and last.stopped_by is StopCause.RESTART_ALL


def _containers_ready(views: Views, statuses: Mapping[str, ContainerStatus], phase: str) -> PodCondition:
    if phase == SUCCEEDED:
        return PodCondition(type=CONTAINERS_READY, status="False", reason="PodCompleted")
    if phase == FAILED:
        return PodCondition(type=CONTAINERS_READY, status="False", reason="PodFailed")
    unready = [view.name for view in (*views.sidecars, *views.mains) if not statuses[view.name].ready]
    if unready:
        return PodCondition(
            type=CONTAINERS_READY,
            status="False",
            reason="ContainersNotReady",
            message=f"containers with unready status: {_names(unready)}",
        )
    return PodCondition(type=CONTAINERS_READY, status="True")


def _ready(pod: Pod, containers_ready: PodCondition, before: Mapping[str, PodCondition]) -> PodCondition:
    if containers_ready.status != "True":
        return PodCondition(
            type=READY,
            status=containers_ready.status,
            reason=containers_ready.reason,
            message=containers_ready.message,
        )
    messages = []
    for gate in pod.spec.readinessGates:
        condition = before.get(gate.conditionType)
        if condition is None:
            messages.append(f'corresponding condition of pod readiness gate "{gate.conditionType}" does not exist.')
        elif condition.status != "True":
            messages.append(
                f'the status of pod readiness gate "{gate.conditionType}" is not "True", but {condition.status}'
            )
    if messages:
        return PodCondition(type=READY, status="False", reason="ReadinessGatesNotReady", message=", ".join(messages))
    return PodCondition(type=READY, status="True")


def _could_restart_all(pod: Pod) -> bool:
    """Whether a rule of some container asks for a restart of all (kubelet: podutil.AllContainersCouldRestart)."""
    return any(
        rule.action == "RestartAllContainers"
        for container in (*pod.spec.initContainers, *pod.spec.containers)
        for rule in container.restartPolicyRules
    )


def _restarting_all(observed: Observed, phase: str) -> PodCondition:
    if phase in (SUCCEEDED, FAILED):
        reason = "PodCompleted" if phase == SUCCEEDED else "PodFailed"
        return PodCondition(type=RESTARTING_ALL, status="False", reason=reason)
    if observed.restart_all is not None:
        return PodCondition(
            type=RESTARTING_ALL,
            status="True",
            reason="RestartAllContainersStarted",
            message="container exited with restart policy rule",
        )
    return PodCondition(type=RESTARTING_ALL, status="False")
