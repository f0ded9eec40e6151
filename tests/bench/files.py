"""The end of a large log, and a large tree that is copied into a container: beside tar over a pipe on the same disk."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path

import nsrun
from tests.bench.measure import Figure, in_turn, run, timed
from tests.bench.nsrun_side import Nsrun

LOG_BYTES = 1_000_000_000
LINE = (
    b"2026-11-23T02:00:00.123456789Z stdout F a line of about a hundred bytes, as programs write them, and a number\n"
)
TREE = ((1, 300_000_000), (60, 5_000_000), (2_000, 150_000), (5_000, 20_000))
"""How many files of which size: 1 GB."""
TREE_BYTES = sum(count * size for count, size in TREE)


def manifest() -> str:
    """A pod with a volume on the disk, and with tar."""
    container = {
        "name": "app",
        "image": "nsrun.local/host",
        "command": ["sleep", "100000"],
        "volumeMounts": [{"name": "room", "mountPath": "/room"}],
    }
    spec = {
        "terminationGracePeriodSeconds": 0,
        "containers": [container],
        "volumes": [{"name": "room", "emptyDir": {}}],
    }
    return json.dumps({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "files"}, "spec": spec})


def files(side: Nsrun, runs: int) -> list[Figure]:
    """The figures of logs and cp."""
    with side.connect() as client, client.up(manifest()) as pod:
        return [log_tail(side, runs), *trees(side, pod, max(3, runs // 3))]


def log_tail(side: Nsrun, runs: int) -> Figure:
    """`pod logs --tail 10`. The log is written by us: what a container writes is rotated before it is that large."""
    (log,) = (side.root / "log" / "pods").glob("*_files_*/app/0.log")
    block = LINE * 10_000
    with open(log, "ab") as file:
        file.writelines(block for _ in range(LOG_BYTES // len(block)))
    last = run([*side.command, "pod", "logs", "files", "--tail", "10"])
    assert last.count("a hundred bytes") == 10, last
    figures = in_turn(
        runs,
        logs=lambda: timed(lambda: side("pod", "logs", "files", "--tail", "10")),
        python=lambda: timed(lambda: run([sys.executable, "-c", "pass"])),
    )
    median = figures["logs"].median
    os.truncate(log, 0)
    return Figure(
        "pod logs --tail 10 of 1 GB", "ms", median, "at most 60 ms", median <= 60, "python -c pass", figures["python"].median,
        list(figures.values()),
    )  # fmt: skip


def trees(side: Nsrun, pod: nsrun.Pod, runs: int) -> list[Figure]:
    """`pod cp` of a tree; tar to tar; tar to a tar in the container."""
    top = side.root / "tree"
    for number, (count, size) in enumerate(TREE):
        directory = top / f"size-{number}"
        directory.mkdir(parents=True)
        block = os.urandom(min(size, 1 << 20))
        for name in range(count):
            with open(directory / str(name), "wb") as file:
                file.writelines(block[: min(len(block), size - begin)] for begin in range(0, size, len(block)))
    # On the same disk as the volume.
    beside = side.root / "lib" / "beside"
    room = next((side.root / "lib" / "volumes").glob("*/room"))

    def emptied(directory: Path) -> None:
        shutil.rmtree(directory, ignore_errors=True)
        os.sync()

    def copied() -> float:
        emptied(room / "tree")
        return TREE_BYTES / timed(lambda: side("pod", "cp", "-q", str(top), "files:/room/tree")) / 1e3

    def piped() -> float:
        emptied(beside)
        beside.mkdir()
        return TREE_BYTES / timed(lambda: shell(f"tar -C {top} -cf - . | tar -C {beside} -xf -")) / 1e3

    def through_exec() -> float:
        emptied(room / "piped")
        command = " ".join(side.command)
        line = f"tar -C {top} -cf - . | {command} pod exec -i files -- sh -c 'mkdir /room/piped && tar -C /room/piped -xf -'"
        return TREE_BYTES / timed(lambda: shell(line)) / 1e3

    figures = in_turn(runs, cp=copied, tar=piped, exec=through_exec)
    cp, tar = figures["cp"].median, figures["tar"].median
    assert sum(file.stat().st_size for file in (room / "tree").rglob("*") if file.is_file()) == TREE_BYTES
    for directory in (top, beside, room / "tree", room / "piped"):
        shutil.rmtree(directory)
    return [
        Figure(
            "pod cp of a tree of 1 GB", "MB/s", cp, "at least 0.8 times tar's", cp >= 0.8 * tar, "tar to tar", tar,
            list(figures.values()),
        ),
        Figure("tar to tar in `pod exec`", "MB/s", figures["exec"].median, "for scale", None, "tar to tar", tar),
    ]  # fmt: skip


def shell(line: str) -> None:
    """Run a pipeline."""
    run(["bash", "-o", "pipefail", "-c", line])
