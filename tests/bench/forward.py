"""port-forward beside socat: bytes a second, and the time of a message there and back."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import nsrun
from tests.bench.measure import Figure, Sample, in_turn
from tests.bench.nsrun_side import NSRUN, Nsrun

PEER = Path(__file__).parents[1] / "host" / "forward" / "peer.py"
ECHO, SOURCE = 7001, 7003
BYTES = 1_000_000_000
MESSAGES = 1000


def manifest() -> str:
    """A pod whose server listens on all addresses: socat comes over its address."""
    container = {
        "name": "peer",
        "image": "nsrun.local/host",
        "command": ["python3", "-c", PEER.read_text(encoding="utf-8")],
        "env": [{"name": "LISTEN", "value": "0.0.0.0"}],
        "readinessProbe": {"tcpSocket": {"port": SOURCE}, "periodSeconds": 1},
    }
    spec = {"terminationGracePeriodSeconds": 0, "containers": [container]}
    return json.dumps({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "peer"}, "spec": spec})


def rate(port: int) -> float:
    """MB/s that come through a port."""
    buffer = bytearray(1 << 20)
    with socket.create_connection(("127.0.0.1", port)) as sock:
        begun, left = time.monotonic(), BYTES
        sock.sendall(b"%d\n" % BYTES)
        while count := sock.recv_into(buffer):
            left -= count
        assert not left
        return BYTES / (time.monotonic() - begun) / 1e6


def round_trip(port: int) -> float:
    """Microseconds of one byte there and back, on a connection that is open; the median of many."""
    times = []
    with socket.create_connection(("127.0.0.1", port)) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for _ in range(MESSAGES):
            begun = time.perf_counter()
            sock.sendall(b"x")
            sock.recv(1)
            times.append(time.perf_counter() - begun)
    return sorted(times)[MESSAGES // 2] * 1e6


def connection(port: int) -> float:
    """Microseconds to connect, send a byte, get it back; the median of a hundred."""
    times = []
    for _ in range(100):
        begun = time.perf_counter()
        with socket.create_connection(("127.0.0.1", port)) as sock:
            sock.sendall(b"x")
            sock.recv(1)
        times.append(time.perf_counter() - begun)
    return sorted(times)[50] * 1e6


@contextmanager
def forwarded(side: Nsrun, pod: nsrun.Pod) -> Iterator[dict[str, dict[int, int]]]:
    """Ports of this machine for each contender: inside -> local."""
    command = subprocess.Popen(
        [NSRUN, "--root", str(side.root), "pod", "port-forward", pod.name, f":{ECHO}", f":{SOURCE}"],
        stdout=subprocess.PIPE,
        text=True,
    )
    processes: list[subprocess.Popen[str]] = [command]
    try:
        ports: dict[str, dict[int, int]] = {"nsrun": {}}
        assert command.stdout is not None
        for line in (command.stdout.readline() for _ in range(4)):
            where, _, there = line.removeprefix("Forwarding from ").strip().partition(" -> ")
            ports["nsrun"][int(there)] = int(where.rsplit(":", 1)[1])
        # Nobody reads its lines from here on: they go where there is no end.
        processes.append(subprocess.Popen(["cat"], stdin=command.stdout, stdout=subprocess.DEVNULL, text=True))
        if shutil.which("socat"):
            ports["socat"] = {}
            for inside in (ECHO, SOURCE):
                local = ports["socat"][inside] = 19000 + inside
                processes.append(
                    subprocess.Popen(
                        ["socat", f"TCP-LISTEN:{local},fork,reuseaddr,nodelay", f"TCP:{pod.ip}:{inside},nodelay"],
                        text=True,
                    )
                )
            time.sleep(0.3)
        else:
            print("socat is not installed: no figures beside its own", file=sys.stderr)
        yield ports
    finally:
        for process in processes:
            process.terminate()
            process.wait()


def forward(side: Nsrun, runs: int) -> list[Figure]:
    """The figures of port-forward."""
    with side.connect() as client, client.up(manifest()) as pod:
        pod.wait_ready(30)
        with forwarded(side, pod) as ports:
            rates = in_turn(max(3, runs // 3), **{name: lambda at=at: rate(at[SOURCE]) for name, at in ports.items()})
            trips = in_turn(runs, **{name: lambda at=at: round_trip(at[ECHO]) for name, at in ports.items()})
            opens = in_turn(runs, **{name: lambda at=at: connection(at[ECHO]) for name, at in ports.items()})
    return [
        figure("port-forward, one connection", "MB/s", rates, "at least 1.5 times socat's", 1.5, more=True),
        figure("port-forward, a byte there and back", "µs", trips, "at most socat's", 1.0),
        figure("port-forward, new connection", "µs", opens, "at most socat's", 1.0),
    ]


def figure(name: str, unit: str, samples: dict[str, Sample], wanted: str, bound: float, more: bool = False) -> Figure:
    """A row beside socat's."""
    ours = samples["nsrun"].median
    theirs = samples["socat"].median if "socat" in samples else None
    holds = None if theirs is None else (ours >= bound * theirs if more else ours <= bound * theirs)
    return Figure(name, unit, ours, wanted, holds, "socat", theirs)
