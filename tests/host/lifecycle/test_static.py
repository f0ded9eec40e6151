"""Pods of files: they run while their file lies in manifests/ (S-STATIC)."""

from __future__ import annotations

import json
import os
import random
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from nsrun.errors import ConflictError
from tests.host.lifecycle.journal import Journal
from tests.host.server.harness import Server, box, pod, until

pytestmark = [pytest.mark.requires("overlay", "bridge", "nftables"), pytest.mark.timeout(120)]


@pytest.fixture
def manifests(server: Server) -> Path:
    """The directory; it is there after the server."""
    directory = server.root / "etc" / "manifests"
    directory.mkdir(parents=True)
    return directory


def put(directory: Path, name: str, *pods: dict[str, Any]) -> Path:
    """Write a file as `cp` does."""
    path = directory / name
    path.write_text("\n---\n".join(json.dumps(one) for one in pods))
    return path


def pid(server: Server, name: str, container: str = "a") -> int:
    return next(int(one["pid"]) for one in server.runtime(name)["instances"] if one["name"] == container)


def is_running(server: Server, name: str) -> Callable[[], bool]:
    return lambda: name in server.names() and server.get(name)["status"].get("phase") == "Running"


def is_gone(server: Server, name: str) -> Callable[[], bool]:
    return lambda: name not in server.names()


def errors(server: Server) -> dict[str, str]:
    files = server.call("server.status").result["manifests"]["files"]
    return {one["name"]: one["error"] or "" for one in files}


def test_S_STATIC_a_file_is_a_pod_as_long_as_it_lies_there(server: Server, manifests: Path, journal: Journal) -> None:
    path = put(manifests, "web.yaml", pod("web", journal.life("a")))
    until(is_running(server, "web"))
    found = server.get("web")
    annotations = found["metadata"]["annotations"]
    assert annotations["kubernetes.io/config.source"] == "file"
    assert annotations["kubernetes.io/config.hash"] == found["metadata"]["uid"]
    assert server.call("server.status").result["manifests"] == {
        "directory": str(manifests),
        "error": None,
        "files": [{"name": "web.yaml", "pods": ["default/web"], "error": None}],
    }
    path.unlink()
    until(is_gone(server, "web"))
    # Gracefully: it was told to end, and ended.
    journal.before("a start", "a term", "a exit 0")


def test_S_STATIC_what_lies_there_runs_when_the_server_answers(server: Server, manifests: Path) -> None:
    server.stop()
    put(manifests, "two", pod("one", box("a", "pause")), pod("two", box("a", "pause")))
    (manifests / ".hidden.yaml").write_text(json.dumps(pod("hidden", box("a", "pause"))))
    (manifests / "web.yaml~").write_text(json.dumps(pod("backup", box("a", "pause"))))
    server.start()
    assert server.names() == ["one", "two"]
    until(is_running(server, "two"))


def test_S_STATIC_another_server_neither_begins_nor_ends_anything(server: Server, manifests: Path) -> None:
    put(manifests, "web.yaml", pod("web", box("a", "pause")))
    until(is_running(server, "web"))
    before = (server.get("web")["metadata"]["uid"], pid(server, "web"))
    for end in (server.kill, server.stop):
        end()
        server.start()
        assert (server.get("web")["metadata"]["uid"], pid(server, "web")) == before
    # Nor does touching it, or writing the same again.
    put(manifests, "web.yaml", pod("web", box("a", "pause")))
    os.utime(manifests / "web.yaml")
    time.sleep(1.5)
    assert (server.get("web")["metadata"]["uid"], pid(server, "web")) == before


def test_S_STATIC_a_changed_file_is_another_pod_once_the_old_one_is_gone(
    server: Server, manifests: Path, journal: Journal
) -> None:
    put(manifests, "web.yaml", pod("web", journal.life("a", linger=0.5)))
    until(is_running(server, "web"))
    before = server.get("web")["metadata"]["uid"]
    put(manifests, "web.yaml", pod("web", journal.life("b")))
    journal.until("b start")
    journal.before("a start", "a term", "a exit 0", "b start")
    until(is_running(server, "web"))
    assert server.get("web")["metadata"]["uid"] != before


