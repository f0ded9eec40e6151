"""shareProcessNamespace: containers that see one another, and the first process that holds and reaps them (S-NS)."""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.host.namespaces.looking import members, namespace, pid_of, said
from tests.host.server.harness import IMAGE, Server, alive, box, pod, until

pytestmark = pytest.mark.timeout(90)


def pause_of(server: Server, name: str = "web") -> int:
    """The machine's number of the pod's first process."""
    return int(server.runtime(name)["pause_pid"])


def pids(server: Server, container: str = "a", name: str = "web") -> dict[str, list[int]]:
    """The processes that a container sees, by name."""
    found: dict[str, list[int]] = {}
    for line in said(server, "pids", container=container, name=name).splitlines():
        found.setdefault(line.split()[1], []).append(int(line.split()[0]))
    return found


def restarts(server: Server, container: str = "a") -> int:
    return int(server.container("web", container)["restartCount"])


def attempt(server: Server) -> int:
    found: int = server.runtime("web")["sandbox"]["attempt"]
    return found


def began_anew(server: Server, count: int) -> None:
    """Wait for sandbox number `count`, and the containers in it."""
    until(lambda: attempt(server) == count)
    until(lambda: restarts(server) == restarts(server, "b") == count)


def debug(server: Server, name: str, **more: Any) -> None:
    """Add an ephemeral container."""
    extra = {"name": name, "image": IMAGE, "imagePullPolicy": "Never", "command": ["/bin/pause"], **more}
    server.call("pod.debug", name="web", container=extra)
    until(lambda: [1 for one in server.runtime("web")["instances"] if (one["name"], one["state"]) == (name, "running")])


@pytest.mark.parametrize("own_users", [False, True], ids=["host-users", "own-users"])
def test_S_NS_containers_see_one_another_and_begin_anew_in_the_same_namespace(server: Server, own_users: bool) -> None:
    manifest = pod(
        "web",
        box("a", "then", "write", "/tmp/mine", "a's", ";", "orphans", "3", "3", "600"),
        box("b", "stubborn", securityContext={"runAsUser": 1000}),
        inits=(box("first", "true"),),
        shareProcessNamespace=True,
        **({"hostUsers": False} if own_users else {}),
    )
    uid = server.up(manifest)["pods"][0]["uid"]
    until(lambda: "ready" in server.lines("web", "a"))
    pause, a, b = pause_of(server), pid_of(server, "web"), pid_of(server, "web", "b")
    assert namespace(a, "pid") == namespace(b, "pid") == namespace(pause, "pid") != namespace("self", "pid")
    assert namespace(a, "mnt") != namespace(b, "mnt")
    seen = pids(server)
    assert seen["pause"] == [1]
    assert len(seen["then"]) > 3
    assert "stubborn" in seen
    assert said(server, "cat", "/proc/1/cmdline") == "/pause\0"

    # The first process has nothing, and nothing of it leads anywhere.
    facts = Path(f"/proc/{pause}/status").read_text(encoding="utf-8")
    ids = server.runtime("web")["first_id"] or 0
    assert f"Uid:\t{ids + 65535}\t" in facts
    assert "CapBnd:\t0000000000000000" in facts
    assert "CapEff:\t0000000000000000" in facts
    assert "NoNewPrivs:\t1" in facts
    assert "Seccomp:\t2" in facts
    assert os.listdir(f"/proc/{pause}/root") == ["pause"]
    assert {os.stat(f"/proc/{pause}/fd/{fd}").st_rdev for fd in os.listdir(f"/proc/{pause}/fd")} == {os.makedev(1, 3)}
    assert Path(f"/proc/{pause}/environ").read_bytes() == b""
    anonymous = next(line for line in facts.splitlines() if line.startswith("RssAnon"))
    assert int(anonymous.split()[1]) <= 64, "KB"
    assert server.run("web", "/bin/ls", "/proc/1/root", container="b")[0] != 0

    # As under a kubelet: one user looks into the file systems of its own, and nobody else does without CAP_SYS_PTRACE.
    inside = {name: numbers[0] for name, numbers in pids(server).items()}
    assert server.run("web", "/bin/cat", f"/proc/{min(pids(server)['then'])}/root/tmp/mine", container="b")[0] != 0
    debug(server, "dbg")
    debug(server, "aimed", targetContainerName="b")
    assert said(server, "cat", f"/proc/{min(pids(server)['then'])}/root/tmp/mine", container="dbg") == "a's"
    for name in ("dbg", "aimed"):
        assert namespace(pid_of(server, "web", name), "pid") == namespace(pause, "pid")

    # Orphans are reaped: after their three seconds nothing of them is left, no zombie either.
    until(lambda: len(pids(server)["then"]) == len(seen["then"]) - 3)
    # Signals go from one to the other; what a container leaves ends with it, and the namespace stays.
    said(server, "kill", "9", str(inside["stubborn"]))
    until(lambda: restarts(server, "b") == 1)
    until(lambda: "running" in server.container("web", "b")["state"])
    server.kill()
    server.call("pod.restart", name="web", containers=["a"], grace_period_s=0, wait=True, timeout_s=20)
    assert pid_of(server, "web") != a
    assert (
        namespace(pid_of(server, "web"), "pid")
        == namespace(pid_of(server, "web", "b"), "pid")
        == namespace(pause, "pid")
    )
    assert (pause_of(server), attempt(server)) == (pause, 0)
    assert "-pause" not in str(server.get("web")) + str(server.runtime("web")["instances"])
    everybody = members(server, uid)
    assert pause in everybody
    server.down("web")
    assert not any(alive(one) for one in everybody)


