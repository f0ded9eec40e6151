"""Objects that are kept as they are: how clients of the Kubernetes API make, change and delete them.

Source: apiserver pkg/registry/rest/create.go, update.go, delete.go; kubernetes pkg/registry/core/*/strategy.go (v1.36).
"""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

import msgspec

from nsrun.errors import ConflictError
from nsrun.server.api.effects import refused
from nsrun.server.api.names import give_name, place, require
from nsrun.server.api.options import FOREGROUND, Deletion, same_version
from nsrun.server.api.owners import with_foreground
from nsrun.server.claim_rules import refuse_removal
from nsrun.spec import api_status
from nsrun.spec.incoming import Incoming, metadata_update
from nsrun.spec.kinds import begin, check, fill_in, judge
from nsrun.spec.model import (
    PersistentVolume,
    PersistentVolumeClaim,
    PersistentVolumeClaimStatus,
    PersistentVolumeStatus,
)
from nsrun.spec.resources_table import Resource
from nsrun.spec.support_objects import unsupported_object
from nsrun.state.objects import KINDS
from nsrun.status.times import rfc3339

if TYPE_CHECKING:
    from nsrun.server.world import World
    from nsrun.state.objects import Kept


_PROTECTION = ("kubernetes.io/pvc-protection", "kubernetes.io/pv-protection")


