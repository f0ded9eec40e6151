"""Reading and writing descriptors of containers in an asyncio loop, as fast as the other side takes it and no faster."""

from __future__ import annotations

import asyncio
import errno
import os

BLOCK = 1 << 16
LOOK_AGAIN_S = 0.1
"""How often a terminal that nobody has open is looked at: poll would say that it hung up over and over."""


def wake(waiting: asyncio.Future[None] | None) -> None:
    """Let whoever waits go on."""
    if waiting is not None and not waiting.done():
        waiting.set_result(None)


class Reader:
    """What a container writes.

    Args:
        fd: a pipe, a socket or a terminal's master; owned from now on.
    """

    def __init__(self, fd: int) -> None:
        os.set_blocking(fd, False)
        self.fd = fd
        self._loop = asyncio.get_running_loop()
        self._waiting: asyncio.Future[None] | None = None
        self._last = False

    async def read(self, count: int = BLOCK) -> bytes:
        """The next bytes; empty at the end."""
        while self.fd >= 0:
            try:
                return os.read(self.fd, count)
            except BlockingIOError:
                if self._last:
                    return b""
                await self._readable()
            except OSError as error:
                if error.errno != errno.EIO:
                    raise
                # A terminal that nobody has open any more. It stays open: a program that has closed its streams and is about
                # to exit would get SIGHUP from our closing it, and another exit code.
                if self._last:
                    return b""
                await self._pause()
        return b""

    def finish(self) -> None:
        """Let reading end with what is there now: its writer has ended, and children that it left may hold the pipe for ever."""
        self._last = True
        self._wake()

    def close(self) -> None:
        """Close the descriptor; who writes gets EPIPE."""
        if self.fd >= 0:
            self._loop.remove_reader(self.fd)
            os.close(self.fd)
            self.fd = -1
            self._wake()

    def _wake(self) -> None:
        wake(self._waiting)

    async def _readable(self) -> None:
        self._waiting = self._loop.create_future()
        fd = self.fd
        self._loop.add_reader(fd, self._wake)
        try:
            await self._waiting
        finally:
            if self.fd == fd:
                self._loop.remove_reader(fd)

    async def _pause(self) -> None:
        self._waiting = self._loop.create_future()
        handle = self._loop.call_later(LOOK_AGAIN_S, self._wake)
        try:
            await self._waiting
        finally:
            handle.cancel()


class Writer:
    """What a container reads.

    Args:
        fd: a pipe or a terminal's master; owned from now on unless `shared`.
        shared: somebody else closes it.
    """

    def __init__(self, fd: int, *, shared: bool = False) -> None:
        os.set_blocking(fd, False)
        self.fd = fd
        self.shared = shared
        self._loop = asyncio.get_running_loop()
        self._waiting: asyncio.Future[None] | None = None

    async def write(self, data: bytes) -> bool:
        """Write all; False when nobody reads any more."""
        view = memoryview(data)
        while view:
            if self.fd < 0:
                return False
            try:
                view = view[os.write(self.fd, view) :]
            except BlockingIOError:
                await self._writable()
            except OSError as error:
                if error.errno not in (errno.EPIPE, errno.EIO):
                    raise
                return False
        return True

    def close(self) -> None:
        """The end of the input."""
        if self.fd >= 0:
            self._loop.remove_writer(self.fd)
            if not self.shared:
                os.close(self.fd)
            self.fd = -1
            self._wake()

    def _wake(self) -> None:
        wake(self._waiting)

    async def _writable(self) -> None:
        self._waiting = self._loop.create_future()
        fd = self.fd
        self._loop.add_writer(fd, self._wake)
        try:
            await self._waiting
        finally:
            if self.fd == fd:
                self._loop.remove_writer(fd)
