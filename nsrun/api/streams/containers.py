"""Which container of a Pod is meant, and whether anything can be asked of it (kubernetes pkg/registry/core/pod, pkg/kubelet)."""

from __future__ import annotations

from typing import Any

LISTS = ("initContainers", "containers", "ephemeralContainers")


class Refused(Exception):  # noqa: N818 - an answer to the client, not an error of ours
    """Not this container; the text is the API server's."""


def chosen(pod: dict[str, Any], wanted: str) -> str:
    """The container's name: the wanted one, or the only one.

    Raises:
        Refused: there is none of that name, or there are several (pod strategy's validateContainer).
    """
    spec, name = pod.get("spec") or {}, pod["metadata"]["name"]
    every = [str(one["name"]) for kind in LISTS for one in spec.get(kind) or []]
    if wanted:
        if wanted not in every:
            raise Refused(f"container {wanted} is not valid for pod {name}")
        return wanted
    main = spec.get("containers") or []
    if len(main) == 1:
        return str(main[0]["name"])
    raise Refused(f"a container name must be specified for pod {name}, choose one of: [{' '.join(every)}]")


def spec_of(pod: dict[str, Any], container: str) -> dict[str, Any]:
    """The container's spec."""
    every = (one for kind in LISTS for one in (pod.get("spec") or {}).get(kind) or [])
    return next((one for one in every if one["name"] == container), {})


def status_of(pod: dict[str, Any], container: str) -> dict[str, Any] | None:
    """The container's published status, if it has one."""
    status = pod.get("status") or {}
    kinds = ("initContainerStatuses", "containerStatuses", "ephemeralContainerStatuses")
    every = (one for kind in kinds for one in status.get(kind) or [])
    return next((one for one in every if one["name"] == container), None)


def runs(pod: dict[str, Any], container: str) -> bool:
    """Whether it runs now."""
    return "running" in ((status_of(pod, container) or {}).get("state") or {})


def why_no_log(pod: dict[str, Any], container: str, *, previous: bool) -> str | None:
    """Why the container has no log to read (kubelet_pods.go validateContainerLogStatus), or None."""
    name = pod["metadata"]["name"]
    known = status_of(pod, container)
    if known is None:
        return f'container "{container}" in pod "{name}" is not available'
    state, last = known.get("state") or {}, (known.get("lastState") or {}).get("terminated")
    if previous:
        there = last is not None and last.get("containerID")
        return None if there else f'previous terminated container "{container}" in pod "{name}" not found'
    if "running" in state:
        return None
    if "terminated" in state:
        ended = state["terminated"]
        there = ended.get("containerID") or (last is not None and last.get("containerID"))
        return None if there else f'container "{container}" in pod "{name}" is terminated'
    if last is not None:
        return None if last.get("containerID") else f'container "{container}" in pod "{name}" is terminated'
    waiting = state.get("waiting")
    if waiting is None:
        return f'container "{container}" in pod "{name}" is waiting to start - no logs yet'
    reason = waiting.get("reason") or ""
    pulling = {"ErrImagePull": "image can't be pulled", "ImagePullBackOff": "trying and failing to pull image"}
    return f'container "{container}" in pod "{name}" is waiting to start: {pulling.get(reason, reason)}'
