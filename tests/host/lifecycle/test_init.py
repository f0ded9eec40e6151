"""Init containers and sidecars on real processes: who starts and ends when, by what they tell themselves.

The situations are those of Kubernetes' test/e2e_node/container_lifecycle_test.go.
"""

from __future__ import annotations

from typing import Any

import pytest

from tests.host.lifecycle.journal import Journal
from tests.host.server.harness import Server, box, pod, until

pytestmark = pytest.mark.timeout(120)


def sidecar(container: dict[str, Any]) -> dict[str, Any]:
    """The same as a native sidecar."""
    return container | {"restartPolicy": "Always"}


def ended(server: Server, name: str) -> bool:
    """Whether the pod has come to its end."""
    return server.get(name)["status"]["phase"] in ("Succeeded", "Failed")


def test_S_INIT_strictly_one_after_another_before_the_mains(server: Server, journal: Journal) -> None:
    inits = tuple(journal.life(f"init{number}", seconds=0.1) for number in (1, 2, 3))
    server.up(pod("p", journal.life("main", seconds=0.1), inits=inits, restartPolicy="Never"), wait="none")
    until(lambda: ended(server, "p"))
    said = [f"{name} {what}" for name in ("init1", "init2", "init3", "main") for what in ("start", "exit 0")]
    assert journal.texts == said
    assert server.get("p")["status"]["phase"] == "Succeeded"


def test_S_INIT_that_fails_for_good_keeps_the_mains_from_starting(server: Server, journal: Journal) -> None:
    inits = (journal.life("init", seconds=0.1, code=1), journal.life("never"))
    server.up(pod("p", journal.life("main"), inits=inits, restartPolicy="Never"), wait="none")
    until(lambda: ended(server, "p"))
    assert journal.texts == ["init start", "init exit 1"]
    status = server.get("p")["status"]
    assert status["phase"] == "Failed"
    assert server.container("p", "init")["state"]["terminated"]["exitCode"] == 1
    assert server.container("p", "main")["state"]["waiting"]["reason"] == "PodInitializing"


@pytest.mark.parametrize("policy", ["Always", "OnFailure"])
def test_S_INIT_that_fails_is_tried_again_alone(server: Server, journal: Journal, policy: str) -> None:
    inits = (
        journal.life("init1", seconds=0.05),
        journal.life("init2", seconds=0.05, count="/dev/shm/runs", codes="1,0"),
    )
    server.up(pod("p", journal.life("main"), inits=inits, restartPolicy=policy))
    assert journal.of("init1") == ["start", "exit 0"]
    assert journal.of("init2") == ["start", "exit 1", "start", "exit 0"]
    journal.before("init2 exit 0", "main start")
    assert server.container("p", "init2")["restartCount"] == 1
    assert server.container("p", "init2")["lastState"]["terminated"]["exitCode"] == 1


def test_S_INIT_does_not_run_again_when_a_main_is_restarted(server: Server, journal: Journal) -> None:
    inits = tuple(journal.life(f"init{number}", seconds=0.05) for number in (1, 2, 3))
    server.up(pod("p", journal.life("main", seconds=0.05, code=1), inits=inits), wait="none")
    journal.until("main exit 1", 2)
    for name in ("init1", "init2", "init3"):
        assert journal.of(name) == ["start", "exit 0"]
    assert server.container("p", "main")["restartCount"] == 1


def test_S_INIT_S_REASONS_whose_image_is_missing_starts_nothing(server: Server, journal: Journal) -> None:
    inits = (journal.life("init", container={"image": "tests.local/missing"}),)
    server.up(pod("p", journal.life("main"), inits=inits, restartPolicy="Never"), wait="none")
    until(lambda: server.container("p", "init")["state"]["waiting"]["reason"] == "ErrImageNeverPull")
    assert server.get("p")["status"]["phase"] == "Pending"
    assert journal.texts == []


def test_S_SIDECAR_lets_the_next_one_start_once_it_runs(server: Server, journal: Journal) -> None:
    inits = (sidecar(journal.life("side1")), journal.life("init", seconds=0.2), sidecar(journal.life("side2")))
    server.up(pod("p", journal.life("main"), inits=inits))
    journal.until("main start")
    journal.before("side1 start", "init start", "init exit 0", "side2 start", "main start")
    assert journal.of("side1") == ["start"]
    conditions = {one["type"]: one["status"] for one in server.get("p")["status"]["conditions"]}
    assert conditions["Initialized"] == conditions["Ready"] == "True"