def test_S_STATIC_a_file_that_becomes_invalid_ends_nothing(server: Server, manifests: Path) -> None:
    path = put(manifests, "web.yaml", pod("web", box("a", "pause")))
    until(is_running(server, "web"))
    before = pid(server, "web")
    for broken in (b"", b"kind: Pod\nmetadata: {na", os.urandom(4096), b"x" * (11 << 20), b"a: &a [*a]"):
        path.write_bytes(broken)
        until(lambda: errors(server)["web.yaml"], what=str(broken[:20]))
        assert is_running(server, "web")()
    assert pid(server, "web") == before
    assert "FailedValidation" in server.reasons("web")
    check = next(one for one in server.call("doctor").result["checks"] if one["name"] == "manifests")
    assert not check["ok"]
    assert "web.yaml" in check["text"]

    # A new server sees the broken file and the pod of which nobody asked the end.
    server.kill()
    assert pid(server, "web") == before
    put(manifests, "web.yaml", pod("web", box("a", "pause")))
    until(lambda: not errors(server)["web.yaml"])
    time.sleep(0.2)
    assert pid(server, "web") == before
    path.write_text("broken: [")
    until(lambda: errors(server)["web.yaml"])
    path.unlink()
    until(is_gone(server, "web"))


def test_S_STATIC_a_file_that_is_being_written_is_not_taken_for_whole(server: Server, manifests: Path) -> None:
    put(manifests, "pods.yaml", pod("one", box("a", "pause")), pod("two", box("a", "pause")))
    until(is_running(server, "one"))
    until(is_running(server, "two"))
    before = (pid(server, "one"), pid(server, "two"))
    text = (manifests / "pods.yaml").read_text()
    cut = text.index("---")
    # Only the first pod is in it for half a second, and the file is well-formed.
    with (manifests / "pods.yaml").open("w") as file:
        file.write(text[:cut])
        file.flush()
        time.sleep(0.6)
        file.write(text[cut:])
    # As some editors save: the old one is moved out of the way first.
    (manifests / "pods.yaml").rename(manifests / "pods.yaml~")
    time.sleep(0.3)
    (manifests / "pods.yaml").write_text(text)
    time.sleep(1.5)
    assert (pid(server, "one"), pid(server, "two")) == before


def test_S_STATIC_one_of_several_pods_of_a_file_can_go(server: Server, manifests: Path) -> None:
    put(manifests, "pods.yaml", pod("one", box("a", "pause")), pod("two", box("a", "pause")))
    until(is_running(server, "one"))
    until(is_running(server, "two"))
    before = pid(server, "one")
    put(manifests, "pods.yaml", pod("one", box("a", "pause")))
    until(is_gone(server, "two"))
    assert pid(server, "one") == before


def test_S_STATIC_it_is_the_file_that_is_changed_and_removed(server: Server, manifests: Path) -> None:
    manifest = pod("web", box("a", "pause"))
    path = put(manifests, "web.yaml", manifest)
    until(is_running(server, "web"))
    server.up(pod("mine", box("a", "pause")))
    acts: list[Callable[[], object]] = [
        lambda: server.down("web"),
        lambda: server.down("web", force=True),
        lambda: server.up(manifest),
        lambda: server.up(pod("web", box("a", "sleep", "99")), replace=True),
    ]
    for act in acts:
        with pytest.raises(ConflictError) as caught:
            act()
        assert str(path) in f"{caught.value.brief} {caught.value.resolution}"
    reply = server.call("pod.down", all=True, grace_period_s=0)
    assert [one["name"] for one in reply.result["pods"]] == ["mine"]
    (event,) = (one for one in reply.events if one["kind"] != "gone")
    assert event["kind"] == "warning"
    assert str(path) in event["text"]
    assert server.names() == ["web"]
    server.call("pod.restart", name="web", grace_period_s=0)


