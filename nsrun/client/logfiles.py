"""The log of one container over all its files: those of several instances, rotated ones, compressed ones (S-LOG).

The server lists the files, oldest first, and lists them again whenever there are others. Which of them were read already is told by
what they begin with: names and inodes change when a file is rotated and compressed, the time in its first line is its own.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from nsrun.client import crilog
from nsrun.client.crilog import Joiner, LogLine, order
from nsrun.client.wire import Message, close_all
from nsrun.errors import InternalError

if TYPE_CHECKING:
    import zlib

CHUNK = 1 << 18
HEAD = 160
"""Bytes of a file's first line that it is recognised by."""
REMEMBERED = 1000
"""How many files that were read to their end are remembered."""


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


class LogFile:
    """An open log file of one instance of a container.

    Attributes:
        attempt: number of the instance.
        final: nothing will be added to it.
        emit_from: lines whose last record begins before this byte are left out.
        skip: so many lines more are left out.
        watch: its number where it is watched, or -1.
    """

    def __init__(self, fd: int, attempt: int, *, final: bool = False) -> None:
        self.fd = fd
        self.attempt = attempt
        self.final = final
        self.offset = 0
        self.emit_from = 0
        self.skip = 0
        self.watch = -1
        status = os.fstat(fd)
        self.inode = (status.st_dev, status.st_ino)

    def close(self) -> None:
        """Close the descriptor."""
        os.close(self.fd)

    def size(self) -> int:
        """Bytes in it now."""
        return os.fstat(self.fd).st_size

    def peek(self, count: int) -> bytes:
        """Up to `count` bytes from where reading is; fewer only at the end of what there is."""
        return os.pread(self.fd, count, self.offset)

    def advance(self, count: int) -> None:
        """Go on by `count` bytes that were seen."""
        self.offset += count

    def head(self) -> bytes:
        """What its first line begins with; empty while it has none."""
        return os.pread(self.fd, HEAD, 0).split(b"\n", 1)[0]

    def same(self, other: LogFile) -> bool:
        """Whether both, of which this one is open longer, hold the same."""
        if self.attempt != other.attempt:
            return False
        # No two files have one inode while both are open.
        return self.inode == other.inode or (self.head() != b"" and self.head() == other.head())

    def last_lines(self, wanted: int) -> int:
        """Have reading begin so that at most the last `wanted` lines come; how many that are."""
        (self.offset, self.emit_from), found = crilog.last_lines(self.fd, self.size(), wanted)
        return found

    def since(self, moment: str) -> None:
        """Have reading begin where records from `moment` on may stand."""
        first = crilog.since(self.fd, self.size(), moment)
        if first > self.emit_from:
            self.offset = self.emit_from = first

    def tail_of_line(self) -> bool:
        """Have only the pieces read, if there are any, of a line that goes on in the next file."""
        size = self.size()
        self.offset, self.emit_from = crilog.open_pieces(self.fd, size), size
        return self.offset < size

    def nothing(self) -> None:
        """Leave out all that is in it now."""
        self.offset = self.emit_from = self.size()


class PackedFile(LogFile):
    """One that was compressed (gzip) after it was rotated. It can only be read from its beginning on."""

    def __init__(self, fd: int, attempt: int) -> None:
        super().__init__(fd, attempt, final=True)
        self._unpacker: zlib._Decompress | None = None
        self._read = 0
        self._ready = b""

    def peek(self, count: int) -> bytes:
        """Up to `count` bytes from where reading is; fewer only at the end.

        Raises:
            InternalError: it is not what nsrun wrote.
        """
        if len(self._ready) < count:
            parts = [self._ready, *self._unpacked(count - len(self._ready))]
            self._ready = b"".join(parts)
        return self._ready[:count]

    def advance(self, count: int) -> None:
        """Go on by `count` bytes that were seen."""
        self._ready = self._ready[count:]
        self.offset += count

    def _unpacked(self, count: int) -> Iterator[bytes]:
        import zlib

        if self._unpacker is None:
            self._unpacker = zlib.decompressobj(wbits=31)
        while count > 0 and not self._unpacker.eof:
            data = os.pread(self.fd, CHUNK, self._read)
            try:
                unpacked = self._unpacker.decompress(data)
            except zlib.error as error:
                raise _damaged(self.fd, str(error)) from error
            if not data:
                raise _damaged(self.fd, "it ends too early")
            self._read += len(data)
            count -= len(unpacked)
            yield unpacked

    def head(self) -> bytes:
        """What its first line begins with."""
        import zlib

        try:
            return zlib.decompressobj(wbits=31).decompress(os.pread(self.fd, 65536, 0), HEAD).split(b"\n", 1)[0]
        except zlib.error:
            return b""

    def _count(self) -> tuple[int, bool]:
        """How many lines end in it, and whether one goes on in the next file. Reading begins anew afterwards."""
        joiner = Joiner()
        lines, rest = 0, b""
        while data := self.peek(CHUNK):
            self.advance(len(data))
            *records, rest = (rest + data).split(b"\n")
            lines += sum(joiner.feed(crilog.parse(record)) is not None for record in records)
        self.offset = self._read = 0
        self._unpacker = None
        return lines, bool(joiner.flush())

    def last_lines(self, wanted: int) -> int:
        """Have reading begin so that at most the last `wanted` lines come; how many that are."""
        lines, _open = self._count()
        self.skip = max(lines - wanted, 0)
        return lines - self.skip

    def since(self, moment: str) -> None:
        """All of it is read: lines that are too old are left out one by one."""

    def tail_of_line(self) -> bool:
        """Have only the pieces given, if there are any, of a line that goes on in the next file."""
        self.skip, goes_on = self._count()
        return goes_on

    def nothing(self) -> None:
        """Leave out all that is in it."""
        self.skip, _open = self._count()


