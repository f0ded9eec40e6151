"""A disk that fills up while an image comes: a clear error, nothing of it is kept, and with room the same command works."""

from __future__ import annotations

import gc
import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from nsrun import native
from nsrun.errors import NsrunError
from nsrun.images import ImageStore, parse
from nsrun.images.pulling import RegistryPuller
from tests.chance import SEED
from tests.host.images.making import Layout, directory, entry, layer
from tests.host.images.registries import Shelf

pytestmark = pytest.mark.host


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 KiB, which grows with `grow`."""
    place = tmp_path / "small"
    place.mkdir()
    native.mount("tmpfs", place, "tmpfs", 0, "size=64k,mode=0700")
    yield place
    native.umount2(place)


def grow(place: Path, kib: int) -> None:
    """Gives it another size."""
    native.mount("tmpfs", place, "tmpfs", native.lib.MS_REMOUNT, f"size={kib}k")


@pytest.fixture
def made(tmp_path: Path) -> Layout:
    """An image of three layers with 400 KiB of what cannot be compressed: with them unpacked, 900 KiB."""
    made = Layout(tmp_path / "layout")
    layers = [
        layer([directory(f"d{at}"), *(entry(f"d{at}/{number}", data=os.urandom(9000)) for number in range(15))])
        for at in range(3)
    ]
    made.image("docker.io/library/a:1", layers)
    return made


def test_a_disk_that_fills_up_at_random_while_an_image_is_pulled(
    small: Path, made: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    print(f"NSRUN_SEED={SEED}")
    choice = random.Random(SEED)
    shelf = Shelf(made.path, made.manifests[0])
    name = f"{shelf.host}/a:1"
    try:
        full = 0
        for kib in choice.sample(range(8, 1200, 4), 12):
            store = ImageStore(small / "lib", durable=False)
            facts = os.statvfs(small)
            grow(small, (facts.f_blocks - facts.f_bfree) * facts.f_frsize // 1024 + kib)
            try:
                image = RegistryPuller().pull(parse(name), store)
            except NsrunError as error:
                full += 1
                assert "No space left on device (ENOSPC)" in error.brief
                assert store.content.records() == []
            else:
                assert image.size == 3 * 15 * 9000
                store.remove(name)
            grow(small, 4096)
            # What came is kept to go on with; only a prune takes it away, and the next one has room again.
            store.prune({}, partial_s=choice.choice((0.0, 3600.0)))
            assert not [*store.content.directory.glob(".new-*"), *store.content.directory.glob("blobs/sha256/*")]
        assert full
        assert RegistryPuller().pull(parse(name), store).size == 3 * 15 * 9000
    finally:
        shelf.close()
        gc.collect()


@pytest.mark.parametrize("kib", [8, 24, 64, 160, 300, 420, 600, 800])
def test_a_disk_that_is_full_at_any_point(small: Path, made: Layout, kib: int) -> None:
    grow(small, kib)
    store = ImageStore(small / "lib", durable=False)
    with pytest.raises(NsrunError) as caught:
        store.load(str(made.path))
    assert "No space left on device (ENOSPC)" in caught.value.brief
    grow(small, 4096)
    top = store.content.directory
    store = ImageStore(small / "lib", durable=False)
    assert [one.name for one in store.list()] == ["nsrun.local/host:latest"]
    assert not [*top.glob(".new-*"), *top.glob("blobs/sha256/*")]
    (image,) = store.load(str(made.path))
    assert image.size == 3 * 15 * 9000
    store.remove("a:1")
    assert not list(top.glob("blobs/sha256/*"))
