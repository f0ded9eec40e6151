"""Waiting for a pod: until it runs or is ready, or for what `pod wait --for` names."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from nsrun.errors import NotFoundError, NsrunError, PodFailedError, TimedOutError
from nsrun.status.awaited import Awaited, Created, Deleted
from nsrun.status.events import FAILED_MOUNT
from nsrun.waiting import HOPELESS

if TYPE_CHECKING:
    from nsrun.server.engine import PodEngine
    from nsrun.server.pods import Registry

Condition = Callable[["PodEngine"], bool]


async def until(engine: PodEngine, condition: Condition, timeout_s: float | None, what: str) -> None:
    """Return once `condition` holds.

    Raises:
        TimedOutError: it did not come about in time; says what the pod does instead.
    """

    async def loop() -> None:
        while not condition(engine):
            await engine.changed.wait()

    try:
        await asyncio.wait_for(loop(), timeout_s)
    except TimeoutError:
        raise TimedOutError(
            f'pod "{engine.label}" was not {what} after {timeout_s:g} s: {in_words(engine)}',
            resolution=f"The pod goes on. Look at it: nsrun pod describe {engine.name}",
        ) from None


def in_words(engine: PodEngine) -> str:
    """Phase, and what each container that does not run does."""
    why = ": ".join(filter(None, (engine.status.reason, engine.status.message)))
    parts = [f"phase {engine.phase}" + (f" ({why})" if why else "")]
    for status in (*engine.status.initContainerStatuses, *engine.status.containerStatuses):
        if status.state.waiting is not None:
            message = f" ({status.state.waiting.message})" if status.state.waiting.message else ""
            parts.append(f"container {status.name} waits: {status.state.waiting.reason}{message}")
        elif status.state.terminated is not None and status.state.terminated.exitCode != 0:
            end = status.state.terminated
            words = (end.message or "").strip()
            message = f" ({words})" if words else ""
            parts.append(f"container {status.name} ended: {end.reason}, exit code {end.exitCode}{message}")
    waiting = engine.ledger.sandbox_waiting
    if waiting is not None:
        parts.append(waiting.message if waiting.reason == FAILED_MOUNT else f"sandbox: {waiting.message}")
    if engine.trouble:
        parts.append(engine.trouble)
    return "; ".join(parts)


def up(engine: PodEngine, *, ready: bool) -> bool:
    """Whether the pod has come to what `pod up` waits for.

    Args:
        engine: the pod.
        ready: wait for the condition Ready (or a pod that ran to its end); else for every main to run or have run.

    Raises:
        PodFailedError: it will not get there by itself, and why.
    """
    phase = engine.phase
    if engine.deleting or engine.gone:
        raise PodFailedError(f'pod "{engine.label}" is being taken down')
    if phase == "Succeeded":
        return True
    if phase == "Failed":
        raise _failed(engine)
    statuses = engine.status.containerStatuses
    # Whoever ran can be told about with `pod logs`; waiting, or ended before anybody could look, it is a failure.
    _raise_hopeless(engine)
    if ready:
        return any(one.type == "Ready" and one.status == "True" for one in engine.status.conditions)
    return bool(statuses) and all(
        one.state.running is not None or (one.state.terminated is not None and one.state.terminated.exitCode == 0)
        for one in statuses
    )


def _raise_hopeless(engine: PodEngine) -> None:
    if engine.ledger.sandbox_waiting is not None:
        raise _failed(engine)
    for status in (*engine.status.initContainerStatuses, *engine.status.containerStatuses):
        waiting = status.state.waiting
        if waiting is not None and waiting.reason in HOPELESS:
            raise _failed(engine)
        for end in (status.state.terminated, status.lastState.terminated):
            # A command that cannot be started will not start the next time either.
            if end is not None and end.reason == "StartError" and status.state.running is None:
                raise _failed(engine)


def _failed(engine: PodEngine) -> PodFailedError:
    logs = f"nsrun pod logs {engine.name} shows what they said; " if engine.log_directory.exists() else ""
    return PodFailedError(
        f'pod "{engine.label}" does not come up: {in_words(engine)}',
        resolution=f"{logs}nsrun pod describe {engine.name} tells the whole story; nsrun pod down {engine.name} takes it away.",
    )


async def wait_for(
    pods: Registry,
    keys: Sequence[tuple[str, str]],
    awaited: Awaited,
    timeout_s: float | None,
    on_met: Callable[[str], None],
) -> None:
    """pod.wait: return once each of the pods has come to what is waited for.

    Args:
        pods: all there are.
        keys: namespace and name of those that are waited for.
        awaited: what for.
        timeout_s: for all of them together; 0 looks once, None waits for ever.
        on_met: called with the name of each pod that has come to it.

    Raises:
        NotFoundError: there is no such pod, or it went while it was waited for, and that was not waited for.
        TimedOutError: it did not come about in time.
        UsageError: a path leads to what cannot be compared.
    """
    if not isinstance(awaited, Created | Deleted):
        for key in keys:
            pods.find(*key)

    async def one(namespace: str, name: str) -> None:
        await _one(pods, namespace, name, awaited, look_once=timeout_s == 0)
        on_met(name)

    tasks = [asyncio.ensure_future(one(*key)) for key in keys]
    if not tasks:
        return
    try:
        await asyncio.wait(tasks, timeout=timeout_s or None)
        late = [key for key, task in zip(keys, tasks, strict=True) if not task.done()]
        failures = [failure for task in tasks if task.done() and (failure := task.exception()) is not None]
    finally:
        for task in tasks:
            task.cancel()
    for failure in failures:
        raise failure
    if late:
        raise _late(pods, late, "timed out waiting for the condition on")


async def _one(pods: Registry, namespace: str, name: str, awaited: Awaited, *, look_once: bool) -> None:
    engine = pods.get(namespace, name)
    while engine is None and isinstance(awaited, Created) and not look_once:
        await pods.added.wait()
        engine = pods.get(namespace, name)
    if engine is None:
        if isinstance(awaited, Deleted):
            return
        engine = pods.find(namespace, name)
    while not engine.gone and not awaited.met(engine.pod, engine.status, engine.published.object):
        if look_once:
            raise _late(pods, [(namespace, name)], "condition not met for")
        await engine.changed.wait()
    if engine.gone and not isinstance(awaited, Deleted):
        raise NotFoundError(f'pod "{engine.label}" was taken down while it was waited for')


def _late(pods: Registry, keys: Sequence[tuple[str, str]], words: str) -> NsrunError:
    """In kubectl's words, and what each of the pods does instead."""
    engines = [pods.get(*key) for key in keys]
    return TimedOutError(
        f"{words} {', '.join(f'pods/{name}' for _namespace, name in keys)}",
        details="\n".join(f"{one.label}: {in_words(one)}" for one in engines if one is not None) or None,
        resolution=f"The pods go on. Look at them: nsrun pod describe {keys[0][1]}",
    )
