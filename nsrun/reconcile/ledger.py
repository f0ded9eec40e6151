"""What is remembered of a container, as a pure function of the instances that were seen of it.

The shim writes the record of an instance before its process exists, so everything here can be derived again from records
after the server was killed between starting a container and storing the ledger. Hence: nothing has to be stored before
a start; the ledger has to be stored before a record is removed. All functions may be applied again and again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from nsrun.reconcile.backoff import RESET_S, next_delay
from nsrun.reconcile.model import (
    ContainerLedger,
    HookKind,
    HookRun,
    Instance,
    InstanceState,
    ProbeKind,
    ProbeResults,
    StopCause,
    StopRequest,
)

PROBE_CAUSES = (StopCause.LIVENESS, StopCause.STARTUP)
LOST_EXIT_CODE = 137
LOST_REASON = "ContainerStatusUnknown"
LOST_MESSAGE = "The shim of the pod ended and took the container along; how the container ended is not known"
RESET_EXIT_CODE = 137
RESET_REASON = "RestartingAllContainers"
RESET_MESSAGE = "The container is removed because RestartAllContainers in place"
START_ERROR_EXIT_CODE = 128
START_ERROR_REASON = "StartError"


def begin(ledger: ContainerLedger, attempt: int, at: float | None, instance_id: str = "") -> ContainerLedger:
    """Note that instance number `attempt` was begun at `at` (seconds since the epoch, None = not known yet).

    The back-off moves one step on (S-BACKOFF) when the container has run before and nobody asked for this restart; with a
    new definition it begins anew. After a failed probe the kubelet looks at the instance before the one that it has just
    killed, so that the first of these restarts takes no step.
    """
    if attempt < ledger.starts:
        return ledger
    cause = ledger.stop.cause if ledger.stop is not None else None
    backoff_s = ledger.backoff_s
    if cause is StopCause.CHANGED:
        backoff_s = 0.0
    elif not ledger.afresh and cause is not StopCause.REQUEST and looked_back_at(ledger) is not None:
        backoff_s = next_delay(backoff_s)
    return replace(
        ledger,
        starts=attempt + 1,
        restart_count=attempt,
        backoff_s=backoff_s,
        last_start_at=at,
        instance_id=instance_id,
        waiting=None,
        stop=None,
        post_start=None,
        pre_stop=None,
        probes=None,
        afresh=False,
    )


def looked_back_at(ledger: ContainerLedger) -> Instance | None:
    """The dead instance whose end the back-off of the next one counts from.

    Source: kuberuntime_manager.go SyncPod: a container that is killed for its probe is started again in the same round,
    with what was known before the kill.
    """
    last = ledger.last
    return ledger.previous if last is not None and last.stopped_by in PROBE_CAUSES else last


def fold(ledger: ContainerLedger, instance: Instance) -> ContainerLedger:
    """Note what is seen of `instance`: that it was begun, when it started and, when it is dead, how it ended.

    An instance that the ledger knows already, or knows a successor of, changes nothing.
    """
    seen_at = instance.started_at if instance.started_at is not None else instance.finished_at
    ledger = begin(ledger, instance.attempt, seen_at, instance.id)
    if instance.attempt == ledger.starts - 1 and ledger.last_start_at is None and seen_at is not None:
        ledger = replace(ledger, last_start_at=seen_at)
    if instance.alive or (ledger.last is not None and instance.attempt <= ledger.last.attempt):
        return ledger
    dead = complete(instance, ledger)
    if ledger.stop is not None and instance.attempt == ledger.starts - 1:
        dead = replace(dead, stopped_by=ledger.stop.cause)
    # A command that never ran has no start; its end is as good, and never more than 600 s after it.
    started_at = ledger.last_start_at if instance.attempt == ledger.starts - 1 else instance.started_at
    lived_s = 0.0 if started_at is None or dead.finished_at is None else dead.finished_at - started_at
    return replace(
        ledger,
        last=dead,
        previous=ledger.last,
        backoff_s=0.0 if lived_s > RESET_S and dead.stopped_by not in PROBE_CAUSES else ledger.backoff_s,
    )


def complete(instance: Instance, ledger: ContainerLedger) -> Instance:
    """A dead instance with exit code, reason and image filled in (S-REASONS)."""
    code = instance.exit_code
    if code is None:
        code = START_ERROR_EXIT_CODE if instance.state is InstanceState.START_FAILED else LOST_EXIT_CODE
    reason, message = instance.reason, instance.message
    if reason is None:
        if instance.state is InstanceState.START_FAILED:
            reason = START_ERROR_REASON
        elif instance.state is InstanceState.LOST:
            reason, message = LOST_REASON, message or LOST_MESSAGE
        else:
            reason = "Completed" if code == 0 else "Error"
    return replace(
        instance, exit_code=code, reason=reason, message=message, image_id=instance.image_id or ledger.image_id
    )


def request_stop(ledger: ContainerLedger, request: StopRequest) -> ContainerLedger:
    """Ask that the newest instance is stopped. Settle before, so that it is this instance.

    Asking again before it has happened can only shorten the time that it has; somebody's wish for another instance, or a
    change of the definition, then decides what comes next.
    """
    before = ledger.stop
    if before is None:
        return replace(ledger, stop=request)
    if before.grace_s is None or request.grace_s is None:
        grace_s = before.grace_s if request.grace_s is None else request.grace_s
    else:
        # The time of the first request stays, so that nobody gets the stop signal twice.
        grace_s = min(before.grace_s, request.grace_s)
    cause = min(before.cause, request.cause, key=_WEIGHT.index)
    return replace(ledger, stop=replace(before, grace_s=grace_s, cause=cause))


_WEIGHT = (
    StopCause.RESTART_ALL,
    StopCause.CHANGED,
    StopCause.REQUEST,
    StopCause.LIVENESS,
    StopCause.STARTUP,
    StopCause.POST_START,
)
"""Of two causes the one that stands first here decides what comes after the stop."""


def request_restart(ledger: ContainerLedger, now: float, grace_s: float | None = None) -> ContainerLedger:
    """Ask that the container is stopped and started again, whatever its policy. Settle before, so that it is this instance."""
    return request_stop(ledger, StopRequest(now, grace_s, StopCause.REQUEST, "pod restart"))


def stop_announced(ledger: ContainerLedger, instance_id: str) -> ContainerLedger:
    """Note that everybody was told that this instance is going to be stopped."""
    return ledger if ledger.announced == instance_id else replace(ledger, announced=instance_id)


def reset(ledgers: Mapping[str, ContainerLedger], names: Iterable[str]) -> dict[str, ContainerLedger]:
    """The ledgers once all containers of a pod were stopped to be started anew: how these ended is forgotten (S-RESTARTALL).

    Source: kubelet pkg/kubelet/kubelet_pods.go convertToAPIContainerStatuses, for containers that were removed.
    """
    new = dict(ledgers)
    for name in names:
        ledger = new.get(name)
        if ledger is None or ledger.last is None:
            continue
        last = replace(
            ledger.last,
            state=InstanceState.EXITED,
            started_at=None,
            finished_at=None,
            exit_code=RESET_EXIT_CODE,
            signal=None,
            reason=RESET_REASON,
            message=RESET_MESSAGE,
            stopped_by=StopCause.RESTART_ALL,
        )
        new[name] = replace(ledger, last=last, stop=None, afresh=True)
    return new


def hook_started(ledger: ContainerLedger, kind: HookKind, instance_id: str, now: float) -> ContainerLedger:
    """Note that a hook of the newest instance is about to begin; to be stored before it does. Once per instance."""
    before = _hook(ledger, kind)
    if ledger.instance_id not in ("", instance_id) or (before is not None and before.instance_id == instance_id):
        return ledger
    return _with_hook(ledger, kind, HookRun(instance_id, now))


def hook_finished(
    ledger: ContainerLedger, kind: HookKind, instance_id: str, now: float, error: str | None = None
) -> ContainerLedger:
    """Note how a hook ended. What is not the hook that was noted as begun, or has ended already, changes nothing."""
    before = _hook(ledger, kind)
    if before is None or before.instance_id != instance_id or before.finished_at is not None:
        return ledger
    return _with_hook(ledger, kind, replace(before, finished_at=now, error=error))


def _hook(ledger: ContainerLedger, kind: HookKind) -> HookRun | None:
    return ledger.post_start if kind is HookKind.POST_START else ledger.pre_stop


def _with_hook(ledger: ContainerLedger, kind: HookKind, run: HookRun) -> ContainerLedger:
    return replace(ledger, post_start=run) if kind is HookKind.POST_START else replace(ledger, pre_stop=run)


def probe_result(ledger: ContainerLedger, instance_id: str, kind: ProbeKind, success: bool) -> ContainerLedger:
    """Note what a probe of the newest instance says now; the same object when that is nothing new, or of another one."""
    if ledger.instance_id not in ("", instance_id):
        return ledger
    known = ledger.probes
    if known is None or known.instance_id != instance_id:
        known = ProbeResults(instance_id)
    match kind:
        case ProbeKind.STARTUP:
            new = replace(known, startup=success)
        case ProbeKind.READINESS:
            new = replace(known, readiness=success)
        case ProbeKind.LIVENESS:
            new = replace(known, liveness=success)
    return ledger if new == ledger.probes else replace(ledger, probes=new)
