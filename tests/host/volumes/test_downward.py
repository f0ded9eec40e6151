"""downwardAPI volumes: what the pod says of itself, and says anew when it changes."""

from __future__ import annotations

import os
from typing import Any

import pytest

from tests.host.server.harness import Server, pod, until
from tests.host.volumes.looking import fails, mount, mounts, nothing_left, pausing, said, volume

pytestmark = pytest.mark.timeout(90)


def manifest(*mounts_: dict[str, Any], **labels: str) -> dict[str, Any]:
    items = [
        {"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}},
        {"path": "in/name", "fieldRef": {"fieldPath": "metadata.name"}, "mode": 0o400},
    ]
    made = pod(
        "web",
        pausing("a", *(mounts_ or (mount("v", "/v"), mount("v", "/one", subPath="labels"), mount("p", "/p")))),
        volumes=[
            volume("v", downwardAPI={"items": items}),
            volume("p", projected={"sources": [{"downwardAPI": {"items": items}}], "defaultMode": 0o444}),
        ],
    )
    made["metadata"]["labels"] = labels
    return made


def test_S_ATOMIC_labels_change_in_running_volumes_but_not_in_sub_paths(server: Server) -> None:
    uid = server.up(manifest(app="web"))["pods"][0]["uid"]
    assert said(server, "cat", "/v/labels") == said(server, "cat", "/p/labels") == 'app="web"'
    assert said(server, "cat", "/v/in/name") == "web"
    assert "0400" in said(server, "stat", "/p/in/name")
    assert mounts(server)["/v"][3] == "tmpfs"
    assert "EROFS" in fails(server, "write", "/v/x", "x")
    server.up(manifest(app="web", tier="front"))
    new = 'app="web"\ntier="front"'
    until(lambda: said(server, "cat", "/v/labels") == new)
    until(lambda: said(server, "cat", "/p/labels") == new)
    assert said(server, "cat", "/one") == 'app="web"'
    server.kill()
    server.up(manifest(app="other"))
    until(lambda: said(server, "cat", "/v/labels") == 'app="other"')
    place = server.root / "run" / "pods" / uid / "volumes" / "v"
    assert len([name for name in os.listdir(place) if name.startswith("..20")]) == 1
    server.call("pod.restart", name="web", wait=True, timeout_s=20)
    assert said(server, "cat", "/one") == 'app="other"'
    server.down("web")
    nothing_left(server, uid)
