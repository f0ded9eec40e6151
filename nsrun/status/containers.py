"""The status of each container (S-REASONS, S-BACKOFF, S-COND: started and ready).

Source: kubelet pkg/kubelet/kubelet_pods.go convertToAPIContainerStatuses, pkg/kubelet/prober/prober_manager.go
UpdatePodStatus (without probes: started and ready as soon as it runs), kuberuntime_manager.go doBackOff.
"""

from __future__ import annotations

from nsrun.reconcile.model import Instance, InstanceState, Observed, Role
from nsrun.reconcile.order import Finish, View, Views, restart_due
from nsrun.spec.model import (
    ContainerState,
    ContainerStateRunning,
    ContainerStateTerminated,
    ContainerStateWaiting,
    ContainerStatus,
    Pod,
)
from nsrun.status.times import go_duration, rfc3339

CONTAINER_CREATING = "ContainerCreating"
POD_INITIALIZING = "PodInitializing"
CRASH_LOOP_BACK_OFF = "CrashLoopBackOff"


def container_id(instance: Instance) -> str:
    """The containerID field: type and id."""
    return f"nsrun://{instance.id}"


def pod_in_words(pod: Pod) -> str:
    """A pod as the kubelet names it in messages: name_namespace(uid)."""
    return f"{pod.metadata.name}_{pod.metadata.namespace or 'default'}({pod.metadata.uid or ''})"


def back_off_message(pod: Pod, container: str, delay_s: float) -> str:
    """The message of CrashLoopBackOff."""
    return f"back-off {go_duration(delay_s)} restarting failed container={container} pod={pod_in_words(pod)}"


def container_statuses(
    pod: Pod, observed: Observed, views: Views, finish: Finish | None, now: float
) -> tuple[list[ContainerStatus], list[ContainerStatus]]:
    """The statuses of the init containers and of the mains, in the manifest's order. `observed` is settled."""
    going_on = finish is None and observed.deletion is None
    return (
        [_status(pod, view, views, going_on, now) for view in views.inits],
        [_status(pod, view, views, going_on, now) for view in views.mains],
    )


def _status(pod: Pod, view: View, views: Views, going_on: bool, now: float) -> ContainerStatus:
    ledger, instance = view.ledger, view.instance
    shown = instance if instance is not None else ledger.last
    state, before = _states(pod, view, views, going_on, now)
    running = state.running is not None
    status = ContainerStatus(
        name=view.name,
        state=state,
        lastState=ContainerState(terminated=terminated(before)) if before is not None else ContainerState(),
        restartCount=ledger.restart_count,
        image=view.container.image or "",
        started=running,
        ready=running,
    )
    if shown is not None:
        status.containerID = container_id(shown)
        status.imageID = shown.image_id or ledger.image_id
    if view.role is Role.INIT:
        status.ready = state.terminated is not None and state.terminated.exitCode == 0
    return status


def _states(pod: Pod, view: View, views: Views, going_on: bool, now: float) -> tuple[ContainerState, Instance | None]:
    """The present state, and the dead instance that lastState tells of."""
    ledger, instance = view.ledger, view.instance
    if instance is not None and instance.state is InstanceState.RUNNING:
        return ContainerState(running=ContainerStateRunning(startedAt=rfc3339(instance.started_at))), ledger.last
    not_yet = POD_INITIALIZING if pod.spec.initContainers and not views.initialized else CONTAINER_CREATING
    if instance is not None and instance.alive:
        return _waiting(CONTAINER_CREATING if view.role is Role.MAIN else not_yet), ledger.last
    last = ledger.last
    again = going_on and _runs_again(pod, view)
    if again and ledger.waiting is not None:
        return _waiting(ledger.waiting.reason, ledger.waiting.message), last
    if last is None:
        return _waiting(not_yet), None
    if again and restart_due(view, now) > now:
        message = back_off_message(pod, view.name, ledger.backoff_s)
        return _waiting(CRASH_LOOP_BACK_OFF, message), last
    if again and instance is None:
        # It belongs to a sandbox that is gone, and has not had its turn in the present one.
        return _waiting(not_yet), last
    return ContainerState(terminated=terminated(last)), ledger.previous


def _runs_again(pod: Pod, view: View) -> bool:
    """Whether a container without a process gets another instance in this pod, which is going on."""
    if view.role is Role.INIT:
        return view.instance is None or view.instance.exit_code != 0
    return view.wants_instance(pod)


def _waiting(reason: str, message: str | None = None) -> ContainerState:
    return ContainerState(waiting=ContainerStateWaiting(reason=reason, message=message))


def terminated(instance: Instance) -> ContainerStateTerminated:
    """A dead instance that was folded into its ledger. `signal` stays 0 as under a kubelet: the exit code tells it."""
    return ContainerStateTerminated(
        exitCode=instance.exit_code or 0,
        reason=instance.reason,
        message=instance.message,
        startedAt=rfc3339(instance.started_at),
        finishedAt=rfc3339(instance.finished_at),
        containerID=container_id(instance),
    )
