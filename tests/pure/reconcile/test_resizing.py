"""Resizes in place: what is in force, what the machine cannot give, and the words of it."""

from __future__ import annotations

import json

import msgspec
import pytest

from nsrun import spec
from nsrun.reconcile.admission import Amounts, Facts
from nsrun.reconcile.resizing import POD, Resize, accept, begin, carried_out, in_force, summary, verdict
from nsrun.spec.model import Pod, ResourceRequirements
from nsrun.state.ledger import Wish


def made(*cpus: str, generation: int = 1, memory: str = "64Mi", limit: str = "") -> Pod:
    """A pod with a sidecar and containers that request so much cpu, and a limit of its own."""
    boxes = [
        {"name": f"c{number}", "image": "i", "resources": {"requests": {"cpu": cpu, "memory": memory}}}
        for number, cpu in enumerate(cpus)
    ]
    body = {
        "initContainers": [{**boxes[0], "name": "side", "restartPolicy": "Always"}],
        "containers": boxes,
    } | ({"resources": {"limits": {"cpu": limit}}} if limit else {})
    text = json.dumps({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": body})
    (found,) = spec.load(text.encode(), "p.json")
    assert isinstance(found.object, Pod), found.messages
    found.object.metadata.generation = generation
    return found.object


def test_S_CGROUP_resize_what_is_in_force() -> None:
    old, new = made("1", "2"), made("1", "3")
    resize = begin(old, new, None)
    assert resize == Resize({"c1": old.spec.containers[1].resources})
    assert in_force(new, resize).spec == old.spec
    assert in_force(new, resize).metadata is new.metadata
    assert new.spec.containers[1].resources.requests["cpu"] == "3", "what is asked for is left as it is"
    assert in_force(new, accept(resize)) is new
    assert in_force(new, None) is new
    assert begin(old, made("1", "2"), None) is None
    assert set((begin(old, made("2", "2"), None) or Resize()).before) == {"side", "c0"}
    wish = Wish(object=new, resize=resize)
    assert msgspec.json.decode(msgspec.json.encode(wish), type=Wish) == wish


def test_S_CGROUP_resize_of_the_pods_own_amounts() -> None:
    old, new = (made("1", "2", limit=cpu) for cpu in ("4", "5"))
    assert old.spec.resources is not None
    resize = begin(old, new, None)
    assert resize == Resize({POD: old.spec.resources})
    assert in_force(new, resize).spec == old.spec
    without = made("1", "2")
    resize = begin(without, new, None)
    assert resize == Resize({POD: ResourceRequirements()})
    assert in_force(new, resize).spec == without.spec, "not one with amounts of which there are none"


def test_S_CGROUP_resize_while_one_is_not_carried_out() -> None:
    """What containers have is known until they have what they are to have, whatever is asked for meanwhile."""
    first, second, third = made("1", "2"), made("1", "3"), made("1", "4")
    had, allocated = ({"c1": one.spec.containers[1].resources} for one in (first, second))
    under_way = begin(first, second, None)
    assert under_way is not None
    under_way = accept(under_way)
    assert under_way == Resize(actual=had)
    assert begin(second, second, under_way) == under_way, "nothing of amounts was changed"
    assert carried_out(under_way) is None
    waiting = begin(second, third, under_way)
    assert waiting == Resize(allocated, had)
    assert in_force(third, waiting).spec == second.spec
    assert carried_out(waiting) == Resize(allocated)
    assert accept(waiting) == Resize(actual=had)
    assert begin(second, second, waiting) == under_way, "asked for no more"


@pytest.mark.parametrize(
    ("cpu", "memory", "used", "expected"),
    [
        ("1", "1Gi", Amounts(2000, 1 << 30), None),
        ("3", "1Gi", Amounts(), ("Infeasible", "Node didn't have enough capacity: cpu, requested: 6000, capacity: 4000")),
        (
            "3", "3Gi", Amounts(),
            ("Infeasible", f"Node didn't have enough capacity: memory, requested: {6 << 30}, capacity: {4 << 30}"),
        ),
        (
            "1", "1Gi", Amounts(2500, 0),
            ("Deferred", "Node didn't have enough resource: cpu, requested: 2000, used: 2500, capacity: 4000"),
        ),
        (
            "1", "1Gi", Amounts(0, 3 << 30),
            (
                "Deferred",
                f"Node didn't have enough resource: memory, requested: {2 << 30}, used: {3 << 30}, capacity: {4 << 30}",
            ),
        ),
    ],
)  # fmt: skip
def test_S_CGROUP_resize_that_the_machine_cannot_give(
    cpu: str, memory: str, used: Amounts, expected: tuple[str, str] | None
) -> None:
    facts = Facts(kernel=(6, 1), capacity=Amounts(4000, 4 << 30), used=used)
    assert verdict(made(cpu, memory=memory), facts) == expected


def test_S_CGROUP_resize_the_words_of_its_events() -> None:
    pod = made("1", generation=3)
    pod.spec.initContainers = []
    data = '{"containers":[{"name":"c0","resources":{"requests":{"cpu":"1","memory":"64Mi"}}}],"generation":3'
    assert summary("Pod resize started", pod) == f"Pod resize started: {data}}}"
    assert summary("Pod resize Deferred", pod, "why") == f'Pod resize Deferred: {data},"error":"why"}}'
    assert summary("x", made("1")).startswith('x: {"initContainers":[{"name":"side",')
