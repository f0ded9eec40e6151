"""Documents → typed objects, with the decode errors of the API server.

Source of the rules: sigs.k8s.io/json (Go's encoding/json, case-sensitive, strict) driven by the Go types, which
nsrun.spec.model carries in GO_FIELDS. A value of the wrong type is fatal and the first one is reported; unknown and
duplicate fields are collected, with the path of each.
"""

from __future__ import annotations

import base64
import binascii
import datetime
import functools
import json
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import msgspec

from nsrun.spec import model
from nsrun.spec.documents import Document
from nsrun.spec.model import ApiStruct, Object
from nsrun.spec.quantity import QuantityError, canonical
from nsrun.spec.scalars import JsonNumber, go_float

MAX_STRICT_ERRORS = 100
"""Unknown and duplicate fields reported of one document, as the API server does."""


class DecodeError(Exception):
    """A document that does not fit its kind's types; the message is the API server's.

    Attributes:
        path: the field path of the value, indices included, "" where there is none.
    """

    def __init__(self, message: str, path: str = "") -> None:
        super().__init__(message)
        self.path = path


class StrictError(Exception):
    """A document with unknown or duplicate fields.

    Attributes:
        messages: one per field, in the API server's words.
        paths: the field of each message, "" where a message has none.
        known: for each message the fields that could stand there.
        object: the object without those fields.
    """

    object: Any

    def __init__(self, messages: list[str], paths: list[str], known: list[tuple[str, ...]], obj: ApiStruct) -> None:
        super().__init__("; ".join(messages))
        self.messages = messages
        self.paths = paths
        self.known = known
        self.object = obj


class _State:
    """What one decoding gathers."""

    __slots__ = ("duplicates", "fatal", "known", "messages", "paths", "sorted")

    def __init__(self, document: Document) -> None:
        self.sorted = not document.is_json  # the conversion from YAML sorts the keys
        self.duplicates = document.duplicates
        self.fatal: DecodeError | None = None
        self.messages: list[str] = []
        self.paths: list[str] = []
        self.known: list[tuple[str, ...]] = []

    def mismatch(self, what: str, at: _Place, go_type: str) -> None:
        """Keep the first value of a wrong type."""
        if self.fatal is None:
            where = f"Go struct field {at.struct}.{at.go}" if at.go else "Go value"
            self.fatal = DecodeError(f"json: cannot unmarshal {what} into {where} of type {go_type}", at.path)

    def strict(self, kind: str, path: str, known: Iterable[str] = ()) -> None:
        """Keep an unknown or duplicate field; `known` is what could stand there."""
        message = f"{kind} field {json.dumps(path, ensure_ascii=False)}"
        if len(self.messages) < MAX_STRICT_ERRORS and message not in self.messages:
            self.messages.append(message)
            self.paths.append(path)
            self.known.append(tuple(known))


class _Place:
    """Where a value stands: the Go struct around it, its field path without indices, its path with them."""

    __slots__ = ("go", "path", "struct")

    def __init__(self, struct: str, go: str, path: str) -> None:
        self.struct = struct
        self.go = go
        self.path = path

    def element(self, index: int) -> _Place:
        return _Place(self.struct, self.go, f"{self.path}[{index}]")

    def entry(self, key: str) -> _Place:
        return _Place(self.struct, self.go, f"{self.path}.{key}" if self.path else key)


_Decoder = Callable[[Any, _State, _Place], Any]


def _json_name(value: Any) -> str:
    """What Go's errors call a value."""
    if value is True or value is False:
        return "bool"
    if isinstance(value, (int, float)):
        return "number"
    return "string" if isinstance(value, str) else "array" if isinstance(value, list) else "object"


def _number_text(value: int | float) -> str:
    return go_float(value) if isinstance(value, float) else str(value)


def _scalar(python: type, go_type: str) -> _Decoder:
    def decode(value: Any, state: _State, at: _Place) -> Any:
        if type(value) is python:
            return value
        state.mismatch(_json_name(value), at, go_type)
        return python()

    return decode


def _integer(go_type: str, bits: int) -> _Decoder:
    low, high = -(1 << (bits - 1)), 1 << (bits - 1)

    def decode(value: Any, state: _State, at: _Place) -> Any:
        if type(value) is int and low <= value < high:
            return value
        what = _json_name(value)
        state.mismatch(f"number {_number_text(value)}" if what == "number" else what, at, go_type)
        return 0

    return decode


