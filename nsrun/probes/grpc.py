"""grpc.health.v1.Health/Check in plain text: SERVING is success (Kubernetes pkg/probe/grpc/grpc.go).

What is said of failures is grpc-go's: a connection counts once the server's SETTINGS have come, one that fails is tried
again until the time is over, and a status is `rpc error: code = NotFound desc = unknown service`.
"""

from __future__ import annotations

import asyncio
import urllib.parse
from dataclasses import dataclass, field
from http import HTTPStatus

import h2.config
import h2.connection
import h2.events
import h2.exceptions
import h2.settings

from nsrun.probes.http import VERSION
from nsrun.probes.outcome import LocalError, Outcome, ProbeError, Result
from nsrun.probes.wires import Wire, Wires
from nsrun.probes.wording import duration, joined, quoted

HEARD_MAX = 256 * 1024
"""Bytes of an answer that takes a few dozen."""
AGAIN_S = (1.0, 1.6, 2.56, 4.1, 6.55, 10.5, 16.8, 26.8, 42.9, 68.7, 120.0)
"""Between attempts to connect (grpc-go's default back-off, without its jitter)."""
PATH = "/grpc.health.v1.Health/Check"

_CODES = (
    "OK", "Canceled", "Unknown", "InvalidArgument", "DeadlineExceeded", "NotFound", "AlreadyExists", "PermissionDenied",
    "ResourceExhausted", "FailedPrecondition", "Aborted", "OutOfRange", "Unimplemented", "Internal", "Unavailable", "DataLoss",
    "Unauthenticated",
)  # fmt: skip
_HTTP = {400: 13, 401: 16, 403: 7, 404: 12, 429: 14, 502: 14, 503: 14, 504: 14}
_RESETS = {7: 14, 8: 1, 11: 8, 12: 7}
"""HTTP/2 error code of an RST_STREAM -> status; INTERNAL for the others."""
_SERVING = 1
_STATES = {0: "UNKNOWN", 1: "SERVING", 2: "NOT_SERVING", 3: "SERVICE_UNKNOWN"}


class StatusError(Exception):
    """The call failed with a gRPC status."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code
        self.text = text


@dataclass(slots=True)
class _Answer:
    headers: dict[str, str] = field(default_factory=dict)
    trailers: dict[str, str] = field(default_factory=dict)
    data: bytearray = field(default_factory=bytearray)
    ended: bool = False


async def probe(wires: Wires, host: str, port: int, service: str, timeout_s: float) -> Outcome:
    """Ask for the health of a service; "" is the server as a whole."""
    end = joined(host, port)
    within = duration(timeout_s)
    call: _Call | None = None
    try:
        async with asyncio.timeout(timeout_s):
            call = await _connect(wires, host, port)
            state = await call.check(service, end, timeout_s)
    except TimeoutError:
        if call is None:
            text = f"timeout: failed to connect service {quoted(end)} within {within}: context deadline exceeded"
        else:
            text = f"timeout: health rpc did not complete within {within}"
        return Outcome(Result.FAILURE, text)
    except LocalError as error:
        return Outcome(Result.UNKNOWN, str(error), errored=True)
    except StatusError as error:
        return Outcome(Result.FAILURE, _words(error, within))
    finally:
        if call is not None:
            call.close()
    if state == _SERVING:
        return Outcome(Result.SUCCESS)
    return Outcome(Result.FAILURE, f"service unhealthy (responded with {quoted(_STATES.get(state, str(state)))})")


def _words(error: StatusError, within: str) -> str:
    if error.code == _CODES.index("Unimplemented"):
        what = "error: this server does not implement the grpc health protocol (grpc.health.v1.Health)"
        return f"{what}: {error.text}"
    if error.code == _CODES.index("DeadlineExceeded"):
        return f"timeout: health rpc did not complete within {within}"
    name = _CODES[error.code] if error.code < len(_CODES) else f"Code({error.code})"
    return f"error: health rpc probe failed: rpc error: code = {name} desc = {error.text}"


async def _connect(wires: Wires, host: str, port: int) -> _Call:
    for pause_s in AGAIN_S:
        try:
            wire = await wires.dial(host, port)
        except ProbeError:
            await asyncio.sleep(pause_s)
            continue
        call = _Call(wire)
        try:
            await call.greet()
        except (ProbeError, StatusError):
            wire.reset()
            await asyncio.sleep(pause_s)
        except BaseException:
            wire.reset()
            raise
        else:
            return call
    raise TimeoutError


class _Call:
    """One connection with one call on it."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        config = h2.config.H2Configuration(client_side=True, header_encoding="utf-8")
        self._h2 = h2.connection.H2Connection(config)
        self._h2.local_settings.update({h2.settings.SettingCodes.ENABLE_PUSH: 0})
        self._heard = 0
        self._greeted = False
        self._answer = _Answer()

    async def greet(self) -> None:
        """Exchange SETTINGS. Raises ProbeError or StatusError: this is no HTTP/2 server."""
        self._h2.initiate_connection()
        while not self._greeted:
            await self._turn()

    async def check(self, service: str, authority: str, timeout_s: float) -> int:
        """The state of the service.

        Raises:
            StatusError: the call failed.
        """
        number = self._h2.get_next_available_stream_id()
        headers = [
            (":method", "POST"),
            (":scheme", "http"),
            (":path", PATH),
            (":authority", authority),
            ("content-type", "application/grpc"),
            ("user-agent", f"kube-probe/{VERSION}"),
            ("te", "trailers"),
            ("grpc-timeout", f"{int(timeout_s * 1000)}m"),
        ]
        text = service.encode()
        message = b"\x0a" + _varint(len(text)) + text if text else b""
        try:
            self._h2.send_headers(number, headers)
            self._h2.send_data(number, b"\0" + len(message).to_bytes(4, "big") + message, end_stream=True)
        except h2.exceptions.ProtocolError as error:
            raise StatusError(14, str(error)) from error
        while not self._answer.ended:
            try:
                await self._turn()
            except ProbeError as error:
                raise StatusError(14, f"error reading from server: {error}") from error
        return _state(self._answer)

    async def _turn(self) -> None:
        """Send what is to be sent, and take what comes next."""
        data = self._h2.data_to_send()
        if data:
            await self._wire.send(data)
        heard = await self._wire.receive()
        if not heard:
            raise ProbeError("EOF")
        self._heard += len(heard)
        if self._heard > HEARD_MAX:
            raise ProbeError("the server sends more than an answer takes")
        try:
            events = self._h2.receive_data(heard)
        except (h2.exceptions.ProtocolError, UnicodeDecodeError) as error:
            raise ProbeError(str(error) or type(error).__name__) from error
        for event in events:
            self._take(event)

    def _take(self, event: h2.events.Event) -> None:
        answer = self._answer
        match event:
            case h2.events.RemoteSettingsChanged():
                self._greeted = True
            case h2.events.ResponseReceived():
                answer.headers = _texts(event.headers)
            case h2.events.TrailersReceived():
                answer.trailers = _texts(event.headers)
            case h2.events.DataReceived():
                answer.data += event.data
            case h2.events.StreamEnded():
                answer.ended = True
            case h2.events.StreamReset():
                code = int(event.error_code or 0)
                name = getattr(event.error_code, "name", str(code))
                raise StatusError(_RESETS.get(code, 13), f"stream terminated by RST_STREAM with error code: {name}")
            case h2.events.ConnectionTerminated():
                if self._greeted:
                    raise StatusError(14, "the connection is draining")
                raise ProbeError("GOAWAY")
            case _:
                pass

    def close(self) -> None:
        """A FIN: the other side is left in peace."""
        self._wire.close()


