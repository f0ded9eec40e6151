"""What is told of a pod: its status, its events, and the versions that watchers see."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import msgspec

from nsrun.server.events import as_object, field_path, newly_backing_off
from nsrun.server.watch import Change
from nsrun.spec.model import PodStatus
from nsrun.spec.names import pod_in_words
from nsrun.status import pod_status, summary
from nsrun.status.events import BACK_OFF, WARNING, Event
from nsrun.status.folding import EventLog
from nsrun.status.phase import PENDING
from nsrun.status.qos import qos_class

if TYPE_CHECKING:
    from nsrun.reconcile.model import Observed
    from nsrun.server.engine import PodEngine
    from nsrun.spec.model import Pod

FINISHED = ("Succeeded", "Failed")
"""The phases that a pod does not leave."""


class Published:
    """The status and the events of one pod, which are in its ledger.

    Attributes:
        version: the resourceVersion of what was told last.
    """

    def __init__(self, engine: PodEngine) -> None:
        self._engine = engine
        self._events = EventLog(engine.ledger.events)
        self._announced: Pod | None = None
        """The Pod, without its status, as it was told last."""
        self._added = False
        """It was told that there is such a pod."""
        self._event_versions: dict[float, str] = {}
        """Of the events that were told to the feed, by their first time."""
        self.version = engine.world.hub.next_version()

    @property
    def spec_is_known(self) -> bool:
        """The Pod as it is now, without its status, was told."""
        return self._announced is self._engine.pod

    def object(self) -> dict[str, Any]:
        """The Pod with its status, as builtins."""
        pod: dict[str, Any] = msgspec.to_builtins(self._engine.desired)
        pod["metadata"]["resourceVersion"] = self.version
        pod["status"] = msgspec.to_builtins(self._engine.ledger.status)
        return pod

    def pod(self) -> Pod:
        """The Pod with its status."""
        return self.shown(self._engine.desired)

    def shown(self, pod: Pod) -> Pod:
        """`pod` with the version and the status that are published."""
        metadata = msgspec.structs.replace(pod.metadata, resourceVersion=self.version)
        return msgspec.structs.replace(pod, metadata=metadata, status=self._engine.ledger.status)

    def begin(self) -> None:
        """Tell of a new pod, of which nothing was decided yet."""
        engine = self._engine
        engine.ledger.status = PodStatus(phase=PENDING, qosClass=qos_class(engine.pod))
        self._tell("ADDED")

    def _tell(self, change: Change) -> None:
        """Tell of a change that has the version `self.version`."""
        hub = self._engine.world.hub
        self._added = True
        if hub.feed.watched:
            hub.feed.tell(change, "Pod", self.pod())
        if hub.watched:
            hub.pod_changed(change, self.object(), self.columns())

    def columns(self) -> dict[str, Any]:
        """What `pod ls` shows of it."""
        engine = self._engine
        return asdict(summary(engine.pod, engine.ledger.status, engine.world.clock.now()))

    def events(self) -> list[tuple[float, dict[str, Any]]]:
        """Its events as core/v1 Events, each with the time at which it was seen last."""
        return [(event.last_at, self._event_object(event)) for event in self._engine.ledger.events]

    def versioned_events(self) -> list[dict[str, Any]]:
        """Its events as core/v1 Events, each with a version of its own."""
        return [self._versioned(event) for event in self._engine.ledger.events]

    def event(self, name: str) -> dict[str, Any] | None:
        """One of its events as a core/v1 Event with a version."""
        found = next(
            (one for one in self._engine.ledger.events if self._event_object(one)["metadata"]["name"] == name), None
        )
        return None if found is None else self._versioned(found)

    def forget(self, name: str, *, told: bool = True) -> None:
        """Have an event no more; `told`: whoever listens is told."""
        engine = self._engine
        for one in engine.ledger.events:
            if self._event_object(one)["metadata"]["name"] == name:
                obj = self._versioned(one, anew=True)
                self._events.forget(one)
                engine.ledger.events = self._events.told
                engine.touch()
                if told:
                    engine.world.hub.feed.tell("DELETED", "Event", obj)

    def _versioned(self, event: Event, *, anew: bool = False) -> dict[str, Any]:
        version = None if anew else self._event_versions.get(event.first_at)
        if version is None:
            known = {one.first_at for one in self._engine.ledger.events}
            self._event_versions = {at: one for at, one in self._event_versions.items() if at in known}
            version = self._event_versions[event.first_at] = self._engine.world.hub.next_version()
        obj = self._event_object(event)
        obj["metadata"]["resourceVersion"] = version
        return obj

    def _event_object(self, event: Event) -> dict[str, Any]:
        return as_object(event, self._engine.pod.metadata, self.version, self._engine.world.node.name)

    def note(self, kind: str, reason: str, message: str, container: str = "") -> None:
        """Add an event; see `PodEngine.note`."""
        engine = self._engine
        told = self._events.add(
            Event(kind, reason, message, field_path(engine.pod, container)), engine.world.clock.now()
        )
        if told is None:
            return
        before = engine.ledger.events
        engine.ledger.events = self._events.told
        engine.touch()
        if engine.world.hub.feed.watched:
            self._feed_event(before, told)
        if engine.world.hub.events_watched:
            engine.world.hub.event(self._event_object(told))
        engine.changed.tell()

    def _feed_event(self, before: list[Event], told: Event) -> None:
        feed, now = self._engine.world.hub.feed, {one.first_at for one in self._engine.ledger.events}
        for event in before:
            if event.first_at not in now:
                feed.tell("DELETED", "Event", self._versioned(event, anew=True))
        known = any(one.first_at == told.first_at for one in before)
        feed.tell("MODIFIED" if known else "ADDED", "Event", self._versioned(told, anew=True))

    def publish(self, observed: Observed, now: float, before: PodStatus | None = None) -> None:
        """Work the status out; tell the watchers if it, or the object, is another one.

        `before` is what it goes on from, if that is not the published one.
        """
        engine, hub = self._engine, self._engine.world.hub
        status = pod_status(engine.pod, observed, now, before or engine.ledger.status)
        if self.spec_is_known and status == engine.ledger.status:
            return
        for name in newly_backing_off(engine.ledger.status, status):
            text = f"Back-off restarting failed container {name} in pod {pod_in_words(engine.pod)}"
            self.note(WARNING, BACK_OFF, text, name)
        engine.ledger.status = status
        if status.phase in FINISHED and not engine.ledger.terminal:
            engine.ledger.terminal = True
            engine.world.claims.wake_waiting()
            engine.world.room_made()
        engine.touch()
        self.version = hub.next_version()
        self._announced = engine.pod
        engine.world.names.changed(engine)
        self._tell("MODIFIED" if self._added else "ADDED")
        engine.changed.tell()

    def gone(self) -> None:
        """Tell the watchers that there is no such pod any more."""
        hub = self._engine.world.hub
        self._engine.world.names.gone(self._engine.uid)
        if hub.keep_events is not None:
            hub.keep_events(self.versioned_events())
        self.version = self._engine.world.hub.next_version()
        self._tell("DELETED")
        self._engine.changed.tell()
