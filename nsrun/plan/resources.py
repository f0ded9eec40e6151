"""What a pod's requests and limits mean to the kernel (S-CGROUP): shares, quotas and bytes of its cgroups.

Sources: Kubernetes pkg/kubelet/cm/helpers_linux.go (MilliCPUToShares, MilliCPUToQuota, ResourceConfigForPod) for the pod's cgroup,
pkg/kubelet/kuberuntime/kuberuntime_container_linux.go (generateLinuxContainerResources) for a container's.

A pod that names neither cpu nor a limit of memory is left alone: it gets no cgroups of these controllers at all.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from nsrun.plan.inputs import NodeFacts
from nsrun.spec.model import Container, Pod, ResourceRequirements
from nsrun.spec.quantity import parse
from nsrun.spec.resources import HUGE_PAGES_PREFIX, aggregate_limits, aggregate_requests, is_huge_page
from nsrun.status.qos import BEST_EFFORT, GUARANTEED, qos_class

CPU, MEMORY, PIDS, HUGE_PAGES = "cpu", "memory", "pids", "hugetlb"
NODE = NodeFacts()
MIN_SHARES, MAX_SHARES = 2, 262144
"""What the kernel takes (sched.h)."""
SHARES_PER_CPU = 1024
MIN_QUOTA_US = 1000
PERIOD_US = 100_000
MAX_WEIGHT = 10_000


@dataclass(frozen=True, slots=True)
class Limits:
    """What is to be written to one cgroup.

    Attributes:
        controllers: those that must be there for it, `cpu`, `memory`, `pids`, `hugetlb` in this order; without any nothing is written.
        shares: of cpu.shares, 2 to 262144.
        quota_us: microseconds of processor time in each period; 0 is no limit.
        period_us: length of a period.
        memory: bytes; 0 is no limit.
        pids: processes and threads; 0 is no limit.
        huge_pages: bytes by size of the pages, itself in bytes.
        oom_group: one process that is killed for want of memory takes all the others of the cgroup with it (version 2 only).
    """

    controllers: tuple[str, ...] = ()
    shares: int = MIN_SHARES
    quota_us: int = 0
    period_us: int = PERIOD_US
    memory: int = 0
    oom_group: bool = False
    pids: int = 0
    huge_pages: tuple[tuple[int, int], ...] = ()

    @property
    def weight(self) -> int:
        """Shares as version 2's cpu.weight, 1 to 10000."""
        return weight(self.shares)


