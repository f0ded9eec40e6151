"""Questions that others answer: the machine's own resolvers, asked as any program of the machine would.

Each question has a socket of its own for each try, connected, with a port that the kernel chose and an id of its own: what is taken for an
answer has to come from there, with that id, to that question. The same question of several clients is asked once at a time.
"""

from __future__ import annotations

import contextlib
import functools
import os
import socket
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from nsrun.resolver.answers import question_end
from nsrun.resolver.loop import IN, OUT, Loop, Timer
from nsrun.resolver.plain import HEADER

PORT = 53
TRY_S = 1.5
"""After so long without an answer the next one is asked as well."""
PATIENCE_S = 5.0
"""Then there is no answer; clients give up at about that time, too."""
CUT_OFF_S = 1.5
"""The same while nobody has answered for a while: who is cut off from the world is to know soon."""
ROUNDS = 2
"""How often each is asked."""
MOST, MOST_OF_ONE = 512, 128
"""Questions under way: all together, and of one client."""
SHUNNED_S = 10.0
"""One that did not answer is asked last for so long."""

_SERVFAIL, _REFUSED = 2, 5
_QR = 0x80

Done = Callable[[bytes | None], None]
"""Called once, with the answer (its id is that of the query) or None."""


@dataclass(slots=True)
class _Waiter:
    client: str
    id: bytes
    done: Done


@dataclass(slots=True)
class _Question:
    key: tuple[bytes, bool]
    end: int
    order: list[str]
    """Who is still to be asked."""
    waiters: list[_Waiter] = field(default_factory=list)
    tries: list[_Try] = field(default_factory=list)
    timer: Timer | None = None
    deadline: Timer | None = None
    fallback: bytes | None = None
    """What somebody answered who could not help."""


class Forwarder:
    """Asks others.

    Args:
        loop: of the process.
        servers: gives the addresses to ask, in their order.

    Attributes:
        asked, failed, refused: counters: questions put to others, those without an answer, and those that were too many.
    """

    def __init__(self, loop: Loop, servers: Callable[[], list[str]]) -> None:
        self._loop = loop
        self._servers = servers
        self._questions: dict[tuple[bytes, bool], _Question] = {}
        self._of_client: Counter[str] = Counter()
        self._waiting = 0
        self._shunned: dict[str, float] = {}
        self.asked = self.failed = self.refused = 0

    @property
    def under_way(self) -> int:
        """Clients that wait for an answer."""
        return self._waiting

    def ask(self, query: bytes, client: str, *, tcp: bool, done: Done) -> bool:
        """Ask.

        Args:
            query: as it came, with a whole question.
            client: its address.
            tcp: it came over TCP, and is to be asked so.
            done: what to do with the answer.

        Returns:
            False if too much is under way already; then `done` is not called.
        """
        if self._waiting >= MOST or self._of_client[client] >= MOST_OF_ONE:
            self.refused += 1
            return False
        key = (query[2:], tcp)
        waiter = _Waiter(client, query[:2], done)
        self._waiting += 1
        self._of_client[client] += 1
        question = self._questions.get(key)
        if question is not None:
            question.waiters.append(waiter)
            return True
        question = _Question(key, question_end(query), self._order(), [waiter])
        self._questions[key] = question
        self.asked += 1
        cut_off = all(self._shunned.get(one, 0.0) > self._loop.now for one in question.order)
        question.deadline = self._loop.later(
            CUT_OFF_S if cut_off else PATIENCE_S, lambda: self._end(question, question.fallback)
        )
        self._next(question)
        return True

    def _order(self) -> list[str]:
        servers = self._servers()
        shunned = {one for one in servers if self._shunned.get(one, 0.0) > self._loop.now}
        # None of them is left out: those shunned may be all there are.
        return ([one for one in servers if one not in shunned] + [one for one in servers if one in shunned]) * ROUNDS

    def _next(self, question: _Question) -> None:
        """Ask one more."""
        while question.order:
            server = question.order.pop(0)
            try:
                question.tries.append(_Try(self, question, server))
            except OSError:
                self.shun(server)
                continue
            if question.timer is not None:
                question.timer.cancel()
            question.timer = self._loop.later(TRY_S, functools.partial(self._late, question, server))
            return
        if not question.tries:
            self._end(question, question.fallback)

    def _late(self, question: _Question, server: str) -> None:
        self.shun(server)
        self._next(question)

    def shun(self, server: str) -> None:
        """Ask this one last for a while."""
        self._shunned[server] = self._loop.now + SHUNNED_S

    def answered(self, question: _Question, one: _Try, answer: bytes) -> None:
        """A try has come to an end."""
        self._close(question, one)
        if answer[3] & 0x0F in (_SERVFAIL, _REFUSED) and (question.order or question.tries):
            question.fallback = answer
            if not question.tries:
                self._next(question)
            return
        self._shunned.pop(one.server, None)
        self._end(question, answer)

    def broken(self, question: _Question, one: _Try) -> None:
        """A try has come to nothing."""
        self.shun(one.server)
        self._close(question, one)
        if not question.tries:
            self._next(question)

    def _close(self, question: _Question, one: _Try) -> None:
        question.tries.remove(one)
        one.close()

    def _end(self, question: _Question, answer: bytes | None) -> None:
        if self._questions.pop(question.key, None) is None:
            return
        for timer in (question.timer, question.deadline):
            if timer is not None:
                timer.cancel()
        for one in question.tries:
            one.close()
        if answer is None:
            self.failed += 1
        for waiter in question.waiters:
            self._waiting -= 1
            self._of_client[waiter.client] -= 1
            if not self._of_client[waiter.client]:
                del self._of_client[waiter.client]
            waiter.done(None if answer is None else waiter.id + answer[2:])

    @property
    def loop(self) -> Loop:
        """Of the process."""
        return self._loop


