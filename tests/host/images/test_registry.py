"""Pulls from Debian's docker-registry: plain, with TLS, with passwords, through a mirror; and what is not pulled twice."""

from __future__ import annotations

import base64
import json
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nsrun.images import ImageError, ImageStore, parse
from nsrun.images.pulling import RegistryPuller
from nsrun.images.settings import ImageSettings
from tests.host.images.making import Layout, directory, entry, image_here, layer, mounted, tree, umoci_unpack, whiteout
from tests.host.images.registries import PASSWORD, USER, Registry, running

pytestmark = pytest.mark.host

LAYERS = [
    layer([directory("bin"), entry("bin/app", data=b"app" * 100_000, mode=0o755), entry("gone")]),
    *(layer([directory("data"), entry(f"data/{at}", data=b"%d" % at * 5000)]) for at in range(6)),
    layer([whiteout("gone")]),
]


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No proxy and no login of this machine."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("DOCKER_CONFIG", raising=False)


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    """An image of eight layers."""
    made = Layout(tmp_path / "layout")
    made.image("one", LAYERS)
    return made


@pytest.fixture
def registry(tmp_path: Path, layout: Layout) -> Iterator[Registry]:
    """A plain registry that has it as app:1."""
    with running(tmp_path / "registry") as registry:
        registry.push(layout.path, "one", "app:1")
        yield registry


def pull(store: ImageStore, name: str, **options: Any) -> Any:
    """Pulls an image."""
    return RegistryPuller(**options).pull(parse(name), store)


@pytest.mark.parametrize("processes", [1, 3])
def test_an_image_of_many_layers(
    tmp_path: Path,
    store: ImageStore,
    layout: Layout,
    registry: Registry,
    monkeypatch: pytest.MonkeyPatch,
    processes: int,
) -> None:
    monkeypatch.setattr("nsrun.images.pulling._CREW_PAYS", 0)
    events: list[dict[str, Any]] = []
    image = pull(store, f"{registry.host}/app:1", on_event=events.append, processes=processes)
    assert image.name == f"{registry.host}/app:1"
    assert (image.origin, image.digest) == ("pull", layout.manifests[0]["digest"])
    assert image.source == image.reference == f"{registry.host}/app@{image.digest}"
    with mounted(image.rootfs.lowers, tmp_path / "merged") as root:
        found = tree(root)
    theirs = tree(umoci_unpack(layout.path, "one", tmp_path / "bundle"))
    for name in (".", "proc", "sys", "dev", "etc", "etc/hosts", "etc/hostname", "etc/resolv.conf"):
        found.pop(name, None)
        theirs.pop(name, None)
    assert found == theirs
    assert {event["state"] for event in events} >= {"waiting", "done"}
    assert len({event["layer"] for event in events}) == 8
    assert store.look(f"{registry.host}/app:1", "IfNotPresent") == image
    assert image_here(store, f"{registry.host}/app@{image.digest}", "Never").id == image.id
    assert not [*store.content.directory.glob(".new*"), *store.content.directory.glob("partial/*")]


def test_what_is_here_is_not_pulled_again(tmp_path: Path, store: ImageStore, registry: Registry) -> None:
    first = pull(store, f"{registry.host}/app:1")
    before = len(registry.requests())
    assert pull(store, f"{registry.host}/app:1").rootfs == first.rootfs
    assert [one for one in registry.requests()[before:] if "/blobs/" in one] == []
    other = Layout(tmp_path / "other")
    other.image("two", [*LAYERS[:3], layer([entry("new")])])
    registry.push(other.path, "two", "app:2")
    before = len(registry.requests())
    second = pull(store, f"{registry.host}/app:2")
    asked = {one for one in registry.requests()[before:] if "GET" in one and "/blobs/" in one}
    assert len(asked) == 2, "its config and the one layer that is new"
    assert set(second.rootfs.lowers[1:4]) & set(first.rootfs.lowers)
    # A tag that goes over.
    registry.push(other.path, "two", "app:1")
    assert pull(store, f"{registry.host}/app:1").id == second.id
    assert sorted(image.name for image in store.list() if image.origin == "pull") == [
        "",
        f"{registry.host}/app:1",
        f"{registry.host}/app:2",
    ]
    assert store.collect({}) == (first.id,)


