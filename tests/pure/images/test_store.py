"""The store: names, policies, crashes, and what may be removed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from nsrun.errors import ConflictError, NotFoundError, SpecError, StepError
from nsrun.images import Image, ImageConfig, ImageError, ImageStore
from nsrun.images.merged import Merged

HOST = "nsrun.local/host:latest"


@pytest.fixture
def store(tmp_path: Path) -> ImageStore:
    return ImageStore(tmp_path / "lib", durable=False)


def root(path: Path, text: str = "x") -> Path:
    (path / "etc").mkdir(parents=True, exist_ok=True)
    (path / "bin").mkdir(exist_ok=True)
    (path / "bin/app").write_text(text)
    return path


def names(store: ImageStore) -> list[str]:
    return [image.name for image in store.list()]


def left(tmp_path: Path) -> list[str]:
    """What is in the store besides whole images."""
    images = tmp_path / "lib/images"
    return [name for name in os.listdir(images) if name.startswith(".")] + os.listdir(images / "partial")


def here(store: ImageStore, name: str, policy: str = "") -> Image:
    """An image that need not be pulled."""
    found = store.look(name, policy)
    assert found is not None
    return found


def test_an_import_is_a_copy_with_a_config(store: ImageStore, tmp_path: Path) -> None:
    config = ImageConfig(("/bin/app",), ("serve",), ("A=b=c",), "app", "/srv", "SIGINT")
    image = store.import_("box:1", root(tmp_path / "root"), config)
    (tmp_path / "root/bin/app").write_text("changed later")
    found = here(store, "docker.io/library/box:1")
    assert found == image
    assert found.config == config
    assert found.size == 1
    assert found.id.startswith("sha256:")
    assert abs(found.created - time.time()) < 100
    assert found.stop_signal_number() == signal.SIGINT
    assert Path(found.rootfs.lowers[0], "bin/app").read_text() == "x"
    assert names(store) == [HOST, "docker.io/library/box:1"]
    assert left(tmp_path) == []


def test_mount_points_are_there(store: ImageStore, tmp_path: Path) -> None:
    image = store.import_("box", root(tmp_path / "root"))
    shown = Merged(image.rootfs.lowers)
    for path in (b"bin", b"dev", b"proc", b"sys", b"etc/hostname", b"etc/hosts", b"etc/resolv.conf"):
        assert shown.find(path) is not None


def test_mount_points_are_not_made_behind_a_link(store: ImageStore, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "root").mkdir()
    (tmp_path / "root/etc").symlink_to(tmp_path / "elsewhere")
    store.import_("box", tmp_path / "root")
    assert os.listdir(tmp_path / "elsewhere") == []


@pytest.mark.parametrize("policy", ["", "Always", "IfNotPresent", "Never"])
def test_an_image_that_is_here_satisfies_every_policy(store: ImageStore, tmp_path: Path, policy: str) -> None:
    store.import_("box", root(tmp_path / "root"))
    assert here(store, "box", policy).name == "docker.io/library/box:latest"


@pytest.mark.parametrize(
    ("name", "policy", "reason", "text"),
    [
        ("gone", "Never", "ErrImageNeverPull", 'Container image "gone" is not present with pull policy of Never'),
        ("nsrun.local/other", "Always", "ErrImagePull", 'image "nsrun.local/other" is not here'),
        ("UPPER", "Always", "InvalidImageName", 'couldn\'t parse image name "UPPER": invalid reference format'),
        ("", "Always", "InvalidImageName", "invalid reference format"),
        ("box@sha256:" + "0" * 64, "Never", "ErrImageNeverPull", "is not present"),
    ],
)
def test_an_image_that_is_not_here(store: ImageStore, name: str, policy: str, reason: str, text: str) -> None:
    with pytest.raises(ImageError) as caught:
        store.look(name, policy)
    assert caught.value.reason == reason
    assert text in caught.value.brief
    if reason == "ErrImageNeverPull":
        assert f"nsrun image import {name} PATH" in (caught.value.resolution or "")


def test_what_is_not_here_is_to_be_pulled_unless_the_policy_forbids_it(store: ImageStore, tmp_path: Path) -> None:
    assert store.look("box", "Always") is None
    assert store.look("box:1", "IfNotPresent") is None
    assert store.look("box") is None
    store.import_("box", root(tmp_path / "root"))
    assert store.look("box", "Always") is not None
    assert store.look("box:1", "IfNotPresent") is None


def test_by_digest(store: ImageStore, tmp_path: Path) -> None:
    image = store.import_("box:1", root(tmp_path / "root"))
    assert here(store, f"box@{image.digest}", "Never").id == image.id
    with pytest.raises(ImageError):
        store.look(f"other@{image.digest}", "Never")


def test_a_name_goes_over_to_a_new_image(store: ImageStore, tmp_path: Path) -> None:
    old = store.import_("box", root(tmp_path / "root"))
    new = store.import_("box", root(tmp_path / "root", "changed"))
    assert old.id != new.id
    assert here(store, "box").id == new.id
    assert os.path.isdir(old.rootfs.lowers[0]), "a container may still run on it"
    assert store.collect({old.id: ["web"]}) == ()
    assert store.collect({}) == (old.id,)
    assert not os.path.exists(old.rootfs.lowers[0])
    assert here(store, "box").id == new.id


def test_an_image_is_found_by_its_id_when_its_name_is_another_ones(store: ImageStore, tmp_path: Path) -> None:
    old = store.import_("box", root(tmp_path / "root"))
    store.import_("box", root(tmp_path / "root", "changed"))
    assert store.by_id(old.id).rootfs == old.rootfs
    host = here(store, HOST)
    assert store.by_id(host.id) == host
    earlier = store.content.layer(f"host-{'0' * 64}")
    earlier.mkdir(parents=True)
    (earlier.parent / "layer.json").write_text('{"size": 0, "implicit": [], "opaque": false}')
    assert store.by_id(f"sha256:{'0' * 64}").rootfs.lowers == (str(earlier),)
    with pytest.raises(ImageError, match="not there any more"):
        store.by_id(f"sha256:{'1' * 64}")


def test_the_same_content_is_kept_once(store: ImageStore, tmp_path: Path) -> None:
    source = root(tmp_path / "root")
    first = store.import_("a", source)
    second = store.import_("b", source)
    other = store.import_("c", source, ImageConfig(cmd=("x",)))
    assert other.rootfs == first.rootfs, "a layer is unpacked once"
    assert first.id == second.id != other.id
    store.remove("a", {first.id: ["web"]})
    assert here(store, "b").id == first.id
    with pytest.raises(ConflictError, match='cannot remove image "b": it is in use by p1, p2'):
        store.remove("b", {first.id: ["p2", "p1"]})
    store.remove("b")
    assert os.path.exists(first.rootfs.lowers[0]), "another image has the layer"
    assert names(store) == [HOST, "docker.io/library/c:latest"]
    assert left(tmp_path) == []


def test_the_built_in_image_stays_for_the_next_server(store: ImageStore, tmp_path: Path) -> None:
    (lower,) = here(store, HOST).rootfs.lowers
    assert ImageStore(tmp_path / "lib").collect({}) == ()
    assert os.path.isdir(lower)
    (tmp_path / "lib/images/host").write_text("the skeleton of another state of this machine")
    used = here(store, HOST).id
    ImageStore(tmp_path / "lib").collect({used: ["web"]})
    assert os.path.isdir(lower), "a container runs on it"
    ImageStore(tmp_path / "lib").remove_garbage()
    assert os.path.isdir(lower), "nobody knows what is in use"
    ImageStore(tmp_path / "lib").collect({})
    assert not os.path.exists(lower)
    assert os.path.isdir(here(store, HOST).rootfs.lowers[0]), "made again"


def test_what_cannot_be_removed(store: ImageStore) -> None:
    with pytest.raises(NotFoundError, match='there is no image "gone"'):
        store.remove("gone")
    with pytest.raises(ConflictError, match="built in"):
        store.remove("nsrun.local/host")
    with pytest.raises(ImageError, match="invalid reference"):
        store.remove("NO")


@pytest.mark.parametrize(
    ("name", "config", "error", "text"),
    [
        ("nsrun.local/mine", ImageConfig(), ConflictError, "nsrun's own"),
        ("box@sha256:" + "0" * 64, ImageConfig(), SpecError, "a digest cannot be chosen"),
        ("a b", ImageConfig(), ImageError, "invalid reference format"),
        ("box", ImageConfig(env=("A",)), SpecError, "NAME=VALUE"),
        ("box", ImageConfig(env=("=x",)), SpecError, "NAME=VALUE"),
        ("box", ImageConfig(workdir="srv"), SpecError, "not absolute"),
        ("box", ImageConfig(cmd=("a\0b",)), SpecError, "NUL"),
    ],
)
def test_what_cannot_be_imported(
    store: ImageStore, tmp_path: Path, name: str, config: ImageConfig, error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=text):
        store.import_(name, root(tmp_path / "root"), config)
    assert names(store) == [HOST]


def test_an_empty_root_is_refused(store: ImageStore, tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    with pytest.raises(SpecError, match="there is nothing in it"):
        store.import_("box", tmp_path / "root")
    assert left(tmp_path) == []


def test_the_store_does_not_import_itself(store: ImageStore, tmp_path: Path) -> None:
    store.look(HOST)
    with pytest.raises(SpecError, match="nsrun's own images lie in it"):
        store.import_("box", tmp_path)


def test_a_place_where_no_images_can_be_kept(tmp_path: Path) -> None:
    (tmp_path / "lib").write_text("a file")
    with pytest.raises(StepError, match=r"make an image in .*: Not a directory \(ENOTDIR\)"):
        ImageStore(tmp_path / "lib").import_("box", root(tmp_path / "root"))


def test_instances(store: ImageStore, tmp_path: Path) -> None:
    (tmp_path / "root").mkdir(mode=0o751)
    (tmp_path / "root").chmod(0o751)
    image = store.import_("box", root(tmp_path / "root"))
    instance = tmp_path / "instance"
    instance.mkdir()
    image.prepare_instance(instance)
    assert sorted(os.listdir(instance)) == ["merged", "upper", "work"]
    assert (instance / "upper").stat().st_mode & 0o7777 == 0o751


def test_an_import_that_is_killed_leaves_nothing_for_long(store: ImageStore, tmp_path: Path) -> None:
    big = root(tmp_path / "root")
    for number in range(60):
        (big / f"file{number}").write_bytes(os.urandom(1 << 20))
    code = (
        "import sys; from pathlib import Path; from nsrun.images import ImageStore;"
        f"s = ImageStore(Path({str(tmp_path / 'lib')!r}), durable=False); s.look({HOST!r}); print('go', flush=True);"
        f"s.import_('box', {str(big)!r})"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "go\n"
        deadline = time.monotonic() + 20
        while not left(tmp_path) and time.monotonic() < deadline:
            time.sleep(0.001)
        store.sweep()
        alive = left(tmp_path)
        child.kill()
    assert len(alive) == 1, "a living import is left alone"
    assert names(store) == [HOST]
    (tmp_path / "lib/images/.new-index.json").write_text("cut o")
    store.sweep()
    assert left(tmp_path) == []
    assert store.import_("box", big).size == (60 << 20) + 1


def test_many_at_once(store: ImageStore, tmp_path: Path) -> None:
    source = root(tmp_path / "root")
    errors: list[BaseException] = []

    def work(number: int) -> None:
        try:
            mine = ImageStore(tmp_path / "lib", durable=False)
            for _ in range(5):
                mine.import_(f"box:{number}", source)
                assert mine.look(f"box:{number}")
                mine.list()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert len(names(store)) == 7
    assert left(tmp_path) == []


@pytest.mark.parametrize("what", ["manifest", "config", "layer"])
@pytest.mark.parametrize("damage", ["missing", "empty", "other"])
def test_a_damaged_image_is_no_image(store: ImageStore, tmp_path: Path, what: str, damage: str) -> None:
    image = store.import_("box", root(tmp_path / "root"))
    file = {
        "manifest": store.content.blob(image.digest),
        "config": store.content.blob(image.id),
        "layer": Path(image.rootfs.lowers[0]).parent / "layer.json",
    }[what]
    store = ImageStore(tmp_path / "lib", durable=False)
    if damage == "missing":
        file.unlink()
    else:
        file.write_text("" if damage == "empty" else "{}")
    assert names(store) == [HOST]
    assert store.look("box") is None
    assert store.import_("box", tmp_path / "root").id == image.id
    assert store.look("box") is not None
    assert left(tmp_path) == []
