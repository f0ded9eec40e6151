"""Log files, handed over as descriptors: what is in them never goes through the server."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from nsrun.errors import ConflictError, NotFoundError
from nsrun.reconcile.model import ContainerLedger, Role
from nsrun.reconcile.order import views_of
from nsrun.reconcile.rotation import LogName, attempts_in, files_of
from nsrun.server import logdir
from nsrun.server.choose import container_name
from nsrun.server.control import FDS_MAX, Answer, Request

if TYPE_CHECKING:
    from nsrun.server.engine import PodEngine


class _File(NamedTuple):
    """A log file of a container, as it is told of."""

    name: LogName
    ended: bool


def _listing(engine: PodEngine, container: str, chosen: Callable[[int], bool]) -> list[_File]:
    """The log files of some instances, oldest first."""
    names = logdir.listing(engine.log_directory / container)
    found: list[_File] = []
    for attempt in filter(chosen, attempts_in(names)):
        ended = _ended(engine, container, attempt)
        found += [_File(name, ended or _complete(engine, container, name)) for name in files_of(names, attempt)]
    return found[-FDS_MAX:]


def _complete(engine: PodEngine, container: str, name: LogName) -> bool:
    """Whether nothing will be added to a file of a living instance: it was rotated, and its shim is known to write to another.

    While the log is blocked, the rest of a line may still have to go into the file in which it was begun.
    """
    if name.compressed or not name.rotated:
        return name.compressed
    for record in engine.mirror.records.values():
        if record.name == container and record.attempt == name.attempt:
            return record.id in engine.mirror.settled_logs and not record.log_error
    return False


def _opened(engine: PodEngine, container: str, files: Sequence[_File]) -> tuple[list[dict[str, Any]], list[int]]:
    """What a client is told of these files, and their descriptors."""
    directory = engine.log_directory / container
    told: list[dict[str, Any]] = []
    fds: list[int] = []
    for file in files:
        name = file.name
        # Meanwhile it may have been compressed, or been one too many.
        for form in (name, name._replace(compressed=True)) if name.rotated and not name.compressed else (name,):
            with contextlib.suppress(FileNotFoundError):
                fds.append(os.open(directory / str(form), os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW))
                told.append({"attempt": name.attempt, "ended": file.ended, "compressed": form.compressed})
                break
    return told, fds


def _ended(engine: PodEngine, name: str, attempt: int) -> bool:
    """Whether nothing will be written to this instance's log any more.

    The file is made before the instance: while nothing is known of that, it is still to come.
    """
    for one in engine.mirror.instances():
        if one.name == name and one.attempt == attempt:
            return not one.alive
    ledger = engine.ledger.containers.get(name)
    return ledger is not None and ledger.last is not None and ledger.last.attempt >= attempt


def _attempt(engine: PodEngine, name: str) -> int | None:
    """The instance whose log is meant: the living one, or the newest that there was; None before the first."""
    alive = engine.mirror.running(name)
    if alive is not None:
        return alive.attempt
    known = engine.ledger.containers.get(name)
    if known is not None and known.last is not None:
        return known.last.attempt
    return max(attempts_in(logdir.listing(engine.log_directory / name)), default=None)


def _previous(engine: PodEngine, name: str) -> int:
    """The instance of the container's lastState (kubelet pkg/kubelet/kubelet_pods.go validateContainerLogStatus).

    Raises:
        NotFoundError: there is none, or its log is not kept any more.
    """
    known = engine.ledger.containers.get(name, ContainerLedger())
    last = known.last
    if engine.mirror.running(name) is None and _terminated(engine, name):
        last = known.previous
    if last is not None and last.attempt in attempts_in(logdir.listing(engine.log_directory / name)):
        return last.attempt
    why = "It has not been restarted, so there is only the log of its first instance."
    if known.starts > 1:
        why = "It is not going to be restarted, and of the instances that ended only the newest one is kept."
    raise NotFoundError(
        f'previous terminated container "{name}" in pod "{engine.label}" not found',
        details=why,
        resolution="Leave --previous out.",
    )


def _terminated(engine: PodEngine, name: str) -> bool:
    """Whether the published status has the container as terminated, not as waiting for its next instance."""
    published = engine.status
    statuses = (*published.initContainerStatuses, *published.containerStatuses, *published.ephemeralContainerStatuses)
    return any(one.name == name and one.state.terminated is not None for one in statuses)


async def logs(engine: PodEngine, request: Request) -> object:
    """pod.logs, with and without follow."""
    name = container_name(engine, request.text_or_none("container"))
    if request.flag("follow"):
        return await _follow(engine, name, request)
    wanted = _previous(engine, name) if request.flag("previous") else _attempt(engine, name)
    if wanted is None and (engine.finished or engine.deleting):
        raise NotFoundError(f'container "{name}" of pod "{engine.label}" never ran; it has no log')
    told, fds = _opened(engine, name, _listing(engine, name, lambda attempt: attempt == wanted))
    return Answer({"container": name, "files": told}, fds)


async def _follow(engine: PodEngine, name: str, request: Request) -> object:
    """All files from the present instance's on, and again whenever there are others; the end when nothing will come.

    Whoever has followed already says from which instance on: several may have come and gone since the server died that it heard of.
    An instance's file is there before its process, and its successor is begun only after its last line was written.
    """
    request.cancellable = True
    first = _attempt(engine, name) or 0
    before_loss = request.number_or_none("first")
    if before_loss is not None:
        first = min(first, int(before_loss))
    listing: list[_File] | None = None
    while True:
        # The end must be looked at before the files: what ends now has all its files already.
        over = engine.gone or _done_for_good(engine, name)
        before, listing = listing, _listing(engine, name, lambda attempt: attempt >= first)
        # Another form of the same is nothing new.
        if before is None or [(*file.name[:2], file.ended) for file in listing] != [
            (*file.name[:2], file.ended) for file in before
        ]:
            told, fds = _opened(engine, name, listing)
            request.event({"container": name, "first": first, "files": told}, fds)
        if over:
            request.event({"ended": True})
            return {}
        await engine.changed.wait()


def _done_for_good(engine: PodEngine, name: str) -> bool:
    """No instance lives and none will come."""
    views = views_of(engine.pod, engine.observed)
    view = next(one for one in (*views.all, *views.ephemerals) if one.name == name)
    if any(one.alive for one in engine.mirror.instances() if one.name == name):
        return False
    if engine.finished or engine.deleting:
        return True
    if view.role is Role.INIT:
        return views.initialized or (view.instance is not None and view.instance.exit_code == 0)
    if view.role is Role.EPHEMERAL:
        return view.ledger.starts > 0
    return not view.wants_instance(engine.pod)


async def attach(engine: PodEngine, request: Request, instance_id: str, name: str) -> object:
    """pod.attach: the container's output to the given descriptors (a second one gets stderr alone), and its input back."""
    container = engine.container(name)
    tty, want = bool(container.tty), request.flag("stdin")
    if want and not container.stdin and not tty:
        raise ConflictError(
            f'container "{name}" of pod "{engine.label}" has no standard input',
            details="Its spec does not have stdin: true, so its input is /dev/null.",
            resolution="Attach without -i, or set stdin: true and run it anew with --replace.",
        )
    shim = engine.shim
    if shim is None:
        raise ConflictError(f'pod "{engine.label}" has no running sandbox')
    output, error = (*request.fds[:2], None, None)[:2]
    fd = await shim.attach(instance_id, output_fd=output, error_fd=error, stdin=want or tty)
    return Answer({"tty": tty, "stdin": want}, [] if fd is None else [fd])
