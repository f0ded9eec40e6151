"""A command in the container: exit code 0 is success (Kubernetes pkg/probe/exec/exec.go).

Who starts it is the caller's business, as is how it is killed; here its fate and its output are read.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Awaitable, Sequence
from typing import Protocol

from nsrun.native.exec_status import ExecStatus, read_status, status_pair
from nsrun.probes.outcome import OUTPUT_MAX, LocalError, Outcome, Result
from nsrun.probes.wording import duration, errno_word, quoted

DRAIN_S = 0.001
"""Between two reads of output that is too much to be kept: it is read on, lest the command waits, but not as fast as it can write."""
PIPE = 64 * 1024


class Runner(Protocol):
    """What can start a command in the container that is probed."""

    def start(self, status_fd: int, stdio: tuple[int, int, int]) -> Awaitable[None]:
        """Start it; the descriptors stay the caller's. Raises what is not caught here."""

    def kill(self, pid: int) -> None:
        """SIGKILL to it (0 when its pid is not known yet) and to everything that it has started."""


class CommandFailedError(Exception):
    """It could not be started; `status` tells the step that failed."""

    def __init__(self, status: ExecStatus) -> None:
        super().__init__(status.subject)
        self.status = status


async def probe(runner: Runner, command: Sequence[str], timeout_s: float) -> Outcome:
    """Run a command in the container.

    Raises:
        CommandFailedError: it could not be started.
    """
    try:
        run = _Run()
    except OSError as error:
        return Outcome(Result.UNKNOWN, f"exec: {errno_word(error.errno or 0)}", errored=True)
    try:
        try:
            async with asyncio.timeout(timeout_s):
                await runner.start(run.status_fd, run.stdio)
                run.began()
                status = await run.ended
        except TimeoutError:
            runner.kill(run.pid)
            text = f"command timed out: {quoted(' '.join(command))} timed out after {duration(timeout_s)}"
            return Outcome(Result.FAILURE, text)
        except LocalError as error:
            return Outcome(Result.UNKNOWN, str(error), errored=True)
        if status is None:
            return Outcome(Result.UNKNOWN, "the container's sandbox has ended", errored=True)
        if status.kind == "failed":
            raise CommandFailedError(status)
        text = run.output()
        return Outcome(Result.SUCCESS if status.exit_code == 0 else Result.FAILURE, text)
    finally:
        run.close()


class _Run:
    """The descriptors of one run: /dev/null, a pipe for each output, and the socket that tells its fate."""

    def __init__(self) -> None:
        self.pid = 0
        self._loop = asyncio.get_running_loop()
        self.ended: asyncio.Future[ExecStatus | None] = self._loop.create_future()
        self._pauses: set[asyncio.TimerHandle] = set()
        self._texts: dict[int, bytearray] = {}
        with contextlib.ExitStack() as stack:
            null = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
            stack.callback(os.close, null)
            far: list[int] = [null]
            for _ in range(2):
                near, end = os.pipe2(os.O_CLOEXEC)
                far.append(end)
                stack.callback(os.close, near)
                stack.callback(os.close, end)
                os.set_blocking(near, False)
                self._texts[near] = bytearray()
            self._ours, theirs = status_pair()
            self._ours.setblocking(False)
            self._theirs: socket.socket | None = theirs
            stack.pop_all()
        self._far = far
        self.stdio = (far[0], far[1], far[2])
        self.status_fd = theirs.fileno()

    def began(self) -> None:
        """It has its descriptors: ours of the same are in the way of the end of file."""
        self._close_far()
        self._loop.add_reader(self._ours, self._told)
        for near in self._texts:
            self._loop.add_reader(near, self._wrote, near)

    def _told(self) -> None:
        try:
            status = read_status(self._ours)
        except BlockingIOError:
            return
        except (OSError, ValueError):
            status = None
        if status is not None and status.kind == "started":
            self.pid = status.pid
            return
        self._loop.remove_reader(self._ours)
        if not self.ended.done():
            self.ended.set_result(status)

    def _wrote(self, near: int) -> None:
        self._loop.remove_reader(near)
        if not self._read(near):
            return
        if len(self._texts[near]) < OUTPUT_MAX:
            self._loop.add_reader(near, self._wrote, near)
            return
        pause = self._loop.call_later(DRAIN_S, self._go_on, near)
        self._pauses = {one for one in self._pauses if not one.cancelled() and one.when() > self._loop.time()} | {pause}

    def _go_on(self, near: int) -> None:
        if near in self._texts and not self.ended.done():
            self._loop.add_reader(near, self._wrote, near)

    def _read(self, near: int) -> bool:
        """Read what is there; whether there may be more."""
        try:
            data = os.read(near, PIPE)
        except BlockingIOError:
            return True
        except OSError:
            return False
        kept = self._texts[near]
        kept += data[: OUTPUT_MAX - len(kept)]
        return bool(data)

    def output(self) -> str:
        """What it wrote: stdout, then stderr, as a runtime gives them to a kubelet; 10 KiB at most."""
        for near in self._texts:
            self._read(near)
        return b"".join(self._texts.values())[:OUTPUT_MAX].decode("utf-8", "replace")

    def _close_far(self) -> None:
        while self._far:
            os.close(self._far.pop())
        if self._theirs is not None:
            self._theirs.close()
            self._theirs = None

    def close(self) -> None:
        """Give everything back."""
        self._close_far()
        for pause in self._pauses:
            pause.cancel()
        self._loop.remove_reader(self._ours)
        self._ours.close()
        while self._texts:
            near, _ = self._texts.popitem()
            self._loop.remove_reader(near)
            os.close(near)
