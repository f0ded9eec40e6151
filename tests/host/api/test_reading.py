"""GET, LIST and WATCH, as bytes of HTTP."""

from __future__ import annotations

import json
import signal
from typing import Any

from tests.host.api.conftest import ApiProcess, pod_of

PODS = "/api/v1/namespaces/default/pods"


def status(code: int, reason: str, message: str, **details: Any) -> dict[str, Any]:
    found = {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": message,
        "reason": reason,
    }
    return {**found, **({"details": details["details"]} if "details" in details else {}), "code": code}


def test_a_pod_is_made_read_listed_watched_and_deleted(api: ApiProcess) -> None:
    empty = api.get(PODS).object
    assert (empty["kind"], empty["apiVersion"], empty["items"]) == ("PodList", "v1", [])
    watched = api.watch(PODS, {"resourceVersion": empty["metadata"]["resourceVersion"]})
    made = api.post(PODS, pod_of("one", labels={"app": "one"}))
    assert made.code == 201
    assert made.object["metadata"]["namespace"] == "default"
    first = next(watched)
    assert (first["type"], first["object"]["metadata"]["uid"]) == ("ADDED", made.object["metadata"]["uid"])
    # The write's own answer is older than what a read sees after it.
    assert api.get(f"{PODS}/one").object["metadata"]["uid"] == made.object["metadata"]["uid"]
    assert any(event["object"]["status"]["phase"] == "Running" for event in watched)
    listed = api.get(PODS, {"labelSelector": "app=one"}).object["items"]
    assert [one["metadata"]["name"] for one in listed] == ["one"]
    assert "kind" not in listed[0]
    gone = api.delete(f"{PODS}/one")
    assert gone.code == 200
    assert gone.object["metadata"]["deletionTimestamp"]
    last = next(event for event in watched if event["type"] == "DELETED")
    assert last["object"]["metadata"]["name"] == "one"
    assert int(last["object"]["metadata"]["resourceVersion"]) > int(gone.object["metadata"]["resourceVersion"])
    watched.close()
    assert api.get(f"{PODS}/one").object == status(
        404, "NotFound", 'pods "one" not found', details={"name": "one", "kind": "pods"}
    )


def test_refusals_are_worded_as_the_real_ones(api: ApiProcess) -> None:
    for path, wanted in {
        f"{PODS}?fieldSelector=spec.foo%3Dp1": status(400, "BadRequest", "field label not supported: spec.foo"),
        f"{PODS}?labelSelector=a%3D%3D%3Db": status(
            400, "BadRequest", "unable to parse requirement: found '=', expected: identifier"
        ),
        "/api/v1/namespaces/default/foos": status(
            404, "NotFound", "the server could not find the requested resource", details={}
        ),
    }.items():
        assert api.get(path).object == wanted
    refused = api.request("PATCH", PODS, {}, content="application/merge-patch+json")
    assert refused.object == status(
        405, "MethodNotAllowed", "the server does not allow this method on the requested resource", details={}
    )
    unknown = api.get("/foo")
    assert (unknown.code, unknown.body) == (404, b"404 page not found\n")
    assert api.post(PODS, b"x", content="text/plain").object == status(
        415,
        "UnsupportedMediaType",
        "the body of the request was in an unknown format - accepted media types include: application/json, application/yaml, "
        "application/vnd.kubernetes.protobuf",
    )
    assert api.post(PODS, b"{nope").object["message"] == (
        "the object provided is unrecognized (must be of type Pod): couldn't get version/kind; json parse error: invalid character "
        "'n' looking for beginning of object key string ({nope)"
    )
    mismatch = pod_of("p9")
    mismatch["metadata"]["namespace"] = "other"
    assert api.post(PODS, mismatch).object == status(
        400, "BadRequest", "the namespace of the provided object does not match the namespace sent on the request"
    )
    assert api.get(f"{PODS}?resourceVersion=99999999999999999").object["code"] == 504


