"""metrics.k8s.io/v1beta1: what `kubectl top` shows.

Source: metrics-server pkg/api/pod.go, node.go: usage of the processor is a rate over a window, memory is the working set.
"""

from __future__ import annotations

import asyncio
import os
import time
from datetime import UTC, datetime
from typing import Any

from aiohttp import web

from nsrun.api.answers import answer
from nsrun.api.cache import Cache, Entry
from nsrun.api.forms.negotiation import JSON, Wanted
from nsrun.api.link import Link
from nsrun.api.paths import Target
from nsrun.api.reading import Reader
from nsrun.api.selecting import Selection
from nsrun.client.stats import between
from nsrun.spec import api_status
from nsrun.spec.resources_table import kept_kind

FRESH_S = 1.0
"""Looks are not older than this."""
WINDOW_MIN_S = 0.5
WINDOW_MAX_S = 60.0
"""How far apart two looks are, between which a rate is."""

Sample = dict[str, Any]


class Metrics:
    """Tells what pods and the node use.

    Args:
        link: the server looks.
    """

    def __init__(self, link: Link) -> None:
        self._link = link
        self._lock = asyncio.Lock()
        self._looks: list[tuple[float, float, Sample]] = []

    async def answer(
        self, request: web.BaseRequest, target: Target, form: Wanted, cache: Cache, reader: Reader
    ) -> web.Response:
        """One object or a list."""
        await reader.recent("")
        rates, window_s = await self._rates()
        kind = "Pod" if target.kind == "PodMetrics" else "Node"
        of = Target(kept_kind(kind), target.namespace, target.name)
        selection = Selection(of, request.query.get("labelSelector", ""), request.query.get("fieldSelector", ""))
        entries = [one for one in cache.of(kind, selection.namespace) if selection.holds(one)]
        by_uid = {pod["podRef"]["uid"]: pod for pod in rates}
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        stamp = {"timestamp": now, "window": f"{window_s:.3f}s"}
        if kind == "Pod":
            items = [made for one in entries if (made := _of_pod(one, by_uid, stamp)) is not None]
        else:
            busy_ns = self._busy_ns()
            items = [_of_node(one, busy_ns, stamp) for one in entries]
        plain = Wanted(JSON)
        if form.media != JSON:
            plain = Wanted(form.media) if form.media == "application/yaml" else plain
        if target.name:
            if not items:
                raise api_status.not_found(target.resource, target.name)
            return answer(request, items[0], plain)
        listed = {
            "kind": f"{target.kind}List",
            "apiVersion": target.resource.api_version,
            "metadata": {},
            "items": items,
        }
        return answer(request, listed, plain)

    async def _rates(self) -> tuple[list[Sample], float]:
        """What pods use, and over how many seconds."""
        async with self._lock:
            now = time.monotonic()
            self._looks = [look for look in self._looks if now - look[0] < WINDOW_MAX_S]
            if not self._looks or now - self._looks[-1][0] > FRESH_S:
                await self._look()
            if self._looks[-1][0] - self._looks[0][0] < WINDOW_MIN_S:
                await asyncio.sleep(WINDOW_MIN_S)
                await self._look()
            first, last = self._looks[0], self._looks[-1]
            return between(first[2]["pods"], last[2]["pods"]), last[0] - first[0]

    def _busy_ns(self) -> int:
        """What the machine's processors work in a second."""
        first, last = self._looks[0], self._looks[-1]
        return int((last[1] - first[1]) / max(last[0] - first[0], 0.001) * 1e9)

    async def _look(self) -> None:
        found = await self._link.call("pod.stats", {"containers": True})
        self._looks.append((time.monotonic(), _busy_s(), found))
        # The oldest within the window is what rates are taken from; those between serve nobody.
        if len(self._looks) > 8:
            del self._looks[1]


def _usage(sample: Sample) -> dict[str, str]:
    nano = int((sample.get("cpu") or {}).get("usageNanoCores") or 0)
    memory = int((sample.get("memory") or {}).get("workingSetBytes") or 0)
    return {"cpu": f"{nano}n", "memory": f"{memory // 1024}Ki"}


def _of_pod(entry: Entry, by_uid: dict[str, Sample], stamp: dict[str, str]) -> dict[str, Any] | None:
    found = by_uid.get(entry.metadata.get("uid", ""))
    if found is None or not found.get("containers"):
        return None
    metadata: dict[str, Any] = {"name": entry.key[1], "namespace": entry.key[0]}
    metadata["creationTimestamp"] = stamp["timestamp"]
    if entry.metadata.get("labels"):
        metadata["labels"] = entry.metadata["labels"]
    containers = [{"name": one["name"], "usage": _usage(one)} for one in found["containers"]]
    return {
        "kind": "PodMetrics",
        "apiVersion": "metrics.k8s.io/v1beta1",
        "metadata": metadata,
        **stamp,
        "containers": containers,
    }


def _of_node(entry: Entry, busy_ns: int, stamp: dict[str, str]) -> dict[str, Any]:
    """What the machine uses, with all that runs on it."""
    metadata: dict[str, Any] = {"name": entry.key[1], "creationTimestamp": stamp["timestamp"]}
    if entry.metadata.get("labels"):
        metadata["labels"] = entry.metadata["labels"]
    usage = {"cpu": f"{busy_ns}n", "memory": f"{_memory_used() // 1024}Ki"}
    return {
        "kind": "NodeMetrics",
        "apiVersion": "metrics.k8s.io/v1beta1",
        "metadata": metadata,
        **stamp,
        "usage": usage,
    }


def _busy_s() -> float:
    """Seconds that the machine's processors have worked since it started: proc(5), /proc/stat."""
    with open("/proc/stat", encoding="ascii") as file:
        ticks = [int(word) for word in file.readline().split()[1:9]]
    # All but the fourth and fifth, idle and iowait.
    return (sum(ticks) - ticks[3] - ticks[4]) / os.sysconf("SC_CLK_TCK")


def _memory_used() -> int:
    """Bytes that could not be had for something else: proc(5), /proc/meminfo."""
    found: dict[str, int] = {}
    with open("/proc/meminfo", encoding="ascii") as file:
        for line in file:
            name, _, rest = line.partition(":")
            if name in ("MemTotal", "MemAvailable"):
                found[name] = int(rest.split()[0]) * 1024
    return found["MemTotal"] - found["MemAvailable"]
