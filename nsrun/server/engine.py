"""The loop of one pod: observe, decide, do, publish. Events only wake it; nothing that decides lives here alone.

What is kept in memory mirrors what can be read again: the wish and the ledger from their files, the records from the shim
(or, once it is dead, from what it wrote). What the loop does not do itself belongs to the pod's parts: each has a module of its own.
"""

from __future__ import annotations

import asyncio
import copy
import logging
from collections.abc import Callable

from nsrun.errors import NsrunError, StepError, brief_of
from nsrun.reconcile import decide
from nsrun.reconcile.admission import admit, rejection
from nsrun.reconcile.ledger import probe_result, reset
from nsrun.reconcile.model import (
    Action,
    AnnounceStop,
    CleanSandbox,
    CreateSandbox,
    ForgetInstance,
    KillContainer,
    Observed,
    ProbeKind,
    RemovePod,
    ResetContainers,
    RunHook,
    SandboxState,
    SignalContainer,
    StartContainer,
    StopSandbox,
    WakeAt,
)
from nsrun.reconcile.resizing import in_force
from nsrun.server import containers, logdir, sandbox
from nsrun.server.eviction import DiskWatch
from nsrun.server.hooks import Hooks
from nsrun.server.inflight import InFlight
from nsrun.server.last_resort import LastResort
from nsrun.server.limits import Resizer
from nsrun.server.mirror import Mirror
from nsrun.server.observing import observe, sandbox_state
from nsrun.server.placing import Placing
from nsrun.server.prepared import Prepared
from nsrun.server.prober import Prober
from nsrun.server.published import FINISHED, Published
from nsrun.server.pulls import PodPulls
from nsrun.server.shim_link import ShimLink
from nsrun.server.trace import mark
from nsrun.server.volumes import Volumes
from nsrun.server.watch import Changed
from nsrun.server.world import World
from nsrun.shim import ShimClient, ShimClosedError, ShimError
from nsrun.spec.containers import container_of
from nsrun.spec.model import Container, Pod, PodStatus
from nsrun.state.files import remove_tree, unlink_if_there
from nsrun.state.layout import PodPaths
from nsrun.state.ledger import Ledger, Wish, write_ledger
from nsrun.status.deletion import marked_deleted
from nsrun.status.events import EVICTED, FAILED_SYNC, WARNING

RETRY_S = 1.0
"""How long an action that failed for a reason outside the pod (a full disk, a shim that does not answer) is left alone."""

_LOG = logging.getLogger("nsrun.engine")


