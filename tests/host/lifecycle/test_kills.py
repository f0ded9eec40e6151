"""The server is SIGKILLed in the middle of a pod's life: nothing is repeated that must not be, nothing is skipped.

The containers' own journal is the judge; what the next server believes is compared with it.
"""

from __future__ import annotations

import os
import signal
from itertools import pairwise
from typing import Any

import pytest

from tests.host.lifecycle.assassin import Assassin
from tests.host.lifecycle.journal import Journal
from tests.host.lifecycle.watching import container, state
from tests.host.server.harness import Server, Workshop, pod, until

pytestmark = pytest.mark.timeout(180)


def finished(server: Server, name: str) -> bool:
    """Whether the pod has come to its end."""
    return server.get(name)["status"]["phase"] in ("Succeeded", "Failed")


def test_S_INIT_S_SIDECAR_each_step_once_whoever_dies(server: Server, journal: Journal, assassin: Assassin) -> None:
    side = journal.life("side") | {"restartPolicy": "Always"}
    init1, init2, init3 = (journal.life(f"init{number}", seconds=0.1) for number in (1, 2, 3))
    inits = (init1, side, init2, init3)
    manifest = pod("p", journal.life("main", seconds=0.2), inits=inits, restartPolicy="Never")
    manifest["spec"]["terminationGracePeriodSeconds"] = 20
    with assassin.at_work(
        0.6, "init1 start", "init1 exit 0", "side start", "init2 exit 0", "main start", "main exit 0"
    ):
        server.up(manifest, wait="none")
        until(lambda: finished(server, "p"), 40)
    expected = ["init1 start", "init1 exit 0", "side start"]
    expected += [f"{name} {what}" for name in ("init2", "init3", "main") for what in ("start", "exit 0")]
    assert journal.texts == [*expected, "side term", "side exit 0"]
    status = server.get("p")["status"]
    assert status["phase"] == "Succeeded"
    assert {one["restartCount"] for one in (*status["initContainerStatuses"], *status["containerStatuses"])} == {0}


def test_S_INIT_a_failing_one_is_tried_again_as_often_as_it_fails(
    server: Server, journal: Journal, assassin: Assassin
) -> None:
    inits = (journal.life("init1", seconds=0.05), journal.life("init2", seconds=0.1, count="/dev/shm/n", codes="1,0"))
    with assassin.at_work(0.5, "init2 start", "init2 exit 1", "init2 exit 0"):
        server.up(pod("p", journal.life("main"), inits=inits), wait="none")
        journal.until("main start", timeout_s=40)
    assert journal.of("init1") == ["start", "exit 0"]
    assert journal.of("init2") == ["start", "exit 1", "start", "exit 0"]
    shown = server.container("p", "init2")
    assert (shown["restartCount"], shown["lastState"]["terminated"]["exitCode"]) == (1, 1)


def test_S_BACKOFF_S_RESTART_as_many_restarts_as_without_kills(
    server: Server, journal: Journal, assassin: Assassin
) -> None:
    """At once, then after 10 s: no kill makes it sooner, and none makes it much later."""
    with assassin.at_work(10.0, "web exit 1", "web start", most=6):
        server.up(pod("p", journal.life("web", seconds=0.1, code=1), restartPolicy="OnFailure"), wait="none")
        journal.until("web exit 1", 3, timeout_s=40)
    until(lambda: server.container("p", "web")["restartCount"] == 2)
    starts, ends = journal.times("web start"), journal.times("web exit 1")
    assert [text.split()[1] for text in journal.texts] == ["start", "exit"] * 3
    assert starts[1] - ends[0] < 2
    assert 10 <= starts[2] - ends[1] < 12


def test_S_RESTART_S_PHASE_an_end_that_nobody_saw_counts(server: Server, journal: Journal, assassin: Assassin) -> None:
    lives = [journal.life(f"c{code}", seconds=0.1 + code / 20, code=code) for code in range(5)]
    with assassin.at_work(0.6, *(f"c{code} exit {code}" for code in range(5))):
        server.up(pod("p", *lives, restartPolicy="Never"), wait="none")
        until(lambda: finished(server, "p"), 40)
    status = server.get("p")["status"]
    assert status["phase"] == "Failed"
    for code in range(5):
        assert journal.of(f"c{code}") == ["start", f"exit {code}"]
        shown = container(status, f"c{code}")
        assert (shown["state"]["terminated"]["exitCode"], shown["restartCount"]) == (code, 0)


def test_S_TERM_S_SIDECAR_everybody_is_told_once_and_in_turn(
    server: Server, journal: Journal, assassin: Assassin
) -> None:
    inits = tuple(journal.life(f"side{one}", linger=0.1) | {"restartPolicy": "Always"} for one in (1, 2))
    server.up(pod("p", journal.life("a", linger=0.3), journal.life("b", linger=0.1), inits=inits))
    journal.until("b start")
    with assassin.at_work(0.6, "a term", "b exit 0", "a exit 0", "side2 term", "side2 exit 0", "side1 term"):
        server.down("p", grace_period_s=30, missing_ok=True)
    until(lambda: "p" not in server.names())
    for name in ("a", "b", "side1", "side2"):
        assert journal.of(name) == ["start", "term", "exit 0"]
    journal.before("a exit 0", "side2 term", "side2 exit 0", "side1 term", "side1 exit 0")


def test_S_TERM_who_does_not_listen_is_killed_at_the_end_of_its_time(
    server: Server, journal: Journal, assassin: Assassin
) -> None:
    server.up(pod("p", journal.life("deaf", linger=-1), journal.life("witness", linger=2.9)))
    journal.until("witness start")
    runtime = server.runtime("p")
    pid = next(one["pid"] for one in runtime["instances"] if one["name"] == "deaf")
    with assassin.at_work(4.0, "deaf term"):
        server.down("p", grace_period_s=3, missing_ok=True)
    until(lambda: "p" not in server.names())
    assert not os.path.exists(f"/proc/{pid}")
    assert journal.of("deaf") == ["start", "term"]
    assert journal.of("witness") == ["start", "term", "exit 0"], "nobody was killed before the time was over"


