"""Validation of PersistentVolumes, and what may become of those and of PersistentVolumeClaims that are there.

Source of the rules: kubernetes pkg/apis/core/validation/validation.go (v1.36) ValidatePersistentVolumeSpec,
ValidatePersistentVolumeUpdate, ValidatePersistentVolumeClaimUpdate; plugin/pkg/admission/storage/persistentvolume/resize.
"""

from __future__ import annotations

import posixpath
from typing import Any

import msgspec

from nsrun.spec import names
from nsrun.spec.field_errors import Errors, FieldError
from nsrun.spec.model import PersistentVolume, PersistentVolumeClaim, PersistentVolumeSpec, VolumeNodeAffinity
from nsrun.spec.quantity import Quantity, parse
from nsrun.spec.validate_paths import no_backsteps
from nsrun.spec.validate_scheduling import node_selector
from nsrun.spec.validate_volumes import ACCESS_MODES, host_path

VOLUME_MODES = ("Block", "Filesystem")
RECLAIM_POLICIES = ("Delete", "Recycle", "Retain")
SOURCES = (
    "hostPath", "gcePersistentDisk", "awsElasticBlockStore", "glusterfs", "flocker", "nfs", "rbd", "quobyte", "cephfs",
    "iscsi", "cinder", "fc", "flexVolume", "azureFile", "vsphereVolume", "photonPersistentDisk", "portworxVolume",
    "azureDisk", "scaleIO", "local", "storageos", "csi",
)  # fmt: skip
"""The kinds of a PersistentVolume in the order in which the API server looks: the first is checked, further ones are refused."""

STORAGE = "storage"
_ONE_TYPE = "may not specify more than 1 volume type"
_CLAIM_FIXED = (
    "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims"
)
_CAPACITY = "spec.resources.requests.storage"


def persistent_volume(spec: PersistentVolumeSpec, errors: Errors, path: str = "spec") -> None:
    """The spec of a persistent volume."""
    _access_modes(spec, errors, f"{path}.accessModes")
    if not spec.capacity:
        errors.required(f"{path}.capacity")
    if set(spec.capacity) != {STORAGE}:
        errors.unsupported(f"{path}.capacity", spec.capacity, (STORAGE,))
    for name, text in sorted(spec.capacity.items()):
        if parse(text) <= Quantity(0):
            errors.invalid(f"{path}.capacity[{name}]", text, "must be greater than zero")
    policy = spec.persistentVolumeReclaimPolicy
    if policy and policy not in RECLAIM_POLICIES:
        errors.unsupported(f"{path}.persistentVolumeReclaimPolicy", policy, RECLAIM_POLICIES)
    affinity = _node_affinity(spec.nodeAffinity, errors, f"{path}.nodeAffinity")
    _source(spec, errors, path, affinity=affinity)
    if (
        spec.hostPath is not None
        and posixpath.normpath("/" + spec.hostPath.path.lstrip("/")) == "/"
        and policy == "Recycle"
    ):
        detail = "may not be 'recycle' for a hostPath mount of '/'"
        errors.forbidden(f"{path}.persistentVolumeReclaimPolicy", detail)
    if spec.storageClassName:
        errors.each(f"{path}.storageClassName", spec.storageClassName, names.subdomain(spec.storageClassName))
    if spec.volumeMode is not None and spec.volumeMode not in VOLUME_MODES:
        errors.unsupported(f"{path}.volumeMode", spec.volumeMode, VOLUME_MODES)
    attributes = spec.volumeAttributesClassName
    if attributes is not None:
        if not attributes:
            errors.required(f"{path}.volumeAttributesClassName", "an empty string is disallowed")
        else:
            errors.each(f"{path}.volumeAttributesClassName", attributes, names.subdomain(attributes))
        if spec.csi is None:
            errors.required(f"{path}.csi", "has to be specified when using volumeAttributesClassName")


def _access_modes(spec: PersistentVolumeSpec, errors: Errors, path: str) -> None:
    if not spec.accessModes:
        errors.required(path)
    for mode in spec.accessModes:
        if mode not in ACCESS_MODES:
            errors.unsupported(path, mode, ACCESS_MODES)
    known = {mode for mode in spec.accessModes if mode in ACCESS_MODES}
    if "ReadWriteOncePod" in known and len(known) > 1:
        errors.forbidden(path, "may not use ReadWriteOncePod with other access modes")


