"""Reading and following containers' logs: the server hands over open files, everything else happens here.

The files are read with pread at offsets of our own, so a server that dies takes nothing along: the next one hands the same
files over again, they are recognised by their inode, and reading goes on where it was.
"""

from __future__ import annotations

import contextlib
import heapq
import os
import select
import time
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from nsrun.client import crilog
from nsrun.client.crilog import Joiner, LogLine, order
from nsrun.client.session import Call, Cancelled, Session, hung_up, kills
from nsrun.client.wire import Connection, ConnectionLost, Message, close_all
from nsrun.errors import NotFoundError, NsrunError

CHUNK = 1 << 18
LOOK_AGAIN_MS = 100
"""How often files are looked at where the kernel has no inotify left to give."""

MAX_LOSSES = 20


class Query(NamedTuple):
    """Which log.

    Attributes:
        pod, namespace: of the pod.
        container: name, or None for the pod's default container.
        previous: the instance before the current one.
        tail: only this many last lines of what is there, or None.
        since: only lines from this moment on: RFC 3339 in UTC with nanoseconds, without the Z; or empty.
    """

    pod: str
    namespace: str | None
    container: str | None = None
    previous: bool = False
    tail: int | None = None
    since: str = ""

    def params(self, *, follow: bool) -> Message:
        """The request's members."""
        return {
            "name": self.pod,
            "namespace": self.namespace,
            "container": self.container,
            "previous": self.previous,
            "follow": follow,
        }


def moment(seconds_ago: float) -> str:
    """The time `seconds_ago` as it stands in log files, without the Z."""
    at = time.time_ns() - int(seconds_ago * 1e9)
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(at // 1_000_000_000)) + f".{at % 1_000_000_000:09d}"


class LogFile:
    """An open log file of one instance of a container."""

    def __init__(self, fd: int, attempt: int) -> None:
        self.fd = fd
        self.attempt = attempt
        status = os.fstat(fd)
        self.key = (status.st_dev, status.st_ino, attempt)
        self.offset = 0
        self.emit_from = 0
        self.final = False
        self.watch = -1

    def close(self) -> None:
        """Close the descriptor."""
        os.close(self.fd)

    def size(self) -> int:
        """Bytes in it now."""
        return os.fstat(self.fd).st_size


class ContainerLog:
    """One container's log over all its files, as lines.

    Args:
        query: which log and how much of it.
    """

    def __init__(self, query: Query) -> None:
        self.query = query
        self.container = query.container or ""
        self.files: list[LogFile] = []
        self.done = False
        self._joiner = Joiner(self.container)
        self._finished: set[tuple[int, int, int]] = set()

    def close(self) -> None:
        """Close all files."""
        for file in self.files:
            file.close()
        self.files.clear()

    def introduced(self, answer: Message, fds: list[int]) -> None:
        """Take the answer to `pod.logs`: the files there are, oldest first. Known ones keep their place."""
        self.container = str(answer.get("container") or self.query.container or "")
        self._joiner.container = self.container
        told: Sequence[Message] = answer.get("files") or []
        known = {file.key: file for file in self.files}
        kept: list[LogFile] = []
        for fd, about in zip(fds, told, strict=False):
            file = LogFile(fd, int(about.get("attempt") or 0))
            old = known.pop(file.key, None)
            if old is not None:
                file.close()
                kept.append(old)
            elif file.key in self._finished:
                file.close()
            else:
                file.final = bool(about.get("ended"))
                kept.append(file)
        close_all(fds[len(told) :])
        # A file that the server no longer lists was rotated away while we read it: it comes before all others.
        self.files = [*known.values(), *kept]
        for file in self.files[:-1]:
            file.final = True

    def began(self, about: Message, fds: list[int]) -> None:
        """Take the event of a new file: the ones before it get nothing more."""
        for fd in fds[:1]:
            file = LogFile(fd, int(about.get("attempt") or 0))
            if file.key in self._finished or any(file.key == other.key for other in self.files):
                file.close()
                continue
            for other in self.files:
                other.final = True
            self.files.append(file)
        close_all(fds[1:])

    def ended(self) -> None:
        """Take the event that nothing will come any more."""
        for file in self.files:
            file.final = True
        self.done = True

    def place(self) -> None:
        """Go to where the query wants reading to begin; once, before the first read."""
        wanted = self.query.tail
        keep: list[LogFile] = []
        for file in reversed(self.files):
            if wanted is not None and wanted <= 0:
                file.offset = file.emit_from = file.size()
                if not keep:
                    keep.append(file)
                else:
                    file.close()
                continue
            if wanted is not None:
                start, found = crilog.last_lines(file.fd, file.size(), wanted)
                file.offset, file.emit_from = start
                wanted -= found
            if self.query.since:
                first = crilog.since(file.fd, file.size(), self.query.since)
                if first > file.emit_from:
                    file.offset, file.emit_from = first, first
            keep.append(file)
        self.files = keep[::-1]

    def read(self) -> list[LogLine]:
        """Lines that are there and were not given yet; at most about one chunk. Empty: there are none now."""
        while self.files:
            file = self.files[0]
            data = os.pread(file.fd, CHUNK, file.offset)
            end = data.rfind(b"\n") + 1
            if not end and len(data) == CHUNK:
                data, end = self._long_line(file, data)
            if end:
                return self._lines(file, data[:end])
            if not file.final:
                return []
            left = self._finish(file, data)
            if left:
                return left
        return []

    def _long_line(self, file: LogFile, data: bytes) -> tuple[bytes, int]:
        """A physical line longer than a chunk: never the shim's, but nothing is dropped."""
        while b"\n" not in data:
            more = os.pread(file.fd, CHUNK, file.offset + len(data))
            if not more:
                return data, 0
            data += more
        return data, data.rfind(b"\n") + 1

    def _lines(self, file: LogFile, data: bytes) -> list[LogLine]:
        position = file.offset
        file.offset += len(data)
        found: list[LogLine] = []
        since = self.query.since
        for raw in data[:-1].split(b"\n"):
            line = self._joiner.feed(crilog.parse(raw))
            if line is not None and position >= file.emit_from and (not since or order(line) >= since):
                found.append(line)
            position += len(raw) + 1
        return found or self.read()

    def _finish(self, file: LogFile, rest: bytes) -> list[LogLine]:
        """Leave a file that gets nothing more; `rest` is a record cut off by a full disk or a dead shim."""
        self.files.pop(0)
        self._finished.add(file.key)
        found: list[LogLine] = []
        if rest:
            line = self._joiner.feed(crilog.parse(rest))
            found += [line] if line is not None else []
        # A line may go on in the next file of the same instance (rotation), never in another instance's.
        if not self.files or self.files[0].attempt != file.attempt:
            found += self._joiner.flush()
        file.close()
        return found


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
            log.introduced(answer, fds)
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
    for line in heapq.merge(*([line for lines in batches(log) for line in lines] for log in logs), key=order):
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
                number = connection.send("pod.logs", log.query.params(follow=True))
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
            log.introduced(message.get("result") or message.get("event") or {}, fds)
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
        if "file" in event:
            log.began(event["file"], fds)
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
