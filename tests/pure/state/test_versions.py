"""Versions grow from one server to the next."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from nsrun.state.versions import ROOM, begin_versions

pytestmark = pytest.mark.pure


def test_versions_grow_though_the_clock_is_set_back(tmp_path: Path) -> None:
    path = tmp_path / "versions"
    first = begin_versions(path, 1_800_000_000.0)
    assert first == 1_800_000_000_000_000
    again = begin_versions(path, 1_800_000_001.0)
    assert again == first + ROOM
    back = begin_versions(path, 1_000_000_000.0)
    assert back == again + ROOM
    later = begin_versions(path, 1_900_000_000.0)
    assert later == 1_900_000_000_000_000
    path.write_text("garbage")
    assert begin_versions(path, 1_900_000_001.0) == 1_900_000_001_000_000


def test_without_room_they_grow_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "versions"

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("nsrun.state.versions.write_atomic", full)
    assert begin_versions(path, 1_800_000_000.0) == 1_800_000_000_000_000
    assert not path.exists()
    path.write_bytes(b"%020d" % 1_800_000_000_000_000)
    # In place, which takes no room.
    assert begin_versions(path, 1_000_000_000.0) == 1_800_000_000_000_000 + ROOM
    assert begin_versions(path, 1_000_000_000.0) == 1_800_000_000_000_000 + 2 * ROOM