def test_watches_begin_where_they_are_told_to(api: ApiProcess) -> None:
    api.make("two", labels={"app": "two"})
    api.until_running("two")
    events = list(
        api.watch(
            PODS,
            {"sendInitialEvents": "true", "resourceVersionMatch": "NotOlderThan", "allowWatchBookmarks": "true"},
            seconds=1,
        )
    )
    assert events[0]["type"] == "ADDED"
    ended = [one for one in events if one["type"] == "BOOKMARK"]
    assert ended[0]["object"]["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}
    assert ended[0]["object"]["spec"] == {"containers": None}
    assert len(ended) == 2
    assert "annotations" not in ended[1]["object"]["metadata"]
    too_old = list(api.watch(PODS, {"resourceVersion": 1}, seconds=1))
    assert len(too_old) == 1
    assert too_old[0]["type"] == "ERROR"
    assert (too_old[0]["object"]["code"], too_old[0]["object"]["reason"]) == (410, "Expired")
    assert too_old[0]["object"]["message"].startswith("too old resource version: 1 (")
    forbidden = api.get(PODS, {"watch": 1, "sendInitialEvents": "true"})
    assert forbidden.code == 422
    # What comes to match a selector is ADDED for it, what ceases to is DELETED.
    at = api.get(PODS).object["metadata"]["resourceVersion"]
    for labels in ({"app": "three"}, {"app": "two"}):
        patched = api.request(
            "PATCH", f"{PODS}/two", {"metadata": {"labels": labels}}, content="application/merge-patch+json"
        )
        assert patched.code == 200, patched.body
    seen = api.watch(PODS, {"resourceVersion": at, "labelSelector": "app=two"}, seconds=2)
    assert [(one["type"], one["object"]["metadata"]["labels"]["app"]) for one in seen] == [
        ("DELETED", "two"),
        ("ADDED", "two"),
    ]
    api.delete(f"{PODS}/two?gracePeriodSeconds=0")


def test_pages_are_of_one_moment(api: ApiProcess) -> None:
    for number in range(5):
        made = api.post("/api/v1/namespaces/default/configmaps", {"metadata": {"name": f"page{number}"}})
        assert made.code == 201, made.body
    path = "/api/v1/namespaces/default/configmaps"
    first = api.get(path, {"limit": 2}).object
    names = [one["metadata"]["name"] for one in first["items"]]
    total = len(api.get(path).object["items"])
    assert first["metadata"]["remainingItemCount"] == total - 2
    # What happens between the pages is not seen by them.
    assert api.delete(f"{path}/page3").code == 200
    api.post(path, {"metadata": {"name": "page9"}})
    token = first["metadata"]["continue"]
    while token:
        page = api.get(path, {"limit": 2, "continue": token}).object
        assert page["metadata"]["resourceVersion"] == first["metadata"]["resourceVersion"]
        names += [one["metadata"]["name"] for one in page["items"]]
        token = page["metadata"].get("continue", "")
    assert [name for name in names if name.startswith("page")] == [f"page{number}" for number in range(5)]
    assert api.get(path, {"continue": "nonsense"}).code == 400
    for name in ("page0", "page1", "page2", "page4", "page9"):
        assert api.delete(f"{path}/{name}").object["status"] == "Success"


def test_forms_of_answers(api: ApiProcess) -> None:
    api.make("shown")
    table = api.get(PODS, Accept="application/json;as=Table;v=v1;g=meta.k8s.io,application/json").object
    assert (table["kind"], table["columnDefinitions"][0]["name"], table["rows"][0]["cells"][0]) == (
        "Table",
        "Name",
        "shown",
    )
    partial = api.get(f"{PODS}/shown", Accept="application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io").object
    assert sorted(partial) == ["apiVersion", "kind", "metadata"]
    assert api.get(f"{PODS}/shown", Accept="application/yaml").body.startswith((b"apiVersion:", b"kind:"))
    assert api.get(f"{PODS}/shown", Accept="application/vnd.kubernetes.protobuf").body.startswith(b"k8s\0")
    assert api.get(f"{PODS}/shown", Accept="text/html").code == 406
    assert b"\n  " in api.get(f"{PODS}/shown", {"pretty": "true"}).body
    api.delete(f"{PODS}/shown?gracePeriodSeconds=0")


def test_watches_outlive_the_server(api: ApiProcess) -> None:
    api.make("kept")
    at = api.until_running("kept")["metadata"]["resourceVersion"]
    watched = api.watch(PODS, {"resourceVersion": at}, seconds=30)
    api.host.run("sh", "-c", f"kill -{int(signal.SIGKILL)} $(cat {api.host.root}/run/lock)")
    # The next request waits for the next server, which this process starts.
    assert api.get(f"{PODS}/kept").object["status"]["phase"] == "Running"
    assert (
        api.request(
            "PATCH", f"{PODS}/kept", {"metadata": {"labels": {"a": "b"}}}, content="application/merge-patch+json"
        ).code
        == 200
    )
    assert any(event["object"]["metadata"].get("labels") == {"a": "b"} for event in watched)
    watched.close()
    api.delete(f"{PODS}/kept?gracePeriodSeconds=0")


def test_what_is_there_about_the_server_itself(api: ApiProcess) -> None:
    assert api.get("/version").object["major"] == "1"
    assert api.get("/healthz").body == b"ok"
    assert "/api/v1" in api.get("/").object["paths"]
    assert b"nsrun_api_connected 1" in api.get("/metrics").body
    assert json.loads(api.get("/openapi/v3").body)["paths"]["api/v1"]
    assert api.get("/api", Host="evil.example.org").code == 403
    assert api.get("/api", Origin="http://evil.example.org").code == 403
