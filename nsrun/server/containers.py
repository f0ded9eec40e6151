"""Instances of containers: made, started, stopped, forgotten."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import secrets
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from nsrun.errors import ConflictError, NsrunError, StepError, brief_of, errno_text
from nsrun.images import Image, ImageError
from nsrun.plan import PlanError
from nsrun.plan.mounts import places
from nsrun.reconcile import decide
from nsrun.reconcile.ledger import stop_announced
from nsrun.reconcile.model import (
    AnnounceStop,
    ContainerLedger,
    ForgetInstance,
    KillContainer,
    SandboxState,
    SignalContainer,
    StartContainer,
)
from nsrun.server import logdir, pause
from nsrun.server.instances import start_error
from nsrun.server.prepared import Prepared, prepare
from nsrun.server.pulls import failed, put_off
from nsrun.server.sandbox import clear
from nsrun.server.trace import mark
from nsrun.server.volumes.image import mounted_for, mounts_images
from nsrun.shim import ShimClosedError, ShimError, ShimStartError, StartFlag, StartRequest, forget_jobs
from nsrun.spec.model import Container
from nsrun.spec.signals import signal_number as signal_by_name
from nsrun.state.files import unlink_if_there
from nsrun.status.events import CREATED, FAILED, KILLING, NORMAL, STARTED, WARNING
from nsrun.waiting import CREATE_CONTAINER_ERROR, ERR_IMAGE_PULL

if TYPE_CHECKING:
    from nsrun.server.engine import PodEngine

_LOG = logging.getLogger("nsrun.containers")


async def start_all(engine: PodEngine, actions: Sequence[StartContainer]) -> None:
    """Start instances together: while the shim is busy with one, the next is prepared.

    Raises:
        NsrunError: the shim went away meanwhile; what it did is seen when it is asked, or from its records.
    """
    results = await asyncio.gather(*(_start(engine, action) for action in actions), return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            raise result


async def _start(engine: PodEngine, action: StartContainer) -> None:
    container = engine.container(action.name)
    mark(engine.label, f"prepare {action.name}")
    try:
        if not await mounted_for(engine, container):
            return  # an image that it mounts is on its way, or cannot be had
        image = engine.pulls.image_for(container)
    except ImageError as error:
        failed(engine, container.name or "", container.image or "", error)
        return
    except PlanError as error:
        _postpone(engine, action.name, error.reason, error.brief)
        return
    except (NsrunError, OSError) as error:
        _postpone(engine, action.name, CREATE_CONTAINER_ERROR, brief_of(error))
        return
    if image is None:
        return  # it is on its way
    ahead = engine.prepared.pop(action.name, None)
    if ahead is not None and not ahead.fits(engine, action, image):
        ahead.close()
        await release(engine, ahead.id)
        ahead = None
    instance_id = secrets.token_hex(32) if ahead is None else ahead.id
    try:
        await _launch(engine, action, container, ahead or prepare(engine, action, container, image, instance_id))
    except PlanError as error:
        _postpone(engine, action.name, error.reason, error.brief)
    except ShimClosedError:
        raise
    except (NsrunError, OSError) as error:
        # Nothing runs and no record tells of it: take back what was made for it.
        await release(engine, instance_id)
        _postpone(engine, action.name, CREATE_CONTAINER_ERROR, brief_of(error))


def image_of(engine: PodEngine, container: Container, instance_id: str) -> Image:
    """The image that an instance was made of: what has its name, or is in the container's definition, may be another one by now.

    Raises:
        ImageError: it is gone, and so is what has its name.
    """
    images, name = engine.world.images, container.image or ""
    named = images.look(name, "IfNotPresent")
    known = engine.ledger.containers.get(container.name)
    wanted = known.image_id if known is not None and known.instance_id == instance_id else ""
    if named is not None and wanted in ("", named.id, named.reference):
        return named
    with contextlib.suppress(NsrunError):
        return images.by_id(wanted)
    if named is None:
        raise ImageError(ERR_IMAGE_PULL, f'the image "{name}" of container "{container.name}" is gone')
    return named


async def _launch(engine: PodEngine, action: StartContainer, container: Container, prepared: Prepared) -> None:
    with contextlib.closing(prepared):
        shim = engine.shim
        if shim is None:
            raise ShimClosedError("START", errno.ENOTCONN, engine.label)
        _remember(engine, container, prepared)
        mark(engine.label, f"start {action.name}")
        engine.note(NORMAL, CREATED, "Container created", action.name)
        with engine.starting:
            try:
                record = await shim.start(
                    StartRequest(
                        id=prepared.id,
                        name=action.name,
                        attempt=action.attempt,
                        program=prepared.program,
                        log_fd=prepared.log_fd,
                        clone_flags=prepared.clone_flags,
                        cgroup_fd=prepared.cgroup_fd,
                        slots=prepared.slots,
                        target=_target(engine, prepared.target) or _namespace(engine),
                        flags=_flags(container),
                    )
                )
                engine.mirror.note(record)
            except ShimClosedError:
                raise
            except ShimError as error:
                # Its START_FAILED record, if there is one, is an instance that ended; it is listed like the others.
                # Noted one by one: a sibling may have ended after the shim made the list and before it is read here.
                for listed in await shim.list():
                    engine.mirror.note(listed)
                if error.number == errno.ESRCH and pause.wanted(engine):
                    await _forget_unborn(engine, prepared.id)
                    return
                if prepared.id not in engine.mirror.records:
                    if prepared.target and error.number in (errno.ESRCH, errno.ENOENT):
                        raise _no_target(prepared.target) from error  # it ended a moment ago
                    raise
                mounts = places(engine.pod, container)
                text = errno_text(error.number)
                if isinstance(error, ShimStartError):
                    text = start_error(error.report, mounts)
                engine.note(WARNING, FAILED, f"Error: {text}", action.name)
                return
    logdir.link(engine, record)
    mark(engine.label, f"started {action.name}")
    engine.note(NORMAL, STARTED, "Container started", action.name)


def _target(engine: PodEngine, name: str) -> str:
    """The id of the instance whose PID namespace is entered.

    Raises:
        ConflictError: there is none that runs (now).
    """
    if not name:
        return ""
    instance = engine.mirror.running(name)
    if instance is None:
        raise _no_target(name)
    return instance.id


def _namespace(engine: PodEngine) -> str:
    """The id of the instance whose PID namespace the containers of the pod share; empty when each has its own."""
    return engine.mirror.pause.id if pause.wanted(engine) and engine.mirror.pause is not None else ""


async def _forget_unborn(engine: PodEngine, instance_id: str) -> None:
    """The first process of the shared PID namespace is ending, of which the shim tells in a moment: this was no start of the container."""
    record = engine.mirror.records.get(instance_id)
    if record is not None and engine.shim is not None:
        with contextlib.suppress(ShimError):
            await engine.shim.forget(instance_id)
    engine.mirror.drop(instance_id)
    await release(engine, instance_id)
    await asyncio.sleep(pause.POLL_S)


def _no_target(name: str) -> ConflictError:
    return ConflictError(f'invalid target container: container "{name}" is not running')


def _flags(container: Container) -> StartFlag:
    flags = StartFlag.NONE
    if container.stdin:
        flags |= StartFlag.STDIN
    if container.stdinOnce:
        flags |= StartFlag.STDIN_ONCE
    if container.tty:
        flags |= StartFlag.TERMINAL
    return flags


def _remember(engine: PodEngine, container: Container, prepared: Prepared) -> None:
    """Note what an instance is made with, for what is asked about it once only its record is left."""
    known = engine.ledger.containers.get(container.name, ContainerLedger())
    image = prepared.image
    own = container.lifecycle.stopSignal if container.lifecycle is not None else None
    stop_signal = (signal_by_name(own) if own else None) or image.stop_signal_number()
    new = replace(known, image_id=image.reference, stop_signal=stop_signal, user=prepared.user)
    if new != known:
        engine.ledger.containers[container.name] = new
        engine.touch()


def _postpone(engine: PodEngine, name: str, reason: str, message: str) -> None:
    engine.note(WARNING, FAILED, f"Error: {message}", name)
    put_off(engine, name, reason, message)


def announce(engine: PodEngine, action: AnnounceStop) -> None:
    """Tell that a container is going to be stopped, once per instance."""
    engine.note(NORMAL, KILLING, action.message, action.name)
    known = engine.ledger.containers[action.name]
    engine.ledger.containers[action.name] = stop_announced(known, action.id)
    # Also when the event is one too many to be told.
    engine.touch()


async def stop(engine: PodEngine, action: SignalContainer) -> None:
    """Send the stop signal, once."""
    if engine.shim is None:
        return
    try:
        await engine.shim.signal(action.id, action.signal, stop=True)
    except ShimClosedError:
        raise
    except ShimError as error:
        if error.number != errno.ESRCH:
            raise
    engine.mirror.signalled(action.id, action.signal, engine.world.clock.now())


async def kill(engine: PodEngine, action: KillContainer) -> None:
    """SIGKILL to everything in a container."""
    if engine.shim is None:
        return
    try:
        await engine.shim.kill(action.id)
    except ShimClosedError:
        raise
    except ShimError as error:
        if error.number != errno.ESRCH:
            raise
    engine.mirror.killed[action.id] = engine.world.clock.now()


async def forget(engine: PodEngine, action: ForgetInstance) -> None:
    """Drop a dead instance that has a successor, once the ledger has it for good (S-KEEP)."""
    engine.save()
    if engine.shim is not None:
        with contextlib.suppress(ShimError):
            await engine.shim.forget(action.id)
    else:
        unlink_if_there(engine.paths.containers / action.id)
    forget_jobs(engine.paths.directory, action.id)
    record = engine.mirror.records.get(action.id)
    engine.mirror.drop(action.id)
    await release(engine, action.id)
    if record is not None:
        # Its own log stays for `pod logs --previous`.
        logdir.drop_before(engine, action.name, record.attempt)


async def prepare_first(engine: PodEngine) -> None:
    """Prepare what will be started once the sandbox is ready.

    What cannot be made is tried again, and told of, by the start.
    """
    ready = replace(engine.observed.sandbox, state=SandboxState.READY, ips=engine.ledger.ips, waiting=None)
    observed = replace(engine.observed, sandbox=ready, current={})
    for action in decide(engine.pod, observed, engine.world.clock.now()):
        if not isinstance(action, StartContainer):
            continue
        # First what can go on meanwhile: the shim's answer, who waits for it, and the network's thread that this one sets to work.
        for _ in range(3):
            await asyncio.sleep(0)
        mark(engine.label, f"ahead {action.name}")
        container = engine.container(action.name)
        instance_id = secrets.token_hex(32)
        try:
            image = engine.world.images.look(container.image or "", container.imagePullPolicy or "")
            if image is not None and not mounts_images(engine.pod, container):
                engine.prepared[action.name] = prepare(engine, action, container, image, instance_id)
        except (NsrunError, OSError):
            await release(engine, instance_id)


async def release(engine: PodEngine, instance_id: str) -> None:
    """Root file system and cgroup of an instance that has no process."""
    await engine.world.remove_cgroup(engine.uid, instance_id)
    engine.world.objects.drop_values(engine.uid, instance_id)
    await clear(engine.paths.root(instance_id))


async def collect_roots(engine: PodEngine) -> None:
    """Remove what a server that was killed made for instances that never came to be."""
    known = {*engine.mirror.records, *(one.id for one in engine.prepared.values())}
    with contextlib.suppress(FileNotFoundError):
        for name in os.listdir(engine.paths.roots):
            if name not in known:
                await release(engine, name)


def signal_number(text: str | float | None) -> int:
    """The number of a signal given as number or name.

    Raises:
        StepError: there is no such signal.
    """
    if isinstance(text, int | float):
        return int(text)
    number = signal_by_name(text or "TERM")
    if number is None:
        raise StepError("find the signal", text or "", errno.EINVAL)
    return number
