"""The ledger follows from the instances that were seen, however often and after whatever was forgotten."""

from __future__ import annotations

from dataclasses import replace
from typing import TypeVar

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nsrun.reconcile import begin, fold, request_restart, request_stop, settle
from nsrun.reconcile.ledger import (
    hook_finished,
    hook_started,
    probe_result,
)
from nsrun.reconcile.model import (
    ContainerLedger,
    HookKind,
    HookRun,
    Instance,
    InstanceState,
    ProbeKind,
    ProbeResults,
    SandboxState,
    StopCause,
    StopRequest,
    Waiting,
)
from tests.pure.reconcile.world import T0, instance, make_pod, seen

POD = make_pod()
T = TypeVar("T")

ENDS = st.builds(
    lambda state, code, lived_s: (state, code, lived_s),
    st.sampled_from(["exited", "start-failed", "lost"]),
    st.integers(0, 255),
    st.sampled_from([0.0, 1.0, 599.0, 601.0]),
)


def through_json(value: T) -> T:
    """As it comes back from ledger.json."""
    return msgspec.json.decode(msgspec.json.encode(value), type=type(value))


def history(ends: list[tuple[str, int, float]], running: bool) -> list[Instance]:
    """Instances one after another."""
    made, at = [], T0
    for attempt, (state, code, lived_s) in enumerate(ends):
        started = None if state == "start-failed" else at
        at += lived_s
        made.append(instance("app", state, attempt=attempt, started=started, finished=at, code=code))
    if running:
        made.append(instance("app", attempt=len(ends), started=at))
    return made


@given(st.lists(ENDS, max_size=8), st.booleans(), st.data())
@settings(derandomize=True, database=None, deadline=None)
def test_S_BACKOFF_S_KEEP_the_ledger_does_not_depend_on_how_often_it_was_folded(
    ends: list[tuple[str, int, float]], running: bool, data: st.DataObject
) -> None:
    instances = history(ends, running)
    plain = ContainerLedger()
    for one in instances:
        plain = fold(plain, one)
    stuttering = ContainerLedger()
    for at, one in enumerate(instances):
        if one.state is not InstanceState.START_FAILED and data.draw(st.booleans()):
            alive = replace(one, state=InstanceState.RUNNING, finished_at=None, exit_code=None)
            stuttering = fold(stuttering, alive)
        stuttering = fold(stuttering, one)
        for earlier in data.draw(st.lists(st.sampled_from(instances[: at + 1]), max_size=3)):
            stuttering = fold(stuttering, earlier)
        stuttering = through_json(stuttering)
    assert stuttering == plain
    assert plain.starts == len(instances)
    assert plain.restart_count == max(0, len(instances) - 1)
    dead = [one for one in instances if not one.alive]
    assert (plain.last.id if plain.last else None) == (dead[-1].id if dead else None)
    assert (plain.previous.id if plain.previous else None) == (dead[-2].id if len(dead) > 1 else None)


def test_S_REASONS_of_ends() -> None:
    cases = [
        (instance("app", "exited", code=0), (0, "Completed")),
        (instance("app", "exited", code=3), (3, "Error")),
        (instance("app", "exited", code=137, reason="OOMKilled"), (137, "OOMKilled")),
        (instance("app", "start-failed"), (128, "StartError")),
        (instance("app", "lost"), (137, "ContainerStatusUnknown")),
    ]
    for one, (code, reason) in cases:
        last = fold(ContainerLedger(image_id="sha256:1"), one).last
        assert last is not None
        assert (last.exit_code, last.reason, last.image_id) == (code, reason, "sha256:1")


def test_a_start_that_was_begun_before_its_time_was_known() -> None:
    starting = instance("app", "starting", started=None)
    ledger = fold(ContainerLedger(), starting)
    assert (ledger.starts, ledger.last_start_at) == (1, None)
    ledger = fold(ledger, instance("app", "exited", started=T0, finished=T0 + 700))
    assert ledger.last_start_at == T0
    ledger = fold(ledger, instance("app", "exited", attempt=1, started=T0 + 700, finished=T0 + 1301, code=1))
    assert ledger.backoff_s == 0.0, "it lived 601 s"


def test_begin_clears_what_was_about_the_instance_before() -> None:
    ledger = ContainerLedger(
        starts=1,
        last=instance("app", "exited"),
        waiting=Waiting("ErrImagePull", "x", T0),
        stop=StopRequest(T0, 5, StopCause.REQUEST, "pod restart"),
        post_start=HookRun("app-0", T0),
        pre_stop=HookRun("app-0", T0),
        probes=ProbeResults("app-0", True, True, False),
    )
    begun = begin(ledger, 1, T0 + 5)
    assert (begun.waiting, begun.stop, begun.post_start, begun.pre_stop, begun.probes) == (None,) * 5
    assert begin(begun, 1, T0 + 9) == begun
    assert begin(begun, 0, T0 + 9) == begun


