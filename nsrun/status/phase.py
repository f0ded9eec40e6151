"""The phase of a pod (S-PHASE). Source: kubelet pkg/kubelet/kubelet_pods.go getPhase, generateAPIPodStatus."""

from __future__ import annotations

from collections.abc import Mapping

from nsrun.reconcile.order import View, Views
from nsrun.spec.model import ContainerStateTerminated, ContainerStatus, Pod

PENDING, RUNNING, SUCCEEDED, FAILED = "Pending", "Running", "Succeeded", "Failed"
TERMINAL = (SUCCEEDED, FAILED)


def phase_of(pod: Pod, views: Views, statuses: Mapping[str, ContainerStatus], *, over: bool) -> str:
    """The phase that follows from the container statuses; `over` when nothing will be started any more."""
    for view in views.inits:
        end = stopped(statuses[view.name])
        if not view.is_sidecar and end is not None and end.exitCode != 0 and view.failed_for_good(pod):
            return FAILED
    waiting = running = 0
    ends: list[tuple[View, ContainerStateTerminated]] = []
    for view in views.inits:
        status = statuses[view.name]
        if not view.is_sidecar:
            # An init container that failed and is retried is not pending here: its main containers are waiting.
            waiting += stopped(status) is None
        elif status.state.running is not None:
            running += 1
            # Once a main container was begun in this sandbox, a sidecar that starts up anew does not make it pending again.
            waiting += not (view.started or views.initialized)
        elif stopped(status) is None:
            waiting += 1
    for view in views.mains:
        status = statuses[view.name]
        end = stopped(status)
        if status.state.running is not None:
            running += 1
        elif end is not None:
            ends.append((view, end))
        else:
            waiting += 1
    if waiting:
        return PENDING
    if running:
        return RUNNING
    if not over and any(view.wants_instance(pod) for view, _ in ends):
        return RUNNING
    return SUCCEEDED if all(end.exitCode == 0 for _, end in ends) else FAILED


def stopped(status: ContainerStatus) -> ContainerStateTerminated | None:
    """How a container that has no process ended: waiting for its next instance counts as stopped, not as waiting."""
    if status.state.terminated is not None:
        return status.state.terminated
    return status.lastState.terminated if status.state.waiting is not None else None
