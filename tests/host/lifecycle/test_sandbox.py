"""A pod loses its sandbox: its shim, and all containers with it, are killed."""

from __future__ import annotations

import os
import signal
from typing import Any

import pytest

from tests.host.lifecycle.journal import Journal
from tests.host.lifecycle.watching import condition, container, state, watching
from tests.host.server.harness import Server, box, pod, until

pytestmark = pytest.mark.timeout(120)


def kill_shim(server: Server, name: str) -> dict[str, Any]:
    """SIGKILL to the shim of a pod; what pod.get told of it just before."""
    runtime = server.runtime(name)
    os.kill(runtime["shim_pid"], signal.SIGKILL)
    return runtime


def test_S_SANDBOX_S_INIT_another_one_begins_with_the_first_init(server: Server, journal: Journal) -> None:
    inits = (
        journal.life("init1", seconds=0.05),
        journal.life("side") | {"restartPolicy": "Always"},
        journal.life("init2", seconds=0.05),
    )
    with watching(server, "p") as watch:
        server.up(pod("p", journal.life("a"), journal.life("b"), inits=inits))
        journal.until("b start")
        before = kill_shim(server, "p")
        journal.until("b start", 2)
        server.wait("p", "condition=Ready")
        after = server.runtime("p")
    once = ["init1 start", "init1 exit 0", "side start", "init2 start", "init2 exit 0"]
    heard = journal.texts
    assert heard[:5] == heard[7:12] == once
    assert sorted(heard[5:7]) == sorted(heard[12:14]) == ["a start", "b start"]
    assert len(heard) == 14
    assert (before["sandbox"]["attempt"], after["sandbox"]["attempt"]) == (0, 1)
    assert [one["ip"] for one in server.get("p")["status"]["podIPs"]] == after["sandbox"]["ips"]
    for name in ("a", "b", "side"):
        shown = server.container("p", name)
        assert shown["restartCount"] == 1
        last = shown["lastState"]["terminated"]
        assert (last["exitCode"], last["reason"]) == (137, "ContainerStatusUnknown")
    assert server.container("p", "init1")["restartCount"] == 1
    assert "SandboxChanged" in server.reasons("p")
    assert watch.course(lambda status: condition(status, "PodReadyToStartContainers")) == ["False", "True"] * 2
    # A pod that initializes anew is Pending, and comes back.
    phases = watch.course(lambda status: status["phase"])
    assert (phases[:3], phases[-1]) == (["Pending", "Running", "Pending"], "Running")


@pytest.mark.parametrize("policy", ["Never", "OnFailure", "Always"])
def test_S_SANDBOX_S_RESTART_what_is_done_is_not_done_again(server: Server, journal: Journal, policy: str) -> None:
    done, works = journal.life("done", seconds=0.05), journal.life("works")
    server.up(pod("p", done, works, restartPolicy=policy), wait="none")
    journal.until("done exit 0")
    journal.until("works start")
    if policy != "Always":
        until(lambda: state(server.get("p")["status"], "done") == "Completed 0")
    kill_shim(server, "p")
    if policy == "Never":
        until(lambda: server.get("p")["status"]["phase"] == "Failed")
        assert journal.texts.count("works start") == 1
        assert server.runtime("p")["sandbox"]["attempt"] == 0
    else:
        journal.until("works start", 2)
        assert server.runtime("p")["sandbox"]["attempt"] == 1
    if policy == "OnFailure":
        assert journal.count("done start") == 1
        shown = container(server.get("p")["status"], "done")
        assert (shown["state"]["terminated"]["exitCode"], shown["restartCount"]) == (0, 0)


def test_S_SANDBOX_S_PHASE_a_finished_pod_stays_finished(server: Server, journal: Journal) -> None:
    """It has no sandbox any more; a new server makes none either."""
    server.up(pod("p", journal.life("web", seconds=0.05), restartPolicy="OnFailure"), wait="none")
    until(lambda: server.get("p")["status"]["phase"] == "Succeeded")
    until(lambda: server.runtime("p")["sandbox"]["state"] == "none")
    assert server.kill()
    server.start()
    assert server.get("p")["status"]["phase"] == "Succeeded"
    assert server.runtime("p")["shim_pid"] is None
    assert journal.texts == ["web start", "web exit 0"]


def test_S_SANDBOX_S_INIT_lost_in_the_middle_of_an_init_container(server: Server, journal: Journal) -> None:
    inits = (journal.life("init1", seconds=0.05), journal.life("init2", seconds=0.5))
    server.up(pod("p", journal.life("main"), inits=inits), wait="none")
    journal.until("init2 start")
    kill_shim(server, "p")
    journal.until("main start")
    assert journal.of("init1") == ["start", "exit 0"] * 2
    assert journal.of("init2") == ["start", "start", "exit 0"]
    assert server.container("p", "init2")["lastState"]["terminated"]["exitCode"] == 137


def test_S_SANDBOX_lost_while_no_server_ran(server: Server, journal: Journal) -> None:
    server.up(pod("p", journal.life("main")))
    journal.until("main start")
    runtime = server.runtime("p")
    assert server.kill()
    os.kill(runtime["shim_pid"], signal.SIGKILL)
    server.start()
    journal.until("main start", 2)
    assert server.runtime("p")["sandbox"]["attempt"] == 1
    assert server.container("p", "main")["restartCount"] == 1


def test_S_SANDBOX_S_TERM_lost_while_it_is_taken_down(server: Server, journal: Journal) -> None:
    server.up(pod("p", journal.life("main", linger=30)))
    journal.until("main start")
    runtime = server.runtime("p")
    server.call("pod.down", names=["p"], grace_period_s=60, wait=False)
    journal.until("main term")
    os.kill(runtime["shim_pid"], signal.SIGKILL)
    until(lambda: "p" not in server.names())
    assert journal.texts == ["main start", "main term"], "nothing starts again"


def test_S_REASONS_containers_of_a_shim_that_does_not_answer_for_a_while_are_not_lost(server: Server) -> None:
    """The next server cannot reach it when somebody sets a condition, and must publish something."""
    server.up(pod("p", box("a", "then", "await", "/dev/shm/go", ";", "exit", "3"), restartPolicy="Never"))
    shim = server.runtime("p")["shim_pid"]
    os.kill(shim, signal.SIGSTOP)
    try:
        server.kill()
        server.call("pod.condition", name="p", conditions={"example.com/seen": "True"})
        assert "running" in server.container("p", "a")["state"]
    finally:
        os.kill(shim, signal.SIGCONT)
    until(lambda: server.runtime("p")["shim_pid"] == shim)
    server.run("p", "/bin/write", "/dev/shm/go", "", container="a")
    server.wait("p", "phase=Failed")
    status = server.container("p", "a")
    assert (status["state"]["terminated"]["exitCode"], status["state"]["terminated"]["reason"]) == (3, "Error")
    assert (status["restartCount"], status.get("lastState")) == (0, {})
