"""Trees: copied whole, removed however deep."""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path

import pytest

from nsrun.errors import SpecError
from nsrun.images import remove_tree
from nsrun.images.layers import Tee
from nsrun.images.pack import Pack
from nsrun.images.trees import MAX_DEPTH
from nsrun.images.unpack import Unpack


def _copy(source: Path, target: Path) -> Tee:
    """Packed and unpacked again."""
    target.mkdir()
    packed = Tee(Pack(str(source), subject="cannot import"), -1, subject="")
    Unpack(packed, str(target), subject="cannot import").run()
    return packed


def test_a_copy_has_all_that_counts(tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "d/e").mkdir(parents=True)
    (source / "d/file").write_bytes(b"x" * 3_000_000)
    (source / "d/file").chmod(0o4711)
    os.utime(source / "d/file", (1, 2))
    os.link(source / "d/file", source / "hard")
    (source / "soft").symlink_to("/nowhere")
    (source / "loop").symlink_to("loop")
    os.mkfifo(source / "pipe")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(source / "socket"))
    (source / "d").chmod(0o1777)
    os.utime(source / "d", (3, 4))
    _copy(source, tmp_path / "target")
    target = tmp_path / "target"
    assert sorted(str(path.relative_to(target)) for path in target.rglob("*")) == [
        "d",
        "d/e",
        "d/file",
        "hard",
        "loop",
        "pipe",
        "soft",
    ]
    assert (target / "d/file").read_bytes() == b"x" * 3_000_000
    assert stat.S_IMODE((target / "d/file").stat().st_mode) == 0o4711
    assert (target / "d/file").stat().st_mtime == 2
    assert (target / "d/file").stat().st_ino == (target / "hard").stat().st_ino
    assert os.readlink(target / "soft") == "/nowhere"
    assert stat.S_IMODE((target / "d").stat().st_mode) == 0o1777
    assert (target / "d").stat().st_mtime == 4
    assert stat.S_ISFIFO((target / "pipe").stat().st_mode)


def test_the_digest_is_of_what_is_in_it(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "f").write_text("one")
    first = _copy(source, tmp_path / "1").digest
    assert _copy(source, tmp_path / "2").digest == first
    (source / "f").write_text("two")
    changed = _copy(source, tmp_path / "3").digest
    (source / "f").chmod(0o600)
    private = _copy(source, tmp_path / "4").digest
    os.utime(source / "f", (1, 2))
    assert len({first, changed, private, _copy(source, tmp_path / "5").digest}) == 4


def test_attributes_come_along_but_not_the_overlays(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "f").write_text("x")
    try:
        for name in ("user.note", "user.overlay.opaque"):
            os.setxattr(source / "f", name, b"y")
    except OSError:
        pytest.skip("this file system has no extended attributes")
    _copy(source, tmp_path / "target")
    assert [name for name in os.listxattr(tmp_path / "target/f") if name.startswith("user.")] == ["user.note"]


def test_a_tree_that_is_too_deep_is_refused(tmp_path: Path) -> None:
    deep = tmp_path / "source" / "/".join(["d"] * (MAX_DEPTH + 2))
    deep.mkdir(parents=True)
    with pytest.raises(SpecError, match="directories deep"):
        _copy(tmp_path / "source", tmp_path / "target")


def _dig(top: Path, depth: int) -> None:
    """Deeper than any path can name, as a process that changes its directory step by step can make it."""
    fd = os.open(top, os.O_RDONLY)
    for number in range(depth):
        os.mkdir("d" * 50, dir_fd=fd)
        inner = os.open("d" * 50, os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = inner
        if number % 100 == 0:
            os.close(os.open("file", os.O_CREAT | os.O_WRONLY, dir_fd=fd))
            os.symlink("/etc", "link", dir_fd=fd)
    os.close(fd)


def test_removing_what_is_deeper_than_python_and_paths_can_go(tmp_path: Path) -> None:
    top = tmp_path / "top"
    top.mkdir()
    _dig(top, 3000)
    (top / ".0").write_text("in the way of the names that removing uses")
    (top / ".1").mkdir()
    (top / ".1/full").mkdir()
    remove_tree(top)
    assert os.listdir(tmp_path) == []


def test_removing_never_follows_a_link(tmp_path: Path) -> None:
    keep = tmp_path / "keep"
    keep.mkdir()
    (keep / "f").write_text("x")
    top = tmp_path / "top"
    (top / "d").mkdir(parents=True)
    (top / "d/link").symlink_to(keep)
    (top / "link").symlink_to(keep)
    remove_tree(top)
    outer = tmp_path / "outer"
    outer.symlink_to(keep)
    remove_tree(outer)
    assert os.listdir(tmp_path) == ["keep"]
    assert (keep / "f").read_text() == "x"


def test_removing_again_or_a_file_is_harmless(tmp_path: Path) -> None:
    remove_tree(tmp_path / "none")
    (tmp_path / "file").write_text("x")
    remove_tree(tmp_path / "file")
    assert os.listdir(tmp_path) == []
