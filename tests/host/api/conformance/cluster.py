"""A small client of the API: JSON over HTTP, and WebSockets for commands. No more than the cases need."""

from __future__ import annotations

import json
import time
import urllib.parse
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import urllib3
import websocket

from tests.capabilities import PATIENCE
from tests.host.api.conformance import stand_ins

Object = dict[str, Any]
LOOK_S = 0.15


class RefusedError(AssertionError):
    """An answer that is not what was asked for.

    Attributes:
        code: of HTTP.
        status: the metav1.Status.
    """

    def __init__(self, code: int, status: Object, what: str) -> None:
        super().__init__(f"{what}: {code}: {status.get('message', status)}")
        self.code = code
        self.status = status


class Api:
    """The server.

    Args:
        url: where it listens.
        node_image: an image of this machine's own programs, with Python.
    """

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        self._pool = urllib3.PoolManager(maxsize=40, retries=False, timeout=60)

    def close(self) -> None:
        """Close the connections."""
        self._pool.clear()

    def call(self, method: str, path: str, body: Object | None = None, *, type_: str = "application/json") -> Object:
        """An answer in JSON.

        Raises:
            RefusedError: it is an error.
        """
        data = None if body is None else json.dumps(body)
        headers = {"Accept": "application/json", "Content-Type": type_}
        answer = self._pool.request(method, self.url + path, body=data, headers=headers)
        said: Object = json.loads(answer.data or b"{}")
        if answer.status >= 400:
            raise RefusedError(answer.status, said, f"{method} {path}")
        return said

    def text(self, path: str) -> str:
        """An answer that is text.

        Raises:
            RefusedError: it is an error.
        """
        answer = self._pool.request("GET", self.url + path)
        if answer.status >= 400:
            raise RefusedError(answer.status, json.loads(answer.data), f"GET {path}")
        return answer.data.decode("utf-8", "replace")

    def watch(self, path: str) -> Iterator[Object]:
        """The events of a watch; closed by whoever stops reading."""
        answer = self._pool.request("GET", self.url + path, preload_content=False, timeout=urllib3.Timeout(read=90))
        rest = b""
        try:
            for piece in answer.stream(65536, decode_content=True):
                *lines, rest = (rest + piece).split(b"\n")
                for line in lines:
                    yield json.loads(line)
        finally:
            answer.close()

    @property
    def node(self) -> Object:
        """The one node."""
        found: Object = self.call("GET", "/api/v1/nodes")["items"][0]
        return found


@dataclass(frozen=True)
class Done:
    """What came of a command."""

    code: int
    out: str
    err: str


