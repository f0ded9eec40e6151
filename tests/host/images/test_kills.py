"""SIGKILL at any moment of bringing and removing images: what the index names is whole, and what is not is gone with the next command."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from nsrun.images import Image, ImageStore
from tests.host.images.making import Layout, directory, entry, hard_link, layer, tree, whiteout

pytestmark = pytest.mark.host

ROUNDS = 200 if os.environ.get("NSRUN_SOAK") else 20

LIFE = """
import sys
from pathlib import Path
from nsrun.images import ImageStore
store = ImageStore(Path(sys.argv[1]), durable=False)
print("go", flush=True)
while True:
    store.load(sys.argv[2])
    store.tag("a:1", "c:1")
    store.remove("a:1")
    store.load(sys.argv[2])
    store.import_("d:1", sys.argv[3])
    store.collect({})
    store.prune({store.get("b:1").id: ["p"]})
    store.remove("b:1")
    store.remove("d:1") if any(one.name.endswith("/d:1") for one in store.list()) else None
"""


def files(number: int, count: int) -> bytes:
    """A layer of some hundred small files."""
    entries = [directory(f"d{number}")]
    entries += [entry(f"d{number}/{at}", data=b"%d" % at * 300) for at in range(count)]
    return layer([*entries, hard_link(f"d{number}/link", f"d{number}/0")])


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    """Two images that share layers; one has a layer that depends on those below."""
    made = Layout(tmp_path / "layout")
    shared = files(0, 200)
    made.image("docker.io/library/a:1", [shared, files(1, 100), layer([whiteout("d0/5"), entry("d1/new")])])
    made.image("docker.io/library/b:1", [shared, files(2, 150), layer([hard_link("copied", "d0/7"), entry("d2/new")])])
    return made


def looks(image: Image) -> list[dict[str, tuple[object, ...]]]:
    """All of an image's layers; without times, as those of whiteouts are when they were made."""
    return [
        {name: (*facts[:4], *facts[5:]) for name, facts in tree(Path(lower)).items()} for lower in image.rootfs.lowers
    ]


def whole(store: ImageStore, known: dict[str, object]) -> None:
    """Every image of the index is as it was when it was whole."""
    for image in store.list():
        if not image.digest:
            continue
        shown = looks(image)
        assert known.setdefault(image.digest, shown) == shown
    assert len(store.list()) == len(store.content.records()) + 1, "an entry of the index that cannot be read"


@pytest.mark.timeout(900)
def test_killed_at_any_moment(tmp_path: Path, layout: Layout) -> None:
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    choice = random.Random(seed)
    lib = tmp_path / "lib"
    (tmp_path / "root").mkdir()
    for at in range(100):
        (tmp_path / "root" / str(at)).write_text("x" * at)
    known: dict[str, object] = {}
    clean = ImageStore(tmp_path / "clean", durable=False)
    for image in clean.load(str(layout.path)):
        known[image.digest] = looks(image)
    happened = 0
    for _ in range(ROUNDS):
        with subprocess.Popen(
            [sys.executable, "-c", LIFE, str(lib), str(layout.path), str(tmp_path / "root")], stdout=subprocess.PIPE
        ) as life:
            assert life.stdout is not None
            assert life.stdout.readline() == b"go\n"
            time.sleep(choice.uniform(0, 0.5))
            happened += life.poll() is None
            life.kill()
        store = ImageStore(lib, durable=False)
        whole(store, known)
        store.sweep()
        assert not list((lib / "images").glob(".new*"))
    assert happened == ROUNDS, "it ended by itself"
    store = ImageStore(lib, durable=False)
    for image in store.load(str(layout.path)):
        assert known[image.digest] == looks(image)
    store.prune({}, partial_s=0.0)
    assert list((lib / "images/blobs/sha256").iterdir()) == []
    assert [one.name for one in (lib / "images/layers").iterdir() if one.name[:5] not in ("base", "host-")] == []
