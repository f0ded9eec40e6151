"""Which pods have to go for what they took of the disk. Pure: what they took was measured before.

Source: Kubernetes pkg/kubelet/eviction/eviction_manager.go localStorageEviction, helpers.go; pkg/kubelet/types/pod_update.go
IsCriticalPod; staging component-helpers resource PodLimits.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from nsrun.reconcile.model import PodFailure
from nsrun.spec.model import Pod, Volume
from nsrun.spec.quantity import parse
from nsrun.spec.resources import aggregate_limits

REASON = "Evicted"
GRACE_S = 1.0
"""What containers of an evicted pod get; S-TERM makes at least 2 s of it."""
INTERVAL_S = 10.0
"""How often a kubelet looks."""
STORAGE = "ephemeral-storage"
_CRITICAL = 2_000_000_000
"""Pods of this priority are the machine's own, and are never evicted."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What has to be measured of a pod.

    Attributes:
        volumes: names of emptyDirs on disk.
        containers: their writable layers and logs.
    """

    volumes: tuple[str, ...] = ()
    containers: bool = False

    def __bool__(self) -> bool:
        return bool(self.volumes) or self.containers


@dataclass(frozen=True, slots=True)
class DiskUse:
    """Bytes on the disk: of emptyDirs by name, and of containers by name, writable layer and logs together."""

    volumes: Mapping[str, int] = field(default_factory=dict)
    containers: Mapping[str, int] = field(default_factory=dict)


def wanted(pod: Pod, *, static: bool) -> Wanted:
    """What has to be measured of a pod so that it can be told whether it has to go; nothing of one without limits.

    Args:
        pod: defaulted.
        static: it comes from a file of the machine.
    """
    if static or (pod.spec.priority or 0) >= _CRITICAL:
        return Wanted()
    on_disk = [volume for volume in pod.spec.volumes if volume.emptyDir is not None and not volume.emptyDir.medium]
    if STORAGE in aggregate_limits(pod.spec):
        return Wanted(tuple(volume.name for volume in on_disk), containers=True)
    return Wanted(tuple(volume.name for volume in on_disk if _limit(volume)))


def evict(pod: Pod, use: DiskUse, now: float) -> PodFailure | None:
    """Why the pod has to go; None: it need not.

    Args:
        pod: defaulted.
        use: what was measured, of what `wanted` says.
        now: seconds since the epoch.
    """
    message = _exceeded(pod, use)
    return PodFailure(REASON, message, now, GRACE_S) if message else None


def _exceeded(pod: Pod, use: DiskUse) -> str:
    for volume in pod.spec.volumes:
        limit = _limit(volume)
        if limit and use.volumes.get(volume.name, 0) > parse(limit).whole():
            return f'Usage of EmptyDir volume "{volume.name}" exceeds the limit "{limit}". '
    whole = aggregate_limits(pod.spec).get(STORAGE)
    if whole is not None and sum(use.volumes.values()) + sum(use.containers.values()) > whole.whole():
        return f"Pod ephemeral local storage usage exceeds the total limit of containers {whole}. "
    for container in pod.spec.containers:
        own = container.resources.limits.get(STORAGE)
        amount = parse(own).whole() if own is not None else 0
        if amount and use.containers.get(container.name, 0) > amount:
            return f'Container {container.name} exceeded its local ephemeral storage limit "{own}". '
    return ""


def _limit(volume: Volume) -> str:
    """The sizeLimit of an emptyDir on disk; "" for none. One in memory cannot grow beyond its own."""
    source = volume.emptyDir
    if source is None or source.medium or source.sizeLimit is None or parse(source.sizeLimit).whole() <= 0:
        return ""
    return source.sizeLimit
