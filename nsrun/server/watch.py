"""Who wants to hear of changes, and the numbers that changes carry."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal

Change = Literal["ADDED", "MODIFIED", "DELETED"]
PodListener = Callable[[Change, dict[str, Any], dict[str, Any]], None]
"""Called with the kind of change, the Pod with status, and its columns."""
EventListener = Callable[[dict[str, Any]], None]
"""Called with a core/v1 Event."""


class Hub:
    """Passes changes of pods and their events on to the watchers.

    Resource versions begin at the server's start time in microseconds and grow by one with each change, so that they
    grow across restarts as well.
    """

    def __init__(self) -> None:
        self._pods: set[PodListener] = set()
        self._events: set[EventListener] = set()
        self._version = time.time_ns() // 1000

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
