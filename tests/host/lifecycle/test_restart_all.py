"""Restart of all containers in place, on real processes: order, sandbox, volumes of the pod, counts, and servers that die over it."""

from __future__ import annotations

import time
from typing import Any

import pytest

from tests.host.lifecycle.journal import Journal
from tests.host.lifecycle.watching import watching
from tests.host.server.harness import Server, pod, until

pytestmark = pytest.mark.timeout(90)

RULES = [{"action": "RestartAllContainers", "exitCodes": {"operator": "In", "values": [88]}}]


def manifest(journal: Journal) -> dict[str, Any]:
    """An init, a sidecar, a main that exits 88 once, one that was done before, and one that only goes when it is made to."""
    asking = {"restartPolicy": "Never", "restartPolicyRules": RULES}
    return pod(
        "p",
        journal.life("web", seconds=0.4, count="/dev/shm/n", codes="88,0", container=asking),
        journal.life("stays", linger=-1),
        journal.life("done", seconds=0.1),
        inits=(
            journal.life("init", seconds=0.1),
            journal.life("car", linger=-1, container={"restartPolicy": "Always"}),
        ),
        restartPolicy="Never",
        terminationGracePeriodSeconds=2,
    )


def condition(status: dict[str, Any]) -> dict[str, Any] | None:
    """AllContainersRestarting."""
    return next((one for one in status["conditions"] if one["type"] == "AllContainersRestarting"), None)


def counts(server: Server) -> dict[str, int]:
    """Restart counts of all containers."""
    status = server.get("p")["status"]
    return {
        one["name"]: one["restartCount"] for one in (*status["initContainerStatuses"], *status["containerStatuses"])
    }


def test_S_RESTARTALL_in_place_in_order_and_told(server: Server, journal: Journal) -> None:
    with watching(server, "p") as watch:
        server.up(manifest(journal), wait="none")
        journal.until("stays start", 2)
        journal.until("done exit 0", 2)
        journal.until("web exit 0", 1)
        until(lambda: set(counts(server).values()) == {1})
        told = [one for one in watch.statuses if (found := condition(one)) and found["status"] == "True"]
    shown = condition(told[0])
    assert shown is not None
    assert (shown["reason"], shown["message"]) == (
        "RestartAllContainersStarted",
        "container exited with restart policy rule",
    )
    moments = [journal.times("web exit 88")[0]]
    moments += [journal.times(text)[1] for text in ("init start", "init exit 0", "car start", "stays start")]
    assert moments == sorted(moments)
    assert journal.count("stays exit") == 0, "it gets no stop signal and no time"
    assert journal.count("stays TERM") == 0
    detail = server.call("pod.get", name="p").result
    assert detail["runtime"]["sandbox"]["attempt"] == 0
    status = detail["pod"]["status"]
    for one in (*status["initContainerStatuses"], *status["containerStatuses"]):
        last = one["lastState"]["terminated"]
        assert (last["exitCode"], last["reason"]) == (137, "RestartingAllContainers")
    assert condition(status)["status"] == "False"  # type: ignore[index]  # it is there
    server.down("p")


@pytest.mark.parametrize("pause_s", [0.0, 0.002, 0.005, 0.01, 0.03, 0.1])
def test_S_RESTARTALL_happens_once_though_the_server_is_killed_over_it(
    server: Server, journal: Journal, pause_s: float
) -> None:
    server.up(manifest(journal), wait="none")
    journal.until("web exit 88")
    time.sleep(pause_s)
    assert server.kill()
    server.start()
    journal.until("web exit 0")
    until(lambda: set(counts(server).values()) == {1})
    time.sleep(0.3)
    assert set(counts(server).values()) == {1}
    for name in ("init", "car", "stays", "done", "web"):
        assert journal.count(f"{name} start") == 2, name
    server.down("p", grace_period_s=0)
