"""Discovery: what the server has, as clients ask for it before anything else.

Source: apiserver pkg/endpoints/discovery (legacy lists, aggregated v2 and v2beta1), the documents of a v1.36 API server.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import json
import re
from dataclasses import dataclass
from typing import Any

from nsrun._version import __version__
from nsrun.spec.resources_table import RESOURCES, Resource, Subresource

KUBERNETES = "1.36.2"
"""The version of the API that is spoken."""

_ORDER = (
    "apps", "events.k8s.io", "authentication.k8s.io", "authorization.k8s.io", "autoscaling", "batch", "networking.k8s.io", "policy",
    "rbac.authorization.k8s.io", "storage.k8s.io", "apiextensions.k8s.io", "scheduling.k8s.io", "coordination.k8s.io",
    "node.k8s.io", "discovery.k8s.io", "resource.k8s.io", "metrics.k8s.io",
)  # fmt: skip
"""The groups as the API server lists them: where two have a resource of one name, clients take the first."""

_JSON = "application/json"
_AGGREGATED = re.compile(r"g=apidiscovery\.k8s\.io;v=(v2|v2beta1);as=APIGroupDiscoveryList")


@dataclass(frozen=True, slots=True)
class Answer:
    """A document.

    Attributes:
        body: in JSON.
        content_type: of HTTP.
        etag: with its quotes, for aggregated documents; "" for none.
    """

    body: bytes
    content_type: str = _JSON
    etag: str = ""


@functools.cache
def _groups() -> dict[str, dict[str, list[Resource]]]:
    """Group → version → resources, in the order in which they are told; core is "" and first."""
    found: dict[str, dict[str, list[Resource]]] = {name: {} for name in ("", *_ORDER)}
    for one in sorted(RESOURCES, key=lambda one: one.plural):
        found.setdefault(one.group, {}).setdefault(one.version, []).append(one)
    # Of several versions the newest is the preferred one.
    return {name: dict(sorted(versions.items(), reverse=True)) for name, versions in found.items() if versions}


def paths() -> list[str]:
    """All paths that discovery answers, sorted."""
    found = ["/api", "/api/v1", "/apis"]
    for group, versions in _groups().items():
        if group:
            found += [f"/apis/{group}", *(f"/apis/{group}/{version}" for version in versions)]
    return sorted(found)


def answer(path: str, accept: str = _JSON, *, address: str = "") -> Answer | None:
    """The document at a path.

    Args:
        path: without a slash at its end.
        accept: the header of HTTP.
        address: `host:port` of the server as this client sees it.

    Returns:
        None when there is no such document.
    """
    if path in ("/api", "/apis"):
        for wanted in accept.split(","):
            kind, _, parameters = wanted.strip().partition(";")
            match = _AGGREGATED.search(parameters.replace(" ", ""))
            if kind == _JSON and match:
                return _aggregated(path, match[1])
            if kind in (_JSON, "*/*", "application/*"):
                break
        return Answer(_encode(_versions(address))) if path == "/api" else _legacy(path)
    return _legacy(path)


def _encode(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def _versions(address: str) -> dict[str, Any]:
    return {
        "kind": "APIVersions",
        "versions": ["v1"],
        "serverAddressByClientCIDRs": [{"clientCIDR": "0.0.0.0/0", "serverAddress": address}],
    }


@functools.cache
def _legacy(path: str) -> Answer | None:
    words = path.strip("/").split("/")
    if path == "/apis":
        groups = [_group(name) for name in _groups() if name]
        return Answer(_encode({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}))
    if len(words) == 2 and words[0] == "apis" and words[1] in _groups():
        return Answer(_encode({"kind": "APIGroup", "apiVersion": "v1", **_group(words[1])}))
    if words[0] == "api" and len(words) == 2:
        words.insert(1, "")
    if len(words) != 3 or words[0] not in ("api", "apis") or (words[0] == "apis") != bool(words[1]):
        return None
    resources = _groups().get(words[1], {}).get(words[2])
    if resources is None:
        return None
    listed = [entry for one in resources for entry in _listed(one)]
    version = resources[0].api_version
    versioned = {"apiVersion": "v1"} if words[1] else {}
    return Answer(_encode({"kind": "APIResourceList", **versioned, "groupVersion": version, "resources": listed}))


def _group(name: str) -> dict[str, Any]:
    versions = [{"groupVersion": f"{name}/{version}", "version": version} for version in _groups()[name]]
    return {"name": name, "versions": versions, "preferredVersion": versions[0]}


def _listed(one: Resource) -> list[dict[str, Any]]:
    entry: dict[str, Any] = {
        "name": one.plural,
        "singularName": one.singular,
        "namespaced": one.namespaced,
        "kind": one.kind,
        "verbs": list(one.verbs),
    }
    if one.short_names:
        entry["shortNames"] = list(one.short_names)
    if one.categories:
        entry["categories"] = list(one.categories)
    if "update" in one.verbs:
        entry["storageVersionHash"] = storage_version_hash(one)
    return [entry, *(_listed_part(one, part) for part in one.subresources)]


def _listed_part(one: Resource, part: Subresource) -> dict[str, Any]:
    entry: dict[str, Any] = {"name": f"{one.plural}/{part.name}", "singularName": "", "namespaced": one.namespaced}
    if part.version:
        entry |= {"group": part.group, "version": part.version}
    return {**entry, "kind": part.kind, "verbs": list(part.verbs)}


def storage_version_hash(one: Resource) -> str:
    """As apiserver pkg/endpoints/discovery/storageversionhash.go has it."""
    digest = hashlib.sha256(f"{one.group}/{one.version}/{one.kind}".encode()).digest()
    return base64.b64encode(digest[:8]).decode()


@functools.cache
def _aggregated(path: str, version: str) -> Answer:
    items: list[dict[str, Any]] = []
    for name, versions in _groups().items():
        if bool(name) == (path == "/apis"):
            found = [
                {"version": each, "resources": [_discovered(one) for one in resources], "freshness": "Current"}
                for each, resources in versions.items()
            ]
            items.append({"metadata": {"name": name} if name else {}, "versions": found})
    document = {
        "kind": "APIGroupDiscoveryList",
        "apiVersion": f"apidiscovery.k8s.io/{version}",
        "metadata": {},
        "items": items,
    }
    body = _encode(document)
    etag = f'"{hashlib.sha512(body).hexdigest().upper()}"'
    return Answer(body, f"{_JSON};g=apidiscovery.k8s.io;v={version};as=APIGroupDiscoveryList", etag)


def _discovered(one: Resource) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "resource": one.plural,
        "responseKind": {"group": "", "version": "", "kind": one.kind},
        "scope": "Namespaced" if one.namespaced else "Cluster",
        "singularResource": one.singular,
        "verbs": list(one.verbs),
    }
    if one.short_names:
        entry["shortNames"] = list(one.short_names)
    if one.categories:
        entry["categories"] = list(one.categories)
    if one.subresources:
        entry["subresources"] = [
            {
                "subresource": part.name,
                "responseKind": {"group": part.group, "version": part.version, "kind": part.kind},
                "verbs": list(part.verbs),
            }
            for part in one.subresources
        ]
    return entry


def version(machine: str) -> dict[str, str]:
    """What /version says.

    Args:
        machine: as uname(2) calls it.
    """
    major, minor, _ = KUBERNETES.split(".")
    architecture = {"x86_64": "amd64", "aarch64": "arm64"}.get(machine, machine)
    return {
        "major": major,
        "minor": minor,
        "emulationMajor": major,
        "emulationMinor": minor,
        "minCompatibilityMajor": major,
        "minCompatibilityMinor": str(int(minor) - 1),
        "gitVersion": f"v{KUBERNETES}+nsrun-{__version__}",
        "gitCommit": "",
        "gitTreeState": "",
        "buildDate": "1970-01-01T00:00:00Z",
        "goVersion": "",
        "compiler": "",
        "platform": f"linux/{architecture}",
    }
