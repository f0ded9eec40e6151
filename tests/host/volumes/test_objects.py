"""Volumes of ConfigMaps and Secrets: waited for, brought up to date all at once, and never told to anybody else."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nsrun.errors import UnsupportedError
from tests.host.environment.test_objects import PASSWORD, apply, config_map, of_map, remove, secret
from tests.host.server.harness import Server, box, pod, until
from tests.host.volumes.looking import events, fails, mount, mounts, nothing_left, pausing, said, up, volume

pytestmark = [pytest.mark.requires("overlay", "bridge", "nftables"), pytest.mark.timeout(120)]


def of(name: str, *items: dict[str, Any], **fields: Any) -> dict[str, Any]:
    """The source of a configMap volume."""
    return {"name": name} | ({"items": list(items)} if items else {}) | fields


def shown(server: Server, path: str) -> list[str]:
    """The names in a directory of a container, without the volume's own."""
    return [one for one in said(server, "ls", path).split() if not one.startswith("..")]


def held(server: Server, uid: str, name: str) -> dict[str, str]:
    """What a volume's files hold, seen from the host by the way that containers take."""
    place = _place(server, uid, name)
    return {
        one: (place / one).read_text(errors="replace") for one in sorted(os.listdir(place)) if not one.startswith("..")
    }


def _place(server: Server, uid: str, name: str) -> Path:
    place = server.root / "run" / "pods" / uid / "volumes"
    shared = place / ".configmaps" / name
    return shared if shared.exists() else place / name


