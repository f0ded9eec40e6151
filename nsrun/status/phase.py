"""The phase of a pod (S-PHASE). Source: kubelet pkg/kubelet/kubelet_pods.go getPhase, generateAPIPodStatus."""

from __future__ import annotations

from collections.abc import Mapping

from nsrun.reconcile.order import View, Views
from nsrun.spec.model import ContainerStateTerminated, ContainerStatus, Pod

PENDING, RUNNING, SUCCEEDED, FAILED = "Pending", "Running", "Succeeded", "Failed"
TERMINAL = (SUCCEEDED, FAILED)


def phase_of(pod: Pod, views: Views, statuses: Mapping[str, ContainerStatus], *, over: bool) -> str:
    """The phase that follows from the container statuses; `over` when nothing runs, and nothing will be started any more."""
    pending = running = waiting = 0
    for view in views.inits:
        status = statuses[view.name]
        end = stopped(status)
        if view.is_sidecar:
            # How a sidecar ends does not matter. One that has not begun yet is waited for like the other inits.
            running += status.state.running is not None
            waiting += status.state.running is None and end is None
            pending += end is None and not status.started and not views.initialized
        elif end is None:
            pending += 1
        elif end.exitCode != 0 and not _retried(pod, view):
            return FAILED
        # An init container that failed and is retried is not pending here: its main containers are waiting.
    ends: list[tuple[View, ContainerStateTerminated, bool]] = []
    for view in views.mains:
        status = statuses[view.name]
        end = stopped(status)
        if status.state.running is not None:
            running += 1
        elif end is not None:
            ends.append((view, end, status.state.terminated is not None))
        else:
            waiting += 1
    if over and (pending or waiting or not ends):
        # It ended before it could begin (kubelet status_manager.go TerminatePod).
        return FAILED
    if pending or waiting:
        return PENDING
    if running:
        return RUNNING
    if not over and any(view.wants_instance(pod) for view, _, _ in ends):
        return RUNNING
    return SUCCEEDED if all(end.exitCode == 0 and ended for _, end, ended in ends) else FAILED


def _retried(pod: Pod, view: View) -> bool:
    return not view.failed_for_good(pod)


def stopped(status: ContainerStatus) -> ContainerStateTerminated | None:
    """How a container that has no process ended: waiting for its next instance counts as stopped, not as waiting."""
    if status.state.terminated is not None:
        return status.state.terminated
    return status.lastState.terminated if status.state.waiting is not None else None
