"""Ephemeral containers on real processes: whose processes they see, how they end, and what the pod makes of them."""

from __future__ import annotations

import json
import os
import subprocess
import time
from typing import Any

import pytest

from nsrun.errors import ConflictError, NotFoundError, SpecError, UsageError
from tests.host.server.harness import IMAGE, Server, box, pod, texts, until


def add(server: Server, name: str, container: str, *command: str, **more: Any) -> None:
    wanted = {
        "name": container,
        "image": IMAGE,
        "imagePullPolicy": "Never",
        "command": [f"/bin/{command[0]}", *command[1:]],
        **more,
    }
    server.call("pod.debug", name=name, container=wanted)


def status(server: Server, name: str, container: str) -> dict[str, Any]:
    found = server.get(name)["status"].get("ephemeralContainerStatuses") or []
    return next((one for one in found if one["name"] == container), {})


def state(server: Server, name: str, container: str) -> str:
    return next(iter(status(server, name, container).get("state") or {}), "")


def pid_of(server: Server, name: str, container: str) -> int:
    return next(
        int(one["pid"])
        for one in server.runtime(name)["instances"]
        if one["name"] == container and one["state"] == "running"
    )


def namespace(pid: int, kind: str) -> str:
    return os.readlink(f"/proc/{pid}/ns/{kind}")


def test_S_NS_with_a_target_it_lives_among_the_targets_processes(server: Server) -> None:
    server.up(pod("web", box("app", "pause"), box("other", "pause")))
    add(server, "web", "dbg", "pause", targetContainerName="app")
    add(server, "web", "alone", "pause")
    until(lambda: state(server, "web", "dbg") == state(server, "web", "alone") == "running")
    app, dbg, alone = (pid_of(server, "web", name) for name in ("app", "dbg", "alone"))
    assert namespace(app, "pid") == namespace(dbg, "pid") != namespace(alone, "pid")
    for kind in ("net", "ipc", "uts"):
        assert namespace(app, kind) == namespace(dbg, kind) == namespace(alone, kind)
    assert namespace(app, "mnt") != namespace(dbg, "mnt")
    # Its /proc is that of the target: the root process there is the target's.
    assert server.run("web", "/bin/cat", "/proc/1/comm", container="dbg")[1] == b"pause\n"
    inode = os.stat(f"/proc/{dbg}/root/proc/1/root").st_ino
    assert inode == os.stat(f"/proc/{app}/root").st_ino
    server.down("web")


def test_it_counts_for_nothing_and_is_never_started_again(server: Server) -> None:
    server.up(pod("web", box("app", "pause")))
    generation = server.get("web")["metadata"]["generation"]
    add(server, "web", "dbg", "exit", "3")
    until(lambda: state(server, "web", "dbg") == "terminated")
    found = server.get("web")
    assert found["metadata"]["generation"] == generation + 1
    assert found["status"]["phase"] == "Running"
    assert {one["type"]: one["status"] for one in found["status"]["conditions"]}["Ready"] == "True"
    assert status(server, "web", "dbg")["state"]["terminated"]["exitCode"] == 3
    assert status(server, "web", "dbg")["restartCount"] == 0
    # Not by a server that comes later either, nor in another sandbox.
    server.kill()
    os.kill(server.runtime("web")["shim_pid"], 9)
    until(lambda: server.container("web", "app")["restartCount"] == 1)
    assert [one["attempt"] for one in server.runtime("web")["instances"] if one["name"] == "dbg"] in ([], [0])
    assert state(server, "web", "dbg") == "terminated"
    with pytest.raises(UsageError, match="never restarted"):
        server.call("pod.restart", name="web", containers=["dbg"])
    server.down("web")


def test_S_TERM_it_is_stopped_with_the_pod(server: Server) -> None:
    server.up(pod("web", box("app", "pause"), restartPolicy="Never"))
    add(server, "web", "dbg", "pause")
    until(lambda: state(server, "web", "dbg") == "running")
    pid = pid_of(server, "web", "dbg")
    server.kill()
    assert state(server, "web", "dbg") == "running"
    assert pid_of(server, "web", "dbg") == pid
    server.down("web")
    assert not os.path.exists(f"/proc/{pid}")


def test_it_is_started_once_whenever_servers_die(server: Server) -> None:
    server.up(pod("web", box("app", "pause")))
    for number in range(8):
        add(server, "web", f"d{number}", "append", "/dev/shm/log", str(number))
        time.sleep(number * 0.004)
        server.kill()
    until(lambda: {state(server, "web", f"d{number}") for number in range(8)} == {"terminated"})
    assert sorted(server.run("web", "/bin/cat", "/dev/shm/log", container="app")[1].decode()) == list("01234567")
    assert {one["restartCount"] for one in server.get("web")["status"]["ephemeralContainerStatuses"]} == {0}
    server.down("web")


