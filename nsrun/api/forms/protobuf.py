"""Kubernetes protobuf: objects in JSON terms to bytes and back.

Source: apimachinery pkg/runtime/serializer/protobuf/protobuf.go (envelope `k8s\\0` + runtime.Unknown) and the field numbers of the types
(nsrun.api.forms.facts). What a Go server would leave out of its JSON is left out here: fields that are empty and cannot tell that
from being absent.
"""

from __future__ import annotations

import base64
import binascii
import datetime
import functools
import json
from collections.abc import Callable, Iterator
from typing import Any

from nsrun.api.forms import schema
from nsrun.api.forms.refusals import bad_request
from nsrun.errors import StatusError

CONTENT_TYPE = "application/vnd.kubernetes.protobuf"
PREFIX = b"k8s\0"
MAX_VALUES = 400_000
"""Values in one body: two bytes can be an element of a list, and an element is a few hundred bytes of memory."""

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_MASK = (1 << 64) - 1
_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)


class _MalformedError(Exception):
    """Bytes that are no message of the type."""


# Decoding


class _Budget:
    """How many values may still come."""

    __slots__ = ("left",)

    def __init__(self) -> None:
        self.left = MAX_VALUES

    def spend(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise _MalformedError(f"more than {MAX_VALUES} values")


def decode(body: bytes, api_version: str = "", kind: str = "") -> dict[str, Any]:
    """The object in an enveloped body, in JSON terms, with apiVersion and kind.

    Args:
        body: as it came.
        api_version: of a body that does not say it itself.
        kind: of a body that does not say it itself.

    Raises:
        StatusError: 400, it is no such body, or of a kind that is not served.
    """
    if not body.startswith(PREFIX):
        expected = " ".join(map(str, PREFIX))
        raise bad_request(f"provided data does not appear to be a protobuf message, expected prefix [{expected}]")
    try:
        budget = _Budget()
        view = memoryview(body)[len(PREFIX) :]
        raw = memoryview(b"")
        for number, wire, value in _fields(view):
            if number == 1 and wire == _BYTES:
                for inner, inner_wire, text in _fields(value):
                    if inner_wire == _BYTES and inner in (1, 2) and text.nbytes:
                        word = _text(text)
                        api_version, kind = (word, kind) if inner == 1 else (api_version, word)
            elif number == 2 and wire == _BYTES:
                raw = value
        name = schema.type_of(api_version, kind)
        if name is None:
            raise bad_request(f'no kind "{kind}" is registered for version "{api_version}"')
        return {"apiVersion": api_version, "kind": kind, **_message(name, raw, budget)}
    except _MalformedError as error:
        raise bad_request(str(error)) from None


def _varint(view: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if at >= view.nbytes:
            raise _MalformedError("unexpected EOF")
        byte = view[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & _MASK, at
        shift += 7
        if shift >= 64:
            raise _MalformedError("proto: integer overflow")


def _fields(view: memoryview) -> Iterator[tuple[int, int, Any]]:
    """(number, wire type, an int or a view) of each field of a message."""
    at, end = 0, view.nbytes
    while at < end:
        tag, at = _varint(view, at)
        number, wire = tag >> 3, tag & 7
        if number == 0:
            raise _MalformedError(f"proto: illegal tag 0 (wire type {wire})")
        if wire == _VARINT:
            value, at = _varint(view, at)
            yield number, wire, value
            continue
        if wire == _BYTES:
            size, at = _varint(view, at)
        elif wire in (_FIXED64, _FIXED32):
            size = 8 if wire == _FIXED64 else 4
        else:
            raise _MalformedError(f"proto: illegal wireType {wire}")
        if size > end - at:
            raise _MalformedError("unexpected EOF")
        yield number, wire, view[at : at + size]
        at += size


def _text(view: memoryview) -> str:
    try:
        return str(view, "utf-8")
    except UnicodeDecodeError:
        raise _MalformedError("proto: a string is not valid UTF-8") from None


@functools.cache
def _by_number(name: str) -> dict[int, schema.Field]:
    return {one.number: one for one in schema.members(name) if one.number}


def _message(name: str, view: memoryview, budget: _Budget) -> dict[str, Any]:
    """A message of a struct's type, in JSON terms."""
    known = _by_number(name)
    result: dict[str, Any] = {}
    for number, wire, value in _fields(view):
        field = known.get(number)
        if field is None:
            continue
        budget.spend()
        if field.type.startswith("[]"):
            elements = result.setdefault(field.name, [])
            elements += _elements(field.type[2:], wire, value, budget, field.name)
        elif field.type.startswith("map:"):
            key, one = _entry(field.type[4:], wire, value, budget, field.name)
            result.setdefault(field.name, {})[key] = one
        else:
            one = _value(field.type, wire, value, budget, field.name)
            if field.name == "~":
                result |= one
            elif field.pointer or not _empty(one, field):
                result[field.name] = one
            else:
                result.pop(field.name, None)
    return result


def _empty(value: Any, field: schema.Field) -> bool:
    """Whether Go's JSON would not have a value of this field, which is no pointer."""
    if value is None or value == {}:
        return True
    return field.omitempty and (value is False or value in ("", 0) or (field.type == "bytes" and not value))


def _elements(kind: str, wire: int, value: Any, budget: _Budget, name: str) -> list[Any]:
    if kind in ("int32", "int64") and wire == _BYTES:
        found, at = [], 0
        while at < value.nbytes:
            budget.spend()
            number, at = _varint(value, at)
            found.append(_integer(number, kind))
        return found
    return [_value(kind, wire, value, budget, name)]


def _entry(kind: str, wire: int, view: Any, budget: _Budget, name: str) -> tuple[str, Any]:
    if wire != _BYTES:
        raise _MalformedError(f"proto: wrong wireType = {wire} for field {name}")
    key = ""
    one: Any = None
    for number, inner, value in _fields(view):
        if number == 1 and inner == _BYTES:
            key = _text(value)
        elif number == 2 and kind == "[]string":
            # A named list of strings is a message of its own.
            one = [_text(text) for at, each, text in _fields(value) if at == 1 and each == _BYTES]
        elif number == 2:
            one = _value(kind, inner, value, budget, name)
    if one is None:
        one = {"string": "", "bytes": "", "Quantity": "0", "[]string": []}.get(kind, {})
    return key, one


def _integer(value: int, kind: str) -> int:
    bits = 32 if kind == "int32" else 64
    value &= (1 << bits) - 1
    return value - (1 << bits) if value >> (bits - 1) else value


def _value(kind: str, wire: int, value: Any, budget: _Budget, name: str) -> Any:
    expected = _VARINT if kind in ("bool", "int32", "int64") else _BYTES
    if wire != expected:
        raise _MalformedError(f"proto: wrong wireType = {wire} for field {name}")
    if kind == "string":
        return _text(value)
    if kind == "bool":
        return bool(value)
    if kind in ("int32", "int64"):
        return _integer(value, kind)
    if kind == "bytes":
        return base64.b64encode(value).decode()
    if schema.is_struct(kind):
        return _message(kind, value, budget)
    return _LEAVES[kind](dict(_flat(value)))


def _flat(view: memoryview) -> Iterator[tuple[int, Any]]:
    for number, wire, value in _fields(view):
        if (wire == _VARINT) == isinstance(value, int):
            yield number, value


def _leaf_text(found: dict[int, Any], number: int) -> str:
    value = found.get(number, b"")
    if isinstance(value, int):
        raise _MalformedError("proto: wrong wireType = 0 for a string")
    return _text(memoryview(value))


def _leaf_number(found: dict[int, Any], number: int) -> int:
    value = found.get(number, 0)
    if not isinstance(value, int):
        raise _MalformedError("proto: wrong wireType = 2 for a number")
    return _integer(value, "int64")


def _quantity(found: dict[int, Any]) -> Any:
    return _leaf_text(found, 1) or "0"


def _int_or_string(found: dict[int, Any]) -> Any:
    if _leaf_number(found, 1) == 1:
        return _leaf_text(found, 3)
    return _integer(_leaf_number(found, 2) & _MASK, "int32")


def _time(found: dict[int, Any], micro: bool = False) -> Any:
    seconds, nanos = _leaf_number(found, 1), _leaf_number(found, 2)
    if not seconds and not nanos:
        return None
    try:
        moment = _EPOCH + datetime.timedelta(seconds=seconds, microseconds=nanos // 1000 if micro else 0)
    except OverflowError:
        raise _MalformedError("a time that is none") from None
    return moment.replace(tzinfo=None).isoformat(timespec="microseconds" if micro else "seconds") + "Z"


def _raw(found: dict[int, Any]) -> Any:
    try:
        return json.loads(_leaf_text(found, 1) or "null")
    except (ValueError, RecursionError):
        raise _MalformedError("bytes that are no JSON where JSON is to be") from None


_LEAVES: dict[str, Callable[[dict[int, Any]], Any]] = {
    "Quantity": _quantity,
    "IntOrString": _int_or_string,
    "Time": _time,
    "MicroTime": functools.partial(_time, micro=True),
    "FieldsV1": _raw,
    "RawExtension": _raw,
}


# Encoding


def can_encode(obj: dict[str, Any]) -> bool:
    """Whether an object, or a list of objects, has a protobuf form here."""
    api_version, kind = str(obj.get("apiVersion")), str(obj.get("kind"))
    return schema.type_of(api_version, kind) is not None or (
        kind.endswith("List") and schema.type_of(api_version, kind.removesuffix("List")) is not None
    )


def encode(obj: dict[str, Any]) -> bytes:
    """The enveloped body of an object or of a list of objects, in JSON terms.

    Raises:
        StatusError: 406, objects of this kind have no protobuf form here (`can_encode`).
    """
    api_version, kind = str(obj.get("apiVersion")), str(obj.get("kind"))
    name = schema.type_of(api_version, kind)
    if name is not None:
        raw = _struct(name, obj)
    else:
        element = schema.type_of(api_version, kind.removesuffix("List"))
        if element is None or not kind.endswith("List"):
            raise StatusError(
                {"code": 406, "reason": "NotAcceptable", "message": f"object {kind} has no protobuf form here"}
            )
        raw = sized(1, _struct("meta.v1.ListMeta", obj.get("metadata") or {}))
        raw += b"".join(sized(2, _struct(element, one)) for one in obj.get("items") or [])
    meta = sized(1, api_version.encode()) + sized(2, kind.encode())
    return PREFIX + sized(1, meta) + sized(2, raw) + sized(3, b"") + sized(4, b"")


def watch_frame(event: str, obj: dict[str, Any]) -> bytes:
    """A change as a frame of a watch: four bytes of length, then metav1.WatchEvent.

    Args:
        event: ADDED, MODIFIED, DELETED, BOOKMARK or ERROR.
        obj: what it is about; a Status for ERROR.
    """
    message = sized(1, event.encode()) + sized(2, sized(1, encode(obj)))
    return len(message).to_bytes(4, "big") + message


def varint(value: int) -> bytes:
    """A number as a message has it."""
    value &= _MASK
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def sized(number: int, payload: bytes) -> bytes:
    """A field of bytes, a text or a message, with its tag."""
    return varint(number << 3 | _BYTES) + varint(len(payload)) + payload


def _struct(name: str, obj: dict[str, Any]) -> bytes:
    parts: list[bytes] = []
    for field in schema.members(name):
        if field.name == "~":
            # What is laid flat in JSON is a message of its own here.
            parts.append(sized(field.number, _struct(field.type, obj)))
            continue
        value = obj.get(field.name)
        if value is None or not field.number:
            continue
        if field.type.startswith("[]"):
            parts += [_one(field.number, field.type[2:], each) for each in value]
        elif field.type.startswith("map:"):
            for key in sorted(value):
                entry = sized(1, key.encode()) + _one(2, field.type[4:], value[key])
                parts.append(sized(field.number, entry))
        else:
            parts.append(_one(field.number, field.type, value))
    return b"".join(parts)


def _one(number: int, kind: str, value: Any) -> bytes:
    """A field with its tag."""
    if kind == "bool":
        return varint(number << 3) + (b"\1" if value else b"\0")
    if kind in ("int32", "int64"):
        return varint(number << 3) + varint(int(value))
    return sized(number, _payload(kind, value))


def _payload(kind: str, value: Any) -> bytes:
    if kind == "string":
        return str(value).encode()
    if kind == "bytes":
        try:
            return base64.b64decode(value)
        except (binascii.Error, ValueError, TypeError):
            return b""
    if kind == "[]string":
        return b"".join(sized(1, str(one).encode()) for one in value)
    if schema.is_struct(kind):
        return _struct(kind, value)
    if kind == "Quantity":
        return sized(1, str(value).encode())
    if kind == "IntOrString":
        if isinstance(value, str):
            return _one(1, "int64", 1) + _one(2, "int32", 0) + sized(3, value.encode())
        return _one(1, "int64", 0) + _one(2, "int32", value) + sized(3, b"")
    if kind in ("Time", "MicroTime"):
        moment = datetime.datetime.fromisoformat(value) - _EPOCH
        return _one(1, "int64", moment.days * 86_400 + moment.seconds) + _one(2, "int32", moment.microseconds * 1000)
    return sized(1, json.dumps(value, separators=(",", ":")).encode())
