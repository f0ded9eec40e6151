"""Resizes in place: what is in force while a pod asks for other amounts, and whether the machine has them.

Source: kubelet pkg/kubelet/allocation/allocation_manager.go, pkg/kubelet/events/ (the messages), pkg/kubelet/kubelet_pods.go.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field

import msgspec

from nsrun.reconcile.admission import Facts, out_of_resources, requests_of
from nsrun.spec.model import Container, Pod, ResourceRequirements

INFEASIBLE, DEFERRED, ERROR = "Infeasible", "Deferred", "Error"


@dataclass(frozen=True, slots=True)
class Resize:
    """A change of amounts that is not carried out yet.

    Attributes:
        before: what the containers have that ask for something else now.
        accepted: the machine has what they ask for, and it is being given to them.
    """

    before: dict[str, ResourceRequirements] = field(default_factory=dict)
    accepted: bool = False


def in_force(pod: Pod, resize: Resize | None) -> Pod:
    """The pod with the amounts that its containers are to have now."""
    if resize is None or resize.accepted or not resize.before:
        return pod

    def as_before(containers: list[Container]) -> list[Container]:
        return [
            msgspec.structs.replace(one, resources=resize.before[one.name or ""]) if one.name in resize.before else one
            for one in containers
        ]

    spec = msgspec.structs.replace(
        pod.spec, containers=as_before(pod.spec.containers), initContainers=as_before(pod.spec.initContainers)
    )
    return msgspec.structs.replace(pod, spec=spec)


def begin(old: Pod, new: Pod) -> Resize | None:
    """The resize from what is in force to what is asked for; None: there is none."""
    before = {
        one.name or "": one.resources
        for one, other in zip(_containers(old), _containers(new), strict=True)
        if one.resources != other.resources
    }
    return Resize(before) if before else None


def verdict(pod: Pod, facts: Facts) -> tuple[str, str] | None:
    """Reason and message where the machine cannot give a pod what it asks for; None where it can.

    Args:
        pod: as it is asked for.
        facts: of the machine and its other pods.
    """
    wanted, capacity = requests_of(pod), facts.capacity
    for name, requested, most in (("memory", wanted.memory, capacity.memory), ("cpu", wanted.cpu, capacity.cpu)):
        if requested > most:
            text = f"{name}, requested: {requested}, capacity: {most}"
            return INFEASIBLE, f"Node didn't have enough capacity: {text}"
    for _reason, message in out_of_resources(pod, facts):
        return DEFERRED, message
    return None


def summary(prefix: str, pod: Pod, error: str = "") -> str:
    """The message of an event about a resize: what all containers ask for, as data."""

    def listed(containers: list[Container]) -> list[dict[str, object]]:
        return [{"name": one.name, "resources": _plain(one.resources)} for one in containers]

    found: dict[str, object] = {}
    if pod.spec.initContainers:
        found["initContainers"] = listed(pod.spec.initContainers)
    found["containers"] = listed(pod.spec.containers)
    found["generation"] = pod.metadata.generation or 0
    if error:
        found["error"] = error
    return f"{prefix}: {json.dumps(found, separators=(',', ':'), ensure_ascii=False)}"


def _plain(resources: ResourceRequirements) -> dict[str, object]:
    amounts = {"limits": resources.limits, "requests": resources.requests}
    return {name: dict(sorted(one.items())) for name, one in amounts.items() if one}


def _containers(pod: Pod) -> list[Container]:
    return [*pod.spec.initContainers, *pod.spec.containers]
