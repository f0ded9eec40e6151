"""Probes, hooks, init containers and sidecars together: the situations of Kubernetes' test/e2e_node/container_lifecycle_test.go."""

from __future__ import annotations

from typing import Any

import pytest

from tests.host.lifecycle.journal import Journal
from tests.host.lifecycle.watching import container, state, watching
from tests.host.server.harness import Server, pod, until

pytestmark = pytest.mark.timeout(120)

SIDECAR = {"restartPolicy": "Always"}


def failing(journal: Journal, name: str, **more: object) -> dict[str, Any]:
    """A probe that says so and fails: the first failure counts."""
    return {**journal.told(name, "false"), "periodSeconds": 1, "failureThreshold": 1, **more}


def hook(journal: Journal, name: str, seconds: str = "0.5") -> dict[str, Any]:
    """A preStop hook that tells when it begins and when it is done."""
    words = ("sleep", seconds, ";", "tell", str(journal.port), f"{name} preStopped")
    return {"lifecycle": {"preStop": journal.told(f"{name} preStop", *words)}}


@pytest.mark.parametrize("probe", ["startupProbe", "livenessProbe"])
def test_S_PROBE_S_HOOK_S_TERM_a_failed_probe_ends_the_container_by_its_hook(
    server: Server, journal: Journal, probe: str
) -> None:
    life = journal.life("web", code=7) | hook(journal, "web") | {probe: failing(journal, "probe")}
    server.up(pod("p", life, restartPolicy="Never", terminationGracePeriodSeconds=20), wait="none")
    server.wait("p", "phase=Failed")
    # The first probe begins with the container: which of the two speaks first is nobody's business.
    for first in ("web start", "probe"):
        journal.before(first, "web preStop", "web preStopped", "web term", "web exit 7")
    assert journal.count("web start") == journal.count("probe") == 1
    assert server.container("p", "web")["restartCount"] == 0


def test_S_PROBE_S_HOOK_readiness_is_looked_at_while_a_failed_probe_stops_it_and_liveness_is_not(
    server: Server, journal: Journal
) -> None:
    life = journal.life("web") | hook(journal, "web", "3.5")
    life |= {
        "livenessProbe": failing(journal, "liveness", initialDelaySeconds=2),
        "readinessProbe": {**journal.told("readiness"), "periodSeconds": 1},
    }
    server.up(pod("p", life, restartPolicy="Never", terminationGracePeriodSeconds=20), wait="none")
    journal.until("web exit 0", timeout_s=30)
    begun, done = journal.time("web preStop"), journal.time("web preStopped")
    assert [at for at in journal.times("readiness") if begun < at < done], "readiness goes on"
    assert journal.count("liveness") == 1


def test_S_SIDECAR_S_PROBE_S_HOOK_whose_startup_fails_keeps_the_next_waiting(server: Server, journal: Journal) -> None:
    side = journal.life("side") | SIDECAR | hook(journal, "side", "0.2") | {"startupProbe": failing(journal, "probe")}
    inits = (side, journal.life("init"))
    with watching(server, "p") as watch:
        server.up(pod("p", journal.life("main"), inits=inits, terminationGracePeriodSeconds=20), wait="none")
        journal.until("side exit 0", 2, timeout_s=30)
        watch.until(lambda status: state(status, "side") == "CrashLoopBackOff")
    assert journal.of("side")[:6] == ["start", "preStop", "preStopped", "term", "exit 0", "start"]
    assert journal.count("init start") == journal.count("main start") == 0
    assert watch.course(lambda status: status["phase"]) == ["Pending"]


def test_S_SIDECAR_S_PROBE_whose_liveness_fails_holds_nobody_up(server: Server, journal: Journal) -> None:
    side = journal.life("side") | SIDECAR | {"livenessProbe": failing(journal, "probe", initialDelaySeconds=1)}
    inits = (side, journal.life("init", seconds=0.1))
    server.up(pod("p", journal.life("main"), inits=inits, restartPolicy="Never"), wait="none")
    journal.until("side start", 2, timeout_s=30)
    assert journal.of("side")[:4] == ["start", "term", "exit 0", "start"]
    assert journal.of("init") == ["start", "exit 0"]
    assert journal.of("main") == ["start"]
    until(lambda: container(server.get("p")["status"], "side")["restartCount"] >= 1)


def test_S_SIDECAR_S_PROBE_the_next_one_starts_when_the_startup_probe_has_succeeded(
    server: Server, journal: Journal
) -> None:
    ready = {"exec": {"command": ["/bin/stat", "/tmp/started"]}, "periodSeconds": 1, "failureThreshold": 30}
    slow = journal.life("side") | SIDECAR | {"startupProbe": ready}
    server.up(pod("p", journal.life("main"), inits=(slow, journal.life("init", seconds=0.1))), wait="none")
    journal.until("side start")
    until(lambda: container(server.get("p")["status"], "side")["started"] is False)
    assert journal.texts == ["side start"]
    assert server.run("p", "/bin/write", "/tmp/started", "", container="side")[0] == 0
    journal.until("main start", timeout_s=10)
    journal.before("side start", "init start", "init exit 0", "main start")


def test_S_SIDECAR_S_HOOK_S_TERM_hooks_begin_together_and_sidecars_end_in_turn(
    server: Server, journal: Journal
) -> None:
    inits = tuple(journal.life(f"side{one}") | SIDECAR | hook(journal, f"side{one}", "0.3") for one in (1, 2))
    main = journal.life("main", linger=0.2) | hook(journal, "main", "1")
    server.up(pod("p", main, inits=inits))
    journal.until("main start")
    server.down("p", grace_period_s=30)
    begun = [journal.time(f"{name} preStop") for name in ("main", "side1", "side2")]
    assert max(begun) - min(begun) < 0.75, "all hooks begin when the pod is taken down"
    journal.before(
        *("main preStopped", "main term", "main exit 0"),
        *("side2 term", "side2 exit 0", "side1 term", "side1 exit 0"),
    )
    assert max(journal.time(f"side{one} preStopped") for one in (1, 2)) < journal.time("main term")
