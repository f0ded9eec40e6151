"""Connections of clients: how many, how long they may take, and what becomes of them.

aiohttp reads requests and closes connections on which nothing happens. What it leaves open is here: the number of connections, clients
that send a request slowly, and clients that are gone without a word.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable
from typing import Any

from aiohttp import web
from aiohttp.web_protocol import RequestHandler

REQUEST_S = 20.0
"""How long the head of a request may take from its first byte, or from the connection's beginning."""
IDLE_S = 120.0
"""How long a connection is kept for another request."""
DEAD_S = 60
"""After which a connection whose peer acknowledges nothing is closed."""
CONNECTIONS_MAX = 4096
HEADERS_MAX = 100
"""Lines of a request's head."""
FIELD_MAX = 16 * 1024
"""Bytes of one of them: labels and fields to select by stand in the first."""


class Connections:
    """All open connections.

    Args:
        server: makes requests of bytes, and has them handled.
        most: connections at a time; others are closed as soon as they are taken in.
    """

    def __init__(self, server: web.Server, most: int = CONNECTIONS_MAX) -> None:
        self._server = server
        self._most = most
        self._expected = 0
        self.open: set[Guarded] = set()
        self.refused = 0
        """Connections closed because there were too many."""

    def __call__(self) -> asyncio.Protocol:
        """The protocol of a new connection."""
        return Guarded(self, self._server)

    def expect(self) -> bool:
        """Whether there is room for another one; it takes its place from now on, also while it has not begun."""
        if len(self.open) + self._expected >= self._most:
            self.refused += 1
            return False
        self._expected += 1
        return True

    def expected(self) -> None:
        """One that was expected has begun, or never will."""
        self._expected -= 1


class Guarded(RequestHandler):
    """A connection that is watched over.

    Args:
        connections: all of them.
        server: as of aiohttp.
    """

    __slots__ = ("_connections", "_deadline", "_seen", "on_lost")

    def __init__(self, connections: Connections, server: web.Server) -> None:
        super().__init__(
            server,
            loop=asyncio.get_running_loop(),
            keepalive_timeout=IDLE_S,
            access_log=None,  # type: ignore[arg-type]  # None switches it off
            max_line_size=FIELD_MAX,
            max_field_size=FIELD_MAX,
            max_headers=HEADERS_MAX,
            auto_decompress=True,
            # What is left of a body that nobody read is not waited for: closing tells the client as well.
            lingering_time=1.0,
        )
        self._connections = connections
        self._deadline: asyncio.TimerHandle | None = None
        self._seen = 0
        self.on_lost: Callable[[], None] | None = None
        """Called when the connection is gone, by whoever handles a request of it."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the connection."""
        self._connections.open.add(self)
        _mind_the_dead(transport)
        super().connection_made(transport)
        self._expect()

    def connection_lost(self, exc: BaseException | None) -> None:
        """Tell whoever handles a request."""
        self._connections.open.discard(self)
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
        super().connection_lost(exc)
        if self.on_lost is not None:
            self.on_lost()
            self.on_lost = None

    def data_received(self, data: bytes) -> None:
        """Bytes of requests, or of what a connection became."""
        super().data_received(data)
        if self._deadline is None and self._current_request is None and not self._messages:
            self._expect()
        elif self._deadline is not None and (self._current_request is not None or self._messages):
            self._deadline.cancel()
            self._deadline = None

    def _expect(self) -> None:
        self._deadline = asyncio.get_running_loop().call_later(REQUEST_S, self._too_slow)

    def _too_slow(self) -> None:
        self._deadline = None
        if self._current_request is None and not self._messages and self.transport is not None:
            self.transport.abort()


def _mind_the_dead(transport: asyncio.BaseTransport) -> None:
    """Have the kernel close a connection whose peer is gone without a word."""
    sock: Any = transport.get_extra_info("socket")
    if sock is None or sock.family not in (socket.AF_INET, socket.AF_INET6):
        return
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, DEAD_S // 2)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, DEAD_S // 6)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, DEAD_S * 1000)
