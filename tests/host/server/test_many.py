"""Many pods at once, one after the other without growth, and several clients at the same pod. NSRUN_SOAK=1: more of them."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import threading
import time
from pathlib import Path

import pytest

from nsrun.errors import ConflictError, NotFoundError, NsrunError
from tests.chance import SEED
from tests.host.server.harness import Server, box, pod, until

MANY = 100
SOAK = 1000 if os.environ.get("NSRUN_SOAK") else 200
WARM_UP = 60


def memory(pid: int) -> int:
    """Private bytes of a process."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii")
    return 1024 * sum(int(line.split()[1]) for line in text.splitlines() if line.startswith("Private_"))


def kernel_objects(server: Server) -> dict[str, int]:
    """What could grow: descriptors, links, mounts, cgroups, processes, leases, entries of the state directory."""
    assert server.process is not None
    base = server.host.cgroup_base
    return {
        "descriptors": len(os.listdir(f"/proc/{server.process.pid}/fd")),
        "links": len(os.listdir("/sys/class/net")),
        "mounts": len(Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines()),
        "cgroups": len(list(base.iterdir())) if base is not None and base.exists() else 0,
        "processes": sum(entry.isdigit() for entry in os.listdir("/proc")),
        "leases": len(os.listdir(server.root / "lib" / "leases")),
        "pods": len(os.listdir(server.root / "run" / "pods")),
        "logs": len(os.listdir(server.root / "log" / "pods")),
    }


@pytest.mark.timeout(240)
def test_a_hundred_pods_at_once(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    assert server.process is not None
    server.up(pod("warm", box("a", "pause")))
    before_memory = memory(server.process.pid)
    begun = time.monotonic()
    answer = server.up(
        *(pod(f"p{number}", box("a", "pause"), box("b", "pause")) for number in range(MANY)), timeout_s=120
    )
    up_s = time.monotonic() - begun
    assert len(answer["pods"]) == MANY
    listed = server.call("pod.list").result
    assert [one["ready"] for one in listed["columns"]] == ["2/2"] * MANY + ["1/1"]
    addresses = [one["status"]["podIP"] for one in listed["pods"]]
    assert len(set(addresses)) == MANY + 1
    each = (memory(server.process.pid) - before_memory) / MANY
    shims = [memory(server.runtime(f"p{number}")["shim_pid"]) for number in range(0, MANY, 10)]
    assert server.run("p99", "/bin/true")[0] == 0
    # A new server takes all of them over.
    pids = {one: server.runtime(one)["instances"][0]["pid"] for one in ("p0", "p50", "p99")}
    server.kill()
    begun = time.monotonic()
    server.start()
    server.call("pod.list")
    adopt_s = time.monotonic() - begun
    assert {one: server.runtime(one)["instances"][0]["pid"] for one in pids} == pids
    begun = time.monotonic()
    server.call("pod.down", all=True, grace_period_s=0, timeout_s=120)
    down_s = time.monotonic() - begun
    assert server.names() == []
    with capsys.disabled():
        print(
            f"\n  {MANY} pods: up {up_s:.1f} s, adopted in {adopt_s:.1f} s, down {down_s:.1f} s;"
            f" server {each / 1000:.0f} kB a pod, shim {max(shims) / 1000:.0f} kB at most",
            flush=True,
        )
    assert each < 100_000
    assert max(shims) < 400_000


@pytest.mark.timeout(900)
def test_nothing_grows_from_pod_to_pod(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    """SOAK pods one after the other; what there is after the first WARM_UP is what there is at the end."""
    assert server.process is not None
    manifest = pod("web", box("a", "pause"), box("b", "lines", "10"), restartPolicy="Never")
    begun, before, before_memory = time.monotonic(), {}, 0
    for number in range(SOAK):
        server.up(manifest)
        server.run("web", "/bin/true", container="a")
        server.down("web")
        if number == min(WARM_UP, SOAK // 2):
            time.sleep(1.5)
            before, before_memory = kernel_objects(server), memory(server.process.pid)
    time.sleep(1.5)
    after, after_memory = kernel_objects(server), memory(server.process.pid)
    with capsys.disabled():
        each_ms = (time.monotonic() - begun) / SOAK * 1000
        print(
            f"\n  {SOAK} pods, {each_ms:.0f} ms each; server {before_memory / 1e6:.1f} MB -> {after_memory / 1e6:.1f} MB",
            flush=True,
        )
    assert after == before
    assert server.process is not None
    assert len(os.listdir(f"/proc/{server.process.pid}/task")) <= 8
    assert after_memory - before_memory < 2_000_000 + SOAK * 1000


@pytest.mark.timeout(120)
def test_two_clients_at_the_same_pod(server: Server) -> None:
    """Whatever the order, each is told the truth, and there is never more than one pod of the name."""
    print(f"NSRUN_SEED={SEED}")
    problems: list[BaseException] = []
    most = [0]
    over = threading.Event()

    def client(seed: int) -> None:
        chance = random.Random(seed)
        try:
            while not over.is_set():
                with contextlib.suppress(ConflictError, NotFoundError):
                    match chance.randrange(4):
                        case 0:
                            server.up(pod("web", box("a", "pause")), wait="none")
                        case 1:
                            server.up(
                                pod("web", box("a", "sleep", str(chance.randrange(1000, 9000)))),
                                replace=True,
                                wait="none",
                            )
                        case 2:
                            server.down("web", wait=chance.random() < 0.7)
                        case 3:
                            server.down("web", missing_ok=True)
                most[0] = max(most[0], len(server.names()))
        except BaseException as error:
            problems.append(error)

    threads = [threading.Thread(target=client, args=(SEED + number,), daemon=True) for number in range(2)]
    for thread in threads:
        thread.start()
    time.sleep(8)
    over.set()
    for thread in threads:
        thread.join(40)
        assert not thread.is_alive()
    assert not problems, problems
    assert most[0] == 1
    server.down("web", missing_ok=True)
    assert os.listdir(server.root / "run" / "pods") == []


@pytest.mark.timeout(120)
def test_a_killed_client_leaves_nothing_half_made(server: Server) -> None:
    print(f"NSRUN_SEED={SEED}")
    chance = random.Random(SEED)
    manifest = server.host.scratch / "pod.json"
    import json

    manifest.write_text(json.dumps(pod("web", box("a", "pause"), terminationGracePeriodSeconds=0)), encoding="utf-8")
    for words in (["pod", "up", str(manifest)], ["pod", "down", "web"]) * 10:
        client = subprocess.Popen(
            server.host.nsrun_argv(*words),
            env=server.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        time.sleep(chance.uniform(0.02, 0.25))
        client.send_signal(signal.SIGKILL)
        client.wait()
        try:
            going = server.get("web")["metadata"].get("deletionTimestamp")
        except NotFoundError:
            continue
        if going:
            until(lambda: "web" not in server.names())
        else:
            server.wait("web", "condition=Ready")
            assert server.container("web", "a")["restartCount"] == 0
    with contextlib.suppress(NsrunError):
        server.down("web")
    assert server.names() == []
    assert os.listdir(server.root / "run" / "pods") == []
