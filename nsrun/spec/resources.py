"""Resource names and the sums over a pod's containers.

Source of the rules: kubernetes component-helpers/resource/helpers.go and pkg/apis/core/helper/helpers.go (v1.36).
"""

from __future__ import annotations

from collections.abc import Callable

from nsrun.spec.model import Container, PodSpec
from nsrun.spec.quantity import Quantity, parse

HUGE_PAGES_PREFIX = "hugepages-"
_STANDARD = frozenset({"cpu", "memory", "ephemeral-storage"})
_INTEGER_QUOTA = frozenset(
    {"pods", "services", "replicationcontrollers", "resourcequotas", "secrets", "configmaps"}
    | {"persistentvolumeclaims", "services.nodeports", "services.loadbalancers"}
)


def is_huge_page(name: str) -> bool:
    """``hugepages-2Mi`` and its like."""
    return name.startswith(HUGE_PAGES_PREFIX)


def is_native(name: str) -> bool:
    """A resource of Kubernetes itself: without a domain, or in kubernetes.io's."""
    return "/" not in name or "kubernetes.io/" in name


def is_extended(name: str) -> bool:
    """A resource that a device plugin or an operator advertises (``example.com/dongle``)."""
    if is_native(name) or name.startswith("requests."):
        return False
    from nsrun.spec.names import qualified_name

    return not qualified_name("requests." + name)


def may_overcommit(name: str) -> bool:
    """Whether limits may be above requests."""
    return is_native(name) and not is_huge_page(name)


def is_pod_level(name: str) -> bool:
    """Whether a pod can have an amount of it for itself."""
    return name in ("cpu", "memory") or is_huge_page(name)


def is_standard(name: str) -> bool:
    """Whether a container may name it without a domain."""
    return name in _STANDARD or is_huge_page(name)


def is_integer(name: str) -> bool:
    """Whether fractions of it make no sense."""
    return name in _INTEGER_QUOTA or is_extended(name)


def aggregate_requests(spec: PodSpec) -> dict[str, Quantity]:
    """What the containers need together at most: all main ones and sidecars, or the largest step of the init sequence."""
    return _aggregate(spec, lambda container: container.resources.requests)


def aggregate_limits(spec: PodSpec) -> dict[str, Quantity]:
    """The same for limits."""
    return _aggregate(spec, lambda container: container.resources.limits)


def add_overhead(total: dict[str, Quantity], spec: PodSpec) -> None:
    """Add what the pod costs besides its containers (component-helpers resource.PodRequests)."""
    _add(total, spec.overhead)


def _aggregate(spec: PodSpec, of: Callable[[Container], dict[str, str]]) -> dict[str, Quantity]:
    total: dict[str, Quantity] = {}
    for container in spec.containers:
        _add(total, of(container))
    sidecars: dict[str, Quantity] = {}
    peak: dict[str, Quantity] = {}
    for container in spec.initContainers:
        if container.restartPolicy == "Always":
            _add(total, of(container))
            _add(sidecars, of(container))
            step = sidecars
        else:
            step = dict(sidecars)
            _add(step, of(container))
        _raise(peak, step)
    _raise(total, peak)
    return total


def _add(total: dict[str, Quantity], amounts: dict[str, str]) -> None:
    for name, text in amounts.items():
        amount = parse(text)
        total[name] = total[name] + amount if name in total else amount


def _raise(total: dict[str, Quantity], amounts: dict[str, Quantity]) -> None:
    for name, amount in amounts.items():
        if name not in total or total[name] < amount:
            total[name] = amount
