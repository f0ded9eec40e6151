"""Limits of containers that run already, after the pod was given others (in-place resize)."""

from __future__ import annotations

import errno
import logging
from dataclasses import replace
from typing import TYPE_CHECKING

from nsrun.errors import NsrunError, StepError
from nsrun.plan import container_limits, pod_limits
from nsrun.plan.resources import CPU, MEMORY, Limits
from nsrun.reconcile.model import ResizeState
from nsrun.reconcile.resizing import INFEASIBLE, summary, verdict
from nsrun.server import changes
from nsrun.status.events import (
    NORMAL,
    RESIZE_COMPLETED,
    RESIZE_DEFERRED,
    RESIZE_ERROR,
    RESIZE_INFEASIBLE,
    RESIZE_STARTED,
    WARNING,
)

if TYPE_CHECKING:
    from nsrun.server.engine import PodEngine

AGAIN_S = 5.0
"""After this long limits that could not be written are written again, and how far a resize got is."""
SOON_S = 0.1
"""The same where the kernel may have refused for a reason that is gone by then."""

_LOG = logging.getLogger("nsrun.limits")


class Resizer:
    """Keeps the cgroups of a pod as its definition wants them. Looks once at each definition, and again after a failure.

    Attributes:
        refused: reason and message where the machine does not have what is asked for; None as long as nobody has looked, too.
    """

    def __init__(self, engine: PodEngine) -> None:
        self._engine = engine
        self._done: object = None
        self._error = ""
        self._refused_once: object = None
        self._told: tuple[object, str] = (None, "")
        self.refused: tuple[str, str] | None = None

    @property
    def state(self) -> ResizeState | None:
        """What is to be told of a resize that is not carried out."""
        resize = self._engine.wish.resize
        if resize is None or self._engine.finished:
            return None
        if not resize.accepted and self.refused is None:
            self._judge()
        reason, message = ("", "") if resize.accepted else self.refused or ("", "")
        under_way = bool(resize.actual) or not reason
        return ResizeState(reason, message, under_way, self._error if resize.actual else "", resize.actual)

    def tell(self) -> None:
        """Tell what becomes of the resize that was asked for; once of each."""
        engine, resize = self._engine, self._engine.wish.resize
        if resize is None:
            return
        reason, message = self.refused or ("", "")
        if resize.accepted:
            reason, message = "", ""
        pod, what = engine.desired, (engine.desired.metadata.generation, reason + message)
        if what == self._told:
            return
        self._told = what
        if not reason:
            engine.note(NORMAL, RESIZE_STARTED, summary("Pod resize started", pod))
            return
        event = RESIZE_INFEASIBLE if reason == INFEASIBLE else RESIZE_DEFERRED
        engine.note(WARNING, event, summary(f"Pod resize {reason}", pod, message))

    def sync(self, now: float) -> float | None:
        """Write the limits if the definition is another one than last time; also the first time, for a server that took over.

        Returns:
            When to try again, in seconds since the epoch; None when there is no need.
        """
        try:
            again_s = self._sync()
        except StepError as error:
            # A full disk: the pod is looked after all the same.
            _LOG.warning("pod %s: %s", self._engine.label, error)
            again_s = AGAIN_S
        return now + again_s if again_s else None

    def _sync(self) -> float:
        """Seconds until it is to be tried again; 0 when there is no need."""
        engine = self._engine
        resize = engine.wish.resize
        if resize is not None and not resize.accepted and not engine.deleting and not engine.finished:
            self._judge()
            if self.refused is None:
                changes.accept_resize(engine)
            self.tell()
        if self._done is not engine.pod and not engine.deleting:
            limits = _resized(pod_limits(engine.pod, engine.world.node))
            if limits.controllers:
                try:
                    self._write(limits)
                except NsrunError as error:
                    # The cgroup of an instance that was removed a moment ago counts until the kernel has let go of it (RCU).
                    if _invalid(error) and self._refused_once is not engine.pod:
                        self._refused_once = engine.pod
                        return SOON_S
                    self._failed(error)
                    return AGAIN_S
            self._done, self._error = engine.pod, ""
        resize = engine.wish.resize
        if resize is not None and resize.actual and not self._restarting():
            changes.end_resize(engine)
            engine.note(NORMAL, RESIZE_COMPLETED, summary("Pod resize completed", engine.pod))
            engine.world.room_made()
        return 0

    def _judge(self) -> None:
        engine = self._engine
        self.refused = verdict(engine.desired, engine.world.facts_for(engine.desired, engine.uid))

    def _restarting(self) -> bool:
        """Whether an instance of an older definition is still to be stopped."""
        changed = self._engine.wish.changed
        return any(one.alive and one.attempt < changed.get(one.name, 0) for one in self._engine.mirror.records.values())

    def _failed(self, error: NsrunError) -> None:
        engine = self._engine
        if error.brief == self._error:
            return
        _LOG.warning("pod %s: %s", engine.label, error)
        self._error = error.brief
        engine.note(WARNING, RESIZE_ERROR, summary("Pod resize error", engine.desired, error.brief))

    def _write(self, limits: Limits) -> None:
        """The pod's cgroup may never have less than one of its containers: it is opened, they get theirs, then it gets its own.

        That is so of an instance, too, that ended and whose cgroup is still there. Of memory version 1 asks for no such thing, and what
        it is still charged for might not fit.
        """
        engine, node = self._engine, self._engine.world.node
        cgroups, uid, records = engine.world.cgroups, engine.uid, engine.mirror.records.values()
        wanted = {one.id: _resized(container_limits(engine.pod, engine.container(one.name), node)) for one in records}
        cgroups.check_memory(uid, None, limits)
        for one in records:
            if one.alive:
                cgroups.check_memory(uid, one.id, wanted[one.id])
        cgroups.limit_pod(uid, replace(limits, quota_us=0, memory=0))
        for one in records:
            cgroups.limit_container(uid, one.id, wanted[one.id] if one.alive else _only((CPU,), wanted[one.id]))
        cgroups.limit_pod(uid, limits)


def _resized(limits: Limits) -> Limits:
    """What may change while a pod runs; all else is as when its cgroup was made, whatever the configuration says by now.

    (kubernetes pkg/kubelet/cm/pod_container_manager_linux.go, EnsureExists.)
    """
    return _only((CPU, MEMORY), limits)


def _invalid(error: NsrunError) -> bool:
    return isinstance(error, StepError) and error.number == errno.EINVAL


def _only(controllers: tuple[str, ...], limits: Limits) -> Limits:
    return replace(limits, controllers=tuple(name for name in limits.controllers if name in controllers))
