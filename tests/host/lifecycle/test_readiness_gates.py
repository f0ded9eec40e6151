"""Readiness gates, and those who set their conditions (S-COND)."""

from __future__ import annotations

import time
from typing import Any

import pytest

from nsrun.errors import NotFoundError, UsageError
from tests.host.server.harness import Server, box, pod, until

pytestmark = [pytest.mark.requires("overlay", "bridge", "nftables"), pytest.mark.timeout(90)]

GATE = "example.com/warm"


def gated(*gates: str) -> dict[str, Any]:
    return pod("web", box("a", "pause"), readinessGates=[{"conditionType": gate} for gate in gates])


def condition(server: Server, kind: str) -> dict[str, Any]:
    return next((one for one in server.get("web")["status"]["conditions"] if one["type"] == kind), {})


def put(server: Server, reason: str | None = None, message: str | None = None, **wanted: str | None) -> None:
    conditions = {kind.replace("__", "/").replace("_", "."): status for kind, status in wanted.items()}
    server.call("pod.condition", name="web", conditions=conditions, reason=reason, message=message)


def test_S_COND_a_pod_is_ready_when_its_gates_are_true(server: Server) -> None:
    server.up(gated(GATE))
    assert condition(server, "ContainersReady")["status"] == "True"
    assert condition(server, "Ready")["reason"] == "ReadinessGatesNotReady"
    put(server, "CacheFilled", "all of it", example_com__warm="True")
    # Without waiting: the answer comes when it is published.
    assert condition(server, "Ready")["status"] == "True"
    assert (condition(server, GATE)["reason"], condition(server, GATE)["message"]) == ("CacheFilled", "all of it")
    server.wait("web", "condition=Ready")

    server.kill()
    assert (condition(server, GATE)["status"], condition(server, "Ready")["status"]) == ("True", "True")
    put(server, example_com__warm="False")
    assert condition(server, "Ready")["status"] == "False"
    assert "is not" in condition(server, "Ready")["message"]
    put(server, example_com__warm=None)
    assert condition(server, GATE) == {}
    assert "does not exist" in condition(server, "Ready")["message"]


def test_S_COND_it_is_kept_over_changes_restarts_and_killed_servers(server: Server) -> None:
    server.up(gated(GATE))
    for number in range(5):
        status = ("True", "False")[number % 2]
        put(server, example_com__warm=status)
        server.kill()
        assert condition(server, GATE)["status"] == status
    put(server, example_com__warm="True")
    since = condition(server, GATE)["lastTransitionTime"]
    server.call("pod.restart", name="web", grace_period_s=0, wait=True)
    until(lambda: condition(server, "Ready")["status"] == "True")
    time.sleep(1.1)
    put(server, "Again", example_com__warm="True")
    assert condition(server, GATE)["lastTransitionTime"] == since
    assert condition(server, GATE)["reason"] == "Again"


@pytest.mark.parametrize(
    "conditions",
    [{"Ready": "True"}, {"a b": "True"}, {GATE: "Yes"}, {GATE: 1}, {}, None, [GATE], {"PodScheduled": None}],
)
def test_S_COND_what_cannot_be_set_is_refused(server: Server, conditions: Any) -> None:
    server.up(gated(GATE))
    before = server.get("web")
    with pytest.raises(UsageError):
        server.call("pod.condition", name="web", conditions=conditions)
    assert server.get("web") == before
    with pytest.raises(NotFoundError):
        server.call("pod.condition", name="other", conditions={GATE: "True"})
