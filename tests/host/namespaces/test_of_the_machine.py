"""hostPID and hostIPC: what a pod then has of the machine, and that its containers still end as a whole (S-NS)."""

from __future__ import annotations

import ctypes
import json
import os
import secrets
from typing import Any

import pytest

from nsrun.errors import SpecError
from tests.host.namespaces.looking import members, namespace, pid_of, said
from tests.host.server.harness import Server, alive, box, pod, until

pytestmark = pytest.mark.timeout(90)

_libc = ctypes.CDLL(None, use_errno=True)
IPC_CREAT, IPC_RMID = 0o1000, 0


def test_S_NS_host_pid_containers_are_among_the_machines_processes_and_end_as_a_whole(server: Server) -> None:
    manifest = pod(
        "web", box("a", "orphans", "5", "600", "600"), box("b", "pause", tty=True), hostPID=True, restartPolicy="Never"
    )
    uid = server.up(manifest)["pods"][0]["uid"]
    until(lambda: "ready" in server.lines("web", "a"))
    a, b = pid_of(server, "web"), pid_of(server, "web", "b")
    for pid in (a, b):
        assert namespace(pid, "pid") == namespace("self", "pid")
        for kind in ("net", "ipc", "uts", "mnt", "cgroup"):
            assert namespace(pid, kind) != namespace("self", kind), kind
    seen = {int(line.split()[0]): line.split()[1] for line in said(server, "pids", container="b").splitlines()}
    shim = server.runtime("web")["shim_pid"]
    assert seen[a] == "orphans"
    assert seen[b] == "pause"
    assert seen[shim] == "nsrun-shim"
    assert os.getpid() in seen
    # What it sees of /proc is masked as ever, and the root of the machine is not to be had through it.
    assert server.run("web", "/bin/ls", "/proc/1/root", container="b")[0] != 0
    assert server.run("web", "/bin/write", "/proc/sysrq-trigger", "h", container="b")[0] != 0
    assert _options(server, "/proc/sys") == "ro"

    # Five processes that outlived their parents: they are the container's all the same.
    left = {pid for pid, name in seen.items() if name == "orphans" and pid in members(server, uid)}
    assert len(left) >= 6
    server.call("pod.kill", name="web", containers=["a"], signal="KILL")
    until(lambda: "terminated" in server.container("web", "a")["state"])
    assert server.container("web", "a")["state"]["terminated"]["exitCode"] == 137
    until(lambda: not any(alive(pid) for pid in left))
    assert alive(b)
    server.down("web")
    assert not alive(b)


def _options(server: Server, place: str) -> str:
    """The first option of what is mounted there."""
    lines = (line.split(" ") for line in said(server, "mounts", container="b").splitlines())
    (found,) = [fields[2] for fields in lines if fields[0] == place]
    return found.partition(",")[0]


def test_S_NS_host_pid_and_host_network_with_a_dead_shim_leave_nothing(server: Server) -> None:
    manifest = pod("web", box("a", "forkmany", "5", "600"), hostPID=True, hostIPC=True, hostNetwork=True)
    uid = server.up(manifest)["pods"][0]["uid"]
    until(lambda: "ready" in server.lines("web", "a"))
    pid = pid_of(server, "web")
    for kind in ("pid", "ipc", "net", "uts"):
        assert namespace(pid, kind) == namespace("self", kind), kind
    before = members(server, uid)
    assert len(before) == 6
    server.kill()
    os.kill(server.runtime("web")["shim_pid"], 9)
    until(lambda: server.container("web", "a").get("restartCount") == 1)
    until(lambda: not any(alive(one) for one in before))
    until(lambda: len(members(server, uid)) == 6)
    server.down("web", grace_period_s=1)


def test_S_NS_host_ipc_shares_memory_and_queues_with_the_machine(server: Server) -> None:
    key = secrets.randbits(30)
    segment = _libc.shmget(key, 4096, IPC_CREAT | 0o600)
    assert segment >= 0
    name = f"/dev/shm/nsrun-{key}"
    with open(name, "w", encoding="ascii") as file:
        file.write("the machine's")
    try:
        server.up(pod("web", box("a", "pause"), hostIPC=True), pod("other", box("a", "pause")))
        assert str(segment) in said(server, "cat", "/proc/sysvipc/shm").split()
        assert str(segment) not in said(server, "cat", "/proc/sysvipc/shm", name="other").split()
        assert said(server, "cat", name) == "the machine's"
        assert server.run("other", "/bin/cat", name)[0] != 0
        for kind, same in (("ipc", True), ("net", False), ("uts", False), ("pid", False)):
            assert (namespace(pid_of(server, "web"), kind) == namespace("self", kind)) is same, kind
        server.down("web", "other")
        with open(name, encoding="ascii") as file:
            assert file.read() == "the machine's"
    finally:
        os.unlink(name)
        _libc.shmctl(segment, IPC_RMID, None)


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"hostPID": True, "shareProcessNamespace": True}, "ShareProcessNamespace and HostPID cannot both be enabled"),
        ({"hostPID": True, "hostUsers": False}, "when `hostUsers` is false"),
        ({"hostIPC": True, "hostUsers": False}, "when `hostUsers` is false"),
        ({"hostNetwork": True, "hostUsers": False}, "when `hostUsers` is false"),
    ],
)
def test_S_NS_what_does_not_go_together_is_refused(server: Server, spec: dict[str, Any], words: str) -> None:
    with pytest.raises(SpecError) as caught:
        server.up(pod("web", box("a", "pause"), **spec))
    assert words in json.dumps(caught.value.as_data())
