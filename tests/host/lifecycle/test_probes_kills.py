"""The server is SIGKILLed while probes run: a verdict counts once, and what was ready stays ready."""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path

import pytest

from tests.host.lifecycle.assassin import Assassin
from tests.host.lifecycle.journal import Journal
from tests.host.lifecycle.test_probes import command
from tests.host.lifecycle.watching import condition
from tests.host.server.harness import Server, alive, box, pod, until

pytestmark = pytest.mark.timeout(180)


def test_S_PROBE_liveness_kills_each_failed_instance_once_whoever_dies(
    server: Server, journal: Journal, assassin: Assassin
) -> None:
    probe = {**journal.told("asked", "cat", "/dev/shm/healed"), "periodSeconds": 1, "failureThreshold": 2}
    web = journal.life("web", linger=0.2, container={"livenessProbe": probe})
    server.up(pod("p", web, box("helper", "pause"), terminationGracePeriodSeconds=20))
    journal.until("web start")
    with assassin.at_work(5.0, "asked", "web term", "web exit 0", "web start", most=5):
        # Each new server counts from the beginning: the verdict comes, if later.
        journal.until("web term", timeout_s=40)
        server.run("p", "/bin/write", "/dev/shm/healed", "x", container="helper")
        journal.until("web start", 2, timeout_s=40)
    asked = journal.count("asked")
    journal.until("asked", asked + 3)
    assert journal.of("web") == ["start", "term", "exit 0", "start"]
    until(lambda: server.container("p", "web")["restartCount"] == 1)
    assert server.container("p", "helper")["restartCount"] == 0


def test_S_PROBE_startup_and_readiness_get_there_whoever_dies(
    server: Server, journal: Journal, assassin: Assassin
) -> None:
    startup = {**journal.told("startup", "cat", "/dev/shm/up"), "periodSeconds": 1, "failureThreshold": 100}
    readiness = {**journal.told("readiness"), "periodSeconds": 1}
    web = journal.life("web", container={"startupProbe": startup, "readinessProbe": readiness})
    server.up(pod("p", web, box("helper", "pause")))
    with assassin.at_work(4.0, "startup", "readiness", "web start", most=6):
        journal.until("startup", 2, timeout_s=40)
        assert journal.count("readiness") == 0
        server.run("p", "/bin/write", "/dev/shm/up", "x", container="helper")
        server.wait("p", "condition=Ready", 60)
        asked = journal.count("startup")
        before = server.get("p")["status"]["conditions"]
        journal.until("readiness", journal.count("readiness") + 2, timeout_s=40)
    until(lambda: server.get("p")["status"]["conditions"] == before)
    assert condition(server.get("p")["status"], "Ready") == "True"
    assert journal.count("startup") == asked, "what has started up is not asked again"
    assert journal.of("web") == ["start"]


def processes(name: str) -> list[int]:
    """Those of this name that live, in this test host."""
    found = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError, ValueError):
            if (entry / "comm").read_text().strip() == name and alive(int(entry.name)):
                found.append(int(entry.name))
    return found


def test_S_PROBE_a_command_that_hangs_is_killed_though_the_server_was_killed_over_it(
    server: Server, journal: Journal, assassin: Assassin
) -> None:
    probe = {**journal.told("asked", "orphans", "2", "1000", "1000"), "periodSeconds": 1, "timeoutSeconds": 2}
    server.up(pod("p", journal.life("web", container={"readinessProbe": probe})))
    with assassin.at_work(2.0, "asked", most=3):
        journal.until("asked", 3, timeout_s=40)
    journal.until("asked", journal.count("asked") + 2, timeout_s=40)
    # `then`, which was asked for, and its orphans, of one run.
    until(lambda: len(processes("then")) <= 3)
    assert journal.of("web") == ["start"]


def test_S_PROBE_what_a_command_leaves_running_on_purpose_stays(server: Server) -> None:
    """Whatever becomes of later runs and of the server: it is the container's own."""
    probe = command("orphans", "1", "1000")
    server.up(pod("p", box("web", "pause", livenessProbe=probe)))
    until(lambda: len(processes("orphans")) >= 2)
    time.sleep(0.2)
    left = [number for number in processes("orphans") if alive(number)]
    assert server.kill()
    server.start()
    until(lambda: len(processes("orphans")) >= len(left) + 2)
    assert all(map(alive, left))


def test_S_PROBE_cgroups_of_runs_are_gone_once_nobody_is_in_them(server: Server) -> None:
    probe = command("orphans", "1", "1.5")
    server.up(pod("p", box("web", "pause", livenessProbe=probe)))
    base = server.host.cgroup_base
    if base is None:
        pytest.skip("there are no cgroups here")

    def groups() -> set[str]:
        return {path for path, _, _ in os.walk(base) if "/probe-" in path}

    until(groups)
    first = groups()
    assert server.kill()
    server.start()
    until(lambda: groups() and not first & groups())
    assert len(groups()) <= 4
