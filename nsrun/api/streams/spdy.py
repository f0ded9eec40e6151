"""SPDY/3.1 frames, bytes to values and back (draft-mbelshe-httpbis-spdy-00): what kubectl wraps exec, attach and port-forward into.

Pure. Data is passed on as it comes, so a frame of 16 MiB costs no memory; control frames and what their headers unpack to are
bounded, so that a few compressed bytes cannot become many.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping
from typing import NamedTuple

VERSION = 3
CONTROL_MAX = 1 << 16
"""Bytes of a control frame that are taken."""
HEADERS_MAX = 1 << 16
"""Bytes that the headers of a frame may unpack to."""
DATA_MAX = (1 << 24) - 1
"""Bytes that fit into a data frame."""

SYN_STREAM, SYN_REPLY, RST_STREAM, SETTINGS, PING, GOAWAY, HEADERS, WINDOW_UPDATE = 1, 2, 3, 4, 6, 7, 8, 9
FIN, UNIDIRECTIONAL = 1, 2

PROTOCOL_ERROR, INVALID_STREAM, REFUSED_STREAM, UNSUPPORTED_VERSION, CANCEL, INTERNAL_ERROR = 1, 2, 3, 4, 5, 6
"""Why a stream is reset."""
GOAWAY_OK, GOAWAY_PROTOCOL_ERROR, GOAWAY_INTERNAL_ERROR = 0, 1, 2
"""Why a connection ends."""

_NAMES = (
    "options head post put delete trace accept accept-charset accept-encoding accept-language accept-ranges age allow "
    "authorization cache-control connection content-base content-encoding content-language content-length content-location "
    "content-md5 content-range content-type date etag expect expires from host if-match if-modified-since if-none-match "
    "if-range if-unmodified-since last-modified location max-forwards pragma proxy-authenticate proxy-authorization range "
    "referer retry-after server te trailer transfer-encoding upgrade user-agent vary via warning www-authenticate method get "
    "status 200|OK version HTTP/1.1 url public set-cookie keep-alive origin"
)
_TEXT = (
    "100101201202205206300302303304305306307402405406407408409410411412413414415416417502504505"
    "203 Non-Authoritative Information204 No Content301 Moved Permanently400 Bad Request401 Unauthorized403 Forbidden"
    "404 Not Found500 Internal Server Error501 Not Implemented503 Service Unavailable"
    "Jan Feb Mar Apr May Jun Jul Aug Sept Oct Nov Dec 00:00:00 Mon, Tue, Wed, Thu, Fri, Sat, Sun, GMT"
    "chunked,text/html,image/png,image/jpg,image/gif,application/xml,application/xhtml+xml,text/plain,text/javascript,public"
    "privatemax-age=gzip,deflate,sdchcharset=utf-8charset=iso-8859-1,utf-,*,enq=0."
)
DICTIONARY = (
    b"".join(struct.pack("!I", len(name)) + name.replace("|", " ").encode() for name in _NAMES.split()) + _TEXT.encode()
)
"""What both sides' compressors have seen before the first header (section 2.6.10.1)."""

_HEAD = struct.Struct("!II")
_LONG = struct.Struct("!I")
_SYN = struct.Struct("!IIBB")


class SpdyError(Exception):
    """Bytes that are no SPDY, or more than is taken; the connection cannot go on."""


class SynStream(NamedTuple):
    """A new stream."""

    stream: int
    headers: dict[str, str]
    fin: bool = False
    unidirectional: bool = False
    associated: int = 0
    priority: int = 0


class SynReply(NamedTuple):
    """A stream was accepted."""

    stream: int
    headers: dict[str, str]
    fin: bool = False


class Headers(NamedTuple):
    """More headers of a stream."""

    stream: int
    headers: dict[str, str]
    fin: bool = False


class RstStream(NamedTuple):
    """A stream ends at once, both ways."""

    stream: int
    status: int


class Settings(NamedTuple):
    """(id, flags, value) of each setting."""

    values: tuple[tuple[int, int, int], ...]


class Ping(NamedTuple):
    """To be sent back as it is by whoever did not begin it."""

    id: int


class GoAway(NamedTuple):
    """No new streams any more."""

    last: int
    status: int


class WindowUpdate(NamedTuple):
    """So many bytes more may be sent on a stream. What Kubernetes' clients are made of neither sends nor counts these."""

    stream: int
    delta: int


