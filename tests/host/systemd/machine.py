"""systemd as PID 1 of namespaces of its own, on a copy of this machine that is thrown away (`boot.sh`)."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.capabilities import PATIENCE, unified_controllers
from tests.host.testhost import REPOSITORY
from tests.host.testhost.__main__ import remove_cgroup

UNITS = (
    *(
        "basic.target",
        "sysinit.target",
        "multi-user.target",
        "local-fs.target",
        "local-fs-pre.target",
        "network.target",
    ),
    *("slices.target", "sockets.target", "paths.target", "timers.target", "shutdown.target", "umount.target"),
    *("systemd-journald.service", "systemd-journald.socket", "systemd-journald-dev-log.socket"),
)
"""What exists there of this machine's units: enough for services with their default dependencies, and a journal."""
UNIT = "nsrun.service"
ENVIRONMENT = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8"}
PATIENCE_S = 20.0 * PATIENCE


class Booted:
    """The machine with systemd.

    Args:
        init: its PID 1, as seen from here.
        cgroup: the root of its cgroup tree, as seen from here.
    """

    def __init__(self, init: int, cgroup: Path) -> None:
        self.init = init
        self.cgroup = cgroup

    def argv(self, *words: str) -> list[str]:
        """The words that run a command there. It is in none of its units."""
        return ["nsenter", "-t", str(self.init), "-m", "-p", "-n", "-i", "-u", "-C", *words]

    def run(self, *words: str, check: bool = True, stdin: str = "", timeout: float = 60.0) -> str:
        """Run a command there; its standard output."""
        done = subprocess.run(
            self.argv(*words),
            input=stdin,
            capture_output=True,
            text=True,
            timeout=timeout * PATIENCE,
            env=ENVIRONMENT,
            check=False,
        )
        assert not check or done.returncode == 0, (
            f"{' '.join(words)}: exit {done.returncode}\n{done.stdout}{done.stderr}"
        )
        return done.stdout

    def write(self, path: str, text: str) -> None:
        """Make a file there."""
        self.run("tee", path, stdin=text)

    def show(self, unit: str, *properties: str) -> dict[str, str]:
        """Properties of a unit."""
        lines = self.run("systemctl", "show", unit, *(f"--property={name}" for name in properties)).splitlines()
        return dict(line.split("=", 1) for line in lines)

    def units(self, pattern: str) -> list[str]:
        """Names of the units in memory that systemd does not take for dead."""
        text = self.run("systemctl", "list-units", "--plain", "--no-legend", pattern)
        return [line.split()[0] for line in text.splitlines()]

    def journal(self, unit: str = UNIT) -> str:
        """What the unit said, and systemd about it."""
        return self.run("journalctl", "--no-pager", "--quiet", "--unit", unit)

    def alive(self, pid: int) -> bool:
        """Whether a process of that machine's is there."""
        return bool(self.run("sh", "-c", f"kill -0 {pid} 2>/dev/null && echo yes", check=False))

    def cgroup_of(self, pid: int) -> str:
        """The version 2 path of a process of that machine's."""
        lines = self.run("cat", f"/proc/{pid}/cgroup").splitlines()
        return next(line[3:] for line in lines if line.startswith("0::"))

    def cgroups(self) -> list[str]:
        """All directories of its tree below system.slice."""
        top = self.cgroup / "system.slice"
        return sorted(str(Path(path).relative_to(top)) for path, _, _ in os.walk(top) if path != str(top))

    def server_pid(self) -> int | None:
        """Of the server that answers, without starting one."""
        found = json.loads(self.run("nsrun", "server", "status", "-o", "json", check=False))
        return int(found["pid"]) if found["running"] else None

    def processes(self, pod: str) -> tuple[int, int]:
        """Pid of the pod's shim, and of its only container."""
        runtime: dict[str, Any] = json.loads(self.run("nsrun", "pod", "inspect", pod, "--runtime", "-o", "json"))[
            "runtime"
        ]
        # The last one that ended is told of as well.
        (instance,) = [one for one in runtime["instances"] if one["finished_at"] is None]
        return int(runtime["shim_pid"]), int(instance["pid"])


@contextlib.contextmanager
def boot(directory: Path, cgroup: Path, seed: Path | None = None) -> Iterator[Booted]:
    """Boot it, and take all of it away afterwards.

    Args:
        directory: empty; seen from here it stays so.
        cgroup: of version 2; made, and removed.
        seed: what is in /etc there from the beginning.
    """
    cgroup.mkdir(parents=True)
    _give_controllers(cgroup)
    names = ["--pid", "--mount", "--net", "--ipc", "--uts", "--fork", "--kill-child=KILL", "--propagation", "private"]
    script = str(Path(__file__).with_name("boot.sh"))
    said = directory.with_suffix(".said")
    with open(said, "wb") as output:
        outer = subprocess.Popen(
            ["unshare", *names, script, str(directory), str(cgroup), str(REPOSITORY), *UNITS],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=ENVIRONMENT if seed is None else {**ENVIRONMENT, "SEED": str(seed)},
        )
    try:
        yield Booted(_wait(outer, said), cgroup)
    finally:
        # unshare takes the machine's PID 1 with it, and that one every process and mount.
        outer.kill()
        outer.wait()
        remove_cgroup(cgroup)


def _give_controllers(cgroup: Path) -> None:
    """Where this machine has version 2's controllers, that one has them, too."""
    found = unified_controllers()
    if found is not None:
        mount, names = found
        for directory in reversed([path for path in cgroup.parents if path.is_relative_to(mount)]):
            (directory / "cgroup.subtree_control").write_text(" ".join(f"+{name}" for name in names), encoding="ascii")


def _wait(outer: subprocess.Popen[bytes], said: Path) -> int:
    """PID 1, when all that belongs to its boot is done."""
    deadline = time.monotonic() + PATIENCE_S
    state = ""
    while time.monotonic() < deadline and outer.poll() is None:
        children = Path(f"/proc/{outer.pid}/task/{outer.pid}/children").read_text(encoding="ascii").split()
        if children:
            asked = Booted(int(children[0]), Path()).argv("systemctl", "is-system-running")
            state = subprocess.run(asked, capture_output=True, text=True, env=ENVIRONMENT, check=False).stdout.strip()
            if state == "running":
                return int(children[0])
        time.sleep(0.05)
    raise AssertionError(f"systemd does not boot: {state}\n{said.read_text()}")
