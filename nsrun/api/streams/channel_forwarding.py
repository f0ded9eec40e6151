"""portforward of clients that are older than SPDY within a WebSocket: a pair of channels for each port of the query, and one connection
to each. A channel cannot be ended, so that all ends with the pods' sides.
"""

from __future__ import annotations

import asyncio
import contextlib
import struct
from collections import deque
from typing import Any

from aiohttp import web

from nsrun.api.streams import channels, dialing, refusals, upgrade
from nsrun.api.streams.calls import Calls
from nsrun.api.streams.channels import Codec

PORTS_MAX = 64
HELD_MAX = 1 << 20
"""Bytes for all ports that the pod has not taken; then nothing more is read from the client."""


class Held:
    """What a client has sent and no pod has taken."""

    def __init__(self) -> None:
        self.bytes = 0
        self.room = asyncio.Event()

    def add(self, count: int) -> None:
        """More, or with a negative number less."""
        self.bytes += count
        if self.full:
            self.room.clear()
        else:
            self.room.set()

    @property
    def full(self) -> bool:
        """Whether nothing more should be read."""
        return self.bytes > HELD_MAX


class Channel:
    """The data of one port.

    Attributes:
        reset: the client is gone.
    """

    def __init__(self, ws: web.WebSocketResponse, codec: Codec, number: int, held: Held) -> None:
        self.reset = False
        self._ws, self._codec, self._number, self._held = ws, codec, number, held
        self._inbox: deque[bytes] = deque()
        self._news = asyncio.Event()

    def take(self, data: bytes) -> None:
        """Bytes of the client."""
        self._inbox.append(data)
        self._held.add(len(data))
        self._news.set()

    async def read(self) -> bytes:
        """The next bytes."""
        while not self._inbox:
            self._news.clear()
            await self._news.wait()
        data = self._inbox.popleft()
        self._held.add(-len(data))
        return data

    async def write(self, data: bytes) -> None:
        """Send bytes."""
        await self.send(self._number, data)

    async def send(self, channel: int, data: bytes) -> None:
        """Send bytes on this channel or the one for errors beside it."""
        message = self._codec.encode(channel, data)
        try:
            if self._codec.text:
                await self._ws.send_str(message.decode())
            else:
                await self._ws.send_bytes(message)
        except RuntimeError as error:
            raise ConnectionResetError(str(error)) from error

    def finish(self) -> None:
        """A channel has no end."""

    async def run(self, calls: Calls, pod: dict[str, Any], port: int) -> None:
        """Carry one connection to its end."""
        with contextlib.suppress(ConnectionError):
            for channel in (self._number, self._number + 1):
                await self.send(channel, struct.pack("<H", port))
            try:
                sock = await dialing.connect(calls, pod, port)
            except dialing.RefusedError as refusal:
                await self.send(self._number + 1, dialing.told(pod, port, refusal))
                return
            try:
                await dialing.copy(self, sock, half_close=False)
            except OSError as problem:
                await self.send(self._number + 1, dialing.told(pod, port, problem))
            finally:
                sock.close()


async def serve(request: web.Request, pod: dict[str, Any], calls: Calls) -> web.StreamResponse:
    """Forward until all of the pod's sides have ended, or the client is gone."""
    ports = _ports(request)
    if isinstance(ports, web.Response):
        return ports
    if not dialing.runs(pod):
        return dialing.not_running(pod)
    answer = await upgrade.websocket(request, channels.FORWARD_PROTOCOLS)
    if isinstance(answer, web.Response):
        return answer
    ws, protocol = answer
    codec, held = Codec(protocol), Held()
    every = [Channel(ws, codec, 2 * index, held) for index in range(len(ports))]

    def take(data: bytes) -> None:
        message = codec.decode(data)
        if message is not None and message.data and not message.channel & 1 and message.channel < 2 * len(every):
            every[message.channel // 2].take(message.data)

    reading = asyncio.ensure_future(upgrade.messages(ws, take, lambda: held.full, held.room.wait))
    carrying = asyncio.gather(*(one.run(calls, pod, port) for one, port in zip(every, ports, strict=True)))
    try:
        await asyncio.wait((reading, carrying), return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in (reading, carrying):
            task.cancel()
        await asyncio.gather(reading, carrying, return_exceptions=True)
    await ws.close()
    return ws


def _ports(request: web.Request) -> list[int] | web.Response:
    """The ports that a query names."""
    texts = request.query.getall("ports", []) or request.query.getall("port", [])
    if not texts:
        return refusals.plain(400, 'query parameter "port" is required')
    found: list[int] = []
    for text in ",".join(texts).split(","):
        if not text.isascii() or not text.isdigit() or len(text) > 5 or not 0 < int(text) < 65536:
            return refusals.plain(400, f'unable to parse "{text}" as a port')
        found.append(int(text))
    if len(found) > PORTS_MAX:
        return refusals.plain(400, f"at most {PORTS_MAX} ports are forwarded over one connection")
    return found
