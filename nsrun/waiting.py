"""Why a container waits, in the kubelet's words: the reasons of `state.waiting` (S-REASONS).

Source: kubelet pkg/kubelet/container/sync_result.go, pkg/kubelet/images/types.go, pkg/kubelet/kuberuntime/kuberuntime_container.go,
pkg/kubelet/kubelet_pods.go.
"""

from __future__ import annotations

CONTAINER_CREATING = "ContainerCreating"
POD_INITIALIZING = "PodInitializing"

CONFIG_ERROR = "CreateContainerConfigError"
"""Its manifest refers to what is not there, or asks for what cannot be."""
CREATE_CONTAINER_ERROR = "CreateContainerError"
RUN_CONTAINER_ERROR = "RunContainerError"
POST_START_HOOK_ERROR = "PostStartHookError"
CRASH_LOOP_BACK_OFF = "CrashLoopBackOff"

INVALID_IMAGE_NAME = "InvalidImageName"
IMAGE_INSPECT_ERROR = "ImageInspectError"
ERR_IMAGE_NEVER_PULL = "ErrImageNeverPull"
ERR_IMAGE_PULL = "ErrImagePull"
IMAGE_PULL_BACK_OFF = "ImagePullBackOff"

BACKING_OFF = (CRASH_LOOP_BACK_OFF, RUN_CONTAINER_ERROR, POST_START_HOOK_ERROR)
"""After an instance that has ended."""
HOPELESS = frozenset(
    {
        *BACKING_OFF,
        CONFIG_ERROR,
        CREATE_CONTAINER_ERROR,
        ERR_IMAGE_NEVER_PULL,
        ERR_IMAGE_PULL,
        IMAGE_INSPECT_ERROR,
        IMAGE_PULL_BACK_OFF,
        INVALID_IMAGE_NAME,
    }
)
"""Whoever waits for the pod wants to hear of it at once: it does not pass by itself."""
