"""Restart policies of single containers, and their rules on exit codes (S-RESTART)."""

from __future__ import annotations

from typing import Any

import pytest

from nsrun.errors import PodFailedError
from tests.host.lifecycle.journal import Journal
from tests.host.server.harness import Server, pod, until

pytestmark = [pytest.mark.requires("overlay", "bridge", "nftables"), pytest.mark.timeout(90)]


def rule(operator: str, *codes: int) -> dict[str, Any]:
    return {"action": "Restart", "exitCodes": {"operator": operator, "values": list(codes)}}


def ending(journal: Journal, codes: str, policy: str, *rules: dict[str, Any]) -> dict[str, Any]:
    """A container whose instances end with one of these codes after the other."""
    own = {"restartPolicy": policy} | ({"restartPolicyRules": list(rules)} if rules else {})
    return journal.life("a", seconds=0, count="/dev/shm/a", codes=codes, container=own)


@pytest.mark.parametrize(
    ("pods", "policy", "rules", "codes", "starts", "phase"),
    [
        ("Never", "OnFailure", [], "1,0", 2, "Succeeded"),
        ("Never", "Never", [rule("In", 42)], "42,0", 2, "Succeeded"),
        ("Never", "Never", [rule("In", 42)], "42,7", 2, "Failed"),
        ("Never", "Never", [rule("NotIn", 0, 7)], "9,7", 2, "Failed"),
        ("Never", "OnFailure", [rule("In", 0)], "0,0,9,0", 3, None),
        ("Always", "Never", [], "3", 1, "Failed"),
    ],
)
def test_S_RESTART_a_containers_own_policy_and_rules(
    server: Server,
    journal: Journal,
    pods: str,
    policy: str,
    rules: list[dict[str, Any]],
    codes: str,
    starts: int,
    phase: str | None,
) -> None:
    manifest = pod("web", ending(journal, codes, policy, *rules), restartPolicy=pods)
    server.up(manifest, wait="none", time_scale=100)
    if phase is None:
        journal.until("a start", starts)
        return
    server.wait("web", f"phase={phase}")
    until(lambda: server.runtime("web")["shim_pid"] is None)
    assert journal.count("a start") == starts
    assert server.container("web", "a")["restartCount"] == starts - 1


def test_S_RESTART_S_INIT_an_init_container_that_may_not_be_tried_again_fails_the_pod(
    server: Server, journal: Journal
) -> None:
    init = journal.life("init", seconds=0, code=1, container={"restartPolicy": "Never"})
    with pytest.raises(PodFailedError):
        server.up(pod("web", journal.life("a"), inits=(init,)))
    server.wait("web", "phase=Failed")
    assert journal.of("a") == []
    assert journal.count("init start") == 1
