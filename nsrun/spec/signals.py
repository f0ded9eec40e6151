"""Signals by name: of `lifecycle.stopSignal`, of an image's StopSignal, of who asks for one."""

from __future__ import annotations

import re
import signal

RTMIN, RTMAX = 34, 64
"""What the C library leaves to programs; the names count from there, for container runtimes too."""

_REAL_TIME = re.compile(r"(RTMIN|RTMAX)(?:([+-])([0-9]{1,2}))?")
_ALIASES = {"CLD": signal.SIGCHLD, "IOT": signal.SIGABRT, "POLL": signal.SIGIO, "STKFLT": 16, "UNUSED": signal.SIGSYS}


def signal_number(text: str) -> int | None:
    """The number of `SIGTERM`, `term`, `15`, `SIGRTMIN+3` or `RTMAX-1`; None when there is no such signal."""
    word = text.strip().upper()
    if word.isascii() and word.isdigit():
        return int(word) if len(word) < 3 and 1 <= int(word) <= RTMAX else None
    word = word.removeprefix("SIG")
    found = _REAL_TIME.fullmatch(word)
    if found is not None:
        base = RTMIN if found[1] == "RTMIN" else RTMAX
        number = base + int(f"{found[2]}{found[3]}" if found[2] else 0)
        return number if RTMIN <= number <= RTMAX else None
    if word in _ALIASES:
        return int(_ALIASES[word])
    try:
        return int(signal.Signals[f"SIG{word}"])
    except KeyError:
        return None
