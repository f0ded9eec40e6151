"""Values with their types: which paths they have, how two of them differ, how one is merged into another.

Source: sigs.k8s.io/structured-merge-diff v6 typed/{tofieldset,compare,merge,remove,validate}.go. What is merged and what is one value
is said by nsrun.api.forms.schema: lists of type map and set and structs and maps are merged, the rest is not.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from nsrun.api.forms import schema
from nsrun.api.forms.ownership import paths
from nsrun.api.forms.ownership.paths import Path, Paths

SCALAR, LIST, MAP = "scalar", "list", "map"
ABSENT: Any = object()
"""No value; JSON's null is one."""


class TypedError(Exception):
    """A value that does not fit its type.

    Attributes:
        found: path and complaint of each place.
    """

    def __init__(self, found: list[tuple[Path, str]]) -> None:
        self.found = found
        texts = [f"{paths.shown(path)}: {what}" if path else what for path, what in found]
        super().__init__(texts[0] if len(texts) == 1 else "errors:\n  " + "\n  ".join(texts))


@dataclass(frozen=True, slots=True)
class Kind:
    """How values of a field are taken.

    Attributes:
        shape: SCALAR, LIST or MAP.
        type: of the value, as nsrun.api.forms.schema names it.
        atomic: as one value.
        keys: of the elements of a list; () for a set.
        top: an object, which has apiVersion and kind, too.
    """

    shape: str
    type: str
    atomic: bool = False
    keys: tuple[str, ...] = ()
    top: bool = False

    def element(self) -> Kind:
        """Of the elements of a list or the values of a map."""
        return kind_of(schema.Field("", self.type.removeprefix("[]").removeprefix("map:")))

    def child(self, name: str) -> Kind | None:
        """Of a field; None for one that is not declared."""
        if self.type.startswith("map:"):
            return self.element()
        if self.top and name in ("apiVersion", "kind"):
            return Kind(SCALAR, "string")
        found = schema.fields(self.type).get(name) if schema.is_struct(self.type) else None
        return None if found is None else kind_of(found)

    @property
    def is_struct(self) -> bool:
        """Whether its fields are declared."""
        return schema.is_struct(self.type)

    def identity(self, element: Any) -> str:
        """The path element of a list's element.

        Raises:
            TypedError: it has no keys.
        """
        if not self.keys:
            if isinstance(element, (dict, list)):
                raise TypedError([((), "set elements must be scalars")])
            return paths.value(element)
        if not isinstance(element, dict):
            raise TypedError([((), "associative list with keys may not have non-map elements")])
        known = schema.fields(self.type.removeprefix("[]"))
        found = {}
        for name in self.keys:
            if element.get(name) is not None:
                found[name] = element[name]
            elif known[name].default is not None:
                found[name] = known[name].default
            else:
                what = f'associative list with keys has an element that omits key field "{name}" (and doesn\'t have default value)'
                raise TypedError([((), what)])
        return paths.key(found)


def kind_of(one: schema.Field) -> Kind:
    """How values of a field are taken."""
    if one.type.startswith("[]"):
        if one.list_type not in ("map", "set"):
            return Kind(LIST, one.type, atomic=True)
        return Kind(LIST, one.type, keys=one.keys)
    if one.type.startswith("map:"):
        return Kind(MAP, one.type, atomic=one.map_type == "atomic")
    if schema.is_struct(one.type):
        return Kind(MAP, one.type, atomic=one.map_type == "atomic" or schema.is_atomic(one.type))
    # Raw fields have no type: each is one value.
    return Kind(SCALAR, one.type)


def top(name: str) -> Kind:
    """How objects of a type are taken."""
    return Kind(MAP, name, top=True)


def _items(value: Any) -> Any:
    return value if isinstance(value, (dict, list)) and value else None


# Validation


def validate(kind: Kind, value: Any) -> None:
    """See that a value fits its type, and that no list has two elements of the same keys.

    Raises:
        TypedError: it does not.
    """
    found = list(_complaints(kind, value, ()))
    if found:
        raise TypedError(found)


_GO = {bool: "bool", str: "string", int: "number", float: "number", dict: "map", list: "list"}


