"""Discovery: both forms, and that every route that clients were seen to ask for has its resource."""

from __future__ import annotations

import json
from typing import Any

import pytest

from nsrun.api.forms import discovery
from nsrun.spec.resources_table import RESOURCES, resource_at

pytestmark = pytest.mark.pure

V2 = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
V2BETA1 = "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList"


def get(path: str, accept: str = "application/json") -> Any:
    found = discovery.answer(path, accept, address="127.0.0.1:6443")
    assert found is not None
    return json.loads(found.body)


def test_legacy_documents() -> None:
    assert get("/api") == {
        "kind": "APIVersions",
        "versions": ["v1"],
        "serverAddressByClientCIDRs": [{"clientCIDR": "0.0.0.0/0", "serverAddress": "127.0.0.1:6443"}],
    }
    groups = get("/apis")
    assert (groups["kind"], groups["apiVersion"]) == ("APIGroupList", "v1")
    apps = {
        "name": "apps",
        "versions": [{"groupVersion": "apps/v1", "version": "v1"}],
        "preferredVersion": {"groupVersion": "apps/v1", "version": "v1"},
    }
    assert groups["groups"][0] == apps
    assert get("/apis/apps") == {"kind": "APIGroup", "apiVersion": "v1", **apps}
    autoscaling = next(one for one in groups["groups"] if one["name"] == "autoscaling")
    assert [one["version"] for one in autoscaling["versions"]] == ["v2", "v1"]
    core = get("/api/v1")
    assert (core["kind"], core["groupVersion"], core.get("apiVersion")) == ("APIResourceList", "v1", None)
    listed = {one["name"]: one for one in core["resources"]}
    assert listed["configmaps"] == {
        "name": "configmaps", "singularName": "configmap", "namespaced": True, "kind": "ConfigMap", "shortNames": ["cm"],
        "verbs": ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"],
        "storageVersionHash": "qFsyl6wFWjQ=",
    }  # fmt: skip
    assert listed["services"]["storageVersionHash"] == "0/CO1lhkEBI="
    assert listed["services/status"] == {
        "name": "services/status", "singularName": "", "namespaced": True, "kind": "Service", "verbs": ["get", "patch", "update"],
    }  # fmt: skip
    assert listed["pods/eviction"]["group"] == "policy"
    assert get("/apis/apps/v1")["apiVersion"] == "v1"


@pytest.mark.parametrize(
    "path", ["/api/v2", "/apis/spam", "/apis/apps/v2", "/apis/apps/v1/x", "/apis//v1", "/x", "/", "", "/api/"]
)
def test_there_is_no_other_document(path: str) -> None:
    assert discovery.answer(path) is None or path == "/api/"


@pytest.mark.parametrize(("accept", "version"), [
    (f"{V2},{V2BETA1},application/json", "v2"), (f"{V2BETA1},application/json", "v2beta1"),
    ("application/json;as=APIGroupDiscoveryList;v=v2;g=apidiscovery.k8s.io", ""), ("application/json", ""),
    (f"application/json,{V2}", ""), ("*/*", ""), ("", ""),
])  # fmt: skip
def test_the_first_form_that_a_client_accepts_is_taken(accept: str, version: str) -> None:
    found = discovery.answer("/apis", accept)
    assert found is not None
    document = json.loads(found.body)
    if not version:
        assert document["kind"] == "APIGroupList"
        assert found.content_type == "application/json"
        return
    assert document["apiVersion"] == f"apidiscovery.k8s.io/{version}"
    assert found.content_type == f"application/json;g=apidiscovery.k8s.io;v={version};as=APIGroupDiscoveryList"
    assert found.etag.startswith('"') and len(found.etag) == 130


def test_aggregated_documents_say_what_the_lists_say() -> None:
    (core,) = get("/api", V2)["items"]
    assert core["metadata"] == {}
    found = {one["resource"]: one for one in core["versions"][0]["resources"]}
    assert found["namespaces"] == {
        "resource": "namespaces", "responseKind": {"group": "", "version": "", "kind": "Namespace"}, "scope": "Cluster",
        "singularResource": "namespace", "verbs": ["create", "delete", "get", "list", "patch", "update", "watch"],
        "shortNames": ["ns"],
        "subresources": [
            {"subresource": "finalize", "responseKind": {"group": "", "version": "", "kind": "Namespace"}, "verbs": ["update"]},
            {"subresource": "status", "responseKind": {"group": "", "version": "", "kind": "Namespace"},
             "verbs": ["get", "patch", "update"]},
        ],
    }  # fmt: skip
    groups = get("/apis", V2)["items"]
    for group in groups:
        for version in group["versions"]:
            path = f"/apis/{group['metadata']['name']}/{version['version']}"
            legacy = [one["name"] for one in get(path)["resources"] if "/" not in one["name"]]
            assert legacy == [one["resource"] for one in version["resources"]]
            assert version["freshness"] == "Current"


def test_names_lead_to_one_resource() -> None:
    """In a group, and of the kinds whose objects are kept, no name means two things."""
    taken: dict[tuple[str, str, str], str] = {}
    for one in RESOURCES:
        for name in {one.plural, one.singular, *one.short_names} - {""}:
            assert taken.setdefault((one.group, one.version, name), one.kind) == one.kind


def test_version() -> None:
    found = discovery.version("x86_64")
    assert (found["major"], found["minor"], found["platform"]) == ("1", "36", "linux/amd64")
    assert found["gitVersion"].startswith("v1.36.2")
    assert discovery.version("aarch64")["platform"] == "linux/arm64"


ROUTES = """\
v1 configmaps: create delete get list patch update watch deletecollection
v1 endpoints: list
v1 events: list watch
v1 limitranges: list
v1 namespaces: create delete get list watch
v1 nodes: get list patch
v1 persistentvolumeclaims: list
v1 persistentvolumes: list
v1 pods: create delete deletecollection get list patch update watch
v1 pods/attach: create get
v1 pods/ephemeralcontainers: get patch update
v1 pods/eviction: create
v1 pods/exec: create get
v1 pods/log: get
v1 pods/portforward: create get
v1 pods/resize: get patch
v1 pods/status: get patch
v1 replicationcontrollers: list
v1 resourcequotas: create list
v1 secrets: create delete get list update
v1 serviceaccounts: create get list watch
v1 serviceaccounts/token: create
v1 services: create get list
apps/v1 daemonsets: list
apps/v1 deployments: get list
apps/v1 replicasets: list
apps/v1 statefulsets: list
authentication.k8s.io/v1 selfsubjectreviews: create
authorization.k8s.io/v1 selfsubjectaccessreviews: create
autoscaling/v2 horizontalpodautoscalers: list
batch/v1 cronjobs: list
batch/v1 jobs: list
coordination.k8s.io/v1 leases: get list
networking.k8s.io/v1 ingresses: list
node.k8s.io/v1 runtimeclasses: create delete get
resource.k8s.io/v1 resourceslices: list
"""
"""What the conformance tests and kubectl 1.36 were seen to ask an API server for."""


@pytest.mark.parametrize("route", ROUTES.splitlines())
def test_what_clients_ask_for_is_there(route: str) -> None:
    where, _, verbs = route.partition(": ")
    api_version, _, plural = where.partition(" ")
    group, _, version = api_version.rpartition("/")
    plural, _, part = plural.partition("/")
    one = resource_at(group, version, plural)
    assert one is not None
    known = one.verbs
    if part:
        known = next(sub.verbs for sub in one.subresources if sub.name == part)
    assert set(verbs.split()) <= set(known)
