"""Pods that take more of the disk than they may are evicted, whoever is killed meanwhile (S-EVICT)."""

from __future__ import annotations

import time
from typing import Any

import pytest

from tests.host.server.harness import Server, pod, until
from tests.host.volumes.looking import events, mount, nothing_left, pausing, said, volume

pytestmark = [pytest.mark.requires("overlay"), pytest.mark.timeout(120)]

MUCH = "x" * 100_000


def limited(name: str, **fields: Any) -> dict[str, Any]:
    return pausing(name, resources={"limits": {"ephemeral-storage": "64Ki"}}, **fields)


def evicted(server: Server, name: str) -> str:
    """Waits until the pod is Failed; why."""
    server.wait(name, "phase=Failed")
    status = server.get(name)["status"]
    assert status["reason"] == "Evicted"
    assert events(server, "Evicted", name) == [status["message"]]
    assert all("terminated" in one["state"] for one in status["containerStatuses"])
    return str(status["message"])


def test_S_EVICT_by_servers_that_are_killed_before_their_first_look(server: Server) -> None:
    """The kubelet's ten seconds are from one look to the next: what an earlier server left is measured at once."""
    manifest = pod("short", pausing("a", mount("v", "/v")), limited("b"), volumes=[volume("v", emptyDir={})])
    server.up(manifest)
    said(server, "write", "/file", MUCH, name="short", container="b")

    def failed() -> bool:
        server.kill()
        server.start()
        time.sleep(1.5)
        return bool(server.get("short")["status"]["phase"] == "Failed")

    assert any(failed() for _ in range(5))
    assert evicted(server, "short") == "Pod ephemeral local storage usage exceeds the total limit of containers 64Ki. "
    server.down("short")


def test_S_EVICT_what_a_pod_may_take_of_the_disk(server: Server) -> None:
    """An emptyDir, a writable layer, a log, and all of a pod together; one that stays below goes on."""
    limit = volume("v", emptyDir={"sizeLimit": "64Ki"})
    uids = {}
    for manifest in (
        pod("volume", pausing("a", mount("v", "/v")), volumes=[limit]),
        pod("layer", limited("a"), limited("b"), restartPolicy="OnFailure"),
        pod("log", limited("a"), limited("b"), pausing("c", resources={"limits": {"ephemeral-storage": "1Gi"}})),
        pod("whole", limited("a"), pausing("b", mount("v", "/v")), volumes=[volume("v")]),
        pod("stays", limited("a"), pausing("b", mount("v", "/v")), volumes=[limit]),
    ):
        name = manifest["metadata"]["name"]
        uids[name] = server.up(manifest, time_scale=100, wait="none")["pods"][0]["uid"]
    for name in uids:
        server.wait(name, "condition=Ready")
    said(server, "write", "/v/file", MUCH, name="volume")
    # Of the machine's root alone: what b takes counts for the pod, and b has no limit of its own.
    said(server, "write", "/v/file", MUCH, name="whole", container="b")
    said(server, "write", "/v/file", "x" * 10_000, name="stays", container="b")
    said(server, "write", "/file", MUCH, name="layer", container="b")
    said(server, "append", "/proc/1/fd/1", MUCH, name="log", container="b")
    server.kill()
    assert evicted(server, "volume") == 'Usage of EmptyDir volume "v" exceeds the limit "64Ki". '
    assert evicted(server, "whole") == "Pod ephemeral local storage usage exceeds the total limit of containers 64Ki. "
    assert evicted(server, "layer") == 'Container b exceeded its local ephemeral storage limit "64Ki". '
    assert evicted(server, "log") == 'Container b exceeded its local ephemeral storage limit "64Ki". '
    # Its disk is free, though the pod is still there to be looked at.
    until(lambda: not (server.root / "lib" / "volumes" / uids["volume"]).exists())
    server.kill()
    assert server.get("volume")["status"]["phase"] == "Failed"
    assert server.get("stays")["status"]["phase"] == "Running"
    assert sum(one["restartCount"] for one in server.get("volume")["status"]["containerStatuses"]) == 0
    server.down(*uids)
    for uid in uids.values():
        nothing_left(server, uid)
