"""What `pod ls` shows of a pod: the columns of kubectl get pods.

Source: Kubernetes pkg/printers/internalversion/printers.go printPod.
"""

from __future__ import annotations

from dataclasses import dataclass

from nsrun.reconcile.policy import is_sidecar
from nsrun.spec.model import ContainerStatus, Pod, PodStatus
from nsrun.status.conditions import INITIALIZED, READY
from nsrun.status.phase import TERMINAL
from nsrun.status.times import human_duration, seconds_of
from nsrun.waiting import POD_INITIALIZING


@dataclass(frozen=True, slots=True)
class Columns:
    """READY (`1/2`), STATUS, RESTARTS (`3 (5s ago)`), AGE in seconds and in words, and IP (`<none>` when it has none)."""

    ready: str
    status: str
    restarts: str
    age_s: float
    age: str
    ip: str


@dataclass(slots=True)
class _Tally:
    """Restarts, and when the last of them was due to an exit (seconds since the epoch)."""

    restarts: int = 0
    last_at: float | None = None

    def add(self, status: ContainerStatus) -> None:
        self.restarts += status.restartCount
        end = status.lastState.terminated
        if end is not None and end.finishedAt is not None:
            at = seconds_of(end.finishedAt)
            self.last_at = at if self.last_at is None else max(self.last_at, at)


def summary(pod: Pod, status: PodStatus, now: float) -> Columns:
    """The columns of `pod` with `status` at `now` (seconds since the epoch)."""
    reason = status.reason or status.phase or ""
    sidecars = {container.name for container in pod.spec.initContainers if is_sidecar(container)}
    ready = 0
    every_init, sidecars_only = _Tally(), _Tally()
    initializing = ""
    for at, container in enumerate(status.initContainerStatuses):
        every_init.add(container)
        if container.name in sidecars:
            sidecars_only.add(container)
        end = container.state.terminated
        if end is not None and end.exitCode == 0:
            continue
        if container.name in sidecars and container.started:
            ready += container.ready
            continue
        initializing = _init_reason(container, at, len(pod.spec.initContainers))
        break
    tally = every_init
    if initializing:
        reason = initializing
    if not initializing or _holds(status, INITIALIZED):
        tally = sidecars_only
        any_running = False
        for container in reversed(status.containerStatuses):
            tally.add(container)
            state = container.state
            if state.waiting is not None and state.waiting.reason:
                reason = state.waiting.reason
            elif state.terminated is not None:
                reason = _end_reason(container)
            elif container.ready and state.running is not None:
                any_running = True
                ready += 1
        if reason == "Completed" and any_running:
            # One of several mains is done; the pod as a whole is not.
            reason = "Running" if _holds(status, READY) else "NotReady"
    if pod.metadata.deletionTimestamp is not None and status.phase not in TERMINAL:
        reason = "Terminating"
    restarts = str(tally.restarts)
    if tally.restarts and tally.last_at is not None:
        restarts = f"{restarts} ({human_duration(now - tally.last_at)} ago)"
    created = pod.metadata.creationTimestamp
    age_s = now - seconds_of(created) if created is not None else 0.0
    return Columns(
        ready=f"{ready}/{len(pod.spec.containers) + len(sidecars)}",
        status=reason,
        restarts=restarts,
        age_s=age_s,
        age=human_duration(age_s) if created is not None else "<unknown>",
        ip=status.podIP or "<none>",
    )


def _init_reason(container: ContainerStatus, at: int, count: int) -> str:
    state = container.state
    if state.terminated is not None:
        return f"Init:{_end_reason(container)}"
    if state.waiting is not None and state.waiting.reason and state.waiting.reason != POD_INITIALIZING:
        return f"Init:{state.waiting.reason}"
    return f"Init:{at}/{count}"


def _end_reason(container: ContainerStatus) -> str:
    end = container.state.terminated
    assert end is not None
    if end.reason:
        return end.reason
    return f"Signal:{end.signal}" if end.signal else f"ExitCode:{end.exitCode}"


def _holds(status: PodStatus, kind: str) -> bool:
    return any(condition.type == kind and condition.status == "True" for condition in status.conditions)
