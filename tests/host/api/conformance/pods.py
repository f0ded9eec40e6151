"""Pods as objects, what streams from them, their network, and classes of runtimes (test/e2e/common/node, network)."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable

import websocket

from tests.host.api.conformance.cluster import (
    LOOK_S,
    Namespace,
    Object,
    RefusedError,
    agent,
    box,
    condition,
    hang_up,
    phase,
    pod,
    python,
    status_of,
)
from tests.host.api.conformance.registry import add, case

PAUSE = "sleep 600"


@case("[sig-node] Pods should get a host IP")
def host_ip(space: Namespace) -> None:
    found = space.running(pod("p", box("c", PAUSE), restartPolicy="Always"))
    found = space.until("p", lambda one: one["status"].get("hostIP"), "on a host")
    socket.getaddrinfo(found["status"]["hostIP"], 0, flags=socket.AI_NUMERICHOST)


@case("[sig-node] Pods should be submitted and removed")
def submitted(space: Namespace) -> None:
    select = {"labelSelector": "time=now"}
    listed = space.api.call("GET", space.path("pods", **select))
    assert listed["items"] == []
    events: list[Object] = []
    query = {**select, "watch": "true", "resourceVersion": listed["metadata"]["resourceVersion"]}

    def follow() -> None:
        for event in space.api.watch(space.path("pods", **query)):
            events.append(event)
            if event["type"] == "DELETED":
                return

    watcher = threading.Thread(target=follow, daemon=True)
    watcher.start()
    container = box("c", "trap 'exit 0' TERM; sleep 600 & wait")
    labels = {"name": "foo", "time": "now"}
    space.start(pod("p", container, labels=labels, restartPolicy="Always", terminationGracePeriodSeconds=30))
    assert len(space.api.call("GET", space.path("pods", **select))["items"]) == 1
    space.until("p", lambda one: phase(one) == "Running", "running")
    space.delete("p", 30)
    watcher.join(60)
    assert [event["type"] for event in events][:: len(events) - 1] == ["ADDED", "DELETED"]
    last = events[-1]["object"]
    assert last["metadata"]["deletionTimestamp"]
    assert last["spec"]["terminationGracePeriodSeconds"] != 0
    assert space.api.call("GET", space.path("pods", **select))["items"] == []


@case("[sig-node] Pods should be updated")
def updated(space: Namespace) -> None:
    space.running(pod("p", box("c", PAUSE), labels={"time": "before"}, restartPolicy="Always"))
    space.change("pods", "p", lambda found: found["metadata"]["labels"].update(time="after"))
    assert len(space.api.call("GET", space.path("pods", labelSelector="time=after"))["items"]) == 1
    assert space.api.call("GET", space.path("pods", labelSelector="time=before"))["items"] == []


@case("[sig-node] Pods should allow activeDeadlineSeconds to be updated")
def deadline(space: Namespace) -> None:
    space.running(pod("p", box("c", PAUSE), restartPolicy="Always"))
    space.change("pods", "p", lambda found: found["spec"].update(activeDeadlineSeconds=5))
    found = space.until("p", lambda one: phase(one) == "Failed", "over")
    assert found["status"]["reason"] == "DeadlineExceeded"


@case("[sig-node] Pods should contain environment variables for services")
def services(space: Namespace) -> None:
    space.running(pod("server", agent("c", "serve"), labels={"name": "server"}, restartPolicy="Always"))
    spec = {"ports": [{"port": 8765, "targetPort": 8080}], "selector": {"name": "server"}}
    address = space.create("Service", "fooservice", spec=spec)["spec"]["clusterIP"]
    said = space.output(pod("p", box("c", "env")))
    wanted = {
        "FOOSERVICE_SERVICE_HOST": address,
        "FOOSERVICE_SERVICE_PORT": "8765",
        "FOOSERVICE_PORT": f"tcp://{address}:8765",
        "FOOSERVICE_PORT_8765_TCP": f"tcp://{address}:8765",
        "FOOSERVICE_PORT_8765_TCP_PROTO": "tcp",
        "FOOSERVICE_PORT_8765_TCP_PORT": "8765",
        "FOOSERVICE_PORT_8765_TCP_ADDR": address,
    }
    assert wanted.items() <= dict(line.split("=", 1) for line in said.splitlines() if "=" in line).items()


def frames(space: Namespace, path: str, protocol: str) -> list[bytes]:
    """All that comes over a WebSocket until its end."""
    address = "ws" + space.api.url.removeprefix("http") + path
    ws = websocket.create_connection(address, subprotocols=[protocol], timeout=30, origin="http://localhost")
    try:
        found: list[bytes] = []
        while True:
            opcode, data = ws.recv_data()
            if opcode == websocket.ABNF.OPCODE_CLOSE:
                return found
            found.append(data)
    finally:
        hang_up(ws)


@case("[sig-node] Pods should support remote command execution over websockets")
def command(space: Namespace) -> None:
    space.running(pod("p", box("c", "echo container is alive; sleep 600"), restartPolicy="Always"))
    words = ["echo", "remote execution test"]
    path = space.path("pods", "p", "exec", container="c", stdout=1, stderr=1, command=words)
    found = frames(space, path, "channel.k8s.io")
    assert b"".join(one[1:] for one in found if one[:1] == b"\x01") == b"remote execution test\n"
    assert all(one[:1] == b"\x01" or len(one) == 1 for one in found)


@case("[sig-node] Pods should support retrieving logs from the container over websockets")
def log(space: Namespace) -> None:
    space.running(pod("p", box("c", "echo container is alive; sleep 600"), restartPolicy="Always"))
    space.until_log("p", "c", "alive")
    found = frames(space, space.path("pods", "p", "log", container="c"), "binary.k8s.io")
    assert b"".join(found) == b"container is alive\n"


# Ephemeral containers


def ephemeral(name: str) -> Object:
    """One that waits, at a terminal that nobody is attached to."""
    return box(name, "while :; do echo polo; sleep 2; done", stdin=True, tty=True, terminationMessagePolicy="File")


def add_ephemeral(space: Namespace, name: str) -> Object:
    """Add one as kubectl does."""
    patch = {"spec": {"ephemeralContainers": [ephemeral(name)]}}
    path = space.path("pods", "p", "ephemeralcontainers")
    return space.api.call("PATCH", path, patch, type_="application/strategic-merge-patch+json")


def runs(name: str) -> Callable[[Object], bool]:
    """Whether a container does."""
    return lambda found: "running" in status_of(found, name).get("state", {})


@case("[sig-node] Ephemeral Containers will start an ephemeral container in an existing pod")
def start_ephemeral(space: Namespace) -> None:
    space.running(pod("p", box("c", PAUSE), restartPolicy="Always"))
    add_ephemeral(space, "debugger")
    space.until("p", runs("debugger"), "debugged")
    assert space.run("p", "debugger", "echo", "marco").out == "marco\n"
    space.until_log("p", "debugger", "polo")


@case("[sig-node] Ephemeral Containers should update the ephemeral containers in an existing pod")
def update_ephemeral(space: Namespace) -> None:
    space.running(pod("p", box("c", PAUSE), restartPolicy="Always"))
    add_ephemeral(space, "debugger1")
    path = space.path("pods", "p", "ephemeralcontainers")
    found = space.api.call("GET", path)
    assert [one["name"] for one in found["spec"]["ephemeralContainers"]] == ["debugger1"]
    while True:
        found["spec"]["ephemeralContainers"].append(ephemeral("debugger2"))
        try:
            space.api.call("PUT", path, found)
            break
        except RefusedError as refusal:
            assert refusal.code == 409
            found = space.api.call("GET", path)
    found = space.until("p", runs("debugger2"), "debugged twice")
    assert [one["name"] for one in found["spec"]["ephemeralContainers"]] == ["debugger1", "debugger2"]


# Classes of runtimes


def runtime(space: Namespace, name: str, handler: str, **fields: Object) -> str:
    """A RuntimeClass."""
    full = f"{space.name}-{name}"
    body = {
        "apiVersion": "node.k8s.io/v1",
        "kind": "RuntimeClass",
        "metadata": {"name": full},
        "handler": handler,
        **fields,
    }
    space.api.call("POST", "/apis/node.k8s.io/v1/runtimeclasses", body)
    return full


def forget(space: Namespace, name: str) -> None:
    """Delete a RuntimeClass."""
    space.api.call("DELETE", f"/apis/node.k8s.io/v1/runtimeclasses/{name}")


def rejected(space: Namespace, runtime_class: str) -> None:
    """A pod of this class is refused."""
    manifest = pod("p", box("c", PAUSE), runtimeClassName=runtime_class, automountServiceAccountToken=False)
    try:
        space.api.call("POST", space.path("pods", dryRun="All"), manifest)
    except RefusedError as refusal:
        assert (refusal.code, refusal.status["reason"]) == (403, "Forbidden")
        assert runtime_class in refusal.status["message"]
    else:
        raise AssertionError("it was taken")


def scheduled(space: Namespace, runtime_class: str) -> Object:
    """A pod of this class, once it has its node."""
    manifest = pod("p", box("c", PAUSE), runtimeClassName=runtime_class, automountServiceAccountToken=False)
    space.start(manifest)
    return space.until(
        "p",
        lambda one: condition(one, "PodScheduled").get("status") == "True" and one["spec"].get("nodeName"),
        "scheduled",
    )


@case("[sig-node] RuntimeClass should reject a Pod requesting a non-existent RuntimeClass")
def no_class(space: Namespace) -> None:
    rejected(space, f"{space.name}-nonexistent")


@case("[sig-node] RuntimeClass should reject a Pod requesting a deleted RuntimeClass")
def deleted_class(space: Namespace) -> None:
    name = runtime(space, "delete-me", "runc")
    forget(space, name)
    try:
        space.api.call("GET", f"/apis/node.k8s.io/v1/runtimeclasses/{name}")
    except RefusedError as refusal:
        assert refusal.code == 404
    rejected(space, name)


@case("[sig-node] RuntimeClass should schedule a Pod requesting a RuntimeClass without PodOverhead")
def no_overhead(space: Namespace) -> None:
    name = runtime(space, "preconfigured-handler", "test-handler")
    try:
        assert not scheduled(space, name)["spec"].get("overhead")
    finally:
        forget(space, name)


@case("[sig-node] RuntimeClass should schedule a Pod requesting a RuntimeClass and initialize its Overhead")
def overhead(space: Namespace) -> None:
    fixed = {"cpu": "10m", "memory": "1Mi"}
    name = runtime(space, "preconfigured-handler", "test-handler", overhead={"podFixed": fixed})
    try:
        assert scheduled(space, name)["spec"]["overhead"] == fixed
    finally:
        forget(space, name)


# Network

UDP = """
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(("0.0.0.0", 8081))
print("ready")
while True:
    data, peer = s.recvfrom(1000)
    s.sendto(socket.gethostname().encode(), peer)
