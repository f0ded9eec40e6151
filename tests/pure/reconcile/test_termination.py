"""Deletion, the end of a pod's work and requested restarts: who is stopped when, and how hard."""

from __future__ import annotations

import pytest

from nsrun.reconcile import decide, request_deletion
from nsrun.reconcile.model import (
    AnnounceStop,
    CleanSandbox,
    ContainerLedger,
    Deletion,
    Instance,
    KillContainer,
    Observed,
    RemovePod,
    RunHook,
    Sandbox,
    SandboxState,
    SignalContainer,
    StopCause,
    StopRequest,
    StopSandbox,
    WakeAt,
)
from nsrun.spec.model import Pod
from tests.pure.reconcile.world import T0, World, instance, make_pod, seen


def deciding(pod: Pod, observed: Observed, now: float) -> list[tuple[str, object]]:
    """The actions as (word, what it is about), but for the announcements."""
    words: list[tuple[str, object]] = []
    for action in decide(pod, observed, now):
        match action:
            case AnnounceStop():
                continue
            case RunHook(name=name, hook=hook):
                words.append((hook.value, name))
            case SignalContainer(name=name, signal=signo):
                words.append((f"signal {signo}", name))
            case KillContainer(name=name):
                words.append(("kill", name))
            case WakeAt(at=at):
                words.append(("wake", at - T0))
            case _:
                words.append((type(action).__name__, None))
    return words


def stopped_at(name: str, at: float, **more: object) -> Instance:
    """A running instance that got SIGTERM at `at`."""
    return instance(name, stop_signal=15, stop_at=at, **more)  # type: ignore[arg-type]


DOWN = Deletion(T0 + 100, 30.0)


def test_S_TERM_mains_and_inits_are_signalled_at_once_and_together() -> None:
    observed = seen(instance("a"), instance("b"), deletion=DOWN)
    assert deciding(make_pod(mains=("a", "b")), observed, T0 + 100) == [("signal 15", "a"), ("signal 15", "b")]
    observed = seen(instance("i"), deletion=DOWN)
    assert deciding(make_pod(inits=("i",)), observed, T0 + 100) == [("signal 15", "i")]


def test_S_TERM_the_stop_signal_of_the_image() -> None:
    observed = seen(instance("app"), deletion=DOWN, ledgers={"app": ContainerLedger(starts=1, stop_signal=3)})
    assert deciding(make_pod(), observed, T0 + 100) == [("signal 3", "app")]


def test_S_TERM_the_signal_is_sent_once_and_sigkill_follows_the_grace_period() -> None:
    pod = make_pod()
    observed = seen(stopped_at("app", T0 + 100), deletion=DOWN)
    assert deciding(pod, observed, T0 + 100) == [("wake", 130)]
    assert deciding(pod, observed, T0 + 129.9) == [("wake", 130)]
    assert deciding(pod, observed, T0 + 130) == [("kill", "app")]
    assert deciding(pod, observed, T0 + 9000) == [("kill", "app")]


def test_S_TERM_sigkill_is_repeated_when_it_did_not_help() -> None:
    pod = make_pod()
    observed = seen(stopped_at("app", T0 + 100, killed_at=T0 + 130), deletion=DOWN)
    assert deciding(pod, observed, T0 + 130) == [("wake", 131)]
    assert deciding(pod, observed, T0 + 131) == [("kill", "app")]


@pytest.mark.parametrize("at", [50, 100, 101])
def test_S_TERM_the_stop_signal_is_sent_once_although_the_clock_was_set_back(at: float) -> None:
    observed = seen(stopped_at("app", T0 + at), deletion=DOWN)
    assert deciding(make_pod(), observed, T0 + 102) == [("wake", 130)]


def test_S_TERM_grace_0_is_sigkill_at_once_for_all() -> None:
    observed = seen(instance("s"), instance("app"), deletion=Deletion(T0 + 100, 0.0))
    assert deciding(make_pod(inits=("s*",)), observed, T0 + 100) == [("kill", "app"), ("kill", "s")]


def test_S_TERM_a_second_deletion_with_grace_0_does_not_wait() -> None:
    observed = seen(stopped_at("app", T0 + 100), deletion=Deletion(T0 + 100, 0.0))
    assert deciding(make_pod(), observed, T0 + 101) == [("kill", "app")]


@pytest.mark.parametrize(
    ("at", "grace_s", "expected"),
    [(10, 30, 30), (10, 5, 15), (10, 20, 30), (10, 0, 0), (-50, 5, 5)],
)
def test_S_TERM_a_second_deletion_can_only_shorten(at: float, grace_s: float, expected: float) -> None:
    assert request_deletion(None, T0, 7) == Deletion(T0, 7)
    assert request_deletion(Deletion(T0, 30.0), T0 + at, grace_s) == Deletion(T0, expected)


