"""A gRPC health server that answers as it is told, for probes: HTTP/2 by the h2 library."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import h2.config
import h2.connection
import h2.events
import h2.exceptions

JUST_HEADERS = -1


@dataclass
class Health:
    """What it answers: `states` by service (1 = SERVING), or a gRPC status, or an HTTP one, or a reset, or nothing."""

    states: dict[str, int] = field(default_factory=lambda: {"": 1})
    status: int | None = None
    message: str = ""
    http: int = 200
    kind: str = "application/grpc"
    reset: int | None = None
    goaway: bool = False
    silent: bool = False
    end_at_once: bool = False
    data: bytes | None = None
    asked: list[dict[str, str]] = field(default_factory=list)

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve a connection until its end."""
        conn = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False, header_encoding="utf-8"))
        conn.initiate_connection()
        writer.write(conn.data_to_send())
        bodies: dict[int, bytearray] = {}
        while data := await reader.read(65536):
            for event in conn.receive_data(data):
                match event:
                    case h2.events.RequestReceived():
                        self.asked.append({str(name): str(value) for name, value in event.headers or []})
                        bodies[event.stream_id] = bytearray()
                    case h2.events.DataReceived():
                        bodies[event.stream_id] += event.data
                    case h2.events.StreamEnded():
                        if self.end_at_once:
                            return
                        self._answer(conn, event.stream_id, bytes(bodies[event.stream_id]))
                    case _:
                        pass
            writer.write(conn.data_to_send())
            await writer.drain()

    def _answer(self, conn: h2.connection.H2Connection, stream: int, body: bytes) -> None:
        if self.silent:
            return
        if self.goaway:
            conn.close_connection()
            return
        if self.reset is not None:
            conn.reset_stream(stream, self.reset)
            return
        headers = [(":status", str(self.http)), ("content-type", self.kind)]
        service = body[7:].decode() if len(body) > 7 else ""
        if self.status is None and service not in self.states:
            self_status, message = 5, "unknown%20service"
        else:
            self_status, message = self.status or 0, self.message
        if self.http != 200 or self_status:
            ends = [("grpc-status", str(self_status)), ("grpc-message", message)] if self.http == 200 else []
            conn.send_headers(stream, headers + ends, end_stream=True)
            return
        conn.send_headers(stream, headers)
        message_bytes = b"\x08" + bytes([self.states[service]]) if self.states[service] else b""
        data = self.data
        if data is None:
            data = b"\0" + len(message_bytes).to_bytes(4, "big") + message_bytes
        conn.send_data(stream, data)
        conn.send_headers(stream, [("grpc-status", "0")], end_stream=True)


async def serve(health: Health, host: str, port: int) -> asyncio.Server:
    """Listen."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await health.talk(reader, writer)
        except (OSError, h2.exceptions.ProtocolError):
            pass
        finally:
            writer.close()

    return await asyncio.start_server(handle, host, port)


if __name__ == "__main__":
    import sys

    async def main() -> None:
        """`python -m tests.host.probes.health PORT`: serving on every address until killed."""
        server = await serve(Health(states={"": 1, "db": 2}), "0.0.0.0", int(sys.argv[1]))
        print("ready", flush=True)
        await server.serve_forever()

    asyncio.run(main())