def test_S_SANDBOX_S_INIT_a_lost_sandbox_is_replaced_once(server: Server, journal: Journal, assassin: Assassin) -> None:
    server.up(pod("p", journal.life("main"), inits=(journal.life("init", seconds=0.1),)))
    journal.until("main start")
    shim = server.runtime("p")["shim_pid"]
    with assassin.at_work(1.5, "init start", "init exit 0", "main start"):
        os.kill(shim, signal.SIGKILL)
        journal.until("main start", 2, timeout_s=40)
    server.wait("p", "condition=Ready")
    assert journal.texts == ["init start", "init exit 0", "main start"] * 2
    assert server.runtime("p")["sandbox"]["attempt"] == 1
    assert [server.container("p", name)["restartCount"] for name in ("init", "main")] == [1, 1]


def test_S_SIDECAR_S_BACKOFF_one_that_dies_comes_back_once(
    server: Server, journal: Journal, assassin: Assassin
) -> None:
    side = journal.life("side", count="/dev/shm/n", codes="1,0", seconds=0.2) | {"restartPolicy": "Always"}
    with assassin.at_work(0.6, "side start", "side exit 1", "main start"):
        server.up(pod("p", journal.life("main"), inits=(side,), restartPolicy="Never"), wait="none")
        journal.until("side exit 0", timeout_s=40)
    assert journal.of("side") == ["start", "exit 1", "start", "exit 0"]
    assert journal.of("main") == ["start"]
    until(lambda: state(server.get("p")["status"], "side") == "CrashLoopBackOff")
    times = [line.at for line in journal.lines if line.who == "side"]
    assert all(earlier <= later for earlier, later in pairwise(times))


def test_S_HOOK_S_START_S_TERM_each_hook_once_and_in_turn(server: Server, journal: Journal, assassin: Assassin) -> None:
    def hooked(name: str) -> dict[str, Any]:
        begun = journal.told(f"{name} postStart", "sleep", "0.3", ";", "tell", str(journal.port), f"{name} postStarted")
        ending = journal.told(f"{name} preStop", "sleep", "0.3", ";", "tell", str(journal.port), f"{name} preStopped")
        return journal.life(name) | {"lifecycle": {"postStart": begun, "preStop": ending}}

    with assassin.at_work(1.0, "a postStart", "a postStarted", "b start", "b postStart"):
        server.up(pod("p", hooked("a"), hooked("b")), wait="none")
        journal.until("b postStarted", timeout_s=40)
    server.wait("p", "condition=Ready")
    with assassin.at_work(1.0, "a preStop", "b preStopped", "a term"):
        server.down("p", grace_period_s=30, missing_ok=True)
    until(lambda: "p" not in server.names())
    for name in ("a", "b"):
        said = ["start", "postStart", "postStarted", "preStop", "preStopped", "term", "exit 0"]
        assert journal.of(name) in (said, ["postStart", "start", *said[2:]]), "a hook may be faster than its container"
    journal.before("a postStarted", "b start")


def test_S_PROBE_S_RESTART_never_killed_by_fewer_failures_than_it_takes(
    server: Server, journal: Journal, assassin: Assassin
) -> None:
    """A new server begins to count anew; then the container is killed all the same, once, and comes back."""
    failing = journal.told("probe", "false")
    liveness = {"livenessProbe": {**failing, "periodSeconds": 1, "failureThreshold": 3}}
    with assassin.at_work(4.0, "probe", most=3):
        server.up(pod("p", journal.life("web") | liveness), wait="none")
        journal.until("web start", 2, timeout_s=60)
    heard = journal.texts
    before = heard[: heard.index("web term")]
    assert before.count("probe") >= 3
    assert before.count("web start") == 1
    assert heard.count("web term") == 1 or heard.count("probe") >= 6
    assert journal.of("web")[:4] == ["start", "term", "exit 0", "start"]


def test_S_ADMIT_a_deadline_passes_once_and_in_time(server: Server, journal: Journal, assassin: Assassin) -> None:
    with assassin.at_work(3.5, "web start", "web term"):
        server.up(pod("p", journal.life("web", linger=0.2), activeDeadlineSeconds=3), wait="none")
        until(lambda: finished(server, "p"), 40)
    status = server.get("p")["status"]
    assert (status["phase"], status["reason"]) == ("Failed", "DeadlineExceeded")
    assert journal.of("web") == ["start", "term", "exit 0"]
    assert 2 < journal.time("web term") - journal.time("web start") < 5


def test_S_UPDATE_another_image_is_started_once(
    workshop: Workshop, server: Server, journal: Journal, assassin: Assassin
) -> None:
    directory = str(workshop.rootfs)
    server.call("image.import", name="tests.local/other", path=directory, config={"env": ["PATH=/bin"]})
    stays, changes = journal.life("stays"), journal.life("changes", linger=0.2)
    server.up(pod("p", stays, changes))
    journal.until("changes start")
    with assassin.at_work(0.8, "changes term", "changes exit 0", "changes start"):
        server.up(pod("p", stays, changes | {"image": "tests.local/other"}), wait="none")
        journal.until("changes start", 2, timeout_s=40)
    until(lambda: server.container("p", "changes")["restartCount"] == 1)
    assert journal.of("changes") == ["start", "term", "exit 0", "start"]
    assert journal.of("stays") == ["start"]
    assert server.container("p", "changes")["image"] == "tests.local/other"
