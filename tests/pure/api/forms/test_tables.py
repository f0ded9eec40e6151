"""Tables: the cells that a v1.36 API server was seen to print, and every kind once."""

from __future__ import annotations

from typing import Any

import pytest

from nsrun.api.forms import tables
from nsrun.api.forms.negotiation import JSON, PROTOBUF, YAML, Wanted, wanted
from nsrun.errors import StatusError
from nsrun.spec.resources_table import RESOURCES, resource_at
from nsrun.status.times import seconds_of

pytestmark = pytest.mark.pure

NOW = seconds_of("2026-11-22T11:19:15Z")


def meta(name: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "creationTimestamp": "2026-11-22T11:19:10Z", "resourceVersion": "7", **more}


def shown(group: str, plural: str, obj: Any, **options: Any) -> Any:
    resource = resource_at(group, "v1", plural)
    assert resource is not None
    found = tables.table(resource, [obj], NOW, **options)
    assert (found["kind"], found["apiVersion"]) == ("Table", "meta.k8s.io/v1")
    (row,) = found["rows"]
    names = [one["name"] for one in found["columnDefinitions"]]
    assert len(row["cells"]) == len(names)
    assert row["object"]["kind"] == "PartialObjectMetadata"
    return dict(zip(names, row["cells"], strict=True))


POD: dict[str, Any] = {
    "metadata": meta("p1"),
    "spec": {"nodeName": "node1", "containers": [{"name": "c", "image": "i"}], "readinessGates": [{"conditionType": "x"}]},
    "status": {
        "phase": "Running", "podIP": "10.88.2.79", "podIPs": [{"ip": "10.88.2.79"}],
        "conditions": [{"type": "x", "status": "True", "lastProbeTime": None}],
        "containerStatuses": [{
            "name": "c", "ready": True, "restartCount": 2, "image": "i", "imageID": "",
            "state": {"running": {"startedAt": "2026-11-22T11:19:11Z"}},
            "lastState": {"terminated": {"exitCode": 1, "finishedAt": "2026-11-22T11:17:15Z"}},
        }],
    },
}  # fmt: skip


def test_a_pod() -> None:
    assert list(shown("", "pods", POD).items()) == [
        ("Name", "p1"), ("Ready", "1/1"), ("Status", "Running"), ("Restarts", "2 (2m ago)"), ("Age", "5s"),
        ("IP", "10.88.2.79"), ("Node", "node1"), ("Nominated Node", "<none>"), ("Readiness Gates", "1/1"),
    ]  # fmt: skip


def test_pods_in_other_states() -> None:
    pending = shown(
        "", "pods", {"metadata": meta("p"), "spec": {"containers": [{"name": "c"}]}, "status": {"phase": "Pending"}}
    )
    assert (pending["Ready"], pending["Status"], pending["IP"], pending["Readiness Gates"]) == (
        "0/1",
        "Pending",
        "<none>",
        "<none>",
    )
    initializing = shown("", "pods", {
        "metadata": meta("p"),
        "spec": {"initContainers": [{"name": "i"}], "containers": [{"name": "c"}]},
        "status": {"phase": "Pending", "initContainerStatuses": [{"name": "i", "state": {"running": {}}}]},
    })  # fmt: skip
    assert initializing["Status"] == "Init:0/1"
    crashing = shown("", "pods", {
        "metadata": meta("p"), "spec": {"containers": [{"name": "c"}]},
        "status": {"phase": "Running", "containerStatuses": [
            {"name": "c", "restartCount": 1, "state": {"waiting": {"reason": "CrashLoopBackOff"}}}]},
    })  # fmt: skip
    assert (crashing["Status"], crashing["Restarts"]) == ("CrashLoopBackOff", "1")
    going = shown("", "pods", {**POD, "metadata": meta("p", deletionTimestamp="2026-11-22T11:19:12Z")})
    assert going["Status"] == "Terminating"


def test_a_finished_pod_says_so() -> None:
    resource = resource_at("", "v1", "pods")
    assert resource is not None
    done = {**POD, "status": {"phase": "Succeeded"}}
    (row,) = tables.table(resource, [done], NOW)["rows"]
    assert row["conditions"][0]["reason"] == "Succeeded"
    assert "conditions" not in tables.table(resource, [POD], NOW)["rows"][0]


