"""Situations of a pod in a few words, to write down the kubelet's own tables as facts.

A container is described by one word: `new` (never begun), `starting`, `run`, `ok` (exit 0), a number (that exit code), `lost`,
`unstarted` (the command could not be executed); `again N` is starting once more after exit N, `back-off N` waits for its next
restart after exit N; `before N` ended with N in an earlier sandbox and has not had its turn in this one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from nsrun.reconcile import decide, settle
from nsrun.reconcile.model import (
    CleanSandbox,
    ContainerLedger,
    CreateSandbox,
    Instance,
    KillContainer,
    Observed,
    SandboxState,
    SignalContainer,
    StartContainer,
    StopSandbox,
)
from nsrun.spec.model import Pod
from nsrun.status import pod_status
from tests.pure.reconcile.world import T0, instance, seen

NOW = T0 + 2


def situation(pod: Pod, words: Mapping[str, str], **more: Any) -> Observed:
    """A pod in a ready sandbox, each of its containers as its word says."""
    instances: list[Instance] = []
    ledgers: dict[str, ContainerLedger] = {}
    for name, word in words.items():
        kind, _, code = word.partition(" ")
        match kind:
            case "new":
                pass
            case "run":
                instances.append(instance(name))
            case "starting":
                instances.append(instance(name, "starting", started=None))
            case "lost":
                instances.append(instance(name, "lost"))
            case "unstarted":
                instances.append(instance(name, "start-failed", started=None))
            case "back-off":
                ledgers[name] = ContainerLedger(starts=2, restart_count=1, backoff_s=10.0, last_start_at=T0)
                instances.append(instance(name, "exited", attempt=1, code=int(code)))
            case "again":
                last = instance(name, "exited", code=int(code))
                instances += [last, instance(name, "starting", attempt=1, started=None)]
            case "before":
                instances.append(instance(name, "exited", code=int(code)))
            case _:
                instances.append(instance(name, "exited", code=0 if kind == "ok" else int(kind)))
    observed = seen(*instances, ledgers=ledgers, **more)
    earlier = {name for name, word in words.items() if word.startswith("before")}
    if earlier:
        settled = settle(pod, observed, NOW)
        current = {name: one for name, one in settled.current.items() if name not in earlier}
        observed = replace(settled, current=current)
    return observed


@dataclass(frozen=True)
class Deed:
    """What is done at once: which containers are started and stopped (stop signal or SIGKILL), and whether the sandbox ends."""

    starts: tuple[str, ...] = ()
    stops: tuple[str, ...] = ()
    ends: bool = False


def deed(pod: Pod, situated: Observed | Mapping[str, str], now: float = NOW) -> Deed:
    """What `decide` wants now."""
    observed = situated if isinstance(situated, Observed) else situation(pod, situated)
    actions = decide(pod, settle(pod, observed, now), now)
    return Deed(
        starts=tuple(action.name for action in actions if isinstance(action, StartContainer)),
        stops=tuple(action.name for action in actions if isinstance(action, SignalContainer | KillContainer)),
        ends=any(isinstance(action, StopSandbox) for action in actions),
    )


@dataclass(frozen=True)
class NextSandbox:
    """The sandbox that follows one that died: its number, and the containers that are started in it at once."""

    attempt: int
    starts: tuple[str, ...]


def next_sandbox(pod: Pod, words: Mapping[str, str], attempt: int = 0) -> NextSandbox | None:
    """What becomes of the pod when its sandbox number `attempt` dies in that situation; None: no other is made."""
    observed = situation(pod, words)
    sandbox = replace(observed.sandbox, state=SandboxState.DEAD, attempt=attempt)
    dead = settle(pod, replace(observed, sandbox=sandbox), NOW)
    cleaned = decide(pod, dead, NOW)
    assert [type(action) for action in cleaned] == [CleanSandbox]
    none = replace(dead, sandbox=replace(sandbox, state=SandboxState.NONE, ips=()), current={}, older=())
    made = decide(pod, settle(pod, none, NOW), NOW)
    if not made:
        return None
    assert [type(action) for action in made] == [CreateSandbox]
    assert isinstance(made[0], CreateSandbox)
    ready = replace(none, sandbox=replace(sandbox, state=SandboxState.READY, attempt=made[0].attempt))
    return NextSandbox(made[0].attempt, deed(pod, ready).starts)


def phase(pod: Pod, situated: Observed | Mapping[str, str], now: float = NOW) -> str:
    """The phase of the pod."""
    observed = situated if isinstance(situated, Observed) else situation(pod, situated)
    found = pod_status(pod, observed, now).phase
    assert found is not None
    return found
