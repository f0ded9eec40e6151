"""The sandbox of a pod: its shim, namespaces and address; made all or not at all, and taken away without a rest."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import signal
import socket
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from nsrun import native
from nsrun.errors import NsrunError, StepError, brief_of
from nsrun.network.strangers import REASON as FIREWALL_BLOCKS
from nsrun.plan import SandboxInputs, pod_dns, pod_files, pod_limits, sandbox_program
from nsrun.reconcile import waiting_after
from nsrun.server import pause, runtimes
from nsrun.server.trace import mark
from nsrun.shim import ShimClient, ShimError, begin_spawn, shim_alive
from nsrun.state.files import remove_tree, unlink_if_there, write_atomic
from nsrun.state.layout import PRIVATE, PodPaths
from nsrun.status.events import FAILED_CREATE_POD_SANDBOX, NORMAL, SANDBOX_CHANGED, WARNING

if TYPE_CHECKING:
    from nsrun.network import Network
    from nsrun.server.engine import PodEngine

QUIT_S = 5.0
"""How long a shim may take to end after it was told to, before it is killed."""
POLL_S = 0.0005

Ahead = Callable[["PodEngine"], Awaitable[None]]
"""What is done while the network is on its way; the pod's address is known by then."""

_LOG = logging.getLogger("nsrun.sandbox")
_T = TypeVar("_T")


async def create(engine: PodEngine, attempt: int, ahead: Ahead) -> None:
    """Make sandbox number `attempt`. When it fails, nothing of it is left and the ledger says when to try again."""
    now = engine.world.clock.now()
    ledger = engine.ledger
    mark(engine.label, "sandbox")
    if attempt > 0:
        engine.note(NORMAL, SANDBOX_CHANGED, "Pod sandbox changed, it will be killed and re-created.")
    ledger.sandbox_attempt = attempt
    ledger.sandbox_created_at = now
    ledger.sandbox_ready = False
    engine.touch()
    engine.save()
    try:
        await _make(engine, ahead)
    except (NsrunError, OSError) as error:
        _LOG.warning("pod %s: sandbox %d: %s", engine.label, attempt, error)
        await _take_away(engine)
        text = brief_of(error)
        engine.note(WARNING, FAILED_CREATE_POD_SANDBOX, f"Failed to create pod sandbox: {text}")
        ledger.sandbox_waiting = waiting_after(
            ledger.sandbox_waiting, "FailedCreatePodSandBox", text, engine.world.clock.now()
        )
        engine.touch()
        return
    ledger.sandbox_waiting = None
    ledger.sandbox_ready = True
    engine.touch()
    # From here on a new server takes this sandbox over instead of making another one: before anything runs in it.
    try:
        engine.save()
    except StepError:
        await _take_away(engine)
        raise
    mark(engine.label, "sandbox ready")


async def _make(engine: PodEngine, ahead: Ahead) -> None:
    """While the shim starts and makes the namespaces, the address is reserved; while it gets that, `ahead` is at work."""
    world, paths = engine.world, engine.paths
    runtimes.check(world, engine.pod)
    inputs = world.sandbox_inputs(engine.pod, engine.uid, paths)
    parts = _Parts()
    try:
        reserved = None if engine.pod.spec.hostNetwork else parts.begin(_network(engine).reserve(engine.uid))
        await asyncio.sleep(0)
        spawned = begin_spawn(paths.directory, engine.label)
        mark(engine.label, "shim spawned")
        try:
            await _settle(engine, inputs, reserved, parts, ahead)
        finally:
            # Tells why, if it was the shim that failed.
            spawned.wait()
    except BaseException:
        engine.link.lose()
        await parts.end()
        raise


