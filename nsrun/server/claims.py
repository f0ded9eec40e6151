"""Claims and volumes: bound as `reconcile.binding` says.

What is kept is the truth, and is looked at anew each time: a step that a killed server did not come to is done by the next one.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import secrets
import uuid
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from nsrun.errors import NsrunError, StepError, brief_of
from nsrun.reconcile.binding import Binding, Machine, PutClaim, PutVolume, RemoveVolume, bind, own
from nsrun.reconcile.placement import claim_name, claim_names, owned_by
from nsrun.spec.model import ObjectMeta, OwnerReference, PersistentVolume, PersistentVolumeClaim
from nsrun.state.files import remove_tree
from nsrun.state.layout import PRIVATE
from nsrun.status.times import rfc3339
from nsrun.volumes import make_directory

if TYPE_CHECKING:
    from nsrun.server.engine import PodEngine
    from nsrun.server.world import World
    from nsrun.spec.model import Pod, Volume

CLAIM, VOLUME = "PersistentVolumeClaim", "PersistentVolume"
RETRY_S = 1.0
"""How long what could not be written is left alone."""
_SET_ASIDE = ".gone-"
_ROUNDS = 8
"""Steps follow from each other; more rounds than this would be a bug, and the loop must not hang in it."""

Kept = TypeVar("Kept", PersistentVolume, PersistentVolumeClaim)
_LOG = logging.getLogger("nsrun.claims")


class Claims:
    """The claims and volumes of a server.

    Args:
        world: what all pods share.
        classes: names of storage classes besides the default one whose volumes are directories of nsrun's own.
    """

    def __init__(self, world: World, classes: frozenset[str]) -> None:
        self._world = world
        self._classes = classes
        self._soon: asyncio.Handle | None = None
        self._busy = False
        self._trouble = ""
        self._tasks: set[asyncio.Task[None]] = set()
        self._reasons: dict[tuple[str, str], tuple[str, str]] = {}
        self.pods: Callable[[], Iterable[PodEngine]] = tuple
        """Gives all pods; the service sets it."""
        world.objects.subscribe(self._changed)

    def begin(self) -> None:
        """Go on where an earlier server was killed. All pods are known."""
        try:
            self.collect()
        except (NsrunError, OSError) as error:
            _LOG.warning("collect claims: %s", brief_of(error))
        if self._world.layout.objects.exists():
            self.settle()

    # looking up

    def claim(self, namespace: str, name: str) -> PersistentVolumeClaim | None:
        """A claim by its name.

        Raises:
            InternalError, OSError: it cannot be read.
        """
        found = self._world.objects.get(CLAIM, namespace, name)
        return found if isinstance(found, PersistentVolumeClaim) else None

    def volume(self, name: str) -> PersistentVolume | None:
        """A volume by its name.

        Raises:
            InternalError, OSError: it cannot be read.
        """
        found = self._world.objects.get(VOLUME, "", name)
        return found if isinstance(found, PersistentVolume) else None

    def all_claims(self) -> list[PersistentVolumeClaim]:
        """All claims, of all namespaces."""
        return [one for one in self._world.objects.all_of(CLAIM) if isinstance(one, PersistentVolumeClaim)]

    def all_volumes(self) -> list[PersistentVolume]:
        """All volumes."""
        return [one for one in self._world.objects.all_of(VOLUME) if isinstance(one, PersistentVolume)]

    def users(self, namespace: str, name: str, besides: str = "") -> list[str]:
        """The pods that use a claim, by their labels: those that were admitted and have not ended.

        Args:
            namespace: of the claim.
            name: of the claim.
            besides: uid of a pod that does not count.
        """
        return [
            one.label
            for one in self.pods()
            if one.uid != besides
            and one.namespace == namespace
            and one.admitted
            and not one.finished
            and name in claim_names(one.pod)
        ]

    def in_use(self, obj: Any) -> bool:
        """Whether an object is a claim that a pod uses."""
        return obj.kind == CLAIM and bool(self.users(obj.metadata.namespace or "", obj.metadata.name or ""))

    def reason(self, namespace: str, name: str) -> tuple[str, str] | None:
        """Reason and message of why a claim is not bound, if there is something to be said."""
        return self._reasons.get((namespace, name))

    def grows(self, claim: PersistentVolumeClaim) -> bool:
        """Whether the claim's volume can be made larger."""
        volume = self.volume(claim.spec.volumeName) if claim.spec.volumeName else None
        return volume is not None and own(volume)

    # binding

    def _changed(self, kind: str, _namespace: str, _name: str) -> None:
        # Not at once: the next object of the same file may be what it is to be bound to.
        if kind in (CLAIM, VOLUME) and not self._busy and self._soon is None:
            self._soon = asyncio.get_running_loop().call_soon(self._settle_soon)

    def _settle_soon(self) -> None:
        self._soon = None
        self.settle()

    def settle(self) -> None:
        """Bind what can be bound, then wake the pods that wait. What cannot be written now is tried again in a while.

        As long as one claim or volume cannot be read, nothing is bound or released: it may be the other half of any of them.
        """
        self._busy = True
        try:
            for _ in range(_ROUNDS):
                binding = bind(self.all_claims(), self.all_volumes(), self._machine())
                self._reasons = binding.reasons
                if not binding.steps:
                    break
                self._carry_out(binding)
            self._trouble = ""
        except (NsrunError, OSError) as error:
            self._put_off(brief_of(error))
        finally:
            self._busy = False
        self.wake_waiting()

    def _put_off(self, trouble: str) -> None:
        if trouble != self._trouble:
            _LOG.warning("binding claims: %s; trying again every %g s", trouble, RETRY_S)
            self._trouble = trouble
        if self._soon is None:
            self._soon = asyncio.get_running_loop().call_later(RETRY_S, self._settle_soon)

    def wake_waiting(self) -> None:
        """Have the pods look again that have not begun."""
        for engine in self.pods():
            if not engine.admitted:
                engine.wake()

    def _machine(self) -> Machine:
        layout = self._world.layout
        try:
            found = os.statvfs(layout.lib)
            room = found.f_frsize * found.f_blocks
        except OSError:
            room = 0
        return Machine(self._world.node.name, str(layout.persistent), self._classes, room)

    def _carry_out(self, binding: Binding) -> None:
        for step in binding.steps:
            match step:
                case PutVolume(volume=volume):
                    self._put_volume(volume)
                case PutClaim(claim=claim):
                    self._world.objects.put(self._stamped(claim))
                    _LOG.info("claim %s/%s: %s", claim.metadata.namespace, claim.metadata.name, claim.status.phase)
                case RemoveVolume(name=name):
                    self.remove_volume(name)

    def _put_volume(self, volume: PersistentVolume) -> None:
        name = volume.metadata.name or ""
        if own(volume) and self.volume(name) is None:
            top = self._world.layout.persistent
            try:
                top.mkdir(PRIVATE, exist_ok=True)
                make_directory(top / name)
            except OSError as error:
                raise StepError("make the directory", str(top / name), error.errno or 0) from error
        self._world.objects.put(self._stamped(volume))
        _LOG.info("volume %s: %s", name, volume.status.phase)

    def _stamped(self, obj: Kept) -> Kept:
        metadata = msgspec.structs.replace(obj.metadata, resourceVersion=self._world.hub.next_version())
        if not metadata.uid:
            metadata.uid, metadata.creationTimestamp = str(uuid.uuid4()), rfc3339(self._world.clock.now())
        return msgspec.structs.replace(obj, metadata=metadata)

    # removing

    def remove_volume(self, name: str) -> asyncio.Task[None] | None:
        """Remove a volume and, if it is one of nsrun's own, what is in it. From the return on a crash does not bring it back.

        Returns: the task that removes what was in it, if there was anything.

        Raises:
            StepError: it cannot be removed.
        """
        top = self._world.layout.persistent
        volume = self.volume(name)
        aside: Path | None = None
        if volume is not None and own(volume):
            aside = top / f"{_SET_ASIDE}{secrets.token_hex(4)}"
            try:
                os.rename(top / name, aside)
            except FileNotFoundError:
                aside = None
            except OSError as error:
                raise StepError("remove", str(top / name), error.errno or 0) from error
        self._world.objects.delete(VOLUME, "", name)
        _LOG.info("volume %s removed", name)
        return None if aside is None else self._remove_soon(aside)

    def _remove_soon(self, directory: Path) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(self._remove(directory))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _remove(self, directory: Path) -> None:
        try:
            await asyncio.to_thread(remove_tree, directory)
        except OSError as error:
            _LOG.warning("remove %s: %s", directory, error)
        self._remove_top()

    def _remove_top(self) -> None:
        # There may be others, or none.
        with contextlib.suppress(OSError):
            os.rmdir(self._world.layout.persistent)

    def collect(self) -> None:
        """Take away what belongs to nobody: volumes that were being removed, claims of pods that are gone."""
        top = self._world.layout.persistent
        try:
            found = os.listdir(top)
        except FileNotFoundError:
            found = []
        for name in found:
            if name.startswith(_SET_ASIDE):
                self._remove_soon(top / name)
            elif self.volume(name) is None:
                # Made, and its claim went before it could be bound. It is kept if anything is in it.
                try:
                    os.rmdir(top / name)
                except OSError as error:
                    _LOG.warning("%s belongs to no volume and stays: %s", top / name, error)
        alive = self._world.pods_there()
        for claim in self.all_claims() if self._world.layout.objects.exists() else ():
            owner = next((one for one in claim.metadata.ownerReferences if one.kind == "Pod"), None)
            if owner is not None and owner.uid not in alive:
                self._world.objects.delete(CLAIM, claim.metadata.namespace or "", claim.metadata.name or "")

    # of pods

    def make_owned(self, pod: Pod) -> None:
        """Make the claims of a pod's ephemeral volumes that are not there (Kubernetes pkg/controller/volume/ephemeral).

        Raises:
            StepError: one cannot be written.
        """
        made = False
        for volume in pod.spec.volumes:
            namespace, name = pod.metadata.namespace or "default", claim_name(pod, volume)
            if volume.ephemeral is not None and self.claim(namespace, name) is None:
                self._world.objects.put(self._owned(pod, volume, name))
                made = True
        if made:
            self.settle()

    def _owned(self, pod: Pod, volume: Volume, name: str) -> PersistentVolumeClaim:
        assert volume.ephemeral is not None
        template = volume.ephemeral.volumeClaimTemplate
        assert template is not None
        owner = OwnerReference(
            apiVersion="v1",
            kind="Pod",
            name=pod.metadata.name or "",
            uid=pod.metadata.uid or "",
            controller=True,
            blockOwnerDeletion=True,
        )
        metadata = ObjectMeta(
            name=name,
            namespace=pod.metadata.namespace,
            uid=str(uuid.uuid4()),
            creationTimestamp=rfc3339(self._world.clock.now()),
            resourceVersion=self._world.hub.next_version(),
            labels=dict(template.metadata.labels),
            annotations=dict(template.metadata.annotations),
            ownerReferences=[owner],
        )
        claim = PersistentVolumeClaim(metadata=metadata, spec=msgspec.structs.replace(template.spec))
        claim.status.phase = "Pending"
        return claim

    def drop_owned(self, pod: Pod) -> None:
        """Remove the claims of a pod's ephemeral volumes, and with them the volumes.

        Raises:
            StepError: one cannot be removed.
        """
        gone = False
        for volume in pod.spec.volumes:
            namespace, name = pod.metadata.namespace or "default", claim_name(pod, volume)
            claim = self.claim(namespace, name) if volume.ephemeral is not None else None
            if claim is not None and owned_by(pod, claim):
                gone = self._world.objects.delete(CLAIM, namespace, name) or gone
        if gone:
            self.settle()

    async def close(self) -> None:
        """Wait for what is being removed."""
        if self._soon is not None:
            self._soon.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
