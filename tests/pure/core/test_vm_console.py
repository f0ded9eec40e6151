"""What a virtual machine's console says of processors that are stuck."""

from __future__ import annotations

import pytest

from tests.vm.machine import STUCK_S, stuck_s

pytestmark = pytest.mark.pure


@pytest.mark.parametrize(
    ("console", "seconds"),
    [
        ("", 0),
        ("[   44.678247] watchdog: BUG: soft lockup - CPU#1 stuck for 22s! [python:191]\n", 22),
        (
            "BUG: soft lockup - CPU#0 stuck for 26s! [mkdir:201]\nBUG: soft lockup - CPU#0 stuck for 104s! [mkdir:201]",
            104,
        ),
    ],
)
def test_the_longest_counts(console: str, seconds: int) -> None:
    assert stuck_s(console) == seconds
    assert (stuck_s(console) >= STUCK_S) == (seconds > 100)
