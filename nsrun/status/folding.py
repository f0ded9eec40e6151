"""How the events of a pod fold (S-EVENTS): a flood of them stays a short list that still tells what goes on.

Three things happen to an event, in this order. From the tenth distinct message of a kind and reason within ten minutes on it
becomes one event that stands for all of them. An event that happened before is counted. And an event is only told when
there is allowance left: 25 at once, one more every five minutes; what is not told is counted all the same.

Source: client-go tools/record/events_cache.go EventCorrelator (EventAggregator, eventLogger, EventSourceObjectSpamFilter)
with its defaults, which a kubelet uses.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace

from nsrun.status.events import Event

SIMILAR = 10
"""So many distinct messages of one type and reason are combined."""
SIMILAR_WITHIN_S = 600.0
"""An event this long after the last similar one begins to count anew."""
COMBINED = "(combined from similar events): "
BURST = 25
REFILL_S = 300.0
"""Seconds until one more event may be told."""
KEPT_S = 3600.0
"""An event that was not told again for this long is forgotten, as an API server does by default (--event-ttl)."""
KEPT = 64
"""So many events of a pod are kept at most; the burst and the refill leave fewer within `KEPT_S`."""
REMEMBERED = 256
"""So many distinct events are remembered to be counted; more than `KEPT` because not all of them are told."""

_Key = tuple[str, ...]


class EventLog:
    """The events of one pod. Changed by `add` alone, which is told the time.

    Args:
        told: the events that were told by an earlier server, oldest first by their last time. What was remembered of others
            is gone with it, as a kubelet's is.

    Attributes:
        told: what anybody may see, oldest first by the last time: at most `KEPT`.
    """

    __slots__ = ("_counted", "_filled_at", "_similar", "_tokens", "told")

    def __init__(self, told: Iterable[Event] = ()) -> None:
        self.told: list[Event] = list(told)[-KEPT:]
        self._counted: dict[_Key, Event] = {}
        self._similar: dict[_Key, tuple[dict[str, None], float]] = {}
        self._tokens = float(BURST)
        self._filled_at = -math.inf
        for event in self.told:
            combined = event.message.startswith(COMBINED)
            kind = (event.type, event.reason)
            self._counted[kind if combined else event.key] = event
            if not combined:
                messages, _ = self._similar.setdefault(kind, ({}, event.last_at))
                messages[event.message] = None
                while len(messages) >= SIMILAR:
                    del messages[next(iter(messages))]
                self._similar[kind] = (messages, event.last_at)

    def add(self, new: Event, now: float) -> Event | None:
        """Note that `new` happened at `now` (seconds since the epoch).

        Returns:
            The event as it is to be told, with its count and times, or None when it is only counted.
        """
        new, key = self._combine(new, now)
        counted = self._counted.pop(key, None)
        if counted is None:
            counted = replace(new, count=1, first_at=self._unused(now), last_at=now)
        else:
            counted = replace(new, count=counted.count + 1, first_at=counted.first_at, last_at=now)
        self._counted[key] = counted
        if len(self._counted) > REMEMBERED:
            del self._counted[next(iter(self._counted))]
        if not self._allowed(now):
            return None
        # first_at tells events apart; that of an event is the same whenever it is told.
        told = [one for one in self.told if one.first_at != counted.first_at and now - one.last_at <= KEPT_S]
        told.append(counted)
        self.told = told[-KEPT:]
        return counted

    def forget(self, event: Event) -> None:
        """Tell of an event no more; should it happen again, it is counted on."""
        self.told = [one for one in self.told if one.first_at != event.first_at]

    def _combine(self, new: Event, now: float) -> tuple[Event, _Key]:
        """The event that stands for `new`, and what it is counted under."""
        kind = (new.type, new.reason)
        messages, last_at = self._similar.get(kind, ({}, now))
        if now - last_at > SIMILAR_WITHIN_S:
            messages = {}
        messages[new.message] = None
        self._similar[kind] = (messages, now)
        if len(messages) < SIMILAR:
            return new, new.key
        del messages[next(iter(messages))]
        return replace(new, message=COMBINED + new.message), kind

    def _unused(self, now: float) -> float:
        """`now`, or the next time that no event of the pod has for its first: events are named after it."""
        used = {event.first_at for event in self._counted.values()}
        used.update(event.first_at for event in self.told)
        while now in used:
            now = math.nextafter(now, math.inf)
        return now

    def _allowed(self, now: float) -> bool:
        """Take one from the allowance, if there is one."""
        # A clock that was set back fills nothing, and takes nothing.
        waited_s = max(0.0, now - self._filled_at)
        self._tokens = min(float(BURST), self._tokens + waited_s / REFILL_S)
        self._filled_at = now
        if self._tokens < 1.0:
            return False
        self._tokens -= 1.0
        return True
