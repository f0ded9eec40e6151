"""What went over interfaces."""

from __future__ import annotations

from nsrun.network.traffic import Traffic, traffic, traffic_of

TEXT = """Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed
    lo: 40368809  598544    0    0    0     0          0         0 40368809  598544    0    0    0     0       0          0
nsrabc:1        2    3    4    5     6          7         8        9      10    11   12   13    14      15         16
  bad: 1 2 three
"""


def test_stats_the_counters_of_interfaces() -> None:
    found = traffic_of(TEXT)
    assert found.keys() == {"lo", "nsrabc"}
    assert found["nsrabc"] == Traffic(1, 2, 3, 4, 9, 10, 11, 12)
    assert found["nsrabc"].other_end() == Traffic(9, 10, 11, 12, 1, 2, 3, 4)
    assert traffic_of("") == {}


def test_stats_this_machine_has_a_loopback_and_nothing_is_no_error() -> None:
    assert "lo" in traffic()
    assert traffic("/proc/none") == {}
