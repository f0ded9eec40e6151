"""Whether a pod may begin: it is on this machine, and what it claims is there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nsrun.reconcile.placement import claim_names, unschedulable
from nsrun.reconcile.scheduling import objection
from nsrun.server import changes
from nsrun.status.events import FAILED_SCHEDULING, WARNING

if TYPE_CHECKING:
    from nsrun.server.engine import PodEngine


class Placing:
    """Whether one pod may begin: its claims are there and bound.

    Args:
        engine: the pod.

    Attributes:
        message: why it may not, in the scheduler's words; "" when it may.
    """

    def __init__(self, engine: PodEngine) -> None:
        self._engine = engine
        self.message = ""
        self._told: list[str] = []

    def look(self) -> bool:
        """Look, before the pod has begun; whether it may begin.

        Raises:
            NsrunError, OSError: what it refers to cannot be read, or its own claims cannot be made.
        """
        engine, claims = self._engine, self._engine.world.claims
        if engine.desired.spec.nodeName != engine.world.node.name and not self._placed():
            return False
        names = claim_names(engine.pod)
        if not names:
            return True
        claims.make_owned(engine.pod)
        found = {name: claim for name in names if (claim := claims.claim(engine.namespace, name)) is not None}
        used = [name for name in names if claims.users(engine.namespace, name, besides=engine.uid)]
        self.message = unschedulable(engine.pod, found, used)
        if self.message:
            reasons = [claims.reason(engine.namespace, name) for name in found]
            self._tell([(FAILED_SCHEDULING, self.message), *(one for one in reasons if one is not None)])
        return not self.message

    def _placed(self) -> bool:
        """Have a pod that has no node be on this one, if it may; whether it is."""
        engine, spec = self._engine, self._engine.desired.spec
        if spec.nodeName:
            self.message = f'the pod is for the node "{spec.nodeName}", which is another one than this'
            return False
        if spec.schedulingGates:
            self.message = "Scheduling is blocked due to non-empty scheduling gates"
            return False
        self.message = objection(engine.desired, engine.world.candidate())
        if self.message:
            self._tell([(FAILED_SCHEDULING, self.message)])
            return False
        changes.bind(engine)
        return True

    def _tell(self, events: list[tuple[str, str]]) -> None:
        """Once: a pod that waits is looked at whenever something changes."""
        for reason, message in events:
            if message not in self._told:
                self._engine.note(WARNING, reason, message)
        self._told = [message for _, message in events]
