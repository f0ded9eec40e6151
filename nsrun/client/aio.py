"""The asynchronous face: as nsrun.client.library, with `await`.

    async with await nsrun.aconnect() as client:
        async with await client.up("pod.yaml") as pod:
            await pod.wait_ready(timeout=30)
            print((await pod.exec(["cat", "/etc/hostname"])).text)

Each running request has a thread that sleeps in a system call; cancelling the task ends the request (an exec's command is
killed) and the thread with it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

from nsrun.client import requests
from nsrun.client.crilog import LogLine
from nsrun.client.library import Client, WatchEvent, connect
from nsrun.client.manifests import Manifest
from nsrun.client.pod import ExecResult, Object, Pod
from nsrun.client.requests import Progress, Wait
from nsrun.client.session import Call, Cancelled
from nsrun.client.stats import between

if TYPE_CHECKING:
    from nsrun.client.copying import Copied

T = TypeVar("T")
AHEAD = 256
"""Items that a stream's thread may be ahead of its reader."""


async def in_thread(work: Callable[[], T], cancel: Callable[[], None] | None = None) -> T:
    """Run `work` in a thread of its own; cancelling the awaiting task calls `cancel` and waits for the thread's end."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def settle(result: T | None, error: BaseException | None) -> None:
        if future.done():
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(result)  # type: ignore[arg-type] # None is a T here: it is what work returned

    def run() -> None:
        try:
            result = work()
        except BaseException as error:
            loop.call_soon_threadsafe(settle, None, error)
        else:
            loop.call_soon_threadsafe(settle, result, None)

    threading.Thread(target=run, name="nsrun request", daemon=True).start()
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        if cancel is not None:
            cancel()
            with contextlib.suppress(Exception):
                await asyncio.shield(future)
        raise


async def in_stream(make: Callable[[Call], Iterator[T]]) -> AsyncIterator[T]:
    """The items of a blocking iterator that runs in a thread of its own."""
    loop = asyncio.get_running_loop()
    queue: asyncio.Queue[tuple[T | None, BaseException | None, bool]] = asyncio.Queue()
    room = threading.Semaphore(AHEAD)
    call = Call()

    def run() -> None:
        failure: BaseException | None = None
        try:
            for item in make(call):
                room.acquire()
                if call.cancelled:
                    break
                loop.call_soon_threadsafe(queue.put_nowait, (item, None, False))
        except Cancelled:
            pass
        except BaseException as error:
            failure = error
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(queue.put_nowait, (None, failure, True))

    thread = threading.Thread(target=run, name="nsrun stream", daemon=True)
    thread.start()
    try:
        while True:
            item, error, last = await queue.get()
            room.release()
            if error is not None:
                raise error
            if last:
                return
            yield item  # type: ignore[misc] # only the last entry has no item
    finally:
        call.cancel()
        room.release()


class AsyncClient:
    """As nsrun.Client; see there for arguments and errors."""

    def __init__(self, client: Client) -> None:
        self.sync = client

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """As Client.close."""
        await in_thread(self.sync.close)

    async def up(
        self,
        manifest: Manifest,
        *,
        replace: bool = False,
        ignore_unsupported: bool = False,
        time_scale: float | None = None,
        wait: Wait = "running",
        timeout: float | None = None,  # noqa: ASYNC109 - the server keeps it, and says how far the pod got
        on_progress: Progress | None = None,
    ) -> AsyncPod:
        """As Client.up."""
        pods = await self.up_all(
            manifest,
            replace=replace,
            ignore_unsupported=ignore_unsupported,
            time_scale=time_scale,
            wait=wait,
            timeout=timeout,
            on_progress=on_progress,
            _one=True,
        )
        return pods[0]

    async def up_all(
        self,
        manifest: Manifest,
        *,
        replace: bool = False,
        ignore_unsupported: bool = False,
        time_scale: float | None = None,
        wait: Wait = "running",
        timeout: float | None = None,  # noqa: ASYNC109 - as above
        on_progress: Progress | None = None,
        _one: bool = False,
    ) -> list[AsyncPod]:
        """As Client.up_all. `on_progress` is called in the event loop."""
        loop = asyncio.get_running_loop()
        call = Call()

        def progress(event: Object) -> None:
            if on_progress is not None:
                loop.call_soon_threadsafe(on_progress, event)

        def work() -> list[Pod]:
            if _one:
                return [
                    self.sync.up(
                        manifest,
                        replace=replace,
                        ignore_unsupported=ignore_unsupported,
                        time_scale=time_scale,
                        wait=wait,
                        timeout=timeout,
                        on_progress=progress,
                        call=call,
                    )
                ]
            return self.sync.up_all(
                manifest,
                replace=replace,
                ignore_unsupported=ignore_unsupported,
                time_scale=time_scale,
                wait=wait,
                timeout=timeout,
                on_progress=progress,
                call=call,
            )

        return [AsyncPod(pod) for pod in await in_thread(work, call.cancel)]

    async def down(
        self,
        *names: str,
        namespace: str | None = None,
        grace_period: float | None = None,
        force: bool = False,
        missing_ok: bool = False,
        timeout: float | None = None,  # noqa: ASYNC109 - as above
    ) -> None:
        """As Client.down."""
        call = Call()
        which = {"names": list(names), "namespace": namespace}
        await in_thread(
            lambda: requests.down(
                self.sync.session,
                which,
                grace_period=grace_period,
                force=force,
                missing_ok=missing_ok,
                timeout=timeout,
                call=call,
            ),
            call.cancel,
        )

    async def down_all(self, *, grace_period: float | None = None, force: bool = False) -> None:
        """As Client.down_all."""
        await in_thread(lambda: self.sync.down_all(grace_period=grace_period, force=force))

    async def pods(
        self, namespace: str | None = None, *, labels: str | None = None, fields: str | None = None
    ) -> list[Object]:
        """As Client.pods."""
        return await in_thread(lambda: self.sync.pods(namespace, labels=labels, fields=fields))

    async def pod(self, name: str, namespace: str | None = None) -> AsyncPod:
        """As Client.pod."""
        return AsyncPod(await in_thread(lambda: self.sync.pod(name, namespace)))

    def watch(
        self,
        namespace: str | None = None,
        name: str | None = None,
        *,
        labels: str | None = None,
        fields: str | None = None,
    ) -> AsyncIterator[WatchEvent]:
        """As Client.watch."""
        return in_stream(lambda call: self.sync.watch(namespace, name, labels=labels, fields=fields, call=call))

    async def events(self, name: str | None = None, namespace: str | None = None) -> list[Object]:
        """As Client.events."""
        return await in_thread(lambda: self.sync.events(name, namespace))

    async def stats(
        self,
        *names: str,
        namespace: str | None = None,
        containers: bool = False,
        interval: float = 1.0,
        labels: str | None = None,
        fields: str | None = None,
    ) -> list[Object]:
        """As Client.stats."""

        def look() -> list[Object]:
            return self.sync.stats(
                *names, namespace=namespace, containers=containers, interval=0, labels=labels, fields=fields
            )

        # The time in between is the event loop's, so that cancelling need not wait for it.
        first = await in_thread(look)
        if interval <= 0:
            return first
        await asyncio.sleep(interval)
        return between(first, await in_thread(look))

    def watch_stats(
        self,
        *names: str,
        namespace: str | None = None,
        containers: bool = False,
        interval: float = 1.0,
        labels: str | None = None,
        fields: str | None = None,
    ) -> AsyncIterator[list[Object]]:
        """As Client.watch_stats."""
        return in_stream(
            lambda call: self.sync.watch_stats(
                *names,
                namespace=namespace,
                containers=containers,
                interval=interval,
                labels=labels,
                fields=fields,
                call=call,
            )
        )

    async def images(self) -> list[Object]:
        """As Client.images."""
        return await in_thread(self.sync.images)

    async def import_image(self, name: str, path: str | os.PathLike[str], **config: Any) -> Object:
        """As Client.import_image."""
        return await in_thread(lambda: self.sync.import_image(name, path, **config))

    async def pull_image(self, name: str) -> Object:
        """As Client.pull_image."""
        return await in_thread(lambda: self.sync.pull_image(name))

    async def load_images(self, path: str | os.PathLike[str], *, name: str | None = None) -> list[Object]:
        """As Client.load_images."""
        return await in_thread(lambda: self.sync.load_images(path, name=name))

    async def save_images(self, names: Sequence[str], file: int) -> None:
        """As Client.save_images."""
        await in_thread(lambda: self.sync.save_images(names, file))

    async def tag_image(self, name: str, new: str) -> Object:
        """As Client.tag_image."""
        return await in_thread(lambda: self.sync.tag_image(name, new))

    async def remove_image(self, name: str) -> None:
        """As Client.remove_image."""
        await in_thread(lambda: self.sync.remove_image(name))

    async def server_status(self) -> Object:
        """As Client.server_status."""
        return await in_thread(self.sync.server_status)


class AsyncPod:
    """As nsrun.Pod; see there for arguments and errors."""

    def __init__(self, pod: Pod) -> None:
        self.sync = pod
        self.name = pod.name
        self.namespace = pod.namespace
        self.uid = pod.uid

    def __repr__(self) -> str:
        return f"<nsrun.AsyncPod {self.namespace}/{self.name}>"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.down(missing_ok=True)

    async def object(self) -> Object:
        """As Pod.object."""
        return await in_thread(lambda: self.sync.object)

    async def status(self) -> Object:
        """As Pod.status."""
        return await in_thread(lambda: self.sync.status)

    async def phase(self) -> str:
        """As Pod.phase."""
        return await in_thread(lambda: self.sync.phase)

    async def ip(self) -> str | None:
        """As Pod.ip."""
        return await in_thread(lambda: self.sync.ip)

    async def wait(self, condition: str, timeout: float | None = None) -> None:  # noqa: ASYNC109 - the server keeps it
        """As Pod.wait."""
        call = Call()
        session = self.sync.client.session
        await in_thread(
            lambda: requests.wait(session, [self.name], self.namespace, condition, timeout, call=call), call.cancel
        )

    async def wait_ready(self, timeout: float | None = None) -> None:  # noqa: ASYNC109 - as above
        """As Pod.wait_ready."""
        await self.wait("condition=Ready", timeout)

    async def wait_phase(self, phase: str, timeout: float | None = None) -> None:  # noqa: ASYNC109 - as above
        """As Pod.wait_phase."""
        await self.wait(f"phase={phase}", timeout)

    async def exec(
        self,
        command: Sequence[str],
        *,
        container: str | None = None,
        stdin: bytes | None = None,
        tty: bool = False,
        env: Mapping[str, str] | None = None,
        workdir: str | None = None,
        user: str | None = None,
        timeout: float | None = None,  # noqa: ASYNC109 - the command is killed at its end
        check: bool = False,
    ) -> ExecResult:
        """As Pod.exec; cancelling kills the command."""
        call = Call()
        return await in_thread(
            lambda: self.sync.exec(
                command,
                container=container,
                stdin=stdin,
                tty=tty,
                env=env,
                workdir=workdir,
                user=user,
                timeout=timeout,
                check=check,
                call=call,
            ),
            call.cancel,
        )

    async def logs(
        self,
        container: str | None = None,
        *,
        previous: bool = False,
        tail: int | None = None,
        since: float | None = None,
    ) -> str:
        """As Pod.logs."""
        return await in_thread(lambda: self.sync.logs(container, previous=previous, tail=tail, since=since))

    def log_lines(
        self,
        container: str | None = None,
        *,
        previous: bool = False,
        tail: int | None = None,
        since: float | None = None,
        follow: bool = False,
    ) -> AsyncIterator[LogLine]:
        """As Pod.log_lines."""
        return in_stream(
            lambda call: self.sync.log_lines(
                container, previous=previous, tail=tail, since=since, follow=follow, call=call
            )
        )

    async def copy_to(
        self,
        path: str | os.PathLike[str],
        to: str,
        *,
        container: str | None = None,
        archive: bool = False,
        on_skipped: Callable[[str], None] = lambda _path: None,
    ) -> Copied:
        """As Pod.copy_to."""
        return await in_thread(
            lambda: self.sync.copy_to(path, to, container=container, archive=archive, on_skipped=on_skipped)
        )

    async def copy_from(
        self,
        path: str,
        to: str | os.PathLike[str],
        *,
        container: str | None = None,
        archive: bool = False,
        on_skipped: Callable[[str], None] = lambda _path: None,
    ) -> Copied:
        """As Pod.copy_from."""
        return await in_thread(
            lambda: self.sync.copy_from(path, to, container=container, archive=archive, on_skipped=on_skipped)
        )

    async def connect(
        self,
        port: int,
        *,
        timeout: float | None = None,  # noqa: ASYNC109 - as above
        wait: float = 0.0,
    ) -> socket.socket:
        """As Pod.connect. For streams: `asyncio.open_connection(sock=await pod.connect(80))`."""
        return await in_thread(lambda: self.sync.connect(port, timeout=timeout, wait=wait))

    async def events(self) -> list[Object]:
        """As Pod.events."""
        return await in_thread(self.sync.events)

    async def restart(self, *containers: str, grace_period: float | None = None) -> None:
        """As Pod.restart."""
        await in_thread(lambda: self.sync.restart(*containers, grace_period=grace_period))

    async def kill(self, *containers: str, signal: str | int = "SIGKILL") -> None:
        """As Pod.kill."""
        await in_thread(lambda: self.sync.kill(*containers, signal=signal))

    async def set_condition(
        self, kind: str, status: str | bool | None, *, reason: str | None = None, message: str | None = None
    ) -> None:
        """As Pod.set_condition."""
        await in_thread(lambda: self.sync.set_condition(kind, status, reason=reason, message=message))

    async def down(
        self,
        *,
        grace_period: float | None = None,
        force: bool = False,
        missing_ok: bool = False,
        timeout: float | None = None,  # noqa: ASYNC109 - as above
    ) -> None:
        """As Pod.down."""
        await in_thread(
            lambda: self.sync.down(grace_period=grace_period, force=force, missing_ok=missing_ok, timeout=timeout)
        )


async def aconnect(root: str | os.PathLike[str] | None = None, *, start: bool = True) -> AsyncClient:
    """As nsrun.connect, for asyncio."""
    return AsyncClient(await in_thread(lambda: connect(root, start=start)))
