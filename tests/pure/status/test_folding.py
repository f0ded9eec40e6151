"""How the events of a pod fold (S-EVENTS), compared with a second reading of client-go's EventCorrelator."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nsrun.server.events import as_object, field_path
from nsrun.spec.model import ObjectMeta
from nsrun.status import events
from nsrun.status.events import BACK_OFF, NORMAL, STARTED, UNHEALTHY, WARNING, Event, container_path
from nsrun.status.folding import BURST, COMBINED, KEPT, KEPT_S, REFILL_S, SIMILAR, SIMILAR_WITHIN_S, EventLog
from tests.pure.reconcile.world import T0, make_pod

CRASH = Event(WARNING, BACK_OFF, "Back-off restarting failed container app", container_path("app"))
START = Event(NORMAL, STARTED, "Container started", container_path("app"))


def unhealthy(number: int) -> Event:
    """A probe that says something else each time."""
    return Event(WARNING, UNHEALTHY, f"Readiness probe failed: {number}", container_path("app"))


def test_S_EVENTS_a_repetition_is_counted_and_moves_to_the_end() -> None:
    log = EventLog()
    for now, event in [(10.0, CRASH), (11.0, START), (20.0, CRASH), (30.0, CRASH)]:
        log.add(event, now)
    assert [(one.reason, one.count, one.first_at, one.last_at) for one in log.told] == [
        (STARTED, 1, 11.0, 11.0),
        (BACK_OFF, 3, 10.0, 30.0),
    ]


@pytest.mark.parametrize("changed", ["type", "reason", "message", "field_path"])
def test_S_EVENTS_that_differ_in_anything_are_two(changed: str) -> None:
    log = EventLog()
    log.add(START, 1.0)
    log.add(replace(START, **{changed: "x"}), 2.0)  # type: ignore[arg-type]  # only strings are changed here
    assert [one.count for one in log.told] == [1, 1]


def test_S_EVENTS_the_tenth_similar_message_combines_them() -> None:
    log = EventLog()
    for number in range(SIMILAR + 3):
        log.add(unhealthy(number), T0 + number)
    assert [one.message for one in log.told] == [
        *(unhealthy(number).message for number in range(SIMILAR - 1)),
        f"{COMBINED}{unhealthy(SIMILAR + 2).message}",
    ]
    assert (log.told[-1].count, log.told[-1].first_at) == (4, T0 + SIMILAR - 1)


def test_S_EVENTS_similar_ones_after_ten_quiet_minutes_are_told_one_by_one_again() -> None:
    log = EventLog()
    for number in range(SIMILAR):
        log.add(unhealthy(number), T0)
    later = T0 + SIMILAR_WITHIN_S
    still, anew = log.add(unhealthy(98), later), log.add(unhealthy(99), later + SIMILAR_WITHIN_S + 1)
    assert still is not None
    assert still.message.startswith(COMBINED)
    assert anew is not None
    assert anew.message == unhealthy(99).message


def test_S_EVENTS_another_reason_is_not_similar() -> None:
    log = EventLog()
    for number in range(SIMILAR - 1):
        log.add(unhealthy(number), T0)
    told = log.add(START, T0)
    assert told is not None
    assert told.message == START.message


def test_S_EVENTS_a_burst_of_25_then_one_every_five_minutes() -> None:
    log = EventLog()
    told = [log.add(CRASH, T0) for _ in range(BURST + 5)]
    assert [one is not None for one in told] == [True] * BURST + [False] * 5
    assert log.told[-1].count == BURST
    assert log.add(CRASH, T0 + REFILL_S - 1) is None
    again = log.add(CRASH, T0 + REFILL_S)
    assert again is not None
    # What was not told was counted.
    assert again.count == BURST + 7


def test_S_EVENTS_what_was_never_told_is_told_with_its_count_and_beginning() -> None:
    log = EventLog()
    for number in range(BURST):
        log.add(CRASH, T0 + number)
    assert log.add(START, T0 + 30) is None
    assert START.key not in {one.key for one in log.told}
    told = log.add(START, T0 + 2 * REFILL_S)
    assert told is not None
    assert (told.count, told.first_at, told.last_at) == (2, T0 + 30, T0 + 2 * REFILL_S)


def test_S_EVENTS_are_forgotten_an_hour_after_they_were_told() -> None:
    log = EventLog()
    log.add(START, T0)
    log.add(CRASH, T0 + KEPT_S)
    assert len(log.told) == 2
    log.add(CRASH, T0 + KEPT_S + 1)
    assert [one.reason for one in log.told] == [BACK_OFF]


def test_S_EVENTS_go_on_where_an_earlier_server_left_them() -> None:
    before = EventLog()
    for now, event in [(T0, START), (T0 + 1, CRASH), (T0 + 2, CRASH)]:
        before.add(event, now)
    after = EventLog(before.told)
    after.add(CRASH, T0 + 3)
    assert [(one.reason, one.count, one.first_at) for one in after.told] == [(STARTED, 1, T0), (BACK_OFF, 3, T0 + 1)]


def test_S_EVENTS_combined_ones_go_on_after_a_restart_of_the_server() -> None:
    before = EventLog()
    for number in range(SIMILAR + 1):
        before.add(unhealthy(number), T0 + number)
    after = EventLog(before.told)
    told = after.add(unhealthy(77), T0 + 60)
    assert told is not None
    assert (told.message, told.count) == (f"{COMBINED}{unhealthy(77).message}", 3)


def test_S_EVENTS_a_clock_that_was_set_back_takes_no_allowance_and_gives_none() -> None:
    log = EventLog()
    for _ in range(BURST):
        log.add(CRASH, T0)
    assert log.add(CRASH, T0 - 9999) is None
    assert log.add(CRASH, T0 - 9999 + REFILL_S) is not None


def test_S_EVENTS_two_at_the_same_moment_are_told_apart() -> None:
    log = EventLog()
    pod = make_pod()
    names = {as_object(log.add(event, T0), pod.metadata, "1", "n")["metadata"]["name"] for event in (START, CRASH)}  # type: ignore[arg-type] # both are told
    assert len(names) == 2


def test_S_EVENTS_field_paths_of_all_three_lists() -> None:
    pod = make_pod(("web",), inits=("setup",))
    assert field_path(pod, "web") == "spec.containers{web}"
    assert field_path(pod, "setup") == "spec.initContainers{setup}"
    assert field_path(pod, "debugger-x") == "spec.ephemeralContainers{debugger-x}"
    assert field_path(pod, "") == ""


def test_S_EVENTS_as_an_object_of_the_api() -> None:
    event = replace(CRASH, count=3, first_at=T0, last_at=T0 + 20)
    made = as_object(event, ObjectMeta(name="web", namespace="shop", uid="u-1"), "77", "box")
    assert made["metadata"].pop("uid")
    assert made == {
        "kind": "Event",
        "apiVersion": "v1",
        "metadata": {
            "name": f"web.{int(T0 * 1e9):x}",
            "namespace": "shop",
            "creationTimestamp": "2001-09-09T01:46:40Z",
        },
        "involvedObject": {
            "kind": "Pod",
            "namespace": "shop",
            "name": "web",
            "uid": "u-1",
            "apiVersion": "v1",
            "resourceVersion": "77",
            "fieldPath": "spec.containers{app}",
        },
        "reason": "BackOff",
        "message": CRASH.message,
        "source": {"component": "nsrun", "host": "box"},
        "firstTimestamp": "2001-09-09T01:46:40Z",
        "lastTimestamp": "2001-09-09T01:47:00Z",
        "count": 3,
        "type": "Warning",
        "reportingComponent": "nsrun",
        "reportingInstance": "box",
    }


REASONS = """
    Pulling Pulled Created Started Killing BackOff Failed Unhealthy ProbeWarning FailedPostStartHook FailedPreStopHook
    FailedMount FailedCreatePodSandBox SandboxChanged FailedSync FailedValidation FailedScheduling InspectFailed
    ErrImageNeverPull Evicted LifecycleHTTPFallback ResizeStarted ResizeCompleted ResizeDeferred
