"""What is known of each field of the served types: a view of nsrun.api.forms.facts.

A type is called as in `core.v1.Pod`; the types of fields are such names, `string`, `bool`, `int32`, `int64`, `bytes`, `Quantity`,
`IntOrString`, `Time`, `MicroTime`, `FieldsV1`, `RawExtension`, and these after `[]` (lists) and `map:` (maps from strings).
"""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass
from typing import Any

from nsrun.api.forms.facts import ATOMIC, TYPES

PACKAGES = {
    "": "core", "discovery.k8s.io": "discovery", "coordination.k8s.io": "coordination", "events.k8s.io": "events",
    "node.k8s.io": "node", "scheduling.k8s.io": "scheduling", "policy": "policy", "authentication.k8s.io": "authentication",
    "authorization.k8s.io": "authorization", "meta.k8s.io": "meta",
}  # fmt: skip
"""API group → the package of its Go types."""


@dataclass(frozen=True, slots=True)
class Field:
    """A field of a type.

    Attributes:
        name: in JSON; "~" for a struct that is laid flat in JSON.
        type: of the value.
        number: in protobuf; 0 for a field that is not there.
        pointer: Go can tell its zero value from its absence.
        omitempty: it is not written when empty.
        omitzero: that holds for a struct, too.
        required: an object without it is no valid one.
        list_type: "map", "set", "atomic" or "" (atomic) in server-side apply.
        keys: of a list of type map.
        map_type: "atomic" or "".
        strategies: of strategic merge patches: "merge", "replace", "retainKeys".
        merge_key: of those; "" for none.
        default: None where there is none.
        enum: the name in nsrun.api.forms.facts.ENUMS or "".
    """

    name: str
    type: str
    number: int = 0
    pointer: bool = False
    omitempty: bool = False
    omitzero: bool = False
    required: bool = False
    list_type: str = ""
    keys: tuple[str, ...] = ()
    map_type: str = ""
    strategies: tuple[str, ...] = ()
    merge_key: str = ""
    default: Any = None
    enum: str = ""


_FLAGS = {"*": "pointer", "o": "omitempty", "z": "omitzero", "!": "required"}


def _field(row: str) -> Field:
    name, kind, number, *flags = row.split(" ")
    known: dict[str, Any] = {}
    for flag in flags:
        word, _, value = flag.partition("=")
        if word in _FLAGS:
            known[_FLAGS[word]] = True
        elif word == "list":
            known["list_type"], _, keys = value.partition(":")
            known["keys"] = tuple(keys.split(",")) if keys else ()
        elif word == "map":
            known["map_type"] = value
        elif word == "patch":
            strategies, _, known["merge_key"] = value.partition(":")
            known["strategies"] = tuple(strategies.split(","))
        elif word == "default":
            known["default"] = json.loads(value)
        else:
            known["enum"] = value
    return Field(name, kind, int(number), **known)


@functools.cache
def members(name: str) -> tuple[Field, ...]:
    """The fields of a struct as Go has them: those that are laid flat are one field `~`."""
    return tuple(_field(row) for row in TYPES[name].splitlines())


@functools.cache
def fields(name: str) -> dict[str, Field]:
    """The fields of a struct as JSON has them, by name; for top-level types without apiVersion and kind."""
    found: dict[str, Field] = {}
    for one in members(name):
        if one.name == "~":
            found |= fields(one.type)
        else:
            found[one.name] = one
    return found


def is_struct(name: str) -> bool:
    """Whether a type is one with fields."""
    return name in TYPES


def is_atomic(name: str) -> bool:
    """Whether server-side apply takes values of this struct as a whole."""
    return name in ATOMIC


def type_of(api_version: str, kind: str) -> str | None:
    """The type of the objects that say this of themselves; None for objects that are not served."""
    group, _, version = api_version.rpartition("/")
    package = PACKAGES.get(group)
    if api_version == "v1" and kind in ("Status", "DeleteOptions"):
        package = "meta"
    name = f"{package}.{version}.{kind}"
    return name if name in TYPES else None
