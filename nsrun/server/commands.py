"""Commands in running containers: planned here, run by the shim, with descriptors that only pass through."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

from nsrun import native
from nsrun.errors import ConflictError, UsageError
from nsrun.plan import exec_program
from nsrun.server.choose import running_instance
from nsrun.server.containers import resolve
from nsrun.server.prepared import inputs_for
from nsrun.shim import ExecRequest

if TYPE_CHECKING:
    from nsrun.server.control import Request
    from nsrun.server.engine import PodEngine


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
    image = resolve(engine, container)
    user = request.text_or_none("user")
    program = exec_program(
        engine.pod,
        container,
        inputs_for(engine, container, image, instance.id),
        command,
        tty=tty,
        rows=int(request.number_or_none("rows") or 24),
        columns=int(request.number_or_none("columns") or 80),
        env=request.texts("env"),
        workdir=request.text_or_none("workdir"),
        user=None if user is None else image.user(user),
    )
    await shim.exec(
        ExecRequest(
            target=instance.id,
            program=native.encode(program.ops),
            status_fd=request.fds[0],
            stdio=None if tty else (request.fds[1], request.fds[2], request.fds[3]),
            terminal=tty,
            clone_flags=native.flags(program.clone_flags),
            join_flags=native.flags(program.join_flags),
            slots=[engine.world.descriptor(slot) for slot in program.slots],
        )
    )
    return {"id": secrets.token_hex(8), "container": instance.name}
