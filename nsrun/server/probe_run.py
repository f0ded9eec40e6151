"""One run of a probe: the pod's address and the container's environment brought together with what probes can do."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import signal
from typing import TYPE_CHECKING

from nsrun.errors import NsrunError
from nsrun.images import ImageError
from nsrun.plan import PlanError
from nsrun.plan.expansion import expand
from nsrun.probes import Outcome, ProbeError, Result
from nsrun.probes.ports import resolve_port
from nsrun.reconcile.model import ProbeKind
from nsrun.server.commands import Command, command_in
from nsrun.server.instances import exec_error
from nsrun.shim import ExecRequest, Report, ShimError
from nsrun.shim.wire import OP_NAMES
from nsrun.spec.model import Container, ExecAction, HTTPGetAction, Probe
from nsrun.spec.names import pod_in_words

if TYPE_CHECKING:
    from nsrun.probes.http import Request
    from nsrun.server.engine import PodEngine

LEFT_AT_ONCE = 4
"""Cgroups of earlier runs that are looked at before a run, whether their last process has ended meanwhile."""

_GONE = (errno.ESRCH, errno.ENOENT, errno.ENOTCONN, errno.ECONNRESET)


class ProbeRunner:
    """Runs one probe of one container, again and again; what stays the same from run to run is worked out once."""

    def __init__(self, engine: PodEngine, container: Container, kind: ProbeKind, probe: Probe) -> None:
        self._engine = engine
        self._container = container
        self._probe = probe
        self._request: tuple[str, Request] | None = None
        self._command = None if probe.exec is None else _Command(engine, container, kind, probe.exec)

    async def run(self, instance_id: str, timeout_s: float) -> Outcome | None:
        """Run the probe once; None when its container is not there any more."""
        engine, probe = self._engine, self._probe
        wires = engine.world.wires
        address = (engine.ledger.ips or engine.world.host_ips())[0]
        try:
            if self._command is not None:
                return await self._command.run(instance_id, timeout_s)
            if probe.httpGet is not None:
                from nsrun.probes import http

                return await http.probe(wires, self._get(probe.httpGet, address), timeout_s)
            if probe.tcpSocket is not None:
                from nsrun.probes import tcp

                port = resolve_port(probe.tcpSocket.port, self._container)
                return await tcp.probe(wires, probe.tcpSocket.host or address, port, timeout_s)
            if probe.grpc is not None:
                from nsrun.probes import grpc

                return await grpc.probe(wires, address, probe.grpc.port, probe.grpc.service or "", timeout_s)
        except ProbeError as error:
            return Outcome(Result.UNKNOWN, str(error), errored=True)
        text = f"missing probe handler for {pod_in_words(engine.pod)}:{self._container.name}"
        return Outcome(Result.UNKNOWN, text, errored=True)

    def _get(self, action: HTTPGetAction, address: str) -> Request:
        from nsrun.probes import http

        if self._request is None or self._request[0] != address:
            self._request = address, http.request_for(action, self._container, address)
        return self._request[1]


class _Command:
    """An exec probe: its command, and the cgroup below the container's that a run of it has to itself, so that it can be killed whole.

    What a command that ended by itself leaves running is the container's own; what one leaves that took too long, or that an earlier
    server began and nobody waited for, is killed.
    """

    def __init__(self, engine: PodEngine, container: Container, kind: ProbeKind, action: ExecAction) -> None:
        self._engine = engine
        self._container = container
        # Expanded with what the manifest says of the variables, not with what became of them (pkg/kubelet/container/helpers.go
        # ExpandContainerCommandOnlyStatic); the process has the container's environment all the same.
        variables = {one.name: one.value or "" for one in container.env}
        self._words = [expand(word, variables) for word in action.command]
        self._ready: tuple[str, Command] | None = None
        self._instance_id = ""
        self._prefix = f"probe-{kind.value}-"
        self._group: str | None = None
        self._left: list[str] = []

    async def run(self, instance_id: str, timeout_s: float) -> Outcome | None:
        """Run it once; None when the container is not there any more."""
        from nsrun.probes import exec as commands

        if instance_id != self._instance_id:
            self._instance_id = instance_id
            self._end_earlier()
        try:
            return await commands.probe(self, self._words, timeout_s)
        except commands.CommandFailedError as error:
            status = error.status
            why = exec_error(Report(status.step, OP_NAMES.get(status.op, ""), status.error, status.subject))
        except ShimError as error:
            if error.number in _GONE:
                return None
            why = str(error)
        except (PlanError, ImageError) as error:
            why = error.brief
        except (NsrunError, OSError) as error:
            why = str(error)
        finally:
            self._leave()
        return Outcome(Result.UNKNOWN, f"failed to exec in container: {why}", errored=True)

    async def start(self, status_fd: int, stdio: tuple[int, int, int]) -> None:
        """Hand it to the shim."""
        shim = self._engine.shim
        if shim is None:
            raise ShimError("EXEC", errno.ENOTCONN, self._engine.label)
        ready = self._for_instance()
        with contextlib.ExitStack() as stack:
            cgroup_fd = self._open_group()
            if cgroup_fd is not None:
                stack.callback(os.close, cgroup_fd)
            await shim.exec(
                ExecRequest(
                    target=self._instance_id,
                    program=ready.program,
                    status_fd=status_fd,
                    stdio=stdio,
                    cgroup_fd=cgroup_fd,
                    clone_flags=ready.clone_flags,
                    join_flags=ready.join_flags,
                    slots=ready.slots,
                )
            )

    def _for_instance(self) -> Command:
        if self._ready is None or self._ready[0] != self._instance_id:
            command = command_in(self._engine, self._container, self._instance_id, self._words)
            self._ready = (self._instance_id, command)
        return self._ready[1]

    def _open_group(self) -> int | None:
        """A descriptor of a new cgroup, the caller's; None where the container has none."""
        cgroups, uid = self._engine.world.cgroups, self._engine.uid
        looked, self._left = self._left[:LEFT_AT_ONCE], self._left[LEFT_AT_ONCE:]
        self._left += [group for group in looked if not cgroups.drop(uid, group)]
        group = f"{self._instance_id}/{self._prefix}{secrets.token_hex(4)}"
        fd = cgroups.create_below(uid, group)
        self._group = None if fd is None else group
        return fd

    def _leave(self) -> None:
        """The run is over: its cgroup goes, unless it left something running."""
        group, self._group = self._group, None
        if group is not None and not self._engine.world.cgroups.drop(self._engine.uid, group):
            self._engine.world.cgroups.keep(self._engine.uid, group)
            self._left.append(group)

    def _end_earlier(self) -> None:
        """Kill what runs of an earlier server left: nobody will ever hear of them."""
        cgroups, uid = self._engine.world.cgroups, self._engine.uid
        self._left = []
        for name, kept in cgroups.below(uid, self._instance_id).items():
            if name.startswith(self._prefix):
                group = f"{self._instance_id}/{name}"
                if kept:
                    self._left.append(group)
                else:
                    self._end(group)

    def _end(self, group: str) -> None:
        with contextlib.suppress(NsrunError):
            self._engine.world.cgroups.kill_container(self._engine.uid, group)
        self._left.append(group)

    def kill(self, pid: int) -> None:
        """SIGKILL to all of it; without a cgroup to the group of `pid` (0: not known), which leads a session of its own."""
        group, self._group = self._group, None
        if group is not None:
            self._end(group)
        elif pid > 0:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGKILL)
