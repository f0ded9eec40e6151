"""The QoS class of a pod (S-CGROUP). Source: Kubernetes pkg/apis/core/v1/helper/qos/qos.go."""

from __future__ import annotations

from collections.abc import Iterable

from nsrun.spec.model import Pod, ResourceRequirements
from nsrun.spec.quantity import Quantity, parse

GUARANTEED, BURSTABLE, BEST_EFFORT = "Guaranteed", "Burstable", "BestEffort"

_COUNTED = ("cpu", "memory")
_ZERO = Quantity(0)


def qos_class(pod: Pod) -> str:
    """Guaranteed, Burstable or BestEffort, from the resources of the pod or else of all its containers, inits included."""
    if pod.spec.resources is not None:
        demands = [pod.spec.resources]
    else:
        demands = [container.resources for container in (*pod.spec.containers, *pod.spec.initContainers)]
    requests = _sum(demand.requests for demand in demands)
    limits = _sum(demand.limits for demand in demands)
    if not requests and not limits:
        return BEST_EFFORT
    if requests == limits and all(_limits_everything(demand) for demand in demands):
        return GUARANTEED
    return BURSTABLE


def _limits_everything(demand: ResourceRequirements) -> bool:
    return all(name in demand.limits and parse(demand.limits[name]) > _ZERO for name in _COUNTED)


def _sum(lists: Iterable[dict[str, str]]) -> dict[str, Quantity]:
    total: dict[str, Quantity] = {}
    for one in lists:
        for name in _COUNTED:
            if name in one and (amount := parse(one[name])) > _ZERO:
                total[name] = total.get(name, _ZERO) + amount
    return total
