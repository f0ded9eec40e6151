"""What there is of a pod: the shim's records and the ledger, put together into one `Observed` and settled."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from nsrun.reconcile import settle
from nsrun.reconcile.model import ContainerLedger, Instance, Observed, Sandbox, SandboxState
from nsrun.server import logdir, pause
from nsrun.shim import read_records, shim_alive
from nsrun.status.events import NORMAL

if TYPE_CHECKING:
    from nsrun.server.engine import PodEngine


def sandbox_state(engine: PodEngine) -> SandboxState:
    """What there is of a sandbox. That its shim cannot be reached now does not make it a dead one: only its lock tells.

    Without the first process of a PID namespace that the containers share, nobody can be started in it any more.
    """
    if engine.ledger.sandbox_ready and (engine.shim is not None or shim_alive(engine.paths.directory)):
        first = engine.mirror.pause
        lost = engine.shim is not None and pause.wanted(engine) and (first is None or not first.alive)
        return SandboxState.DEAD if lost else SandboxState.READY
    return SandboxState.DEAD if engine.paths.shim_lock.exists() else SandboxState.NONE


def observe(engine: PodEngine, now: float) -> Observed:
    """What is, with the ledger brought up to it; the ledger is not stored yet.

    Args:
        engine: the pod; its `observed` is the result.
        now: seconds since the epoch.
    """
    state = sandbox_state(engine)
    if engine.shim is None and state is not SandboxState.NONE:
        # The shim writes each exit down before it tells: what nobody heard, its last words among it, is on disk.
        engine.mirror.take(read_records(engine.paths.directory))
    current, older = _by_age(engine.mirror.instances())
    if state is SandboxState.NONE:
        older.extend(current.values())
        current = {}
    if engine.ledger_lost:
        engine.ledger_lost = False
        _count_on(engine, {one.name for one in engine.mirror.instances()})
    ledger = engine.ledger
    observed = settle(
        engine.pod,
        Observed(
            sandbox=Sandbox(
                state=state,
                attempt=ledger.sandbox_attempt,
                created_at=ledger.sandbox_created_at,
                ips=ledger.ips if state is SandboxState.READY else (),
                waiting=ledger.sandbox_waiting,
            ),
            current=current,
            older=tuple(older),
            ledgers=ledger.containers,
            deletion=engine.wish.deletion,
            start_time=ledger.start_time,
            terminal=ledger.terminal,
            host_ips=engine.world.host_ips(engine.uid),
            failure=ledger.failure,
            restart_all=ledger.restart_all,
            changed=engine.wish.changed,
            tempo=engine.tempo,
            resize=engine.resizer.state,
            unscheduled="" if engine.admitted else engine.placing.message,
        ),
        now,
    )
    if (
        observed.ledgers != ledger.containers
        or observed.failure != ledger.failure
        or observed.restart_all != ledger.restart_all
    ):
        ledger.containers = dict(observed.ledgers)
        if observed.failure is not None and ledger.failure is None:
            engine.note(NORMAL, observed.failure.reason, observed.failure.message)
        ledger.failure = observed.failure
        ledger.restart_all = observed.restart_all
        engine.touch()
    engine.observed = observed
    return observed


def _by_age(instances: list[Instance]) -> tuple[dict[str, Instance], list[Instance]]:
    """The newest of each container by its name, and the others; `instances` are oldest first."""
    current: dict[str, Instance] = {}
    older: list[Instance] = []
    for instance in instances:
        before = current.get(instance.name)
        if before is not None:
            older.append(before)
        current[instance.name] = instance
    return current, older


def _count_on(engine: PodEngine, known: Collection[str]) -> None:
    """Without a ledger: have the numbers of containers that no record tells of go on from their logs (S-KEEP)."""
    spec = engine.pod.spec
    names = [one.name for one in (*spec.initContainers, *spec.containers)]
    names += [one.name for one in spec.ephemeralContainers]
    for name in names:
        starts = 0 if name in known or name in engine.ledger.containers else logdir.count(engine, name)
        if starts:
            engine.ledger.containers[name] = ContainerLedger(starts=starts)
            engine.touch()
