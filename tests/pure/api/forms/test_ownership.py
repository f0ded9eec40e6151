"""Server-side apply and managedFields: what a v1.36 API server was seen to write, the rules of ownership, and their laws."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nsrun.api.forms.ownership import applied, managers, paths, typed, written
from nsrun.errors import StatusError

pytestmark = pytest.mark.pure

NOW = "2026-11-22T11:19:10Z"
LATER = "2026-11-22T11:19:20Z"


def apply(live: Any, config: Any, manager: str = "m", now: str = NOW, **options: Any) -> Any:
    before = copy.deepcopy((live, config))
    result = applied(
        "v1", config.get("kind", "Pod"), live, {"apiVersion": "v1", "kind": "Pod", **config}, manager, now, **options
    )
    assert (live, config) == before
    return result


def write(live: Any, new: Any, manager: str = "w", now: str = NOW, **options: Any) -> Any:
    return written(
        "v1", new.get("kind", "Pod"), live, {"apiVersion": "v1", "kind": "Pod", **new}, manager, now, **options
    )


def fields(obj: Any) -> dict[str, Any]:
    """Manager (and operation) → FieldsV1."""
    return {f"{one['manager']}/{one['operation']}": one["fieldsV1"] for one in obj["metadata"].get("managedFields", ())}


def created(obj: Any) -> Any:
    """As it is after it has been stored."""
    return {**obj, "metadata": {**obj["metadata"], "uid": "u", "resourceVersion": "1", "creationTimestamp": NOW}}


def pod(containers: Any, **metadata: Any) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "p", "namespace": "n", **metadata},
        "spec": {"containers": containers},
    }


# What was seen


RECORDED: list[tuple[str, str, Any, Any]] = [
    ("v1", "ConfigMap", {"metadata": {"name": "foo"}, "data": {"a": "b"}}, {"f:data": {".": {}, "f:a": {}}}),
    ("v1", "Secret", {"metadata": {"name": "foo"}, "data": {"a": "Yg=="}, "type": "Opaque"},
     {"f:data": {".": {}, "f:a": {}}, "f:type": {}}),
    ("node.k8s.io/v1", "RuntimeClass", {"metadata": {"name": "smp"}, "handler": "runc"}, {"f:handler": {}}),
    ("v1", "Namespace", {"metadata": {"generateName": "smp-", "labels": {"e2e-framework": "smp"}}},
     {"f:metadata": {"f:generateName": {}, "f:labels": {".": {}, "f:e2e-framework": {}}}}),
    ("v1", "Service", {"metadata": {"name": "foo"}, "spec": {
        "ports": [{"protocol": "TCP", "port": 80, "targetPort": 80}], "selector": {"a": "b"}, "type": "ClusterIP",
        "sessionAffinity": "None", "internalTrafficPolicy": "Cluster"}, "status": {"loadBalancer": {}}},
     {"f:spec": {"f:internalTrafficPolicy": {}, "f:ports": {".": {}, 'k:{"port":80,"protocol":"TCP"}': {
         ".": {}, "f:port": {}, "f:protocol": {}, "f:targetPort": {}}}, "f:selector": {}, "f:sessionAffinity": {}, "f:type": {}}}),
    ("v1", "Pod", {"metadata": {"name": "p1", "namespace": "smp", "labels": {"a": "b"}}, "spec": {
        "containers": [{"name": "c", "image": "busybox:1.28", "command": ["sh"], "resources": {}, "imagePullPolicy": "IfNotPresent",
                        "terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File"}],
        "restartPolicy": "Always", "terminationGracePeriodSeconds": 5, "dnsPolicy": "ClusterFirst", "securityContext": {},
        "schedulerName": "default-scheduler", "enableServiceLinks": True}, "status": {}},
     {"f:metadata": {"f:labels": {".": {}, "f:a": {}}}, "f:spec": {"f:containers": {'k:{"name":"c"}': {
         ".": {}, "f:command": {}, "f:image": {}, "f:imagePullPolicy": {}, "f:name": {}, "f:resources": {},
         "f:terminationMessagePath": {}, "f:terminationMessagePolicy": {}}}, "f:dnsPolicy": {}, "f:enableServiceLinks": {},
         "f:restartPolicy": {}, "f:schedulerName": {}, "f:securityContext": {}, "f:terminationGracePeriodSeconds": {}}}),
    ("authorization.k8s.io/v1", "SelfSubjectAccessReview", {
        "metadata": {}, "spec": {"resourceAttributes": {"verb": "get", "resource": "pods"}}},
     {"f:spec": {"f:resourceAttributes": {".": {}, "f:resource": {}, "f:verb": {}}}}),
]  # fmt: skip
"""What was created (with its defaults), and the fields that its manager was seen to own."""


@pytest.mark.parametrize(("api_version", "kind", "obj", "owned"), RECORDED, ids=[one[1] for one in RECORDED])
def test_a_created_object_belongs_to_its_creator(api_version: str, kind: str, obj: Any, owned: Any) -> None:
    found = written(api_version, kind, None, {"apiVersion": api_version, "kind": kind, **obj}, "unknown", NOW)
    assert found["metadata"]["managedFields"] == [
        {
            "manager": "unknown",
            "operation": "Update",
            "apiVersion": api_version,
            "time": NOW,
            "fieldsType": "FieldsV1",
            "fieldsV1": owned,
        }
    ]


def test_a_status_write_belongs_to_its_writer_by_its_door() -> None:
    live = created(write(None, pod([{"name": "c"}])))
    condition = {"type": "Ready", "status": "True", "lastProbeTime": None}
    new = {**live, "status": {"phase": "Running", "podIPs": [{"ip": "10.0.0.1"}], "conditions": [condition]}}
    found = write(live, {**new, "spec": {"containers": [], "nodeName": "x"}}, "kubelet", LATER, subresource="status")
    entry = next(one for one in found["metadata"]["managedFields"] if one["manager"] == "kubelet")
    assert entry == {
        "manager": "kubelet", "operation": "Update", "apiVersion": "v1", "time": LATER, "fieldsType": "FieldsV1",
        "fieldsV1": {"f:status": {
            "f:conditions": {".": {}, 'k:{"type":"Ready"}': {".": {}, "f:lastProbeTime": {}, "f:status": {}, "f:type": {}}},
            "f:phase": {}, "f:podIPs": {".": {}, 'k:{"ip":"10.0.0.1"}': {".": {}, "f:ip": {}}},
        }},
        "subresource": "status",
    }  # fmt: skip


# Plain writes


def test_a_change_goes_over_to_who_makes_it() -> None:
    live = created(write(None, pod([{"name": "c", "image": "one"}], labels={"a": "1", "b": "2"}), "first"))
    new = copy.deepcopy(live)
    new["spec"]["containers"][0]["image"] = "two"
    new["metadata"]["labels"] = {"a": "1", "c": "3"}
    found = fields(write(live, new, "second", LATER))
    assert found["second/Update"] == {
        "f:metadata": {"f:labels": {"f:c": {}}},
        "f:spec": {"f:containers": {'k:{"name":"c"}': {"f:image": {}}}},
    }
    assert found["first/Update"] == {
        "f:metadata": {"f:labels": {".": {}, "f:a": {}}},
        "f:spec": {"f:containers": {'k:{"name":"c"}': {".": {}, "f:name": {}}}},
    }


def test_a_write_that_changes_nothing_changes_no_entry() -> None:
    live = created(write(None, pod([{"name": "c"}]), "first"))
    assert write(live, live, "second", LATER) == live
    assert write(live, live, "first", LATER) == live


def test_a_client_that_does_not_know_them_does_not_delete_them_and_one_that_does_can() -> None:
    live = created(write(None, pod([{"name": "c"}]), "first"))
    without = {**live, "metadata": {key: one for key, one in live["metadata"].items() if key != "managedFields"}}
    assert write(live, without, "second", LATER) == live
    nothing: list[Any] = [[], [{}]]
    for empty in nothing:
        reset = write(live, {**live, "metadata": {**live["metadata"], "managedFields": empty}}, "second", LATER)
        assert "managedFields" not in reset["metadata"]
        # Nobody keeps track any more, until somebody applies.
        assert "managedFields" not in write(reset, {**reset, "spec": {"containers": []}}, "third")["metadata"]
    bad = {**live, "metadata": {**live["metadata"], "managedFields": [{"operation": "Spam"}]}}
    assert write(live, bad, "second", LATER) == live


def test_the_oldest_of_many_writers_are_put_together() -> None:
    live = created(write(None, pod([{"name": "c"}]), "w00", "2026-11-22T11:00:00Z"))
    for at in range(1, 15):
        new = copy.deepcopy(live)
        new["metadata"].setdefault("annotations", {})[f"a{at}"] = "1"
        live = write(live, new, f"w{at:02}", f"2026-11-22T11:00:{at:02}Z")
    names = [one["manager"] for one in live["metadata"]["managedFields"]]
    assert len(names) == 10
    assert "ancient-changes" in names
    assert "w14" in names and "w01" not in names
    owned = fields(live)["ancient-changes/Update"]["f:metadata"]["f:annotations"]
    assert {"f:a1", "f:a2", "f:a3"} <= owned.keys()


def test_the_manager_of_a_write_is_named_or_taken_from_its_user_agent() -> None:
    assert managers.name_of("kubectl-edit", "x") == "kubectl-edit"
    assert managers.name_of("", "kubectl/v1.36 (linux/amd64)") == "kubectl"
    assert managers.name_of("", "") == "unknown"
    assert len(managers.name_of("", "x" * 500)) == 128


# Apply


def test_apply_creates() -> None:
    found = apply(None, pod([{"name": "c", "image": "i"}], labels={"a": "b"}))
    assert found["spec"] == {"containers": [{"name": "c", "image": "i"}]}
    (entry,) = found["metadata"]["managedFields"]
    assert entry == {
        "manager": "m", "operation": "Apply", "apiVersion": "v1", "time": NOW, "fieldsType": "FieldsV1",
        "fieldsV1": {"f:metadata": {"f:labels": {"f:a": {}}},
                     "f:spec": {"f:containers": {'k:{"name":"c"}': {".": {}, "f:image": {}, "f:name": {}}}}},
    }  # fmt: skip


def test_apply_again_changes_nothing() -> None:
    config = pod([{"name": "c", "image": "i"}], labels={"a": "b"})
    live = created(apply(None, config))
    assert apply(live, config, now=LATER) == live


def test_what_is_not_applied_any_more_goes_unless_others_own_it() -> None:
    live = created(
        apply(None, pod([{"name": "c", "image": "i"}, {"name": "d", "image": "j"}], labels={"a": "1", "b": "2"}))
    )
    live = apply(live, {"metadata": {"name": "p", "labels": {"b": "2"}}}, "other", LATER)
    found = apply(live, pod([{"name": "c", "image": "i"}]), now=LATER)
    assert found["spec"]["containers"] == [{"name": "c", "image": "i"}]
    assert found["metadata"]["labels"] == {"b": "2"}
    assert fields(found)["other/Apply"] == {"f:metadata": {"f:labels": {"f:b": {}}}}
    assert found["metadata"]["uid"] == "u"


def test_what_others_have_set_stays() -> None:
    live = created(apply(None, pod([{"name": "c", "image": "i"}])))
    new = copy.deepcopy(live)
    new["spec"]["nodeName"] = "node1"
    new["spec"]["containers"][0]["terminationMessagePath"] = "/dev/x"
    new["status"] = {"phase": "Running"}
    live = write(live, new, "server", LATER)
    found = apply(live, pod([{"name": "c", "image": "k"}]), now=LATER)
    assert found["spec"] == {
        "nodeName": "node1",
        "containers": [{"name": "c", "image": "k", "terminationMessagePath": "/dev/x"}],
    }
    assert found["status"] == {"phase": "Running"}


def conflict(*args: Any, **options: Any) -> Any:
    with pytest.raises(StatusError) as caught:
        apply(*args, **options)
    return caught.value.status


def test_a_conflict_with_a_plain_write() -> None:
    live = created(write(None, pod([{"name": "c", "image": "one"}]), "kubectl-client-side-apply"))
    status = conflict(live, pod([{"name": "c", "image": "two"}]))
    assert status == {
        "code": 409, "reason": "Conflict",
        "message": 'Apply failed with 1 conflict: conflict with "kubectl-client-side-apply" using v1: .spec.containers[name="c"].image',
        "details": {"causes": [{
            "reason": "FieldManagerConflict", "message": 'conflict with "kubectl-client-side-apply" using v1',
            "field": '.spec.containers[name="c"].image',
        }]},
    }  # fmt: skip


def test_several_conflicts() -> None:
    live = created(apply(None, pod([{"name": "c", "image": "one"}], labels={"a": "1"}), "b"))
    new = copy.deepcopy(live)
    new["metadata"]["annotations"] = {"x": "1"}
    live = write(live, new, "a", subresource="status")
    status = conflict(live, pod([{"name": "c", "image": "two"}], labels={"a": "2"}, annotations={"x": "2"}))
    assert status["message"] == (
        'Apply failed with 3 conflicts: conflicts with "a" with subresource "status" using v1:\n- .metadata.annotations.x\n'
        'conflicts with "b":\n- .metadata.labels.a\n- .spec.containers[name="c"].image'
    )
    assert len(status["details"]["causes"]) == 3


def test_force_takes() -> None:
    live = created(apply(None, pod([{"name": "c", "image": "one"}]), "b"))
    found = apply(live, pod([{"name": "c", "image": "two"}]), force=True)
    assert found["spec"]["containers"][0]["image"] == "two"
    assert fields(found) == {
        "b/Apply": {"f:spec": {"f:containers": {'k:{"name":"c"}': {".": {}, "f:name": {}}}}},
        "m/Apply": {"f:spec": {"f:containers": {'k:{"name":"c"}': {".": {}, "f:image": {}, "f:name": {}}}}},
    }


def test_the_same_value_is_shared() -> None:
    live = created(apply(None, pod([{"name": "c", "image": "one"}]), "b"))
    found = apply(live, pod([{"name": "c", "image": "one"}]), now=LATER)
    assert fields(found)["m/Apply"] == fields(found)["b/Apply"]
    # Who shares a field can leave it to the other.
    left = apply(found, {"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c"}]}}, "b", LATER)
    assert left["spec"] == {"containers": [{"name": "c", "image": "one"}]}


def test_an_object_that_nobody_kept_track_of() -> None:
    live = created(pod([{"name": "c", "image": "one"}]))
    assert "before-first-apply" in conflict(live, pod([{"name": "c", "image": "two"}]))["message"]
    found = apply(live, pod([{"name": "c", "image": "one"}]))
    assert set(fields(found)) == {"m/Apply", "before-first-apply/Update"}


def test_kubectl_takes_over_what_client_side_apply_left() -> None:
    config = pod([{"name": "c", "image": "one"}], annotations={})
    annotated = copy.deepcopy(config)
    annotated["metadata"]["annotations"]["kubectl.kubernetes.io/last-applied-configuration"] = json.dumps(config)
    live = created(write(None, annotated, "kubectl-client-side-apply"))
    new = pod([{"name": "c", "image": "two"}])
    assert conflict(live, new, "someone")["code"] == 409
    found = apply(live, new, "kubectl")
    assert found["spec"]["containers"][0]["image"] == "two"
    kept = found["metadata"]["annotations"]["kubectl.kubernetes.io/last-applied-configuration"]
    assert json.loads(kept) == new


def test_the_order_of_lists() -> None:
    live = created(write(None, pod([{"name": name} for name in "axbyc"])))
    found = apply(live, pod([{"name": "c"}, {"name": "new"}, {"name": "a"}]))
    assert [one["name"] for one in found["spec"]["containers"]] == ["x", "b", "y", "c", "new", "a"]
    found = apply(live, pod([{"name": "a"}, {"name": "new"}, {"name": "c"}]))
    assert [one["name"] for one in found["spec"]["containers"]] == ["a", "x", "b", "y", "new", "c"]


def test_atomic_values_are_taken_as_a_whole() -> None:
    live = created(apply(None, {**pod([{"name": "c", "command": ["a", "b"]}]), "spec": {
        "containers": [{"name": "c", "command": ["a", "b"]}], "nodeSelector": {"x": "1"}, "tolerations": [{"key": "k"}]}}))  # fmt: skip
    assert fields(live)["m/Apply"]["f:spec"]["f:nodeSelector"] == {}
    found = apply(live, {"metadata": {"name": "p"}, "spec": {
        "containers": [{"name": "c", "command": ["b"]}], "nodeSelector": {"y": "1"}}})  # fmt: skip
    assert found["spec"] == {"containers": [{"name": "c", "command": ["b"]}], "nodeSelector": {"y": "1"}}


def test_a_set() -> None:
    live = created(apply(None, pod([{"name": "c"}], finalizers=["a/a", "b/b"])))
    assert fields(live)["m/Apply"]["f:metadata"] == {"f:finalizers": {'v:"a/a"': {}, 'v:"b/b"': {}}}
    live = apply(live, {"metadata": {"name": "p", "finalizers": ["c/c"]}}, "other")
    assert live["metadata"]["finalizers"] == ["a/a", "b/b", "c/c"]
    found = apply(live, pod([{"name": "c"}], finalizers=["b/b"]))
    assert found["metadata"]["finalizers"] == ["b/b", "c/c"]


def test_ports_are_known_by_two_keys_of_which_one_has_a_default() -> None:
    live = created(
        apply(None, pod([{"name": "c", "ports": [{"containerPort": 53}, {"containerPort": 53, "protocol": "UDP"}]}]))
    )
    owned = fields(live)["m/Apply"]["f:spec"]["f:containers"]['k:{"name":"c"}']["f:ports"]
    assert set(owned) == {'k:{"containerPort":53,"protocol":"TCP"}', 'k:{"containerPort":53,"protocol":"UDP"}'}
    found = apply(live, pod([{"name": "c", "ports": [{"containerPort": 53, "protocol": "TCP", "name": "dns"}]}]))
    assert found["spec"]["containers"][0]["ports"] == [{"containerPort": 53, "protocol": "TCP", "name": "dns"}]


def test_apply_does_not_reach_the_status_but_by_its_door() -> None:
    config = {**pod([{"name": "c"}]), "status": {"phase": "Running"}}
    found = apply(None, config)
    assert "f:status" not in fields(found)["m/Apply"]
    live = created(found)
    status = apply(live, {"metadata": {"name": "p"}, "status": {"phase": "Failed"}}, "s", subresource="status")
    assert fields(status)["s/Apply"] == {"f:status": {"f:phase": {}}}


@pytest.mark.parametrize(("config", "code", "message"), [
    ([], 400, "error decoding YAML: json: cannot unmarshal array"),
    ({"kind": "Service"}, 400, "invalid object type"),
    ({"apiVersion": "v2"}, 400, "Incorrect version specified in apply patch. Specified patch version: v2, expected: v1"),
    ({"metadata": {"managedFields": []}}, 400, "metadata.managedFields must be nil"),
    ({"metadata": {"name": "p", "namespace": "n"}, "spec": {"foo": 1}}, 500,
     "failed to create typed patch object (n/p; /v1, Kind=Pod): .spec.foo: field not declared in schema"),
    ({"spec": {"containers": "x"}}, 500,
     "failed to create typed patch object (/; /v1, Kind=Pod): .spec.containers: expected list, got string"),
    ({"spec": {"containers": [{"image": "x"}]}}, 500,
     'failed to create typed patch object (/; /v1, Kind=Pod): .spec.containers: element 0: associative list with keys has an element that'
     ' omits key field "name" (and doesn\'t have default value)'),
    ({"spec": {"containers": [{"name": "c"}, {"name": "c"}]}}, 500,
     'failed to create typed patch object (/; /v1, Kind=Pod): .spec.containers: duplicate entries for key [name="c"]'),
    ({"spec": {"hostname": 1, "foo": 1}}, 500, "failed to create typed patch object (/; /v1, Kind=Pod): errors:\n  "),
])  # fmt: skip
def test_refusals(config: Any, code: int, message: str) -> None:
    if isinstance(config, dict):
        config = {"apiVersion": "v1", "kind": "Pod", **config}
    with pytest.raises(StatusError) as caught:
        applied("v1", "Pod", None, config, "m", NOW)
    assert caught.value.status["code"] == code
    assert caught.value.status["message"].startswith(message)


# Laws


NAMES = st.sampled_from("abcd")
ENV = st.lists(
    st.fixed_dictionaries({"name": NAMES}, optional={"value": st.sampled_from("xy")}),
    max_size=3,
    unique_by=lambda one: one["name"],
)
CONTAINER: st.SearchStrategy[Any] = st.fixed_dictionaries({"name": NAMES}, optional={
    "image": st.sampled_from("xyz"), "env": ENV, "command": st.lists(st.sampled_from("xy"), max_size=2),
    "resources": st.fixed_dictionaries({}, optional={"limits": st.dictionaries(st.sampled_from(["cpu", "memory"]), st.just("1"))}),
})  # fmt: skip
CONTAINERS = st.lists(CONTAINER, max_size=3, unique_by=lambda one: str(one["name"]))
LABELS = st.dictionaries(NAMES, st.sampled_from("12"), max_size=3)


def without_empties(value: Any) -> Any:
    """What is empty is dropped by typed objects, so that applying it again is a change again; also by an API server."""
    if isinstance(value, dict):
        return {key: kept for key, one in value.items() if (kept := without_empties(one)) not in ({}, [])}
    return [without_empties(one) for one in value] if isinstance(value, list) else value


CONFIGS = st.builds(
    lambda containers, labels, finalizers: without_empties({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "labels": labels, "finalizers": finalizers},
        "spec": {"containers": containers},
    }),
    CONTAINERS, LABELS, st.lists(NAMES, max_size=2, unique=True),
)  # fmt: skip


@settings(max_examples=80, deadline=None)
@given(CONFIGS, CONFIGS, CONFIGS)
def test_laws_of_apply(one: Any, two: Any, other: Any) -> None:
    live = created(applied("v1", "Pod", None, one, "m", NOW))
    live = applied("v1", "Pod", live, other, "o", NOW, force=True)
    found = applied("v1", "Pod", live, two, "m", LATER, force=True)
    # Again is nothing.
    assert applied("v1", "Pod", found, two, "m", LATER) == found
    # All that was applied is so.
    top = typed.top("core.v1.Pod")
    bare = managers.bare(found)
    change = typed.compare(top, bare, typed.merge(top, bare, two))
    assert not change.modified | change.removed
    known = managers.decoded(found["metadata"].get("managedFields"))
    assert known is not None
    # What is there belongs to somebody.
    for manager, entry in known.items():
        assert entry.paths, manager
    labels = {
        path[2]
        for entry in known.values()
        for path in entry.paths
        if path[:2] == ("f:metadata", "f:labels") and len(path) == 3
    }
    assert labels == {f"f:{name}" for name in found["metadata"].get("labels", {})}
    # Who lets go of everything leaves what the other has applied.
    empty = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}}
    alone = applied("v1", "Pod", applied("v1", "Pod", found, empty, "m", LATER), empty, "o", LATER)
    assert not alone.get("spec", {}).get("containers")
    assert not alone["metadata"].get("labels")


ELEMENT = st.one_of(
    st.text(max_size=4).map(paths.field),
    st.dictionaries(
        st.sampled_from("ab"), st.one_of(st.integers(0, 9), st.text(max_size=2)), min_size=1, max_size=2
    ).map(paths.key),
    st.one_of(st.text(max_size=2), st.integers(0, 9)).map(paths.value),
    st.integers(0, 9).map(lambda at: f"i:{at}"),
)


@given(st.frozensets(st.lists(ELEMENT, min_size=1, max_size=4).map(tuple), max_size=8))
def test_sets_come_back(found: Any) -> None:
    assert paths.decode(json.loads(json.dumps(paths.encode(found)))) == found
    assert sorted(paths.in_order(found)) == sorted(found)
    for path in found:
        assert paths.shown(path)


@given(st.recursive(st.none() | st.booleans() | st.text(max_size=3), lambda inner: st.lists(inner, max_size=2) | st.dictionaries(
    st.sampled_from([".", "f:a", "k:{}", "k:x", "v:1", "v:", "i:1", "i:x", "z", "f:"]), inner, max_size=3), max_leaves=8))  # fmt: skip
def test_any_json_as_fields_is_read_or_refused(value: Any) -> None:
    try:
        found = paths.decode(value)
    except paths.FieldsError:
        return
    assert paths.decode(paths.encode(found)) == found


@settings(max_examples=60, deadline=None)
@given(CONFIGS, CONFIGS)
def test_differences(old: Any, new: Any) -> None:
    top = typed.top("core.v1.Pod")
    change = typed.compare(top, old, new)
    back = typed.compare(top, new, old)
    assert (change.added, change.modified, change.removed) == (back.removed, back.modified, back.added)
    nothing = typed.compare(top, old, copy.deepcopy(old))
    assert not (nothing.added | nothing.modified | nothing.removed)
    merged = typed.merge(top, old, new)
    assert not typed.compare(top, new, merged).modified
    everything = typed.with_fields(top, typed.paths_of(top, old))
    left = typed.remove(top, old, everything) or {}
    assert not typed.paths_of(top, left) & everything
