"""What may be changed of an object that is there, judged as the API server judges an update.

Source of the rules: kubernetes pkg/apis/core/validation/validation.go ValidateConfigMapUpdate, ValidateSecretUpdate (v1.36); claims and
volumes: `nsrun.spec.validate_persistent`. Whether the new object is valid by itself has been judged before.
"""

from __future__ import annotations

from typing import Any

from nsrun.spec.field_errors import Errors, FieldError
from nsrun.spec.model import ConfigMap, ObjectMeta, PersistentVolume, PersistentVolumeClaim, Secret
from nsrun.spec.validate_persistent import inherit_claim, inherit_volume, judge_claim, judge_volume

Kept = ConfigMap | Secret | PersistentVolumeClaim | PersistentVolume
_IMMUTABLE = "field is immutable when `immutable` is set"
_OWN_ANNOTATIONS = "pv.kubernetes.io/"
"""What binding notes in the annotations of claims and volumes."""


def inherit(old: Kept, new: Kept, raw: Any) -> None:
    """Give `new` what the object that is there has, and its manifest does not speak of: its type, what it is bound to."""
    if isinstance(old, Secret) and isinstance(new, Secret) and not (isinstance(raw, dict) and raw.get("type")):
        # Defaulting would make another one of it.
        new.type = old.type
    if isinstance(old, PersistentVolumeClaim) and isinstance(new, PersistentVolumeClaim):
        inherit_claim(old, new, raw)
    if isinstance(old, PersistentVolume) and isinstance(new, PersistentVolume):
        inherit_volume(old, new, raw)
    if isinstance(old, PersistentVolumeClaim | PersistentVolume):
        for key, value in old.metadata.annotations.items():
            if key.startswith(_OWN_ANNOTATIONS):
                new.metadata.annotations.setdefault(key, value)


def judge_object(old: Kept, new: Kept, *, grows: bool = False) -> list[FieldError]:
    """Why Kubernetes would not make `new` of `old`; [] = it would. Both are defaulted, and of one kind.

    Args:
        old: the one that is there.
        new: with what it inherits.
        grows: of a claim: its volume can be made larger.
    """
    if isinstance(old, PersistentVolumeClaim) and isinstance(new, PersistentVolumeClaim):
        return judge_claim(old, new, grows=grows)
    if isinstance(old, PersistentVolume) and isinstance(new, PersistentVolume):
        return judge_volume(old, new)
    errors = Errors()
    if isinstance(old, Secret) and isinstance(new, Secret) and old.type != new.type:
        errors.invalid("type", new.type, "field is immutable")
    if isinstance(old, ConfigMap | Secret) and isinstance(new, ConfigMap | Secret) and old.immutable:
        if not new.immutable:
            errors.forbidden("immutable", _IMMUTABLE)
        if old.data != new.data:
            errors.forbidden("data", _IMMUTABLE)
        if isinstance(old, ConfigMap) and isinstance(new, ConfigMap) and old.binaryData != new.binaryData:
            errors.forbidden("binaryData", _IMMUTABLE)
    return list(errors)


def same_object(old: Kept, new: Kept) -> bool:
    """Whether two objects of one kind ask for the same; what the server adds to the metadata does not count."""

    def asked(meta: ObjectMeta) -> object:
        return meta.labels, meta.annotations

    if asked(old.metadata) != asked(new.metadata):
        return False
    if isinstance(old, PersistentVolumeClaim | PersistentVolume):
        return isinstance(new, PersistentVolumeClaim | PersistentVolume) and old.spec == new.spec
    if not isinstance(new, ConfigMap | Secret) or bool(old.immutable) != bool(new.immutable) or old.data != new.data:
        return False
    if isinstance(old, ConfigMap) and isinstance(new, ConfigMap):
        return old.binaryData == new.binaryData
    return isinstance(old, Secret) and isinstance(new, Secret) and old.type == new.type
