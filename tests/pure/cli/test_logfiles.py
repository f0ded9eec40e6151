"""One log over many files: whatever is rotated, compressed, removed and listed again, each line comes once and in order."""

from __future__ import annotations

import gzip
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nsrun.client.crilog import is_torn
from nsrun.client.logfiles import ContainerLog, Query
from nsrun.errors import InternalError


def record(number: int, tag: bytes = b"F") -> bytes:
    at = b"2026-01-02T03:%02d:%02d.%09dZ" % (number // 60 % 60, number % 60, number)
    return at + b" stdout " + tag + b" line %d" % number + b"\n"


class Logs:
    """A container's log directory as a server keeps it: of each instance rotated files, then the one being written."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.files: list[tuple[int, str]] = []  # attempt, name; oldest first
        self.attempt = -1
        self.stamp = 0
        self.number = 0
        self.over = False
        self.restart()

    def restart(self) -> None:
        self.over = False
        self.attempt += 1
        self._new()

    def end(self) -> None:
        self.over = True

    def _new(self) -> None:
        name = f"{self.attempt}.log"
        (self.directory / name).touch()
        self.files.append((self.attempt, name))

    def write(self, count: int) -> None:
        with (self.directory / self.files[-1][1]).open("ab") as file:
            for _ in range(0 if self.over else count):
                file.write(record(self.number))
                self.number += 1

    def rotate(self) -> None:
        attempt, name = self.files[-1]
        if self.over or not (self.directory / name).stat().st_size:
            return
        self.stamp += 1
        rotated = f"{name}.{self.stamp:04}"
        os.rename(self.directory / name, self.directory / rotated)
        self.files[-1] = (attempt, rotated)
        self._new()

    def pack(self, which: int) -> None:
        attempt, name = self.files[which % len(self.files)]
        if name.endswith((".log", ".gz")):
            return
        path = self.directory / name
        (self.directory / f"{name}.gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()
        self.files[which % len(self.files)] = (attempt, f"{name}.gz")

    def drop_oldest(self) -> None:
        if len(self.files) > 2:
            (self.directory / self.files.pop(0)[1]).unlink()

    def listing(self) -> tuple[dict[str, object], list[int]]:
        fds = [os.open(self.directory / name, os.O_RDONLY) for _, name in self.files]
        told = [
            {"attempt": attempt, "ended": self.over or at < len(self.files) - 1, "compressed": name.endswith(".gz")}
            for at, (attempt, name) in enumerate(self.files)
        ]
        return {"container": "a", "files": told}, fds


def numbers(log: ContainerLog) -> Iterator[int]:
    while lines := log.read():
        for line in lines:
            yield int(line.text.split()[1])


STEP = st.one_of(
    st.tuples(st.just("write"), st.integers(0, 30)),
    st.tuples(st.sampled_from(["rotate", "restart", "end", "drop_oldest", "read"]), st.just(0)),
    st.tuples(st.just("pack"), st.integers(0, 5)),
)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(STEP, st.booleans()), max_size=60), st.integers(0, 3))
def test_S_LOG_a_follower_sees_each_line_once(steps: list[tuple[tuple[str, int], bool]], before: int) -> None:
    """Of what happens while no server lives it is told later, all at once; nothing is removed then."""
    with tempfile.TemporaryDirectory() as name:
        logs = Logs(Path(name))
        logs.write(before)
        log = ContainerLog(Query("web", None, "a"))
        log.listed(*logs.listing())
        log.place()
        found: list[int] = []
        for (word, amount), told in steps:
            if word in ("write", "pack"):
                getattr(logs, word)(amount)
            elif word == "read":
                found += numbers(log)
            elif word != "drop_oldest":
                getattr(logs, word)()
            elif told:
                log.listed(*logs.listing())
                logs.drop_oldest()
            if told and word != "write":
                log.listed(*logs.listing())
        log.listed(*logs.listing())
        found += numbers(log)
        assert found == list(range(logs.number))
        log.ended()
        assert list(numbers(log)) == []
        assert log.files == []


@settings(max_examples=200, deadline=None)
@given(st.lists(STEP, max_size=40), st.integers(0, 80), st.booleans())
def test_S_LOG_the_last_lines_over_all_files(steps: list[tuple[str, int]], tail: int, by_time: bool) -> None:
    with tempfile.TemporaryDirectory() as name:
        logs = Logs(Path(name))
        for word, amount in steps:
            if word in ("write", "pack"):
                getattr(logs, word)(amount)
            elif word != "read":
                getattr(logs, word)()
        kept = b"".join(
            gzip.decompress((logs.directory / file).read_bytes())
            if file.endswith(".gz")
            else (logs.directory / file).read_bytes()
            for _, file in logs.files
        )
        lines = kept.split(b"\n")[:-1]
        everything = [int(line.rsplit(b" ", 1)[1]) for line in lines]
        if by_time and lines:
            position = min(tail, len(lines) - 1)
            moment = lines[position].split(b" ")[0].decode().removesuffix("Z")
            query, expected = Query("web", None, "a", since=moment), everything[position:]
        else:
            query, expected = Query("web", None, "a", tail=tail), everything[max(len(everything) - tail, 0) :]
        log = ContainerLog(query)
        log.listed(*logs.listing())
        log.ended()
        log.place()
        assert list(numbers(log)) == expected


def test_S_LOG_a_line_that_goes_on_in_the_next_file_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "old").write_bytes(record(0) + record(1, b"P") + record(2, b"P"))
    (tmp_path / "new").write_bytes(record(3) + record(4))
    for compressed in (False, True):
        for tail, expected in ((2, [b"line 1line 2line 3", b"line 4"]), (1, [b"line 4"]), (None, 3)):
            old = (tmp_path / "old").read_bytes()
            (tmp_path / "given").write_bytes(gzip.compress(old) if compressed else old)
            fds = [os.open(tmp_path / name, os.O_RDONLY) for name in ("given", "new")]
            told = [{"attempt": 0, "ended": True, "compressed": compressed}, {"attempt": 0, "ended": True}]
            log = ContainerLog(Query("web", None, "a", tail=tail))
            log.listed({"container": "a", "files": told}, fds)
            log.place()
            texts = [line.text for lines in iter(log.read, []) for line in lines]
            assert len(texts) == expected if isinstance(expected, int) else texts == expected


def test_S_LOG_what_is_no_compressed_file_is_told_of(tmp_path: Path) -> None:
    whole = gzip.compress(record(0) * 1000)
    for damaged in (whole[: len(whole) // 2], b"no gzip at all"):
        (tmp_path / "0.log.gz").write_bytes(damaged)
        log = ContainerLog(Query("web", None, "a"))
        fds = [os.open(tmp_path / "0.log.gz", os.O_RDONLY)]
        log.listed({"container": "a", "files": [{"attempt": 0, "ended": True, "compressed": True}]}, fds)
        with pytest.raises(InternalError, match=r"0\.log\.gz"):
            list(numbers(log))
        log.close()


def test_S_LOG_a_file_that_was_removed_while_it_is_read_is_read_to_its_end(tmp_path: Path) -> None:
    logs = Logs(tmp_path)
    logs.write(3)
    log = ContainerLog(Query("web", None, "a"))
    log.listed(*logs.listing())
    logs.write(2)
    logs.rotate()
    logs.write(1)
    logs.rotate()
    logs.write(1)
    # Nobody was told before the oldest was one too many.
    logs.drop_oldest()
    log.listed(*logs.listing())
    assert list(numbers(log)) == list(range(7))
    log.close()


def test_S_LOG_of_a_record_that_was_cut_off_comes_what_its_container_wrote(tmp_path: Path) -> None:
    last = record(1).removesuffix(b"\n")
    header = len(last) - len(b"line 1")
    for length in range(len(last) + 1):
        (tmp_path / "0.log").write_bytes(record(0) + last[:length])
        log = ContainerLog(Query("web", None, "a"))
        fds = [os.open(tmp_path / "0.log", os.O_RDONLY)]
        log.listed({"container": "a", "files": [{"attempt": 0, "ended": True}]}, fds)
        texts = [line.text for lines in iter(log.read, []) for line in lines]
        assert texts == [b"line 0"] + ([last[header:length]] if length > header else []), last[:length]
    for text in (b"5 apples", b"2026-01-02 stdout", b"2026-01-02T03:04:05.000000000Z other"):
        assert not is_torn(text)
