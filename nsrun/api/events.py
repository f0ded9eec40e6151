"""The two forms of an Event: v1, which is kept, and events.k8s.io/v1.

Source: kubernetes pkg/apis/events/v1/conversion.go, pkg/apis/core/v1/conversion.go (v1.36).
"""

from __future__ import annotations

from typing import Any

_TO_NEWER = {
    "metadata": "metadata",
    "eventTime": "eventTime",
    "series": "series",
    "reportingComponent": "reportingController",
    "reportingInstance": "reportingInstance",
    "action": "action",
    "reason": "reason",
    "involvedObject": "regarding",
    "related": "related",
    "message": "note",
    "type": "type",
    "source": "deprecatedSource",
    "firstTimestamp": "deprecatedFirstTimestamp",
    "lastTimestamp": "deprecatedLastTimestamp",
    "count": "deprecatedCount",
}
NEWER = "events.k8s.io/v1"


def newer(event: dict[str, Any]) -> dict[str, Any]:
    """A v1 Event as events.k8s.io/v1 has it."""
    found: dict[str, Any] = {"kind": "Event", "apiVersion": NEWER}
    for of_core, of_newer in _TO_NEWER.items():
        if of_core in event:
            found[of_newer] = event[of_core]
    found.setdefault("eventTime", None)
    return found


def older(event: dict[str, Any]) -> dict[str, Any]:
    """An events.k8s.io/v1 Event as v1 has it; what neither knows stays, for the validation to see."""
    names = {of_newer: of_core for of_core, of_newer in _TO_NEWER.items()}
    found: dict[str, Any] = {"kind": "Event", "apiVersion": "v1"}
    for name, value in event.items():
        if name not in ("kind", "apiVersion"):
            found[names.get(name, name)] = value
    return found
