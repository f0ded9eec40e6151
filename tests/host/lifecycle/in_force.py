"""What the kernel holds a container to: its cgroups, whichever version they are of."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from nsrun.cgroups.memory import oom_kills
from tests.host.server.harness import Server
from tests.host.testhost import legacy_twins

WEIGHTS = {1: 2, 10: 256, 12: 307, 20: 512, 24: 614}
"""Shares of processor time that the tests ask for, by the weight that a kubelet makes of each (cgroup_manager_linux.go getCPUWeight)."""
VAST = 1 << 60
"""Version 1 has a number of bytes where there is no limit, some way below this machine's address space."""


@dataclass(frozen=True)
class Group:
    """The cgroup of a pod or a container.

    Attributes:
        unified: of version 2.
        legacy: of version 1, by controller; empty where version 2 has the controllers, and of those who ask for nothing.
    """

    unified: Path
    legacy: dict[str, Path]

    def directory(self, controller: str) -> Path:
        """Where that controller's files are."""
        return self.legacy.get(controller, self.unified)

    @property
    def directories(self) -> list[Path]:
        """All of them."""
        return [self.unified, *self.legacy.values()]

    @property
    def shares(self) -> int:
        """Of processor time, in version 1's unit."""
        if "cpu" in self.legacy:
            return self._number("cpu", "cpu.shares")
        return WEIGHTS[self._number("cpu", "cpu.weight")]

    @property
    def quota_us(self) -> int | None:
        """Microseconds of processor time in each period; None without a limit."""
        if "cpu" in self.legacy:
            number = self._number("cpu", "cpu.cfs_quota_us")
            return None if number == -1 else number
        word = self._cpu_max()[0]
        return None if word == "max" else int(word)

    @property
    def period_us(self) -> int:
        """The length of a period."""
        return self._number("cpu", "cpu.cfs_period_us") if "cpu" in self.legacy else int(self._cpu_max()[1])

    @property
    def memory(self) -> int | None:
        """Bytes; None without a limit."""
        if "memory" in self.legacy:
            number = self._number("memory", "memory.limit_in_bytes")
            return None if number > VAST else number
        return self._limit("memory", "memory.max")

    @property
    def pids(self) -> int | None:
        """Processes and threads; None without a limit."""
        return self._limit("pids", "pids.max")

    @property
    def oom_kills(self) -> int:
        """Processes that were killed for want of memory."""
        return oom_kills(self.directory("memory"))

    def _number(self, controller: str, file: str) -> int:
        return int((self.directory(controller) / file).read_text())

    def _limit(self, controller: str, file: str) -> int | None:
        word = (self.directory(controller) / file).read_text().strip()
        return None if word == "max" else int(word)

    def _cpu_max(self) -> list[str]:
        return (self.unified / "cpu.max").read_text().split()


def group(server: Server, name: str, container: str = "") -> Group:
    """Of a pod, or of its container's newest instance: the one before it may still be listed."""
    assert server.host.cgroup_base is not None
    path = server.host.cgroup_base / f"pod-{server.get(name)['metadata']['uid']}"
    if container:
        path /= [one["id"] for one in server.runtime(name)["instances"] if one["name"] == container][-1]
    return Group(path, {twin.parts[4]: twin for twin in legacy_twins(path)})


def inside(pid: int) -> dict[str, str]:
    """Where a process is: in version 1's hierarchies of cpu and memory, or at "" in version 2's tree if that has them."""
    lines = Path(f"/proc/{pid}/cgroup").read_text().splitlines()
    found = {line.split(":")[1]: line.split(":", 2)[2] for line in lines}
    names: list[str] = [name for name in ("cpu", "memory") if name in found]
    return {name: found[name] for name in names or [""]}


def pid_of(server: Server, name: str, container: str) -> int:
    """Of the root process of a container."""
    return next(
        int(one["pid"]) for one in server.runtime(name)["instances"]
        if one["name"] == container and one["state"] == "running"
    )  # fmt: skip
