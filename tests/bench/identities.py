"""What it costs a pod to have users of its own, or one PID namespace for all of its containers."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from tests.bench.measure import Figure, in_turn
from tests.bench.nsrun_side import Nsrun

EXTRA_MS = 3.0
"""What `hostUsers: false` may cost."""


def identities(side: Nsrun, runs: int) -> list[Figure]:
    """In turn with a pod that has neither; and the memory of the first process of a shared PID namespace."""
    text = side.manifest.read_text()
    memory: list[int] = []
    with side.connect() as client:

        def up(field: str) -> Callable[[], float]:
            manifest = text.replace("spec:\n", f"spec:\n  {field}\n")

            def once() -> float:
                asked = time.time()
                client.up(manifest)
                runtime = client.pod("bench").runtime
                started = [instance["started_at"] for instance in runtime["instances"]]
                if runtime["pause_pid"]:
                    memory.append(resident_kb(int(runtime["pause_pid"])))
                client.down("bench", grace_period=0, force=True)
                return float(max(started) - asked) * 1e3

            return once

        turns = in_turn(
            runs,
            plain=up("hostUsers: true"),
            users=up("hostUsers: false"),
            shared=up("shareProcessNamespace: true"),
        )
    plain, users, shared = (turns[name].median for name in ("plain", "users", "shared"))
    samples = list(turns.values())
    more = users - plain
    return [
        Figure("hostUsers: false, more to exec", "ms", more, "at most 3 ms", more <= EXTRA_MS, samples=samples),
        Figure("shareProcessNamespace, more to exec", "ms", shared - plain, "for scale", None),
        Figure("its first process, resident memory", "KiB", max(memory), "for scale", None),
    ]


def resident_kb(pid: int) -> int:
    """Rss of smaps_rollup: VmRSS of /proc/PID/status is counted too roughly for so little."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Rss:"))
