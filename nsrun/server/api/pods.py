"""Pods, as clients of the Kubernetes API make, change and delete them.

Source: kubernetes pkg/registry/core/pod/strategy.go, apiserver pkg/registry/rest/create.go, update.go, delete.go (v1.36).
"""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from typing import TYPE_CHECKING, Any

import msgspec

from nsrun.errors import ConflictError
from nsrun.reconcile import request_deletion
from nsrun.reconcile.scheduling import objection
from nsrun.reconcile.termination import grace_of
from nsrun.server import changes
from nsrun.server.api.admission import admit
from nsrun.server.api.effects import refused
from nsrun.server.api.names import give_name, place, require
from nsrun.server.api.options import FOREGROUND, Deletion, same_version
from nsrun.server.api.owners import with_foreground
from nsrun.server.observing import observe
from nsrun.spec import Pod, api_status, set_defaults, unsupported, validate
from nsrun.spec.incoming import Incoming, metadata_update
from nsrun.spec.model import PodStatus
from nsrun.spec.pod_update import for_ephemeral, for_resize, for_spec, for_status
from nsrun.spec.resources_table import kept_kind
from nsrun.spec.update import Update, updated
from nsrun.state.ledger import Wish
from nsrun.status.events import NORMAL, SCHEDULED
from nsrun.status.phase import PENDING
from nsrun.status.qos import qos_class
from nsrun.status.times import rfc3339

if TYPE_CHECKING:
    from nsrun.server.engine import PodEngine
    from nsrun.server.pods import Registry
    from nsrun.server.world import World

POD = kept_kind("Pod")
STARTING_S = 10.0
"""How long a change waits for starts that are under way; they take milliseconds."""
GOING_S = 10.0
"""How long the answer to a deletion without a grace period waits for the pod to be gone."""


