"""Requests to the server that carry descriptors, from an asyncio loop."""

from __future__ import annotations

import array
import asyncio
import contextlib
import json
import socket
from collections.abc import Sequence

from nsrun.api.streams.pipes import wake
from nsrun.client.roots import Root
from nsrun.client.start import connect_or_start
from nsrun.client.wire import MAX_DESCRIPTORS, MAX_FRAME, ConnectionLost, Message, close_all, not_ours
from nsrun.errors import NsrunError, ServerError

IDLE_CONNECTIONS = 8
LOSSES_MAX = 20
"""How many servers a request may outlive."""

_SPACE = socket.CMSG_SPACE(MAX_DESCRIPTORS * 4)


class Connection:
    """One greeted connection; one request at a time.

    Args:
        sock: connected; owned from now on.
    """

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self._sock = sock
        self._loop = asyncio.get_running_loop()
        self._last_id = 0

    def close(self) -> None:
        """Hang up; what the server still streams on it ends."""
        if self._sock.fileno() >= 0:
            self._loop.remove_reader(self._sock.fileno())
            self._sock.close()

    @property
    def quiet(self) -> bool:
        """Open, and nothing has come that nobody waits for."""
        try:
            self._sock.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return True
        except OSError:
            return False
        return False

    async def send(self, method: str, params: Message, fds: Sequence[int] = ()) -> int:
        """Send a request; its number. The caller keeps its copies of the descriptors.

        Raises:
            ConnectionLost: the server is gone.
        """
        self._last_id += 1
        known = {key: value for key, value in params.items() if value is not None}
        body = json.dumps({"id": self._last_id, "method": method, "params": known}, separators=(",", ":")).encode()
        frame = len(body).to_bytes(4, "big") + body
        ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        try:
            # An idle connection's buffer has room for the first bytes, and the descriptors go with them.
            sent = self._sock.sendmsg([frame], ancillary)
            if sent < len(frame):
                await self._loop.sock_sendall(self._sock, frame[sent:])
        except OSError as error:
            raise ConnectionLost(str(error)) from error
        return self._last_id

    async def receive(self) -> tuple[Message, list[int]]:
        """The next frame and its descriptors, which the caller owns.

        Raises:
            ConnectionLost: the server is gone.
        """
        fds: list[int] = []
        try:
            header = await self._read(4, fds)
            length = int.from_bytes(header, "big")
            if length > MAX_FRAME:
                raise not_ours(f"it announces a frame of {length} bytes")
            message = json.loads(await self._read(length, fds))
            if not isinstance(message, dict):
                raise not_ours("it sends a frame that is no JSON object")
        except BaseException:
            close_all(fds)
            raise
        return message, fds

    async def _read(self, length: int, fds: list[int]) -> bytes:
        data = bytearray()
        while len(data) < length:
            try:
                piece, ancillary, _flags, _address = self._sock.recvmsg(
                    length - len(data), _SPACE, socket.MSG_CMSG_CLOEXEC
                )
            except BlockingIOError:
                await self._readable()
                continue
            except OSError as error:
                raise ConnectionLost(str(error)) from error
            for level, kind, payload in ancillary:
                if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                    numbers = array.array("i")
                    numbers.frombytes(payload)
                    fds.extend(numbers)
            if not piece:
                raise ConnectionLost("end of file")
            data += piece
        return bytes(data)

    async def _readable(self) -> None:
        number = self._sock.fileno()
        if number < 0:
            raise ConnectionLost("closed")
        there: asyncio.Future[None] = self._loop.create_future()
        self._loop.add_reader(number, wake, there)
        try:
            await there
        finally:
            self._loop.remove_reader(number)


class Calls:
    """Requests to a root's server, over connections that are kept.

    Args:
        root: the server's directories.
    """

    def __init__(self, root: Root) -> None:
        self.root = root
        self._idle: list[Connection] = []

    def close(self) -> None:
        """Close the connections that nobody uses."""
        while self._idle:
            self._idle.pop().close()

    async def connection(self) -> Connection:
        """A connection; the server is started where there is none.

        Raises:
            NsrunError: there is none and it cannot be started.
        """
        while self._idle:
            connection = self._idle.pop()
            if connection.quiet:
                return connection
            connection.close()
        greeted = await asyncio.to_thread(connect_or_start, self.root)
        try:
            greeted.require_same_version(self.root)
        except NsrunError:
            greeted.close()
            raise
        return Connection(greeted.detach())

    def release(self, connection: Connection) -> None:
        """Keep a connection for the next request."""
        if len(self._idle) < IDLE_CONNECTIONS and connection.quiet:
            self._idle.append(connection)
        else:
            connection.close()

    async def request_once(self, method: str, params: Message, fds: Sequence[int] = ()) -> tuple[Message, list[int]]:
        """(result, descriptors that the caller owns), of a request that must not be repeated without thought.

        Raises:
            ConnectionLost: the server died before it answered.
            NsrunError: its answer, or there is no server.
        """
        connection = await self.connection()
        try:
            number = await connection.send(method, params, fds)
            while True:
                message, received = await connection.receive()
                if message.get("id") in (number, 0) and "event" not in message:
                    break
                close_all(received)
        except BaseException:
            connection.close()
            raise
        self.release(connection)
        if "error" in message:
            close_all(received)
            raise NsrunError.from_data(message["error"])
        return message["result"], received

    async def request(self, method: str, params: Message) -> tuple[Message, list[int]]:
        """The same of a request that may be repeated: servers that die over it are outlived.

        Raises:
            NsrunError: the server's answer, or there is none.
        """
        for attempt in range(LOSSES_MAX):
            with contextlib.suppress(ConnectionLost):
                return await self.request_once(method, params)
            await asyncio.sleep(min(0.005 * 2**attempt, 0.5))
        raise ServerError(f"{LOSSES_MAX} servers died before they answered {method}")