def test_what_goes_along_with_a_row() -> None:
    resource = resource_at("", "v1", "pods")
    assert resource is not None
    rows = [
        tables.table(resource, [POD], NOW, include=each)["rows"][0]["object"] for each in ("None", "Metadata", "Object")
    ]
    assert rows == [
        None,
        {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": POD["metadata"]},
        POD,
    ]
    later = tables.table(resource, [POD], NOW, columns=False, version="v1beta1")
    assert later["columnDefinitions"] is None
    assert later["metadata"] == {"resourceVersion": "7"}
    assert later["apiVersion"] == later["rows"][0]["object"]["apiVersion"] == "meta.k8s.io/v1beta1"
    whole = tables.table(resource, [], NOW, metadata={"resourceVersion": "9", "continue": "x"})
    assert (whole["metadata"], whole["rows"]) == ({"resourceVersion": "9", "continue": "x"}, [])
    assert len(whole["columnDefinitions"]) == 9


def test_pod_columns() -> None:
    resource = resource_at("", "v1", "pods")
    assert resource is not None
    columns = tables.table(resource, [], NOW)["columnDefinitions"]
    assert [(one["name"], one["type"], one["format"], one["priority"]) for one in columns] == [
        ("Name", "string", "name", 0), ("Ready", "string", "", 0), ("Status", "string", "", 0), ("Restarts", "string", "", 0),
        ("Age", "string", "", 0), ("IP", "string", "", 1), ("Node", "string", "", 1), ("Nominated Node", "string", "", 1),
        ("Readiness Gates", "string", "", 1),
    ]  # fmt: skip


NODE = {
    "metadata": meta("node1", labels={"node-role.kubernetes.io/worker": "", "kubernetes.io/role": "a", "x": "y"}),
    "spec": {"unschedulable": True},
    "status": {
        "conditions": [{"type": "Ready", "status": "True"}],
        "addresses": [{"type": "InternalIP", "address": "10.77.0.1"}, {"type": "Hostname", "address": "node1"}],
        "nodeInfo": {"kernelVersion": "6.18", "architecture": "amd64", "osImage": "Debian", "kubeletVersion": "v1",
                     "containerRuntimeVersion": "containerd://Unknown"},
    },
}  # fmt: skip
CASES: list[tuple[str, str, Any, list[Any]]] = [
    ("", "nodes", NODE, ["node1", "Ready,SchedulingDisabled", "a,worker", "5s", "v1", "10.77.0.1", "<none>", "Debian", "6.18 (amd64)",
                         "containerd://Unknown"]),
    ("", "nodes", {"metadata": meta("n")}, ["n", "Unknown", "<none>", "5s", "", "<none>", "<none>", "<unknown>", "<unknown>", "<unknown>"]),
    ("", "namespaces", {"metadata": meta("n"), "status": {"phase": "Active"}}, ["n", "Active", "5s"]),
    ("", "secrets", {"metadata": meta("foo"), "type": "Opaque", "data": {"a": "Yg=="}}, ["foo", "Opaque", 1, "5s"]),
    ("", "configmaps", {"metadata": meta("c"), "data": {"a": "b"}, "binaryData": {"c": ""}}, ["c", 2, "5s"]),
    ("", "serviceaccounts", {"metadata": meta("default")}, ["default", 0, "5s"]),
    ("", "services", {"metadata": meta("s"), "spec": {
        "type": "NodePort", "clusterIP": "10.0.0.1",
        "ports": [{"port": 80, "nodePort": 30080, "protocol": "TCP"}, {"port": 53, "protocol": "UDP"}],
        "selector": {"b": "2", "a": "1"}}}, ["s", "NodePort", "10.0.0.1", "<none>", "80:30080/TCP,53/UDP", "5s", "a=1,b=2"]),
    ("", "services", {"metadata": meta("s"), "spec": {"type": "LoadBalancer", "clusterIP": "None"}},
     ["s", "LoadBalancer", "None", "<pending>", "<none>", "5s", "<none>"]),
    ("", "services", {"metadata": meta("s"), "spec": {"type": "ExternalName", "externalName": "x.y"}},
     ["s", "ExternalName", "<none>", "x.y", "<none>", "5s", "<none>"]),
    ("", "endpoints", {"metadata": meta("e"), "subsets": [
        {"addresses": [{"ip": f"10.0.0.{n}"} for n in range(1, 6)], "ports": [{"port": 80}]}]},
     ["e", "10.0.0.1:80,10.0.0.2:80,10.0.0.3:80 + 2 more...", "5s"]),
    ("", "endpoints", {"metadata": meta("e")}, ["e", "<none>", "5s"]),
    ("discovery.k8s.io", "endpointslices", {"metadata": meta("e"), "addressType": "IPv6", "endpoints": [{"addresses": ["fd00::1"]}]},
     ["e", "IPv6", "<unset>", "fd00::1", "5s"]),
    ("", "persistentvolumeclaims", {
        "metadata": meta("c"), "spec": {"volumeName": "v", "volumeMode": "Filesystem", "storageClassName": "x"},
        "status": {"phase": "Bound", "capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteMany", "ReadWriteOnce"]}},
     ["c", "Bound", "v", "1Gi", "RWO,RWX", "x", "<unset>", "5s", "Filesystem"]),
    ("", "persistentvolumeclaims", {"metadata": meta("c"), "status": {"phase": "Pending"}},
     ["c", "Pending", "", "", "", "", "<unset>", "5s", "<unset>"]),
    ("", "persistentvolumes", {
        "metadata": meta("v"), "status": {"phase": "Bound"},
        "spec": {"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "persistentVolumeReclaimPolicy": "Retain",
                 "claimRef": {"namespace": "n", "name": "c"}}},
     ["v", "1Gi", "RWO", "Retain", "Bound", "n/c", "", "<unset>", "", "5s", "<unset>"]),
    ("", "resourcequotas", {"metadata": meta("q"), "status": {"hard": {"pods": "10", "limits.cpu": "2"}, "used": {"pods": "3"}}},
     ["q", "pods: 3/10", "limits.cpu: 0/2", "5s"]),
    ("coordination.k8s.io", "leases", {"metadata": meta("l"), "spec": {"holderIdentity": "h"}}, ["l", "h", "5s"]),
    ("node.k8s.io", "runtimeclasses", {"metadata": meta("r"), "handler": "runc"}, ["r", "runc", "5s"]),
    ("scheduling.k8s.io", "priorityclasses", {"metadata": meta("p"), "value": 5}, ["p", 5, False, "5s", "PreemptLowerPriority"]),
    ("", "limitranges", {"metadata": meta("l")}, ["l", "2026-11-22T11:19:10Z"]),
    ("", "events", {
        "metadata": meta("p1.18ea59fe6c022f12"), "involvedObject": {"kind": "Pod", "name": "p1", "fieldPath": "spec.containers{c}"},
        "type": "Normal", "reason": "Scheduled", "message": "Successfully assigned smp/p1 to node1 ",
        "source": {}, "reportingComponent": "default-scheduler", "reportingInstance": "default-scheduler-node1",
        "firstTimestamp": None, "eventTime": "2026-11-22T11:19:09.000000Z"},
     ["6s", "Normal", "Scheduled", "pod/p1", "spec.containers{c}", "default-scheduler, default-scheduler-node1",
      "Successfully assigned smp/p1 to node1", "6s", 1, "p1.18ea59fe6c022f12"]),
    ("events.k8s.io", "events", {
        "metadata": meta("e"), "regarding": {"kind": "Node"}, "type": "Warning", "reason": "R", "note": "n",
        "deprecatedFirstTimestamp": "2026-11-22T11:18:15Z", "series": {"count": 4, "lastObservedTime": "2026-11-22T11:19:14.5Z"},
        "deprecatedSource": {"component": "kubelet", "host": "node1"}},
     ["0s", "Warning", "R", "node", "", "kubelet, node1", "n", "60s", 4, "e"]),
]  # fmt: skip


