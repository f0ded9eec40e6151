"""A pod's life as its status, its columns and its events tell it, beside what its containers tell themselves."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest

from tests.host.lifecycle.journal import Journal
from tests.host.lifecycle.watching import Status, condition, container, state, watching
from tests.host.server.harness import Server, pod, until

pytestmark = pytest.mark.timeout(120)

CONDITIONS = ("PodReadyToStartContainers", "Initialized", "ContainersReady", "Ready", "PodScheduled")


def job(journal: Journal, code: int = 0) -> dict[str, Any]:
    """A pod of every kind of container that ends by itself."""
    inits = (journal.life("init", seconds=0.3), journal.life("side") | {"restartPolicy": "Always"})
    manifest = pod("p", journal.life("main", seconds=0.3, code=code), inits=inits, restartPolicy="Never")
    manifest["spec"]["terminationGracePeriodSeconds"] = 20
    return manifest


@pytest.mark.parametrize(("code", "phase"), [(0, "Succeeded"), (7, "Failed")])
def test_S_PHASE_S_COND_over_a_whole_life(server: Server, journal: Journal, code: int, phase: str) -> None:
    with watching(server, "p") as watch:
        server.up(job(journal, code), wait="none")
        watch.until(lambda status: status["phase"] == phase)
        until(lambda: server.runtime("p")["sandbox"]["state"] == "none")
    assert watch.course(lambda status: status["phase"]) == ["Pending", "Running", phase]
    courses = {kind: watch.course(lambda status, kind=kind: condition(status, kind)) for kind in CONDITIONS}  # type: ignore[misc]  # bound early
    assert courses["PodScheduled"] == ["True"]
    assert courses["PodReadyToStartContainers"][:2] == ["False", "True"]
    assert courses["Initialized"] == ["False", "True"] if phase == "Succeeded" else courses["Initialized"][:2]
    for kind in ("ContainersReady", "Ready"):
        assert courses[kind] == ["False", "True", "False"]
    for status in watch.statuses:
        consistent(status)
    last = watch.statuses[-1]
    assert {one["type"]: one.get("reason") for one in last["conditions"]}["Ready"] == (
        "PodCompleted" if phase == "Succeeded" else "PodFailed"
    )
    ends = {name: state(last, name) for name in ("init", "side", "main")}
    assert ends == {"init": "Completed 0", "side": "Completed 0", "main": f"{'Error' if code else 'Completed'} {code}"}


def consistent(status: Status) -> None:
    """What has to fit together in every status that was ever published."""
    serving = [container(status, name) for name in ("side", "main")]
    assert (condition(status, "ContainersReady") == "True") == all(one["ready"] for one in serving)
    if condition(status, "Ready") == "True":
        assert condition(status, "Initialized") == "True"
        assert status["phase"] == "Running"
    for one in (*status["initContainerStatuses"], *status["containerStatuses"]):
        assert len([value for value in one["state"].values() if value]) == 1
        if one["ready"] and one["name"] != "init":
            assert one["started"]
            assert one["state"].get("running")
    if state(status, "main") == "running":
        assert state(status, "init") == "Completed 0"


def test_S_COND_times_change_with_the_status_alone(server: Server, journal: Journal) -> None:
    with watching(server, "p") as watch:
        server.up(pod("p", journal.life("web", seconds=1.2, code=1)), wait="none")
        journal.until("web start", 2)
        watch.until(lambda status: container(status, "web")["restartCount"] == 1 and state(status, "web") == "running")
    seen: dict[str, tuple[str, str]] = {}
    for status in watch.statuses:
        for one in status["conditions"]:
            kind, now = one["type"], (one["status"], one["lastTransitionTime"])
            if kind in seen and seen[kind][0] == now[0]:
                assert seen[kind][1] == now[1], f"{kind} stayed {now[0]}"
            seen[kind] = now


def seconds(text: str) -> float:
    """A time of the status in seconds since the epoch."""
    return datetime.fromisoformat(text).timestamp()


def test_S_REASONS_times_and_codes_are_the_containers(server: Server, journal: Journal) -> None:
    """The status has whole seconds: what the container tells of itself lies in the same ones, or right beside them."""
    server.up(pod("p", journal.life("web", seconds=1.5, code=42), restartPolicy="Never"), wait="none")
    server.wait("p", "phase=Failed")
    ended = server.container("p", "web")["state"]["terminated"]
    assert (ended["exitCode"], ended["reason"]) == (42, "Error")
    assert abs(seconds(ended["startedAt"]) - journal.time("web start")) < 1.5
    assert abs(seconds(ended["finishedAt"]) - journal.time("web exit 42")) < 1.5
    assert ended["containerID"] == server.container("p", "web")["containerID"]


def test_S_REASONS_killed_by_a_signal_is_128_and_its_number(server: Server, journal: Journal) -> None:
    server.up(pod("p", journal.life("web"), restartPolicy="Never"))
    journal.until("web start")
    server.call("pod.kill", name="p", containers=["web"], signal=9)
    server.wait("p", "phase=Failed")
    ended = server.container("p", "web")["state"]["terminated"]
    assert (ended["exitCode"], ended["reason"], ended.get("signal")) == (137, "Error", None)
    assert journal.of("web") == ["start"]


def test_S_EVENTS_in_the_order_of_a_life(server: Server, journal: Journal) -> None:
    server.up(job(journal), wait="none")
    until(lambda: server.get("p")["status"]["phase"] == "Succeeded")
    events = server.call("pod.events", name="p").result["events"]
    told = [(one["involvedObject"].get("fieldPath", ""), one["reason"]) for one in events]
    begun = ("Pulled", "Created", "Started")
    for path in ("spec.initContainers{init}", "spec.initContainers{side}", "spec.containers{main}"):
        assert tuple(reason for where, reason in told if where == path)[:3] == begun
    starts = [where for where, reason in told if reason == "Started"]
    assert starts == ["spec.initContainers{init}", "spec.initContainers{side}", "spec.containers{main}"]
    assert told[-1] == ("spec.initContainers{side}", "Killing"), "only the sidecar did not end by itself"
    assert [one["reason"] for one in events].count("Killing") == 1
    for one in events:
        assert one["type"] == "Normal"
        assert one["source"]["component"]
        assert one["involvedObject"]["uid"] == server.get("p")["metadata"]["uid"]


def test_S_EVENTS_a_repeated_one_is_counted(server: Server, journal: Journal) -> None:
    server.up(pod("p", journal.life("web", seconds=1.1, code=1)), wait="none")
    journal.until("web start", 2)
    until(lambda: server.container("p", "web")["restartCount"] == 1)
    events = server.call("pod.events", name="p").result["events"]
    for reason in ("Pulled", "Created", "Started"):
        (one,) = [event for event in events if event["reason"] == reason]
        assert one["count"] == 2
        assert one["firstTimestamp"] < one["lastTimestamp"]


def test_S_EVENTS_outlive_the_server(server: Server, journal: Journal) -> None:
    server.up(pod("p", journal.life("web", seconds=0.1, code=1)), wait="none")
    journal.until("web exit 1", 2)
    until(lambda: "BackOff" in server.reasons("p"))
    before = [(one["reason"], one["count"]) for one in server.call("pod.events", name="p").result["events"]]
    assert server.kill()
    server.start()
    after = [(one["reason"], one["count"]) for one in server.call("pod.events", name="p").result["events"]]
    assert dict(after).keys() >= dict(before).keys()
    assert dict(after)["Started"] == dict(before)["Started"] == 2
