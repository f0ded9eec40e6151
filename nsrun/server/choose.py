"""Which container of a pod is meant when none is named."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

from nsrun.errors import ConflictError, NotFoundError

if TYPE_CHECKING:
    from nsrun.reconcile.model import Instance
    from nsrun.server.engine import PodEngine

DEFAULT_ANNOTATION = "kubectl.kubernetes.io/default-container"


def names_of(engine: PodEngine) -> list[str]:
    """All containers of the pod: init containers, then mains, then ephemeral ones."""
    spec = engine.pod.spec
    names = [one.name for one in (*spec.initContainers, *spec.containers)]
    return names + [one.name for one in spec.ephemeralContainers]


def container_name(engine: PodEngine, wanted: str | None) -> str:
    """The name of the container that is meant: the one named, the annotated one, or the first main one.

    Raises:
        NotFoundError: the pod has no such container; lists those it has.
    """
    names = names_of(engine)
    if wanted is None:
        annotated = engine.pod.metadata.annotations.get(DEFAULT_ANNOTATION)
        return annotated if annotated in names else engine.pod.spec.containers[0].name
    if wanted in names:
        return wanted
    close = difflib.get_close_matches(wanted, names, n=1)
    raise NotFoundError(
        f'pod "{engine.label}" has no container "{wanted}"',
        details=f"It has: {', '.join(names)}.",
        resolution=f"Did you mean {close[0]}?" if close else None,
    )


def running_instance(engine: PodEngine, wanted: str | None) -> Instance:
    """The running instance of the container that is meant.

    Raises:
        ConflictError: it does not run; says what it does instead.
        NotFoundError: the pod has no such container.
    """
    name = container_name(engine, wanted)
    instance = engine.mirror.running(name)
    if instance is None:
        raise ConflictError(
            f'container "{name}" of pod "{engine.label}" does not run: {state_in_words(engine, name)}',
            resolution=f"nsrun pod describe {engine.name}",
        )
    return instance


def state_in_words(engine: PodEngine, name: str) -> str:
    """What the published status says of a container, in a few words."""
    published = engine.status
    for status in (
        *published.initContainerStatuses,
        *published.containerStatuses,
        *published.ephemeralContainerStatuses,
    ):
        if status.name != name:
            continue
        state = status.state
        if state.running is not None:
            return "running"
        if state.terminated is not None:
            return f"{state.terminated.reason or 'Terminated'}, exit code {state.terminated.exitCode}"
        if state.waiting is not None:
            message = f": {state.waiting.message}" if state.waiting.message else ""
            return f"{state.waiting.reason or 'waiting'}{message}"
    return "not started yet"