def shares(milli: int) -> int:
    """cpu.shares for a request in thousandths of a processor."""
    return min(max(milli * SHARES_PER_CPU // 1000, MIN_SHARES), MAX_SHARES)


def weight(of_shares: int) -> int:
    """cpu.weight for cpu.shares (pkg/kubelet/cm/cgroup_manager_linux.go getCPUWeight)."""
    if of_shares >= MAX_SHARES:
        return MAX_WEIGHT
    return 1 + (of_shares - MIN_SHARES) * (MAX_WEIGHT - 1) // (MAX_SHARES - MIN_SHARES)


def quota(milli: int, period_us: int = PERIOD_US) -> int:
    """Microseconds in each period for a limit in thousandths of a processor; 0 for 0, else at least a millisecond."""
    return max(milli * period_us // 1000, MIN_QUOTA_US) if milli else 0


def controllers_for(pod: Pod, node: NodeFacts = NODE) -> tuple[str, ...]:
    """The controllers without which the pod's requests and limits, and those of every pod, would have no effect."""
    demands = _demands(pod)
    wanted = []
    if any(_amount(amounts, CPU, milli=True) for one in demands for amounts in (one.requests, one.limits)):
        wanted.append(CPU)
    if any(_amount(one.limits, MEMORY) for one in demands):
        wanted.append(MEMORY)
    if node.pids_limit:
        wanted.append(PIDS)
    if node.huge_pages or any(is_huge_page(name) for one in demands for name in one.limits):
        wanted.append(HUGE_PAGES)
    return tuple(wanted)


def page_size(name: str) -> int:
    """Bytes of the pages that a resource `hugepages-2Mi` is about."""
    return parse(name.removeprefix(HUGE_PAGES_PREFIX)).whole()


def _pages(limits: dict[str, str], node: NodeFacts) -> tuple[tuple[int, int], ...]:
    """What may be used of each size: nothing of one that is not named (kuberuntime_container_linux.go GetHugepageLimitsFromResources)."""
    found = dict.fromkeys(node.huge_pages, 0)
    found |= {page_size(name): parse(amount).whole() for name, amount in limits.items() if is_huge_page(name)}
    return tuple(sorted(found.items()))


def container_limits(pod: Pod, container: Container, node: NodeFacts = NODE) -> Limits:
    """For the cgroup of an instance of `container`, one of the pod's, of any list.

    Where a container has no limit, that of the pod counts; no request of cpu is as much as its limit.
    """
    controllers = controllers_for(pod, node)
    if not controllers:
        return Limits()
    own = container.resources
    of_pod = pod.spec.resources.limits if pod.spec.resources is not None else {}
    cpu = _amount(own.limits, CPU, milli=True) or _amount(of_pod, CPU, milli=True)
    requested = _amount(own.requests, CPU, milli=True) if CPU in own.requests else cpu
    return Limits(
        controllers=controllers,
        shares=shares(requested),
        quota_us=quota(cpu),
        memory=_amount(own.limits, MEMORY) or _amount(of_pod, MEMORY),
        oom_group=True,
        huge_pages=_pages({**_huge(of_pod), **own.limits}, node),
    )


def pod_limits(pod: Pod, node: NodeFacts = NODE) -> Limits:
    """For the pod's cgroup: the sum of its containers, or what the pod has for itself.

    Sidecars add to the sum, of the other init containers the largest step counts. A limit is one only if everybody has it: else the
    containers without would share what is left of the others'.
    """
    controllers = controllers_for(pod, node)
    if not controllers:
        return Limits()
    qos = qos_class(pod)
    if qos == BEST_EFFORT:
        return Limits(controllers=controllers, pids=node.pids_limit, huge_pages=_pages({}, node))
    requests = {name: str(amount) for name, amount in aggregate_requests(pod.spec).items()}
    limits = {name: str(amount) for name, amount in aggregate_limits(pod.spec).items()}
    own = pod.spec.resources or ResourceRequirements()
    requests |= {name: own.requests[name] for name in (CPU, MEMORY) if name in own.requests}
    limits |= {name: own.limits[name] for name in own.limits if name in (CPU, MEMORY) or is_huge_page(name)}
    everyone = [one.resources for one in (*pod.spec.containers, *pod.spec.initContainers)]
    for amounts in (requests, limits):
        _add_overhead(amounts, pod)
    declared = {
        name: qos == GUARANTEED or bool(_amount(own.limits, name, milli=True)) or _all_limit(everyone, name)
        for name in (CPU, MEMORY)
    }
    return Limits(
        controllers=controllers,
        shares=shares(_amount(requests, CPU, milli=True)),
        quota_us=quota(_amount(limits, CPU, milli=True)) if declared[CPU] else 0,
        memory=_amount(limits, MEMORY) if declared[MEMORY] else 0,
        pids=node.pids_limit,
        huge_pages=_pages(limits, node),
    )


def _add_overhead(amounts: dict[str, str], pod: Pod) -> None:
    """What the pod costs besides its containers comes on top of what there is (kubelet pkg/kubelet/cm/helpers_linux.go)."""
    for name in (CPU, MEMORY):
        if name in amounts and name in pod.spec.overhead:
            amounts[name] = str(parse(amounts[name]) + parse(pod.spec.overhead[name]))


def _huge(limits: dict[str, str]) -> dict[str, str]:
    return {name: amount for name, amount in limits.items() if is_huge_page(name)}


def _demands(pod: Pod) -> list[ResourceRequirements]:
    demands = [one.resources for one in (*pod.spec.containers, *pod.spec.initContainers)]
    return [pod.spec.resources, *demands] if pod.spec.resources is not None else demands


def _all_limit(demands: Iterable[ResourceRequirements], name: str) -> bool:
    return all(_amount(one.limits, name, milli=True) for one in demands)


def _amount(amounts: dict[str, str], name: str, *, milli: bool = False) -> int:
    """Whole units or thousandths of them, rounded up; 0 for what is not named."""
    if name not in amounts:
        return 0
    quantity = parse(amounts[name])
    return quantity.milli() if milli else quantity.whole()
