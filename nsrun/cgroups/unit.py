"""The pods' own unit of systemd, beside the server's service.

Pods' cgroups need controllers, and a cgroup that has switched them on for its children takes no process itself: systemd could not start
the service again in a cgroup in which the last server's pods still live. So they live in a unit of their own. Nothing that happens to
the server's service reaches it, `systemctl stop` of it ends all pods, and its limits (`systemctl set-property nsrun-pods MemoryMax=4G`)
are theirs together.

systemd removes the cgroup of a unit in which nobody is. Between pods a process that does nothing keeps it, in a leaf beside theirs.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from nsrun.errors import NsrunError, StepError

SYSTEMD = "/run/systemd/system"
"""There when systemd is the init of this machine: sd_booted(3)."""
SERVICE = ".service"
SUFFIX = f"-pods{SERVICE}"
STOP_S = 30
"""Seconds that containers have when the machine shuts down, a pod's usual grace; systemd does not know of each one's own."""
PATIENCE_S = 20.0
LEAF = "keeper"
KEEPER = ("/bin/sleep", "infinity")


def beside(service: Path, *, system: str = SYSTEMD) -> Path | None:
    """The cgroup of the pods' unit for the cgroup of a server's service; None for what is no service of this machine's systemd.

    Nothing is made.
    """
    if not service.name.endswith(SERVICE) or not os.path.isdir(system):
        return None
    return service.with_name(service.name.removesuffix(SERVICE) + SUFFIX)


def is_one(path: Path) -> bool:
    """Whether a cgroup is that of a pods' unit."""
    return path.name.endswith(SUFFIX)


def make(path: Path) -> None:
    """Have systemd make the unit of this cgroup, if it is not there, and free it of its process. Blocks until it has: some 30 ms.

    Raises:
        NsrunError: it refuses; its words are in the details.
    """
    server = path.name.removesuffix(SUFFIX) + SERVICE
    command = ["systemd-run", "--quiet", f"--unit={path.name}", f"--slice={path.parent.name}"]
    command += ["--service-type=exec", f"--description=pods of {server}"]
    properties = ["Delegate=yes", "TasksMax=infinity", "OOMPolicy=continue", f"TimeoutStopSec={STOP_S}s"]
    properties += ["OOMScoreAdjust=-900"]
    # Of two that stop, the later one stops first: a server would start containers again that systemd has just ended.
    properties.append(f"Before={server}")
    if not path.is_dir():
        _ask([*command, *(f"--property={one}" for one in properties), *KEEPER], f"make the unit {path.name}")
    try:
        (path / LEAF).mkdir(exist_ok=True)
        for pid in (path / "cgroup.procs").read_text(encoding="ascii").split():
            (path / LEAF / "cgroup.procs").write_text(pid, encoding="ascii")
    except OSError as error:
        raise StepError("make room for pods in", str(path), error.errno or 0) from error


def stop(path: Path) -> None:
    """Have systemd end the unit of this cgroup, and whatever is in it; it begins when the server's own unit is not just ending.

    That is why nobody waits here. The order between the two (`Before=`) has a server that comes next wait for it.

    Raises:
        NsrunError: it refuses.
    """
    _ask(["systemctl", "--quiet", "--no-block", "stop", path.name], f"stop the unit {path.name}")


def _ask(command: list[str], what: str) -> None:
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=PATIENCE_S, cwd="/", check=False
        )
        words = done.stderr.decode("utf-8", "replace").strip()
        if done.returncode == 0:
            return
    except (OSError, subprocess.TimeoutExpired) as error:
        words = str(error)
    raise NsrunError(
        f"systemd does not {what}",
        details=words,
        resolution=f"By hand: {' '.join(command)}",
        code="step",
    )
