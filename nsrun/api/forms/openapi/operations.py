"""The paths and what can be done under them, as OpenAPI operations."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from nsrun.api.forms import patches, schema
from nsrun.api.forms.openapi import schemas
from nsrun.spec.resources_table import Resource

_MEDIA = ("application/json", "application/yaml", "application/vnd.kubernetes.protobuf")
_STREAMS = ("application/json;stream=watch", "application/vnd.kubernetes.protobuf;stream=watch")

_METHODS = {
    "list": "get",
    "get": "get",
    "create": "post",
    "update": "put",
    "patch": "patch",
    "delete": "delete",
    "deletecollection": "delete",
}

_STRING, _BOOLEAN, _INTEGER = ("string", "boolean", "integer")
_WRITING = (("dryRun", _STRING), ("fieldManager", _STRING), ("fieldValidation", _STRING))
_LISTING = (
    ("allowWatchBookmarks", _BOOLEAN), ("continue", _STRING), ("fieldSelector", _STRING), ("labelSelector", _STRING),
    ("limit", _INTEGER), ("resourceVersion", _STRING), ("resourceVersionMatch", _STRING), ("sendInitialEvents", _BOOLEAN),
    ("timeoutSeconds", _INTEGER), ("watch", _BOOLEAN),
)  # fmt: skip
_DELETING = (
    ("dryRun", _STRING),
    ("gracePeriodSeconds", _INTEGER),
    ("orphanDependents", _BOOLEAN),
    ("propagationPolicy", _STRING),
)
_PARAMETERS: dict[str, tuple[tuple[str, str], ...]] = {
    "list": _LISTING,
    "create": _WRITING,
    "update": _WRITING,
    "patch": (*_WRITING, ("force", _BOOLEAN)),
    "delete": _DELETING,
    "deletecollection": (*_DELETING, *_LISTING[1:8]),
    "get": (),
}


def _places(one: Resource) -> Iterator[tuple[str, tuple[str, ...], str, str, tuple[str, ...]]]:
    """(path, verbs, subresource, kind's type or "", (group, version, kind)) of everything of a resource."""
    base = f"/apis/{one.group}/{one.version}" if one.group else f"/api/{one.version}"
    inside = f"{base}/namespaces/{{namespace}}/{one.plural}" if one.namespaced else f"{base}/{one.plural}"
    top = schemas.top_of(one) or ""
    own = (one.group, one.version, one.kind)
    on_all = tuple(verb for verb in ("list", "create", "deletecollection") if verb in one.verbs)
    on_one = tuple(verb for verb in ("get", "update", "patch", "delete") if verb in one.verbs)
    if one.namespaced and "list" in one.verbs:
        yield f"{base}/{one.plural}", ("list",), "", top, own
    if on_all:
        yield inside, on_all, "", top, own
    if on_one:
        yield f"{inside}/{{name}}", on_one, "", top, own
    for part in one.subresources:
        group, version = (part.group, part.version) if part.version else (one.group, one.version)
        kind = schema.type_of(f"{group}/{version}" if group else version, part.kind) or ""
        yield f"{inside}/{{name}}/{part.name}", part.verbs, part.name, kind, (group, version, part.kind)


def _identifier(one: Resource, path: str, verb: str, part: str) -> str:
    group = "".join(word.capitalize() for word in (one.group.split(".")[0] or "core").split("-"))
    words = "ForAllNamespaces" if one.namespaced and "{namespace}" not in path else ""
    scope = "Namespaced" if one.namespaced and not words else ""
    name = {"get": "read", "update": "replace"}.get(verb, verb)
    collection = "deleteCollection" if verb == "deletecollection" else name
    return f"{collection}{group}{one.version.capitalize()}{scope}{one.kind}{part.capitalize()}{words}"


_ACTIONS = {"update": "put", "create": "post"}


def _extensions(verb: str, kind: tuple[str, ...]) -> dict[str, Any]:
    group, version, name = kind
    return {
        "x-kubernetes-action": _ACTIONS.get(verb, verb),
        "x-kubernetes-group-version-kind": {"group": group, "version": version, "kind": name},
    }


def _in_path(path: str) -> list[str]:
    return [name for name in ("name", "namespace") if f"{{{name}}}" in path]


def _answer(verb: str, kind: str) -> str:
    if verb == "list":
        return f"{schemas.name_of(kind)}List"
    if verb in ("delete", "deletecollection") or kind.endswith("Options"):
        return schemas.STATUS
    return schemas.name_of(kind)


def _body(verb: str, kind: str) -> str:
    if verb == "patch":
        return schemas.PATCH
    if verb in ("delete", "deletecollection"):
        return schemas.DELETE_OPTIONS
    return schemas.name_of(kind) if verb in ("create", "update") and not kind.endswith("Options") else ""


def v3(one: Resource) -> dict[str, Any]:
    """The paths of a resource in an OpenAPI v3 document."""
    found: dict[str, Any] = {}
    for path, verbs, part, kind, gvk in _places(one):
        item: dict[str, Any] = {}
        for verb in verbs:
            operation: dict[str, Any] = {
                "tags": [_tag(one)],
                "operationId": _identifier(one, path, verb, part),
                "parameters": [
                    {"name": name, "in": "query", "schema": {"type": type_, "uniqueItems": True}}
                    for name, type_ in _PARAMETERS[verb]
                ],
            }
            if kind:
                operation["responses"] = {"200": _content(_answer(verb, kind), _produced(verb))}
                if body := _body(verb, kind):
                    operation["requestBody"] = _request(verb, body)
            else:
                operation["responses"] = {"200": {"description": "OK"}}
            item[_METHODS[verb]] = {**operation, **_extensions(verb, gvk)}
        item["parameters"] = [
            {"name": name, "in": "path", "required": True, "schema": {"type": "string", "uniqueItems": True}}
            for name in _in_path(path)
        ] + [{"name": "pretty", "in": "query", "schema": {"type": "string", "uniqueItems": True}}]
        found[path] = item
    return found


def _tag(one: Resource) -> str:
    return f"{(one.group.split('.')[0] or 'core')}_{one.version}"


def _produced(verb: str) -> tuple[str, ...]:
    return (*_MEDIA, *_STREAMS) if verb == "list" else _MEDIA


def _content(name: str, media: tuple[str, ...]) -> dict[str, Any]:
    reference = {"schema": {"$ref": f"#/components/schemas/{name}"}}
    return {"description": "OK", "content": dict.fromkeys(media, reference)}


def _request(verb: str, name: str) -> dict[str, Any]:
    media = patches.TYPES if verb == "patch" else ("*/*",)
    content = {one: {"schema": {"$ref": f"#/components/schemas/{name}"}} for one in media}
    return {"content": content, **({"required": True} if verb not in ("delete", "deletecollection") else {})}


def v2(one: Resource) -> dict[str, Any]:
    """The paths of a resource in the OpenAPI v2 document."""
    found: dict[str, Any] = {}
    for path, verbs, part, kind, gvk in _places(one):
        item: dict[str, Any] = {}
        for verb in verbs:
            parameters: list[dict[str, Any]] = []
            if kind and (body := _body(verb, kind)):
                required = {"required": True} if verb not in ("delete", "deletecollection") else {}
                parameters.append(
                    {"name": "body", "in": "body", **required, "schema": {"$ref": f"#/definitions/{body}"}}
                )
            parameters += [
                {"uniqueItems": True, "type": type_, "name": name, "in": "query"} for name, type_ in _PARAMETERS[verb]
            ]
            schema_ = {"schema": {"$ref": f"#/definitions/{_answer(verb, kind)}"}} if kind else {}
            item[_METHODS[verb]] = {
                "consumes": list(patches.TYPES) if verb == "patch" else ["*/*"],
                "produces": list(_produced(verb)),
                "schemes": ["https"],
                "tags": [_tag(one)],
                "operationId": _identifier(one, path, verb, part),
                "parameters": parameters,
                "responses": {"200": {"description": "OK", **schema_}},
                **_extensions(verb, gvk),
            }
        item["parameters"] = [
            {"uniqueItems": True, "type": "string", "name": name, "in": "path", "required": True}
            for name in _in_path(path)
        ] + [{"uniqueItems": True, "type": "string", "name": "pretty", "in": "query"}]
        found[path] = item
    return found