def _texts(headers: object) -> dict[str, str]:
    return {str(name): str(value) for name, value in headers}  # type: ignore[attr-defined]  # h2's list of pairs


def _state(answer: _Answer) -> int:
    """The state that an answer tells.

    Raises:
        StatusError: it tells of a failure, or nothing.
    """
    status = answer.headers.get(":status", "")
    kind = answer.headers.get("content-type", "")
    # A call that fails at once has one block of headers, which are its trailers.
    ends = answer.trailers or answer.headers
    if status != "200":
        number = int(status) if status.isdigit() else 0
        phrase = next((one.phrase for one in HTTPStatus if one == number), "")
        text = f"unexpected HTTP status code received from server: {number} ({phrase})"
        if not kind.startswith("application/grpc"):
            text += f"; transport: received unexpected content-type {quoted(kind)}"
        raise StatusError(_HTTP.get(number, 2), text)
    if not kind.startswith("application/grpc"):
        raise StatusError(2, f"transport: received unexpected content-type {quoted(kind)}")
    code = ends.get("grpc-status", "")
    if not code.isdigit():
        raise StatusError(13, "server closed the stream without sending trailers")
    if int(code):
        raise StatusError(int(code), urllib.parse.unquote(ends.get("grpc-message", "")))
    if len(answer.data) < 5:
        raise StatusError(13, "cardinality violation: received no response message from non-server-streaming RPC")
    if answer.data[0]:
        raise StatusError(13, "grpc: compressed flag set with identity or empty encoding")
    size = int.from_bytes(answer.data[1:5], "big")
    return _parse(bytes(answer.data[5 : 5 + size]))


def _varint(number: int) -> bytes:
    parts = bytearray()
    while number > 0x7F:
        parts.append(number & 0x7F | 0x80)
        number >>= 7
    parts.append(number)
    return bytes(parts)


def _parse(message: bytes) -> int:
    """`status` (field 1, an enum) of a HealthCheckResponse; other fields are skipped.

    Raises:
        StatusError: it is no protobuf message.
    """
    state = at = 0
    try:
        while at < len(message):
            key, at = _read(message, at)
            kind = key & 7
            if kind == 0:
                value, at = _read(message, at)
                if key >> 3 == 1:
                    state = value
            elif kind == 2:
                size, at = _read(message, at)
                at += size
            elif kind in (1, 5):
                at += 8 if kind == 1 else 4
            else:
                raise ValueError(f"wire type {kind}")
    except (IndexError, ValueError) as error:
        why = "grpc: failed to unmarshal the received message: proto: cannot parse invalid wire-format data"
        raise StatusError(13, why) from error
    return state


def _read(message: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
        if shift > 63:
            raise ValueError("a varint of more than ten bytes")
