"""Probes in numbers and against servers that do not behave: nothing else of the server suffers."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from itertools import pairwise
from typing import Any

import pytest

from tests.bench.measure import resident_kb
from tests.host.lifecycle.test_probes import command, get, messages, requests
from tests.host.server.harness import Server, box, pod, until

pytestmark = pytest.mark.timeout(120)


def hanging(name: str) -> dict[str, Any]:
    """A pod whose probes take all the time that they are given: 3 HTTP, 2 exec."""
    slow = {"timeoutSeconds": 20, "failureThreshold": 100}
    webs = [box(f"web-{n}", "httpd", str(80 + n), livenessProbe=get("/hang", 80 + n, **slow)) for n in range(3)]
    sleepers = [box(f"sleep-{n}", "pause", livenessProbe=command("sleep", "1000", **slow)) for n in range(2)]
    return pod(name, *webs, *sleepers)


def pid(server: Server) -> int:
    """The server's process."""
    return int(server.call("server.status").result["pid"])


def descriptors(server: Server) -> int:
    """How many the server has open."""
    return len(os.listdir(f"/proc/{pid(server)}/fd"))


@pytest.mark.quiet
def test_S_PROBE_probes_that_hang_delay_nobody_and_give_everything_back(server: Server) -> None:
    server.up(
        pod("first", box("web", "httpd", "80", livenessProbe=get("/alive"), readinessProbe=get("/x"))), wait="ready"
    )
    names = [f"slow-{n}" for n in range(6)]
    server.up(*map(hanging, names))
    until(lambda: all(requests(server, name, f"web-{n}", "/hang") for name in names for n in range(3)))
    busy, memory = descriptors(server), resident_kb(pid(server))
    begun = time.monotonic()
    server.up(pod("second", box("web", "httpd", "80", readinessProbe=get("/ready"))), wait="ready")
    assert time.monotonic() - begun < 3
    slowest = 0.0
    for _ in range(30):
        begun = time.monotonic()
        server.call("server.ping")
        slowest = max(slowest, time.monotonic() - begun)
        time.sleep(0.05)
    assert slowest < 0.5
    asked = requests(server, "first", "web", "/alive")
    assert len(asked) >= 2
    assert max(later - earlier for earlier, later in pairwise(asked)) < 1.5, "the ticks are kept"
    assert resident_kb(pid(server)) - memory < 10_000
    # A connection for HTTP; two pipes and a status socket for exec.
    assert descriptors(server) <= busy + 20
    server.down(*names, "second")
    until(lambda: descriptors(server) <= busy - 6 * (3 + 2 * 3), what="what the probes held is given back")


@pytest.mark.quiet
def test_S_PROBE_commands_that_print_without_end_cost_the_server_little(server: Server) -> None:
    loud = command("lines", "1000000000", "200", timeoutSeconds=3, failureThreshold=100, periodSeconds=4)
    server.up(pod("loud", box("web", "pause", livenessProbe=loud)))
    until(lambda: messages(server, "loud", "Unhealthy"))
    number = pid(server)
    memory, spent, begun = resident_kb(number), _cpu(number), time.monotonic()
    time.sleep(4.0)
    assert (_cpu(number) - spent) / (time.monotonic() - begun) < 0.5
    assert resident_kb(number) - memory < 10_000
    (text,) = messages(server, "loud", "Unhealthy")
    assert text == 'Liveness probe failed: command timed out: "/bin/lines 1000000000 200" timed out after 3s'


def _cpu(number: int) -> float:
    with open(f"/proc/{number}/stat", encoding="ascii") as file:
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_S_PROBE_grpc_of_a_pod_on_the_hosts_network(server: Server) -> None:
    port = 17171
    health = subprocess.Popen(
        [sys.executable, "-m", "tests.host.probes.health", str(port)], stdout=subprocess.PIPE, env=server.environment
    )
    try:
        assert health.stdout is not None
        assert health.stdout.readline() == b"ready\n"
        good = box("good", "pause", readinessProbe={"grpc": {"port": port}, "periodSeconds": 1})
        bad = box("bad", "pause", readinessProbe={"grpc": {"port": port, "service": "db"}, "periodSeconds": 1})
        server.up(pod("p", good, bad, hostNetwork=True))
        until(lambda: server.container("p", "good")["ready"])
        until(lambda: messages(server, "p", "Unhealthy"))
        assert messages(server, "p", "Unhealthy") == [
            'Readiness probe failed: service unhealthy (responded with "NOT_SERVING")'
        ]
        health.kill()
        health.wait()
        until(lambda: not server.container("p", "good")["ready"])
        ip = server.get("p")["status"]["hostIP"]
        assert (
            f'Readiness probe failed: timeout: failed to connect service "{ip}:{port}" within 1s: context deadline exceeded'
            in messages(server, "p", "Unhealthy")
        )
    finally:
        health.kill()
        health.wait()
        assert health.stdout is not None
        health.stdout.close()
