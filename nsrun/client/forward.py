"""Forwards ports of this machine to a pod's loopback: listens, connects, and has the kernel carry the bytes."""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import select
import socket
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import NamedTuple

from nsrun.client.podsockets import LOOPBACK, Kind, Supply, refused
from nsrun.client.ports import Port
from nsrun.client.relay import Pair, Pipes, reset
from nsrun.client.session import Session
from nsrun.errors import ConflictError, NotFoundError, NsrunError, StepError, UsageError

BACKLOG = 4096
DATAGRAM = 65535
FLOW_IDLE_S = 60.0
"""How long a sender of datagrams is remembered after the last one, either way."""
FLOWS_MAX = 4096
OF_A_CONNECTION = 4
"""Descriptors: two sockets, and a pipe while bytes wait."""
OF_OUR_OWN = 128
"""Descriptors for all else: listeners, spare pipes and sockets, the server's connections."""
EVENTS = 256
NO_DESCRIPTORS = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


class Listening(NamedTuple):
    """One address of this machine that is forwarded."""

    address: str
    local: int
    remote: int
    protocol: str

    @property
    def written(self) -> str:
        """`127.0.0.1:8080`, `[::1]:8080`."""
        return f"[{self.address}]:{self.local}" if ":" in self.address else f"{self.address}:{self.local}"


class Attempt:
    """A connection on its way: somebody has connected to us, and we try to reach the pod.

    The families are tried one after the other, and once more with new sockets: those there were may be of a sandbox that
    is no more.
    """

    def __init__(self, near: socket.socket, port: int) -> None:
        self.near = near
        self.port = port
        self.far: socket.socket | None = None
        self.left = [(4, False), (6, False), (4, True), (6, True)]
        self.error: OSError | None = None


class Flow:
    """Datagrams between one sender and the pod."""

    def __init__(self, far: socket.socket, listener: socket.socket, peer: tuple[str, int], port: int) -> None:
        self.far, self.listener, self.peer, self.port = far, listener, peer, port
        self.last = time.monotonic()


Handler = Callable[[int, int], None]
"""Called with a descriptor and its events."""


