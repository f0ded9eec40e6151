"""Every kind of request that the conformance suite and kubectl were seen to send to a v1.36.2 API server, sent to this one.

The same status, the same form of the answer, the same protocol of a stream; or a difference that is known, with its reason.
"""

from __future__ import annotations

import csv
import itertools
import os
import re
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, urlencode

import pytest

from nsrun.api.forms import protobuf
from tests.host.api.conftest import ApiProcess, Object, Reply, pod_of

RECORDINGS = Path(os.environ.get("NSRUN_CORPUS") or "/nowhere/corpus").parent / "kubernetes-api"
pytestmark = [
    pytest.mark.timeout(300),
    pytest.mark.skipif(not RECORDINGS.is_dir(), reason="there are no recordings beside NSRUN_CORPUS"),
]

SPACE, POD, THING = "routes", "p", "x"
NOWHERE = "nope"
_MEDIA = {
    "json": "application/json",
    "pb": "application/vnd.kubernetes.protobuf",
    "pb;stream=watch": "application/vnd.kubernetes.protobuf;stream=watch",
    "json;Table": "application/json;as=Table;v=v1;g=meta.k8s.io",
    "json;Tablev1b1": "application/json;as=Table;v=v1beta1;g=meta.k8s.io",
    "json;aggdisc-v2": "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList",
    "json;aggdisc-v2b1": "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList",
}
_METHODS = {
    "create": "POST", "update": "PUT", "patch": "PATCH", "delete": "DELETE",
}  # fmt: skip
_KINDS = {
    "pods": "Pod", "namespaces": "Namespace", "configmaps": "ConfigMap", "secrets": "Secret", "services": "Service",
    "runtimeclasses": "RuntimeClass", "selfsubjectaccessreviews": "SelfSubjectAccessReview",
    "selfsubjectreviews": "SelfSubjectReview", "token": "TokenRequest", "eviction": "Eviction",
}  # fmt: skip


class Route(NamedTuple):
    """A kind of request, and what the recorded server answered.

    Attributes:
        query: with `*`, `N`, `T` and `TIME` in the place of what differs from time to time.
        offered: protocols of a stream that the client offers, `upgrade` the way it asks for one.
        form: of the answer's body, as the recordings have it; empty where they do not tell.
    """

    method: str
    verb: str
    group: str
    resource: str
    part: str
    scope: str
    query: str
    accept: str
    content: str
    upgrade: str
    offered: str
    status: int
    form: str
    chosen: str

    def __str__(self) -> str:
        where = "/".join(part for part in (self.group, self.resource.strip("/"), self.part, self.scope) if part)
        words = (self.verb, where, self.query, self.accept, self.content, self.upgrade)
        return " ".join(word for word in words if word) + f" -> {self.status}"


DIFFERENT: dict[tuple[str, str, str, int], tuple[int, str]] = {
    ("GET", "/version", "", 404): (200, "the recorded run left it out, to see that the suite does without"),
    ("watch", "pods", "", 422): (200, "the recorded run left out initial events of a watch (WatchList), as that above"),
    ("create", "serviceaccounts", "token", 201): (501, "a ServiceAccount has no rights here that a token could carry"),
    ("connect", "pods", "attach", 500): (101, "the recorded container had ended a moment before"),
    ("create", "pods", "attach", 500): (101, "the recorded container had ended a moment before"),
}
"""By verb, resource, part and recorded status: ours, and why. docs/kubernetes-api.md tells users of those that they may meet."""

FORMS = {
    "pb": "json",  # a client that takes either gets JSON, which costs less to make here
    "pb;stream=watch": "json",
    "text/plain; charset=utf-8": "json",  # /openapi/v3, where the recorded server left the type to Go's guess
}
"""Of answers: ours, where a client's Accept has it as well."""


