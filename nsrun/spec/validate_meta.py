"""Validation of metadata, labels and selectors.

Source of the rules: apimachinery pkg/api/validation/objectmeta.go, pkg/apis/meta/v1/validation (v1.36).
"""

from __future__ import annotations

from collections.abc import Callable

from nsrun.spec import names
from nsrun.spec.field_errors import Errors
from nsrun.spec.model import LabelSelector, ObjectMeta, OwnerReference

ANNOTATIONS_MAX_BYTES = 256 * 1024
_STANDARD_FINALIZERS = frozenset({"kubernetes", "orphan", "foregroundDeletion"})


def object_meta(
    meta: ObjectMeta,
    errors: Errors,
    *,
    namespaced: bool = True,
    path: str = "metadata",
    rule: Callable[[str], list[str]] = names.subdomain,
) -> None:
    """The metadata of an object whose name is to follow a rule, a DNS subdomain's unless there is another one."""
    if meta.generateName:
        errors.each(f"{path}.generateName", meta.generateName, rule(names.as_prefix(meta.generateName)))
    if not meta.name and not meta.generateName:  # a generated name is there before the server validates
        errors.required(f"{path}.name", "name or generateName is required")
    elif meta.name:
        errors.each(f"{path}.name", meta.name, rule(meta.name))
    if namespaced:
        if not meta.namespace:
            errors.required(f"{path}.namespace")
        else:
            errors.each(f"{path}.namespace", meta.namespace, names.label(meta.namespace))
    elif meta.namespace:
        errors.forbidden(f"{path}.namespace", "not allowed on this type")
    errors.non_negative(f"{path}.generation", meta.generation)
    label_map(meta.labels, errors, f"{path}.labels")
    annotation_map(meta.annotations, errors, f"{path}.annotations")
    _owner_references(meta.ownerReferences, errors, f"{path}.ownerReferences")
    _finalizers(meta.finalizers, errors, f"{path}.finalizers")
    _managed_fields(meta, errors, f"{path}.managedFields")
    for index, finalizer in enumerate(meta.finalizers):
        if "/" not in finalizer and finalizer not in _STANDARD_FINALIZERS:
            errors.invalid(
                f"{path}.finalizers[{index}]",
                finalizer,
                "name is neither a standard finalizer name nor is it fully qualified",
            )


def label_map(values: dict[str, str], errors: Errors, path: str) -> None:
    """A map of labels, or a node selector."""
    for key in sorted(values):
        errors.each(path, key, names.qualified_name(key))
        errors.each(path, values[key], names.label_value(values[key]))


def annotation_map(values: dict[str, str], errors: Errors, path: str) -> None:
    """A map of annotations."""
    total = 0
    for key in sorted(values):
        errors.each(path, key, names.qualified_name(key.lower()))
        total += names.size(key) + names.size(values[key])
    if total > ANNOTATIONS_MAX_BYTES:
        errors.too_long(path, ANNOTATIONS_MAX_BYTES)


def _owner_references(references: list[OwnerReference], errors: Errors, path: str) -> None:
    controller = ""
    for reference in references:
        version = reference.apiVersion.rpartition("/")[2]
        if not version:
            errors.invalid(f"{path}.apiVersion", reference.apiVersion, "version must not be empty")
        for field in ("kind", "name", "uid"):
            if not getattr(reference, field):
                errors.invalid(f"{path}.{field}", "", "must not be empty")
        if (reference.apiVersion, reference.kind) == ("v1", "Event"):
            errors.invalid(path, reference, "/v1, Kind=Event is disallowed from being an owner")
        if reference.controller:
            this = f"{reference.kind}/{reference.name}"
            if controller:
                errors.invalid(
                    path,
                    references,
                    'Only one reference can have Controller set to true. Found "true" in references for'
                    f" {controller} and {this}",
                )
            else:
                controller = this


def _finalizers(finalizers: list[str], errors: Errors, path: str) -> None:
    for finalizer in finalizers:
        errors.each(path, finalizer, names.qualified_name(finalizer))
    if "orphan" in finalizers and "foregroundDeletion" in finalizers:
        errors.invalid(path, finalizers, "finalizer orphan and foregroundDeletion cannot be both set")


def _managed_fields(meta: ObjectMeta, errors: Errors, path: str) -> None:
    for index, entry in enumerate(meta.managedFields):
        here = f"{path}[{index}]"
        if entry.operation not in ("Apply", "Update"):
            errors.invalid(f"{here}.operation", entry.operation or "", "must be `Apply` or `Update`")
        if entry.fieldsType and entry.fieldsType != "FieldsV1":
            errors.invalid(f"{here}.fieldsType", entry.fieldsType, "must be `FieldsV1`")
        if names.size(entry.manager or "") > 128:
            errors.too_long(f"{here}.manager", 128)
        for position, character in enumerate(entry.manager or ""):
            if not character.isprintable():
                detail = f"invalid character U+{ord(character):04X} (at position {position})"
                errors.invalid(f"{here}.manager", entry.manager, detail)
        if names.size(entry.subresource or "") > 256:
            errors.too_long(f"{here}.subresource", 256)


def label_selector(selector: LabelSelector | None, errors: Errors, path: str) -> None:
    """A selector over labels."""
    if selector is None:
        return
    label_map(selector.matchLabels, errors, f"{path}.matchLabels")
    for index, requirement in enumerate(selector.matchExpressions):
        here = f"{path}.matchExpressions[{index}]"
        if requirement.operator in ("In", "NotIn"):
            if not requirement.values:
                errors.required(f"{here}.values", "must be specified when `operator` is 'In' or 'NotIn'")
        elif requirement.operator in ("Exists", "DoesNotExist"):
            if requirement.values:
                errors.forbidden(f"{here}.values", "may not be specified when `operator` is 'Exists' or 'DoesNotExist'")
        else:
            errors.invalid(f"{here}.operator", requirement.operator, "not a valid selector operator")
        errors.each(f"{here}.key", requirement.key, names.qualified_name(requirement.key))
        for position, value in enumerate(requirement.values):
            errors.each(f"{here}.values[{position}]", value, names.label_value(value))