def test_S_ATOMIC_S_VOL_files_of_objects_change_in_running_containers(server: Server) -> None:
    """Files, modes, owners; then changes: of volumes but not of sub paths and variables, at once, and after a SIGKILL."""
    site = config_map("site", index="old", **{"app.conf": "x=1"}) | {"binaryData": {"blob": "/w=="}}
    keys = [
        mount("s", "/s"),
        mount("c", "/c"),
        mount("c", "/one", subPath="index"),
        mount("p", "/p"),
        mount("i", "/i"),
    ]
    sources = [
        {"configMap": {"name": "site", "items": [{"key": "index", "path": "www/index.html", "mode": 0o600}]}},
        {"secret": {"name": "key", "items": [{"key": "k", "path": "key"}]}},
        {"downwardAPI": {"items": [{"path": "name", "fieldRef": {"fieldPath": "metadata.name"}}]}},
        {"configMap": {"name": "extra", "optional": True}},
    ]
    manifest = pod(
        "web",
        pausing("a", *keys, env=[of_map("site", "index", variable="INDEX")]),
        volumes=[
            volume("c", configMap=of("site")),
            volume("i", configMap=of("site", {"key": "app.conf", "path": "etc/app"}, defaultMode=0o400)),
            volume("s", secret={"secretName": "key", "defaultMode": 0o400}),
            volume("p", projected={"sources": sources, "defaultMode": 0o440}),
        ],
        securityContext={"fsGroup": 2000, "fsGroupChangePolicy": "OnRootMismatch"},
    )
    uid = server.up(site, secret("key", k=PASSWORD), manifest)["pods"][0]["uid"]
    assert shown(server, "/c") == ["app.conf", "blob", "index"]
    assert server.run("web", "/bin/cat", "/c/blob")[1] == b"\xff"
    assert said(server, "cat", "/s/k") == said(server, "cat", "/p/key") == PASSWORD
    assert said(server, "cat", "/p/www/index.html") == said(server, "cat", "/one") == "old"
    assert said(server, "cat", "/p/name") == "web"
    for path, mode in {
        "/c/..data/index": "0644",
        "/i/..data/etc/app": "0440",
        "/s/..data/k": "0440",
        "/p/..data/key": "0440",
    }.items():
        assert f" - {mode} 0 2000 " in said(server, "stat", path), path
    assert " - 0640 0 2000 " in said(server, "stat", "/p/..data/www/index.html")
    for path in ("/c/x", "/s/x", "/p/x"):
        assert "EROFS" in fails(server, "write", path, "x")
    seen = mounts(server)
    assert {seen[path][3] for path in ("/c", "/s", "/p")} == {"tmpfs"}
    devices = [_place(server, uid, one).stat().st_dev for one in "cisp"]
    assert devices[0] == devices[1], "ConfigMaps of a pod have a file system together"
    assert len(set(devices)) == 3, "and what may be secret has one of its own"

    # At once: before the request for it is a second old.
    begun = time.monotonic()
    apply(server, config_map("site", index="new", more="2"), secret("key", k="other"), config_map("extra", e="1"))
    until(lambda: held(server, uid, "c") == {"index": "new", "more": "2"}, 5)
    until(lambda: held(server, uid, "s") == {"k": "other"}, 5)
    until(lambda: "e" in held_names(server, uid, "p"), 5)
    assert time.monotonic() - begun < 2
    assert said(server, "cat", "/p/www/index.html") == "new"
    assert said(server, "cat", "/s/k") == said(server, "cat", "/p/key") == "other"
    assert said(server, "cat", "/one") == "old"
    assert "INDEX=old" in said(server, "env")
    # The key that /i is made of has gone: it stays as it was, and the pod goes on.
    until(lambda: events(server, "FailedMount"))
    assert events(server, "FailedMount") == [
        'MountVolume.SetUp failed for volume "i" : configmap references non-existent config key: app.conf'
    ]
    assert said(server, "cat", "/i/etc/app") == "x=1"

    # A server that died in between; its successor compares.
    apply(server, config_map("site", index="newer", **{"app.conf": "x=2"}))
    server.kill()
    server.call("server.ping")
    until(lambda: held(server, uid, "c") == {"app.conf": "x=2", "index": "newer"}, 5)
    until(lambda: said(server, "cat", "/i/etc/app") == "x=2", 5)
    assert len([one for one in os.listdir(_place(server, uid, "c")) if one.startswith("..20")]) == 1

    # Gone: what is optional goes, the rest stays, and so does the pod.
    remove(server, "configmap", "extra", "site")
    remove(server, "secret", "key")
    until(lambda: len(events(server, "FailedMount")) >= 4)
    assert sorted(set(events(server, "FailedMount")))[:2] == [
        'MountVolume.SetUp failed for volume "c" : configmap "site" not found',
        'MountVolume.SetUp failed for volume "i" : configmap "site" not found',
    ]
    assert held(server, uid, "c") == {"app.conf": "x=2", "index": "newer"}
    assert "running" in server.container("web", "a")["state"]
    apply(server, config_map("site", index="last", **{"app.conf": "x=3"}), secret("key", k=PASSWORD))
    until(lambda: held(server, uid, "c")["index"] == "last", 5)
    until(lambda: "e" not in held_names(server, uid, "p"), 5)
    server.call("pod.restart", name="web", grace_period_s=0, wait=True, timeout_s=20)
    assert said(server, "cat", "/one") == "last"
    assert "INDEX=last" in said(server, "env")
    server.down("web")
    nothing_left(server, uid)


def held_names(server: Server, uid: str, name: str) -> list[str]:
    return os.listdir(_place(server, uid, name))


def test_S_VOL_a_pod_waits_for_its_objects_and_starts_at_once_when_they_come(server: Server) -> None:
    manifest = pod(
        "web",
        pausing("a", mount("c", "/c"), mount("s", "/s"), mount("o", "/o")),
        volumes=[
            volume("c", configMap=of("later", {"key": "k", "path": "k"})),
            volume("s", secret={"secretName": "later"}),
            volume("o", configMap={"name": "never", "optional": True}),
        ],
    )
    server.up(manifest, wait="none")
    until(lambda: len(events(server, "FailedMount")) >= 2)
    assert sorted(set(events(server, "FailedMount"))) == [
        'MountVolume.SetUp failed for volume "c" : configmap "later" not found',
        'MountVolume.SetUp failed for volume "s" : secret "later" not found',
    ]
    assert server.container("web", "a")["state"]["waiting"]["reason"] == "ContainerCreating"
    # Others' objects, and those of another namespace, are not waited for.
    elsewhere = config_map("later", k="v")
    elsewhere["metadata"]["namespace"] = "elsewhere"
    apply(server, elsewhere, config_map("later", z="v"))
    until(lambda: any("non-existent config key: k" in one for one in events(server, "FailedMount")))
    apply(server, secret("later", k=PASSWORD))
    assert "waiting" in server.container("web", "a")["state"]
    server.kill()
    begun = time.monotonic()
    apply(server, config_map("later", k="v"))
    until(lambda: "running" in server.container("web", "a")["state"], 5)
    assert time.monotonic() - begun < 3
    assert said(server, "cat", "/c/k") == "v"
    assert shown(server, "/o") == []
    assert server.container("web", "a")["restartCount"] == 0