def _complaints(kind: Kind, value: Any, path: Path) -> Iterator[tuple[Path, str]]:
    if value is None:
        return
    if kind.shape == SCALAR:
        expected = {"string": (str,), "bool": (bool,), "int32": (int,), "int64": (int,), "bytes": (str,)}.get(kind.type)
        if isinstance(value, (dict, list)) and kind.type not in ("FieldsV1", "RawExtension"):
            yield path, f"expected {_expected(kind.type)}, got {_GO[type(value)]}"
        elif expected is not None and (
            not isinstance(value, expected) or (isinstance(value, bool) and bool not in expected)
        ):
            yield path, f"expected {_expected(kind.type)}, got &value.valueUnstructured{{Value:{_go(value)}}}"
        return
    if kind.shape == LIST:
        if not isinstance(value, list):
            yield path, f"expected list, got {_GO[type(value)]}"
            return
        seen: set[str] = set()
        for at, one in enumerate(value):
            if kind.atomic:
                here = (*path, f"i:{at}")
            else:
                try:
                    name = kind.identity(one)
                except TypedError as error:
                    yield path, f"element {at}: {error}"
                    continue
                here = (*path, name)
                if name in seen:
                    yield path, f"duplicate entries for key {paths.shown((name,))}"
                seen.add(name)
            yield from _complaints(kind.element(), one, here)
        return
    if not isinstance(value, dict):
        yield path, f"expected map, got {_GO[type(value)]}"
        return
    for name, one in value.items():
        child = kind.child(name)
        here = (*path, paths.field(name))
        if child is None:
            yield here, "field not declared in schema"
        else:
            yield from _complaints(child, one, here)


def _expected(kind: str) -> str:
    return {
        "bool": "boolean",
        "int32": "numeric",
        "int64": "numeric",
        "IntOrString": "scalar",
        "Quantity": "scalar",
    }.get(kind, "string")


def _go(value: Any) -> str:
    if isinstance(value, str):
        return f'"{value}"'
    return str(value).lower() if isinstance(value, bool) else str(value)


# The paths of a value


def paths_of(kind: Kind, value: Any) -> Paths:
    """The paths that a value has."""
    found: set[Path] = set()
    _gather(kind, value, (), found)
    return frozenset(found)


def _gather(kind: Kind, value: Any, path: Path, found: set[Path]) -> None:
    if kind.shape == SCALAR or kind.atomic:
        found.add(path)
    elif kind.shape == LIST:
        for one in _items(value) or ():
            here = (*path, kind.identity(one))
            _gather(kind.element(), one, here, found)
            found.add(here)
    else:
        for name, one in (_items(value) or {}).items():
            here = (*path, paths.field(name))
            child = kind.child(name)
            if child is None or one is None or one == {} or not kind.is_struct:
                found.add(here)
            if child is not None and one is not None:
                _gather(child, one, here, found)


def with_fields(kind: Kind, found: Paths) -> Paths:
    """The paths, and the declared fields on the way to them."""
    more: set[Path] = set(found)
    for path in found:
        here: Kind | None = kind
        for depth, element in enumerate(path[:-1]):
            if here is None:
                break
            mark, _, name = element.partition(":")
            if mark != "f":
                here = here.element()
                continue
            child = here.child(name)
            if here.is_struct and child is not None:
                more.add(path[: depth + 1])
            here = child
    return frozenset(more)


# How two values differ


@dataclass(slots=True)
class Difference:
    """The paths that are new, changed and gone from one value to another."""

    added: set[Path] = field(default_factory=set)
    modified: set[Path] = field(default_factory=set)
    removed: set[Path] = field(default_factory=set)


def compare(kind: Kind, old: Any, new: Any) -> Difference:
    """How `new` differs from `old`."""
    found = Difference()
    _compare(kind, old, new, (), found)
    for each in (found.added, found.modified, found.removed):
        each.discard(())
    return found


def same(left: Any, right: Any) -> bool:
    """Whether two values are equal: 1 is 1.0, but not true."""
    if isinstance(left, bool) or isinstance(right, bool):
        return left is right
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(same(left[name], right[name]) for name in left)
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(same, left, right))
    return bool(left == right)


