"""Protobuf bodies: those that kubectl sends, round trips, and garbage."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nsrun.api.forms import facts, protobuf, schema
from nsrun.errors import StatusError

pytestmark = pytest.mark.pure

BODIES: list[tuple[str, Any]] = [
    (
        "6b3873000a0f0a02763112094e616d657370616365121b0a130a036e733112001a0022002a0032003800420012001a020a001a002200",
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "ns1"}},
    ),
    (
        "6b3873000a0f0a0276311209436f6e6669674d6170121d0a130a03636d3112001a0022002a0032003800420012060a01611201621a002200",
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "cm1"}, "data": {"a": "b"}},
    ),
    (
        "6b3873000a0c0a0276311206536563726574121e0a120a02733112001a0022002a0032003800420012060a01611201621a001a002200",
        {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s1"}, "data": {"a": "Yg=="}},
    ),
    (
        "6b3873000a280a1861757468656e7469636174696f6e2e6b38732e696f2f7631120c546f6b656e52657175657374121a0a100a0012001a0022"
        "002a0032003800420012001a040a0012001a002200",
        # kubectl sends a list of audiences that is null in JSON, and times that are not there.
        {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "status": {"token": ""}},
    ),
    (
        "6b3873000a140a027631120e536572766963654163636f756e7412150a130a0373613112001a0022002a003200380042001a002200",
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "sa1"}},
    ),
    (
        "6b3873000a320a17617574686f72697a6174696f6e2e6b38732e696f2f7631121753656c665375626a6563744163636573735265766965"
        "77123c0a100a0012001a0022002a00320038004200121e0a1c0a0764656661756c7412036765741a0022002a04706f647332003a001a0808"
        "0012001a0020001a002200",
        {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": {"namespace": "default", "verb": "get", "resource": "pods"}},
            "status": {"allowed": False},
        },
    ),
    (
        "6b3873000a2d0a1861757468656e7469636174696f6e2e6b38732e696f2f7631121153656c665375626a656374526576696577121a0a10"
        "0a0012001a0022002a0032003800420012060a040a0012001a002200",
        {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"},
    ),
    (
        "6b3873000a130a027631120d5265736f7572636551756f746112240a110a017112001a0022002a00320038004200120d0a0b0a04706f6473"
        "12030a01311a001a002200",
        {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "q"}, "spec": {"hard": {"pods": "1"}}},
    ),
]
"""What kubectl 1.36 sends for create namespace, configmap, secret, token, serviceaccount, auth can-i, auth whoami, create quota."""


@pytest.mark.parametrize(("body", "expected"), BODIES, ids=[one[1]["kind"] for one in BODIES])
def test_bodies_of_kubectl(body: str, expected: Any) -> None:
    found = protobuf.decode(bytes.fromhex(body))
    assert found == expected
    assert protobuf.decode(protobuf.encode(found)) == found


POD: dict[str, Any] = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {
        "name": "p", "labels": {"a": "b"}, "creationTimestamp": "2026-11-22T11:19:10Z", "generation": 3,
        "managedFields": [{"manager": "m", "operation": "Apply", "fieldsV1": {"f:spec": {".": {}}}}],
        "ownerReferences": [{"apiVersion": "v1", "kind": "X", "name": "x", "uid": "u", "controller": False}],
    },
    "spec": {
        "volumes": [{"name": "v", "configMap": {"name": "c", "defaultMode": 420}}, {"name": "e", "emptyDir": {}}],
        "containers": [{
            "name": "c", "image": "i", "command": ["sh", "-c", ""],
            "ports": [{"containerPort": 80, "protocol": "TCP"}],
            "env": [{"name": "A", "valueFrom": {"configMapKeyRef": {"name": "c", "key": "k", "optional": False}}}],
            "resources": {"limits": {"cpu": "100m", "memory": "1Gi"}},
            "livenessProbe": {"httpGet": {"path": "/", "port": "web"}, "periodSeconds": 10},
            "readinessProbe": {"tcpSocket": {"port": 8080}},
            "securityContext": {"runAsUser": 0, "capabilities": {"add": ["NET_ADMIN"]}},
        }],
        "ephemeralContainers": [{"name": "d", "image": "j", "targetContainerName": "c"}],
        "securityContext": {"supplementalGroups": [1, -2, 1 << 40]},
        "terminationGracePeriodSeconds": 0,
        "tolerations": [{"key": "k", "operator": "Exists", "tolerationSeconds": 300}],
    },
    "status": {
        "phase": "Running",
        "containerStatuses": [{
            "name": "c", "ready": True, "restartCount": 0, "image": "i", "imageID": "sha", "started": True,
            "state": {"running": {"startedAt": "2026-11-22T11:19:11Z"}},
        }],
    },
}  # fmt: skip


def test_a_pod_there_and_back() -> None:
    assert protobuf.decode(protobuf.encode(POD)) == POD


def test_a_list_and_a_watch_frame() -> None:
    listed = {"apiVersion": "v1", "kind": "PodList", "metadata": {"resourceVersion": "7"}, "items": [POD]}
    assert protobuf.can_encode(listed)
    body = protobuf.encode(listed)
    assert body.startswith(b"k8s\0\n\x0d\n\x02v1\x12\x07PodList")
    frame = protobuf.watch_frame("ADDED", POD)
    assert int.from_bytes(frame[:4], "big") == len(frame) - 4
    assert frame[4:11] == b"\n\x05ADDED"
    assert protobuf.encode(POD) in frame
    status = {
        "apiVersion": "v1",
        "kind": "Status",
        "status": "Failure",
        "code": 404,
        "details": {"name": "x", "kind": "pods"},
    }
    assert protobuf.decode(protobuf.encode(status)) == status
    assert not protobuf.can_encode({"apiVersion": "meta.k8s.io/v1", "kind": "Table"})


def test_the_kind_of_a_body_without_one_is_that_of_the_path() -> None:
    body = protobuf.encode({"apiVersion": "v1", "kind": "DeleteOptions", "gracePeriodSeconds": 0})
    bare = b"k8s\0" + body[body.index(b"\x12\x02\x08\x00") :]
    assert protobuf.decode(bare, "v1", "DeleteOptions")["gracePeriodSeconds"] == 0


MOMENTS = st.datetimes().filter(lambda one: one.year != 1970)  # the zero of protobuf is no time
LEAF = {
    "string": st.text(min_size=1, max_size=3), "bool": st.just(True), "int32": st.integers(-(1 << 31), (1 << 31) - 1).filter(bool),
    "int64": st.integers(-(1 << 63), (1 << 63) - 1).filter(bool), "Quantity": st.sampled_from(["1", "100m", "1Gi"]),
    "bytes": st.binary(min_size=1, max_size=3).map(lambda one: base64.b64encode(one).decode()),
    "IntOrString": st.integers(-(1 << 31), (1 << 31) - 1).filter(bool) | st.text(max_size=3).filter(bool),
    "Time": MOMENTS.map(lambda one: one.isoformat(timespec="seconds") + "Z"),
    "MicroTime": MOMENTS.map(lambda one: one.isoformat(timespec="microseconds") + "Z"),
    "FieldsV1": st.just({"f:a": {}}), "RawExtension": st.just({"a": 1}),
}  # fmt: skip


@st.composite
def values(draw: Any, kind: str, depth: int) -> Any:
    if kind.startswith("[]"):
        return draw(st.lists(values(kind[2:], depth), min_size=1, max_size=2))
    if kind.startswith("map:"):
        return draw(st.dictionaries(st.text(max_size=2), values(kind[4:], depth), min_size=1, max_size=2))
    if kind in LEAF:
        return draw(LEAF[kind])
    known = [
        one
        for one in schema.fields(kind).values()
        if one.number and (depth or not schema.is_struct(one.type.removeprefix("[]")))
    ]
    if not known:
        return {}
    chosen = draw(st.lists(st.sampled_from(known), min_size=1, max_size=4, unique_by=lambda one: one.name))
    found = {one.name: draw(values(one.type, depth - 1)) for one in chosen}
    # What is empty and no pointer is not kept.
    pointers = schema.fields(kind)
    return {key: one for key, one in found.items() if one != {} or pointers[key].pointer}


KINDS = [("v1", "Pod"), ("v1", "Node"), ("v1", "Service"), ("v1", "PersistentVolume"), ("events.k8s.io/v1", "Event"),
         ("discovery.k8s.io/v1", "EndpointSlice"), ("authorization.k8s.io/v1", "SelfSubjectAccessReview"),
         ("authentication.k8s.io/v1", "SelfSubjectReview"), ("v1", "Status")]  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_whatever_is_encoded_comes_back(data: Any) -> None:
    api_version, kind = data.draw(st.sampled_from(KINDS))
    name = schema.type_of(api_version, kind)
    assert name is not None
    body = data.draw(values(name, 4))
    obj = {**body, "apiVersion": api_version, "kind": kind}
    assert protobuf.decode(protobuf.encode(obj)) == obj


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_garbage_is_refused(data: Any) -> None:
    body = bytearray(protobuf.encode(POD))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(4, len(body) - 1))
        body[at] = data.draw(st.integers(0, 255))
    body = body[: data.draw(st.integers(4, len(body)))]
    try:
        found = protobuf.decode(bytes(body), "v1", "Pod")
    except StatusError as error:
        assert error.status["code"] == 400
    else:
        assert isinstance(found, dict)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=60))
def test_any_bytes_are_refused_or_read(body: bytes) -> None:
    for one in (body, b"k8s\0" + body, b"k8s\0\x12" + bytes([len(body)]) + body):
        try:
            protobuf.decode(one, "v1", "Pod")
        except StatusError as error:
            assert error.status["code"] == 400


def test_many_empty_elements_are_refused() -> None:
    spec = b"\x12\x00" * 1_000_000
    payload = protobuf.sized(2, spec)
    with pytest.raises(StatusError) as caught:
        protobuf.decode(b"k8s\0" + protobuf.sized(2, payload), "v1", "Pod")
    assert caught.value.status["code"] == 400


def test_every_type_can_be_encoded() -> None:
    for name in facts.TYPES:
        for one in schema.members(name):
            base = one.type.removeprefix("[]").removeprefix("map:").removeprefix("[]")
            assert base in LEAF or schema.is_struct(base), (name, one)
