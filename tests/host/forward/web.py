"""A web server for the tests' pod: 8080 on all addresses, 8443 the same with TLS, 8081 on the loopback alone.

Run with the machine's python3 inside of a container.
"""

import asyncio
import base64
import hashlib
import json
import os
import socket
import ssl
import struct
import urllib.parse

PAGE = b"""<!doctype html><title>page</title><a href="/next">next</a><img src='picture.png'><script>"<a href='/x'>"</script>"""


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while await one(reader, writer):
            pass
    except (asyncio.IncompleteReadError, OSError):
        pass
    finally:
        writer.close()


async def one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    method, target, _version = head.split("\r\n")[0].split(" ")
    headers = [line.partition(": ")[::2] for line in head.split("\r\n")[1:-2]]
    named = {name.lower(): value for name, value in headers}
    url = urllib.parse.urlsplit(target)
    query = dict(urllib.parse.parse_qsl(url.query))

    def answer(status: str, body: bytes, *more: str) -> None:
        lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *more, "", ""]
        writer.write("\r\n".join(lines).encode() + (b"" if method == "HEAD" else body))

    if named.get("upgrade"):
        if url.path == "/no":
            answer("403 Forbidden", b"no sockets here")
            return False
        key = base64.b64encode(
            hashlib.sha1(
                (named.get("sec-websocket-key", "") + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11").encode()
            ).digest()
        ).decode()
        lines = ("HTTP/1.1 101 Switching Protocols", f"Upgrade: {named['upgrade']}", "Connection: Upgrade")
        writer.write("\r\n".join([*lines, f"Sec-WebSocket-Accept: {key}", "", ""]).encode())
        # Frames or whatever it is: back as it came, but for the mask that a client's frames have.
        while data := await reader.read(65536):
            if "raw" in query:
                writer.write(data)
            else:
                writer.write(unmasked(data))
            await writer.drain()
        return False
    sha, size = hashlib.sha256(), 0
    if named.get("transfer-encoding") == "chunked":
        while length := int(await reader.readline(), 16):
            data = await reader.readexactly(length + 2)
            sha.update(data[:-2])
            size += length
        await reader.readline()
    else:
        left = int(named.get("content-length", "0"))
        while left:
            data = await reader.read(min(left, 1 << 20))
            sha.update(data)
            size += len(data)
            left -= len(data)
    match url.path:
        case "/page":
            answer(
                "200 OK",
                PAGE,
                "Content-Type: text/html; charset=utf-8",
                "Set-Cookie: a=1; Path=/; Domain=pod",
                "Set-Cookie: b=2",
            )
        case "/redirect":
            answer("302 Found", b"", f"Location: {query['to']}")
        case "/plain":
            answer("200 Well", b"no type", "Access-Control-Allow-Origin: *", "Connection: X-Hop", "X-Hop: 1")
        case "/big":
            left = int(query["size"])
            writer.write(f"HTTP/1.1 200 OK\r\nContent-Length: {left}\r\n\r\n".encode())
            while left:
                writer.write(bytes(min(left, 1 << 16)))
                left -= min(left, 1 << 16)
                await writer.drain()
        case "/events":
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
            for number in range(1000):
                text = f"data: {number}\n\n".encode()
                writer.write(b"%x\r\n%s\r\n" % (len(text), text))
                await writer.drain()
                # The next one when somebody has asked for it by another connection.
                await asyncio.wait_for(go_on(query["id"]).get(), 20)
        case "/more":
            go_on(query.get("id", "")).put_nowait(None)
            answer("204 No Content", b"")
        case "/break":
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\nonly this")
            return False
        case "/latin":
            writer.write(b"HTTP/1.1 200 OK\r\nX-Name: caf\xe9\r\nContent-Length: 0\r\n\r\n")
        case "/reset":
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()
            return False
        case "/early":
            writer.write(b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\n\r\nuntil its end")
            return False
        case "/nonsense":
            writer.write(b"this is no HTTP\r\n\r\n")
            return False
        case _:
            told = {"method": method, "target": target, "headers": headers, "size": size, "sha": sha.hexdigest()}
            answer("200 OK", json.dumps(told).encode(), "Content-Type: application/json")
    await writer.drain()
    return True


def unmasked(frame: bytes) -> bytes:
    length = frame[1] & 127
    mask, data = frame[2:6], frame[6 : 6 + length]
    return bytes([frame[0], length]) + bytes(byte ^ mask[at % 4] for at, byte in enumerate(data))


def certificate() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with open("/tmp/pem", "w") as file:
        file.write(os.environ["PEM"])
    context.load_cert_chain("/tmp/pem")
    return context


async def main() -> None:
    await asyncio.start_server(serve, "0.0.0.0", 8080)
    await asyncio.start_server(serve, "0.0.0.0", 8443, ssl=certificate())
    await asyncio.start_server(serve, "127.0.0.1", 8081)
    print("listening", flush=True)
    await asyncio.Event().wait()


def go_on(name: str) -> asyncio.Queue[None]:
    return queues.setdefault(name, asyncio.Queue())


queues: dict[str, asyncio.Queue[None]] = {}
asyncio.run(main())
