"""A pod's status, computed from what is observed (S-PHASE, S-COND, S-REASONS)."""

from __future__ import annotations

from nsrun.reconcile.model import Observed
from nsrun.reconcile.order import finish_of, views_of
from nsrun.reconcile.settle import settle
from nsrun.spec.model import HostIP, Pod, PodIP, PodStatus
from nsrun.status.conditions import conditions
from nsrun.status.containers import container_statuses
from nsrun.status.phase import TERMINAL, phase_of
from nsrun.status.qos import qos_class
from nsrun.status.times import rfc3339


def pod_status(pod: Pod, observed: Observed, now: float, previous: PodStatus | None = None) -> PodStatus:
    """The PodStatus at `now` (seconds since the epoch).

    `previous` is the status published last (default: the one in `pod`): transition times, reason and message of the
    phase, and addresses of a finished pod are kept from it, and a terminal phase never changes.
    """
    old = previous if previous is not None else pod.status
    observed = settle(pod, observed, now)
    views = views_of(pod, observed)
    finish = finish_of(pod, observed, views)
    inits, mains = container_statuses(pod, observed, views, finish, now)
    statuses = {status.name: status for status in (*inits, *mains)}
    over = not views.anything_alive and (finish is not None or observed.deletion is not None)
    phase = phase_of(pod, views, statuses, over=over)
    if old.phase is not None and (old.phase in TERMINAL or (phase in TERMINAL and views.anything_alive)):
        # Terminal is for ever, and not before everything has ended (kubelet status_manager.go mergePodStatus).
        phase = old.phase
    status = PodStatus(
        observedGeneration=pod.metadata.generation,
        phase=phase,
        conditions=conditions(pod, observed, views, statuses, phase, old.conditions, now),
        startTime=rfc3339(observed.start_time),
        initContainerStatuses=inits,
        containerStatuses=mains,
        qosClass=qos_class(pod),
    )
    if phase == old.phase:
        status.reason, status.message = old.reason, old.message
    if observed.host_ip:
        status.hostIP = observed.host_ip
        status.hostIPs = [HostIP(ip=observed.host_ip)]
    ips = list(observed.sandbox.ips)
    if pod.spec.hostNetwork and observed.host_ip and observed.sandbox.attempt >= 0:
        ips = [observed.host_ip]
    elif not ips and finish is not None:
        ips = [one.ip for one in old.podIPs]
    if ips:
        status.podIP = ips[0]
        status.podIPs = [PodIP(ip=ip) for ip in ips]
    return status
