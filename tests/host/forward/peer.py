"""What listens in the tests' pod, on its loopback alone unless LISTEN has another address.

Run with the machine's python3 inside of a container.

7001 echoes; 7002 reads to the end, then answers with the number and SHA-256 of the bytes; 7003 sends as many bytes as the first
line says; 7004 never reads; 7005 resets every connection; 7006 echoes over ::1; 7007 echoes datagrams.
"""

import asyncio
import hashlib
import os
import socket
import struct
import typing


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.close()


async def digest(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    sha, count = hashlib.sha256(), 0
    while data := await reader.read(1 << 20):
        sha.update(data)
        count += len(data)
    writer.write(f"{count} {sha.hexdigest()}\n".encode())
    writer.close()


async def source(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    left = int(await reader.readline())
    block = bytes(range(256)) * 4096
    while left:
        writer.write(block[:left])
        await writer.drain()
        left -= min(left, len(block))
    writer.close()


async def deaf(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    reader._transport.pause_reading()  # type: ignore[attr-defined] # asyncio has no public word for it
    await asyncio.sleep(3600)


async def reset(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


class Datagrams(asyncio.DatagramProtocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = typing.cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, address: tuple[str, int]) -> None:
        self.transport.sendto(data, address)


async def main() -> None:
    address = os.environ.get("LISTEN", "127.0.0.1")
    for port, handler in ((7001, echo), (7002, digest), (7003, source), (7004, deaf), (7005, reset)):
        await asyncio.start_server(handler, address, port, backlog=4096, limit=1 << 20)
    await asyncio.start_server(echo, "::1", 7006)
    await asyncio.get_running_loop().create_datagram_endpoint(Datagrams, (address, 7007))
    if address == "0.0.0.0" and socket.has_dualstack_ipv6():
        # A listener of its own for IPv6: asyncio makes them for one family each.
        await asyncio.start_server(echo, "::", 7001)
        six = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
        six.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        six.bind(("::", 7007))
        await asyncio.get_running_loop().create_datagram_endpoint(Datagrams, sock=six)
    print("listening", flush=True)
    await asyncio.Event().wait()


asyncio.run(main())
