"""Words as Go prints them: a kubelet's messages are made of them, and people search for those."""

from __future__ import annotations

import os

_ESCAPES = {7: "\\a", 8: "\\b", 9: "\\t", 10: "\\n", 11: "\\v", 12: "\\f", 13: "\\r", 34: '\\"', 92: "\\\\"}


def quoted(text: str) -> str:
    """Go's %q. Bytes that are no UTF-8 (surrogates, as `surrogateescape` gives them) are \\xNN."""
    return '"' + "".join(map(_escaped, text)) + '"'


def _escaped(character: str) -> str:
    number = ord(character)
    if number in _ESCAPES:
        return _ESCAPES[number]
    if 0xDC80 <= number <= 0xDCFF:
        return f"\\x{number - 0xDC00:02x}"
    if character.isprintable():
        return character
    if number < 0x80:
        return f"\\x{number:02x}"
    return f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"


def duration(seconds: float) -> str:
    """Go's time.Duration of at least a second: 1s, 1m30s, 1h0m0s."""
    whole = int(seconds)
    hours, minutes, rest = whole // 3600, whole // 60 % 60, f"{seconds - whole // 60 * 60:g}"
    if hours:
        return f"{hours}h{minutes}m{rest}s"
    return f"{minutes}m{rest}s" if minutes else f"{rest}s"


def errno_word(number: int) -> str:
    """Go's text of an errno."""
    return os.strerror(number).lower()


def canonical(name: str) -> str:
    """A header's name as Go writes it: `x-api-key` is `X-Api-Key`. A name with other characters than a token has stays as it is."""
    if not name or any(not (c.isascii() and (c.isalnum() or c in "!#$%&'*+-.^_`|~")) for c in name):
        return name
    return "-".join(part[:1].upper() + part[1:].lower() for part in name.split("-"))


def joined(host: str, port: int) -> str:
    """HOST:PORT, or [HOST]:PORT of an IPv6 address."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
