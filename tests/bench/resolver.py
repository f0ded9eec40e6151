"""The resolver: answers a second to a pod, and how long one takes."""

from __future__ import annotations

import json
import statistics
from pathlib import Path

from tests.bench.measure import Figure
from tests.bench.nsrun_side import POD, Nsrun

NAMES = 50
SECONDS = 3.0
WINDOW = 16

ASKER = """
import json, os, select, socket, sys, time
at, names, seconds, window = json.loads(sys.argv[1])
def query(name):
    labels = b"".join(bytes((len(one),)) + one.encode() for one in name.split("."))
    return b"\\1\\0\\0\\1\\0\\0\\0\\0\\0\\0" + labels + b"\\0\\0\\1\\0\\1"
queries = [query(name) for name in names]
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sock.connect((at, 53))
sock.settimeout(5)
def load(seconds, window):
    sent, times, number, lost = {}, [], 0, 0
    end = time.perf_counter() + seconds
    def ask():
        nonlocal number
        number = (number + 1) & 0xFFFF
        sent[number] = time.perf_counter()
        sock.send(number.to_bytes(2, "big") + queries[number % len(queries)])
    for _ in range(window):
        ask()
    while sent and time.perf_counter() < end:
        answer = sock.recv(2048)
        assert answer[3] & 15 == wanted, answer
        times.append(time.perf_counter() - sent.pop(int.from_bytes(answer[:2], "big")))
        ask()
    while sent:
        sent.pop(int.from_bytes(sock.recv(2048)[:2], "big"))
    times.sort()
    return len(times) / seconds, times[len(times) // 2] * 1e6, times[len(times) * 99 // 100] * 1e6
wanted = 0
load(0.3, window)
many, one = load(seconds, window), load(seconds / 3, 1)
# Names that nobody has, each asked once: nothing of it can be remembered.
wanted = 3
queries = [query("n%d-%d.default.svc.cluster.local" % (os.getpid(), number)) for number in range(20000)]
fresh = load(seconds / 3, window)
print(json.dumps([many, one, fresh]))
"""


def private_kb(pid: int) -> float:
    """Memory that a process has for itself."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines()
    return float(sum(int(line.split()[1]) for line in lines if line.startswith("Private_")))


def resolver(side: Nsrun, runs: int) -> list[Figure]:
    """The figures of the resolver."""
    with side.connect() as client:
        made = [f"named-{number}" for number in range(NAMES)]
        for name in made:
            client.up(POD.format(name=name))
        asker = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "asker"},
            "spec": {"containers": [{"name": "c", "image": "nsrun.local/host", "command": ["sleep", "1000"]}]},
        }
        pod = client.up(json.dumps(asker))
        names = json.loads((side.root / "run" / "dns" / "names.json").read_text())
        words = [names["addresses"][0], [f"{name}.default.svc.cluster.local" for name in made], SECONDS, WINDOW]
        found = [
            json.loads(pod.exec(["python3", "-c", ASKER, json.dumps(words)]).stdout) for _ in range(max(3, runs // 3))
        ]
        about = json.loads(side("server", "status", "-o", "json"))["dns"]
        memory = private_kb(about["pid"])
        client.down("asker", *made, grace_period=0, force=True)
    rate, _, p99 = (statistics.median(run[0][place] for run in found) for place in range(3))
    alone, alone99 = (statistics.median(run[1][place] for run in found) for place in (1, 2))
    new, new99 = (statistics.median(run[2][place] for run in found) for place in (0, 2))
    return [
        Figure(f"resolver, answers a second, {WINDOW} under way", "/s", rate, "at least 5000", rate >= 5000),
        Figure("the same, p99", "µs", p99, "at most 5000 µs", p99 <= 5000),
        Figure("resolver, one at a time", "µs", alone, "for scale", None),
        Figure("the same, p99", "µs", alone99, "at most 5000 µs", alone99 <= 5000),
        Figure("resolver, names that nobody asked before", "/s", new, "for scale", None),
        Figure("the same, p99", "µs", new99, "at most 5000 µs", new99 <= 5000),
        Figure("resolver, private memory", "KiB", memory, "for scale", None),
    ]
