"""A container's exit restarts the whole pod in its sandbox (rule RestartAllContainers), on real processes."""

from __future__ import annotations

from typing import Any

import pytest

from tests.host.lifecycle.assassin import Assassin
from tests.host.lifecycle.journal import Journal
from tests.host.lifecycle.watching import condition, container, state, watching
from tests.host.server.harness import Server, pod, until

pytestmark = pytest.mark.timeout(120)

RULES = [{"action": "RestartAllContainers", "exitCodes": {"operator": "In", "values": [42]}}]


def ruled(life: dict[str, Any]) -> dict[str, Any]:
    """A container whose exit with 42 restarts all."""
    return life | {"restartPolicy": "Never", "restartPolicyRules": RULES}


def team(journal: Journal, codes: str = "42,0", policy: str = "Never") -> dict[str, Any]:
    """An init container, a sidecar, a worker that stays, one that is done, and the one with the rule."""
    inits = (journal.life("init", seconds=0.05), journal.life("side") | {"restartPolicy": "Always"})
    done = journal.life("done", seconds=0.05)
    source = ruled(journal.life("source", seconds=0.6, count="/dev/shm/n", codes=codes))
    return pod("p", journal.life("worker"), done, source, inits=inits, restartPolicy=policy)


def test_S_RESTARTALL_begins_again_in_the_same_sandbox(server: Server, journal: Journal) -> None:
    with watching(server, "p") as watch:
        server.up(team(journal), wait="none")
        journal.until("source start")
        address = watch.until(lambda status: status.get("podIP"))["podIP"]
        journal.until("source exit 0", timeout_s=30)
        last = watch.until(lambda status: state(status, "source") == "Completed 0")
    heard = journal.texts
    again = heard.index("source exit 42") + 1
    rest = [text for text in heard[again:] if not text.endswith(" term") or text.startswith("source")]
    assert rest.index("init start") < rest.index("init exit 0") < rest.index("side start") < rest.index("worker start")
    for name in ("init", "side", "worker", "done", "source"):
        assert journal.count(f"{name} start") == 2, name
        assert container(last, name)["restartCount"] == 1, name
    assert last["podIP"] == address
    assert server.runtime("p")["sandbox"]["attempt"] == 0, (
        "the sandbox stays, and what it shares: /dev/shm still counts"
    )
    for name in ("worker", "done", "side"):
        ended = container(last, name)["lastState"]["terminated"]
        assert (ended["exitCode"], ended["reason"]) == (137, "RestartingAllContainers"), name
    assert watch.course(lambda status: condition(status, "AllContainersRestarting")) == ["False", "True", "False"]
    assert watch.course(lambda status: status["phase"])[-1] == "Running"
    assert "Failed" not in watch.course(lambda status: status["phase"])


def test_S_RESTARTALL_another_exit_code_restarts_nobody(server: Server, journal: Journal) -> None:
    source = ruled(journal.life("source", seconds=0.1, code=41))
    server.up(pod("p", journal.life("worker"), source, restartPolicy="Never"), wait="none")
    journal.until("source exit 41")
    until(lambda: state(server.get("p")["status"], "source") == "Error 41")
    assert journal.of("worker") == ["start"]
    assert condition(server.get("p")["status"], "AllContainersRestarting") == "False"


def test_S_RESTARTALL_S_INIT_by_an_init_container(server: Server, journal: Journal) -> None:
    source = ruled(journal.life("init2", seconds=0.1, count="/dev/shm/n", codes="42,0"))
    server.up(
        pod("p", journal.life("main"), inits=(journal.life("init1", seconds=0.05), source), restartPolicy="Never")
    )
    journal.until("main start")
    assert journal.texts == [
        *("init1 start", "init1 exit 0", "init2 start", "init2 exit 42"),
        *("init1 start", "init1 exit 0", "init2 start", "init2 exit 0"),
        "main start",
    ]


def test_S_RESTARTALL_S_TERM_a_pod_that_is_taken_down_is_not_restarted(server: Server, journal: Journal) -> None:
    source = ruled(journal.life("source", code=42))
    server.up(pod("p", journal.life("worker", linger=0.5), source))
    journal.until("worker start")
    journal.until("source start")
    server.down("p", grace_period_s=20)
    assert journal.count("worker start") == journal.count("source start") == 1
    journal.before("source exit 42", "worker exit 0")


def test_S_RESTARTALL_once_whoever_dies(server: Server, journal: Journal, assassin: Assassin) -> None:
    with assassin.at_work(1.5, "source start", "source exit 42", "init start", "worker start", "side start"):
        server.up(team(journal), wait="none")
        journal.until("source exit 0", timeout_s=60)
    until(lambda: state(server.get("p")["status"], "source") == "Completed 0")
    for name in ("init", "side", "worker", "done", "source"):
        assert journal.count(f"{name} start") == 2, name
        assert server.container("p", name)["restartCount"] == 1, name
    assert journal.count("source exit 42") == 1
    assert condition(server.get("p")["status"], "AllContainersRestarting") == "False"
