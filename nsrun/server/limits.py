"""Limits of containers that run already, after the pod was given others (in-place resize)."""

from __future__ import annotations

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
"""After this long it is tried again to write down how far a resize got."""

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
        self._told: tuple[object, str] = (None, "")
        self.refused: tuple[str, str] | None = None

    @property
    def state(self) -> ResizeState | None:
        """What is to be told of a resize that is not carried out."""
        resize = self._engine.wish.resize
        if resize is None or self._engine.finished:
            return None
        if resize.accepted:
            return ResizeState(in_progress=True, error=self._error, actual=resize.before)
        if self.refused is None:
            self._judge()
        reason, message = self.refused or ("", "")
        return ResizeState(reason, message) if reason else ResizeState(in_progress=True)

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

    def sync(self) -> None:
        """Write the limits if the definition is another one than last time; also the first time, for a server that took over."""
        engine = self._engine
        try:
            self._sync()
        except StepError as error:
            # A full disk: the pod is looked after all the same.
            _LOG.warning("pod %s: %s", engine.label, error)
            engine.world.clock.call_at(engine.world.clock.now() + AGAIN_S, engine.wake)

    def _sync(self) -> None:
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
                    self._failed(error)
                    return
            self._done, self._error = engine.pod, ""
        resize = engine.wish.resize
        if resize is not None and resize.accepted and not self._restarting():
            changes.end_resize(engine)
            engine.note(NORMAL, RESIZE_COMPLETED, summary("Pod resize completed", engine.desired))
            engine.world.room_made()

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
        """The pod's cgroup may never have less than one of its containers: it is opened, they get theirs, then it gets its own."""
        engine, node = self._engine, self._engine.world.node
        cgroups, uid = engine.world.cgroups, engine.uid
        running = [one for one in engine.mirror.records.values() if one.alive]
        wanted = {one.id: _resized(container_limits(engine.pod, engine.container(one.name), node)) for one in running}
        cgroups.check_memory(uid, None, limits)
        for instance_id, own in wanted.items():
            cgroups.check_memory(uid, instance_id, own)
        cgroups.limit_pod(uid, replace(limits, quota_us=0, memory=0))
        for instance_id, own in wanted.items():
            cgroups.limit_container(uid, instance_id, own)
        cgroups.limit_pod(uid, limits)


def _resized(limits: Limits) -> Limits:
    """What may change while a pod runs; all else is as when its cgroup was made, whatever the configuration says by now.

    (kubernetes pkg/kubelet/cm/pod_container_manager_linux.go, EnsureExists.)
    """
    return replace(limits, controllers=tuple(name for name in limits.controllers if name in (CPU, MEMORY)))