def _node_affinity(value: VolumeNodeAffinity | None, errors: Errors, path: str) -> bool:
    if value is None:
        return False
    if value.required is None:
        errors.required(f"{path}.required", "must specify required node constraints")
    else:
        node_selector(value.required, errors, f"{path}.required")
    return True


def _source(spec: PersistentVolumeSpec, errors: Errors, path: str, *, affinity: bool) -> None:
    count = 0
    for name in SOURCES:
        source = getattr(spec, name)
        if source is None:
            continue
        count += 1
        if count > 1:
            errors.forbidden(f"{path}.{name}", _ONE_TYPE)
        elif name == "hostPath":
            host_path(source, errors, f"{path}.hostPath")
        elif name == "local":
            if not source.path:
                errors.required(f"{path}.local.path")
            else:
                no_backsteps(source.path, errors, f"{path}.local.path")
            if not affinity:
                errors.required(f"{path}.nodeAffinity", "Local volume requires node affinity")
    if count == 0:
        errors.required(path, "must specify a volume type")


# what may become of one that is there


def inherit_volume(old: PersistentVolume, new: PersistentVolume, raw: Any) -> None:
    """Give `new` what the server wrote into the one that is there, and its manifest does not speak of."""
    new.status = old.status
    if not _says(raw, "claimRef"):
        new.spec.claimRef = old.spec.claimRef


def inherit_claim(old: PersistentVolumeClaim, new: PersistentVolumeClaim, raw: Any) -> None:
    """Give `new` what the server wrote into the one that is there, and its manifest does not speak of."""
    new.status = old.status
    for name in ("volumeName", "storageClassName"):
        if not _says(raw, name):
            setattr(new.spec, name, getattr(old.spec, name))


def _says(raw: Any, name: str) -> bool:
    spec = raw.get("spec") if isinstance(raw, dict) else None
    return isinstance(spec, dict) and spec.get(name) is not None


def judge_volume(old: PersistentVolume, new: PersistentVolume) -> list[FieldError]:
    """Why the API server would not make `new` of `old`; [] = it would. Both are defaulted."""
    errors = Errors()
    if any(getattr(old.spec, name) != getattr(new.spec, name) for name in SOURCES):
        detail = "spec.persistentvolumesource is immutable after creation"
        errors.forbidden("spec.persistentvolumesource", detail)
    if old.spec.volumeMode != new.spec.volumeMode:
        errors.invalid("volumeMode", new.spec.volumeMode, "field is immutable")
    if old.spec.nodeAffinity is not None and old.spec.nodeAffinity != new.spec.nodeAffinity:
        affinity = new.spec.nodeAffinity
        errors.invalid(
            "nodeAffinity", None if affinity is None else msgspec.to_builtins(affinity), "field is immutable"
        )
    return list(errors)


def judge_claim(old: PersistentVolumeClaim, new: PersistentVolumeClaim, *, grows: bool) -> list[FieldError]:
    """Why the API server would not make `new` of `old`; [] = it would. Both are defaulted.

    Args:
        old: the one that is there.
        new: with what it inherits.
        grows: its volume can be made larger: it is one of nsrun's own.
    """
    errors = Errors()
    before, after = msgspec.structs.replace(old.spec), msgspec.structs.replace(new.spec)
    if not before.volumeName:
        before.volumeName = after.volumeName
    if before.storageClassName is None:
        after.storageClassName = before.storageClassName
    bound = old.status.phase == "Bound"
    if bound:
        after.resources = before.resources
    if before != after:
        errors.forbidden("spec", _CLAIM_FIXED)
    old_size, new_size = parse(old.spec.resources.requests[STORAGE]), parse(new.spec.resources.requests[STORAGE])
    has = parse(old.status.capacity.get(STORAGE, "0"))
    if new_size < old_size and new_size <= has:
        errors.forbidden(_CAPACITY, "field can not be less than status.capacity")
    if bound and new_size > old_size and not grows:
        detail = "only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc must support resize"
        errors.forbidden(_CAPACITY, detail)
    if old.spec.volumeMode != new.spec.volumeMode:
        errors.invalid("volumeMode", new.spec.volumeMode, "field is immutable")
    return list(errors)
