"""Rotating the logs of running containers (S-LOG), and removing those of instances that nobody asks for any more (S-KEEP).

What is to be done is decided by `nsrun.reconcile.rotation` from a listing; here it is done. The server may be killed between any two
steps: the shim goes on writing to the file it has open, whatever its name is, and the next server finds by the names what is left to do. It
cannot find out which of two files the shim writes to, so it tells it once more; until then a rotated file counts as unfinished.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import threading
import zlib
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from nsrun.errors import NsrunError, errno_text
from nsrun.reconcile.rotation import COMPRESSED, TEMPORARY, Compress, Remove, Reopen, Rotate, rotation_steps
from nsrun.server import logdir
from nsrun.server.prepared import log_path, open_log
from nsrun.shim import Record, ShimClosedError, ShimError, State
from nsrun.state.files import unlink_if_there

if TYPE_CHECKING:
    from nsrun.server.clock import Timer
    from nsrun.server.engine import PodEngine
    from nsrun.server.world import World

ANSWER_S = 5.0
"""How long a shim may take to open its log anew before the next container gets its turn."""
KEEP_EVERY_S = 60.0
"""How often the logs of instances that are not kept are looked for (the kubelet's ContainerGCPeriod)."""
NICE = 10
"""Compressing gives way to everything else on the machine."""
CHUNK = 1 << 18

_LOG = logging.getLogger("nsrun.rotation")


class Rotation:
    """Looks at all logs now and then.

    Args:
        world: what all pods share; its `log_policy` and clock.
        pods: gives the pods there are.
    """

    def __init__(self, world: World, pods: Callable[[], Iterable[PodEngine]]) -> None:
        self._world = world
        self._pods = pods
        self._timer: Timer | None = None
        self._task: asyncio.Task[None] | None = None
        self._due = 0.0
        self._keep_due = 0.0
        self._packer: ThreadPoolExecutor | None = None
        self._ending = threading.Event()

    def begin(self) -> None:
        """Look now, and from then on each `LogPolicy.every_s` seconds."""
        now = self._world.clock.now()
        self._due, self._keep_due = now, now + KEEP_EVERY_S
        self._tick()

    async def close(self) -> None:
        """Stop. What was being compressed is begun anew by the next server."""
        self._ending.set()
        if self._timer is not None:
            self._timer.cancel()
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        if self._packer is not None:
            self._packer.shutdown(wait=True, cancel_futures=True)

    def _tick(self) -> None:
        now = self._world.clock.now()
        # A clock that was set back does not make for a long pause.
        if now >= self._due or self._due - now > self._world.log_policy.every_s:
            self._due = now + self._world.log_policy.every_s
            if self._task is None or self._task.done():
                self._task = asyncio.get_running_loop().create_task(self._look(now), name="log rotation")
        self._timer = self._world.clock.call_at(self._due, self._tick)

    async def _look(self, now: float) -> None:
        packing: list[Path] = []
        keep = now >= self._keep_due
        if keep:
            self._keep_due = now + KEEP_EVERY_S
        for engine in self._pods():
            if engine.gone:
                continue
            await asyncio.sleep(0)
            if keep:
                self._keep(engine)
            for instance_id in list(engine.mirror.records):
                # As it is now: meanwhile others had their turn.
                record = engine.mirror.records.get(instance_id)
                if record is not None and record.state is State.RUNNING:
                    try:
                        packing += await self._rotate(engine, record, now)
                    except (NsrunError, OSError) as error:
                        _LOG.warning("pod %s: log of %s: %s", engine.label, record.name, error)
        for path in packing:
            await self._compress(path)

    def _keep(self, engine: PodEngine) -> None:
        for name, known in list(engine.ledger.containers.items()):
            if known.last is None:
                continue
            try:
                logdir.drop_before(engine, name, known.last.attempt)
            except OSError as error:
                _LOG.warning("pod %s: old logs of %s: %s", engine.label, name, error)

    async def _rotate(self, engine: PodEngine, record: Record, now: float) -> list[Path]:
        """All but the compressing, which comes after everybody's turn: the files to be compressed.

        Raises:
            OSError, ShimError: a step failed; what is left to do is seen the next time.
        """
        policy = self._world.log_policy
        current = log_path(engine, record.name, record.attempt)
        try:
            size: int | None = os.lstat(current).st_size
        except FileNotFoundError:
            size = None
        settled = record.id in engine.mirror.settled_logs
        if settled and size is not None and not (policy.enabled and size >= policy.max_size):
            return []
        steps = rotation_steps(
            logdir.listing(current.parent),
            record.attempt,
            size,
            now,
            policy,
            settled=settled,
            blocked=engine.mirror.records[record.id].log_error != 0,
        )
        packing: list[Path] = []
        reopened = False
        for step in steps:
            match step:
                case Remove(name):
                    unlink_if_there(current.parent / name)
                case Reopen():
                    await self._reopen(engine, record)
                    reopened = True
                case Rotate(_, to):
                    await self._rename(engine, record, current, current.parent / to)
                    reopened = True
                case Compress(name):
                    packing.append(current.parent / name)
        if not reopened and not settled:
            # Nothing was ever rotated, or all of it is compressed: it writes to the only file there is.
            engine.mirror.settled_logs.add(record.id)
        return packing

    async def _rename(self, engine: PodEngine, record: Record, current: Path, rotated: Path) -> None:
        engine.mirror.settled_logs.discard(record.id)
        os.rename(current, rotated)
        try:
            await self._reopen(engine, record)
        except ShimClosedError:
            # Whether the shim has the new file is not known: the names stay, and it is told again.
            raise
        except (ShimError, OSError) as error:
            if isinstance(error, TimeoutError):
                raise
            # No new file could be made, or the container has ended: nothing is written to it.
            _rename_back(rotated, current)
            if isinstance(error, ShimError) and error.number in (errno.ESRCH, errno.ENOENT):
                return
            raise
        _LOG.debug("pod %s: log of %s rotated to %s", engine.label, record.name, rotated.name)

    async def _reopen(self, engine: PodEngine, record: Record) -> None:
        """Have the shim go on in the file with the log's own name.

        Raises:
            ShimError: ESRCH or ENOENT, nothing will be written any more; ShimClosedError, it is not known whether it did.
            OSError: the file cannot be made; TimeoutError: the shim does not answer, and will do it later.
        """
        shim = engine.shim
        if shim is None:
            raise ShimClosedError("REOPEN", errno.ENOTCONN, engine.label)
        fd = open_log(engine, record.name, record.attempt)
        try:
            await asyncio.wait_for(shim.reopen(record.id, fd), ANSWER_S)
        finally:
            os.close(fd)
        engine.mirror.settled_logs.add(record.id)
        # Whoever follows the log learns of the new file.
        engine.changed.tell()

    async def _compress(self, path: Path) -> None:
        if self._packer is None:
            self._packer = ThreadPoolExecutor(1, "nsrun-gzip", _give_way)
        try:
            await asyncio.get_running_loop().run_in_executor(self._packer, compress, path, self._ending)
        except FileNotFoundError:
            pass  # the pod is gone meanwhile
        except (OSError, zlib.error) as error:
            _LOG.warning("compress %s: %s", path, error)


def _rename_back(rotated: Path, current: Path) -> None:
    with contextlib.suppress(OSError):
        if not current.exists() or current.stat().st_size == 0:
            os.rename(rotated, current)


def _give_way() -> None:
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICE)


def compress(path: Path, ending: threading.Event) -> None:
    """Write `path` anew as `path`.gz and unlink it. The compressed file has its name only once all of it is on the disk.

    Args:
        path: a file that nobody writes to any more.
        ending: when set, it is given up; nothing has changed then.

    Raises:
        OSError: the disk is full or the like; nothing has changed.
    """
    temporary, packed = f"{path}{TEMPORARY}", f"{path}{COMPRESSED}"
    with open(path, "rb", buffering=0) as source:
        mode = os.fstat(source.fileno()).st_mode & 0o777
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, mode)
        try:
            with open(fd, "wb", buffering=0) as target:
                # 31: a gzip header and trailer around it, as gunzip and zcat want them.
                packer = zlib.compressobj(wbits=31)
                while data := source.read(CHUNK):
                    if ending.is_set():
                        raise OSError(errno.ECANCELED, errno_text(errno.ECANCELED), temporary)
                    _write(target.fileno(), packer.compress(data))
                _write(target.fileno(), packer.flush())
                os.fdatasync(target.fileno())
            os.rename(temporary, packed)
        except OSError:
            unlink_if_there(temporary)
            raise
    unlink_if_there(path)


def _write(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
