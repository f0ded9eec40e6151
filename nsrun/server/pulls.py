"""Images on their way from registries: one pull for all who want the same image, and what it is to a pod.

The pod's loop never waits for a pull: a container whose image is coming is left out until it is here. Nothing of this is remembered
across servers: the next one begins the pull again, which goes on with what has come.

Source: kubelet pkg/kubelet/images/image_manager.go (EnsureImageExists, pullImage), puller.go.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from nsrun.errors import NsrunError, brief_of
from nsrun.images import Image, ImageError, never_pull, parse_name
from nsrun.images.keyring import PullCredential, may_use
from nsrun.reconcile import waiting_after
from nsrun.reconcile.backoff import retry_due
from nsrun.reconcile.model import ContainerLedger, Waiting
from nsrun.server.images import work
from nsrun.server.pull_secrets import credentials_for
from nsrun.spec.model import Container
from nsrun.spec.waiting import ERR_IMAGE_NEVER_PULL, ERR_IMAGE_PULL, IMAGE_PULL_BACK_OFF, INVALID_IMAGE_NAME
from nsrun.status.events import BACK_OFF, FAILED, INSPECT_FAILED, NORMAL, PULLED, PULLING, WARNING
from nsrun.status.times import go_duration

if TYPE_CHECKING:
    from nsrun.server.engine import PodEngine
    from nsrun.server.world import World

AT_ONCE = 3
"""Images that come at the same time."""
SHOWN_S = 10.0
"""How long status says ErrImagePull before it says ImagePullBackOff: a kubelet looks again at a pod after about so long."""

_LOG = logging.getLogger("nsrun.pulls")

Listener = Callable[[dict[str, Any]], None]
_Key = tuple[str, tuple[PullCredential, ...]]


@dataclass(frozen=True, slots=True)
class Pulled:
    """An image that was pulled: in `seconds` of work; `transferred` is the size in bytes of what registries have of it."""

    image: Image
    seconds: float
    transferred: int


@dataclass(slots=True)
class _Job:
    task: asyncio.Task[Pulled]
    waiters: int = 0
    listeners: set[Listener] = field(default_factory=set)


class Pulls:
    """The pulls of a server."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._jobs: dict[_Key, _Job] = {}
        self._turn = asyncio.Semaphore(AT_ONCE)

    async def pull(
        self, name: str, listener: Listener | None = None, credentials: Sequence[PullCredential] = ()
    ) -> Pulled:
        """Pulls an image, or waits for who pulls it already with the same credentials. Cancelled when nobody waits any more.

        Args:
            name: as somebody wrote it.
            listener: told of the layers.
            credentials: to be tried one after another, before the machine's own.

        Raises:
            ImageError: InvalidImageName, or ErrImagePull with the registry's answer.
        """
        key = (str(parse_name(name)), tuple(credentials))
        job = self._jobs.get(key)
        if job is None:
            task = asyncio.get_running_loop().create_task(self._work(key), name=f"pull {key[0]}")
            job = self._jobs[key] = _Job(task)
            task.add_done_callback(lambda _task: self._jobs.pop(key, None))
        job.waiters += 1
        if listener is not None:
            job.listeners.add(listener)
        try:
            return await asyncio.shield(job.task)
        finally:
            job.waiters -= 1
            if listener is not None:
                job.listeners.discard(listener)
            if not job.waiters and not job.task.done():
                self._jobs.pop(key, None)
                job.task.cancel()
                # Whoever asks for it next must not find its locks held.
                with contextlib.suppress(asyncio.CancelledError, NsrunError):
                    await job.task

    async def _work(self, key: _Key) -> Pulled:
        name, credentials = key
        async with self._turn:
            began = self._world.clock.now()
            request = {
                "name": name,
                "credentials": [
                    {"user": one.user, "password": one.password, "grant": one.grant} for one in credentials
                ],
                "settings": self._world.image_settings.as_data(),
                "auth": str(self._world.layout.etc / "auth.json"),
            }
            await work(self._world, "pull", request, on_event=lambda event: self._tell(key, event))
            seconds = max(self._world.clock.now() - began, 0.0)
            store = self._world.images

            def find() -> tuple[Image, int]:
                image = store.get(name)
                return image, store.transfer_size(image)

            image, transferred = await asyncio.to_thread(find)
            return Pulled(image, seconds, transferred)

    def _tell(self, key: _Key, event: dict[str, Any]) -> None:
        job = self._jobs.get(key)
        for listener in () if job is None else tuple(job.listeners):
            listener(event)

    async def close(self) -> None:
        """Ends them all; what has come of them stays for the next server."""
        tasks = [job.task for job in self._jobs.values()]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)


@dataclass(frozen=True, slots=True)
class _Wanted:
    """What was asked for: an answer to anything else is none."""

    image: str
    policy: str


