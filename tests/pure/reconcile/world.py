"""A model of what surrounds `decide`: a kernel with a shim that keeps records, and a server that may be killed.

`World.step` is one round of the server: observe, settle, decide, carry out. Everything that a killed server forgets is in
`World.memory`; everything else stands for files and for the shim. `World` checks at each action what must never happen.
"""

from __future__ import annotations

import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import msgspec

from nsrun.reconcile import decide, request_deletion, request_restart, settle, waiting_after
from nsrun.reconcile.backoff import retry_due
from nsrun.reconcile.ledger import (
    hook_finished,
    hook_started,
    probe_result,
    reset,
    stop_announced,
)
from nsrun.reconcile.model import (
    Action,
    AnnounceStop,
    CleanSandbox,
    ContainerLedger,
    CreateSandbox,
    Deletion,
    ForgetInstance,
    HookKind,
    Instance,
    InstanceState,
    KillContainer,
    Observed,
    PodFailure,
    ProbeKind,
    RemovePod,
    ResetContainers,
    RestartAll,
    Role,
    RunHook,
    Sandbox,
    SandboxState,
    SignalContainer,
    StartContainer,
    StopCause,
    StopSandbox,
    Waiting,
    WakeAt,
)
from nsrun.spec.containers import container_of
from nsrun.spec.model import Container as SpecContainer
from nsrun.spec.model import Pod, PodStatus
from nsrun.status import pod_status
from nsrun.status.phase import TERMINAL

T0 = 1_000_000_000.0


def _read(stored: bytes) -> ContainerLedger:
    return msgspec.json.decode(stored, type=ContainerLedger)


def make_pod(
    mains: Sequence[str] = ("app",),
    inits: Sequence[str] = (),
    policy: str = "Always",
    grace: int | None = None,
    fields: Mapping[str, Mapping[str, object]] | None = None,
    **spec: object,
) -> Pod:
    """A pod; an init container whose name ends in `*` is a sidecar. `fields` has more of each container, by name."""
    containers = [{"name": name, "image": "img"} for name in mains]
    before = [
        {"name": name.rstrip("*"), "image": "img"} | ({"restartPolicy": "Always"} if name.endswith("*") else {})
        for name in inits
    ]
    for container in (*before, *containers):
        container |= (fields or {}).get(str(container["name"]), {})  # type: ignore[arg-type]  # fields of a container
    body = {"containers": containers, "initContainers": before, "restartPolicy": policy} | spec
    if grace is not None:
        body["terminationGracePeriodSeconds"] = grace
    metadata = {"name": "p", "namespace": "ns", "uid": "u-1", "generation": 1}
    return msgspec.convert({"metadata": metadata, "spec": body}, Pod)


def instance(
    name: str,
    state: str = "running",
    *,
    attempt: int = 0,
    started: float | None = T0,
    finished: float | None = None,
    code: int | None = None,
    **more: object,
) -> Instance:
    """An instance with an id made of name and attempt; `state` is a word of InstanceState."""
    if state == "exited" and code is None:
        code = 0
    if state in ("exited", "start-failed", "lost") and finished is None:
        finished = T0 + 1
    return Instance(
        id=f"{name}-{attempt}",
        name=name,
        attempt=attempt,
        state=InstanceState(state),
        started_at=started,
        finished_at=finished,
        exit_code=code,
        **more,  # type: ignore[arg-type]  # keywords of Instance
    )


def seen(*instances: Instance, state: SandboxState = SandboxState.READY, **more: object) -> Observed:
    """An observation with the newest of `instances` per container as current and the others as older."""
    newest: dict[str, Instance] = {}
    for one in sorted(instances, key=lambda item: item.attempt):
        newest[one.name] = one
    return Observed(
        sandbox=Sandbox(state, attempt=0, created_at=T0, ips=("10.1.0.2",)),
        current=newest,
        older=tuple(one for one in instances if newest[one.name] is not one),
        start_time=T0,
        **more,  # type: ignore[arg-type]  # keywords of Observed
    )


