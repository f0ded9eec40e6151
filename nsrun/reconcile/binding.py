"""Which claim gets which volume: one step at a time, from what is kept. Pure: no clock, no input or output.

Each step is one object replaced or removed, or one directory made, and says all that the next one needs: whoever is killed between two
of them, the next who asks goes on. Source: Kubernetes pkg/controller/volume/persistentvolume/pv_controller.go syncClaim, syncVolume,
bind, index.go findByClaim, pkg/volume/util FindMatchingVolume, checkVolumeSatisfyClaim (component-helpers storage/volume pv_helpers.go).

What differs: a claim that names no class at all takes a volume without a class if one fits, and only else gets one of the default class
(a cluster with a default class never looks at the former); and every volume of a class of nsrun's own is made at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import msgspec

from nsrun.spec.model import (
    LabelSelector,
    LocalVolumeSource,
    NodeSelector,
    NodeSelectorRequirement,
    NodeSelectorTerm,
    ObjectMeta,
    ObjectReference,
    PersistentVolume,
    PersistentVolumeClaim,
    PersistentVolumeClaimStatus,
    PersistentVolumeSpec,
    PersistentVolumeStatus,
    VolumeNodeAffinity,
)
from nsrun.spec.quantity import parse

DEFAULT_CLASS = "nsrun"
"""The class that claims get which name none; its volumes are directories of nsrun's own."""
PROVISIONED_BY = "pv.kubernetes.io/provisioned-by"
BIND_COMPLETED = "pv.kubernetes.io/bind-completed"
BOUND_BY_CONTROLLER = "pv.kubernetes.io/bound-by-controller"
BETA_CLASS = "volume.beta.kubernetes.io/storage-class"
PENDING, BOUND, LOST = "Pending", "Bound", "Lost"
AVAILABLE, RELEASED, FAILED = "Available", "Released", "Failed"
HOSTNAME = "kubernetes.io/hostname"
STORAGE = "storage"
_YES = "yes"

Key = tuple[str, str]
"""Namespace and name of a claim."""


@dataclass(frozen=True, slots=True)
class PutVolume:
    """Keep this volume; its directory, if it has one of nsrun's own, is to be there before."""

    volume: PersistentVolume


@dataclass(frozen=True, slots=True)
class PutClaim:
    """Keep this claim."""

    claim: PersistentVolumeClaim


@dataclass(frozen=True, slots=True)
class RemoveVolume:
    """Remove what is in a volume of nsrun's own, then the object."""

    name: str


Step = PutVolume | PutClaim | RemoveVolume


@dataclass(frozen=True, slots=True)
class Machine:
    """What binding depends on besides the objects.

    Attributes:
        node: the machine's name.
        directory: where volumes of nsrun's own lie, each below its name.
        classes: names of storage classes besides `DEFAULT_CLASS` whose volumes are nsrun's own, too.
        room: bytes of the file system that they are on; 0 where nobody knows.
    """

    node: str
    directory: str
    classes: frozenset[str] = frozenset()
    room: int = 0


@dataclass(slots=True)
class Binding:
    """What is to be done next, and why claims are not bound.

    Attributes:
        steps: in their order.
        reasons: reason and message of the event that a claim gets from Kubernetes' controller, of claims that stay unbound.
    """

    steps: list[Step] = field(default_factory=list)
    reasons: dict[Key, tuple[str, str]] = field(default_factory=dict)


def own(volume: PersistentVolume) -> bool:
    """Whether a volume is one of nsrun's own: made for a claim, and its directory is removed with it."""
    return volume.metadata.annotations.get(PROVISIONED_BY) == "nsrun"


def class_of_claim(claim: PersistentVolumeClaim) -> str | None:
    """The storage class that a claim asks for; None: it names none, "" is one without a class."""
    return claim.metadata.annotations.get(BETA_CLASS, claim.spec.storageClassName)


def class_of_volume(volume: PersistentVolume) -> str:
    """The storage class of a volume."""
    return volume.metadata.annotations.get(BETA_CLASS, volume.spec.storageClassName or "")


def key_of(claim: PersistentVolumeClaim) -> Key:
    """Namespace and name."""
    return claim.metadata.namespace or "default", claim.metadata.name or ""


def capacity(volume: PersistentVolume) -> int:
    """Bytes."""
    return parse(volume.spec.capacity.get(STORAGE, "0")).whole()


