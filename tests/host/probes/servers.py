"""Servers that behave as they are told, in the test's own loop."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl
import struct
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

from nsrun.probes import Outcome, Wires, http
from nsrun.spec.model import Container, HTTPGetAction, HTTPHeader

Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
HOST = "127.0.0.1"
CONTAINER = Container(name="a")


@asynccontextmanager
async def serving(talk: Talk, *, tls: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    """A port at which each connection is handed to `talk`, and closed after it."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            await talk(reader, writer)
        if writer.transport.get_write_buffer_size():
            writer.transport.abort()
        writer.close()

    server = await asyncio.start_server(handle, HOST, 0, ssl=tls)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()
        await asyncio.sleep(0.05)


def saying(*parts: bytes, pause_s: float = 0.0, stay: bool = False, for_ever: bytes = b"") -> Talk:
    """Reads a request, says the parts, then the last one for ever; stays or closes."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        for part in parts:
            writer.write(part)
            await writer.drain()
            await asyncio.sleep(pause_s)
        while for_ever:
            writer.write(for_ever)
            await writer.drain()
            await asyncio.sleep(pause_s)
        if stay:
            await asyncio.sleep(60)

    return talk


async def resetting(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Reads a request and resets the connection."""
    await reader.readuntil(b"\r\n\r\n")
    sock = writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


async def get(
    wires: Wires, port: int, path: str = "/", *headers: tuple[str, str], scheme: str = "HTTP", host: str = HOST,
    timeout_s: float = 1.0,
) -> Outcome:  # fmt: skip
    """One run of an httpGet probe."""
    action = HTTPGetAction(path=path, port=port, scheme=scheme, httpHeaders=[HTTPHeader(*one) for one in headers])
    return await http.probe(wires, http.request_for(action, CONTAINER, host), timeout_s)


@contextlib.contextmanager
def no_descriptor_left() -> Iterator[None]:
    """What is open afterwards was open before."""
    before = set(os.listdir("/proc/self/fd"))
    yield
    after = {fd for fd in os.listdir("/proc/self/fd") if fd not in before}
    left = [os.readlink(f"/proc/self/fd/{fd}") for fd in after if Path(f"/proc/self/fd/{fd}").is_symlink()]
    assert left == []


def certificate(directory: Path, *, bits: int = 2048) -> ssl.SSLContext:
    """A server's context with a certificate that nobody signed."""
    key, cert = directory / "key.pem", directory / "cert.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", f"rsa:{bits}", "-nodes", "-keyout", str(key), "-out", str(cert), "-days", "1",
         "-subj", "/CN=nobody.example"],
        check=True,
        capture_output=True,
    )  # fmt: skip
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_ciphers("DEFAULT:@SECLEVEL=0")
    context.load_cert_chain(cert, key)
    return context
