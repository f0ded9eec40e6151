"""The QoS class, and how events fold."""

from __future__ import annotations

from dataclasses import replace

import pytest

from nsrun.status import qos_class
from nsrun.status.events import BACK_OFF, KEPT_S, STARTED, WARNING, Event, container_path, fold_event
from tests.pure.reconcile.world import make_pod

FULL = {"cpu": "1", "memory": "64Mi"}


@pytest.mark.parametrize(
    ("resources", "expected"),
    [
        ([{}], "BestEffort"),
        ([{"requests": {"cpu": "0"}}], "BestEffort"),
        ([{"requests": {"ephemeral-storage": "1Gi"}}], "BestEffort"),
        ([{"requests": {"cpu": "100m"}}], "Burstable"),
        ([{"limits": FULL, "requests": FULL}], "Guaranteed"),
        ([{"limits": FULL, "requests": {"cpu": "1000m", "memory": "65536Ki"}}], "Guaranteed"),
        ([{"limits": FULL, "requests": {"cpu": "500m", "memory": "64Mi"}}], "Burstable"),
        ([{"limits": {"cpu": "1"}, "requests": {"cpu": "1"}}], "Burstable"),
        ([{"limits": FULL, "requests": FULL}, {}], "Burstable"),
        ([{"limits": FULL, "requests": FULL}, {"limits": FULL, "requests": FULL}], "Guaranteed"),
        ([{"limits": FULL}], "Burstable"),
    ],
)
@pytest.mark.parametrize("last_is_init", [False, True])
def test_S_CGROUP_qos_class(resources: list[dict[str, object]], expected: str, last_is_init: bool) -> None:
    containers = [{"name": f"c{at}", "resources": one} for at, one in enumerate(resources)]
    split = len(containers) - 1 if last_is_init and len(containers) > 1 else len(containers)
    assert qos_class(make_pod(containers=containers[:split], initContainers=containers[split:])) == expected


def test_S_CGROUP_resources_of_the_pod_come_first() -> None:
    pod = make_pod(resources={"limits": FULL, "requests": FULL})
    assert qos_class(pod) == "Guaranteed"


def test_S_EVENTS_a_repetition_counts() -> None:
    crash = Event(WARNING, BACK_OFF, "Back-off restarting failed container", container_path("app", init=False))
    other = Event("Normal", STARTED, "Started container app", container_path("app", init=False))
    events: tuple[Event, ...] = ()
    for now, event in [(10.0, crash), (11.0, other), (20.0, crash), (30.0, crash)]:
        events = fold_event(events, event, now)
    assert [(one.reason, one.count, one.first_at, one.last_at) for one in events] == [
        (STARTED, 1, 11.0, 11.0),
        (BACK_OFF, 3, 10.0, 30.0),
    ]


@pytest.mark.parametrize("changed", ["type", "reason", "message", "field_path"])
def test_S_EVENTS_that_differ_in_anything_are_two(changed: str) -> None:
    first = Event("Normal", STARTED, "m", "spec.containers{a}")
    second = replace(first, **{changed: "x"})  # type: ignore[arg-type]  # only strings are changed here
    events = fold_event(fold_event((), first, 1.0), second, 2.0)
    assert [one.count for one in events] == [1, 1]


def test_S_EVENTS_are_forgotten_after_an_hour_and_beyond_the_limit() -> None:
    old = Event("Normal", STARTED, "old")
    events = fold_event((), old, 0.0)
    assert len(fold_event(events, Event("Normal", STARTED, "new"), KEPT_S)) == 2
    assert [one.message for one in fold_event(events, Event("Normal", STARTED, "new"), KEPT_S + 1)] == ["new"]
    again = fold_event(events, old, KEPT_S + 1)
    assert [(one.count, one.first_at) for one in again] == [(1, KEPT_S + 1)]
    for at in range(10):
        events = fold_event(events, Event("Normal", STARTED, str(at)), float(at), kept=4)
    assert [one.message for one in events] == ["6", "7", "8", "9"]


def test_S_EVENTS_field_paths() -> None:
    assert container_path("web", init=False) == "spec.containers{web}"
    assert container_path("setup", init=True) == "spec.initContainers{setup}"