class Data(NamedTuple):
    """Bytes of a stream; a large frame comes as several of these, `fin` with the last."""

    stream: int
    data: bytes
    fin: bool = False


Frame = SynStream | SynReply | Headers | RstStream | Settings | Ping | GoAway | WindowUpdate | Data


class Decoder:
    """Frames out of bytes that come in pieces of any size."""

    def __init__(self) -> None:
        self._head = bytearray()
        self._control: bytearray | None = None
        self._kind = self._flags = self._length = 0
        self._stream = self._left = 0
        self._unpacker = zlib.decompressobj(zdict=DICTIONARY)

    def feed(self, data: bytes) -> list[Frame]:
        """The frames that `data` completes, and the pieces of data frames in it.

        Raises:
            SpdyError: nothing that follows can be understood.
        """
        frames: list[Frame] = []
        position, size = 0, len(data)
        while position < size:
            if self._left:
                piece = data[position : position + self._left]
                position += len(piece)
                self._left -= len(piece)
                frames.append(Data(self._stream, piece, bool(self._flags & FIN) and not self._left))
            elif self._control is not None:
                wanted = self._length - len(self._control)
                self._control += data[position : position + wanted]
                position += wanted
                if len(self._control) == self._length:
                    frames.append(self._finished(bytes(self._control)))
                    self._control = None
            else:
                wanted = 8 - len(self._head)
                self._head += data[position : position + wanted]
                position += wanted
                if len(self._head) == 8:
                    self._begin(frames)
        return frames

    def _begin(self, frames: list[Frame]) -> None:
        first, second = _HEAD.unpack(self._head)
        self._head.clear()
        self._flags, self._length = second >> 24, second & 0xFFFFFF
        if not first >> 31:
            self._stream, self._left = first, self._length
            if not first:
                raise SpdyError("a data frame of stream 0")
            if not self._length:
                frames.append(Data(first, b"", bool(self._flags & FIN)))
            return
        version, self._kind = first >> 16 & 0x7FFF, first & 0xFFFF
        if version != VERSION:
            raise SpdyError(f"a frame of SPDY version {version}")
        if self._length > CONTROL_MAX:
            raise SpdyError(f"a control frame of {self._length} bytes; at most {CONTROL_MAX} are taken")
        self._control = bytearray()
        if not self._length:
            self._control = None
            raise SpdyError(f"an empty control frame of type {self._kind}")

    def _finished(self, body: bytes) -> Frame:
        kind, flags = self._kind, self._flags
        try:
            if kind == SYN_STREAM:
                stream, associated, priority, _slot = _SYN.unpack_from(body)
                headers = self._headers(body[_SYN.size :])
                fin, one_way = bool(flags & FIN), bool(flags & UNIDIRECTIONAL)
                return SynStream(_number(stream), headers, fin, one_way, associated & 0x7FFFFFFF, priority >> 5)
            if kind in (SYN_REPLY, HEADERS):
                (stream,) = _LONG.unpack_from(body)
                made = SynReply if kind == SYN_REPLY else Headers
                return made(_number(stream), self._headers(body[4:]), bool(flags & FIN))
            if kind == PING:
                (number,) = _LONG.unpack(body)
                return Ping(number)
            if kind == SETTINGS:
                return _settings(body)
            first, second = _HEAD.unpack(body)
        except struct.error:
            raise SpdyError(f"a control frame of type {kind} with {len(body)} bytes") from None
        if kind == RST_STREAM:
            return RstStream(_number(first), second)
        if kind == GOAWAY:
            return GoAway(first & 0x7FFFFFFF, second)
        if kind == WINDOW_UPDATE:
            return WindowUpdate(first & 0x7FFFFFFF, second & 0x7FFFFFFF)
        raise SpdyError(f"a control frame of the unknown type {kind}")

    def _headers(self, packed: bytes) -> dict[str, str]:
        try:
            block = self._unpacker.decompress(packed, HEADERS_MAX + 1)
        except zlib.error as error:
            raise SpdyError(f"headers that cannot be unpacked: {error}") from None
        if len(block) > HEADERS_MAX or self._unpacker.unconsumed_tail:
            raise SpdyError(f"headers of more than {HEADERS_MAX} bytes")
        return decode_headers(block)


