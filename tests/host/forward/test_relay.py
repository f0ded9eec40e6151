"""The relay between two sockets alone: every byte in its order, whatever sizes they come in and however slowly they are taken."""

from __future__ import annotations

import contextlib
import fcntl
import random
import select
import socket
import time
from collections.abc import Callable

import pytest

from nsrun.client.relay import CHUNK, LARGE_PIPES, PAGE, Pair, Pipes

pytestmark = [pytest.mark.host]


def tcp() -> tuple[socket.socket, socket.socket]:
    """Two non-blocking ends of a connection."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        one = socket.create_connection(listener.getsockname())
        other, _ = listener.accept()
    one.setblocking(False)
    other.setblocking(False)
    return one, other


def narrow() -> tuple[socket.socket, socket.socket]:
    """The same without TCP's timers, and with little room."""
    ends = socket.socketpair()
    for end in ends:
        end.setblocking(False)
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 20_000)
    return ends


class Rig:
    """A relay, and the ends that are not the relay's."""

    def __init__(self, ends: Callable[[], tuple[socket.socket, socket.socket]] = tcp) -> None:
        near, self.near = ends()
        far, self.far = ends()
        self.poll = select.epoll()
        self.pipes = Pipes()
        self.pair = Pair(near, far, self.pipes)
        self.open = self.pair.move(self.poll, near.fileno(), select.EPOLLIN | select.EPOLLOUT)

    def turn(self) -> None:
        for fd, events in self.poll.poll(0):
            if self.open:
                self.open = self.pair.move(self.poll, fd, events)

    def close(self) -> None:
        if self.open:
            self.pair.close(self.poll, broken=True)
        for sock in (self.near, self.far):
            sock.close()
        self.pipes.close()
        self.poll.close()


class Way:
    """One direction: who sends, who reads, what there is to say, what has come."""

    def __init__(self, source: socket.socket, sink: socket.socket, data: bytes) -> None:
        self.source, self.sink, self.data = source, sink, data
        self.sent = 0
        self.got = bytearray()
        self.ended = self.complete = False

    def send(self, size: int) -> None:
        if self.sent < len(self.data):
            with contextlib.suppress(BlockingIOError):
                self.sent += self.source.send(self.data[self.sent : self.sent + size])
        elif not self.ended:
            self.source.shutdown(socket.SHUT_WR)
            self.ended = True

    def receive(self, size: int) -> None:
        with contextlib.suppress(BlockingIOError):
            piece = self.sink.recv(size)
            self.got += piece
            self.complete = self.complete or not piece


SIZES = (1, 2, 100, PAGE - 1, PAGE, PAGE + 1, 3 * PAGE, 70_000, 300_000)


@pytest.mark.parametrize("seed", range(20))
def test_bytes_in_all_sizes_come_in_order(seed: int) -> None:
    rng = random.Random(seed)
    rig = Rig(narrow)
    ways = (Way(rig.near, rig.far, rng.randbytes(600_000)), Way(rig.far, rig.near, rng.randbytes(400_000)))
    deadline = time.monotonic() + 30
    try:
        while not all(way.complete for way in ways):
            assert time.monotonic() < deadline
            for way in ways:
                if rng.random() < 0.6:
                    way.send(rng.choice(SIZES))
                if rng.random() < 0.3:
                    way.receive(rng.choice(SIZES))
            if rng.random() < 0.8:
                rig.turn()
        for way in ways:
            assert bytes(way.got) == way.data
        assert not rig.open
    finally:
        rig.close()


def test_small_messages_need_no_pipe(monkeypatch: pytest.MonkeyPatch) -> None:
    rig = Rig()
    taken = []
    monkeypatch.setattr(rig.pipes, "take", lambda: taken.append(1))
    try:
        for number in range(100):
            rig.near.send(b"%d" % number)
            rig.turn()
            assert rig.far.recv(100) == b"%d" % number
        assert not taken
    finally:
        rig.close()


def test_pipes_of_many_that_stand_still_are_small() -> None:
    pipes = Pipes()
    ends = [pipes.take() for _ in range(200)]
    try:
        sizes = [fcntl.fcntl(end[1], fcntl.F_GETPIPE_SZ) for end in ends]
        assert sum(size >= CHUNK for size in sizes) <= LARGE_PIPES
        assert sum(sizes) <= LARGE_PIPES * CHUNK + 200 * 65536
    finally:
        for end in ends:
            pipes.give(end)
        pipes.close()
    # And again: what was given back is counted no more.
    again = pipes.take()
    assert fcntl.fcntl(again[1], fcntl.F_GETPIPE_SZ) >= 65536
    pipes.drop(again)


def test_a_reset_reaches_the_other_side() -> None:
    rig = Rig()
    try:
        rig.near.send(b"x")
        rig.turn()
        assert rig.far.recv(1) == b"x"
        rig.near.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
        rig.near.close()
        rig.turn()
        assert not rig.open
        with pytest.raises(ConnectionResetError):
            rig.far.recv(1)
    finally:
        rig.close()
