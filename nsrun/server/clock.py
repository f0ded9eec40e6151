"""The time, injected: nothing in the server asks the system for it directly."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Protocol

LONGEST_SLEEP_S = 60.0
"""CLOCK_REALTIME may be set while a timer on the monotonic clock runs; after at most this long the engine looks again."""


class Timer(Protocol):
    """What `Clock.call_at` gives: something that can be cancelled."""

    def cancel(self) -> None:
        """Do not call."""


class Clock(Protocol):
    """Seconds since the epoch, and a call at such a time."""

    def now(self) -> float:
        """CLOCK_REALTIME in seconds."""

    def call_at(self, at: float, callback: Callable[[], None]) -> Timer:
        """Call `callback` at `at` or, when that is far off, earlier."""


class SystemClock:
    """The machine's clock and the running loop's timers."""

    def now(self) -> float:
        """CLOCK_REALTIME in seconds."""
        return time.time()

    def call_at(self, at: float, callback: Callable[[], None]) -> Timer:
        """Call `callback` at `at`, or after LONGEST_SLEEP_S when that comes first."""
        delay = min(max(at - time.time(), 0.0), LONGEST_SLEEP_S)
        return asyncio.get_running_loop().call_later(delay, callback)
