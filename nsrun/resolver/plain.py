"""Questions as nearly all clients put them, read without a library: letters, digits, hyphens, underscores, and an OPT record or not.

What is different in any way is for dnspython. The two agree wherever this one says anything.
"""

from __future__ import annotations

from dataclasses import dataclass

HEADER = 12
IN = 1
_OPT = 41
_LETTERS = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_"
_NAME_MAX = 253


@dataclass(frozen=True, slots=True)
class Plain:
    """A question.

    Attributes:
        name: lower case, without the last dot.
        kind: its type; the class is IN.
        end: where the question section ends.
        payload: bytes that the client takes in a datagram; -1 if it does not say.
    """

    name: str
    kind: int
    end: int
    payload: int


def read(query: bytes) -> Plain | None:
    """The question of a message; None if it is not a plain one."""
    # Opcode QUERY; one question, no answers, nothing but perhaps one additional record.
    if len(query) < HEADER + 5 or query[2] & 0xF8 or query[4:11] != b"\0\1\0\0\0\0\0" or query[11] > 1:
        return None
    at, labels, length = HEADER, [], query[HEADER]
    while length:
        label = query[at + 1 : at + 1 + length]
        at += 1 + length
        if length > 63 or at >= len(query) or label.translate(None, _LETTERS):
            return None
        labels.append(label)
        length = query[at]
    name = b".".join(labels)
    end = at + 5
    if not name or len(name) > _NAME_MAX or query[at + 3 : end] != b"\0\1":
        return None
    payload = -1
    if query[11]:
        if not _plain_opt(query, end):
            return None
        payload = query[end + 3] << 8 | query[end + 4]
    elif len(query) != end:
        return None
    return Plain(name.decode("ascii").lower(), query[at + 1] << 8 | query[at + 2], end, payload)


def _plain_opt(query: bytes, at: int) -> bool:
    """Whether the rest is an OPT record of version 0 (RFC 6891) whose options are whole."""
    # Its name, type, size; extended code, version and flags; length.
    if query[at : at + 3] != bytes((0, 0, _OPT)) or query[at + 5 : at + 7] != b"\0\0":
        return False
    rest = len(query) - at - 11
    if rest < 0 or query[at + 9] << 8 | query[at + 10] != rest:
        return False
    at += 11
    while at + 4 <= len(query):
        at += 4 + (query[at + 2] << 8 | query[at + 3])
    return at == len(query)
