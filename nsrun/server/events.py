"""What happened to a pod, as objects of the API and in the kubelet's words (S-EVENTS)."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec

from nsrun.reconcile.model import Deletion
from nsrun.spec.model import ContainerStatus, ObjectMeta, Pod, PodStatus
from nsrun.status.events import Event

COMPONENT = "nsrun"


def rfc3339(seconds: float) -> str:
    """A time as metav1.Time prints it: whole seconds, UTC."""
    return datetime.fromtimestamp(int(seconds), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


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
    return {
        "kind": "Event",
        "apiVersion": "v1",
        "metadata": {
            "name": f"{metadata.name}.{int(event.first_at * 1e9):x}",
            "namespace": metadata.namespace,
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


def marked_deleted(pod: Pod, deletion: Deletion) -> Pod:
    """The pod with the metadata of one that is being taken down."""
    metadata = msgspec.structs.replace(
        pod.metadata,
        deletionTimestamp=rfc3339(deletion.requested_at + deletion.grace_s),
        deletionGracePeriodSeconds=int(deletion.grace_s),
    )
    return msgspec.structs.replace(pod, metadata=metadata)


def newly_backing_off(before: PodStatus, after: PodStatus) -> list[str]:
    """The containers that have begun to wait in CrashLoopBackOff between two statuses."""
    known = {one.name for one in _all(before) if _backs_off(one)}
    return [one.name for one in _all(after) if _backs_off(one) and one.name not in known]


def _all(status: PodStatus) -> list[ContainerStatus]:
    return [*status.initContainerStatuses, *status.containerStatuses]


def _backs_off(status: ContainerStatus) -> bool:
    return status.state.waiting is not None and status.state.waiting.reason == "CrashLoopBackOff"
