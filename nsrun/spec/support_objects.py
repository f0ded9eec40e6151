"""What nsrun does with the fields of the objects that are kept beside pods: what has no effect here is told, never dropped in silence."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from nsrun.spec.model import (
    Object,
    PersistentVolume,
    PersistentVolumeClaim,
    PersistentVolumeClaimSpec,
    VolumeNodeAffinity,
)
from nsrun.spec.node_selectors import matches
from nsrun.spec.support import (
    BLOCK,
    COPIES,
    NO_ATTRIBUTES,
    NOT_APPLICABLE,
    NOT_IMPLEMENTED,
    Unsupported,
    unsupported_metadata,
)
from nsrun.spec.validate_persistent import SOURCES

_OWN_FINALIZERS = {
    "PersistentVolumeClaim": ["kubernetes.io/pvc-protection"],
    "PersistentVolume": ["kubernetes.io/pv-protection"],
}
"""What nsrun sees to without a finalizer."""
_FINALIZERS = "who takes finalizers away again is a client of the Kubernetes API: let such a one make the object"
_OWNERS = "owners are for the Kubernetes API to say"
_KINDS = ("hostPath", "local")


def unsupported_object(obj: Object, labels: Mapping[str, str]) -> list[Unsupported]:
    """The fields of a valid object, no pod, that have no effect here.

    Args:
        obj: defaulted and valid.
        labels: of this machine as a node.
    """
    found = unsupported_metadata(obj)
    if obj.metadata.finalizers and obj.metadata.finalizers != _OWN_FINALIZERS.get(obj.kind):
        found.append(Unsupported("metadata.finalizers", NOT_IMPLEMENTED, _FINALIZERS))
    if obj.metadata.ownerReferences:
        found.append(Unsupported("metadata.ownerReferences", NOT_APPLICABLE, _OWNERS))
    if isinstance(obj, PersistentVolumeClaim):
        found += _claim(obj.spec, "spec")
    elif isinstance(obj, PersistentVolume):
        found += _volume(obj, labels)
    return found


def _claim(spec: PersistentVolumeClaimSpec, path: str) -> Iterator[Unsupported]:
    if spec.volumeMode == "Block":
        yield Unsupported(f"{path}.volumeMode", NOT_IMPLEMENTED, BLOCK)
    for name in ("dataSource", "dataSourceRef"):
        if getattr(spec, name) is not None:
            yield Unsupported(f"{path}.{name}", NOT_IMPLEMENTED, COPIES)
    if spec.volumeAttributesClassName:
        yield Unsupported(f"{path}.volumeAttributesClassName", NOT_IMPLEMENTED, NO_ATTRIBUTES)


def _volume(obj: PersistentVolume, labels: Mapping[str, str]) -> Iterator[Unsupported]:
    spec = obj.spec
    for name in SOURCES:
        if getattr(spec, name) is not None and name not in _KINDS:
            yield Unsupported(
                f"spec.{name}", NOT_IMPLEMENTED, f"{name} volumes are not supported; hostPath and local are"
            )
    if spec.volumeMode == "Block":
        yield Unsupported("spec.volumeMode", NOT_IMPLEMENTED, BLOCK)
    if spec.persistentVolumeReclaimPolicy == "Recycle":
        yield Unsupported(
            "spec.persistentVolumeReclaimPolicy", NOT_IMPLEMENTED, "volumes are not emptied to be used again"
        )
    if spec.mountOptions:
        yield Unsupported(
            "spec.mountOptions", NOT_IMPLEMENTED, "directories of this machine are mounted without options"
        )
    if spec.local is not None and spec.local.fsType:
        yield Unsupported("spec.local.fsType", NOT_IMPLEMENTED, BLOCK)
    if not _meant(spec.nodeAffinity, labels):
        message = "it means other machines than this one, and nothing schedules pods here"
        yield Unsupported("spec.nodeAffinity", NOT_APPLICABLE, message)


def _meant(affinity: VolumeNodeAffinity | None, labels: Mapping[str, str]) -> bool:
    """Whether a volume's affinity allows a node with these labels."""
    if affinity is None or affinity.required is None:
        return True
    name = labels.get("kubernetes.io/hostname", "")
    return any(matches(term, labels, name) for term in affinity.required.nodeSelectorTerms)
