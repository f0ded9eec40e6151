"""Adding ephemeral containers to pods that are there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nsrun.errors import ConflictError, UnsupportedError, UsageError
from nsrun.server import changes
from nsrun.spec.ephemeral import with_ephemeral
from nsrun.spec.support import NOT_IMPLEMENTED, unsupported

if TYPE_CHECKING:
    from nsrun.server.control import Request
    from nsrun.server.engine import PodEngine
    from nsrun.spec.model import Pod


def add(engine: PodEngine, request: Request) -> object:
    """pod.debug: on disk, and on its way, when this returns. The same container once more is no change.

    Raises:
        ConflictError: the pod is over, or has another container of this name.
        SpecError: the container is not valid.
        UnsupportedError: it asks for what nsrun cannot do.
    """
    wanted = request.params.get("container")
    if not isinstance(wanted, dict):
        raise UsageError("pod.debug: parameter 'container' must be an object")
    if engine.deleting or engine.finished:
        state = "being taken down" if engine.deleting else f"finished ({engine.phase})"
        raise ConflictError(
            f'pod "{engine.label}" is {state}; no container is started in it any more',
            resolution=f"What it left is told by: nsrun pod describe {engine.name}",
        )
    if engine.static:
        raise ConflictError(
            f'pod "{engine.label}": static pods do not support ephemeral containers',
            resolution="Run a command in one of its containers: nsrun pod exec",
        )
    pod = with_ephemeral(engine.desired, wanted)
    before = {one.name for one in engine.pod.spec.ephemeralContainers}
    for index, container in enumerate(pod.spec.ephemeralContainers):
        if container.name not in before:
            _refuse_unsupported(engine, pod, f"spec.ephemeralContainers[{index}]")
    if pod is not engine.desired:
        changes.extend(engine, pod)
    return {"name": engine.name, "namespace": engine.namespace, "uid": engine.uid, "container": wanted.get("name")}


def _refuse_unsupported(engine: PodEngine, pod: Pod, path: str) -> None:
    refused = [
        f"{one.path}: {one.message}"
        for one in unsupported(pod)
        if one.kind == NOT_IMPLEMENTED and one.path.startswith(path)
    ]
    if refused:
        raise UnsupportedError(
            f'the container for pod "{engine.label}" asks for something that nsrun does not implement yet',
            details="\n".join(refused),
            resolution="Leave it out.",
        )