class PodPulls:
    """The images of one pod's containers.

    Args:
        engine: the pod.
    """

    def __init__(self, engine: PodEngine) -> None:
        self._engine = engine
        self._running: dict[str, tuple[_Wanted, asyncio.Task[None]]] = {}
        self._fresh: dict[str, tuple[_Wanted, Image]] = {}

    def running(self, name: str) -> bool:
        """Whether the image of a container is on its way, so that nothing can be done for it now."""
        return name in self._running

    def image_for(self, container: Container) -> Image | None:
        """The image to make an instance of; None where it is being pulled from now on, and the pod is looked at again when it ends.

        Notes the events of an image that is here (Pulled).

        Raises:
            ImageError: InvalidImageName or ErrImageNeverPull, in the kubelet's words.
        """
        name, wanted = container.name or "", _wanted(container)
        before = self._fresh.pop(name, None)
        if before is not None and before[0] == wanted:
            return before[1]
        image, credentials = self._look(wanted)
        if image is not None:
            text = f'Container image "{wanted.image}" already present on machine and can be accessed by the pod'
            self._engine.note(NORMAL, PULLED, text, name)
            return image
        self._engine.note(NORMAL, PULLING, f'Pulling image "{wanted.image}"', name)
        task = asyncio.get_running_loop().create_task(
            self._pull(name, wanted, credentials), name=f"pull for {self._engine.label}"
        )
        self._running[name] = (wanted, task)
        return None

    def _look(self, wanted: _Wanted) -> tuple[Image | None, tuple[PullCredential, ...]]:
        """The image, if it is here and this pod may use it; and what it has to pull it with."""
        image = self._engine.world.images.look(wanted.image, wanted.policy)
        credentials = credentials_for(self._engine, wanted.image)
        if image is not None and not may_use(image.access, credentials):
            if wanted.policy == "Never":
                raise never_pull(wanted.image)
            image = None
        return image, credentials

    async def image_of_volume(self, image: str, policy: str) -> Image:
        """The image of an image volume, pulled if need be, under the same rules as a container's.

        Raises:
            ImageError: InvalidImageName, ErrImageNeverPull or ErrImagePull, in the kubelet's words.
        """
        found, credentials = self._look(_Wanted(image, policy))
        if found is not None:
            return found
        return (await self._engine.world.pulls.pull(image, credentials=credentials)).image

    async def _pull(self, name: str, wanted: _Wanted, credentials: Sequence[PullCredential]) -> None:
        engine, clock = self._engine, self._engine.world.clock
        asked = clock.now()
        try:
            pulled = await engine.world.pulls.pull(wanted.image, credentials=credentials)
        except ImageError as error:
            self._ended(name)
            failed(engine, name, wanted.image, error)
        except (NsrunError, OSError) as error:
            self._ended(name)
            failed(engine, name, wanted.image, ImageError(ERR_IMAGE_PULL, brief_of(error)))
        else:
            self._ended(name)
            self._fresh[name] = (wanted, pulled.image)
            waited = max(clock.now() - asked, pulled.seconds)
            took = f"{go_duration(pulled.seconds)} ({go_duration(waited)} including waiting)"
            size = f"Image size: {pulled.transferred} bytes."
            engine.note(NORMAL, PULLED, f'Successfully pulled image "{wanted.image}" in {took}. {size}', name)
        engine.wake()

    def _ended(self, name: str) -> None:
        self._running.pop(name, None)

    def sync(self, now: float, *, wanted: bool) -> float | None:
        """Once a turn: ends pulls that nobody wants any more, and has status go on from ErrImagePull to ImagePullBackOff.

        Args:
            wanted: the pod still starts containers.

        Returns: when this is to be called again at the latest.
        """
        for name, (asked, task) in list(self._running.items()):
            container = self._container(name)
            if not wanted or container is None or _wanted(container) != asked:
                task.cancel()
                self._running.pop(name, None)
        again: float | None = None
        for name, known in list(self._engine.ledger.containers.items()):
            waiting = known.waiting
            if wanted and waiting is not None and waiting.reason == ERR_IMAGE_PULL:
                at = waiting.retry_at - waiting.delay_s + SHOWN_S / self._engine.tempo
                if now < at:
                    again = at if again is None else min(at, again)
                elif now < retry_due(waiting, self._engine.tempo, now):
                    self._back_off(name, known, waiting)
        return again

    def _back_off(self, name: str, known: ContainerLedger, waiting: Waiting) -> None:
        container = self._container(name)
        if container is None:
            return
        text = f'Back-off pulling image "{container.image}"'
        self._engine.note(NORMAL, BACK_OFF, text, name)
        self._engine.note(WARNING, FAILED, f"Error: {IMAGE_PULL_BACK_OFF}", name)
        waiting = replace(waiting, reason=IMAGE_PULL_BACK_OFF, message=f"{text}: {waiting.reason}: {waiting.message}")
        self._engine.ledger.containers[name] = replace(known, waiting=waiting)
        self._engine.touch()

    def _container(self, name: str) -> Container | None:
        try:
            return self._engine.container(name)
        except (StopIteration, KeyError):
            return None

    async def close(self) -> None:
        """Ends the pulls of this pod."""
        tasks = [task for _, task in self._running.values()]
        self._running.clear()
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)


def _wanted(container: Container) -> _Wanted:
    return _Wanted(container.image or "", container.imagePullPolicy or "")


def failed(engine: PodEngine, name: str, image: str, error: ImageError) -> None:
    """Note that a container has no image, and that it is tried again later."""
    if error.reason == ERR_IMAGE_NEVER_PULL:
        engine.note(WARNING, ERR_IMAGE_NEVER_PULL, error.brief, name)
    elif error.reason == INVALID_IMAGE_NAME:
        engine.note(WARNING, INSPECT_FAILED, error.brief, name)
    else:
        engine.note(WARNING, FAILED, f'Failed to pull image "{image}": {error.brief}', name)
    engine.note(WARNING, FAILED, f"Error: {error.reason}", name)
    known = engine.ledger.containers.get(name, ContainerLedger())
    message = ". ".join(filter(None, (error.brief, error.resolution)))
    waiting = waiting_after(known.waiting, error.reason, message, engine.world.clock.now())
    engine.ledger.containers[name] = replace(known, waiting=waiting)
    engine.touch()
    _LOG.info("pod %s: container %s: %s: %s", engine.label, name, error.reason, message)
