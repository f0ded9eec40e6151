"""OpenAPI v2 and v3 of what is served: enough for kubectl's explain, apply, diff and validation.

Built at the first request from nsrun.api.forms.facts and nsrun.spec.resources_table, then kept as bytes. Source of the shape: kube-openapi
pkg/handler, pkg/handler3, and the documents of a v1.36 API server.
"""

from __future__ import annotations

import functools
import hashlib
import json
from dataclasses import dataclass
from typing import Any

from nsrun.api.forms.discovery import KUBERNETES
from nsrun.api.forms.openapi import gnostic, operations, schemas
from nsrun.spec.resources_table import RESOURCES

_INFO = {"title": "Kubernetes", "version": f"v{KUBERNETES}"}
_PROTOBUF = "application/com.github.proto-openapi.spec.v2"


@dataclass(frozen=True, slots=True)
class Document:
    """A document.

    Attributes:
        body: its bytes.
        content_type: of HTTP.
        etag: with its quotes.
        hash: of the body, as the index names it.
    """

    body: bytes
    content_type: str
    etag: str
    hash: str


def _document(body: bytes, content_type: str = "application/json") -> Document:
    digest = hashlib.sha512(body).hexdigest().upper()
    return Document(body, content_type, f'"{digest}"', digest)


def _encode(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def paths() -> list[str]:
    """The group versions that have a document, as in `api/v1` and `apis/apps/v1`."""
    return sorted({_path(one.group, one.version) for one in RESOURCES})


def _path(group: str, version: str) -> str:
    return f"apis/{group}/{version}" if group else f"api/{version}"


@functools.cache
def v3_index() -> Document:
    """What /openapi/v3 says: where the document of each group version is."""
    found = {}
    for path in paths():
        document = v3(path)
        assert document is not None
        found[path] = {"serverRelativeURL": f"/openapi/v3/{path}?hash={document.hash}"}
    return _document(_encode({"paths": found}))


@functools.cache
def v3(path: str) -> Document | None:
    """The document of a group version.

    Args:
        path: as in `paths`.

    Returns:
        None when there is none.
    """
    resources = [one for one in RESOURCES if _path(one.group, one.version) == path]
    if not resources:
        return None
    document = {
        "openapi": "3.0.0",
        "info": _INFO,
        "paths": {key: value for one in resources for key, value in operations.v3(one).items()},
        "components": {"schemas": schemas.of(resources, "#/components/schemas/", compose=True)},
    }
    return _document(_encode(document))


@functools.cache
def _v2() -> dict[str, Any]:
    return {
        "swagger": "2.0",
        "info": _INFO,
        "paths": {key: value for one in RESOURCES for key, value in operations.v2(one).items()},
        "definitions": schemas.of(RESOURCES, "#/definitions/", compose=False),
    }


@functools.cache
def _v2_json() -> Document:
    return _document(_encode(_v2()))


@functools.cache
def _v2_protobuf() -> Document:
    return _document(gnostic.encode(_v2()), f"{_PROTOBUF}.v1.0+protobuf")


def v2(accept: str = "application/json") -> Document:
    """What /openapi/v2 says: everything in one document, as JSON or, for older clients, as protobuf."""
    for part in accept.split(","):
        media = part.partition(";")[0].strip()
        if media.startswith(_PROTOBUF):
            # Whatever version of the type is asked for: old clients ask for one that they cannot read in an answer.
            return _v2_protobuf()
        if media in ("application/json", "*/*"):
            break
    return _v2_json()
