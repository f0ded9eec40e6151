"""From HTTP to what streams are carried by: WebSockets (aiohttp's) and SPDY/3.1 on the bare connection."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, cast

from aiohttp import WSMsgType, web

from nsrun.api.streams import refusals, spdy
from nsrun.api.streams.session import Carrier, Session, Stream

MESSAGE_MAX = 32 << 20
"""Bytes of one message of a client's."""
CLOSE_S = 2.0
"""How long a client may take to hang up after it was told that all has been said."""
STALLED_S = 10.0
"""How long nothing is read from a client, because a container does not read, until it is asked whether it is still there."""
STREAM_HEADER = "X-Stream-Protocol-Version"
ACCEPTED_HEADER = "X-Accepted-Stream-Protocol-Versions"


def wants_websocket(request: web.Request) -> bool:
    """Whether the client asks for a WebSocket."""
    return _asks_for(request, "websocket")


def wants_spdy(request: web.Request) -> bool:
    """Whether the client asks for SPDY/3.1."""
    return _asks_for(request, "spdy/3.1")


def _asks_for(request: web.Request, protocol: str) -> bool:
    connection = ",".join(request.headers.getall("Connection", [])).lower()
    return "upgrade" in connection and request.headers.get("Upgrade", "").strip().lower() == protocol


def offered(request: web.Request, header: str) -> list[str]:
    """The protocols that a client names, in its order."""
    return [word.strip() for line in request.headers.getall(header, []) for word in line.split(",") if word.strip()]


async def websocket(request: web.Request, protocols: Sequence[str]) -> tuple[web.WebSocketResponse, str] | web.Response:
    """(the WebSocket, the protocol that was agreed on: empty for none), or an answer that refuses it."""
    wanted = offered(request, "Sec-WebSocket-Protocol")
    chosen = next((one for one in wanted if one in protocols), None)
    if wanted and chosen is None:
        return web.Response(status=403)
    ws = web.WebSocketResponse(
        protocols=() if chosen is None else (chosen,), compress=False, max_msg_size=MESSAGE_MAX, timeout=CLOSE_S
    )
    try:
        await ws.prepare(request)
    except web.HTTPException as refusal:
        return refusals.plain(refusal.status, refusal.text or "")
    return ws, chosen or ""


async def messages(
    ws: web.WebSocketResponse, take: Callable[[bytes], None], full: Callable[[], bool], room: Callable[[], Any]
) -> None:
    """Hand on what a client sends until it is gone.

    Args:
        take: gets each message.
        full: whether nothing more is to be read now.
        room: awaited then.
    """
    while True:
        message = await ws.receive()
        if message.type is WSMsgType.BINARY:
            take(message.data)
        elif message.type is WSMsgType.TEXT:
            take(message.data.encode())
        else:
            return
        while full():
            try:
                await asyncio.wait_for(room(), STALLED_S)
            except TimeoutError:
                # While nothing is read the end of the connection is not seen either, except by who writes.
                await ws.ping()


class Frames(Carrier):
    """SPDY within the messages of a WebSocket."""

    def __init__(self, ws: web.WebSocketResponse) -> None:
        self._ws = ws
        self._queue: list[bytes] = []
        self._sending = asyncio.Lock()

    def write(self, *parts: bytes) -> None:
        """Queue bytes; they go with the next `drain`, or by themselves in the loop's next turn."""
        if not self._queue:
            asyncio.get_running_loop().call_soon(self._start)
        self._queue.extend(parts)

    def _start(self) -> None:
        if self._queue and not self._sending.locked():
            self._task = asyncio.ensure_future(self._quietly())

    async def _quietly(self) -> None:
        try:
            await self.drain()
        except ConnectionError:
            return

    async def drain(self) -> None:
        """Send what is queued.

        Raises:
            ConnectionError: nobody reads any more.
        """
        async with self._sending:
            while self._queue:
                parts, self._queue = self._queue, []
                await self._ws.send_bytes(b"".join(parts))