def _bytes(value: Any, state: _State, at: _Place) -> bytes:
    if type(value) is not str:
        state.mismatch(_json_name(value), at, "[]uint8")
        return b""
    text = value.replace("\r", "").replace("\n", "")
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        if state.fatal is None:
            bad = re.search(r"[^A-Za-z0-9+/]", text)
            place = bad.start() if bad and text[bad.start()] != "=" else len(text)
            state.fatal = DecodeError(f"illegal base64 data at input byte {place}", at.path)
        return b""


def _quantity(value: Any, _state: _State, at: _Place) -> str:
    if type(value) is str:
        text = value.strip()
    elif type(value) in (int, float, JsonNumber):
        text = _number_text(value)
    else:
        text = "true" if value is True else "false" if value is False else json.dumps(value)
    try:
        return canonical(text)
    except QuantityError as error:
        # The server stops at once, whatever it has met before.
        raise DecodeError(str(error), at.path) from None


def _int_or_string(value: Any, _state: _State, at: _Place) -> int | str:
    if type(value) is str:
        return value
    if type(value) is int and -(1 << 31) <= value < 1 << 31:
        return value
    what = _json_name(value)
    what = f"number {_number_text(value)}" if what == "number" else what
    raise DecodeError(f"json: cannot unmarshal {what} into Go struct field {at.struct}.{at.go} of type int32", at.path)


_RFC3339 = re.compile(r"(\d{4})-(\d\d)-(\d\d)T(\d{1,2}):(\d\d):(\d\d)(?:[.,](\d+))?(?:Z|([-+])(\d\d):(\d\d))", re.ASCII)


def _time(micro: bool) -> _Decoder:
    def decode(value: Any, _state: _State, at: _Place) -> str:
        if type(value) is not str:
            raise DecodeError(f"json: cannot unmarshal {_json_name(value)} into Go value of type string", at.path)
        match = _RFC3339.fullmatch(value)
        try:
            if match is None:
                raise ValueError(value)
            year, month, day, hour, minute, second, fraction, sign, off_hours, off_minutes = match.groups()
            moment = datetime.datetime(
                int(year), int(month), int(day), int(hour), int(minute), int(second),
                int((fraction or "0")[:6].ljust(6, "0")), tzinfo=datetime.UTC,
            )  # fmt: skip
            if sign:
                offset = datetime.timedelta(hours=int(off_hours), minutes=int(off_minutes))
                moment += -offset if sign == "+" else offset
        except (ValueError, OverflowError):
            text = json.dumps(value, ensure_ascii=False)
            raise DecodeError(f"parsing time {text}: not a time as in RFC 3339", at.path) from None
        # Not strftime: it writes years before 1000 with fewer than four digits.
        return moment.replace(tzinfo=None).isoformat(timespec="microseconds" if micro else "seconds") + "Z"

    return decode


def _raw(value: Any, _state: _State, _at: _Place) -> Any:
    return _plain(value)


