"""The directories with containers' logs, the links that log collectors follow, and how long both are kept (S-LOG, S-KEEP).

Source: kubelet pkg/kubelet/kuberuntime/legacy.go (the links), kuberuntime_gc.go (one dead instance of each container is kept),
kuberuntime_container.go removeContainerLog.
"""

from __future__ import annotations

import contextlib
import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING

from nsrun.errors import errno_text
from nsrun.reconcile.rotation import next_attempt, parse_name
from nsrun.state.files import remove_tree, unlink_if_there

if TYPE_CHECKING:
    from nsrun.server.engine import PodEngine
    from nsrun.shim import Record
    from nsrun.state.layout import Layout

_LOG = logging.getLogger("nsrun.logs")
_NAME_MAX = 255
_SUFFIX = ".log"


def listing(directory: Path) -> list[str]:
    """The names in a container's log directory; none when there is no such directory."""
    try:
        return os.listdir(directory)
    except FileNotFoundError:
        return []


def count(engine: PodEngine, name: str) -> int:
    """How many instances of a container there were, as far as its log directory tells (calcRestartCountByLogDir)."""
    return next_attempt(listing(engine.log_directory / name))


def link(engine: PodEngine, record: Record) -> None:
    """Make the link to the log of an instance, if it is not there. What prevents it is told of, and harms nobody else."""
    target = str(engine.log_directory / record.name / f"{record.attempt}.log")
    path = _link_path(engine, record.name, record.id)
    try:
        if os.readlink(path) == target:
            return
        os.unlink(path)
    except OSError:
        pass  # the usual case: it is not there
    try:
        try:
            os.symlink(target, path)
        except FileNotFoundError:
            os.makedirs(path.parent, mode=0o755, exist_ok=True)
            os.symlink(target, path)
    except OSError as error:
        _LOG.warning("pod %s: link %s: %s", engine.label, path, errno_text(error.errno or 0))


def drop_before(engine: PodEngine, name: str, first: int) -> None:
    """Remove the logs of all instances of a container before number `first`, and the links to them (S-KEEP)."""
    directory = engine.log_directory / name
    unlinked: set[int] = set()
    for file in sorted(listing(directory)):
        parsed = parse_name(file)
        if parsed is None or parsed.attempt >= first:
            continue
        if parsed.attempt not in unlinked:
            unlinked.add(parsed.attempt)
            _unlink_links(engine, name, str(directory / f"{parsed.attempt}.log"))
        unlink_if_there(directory / file)


def remove(layout: Layout, directory: Path) -> None:
    """Remove the log directory of a pod, after the links into it: a link never outlives what tells whose it is."""
    prefix = f"{directory}/"
    with contextlib.suppress(FileNotFoundError):
        # `<name>_<namespace>_...`, and the directory is `<namespace>_<name>_<uid>`: neither has an underscore in it.
        namespace, name, *_uid = f"{directory.name}__".split("_")
        for entry in os.listdir(layout.log_links):
            if entry.startswith(f"{name}_{namespace}_"):
                with contextlib.suppress(OSError):
                    if os.readlink(layout.log_links / entry).startswith(prefix):
                        os.unlink(layout.log_links / entry)
    remove_tree(directory)


def _link_path(engine: PodEngine, name: str, instance_id: str) -> Path:
    whole = f"{engine.name}_{engine.namespace}_{name}-{instance_id}"
    return engine.world.layout.log_links / (whole[: _NAME_MAX - len(_SUFFIX)] + _SUFFIX)


def _unlink_links(engine: PodEngine, name: str, target: str) -> None:
    links = engine.world.layout.log_links
    prefix = f"{engine.name}_{engine.namespace}_{name}-"[: _NAME_MAX - len(_SUFFIX)]
    for entry in listing(links):
        if entry.startswith(prefix):
            with contextlib.suppress(OSError):
                if os.readlink(links / entry) == target:
                    os.unlink(links / entry)
