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
PREEMPTING = "Preempting"
BACK_OFF = "BackOff"
"""Of a container that is not restarted yet, and of an image that is not pulled yet."""
EXCEEDED_GRACE_PERIOD = "ExceededGracePeriod"

# of pods
FAILED_KILL_POD = "FailedKillPod"
FAILED_CREATE_POD_CONTAINER = "FailedCreatePodContainer"
NETWORK_NOT_READY = "NetworkNotReady"
FAILED_SYNC = "FailedSync"
FAILED_VALIDATION = "FailedValidation"
SANDBOX_CHANGED = "SandboxChanged"
FAILED_CREATE_POD_SANDBOX = "FailedCreatePodSandBox"
FAILED_POD_SANDBOX_STATUS = "FailedPodSandBoxStatus"
DEADLINE_EXCEEDED = "DeadlineExceeded"
"""pkg/kubelet/active_deadline.go."""
EVICTED = "Evicted"
"""pkg/kubelet/eviction/helpers.go."""
MISSING_CLUSTER_DNS = "MissingClusterDNS"
"""pkg/kubelet/network/dns/dns.go, as the next two."""
DNS_CONFIG_FORMING = "DNSConfigForming"
CHECK_LIMITS_FOR_RESOLV_CONF = "CheckLimitsForResolvConf"
INVALID_ENVIRONMENT_VARIABLE_NAMES = "InvalidEnvironmentVariableNames"
"""pkg/kubelet/kubelet_pods.go."""

RESIZE_ERROR = "ResizeError"

FAILED_SCHEDULING = "FailedScheduling"
"""pkg/scheduler/schedule_one.go handleSchedulingFailure."""

# of images
PULLING = "Pulling"
PULLED = "Pulled"
INSPECT_FAILED = "InspectFailed"
ERR_IMAGE_NEVER_PULL = "ErrImageNeverPull"
FAILED_TO_RETRIEVE_IMAGE_PULL_SECRET = "FailedToRetrieveImagePullSecret"
"""pkg/kubelet/kubelet_pods.go."""

# of volumes
FAILED_ATTACH_VOLUME = "FailedAttachVolume"
FAILED_MOUNT = "FailedMount"
FAILED_MAP_VOLUME = "FailedMapVolume"
FAILED_UNMOUNT = "FailedUnMount"
ALREADY_MOUNTED_VOLUME = "AlreadyMountedVolume"
SUCCESSFUL_ATTACH_VOLUME = "SuccessfulAttachVolume"
SUCCESSFUL_MOUNT_VOLUME = "SuccessfulMountVolume"

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