async def _settle(
    engine: PodEngine,
    inputs: SandboxInputs,
    reserved: asyncio.Task[tuple[str, ...]] | None,
    parts: _Parts,
    ahead: Ahead,
) -> None:
    world, paths = engine.world, engine.paths
    program = native.encode(sandbox_program(engine.pod, inputs).ops)
    client = await ShimClient.connect(paths.directory)
    try:
        for directory, mode in ((paths.files, 0o755), (paths.shm, 0o1777)):
            _directory(directory, mode)
        taken = parts.begin(engine.link.take(client))
        made = parts.begin(client.sandbox(program))
        attached = None
        if reserved is not None:
            attached = parts.begin(_attach(engine, made, parts.begin(client.network()), reserved))
        # The requests are with the shim; on the disk, a directory may take a while.
        await asyncio.sleep(0)
        _directory(paths.roots, 0o755)
        world.cgroups.create_pod(engine.uid, pod_limits(engine.pod, world.node))
        engine.ledger.ips = ()
        hosts, resolv = world.host_files()
        if reserved is not None:
            engine.ledger.ips = await reserved
        world.names.changed(engine)
        dns = pod_dns(engine.pod, resolv, await world.names.cluster_dns(engine.pod))
        for reason, text in dns.warnings:
            engine.note(WARNING, reason, text)
        node = world.node
        for name, data in pod_files(engine.pod, engine.ledger.ips, dns, hosts, node.name, node.domain).items():
            write_atomic(paths.files / name, data, mode=0o644)
        await ahead(engine)
        await taken
        await made
        mark(engine.label, "namespaces")
        if pause.wanted(engine):
            await pause.begin(engine, client, inputs)
        if attached is not None:
            await attached
            mark(engine.label, "network")
    except BaseException:
        client.close()
        raise


def _network(engine: PodEngine) -> Network:
    return engine.world.networks.choose(engine.uid, engine.namespace, engine.pod.metadata.annotations)


class _Parts:
    """Parts of one job that are under way at the same time."""

    def __init__(self) -> None:
        self._tasks: list[asyncio.Task[Any]] = []

    def begin(self, work: Coroutine[Any, Any, _T]) -> asyncio.Task[_T]:
        """Begin with a part."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.append(task)
        return task

    async def end(self) -> None:
        """Wait for all, after one has failed: nothing may be made any more when what was made is taken away."""
        await asyncio.gather(*self._tasks, return_exceptions=True)


def _directory(path: Path, mode: int) -> None:
    with contextlib.suppress(FileExistsError):
        os.mkdir(path, PRIVATE)
        os.chmod(path, mode)


async def _attach(
    engine: PodEngine,
    made: asyncio.Task[None],
    asked: asyncio.Task[tuple[int, socket.socket]],
    reserved: asyncio.Task[tuple[str, ...]],
) -> None:
    namespace, netlink = await asked
    try:
        # Asked for in the same breath: if the namespaces could not be made, these descriptors are of the machine's own.
        await made
        await reserved
        mark(engine.label, "attaching")
        network = engine.world.networks.of(engine.uid)
        place = await network.attach(engine.uid, namespace, netlink)
        # A pod that was told to do without IPv6 has less than was reserved.
        engine.ledger.ips = place.in_order(network.config.families)
        for text in network.obstacles:
            engine.note(WARNING, FIREWALL_BLOCKS, text)
    finally:
        os.close(namespace)
        netlink.close()


async def clean(engine: PodEngine, reason: str) -> None:
    """Remove what a dead shim, or a server killed while making a sandbox, left."""
    _LOG.info("pod %s: cleaning up the sandbox: %s", engine.label, reason)
    _keep_exits(engine)
    await _take_away(engine)


async def stop(engine: PodEngine) -> None:
    """End an empty sandbox."""
    _keep_exits(engine)
    patience_s = 0.0
    if engine.shim is not None:
        await pause.end(engine, engine.shim)
    if engine.shim is not None:
        # EBUSY: a command that was executed in a container outlived it (hostPID). It goes with the shim.
        with contextlib.suppress(ShimError, TimeoutError):
            await asyncio.wait_for(engine.shim.quit(), QUIT_S)
            patience_s = QUIT_S
    await _take_away(engine, patience_s)


def _keep_exits(engine: PodEngine) -> None:
    """Store how the instances ended before their records go; of a pod that is deleted nobody will ask any more.

    Raises:
        StepError: the disk is full; the records stay until there is room.
    """
    if not engine.deleting:
        engine.save()


async def release(engine: PodEngine) -> None:
    """The last of a pod: its cgroup and its address, whatever the ledger believes."""
    await _take_away(engine)


async def _take_away(engine: PodEngine, patience_s: float = 0.0) -> None:
    """Shim, processes, cgroups, address and link, files; the lock's file last: without it there is no sandbox.

    Each part is fine with being gone already, so that this can be begun again after a SIGKILL.
    """
    world, paths = engine.world, engine.paths
    engine.link.lose()
    await end_shim(paths, engine.label, patience_s=patience_s)
    mark(engine.label, "shim ended")
    await world.remove_cgroup(engine.uid)
    mark(engine.label, "cgroup removed")
    # Before its address can be another pod's.
    world.names.gone(engine.uid)
    if engine.ledger.ips or world.networks.of(engine.uid).leases.of(engine.uid):
        await world.networks.detach(engine.uid)
        mark(engine.label, "network removed")
    for tree in (paths.roots, paths.containers, paths.jobs, paths.files, paths.shm):
        await clear(tree)
    world.objects.drop_values(engine.uid)
    unlink_if_there(paths.shim_socket)
    engine.drop_all()
    engine.ledger.sandbox_ready = False
    engine.ledger.ips = ()
    engine.touch()
    unlink_if_there(paths.shim_lock)


async def clear(tree: Path) -> None:
    """Remove a directory in a thread: what containers wrote may be much, and a disk may be slow."""
    await asyncio.to_thread(remove_tree, tree)


def kill_shim(paths: PodPaths) -> None:
    """SIGKILL to the pod's shim, if there is one; `end_shim` waits until it is gone."""
    if shim_alive(paths.directory):
        _kill_shim(paths)


