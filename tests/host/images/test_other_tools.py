"""Images that buildah, podman and umoci make here, and files laid out exactly as kaniko and nix write them."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nsrun import native
from nsrun.images import ImageStore
from tests.host.images.making import mounted, tree, umoci_unpack
from tests.host.testhost import Machine

pytestmark = pytest.mark.host

PROCESS = (("/bin/app",), ("serve",), ("A=b",), "7:8", "/data", "SIGUSR1")


def run(*words: str | Path, cwd: Path) -> None:
    """A command that has to succeed."""
    done = subprocess.run(list(map(str, words)), cwd=cwd, check=False, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A tree with all that these tools keep."""
    top = tmp_path / "root"
    for name in ("bin", "data/deep", "tmp"):
        (top / name).mkdir(parents=True)
    (top / "bin/app").write_bytes(b"app" * 1000)
    (top / "bin/app").chmod(0o4755)
    (top / "bin/link").symlink_to("../data/file")
    (top / "data/file").write_text("file")
    os.link(top / "data/file", top / "data/same")
    (top / "data/deep/\u00e4").write_text("name")
    os.chown(top / "data/file", 1000, 1001)
    os.chown(top / "data", 7, 8)
    (top / "tmp").chmod(0o1777)
    os.mkfifo(top / "data/pipe")
    for path in sorted(top.rglob("*"), reverse=True):
        os.utime(path, (1_600_000_000, 1_600_000_000), follow_symlinks=False)
    return top


@pytest.fixture
def short(machine: Machine) -> Iterator[Path]:
    """A directory whose path podman takes: it may have 50 characters."""
    directory = Path(machine.directory, "tools")
    yield directory
    shutil.rmtree(directory)


def storage(short: Path, tool: str) -> list[str]:
    """A tool with a storage of the test's own; nothing here needs a mount that lasts."""
    words = [tool, "--root", f"{short}/storage", "--runroot", f"{short}/run", "--storage-driver", "vfs"]
    return words + (["--tmpdir", f"{short}/podman"] if tool == "podman" else [])


def same_as_umoci(tmp_path: Path, store: ImageStore, layout: Path, tag: str, file: Path, name: str) -> None:
    """The image in a file is what umoci unpacks of the same in a layout."""
    (image,) = store.load(str(file), name=name)
    config = image.config
    found = (config.entrypoint, config.cmd, config.env[-1:], config.user, config.workdir, config.stop_signal)
    assert found == PROCESS
    with mounted(image.rootfs.lowers, tmp_path / "merged") as merged:
        ours = tree(merged)
    theirs = tree(umoci_unpack(layout, tag, tmp_path / f"bundle-{name}"))
    for path in (".", "proc", "sys", "dev", "etc", "etc/hosts", "etc/hostname", "etc/resolv.conf"):
        theirs.pop(path, None)
        ours.pop(path, None)
    assert ours == theirs
    assert ours["bin/app"][1] == ("0o4755" if name == "umoci" else "0o755"), "buildah's COPY takes set-user-ID away"
    store.remove(image.name)


def test_what_buildah_and_podman_make(short: Path, tmp_path: Path, store: ImageStore, root: Path) -> None:
    (tmp_path / "Containerfile").write_text(
        "FROM scratch\nCOPY root /\nENV A=b\nUSER 7:8\nWORKDIR /data\n"
        'ENTRYPOINT ["/bin/app"]\nCMD ["serve"]\nSTOPSIGNAL SIGUSR1\n'
    )
    buildah, podman = storage(short, "buildah"), storage(short, "podman")
    try:
        build = ["--isolation", "chroot", "--layers", "-t"]
        run(*buildah, "bud", *build, "example.org/app:1", ".", cwd=tmp_path)
        run(*buildah, "push", "example.org/app:1", f"oci:{tmp_path}/layout:x", cwd=tmp_path)
        for number, target in enumerate(("oci-archive", "docker-archive")):
            file = tmp_path / target
            run(*buildah, "push", "example.org/app:1", f"{target}:{file}", cwd=tmp_path)
            same_as_umoci(tmp_path, store, tmp_path / "layout", "x", file, f"buildah{number}")
        run(*podman, "build", *build, "example.org/pod:1", ".", cwd=tmp_path)
        for number, form in enumerate(("oci-archive", "docker-archive")):
            file = tmp_path / f"podman-{form}"
            run(*podman, "save", "--format", form, "-o", file, "example.org/pod:1", cwd=tmp_path)
            same_as_umoci(tmp_path, store, tmp_path / "layout", "x", file, f"podman{number}")
    finally:
        for place in tmp_path.glob("storage/*"):
            if os.path.ismount(place):
                native.umount2(place)


