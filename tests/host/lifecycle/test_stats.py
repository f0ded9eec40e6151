"""What pods use, as the server tells it."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import socket
from collections import Counter

import pytest
from prometheus_client.parser import text_string_to_metric_families

import nsrun
from nsrun.cgroups import detect
from nsrun.cgroups.usage import keyed
from nsrun.client.stats import between
from tests.host.lifecycle.in_force import group
from tests.host.server.harness import Server, box, pod, until

pytestmark = [pytest.mark.requires("root", "overlay", "bridge"), pytest.mark.timeout(120)]

MIB = 1 << 20


def test_stats_pods_of_all_kinds(server: Server) -> None:
    limits = {"limits": {"cpu": "100m", "memory": "64Mi"}}
    server.up(
        pod(
            "busy", box("spin", "spin", "1000", resources=limits), box("holds", "alloc", "20", "1000", resources=limits)
        ),
        pod("idle", box("a", "pause")),
        pod("machine", box("a", "alloc", "30", "1000"), hostNetwork=True),
        pod("over", box("a", "true"), restartPolicy="Never"),
    )
    until(lambda: server.lines("busy", "holds") == ["ready"] == server.lines("machine", "a"))
    until(lambda: server.get("over")["status"]["phase"] == "Succeeded")
    with nsrun.connect(server.root) as client:
        found = {one["podRef"]["name"]: one for one in client.stats(containers=True, interval=0.6)}
        assert found.keys() == {"busy", "idle", "machine"}
        busy = found["busy"]
        assert busy["podRef"] == {"name": "busy", "namespace": "default", "uid": client.pod("busy").uid}
        # Of both containers together the quota is 200m, and one of them does nothing.
        assert 50e6 < busy["cpu"]["usageNanoCores"] < 200e6
        assert busy["cpu"]["limitNanoCores"] == 200_000_000
        assert busy["memory"]["limitBytes"] == 128 * MIB
        spin, holds = sorted(busy["containers"], key=lambda one: str(one["name"]), reverse=True)
        assert (spin["name"], holds["name"]) == ("spin", "holds")
        assert spin["cpu"]["throttling"]["share"] > 0.3
        assert spin["cpu"]["usageNanoCores"] > 50e6 > holds["cpu"]["usageNanoCores"]
        assert 20 * MIB <= holds["memory"]["workingSetBytes"] < 24 * MIB
        assert holds["memory"]["availableBytes"] == 64 * MIB - holds["memory"]["workingSetBytes"]
        assert holds["memory"]["rssBytes"] >= 20 * MIB > spin["memory"]["workingSetBytes"]
        assert busy["memory"]["workingSetBytes"] >= holds["memory"]["workingSetBytes"]
        assert busy["process_stats"] == {"process_count": 2, "thread_count": 2}
        assert holds["memory"]["oomKills"] == 0
        assert busy["network"]["name"] == "eth0"
        assert "network" not in found["machine"]
        assert "network" in found["machine"]["missing"]
        memory = found["machine"]["memory"]
        # Without a limit version 1's controller is not asked; version 2's counts for everybody.
        assert memory["workingSetBytes"] >= 30 * MIB
        assert memory.get("estimated", False) == ("memory" in found["machine"].get("missing", {}))
        assert "limitBytes" not in memory

        # What a pod receives is what the machine's end of its link sends: the numbers are the pod's.
        before = client.stats("idle", interval=0)
        ip = client.pod("idle").ip
        assert ip is not None
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((ip, 1), timeout=5)
        grown = client.stats("idle", interval=0)
        assert grown[0]["network"]["rxBytes"] > before[0]["network"]["rxBytes"]
        assert grown[0]["network"]["txBytes"] > before[0]["network"]["txBytes"]

        over = client.stats("over", interval=0)
        assert over[0]["missing"]["pod"].endswith("Succeeded")
        with pytest.raises(nsrun.NotFoundError):
            client.stats("nobody", interval=0)
        assert client.stats(namespace="elsewhere", interval=0) == []
        looks = client.watch_stats("busy", interval=0.1)
        assert sum(next(looks)[0]["cpu"]["usageNanoCores"] for _ in range(4)) > 0
        looks.close()  # type: ignore[attr-defined]

        # A server that has just taken over counts on: nothing is remembered in a process.
        first = client.stats("busy", interval=0)
        assert server.kill()
        second = client.stats("busy", interval=0)
        assert between(first, second)[0]["cpu"]["usageNanoCores"] >= 0

        async def asynchronously() -> list[dict[str, object]]:
            async with await nsrun.aconnect(server.root) as other:
                once = await other.stats("busy", containers=True, interval=0.2)
                async for again in other.watch_stats("busy", interval=0.1):
                    return [*once, *again]
            return []

        once, again = asyncio.run(asynchronously())
        # A tenth of a second may be one in which it waits for its quota.
        assert all("usageNanoCores" in one["cpu"] for one in (once, again))  # type: ignore[operator]

    # The command.
    printed = server.host.nsrun("pod", "stats", "--no-stream", "--sort-by", "cpu", "--interval", "200ms")
    lines = printed.stdout.splitlines()
    assert lines[0].split()[:2] == ["NAME", "CPU(cores)"]
    assert lines[1].split()[0] == "busy"
    assert len(lines) == 4
    parts = server.host.nsrun("pod", "stats", "busy", "--containers", "--no-headers", "--interval", "10ms").stdout
    assert [line.split()[:2] for line in parts.splitlines()] == [["busy", "holds"], ["busy", "spin"]]
    data = json.loads(server.host.nsrun("pod", "stats", "-o", "json", "--interval", "10ms").stdout)
    assert data["cpus"] >= 1
    assert {one["podRef"]["name"] for one in data["pods"]} == {"busy", "idle", "machine"}
    assert server.host.nsrun("pod", "stats", "nobody", check=False).returncode == 4


def get(where: str | int) -> dict[str, list[tuple[dict[str, str], float]]]:
    """The metrics at a port of loopback or at a socket's path: by name, labels and value of each."""
    connection = http.client.HTTPConnection("127.0.0.1", where if isinstance(where, int) else 80, timeout=20)
    if isinstance(where, str):
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.connect(where)
    connection.request("GET", "/metrics")
    response = connection.getresponse()
    text = response.read().decode()
    assert response.status == 200
    connection.close()
    found: dict[str, list[tuple[dict[str, str], float]]] = {}
    for family in text_string_to_metric_families(text):
        for one in family.samples:
            found.setdefault(one.name, []).append((one.labels, one.value))
    return found


