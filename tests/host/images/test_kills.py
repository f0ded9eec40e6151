"""SIGKILL at any moment of bringing and removing images, by two in one store: what the index names is whole, the rest goes next time."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from nsrun.images import Image, ImageStore
from tests.chance import SEED
from tests.host.images.making import Layout, directory, entry, hard_link, layer, tree, whiteout
from tests.host.images.registries import Shelf

pytestmark = pytest.mark.host

ROUNDS = 1000 if os.environ.get("NSRUN_SOAK") else 100
"""With two kills each."""

LIVES = """
import os, sys
from pathlib import Path
from nsrun.images import ImageStore, parse
from nsrun.images.pulling import RegistryPuller
from nsrun.errors import NsrunError
import nsrun.images.loading, nsrun.images.importing, nsrun.images.layers, nsrun.images.unpack
import nsrun.images.pulling
lib, layout, root, registry = sys.argv[1:]
nsrun.images.pulling._CREW_PAYS = 0
# Rarely: a process that takes part is longer in beginning than most lives last.
CREW = 2 if os.getpid() % 4 == 0 else 1

def files(store):
    store.load(layout)
    store.tag("a:1", "c:1")
    store.remove("a:1")
    store.load(layout)
    store.import_("d:1", root)
    store.collect({})
    store.prune({store.get("b:1").id: ["p"]})
    store.remove("b:1")
    store.remove("d:1")

def pulls(store):
    RegistryPuller(processes=CREW).pull(parse(registry + "/app:1"), store)
    store.remove(registry + "/app:1")
    RegistryPuller().pull(parse(registry + "/app:1"), store)
    store.prune({}, named=True, partial_s=0.0)

for line in sys.stdin:
    child = os.fork()
    if not child:
        store = ImageStore(Path(lib), durable=False)
        while True:
            try:
                (pulls if line == "pulls\\n" else files)(store)
            except NsrunError as error:
                # The other one removes what this one has just brought.
                if error.code not in ("not-found", "conflict"):
                    print(repr(error), file=sys.stderr, flush=True)
                    os._exit(3)
            except BaseException:
                import traceback
                traceback.print_exc()
                os._exit(4)
    print(child, flush=True)
    sys.stdin.readline()
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
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
    shared = files(0, 100)
    made.image("docker.io/library/a:1", [shared, files(1, 50), layer([whiteout("d0/5"), entry("d1/new")])])
    made.image("docker.io/library/b:1", [shared, files(2, 80), layer([hard_link("copied", "d0/7"), entry("d2/new")])])
    return made


@pytest.fixture
def shelf(layout: Layout) -> Iterator[Shelf]:
    """A registry with the second of them."""
    shelf = Shelf(layout.path, layout.manifests[1])
    yield shelf
    shelf.close()


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


class Nursery:
    """A process that has all modules ready and makes lives: one starts within milliseconds."""

    def __init__(self, *words: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", LIVES, *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def say(self, word: str) -> int:
        """Its answer."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{word}\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline())

    def close(self) -> None:
        """Ends it."""
        with self.process:
            pass


def swept(store: ImageStore) -> None:
    """Nothing is left of what was being made, once the copies that took part have ended with the process that was killed."""
    deadline = time.monotonic() + 20
    while True:
        store.sweep()
        if not list(store.content.directory.glob(".new*")):
            return
        assert time.monotonic() < deadline, list(store.content.directory.glob(".new*/*"))
        time.sleep(0.005)


@pytest.mark.timeout(1800)
def test_killed_at_any_moment(tmp_path: Path, layout: Layout, shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    print(f"NSRUN_SEED={SEED}")
    choice = random.Random(SEED)
    lib = tmp_path / "lib"
    (tmp_path / "root").mkdir()
    for at in range(50):
        (tmp_path / "root" / str(at)).write_text("x" * at)
    known: dict[str, object] = {}
    clean = ImageStore(tmp_path / "clean", durable=False)
    for image in clean.load(str(layout.path)):
        known[image.digest] = looks(image)
    words = (str(lib), str(layout.path), str(tmp_path / "root"), shelf.host)
    nurseries = [Nursery(*words), Nursery(*words)]
    try:
        for number in range(ROUNDS):
            living = [one.say(choice.choice(("files", "pulls"))) for one in nurseries]
            for pid in choice.sample(living, 2):
                time.sleep(choice.uniform(0, 0.12))
                os.kill(pid, signal.SIGKILL)
            assert [one.say("") for one in nurseries] == [-signal.SIGKILL] * 2, "one ended by itself"
            store = ImageStore(lib, durable=False)
            if number % 4 == 0 or number == ROUNDS - 1:
                whole(store, known)
            swept(store)
    finally:
        for one in nurseries:
            one.close()
    store = ImageStore(lib, durable=False)
    for image in store.load(str(layout.path)):
        assert known[image.digest] == looks(image)
    store.prune({}, partial_s=0.0)
    assert list((lib / "images/blobs/sha256").iterdir()) == []
    assert list((lib / "images/partial").iterdir()) == []
    assert [one.name for one in (lib / "images/layers").iterdir() if one.name[:5] not in ("base", "host-")] == []
