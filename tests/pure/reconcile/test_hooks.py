"""Lifecycle hooks and the announcement of a stop: when each of them is due, and what waits for them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgspec
import pytest

from nsrun.reconcile import decide, settle
from nsrun.reconcile.ledger import fold, hook_finished, hook_started, request_stop, stop_announced
from nsrun.reconcile.model import (
    AnnounceStop,
    ContainerLedger,
    Deletion,
    HookKind,
    Observed,
    StopCause,
    StopRequest,
)
from nsrun.spec.model import Pod
from tests.pure.reconcile.test_termination import deciding, stopped_at
from tests.pure.reconcile.world import T0, instance, make_pod, seen

HOOK = {"exec": {"command": ["true"]}}
DOWN = Deletion(T0 + 100, 30.0)


def hooked(**names: str) -> Any:
    """A make_pod whose containers have hooks: `hooked(app="postStart preStop")(inits=..., ...)`."""

    def make(**more: Any) -> Pod:
        data = msgspec.to_builtins(make_pod(**more))
        for container in (*data["spec"].get("initContainers", ()), *data["spec"]["containers"]):
            kinds = names.get(container["name"], "").split()
            if kinds:
                container["lifecycle"] = dict.fromkeys(kinds, HOOK)
        return msgspec.convert(data, Pod)

    return make


def ran(
    name: str, kind: HookKind, begun: float, ended: float | None = None, error: str | None = None
) -> ContainerLedger:
    """The ledger of a running container whose hook was begun then, and has ended then."""
    ledger = hook_started(fold(ContainerLedger(), instance(name)), kind, f"{name}-0", T0 + begun)
    return ledger if ended is None else hook_finished(ledger, kind, f"{name}-0", T0 + ended, error)


def test_S_HOOK_postStart_runs_once_per_instance_and_the_next_container_waits_for_it() -> None:
    pod = hooked(a="postStart")(mains=("a", "b"))
    assert deciding(pod, seen(), T0) == [("StartContainer", None)]
    assert [action.name for action in decide(pod, seen(), T0)] == ["a"]  # type: ignore[attr-defined]  # a StartContainer
    assert deciding(pod, seen(instance("a", "starting")), T0) == []
    assert deciding(pod, seen(instance("a")), T0) == [("postStart", "a")]
    begun = ran("a", HookKind.POST_START, 1)
    assert deciding(pod, seen(instance("a"), ledgers={"a": begun}), T0 + 2) == []
    ended = ran("a", HookKind.POST_START, 1, 2)
    (start,) = decide(pod, seen(instance("a"), ledgers={"a": ended}), T0 + 2)
    assert start.name == "b"  # type: ignore[attr-defined]  # a StartContainer


def test_S_START_a_container_whose_postStart_hook_failed_holds_the_next_up_until_it_is_dead() -> None:
    pod = hooked(a="postStart")(mains=("a", "b"))
    failed = ran("a", HookKind.POST_START, 1, 2, "exit 1")
    settled = settle(pod, seen(instance("a"), ledgers={"a": failed}), T0 + 2)
    assert deciding(pod, settled, T0 + 2) == [("signal 15", "a")]
    dead = replace(settled, current={"a": instance("a", "exited", code=143, finished=T0 + 3)})
    assert [action.name for action in decide(pod, dead, T0 + 3)] == ["a"]  # type: ignore[attr-defined]  # restart first
    backing_off = replace(settled.ledgers["a"], backoff_s=20.0)
    dead = replace(dead, ledgers={"a": backing_off})
    assert deciding(pod, dead, T0 + 3) == [("StartContainer", None), ("wake", 23)]


def test_S_HOOK_postStart_is_not_begun_for_a_container_that_is_to_stop() -> None:
    pod = hooked(app="postStart")()
    ledger = request_stop(fold(ContainerLedger(), instance("app")), StopRequest(T0, None, StopCause.REQUEST, "x"))
    assert deciding(pod, seen(instance("app"), ledgers={"app": ledger}), T0) == [("signal 15", "app")]
    assert deciding(pod, seen(instance("app"), deletion=DOWN), T0 + 100) == [("signal 15", "app")]


def test_S_SIDECAR_whose_postStart_hook_runs_gates_the_next() -> None:
    pod = hooked(s="postStart")(inits=("s*",))
    assert deciding(pod, seen(instance("s")), T0) == [("postStart", "s")]
    assert deciding(pod, seen(instance("s"), ledgers={"s": ran("s", HookKind.POST_START, 0)}), T0) == []
    done = ran("s", HookKind.POST_START, 0, 1)
    assert deciding(pod, seen(instance("s"), ledgers={"s": done}), T0 + 1) == [("StartContainer", None)]


def test_S_HOOK_S_TERM_preStop_comes_first_and_its_time_is_subtracted_in_whole_seconds() -> None:
    pod = hooked(app="preStop")()
    assert deciding(pod, seen(instance("app"), deletion=DOWN), T0 + 100) == [("preStop", "app")]
    begun = seen(instance("app"), ledgers={"app": ran("app", HookKind.PRE_STOP, 100)}, deletion=DOWN)
    assert deciding(pod, begun, T0 + 101) == [("wake", 130)]
    ended = {"app": ran("app", HookKind.PRE_STOP, 100, 107.9)}
    assert deciding(pod, seen(instance("app"), ledgers=ended, deletion=DOWN), T0 + 107.9) == [("signal 15", "app")]
    signalled = seen(stopped_at("app", T0 + 107.9), ledgers=ended, deletion=DOWN)
    assert deciding(pod, signalled, T0 + 108) == [("wake", pytest.approx(130.9))], "23 of the 30 s are left"


def test_S_HOOK_S_TERM_a_preStop_hook_that_takes_all_the_time_leaves_two_seconds() -> None:
    pod = hooked(app="preStop")()
    ledgers = {"app": ran("app", HookKind.PRE_STOP, 100)}
    assert deciding(pod, seen(instance("app"), ledgers=ledgers, deletion=DOWN), T0 + 130) == [("signal 15", "app")]
    observed = seen(stopped_at("app", T0 + 130), ledgers=ledgers, deletion=DOWN)
    assert deciding(pod, observed, T0 + 130) == [("wake", 132)]
    assert deciding(pod, observed, T0 + 132) == [("kill", "app")]


def test_S_HOOK_a_server_that_comes_late_still_runs_the_preStop_hook() -> None:
    pod = hooked(app="preStop")()
    assert deciding(pod, seen(instance("app"), deletion=DOWN), T0 + 900) == [("preStop", "app")]
    observed = seen(instance("app"), ledgers={"app": ran("app", HookKind.PRE_STOP, 900)}, deletion=DOWN)
    assert deciding(pod, observed, T0 + 900) == [("wake", 902)]
    assert deciding(pod, observed, T0 + 902) == [("signal 15", "app")]


def test_S_HOOK_no_preStop_without_a_grace_period() -> None:
    pod = hooked(app="preStop")()
    assert deciding(pod, seen(instance("app"), deletion=Deletion(T0, 0.0)), T0) == [("kill", "app")]
    running = seen(instance("app"), ledgers={"app": ran("app", HookKind.PRE_STOP, 0)}, deletion=Deletion(T0, 0.0))
    assert deciding(pod, running, T0 + 1) == [("kill", "app")], "a hook that runs does not hold it up"


def test_S_HOOK_no_preStop_for_a_container_that_ended_by_itself() -> None:
    pod = hooked(app="preStop")()
    assert deciding(pod, seen(instance("app", "exited", code=1)), T0 + 2) == [("StartContainer", None)]


def test_S_HOOK_S_TERM_preStop_of_sidecars_starts_at_once_and_the_signal_waits_for_the_turn() -> None:
    pod = hooked(s="preStop")(inits=("s*",))
    observed = seen(instance("s"), instance("app"), deletion=DOWN)
    assert deciding(pod, observed, T0 + 100) == [("signal 15", "app"), ("preStop", "s")]
    ledgers = {"s": ran("s", HookKind.PRE_STOP, 100, 105)}
    observed = seen(instance("s"), stopped_at("app", T0 + 100), ledgers=ledgers, deletion=DOWN)
    assert deciding(pod, observed, T0 + 105) == [("wake", 130)]
    dead = instance("app", "exited", finished=T0 + 112, code=0)
    assert deciding(pod, seen(instance("s"), dead, ledgers=ledgers, deletion=DOWN), T0 + 112) == [("signal 15", "s")]
    observed = seen(stopped_at("s", T0 + 112), dead, ledgers=ledgers, deletion=DOWN)
    assert deciding(pod, observed, T0 + 112) == [("wake", 130)], "5 s for the hook and 7 s for the turn are gone"


def test_S_HOOK_preStop_runs_for_a_failed_probe_and_for_a_failed_postStart_hook() -> None:
    pod = hooked(app="preStop postStart")()
    for cause, grace_s in ((StopCause.LIVENESS, 7.0), (StopCause.POST_START, None)):
        ledger = request_stop(ran("app", HookKind.POST_START, 0, 1), StopRequest(T0 + 9, grace_s, cause, "why"))
        observed = seen(instance("app"), ledgers={"app": ledger})
        assert deciding(pod, observed, T0 + 9) == [("preStop", "app")]
        begun = hook_started(ledger, HookKind.PRE_STOP, instance("app").id, T0 + 9)
        over = replace(observed, ledgers={"app": begun})
        assert deciding(pod, over, T0 + 9) == [("wake", 9 + (grace_s or 30))]


@pytest.mark.parametrize(("grace_s", "end"), [(60.0, 170), (5.0, 115), (1.0, 112)])
def test_S_TERM_deletion_replaces_the_time_that_a_failed_probe_left(grace_s: float, end: float) -> None:
    ledger = request_stop(fold(ContainerLedger(), instance("app")), StopRequest(T0 + 100, 30, StopCause.LIVENESS, "x"))
    observed = seen(stopped_at("app", T0 + 100), ledgers={"app": ledger}, deletion=Deletion(T0 + 110, grace_s))
    assert deciding(make_pod(), observed, T0 + 110) == [("wake", end)]


def test_S_TERM_deletion_makes_a_sidecar_wait_for_its_turn_although_somebody_wanted_it_restarted() -> None:
    pod = hooked(s="preStop")(inits=("s*",))
    ledger = request_stop(ran("s", HookKind.PRE_STOP, 90), StopRequest(T0 + 90, None, StopCause.REQUEST, "x"))
    observed = seen(instance("s"), stopped_at("app", T0 + 100), ledgers={"s": ledger}, deletion=DOWN)
    assert deciding(pod, observed, T0 + 105) == [("wake", 130)]


def told(pod: Pod, observed: Observed, now: float) -> list[tuple[str, str]]:
    """What is announced."""
    return [(one.name, one.message) for one in decide(pod, observed, now) if isinstance(one, AnnounceStop)]


def test_S_TERM_S_EVENTS_every_stop_is_announced_once_before_anything_is_done() -> None:
    pod = hooked(s="preStop", app="preStop")(inits=("s*",), mains=("app", "other"))
    observed = seen(instance("s"), instance("app"), instance("other"), deletion=DOWN)
    assert told(pod, observed, T0 + 100) == [(name, f"Stopping container {name}") for name in ("app", "other", "s")]
    kinds = [type(action).__name__ for action in decide(pod, observed, T0 + 100)]
    assert kinds == ["AnnounceStop", "RunHook", "AnnounceStop", "SignalContainer", "AnnounceStop", "RunHook"]
    said = {
        name: stop_announced(fold(ContainerLedger(), instance(name)), f"{name}-0") for name in ("s", "app", "other")
    }
    assert told(pod, replace(observed, ledgers=said), T0 + 101) == []
    hard = replace(observed, deletion=Deletion(T0 + 100, 0.0))
    assert len(told(pod, hard, T0 + 100)) == 3, "without a grace period too"
    assert told(pod, seen(instance("s", "exited"), deletion=DOWN), T0 + 100) == []


@pytest.mark.parametrize(
    ("cause", "text"),
    [
        (StopCause.REQUEST, "Stopping container app"),
        (StopCause.LIVENESS, "Container app failed liveness probe, will be restarted"),
        (StopCause.POST_START, "FailedPostStartHook"),
    ],
)
def test_S_EVENTS_the_announcement_says_why(cause: StopCause, text: str) -> None:
    message = "pod restart" if cause is StopCause.REQUEST else text
    ledger = request_stop(fold(ContainerLedger(), instance("app")), StopRequest(T0, None, cause, message))
    assert told(make_pod(), seen(instance("app"), ledgers={"app": ledger}), T0) == [("app", text)]