class Forwarder:
    """Listens at once; carries connections while `run` runs, and until `stop` or the pod's end.

    Args:
        session: to the server.
        pod: its name.
        namespace: its namespace; None is "default".
        ports: which.
        addresses: to listen on; of one with several alternatives at least one has to be there.
        on_connection: called with the Listening of each new connection.
        on_failure: called with what became of one that could not be made.
        on_full: called with the number of connections when there are as many as RLIMIT_NOFILE lets us carry; whoever connects
            then waits until one has ended.

    Raises:
        ConflictError: a port is taken. UsageError: two local ports are the same, or an address is not this machine's.
    """

    def __init__(
        self,
        session: Session,
        pod: str,
        namespace: str | None,
        ports: Sequence[Port],
        addresses: Sequence[Sequence[str]],
        *,
        on_connection: Callable[[Listening], None] = lambda _listening: None,
        on_failure: Callable[[Listening, NsrunError], None] = lambda _listening, _error: None,
        on_full: Callable[[int], None] = lambda _connections: None,
    ) -> None:
        self._pod = pod
        self._on_connection, self._on_failure, self._on_full = on_connection, on_failure, on_full
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        self._most = max((limit - OF_OUR_OWN) // OF_A_CONNECTION, 1) if limit != resource.RLIM_INFINITY else 1 << 20
        self._listeners: dict[int, tuple[socket.socket, Listening]] = {}
        self._handlers: dict[int, Handler] = {}
        self._waiting: dict[Kind, list[tuple[Attempt, Listening]]] = {}
        self._pairs: set[Pair] = set()
        self._attempts: set[Attempt] = set()
        self._flows: OrderedDict[tuple[int, tuple[str, int]], Flow] = OrderedDict()
        self._datagrams: list[tuple[bytes, tuple[str, int], socket.socket, Listening]] = []
        self._family: dict[int, int] = {}
        self._pipes = Pipes()
        self._full = False
        self._stopped = False
        refuse_doubled(ports)
        try:
            for port in ports:
                local = port.local
                for alternatives in addresses:
                    # Where any number will do: one for all addresses, if it is free everywhere.
                    try:
                        local = self._listen(port._replace(local=local), alternatives)
                    except ConflictError:
                        if port.local or not local:
                            raise
                        self._listen(port, alternatives)
        except BaseException:
            self._close_listeners()
            raise
        self._poll = select.epoll()
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._poll.register(self._wake, select.EPOLLIN)
        self._supply = Supply(session, pod, namespace, self._wake)
        for protocol in sorted({listening.protocol for _sock, listening in self._listeners.values()}):
            # So that the first one who connects need not wait for it.
            self._supply.prepare(Kind(protocol, 4))

    @property
    def listening(self) -> list[Listening]:
        """Where, in the order of the ports and addresses."""
        return [listening for _sock, listening in self._listeners.values()]

    def run(self) -> None:
        """Carry connections.

        Raises:
            NotFoundError: the pod was taken down.
        """
        for fd, (_sock, listening) in self._listeners.items():
            self._poll.register(fd, select.EPOLLIN)
            self._handlers[fd] = self._accept if listening.protocol == "tcp" else self._datagram
        self._handlers[self._wake] = self._news
        try:
            self._carry()
        finally:
            # Whoever comes now is to be told at once.
            self._close_listeners()

    def _carry(self) -> None:
        # Looked up once: what is done here is done for every byte that comes by itself.
        wait, handler_of = self._poll.poll, self._handlers.get
        while not self._stopped:
            for fd, events in wait(FLOW_IDLE_S / 4 if self._flows else -1, EVENTS):
                handler = handler_of(fd)
                if handler is not None:
                    handler(fd, events)
            if self._flows:
                self._forget_flows()
            if self._supply.gone is not None:
                raise self._supply.gone

    def stop(self) -> None:
        """Have `run` return; from any thread."""
        self._stopped = True
        with contextlib.suppress(OSError):
            os.eventfd_write(self._wake, 1)

    def close(self) -> None:
        """End all connections and stop listening. After `run` has returned."""
        self._supply.close()
        self._close_listeners()
        for pair in self._pairs:
            pair.close(self._poll, broken=True)
        for attempt in self._attempts:
            attempt.near.close()
            if attempt.far is not None:
                attempt.far.close()
        for flow in self._flows.values():
            flow.far.close()
        self._pairs.clear()
        self._attempts.clear()
        self._flows.clear()
        self._pipes.close()
        self._poll.close()
        os.close(self._wake)

    # listening

    def _listen(self, port: Port, alternatives: Sequence[str]) -> int:
        """Listen on what there is of an address; the port's number."""
        local, failure = port.local, None
        there = False
        for address in alternatives:
            try:
                sock = bound(address, local, port.protocol)
            except OSError as error:
                failure = failure or (error, address)
                # localhost on a machine without IPv6, or whose ::1 somebody else has.
                if error.errno in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT) or there:
                    continue
                break
            there = True
            local = sock.getsockname()[1]
            self._listeners[sock.fileno()] = (sock, Listening(address, local, port.remote, port.protocol))
        if not there and failure is not None:
            raise cannot_listen(failure[1], local, port, failure[0])
        return local

    def _close_listeners(self) -> None:
        for sock, _listening in self._listeners.values():
            sock.close()
        self._listeners.clear()

    def _accept(self, fd: int, _events: int) -> None:
        sock, listening = self._listeners[fd]
        while True:
            if len(self._pairs) + len(self._attempts) >= self._most:
                self._pause()
                return
            try:
                near, _peer = sock.accept()
            except BlockingIOError:
                return
            except ConnectionError:
                continue
            except OSError as error:
                if error.errno not in NO_DESCRIPTORS:
                    raise
                self._pause()
                return
            near.setblocking(False)
            near.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._on_connection(listening)
            attempt = Attempt(near, listening.remote)
            self._attempts.add(attempt)
            self._try(attempt, listening)

    def _pause(self) -> None:
        """No descriptors are left: whoever connects waits in the kernel's queue until a connection has ended."""
        if not self._full and (self._pairs or self._attempts):
            self._full = True
            self._on_full(len(self._pairs) + len(self._attempts))
            for fd, (_sock, listening) in self._listeners.items():
                if listening.protocol == "tcp":
                    self._poll.unregister(fd)

    def _ended(self, pair: Pair) -> None:
        self._pairs.discard(pair)
        self._resume()

    def _resume(self) -> None:
        if self._full:
            self._full = False
            for fd, (_sock, listening) in self._listeners.items():
                if listening.protocol == "tcp":
                    self._poll.register(fd, select.EPOLLIN)

    # connecting

    def _news(self, _fd: int, _events: int) -> None:
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self._wake)
        waiting, self._waiting = self._waiting, {}
        for kind, several in waiting.items():
            for attempt, listening in several:
                self._with_socket(attempt, listening, kind)
        datagrams, self._datagrams = self._datagrams, []
        for data, peer, listener, listening in datagrams:
            self._send(data, peer, listener, listening)

    def _try(self, attempt: Attempt, listening: Listening) -> None:
        if not attempt.left:
            self._fail(attempt, listening, refused(self._pod, attempt.port, attempt.error))
            return
        family, renew = attempt.left.pop(0)
        if renew and family == 4:
            self._supply.renew("tcp")
        self._with_socket(attempt, listening, Kind("tcp", family))

    def _with_socket(self, attempt: Attempt, listening: Listening, kind: Kind) -> None:
        found = self._supply.take(kind)
        if found is None:
            self._waiting.setdefault(kind, []).append((attempt, listening))
        elif isinstance(found, StepError):
            self._try(attempt, listening)
        elif isinstance(found, NsrunError):
            self._fail(attempt, listening, found)
        else:
            self._connect(attempt, listening, kind.family, found)

    def _connect(self, attempt: Attempt, listening: Listening, family: int, far: socket.socket) -> None:
        attempt.far = far
        number = far.connect_ex((LOOPBACK[family], attempt.port))
        if number in (0, errno.EINPROGRESS):
            fd = far.fileno()

            def connected(_fd: int, _events: int) -> None:
                self._poll.unregister(fd)
                del self._handlers[fd]
                self._connected(attempt, listening, far.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR))

            self._handlers[fd] = connected
            self._poll.register(fd, select.EPOLLOUT)
        else:
            self._connected(attempt, listening, number)

    def _connected(self, attempt: Attempt, listening: Listening, number: int) -> None:
        far = attempt.far
        if far is None:
            return
        if number:
            far.close()
            attempt.far = None
            attempt.error = attempt.error or OSError(number, os.strerror(number))
            if number == errno.ECONNRESET:
                # It was taken, and reset before we looked: nothing to be tried again.
                attempt.left.clear()
            self._try(attempt, listening)
            return
        self._attempts.discard(attempt)
        far.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        pair = Pair(attempt.near, far, self._pipes)
        fds = (attempt.near.fileno(), far.fileno())
        self._pairs.add(pair)

        carry, poll = pair.move, self._poll

        def move(fd: int, events: int) -> None:
            if not carry(poll, fd, events):
                for fd in fds:
                    self._handlers.pop(fd, None)
                self._ended(pair)

        for fd in fds:
            self._handlers[fd] = move
        move(fds[0], select.EPOLLIN | select.EPOLLOUT)

    def _fail(self, attempt: Attempt, listening: Listening, error: NsrunError) -> None:
        self._attempts.discard(attempt)
        reset(attempt.near)
        self._resume()
        if isinstance(error, NotFoundError):
            self._supply.gone = error
        self._on_failure(listening, error)

    # datagrams

    def _datagram(self, fd: int, _events: int) -> None:
        sock, listening = self._listeners[fd]
        for _ in range(64):
            try:
                data, peer = sock.recvfrom(DATAGRAM)
            except OSError:
                # Nothing more; or an answer of ours reached nobody, which the kernel tells here.
                return
            self._send(data, peer, sock, listening)

    def _send(self, data: bytes, peer: tuple[str, int], listener: socket.socket, listening: Listening) -> None:
        key = (listener.fileno(), peer)
        flow = self._flows.get(key)
        if flow is None:
            kind = Kind("udp", self._family.setdefault(listening.remote, 4))
            found = self._supply.take(kind)
            if found is None:
                if len(self._datagrams) < FLOWS_MAX:
                    self._datagrams.append((data, peer, listener, listening))
                return
            if isinstance(found, NsrunError):
                self._on_failure(listening, found)
                return
            found.connect((LOOPBACK[kind.family], listening.remote))
            flow = self._flows[key] = Flow(found, listener, peer, listening.remote)
            self._handlers[found.fileno()] = lambda _fd, _events: self._answer(key, listening)
            self._poll.register(found.fileno(), select.EPOLLIN)
            self._on_connection(listening)
        flow.last = time.monotonic()
        self._flows.move_to_end(key)
        # Datagrams may be lost: one that does not fit is.
        with contextlib.suppress(BlockingIOError):
            try:
                flow.far.send(data)
            except ConnectionRefusedError as error:
                self._refused(key, listening, error)

    def _answer(self, key: tuple[int, tuple[str, int]], listening: Listening) -> None:
        flow = self._flows[key]
        for _ in range(64):
            try:
                data = flow.far.recv(DATAGRAM)
            except BlockingIOError:
                return
            except OSError as error:
                self._refused(key, listening, error)
                return
            flow.last = time.monotonic()
            with contextlib.suppress(OSError):
                flow.listener.sendto(data, flow.peer)

    def _refused(self, key: tuple[int, tuple[str, int]], listening: Listening, error: OSError) -> None:
        """Nobody has the port: the next datagram tries the other family, with a new socket."""
        self._drop(key)
        family = self._family[listening.remote]
        self._family[listening.remote] = 10 - family
        self._supply.renew("udp")
        self._on_failure(listening, refused(self._pod, listening.remote, error))

    def _drop(self, key: tuple[int, tuple[str, int]]) -> None:
        flow = self._flows.pop(key)
        self._poll.unregister(flow.far.fileno())
        self._handlers.pop(flow.far.fileno(), None)
        flow.far.close()

    def _forget_flows(self) -> None:
        before = time.monotonic() - FLOW_IDLE_S
        while self._flows:
            key, flow = next(iter(self._flows.items()))
            if flow.last > before and len(self._flows) <= FLOWS_MAX:
                return
            self._drop(key)


