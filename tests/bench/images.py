"""Images: pulling and unpacking beside podman and skopeo with umoci, out of one registry on the loopback; memory; starts from many layers.

The root file system is Debian's, made by mmdebstrap once and kept as build/debian.tar (tools/debian_root.sh): as one layer, and split into
thirty.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import shutil
import sys
import tarfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from tests.bench.measure import Figure, in_turn, run, timed
from tests.bench.nsrun_side import NSRUN, Nsrun
from tests.host.images.making import Layout
from tests.host.images.registries import Registry, running

DEBIAN = Path("build/debian.tar")
DEBIAN_LAYOUT = Path("build/debian-layout")
LAYERS = 30
LARGE_MB = 1024

POD = """apiVersion: v1
kind: Pod
metadata: {{name: layers}}
spec:
  containers:
  - {{name: a, image: {image}, command: [/usr/bin/sleep, "1000"]}}
"""


def split(archive: Path, count: int) -> list[bytes]:
    """An archive as so many, each with the directories on the way to what it has; hard links stay beside their files."""
    with tarfile.open(archive) as source:
        members = source.getmembers()
        directories = {member.name: member for member in members if member.isdir()}
        total = sum(member.size + 512 for member in members)
        parts: list[list[tarfile.TarInfo]] = [[] for _ in range(count)]
        done = 0
        where: dict[str, int] = {}
        for member in members:
            at = min(done * count // total, count - 1)
            if member.islnk():
                at = where[member.linkname]
            where[member.name] = at
            parts[at].append(member)
            done += member.size + 512
        return [_part(source, part, directories) for part in parts]


def _part(source: tarfile.TarFile, part: list[tarfile.TarInfo], directories: dict[str, tarfile.TarInfo]) -> bytes:
    buffer = io.BytesIO()
    seen: set[str] = set()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as target:
        for member in part:
            for above in reversed(Path(member.name).parents):
                if str(above) in directories and str(above) not in seen:
                    seen.add(str(above))
                    target.addfile(directories[str(above)])
            if member.name not in seen:
                seen.add(member.name)
                target.addfile(member, source.extractfile(member) if member.isreg() else None)
    return buffer.getvalue()


def large_layer(path: Path) -> str:
    """A layer of one file of LARGE_MB, which no compression makes smaller; gives its diff id."""
    info = tarfile.TarInfo("large")
    info.size = LARGE_MB << 20
    whole = hashlib.sha256()
    with path.open("wb") as file:
        for piece in (info.tobuf(), *(os.urandom(1 << 20) for _ in range(LARGE_MB)), bytes(10240)):
            whole.update(piece)
            file.write(piece)
    return f"sha256:{whole.hexdigest()}"


def debian_layout() -> Path:
    """Debian as an image of one layer and of thirty; made once."""
    if not DEBIAN_LAYOUT.exists():
        half = DEBIAN_LAYOUT.with_suffix(".new")
        shutil.rmtree(half, ignore_errors=True)
        made = Layout(half)
        made.image("one", [DEBIAN.read_bytes()])
        made.image("thirty", split(DEBIAN, LAYERS))
        half.rename(DEBIAN_LAYOUT)
    return DEBIAN_LAYOUT


def large_layout(work: Path) -> Layout:
    """An image with one large layer."""
    made = Layout(work / "layout")
    diff_id = large_layer(work / "large.tar")
    os.rename(work / "large.tar", made.path / "blobs/sha256" / diff_id[7:])
    size = (made.path / "blobs/sha256" / diff_id[7:]).stat().st_size
    config = {"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": [diff_id]}}
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": made.blob(json.dumps(config).encode(), "application/vnd.oci.image.config.v1+json"),
        "layers": [{"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": diff_id, "size": size}],
    }
    blob = made.blob(json.dumps(manifest).encode(), str(manifest["mediaType"]))
    made.manifests.append({**blob, "annotations": {"org.opencontainers.image.ref.name": "large"}})
    made.write()
    return made


@contextlib.contextmanager
def registry_with(work: Path) -> Iterator[Registry]:
    """A registry that has the images."""
    with running(work / "registry") as registry:
        for name in ("one", "thirty"):
            registry.push(debian_layout(), name, f"{name}:1")
        made = large_layout(work)
        registry.push(made.path, "large", "large:1")
        shutil.rmtree(made.path)
        yield registry


class Pulls:
    """The same image pulled by each: onto the disk, unpacked, ready for a container.

    Each time into a place of its own, and nothing is removed before the end: ext4 is slow for minutes where much was removed.
    """

    def __init__(self, work: Path, registry: Registry) -> None:
        self.work = work
        self.host = registry.host
        self.number = 0
        self.podmen: list[Path] = []

    def _place(self) -> Path:
        self.number += 1
        place = self.work / str(self.number)
        place.mkdir()
        return place

    def nsrun(self, name: str) -> float:
        """Milliseconds of `nsrun image pull`."""
        command = [NSRUN, "--root", str(self._place() / "root")]
        run([*command, "image", "ls"])
        os.sync()
        try:
            return timed(lambda: run([*command, "image", "pull", "-q", f"{self.host}/{name}:1"]))
        finally:
            run([*command, "server", "stop"])

    def podman(self, name: str) -> float:
        """Milliseconds of `podman pull`, into layers for overlayfs as by default."""
        place = self._place()
        command = ["podman", "--root", str(place / "root"), "--runroot", str(place / "run"), "--tmpdir", str(place / "tmp"),
                   "--storage-driver", "overlay"]  # fmt: skip
        run([*command, "images"])
        self.podmen.append(place)
        os.sync()
        return timed(lambda: run([*command, "pull", "-q", "--tls-verify=false", f"{self.host}/{name}:1"]))

    def umoci(self, name: str) -> float:
        """Milliseconds of `skopeo copy` into a directory and `umoci unpack`."""
        place = self._place()
        source = f"docker://{self.host}/{name}:1"
        os.sync()

        def both() -> None:
            run(["skopeo", "copy", "-q", "--src-tls-verify=false", source, f"oci:{place}/layout:x"])
            run(["umoci", "unpack", "--image", f"{place}/layout:x", f"{place}/bundle"])

        return timed(both)

    def close(self) -> None:
        """Gives podman's mounts back."""
        for place in self.podmen:
            run(["umount", str(place / "root" / "overlay")], check=False)


