"""What happened to a pod, in the kubelet's words (S-EVENTS): bounded, persisted in the pod's ledger."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Literal

from nsrun.state.ledger import EVENTS_KEPT, EventRecord

COMPONENT = "nsrun"

Kind = Literal["Normal", "Warning"]


def rfc3339(seconds: float) -> str:
    """A time as metav1.Time prints it: whole seconds, UTC."""
    return datetime.fromtimestamp(int(seconds), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class EventLog:
    """The events of one pod, oldest first. The list is the ledger's own: whoever saves the ledger saves them.

    Args:
        records: the list to work on.
        on_event: told of each new or repeated event.
    """

    def __init__(self, records: list[EventRecord], on_event: Callable[[EventRecord], None]) -> None:
        self.records = records
        self._on_event = on_event

    def add(self, kind: Kind, reason: str, message: str, now: float, field_path: str = "") -> None:
        """Note an event; the same one again only counts up, as the kubelet's recorder does."""
        for index in range(len(self.records) - 1, -1, -1):
            record = self.records[index]
            if (record.type, record.reason, record.message, record.field_path) == (kind, reason, message, field_path):
                del self.records[index]
                record.count += 1
                record.last_at = now
                break
        else:
            record = EventRecord(
                id=secrets.token_hex(8),
                type=kind,
                reason=reason,
                message=message,
                first_at=now,
                last_at=now,
                field_path=field_path,
            )
        self.records.append(record)
        if len(self.records) > EVENTS_KEPT:
            del self.records[: len(self.records) - EVENTS_KEPT]
        self._on_event(record)


def as_object(record: EventRecord, metadata: dict[str, Any], version: str, node: str) -> dict[str, Any]:
    """The event as a core/v1 Event.

    Args:
        record: the event.
        metadata: of the pod that it is about.
        version: resourceVersion of the pod.
        node: name of this machine.
    """
    involved = {
        "kind": "Pod",
        "namespace": metadata["namespace"],
        "name": metadata["name"],
        "uid": metadata["uid"],
        "apiVersion": "v1",
        "resourceVersion": version,
    }
    if record.field_path:
        involved["fieldPath"] = record.field_path
    return {
        "kind": "Event",
        "apiVersion": "v1",
        "metadata": {
            "name": f"{metadata['name']}.{record.id}",
            "namespace": metadata["namespace"],
            "creationTimestamp": rfc3339(record.first_at),
        },
        "involvedObject": involved,
        "reason": record.reason,
        "message": record.message,
        "source": {"component": COMPONENT, "host": node},
        "firstTimestamp": rfc3339(record.first_at),
        "lastTimestamp": rfc3339(record.last_at),
        "count": record.count,
        "type": record.type,
        "reportingComponent": COMPONENT,
        "reportingInstance": node,
    }
