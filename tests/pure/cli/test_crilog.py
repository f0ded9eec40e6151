"""The log reader against a model: whatever was written and however it was split into records comes back line by line."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from hypothesis import given
from hypothesis import strategies as st

from nsrun.client import crilog
from nsrun.client.crilog import Joiner, LogLine

STREAMS = st.sampled_from([b"stdout", b"stderr"])
TEXT = st.binary(max_size=30).map(lambda text: text.replace(b"\n", b" "))
PIECES = st.lists(TEXT, min_size=1, max_size=4)


def stamp(number: int) -> bytes:
    return b"2026-01-02T03:%02d:%02d.%09dZ" % (number // 60 % 60, number % 60, number % 7)


class Written:
    """A log file's content and the lines that are in it."""

    def __init__(self, steps: list[tuple[bytes, list[bytes]]], interleaving: list[int]) -> None:
        queues: dict[bytes, list[tuple[bytes, bytes]]] = {b"stdout": [], b"stderr": []}
        for stream, pieces in steps:
            for number, piece in enumerate(pieces):
                queues[stream].append((b"F" if number == len(pieces) - 1 else b"P", piece))
        self.data = b""
        self.lines: list[LogLine] = []
        number = 0
        begun: dict[bytes, tuple[bytes, bytes]] = {}
        picks = iter(interleaving + [0] * 1000)
        while any(queues.values()):
            waiting = [name for name, queue in queues.items() if queue]
            stream = waiting[next(picks) % len(waiting)]
            tag, piece = queues[stream].pop(0)
            at = stamp(number)
            number += 1
            self.data += at + b" " + stream + b" " + tag + b" " + piece + b"\n"
            first, text = begun.pop(stream, (at, b""))
            if tag == b"F":
                self.lines.append(LogLine(first.decode(), stream.decode(), text + piece, complete=True))
            else:
                begun[stream] = (first, text + piece)
        assert not begun


WRITTEN = st.builds(
    Written, st.lists(st.tuples(STREAMS, PIECES), max_size=25), st.lists(st.integers(0, 1), max_size=100)
)


@contextmanager
def file_of(data: bytes) -> Iterator[int]:
    fd = os.memfd_create("log")
    try:
        os.write(fd, data)
        yield fd
    finally:
        os.close(fd)


def read_from(data: bytes, start: crilog.Start) -> list[LogLine]:
    joiner = Joiner()
    found = []
    position = start.read
    for raw in data[start.read :].split(b"\n")[:-1]:
        line = joiner.feed(crilog.parse(raw))
        if line is not None and position >= start.emit:
            found.append(line)
        position += len(raw) + 1
    return found + joiner.flush()


@given(WRITTEN)
def test_pieces_become_lines(written: Written) -> None:
    assert read_from(written.data, crilog.Start(0, 0)) == written.lines


@given(WRITTEN, st.integers(1, 30))
def test_the_last_lines_are_the_last_lines(written: Written, wanted: int) -> None:
    with file_of(written.data) as fd:
        start, found = crilog.last_lines(fd, len(written.data), wanted)
    assert read_from(written.data, start) == written.lines[-wanted:]
    assert found == min(wanted, len(written.lines))


@given(WRITTEN, st.integers(1, 5), st.binary(max_size=20).map(lambda text: text.replace(b"\n", b"")))
def test_a_record_still_being_written_is_not_counted(written: Written, wanted: int, cut_off: bytes) -> None:
    data = written.data + cut_off
    with file_of(data) as fd:
        start, _ = crilog.last_lines(fd, len(data), wanted)
    assert read_from(data, start) == written.lines[-wanted:]


@given(WRITTEN, st.integers(0, 110))
def test_since_finds_the_first_record_of_that_time(written: Written, number: int) -> None:
    moment = stamp(number).decode().removesuffix("Z")
    with file_of(written.data) as fd:
        offset = crilog.since(fd, len(written.data), moment)
    before = written.data[:offset].split(b"\n")[:-1]
    after = written.data[offset:].split(b"\n")[:-1]
    assert all(crilog.stamp(line) < moment for line in before)
    assert all(crilog.stamp(line) >= moment for line in after)


def test_since_in_a_file_of_many_blocks() -> None:
    lines = [b"2026-01-02T03:04:05.%09dZ stdout F %d\n" % (number, number) for number in range(60_000)]
    data = b"".join(lines)
    assert len(data) > 4 * crilog.BLOCK
    with file_of(data) as fd:
        for number in (0, 1, 7, 29_999, 30_000, 59_999, 60_000):
            moment = f"2026-01-02T03:04:05.{number:09d}"
            assert crilog.since(fd, len(data), moment) == sum(map(len, lines[:number])), number


@given(st.lists(st.binary(max_size=40).map(lambda text: text.replace(b"\n", b"")), max_size=30), st.integers(1, 50))
def test_backwards_gives_every_line_with_its_offset(lines: list[bytes], block: int) -> None:
    data = b"".join(line + b"\n" for line in lines)
    kept = crilog.BLOCK
    crilog.BLOCK = block
    try:
        with file_of(data) as fd:
            found = list(crilog.backwards(fd, len(data)))
    finally:
        crilog.BLOCK = kept
    assert [line for _, line in reversed(found)] == lines
    for offset, line in found:
        assert data[offset : offset + len(line) + 1] == line + b"\n"


@given(st.binary(max_size=60).map(lambda text: text.replace(b"\n", b"")))
def test_nothing_is_dropped_of_a_line_that_is_no_record(line: bytes) -> None:
    record = crilog.parse(line)
    if record.timestamp:
        assert line.startswith(record.timestamp + b" " + record.stream + b" ")
        assert line.endswith(record.content)
    else:
        assert record.content == line


def test_an_endless_line_comes_in_pieces() -> None:
    joiner = Joiner("app")
    piece = b"x" * 16384
    given_back = []
    for _ in range(200):
        line = joiner.feed(crilog.Record(b"2026-01-02T03:04:05Z", b"stdout", False, piece))
        if line is not None:
            assert not line.complete
            given_back.append(line)
    given_back += joiner.flush()
    assert sum(len(line.text) for line in given_back) == 200 * len(piece)
    assert max(len(line.text) for line in given_back) <= crilog.JOIN_LIMIT + len(piece)


def test_lines_that_never_ended_come_at_the_end_oldest_first() -> None:
    joiner = Joiner()
    assert joiner.feed(crilog.parse(b"2026-01-02T03:04:06Z stdout P later")) is None
    assert joiner.feed(crilog.parse(b"2026-01-02T03:04:05Z stderr P sooner")) is None
    assert [(line.text, line.complete) for line in joiner.flush()] == [(b"sooner", False), (b"later", False)]
    assert joiner.flush() == []