def test_S_STATIC_a_name_is_one_pods(server: Server, manifests: Path) -> None:
    server.up(pod("web", box("a", "pause")))
    put(manifests, "b.yaml", pod("web", box("a", "pause"), hostname="b"))
    until(lambda: "by hand" in errors(server).get("b.yaml", ""))
    server.down("web")
    until(lambda: server.names() == ["web"] and server.get("web")["spec"].get("hostname") == "b")
    until(lambda: not errors(server)["b.yaml"])

    # Another file with that name waits, though it comes first in the alphabet.
    put(manifests, "a.yaml", pod("web", box("a", "pause"), hostname="a"), pod("other", box("a", "pause")))
    until(lambda: "b.yaml" in errors(server).get("a.yaml", ""))
    until(is_running(server, "other"))
    assert server.get("web")["spec"]["hostname"] == "b"
    (manifests / "b.yaml").unlink()
    until(lambda: "web" in server.names() and server.get("web")["spec"]["hostname"] == "a")
    until(lambda: not errors(server)["a.yaml"])


def test_S_STATIC_the_directory_comes_and_goes(server: Server) -> None:
    etc = server.root / "etc"
    etc.mkdir(exist_ok=True)
    time.sleep(0.1)
    aside = etc / "aside"
    aside.mkdir()
    put(aside, "web.yaml", pod("web", box("a", "pause")))
    server.kill()
    server.start()
    aside.rename(etc / "manifests")
    until(is_running(server, "web"), what="it is followed from the time on that it is there")
    (etc / "manifests").rename(aside)
    until(is_gone(server, "web"), what="nobody wishes for it any more")
    aside.rename(etc / "manifests")
    until(is_running(server, "web"))


def test_S_STATIC_what_others_may_write_is_not_run(server: Server, manifests: Path) -> None:
    path = put(manifests, "web.yaml", pod("web", box("a", "pause")))
    until(is_running(server, "web"))
    put(manifests, "bad.yaml", pod("bad", box("a", "pause"))).chmod(0o666)
    until(lambda: "chmod" in errors(server).get("bad.yaml", ""))
    assert "bad" not in server.names() or path.exists()
    manifests.chmod(0o777)
    until(lambda: server.call("server.status").result["manifests"]["error"] is not None, timeout_s=30)
    path.unlink()
    time.sleep(1.5)
    assert is_running(server, "web")(), "what is said there does not count"
    manifests.chmod(0o755)
    until(is_gone(server, "web"), timeout_s=30)


def test_S_STATIC_after_a_reboot_it_is_the_same_pod_with_its_logs(server: Server, manifests: Path) -> None:
    put(manifests, "web.yaml", pod("web", box("a", "then", "echo", "first", ";", "pause")))
    until(is_running(server, "web"))
    uid, shim = server.get("web")["metadata"]["uid"], server.runtime("web")["shim_pid"]
    until(lambda: "first" in server.lines("web", "a"))
    log = Path(server.runtime("web")["instances"][0]["log"])
    # What a reboot leaves: no process, no run directory.
    server.kill()
    os.kill(shim, 9)
    time.sleep(0.3)
    for entry in (server.root / "run" / "pods").iterdir():
        for path in sorted(entry.rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
        entry.rmdir()
    server.start()
    until(is_running(server, "web"))
    assert server.get("web")["metadata"]["uid"] == uid
    assert server.container("web", "a")["restartCount"] == 1
    assert log.read_text().count("first") == 1, "nobody writes into the old log"
    assert Path(server.runtime("web")["instances"][0]["log"]) == log.with_name("1.log")
    instance = server.runtime("web")["instances"][0]["id"]
    roots = server.root / "lib" / "roots"
    until(lambda: os.listdir(roots) == [uid], what="what the first instance wrote, removed")
    assert os.listdir(roots / uid) == [instance]


def test_S_STATIC_servers_that_are_killed_while_files_change(server: Server, manifests: Path) -> None:
    chance = random.Random(7)
    for number in range(12):
        killer = threading.Timer(chance.uniform(0.0, 0.1), server.kill)
        killer.start()
        hostname = f"h{number // 2}"
        fresh = manifests / ".web.new"
        fresh.write_text(json.dumps(pod("web", box("a", "pause"), hostname=hostname)))
        fresh.rename(manifests / "web.yaml")
        if number % 5 == 4:
            (manifests / "web.yaml").unlink()
        killer.join()
        if number % 5 == 4:
            until(is_gone(server, "web"))
        else:
            until(partial(_runs_as, server, hostname))
    assert len(os.listdir(server.root / "run" / "pods")) == 1


def _runs_as(server: Server, hostname: str) -> bool:
    return is_running(server, "web")() and server.get("web")["spec"]["hostname"] == hostname
