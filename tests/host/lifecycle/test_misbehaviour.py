"""Containers that behave badly: they harm nobody but themselves, and go when they are told to."""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.host.lifecycle.journal import Journal
from tests.host.lifecycle.watching import state
from tests.host.server.harness import Server, box, pod, until

pytestmark = pytest.mark.timeout(120)

BOMBER = 54321
"""A user whose processes the kernel counts apart from everybody else's."""
MOST = 300


@contextmanager
def few_processes() -> Iterator[None]:
    """What is started in here, and is not root's, may have MOST processes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NPROC)
    resource.setrlimit(resource.RLIMIT_NPROC, (MOST, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NPROC, (soft, hard))


def processes_of(user: int) -> list[int]:
    """The processes of a user, as the kernel tells them."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and entry.stat().st_uid == user:
                found.append(int(entry.name))
        except FileNotFoundError:
            continue
    return found


def test_S_TERM_S_RESTART_a_fork_bomb_is_bounded_restarted_and_goes(server: Server, journal: Journal) -> None:
    """The limit of the machine bounds it; its neighbour in the pod lives on, and nothing of it outlives the pod."""
    server.stop()
    with few_processes():
        server.start()
    bomb = box("bomb", "forkbomb", securityContext={"runAsUser": BOMBER, "runAsGroup": BOMBER})
    server.up(pod("p", bomb, journal.life("good")), wait="none")
    journal.until("good start")
    until(lambda: len(processes_of(BOMBER)) > MOST * 0.8)
    assert len(processes_of(BOMBER)) <= MOST
    server.call("pod.restart", name="p", containers=["bomb"], grace_period_s=0)
    until(lambda: server.container("p", "bomb")["restartCount"] == 1)
    assert server.run("p", "/bin/echo", "still here", container="good")[1] == b"still here\n"
    begun = time.monotonic()
    server.down("p", grace_period_s=2)
    assert time.monotonic() - begun < 10
    assert processes_of(BOMBER) == []
    assert journal.of("good") == ["start", "term", "exit 0"]


def test_S_TERM_processes_that_left_their_session_go_along(server: Server) -> None:
    server.up(pod("p", box("parent", "orphans", "5", "300", "300")))
    until(lambda: server.lines("p", "parent") == ["ready"])
    code, out, _ = server.run("p", "/bin/pids", container="parent")
    assert code == 0
    assert len([line for line in out.decode().splitlines() if line.endswith(" orphans")]) >= 5
    cgroup = server.host.cgroup_base
    assert cgroup is not None
    uid = server.get("p")["metadata"]["uid"]
    inside = [int(pid) for file in (cgroup / f"pod-{uid}").rglob("cgroup.procs") for pid in file.read_text().split()]
    assert len(inside) >= 6
    server.down("p", grace_period_s=2)
    assert [pid for pid in inside if os.path.exists(f"/proc/{pid}")] == []


def test_S_RESTART_the_root_process_ends_and_its_children_go_along(server: Server, journal: Journal) -> None:
    """A container is over when its root process is: what that left behind is killed before the next instance starts."""
    words = ["then", "tell", str(journal.port), "web start", ";", "orphans", "3", "300", "0.2"]
    server.up(pod("p", box("web", *words), journal.life("stays")), wait="none")
    journal.until("web start", 2)
    code, out, _ = server.run("p", "/bin/pids", container="stays")
    assert code == 0
    assert "orphans" not in out.decode(), "each container sees its own processes alone"
    runtime = server.runtime("p")
    assert len([one for one in runtime["instances"] if one["name"] == "web" and one["state"] == "running"]) <= 1


@pytest.mark.parametrize("image", ["tests.local/missing", "tests.local/testbox"])
@pytest.mark.parametrize(
    "command", [["/bad/script"], ["/bad/data"], ["/bad/directory"], ["/no/such/file"], ["/bad/empty"]]
)
def test_S_REASONS_S_PHASE_what_cannot_start_says_why(server: Server, image: str, command: list[str]) -> None:
    web = {"name": "web", "image": image, "imagePullPolicy": "Never", "command": command}
    server.up(pod("p", web, restartPolicy="Never"), wait="none")
    if image.endswith("missing"):
        until(lambda: state(server.get("p")["status"], "web") == "ErrImageNeverPull")
        assert server.get("p")["status"]["phase"] == "Pending"
        return
    server.wait("p", "phase=Failed")
    ended = server.container("p", "web")["state"]["terminated"]
    assert (ended["exitCode"], ended["reason"]) == (128, "StartError")
    assert command[0] in ended["message"]
