"""The server is SIGKILLed around hooks: each runs once for an instance, what follows from it follows once, and no time begins anew."""

from __future__ import annotations

from typing import Any

import pytest

from tests.host.lifecycle.assassin import Assassin
from tests.host.lifecycle.journal import Journal
from tests.host.lifecycle.test_hooks import GRACE, events, gracious, hooks, in_turn
from tests.host.server.harness import Server, until

pytestmark = pytest.mark.timeout(240)


def slow(journal: Journal, name: str, seconds: float = 0.2, *after: str) -> dict[str, Any]:
    """A command that takes its time between telling that it begins and that it ends."""
    end = ("sleep", str(seconds), ";", "tell", str(journal.port), f"{name} ends", *((";", *after) if after else ()))
    return journal.told(f"{name} begins", *end)


def both(name: str) -> list[str]:
    """What such a command tells."""
    return [f"{name} begins", f"{name} ends"]


def test_S_HOOK_S_START_S_TERM_each_once_and_in_turn_whoever_dies(
    server: Server, journal: Journal, assassin: Assassin
) -> None:
    names = ("side", "a", "b")
    side, a, b = (
        journal.life(name, container=hooks(slow(journal, f"{name}-up"), slow(journal, f"{name}-down")))
        for name in names
    )
    manifest = gracious(a, b, inits=(side | {"restartPolicy": "Always"}, journal.life("init", seconds=0.05)))
    with assassin.at_work(
        1.5, "side start", "side-up begins", "side-up ends", "a-up begins", "a-up ends", "b-up begins"
    ):
        server.up(manifest, wait="none")
        journal.until("b-up ends", timeout_s=60)
    server.wait("p", "condition=Ready", 60)
    up = [
        "side start",
        *both("side-up"),
        "init start",
        "init exit 0",
        "a start",
        *both("a-up"),
        "b start",
        *both("b-up"),
    ]
    assert in_turn(journal) == up
    with assassin.at_work(1.0, "side-down begins", "a-down begins", "b-down ends", "a term", "b exit 0", "side term"):
        server.down("p", grace_period_s=GRACE, wait=False)
        until(lambda: "p" not in server.names(), 60)
    down = journal.texts[len(up) :]
    expected = [*(text for name in names for text in both(f"{name}-down"))]
    expected += [f"{name} {what}" for name in names for what in ("term", "exit 0")]
    assert sorted(down) == sorted(expected)
    for name in names:
        journal.before(*both(f"{name}-down"), f"{name} term", f"{name} exit 0")
    journal.before("a exit 0", "side term")
    journal.before("b exit 0", "side term")


def test_S_HOOK_S_RESTART_a_postStart_that_fails_counts_once_whoever_dies(
    server: Server, journal: Journal, assassin: Assassin
) -> None:
    hook = slow(journal, "up", 0.1, "failing", "/dev/shm/hook", "2")
    container = journal.life("a", container=hooks(hook, slow(journal, "down", 0.1)))
    with assassin.at_work(1.0, "up begins", "up ends", "down begins", "down ends", "a term", "a exit 0"):
        server.up(gracious(container), wait="none")
        journal.until("up ends", 3, timeout_s=90)
    server.wait("p", "condition=Ready", 60)
    life = ["a start", *both("up"), *both("down"), "a term", "a exit 0"]
    assert in_turn(journal) == [*life, *life, "a start", *both("up")]
    assert server.container("p", "a")["restartCount"] == 2
    failures = events(server, "FailedPostStartHook")
    assert set(failures) == {("FailedPostStartHook", "PostStartHook failed")}


def test_S_HOOK_S_TERM_time_of_hooks_is_not_given_twice(server: Server, journal: Journal, assassin: Assassin) -> None:
    """A sleep of one second; then one of fifteen, of which three are given; whoever does not listen is killed after two more."""
    waits = journal.life("a", container=hooks({"sleep": {"seconds": 1}}, {"sleep": {"seconds": 15}}), linger=-1)
    with assassin.at_work(1.0, "a start"):
        server.up(gracious(waits, journal.life("b")), wait="none")
        journal.until("b start", timeout_s=60)
    assert 0.9 < journal.time("b start") - journal.time("a start") < 3
    with assassin.at_work(3.0, "b term", "a term"):
        server.down("p", grace_period_s=3, wait=False)
        until(lambda: "p" not in server.names(), 60)
    assert journal.texts == ["a start", "b start", "b term", "b exit 0", "a term"]
    assert 2.5 < journal.time("a term") - journal.time("b term") < 4.5
