"""Answers to requests for streams that get none, in the API server's and the kubelet's words."""

from __future__ import annotations

import json
from typing import Any

from aiohttp import web

REASONS = {400: "BadRequest", 403: "Forbidden", 404: "NotFound", 422: "Invalid", 500: "InternalError"}


def status(
    code: int, message: str, *, reason: str | None = None, details: dict[str, Any] | None = None
) -> web.Response:
    """A metav1.Status."""
    body: dict[str, Any] = {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": message,
        "reason": reason or REASONS.get(code, "InternalError"),
    }
    if details is not None:
        body["details"] = details
    body["code"] = code
    return web.Response(
        status=code,
        body=json.dumps(body, separators=(",", ":")).encode(),
        content_type="application/json",
        headers={"Cache-Control": "no-cache, private"},
    )


def internal(why: str) -> web.Response:
    """Something of ours, or of the machine's, failed."""
    return status(500, f"Internal error occurred: {why}", details={"causes": [{"message": why}]})


def invalid(
    kind: str, name: str, field: str, value: object, why: str, *, reason: str = "FieldValueInvalid"
) -> web.Response:
    """A field of the query that is not valid."""
    words = why if reason == "FieldValueForbidden" else f"Invalid value: {value}: {why}"
    if reason == "FieldValueForbidden":
        words = f"Forbidden: {why}"
    elif reason == "FieldValueNotSupported":
        words = f"Unsupported value: {json.dumps(value)}: {why}"
    where = f"{field}: " if field else "<nil>: "
    cause: dict[str, Any] = {"reason": reason, "message": words}
    if field:
        cause["field"] = field
    return status(
        422,
        f'{kind} "{name}" is invalid: {where}{words}',
        details={"name": name, "kind": kind, "causes": [cause]},
    )


def plain(code: int, text: str) -> web.Response:
    """What the kubelet says by itself."""
    return web.Response(status=code, text=text)
