"""One run of a probe: the pod's address and the container's environment brought together with what probes can do."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import signal
from typing import TYPE_CHECKING

from nsrun import native
from nsrun.errors import NsrunError
from nsrun.images import ImageError
from nsrun.plan import PlanError, exec_program
from nsrun.plan.expansion import expand
from nsrun.probes import Outcome, ProbeError, Result
from nsrun.probes.ports import resolve_port
from nsrun.reconcile.model import ProbeKind
from nsrun.server.containers import resolve
from nsrun.server.instances import exec_error
from nsrun.server.prepared import inputs_for
from nsrun.shim import ExecRequest, Report, ShimError
from nsrun.shim.wire import OP_NAMES
from nsrun.spec.model import Container, Probe

if TYPE_CHECKING:
    from nsrun.server.engine import PodEngine


class Groups:
    """The cgroups that one exec probe of a container runs its commands in, below the container's own.

    A cgroup serves until its processes had to be killed: kernels from 6.14 on kill at once whatever is cloned into one that was killed
    (the count of kills is compared with that of the parent's cgroup). It is removed as soon as they are gone, or with the container.
    """

    def __init__(self, engine: PodEngine, kind: ProbeKind) -> None:
        self._engine = engine
        self._kind = kind
        self._current: tuple[str, str] | None = None
        self._killed: list[str] = []

    def open(self, instance_id: str) -> int | None:
        """A descriptor of the one to run in, the caller's; None where there are no cgroups."""
        cgroups = self._engine.world.cgroups
        for group in list(self._killed):
            with contextlib.suppress(NsrunError):
                cgroups.remove_container(self._engine.uid, group, patience=0.0)
                self._killed.remove(group)
        if self._current is None or self._current[0] != instance_id:
            self._current = instance_id, f"{instance_id}/probe-{self._kind.value}-{secrets.token_hex(4)}"
        return cgroups.create_container(self._engine.uid, self._current[1])

    def kill(self, pid: int) -> None:
        """SIGKILL to all that runs in it; without cgroups to the group of `pid` (0: not known), which leads a session of its own."""
        cgroups = self._engine.world.cgroups
        if cgroups.base is None:
            if pid > 0:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(pid, signal.SIGKILL)
            return
        if self._current is not None:
            group, self._current = self._current[1], None
            self._killed.append(group)
            cgroups.kill_container(self._engine.uid, group)


async def run_once(
    engine: PodEngine, container: Container, instance_id: str, probe: Probe, timeout_s: float, groups: Groups
) -> Outcome | None:
    """Run a probe once; None when its container is not there any more."""
    wires = engine.world.wires
    address = engine.ledger.ips[0] if engine.ledger.ips else engine.world.host_ip()
    try:
        if probe.exec is not None:
            return await _exec(engine, container, instance_id, list(probe.exec.command), timeout_s, groups)
        if probe.httpGet is not None:
            from nsrun.probes import http

            return await http.probe(wires, http.request_for(probe.httpGet, container, address), timeout_s)
        if probe.tcpSocket is not None:
            from nsrun.probes import tcp

            port = resolve_port(probe.tcpSocket.port, container)
            return await tcp.probe(wires, probe.tcpSocket.host or address, port, timeout_s)
        if probe.grpc is not None:
            from nsrun.probes import grpc

            return await grpc.probe(wires, address, probe.grpc.port, probe.grpc.service or "", timeout_s)
    except ProbeError as error:
        return Outcome(Result.UNKNOWN, str(error), errored=True)
    text = f"missing probe handler for {engine.name}_{engine.namespace}({engine.uid}):{container.name}"
    return Outcome(Result.UNKNOWN, text, errored=True)


async def _exec(
    engine: PodEngine, container: Container, instance_id: str, command: list[str], timeout_s: float, groups: Groups
) -> Outcome | None:
    from nsrun.probes import exec as commands

    # Expanded with what the manifest says of the variables, not with what became of them
    # (pkg/kubelet/container/helpers.go ExpandContainerCommandOnlyStatic); the process has the container's environment all the same.
    variables = {one.name: one.value or "" for one in container.env}
    command = [expand(word, variables) for word in command]
    runner = _InContainer(engine, container, instance_id, command, groups)
    try:
        return await commands.probe(runner, command, timeout_s)
    except commands.CommandFailedError as error:
        status = error.status
        report = Report(status.step, OP_NAMES.get(status.op, ""), status.error, status.subject)
        why = exec_error(report)
    except ShimError as error:
        if error.number in (errno.ESRCH, errno.ENOENT, errno.ENOTCONN, errno.ECONNRESET):
            return None
        why = str(error)
    except (PlanError, ImageError) as error:
        why = error.brief
    except (NsrunError, OSError) as error:
        why = str(error)
    return Outcome(Result.UNKNOWN, f"failed to exec in container: {why}", errored=True)


class _InContainer:
    """Starts a command through the pod's shim, in a cgroup of its own by which it can be killed whole."""

    def __init__(
        self, engine: PodEngine, container: Container, instance_id: str, command: list[str], groups: Groups
    ) -> None:
        self._engine = engine
        self._container = container
        self._instance_id = instance_id
        self._command = command
        self._groups = groups

    async def start(self, status_fd: int, stdio: tuple[int, int, int]) -> None:
        """Hand it to the shim."""
        engine = self._engine
        shim = engine.shim
        if shim is None:
            raise ShimError("EXEC", errno.ENOTCONN, engine.label)
        inputs = inputs_for(engine, self._container, resolve(engine, self._container), self._instance_id)
        program = exec_program(engine.pod, self._container, inputs, self._command)
        with contextlib.ExitStack() as stack:
            cgroup_fd = self._groups.open(self._instance_id)
            if cgroup_fd is not None:
                stack.callback(os.close, cgroup_fd)
            await shim.exec(
                ExecRequest(
                    target=self._instance_id,
                    program=native.encode(program.ops),
                    status_fd=status_fd,
                    stdio=stdio,
                    cgroup_fd=cgroup_fd,
                    clone_flags=native.flags(program.clone_flags),
                    join_flags=native.flags(program.join_flags),
                    slots=[engine.world.descriptor(slot) for slot in program.slots],
                )
            )

    def kill(self, pid: int) -> None:
        """SIGKILL to all of it."""
        self._groups.kill(pid)
