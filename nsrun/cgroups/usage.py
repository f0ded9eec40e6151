"""What the processes of a cgroup have used, as the kernel counts it. Parsing is pure; `read` opens the files.

Sources: Documentation/admin-guide/cgroup-v2.rst, cgroup-v1/memory.rst and cpuacct.rst; cAdvisor container/libcontainer/handler.go for
what is a working set (usage without inactive file pages).
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

CHUNK = 1 << 16
PAGE = os.sysconf("SC_PAGE_SIZE")
CPU_WHY = "no cgroup of this container has cpu.stat"
IO_WHY = "no io controller of version 2 counts for this pod"
ESTIMATED = "added up from its processes: no memory controller counts for this pod"


@dataclass(slots=True)
class Usage:
    """Counters and gauges of one cgroup with everything below it. None: nobody counts that here, and `missing` says why.

    Attributes:
        cpu_ns, cpu_user_ns, cpu_system_ns: nanoseconds of processor time since the cgroup was made.
        periods, throttled_periods, throttled_ns: of the quota; None where there is none.
        memory: bytes in use.
        working_set: those of them that could not be given back at once.
        rss, cache, mapped_file, swap: parts of it, bytes.
        memory_peak: the most that was in use.
        memory_failures: how often the limit was met.
        page_faults, major_page_faults: counts.
        oom_kills: processes killed for want of memory.
        estimated: memory was added up from the processes; memory that several share is counted more than once.
        processes, threads: how many there are.
        read_bytes, written_bytes, reads, writes: of block devices.
        missing: what is None -> why: `cpu`, `memory`, `diskIO`.
    """

    cpu_ns: int | None = None
    cpu_user_ns: int | None = None
    cpu_system_ns: int | None = None
    periods: int | None = None
    throttled_periods: int | None = None
    throttled_ns: int | None = None
    memory: int | None = None
    working_set: int | None = None
    rss: int | None = None
    cache: int | None = None
    mapped_file: int | None = None
    swap: int | None = None
    memory_peak: int | None = None
    memory_failures: int | None = None
    page_faults: int | None = None
    major_page_faults: int | None = None
    oom_kills: int | None = None
    estimated: bool = False
    processes: int | None = None
    threads: int | None = None
    read_bytes: int | None = None
    written_bytes: int | None = None
    reads: int | None = None
    writes: int | None = None
    missing: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Places:
    """The directories of one cgroup.

    Attributes:
        unified: of version 2.
        cpu, memory, pids: of version 1's hierarchies, where that has the controller.
    """

    unified: str
    cpu: str | None = None
    memory: str | None = None
    pids: str | None = None


def read(places: Places, proc: str = "/proc") -> Usage | None:
    """Look at a cgroup; None when it is not there (any more). A file that is missing or cannot be read leaves its part None.

    Args:
        places: where it is.
        proc: where procfs is mounted.
    """
    usage = Usage()
    cpu = _text(f"{places.unified}/cpu.stat")
    pids = _pids(places.unified)
    if pids is None:
        return None
    usage.processes = len(pids)
    if cpu is None:
        usage.missing["cpu"] = CPU_WHY
    else:
        take_cpu(usage, cpu)
    if places.cpu is not None and (text := _text(f"{places.cpu}/cpu.stat")) is not None:
        take_legacy_throttling(usage, text)
    if not _memory(usage, places):
        _estimate(usage, pids, proc)
    text = _text(f"{places.pids or places.unified}/pids.current")
    usage.threads = int(text) if text is not None else _threads(pids, proc)
    io = _text(f"{places.unified}/io.stat")
    if io is None:
        usage.missing["diskIO"] = IO_WHY
    else:
        take_io(usage, io)
    return usage


def take_cpu(usage: Usage, text: str) -> None:
    """From version 2's cpu.stat: microseconds; what is about periods is there where the controller is."""
    found = keyed(text)
    usage.cpu_ns = _times(found.get("usage_usec"), 1000)
    usage.cpu_user_ns = _times(found.get("user_usec"), 1000)
    usage.cpu_system_ns = _times(found.get("system_usec"), 1000)
    if "nr_periods" in found:
        usage.periods = found["nr_periods"]
        usage.throttled_periods = found.get("nr_throttled")
        usage.throttled_ns = _times(found.get("throttled_usec"), 1000)


def take_legacy_throttling(usage: Usage, text: str) -> None:
    """From cpu.stat of version 1's cpu hierarchy: nanoseconds."""
    found = keyed(text)
    usage.periods = found.get("nr_periods")
    usage.throttled_periods = found.get("nr_throttled")
    usage.throttled_ns = found.get("throttled_time")


def take_memory(usage: Usage, current: str, stat: str) -> None:
    """From version 2's memory.current and memory.stat."""
    found = keyed(stat)
    usage.memory = int(current)
    usage.rss = found.get("anon")
    usage.cache = found.get("file")
    usage.mapped_file = found.get("file_mapped")
    usage.page_faults = found.get("pgfault")
    usage.major_page_faults = found.get("pgmajfault")
    usage.working_set = max(usage.memory - found.get("inactive_file", 0), 0)


