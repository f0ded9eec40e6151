"""The judges of the tests on real processes see what is wrong: each is shown something that no kubelet would do."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from tests.host.lifecycle.oracle import follow, judge, try_journal

POD: dict[str, Any] = {
    "spec": {
        "restartPolicy": "OnFailure",
        "initContainers": [{"name": "init"}, {"name": "side", "restartPolicy": "Always"}],
        "containers": [{"name": "main"}],
    }
}
WELL = ["init start", "init exit 1", "init start", "init exit 0", "side start", "main start", "main exit 0"]


def test_a_journal_without_fault() -> None:
    try_journal(POD, [*WELL, "side term", "side exit 0"], told_to_stop=False)
    try_journal(POD, [*WELL[:-1], "main term", "main exit 0", "side term", "side exit 0"], told_to_stop=True)


@pytest.mark.parametrize(
    ("lines", "told_to_stop", "fault"),
    [
        (["init start", "init start"], False, "two instances of init"),
        (["init start", "init exit 0", "init start"], False, "started again after 0"),
        (["side start"], False, "side started before init"),
        (["init start", "init exit 0", "main start"], False, "main started before side"),
        (["init start", "init exit 1", "side start", "main start"], False, "although init had failed"),
        ([*WELL, "main start"], False, "started again after 0"),
        ([*WELL[:-1], "side term"], False, "before the mains were done"),
        ([*WELL[:-1], "main term", "main exit 1", "main start"], True, "while the pod was taken down"),
    ],
)
def test_a_journal_with_a_fault(lines: list[str], told_to_stop: bool, fault: str) -> None:
    with pytest.raises(AssertionError, match=fault):
        try_journal(POD, lines, told_to_stop=told_to_stop)


def running() -> dict[str, Any]:
    """A pod that is ready."""
    condition = {"type": "ContainersReady", "status": "True"}
    init = {"name": "init", "ready": True, "started": False, "restartCount": 0}
    init["state"] = {"terminated": {"exitCode": 0, "reason": "Completed"}}
    up = {"ready": True, "started": True, "restartCount": 0, "state": {"running": {"startedAt": "…"}}}
    status = {
        "phase": "Running",
        "conditions": [condition],
        "initContainerStatuses": [init, {"name": "side", **copy.deepcopy(up)}],
        "containerStatuses": [{"name": "main", **copy.deepcopy(up)}],
    }
    return {**POD, "metadata": {"name": "p", "resourceVersion": "5"}, "status": status}


def test_a_status_without_fault() -> None:
    judge(running())


WRONG: dict[str, tuple[tuple[str | int, ...], Any]] = {
    "phase": (("phase",), "Pending"),
    "ready without running": (
        ("containerStatuses", 0, "state"),
        {"waiting": {"reason": "ContainerCreating"}},
    ),
    "two states": (
        ("containerStatuses", 0, "state"),
        {"running": {"startedAt": "…"}, "waiting": {"reason": "CrashLoopBackOff"}},
    ),
    "ready and not started": (("containerStatuses", 0, "started"), False),
    "unready and told ready": (("initContainerStatuses", 1, "ready"), False),
    "an init that failed and is ready": (("initContainerStatuses", 0, "state", "terminated", "exitCode"), 1),
    "reason": (("initContainerStatuses", 0, "state", "terminated", "reason"), "Error"),
}


@pytest.mark.parametrize(("path", "value"), WRONG.values(), ids=WRONG)
def test_a_status_with_a_fault(path: tuple[str | int, ...], value: Any) -> None:
    pod = running()
    place = pod["status"]
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    with pytest.raises(AssertionError):
        judge(pod)


def test_what_cannot_follow_a_status() -> None:
    before, after = running(), running()
    after["metadata"]["resourceVersion"] = "6"
    follow(before, after)
    with pytest.raises(AssertionError):
        follow(before, before)
    fewer = copy.deepcopy(before)
    fewer["status"]["containerStatuses"][0]["restartCount"] = 1
    with pytest.raises(AssertionError):
        follow(fewer, after)
    over = copy.deepcopy(before)
    over["status"]["phase"] = "Succeeded"
    with pytest.raises(AssertionError):
        follow(over, after)
    done = copy.deepcopy(before)
    done["status"]["containerStatuses"][0]["state"] = {"terminated": {"exitCode": 0, "reason": "Completed"}}
    again = copy.deepcopy(after)
    again["status"]["containerStatuses"][0]["restartCount"] = 1
    with pytest.raises(AssertionError):
        follow(done, again)
