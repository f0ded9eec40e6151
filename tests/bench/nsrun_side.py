"""nsrun's own figures: through the command as a user has it, and through the library."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import nsrun
from tests.bench.measure import cpu_s, private_kb, resident_kb, run, timed

NSRUN = str(Path(sys.executable).parent / "nsrun")

POD = """apiVersion: v1
kind: Pod
metadata: {{name: {name}}}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - {{name: a, image: bench, imagePullPolicy: Never, command: [/bin/testbox, sleep, "1000"]}}
  - {{name: b, image: bench, imagePullPolicy: Never, command: [/bin/testbox, sleep, "1000"]}}
"""


class Nsrun:
    """The command and a library connection on one root directory."""

    def __init__(self, root: Path, rootfs: Path) -> None:
        self.root = root
        self.command = [NSRUN, "--root", str(root)]
        root.mkdir(parents=True, exist_ok=True)
        self.manifest = root / "bench.yaml"
        self.manifest.write_text(POD.format(name="bench"))
        self("image", "import", "bench", str(rootfs))

    def __call__(self, *words: str) -> str:
        """Standard output of `nsrun WORDS`."""
        return run([*self.command, *words])

    def connect(self) -> nsrun.Client:
        """A library connection to the same server."""
        return nsrun.connect(root=self.root)

    def up(self) -> float:
        """Milliseconds of `pod up`, command start to Running."""
        return timed(lambda: self("pod", "up", str(self.manifest)))

    def down(self) -> None:
        """Takes the pod away."""
        self("pod", "down", "bench", "--force", "--grace-period", "0")

    def up_and_down(self) -> float:
        """Milliseconds of `pod up`; the pod is taken away uncounted."""
        spent = self.up()
        self.down()
        return spent

    def cold_up(self) -> float:
        """Milliseconds of `pod up` when no server runs."""
        self("server", "stop")
        return self.up_and_down()

    def server_pid(self) -> int:
        """The server's process."""
        with self.connect() as client:
            return int(client.server_status()["pid"])

    def runtime(self, name: str) -> dict[str, Any]:
        """What the server knows of the pod's processes."""
        with self.connect() as client:
            return client.pod(name).runtime

    def shim_private_kb(self, name: str) -> int:
        """Private memory of the pod's shim in KiB."""
        return private_kb(int(self.runtime(name)["shim_pid"]))

    def server_kb(self) -> int:
        """Resident memory of the server in KiB."""
        return resident_kb(self.server_pid())

    def restart_ms(self) -> float:
        """Milliseconds from the exit of a crashed container to the exec of its next instance, as the shim noted both."""
        manifest = self.root / "crash.yaml"
        manifest.write_text(
            "apiVersion: v1\nkind: Pod\nmetadata: {name: crash}\nspec:\n  terminationGracePeriodSeconds: 0\n  containers:\n"
            "  - {name: a, image: bench, imagePullPolicy: Never, command: [/bin/testbox, sleep, '1000']}\n"
        )
        self("pod", "up", str(manifest))
        self("pod", "kill", "crash", "--signal", "KILL")
        end = time.monotonic() + 5
        while True:
            found = {i["attempt"]: i for i in self.runtime("crash")["instances"]}
            if 1 in found and found[1]["started_at"] and 0 in found:
                break
            if time.monotonic() > end:
                raise TimeoutError("the container did not come back")
            time.sleep(0.01)
        spent = (found[1]["started_at"] - found[0]["finished_at"]) * 1e3
        self("pod", "down", "crash", "--force", "--grace-period", "0")
        return float(spent)

    def log_pump(self, megabytes: int) -> tuple[float, float]:
        """(MB/s, CPU seconds of the shim per GB) while a container writes 100-byte lines as fast as they are taken."""
        manifest = self.root / "pump.yaml"
        manifest.write_text(
            "apiVersion: v1\nkind: Pod\nmetadata: {name: pump}\nspec:\n  restartPolicy: Never\n  containers:\n"
            f"  - {{name: a, image: bench, imagePullPolicy: Never, command: [/bin/pour, '{megabytes}']}}\n"
            "  - {name: keep, image: bench, imagePullPolicy: Never, command: [/bin/testbox, sleep, '1000']}\n"
        )
        self("pod", "up", "--no-wait", str(manifest))
        end = time.monotonic() + 120
        while True:
            runtime = self.runtime("pump")
            found = [i for i in runtime["instances"] if i["name"] == "a" and i["finished_at"]]
            if found:
                break
            if time.monotonic() > end:
                raise TimeoutError("the writer did not end")
            time.sleep(0.02)
        spent = found[0]["finished_at"] - found[0]["started_at"]
        cpu = cpu_s(int(runtime["shim_pid"]))
        self("pod", "down", "pump", "--force", "--grace-period", "0")
        return megabytes / spent, cpu / (megabytes / 1000)
