"""Where each server begins to count the versions of objects: above all that those before it gave, whatever the clock says."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from nsrun.state.files import read_or_none, write_atomic

ROOM = 1_000_000_000
"""More than any server gives, unless it runs so long that the clock has gone further meanwhile (it counts microseconds)."""


def begin_versions(path: Path, now: float) -> int:
    """The version to count from: the time in microseconds, or more. Noted before anybody is told of it.

    A disk that is full keeps no server from starting: what is noted already is overwritten in its place, and where nothing is, the clock
    is believed.

    Args:
        path: where it is noted, until the next start of the machine.
        now: seconds since the epoch.
    """
    try:
        before = int(read_or_none(path) or b"0")
    except ValueError:
        # Nothing that nsrun wrote.
        before = 0
    first = max(int(now * 1_000_000), before + ROOM if before else 0)
    data = b"%020d" % first
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        with contextlib.suppress(OSError):
            write_atomic(path, data)
        return first
    with contextlib.suppress(OSError):
        # As long as what it replaces, in one call: no room is needed, and nobody finds half of it.
        os.pwrite(fd, data, 0)
        os.ftruncate(fd, len(data))
    os.close(fd)
    return first
