"""Images in files: what skopeo and docker write is loaded, what is saved skopeo and umoci read, and so is the store itself."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import subprocess
import tarfile
import threading
from pathlib import Path
from typing import Any

import pytest

from nsrun.errors import ConflictError, NotFoundError, NsrunError, SpecError, UsageError
from nsrun.images import ImageStore
from tests.host.images.making import Layout, directory, entry, image_here, layer, tree, umoci_unpack, whiteout

pytestmark = pytest.mark.host

LOWER = layer([directory("bin"), entry("bin/app", data=b"app" * 1000, mode=0o755), entry("gone")])
UPPER = layer([entry("bin/more", data=b"more"), whiteout("gone")])
PROCESS = {
    "Entrypoint": ["/bin/app"],
    "Cmd": ["serve"],
    "Env": ["A=b"],
    "User": "7:8",
    "WorkingDir": "/srv",
    "StopSignal": "SIGRTMIN+3",
    "Labels": {"a": "b"},
}


def skopeo(*arguments: str) -> str:
    """Runs skopeo."""
    done = subprocess.run(["skopeo", *arguments], check=True, capture_output=True, text=True)
    return done.stdout


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    """Two images, one of them with two names."""
    made = Layout(tmp_path / "layout")
    made.image("one", [LOWER, UPPER], process=PROCESS)
    made.image("two", [LOWER])
    return made


def kept(store: ImageStore) -> list[str]:
    """What is left in the store of something that failed."""
    top = store.content.directory
    found = [*top.glob(".new*"), *top.glob("blobs/sha256/*"), *top.glob("partial/*"), *top.glob("layers/*")]
    return [str(path) for path in found if path.name != "base"]


def docker_archive(path: Path, images: list[dict[str, Any]], files: dict[str, bytes], mode: str = "w") -> Path:
    """An archive as docker save wrote it up to version 24: manifest.json last."""
    with tarfile.open(str(path), mode) as file:  # type: ignore[call-overload]  # a mode by argument
        for name, data in {**files, "manifest.json": json.dumps(images).encode()}.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            file.addfile(info, io.BytesIO(data))
    return path


def config_of(layers: list[bytes], **more: Any) -> bytes:
    ids = [f"sha256:{hashlib.sha256(one).hexdigest()}" for one in layers]
    return json.dumps(
        {
            "architecture": "amd64",
            "os": "linux",
            "config": PROCESS,
            "rootfs": {"type": "layers", "diff_ids": ids},
            **more,
        }
    ).encode()


@pytest.mark.parametrize("form", ["docker-archive", "oci-archive", "oci"])
def test_what_skopeo_writes(tmp_path: Path, store: ImageStore, layout: Layout, form: str) -> None:
    target = tmp_path / "file"
    skopeo("copy", f"oci:{layout.path}:one", f"{form}:{target}:example.org/app:1")
    (image,) = store.load(str(target))
    assert image.name == "example.org/app:1"
    assert image.config.entrypoint == ("/bin/app",)
    assert image.config.cmd == ("serve",)
    assert image.config.env == ("A=b",)
    assert (image.config.user, image.config.workdir, image.stop_signal_number()) == ("7:8", "/srv", 37)
    assert image.size == 3004
    assert store.look("example.org/app:1", "Always") == image
    config = json.loads(skopeo("inspect", "--config", "--raw", f"{form}:{target}:example.org/app:1"))
    assert config["config"]["Entrypoint"] == ["/bin/app"]
    assert len(image.rootfs.lowers) == 4, "two layers, the looks of bin/, and what containers mount on"


def test_a_layout_directory_with_tags_only(store: ImageStore, layout: Layout) -> None:
    one, two = store.load(str(layout.path))
    assert (one.name, two.name) == ("", "")
    assert store.get(one.id[7:19]).digest == one.digest
    assert set(one.rootfs.lowers) > set(two.rootfs.lowers), "the layer that both have is there once"
    with pytest.raises(UsageError, match="there are 2 images in it, and one name"):
        store.load(str(layout.path), name="x")
    assert store.tag(one.id, "named:1").name == "docker.io/library/named:1"
    assert image_here(store, "named:1").digest == one.digest
    assert sorted(image.name for image in store.list()) == ["", "docker.io/library/named:1", "nsrun.local/host:latest"]


@pytest.mark.parametrize("packed", [False, True])
def test_an_archive_of_an_old_docker(tmp_path: Path, store: ImageStore, packed: bool) -> None:
    config = config_of([LOWER, UPPER, LOWER])
    name = f"{hashlib.sha256(config).hexdigest()}.json"
    files = {name: config, "abc/layer.tar": LOWER, "def/layer.tar": UPPER}
    images: list[dict[str, Any]] = [
        {"Config": name, "RepoTags": ["app:1", "app:2"], "Layers": ["abc/layer.tar", "def/layer.tar", "abc/layer.tar"]},
        {"Config": name, "RepoTags": None, "Layers": ["abc/layer.tar", "def/layer.tar", "abc/layer.tar"]},
    ]
    path = docker_archive(tmp_path / "a.tar", images, files, "w:gz" if packed else "w")
    images_made = store.load(str(path))
    assert [image.name for image in images_made] == [
        "docker.io/library/app:1",
        "docker.io/library/app:2",
        *[images_made[-1].name],
    ]
    assert {image.id for image in images_made} == {f"sha256:{hashlib.sha256(config).hexdigest()}"}, "docker's own id"
    assert sorted(image.name for image in store.list() if image.digest) == [
        "docker.io/library/app:1",
        "docker.io/library/app:2",
    ]


def test_a_pipe(tmp_path: Path, store: ImageStore, layout: Layout) -> None:
    target = tmp_path / "file"
    skopeo("copy", f"oci:{layout.path}:one", f"docker-archive:{target}:app:1")
    reader, writer = os.pipe()
    data = gzip.compress(target.read_bytes())

    def feed() -> None:
        with open(writer, "wb") as file:
            file.write(data)

    thread = threading.Thread(target=feed)
    thread.start()
    try:
        (image,) = store.load("standard input", fd=reader)
    finally:
        os.close(reader)
        thread.join()
    assert image.name == "docker.io/library/app:1"
    assert not list(store.content.directory.glob(".new*"))


def test_the_store_is_a_layout_for_others(tmp_path: Path, store: ImageStore, layout: Layout) -> None:
    (image,) = store.load(str(archive_of_one(tmp_path, layout)))
    top = store.content.directory
    skopeo("copy", f"oci:{top}:{image.name}", f"dir:{tmp_path}/copy")
    theirs = tree(umoci_unpack(layout.path, "one", tmp_path / "bundle"))
    # umoci takes no name with a slash: it is given a tag of its own in a copy of the index.
    listed = json.loads((top / "index.json").read_text())
    listed["manifests"][0]["annotations"]["org.opencontainers.image.ref.name"] = "tag"
    (tmp_path / "copy-of-index").mkdir()
    for name in ("blobs", "oci-layout"):
        (tmp_path / "copy-of-index" / name).symlink_to(top / name)
    (tmp_path / "copy-of-index/index.json").write_text(json.dumps(listed))
    ours = tree(umoci_unpack(tmp_path / "copy-of-index", "tag", tmp_path / "bundle2"))
    for one in (ours, theirs):
        one.pop(".")
    assert ours == theirs


def archive_of_one(tmp_path: Path, layout: Layout) -> Path:
    target = tmp_path / "one.tar"
    skopeo("copy", f"oci:{layout.path}:one", f"oci-archive:{target}:example.org/app:1")
    return target


def test_what_is_saved_others_read(tmp_path: Path, store: ImageStore, layout: Layout) -> None:
    (image,) = store.load(str(archive_of_one(tmp_path, layout)))
    store.tag(image.name, "second")
    (tmp_path / "root/etc").mkdir(parents=True)
    (tmp_path / "root/etc/x").write_text("x")
    other = store.import_("imported", tmp_path / "root")
    saved = tmp_path / "saved.tar"
    with saved.open("wb") as file:
        store.save([image.name, "second", "imported"], file.fileno())
    with tarfile.open(saved) as archive:
        listed = json.loads(archive.extractfile("manifest.json").read())  # type: ignore[union-attr]  # it is a file
    assert [one["RepoTags"] for one in listed] == [["example.org/app:1", "second:latest"], ["imported:latest"]]
    for name in ("example.org/app:1", "second:latest", "imported:latest"):
        config = json.loads(skopeo("inspect", "--config", f"docker-archive:{saved}:{name}"))
        assert config["os"] == "linux"
        skopeo("copy", f"docker-archive:{saved}:{name}", f"dir:{tmp_path}/{name.replace('/', '_')}")
    assert skopeo("inspect", "--raw", f"oci-archive:{saved}:1") == store.content.document(image.digest).decode()
    again = ImageStore(tmp_path / "again", durable=False)
    loaded = again.load(str(saved))
    assert [(one.name, one.id, one.digest) for one in loaded] == [
        ("example.org/app:1", image.id, image.digest),
        ("docker.io/library/second:latest", image.id, image.digest),
        ("docker.io/library/imported:latest", other.id, other.digest),
    ]


def test_what_cannot_be_saved(store: ImageStore) -> None:
    with pytest.raises(NotFoundError):
        store.save(["gone"], 1)
    with pytest.raises(ConflictError, match="this machine's own"):
        store.save(["nsrun.local/host"], 1)


def test_the_image_for_this_machine_is_chosen(tmp_path: Path, store: ImageStore) -> None:
    made = Layout(tmp_path / "layout")
    arm = made.image("a", [LOWER], architecture="arm64")
    here = made.image("b", [UPPER])
    platforms = [
        {**arm, "platform": {"os": "linux", "architecture": "arm64"}},
        {**here, "platform": {"os": "linux", "architecture": "amd64"}},
    ]
    index = json.dumps({"schemaVersion": 2, "manifests": platforms}).encode()
    kind = "application/vnd.oci.image.index.v1+json"
    made.manifests = [{**made.blob(index, kind), "annotations": {"io.containerd.image.name": "docker.io/library/x:1"}}]
    made.write()
    (image,) = store.load(str(made.path))
    assert (image.name, image.digest) == ("docker.io/library/x:1", here["digest"])
    made.manifests = [
        {
            **made.blob(json.dumps({"schemaVersion": 2, "manifests": platforms[:1]}).encode(), kind),
            "annotations": {"io.containerd.image.name": "docker.io/library/x:2"},
        }
    ]
    made.write()
    with pytest.raises(SpecError, match="no image for linux/amd64"):
        store.load(str(made.path))


def test_an_index_in_an_index_without_end(tmp_path: Path, store: ImageStore) -> None:
    made = Layout(tmp_path / "layout")
    kind = "application/vnd.oci.image.index.v1+json"
    inner = made.image("x", [LOWER])
    for _ in range(6):
        inner = made.blob(
            json.dumps(
                {"schemaVersion": 2, "manifests": [{**inner, "platform": {"os": "linux", "architecture": "amd64"}}]}
            ).encode(),
            kind,
        )
    made.manifests = [inner]
    made.write()
    with pytest.raises(SpecError, match="from index to index"):
        store.load(str(made.path))
    assert kept(store) == []


def damage(layout: Layout, how: str) -> None:
    manifest = json.loads((layout.path / "blobs/sha256" / layout.manifests[0]["digest"][7:]).read_text())
    first = layout.path / "blobs/sha256" / manifest["layers"][0]["digest"][7:]
    config = layout.path / "blobs/sha256" / manifest["config"]["digest"][7:]
    if how == "a layer is another":
        first.write_bytes(gzip.compress(UPPER))
    elif how == "a layer is longer":
        first.write_bytes(first.read_bytes() + b"\0" * 100)
    elif how == "a layer is shorter":
        first.write_bytes(first.read_bytes()[:-20])
    elif how == "a layer is missing":
        first.unlink()
    elif how == "the config is another":
        config.write_text("{}" + " " * (config.stat().st_size - 2))
    elif how == "the config is missing":
        config.unlink()
    elif how == "the index is no JSON":
        (layout.path / "index.json").write_text("{")
    elif how == "the index is deep":
        (layout.path / "index.json").write_text("[" * 100000)
    else:
        layout.manifests = layout.manifests[:1]
        wrong = json.loads(config.read_text())
        wrong["rootfs"]["diff_ids"].reverse()
        manifest["config"] = layout.blob(json.dumps(wrong).encode(), "application/vnd.oci.image.config.v1+json")
        layout.manifests = [layout.blob(json.dumps(manifest).encode(), layout.manifests[0]["mediaType"])]
        layout.write()


@pytest.mark.parametrize(
    ("how", "text"),
    [
        ("a layer is another", "was promised"),
        ("a layer is longer", "more came than"),
        ("a layer is shorter", "was promised|ends in the middle"),
        ("a layer is missing", "there is no blobs/sha256/"),
        ("the config is another", "damaged"),
        ("the config is missing", "there is no blobs/sha256/"),
        ("the index is no JSON", "no JSON"),
        ("the index is deep", "no JSON"),
        ("the diff ids are wrong", "the image's config says"),
    ],
)
def test_damaged_layouts_leave_nothing(store: ImageStore, layout: Layout, how: str, text: str) -> None:
    damage(layout, how)
    with pytest.raises(SpecError, match=text) as caught:
        store.load(str(layout.path))
    assert caught.value.brief.startswith(f"cannot load {layout.path}: ")
    assert kept(store) == []
    assert store.content.records() == []


@pytest.mark.parametrize("keep", [0.2, 0.4, 0.6])
def test_an_archive_that_was_cut_off(tmp_path: Path, store: ImageStore, layout: Layout, keep: float) -> None:
    path = archive_of_one(tmp_path, layout)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * keep)])
    with pytest.raises(SpecError, match=r"cannot load .*one\.tar"):
        store.load(str(path))
    assert kept(store) == []


def test_what_holds_no_image(tmp_path: Path, store: ImageStore) -> None:
    with pytest.raises(NotFoundError, match="no such file"):
        store.load(str(tmp_path / "nothing"))
    (tmp_path / "text").write_text("plainly not an archive" * 100)
    with pytest.raises(NsrunError, match="not a whole tar archive"):
        store.load(str(tmp_path / "text"))
    (tmp_path / "root.tar").write_bytes(LOWER)
    with pytest.raises(SpecError, match=r"neither a manifest\.json nor an index\.json") as caught:
        store.load(str(tmp_path / "root.tar"))
    assert "nsrun image import" in (caught.value.resolution or "")
    hostile = docker_archive(
        tmp_path / "hostile.tar", [{"Config": "../../etc/passwd", "RepoTags": [], "Layers": []}], {"x": b""}
    )
    with pytest.raises(SpecError, match=r"there is no \.\./\.\./etc/passwd in it"):
        store.load(str(hostile))
    (tmp_path / "dir").mkdir()
    (tmp_path / "dir/index.json").symlink_to("/etc/passwd")
    with pytest.raises(NsrunError, match=r"cannot load .*dir"):
        store.load(str(tmp_path / "dir"))
    assert kept(store) == []


def test_the_same_file_again_changes_nothing(tmp_path: Path, store: ImageStore, layout: Layout) -> None:
    path = str(archive_of_one(tmp_path, layout))
    (first,) = store.load(path)
    before = store.content.records()
    (second,) = store.load(path)
    assert first.rootfs == second.rootfs
    assert [one.digest for one in store.content.records()] == [one.digest for one in before]
    store.remove(first.name)
    assert kept(store) == []