class Namespace:
    """A namespace and what is in it."""

    def __init__(self, api: Api, name: str) -> None:
        self.api, self.name = api, name
        api.call("POST", "/api/v1/namespaces", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})

    def close(self) -> None:
        """Delete it with all that is in it."""
        self.api.call("DELETE", f"/api/v1/namespaces/{self.name}")

    def path(self, plural: str, name: str = "", sub: str = "", **query: Any) -> str:
        """Of objects in it."""
        path = "/".join(part for part in (f"/api/v1/namespaces/{self.name}/{plural}", name, sub) if part)
        return path + ("?" + urllib.parse.urlencode(query, doseq=True) if query else "")

    # objects

    def create(self, kind: str, name: str, **fields: Any) -> Object:
        """Create an object of the core group."""
        plural = kind.lower() + "s"
        labels = fields.pop("labels", None)
        body = {"apiVersion": "v1", "kind": kind, "metadata": {"name": name, "labels": labels or {}}, **fields}
        return self.api.call("POST", self.path(plural), body)

    def get(self, plural: str, name: str) -> Object:
        """An object."""
        return self.api.call("GET", self.path(plural, name))

    def change(self, plural: str, name: str, edit: Callable[[Object], None]) -> Object:
        """Read, edit, write; once more where somebody wrote in between."""
        while True:
            found = self.get(plural, name)
            edit(found)
            try:
                return self.api.call("PUT", self.path(plural, name), found)
            except RefusedError as refusal:
                if refusal.code != 409:
                    raise

    # pods

    def start(self, pod: Object) -> Object:
        """Create a pod."""
        return self.api.call("POST", self.path("pods"), pod)

    def pod(self, name: str) -> Object:
        """A pod."""
        return self.get("pods", name)

    def until(self, name: str, met: Callable[[Object], Any], what: str, timeout_s: float = 60) -> Object:
        """Wait for a pod."""
        deadline = time.monotonic() + timeout_s * PATIENCE
        while True:
            pod = self.pod(name)
            if met(pod):
                return pod
            assert time.monotonic() < deadline, f"pod {name} is not {what}: {json.dumps(pod['status'])}"
            time.sleep(LOOK_S)

    def running(self, pod: Object) -> Object:
        """Create a pod and wait until it runs."""
        name = self.start(pod)["metadata"]["name"]
        return self.until(name, lambda one: phase(one) == "Running", "running")

    def ready(self, pod: Object) -> Object:
        """Create a pod and wait until it is ready."""
        name = self.start(pod)["metadata"]["name"]
        return self.until(name, is_ready, "ready")

    def finished(self, pod: Object) -> Object:
        """Create a pod and wait until it is over."""
        name = self.start(pod)["metadata"]["name"]
        return self.until(name, lambda one: phase(one) in ("Succeeded", "Failed"), "over")

    def output(self, pod: Object) -> str:
        """What a pod that succeeds has written."""
        over = self.finished(pod)
        name = over["metadata"]["name"]
        log = self.log(name, over["spec"]["containers"][0]["name"])
        assert phase(over) == "Succeeded", (over["status"], log)
        return log

    def log(self, name: str, container: str, **query: Any) -> str:
        """A container's log."""
        return self.api.text(self.path("pods", name, "log", container=container, **query))

    def until_log(self, name: str, container: str, wanted: str, timeout_s: float = 60) -> None:
        """Wait until a log has a text."""
        deadline = time.monotonic() + timeout_s * PATIENCE
        while wanted not in (log := self.log(name, container)):
            assert time.monotonic() < deadline, f"{wanted!r} is not in the log of {name}/{container}: {log!r}"
            time.sleep(LOOK_S)

    def run(self, name: str, container: str, *command: str) -> Done:
        """Execute a command."""
        address = "ws" + self.api.url.removeprefix("http")
        path = self.path("pods", name, "exec", container=container, command=command, stdout="true", stderr="true")
        ws = websocket.create_connection(address + path, subprotocols=["v4.channel.k8s.io"], timeout=60)
        channels = {1: b"", 2: b"", 3: b""}
        try:
            while True:
                opcode, data = ws.recv_data()
                if opcode == websocket.ABNF.OPCODE_CLOSE:
                    break
                channels[data[0]] += data[1:]
        except websocket.WebSocketConnectionClosedException:
            pass
        finally:
            hang_up(ws)
        status = json.loads(channels[3])
        code = 0
        if status["status"] != "Success":
            causes = status.get("details", {}).get("causes", [])
            code = next((int(one["message"]) for one in causes if one.get("reason") == "ExitCode"), -1)
        return Done(code, channels[1].decode(), channels[2].decode())

    def shell(self, name: str, container: str, script: str) -> str:
        """What a script in a container writes; it must succeed."""
        done = self.run(name, container, "sh", "-c", script)
        assert done.code == 0, done
        return done.out.strip()

    def delete(self, name: str, grace_s: int | None = None) -> None:
        """Delete a pod; it goes when it has gone."""
        body: Object = {"apiVersion": "v1", "kind": "DeleteOptions"}
        if grace_s is not None:
            body["gracePeriodSeconds"] = grace_s
        self.api.call("DELETE", self.path("pods", name), body)

    def gone(self, name: str, timeout_s: float = 60) -> None:
        """Wait until a pod is gone."""
        deadline = time.monotonic() + timeout_s * PATIENCE
        while True:
            try:
                pod = self.pod(name)
            except RefusedError as refusal:
                assert refusal.code == 404
                return
            assert time.monotonic() < deadline, f"pod {name} does not go: {pod['status']}"
            time.sleep(LOOK_S)


def hang_up(ws: websocket.WebSocket) -> None:
    """Close the socket of one that may have been closed by its other side already: then `close` does nothing."""
    ws.shutdown()  # type: ignore[no-untyped-call] # the library's


def pod(name: str, *containers: Object, labels: dict[str, str] | None = None, **spec: Any) -> Object:
    """A pod that runs once, unless it is said otherwise."""
    meta = {"name": name, "labels": labels or {}, "annotations": spec.pop("annotations", {})}
    body = {"restartPolicy": "Never", "containers": list(containers), "terminationGracePeriodSeconds": 1, **spec}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": body}


def box(name: str, script: str | None = None, **fields: Any) -> Object:
    """A container of busybox that runs a script."""
    words = {} if script is None else {"command": ["sh", "-c", script]}
    return {"name": name, "image": stand_ins.BUSYBOX, "imagePullPolicy": "IfNotPresent", **words, **fields}


def agent(name: str, *args: str, **fields: Any) -> Object:
    """A container of the image with the suite's helpers."""
    return {"name": name, "image": stand_ins.AGENT, "imagePullPolicy": "IfNotPresent", "args": list(args), **fields}


def python(name: str, program: str, *args: str, **fields: Any) -> Object:
    """A container of this machine's programs that runs Python."""
    return {"name": name, "image": stand_ins.MACHINE, "command": ["python3", "-u", "-c", program, *args], **fields}


def phase(pod: Object) -> str:
    """Of a pod."""
    return str(pod["status"].get("phase"))


def status_of(pod: Object, container: str) -> Object:
    """Of a container; empty when there is none yet."""
    status = pod["status"]
    kinds = ("initContainerStatuses", "containerStatuses", "ephemeralContainerStatuses")
    every = (one for kind in kinds for one in status.get(kind) or [])
    return next((one for one in every if one["name"] == container), {})


def condition(pod: Object, kind: str) -> Object:
    """One of a pod's conditions; empty when there is none yet."""
    return next((one for one in pod["status"].get("conditions") or [] if one["type"] == kind), {})


def is_ready(pod: Object) -> bool:
    """Whether it is."""
    return condition(pod, "Ready").get("status") == "True"


def restarts(pod: Object, container: str) -> int:
    """How often a container was started anew."""
    return int(status_of(pod, container).get("restartCount", 0))
