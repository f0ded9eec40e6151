"""A running pod from both sides: what its containers share, what they do not, and what the machine sees of them."""

from __future__ import annotations

import os
from pathlib import Path

from tests.host.server.harness import Server, box, pod

SHARED, OWN = ("net", "ipc", "uts"), ("mnt", "pid", "cgroup")


def _lines(server: Server, container: str, *command: str) -> list[str]:
    code, out, err = server.run("web", *command, container=container)[:3]
    assert (code, err) == (0, b"")
    return out.decode().splitlines()


def _inodes(server: Server, container: str) -> dict[str, str]:
    return dict(line.split() for line in _lines(server, container, "/bin/ns"))


def test_S_NS_containers_of_a_pod_and_the_machine(server: Server) -> None:
    before = Path("/proc/self/mountinfo").read_text()
    server.up(
        pod(
            "web",
            box("a", "then", "write", "/tmp/mine", "x", ";", "pause"),
            box(
                "b",
                "pause",
                securityContext={
                    "runAsUser": 1000,
                    "allowPrivilegeEscalation": False,
                    "capabilities": {"drop": ["ALL"]},
                },
            ),
        ),
        wait="running",
    )
    assert Path("/proc/self/mountinfo").read_text() == before, "no mount of a pod is the machine's"
    a, b = _inodes(server, "a"), _inodes(server, "b")
    machine = {name: str(os.stat(f"/proc/self/ns/{name}").st_ino) for name in (*SHARED, *OWN)}
    for name in SHARED:
        assert a[name] == b[name] != machine[name], name
    for name in OWN:
        assert len({a[name], b[name], machine[name]}) == 3, name
    assert _lines(server, "a", "/bin/ls", "/tmp") == ["mine"]
    assert _lines(server, "b", "/bin/ls", "/tmp") == []
    assert len(_lines(server, "a", "/bin/pids")) == 2, "its own first process and the command"
    assert [line.split()[0] for line in _lines(server, "a", "/bin/fds")] == ["0", "1", "2"]
    assert _lines(server, "b", "/bin/ids") == ["uid=1000 euid=1000 gid=1000 egid=1000 groups=29,50,1000"]
    assert "NoNewPrivs 1" in _lines(server, "b", "/bin/caps")
    for container in ("a", "b"):
        assert "Seccomp 2" in _lines(server, container, "/bin/caps")
        assert _lines(server, container, "/bin/try", "mount", "unshare", "keyctl") == [
            "mount EPERM",
            "unshare EPERM",
            "keyctl EPERM",
        ]
    server.down("web")
    assert Path("/proc/self/mountinfo").read_text() == before
