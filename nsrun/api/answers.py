"""Answers: objects and refusals as bytes."""

from __future__ import annotations

import json as slow_json
from collections.abc import Iterable
from typing import Any

import msgspec
import yaml
from aiohttp import web

from nsrun.api.forms.negotiation import JSON, YAML, Wanted
from nsrun.errors import NsrunError, ServerError, StatusError

UNCACHED = "no-cache, private"
_ENCODER = msgspec.json.Encoder()
_DECODER = msgspec.json.Decoder()
_LOOKERS = ("curl/", "Wget/", "Mozilla/5.0")
"""Clients behind which somebody reads: they get JSON with line breaks, as from the API server."""


def status_object(status: dict[str, Any]) -> dict[str, Any]:
    """metav1.Status of a refusal."""
    found: dict[str, Any] = {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": status.get("message", ""),
    }
    for member in ("reason", "details"):
        if status.get(member) is not None:
            found[member] = status[member]
    found["code"] = status.get("code", 500)
    return found


def status_of(error: NsrunError) -> dict[str, Any]:
    """What an error is in the words of an API server."""
    if isinstance(error, StatusError):
        return error.status
    if isinstance(error, ServerError) or error.code == "server":
        return {
            "code": 503,
            "reason": "ServiceUnavailable",
            "message": f"the nsrun server does not answer: {error.brief}",
            "details": {"retryAfterSeconds": 1},
        }
    return {
        "code": 500,
        "reason": "InternalError",
        "message": f"Internal error occurred: {error.brief}",
        "details": {"causes": [{"message": error.brief}]},
    }


def refused(error: NsrunError) -> web.Response:
    """A refusal; always JSON, which every client reads."""
    status = status_of(error)
    answer = web.Response(
        status=int(status.get("code", 500)),
        body=_ENCODER.encode(status_object(status)),
        content_type=JSON,
        headers={"Cache-Control": UNCACHED},
    )
    after = (status.get("details") or {}).get("retryAfterSeconds")
    if after and answer.status in (429, 500, 503, 504):
        answer.headers["Retry-After"] = str(after)
    return answer


def wants_lines(request: web.BaseRequest) -> bool:
    """Whether the client wants JSON for people."""
    said = request.query.get("pretty")
    if said is not None:
        return said.lower() in ("1", "t", "true")
    return request.headers.get("User-Agent", "").startswith(_LOOKERS)


def encoded(data: bytes | dict[str, Any], form: Wanted, *, lines: bool = False) -> bytes:
    """An object in the media type of a form.

    Args:
        data: it, or its JSON.
        form: the media type counts, the shape is there already.
        lines: JSON for people.
    """
    if form.media == JSON and not lines:
        return data if isinstance(data, bytes) else _ENCODER.encode(data)
    obj = _DECODER.decode(data) if isinstance(data, bytes) else data
    if form.media == JSON:
        return slow_json.dumps(obj, indent=2, ensure_ascii=False).encode() + b"\n"
    if form.media == YAML:
        return yaml.dump(obj, Dumper=yaml.CSafeDumper, sort_keys=False, allow_unicode=True).encode()
    from nsrun.api.forms import protobuf

    return protobuf.encode(obj)


def answer(
    request: web.BaseRequest,
    data: bytes | dict[str, Any],
    form: Wanted,
    *,
    code: int = 200,
    warnings: Iterable[str] = (),
) -> web.Response:
    """An object as the whole answer."""
    response = web.Response(
        status=code,
        body=encoded(data, form, lines=wants_lines(request)),
        content_type=form.media,
        headers={"Cache-Control": UNCACHED},
    )
    for text in warnings:
        response.headers.add("Warning", warning(text))
    return response


def text(code: int, body: str) -> web.Response:
    """A few words for people."""
    return web.Response(
        status=code,
        body=body.encode(),
        content_type="text/plain",
        charset="utf-8",
        headers={"Cache-Control": UNCACHED, "X-Content-Type-Options": "nosniff"},
    )


def warning(text: str) -> str:
    """A warning as the value of a header: RFC 7234 5.5."""
    plain = "".join(letter if letter.isprintable() else " " for letter in text)
    quoted = plain.replace("\\", "\\\\").replace('"', '\\"')
    return f'299 - "{quoted}"'
