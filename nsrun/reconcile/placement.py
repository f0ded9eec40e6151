"""Whether a pod's claims let it begin at all: what a cluster's scheduler says before a kubelet hears of the pod.

Source: Kubernetes pkg/scheduler/framework/plugins/volumebinding (podHasPVCs, PreFilter), volumerestrictions (ReadWriteOncePod),
pkg/scheduler/framework/types.go FitError; component-helpers storage/ephemeral.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from nsrun.reconcile.binding import BIND_COMPLETED, BOUND, LOST
from nsrun.spec.model import PersistentVolumeClaim, Pod, Volume

_ONLY_NODE = "0/1 nodes are available:"


def claim_name(pod: Pod, volume: Volume) -> str:
    """The name of the claim that a volume stands for; "" for a volume without one."""
    if volume.persistentVolumeClaim is not None:
        return volume.persistentVolumeClaim.claimName
    return f"{pod.metadata.name}-{volume.name}" if volume.ephemeral is not None else ""


def claim_names(pod: Pod) -> list[str]:
    """The claims that a pod's volumes stand for, in their order."""
    return [name for name in (claim_name(pod, volume) for volume in pod.spec.volumes) if name]


def owned_by(pod: Pod, claim: PersistentVolumeClaim) -> bool:
    """Whether a claim was made for an ephemeral volume of this pod."""
    return any(one.controller and one.uid == pod.metadata.uid for one in claim.metadata.ownerReferences)


def not_owned(pod: Pod, claim: PersistentVolumeClaim) -> str:
    """What is said of a claim that has the name of one of the pod's ephemeral volumes, and is not its own."""
    space = claim.metadata.namespace
    return (
        f"PVC {space}/{claim.metadata.name} was not created for pod {pod.metadata.namespace}/{pod.metadata.name}"
        " (pod is not owner)"
    )


def unschedulable(pod: Pod, claims: Mapping[str, PersistentVolumeClaim], used: Collection[str]) -> str:
    """Why the pod cannot begin yet, in the scheduler's words; "" when it can.

    Args:
        pod: defaulted.
        claims: by name, those of the pod's namespace that it refers to and that are there.
        used: names of claims that other pods use which have begun and have not ended.
    """
    for volume in pod.spec.volumes:
        name = claim_name(pod, volume)
        if not name:
            continue
        claim = claims.get(name)
        if claim is None:
            text = f'persistentvolumeclaim "{name}" not found'
            if volume.ephemeral is not None:
                text = f'waiting for ephemeral volume controller to create the persistentvolumeclaim "{name}"'
            return f"{_ONLY_NODE} {text}."
        if claim.status.phase == LOST:
            text = f'persistentvolumeclaim "{name}" bound to non-existent persistentvolume "{claim.spec.volumeName}"'
            return f"{_ONLY_NODE} {text}."
        if volume.ephemeral is not None and not owned_by(pod, claim):
            return f"{_ONLY_NODE} {not_owned(pod, claim)}."
    wanted = claim_names(pod)
    if any(not _bound(claims[name]) for name in wanted):
        return f"{_ONLY_NODE} pod has unbound immediate PersistentVolumeClaims."
    if any("ReadWriteOncePod" in claims[name].spec.accessModes and name in used for name in wanted):
        text = "node has pod using PersistentVolumeClaim with the same name and ReadWriteOncePod access mode"
        return f"{_ONLY_NODE} 1 {text}."
    return ""


def _bound(claim: PersistentVolumeClaim) -> bool:
    return claim.status.phase == BOUND and BIND_COMPLETED in claim.metadata.annotations
