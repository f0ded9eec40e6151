"""pods/NAME/log: read and followed from open files that the server hands over, so that its death takes nothing along.

As with a kubelet the log is that of one instance of the container: following ends with it.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
from collections.abc import AsyncIterator, Iterable
from typing import Any, Protocol

from aiohttp import web

from nsrun.api.streams import channels, containers, log_options, refusals, upgrade
from nsrun.api.streams.calls import Calls, Connection
from nsrun.api.streams.log_options import LogOptions
from nsrun.client.crilog import LogLine
from nsrun.client.logfiles import ContainerLog, Query
from nsrun.client.logs import Watcher
from nsrun.client.wire import ConnectionLost, Message, close_all
from nsrun.errors import NotFoundError, NsrunError

LOSSES_MAX = 20
"""How many servers one reader may outlive."""


async def serve(request: web.Request, pod: dict[str, Any], calls: Calls) -> web.StreamResponse:
    """The log, as text or over a WebSocket."""
    name = pod["metadata"]["name"]
    options = log_options.read(request.query, name)
    if isinstance(options, web.Response):
        return options
    try:
        container = containers.chosen(pod, request.query.get("container", ""))
    except containers.Refused as refusal:
        return refusals.status(400, str(refusal))
    if not (pod.get("spec") or {}).get("nodeName"):
        return web.Response(status=204)
    why = containers.why_no_log(pod, container, previous=options.previous)
    if why is not None:
        return refusals.status(400, why)
    query = Query(name, pod["metadata"]["namespace"], container, options.previous, options.tail, options.since)
    log = Log(calls, query, follow=options.follow and not options.previous)
    try:
        await log.open()
    except NotFoundError as error:
        log.close()
        return refusals.status(400, error.brief)
    except NsrunError as error:
        log.close()
        return refusals.internal(error.brief)
    try:
        if upgrade.wants_websocket(request):
            return await _by_websocket(request, log, options)
        return await _as_text(request, log, options)
    finally:
        log.close()


class Taker(Protocol):
    """Where lines go."""

    async def __call__(self, data: bytes) -> None:
        """Send."""


async def _as_text(request: web.Request, log: Log, options: LogOptions) -> web.StreamResponse:
    answer = web.StreamResponse(headers={"Cache-Control": "no-cache, private"})
    answer.content_type = "text/plain"
    answer.enable_chunked_encoding()
    await answer.prepare(request)
    await _give(log, options, answer.write)
    with contextlib.suppress(ConnectionError):
        await answer.write_eof()
    return answer


async def _by_websocket(request: web.Request, log: Log, options: LogOptions) -> web.StreamResponse:
    opened = await upgrade.websocket(request, channels.LOG_PROTOCOLS)
    if isinstance(opened, web.Response):
        return opened
    ws, protocol = opened

    async def send(data: bytes) -> None:
        if protocol.startswith("base64"):
            await ws.send_str(base64.b64encode(data).decode())
        else:
            await ws.send_bytes(data)

    async def until_gone() -> None:
        with contextlib.suppress(ConnectionError, RuntimeError):
            await upgrade.messages(ws, lambda _: None, lambda: False, asyncio.Event().wait)

    listening = asyncio.create_task(until_gone())
    giving = asyncio.create_task(_give(log, options, send, first=b""))
    try:
        await asyncio.wait({listening, giving}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in (giving, listening):
            task.cancel()
        await asyncio.gather(giving, listening, return_exceptions=True)
    await ws.close()
    return ws


async def _give(log: Log, options: LogOptions, send: Taker, *, first: bytes | None = None) -> None:
    """Send what is wanted of the log; ends also when the client is gone."""
    left = options.limit
    with contextlib.suppress(ConnectionError, RuntimeError):
        if first is not None:
            await send(first)
        async for lines in log.lines():
            data = rendered(lines, options)
            if left is not None:
                data = data[:left]
                left -= len(data)
            if data:
                await send(data)
            if left == 0:
                return


def rendered(lines: Iterable[LogLine], options: LogOptions) -> bytes:
    """The lines as the kubelet gives them: what a container did not end with a newline has none."""
    pieces: list[bytes] = []
    for line in lines:
        if options.stream and line.stream != options.stream:
            continue
        if options.timestamps:
            pieces.append(f"{line.timestamp} ".encode())
        pieces.append(line.text)
        if line.complete:
            pieces.append(b"\n")
    return b"".join(pieces)


class Log:
    """One instance's log, over rotations and server deaths.

    Args:
        calls: to the server.
        query: which log.
        follow: until nothing more will be written to it.
    """

    def __init__(self, calls: Calls, query: Query, *, follow: bool) -> None:
        self._calls = calls
        self._query = query
        self._follow = follow
        self._log = ContainerLog(query)
        self._watcher: Watcher | None = None
        self._hearing: asyncio.Task[None] | None = None
        self._news = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._connection: Connection | None = None
        self._number = 0

    async def open(self) -> None:
        """Get the files that there are.

        Raises:
            NsrunError: there is no such log.
        """
        if not self._follow:
            answer, fds = await self._calls.request("pod.logs", self._query.params(follow=False))
            self._log.listed(answer, fds)
            self._log.ended()
        else:
            await self._ask()
        await asyncio.to_thread(self._log.place)

    def close(self) -> None:
        """Close files, watches and the connection."""
        if self._hearing is not None:
            self._hearing.cancel()
        if self._connection is not None:
            self._connection.close()
        if self._watcher is not None:
            if self._watcher.fd >= 0:
                self._loop.remove_reader(self._watcher.fd)
            self._watcher.close()
        self._log.close()

    async def lines(self) -> AsyncIterator[list[LogLine]]:
        """Batches of lines; ends when nothing will come any more."""
        if self._follow:
            self._hearing = asyncio.create_task(self._hear())
            self._watcher = Watcher()
            if self._watcher.fd >= 0:
                self._loop.add_reader(self._watcher.fd, self._grown)
        while True:
            while lines := self._log.read():
                yield lines
                # A long log is many turns of the loop.
                await asyncio.sleep(0)
            if self._log.done and not self._log.files:
                return
            await self._wait()

    async def _wait(self) -> None:
        """Sleep until a file grew or the server said something."""
        assert self._watcher is not None
        self._news.clear()
        fd = self._watcher.fd
        added = [self._watcher.add(file) for file in self._log.files]
        if fd >= 0 and self._watcher.fd < 0:
            self._loop.remove_reader(fd)
        # What is written between the last read and the watch nobody tells of: read once more after a new watch.
        if any(added):
            return
        patience = self._watcher.patience_ms
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._news.wait(), None if patience is None else patience / 1000)

    def _grown(self) -> None:
        assert self._watcher is not None
        self._watcher.clear()
        self._news.set()

    async def _ask(self) -> None:
        """Ask for the files and for news of them."""
        for attempt in range(LOSSES_MAX):
            if attempt:
                await asyncio.sleep(min(0.005 * 2**attempt, 0.5))
            connection = await self._calls.connection()
            try:
                params = {**self._query.params(follow=True), "first": self._log.first}
                self._number = await connection.send("pod.logs", params)
                message, fds = await connection.receive()
            except ConnectionLost:
                connection.close()
                continue
            except BaseException:
                connection.close()
                raise
            if "error" in message:
                close_all(fds)
                self._calls.release(connection)
                raise NsrunError.from_data(message["error"])
            self._connection = connection
            self._take(message.get("result") or message.get("event") or {}, fds)
            return
        raise ConnectionLost(f"{LOSSES_MAX} servers died over it")

    def _take(self, event: Message, fds: list[int]) -> None:
        """Take a list of files; of those of other instances nothing is wanted."""
        if "files" in event:
            told = event["files"]
            first = event.get("first", self._log.first)
            mine = [index for index, about in enumerate(told) if about.get("attempt") == first]
            close_all([fd for index, fd in enumerate(fds) if index not in mine])
            own = [told[index] for index in mine]
            self._log.listed({**event, "files": own}, [fds[index] for index in mine if index < len(fds)])
            # A later instance is begun only after the last line of this one.
            if any(about.get("attempt", 0) > (first or 0) for about in told) or (own and _whole(own)):
                self._log.ended()
        else:
            close_all(fds)
        if event.get("ended"):
            self._log.ended()
        self._news.set()

    async def _hear(self) -> None:
        """Listen to the server; to the next one when it dies."""
        while not self._log.done:
            assert self._connection is not None
            try:
                message, fds = await self._connection.receive()
            except ConnectionLost:
                self._connection.close()
                if not await self._ask_again():
                    return
                continue
            if message.get("id") != self._number:
                close_all(fds)
            elif "event" in message:
                self._take(message["event"], fds)
            else:
                close_all(fds)
                self._log.ended()
                self._news.set()

    async def _ask_again(self) -> bool:
        """After a server's death. A pod that is gone by now has said all it had to say."""
        try:
            await self._ask()
        except (NsrunError, ConnectionLost):
            self._log.ended()
            self._news.set()
            return False
        return True


def _whole(files: list[Message]) -> bool:
    """Whether the last of these, and so all of them, will get nothing more: its instance has ended."""
    return bool(files[-1].get("ended")) and not files[-1].get("compressed")
