"""The Kubernetes API: how soon a pod runs, reads a second, and what many watches of many changes cost."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import resource
import subprocess
import time
from pathlib import Path
from typing import Any

from tests.bench.measure import Figure, Sample
from tests.bench.nsrun_side import NSRUN, Nsrun

PODS = "/api/v1/namespaces/default/pods"
MAP = "/api/v1/namespaces/default/configmaps/changing"
SECONDS = 3.0
WATCHES = 500
CHANGES = 500
RATE = 100
CLIENTS = 16
CLUSTER_MS = 640.0
"""Create to Running on a kubelet and API server of v1.36."""


class Served:
    """`nsrun api serve` in the clear."""

    def __init__(self, root: Path) -> None:
        self.process = subprocess.Popen(
            [NSRUN, "--root", str(root), "api", "serve", "--listen", "127.0.0.1:0", "--insecure-http"],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        self.port = int(self.process.stdout.readline().rsplit(":", 1)[1])
        self.connection = http.client.HTTPConnection("127.0.0.1", self.port)
        while self.ask("GET", "/readyz")[0] != 200:
            time.sleep(0.02)

    def ask(self, method: str, path: str, body: object = None) -> tuple[int, bytes]:
        """One request on the one connection."""
        data = None if body is None else json.dumps(body)
        self.connection.request(method, path, body=data, headers={"Content-Type": "application/json"})
        answer = self.connection.getresponse()
        return answer.status, answer.read()

    def cpu_s(self) -> float:
        """Seconds of processors that it has had."""
        words = Path(f"/proc/{self.process.pid}/stat").read_text(encoding="ascii").rsplit(")", 1)[1].split()
        return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")

    def memory_mb(self) -> float:
        """What it has in memory."""
        lines = Path(f"/proc/{self.process.pid}/status").read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS"))

    def close(self) -> None:
        """End it."""
        self.connection.close()
        self.process.terminate()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()


def pod(name: str) -> dict[str, Any]:
    container = {
        "name": "c",
        "image": "nsrun.local/host",
        "imagePullPolicy": "IfNotPresent",
        "command": ["sleep", "1000"],
    }
    return {"metadata": {"name": name}, "spec": {"terminationGracePeriodSeconds": 0, "containers": [container]}}


def until_running(served: Served, name: str) -> float:
    """Milliseconds from the request that makes a pod to the event of a watch that says that it runs."""
    version = json.loads(served.ask("GET", PODS)[1])["metadata"]["resourceVersion"]
    watch = http.client.HTTPConnection("127.0.0.1", served.port)
    watch.request("GET", f"{PODS}?watch=1&resourceVersion={version}&timeoutSeconds=20")
    events = watch.getresponse()
    began = time.perf_counter()
    served.ask("POST", PODS, pod(name))
    for line in events:
        if json.loads(line)["object"]["status"].get("phase") == "Running":
            break
    took = (time.perf_counter() - began) * 1000
    watch.close()
    served.ask("DELETE", f"{PODS}/{name}?gracePeriodSeconds=0")
    return took


async def reading(port: int, path: str) -> float:
    """Answers a second to several clients."""
    count = 0
    end = time.perf_counter() + SECONDS

    async def client() -> None:
        nonlocal count
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        request = f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
        while time.perf_counter() < end:
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length"))
            await reader.readexactly(int(length.split(b":")[1]))
            count += 1
        writer.close()

    await asyncio.gather(*(client() for _ in range(CLIENTS)))
    return count / SECONDS


async def watching(served: Served) -> float:
    """Processors that the API needs while many watch and much changes."""
    heard = ready = 0
    all_ready, all_heard = asyncio.Event(), asyncio.Event()

    async def watcher() -> None:
        nonlocal heard, ready
        reader, writer = await asyncio.open_connection("127.0.0.1", served.port, limit=2**20)
        writer.write(b"GET /api/v1/configmaps?watch=1&timeoutSeconds=120 HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await reader.readuntil(b"\r\n\r\n")
        ready += 1
        if ready == WATCHES:
            all_ready.set()
        try:
            while data := await reader.read(1 << 20):
                heard += data.count(b'"type":"MODIFIED"')
                # A change that lies on both sides of two reads is counted by none: nearly all is all.
                if heard >= WATCHES * CHANGES * 0.99:
                    all_heard.set()
        finally:
            writer.close()

    tasks = [asyncio.create_task(watcher()) for _ in range(WATCHES)]
    await all_ready.wait()
    before, began = served.cpu_s(), time.perf_counter()

    def change() -> None:
        for number in range(CHANGES):
            served.ask("PUT", MAP, {"metadata": {"name": "changing"}, "data": {"n": str(number)}})
            time.sleep(max(0.0, began + number / RATE - time.perf_counter()))

    await asyncio.to_thread(change)
    used = (served.cpu_s() - before) / (time.perf_counter() - began)
    async with asyncio.timeout(60):
        await all_heard.wait()
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return used


def api(side: Nsrun, runs: int) -> list[Figure]:
    """The figures."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(4096, hard), hard))
    served = Served(side.root)
    try:
        idle = served.memory_mb()
        until_running(served, "first")
        took = Sample("create to Running", tuple(until_running(served, f"pod{number}") for number in range(runs)))
        served.ask("POST", PODS, pod("read"))
        answers = asyncio.run(reading(served.port, f"{PODS}/read"))
        served.ask("DELETE", f"{PODS}/read?gracePeriodSeconds=0")
        served.ask("POST", MAP.rpartition("/")[0], {"metadata": {"name": "changing"}})
        cores = asyncio.run(watching(served))
        served.ask("DELETE", MAP)
    finally:
        served.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return [
        Figure(
            "Kubernetes API: create to Running, seen by a watch", "ms", took.median, "at most 25", took.median <= 25,
            "a cluster of one node", CLUSTER_MS, [took],
        ),
        Figure("Kubernetes API: GETs of a pod", "1/s", answers, "at least 1000", answers >= 1000),
        Figure(f"Kubernetes API: {WATCHES} watches, {RATE} changes a second", "cores", cores, "at most 1", cores <= 1),
        Figure("Kubernetes API: memory of the process, idle", "MB", idle, "at most 80", idle <= 80),
    ]  # fmt: skip