def _compare(kind: Kind, old: Any, new: Any, path: Path, found: Difference) -> None:
    if old is ABSENT and new is ABSENT:
        return
    leaf = kind.shape == SCALAR or kind.atomic
    if not leaf and (old is ABSENT or not _items(old)) and (new is ABSENT or not _items(new)):
        leaf = True  # nothing in either: what differs is whether it is there
    if old is ABSENT:
        found.added.add(path)
    elif new is ABSENT:
        found.removed.add(path)
    elif leaf:
        if not same(old, new):
            found.modified.add(path)
        return
    if leaf:
        return
    if kind.shape == LIST:
        before, after = _indexed(kind, old), _indexed(kind, new)
        for name in {**before, **after}:
            left, right = before.get(name), after.get(name)
            here = (*path, name)
            if left is not None and right is not None and (len(left) > 1 or len(right) > 1):
                if not same(left, right):
                    found.modified.add(here)  # elements of the same keys are taken as one value
            else:
                _compare(kind.element(), left[0] if left else ABSENT, right[0] if right else ABSENT, here, found)
        return
    was: dict[str, Any] = _items(None if old is ABSENT else old) or {}
    now: dict[str, Any] = _items(None if new is ABSENT else new) or {}
    for name in {**was, **now}:
        child = kind.child(name) or Kind(SCALAR, "RawExtension")
        _compare(child, was.get(name, ABSENT), now.get(name, ABSENT), (*path, paths.field(name)), found)


def _indexed(kind: Kind, value: Any) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {}
    for one in _items(None if value is ABSENT else value) or ():
        found.setdefault(kind.identity(one), []).append(one)
    return found


# Merging


def merge(kind: Kind, live: Any, applied: Any) -> Any:
    """`live` with all that `applied` says; the elements of lists in the order of `applied`, those of `live` alone between them."""
    if applied is ABSENT:
        return live
    if live is ABSENT or kind.shape == SCALAR or kind.atomic or applied is None:
        return applied
    if not _items(live):
        return applied
    if not _items(applied):
        return live if applied is not None else applied
    if kind.shape == LIST:
        return _merge_lists(kind, live, applied)
    result = dict(live)
    for name, one in applied.items():
        child = kind.child(name) or Kind(SCALAR, "RawExtension")
        result[name] = merge(child, live.get(name, ABSENT), one)
    return result


def _merge_lists(kind: Kind, live: list[Any], applied: list[Any]) -> list[Any]:
    before, after = _indexed(kind, live), _indexed(kind, applied)
    names = list(after)
    shared = [name for name in names if name in before]
    result: list[Any] = []
    taken = 0

    def take_through(last: str | None) -> None:
        nonlocal taken
        while taken < len(names):
            name = names[taken]
            taken += 1
            result.append(merge(kind.element(), before[name][0] if name in before else ABSENT, after[name][0]))
            if name == last:
                return

    expected = iter(shared)
    following = next(expected, None)
    for one in live:
        name = kind.identity(one)
        if name not in after:
            result.append(one)
        elif name == following:
            take_through(name)
            following = next(expected, None)
    take_through(None)
    return result


def remove(kind: Kind, value: Any, gone: Paths) -> Any:
    """A value without what stands at these paths; what has nothing left is null."""
    return _remove(kind, value, _tree(gone))


def _tree(found: Paths) -> dict[str, Any]:
    """Element → (whether a path ends there, the tree below)."""
    root: dict[str, Any] = {}
    for path in found:
        node = root
        for element in path[:-1]:
            node = node.setdefault(element, [False, {}])[1]
        node.setdefault(path[-1], [False, {}])[0] = True
    return root


def _remove(kind: Kind, value: Any, tree: dict[str, Any]) -> Any:
    if kind.shape == SCALAR or kind.atomic or not _items(value):
        return value
    if kind.shape == LIST:
        kept = []
        for one in value:
            ends, inner = tree.get(kind.identity(one), (False, {}))
            if not ends:
                kept.append(_remove(kind.element(), one, inner) if inner else one)
        return kept or None
    result = {}
    for name, one in value.items():
        ends, inner = tree.get(paths.field(name), (False, {}))
        if not ends:
            child = kind.child(name)
            result[name] = _remove(child, one, inner) if inner and child is not None else one
    return result or None


def zero(name: str, *, is_top: bool = False) -> dict[str, Any]:
    """What Go's JSON has of an object of this type in which nothing is set: fields without omitempty are there."""
    found: dict[str, Any] = {}
    for one in schema.fields(name).values():
        if one.pointer:
            if not one.omitempty:
                found[one.name] = None
        elif schema.is_struct(one.type):
            if not one.omitzero:
                found[one.name] = zero(one.type)
        elif not one.omitempty and one.type not in ("Quantity", "IntOrString"):
            found[one.name] = {"string": "", "bool": False, "int32": 0, "int64": 0}.get(one.type)
    if is_top:
        found.pop("apiVersion", None)
    return found