def test_metrics_of_a_server(server: Server) -> None:
    path = str(server.host.scratch / "m.sock")
    limits = {"limits": {"cpu": "100m", "memory": "64Mi"}, "requests": {"cpu": "50m"}}
    server.up(pod("web", box("app", "alloc", "20", "1000", resources=limits), box("plain", "pause")))
    (server.root / "etc").mkdir(exist_ok=True)
    config = server.root / "etc" / "config.toml"
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        config.write_text(f'[metrics]\nlisten = ["127.0.0.1:{port}", "unix:{path}"]\n')
        assert server.kill()
        assert server.call("server.status").result["pods"] == 1, "the pods come first"
        until(lambda: server.call("server.status").result["metrics"][0]["error"])
        doctor = {one["name"]: one for one in server.call("doctor").result["checks"]}
        assert not doctor["metrics"]["ok"]
        assert "EADDRINUSE" in doctor["metrics"]["text"]
        found = get(path)
    own = {"namespace": "default", "pod": "web"}
    memory = {labels["container"]: value for labels, value in found["container_memory_working_set_bytes"]}
    assert memory["app"] >= 20 * MIB
    assert memory.keys() == {"", "app", "plain"}
    labels, _ = next(one for one in found["container_cpu_usage_seconds_total"] if one[0]["container"] == "app")
    instance = next(one["id"] for one in server.runtime("web")["instances"] if one["name"] == "app")
    uid = server.get("web")["metadata"]["uid"]
    assert labels == {
        **own, "container": "app", "cpu": "total", "image": "tests.local/testbox", "name": instance, "id": labels["id"]
    }  # fmt: skip
    assert labels["id"].endswith(f"/pod-{uid}/{instance}")
    spec = {labels["container"]: value for labels, value in found["container_spec_memory_limit_bytes"]}
    assert spec == {"": 0, "app": 64 * MIB, "plain": 0}
    assert [value for _, value in found["container_spec_cpu_quota"]] == [10_000]
    assert all(labels["interface"] == "eth0" for labels, _ in found["container_network_receive_bytes_total"])
    assert found["kubelet_running_pods"] == [({}, 1)]
    assert ({"container_state": "running"}, 2) in found["kubelet_running_containers"]
    assert found["process_resident_memory_bytes"][0][1] > 10 * MIB
    # What other servers leave of a socket is in nobody's way; the port is free by now.
    assert server.kill()
    server.call("server.ping")
    until(lambda: not any(one["error"] for one in server.call("server.status").result["metrics"]))
    until(lambda: get(port)["kubelet_running_pods"] == get(path)["kubelet_running_pods"] == [({}, 1)])
    config.write_text('[metrics]\nlisten = ["web:80"]\n')
    assert server.kill()
    refused = server.host.nsrun("pod", "ls", check=False)
    assert "metrics cannot be had at 'web:80'" in refused.stderr
    config.unlink()
    refused = server.host.nsrun("server", "start", "--metrics-listen", ":9", check=False)
    assert (refused.returncode, "config.toml" in refused.stderr) == (2, True)
    server.start("--metrics-listen", f"unix:{path}")
    until(lambda: [one["address"] for one in server.call("server.status").result["metrics"]] == [f"unix:{path}"])
    server.down("web")
    assert "container_processes" not in get(path)


