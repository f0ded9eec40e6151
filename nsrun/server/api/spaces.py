"""Namespaces, as clients of the Kubernetes API make and remove them.

Source: kubernetes plugin/pkg/admission/namespace/lifecycle/admission.go, pkg/registry/core/namespace (v1.36).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nsrun.server.api.kept import KeptWrites
from nsrun.server.api.names import NAMESPACE
from nsrun.server.api.options import Deletion
from nsrun.server.namespaces import ALWAYS
from nsrun.spec import api_status
from nsrun.spec.kinds import KUBERNETES
from nsrun.status.times import rfc3339

if TYPE_CHECKING:
    from nsrun.server.world import World
    from nsrun.spec.incoming import Incoming
    from nsrun.state.objects import Kept

TERMINATING = "Terminating"


class NamespaceWrites(KeptWrites):
    """What clients may do to namespaces.

    Args:
        world: what all pods share.
    """

    def __init__(self, world: World) -> None:
        super().__init__(world, NAMESPACE)

    async def update(self, incoming: Incoming, subresource: str, *, dry_run: bool) -> Kept:
        """As of all kinds; its finalizers are another subresource's."""
        new = incoming.object
        old = self.found("", new.metadata.name or "")
        if subresource != "finalize":
            new.spec.finalizers = old.spec.finalizers
        made = await super().update(incoming, "" if subresource == "finalize" else subresource, dry_run=dry_run)
        if not dry_run:
            self._world.namespaces.look_soon(made.metadata.name or "")
        return made

    def _remove(self, obj: Kept) -> None:
        """What is in it goes first; `Namespaces` sees to it."""

    async def delete(self, namespace: str, name: str, how: Deletion) -> tuple[Kept, bool]:
        """Have it and everything in it go.

        Raises:
            StatusError: it is refused.
            StepError: it cannot be written.
        """
        if name in ALWAYS:
            raise api_status.forbidden(NAMESPACE, name, "this namespace may not be deleted")
        obj: Any = self.found(namespace, name)
        self._check(obj, how)
        if obj.metadata.deletionTimestamp is not None:
            return obj, False
        obj.metadata.deletionTimestamp = rfc3339(self._world.clock.now())
        obj.status.phase = TERMINATING
        if KUBERNETES not in obj.spec.finalizers:
            obj.spec.finalizers = [*obj.spec.finalizers, KUBERNETES]
        return self._put(obj, dry_run=how.dry_run), False
