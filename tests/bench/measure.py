"""Timing: runs in turn, medians, ratios pair by pair."""

from __future__ import annotations

import os
import statistics
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Sample:
    """The runs of one thing. Times are in milliseconds."""

    name: str
    values: tuple[float, ...]

    @property
    def median(self) -> float:
        """The figure to quote."""
        return statistics.median(self.values)

    def as_data(self) -> dict[str, object]:
        """For the JSON file."""
        return {
            "name": self.name,
            "runs": len(self.values),
            "min_ms": round(min(self.values), 3),
            "median_ms": round(self.median, 3),
            "max_ms": round(max(self.values), 3),
        }


@dataclass(slots=True)
class Figure:
    """One row of the table: what nsrun needs, what a peer needs, and what was wanted.

    Args:
        name: what is measured.
        value: nsrun's figure in `unit`.
        peer: whose figure stands beside it, with that figure in the same unit; absent where no peer does this.
        wanted: the target in words.
        holds: whether the target is met; None where it needs a peer that is not installed.
    """

    name: str
    unit: str
    value: float
    wanted: str
    holds: bool | None
    peer: str | None = None
    peer_value: float | None = None
    samples: list[Sample] = field(default_factory=list)

    @property
    def ratio(self) -> float | None:
        """nsrun's figure divided by the peer's."""
        return self.value / self.peer_value if self.peer_value else None

    def as_data(self) -> dict[str, object]:
        """For the JSON file."""
        return {
            "name": self.name,
            "unit": self.unit,
            "value": round(self.value, 3),
            "peer": self.peer,
            "peer_value": None if self.peer_value is None else round(self.peer_value, 3),
            "ratio": None if self.ratio is None else round(self.ratio, 3),
            "wanted": self.wanted,
            "holds": self.holds,
            "samples": [sample.as_data() for sample in self.samples],
        }


def timed(call: Callable[[], object]) -> float:
    """Milliseconds of one call."""
    start = time.perf_counter_ns()
    call()
    return (time.perf_counter_ns() - start) / 1e6


def run(command: Sequence[str], *, environment: dict[str, str] | None = None, check: bool = True) -> str:
    """Standard output of a command; its output is shown when it fails."""
    done = subprocess.run(
        list(command),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        env={**os.environ, **(environment or {})},
    )
    if check and done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}: exit {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


def in_turn(runs: int, **contenders: Callable[[], float]) -> dict[str, Sample]:
    """Each contender once per round, in turn, so that a drift of the machine meets all of them; one round uncounted first.

    A contender does its own preparation and returns the milliseconds of the part that counts.
    """
    values: dict[str, list[float]] = {name: [] for name in contenders}
    for number in range(runs + 1):
        for name, contender in contenders.items():
            value = contender()
            if number > 0:
                values[name].append(value)
    return {name: Sample(name, tuple(found)) for name, found in values.items()}


def private_kb(pid: int) -> int:
    """Private memory of a process in KiB: Private_Clean + Private_Dirty of smaps_rollup (proc(5))."""
    total = 0
    with open(f"/proc/{pid}/smaps_rollup") as rollup:
        for line in rollup:
            if line.startswith(("Private_Clean:", "Private_Dirty:")):
                total += int(line.split()[1])
    return total


def resident_kb(pid: int) -> int:
    """Resident memory of a process in KiB (VmRSS of proc(5))."""
    with open(f"/proc/{pid}/status") as status:
        for line in status:
            if line.startswith("VmRSS:"):
                return int(line.split()[1])
    raise ProcessLookupError(pid)


def cpu_s(pid: int) -> float:
    """User and system time of a process so far, in seconds (utime + stime of proc(5))."""
    with open(f"/proc/{pid}/stat") as stat:
        fields = stat.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
