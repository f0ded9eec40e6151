"""Log records as the shim writes them (S-LOG): `<RFC3339Nano> <stdout|stderr> <P|F> <content>`, one on a line.

A program's line that is longer than a record holds comes as records with tag P, closed by one with tag F. Here they become
one line again. Times are compared as text: the shim writes them in UTC with nine digits.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import NamedTuple

JOIN_LIMIT = 1 << 20
"""Bytes of one line that are held back for its end; beyond it the line is given in pieces."""

BLOCK = 1 << 18

_STAMP = b"0000-00-00T00:00:00.000000000Z"
_TAGS = tuple(b" %s %s " % (stream, tag) for stream in (b"stdout", b"stderr") for tag in (b"F", b"P"))
_DIGITS = bytes.maketrans(b"123456789", b"000000000")


class Record(NamedTuple):
    """One physical line of a log file."""

    timestamp: bytes
    stream: bytes
    full: bool
    content: bytes


class LogLine(NamedTuple):
    """One line of a container's output.

    Attributes:
        timestamp: RFC 3339 with nanoseconds, UTC, of the line's first byte.
        stream: "stdout" or "stderr".
        text: the line without its line break.
        complete: False for the piece of a line whose rest comes later, or never came.
        container: name of the container.
        pod: name of its pod.
    """

    timestamp: str
    stream: str
    text: bytes
    complete: bool
    container: str = ""
    pod: str = ""


def parse(line: bytes) -> Record:
    """Decode one physical line, without its line break.

    A line that is no record (a disk that was full in the middle of one) is kept as content of stdout: nothing is dropped.
    """
    fields = line.split(b" ", 3)
    if len(fields) == 4 and fields[1] in (b"stdout", b"stderr") and fields[0][:1].isdigit():
        # The tag is a list separated by ':' of which the first tells partial from full.
        return Record(fields[0], fields[1], fields[2].split(b":", 1)[0] != b"P", fields[3])
    if len(fields) == 3 and fields[1] in (b"stdout", b"stderr") and fields[2] in (b"F", b"P"):
        return Record(fields[0], fields[1], fields[2] == b"F", b"")
    return Record(b"", b"stdout", True, line)


def is_torn(line: bytes) -> bool:
    """Whether a record was cut off before its content begins: nothing that a container wrote is in it."""
    stamp, rest = line[: len(_STAMP)], line[len(_STAMP) :]
    return _STAMP.startswith(stamp.translate(_DIGITS)) and any(tag.startswith(rest) for tag in _TAGS)


class Joiner:
    """Makes lines of records; one for each container, over all its files.

    Args:
        container: goes into the lines.
        pod: as well.
    """

    def __init__(self, container: str = "", pod: str = "") -> None:
        self.container = container
        self.pod = pod
        self._open: dict[bytes, tuple[bytes, list[bytes], int]] = {}

    def feed(self, record: Record) -> LogLine | None:
        """Take one record; give the line it completes."""
        begun = self._open.get(record.stream)
        if begun is None:
            if record.full:
                return self._line(record.timestamp, record.stream, record.content, complete=True)
            self._open[record.stream] = (record.timestamp, [record.content], len(record.content))
            return None
        timestamp, pieces, size = begun
        pieces.append(record.content)
        size += len(record.content)
        if record.full or size > JOIN_LIMIT:
            del self._open[record.stream]
            return self._line(timestamp, record.stream, b"".join(pieces), complete=record.full)
        self._open[record.stream] = (timestamp, pieces, size)
        return None

    def flush(self) -> list[LogLine]:
        """The lines that never got an end, oldest first; nothing more of them will come."""
        left = [
            self._line(at, stream, b"".join(pieces), complete=False) for stream, (at, pieces, _) in self._open.items()
        ]
        self._open.clear()
        return sorted(left, key=order)

    def _line(self, timestamp: bytes, stream: bytes, text: bytes, *, complete: bool) -> LogLine:
        return LogLine(timestamp.decode("ascii", "replace"), stream.decode(), text, complete, self.container, self.pod)


def order(line: LogLine) -> str:
    """The key that sorts lines of several containers by time."""
    return line.timestamp.removesuffix("Z")


class Start(NamedTuple):
    """Where reading a file begins: at byte `read`; lines whose last record begins before byte `emit` are left out.

    They differ where the first wanted line has partial records that stand before the end of an unwanted line.
    """

    read: int
    emit: int


def backwards(fd: int, end: int) -> Iterator[tuple[int, bytes]]:
    """The complete physical lines before byte `end`, last one first, with their offsets. Reads no more than is asked for."""
    position = end
    rest = b""  # what stands between `position` and the next line break
    ended = False  # whether there is such a line break: a line still being written has none
    while position:
        size = min(BLOCK, position)
        position -= size
        pieces = os.pread(fd, size, position).split(b"\n")
        offsets = [position]
        for piece in pieces[:-1]:
            offsets.append(offsets[-1] + len(piece) + 1)
        pieces[-1] += rest
        for number in range(len(pieces) - 1, 0, -1):
            if ended or number < len(pieces) - 1:
                yield offsets[number], pieces[number]
        rest = pieces[0]
        ended = ended or len(pieces) > 1
    if ended:
        yield 0, rest


def last_lines(fd: int, size: int, wanted: int) -> tuple[Start, int]:
    """Where to begin so that `wanted` lines come, and how many there really are from there.

    Args:
        fd: a log file.
        size: bytes of it to look at.
        wanted: number of lines, at least 1.
    """
    found = 0
    emit = 0
    previous_full: dict[bytes, bool] = {}
    needed: set[bytes] = set()
    start: int | None = None
    for offset, line in backwards(fd, size):
        record = parse(line)
        if start is None:
            ends_a_line = record.full or record.stream not in previous_full
            if ends_a_line and found == wanted:
                # One line too many: it is not wanted, but pieces of wanted ones may stand before it.
                start = emit
                needed = set(previous_full)
            elif ends_a_line:
                found += 1
        if start is not None:
            if record.stream in needed and record.full:
                needed.discard(record.stream)
            elif record.stream in needed:
                start = offset
            if not needed or emit - offset > 2 * JOIN_LIMIT:
                return Start(start, emit), found
        else:
            emit = offset
        previous_full[record.stream] = record.full
    return Start(start if start is not None else 0, emit if start is not None else 0), found


def open_pieces(fd: int, size: int) -> int:
    """Offset of the first record of lines that have no end in the file; `size` when there is no such line.

    Args:
        fd: a log file.
        size: bytes of it to look at.
    """
    first = size
    ended: set[bytes] = set()
    for offset, line in backwards(fd, size):
        record = parse(line)
        if record.full:
            ended.add(record.stream)
        elif record.stream not in ended:
            first = offset
        if len(ended) == 2 or size - offset > 2 * JOIN_LIMIT:
            break
    return first


def since(fd: int, size: int, moment: str) -> int:
    """Offset of the first record at or after `moment`, by bisection; 0 when none is before it.

    Args:
        fd: a log file.
        size: bytes of it to look at.
        moment: a time as the shim writes it, without the Z.
    """
    low, high = 0, size
    while high - low > BLOCK:
        middle = (low + high) // 2
        block = os.pread(fd, BLOCK, middle)
        line_break = block.find(b"\n")
        second = block.find(b"\n", line_break + 1)
        if line_break < 0 or second < 0:
            break
        if stamp(block[line_break + 1 : second]) < moment:
            low = middle + line_break + 1
        else:
            high = middle + line_break + 1
    # `low` is the beginning of a record that is too old, or 0.
    position = low
    while position < size:
        block = os.pread(fd, BLOCK, position)
        end = block.rfind(b"\n")
        if end < 0:
            return position
        at = position
        for line in block[:end].split(b"\n"):
            if stamp(line) >= moment:
                return at
            at += len(line) + 1
        position = at
    return position


def stamp(line: bytes) -> str:
    """The time of a physical line, without the Z; empty when it has none."""
    return parse(line).timestamp.decode("ascii", "replace").removesuffix("Z")
