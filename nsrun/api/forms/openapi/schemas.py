"""The types as OpenAPI schemas, with Kubernetes' extensions for lists, maps and patches."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable
from typing import Any

from nsrun.api.forms import schema
from nsrun.api.forms.facts import ENUMS
from nsrun.spec.resources_table import Resource
from nsrun.spec.support import IMPLEMENTED, NOT_APPLICABLE, classify

_META = "io.k8s.apimachinery.pkg.apis.meta.v1"
PATCH = f"{_META}.Patch"
STATUS = f"{_META}.Status"
DELETE_OPTIONS = f"{_META}.DeleteOptions"

_LEAVES: dict[str, tuple[str, dict[str, Any]]] = {
    "Quantity": ("io.k8s.apimachinery.pkg.api.resource.Quantity", {"type": "string"}),
    "IntOrString": ("io.k8s.apimachinery.pkg.util.intstr.IntOrString", {"type": "string", "format": "int-or-string"}),
    "Time": (f"{_META}.Time", {"type": "string", "format": "date-time"}),
    "MicroTime": (f"{_META}.MicroTime", {"type": "string", "format": "date-time"}),
    "FieldsV1": (f"{_META}.FieldsV1", {"type": "object"}),
    "RawExtension": ("io.k8s.apimachinery.pkg.runtime.RawExtension", {"type": "object"}),
}
_SCALARS: dict[str, dict[str, Any]] = {
    "string": {"type": "string"},
    "bool": {"type": "boolean"},
    "int32": {"type": "integer", "format": "int32"},
    "int64": {"type": "integer", "format": "int64"},
    "bytes": {"type": "string", "format": "byte"},
}
_PATTERNS = {
    "core.v1.PodSpec": "spec",
    "core.v1.Container": "spec.containers[]",
    "core.v1.EphemeralContainerCommon": "spec.ephemeralContainers[]",
    "core.v1.PodSecurityContext": "spec.securityContext",
    "core.v1.SecurityContext": "spec.containers[].securityContext",
    "core.v1.VolumeSource": "spec.volumes[]",
}
"""Where in a pod the fields of a type stand: what becomes of them here is told with them."""


def name_of(kind: str) -> str:
    """`core.v1.Pod` → `io.k8s.api.core.v1.Pod`."""
    package, _, rest = kind.partition(".")
    return f"io.k8s.apimachinery.pkg.apis.{kind}" if package == "meta" else f"io.k8s.api.{package}.{rest}"


def top_of(resource: Resource) -> str | None:
    """The type of a resource's objects; None for a kind whose type is not known here."""
    return schema.type_of(resource.api_version, resource.kind)


def of(resources: Iterable[Resource], prefix: str, *, compose: bool) -> dict[str, Any]:
    """The schemas that the documents of these resources need.

    Args:
        resources: whose objects are described.
        prefix: of references.
        compose: as OpenAPI v3 has it: beside a reference nothing else may stand, so that it is put into allOf.
    """
    build = _Builder(prefix, compose)
    for one in resources:
        top = top_of(one)
        if top is None:
            continue
        gvk = {"group": one.group, "version": one.version, "kind": one.kind}
        build.top(top, [gvk])
        if "list" in one.verbs:
            build.list(top, {**gvk, "kind": f"{one.kind}List"})
        for part in one.subresources:
            kind = schema.type_of(f"{part.group}/{part.version}" if part.version else one.api_version, part.kind)
            if kind is not None and kind != top and not kind.endswith("Options"):
                group, version = (part.group, part.version) if part.version else (one.group, one.version)
                build.top(kind, [{"group": group, "version": version, "kind": part.kind}])
    core = {"group": "", "version": "v1"}
    build.top("meta.v1.Status", [{**core, "kind": "Status"}])
    build.top("meta.v1.DeleteOptions", [{**core, "kind": "DeleteOptions"}])
    build.found[PATCH] = {"type": "object", "description": "A patch of any of the kinds."}
    return dict(sorted(build.found.items()))


@functools.cache
def _told(kind: str, name: str) -> str:
    """What there is to say of a field: what becomes of it here, where that is not what it says."""
    pattern = _PATTERNS.get(kind)
    row = classify(f"{pattern}.{name}") if pattern else None
    if row is None or row.status == IMPLEMENTED:
        return ""
    lead = "Has no effect here" if row.status == NOT_APPLICABLE else "Not implemented here"
    return f"{lead}: {row.message}." if row.message else f"{lead}."


