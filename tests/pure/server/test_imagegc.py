"""Which images go when the disk fills up."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import pytest

from nsrun.images import Image, ImageConfig, ImageStore, RootFs
from nsrun.images.settings import ImageSettings
from nsrun.server import imagegc

pytestmark = pytest.mark.pure


def image(name: str, added: float, *, digest: str = "", source: str = "") -> Image:
    return Image(
        name,
        f"sha256:id-{digest or name}",
        RootFs(("/x",)),
        ImageConfig(),
        1,
        0.0,
        f"sha256:{digest or name}",
        "pull",
        source,
        added,
    )


def test_the_least_recently_used_goes_first_and_none_in_use() -> None:
    images = [image("a", 10), image("b", 20), image("c", 30), image("d", 990), image("e", 5, source="r/e@sha256:e")]
    images.append(image("a2", 40, digest="a"))
    in_use = {"sha256:id-b": ["p"], "r/e@sha256:e": ["q"]}
    found = imagegc.candidates(images, in_use, {"sha256:c": 5.0, "sha256:a": 500.0}, 1000.0, 120.0)
    assert [one.name for one in found] == ["c", "a"]
    built_in = Image("nsrun.local/host:latest", "sha256:h", RootFs(("/x",)), ImageConfig(), 1, 0.0, origin="host")
    assert imagegc.candidates([built_in], {}, {}, 1e9, 0.0) == []


@pytest.mark.parametrize(
    ("available", "wanted"), [(200, 0), (151, 0), (150, 50), (100, 100), (0, 200)]
)  # of 1000 bytes, with 85 % and 80 %
def test_how_much_has_to_go(available: int, wanted: int) -> None:
    assert imagegc.to_free(1000, available, ImageSettings()) == wanted


def test_a_disk_that_says_nothing() -> None:
    assert imagegc.to_free(0, 0, ImageSettings()) == 0


@pytest.mark.parametrize(
    ("wanted", "goes"),
    [(20, ["loaded", "pulled", "imported"]), (60, ["loaded", "pulled", "imported"]), (61, ["pulled"])],
)  # each takes 10 bytes unpacked and at most as many as it came
def test_what_cannot_be_pulled_again_is_not_removed_in_vain(wanted: int, goes: list[str]) -> None:
    images = [
        Image(name, name, RootFs(("/x",)), ImageConfig(), 10, 0.0, name, origin)
        for name, origin in (("loaded", "load"), ("pulled", "pull"), ("imported", "import"))
    ]
    assert [one.name for one in imagegc.worth_it(images, wanted)] == goes


def collector(tmp_path: Path, names: list[str], **settings: Any) -> tuple[imagegc.ImageCollector, ImageStore]:
    store = ImageStore(tmp_path / "lib", durable=False)
    for name in names:
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text(name * 100)
        store.import_(name, tmp_path / name)
    world = MagicMock()
    world.images = store
    world.layout.lib = tmp_path / "lib"
    world.image_settings = ImageSettings(**settings)
    world.images_in_use = lambda: {store.get("used").id: ["p"]}
    world.clock.now.return_value = store.get("used").added + 1000
    return imagegc.ImageCollector(world), store


def left(store: ImageStore) -> list[str]:
    return [one.name.rpartition("/")[2].removesuffix(":latest") for one in store.list() if one.digest]


def test_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    work, store = collector(tmp_path, ["old", "used", "newer"])
    free = iter([(1000, 100), (1000, 150), (1000, 250)])
    monkeypatch.setattr(work, "_disk", lambda: next(free))
    assert asyncio.run(work.collect()) == ["docker.io/library/old:latest", "docker.io/library/newer:latest"]
    assert left(store) == ["used"]


def test_a_disk_full_of_other_things(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    work, store = collector(tmp_path, ["old", "used", "newer"])
    monkeypatch.setattr(work, "_disk", lambda: (1_000_000, 100_000))
    with caplog.at_level("INFO"):
        assert asyncio.run(work.collect()) == []
    assert left(store) == ["newer", "old", "used"]
    assert "2 unused images that were loaded or imported stay" in caplog.text
    assert "failed to garbage collect required amount of images" in caplog.text


def test_no_more_than_has_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    work, store = collector(tmp_path, ["old", "used", "newer"])
    free = iter([(1000, 100), (1000, 200)])
    monkeypatch.setattr(work, "_disk", lambda: next(free))
    assert asyncio.run(work.collect()) == ["docker.io/library/old:latest"]
    assert left(store) == ["newer", "used"]


def test_a_disk_with_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    work, store = collector(tmp_path, ["old", "used"])
    monkeypatch.setattr(work, "_disk", lambda: (1000, 151))
    assert asyncio.run(work.collect()) == []
    assert left(store) == ["old", "used"]


def test_the_minimum_age(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    work, store = collector(tmp_path, ["old", "used"], gc_minimum_age_s=5000)
    monkeypatch.setattr(work, "_disk", lambda: (1000, 0))
    assert asyncio.run(work.collect()) == []
    assert left(store) == ["old", "used"]


def test_the_maximum_age(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    work, store = collector(tmp_path, ["old", "used"], gc_maximum_age_s=900)
    monkeypatch.setattr(work, "_disk", lambda: (1000, 900))
    assert asyncio.run(work.collect()) == ["docker.io/library/old:latest"]
    assert left(store) == ["used"]
