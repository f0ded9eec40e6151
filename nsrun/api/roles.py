"""Callers, and what they may: `full` may everything, `read-only` may look at everything but secrets, and may read logs."""

from __future__ import annotations

from typing import NamedTuple

from nsrun.api.paths import Target
from nsrun.errors import StatusError
from nsrun.spec import api_status

FULL = "full"
READ_ONLY = "read-only"
ROLES = (FULL, READ_ONLY)
_LOOKS = frozenset(["get", "list", "watch"])
_QUESTIONS = frozenset(["authentication.k8s.io", "authorization.k8s.io"])
_ACTING_STREAMS = frozenset(["exec", "attach", "portforward"])


class Caller(NamedTuple):
    """Somebody who asks.

    Attributes:
        name: as refusals say it.
        role: what they may.
    """

    name: str
    role: str

    @property
    def groups(self) -> list[str]:
        """As SelfSubjectReview tells them."""
        return ["system:masters", "system:authenticated"] if self.role == FULL else ["system:authenticated"]


ANYBODY = Caller("system:anonymous", FULL)
NOBODY = Caller("system:anonymous", "")


def may(caller: Caller, verb: str, target: Target | None) -> None:
    """Whether a caller may do something.

    Args:
        caller: who.
        verb: what, as `paths.verb` has it.
        target: to what; None for a document about the server.

    Raises:
        StatusError: 403.
    """
    if target is not None and not allowed(caller.role, verb, target):
        raise refusal(caller, verb, target)


def allowed(role: str, verb: str, target: Target) -> bool:
    """Whether a role may do something."""
    if role == FULL or (verb == "create" and target.resource.group in _QUESTIONS):
        # Who one is and what one may, everybody may ask.
        return True
    if role != READ_ONLY:
        return False
    if target.subresource is not None and target.subresource.name in _ACTING_STREAMS:
        return False
    return verb in _LOOKS and target.kind != "Secret"


def refusal(caller: Caller, verb: str, target: Target) -> StatusError:
    """403, in the words of the API server's authorizer."""
    resource = target.resource
    named = resource.plural + (f"/{target.subresource.name}" if target.subresource is not None else "")
    where = f' in the namespace "{target.namespace}"' if target.namespace else " at the cluster scope"
    why = f'User "{caller.name}" cannot {verb} resource "{named}" in API group "{resource.group}"{where}'
    return api_status.forbidden(resource, target.name, why)
