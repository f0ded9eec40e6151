"""Conditions that somebody else finds true or not: those of readiness gates (S-COND), set as with `kubectl patch --subresource=status`.

Source: kubernetes pkg/apis/core/validation/validation.go validatePodConditions, pkg/kubelet/status/generate.go.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from nsrun.errors import UsageError
from nsrun.spec.model import PodCondition, PodStatus
from nsrun.spec.names import qualified_name
from nsrun.status.conditions import OWN, with_condition

STATUSES = ("True", "False", "Unknown")


def check_condition(type_: str, status: str | None) -> None:
    """Raise unless a user may give a condition of this type this status (None: take it away).

    Raises:
        UsageError: it is nsrun's own, no name, or no such status.
    """
    if type_ in OWN:
        raise UsageError(
            f"the condition {type_} follows from the pod's containers, and cannot be set",
            details="A condition of one's own has a name like example.com/warm; spec.readinessGates has the pod wait for it.",
        )
    objections = qualified_name(type_)
    if objections:
        raise UsageError(f"{type_!r} is no type of a condition", details="\n".join(objections))
    if status is not None and status not in STATUSES:
        raise UsageError(f"the status of a condition is {', '.join(STATUSES[:-1])} or {STATUSES[-1]}, not {status!r}")


def with_conditions(
    status: PodStatus, wanted: Mapping[str, str | None], reason: str | None, message: str | None, now: float
) -> PodStatus:
    """The status with other conditions of others.

    Args:
        status: not changed.
        wanted: status by type; None takes the condition away.
        reason: of all of them; a word.
        message: of all of them; a sentence.
        now: seconds since the epoch: the time of transition of those whose status is another one.
    """
    for type_, value in wanted.items():
        if value is None:
            others = [one for one in status.conditions if one.type != type_]
            status = msgspec.structs.replace(status, conditions=others)
        else:
            condition = PodCondition(type=type_, status=value, reason=reason, message=message)
            status = with_condition(status, condition, now)
    return status
