"""What a request says besides the object."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nsrun.errors import UsageError
from nsrun.spec import api_status
from nsrun.spec.model import ObjectMeta

if TYPE_CHECKING:
    from nsrun.server.control import Request


ORPHAN, FOREGROUND, BACKGROUND = "Orphan", "Foreground", "Background"
"""What becomes of the objects that one owns which goes: they stay, go first, or go after it."""


@dataclass(frozen=True, slots=True)
class Deletion:
    """How an object is to go.

    Attributes:
        grace_s: seconds that it has; None is its own time.
        uid, version: what the object must have, if it is to go; "" is anything.
        propagation: what becomes of the objects that it owns: `Background`, `Foreground`, `Orphan`, or "" for the default.
        dry_run: nothing is done.
        eviction: the pod is told that it was evicted.
    """

    grace_s: float | None = None
    uid: str = ""
    version: str = ""
    propagation: str = ""
    dry_run: bool = False
    eviction: bool = False

    @staticmethod
    def of(request: Request) -> Deletion:
        """The deletion that a request asks for.

        Raises:
            UsageError: it says something else.
        """
        grace = request.params.get("grace_period_s")
        if grace is not None and (isinstance(grace, bool) or not isinstance(grace, int | float)):
            raise UsageError(f"{request.method}: parameter 'grace_period_s' must be a number")
        propagation = request.text("propagation", "")
        if propagation not in ("", ORPHAN, FOREGROUND, BACKGROUND):
            text = f'propagationPolicy: Unsupported value: "{propagation}": supported values: "Background", "Foreground", "Orphan"'
            raise api_status.refusal(422, "Invalid", f'DeleteOptions.meta.k8s.io "" is invalid: {text}')
        return Deletion(
            # The API server takes a negative one for 1.
            grace_s=None if grace is None else float(grace) if grace >= 0 else 1.0,
            uid=request.text("uid", ""),
            version=request.text("resource_version", ""),
            propagation=propagation,
            dry_run=request.flag("dry_run"),
            eviction=request.flag("eviction"),
        )


def object_of(request: Request) -> Any:
    """The object that a request carries, in JSON terms.

    Raises:
        UsageError: it carries none.
    """
    found = request.params.get("object")
    if not isinstance(found, dict):
        raise UsageError(f"{request.method}: parameter 'object' must be an object")
    return found


def same_version(asked: ObjectMeta, found: str) -> bool:
    """Whether an update is of the version that is there; one that names none is of any."""
    return not asked.resourceVersion or asked.resourceVersion == "0" or asked.resourceVersion == found
