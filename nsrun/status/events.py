"""The words that events use, and how repeated events fold into one (S-EVENTS).

Source: kubelet pkg/kubelet/events/event.go, client-go tools/record/events_cache.go (eventLogger).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

NORMAL, WARNING = "Normal", "Warning"

PULLING = "Pulling"
PULLED = "Pulled"
CREATED = "Created"
STARTED = "Started"
KILLING = "Killing"
BACK_OFF = "BackOff"
FAILED = "Failed"
FAILED_CREATE_POD_SANDBOX = "FailedCreatePodSandBox"
FAILED_KILL_POD = "FailedKillPod"
FAILED_MOUNT = "FailedMount"
FAILED_SYNC = "FailedSync"
SANDBOX_CHANGED = "SandboxChanged"
ERR_IMAGE_NEVER_PULL = "ErrImageNeverPull"
INSPECT_FAILED = "InspectFailed"
MISSING_CLUSTER_DNS = "MissingClusterDNS"

KEPT_S = 3600.0
"""An event that was not repeated for this long is forgotten, as an API server does by default."""


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened to a pod. Times in seconds since the epoch; `field_path` like `spec.containers{web}`."""

    type: str
    reason: str
    message: str
    field_path: str = ""
    count: int = 1
    first_at: float = 0.0
    last_at: float = 0.0

    @property
    def key(self) -> tuple[str, str, str, str]:
        """Events with the same key are one event that happened again."""
        return (self.type, self.reason, self.message, self.field_path)


def fold_event(events: Sequence[Event], new: Event, now: float, *, kept: int = 64) -> tuple[Event, ...]:
    """The events with `new`, which happened at `now`; oldest first by the last time, at most `kept`.

    A repetition grows `count` and `last_at` of the one that is there; `first_at` stays.
    """
    same = next((event for event in events if event.key == new.key and now - event.last_at <= KEPT_S), None)
    first_at, count = (now, 1) if same is None else (same.first_at, same.count + 1)
    added = replace(new, count=count, first_at=first_at, last_at=now)
    others = [event for event in events if event.key != new.key and now - event.last_at <= KEPT_S]
    return (*others, added)[-kept:]


def container_path(name: str, *, init: bool) -> str:
    """The fieldPath of an event that is about a container."""
    return f"spec.{'initContainers' if init else 'containers'}{{{name}}}"