def requested(claim: PersistentVolumeClaim) -> int:
    """Bytes."""
    return parse(claim.spec.resources.requests.get(STORAGE, "0")).whole()


def bind(claims: Iterable[PersistentVolumeClaim], volumes: Iterable[PersistentVolume], machine: Machine) -> Binding:
    """What is to be done about the claims and volumes there are.

    Carry the steps out, then ask again until there are none.
    """
    result = Binding()
    by_key = {key_of(claim): claim for claim in claims}
    by_name = {volume.metadata.name or "": volume for volume in volumes}
    for volume in list(by_name.values()):
        _sync_volume(volume, by_key, by_name, result)
    for claim in by_key.values():
        _sync_claim(claim, by_name, machine, result)
    return result


# volumes


def _sync_volume(
    volume: PersistentVolume,
    claims: Mapping[Key, PersistentVolumeClaim],
    volumes: dict[str, PersistentVolume],
    result: Binding,
) -> None:
    name, reference = volume.metadata.name or "", volume.spec.claimRef
    if reference is None or not reference.uid:
        _phase(volume, AVAILABLE, volumes, result)
        return
    claim = claims.get((reference.namespace or "default", reference.name or ""))
    if claim is None or claim.metadata.uid != reference.uid:
        _release(volume, volumes, result)
    elif not claim.spec.volumeName:
        return  # the claim finds it
    elif claim.spec.volumeName == name:
        _phase(volume, BOUND, volumes, result)
    elif own(volume):
        _release(volume, volumes, result)
    else:
        # Somebody's claim was bound to another one while this one was being bound to it.
        spec = msgspec.structs.replace(volume.spec, claimRef=None)
        if BOUND_BY_CONTROLLER not in volume.metadata.annotations:
            spec.claimRef = msgspec.structs.replace(reference, uid=None, resourceVersion=None)
        _put_volume(
            msgspec.structs.replace(volume, spec=spec, status=PersistentVolumeStatus(phase=AVAILABLE)), volumes, result
        )


def _release(volume: PersistentVolume, volumes: dict[str, PersistentVolume], result: Binding) -> None:
    name = volume.metadata.name or ""
    if volume.spec.persistentVolumeReclaimPolicy != "Delete":
        _phase(volume, RELEASED, volumes, result)
    elif own(volume):
        result.steps.append(RemoveVolume(name))
        del volumes[name]
    else:
        # Of somebody else's directory nothing is ever removed.
        text = f'error getting deleter volume plugin for volume "{name}": no deletable volume plugin matched'
        _phase(volume, FAILED, volumes, result, text)


def _phase(
    volume: PersistentVolume,
    phase: str,
    volumes: dict[str, PersistentVolume],
    result: Binding,
    message: str | None = None,
) -> None:
    if (volume.status.phase, volume.status.message) != (phase, message):
        status = msgspec.structs.replace(volume.status, phase=phase, message=message)
        _put_volume(msgspec.structs.replace(volume, status=status), volumes, result)


def _put_volume(volume: PersistentVolume, volumes: dict[str, PersistentVolume], result: Binding) -> None:
    volumes[volume.metadata.name or ""] = volume
    result.steps.append(PutVolume(volume))


# claims


def _sync_claim(
    claim: PersistentVolumeClaim, volumes: dict[str, PersistentVolume], machine: Machine, result: Binding
) -> None:
    if BIND_COMPLETED in claim.metadata.annotations:
        _sync_bound(claim, volumes, result)
    elif claim.spec.volumeName:
        _sync_wanted(claim, volumes, result)
    else:
        _sync_unbound(claim, volumes, machine, result)


def _sync_bound(claim: PersistentVolumeClaim, volumes: dict[str, PersistentVolume], result: Binding) -> None:
    volume = volumes.get(claim.spec.volumeName or "")
    if volume is None:
        _lose(claim, "ClaimLost", "Bound claim has lost its PersistentVolume. Data on the volume is lost!", result)
    elif volume.spec.claimRef is not None and volume.spec.claimRef.uid not in (None, claim.metadata.uid):
        text = "Two claims are bound to the same volume, this one is bound incorrectly"
        _lose(claim, "ClaimMisbound", text, result)
    else:
        _bind(claim, volume, volumes, result)


