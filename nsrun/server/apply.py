"""pod.up: manifests to pods. Everything is judged before anything is begun.

A pod that is there is changed in place as far as Kubernetes lets a pod change, and else stays unless it is to be replaced.
"""

from __future__ import annotations

import asyncio
import re
import secrets
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec

from nsrun.errors import ConflictError, NsrunError, SpecError, TimedOutError, UnsupportedError, UsageError
from nsrun.server import changes, objects, wait
from nsrun.server.manifest import namespace_of, verdicts_of
from nsrun.server.objects import Wanted, wanted_of
from nsrun.server.trace import mark
from nsrun.spec import NOT_IMPLEMENTED, Pod, Verdict, unsupported
from nsrun.spec.load import require_all_valid
from nsrun.spec.model import PodStatus
from nsrun.spec.update import Update, inherit, judge_update
from nsrun.state.ledger import Wish
from nsrun.state.objects import KINDS
from nsrun.status.times import rfc3339

if TYPE_CHECKING:
    from nsrun.server.control import Request
    from nsrun.server.engine import PodEngine
    from nsrun.server.pods import Registry
    from nsrun.server.world import World

NAME_TRIES = 32
STARTING_S = 10.0
"""How long a change waits for starts that are under way; they take milliseconds."""
SLOWEST, FASTEST = 0.01, 10_000.0
"""Bounds of a time scale: beyond them a probe would be sent all the time, or never."""
_SUFFIX = "bcdfghjklmnpqrstvwxz2456789"
"""Letters of generated names (apimachinery pkg/util/rand): no vowels, no digits that look like letters."""


@dataclass(slots=True)
class Job:
    """One pod of a request."""

    pod: Pod
    raw: Any
    where: str
    warnings: list[str] = field(default_factory=list)
    verdict: str = "created"
    judged: Update = field(default_factory=Update)
    options: dict[str, Any] = field(default_factory=dict)
    """Of the wish, as far as the request names them."""
    renewed: dict[str, int] = field(default_factory=dict)
    """Number of the instance to come, of the containers that are started again."""
    engine: PodEngine | None = None

    @property
    def key(self) -> tuple[str, str]:
        """Namespace and name."""
        return self.pod.metadata.namespace or "default", self.pod.metadata.name or ""

    @property
    def label(self) -> str:
        """`namespace/name`; of a pod whose name is generated, once it has one."""
        return "/".join(self.key) if self.engine is None else self.engine.label

    def result(self) -> dict[str, Any]:
        """What the client is told of it."""
        assert self.engine is not None
        return {
            "name": self.engine.name,
            "namespace": self.engine.namespace,
            "uid": self.engine.uid,
            "verdict": self.verdict,
            "changes": list(self.judged.paths),
            "warnings": self.warnings,
            "phase": self.engine.phase,
        }


async def up(world: World, registry: Registry, request: Request) -> object:
    """Apply manifests and wait as asked.

    Raises:
        SpecError, UnsupportedError: nothing was begun.
        ConflictError: a pod is there and differs, or is being taken down; nothing was begun.
        PodFailedError, TimedOutError: the pods are there, but do not get to what was waited for.
    """
    mark("-", "request pod.up")
    replace, waiting = request.flag("replace"), request.text("wait", "none")
    if waiting not in ("none", "running", "ready"):
        raise UsageError(f"pod.up: wait must be none, running or ready, and it is {waiting!r}")
    timeout_s = request.number_or_none("timeout_s")
    deadline = None if timeout_s is None else asyncio.get_running_loop().time() + timeout_s
    options = _options(request)
    jobs, beside = _jobs(world, request, ignore=request.flag("ignore_unsupported"))
    for job in jobs:
        job.options = options
    mark("-", "judged")
    _compare(registry, jobs, replace=replace)
    objects.compare(world, beside)
    for one in beside:
        for warning in one.warnings:
            jobs[0].warnings.append(warning)
    for job in jobs:
        for warning in job.warnings:
            request.event({"pod": job.label, "kind": "warning", "text": warning})
    # Before the pods that refer to them: they are not to wait for what is in the same file.
    objects.put(world, beside)
    await _update(registry, jobs, replace=replace)
    await _replace_old(registry, jobs, request)
    _create(world, registry, jobs)
    for job in jobs:
        request.event({"pod": job.label, "kind": "pod", "text": job.verdict})
    if waiting != "none":
        request.cancellable = True
        for job in jobs:
            left = None if deadline is None else max(deadline - asyncio.get_running_loop().time(), 0.0)
            await _wait(world, job, request, ready=waiting == "ready", timeout_s=left)
    mark("-", "answer pod.up")
    return {"pods": [job.result() for job in jobs], "objects": [one.result() for one in beside]}


