"""exec and attach: a process on one side, a client on the other, over WebSocket channels or SPDY streams."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable
from typing import Any

from aiohttp import web

from nsrun.api.streams import channels, containers, refusals, running, upgrade
from nsrun.api.streams.calls import Calls
from nsrun.api.streams.channels import ERROR, RESIZE, STDERR, STDIN, STDOUT, Codec
from nsrun.api.streams.query import flag
from nsrun.api.streams.running import BeginningError, Options, Running
from nsrun.api.streams.session import Session, Stream

STREAMS_S = 30.0
"""How long a SPDY client may take to open its streams (kubelet's streamCreationTimeout)."""
INPUT_MAX = 1 << 20
"""Bytes of a client's input that are held until the container takes them; then no more is read from the client."""
NAMES = {STDIN: "stdin", STDOUT: "stdout", STDERR: "stderr", ERROR: "error", RESIZE: "resize"}


class Client:
    """Whoever asked for the command.

    Attributes:
        gone: done once it is.
    """

    def __init__(self) -> None:
        self.gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def input(self) -> bytes:
        """Its next input; empty at the end."""
        raise NotImplementedError

    async def sizes(self) -> list[tuple[int, int]] | None:
        """The next sizes of its terminal; None when none will come."""
        raise NotImplementedError

    async def output(self, channel: int, data: bytes) -> None:
        """Send it output.

        Raises:
            ConnectionError: it is gone.
        """
        raise NotImplementedError

    async def finish(self, status: dict[str, Any]) -> None:
        """Tell it how the command ended, and hang up."""
        raise NotImplementedError

    def leave(self) -> None:
        """Note that it is gone."""
        if not self.gone.done():
            self.gone.set_result(None)


class WebSocketClient(Client):
    """One whose channels are messages of a WebSocket."""

    def __init__(self, ws: web.WebSocketResponse, protocol: str, options: Options) -> None:
        super().__init__()
        self._ws, self._codec, self._options = ws, Codec(protocol), options
        self._input: asyncio.Queue[bytes] = asyncio.Queue()
        self._held = 0
        self._room = asyncio.Event()
        self._sizes: asyncio.Queue[list[tuple[int, int]]] = asyncio.Queue(16)
        self._parser = channels.Sizes()
        self._reading = asyncio.create_task(self._read())

    async def greet(self) -> None:
        """Say that the connection stands: an empty message on the first channel that is written to."""
        first = STDOUT if self._options.stdout else STDERR if self._options.stderr else ERROR
        with contextlib.suppress(ConnectionError):
            await self.output(first, b"")

    async def _read(self) -> None:
        try:
            await upgrade.messages(self._ws, self._take, lambda: self._held > INPUT_MAX, self._room.wait)
        except (ConnectionError, RuntimeError):
            # RuntimeError: of aiohttp, when the connection ended between two calls.
            return
        finally:
            self.leave()

    def _take(self, data: bytes) -> None:
        message = self._codec.decode(data)
        if message is None:
            return
        if message.channel == STDIN and self._options.stdin:
            if message.data or message.closes:
                self._held += len(message.data)
                self._room.clear()
                self._input.put_nowait(message.data)
        elif message.channel == RESIZE and message.data:
            sizes = self._parser.feed(message.data)
            if sizes:
                # Only the last one counts; a terminal that is dragged sends hundreds.
                if self._sizes.full():
                    self._sizes.get_nowait()
                self._sizes.put_nowait(sizes)

    async def input(self) -> bytes:
        data = await self._input.get()
        self._held -= len(data)
        if self._held <= INPUT_MAX:
            self._room.set()
        return data

    async def sizes(self) -> list[tuple[int, int]] | None:
        return await self._sizes.get()

    async def output(self, channel: int, data: bytes) -> None:
        message = self._codec.encode(channel, data)
        try:
            if self._codec.text:
                await self._ws.send_str(message.decode())
            else:
                await self._ws.send_bytes(message)
        except RuntimeError as error:
            raise ConnectionResetError(str(error)) from error

    async def finish(self, status: dict[str, Any]) -> None:
        told = channels.told(status, as_status=self._codec.status)
        if told and (self._codec.status or status["status"] != "Success"):
            with contextlib.suppress(ConnectionError):
                await self.output(ERROR, told)
        # Only one may read while the client's close is waited for.
        self._reading.cancel()
        await asyncio.wait({self._reading})
        await self._ws.close()

    def leave(self) -> None:
        super().leave()
        self._room.set()


class SpdyClient(Client):
    """One whose channels are streams of a SPDY connection.

    Args:
        wanted: the streams that it has to open.
    """

    def __init__(self, wanted: set[int]) -> None:
        super().__init__()
        self._wanted = wanted
        self._streams: dict[int, Stream] = {}
        self._parser = channels.Sizes()
        self._complete: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.socket: upgrade.Socket | None = None
        self.protocol = ""

    def opened(self, stream: Stream) -> str | None:
        """Take a stream of the client."""
        kind = stream.headers.get("streamtype", "").split("\0")[0]
        channel = next((number for number, name in NAMES.items() if name == kind), None)
        if channel is None or channel in self._streams:
            return f"unexpected stream type: {kind!r}"
        self._streams[channel] = stream
        if self._wanted <= self._streams.keys() and not self._complete.done():
            self._complete.set_result(None)
        return None

    async def complete(self) -> bool:
        """Wait for the streams; whether all were opened."""
        session = self._session
        await asyncio.wait({self._complete, session.closed}, timeout=STREAMS_S, return_when=asyncio.FIRST_COMPLETED)
        session.closed.add_done_callback(lambda _: self.leave())
        return self._complete.done()

    @property
    def _session(self) -> Session:
        assert self.socket is not None and self.socket.session is not None
        return self.socket.session

    async def input(self) -> bytes:
        stream = self._streams.get(STDIN)
        return await stream.read() if stream is not None else b""

    async def sizes(self) -> list[tuple[int, int]] | None:
        stream = self._streams.get(RESIZE)
        data = await stream.read() if stream is not None else b""
        return self._parser.feed(data) if data else None

    async def output(self, channel: int, data: bytes) -> None:
        stream = self._streams.get(channel)
        if stream is not None:
            await stream.write(data)

    async def finish(self, status: dict[str, Any]) -> None:
        as_status = self.protocol == "v4.channel.k8s.io"
        told = channels.told(status, as_status=as_status)
        with contextlib.suppress(ConnectionError):
            if told and (as_status or status["status"] != "Success"):
                await self.output(ERROR, told)
        for stream in self._streams.values():
            stream.finish()
        self._session.go_away()

    async def close(self) -> None:
        """Hang up."""
        if self.socket is not None:
            await self.socket.close()


async def serve(request: web.Request, pod: dict[str, Any], subresource: str, calls: Calls) -> web.StreamResponse:
    """exec or attach."""
    query = request.query
    try:
        container = containers.chosen(pod, query.get("container", ""))
    except containers.Refused as refusal:
        return refusals.status(400, str(refusal))
    tty = flag(query, "tty")
    options = Options(
        container=container,
        command=tuple(query.getall("command", [])),
        stdin=flag(query, "stdin"),
        stdout=flag(query, "stdout"),
        stderr=flag(query, "stderr") and not tty,
        tty=tty if subresource == "exec" else bool(containers.spec_of(pod, container).get("tty")),
    )
    by_websocket = upgrade.wants_websocket(request)
    if not by_websocket and not upgrade.wants_spdy(request):
        return refusals.status(400, "Upgrade request required")
    if not (options.stdin or options.stdout or options.stderr):
        return refusals.plain(400, "you must specify at least 1 of stdin, stdout, stderr")
    if not containers.runs(pod, container):
        return refusals.plain(500, f'container not found ("{container}")')
    if subresource == "exec" and not options.command:
        return refusals.status(400, "you must specify at least one command for the container")
    if by_websocket:
        return await _by_websocket(request, pod, subresource, options, calls)
    return await _by_spdy(request, pod, subresource, options, calls)


async def _by_websocket(
    request: web.Request, pod: dict[str, Any], subresource: str, options: Options, calls: Calls
) -> web.StreamResponse:
    answer = await upgrade.websocket(request, channels.WEBSOCKET_PROTOCOLS)
    if isinstance(answer, web.Response):
        return answer
    ws, protocol = answer
    client = WebSocketClient(ws, protocol, options)
    await client.greet()
    await _converse(
        client, _begin(pod, subresource, options, calls), options, None if protocol == channels.V5 else options.command
    )
    return ws


async def _by_spdy(
    request: web.Request, pod: dict[str, Any], subresource: str, options: Options, calls: Calls
) -> web.StreamResponse:
    asked = upgrade.offered(request, upgrade.STREAM_HEADER)
    protocol = next((one for one in asked if one in channels.SPDY_PROTOCOLS), "")
    wanted = {ERROR} | {
        channel
        for channel, is_wanted in (
            (STDIN, options.stdin),
            (STDOUT, options.stdout),
            (STDERR, options.stderr),
            (RESIZE, flag(request.query, "tty") and protocol[:3] in ("v4.", "v3.")),
        )
        if is_wanted
    }
    client = SpdyClient(wanted)
    answer = await upgrade.spdy_connection(request, channels.SPDY_PROTOCOLS, needed=False, opened=client.opened)
    if isinstance(answer, web.Response):
        return answer
    client.socket, client.protocol = answer
    try:
        if await client.complete():
            await _converse(client, _begin(pod, subresource, options, calls), options, options.command)
    finally:
        await client.close()
    return upgrade.Taken()


def _begin(pod: dict[str, Any], subresource: str, options: Options, calls: Calls) -> Awaitable[Running]:
    return running.execute(calls, pod, options) if subresource == "exec" else running.attach(calls, pod, options)


async def _converse(
    client: Client, beginning: Awaitable[Running], options: Options, command: tuple[str, ...] | None
) -> None:
    """Carry the streams until the process has ended, or the client is gone.

    Args:
        command: to be named when it fails, or None.
    """
    try:
        process = await beginning
    except (BeginningError, OSError) as error:
        # OSError: no descriptors are left for its pipes.
        await client.finish(channels.failed(f"error executing command in container: {error}"))
        return
    outputs = [asyncio.create_task(_carry_output(client, process, channel)) for channel in process.outputs]
    others = [asyncio.create_task(_carry_sizes(client, process))]
    if process.stdin is not None and options.stdin:
        others.append(asyncio.create_task(_carry_input(client, process)))
    ending = asyncio.create_task(_ended(process, outputs))
    try:
        await _either(ending, client.gone)
        if not ending.done():
            return
        for reader in process.outputs.values():
            reader.finish()
        await _either(asyncio.gather(*outputs), client.gone)
        # The process' side first: whoever reads the end may look for what it left behind.
        process.close()
        await client.finish(_status(ending, command))
    finally:
        process.close()
        for task in (*outputs, *others, ending):
            task.cancel()
        await asyncio.gather(*outputs, *others, ending, return_exceptions=True)


async def _either(one: asyncio.Future[Any], other: asyncio.Future[Any]) -> None:
    await asyncio.wait((one, other), return_when=asyncio.FIRST_COMPLETED)


async def _ended(process: Running, outputs: list[asyncio.Task[None]]) -> int | None:
    if isinstance(process, running.Executed):
        return await process.ended()
    await asyncio.wait(outputs)
    return None


def _status(ending: asyncio.Task[int | None], command: tuple[str, ...] | None) -> dict[str, Any]:
    error = ending.exception()
    if error is not None:
        return channels.failed(f"error executing command in container: {error}")
    code = ending.result()
    return channels.exited(code, command) if code else channels.success()


async def _carry_output(client: Client, process: Running, channel: int) -> None:
    reader = process.outputs[channel]
    try:
        while data := await reader.read():
            await client.output(channel, data)
    except ConnectionError:
        client.leave()


async def _carry_input(client: Client, process: Running) -> None:
    assert process.stdin is not None
    while data := await client.input():
        if not await process.stdin.write(data):
            # Nobody reads it any more; what the client still sends is taken and dropped, as it must not stand still.
            while await client.input():
                continue
            return
    # On a terminal an end of the input is nothing that could be told.
    if process.terminal < 0:
        process.stdin.close()


async def _carry_sizes(client: Client, process: Running) -> None:
    while (sizes := await client.sizes()) is not None:
        if sizes:
            process.resize(*sizes[-1])