class KeptWrites:
    """What clients may do to objects of one kind.

    Args:
        world: what all pods share.
        resource: the kind.
    """

    def __init__(self, world: World, resource: Resource) -> None:
        self._world = world
        self._resource = resource
        self._kind = resource.kind

    def found(self, namespace: str, name: str) -> Kept:
        """The object.

        Raises:
            StatusError: there is none.
        """
        found = self._get(namespace, name)
        if found is None:
            raise api_status.not_found(self._resource, name)
        return found

    def _get(self, namespace: str | None, name: str) -> Kept | None:
        return self._world.objects.get(self._kind, (namespace or "") if self._resource.namespaced else "", name)

    async def create(self, incoming: Incoming, namespace: str | None, *, dry_run: bool) -> Kept:
        """Make an object.

        Raises:
            StatusError: it is refused.
            StepError: it cannot be written.
        """
        obj = incoming.object
        metadata = obj.metadata
        place(self._resource, metadata, namespace)
        give_name(self._resource, metadata, lambda name: self._get(metadata.namespace, name) is not None)
        fill_in(obj, self._resource)
        _forget_status(obj)
        begin(obj)
        if self._resource.namespaced:
            require(self._world, self._resource, metadata)
        _drop_own_finalizers(obj)
        self._before(None, obj)
        self._judge(obj, incoming)
        if self._get(metadata.namespace, metadata.name or "") is not None:
            raise api_status.already_exists(self._resource, metadata.name or "")
        metadata.uid = str(uuid.uuid4())
        metadata.creationTimestamp = rfc3339(self._world.clock.now())
        metadata.deletionTimestamp = metadata.deletionGracePeriodSeconds = metadata.selfLink = None
        metadata.generation = None
        return self._put(obj, dry_run=dry_run)

    def _judge(self, obj: Any, incoming: Incoming) -> None:
        name = obj.metadata.name or obj.metadata.generateName or ""
        errors = check(obj, self._resource)
        if errors:
            raise api_status.invalid(self._kind, name, errors, group=self._resource.group)
        objections = []
        if self._kind in KINDS:
            objections = refused(unsupported_object(obj, self._world.node_labels()), incoming.warnings)
        if objections:
            raise api_status.invalid(self._kind, name, objections, group=self._resource.group)

    def _before(self, old: Any, new: Any) -> None:
        """What is done to an object before it is judged; `old` is the one that is there, if there is."""

    def _put(self, obj: Any, *, dry_run: bool) -> Kept:
        if dry_run:
            obj.metadata.resourceVersion = None
        else:
            obj.metadata.resourceVersion = self._world.hub.next_version()
            self._world.objects.put(obj)
        return obj

    async def update(self, incoming: Incoming, subresource: str, *, dry_run: bool) -> Kept:
        """Put another object in the place of one.

        Raises:
            StatusError: it is refused.
            StepError: it cannot be written.
        """
        new = incoming.object
        metadata = new.metadata
        fill_in(new, self._resource)
        name = metadata.name or ""
        old: Any = self.found(metadata.namespace or "", name)
        if metadata.uid and metadata.uid != old.metadata.uid:
            text = f"Precondition failed: UID in precondition: {metadata.uid}, UID in object meta: {old.metadata.uid}"
            raise api_status.conflict(self._resource, name, text)
        if not same_version(metadata, old.metadata.resourceVersion or ""):
            raise api_status.conflict(self._resource, name)
        errors = metadata_update(old.metadata, metadata)
        if errors:
            raise api_status.invalid(self._kind, name, errors, group=self._resource.group)
        if hasattr(new, "status"):
            # Each of the two leaves to the other what is the other's.
            if subresource == "status":
                new = msgspec.structs.replace(old, metadata=metadata, status=new.status)
            else:
                new.status = old.status
        _drop_own_finalizers(new)
        self._before(old, new)
        self._judge(new, incoming)
        grows = isinstance(old, PersistentVolumeClaim) and self._world.claims.grows(old)
        errors = judge(old, new, grows=grows)
        if errors:
            raise api_status.invalid(self._kind, name, errors, group=self._resource.group)
        metadata.resourceVersion = old.metadata.resourceVersion
        if new == old:
            return old
        new.metadata = metadata
        put = self._put(new, dry_run=dry_run)
        if metadata.deletionTimestamp is not None and not metadata.finalizers and not dry_run:
            self._remove(put)
        return put

    async def delete(self, namespace: str, name: str, how: Deletion) -> tuple[Kept, bool]:
        """Remove an object, or have it wait for its finalizers: as it is then, and whether it is gone.

        Raises:
            StatusError: it is refused.
            StepError: it cannot be removed.
        """
        obj = self.found(namespace, name)
        metadata = obj.metadata
        self._check(obj, how)
        if not how.dry_run:
            self._refuse(obj)
        if how.propagation == FOREGROUND:
            metadata.finalizers = with_foreground(metadata.finalizers)
        if not metadata.finalizers:
            if not how.dry_run:
                self._remove(obj)
            return obj, True
        if metadata.deletionTimestamp is None:
            metadata.deletionTimestamp = rfc3339(self._world.clock.now())
            metadata.deletionGracePeriodSeconds = 0
            if metadata.generation:
                metadata.generation += 1
            obj = self._put(obj, dry_run=how.dry_run)
        return obj, False

    def _check(self, obj: Kept, how: Deletion) -> None:
        """Raise if it is not the object that was meant.

        Raises:
            StatusError: it is another one.
        """
        metadata, name = obj.metadata, obj.metadata.name or ""
        kind = f"{self._kind}.{self._resource.group}" if self._resource.group else self._kind
        if how.uid and how.uid != metadata.uid:
            raise api_status.precondition(kind, name, "UID", how.uid, metadata.uid or "")
        if how.version and how.version != metadata.resourceVersion:
            raise api_status.precondition(kind, name, "ResourceVersion", how.version, metadata.resourceVersion or "")

    def _refuse(self, obj: Kept) -> None:
        """Raise if a claim or a volume is in use.

        Raises:
            StatusError: it is.
        """
        key = (self._kind, obj.metadata.namespace or "", obj.metadata.name or "")
        try:
            refuse_removal(self._world, [key])
        except ConflictError as error:
            raise api_status.conflict(self._resource, key[2], error.brief) from None

    def _remove(self, obj: Kept) -> None:
        metadata = obj.metadata
        self._world.objects.delete(self._kind, metadata.namespace or "", metadata.name or "")


def _drop_own_finalizers(obj: Any) -> None:
    """Those of claims and volumes are a cluster's; nsrun sees to the same without them."""
    if isinstance(obj, PersistentVolumeClaim | PersistentVolume):
        obj.metadata.finalizers = [one for one in obj.metadata.finalizers if not one.startswith(_PROTECTION)]


def _forget_status(obj: Any) -> None:
    """What a client says of the status of a new object is what somebody else once saw."""
    if isinstance(obj, PersistentVolumeClaim):
        obj.status = PersistentVolumeClaimStatus(phase="Pending")
    elif isinstance(obj, PersistentVolume):
        obj.status = PersistentVolumeStatus(phase="Pending")
