"""What probes cost the server: many pods at the default period, 500 runs a second, and how soon a verdict is known."""

from __future__ import annotations

import json
import threading
import time
from typing import Any

import nsrun
from tests.bench.measure import Figure, Sample, cpu_s, resident_kb
from tests.bench.nsrun_side import Nsrun

WATCHED_S = 20.0
"""How long the server's processor time is looked at."""

Json = dict[str, Any]


def probed(name: str, *command: str, **probes: Json) -> str:
    """A pod with one container that has these probes."""
    container = {
        "name": "a",
        "image": "bench",
        "imagePullPolicy": "Never",
        "command": ["/bin/testbox", *command],
        **{f"{kind}Probe": probe for kind, probe in probes.items()},
    }
    spec = {"terminationGracePeriodSeconds": 0, "containers": [container]}
    return json.dumps({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec})


def http(**numbers: int) -> Json:
    """A probe of the container's own server."""
    return {"httpGet": {"path": "/", "port": 80}, **numbers}


def up(client: nsrun.Client, manifests: list[str]) -> None:
    """Bring pods up, ten at a time, and wait until all are ready."""
    for first in range(0, len(manifests), 10):
        client.up_all("\n---\n".join(manifests[first : first + 10]))
    end = time.monotonic() + 120
    while not all(ready(pod) for pod in client.pods()):
        if time.monotonic() > end:
            raise TimeoutError("not all of the probed pods are ready")
        time.sleep(0.2)


def ready(pod: Json) -> bool:
    """Whether a Pod's condition Ready is True."""
    conditions = pod["status"].get("conditions", [])
    return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)


def load(side: Nsrun) -> tuple[float, float]:
    """(processor time of the server per second, its resident memory in KiB) over WATCHED_S seconds."""
    pid = side.server_pid()
    time.sleep(2.0)
    before, begun = cpu_s(pid), time.monotonic()
    time.sleep(WATCHED_S)
    return (cpu_s(pid) - before) / (time.monotonic() - begun), resident_kb(pid)


def many(side: Nsrun, pods: int) -> list[Figure]:
    """Pods with all three probes and the default period."""
    with side.connect() as client:
        probes = {"startup": http(periodSeconds=1), "readiness": http(), "liveness": http()}
        up(client, [probed(f"probed-{number}", "httpd", "80", **probes) for number in range(pods)])
        share, memory = load(side)
        client.down(*(f"probed-{number}" for number in range(pods)), grace_period=0, force=True)
    return [
        Figure(f"{pods} pods, 3 probes each: server", "% of a core", share * 100, "at most 25", share <= 0.25),
        Figure(f"{pods} pods, 3 probes each: server, resident", "KiB", memory, "at most 120 MB", memory <= 120_000),
    ]


def often(side: Nsrun, name: str, wanted: str, runs: int, manifests: list[str], limit: float | None) -> Figure:
    """Processor time of the server per run when each of the pods is probed `runs` times a second."""
    with side.connect() as client:
        up(client, manifests)
        share, _ = load(side)
        names = [json.loads(one)["metadata"]["name"] for one in manifests]
        client.down(*names, grace_period=0, force=True)
    rate = runs * len(manifests)
    holds = None if limit is None else share <= limit
    return Figure(f"{rate} {name} probes a second: server", "% of a core", share * 100, wanted, holds)


def published(side: Nsrun, runs: int) -> list[Figure]:
    """From the request that a container sees to the condition Ready that a watcher sees."""
    values: list[float] = []
    with side.connect() as client, side.connect() as watcher:
        seen: dict[str, float] = {}

        def watch() -> None:
            try:
                for change in watcher.watch():
                    name = change.object["metadata"]["name"]
                    if change.type != "DELETED" and name not in seen and ready(change.object):
                        seen[name] = time.time()
            except (OSError, nsrun.NsrunError):
                return

        thread = threading.Thread(target=watch, daemon=True)
        thread.start()
        for number in range(runs + 1):
            name = f"soon-{number}"
            client.up(
                probed(
                    name, "httpd", "80", readiness={**http(periodSeconds=60), "httpGet": {"path": "/time", "port": 80}}
                )
            )
            end = time.monotonic() + 10
            while name not in seen:
                if time.monotonic() > end:
                    raise TimeoutError(f"{name} did not become ready")
                time.sleep(0.005)
            log = f"{client.pod(name).runtime['log_directory']}/a/0.log"
            while not (asked := _asked(log)):
                time.sleep(0.005)
            values.append((seen[name] - asked[0]) * 1e3)
            client.down(name, grace_period=0, force=True)
    sample = Sample("ready", tuple(values[1:]))
    return [
        Figure(
            "request of a readiness probe to Ready", "ms", sample.median, "at most 5 ms", sample.median <= 5,
            samples=[sample],
        )
    ]  # fmt: skip


def _asked(log: str) -> list[float]:
    """The times at which the server in the container was asked, by its own log."""
    with open(log, encoding="ascii") as file:
        return [float(line.split()[-1]) for line in file if " F at " in line]


def execs(side: Nsrun, pods: int) -> list[Figure]:
    """Exec probes: the server's processor time, and what one run takes in all of the processes together."""
    probe = {"exec": {"command": ["/bin/testbox", "true"]}, "periodSeconds": 1}
    manifests = [probed(f"exec-{number}", "sleep", "1000", readiness=probe, liveness=probe) for number in range(pods)]
    figure = often(side, "exec", "for scale", 2, manifests, None)
    each = figure.value / 100 / (2 * pods) * 1e3
    return [figure, Figure("one exec probe: server", "ms of CPU", each, "for scale", None)]


def probes(side: Nsrun, runs: int, pods: int) -> list[Figure]:
    """All of it.

    Args:
        side: with the test image as `bench`.
        runs: of what is measured one by one.
        pods: how many are probed at the default period.
    """
    web = {"readiness": http(periodSeconds=1), "liveness": http(periodSeconds=1)}
    port = {"tcpSocket": {"port": 80}, "periodSeconds": 1}
    return [
        *published(side, max(runs, 5)),
        *many(side, pods),
        often(
            side, "HTTP", "at most 20", 2, [probed(f"web-{n}", "httpd", "80", **web) for n in range(250)], 0.20
        ),
        often(
            side, "TCP", "at most 20", 2,
            [probed(f"tcp-{n}", "httpd", "80", readiness=port, liveness=port) for n in range(250)], 0.20,
        ),
        *execs(side, 50),
    ]  # fmt: skip
