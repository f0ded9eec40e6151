"""The words that events use (S-EVENTS), and an event as the server keeps it.

Source: kubelet pkg/kubelet/events/event.go; reasons that stand elsewhere name their file.
"""

from __future__ import annotations

from dataclasses import dataclass

NORMAL, WARNING = "Normal", "Warning"

# of containers
CREATED = "Created"
STARTED = "Started"
FAILED = "Failed"
"""A container that could not be made or started, and an image that could not be pulled."""
KILLING = "Killing"
BACK_OFF = "BackOff"
"""Of a container that is not restarted yet, and of an image that is not pulled yet."""

# of pods
FAILED_SYNC = "FailedSync"
FAILED_VALIDATION = "FailedValidation"
SANDBOX_CHANGED = "SandboxChanged"
FAILED_CREATE_POD_SANDBOX = "FailedCreatePodSandBox"
EVICTED = "Evicted"
"""pkg/kubelet/eviction/helpers.go."""

FAILED_SCHEDULING = "FailedScheduling"
"""pkg/scheduler/schedule_one.go handleSchedulingFailure."""
SCHEDULED = "Scheduled"
"""pkg/scheduler/schedule_one.go bindingCycle."""

# of images
PULLING = "Pulling"
PULLED = "Pulled"
INSPECT_FAILED = "InspectFailed"
ERR_IMAGE_NEVER_PULL = "ErrImageNeverPull"
FAILED_TO_RETRIEVE_IMAGE_PULL_SECRET = "FailedToRetrieveImagePullSecret"
"""pkg/kubelet/kubelet_pods.go."""

# of volumes
FAILED_MOUNT = "FailedMount"

# of probes and hooks
UNHEALTHY = "Unhealthy"
PROBE_WARNING = "ProbeWarning"
FAILED_POST_START_HOOK = "FailedPostStartHook"
FAILED_PRE_STOP_HOOK = "FailedPreStopHook"
LIFECYCLE_HTTP_FALLBACK = "LifecycleHTTPFallback"
"""pkg/kubelet/lifecycle/handlers.go."""

# of resizes in place
RESIZE_STARTED = "ResizeStarted"
RESIZE_COMPLETED = "ResizeCompleted"
RESIZE_ERROR = "ResizeError"
RESIZE_INFEASIBLE = "ResizeInfeasible"
RESIZE_DEFERRED = "ResizeDeferred"

# nsrun's own
LOG_BLOCKED = "LogBlocked"


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


def container_path(name: str, *, of: str = "containers") -> str:
    """The fieldPath of an event that is about a container of the pod's list `of` (kubelet pkg/kubelet/container/ref.go)."""
    return f"spec.{of}{{{name}}}"