def test_S_TERM_a_second_deletion_sends_no_second_signal() -> None:
    world = World(make_pod())
    world.run()
    world.delete(100)
    world.advance(10)
    world.delete(5)
    world.run()
    assert sum(isinstance(action, SignalContainer) for _, action in world.log) == 1
    assert world.wake_at == T0 + 15


def test_S_TERM_sidecars_after_mains_in_reverse_order() -> None:
    world = World(make_pod(inits=("s1*", "s2*"), mains=("a", "b")))
    world.run()
    world.delete(30)
    order: list[str] = []
    for name in ("a", "b", "s2", "s1"):
        world.advance(1)
        waiting = [one.name for one in world.alive().values() if one.stop_signal is None]
        order += [name] if name not in waiting else ["too early"]
        assert all(other in waiting for other in {"a": ["s1", "s2"], "b": ["s1", "s2"], "s2": ["s1"], "s1": []}[name])
        world.exit(f"{name}-0", 143)
    world.run()
    assert order == ["a", "b", "s2", "s1"]
    assert world.removed


def test_S_TERM_waiting_for_the_turn_is_subtracted() -> None:
    pod = make_pod(inits=("s*",))
    dead = instance("app", "exited", finished=T0 + 110, code=0)
    observed = seen(instance("s"), dead, deletion=DOWN)
    assert deciding(pod, observed, T0 + 110) == [("signal 15", "s")]
    observed = seen(stopped_at("s", T0 + 110), dead, deletion=DOWN)
    assert deciding(pod, observed, T0 + 110) == [("wake", 130)], "20 of the 30 s are left"


def test_S_TERM_two_seconds_remain_at_least() -> None:
    pod = make_pod(inits=("s*",))
    dead = instance("app", "exited", finished=T0 + 129.5, code=137)
    observed = seen(stopped_at("s", T0 + 129.5), dead, deletion=DOWN)
    assert deciding(pod, observed, T0 + 130) == [("wake", 131.5)]
    observed = seen(stopped_at("app", T0 + 100), deletion=Deletion(T0 + 100, 1.0))
    assert deciding(make_pod(), observed, T0 + 101.5) == [("wake", 102)]


def test_S_TERM_a_server_that_comes_late_still_asks_politely() -> None:
    observed = seen(instance("app"), deletion=DOWN)
    assert deciding(make_pod(), observed, T0 + 5000) == [("signal 15", "app")]
    observed = seen(stopped_at("app", T0 + 5000), deletion=DOWN)
    assert deciding(make_pod(), observed, T0 + 5001) == [("wake", 5002)]


def test_S_TERM_the_turn_comes_when_the_grace_period_is_over() -> None:
    pod = make_pod(inits=("s*",))
    observed = seen(instance("s"), stopped_at("app", T0 + 100), deletion=DOWN)
    assert deciding(pod, observed, T0 + 100) == [("wake", 130)]
    assert deciding(pod, observed, T0 + 130) == [("kill", "app"), ("signal 15", "s")]


def test_S_TERM_the_sandbox_goes_last_and_then_the_pod() -> None:
    pod = make_pod()
    observed = seen(instance("app", "exited", code=143), deletion=DOWN)
    assert deciding(pod, observed, T0 + 101) == [("StopSandbox", None)]
    assert deciding(pod, Observed(deletion=DOWN), T0 + 101) == [("RemovePod", None)]
    assert deciding(pod, seen(instance("app"), state=SandboxState.DEAD, deletion=DOWN), T0 + 101) == [
        ("CleanSandbox", None)
    ]


@pytest.mark.parametrize("inits", [(), ("i",), ("s*",)])
def test_S_TERM_a_pod_that_is_deleted_never_starts_anything(inits: tuple[str, ...]) -> None:
    pod = make_pod(inits=inits)
    assert deciding(pod, Observed(deletion=DOWN), T0 + 100) == [("RemovePod", None)]
    assert deciding(pod, seen(deletion=DOWN), T0 + 100) == [("StopSandbox", None)]
    world = World(pod)
    world.run()
    world.exit(next(iter(world.records)), 1)
    world.delete(5)
    count = len(world.records)
    world.advance(100)
    assert world.removed
    assert sum(type(action).__name__ == "StartContainer" for _, action in world.log) == count


def test_S_TERM_deletion_of_a_pod_that_waits_in_back_off_or_for_an_image() -> None:
    for setting in ("broken", "start_fails"):
        world = World(make_pod())
        setattr(world.facts["app"], setting, True)
        world.advance(5)
        world.delete(30)
        world.run()
        assert world.removed