def take_legacy_memory(usage: Usage, current: str, stat: str) -> None:
    """From memory.usage_in_bytes and memory.stat of version 1; its `total_` lines have what is below as well."""
    found = keyed(stat)
    usage.memory = int(current)
    usage.rss = found.get("total_rss")
    usage.cache = found.get("total_cache")
    usage.mapped_file = found.get("total_mapped_file")
    usage.swap = found.get("total_swap")
    usage.page_faults = found.get("total_pgfault")
    usage.major_page_faults = found.get("total_pgmajfault")
    usage.working_set = max(usage.memory - found.get("total_inactive_file", 0), 0)


def take_io(usage: Usage, text: str) -> None:
    """From version 2's io.stat, all devices together."""
    total = {"rbytes": 0, "wbytes": 0, "rios": 0, "wios": 0}
    for line in text.splitlines():
        for word in line.split()[1:]:
            key, _, value = word.partition("=")
            if key in total and value.isdecimal():
                total[key] += int(value)
    usage.read_bytes, usage.written_bytes = total["rbytes"], total["wbytes"]
    usage.reads, usage.writes = total["rios"], total["wios"]


def keyed(text: str) -> dict[str, int]:
    """The lines `key number` of a file; others are passed over."""
    found = {}
    for line in text.splitlines():
        key, _, value = line.partition(" ")
        if value.isdecimal():
            found[key] = int(value)
    return found


def _memory(usage: Usage, places: Places) -> bool:
    if places.memory is not None:
        where, names, take = places.memory, _LEGACY, take_legacy_memory
    else:
        where, names, take = places.unified, _UNIFIED, take_memory
    current, stat = _text(f"{where}/{names['current']}"), _text(f"{where}/memory.stat")
    if current is None or stat is None:
        return False
    take(usage, current, stat)
    events = keyed(_text(f"{where}/{names['events']}") or "")
    # Version 1 counts those of a cgroup itself, not of what is below it.
    if places.memory is None or not _has_more_below(where):
        usage.oom_kills = events.get("oom_kill")
    usage.memory_peak = _number(_text(f"{where}/{names['peak']}"))
    if places.memory is not None:
        usage.memory_failures = _number(_text(f"{where}/memory.failcnt"))
    else:
        usage.memory_failures = events.get("max")
        usage.swap = _number(_text(f"{where}/memory.swap.current"))
    return True


_LEGACY: Mapping[str, str] = {
    "current": "memory.usage_in_bytes",
    "events": "memory.oom_control",
    "peak": "memory.max_usage_in_bytes",
}
_UNIFIED: Mapping[str, str] = {"current": "memory.current", "events": "memory.events", "peak": "memory.peak"}


def _has_more_below(path: str) -> bool:
    """A cgroup without any below it has two links."""
    try:
        return os.stat(path).st_nlink > 2
    except OSError:
        return False


def _estimate(usage: Usage, pids: Iterable[int], proc: str) -> None:
    resident = own = 0
    for pid in pids:
        words = (_text(f"{proc}/{pid}/statm") or "").split()
        if len(words) > 2:
            resident += int(words[1])
            own += int(words[1]) - int(words[2])
    usage.memory = usage.working_set = resident * PAGE
    usage.rss = own * PAGE
    usage.estimated = True
    usage.missing["memory"] = ESTIMATED


def _threads(pids: Iterable[int], proc: str) -> int:
    total = 0
    for pid in pids:
        text = _text(f"{proc}/{pid}/stat")
        if text is not None:
            total += int(text.rpartition(")")[2].split()[17])
    return total


def _pids(path: str) -> list[int] | None:
    """Of all processes in a cgroup and those below; None when it is not there. 0 (outside of our PID namespace) is left out."""
    text = _text(f"{path}/cgroup.procs")
    if text is None and not os.path.isdir(path):
        return None
    found = [int(word) for word in (text or "").split()]
    names: list[str] = []
    # Listing takes longer than all else.
    if _has_more_below(path):
        with contextlib.suppress(OSError):
            names = [entry.path for entry in os.scandir(path) if entry.is_dir(follow_symlinks=False)]
    for name in names:
        found.extend(_pids(name) or ())
    return [pid for pid in found if pid > 0]


def _text(path: str) -> str | None:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        data = os.read(fd, CHUNK)
        # The kernel gives a list a page at a time.
        while len(data) >= 4000 and (more := os.read(fd, CHUNK)):
            data += more
    except OSError:
        return None
    finally:
        os.close(fd)
    return data.decode("ascii", "replace")


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and text.strip().isdecimal() else None


def _times(value: int | None, factor: int) -> int | None:
    return None if value is None else value * factor


Reader = Callable[[Places], Usage | None]
