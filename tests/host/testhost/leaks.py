"""What a test host holds, so that before and after can be compared.

Everything is asked of the kernel (proc, ip, nft, the cgroup tree), nothing of nsrun.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path

from tests.host.testhost import Machine, legacy_twins

PATIENCE_S = 15.0
"""On a busy machine a server that was told to stop takes its time, too."""
_DEPTH = 4


@dataclass(frozen=True)
class Snapshot:
    """The things that can leak; every member is a set of lines that say which one.

    Attributes:
        processes: `pid name`, kernel threads are not visible in the test host's PID namespace.
        mounts: target and type of each mount of this mount namespace.
        links: names in this network namespace.
        routes: the main table, with addresses.
        rules: nftables tables.
        namespaces: network namespaces that a process or a mount holds.
        cgroups: directories below the test host's base, and below the same path in version 1's hierarchies.
        files: paths below the test host's directory, scratch directories of running tests excepted.
    """

    processes: frozenset[str]
    mounts: frozenset[str]
    links: frozenset[str]
    routes: frozenset[str]
    rules: frozenset[str]
    namespaces: frozenset[str]
    cgroups: frozenset[str]
    files: frozenset[str]

    def leaked_since(self, before: Snapshot) -> list[str]:
        """One line for each thing that is here and was not there before, as `kind: thing`."""
        return [
            f"{field.name}: {thing}"
            for field in fields(self)
            for thing in sorted(getattr(self, field.name) - getattr(before, field.name))
        ]

    def lost_since(self, before: Snapshot) -> list[str]:
        """One line for each mount, link, route or table that is gone: somebody removed what was not theirs."""
        return [
            f"{name}: {thing}"
            for name in ("mounts", "links", "routes", "rules")
            for thing in sorted(getattr(before, name) - getattr(self, name))
        ]


def take(machine: Machine) -> Snapshot:
    """Look at everything now."""
    processes, namespaces = _processes()
    mounts = Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines()
    return Snapshot(
        processes=frozenset(processes),
        mounts=frozenset(_mount(line) for line in mounts),
        links=frozenset(entry["ifname"] for entry in _json("ip", "-json", "link")),
        # A link that has just been made is "linkdown" for a moment, which changes by itself.
        routes=frozenset(line.replace(" linkdown", "") for line in _lines("ip", "route"))
        | frozenset(_lines("ip", "-oneline", "-4", "addr")),
        rules=frozenset(_lines("nft", "list", "tables")),
        namespaces=frozenset(namespaces | {_mount(line) for line in mounts if " nsfs " in line}),
        cgroups=frozenset(_directories(machine.cgroup_base)),
        files=frozenset(_files(Path(machine.directory))),
    )


def leaked(machine: Machine, before: Snapshot, *, patience: float = PATIENCE_S) -> list[str]:
    """What is left over after `patience` seconds at most: the kernel takes namespaces and their links down a little later.

    Args:
        patience: seconds to wait for things to go.
    """
    deadline = time.monotonic() + patience
    while True:
        now = take(machine)
        lines = now.leaked_since(before) + [f"removed {line}" for line in now.lost_since(before)]
        if not lines or time.monotonic() >= deadline:
            return lines
        time.sleep(0.05)


def _processes() -> tuple[set[str], set[str]]:
    found, namespaces = set(), set()
    mine = str(os.getpid())
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        try:
            stat = Path("/proc", entry, "stat").read_text(encoding="utf-8", errors="replace")
            command = Path("/proc", entry, "cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
            namespaces.add(os.readlink(f"/proc/{entry}/ns/net"))
        except OSError:
            continue
        if entry == mine:
            continue
        name, _, rest = stat.partition("(")[2].rpartition(")")
        # Whether it runs or sleeps right now is no difference.
        state = " [Z]" if rest.split()[0] == "Z" else ""
        found.add(f"{entry} {name}{state} {command.strip()}")
    return found, namespaces


def _mount(line: str) -> str:
    left, _, right = line.partition(" - ")
    return f"{left.split()[4]} {right.split()[0]}"


def _directories(base: str | None) -> Iterator[str]:
    for top in [] if base is None else [base, *map(str, legacy_twins(Path(base)))]:
        for path, names, _ in os.walk(top):
            yield from (os.path.join(path, name) for name in names)


def _files(top: Path) -> Iterator[str]:
    # Deeper than this is inside of one thing that is named already.
    for path, names, files in os.walk(top):
        relative = Path(path).relative_to(top)
        yield from (str(Path(path, name)) for name in (*names, *files))
        if len(relative.parts) >= _DEPTH:
            names.clear()


def _lines(*argv: str) -> list[str]:
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=20)
    return [line.strip() for line in done.stdout.splitlines() if line.strip()]


def _json(*argv: str) -> list[dict[str, str]]:
    done = subprocess.run(argv, capture_output=True, text=True, check=True, timeout=20)
    return [entry for entry in json.loads(done.stdout) if entry]