def suite() -> Iterator[Route]:
    """What the conformance suite sends."""
    with (RECORDINGS / "apisurface.tsv").open(newline="") as lines:
        for row in csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE):
            accept = re.sub(r"=\d+$", "", row["accept"])
            upgrade, _, chosen = re.sub(r"=\d+$", "", row["upgrade"]).partition("->")
            way, _, offered = upgrade.partition(":")
            for found in row["status"].split("; "):
                status = int(found.split("=")[0])
                yield Route(
                    _METHODS.get(row["verb"], "GET"), row["verb"], row["group"], row["resource"], row["subresource"],
                    row["scope"], row["query"], accept, re.sub(r"=\d+$", "", row["content_type"]), way, offered, status,
                    re.sub(r"=\d+$", "", row["response_type"]) if status < 300 else "", chosen,
                )  # fmt: skip


def kubectl() -> Iterator[Route]:
    """What kubectl sends."""
    with (RECORDINGS / "kubectl_surface.tsv").open(newline="") as lines:
        for row in csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE):
            yield Route(
                row["method"], row["verb"], row["group"], row["resource"], row["subresource"], row["scope"],
                row["query"], row["accept"], row["content_type"], row["upgrade"], row["stream_protocols_offered"],
                int(row["status"]), row["resp_type"], row["stream_protocol_chosen"],
            )  # fmt: skip


