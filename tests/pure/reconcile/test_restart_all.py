"""A container whose exit has all containers of the pod started anew in place (S-RESTARTALL)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgspec
import pytest

from nsrun.reconcile import decide, settle
from nsrun.reconcile.ledger import RESET_MESSAGE, reset
from nsrun.reconcile.model import (
    Action,
    Deletion,
    ForgetInstance,
    InstanceState,
    KillContainer,
    Observed,
    ResetContainers,
    RestartAll,
    SandboxState,
    StartContainer,
    StopCause,
)
from nsrun.spec.model import Pod
from tests.pure.reconcile.test_termination import deciding, stopped_at
from tests.pure.reconcile.world import T0, instance, make_pod, seen

RULES = [
    {"action": "Restart", "exitCodes": {"operator": "In", "values": [7]}},
    {"action": "RestartAllContainers", "exitCodes": {"operator": "In", "values": [7, 88]}},
]


def ruled(name: str = "app", own: str = "Never", **more: Any) -> Pod:
    """A pod one of whose containers has the rules."""
    data = msgspec.to_builtins(make_pod(**{"policy": "Never"} | more))
    for container in (*data["spec"].get("initContainers", ()), *data["spec"]["containers"]):
        if container["name"] == name:
            container |= {"restartPolicy": container.get("restartPolicy") or own, "restartPolicyRules": RULES}
    return msgspec.convert(data, Pod)


def done(pod: Pod, observed: Observed, now: float) -> Observed:
    """What is seen once the pod's containers were reset."""
    names = [one.name for one in (*pod.spec.initContainers, *pod.spec.containers)]
    settled = settle(pod, observed, now)
    return replace(settled, ledgers=reset(settled.ledgers, names), restart_all=None)


def begun(actions: list[Action]) -> list[str]:
    """The containers that are started."""
    return [action.name for action in actions if isinstance(action, StartContainer)]


@pytest.mark.parametrize(("code", "all_anew"), [(88, True), (7, False), (1, False), (0, False)])
def test_S_RESTARTALL_the_first_rule_that_matches_decides(code: int, all_anew: bool) -> None:
    pod = ruled(mains=("app", "other"))
    settled = settle(pod, seen(instance("app", "exited", code=code), instance("other")), T0 + 2)
    assert settled.restart_all == (RestartAll(T0 + 2, "app", 88) if all_anew else None)
    assert settle(pod, settled, T0 + 9) == settled


def test_S_RESTARTALL_only_who_exits_by_itself_can_ask_for_it() -> None:
    pod = ruled(mains=("app", "other"))
    dead = instance("app", "exited", code=88)
    cases = [
        replace(dead, stopped_by=StopCause.LIVENESS),
        replace(dead, stop_signal=15, stop_at=T0),
        replace(dead, state=InstanceState.LOST),
        replace(dead, state=InstanceState.START_FAILED),
    ]
    for one in cases:
        assert settle(pod, seen(one, instance("other")), T0 + 2).restart_all is None
    assert settle(pod, seen(dead, deletion=Deletion(T0, 30.0)), T0 + 2).restart_all is None
    assert settle(pod, seen(dead, terminal=True), T0 + 2).restart_all is None
    assert settle(make_pod(), seen(dead), T0 + 2).restart_all is None


def test_S_RESTARTALL_what_runs_is_killed_without_a_signal_and_then_all_is_reset_at_once() -> None:
    pod = ruled(inits=("i", "s*"), mains=("app", "other"))
    observed = seen(instance("i", "exited"), instance("s"), instance("app", "exited", code=88), instance("other"))
    assert deciding(pod, observed, T0 + 2) == [("kill", "other"), ("kill", "s")]
    dead = [instance(name, "exited", code=137) for name in ("s", "other")]
    observed = seen(instance("i", "exited"), instance("app", "exited", code=88), *dead)
    settled = settle(pod, observed, T0 + 3)
    assert deciding(pod, settled, T0 + 3) == [("ResetContainers", None)]