async def end_shim(paths: PodPaths, label: str, *, patience_s: float = 0.0) -> None:
    """Wait until no shim holds the lock; after `patience_s` kill the one that does.

    Raises:
        StepError: it survives even that.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + patience_s
    delay, killed = POLL_S, False
    while shim_alive(paths.directory):
        if loop.time() >= deadline:
            if killed:
                raise StepError("end the shim of", label, errno.ETIMEDOUT)
            _kill_shim(paths)
            killed = True
            deadline = loop.time() + QUIT_S
        await asyncio.sleep(delay)
        delay = min(delay * 2, 0.05)


def _kill_shim(paths: PodPaths) -> None:
    """SIGKILL to the process that has the pod's lock open, through a pidfd. Its containers end with it."""
    facts = os.stat(paths.shim_lock)
    wanted = (facts.st_dev, facts.st_ino)
    _kill_shims(lambda pid: _has_open(pid, wanted))


def end_unreachable(pods: Path) -> None:
    """SIGKILL to the shims of which somebody removed the lock, alone or with the directory it was in.

    No server can find, or be kept from making a second one beside, a shim whose lock has no name any more.

    Args:
        pods: the directory with the pods of this server; those of others are left alone.
    """
    for pid in _kill_shims(lambda pid: _lock_removed(pid, f"{pods}/")):
        _LOG.warning("killed the shim %s: its lock below %s was removed", pid, pods)


def _kill_shims(chosen: Callable[[str], bool]) -> list[str]:
    """SIGKILL to those shims, of all on this machine, of which `chosen` says so; their pids."""
    killed = []
    for entry in os.listdir("/proc"):
        if not entry.isdigit() or int(entry) == os.getpid():
            continue
        try:
            if Path(f"/proc/{entry}/comm").read_bytes().strip() != b"nsrun-shim":
                continue
            pidfd = os.pidfd_open(int(entry))
        except OSError:
            continue
        try:
            if chosen(entry):
                signal.pidfd_send_signal(pidfd, signal.SIGKILL)
                killed.append(entry)
        except ProcessLookupError:
            pass
        finally:
            os.close(pidfd)
    return killed


def _lock_removed(pid: str, prefix: str) -> bool:
    with contextlib.suppress(OSError):
        for fd in os.listdir(f"/proc/{pid}/fd"):
            with contextlib.suppress(FileNotFoundError):
                target = os.readlink(f"/proc/{pid}/fd/{fd}")
                if target.startswith(prefix) and target.endswith("/shim.lock (deleted)"):
                    return True
    return False


def _has_open(pid: str, wanted: tuple[int, int]) -> bool:
    with contextlib.suppress(FileNotFoundError, PermissionError):
        for fd in os.listdir(f"/proc/{pid}/fd"):
            with contextlib.suppress(OSError):
                facts = os.stat(f"/proc/{pid}/fd/{fd}")
                if (facts.st_dev, facts.st_ino) == wanted:
                    return True
    return False
