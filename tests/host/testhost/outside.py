"""The world outside of the test host: one program in a network namespace of its own.

TCP: the first line of a connection decides. `GET … HTTP/1.x` is answered with the client's address as an HTTP body; any other line with
`ADDRESS PORT LINE`. UDP: a datagram is answered with `ADDRESS PORT DATAGRAM`. The addresses are the ones seen here, so
whoever asks learns what masquerading made of it.
"""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from typing import cast

IP_FREEBIND = 15
"""Linux's ip(7); the socket module has no name for it before Python 3.13."""


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Serve one TCP connection: one line, one answer."""
    address, port = writer.get_extra_info("peername")[:2]
    try:
        line = (await reader.readline()).decode("utf-8", "replace").strip()
        if " HTTP/1." in line:
            while (await reader.readline()).strip():
                pass
            body = f"{address}\n"
            writer.write(
                f"HTTP/1.0 200 OK\r\nContent-Length: {len(body)}\r\nContent-Type: text/plain\r\n\r\n{body}".encode()
            )
        else:
            writer.write(f"{address} {port} {line}\n".encode())
        await writer.drain()
    except ConnectionError:
        pass
    finally:
        writer.close()


class Datagrams(asyncio.DatagramProtocol):
    """Answers each datagram with its sender and itself."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self.transport.sendto(f"{addr[0]} {addr[1]} ".encode() + data, addr)


async def serve(port: int, ready: int, addresses: list[str]) -> None:
    """Listen on every address; tell by one byte on `ready`; never return."""
    loop = asyncio.get_running_loop()
    server = await asyncio.start_server(answer, None, port)
    for address in addresses:
        # One socket for each address: the answer has to come from the address that was asked. They are not on a link yet.
        datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        datagrams.setsockopt(socket.IPPROTO_IP, IP_FREEBIND, 1)
        datagrams.bind((address, port))
        await loop.create_datagram_endpoint(Datagrams, sock=datagrams)
    os.write(ready, b"1")
    os.close(ready)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]))
