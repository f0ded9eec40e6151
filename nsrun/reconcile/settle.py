"""What follows from an observation without anybody's doing: ended instances, stops that are due, a deadline that has passed.

Source: kubelet pkg/kubelet/kuberuntime/kuberuntime_manager.go computePodActions (what a running container is killed for),
pkg/kubelet/active_deadline.go. Settling twice gives the same.
"""

from __future__ import annotations

from dataclasses import replace

from nsrun.reconcile.ledger import fold, request_stop
from nsrun.reconcile.model import (
    ContainerLedger,
    Instance,
    InstanceState,
    Observed,
    PodFailure,
    RestartAll,
    SandboxState,
    StopCause,
    StopRequest,
)
from nsrun.reconcile.policy import is_sidecar, restarts_after_kill, restarts_all
from nsrun.spec.model import Container, Pod, Probe

DEADLINE_REASON = "DeadlineExceeded"
DEADLINE_MESSAGE = "Pod was active on the node longer than the specified deadline"
POST_START_MESSAGE = "FailedPostStartHook"


def settle(pod: Pod, observed: Observed, now: float) -> Observed:
    """The same observation with all that follows from it.

    Without a living shim nothing lives: such instances become LOST, ended at `now` unless the ledger already says when.
    Every instance is folded into its container's ledger, and gets a stop there when a probe, its postStart hook or a new
    definition asks for one. The pod fails when its deadline has passed; all its containers are started anew when one exits
    with a code whose rule says so. Instances that were reset are not current any more.
    Store the ledgers, `failure` and `restart_all` of the result when they differ.
    """
    lost = observed.sandbox.state is not SandboxState.READY
    ledgers = dict(observed.ledgers)
    current: dict[str, Instance] = {}
    by_attempt = sorted((*observed.older, *observed.current.values()), key=_attempt)
    older: list[Instance] = []
    for seen in by_attempt:
        instance = seen
        if instance.alive and lost:
            instance = replace(instance, state=InstanceState.LOST)
        if not instance.alive and instance.finished_at is None:
            instance = replace(instance, finished_at=now)
        ledger = fold(ledgers.get(seen.name, ContainerLedger()), instance)
        if ledger.last is not None and ledger.last.id == instance.id:
            # What was noted first stays: a lost container ended when that was noticed.
            instance = ledger.last
        ledgers[seen.name] = ledger
        if observed.current.get(seen.name) is seen and not _was_reset(instance):
            current[seen.name] = instance
        else:
            older.append(instance)
    if observed.sandbox.state is SandboxState.NONE:
        for init in pod.spec.initContainers:
            # The kubelet removes what it remembers of init containers when it makes another sandbox.
            gone = ledgers.get(init.name)
            if gone is not None and gone.last is not None and not gone.afresh:
                ledgers[init.name] = replace(gone, afresh=True)
    restart_all = observed.restart_all
    if observed.deletion is None:
        for container in (*pod.spec.initContainers, *pod.spec.containers):
            newest = current.get(container.name)
            if newest is None:
                continue
            if newest.alive:
                known = ledgers[container.name]
                ledgers[container.name] = _with_stop(pod, container, newest, known, observed, now)
            elif restart_all is None and not observed.terminal and observed.failure is None:
                restart_all = _restart_all(container, newest, now)
    return replace(
        observed,
        current=current,
        older=tuple(older),
        ledgers=ledgers,
        failure=_failure(pod, observed, now),
        restart_all=restart_all,
    )


def _was_reset(instance: Instance) -> bool:
    return not instance.alive and instance.stopped_by is StopCause.RESTART_ALL


def _restart_all(container: Container, instance: Instance, now: float) -> RestartAll | None:
    """All are started anew when a container exited by itself, and a rule says so."""
    if instance.state is not InstanceState.EXITED or instance.stopped_by is not None or instance.stop_at is not None:
        return None
    code = instance.exit_code or 0
    return RestartAll(now, container.name, code) if restarts_all(container, code) else None


def _attempt(instance: Instance) -> int:
    return instance.attempt


def deadline_of(pod: Pod, observed: Observed) -> float | None:
    """When the pod has been active for as long as it may; seconds since the epoch, None = never."""
    allowed_s = pod.spec.activeDeadlineSeconds
    if allowed_s is None or observed.start_time is None:
        return None
    return observed.start_time + allowed_s


def _failure(pod: Pod, observed: Observed, now: float) -> PodFailure | None:
    if observed.failure is not None or observed.terminal or observed.deletion is not None:
        return observed.failure
    deadline = deadline_of(pod, observed)
    if deadline is None or now < deadline:
        return None
    return PodFailure(DEADLINE_REASON, DEADLINE_MESSAGE, now)


def _with_stop(
    pod: Pod, container: Container, instance: Instance, ledger: ContainerLedger, observed: Observed, now: float
) -> ContainerLedger:
    """The ledger of a living instance, with the stop that it has coming."""
    if instance.attempt < observed.changed.get(container.name, 0) and not _asked(ledger, StopCause.CHANGED):
        message = _definition_changed(pod, container)
        if message:
            return request_stop(ledger, StopRequest(now, None, StopCause.CHANGED, message))
    if ledger.stop is not None:
        return ledger
    probes = ledger.probes
    if probes is not None and probes.instance_id == instance.id:
        if not probes.liveness:
            return request_stop(ledger, _probe_stop(pod, container, container.livenessProbe, StopCause.LIVENESS, now))
        if probes.startup is False:
            return request_stop(ledger, _probe_stop(pod, container, container.startupProbe, StopCause.STARTUP, now))
    hook = ledger.post_start
    if hook is not None and hook.instance_id == instance.id and hook.error is not None:
        return request_stop(ledger, StopRequest(now, None, StopCause.POST_START, POST_START_MESSAGE))
    return ledger


def _asked(ledger: ContainerLedger, cause: StopCause) -> bool:
    return ledger.stop is not None and ledger.stop.cause is cause


def _definition_changed(pod: Pod, container: Container) -> str:
    """What the event says of a running container whose definition changed; "": it is left to finish, as plain inits are."""
    if all(container is not one for one in pod.spec.initContainers):
        return f"Container {container.name} definition changed, will be restarted"
    return f"Init container {container.name} definition changed" if is_sidecar(container) else ""


def _probe_stop(pod: Pod, container: Container, probe: Probe | None, cause: StopCause, now: float) -> StopRequest:
    if is_sidecar(container):
        message = f"Init container {container.name} failed {cause.value} probe"
    else:
        message = f"Container {container.name} failed {cause.value} probe"
        if restarts_after_kill(pod, container):
            message += ", will be restarted"
    grace_s = probe.terminationGracePeriodSeconds if probe is not None else None
    return StopRequest(now, None if grace_s is None else float(grace_s), cause, message)