@pytest.mark.parametrize("policy", ["Never", "OnFailure"])
def test_S_SIDECAR_S_TERM_S_PHASE_ends_in_reverse_order_after_the_mains(
    server: Server, journal: Journal, policy: str
) -> None:
    inits = tuple(sidecar(journal.life(f"side{number}", linger=0.1, code=number)) for number in (1, 2, 3))
    manifest = pod("p", journal.life("main1", seconds=0.3), journal.life("main2", seconds=0.6), inits=inits)
    manifest["spec"] |= {"restartPolicy": policy, "terminationGracePeriodSeconds": 10}
    server.up(manifest, wait="none")
    until(lambda: ended(server, "p"))
    ending = ["main1 exit 0", "main2 exit 0"]
    ending += [f"side{number} {what}" for number in (3, 2, 1) for what in ("term", f"exit {number}")]
    assert [text for text in journal.texts if not text.endswith("start")] == ending
    assert server.get("p")["status"]["phase"] == "Succeeded", "exit codes of sidecars do not count"


def test_S_SIDECAR_S_TERM_a_deleted_pod_ends_its_mains_first(server: Server, journal: Journal) -> None:
    inits = (sidecar(journal.life("side1")), sidecar(journal.life("side2")))
    server.up(pod("p", journal.life("main1", linger=0.3), journal.life("main2", linger=0.1), inits=inits))
    journal.until("main2 start")
    server.down("p", grace_period_s=20)
    journal.before(
        "main1 term", "main2 exit 0", "main1 exit 0", "side2 term", "side2 exit 0", "side1 term", "side1 exit 0"
    )
    assert abs(journal.time("main1 term") - journal.time("main2 term")) < 0.25, "mains are stopped together"


def test_S_SIDECAR_S_TERM_the_wait_for_its_turn_is_part_of_the_grace_period(server: Server, journal: Journal) -> None:
    """A main that ignores SIGTERM uses the whole time: the sidecars get their signal at its end, and two seconds."""
    inits = (sidecar(journal.life("side", linger=-1)),)
    server.up(pod("p", journal.life("main", linger=-1), inits=inits))
    journal.until("main start")
    server.down("p", grace_period_s=3)
    assert 2.9 < journal.time("side term") - journal.time("main term") < 4.5
    assert not [text for text in journal.texts if "exit" in text], "both were killed"


def test_S_SIDECAR_that_dies_is_restarted_though_the_pod_never_restarts(server: Server, journal: Journal) -> None:
    inits = (sidecar(journal.life("side", seconds=0.2, code=0)),)
    server.up(pod("p", journal.life("main"), inits=inits, restartPolicy="Never"))
    journal.until("side start", 2)
    assert journal.of("main") == ["start"]
    until(lambda: server.container("p", "side")["restartCount"] == 1)


def test_S_SIDECAR_S_INIT_that_dies_while_others_initialize_comes_back_and_holds_nobody_up(
    server: Server, journal: Journal
) -> None:
    inits = (
        sidecar(journal.life("side", seconds=0.1, code=1)),
        journal.life("init1", seconds=0.5),
        journal.life("init2", seconds=0.1),
    )
    server.up(pod("p", journal.life("main"), inits=inits), wait="none")
    journal.until("main start")
    assert journal.of("side")[:3] == ["start", "exit 1", "start"]
    assert journal.of("init1") == journal.of("init2") == ["start", "exit 0"]
    journal.before("init1 start", "init1 exit 0", "init2 start", "init2 exit 0", "main start")


def test_S_SIDECAR_is_not_restarted_when_the_mains_are_done(server: Server, journal: Journal) -> None:
    """It ends by itself while it is stopped; and one that waits for its back-off does not come back."""
    inits = (sidecar(journal.life("loop", seconds=0.05, code=1)), sidecar(journal.life("side")))
    server.up(pod("p", journal.life("main", seconds=1.0), inits=inits, restartPolicy="Never"), wait="none")
    until(lambda: ended(server, "p"))
    assert journal.of("loop") == ["start", "exit 1"] * 2, "at once, then 10 s later"
    assert journal.of("side") == ["start", "term", "exit 0"]
    assert server.get("p")["status"]["phase"] == "Succeeded"


def test_S_INIT_S_SIDECAR_a_failed_init_ends_the_sidecars_that_run(server: Server, journal: Journal) -> None:
    inits = (sidecar(journal.life("side1")), sidecar(journal.life("side2")), journal.life("init", seconds=0.1, code=3))
    server.up(pod("p", journal.life("main"), inits=inits, restartPolicy="Never"), wait="none")
    until(lambda: ended(server, "p"))
    assert journal.texts[2:] == [
        "init start",
        "init exit 3",
        "side2 term",
        "side2 exit 0",
        "side1 term",
        "side1 exit 0",
    ]
    assert server.get("p")["status"]["phase"] == "Failed"


def test_S_START_a_main_that_cannot_start_stops_no_other(server: Server, journal: Journal) -> None:
    bad = box("bad", "no-such-command")
    server.up(pod("p", bad, journal.life("good")), wait="none")
    journal.until("good start")
    until(lambda: server.container("p", "bad")["restartCount"] >= 1)
    last = server.container("p", "bad")["lastState"]["terminated"]
    assert (last["exitCode"], last["reason"]) == (128, "StartError")
    assert journal.of("good") == ["start"]
