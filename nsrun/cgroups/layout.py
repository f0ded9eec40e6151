"""How this machine's cgroup file systems are laid out.

nsrun needs a tree of version 2 to hold a container's processes together: pure (v2), or the one that systemd's hybrid layout mounts beside
the version 1 controllers. Controllers are not needed for that.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

KILL_SINCE = (5, 14)
"""The kernel release that brought cgroup.kill."""


@dataclass(frozen=True)
class Layout:
    """What there is.

    Attributes:
        kind: `v2`, `hybrid` (controllers of version 1 with a version 2 tree beside them), `v1` or `none`.
        mount: where the version 2 tree is mounted; None without one that can be written.
        kill: the kernel has cgroup.kill.
        reason: why containers get no cgroup; empty when they do.
    """

    kind: Literal["v2", "hybrid", "v1", "none"]
    mount: Path | None
    kill: bool
    reason: str


def detect(proc: str | os.PathLike[str] = "/proc") -> Layout:
    """Look at this process's mounts. Changes nothing.

    Args:
        proc: where procfs is mounted.
    """
    with open(Path(proc, "self/mountinfo"), encoding="utf-8", errors="surrogateescape") as file:
        return layout_of(file, os.uname().release, lambda path: (path / "cgroup.controllers").exists())


def layout_of(mountinfo: Iterable[str], release: str, visible: Callable[[Path], bool] = lambda _: True) -> Layout:
    """The layout that the lines of a mountinfo (proc_pid_mountinfo(5)) show under a kernel release.

    Args:
        visible: whether the version 2 tree can be seen at a path: another mount may lie over it.
    """
    controllers = False
    trees: list[Path] = []
    read_only: list[Path] = []
    for line in mountinfo:
        left, _, right = line.partition(" - ")
        fields, kind = left.split(), right.split(" ")[0]
        if kind == "cgroup":
            controllers = True
        elif kind == "cgroup2":
            target = Path(_unescape(fields[4]))
            if not visible(target):
                continue
            writable = "ro" not in fields[5].split(",") and "ro" not in right.split()[-1].split(",")
            (trees if writable else read_only).append(target)
    kill = _release(release) >= KILL_SINCE
    alone = "containers are held together by their PID namespaces only"
    if trees:
        # The shortest path is the whole tree; others are somebody's bind mounts of it.
        mount = min(trees, key=lambda path: len(path.parts))
        return Layout("hybrid" if controllers else "v2", mount, kill, "")
    if read_only:
        why = f"the cgroup2 file system at {read_only[0]} is mounted read-only; {alone}"
        return Layout("hybrid" if controllers else "v2", None, kill, why)
    if controllers:
        why = f"only version 1 cgroups are mounted, no cgroup2 file system; {alone}"
        return Layout("v1", None, kill, why)
    return Layout("none", None, kill, f"no cgroup file system is mounted; {alone}")


def mounts(mountinfo: Iterable[str]) -> Iterable[tuple[str, Path, list[str]]]:
    """Type, mount point and the file system's own options of every line of a mountinfo (proc_pid_mountinfo(5))."""
    for line in mountinfo:
        left, _, right = line.partition(" - ")
        words = right.split()
        yield words[0], Path(_unescape(left.split()[4])), words[-1].split(",")


def own_cgroup(text: str) -> str | None:
    """The version 2 path in a /proc/PID/cgroup, from the root of its namespace; None without one."""
    for line in text.splitlines():
        if line.startswith("0::"):
            return line[3:].removesuffix(" (deleted)")
    return None


def _unescape(path: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), path)


def _release(text: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", text)[:2])
