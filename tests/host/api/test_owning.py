"""Patches of all kinds, server-side apply and managedFields, through HTTP and by kubectl."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.host.api.conftest import ApiProcess

MAPS = "/api/v1/namespaces/default/configmaps"
APPLY = "application/apply-patch+yaml"


def owners(obj: Any) -> dict[str, Any]:
    return {f"{one['manager']}/{one['operation']}": one["fieldsV1"] for one in obj["metadata"].get("managedFields", ())}


def test_writes_leave_their_managers(api: ApiProcess) -> None:
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "m"}, "data": {"a": "1"}}
    made = api.post(f"{MAPS}?fieldManager=me", body)
    assert made.code == 201
    assert owners(made.object) == {"me/Update": {"f:data": {".": {}, "f:a": {}}}}
    patched = api.request(
        "PATCH", f"{MAPS}/m", {"data": {"b": "2"}}, content="application/merge-patch+json", User_Agent="curl/8.0"
    )
    assert owners(patched.object)["curl/Update"] == {"f:data": {"f:b": {}}}
    again = api.request("PATCH", f"{MAPS}/m", {"data": {"b": "2"}}, content="application/merge-patch+json")
    assert again.object["metadata"] == patched.object["metadata"]
    # A client that knows nothing of managers and puts back what it read keeps them.
    read = api.get(f"{MAPS}/m").object
    del read["metadata"]["managedFields"]
    put = api.request("PUT", f"{MAPS}/m?fieldManager=p", {**read, "data": {"a": "1", "b": "3"}})
    assert owners(put.object) == {"me/Update": {"f:data": {".": {}, "f:a": {}}}, "p/Update": {"f:data": {"f:b": {}}}}
    # And one that wants them gone says so.
    read["metadata"] |= {"managedFields": [{}]}
    read["metadata"].pop("resourceVersion")
    reset = api.request("PUT", f"{MAPS}/m", {**read, "data": {"a": "1", "b": "3"}})
    assert reset.code == 200, reset.body
    assert "managedFields" not in reset.object["metadata"]


def test_server_side_apply(api: ApiProcess) -> None:
    config = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: s}\ndata: {a: '1', b: '2'}\n"
    made = api.request("PATCH", f"{MAPS}/s?fieldManager=one", config.encode(), content=APPLY)
    assert (made.code, made.object["data"]) == (201, {"a": "1", "b": "2"})
    again = api.request("PATCH", f"{MAPS}/s?fieldManager=one", config.encode(), content=APPLY)
    assert (again.code, again.object["metadata"]) == (200, made.object["metadata"])
    other = {"apiVersion": "v1", "kind": "ConfigMap", "data": {"a": "9"}}
    refused = api.request("PATCH", f"{MAPS}/s?fieldManager=two", other, content=APPLY)
    assert refused.code == 409
    assert refused.object["message"] == 'Apply failed with 1 conflict: conflict with "one": .data.a'
    assert refused.object["details"]["causes"] == [
        {"reason": "FieldManagerConflict", "message": 'conflict with "one"', "field": ".data.a"}
    ]
    forced = api.request("PATCH", f"{MAPS}/s?fieldManager=two&force=true", other, content=APPLY)
    assert owners(forced.object) == {"one/Apply": {"f:data": {"f:b": {}}}, "two/Apply": {"f:data": {"f:a": {}}}}
    less = config.replace(", b: '2'", "").replace("a: '1'", "a: '9'")
    left = api.request("PATCH", f"{MAPS}/s?fieldManager=one", less.encode(), content=APPLY)
    assert left.object["data"] == {"a": "9"}


def test_refusals_of_patches(api: ApiProcess) -> None:
    api.post(MAPS, {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "r"}})
    for query, body, media, code, message in (
        ("", {}, APPLY, 422, 'PatchOptions.meta.k8s.io "" is invalid: fieldManager: Required value: is required for apply patch'),
        ("?force=true", {}, "application/merge-patch+json", 422, 'PatchOptions.meta.k8s.io "" is invalid: force: Forbidden'),
        ("", {}, "application/json", 415, "415: Unsupported Media Type"),
        ("", {"data": 1}, "application/merge-patch+json", 422, ' "" is invalid: patch: Invalid value: "{'),
        ("?fieldValidation=Strict", {"spam": 1}, "application/merge-patch+json", 422, ' "" is invalid: patch: Invalid value: '),
        ("", [{"op": "test", "path": "/data/x", "value": "1"}], "application/json-patch+json", 422, "the server rejected our request"),
        ("", b"{", "application/json-patch+json", 400, "error decoding patch: unexpected end of JSON input"),
        ("?fieldManager=m", {"apiVersion": "v1", "kind": "ConfigMap", "spam": 1}, APPLY, 500, "failed to create typed patch object"),
    ):  # fmt: skip
        found = api.request("PATCH", f"{MAPS}/r{query}", body, content=media)
        assert found.code == code, found.body
        assert found.object["message"].startswith(message), found.object["message"]
    missing = api.request("PATCH", f"{MAPS}/none", {}, content="application/merge-patch+json")
    assert missing.code == 404


@pytest.mark.requires("kubectl")
def test_kubectl_applies_on_the_server(api: ApiProcess) -> None:
    pod: Any = {
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "applied", "labels": {"a": "1"}},
        "spec": {"terminationGracePeriodSeconds": 0,
                 "containers": [{"name": "c", "image": "nsrun.local/host", "command": ["sleep", "1000"]}]},
    }  # fmt: skip
    first = api.kubectl("apply", "--server-side", "-f", "-", stdin=json.dumps(pod))
    assert (first.returncode, first.stdout) == (0, "pod/applied serverside-applied\n"), first.stderr
    assert "kubectl/Apply" in owners(api.get("/api/v1/namespaces/default/pods/applied").object)
    labelled = api.kubectl("label", "pod", "applied", "a=2", "--overwrite")
    assert labelled.returncode == 0, labelled.stderr
    conflict = api.kubectl("apply", "--server-side", "-f", "-", stdin=json.dumps(pod))
    assert conflict.returncode == 1
    assert 'conflict with "kubectl-label"' in conflict.stderr and ".metadata.labels.a" in conflict.stderr
    forced = api.kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", stdin=json.dumps(pod))
    assert forced.returncode == 0, forced.stderr
    # What was applied on the client's side goes over to the server's without a conflict.
    pod["metadata"]["name"] = "moved"
    assert api.kubectl("apply", "-f", "-", stdin=json.dumps(pod)).returncode == 0
    pod["metadata"]["labels"] = {"a": "3"}
    moved = api.kubectl("apply", "--server-side", "-f", "-", stdin=json.dumps(pod))
    assert moved.returncode == 0, moved.stderr
    assert api.kubectl("get", "pod", "moved", "-o", "jsonpath={.metadata.labels.a}").stdout == "3"
    api.kubectl("delete", "pod", "applied", "moved", "--now")
