"""Strategic merge patch: JSON merge patch that knows which lists are merged by which key.

Source: apimachinery pkg/util/strategicpatch/patch.go and third_party/forked/golang/json/fields.go (v1.36).
Directives: `$patch` (replace, delete) in an object or an element, `$retainKeys` beside the fields that are to stay,
`$deleteFromPrimitiveList/FIELD`, `$setElementOrder/FIELD`.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from typing import Any

from nsrun.api.forms import schema
from nsrun.api.forms.patches import not_an_object
from nsrun.api.forms.refusals import bad_request, failed, rejected

_PATCH = "$patch"
_RETAIN = "$retainKeys"
_DELETE = "$deleteFromPrimitiveList/"
_ORDER = "$setElementOrder/"

_BAD_RETAIN = "invalid patch format of retainKeys"


def merge(api_version: str, kind: str, document: Any, patch: Any) -> Any:
    """The document after the patch.

    Args:
        api_version: of the document.
        kind: of the document; its type says which lists are merged.
        document: in JSON terms; it is not changed.
        patch: in JSON terms; it is not changed.

    Raises:
        StatusError: 400, 422 or 500 as the API server has it for a patch that cannot be applied.
    """
    if not isinstance(patch, dict):
        raise not_an_object(patch)
    name = schema.type_of(api_version, kind)
    if name is None:
        raise bad_request("strategic merge patch format is not supported")
    return _Object(name).merge(copy.deepcopy(document), copy.deepcopy(patch))


class _Object:
    """Objects of one type; a map has no fields and none of its values are merged by key."""

    def __init__(self, name: str) -> None:
        self.name = name

    def field(self, key: str) -> schema.Field:
        """What is known of a field whose value is an object or a list."""
        if not schema.is_struct(self.name):
            what = "interface" if self.name == "FieldsV1" else "map"
            raise failed(f"merging an object in json but data type is not struct, instead is: {what}")
        if key in ("apiVersion", "kind"):
            return schema.Field(key, "string")
        found = schema.fields(self.name).get(key)
        if found is None:
            short = self.name.rpartition(".")[2]
            raise failed(f'unable to find api field in struct {short} for the json field "{key}"')
        return found

    def merge(self, document: dict[str, Any], patch: dict[str, Any]) -> dict[str, Any]:
        """Merge an object; both may be changed."""
        if _PATCH in patch:
            return _directed(patch)
        _retain(document, patch)
        for key in [key for key in patch if key.startswith(_ORDER)]:
            self._ordered(document, patch, key)
        for key, value in patch.items():
            if key.startswith(_DELETE):
                self._deleted(document, key.removeprefix(_DELETE), value)
            elif value is None:
                document.pop(key, None)
            else:
                self._merge_field(document, key, value)
        return document

    def _merge_field(self, document: dict[str, Any], key: str, value: Any) -> None:
        old = document.get(key)
        if isinstance(old, dict) and isinstance(value, dict):
            field = self.field(key)
            merges = "replace" not in field.strategies
            document[key] = _Object(field.type).merge(old, value) if merges else value
        elif isinstance(old, list) and isinstance(value, list):
            document[key] = self._merge_list(key, old, value)
        else:
            # What is new, or of another type, is taken as it is, but for directives and, outside of what there was, nulls.
            kept = _plain(value if isinstance(old, type(value)) else _without_nulls(value))
            if kept is _GONE:
                document.pop(key, None)
            else:
                document[key] = kept

    def _deleted(self, document: dict[str, Any], key: str, values: Any) -> None:
        old = document.get(key)
        if isinstance(old, list) and isinstance(values, list):
            _one_type(old, values)
            document[key] = [one for one in old if not _among(one, values)]

    def _ordered(self, document: dict[str, Any], patch: dict[str, Any], directive: str) -> None:
        """Merge a list whose order the patch says."""
        order = patch.pop(directive)
        if not isinstance(order, list):
            raise failed(f"expected a []interface {{}}, but received a {_go_type(order)}")
        key = directive.removeprefix(_ORDER)
        old, new = document.get(key), patch.get(key)
        for there, value in ((key in document, old), (key in patch, new)):
            if there and not isinstance(value, list):
                raise failed(f"expected a []interface {{}}, but received a {_go_type(value)}")
        field = self.field(key)
        _check_order(new or [], order, field.merge_key)
        if key not in document and key not in patch:
            return
        live = [*(old or [])]
        if key not in patch:
            merged = old or []
        elif key not in document:
            merged = _plain(new)
        else:
            merged = self._merge_list(key, old or [], new or [])
        patch.pop(key, None)
        if not live and not new:
            raise failed("no elements in any of the given slices")
        if _one_type(live, new or []) is dict and not field.merge_key:
            _key_of((live or new or [])[0], field.merge_key)
        document[key] = _arranged(merged, order, live, field.merge_key)

    def _merge_list(self, key: str, old: list[Any], new: list[Any]) -> list[Any]:
        field = self.field(key)
        if "merge" not in field.strategies:
            return new
        if not old and not new:
            return old
        if _one_type(old, new) is not dict:
            if field.merge_key:
                raise failed(f"expected a map[string]interface {{}}, but received a {_go_type((old or new)[0])}")
            both = list(old)
            both += [one for one in new if not _among(one, both)]
            return _arranged(both, new, old, "")
        element = _Object(field.type.removeprefix("[]"))
        if not field.merge_key:
            raise failed(f"cannot merge lists without merge key for {element.name.rpartition('.')[2]}")
        return element.merge_elements(old, new, field.merge_key)

    def merge_elements(self, old: list[Any], new: list[Any], key: str) -> list[Any]:
        """Merge two lists of objects of this type by a key."""
        plain = []
        replaced = False
        for one in new:
            directive = one.get(_PATCH, _GONE)
            if directive is _GONE:
                plain.append(one)
            elif directive == "delete":
                value = _key_of(one, key)
                old = [other for other in old if not _same(other.get(key), value)]
            elif directive == "replace":
                replaced = True
            elif directive == "merge":
                raise failed("merging lists cannot yet be specified in the patch")
            else:
                raise _bad_directive(directive, one)
        if replaced:
            return plain
        live = list(old)
        for one in plain:
            value = _key_of(one, key)
            at = _index(old, value, key)
            if at is None:
                # As it is, nulls and directives in it included: that is for whoever reads the result to refuse.
                old.append(one)
            else:
                old[at] = self.merge(old[at], one)
        return _arranged(old, plain, live, key)


_GONE: Any = object()


def _directed(patch: dict[str, Any]) -> dict[str, Any]:
    directive = patch[_PATCH]
    if directive == "replace":
        del patch[_PATCH]
        return patch
    if directive == "delete":
        return {}
    raise _bad_directive(directive, patch)


def _bad_directive(directive: Any, where: dict[str, Any]) -> Exception:
    return failed(f"unknown patch type: {_go(directive)} in map: {_go(where)}")


def _retain(document: dict[str, Any], patch: dict[str, Any]) -> None:
    """Carry out `$retainKeys`: what it does not name goes, and the patch may say nothing else."""
    names = patch.pop(_RETAIN, _GONE)
    if names is _GONE:
        return
    if not isinstance(names, list):
        raise bad_request(_BAD_RETAIN)
    for key, value in patch.items():
        if value is not None and not key.startswith((_DELETE, _ORDER)) and key not in names:
            raise bad_request(_BAD_RETAIN)
    for key in [key for key in document if key not in names]:
        del document[key]


def _check_order(new: list[Any], order: list[Any], key: str) -> None:
    """An order names all elements of the patch in the patch's own order."""
    if not new or not order:
        return
    if key:
        for one in new:
            if not isinstance(one, dict):
                raise failed(f"expected a map[string]interface {{}}, but received a {_go_type(one)}")
        new = [one for one in new if one.get(_PATCH) != "delete"]
        for one in order:
            if not isinstance(one, dict):
                raise failed(f"expected a map[string]interface {{}}, but received a {_go_type(one)}")
    at = place = 0
    while at < len(new) and place < len(order):
        if isinstance(new[at], dict) and _PATCH in new[at]:
            at += 1
            continue
        one = order[place]
        at += _same(_key_of(new[at], key) if key else new[at], _key_of(one, key) if key else one)
        place += 1
    if at < len(new):
        raise failed(f"The order in patch list:\n{_go(new)}\n doesn't match $setElementOrder list:\n{_go(order)}\n")


