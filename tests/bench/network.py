"""Pods' network beside a bare bridge: bytes a second from pod to pod and through a hostPort, with nothing of nsrun's in between.

The bare side has a network namespace in the machine's place, with a bridge, veth pairs and forwarding, and no rule of any firewall:
what the guard at the bridge, the translation and the tracking of connections cost is in the ratio.
"""

from __future__ import annotations

import json
import os
import select
import statistics
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import nsrun
from tests.bench.measure import Figure, in_turn, run
from tests.bench.nsrun_side import Nsrun
from tests.host import testhost
from tests.host.testhost import Machine

PORT, HOST_PORT = 7003, 27003
SECONDS = 1.0
BRIDGE = """
ip link add br0 type bridge && ip link set br0 up && ip address add 10.99.0.1/24 dev br0
echo 1 > /proc/sys/net/ipv4/ip_forward
"""

SERVE = """
import socket, threading
def swallow(sock):
    buffer = bytearray(1 << 20)
    while sock.recv_into(buffer):
        pass
    sock.close()
listening = socket.create_server(("0.0.0.0", %d))
print("listening", flush=True)
while True:
    threading.Thread(target=swallow, args=(listening.accept()[0],), daemon=True).start()
"""
SEND = """
import socket, sys, time
sock = socket.create_connection((sys.argv[1], int(sys.argv[2])))
block, sent = bytes(1 << 17), 0
begun = time.monotonic()
while (passed := time.monotonic() - begun) < float(sys.argv[3]):
    sent += sock.send(block)
print(sent / passed / 1e6)
"""


def manifest(name: str, **port: int) -> str:
    """A pod that does nothing: what sends and receives is begun in its network, as on the bare side, lest cgroups are compared."""
    container = {
        "name": "c",
        "image": "bench",
        "imagePullPolicy": "Never",
        "command": ["/bin/testbox", "sleep", "1000"],
        "ports": [{"containerPort": PORT, **port}],
    }
    spec = {"terminationGracePeriodSeconds": 0, "containers": [container]}
    return json.dumps({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec})


def inside(pid: int, *argv: str) -> list[str]:
    """A command in the network namespace of a process."""
    return ["nsenter", f"--target={pid}", "--net", *argv]


def rate(pid: int, address: str, port: int) -> float:
    """MB/s from the network namespace of a process."""
    return float(run(inside(pid, sys.executable, "-c", SEND, address, str(port), str(SECONDS))))


def serve(stack: ExitStack, pid: int) -> None:
    """Have somebody swallow what comes to the network namespace of a process."""
    argv = inside(pid, sys.executable, "-c", SERVE % PORT)
    serving = stack.enter_context(subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL))
    stack.callback(serving.kill)
    assert serving.stdout is not None
    assert select.select([serving.stdout], [], [], 30)[0]
    assert os.read(serving.stdout.fileno(), 99)


class Bare:
    """Namespaces that are held by sleeping processes: a machine with a bridge, two at the bridge, one outside."""

    def __init__(self, stack: ExitStack) -> None:
        self.machine, self.one, self.other, self.outside = (stack.enter_context(_namespace()) for _ in range(4))
        run(inside(self.machine, "sh", "-ec", BRIDGE))
        for number, pid in enumerate((self.one, self.other), 2):
            self._plug(pid, f"p{number}")
            run(inside(self.machine, "ip", "link", "set", f"p{number}", "master", "br0", "up"))
            self._address(pid, f"10.99.0.{number}/24", "10.99.0.1")
        self._plug(self.outside, "out")
        run(inside(self.machine, "sh", "-ec", "ip address add 10.98.0.1/24 dev out && ip link set out up"))
        self._address(self.outside, "10.98.0.2/24", "10.98.0.1")
        serve(stack, self.other)

    def _plug(self, pid: int, name: str) -> None:
        run(inside(self.machine, "ip", "link", "add", name, "type", "veth", "peer", "name", "eth0", "netns", str(pid)))

    def _address(self, pid: int, address: str, gateway: str) -> None:
        script = f"ip link set lo up && ip address add {address} dev eth0 && ip link set eth0 up && ip route add default via {gateway}"
        run(inside(pid, "sh", "-ec", script))


@contextmanager
def _namespace() -> Iterator[int]:
    with subprocess.Popen(
        ["unshare", "--net", "sh", "-c", "echo && exec sleep 1000"], stdout=subprocess.PIPE
    ) as process:
        try:
            assert process.stdout is not None
            process.stdout.readline()
            yield process.pid
        finally:
            process.kill()


def network(side: Nsrun, runs: int) -> list[Figure]:
    """The figures of the pods' network."""
    machine = Machine.from_environment()
    assert machine is not None
    with ExitStack() as stack:
        bare = Bare(stack)
        client = stack.enter_context(side.connect())
        pods = [
            stack.enter_context(client.up(text))
            for text in (manifest("sending"), manifest("swallowing", hostPort=HOST_PORT))
        ]
        sending, swallowing = (_pid(side, pod) for pod in pods)
        serve(stack, swallowing)
        between = in_turn(
            runs,
            nsrun=lambda: rate(sending, str(pods[1].ip), PORT),
            bare=lambda: rate(bare.one, "10.99.0.3", PORT),
        )
        published = in_turn(
            runs,
            nsrun=lambda: rate(machine.outside_pid, testhost.HOST_ADDRESS, HOST_PORT),
            bare=lambda: rate(bare.outside, "10.99.0.3", PORT),
        )
    found = []
    for name, samples in (("pod to pod, one connection", between), ("from outside by a hostPort", published)):
        ours, theirs = samples["nsrun"], samples["bare"]
        # Of each round, whose two parts met the same machine.
        ratio = statistics.median(mine / other for mine, other in zip(ours.values, theirs.values, strict=True))
        found.append(
            Figure(
                name,
                "MB/s",
                theirs.median * ratio,
                "at least 0.95 of a bare bridge",
                ratio >= 0.95,
                "bare",
                theirs.median,
            )
        )
    return found


def _pid(side: Nsrun, pod: nsrun.Pod) -> int:
    shim = side.runtime(pod.name)["shim_pid"]
    return int(Path(f"/proc/{shim}/task/{shim}/children").read_text().split()[0])
