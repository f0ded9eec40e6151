"""Registries that break, lie or attack: a pull goes on or fails with a clear error, and nothing is kept of what is wrong."""

from __future__ import annotations

import base64
import gc
import gzip
import hashlib
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from nsrun.images import ImageError, ImageStore, parse, registry
from nsrun.images.pulling import RegistryPuller
from nsrun.images.settings import ImageSettings
from tests.host.images.making import Layout, directory, entry, layer
from tests.host.images.registries import Handler, Shelf
from tests.host.images.test_registry import quiet

pytestmark = pytest.mark.host
__all__ = ["quiet"]

BIG = layer([directory("d"), *(entry(f"d/{at}", data=os.urandom(50_000)) for at in range(20))])


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    """An image of two layers, one of them a megabyte."""
    made = Layout(tmp_path / "layout")
    made.image("x", [layer([entry("small")]), BIG])
    return made


@pytest.fixture
def shelf(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shelf]:
    """A registry with it."""
    monkeypatch.setattr(registry, "_pause", lambda _attempt, _wanted: 0.01)
    shelf = Shelf(layout.path, layout.manifests[0])
    yield shelf
    shelf.close()
    gc.collect()  # a connection that was left open is this test's


def pull(store: ImageStore, shelf: Shelf, **options: Any) -> Any:
    return RegistryPuller(**options).pull(parse(f"{shelf.host}/app:1"), store)


def blob_of(layout: Layout, at: int) -> tuple[str, bytes]:
    """A layer's digest and bytes."""
    manifest = json.loads((layout.path / "blobs/sha256" / layout.manifests[0]["digest"][7:]).read_text())
    digest = manifest["layers"][at]["digest"]
    return digest, (layout.path / "blobs/sha256" / digest[7:]).read_bytes()


def kept(store: ImageStore) -> list[str]:
    """What is left in the store, but for beginnings of blobs."""
    top = store.content.directory
    found = [*top.glob(".new*"), *top.glob("blobs/sha256/*"), *top.glob("layers/*")]
    return [str(path) for path in found if path.name != "base"]