def test_request_restart_twice_only_shortens_the_time() -> None:
    first = request_restart(ContainerLedger(starts=1), T0, 30)
    second = request_restart(first, T0 + 5, 10)
    third = request_restart(second, T0 + 6)
    assert second.stop == StopRequest(T0, 10, StopCause.REQUEST, "pod restart")
    assert third == second


@pytest.mark.parametrize(
    ("first", "second", "counts"),
    [
        (StopCause.LIVENESS, StopCause.REQUEST, StopCause.REQUEST),
        (StopCause.REQUEST, StopCause.LIVENESS, StopCause.REQUEST),
        (StopCause.LIVENESS, StopCause.CHANGED, StopCause.CHANGED),
        (StopCause.POST_START, StopCause.LIVENESS, StopCause.LIVENESS),
        (StopCause.REQUEST, StopCause.RESTART_ALL, StopCause.RESTART_ALL),
    ],
)
def test_S_RESTART_of_two_causes_for_a_stop_one_decides(first: StopCause, second: StopCause, counts: StopCause) -> None:
    ledger = request_stop(ContainerLedger(starts=1), StopRequest(T0, None, first, "first"))
    ledger = request_stop(ledger, StopRequest(T0 + 3, 4, second, "second"))
    assert ledger.stop == StopRequest(T0, 4, counts, "first")


def test_S_RESTART_who_dies_while_a_stop_is_pending_was_stopped_by_its_cause() -> None:
    ledger = fold(ContainerLedger(), instance("app"))
    ledger = request_stop(ledger, StopRequest(T0, None, StopCause.LIVENESS, "x"))
    ended = fold(ledger, instance("app", "exited", code=143))
    assert ended.last is not None
    assert ended.last.stopped_by is StopCause.LIVENESS
    again = fold(fold(ended, instance("app", attempt=1)), instance("app", "exited", attempt=1, code=1))
    assert again.last is not None
    assert (again.last.stopped_by, again.stop) == (None, None)


def test_S_HOOK_runs_once_for_an_instance_and_ends_once() -> None:
    ledger = fold(ContainerLedger(), instance("app"))
    for kind in HookKind:
        assert hook_started(ledger, kind, "app-9", T0) is ledger, "another instance"
        begun = hook_started(ledger, kind, "app-0", T0 + 1)
        assert hook_started(begun, kind, "app-0", T0 + 5) is begun
        assert hook_finished(ledger, kind, "app-0", T0) is ledger, "it was not begun"
        ended = hook_finished(begun, kind, "app-0", T0 + 2, "exit 1")
        assert hook_finished(ended, kind, "app-0", T0 + 3) is ended
        run = ended.post_start if kind is HookKind.POST_START else ended.pre_stop
        assert run == HookRun("app-0", T0 + 1, T0 + 2, "exit 1")
        assert through_json(ended) == ended


def test_S_PROBE_results_are_of_the_newest_instance() -> None:
    ledger = fold(ContainerLedger(), instance("app"))
    assert probe_result(ledger, "app-9", ProbeKind.LIVENESS, False) is ledger
    assert probe_result(ledger, "app-0", ProbeKind.LIVENESS, True).probes == ProbeResults("app-0")
    told = probe_result(ledger, "app-0", ProbeKind.STARTUP, True)
    told = probe_result(told, "app-0", ProbeKind.READINESS, True)
    assert told.probes == ProbeResults("app-0", startup=True, readiness=True, liveness=True)
    assert probe_result(told, "app-0", ProbeKind.READINESS, True) is told
    assert probe_result(told, "app-0", ProbeKind.LIVENESS, False).probes == ProbeResults("app-0", True, True, False)
    assert fold(told, instance("app", attempt=1)).probes is None
    assert through_json(told) == told


def test_S_REASONS_without_a_shim_what_lived_is_lost_at_the_time_it_was_noticed() -> None:
    observed = seen(instance("app"), state=SandboxState.DEAD)
    settled = settle(POD, observed, T0 + 5)
    lost = settled.current["app"]
    assert (lost.state, lost.finished_at, lost.exit_code) == (InstanceState.LOST, T0 + 5, 137)
    again = settle(POD, replace(observed, ledgers=settled.ledgers), T0 + 50)
    assert again.current["app"] == lost
    assert again.ledgers == settled.ledgers


def test_settle_folds_older_instances_first() -> None:
    observed = seen(instance("app", "exited", code=1), instance("app", attempt=1, started=T0 + 1))
    settled = settle(POD, observed, T0 + 2)
    ledger = settled.ledgers["app"]
    assert ledger.last is not None
    assert (ledger.starts, ledger.last.attempt, ledger.backoff_s) == (2, 0, 10.0)
    assert [one.id for one in settled.older] == ["app-0"]


def test_instances_go_through_json() -> None:
    one = instance("app", "exited", code=1, stop_signal=15, stop_at=T0, message="x", image_id="sha256:2")
    assert through_json(one) == one