class Client:
    """Sends a route with names of objects that are there, or are not, as its recorded status wants it."""

    def __init__(self, api: ApiProcess) -> None:
        self.api = api
        self._numbers = itertools.count(1)
        self.node = api.get("/api/v1/nodes").object["items"][0]["metadata"]["name"]
        assert api.post("/api/v1/namespaces", {"metadata": {"name": SPACE}}).code == 201
        api.make(POD, namespace=SPACE, labels={"app": "a", "time": "t"}, containers=[
            {"name": "c", "image": "nsrun.local/host", "stdin": True, "resources": {"limits": {"memory": "64Mi"}},
             "command": ["sh", "-c", "echo line; exec sleep 100000"]},
        ])  # fmt: skip
        self.pod = api.until_running(POD, namespace=SPACE)
        for path, body in (
            (f"/api/v1/namespaces/{SPACE}/configmaps", {}),
            (f"/api/v1/namespaces/{SPACE}/secrets", {}),
            ("/apis/node.k8s.io/v1/runtimeclasses", {"handler": "nsrun"}),
        ):
            assert api.post(path, {"metadata": {"name": THING}, **body}).code == 201

    def fresh(self) -> str:
        """A name that nothing has."""
        return f"n{next(self._numbers)}"

    def base(self, route: Route, namespace: str = SPACE) -> str:
        """The path of a collection."""
        root = "/api/v1" if route.group == "v1" else f"/apis/{route.group}"
        return (
            f"{root}/namespaces/{namespace}/{route.resource}"
            if route.scope.startswith("ns/")
            else f"{root}/{route.resource}"
        )

    def body_of(self, resource: str, name: str) -> Object:
        """An object to create."""
        group = {"runtimeclasses": "node.k8s.io/v1", "selfsubjectaccessreviews": "authorization.k8s.io/v1",
                 "selfsubjectreviews": "authentication.k8s.io/v1", "token": "authentication.k8s.io/v1",
                 "eviction": "policy/v1"}.get(resource, "v1")  # fmt: skip
        more: Object = {
            "pods": pod_of(name),
            "runtimeclasses": {"handler": "nsrun"},
            "services": {"spec": {"ports": [{"port": 80}]}},
            "selfsubjectaccessreviews": {"spec": {"resourceAttributes": {"verb": "get", "resource": "pods"}}},
            "token": {"spec": {"audiences": ["a"]}},
        }.get(resource, {})
        return {"apiVersion": group, "kind": _KINDS[resource], **more, "metadata": {"name": name}}

    def name(self, route: Route) -> str:
        """Of the object that the route is about; made for it where it goes with the request."""
        if route.status == 404:
            return NOWHERE
        if route.verb == "delete" or route.part == "eviction":
            name = self.fresh()
            made = self.api.post(self.base(route), self.body_of(route.resource, name))
            assert made.code == 201, made.body
            return name
        if route.resource == "serviceaccounts":
            return "default"
        names = {"pods": POD, "nodes": self.node, "namespaces": SPACE, "leases": self.node}
        return str(names.get(route.resource, THING))

    def path(self, route: Route) -> str:
        """The path of a request."""
        if route.resource.startswith("/"):
            return route.resource.replace("*", "api/v1")
        if route.resource == "services" and route.verb == "get":
            return "/api/v1/namespaces/default/services/kubernetes"
        path = self.base(route, "kube-node-lease" if route.resource == "leases" else SPACE)
        if route.scope.endswith("name"):
            path += f"/{self.name(route)}"
        return f"{path}/{route.part}" if route.part else path

    def query(self, route: Route) -> str:
        """The query with values."""
        version = self.pod["metadata"]["resourceVersion"]
        values = {"resourceVersion": version, "timeoutSeconds": "1", "timeout": "1s", "container": "c", "command": "true",
                  "sinceTime": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() - 60))}  # fmt: skip
        result = []
        for key, value in parse_qsl(route.query, keep_blank_values=True):
            if key in ("labelSelector", "fieldSelector"):
                result.append((key, value.replace("time=*", "time=t").replace("=*", "=a")))
            elif value in ("*", "N", "T", "TIME"):
                result.append((key, values[key]))
            else:
                result.append((key, value))
        return urlencode(result)

    def body(self, route: Route, path: str) -> Object | list[Object] | None:
        """What the route carries."""
        if route.verb == "delete":
            return {"kind": "DeleteOptions", "apiVersion": "v1", "gracePeriodSeconds": 0} if route.content else None
        if route.verb == "update":
            found: Object = self.api.get(path).object
            if route.part == "ephemeralcontainers":
                found["spec"].setdefault("ephemeralContainers", []).append(self.ephemeral())
            return found
        if route.verb == "patch":
            return self.patch(route)
        if route.upgrade or not route.content:
            return None
        name = path.split("/")[-2] if route.part else POD if route.status == 409 else self.fresh()
        made = self.body_of(route.part or route.resource, name)
        if route.status == 422:
            made["metadata"]["name"] = "BAD_"
        if route.status == 403:
            made["spec"]["runtimeClassName"] = NOWHERE
        return made

    def ephemeral(self) -> Object:
        """A container to debug with."""
        return {"name": self.fresh(), "image": "nsrun.local/host", "command": ["true"]}

    def patch(self, route: Route) -> Object | list[Object]:
        """A change that may be made, or may not."""
        if route.part == "ephemeralcontainers":
            return {"spec": {"ephemeralContainers": [self.ephemeral()]}}
        if route.part == "status":
            return {"status": {"conditions": [{"type": "example.org/ready", "status": "True"}]}}
        if route.part == "resize":
            memory = "-1" if route.status == 422 else "80Mi"
            return {"spec": {"containers": [{"name": "c", "resources": {"limits": {"memory": memory}}}]}}
        if route.content == "json-patch+json":
            return [{"op": "add", "path": "/metadata/labels/json", "value": self.fresh()}]
        named = {"apiVersion": "v1", "kind": "Pod"} if route.content == "apply-patch+yaml" else {}
        metadata = {"name": POD} if named else {}
        # A label of each manager's own: one does not take another's.
        manager = dict(parse_qsl(route.query)).get("fieldManager", "unknown")
        return {**named, "metadata": {**metadata, "labels": {manager: self.fresh()}}}

    def send(self, route: Route) -> Reply:
        """The answer, of a stream that goes on without its body."""
        path = self.path(route)
        body = self.body(route, path)
        headers = {"Accept": ",".join(_MEDIA.get(one, one) for one in route.accept.split(","))} if route.accept else {}
        data: object = body
        if route.content == "pb":
            assert isinstance(body, dict)
            data = protobuf.encode(body)
        target = f"{path}?{self.query(route)}" if route.query else path
        if route.upgrade:
            return self.upgrade(route, target)
        content = _MEDIA.get(route.content) or f"application/{route.content}"
        if route.verb == "watch" or "follow=true" in route.query:
            return self.beginning(target, headers)
        return self.api.request(route.method, target, data, content=content, **headers)

    def beginning(self, target: str, headers: dict[str, str]) -> Reply:
        """Of an answer that goes on."""
        connection = self.api.connection()
        try:
            connection.request("GET", target, headers=headers)
            answer = connection.getresponse()
            return Reply(answer.status, {name.lower(): value for name, value in answer.getheaders()}, b"")
        finally:
            connection.close()

    def upgrade(self, route: Route, target: str) -> Reply:
        """Ask for a stream; what is said first."""
        lines = [f"{route.method} {target} HTTP/1.1", f"Host: 127.0.0.1:{self.api.port}", "Connection: Upgrade"]
        if route.upgrade == "websocket":
            lines += ["Upgrade: websocket", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA=="]
            lines += [f"Sec-WebSocket-Protocol: {route.offered}"]
        else:
            lines += [
                f"Upgrade: {route.upgrade}",
                *(f"X-Stream-Protocol-Version: {one}" for one in route.offered.split(", ")),
            ]
        with socket.create_connection(("127.0.0.1", self.api.port), timeout=20) as stream:
            stream.sendall("\r\n".join([*lines, "", ""]).encode())
            got = b""
            while b"\r\n\r\n" not in got:
                piece = stream.recv(65536)
                assert piece, got
                got += piece
        head, *rest = got.split(b"\r\n\r\n")[0].decode().split("\r\n")
        found = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in rest)}
        return Reply(int(head.split()[1]), found, got)