@dataclass
class Memory:
    """What a server knows beside the files."""

    ledgers: dict[str, ContainerLedger]
    failure: PodFailure | None = None
    restart_all: RestartAll | None = None
    killed_at: dict[str, float] = field(default_factory=dict)
    signalled: dict[str, tuple[int, float]] = field(default_factory=dict)


@dataclass
class Hook:
    """A lifecycle hook that really runs, or ran."""

    begun: float
    ended: bool = False
    error: str | None = None


@dataclass
class Container:
    """What the checks know of a container, independent of the code under test."""

    made: int = 0
    ends: list[Instance] = field(default_factory=list)
    asked: bool = False
    """A restart was asked for, or its definition changed, and it has not happened yet."""
    reset: bool = False
    """All containers are started anew, it among them."""
    fresh: bool = False
    """Nobody looks back at its earlier instances when the next is begun."""
    backoff: float = 0.0
    """The kubelet's entry: 0 = none."""
    updated: float = 0.0
    """When that entry was made or changed last: a start that looks back at nothing does not touch it."""
    broken: bool = False
    """It cannot be made (its image is missing)."""
    start_fails: bool = False
    slow: bool = False
    """Its process is not there at once: it stays STARTING until `World.started_up`."""


class World:
    """One pod in its surroundings."""

    def __init__(self, pod: Pod) -> None:
        self.pod = pod
        self.now = T0
        self.sandbox = Sandbox()
        self.records: dict[str, Instance] = {}
        self.stored: dict[str, bytes] = {}
        self.stored_status = PodStatus()
        self.stored_failure: PodFailure | None = None
        self.stored_restart_all: RestartAll | None = None
        self.changed: dict[str, int] = {}
        self.tempo = 1.0
        self.clock_was_set = False
        """Times do not mean anything any more: they are not checked."""
        self.begun: dict[str, float] = {}
        """When an instance was begun, by id."""
        self.hooks: dict[tuple[str, HookKind], Hook] = {}
        self.deletion: Deletion | None = None
        self.removed = False
        self.memory = Memory({})
        self.wake_at: float | None = None
        self.log: list[tuple[float, Action]] = []
        self.roles = {
            c.name: Role.SIDECAR if c.restartPolicy == "Always" else Role.INIT for c in pod.spec.initContainers
        }
        self.roles |= {c.name: Role.MAIN for c in pod.spec.containers}
        self.roles |= {c.name: Role.EPHEMERAL for c in pod.spec.ephemeralContainers}
        self.facts = {name: Container() for name in self.roles}
        self.stop_sent_at: dict[str, float] = {}
        self.crash_before: int | None = None
        """Carry out that many actions (a store counts) of the next round, then kill the server."""
        self.ran: set[str] = set()
        """Containers that were running, or are done, in the present sandbox."""

    # what the server does

    def observe(self) -> Observed:
        """What the server can see now."""
        newest: dict[str, Instance] = {}
        for record in sorted(self.records.values(), key=lambda one: one.attempt):
            newest[record.name] = record
        older = tuple(self._overlaid(one) for one in self.records.values() if newest[one.name] is not one)
        return Observed(
            sandbox=self.sandbox,
            current={name: self._overlaid(one) for name, one in newest.items()},
            older=older,
            ledgers=dict(self.memory.ledgers),
            deletion=self.deletion,
            start_time=T0,
            terminal=self.stored_status.phase in TERMINAL,
            host_ips=("192.0.2.1",),
            failure=self.memory.failure,
            restart_all=self.memory.restart_all,
            changed=self.changed,
            tempo=self.tempo,
        )

    def _overlaid(self, record: Instance) -> Instance:
        stop = self.memory.signalled.get(record.id)
        if stop is not None:
            record = replace(record, stop_signal=stop[0], stop_at=stop[1])
        return replace(record, killed_at=self.memory.killed_at.get(record.id))

    def step(self) -> bool:
        """One round of the server; False when there was nothing to do."""
        self._hear_hooks()
        observed = settle(self.pod, self.observe(), self.now)
        assert settle(self.pod, observed, self.now) == observed, "settling twice changes nothing"
        self.memory.ledgers = dict(observed.ledgers)
        self.memory.failure, self.memory.restart_all = observed.failure, observed.restart_all
        if self._crash():
            return True
        self.store()
        self._resume_hooks()
        self._note_started()
        self._publish(observed)
        actions = decide(self.pod, observed, self.now)
        self.wake_at = None
        done = False
        for action in actions:
            if isinstance(action, WakeAt):
                assert action.at > self.now, "a wake-up in the past is a loop"
                assert action is actions[-1]
                self.wake_at = action.at
                continue
            if self._crash():
                return True
            assert action.reason
            self.log.append((self.now, action))
            self._carry_out(action)
            done = True
        return done

    def store(self) -> None:
        """Write the ledger."""
        self.stored = {name: msgspec.json.encode(ledger) for name, ledger in self.memory.ledgers.items()}
        assert {name: _read(data) for name, data in self.stored.items()} == self.memory.ledgers
        self.stored_failure, self.stored_restart_all = self.memory.failure, self.memory.restart_all

    def _hear_hooks(self) -> None:
        """How hooks ended that were not heard of yet."""
        for (id_, kind), hook in self.hooks.items():
            for name, known in self.memory.ledgers.items():
                if hook.ended and known.instance_id == id_:
                    self.memory.ledgers[name] = hook_finished(known, kind, id_, self.now, hook.error)

    def _resume_hooks(self) -> None:
        """What is noted as begun runs, also when the server was killed before it could begin it."""
        for known in self.memory.ledgers.values():
            for kind, run in ((HookKind.POST_START, known.post_start), (HookKind.PRE_STOP, known.pre_stop)):
                if run is not None and run.finished_at is None:
                    self._begin_hook(run.instance_id, kind)

    def _begin_hook(self, id_: str, kind: HookKind) -> None:
        alive = id_ in self.records and self.records[id_].alive and self.sandbox.state is SandboxState.READY
        gone = None if alive else "the container is gone"
        self.hooks.setdefault((id_, kind), Hook(self.now, not alive, gone))

    def _spec(self, name: str) -> SpecContainer:
        return container_of(self.pod, name)

    def _has_hook(self, name: str, kind: HookKind) -> bool:
        lifecycle = self._spec(name).lifecycle
        return lifecycle is not None and getattr(lifecycle, kind.value) is not None

    def _note_started(self) -> None:
        """Which sidecars have had their turn: running, hook done, started up."""
        for record in self.records.values():
            if self.roles[record.name] is not Role.SIDECAR or record.state is not InstanceState.RUNNING:
                continue
            known = self.memory.ledgers.get(record.name, ContainerLedger())
            hook = self.hooks.get((record.id, HookKind.POST_START))
            if self._has_hook(record.name, HookKind.POST_START) and not (hook and hook.ended and hook.error is None):
                continue
            said = known.probes if known.probes is not None and known.probes.instance_id == record.id else None
            if self._spec(record.name).startupProbe is None or (said is not None and said.startup):
                self.ran.add(record.name)

    def _crash(self) -> bool:
        if self.crash_before is None:
            return False
        self.crash_before -= 1
        if self.crash_before >= 0:
            return False
        self.crash_before = None
        self.kill_server()
        return True

    def kill_server(self) -> None:
        """SIGKILL: what was not stored is gone."""
        ledgers = {name: _read(data) for name, data in self.stored.items()}
        self.memory = Memory(ledgers, self.stored_failure, self.stored_restart_all)
        for name, facts in self.facts.items():
            if facts.asked and name not in self.alive():
                # Its definition changed, and it ended before the stop for that was stored: an end like any other.
                facts.asked = name in ledgers and ledgers[name].stop is not None

    def _publish(self, observed: Observed) -> None:
        old = self.stored_status
        status = pod_status(self.pod, observed, self.now, old)
        if old.phase in TERMINAL:
            assert status.phase == old.phase, "a terminal phase is for ever"
        if status.phase in TERMINAL:
            assert not any(one.alive for one in self.records.values()) or self.sandbox.state is not SandboxState.READY
        before = {one.name: one.restartCount for one in (*old.initContainerStatuses, *old.containerStatuses)}
        for one in (*status.initContainerStatuses, *status.containerStatuses):
            assert one.restartCount >= before.get(one.name, 0), "restart counts only grow"
            filled = [part for part in (one.state.waiting, one.state.running, one.state.terminated) if part is not None]
            assert len(filled) == 1
            assert one.state.running is not None or not one.started
            if self.roles[one.name] is not Role.INIT:
                assert one.started or not one.ready
        truth = {condition.type: condition.status for condition in status.conditions}
        parts = [one for one in status.containerStatuses if not one.ready]
        parts += [one for one in status.initContainerStatuses if self.roles[one.name] is Role.SIDECAR and not one.ready]
        over = any(one.reason in ("PodCompleted", "PodFailed") for one in status.conditions)
        assert (truth["Ready"] == "True") == (not parts and not over)
        assert over or status.phase not in TERMINAL
        assert truth["ContainersReady"] == truth["Ready"]
        if truth["Ready"] == "True":
            assert truth["Initialized"] == "True"
        if status.phase == "Running":
            assert all(
                one.state.running or one.state.terminated or one.lastState.terminated
                for one in status.containerStatuses
            )
        self.stored_status = status

    def _carry_out(self, action: Action) -> None:
        match action:
            case CreateSandbox():
                assert self.sandbox.state is SandboxState.NONE
                assert action.attempt == self.sandbox.attempt + 1
                assert self.deletion is None
                assert not self.records
                self.sandbox = Sandbox(SandboxState.READY, action.attempt, self.now, ("10.1.0.2",))
                self.ran = set()
            case CleanSandbox():
                assert self.sandbox.state is SandboxState.DEAD
                self._end_sandbox()
            case StopSandbox():
                assert self.sandbox.state is SandboxState.READY
                assert not any(one.alive for one in self.records.values())
                self._end_sandbox()
            case StartContainer():
                self._start(action)
            case AnnounceStop():
                self._announce(action)
            case RunHook():
                self._run_hook(action)
            case ResetContainers():
                self._reset()
            case SignalContainer():
                self._signal(action)
            case KillContainer():
                self._kill(action)
            case ForgetInstance():
                record = self.records.pop(action.id)
                assert not record.alive
                successor = any(o.name == record.name and o.attempt > record.attempt for o in self.records.values())
                assert successor or _read(self.stored[record.name]).afresh
                self._must_be_stored(record)
            case RemovePod():
                assert self.deletion is not None
                assert self.sandbox.state is SandboxState.NONE
                assert not self.records
                self.removed = True
            case _:
                raise AssertionError(action)

    def _end_sandbox(self) -> None:
        for record in self.records.values():
            self._must_be_stored(record)
        self.records.clear()
        for init in self.pod.spec.initContainers:
            self.facts[init.name].fresh = bool(self.facts[init.name].ends)
        self.sandbox = replace(self.sandbox, state=SandboxState.NONE, ips=())

    def _must_be_stored(self, record: Instance) -> None:
        ledger = _read(self.stored[record.name])
        assert ledger.last is not None
        assert ledger.last.attempt >= record.attempt, "what is removed is in the stored ledger"

    def _start(self, action: StartContainer) -> None:
        facts = self.facts[action.name]
        if facts.ends and facts.ends[-1].state is InstanceState.LOST and not facts.reset:
            # When a lost container ended is when the server noticed, and that has to be remembered.
            ledger = _read(self.stored[action.name])
            assert ledger.last is not None
            facts.ends[-1] = replace(facts.ends[-1], finished_at=ledger.last.finished_at)
        assert self.sandbox.state is SandboxState.READY
        assert self.deletion is None, "nothing starts after deletion"
        assert self.memory.failure is None, "nothing starts in a pod that has failed"
        assert self.memory.restart_all is None, "nothing starts before all are reset"
        assert self.stored_status.phase not in TERMINAL, "nothing starts after the end"
        role = self.roles[action.name]
        assert action.role is role
        assert not any(one.name == action.name and one.alive for one in self.records.values()), "never two instances"
        assert action.attempt == facts.made, "attempts are numbered without gaps"
        if role is Role.EPHEMERAL:
            assert facts.made == 0, "an ephemeral container is started once"
        else:
            self._check_order(action.name)
            self._check_policy(action.name, facts)
        looked_at = self._check_back_off(action.name, facts)
        if facts.broken:
            ledger = self.memory.ledgers.get(action.name, ContainerLedger())
            waiting = ledger.waiting
            if waiting is not None and not self.clock_was_set:
                assert retry_due(waiting, self.tempo, self.now) <= self.now
            waiting = waiting_after(waiting, "ErrImageNeverPull", "no such image", self.now)
            self.memory.ledgers[action.name] = replace(ledger, waiting=waiting)
            self.store()
            return
        if looked_at is not None:
            fresh = facts.backoff == 0 or looked_at - facts.updated > 600
            facts.backoff = 10.0 if fresh else min(facts.backoff * 2, 300.0)
            facts.updated = self.now
        facts.asked = facts.fresh = facts.reset = False
        record = Instance(
            id=f"{action.name}-{action.attempt}",
            name=action.name,
            attempt=action.attempt,
            state=InstanceState.RUNNING,
            pid=100,
            started_at=self.now,
        )
        facts.made += 1
        self.records[record.id] = record
        self.begun[record.id] = self.now
        if facts.start_fails:
            end = replace(
                record, state=InstanceState.START_FAILED, started_at=None, finished_at=self.now, exit_code=128
            )
            self._ended(end)
        elif facts.slow:
            self.records[record.id] = replace(record, state=InstanceState.STARTING, started_at=None)
        elif role is not Role.SIDECAR:
            self.ran.add(action.name)

    def _check_order(self, name: str) -> None:
        for init in self.pod.spec.initContainers:
            if init.name == name:
                return
            assert init.name in self.ran, f"{name} started before {init.name} had its turn"
            if self.roles[init.name] is Role.INIT and self.roles[name] is not Role.SIDECAR:
                newest = max((o for o in self.records.values() if o.name == init.name), key=lambda o: o.attempt)
                assert newest.state is InstanceState.EXITED
                assert newest.exit_code == 0
        for main in self.pod.spec.containers:
            if main.name == name:
                return
            one = self.alive().get(main.name)
            if one is not None and self._has_hook(main.name, HookKind.POST_START):
                hook = self.hooks.get((one.id, HookKind.POST_START))
                assert hook is not None and hook.ended and hook.error is None, "the postStart hook before comes first"

    def _check_policy(self, name: str, facts: Container) -> None:
        """The kubelet's ContainerShouldRestart, written down a second time."""
        if not facts.ends or facts.asked or facts.reset or self.roles[name] is Role.SIDECAR:
            return
        last = facts.ends[-1]
        spec = self._spec(name)
        policy = spec.restartPolicy or self.pod.spec.restartPolicy or "Always"
        code = last.exit_code or 0
        again = policy == "Always" or (policy == "OnFailure" and code != 0)
        known = self.memory.ledgers[name].last
        assert known is not None
        if known.stopped_by in (StopCause.LIVENESS, StopCause.STARTUP):
            again = policy != "Never"
        elif last.state is not InstanceState.LOST:
            for rule in spec.restartPolicyRules:
                assert rule.exitCodes is not None
                if (code in rule.exitCodes.values) == (rule.exitCodes.operator == "In"):
                    again = True
                    break
        again_in_sandbox = any(one.name == name for one in self.records.values())
        if self.roles[name] is Role.INIT:
            if again_in_sandbox:
                assert code != 0, "an init that succeeded never reruns in its sandbox"
            assert again or code == 0
        else:
            assert again

    def _check_back_off(self, name: str, facts: Container) -> float | None:
        """The kubelet's arithmetic (doBackOff, client-go flowcontrol.Backoff), written down a second time.

        Returns: the end that it looked at, None when it did not look.
        """
        if not facts.ends or facts.asked or facts.fresh:
            return None
        known = self.memory.ledgers[name].last
        assert known is not None
        ends = [end.finished_at or 0.0 for end in facts.ends[-2:]]
        looked_at, ended = ends[-1], ends[-1]
        if known.stopped_by in (StopCause.LIVENESS, StopCause.STARTUP):
            if len(ends) == 1:
                return None
            if ended - ends[0] >= facts.backoff / self.tempo:
                looked_at = ends[0]
        if self.clock_was_set:
            return looked_at
        if facts.backoff and looked_at - facts.updated <= 600:
            assert self.now - looked_at >= facts.backoff / self.tempo - 1e-6, "started before the back-off was over"
        return looked_at

    def _announce(self, action: AnnounceStop) -> None:
        assert self.records[action.id].alive
        known = self.memory.ledgers[action.name]
        assert known.announced != action.id, "one announcement"
        self.memory.ledgers[action.name] = stop_announced(known, action.id)

    def _run_hook(self, action: RunHook) -> None:
        record = self.records[action.id]
        assert record.alive
        assert self._has_hook(action.name, action.hook)
        assert (action.id, action.hook) not in self.hooks, "a hook runs once per instance"
        if action.hook is HookKind.POST_START:
            assert record.state is InstanceState.RUNNING
            assert self.deletion is None
        else:
            assert self.memory.ledgers[action.name].announced == action.id
            assert record.stop_at is None
        known = hook_started(self.memory.ledgers[action.name], action.hook, action.id, self.now)
        self.memory.ledgers[action.name] = known
        self.store()
        if not self._crash():
            self._begin_hook(action.id, action.hook)

    def _reset(self) -> None:
        counted = [name for name, role in self.roles.items() if role is not Role.EPHEMERAL]
        assert not any(one.name in counted for one in self.alive().values()), "all are dead first"
        assert self.deletion is None
        assert self.memory.restart_all is not None
        self.memory.ledgers = reset(self.memory.ledgers, counted)
        self.memory.restart_all = None
        self.store()
        self.ran = set()
        for name in counted:
            facts = self.facts[name]
            facts.fresh = facts.reset = bool(facts.ends)
            facts.asked = False

    def _signal(self, action: SignalContainer) -> None:
        record = self.records[action.id]
        assert record.alive
        assert action.signal == signal.SIGTERM
        assert self.memory.ledgers[action.name].announced == action.id, "announced first"
        assert action.id not in self.stop_sent_at, "one stop signal, also after the server was killed"
        if self._has_hook(action.name, HookKind.PRE_STOP):
            hook = self.hooks.get((action.id, HookKind.PRE_STOP))
            assert hook is not None, "the preStop hook comes first"
            noted = self.memory.ledgers[action.name].pre_stop
            assert noted is not None
            # From when it was noted: a server that is killed between that and its beginning takes time from it.
            given = self.now - noted.started_at
            assert hook.ended or self.clock_was_set or given >= min(self._shortest_grace(action.name), 2.0) - 1e-6
        facts = self.facts[action.name]
        requested = self.memory.ledgers[action.name].stop is not None
        if self.roles[action.name] is Role.SIDECAR and not (requested and self.deletion is None):
            alive = [one.name for one in self.records.values() if one.alive]
            mains = [name for name in alive if self.roles[name] is Role.MAIN]
            order = [init.name for init in self.pod.spec.initContainers]
            later = [n for n in alive if self.roles[n] is Role.SIDECAR and order.index(n) > order.index(action.name)]
            if (mains or later) and not self.clock_was_set:
                assert self._grace_over(), "sidecars outlive mains and later sidecars"
        self.memory.signalled[action.id] = (action.signal, self.now)
        self.stop_sent_at[action.id] = self.now
        self.records[record.id] = replace(record, stop_signal=action.signal, stop_at=self.now)
        assert facts.made

    def _shortest_grace(self, name: str) -> float:
        spec = self._spec(name)
        graces = [float(self.pod.spec.terminationGracePeriodSeconds or 0)]
        graces += [
            float(probe.terminationGracePeriodSeconds)
            for probe in (spec.livenessProbe, spec.startupProbe)
            if probe is not None and probe.terminationGracePeriodSeconds is not None
        ]
        if self.deletion is not None:
            graces.append(self.deletion.grace_s)
        return min(graces)

    def _grace_over(self) -> bool:
        """Whether the time of the whole pod's end is over."""
        if self.deletion is not None:
            return self.now >= self.deletion.requested_at + self.deletion.grace_s
        grace = self.pod.spec.terminationGracePeriodSeconds
        grace_s = 30 if grace is None else grace
        if self.memory.failure is not None:
            return self.now >= self.memory.failure.at + grace_s
        ends = [
            f.ends[-1].finished_at for n, f in self.facts.items() if f.ends and self.roles[n] in (Role.MAIN, Role.INIT)
        ]
        return self.now >= max(end for end in ends if end is not None) + grace_s

    def _kill(self, action: KillContainer) -> None:
        record = self.records[action.id]
        assert record.alive
        assert self.memory.ledgers[action.name].announced == action.id, "announced first"
        hurried = self._shortest_grace(action.name) <= 0 or self.memory.restart_all is not None
        if not hurried:
            assert action.id in self.stop_sent_at, "the stop signal comes first"
            left_s = self.now - self.stop_sent_at[action.id]
            assert self.clock_was_set or left_s >= 2.0 - 1e-6, "and leaves at least two seconds"
        self.memory.killed_at[action.id] = self.now
        self.exit(action.id, 137)

    # what others do

    def exit(self, id_: str, code: int) -> None:
        """A container's root process ends, maybe before anybody saw it run."""
        record = self.records[id_]
        if self.roles[record.name] is Role.INIT:
            self.ran.add(record.name)
        self._ended(replace(record, state=InstanceState.EXITED, finished_at=self.now, exit_code=code))

    def started_up(self, id_: str) -> None:
        """The process of a container that was slow to start is there."""
        record = self.records[id_]
        if record.state is InstanceState.STARTING:
            self.records[id_] = replace(record, state=InstanceState.RUNNING, started_at=self.now)
            if self.facts[record.name].updated == self.begun[id_]:
                self.facts[record.name].updated = self.now
            if self.roles[record.name] is not Role.SIDECAR:
                self.ran.add(record.name)

    def _ended(self, end: Instance) -> None:
        self.records[end.id] = end
        self.facts[end.name].ends.append(end)
        self._hooks_die(end.id)

    def _hooks_die(self, id_: str) -> None:
        for (owner, _), hook in self.hooks.items():
            if owner == id_ and not hook.ended:
                hook.ended, hook.error = True, "killed with its container"

    def end_hook(self, pick: int, error: str | None) -> None:
        """A hook ends."""
        running = [hook for _, hook in sorted(self.hooks.items(), key=lambda one: str(one[0])) if not hook.ended]
        if running:
            hook = running[pick % len(running)]
            hook.ended, hook.error = True, error

    def probe_says(self, id_: str, kind: ProbeKind, success: bool) -> None:
        """A probe of a container that runs, and whose postStart hook is done, comes to another result."""
        record = self.records[id_]
        spec = self._spec(record.name)
        probe = {
            ProbeKind.STARTUP: spec.startupProbe,
            ProbeKind.LIVENESS: spec.livenessProbe,
            ProbeKind.READINESS: spec.readinessProbe,
        }[kind]
        known = self.memory.ledgers.get(record.name)
        if probe is None or known is None or record.state is not InstanceState.RUNNING or known.instance_id != id_:
            return
        if self._has_hook(record.name, HookKind.POST_START) and not (
            known.post_start is not None and known.post_start.finished_at is not None and known.post_start.error is None
        ):
            return
        started_up = spec.startupProbe is None or (known.probes is not None and known.probes.startup)
        if kind is not ProbeKind.STARTUP and not started_up:
            return
        self.memory.ledgers[record.name] = probe_result(known, id_, kind, success)

    def redefine(self, name: str) -> None:
        """`pod up` with another image for a container."""
        if self.stored_status.phase in TERMINAL or self.deletion is not None or self.roles[name] is Role.EPHEMERAL:
            return
        observed = settle(self.pod, self.observe(), self.now)
        self.memory.ledgers = dict(observed.ledgers)
        self.memory.failure, self.memory.restart_all = observed.failure, observed.restart_all
        facts = self.facts[name]
        known = self.memory.ledgers.get(name)
        if known is None:
            return
        self.memory.ledgers[name] = replace(known, backoff_s=0.0, waiting=None)
        self.store()
        self.changed = self.changed | {name: known.starts}
        facts.backoff = 0.0
        if name in self.alive() and self.roles[name] is not Role.INIT:
            facts.asked = True
        self.memory.ledgers = dict(settle(self.pod, self.observe(), self.now).ledgers)

    def kill_shim(self) -> None:
        """SIGKILL of the shim: its containers go, their records stay as they were."""
        if self.sandbox.state is SandboxState.READY:
            self.sandbox = replace(self.sandbox, state=SandboxState.DEAD)
            # The server notices at once, though its note of it may be lost again.
            for record in self.records.values():
                if record.alive:
                    lost = replace(record, state=InstanceState.LOST, finished_at=self.now, exit_code=137)
                    self.facts[record.name].ends.append(lost)
                    self._hooks_die(record.id)

    def delete(self, grace_s: float) -> None:
        """`pod down`; a second one can only shorten the time."""
        self.deletion = request_deletion(self.deletion, self.now, grace_s)

    def ask_restart(self, name: str) -> None:
        """`pod restart`, of a running container in a pod that has not finished."""
        if self.stored_status.phase in TERMINAL or self.deletion is not None or self.roles[name] is Role.EPHEMERAL:
            return
        observed = settle(self.pod, self.observe(), self.now)
        instance_ = observed.current.get(name)
        if instance_ is None or not instance_.alive:
            return
        ledgers = dict(observed.ledgers)
        ledgers[name] = request_restart(ledgers[name], self.now)
        self.memory.ledgers = ledgers
        self.memory.failure, self.memory.restart_all = observed.failure, observed.restart_all
        self.store()
        self.facts[name].asked = True

    def sandbox_fails(self) -> None:
        """The next sandbox cannot be made for a while."""
        if self.sandbox.state is SandboxState.NONE:
            waiting = waiting_after(self.sandbox.waiting, "FailedCreatePodSandBox", "no address", self.now)
            self.sandbox = replace(self.sandbox, waiting=waiting)

    # driving

    def run(self, rounds: int = 200) -> None:
        """Let the server work until it has nothing to do now."""
        for _ in range(rounds):
            if self.removed or not self.step():
                return
        raise AssertionError(f"no rest after {rounds} rounds: {self.log[-5:]}")

    def advance(self, seconds: float) -> None:
        """Let time pass, with the server waking up when it wants to."""
        until = self.now + seconds
        self.run()
        while not self.removed and self.wake_at is not None and self.wake_at <= until:
            self.now = self.wake_at
            self.run()
        self.now = until
        self.run()

    def alive(self) -> dict[str, Instance]:
        """The containers that have a process."""
        if self.sandbox.state is not SandboxState.READY:
            return {}
        return {one.name: one for one in self.records.values() if one.alive}

    def started(self, name: str) -> list[float]:
        """When instances of `name` were begun."""
        return [at for at, action in self.log if isinstance(action, StartContainer) and action.name == name]

    def waiting(self, name: str) -> Waiting | None:
        """Why `name` cannot be made."""
        return self.memory.ledgers.get(name, ContainerLedger()).waiting
