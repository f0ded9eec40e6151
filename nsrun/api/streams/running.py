"""Processes in containers and their streams: begun by exec, or found by attach. The server only introduces (pod.exec, pod.attach)."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import os
import socket
import struct
import termios
from dataclasses import dataclass
from typing import Any

from nsrun import native
from nsrun.api.streams.calls import Calls
from nsrun.api.streams.channels import STDERR, STDOUT
from nsrun.api.streams.pipes import Reader, Writer, wake
from nsrun.client.wire import ConnectionLost, close_all
from nsrun.errors import NsrunError, errno_text
from nsrun.native.exec_status import ExecStatus, read_status, status_pair


class BeginningError(Exception):
    """A command did not begin; why, in words for the client."""


class LostError(Exception):
    """A command's end is not known: the pod's shim is gone, and its containers with it."""


@dataclass(frozen=True)
class Options:
    """What a client asks for."""

    container: str
    command: tuple[str, ...]
    stdin: bool
    stdout: bool
    stderr: bool
    tty: bool


class Running:
    """A process and its streams.

    Attributes:
        stdin: takes the client's input, where it has any.
        outputs: what comes from it, by channel.
        terminal: the master of its terminal, or -1; closed with the streams.
    """

    def __init__(self) -> None:
        self.stdin: Writer | None = None
        self.outputs: dict[int, Reader] = {}
        self.terminal = -1

    def resize(self, rows: int, columns: int) -> None:
        """Set the terminal's size."""
        if self.terminal >= 0:
            with contextlib.suppress(OSError):
                fcntl.ioctl(self.terminal, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def close(self) -> None:
        """Let go of it: its input ends, a terminal hangs up; otherwise it goes on."""
        if self.stdin is not None:
            self.stdin.close()
        for reader in self.outputs.values():
            reader.close()
        self.terminal = -1


class Executed(Running):
    """A command that was executed.

    Args:
        status: where the shim tells of it.
    """

    def __init__(self, status: socket.socket) -> None:
        super().__init__()
        status.setblocking(False)
        self._status = status
        self._loop = asyncio.get_running_loop()

    async def told(self) -> ExecStatus | None:
        """The shim's next words; None when it is gone."""
        while True:
            try:
                return read_status(self._status)
            except BlockingIOError:
                there: asyncio.Future[None] = self._loop.create_future()
                number = self._status.fileno()
                self._loop.add_reader(number, wake, there)
                try:
                    await there
                finally:
                    self._loop.remove_reader(number)

    @property
    def abandoned(self) -> bool:
        """Nobody has the other end of the status socket, and nothing was said."""
        try:
            return self._status.recv(1, socket.MSG_PEEK) == b""
        except BlockingIOError:
            return False

    async def ended(self) -> int:
        """Wait for its end: the exit code, 128+n for signal n.

        Raises:
            LostError: the shim is gone.
        """
        last = await self.told()
        if last is None:
            raise LostError("the process was lost with its container")
        return last.exit_code

    def close(self) -> None:
        """Let go of it."""
        super().close()
        if self._status.fileno() >= 0:
            self._loop.remove_reader(self._status.fileno())
            self._status.close()


class Attached(Running):
    """A container's main process. Its end is the end of its output."""


async def execute(calls: Calls, pod: dict[str, Any], options: Options) -> Executed:
    """Begin a command.

    The answer of the server only says that the shim has it. When the server dies before answering, the status socket knows better: its
    end without a message says that nobody has it, and it can be asked for again.

    Raises:
        BeginningError: it cannot be executed, or its container does not run.
    """
    params = {
        "name": pod["metadata"]["name"],
        "namespace": pod["metadata"]["namespace"],
        "container": options.container,
        "command": list(options.command),
        "tty": options.tty,
        "env": ["TERM=xterm"] if options.tty else None,
    }
    while True:
        process, theirs = _prepared(options)
        try:
            try:
                with contextlib.ExitStack() as stack:
                    stack.callback(close_all, theirs)
                    _result, fds = await calls.request_once("pod.exec", params, theirs)
                close_all(fds)
            except ConnectionLost:
                if process.abandoned:
                    process.close()
                    continue
            except NsrunError as error:
                raise BeginningError(error.brief) from error
            await _begun(process, options)
        except BaseException:
            process.close()
            raise
        return process


async def _begun(process: Executed, options: Options) -> None:
    """Wait until the command runs, and take its terminal over."""
    first = await process.told()
    if first is None:
        raise BeginningError("the container has just ended")
    if first.kind == "failed":
        raise BeginningError(_why(first, options.command[0]))
    if not options.tty:
        return
    if first.terminal is None:
        raise BeginningError("it got no terminal")
    process.terminal = first.terminal
    process.outputs[STDOUT] = Reader(first.terminal)
    if options.stdin:
        process.stdin = Writer(first.terminal, shared=True)


def _why(told: ExecStatus, command: str) -> str:
    """As runc words it: clients look for these."""
    start = f'exec failed: unable to start container process: exec: "{command}": '
    if told.op != native.lib.NSR_OP_EXEC:
        return f"exec failed: unable to start container process: {told.subject}: {errno_text(told.error)}"
    if told.error == errno.ENOENT and "/" not in command:
        return start + "executable file not found in $PATH"
    return start + os.strerror(told.error).lower()


def _prepared(options: Options) -> tuple[Executed, list[int]]:
    """Our side of an exec, and the descriptors for the other side."""
    ours, status = status_pair()
    process, theirs = Executed(ours), [status.detach()]
    if options.tty:
        return process, theirs
    if options.stdin:
        far, near = os.pipe2(os.O_CLOEXEC)
        process.stdin = Writer(near)
    else:
        far = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
    theirs.append(far)
    for channel, wanted in ((STDOUT, options.stdout), (STDERR, options.stderr)):
        if wanted:
            near, far = os.pipe2(os.O_CLOEXEC)
            process.outputs[channel] = Reader(near)
        else:
            far = os.open("/dev/null", os.O_WRONLY | os.O_CLOEXEC)
        theirs.append(far)
    return process, theirs


async def attach(calls: Calls, pod: dict[str, Any], options: Options) -> Attached:
    """Attach to a container's main process.

    Raises:
        BeginningError: it does not run, or has no input.
    """
    process = Attached()
    theirs: list[int] = []
    params = {
        "name": pod["metadata"]["name"],
        "namespace": pod["metadata"]["namespace"],
        "container": options.container,
        "stdin": options.stdin,
    }
    try:
        for channel in (STDOUT,) if options.tty else (STDOUT, STDERR):
            near, far = os.pipe2(os.O_CLOEXEC)
            process.outputs[channel] = Reader(near)
            theirs.append(far)
        try:
            with contextlib.ExitStack() as stack:
                stack.callback(close_all, theirs)
                answer, fds = await calls.request_once("pod.attach", params, theirs)
        except ConnectionLost:
            raise BeginningError("the server ended over it") from None
        except NsrunError as error:
            raise BeginningError(error.brief) from error
        if fds:
            process.stdin = Writer(fds[0])
            close_all(fds[1:])
            if answer.get("tty"):
                process.terminal = fds[0]
            if not options.stdin and not options.tty:
                process.stdin.close()
    except BaseException:
        process.close()
        raise
    return process
