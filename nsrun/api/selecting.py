"""Which objects of a kind a request means.

Sources: the fields per kind: kubernetes pkg/apis/core/v1/conversion.go, pkg/registry/core/*/strategy.go (v1.36).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from nsrun.api.cache import Entry
from nsrun.api.paths import Target
from nsrun.spec import api_status
from nsrun.spec.resources_table import Resource
from nsrun.status.selectors import FIELDS as POD_FIELDS
from nsrun.status.selectors import field_terms, label_requirements

Field = Callable[[dict[str, Any]], str]


def _at(*path: str) -> Field:
    def read(obj: dict[str, Any]) -> str:
        value: Any = obj
        for part in path:
            value = value.get(part) if isinstance(value, dict) else None
        if isinstance(value, bool):
            return "true" if value else "false"
        return "" if value is None else str(value)

    return read


def _flag(*path: str) -> Field:
    read = _at(*path)
    return lambda obj: read(obj) or "false"


_ABOUT = ("kind", "namespace", "name", "uid", "apiVersion", "resourceVersion", "fieldPath")
_OF_KIND: dict[str, dict[str, Field]] = {
    "Pod": dict(POD_FIELDS),
    "Event": {
        **{f"involvedObject.{part}": _at("involvedObject", part) for part in _ABOUT},
        **{f"regarding.{part}": _at("involvedObject", part) for part in _ABOUT},
        "reason": _at("reason"),
        "reportingComponent": lambda event: _at("reportingComponent")(event) or _at("source", "component")(event),
        "reportingController": lambda event: _at("reportingComponent")(event) or _at("source", "component")(event),
        "source": lambda event: _at("source", "component")(event) or _at("reportingComponent")(event),
        "type": _at("type"),
    },
    "Namespace": {"name": _at("metadata", "name"), "status.phase": _at("status", "phase")},
    "Node": {"spec.unschedulable": _flag("spec", "unschedulable")},
    "Secret": {"type": _at("type")},
    "Service": {"spec.clusterIP": _at("spec", "clusterIP"), "spec.type": _at("spec", "type")},
    "ReplicationController": {"status.replicas": _at("status", "replicas")},
    "ResourceSlice": {"spec.nodeName": _at("spec", "nodeName"), "spec.driver": _at("spec", "driver")},
    "Job": {"status.successful": _at("status", "succeeded")},
}


def fields_of(resource: Resource) -> dict[str, Field]:
    """By what objects of a kind can be selected, and how each reads."""
    common = {"metadata.name": _at("metadata", "name")}
    if resource.namespaced:
        common["metadata.namespace"] = _at("metadata", "namespace")
    return {**common, **_OF_KIND.get(resource.kind, {})}


class Selection:
    """The objects that a request means.

    Args:
        target: kind, namespace and name of its path.
        labels: a label selector.
        fields: a field selector.

    Raises:
        StatusError: a selector cannot be read, or names a field that there is not.
    """

    def __init__(self, target: Target, labels: str = "", fields: str = "") -> None:
        self.kind = target.kind
        self.namespace = target.namespace or None
        readable = fields_of(target.resource)
        try:
            self._requirements = label_requirements(labels)
            terms = field_terms(fields)
        except ValueError as error:
            raise api_status.bad_request(str(error)) from None
        for term in terms:
            if term.field not in readable:
                raise api_status.bad_request(f"field label not supported: {term.field}")
        self.name = target.name
        """The one name that can be meant, or ""."""
        for term in terms:
            if term.equal and term.field == "metadata.name":
                self.name = self.name or term.value
            if term.equal and term.field == "metadata.namespace" and self.namespace is None:
                self.namespace = term.value
        self._terms = [(readable[term.field], term.value, term.equal) for term in terms]
        self.key = (target.resource.qualified, self.namespace, target.name, labels, fields)
        """Equal for requests that mean the same."""

    @property
    def narrow(self) -> bool:
        """Not every object of the kind and namespace is meant."""
        return bool(self._requirements or self._terms or self.name)

    def holds(self, entry: Entry) -> bool:
        """Whether an object is meant."""
        if entry.kind != self.kind or (self.namespace is not None and entry.key[0] != self.namespace):
            return False
        if self.name and entry.key[1] != self.name:
            return False
        if not self._requirements and not self._terms:
            return True
        obj = entry.object
        labels: Mapping[str, str] = obj["metadata"].get("labels") or {}
        return all(one.matches(labels) for one in self._requirements) and all(
            (read(obj) == value) is equal for read, value, equal in self._terms
        )
