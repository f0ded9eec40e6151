"""What validation finds: one error per field, worded as the API server words it.

Source: apimachinery pkg/util/validation/field/errors.go.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import msgspec

REQUIRED = "Required value"
INVALID = "Invalid value"
UNSUPPORTED = "Unsupported value"
NOT_FOUND = "Not found"
DUPLICATE = "Duplicate value"
FORBIDDEN = "Forbidden"
TOO_LONG = "Too long"
TOO_MANY = "Too many"
_WITHOUT_VALUE = frozenset({REQUIRED, FORBIDDEN, TOO_LONG})


class FieldError(msgspec.Struct, frozen=True):
    """An objection to one field.

    Attributes:
        path: the field, as in ``spec.containers[0].image``.
        type: the kind of objection, one of this module's words.
        detail: what exactly, may be empty.
        bad_value: the value objected to, in JSON terms.
    """

    path: str
    type: str
    detail: str = ""
    bad_value: Any = None

    def __str__(self) -> str:
        text = f"{self.path}: {self.type}"
        if self.type not in _WITHOUT_VALUE:
            text += ": " + quote(self.bad_value)
        return f"{text}: {self.detail}" if self.detail else text


def quote(value: Any) -> str:
    """A value as the API server shows it in a message."""
    if isinstance(value, str):
        return _go_quote(value)
    if isinstance(value, bool) or value is None:
        return json.dumps(value)
    if isinstance(value, int):
        return str(value)
    return msgspec.json.encode(value).decode()


def _go_quote(text: str) -> str:
    """Go's strconv.Quote."""
    if text.isascii() and text.isprintable() and '"' not in text and "\\" not in text:
        return f'"{text}"'
    out = []
    for character in text:
        code = ord(character)
        if character in '"\\':
            out.append("\\" + character)
        elif character.isprintable():
            out.append(character)
        elif character in _ESCAPES:
            out.append(_ESCAPES[character])
        elif code < 0x80:
            out.append(f"\\x{code:02x}")
        elif code < 0x10000:
            out.append(f"\\u{code:04x}")
        else:
            out.append(f"\\U{code:08x}")
    return f'"{"".join(out)}"'


_ESCAPES = {"\a": "\\a", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t", "\v": "\\v"}


class Errors(list[FieldError]):
    """The errors found so far, in the order of the checks."""

    def required(self, path: str, detail: str = "") -> None:
        """The field must be set."""
        self.append(FieldError(path, REQUIRED, detail, ""))

    def invalid(self, path: str, value: Any, detail: str) -> None:
        """The field's value will not do."""
        self.append(FieldError(path, INVALID, detail, value))

    def each(self, path: str, value: Any, details: Iterable[str]) -> None:
        """Several objections to one value."""
        for detail in details:
            self.append(FieldError(path, INVALID, detail, value))

    def unsupported(self, path: str, value: Any, valid: Iterable[str], *, ordered: bool = False) -> None:
        """The value is none of `valid`; `ordered`: name them in the order given, else sorted."""
        words = valid if ordered else sorted(valid)
        supported = "supported values: " + ", ".join(_go_quote(word) for word in words)
        self.append(FieldError(path, UNSUPPORTED, supported, value))

    def forbidden(self, path: str, detail: str) -> None:
        """The field must not be set here."""
        self.append(FieldError(path, FORBIDDEN, detail, ""))

    def not_found(self, path: str, value: Any, detail: str = "") -> None:
        """The field names something that is not there."""
        self.append(FieldError(path, NOT_FOUND, detail, value))

    def duplicate(self, path: str, value: Any) -> None:
        """The value is there already."""
        self.append(FieldError(path, DUPLICATE, "", value))

    def too_long(self, path: str, limit: int) -> None:
        """The value has more than `limit` bytes."""
        self.append(FieldError(path, TOO_LONG, f"may not be more than {limit} byte{'' if limit == 1 else 's'}", ""))

    def too_many(self, path: str, count: int, limit: int) -> None:
        """The list has more than `limit` items."""
        self.append(FieldError(path, TOO_MANY, f"must have at most {limit} item{'' if limit == 1 else 's'}", count))

    def non_negative(self, path: str, value: int | None) -> None:
        """A number that must not be below 0."""
        if value is not None and value < 0:
            self.invalid(path, value, "must be greater than or equal to 0")
