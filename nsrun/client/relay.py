"""Carries bytes between pairs of sockets, through pipes in the kernel (splice(2)): they never come to this process.

But for what fits a page: to read and write it is quicker than to move it.

Each direction ends by itself, so that half-open connections work; an error of one side resets the other.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import struct

CHUNK = 1 << 20
"""Bytes that one splice may move, and that a pipe is asked to hold."""
TURNS = 8
"""How often a direction is moved before others get their turn."""
SMALL = 1 << 16
"""Less than this at once and there is, most often, no more: poll is asked, instead of the socket once more."""
LARGE_PIPES = 32
"""So many are asked to hold CHUNK; those of connections beyond keep the kernel's 64 KiB, so that a thousand readers that stand still
cost 64 MB and not a gigabyte."""
PAGE = 4096
"""As much a pipe holds always, however many pipes there are: what was read and cannot be written yet waits there."""
SPARE_PIPES = 32
"""Empty pipes that are kept for the next bytes."""

_IN, _OUT = select.EPOLLIN, select.EPOLLOUT
_SMALL = memoryview(bytearray(PAGE))
"""What one read takes; nothing stays in it."""
_RESET = struct.pack("ii", 1, 0)
_FLAGS = os.SPLICE_F_MOVE | os.SPLICE_F_NONBLOCK


class Pipes:
    """Pipes for those directions that hold bytes right now: an idle connection has none."""

    def __init__(self) -> None:
        self._spare: list[tuple[int, int]] = []
        self._large: set[tuple[int, int]] = set()

    def take(self) -> tuple[int, int]:
        """An empty pipe: its reading and its writing end.

        Raises:
            OSError: EMFILE, ENFILE: there are no descriptors left.
        """
        if self._spare:
            return self._spare.pop()
        ends = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        if len(self._large) < LARGE_PIPES:
            with contextlib.suppress(OSError):
                # fs.pipe-user-pages-soft may not leave room; smaller pipes are slower, not wrong.
                _set_pipe_size(ends[1], CHUNK)
                self._large.add(ends)
        return ends

    def give(self, ends: tuple[int, int]) -> None:
        """Take back a pipe that is empty."""
        if len(self._spare) < SPARE_PIPES:
            self._spare.append(ends)
        else:
            self.drop(ends)

    def drop(self, ends: tuple[int, int]) -> None:
        """Take back a pipe that may hold bytes: nobody wants them any more."""
        self._large.discard(ends)
        _close(ends)

    def close(self) -> None:
        """Close the spare ones."""
        while self._spare:
            self.drop(self._spare.pop())


def _set_pipe_size(fd: int, size: int) -> None:
    import fcntl

    fcntl.fcntl(fd, fcntl.F_SETPIPE_SZ, size)


def _close(ends: tuple[int, int]) -> None:
    for fd in ends:
        os.close(fd)


class Direction:
    """Bytes from one socket to the other.

    Attributes:
        held: bytes in the pipe: read, and not yet taken by the other side.
        last: the source has said its last.
        ended: and the sink was told so.
    """

    def __init__(self, source: socket.socket, sink: socket.socket, pipes: Pipes) -> None:
        self._source, self._sink, self._told = source.fileno(), sink.fileno(), sink
        self._recv, self._send = source.recv_into, sink.send
        self._streams = False
        self.held = 0
        self.ended = False
        self.last = False
        self._pipes = pipes
        self._ends: tuple[int, int] | None = None

    def pass_on(self) -> bool:
        """Move up to a page by reading and writing it, when nothing is held.

        Returns:
            Whether that was all there is: nothing is held, and the source has not said its last.

        Raises:
            OSError: one of the sides was reset.
        """
        if self._streams:
            return False
        try:
            got = self._recv(_SMALL)
        except BlockingIOError:
            return True
        if not got:
            self.last = True
            return False
        try:
            sent = self._send(_SMALL[:got])
        except BlockingIOError:
            sent = 0
        if sent == got < PAGE:
            return True
        if sent < got:
            ends = self._ends = self._pipes.take()
            self.held = os.write(ends[1], _SMALL[sent:got])
        return False

    def move(self) -> None:
        """Move what can be moved.

        Raises:
            OSError: one of the sides was reset.
        """
        ends = self._ends
        if ends is None:
            ends = self._ends = self._pipes.take()
        with contextlib.suppress(BlockingIOError):
            for _ in range(TURNS):
                got = self.held
                if not got:
                    if self.last:
                        break
                    got = self.held = os.splice(self._source, ends[1], CHUNK, flags=_FLAGS)
                    self.last = not got
                while self.held:
                    self.held -= os.splice(ends[0], self._sink, self.held, flags=_FLAGS)
                self._streams = got >= SMALL
                if not self._streams and not self.last:
                    break
        if self.held:
            return
        self._pipes.give(ends)
        self._ends = None
        if self.last and not self.ended:
            self.ended = True
            with contextlib.suppress(OSError):
                self._told.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """Drop what is held."""
        if self._ends is not None:
            self._pipes.drop(self._ends)
            self._ends = None


class Pair:
    """Two connected, non-blocking sockets and the bytes between them. Owns both.

    Args:
        near: the side of whoever connected to us.
        far: the side of the pod.
    """

    def __init__(self, near: socket.socket, far: socket.socket, pipes: Pipes) -> None:
        self.near, self.far = near, far
        self._up, self._down = Direction(near, far, pipes), Direction(far, near, pipes)
        self._near, self._far = near.fileno(), far.fileno()
        self._asked = {self._near: 0, self._far: 0}
        self._calm = False

    def move(self, poll: select.epoll, fd: int, events: int) -> bool:
        """Move bytes after `events` of the descriptor `fd`, and ask `poll` for what is waited for next.

        Returns:
            False when both directions have ended, or one of the sides was reset: the pair is closed then.
        """
        out, into = (self._up, self._down) if fd == self._near else (self._down, self._up)
        try:
            if events == _IN and self._calm and out.pass_on():
                return True
            if events & ~_OUT:
                out.move()
            if events & ~_IN:
                into.move()
        except OSError:
            # Also without descriptors for a pipe: a connection that stands still for ever is worse than one that ends.
            self.close(poll, broken=True)
            return False
        up, down = self._up, self._down
        if up.ended and down.ended:
            self.close(poll)
            return False
        near = (0 if up.held or up.last else _IN) | (_OUT if down.held else 0)
        far = (0 if down.held or down.last else _IN) | (_OUT if up.held else 0)
        if near != self._asked[self._near]:
            self._ask(poll, self._near, near)
        if far != self._asked[self._far]:
            self._ask(poll, self._far, far)
        self._calm = near == far == _IN
        return True

    def _ask(self, poll: select.epoll, fd: int, wanted: int) -> None:
        """A socket of which nothing is wanted is not watched at all: its hang-up would be reported again and again."""
        known, self._asked[fd] = self._asked[fd], wanted
        if known and wanted:
            poll.modify(fd, wanted)
        elif wanted:
            poll.register(fd, wanted)
        elif known:
            poll.unregister(fd)

    def close(self, poll: select.epoll, *, broken: bool = False) -> None:
        """Close both sides; when the pair is `broken` they learn that bytes are missing."""
        for fd, sock in ((self._near, self.near), (self._far, self.far)):
            self._ask(poll, fd, 0)
            if broken:
                reset(sock)
            else:
                sock.close()
        self._up.close()
        self._down.close()


def reset(sock: socket.socket) -> None:
    """Close a connection so that its other end gets an error, not an end."""
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    sock.close()