def test_S_VOL_secrets_are_in_memory_alone_and_told_to_nobody(server: Server) -> None:
    sources = [{"secret": {"name": "s"}}]
    server.up(
        secret("s", k=PASSWORD),
        pod(
            "web",
            pausing("a", mount("v", "/v"), mount("p", "/p")),
            volumes=[volume("v", secret={"secretName": "s"}), volume("p", projected={"sources": sources})],
        ),
        pod(
            "bad",
            pausing("a", mount("v", "/v")),
            volumes=[volume("v", secret={"secretName": "s", "items": [{"key": "z", "path": "z"}]})],
        ),
        wait="none",
    )
    until(lambda: "running" in server.container("web", "a")["state"])
    until(lambda: events(server, "FailedMount", "bad"))
    words = [PASSWORD.encode(), base64.b64encode(PASSWORD.encode())]
    disk = os.stat(server.root / "lib").st_dev
    for top, _, files in os.walk(server.root):
        if os.stat(top).st_dev == disk:
            assert not any(_holds(Path(top, name), words) for name in files), top
    told = json.dumps([server.call("pod.get", name=one).result for one in ("web", "bad")])
    told += json.dumps(server.call("pod.events").result) + server.said()
    assert not any(word.decode() in told for word in words)


def _holds(path: Path, words: list[bytes]) -> bool:
    if path.is_symlink() or not path.is_file():
        return False
    data = path.read_bytes()
    return any(word in data for word in words)


def test_S_ATOMIC_a_volume_without_room_stays_as_it_was(server: Server) -> None:
    uid = up(
        server,
        volume("c", configMap=of("site")),
        volume("s", secret={"secretName": "key"}),
        mounts=[mount("c", "/c"), mount("s", "/s")],
        objects=[config_map("site", a="old", b="old"), secret("key", k="old")],
    )
    places = [_place(server, uid, "c").parent, _place(server, uid, "s")]
    for place in places:
        subprocess.run(["mount", "-o", "remount,size=32k", str(place)], check=True)
    apply(server, config_map("site", a="x" * 100_000, b="new"), secret("key", k="x" * 100_000))
    until(lambda: len([one for one in events(server, "FailedMount") if "No space left on device" in one]) == 2)
    assert held(server, uid, "c") == {"a": "old", "b": "old"}
    assert held(server, uid, "s") == {"k": "old"}
    assert server.run("web", "/bin/true")[0] == 0
    for place in places:
        subprocess.run(["mount", "-o", "remount,size=1m", str(place)], check=True)
    until(lambda: held(server, uid, "c") == {"a": "x" * 100_000, "b": "new"})
    until(lambda: held(server, uid, "s") == {"k": "x" * 100_000})
    assert len([one for one in os.listdir(_place(server, uid, "c")) if one.startswith("..")]) == 2


