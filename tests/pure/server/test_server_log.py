"""run/server.log stays within bounds however long a server lives and talks."""

from __future__ import annotations

import logging
from pathlib import Path

from nsrun.server.process import BoundedLog


def test_it_is_begun_anew_when_it_is_too_long(tmp_path: Path) -> None:
    path = tmp_path / "server.log"
    path.write_text("of the server before\n")
    handler = BoundedLog(path, 1000)
    for number in range(200):
        handler.emit(logging.makeLogRecord({"msg": f"line {number:04}"}))
        assert sum(file.stat().st_size for file in tmp_path.iterdir()) < 2200
    assert sorted(file.name for file in tmp_path.iterdir()) == ["server.log", "server.log.1"]
    lines = (tmp_path / "server.log.1").read_text().splitlines() + path.read_text().splitlines()
    assert lines == [f"line {number:04}" for number in range(200 - len(lines), 200)]
    assert len(lines) > 100


def test_what_is_no_text_is_written_all_the_same(tmp_path: Path) -> None:
    handler = BoundedLog(tmp_path / "server.log", 1000)
    handler.emit(logging.makeLogRecord({"msg": "broken \udcff"}))
    assert (tmp_path / "server.log").read_text() == "broken ?\n"


def test_a_server_that_begins_takes_over_what_is_too_long_already(tmp_path: Path) -> None:
    path = tmp_path / "server.log"
    path.write_text("x" * 2000)
    BoundedLog(path, 1000).emit(logging.makeLogRecord({"msg": "new"}))
    assert path.read_text() == "new\n"
    assert (tmp_path / "server.log.1").stat().st_size == 2000
