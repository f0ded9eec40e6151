"""What happened to a pod, as objects of the API and in the kubelet's words (S-EVENTS)."""

from __future__ import annotations

import uuid
from typing import Any

from nsrun.spec.model import ContainerStatus, ObjectMeta, Pod, PodStatus
from nsrun.status.events import Event, container_path
from nsrun.status.times import rfc3339
from nsrun.waiting import BACKING_OFF

COMPONENT = "nsrun"


def field_path(pod: Pod, container: str) -> str:
    """The fieldPath of an event about a container of the pod; "" is the pod itself."""
    if not container:
        return ""
    if any(one.name == container for one in pod.spec.containers):
        return container_path(container)
    init = any(one.name == container for one in pod.spec.initContainers)
    return container_path(container, of="initContainers" if init else "ephemeralContainers")


def as_object(event: Event, metadata: ObjectMeta, version: str, node: str) -> dict[str, Any]:
    """The event as a core/v1 Event.

    Args:
        event: what happened.
        metadata: of the pod that it is about.
        version: resourceVersion of the pod.
        node: name of this machine.
    """
    involved = {
        "kind": "Pod",
        "namespace": metadata.namespace,
        "name": metadata.name,
        "uid": metadata.uid,
        "apiVersion": "v1",
        "resourceVersion": version,
    }
    if event.field_path:
        involved["fieldPath"] = event.field_path
    name = f"{metadata.name}.{int(event.first_at * 1e9):x}"
    return {
        "kind": "Event",
        "apiVersion": "v1",
        "metadata": {
            "name": name,
            "namespace": metadata.namespace,
            "uid": str(uuid.uuid5(uuid.NAMESPACE_OID, f"{metadata.uid}/{name}")),
            "creationTimestamp": rfc3339(event.first_at),
        },
        "involvedObject": involved,
        "reason": event.reason,
        "message": event.message,
        "source": {"component": COMPONENT, "host": node},
        "firstTimestamp": rfc3339(event.first_at),
        "lastTimestamp": rfc3339(event.last_at),
        "count": event.count,
        "type": event.type,
        "reportingComponent": COMPONENT,
        "reportingInstance": node,
    }


def newly_backing_off(before: PodStatus, after: PodStatus) -> list[str]:
    """The containers that have begun to wait for their next instance between two statuses."""
    known = {one.name for one in _all(before) if _backs_off(one)}
    return [one.name for one in _all(after) if _backs_off(one) and one.name not in known]


def _all(status: PodStatus) -> list[ContainerStatus]:
    return [*status.initContainerStatuses, *status.containerStatuses]


def _backs_off(status: ContainerStatus) -> bool:
    waiting, end = status.state.waiting, status.lastState.terminated
    if waiting is None or end is None or waiting.reason not in BACKING_OFF:
        return False
    # Else its hook has failed, and it is still being stopped.
    return end.containerID == status.containerID
