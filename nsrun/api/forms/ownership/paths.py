"""Sets of field paths and their form in managedFields, FieldsV1.

A path is a tuple of elements; an element is written as in FieldsV1: `f:NAME` a field or a key of a map, `k:{...}` the element of a list
with these keys, `v:VALUE` that value in a set, `i:N` an index. A set of paths is a frozenset; a path being in it says nothing of those
that it leads to.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

Path = tuple[str, ...]
Paths = frozenset[Path]

EMPTY: Paths = frozenset()
_SELF = "."
_ORDER = {"f": 0, "k": 1, "v": 2, "i": 3}
MAX_PATHS = 100_000
"""In one set: what a client sends as managedFields is bounded by its body, but not by what it is unfolded to."""


class FieldsError(ValueError):
    """What is no FieldsV1."""


def field(name: str) -> str:
    """The element of a field or of a map's key."""
    return f"f:{name}"


def _dumped(value: Any) -> str:
    text = json.dumps(value, separators=(",", ":"), sort_keys=True, ensure_ascii=False)
    # As Go writes it.
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def key(values: dict[str, Any]) -> str:
    """The element of a list with these keys."""
    return f"k:{_dumped(values)}"


def value(one: Any) -> str:
    """The element of a set."""
    return f"v:{_dumped(one)}"


def _canonical(element: str) -> str:
    kind, colon, rest = element.partition(":")
    if not colon:
        raise FieldsError(f"missing colon: {element}")
    if kind in ("k", "v"):
        try:
            found = json.loads(rest)
        except (ValueError, RecursionError):
            raise FieldsError(f"{element}: no JSON") from None
        if kind == "k" and not isinstance(found, dict):
            raise FieldsError(f"{element}: no keys")
        return f"{kind}:{_dumped(found)}"
    if kind == "i" and not rest.lstrip("-").isdecimal():
        raise FieldsError(f"{element}: no index")
    return element


def decode(fields: Any) -> Paths:
    """The paths of a FieldsV1 in JSON terms.

    Raises:
        FieldsError: it is none.
    """
    found: set[Path] = set()
    todo: list[tuple[Path, Any]] = [((), fields)]
    while todo:
        path, node = todo.pop()
        if not isinstance(node, dict):
            raise FieldsError("fields are objects in objects")
        for name, child in node.items():
            if name == _SELF:
                found.add(path)
                continue
            here = (*path, _canonical(name))
            if child:
                todo.append((here, child))
            else:
                found.add(here)
            if len(found) + len(todo) > MAX_PATHS:
                raise FieldsError("too many fields")
    found.discard(())
    return frozenset(found)


def encode(paths: Iterable[Path]) -> dict[str, Any]:
    """The FieldsV1 of a set."""
    root: dict[str, Any] = {}
    for path in sorted(paths, key=_sort_key):
        node = root
        for element in path[:-1]:
            node = node.setdefault(element, {})
        node.setdefault(path[-1], {})
    members = set(paths)

    def marked(node: dict[str, Any], path: Path) -> dict[str, Any]:
        children = {element: marked(node[element], (*path, element)) for element in sorted(node, key=_element_key)}
        return {_SELF: {}, **children} if children and path in members else children

    return marked(root, ())


def _element_key(element: str) -> tuple[int, str]:
    return _ORDER.get(element[:1], 9), element


def _sort_key(path: Path) -> tuple[tuple[int, str], ...]:
    return tuple(map(_element_key, path))


def in_order(paths: Paths) -> Iterator[Path]:
    """The paths as messages list them: at each level first those that end there."""

    def visit(prefix: Path, rest: list[Path]) -> Iterator[Path]:
        depth = len(prefix)
        yield from sorted((one for one in rest if len(one) == depth + 1), key=_sort_key)
        for element in sorted({one[depth] for one in rest if len(one) > depth + 1}, key=_element_key):
            yield from visit(
                (*prefix, element), [one for one in rest if len(one) > depth + 1 and one[depth] == element]
            )

    yield from visit((), list(paths))


def shown(path: Path) -> str:
    """A path as messages have it: `.spec.containers[name="c"].image`."""
    parts = []
    for element in path:
        kind, _, rest = element.partition(":")
        if kind == "f":
            parts.append(f".{rest}")
        elif kind == "k":
            keys = json.loads(rest)
            parts.append("[" + ",".join(f"{name}={_shown(keys[name])}" for name in sorted(keys)) + "]")
        elif kind == "v":
            parts.append(f"[={_shown(json.loads(rest))}]")
        else:
            parts.append(f"[{rest}]")
    return "".join(parts)


def _shown(one: Any) -> str:
    return json.dumps(one, ensure_ascii=False)


def below(paths: Paths, roots: Iterable[Path]) -> Paths:
    """Those of the paths that are or lead through one of `roots`."""
    wanted = set(roots)
    depths = {len(one) for one in wanted}
    return frozenset(one for one in paths if any(one[:depth] in wanted for depth in depths))
