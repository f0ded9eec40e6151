"""The back-off table, on a virtual clock."""

from __future__ import annotations

from dataclasses import replace

import pytest

from nsrun.reconcile.backoff import due, next_delay, waiting_after
from nsrun.reconcile.model import CreateSandbox, StartContainer, WakeAt
from tests.pure.reconcile.world import T0, World, make_pod


def _crash_loop(world: World, name: str, times: int, code: int = 1, lives_s: float = 0.0) -> list[float]:
    """Let `name` run `lives_s` and exit, `times` over; the waits from exit to restart."""
    waits = []
    for _ in range(times):
        world.now += lives_s
        world.exit(world.alive()[name].id, code)
        ended = world.now
        count = len(world.started(name))
        world.run()
        while len(world.started(name)) == count:
            assert world.wake_at is not None
            world.now = world.wake_at
            world.run()
        waits.append(world.started(name)[-1] - ended)
    return waits


@pytest.mark.parametrize("code", [0, 1])
@pytest.mark.parametrize(("inits", "policy"), [((), "Always"), (("s*",), "Always")])
def test_S_BACKOFF_the_whole_table(code: int, inits: tuple[str, ...], policy: str) -> None:
    world = World(make_pod(inits=inits, policy=policy))
    world.run()
    waits = _crash_loop(world, "app", 9, code)
    assert waits == [0, 10, 20, 40, 80, 160, 300, 300, 300]


def test_S_BACKOFF_cumulative_starts_are_those_of_the_e2e_test() -> None:
    world = World(make_pod())
    world.run()
    _crash_loop(world, "app", 7)
    starts = [at - T0 for at in world.started("app")]
    assert starts == [0, 0, 10, 30, 70, 150, 310, 610]


@pytest.mark.parametrize("name", ["i", "s"])
def test_S_BACKOFF_applies_to_init_containers_and_sidecars(name: str) -> None:
    world = World(make_pod(inits=("i", "s*") if name == "i" else ("s*",)))
    world.run()
    assert _crash_loop(world, name, 5) == [0, 10, 20, 40, 80]


def test_S_BACKOFF_is_each_containers_own() -> None:
    world = World(make_pod(mains=("a", "b")))
    world.run()
    assert _crash_loop(world, "a", 4) == [0, 10, 20, 40]
    assert _crash_loop(world, "b", 2) == [0, 10]


@pytest.mark.parametrize(
    ("lives_s", "waits"),
    [
        (599.0, [0, 10, 20, 40]),
        (600.0, [0, 10, 20, 40]),
        (600.5, [0, 0, 0, 0]),
    ],
)
def test_S_BACKOFF_resets_after_a_life_of_more_than_600_s(lives_s: float, waits: list[float]) -> None:
    world = World(make_pod())
    world.run()
    assert _crash_loop(world, "app", 4, lives_s=lives_s) == waits


def test_S_BACKOFF_after_a_reset_the_table_begins_again() -> None:
    world = World(make_pod())
    world.run()
    assert _crash_loop(world, "app", 4) == [0, 10, 20, 40]
    assert _crash_loop(world, "app", 1, lives_s=601) == [0]
    assert _crash_loop(world, "app", 3) == [10, 20, 40]


def test_S_BACKOFF_counts_from_the_end_and_not_from_when_it_was_noticed() -> None:
    world = World(make_pod())
    world.run()
    _crash_loop(world, "app", 3)
    world.exit(world.alive()["app"].id, 1)
    ended = world.now
    world.now += 33
    world.kill_server()
    world.run()
    assert world.wake_at == ended + 40


@pytest.mark.parametrize("late_s", [0.0, 5.0, 100.0])
def test_S_BACKOFF_survives_the_server(late_s: float) -> None:
    world = World(make_pod())
    world.run()
    for wait in [0, 10, 20, 40]:
        world.exit(world.alive()["app"].id, 1)
        due_at = world.now + wait
        world.kill_server()
        world.run()
        world.kill_server()
        world.now += late_s
        world.run()
        if world.now < due_at:
            assert world.wake_at == due_at
            world.now = due_at
            world.run()
        assert world.started("app")[-1] == (due_at if wait == 0 else world.now), "the first restart is at once"


def test_S_BACKOFF_a_requested_restart_is_at_once_and_takes_no_step() -> None:
    world = World(make_pod())
    world.run()
    _crash_loop(world, "app", 3)
    world.ask_restart("app")
    world.run()
    world.now += 1
    world.exit(world.alive()["app"].id, 143)
    world.run()
    assert world.started("app")[-1] == world.now
    assert _crash_loop(world, "app", 1) == [40]


