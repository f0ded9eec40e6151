"""The channels of a remote command over a WebSocket, and how its end is told (k8s.io/apimachinery remotecommand and wsstream).

A message is a channel's number and bytes. v5 can end a channel; from v4 on the error channel carries a Status, before that a
text, and nothing after success.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Sequence
from typing import Any, NamedTuple

STDIN, STDOUT, STDERR, ERROR, RESIZE = 0, 1, 2, 3, 4
CLOSE = 255
"""In v5, the channel on which a message names the channel that ends."""

V5, V4, V4_BASE64, V1, V1_BASE64, NONE = (
    "v5.channel.k8s.io",
    "v4.channel.k8s.io",
    "v4.base64.channel.k8s.io",
    "channel.k8s.io",
    "base64.channel.k8s.io",
    "",
)
WEBSOCKET_PROTOCOLS = (V5, V4, V4_BASE64, V1, V1_BASE64)
SPDY_PROTOCOLS = ("v4.channel.k8s.io", "v3.channel.k8s.io", "v2.channel.k8s.io", "channel.k8s.io")
FORWARD_PROTOCOLS = (V4, V4_BASE64)
TUNNEL = "SPDY/3.1+portforward.k8s.io"
LOG_PROTOCOLS = ("binary.k8s.io", "base64.binary.k8s.io")


class Message(NamedTuple):
    """What came: `data` on `channel`, or `closes` that channel."""

    channel: int
    data: bytes
    closes: bool = False


class Codec:
    """One of the protocols: messages to and from channels.

    Args:
        protocol: that was agreed on; empty for none.
    """

    def __init__(self, protocol: str) -> None:
        self.protocol = protocol
        self.text = "base64" in protocol
        self.status = protocol in (V5, V4, V4_BASE64)
        self.closing = protocol == V5

    def encode(self, channel: int, data: bytes) -> bytes:
        """A message: bytes of a binary frame, or of a text frame when `text`."""
        if self.text:
            return b"%d" % channel + base64.b64encode(data)
        return bytes((channel,)) + data

    def decode(self, message: bytes) -> Message | None:
        """What a message of a client says; None when it says nothing: whoever wrote the protocol passes over those."""
        if not message:
            return None
        if not self.text:
            if self.closing and message[0] == CLOSE:
                return Message(message[1], b"", closes=True) if len(message) == 2 else None
            return Message(message[0], message[1:])
        channel = message[0] - ord("0")
        if not 0 <= channel <= 9:
            return None
        try:
            return Message(channel, base64.b64decode(message[1:], validate=True))
        except binascii.Error:
            return None


def success() -> dict[str, Any]:
    """The Status of a command that ended with 0."""
    return {"metadata": {}, "status": "Success"}


def exited(code: int, command: Sequence[str] | None) -> dict[str, Any]:
    """The Status of a command that ended otherwise.

    Args:
        command: what was executed, for the protocols before v5, whose texts name it.
    """
    what = "command terminated with" if command is None else f"error executing command [{' '.join(command)}],"
    return {
        "metadata": {},
        "status": "Failure",
        "message": f"command terminated with non-zero exit code: {what} exit code {code}",
        "reason": "NonZeroExitCode",
        "details": {"causes": [{"reason": "ExitCode", "message": str(code)}]},
    }


def failed(why: str) -> dict[str, Any]:
    """The Status of a command that did not begin, or whose end is not known."""
    return {
        "metadata": {},
        "status": "Failure",
        "message": f"Internal error occurred: {why}",
        "reason": "InternalError",
        "details": {"causes": [{"message": why}]},
        "code": 500,
    }


def told(status: dict[str, Any], *, as_status: bool) -> bytes:
    """What the error channel carries at the end; nothing to be sent when empty."""
    if as_status:
        return json.dumps(status, separators=(",", ":"), ensure_ascii=False).encode()
    return str(status.get("message", "")).encode()


class Sizes:
    """Terminal sizes out of the bytes of the resize channel: JSON objects one after the other, in pieces of any size."""

    LIMIT = 4096

    def __init__(self) -> None:
        self._rest = ""
        self._decoder = json.JSONDecoder()

    def feed(self, data: bytes) -> list[tuple[int, int]]:
        """(rows, columns) of each size that is complete. What is no size ends the reading, as in the kubelet."""
        found: list[tuple[int, int]] = []
        self._rest = (self._rest + data.decode("utf-8", "replace")).lstrip()
        while self._rest:
            try:
                value, end = self._decoder.raw_decode(self._rest)
            except (ValueError, RecursionError):
                # Only the beginning of one so far, or nothing that will ever be one.
                if len(self._rest) > self.LIMIT:
                    self._rest = ""
                break
            self._rest = self._rest[end:].lstrip()
            size = _size(value)
            if size is not None:
                found.append(size)
        return found


def _size(value: object) -> tuple[int, int] | None:
    if not isinstance(value, dict):
        return None
    fields = {str(name).lower(): number for name, number in value.items()}
    rows, columns = fields.get("height", 0), fields.get("width", 0)
    whole = all(type(number) is int and 0 <= number <= 0xFFFF for number in (rows, columns))
    return (rows, columns) if whole else None
