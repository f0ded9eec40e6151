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

from nsrun.reconcile.model import InstanceState, ProbeKind, RemovePod, Role, SandboxState
from nsrun.spec.model import Pod
from nsrun.status.phase import TERMINAL
from tests.pure.reconcile.world import World, make_pod

EXEC = {"exec": {"command": ["true"]}}


@st.composite
def pods(draw: st.DrawFn) -> Pod:
    """Pods with everything that deciding knows of."""
    inits = [
        f"{kind[0]}{at}{kind[1:]}" for at, kind in enumerate(draw(st.lists(st.sampled_from(["i", "s*"]), max_size=3)))
    ]
    mains = [f"m{at}" for at in range(draw(st.integers(1, 3)))]
    fields: dict[str, dict[str, object]] = {}
    rare = st.sampled_from([False, False, True])
    for name in (*inits, *mains):
        own: dict[str, object] = {}
        sidecar, init = name.endswith("*"), name.startswith("i")
        if not init:
            kinds = [kind for kind in ("postStart", "preStop") if draw(rare)]
            if kinds:
                own["lifecycle"] = dict.fromkeys(kinds, EXEC)
            for kind in ("startupProbe", "livenessProbe", "readinessProbe"):
                if draw(rare):
                    grace_s = draw(st.sampled_from([None, 1, 9])) if kind != "readinessProbe" else None
                    own[kind] = EXEC | ({"terminationGracePeriodSeconds": grace_s} if grace_s else {})
        if not sidecar and draw(rare):
            own["restartPolicy"] = draw(st.sampled_from(["OnFailure", "Never", *([] if init else ["Always"])]))
        if (sidecar or "restartPolicy" in own) and draw(st.booleans()):
            operator = draw(st.sampled_from(["In", "NotIn"]))
            codes = {"operator": operator, "values": [42] if operator == "In" else [0, 1, 42, 88, 137, 128]}
            own["restartPolicyRules"] = [
                {"action": "Restart", "exitCodes": codes},
                {"action": "RestartAllContainers", "exitCodes": {"operator": "In", "values": [88]}},
            ]
        fields[name.rstrip("*")] = own
    more: dict[str, object] = {}
    if draw(rare):
        more["activeDeadlineSeconds"] = draw(st.sampled_from([100, 2000, 20000]))
    if draw(rare):
        more["ephemeralContainers"] = [{"name": "debug", "image": "img"}]
    policy = draw(st.sampled_from(["Always", "OnFailure", "Never"]))
    return make_pod(mains, inits, policy, draw(st.sampled_from([None, 0, 1, 5])), fields, **more)


CODES = st.sampled_from([0, 0, 1, 42, 88, 88])


