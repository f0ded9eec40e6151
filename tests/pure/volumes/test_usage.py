"""What a directory takes on its disk: blocks, names of one file once, nothing that a link leads to, however deep (S-EVICT)."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from nsrun.volumes import disk_usage


def blocks(path: Path) -> int:
    return path.lstat().st_blocks * 512


def test_S_EVICT_disk_use_is_counted_in_blocks_and_once_for_each_file(tmp_path: Path) -> None:
    top, outside = tmp_path / "top", tmp_path / "outside"
    (top / "a" / "b").mkdir(parents=True)
    outside.mkdir()
    (outside / "large").write_bytes(b"x" * 1_000_000)
    (top / "a" / "file").write_bytes(b"x" * 100_000)
    os.link(top / "a" / "file", top / "a" / "b" / "again")
    with (top / "sparse").open("wb") as file:
        file.truncate(1 << 30)
    (top / "link").symlink_to(outside)
    (top / "a" / "up").symlink_to("/")
    usage = disk_usage(top)
    shown = [top, top / "a", top / "a" / "b", top / "a" / "file", top / "sparse", top / "link", top / "a" / "up"]
    assert usage.used == sum(map(blocks, shown))
    assert (usage.names, usage.complete) == (8, True)
    assert usage.used < 1_000_000


def test_S_EVICT_disk_use_of_nothing_and_of_what_is_no_directory(tmp_path: Path) -> None:
    assert disk_usage(tmp_path / "gone").used == 0
    (tmp_path / "link").symlink_to(tmp_path)
    with pytest.raises(OSError, match="link"):
        disk_usage(tmp_path / "link")


def test_S_EVICT_disk_use_of_a_tree_deeper_than_paths_may_be_long(tmp_path: Path) -> None:
    name, depth = "d" * 200, 60
    here = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    for _ in range(depth):
        os.mkdir(name, dir_fd=here)
        below = os.open(name, os.O_RDONLY | os.O_DIRECTORY, dir_fd=here)
        os.close(here)
        here = below
    fd = os.open("file", os.O_WRONLY | os.O_CREAT, dir_fd=here)
    os.write(fd, b"x" * 100_000)
    os.close(fd)
    os.close(here)
    usage = disk_usage(tmp_path)
    assert usage.names == depth + 2
    assert usage.used >= 100_000


def test_S_EVICT_measuring_ends_when_it_is_told_to(tmp_path: Path) -> None:
    for number in range(10):
        (tmp_path / str(number)).mkdir()
    asked = iter((False, False, True))
    usage = disk_usage(tmp_path, lambda: next(asked))
    assert not usage.complete
