"""Waiting for a pod: until it runs or is ready, or for what `pod wait --for` names."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from nsrun.errors import NotFoundError, PodFailedError, TimedOutError, UsageError

if TYPE_CHECKING:
    from nsrun.server.engine import PodEngine

HOPELESS = frozenset(
    {
        "CrashLoopBackOff",
        "CreateContainerConfigError",
        "CreateContainerError",
        "ErrImageNeverPull",
        "ErrImagePull",
        "ImageInspectError",
        "ImagePullBackOff",
        "InvalidImageName",
        "RunContainerError",
    }
)
"""Reasons of a waiting container that somebody who waits for the pod wants to hear of at once (S-REASONS)."""

Condition = Callable[["PodEngine"], bool]

_JSONPATH = re.compile(r"^\{?\.?(?P<path>[^{}=]+?)\}?$")
_STEP = re.compile(r"([^.\[\]]+)|\[(\d+)\]|\[\?\(@\.([A-Za-z]+)==\"([^\"]*)\"\)\]")


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
    parts = [f"phase {engine.phase}"]
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
        parts.append(f"sandbox: {waiting.message}")
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


def condition_of(text: str) -> tuple[Condition, str]:
    """What `--for` says, as a function and in words.

    Raises:
        UsageError: it is none of `delete`, `condition=NAME[=STATUS]`, `phase=PHASE`, `jsonpath=PATH=VALUE`.
    """
    word, _, rest = text.partition("=")
    match word:
        case "delete" if not rest:
            return (lambda engine: engine.gone), "deleted"
        case "condition" if rest:
            name, _, wanted = rest.partition("=")
            return _has_condition(name, wanted or "True"), f"{name}={wanted or 'True'}"
        case "phase" if rest:
            return (lambda engine: engine.phase.lower() == rest.lower()), rest
        case "jsonpath" if rest:
            path, equals, value = _split_jsonpath(rest)
            expected = value.strip("'\"") if equals else None
            steps = _steps(path)
            return (lambda engine: _matches(engine.object(), steps, expected)), text.partition("=")[2]
    raise UsageError(
        f"cannot wait for {text!r}",
        resolution="Known: condition=Ready, condition=Ready=False, phase=Succeeded, jsonpath={.status.podIP}, "
        "jsonpath={.status.phase}=Running, delete",
    )


def _has_condition(name: str, wanted: str) -> Condition:
    def holds(engine: PodEngine) -> bool:
        return any(
            one.type.lower() == name.lower() and one.status.lower() == wanted.lower()
            for one in engine.status.conditions
        )

    return holds


def _split_jsonpath(text: str) -> tuple[str, str, str]:
    if text.startswith("{"):
        path, brace, rest = text.partition("}")
        if not brace:
            raise UsageError(f"jsonpath {text!r} has no closing brace")
        return path + brace, rest[:1], rest[1:]
    return text.partition("=")


def _steps(path: str) -> list[str | int | tuple[str, str]]:
    match = _JSONPATH.match(path) if "==" not in path else re.match(r"^\{?\.?(?P<path>.+?)\}?$", path)
    body = match.group("path") if match is not None else ""
    steps: list[str | int | tuple[str, str]] = []
    at = 0
    while at < len(body):
        if body[at] == ".":
            at += 1
            continue
        found = _STEP.match(body, at)
        if found is None:
            steps.clear()
            break
        if found.group(1):
            steps.append(found.group(1))
        elif found.group(2):
            steps.append(int(found.group(2)))
        else:
            steps.append((found.group(3), found.group(4)))
        at = found.end()
    if not steps:
        raise UsageError(
            f"jsonpath {path!r} is not understood",
            resolution='Steps are .name, [number] and [?(@.name=="value")], as in {.status.containerStatuses[0].ready}.',
        )
    return steps


def _matches(value: Any, steps: list[str | int | tuple[str, str]], wanted: str | None) -> bool:
    for step in steps:
        if isinstance(step, str):
            value = value.get(step) if isinstance(value, dict) else None
        elif isinstance(step, int):
            value = value[step] if isinstance(value, list) and step < len(value) else None
        else:
            items = value if isinstance(value, list) else []
            value = next((one for one in items if isinstance(one, dict) and str(one.get(step[0])) == step[1]), None)
        if value is None:
            return False
    if wanted is None:
        return value not in ("", [], {})
    text = str(value).lower() if isinstance(value, bool) else str(value)
    return text == wanted


async def wait_for(engine: PodEngine | None, text: str, timeout_s: float | None, name: str) -> None:
    """pod.wait for one pod; None: there is no such pod.

    Raises:
        NotFoundError: there is no such pod, and its deletion was not what was waited for.
        TimedOutError, UsageError: see `until` and `condition_of`.
    """
    condition, what = condition_of(text)
    if engine is None:
        if text == "delete":
            return
        raise NotFoundError(f'pod "{name}" not found', resolution="nsrun pod ls lists the pods there are.")

    def or_gone(engine: PodEngine) -> bool:
        if condition(engine):
            return True
        if engine.gone:
            raise NotFoundError(f'pod "{engine.label}" was taken down while it was waited for')
        return False

    await until(engine, or_gone, timeout_s, what)
