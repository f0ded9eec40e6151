"""The OpenAPI v2 document as protobuf, which is all that clients before Kubernetes 1.27 take.

Source: google/gnostic openapiv2/OpenAPIv2.proto (field numbers). What stands here is what nsrun.api.forms.openapi puts into its document.
"""

from __future__ import annotations

import json
from typing import Any

from nsrun.api.forms.protobuf import sized, varint


def encode(document: dict[str, Any]) -> bytes:
    """The document, without what only people read."""
    info = _text(1, document["info"]["title"]) + _text(2, document["info"]["version"])
    paths = b"".join(sized(2, _named(path, _path_item(item))) for path, item in document["paths"].items())
    definitions = b"".join(sized(1, _named(name, _schema(one))) for name, one in document["definitions"].items())
    return _text(1, document["swagger"]) + sized(2, info) + sized(8, paths) + sized(9, definitions)


def _text(number: int, value: str) -> bytes:
    return sized(number, value.encode())


def _true(number: int) -> bytes:
    return varint(number << 3) + b"\1"


def _named(name: str, value: bytes) -> bytes:
    return _text(1, name) + sized(2, value)


def _any(value: Any) -> bytes:
    # JSON is YAML.
    return _text(2, json.dumps(value))


def _extensions(number: int, value: dict[str, Any]) -> bytes:
    return b"".join(sized(number, _named(key, _any(one))) for key, one in value.items() if key.startswith("x-"))


_OPERATIONS = {"get": 2, "put": 3, "post": 4, "delete": 5, "patch": 8}


def _path_item(item: dict[str, Any]) -> bytes:
    found = b"".join(sized(number, _operation(item[verb])) for verb, number in _OPERATIONS.items() if verb in item)
    return found + b"".join(sized(9, _parameter(one)) for one in item["parameters"])


def _operation(one: dict[str, Any]) -> bytes:
    parts = [_text(1, tag) for tag in one["tags"]]
    parts.append(_text(5, one["operationId"]))
    parts += [_text(6, media) for media in one["produces"]]
    parts += [_text(7, media) for media in one["consumes"]]
    parts += [sized(8, _parameter(parameter)) for parameter in one["parameters"]]
    parts.append(
        sized(9, b"".join(sized(1, _named(code, _response(value))) for code, value in one["responses"].items()))
    )
    parts += [_text(10, scheme) for scheme in one["schemes"]]
    parts.append(_extensions(13, one))
    return b"".join(parts)


def _response(one: dict[str, Any]) -> bytes:
    found = _text(1, one["description"])
    if "schema" in one:
        found += sized(2, sized(1, _schema(one["schema"])))
    return sized(1, found)


def _parameter(one: dict[str, Any]) -> bytes:
    required = bool(one.get("required"))
    if one["in"] == "body":
        body = (
            _text(2, one["name"])
            + _text(3, "body")
            + (_true(4) if required else b"")
            + sized(5, _schema(one["schema"]))
        )
        return sized(1, sized(1, body))
    query = one["in"] == "query"
    found = (_true(1) if required else b"") + _text(2, one["in"]) + _text(4, one["name"])
    found += _text(6 if query else 5, one["type"]) + _true(20 if query else 19)
    return sized(1, sized(2, sized(3 if query else 4, found)))


def _schema(one: dict[str, Any]) -> bytes:
    parts: list[bytes] = []
    for key, number in (("$ref", 1), ("format", 2), ("description", 4)):
        if key in one:
            parts.append(_text(number, one[key]))
    if "default" in one:
        parts.append(sized(5, _any(one["default"])))
    parts += [_text(19, name) for name in one.get("required", ())]
    parts += [sized(20, _any(value)) for value in one.get("enum", ())]
    if "additionalProperties" in one:
        parts.append(sized(21, sized(1, _schema(one["additionalProperties"]))))
    if "type" in one:
        parts.append(sized(22, _text(1, one["type"])))
    if "items" in one:
        parts.append(sized(23, sized(1, _schema(one["items"]))))
    if "properties" in one:
        parts.append(
            sized(25, b"".join(sized(1, _named(name, _schema(each))) for name, each in one["properties"].items()))
        )
    parts.append(_extensions(31, one))
    return b"".join(parts)
