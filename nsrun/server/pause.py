"""The first process of the PID namespace that the containers of a pod share (shareProcessNamespace): begun with the sandbox, and its end.

To the shim it is an instance like others, of a name that no container can have. Whoever takes over finds it among the shim's records.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
from typing import TYPE_CHECKING

from nsrun import native
from nsrun.plan import PlanError, SandboxInputs, pause_program
from nsrun.server.prepared import descriptors
from nsrun.server.trace import mark
from nsrun.shim import Record, ShimClient, ShimError, StartRequest

if TYPE_CHECKING:
    from nsrun.server.engine import PodEngine

NAME = "-pause"
"""A container's name never begins with a dash."""
END_S = 1.0
"""How long it may take to end, with all that is left in the namespace, before the shim is killed."""
POLL_S = 0.0005


def is_pause(record: Record) -> bool:
    """Whether a record is not of a container."""
    return record.name == NAME


def wanted(engine: PodEngine) -> bool:
    """Whether the pod's containers share a PID namespace."""
    return bool(engine.pod.spec.shareProcessNamespace)


async def begin(engine: PodEngine, client: ShimClient, inputs: SandboxInputs) -> None:
    """Make the namespace, in a shim whose sandbox program has run.

    Raises:
        PlanError: there is no cgroup of version 2.
        ShimError, NsrunError, OSError: it cannot be made.
    """
    world, instance_id = engine.world, secrets.token_hex(32)
    program = pause_program(inputs)
    with contextlib.suppress(FileExistsError):
        os.mkdir(engine.paths.pause, 0o755)
    with contextlib.ExitStack() as stack:
        log_fd = os.open(os.devnull, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
        stack.callback(os.close, log_fd)
        cgroup_fd = world.cgroups.create_container(engine.uid, instance_id)
        if cgroup_fd is None:
            raise PlanError(
                "FailedCreatePodSandBox",
                "shareProcessNamespace needs cgroups of version 2 (an empty tree will do), and there are none",
                details="In a PID namespace that containers share, its cgroup alone holds the processes of one together.",
                resolution="nsrun doctor says what is wrong with cgroups here.",
            )
        stack.callback(os.close, cgroup_fd)
        record = await client.start(
            StartRequest(
                id=instance_id,
                name=NAME,
                attempt=0,
                program=native.encode(program.ops),
                log_fd=log_fd,
                clone_flags=native.flags(program.clone_flags),
                cgroup_fd=cgroup_fd,
                slots=descriptors(engine, program, instance_id),
            )
        )
    engine.mirror.note(record)
    mark(engine.label, "pause")


async def end(engine: PodEngine, client: ShimClient) -> None:
    """SIGKILL to it, and with it to whoever is left in the namespace; returns when the shim has reaped it."""
    pause = engine.mirror.pause
    if pause is None or not pause.alive:
        return
    with contextlib.suppress(ShimError):
        await client.kill(pause.id)
    deadline = asyncio.get_running_loop().time() + END_S
    while not client.closed and asyncio.get_running_loop().time() < deadline:
        now = engine.mirror.pause
        if now is None or not now.alive:
            return
        await asyncio.sleep(POLL_S)
