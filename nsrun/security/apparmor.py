"""AppArmor's profiles in this kernel: whether it has any, and that of `RuntimeDefault`, which is nsrun's own.

What it denies is what containerd's (contrib/apparmor/template.go) denies: mounts, and writing to what of /proc and /sys is the machine's.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import threading
from pathlib import Path

from nsrun.plan.identity import APPARMOR_DEFAULT
from nsrun.plan.inputs import PlanError
from nsrun.waiting import CREATE_CONTAINER_ERROR

SECURITYFS = Path("/sys/kernel/security")
ENABLED = Path("/sys/module/apparmor/parameters/enabled")
PROGRAMS = "/usr/sbin:/sbin:/usr/bin:/bin"
_PATIENCE_S = 60.0

_PROC = "/proc"
_SYS = (
    *("/sys/[^f]*/**", "/sys/f[^s]*/**", "/sys/fs/[^c]*/**"),
    *("/sys/fs/c[^g]*/**", "/sys/fs/cg[^r]*/**"),
)
"""All of /sys but /sys/fs/cgroup."""
_UNTOUCHED = ("/sys/firmware/**", "/sys/devices/virtual/powercap/**", "/sys/kernel/security/**")
_OF_NO_PROCESS = "{[^1-9/],[^1-9/][^0-9/],[^1-9s/][^0-9y/][^0-9s/],[^1-9/][^0-9/][^0-9/][^0-9/]*}"
"""Directories of /proc that are neither of a process nor sys; a name of one, two, three letters, or more."""


def default_profile(name: str = APPARMOR_DEFAULT) -> str:
    """The text of RuntimeDefault's profile, for apparmor_parser(8)."""
    rules = [
        *("network,", "capability,", "file,", "umount,"),
        # Whoever is not confined, the shim above all, may end them; among themselves they may do as they like.
        "signal (receive) peer=unconfined,",
        f"signal (send, receive) peer={name},",
        f"ptrace (trace, tracedby, read, readby) peer={name},",
        "deny mount,",
        f"deny {_PROC}/* w,",
        f"deny {_PROC}/{_OF_NO_PROCESS}/** w,",
        # Of /proc/sys a container may write to kernel/shm*, which is its IPC namespace's.
        f"deny {_PROC}/sys/[^k]** w,",
        f"deny {_PROC}/sys/kernel/{{?,??,[^s][^h][^m]**}} w,",
        *(f"deny {_PROC}/{file} rwklx," for file in ("sysrq-trigger", "kcore")),
        *(f"deny {path} wklx," for path in _SYS),
        *(f"deny {path} rwklx," for path in _UNTOUCHED),
    ]
    body = "".join(f"  {rule}\n" for rule in rules)
    return f"profile {name} flags=(attach_disconnected, mediate_deleted) {{\n{body}}}\n"


def enabled(securityfs: Path = SECURITYFS, parameter: Path = ENABLED) -> bool:
    """Whether this kernel enforces profiles, and shows which (runc libcontainer/apparmor)."""
    with contextlib.suppress(OSError):
        return (securityfs / "apparmor").is_dir() and parameter.read_text(encoding="ascii").startswith("Y")
    return False


class Profiles:
    """The profiles that containers ask for. May be used from several threads.

    Args:
        securityfs: where it is mounted.
        programs: where apparmor_parser is looked for, as PATH.
    """

    def __init__(self, securityfs: Path = SECURITYFS, programs: str = PROGRAMS) -> None:
        self._list = securityfs / "apparmor" / "profiles"
        self._programs = programs
        self._loaded = False
        self._turn = threading.Lock()

    def names(self) -> frozenset[str]:
        """Those that the kernel has.

        Raises:
            OSError: it cannot be asked.
        """
        lines = self._list.read_text(encoding="utf-8", errors="replace").splitlines()
        return frozenset(line.rpartition(" (")[0].strip() for line in lines if " (" in line)

    def ensure(self, name: str) -> None:
        """Before a container begins with a profile: the kernel has it.

        That of RuntimeDefault is loaded, anew by each server, as it may have changed.

        Raises:
            PlanError: CreateContainerError.
        """
        with self._turn:
            try:
                there = name in self.names()
            except OSError as error:
                raise PlanError(
                    CREATE_CONTAINER_ERROR,
                    f"the kernel does not say which AppArmor profiles it has: {self._list}: {os.strerror(error.errno or 0)}",
                    resolution=f"mount -t securityfs securityfs {SECURITYFS}",
                ) from error
            if name == APPARMOR_DEFAULT:
                if not (there and self._loaded):
                    self._load()
                    self._loaded = True
            elif not there:
                raise PlanError(
                    CREATE_CONTAINER_ERROR,
                    f"apparmor profile not found {name}",
                    resolution="Load it: apparmor_parser -r FILE. aa-status lists those that there are.",
                )

    def _load(self) -> None:
        parser = shutil.which("apparmor_parser", path=self._programs)
        if parser is None:
            raise PlanError(
                CREATE_CONTAINER_ERROR,
                "the AppArmor profile of RuntimeDefault cannot be loaded: apparmor_parser is not installed",
                resolution="apt-get install apparmor",
            )
        try:
            done = subprocess.run(
                [parser, "--replace", "--skip-cache", "--quiet"],
                input=default_profile().encode(),
                capture_output=True,
                timeout=_PATIENCE_S,
                check=False,
                env={"PATH": self._programs},
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise PlanError(CREATE_CONTAINER_ERROR, f"{parser}: {error}") from error
        if done.returncode:
            raise PlanError(
                CREATE_CONTAINER_ERROR,
                f"the AppArmor profile of RuntimeDefault cannot be loaded: {parser} ended with {done.returncode}",
                details=done.stderr.decode(errors="replace").strip() or None,
            )
