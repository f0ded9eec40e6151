"""Taking connections in, as many as there is room and descriptors for.

asyncio's own servers count a connection from the end of its TLS handshake on, and where descriptors have run out they try a hundred
times in a row, with a traceback and a timer for each: whoever opens many connections then fills the disk with words.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl

from nsrun.api.connections import Connections

HANDSHAKE_S = 10.0
PAUSE_S = 0.2
"""Between two looks whether there are descriptors again."""
SAID_S = 60.0
"""How often it is said that there are none."""
_LOG = logging.getLogger("nsrun.api")


class Door:
    """One listening socket.

    Args:
        sock: listens already; the door closes it.
        connections: all that are open, of all doors.
        context: of TLS; None is in the clear.
    """

    def __init__(self, sock: socket.socket, connections: Connections, context: ssl.SSLContext | None) -> None:
        sock.setblocking(False)
        self._sock = sock
        self._connections = connections
        self._context = context
        self._greetings: set[asyncio.Task[None]] = set()
        self._said_at: float | None = None

    async def run(self) -> None:
        """Take connections in until cancelled."""
        loop = asyncio.get_running_loop()
        try:
            while True:
                try:
                    taken, _ = await loop.sock_accept(self._sock)
                except ConnectionAbortedError:
                    continue
                except OSError as error:
                    # Descriptors or memory have run out: what waits goes on waiting.
                    self._say(error)
                    await asyncio.sleep(PAUSE_S)
                    continue
                if not self._connections.expect():
                    taken.close()
                    continue
                greeting = loop.create_task(self._greet(taken))
                self._greetings.add(greeting)
                greeting.add_done_callback(self._greetings.discard)
        finally:
            self._sock.close()
            for greeting in self._greetings:
                greeting.cancel()

    async def _greet(self, taken: socket.socket) -> None:
        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                self._connections,
                taken,
                ssl=self._context,
                ssl_handshake_timeout=HANDSHAKE_S if self._context else None,
            )
        except OSError:
            # No TLS, a certificate that the client does not like, or no end of it: the client knows.
            pass
        finally:
            self._connections.expected()

    def _say(self, error: OSError) -> None:
        now = asyncio.get_running_loop().time()
        if self._said_at is None or now - self._said_at > SAID_S:
            self._said_at = now
            _LOG.warning("connections wait to be taken in: %s", error.strerror)