class PodWrites:
    """What clients may do to pods.

    Args:
        world: what all pods share.
        registry: all pods.
    """

    def __init__(self, world: World, registry: Registry) -> None:
        self._world = world
        self._registry = registry

    def found(self, namespace: str, name: str) -> PodEngine:
        """The pod.

        Raises:
            StatusError: there is none.
        """
        engine = self._registry.get(namespace, name)
        if engine is None:
            raise api_status.not_found(POD, name)
        return engine

    async def create(self, incoming: Incoming, namespace: str | None, *, dry_run: bool) -> Pod:
        """Make a pod.

        Raises:
            StatusError: it is refused.
            StepError: it cannot be written.
        """
        asked: Pod = incoming.object
        place(POD, asked.metadata, namespace)
        space = asked.metadata.namespace or ""
        set_defaults(asked)
        give_name(POD, asked.metadata, lambda name: self._registry.get(space, name) is not None)
        name = asked.metadata.name or ""
        require(self._world, POD, asked.metadata)
        admit(self._world, asked)
        self._judge(asked, incoming)
        if self._registry.get(space, name) is not None:
            raise api_status.already_exists(POD, name)
        wish = self._wish(asked)
        if dry_run:
            status = PodStatus(phase=PENDING, qosClass=qos_class(wish.object))
            return msgspec.structs.replace(wish.object, status=status)
        try:
            engine = self._registry.create(wish)
        except ConflictError as error:
            raise api_status.refusal(
                409, "AlreadyExists", error.brief, details={"name": name, "kind": "pods"}
            ) from None
        engine.published.begin()
        if wish.object.spec.nodeName == self._world.node.name:
            engine.note(NORMAL, SCHEDULED, f"Successfully assigned {engine.label} to {wish.object.spec.nodeName}")
        return engine.published.pod()

    def _judge(self, asked: Pod, incoming: Incoming) -> None:
        name = asked.metadata.name or asked.metadata.generateName or ""
        errors = validate(asked)
        if errors:
            raise api_status.invalid("Pod", name, errors)
        objections = refused(unsupported(asked), incoming.warnings)
        if objections:
            raise api_status.invalid("Pod", name, objections)

    def _wish(self, asked: Pod) -> Wish:
        """The pod as it is stored: with what the server adds, and without what only a server may say."""
        metadata = msgspec.structs.replace(
            asked.metadata,
            uid=str(uuid.uuid4()),
            creationTimestamp=rfc3339(self._world.clock.now()),
            generation=1,
            resourceVersion=None,
            deletionTimestamp=None,
            deletionGracePeriodSeconds=None,
            selfLink=None,
        )
        node = asked.spec.nodeName
        if not node and not asked.spec.schedulingGates and not objection(asked, self._world.candidate()):
            node = self._world.node.name
        spec = msgspec.structs.replace(asked.spec, nodeName=node)
        pod = msgspec.structs.replace(asked, metadata=metadata, spec=spec, status=PodStatus())
        return Wish(object=pod, options={"nodeName": asked.spec.nodeName})

    async def update(self, incoming: Incoming, subresource: str, *, dry_run: bool) -> Pod:
        """Make a pod another one, as far as the subresource allows it.

        Raises:
            StatusError: it is refused.
            StepError: it cannot be written.
        """
        asked: Pod = incoming.object
        set_defaults(asked)
        name = asked.metadata.name or ""
        engine = self.found(asked.metadata.namespace or "default", name)
        if engine.static is not None and subresource != "status":
            raise api_status.forbidden(
                POD, name, f"it runs from {engine.static}, and what is asked for of it stands there"
            )
        asked = self._compared(engine, asked, subresource)
        if asked.spec != engine.desired.spec and not await engine.starting.none(STARTING_S):
            raise api_status.unavailable(f'a container of pod "{engine.label}" has been starting for {STARTING_S:g} s')
        # Once more: something may have happened meanwhile.
        asked = self._compared(self.found(engine.namespace, name), incoming.object, subresource)
        judged = for_spec(engine.desired, asked, subresource)
        if judged.errors:
            raise api_status.invalid("Pod", name, judged.errors)
        if asked.spec != engine.desired.spec:
            _judge_new(engine, asked, incoming)
        if dry_run:
            return engine.published.shown(updated(engine.desired, asked, of_spec=judged.of_spec, whole=True))
        if subresource == "status":
            changes.set_foreign(engine, asked.status.conditions)
        if judged.paths or _metadata(asked) != _metadata(engine.desired):
            changes.update(engine, asked, judged, {}, whole=True)
        return engine.published.pod()

    def _compared(self, engine: PodEngine, asked: Pod, subresource: str) -> Pod:
        """What is asked for, with all that the subresource does not let change as it is.

        Raises:
            StatusError: it is of another pod or another version than the one that is there.
        """
        old = engine.published.pod()
        name = engine.name
        asked = msgspec.structs.replace(asked, metadata=msgspec.structs.replace(asked.metadata))
        if asked.metadata.uid and asked.metadata.uid != engine.uid:
            text = f"Precondition failed: UID in precondition: {asked.metadata.uid}, UID in object meta: {engine.uid}"
            raise api_status.conflict(POD, name, text)
        if not same_version(asked.metadata, engine.published.version):
            raise api_status.conflict(POD, name)
        asked.metadata.namespace = asked.metadata.namespace or engine.namespace
        errors = metadata_update(old.metadata, asked.metadata)
        if errors:
            raise api_status.invalid("Pod", name, errors)
        asked.metadata.resourceVersion = None
        desired = msgspec.structs.replace(engine.desired, status=engine.status)
        if subresource == "status":
            return for_status(desired, asked)
        if subresource == "ephemeralcontainers":
            return for_ephemeral(desired, asked)
        if subresource == "resize":
            return for_resize(desired, asked)
        return asked

    async def delete(self, namespace: str, name: str, how: Deletion) -> tuple[Pod, bool]:
        """Have a pod taken down: as it is then, and whether it is gone already.

        Raises:
            StatusError: it is refused.
            StepError: it cannot be written.
        """
        engine = self.found(namespace, name)
        if how.uid and how.uid != engine.uid:
            raise api_status.precondition("Pod", name, "UID", how.uid, engine.uid)
        if how.version and how.version != engine.published.version:
            raise api_status.precondition("Pod", name, "ResourceVersion", how.version, engine.published.version)
        if engine.static is not None:
            raise api_status.forbidden(POD, name, f"it runs from {engine.static}, and stays as long as that is there")
        grace_s = grace_of(engine.pod) if how.grace_s is None else how.grace_s
        if engine.finished or not engine.admitted:
            grace_s = 0.0
        now = self._world.clock.now()
        if how.dry_run:
            deletion = request_deletion(engine.wish.deletion, now, grace_s)
            return engine.published.shown(changes.to_be_deleted(engine, deletion)), False
        before = engine.wish.deletion
        if how.propagation == FOREGROUND and before is None:
            finalizers = with_foreground(engine.desired.metadata.finalizers)
            metadata = msgspec.structs.replace(engine.desired.metadata, finalizers=finalizers)
            changes.update(engine, msgspec.structs.replace(engine.desired, metadata=metadata), Update(), {}, whole=True)
        if how.eviction and before is None:
            evicted = {"DisruptionTarget": "True"}
            changes.set_conditions(engine, evicted, "EvictionByEvictionAPI", "Eviction API: evicting")
        changes.delete(engine, grace_s)
        if engine.wish.deletion != before:
            engine.published.publish(observe(engine, now), now)
        pod = engine.published.pod()
        if grace_s <= 0 and not pod.metadata.finalizers:
            await _gone(engine)
        return pod, engine.gone


def _judge_new(engine: PodEngine, asked: Pod, incoming: Incoming) -> None:
    """Whether what came of a change would do for a new pod, besides what a new one cannot have."""
    own = ("spec.ephemeralContainers", "spec.nodeName")
    errors = [error for error in validate(asked) if error.path not in own]
    if errors:
        raise api_status.invalid("Pod", engine.name, errors)
    known = [one.path for one in unsupported(engine.desired)]
    objections = refused(unsupported(asked), incoming.warnings, known)
    if objections:
        raise api_status.invalid("Pod", engine.name, objections)


def _metadata(pod: Pod) -> Any:
    one = pod.metadata
    return one.labels, one.annotations, one.finalizers, one.ownerReferences, one.managedFields


async def _gone(engine: PodEngine) -> None:
    """Until nothing is left of the pod, or it takes its time."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(GOING_S):
            while not engine.gone:
                await engine.changed.wait()
