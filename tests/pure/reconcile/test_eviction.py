"""Pods that took more of the disk than they may: which, why, and what becomes of them (S-EVICT)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nsrun.reconcile import decide
from nsrun.reconcile.eviction import DiskUse, Wanted, evict, wanted
from nsrun.reconcile.model import (
    AnnounceStop,
    Instance,
    InstanceState,
    KillContainer,
    Observed,
    Sandbox,
    SandboxState,
    SignalContainer,
    StopSandbox,
)
from nsrun.spec import set_defaults
from nsrun.spec.model import Pod, PodStatus
from nsrun.status import pod_status

MIB = 1 << 20


def container(name: str, limit: str | None = None) -> dict[str, Any]:
    limits = {"ephemeral-storage": limit} if limit else {}
    return {"name": name, "image": "i", "resources": {"limits": limits}}


def pod(*containers: dict[str, Any], inits: tuple[dict[str, Any], ...] = (), **spec: Any) -> Pod:
    fields = {"containers": list(containers or (container("a"),)), "initContainers": list(inits), **spec}
    found = msgspec.convert({"metadata": {"name": "web", "namespace": "default", "uid": "u"}, "spec": fields}, Pod)
    set_defaults(found)
    return found


def empty(name: str, limit: str | None = None, medium: str = "") -> dict[str, Any]:
    return {"name": name, "emptyDir": {"sizeLimit": limit, "medium": medium}}


def said(found: Pod, **use: dict[str, int]) -> str:
    failure = evict(found, DiskUse(**use), 1000.0)
    return "" if failure is None else failure.message


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (pod(volumes=[empty("v")]), Wanted()),
        (pod(volumes=[empty("v", "0")]), Wanted()),
        (pod(volumes=[empty("v", "1Mi", "Memory")]), Wanted()),
        (pod(volumes=[empty("v", "1Mi"), empty("w")]), Wanted(("v",))),
        (
            pod(container("a", "1Mi"), volumes=[empty("v"), empty("m", medium="Memory")]),
            Wanted(("v",), containers=True),
        ),
        (pod(inits=(container("i", "1Mi"),)), Wanted((), containers=True)),
        (pod(volumes=[empty("v", "1Mi")], priority=2_000_000_000), Wanted()),
    ],
)
def test_S_EVICT_only_what_has_a_limit_is_measured(found: Pod, expected: Wanted) -> None:
    assert wanted(found, static=False) == expected
    assert not wanted(found, static=True)


def test_S_EVICT_empty_dir_above_its_size_limit() -> None:
    found = pod(volumes=[empty("v", "1Mi"), empty("w", "1Mi")])
    assert said(found, volumes={"v": MIB, "w": MIB}) == ""
    assert said(found, volumes={"v": MIB, "w": MIB + 1}) == 'Usage of EmptyDir volume "w" exceeds the limit "1Mi". '


def test_S_EVICT_pod_above_the_sum_of_its_containers_limits() -> None:
    found = pod(container("a", "2Mi"), container("b", "3Mi"), container("c"), volumes=[empty("v")])
    words = "Pod ephemeral local storage usage exceeds the total limit of containers 5Mi. "
    assert said(found, volumes={"v": 2 * MIB}, containers={"a": MIB, "b": MIB, "c": MIB}) == ""
    assert said(found, volumes={"v": 2 * MIB}, containers={"a": MIB, "b": MIB, "c": MIB + 1}) == words


def test_S_EVICT_container_above_its_limit() -> None:
    found = pod(container("a", "2Mi"), container("b", "3Mi"))
    words = 'Container a exceeded its local ephemeral storage limit "2Mi". '
    assert said(found, containers={"a": 2 * MIB, "b": 3 * MIB}) == ""
    assert said(found, containers={"a": 2 * MIB + 1}) == words


def test_S_EVICT_an_init_containers_own_limit_is_not_looked_at_but_counts_for_the_pods() -> None:
    found = pod(container("a", "1Mi"), inits=(container("i", "4Mi"),))
    assert said(found, containers={"i": 4 * MIB}) == ""
    assert said(found, containers={"i": 4 * MIB + 1}).startswith("Pod ephemeral local storage")


@given(st.integers(0, 1 << 40), st.integers(1, 1 << 40))
def test_S_EVICT_at_the_limit_is_not_above_it(used: int, limit: int) -> None:
    found = pod(volumes=[empty("v", str(limit))])
    assert bool(said(found, volumes={"v": used})) is (used > limit)


def test_S_EVICT_evicted_pod_is_stopped_with_one_second_and_fails_for_good() -> None:
    """One second, of which S-TERM makes two; phase Failed once all has ended; no policy brings it back."""
    found = pod(restartPolicy="Always", terminationGracePeriodSeconds=3600)
    failure = evict(pod(volumes=[empty("v", "1")]), DiskUse({"v": 2}), 1000.0)
    ready = Sandbox(SandboxState.READY, attempt=0)
    running = Instance("i1", "a", 0, InstanceState.RUNNING, started_at=900.0)
    observed = Observed(ready, {"a": running}, failure=failure, start_time=890.0)
    assert [type(one) for one in decide(found, observed, 1000.0)] == [AnnounceStop, SignalContainer]
    signalled = replace(running, stop_signal=15, stop_at=1000.0)
    late = Observed(ready, {"a": signalled}, failure=failure, start_time=890.0)
    assert not [one for one in decide(found, late, 1001.9) if isinstance(one, KillContainer)]
    assert [one for one in decide(found, late, 1002.1) if isinstance(one, KillContainer)]
    before = pod_status(found, late, 1001.0, PodStatus(phase="Running"))
    assert before.phase != "Failed"
    dead = Instance("i1", "a", 0, InstanceState.EXITED, started_at=900.0, finished_at=1002.0, exit_code=137, signal=9)
    over = Observed(ready, {"a": dead}, failure=failure, start_time=890.0)
    assert [type(one) for one in decide(found, over, 1003.0)] == [StopSandbox]
    status = pod_status(found, over, 1003.0, before)
    assert (status.phase, status.reason) == ("Failed", "Evicted")
    assert status.message == 'Usage of EmptyDir volume "v" exceeds the limit "1". '
    assert "DisruptionTarget" not in [one.type for one in status.conditions]
