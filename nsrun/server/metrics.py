"""What pods use as metrics in Prometheus' text format, under the names and labels of cAdvisor as a kubelet shows them.

Sources: github.com/prometheus/docs exposition_formats.md (version 0.0.4), cAdvisor metrics/prometheus.go, kubelet
pkg/kubelet/metrics/metrics.go, pkg/kubelet/server/server.go (labels). Pure: no clock, no input or output.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from nsrun.cgroups.usage import Usage
from nsrun.plan.resources import Limits
from nsrun.server.stats import POD_INTERFACE, PodSample

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

Labels = tuple[tuple[str, str], ...]
Number = float | int


class Family(NamedTuple):
    """A metric: its name, type and what it is."""

    name: str
    type: str
    help: str


@dataclass(frozen=True, slots=True)
class ServerFacts:
    """What there is to tell beside pods.

    Attributes:
        version: of nsrun.
        node: the machine's name.
        cpus, memory: what it has; memory in bytes.
        running_pods: with a sandbox.
        containers: by state (created, running, exited), how many.
        process: of the server itself: metric without its prefix `process_` -> value.
    """

    version: str
    node: str
    cpus: int
    memory: int
    running_pods: int
    containers: Mapping[str, int]
    process: Mapping[str, Number]


def _seconds(nanoseconds: int | None) -> float | None:
    return None if nanoseconds is None else nanoseconds / 1e9


OfUsage = Callable[[Usage], Number | None]

_USAGE: tuple[tuple[Family, Labels, OfUsage], ...] = tuple(
    (Family(f"container_{name}", kind, text), labels, of)
    for name, kind, text, labels, of in (
        ("cpu_usage_seconds_total", "counter", "Processor time used, in seconds.", (("cpu", "total"),),
            lambda one: _seconds(one.cpu_ns)),
        ("cpu_user_seconds_total", "counter", "Processor time used outside of the kernel, in seconds.", (),
            lambda one: _seconds(one.cpu_user_ns)),
        ("cpu_system_seconds_total", "counter", "Processor time used in the kernel, in seconds.", (),
            lambda one: _seconds(one.cpu_system_ns)),
        ("cpu_cfs_periods_total", "counter", "Periods of the quota that have passed.", (), lambda one: one.periods),
        ("cpu_cfs_throttled_periods_total", "counter", "Periods in which the quota was used up.", (),
            lambda one: one.throttled_periods),
        ("cpu_cfs_throttled_seconds_total", "counter", "Time spent waiting for the next period, in seconds.", (),
            lambda one: _seconds(one.throttled_ns)),
        ("memory_usage_bytes", "gauge", "Memory in use, in bytes, whatever it was used for.", (), lambda one: one.memory),
        ("memory_working_set_bytes", "gauge", "Memory in use without inactive pages of files, in bytes.", (),
            lambda one: one.working_set),
        ("memory_rss", "gauge", "Anonymous memory, in bytes.", (), lambda one: one.rss),
        ("memory_cache", "gauge", "Page cache, in bytes.", (), lambda one: one.cache),
        ("memory_mapped_file", "gauge", "Files mapped into memory, in bytes.", (), lambda one: one.mapped_file),
        ("memory_swap", "gauge", "Swap in use, in bytes.", (), lambda one: one.swap),
        ("memory_max_usage_bytes", "gauge", "The most memory that was in use, in bytes.", (), lambda one: one.memory_peak),
        ("memory_failcnt", "counter", "How often the limit of memory was met.", (), lambda one: one.memory_failures),
        ("memory_failures_total", "counter", "Page faults.", (("failure_type", "pgfault"), ("scope", "hierarchy")),
            lambda one: one.page_faults),
        ("memory_failures_total", "counter", "Page faults.", (("failure_type", "pgmajfault"), ("scope", "hierarchy")),
            lambda one: one.major_page_faults),
        ("oom_events_total", "counter", "Processes killed for want of memory.", (), lambda one: one.oom_kills),
        ("processes", "gauge", "Processes.", (), lambda one: one.processes),
        ("threads", "gauge", "Threads.", (), lambda one: one.threads),
        ("fs_reads_bytes_total", "counter", "Bytes read from block devices.", (("device", ""),),
            lambda one: one.read_bytes),
        ("fs_writes_bytes_total", "counter", "Bytes written to block devices.", (("device", ""),),
            lambda one: one.written_bytes),
        ("fs_reads_total", "counter", "Reads from block devices.", (("device", ""),), lambda one: one.reads),
        ("fs_writes_total", "counter", "Writes to block devices.", (("device", ""),), lambda one: one.writes),
    )
)  # fmt: skip

OfLimits = Callable[[Limits], Number | None]

_SPEC: tuple[tuple[Family, OfLimits], ...] = (
    (Family("container_spec_cpu_period", "gauge", "Length of the quota's period, in microseconds."),
        lambda one: one.period_us if one.quota_us else None),
    (Family("container_spec_cpu_quota", "gauge", "Processor time in each period, in microseconds."),
        lambda one: one.quota_us or None),
    (Family("container_spec_cpu_shares", "gauge", "Share of the processors in times of want."), lambda one: one.shares),
    (Family("container_spec_memory_limit_bytes", "gauge", "Limit of memory, in bytes; 0: none."), lambda one: one.memory),
)  # fmt: skip

_TRAFFIC = tuple(
    (Family(f"container_network_{way}_{what}_total", "counter", text), f"{short}_{field}")
    for way, short, text in (("receive", "rx", "What the pod has received."), ("transmit", "tx", "What the pod has sent."))
    for what, field in (
        ("bytes", "bytes"), ("packets", "packets"), ("errors", "errors"), ("packets_dropped", "dropped"),
    )
)  # fmt: skip
_LAST_SEEN = Family("container_last_seen", "gauge", "When this was looked at, in seconds since the epoch.")
_STARTED = Family("container_start_time_seconds", "gauge", "When it was started, in seconds since the epoch.")


def containers(samples: Iterable[PodSample], cgroup: Callable[[str, str | None], str]) -> bytes:
    """The metrics of pods and containers. A pod's own have an empty label `container`, as a kubelet's have.

    Args:
        samples: what was seen.
        cgroup: gives the path of a cgroup from the top of its tree, for a pod's uid and an instance's id.
    """
    page = _Page()
    for sample in samples:
        of = sample.of
        place = (("namespace", of.namespace), ("pod", of.name))
        own: Labels = (("container", ""), ("id", cgroup(of.uid, None)), ("image", ""), ("name", ""), *place)
        _group(page, own, sample.usage or Usage(), of.limits, sample.at, of.started_at)
        if sample.traffic is not None:
            labels = (*own, ("interface", POD_INTERFACE))
            for family, attribute in _TRAFFIC:
                page.add(family, labels, getattr(sample.traffic, attribute))
        for one, usage in sample.containers:
            path = cgroup(of.uid, one.id)
            inner: Labels = (("container", one.name), ("id", path), ("image", one.image), ("name", one.id), *place)
            _group(page, inner, usage, one.limits, sample.at, one.started_at)
    return page.text()


def _group(page: _Page, labels: Labels, usage: Usage, limits: Limits, at: float, started_at: float | None) -> None:
    for family, more, of_usage in _USAGE:
        page.add(family, (*labels, *more), of_usage(usage))
    for family, of_limits in _SPEC:
        page.add(family, labels, of_limits(limits))
    page.add(_LAST_SEEN, labels, int(at))
    page.add(_STARTED, labels, started_at)


def server(facts: ServerFacts) -> bytes:
    """The metrics of the machine and of the server itself, some under the kubelet's names."""
    page = _Page()
    page.add(Family("machine_cpu_cores", "gauge", "Processors."), (), facts.cpus)
    page.add(Family("machine_memory_bytes", "gauge", "Memory, in bytes."), (), facts.memory)
    page.add(Family("kubelet_node_name", "gauge", "The machine's name; the value is 1."), (("node", facts.node),), 1)
    page.add(Family("kubelet_running_pods", "gauge", "Pods that have a running sandbox."), (), facts.running_pods)
    family = Family("kubelet_running_containers", "gauge", "Containers by their state.")
    for state, count in sorted(facts.containers.items()):
        page.add(family, (("container_state", state),), count)
    version = Family("nsrun_build_info", "gauge", "The version of nsrun; the value is 1.")
    page.add(version, (("version", facts.version),), 1)
    for name, kind, text in _PROCESS:
        page.add(Family(f"process_{name}", kind, text), (), facts.process.get(name))
    return page.text()


