"""What is done about a shim that does not end although its pod is taken down."""

from __future__ import annotations

import contextlib
import logging
from typing import TYPE_CHECKING

from nsrun.server import sandbox
from nsrun.shim import shim_alive

if TYPE_CHECKING:
    from nsrun.server.clock import Timer
    from nsrun.server.engine import PodEngine

LAST_RESORT_S = 5.0
"""How long after its grace period the shim of a pod that is taken down may live: one that does not answer is killed then."""

_LOG = logging.getLogger("nsrun.last_resort")


class LastResort:
    """The time from which on one pod, when it is taken down, does not wait for its shim any more.

    A timer of its own, not a step of the pod's loop: that may be waiting for this very shim.
    """

    def __init__(self, engine: PodEngine) -> None:
        self._engine = engine
        self._timer: Timer | None = None

    def expect(self) -> None:
        """Set the time by what is written down of the deletion, if there is one."""
        deletion = self._engine.wish.deletion
        if deletion is None:
            return
        self.cancel()
        at = deletion.requested_at + deletion.grace_s + LAST_RESORT_S
        self._timer = self._engine.world.clock.call_at(at, self._now)

    def cancel(self) -> None:
        """Wait for the shim for as long as it takes."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _now(self) -> None:
        self._timer = None
        engine, deletion = self._engine, self._engine.wish.deletion
        if engine.gone or deletion is None or not shim_alive(engine.paths.directory):
            return
        if engine.world.clock.now() < deletion.requested_at + deletion.grace_s + LAST_RESORT_S:
            self.expect()
            return
        _LOG.warning("pod %s: its shim does not end, and is killed", engine.label)
        with contextlib.suppress(OSError):
            sandbox.kill_shim(engine.paths)
