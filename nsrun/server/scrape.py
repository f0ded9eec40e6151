"""The metrics over HTTP, for Prometheus and its like. Off unless it was asked for.

Whoever asks costs little: one look at the pods at a time, which all who ask meanwhile share; requests and connections are bounded in size,
number and time. One request per connection.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import resource
import socket
import stat
import time
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from nsrun._version import __version__
from nsrun.errors import errno_text
from nsrun.reconcile.model import InstanceState
from nsrun.server import metrics
from nsrun.server.metrics_settings import Address

if TYPE_CHECKING:
    from nsrun.doctor import Check
    from nsrun.server.pods import Registry
    from nsrun.server.stats import Stats
    from nsrun.server.world import World

HEAD_MAX = 8192
"""Bytes of a request; there is no reason for more."""
REQUEST_S = 5.0
"""How long a request may take to come."""
ANSWER_S = 10.0
"""How long whoever asked may take to read the answer."""
CONNECTIONS = 16
"""At a time; more are hung up on."""
FRESH_S = 0.5
"""A look that is not older is told again: asking more often costs no more."""
AGAIN_S = 5.0
"""How often is tried to listen where that was not possible."""

_LOG = logging.getLogger("nsrun.metrics")
_STATES = {InstanceState.STARTING: "created", InstanceState.RUNNING: "running"}


class Endpoint:
    """Listens, answers, and goes on trying where it cannot listen: pods are looked after all the same.

    Args:
        world: what all pods share.
        pods: all of them.
        stats: looks at them.
        addresses: where to listen; none is nowhere.
    """

    def __init__(self, world: World, pods: Registry, stats: Stats, addresses: Sequence[Address]) -> None:
        self._world = world
        self._pods = pods
        self._stats = stats
        self._addresses = addresses
        self._servers: list[asyncio.Server] = []
        self._troubles: dict[Address, str] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._connections = 0
        self._look: asyncio.Task[tuple[bytes, bytes]] | None = None
        self._looked_at = float("-inf")

    def begin(self) -> None:
        """Start listening."""
        for address in self._addresses:
            self._keep(asyncio.get_running_loop().create_task(self._listen(address)))

    async def close(self) -> None:
        """Stop listening and hang up."""
        for server in self._servers:
            server.close()
        for task in list(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        if self._look is not None:
            await asyncio.wait([self._look])
        for address in self._addresses:
            if address.path and address not in self._troubles:
                with contextlib.suppress(OSError):
                    os.unlink(address.path)

    def status(self) -> list[dict[str, str]]:
        """What `nsrun server status` shows: each place, and why it cannot be listened at."""
        return [{"address": str(one), "error": self._troubles.get(one, "")} for one in self._addresses]

    def checks(self) -> list[Check]:
        """What `nsrun doctor` says of it: nothing where nobody asked for metrics."""
        from nsrun.doctor import Check

        if not self._addresses:
            return []
        if self._troubles:
            text = "; ".join(f"{address}: {why}" for address, why in self._troubles.items())
            hint = "Choose another address in [metrics] of config.toml, or free that one."
            return [Check("metrics", False, text, hint)]
        return [Check("metrics", True, f"at {', '.join(map(str, self._addresses))}")]

    def _keep(self, task: asyncio.Task[None]) -> None:
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # listening

    async def _listen(self, address: Address) -> None:
        while True:
            try:
                listener = _bound(address)
            except OSError as error:
                text = errno_text(error.errno or 0)
                if self._troubles.get(address) != text:
                    _LOG.error("metrics cannot be had at %s: %s; tried again every %g s", address, text, AGAIN_S)
                self._troubles[address] = text
                await asyncio.sleep(AGAIN_S)
                continue
            self._troubles.pop(address, None)
            break
        if address.exposed:
            _LOG.warning(
                "metrics can be had at %s by whoever reaches that; names of pods and images are in them", address
            )
        else:
            _LOG.info("metrics can be had at %s", address)
        self._servers.append(
            await asyncio.start_server(self._accept, sock=listener, limit=HEAD_MAX, backlog=CONNECTIONS)
        )

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._keep(task)
        if self._connections >= CONNECTIONS:
            writer.transport.abort()
            return
        self._connections += 1
        try:
            await self._serve(reader, writer)
        except (OSError, TimeoutError):
            pass
        finally:
            self._connections -= 1
            # What could not be sent by now is not going to be.
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), REQUEST_S)
        except asyncio.LimitOverrunError:
            status, body, method = "431 Request Header Fields Too Large", b"", "GET"
        except asyncio.IncompleteReadError:
            return
        else:
            method, status, body = await self._answer(head)
        kind = metrics.CONTENT_TYPE if status.startswith("200") else "text/plain; charset=utf-8"
        if not body:
            body = f"{status}\n".encode("ascii")
        lines = [f"HTTP/1.1 {status}", f"Content-Type: {kind}", f"Content-Length: {len(body)}", "Connection: close"]
        if status.startswith("405"):
            lines.append("Allow: GET, HEAD")
        writer.write("".join(f"{line}\r\n" for line in (*lines, "")).encode("ascii"))
        if method != "HEAD":
            writer.write(body)
        await asyncio.wait_for(self._sent(writer), ANSWER_S)

    async def _sent(self, writer: asyncio.StreamWriter) -> None:
        """Wait until all was taken: an abort throws away what was not."""
        writer.transport.set_write_buffer_limits(high=0)
        await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()

    async def _answer(self, head: bytes) -> tuple[str, str, bytes]:
        """Method, status and body for a request's head."""
        words = head.split(b"\r\n", 1)[0].decode("latin-1").split(" ")
        if len(words) != 3 or not words[2].startswith("HTTP/1."):
            return "GET", "400 Bad Request", b""
        method, target, _ = words
        if method not in ("GET", "HEAD"):
            return method, "405 Method Not Allowed", b""
        path = target.partition("?")[0]
        if path not in ("/metrics", "/metrics/cadvisor"):
            return method, "404 Not Found", b"Metrics are at /metrics; those of pods alone at /metrics/cadvisor.\n"
        own, of_pods = await self._pages()
        return method, "200 OK", of_pods if path.endswith("cadvisor") else own + of_pods

    # looking

    async def _pages(self) -> tuple[bytes, bytes]:
        """The server's page and that of the pods; a look that is under way, or fresh, is everybody's."""
        look = self._look
        if look is None or (look.done() and time.monotonic() - self._looked_at > FRESH_S):
            look = self._look = asyncio.get_running_loop().create_task(self._looks())
        # Whoever hangs up must not end it for the others.
        return await asyncio.shield(look)

    async def _looks(self) -> tuple[bytes, bytes]:
        try:
            return await self._take()
        finally:
            self._looked_at = time.monotonic()

    async def _take(self) -> tuple[bytes, bytes]:
        world = self._world
        samples = await self._stats.take(self._pods, containers=True)
        states = Counter(_STATES.get(one.state, "exited") for pod in self._pods for one in pod.mirror.instances())
        facts = metrics.ServerFacts(
            version=__version__,
            node=world.node.name,
            cpus=world.node.cpus,
            memory=world.node.memory,
            running_pods=len(samples),
            containers={"created": 0, "running": 0, "exited": 0, **states},
            process=_process(world.began_at),
        )
        return metrics.server(facts), await asyncio.to_thread(metrics.containers, samples, world.cgroups.name)


