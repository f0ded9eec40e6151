"""Layers that are brought beside the process that pulls their image, and processes that end in the middle of that."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nsrun.errors import NsrunError
from nsrun.images import ImageError, ImageStore, parse
from nsrun.images.crew import Member, MemberLostError, member
from nsrun.images.documents import Descriptor
from nsrun.images.pulling import RegistryPuller
from tests.host.images.making import Layout, directory, entry, layer
from tests.host.images.registries import Registry, running

pytestmark = pytest.mark.host

LAYERS = [layer([directory(f"d{at}"), entry(f"d{at}/file", data=os.urandom(3 << 20))]) for at in range(8)]


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No proxy and no login of this machine."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    """A registry with an image of several layers that are worth another process."""
    made = Layout(tmp_path / "layout")
    made.image("one", LAYERS)
    with running(tmp_path / "registry") as registry:
        registry.push(made.path, "one", "app:1")
        yield registry


def children() -> list[int]:
    """Of this process, that take part in a pull."""
    found = []
    for task in Path("/proc/self/task").iterdir():
        # Threads and processes end while they are looked at.
        with contextlib.suppress(OSError):
            for pid in (task / "children").read_text().split():
                if b"nsrun.images.crew" in Path(f"/proc/{pid}/cmdline").read_bytes():
                    found.append(int(pid))
    return found


def about(store: ImageStore, host: str) -> dict[str, Any]:
    return RegistryPuller().about(parse(f"{host}/app:1"), store.content)


def blob(registry: Registry, store: ImageStore) -> tuple[Descriptor, str]:
    """One of the layers: its blob and diff id."""
    image = RegistryPuller().pull(parse(f"{registry.host}/app:1"), store)
    document = store.inspect(image)
    manifest, config = document["manifest"], document["document"]
    first = manifest["layers"][0]
    return Descriptor(first["mediaType"], first["digest"], first["size"]), config["rootfs"]["diff_ids"][0]


@pytest.mark.timeout(120)
def test_a_pull_ends_well_when_those_who_take_part_are_killed(store: ImageStore, registry: Registry) -> None:
    over, killed = threading.Event(), 0

    def kill() -> None:
        nonlocal killed
        while not over.wait(0.01):
            for pid in children():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                    killed += 1

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        image = RegistryPuller(processes=3).pull(parse(f"{registry.host}/app:1"), store)
    finally:
        over.set()
        killer.join()
    assert killed
    assert image.size == len(LAYERS) * (3 << 20)
    assert children() == []
    assert not [*store.content.directory.glob(".new*"), *store.content.directory.glob("partial/*")]


def test_a_layer_and_an_error_come_back(tmp_path: Path, store: ImageStore, registry: Registry) -> None:
    wanted, diff_id = blob(registry, store)
    other = ImageStore(tmp_path / "other", durable=False)
    other.content.prepare()
    told: list[dict[str, Any]] = []
    with contextlib.closing(Member()) as member:
        member.begin(about(other, registry.host), told.append)
        with pytest.raises(NsrunError, match="404 Not Found"):
            member.lanes[0].take(Descriptor(wanted.media_type, f"sha256:{'0' * 64}", 5), diff_id)
        made = member.lanes[0].take(wanted, diff_id)
    assert (made.blob, made.diff_id, made.name) == (wanted, diff_id, diff_id[7:])
    assert other.content.has_layer(made.name)
    assert other.content.has_blob(wanted.digest, wanted.size)
    assert told[-1] == {"layer": wanted.digest, "state": "done", "done": wanted.size, "total": wanted.size}


def test_one_that_is_killed_is_told_of(store: ImageStore, registry: Registry) -> None:
    wanted, diff_id = blob(registry, store)
    with contextlib.closing(Member()) as member:
        member.begin(about(store, registry.host), lambda _event: None)
        member.kill()
        with pytest.raises(MemberLostError):
            member.lanes[0].take(wanted, diff_id)
    assert children() == []


def test_an_error_ends_all_of_it(tmp_path: Path, store: ImageStore, registry: Registry) -> None:
    store.content.prepare()
    full = tmp_path / "lib/images/partial"
    full.rmdir()
    full.write_text("no directory")
    began = time.monotonic()
    with pytest.raises((ImageError, NsrunError), match="partial"):
        RegistryPuller(processes=3).pull(parse(f"{registry.host}/app:1"), store)
    assert time.monotonic() - began < 60
    assert children() == []


@pytest.mark.parametrize("told", [True, False])
def test_it_ends_with_who_asked(store: ImageStore, registry: Registry, told: bool) -> None:
    member = Member()
    if told:
        member.begin(about(store, registry.host), lambda _event: None)
    process = member._process
    fd = os.pidfd_open(process.pid)
    assert process.stdin is not None
    # As when the other end is gone with its process, at any moment: before anything was said, too.
    process.stdin.close()
    assert process.wait(timeout=30) == 0
    os.close(fd)
    member.close()


def test_it_refuses_nobody_with_a_traceback() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "nsrun.images.crew"],
        input="",
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_those_that_began_early_take_part_or_end(store: ImageStore, registry: Registry) -> None:
    early = [member(), member(), member()]
    processes = [one._process for one in early]
    image = RegistryPuller(processes=2, early=early).pull(parse(f"{registry.host}/app:1"), store)
    assert image.size == len(LAYERS) * (3 << 20)
    assert early == []
    assert all(one.returncode is not None for one in processes)
    # Of an image that is here, none is needed.
    early = [member()]
    (process,) = [one._process for one in early]
    RegistryPuller(processes=2, early=early).pull(parse(f"{registry.host}/app:1"), store)
    assert early == []
    assert process.returncode is not None


def test_all_lanes_share_their_connections(store: ImageStore, registry: Registry) -> None:
    image = RegistryPuller().pull(parse(f"{registry.host}/app:1"), store)
    document = store.inspect(image)
    layers = zip(document["manifest"]["layers"], document["document"]["rootfs"]["diff_ids"], strict=True)
    store.remove(image.id)
    before = len(registry.log.read_text())
    with contextlib.closing(member()) as one:
        one.begin(about(store, registry.host), lambda _event: None)
        for lane, (wanted, diff_id) in zip(one.lanes, layers, strict=False):
            lane.take(Descriptor(wanted["mediaType"], wanted["digest"], wanted["size"]), diff_id)
    log = registry.log.read_text()[before:]
    assert len(one.lanes) > 1
    assert log.count("GET /v2/app/blobs/") >= len(one.lanes)
    assert len(set(re.findall(r'remoteaddr="(127.0.0.1:[0-9]+)"', log))) == 1
