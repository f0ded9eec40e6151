"""Reading and following containers' logs: the server hands over open files, everything else happens here.

The files are read with pread at offsets of our own, so a server that dies takes nothing along: the next one hands the same
files over again, they are recognised, and reading goes on where it was.
"""

from __future__ import annotations

import contextlib
import heapq
import os
import select
import time
from collections.abc import Iterator, Sequence
from itertools import chain

from nsrun.client.crilog import LogLine, order
from nsrun.client.logfiles import ContainerLog, LogFile
from nsrun.client.logfiles import Query as Query
from nsrun.client.session import Call, Cancelled, Session, hung_up, kills
from nsrun.client.wire import Connection, ConnectionLost, Message, close_all
from nsrun.errors import NotFoundError, NsrunError

LOOK_AGAIN_MS = 100
"""How often files are looked at where the kernel has no inotify left to give."""

MAX_LOSSES = 20


def moment(seconds_ago: float) -> str:
    """The time `seconds_ago` as it stands in log files, without the Z."""
    at = time.time_ns() - int(seconds_ago * 1e9)
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(at // 1_000_000_000)) + f".{at % 1_000_000_000:09d}"


def read(session: Session, queries: Sequence[Query], call: Call | None = None) -> Iterator[list[LogLine]]:
    """What is in the logs now, several containers merged by time, in batches.

    Raises:
        NsrunError: the pod or container is not there, or has no such log.
    """
    logs: list[ContainerLog] = []
    try:
        for query in queries:
            log = ContainerLog(query)
            answer, fds = session.request("pod.logs", query.params(follow=False), call=call)
            log.listed(answer, fds)
            logs.append(log)
            log.ended()
            log.place()
        if len(logs) == 1:
            yield from batches(logs[0])
        else:
            yield from merged(logs)
    finally:
        for log in logs:
            log.close()


def batches(log: ContainerLog) -> Iterator[list[LogLine]]:
    """All that can be read of one log."""
    while lines := log.read():
        yield lines


def merged(logs: Sequence[ContainerLog]) -> Iterator[list[LogLine]]:
    """All that can be read of several logs, by time."""
    batch: list[LogLine] = []
    for line in heapq.merge(*(chain.from_iterable(batches(log)) for log in logs), key=order):
        batch.append(line)
        if len(batch) >= 1000:
            yield batch
            batch = []
    if batch:
        yield batch


class Watcher:
    """Tells when one of several files has grown: inotify, or a look now and then where there is none."""

    def __init__(self) -> None:
        self.fd = -1
        try:
            from nsrun import native

            self.fd = native.inotify_init1(native.lib.IN_NONBLOCK)
        except (ImportError, OSError):
            # No instance or no watch left (fs.inotify.max_user_*): slower, not wrong.
            self.fd = -1

    def close(self) -> None:
        """Give the watches back."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def add(self, file: LogFile) -> bool:
        """Watch a file; True when it was not watched before."""
        if self.fd < 0 or file.watch >= 0:
            return False
        from nsrun import native

        try:
            file.watch = native.inotify_add_watch(self.fd, f"/proc/self/fd/{file.fd}", native.lib.IN_MODIFY)
        except OSError:
            self.close()
        return True

    def clear(self) -> None:
        """Forget what has been told."""
        with contextlib.suppress(BlockingIOError):
            while os.read(self.fd, 65536):
                pass

    @property
    def patience_ms(self) -> int | None:
        """How long poll may wait."""
        return None if self.fd >= 0 else LOOK_AGAIN_MS


class Follower:
    """Follows the logs of several containers over instances, rotations and server deaths."""

    def __init__(self, session: Session, queries: Sequence[Query], call: Call | None = None) -> None:
        self._session = session
        self._call = call
        self._logs = [ContainerLog(query) for query in queries]
        self._connections: dict[int, tuple[Connection, ContainerLog, int]] = {}
        self._watcher = Watcher()
        self._losses = 0

    def lines(self) -> Iterator[list[LogLine]]:
        """Batches of lines; ends when nothing will come any more.

        Raises:
            NsrunError: the pod or container is not there.
            Cancelled: through the call.
        """
        try:
            for log in self._logs:
                self._ask(log)
                log.place()
            yield from self._there()
            while True:
                for log in self._logs:
                    while lines := log.read():
                        yield lines
                if all(log.done and not log.files for log in self._logs):
                    return
                # What is written between the last read and the watch nobody tells of: read once more after a new watch.
                if not any(self._watcher.add(file) for log in self._logs for file in log.files):
                    self._wait()
        finally:
            self.close()

    def close(self) -> None:
        """Close connections, files and watches."""
        for connection, _log, _number in self._connections.values():
            self._drop(connection)
        self._connections.clear()
        for log in self._logs:
            log.close()
        self._watcher.close()

    def _there(self) -> Iterator[list[LogLine]]:
        """What was written before we came, by time."""
        if len(self._logs) == 1:
            yield from batches(self._logs[0])
        else:
            yield from merged(self._logs)

    def _ask(self, log: ContainerLog) -> None:
        """Ask for a log, from servers that may die, until one answers."""
        while True:
            if self._call is not None and self._call.cancelled:
                raise Cancelled
            connection = self._session.connection()
            if self._call is not None:
                self._call.attach(connection)
            try:
                number = connection.send("pod.logs", {**log.query.params(follow=True), "first": log.first})
                while True:
                    message, fds = connection.receive()
                    if message.get("id") == number or hung_up(message):
                        break
                    close_all(fds)
                if "error" in message:
                    close_all(fds)
                    raise NsrunError.from_data(message["error"])
            except ConnectionLost:
                self._drop(connection)
                self._lost()
                continue
            except BaseException:
                self._drop(connection)
                raise
            log.listed(message.get("result") or message.get("event") or {}, fds)
            self._connections[connection.fileno()] = (connection, log, number)
            return

    def _drop(self, connection: Connection) -> None:
        if self._call is not None:
            self._call.detach(connection)
        connection.close()

    def _lost(self) -> None:
        self._losses += 1
        if self._losses > MAX_LOSSES:
            raise kills(self._session.root, "pod.logs", self._losses)
        time.sleep(min(0.005 * 2**self._losses, 0.5))

    def _event(self, log: ContainerLog, event: Message, fds: list[int]) -> None:
        if "files" in event:
            log.listed(event, fds)
        else:
            close_all(fds)
        if event.get("ended"):
            log.ended()

    def _wait(self) -> None:
        """Sleep until a file grew or the server says something."""
        poller = select.poll()
        for fd in self._connections:
            poller.register(fd, select.POLLIN)
        if self._watcher.fd >= 0:
            poller.register(self._watcher.fd, select.POLLIN)
        for fd, _mask in poller.poll(self._watcher.patience_ms):
            if fd == self._watcher.fd:
                self._watcher.clear()
            else:
                self._hear(fd)

    def _hear(self, fd: int) -> None:
        connection, log, number = self._connections[fd]
        try:
            message, fds = connection.receive()
        except ConnectionLost:
            del self._connections[fd]
            self._drop(connection)
            if self._call is not None and self._call.cancelled:
                raise Cancelled from None
            if not log.done:
                self._lost()
                self._ask_again(log)
            return
        self._losses = 0
        if message.get("id") != number:
            close_all(fds)
        elif "event" in message:
            self._event(log, message["event"], fds)
        else:
            close_all(fds)
            if "error" in message:
                raise NsrunError.from_data(message["error"])
            # The answer to a request that follows: nothing will come any more. An empty one after a first event only ends it.
            if not message.get("result"):
                log.ended()
        if log.done:
            del self._connections[fd]
            self._drop(connection)

    def _ask_again(self, log: ContainerLog) -> None:
        """After a server's death. A pod that is gone by now has said all it had to say."""
        try:
            self._ask(log)
        except NotFoundError:
            log.ended()
