"""A terminal of the container's own; its master comes out."""

from __future__ import annotations

import errno
import fcntl
import os
import select
import struct
import termios
from collections.abc import Sequence

import pytest

from nsrun import native
from tests.ns.core.driver import ALONE, Box, Op, op, run

PTS: list[Op] = [
    op("MKDIR", "/dev/pts", 0o755),
    op("MOUNT", "devpts", "/dev/pts", "newinstance", "ptmxmode=0666", "mode=0620"),
    op("SYMLINK", "pts/ptmx", "/dev/ptmx"),
]


def start(box: Box, after: Sequence[Op], command: Sequence[str]) -> native.Child:
    ops = box.program(PTS, after, command=command, stdio=False)
    return native.run(native.encode(ops), clone_flags=ALONE)


def output(child: native.Child) -> list[str]:
    text = b""
    while True:
        assert select.select([child.terminal], [], [], 10)[0], text
        try:
            chunk = os.read(child.terminal, 4096)
        except OSError as error:
            assert error.errno == errno.EIO
            return text.decode().splitlines()
        text += chunk


def test_it_is_the_controlling_terminal(box: Box) -> None:
    with start(box, [op("TERMINAL", 33, 101)], ["seq", "tty", ";", "self", ";", "fds"]) as child:
        lines = output(child)
        assert child.wait() == 0
    for fd in range(3):
        assert any(line.startswith(f"{fd} /dev/pts/0 rows=33 columns=101") for line in lines), lines
        assert f"{fd} /dev/pts/0" in lines
    assert "3 " not in "\n".join(line[:2] for line in lines)


def test_foreground_and_session(box: Box) -> None:
    with start(box, [op("TERMINAL", 24, 80)], ["tty"]) as child:
        assert all(line.endswith("foreground=1") for line in output(child))
        child.wait()


def test_after_setsid_and_resized_from_outside(box: Box) -> None:
    with start(box, [op("SETSID"), op("TERMINAL", 24, 80)], ["winch"]) as child:
        assert b"rows=24 columns=80" in os.read(child.terminal, 100)
        fcntl.ioctl(child.terminal, termios.TIOCSWINSZ, struct.pack("4H", 50, 132, 0, 0))
        assert select.select([child.terminal], [], [], 10)[0]
        assert b"rows=50 columns=132" in os.read(child.terminal, 100)
        os.write(child.terminal, b"\x04")
        assert child.wait() == 0


def test_owner_and_console(box: Box) -> None:
    after = [op("TERMINAL", 24, 80, 1000, 1), op("USER", b"", 1000, 1000)]
    with start(
        box, after, ["seq", "stat", "/dev/pts/0", "/dev/console", ";", "write", "/dev/console", "hello"]
    ) as child:
        lines = output(child)
        assert child.wait() == 0
    device = next(line for line in lines if line.startswith("/dev/pts/0 c ")).split(" ", 1)[1]
    assert device.startswith("c 0620 1000 ")
    assert f"/dev/console {device}" in lines
    assert "hello" in lines


def test_no_devpts(box: Box) -> None:
    with pytest.raises(native.ProgramError) as caught:
        box.run(after=[op("TERMINAL", 24, 80)])
    error = caught.value
    assert (error.code_name, error.errno, error.subject) == ("TERMINAL", errno.ENOENT, "/dev/ptmx")


def test_a_master_that_is_none(box: Box) -> None:
    """An image with a /dev/ptmx of its own."""
    before = [op("FILE", "/dev/ptmx", 0o644)]
    with pytest.raises(native.ProgramError) as caught:
        run(box.program(before, [op("TERMINAL", 24, 80)]))
    assert (caught.value.code_name, caught.value.errno) == ("TERMINAL", errno.ENOTTY)
