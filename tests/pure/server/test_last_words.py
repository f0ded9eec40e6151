"""What a container leaves as its message, read from files that it, or anybody, may have left in any state."""

from __future__ import annotations

import os
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nsrun.server import termination
from nsrun.spec.model import Container

FILE = Container(name="app", terminationMessagePolicy="File")
LOGS = Container(name="app", terminationMessagePolicy="FallbackToLogsOnError")


def line(text: str, tag: str = "F", stream: str = "stdout") -> str:
    return f"2026-01-02T03:04:05.123456789Z {stream} {tag} {text}\n"


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "logs" / "0.log"


@pytest.fixture
def words(tmp_path: Path, log: Path) -> Callable[..., str | None]:
    """Reads the message; the log is written first if it is given."""
    termination.make(tmp_path)
    log.parent.mkdir()
    log.touch()

    def read(container: Container = FILE, code: int = 1, reason: str | None = None) -> str | None:
        return termination.read(tmp_path, container, code, log, reason)

    return read


Words = Callable[..., str | None]


def test_S_TERMMSG_anybody_may_write_the_file(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        path = termination.make(tmp_path)
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o777 == 0o666


def test_S_TERMMSG_nothing_written_is_no_message(words: Words) -> None:
    assert words() is None
    assert words(LOGS) is None


def test_S_TERMMSG_the_last_4096_bytes_count(words: Words, tmp_path: Path) -> None:
    (tmp_path / termination.NAME).write_bytes(b"start" + b"x" * 4093 + b"end")
    assert words() == "x" * 4093 + "end"


def test_S_TERMMSG_a_message_of_a_gigabyte_costs_nothing(words: Words, tmp_path: Path) -> None:
    with open(tmp_path / termination.NAME, "r+b") as file:
        file.seek(1 << 30)
        file.write(b"the end")
    tracemalloc.start()
    begun = time.monotonic()
    message = words()
    assert time.monotonic() - begun < 0.5
    assert tracemalloc.get_traced_memory()[1] < 200_000
    tracemalloc.stop()
    assert message is not None
    assert message.endswith("the end")
    assert len(message) == 4096


def test_S_TERMMSG_bytes_that_are_no_text_are_replaced(words: Words, tmp_path: Path) -> None:
    (tmp_path / termination.NAME).write_bytes(b"a\xff\xfe\x00b\xc3")
    assert words() == "a\ufffd\ufffd\x00b\ufffd"


@pytest.mark.parametrize("code", [0, 1])
def test_S_TERMMSG_the_file_comes_before_the_log(words: Words, tmp_path: Path, log: Path, code: int) -> None:
    log.write_text(line("said"))
    (tmp_path / termination.NAME).write_bytes(b"written")
    assert words(LOGS, code) == "written"


def test_S_TERMMSG_the_log_counts_on_error_only_and_only_by_that_policy(words: Words, log: Path) -> None:
    log.write_text(line("said"))
    assert words(LOGS, 0) is None
    assert words(FILE, 1) is None
    assert words(LOGS, 1, termination.CANNOT_RUN) is None
    assert words(LOGS, 1) == "said\n"
    assert words(LOGS, 137, "OOMKilled") == "said\n"


def test_S_TERMMSG_the_log_as_it_was_written(words: Words, log: Path) -> None:
    log.write_text(
        line("one") + line("", stream="stderr") + line("par", "P") + line("tial", "P:x") + line("end", "F:y")
    )
    assert words(LOGS) == "one\n\npartialend\n"
    log.write_text(line("no newline at its end", "P"))
    assert words(LOGS) == "no newline at its end"


def test_S_TERMMSG_80_lines_and_2048_bytes_of_the_log(words: Words, log: Path) -> None:
    log.write_text("".join(line(str(number)) for number in range(1000)))
    assert words(LOGS) == "".join(f"{number}\n" for number in range(920, 1000))
    log.write_text("".join(line(f"{number:063}") for number in range(1000)))
    assert words(LOGS) == "".join(f"{number:063}\n" for number in range(968, 1000))
    log.write_text(line("a" * 16384, "P") + line("b" * 16384, "P") + line("c" * 1000))
    assert words(LOGS) == "b" * 1047 + "c" * 1000 + "\n"


def test_S_TERMMSG_the_log_before_it_was_rotated(words: Words, log: Path) -> None:
    log.write_text(line("new"))
    log.with_name("0.log.20260102-150406").write_text(line("newer") + line("newest of the old"))
    log.with_name("0.log.20260102-150405").write_text(line("old"))
    log.with_name("0.log.20260102-150404.gz").write_bytes(b"\x1f\x8b")
    log.with_name("10.log").write_text(line("of another instance"))
    log.with_name("0.log.20260102-150407.tmp").write_text(line("not finished"))
    assert words(LOGS) == "old\nnewer\nnewest of the old\nnew\n"
    log.write_text("".join(line(str(number)) for number in range(79)))
    assert words(LOGS) == "newest of the old\n" + "".join(f"{number}\n" for number in range(79))


def test_S_TERMMSG_a_log_that_was_removed_is_told_of(words: Words, log: Path) -> None:
    log.unlink()
    assert words(LOGS) == f"Error on reading termination message from logs: {log}: No such file or directory (ENOENT)"


def _symlink(path: Path) -> None:
    path.symlink_to("/etc/passwd")


@pytest.mark.parametrize("make", [Path.mkdir, _symlink, os.mkfifo])
def test_S_TERMMSG_what_is_no_file_is_not_read(words: Words, tmp_path: Path, make: Callable[[Path], None]) -> None:
    path = tmp_path / termination.NAME
    path.unlink()
    make(path)
    for container in (FILE, LOGS):
        message = words(container)
        assert message is not None
        assert message.startswith(f"Error on reading termination log {path}: ")


def test_S_TERMMSG_a_file_that_is_gone_is_an_empty_one(words: Words, tmp_path: Path, log: Path) -> None:
    (tmp_path / termination.NAME).unlink()
    log.write_text(line("said"))
    assert words() is None
    assert words(LOGS) == "said\n"


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    parts=st.lists(
        st.tuples(st.binary(max_size=60).map(lambda data: data.replace(b"\n", b"")), st.booleans()), max_size=200
    ),
    torn=st.integers(0, 40),
    cut=st.integers(0, 200),
)
def test_S_TERMMSG_the_end_of_any_log(tmp_path: Path, parts: list[tuple[bytes, bool]], torn: int, cut: int) -> None:
    """However the log is cut into files, and wherever its first and last line were torn."""
    lines = [
        b"2026-01-02T03:04:05.123456789Z stdout " + (b"F " if full else b"P ") + content + b"\n"
        for content, full in parts
    ]
    expected = b"".join(content + (b"\n" if full else b"") for content, full in parts[-80:])[-2048:]
    directory = tmp_path / "any"
    directory.mkdir(exist_ok=True)
    log = directory / "3.log"
    (directory / "3.log.20260101-000000").write_bytes(b"".join(lines[:cut]))
    log.write_bytes(b"".join(lines[cut:]))
    found = termination.read(directory, LOGS, 1, log)
    assert (found or "").encode("utf-8", "replace") == expected.decode("utf-8", "replace").encode("utf-8", "replace")
    log.write_bytes(os.urandom(torn).replace(b"\n", b"") + b"\n" + b"".join(lines[cut:]))
    message = termination.read(directory, LOGS, 1, log)
    assert message is None or len(message.encode()) <= 3 * termination.LOG_MAX
