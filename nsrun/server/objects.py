"""The objects that are kept beside pods: applied, listed, removed; containers hear of what they wait for.

Nothing here says a value of a Secret to anybody but `object.get`.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import msgspec

from nsrun.errors import NotFoundError, SpecError, UnsupportedError, UsageError
from nsrun.plan import (
    Reference,
    references,
)
from nsrun.server.claim_rules import refuse_removal
from nsrun.server.manifest import namespace_of, verdicts_of
from nsrun.spec import NOT_IMPLEMENTED, Verdict
from nsrun.spec.load import require_all_valid
from nsrun.spec.model import (
    ConfigMap,
    Container,
    EphemeralContainer,
    PersistentVolume,
    PersistentVolumeClaim,
    PersistentVolumeClaimStatus,
    PersistentVolumeStatus,
    Secret,
)
from nsrun.spec.support_objects import unsupported_object
from nsrun.spec.update_objects import inherit, judge_object, same_object
from nsrun.state.objects import CLUSTER_KINDS, KINDS, Stored
from nsrun.status.times import rfc3339
from nsrun.waiting import CONFIG_ERROR

if TYPE_CHECKING:
    from nsrun.server.control import Method, Request
    from nsrun.server.engine import PodEngine
    from nsrun.server.pods import Registry
    from nsrun.server.world import World

RESOURCES = {
    "ConfigMap": "configmaps",
    "Secret": "secrets",
    "PersistentVolumeClaim": "persistentvolumeclaims",
    "PersistentVolume": "persistentvolumes",
}
"""What the API server calls several of a kind."""
SHORT = {"cm": "ConfigMap", "pvc": "PersistentVolumeClaim", "pv": "PersistentVolume"}
KEPT = "ConfigMaps, Secrets, PersistentVolumeClaims and PersistentVolumes"
DEFAULT_NAMESPACE = "default"

_LOG = logging.getLogger("nsrun.objects")


@dataclass(slots=True)
class Wanted:
    """One object of a request, judged against the one that is there."""

    obj: Stored
    raw: Any = field(repr=False)
    where: str
    verdict: str = "created"
    warnings: list[str] = field(default_factory=list)

    @property
    def key(self) -> tuple[str, str, str]:
        """Kind, namespace and name."""
        return self.obj.kind, space_of(self.obj.kind, self.obj.metadata.namespace), self.obj.metadata.name or ""

    def result(self) -> dict[str, Any]:
        """What the client is told of it."""
        kind, namespace, name = self.key
        return {
            "kind": kind,
            "namespace": namespace,
            "name": name,
            "verdict": self.verdict,
            "warnings": self.warnings,
        }


def space_of(kind: str, namespace: str | None) -> str:
    """The namespace that an object of this kind is kept in; "" for those that are in none."""
    return "" if kind in CLUSTER_KINDS else namespace or DEFAULT_NAMESPACE


def wanted_of(world: World, verdict: Verdict, namespace: str | None, *, ignore: bool = False) -> Wanted | None:
    """The object of a valid verdict, if it is of a kind that is kept.

    Raises:
        SpecError: it has no name of its own.
        UnsupportedError: it asks for what nsrun cannot do, and `ignore` is not set.
        UsageError: the request says another namespace than the manifest.
    """
    obj = verdict.object
    if not isinstance(obj, ConfigMap | Secret | PersistentVolumeClaim | PersistentVolume):
        return None
    if obj.kind not in CLUSTER_KINDS:
        obj.metadata.namespace = namespace_of(verdict, namespace)
    # What a manifest says of the status is what somebody else once saw.
    if isinstance(obj, PersistentVolumeClaim):
        obj.status = PersistentVolumeClaimStatus(phase="Pending")
    elif isinstance(obj, PersistentVolume):
        obj.status = PersistentVolumeStatus(phase="Pending")
    if not obj.metadata.name:
        raise SpecError(
            f"{verdict.where()}: from {obj.metadata.generateName}: cannot use generate name with apply",
            resolution="Give it a name: whoever refers to it has to know that.",
        )
    wanted = Wanted(obj, verdict.raw, verdict.where())
    for one in unsupported_object(obj, world.node_labels()):
        line = f"{verdict.where(one.path)}: {one.path}: {one.message}"
        if one.kind == NOT_IMPLEMENTED and not ignore:
            raise UnsupportedError(
                f'{verdict.where()}: {obj.kind} "{obj.metadata.name}" asks for something that nsrun does not implement yet',
                details=line,
                resolution="Leave it out.",
            )
        wanted.warnings.append(line)
    return wanted


def compare(world: World, wanted: Iterable[Wanted]) -> None:
    """Set each object's verdict; nothing is touched yet.

    Raises:
        SpecError: one cannot become what is asked for, in the API server's words, or is there twice.
        InternalError: what is there cannot be read.
    """
    seen: dict[tuple[str, str, str], Wanted] = {}
    for one in wanted:
        other = seen.setdefault(one.key, one)
        if other is not one:
            raise SpecError(
                f'{one.where}: {one.obj.kind.lower()} "{one.key[2]}" is there twice, first at {other.where}',
                resolution="Give one of them another name or namespace.",
            )
        _judge(world, one)


def _judge(world: World, one: Wanted) -> None:
    old = world.objects.get(*one.key)
    if old is None:
        one.verdict = "created"
        return
    inherit(old, one.obj, one.raw)
    grows = isinstance(old, PersistentVolumeClaim) and world.claims.grows(old)
    errors = judge_object(old, one.obj, grows=grows)
    if errors:
        raise SpecError(
            f'{one.where}: The {one.obj.kind} "{one.key[2]}" is invalid',
            details="\n".join(map(str, errors)),
            resolution=f"Remove the one that is there first: nsrun object rm {one.obj.kind.lower()} {one.key[2]}",
        )
    one.verdict = "unchanged" if same_object(old, one.obj) else "configured"


def put(world: World, wanted: Iterable[Wanted]) -> None:
    """Keep the objects that are new or other ones; whoever waits for them is told.

    Raises:
        ConflictError: its namespace is being removed; those before it are kept.
        StepError: a full disk or the like; those before it are kept.
    """
    for one in wanted:
        if one.verdict != "unchanged":
            _put(world, one)


async def put_in_turns(world: World, wanted: Iterable[Wanted]) -> None:
    """As `put`, letting everybody else have their turn between two objects: each waits for the disk.

    Raises:
        SpecError: somebody has meanwhile made of one what this cannot follow on; those before it are kept.
        ConflictError, StepError: as `put`.
    """
    for one in wanted:
        if one.verdict != "unchanged":
            _judge(world, one)
            _put(world, one)
            await asyncio.sleep(0)


def _put(world: World, one: Wanted) -> None:
    asked = one.obj.metadata
    if asked.namespace:
        world.namespaces.seen(asked.namespace)
    old = world.objects.get(*one.key)
    metadata = msgspec.structs.replace(
        asked,
        uid=str(uuid.uuid4()) if old is None else old.metadata.uid,
        creationTimestamp=rfc3339(world.clock.now()) if old is None else old.metadata.creationTimestamp,
        resourceVersion=world.hub.next_version(),
        generateName=None,
        generation=None,
        deletionTimestamp=None,
        deletionGracePeriodSeconds=None,
        selfLink=None,
        ownerReferences=[] if old is None else old.metadata.ownerReferences,
        finalizers=[],
        managedFields=[],
    )
    world.objects.put(msgspec.structs.replace(one.obj, metadata=metadata))
    _LOG.info("%s %s/%s %s", *one.key, one.verdict)


class Waiters:
    """What waits for objects or is made of them: containers and volumes, brought up to date at once when one is another.

    Args:
        world: what all pods share.
        pods: all pods.
    """

    def __init__(self, world: World, pods: Registry) -> None:
        self._world = world
        self._pods = pods
        world.objects.subscribe(self._changed)

    def _changed(self, kind: str, namespace: str, name: str) -> None:
        if kind not in KINDS:
            return
        reference = Reference(kind, name)
        there = self._world.objects.get(kind, namespace, name) is not None
        for engine in self._pods:
            if engine.namespace == namespace:
                engine.volumes.object_changed(reference)
                if there:
                    _retry(engine, reference)

    def begin(self) -> None:
        """Have everybody tried again: an earlier server may have died between an object's coming and saying so.

        (What volumes hold is compared with the objects by every server once.)
        """
        for engine in self._pods:
            engine.volumes.retry_now()
            _retry(engine, None)


def _retry(engine: PodEngine, reference: Reference | None) -> None:
    """Make the containers due that wait for their configuration and refer to an object (any, for None)."""
    spec = engine.pod.spec
    everyone: list[Container | EphemeralContainer] = [*spec.initContainers, *spec.containers, *spec.ephemeralContainers]
    for container in everyone:
        known = engine.ledger.containers.get(container.name)
        waiting = None if known is None else known.waiting
        if known is None or waiting is None or waiting.reason != CONFIG_ERROR:
            continue
        wanted = references(container)
        if reference in wanted or (reference is None and wanted):
            now = engine.world.clock.now()
            engine.ledger.containers[container.name] = replace(
                known, waiting=replace(waiting, retry_at=now, delay_s=0.0)
            )
            engine.touch()
            engine.wake()


# the methods


class ObjectMethods:
    """The methods of the protocol that are about objects.

    Args:
        world: what all pods share.
    """

    def __init__(self, world: World) -> None:
        self._world = world

    def methods(self) -> dict[str, Method]:
        """By their names in the protocol."""
        return {"object.apply": self._apply, "object.get": self._get, "object.rm": self._rm}

    async def _apply(self, request: Request) -> object:
        namespace = request.text_or_none("namespace")
        wanted, warnings = [], []
        # Many objects take a while to read; meanwhile others are answered.
        verdicts = await asyncio.to_thread(verdicts_of, request)
        require_all_valid(verdicts)
        for verdict in verdicts:
            one = wanted_of(self._world, verdict, namespace)
            if one is not None:
                wanted.append(one)
            elif verdict.kind == "Pod":
                warnings.append(f'{verdict.where()}: pod "{verdict.name}" is left as it is: nsrun pod up brings it up')
            else:
                raise _stranger(verdict)
        if not wanted:
            raise SpecError(
                f"there is none of {KEPT} in what was given",
                resolution="Pods are brought up by: nsrun pod up",
            )
        compare(self._world, wanted)
        await put_in_turns(self._world, wanted)
        return {"objects": [one.result() for one in wanted], "warnings": warnings}

    async def _get(self, request: Request) -> object:
        kinds = [_kind(word) for word in request.texts("kinds")] or list(KINDS)
        names, namespace = request.texts("names"), request.text_or_none("namespace")
        store = self._world.objects
        if names:
            found = []
            for kind in kinds:
                for name in names:
                    one = store.get(kind, space_of(kind, namespace), name)
                    if one is None:
                        raise _not_found(kind, space_of(kind, namespace), name)
                    found.append(one)
        else:
            found = [one for kind in kinds for one in store.all_of(kind, namespace)]
        return {"objects": [msgspec.to_builtins(one) for one in found]}

    async def _rm(self, request: Request) -> object:
        namespace = request.text_or_none("namespace")
        keys: list[tuple[str, str, str]] = []
        if request.params.get("documents") is not None:
            for verdict in verdicts_of(request):
                if verdict.document.error is not None:
                    raise verdict.document.error
                if verdict.kind in KINDS and verdict.name:
                    space = namespace if verdict.kind in CLUSTER_KINDS else namespace_of(verdict, namespace)
                    keys.append((verdict.kind, space_of(verdict.kind, space), verdict.name))
            if not keys:
                raise SpecError(f"there is none of {KEPT} in what was given")
        kinds, names = [_kind(word) for word in request.texts("kinds")], request.texts("names")
        space = namespace or DEFAULT_NAMESPACE
        if request.flag("all"):
            where = None if request.flag("all_namespaces") else space
            found = [one for kind in kinds or KINDS for one in self._world.objects.all_of(kind, where)]
            keys += [(one.kind, space_of(one.kind, one.metadata.namespace), one.metadata.name or "") for one in found]
        keys += [(kind, space_of(kind, space), name) for kind in kinds for name in names]
        if not keys and not request.flag("all"):
            raise UsageError("object.rm: no object was named")
        missing_ok = request.flag("missing_ok")
        if not missing_ok:
            for key in keys:
                if self._world.objects.get(*key) is None:
                    raise _not_found(*key)
        # Claims before volumes: one may be bound to the other.
        keys = sorted(dict.fromkeys(keys), key=lambda key: list(KINDS).index(key[0]))
        refuse_removal(self._world, keys)
        gone = [key for key in keys if self._world.objects.delete(*key)]
        for key in gone:
            _LOG.info("%s %s/%s deleted", *key)
        return {"objects": [dict(zip(("kind", "namespace", "name"), key, strict=True)) for key in gone]}


def _kind(word: str) -> str:
    """The kind that a word names, as kubectl takes it: `configmap`, `configmaps`, `cm`, `secret`, `pvc`, ...

    Raises:
        UsageError: no such kind is kept.
    """
    small = word.lower()
    if small in SHORT:
        return SHORT[small]
    for kind, resource in RESOURCES.items():
        if small in (kind.lower(), resource):
            return kind
    raise UsageError(
        f'the server doesn\'t have a resource type "{word}"', resolution=f"There is: {', '.join(RESOURCES.values())}"
    )


def _not_found(kind: str, namespace: str, name: str) -> NotFoundError:
    return NotFoundError(
        f'{RESOURCES[kind]} "{name}" not found',
        details=f"Looked for in namespace {namespace}." if namespace else None,
        resolution=f"nsrun object get {RESOURCES[kind]} -A lists all there are.",
    )


def _stranger(verdict: Verdict) -> UnsupportedError:
    return UnsupportedError(
        f"{verdict.where()}: nsrun does not keep {verdict.kind or 'this document'}"
        + (f" {verdict.name!r}" if verdict.name else ""),
        details=f"{KEPT} can be kept.",
        resolution="Leave the other objects out.",
    )
