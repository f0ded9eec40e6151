"""What pods use over a time: two looks of the server, and what is between them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from nsrun.client.session import Call, Session

Sample = dict[str, Any]


def take(
    session: Session,
    names: Sequence[str],
    namespace: str | None,
    *,
    containers: bool,
    labels: str | None = None,
    fields: str | None = None,
    call: Call | None = None,
) -> Sample:
    """One look: {pods: […], cpus, memory_bytes} with counters alone."""
    params = {
        "names": list(names),
        "namespace": namespace,
        "containers": containers,
        "labels": labels,
        "fields": fields,
    }
    return session.request("pod.stats", params, call=call).result


def looks(
    session: Session,
    names: Sequence[str],
    namespace: str | None,
    *,
    containers: bool,
    interval: float,
    labels: str | None = None,
    fields: str | None = None,
    call: Call | None = None,
) -> Iterator[Sample]:
    """Look every `interval` seconds, for ever.

    What is given tells of the time since the look before, so the first comes after an interval.
    """
    call = call or Call()

    def look() -> Sample:
        return take(session, names, namespace, containers=containers, labels=labels, fields=fields, call=call)

    before = look()
    while True:
        call.sleep(interval)
        after = look()
        yield {**after, "pods": between(before["pods"], after["pods"])}
        before = after


def between(before: Sequence[Sample], after: Sequence[Sample]) -> list[Sample]:
    """The pods of `after`, with cpu.usageNanoCores and cpu.throttling.share over the time since `before`.

    Those that were not there before, and those that were started anew meanwhile, have none.
    """
    known = {pod["podRef"]["uid"]: pod for pod in before}
    made = []
    for pod in after:
        old = known.get(pod["podRef"]["uid"])
        if old is None or "cpu" not in pod or "cpu" not in old:
            made.append(pod)
            continue
        elapsed = pod["monotonicNanoSeconds"] - old["monotonicNanoSeconds"]
        new = {**pod, "cpu": _rate(old["cpu"], pod["cpu"], elapsed)}
        if "containers" in pod:
            olds = {one["id"]: one for one in old.get("containers", ())}
            new["containers"] = [
                {**one, "cpu": _rate(olds[one["id"]]["cpu"], one["cpu"], elapsed)} if one["id"] in olds else one
                for one in pod["containers"]
            ]
        made.append(new)
    return made


def _rate(before: Sample, after: Sample, elapsed_ns: int) -> Sample:
    cpu = dict(after)
    used = after.get("usageCoreNanoSeconds"), before.get("usageCoreNanoSeconds")
    # Less than before: the cgroup was made anew.
    if elapsed_ns > 0 and used[0] is not None and used[1] is not None and used[0] >= used[1]:
        cpu["usageNanoCores"] = (used[0] - used[1]) * 1_000_000_000 // elapsed_ns
    periods, old = after.get("throttling", {}), before.get("throttling", {})
    if "periods" in periods and "periods" in old and periods["periods"] >= old["periods"]:
        passed = periods["periods"] - old["periods"]
        throttled = periods.get("throttledPeriods", 0) - old.get("throttledPeriods", 0)
        cpu["throttling"] = {**periods, "share": max(throttled, 0) / passed if passed else 0.0}
    return cpu
