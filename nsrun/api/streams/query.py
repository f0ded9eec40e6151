"""Values of a query as the API server's conversions read them."""

from __future__ import annotations

from collections.abc import Mapping


def flag(query: Mapping[str, str], name: str) -> bool:
    """A boolean: only absence, "false" and "0" are false (apimachinery Convert_Slice_string_To_bool)."""
    return query.get(name, "0").lower() not in ("false", "0")


def number(query: Mapping[str, str], name: str) -> int | None:
    """An integer, or None where it is absent.

    Raises:
        ValueError: it is none; the text is Go's.
    """
    text = query.get(name)
    if text is None:
        return None
    digits = text[1:] if text[:1] in ("+", "-") else text
    if not digits.isascii() or not digits.isdigit():
        raise ValueError(f'strconv.ParseInt: parsing "{text}": invalid syntax')
    if len(digits) > 19 or not -(1 << 63) <= int(text) < 1 << 63:
        raise ValueError(f'strconv.ParseInt: parsing "{text}": value out of range')
    return int(text)
