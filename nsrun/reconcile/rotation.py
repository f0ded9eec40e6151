"""Which log files a container has, and what to do about them: named, rotated, compressed, removed. Pure (S-LOG).

Source: kubelet pkg/kubelet/logs/container_log_manager.go; the number of an instance from its log:
kuberuntime_container.go calcRestartCountByLogDir.

A container's directory has `N.log` of instance N, which the shim writes, `N.log.20060102-150405` for what was rotated at that time, and
`N.log.20060102-150405.gz` once that is compressed. The newest rotated file stays as it is: a log collector may still read it.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

COMPRESSED = ".gz"
TEMPORARY = ".tmp"
_NAME = re.compile(r"([0-9]+)\.log(?:\.([0-9]{8}-[0-9]{6})(\.gz)?(\.tmp)?)?", re.ASCII)
_COUNTED = re.compile(r"([0-9]+)\.log(?:\..*)?", re.ASCII)
_STAMP = "%Y%m%d-%H%M%S"


@dataclass(frozen=True, slots=True)
class LogPolicy:
    """When logs are rotated; names and defaults are the kubelet's.

    Attributes:
        max_size: bytes from which on a log is rotated (containerLogMaxSize); negative: never.
        max_files: files of an instance, the one being written included (containerLogMaxFiles); at least 2.
        every_s: seconds between two looks (containerLogMonitorInterval).
    """

    max_size: int = 10 * 1024 * 1024
    max_files: int = 5
    every_s: float = 10.0

    @property
    def enabled(self) -> bool:
        """Whether logs are rotated at all."""
        return self.max_size >= 0


class LogName(NamedTuple):
    """A log file's name, taken apart. `stamp` is "" of the file that is being written."""

    attempt: int
    stamp: str = ""
    compressed: bool = False
    temporary: bool = False

    def __str__(self) -> str:
        stamp = f".{self.stamp}" if self.stamp else ""
        return f"{self.attempt}.log{stamp}{COMPRESSED if self.compressed else ''}{TEMPORARY if self.temporary else ''}"

    @property
    def rotated(self) -> bool:
        """Whether the file is not the one being written."""
        return self.stamp != ""


@dataclass(frozen=True, slots=True)
class Remove:
    """Unlink a file: a leftover of a rotation that was cut short, or one too many."""

    name: str


@dataclass(frozen=True, slots=True)
class Rotate:
    """Give the file being written another name, then have the shim go on in a new one of the old name."""

    name: str
    to: str


@dataclass(frozen=True, slots=True)
class Reopen:
    """Have the shim go on in the file of this name, which is made if it is missing."""

    name: str


@dataclass(frozen=True, slots=True)
class Compress:
    """Write the file anew as `name`.gz, then unlink it."""

    name: str


Step = Remove | Rotate | Reopen | Compress


def parse_name(name: str) -> LogName | None:
    """The parts of a name as nsrun gives it to log files, or None for any other."""
    match = _NAME.fullmatch(name)
    if match is None:
        return None
    return LogName(int(match[1]), match[2] or "", match[3] is not None, match[4] is not None)


def files_of(names: Iterable[str], attempt: int) -> list[LogName]:
    """The files with the log of an instance, oldest first; leftovers of rotations that were cut short are none of them."""
    kept: dict[str, LogName] = {}
    for name in names:
        file = parse_name(name)
        if file is None or file.attempt != attempt or file.temporary:
            continue
        before = kept.get(file.stamp)
        # Of both the original is the one that is complete for sure, and the cheaper one to read.
        if before is None or before.compressed:
            kept[file.stamp] = file
    return sorted(kept.values(), key=lambda file: (not file.rotated, file.stamp))


def attempts_in(names: Iterable[str]) -> list[int]:
    """The numbers of the instances that have a log, in their order."""
    files = (parse_name(name) for name in names)
    return sorted({file.attempt for file in files if file is not None and not file.temporary})


def next_attempt(names: Iterable[str]) -> int:
    """The number of a container's next instance as far as its log directory tells: the highest of `N.log` and `N.log.*`, and 1."""
    found = (_COUNTED.fullmatch(name) for name in names)
    return max((int(match[1]) + 1 for match in found if match is not None), default=0)


def leftovers(names: Collection[str], attempt: int) -> list[str]:
    """What a rotation that was cut short left: half-written files, and originals of which the compressed form is complete."""
    found = []
    for name in sorted(names):
        file = parse_name(name)
        if file is None or file.attempt != attempt:
            continue
        if file.temporary or (file.rotated and not file.compressed and name + COMPRESSED in names):
            found.append(name)
    return found


def rotated_name(attempt: int, stamps: Iterable[str], now: float) -> str:
    """The name for what is rotated at `now` (seconds since the epoch).

    Later than every other one, also when a clock was set back or two rotations fall into one second: the names' order is the order
    of what is in the files, and no file takes another's place.
    """
    at = datetime.fromtimestamp(int(now), UTC)
    newest = max(stamps, default="")
    if at.strftime(_STAMP) <= newest:
        at = datetime.strptime(newest, _STAMP).replace(tzinfo=UTC) + timedelta(seconds=1)
    return str(LogName(attempt, at.strftime(_STAMP)))


def rotation_steps(
    names: Collection[str],
    attempt: int,
    size: int | None,
    now: float,
    policy: LogPolicy,
    *,
    settled: bool = True,
    blocked: bool = False,
) -> list[Step]:
    """What to do about the log of a running instance, in this order. It may end between any two steps and be asked for anew.

    Renaming comes before compressing (the kubelet has it the other way round): a file that grows does not wait for one that is
    packed, and on a full disk, where nothing can be packed, what is too old still goes.

    Args:
        names: of all files in the container's directory.
        attempt: number of the instance.
        size: bytes of the file being written; None when it is not there.
        now: seconds since the epoch.
        policy: what is wanted.
        settled: the shim is known to write to the file being written. If not, and it may write to a rotated one, it is told again.
        blocked: the shim cannot write its log now. The rest of a line may still have to go into the file that it was begun in, so none
            is renamed or packed; but what is too old goes, which may be all that is needed.
    """
    current = str(LogName(attempt))
    gone = leftovers(names, attempt)
    steps: list[Step] = [Remove(name) for name in gone]
    rotated = [file for file in files_of(set(names).difference(gone), attempt) if file.rotated]
    full = policy.enabled and size is not None and 0 < size >= policy.max_size
    if full:
        excess = max(len(rotated) - max(policy.max_files - 2, 0), 0)
        steps += [Remove(str(file)) for file in rotated[:excess]]
        rotated = rotated[excess:]
    if size is None or (not settled and any(not file.compressed for file in rotated)):
        steps.append(Reopen(current))
    if blocked:
        return steps
    older = rotated
    if full:
        stamps = [file.stamp for file in files_of(names, attempt)]
        steps.append(Rotate(current, rotated_name(attempt, stamps, now)))
    else:
        older = rotated[:-1]
    return steps + [Compress(str(file)) for file in older if not file.compressed]
