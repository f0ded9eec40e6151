"""Validation of references to the pod's own fields and resources (the downward API).

Source of the rules: kubernetes pkg/apis/core/validation/validation.go and pkg/apis/core/pods/helpers.go (v1.36).
"""

from __future__ import annotations

from nsrun.spec import names
from nsrun.spec.field_errors import Errors
from nsrun.spec.model import DownwardAPIVolumeFile, ObjectFieldSelector, ResourceFieldSelector
from nsrun.spec.quantity import Quantity, parse
from nsrun.spec.validate_paths import file_mode, file_path

_ZERO = Quantity(0)
_VOLUME_FIELDS = ("metadata.annotations", "metadata.labels", "metadata.name", "metadata.namespace", "metadata.uid")
_LABELS = frozenset(
    {
        *_VOLUME_FIELDS,
        "spec.nodeName", "spec.restartPolicy", "spec.serviceAccountName", "spec.schedulerName", "status.phase",
        "status.hostIP", "status.hostIPs", "status.podIP", "status.podIPs",
    }
)  # fmt: skip
_RESOURCES = (
    "limits.cpu", "limits.ephemeral-storage", "limits.memory",
    "requests.cpu", "requests.ephemeral-storage", "requests.memory",
)  # fmt: skip
_HUGE_PAGES = ("limits.hugepages-", "requests.hugepages-")
_BYTE_DIVISORS = frozenset({
    "1", "1k", "1M", "1G", "1T", "1P", "1E", "1Ki", "1Mi", "1Gi", "1Ti", "1Pi", "1Ei",
})  # fmt: skip
_BYTE_DIVISORS_TEXT = "1, 1k, 1M, 1G, 1T, 1P, 1E, 1Ki, 1Mi, 1Gi, 1Ti, 1Pi, 1Ei"


def split_subscript(field: str) -> tuple[str, str] | None:
    """``metadata.labels['a']`` → ("metadata.labels", "a"); None without a subscript."""
    if not field.endswith("']"):
        return None
    name, bracket, key = field[:-2].partition("['")
    return (name, key) if bracket and name else None


def field_ref(ref: ObjectFieldSelector, valid: tuple[str, ...], errors: Errors, path: str) -> None:
    """A reference to a field of the pod itself; `valid` names those allowed without a subscript."""
    if not ref.apiVersion:
        errors.required(f"{path}.apiVersion")
        return
    if not ref.fieldPath:
        errors.required(f"{path}.fieldPath")
        return
    field = ref.fieldPath
    subscripted = split_subscript(field)
    problem = ""
    if ref.apiVersion != "v1":
        problem = f"unsupported pod version: {ref.apiVersion}"
    elif subscripted:
        if subscripted[0] not in ("metadata.annotations", "metadata.labels"):
            problem = f"field label does not support subscript: {field}"
    elif field == "spec.host":
        field = "spec.nodeName"
    elif field not in _LABELS:
        problem = f"field label not supported: {field}"
    if problem:
        errors.invalid(f"{path}.fieldPath", ref.fieldPath, f"error converting fieldPath: {problem}")
    elif subscripted:
        name, key = subscripted
        key = key.lower() if name == "metadata.annotations" else key
        errors.each(path, key, names.qualified_name(key))
    elif field not in valid:
        errors.unsupported(f"{path}.fieldPath", field, valid)


def resource_field_ref(ref: ResourceFieldSelector, errors: Errors, path: str, *, volume: bool) -> None:
    """A reference to a container's requests or limits."""
    if volume and not ref.containerName:
        errors.required(f"{path}.containerName")
    elif not ref.resource:
        errors.required(f"{path}.resource")
    elif ref.resource not in _RESOURCES and not ref.resource.startswith(_HUGE_PAGES):
        errors.unsupported(f"{path}.resource", ref.resource, _RESOURCES)
    if parse(ref.divisor) == _ZERO:
        return
    what = ref.resource.partition(".")[2]
    if ref.resource in ("limits.cpu", "requests.cpu"):
        if ref.divisor not in ("1m", "1"):
            detail = "only divisor's values 1m and 1 are supported with the cpu resource"
            errors.invalid(f"{path}.divisor", ref.resource, detail)
        return
    if ref.resource in _RESOURCES or ref.resource.startswith(_HUGE_PAGES):
        shown = {"ephemeral-storage": "local ephemeral storage"}.get(what, what)
        shown = "hugepages" if ref.resource.startswith(_HUGE_PAGES) else shown
        if ref.divisor not in _BYTE_DIVISORS:
            detail = f"only divisor's values {_BYTE_DIVISORS_TEXT} are supported with the {shown} resource"
            errors.invalid(f"{path}.divisor", ref.resource, detail)


def downward_file(item: DownwardAPIVolumeFile, errors: Errors, path: str) -> None:
    if not item.path:
        errors.required(f"{path}.path")
    file_path(item.path, errors, f"{path}.path")
    if item.fieldRef is not None:
        field_ref(item.fieldRef, _VOLUME_FIELDS, errors, f"{path}.fieldRef")
        if item.resourceFieldRef is not None:
            errors.invalid(path, "resource", "fieldRef and resourceFieldRef can not be specified simultaneously")
    elif item.resourceFieldRef is not None:
        resource_field_ref(item.resourceFieldRef, errors, f"{path}.resourceFieldRef", volume=True)
    else:
        errors.required(path, "one of fieldRef and resourceFieldRef is required")
    file_mode(item.mode, errors, f"{path}.mode")