class _Builder:
    """Schemas by name; what they refer to comes along."""

    def __init__(self, prefix: str, compose: bool) -> None:
        self.prefix = prefix
        self.compose = compose
        self.found: dict[str, Any] = {}

    def top(self, kind: str, gvks: list[dict[str, str]]) -> None:
        """A type whose objects stand by themselves."""
        self.struct(kind)
        described = self.found[name_of(kind)]
        described["properties"] = {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            **described.get("properties", {}),
        }
        described["x-kubernetes-group-version-kind"] = gvks

    def list(self, kind: str, gvk: dict[str, str]) -> None:
        """The list of such objects."""
        self.struct("meta.v1.ListMeta")
        self.found[f"{name_of(kind)}List"] = {
            "type": "object",
            "properties": {
                "apiVersion": {"type": "string"},
                "kind": {"type": "string"},
                "metadata": self.reference(name_of("meta.v1.ListMeta")),
                "items": {"type": "array", "items": self.reference(name_of(kind))},
            },
            "required": ["items"],
            "x-kubernetes-group-version-kind": [gvk],
        }

    def reference(self, name: str) -> dict[str, Any]:
        return {"$ref": f"{self.prefix}{name}"}

    def struct(self, kind: str) -> None:
        name = name_of(kind)
        if name in self.found:
            return
        described: dict[str, Any] = {"type": "object"}
        self.found[name] = described
        words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", kind.rpartition(".")[2])
        described["description"] = f"Kubernetes {words}."
        members = [
            (inner.name if one.name == "~" else one.name, inner, one.type if one.name == "~" else kind)
            for one in schema.members(kind)
            for inner in (schema.fields(one.type).values() if one.name == "~" else [one])
        ]
        if members:
            described["properties"] = {key: self.field(one, owner) for key, one, owner in members}
        required = sorted(key for key, one, _ in members if one.required)
        if required:
            described["required"] = required
        if schema.is_atomic(kind):
            described["x-kubernetes-map-type"] = "atomic"

    def field(self, one: schema.Field, owner: str) -> dict[str, Any]:
        """The schema of a field."""
        described = self.type(one.type)
        extra: dict[str, Any] = {}
        if text := _told(owner, one.name):
            extra["description"] = text
        if one.default is not None:
            extra["default"] = one.default
        if one.enum in ENUMS and one.type == "string":
            extra["enum"] = list(ENUMS[one.enum])
        if one.list_type:
            extra["x-kubernetes-list-type"] = one.list_type
        if one.keys:
            extra["x-kubernetes-list-map-keys"] = list(one.keys)
        if one.map_type:
            extra["x-kubernetes-map-type"] = one.map_type
        if one.strategies:
            extra["x-kubernetes-patch-strategy"] = ",".join(one.strategies)
        if one.merge_key:
            extra["x-kubernetes-patch-merge-key"] = one.merge_key
        if extra and self.compose and "$ref" in described:
            return {"allOf": [described], **extra}
        return {**described, **extra}

    def type(self, kind: str) -> dict[str, Any]:
        """The schema of a type."""
        if kind.startswith("[]"):
            return {"type": "array", "items": self.type(kind[2:])}
        if kind.startswith("map:"):
            return {"type": "object", "additionalProperties": self.type(kind[4:])}
        if kind in _SCALARS:
            return dict(_SCALARS[kind])
        if kind in _LEAVES:
            name, described = _LEAVES[kind]
            if name not in self.found:
                self.found[name] = self.leaf(kind, described)
            return self.reference(name)
        self.struct(kind)
        return self.reference(name_of(kind))

    def leaf(self, kind: str, described: dict[str, Any]) -> dict[str, Any]:
        if self.compose and kind in ("Quantity", "IntOrString"):
            number = {"type": "number"} if kind == "Quantity" else {"type": "integer"}
            if kind == "IntOrString":
                return {"format": "int-or-string", "oneOf": [number, {"type": "string"}]}
            return {"oneOf": [{"type": "string"}, number]}
        return dict(described)