def _bound(address: Address) -> socket.socket:
    if address.path:
        return _bound_path(address.path)
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind((address.host, address.port))
    except BaseException:
        listener.close()
        raise
    return listener


def _bound_path(path: str) -> socket.socket:
    """A socket at a path. One that an earlier server left is replaced; whatever else is there is not."""
    with contextlib.suppress(FileNotFoundError):
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            raise OSError(errno.EEXIST, os.strerror(errno.EEXIST), path)
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as probe:
            try:
                probe.connect(path)
            except ConnectionRefusedError:
                os.unlink(path)
            else:
                raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE), path)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
    try:
        listener.bind(path)
        # Its directory says who may come near; a scraper is seldom root.
        os.chmod(path, 0o666)  # noqa: S103 - there is nothing but metrics behind it
    except BaseException:
        listener.close()
        raise
    return listener


def _process(began_at: float) -> dict[str, float]:
    used = resource.getrusage(resource.RUSAGE_SELF)
    found = {"cpu_seconds_total": used.ru_utime + used.ru_stime, "start_time_seconds": began_at}
    with contextlib.suppress(OSError, ValueError, IndexError), open("/proc/self/statm", "rb") as file:
        virtual, resident = file.read().split()[:2]
        page = os.sysconf("SC_PAGE_SIZE")
        found |= {"virtual_memory_bytes": int(virtual) * page, "resident_memory_bytes": int(resident) * page}
    with contextlib.suppress(OSError):
        found["open_fds"] = len(os.listdir("/proc/self/fd"))
    found["max_fds"] = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return found
