"""Ephemeral containers: started once, counting for nothing."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from nsrun.reconcile import decide
from nsrun.reconcile.model import ContainerLedger, Deletion, Role, StartContainer, StopSandbox
from nsrun.spec.model import Pod
from tests.pure.reconcile.test_termination import deciding, stopped_at
from tests.pure.reconcile.world import T0, instance, make_pod, seen


def debugged(**more: Any) -> Pod:
    """A pod with an ephemeral container."""
    data = msgspec.to_builtins(make_pod(**more))
    data["spec"]["ephemeralContainers"] = [{"name": "debug", "image": "img", "targetContainerName": "app"}]
    return msgspec.convert(data, Pod)


def test_S_START_an_ephemeral_container_starts_before_the_inits_are_done() -> None:
    actions = decide(debugged(inits=("i",)), seen(instance("i")), T0)
    assert actions == [StartContainer("container debug: first start", "debug", 0, Role.EPHEMERAL)]


@pytest.mark.parametrize("policy", ["Always", "OnFailure", "Never"])
@pytest.mark.parametrize("code", [0, 1])
def test_S_RESTART_an_ephemeral_container_is_never_started_again(policy: str, code: int) -> None:
    pod = debugged(policy=policy)
    assert decide(pod, seen(instance("app"), instance("debug", "exited", code=code)), T0 + 9) == []
    elsewhere = {"debug": ContainerLedger(starts=1, last=instance("debug", "lost"))}
    assert decide(pod, seen(instance("app"), ledgers=elsewhere), T0 + 9) == []


def test_S_PHASE_an_ephemeral_container_keeps_no_pod_going_and_is_stopped_with_the_mains() -> None:
    pod = debugged(policy="Never", inits=("s*",))
    ended = instance("app", "exited", finished=T0 + 5)
    assert deciding(pod, seen(instance("s"), instance("debug"), ended), T0 + 5) == [
        ("signal 15", "debug"),
        ("signal 15", "s"),
    ]
    assert deciding(pod, seen(stopped_at("debug", T0 + 5), ended), T0 + 5) == [("wake", 35)]
    assert decide(pod, seen(instance("debug", "exited"), ended), T0 + 5) == [
        StopSandbox("all main containers are done")
    ]


def test_S_TERM_deletion_stops_an_ephemeral_container_at_once() -> None:
    observed = seen(instance("app"), instance("debug"), deletion=Deletion(T0, 30.0))
    assert deciding(debugged(), observed, T0) == [("signal 15", "app"), ("signal 15", "debug")]
