"""One epoll and a heap of timers. asyncio would be a third of the process's memory and most of the time of an answer."""

from __future__ import annotations

import heapq
import itertools
import select
import time
from collections.abc import Callable

IN, OUT = select.EPOLLIN, select.EPOLLOUT
_MOST_CANCELLED = 256
Ready = Callable[[int], None]
"""Called with the epoll events of a descriptor."""


class Timer:
    """Something to be done later, unless `cancel` is called."""

    __slots__ = ("_loop", "work")

    def __init__(self, loop: Loop, work: Callable[[], None]) -> None:
        self._loop = loop
        self.work: Callable[[], None] | None = work

    def cancel(self) -> None:
        """It will not be done."""
        if self.work is not None:
            self.work = None
            self._loop.cancelled()


class Loop:
    """Calls what waits for descriptors and times, for ever."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._ready: dict[int, Ready] = {}
        self._timers: list[tuple[float, int, Timer]] = []
        self._numbers = itertools.count()
        self._cancelled = 0
        self.now = time.monotonic()
        """Seconds, of this turn."""

    def watch(self, fd: int, ready: Ready, events: int = IN) -> None:
        """Have `ready` called when something can be done with a descriptor; what was asked for it before counts no more."""
        if fd in self._ready:
            self._epoll.modify(fd, events)
        else:
            self._epoll.register(fd, events)
        self._ready[fd] = ready

    def forget(self, fd: int) -> None:
        """Watch a descriptor no more; to be called before it is closed."""
        if self._ready.pop(fd, None) is not None:
            self._epoll.unregister(fd)

    def later(self, delay_s: float, work: Callable[[], None]) -> Timer:
        """Have something done in a while."""
        timer = Timer(self, work)
        heapq.heappush(self._timers, (self.now + delay_s, next(self._numbers), timer))
        return timer

    def cancelled(self) -> None:
        """A timer was cancelled. Most are, long before their time: they are thrown out once they are the greater part."""
        self._cancelled += 1
        if self._cancelled > _MOST_CANCELLED and self._cancelled * 2 > len(self._timers):
            self._timers = [entry for entry in self._timers if entry[2].work is not None]
            heapq.heapify(self._timers)
            self._cancelled = 0

    def turn(self, most_s: float = 60.0) -> None:
        """Wait for what is next, and do it."""
        wait_s = most_s
        while self._timers and self._timers[0][2].work is None:
            heapq.heappop(self._timers)
            self._cancelled -= 1
        if self._timers:
            wait_s = min(max(self._timers[0][0] - time.monotonic(), 0.0), most_s)
        happened = self._epoll.poll(wait_s)
        self.now = time.monotonic()
        for fd, events in happened:
            # One before may have closed it.
            ready = self._ready.get(fd)
            if ready is not None:
                ready(events)
        while self._timers and self._timers[0][0] <= self.now:
            timer = heapq.heappop(self._timers)[2]
            work, timer.work = timer.work, None
            if work is not None:
                work()
            else:
                self._cancelled -= 1

    def run(self) -> None:
        """Until the process ends."""
        while True:
            self.turn()
