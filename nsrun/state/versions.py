"""Where each server begins to count the versions of objects: above all that those before it gave, whatever the clock says."""

from __future__ import annotations

from pathlib import Path

from nsrun.state.files import read_or_none, write_atomic

ROOM = 1_000_000_000
"""More than any server gives, unless it runs so long that the clock has gone further meanwhile (it counts microseconds)."""


def begin_versions(path: Path, now: float) -> int:
    """The version to count from: the time in microseconds, or more. Noted before anybody is told of it.

    Args:
        path: where it is noted, until the next start of the machine.
        now: seconds since the epoch.

    Raises:
        OSError: it cannot be noted.
    """
    try:
        before = int(read_or_none(path) or b"0")
    except ValueError:
        # Nothing that nsrun wrote.
        before = 0
    first = max(int(now * 1_000_000), before + ROOM if before else 0)
    write_atomic(path, str(first).encode())
    return first
