"""The volumes of one pod: set up before its first sandbox, there for as long as the pod, taken away with it.

Nothing is remembered of them: what is there is seen on disk and in the mounts, whoever made it.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

from nsrun.errors import NsrunError, errno_text
from nsrun.plan import PlanError, Program, VolumeSource, is_projected, memory_size, volume_files, volume_sources
from nsrun.plan.volumes import in_memory
from nsrun.reconcile.model import Waiting
from nsrun.spec.model import Container, Pod, Volume
from nsrun.state.files import remove_tree
from nsrun.status.events import FAILED_MOUNT, WARNING
from nsrun.volumes import (
    VolumeError,
    check_host_path,
    check_propagation,
    make_directory,
    make_missing,
    make_sub_path,
    mount_memory,
    open_tree,
    remove_volumes,
    write_files,
)
from nsrun.volumes.atomic import DATA

if TYPE_CHECKING:
    from nsrun.server.engine import PodEngine

FIRST_RETRY_S = 0.5
LAST_RETRY_S = 122.0
"""A volume that cannot be set up is tried again after 0.5, 1, 2, ... s (Kubernetes pkg/util/goroutinemap/exponentialbackoff)."""

_LOG = logging.getLogger("nsrun.volumes")


class Volumes:
    """The volumes of `engine`'s pod."""

    def __init__(self, engine: PodEngine) -> None:
        self._engine = engine
        self._told: Pod | None = None
        """The pod that the volumes were last seen to tell of by this server."""

    def sources(self) -> Mapping[str, VolumeSource]:
        """Where they lie, by name."""
        engine = self._engine
        if not engine.pod.spec.volumes:
            return {}
        return volume_sources(engine.pod, str(engine.paths.disk_volumes), str(engine.paths.memory_volumes))

    async def set_up(self) -> bool:
        """Make what is not there yet; whether all of them are there now. If not, the ledger says when to try again."""
        engine = self._engine
        if not engine.pod.spec.volumes:
            return True
        failed = await asyncio.to_thread(self._set_up)
        ledger = engine.ledger
        before = ledger.sandbox_waiting
        if before is not None and before.reason != FAILED_MOUNT:
            before = None
        if not failed:
            if before is not None:
                ledger.sandbox_waiting = None
                engine.touch()
            return True
        delay_s = FIRST_RETRY_S if before is None else min(before.delay_s * 2, LAST_RETRY_S)
        texts = [f'MountVolume.SetUp failed for volume "{name}" : {text}' for name, text in failed.items()]
        for text in texts:
            engine.note(WARNING, FAILED_MOUNT, text)
        _LOG.info("pod %s: %s", engine.label, "; ".join(texts))
        again = engine.world.clock.now() + delay_s
        ledger.sandbox_waiting = Waiting(FAILED_MOUNT, "; ".join(texts), retry_at=again, delay_s=delay_s)
        engine.touch()
        return False

    def _set_up(self) -> dict[str, str]:
        """In a thread, for a path of the host may be on a slow disk: why what could not be set up, by name."""
        failed: dict[str, str] = {}
        for volume in self._engine.pod.spec.volumes:
            try:
                self._set_up_one(volume)
            except NsrunError as error:
                failed[volume.name] = error.brief
            except OSError as error:
                failed[volume.name] = f"{error.filename or 'set up'}: {errno_text(error.errno or 0)}"
        return failed

    def _set_up_one(self, volume: Volume) -> None:
        engine = self._engine
        context = engine.pod.spec.securityContext
        group = context.fsGroup if context is not None else None
        if volume.emptyDir is not None:
            if in_memory(volume.emptyDir):
                size = memory_size(engine.pod, volume.emptyDir, engine.world.node.memory)
                mount_memory(engine.paths.memory_volumes / volume.name, size, group)
            else:
                make_directory(engine.paths.disk_volumes / volume.name, group)
        elif volume.hostPath is not None:
            check_host_path(volume.hostPath.path, volume.hostPath.type or "")
        elif is_projected(volume):
            mount_memory(engine.paths.memory_volumes / volume.name, engine.world.node.memory, group)
            self._write(volume)

    def _write(self, volume: Volume) -> None:
        engine = self._engine
        context = engine.pod.spec.securityContext
        write_files(
            engine.paths.memory_volumes / volume.name,
            volume_files(engine.pod, volume, engine.world.node),
            engine.world.clock.now(),
            remove_tree,
            context.fsGroup if context is not None else None,
        )

    def refresh(self) -> None:
        """Have the volumes that tell of the pod tell what it is now. They are few and small, and in memory.

        Raises:
            NsrunError, OSError: they cannot be written; they are as they were, and it is tried again.
        """
        engine = self._engine
        if self._told is engine.pod or engine.deleting:
            return
        for volume in engine.pod.spec.volumes:
            # Before they were set up there is nothing to bring up to date.
            if is_projected(volume) and os.path.lexists(engine.paths.memory_volumes / volume.name / DATA):
                self._write(volume)
        self._told = engine.pod

    def begin(self, container: Container, program: Program) -> list[int]:
        """Make what an instance needs of them right before it is made.

        Args:
            container: of which it is one.
            program: its own.

        Returns:
            The descriptors of its slots of the kind `tree`, in order; the caller's to close.

        Raises:
            PlanError: CreateContainerConfigError, a part of a volume cannot be had; CreateContainerError, a mount cannot propagate.
            OSError: something cannot be made.
        """
        self._look(container)
        for part in program.sub_paths:
            try:
                make_sub_path(part.source, part.below)
            except OSError as error:
                # The event says no more than a kubelet's: it could tell a container about the machine.
                _LOG.warning("pod %s: subPath %s of %s: %s", self._engine.label, part.below, part.source, error)
                what = "prepare subPath" if error.errno in (errno.EXDEV, errno.ELOOP) else "create subPath directory"
                raise PlanError(
                    "CreateContainerConfigError",
                    f'failed to {what} for volumeMount "{part.mount}" of container "{container.name}"',
                ) from error
        with contextlib.ExitStack() as stack:
            trees = []
            for slot in (one for one in program.slots if one.kind == "tree"):
                trees.append(open_tree(slot.profile, slot.below))
                stack.callback(os.close, trees[-1])
            stack.pop_all()
        return trees

    def _look(self, container: Container) -> None:
        if not container.volumeMounts:
            return
        volumes = {volume.name: volume for volume in self._engine.pod.spec.volumes}
        sources = self.sources()
        for mount in container.volumeMounts:
            source, volume = sources.get(mount.name), volumes.get(mount.name)
            if source is None or volume is None:
                continue
            if volume.hostPath is not None and not volume.hostPath.type:
                make_missing(volume.hostPath.path)
            if mount.mountPropagation in ("HostToContainer", "Bidirectional"):
                try:
                    check_propagation(source.path, both_ways=mount.mountPropagation == "Bidirectional")
                except VolumeError as error:
                    raise PlanError(
                        "CreateContainerError", f"failed to generate spec: {error.brief}", resolution=error.resolution
                    ) from error

    async def tear_down(self) -> None:
        """Take all of them away. Nothing of the pod runs any more.

        Raises:
            OSError: something stays mounted in them, or cannot be removed; it can be tried again.
        """
        paths = self._engine.paths
        await asyncio.to_thread(remove_volumes, [paths.memory_volumes, paths.disk_volumes], remove_tree)