def test_what_umoci_makes(tmp_path: Path, store: ImageStore, root: Path) -> None:
    layout = tmp_path / "layout"
    run("umoci", "init", "--layout", layout, cwd=tmp_path)
    run("umoci", "new", "--image", f"{layout}:x", cwd=tmp_path)
    run("umoci", "unpack", "--image", f"{layout}:x", "bundle", cwd=tmp_path)
    run("cp", "-a", f"{root}/.", "bundle/rootfs", cwd=tmp_path)
    run("umoci", "repack", "--image", f"{layout}:x", "bundle", cwd=tmp_path)
    (tmp_path / "bundle/rootfs/data/deep/\u00e4").unlink()
    (tmp_path / "bundle/rootfs/data/new").write_text("second layer")
    run("umoci", "repack", "--image", f"{layout}:x", "bundle", cwd=tmp_path)
    words = ["--config.entrypoint=/bin/app", "--config.cmd=serve", "--config.env=A=b", "--config.user=7:8"]
    words += ["--config.workingdir=/data", "--config.stopsignal=SIGUSR1"]
    run("umoci", "config", "--image", f"{layout}:x", *words, cwd=tmp_path)
    run("umoci", "gc", "--layout", layout, cwd=tmp_path)
    same_as_umoci(tmp_path, store, layout, "x", layout, "umoci")


def tar_of(files: dict[str, bytes], mode: str = "w") -> bytes:
    """An archive of files."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as file:  # type: ignore[call-overload]  # a mode by argument
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            file.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def config_of(layers: list[bytes]) -> bytes:
    process: dict[str, Any] = {"Entrypoint": ["/bin/app"], "Env": ["A=b"]}
    ids = [f"sha256:{hashlib.sha256(one).hexdigest()}" for one in layers]
    return json.dumps(
        {"architecture": "amd64", "os": "linux", "config": process, "rootfs": {"type": "layers", "diff_ids": ids}}
    ).encode()


def test_what_kaniko_writes(tmp_path: Path, store: ImageStore) -> None:
    """`--tar-path` (go-containerregistry's tarball): layers are gzip'ed, the config's file is its digest, and manifest.json comes last."""
    layers = [tar_of({"bin/app": b"app"}), tar_of({"bin/other": b"other", ".wh.gone": b""})]
    packed = [gzip.compress(one, 1, mtime=0) for one in layers]
    config = config_of(layers)
    name = f"sha256:{hashlib.sha256(config).hexdigest()}"
    blobs = {f"{hashlib.sha256(one).hexdigest()}.tar.gz": one for one in packed}
    manifest = [{"Config": name, "RepoTags": ["example.org/team/app:v1"], "Layers": list(blobs)}]
    file = tmp_path / "kaniko.tar"
    file.write_bytes(tar_of({name: config, **blobs, "manifest.json": json.dumps(manifest).encode()}))
    (image,) = store.load(str(file))
    assert (image.name, image.id, image.config.entrypoint) == ("example.org/team/app:v1", name, ("/bin/app",))
    assert image.size == 8


def test_what_nix_writes(tmp_path: Path, store: ImageStore) -> None:
    """dockerTools.buildLayeredImage: a gzip'ed docker-archive whose layers have names from the root on, but for the last one."""

    def store_layer(paths: dict[str, bytes | None]) -> bytes:
        buffer = io.BytesIO()
        above: dict[str, bytes | None] = {"/nix": None, "/nix/store": None}
        with tarfile.open(fileobj=buffer, mode="w|") as file:
            for name, data in (above | paths).items():
                info = tarfile.TarInfo(name)
                info.mtime, info.uname, info.gname = 1, "root", "root"
                if data is None:
                    info.type, info.mode = tarfile.DIRTYPE, 0o555
                info.size = len(data or b"")
                file.addfile(info, io.BytesIO(data) if data else None)
        return buffer.getvalue()

    link = tarfile.TarInfo("./bin")
    link.type, link.linkname = tarfile.SYMTYPE, "/nix/store/abc-app/bin"
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as file:
        file.addfile(link)
    layers = [
        store_layer({"/nix/store/abc-app": None, "/nix/store/abc-app/bin": None, "/nix/store/abc-app/bin/app": b"app"}),
        buffer.getvalue(),
    ]
    config = config_of(layers)
    digits = hashlib.sha256(config).hexdigest()
    paths = {f"{hashlib.sha256(one).hexdigest()}/layer.tar": one for one in layers}
    manifest = [{"Config": f"{digits}.json", "RepoTags": ["app:xyz"], "Layers": list(paths)}]
    file_of = tmp_path / "nix.tar.gz"
    whole = {**paths, f"{digits}.json": config, "manifest.json": json.dumps(manifest).encode()}
    file_of.write_bytes(tar_of(whole, "w:gz"))
    (image,) = store.load(str(file_of))
    assert image.name == "docker.io/library/app:xyz"
    with mounted(image.rootfs.lowers, tmp_path / "merged") as merged:
        assert (merged / "nix/store/abc-app/bin/app").read_bytes() == b"app"
        assert os.readlink(merged / "bin") == "/nix/store/abc-app/bin"
        assert (merged / "nix/store").stat().st_mode & 0o7777 == 0o555