def test_S_TERM_deletion_while_the_sandbox_cannot_be_made() -> None:
    world = World(make_pod())
    world.sandbox_fails()
    world.run()
    world.delete(30)
    world.run()
    assert world.removed
    assert [type(action) for _, action in world.log] == [RemovePod]


@pytest.mark.parametrize("kill_after", range(12))
def test_S_TERM_goes_on_after_the_server_is_killed(kill_after: int) -> None:
    world = World(make_pod(inits=("s1*", "s2*"), mains=("a", "b")))
    world.run()
    world.delete(10)
    for _ in range(60):
        world.crash_before = kill_after % 4
        world.step()
        world.crash_before = None
        if world.removed:
            break
        world.kill_server()
        world.now += 0.25 * (1 + kill_after)
    world.advance(20)
    assert world.removed
    ends = [world.facts[name].ends[0].finished_at for name in ("a", "b", "s2", "s1")]
    assert ends == sorted(ends, key=lambda end: end or 0)


def test_S_SIDECAR_is_stopped_when_the_mains_are_done() -> None:
    pod = make_pod(inits=("s1*", "s2*"), policy="Never", grace=7)
    done = instance("app", "exited", finished=T0 + 50)
    observed = seen(instance("s1"), instance("s2"), done)
    assert deciding(pod, observed, T0 + 50) == [("signal 15", "s2"), ("wake", 57)]
    observed = seen(instance("s1"), stopped_at("s2", T0 + 50), done)
    assert deciding(pod, observed, T0 + 51) == [("wake", 57)]
    assert deciding(pod, observed, T0 + 57) == [("kill", "s2"), ("signal 15", "s1")]
    gone = instance("s2", "exited", code=143, finished=T0 + 52)
    assert deciding(pod, seen(instance("s1"), gone, done), T0 + 52) == [("signal 15", "s1")]


@pytest.mark.parametrize(("grace", "wait"), [(None, 30), (7, 7), (1, 2), (-5, 2)])
def test_S_TERM_the_pods_own_grace_period_for_a_requested_restart(grace: int | None, wait: float) -> None:
    world = World(make_pod(grace=grace))
    world.run()
    world.ask_restart("app")
    world.run()
    assert world.wake_at == T0 + wait
    world.advance(wait)
    assert world.records["app-1"].alive
    assert [type(action).__name__ for _, action in world.log][2:5] == [
        "AnnounceStop",
        "SignalContainer",
        "KillContainer",
    ]


def test_S_TERM_deletion_takes_over_a_requested_restart() -> None:
    world = World(make_pod(grace=300))
    world.run()
    world.ask_restart("app")
    world.advance(5)
    world.delete(10)
    world.run()
    assert sum(isinstance(action, SignalContainer) for _, action in world.log) == 1
    assert world.wake_at == T0 + 15
    world.advance(10)
    assert world.removed


def test_S_TERM_a_requested_restart_of_a_sidecar_does_not_wait_for_its_turn() -> None:
    world = World(make_pod(inits=("s*",)))
    world.run()
    world.ask_restart("s")
    world.run()
    assert world.records["s-0"].stop_signal == 15
    assert world.records["app-0"].stop_signal is None


def test_S_TERM_stop_of_a_finished_pod_whose_end_is_not_known() -> None:
    """The ledger was lost: the sidecar still gets its signal and two seconds."""
    pod = make_pod(inits=("s*",), policy="Never")
    observed = Observed(
        sandbox=Sandbox(SandboxState.READY, 0, T0), current={"s": instance("s")}, terminal=True, start_time=T0
    )
    assert deciding(pod, observed, T0 + 9) == [("signal 15", "s")]
    observed.current["s"] = stopped_at("s", T0 + 9)
    assert deciding(pod, observed, T0 + 9) == [("wake", 11)]


def test_S_TERM_everything_is_dead_before_the_sandbox_is_stopped() -> None:
    world = World(make_pod(mains=("a", "b"), policy="Never"))
    world.run()
    world.exit("a-0", 0)
    world.run()
    assert not any(isinstance(action, StopSandbox | CleanSandbox) for _, action in world.log)
    world.exit("b-0", 0)
    world.run()
    assert isinstance(world.log[-1][1], StopSandbox)


def test_the_earliest_of_several_due_times_counts() -> None:
    dead = instance("b", "exited", attempt=2, code=1, finished=T0 + 95)
    ledgers = {"b": ContainerLedger(starts=3, backoff_s=20.0, last_start_at=T0)}
    ledgers["a"] = ContainerLedger(starts=1, stop=StopRequest(T0 + 100, None, StopCause.REQUEST))
    observed = seen(stopped_at("a", T0 + 100), dead, ledgers=ledgers)
    assert deciding(make_pod(mains=("a", "b")), observed, T0 + 100) == [("wake", 115)]
