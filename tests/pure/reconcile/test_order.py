"""Init containers, sidecars, mains, sandboxes and restart policies: what starts, and when not."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
import pytest

from nsrun.reconcile import decide
from nsrun.reconcile.model import (
    CleanSandbox,
    ContainerLedger,
    CreateSandbox,
    Observed,
    Role,
    Sandbox,
    SandboxState,
    StartContainer,
    StopCause,
    StopRequest,
    StopSandbox,
)
from nsrun.reconcile.policy import should_restart
from nsrun.spec.model import Container
from tests.pure.reconcile.world import T0, World, instance, make_pod, seen


def starts(pod_args: Mapping[str, object], observed: Observed, now: float = T0 + 2) -> list[str]:
    """The names of the containers that `decide` starts."""
    actions = decide(make_pod(**pod_args), observed, now)  # type: ignore[arg-type]
    return [action.name for action in actions if isinstance(action, StartContainer)]


@pytest.mark.parametrize(
    ("policy", "code", "again"),
    [
        ("Always", 0, True),
        ("Always", 1, True),
        ("OnFailure", 0, False),
        ("OnFailure", 1, True),
        ("OnFailure", 137, True),
        ("Never", 0, False),
        ("Never", 1, False),
    ],
)
def test_S_RESTART_pod_policy(policy: str, code: int, again: bool) -> None:
    observed = seen(instance("app", "exited", code=code), instance("other"))
    pod = {"mains": ("app", "other"), "policy": policy}
    assert starts(pod, observed) == (["app"] if again else [])
    assert should_restart(make_pod(policy=policy), Container(name="app"), code) is again


RULES = [
    {"action": "Restart", "exitCodes": {"operator": "In", "values": [42]}},
    {"action": "Restart", "exitCodes": {"operator": "NotIn", "values": [1, 2, 42]}},
]


@pytest.mark.parametrize(
    ("pod_policy", "own", "rules", "code", "by_itself", "again"),
    [
        ("Always", "Never", [], 1, True, False),
        ("Always", "OnFailure", [], 0, True, False),
        ("Never", "Always", [], 0, True, True),
        ("Never", "OnFailure", [], 1, True, True),
        ("Always", "Never", RULES, 42, True, True),
        ("Always", "Never", RULES, 3, True, True),
        ("Always", "Never", RULES, 2, True, False),
        ("Always", "Never", RULES, 42, False, False),
        ("Always", "OnFailure", RULES, 137, False, True),
    ],
)
def test_S_RESTART_container_policy_and_rules(
    pod_policy: str, own: str, rules: list[object], code: int, by_itself: bool, again: bool
) -> None:
    container = msgspec.convert({"name": "c", "restartPolicy": own, "restartPolicyRules": rules}, Container)
    assert should_restart(make_pod(policy=pod_policy), container, code, by_itself=by_itself) is again


def test_S_RESTART_what_was_lost_or_could_not_start_follows_the_policy() -> None:
    for state in ("lost", "start-failed"):
        observed = seen(instance("app", state), instance("other"))
        assert starts({"mains": ("app", "other"), "policy": "OnFailure"}, observed) == ["app"]
        assert starts({"mains": ("app", "other"), "policy": "Never"}, observed) == []


def test_S_START_first_the_sandbox_then_all_mains_together_in_order() -> None:
    pod = make_pod(mains=("b", "a", "c"))
    assert decide(pod, Observed(), T0) == [CreateSandbox("the pod has no sandbox yet", 0)]
    actions = decide(pod, seen(), T0)
    assert [(a.name, a.attempt, a.role) for a in actions if isinstance(a, StartContainer)] == [
        (name, 0, Role.MAIN) for name in "bac"
    ]
    assert len(actions) == 3


def test_S_START_a_container_that_cannot_start_does_not_stop_the_others() -> None:
    world = World(make_pod(mains=("bad", "good")))
    world.facts["bad"].start_fails = True
    world.run()
    assert list(world.alive()) == ["good"]
    assert world.stored_status.phase == "Running"


def test_S_INIT_strictly_one_after_another() -> None:
    pod = {"inits": ("i1", "i2", "i3")}
    assert starts(pod, seen()) == ["i1"]
    assert starts(pod, seen(instance("i1", "starting"))) == []
    assert starts(pod, seen(instance("i1"))) == []
    assert starts(pod, seen(instance("i1", "exited"))) == ["i2"]
    assert starts(pod, seen(instance("i1", "exited"), instance("i2"))) == []
    assert starts(pod, seen(instance("i1", "exited"), instance("i2", "exited"), instance("i3", "exited"))) == ["app"]


@pytest.mark.parametrize("policy", ["Always", "OnFailure"])
def test_S_INIT_that_fails_is_retried_and_keeps_the_pod_pending(policy: str) -> None:
    world = World(make_pod(inits=("i1", "i2"), policy=policy))
    world.run()
    world.exit("i1-0", 1)
    world.run()
    world.exit("i1-1", 1)
    world.run()
    assert world.stored_status.phase == "Pending"
    assert world.wake_at == T0 + 10
    world.advance(10)
    assert list(world.alive()) == ["i1"]
    world.exit("i1-2", 0)
    world.run()
    assert list(world.alive()) == ["i2"]


def test_S_INIT_that_fails_for_good_fails_the_pod_and_kills_everything() -> None:
    world = World(make_pod(inits=("s*", "i"), policy="Never"))
    world.run()
    assert sorted(world.alive()) == ["i", "s"]
    world.exit("i-0", 3)
    world.run()
    assert world.records["s-0"].stop_signal == 15
    assert world.stored_status.phase == "Pending", "not terminal while the sidecar lives"
    world.exit("s-0", 0)
    world.run()
    assert world.stored_status.phase == "Failed"
    assert world.sandbox.state is SandboxState.NONE
    assert not world.started("app")


def test_S_INIT_finished_inits_never_rerun_in_their_sandbox() -> None:
    world = World(make_pod(inits=("i",)))
    world.run()
    world.exit("i-0", 0)
    world.run()
    for attempt in range(3):
        world.exit(f"app-{attempt}", 1)
        world.advance(60)
    assert len(world.started("i")) == 1


@pytest.mark.parametrize("again", range(8))
def test_S_INIT_nothing_is_repeated_or_skipped_when_the_server_is_killed(again: int) -> None:
    """The server is killed after each possible number of actions of each round."""
    world = World(make_pod(mains=("a", "b"), inits=("i1", "s*", "i2")))
    for _ in range(200):
        world.crash_before = again
        world.step()
        world.crash_before = None
        world.kill_server()
        world.run()
        for one in list(world.alive().values()):
            if one.name in ("i1", "i2"):
                world.exit(one.id, 0)
        if "a" in world.alive():
            break
    order = [action.name for _, action in world.log if isinstance(action, StartContainer)]
    assert order == ["i1", "s", "i2", "a", "b"]


def test_S_SIDECAR_gates_the_next_until_it_runs() -> None:
    pod = {"inits": ("s*", "i")}
    assert starts(pod, seen()) == ["s"]
    assert starts(pod, seen(instance("s", "starting"))) == []
    assert starts(pod, seen(instance("s"))) == ["i"]
    assert starts(pod, seen(instance("s", "exited", code=1))) == ["s"]


def test_S_SIDECAR_that_dies_later_does_not_hold_the_others_up() -> None:
    pod = {"inits": ("s*", "i1", "i2")}
    backing_off = {"s": ContainerLedger(starts=2, backoff_s=20, last_start_at=T0)}
    died = instance("s", "exited", attempt=1, code=1, finished=T0 + 1)
    assert starts(pod, seen(died, instance("i1"), ledgers=backing_off)) == []
    assert starts(pod, seen(died, instance("i1", "exited"), ledgers=backing_off)) == ["i2"]
    assert starts(pod, seen(died, instance("i1", "exited"), ledgers=backing_off), T0 + 30) == ["s", "i2"]


@pytest.mark.parametrize("policy", ["Always", "OnFailure", "Never"])
@pytest.mark.parametrize("code", [0, 1])
def test_S_SIDECAR_is_always_restarted_while_a_main_is_left(policy: str, code: int) -> None:
    observed = seen(instance("s", "exited", code=code), instance("app"))
    assert starts({"inits": ("s*",), "policy": policy}, observed) == ["s"]


def test_S_SIDECAR_is_restarted_while_a_main_waits_for_its_back_off() -> None:
    ledgers = {"app": ContainerLedger(starts=3, restart_count=2, backoff_s=20, last_start_at=T0)}
    observed = seen(instance("s", "exited", code=1), instance("app", "exited", attempt=2, code=1), ledgers=ledgers)
    assert starts({"inits": ("s*",)}, observed) == ["s"]


def test_S_SIDECAR_is_not_restarted_when_no_main_is_left() -> None:
    observed = seen(instance("s", "exited", code=1), instance("app", "exited"))
    actions = decide(make_pod(inits=("s*",), policy="Never"), observed, T0 + 2)
    assert actions == [StopSandbox("all main containers are done")]


def test_S_SIDECAR_exit_codes_do_not_touch_the_phase() -> None:
    world = World(make_pod(inits=("s*",), policy="Never"))
    world.run()
    world.exit("app-0", 0)
    world.run()
    world.exit("s-0", 1)
    world.run()
    assert world.stored_status.phase == "Succeeded"


def test_S_SANDBOX_that_died_is_cleaned_and_made_again_and_inits_rerun() -> None:
    world = World(make_pod(inits=("i",)))
    world.run()
    world.exit("i-0", 0)
    world.advance(5)
    world.kill_shim()
    world.run()
    kinds = [type(action) for _, action in world.log[-3:]]
    assert kinds == [CleanSandbox, CreateSandbox, StartContainer]
    assert world.sandbox.attempt == 1
    assert world.log[-1][1] == StartContainer("container i: restart after exit 0", "i", 1, Role.INIT)
    world.exit("i-1", 0)
    world.run()
    assert world.records["app-1"].alive
    app = world.stored_status.containerStatuses[0]
    assert app.restartCount == 1
    assert app.lastState.terminated is not None
    assert (app.lastState.terminated.exitCode, app.lastState.terminated.reason) == (137, "ContainerStatusUnknown")


@pytest.mark.parametrize(
    ("policy", "code", "phase"),
    [("Never", 0, "Failed"), ("Never", 5, "Failed"), ("OnFailure", 0, None), ("Always", 0, None)],
)
def test_S_SANDBOX_is_not_made_again_for_a_pod_whose_work_is_done(policy: str, code: int, phase: str | None) -> None:
    """One main is done, the other is lost with the sandbox: only a policy that restarts it makes a new one."""
    world = World(make_pod(mains=("done", "lost"), policy=policy))
    world.advance(5)
    if policy != "Always":
        world.exit("done-0", code)
        world.run()
    world.kill_shim()
    world.run()
    if phase is None:
        assert sorted(world.alive()) == (["lost"] if policy == "OnFailure" else ["done", "lost"])
    else:
        assert world.sandbox.state is SandboxState.NONE
        assert world.stored_status.phase == phase
        assert world.sandbox.attempt == 0


def test_S_SANDBOX_dies_after_the_work_is_done() -> None:
    observed = seen(instance("app", "exited"), state=SandboxState.DEAD)
    pod = make_pod(policy="OnFailure")
    assert decide(pod, observed, T0 + 2) == [CleanSandbox("all main containers are done, and its shim is gone")]


@pytest.mark.parametrize("policy", ["Never", "OnFailure"])
def test_S_SANDBOX_is_stopped_once_the_pod_has_finished_and_the_record_stays(policy: str) -> None:
    world = World(make_pod(policy=policy))
    world.run()
    world.exit("app-0", 0)
    world.run()
    world.kill_server()
    world.advance(1000)
    assert isinstance(world.log[-1][1], StopSandbox)
    assert not world.removed
    assert world.stored_status.phase == "Succeeded"
    state = world.stored_status.containerStatuses[0].state.terminated
    assert state is not None
    assert (state.exitCode, state.reason, state.containerID) == (0, "Completed", "nsrun://app-0")


def test_S_PHASE_nothing_starts_in_a_pod_that_has_finished() -> None:
    stop = StopRequest(T0, None, StopCause.REQUEST)
    ledgers = {"app": ContainerLedger(starts=1, last=instance("app", "exited"), stop=stop)}
    none = Observed(sandbox=Sandbox(SandboxState.NONE, 0), ledgers=ledgers, terminal=True)
    assert decide(make_pod(policy="Never"), none, T0 + 9) == []


def test_S_RESTART_a_requested_restart_ignores_the_policy() -> None:
    world = World(make_pod(mains=("app", "other"), policy="Never"))
    world.run()
    world.ask_restart("app")
    world.run()
    assert world.records["app-0"].stop_signal == 15
    assert world.records["other-0"].stop_signal is None
    world.exit("app-0", 143)
    world.run()
    assert sorted(world.alive()) == ["app", "other"]
    assert world.stored_status.phase == "Running"
    world.exit("app-1", 1)
    world.run()
    assert list(world.alive()) == ["other"], "the wish was for one restart"


def test_S_RESTART_a_requested_restart_is_not_lost_with_the_server() -> None:
    world = World(make_pod(policy="Never"))
    world.run()
    world.ask_restart("app")
    world.kill_server()
    world.run()
    world.exit("app-0", 143)
    world.kill_server()
    world.run()
    assert world.records["app-1"].alive
    assert world.stored_status.phase == "Running"


def test_S_KEEP_the_records_of_older_instances_go() -> None:
    world = World(make_pod())
    world.run()
    for attempt in range(3):
        world.exit(f"app-{attempt}", 1)
        world.advance(100)
    assert sorted(world.records) == ["app-3"]
    last = world.memory.ledgers["app"].last
    previous = world.memory.ledgers["app"].previous
    assert last is not None
    assert previous is not None
    assert (last.attempt, previous.attempt) == (2, 1)


def test_S_KEEP_nothing_that_lives_is_forgotten() -> None:
    """Two living instances cannot be; if they are, the older is not simply dropped from sight."""
    observed = seen(instance("app"), instance("app", attempt=1))
    assert decide(make_pod(), observed, T0) == []
