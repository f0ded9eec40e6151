"""Events of core/v1 and of events.k8s.io/v1 are the same objects with other names for their fields.

Source: kubernetes pkg/apis/events/v1/conversion.go (v1.36).
"""

from __future__ import annotations

from typing import Any

GROUP_VERSION = "events.k8s.io/v1"
_NAMES = {
    "regarding": "involvedObject",
    "note": "message",
    "reportingController": "reportingComponent",
    "deprecatedSource": "source",
    "deprecatedFirstTimestamp": "firstTimestamp",
    "deprecatedLastTimestamp": "lastTimestamp",
    "deprecatedCount": "count",
}
"""The core's name of each field that has another one."""
_BACK = {core: name for name, core in _NAMES.items()}


def to_core(event: dict[str, Any]) -> dict[str, Any]:
    """An Event of events.k8s.io/v1 as one of core/v1, in JSON terms."""
    return {**{_NAMES.get(name, name): value for name, value in event.items()}, "apiVersion": "v1"}


def from_core(event: dict[str, Any]) -> dict[str, Any]:
    """An Event of core/v1 as one of events.k8s.io/v1, in JSON terms."""
    return {**{_BACK.get(name, name): value for name, value in event.items()}, "apiVersion": GROUP_VERSION}