def _damaged(fd: int, why: str) -> InternalError:
    path = os.readlink(f"/proc/self/fd/{fd}")
    return InternalError(
        f"the compressed log {path} cannot be read: {why}", resolution="Move the file away to read the others."
    )


def _file(fd: int, about: Message) -> LogFile:
    attempt = int(about.get("attempt") or 0)
    if about.get("compressed"):
        return PackedFile(fd, attempt)
    return LogFile(fd, attempt, final=bool(about.get("ended")))


class ContainerLog:
    """One container's log over all its files, as lines.

    Args:
        query: which log and how much of it.

    Attributes:
        first: number of the instance from which on it is followed; None until a server has said it.
    """

    def __init__(self, query: Query) -> None:
        self.query = query
        self.container = query.container or ""
        self.files: list[LogFile] = []
        self.done = False
        self.first: int | None = None
        self._joiner = Joiner(self.container, query.pod)
        self._finished: deque[tuple[int, bytes]] = deque(maxlen=REMEMBERED)

    def close(self) -> None:
        """Close all files."""
        for file in self.files:
            file.close()
        self.files.clear()

    def listed(self, answer: Message, fds: list[int]) -> None:
        """Take a list of the files there are now, oldest first. Known ones keep their place, later ones are new.

        What stands before a file that is known was read, or was not wanted.
        """
        self.container = str(answer.get("container") or self.query.container or "")
        self._joiner.container = self.container
        told = answer.get("files") or []
        if self.first is None:
            self.first = answer.get("first")
        files = [_file(fd, about) for fd, about in zip(fds, told, strict=False)]
        close_all(fds[len(told) :])
        seen = -1
        still: set[int] = set()
        for index, file in enumerate(files):
            known = next((at for at, other in enumerate(self.files) if other.same(file)), None)
            if known is not None:
                self.files[known].final = self.files[known].final or file.final
                still.add(known)
            head = file.head()
            if known is not None or (head and (file.attempt, head) in self._finished):
                seen = index
        for file in files[: seen + 1]:
            file.close()
        new = files[seen + 1 :]
        # Whatever is not listed any more, and has a successor, was rotated and removed while we read it.
        newest = len(self.files) if new else max(still, default=-1)
        for at, file in enumerate(self.files[:newest]):
            if at not in still:
                file.final = True
        self.files += new

    def ended(self) -> None:
        """Take the event that nothing will come any more."""
        for file in self.files:
            file.final = True
        self.done = True

    def place(self) -> None:
        """Go to where the query wants reading to begin; once, before the first read."""
        wanted, since = self.query.tail, self.query.since
        keep: list[LogFile] = []
        enough = False
        for number, file in enumerate(reversed(self.files)):
            if enough:
                self._leave(file)
                continue
            if wanted is None:
                keep.append(file)
            elif wanted > 0:
                wanted -= file.last_lines(wanted)
                keep.append(file)
            elif number == 0:
                file.nothing()
                keep.append(file)
            else:
                # A line that is wanted may have begun in the file before, the newest one of its instance.
                enough = True
                if keep and keep[-1].attempt == file.attempt and keep[-1].offset == 0 and file.tail_of_line():
                    keep.append(file)
                else:
                    self._leave(file)
                continue
            if since:
                file.since(since)
                # All that was written before this file is older than its first line.
                first = crilog.stamp(file.head())
                enough = first != "" and first < since
        self.files = keep[::-1]

    def _leave(self, file: LogFile) -> None:
        self._finished.append((file.attempt, file.head()))
        file.close()

    def read(self) -> list[LogLine]:
        """Lines that are there and were not given yet; at most about one chunk. Empty: there are none now."""
        while self.files:
            file = self.files[0]
            data = file.peek(CHUNK)
            end = data.rfind(b"\n") + 1
            if not end and len(data) == CHUNK:
                data, end = self._long_line(file)
            if end:
                found = self._lines(file, data[:end])
            elif file.final:
                found = self._finish(file, data)
            else:
                return []
            if found:
                return found
        return []

    def _long_line(self, file: LogFile) -> tuple[bytes, int]:
        """A physical line longer than a chunk: never the shim's, but nothing is dropped."""
        size = CHUNK
        while True:
            size *= 2
            data = file.peek(size)
            end = data.find(b"\n") + 1
            if end or len(data) < size:
                return data, end

    def _lines(self, file: LogFile, data: bytes) -> list[LogLine]:
        position = file.offset
        file.advance(len(data))
        found: list[LogLine] = []
        since = self.query.since
        for raw in data[:-1].split(b"\n"):
            line = self._joiner.feed(crilog.parse(raw))
            if line is not None:
                if file.skip:
                    file.skip -= 1
                elif position >= file.emit_from and (not since or order(line) >= since):
                    found.append(line)
            position += len(raw) + 1
        return found

    def _finish(self, file: LogFile, rest: bytes) -> list[LogLine]:
        """Leave a file that gets nothing more; `rest` is a record cut off by a full disk or a dead shim."""
        self.files.pop(0)
        found: list[LogLine] = []
        if rest and not crilog.is_torn(rest):
            line = self._joiner.feed(crilog.parse(rest))
            found += [line] if line is not None else []
        # A line may go on in the next file of the same instance (rotation), never in another instance's.
        if not self.files or self.files[0].attempt != file.attempt:
            found += self._joiner.flush()
        self._leave(file)
        return found