def _arranged(merged: list[Any], asked: list[Any], live: list[Any], key: str) -> list[Any]:
    """The elements in the order that is asked for; the others where they were between them, as far as that goes."""

    def place(order: list[Any]) -> Callable[[Any], int]:
        def of(one: Any) -> int:
            at = _index(order, _key_of(one, key) if key else one, key)
            return -1 if at is None else at

        return of

    in_asked, in_live = place(asked), place(live)
    mine = sorted((one for one in merged if in_asked(one) >= 0), key=in_asked)
    others = sorted((one for one in merged if in_asked(one) < 0), key=in_live)
    result = []
    while mine and others:
        left, right = in_live(others[0]), in_live(mine[0])
        result.append((others if 0 <= left < right else mine).pop(0))
    return result + mine + others


def _index(elements: Iterable[Any], value: Any, key: str) -> int | None:
    for at, one in enumerate(elements):
        if _same((one.get(key, _GONE) if isinstance(one, dict) else _GONE) if key else one, value):
            return at
    return None


def _key_of(element: Any, key: str) -> Any:
    if key not in element:
        raise failed(f"map: {_go(element)} does not contain declared merge key: {key}")
    return element[key]


def _same(left: Any, right: Any) -> bool:
    return type(left) is type(right) and bool(left == right)


def _among(one: Any, others: Iterable[Any]) -> bool:
    return any(_same(one, other) for other in others)


def _one_type(*lists: list[Any]) -> type:
    """The type that all elements have."""
    kinds = {type(one) for elements in lists for one in elements}
    if list in kinds:
        raise rejected()
    if len(kinds) > 1 or type(None) in kinds:
        raise failed(f"list element types are not identical: {_go(list(lists))}")
    return kinds.pop() if kinds else str


def _plain(value: Any) -> Any:
    """A value without directives: `_GONE` for an object that is one."""
    if isinstance(value, dict):
        if _PATCH in value:
            return _GONE
        return {key: kept for key, one in value.items() if (kept := _plain(one)) is not _GONE}
    if isinstance(value, list):
        return [kept for one in value if (kept := _plain(one)) is not _GONE]
    return value


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nulls(one) for key, one in value.items() if one is not None}
    if isinstance(value, list):
        return [_without_nulls(one) for one in value]
    return value


def _go(value: Any) -> str:
    """A value as Go's %v prints it."""
    if isinstance(value, dict):
        return f"map[{' '.join(f'{key}:{_go(value[key])}' for key in sorted(value))}]"
    if isinstance(value, list):
        return f"[{' '.join(map(_go, value))}]"
    return "<nil>" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _go_type(value: Any) -> str:
    names: dict[type, str] = {
        dict: "map[string]interface {}", list: "[]interface {}", str: "string", bool: "bool", int: "int64", float: "float64",
    }  # fmt: skip
    return names.get(type(value), "%!s(<nil>)")