@pytest.mark.parametrize("form", ["", "gzip", "zstd"])
def test_every_compression_and_schema_2(tmp_path: Path, store: ImageStore, registry: Registry, form: str) -> None:
    made = Layout(tmp_path / "made")
    made.image("x", LAYERS, form)
    registry.push(made.path, "x", "form:1")
    image = pull(store, f"{registry.host}/form:1")
    assert (Path(image.rootfs.lowers[-2]) / "bin/app").stat().st_size == 300_000
    words = ["skopeo", "copy", "--src-tls-verify=false", "--dest-tls-verify=false", "--format=v2s2"]
    if form != "zstd":  # which schema 2 does not have
        subprocess.run(
            [*words, f"docker://{registry.host}/form:1", f"docker://{registry.host}/form:2"],
            check=True,
            capture_output=True,
        )
        docker = pull(store, f"{registry.host}/form:2")
        assert docker.digest != image.digest
        assert docker.rootfs == image.rootfs


def test_an_index_with_several_platforms(tmp_path: Path, store: ImageStore, registry: Registry) -> None:
    made = Layout(tmp_path / "made")
    arm = made.image("a", [LAYERS[1]], architecture="arm64")
    here = made.image("b", [LAYERS[0]])
    index = json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.index.v1+json",
            "manifests": [
                {**arm, "platform": {"os": "linux", "architecture": "arm64"}},
                {**here, "platform": {"os": "linux", "architecture": "amd64"}},
            ],
        }
    ).encode()
    top = made.blob(index, "application/vnd.oci.image.index.v1+json")
    made.manifests = [{**top, "annotations": {"org.opencontainers.image.ref.name": "x"}}]
    made.write()
    registry.push(made.path, "x", "many:1")
    image = pull(store, f"{registry.host}/many:1")
    assert image.digest == here["digest"]
    assert image.source == f"{registry.host}/many@{top['digest']}", "what the name stands for"
    assert image_here(store, f"{registry.host}/many@{top['digest']}", "Never").digest == here["digest"]
    by_digest = pull(store, f"{registry.host}/many@{top['digest']}")
    assert by_digest.digest == here["digest"]


def test_tls_with_an_authority_of_our_own(tmp_path: Path, store: ImageStore, layout: Layout) -> None:
    with running(tmp_path / "registry", tls=True) as registry:
        registry.push(layout.path, "one", "app:1")
        # 127.0.0.1 would need no certificate: the name does.
        name = f"registry.test:{registry.port}"
        hosts = Path("/etc/hosts").read_text()
        Path("/etc/hosts").write_text(f"{hosts}\n127.0.0.1 registry.test\n")
        try:
            with pytest.raises(ImageError, match=r"TLS: .*certificate verify failed") as caught:
                pull(store, f"{name}/app:1")
            assert "ca = " in (caught.value.resolution or "")
            ca = ImageSettings.of({"registries": {name: {"ca": str(registry.ca)}}})
            assert pull(store, f"{name}/app:1", settings=ca).name == f"{name}/app:1"
            insecure = ImageSettings.of({"registries": {name: {"insecure": True}}})
            assert pull(store, f"{name}/app:1", settings=insecure).name == f"{name}/app:1"
        finally:
            Path("/etc/hosts").write_text(hosts)


def auth_file(path: Path, key: str, **more: Any) -> Path:
    text = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"auths": {key: {"auth": text}}, **more}))
    return path


