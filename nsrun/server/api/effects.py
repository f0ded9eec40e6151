"""What an object asks for that has no effect here: a refusal, or a warning."""

from __future__ import annotations

from collections.abc import Iterable

from nsrun.spec import NOT_IMPLEMENTED, Unsupported
from nsrun.spec.field_errors import FORBIDDEN, FieldError

_SEEN_TO = (
    "status",
    "metadata.",
    "spec.nodeName",
    "spec.nodeSelector",
    "spec.schedulingGates",
    "spec.serviceAccount",
    "spec.priority",
    "spec.preemptionPolicy",
    "spec.schedulerName",
    "spec.tolerations",
    "status",
)
"""Beginnings of fields that mean something to clients of the API, though not to a pod from a file."""
_JUDGED = ("metadata.finalizers", "spec.runtimeClassName", "spec.overhead")
"""Those that admission has judged."""


def refused(found: Iterable[Unsupported], warnings: list[str], known: Iterable[str] = ()) -> list[FieldError]:
    """The objections among `found`; what has no effect but is no matter is added to `warnings`.

    Args:
        found: of a valid object.
        warnings: what the client is told.
        known: paths of which nothing is said, as the object has had them before.
    """
    errors = []
    before = set(known)
    for one in found:
        if one.path in before:
            continue
        if one.kind == NOT_IMPLEMENTED:
            if not one.path.startswith(_JUDGED):
                errors.append(FieldError(one.path, FORBIDDEN, f"nsrun: {one.message}"))
        elif not one.path.startswith(_SEEN_TO):
            warnings.append(f"{one.path}: {one.message}")
    return errors
