"""Random histories of a pod: whatever happens, the invariants in `world` hold, and in the end the wish is reached."""

from __future__ import annotations

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from nsrun.reconcile.model import InstanceState, RemovePod, Role, SandboxState
from nsrun.status.phase import TERMINAL
from tests.pure.reconcile.world import World, make_pod

CODES = st.sampled_from([0, 0, 1, 137])


class Histories(RuleBasedStateMachine):
    """What can happen to a pod, in any order."""

    world: World

    @initialize(
        mains=st.integers(1, 3),
        inits=st.lists(st.sampled_from(["i", "s*"]), max_size=3),
        policy=st.sampled_from(["Always", "OnFailure", "Never"]),
        grace=st.sampled_from([None, 0, 1, 5]),
    )
    def begin(self, mains: int, inits: list[str], policy: str, grace: int | None) -> None:
        names = [f"{kind[0]}{at}{kind[1:]}" for at, kind in enumerate(inits)]
        self.world = World(make_pod([f"m{at}" for at in range(mains)], names, policy, grace))

    def _some_alive(self, pick: int) -> str | None:
        alive = sorted(one.id for one in self.world.alive().values())
        return alive[pick % len(alive)] if alive else None

    def _some_name(self, pick: int) -> str:
        names = list(self.world.facts)
        return names[pick % len(names)]

    @rule()
    def work(self) -> None:
        if not self.world.removed:
            self.world.run()

    @rule(after=st.integers(0, 4))
    def work_and_die(self, after: int) -> None:
        if not self.world.removed:
            self.world.crash_before = after
            self.world.step()
            self.world.crash_before = None

    @rule()
    def kill_server(self) -> None:
        self.world.kill_server()

    @rule(pick=st.integers(0, 5), code=CODES)
    def container_ends(self, pick: int, code: int) -> None:
        id_ = self._some_alive(pick)
        if id_ is not None:
            self.world.exit(id_, code)

    @rule(pick=st.integers(0, 5), code=CODES)
    def container_ends_and_server_works(self, pick: int, code: int) -> None:
        self.container_ends(pick, code)
        self.work()

    @rule(seconds=st.sampled_from([0.01, 1.0, 9.0, 11.0, 45.0, 299.0, 650.0]))
    def time_passes(self, seconds: float) -> None:
        self.world.now += seconds

    @rule(seconds=st.sampled_from([0.5, 5.0, 30.0, 700.0]))
    def time_passes_while_the_server_works(self, seconds: float) -> None:
        if not self.world.removed:
            self.world.advance(seconds)

    @rule()
    def kill_shim(self) -> None:
        self.world.kill_shim()

    @precondition(lambda self: self.world.now - 1e9 > 20)
    @rule(grace=st.sampled_from([0.0, 1.0, 3.0, 30.0]))
    def delete(self, grace: float) -> None:
        self.world.delete(grace)

    @rule(pick=st.integers(0, 5))
    def ask_restart(self, pick: int) -> None:
        self.world.ask_restart(self._some_name(pick))

    @rule(pick=st.integers(0, 5), broken=st.booleans())
    def image_comes_and_goes(self, pick: int, broken: bool) -> None:
        self.world.facts[self._some_name(pick)].broken = broken

    @rule(pick=st.integers(0, 5), fails=st.booleans())
    def command_comes_and_goes(self, pick: int, fails: bool) -> None:
        self.world.facts[self._some_name(pick)].start_fails = fails

    @rule(pick=st.integers(0, 5), slow=st.booleans())
    def starting_takes_long(self, pick: int, slow: bool) -> None:
        self.world.facts[self._some_name(pick)].slow = slow

    @rule(pick=st.integers(0, 5))
    def started_up(self, pick: int) -> None:
        id_ = self._some_alive(pick)
        if id_ is not None:
            self.world.started_up(id_)

    @rule()
    def sandbox_fails(self) -> None:
        self.world.sandbox_fails()

    @invariant()
    def never_two_instances(self) -> None:
        if not hasattr(self, "world"):
            return
        alive = [one.name for one in self.world.records.values() if one.alive]
        assert len(alive) == len(set(alive))

    def teardown(self) -> None:
        if hasattr(self, "world"):
            reach_the_wish(self.world)


def reach_the_wish(world: World) -> None:
    """From here on all is well: inits succeed, mains run, signals are obeyed. The loop must come to the wished state."""
    for facts in world.facts.values():
        facts.broken = facts.start_fails = facts.slow = False
    for _ in range(60):
        if world.removed:
            break
        for one in world.alive().values():
            world.started_up(one.id)
        world.advance(301.0)
        for one in world.alive().values():
            if world.roles[one.name] is Role.INIT:
                world.exit(one.id, 0)
        world.run()
    if world.deletion is not None:
        assert world.removed
        assert isinstance(world.log[-1][1], RemovePod)
        assert not world.records
        return
    asked = [name for name, facts in world.facts.items() if facts.asked and world.roles[name] is Role.MAIN]
    assert not asked, "a restart that was asked for has happened"
    status = world.stored_status
    if status.phase in TERMINAL:
        assert world.sandbox.state is SandboxState.NONE
        assert not world.records
        assert world.pod.spec.restartPolicy != "Always"
        ends = [facts.ends[-1] for name, facts in world.facts.items() if world.roles[name] is Role.MAIN and facts.ends]
        succeeded = len(ends) == len(world.pod.spec.containers) and all(end.exit_code == 0 for end in ends)
        assert (status.phase == "Succeeded") == succeeded
        return
    assert world.sandbox.state is SandboxState.READY
    alive = world.alive()
    for name, role in world.roles.items():
        facts = world.facts[name]
        if role is Role.SIDECAR:
            assert alive[name].state is InstanceState.RUNNING
        elif role is Role.MAIN and name not in alive:
            policy = world.pod.spec.restartPolicy
            assert policy == "Never" or (policy == "OnFailure" and facts.ends[-1].exit_code == 0)
    assert any(world.roles[name] is Role.MAIN for name in alive)
    assert status.phase == "Running"
    truth = {condition.type: condition.status for condition in status.conditions}
    assert truth["Initialized"] == "True"
    assert (truth["Ready"] == "True") == all(world.roles[name] is Role.INIT or name in alive for name in world.roles)


def test_S_RESTART_S_INIT_S_SIDECAR_S_TERM_S_PHASE_hold_in_any_history() -> None:
    run_state_machine_as_test(
        Histories,
        settings=settings(
            derandomize=True,
            database=None,
            deadline=None,
            max_examples=400,
            stateful_step_count=40,
            suppress_health_check=list(HealthCheck),
        ),
    )
