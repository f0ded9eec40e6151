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
from nsrun.spec.model import Container, Volume
from nsrun.status.events import BACK_OFF, FAILED, INSPECT_FAILED, NORMAL, PULLED, PULLING, WARNING
from nsrun.status.times import go_duration
from nsrun.waiting import ERR_IMAGE_NEVER_PULL, ERR_IMAGE_PULL, IMAGE_PULL_BACK_OFF, INVALID_IMAGE_NAME

if TYPE_CHECKING:
    from nsrun.server.engine import PodEngine
    from nsrun.server.world import World

AT_ONCE = 3
"""Images that come at the same time."""
SHOWN_S = 10.0
"""How long status says ErrImagePull before it says ImagePullBackOff: a kubelet looks again at a pod after about so long."""

_VOLUME = "volume/"
"""Before the name of an image volume, where others are of containers: those have no slash."""

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
                "new": not self._world.images.has(name),
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
        self._waiting: dict[str, set[str]] = {}
        """By image volume that is being pulled: the containers that wait for it."""
        self._about: dict[str, str] = {}
        """By container: the image that could not be had, where it was that of a volume."""
        self.mounting = asyncio.Lock()
        """Held by who mounts an image volume."""

    def running(self, name: str) -> bool:
        """Whether the image of a container, or one that it mounts, is on its way, so that nothing can be done for it now."""
        return name in self._running or any(name in names for names in self._waiting.values())

    def image_for(self, container: Container) -> Image | None:
        """The image to make an instance of; None where it is being pulled from now on, and the pod is looked at again when it ends.

        Notes the events of an image that is here (Pulled).

        Raises:
            ImageError: InvalidImageName or ErrImageNeverPull, in the kubelet's words.
        """
        name, wanted = container.name or "", _wanted(container)
        self._about.pop(name, None)
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

    def image_for_volume(self, volume: Volume, container: str) -> Image | None:
        """The image of an image volume, for a container that mounts it: as `image_for`, under the same rules.

        Raises:
            ImageError: InvalidImageName or ErrImageNeverPull, in the kubelet's words.
        """
        key, wanted = _VOLUME + volume.name, _wanted_of(volume)
        self._about[container] = wanted.image
        before = self._fresh.get(key)
        if before is not None and before[0] == wanted:
            return before[1]
        if key not in self._running:
            image, credentials = self._look(wanted)
            if image is not None:
                text = f'Container image "{wanted.image}" already present on machine and can be accessed by the pod'
                self._engine.note(NORMAL, PULLED, text)
                return image
            self._engine.note(NORMAL, PULLING, f'Pulling image "{wanted.image}"')
            task = asyncio.get_running_loop().create_task(
                self._pull(key, wanted, credentials), name=f"pull for {self._engine.label}"
            )
            self._running[key] = (wanted, task)
        self._waiting.setdefault(key, set()).add(container)
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

    async def _pull(self, name: str, wanted: _Wanted, credentials: Sequence[PullCredential]) -> None:
        engine, clock = self._engine, self._engine.world.clock
        asked = clock.now()
        try:
            pulled = await engine.world.pulls.pull(wanted.image, credentials=credentials)
        except ImageError as error:
            self._failed(name, wanted, error)
        except (NsrunError, OSError) as error:
            self._failed(name, wanted, ImageError(ERR_IMAGE_PULL, brief_of(error)))
        else:
            self._ended(name)
            self._fresh[name] = (wanted, pulled.image)
            waited = max(clock.now() - asked, pulled.seconds)
            took = f"{go_duration(pulled.seconds)} ({go_duration(waited)} including waiting)"
            size = f"Image size: {pulled.transferred} bytes."
            text = f'Successfully pulled image "{wanted.image}" in {took}. {size}'
            engine.note(NORMAL, PULLED, text, "" if name.startswith(_VOLUME) else name)
        engine.wake()

    def _failed(self, name: str, wanted: _Wanted, error: ImageError) -> None:
        """Of a volume's image, every container is told that waits for it."""
        containers = sorted(self._waiting.get(name, ())) if name.startswith(_VOLUME) else [name]
        self._ended(name)
        for container in containers:
            failed(self._engine, container, wanted.image, error)

    def _ended(self, name: str) -> None:
        self._running.pop(name, None)
        self._waiting.pop(name, None)

    def sync(self, now: float, *, wanted: bool) -> float | None:
        """Once a turn: ends pulls that nobody wants any more, and has status go on from ErrImagePull to ImagePullBackOff.

        Args:
            wanted: the pod still starts containers.

        Returns: when this is to be called again at the latest.
        """
        for name, (asked, task) in list(self._running.items()):
            if not wanted or self._still_wanted(name) != asked:
                task.cancel()
                self._ended(name)
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
        text = f'Back-off pulling image "{self._about.get(name) or container.image}"'
        self._engine.note(NORMAL, BACK_OFF, text, name)
        self._engine.note(WARNING, FAILED, f"Error: {IMAGE_PULL_BACK_OFF}", name)
        waiting = replace(waiting, reason=IMAGE_PULL_BACK_OFF, message=f"{text}: {waiting.reason}: {waiting.message}")
        self._engine.ledger.containers[name] = replace(known, waiting=waiting)
        self._engine.touch()

    def _still_wanted(self, name: str) -> _Wanted | None:
        """What is asked for under a name now, if anything is."""
        if name.startswith(_VOLUME):
            found = (
                one for one in self._engine.pod.spec.volumes if _VOLUME + one.name == name and one.image is not None
            )
            volume = next(found, None)
            return None if volume is None else _wanted_of(volume)
        container = self._container(name)
        return None if container is None else _wanted(container)

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


def _wanted_of(volume: Volume) -> _Wanted:
    assert volume.image is not None
    return _Wanted(volume.image.reference or "", volume.image.pullPolicy or "")


def failed(engine: PodEngine, name: str, image: str, error: ImageError) -> None:
    """Note that a container has no image, and that it is tried again later."""
    if error.reason == ERR_IMAGE_NEVER_PULL:
        engine.note(WARNING, ERR_IMAGE_NEVER_PULL, error.brief, name)
    elif error.reason == INVALID_IMAGE_NAME:
        engine.note(WARNING, INSPECT_FAILED, error.brief, name)
    else:
        engine.note(WARNING, FAILED, f'Failed to pull image "{image}": {error.brief}', name)
    engine.note(WARNING, FAILED, f"Error: {error.reason}", name)
    put_off(engine, name, error.reason, ". ".join(filter(None, (error.brief, error.resolution))))


def put_off(engine: PodEngine, name: str, reason: str, message: str) -> None:
    """Note that a container has no instance, why, and when it is tried again."""
    known = engine.ledger.containers.get(name, ContainerLedger())
    waiting = waiting_after(known.waiting, reason, message, engine.world.clock.now())
    engine.ledger.containers[name] = replace(known, waiting=waiting)
    engine.touch()
    _LOG.info("pod %s: container %s: %s: %s", engine.label, name, reason, message)
