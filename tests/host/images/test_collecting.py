"""A disk that fills up: what nobody uses goes, the least recently used first, until there is room again; what is used stays."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from nsrun import native
from tests.capabilities import PATIENCE
from tests.host.server.conftest import pytest_runtest_makereport, server
from tests.host.server.harness import Server, Workshop, box, pod, until

__all__ = ["pytest_runtest_makereport", "server"]

pytestmark = [pytest.mark.requires("overlay"), pytest.mark.timeout(180)]

SIZE = 100 << 20
IMAGE = 6 << 20
"""Bytes of an image's largest file: it lies there twice, as it came and unpacked."""


@pytest.fixture
def lib(server: Server) -> Iterator[Path]:
    """The lib directory on a disk of its own, which is looked at each second."""
    server.stop()
    lib, was = server.root / "lib", server.host.scratch / "lib"
    shutil.move(lib, was)
    lib.mkdir(mode=0o700)
    native.mount("tmpfs", lib, "tmpfs", 0, f"size={SIZE},mode=0700")
    try:
        shutil.copytree(was, lib, symlinks=True, dirs_exist_ok=True)
        (server.root / "etc").mkdir(exist_ok=True)
        (server.root / "etc/config.toml").write_text("[images]\ngc_period_s = 1\ngc_minimum_age_s = 0\n")
        server.start()
        yield lib
    finally:
        server.down("web", "was", missing_ok=True)
        server.kill()
        # What is noted there of pods and networks is taken back by a server on the directory itself.
        (lib / "filler").unlink(missing_ok=True)
        shutil.rmtree(was)
        shutil.copytree(lib, was, symlinks=True, ignore=shutil.ignore_patterns("images", "roots"))
        native.umount2(lib, native.lib.MNT_DETACH)
        shutil.copytree(was, lib, symlinks=True, dirs_exist_ok=True)


def usage(lib: Path) -> float:
    facts = os.statvfs(lib)
    return 100 - facts.f_bavail * 100 / facts.f_blocks


def fill(lib: Path, percent: float) -> None:
    """Writes what is no image, until the disk is so full."""
    with (lib / "filler").open("ab") as file:
        file.write(bytes(max(int((percent - usage(lib)) * SIZE / 100), 0)))


def named(server: Server) -> set[str]:
    """The images of this test that are there."""
    names = (one["name"] for one in server.call("image.list").result["images"])
    return {
        name.removeprefix("tests.local/").removesuffix(":latest") for name in names if name.startswith("tests.local/")
    }


def rounds(server: Server, count: int = 3) -> None:
    """The disk has been looked at so often."""
    looked = "over the high threshold"
    before = server.said().count(looked)
    until(lambda: server.said().count(looked) >= before + count, what="nobody looks at the disk")


def test_unused_images_go_by_age_until_there_is_room(server: Server, lib: Path, workshop: Workshop) -> None:
    tree = server.host.scratch / "tree"
    shutil.copytree(workshop.rootfs, tree, symlinks=True)
    for name in ("used", "older", "old", "new"):
        (tree / "large").write_bytes(os.urandom(IMAGE))
        server.call(
            "image.import",
            name=f"tests.local/{name}",
            path=str(tree),
            config={"env": ["PATH=/bin"], "cmd": ["/bin/pause"]},
        )
    every = {"testbox", "used", "older", "old", "new"}
    server.up(pod("web", {**box("a", "pause"), "image": "tests.local/used"}))
    # One that was used for a while is not older than one that came meanwhile.
    server.up(pod("was", {**box("a", "pause"), "image": "tests.local/older"}))
    assert usage(lib) < 70
    fill(lib, 82)
    time.sleep(2.5 * PATIENCE)
    assert named(server) == every, server.said()
    assert "high threshold" not in server.said()

    server.down("was")
    fill(lib, 86.5)
    until(lambda: usage(lib) <= 80, what="it stays full")
    until(lambda: "removed image tests.local/old:latest" in server.said())
    assert named(server) == {"used", "older", "new"}, "the least recently used went, and no more than had to"
    assert "is over the high threshold, trying to free bytes down to the low threshold: usage 86 %" in server.said()
    assert "failed to garbage collect" not in server.said()

    fill(lib, 86.5)
    until(lambda: named(server) == {"used", "older"}, what="the next one stays")

    # All that may go is not enough, and cannot be pulled again.
    fill(lib, 97)
    until(lambda: "but only found" in server.said())
    assert "failed to garbage collect required amount of images" in server.said()
    assert "1 unused images that were loaded or imported stay" in server.said()
    rounds(server)
    assert named(server) == {"used", "older"}
    assert server.get("web")["status"]["phase"] == "Running"
    assert len((lib / "filler").read_bytes()) > 0
