"""What users have done to a pod that there is: each is on disk when its function returns, and the pod's loop does the rest."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import msgspec

from nsrun.errors import ConflictError, StepError
from nsrun.reconcile import request_deletion
from nsrun.reconcile.ledger import request_restart
from nsrun.reconcile.resizing import accept, begin, carried_out, verdict
from nsrun.reconcile.termination import grace_of
from nsrun.server.observing import observe
from nsrun.spec.update import redefined_by_amounts, updated
from nsrun.state.ledger import write_deletion, write_wish
from nsrun.status.conditions import OWN, foreign, with_condition
from nsrun.status.deletion import marked_deleted
from nsrun.status.events import NORMAL, SCHEDULED
from nsrun.status.foreign import with_conditions

if TYPE_CHECKING:
    from nsrun.reconcile.model import Deletion
    from nsrun.server.engine import PodEngine
    from nsrun.spec.model import Pod, PodCondition
    from nsrun.spec.update import Update
    from nsrun.state.ledger import Wish

_LOG = logging.getLogger("nsrun.changes")


def delete(engine: PodEngine, grace_s: float | None = None) -> None:
    """Have the pod taken down. A shorter grace period than before shortens it; None is the pod's own.

    Raises:
        StepError: it could not be written down; then nothing happens to the pod.
    """
    now = engine.world.clock.now()
    deletion = request_deletion(engine.wish.deletion, now, grace_of(engine.pod) if grace_s is None else grace_s)
    if deletion == engine.wish.deletion:
        return
    wish = msgspec.structs.replace(engine.wish, object=to_be_deleted(engine, deletion), deletion=deletion)
    try:
        write_deletion(engine.paths, wish)
    except FileNotFoundError:
        # Somebody removed the pod's directory: what is on disk says already that there is no such pod.
        _LOG.warning("pod %s: %s was removed", engine.label, engine.paths.directory)
    except OSError as error:
        raise StepError(
            "write", str(engine.paths.wish), error.errno or 0, what=f'pod "{engine.label}" cannot be taken down'
        ) from error
    engine.hold(wish)
    engine.last_resort.expect()
    engine.wake()


def to_be_deleted(engine: PodEngine, deletion: Deletion) -> Pod:
    """The pod as it is asked for once it is to go: another generation (apiserver pkg/registry/rest/delete.go)."""
    pod = marked_deleted(engine.desired, deletion)
    if engine.wish.deletion is None:
        pod.metadata.generation = (pod.metadata.generation or 1) + 1
    return pod


def set_conditions(
    engine: PodEngine, wanted: Mapping[str, str | None], reason: str | None, message: str | None
) -> None:
    """Set conditions that somebody else than nsrun decides about; published too when this returns.

    Args:
        engine: the pod.
        wanted: status by type; None takes a condition away.
        reason: of all of them.
        message: of all of them.

    Raises:
        StepError: they are published, but could not be written down yet.
    """
    now = engine.world.clock.now()
    previous = with_conditions(engine.ledger.status, wanted, reason, message, now)
    engine.published.publish(observe(engine, now), now, previous)
    engine.save()


def set_foreign(engine: PodEngine, conditions: Iterable[PodCondition]) -> None:
    """Have the conditions that nsrun does not decide about be these; its own among them are left out. Published when this returns.

    Raises:
        StepError: they are published, but could not be written down yet.
    """
    now = engine.world.clock.now()
    wanted = {one.type: one for one in conditions if one.type not in OWN}
    status = engine.ledger.status
    if list(wanted.values()) == foreign(status.conditions):
        return
    kept = [one for one in status.conditions if one.type in OWN or one.type in wanted]
    status = msgspec.structs.replace(status, conditions=kept)
    for one in reversed(wanted.values()):
        status = with_condition(status, one, now)
    engine.published.publish(observe(engine, now), now, status)
    engine.save()


def update(
    engine: PodEngine, pod: Pod, judged: Update, options: dict[str, Any], *, whole: bool = False
) -> tuple[str, ...]:
    """Make the pod another one, as far as that is possible in place; published too when this returns.

    Amounts that the machine does not have, or not now, are asked for, and those from before stay in force.

    Nothing may be starting (`engine.starting.none`): an instance is made from the definition at the time of its start.

    Args:
        engine: the pod.
        pod: what is asked for; what nsrun adds to a pod stays as it is.
        judged: how that differs from the pod, without objections.
        options: those of the wish that are to be other ones.
        whole: `pod` has all of the metadata that clients may change, not only what a manifest says.

    Returns:
        The containers whose definition is another one.

    Raises:
        StepError: it could not be written down; then the pod is as it was.
    """
    now = engine.world.clock.now()
    new = updated(engine.desired, pod, of_spec=judged.of_spec, whole=whole)
    resize, redefined = begin(engine.pod, new, engine.wish.resize), judged.redefined
    asked = resize is not None and not resize.accepted
    if resize is not None and asked:
        engine.resizer.refused = verdict(new, engine.world.facts_for(new, engine.uid))
        if engine.resizer.refused is None:
            resize = accept(resize)
            redefined = tuple(dict.fromkeys((*redefined, *redefined_by_amounts(engine.pod, new))))
        else:
            redefined = judged.of_image
    wish = msgspec.structs.replace(
        engine.wish,
        object=new,
        changed=_begin_anew(engine, redefined, now),
        options=engine.wish.options | options,
        resize=resize,
    )
    _replace_wish(engine, wish, now)
    if asked:
        engine.resizer.tell()
    return redefined


def accept_resize(engine: PodEngine) -> None:
    """Have the amounts that are asked for in force: the machine has them now.

    Raises:
        StepError: it could not be written down; then the pod is as it was.
    """
    assert engine.wish.resize is not None
    now = engine.world.clock.now()
    changed = _begin_anew(engine, redefined_by_amounts(engine.pod, engine.desired), now)
    wish = msgspec.structs.replace(engine.wish, changed=changed, resize=accept(engine.wish.resize))
    _replace_wish(engine, wish, now)


def end_resize(engine: PodEngine) -> None:
    """The amounts that the containers are to have are given to them.

    Raises:
        StepError: it could not be written down; then the pod is as it was.
    """
    assert engine.wish.resize is not None
    wish = msgspec.structs.replace(engine.wish, resize=carried_out(engine.wish.resize))
    _replace_wish(engine, wish, engine.world.clock.now())


def _begin_anew(engine: PodEngine, names: Collection[str], now: float) -> dict[str, int]:
    """The numbers of the first instances of definitions, these containers having another one from now on."""
    changed = dict(engine.wish.changed)
    if names:
        observed = observe(engine, now)
        for name in names:
            known = observed.ledgers.get(name)
            if known is not None:
                changed[name] = known.starts
                # The back-off is of a definition (S-BACKOFF). Stored first: the wish alone decides whether this happened.
                engine.ledger.containers[name] = replace(known, backoff_s=0.0, waiting=None)
                engine.touch()
        engine.save()
    return changed


def extend(engine: PodEngine, pod: Pod) -> None:
    """Have the pod as `pod`, which has another ephemeral container; published too when this returns.

    Raises:
        StepError: it could not be written down; then the pod is as it was.
    """
    metadata = msgspec.structs.replace(engine.pod.metadata, generation=(engine.pod.metadata.generation or 1) + 1)
    pod = msgspec.structs.replace(pod, metadata=metadata)
    _replace_wish(engine, msgspec.structs.replace(engine.wish, object=pod), engine.world.clock.now())


def bind(engine: PodEngine) -> None:
    """Have a pod that waited for a node be on this one; published too when this returns.

    Raises:
        StepError: it could not be written down; then it waits on.
    """
    name = engine.world.node.name
    spec = msgspec.structs.replace(engine.wish.object.spec, nodeName=name)
    pod = msgspec.structs.replace(engine.wish.object, spec=spec)
    _replace_wish(engine, msgspec.structs.replace(engine.wish, object=pod), engine.world.clock.now())
    engine.note(NORMAL, SCHEDULED, f"Successfully assigned {engine.label} to {name}")


def _replace_wish(engine: PodEngine, wish: Wish, now: float) -> None:
    try:
        write_wish(engine.paths, wish)
    except OSError as error:
        raise StepError(
            "write", str(engine.paths.wish), error.errno or 0, what=f'pod "{engine.label}" could not be changed'
        ) from error
    engine.hold(wish)
    engine.published.publish(observe(engine, now), now)
    engine.wake()


def restart(engine: PodEngine, names: list[str], grace_s: float | None) -> None:
    """Have these containers stopped and started again.

    Raises:
        ConflictError: the pod is finished or being taken down.
        StepError: it could not be written down yet.
    """
    if engine.deleting or engine.finished:
        state = "being taken down" if engine.deleting else f"finished ({engine.phase})"
        raise ConflictError(
            f'pod "{engine.label}" is {state}; its containers are not started again',
            resolution="Run it anew: nsrun pod up --replace FILE",
        )
    now = engine.world.clock.now()
    observed = observe(engine, now)
    before = dict(engine.ledger.containers)
    for name in names:
        known = observed.ledgers.get(name)
        if known is not None:
            engine.ledger.containers[name] = request_restart(known, now, grace_s)
    engine.touch()
    try:
        engine.save()
    except StepError:
        # Who is told that it failed must not see it happen later.
        engine.ledger.containers = before
        raise
    engine.wake()