class Histories(RuleBasedStateMachine):
    """What can happen to a pod, in any order."""

    world: World

    clock_is_bad = False

    @initialize(pod=pods(), tempo=st.sampled_from([1.0, 1.0, 60.0]), clock=st.sampled_from(["good", "good", "bad"]))
    def begin(self, pod: Pod, tempo: float, clock: str) -> None:
        self.world = World(pod)
        self.world.tempo = tempo
        self.clock_is_bad = clock == "bad"

    @rule(pick=st.integers(0, 5), error=st.sampled_from([None, None, "exit 1"]))
    def hook_ends(self, pick: int, error: str | None) -> None:
        self.world.end_hook(pick, error)

    @rule(pick=st.integers(0, 5), error=st.sampled_from([None, None, "exit 1"]))
    def hook_ends_and_server_works(self, pick: int, error: str | None) -> None:
        self.world.end_hook(pick, error)
        self.work()

    @rule(pick=st.integers(0, 5), kind=st.sampled_from(list(ProbeKind)), success=st.booleans())
    def probe_says(self, pick: int, kind: ProbeKind, success: bool) -> None:
        id_ = self._some_alive(pick)
        if id_ is not None:
            self.world.probe_says(id_, kind, success)

    @rule(pick=st.integers(0, 5), kind=st.sampled_from(list(ProbeKind)), success=st.booleans())
    def probe_says_and_server_works(self, pick: int, kind: ProbeKind, success: bool) -> None:
        self.probe_says(pick, kind, success)
        self.work()

    @rule(pick=st.integers(0, 5))
    def redefine(self, pick: int) -> None:
        self.world.redefine(self._some_name(pick))

    @precondition(lambda self: self.clock_is_bad)
    @rule(seconds=st.sampled_from([-7200.0, -20.0, -1.0, 3600.0]))
    def clock_is_set(self, seconds: float) -> None:
        self.world.clock_was_set = True
        self.world.now += seconds

    @precondition(lambda self: self.world.pod.spec.activeDeadlineSeconds is not None)
    @rule(seconds=st.sampled_from([1, 30, 600]))
    def deadline_is_lowered(self, seconds: int) -> None:
        before = self.world.pod.spec.activeDeadlineSeconds
        if before is not None and seconds < before:
            self.world.pod.spec.activeDeadlineSeconds = seconds

    @rule()
    def initialization_goes_well(self) -> None:
        """As far as it comes in one go: hooks end, startup probes and inits succeed."""
        for _ in range(4):
            if self.world.removed:
                return
            self.world.run()
            self.world.end_hook(0, None)
            for one in self.world.alive().values():
                self.world.started_up(one.id)
                self.world.probe_says(one.id, ProbeKind.STARTUP, True)
                if self.world.roles[one.name] is Role.INIT:
                    self.world.exit(one.id, 0)
        self.world.run()

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
    """From here on all is well: inits succeed, mains run, hooks end, probes succeed. The loop must come to the wished state."""
    for facts in world.facts.values():
        facts.broken = facts.start_fails = facts.slow = False
    if world.deletion is not None:
        gone_in_time(world)
        return
    for _ in range(60):
        done = len(world.log)
        for one in world.alive().values():
            world.started_up(one.id)
        for _ in range(3):
            while any(not hook.ended for hook in world.hooks.values()):
                world.end_hook(0, None)
            world.run()
            for one in world.alive().values():
                for kind in (ProbeKind.STARTUP, ProbeKind.READINESS, ProbeKind.LIVENESS):
                    world.probe_says(one.id, kind, True)
            world.run()
        world.advance(301.0)
        for one in world.alive().values():
            if world.roles[one.name] is Role.INIT:
                world.exit(one.id, 0)
        world.run()
        if len(world.log) == done and world.wake_at is None:
            break
    asked = [name for name, facts in world.facts.items() if facts.asked and world.roles[name] is Role.MAIN]
    status = world.stored_status
    if status.phase in TERMINAL:
        assert world.sandbox.state is SandboxState.NONE
        assert not world.records
        ends = [facts.ends[-1] for name, facts in world.facts.items() if world.roles[name] is Role.MAIN and facts.ends]
        succeeded = len(ends) == len(world.pod.spec.containers) and all(end.exit_code == 0 for end in ends)
        if world.memory.failure is not None:
            assert (status.phase, status.reason) == ("Failed", "DeadlineExceeded")
        else:
            assert (status.phase == "Succeeded") == succeeded
            assert not asked, "a restart that was asked for has happened"
        return
    assert world.memory.failure is None
    assert world.memory.restart_all is None
    assert not asked, "a restart that was asked for has happened"
    assert world.sandbox.state is SandboxState.READY
    alive = world.alive()
    for name, role in world.roles.items():
        facts = world.facts[name]
        if role is Role.SIDECAR:
            assert alive[name].state is InstanceState.RUNNING
        elif role is Role.MAIN and name not in alive:
            spec = next(one for one in world.pod.spec.containers if one.name == name)
            policy = spec.restartPolicy or world.pod.spec.restartPolicy
            assert policy == "Never" or (policy == "OnFailure" and facts.ends[-1].exit_code == 0)
        elif role is Role.EPHEMERAL:
            assert facts.made == 1
    assert any(world.roles[name] is Role.MAIN for name in alive)
    assert status.phase == "Running"
    truth = {condition.type: condition.status for condition in status.conditions}
    assert truth["Initialized"] == "True"
    serving = {name for name, role in world.roles.items() if role in (Role.MAIN, Role.SIDECAR)}
    assert (truth["Ready"] == "True") == (serving <= set(alive))


def gone_in_time(world: World) -> None:
    """A pod that is deleted is gone as soon as its time is over, though nobody obeys a signal and no hook ends."""
    assert world.deletion is not None
    left_s = world.deletion.grace_s
    if not world.clock_was_set:
        left_s = max(0.0, world.deletion.requested_at + left_s - world.now)
    # Beyond it: a hook that was not even begun in time, the two seconds for the stop signal, and a second look after SIGKILL.
    world.advance(2 * left_s + 6 if world.clock_was_set else left_s + 6)
    assert world.removed, (world.log[-6:], world.now, world.deletion)
    assert isinstance(world.log[-1][1], RemovePod)
    assert not world.records


def test_S_RESTART_S_RESTARTALL_S_INIT_S_SIDECAR_S_HOOK_S_TERM_S_PHASE_hold_in_any_history() -> None:
    run_state_machine_as_test(
        Histories,
        settings=settings(
            derandomize=True,
            database=None,
            deadline=None,
            max_examples=150,
            stateful_step_count=40,
            suppress_health_check=list(HealthCheck),
        ),
    )