def _options(request: Request) -> dict[str, Any]:
    """The options of wishes that the request names.

    Raises:
        UsageError: one of them is no such value.
    """
    scale = request.number_or_none("time_scale")
    if scale is None:
        return {}
    if not SLOWEST <= scale <= FASTEST:
        raise UsageError(
            f"the time scale must be a number from {SLOWEST:g} to {FASTEST:g}, and it is {scale:g}",
            details="Back-off delays and probe periods are divided by it; 1 is real time.",
        )
    return {"timeScale": float(scale)}


def names_in(request: Request, namespace: str | None) -> list[tuple[str, str]]:
    """(namespace, name) of every pod in the manifests of a request.

    Raises:
        SpecError: a manifest cannot be read, or has a pod without a name.
    """
    keys = []
    for verdict in verdicts_of(request):
        if verdict.verdict == "other" or verdict.kind in KINDS:
            continue
        if verdict.document.error is not None:
            raise verdict.document.error
        if not verdict.name:
            raise SpecError(
                f"{verdict.where()}: the pod has no name, so it cannot be told which one is meant",
                resolution="Name it on the command line: nsrun pod down NAME",
            )
        keys.append((namespace_of(verdict, namespace), verdict.name))
    return keys


def _jobs(world: World, request: Request, *, ignore: bool) -> tuple[list[Job], list[Wanted]]:
    """The pods of the request, and the objects beside them, judged.

    Raises:
        SpecError: something is not valid, or there is no pod at all.
        UnsupportedError: a pod wants what nsrun cannot do, and `ignore` is not set.
    """
    namespace = request.text_or_none("namespace")
    jobs: list[Job] = []
    beside: list[Wanted] = []
    strangers: list[Verdict] = []
    verdicts = verdicts_of(request)
    require_all_valid(verdicts)
    for verdict in verdicts:
        if verdict.verdict == "other":
            strangers.append(verdict)
            continue
        found = verdict.require_valid()
        if isinstance(found, Pod):
            jobs.append(_judged(world, found, verdict, namespace, ignore=ignore))
        elif (one := wanted_of(world, verdict, namespace, ignore=ignore)) is not None:
            beside.append(one)
        else:
            strangers.append(verdict)
    if strangers and (not jobs or not ignore):
        first = strangers[0]
        raise UnsupportedError(
            f"{first.where()}: nsrun cannot run {first.kind or 'this document'}"
            + (f" {first.name!r}" if first.name else "")
            + (f", nor {len(strangers) - 1} other documents that are not pods" if len(strangers) > 1 else ""),
            details="nsrun runs Pods.",
            resolution="Leave the other objects out"
            + (", or pass --ignore-unsupported to run the pods beside them." if jobs else "."),
        )
    if not jobs:
        raise SpecError(
            "there is no pod in what was given",
            resolution="Objects without a pod are kept by: nsrun object apply FILE"
            if beside
            else "A manifest has `kind: Pod`; see examples/.",
        )
    for stranger in strangers:
        jobs[0].warnings.append(f"{stranger.where()}: {stranger.kind} {stranger.name!r} is ignored")
    keys: dict[tuple[str, str], Job] = {}
    for job in jobs:
        if job.pod.metadata.name and (other := keys.setdefault(job.key, job)) is not job:
            raise SpecError(
                f"{job.where}: pod {job.label!r} is there twice, first at {other.where}",
                resolution="Give one of them another name or namespace.",
            )
    return jobs, beside