def test_passwords(tmp_path: Path, store: ImageStore, layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    with running(tmp_path / "registry", auth=True) as registry:
        registry.push(layout.path, "one", "team/app:1")
        name = f"{registry.host}/team/app:1"
        with pytest.raises(ImageError, match="401 Unauthorized") as caught:
            pull(store, name)
        assert f"nsrun login {registry.host}" in (caught.value.resolution or "")
        wrong = tmp_path / "wrong.json"
        wrong.write_text(json.dumps({"auths": {registry.host: {"username": USER, "password": "no"}}}))
        with pytest.raises(ImageError, match=r"401 Unauthorized: .*authentication required"):
            pull(store, name, auth_files=[str(wrong)])
        for key in (registry.host, f"https://{registry.host}", f"{registry.host}/team", f"{registry.host}/team/app"):
            file = auth_file(tmp_path / "auth.json", key)
            assert pull(store, name, auth_files=[str(tmp_path / "none"), str(file)]).name == name
            store.remove(name)
        helper = tmp_path / "bin/docker-credential-test"
        helper.parent.mkdir()
        helper.write_text(
            f'#!/bin/sh\nread host\n[ "$1 $host" = "get {registry.host}" ] || {{ echo "credentials not found"; exit 1; }}\n'
            f'echo \'{{"ServerURL":"","Username":"{USER}","Secret":"{PASSWORD}"}}\'\n'
        )
        helper.chmod(0o755)
        monkeypatch.setenv("PATH", f"{helper.parent}:/usr/bin:/bin")
        for config in ({"credHelpers": {registry.host: "test"}}, {"credsStore": "test"}):
            (tmp_path / "config.json").write_text(json.dumps(config))
            assert pull(store, name, auth_files=[str(tmp_path / "config.json")]).name == name
            store.remove(name)
        (tmp_path / "config.json").write_text(json.dumps({"credsStore": "gone"}))
        with pytest.raises(ImageError, match="no program docker-credential-gone"):
            pull(store, name, auth_files=[str(tmp_path / "config.json")])


def test_a_mirror_is_asked_first(tmp_path: Path, store: ImageStore, layout: Layout, registry: Registry) -> None:
    with running(tmp_path / "mirror", upstream=f"http://{registry.host}") as mirror:
        settings = ImageSettings.of({"registries": {registry.host: {"mirrors": [f"http://{mirror.host}"]}}})
        image = pull(store, f"{registry.host}/app:1", settings=settings)
        assert image.name == f"{registry.host}/app:1"
        assert any("/blobs/" in one for one in mirror.requests())
        # It keeps what it passed on a moment after it did.
        for attempt in range(50):
            before = len(registry.requests())
            pull(
                ImageStore(tmp_path / f"meanwhile{attempt}", durable=False), f"{registry.host}/app:1", settings=settings
            )
            if not [one for one in registry.requests()[before:] if "GET" in one and "/blobs/" in one]:
                break
        registry.close()
        again = ImageStore(tmp_path / "again", durable=False)
        assert pull(again, f"{registry.host}/app:1", settings=settings).id == image.id


def test_a_mirror_that_is_down_is_passed_over(tmp_path: Path, store: ImageStore, registry: Registry) -> None:
    with running(tmp_path / "empty") as empty:
        mirrors = ["http://127.0.0.1:1", f"http://{empty.host}"]
        settings = ImageSettings.of({"registries": {registry.host: {"mirrors": mirrors}}})
        assert pull(store, f"{registry.host}/app:1", settings=settings).origin == "pull"


def test_short_names(store: ImageStore, registry: Registry) -> None:
    settings = ImageSettings.of({"short_names": {"app": f"{registry.host}/app"}})
    image = pull(store, "app:1", settings=settings)
    assert image.name == "docker.io/library/app:1", "what the manifest says"
    assert image.source.startswith(f"{registry.host}/app@")
    assert store.look("app:1", "IfNotPresent") == image


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("app:2", r"404 Not Found: manifest unknown \(MANIFEST_UNKNOWN\)"),
        ("none:1", "404 Not Found: manifest unknown"),
        (f"app@sha256:{'0' * 64}", "404 Not Found"),
    ],
)
def test_what_is_not_there(store: ImageStore, registry: Registry, name: str, text: str) -> None:
    with pytest.raises(ImageError, match=text) as caught:
        pull(store, f"{registry.host}/{name}")
    assert caught.value.reason == "ErrImagePull"
    assert registry.host in caught.value.brief


def test_nobody_there(store: ImageStore) -> None:
    with pytest.raises(ImageError, match=r"127\.0\.0\.1:1: .*Connection refused"):
        pull(store, "127.0.0.1:1/app")
    with pytest.raises(ImageError, match="no-such-host"):
        pull(store, "no-such-host.invalid/app")


def test_many_at_once_pull_it_once(store: ImageStore, registry: Registry) -> None:
    errors: list[BaseException] = []
    before = len(registry.requests())

    def work() -> None:
        try:
            assert pull(ImageStore(store.content.directory.parent, durable=False), f"{registry.host}/app:1")
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    layers = {
        one["digest"]
        for one in json.loads(store.content.document(store.get(f"{registry.host}/app:1").digest))["layers"]
    }
    for digest in layers:
        assert sum(f"blobs/{digest}" in one for one in registry.requests()[before:]) == 1