"""
ASK = """
import socket, sys
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.settimeout(1)
for _ in range(5):
    s.sendto(b"hostname", (sys.argv[1], 8081))
    try:
        print(s.recv(100).decode())
        break
    except TimeoutError:
        pass
"""


def talk(*, udp: bool, from_node: bool) -> Callable[[Namespace], None]:
    """A case: pods are reached, by another pod or by one that has the machine's network."""

    def run(space: Namespace) -> None:
        names = ("one", "two")
        addresses = {}
        for name in names:
            server = python("c", UDP) if udp else agent("c", "serve")
            space.start(pod(name, server, restartPolicy="Always"))
        space.start(pod("asks", python("c", "import time; time.sleep(600)"), hostNetwork=from_node))
        for name in names:
            found = space.until(name, lambda one: one["status"].get("podIP") and phase(one) == "Running", "running")
            addresses[name] = found["status"]["podIP"]
            if udp:
                space.until_log(name, "c", "ready")
        space.until("asks", runs("c"), "running")
        for name, address in addresses.items():
            deadline_at = time.monotonic() + 30
            fetch = f"import urllib.request as u; print(u.urlopen('http://{address}:8080/cgi-bin/hostname', timeout=5).read().decode())"
            words = ("python3", "-c", ASK, address) if udp else ("python3", "-c", fetch)
            while (done := space.run("asks", "c", *words)).out.strip() != name:
                assert time.monotonic() < deadline_at, done
                time.sleep(LOOK_S)

    return run


for _udp in (False, True):
    for _node in (False, True):
        _way = "node-pod" if _node else "intra-pod"
        add(
            f"[sig-network] Networking Granular Checks: Pods should function for {_way} communication: {'udp' if _udp else 'http'}",
            talk(udp=_udp, from_node=_node),
        )
