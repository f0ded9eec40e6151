"""Whether the kernel killed somebody in a cgroup because its memory was used up."""

from __future__ import annotations

import os
from pathlib import Path

from nsrun.cgroups.layout import mounts


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


def legacy_mount(proc: str | os.PathLike[str] = "/proc") -> Path | None:
    """Where version 1's memory controller is mounted, if it is.

    Args:
        proc: where procfs is mounted.
    """
    with open(Path(proc, "self/mountinfo"), encoding="utf-8", errors="surrogateescape") as file:
        for kind, target, options in mounts(file):
            if kind == "cgroup" and "memory" in options:
                return target
    return None
