"""What pods use: one look at all of them, for `nsrun pod stats` and for whoever scrapes the server."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nsrun.cgroups.usage import Usage
from nsrun.network.traffic import Traffic, traffic
from nsrun.plan import container_limits, pod_limits
from nsrun.plan.resources import Limits
from nsrun.status.selectors import Selector
from nsrun.status.times import rfc3339

if TYPE_CHECKING:
    from nsrun.server.control import Request
    from nsrun.server.engine import PodEngine
    from nsrun.server.pods import Registry
    from nsrun.server.world import World
    from nsrun.spec.model import Pod

POD_INTERFACE = "eth0"
"""What a pod's interface is called inside."""


@dataclass(frozen=True, slots=True)
class ContainerTarget:
    """A container that runs: what is to be looked at, and under which names."""

    name: str
    id: str
    image: str
    started_at: float | None
    limits: Limits


@dataclass(frozen=True, slots=True)
class PodTarget:
    """A pod with a sandbox. `link` is the host's end of its way to the network, "" for one in the machine's network."""

    namespace: str
    name: str
    uid: str
    started_at: float | None
    link: str
    limits: Limits
    containers: tuple[ContainerTarget, ...]


@dataclass(frozen=True, slots=True)
class PodSample:
    """What a pod had used at a moment.

    Attributes:
        of: the pod.
        at: seconds since the epoch.
        monotonic_ns: the same moment, for differences.
        usage: of everything in it; None when it has no cgroup.
        traffic: of its interface, as it counts itself; None where it has none of its own.
        containers: those that were asked for.
    """

    of: PodTarget
    at: float
    monotonic_ns: int
    usage: Usage | None
    traffic: Traffic | None
    containers: tuple[tuple[ContainerTarget, Usage], ...] = ()


class Stats:
    """Looks at pods. Reading takes place in a thread: the pods' loop never waits for it.

    Args:
        world: what all pods share.
    """

    def __init__(self, world: World) -> None:
        self._world = world
        self._limits: dict[str, tuple[Pod, Limits, dict[str, Limits]]] = {}

    async def take(self, engines: Iterable[PodEngine], *, containers: bool) -> list[PodSample]:
        """Look at these pods, and at each of their containers if that is wanted. Pods without a sandbox are left out."""
        targets = [self._target(engine) for engine in engines if engine.ledger.sandbox_ready]
        return await asyncio.to_thread(self._read, targets, containers)

    def _target(self, engine: PodEngine) -> PodTarget:
        known = self._limits.get(engine.uid)
        if known is None or known[0] is not engine.pod:
            alive = self._world.alive()
            self._limits = {uid: one for uid, one in self._limits.items() if uid in alive}
            spec = engine.pod.spec
            every = (*spec.initContainers, *spec.containers)
            own = {one.name or "": container_limits(engine.pod, one, self._world.node) for one in every}
            known = self._limits[engine.uid] = (engine.pod, pod_limits(engine.pod, self._world.node), own)
        _, limits, of_containers = known
        return PodTarget(
            namespace=engine.namespace,
            name=engine.name,
            uid=engine.uid,
            started_at=engine.ledger.sandbox_created_at,
            link=""
            if engine.pod.spec.hostNetwork
            else self._world.networks.of(engine.uid).config.link_name(engine.uid),
            limits=limits,
            containers=tuple(
                ContainerTarget(
                    name=one.name,
                    id=one.id,
                    image=engine.container(one.name).image or "",
                    started_at=one.started_ns / 1e9 or None,
                    limits=of_containers.get(one.name, Limits()),
                )
                for one in sorted(engine.mirror.records.values(), key=lambda record: record.name)
                if one.alive
            ),
        )

    def _read(self, targets: Sequence[PodTarget], containers: bool) -> list[PodSample]:
        cgroups = self._world.cgroups
        links = traffic() if any(target.link for target in targets) else {}
        samples = []
        for target in targets:
            inside = []
            for one in target.containers if containers else ():
                usage = cgroups.usage(target.uid, one.id)
                if usage is not None:
                    inside.append((one, usage))
            link = links.get(target.link)
            samples.append(
                PodSample(
                    of=target,
                    at=self._world.clock.now(),
                    monotonic_ns=time.monotonic_ns(),
                    usage=cgroups.usage(target.uid),
                    traffic=None if link is None else link.other_end(),
                    containers=tuple(inside),
                )
            )
        return samples