@pytest.mark.parametrize(
    ("group", "plural", "obj", "cells"), CASES, ids=[f"{one[1]}{at}" for at, one in enumerate(CASES)]
)
def test_cells(group: str, plural: str, obj: Any, cells: list[Any]) -> None:
    assert list(shown(group, plural, obj).values()) == cells


@pytest.mark.parametrize("resource", RESOURCES, ids=lambda one: f"{one.kind}.{one.group}")
def test_an_empty_object_has_its_row(resource: Any) -> None:
    found = tables.table(resource, [{"metadata": {}}, {}], NOW)
    for row in found["rows"]:
        assert len(row["cells"]) == len(found["columnDefinitions"])
        assert all(isinstance(cell, (str, int)) for cell in row["cells"])


KUBECTL = (
    "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json"
)


@pytest.mark.parametrize(("accept", "expected"), [
    ("", Wanted()), ("*/*", Wanted()), ("application/json, */*", Wanted()), ("application/*", Wanted()),
    (KUBECTL, Wanted(shape="Table")),
    ("application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json", Wanted(shape="Table", version="v1beta1")),
    ("application/json;as=Table;v=v2;g=meta.k8s.io,application/json", Wanted()),
    ("application/vnd.kubernetes.protobuf,application/json", Wanted(PROTOBUF)),
    ("application/vnd.kubernetes.protobuf;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,"
     "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json", Wanted(shape="PartialObjectMetadataList")),
    ("application/yaml", Wanted(YAML)), ("text/plain, application/json;q=0.5, application/yaml;q=0.9", Wanted(YAML)),
    ("application/json;pretty=1", Wanted(pretty=True)), ("application/json;q=x,*/*", Wanted(JSON)),
])  # fmt: skip
def test_the_form_of_an_answer(accept: str, expected: Wanted) -> None:
    assert wanted(accept) == expected


def test_what_cannot_be_had() -> None:
    for accept in ("text/html", "application/json;q=0", "application/json;as=Spam;g=meta.k8s.io;v=v1"):
        with pytest.raises(StatusError) as caught:
            wanted(accept)
        assert caught.value.status["code"] == 406
    assert wanted(KUBECTL, shapes=False) == Wanted()
