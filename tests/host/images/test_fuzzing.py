"""Bent layers, for a moment at each run of the tests; and archives of more entries than anybody has."""

from __future__ import annotations

import os
import random
import tarfile
import tracemalloc
from pathlib import Path

import pytest

from nsrun.errors import SpecError
from nsrun.images import tar
from nsrun.images.unpack import Unpack
from tests.host.images.fuzzing import fuzz
from tests.host.images.making import directory, entry

pytestmark = pytest.mark.host

SECONDS = 120.0 if os.environ.get("NSRUN_SOAK") else 3.0
TEN_MILLION = 10_000_000


@pytest.mark.timeout(300)
def test_bent_layers_are_refused_or_trees(tmp_path: Path) -> None:
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    assert fuzz(SECONDS, seed, tmp_path) > 20 * SECONDS


class Endless:
    """An archive of ten million entries, made as it is read; nothing of it is anywhere else."""

    def __init__(self, one: tarfile.TarInfo) -> None:
        self._block = one.tobuf(tarfile.USTAR_FORMAT) * 512
        self._left = TEN_MILLION // 512
        self.read_so_far = 0

    def read(self, _size: int, /) -> bytes:
        if not self._left:
            return b""
        self._left -= 1
        self.read_so_far += 512
        return self._block


@pytest.mark.timeout(600)
@pytest.mark.parametrize("kind", ["devices that are passed over", "one directory again and again"])
def test_ten_million_entries(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if not os.environ.get("NSRUN_SOAK"):
        monkeypatch.setattr(tar, "MAX_ENTRIES", 10_000)
    source = Endless((entry("dev/x", tarfile.CHRTYPE) if kind.startswith("dev") else directory("d"))[0])
    tracemalloc.start()
    try:
        with pytest.raises(SpecError, match=f"it has more than {tar.MAX_ENTRIES} entries"):
            Unpack(source, str(tmp_path), subject="many").run()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 8 << 20, "bytes, whatever the number of entries"
    assert source.read_so_far <= tar.MAX_ENTRIES + 1024, "the rest was not looked at"


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
