"""A pod's status, computed from what is observed (S-PHASE, S-COND, S-REASONS)."""

from __future__ import annotations

from nsrun.reconcile.model import Observed
from nsrun.reconcile.order import Finish, finish_of, views_of
from nsrun.reconcile.resizing import POD
from nsrun.reconcile.settle import DEADLINE_REASON, settle
from nsrun.spec.model import HostIP, Pod, PodIP, PodStatus, ResourceRequirements
from nsrun.status.conditions import conditions, foreign, not_scheduled
from nsrun.status.containers import container_statuses
from nsrun.status.phase import FAILED, PENDING, TERMINAL, phase_of
from nsrun.status.qos import qos_class
from nsrun.status.times import rfc3339


def pod_status(pod: Pod, observed: Observed, now: float, previous: PodStatus | None = None) -> PodStatus:
    """The PodStatus at `now` (seconds since the epoch).

    `previous` is the status published last (default: the one in `pod`): transition times, reason and message of the
    phase, and addresses of a finished pod are kept from it, and a terminal phase never changes.
    """
    old = previous if previous is not None else pod.status
    observed = settle(pod, observed, now)
    if _rejected(observed):
        return _rejection(pod, observed, old)
    if observed.unscheduled:
        return _unscheduled(pod, observed, old, now)
    views = views_of(pod, observed)
    finish = finish_of(pod, observed, views)
    statuses = container_statuses(pod, observed, views, finish, now)
    over = not views.anything_alive and (finish is not None or observed.deletion is not None)
    coming = phase_of(pod, views, statuses.by_name, over=over)
    if observed.failure is not None:
        coming = FAILED
    if old.phase in TERMINAL:
        coming = old.phase
    status = PodStatus(
        observedGeneration=pod.metadata.generation,
        # Terminal is for ever, and not before everything has ended (kubelet status_manager.go mergePodStatus).
        phase=old.phase if old.phase is not None and coming in TERMINAL and views.anything_alive else coming,
        conditions=conditions(pod, observed, views, statuses.by_name, coming, old.conditions, now),
        startTime=rfc3339(observed.start_time),
        initContainerStatuses=statuses.inits,
        containerStatuses=statuses.mains,
        ephemeralContainerStatuses=statuses.ephemeral,
        qosClass=qos_class(pod),
    )
    if status.phase == old.phase:
        status.reason, status.message = old.reason, old.message
    elif observed.failure is not None and status.phase == FAILED:
        status.reason, status.message = observed.failure.reason, observed.failure.message
    _place(pod, observed, status, old, finish)
    resources = pod.spec.resources
    if resources is not None:
        had = observed.resize.actual.get(POD, resources) if observed.resize is not None else resources
        status.resources = ResourceRequirements(limits=dict(had.limits), requests=dict(had.requests))
        status.allocatedResources = dict(resources.requests)
    return status


def _unscheduled(pod: Pod, observed: Observed, old: PodStatus, now: float) -> PodStatus:
    """All that a scheduler says of a pod that it cannot place (Kubernetes pkg/scheduler/schedule_one.go handleSchedulingFailure)."""
    return PodStatus(
        observedGeneration=pod.metadata.generation,
        phase=old.phase or PENDING,
        conditions=not_scheduled(pod, observed.unscheduled, old.conditions, now),
        qosClass=qos_class(pod),
    )


def _place(pod: Pod, observed: Observed, status: PodStatus, old: PodStatus, finish: Finish | None) -> None:
    """Fill in the addresses of the machine and of the pod."""
    if observed.host_ips:
        status.hostIP = observed.host_ips[0]
        status.hostIPs = [HostIP(ip=ip) for ip in observed.host_ips]
    ips = list(observed.sandbox.ips)
    if pod.spec.hostNetwork and observed.host_ips and observed.sandbox.attempt >= 0:
        ips = list(observed.host_ips)
    elif not ips and finish is not None:
        ips = [one.ip for one in old.podIPs]
    if ips:
        status.podIP = ips[0]
        status.podIPs = [PodIP(ip=ip) for ip in ips]


def _rejected(observed: Observed) -> bool:
    """Whether the pod was refused before anything of it was begun (S-ADMIT); a deadline only ends what was taken on."""
    failure = observed.failure
    return (
        failure is not None
        and failure.reason != DEADLINE_REASON
        and observed.sandbox.attempt < 0
        and not any(ledger.starts for ledger in observed.ledgers.values())
    )


def _rejection(pod: Pod, observed: Observed, old: PodStatus) -> PodStatus:
    """All that is said of a refused pod (kubelet.go rejectPod): nothing about containers, and no condition but others'."""
    assert observed.failure is not None
    return PodStatus(
        observedGeneration=pod.metadata.generation,
        phase=FAILED,
        reason=observed.failure.reason,
        message=observed.failure.message,
        conditions=foreign(old.conditions),
        startTime=rfc3339(observed.start_time),
        qosClass=qos_class(pod),
    )
