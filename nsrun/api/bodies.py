"""What clients send: objects, patches and options, in JSON, YAML or protobuf.

Source: apiserver pkg/endpoints/handlers/negotiation/errors.go, pkg/endpoints/handlers/create.go, delete.go, patch.go (v1.36).
"""

from __future__ import annotations

import asyncio
import json
from typing import Any

import msgspec
from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from nsrun.api.forms.negotiation import JSON, PROTOBUF, YAML
from nsrun.api.forms.refusals import unsupported_body
from nsrun.errors import SpecError, StatusError
from nsrun.spec import api_status
from nsrun.spec.yaml_reader import MAX_DEPTH, YamlReader

BODY_MAX = 3 * 1024 * 1024
"""Bytes of a body, as of the API server."""
SHOWN_MAX = 30
BODY_S = 30.0
"""How long a body may take."""
_YAML = frozenset([YAML, "application/x-yaml", "text/yaml", "application/vnd.yaml"])
_PLACES = {
    "Expecting value": "looking for beginning of value",
    "Expecting property name enclosed in double quotes": "looking for beginning of object key string",
    "Illegal trailing comma before end of object": "looking for beginning of object key string",
    "Illegal trailing comma before end of array": "looking for beginning of value",
    "Expecting ':' delimiter": "after object key",
    "Expecting ',' delimiter": "after object key:value pair",
    "Extra data": "after top-level value",
    "Invalid control character at": "in string literal",
    "Invalid \\escape": "in string escape code",
}


async def read(request: web.BaseRequest) -> bytes:
    """A request's body.

    Raises:
        StatusError: it is too large, or takes too long.
    """
    if (request.content_length or 0) > BODY_MAX:
        raise too_large()
    parts: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(BODY_S):
            async for part in request.content.iter_any():
                size += len(part)
                if size > BODY_MAX:
                    raise too_large()
                parts.append(part)
    except TimeoutError:
        raise api_status.refusal(
            408, "Timeout", f"Timeout: request did not complete within the allowed duration of {BODY_S:g}s"
        ) from None
    except web.HTTPException as error:
        raise api_status.bad_request(f"the body of the request cannot be read: {error.reason}") from None
    except (ValueError, web.RequestPayloadError, HttpProcessingError) as error:
        # What aiohttp's parser of payloads says of chunks and compressed bytes that are none.
        raise api_status.bad_request(f"the body of the request cannot be read: {error}") from None
    return b"".join(parts)


def too_large() -> StatusError:
    """413."""
    return api_status.refusal(
        413, "RequestEntityTooLarge", f"Request entity too large: limit is {BODY_MAX}", details={}
    )


def media_of(request: web.BaseRequest) -> str:
    """A body's media type, without parameters; JSON where nothing is said."""
    said = request.headers.get("Content-Type", "")
    return said.partition(";")[0].strip().lower() or JSON


def decoded(body: bytes, media: str, kind: str) -> tuple[dict[str, Any], list[str]]:
    """An object, and the fields that it has twice.

    Args:
        body: its bytes.
        media: what they are said to be.
        kind: of what is wanted, for the words of refusals.

    Raises:
        StatusError: they are not.
    """
    twice: list[str] = []
    if media == JSON:
        try:
            found = msgspec.json.decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise unrecognized(kind, f"json parse error: {json_error(body, error)}", body) from None
        if isinstance(found, dict):
            twice = duplicates(body)
    elif media in _YAML:
        found = from_yaml(body, kind)
    elif media == PROTOBUF:
        from nsrun.api.forms import protobuf

        found = protobuf.decode(body, "", kind)
    else:
        raise unsupported_body()
    if too_deep(found):
        raise unrecognized(kind, "exceeded max depth", body)
    if not isinstance(found, dict):
        raise unrecognized(
            kind,
            f"json: cannot unmarshal {_go_type(found)} into Go value of type struct {{ APIVersion string; Kind string }}",
            body,
        )
    return found, twice


def from_yaml(body: bytes, kind: str) -> Any:
    """The value of a YAML document, in JSON terms.

    Raises:
        StatusError: it is none.
    """
    try:
        return YamlReader(body.decode(), 1, "body").read()
    except (SpecError, UnicodeDecodeError) as error:
        why = error.brief.removeprefix("body:") if isinstance(error, SpecError) else str(error)
        raise unrecognized(kind, f"error converting YAML to JSON: yaml: line {why}", body) from None


def too_deep(value: Any) -> bool:
    """Whether a value is nested deeper than any object."""
    level = [value]
    for _ in range(MAX_DEPTH + 1):
        level = [
            child
            for parent in level
            if isinstance(parent, dict | list)
            for child in (parent.values() if isinstance(parent, dict) else parent)
            if isinstance(child, dict | list)
        ]
        if not level:
            return False
    return True


def duplicates(body: bytes) -> list[str]:
    """The paths of fields that stand twice in one object, as the API server tells of them."""
    # The object goes along, so that its id stays its own also when it is overwritten.
    repeated: dict[int, tuple[dict[str, Any], list[str]]] = {}

    def pairs(members: list[tuple[str, Any]]) -> dict[str, Any]:
        made = dict(members)
        if len(made) != len(members):
            seen: set[str] = set()
            twice: dict[str, None] = {}
            for name, _ in members:
                if name in seen:
                    twice[name] = None
                seen.add(name)
            repeated[id(made)] = (made, list(twice))
        return made

    try:
        whole = json.loads(body, object_pairs_hook=pairs)
    except (ValueError, RecursionError):
        # What the faster parser takes and this one does not has no fields that could stand twice.
        return []
    found: list[str] = []
    todo: list[tuple[str, Any]] = [("", whole)] if repeated else []
    while todo:
        path, value = todo.pop()
        if isinstance(value, dict):
            dot = f"{path}." if path else ""
            found += [f"{dot}{name}" for name in (repeated[id(value)][1] if id(value) in repeated else ())]
            todo += [(f"{dot}{name}", one) for name, one in reversed(value.items())]
        elif isinstance(value, list):
            todo += [(f"{path}[{at}]", one) for at, one in reversed(list(enumerate(value)))]
    return found


def unrecognized(kind: str, why: str, body: bytes) -> StatusError:
    """400: no object at all."""
    return api_status.bad_request(
        f"the object provided is unrecognized (must be of type {kind}): couldn't get version/kind; {why} ({_shown(body)})"
    )


def json_error(body: bytes, error: Exception) -> str:
    """What is wrong with JSON, in the words of Go's encoding/json."""
    try:
        json.loads(body)
    except json.JSONDecodeError as found:
        if found.pos >= len(found.doc.rstrip()):
            return "unexpected end of JSON input"
        return f"invalid character {_quoted(found.doc[found.pos])} {_PLACES.get(found.msg, 'looking for beginning of value')}"
    except (UnicodeDecodeError, RecursionError, ValueError):
        return str(error)
    return str(error)


def _quoted(letter: str) -> str:
    return {"'": "'\\''", '"': "'\"'"}.get(letter) or (f"'{letter}'" if letter.isprintable() else repr(letter))


def _shown(body: bytes) -> str:
    """As much of a body as is shown in a message (apiserver pkg/endpoints/handlers/rest.go, summarizeData)."""
    if not body:
        return "<empty>"
    head, more = body[:SHOWN_MAX], " ..." if len(body) > SHOWN_MAX else ""
    return (head.decode(errors="replace") if body.startswith(b"{") else head.hex()) + more


def _go_type(value: Any) -> str:
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int | float):
        return "number"
    return "string" if isinstance(value, str) else "array" if isinstance(value, list) else "null"
