"""How long to wait before something is tried again (S-BACKOFF, S-REASONS).

Source: kubelet pkg/kubelet/kubelet.go (initial and maximal back-off), kuberuntime_manager.go doBackOff, client-go
util/flowcontrol/backoff.go. All times are seconds.
"""

from __future__ import annotations

from nsrun.reconcile.model import Waiting
from nsrun.waiting import CONFIG_ERROR

INITIAL_S = 10.0
MAXIMUM_S = 300.0
RESET_S = 600.0
"""A container that lived longer than this since its last start begins at the front of the table again."""

SANDBOX_INTERVAL_S = 1.0
"""Two sandboxes of a pod are begun at least this far apart, so that one that dies at once does not spin."""


def next_delay(delay_s: float) -> float:
    """The delay after `delay_s` in the table 0, 10, 20, 40, 80, 160, 300, 300, ..."""
    return INITIAL_S if delay_s <= 0 else min(delay_s * 2, MAXIMUM_S)


def due(since: float, delay_s: float, now: float) -> float:
    """When `delay_s` after `since` is, believing a clock that was set back for no longer than the delay itself.

    `since` may lie in the future of `now` when the clock was set back. As long as that is less than the delay, the
    delay just gets longer (at most twice as long); beyond that it counts as over.
    """
    return since + delay_s if since - now <= delay_s else now


def retry_due(waiting: Waiting, tempo: float, now: float) -> float:
    """When what failed is tried again; `tempo` makes the delay that much shorter."""
    return due(waiting.retry_at - waiting.delay_s, waiting.delay_s / tempo, now)


def waiting_after(before: Waiting | None, reason: str, message: str, now: float) -> Waiting:
    """What a failed attempt to make an instance (or a sandbox) leaves: tried again after 10, 20, 40 ... 300 s.

    What only waits for its configuration is tried every 10 s (kubelet pkg/kubelet/pod_workers.go, backOffPeriod).
    """
    delay_s = next_delay(before.delay_s if before is not None and reason != CONFIG_ERROR else 0.0)
    return Waiting(reason, message, retry_at=now + delay_s, delay_s=delay_s)
