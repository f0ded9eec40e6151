"""TLS over a connection: the handshake and the records, without a thread and without believing in anything."""

from __future__ import annotations

import ssl

from nsrun.probes.outcome import ProbeError
from nsrun.probes.wires import CHUNK, Wire, Wires


class PlainAnswerError(ProbeError):
    """Whoever answered does not speak TLS but plain HTTP."""


class TlsWire:
    """A connection with TLS on it; the methods are those of Wire."""

    def __init__(self, wire: Wire, wires: Wires, name: str | None) -> None:
        self._wire = wire
        self._in = ssl.MemoryBIO()
        self._out = ssl.MemoryBIO()
        self._tls = wires.tls().wrap_bio(self._in, self._out, server_hostname=name)
        self._heard = b""

    async def shake(self) -> None:
        """The handshake.

        Raises:
            PlainAnswerError: the other side speaks plain HTTP.
            ProbeError: it failed.
        """
        while True:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                await self._flush()
                await self._fill()
            except ssl.SSLError as error:
                # An alert may be waiting to be sent; the other side may be gone already.
                raise self._said(error) from error
            else:
                await self._flush()
                return

    def _said(self, error: ssl.SSLError) -> ProbeError:
        if self._heard.startswith(b"HTTP/"):
            return PlainAnswerError("http: server gave HTTP response to HTTPS client")
        if self._heard and self._heard[0] not in (0x15, 0x16):
            return ProbeError("tls: first record does not look like a TLS handshake")
        reason = error.reason or ""
        if isinstance(error, ssl.SSLEOFError):
            return ProbeError("EOF")
        _, alert, rest = reason.partition("_ALERT_")
        if alert:
            return ProbeError(f"remote error: tls: {rest.lower().replace('_', ' ')}")
        return ProbeError(f"tls: {reason.lower().replace('_', ' ') or error}")

    async def _flush(self) -> None:
        data = self._out.read()
        if data:
            await self._wire.send(data)

    async def _fill(self) -> None:
        data = await self._wire.receive()
        if data:
            self._heard = (self._heard + data)[:8]
            self._in.write(data)
        else:
            self._in.write_eof()

    async def send(self, data: bytes) -> None:
        """Send all of it. Raises ProbeError."""
        self._tls.write(data)
        await self._flush()

    async def receive(self) -> bytes:
        """What comes next; nothing at its end, announced or not. Raises ProbeError."""
        while True:
            try:
                return self._tls.read(CHUNK)
            except ssl.SSLWantReadError:
                await self._flush()
                await self._fill()
            except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
                return b""
            except ssl.SSLError as error:
                raise self._said(error) from error

    def close(self) -> None:
        """A FIN, at once."""
        self._wire.close()

    def let_go(self) -> None:
        """Done: the other side closes it."""
        self._wire.let_go()

    def reset(self) -> None:
        """An RST."""
        self._wire.reset()