def pulled(runs: int, pulls: Pulls) -> list[Figure]:
    """Pull plus unpack."""
    figures = []
    for name, words in (("one", "one layer"), ("thirty", f"{LAYERS} layers")):
        contenders = {"nsrun": lambda name=name: pulls.nsrun(name)}
        if shutil.which("podman"):
            contenders["podman"] = lambda name=name: pulls.podman(name)
        if shutil.which("skopeo") and shutil.which("umoci"):
            contenders["umoci"] = lambda name=name: pulls.umoci(name)
        samples = in_turn(runs, **contenders)
        nsrun = samples["nsrun"].median
        for peer, label, share in (("podman", "podman pull", 0.8), ("umoci", "skopeo + umoci", 0.5)):
            theirs = samples[peer].median if peer in samples else None
            figures.append(
                Figure(
                    f"image pull, Debian, {words}", "ms", nsrun, f"at most {share:g} of {label}'s",
                    None if theirs is None else nsrun <= share * theirs, label, theirs, list(samples.values()),
                )
            )  # fmt: skip
    return figures


def starts(runs: int, side: Nsrun, host: str) -> list[Figure]:
    """A pod of an image with many layers beside one with one, both here."""
    for name in ("one", "thirty"):
        side("image", "pull", "-q", f"{host}/{name}:1")
    with side.connect() as client:

        def up(name: str) -> float:
            asked = time.time()
            client.up(POD.format(image=f"{host}/{name}:1"))
            (instance,) = client.pod("layers").runtime["instances"]
            client.down("layers", grace_period=0, force=True)
            return float(instance["started_at"] - asked) * 1e3

        samples = in_turn(2 * runs, one=lambda: up("one"), thirty=lambda: up("thirty"))
    more = samples["thirty"].median - samples["one"].median
    return [
        Figure(
            f"start from {LAYERS} layers beside one", "ms more", more, "at most 2 ms", more <= 2,
            samples=list(samples.values()),
        )
    ]  # fmt: skip


def _peak_kb(pid: int) -> int:
    with contextlib.suppress(OSError), open(f"/proc/{pid}/status") as status:
        for line in status:
            if line.startswith("VmHWM:"):
                return int(line.split()[1])
    return 0


def _workers(server: int) -> list[int]:
    with contextlib.suppress(OSError):
        return [int(word) for word in Path(f"/proc/{server}/task/{server}/children").read_text().split()]
    return []


def memory(side: Nsrun, host: str) -> list[Figure]:
    """What the server and the process that pulls for it hold at most, more than before, while a layer of 1 GiB comes."""
    before, server = side.server_kb(), side.server_pid()
    peak = 0
    stop = threading.Event()

    def watch() -> None:
        nonlocal peak
        while not stop.wait(0.02):
            peak = max(peak, *(_peak_kb(pid) for pid in _workers(server)), 0)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        spent = timed(lambda: side("image", "pull", "-q", f"{host}/large:1"))
    finally:
        stop.set()
        watcher.join()
    grown = max(side.server_kb() - before, 0)
    side("image", "rm", f"{host}/large:1")
    megabytes = (peak + grown) / 1024
    return [
        Figure(f"image pull of {LARGE_MB} MB: memory", "MB", megabytes, "at most 80 MB", peak > 0 and megabytes <= 80),
        Figure(f"image pull of {LARGE_MB} MB: pace", "MB/s", LARGE_MB * 1e3 / spent, "for scale", None),
    ]


def images(side: Nsrun, runs: int, work: Path) -> list[Figure]:
    """All figures of images; none where there is no Debian root to make them of."""
    if not DEBIAN.exists() or not shutil.which("docker-registry") or not shutil.which("skopeo"):
        print(f"{DEBIAN}, docker-registry or skopeo is not there: no figures of images", file=sys.stderr)
        return []
    work.mkdir()
    with registry_with(work) as registry:
        pulls = Pulls(work, registry)
        try:
            return [
                *pulled(max(3, runs // 2), pulls),
                *starts(runs, side, registry.host),
                *memory(side, registry.host),
            ]
        finally:
            pulls.close()
