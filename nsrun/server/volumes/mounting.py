"""What a single instance needs of its pod's volumes right before it is made."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
from collections.abc import Mapping

from nsrun.plan import PlanError, Program, VolumeSource
from nsrun.spec.model import Container, Pod
from nsrun.volumes import VolumeError, check_propagation, make_missing, make_sub_path, open_tree
from nsrun.waiting import CONFIG_ERROR, CREATE_CONTAINER_ERROR

_LOG = logging.getLogger("nsrun.volumes")


def begin(
    pod: Pod, sources: Mapping[str, VolumeSource], container: Container, program: Program, label: str
) -> list[int]:
    """Make what an instance needs of its volumes.

    Args:
        sources: where they lie, by name.
        container: of which it is an instance.
        program: its own.
        label: the pod's, for the log.

    Returns:
        The descriptors of its slots of the kind `tree`, in order; the caller's to close.

    Raises:
        PlanError: CreateContainerConfigError, a part of a volume cannot be had; CreateContainerError, a mount cannot propagate.
        OSError: something cannot be made.
    """
    _look(pod, sources, container)
    for part in program.sub_paths:
        try:
            make_sub_path(part.source, part.below)
        except OSError as error:
            # The event says no more than a kubelet's: it could tell a container about the machine.
            _LOG.warning("pod %s: subPath %s of %s: %s", label, part.below, part.source, error)
            what = "prepare subPath" if error.errno in (errno.EXDEV, errno.ELOOP) else "create subPath directory"
            raise PlanError(
                CONFIG_ERROR,
                f'failed to {what} for volumeMount "{part.mount}" of container "{container.name}"',
            ) from error
    with contextlib.ExitStack() as stack:
        trees = []
        for slot in (one for one in program.slots if one.kind == "tree"):
            trees.append(open_tree(slot.profile, slot.below))
            stack.callback(os.close, trees[-1])
        stack.pop_all()
    return trees


def _look(pod: Pod, sources: Mapping[str, VolumeSource], container: Container) -> None:
    volumes = {volume.name: volume for volume in pod.spec.volumes} if container.volumeMounts else {}
    for mount in container.volumeMounts:
        source, volume = sources.get(mount.name), volumes.get(mount.name)
        if source is None or volume is None:
            continue
        if volume.hostPath is not None and not volume.hostPath.type:
            make_missing(source.path)
        if mount.mountPropagation in ("HostToContainer", "Bidirectional"):
            try:
                check_propagation(source.path, both_ways=mount.mountPropagation == "Bidirectional")
            except VolumeError as error:
                raise PlanError(
                    CREATE_CONTAINER_ERROR, f"failed to generate spec: {error.brief}", resolution=error.resolution
                ) from error
