"""Lifecycle hooks: begun once per instance, in tasks of their own, and taken up again by the next server (S-HOOK).

Source: kubelet pkg/kubelet/lifecycle/handlers.go; kuberuntime_container.go for the events.

The ledger says on disk that a hook has begun before it does, and how it ended afterwards; between the two this server, or the next one,
works on it. A command is a job of the shim: its name is the hook's, and the shim refuses a second one of that name. A sleep goes on for the
rest of its time. A request is sent again: it may arrive twice when the server was killed over it, as a kubelet's may.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
from typing import TYPE_CHECKING

from nsrun.errors import NsrunError, StepError, brief_of
from nsrun.reconcile.backoff import due
from nsrun.reconcile.ledger import hook_finished, hook_started
from nsrun.reconcile.model import HookKind, RunHook
from nsrun.server import hook_text
from nsrun.server.commands import command_in
from nsrun.server.trace import mark
from nsrun.server.watch import Changed
from nsrun.shim import JobRequest, ShimClosedError, ShimError, read_job, shim_alive
from nsrun.status.events import FAILED_POST_START_HOOK, FAILED_PRE_STOP_HOOK, LIFECYCLE_HTTP_FALLBACK, WARNING

if TYPE_CHECKING:
    from nsrun.server.engine import PodEngine
    from nsrun.spec.model import Container, HTTPGetAction, LifecycleHandler

ANSWER_S = 1.0
"""How long after its container's end a request may still be answered: it may well be what ended it."""

_LOG = logging.getLogger("nsrun.hooks")
_JOBS = {HookKind.POST_START: "post-start", HookKind.PRE_STOP: "pre-stop"}
_EVENTS = {
    HookKind.POST_START: (FAILED_POST_START_HOOK, "PostStartHook failed"),
    HookKind.PRE_STOP: (FAILED_PRE_STOP_HOOK, "PreStopHook failed"),
}
"""The kubelet keeps what the hook wrote out of its events, for it may be a secret."""


class HookError(Exception):
    """A hook failed; the text is what the kubelet's `error: %v` says."""