"""


@pytest.mark.parametrize("reason", REASONS.split())
def test_S_EVENTS_reasons_are_constants(reason: str) -> None:
    assert reason in {value for name, value in vars(events).items() if name.isupper()}


@dataclass
class Reading:
    """client-go's EventCorrelator read a second time, in its own words."""

    local_keys: dict[tuple[str, str], tuple[list[str], float]] = field(default_factory=dict)
    observed: dict[tuple[str, ...], int] = field(default_factory=dict)
    tokens: float = 25.0
    last: float | None = None

    def correlate(self, event: Event, now: float) -> tuple[str, int] | None:
        """Message and count of what is sent."""
        group = (event.type, event.reason)
        keys, at = self.local_keys.get(group, ([], now))
        if now - at > 600:
            keys = []
        if event.message not in keys:
            keys = [*keys, event.message]
        message = event.message
        cache_key: tuple[str, ...] = event.key
        if len(keys) >= 10:
            keys = keys[1:]
            message, cache_key = "(combined from similar events): " + event.message, group
        self.local_keys[group] = (keys, now)
        self.observed[cache_key] = self.observed.get(cache_key, 0) + 1
        if self.last is not None:
            self.tokens = min(25.0, self.tokens + (now - self.last) / 300)
        self.last = now
        if self.tokens < 1:
            return None
        self.tokens -= 1
        return message, self.observed[cache_key]


