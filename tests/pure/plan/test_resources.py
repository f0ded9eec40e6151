"""What requests and limits mean to the kernel."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nsrun.plan import NodeFacts, container_limits, container_program, exec_program, ops, pod_limits
from nsrun.plan.identity import oom_score_adj
from nsrun.plan.resources import Limits, controllers_for, quota, shares, weight
from nsrun.spec import load, pods
from nsrun.spec.model import Container, Pod
from tests.pure.plan.pods import inputs

MIB = 1 << 20


def one(name: str, requests: Any = None, limits: Any = None, **fields: Any) -> dict[str, Any]:
    """A container."""
    resources = {key: value for key, value in (("requests", requests), ("limits", limits)) if value}
    return {"name": name, "image": "box", "resources": resources, **fields}


def made(*containers: dict[str, Any], inits: list[dict[str, Any]] | None = None, **spec: Any) -> Pod:
    """A pod as it is after decoding and defaulting."""
    import json

    manifest = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "web"},
        "spec": {"containers": list(containers), "initContainers": inits or [], **spec},
    }
    (result,) = pods(load(json.dumps(manifest).encode(), "test.json"))
    return result


def of(pod: Pod, name: str) -> Limits:
    """The limits of a container."""
    return container_limits(pod, container(pod, name))


def container(pod: Pod, name: str) -> Container:
    """The container of that name."""
    return next(each for each in (*pod.spec.containers, *pod.spec.initContainers) if each.name == name)


@pytest.mark.parametrize(
    ("milli", "expected"),
    # pkg/kubelet/cm/helpers_linux_test.go TestMilliCPUToShares, and the ends of the range
    [(0, 2), (1, 2), (2, 2), (3, 3), (100, 102), (1000, 1024), (2000, 2048), (256000, 262144), (10**9, 262144)],
)
def test_S_CGROUP_shares(milli: int, expected: int) -> None:
    assert shares(milli) == expected


@pytest.mark.parametrize(
    ("milli", "expected"),
    # pkg/kubelet/cm/helpers_linux_test.go TestMilliCPUToQuota
    [(0, 0), (5, 1000), (9, 1000), (10, 1000), (200, 20000), (500, 50000), (1000, 100000), (1500, 150000)],
)
def test_S_CGROUP_quota(milli: int, expected: int) -> None:
    assert quota(milli) == expected


@pytest.mark.parametrize(("of_shares", "expected"), [(2, 1), (102, 4), (1024, 39), (262144, 10000)])
def test_S_CGROUP_weight_of_version_2(of_shares: int, expected: int) -> None:
    assert weight(of_shares) == expected


@given(st.integers(0, 10**7), st.integers(0, 10**7))
def test_S_CGROUP_more_never_becomes_less(low: int, high: int) -> None:
    low, high = sorted((low, high))
    assert 2 <= shares(low) <= shares(high) <= 262144
    assert 1 <= weight(shares(low)) <= weight(shares(high)) <= 10000
    assert quota(low) <= quota(high)


def test_S_CGROUP_who_asks_for_nothing_is_left_alone() -> None:
    pod = made(one("a"))
    assert of(pod, "a") == pod_limits(pod) == Limits()
    asked = made(one("a", {"memory": "10Mi"}))
    assert pod_limits(asked).controllers == (), "a request of memory decides who is killed, and limits nothing"


@pytest.mark.parametrize(
    ("containers", "expected"),
    [
        ([one("a", {"cpu": "1"})], ("cpu",)),
        ([one("a", limits={"memory": "1Mi"})], ("memory",)),
        ([one("a", {"cpu": "0"}, {"memory": "0"})], ()),
        ([one("a"), one("b", {"cpu": "1m"}, {"memory": "1Mi"})], ("cpu", "memory")),
    ],
)
def test_S_CGROUP_controllers_that_are_needed(containers: list[dict[str, Any]], expected: tuple[str, ...]) -> None:
    pod = made(*containers)
    assert controllers_for(pod) == expected
    assert {of(pod, each.name).controllers for each in pod.spec.containers} == {expected}


def test_S_CGROUP_of_a_container() -> None:
    pod = made(one("a", {"cpu": "250m", "memory": "16Mi"}, {"cpu": "1500m", "memory": "64Mi"}), one("b"))
    assert of(pod, "a") == Limits(("cpu", "memory"), 256, 150_000, 100_000, 64 * MIB, oom_group=True)
    assert of(pod, "b") == Limits(("cpu", "memory"), 2, 0, 100_000, 0, oom_group=True)


def test_S_CGROUP_a_request_is_the_limit_where_there_is_none() -> None:
    assert of(made(one("a", limits={"cpu": "2"})), "a").shares == 2048
    assert of(made(one("a", {"cpu": "0"}, {"cpu": "2"})), "a").shares == 2


def test_S_CGROUP_of_a_pod_is_the_sum() -> None:
    pod = made(
        one("a", {"cpu": "100m"}, {"cpu": "200m", "memory": "10Mi"}),
        one("b", {"cpu": "200m"}, {"cpu": "300m", "memory": "20Mi"}),
    )
    assert pod_limits(pod) == Limits(("cpu", "memory"), shares(300), 50_000, 100_000, 30 * MIB)


def test_S_CGROUP_sidecars_add_and_the_largest_init_counts() -> None:
    def limits(cpu: str, memory: str) -> dict[str, str]:
        return {"cpu": cpu, "memory": memory}

    pod = made(
        one("main", limits=limits("1", "100Mi")),
        inits=[
            one("first", limits=limits("3", "50Mi")),
            one("side", limits=limits("500m", "50Mi"), restartPolicy="Always"),
            one("second", limits=limits("2", "200Mi")),
        ],
    )
    assert pod_limits(pod) == Limits(("cpu", "memory"), shares(3000), 300_000, 100_000, 250 * MIB)


@pytest.mark.parametrize("inits", [[], [one("i")]], ids=["main", "init"])
def test_S_CGROUP_a_pod_has_a_limit_only_if_all_have(inits: list[dict[str, Any]]) -> None:
    others = [] if inits else [one("b", {"cpu": "1"})]
    pod = made(one("a", {"cpu": "1"}, {"cpu": "2", "memory": "10Mi"}), *others, inits=inits)
    found = pod_limits(pod)
    assert (found.quota_us, found.memory) == (0, 0)
    assert found.shares == shares(1000 * (1 + len(others)))
    assert of(pod, "a").memory == 10 * MIB


def test_S_CGROUP_resources_of_the_pod_itself() -> None:
    pod = made(
        one("a", limits={"cpu": "100m", "memory": "10Mi"}),
        one("b"),
        resources={"requests": {"cpu": "1", "memory": "32Mi"}, "limits": {"cpu": "2", "memory": "64Mi"}},
    )
    assert pod_limits(pod) == Limits(("cpu", "memory"), 1024, 200_000, 100_000, 64 * MIB)
    assert (of(pod, "a").quota_us, of(pod, "a").memory) == (10_000, 10 * MIB)
    assert (of(pod, "b").quota_us, of(pod, "b").memory) == (200_000, 64 * MIB), "the pod's, where it has none"
    # 22 MiB that no container requests are 11 for each
    memory = 1000 * MIB
    assert oom_score_adj(pod, container(pod, "a"), memory) == 1000 - 21
    assert oom_score_adj(pod, container(pod, "b"), memory) == 1000 - 11


def test_S_CGROUP_joining_comes_before_everything_else() -> None:
    pod = made(one("a", limits={"cpu": "1", "memory": "10Mi"}, command=["x"]))
    given = inputs(legacy_controllers=("cpu", "memory"))
    for program in (
        container_program(pod, pod.spec.containers[0], given),
        exec_program(pod, pod.spec.containers[0], given, ["y"]),
    ):
        assert [op.slot for op in program.ops[:2] if isinstance(op, ops.JoinCgroup)] == [4, 5]
        assert [slot.profile for slot in program.slots if slot.kind == "cgroup"] == ["cpu", "memory"]
        assert program.slots[0].kind == "seccomp"


def test_S_CGROUP_the_pids_limit_is_every_pods_and_the_pods_alone() -> None:
    node = NodeFacts(pids_limit=100)
    bare = made({"name": "a", "image": "i"})
    assert pod_limits(bare, node) == Limits(("pids",), pids=100)
    assert container_limits(bare, container(bare, "a"), node).pids == 0, "containers share what the pod has"
    assert container_limits(bare, container(bare, "a"), node).controllers == ("pids",), "or they were not in it"
    limited = made({"name": "a", "image": "i", "resources": {"limits": {"cpu": "1", "memory": "1Mi"}}})
    assert pod_limits(limited, node).controllers == ("cpu", "memory", "pids")
    assert pod_limits(limited, node).pids == 100


def test_S_CGROUP_huge_pages() -> None:
    two, gib = 2 << 20, 1 << 30
    resources = {"limits": {"cpu": "1", "memory": "64Mi", "hugepages-2Mi": "8Mi"}}
    pod = made({"name": "a", "image": "i", "resources": resources}, {"name": "b", "image": "i"})
    node = NodeFacts(huge_pages=(two, gib))
    assert container_limits(pod, container(pod, "a"), node).huge_pages == ((two, 8 << 20), (gib, 0))
    assert container_limits(pod, container(pod, "b"), node).huge_pages == ((two, 0), (gib, 0)), "none unless it asks"
    assert pod_limits(pod, node).huge_pages == ((two, 8 << 20), (gib, 0))
    assert pod_limits(pod).controllers == ("cpu", "memory", "hugetlb")
    bare = made({"name": "a", "image": "i"})
    assert pod_limits(bare, node) == Limits(("hugetlb",), huge_pages=((two, 0), (gib, 0)))
    assert pod_limits(bare) == Limits()
    whole = made({"name": "a", "image": "i"}, resources={"limits": {"memory": "64Mi", "hugepages-1Gi": "1Gi"}})
    assert container_limits(whole, container(whole, "a"), node).huge_pages == ((two, 0), (gib, gib))
    assert pod_limits(whole, node).huge_pages == ((two, 0), (gib, gib))