def bound(address: str, port: int, protocol: str) -> socket.socket:
    """A non-blocking socket of this machine; of "tcp" it listens.

    Raises:
        OSError: the address is not this machine's, or the port is taken.
    """
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM if protocol == "tcp" else socket.SOCK_DGRAM)
    try:
        sock.setblocking(False)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if protocol == "tcp":
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((address, port))
        if protocol == "tcp":
            sock.listen(BACKLOG)
    except BaseException:
        sock.close()
        raise
    return sock


def refuse_doubled(ports: Sequence[Port]) -> None:
    """Before any is listened on: whose local port would be another's, that nobody else be blamed for it.

    Raises:
        UsageError: two have the same.
    """
    firsts: dict[tuple[int, str], Port] = {}
    for port in ports:
        first = firsts.setdefault((port.local, port.protocol), port) if port.local else port
        if first is not port:
            raise UsageError(
                f"local port {port.local} ({port.protocol}) is wanted twice: {first.local}:{first.remote} and "
                f"{port.local}:{port.remote}",
                resolution=f"A free one for the second: :{port.remote}",
            )


def cannot_listen(address: str, local: int, port: Port, error: OSError) -> NsrunError:
    """What `bound` failed of, with what to do about it."""
    if error.errno == errno.EADDRINUSE:
        return ConflictError(
            f"port {local} of {address} is taken by somebody else ({port.protocol})",
            details=f"ss -lp{port.protocol[0]}n 'sport = :{local}' says by whom.",
            resolution=f"Another one: {local + 1 if local < 65535 else ''}:{port.remote}, or a free one: :{port.remote}",
        )
    if error.errno == errno.EADDRNOTAVAIL:
        return UsageError(
            f"--address {address} is no address of this machine", resolution="ip -brief address lists them."
        )
    return StepError("listen on", f"{address} port {local}", error.errno or 0)