class PodEngine:
    """One pod: its state, and the task that works on it.

    Args:
        world: what all pods share.
        uid: of the pod; also the name of its directory.
        wish: what is on disk.
        ledger: what is on disk.
        on_gone: called once nothing is left of the pod.
    """

    def __init__(
        self, world: World, uid: str, wish: Wish, ledger: Ledger, on_gone: Callable[[PodEngine], None]
    ) -> None:
        self.world = world
        self.uid = uid
        self.ledger = ledger
        self.paths: PodPaths = world.layout.pod(uid)
        self.hold(wish)
        self.namespace = self.pod.metadata.namespace or "default"
        self.name = self.pod.metadata.name or ""
        self.label = f"{self.namespace}/{self.name}"
        self.log_directory = world.layout.logs_of(self.namespace, self.name, uid)
        self.mirror = Mirror(self)
        self.link = ShimLink(self)
        self.hooks = Hooks(self)
        self.prober = Prober(self)
        self.resizer = Resizer(self)
        self.pulls = PodPulls(self)
        self.published = Published(self)
        self.last_resort = LastResort(self)
        self.volumes = Volumes(self)
        self.placing = Placing(self)
        self.disk = DiskWatch(self)
        self.prepared: dict[str, Prepared] = {}
        """By container: what was made ahead for an instance that is to be started."""
        self.observed = Observed(deletion=wish.deletion)
        """What was seen last; for those who only want to tell of it."""
        self.changed = Changed()
        self.starting = InFlight()
        """Starts that the shim was asked for and has not answered yet."""
        self.looked = asyncio.Event()
        """Set once the pod was looked at (or could not be): before that, only what is on disk is known of it."""
        self.ledger_lost = not self.paths.ledger.exists()
        """Until it was first observed: if the pod is not new, what its containers' logs tell is all that is left."""
        self.gone = False
        self._on_gone = on_gone
        self._awake = asyncio.Event()
        self._wake_at: float | None = None
        self._unsaved = False
        self._trouble = ""
        self._task: asyncio.Task[None] | None = None
        self._closing = False

    # for whoever has it: the registry, the methods

    def begin(self) -> None:
        """Start working on the pod."""
        self._task = asyncio.get_running_loop().create_task(self._live(), name=f"pod {self.label}")
        self.last_resort.expect()

    async def close(self) -> None:
        """Stop working on the pod; it runs on."""
        self._closing = True
        self.last_resort.cancel()
        self.prober.close()
        self.hooks.close()
        self.disk.close()
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        await self.pulls.close()
        self.link.close()
        while self.prepared:
            self.prepared.popitem()[1].close()

    def wake(self) -> None:
        """Look again, soon."""
        self._awake.set()

    @property
    def shim(self) -> ShimClient | None:
        """The pod's shim, while there is a connection to it."""
        return self.link.client

    @property
    def status(self) -> PodStatus:
        """The published status."""
        return self.ledger.status

    @property
    def phase(self) -> str:
        """The published phase."""
        return self.ledger.status.phase or "Pending"

    def hold(self, wish: Wish) -> None:
        """Take what is on disk as what is to be.

        `desired` is the pod as it is asked for, and told of; `pod` the same with the amounts that are in force.
        """
        self.wish = wish
        # A deletion that a full disk left room for only in a file's name is not in the object.
        self.desired: Pod = wish.object if wish.deletion is None else marked_deleted(wish.object, wish.deletion)
        self.pod: Pod = in_force(self.desired, wish.resize)

    def asked_for(self) -> Pod:
        """The pod as the manifest had it: what was added to the spec since is taken out again."""
        asked = copy.deepcopy(self.desired)
        asked.spec.nodeName = self.wish.options.get("nodeName")
        asked.spec.ephemeralContainers = []
        return asked

    @property
    def trouble(self) -> str:
        """What keeps the pod from being worked on, or ""."""
        return self._trouble

    @property
    def finished(self) -> bool:
        """It has come to a terminal phase, and will not leave it."""
        return self.phase in FINISHED

    @property
    def admitted(self) -> bool:
        """It was decided whether it is taken on: if not, `ledger.failure` says so."""
        return self.ledger.start_time is not None

    @property
    def static(self) -> str | None:
        """The file that the pod comes from, if it is a static pod."""
        found: str | None = self.wish.options.get("static")
        return found

    @property
    def deleting(self) -> bool:
        """It is being taken down."""
        return self.wish.deletion is not None

    def probe_result(self, name: str, instance_id: str, kind: ProbeKind, success: bool, message: str = "") -> None:
        """Take what a probe of an instance says now; what follows from it is decided at once.

        Nothing new, or about an instance that has a successor: nothing happens. `message` is for the log.
        """
        known = self.ledger.containers.get(name)
        if known is None:
            return
        new = probe_result(known, instance_id, kind, success)
        if new is known:
            return
        word = "succeeds" if success else f"fails: {message}"
        _LOG.debug("pod %s: container %s: %s probe %s", self.label, name, kind.value, word)
        self.ledger.containers[name] = new
        self.touch()
        self.wake()
        if self.published.spec_is_known:
            # At once: the loop may be busy for a while with another container of the pod.
            now = self.world.clock.now()
            self.published.publish(observe(self, now), now)
            self.prober.sync(self.observed)

    # for its parts

    @property
    def tempo(self) -> float:
        """What delays of the back-off and periods of probes are divided by."""
        return float(self.wish.options.get("timeScale") or 1.0)

    def container(self, name: str) -> Container:
        """The container of this name in the spec, init and ephemeral containers included."""
        return container_of(self.pod, name)

    def drop_all(self) -> None:
        """Forget all instances, and what was prepared for others."""
        self.mirror.clear()
        while self.prepared:
            self.prepared.popitem()[1].close()

    def image_ids(self) -> set[str]:
        """The images that containers of this pod are made from, and that its volumes are."""
        made_from = {known.image_id for known in self.ledger.containers.values() if known.image_id}
        return made_from | set(self.ledger.volume_images.values())

    def note(self, kind: str, reason: str, message: str, container: str = "") -> None:
        """Add an event; a flood of them is folded and thinned out (S-EVENTS).

        Args:
            kind: NORMAL or WARNING.
            reason: the kubelet's word for it.
            message: a sentence.
            container: the container it is about, if it is about one.
        """
        self.published.note(kind, reason, message, container)

    def save(self) -> None:
        """Store the ledger if it has changed.

        Raises:
            StepError: it cannot be written; it will be tried again, and no record that it lacks is dropped before.
        """
        if not self._unsaved or self.gone:
            return
        try:
            write_ledger(self.paths, self.ledger)
        except OSError as error:
            raise StepError("write", str(self.paths.ledger), error.errno or 0, what=f"pod {self.label}") from error
        self._unsaved = False

    def touch(self) -> None:
        """The ledger was changed."""
        self._unsaved = True

    # the loop

    async def _live(self) -> None:
        # A cancellation may be lost in asyncio.wait_for (before Python 3.12): then this is what ends it.
        while not (self.gone or self._closing):
            self._awake.clear()
            busy = False
            try:
                busy = await self._turn()
                self._trouble = ""
            except asyncio.CancelledError:
                raise
            except (NsrunError, OSError) as error:
                self._put_off(error, brief_of(error) if isinstance(error, OSError) else str(error))
            except Exception as error:
                _LOG.exception("pod %s: a bug", self.label)
                self._put_off(error, f"{type(error).__name__}: {error}")
            self.looked.set()
            if not (busy or self.gone or self._closing):
                await self._sleep()

    def _put_off(self, error: BaseException, text: str) -> None:
        if text != self._trouble:
            _LOG.warning("pod %s: %s; trying again in %g s", self.label, text, RETRY_S)
            self._trouble = text
            if not isinstance(error, ShimClosedError):
                self.note(WARNING, FAILED_SYNC, f"error syncing pod, trying again: {text}")
        if isinstance(error, ShimError):
            _LOG.debug("pod %s", self.label, exc_info=error)
        self._wake_at = self.world.clock.now() + RETRY_S

    async def _sleep(self) -> None:
        timer = None
        if self._wake_at is not None:
            timer = self.world.clock.call_at(self._wake_at, self.wake)
        try:
            await self._awake.wait()
        finally:
            if timer is not None:
                timer.cancel()

    async def _turn(self) -> bool:
        """Look once, and do what is to be done. True when something was done: then look again."""
        await self.link.connect()
        now = self.world.clock.now()
        if not self.admitted and (self.deleting or self.placing.look()):
            self._admit(now)
        restarting = self.ledger.restart_all
        again = [self.pulls.sync(now, wanted=not self.deleting and not self.finished), await self.volumes.refresh()]
        # Before looking: what is in force afterwards is what is told.
        again.append(self.resizer.sync(now))
        again_at = min((at for at in again if at is not None), default=None)
        observed = observe(self, now)
        self.hooks.resume()
        self.disk.sync()
        if not self.published.spec_is_known or observed.restart_all != restarting:
            # That all are started anew is told of before it is over.
            self.published.publish(observed, now)
        actions = decide(self.pod, observed, now)
        self._wake_at = again_at
        starts: list[StartContainer] = []
        acted = False
        for action in actions:
            if isinstance(action, WakeAt):
                self._wake_at = action.at if again_at is None else min(action.at, again_at)
                continue
            if isinstance(action, StartContainer) and self.pulls.running(action.name):
                continue
            if isinstance(action, RemovePod) and self.desired.metadata.finalizers and self.static is None:
                # Somebody has something to do first, and says so by taking the last of them away.
                continue
            _LOG.debug("pod %s: %s", self.label, action)
            acted = True
            if isinstance(action, StartContainer):
                starts.append(action)
                continue
            if isinstance(action, StopSandbox):
                # How it ended is told before it is cleared away, which takes a while.
                self.published.publish(observed, now)
            try:
                await self._do(action)
            except (NsrunError, OSError):
                # What was seen is told even when nothing can be done about it now.
                self.published.publish(observed, now)
                raise
            if isinstance(action, CreateSandbox) and self.ledger.sandbox_ready:
                # It was made to start something in: both are told of together.
                return True
        if starts:
            await containers.start_all(self, starts)
        if self.gone:
            return False
        now = self.world.clock.now()
        self.published.publish(observe(self, now) if acted else observed, now)
        self._save_or_put_off()
        self.prober.sync(self.observed)
        return acted

    def _admit(self, now: float) -> None:
        """Decide whether the pod is taken on. Stored before anything is begun, so that nobody decides again after that."""
        self.ledger.start_time = now
        self.touch()
        if sandbox_state(self) is not SandboxState.NONE:
            return
        failure = admit(self.pod, self.world.facts_for(self.pod, self.uid), now)
        if failure is not None:
            self.ledger.failure = rejection(failure)
            self.note(WARNING, failure.reason, failure.message)

    async def _do(self, action: Action) -> None:
        match action:
            case CreateSandbox():
                if await self.volumes.set_up():
                    await sandbox.create(self, action.attempt, containers.prepare_first)
            case CleanSandbox():
                await sandbox.clean(self, action.reason)
            case StopSandbox():
                await self._give_back()
                await sandbox.stop(self)
            case AnnounceStop():
                containers.announce(self, action)
            case ResetContainers():
                self._reset()
            case SignalContainer():
                await containers.stop(self, action)
            case KillContainer():
                await containers.kill(self, action)
            case RunHook():
                self.hooks.begin(action)
            case ForgetInstance():
                await containers.forget(self, action)
            case RemovePod():
                await self._remove()

    async def _give_back(self) -> None:
        """What an evicted pod took of the disk is free at once, though the pod is still there to be looked at."""
        if self.ledger.failure is not None and self.ledger.failure.reason == EVICTED:
            await self.volumes.tear_down()

    def _reset(self) -> None:
        """All containers are dead, to be started anew: forget how they ended, in one piece, before any of them begins."""
        inits_and_mains = (*self.pod.spec.initContainers, *self.pod.spec.containers)
        before = self.ledger.containers, self.ledger.restart_all
        self.ledger.containers = reset(self.ledger.containers, [one.name for one in inits_and_mains])
        self.ledger.restart_all = None
        self.touch()
        try:
            self.save()
        except StepError:
            # Nothing may begin that the next server would take for one of those that are to end.
            self.ledger.containers, self.ledger.restart_all = before
            raise

    async def _remove(self) -> None:
        """The last steps: logs and everything else first, the wish last, so that a crash in between is carried on with."""
        await sandbox.release(self)
        await self.volumes.tear_down()
        self.world.claims.drop_owned(self.pod)
        self.world.ids.release(self.uid)
        await asyncio.to_thread(logdir.remove, self.world.layout, self.log_directory)
        unlink_if_there(self.paths.ledger)
        unlink_if_there(self.paths.wish)
        remove_tree(self.paths.directory)
        self.gone = True
        self.prober.close()
        self.hooks.close()
        self.disk.close()
        self.last_resort.cancel()
        mark(self.label, "gone")
        self._on_gone(self)
        self.published.gone()
        _LOG.info("pod %s (%s) is gone", self.label, self.uid)

    def _save_or_put_off(self) -> None:
        try:
            self.save()
        except StepError as error:
            at = self._wake_at
            self._put_off(error, str(error))
            if at is not None and self._wake_at is not None:
                self._wake_at = min(at, self._wake_at)
