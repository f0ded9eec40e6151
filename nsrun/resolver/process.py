"""The resolver as a process: what it listens at, and what it answers from.

One for each root directory, in the machine's own namespaces, begun by a server and left alone by its end: pods ask while no server
runs. Its sockets are bound by the server and come with it, the server keeps them as well, and so a question that comes while this
process is being exchanged waits for the next one. It holds no other state: `names.json`, which the server replaces, is looked at before
each round of questions. It may be killed at any moment. What strangers send is read as user nobody, without capabilities.
"""

from __future__ import annotations

import array
import contextlib
import json
import os
import socket
import sys
from collections import Counter
from typing import Any

from nsrun._version import __version__
from nsrun.resolver.answers import Answers, Forward, cut, refusal
from nsrun.resolver.hostconf import HostServers
from nsrun.resolver.loop import IN, OUT, Loop, Timer
from nsrun.resolver.plain import HEADER
from nsrun.resolver.upstream import Forwarder
from nsrun.resolver.zone import Zone

NAMES = "names.json"
LOCK = "lock"
BURST = 16
"""Datagrams of one socket in a row: then it is the others' turn."""
PLACE_EVERY_S = 5.0
"""How often is looked whether anybody can still find this process."""
CONNECTIONS, CONNECTIONS_OF_ONE = 256, 16
"""Over TCP: all together, and of one client."""
IDLE_S = 10.0
"""Of a connection, between two questions, and for an answer to be taken."""
UNANSWERED = 16
"""Questions of one connection: no more are read before some are answered."""
MOST_CLIENTS = 4096
"""Addresses of which is remembered whether they are answered."""

_SERVFAIL, _REFUSED = 2, 5


class Resolver:
    """Everything of the process.

    Args:
        directory: descriptor of the directory with `names.json` and the lock.
        lock: descriptor of the lock's file, locked.
        control: a listening SOCK_SEQPACKET socket, for the server alone.
        udp, tcp: sockets, bound.
    """

    def __init__(
        self, directory: int, lock: int, control: socket.socket, udp: list[socket.socket], tcp: list[socket.socket]
    ) -> None:
        self._directory = directory
        self._lock = lock
        self._control = control
        self._udp = udp
        self._tcp = tcp
        self.loop = Loop()
        self._servers = HostServers(lambda: self.loop.now)
        self.forwarder = Forwarder(self.loop, self._servers)
        self._seen: tuple[int, int, int] | None = None
        self.answers = Answers(Zone("cluster.local"))
        self._clients: dict[str, bool] = {}
        self._connections: Counter[str] = Counter()
        self.counts: Counter[str] = Counter()
        for one in udp:
            self.loop.watch(one.fileno(), lambda _events, one=one: self._datagrams(one))  # type: ignore[misc]
        for one in tcp:
            self.loop.watch(one.fileno(), lambda _events, one=one: self._accept(one))  # type: ignore[misc]
        self.loop.watch(control.fileno(), self._asked)
        self._look_at_place()

    # what is known

    def refresh(self) -> None:
        """Read the names if there are others now."""
        try:
            facts = os.stat(NAMES, dir_fd=self._directory)
        except OSError:
            return
        seen = (facts.st_ino, facts.st_mtime_ns, facts.st_size)
        if seen == self._seen:
            return
        self._seen = seen
        try:
            with open(os.open(NAMES, os.O_RDONLY | os.O_CLOEXEC, dir_fd=self._directory), "rb") as file:
                data = json.load(file)
            zone = Zone.of(data)
            path = str(data["resolv_conf"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            # What was known before is better than nothing.
            sys.stderr.write(f"{NAMES} cannot be read: {error}\n")
            return
        self._servers.use(path, zone.addresses)
        self.answers.use(zone)
        self._clients.clear()

    def _allowed(self, client: str) -> bool:
        known = self._clients.get(client)
        if known is None:
            if len(self._clients) >= MOST_CLIENTS:
                self._clients.clear()
            known = self._clients[client] = self.answers.zone.allows(client)
        return known

    # questions

    def _datagrams(self, sock: socket.socket) -> None:
        self.refresh()
        for _ in range(BURST):
            try:
                query, place = sock.recvfrom(4096)
            except BlockingIOError:
                return
            except OSError:
                continue
            client = place[0]
            if not self._allowed(client):
                self.counts["strangers"] += 1
                continue
            reply = self.answers.reply(query, tcp=False)
            if isinstance(reply, Forward):
                self._forward_datagram(sock, place, query, reply)
            elif reply is not None:
                self.counts["answers"] += 1
                _send(sock, reply, place)

    def _forward_datagram(self, sock: socket.socket, place: Any, query: bytes, forward: Forward) -> None:
        asked = query
        if forward.payload:
            at = forward.payload
            asked = query[:at] + forward.limit.to_bytes(2, "big") + query[at + 2 :]

        def done(answer: bytes | None) -> None:
            if answer is None:
                answer = refusal(query, _SERVFAIL)
            elif len(answer) > forward.limit:
                answer = cut(answer, forward.end)
            _send(sock, answer, place)

        if not self.forwarder.ask(asked, place[0], tcp=False, done=done):
            _send(sock, refusal(query, _REFUSED), place)

    def _accept(self, listener: socket.socket) -> None:
        self.refresh()
        for _ in range(BURST):
            try:
                sock, place = listener.accept()
            except OSError:
                # EMFILE would otherwise be told again and again; there is none as long as CONNECTIONS holds.
                return
            client = place[0]
            full = sum(self._connections.values()) >= CONNECTIONS or self._connections[client] >= CONNECTIONS_OF_ONE
            if full or not self._allowed(client):
                self.counts["strangers" if not full else "hung_up"] += 1
                sock.close()
                continue
            self._connections[client] += 1
            _Connection(self, sock, client)

    def parted(self, client: str) -> None:
        """A connection has ended."""
        self._connections[client] -= 1
        if not self._connections[client]:
            del self._connections[client]

    # the server

    def _asked(self, _events: int) -> None:
        try:
            peer, _ = self._control.accept()
        except OSError:
            return
        peer.setblocking(False)
        timer: list[Timer] = []

        def close() -> None:
            timer[0].cancel()
            self.loop.forget(peer.fileno())
            peer.close()

        def ready(_events: int) -> None:
            try:
                question = peer.recv(64)
                if question:
                    self._tell(peer, sockets=question == b"sockets")
            except OSError as error:
                sys.stderr.write(f"the server could not be answered: {error}\n")
            close()

        timer.append(self.loop.later(IDLE_S, close))
        self.loop.watch(peer.fileno(), ready)

    def _tell(self, peer: socket.socket, *, sockets: bool) -> None:
        """How it goes, and the sockets: a server that is new needs them."""
        zone = self.answers.zone
        about = {
            "version": __version__,
            "pid": os.getpid(),
            "names": len(zone.pods),
            "udp": len(self._udp),
            "tcp": len(self._tcp),
            "answers": self.counts["answers"],
            "forwarded": self.forwarder.asked,
            "failed": self.forwarder.failed,
            "refused": self.forwarder.refused,
            "strangers": self.counts["strangers"],
            "under_way": self.forwarder.under_way,
            "servers": self._servers(),
        }
        numbers = array.array("i", [one.fileno() for one in (*self._udp, *self._tcp, self._control)])
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, numbers)] if sockets else []
        peer.sendmsg([json.dumps(about).encode()], rights)

    def _look_at_place(self) -> None:
        """End when nobody can find this process any more: its directory was removed."""
        held = os.fstat(self._lock)
        try:
            there = os.stat(LOCK, dir_fd=self._directory)
        except OSError:
            sys.exit(0)
        if (held.st_dev, held.st_ino) != (there.st_dev, there.st_ino):
            sys.exit(0)
        self.loop.later(PLACE_EVERY_S, self._look_at_place)


