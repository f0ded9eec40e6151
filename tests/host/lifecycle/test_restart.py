"""Restarts and back-off on real processes, their times taken from what the containers tell themselves."""

from __future__ import annotations

import time
from functools import partial
from itertools import pairwise

import pytest

from tests.host.lifecycle.journal import Journal
from tests.host.lifecycle.watching import Status, container, state, watching
from tests.host.server.harness import Server, pod, until

pytestmark = pytest.mark.timeout(120)

SOON_S = 0.75
"""A start that is due comes within this time, also on a busy machine."""


def delays(journal: Journal, name: str, code: int) -> list[float]:
    """The times between each end of a container and its next start, in seconds."""
    starts, ends = journal.times(f"{name} start"), journal.times(f"{name} exit {code}")
    return [start - end for end, start in zip(ends, starts[1:], strict=False)]


def loops(status: Status, restarts: int) -> bool:
    """Whether `web` waits for its back-off after so many restarts."""
    return state(status, "web") == "CrashLoopBackOff" and bool(container(status, "web")["restartCount"] == restarts)


def test_S_RESTART_by_the_pods_policy(server: Server, journal: Journal) -> None:
    """Nine containers in three pods: each policy, after exit 0, exit 1, and one that stays and keeps its pod."""
    manifests = []
    for policy in ("Always", "OnFailure", "Never"):
        short = policy.lower()
        lives = [journal.life(f"{short}-{code}", seconds=0.1, code=code) for code in (0, 1)]
        manifests.append(pod(short, *lives, journal.life(f"{short}-stays"), restartPolicy=policy))
    server.up(*manifests, wait="none")
    for name in ("always-0", "always-1", "onfailure-1"):
        journal.until(f"{name} start", 2)
    time.sleep(1.0)
    assert {name: journal.count(f"{name} start") for name in ("always-0", "always-1", "onfailure-1")} == {
        "always-0": 2,
        "always-1": 2,
        "onfailure-1": 2,
    }
    for name in ("onfailure-0", "never-0", "never-1"):
        assert journal.count(f"{name} start") == 1
        assert server.container(name.split("-")[0], name)["restartCount"] == 0
    for policy in ("always", "onfailure", "never"):
        assert journal.of(f"{policy}-stays") == ["start"]
        assert server.get(policy)["status"]["phase"] == "Running"


def test_S_BACKOFF_S_REASONS_S_PHASE_on_the_real_clock(server: Server, journal: Journal) -> None:
    """At once, then 10 s after the second end, then 20 s after the third; and what is seen meanwhile."""
    with watching(server, "p") as watch:
        server.up(pod("p", journal.life("web", seconds=0.2, code=3)), wait="none")
        journal.until("web exit 3", 2)
        uid = server.get("p")["metadata"]["uid"]
        words = f"restarting failed container=web pod=p_default({uid})"
        for delay in (10, 20):
            looped = watch.until(partial(loops, restarts=delay // 10))
            assert looped["phase"] == "Running"
            shown = container(looped, "web")
            assert shown["state"]["waiting"]["message"] == f"back-off {delay}s {words}"
            assert shown["lastState"]["terminated"]["exitCode"] == 3
            assert (shown["ready"], shown["started"]) == (False, False)
            journal.until("web exit 3", 2 + delay // 10, timeout_s=delay + 5)
        events = server.call("pod.events", name="p").result["events"]
    found = delays(journal, "web", 3)
    for measured, expected in zip(found, (0, 10, 20), strict=True):
        assert expected <= measured < expected + SOON_S, found
    backing = [event for event in events if event["reason"] == "BackOff"]
    assert {event["type"] for event in backing} == {"Warning"}
    assert f"Back-off restarting failed container web in pod p_default({uid})" in {one["message"] for one in backing}
    phases = watch.course(lambda status: status["phase"])
    assert phases == ["Pending", "Running"]


def test_S_BACKOFF_after_exit_0_too(server: Server, journal: Journal) -> None:
    server.up(pod("p", journal.life("web", seconds=0.1)), wait="none")
    journal.until("web exit 0", 2)
    until(lambda: state(server.get("p")["status"], "web") == "CrashLoopBackOff")
    time.sleep(2)
    assert journal.count("web start") == 2


def test_S_BACKOFF_is_each_containers_own(server: Server, journal: Journal) -> None:
    """One in back-off keeps no other waiting, and a restart of another takes nothing from it."""
    bad, good = journal.life("bad", seconds=0.1, code=1), journal.life("good", seconds=3, code=1)
    server.up(pod("p", bad, good), wait="none")
    journal.until("good start", 2)
    assert delays(journal, "good", 1)[0] < SOON_S
    assert journal.count("bad start") == 2


def test_S_BACKOFF_S_INIT_of_an_init_container(server: Server, journal: Journal) -> None:
    init = journal.life("init", seconds=0.1, count="/dev/shm/n", codes="1,1,0")
    server.up(pod("p", journal.life("main"), inits=(init,)), wait="none")
    journal.until("init exit 1", 2)
    until(lambda: state(server.get("p")["status"], "init") == "CrashLoopBackOff")
    listed = server.call("pod.list").result["columns"][0]
    assert listed["status"] == "Init:CrashLoopBackOff"
    assert server.get("p")["status"]["phase"] == "Pending"
    journal.until("main start", timeout_s=15)
    starts = journal.times("init start")
    assert [round(later - earlier) for earlier, later in pairwise(starts)] == [0, 10]


def test_S_BACKOFF_goes_on_though_the_server_is_killed(server: Server, journal: Journal) -> None:
    """Ten seconds from the end of the container, with a server that came in the middle: not sooner, not later, once."""
    server.up(pod("p", journal.life("web", seconds=0.1, code=1)), wait="none")
    journal.until("web exit 1", 2)
    for pause_s in (0.0, 1.0, 3.0):
        time.sleep(pause_s)
        assert server.kill()
        server.start()
    journal.until("web start", 3, timeout_s=15)
    assert 10 <= delays(journal, "web", 1)[1] < 10 + SOON_S
    assert journal.count("web start") == 3


def test_S_BACKOFF_that_ended_while_no_server_ran_is_over(server: Server, journal: Journal) -> None:
    server.up(pod("p", journal.life("web", seconds=0.1, code=1)), wait="none")
    journal.until("web exit 1", 2)
    assert server.kill()
    time.sleep(10.5)
    assert journal.count("web start") == 2
    server.start()
    journal.until("web start", 3, timeout_s=3)
