"""A model of what surrounds `decide`: a kernel with a shim that keeps records, and a server that may be killed.

`World.step` is one round of the server: observe, settle, decide, carry out. Everything that a killed server forgets is in
`World.memory`; everything else stands for files and for the shim. `World` checks at each action what must never happen.
"""

from __future__ import annotations

import signal
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import msgspec

from nsrun.reconcile import decide, request_deletion, request_restart, settle, waiting_after
from nsrun.reconcile.ledger import from_data, stop_announced, to_data
from nsrun.reconcile.model import (
    Action,
    AnnounceStop,
    CleanSandbox,
    ContainerLedger,
    CreateSandbox,
    Deletion,
    ForgetInstance,
    Instance,
    InstanceState,
    KillContainer,
    Observed,
    RemovePod,
    Role,
    Sandbox,
    SandboxState,
    SignalContainer,
    StartContainer,
    StopSandbox,
    Waiting,
    WakeAt,
)
from nsrun.spec.model import Pod, PodStatus
from nsrun.status import pod_status
from nsrun.status.phase import TERMINAL

T0 = 1_000_000_000.0


def make_pod(
    mains: Sequence[str] = ("app",),
    inits: Sequence[str] = (),
    policy: str = "Always",
    grace: int | None = None,
    **spec: object,
) -> Pod:
    """A pod; an init container whose name ends in `*` is a sidecar."""
    containers = [{"name": name, "image": "img"} for name in mains]
    before = [
        {"name": name.rstrip("*"), "image": "img"} | ({"restartPolicy": "Always"} if name.endswith("*") else {})
        for name in inits
    ]
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
    killed_at: dict[str, float] = field(default_factory=dict)
    signalled: dict[str, tuple[int, float]] = field(default_factory=dict)


