"""Pods as they are seen from the machine: pids, namespaces, ids."""

from __future__ import annotations

import os
from pathlib import Path

from tests.host.server.harness import Server


def pid_of(server: Server, name: str, container: str = "a") -> int:
    """The machine's number of a running container's root process."""
    return next(
        int(one["pid"])
        for one in server.runtime(name)["instances"]
        if one["name"] == container and one["state"] == "running"
    )


def namespace(pid: int | str, kind: str) -> str:
    """Which namespace a process is in, such as `pid:[4026531836]`."""
    return os.readlink(f"/proc/{pid}/ns/{kind}")


def said(server: Server, *command: str, name: str = "web", container: str = "a") -> str:
    """What a command in a container says; it has to succeed."""
    code, out, err = server.run(name, f"/bin/{command[0]}", *command[1:], container=container)
    assert code == 0, (command, code, out, err)
    return out.decode()


def members(server: Server, uid: str) -> set[int]:
    """The processes in the cgroups of a pod."""
    found = set()
    base = server.call("server.status").result["cgroups"]["base"]
    for path in Path(base).rglob("cgroup.procs"):
        if uid in str(path):
            found |= {int(line) for line in path.read_text(encoding="ascii").split()}
    return found


def descends(pid: int, ancestor: int) -> bool:
    """Whether a process is, or comes from, another."""
    while pid > 1 and pid != ancestor:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
        pid = int(stat.rpartition(")")[2].split()[1])
    return pid == ancestor
