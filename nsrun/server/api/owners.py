"""Objects that others own go with them: what Kubernetes' garbage collector does.

Source: kubernetes pkg/controller/garbagecollector (v1.36). Who owns what is written in the objects; what is remembered here is only
where to look. After each start of a server everything is looked at once.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from nsrun.errors import NsrunError, StatusError, brief_of
from nsrun.server import changes
from nsrun.server.api.options import Deletion
from nsrun.spec.resources_table import resource_of
from nsrun.spec.update import Update
from nsrun.state.objects import AROUND, CLUSTER_KINDS, KINDS

if TYPE_CHECKING:
    from nsrun.server.pods import Registry
    from nsrun.server.world import World
    from nsrun.spec.model import ObjectMeta, OwnerReference

FOREGROUND = "foregroundDeletion"
"""The finalizer of an object that goes after those that it owns."""
RETRY_S = 1.0
"""How long what could not be removed is left alone."""

Key = tuple[str, str, str]
"""Kind, namespace ("" for what is in none) and name."""

_LOG = logging.getLogger("nsrun.owners")


class Deletes(Protocol):
    """Who removes objects of a kind."""

    async def delete(self, namespace: str, name: str, how: Deletion) -> tuple[Any, bool]:
        """Remove one."""


class Owners:
    """Which objects have owners, and what becomes of them.

    Args:
        world: what all pods share.
        registry: all pods.
        writes: who removes objects, by kind.
    """

    def __init__(self, world: World, registry: Registry, writes: Mapping[str, Deletes]) -> None:
        self._world = world
        self._registry = registry
        self._writes = writes
        self._owned: dict[Key, set[Key]] = {}
        """By owner: what says that it is owned by it."""
        self._owners: dict[Key, set[Key]] = {}
        """By what is owned: its owners."""
        self._due: set[Key] = set()
        self._task: asyncio.Task[None] | None = None
        self._closed = False

    def begin(self) -> None:
        """Look at everything that there is."""
        self._world.objects.subscribe(self._changed)
        self._registry.gone_too.append(lambda engine: self.gone(("Pod", engine.namespace, engine.name)))
        for kind in (*KINDS, *AROUND):
            for obj in self._world.objects.all_of(kind):
                self._note(_key(obj), obj.metadata)
        for engine in self._registry:
            self.pod_changed(engine.namespace, engine.name)
        self._due.update(self._owners, self._owned)
        self._wake()

    def close(self) -> None:
        """Look at nothing any more."""
        self._closed = True
        if self._task is not None:
            self._task.cancel()

    # what is known

    def pod_changed(self, namespace: str, name: str) -> None:
        """There is a pod, or it has other owners."""
        engine = self._registry.get(namespace, name)
        if engine is not None and (engine.desired.metadata.ownerReferences or engine.deleting):
            key = ("Pod", namespace, name)
            self._note(key, engine.desired.metadata)
            self._look(key)

    def gone(self, key: Key) -> None:
        """Nothing is left of an object."""
        self._forget(key)
        self._look(*self._owned.get(key, ()))

    def _changed(self, kind: str, namespace: str, name: str) -> None:
        key = (kind, namespace, name)
        found = self._world.objects.get(*key)
        if found is None:
            self.gone(key)
        elif found.metadata.ownerReferences or found.metadata.finalizers or key in self._owners:
            self._note(key, found.metadata)
            self._look(key)

    def _note(self, key: Key, metadata: ObjectMeta) -> None:
        self._forget(key)
        owners = {_owner(key, one) for one in metadata.ownerReferences}
        if owners:
            self._owners[key] = owners
            for owner in owners:
                self._owned.setdefault(owner, set()).add(key)

    def _forget(self, key: Key) -> None:
        for owner in self._owners.pop(key, ()):
            self._owned[owner].discard(key)
            if not self._owned[owner]:
                del self._owned[owner]
            # It may wait for this one.
            self._look(owner)

    # what is done

    def _look(self, *keys: Key) -> None:
        self._due.update(keys)
        self._wake()

    def _wake(self) -> None:
        if self._due and self._task is None and not self._closed:
            self._task = asyncio.get_running_loop().create_task(self._work(), name="owners")
            self._task.add_done_callback(self._done)

    def _done(self, _task: asyncio.Task[None]) -> None:
        self._task = None
        self._wake()

    async def _work(self) -> None:
        while self._due:
            key = self._due.pop()
            try:
                await self._judge(key)
            except StatusError as error:
                # It is in use, or was changed meanwhile: whatever ends that is heard of.
                _LOG.debug("%s %s/%s: %s", *key, error.brief)
            except (NsrunError, OSError) as error:
                _LOG.warning("%s %s/%s: %s; trying again in %g s", *key, brief_of(error), RETRY_S)
                asyncio.get_running_loop().call_later(RETRY_S, self._look, key)

    async def _judge(self, key: Key) -> None:
        """Have an object go whose owners are gone, or whose turn has come."""
        metadata = self._metadata(key)
        if metadata is None:
            return
        if FOREGROUND in metadata.finalizers and metadata.deletionTimestamp is not None:
            await self._foreground(key, metadata)
        references = metadata.ownerReferences
        if not references or metadata.deletionTimestamp is not None:
            return
        there = [self._alive(key, one) for one in references]
        if any(one is False for one in there):
            if any(one is not False for one in there):
                self._put_owners(key, [one for one, alive in zip(references, there, strict=True) if alive is not False])
            else:
                _LOG.info("%s %s/%s goes, as its owner has gone", *key)
                await self._remove(key, metadata)
        elif all(self._goes_first(key, one) for one in references):
            await self._remove(key, metadata)

    async def _remove(self, key: Key, metadata: ObjectMeta) -> None:
        kind, namespace, name = key
        await self._writes[kind].delete(namespace, name, Deletion(uid=metadata.uid or ""))

    async def _foreground(self, key: Key, metadata: ObjectMeta) -> None:
        """Once nothing is left that holds its owner back, that goes."""
        holding = [one for one in self._owned.get(key, ()) if self._holds(one, metadata.uid or "")]
        for one in self._owned.get(key, ()):
            self._due.add(one)
        if not holding:
            self._put_finalizers(key, [one for one in metadata.finalizers if one != FOREGROUND])

    def _holds(self, key: Key, uid: str) -> bool:
        metadata = self._metadata(key)
        return metadata is not None and any(
            one.uid == uid and one.blockOwnerDeletion for one in metadata.ownerReferences
        )

    def _goes_first(self, key: Key, reference: OwnerReference) -> bool:
        """Whether an owner waits for what it owns to go."""
        metadata = self._metadata(_owner(key, reference))
        return metadata is not None and FOREGROUND in metadata.finalizers and metadata.deletionTimestamp is not None

    def _alive(self, key: Key, reference: OwnerReference) -> bool | None:
        """Whether an owner is there; None: it is of a kind of which nothing is known here."""
        resource = resource_of(reference.apiVersion, reference.kind)
        if resource is None or not resource.kept:
            return None
        metadata = self._metadata(_owner(key, reference))
        return metadata is not None and metadata.uid == reference.uid

    def _metadata(self, key: Key) -> ObjectMeta | None:
        kind, namespace, name = key
        if kind == "Pod":
            engine = self._registry.get(namespace, name)
            return None if engine is None else engine.desired.metadata
        found = self._world.objects.get(*key)
        metadata: ObjectMeta | None = None if found is None else found.metadata
        return metadata

    def orphan(self, key: Key, uid: str) -> None:
        """Have nothing owned by an object any more, which is about to go.

        Raises:
            StepError: it cannot be written.
        """
        for one in tuple(self._owned.get(key, ())):
            metadata = self._metadata(one)
            if metadata is not None:
                self._put_owners(one, [reference for reference in metadata.ownerReferences if reference.uid != uid])

    def _put_owners(self, key: Key, references: list[OwnerReference]) -> None:
        metadata = self._metadata(key)
        if metadata is not None:
            self._put(key, msgspec.structs.replace(metadata, ownerReferences=references))

    def _put_finalizers(self, key: Key, finalizers: list[str]) -> None:
        metadata = self._metadata(key)
        if metadata is not None:
            self._put(key, msgspec.structs.replace(metadata, finalizers=finalizers))

    def _put(self, key: Key, metadata: ObjectMeta) -> None:
        kind, namespace, name = key
        if kind == "Pod":
            engine = self._registry.get(namespace, name)
            if engine is not None:
                pod = msgspec.structs.replace(engine.desired, metadata=metadata)
                changes.update(engine, pod, Update(), {}, whole=True)
                self._note(key, metadata)
            return
        found = self._world.objects.get(*key)
        if found is None:
            return
        if metadata.deletionTimestamp is not None and not metadata.finalizers and kind != "Namespace":
            self._world.objects.delete(*key)
            return
        metadata.resourceVersion = self._world.hub.next_version()
        self._world.objects.put(msgspec.structs.replace(found, metadata=metadata))


def _key(obj: Any) -> Key:
    return obj.kind, obj.metadata.namespace or "", obj.metadata.name or ""


def _owner(key: Key, reference: OwnerReference) -> Key:
    """An owner is in the namespace of what it owns, or in none."""
    return reference.kind, "" if reference.kind in CLUSTER_KINDS else key[1], reference.name


def with_foreground(finalizers: Iterable[str]) -> list[str]:
    """The finalizers of an object that is to go after those that it owns."""
    return [*(one for one in finalizers if one != FOREGROUND), FOREGROUND]
