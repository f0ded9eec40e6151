"""Two looks, what is between them, and how it is shown."""

from __future__ import annotations

from typing import Any

from nsrun.cli.pod_stats import heads, in_columns, rows
from nsrun.client.stats import between


def pod(name: str, at_s: float, cpu_s: float, **more: Any) -> dict[str, Any]:
    """A sample."""
    return {
        "podRef": {"name": name, "namespace": more.pop("namespace", "default"), "uid": f"uid-{name}"},
        "monotonicNanoSeconds": int(at_s * 1e9),
        "cpu": {"usageCoreNanoSeconds": int(cpu_s * 1e9), **more.pop("cpu", {})},
        **more,
    }


def test_stats_the_rate_between_two_looks() -> None:
    before = [
        pod("a", 10, 5, cpu={"throttling": {"periods": 10, "throttledPeriods": 2}}),
        pod("b", 10, 7),
        pod("d", 10, 1),
    ]
    after = [
        pod("a", 12, 5.5, cpu={"throttling": {"periods": 30, "throttledPeriods": 7}}),
        pod("b", 12, 1),
        pod("c", 12, 9),
        {"podRef": before[2]["podRef"], "missing": {"pod": "gone"}},
    ]
    a, b, c, d = between(before, after)
    assert a["cpu"]["usageNanoCores"] == 250_000_000
    assert a["cpu"]["throttling"]["share"] == 0.25
    assert "usageNanoCores" not in b["cpu"], "counted anew: another sandbox"
    assert "usageNanoCores" not in c["cpu"], "it has just come"
    assert d == after[3]
    assert "usageNanoCores" not in after[0]["cpu"], "what was given is left as it is"


def test_stats_containers_are_matched_by_instance() -> None:
    def inside(instance: str, cpu_s: float) -> list[dict[str, Any]]:
        return [{"name": "x", "id": instance, "cpu": {"usageCoreNanoSeconds": int(cpu_s * 1e9)}}]

    before = [pod("a", 1, 1, containers=inside("1", 1)), pod("b", 1, 1, containers=inside("1", 1))]
    after = [pod("a", 2, 2, containers=inside("1", 2)), pod("b", 2, 2, containers=inside("2", 5))]
    a, b = between(before, after)
    assert a["containers"][0]["cpu"]["usageNanoCores"] == 1_000_000_000
    assert "usageNanoCores" not in b["containers"][0]["cpu"]


def test_stats_the_table() -> None:
    full = pod(
        "web", 1, 1,
        cpu={"usageNanoCores": 12_400_000, "limitNanoCores": 100_000_000, "throttling": {"share": 0.5}},
        memory={"workingSetBytes": 3 << 19, "limitBytes": 6 << 20},
        process_stats={"process_count": 3},
        network={"rxBytes": 1500, "txBytes": 0},
        diskIO={"readBytes": 5_000_000, "writtenBytes": 12},
        containers=[{"name": "app", "cpu": {}, "memory": {"workingSetBytes": 77 << 20, "estimated": True}}],
    )  # fmt: skip
    empty = {"podRef": {"name": "off", "namespace": "default", "uid": "u"}, "missing": {"pod": "it is Succeeded"}}
    assert rows([full, empty], containers=False) == [
        ["web", "12m", "12%", "1.5Mi", "25%", "3", "1.5kB / 0B", "5.0MB / 12B", "50%"],
        ["off", "-", "-", "-", "-", "-", "-", "-", "-"],
    ]
    assert rows([full, empty], containers=True) == [["web", "app", "-", "-", "~77Mi", "-", "-", "1.5kB / 0B", "-", "-"]]
    assert heads([full], containers=True)[:2] == ["POD", "NAME"]
    other = pod("a", 1, 1, namespace="other", cpu={"usageNanoCores": 99_000_000})
    assert [line[:2] for line in rows([full, other], containers=False, sort_by="cpu")] == [
        ["other", "a"],
        ["default", "web"],
    ]
    assert [line[1] for line in rows([other, full], containers=False, sort_by="memory")] == ["web", "a"]
    assert in_columns(["A", "BB"], [["1", "2"], ["333", "4"]]) == ["A     BB", "1     2", "333   4"]
    assert in_columns([], [["1", "2"]]) == ["1   2"]