class Socket(asyncio.Protocol, Carrier):
    """SPDY on a connection that was HTTP's.

    Args:
        before: its protocol until now, which is told of its end.
    """

    def __init__(self, transport: asyncio.Transport, before: asyncio.Protocol) -> None:
        self._transport = transport
        self._before = before
        self._loop = asyncio.get_running_loop()
        self._writable: asyncio.Future[None] | None = None
        self._paused = False
        self._timer: asyncio.TimerHandle | None = None
        self.session: Session | None = None
        self.ended: asyncio.Future[None] = self._loop.create_future()

    def begin(self, opened: Callable[[Stream], str | None]) -> Session:
        """Take the connection over."""
        self.session = Session(self, opened)
        self.session.on_room = self._room
        self._transport.set_protocol(self)
        if not self._transport.is_reading():
            self._transport.resume_reading()
        return self.session

    # of asyncio.Protocol

    def data_received(self, data: bytes) -> None:
        """Bytes of the client."""
        session = cast(Session, self.session)
        session.feed(data)
        if session.full and not self._paused:
            self._paused = True
            self._transport.pause_reading()
            self._timer = self._loop.call_later(STALLED_S, self._still_there)

    def _still_there(self) -> None:
        # While nothing is read the end of the connection is not seen either, except by who writes.
        self.write(spdy.ping(2))
        self._timer = self._loop.call_later(STALLED_S, self._still_there)

    def _room(self) -> None:
        if self._paused and not cast(Session, self.session).full:
            self._paused = False
            if self._timer is not None:
                self._timer.cancel()
            if not self._transport.is_closing():
                self._transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        """The end."""
        if self._timer is not None:
            self._timer.cancel()
        cast(Session, self.session).lost()
        self.resume_writing()
        if not self.ended.done():
            self.ended.set_result(None)
        self._before.connection_lost(exc)

    def pause_writing(self) -> None:
        """Much is queued."""
        if self._writable is None:
            self._writable = self._loop.create_future()

    def resume_writing(self) -> None:
        """It was sent."""
        if self._writable is not None:
            self._writable.set_result(None)
            self._writable = None

    # of Carrier

    def write(self, *parts: bytes) -> None:
        """Queue bytes."""
        if not self._transport.is_closing():
            self._transport.writelines(parts)

    async def drain(self) -> None:
        """Wait until not much is queued."""
        if self._writable is not None:
            await asyncio.shield(self._writable)
        if self._transport.is_closing():
            raise ConnectionResetError("the client is gone")

    async def close(self) -> None:
        """Hang up, once the client has, or did not want to: what it still sends would make its kernel drop what it has not read."""
        await asyncio.wait({self.ended}, timeout=CLOSE_S)
        self._transport.close()


class Taken(web.StreamResponse):
    """What the HTTP server gets for a connection that is none of its any more."""

    def __init__(self) -> None:
        super().__init__(status=101)
        self.force_close()

    async def prepare(self, request: web.BaseRequest) -> None:
        """All was said already."""

    async def write_eof(self, data: Any = b"") -> None:
        """All was said already."""


async def spdy_connection(
    request: web.Request, protocols: Sequence[str], *, needed: bool, opened: Callable[[Stream], str | None]
) -> tuple[Socket, str] | web.Response:
    """(the connection, now SPDY's, and the protocol that was agreed on: empty for none), or an answer that refuses it.

    Args:
        protocols: known here.
        needed: the client must name one.
        opened: called with each new stream.
    """
    wanted = offered(request, STREAM_HEADER)
    chosen = next((one for one in wanted if one in protocols), None)
    if chosen is None and (wanted or needed):
        known, asked = " ".join(protocols), " ".join(wanted)
        refusal = refusals.plain(
            403, f"unable to upgrade: unable to negotiate protocol: client supports [{asked}], server accepts [{known}]"
        )
        for one in protocols:
            refusal.headers.add(ACCEPTED_HEADER, one)
        return refusal
    transport = request.transport
    if transport is None:
        raise ConnectionResetError("the client is gone")
    head = ["HTTP/1.1 101 Switching Protocols", "Connection: Upgrade", "Upgrade: SPDY/3.1"]
    if chosen is not None:
        head.append(f"{STREAM_HEADER}: {chosen}")
    # aiohttp's own reading ends here: the client says nothing before it has read this answer.
    socket = Socket(transport, cast(asyncio.Protocol, request.protocol))
    transport.write(("\r\n".join(head) + "\r\n\r\n").encode())
    socket.begin(opened)
    return socket, chosen or ""
