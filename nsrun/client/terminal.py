"""The caller's terminal: raw while a container's terminal is shown in it, and always as it was afterwards."""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import struct
import termios
from collections.abc import Callable, Iterator
from types import FrameType

ENDING = (signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)


class Ended(Exception):  # noqa: N818 - not an error: the command was asked to end
    """A signal asked the command to end; `ends_with_signal` is its number."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.ends_with_signal = number


def size(fd: int) -> tuple[int, int]:
    """(rows, columns) of the terminal at `fd`; (24, 80) when it does not know."""
    try:
        columns, rows = os.get_terminal_size(fd)
    except OSError:
        return 24, 80
    return rows or 24, columns or 80


def resize(fd: int, rows: int, columns: int) -> None:
    """Give the terminal at `fd` (a pty's master) a size; the kernel sends SIGWINCH to who runs in it."""
    with contextlib.suppress(OSError):
        fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))


@contextlib.contextmanager
def raw(fd: int) -> Iterator[None]:
    """Every key goes through as it is, Ctrl-C too, until the block is left, by whatever way.

    Signals that would end the process raise Ended inside the block instead, so that the terminal is restored first.

    Args:
        fd: the caller's terminal.
    """
    before = termios.tcgetattr(fd)
    mode = termios.tcgetattr(fd)
    mode[0] &= ~(termios.BRKINT | termios.ICRNL | termios.INPCK | termios.ISTRIP | termios.IXON)
    mode[1] &= ~termios.OPOST
    mode[2] = (mode[2] & ~(termios.CSIZE | termios.PARENB)) | termios.CS8
    mode[3] &= ~(termios.ECHO | termios.ICANON | termios.IEXTEN | termios.ISIG)
    mode[6][termios.VMIN] = 1
    mode[6][termios.VTIME] = 0
    with ending_raises():
        try:
            termios.tcsetattr(fd, termios.TCSADRAIN, mode)
            yield
        finally:
            termios.tcsetattr(fd, termios.TCSADRAIN, before)


@contextlib.contextmanager
def ending_raises() -> Iterator[None]:
    """Inside the block SIGTERM, SIGHUP and SIGQUIT raise Ended."""

    def end(number: int, _frame: FrameType | None) -> None:
        raise Ended(number)

    previous = {number: signal.signal(number, end) for number in ENDING}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def following_size(fd: int, changed: Callable[[int, int], None]) -> Iterator[None]:
    """Inside the block `changed(rows, columns)` is called now and whenever the terminal at `fd` changes its size."""

    def tell(_number: int, _frame: FrameType | None) -> None:
        changed(*size(fd))

    previous = signal.signal(signal.SIGWINCH, tell)
    try:
        changed(*size(fd))
        yield
    finally:
        signal.signal(signal.SIGWINCH, previous)
