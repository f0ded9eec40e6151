"""Versions grow from one server to the next."""

from __future__ import annotations

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
