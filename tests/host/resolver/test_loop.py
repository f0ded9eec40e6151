"""The resolver's loop: what is to be done later, and what is not."""

from __future__ import annotations

import os

import pytest

from nsrun.resolver.loop import Loop

pytestmark = pytest.mark.host


def test_timers_in_their_order_and_none_that_was_cancelled() -> None:
    loop = Loop()
    done: list[int] = []
    for number in (3, 1, 2):
        loop.later(number / 1000, lambda number=number: done.append(number))  # type: ignore[misc]
    for number in range(10_000):
        loop.later(60, lambda: done.append(0)).cancel()
        assert len(loop._timers) < 1000, number
    while len(done) < 3:
        loop.turn(1)
    assert done == [1, 2, 3]
    # One that was done already is nothing any more.
    last = loop.later(0, lambda: done.append(4))
    loop.turn(1)
    last.cancel()
    assert done[-1] == 4


def test_a_descriptor_that_is_forgotten_is_not_told_of() -> None:
    loop = Loop()
    told: list[int] = []
    near, far = os.pipe()
    other, another = os.pipe()
    try:
        # Either closes the other in the same turn.

        def close_instead(fd: int) -> None:
            told.append(fd)
            loop.forget(fd)

        loop.watch(near, lambda _events: close_instead(other))
        loop.watch(other, lambda _events: close_instead(near))
        os.write(far, b"x")
        os.write(another, b"x")
        loop.turn(1)
        assert len(told) == 1
    finally:
        for fd in (near, far, other, another):
            os.close(fd)
