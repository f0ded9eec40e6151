"""Commands in running containers: planned here, run by the shim, with descriptors that only pass through."""

from __future__ import annotations

import asyncio
import errno
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nsrun import native
from nsrun.errors import ConflictError, TimedOutError, UsageError
from nsrun.plan import exec_program
from nsrun.server.choose import running_instance
from nsrun.server.containers import image_of
from nsrun.server.prepared import descriptors, inputs_for
from nsrun.server.values import values_of
from nsrun.shim import ExecRequest, ShimError

ANSWER_S = 10.0
"""How long a shim may take to accept a command; it takes a tenth of a millisecond."""

if TYPE_CHECKING:
    from nsrun.server.control import Request
    from nsrun.server.engine import PodEngine
    from nsrun.spec.model import Container


@dataclass(frozen=True, slots=True)
class Command:
    """A process that enters a running container, as the shim takes it. `slots` are descriptors of the server's own."""

    program: bytes
    clone_flags: int
    join_flags: int
    slots: Sequence[int]


def command_in(
    engine: PodEngine,
    container: Container,
    instance_id: str,
    command: Sequence[str],
    user: str | None = None,
    **more: Any,
) -> Command:
    """The program of a command in an instance of a container.

    Args:
        engine: of the pod.
        container: of its spec.
        instance_id: which instance; it should be running.
        command: argv; nothing is expanded in it.
        user: instead of the container's own.
        more: what `plan.exec_program` takes.

    Raises:
        ImageError: the container's image is gone.
        PlanError: the command cannot be run as its container is.
    """
    image = image_of(engine, container, instance_id)
    objects = values_of(engine.world, engine.pod, container, engine.uid, instance_id)
    program = exec_program(
        engine.pod,
        container,
        inputs_for(engine, container, image, instance_id, objects),
        command,
        user=None if user is None else image.user(user),
        **more,
    )
    return Command(
        program=native.encode(program.ops),
        clone_flags=native.flags(program.clone_flags),
        join_flags=native.flags(program.join_flags),
        slots=descriptors(engine, program, instance_id),
    )


async def execute(engine: PodEngine, request: Request) -> object:
    """pod.exec. All that happens after the shim has accepted goes over the caller's status socket.

    Raises:
        ConflictError: the container does not run.
        UsageError: no command, or descriptors missing.
    """
    tty = request.flag("tty")
    command = request.texts("command")
    if not command:
        raise UsageError("exec needs a command", resolution="nsrun pod exec POD -- COMMAND [ARGUMENT...]")
    if len(request.fds) < (1 if tty else 4):
        raise UsageError(
            f"pod.exec came with {len(request.fds)} descriptors; it needs the status socket"
            + ("" if tty else ", stdin, stdout and stderr")
        )
    instance = running_instance(engine, request.text_or_none("container"))
    shim = engine.shim
    if shim is None:
        raise ConflictError(f'pod "{engine.label}" has no running sandbox')
    container = engine.container(instance.name)
    ready = command_in(
        engine,
        container,
        instance.id,
        command,
        request.text_or_none("user"),
        tty=tty,
        rows=int(request.number_or_none("rows") or 24),
        columns=int(request.number_or_none("columns") or 80),
        env=request.texts("env"),
        workdir=request.text_or_none("workdir"),
    )
    wanted = ExecRequest(
        target=instance.id,
        program=ready.program,
        status_fd=request.fds[0],
        stdio=None if tty else (request.fds[1], request.fds[2], request.fds[3]),
        terminal=tty,
        clone_flags=ready.clone_flags,
        join_flags=ready.join_flags,
        slots=ready.slots,
    )
    where = f'container "{instance.name}" of pod "{engine.label}"'
    try:
        await asyncio.wait_for(shim.exec(wanted), ANSWER_S)
    except TimeoutError:
        raise TimedOutError(
            f"{where}: its shim (pid {engine.link.pid}) did not take the command within {ANSWER_S:g} s",
            details="It is stopped, or the machine is very busy.",
            resolution=f"kill -CONT {engine.link.pid}, or take the pod down: nsrun pod down --force {engine.name}",
        ) from None
    except ShimError as error:
        if error.number not in (errno.ESRCH, errno.ENOENT):
            raise
        raise ConflictError(
            f"{where} has just ended", resolution=f"nsrun pod describe {engine.name} tells how."
        ) from error
    return {"id": secrets.token_hex(8), "container": instance.name}
