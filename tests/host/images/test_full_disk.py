"""A disk that fills up while an image comes: a clear error, nothing of it is kept, and with room the same command works."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from nsrun import native
from nsrun.errors import NsrunError
from nsrun.images import ImageStore
from tests.host.images.making import Layout, directory, entry, layer

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


@pytest.mark.parametrize("kib", [8, 24, 64, 160, 300, 420, 600, 800])
def test_a_disk_that_is_full_at_any_point(tmp_path: Path, small: Path, kib: int) -> None:
    made = Layout(tmp_path / "layout")
    layers = [
        layer([directory(f"d{at}"), *(entry(f"d{at}/{number}", data=os.urandom(9000)) for number in range(15))])
        for at in range(3)
    ]
    made.image("docker.io/library/a:1", layers)
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
