"""Log files, handed over as descriptors: what is in them never goes through the server."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

from nsrun.errors import ConflictError, NotFoundError
from nsrun.reconcile.model import Role
from nsrun.reconcile.order import views_of
from nsrun.server.choose import container_name
from nsrun.server.control import FDS_MAX, Answer, Request

if TYPE_CHECKING:
    from nsrun.server.engine import PodEngine


def attempts(engine: PodEngine, name: str) -> list[int]:
    """The numbers of the instances that have a log, in their order."""
    found = set()
    with contextlib.suppress(FileNotFoundError):
        for file in os.listdir(engine.log_directory / name):
            number, dot, _rest = file.partition(".")
            if dot and number.isdigit():
                found.add(int(number))
    return sorted(found)


def _files(engine: PodEngine, name: str, attempt: int) -> list[int]:
    """Open the files of one instance, oldest first: rotated ones carry their time after the name (S-LOG)."""
    directory = engine.log_directory / name
    with contextlib.suppress(FileNotFoundError):
        names = [
            file
            for file in os.listdir(directory)
            if file.startswith(f"{attempt}.log") and not file.endswith((".gz", ".tmp"))
        ]
        # "0.log.20260102-150405" is older than "0.log".
        names.sort(key=lambda file: (file == f"{attempt}.log", file))
        fds = []
        for file in names[-FDS_MAX:]:
            with contextlib.suppress(FileNotFoundError):
                fds.append(os.open(directory / file, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW))
        return fds
    return []


def _ended(engine: PodEngine, name: str, attempt: int) -> bool:
    """Whether nothing will be written to this instance's log any more.

    The file is made before the instance: while nothing is known of that, it is still to come.
    """
    for one in engine.mirror.instances():
        if one.name == name and one.attempt == attempt:
            return not one.alive
    ledger = engine.ledger.containers.get(name)
    return ledger is not None and ledger.last is not None and ledger.last.attempt >= attempt


async def logs(engine: PodEngine, request: Request) -> object:
    """pod.logs, with and without follow."""
    name = container_name(engine, request.text_or_none("container"))
    if request.flag("follow"):
        return await _follow(engine, name, request)
    known = attempts(engine, name)
    if request.flag("previous"):
        if len(known) < 2:
            raise NotFoundError(
                f'previous terminated container "{name}" in pod "{engine.label}" not found',
                details="It has not been restarted, so there is only the log of its first instance.",
                resolution="Leave --previous out.",
            )
        attempt = known[-2]
    elif known:
        attempt = known[-1]
    elif engine.finished or engine.deleting:
        raise NotFoundError(f'container "{name}" of pod "{engine.label}" never ran; it has no log')
    else:
        return {"container": name, "files": []}
    fds = _files(engine, name, attempt)
    ended = _ended(engine, name, attempt)
    return Answer({"container": name, "files": [{"attempt": attempt, "ended": ended}] * len(fds)}, fds)


async def _follow(engine: PodEngine, name: str, request: Request) -> object:
    """The present instance's files at once, each later one's when it begins, and the end when nothing will come.

    An instance's file is there before its process, and its successor is begun only after its last line was written.
    """
    request.cancellable = True
    known = attempts(engine, name)
    sent = known[-1] if known else -1
    fds = _files(engine, name, sent) if known else []
    ended = known != [] and _ended(engine, name, sent)
    request.event({"container": name, "files": [{"attempt": sent, "ended": ended}] * len(fds)}, fds)
    while True:
        # The end must be looked at before the files: what ends now has all its files already.
        over = engine.gone or _done_for_good(engine, name)
        for attempt in attempts(engine, name):
            if attempt > sent:
                for fd in _files(engine, name, attempt):
                    request.event({"file": {"attempt": attempt, "ended": _ended(engine, name, attempt)}}, [fd])
                sent = attempt
        if over:
            request.event({"ended": True})
            return {}
        await engine.changed.wait()


def _done_for_good(engine: PodEngine, name: str) -> bool:
    """No instance lives and none will come."""
    views = views_of(engine.pod, engine.observed)
    view = next(one for one in views.all if one.name == name)
    if any(one.alive for one in engine.mirror.instances() if one.name == name):
        return False
    if engine.finished or engine.deleting:
        return True
    if view.role is Role.INIT:
        return views.initialized or (view.instance is not None and view.instance.exit_code == 0)
    return not view.wants_instance(engine.pod)


async def attach(engine: PodEngine, request: Request, instance_id: str, name: str) -> object:
    """pod.attach: the container's output to the given descriptor, and its input back."""
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
    fd = await shim.attach(instance_id, output_fd=request.fds[0] if request.fds else None, stdin=want or tty)
    return Answer({"tty": tty, "stdin": want}, [] if fd is None else [fd])
