"""Refusals of the forms, in the API server's words; beside those of nsrun.spec.api_status.

Source: apimachinery pkg/api/errors/errors.go NewGenericServerResponse, apiserver pkg/endpoints/handlers/negotiation/errors.go.
"""

from __future__ import annotations

from typing import Any

from nsrun.errors import StatusError
from nsrun.spec.api_status import bad_request, refusal

REJECTED = "the server rejected our request due to an error in our request"


def rejected() -> StatusError:
    """422: the patch does not fit the object."""
    return refusal(422, "Invalid", REJECTED, details={})


def failed(message: str) -> StatusError:
    """500: an error that the API server gives no reason."""
    return StatusError({"code": 500, "message": message})


def too_large(message: str) -> StatusError:
    """413."""
    return refusal(413, "RequestEntityTooLarge", f"Request entity too large: {message}")


def unsupported_patch() -> StatusError:
    """415: the content type is none of a patch."""
    return refusal(415, "UnsupportedMediaType", "415: Unsupported Media Type", details={})


def unsupported_body() -> StatusError:
    """415: the content type is none of an object."""
    accepted = "application/json, application/yaml, application/vnd.kubernetes.protobuf"
    return refusal(
        415,
        "UnsupportedMediaType",
        f"the body of the request was in an unknown format - accepted media types include: {accepted}",
    )


def not_acceptable() -> StatusError:
    """406: nothing that the client accepts can be had."""
    accepted = "application/json, application/yaml, application/vnd.kubernetes.protobuf"
    return refusal(406, "NotAcceptable", f"only the following media types are accepted: {accepted}")


def go_name(value: Any) -> str:
    """What Go's JSON errors call a value."""
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, (int, float)):
        return "number"
    return "string" if isinstance(value, str) else "array" if isinstance(value, list) else "object"


__all__ = [
    "bad_request",
    "failed",
    "go_name",
    "not_acceptable",
    "rejected",
    "too_large",
    "unsupported_body",
    "unsupported_patch",
]