def _lose(claim: PersistentVolumeClaim, reason: str, message: str, result: Binding) -> None:
    result.reasons[key_of(claim)] = reason, message
    if claim.status.phase != LOST:
        status = PersistentVolumeClaimStatus(phase=LOST)
        result.steps.append(PutClaim(msgspec.structs.replace(claim, status=status)))


def _sync_wanted(claim: PersistentVolumeClaim, volumes: dict[str, PersistentVolume], result: Binding) -> None:
    """A claim that names its volume, or was being bound when whoever did it was killed."""
    name = claim.spec.volumeName or ""
    volume = volumes.get(name)
    if volume is None:
        text = f'persistentvolume "{name}" not found'
    elif volume.spec.claimRef is not None and not _is_for(volume, claim):
        text = f'volume "{name}" already bound to a different claim.'
    elif problem := _mismatch(volume, claim):
        result.reasons[key_of(claim)] = "VolumeMismatch", f'Cannot bind to requested volume "{name}": {problem}'
        return
    else:
        _bind(claim, volume, volumes, result)
        return
    result.reasons[key_of(claim)] = "FailedBinding", text


def _mismatch(volume: PersistentVolume, claim: PersistentVolumeClaim) -> str:
    if capacity(volume) < requested(claim):
        return "requested PV is too small"
    wanted = class_of_claim(claim)
    if class_of_volume(volume) != (wanted or ""):
        return "storageClassName does not match"
    if volume.spec.volumeMode != claim.spec.volumeMode:
        return "incompatible volumeMode"
    if not set(claim.spec.accessModes) <= set(volume.spec.accessModes):
        return "incompatible accessMode"
    return ""


def _is_for(volume: PersistentVolume, claim: PersistentVolumeClaim) -> bool:
    """Whether a volume's claimRef means this claim (IsVolumeBoundToClaim)."""
    reference = volume.spec.claimRef
    return (
        reference is not None
        and (reference.namespace or "default", reference.name) == key_of(claim)
        and reference.uid in (None, "", claim.metadata.uid)
    )


def _sync_unbound(
    claim: PersistentVolumeClaim, volumes: dict[str, PersistentVolume], machine: Machine, result: Binding
) -> None:
    wanted = class_of_claim(claim)
    volume = _best(claim, volumes.values(), wanted or "")
    if volume is None and wanted is None:
        wanted = DEFAULT_CLASS
        volume = _best(claim, volumes.values(), wanted)
    if volume is not None:
        _bind(claim, volume, volumes, result)
    elif not wanted:
        text = "no persistent volumes available for this claim and no storage class is set"
        result.reasons[key_of(claim)] = "FailedBinding", text
    elif wanted != DEFAULT_CLASS and wanted not in machine.classes:
        text = f'storageclass.storage.k8s.io "{wanted}" not found'
        result.reasons[key_of(claim)] = "ProvisioningFailed", text
    elif problem := _not_provisioned(claim, machine):
        text = f'failed to provision volume with StorageClass "{wanted}": {problem}'
        result.reasons[key_of(claim)] = "ProvisioningFailed", text
    else:
        made = _provision(claim, wanted, machine)
        _put_volume(made, volumes, result)
        _bind(claim, made, volumes, result)


def _best(claim: PersistentVolumeClaim, volumes: Iterable[PersistentVolume], wanted: str) -> PersistentVolume | None:
    """The volume that fits best: one that was made for this claim, else as few access modes more as possible, then the smallest."""
    modes, size = set(claim.spec.accessModes), requested(claim)
    fitting: list[PersistentVolume] = []
    for volume in volumes:
        if volume.spec.volumeMode != claim.spec.volumeMode or capacity(volume) < size:
            continue
        if _is_for(volume, claim):
            return volume
        if (
            volume.spec.claimRef is None
            and volume.status.phase == AVAILABLE
            and class_of_volume(volume) == wanted
            and modes <= set(volume.spec.accessModes)
            and selects(claim.spec.selector, volume.metadata.labels)
        ):
            fitting.append(volume)
    return min(
        fitting,
        key=lambda one: (len(set(one.spec.accessModes)), capacity(one), one.metadata.name or ""),
        default=None,
    )