def _send(sock: socket.socket, answer: bytes, place: Any) -> None:
    # A client that is gone, or does not take it, asks again if it wants to know.
    with contextlib.suppress(OSError):
        sock.sendto(answer, place)


class _Connection:
    """A client over TCP: questions one after the other, answered as they can be."""

    __slots__ = ("_client", "_ended", "_in", "_out", "_resolver", "_sock", "_timer", "_unanswered")

    def __init__(self, resolver: Resolver, sock: socket.socket, client: str) -> None:
        sock.setblocking(False)
        self._resolver = resolver
        self._sock = sock
        self._client = client
        self._in = b""
        self._out = b""
        self._ended = False
        self._unanswered = 0
        self._timer = resolver.loop.later(IDLE_S, self._close)
        self._watch()

    def _watch(self) -> None:
        events = OUT if self._out else 0
        if self._unanswered < UNANSWERED and not self._out and not self._ended:
            events |= IN
        self._resolver.loop.watch(self._sock.fileno(), self._ready, events)

    def _close(self) -> None:
        if self._sock.fileno() == -1:
            return
        self._timer.cancel()
        self._resolver.loop.forget(self._sock.fileno())
        self._sock.close()
        self._resolver.parted(self._client)

    def _ready(self, events: int) -> None:
        try:
            if self._out:
                self._out = self._out[self._sock.send(self._out) :]
                if not self._out:
                    self._rest()
            elif events & IN:
                data = self._sock.recv(65536)
                # Whoever has nothing more to ask may still be waiting for answers.
                self._ended = not data
                self._in += data
            else:
                # Hung up on while nothing was wanted of it.
                self._close()
                return
        except BlockingIOError:
            pass
        except OSError:
            self._close()
            return
        self._work()

    def _rest(self) -> None:
        """The time for the next question begins."""
        self._timer.cancel()
        self._timer = self._resolver.loop.later(IDLE_S, self._close)

    def _work(self) -> None:
        """Take up the questions that are whole."""
        self._resolver.refresh()
        while self._sock.fileno() != -1 and self._unanswered < UNANSWERED and not self._out and len(self._in) >= 2:
            length = int.from_bytes(self._in[:2], "big")
            if length < HEADER:
                self._close()
                return
            if len(self._in) < 2 + length:
                break
            query, self._in = self._in[2 : 2 + length], self._in[2 + length :]
            self._question(query)
        if self._sock.fileno() == -1:
            return
        if self._ended and not self._unanswered and not self._out:
            self._close()
        else:
            self._watch()

    def _question(self, query: bytes) -> None:
        resolver = self._resolver
        self._rest()
        reply = resolver.answers.reply(query, tcp=True)
        if reply is None:
            self._close()
        elif isinstance(reply, Forward):
            self._unanswered += 1

            def done(answer: bytes | None) -> None:
                self._unanswered -= 1
                if self._sock.fileno() != -1:
                    self._answer(refusal(query, _SERVFAIL) if answer is None else answer)
                    self._work()

            if not resolver.forwarder.ask(query, self._client, tcp=True, done=done):
                self._unanswered -= 1
                self._answer(refusal(query, _REFUSED))
        else:
            resolver.counts["answers"] += 1
            self._answer(reply)

    def _answer(self, answer: bytes) -> None:
        self._out += len(answer).to_bytes(2, "big") + answer
        try:
            self._out = self._out[self._sock.send(self._out) :]
        except BlockingIOError:
            pass
        except OSError:
            self._close()