def form_of(reply: Reply) -> str:
    """As the recordings have it."""
    said = reply.headers.get("content-type", "").replace(" ", "")
    if said == _MEDIA["json;aggdisc-v2"]:
        return "json;aggdisc-v2"
    if said == _MEDIA["pb;stream=watch"]:
        return "pb;stream=watch"
    if said.startswith(("application/json", "application/vnd")):
        return "json" if said.startswith("application/json") else "pb"
    return said.partition(";")[0]


def forms(route: Route) -> set[str]:
    """That the answer may have."""
    other = FORMS.get(route.form, "")
    return {route.form.partition("; ")[0], *([other] if other and "json" in route.accept else [])}


@pytest.fixture(scope="module")
def client(api: ApiProcess) -> Iterator[Client]:
    """With objects to ask for, which go with their namespace: Secrets live in memory, that is to be given back."""
    yield Client(api)
    assert api.delete(f"/api/v1/namespaces/{SPACE}", {"gracePeriodSeconds": 0}).code == 200
    api.until(f"/api/v1/namespaces/{SPACE}", lambda found: found.get("code") == 404)


@pytest.mark.parametrize("recorded", [suite, kubectl])
def test_every_route_is_answered_as_it_was_seen(client: Client, recorded: Any) -> None:
    routes = list(dict.fromkeys(recorded()))
    assert len(routes) > 50
    wrong, met = [], set()
    for route in routes:
        reply = client.send(route)
        key = (route.verb, route.resource, route.part, route.status)
        status = route.status
        if key in DIFFERENT:
            met.add(key)
            status = DIFFERENT[key][0]
        if reply.code != status:
            wrong.append(f"{route}: {reply.code} {reply.body[:300]!r}")
        elif key not in DIFFERENT and route.form and not route.upgrade and form_of(reply) not in forms(route):
            wrong.append(f"{route}: {reply.headers.get('content-type')}, not {route.form}")
        elif reply.code == 101 and key not in DIFFERENT:
            chosen = reply.headers.get("sec-websocket-protocol") or reply.headers.get("x-stream-protocol-version")
            if chosen != route.chosen:
                wrong.append(f"{route}: the protocol {chosen}, not {route.chosen}")
    assert not wrong, f"{len(wrong)} of {len(routes)}:\n" + "\n".join(wrong)
    expected = {key for key in DIFFERENT if any(key == (r.verb, r.resource, r.part, r.status) for r in routes)}
    assert met == expected
