"""What may be changed of a ConfigMap or Secret that is there, judged as the API server judges an update.

Source of the rules: kubernetes pkg/apis/core/validation/validation.go ValidateConfigMapUpdate, ValidateSecretUpdate (v1.36). Whether
the new object is valid by itself has been judged before.
"""

from __future__ import annotations

from typing import Any

from nsrun.spec.field_errors import Errors, FieldError
from nsrun.spec.model import ConfigMap, ObjectMeta, Secret

_IMMUTABLE = "field is immutable when `immutable` is set"


def inherit_type(old: ConfigMap | Secret, new: ConfigMap | Secret, raw: Any) -> None:
    """Give `new` the type of the Secret that is there, if its manifest names none: defaulting would make another one of it."""
    if isinstance(old, Secret) and isinstance(new, Secret) and not (isinstance(raw, dict) and raw.get("type")):
        new.type = old.type


def judge_object(old: ConfigMap | Secret, new: ConfigMap | Secret) -> list[FieldError]:
    """Why Kubernetes would not make `new` of `old`; [] = it would. Both are defaulted, and of one kind."""
    errors = Errors()
    if isinstance(old, Secret) and isinstance(new, Secret) and old.type != new.type:
        errors.invalid("type", new.type, "field is immutable")
    if old.immutable:
        if not new.immutable:
            errors.forbidden("immutable", _IMMUTABLE)
        if old.data != new.data:
            errors.forbidden("data", _IMMUTABLE)
        if isinstance(old, ConfigMap) and isinstance(new, ConfigMap) and old.binaryData != new.binaryData:
            errors.forbidden("binaryData", _IMMUTABLE)
    return list(errors)


def same_object(old: ConfigMap | Secret, new: ConfigMap | Secret) -> bool:
    """Whether two objects of one kind ask for the same; what the server adds to the metadata does not count."""

    def asked(meta: ObjectMeta) -> object:
        return meta.labels, meta.annotations

    if asked(old.metadata) != asked(new.metadata) or bool(old.immutable) != bool(new.immutable) or old.data != new.data:
        return False
    if isinstance(old, ConfigMap) and isinstance(new, ConfigMap):
        return old.binaryData == new.binaryData
    return isinstance(old, Secret) and isinstance(new, Secret) and old.type == new.type
