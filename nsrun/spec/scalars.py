"""What a YAML scalar means to Kubernetes, and how Go writes numbers.

Kubernetes turns YAML into JSON first (sigs.k8s.io/yaml over go.yaml.in/yaml/v2), so scalars mean what that pair makes of them,
not what YAML 1.2 or PyYAML say: ``y`` is true, ``0o17`` is 15, ``08`` is 8, ``1:30`` and ``2026-01-02`` are strings.
"""

from __future__ import annotations

import math
import re
import struct
from typing import Any


class JsonNumber(float):
    """A number of a JSON text that is not written as an integer; `text` is how it is written."""

    text: str

    @classmethod
    def read(cls, text: str) -> JsonNumber:
        """Read the literal `text`."""
        number = cls(text)
        number.text = text
        return number


_WORDS: dict[str, Any] = {
    **dict.fromkeys(("y", "Y", "yes", "Yes", "YES", "true", "True", "TRUE", "on", "On", "ON"), True),
    **dict.fromkeys(("n", "N", "no", "No", "NO", "false", "False", "FALSE", "off", "Off", "OFF"), False),
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
    **dict.fromkeys((".nan", ".NaN", ".NAN"), math.nan),
    **dict.fromkeys((".inf", ".Inf", ".INF", "+.inf", "+.Inf", "+.INF"), math.inf),
    **dict.fromkeys(("-.inf", "-.Inf", "-.INF"), -math.inf),
}
_NUMBERLIKE = frozenset("0123456789+-.")
_DECIMAL_INT = re.compile(r"[-+]?(?:0|[1-9][0-9]*)", re.ASCII)
_RADIX_INT = re.compile(r"([-+]?)0(?:[xX]([0-9a-fA-F]+)|[bB]([01]+)|[oO]?([0-7]+))", re.ASCII)
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?", re.ASCII)
_DOT_FLOAT = re.compile(r"\.[0-9]+(?:[eE][-+]?[0-9]+)?", re.ASCII)


def resolve(text: str) -> Any:
    """What a plain YAML scalar means to Kubernetes (go-yaml v2 resolve.go).

    A float with a whole value comes back as an int, because its JSON form is one.
    """
    if text in _WORDS:
        return _WORDS[text]
    first = text[0]
    if first not in _NUMBERLIKE:
        return text
    if first == ".":
        return _float(text, text) if _DOT_FLOAT.fullmatch(text) else text
    plain = text.replace("_", "")
    if len(plain) <= 66:  # no 64-bit number is longer
        number: int | None = None
        if _DECIMAL_INT.fullmatch(plain):
            number = int(plain)
        elif match := _RADIX_INT.fullmatch(plain):
            sign, hexadecimal, binary, octal = match.groups()
            number = int(hexadecimal, 16) if hexadecimal else int(binary, 2) if binary else int(octal, 8)
            number = -number if sign == "-" else number
        if number is not None and -(1 << 63) <= number < (1 << 63 if plain[0] in "+-" else 1 << 64):
            return number
    if _FLOAT.fullmatch(plain):
        return _float(plain, text)
    return text


def _float(plain: str, text: str) -> Any:
    value = float(plain)
    if math.isinf(value):
        return text
    if value.is_integer() and abs(value) < 1e21:
        return int(value)
    return value


def go_float(value: float) -> str:
    """A float as Go's encoding/json writes it."""
    if isinstance(value, JsonNumber):
        return value.text
    text = repr(value)
    if value == 0 or 1e-6 <= abs(value) < 1e21:
        return _no_exponent(text).removesuffix(".0")
    return re.sub(r"e([-+])0(\d)$", r"e\1\2", text)


def _no_exponent(text: str) -> str:
    if "e" not in text:
        return text
    mantissa, exponent = text.split("e")
    sign = "-" if mantissa.startswith("-") else ""
    whole, _, fraction = mantissa.lstrip("-").partition(".")
    shift = int(exponent)
    if shift < 0:
        return f"{sign}0.{'0' * (-shift - 1)}{whole}{fraction}"
    return f"{sign}{whole}{fraction}{'0' * (shift - len(fraction))}"


def float32_text(value: float) -> str:
    """A float as a map key: Go's shortest form that is the same 32-bit float."""
    if math.isnan(value):
        return ".nan"
    try:
        (single,) = struct.unpack("f", struct.pack("f", value))
    except OverflowError:
        single = math.inf if value > 0 else -math.inf
    if math.isinf(single):
        return ".inf" if single > 0 else "-.inf"
    for digits in range(1, 10):
        text = f"{single:.{digits}g}"
        if struct.unpack("f", struct.pack("f", float(text)))[0] == single:
            break
    return text
