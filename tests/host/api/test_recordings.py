"""What a v1.36.2 API server was seen to answer to these requests, asked of this one: status codes, reasons, messages and details."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.host.api.conftest import ApiProcess, pod_of

SPACE = "recorded"
PODS = f"/api/v1/namespaces/{SPACE}/pods"
JSON = "application/json"
SUBDOMAIN = (
    "Invalid value: \"BAD_\": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start"
    " and end with an alphanumeric character (e.g. 'example.com', regex used for validation is"
    " '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
)
MEDIA = "application/json, application/yaml, application/vnd.kubernetes.protobuf"
MODIFIED = "the object has been modified; please apply your changes to the latest version and try again"
P1 = {"name": "p1", "kind": "pods"}
FOREIGN = pod_of("p9") | {"metadata": {"name": "p9", "namespace": "other"}}
UNKNOWN = pod_of("p9") | {"spec": pod_of("p9")["spec"] | {"foo": 1}}
CLASS = pod_of("p9") | {"spec": pod_of("p9")["spec"] | {"runtimeClassName": "nope"}}

REFUSALS: list[tuple[str, str, Any, str, int, str, str, Any]] = [
    ("POST", "/api/v1/namespaces", {"metadata": {"name": SPACE}}, JSON, 409, "AlreadyExists", f'namespaces "{SPACE}" already exists',
     {"name": SPACE, "kind": "namespaces"}),
    ("POST", PODS, pod_of("p1"), JSON, 409, "AlreadyExists", 'pods "p1" already exists', P1),
    ("POST", PODS, {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "BAD_"}, "spec": {"containers": []}}, JSON, 422, "Invalid",
     f'Pod "BAD_" is invalid: [metadata.name: {SUBDOMAIN}, spec.containers: Required value]',
     {"name": "BAD_", "kind": "Pod", "causes": [
         {"reason": "FieldValueInvalid", "message": SUBDOMAIN, "field": "metadata.name"},
         {"reason": "FieldValueRequired", "message": "Required value", "field": "spec.containers"}]}),
    ("POST", f"{PODS}?fieldValidation=Strict", UNKNOWN, JSON, 400, "BadRequest",
     'Pod in version "v1" cannot be handled as a Pod: strict decoding error: unknown field "spec.foo"', None),
    ("POST", PODS, {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p9"}, "spec": {"containers": "x"}}, JSON, 400, "BadRequest",
     'Pod in version "v1" cannot be handled as a Pod: json: cannot unmarshal string into Go struct field PodSpec.spec.containers of type'
     " []v1.Container", None),
    ("POST", PODS, b"{nope", JSON, 400, "BadRequest",
     "the object provided is unrecognized (must be of type Pod): couldn't get version/kind; json parse error: invalid character 'n' looking"
     " for beginning of object key string ({nope)", None),
    ("POST", PODS, FOREIGN, JSON, 400, "BadRequest",
     "the namespace of the provided object does not match the namespace sent on the request", None),
    ("POST", PODS, b"x", "text/plain", 415, "UnsupportedMediaType",
     f"the body of the request was in an unknown format - accepted media types include: {MEDIA}", None),
    ("POST", "/api/v1/namespaces/nonono/pods", pod_of("p9"), JSON, 404, "NotFound", 'namespaces "nonono" not found',
     {"name": "nonono", "kind": "namespaces"}),
    ("POST", f"{PODS}?dryRun=All", CLASS, JSON, 403, "Forbidden",
     'pods "p9" is forbidden: pod rejected: RuntimeClass "nope" not found', {"name": "p9", "kind": "pods"}),
    ("GET", f"{PODS}/nope", None, "", 404, "NotFound", 'pods "nope" not found', {"name": "nope", "kind": "pods"}),
    ("GET", f"{PODS}?fieldSelector=spec.foo%3Dp1", None, "", 400, "BadRequest", "field label not supported: spec.foo", None),
    ("GET", f"{PODS}?labelSelector=a%3D%3D%3Db", None, "", 400, "BadRequest",
     "unable to parse requirement: found '=', expected: identifier", None),
    ("PATCH", f"{PODS}/p1", [{"op": "test", "path": "/metadata/labels/j", "value": "2"}], "application/json-patch+json", 422, "Invalid",
     "the server rejected our request due to an error in our request", {}),
    ("PATCH", f"{PODS}/p1", {}, JSON, 415, "UnsupportedMediaType", "415: Unsupported Media Type", {}),
    ("GET", f"{PODS}/p1/log?container=zz", None, "", 400, "BadRequest", "container zz is not valid for pod p1", None),
    ("GET", f"{PODS}/p1/log?previous=true", None, "", 400, "BadRequest",
     'previous terminated container "c" in pod "p1" not found', None),
    ("GET", f"{PODS}/zz/log", None, "", 404, "NotFound", 'pods "zz" not found', {"name": "zz", "kind": "pods"}),
    ("GET", f"{PODS}/p1/log?tailLines=-1", None, "", 422, "Invalid",
     'PodLogOptions "p1" is invalid: tailLines: Invalid value: -1: must be greater than or equal to 0',
     {"name": "p1", "kind": "PodLogOptions", "causes": [
         {"reason": "FieldValueInvalid", "message": "Invalid value: -1: must be greater than or equal to 0", "field": "tailLines"}]}),
    ("GET", f"{PODS}/p1/exec?command=ls&stdout=1", None, "", 400, "BadRequest", "Upgrade request required", None),
    ("POST", f"{PODS}/p1/exec?command=ls&stdout=1&container=zz", None, "", 400, "BadRequest", "container zz is not valid for pod p1", None),
    ("PATCH", PODS, {}, "application/merge-patch+json", 405, "MethodNotAllowed",
     "the server does not allow this method on the requested resource", {}),
    ("GET", f"/api/v1/namespaces/{SPACE}/foos", None, "", 404, "NotFound", "the server could not find the requested resource", {}),
]  # fmt: skip


@pytest.fixture(scope="module")
def space(api: ApiProcess) -> ApiProcess:
    """The namespace with its pod `p1`, which runs."""
    assert api.post("/api/v1/namespaces", {"metadata": {"name": SPACE}}).code == 201
    api.make("p1", namespace=SPACE, labels={"a": "b"})
    api.until_running("p1", namespace=SPACE)
    return api


def status(code: int, reason: str, message: str, details: Any) -> dict[str, Any]:
    found = {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": message,
        "reason": reason,
    }
    return found | ({} if details is None else {"details": details}) | {"code": code}


@pytest.mark.parametrize("row", REFUSALS, ids=lambda row: f"{row[0]}-{row[4]}-{row[6][:40]}")
def test_refusals(space: ApiProcess, row: Any) -> None:
    method, path, body, media, code, reason, message, details = row
    found = space.request(method, path, body, content=media) if media else space.request(method, path)
    assert found.code == code
    assert found.headers["content-type"] == JSON
    assert found.object == status(code, reason, message, details)


def test_a_path_that_is_none(space: ApiProcess) -> None:
    found = space.get("/foo")
    assert (found.code, found.headers["content-type"], found.body) == (
        404,
        "text/plain; charset=utf-8",
        b"404 page not found\n",
    )


def test_conflicts(space: ApiProcess) -> None:
    pod = space.get(f"{PODS}/p1").object
    uid = pod["metadata"]["uid"]
    stale = {**pod, "metadata": {**pod["metadata"], "resourceVersion": "1"}}
    found = space.request("PUT", f"{PODS}/p1", stale).object
    assert found == status(409, "Conflict", f'Operation cannot be fulfilled on pods "p1": {MODIFIED}', P1)
    options = {"kind": "DeleteOptions", "apiVersion": "v1", "preconditions": {"uid": "x"}}
    found = space.delete(f"{PODS}/p1", options).object
    assert found == status(
        409, "Conflict",
        f'Operation cannot be fulfilled on Pod "p1": the UID in the precondition (x) does not match the UID in record ({uid}). The object'
        " might have been deleted and then recreated", {"name": "p1", "kind": "Pod"},
    )  # fmt: skip


def test_fields_that_may_not_change(space: ApiProcess) -> None:
    pod = space.get(f"{PODS}/p1").object
    pod["spec"]["containers"][0]["command"] = ["x"]
    found = space.request("PUT", f"{PODS}/p1", pod)
    lead = (
        'Pod "p1" is invalid: spec: Forbidden: pod updates may not change fields other than `spec.containers[*].image`,'
        "`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),"
        "`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)\n@@ "
    )
    assert found.code == 422
    assert found.object["message"].startswith(lead)
    assert [(one["reason"], one["field"]) for one in found.object["details"]["causes"]] == [
        ("FieldValueForbidden", "spec")
    ]


def test_unknown_fields_are_warned_of(space: ApiProcess) -> None:
    found = space.post(f"{PODS}?fieldValidation=Warn&dryRun=All", UNKNOWN)
    assert found.code == 201
    assert found.headers["warning"] == '299 - "unknown field \\"spec.foo\\""'
    assert "foo" not in found.object["spec"]
    twice = json.dumps(pod_of("p9")).replace('"name": "c"', '"name": "b", "name": "c"').encode()
    strict = space.request("POST", f"{PODS}?fieldValidation=Strict&dryRun=All", twice, content=JSON)
    assert (
        strict.object["message"]
        == 'Pod in version "v1" cannot be handled as a Pod: strict decoding error: duplicate field "spec.containers[0].name"'
    )


def test_an_object_in_a_namespace_that_goes(space: ApiProcess) -> None:
    """Last: it takes the namespace along."""
    assert (
        space.request(
            "PATCH", f"{PODS}/p1", {"metadata": {"finalizers": ["x.y/z"]}}, content="application/merge-patch+json"
        ).code
        == 200
    )
    going = space.delete(f"/api/v1/namespaces/{SPACE}")
    assert (going.code, going.object["status"]["phase"]) == (200, "Terminating")
    found = space.post(f"/api/v1/namespaces/{SPACE}/configmaps", {"metadata": {"name": "foo2"}})
    text = f'configmaps "foo2" is forbidden: unable to create new content in namespace {SPACE} because it is being terminated'
    cause = {
        "reason": "NamespaceTerminating",
        "message": f"namespace {SPACE} is being terminated",
        "field": "metadata.namespace",
    }
    assert found.object == status(403, "Forbidden", text, {"name": "foo2", "kind": "configmaps", "causes": [cause]})
    assert (
        space.request(
            "PATCH", f"{PODS}/p1", {"metadata": {"finalizers": None}}, content="application/merge-patch+json"
        ).code
        == 200
    )