@given(
    st.lists(
        st.tuples(st.sampled_from([0.0, 1.0, 30.0, 299.0, 300.0, 601.0]), st.sampled_from("ab"), st.integers(0, 14)),
        max_size=80,
    )
)
def test_S_EVENTS_fold_as_client_go_folds_them(history: list[tuple[float, str, int]]) -> None:
    log, reading, now = EventLog(), Reading(), T0
    happened: Counter[str] = Counter()
    for gap, reason, number in history:
        now += gap
        event = Event(NORMAL, reason, str(number))
        happened[reason] += 1
        told, expected = log.add(event, now), reading.correlate(event, now)
        assert (None if told is None else (told.message, told.count)) == expected
        if told is not None:
            assert log.told[-1] is told
            assert told.last_at == now
            # The last digits of first_at tell events of one moment apart.
            assert told.first_at < now + 0.001
    assert len(log.told) <= KEPT
    assert [one.last_at for one in log.told] == sorted(one.last_at for one in log.told)
    assert len({one.first_at for one in log.told}) == len(log.told)
    for reason, times in happened.items():
        assert sum(one.count for one in log.told if one.reason == reason) <= times


@given(st.lists(st.integers(0, 10**6), min_size=200, max_size=400, unique=True))
def test_S_EVENTS_of_a_pod_are_bounded_whatever_happens(numbers: list[int]) -> None:
    log = EventLog()
    for at, number in enumerate(numbers):
        log.add(Event(NORMAL, f"Reason{number}", str(number), f"spec.containers{{c{number}}}"), T0 + 200.0 * at)
        if at % 50 == 0:
            log = EventLog(log.told)
    assert len(log.told) <= KEPT


def test_S_EVENTS_adding_one_is_cheap() -> None:
    log = EventLog()
    for number in range(400):
        log.add(Event(NORMAL, f"R{number % 70}", str(number)), T0 + number)
    begin = time.process_time()
    for number in range(2000):
        log.add(unhealthy(number), T0 + 400 + number)
    assert (time.process_time() - begin) / 2000 < 500e-6