class Hooks:
    """The hooks of one pod that have begun and not ended."""

    def __init__(self, engine: PodEngine) -> None:
        self._engine = engine
        self._tasks: dict[tuple[str, HookKind], asyncio.Task[None]] = {}
        self._news = Changed()

    def tell(self) -> None:
        """A job or an instance ended, or a shim came or went."""
        self._news.tell()

    def close(self) -> None:
        """Stop working on them; commands run on."""
        for task in self._tasks.values():
            task.cancel()
        self._tasks.clear()

    def begin(self, action: RunHook) -> None:
        """Begin a hook, which takes its time elsewhere. On disk before it begins; when it cannot be, it has failed."""
        engine, now = self._engine, self._engine.world.clock.now()
        known = engine.ledger.containers[action.name]
        engine.ledger.containers[action.name] = hook_started(known, action.hook, action.id, now)
        engine.touch()
        try:
            engine.save()
        except StepError as error:
            self._finish(action.name, action.id, action.hook, str(error))
            return
        self.resume()

    def resume(self) -> None:
        """Work on every hook that has begun and not ended, and that nobody works on."""
        for name, known in self._engine.ledger.containers.items():
            for kind, run in ((HookKind.POST_START, known.post_start), (HookKind.PRE_STOP, known.pre_stop)):
                if run is None or run.finished_at is not None or (run.instance_id, kind) in self._tasks:
                    continue
                mark(self._engine.label, f"{_JOBS[kind]} {name}")
                work = self._work(name, run.instance_id, kind, run.started_at)
                task = asyncio.get_running_loop().create_task(work, name=f"{kind.value} {self._engine.label}/{name}")
                self._tasks[run.instance_id, kind] = task

    async def _work(self, name: str, instance_id: str, kind: HookKind, started_at: float) -> None:
        container = self._engine.container(name)
        lifecycle = container.lifecycle
        handler = None
        if lifecycle is not None:
            handler = lifecycle.postStart if kind is HookKind.POST_START else lifecycle.preStop
        error = None
        key = (instance_id, kind)
        try:
            if handler is not None:
                error = await self._run(container, instance_id, kind, handler, started_at)
        except ShimClosedError:
            self._tasks.pop(key, None)  # whoever finds the shim again, or its end, resumes
            return
        except Exception as bug:
            _LOG.exception("pod %s: %s of %s: a bug", self._engine.label, kind.value, name)
            error = f"{type(bug).__name__}: {bug}"
        self._tasks.pop(key, None)
        self._finish(name, instance_id, kind, error)

    def _finish(self, name: str, instance_id: str, kind: HookKind, error: str | None) -> None:
        engine = self._engine
        known = engine.ledger.containers[name]
        engine.ledger.containers[name] = hook_finished(known, kind, instance_id, engine.world.clock.now(), error)
        engine.touch()
        if error is not None:
            _LOG.info("pod %s: container %s: %s: %s", engine.label, name, kind.value, error)
            reason, message = _EVENTS[kind]
            engine.note(WARNING, reason, message, name)
        mark(engine.label, f"{_JOBS[kind]} over {name}")
        engine.wake()

    async def _run(
        self, container: Container, instance_id: str, kind: HookKind, handler: LifecycleHandler, started_at: float
    ) -> str | None:
        """Run or wait for the hook; why it failed, or None.

        Raises:
            ShimClosedError: the connection to the shim is lost; it is to be resumed.
        """
        output = b""
        try:
            if handler.exec is not None:
                output = await self._exec(container, instance_id, kind, handler.exec.command)
            elif handler.httpGet is not None:
                await self._http(container, instance_id, handler.httpGet)
            elif handler.sleep is not None:
                await self._sleep(instance_id, started_at, handler.sleep.seconds)
            else:
                raise HookError(hook_text.invalid(handler))
        except _CommandError as error:
            return hook_text.failed(self._engine.pod, container, handler, str(error), error.output)
        except HookError as error:
            return hook_text.failed(self._engine.pod, container, handler, str(error), output)
        except ShimClosedError:
            raise
        except (NsrunError, OSError) as error:
            return hook_text.failed(self._engine.pod, container, handler, brief_of(error), output)
        return None

    # how an instance is

    def _alive(self, instance_id: str) -> bool:
        if self._engine.shim is None:
            # Until a living shim is found again, nothing is known of its instances.
            return not self._without_shim()
        record = self._engine.mirror.records.get(instance_id)
        return record is not None and record.alive

    def _without_shim(self) -> bool:
        return self._engine.shim is None and not shim_alive(self._engine.paths.directory)

    # the kinds

    async def _exec(self, container: Container, instance_id: str, kind: HookKind, command: list[str]) -> bytes:
        directory, name = self._engine.paths.directory, _JOBS[kind]
        if read_job(directory, instance_id, name) is None:
            await self._ask(container, instance_id, name, command)
        while True:
            job = read_job(directory, instance_id, name)
            if job is None or (not job.ended and self._without_shim()):
                # It went with its shim, or its instance has been forgotten already.
                raise _CommandError(hook_text.exited(command, 137, b""), b"")
            if job.ended:
                if job.record.report is not None:
                    raise _CommandError(hook_text.not_started(job.record.report), b"")
                code = job.record.exit_code or 0
                if code != 0:
                    raise _CommandError(hook_text.exited(command, code, job.output), job.output)
                return job.output
            await self._news.wait()

    async def _ask(self, container: Container, instance_id: str, name: str, command: list[str]) -> None:
        """Have the shim begin the job, if it has not done so before."""
        shim = self._engine.shim
        if shim is None and not self._without_shim():
            raise ShimClosedError("JOB", errno.ENOTCONN, self._engine.label)
        if shim is None or not self._alive(instance_id):
            raise HookError(hook_text.not_running(container))
        ready = command_in(self._engine, container, instance_id, command)
        request = JobRequest(
            target=instance_id,
            name=name,
            program=ready.program,
            clone_flags=ready.clone_flags,
            join_flags=ready.join_flags,
            slots=ready.slots,
        )
        try:
            await shim.job(request)
        except ShimClosedError:
            raise
        except ShimError as error:
            if error.number in (errno.ESRCH, errno.ENOENT):
                raise HookError(hook_text.not_running(container)) from error
            if error.number != errno.EEXIST:
                raise

    async def _sleep(self, instance_id: str, started_at: float, seconds: float) -> None:
        """Sleep for what is left, as long as the container lives."""
        clock = self._engine.world.clock
        while self._alive(instance_id):
            until = due(started_at, seconds, clock.now())
            if until <= clock.now():
                return
            timer = clock.call_at(until, self.tell)
            try:
                await self._news.wait()
            finally:
                timer.cancel()

    async def _http(self, container: Container, instance_id: str, action: HTTPGetAction) -> None:
        """Send the request; any answer is success."""
        task = asyncio.ensure_future(self._fetch(container, action))
        try:
            while not task.done() and self._alive(instance_id):
                news = asyncio.ensure_future(self._news.wait())
                try:
                    await asyncio.wait((task, news), return_when=asyncio.FIRST_COMPLETED)
                finally:
                    news.cancel()
            if not task.done():
                await asyncio.wait((task,), timeout=ANSWER_S)
            if not task.done():
                raise HookError(f'Get "{action.path}": context canceled')
            task.result()
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await task

    async def _fetch(self, container: Container, action: HTTPGetAction) -> None:
        from nsrun.probes.http import VERSION, fetch, request_for
        from nsrun.probes.outcome import LocalError, ProbeError
        from nsrun.probes.tls import PlainAnswerError

        engine = self._engine
        ips = engine.ledger.ips or (engine.world.host_ips() if engine.pod.spec.hostNetwork else ())
        if not action.host and not ips:
            raise HookError("failed to find networking container")
        try:
            request = request_for(action, container, ips[0] if ips else "", f"kube-lifecycle/{VERSION}")
            try:
                await fetch(engine.world.wires, request)
            except PlainAnswerError:
                await fetch(engine.world.wires, request.plain())
                text = f"request to HTTPS lifecycle hook {request.url.authority} got HTTP response, retry with HTTP succeeded"
                engine.note(WARNING, LIFECYCLE_HTTP_FALLBACK, text, container.name)
        except (ProbeError, LocalError) as error:
            raise HookError(str(error)) from error


class _CommandError(HookError):
    """A command failed, and wrote this."""

    def __init__(self, text: str, output: bytes) -> None:
        super().__init__(text)
        self.output = output