async def answer(world: World, pods: Registry, stats: Stats, request: Request) -> object:
    """`pod.stats`: the pods that are named, or all of a namespace or of all that selectors mean."""
    namespace, names = request.text_or_none("namespace"), request.texts("names")
    selector = Selector(request.text_or_none("labels"), request.text_or_none("fields"))
    chosen = [pods.find(namespace or "default", name) for name in names] or [
        one
        for one in pods
        if (namespace is None or one.namespace == namespace)
        and (not selector or selector.matches(one.published.object()))
    ]
    taken = await stats.take(chosen, containers=request.flag("containers"))
    found = [summary(sample) for sample in taken]
    there = {sample.of.uid for sample in taken}
    for one in chosen if names else ():
        if one.uid not in there:
            reference = {"name": one.name, "namespace": one.namespace, "uid": one.uid}
            found.append({"podRef": reference, "missing": {"pod": f"nothing of it runs: it is {one.phase}"}})
    return {"pods": found, "cpus": world.node.cpus, "memory_bytes": world.node.memory}


def summary(sample: PodSample) -> dict[str, Any]:
    """A sample in the words of the kubelet's summary API (staging/src/k8s.io/kubelet/pkg/apis/stats/v1alpha1), with additions.

    What nobody counts is left out, and `missing` says why. `monotonicNanoSeconds` is for differences between two samples.
    """
    of, usage = sample.of, sample.usage or Usage()
    at = rfc3339(sample.at)
    found: dict[str, Any] = {
        "podRef": {"name": of.name, "namespace": of.namespace, "uid": of.uid},
        "startTime": rfc3339(of.started_at),
        "time": at,
        "monotonicNanoSeconds": sample.monotonic_ns,
        **_parts(usage, of.limits, at),
    }
    if sample.traffic is not None:
        one = sample.traffic
        interface = {
            "name": POD_INTERFACE,
            "rxBytes": one.rx_bytes,
            "rxErrors": one.rx_errors,
            "txBytes": one.tx_bytes,
            "txErrors": one.tx_errors,
        }
        found["network"] = {"time": at, **interface, "interfaces": [interface]}
    elif not of.link:
        found.setdefault("missing", {})["network"] = "it is in the machine's network"
    else:
        found.setdefault("missing", {})["network"] = "its link is not there"
    if sample.containers:
        found["containers"] = [
            {
                "name": one.name,
                "id": one.id,
                "startTime": rfc3339(one.started_at),
                **_parts(used, one.limits, at),
            }
            for one, used in sample.containers
        ]
    return found


def _parts(usage: Usage, limits: Limits, at: str | None) -> dict[str, Any]:
    cpu = {
        "time": at,
        "usageCoreNanoSeconds": usage.cpu_ns,
        "limitNanoCores": limits.quota_us * 1_000_000_000 // limits.period_us or None,
        "throttling": _without_none(
            {
                "periods": usage.periods,
                "throttledPeriods": usage.throttled_periods,
                "throttledNanoSeconds": usage.throttled_ns,
            }
        ),
    }
    limit = limits.memory or None
    memory = {
        "time": at,
        "usageBytes": usage.memory,
        "workingSetBytes": usage.working_set,
        "rssBytes": usage.rss,
        "pageFaults": usage.page_faults,
        "majorPageFaults": usage.major_page_faults,
        "limitBytes": limit,
        "availableBytes": None if limit is None or usage.working_set is None else max(limit - usage.working_set, 0),
        "swapUsageBytes": usage.swap,
        "oomKills": usage.oom_kills,
        "estimated": usage.estimated or None,
    }
    disk = {
        "time": at,
        "readBytes": usage.read_bytes,
        "writtenBytes": usage.written_bytes,
        "reads": usage.reads,
        "writes": usage.writes,
    }
    found: dict[str, Any] = {
        "cpu": _without_none(cpu),
        "memory": _without_none(memory),
        "process_stats": _without_none({"process_count": usage.processes, "thread_count": usage.threads}),
    }
    if usage.read_bytes is not None:
        found["diskIO"] = _without_none(disk)
    if usage.missing:
        found["missing"] = dict(usage.missing)
    return found


def _without_none(found: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in found.items() if value is not None and value != {}}
