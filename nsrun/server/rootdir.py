"""The root directory of a running container, as a descriptor: for those who copy files into it and out of it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from nsrun.errors import ConflictError
from nsrun.plan.environment import working_directory
from nsrun.server.choose import running_instance
from nsrun.server.containers import image_of
from nsrun.server.control import Answer

if TYPE_CHECKING:
    from nsrun.server.control import Request
    from nsrun.server.engine import PodEngine


def root(engine: PodEngine, request: Request) -> Answer:
    """pod.root: an O_PATH descriptor of a running container's root directory, and who the container runs as.

    The descriptor leads into the container's mounts. Whoever walks from it has to use openat2(2) with RESOLVE_IN_ROOT, as a
    symbolic link in there otherwise leads to the machine's own files.

    Returns:
        container; uid, gid of its process and root_id, the id that its root is, all as this machine counts them; workdir.

    Raises:
        ConflictError: the container does not run. NotFoundError: there is no such container.
    """
    instance = running_instance(engine, request.text_or_none("container"))
    directory = Path("/proc", str(instance.pid))
    try:
        fd = os.open(directory / "root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        status = (directory / "status").read_text(encoding="utf-8", errors="replace")
        # One range for users and groups alike; the first line begins at the container's 0.
        root_id = int((directory / "uid_map").read_text(encoding="ascii").split()[1])
    except (FileNotFoundError, ProcessLookupError) as error:
        raise _ended(engine, instance.name) from error
    # A number that was given away anew in the meantime would be another process's: the shim tells of the end first.
    still = engine.mirror.running(instance.name)
    if still is None or still.id != instance.id:
        os.close(fd)
        raise _ended(engine, instance.name)
    owner = {
        key: int(line.split()[1]) for line in status.splitlines() if (key := line.partition(":")[0]) in ("Uid", "Gid")
    }
    container = engine.container(instance.name)
    workdir = working_directory(container, image_of(engine, container, instance.id).config)
    return Answer(
        {
            "container": instance.name,
            "uid": owner.get("Uid", 0),
            "gid": owner.get("Gid", 0),
            "root_id": root_id,
            "workdir": workdir,
        },
        [fd],
    )


def _ended(engine: PodEngine, name: str) -> ConflictError:
    return ConflictError(f'container "{name}" of pod "{engine.label}" has just ended')
