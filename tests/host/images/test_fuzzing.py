"""Bent layers, for a moment at each run of the tests; and archives of more entries than anybody has."""

from __future__ import annotations

import os
import resource
import tarfile
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest

from nsrun.errors import SpecError
from nsrun.images import tar
from nsrun.images.unpack import Unpack
from tests.chance import SEED
from tests.host.images.fuzzing import fuzz
from tests.host.images.making import directory, entry, hard_link
from tests.host.images.stacking import compare

pytestmark = pytest.mark.host

SECONDS = 120.0 if os.environ.get("NSRUN_SOAK") else 3.0
TEN_MILLION = 10_000_000


@pytest.mark.timeout(300)
def test_bent_layers_are_refused_or_trees(tmp_path: Path) -> None:
    print(f"NSRUN_SEED={SEED}")
    assert fuzz(SECONDS, SEED, tmp_path) > 20 * SECONDS


@pytest.mark.timeout(300)
def test_random_stacks_of_layers_are_what_umoci_unpacks(tmp_path: Path) -> None:
    assert compare(SECONDS, SEED, tmp_path) > SECONDS


class Endless:
    """An archive of ten million entries, made as it is read; nothing of it is anywhere else.

    Args:
        one: every entry; or of each number, what it is.
    """

    def __init__(self, one: tarfile.TarInfo | Callable[[int], tarfile.TarInfo]) -> None:
        self._one = one
        self._block = b"" if callable(one) else one.tobuf(tarfile.USTAR_FORMAT) * 512
        self._left = TEN_MILLION // 512
        self.read_so_far = 0

    def read(self, _size: int, /) -> bytes:
        if not self._left:
            return b""
        self._left -= 1
        begin, self.read_so_far = self.read_so_far, self.read_so_far + 512
        if callable(self._one):
            return b"".join(self._one(at).tobuf(tarfile.USTAR_FORMAT) for at in range(begin, self.read_so_far))
        return self._block


def _link(at: int) -> tarfile.TarInfo:
    return entry("file")[0] if not at else hard_link(f"l{at}", "file")[0]


ENTRIES: dict[str, tarfile.TarInfo | Callable[[int], tarfile.TarInfo]] = {
    "one file again and again": entry("file")[0],
    "one directory again and again": directory("d")[0],
    "hard links": _link,
    "empty files": lambda at: entry(f"d{at // 1000}/{at}")[0],
    "whiteouts": lambda at: entry(f"d{at // 1000}/.wh.{at}")[0],
}


def _refused(source: Endless, target: Path) -> None:
    with pytest.raises(SpecError, match=f"^many: it has more than {tar.MAX_ENTRIES} entries\n"):
        Unpack(source, str(target), subject="many").run()
    assert source.read_so_far <= tar.MAX_ENTRIES + 1024, "the rest was not looked at"


@pytest.mark.timeout(200)
def test_ten_million_entries(tmp_path: Path) -> None:
    """At full size, of what takes no room on the disk."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    _refused(Endless(entry("dev/x", tarfile.CHRTYPE)[0]), tmp_path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 16 << 10, "KiB, whatever the number of entries"


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("kind", ENTRIES)
def test_ten_million_entries_that_are_made(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if not os.environ.get("NSRUN_SOAK"):
        monkeypatch.setattr(tar, "MAX_ENTRIES", 10_000)
    elif kind == "hard links":
        pytest.skip("ext4 has 65,000 links of a file at most")
    tracemalloc.start()
    try:
        _refused(Endless(ENTRIES[kind]), tmp_path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    kept = tar.MAX_ENTRIES * 200 if kind in ("whiteouts", "empty files") else 0
    assert peak < (8 << 20) + kept, "bytes"


@pytest.mark.parametrize("kind", ["directories", "whiteouts"])
def test_names_that_fill_the_memory(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nsrun.images.unpack.MAX_NAMES", 1 << 20)
    above = "/".join(["d" * 200] * 10)

    def one(at: int) -> bytes:
        info = directory(f"{above}/{at}")[0] if kind == "directories" else entry(f"{above}/.wh.{at}")[0]
        return info.tobuf(tarfile.PAX_FORMAT)

    class Many:
        at = 0

        def read(self, _size: int, /) -> bytes:
            self.at += 1
            return one(self.at)

    source = Many()
    with pytest.raises(
        SpecError, match="many: the names of its directories and whiteouts have more than 1048576 bytes"
    ):
        Unpack(source, str(tmp_path), subject="many").run()
    assert 400 < source.at < 600


def test_more_directories_than_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nsrun.images.unpack.MAX_DIRECTORIES", 50)
    deep = entry("/".join(["d"] * 60) + "/f")[0].tobuf(tarfile.PAX_FORMAT)

    class Once:
        data = deep

        def read(self, _size: int, /) -> bytes:
            piece, self.data = self.data, b""
            return piece

    with pytest.raises(SpecError, match="more than 50 directories"):
        Unpack(Once(), str(tmp_path), subject="many").run()