def _judged(world: World, pod: Pod, verdict: Verdict, namespace: str | None, *, ignore: bool) -> Job:
    pod.metadata.namespace = namespace_of(verdict, namespace)
    job = Job(pod, verdict.raw, verdict.where())
    refused = []
    known = _of_class(world, pod)
    for one in unsupported(pod):
        if one.path in known:
            continue
        line = f"{verdict.where(one.path)}: {one.path}: {one.message}"
        if one.kind == NOT_IMPLEMENTED and not ignore:
            refused.append(line)
        else:
            job.warnings.append(line)
    if refused:
        raise UnsupportedError(
            f"{verdict.where()}: pod {job.label!r} asks for {_count(refused)} that nsrun does not implement yet",
            details="\n".join(refused),
            resolution="Leave it out, or pass --ignore-unsupported to run the pod without it.",
        )
    return job


def _of_class(world: World, pod: Pod) -> tuple[str, ...]:
    """Fill in what a pod has of its RuntimeClass, if that is kept; the fields that mean something then.

    Raises:
        StatusError: pod and class differ.
    """
    name = pod.spec.runtimeClassName
    found = world.objects.get("RuntimeClass", "", name) if name else None
    if found is None:
        return ()
    from nsrun.spec.admitted import runtime_class

    runtime_class(pod, found)
    return ("spec.runtimeClassName", "spec.overhead")


def _count(refused: list[str]) -> str:
    return "something" if len(refused) == 1 else f"{len(refused)} things"


def _compare(registry: Registry, jobs: list[Job], *, replace: bool) -> None:
    """Set each job's verdict; nothing is touched yet.

    Raises:
        ConflictError: a pod is there that cannot become what is asked for or is on its way out, and it is not to be replaced.
    """
    for job in jobs:
        job.engine = engine = registry.get(*job.key) if job.pod.metadata.name else None
        job.verdict, job.judged = "created", Update()
        if engine is None:
            continue
        if engine.static is not None:
            raise ConflictError(
                f'pod "{job.label}" runs from {engine.static}, and what is asked for of it stands there',
                resolution="Change that file, and the pod is exchanged; remove it, and the name is free.",
            )
        if engine.deleting:
            if not replace:
                raise ConflictError(
                    f'pod "{job.label}" is being taken down',
                    resolution=f"Wait until it is gone (nsrun pod wait {engine.name} --for=delete), or pass --replace.",
                )
            job.verdict = "replaced"
            continue
        asked = engine.asked_for()
        inherit(asked, job.pod, job.raw)
        job.judged = judge_update(asked, job.pod)
        if not job.judged.paths:
            same = all(engine.wish.options.get(name) == job.options[name] for name in job.options)
            job.verdict = "unchanged" if same else "configured"
        elif not job.judged.errors:
            job.verdict = "configured"
        elif replace:
            job.verdict = "replaced"
        else:
            raise ConflictError(
                f'pod "{job.label}" is already there, and cannot be changed into what the manifest asks for',
                details=_objections(job.judged),
                resolution="Pass --replace to take it down and bring the new one up.",
            )


def _objections(judged: Update) -> str:
    """What the API server says, and where the pods differ: it shows the whole of both there."""
    lines = [str(error) for error in judged.errors]
    if judged.fixed:
        lines.append(f"Cannot be changed in place: {', '.join(judged.fixed)}")
    others = [path for path in judged.paths if path not in judged.fixed]
    if others:
        lines.append(f"Changed as well: {', '.join(others)}" if judged.fixed else f"Changed: {', '.join(others)}")
    return "\n".join(lines)


async def _update(registry: Registry, jobs: list[Job], *, replace: bool) -> None:
    """Change the pods that can be changed in place, all in one go: each is either as it was or as it is asked to be.

    Raises:
        ConflictError: somebody else was faster, and what is there now cannot become what is asked for; nothing was changed.
        TimedOutError: a shim does not answer; nothing was changed.
        StepError: a full disk or the like; the pods before it are changed.
    """
    for job in jobs:
        if job.verdict == "configured" and job.engine is not None and not await job.engine.starting.none(STARTING_S):
            raise TimedOutError(
                f'pod "{job.label}" cannot be changed: a container of it has been starting for {STARTING_S:g} s',
                resolution=f"Try again, or look at it: nsrun pod describe {job.engine.name}",
            )
    _compare(registry, jobs, replace=replace)
    for job in jobs:
        if job.verdict == "configured" and job.engine is not None:
            inits = {one.name for one in job.pod.spec.initContainers if one.restartPolicy != "Always"}
            before = {one.name: one for one in job.engine.mirror.instances() if one.alive and one.name not in inits}
            redefined = changes.update(job.engine, job.pod, job.judged, job.options)
            job.renewed = {name: before[name].attempt + 1 for name in redefined if name in before}


