"""The loop of one pod: observe, decide, do, publish. Events only wake it; nothing that decides lives here alone.

What is kept in memory mirrors what can be read again: the wish and the ledger from their files, the records from the shim
(or, once it is dead, from what it wrote).
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
import errno
import logging
from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, replace
from typing import Any

import msgspec

from nsrun.errors import ConflictError, NsrunError, StepError, errno_text
from nsrun.reconcile import decide, request_deletion, settle
from nsrun.reconcile.admission import admit, rejection
from nsrun.reconcile.ledger import probe_result, request_restart, reset
from nsrun.reconcile.model import (
    Action,
    AnnounceStop,
    CleanSandbox,
    ContainerLedger,
    CreateSandbox,
    ForgetInstance,
    Instance,
    KillContainer,
    Observed,
    ProbeKind,
    RemovePod,
    ResetContainers,
    RunHook,
    Sandbox,
    SandboxState,
    SignalContainer,
    StartContainer,
    StopSandbox,
    WakeAt,
)
from nsrun.server import containers, logdir, sandbox
from nsrun.server.clock import Timer
from nsrun.server.events import as_object, field_path, marked_deleted, newly_backing_off
from nsrun.server.hooks import Hooks
from nsrun.server.inflight import InFlight
from nsrun.server.mirror import Mirror
from nsrun.server.prepared import Prepared
from nsrun.server.prober import Prober
from nsrun.server.pulls import PodPulls
from nsrun.server.trace import mark
from nsrun.server.watch import Change, Changed
from nsrun.server.world import World
from nsrun.shim import Event as ShimEvent
from nsrun.shim import Exited, JobEnded, LogBlocked, ShimClient, ShimClosedError, ShimError, read_records, shim_alive
from nsrun.spec.containers import container_of
from nsrun.spec.model import Container, Pod, PodStatus
from nsrun.spec.update import Update, updated
from nsrun.state.files import remove_tree, unlink_if_there
from nsrun.state.layout import PodPaths
from nsrun.state.ledger import Ledger, Wish, write_deletion, write_ledger, write_wish
from nsrun.status import pod_status, summary
from nsrun.status.events import BACK_OFF, FAILED_SYNC, LOG_BLOCKED, WARNING, Event
from nsrun.status.folding import EventLog
from nsrun.status.foreign import with_conditions

RETRY_S = 1.0
"""How long an action that failed for a reason outside the pod (a full disk, a shim that does not answer) is left alone."""
HELLO_S = 5.0
"""How long a living shim may take to answer before it is asked anew."""
LAST_RESORT_S = 5.0
"""How long after its grace period the shim of a pod that is taken down may live: one that does not answer is killed then."""

_LOG = logging.getLogger("nsrun.engine")
_FINISHED = ("Succeeded", "Failed")


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
        self.wish = wish
        self.ledger = ledger
        self.events = EventLog(ledger.events)
        self.paths: PodPaths = world.layout.pod(uid)
        # A deletion that a full disk left room for only in a file's name is not in the object.
        self.pod: Pod = wish.object if wish.deletion is None else marked_deleted(wish.object, wish.deletion)
        self.namespace = self.pod.metadata.namespace or "default"
        self.name = self.pod.metadata.name or ""
        self.label = f"{self.namespace}/{self.name}"
        self.log_directory = world.layout.logs_of(self.namespace, self.name, uid)
        self.shim: ShimClient | None = None
        self.shim_pid: int | None = None
        self.mirror = Mirror(self)
        self.hooks = Hooks(self)
        self.prober = Prober(self)
        self.pulls = PodPulls(self)
        self.prepared: dict[str, Prepared] = {}
        """By container: what was made ahead for an instance that is to be started."""
        self.observed = Observed(deletion=wish.deletion)
        """What was seen last; for those who only want to tell of it."""
        self.changed = Changed()
        self.starting = InFlight()
        """Starts that the shim was asked for and has not answered yet."""
        self.looked = asyncio.Event()
        """Set once the pod was looked at (or could not be): before that, only what is on disk is known of it."""
        self.gone = False
        self.version = world.hub.next_version()
        self._on_gone = on_gone
        self._awake = asyncio.Event()
        self._wake_at: float | None = None
        self._unsaved = False
        # Of a pod that is not new: what its containers' logs tell is all that is left.
        self._lost_ledger = not self.paths.ledger.exists()
        self._announced: Pod | None = None
        """The Pod, without its status, as it was told last."""
        self._trouble = ""
        self._task: asyncio.Task[None] | None = None
        self._last_resort: Timer | None = None

    # for the registry and the methods

    def begin(self) -> None:
        """Start working on the pod."""
        self._task = asyncio.get_running_loop().create_task(self._live(), name=f"pod {self.label}")
        self._expect_end()

    async def close(self) -> None:
        """Stop working on the pod; it runs on."""
        if self._last_resort is not None:
            self._last_resort.cancel()
        self.prober.close()
        self.hooks.close()
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        await self.pulls.close()
        if self.shim is not None:
            self.shim.close()
        while self.prepared:
            self.prepared.popitem()[1].close()

    def wake(self) -> None:
        """Look again, soon."""
        self._awake.set()

    @property
    def status(self) -> PodStatus:
        """The published status."""
        return self.ledger.status

    def object(self) -> dict[str, Any]:
        """The Pod with its status, as builtins."""
        pod: dict[str, Any] = msgspec.to_builtins(self.pod)
        pod["metadata"]["resourceVersion"] = self.version
        pod["status"] = msgspec.to_builtins(self.ledger.status)
        return pod

    def columns(self) -> dict[str, Any]:
        """What `pod ls` shows of it."""
        return asdict(summary(self.pod, self.ledger.status, self.world.clock.now()))

    @property
    def phase(self) -> str:
        """The published phase."""
        return self.ledger.status.phase or "Pending"

    def asked_for(self) -> Pod:
        """The pod as the manifest had it: what was added to the spec since is taken out again."""
        asked = copy.deepcopy(self.pod)
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
        return self.phase in _FINISHED

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

    def delete(self, grace_s: float) -> None:
        """Have the pod taken down; on disk when this returns. A shorter grace period than before shortens it.

        Raises:
            StepError: it could not be written down; then nothing happens to the pod.
        """
        now = self.world.clock.now()
        deletion = request_deletion(self.wish.deletion, now, grace_s)
        if deletion == self.wish.deletion:
            return
        wish = msgspec.structs.replace(self.wish, object=marked_deleted(self.pod, deletion), deletion=deletion)
        try:
            write_deletion(self.paths, wish)
        except FileNotFoundError:
            # Somebody removed the pod's directory: what is on disk says already that there is no such pod.
            _LOG.warning("pod %s: %s was removed", self.label, self.paths.directory)
        except OSError as error:
            raise StepError(
                "write", str(self.paths.wish), error.errno or 0, what=f'pod "{self.label}" cannot be taken down'
            ) from error
        self.wish = wish
        self.pod = wish.object
        self._expect_end()
        self.wake()

    def set_conditions(self, wanted: Mapping[str, str | None], reason: str | None, message: str | None) -> None:
        """Set conditions that somebody else than nsrun decides about; published and on disk when this returns.

        Args:
            wanted: status by type; None takes a condition away.
            reason: of all of them.
            message: of all of them.

        Raises:
            StepError: they are published, but could not be written down yet.
        """
        now = self.world.clock.now()
        previous = with_conditions(self.ledger.status, wanted, reason, message, now)
        self._publish(self._observe(now), now, previous)
        self.save()

    def update(self, pod: Pod, judged: Update, options: dict[str, Any]) -> None:
        """Make the pod another one, as far as that is possible in place; on disk and published when this returns.

        Nothing may be starting (`starting.none`): an instance is made from the definition at the time of its start.

        Args:
            pod: what is asked for; what nsrun adds to a pod stays as it is.
            judged: how that differs from the pod, without objections.
            options: those of the wish that are to be other ones.

        Raises:
            StepError: it could not be written down; then the pod is as it was.
        """
        now = self.world.clock.now()
        changed = dict(self.wish.changed)
        if judged.redefined:
            observed = self._observe(now)
            for name in judged.redefined:
                known = observed.ledgers.get(name)
                if known is not None:
                    changed[name] = known.starts
                    # The back-off is of a definition (S-BACKOFF). Stored first: the wish alone decides whether this happened.
                    self.ledger.containers[name] = replace(known, backoff_s=0.0, waiting=None)
                    self._unsaved = True
            self.save()
        self._replace_wish(
            msgspec.structs.replace(
                self.wish,
                object=updated(self.pod, pod, of_spec=judged.of_spec),
                changed=changed,
                options=self.wish.options | options,
            ),
            now,
        )

    def extend(self, pod: Pod) -> None:
        """Have the pod as `pod`, which has another ephemeral container; on disk and published when this returns.

        Raises:
            StepError: it could not be written down; then the pod is as it was.
        """
        metadata = msgspec.structs.replace(self.pod.metadata, generation=(self.pod.metadata.generation or 1) + 1)
        pod = msgspec.structs.replace(pod, metadata=metadata)
        self._replace_wish(msgspec.structs.replace(self.wish, object=pod), self.world.clock.now())

    def _replace_wish(self, wish: Wish, now: float) -> None:
        try:
            write_wish(self.paths, wish)
        except OSError as error:
            raise StepError(
                "write", str(self.paths.wish), error.errno or 0, what=f'pod "{self.label}" could not be changed'
            ) from error
        self.wish = wish
        self.pod = wish.object
        self._publish(self._observe(now), now)
        self.wake()

    def _expect_end(self) -> None:
        """Set the time from which on a pod that is taken down does not wait for its shim any more."""
        deletion = self.wish.deletion
        if deletion is None:
            return
        if self._last_resort is not None:
            self._last_resort.cancel()
        at = deletion.requested_at + deletion.grace_s + LAST_RESORT_S
        self._last_resort = self.world.clock.call_at(at, self._end_shim_hard)

    def _end_shim_hard(self) -> None:
        self._last_resort = None
        if self.gone or self.wish.deletion is None or not shim_alive(self.paths.directory):
            return
        if self.world.clock.now() < self.wish.deletion.requested_at + self.wish.deletion.grace_s + LAST_RESORT_S:
            self._expect_end()
            return
        _LOG.warning("pod %s: its shim does not end, and is killed", self.label)
        with contextlib.suppress(OSError):
            sandbox.kill_shim(self.paths)

    def restart(self, names: list[str], grace_s: float | None) -> None:
        """Have these containers stopped and started again.

        Raises:
            ConflictError: the pod is finished or being taken down.
        """
        if self.deleting or self.finished:
            state = "being taken down" if self.deleting else f"finished ({self.phase})"
            raise ConflictError(
                f'pod "{self.label}" is {state}; its containers are not started again',
                resolution="Run it anew: nsrun pod up --replace FILE",
            )
        now = self.world.clock.now()
        observed = self._observe(now)
        for name in names:
            known = observed.ledgers.get(name)
            if known is not None:
                self.ledger.containers[name] = request_restart(known, now, grace_s)
        self._unsaved = True
        self.save()
        self.wake()

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
        if self._announced is self.pod:
            # At once: the loop may be busy for a while with another container of the pod.
            now = self.world.clock.now()
            self._publish(self._observe(now), now)
            self.prober.sync(self.observed)
        self.wake()

    # observing

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
        """The images that containers of this pod are made from."""
        return {known.image_id for known in self.ledger.containers.values() if known.image_id}

    def sandbox_state(self) -> SandboxState:
        """What there is of a sandbox."""
        if self.shim is not None and self.ledger.sandbox_ready:
            return SandboxState.READY
        return SandboxState.DEAD if self.paths.shim_lock.exists() else SandboxState.NONE

    def _observe(self, now: float) -> Observed:
        """What is, with the ledger brought up to it."""
        state = self.sandbox_state()
        if state is SandboxState.DEAD:
            # The shim wrote each exit down before it could tell: its last words may only be on disk.
            self.mirror.take(read_records(self.paths.directory))
        current: dict[str, Instance] = {}
        older: list[Instance] = []
        for instance in self.mirror.instances():
            before = current.get(instance.name)
            if before is not None:
                older.append(before)
            current[instance.name] = instance
        if state is SandboxState.NONE:
            older.extend(current.values())
            current = {}
        if self._lost_ledger:
            self._lost_ledger = False
            self._count_on({one.name for one in self.mirror.instances()})
        observed = settle(
            self.pod,
            Observed(
                sandbox=Sandbox(
                    state=state,
                    attempt=self.ledger.sandbox_attempt,
                    created_at=self.ledger.sandbox_created_at,
                    ips=self.ledger.ips if state is SandboxState.READY else (),
                    waiting=self.ledger.sandbox_waiting,
                ),
                current=current,
                older=tuple(older),
                ledgers=self.ledger.containers,
                deletion=self.wish.deletion,
                start_time=self.ledger.start_time,
                terminal=self.ledger.terminal,
                host_ip=self.world.host_ip(),
                failure=self.ledger.failure,
                restart_all=self.ledger.restart_all,
                changed=self.wish.changed,
                tempo=self.tempo,
            ),
            now,
        )
        if (
            observed.ledgers != self.ledger.containers
            or observed.failure != self.ledger.failure
            or observed.restart_all != self.ledger.restart_all
        ):
            self.ledger.containers = dict(observed.ledgers)
            self.ledger.failure = observed.failure
            self.ledger.restart_all = observed.restart_all
            self._unsaved = True
        self.observed = observed
        return observed

    def _count_on(self, known: Collection[str]) -> None:
        """Without a ledger: have the numbers of containers that no record tells of go on from their logs (S-KEEP)."""
        spec = self.pod.spec
        names = [one.name for one in (*spec.initContainers, *spec.containers)]
        names += [one.name for one in spec.ephemeralContainers]
        for name in names:
            starts = 0 if name in known or name in self.ledger.containers else logdir.count(self, name)
            if starts:
                self.ledger.containers[name] = ContainerLedger(starts=starts)
                self._unsaved = True

    async def _connect(self) -> None:
        """Find the pod's shim again, if one lives and its sandbox was finished.

        Raises:
            NsrunError: it lives, but does not answer.
        """
        if self.shim is not None or not self.ledger.sandbox_ready or not shim_alive(self.paths.directory):
            return
        try:
            client = await ShimClient.connect(self.paths.directory)
        except ShimError as error:
            if error.number != errno.ENOENT:
                raise
            # Somebody removed its socket: nobody will ever reach it again.
            self.note(WARNING, FAILED_SYNC, f"{self.paths.shim_socket} is gone; the sandbox cannot be reached any more")
            await sandbox.end_shim(self.paths, self.label)
            return
        try:
            await asyncio.wait_for(self.take(client), HELLO_S)
        except BaseException as error:
            client.close()
            if isinstance(error, TimeoutError):
                raise StepError("ask the shim of", self.label, 110) from error
            raise
        await containers.collect_roots(self)

    async def take(self, client: ShimClient) -> None:
        """Make `client` the pod's shim: subscribe first, then list, so that no exit is missed in between.

        All is asked at once: the shim answers in the order of the requests.
        """
        self.mirror.take(())
        client.on_event = self._on_shim_event
        client.on_close = lambda: self._on_shim_close(client)
        hello, _, records = await asyncio.gather(client.hello(), client.subscribe(), client.list())
        for record in records:
            self.mirror.note(record)
            logdir.link(self, record)
        self.shim = client
        self.shim_pid = hello.pid
        self.hooks.tell()

    def lose_shim(self) -> None:
        """Forget the connection: the shim is gone, or is to be looked for again."""
        if self.shim is not None:
            self.shim.on_close = None
            self.shim.close()
        self.shim = None
        self.shim_pid = None
        self.hooks.tell()

    def _on_shim_event(self, event: ShimEvent) -> None:
        if isinstance(event, Exited):
            mark(self.label, f"exited {event.record.name}")
            self.mirror.note(event.record)
            self.wake()
            return
        self.hooks.tell()
        if isinstance(event, JobEnded):
            return
        number = event.error if isinstance(event, LogBlocked) else 0
        name = self.mirror.log_blocked(event.id, number)
        if name is not None and number:
            text = f"The log of container {name} cannot be written ({errno_text(number)}): its output waits, nothing is lost"
            self.note(WARNING, LOG_BLOCKED, text, name)
        # Whoever follows the log is told which of its files are complete now.
        self.changed.tell()
        self.wake()

    def _on_shim_close(self, client: ShimClient) -> None:
        if self.shim is client:
            self.shim = None
            self.shim_pid = None
            self.hooks.tell()
            self.wake()

    # the loop

    async def _live(self) -> None:
        while not self.gone:
            self._awake.clear()
            busy = False
            try:
                busy = await self._turn()
                self._trouble = ""
            except asyncio.CancelledError:
                raise
            except (NsrunError, OSError) as error:
                self._put_off(error, str(error))
            except Exception as error:
                _LOG.exception("pod %s: a bug", self.label)
                self._put_off(error, f"{type(error).__name__}: {error}")
            self.looked.set()
            if not busy and not self.gone:
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
        await self._connect()
        now = self.world.clock.now()
        if not self.admitted:
            self._admit(now)
        restarting = self.ledger.restart_all
        pulls_at = self.pulls.sync(now, wanted=not self.deleting and not self.finished)
        observed = self._observe(now)
        self.hooks.resume()
        if self._announced is not self.pod or observed.restart_all != restarting:
            # That all are started anew is told of before it is over.
            self._publish(observed, now)
        actions = decide(self.pod, observed, now)
        self._wake_at = pulls_at
        starts: list[StartContainer] = []
        acted = False
        for action in actions:
            if isinstance(action, WakeAt):
                self._wake_at = action.at if pulls_at is None else min(action.at, pulls_at)
                continue
            if isinstance(action, StartContainer) and self.pulls.running(action.name):
                continue
            _LOG.debug("pod %s: %s", self.label, action)
            acted = True
            if isinstance(action, StartContainer):
                starts.append(action)
                continue
            if isinstance(action, StopSandbox):
                # How it ended is told before it is cleared away, which takes a while.
                self._publish(observed, now)
            try:
                await self._do(action)
            except (NsrunError, OSError):
                # What was seen is told even when nothing can be done about it now.
                self._publish(observed, now)
                raise
            if isinstance(action, CreateSandbox) and self.ledger.sandbox_ready:
                # It was made to start something in: both are told of together.
                return True
        if starts:
            await containers.start_all(self, starts)
        if self.gone:
            return False
        now = self.world.clock.now()
        self._publish(self._observe(now) if acted else observed, now)
        self._save_or_put_off()
        self.prober.sync(self.observed)
        return acted

    def _admit(self, now: float) -> None:
        """Decide whether the pod is taken on. Stored before anything is begun, so that nobody decides again after that."""
        self.ledger.start_time = now
        self._unsaved = True
        if self.sandbox_state() is not SandboxState.NONE:
            return
        failure = admit(self.pod, self.world.facts_for(self.pod, self.uid), now)
        if failure is not None:
            self.ledger.failure = rejection(failure)
            self.note(WARNING, failure.reason, failure.message)

    async def _do(self, action: Action) -> None:
        match action:
            case CreateSandbox():
                await sandbox.create(self, action.attempt, containers.prepare_first)
            case CleanSandbox():
                await sandbox.clean(self, action.reason)
            case StopSandbox():
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

    def _reset(self) -> None:
        """All containers are dead, to be started anew: forget how they ended, in one piece, before any of them begins."""
        inits_and_mains = (*self.pod.spec.initContainers, *self.pod.spec.containers)
        self.ledger.containers = reset(self.ledger.containers, [one.name for one in inits_and_mains])
        self.ledger.restart_all = None
        self._unsaved = True
        self.save()

    async def _remove(self) -> None:
        """The last steps: logs and everything else first, the wish last, so that a crash in between is carried on with."""
        await sandbox.release(self)
        await asyncio.to_thread(logdir.remove, self.world.layout, self.log_directory)
        unlink_if_there(self.paths.ledger)
        unlink_if_there(self.paths.wish)
        remove_tree(self.paths.directory)
        self.gone = True
        self.prober.close()
        self.hooks.close()
        if self._last_resort is not None:
            self._last_resort.cancel()
        mark(self.label, "gone")
        self.version = self.world.hub.next_version()
        self._on_gone(self)
        self.world.hub.pod_changed("DELETED", self.object(), self.columns())
        self.changed.tell()
        _LOG.info("pod %s (%s) is gone", self.label, self.uid)

    # saying and storing

    def note(self, kind: str, reason: str, message: str, container: str = "") -> None:
        """Add an event; a flood of them is folded and thinned out (S-EVENTS).

        Args:
            kind: NORMAL or WARNING.
            reason: the kubelet's word for it.
            message: a sentence.
            container: the container it is about, if it is about one.
        """
        path = field_path(self.pod, container)
        told = self.events.add(Event(kind, reason, message, path), self.world.clock.now())
        if told is None:
            return
        self.ledger.events = self.events.told
        self._unsaved = True
        if self.world.hub.events_watched:
            self.world.hub.event(self.event_object(told))
        self.changed.tell()

    def event_object(self, event: Event) -> dict[str, Any]:
        """An event of this pod as a core/v1 Event."""
        return as_object(event, self.pod.metadata, self.version, self.world.node.name)

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

    def _save_or_put_off(self) -> None:
        try:
            self.save()
        except StepError as error:
            at = self._wake_at
            self._put_off(error, str(error))
            if at is not None and self._wake_at is not None:
                self._wake_at = min(at, self._wake_at)

    def _publish(self, observed: Observed, now: float, before: PodStatus | None = None) -> None:
        """Work the status out; tell the watchers if it, or the object, is another one.

        `before` is what it goes on from, if that is not the published one.
        """
        status = pod_status(self.pod, observed, now, before or self.ledger.status)
        if self._announced is self.pod and status == self.ledger.status:
            return
        for name in newly_backing_off(self.ledger.status, status):
            text = f"Back-off restarting failed container {name} in pod {self.name}_{self.namespace}({self.uid})"
            self.note(WARNING, BACK_OFF, text, name)
        self.ledger.status = status
        self.ledger.terminal = self.ledger.terminal or status.phase in _FINISHED
        self._unsaved = True
        self.version = self.world.hub.next_version()
        change: Change = "ADDED" if self._announced is None else "MODIFIED"
        self._announced = self.pod
        if self.world.hub.watched:
            self.world.hub.pod_changed(change, self.object(), self.columns())
        self.changed.tell()
