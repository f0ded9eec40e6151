"""Where the time goes: with NSRUN_TRACE=FILE the server appends one line per step, `seconds pod step` (CLOCK_MONOTONIC)."""

from __future__ import annotations

import os
import time

_FILE = os.environ.get("NSRUN_TRACE")
_FD = os.open(_FILE, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600) if _FILE else -1


def mark(pod: str, step: str) -> None:
    """Note that `pod` has come to `step`. Nothing without NSRUN_TRACE."""
    if _FD >= 0:
        os.write(_FD, f"{time.monotonic():.6f} {pod} {step}\n".encode())
