"""Connections to ports of pods, and the bytes between one and a client's stream."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
from collections.abc import Callable
from typing import Any, Protocol

from aiohttp import web

from nsrun.api.streams import refusals
from nsrun.api.streams.calls import Calls
from nsrun.client.wire import close_all
from nsrun.errors import NsrunError, StepError, brief_of, errno_text

BLOCK = 1 << 18
"""Bytes of one frame."""
LOOPBACK = {4: "127.0.0.1", 6: "::1"}


class Carried(Protocol):
    """A client's stream.

    Attributes:
        reset: it was reset by the client, or its connection is gone.
    """

    reset: bool

    async def read(self) -> bytes:
        """The next bytes; empty at the end."""

    async def write(self, data: bytes) -> None:
        """Send bytes.

        Raises:
            ConnectionError: the client is gone.
        """

    def finish(self) -> None:
        """Say that nothing more comes."""


def runs(pod: dict[str, Any]) -> bool:
    """Whether there is something to connect to."""
    return (pod.get("status") or {}).get("phase") == "Running"


def not_running(pod: dict[str, Any]) -> web.Response:
    """The answer where there is nothing."""
    phase = (pod.get("status") or {}).get("phase") or "Unknown"
    return refusals.plain(500, f"pod {pod['metadata']['name']} is not running: its phase is {phase}")


class RefusedError(Exception):
    """Nothing could be connected to; why, in words for the client."""


async def connect(calls: Calls, pod: dict[str, Any], port: int) -> socket.socket:
    """A connected, non-blocking socket to a port of the pod's loopback.

    Raises:
        RefusedError: nothing listens there, or there is no sandbox.
    """
    meta, why = pod["metadata"], []
    for family, address in LOOPBACK.items():
        params = {"name": meta["name"], "namespace": meta["namespace"], "protocol": "tcp", "family": family, "count": 1}
        try:
            _answer, fds = await calls.request("pod.sockets", params)
        except StepError as error:
            # A machine without IPv6.
            why.append(f"IPv{family} {error.brief}")
            continue
        except (NsrunError, OSError) as error:
            raise RefusedError(brief_of(error)) from error
        if not fds:
            # The kernel drops descriptors for which this process has no room.
            raise RefusedError(errno_text(errno.EMFILE))
        close_all(fds[1:])
        made = socket.socket(fileno=fds[0])
        made.setblocking(False)
        try:
            await asyncio.get_running_loop().sock_connect(made, (address, port))
        except OSError as error:
            made.close()
            where = f"[{address}]" if family == 6 else address
            why.append(
                f"IPv{family}: dial tcp{family} {where}:{port}: connect: {os.strerror(error.errno or 0).lower()}"
            )
        except BaseException:
            made.close()
            raise
        else:
            return made
    namespace = meta.get("uid", "")
    raise RefusedError(f'failed to connect to localhost:{port} inside namespace "{namespace}", {" ".join(why)} ')


def told(pod: dict[str, Any], port: int, error: Exception) -> bytes:
    """What the error stream says."""
    return f"error forwarding port {port} to pod {pod['metadata']['name']}, uid {pod['metadata'].get('uid', '')}: {error}".encode()


async def copy(
    data: Carried, sock: socket.socket, *, half_close: bool = True, said_all: Callable[[], None] = lambda: None
) -> None:
    """Carry bytes both ways until both have ended, or the client has reset the stream.

    Args:
        data: the client's side.
        sock: the pod's.
        half_close: the client can end its side alone; otherwise all ends with the pod's.
        said_all: called when the pod has said its last.

    Raises:
        OSError: the pod's side was reset.
    """
    up, down = asyncio.create_task(_up(data, sock)), asyncio.create_task(_down(data, sock, said_all))
    try:
        await asyncio.wait((up, down) if half_close else (down,), return_when=asyncio.FIRST_EXCEPTION)
        for task in (up, down):
            if task.done():
                task.result()
    finally:
        for task in (up, down):
            task.cancel()
        await asyncio.gather(up, down, return_exceptions=True)


async def _up(data: Carried, sock: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    while piece := await data.read():
        await loop.sock_sendall(sock, piece)
    if data.reset:
        return
    with contextlib.suppress(OSError):
        sock.shutdown(socket.SHUT_WR)


async def _down(data: Carried, sock: socket.socket, said_all: Callable[[], None]) -> None:
    loop = asyncio.get_running_loop()
    while piece := await loop.sock_recv(sock, BLOCK):
        if data.reset:
            return
        await data.write(piece)
    data.finish()
    said_all()
