"""The volumes of a pod: where each lies, and what can be said of it without looking."""

from __future__ import annotations

import posixpath

from nsrun.plan.image import HOST_IMAGE_NAMES
from nsrun.plan.inputs import PlanError, VolumeSource
from nsrun.plan.projections import has_own_memory, is_projected
from nsrun.plan.resources import page_size, pod_limits
from nsrun.spec.model import EmptyDirVolumeSource, Pod, Volume
from nsrun.spec.quantity import QuantityError, parse
from nsrun.spec.resources import is_huge_page
from nsrun.waiting import CONFIG_ERROR

MEMORY, HUGE_PAGES = "Memory", "HugePages"
SHARED = ".configmaps"
"""Directory of the volumes that have a tmpfs together, among those that have one each; no name of a volume begins with a dot."""


def volume_sources(pod: Pod, disk: str, memory: str) -> dict[str, VolumeSource]:
    """Where the volumes lie, by name; without those of kinds that nsrun has not: `up --ignore-unsupported` warned of them.

    Args:
        pod: defaulted.
        disk: directory of the pod's volumes that are kept on disk.
        memory: directory of those in memory.
    """
    result: dict[str, VolumeSource] = {}
    for volume in pod.spec.volumes:
        source = volume_source(volume, disk, memory)
        if source is not None:
            result[volume.name] = source
    return result


def volume_source(volume: Volume, disk: str, memory: str) -> VolumeSource | None:
    """Where one volume lies; None for a kind of which the manifest does not say it.

    Of a claim it names the claim: the server alone knows the volume that this is bound to.
    """
    if volume.persistentVolumeClaim is not None:
        claim = volume.persistentVolumeClaim
        return VolumeSource(f"claim:{claim.claimName}", "persistentVolumeClaim", read_only=bool(claim.readOnly))
    if volume.ephemeral is not None:
        return VolumeSource(f"claim:<pod>-{volume.name}", "ephemeral")
    if volume.emptyDir is not None:
        place = memory if in_memory(volume.emptyDir) else disk
        return VolumeSource(f"{place}/{volume.name}", "emptyDir")
    if volume.image is not None:
        if volume.image.reference in HOST_IMAGE_NAMES:
            return None  # no tree to be mounted
        return VolumeSource(f"{memory}/{volume.name}", "image", read_only=True)
    if volume.hostPath is not None:
        return VolumeSource(host_path(volume.hostPath.path), "hostPath", type=volume.hostPath.type or "")
    if is_projected(volume):
        kind = next(
            one for one in ("configMap", "secret", "downwardAPI", "projected") if getattr(volume, one) is not None
        )
        place = memory if has_own_memory(volume) else f"{memory}/{SHARED}"
        return VolumeSource(f"{place}/{volume.name}", kind, read_only=True)
    return None


def host_path(path: str) -> str:
    """The path of the machine that a hostPath names: one without a slash begins at the root, a kubelet's working directory."""
    return posixpath.join("/", path)


def in_memory(source: EmptyDirVolumeSource) -> bool:
    """Whether an emptyDir is a tmpfs, or has huge pages."""
    return source.medium == MEMORY or has_huge_pages(source)


def has_huge_pages(source: EmptyDirVolumeSource) -> bool:
    """Whether an emptyDir is a hugetlbfs."""
    return (source.medium or "").startswith(HUGE_PAGES)


def huge_page_size(pod: Pod, medium: str) -> int:
    """Bytes of the pages of an emptyDir with this medium, HugePages or HugePages-2Mi (emptyDir, getPageSizeMountOption).

    Raises:
        PlanError: CreateContainerConfigError, in the kubelet's words: the pod has not requested such pages, or several sizes.
    """
    requested = [
        page_size(name)
        for container in (*pod.spec.containers, *pod.spec.initContainers)
        for name in container.resources.requests
        if is_huge_page(name)
    ]
    if medium == HUGE_PAGES and len(set(requested)) > 1:
        text = f"medium: {medium} can't be used if container requests multiple huge page sizes"
        raise PlanError(CONFIG_ERROR, text)
    if medium != HUGE_PAGES:
        try:
            wanted = page_size(medium.replace(HUGE_PAGES, "hugepages", 1))
        except QuantityError:
            raise PlanError(CONFIG_ERROR, f'unknown storage medium "{medium}"') from None
        requested = [size for size in requested if size == wanted]
    if not requested:
        text = f"medium {medium}: hugePages storage requested, but there is no resource request for huge pages"
        raise PlanError(CONFIG_ERROR, text)
    return requested[0]


def memory_size(pod: Pod, source: EmptyDirVolumeSource, machine: int) -> int:
    """Bytes of a tmpfs: what the machine, the pod's limits and the volume's own limit leave at most (emptyDir, SizeMemoryBackedVolumes).

    Args:
        machine: bytes of memory that the machine has; 0 if nobody knows.
    """
    sizes = [machine] if machine else []
    limit = pod_limits(pod).memory
    if limit:
        sizes.append(limit)
    own = parse(source.sizeLimit).whole() if source.sizeLimit is not None else 0
    if own > 0:
        sizes.append(own)
    return min(sizes, default=0)
