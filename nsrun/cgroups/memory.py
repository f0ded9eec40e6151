"""Whether the kernel killed somebody in a cgroup because its memory was used up."""

from __future__ import annotations

from pathlib import Path


def oom_kills(path: Path) -> int:
    """How many processes in a cgroup, and those below it, were killed for want of memory; 0 where nobody counts that.

    Args:
        path: of a version 2 cgroup (its `memory.events`) or of one of version 1's memory controller (its `memory.oom_control`).
    """
    for name in ("memory.events", "memory.oom_control"):
        try:
            text = (path / name).read_text(encoding="ascii")
        except (OSError, UnicodeDecodeError):
            continue
        for line in text.splitlines():
            key, _, value = line.partition(" ")
            if key == "oom_kill" and value.isdecimal():
                return int(value)
    return 0
