"""Who wants to hear of changes, and the numbers that changes carry."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal

import msgspec

Change = Literal["ADDED", "MODIFIED", "DELETED"]
PodListener = Callable[[Change, dict[str, Any], dict[str, Any]], None]
"""Called with the kind of change, the Pod with status, and its columns."""
EventListener = Callable[[dict[str, Any]], None]
"""Called with a core/v1 Event."""


ObjectListener = Callable[[msgspec.Raw], None]
"""Called with `{type, kind, object}` in JSON."""
_ENCODER = msgspec.json.Encoder()


class Feed:
    """Changes of objects of all kinds. Each is made JSON once, however many listen; while nobody does, it costs nothing."""

    def __init__(self) -> None:
        self._listeners: set[ObjectListener] = set()
        self.on_watched: Callable[[bool], None] = lambda _watched: None
        """Called when somebody begins to listen, and when nobody does any more."""

    @property
    def watched(self) -> bool:
        """Somebody listens."""
        return bool(self._listeners)

    @contextmanager
    def listening(self, listener: ObjectListener) -> Iterator[None]:
        """Have `listener` called for each change."""
        self._listeners.add(listener)
        self.on_watched(True)
        try:
            yield
        finally:
            self._listeners.discard(listener)
            self.on_watched(bool(self._listeners))

    def tell(self, change: Change, kind: str, obj: object) -> None:
        """Tell of a change of an object: anything that msgspec can make JSON of."""
        if not self._listeners:
            return
        data = as_json(change, kind, obj)
        for listener in tuple(self._listeners):
            listener(data)


def as_json(change: Change, kind: str, obj: object) -> msgspec.Raw:
    """A change, as listeners are told of it."""
    return msgspec.Raw(_ENCODER.encode({"type": change, "kind": kind, "object": obj}))


class Hub:
    """Passes changes of pods and their events on to the watchers.

    Resource versions grow by one with each change, and from one server to the next (`nsrun.state.versions`).

    Args:
        version: the one before the first.
    """

    def __init__(self, version: int) -> None:
        self._pods: set[PodListener] = set()
        self._events: set[EventListener] = set()
        self._version = version
        self.feed = Feed()
        self.keep_events: Callable[[list[dict[str, Any]]], None] | None = None
        """Takes over the events of a pod that is gone, once somebody has asked for events of all kinds."""

    @property
    def version(self) -> str:
        """The resourceVersion of the newest change."""
        return str(self._version)

    def next_version(self) -> str:
        """The resourceVersion of a change."""
        self._version += 1
        return str(self._version)

    @property
    def watched(self) -> bool:
        """Somebody listens for pods."""
        return bool(self._pods)

    @contextmanager
    def pods(self, listener: PodListener) -> Iterator[None]:
        """Have `listener` called for each change of a pod."""
        self._pods.add(listener)
        try:
            yield
        finally:
            self._pods.discard(listener)

    @contextmanager
    def events(self, listener: EventListener) -> Iterator[None]:
        """Have `listener` called for each event."""
        self._events.add(listener)
        try:
            yield
        finally:
            self._events.discard(listener)

    def pod_changed(self, change: Change, pod: dict[str, Any], columns: dict[str, Any]) -> None:
        """Tell the watchers of pods."""
        for listener in tuple(self._pods):
            listener(change, pod, columns)

    def event(self, event: dict[str, Any]) -> None:
        """Tell the watchers of events."""
        for listener in tuple(self._events):
            listener(event)

    @property
    def events_watched(self) -> bool:
        """Somebody listens for events."""
        return bool(self._events)


class Changed:
    """Something to wait for again and again: `wait` returns after the next `tell`."""

    def __init__(self) -> None:
        self._waiters: set[asyncio.Future[None]] = set()

    def tell(self) -> None:
        """Wake everybody who waits now."""
        waiters, self._waiters = self._waiters, set()
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    async def wait(self) -> None:
        """Until the next `tell`."""
        waiter = asyncio.get_running_loop().create_future()
        self._waiters.add(waiter)
        try:
            await waiter
        finally:
            self._waiters.discard(waiter)