def _plain(value: Any) -> Any:
    """`value` without the number type that remembers its text."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return float(value) if isinstance(value, JsonNumber) else value


def _list(item: _Decoder, go_type: str) -> _Decoder:
    def decode(value: Any, state: _State, at: _Place) -> list[Any]:
        if type(value) is not list:
            state.mismatch(_json_name(value), at, go_type)
            return []
        return [item(child, state, at.element(index)) for index, child in enumerate(value)]

    return decode


def _map(item: _Decoder, zero: Callable[[], Any], go_type: str) -> _Decoder:
    def decode(value: Any, state: _State, at: _Place) -> dict[str, Any]:
        if type(value) is not dict:
            state.mismatch(_json_name(value), at, go_type)
            return {}
        if state.duplicates and id(value) in state.duplicates:
            for key in state.duplicates[id(value)][1]:
                state.strict("duplicate", f"{at.path}.{key}")
        return {
            key: zero() if value[key] is None else item(value[key], state, at.entry(key))
            for key in (sorted(value) if state.sorted else value)
        }

    return decode


_LEAVES: dict[str, tuple[_Decoder, Any]] = {
    "string": (_scalar(str, "string"), ""),
    "bool": (_scalar(bool, "bool"), False),
    "int": (_integer("int", 64), 0),
    "int32": (_integer("int32", 32), 0),
    "int64": (_integer("int64", 64), 0),
    "[]byte": (_bytes, b""),
    "resource.Quantity": (_quantity, "0"),
    "intstr.IntOrString": (_int_or_string, 0),
    "v1.Time": (_time(micro=False), ""),
    "v1.MicroTime": (_time(micro=True), ""),
    "v1.FieldsV1": (_raw, None),
}
_FIELDS = dict(model.GO_FIELDS)
_ALIASES = dict(model.GO_ALIASES)
_BY_NAME = {"v1." + cls.__name__: cls for cls in _FIELDS}


def learn(fields: Mapping[type[ApiStruct], tuple[tuple[str, str], ...]], aliases: Mapping[str, str]) -> None:
    """Have `decode_as` know the types of another module than nsrun.spec.model; more than once changes nothing."""
    _FIELDS.update(fields)
    _ALIASES.update(aliases)
    _BY_NAME.update({"v1." + cls.__name__: cls for cls in fields})


def _compile(go_type: str, shown: str | None = None) -> tuple[_Decoder, Callable[[], Any]]:
    """The decoder of a Go type without its pointer, and what makes its zero value.

    Args:
        go_type: as in GO_FIELDS.
        shown: the name that errors give it, where an alias names it.
    """
    if go_type in _LEAVES and shown is None:
        decoder, zero = _LEAVES[go_type]
        return decoder, lambda: zero
    if go_type in _BY_NAME:
        cls = _BY_NAME[go_type]
        return _lazy_struct(cls), cls
    if go_type in _ALIASES:
        return _compile(_ALIASES[go_type], shown or go_type)
    if go_type in _LEAVES:
        return _scalar(str, shown or go_type), str
    if go_type.startswith("[]"):
        item, _ = _compile(go_type[2:])
        zero_item = _zero_of(go_type[2:])
        return _list(_or_zero(item, zero_item), shown or go_type), list
    match = re.fullmatch(r"map\[[\w.]+\](.+)", go_type)
    if match is None:
        raise AssertionError(f"a Go type that decoding does not know: {go_type}")
    item, _ = _compile(match[1])
    return _map(item, _zero_of(match[1]), shown or go_type), dict


def _zero_of(go_type: str) -> Callable[[], Any]:
    return _compile(go_type)[1]


def _or_zero(item: _Decoder, zero: Callable[[], Any]) -> _Decoder:
    return lambda value, state, at: zero() if value is None else item(value, state, at)


def _lazy_struct(cls: type[ApiStruct]) -> _Decoder:
    name = cls.__name__

    def decode(value: Any, state: _State, at: _Place) -> Any:
        if type(value) is not dict:
            state.mismatch(_json_name(value), at, f"v1.{name}")
            return cls()
        return _decode_struct(cls, name, value, state, at)

    return decode


class _Field:
    __slots__ = ("attribute", "decode", "keep_zero", "name", "zero")

    def __init__(self, name: str, attribute: str, go_type: str, optional: bool) -> None:
        self.name = name
        self.attribute = attribute
        pointer = go_type.startswith("*")
        self.decode, zero = _compile(go_type.removeprefix("*"))
        # Go cannot tell an empty optional scalar from an absent one: neither do we.
        self.keep_zero = pointer or not optional
        self.zero = None if self.keep_zero else zero()


@functools.cache
def _fields(cls: type[ApiStruct]) -> dict[str, _Field]:
    optional = {f.name: f.default is None for f in msgspec.structs.fields(cls)}
    attributes = {f.encode_name: f.name for f in msgspec.structs.fields(cls)}
    return {name: _Field(name, attributes[name], go_type, optional[attributes[name]]) for name, go_type in _FIELDS[cls]}


def _decode_struct(cls: type[ApiStruct], name: str, value: dict[str, Any], state: _State, at: _Place) -> Any:
    fields = _fields(cls)
    kwargs: dict[str, Any] = {}
    go, path = at.go, at.path
    if state.duplicates and id(value) in state.duplicates:
        for key in state.duplicates[id(value)][1]:
            if key in fields:
                state.strict("duplicate", f"{path}.{key}" if path else key)
    for key in sorted(value) if state.sorted else value:
        field = fields.get(key)
        if field is None:
            state.strict("unknown", f"{path}.{key}" if path else key, fields)
            continue
        item = value[key]
        if item is None:
            continue
        place = _Place(name, f"{go}.{key}", f"{path}.{key}") if go else _Place(name, key, key)
        result = field.decode(item, state, place)
        if field.keep_zero or result != field.zero:
            kwargs[field.attribute] = result
    return cls(**kwargs)


CORE_KINDS = frozenset({
    "Binding", "ComponentStatus", "ConfigMap", "Endpoints", "Event", "LimitRange", "List", "Namespace", "Node",
    "PersistentVolume", "PersistentVolumeClaim", "Pod", "PodTemplate", "ReplicationController", "ResourceQuota",
    "Secret", "Service", "ServiceAccount",
})  # fmt: skip
"""The kinds of apiVersion v1 in Kubernetes v1.36 that a manifest can hold."""


def check_kind(document: Document) -> tuple[str, str]:
    """The document's apiVersion and kind.

    Raises:
        DecodeError: it is not an object of Kubernetes at all.
    """
    value = document.value
    if type(value) is not dict:
        raise DecodeError(
            f"couldn't get version/kind; json parse error: json: cannot unmarshal {_json_name(value)} into Go value of"
            ' type struct { APIVersion string "json:\\"apiVersion,omitempty\\""; Kind string'
            ' "json:\\"kind,omitempty\\"" }'
        )
    found = []
    for key in ("apiVersion", "kind"):
        word = value.get(key)
        if word is not None and not isinstance(word, str):
            raise DecodeError(
                f"couldn't get version/kind; json parse error: json: cannot unmarshal {_json_name(word)} into Go struct"
                f" field .{key} of type string",
                key,
            )
        found.append(word or "")
    version, kind = found
    if not kind:
        raise DecodeError("Object 'Kind' is missing")
    if not version:
        raise DecodeError("Object 'apiVersion' is missing")
    core = kind in CORE_KINDS or kind.removesuffix("List") in CORE_KINDS
    known = core if version == "v1" else kind not in model.ROOTS or "." in version
    if not known or not re.fullmatch(r"(?:[A-Za-z0-9.-]+/)?[A-Za-z0-9]+", version):
        raise DecodeError(f'no kind "{kind}" is registered for version "{version}"', "kind")
    return version, kind


def decode(document: Document, strict: bool = True) -> Object:
    """The typed object of a document, without defaults.

    Args:
        document: of one of the kinds in nsrun.spec.model.ROOTS.
        strict: object to unknown and duplicate fields, as kubectl and the API server do unless told otherwise.

    Raises:
        SpecError: the document could not be read.
        DecodeError: it does not fit the types of its kind, or its kind is not one of those.
        StrictError: `strict`, and it has unknown or duplicate fields.
    """
    if document.error is not None:
        raise document.error
    version, kind = check_kind(document)
    cls = model.ROOTS.get(kind) if version == "v1" else None
    if cls is None:
        raise DecodeError(f"{version} {kind} is not an object that nsrun reads", "kind")
    return decode_as(document, cls, strict)  # type: ignore[return-value] # one of ROOTS


def decode_as(document: Document, cls: type[ApiStruct], strict: bool = True) -> ApiStruct:
    """As `decode`, of a kind that is known.

    Raises:
        DecodeError, StrictError: as `decode`.
    """
    state = _State(document)
    obj = _decode_struct(cls, cls.__name__, document.value, state, _Place("", "", ""))
    if state.fatal is not None:
        raise state.fatal
    if strict and (state.messages or document.strict_errors):
        first = document.strict_errors
        none = [""] * len(first)
        raise StrictError(first + state.messages, none + state.paths, [()] * len(first) + state.known, obj)
    return obj  # type: ignore[no-any-return]


def encode(obj: ApiStruct) -> bytes:
    """The object's JSON, as the API server would write it (but for the order of keys in maps)."""
    return _ENCODER.encode(obj)


def to_dict(obj: ApiStruct) -> dict[str, Any]:
    """The object in JSON terms."""
    result: dict[str, Any] = msgspec.to_builtins(obj)
    return result


_ENCODER = msgspec.json.Encoder()