def test_S_OOM_S_CGROUP_what_each_version_of_cgroups_does(server: Server) -> None:
    """Version 2 counts all of every pod, and who is killed for want of memory takes its container along; version 1 kills one process."""
    pure = detect().kind == "v2"
    small = {"limits": {"cpu": "200m", "memory": "24Mi"}}
    server.up(
        pod("bare", box("a", "alloc", "20", "1000")),
        pod("child", box("a", "seq", "alloc", "100", ";", "pause", resources=small), restartPolicy="Never"),
        wait="none",
    )
    until(lambda: server.lines("bare", "a") == ["ready"], 60)
    assert server.host.cgroup_base is not None
    until(
        lambda: server.lines("child", "a")[-1:] == ["== pause"] or server.get("child")["status"]["phase"] == "Failed",
        60,
    )
    state = server.container("child", "a")["state"]
    if not pure:
        assert state.keys() == {"running"}
        return
    until(lambda: server.get("child")["status"]["phase"] == "Failed", 60)
    ended = server.container("child", "a")["state"]["terminated"]
    assert (ended["exitCode"], ended["reason"]) == (137, "OOMKilled"), "memory.oom.group"
    with nsrun.connect(server.root) as client:
        (bare,) = client.stats("bare", containers=True, interval=1)
    for one in (bare, *bare["containers"]):
        assert "missing" not in one
        assert 20 * MIB <= one["memory"]["workingSetBytes"] < 26 * MIB
        assert "estimated" not in one["memory"]
        assert one["process_stats"] == {"process_count": 1, "thread_count": 1}
        assert one["diskIO"]["readBytes"] >= 0
        assert one["memory"]["oomKills"] == 0
    own = group(server, "bare", "a").unified
    assert (own / "pids.max").read_text().strip() == "max"

    # What is written reaches the disk later; it counts for who wrote it, not for who sees to that.
    assert server.run("bare", "/bin/write", "/file", "x" * 100_000)[0] == 0
    os.sync()
    path = str(server.host.scratch / "m.sock")
    assert server.kill()
    server.start("--metrics-listen", f"unix:{path}")
    until(lambda: [one["address"] for one in server.call("server.status").result["metrics"]] == [f"unix:{path}"])

    def counted() -> dict[str, float]:
        """What the kernel's files say, as the metrics are called."""
        cpu, stat, events = (keyed((own / name).read_text()) for name in ("cpu.stat", "memory.stat", "memory.events"))
        io: Counter[str] = Counter()
        for line in (own / "io.stat").read_text().splitlines():
            io.update({key: int(value) for key, _, value in (word.partition("=") for word in line.split()[1:])})
        current = int((own / "memory.current").read_text())
        return {
            "cpu_usage_seconds_total": cpu["usage_usec"] / 1e6,
            "memory_usage_bytes": current,
            "memory_working_set_bytes": current - stat["inactive_file"],
            "memory_rss": stat["anon"],
            "memory_cache": stat["file"],
            "oom_events_total": events["oom_kill"],
            "threads": int((own / "pids.current").read_text()),
            "fs_writes_bytes_total": io["wbytes"],
            "fs_writes_total": io["wios"],
        }

    before, found, after = counted(), get(path), counted()
    for name in before:
        (told,) = [
            value
            for labels, value in found[f"container_{name}"]
            if (labels["pod"], labels["container"]) == ("bare", "a")
        ]
        assert min(before[name], after[name]) <= told <= max(before[name], after[name]), name
    assert before["fs_writes_bytes_total"] >= 100_000
    assert before["memory_rss"] >= 20 * MIB