async def _replace_old(registry: Registry, jobs: list[Job], request: Request) -> None:
    """Take the pods down that are replaced; all at the same time."""
    old = [job.engine for job in jobs if job.verdict == "replaced" and job.engine is not None]
    for engine in old:
        request.event({"pod": engine.label, "kind": "pod", "text": "is being taken down, to be replaced"})
        changes.delete(engine)
    for engine in old:
        while not engine.gone:
            await engine.changed.wait()
    for job in jobs:
        if job.verdict == "replaced":
            job.engine = None
            if registry.get(*job.key) is not None:
                raise ConflictError(
                    f'pod "{job.label}" was brought up by somebody else while it was being replaced',
                    resolution="Look at it with nsrun pod inspect, then decide again.",
                )


def _create(world: World, registry: Registry, jobs: list[Job]) -> None:
    """Put the new pods on disk: all, or none."""
    made: list[PodEngine] = []
    try:
        for job in jobs:
            if job.engine is None:
                job.engine = registry.create(_wish(world, registry, job))
                made.append(job.engine)
    except NsrunError:
        for engine in made:
            changes.delete(engine, 0.0)
        raise


def _wish(world: World, registry: Registry, job: Job) -> Wish:
    """The pod as it is stored: with what the server adds, and without what only a server may say."""
    asked = job.pod
    metadata = msgspec.structs.replace(
        asked.metadata,
        name=asked.metadata.name or _generate(registry, job),
        uid=str(uuid.uuid4()),
        creationTimestamp=rfc3339(world.clock.now()),
        generation=1,
        resourceVersion=None,
        deletionTimestamp=None,
        deletionGracePeriodSeconds=None,
        selfLink=None,
    )
    spec = msgspec.structs.replace(asked.spec, nodeName=world.node.name)
    pod = msgspec.structs.replace(asked, metadata=metadata, spec=spec, status=PodStatus())
    return Wish(object=pod, options={"nodeName": asked.spec.nodeName, **job.options})


def _generate(registry: Registry, job: Job) -> str:
    prefix = (job.pod.metadata.generateName or "pod-")[:58]
    namespace = job.key[0]
    for _ in range(NAME_TRIES):
        name = prefix + "".join(secrets.choice(_SUFFIX) for _ in range(5))
        if registry.get(namespace, name) is None:
            return name
    raise ConflictError(f"{job.where}: no free name was found for generateName {prefix!r}")


def _about(event: dict[str, Any]) -> str:
    """What an event says, after the container that it is about where it does not name it."""
    name = str(event["involvedObject"].get("fieldPath", "")).partition("{")[2].removesuffix("}")
    message = str(event["message"])
    named = not name or re.search(rf"\bcontainer[ =]{name}(?![\w-])|^Container {name} (failed|definition)", message)
    return message if named else f"{name}: {message}"


async def _wait(world: World, job: Job, request: Request, *, ready: bool, timeout_s: float | None) -> None:
    """Wait for one pod, telling of each event on the way.

    Raises:
        PodFailedError, TimedOutError: see `wait.up` and `wait.until`.
    """
    engine = job.engine
    assert engine is not None

    def happened(event: dict[str, Any]) -> None:
        if event["involvedObject"]["uid"] == engine.uid:
            kind = "container" if event["involvedObject"].get("fieldPath") else "pod"
            if event["type"] == "Warning":
                kind = "warning"
            request.event({"pod": job.label, "kind": kind, "text": _about(event)})

    def is_up(engine: PodEngine) -> bool:
        begun = engine.ledger.containers
        return wait.up(engine, ready=ready) and all(begun[name].starts > job.renewed[name] for name in job.renewed)

    for _, event in engine.published.events() if job.verdict in ("created", "replaced") else ():
        happened(event)
    with world.hub.events(happened):
        await wait.until(engine, is_up, timeout_s, "ready" if ready else "running")
    request.event({"pod": job.label, "kind": "phase", "text": f"phase {engine.phase}"})
