"""conmon, which carries the logs of podman's and CRI-O's containers: started with a bundle the way podman starts it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from pathlib import Path

from tests.bench.measure import cpu_s, run
from tests.bench.peers import Bundle

PATIENCE_S = 120.0
ID = "nsrun-bench-lines"


def log_pump(work: Path, rootfs: Path, log: Path, megabytes: int) -> tuple[float, float]:
    """(MB/s, CPU seconds of conmon per GB) for the lines that nsrun's shim is measured with, into a k8s-file log.

    Without the fsync at the end, which has nothing to do with the pump. `log` is removed afterwards.
    """
    bundle = Bundle(work, rootfs, "crun")
    config = json.loads((work / "config.json").read_text())
    config["process"]["args"] = ["/bin/pour", str(megabytes)]
    (work / "config.json").write_text(json.dumps(config))
    exits = work / "exits"
    exits.mkdir()
    crun = ["crun", *bundle.flags, "--root", str(work / "state")]
    command = [
        "conmon", "--api-version", "1", "--sync", "--cid", ID, "--cuuid", ID, "--name", ID,
        "--runtime", shutil.which("crun") or "crun", *(f"--runtime-arg={word}" for word in crun[1:]),
        "--bundle", str(work), "--container-pidfile", str(work / "pid"), "--exit-dir", str(exits),
        "--socket-dir-path", str(work), "--log-path", f"k8s-file:{log}", "--no-sync-log", "--no-new-keyring",
    ]  # fmt: skip
    conmon = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    try:
        _await(work / "pid", conmon)
        before = cpu_s(conmon.pid)
        start = time.monotonic()
        run([*crun, "start", ID])
        cpu = before
        while not (exits / ID).exists():
            if time.monotonic() > start + PATIENCE_S:
                raise TimeoutError("conmon's writer did not end")
            cpu = cpu_s(conmon.pid)
            time.sleep(0.002)
        spent = time.monotonic() - start
        return megabytes / spent, (cpu - before) / (megabytes / 1000)
    finally:
        run([*crun, "delete", "--force", ID], check=False)
        conmon.kill()
        conmon.wait()
        if log.exists():
            os.unlink(log)


def _await(file: Path, conmon: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + 10
    while not (file.exists() and file.stat().st_size):
        if conmon.poll() is not None or time.monotonic() > end:
            raise RuntimeError("conmon did not create its container")
        time.sleep(0.005)
