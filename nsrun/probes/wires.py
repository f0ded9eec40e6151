"""TCP connections to pods, plain or TLS, in the running loop; and who owns their descriptors.

A connection that was made is closed with a FIN, as a kubelet's are. A kubelet closes with a linger time of a second, which blocks
in close(2) as long as the other side's kernel is silent; here the descriptor waits in the loop instead: for the other side's end for
a second at most, and then the connection is reset. So whoever answers and closes, as `Connection: close` asks, leaves no TIME_WAIT here.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import ipaddress
import socket
import struct
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, TypeVar

from nsrun.probes.outcome import LocalError, ProbeError
from nsrun.probes.wording import errno_word, joined

if TYPE_CHECKING:
    import ssl

LINGER_S = 1.0
"""How long a connection that is done with waits for the other side to close it (kubelet: pkg/probe/dialer_others.go)."""
SWEEP_S = 0.1
"""How often those that wait are looked at, all at once: the loop is not woken for each."""
LINGERING_MAX = 1024
"""More than these do not wait."""
CHUNK = 16 * 1024
LOOKUPS = 2
"""Threads for names: getaddrinfo(3) has no other form. Addresses, which is what pods have, take none."""

_RESET = struct.pack("ii", 1, 0)
_OURS = {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS, errno.EADDRNOTAVAIL}
_T = TypeVar("_T")


class Wires:
    """Makes connections and owns what is left of them. One per server; `close` gives everything back."""

    def __init__(self) -> None:
        self._lingering: list[tuple[float, socket.socket]] = []
        self._sweep: asyncio.TimerHandle | None = None
        self._lookups: ThreadPoolExecutor | None = None
        self._tls: ssl.SSLContext | None = None

    async def dial(self, host: str, port: int) -> Wire:
        """Connect. What is taken until it is done is given back when the caller is cancelled.

        Raises:
            ProbeError: `dial tcp 10.0.0.5:80: connect: connection refused`.
            LocalError: nothing is left to connect with.
        """
        last: OSError | None = None
        for family, address in await self._addresses(host, port):
            try:
                sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
            except OSError as error:
                raise LocalError(f"dial tcp {joined(host, port)}: socket: {errno_word(error.errno or 0)}") from error
            try:
                await _connect(sock, address)
            except OSError as error:
                sock.close()
                if error.errno in _OURS:
                    raise LocalError(
                        f"dial tcp {joined(host, port)}: connect: {errno_word(error.errno or 0)}"
                    ) from error
                last = last or error
                continue
            except BaseException:
                sock.close()
                raise
            return Wire(self, sock, address)
        assert last is not None
        raise ProbeError(f"dial tcp {joined(host, port)}: connect: {errno_word(last.errno or 0)}") from last

    async def _addresses(self, host: str, port: int) -> list[tuple[int, Any]]:
        try:
            version = ipaddress.ip_address(host).version
        except ValueError:
            return await self._look_up(host, port)
        return [(socket.AF_INET if version == 4 else socket.AF_INET6, (host, port))]

    async def _look_up(self, host: str, port: int) -> list[tuple[int, Any]]:
        if self._lookups is None:
            self._lookups = ThreadPoolExecutor(LOOKUPS, thread_name_prefix="lookup")
        try:
            found = await asyncio.get_running_loop().run_in_executor(
                self._lookups, lambda: socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            )
        except OSError as error:
            why = "no such host" if isinstance(error, socket.gaierror) else str(error)
            raise ProbeError(f"dial tcp: lookup {host}: {why}") from error
        return [(family, address) for family, _kind, _protocol, _name, address in found]

    def tls(self) -> ssl.SSLContext:
        """Whoever answers is believed, whatever its certificate: as a kubelet does (InsecureSkipVerify), from TLS 1.2 on."""
        if self._tls is None:
            import ssl

            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
            context.minimum_version = ssl.TLSVersion.TLSv1_2
            # A key that is too short for the machine's policy is no business of a probe's.
            context.set_ciphers("DEFAULT:@SECLEVEL=0")
            self._tls = context
        return self._tls

    def linger(self, sock: socket.socket) -> None:
        """Take a connection over and let go of it once the other side has closed it too."""
        if self._over(sock):
            sock.close()
            return
        if len(self._lingering) >= LINGERING_MAX:
            _reset(sock)
            return
        loop = asyncio.get_running_loop()
        self._lingering.append((loop.time() + LINGER_S, sock))
        if self._sweep is None:
            self._sweep = loop.call_later(SWEEP_S, self._swept)

    def _swept(self) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        kept: list[tuple[float, socket.socket]] = []
        for until, sock in self._lingering:
            if self._over(sock):
                sock.close()
            elif until <= now:
                _reset(sock)
            else:
                kept.append((until, sock))
        self._lingering = kept
        self._sweep = loop.call_later(SWEEP_S, self._swept) if kept else None

    @staticmethod
    def _over(sock: socket.socket) -> bool:
        try:
            return not sock.recv(1)
        except BlockingIOError:
            return False
        except OSError:
            return True

    def close(self) -> None:
        """Give every descriptor back."""
        if self._sweep is not None:
            self._sweep.cancel()
            self._sweep = None
        while self._lingering:
            _reset(self._lingering.pop()[1])
        if self._lookups is not None:
            self._lookups.shutdown(wait=False, cancel_futures=True)
            self._lookups = None


class Wire:
    """One connection. The caller closes it, one way or the other."""

    def __init__(self, wires: Wires, sock: socket.socket, peer: Any) -> None:
        self._wires = wires
        self._peer = peer
        self._sock = sock
        self._loop = asyncio.get_running_loop()

    def _said(self, what: str, error: OSError) -> ProbeError:
        """`read tcp 10.0.0.1:41234->10.0.0.5:80: read: connection reset by peer`."""
        ends = "->".join(joined(*end[:2]) for end in (self._sock.getsockname(), self._peer))
        return ProbeError(f"{what} tcp {ends}: {what}: {errno_word(error.errno or 0)}")

    async def send(self, data: bytes) -> None:
        """Send all of it.

        Raises:
            ProbeError: the connection broke.
        """
        try:
            await self._loop.sock_sendall(self._sock, data)
        except OSError as error:
            raise self._said("write", error) from error

    async def receive(self) -> bytes:
        """What comes next, 16 KiB at most; nothing at its end.

        Raises:
            ProbeError: the connection broke.
        """
        try:
            return await self._loop.sock_recv(self._sock, CHUNK)
        except OSError as error:
            raise self._said("read", error) from error

    def close(self) -> None:
        """A FIN, at once."""
        self._sock.close()

    def let_go(self) -> None:
        """Done: the other side, which was asked to, closes it."""
        self._wires.linger(self._sock)

    def reset(self) -> None:
        """An RST: nothing that was sent or comes is of interest."""
        _reset(self._sock)


async def _connect(sock: socket.socket, address: Any) -> None:
    for _ in range(2):
        # A pod on this machine has answered before connect(2) returns, which a second one tells: the loop need not be asked.
        try:
            sock.connect(address)
        except BlockingIOError:
            continue
        return
    await asyncio.get_running_loop().sock_connect(sock, address)


def _reset(sock: socket.socket) -> None:
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    sock.close()


async def within(timeout_s: float, work: Coroutine[Any, Any, _T]) -> _T:
    """`work`, which gets `timeout_s` seconds.

    Raises:
        TimeoutError: they are over.
    """
    async with asyncio.timeout(timeout_s):
        return await work
