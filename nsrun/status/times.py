"""Times and durations as Kubernetes and Go print them.

Source: apimachinery pkg/apis/meta/v1 Time, pkg/util/duration HumanDuration; Go's time.Duration.
"""

from __future__ import annotations

from datetime import UTC, datetime
from functools import lru_cache

_LAST = 253402300799
"""9999-12-31T23:59:59Z."""
_MINUTE, _HOUR, _DAY, _YEAR = 60, 3600, 86400, 365 * 86400


def rfc3339(seconds: float | None) -> str | None:
    """A time in seconds since the epoch as metav1.Time: whole seconds, UTC. None stays None.

    What comes after the year 9999, which RFC 3339 cannot write, is its last second.
    """
    if seconds is None:
        return None
    return _rfc3339(int(min(seconds, _LAST)))


@lru_cache(maxsize=4096)
def _rfc3339(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def seconds_of(text: str) -> float:
    """The reverse of `rfc3339`, fractions and offsets included. Raises ValueError."""
    return datetime.fromisoformat(text).timestamp()


def go_duration(seconds: float) -> str:
    """A duration of whole milliseconds as Go prints it: 640ms, 1.5s, 10s, 1m20s, 5m0s, 1h0m0s."""
    milliseconds = int(seconds * 1000)
    if 0 < milliseconds < 1000:
        return f"{milliseconds}ms"
    minutes, rest = divmod(milliseconds, 60_000)
    hours, minutes = divmod(minutes, 60)
    text = f"{rest / 1000:.3f}".rstrip("0").rstrip(".") + "s"
    if hours:
        return f"{hours}h{minutes}m{text}"
    return f"{minutes}m{text}" if minutes else text


def human_duration(seconds: float) -> str:
    """A duration with two or three significant figures as kubectl prints ages: 119s, 2m5s, 7h, 3d4h."""
    whole = int(seconds)
    if whole < -1:
        return "<invalid>"
    whole = max(whole, 0)
    if whole < 2 * _MINUTE:
        return f"{whole}s"
    if whole < 10 * _MINUTE:
        return _two(whole // _MINUTE, "m", whole % _MINUTE, "s")
    if whole < 3 * _HOUR:
        return f"{whole // _MINUTE}m"
    if whole < 8 * _HOUR:
        return _two(whole // _HOUR, "h", whole % _HOUR // _MINUTE, "m")
    if whole < 2 * _DAY:
        return f"{whole // _HOUR}h"
    if whole < 8 * _DAY:
        return _two(whole // _DAY, "d", whole % _DAY // _HOUR, "h")
    if whole < 2 * _YEAR:
        return f"{whole // _DAY}d"
    if whole < 8 * _YEAR:
        return _two(whole // _YEAR, "y", whole % _YEAR // _DAY, "d")
    return f"{whole // _YEAR}y"


def _two(major: int, unit: str, minor: int, small_unit: str) -> str:
    return f"{major}{unit}{minor}{small_unit}" if minor else f"{major}{unit}"