class _Try:
    """One server asked once.

    Raises:
        OSError: it cannot be asked.
    """

    __slots__ = ("_forwarder", "_id", "_out", "_question", "_received", "_sock", "_tcp", "server")

    def __init__(self, forwarder: Forwarder, question: _Question, server: str) -> None:
        self._forwarder = forwarder
        self._question = question
        self.server = server
        query, self._tcp = question.key
        self._id = os.urandom(2)
        self._received = b""
        message = self._id + query
        family, _, _, _, place = socket.getaddrinfo(server, PORT, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)[
            0
        ]
        kind = (socket.SOCK_STREAM if self._tcp else socket.SOCK_DGRAM) | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
        self._sock = socket.socket(family, kind)
        try:
            if self._tcp:
                self._out = len(message).to_bytes(2, "big") + message
                with contextlib.suppress(BlockingIOError):
                    self._sock.connect(place)
                forwarder.loop.watch(self._sock.fileno(), self._ready, OUT)
            else:
                self._out = b""
                self._sock.connect(place)
                self._sock.send(message)
                forwarder.loop.watch(self._sock.fileno(), self._ready)
        except BaseException:
            self._sock.close()
            raise

    def close(self) -> None:
        """Wait for it no more."""
        self._forwarder.loop.forget(self._sock.fileno())
        self._sock.close()

    def _ready(self, _events: int) -> None:
        try:
            answer = self._take_stream() if self._tcp else self._sock.recv(65535)
        except BlockingIOError:
            return
        except OSError:
            self._forwarder.broken(self._question, self)
            return
        if answer and self._fits(answer):
            self._forwarder.answered(self._question, self, answer)

    def _take_stream(self) -> bytes:
        """The whole answer, or nothing yet."""
        if self._out:
            error = self._sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if error:
                raise OSError(error, os.strerror(error))
            self._out = self._out[self._sock.send(self._out) :]
            if not self._out:
                self._forwarder.loop.watch(self._sock.fileno(), self._ready, IN)
            return b""
        data = self._sock.recv(65536)
        if not data:
            raise ConnectionResetError
        self._received += data
        length = int.from_bytes(self._received[:2], "big")
        if len(self._received) < 2 + length or len(self._received) < 2:
            return b""
        answer = self._received[2 : 2 + length]
        if not self._fits(answer):
            raise ConnectionResetError
        return answer

    def _fits(self, answer: bytes) -> bool:
        """Whether it is an answer to this: id and question are those that were sent."""
        if len(answer) < HEADER or answer[:2] != self._id or not answer[2] & _QR:
            return False
        query, end = self._question.key[0], self._question.end
        if answer[4:6] == b"\0\0":
            # Some leave the question out of a refusal.
            return answer[3] & 0x0F != 0
        return answer[4:6] == b"\0\1" and answer[HEADER:end].lower() == query[HEADER - 2 : end - 2].lower()
