"""The connection to the server: one, for the stream of all changes, for every write, and for the pings that make reads consistent.

What the server tells on one connection comes in order. So the change that a write made is in the cache before the write's answer, and
everything that had happened when a ping was sent is in the cache when its answer is there.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
from collections.abc import Callable
from typing import Any

import msgspec

from nsrun.client.roots import Root
from nsrun.client.start import connect_or_start
from nsrun.client.wire import MAX_FRAME, ConnectionLost, ServerAway, connect, not_ours
from nsrun.errors import NsrunError, ServerError

_LOG = logging.getLogger("nsrun.api")

PATIENCE_S = 10.0
"""How long a request waits for a server when there is none."""
PAUSES_S = (0.01, 0.05, 0.2, 0.5, 1.0)
"""Between attempts to find a server."""
STEADY_S = 2.0
"""A connection that lasted so long was one."""
IN_FLIGHT_MAX = 64
"""Writes that the server is asked for at a time; it runs them concurrently, and others ask it too."""


class Change(msgspec.Struct):
    """One event of `api.watch`."""

    type: str
    kind: str = ""
    object: msgspec.Raw = msgspec.Raw(b"")
    resourceVersion: str = ""


class _Frame(msgspec.Struct):
    id: int = 0
    event: Change | None = None
    result: msgspec.Raw = msgspec.Raw(b"{}")
    error: dict[str, Any] | None = None


_FRAMES = msgspec.json.Decoder(_Frame)
_ENCODER = msgspec.json.Encoder()
_JSON = msgspec.json.Decoder()


class Link:
    """The way to the server of a root, found again whenever it is lost.

    Args:
        root: whose server.
        on_change: called for each event of `api.watch`, also for the bookmark that ends what there is at first.
        on_lost: called when the stream ends; what comes next begins anew with what there is.
    """

    def __init__(
        self, root: Root, on_change: Callable[[Change], None], on_lost: Callable[[], None] = lambda: None
    ) -> None:
        self.root = root
        self._on_change = on_change
        self._on_lost = on_lost
        self._writer: asyncio.StreamWriter | None = None
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._last_id = 0
        self._watch_id = 0
        self._synced = asyncio.Event()
        self._room = asyncio.Semaphore(IN_FLIGHT_MAX)
        self._ping: asyncio.Task[None] | None = None
        self._next_ping: asyncio.Task[None] | None = None
        self._nudge = asyncio.Event()
        self.trouble: NsrunError | None = None
        """Why there is no server, while there is none."""

    @property
    def synced(self) -> bool:
        """The stream is there, and what there was at its beginning has been told."""
        return self._synced.is_set()

    async def run(self) -> None:
        """Keep the connection, for ever."""
        attempt = 0
        loop = asyncio.get_running_loop()
        while True:
            began = loop.time()
            try:
                await self._serve_one()
            except (OSError, EOFError, ConnectionLost) as error:
                _LOG.info("the server is gone: %s", error)
            except NsrunError as error:
                if self.trouble is None or self.trouble.brief != error.brief:
                    _LOG.warning("no server: %s", error.brief)
                self.trouble = error
            # One that greets and then cannot be listened to must not be asked again and again without a pause.
            attempt = 0 if loop.time() - began > STEADY_S else attempt + 1
            await self._pause(attempt)

    async def _serve_one(self) -> None:
        """Connect, and listen to the end of that connection."""
        reader, writer = await self._connect()
        self._writer = writer
        try:
            self._watch_id = self._send("api.watch", {})
            await self._listen(reader)
        finally:
            await self._lose(writer)

    async def _pause(self, attempt: int) -> None:
        """Until it is time for another attempt; while there have been few, somebody who waits for the server shortens it."""
        self._nudge.clear()
        pause_s = PAUSES_S[min(attempt, len(PAUSES_S) - 1)]
        await asyncio.sleep(min(pause_s, PAUSES_S[1]))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(pause_s):
                await self._nudge.wait()

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        sock = await asyncio.to_thread(_greeted, self.root)
        return await asyncio.open_unix_connection(sock=sock, limit=2**20)

    async def _lose(self, writer: asyncio.StreamWriter) -> None:
        self._synced.clear()
        self._writer = None
        waiting, self._waiting = self._waiting, {}
        for future in waiting.values():
            if not future.done():
                future.set_exception(lost())
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
        self._on_lost()

    async def _listen(self, reader: asyncio.StreamReader) -> None:
        while True:
            try:
                size = int.from_bytes(await reader.readexactly(4), "big")
                if size > MAX_FRAME:
                    raise not_ours(f"it announces a frame of {size} bytes")
                frame = _FRAMES.decode(await reader.readexactly(size))
            except msgspec.DecodeError as error:
                raise not_ours(f"it sends a frame that is no JSON: {error}") from error
            self._take(frame)

    def _take(self, frame: _Frame) -> None:
        if frame.event is not None:
            if frame.id == self._watch_id:
                self._on_change(frame.event)
                if frame.event.type == "BOOKMARK" and not self._synced.is_set():
                    self.trouble = None
                    self._synced.set()
            return
        if frame.id == self._watch_id:
            raise (
                NsrunError.from_data(frame.error)
                if frame.error is not None
                else ConnectionLost("the stream of changes ended")
            )
        future = self._waiting.pop(frame.id, None)
        if future is None or future.done():
            return
        if frame.error is not None:
            future.set_exception(NsrunError.from_data(frame.error))
        else:
            future.set_result(_JSON.decode(frame.result))

    def _send(self, method: str, params: dict[str, Any]) -> int:
        writer = self._writer
        if writer is None or writer.is_closing():
            raise lost()
        self._last_id += 1
        known = {key: value for key, value in params.items() if value is not None}
        body = _ENCODER.encode({"id": self._last_id, "method": method, "params": known})
        if len(body) > MAX_FRAME:
            raise ServerError(
                f"a request of {len(body)} bytes is larger than the {MAX_FRAME} bytes that the server reads"
            )
        writer.write(len(body).to_bytes(4, "big") + body)
        return self._last_id

    async def ready(self, patience_s: float = PATIENCE_S) -> None:
        """Until the server is there and the cache knows what there is.

        Raises:
            ServerError: it was not, for that long.
        """
        if self._synced.is_set():
            return
        self._nudge.set()
        try:
            async with asyncio.timeout(patience_s):
                await self._synced.wait()
        except TimeoutError:
            raise self.trouble or ServerError(f"there is no server: {self.root.socket_path}") from None

    async def call(self, method: str, params: dict[str, Any]) -> dict[str, Any]:
        """Ask the server for something that may change things. It is not asked twice.

        Raises:
            StatusError: it refused, in the words of an API server.
            NsrunError: whatever else; `code` is "server" when it was lost before it answered.
        """
        await self.ready()
        async with self._room:
            return await self._asked(method, params)

    async def _asked(self, method: str, params: dict[str, Any]) -> dict[str, Any]:
        number = self._send(method, params)
        future: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._waiting[number] = future
        try:
            return await future
        finally:
            self._waiting.pop(number, None)

    async def barrier(self) -> None:
        """Until the cache has everything that had happened when this was called.

        One ping serves all who wait for it. Who comes while one is under way waits for the next, which goes out when it is back.

        Raises:
            ServerError: there is no server.
        """
        deadline = asyncio.get_running_loop().time() + PATIENCE_S
        while True:
            await self.ready()
            if self._ping is None or self._ping.done():
                self._ping = asyncio.create_task(self._pinged())
                waited = self._ping
            else:
                if self._next_ping is None or self._next_ping.done():
                    self._next_ping = asyncio.create_task(self._pinged_after(self._ping))
                waited = self._next_ping
            try:
                await asyncio.shield(waited)
                return
            except ServerError:
                # Asking is no change: the next server is as good.
                if asyncio.get_running_loop().time() > deadline:
                    raise

    async def _pinged(self) -> None:
        await self._asked("server.ping", {})

    async def _pinged_after(self, earlier: asyncio.Task[None]) -> None:
        await asyncio.wait([earlier])
        # From here on this one is under way, and whoever comes has to wait for another.
        self._ping, self._next_ping = self._next_ping, None
        await self._pinged()


def _greeted(root: Root) -> socket.socket:
    """A socket on which the server has greeted; a server is started as commands do. Blocks.

    Raises:
        NsrunError: there is none, and it cannot be started.
    """
    try:
        connection = connect_or_start(root) if os.geteuid() == 0 else connect(root)
    except (ServerAway, ConnectionLost) as error:
        raise ServerError(
            f"there is no server, and only root can start one: {root.socket_path}",
            resolution=f"sudo nsrun {root.option}server start",
        ) from error
    try:
        connection.require_same_version(root)
        # Frames are read by their length: nothing that came after the greeting was taken from the socket.
        sock = socket.socket(fileno=os.dup(connection.fileno()))
    finally:
        connection.close()
    sock.setblocking(False)
    return sock


def lost() -> ServerError:
    """The server went while something was asked of it."""
    return ServerError(
        "the server was lost before it answered",
        details="What was asked for may have been done or not.",
        resolution="Look, then ask again.",
    )
