"""A pod that restarts and is probed again and again costs a server that runs on no more than at its beginning."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from tests.host.lifecycle.test_hooks import gracious, hooks
from tests.host.server.harness import Server, box, until
from tests.host.server.test_many import kernel_objects, memory

RESTARTS = 200 if os.environ.get("NSRUN_SOAK") else 50
WARM = 15
SCALE = 1000
"""Back-off and probe periods in milliseconds."""


def command(*words: str) -> dict[str, Any]:
    return {"exec": {"command": [f"/bin/{words[0]}", *words[1:]]}}


def tree(directory: Path) -> int:
    """How many files and directories are below one that others work in."""
    return sum(len(names) + len(files) for _path, names, files in os.walk(directory))


def measured(server: Server, uid: str) -> dict[str, int]:
    base = server.host.cgroup_base
    places = {
        "files of the pod": server.root / "run" / "pods" / uid,
        "root file systems": server.root / "lib" / "roots",
        "logs": server.root / "log",
    }
    if base is not None:
        places["cgroups of the pod"] = base / f"pod-{uid}"
    found = {what: tree(place) for what, place in places.items()}
    return kernel_objects(server) | found | {"ledger": (places["files of the pod"] / "ledger.json").stat().st_size}


@pytest.mark.timeout(240)
def test_S_KEEP_restarts_with_hooks_and_probes_leave_nothing_behind(
    server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    probes = {
        "startupProbe": {**command("true"), "periodSeconds": 1},
        "livenessProbe": {**command("true"), "periodSeconds": 10},
        "readinessProbe": {"tcpSocket": {"port": 9}, "periodSeconds": 5},
    }
    work = box("work", "then", "echo", "x", ";", "sleep", "0.05", **hooks(command("true"), command("true")), **probes)
    hanging = {"httpGet": {"port": 8080, "path": "/delay/10"}, "periodSeconds": 20, "timeoutSeconds": 1}
    side = box("side", "httpd", "8080", restartPolicy="Always", startupProbe={"tcpSocket": {"port": 8080}})
    side["livenessProbe"] = {"httpGet": {"port": 8080, "path": "/"}, "periodSeconds": 2}
    side["readinessProbe"] = hanging
    server.up(gracious(work, box("still", "pause"), inits=(side,)), wait="none", time_scale=SCALE)
    uid = server.get("p")["metadata"]["uid"]

    def restarts() -> int:
        count: int = server.container("p", "work")["restartCount"]
        return count

    until(lambda: restarts() >= WARM, 60)
    assert server.process is not None
    before, before_memory = measured(server, uid), memory(server.process.pid)
    until(lambda: restarts() >= RESTARTS, 180)
    done = restarts()
    grown: dict[str, int] = {}

    def settled() -> bool:
        """What is under way comes and goes."""
        nonlocal grown
        grown = {what: now - before[what] for what, now in measured(server, uid).items()}
        return all(grown[what] <= 12 for what in grown if what != "ledger") and grown["ledger"] < 4096

    until(settled, 20, f"after {done} restarts: {grown}")
    growth = memory(server.process.pid) - before_memory
    with capsys.disabled():
        print(f"\n  {done - WARM} restarts: {grown}, server {growth / 1000:.0f} kB")
    assert growth < 3_000_000