def test_S_RESTARTALL_inits_come_first_again_and_what_had_succeeded_runs_again() -> None:
    pod = ruled(inits=("i", "s*"), mains=("app", "other"))
    observed = seen(
        instance("i", "exited"),
        instance("s", "exited", code=137),
        instance("app", "exited", code=88),
        instance("other", "exited", code=0),
    )
    after = done(pod, observed, T0 + 3)
    settled = settle(pod, after, T0 + 3)
    assert (settled.restart_all, settled.current) == (None, {})
    actions = decide(pod, after, T0 + 3)
    assert sorted(action.id for action in actions if isinstance(action, ForgetInstance)) == [
        "app-0",
        "i-0",
        "other-0",
        "s-0",
    ]
    assert begun(actions) == ["i"]
    for name in ("i", "s", "app", "other"):
        last = settled.ledgers[name].last
        assert last is not None
        assert (last.exit_code, last.reason, last.message) == (137, "RestartingAllContainers", RESET_MESSAGE)
    forgotten = replace(after, older=(), current={})
    ran = {"i": instance("i", "exited", attempt=1, started=T0 + 3, finished=T0 + 4)}
    assert begun(decide(pod, replace(forgotten, current=ran), T0 + 4)) == ["s"]
    ran["s"] = instance("s", attempt=1, started=T0 + 4)
    assert begun(decide(pod, replace(forgotten, current=ran), T0 + 4)) == ["app", "other"]
    ran["app"] = instance("app", attempt=1, started=T0 + 4)
    ran["other"] = instance("other", attempt=1, started=T0 + 4)
    settled = settle(pod, replace(forgotten, current=ran), T0 + 4)
    assert [settled.ledgers[name].restart_count for name in ("i", "s", "app", "other")] == [1, 1, 1, 1]
    assert decide(pod, settled, T0 + 4) == []


def test_S_RESTARTALL_takes_no_step_of_the_back_off_and_does_not_wait_for_it() -> None:
    pod = ruled(policy="Always")
    backing_off = replace(
        settle(pod, seen(instance("app", "exited")), T0 + 2).ledgers["app"], backoff_s=40.0, starts=1, last=None
    )
    observed = seen(instance("app", "exited", code=88), ledgers={"app": backing_off})
    after = done(pod, observed, T0 + 2)
    assert begun(decide(pod, after, T0 + 2)) == ["app"]
    again = settle(pod, replace(after, current={"app": instance("app", attempt=1, started=T0 + 2)}), T0 + 2)
    assert again.ledgers["app"].backoff_s == 40.0


@pytest.mark.parametrize("name", ["i", "s"])
def test_S_RESTARTALL_inits_and_sidecars_can_ask_for_it_too(name: str) -> None:
    pod = ruled(name, inits=("i", "s*"))
    words = {"i": instance("i", "exited")} if name == "s" else {}
    words[name] = instance(name, "exited", code=88)
    settled = settle(pod, seen(*words.values()), T0 + 2)
    assert settled.restart_all is not None
    assert settled.restart_all.container == name
    assert [type(action) for action in decide(pod, settled, T0 + 2)] == [ResetContainers]
    assert begun(decide(pod, done(pod, settled, T0 + 2), T0 + 2)) == ["i"]


def test_S_RESTARTALL_keeps_the_sandbox_and_a_sandbox_that_dies_meanwhile_does_not_end_it() -> None:
    pod = ruled(mains=("app", "other"))
    settled = settle(pod, seen(instance("app", "exited", code=88), instance("other")), T0 + 2)
    dead = replace(settled, sandbox=replace(settled.sandbox, state=SandboxState.DEAD))
    assert deciding(pod, dead, T0 + 3) == [("CleanSandbox", None)]
    none = replace(
        settle(pod, dead, T0 + 3), sandbox=replace(settled.sandbox, state=SandboxState.NONE), current={}, older=()
    )
    assert deciding(pod, none, T0 + 3) == [("ResetContainers", None)]
    assert [type(action).__name__ for action in decide(pod, done(pod, none, T0 + 3), T0 + 3)] == ["CreateSandbox"]


def test_S_RESTARTALL_deletion_ends_it() -> None:
    pod = ruled(mains=("app", "other"))
    settled = settle(pod, seen(instance("app", "exited", code=88), instance("other")), T0 + 2)
    down = replace(settled, deletion=Deletion(T0 + 2, 5.0))
    assert deciding(pod, down, T0 + 2) == [("signal 15", "other")]


def test_S_RESTARTALL_kills_again_what_does_not_die_and_leaves_ephemeral_containers_alone() -> None:
    pod = ruled(mains=("app", "other"))
    data = msgspec.to_builtins(pod)
    data["spec"]["ephemeralContainers"] = [{"name": "debug", "image": "img"}]
    pod = msgspec.convert(data, Pod)
    killed = stopped_at("other", T0, killed_at=T0 + 2)
    observed = seen(instance("app", "exited", code=88), killed, instance("debug"))
    assert deciding(pod, observed, T0 + 2) == [("wake", 3)]
    actions = decide(pod, observed, T0 + 3)
    assert [action.name for action in actions if isinstance(action, KillContainer)] == ["other"]
    observed = seen(instance("app", "exited", code=88), instance("other", "exited"), instance("debug"))
    assert deciding(pod, observed, T0 + 3) == [("ResetContainers", None)]
