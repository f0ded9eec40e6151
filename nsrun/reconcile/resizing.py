"""Resizes in place: what is in force while a pod asks for other amounts, and whether the machine has them.

Source: kubelet pkg/kubelet/allocation/allocation_manager.go, pkg/kubelet/events/ (the messages), pkg/kubelet/kubelet_pods.go.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field

import msgspec

from nsrun.reconcile.admission import Facts, out_of_resources, requests_of
from nsrun.spec.model import Container, Pod, ResourceRequirements

POD = ""
"""Among the names of containers, for the amounts of the pod itself."""
INFEASIBLE, DEFERRED, ERROR = "Infeasible", "Deferred", "Error"


@dataclass(frozen=True, slots=True)
class Resize:
    """A change of amounts that is not carried out yet. There may be two: one that is not carried out, and another asked for since.

    Attributes:
        before: what the containers, and the pod (POD), are to have that ask for something else now, which the machine has not been
            found to have.
        actual: what those have that are to have something else.
    """

    before: dict[str, ResourceRequirements] = field(default_factory=dict)
    actual: dict[str, ResourceRequirements] = field(default_factory=dict)

    @property
    def accepted(self) -> bool:
        """The machine has what is asked for, and it is being given to the containers."""
        return not self.before


def in_force(pod: Pod, resize: Resize | None) -> Pod:
    """The pod with the amounts that its containers are to have now."""
    if resize is None or resize.accepted:
        return pod

    def as_before(containers: list[Container]) -> list[Container]:
        return [
            msgspec.structs.replace(one, resources=resize.before[one.name or ""]) if one.name in resize.before else one
            for one in containers
        ]

    spec = msgspec.structs.replace(
        pod.spec, containers=as_before(pod.spec.containers), initContainers=as_before(pod.spec.initContainers)
    )
    if POD in resize.before:
        of_pod = resize.before[POD]
        spec.resources = of_pod if of_pod.requests or of_pod.limits else None
    return msgspec.structs.replace(pod, spec=spec)


def begin(old: Pod, new: Pod, previous: Resize | None) -> Resize | None:
    """The resize from what is to be in force to what is asked for; None: there is none.

    Args:
        old: with the amounts that its containers are to have.
        new: with those that are asked for.
        previous: the one that is not carried out yet.
    """
    before = {
        one.name or "": one.resources
        for one, other in zip(_containers(old), _containers(new), strict=True)
        if one.resources != other.resources
    }
    of_pod, asked = (one.spec.resources or ResourceRequirements() for one in (old, new))
    if of_pod != asked:
        before[POD] = of_pod
    actual = previous.actual if previous is not None else {}
    return Resize(before, actual) if before or actual else None


def accept(resize: Resize) -> Resize:
    """The same where the machine has what is asked for: from now on the containers are to have that."""
    return Resize(actual=resize.before | resize.actual)


def carried_out(resize: Resize) -> Resize | None:
    """What is left when the containers have what they are to have: what was asked for since, if anything."""
    return None if resize.accepted else Resize(resize.before)


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