@dataclass
class Container:
    """What the checks know of a container, independent of the code under test."""

    made: int = 0
    ends: list[Instance] = field(default_factory=list)
    asked: bool = False
    """A restart was asked for and has not happened yet."""
    fresh: bool = False
    """Nobody looks back at its earlier instances when the next is begun."""
    backoff: float = 0.0
    """The kubelet's entry: 0 = none."""
    updated: float = 0.0
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
        self.stored: dict[str, dict[str, object]] = {}
        self.stored_status = PodStatus()
        self.deletion: Deletion | None = None
        self.removed = False
        self.memory = Memory({})
        self.wake_at: float | None = None
        self.log: list[tuple[float, Action]] = []
        self.roles = {
            c.name: Role.SIDECAR if c.restartPolicy == "Always" else Role.INIT for c in pod.spec.initContainers
        }
        self.roles |= {c.name: Role.MAIN for c in pod.spec.containers}
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
            host_ip="192.0.2.1",
        )

    def _overlaid(self, record: Instance) -> Instance:
        stop = self.memory.signalled.get(record.id)
        if stop is not None:
            record = replace(record, stop_signal=stop[0], stop_at=stop[1])
        return replace(record, killed_at=self.memory.killed_at.get(record.id))

    def step(self) -> bool:
        """One round of the server; False when there was nothing to do."""
        observed = settle(self.pod, self.observe(), self.now)
        assert settle(self.pod, observed, self.now) == observed, "settling twice changes nothing"
        self.memory.ledgers = dict(observed.ledgers)
        changed = {name: to_data(ledger) for name, ledger in observed.ledgers.items()} != self.stored
        if self._crash():
            return True
        if changed:
            self.stored = {name: to_data(ledger) for name, ledger in observed.ledgers.items()}
            assert {name: from_data(data) for name, data in self.stored.items()} == observed.ledgers
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
        self.memory = Memory({name: from_data(data) for name, data in self.stored.items()})

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
            assert (one.state.running is not None) == (one.started is True)
        truth = {condition.type: condition.status for condition in status.conditions}
        parts = [one for one in status.containerStatuses if not one.ready]
        parts += [one for one in status.initContainerStatuses if self.roles[one.name] is Role.SIDECAR and not one.ready]
        assert (truth["Ready"] == "True") == (not parts and status.phase not in TERMINAL)
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
            case SignalContainer():
                self._signal(action)
            case KillContainer():
                self._kill(action)
            case ForgetInstance():
                record = self.records.pop(action.id)
                assert not record.alive
                assert any(one.name == record.name and one.attempt > record.attempt for one in self.records.values())
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
        ledger = from_data(self.stored[record.name])
        assert ledger.last is not None
        assert ledger.last.attempt >= record.attempt, "what is removed is in the stored ledger"

    def _start(self, action: StartContainer) -> None:
        facts = self.facts[action.name]
        if facts.ends and facts.ends[-1].state is InstanceState.LOST:
            # When a lost container ended is when the server noticed, and that has to be remembered.
            ledger = from_data(self.stored[action.name])
            assert ledger.last is not None
            facts.ends[-1] = replace(facts.ends[-1], finished_at=ledger.last.finished_at)
        assert self.sandbox.state is SandboxState.READY
        assert self.deletion is None, "nothing starts after deletion"
        assert self.stored_status.phase not in TERMINAL, "nothing starts after the end"
        assert action.role is self.roles[action.name]
        assert not any(one.name == action.name and one.alive for one in self.records.values()), "never two instances"
        assert action.attempt == facts.made, "attempts are numbered without gaps"
        self._check_order(action.name)
        self._check_policy(action.name, facts)
        self._check_back_off(facts)
        if facts.broken:
            ledger = self.memory.ledgers.get(action.name, ContainerLedger())
            assert ledger.waiting is None or ledger.waiting.retry_at <= self.now
            waiting = waiting_after(ledger.waiting, "ErrImageNeverPull", "no such image", self.now)
            self.memory.ledgers[action.name] = replace(ledger, waiting=waiting)
            self.stored = {name: to_data(one) for name, one in self.memory.ledgers.items()}
            return
        if facts.ends:
            finished_at = facts.ends[-1].finished_at
            assert finished_at is not None
            if finished_at - facts.updated > 600:
                facts.backoff = 0.0
            if not facts.asked and not facts.fresh:
                facts.backoff = min(facts.backoff * 2, 300.0) if facts.backoff else 10.0
        facts.updated = self.now
        facts.asked = facts.fresh = False
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
        if facts.start_fails:
            end = replace(
                record, state=InstanceState.START_FAILED, started_at=None, finished_at=self.now, exit_code=128
            )
            self._ended(end)
        elif facts.slow:
            self.records[record.id] = replace(record, state=InstanceState.STARTING, started_at=None)
        else:
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

    def _check_policy(self, name: str, facts: Container) -> None:
        if not facts.ends or facts.asked or self.roles[name] is Role.SIDECAR:
            return
        last = facts.ends[-1]
        again_in_sandbox = any(one.name == name for one in self.records.values())
        if self.roles[name] is Role.INIT:
            if again_in_sandbox:
                assert last.exit_code != 0, "an init that succeeded never reruns in its sandbox"
            assert last.exit_code == 0 or self.pod.spec.restartPolicy != "Never"
        else:
            assert self.pod.spec.restartPolicy != "Never"
            assert self.pod.spec.restartPolicy == "Always" or last.exit_code != 0

    def _check_back_off(self, facts: Container) -> None:
        """The kubelet's arithmetic (client-go flowcontrol.Backoff), written down a second time."""
        if not facts.ends or facts.asked or facts.fresh or facts.backoff == 0:
            return
        finished_at = facts.ends[-1].finished_at
        assert finished_at is not None
        if finished_at - facts.updated <= 600:
            assert self.now - finished_at >= facts.backoff - 1e-6, "started before the back-off was over"

    def _announce(self, action: AnnounceStop) -> None:
        assert self.records[action.id].alive
        known = self.memory.ledgers[action.name]
        assert known.announced != action.id, "one announcement"
        self.memory.ledgers[action.name] = stop_announced(known, action.id)

    def _signal(self, action: SignalContainer) -> None:
        record = self.records[action.id]
        assert record.alive
        assert action.signal == signal.SIGTERM
        sent = self.memory.signalled.get(action.id)
        assert sent is None, "one stop signal"
        assert action.id not in self.stop_sent_at, "one stop signal, also after the server was killed"
        facts = self.facts[action.name]
        if self.roles[action.name] is Role.SIDECAR and not facts.asked:
            alive = [one.name for one in self.records.values() if one.alive]
            mains = [name for name in alive if self.roles[name] is Role.MAIN]
            order = [init.name for init in self.pod.spec.initContainers]
            later = [n for n in alive if self.roles[n] is Role.SIDECAR and order.index(n) > order.index(action.name)]
            if mains or later:
                assert self._grace_over(), "sidecars outlive mains and later sidecars"
        self.memory.signalled[action.id] = (action.signal, self.now)
        self.stop_sent_at[action.id] = self.now
        self.records[record.id] = replace(record, stop_signal=action.signal, stop_at=self.now)

    def _grace_over(self) -> bool:
        if self.deletion is not None:
            return self.now >= self.deletion.requested_at + self.deletion.grace_s
        ends = [f.ends[-1].finished_at for n, f in self.facts.items() if f.ends and self.roles[n] is not Role.SIDECAR]
        grace = self.pod.spec.terminationGracePeriodSeconds
        return self.now >= max(end for end in ends if end is not None) + (30 if grace is None else grace)

    def _kill(self, action: KillContainer) -> None:
        record = self.records[action.id]
        assert record.alive
        deleted_now = self.deletion is not None and self.deletion.grace_s == 0
        if not deleted_now and self.pod.spec.terminationGracePeriodSeconds != 0:
            assert action.id in self.stop_sent_at, "the stop signal comes first"
            assert self.now - self.stop_sent_at[action.id] >= 2.0 - 1e-6, "and leaves at least two seconds"
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
            self.facts[record.name].updated = self.now
            self.ran.add(record.name)

    def _ended(self, end: Instance) -> None:
        self.records[end.id] = end
        self.facts[end.name].ends.append(end)

    def kill_shim(self) -> None:
        """SIGKILL of the shim: its containers go, their records stay as they were."""
        if self.sandbox.state is SandboxState.READY:
            self.sandbox = replace(self.sandbox, state=SandboxState.DEAD)
            # The server notices at once, though its note of it may be lost again.
            for record in self.records.values():
                if record.alive:
                    lost = replace(record, state=InstanceState.LOST, finished_at=self.now, exit_code=137)
                    self.facts[record.name].ends.append(lost)

    def delete(self, grace_s: float) -> None:
        """`pod down`; a second one can only shorten the time."""
        self.deletion = request_deletion(self.deletion, self.now, grace_s)

    def ask_restart(self, name: str) -> None:
        """`pod restart`, of a running container in a pod that has not finished."""
        if self.stored_status.phase in TERMINAL:
            return
        observed = settle(self.pod, self.observe(), self.now)
        instance_ = observed.current.get(name)
        if instance_ is None or not instance_.alive:
            return
        ledgers = dict(observed.ledgers)
        ledgers[name] = request_restart(ledgers[name], self.now)
        self.memory.ledgers = ledgers
        self.stored = {one: to_data(ledger) for one, ledger in ledgers.items()}
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