def test_a_pod_whose_work_is_done_does_not_wait_for_it(server: Server) -> None:
    server.up(pod("job", box("app", "sleep", "1"), restartPolicy="Never"), wait="none")
    server.wait("job", "phase=Running")
    add(server, "job", "dbg", "pause")
    until(lambda: server.get("job")["status"]["phase"] == "Succeeded")
    until(lambda: state(server, "job", "dbg") == "terminated")
    with pytest.raises(ConflictError, match="finished"):
        add(server, "job", "more", "pause")
    server.down("job")


def test_S_START_it_may_begin_while_init_containers_run(server: Server) -> None:
    server.up(pod("slow", box("app", "pause"), inits=(box("init", "sleep", "3"),)), wait="none")
    until(lambda: server.runtime("slow")["sandbox"]["state"] == "ready")
    add(server, "slow", "dbg", "echo", "early")
    until(lambda: state(server, "slow", "dbg") == "terminated")
    assert "running" in server.container("slow", "init")["state"]
    assert server.lines("slow", "dbg") == ["early"]
    server.down("slow")


def test_it_ends_with_the_processes_it_lives_among(server: Server) -> None:
    server.up(pod("web", box("app", "sleep", "2"), box("other", "pause"), restartPolicy="Never"))
    add(server, "web", "dbg", "pause", targetContainerName="app")
    until(lambda: state(server, "web", "dbg") == "running")
    until(lambda: state(server, "web", "dbg") == "terminated")
    assert status(server, "web", "dbg")["state"]["terminated"]["exitCode"] == 137
    # A target that does not run: it waits, and says for what.
    add(server, "web", "late", "pause", targetContainerName="app")
    until(
        lambda: (
            state(server, "web", "late") == "waiting" and "reason" in status(server, "web", "late")["state"]["waiting"]
        )
    )
    until(lambda: status(server, "web", "late")["state"]["waiting"]["reason"] == "CreateContainerError")
    waiting = status(server, "web", "late")["state"]["waiting"]
    assert waiting["message"] == 'invalid target container: container "app" is not running'
    server.down("web")


def test_what_is_refused(server: Server) -> None:
    server.up(pod("web", box("app", "pause")))
    with pytest.raises(SpecError, match="cannot be added"):
        add(server, "web", "app", "pause")
    with pytest.raises(SpecError) as caught:
        add(server, "web", "dbg", "pause", targetContainerName="nope")
    assert 'targetContainerName: Not found: "nope"' in str(caught.value.details)
    add(server, "web", "dbg", "pause")
    add(server, "web", "dbg", "pause")
    with pytest.raises(ConflictError, match="may not be changed"):
        add(server, "web", "dbg", "exit", "1")
    with pytest.raises(NotFoundError):
        add(server, "nope", "dbg", "pause")
    assert len(server.get("web")["spec"]["ephemeralContainers"]) == 1
    server.down("web")


def command(server: Server, *words: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        server.host.nsrun_argv("pod", *words),
        env=server.environment, input=stdin, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def test_the_command(server: Server) -> None:
    server.up(pod("web", box("app", "pause")))
    tools = ("--image", IMAGE, "--image-pull-policy", "Never")
    done = command(
        server, "debug", "web", *tools, "--attach", "--", "/bin/then", "echo", "all", "of", "it", ";", "exit", "3"
    )
    assert (done.returncode, done.stdout) == (3, "all of it\n"), done.stderr
    assert done.stderr.startswith("Defaulting debug container name to debugger-")
    done = command(
        server,
        "debug",
        "web",
        "-i",
        "-c",
        "reader",
        "--target",
        "app",
        *tools,
        "--",
        "/bin/read",
        "/dev/stdin",
        "7",
        stdin="a line\n",
    )
    assert done.returncode == 0, done.stderr
    assert 'Targeting container "app"' in done.stderr
    assert texts(server.log("web", "reader")) == ["read 7"]
    (first, reader) = server.get("web")["spec"]["ephemeralContainers"]
    assert first["securityContext"] == {"capabilities": {"add": ["SYS_PTRACE"]}}
    assert reader["targetContainerName"] == "app"
    done = command(
        server, "debug", "web", "-q", *tools, "-c", "restricted", "--profile", "restricted", "--env", "A=b", "/bin/env"
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    last = server.get("web")["spec"]["ephemeralContainers"][-1]
    assert last["securityContext"]["runAsNonRoot"] is True
    assert last["env"] == [{"name": "A", "value": "b"}]
    # runAsNonRoot, and the image's user is root: it waits and says so, as any container does.
    until(
        lambda: (
            status(server, "web", "restricted")["state"].get("waiting", {}).get("reason")
            == "CreateContainerConfigError"
        )
    )
    assert command(server, "debug", "web", "-t", *tools).returncode == 2
    assert command(server, "debug", "web").returncode == 2
    described = command(server, "describe", "web").stdout
    assert "Ephemeral Containers:" in described
    listed = json.loads(command(server, "inspect", "web", "-o", "json").stdout)
    assert {one["name"] for one in listed["status"]["ephemeralContainerStatuses"]} >= {"reader", "restricted"}
    server.down("web")