def test_S_BACKOFF_a_command_that_cannot_start_backs_off() -> None:
    world = World(make_pod())
    world.facts["app"].start_fails = True
    world.advance(160)
    assert [at - T0 for at in world.started("app")] == [0, 0, 10, 30, 70, 150]
    status = world.stored_status.containerStatuses[0]
    assert status.state.waiting is not None
    assert status.state.waiting.reason == "CrashLoopBackOff"
    assert status.lastState.terminated is not None
    assert (status.lastState.terminated.exitCode, status.lastState.terminated.reason) == (128, "StartError")


def test_S_REASONS_an_image_that_is_missing_is_tried_again_and_counts_no_restart() -> None:
    world = World(make_pod())
    world.facts["app"].broken = True
    world.advance(320)
    assert [at - T0 for at in world.started("app")] == [0, 10, 30, 70, 150, 310]
    assert world.stored_status.phase == "Pending"
    waiting = world.stored_status.containerStatuses[0].state.waiting
    assert waiting is not None
    assert (waiting.reason, waiting.message) == ("ErrImageNeverPull", "no such image")
    world.facts["app"].broken = False
    world.advance(301)
    assert world.stored_status.phase == "Running"
    assert world.stored_status.containerStatuses[0].restartCount == 0
    assert world.waiting("app") is None


def test_S_SANDBOX_that_cannot_be_made_is_tried_again() -> None:
    world = World(make_pod())
    world.sandbox_fails()
    world.run()
    assert world.wake_at == T0 + 10
    assert world.log == []
    world.advance(10)
    assert [type(action) for _, action in world.log] == [CreateSandbox, StartContainer]


def test_S_SANDBOX_that_dies_at_once_does_not_spin() -> None:
    world = World(make_pod())
    world.run()
    for _ in range(3):
        world.kill_shim()
        world.run()
        assert world.wake_at == pytest.approx(world.now + 1)
        world.advance(1)
    made = [at - T0 for at, action in world.log if isinstance(action, CreateSandbox)]
    assert made == [0, 1, 2, 3]


def test_S_BACKOFF_S_SANDBOX_of_two_that_die_a_main_container_waits_and_an_init_container_does_not() -> None:
    """The kubelet removes the init containers, sidecars too, with the sandbox (purgeInitContainers), and finds no end to wait from."""
    world = World(make_pod(inits=("i", "s*"), mains=("app",)))

    def up() -> None:
        world.run()
        world.exit(world.alive()["i"].id, 0)
        world.run()

    up()
    for _ in range(2):
        world.kill_shim()
        world.run()
        world.advance(1)
        up()
    assert [at - T0 for at in world.started("i")] == [at - T0 for at in world.started("s")] == [0, 1, 2]
    assert [at - T0 for at in world.started("app")] == [0, 1]
    assert world.wake_at == T0 + 1 + 10
    # What it did by itself counts from then on, beginning at the front of the table.
    assert _crash_loop(world, "s", 3) == [0, 10, 20]


def test_S_BACKOFF_next_delay_doubles_to_the_maximum() -> None:
    delays, delay_s = [], 0.0
    for _ in range(7):
        delay_s = next_delay(delay_s)
        delays.append(delay_s)
    assert delays == [10, 20, 40, 80, 160, 300, 300]


def test_S_BACKOFF_waiting_after_doubles() -> None:
    first = waiting_after(None, "ErrImagePull", "x", 100.0)
    second = waiting_after(first, "ErrImagePull", "y", 200.0)
    assert (first.retry_at, second.retry_at, second.message) == (110.0, 220.0, "y")


@pytest.mark.parametrize(
    ("now", "at"),
    [
        (1000.0, 1010.0),
        (1009.0, 1010.0),
        (1011.0, 1010.0),
        (995.0, 1010.0),
        (990.0, 1010.0),
        (989.0, 989.0),
        (0.0, 0.0),
    ],
)
def test_S_BACKOFF_due_believes_a_clock_set_back_for_no_longer_than_the_delay(now: float, at: float) -> None:
    assert due(1000.0, 10.0, now) == at


def test_S_BACKOFF_a_clock_set_back_far_delays_no_restart() -> None:
    world = World(make_pod())
    world.run()
    _crash_loop(world, "app", 3)
    world.exit(world.alive()["app"].id, 1)
    world.run()
    assert world.wake_at == world.now + 40
    world.facts["app"] = replace(world.facts["app"], backoff=0.0)  # the check in the world believes the clock
    world.now -= 86400
    world.run()
    assert world.started("app")[-1] == world.now
    assert not any(isinstance(action, WakeAt) for _, action in world.log)
