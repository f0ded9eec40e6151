"""What a request means: path and method, read as the API server reads them.

Source: apiserver pkg/endpoints/request/requestinfo.go, pkg/endpoints/installer.go (v1.36). A path that is written in another way than
the plain one (`..`, `//`, escaped slashes) names nothing.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import unquote

from nsrun.spec.resources_table import Resource, Subresource, resource_at

_SEGMENT = re.compile(r"[A-Za-z0-9._~:@!$&'()*+,;=-]+|(?:[A-Za-z0-9._~:@!$&'()*+,;=-]|%[0-9A-Fa-f]{2})+")
STREAMS = ("log", "exec", "attach", "portforward")


@dataclass(frozen=True, slots=True)
class Target:
    """What a path names.

    Attributes:
        resource: the kind of objects.
        namespace: "" for all, or for a kind without.
        name: "" for the collection.
        subresource: or None.
        watched: the old form of a watch, `/api/v1/watch/…`.
    """

    resource: Resource
    namespace: str = ""
    name: str = ""
    subresource: Subresource | None = None
    watched: bool = False

    @property
    def kind(self) -> str:
        """Of the objects, as the cache knows it."""
        return self.resource.kind


def segments(raw_path: str) -> list[str] | None:
    """A path's parts, unescaped; None for one that has parts which are none."""
    if not raw_path.startswith("/"):
        return None
    inner = raw_path[1:].removesuffix("/")
    parts = inner.split("/") if inner else []
    found = []
    for part in parts:
        if not _SEGMENT.fullmatch(part):
            return None
        text = unquote(part)
        if text in (".", "..") or "/" in text or "\0" in text or "%" in text:
            return None
        found.append(text)
    return found


def target(parts: list[str]) -> Target | None:
    """What the parts of a path below /api or /apis name; None for nothing."""
    if parts[:1] == ["api"] and len(parts) > 2:
        group, version, rest = "", parts[1], parts[2:]
    elif parts[:1] == ["apis"] and len(parts) > 3:
        group, version, rest = parts[1], parts[2], parts[3:]
    else:
        return None
    watched = rest[0] == "watch"
    if watched:
        rest = rest[1:]
    namespace = ""
    # `namespaces/x` is the namespace; `namespaces/x/status` a part of it; `namespaces/x/pods` are its pods.
    if len(rest) >= 3 and rest[0] == "namespaces" and resource_at(group, version, rest[2]) is not None:
        namespace, rest = rest[1], rest[2:]
    if not rest:
        return None
    resource = resource_at(group, version, rest[0])
    if resource is None or len(rest) > 3:
        return None
    name = rest[1] if len(rest) > 1 else ""
    if bool(namespace) is not resource.namespaced and (namespace or name):
        return None
    subresource = None
    if len(rest) == 3:
        subresource = next((one for one in resource.subresources if one.name == rest[2]), None)
        if subresource is None:
            return None
    return Target(resource, namespace, name, subresource, watched)


def verb(method: str, target: Target, *, watch: bool) -> str:
    """What is to be done, as roles and discovery call it; "" for a method that the path does not have."""
    match method:
        case "GET" | "HEAD":
            if target.subresource is not None and target.subresource.name in STREAMS:
                return "get"
            if target.name and not (watch or target.watched):
                return "get"
            if watch or target.watched:
                # A watch is all body: there is none without.
                return "watch" if method == "GET" else ""
            return "list"
        case "POST":
            return "create" if not target.name or target.subresource is not None else ""
        case "PUT":
            return "update" if target.name else ""
        case "PATCH":
            return "patch" if target.name else ""
        case "DELETE":
            return "delete" if target.name else "deletecollection"
    return ""