def test_S_VOL_two_hundred_volumes_and_none_of_another_pod(server: Server) -> None:
    many = 200
    objects = [config_map(f"m{number}", key=str(number)) for number in range(many)]
    volumes = [volume(f"v{number}", configMap=of(f"m{number}")) for number in range(many)]
    places = [mount(f"v{number}", f"/v/{number}") for number in range(many)]
    uid = up(server, *volumes, mounts=places, objects=objects)
    assert [said(server, "cat", f"/v/{number}/key") for number in (0, 99, 199)] == ["0", "99", "199"]
    other = config_map("m0", key="0") | {"metadata": {"name": "m0", "namespace": "other"}, "data": {"key": "another"}}
    apply(server, other)
    second = pod("web", pausing("a", mount("v0", "/v")), volumes=volumes[:1])
    second["metadata"]["namespace"] = "other"
    theirs = server.up(second)["pods"][0]["uid"]
    assert _place(server, theirs, "v0").joinpath("key").read_text() == "another"
    assert said(server, "cat", "/v/0/key") == "0"
    roots = [line.split()[3] for line in said(server, "cat", "/proc/self/mountinfo").splitlines()]
    assert len([root for root in roots if root.startswith("/v") and root[2:].isdigit()]) == many
    assert theirs not in "".join(roots)
    # All of them change.
    apply(server, *(config_map(f"m{number}", key="new") for number in range(many)))
    until(lambda: {(_place(server, uid, f"v{number}") / "key").read_text() for number in range(many)} == {"new"})
    server.call("pod.down", names=["web"], namespace="other", grace_period_s=0)


def test_S_ATOMIC_servers_that_are_killed_over_set_up_and_update(server: Server) -> None:
    """Whoever reads meanwhile finds both files of one version, always, and in the end those of the last."""
    apply(server, config_map("site", a="0", b="0"), secret("key", a="0", b="0"))
    manifest = pod(
        "web",
        pausing("a", mount("c", "/c"), mount("s", "/s")),
        volumes=[volume("c", configMap=of("site")), volume("s", secret={"secretName": "key"})],
    )
    server.up(manifest, wait="none")
    for delay_s in (0.004, 0.012):
        time.sleep(delay_s)
        server.kill()
        server.call("server.ping")
    until(lambda: "running" in server.container("web", "a")["state"])
    uid = server.get("web")["metadata"]["uid"]
    with reading([_place(server, uid, "c"), _place(server, uid, "s")]) as seen:
        for number, delay_s in enumerate((0.0, 0.001, 0.002, 0.004, 0.008), start=1):
            text = str(number)
            apply(server, config_map("site", a=text, b=text), secret("key", a=text, b=text))
            time.sleep(delay_s)
            server.kill()
            server.call("server.ping")
        until(lambda: held(server, uid, "c") == held(server, uid, "s") == {"a": "5", "b": "5"})
    assert seen >= {"0", "5"}
    for name in ("c", "s"):
        assert len([one for one in os.listdir(_place(server, uid, name)) if one.startswith("..")]) == 2
    assert server.container("web", "a")["restartCount"] == 0


@contextlib.contextmanager
def reading(places: list[Path]) -> Iterator[set[str]]:
    """Reads a and b of volumes again and again, each pair by one look at `..data`; what was found. Raises if two of a pair differ."""
    seen: set[str] = set()
    different: list[tuple[str, str]] = []
    over = threading.Event()

    def read() -> None:
        while not over.is_set():
            for place in places:
                try:
                    fd = os.open(place / "..data", os.O_RDONLY | os.O_DIRECTORY)
                except FileNotFoundError:
                    continue
                try:
                    pair = [_text(fd, name) for name in "ab"]
                except FileNotFoundError:
                    continue  # replaced and removed in between
                finally:
                    os.close(fd)
                seen.update(pair)
                if pair[0] != pair[1]:
                    different.append((pair[0], pair[1]))
            time.sleep(0.0005)

    thread = threading.Thread(target=read)
    thread.start()
    try:
        yield seen
    finally:
        over.set()
        thread.join()
    assert not different


def _text(directory: int, name: str) -> str:
    with open(os.open(name, os.O_RDONLY, dir_fd=directory)) as file:
        return file.read()


def test_tokens_of_a_cluster_are_refused_by_name(server: Server) -> None:
    sources = [{"serviceAccountToken": {"path": "token", "expirationSeconds": 3600}}]
    with pytest.raises(UnsupportedError) as caught:
        server.up(
            pod(
                "web",
                box("a", "pause"),
                volumes=[volume("t", projected={"sources": sources})],
                serviceAccountName="default",
            )
        )
    assert "serviceAccountToken is issued by a Kubernetes API server" in (caught.value.details or "")
    server.up(pod("web", box("a", "pause"), automountServiceAccountToken=True))
