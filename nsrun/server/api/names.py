"""Names of new objects, and the namespaces that they are in.

Source: kubernetes plugin/pkg/admission/namespace/lifecycle/admission.go, apiserver pkg/registry/rest/create.go (v1.36).
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import TYPE_CHECKING

from nsrun.spec import api_status
from nsrun.spec.resources_table import kept_kind

if TYPE_CHECKING:
    from nsrun.server.world import World
    from nsrun.spec.model import ObjectMeta
    from nsrun.spec.resources_table import Resource

NAMESPACE = kept_kind("Namespace")
TRIES = 8
"""So many names are generated before the client is asked to try again (apiserver pkg/registry/generic/registry/store.go)."""
_LETTERS = "bcdfghjklmnpqrstvwxz2456789"
_LONGEST_PREFIX = 58


def give_name(resource: Resource, metadata: ObjectMeta, taken: Callable[[str], bool]) -> None:
    """Give an object that has a `generateName` alone a name that no other has.

    Raises:
        StatusError: none was found.
    """
    if metadata.name or not metadata.generateName:
        return
    prefix = metadata.generateName[:_LONGEST_PREFIX]
    for _ in range(TRIES):
        metadata.name = prefix + "".join(secrets.choice(_LETTERS) for _ in range(5))
        if not taken(metadata.name):
            return
    raise api_status.generate_exhausted(resource, metadata.name or "")


def place(resource: Resource, metadata: ObjectMeta, namespace: str | None) -> None:
    """Give an object the namespace of the request, or none where its kind has none.

    Raises:
        StatusError: it says that it is in another one.
    """
    if not resource.namespaced:
        if namespace:
            raise api_status.bad_request("namespace may not be set for a resource that is in none")
        return
    if namespace and metadata.namespace and metadata.namespace != namespace:
        text = "the namespace of the provided object does not match the namespace sent on the request"
        raise api_status.bad_request(text)
    metadata.namespace = metadata.namespace or namespace or "default"


def require(world: World, resource: Resource, metadata: ObjectMeta) -> None:
    """Raise unless something may be made in the namespace that an object names.

    Raises:
        StatusError: there is no such namespace, or it is being removed.
    """
    space = metadata.namespace or ""
    if world.namespaces.going(space):
        raise api_status.forbidden(
            resource,
            metadata.name or metadata.generateName or "",
            f"unable to create new content in namespace {space} because it is being terminated",
            [
                {
                    "reason": "NamespaceTerminating",
                    "message": f"namespace {space} is being terminated",
                    "field": "metadata.namespace",
                }
            ],
        )
    if not world.namespaces.there(space):
        raise api_status.not_found(NAMESPACE, space)
