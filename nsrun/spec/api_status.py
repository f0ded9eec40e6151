"""The answers by which an API server refuses: metav1.Status in its words, as `StatusError`.

Source: apimachinery pkg/api/errors/errors.go, apiserver pkg/registry/generic/registry/store.go, pkg/endpoints/handlers (v1.36).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from nsrun.errors import StatusError
from nsrun.spec import field_errors
from nsrun.spec.field_errors import FieldError, quote

if TYPE_CHECKING:
    from nsrun.spec.resources_table import Resource

_REASONS = {
    field_errors.REQUIRED: "FieldValueRequired",
    field_errors.INVALID: "FieldValueInvalid",
    field_errors.UNSUPPORTED: "FieldValueNotSupported",
    field_errors.NOT_FOUND: "FieldValueNotFound",
    field_errors.DUPLICATE: "FieldValueDuplicate",
    field_errors.FORBIDDEN: "FieldValueForbidden",
    field_errors.TOO_LONG: "FieldValueTooLong",
    field_errors.TOO_MANY: "FieldValueTooMany",
}
MODIFIED = "the object has been modified; please apply your changes to the latest version and try again"


def refusal(
    code: int, reason: str, message: str, *, details: dict[str, Any] | None = None, retry_after_s: int = 0
) -> StatusError:
    """Any refusal.

    Args:
        code: of HTTP.
        reason: for programs.
        message: for people.
        details: as in metav1.StatusDetails; None leaves them out.
        retry_after_s: after how many seconds it may be tried again; 0 says nothing of it.
    """
    status: dict[str, Any] = {"code": code, "reason": reason, "message": message}
    if retry_after_s:
        details = {**(details or {}), "retryAfterSeconds": retry_after_s}
    if details is not None:
        status["details"] = details
    return StatusError(status)


def _of(resource: Resource, name: str) -> dict[str, Any]:
    details: dict[str, Any] = {"name": name} if name else {}
    if resource.group:
        details["group"] = resource.group
    return {**details, "kind": resource.plural}


def not_found(resource: Resource, name: str) -> StatusError:
    """404: `pods "x" not found`."""
    return refusal(404, "NotFound", f'{resource.qualified} "{name}" not found', details=_of(resource, name))


def already_exists(resource: Resource, name: str) -> StatusError:
    """409: `pods "x" already exists`."""
    return refusal(409, "AlreadyExists", f'{resource.qualified} "{name}" already exists', details=_of(resource, name))


def generate_exhausted(resource: Resource, name: str) -> StatusError:
    """409: `generateName` found no name that is free."""
    text = f'{resource.qualified} "{name}" already exists, the server was not able to generate a unique name for the object'
    return refusal(409, "AlreadyExists", text, details=_of(resource, name), retry_after_s=1)


def conflict(resource: Resource, name: str, why: str = MODIFIED) -> StatusError:
    """409: somebody else was faster."""
    text = f'Operation cannot be fulfilled on {resource.qualified} "{name}": {why}'
    return refusal(409, "Conflict", text, details=_of(resource, name))


def precondition(kind: str, name: str, field: str, wanted: str, found: str) -> StatusError:
    """409: a precondition of a deletion or an update does not hold; `field` is `UID` or `ResourceVersion`."""
    text = (
        f'Operation cannot be fulfilled on {kind} "{name}": the {field} in the precondition ({wanted}) does not match the {field} in'
        f" record ({found}). The object might have been "
        + ("deleted and then recreated" if field == "UID" else "modified")
    )
    return refusal(409, "Conflict", text, details={"name": name, "kind": kind})


def forbidden(resource: Resource, name: str, why: str, causes: Sequence[dict[str, str]] = ()) -> StatusError:
    """403: `pods "x" is forbidden: …`."""
    details = _of(resource, name)
    if causes:
        details["causes"] = list(causes)
    label = f' "{name}"' if name else ""
    return refusal(403, "Forbidden", f"{resource.qualified}{label} is forbidden: {why}", details=details)


def bad_request(message: str) -> StatusError:
    """400."""
    return refusal(400, "BadRequest", message)


def not_supported(resource: Resource, verb: str) -> StatusError:
    """405: `delete is not supported on resources of kind "nodes"`."""
    text = f'{verb} is not supported on resources of kind "{resource.qualified}"'
    return refusal(405, "MethodNotAllowed", text, details=_of(resource, ""))


def unavailable(message: str) -> StatusError:
    """503: not now."""
    return refusal(503, "ServiceUnavailable", message)


def undecodable(kind: str, version: str, why: str) -> StatusError:
    """400: the body is no such object."""
    return bad_request(f'{kind} in version "{version}" cannot be handled as a {kind}: {why}')


def invalid(kind: str, name: str, errors: Iterable[FieldError], *, group: str = "") -> StatusError:
    """422: `Pod "x" is invalid: …`, with a cause for each field.

    Args:
        kind: of the object.
        name: of the object.
        errors: at least one.
        group: of the kind.
    """
    found = list({str(error): error for error in errors}.values())
    texts = [str(error) for error in found]
    details: dict[str, Any] = {"name": name} if name else {}
    if group:
        details["group"] = group
    details["kind"] = kind
    details["causes"] = [cause(error) for error in found]
    whole = texts[0] if len(texts) == 1 else f"[{', '.join(texts)}]"
    label = f"{kind}.{group}" if group else kind
    return refusal(422, "Invalid", f'{label} "{name}" is invalid: {whole}', details=details)


def cause(error: FieldError) -> dict[str, str]:
    """One objection as metav1.StatusCause."""
    return {"reason": _REASONS[error.type], "message": body(error), "field": error.path}


def body(error: FieldError) -> str:
    """The objection without its field."""
    return str(error)[len(error.path) + 2 :]


def quoted(text: str) -> str:
    """A text as Go's %q prints it."""
    return quote(text)
