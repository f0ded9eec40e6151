"""Namespaces: there is one for whatever is in it, and one that is removed takes all of it along.

Source: kubernetes plugin/pkg/admission/namespace/lifecycle, pkg/controller/namespace/deletion (v1.36). What is kept is the truth: a removal
that a killed server did not finish is finished by the next one.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import msgspec

from nsrun.errors import ConflictError, NsrunError, brief_of
from nsrun.server import changes
from nsrun.state.objects import AROUND, CLUSTER_KINDS, KINDS
from nsrun.status.times import rfc3339

if TYPE_CHECKING:
    from nsrun.server.engine import PodEngine
    from nsrun.server.world import World

ALWAYS = ("default", "kube-node-lease", "kube-public", "kube-system")
"""Those that are always there."""
RETRY_S = 1.0
"""How long what could not be removed is left alone."""
_KIND = "Namespace"
_KUBERNETES = "kubernetes"
_INSIDE = tuple(kind for kind in (*KINDS, *AROUND) if kind not in CLUSTER_KINDS)

_LOG = logging.getLogger("nsrun.namespaces")


class Namespaces:
    """The namespaces of a server. While no client of the Kubernetes API has come, only those that are going matter.

    Args:
        world: what all pods share.
    """

    def __init__(self, world: World) -> None:
        self._world = world
        self._begun = False
        self._known: set[str] = set(ALWAYS)
        """Those that are kept, or need not be looked for."""
        self._going: set[str] = set()
        self._soon: dict[str, asyncio.TimerHandle] = {}
        self.pods: Callable[[], Iterable[PodEngine]] = tuple
        """Gives all pods; the service sets it."""
        self.protected: Callable[[Any], bool] = lambda _obj: False
        """Whether something uses an object, so that it has to wait; the service sets it."""

    def resume(self) -> None:
        """Go on with the removals that an earlier server began."""
        if not (self._world.layout.objects / _KIND.lower()).exists():
            return
        try:
            found = self._world.objects.all_of(_KIND)
        except (NsrunError, OSError) as error:
            _LOG.error("namespaces: %s", brief_of(error))
            return
        for one in found:
            if one.metadata.deletionTimestamp is not None:
                self._going.add(one.metadata.name or "")
        for name in self._going:
            self.look_soon(name)

    def begin(self) -> None:
        """Have one for whatever is there, as somebody wants to see them.

        Raises:
            StepError: one cannot be written.
        """
        if self._begun:
            return
        self._begun = True
        self._world.objects.subscribe(self._changed)
        self._known = {one.metadata.name or "" for one in self._world.objects.all_of(_KIND)}
        wanted = {*ALWAYS, *(engine.namespace for engine in self.pods())}
        for kind in _INSIDE:
            wanted.update(one.metadata.namespace or "" for one in self._world.objects.all_of(kind))
        for name in sorted(wanted - self._known - self._going):
            self.seen(name)

    def seen(self, name: str) -> None:
        """Something is, or is about to be, in this namespace: it is made if there is none.

        Raises:
            ConflictError: it is being removed.
            StepError: it cannot be written.
        """
        if name in self._going:
            raise ConflictError(
                f'namespace "{name}" is being removed with everything in it',
                resolution="Wait until it is gone, or use another one with -n.",
            )
        if self._begun and name not in self._known:
            from nsrun.spec.kinds import begin, fill_in
            from nsrun.spec.model_kinds import Namespace
            from nsrun.spec.resources_table import kept_kind

            made = Namespace()
            made.metadata.name = name
            made.metadata.uid = str(uuid.uuid4())
            made.metadata.creationTimestamp = rfc3339(self._world.clock.now())
            made.metadata.resourceVersion = self._world.hub.next_version()
            fill_in(made, kept_kind(_KIND))
            begin(made)
            self._world.objects.put(made)
            self._known.add(name)

    def there(self, name: str) -> bool:
        """Whether there is such a namespace; after `begin`."""
        return name in self._known

    def going(self, name: str) -> bool:
        """Whether it is being removed."""
        return name in self._going

    def _changed(self, kind: str, namespace: str, name: str) -> None:
        if kind == _KIND:
            found = self._world.objects.get(_KIND, "", name)
            (self._known.discard if found is None else self._known.add)(name)
            if found is not None and found.metadata.deletionTimestamp is not None:
                self._going.add(name)
                self.look_soon(name)
            else:
                self._going.discard(name)
        elif namespace in self._going:
            self.look_soon(namespace)

    # removal

    def pod_gone(self) -> None:
        """Nothing is left of a pod: it may have been the last of its namespace."""
        for name in tuple(self._going):
            self.look_soon(name)

    def look_soon(self, name: str, after_s: float = 0.0) -> None:
        """Look what is left in a namespace that is being removed."""
        if name not in self._going:
            return
        known = self._soon.pop(name, None)
        if known is not None:
            known.cancel()
        self._soon[name] = asyncio.get_running_loop().call_later(after_s, self._look, name)

    def _look(self, name: str) -> None:
        self._soon.pop(name, None)
        try:
            if self._empty(name):
                self._finish(name)
        except (NsrunError, OSError) as error:
            _LOG.warning("namespace %s: %s; trying again in %g s", name, brief_of(error), RETRY_S)
            self.look_soon(name, RETRY_S)

    def _empty(self, name: str) -> bool:
        """Have everything in a namespace go; whether nothing is left."""
        empty = True
        for engine in list(self.pods()):
            # One of a file runs on, as a kubelet's does of which the API server has nothing to show any more.
            if engine.namespace != name or (engine.static is not None and not engine.deleting):
                continue
            empty = False
            if not engine.deleting:
                changes.delete(engine)
        for kind in _INSIDE:
            for obj in self._world.objects.all_of(kind, name):
                empty = self._end(obj) and empty
        return empty

    def _end(self, obj: Any) -> bool:
        """Have an object go; whether it is gone."""
        metadata = obj.metadata
        if self.protected(obj):
            return False
        if not metadata.finalizers:
            self._world.objects.delete(obj.kind, metadata.namespace or "", metadata.name or "")
            return True
        if metadata.deletionTimestamp is None:
            metadata.deletionTimestamp = rfc3339(self._world.clock.now())
            metadata.deletionGracePeriodSeconds = 0
            metadata.resourceVersion = self._world.hub.next_version()
            self._world.objects.put(obj)
        return False

    def _finish(self, name: str) -> None:
        """Nothing is left in it: it goes, unless somebody has something to do first."""
        found = self._world.objects.get(_KIND, "", name)
        if found is None:
            self._going.discard(name)
            return
        if _KUBERNETES in found.spec.finalizers:
            spec = msgspec.structs.replace(
                found.spec, finalizers=[one for one in found.spec.finalizers if one != _KUBERNETES]
            )
            found = msgspec.structs.replace(found, spec=spec)
            if spec.finalizers or found.metadata.finalizers:
                found.metadata.resourceVersion = self._world.hub.next_version()
                self._world.objects.put(found)
        if not found.spec.finalizers and not found.metadata.finalizers:
            self._world.objects.delete(_KIND, "", name)
            _LOG.info("namespace %s is gone", name)

    def close(self) -> None:
        """Look at nothing any more."""
        for timer in self._soon.values():
            timer.cancel()
        self._soon.clear()