def test_S_NS_when_the_first_process_ends_the_policy_brings_the_pod_back(server: Server) -> None:
    server.up(
        pod(
            "web",
            box("a", "pause"),
            box("b", "stubborn"),
            inits=(box("first", "true"),),
            shareProcessNamespace=True,
        ),
        time_scale=100,
    )
    for count, kill in enumerate(("inside", "outside", "server"), 1):
        before = pause_of(server), pid_of(server, "web"), pid_of(server, "web", "b")
        if kill == "inside":
            # Its command is in the namespace and ends with it.
            with contextlib.suppress(AssertionError):
                server.run("web", "/bin/kill", str(int(signal.SIGTERM)), "1", container="a")
        else:
            if kill == "server":
                server.kill()
            os.kill(before[0], signal.SIGKILL)
        began_anew(server, count)
        until(lambda: all("running" in server.container("web", one)["state"] for one in "ab"))
        assert not any(alive(one) for one in before)
        assert namespace(pid_of(server, "web"), "pid") == namespace(pause_of(server), "pid")
        ended = server.container("web", "a")["lastState"]["terminated"]
        assert (ended["exitCode"], ended["reason"]) == (137, "Error")
    assert server.reasons("web").count("SandboxChanged") >= 1
    # The signals that it has no use for change nothing.
    first = pause_of(server)
    for number in (signal.SIGHUP, signal.SIGUSR1, signal.SIGCHLD):
        server.run("web", "/bin/kill", str(int(number)), "1", container="a")
    assert (alive(first), pause_of(server)) == (True, first)
    server.down("web")


def test_S_NS_without_a_restart_it_is_the_end_of_the_pod(server: Server) -> None:
    server.up(pod("web", box("a", "pause"), shareProcessNamespace=True, restartPolicy="Never"))
    os.kill(pause_of(server), signal.SIGKILL)
    until(lambda: server.get("web")["status"]["phase"] == "Failed")
    assert server.container("web", "a")["state"]["terminated"]["exitCode"] == 137
    server.down("web")


def test_S_NS_the_work_is_done_and_the_first_process_goes(server: Server) -> None:
    server.up(
        pod("web", box("a", "orphans", "2", "600"), shareProcessNamespace=True, restartPolicy="OnFailure"), wait="none"
    )
    until(lambda: server.get("web")["status"]["phase"] == "Succeeded")
    until(lambda: server.runtime("web")["sandbox"]["state"] == "none")
    assert server.runtime("web")["pause_pid"] is None
    server.down("web")