def selects(selector: LabelSelector | None, labels: Mapping[str, str]) -> bool:
    """Whether a label selector means something with these labels; none at all means everything."""
    if selector is None:
        return True
    if any(labels.get(key) != value for key, value in selector.matchLabels.items()):
        return False
    for one in selector.matchExpressions:
        there = one.key in labels
        match one.operator:
            case "In":
                fits = there and labels[one.key] in one.values
            case "NotIn":
                fits = not there or labels[one.key] not in one.values
            case "Exists":
                fits = there
            case _:
                fits = not there
        if not fits:
            return False
    return True


def _not_provisioned(claim: PersistentVolumeClaim, machine: Machine) -> str:
    if claim.spec.selector is not None:
        return "claim.Spec.Selector is not supported"
    if machine.room and requested(claim) > machine.room:
        size = claim.spec.resources.requests[STORAGE]
        return f"{size} are requested, and the file system of {machine.directory} has {machine.room} bytes in all"
    return ""


def _provision(claim: PersistentVolumeClaim, class_name: str, machine: Machine) -> PersistentVolume:
    name = f"pvc-{claim.metadata.uid}"
    here = NodeSelectorRequirement(key=HOSTNAME, operator="In", values=[machine.node])
    term = NodeSelectorTerm(matchExpressions=[here])
    return PersistentVolume(
        metadata=ObjectMeta(name=name, annotations={PROVISIONED_BY: "nsrun", BOUND_BY_CONTROLLER: _YES}),
        spec=PersistentVolumeSpec(
            capacity={STORAGE: claim.spec.resources.requests[STORAGE]},
            accessModes=list(claim.spec.accessModes),
            storageClassName=class_name,
            # What a pod of its own makes goes with the pod; what somebody has claimed is kept.
            persistentVolumeReclaimPolicy="Delete" if claim.metadata.ownerReferences else "Retain",
            volumeMode="Filesystem",
            local=LocalVolumeSource(path=f"{machine.directory}/{name}"),
            nodeAffinity=VolumeNodeAffinity(required=NodeSelector(nodeSelectorTerms=[term])),
            claimRef=_reference(claim),
        ),
        status=PersistentVolumeStatus(phase=BOUND),
    )


def _reference(claim: PersistentVolumeClaim) -> ObjectReference:
    return ObjectReference(
        kind="PersistentVolumeClaim",
        apiVersion="v1",
        namespace=claim.metadata.namespace,
        name=claim.metadata.name,
        uid=claim.metadata.uid,
    )


def _bind(
    claim: PersistentVolumeClaim, volume: PersistentVolume, volumes: dict[str, PersistentVolume], result: Binding
) -> None:
    """The two halves, the volume's first: while it says whose it is, nobody else takes it."""
    reference = volume.spec.claimRef
    if reference is None or reference.uid != claim.metadata.uid:
        metadata = volume.metadata
        if reference is None:
            annotations = {**metadata.annotations, BOUND_BY_CONTROLLER: _YES}
            metadata = msgspec.structs.replace(metadata, annotations=annotations)
        spec = msgspec.structs.replace(volume.spec, claimRef=_reference(claim))
        volume = msgspec.structs.replace(volume, metadata=metadata, spec=spec)
        volume.status = msgspec.structs.replace(volume.status, phase=BOUND, message=None)
        _put_volume(volume, volumes, result)
    if own(volume) and requested(claim) > capacity(volume):
        size = {STORAGE: claim.spec.resources.requests[STORAGE]}
        volume = msgspec.structs.replace(volume, spec=msgspec.structs.replace(volume.spec, capacity=size))
        _put_volume(volume, volumes, result)
    bound = _bound(claim, volume)
    if bound != claim:
        result.steps.append(PutClaim(bound))


def _bound(claim: PersistentVolumeClaim, volume: PersistentVolume) -> PersistentVolumeClaim:
    annotations = {**claim.metadata.annotations, BIND_COMPLETED: _YES}
    if not claim.spec.volumeName:
        annotations[BOUND_BY_CONTROLLER] = _YES
    spec = msgspec.structs.replace(claim.spec, volumeName=volume.metadata.name)
    if class_of_claim(claim) is None:
        spec.storageClassName = class_of_volume(volume)
    status = msgspec.structs.replace(
        claim.status, phase=BOUND, accessModes=list(volume.spec.accessModes), capacity=dict(volume.spec.capacity)
    )
    metadata = msgspec.structs.replace(claim.metadata, annotations=annotations)
    return msgspec.structs.replace(claim, metadata=metadata, spec=spec, status=status)
