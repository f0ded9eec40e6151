"""What an instance needs before it can be started: made by the start, or ahead of it while the sandbox is not finished yet.

All of it is removed, and made again, when the server dies before it was used: an instance without a record never was.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from nsrun import native
from nsrun.images import Image
from nsrun.plan import (
    NO_VALUES,
    ContainerInputs,
    ObjectValues,
    PlanError,
    Program,
    container_limits,
    container_program,
    pod_hostname,
    pod_limits,
    user_spec,
)
from nsrun.plan.ops import AppArmor, User
from nsrun.reconcile.model import ProcessUser, StartContainer
from nsrun.server import termination
from nsrun.server.values import values_for
from nsrun.spec.containers import target_of
from nsrun.spec.model import Container, Pod
from nsrun.waiting import CREATE_CONTAINER_ERROR

if TYPE_CHECKING:
    from nsrun.server.engine import PodEngine


@dataclass(slots=True)
class Prepared:
    """Directories, cgroup, log and program of one instance. Its descriptors are closed by `close`.

    Attributes:
        id: of the instance.
        pod: as it was then.
        image: that it is made of.
        attempt: its number.
        user: who its root process begins as.
        ips: of the pod, as its program has them.
        program: in the wire form.
        clone_flags: CLONE_NEW*.
        log_fd: its log.
        cgroup_fd: directory of its cgroup, None where there are no cgroups.
        slots: descriptors that the program names.
        trees: those of them that are its own; the others are the server's.
        target: name of the container whose PID namespace it enters, or empty.
        objects: what its variables were made of.
        objects_version: of the objects that were then.
    """

    id: str
    pod: Pod
    image: Image
    attempt: int
    user: ProcessUser
    ips: tuple[str, ...]
    program: bytes
    clone_flags: int
    log_fd: int
    cgroup_fd: int | None
    slots: Sequence[int]
    target: str = ""
    trees: Sequence[int] = ()
    objects: ObjectValues = NO_VALUES
    objects_version: int = 0

    def fits(self, engine: PodEngine, action: StartContainer, image: Image) -> bool:
        """Whether it is what `action` would make now."""
        made_for = (self.attempt, self.image, self.ips)
        if self.pod is not engine.pod or made_for != (action.attempt, image, engine.ledger.ips):
            return False
        if self.objects is NO_VALUES or (
            not self.objects.files and self.objects_version == engine.world.objects.version
        ):
            return True
        return self.objects == values_for(engine.world, engine.pod, engine.container(action.name))

    def close(self) -> None:
        """Give the descriptors back."""
        for fd in self.trees:
            os.close(fd)
        os.close(self.log_fd)
        if self.cgroup_fd is not None:
            os.close(self.cgroup_fd)


def prepare(
    engine: PodEngine, action: StartContainer, container: Container, image: Image, instance_id: str
) -> Prepared:
    """Make everything that the start of an instance needs.

    Raises:
        PlanError: the container cannot be as its spec wants it.
        NsrunError, OSError: something cannot be made; what was made goes with `containers.release`.
    """
    world = engine.world
    directory = engine.paths.root(instance_id)
    limits = container_limits(engine.pod, container, world.node)
    joined = world.cgroups.controllers.of_legacy(limits)
    version = world.objects.version
    objects = values_for(world, engine.pod, container)
    inputs = replace(inputs_for(engine, container, image, instance_id, objects), legacy_controllers=joined)
    program = container_program(engine.pod, container, inputs)
    for op in program.ops:
        if isinstance(op, AppArmor):
            world.apparmor.ensure(op.profile)
    with contextlib.ExitStack() as stack:
        trees = engine.volumes.begin(container, program)
        for fd in trees:
            stack.callback(os.close, fd)
        os.mkdir(directory, 0o755)
        image.prepare_instance(directory, inputs.first_id)
        termination.make(directory)
        if objects is not NO_VALUES:
            # Before its record: whoever finds the instance finds what it was made of, too.
            world.objects.keep_values(engine.uid, instance_id, objects)
        log_fd = open_log(engine, action.name, action.attempt)
        stack.callback(os.close, log_fd)
        of_pod = pod_limits(engine.pod, world.node)
        cgroup_fd = world.cgroups.create_container(engine.uid, instance_id, limits, of_pod)
        if cgroup_fd is not None:
            stack.callback(os.close, cgroup_fd)
        elif engine.pod.spec.hostPID or engine.pod.spec.shareProcessNamespace:
            raise _no_end(engine, container)
        prepared = Prepared(
            id=instance_id,
            pod=engine.pod,
            image=image,
            attempt=action.attempt,
            user=user_of(program),
            ips=engine.ledger.ips,
            program=native.encode(program.ops),
            clone_flags=native.flags(program.clone_flags),
            log_fd=log_fd,
            cgroup_fd=cgroup_fd,
            slots=[*descriptors(engine, program, instance_id), *trees],
            target=inputs.target,
            trees=trees,
            objects=objects,
            objects_version=version,
        )
        stack.pop_all()
    return prepared


def _no_end(engine: PodEngine, container: Container) -> PlanError:
    """Without a PID namespace of its own, only its cgroup ends all of a container. (One that was added to debug ends with its target's.)"""
    what = "hostPID" if engine.pod.spec.hostPID else "shareProcessNamespace"
    return PlanError(
        CREATE_CONTAINER_ERROR,
        f'container "{container.name}": {what} needs a cgroup of version 2 for the container, and there is none',
        details="In a PID namespace that is not its own, its cgroup alone holds its processes together: what it leaves could not be ended.",
        resolution="nsrun doctor says what is wrong with cgroups here.",
    )


def descriptors(engine: PodEngine, program: Program, instance_id: str) -> list[int]:
    """What the slots of a program for an instance hold; not the caller's to close. Without the trees of volumes, which come last."""
    tasks = engine.world.cgroups.tasks(engine.uid, instance_id)
    directory = engine.paths.root(instance_id)
    return [
        tasks[slot.profile] if slot.kind == "cgroup" else engine.world.descriptor(slot, directory)
        for slot in program.slots
        if slot.kind != "tree"
    ]


def user_of(program: Program) -> ProcessUser:
    """Who the root process of a program begins as: what it is told to become, or else root."""
    for op in program.ops:
        if isinstance(op, User):
            return ProcessUser(op.uid, op.gid, op.groups)
    return ProcessUser(0, 0)


def inputs_for(
    engine: PodEngine, container: Container, image: Image, instance_id: str, objects: ObjectValues
) -> ContainerInputs:
    """What the plan of a container, or of a command in it, needs to know beside the pod.

    Args:
        objects: what the instance's variables are made of.

    Raises:
        PlanError: the image does not know the user.
    """
    world, paths = engine.world, engine.paths
    directory = paths.root(instance_id)
    context = container.securityContext
    return ContainerInputs(
        rootfs=image.rootfs,
        image_config=image.config,
        user=image.user(user_spec(engine.pod, container, image.config)),
        hostname=pod_hostname(engine.pod, world.node.name, world.node.domain),
        files_dir=str(paths.files),
        shm_dir=str(paths.shm),
        instance_dir=str(directory),
        node=world.node_for(privileged=bool(context is not None and context.privileged)),
        pod_ips=engine.ledger.ips,
        host_ips=world.host_ips(engine.uid),
        target=target_of(engine.pod, container.name),
        termination_log=str(directory / termination.NAME),
        legacy_controllers=tuple(world.cgroups.tasks(engine.uid, instance_id)),
        volumes=engine.volumes.sources(),
        objects=objects,
        first_id=world.ids.of(engine.uid) if engine.pod.spec.hostUsers is False else 0,
    )


def log_path(engine: PodEngine, name: str, attempt: int) -> Path:
    """Log file of an instance (S-LOG)."""
    return engine.log_directory / name / f"{attempt}.log"


def open_log(engine: PodEngine, name: str, attempt: int) -> int:
    """A descriptor of an instance's log file, which is made if need be, for appending."""
    path = log_path(engine, name, attempt)
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        return os.open(path, flags, 0o640)
    except FileNotFoundError:
        os.makedirs(path.parent, mode=0o755, exist_ok=True)
        engine.world.layout.mark_logs(engine.log_directory)
        return os.open(path, flags, 0o640)
