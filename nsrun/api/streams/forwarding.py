"""pods/NAME/portforward: connections into the pod's network namespace, over sockets that the server makes there (pod.sockets)."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

from aiohttp import web

from nsrun.api.streams import channel_forwarding, channels, dialing, refusals, spdy, upgrade
from nsrun.api.streams.calls import Calls
from nsrun.api.streams.session import Session, Stream

PROTOCOL = "portforward.k8s.io"
PAIR_S = 30.0
"""How long a client may take from the first to the second stream of a connection (kubelet's streamCreationTimeout)."""


async def serve(request: web.Request, pod: dict[str, Any], calls: Calls) -> web.StreamResponse:
    """Forward connections until the client has had enough."""
    if upgrade.wants_websocket(request):
        if channels.TUNNEL in upgrade.offered(request, "Sec-WebSocket-Protocol"):
            return await _by_tunnel(request, pod, calls)
        return await channel_forwarding.serve(request, pod, calls)
    if not upgrade.wants_spdy(request):
        return refusals.status(400, "Upgrade request required")
    if not dialing.runs(pod):
        return dialing.not_running(pod)
    forwarder = Forwarder(pod, calls)
    answer = await upgrade.spdy_connection(request, (PROTOCOL,), needed=True, opened=forwarder.opened)
    if isinstance(answer, web.Response):
        return answer
    connection = answer[0]
    assert connection.session is not None
    try:
        await asyncio.shield(connection.session.closed)
    finally:
        await forwarder.close()
        await connection.close()
    return upgrade.Taken()


async def _by_tunnel(request: web.Request, pod: dict[str, Any], calls: Calls) -> web.StreamResponse:
    """SPDY in the messages of a WebSocket."""
    if not dialing.runs(pod):
        return dialing.not_running(pod)
    answer = await upgrade.websocket(request, (channels.TUNNEL,))
    if isinstance(answer, web.Response):
        return answer
    ws, _ = answer
    forwarder = Forwarder(pod, calls)
    session = Session(upgrade.Frames(ws), forwarder.opened)
    reading = asyncio.create_task(upgrade.messages(ws, session.feed, lambda: session.full, session.room))
    try:
        await asyncio.wait((reading, session.closed), return_when=asyncio.FIRST_COMPLETED)
        session.lost()
    finally:
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
        await forwarder.close()
    await ws.close()
    return ws


class Forwarder:
    """The connections of one client over SPDY: a pair of streams each."""

    def __init__(self, pod: dict[str, Any], calls: Calls) -> None:
        self._pod, self._calls = pod, calls
        self._pairs: dict[str, dict[str, Stream]] = {}
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def opened(self, stream: Stream) -> str | None:
        """Take a stream; why it is refused, or None."""
        headers = {name: value.split("\0")[0] for name, value in stream.headers.items()}
        port, kind = headers.get("port", ""), headers.get("streamtype", "")
        if not port.isascii() or not port.isdigit() or len(port) > 5 or not 0 < int(port) < 65536:
            return f"unable to parse {port!r} as a port"
        if kind not in ("error", "data"):
            return f"invalid stream type {kind!r}"
        # Clients of old name no request: they open the error stream and then that of the data.
        request = headers.get("requestid") or f"stream {stream.id - (2 if kind == 'data' else 0)}"
        pair = self._pairs.setdefault(request, {})
        if kind in pair:
            return f"error processing stream for request {request}: {kind} stream already assigned"
        pair[kind] = stream
        if len(pair) == 1:
            loop = asyncio.get_running_loop()
            self._timers[request] = loop.call_later(PAIR_S, self._expired, request)
            return None
        del self._pairs[request]
        self._timers.pop(request).cancel()
        task = asyncio.create_task(self._forward(pair["data"], pair["error"], int(port)))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return None

    def _expired(self, request: str) -> None:
        self._timers.pop(request, None)
        for stream in self._pairs.pop(request, {}).values():
            stream.abort(spdy.CANCEL)

    async def close(self) -> None:
        """End all connections."""
        for timer in self._timers.values():
            timer.cancel()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _forward(self, data: Stream, error: Stream, port: int) -> None:
        try:
            sock = await dialing.connect(self._calls, self._pod, port)
        except dialing.RefusedError as refusal:
            with contextlib.suppress(ConnectionError):
                data.finish()
                await error.write(dialing.told(self._pod, port, refusal))
                error.finish()
            return
        try:
            # kubectl ends its own side only when it has read that there was no error.
            await dialing.copy(data, sock, said_all=error.finish)
        except OSError as problem:
            with contextlib.suppress(ConnectionError):
                await error.write(dialing.told(self._pod, port, problem))
        finally:
            sock.close()
            data.finish()
            error.finish()