class Encoder:
    """Bytes of frames. Frames with headers must be sent in the order in which they were made: the compressor remembers."""

    def __init__(self) -> None:
        self._packer = zlib.compressobj(level=6, zdict=DICTIONARY)

    def syn_stream(self, stream: int, headers: Mapping[str, str], *, fin: bool = False) -> bytes:
        """A new stream."""
        return _control(SYN_STREAM, FIN if fin else 0, _SYN.pack(stream, 0, 0, 0) + self._headers(headers))

    def syn_reply(self, stream: int, headers: Mapping[str, str] | None = None) -> bytes:
        """A stream is accepted."""
        return _control(SYN_REPLY, 0, _LONG.pack(stream) + self._headers(headers or {}))

    def headers(self, stream: int, headers: Mapping[str, str], *, fin: bool = False) -> bytes:
        """More headers."""
        return _control(HEADERS, FIN if fin else 0, _LONG.pack(stream) + self._headers(headers))

    def _headers(self, headers: Mapping[str, str]) -> bytes:
        return self._packer.compress(encode_headers(headers)) + self._packer.flush(zlib.Z_SYNC_FLUSH)


def rst_stream(stream: int, status: int) -> bytes:
    """The end of a stream."""
    return _control(RST_STREAM, 0, _HEAD.pack(stream, status))


def ping(number: int) -> bytes:
    """A ping, or the answer to one."""
    return _control(PING, 0, _LONG.pack(number))


def goaway(last: int, status: int) -> bytes:
    """The end of new streams; `last` is the last one that was taken."""
    return _control(GOAWAY, 0, _HEAD.pack(last, status))


def window_update(stream: int, delta: int) -> bytes:
    """Leave to send more."""
    return _control(WINDOW_UPDATE, 0, _HEAD.pack(stream, delta))


def settings(values: tuple[tuple[int, int, int], ...]) -> bytes:
    """(id, flags, value) of each setting."""
    body = b"".join(_HEAD.pack(flags << 24 | number, value) for number, flags, value in values)
    return _control(SETTINGS, 0, _LONG.pack(len(values)) + body)


def data_head(stream: int, length: int, *, fin: bool = False) -> bytes:
    """What stands before `length` (at most DATA_MAX) bytes of a stream."""
    return _HEAD.pack(stream, (FIN if fin else 0) << 24 | length)


def encode_headers(headers: Mapping[str, str]) -> bytes:
    """A name/value block."""
    parts = [_LONG.pack(len(headers))]
    for name, value in headers.items():
        for text in (name.lower().encode(), value.encode()):
            parts += [_LONG.pack(len(text)), text]
    return b"".join(parts)


def decode_headers(block: bytes) -> dict[str, str]:
    """The headers of a name/value block; the values of one name stand together, separated by NUL.

    Raises:
        SpdyError: lengths that do not fit, a name twice or not in lower case.
    """
    texts: list[str] = []
    if len(block) < 4:
        raise SpdyError("headers without their number")
    (count,) = _LONG.unpack_from(block)
    position = 4
    while position < len(block):
        if len(block) - position < 4:
            raise SpdyError("headers that end early")
        (length,) = _LONG.unpack_from(block, position)
        position += 4
        if length > len(block) - position:
            raise SpdyError("headers that end early")
        texts.append(block[position : position + length].decode("utf-8", "replace"))
        position += length
    if len(texts) != 2 * count:
        raise SpdyError(f"{len(texts)} names and values instead of {count} of each")
    names = texts[::2]
    found = dict(zip(names, texts[1::2], strict=True))
    if len(found) != count or any(name != name.lower() for name in names):
        raise SpdyError("a header twice, or one whose name is not in lower case")
    return found


def _number(stream: int) -> int:
    stream &= 0x7FFFFFFF
    if not stream:
        raise SpdyError("a control frame of stream 0")
    return stream


def _control(kind: int, flags: int, body: bytes) -> bytes:
    return _HEAD.pack((0x8000 | VERSION) << 16 | kind, flags << 24 | len(body)) + body


def _settings(body: bytes) -> Settings:
    (count,) = _LONG.unpack_from(body)
    if len(body) != 4 + 8 * count:
        raise SpdyError(f"{count} settings in {len(body)} bytes")
    pairs = (_HEAD.unpack_from(body, 4 + 8 * index) for index in range(count))
    return Settings(tuple((first & 0xFFFFFF, first >> 24, second) for first, second in pairs))