_PROCESS = (
    ("cpu_seconds_total", "counter", "Processor time that the server has used, in seconds."),
    ("resident_memory_bytes", "gauge", "Resident memory of the server, in bytes."),
    ("virtual_memory_bytes", "gauge", "Virtual memory of the server, in bytes."),
    ("open_fds", "gauge", "Descriptors that the server has open."),
    ("max_fds", "gauge", "Descriptors that the server may have open."),
    ("start_time_seconds", "gauge", "When the server was started, in seconds since the epoch."),
)


class _Page:
    """Lines by metric: those of one have to stand together."""

    def __init__(self) -> None:
        self._families: dict[str, tuple[Family, list[str]]] = {}
        self._written: dict[Labels, str] = {}

    def add(self, family: Family, labels: Labels, value: Number | None) -> None:
        """Add a line, unless there is no value."""
        if value is None:
            return
        lines = self._families.setdefault(family.name, (family, []))[1]
        written = self._written.get(labels)
        if written is None:
            written = self._written[labels] = _written(labels)
        lines.append(f"{family.name}{written} {value}")

    def text(self) -> bytes:
        """The page."""
        parts: list[str] = []
        for family, lines in self._families.values():
            parts += [f"# HELP {family.name} {family.help}", f"# TYPE {family.name} {family.type}", *lines]
        return "".join(f"{part}\n" for part in parts).encode("utf-8", "replace")


def _written(labels: Sequence[tuple[str, str]]) -> str:
    return "{" + ",".join(f'{name}="{_escaped(value)}"' for name, value in labels) + "}" if labels else ""


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')
