"""The connection to a pod's shim: found again by each server, and what comes in over it."""

from __future__ import annotations

import asyncio
import errno
from typing import TYPE_CHECKING

from nsrun.errors import StepError, errno_text
from nsrun.server import containers, logdir, sandbox
from nsrun.server.pause import is_pause
from nsrun.server.trace import mark
from nsrun.shim import Event, Exited, JobEnded, LogBlocked, ShimClient, ShimError, StartEnded, shim_alive
from nsrun.status.events import FAILED_SYNC, LOG_BLOCKED, WARNING

if TYPE_CHECKING:
    from nsrun.server.engine import PodEngine

HELLO_S = 5.0
"""How long a living shim may take to answer before it is asked anew."""


class ShimLink:
    """The connection to the shim of one pod; what the shim tells goes into the pod's mirror and wakes it.

    Attributes:
        client: the shim, while there is a connection.
        pid: of the shim, while there is a connection.
    """

    def __init__(self, engine: PodEngine) -> None:
        self._engine = engine
        self.client: ShimClient | None = None
        self.pid: int | None = None

    async def connect(self) -> None:
        """Find the pod's shim again, if one lives and its sandbox was finished.

        Raises:
            NsrunError: it lives, but does not answer.
        """
        engine = self._engine
        if self.client is not None or not engine.ledger.sandbox_ready or not shim_alive(engine.paths.directory):
            return
        try:
            client = await ShimClient.connect(engine.paths.directory)
        except ShimError as error:
            if error.number != errno.ENOENT:
                raise
            # Somebody removed its socket: nobody will ever reach it again.
            text = f"{engine.paths.shim_socket} is gone; the sandbox cannot be reached any more"
            engine.note(WARNING, FAILED_SYNC, text)
            await sandbox.end_shim(engine.paths, engine.label)
            return
        try:
            await asyncio.wait_for(self.take(client), HELLO_S)
        except BaseException as error:
            client.close()
            if isinstance(error, TimeoutError):
                raise StepError("ask the shim of", engine.label, errno.ETIMEDOUT) from error
            raise
        await containers.collect_roots(engine)

    async def take(self, client: ShimClient) -> None:
        """Make `client` the pod's shim: subscribe first, then list, so that no exit is missed in between.

        All is asked at once: the shim answers in the order of the requests.
        """
        engine = self._engine
        engine.mirror.take(())
        client.on_event = self._on_event
        client.on_close = lambda: self._on_close(client)
        hello, _, records = await asyncio.gather(client.hello(), client.subscribe(), client.list())
        for record in records:
            engine.mirror.note(record)
            if not is_pause(record):
                logdir.link(engine, record)
        self.client = client
        self.pid = hello.pid
        engine.hooks.tell()

    def close(self) -> None:
        """End the connection; the shim runs on."""
        if self.client is not None:
            self.client.close()

    def lose(self) -> None:
        """Forget the connection: the shim is gone, or is to be looked for again."""
        if self.client is not None:
            self.client.on_close = None
            self.client.close()
        self.client = None
        self.pid = None
        self._engine.hooks.tell()

    def _on_event(self, event: Event) -> None:
        engine = self._engine
        if isinstance(event, Exited):
            mark(engine.label, f"exited {event.record.name}")
            engine.mirror.note(event.record)
            # A sleep ends with its container, and a request is not waited for much longer.
            engine.hooks.tell()
            engine.wake()
            return
        engine.hooks.tell()
        if isinstance(event, StartEnded):
            # What the last server began: it was listed as starting.
            engine.mirror.note(event.record)
            if not is_pause(event.record):
                logdir.link(engine, event.record)
            engine.wake()
            return
        if isinstance(event, JobEnded):
            return
        number = event.error if isinstance(event, LogBlocked) else 0
        name = engine.mirror.log_blocked(event.id, number)
        if name is not None and number:
            text = f"The log of container {name} cannot be written ({errno_text(number)}): its output waits, nothing is lost"
            engine.note(WARNING, LOG_BLOCKED, text, name)
        # Whoever follows the log is told which of its files are complete now.
        engine.changed.tell()
        engine.wake()

    def _on_close(self, client: ShimClient) -> None:
        if self.client is client:
            self.client = None
            self.pid = None
            self._engine.hooks.tell()
            self._engine.wake()
