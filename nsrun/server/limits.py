"""Limits of containers that run already, after the pod was given others (in-place resize)."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING

from nsrun.errors import NsrunError
from nsrun.plan import container_limits, pod_limits
from nsrun.status.events import RESIZE_ERROR, WARNING

if TYPE_CHECKING:
    from nsrun.server.engine import PodEngine

_LOG = logging.getLogger("nsrun.limits")


class Resizer:
    """Keeps the cgroups of a pod as its definition wants them. Looks once at each definition, and again after a failure."""

    def __init__(self, engine: PodEngine) -> None:
        self._engine = engine
        self._done: object = None
        self._told = ""

    def sync(self) -> None:
        """Write the limits if the definition is another one than last time; also the first time, for a server that took over."""
        engine = self._engine
        if self._done is engine.pod:
            return
        limits = pod_limits(engine.pod, engine.world.node)
        if limits.controllers:
            try:
                self._write()
            except NsrunError as error:
                _LOG.warning("pod %s: %s", engine.label, error)
                if error.brief != self._told:
                    engine.note(WARNING, RESIZE_ERROR, error.brief)
                self._told = error.brief
                return
        self._done, self._told = engine.pod, ""

    def _write(self) -> None:
        """The pod's cgroup may never have less than one of its containers: it is opened, they get theirs, then it gets its own."""
        engine = self._engine
        cgroups, uid, limits = engine.world.cgroups, engine.uid, pod_limits(engine.pod, engine.world.node)
        running = [one for one in engine.mirror.records.values() if one.alive]
        wanted = {
            one.id: container_limits(engine.pod, engine.container(one.name), engine.world.node) for one in running
        }
        cgroups.check_memory(uid, None, limits)
        for instance_id, own in wanted.items():
            cgroups.check_memory(uid, instance_id, own)
        cgroups.limit_pod(uid, replace(limits, quota_us=0, memory=0))
        for instance_id, own in wanted.items():
            cgroups.limit_container(uid, instance_id, own)
        cgroups.limit_pod(uid, limits)
