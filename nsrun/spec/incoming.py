"""Objects as clients of the Kubernetes API send them: read, with the words in which an API server refuses them.

Source: apiserver pkg/endpoints/handlers/create.go, update.go, rest.go; pkg/registry/rest/create.go, update.go, meta.go (v1.36).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from nsrun.spec import api_status, model
from nsrun.spec.decode import DecodeError, StrictError, decode_as, learn
from nsrun.spec.documents import Document
from nsrun.spec.events_api import to_core
from nsrun.spec.field_errors import Errors
from nsrun.spec.model import ApiStruct, ManagedFieldsEntry, ObjectMeta
from nsrun.spec.resources_table import Resource, kept_kind, resource_of

STRICT, WARN, IGNORE = "Strict", "Warn", "Ignore"
_EVENTS = "events.k8s.io"


@dataclass(slots=True)
class Incoming:
    """An object that a client sent.

    Attributes:
        resource: what it is one of.
        object: decoded, without defaults.
        raw: as it was sent.
        warnings: what the client is to be told though nothing was refused.
    """

    resource: Resource
    object: Any
    raw: dict[str, Any]
    warnings: list[str] = field(default_factory=list)

    @property
    def metadata(self) -> ObjectMeta:
        """The object's."""
        found: ObjectMeta = self.object.metadata
        return found


def class_of(resource: Resource) -> type[ApiStruct]:
    """The type of a resource's objects."""
    found = model.ROOTS.get(resource.kind)
    if found is not None:
        return found
    from nsrun.spec import model_kinds

    learn(model_kinds.GO_FIELDS, model_kinds.GO_ALIASES)
    return model_kinds.ROOTS[resource.api_version, resource.kind]


def read(value: Any, field_validation: str = "") -> Incoming:
    """Read an object.

    Args:
        value: in JSON terms, with its kind and apiVersion.
        field_validation: what becomes of fields that are not known: `Strict` refuses them, `Warn` (the default) warns,
            `Ignore` is silent.

    Raises:
        StatusError: it is not an object, of no kind that is kept, does not fit its kind, or has unknown fields.
    """
    if field_validation not in ("", STRICT, WARN, IGNORE):
        text = f'fieldValidation: Unsupported value: "{field_validation}": supported values: "Ignore", "Strict", "Warn"'
        raise api_status.refusal(422, "Invalid", f'CreateOptions.meta.k8s.io "" is invalid: {text}')
    version, kind = (value.get("apiVersion"), value.get("kind")) if isinstance(value, dict) else (None, None)
    if not isinstance(version, str) or not isinstance(kind, str):
        raise api_status.bad_request("Object 'Kind' is missing")
    resource = resource_of(version, kind)
    if resource is None or not resource.kept:
        raise api_status.bad_request(f'no kind "{kind}" is registered for version "{version}" in scheme')
    if resource.group == _EVENTS:
        value, resource = to_core(value), kept_kind("Event")
    document = Document("", 0, 1, is_json=True)
    document.value, document.kind = value, kind
    warnings: list[str] = []
    try:
        obj: Any = decode_as(document, class_of(resource))
    except DecodeError as error:
        raise api_status.undecodable(kind, version, str(error)) from None
    except StrictError as error:
        if field_validation == STRICT:
            text = "strict decoding error: " + ", ".join(error.messages)
            raise api_status.undecodable(kind, version, text) from None
        warnings = [] if field_validation == IGNORE else error.messages
        obj = error.object
    return Incoming(resource, obj, value, warnings)


def metadata_update(old: ObjectMeta, new: ObjectMeta) -> list[Any]:
    """What may not change of an object's metadata; `new` is given what only a server may say, and what may be left out.

    Args:
        old: of the object that is there.
        new: of the one that is to be; changed in place.

    Returns:
        The objections.
    """
    new.uid = new.uid or old.uid
    new.creationTimestamp = new.creationTimestamp or old.creationTimestamp
    new.selfLink = None
    new.generateName = new.generateName or old.generateName
    if old.deletionTimestamp is not None:
        new.deletionTimestamp, new.deletionGracePeriodSeconds = old.deletionTimestamp, old.deletionGracePeriodSeconds
    if not new.managedFields and old.managedFields:
        # Whoever leaves them out has no word on them; an empty entry takes them away (apimachinery managedfields).
        new.managedFields = old.managedFields
    elif new.managedFields == [ManagedFieldsEntry()]:
        new.managedFields = []
    errors = Errors()
    if old.deletionTimestamp is not None:
        added = [one for one in new.finalizers if one not in old.finalizers]
        if added:
            shown = "[]string{" + ", ".join(api_status.quoted(one) for one in added) + "}"
            text = f"no new finalizers can be added if the object is being deleted, found new finalizers {shown}"
            errors.forbidden("metadata.finalizers", text)
    for name in ("name", "namespace", "uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds"):
        if getattr(old, name) != getattr(new, name):
            errors.invalid(f"metadata.{name}", getattr(new, name), "field is immutable")
    new.generation = old.generation
    return list(errors)
