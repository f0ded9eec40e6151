"""`api.watch`, `api.create`, `api.update` and `api.delete`: objects of all kinds, by one door."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol

from nsrun.errors import (
    ConflictError,
    NsrunError,
    SpecError,
    StatusError,
    UnsupportedError,
    UsageError,
    brief_of,
)
from nsrun.server.api import around
from nsrun.server.api.around import EventWrites, ServiceWrites
from nsrun.server.api.kept import KeptWrites
from nsrun.server.api.node import Machine
from nsrun.server.api.options import ORPHAN, Deletion, object_of
from nsrun.server.api.owners import Owners
from nsrun.server.api.pods import PodWrites
from nsrun.server.api.spaces import NamespaceWrites
from nsrun.server.watch import Change, as_json
from nsrun.spec import api_status
from nsrun.spec.incoming import Incoming, read
from nsrun.spec.resources_table import kept_kind
from nsrun.state.objects import AROUND, KINDS

if TYPE_CHECKING:
    from nsrun.server.control import Request
    from nsrun.server.pods import Registry
    from nsrun.server.world import World

ROOM = 8 * 1024 * 1024
"""Bytes that a watcher may leave unread while it is told of what is there."""
EXPIRE_S = 60.0
"""How often old events are looked for."""

_LOG = logging.getLogger("nsrun.api")


class Writes(Protocol):
    """What clients may do to objects of a kind."""

    async def create(self, incoming: Incoming, namespace: str | None, *, dry_run: bool) -> Any:
        """Make one."""

    async def update(self, incoming: Incoming, subresource: str, *, dry_run: bool) -> Any:
        """Make another one of one."""

    async def delete(self, namespace: str, name: str, how: Deletion) -> tuple[Any, bool]:
        """Remove one; as it is then, and whether it is gone."""


class ApiMethods:
    """The methods.

    Args:
        world: what all pods share.
        pods: all pods.
    """

    def __init__(self, world: World, pods: Registry) -> None:
        self._world = world
        self._pods = pods
        self._machine = Machine(world)
        self._events = EventWrites(world, pods)
        world.hub.feed.on_watched = self._watched
        world.hub.keep_events = self._events.keep
        self._writes: dict[str, Writes] = {kind: KeptWrites(world, kept_kind(kind)) for kind in (*KINDS, *AROUND)}
        self._writes |= {
            "Pod": PodWrites(world, pods),
            "Namespace": NamespaceWrites(world),
            "Node": self._machine,
            "Service": ServiceWrites(world),
            "Event": self._events,
        }
        self._owners = Owners(world, pods, self._writes)
        # Before anybody is told what there is.
        world.namespaces.begin()
        self._machine.begin()
        around.begin(world)
        self._owners.begin()
        self._expire()

    def close(self) -> None:
        """Look at nothing any more."""
        self._machine.watched(False)
        self._owners.close()
        self._timer.cancel()

    def _expire(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(EXPIRE_S, self._expire)
        try:
            self._events.expire()
        except (NsrunError, OSError) as error:
            _LOG.warning("forget old events: %s", brief_of(error))

    def _tell(self, change: Change, kind: str, obj: Any) -> None:
        if change == "DELETED":
            # That it went is a change of its own.
            obj.metadata.resourceVersion = self._world.hub.next_version()
        self._world.hub.feed.tell(change, kind, obj)

    async def answer(self, request: Request) -> object:
        """Whatever is asked for.

        Raises:
            StatusError: it is refused, or went wrong.
        """
        method = {
            "api.watch": self.watch,
            "api.create": self.create,
            "api.event": self.create,
            "api.update": self.update,
            "api.delete": self.delete,
        }[request.method]
        try:
            return await method(request)
        except UsageError:
            raise
        except NsrunError as error:
            raise as_status(error) from error

    def _watched(self, watched: bool) -> None:
        self._world.objects.teller = self._tell if watched else None
        self._machine.watched(watched)

    async def watch(self, request: Request) -> object:
        """Everything that is there, a BOOKMARK, then every change."""
        request.cancellable = True
        hub = self._world.hub
        with hub.feed.listening(request.event):
            # A change of something that was not told of yet comes before it: whoever listens takes the newest version.
            for kind, obj in self._everything():
                request.event(as_json("ADDED", kind, obj))
                await request.room(ROOM)
            request.event({"type": "BOOKMARK", "resourceVersion": hub.version})
            await asyncio.Event().wait()
        return {}

    def _everything(self) -> Iterator[tuple[str, object]]:
        yield "Node", self._machine.node()
        for kind in (*AROUND, *KINDS):
            if kind != "Node":
                for obj in self._world.objects.all_of(kind):
                    yield kind, obj
        for engine in list(self._pods):
            if engine.gone:
                continue
            yield "Pod", engine.published.pod()
            for event in engine.published.versioned_events():
                yield "Event", event

    async def create(self, request: Request) -> object:
        """A new object."""
        incoming = read(object_of(request), request.text("field_validation", ""))
        made = await self._of(incoming.resource.kind, "create").create(
            incoming, request.text_or_none("namespace"), dry_run=request.flag("dry_run")
        )
        self._noted(made)
        return {"object": made, "warnings": incoming.warnings}

    async def update(self, request: Request) -> object:
        """Another version of an object."""
        incoming = read(object_of(request), request.text("field_validation", ""))
        made = await self._of(incoming.resource.kind, "update").update(
            incoming, request.text("subresource", ""), dry_run=request.flag("dry_run")
        )
        self._noted(made)
        return {"object": made, "warnings": incoming.warnings}

    async def delete(self, request: Request) -> object:
        """No object any more."""
        kind, namespace, name = request.text("kind"), request.text("namespace", ""), request.text("name")
        how = Deletion.of(request)
        writes = self._of(kind, "delete")
        if how.propagation == ORPHAN and not how.dry_run:
            found, _ = await writes.delete(namespace, name, replace(how, dry_run=True))
            self._owners.orphan((kind, found.metadata.namespace or "", name), found.metadata.uid or "")
        obj, gone = await writes.delete(namespace, name, how)
        if kind == "Pod" and not gone:
            self._owners.pod_changed(namespace, name)
        return {"object": obj, "gone": gone}

    def _noted(self, made: Any) -> None:
        if made.kind == "Pod":
            self._owners.pod_changed(made.metadata.namespace or "", made.metadata.name or "")

    def _of(self, kind: str, verb: str) -> Writes:
        found = self._writes.get(kind)
        if found is None:
            raise api_status.bad_request(f'there is no kind "{kind}" that one could {verb} objects of')
        return found


def as_status(error: NsrunError) -> StatusError:
    """Whatever went wrong, in the form of an API server."""
    if isinstance(error, StatusError):
        return error
    text = error.brief if not error.details else f"{error.brief}: {error.details}"
    if isinstance(error, SpecError | UnsupportedError):
        return api_status.bad_request(text)
    if isinstance(error, ConflictError):
        return api_status.refusal(409, "Conflict", text)
    return api_status.refusal(500, "InternalError", f"Internal error occurred: {text}")