@pytest.mark.parametrize("tenth", range(10))
def test_a_connection_cut_at_every_tenth_is_gone_on_with(
    store: ImageStore, layout: Layout, shelf: Shelf, tenth: int
) -> None:
    digest, data = blob_of(layout, 1)
    cuts = [len(data) * tenth // 10]

    def bend(handler: Handler) -> bool:
        if handler.path.endswith(digest) and cuts:
            shelf.send_blob(handler, data, cuts.pop())
            return True
        return False

    shelf.bend = bend
    image = pull(store, shelf)
    assert store.content.blob(digest).read_bytes() == data
    ranges = [headers.get("Range") for path, headers in shelf.asked if path.endswith(digest)]
    assert ranges == ([None, f"bytes={len(data) * tenth // 10}-"] if tenth else [None, None])
    assert image.origin == "pull"


def test_a_connection_that_breaks_again_and_again_keeps_what_came(
    store: ImageStore, layout: Layout, shelf: Shelf
) -> None:
    digest, data = blob_of(layout, 1)

    def bend(handler: Handler) -> bool:
        if handler.path.endswith(digest):
            shelf.send_blob(handler, data, 5000 if "Range" not in handler.headers else 0)
            return True
        return False

    shelf.bend = bend
    with pytest.raises(ImageError, match=r"5000 of \d+ bytes") as caught:
        pull(store, shelf)
    assert caught.value.reason == "ErrImagePull"
    assert kept(store) == []
    assert [file.stat().st_size for file in (store.content.directory / "partial").iterdir()] == [5000]
    shelf.bend = None
    shelf.asked.clear()
    pull(store, shelf)
    assert ("Range", "bytes=5000-") in [item for path, headers in shelf.asked for item in headers.items()]


def test_a_beginning_that_was_wrong_is_dropped(store: ImageStore, layout: Layout, shelf: Shelf) -> None:
    digest, data = blob_of(layout, 1)
    store.content.prepare()
    (store.content.directory / "partial" / digest[7:]).write_bytes(b"x" * 1000)
    pull(store, shelf)
    assert store.content.blob(digest).read_bytes() == data


def test_a_registry_that_knows_no_ranges(store: ImageStore, layout: Layout, shelf: Shelf) -> None:
    digest, data = blob_of(layout, 1)
    store.content.prepare()
    (store.content.directory / "partial" / digest[7:]).write_bytes(data[:7000])

    def bend(handler: Handler) -> bool:
        if handler.path.endswith(digest):
            handler.say(200, data)
            return True
        return False

    shelf.bend = bend
    pull(store, shelf)
    assert store.content.blob(digest).read_bytes() == data


def test_too_busy_for_a_moment(store: ImageStore, shelf: Shelf) -> None:
    refusals = [429, 503, 500]

    def bend(handler: Handler) -> bool:
        if refusals:
            handler.say(refusals.pop(), b"{}")
            return True
        return False

    shelf.bend = bend
    pull(store, shelf)
    assert refusals == []


def answers(body: bytes, status: int = 200, **headers: str) -> Callable[[Handler], bool]:
    """Answers every request so."""

    def bend(handler: Handler) -> bool:
        handler.say(status, body, **headers)
        return True

    return bend


def only(digest: str, body: bytes) -> Callable[[Handler], bool]:
    """Answers so for one blob."""

    def bend(handler: Handler) -> bool:
        if handler.path.endswith(digest):
            handler.say(200, body)
            return True
        return False

    return bend


def test_blobs_that_are_others(store: ImageStore, layout: Layout, shelf: Shelf) -> None:
    digest, data = blob_of(layout, 1)
    for wrong, text in (
        (gzip.compress(b"x" * 10), r"ends after|was promised|whole tar"),
        (data[:-1] + b"x", r"was promised|ends in the middle|gzip"),
        (data + b"more", r"more came than|was promised"),
        (layer([entry("other")]).ljust(len(data), b"\0"), r"was promised|ends in the middle|tar archive"),
    ):
        shelf.bend = only(digest, wrong)
        with pytest.raises(ImageError, match=text):
            pull(store, shelf)
        assert kept(store) == []
        for beginning in (store.content.directory / "partial").iterdir():
            beginning.unlink()


def test_manifests_that_are_none(store: ImageStore, layout: Layout, shelf: Shelf) -> None:
    huge = b'{"schemaVersion":2,"x":"' + b"x" * (5 << 20) + b'"}'
    config = {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": "sha256:" + "0" * 64, "size": 5}
    for body, text in (
        (b"", "no JSON"),
        (b"[" * 100_000, "no JSON"),
        (b"<html>", "no JSON"),
        (b"[]", "no JSON object"),
        (b'{"schemaVersion":2}', "neither layers nor manifests"),
        (b'{"schemaVersion":1,"fsLayers":[]}', "schema 1"),
        (huge, "has more than 4194304 bytes"),
        (
            json.dumps({"schemaVersion": 2, "config": {**config, "digest": "sha256:../../x"}, "layers": []}).encode(),
            "digest",
        ),
        (json.dumps({"schemaVersion": 2, "config": {**config, "size": -1}, "layers": []}).encode(), "size"),
        (
            json.dumps({"schemaVersion": 2, "config": {**config, "mediaType": "application/x"}, "layers": []}).encode(),
            "no container image",
        ),
        (
            json.dumps({"schemaVersion": 2, "config": {**config, "size": 1 << 30}, "layers": []}).encode(),
            "a config has",
        ),
        (
            json.dumps(
                {"schemaVersion": 2, "config": config, "layers": [{**config, "mediaType": "text/html"}]}
            ).encode(),
            "cannot be unpacked",
        ),
        (json.dumps({"schemaVersion": 2, "config": config, "layers": [config] * 500}).encode(), "500 layers"),
    ):
        shelf.bend = answers(body, Content_Type="application/vnd.oci.image.manifest.v1+json")
        with pytest.raises(ImageError, match=text):
            pull(store, shelf)
    assert kept(store) == []


def test_an_index_that_leads_to_itself(store: ImageStore, shelf: Shelf) -> None:
    kind = "application/vnd.oci.image.index.v1+json"
    platform = {"os": "linux", "architecture": "amd64"}
    entries = {"mediaType": kind, "digest": "sha256:" + "1" * 64, "size": 10, "platform": platform}
    shelf.bend = answers(
        json.dumps({"schemaVersion": 2, "mediaType": kind, "manifests": [entries]}).encode(), Content_Type=kind
    )
    with pytest.raises(ImageError, match="answers for sha256:1111"):
        pull(store, shelf)


@pytest.mark.parametrize(
    ("target", "text"),
    [
        ("file:///etc/passwd", "no address of the web"),
        ("ftp://127.0.0.1/x", "no address of the web"),
        ("/v2/app/manifests/1", "on and on"),
    ],
)
def test_redirections_to_nowhere(store: ImageStore, shelf: Shelf, target: str, text: str) -> None:
    shelf.bend = answers(b"", 307, Location=target)
    with pytest.raises(ImageError, match=text):
        pull(store, shelf)


def test_credentials_stay_at_home(tmp_path: Path, store: ImageStore, layout: Layout, shelf: Shelf) -> None:
    other = Shelf(layout.path, layout.manifests[0])
    try:
        secret = base64.b64encode(b"me:word").decode()
        (tmp_path / "auth.json").write_text(json.dumps({"auths": {shelf.host: {"auth": secret}}}))

        def bend(handler: Handler) -> bool:
            if handler.headers.get("Authorization") != f"Basic {secret}":
                handler.say(401, b"{}", WWW_Authenticate='Basic realm="x"')
                return True
            if "/blobs/" in handler.path:
                handler.say(307, b"", Location=f"http://{other.host}{handler.path}")
                return True
            return False

        shelf.bend = bend
        pull(store, shelf, auth_files=[str(tmp_path / "auth.json")])
        assert any("Authorization" in headers for _, headers in shelf.asked)
        assert other.asked
        assert not any("Authorization" in headers for _, headers in other.asked)
    finally:
        other.close()


def test_tokens(tmp_path: Path, store: ImageStore, shelf: Shelf) -> None:
    secret = base64.b64encode(b"me:word").decode()
    (tmp_path / "auth.json").write_text(json.dumps({"auths": {shelf.host: {"auth": secret}}}))

    def bend(handler: Handler) -> bool:
        if handler.path.startswith("/token"):
            ok = handler.headers.get("Authorization") == f"Basic {secret}"
            handler.say(
                200 if ok else 401,
                b'{"access_token":"t0ken"}' if ok else b'{"errors":[{"code":"DENIED","message":"no"}]}',
            )
            return True
        if handler.headers.get("Authorization") != "Bearer t0ken":
            challenge = f'Bearer realm="http://{shelf.host}/token?a=b",service="reg,istry",scope="repository:app:pull"'
            handler.say(401, b"{}", WWW_Authenticate=challenge)
            return True
        return False

    shelf.bend = bend
    pull(store, shelf, auth_files=[str(tmp_path / "auth.json")])
    (token,) = [path for path, _ in shelf.asked if path.startswith("/token")]
    assert token == "/token?a=b&service=reg%2Cistry&scope=repository%3Aapp%3Apull"
    with pytest.raises(ImageError, match=r"a token from .*: 401 Unauthorized: no \(DENIED\)"):
        pull(ImageStore(tmp_path / "other", durable=False), shelf)


def test_an_identity_token(tmp_path: Path, store: ImageStore, shelf: Shelf) -> None:
    (tmp_path / "auth.json").write_text(json.dumps({"auths": {shelf.host: {"identitytoken": "id"}}}))
    bodies: list[bytes] = []

    def bend(handler: Handler) -> bool:
        if handler.path == "/token":
            bodies.append(handler.rfile.read(int(handler.headers["Content-Length"])))
            handler.say(200, b'{"token":"t"}')
            return True
        if handler.headers.get("Authorization") != "Bearer t":
            handler.say(401, b"{}", WWW_Authenticate=f'Bearer realm="http://{shelf.host}/token",service="s"')
            return True
        return False

    shelf.bend = bend
    pull(store, shelf, auth_files=[str(tmp_path / "auth.json")])
    assert bodies == [
        b"grant_type=refresh_token&refresh_token=id&client_id=nsrun&service=s&scope=repository%3Aapp%3Apull"
    ]


@pytest.mark.parametrize(
    "challenge", ["", "Negotiate", 'Bearer realm="file:///etc/passwd"', "Bearer", 'Basic realm="x"']
)
def test_challenges_that_lead_nowhere(store: ImageStore, shelf: Shelf, challenge: str) -> None:
    shelf.bend = answers(b"{}", 401, WWW_Authenticate=challenge)
    with pytest.raises(ImageError, match=r"nobody knows|no address of the web|a user and a password"):
        pull(store, shelf)


def test_a_proxy(store: ImageStore, layout: Layout, shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy is asked with the whole address; hosts of no_proxy are not asked for there."""
    proxy = Shelf(layout.path, layout.manifests[0])
    try:
        monkeypatch.setenv("http_proxy", f"http://me:word@{proxy.host}")
        settings = ImageSettings.of({"registries": {"registry.invalid": {"insecure": True}}})
        monkeypatch.setenv("https_proxy", "http://127.0.0.1:1")
        image = RegistryPuller(settings).pull(parse("registry.invalid/app:1"), store)
        assert image.name == "registry.invalid/app:1"
        path, headers = proxy.asked[0]
        assert path == "http://registry.invalid/v2/app/manifests/1"
        assert headers["proxy-authorization"] == f"Basic {base64.b64encode(b'me:word').decode()}"
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        proxy.asked.clear()
        pull(store, shelf)
        assert proxy.asked == []
    finally:
        proxy.close()


def test_a_decompression_bomb(tmp_path: Path, store: ImageStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nsrun.images.compression.BOMB_SIZE", 10 << 20)
    made = Layout(tmp_path / "bomb")
    made.image("x", [layer([entry("zeros", data=bytes(30 << 20))])])
    shelf = Shelf(made.path, made.manifests[0])
    try:
        with pytest.raises(ImageError, match="unpacks to more than 400 times its size"):
            pull(store, shelf)
        assert kept(store) == []
        assert list((store.content.directory / "partial").iterdir()) == []
    finally:
        shelf.close()


def test_a_layer_with_other_contents_than_the_config_says(tmp_path: Path, store: ImageStore) -> None:
    made = Layout(tmp_path / "wrong")
    made.image("x", [BIG])
    manifest = json.loads((made.path / "blobs/sha256" / made.manifests[0]["digest"][7:]).read_text())
    config = json.loads((made.path / "blobs/sha256" / manifest["config"]["digest"][7:]).read_text())
    config["rootfs"]["diff_ids"] = ["sha256:" + hashlib.sha256(b"x").hexdigest()]
    manifest["config"] = made.blob(json.dumps(config).encode(), manifest["config"]["mediaType"])
    shelf = Shelf(made.path, made.blob(json.dumps(manifest).encode(), manifest["mediaType"]))
    try:
        with pytest.raises(ImageError, match="the image's config says"):
            pull(store, shelf)
        assert kept(store) == []
    finally:
        shelf.close()


def test_a_stream_that_drips(store: ImageStore, layout: Layout, shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "PACE_S", 0.2)
    digest, data = blob_of(layout, 1)

    def bend(handler: Handler) -> bool:
        if not handler.path.endswith(digest):
            return False
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(data)))
        handler.end_headers()
        for at in range(100):
            handler.wfile.write(data[at : at + 1])
            handler.wfile.flush()
            if handler.server.__dict__.get("_BaseServer__shutdown_request"):
                break
            shelf._thread.join(0.02)
        return True

    shelf.bend = bend
    monkeypatch.setattr(registry, "ATTEMPTS", 1)
    with pytest.raises(ImageError, match=r"\d+ bytes in 0.2 s"):
        pull(store, shelf)
