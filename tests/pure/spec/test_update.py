"""What Kubernetes lets change of a pod that is there, rule by rule (ValidatePodUpdate, ValidatePodResize)."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nsrun.spec import Pod, load
from nsrun.spec.update import UPDATABLE, Update, inherit, judge_update

MAY = "pod updates may not change fields other than " + ",".join(UPDATABLE)

BASE: dict[str, Any] = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "p", "labels": {"a": "1"}, "annotations": {"note": "x"}},
    "spec": {
        "initContainers": [
            {"name": "init", "image": "i:1"},
            {"name": "side", "image": "s:1", "restartPolicy": "Always"},
        ],
        "containers": [
            {"name": "web", "image": "w:1", "env": [{"name": "A", "value": "1"}]},
            {"name": "log", "image": "l:1"},
        ],
        "tolerations": [{"key": "k", "operator": "Exists"}],
    },
}


def made(**edits: Any) -> Pod:
    """BASE with edits: a dotted path (double underscores) to a value; None takes the field away."""
    tree = copy.deepcopy(BASE)
    for path, value in edits.items():
        place: Any = tree
        *parents, last = path.split("__")
        for step in parents:
            place = place[int(step)] if isinstance(place, list) else place.setdefault(step, {})
        if value is None:
            place.pop(last, None)
        elif isinstance(place, list):
            place[int(last)] = value
        else:
            place[last] = value
    obj = load(json.dumps(tree).encode(), "p.json")[0].require_valid()
    assert isinstance(obj, Pod)
    return obj


def judged(old: dict[str, Any], new: dict[str, Any]) -> Update:
    return judge_update(made(**old), made(**new))


@pytest.mark.parametrize(
    ("old", "new", "paths", "redefined"),
    [
        ({}, {}, (), ()),
        ({}, {"spec__containers__0__image": "w:2"}, ("spec.containers[0].image",), ("web",)),
        ({}, {"spec__initContainers__0__image": "i:2"}, ("spec.initContainers[0].image",), ("init",)),
        ({}, {"spec__initContainers__1__image": "s:2"}, ("spec.initContainers[1].image",), ("side",)),
        (
            {},
            {"spec__containers__1__image": "l:2", "spec__initContainers__1__image": "s:2"},
            ("spec.initContainers[1].image", "spec.containers[1].image"),
            ("side", "log"),
        ),
        ({}, {"metadata__labels": {"a": "2", "b": "1"}}, ("metadata.labels[a]", "metadata.labels[b]"), ()),
        ({}, {"metadata__labels": None}, ("metadata.labels[a]",), ()),
        ({}, {"metadata__annotations__note": "y"}, ("metadata.annotations[note]",), ()),
        ({}, {"spec__activeDeadlineSeconds": 60}, ("spec.activeDeadlineSeconds",), ()),
        ({"spec__activeDeadlineSeconds": 60}, {"spec__activeDeadlineSeconds": 5}, ("spec.activeDeadlineSeconds",), ()),
        (
            {},
            {"spec__tolerations": [{"key": "n", "operator": "Exists"}, {"key": "k", "operator": "Exists"}]},
            ("spec.tolerations[0].key", "spec.tolerations[1]"),
            (),
        ),
        (
            {"spec__tolerations": [{"key": "k", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 9}]},
            {"spec__tolerations": [{"key": "k", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 3}]},
            ("spec.tolerations[0].tolerationSeconds",),
            (),
        ),
        ({"spec__schedulingGates": [{"name": "a/b"}]}, {}, ("spec.schedulingGates[0]",), ()),
        (
            {"spec__schedulingGates": [{"name": "a/b"}], "spec__nodeSelector": {"x": "1"}},
            {"spec__schedulingGates": [{"name": "a/b"}], "spec__nodeSelector": {"x": "1", "y": "2"}},
            ("spec.nodeSelector[y]",),
            (),
        ),
    ],
)
def test_S_UPDATE_what_may_change(
    old: dict[str, Any], new: dict[str, Any], paths: tuple[str, ...], redefined: tuple[str, ...]
) -> None:
    update = judged(old, new)
    assert [str(error) for error in update.errors] == []
    assert update.paths == paths
    assert update.redefined == redefined
    assert update.of_spec == any(path.startswith("spec") for path in paths)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ({}, {"spec__containers__0__env__0__value": "2"}, f"spec: Forbidden: {MAY}\nchanged: spec.containers[0].env[0].value"),
        ({}, {"spec__containers__0__name": "x"}, f"spec: Forbidden: {MAY}\nchanged: spec.containers[0].name"),
        ({}, {"spec__restartPolicy": "Never"}, f"spec: Forbidden: {MAY}\nchanged: spec.restartPolicy"),
        (
            {},
            {"spec__containers__0__image": "w:2", "spec__hostNetwork": True, "spec__containers__1__args": ["x"]},
            f"spec: Forbidden: {MAY}\nchanged: spec.containers[1].args, spec.hostNetwork",
        ),
        ({}, {"spec__containers": BASE["spec"]["containers"][:1]},
         "spec.containers: Forbidden: pod updates may not add or remove containers"),
        ({}, {"spec__initContainers": None},
         "spec.initContainers: Forbidden: pod updates may not add or remove containers"),
        ({"spec__activeDeadlineSeconds": 60}, {"spec__activeDeadlineSeconds": 61},
         "spec.activeDeadlineSeconds: Invalid value: 61: must be less than or equal to previous value"),
        ({"spec__activeDeadlineSeconds": 60}, {},
         "spec.activeDeadlineSeconds: Invalid value: null: must not update from a positive integer to nil value"),
        ({}, {"spec__tolerations": None},
         "spec.tolerations: Forbidden: existing toleration can not be modified except its tolerationSeconds"),
        ({}, {"spec__tolerations": [{"key": "k", "operator": "Exists", "effect": "NoSchedule"}]},
         "spec.tolerations: Forbidden: existing toleration can not be modified except its tolerationSeconds"),
        ({}, {"spec__terminationGracePeriodSeconds": 1},
         f"spec: Forbidden: {MAY}\nchanged: spec.terminationGracePeriodSeconds"),
        ({}, {"spec__schedulingGates": [{"name": "a/b"}]},
         "spec.schedulingGates[0]: Forbidden: only deletion is allowed, but found new scheduling gate 'a/b'"),
        ({}, {"spec__nodeSelector": {"x": "1"}}, f"spec: Forbidden: {MAY}\nchanged: spec.nodeSelector[x]"),
        ({"spec__schedulingGates": [{"name": "a/b"}], "spec__nodeSelector": {"x": "1"}},
         {"spec__schedulingGates": [{"name": "a/b"}], "spec__nodeSelector": {"x": "2"}},
         'spec.nodeSelector: Invalid value: {"x":"2"}: only additions to spec.nodeSelector are allowed (no mutations or deletions)'),
        ({}, {"metadata__annotations": {"note": "x", "container.apparmor.security.beta.kubernetes.io/web": "unconfined"}},
         "metadata.annotations[container.apparmor.security.beta.kubernetes.io/web]: Forbidden: may not add AppArmor annotations"),
        ({"metadata__annotations": {"container.apparmor.security.beta.kubernetes.io/web": "unconfined"}}, {},
         "metadata.annotations[container.apparmor.security.beta.kubernetes.io/web]: Forbidden: "
         "may not remove or update AppArmor annotations"),
    ],
)  # fmt: skip
def test_S_UPDATE_what_may_not_change(old: dict[str, Any], new: dict[str, Any], message: str) -> None:
    update = judged(old, new)
    wanted, _, fixed = message.partition("\nchanged: ")
    assert wanted in [str(error) for error in update.errors]
    assert ", ".join(update.fixed) == fixed
    assert update.redefined == ()


def test_S_UPDATE_a_negative_grace_period_may_become_one() -> None:
    old = made()
    old.spec.terminationGracePeriodSeconds = -1
    assert judge_update(old, made(spec__terminationGracePeriodSeconds=1)).errors == ()
    assert judge_update(old, made(spec__terminationGracePeriodSeconds=2)).errors != ()


def _terms(*keys: tuple[str, ...]) -> dict[str, Any]:
    terms = [{"matchExpressions": [{"key": key, "operator": "Exists"} for key in term]} for term in keys]
    return {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}}


@pytest.mark.parametrize(
    ("old", "new", "fine"),
    [
        (None, _terms(("a",)), True),
        (_terms(("a",)), _terms(("a", "b")), True),
        (_terms(("a",)), _terms(("b", "a")), False),
        (_terms(("a",)), _terms(("a",), ("b",)), False),
        (_terms(("a",), ("b",)), _terms(("a",)), False),
        (_terms(("a",)), None, False),
        (_terms(()), _terms(("a",)), False),
    ],
)
def test_S_UPDATE_the_affinity_of_a_gated_pod_only_narrows(old: Any, new: Any, fine: bool) -> None:
    gate = {"spec__schedulingGates": [{"name": "a/b"}]}
    update = judged({**gate, "spec__affinity": old}, {**gate, "spec__affinity": new})
    assert (update.errors == ()) is fine
    # Without a gate nothing of it may change.
    assert judged({"spec__affinity": old}, {"spec__affinity": new}).errors != ()


def test_S_UPDATE_the_pod_affinity_of_a_gated_pod_stays() -> None:
    anti: dict[str, Any] = {"requiredDuringSchedulingIgnoredDuringExecution": [{"topologyKey": "zone"}]}
    gate: dict[str, Any] = {"spec__schedulingGates": [{"name": "a/b"}]}
    old = {**gate, "spec__affinity": {**_terms(("a",)), "podAntiAffinity": anti}}
    assert judged(old, {**gate, "spec__affinity": {**_terms(("a", "b")), "podAntiAffinity": anti}}).errors == ()
    assert judged(old, {**gate, "spec__affinity": _terms(("a", "b"))}).errors != ()


def _resources(
    cpu: str | None = None, memory: str | None = None, *, limits: bool = False, disk: str | None = None
) -> dict[str, Any]:
    asked = {"cpu": cpu, "memory": memory, "ephemeral-storage": disk}
    amounts = {name: amount for name, amount in asked.items() if amount is not None}
    return {"requests": amounts} | ({"limits": amounts} if limits else {})


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (_resources("1"), _resources("2"), None),
        (_resources("1", "1Gi"), _resources("500m", "512Mi"), None),
        (_resources("1", "1Gi", limits=True), _resources("2", "512Mi", limits=True), None),
        (_resources("1"), _resources("1", "1Gi"), None),
        (_resources("1", "1Gi"), _resources("1"), "spec.containers[0].resources.requests: Forbidden: resource requests cannot be removed"),
        (_resources(), _resources("1"), 'spec: Invalid value: "Burstable": Pod QOS Class may not change as a result of resizing'),
        (_resources("1", disk="1Gi"), _resources("1", disk="2Gi"),
         f"spec: Forbidden: {MAY}\nchanged: spec.containers[0].resources.requests[ephemeral-storage]"),
    ],
)  # fmt: skip
def test_S_UPDATE_resources_of_a_container(old: Any, new: Any, message: str | None) -> None:
    # The other containers ask for nothing, so that this one decides about the class.
    one: dict[str, Any] = {
        "spec__initContainers": None,
        "spec__containers__1": {"name": "log", "image": "l:1", "resources": old},
    }
    update = judged({**one, "spec__containers__0__resources": old}, {**one, "spec__containers__0__resources": new})
    wanted, _, fixed = (message or "").partition("\nchanged: ")
    assert [str(error) for error in update.errors] == ([wanted] if wanted else [])
    assert ", ".join(update.fixed) == fixed


def test_S_UPDATE_resources_start_a_container_again_only_where_its_resize_policy_says_so() -> None:
    old = {"spec__containers__0__resources": _resources("1", "1Gi")}
    cpu, memory = ({"spec__containers__0__resources": _resources(*one)} for one in (("2", "1Gi"), ("1", "2Gi")))
    policy = {"spec__containers__0__resizePolicy": [{"resourceName": "memory", "restartPolicy": "RestartContainer"}]}
    assert judged(old, cpu).redefined == ()
    assert judged({**old, **policy}, {**cpu, **policy}).redefined == ()
    assert judged({**old, **policy}, {**memory, **policy}).redefined == ("web",)
    same = {"spec__containers__0__resources": _resources("1000m", "1024Mi")}
    assert judged({**old, **policy}, {**same, **policy}).redefined == ()


def test_S_UPDATE_resources_of_plain_init_containers_stay() -> None:
    old, new = ({"spec__initContainers__0__resources": _resources(amount)} for amount in ("1", "2"))
    assert judged(old, new).fixed == ("spec.initContainers[0].resources.requests[cpu]",)
    old, new = ({"spec__initContainers__1__resources": _resources(amount)} for amount in ("1", "2"))
    assert judged(old, new).errors == ()


def test_S_UPDATE_resources_of_a_pod_and_of_the_containers_in_it() -> None:
    """Since 1.36 (InPlacePodLevelResourcesVerticalScaling); whether they fit into one another is a matter of the pod by itself."""
    amounts = {"requests": {"cpu": "4", "memory": "4Gi"}, "limits": {"cpu": "8", "memory": "4Gi"}}
    whole = {"spec__resources": amounts}
    old, new = ({**whole, "spec__containers__0__resources": _resources(amount)} for amount in ("1", "2"))
    assert judged(old, new).errors == ()
    more = {"spec__resources": {"requests": {"cpu": "5", "memory": "5Gi"}, "limits": {"cpu": "9", "memory": "5Gi"}}}
    assert judged(whole, more).errors == ()
    assert "spec.resources.limits[cpu]" in judged(whole, more).paths
    for less in ({**amounts, "limits": {"cpu": "8"}}, {**amounts, "limits": {}}):
        (error, *_) = judged(whole, {"spec__resources": less}).errors
        assert str(error) == "spec.resources.limits: Forbidden: resource limits cannot be removed"
    huge = {"spec__resources": {**amounts, "limits": amounts["limits"] | {"hugepages-2Mi": "4Mi"}}}
    assert f"spec: Forbidden: {MAY}" in [str(error) for error in judged(whole, huge).errors]
    # With a policy that wants it, containers start again for the pod's limit where they have none of their own.
    policy = {"spec__containers__0__resizePolicy": [{"resourceName": "cpu", "restartPolicy": "RestartContainer"}]}
    assert judged({**whole, **policy}, {**more, **policy}).redefined == ("web",)
    own = {"spec__containers__0__resources": {"requests": {"cpu": "1"}, "limits": {"cpu": "2"}}}
    assert judged({**whole, **policy, **own}, {**more, **policy, **own}).redefined == ()


PLAIN = {"spec__containers__0__env__0__value": "1", "spec__hostname": None}
FIXED = tuple(PLAIN)

_EDITS = st.dictionaries(
    st.sampled_from(
        [
            "spec__containers__0__image",
            "spec__initContainers__1__image",
            "metadata__labels__a",
            "metadata__annotations__note",
            "spec__containers__0__env__0__value",
            "spec__hostname",
        ]
    ),
    st.sampled_from(["a", "b"]),
).map(lambda edits: {path: f"{value}:1" if path.endswith("image") else value for path, value in edits.items()})


@given(old=_EDITS, new=_EDITS)
@settings(max_examples=200, deadline=None)
def test_S_UPDATE_is_refused_exactly_when_something_else_changed(old: dict[str, Any], new: dict[str, Any]) -> None:
    before, after = made(**old), made(**new)
    kept = copy.deepcopy((before, after))
    update = judge_update(before, after)
    assert (before, after) == kept, "judging changes nothing"
    assert bool(update.errors) == bool(
        {path for path in FIXED if old.get(path, PLAIN[path]) != new.get(path, PLAIN[path])}
    )
    assert bool(update.paths) == (before != after)


def test_S_UPDATE_a_pull_policy_that_nobody_wrote_stays_with_another_image() -> None:
    old, tree = made(), copy.deepcopy(BASE)
    tree["spec"]["containers"][0]["image"] = "w"
    tree["spec"]["containers"][1] |= {"image": "l", "imagePullPolicy": "Always"}
    new = load(json.dumps(tree).encode(), "p.json")[0].require_valid()
    assert isinstance(new, Pod)
    assert [one.imagePullPolicy for one in new.spec.containers] == ["Always", "Always"]
    inherit(old, new, tree)
    assert [one.imagePullPolicy for one in new.spec.containers] == ["IfNotPresent", "Always"]
    assert judge_update(old, new).fixed == ("spec.containers[1].imagePullPolicy",)
