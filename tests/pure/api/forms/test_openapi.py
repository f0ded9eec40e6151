"""OpenAPI: what kubectl looks for in the documents, and that both versions hold together."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

from nsrun.api.forms import openapi, schema
from nsrun.api.forms.openapi import gnostic
from nsrun.spec.resources_table import RESOURCES

pytestmark = pytest.mark.pure


def v3(path: str) -> Any:
    found = openapi.v3(path)
    assert found is not None
    return json.loads(found.body)


def references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for key, one in value.items():
            if key == "$ref":
                yield one
            else:
                yield from references(one)
    elif isinstance(value, list):
        for one in value:
            yield from references(one)


def test_the_index_leads_to_every_document() -> None:
    index = json.loads(openapi.v3_index().body)
    assert list(index["paths"]) == openapi.paths()
    for path, one in index["paths"].items():
        document = openapi.v3(path)
        assert document is not None
        assert one["serverRelativeURL"] == f"/openapi/v3/{path}?hash={document.hash}"
        assert document.etag == f'"{document.hash}"'
    assert openapi.v3("api/v2") is None


@pytest.mark.parametrize("path", openapi.paths())
def test_references_are_resolved(path: str) -> None:
    document = v3(path)
    known = {f"#/components/schemas/{name}" for name in document["components"]["schemas"]}
    assert set(references(document)) <= known


def test_references_are_resolved_in_v2() -> None:
    document = json.loads(openapi.v2().body)
    assert set(references(document)) <= {f"#/definitions/{name}" for name in document["definitions"]}
    assert document["swagger"] == "2.0"


@pytest.mark.parametrize(
    "one", [one for one in RESOURCES if "patch" in one.verbs], ids=lambda one: f"{one.kind}.{one.group}"
)
def test_kubectl_finds_a_patch_operation_for_each_kind_that_can_be_written(one: Any) -> None:
    document = v3(f"apis/{one.group}/{one.version}" if one.group else f"api/{one.version}")
    gvk = {"group": one.group, "version": one.version, "kind": one.kind}
    found = [
        item["patch"]
        for item in document["paths"].values()
        if item.get("patch", {}).get("x-kubernetes-group-version-kind") == gvk
    ]
    assert found
    for operation in found:
        assert "fieldValidation" in {parameter["name"] for parameter in operation["parameters"]}
        assert "application/strategic-merge-patch+json" in operation["requestBody"]["content"]
    schemas = [
        each
        for each in document["components"]["schemas"].values()
        if gvk in each.get("x-kubernetes-group-version-kind", ())
    ]
    assert len(schemas) == 1
    assert {"apiVersion", "kind", "metadata"} <= schemas[0]["properties"].keys()


def test_what_explain_shows() -> None:
    schemas = v3("api/v1")["components"]["schemas"]
    spec = schemas["io.k8s.api.core.v1.PodSpec"]
    assert spec["required"] == ["containers"]
    assert spec["properties"]["containers"] == {
        "type": "array", "items": {"$ref": "#/components/schemas/io.k8s.api.core.v1.Container"},
        "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"],
        "x-kubernetes-patch-strategy": "merge", "x-kubernetes-patch-merge-key": "name",
    }  # fmt: skip
    assert spec["properties"]["restartPolicy"]["enum"] == ["Always", "Never", "OnFailure"]
    assert spec["properties"]["nodeSelector"]["description"].startswith("Has no effect here: ")
    assert spec["properties"]["volumes"]["x-kubernetes-patch-strategy"] == "merge,retainKeys"
    port = schemas["io.k8s.api.core.v1.ContainerPort"]["properties"]["protocol"]
    assert port["default"] == "TCP"
    # What is laid flat in Go is laid flat here.
    assert {"name", "emptyDir"} <= schemas["io.k8s.api.core.v1.Volume"]["properties"].keys()
    assert schemas["io.k8s.api.core.v1.LocalObjectReference"]["x-kubernetes-map-type"] == "atomic"
    assert schemas["io.k8s.api.core.v1.PodList"]["x-kubernetes-group-version-kind"] == [
        {"group": "", "version": "v1", "kind": "PodList"}
    ]


def test_beside_a_reference_stands_nothing_in_v3() -> None:
    def check(value: Any) -> None:
        if isinstance(value, dict):
            assert "$ref" not in value or len(value) == 1
            for one in value.values():
                check(one)
        elif isinstance(value, list):
            for one in value:
                check(one)

    check(v3("api/v1"))


def test_identifiers_are_there_once() -> None:
    document = json.loads(openapi.v2().body)
    found = [
        one["operationId"] for item in document["paths"].values() for key, one in item.items() if key != "parameters"
    ]
    assert len(found) == len(set(found))
    assert "readCoreV1NamespacedPod" in found


def test_v2_as_protobuf() -> None:
    """Read back with no knowledge of the types: the numbers that lead to kubectl's facts."""
    asked = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf"
    document = openapi.v2(asked)
    # A content type with @ is one that the client that asked for it cannot read.
    assert "@" not in document.content_type
    from nsrun.api.forms.protobuf import _fields

    top = list(_fields(memoryview(document.body)))
    assert [number for number, _, _ in top] == [1, 2, 8, 9]
    definitions = {}
    for _, _, entry in _fields(top[3][2]):
        parts = {number: value for number, _, value in _fields(entry)}
        definitions[bytes(parts[1]).decode()] = parts[2]
    assert definitions.keys() == json.loads(openapi.v2().body)["definitions"].keys()
    pod = {
        bytes({n: v for n, _, v in _fields(value)}[1]): value
        for number, _, value in _fields(definitions["io.k8s.api.core.v1.Pod"])
        if number == 31
    }
    extension = {n: v for n, _, v in _fields(pod[b"x-kubernetes-group-version-kind"])}
    ((_, _, text),) = _fields(extension[2])
    assert json.loads(bytes(text)) == [{"group": "", "version": "v1", "kind": "Pod"}]
    assert openapi.v2("application/json").content_type == "application/json"
    assert openapi.v2("*/*").body.startswith(b'{"swagger"')


def test_building_is_quick() -> None:
    begin = time.perf_counter()
    for path in openapi.paths():
        openapi.v3.__wrapped__(path)
    gnostic.encode(openapi._v2())
    # Measured: 0.1 s on one core of the machine this was written on.
    assert time.perf_counter() - begin < 3
    assert schema.members.cache_info().currsize
