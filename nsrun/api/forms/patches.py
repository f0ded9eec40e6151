"""JSON patch (RFC 6902) and JSON merge patch (RFC 7386) as the API server applies them.

Source: apiserver pkg/endpoints/handlers/patch.go. Documents are never changed; the result may share parts with both arguments.
"""

from __future__ import annotations

import copy
import re
from typing import Any

from nsrun.api.forms.refusals import bad_request, go_name, rejected, too_large
from nsrun.errors import StatusError

JSON_PATCH = "application/json-patch+json"
MERGE_PATCH = "application/merge-patch+json"
STRATEGIC_MERGE_PATCH = "application/strategic-merge-patch+json"
APPLY_PATCH = "application/apply-patch+yaml"
TYPES = (JSON_PATCH, MERGE_PATCH, STRATEGIC_MERGE_PATCH, APPLY_PATCH)

MAX_OPERATIONS = 10_000
"""In one JSON patch."""
MAX_COPIED = 3 * 1024 * 1024
"""Bytes, roughly, that `copy` may add to a document in one patch: what is doubled again and again grows exponentially."""
_VALUE_BYTES = 16

_INDEX = re.compile(r"0|[1-9][0-9]*", re.ASCII)
_MISSING = object()


def json_patch(document: Any, operations: Any) -> Any:
    """The document after all operations.

    Args:
        document: in JSON terms.
        operations: the patch, in JSON terms.

    Raises:
        StatusError: 400, it is no list of operations; 413, too many; 422, one does not apply (a `test` that fails, too).
    """
    if not isinstance(operations, list):
        raise bad_request(f"json: cannot unmarshal {go_name(operations)} into Go value of type jsonpatch.Patch")
    for one in operations:
        if not isinstance(one, dict):
            raise bad_request(f"json: cannot unmarshal {go_name(one)} into Go value of type jsonpatch.Operation")
    if len(operations) > MAX_OPERATIONS:
        raise too_large(f"The allowed maximum operations in a JSON patch is {MAX_OPERATIONS}, got {len(operations)}")
    holder = {"": copy.deepcopy(document)}
    budget = MAX_COPIED
    for one in operations:
        path = _pointer(one.get("path"))
        match one.get("op"):
            case "add":
                _add(holder, path, copy.deepcopy(_value(one)))
            case "remove":
                _remove(holder, path)
            case "replace":
                _replace(holder, path, copy.deepcopy(_value(one)))
            case "move":
                source = _pointer(one.get("from"))
                if path[: len(source)] == source and path != source:
                    raise rejected()  # a value cannot become part of itself
                value = _get(holder, source)
                if path != source:
                    _remove(holder, source)
                    _add(holder, path, value)
            case "copy":
                value = _get(holder, _pointer(one.get("from")))
                budget -= _size(value, budget)
                if budget < 0:
                    raise rejected()
                _add(holder, path, copy.deepcopy(value))
            case "test":
                if not equal(_get(holder, path, None), one.get("value")):
                    raise rejected()
            case _:
                raise rejected()
    return holder[""]


def _value(operation: dict[str, Any]) -> Any:
    if "value" not in operation:
        raise rejected()
    return operation["value"]


def _pointer(text: Any) -> list[str]:
    """The steps of a JSON pointer, below a holder that has the document as ""."""
    if not isinstance(text, str) or (text and not text.startswith("/")):
        raise rejected()
    return [step.replace("~1", "/").replace("~0", "~") for step in text.split("/")]


def _step(parent: Any, step: str, default: Any = _MISSING) -> Any:
    if isinstance(parent, dict) and step in parent:
        return parent[step]
    if isinstance(parent, list) and _INDEX.fullmatch(step) and len(step) < 9 and int(step) < len(parent):
        return parent[int(step)]
    if default is _MISSING:
        raise rejected()
    return default


def _get(holder: Any, path: list[str], default: Any = _MISSING) -> Any:
    value = holder
    for at, step in enumerate(path):
        # What is no object and no list has nothing in it that could be missing.
        last = at == len(path) - 1 and isinstance(value, dict | list)
        value = _step(value, step, default if last else _MISSING)
    return value


def _add(holder: Any, path: list[str], value: Any) -> None:
    parent, step = _get(holder, path[:-1]), path[-1]
    if isinstance(parent, dict):
        parent[step] = value
    elif isinstance(parent, list) and step == "-":
        parent.append(value)
    elif isinstance(parent, list) and _INDEX.fullmatch(step) and len(step) < 9 and int(step) <= len(parent):
        parent.insert(int(step), value)
    else:
        raise rejected()


def _remove(holder: Any, path: list[str]) -> None:
    parent, step = _get(holder, path[:-1]), path[-1]
    _step(parent, step)
    if len(path) == 1:
        raise rejected()  # the whole of an object cannot go
    del parent[int(step) if isinstance(parent, list) else step]


def _replace(holder: Any, path: list[str], value: Any) -> None:
    parent, step = _get(holder, path[:-1]), path[-1]
    _step(parent, step)
    parent[int(step) if isinstance(parent, list) else step] = value


def _size(value: Any, enough: int) -> int:
    """About how large a value is, or something above `enough`."""
    count, todo = 0, [value]
    while todo and count <= enough:
        one = todo.pop()
        count += _VALUE_BYTES + len(one) if isinstance(one, str) else _VALUE_BYTES
        if isinstance(one, dict):
            todo += one.values()
            count += sum(map(len, one))
        elif isinstance(one, list):
            todo += one
    return count


def equal(left: Any, right: Any) -> bool:
    """Whether two JSON values are the same: 1 is 1.0, but not true."""
    if isinstance(left, bool) or isinstance(right, bool):
        return left is right
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(equal(left[key], right[key]) for key in left)
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(equal, left, right))
    return bool(left == right)


def merge_patch(document: Any, patch: Any) -> Any:
    """The document with the patch merged into it: objects by their fields, null takes a field away, the rest replaces.

    Raises:
        StatusError: 400, the patch is no object.
    """
    if not isinstance(patch, dict):
        raise not_an_object(patch)
    return _merged(document, patch)


def not_an_object(patch: Any) -> StatusError:
    """400: a patch that is to be an object and is none."""
    return bad_request(
        f"error decoding patch: json: cannot unmarshal {go_name(patch)} into Go value of type map[string]interface {{}}"
    )


def _merged(document: Any, patch: Any) -> Any:
    if not isinstance(patch, dict):
        return patch
    result = dict(document) if isinstance(document, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = _merged(result.get(key), value)
    return result
