"""Files in manifests/, as they are read (S-STATIC)."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from nsrun.server.manifests import HASH, MAX_BYTES, SOURCE, ManifestFile, StaticPod, is_ignored, objection, signature_of


class Noon:
    """A clock."""

    def now(self) -> float:
        return 1_000_000_000.0

    def call_at(self, at: float, callback: Any) -> Any:
        raise AssertionError("nobody waits here")


def manifest(name: str = "web", **spec: Any) -> dict[str, Any]:
    body = {"containers": [{"name": "a", "image": "i"}], **spec}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": body}


def read(path: Path, data: str | bytes, mode: int = 0o644, node: str = "node") -> ManifestFile:
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    path.chmod(mode)
    file = ManifestFile(str(path), signature_of(str(path)))
    file.read(node)
    return file


def the_pod(path: Path, data: dict[str, Any], node: str = "node") -> StaticPod:
    file = read(path, json.dumps(data), node=node)
    assert file.error == ""
    (pod,) = file.pods
    return pod


@pytest.mark.parametrize("name", [".web.yaml", "..data", ".web.yaml.swp", "web.yaml~", "#web.yaml#"])
def test_S_STATIC_names_that_are_ignored(name: str) -> None:
    assert is_ignored(name)


@pytest.mark.parametrize("name", ["web.yaml", "web.json", "web", "web.yaml.bak", "~web"])
def test_S_STATIC_names_that_are_read_whatever_they_end_in(name: str) -> None:
    assert not is_ignored(name)


def test_S_STATIC_the_uid_follows_from_machine_path_and_content(tmp_path: Path) -> None:
    path = tmp_path / "web.yaml"
    first = the_pod(path, manifest())
    assert first.uid == the_pod(path, manifest()).uid
    assert len(first.uid) == 32
    others = {
        the_pod(path, manifest("other")).uid,
        the_pod(path, manifest(hostname="h")).uid,
        the_pod(tmp_path / "b.yaml", manifest()).uid,
        the_pod(path, manifest(), node="elsewhere").uid,
    }
    assert len(others | {first.uid}) == 5
    spaced = read(path, json.dumps(manifest(), indent=3))
    assert spaced.pods[0].uid == first.uid, "how it is written does not matter"


def test_S_STATIC_what_is_stored_says_where_it_came_from(tmp_path: Path) -> None:
    data = manifest(nodeName="mine", tolerations=[{"key": "k", "operator": "Exists"}])
    data["metadata"] |= {"annotations": {"note": "x"}, "uid": "given", "resourceVersion": "7"}
    pod = the_pod(tmp_path / "web.yaml", data)
    wish = pod.wish("node", Noon())
    metadata, spec = wish.object.metadata, wish.object.spec
    assert metadata.annotations["note"] == "x"
    assert (metadata.annotations[SOURCE], metadata.annotations[HASH]) == ("file", pod.uid)
    assert (metadata.uid, metadata.resourceVersion, metadata.generation) == (pod.uid, None, 1)
    assert (metadata.name, metadata.namespace) == ("web", "default")
    assert metadata.creationTimestamp == "2001-09-09T01:46:40Z"
    assert spec.nodeName == "node"
    assert [one.effect for one in spec.tolerations] == [None, "NoExecute"]
    assert wish.options == {"nodeName": "mine", "static": str(tmp_path / "web.yaml")}


def test_S_STATIC_several_documents_lists_and_json(tmp_path: Path) -> None:
    path = tmp_path / "pods"
    several = "\n---\n".join(json.dumps(manifest(name)) for name in ("a", "b"))
    assert [pod.key for pod in read(path, several).pods] == [("default", "a"), ("default", "b")]
    listed = json.dumps({"apiVersion": "v1", "kind": "List", "items": [manifest("a"), manifest("b")]})
    assert [pod.key for pod in read(path, listed).pods] == [("default", "a"), ("default", "b")]


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ("", "empty"),
        ("# nothing\n---\n", "web.yaml"),
        ("kind: Pod\napiVersion: v1\nmetadata: {name: we", "web.yaml"),
        (b"\xff\xfe\x00", "UTF-8"),
        ("a\0b", "binary"),
        (json.dumps(manifest("A_B")), "metadata.name"),
        (json.dumps(manifest(imag="x")), "imag"),
        (
            json.dumps({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s"}, "spec": {}}),
            "not something nsrun runs",
        ),
        (json.dumps({**manifest(), "metadata": {"generateName": "web-"}}), "needs a name"),
        (json.dumps(manifest(overhead={"cpu": "1"})), "spec.overhead"),
        ("\n---\n".join([json.dumps(manifest())] * 2), "there twice"),
        ("\n---\n".join([json.dumps(manifest()), "kind: Pod"]), "web.yaml"),
    ],
)
def test_S_STATIC_a_file_that_will_not_do_says_why_and_asks_for_nothing(
    tmp_path: Path, data: str | bytes, words: str
) -> None:
    file = read(tmp_path / "web.yaml", data)
    assert words in file.error
    assert file.pods == ()


def test_S_STATIC_what_is_no_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "directory").mkdir()
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    (tmp_path / "device").symlink_to("/dev/zero")
    wanted = {"fifo": "regular", "directory": "directory", "dangling": "No such file", "device": "regular"}
    for name, words in wanted.items():
        file = ManifestFile(str(tmp_path / name))
        file.read("node")
        assert words in file.error, name


def test_S_STATIC_a_huge_file_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "huge"
    with path.open("wb") as huge:
        huge.truncate(MAX_BYTES + 1)
    path.chmod(0o644)
    file = ManifestFile(str(path))
    file.read("node")
    assert "10 MiB" in file.error


@pytest.mark.parametrize(("mode", "fine"), [(0o644, True), (0o600, True), (0o646, False), (0o666, False)])
def test_S_STATIC_what_others_may_write_is_not_run(tmp_path: Path, mode: int, fine: bool) -> None:
    file = read(tmp_path / "web.yaml", json.dumps(manifest()), mode)
    assert (file.error == "") is fine
    assert fine or "chmod" in file.error


def test_S_STATIC_what_belongs_to_somebody_else_is_not_run() -> None:
    def owned(uid: int, gid: int, mode: int) -> str:
        return objection(os.stat_result((mode, 1, 1, 1, uid, gid, 1, 0, 0, 0)))

    assert owned(os.geteuid(), 0, 0o100644) == ""
    assert "uid 1234" in owned(1234, 0, 0o100644)
    assert owned(0, 0, 0o100664) == ""
    assert "chmod" in owned(0, 1234, 0o100664)
