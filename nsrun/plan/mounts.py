"""volumeMounts as operations (S-VOL): what of which volume is bound where, in which order, and what of it is made before.

Source: Kubernetes pkg/kubelet/kubelet_pods.go makeMounts, pkg/kubelet/container/helpers.go ExpandContainerVolumeMounts; what a runtime
does with it: containerd internal/cri/opts/spec_linux_opts.go WithMounts, runc libcontainer/rootfs_linux.go.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from nsrun.plan import ops
from nsrun.plan.expansion import expand
from nsrun.plan.inputs import ContainerInputs, PlanError, Slot, SubPath, VolumeSource
from nsrun.spec.defaults import VOLUME_SOURCES
from nsrun.spec.model import Container, Pod, VolumeMount
from nsrun.waiting import CONFIG_ERROR, CREATE_CONTAINER_ERROR

MAX_TREES = 6
"""Mounts of images, and with propagation both ways, that a container may have: each takes one of the descriptors that a message can
carry (csrc/wire.h)."""

DEVICES = frozenset(f"/dev/{name}" for name in ("null", "zero", "full", "random", "urandom", "tty"))
"""Devices that every container has, so that any may have them as a hostPath, too."""

_PROPAGATION = {"HostToContainer": "MS_SLAVE|MS_REC", "Bidirectional": "MS_SHARED|MS_REC"}
_ALONE = "MS_PRIVATE|MS_REC"
_TYPES = {
    "Directory": "NSR_BIND_DIRECTORY",
    "File": "NSR_BIND_FILE",
    "Socket": "NSR_BIND_SOCKET",
    "CharDevice": "NSR_BIND_CHARACTERS",
    "BlockDevice": "NSR_BIND_BLOCKS",
}
"""Looked at when the volume was set up, and once more where it is mounted: in between, its name may have become another thing's."""
_IN_PROC = frozenset(
    f"/proc/{name}"
    for name in (
        "cpuinfo",
        "diskstats",
        "loadavg",
        "meminfo",
        "net/dev",
        "slabinfo",
        "stat",
        "swaps",
        "sys/crypto/fips_enabled",
        "sys/kernel/ns_last_pid",
        "uptime",
    )
)
"""What may be covered in /proc (runc libcontainer/rootfs_linux.go checkProcMount): the rest says what a process is and may do."""


@dataclass(frozen=True, slots=True)
class Placed:
    """A mount, at a clean absolute path."""

    path: str
    op: ops.Bind


@dataclass(frozen=True, slots=True)
class VolumeMounts:
    """What the volumeMounts of a container come to.

    `placed` is in the order in which they are mounted: what lies above comes first, else that of the manifest.
    """

    placed: tuple[Placed, ...] = ()
    sub_paths: tuple[SubPath, ...] = ()
    slots: tuple[Slot, ...] = ()

    @property
    def paths(self) -> frozenset[str]:
        """The places that are taken."""
        return frozenset(one.path for one in self.placed)

    def at(self, path: str) -> list[ops.Op]:
        """The mount at this place, if there is one."""
        return [one.op for one in self.placed if one.path == path]


def target_of(mount: VolumeMount) -> str:
    """Where a volume is mounted: absolute and without `.`, `..` or doubled slashes."""
    return posixpath.normpath("/" + mount.mountPath.lstrip("/"))


def depth(path: str) -> int:
    """How many names a clean path has."""
    return 0 if path == "/" else path.count("/")


def places(pod: Pod, container: Container) -> dict[str, str]:
    """Kind and name of the volume at each place where a container mounts one."""
    kinds = {
        volume.name: next((kind for kind in VOLUME_SOURCES if getattr(volume, kind) is not None), "volume")
        for volume in pod.spec.volumes
    }
    return {target_of(mount): f'{kinds.get(mount.name, "volume")} "{mount.name}"' for mount in container.volumeMounts}


def sub_path(mount: VolumeMount, variables: Mapping[str, str]) -> str:
    """The part of the volume that is meant; empty for all of it.

    Raises:
        PlanError: CreateContainerConfigError, a variable in it that is not set or empty, or a path that leads out of the volume.
    """
    path = mount.subPath or ""
    if mount.subPathExpr:
        seen = _Seen(variables)
        path = expand(mount.subPathExpr, seen)
        if seen.missing:
            raise PlanError(CONFIG_ERROR, f"missing value for {', '.join(sorted(seen.missing))}")
    if path.startswith("/"):
        raise PlanError(CONFIG_ERROR, f"error SubPath `{path}` must not be an absolute path")
    if ".." in path.split("/"):
        raise PlanError(CONFIG_ERROR, f"unable to provision SubPath `{path}`: must not contain '..'")
    if "\0" in path:
        raise PlanError(CONFIG_ERROR, f"unable to provision SubPath {path!r}: it has a NUL in it")
    path = posixpath.normpath(path) if path else ""
    return "" if path == "." else path


class _Seen(Mapping[str, str]):
    """The variables, remembering which were looked for in vain."""

    def __init__(self, variables: Mapping[str, str]) -> None:
        self._variables = variables
        self.missing: set[str] = set()

    def __getitem__(self, name: str) -> str:
        value = self._variables.get(name, "")
        if not value:
            self.missing.add(name)
        return value

    def __iter__(self) -> Iterator[str]:
        return iter(self._variables)

    def __len__(self) -> int:
        return len(self._variables)


def volume_mounts(
    pod: Pod,
    container: Container,
    inputs: ContainerInputs,
    variables: Mapping[str, str],
    *,
    first_slot: int,
    privileged: bool,
) -> VolumeMounts:
    """All of a container's.

    Args:
        variables: those that the manifest sets, for subPathExpr.
        first_slot: the number of the first slot that is free.
        privileged: devices of a volume can be used.

    Raises:
        PlanError: CreateContainerConfigError, a volume that is not there or a subPath that cannot be; CreateContainerError, a place
            where nothing may be mounted.
    """
    placed: list[Placed] = []
    sub_paths: list[SubPath] = []
    slots: list[Slot] = []
    for mount in container.volumeMounts:
        volume = inputs.volumes.get(mount.name)
        if volume is None:
            if any(one.name == mount.name for one in pod.spec.volumes):
                continue  # of a kind that nsrun has not: up --ignore-unsupported told of it
            raise PlanError(
                CONFIG_ERROR,
                f'cannot find volume "{mount.name}" to mount into container "{container.name}"',
            )
        below = sub_path(mount, variables)
        path = target_of(mount)
        _check_place(container, volume, path)
        slot = ops.NO_SLOT
        both_ways = mount.mountPropagation == "Bidirectional"
        if both_ways and inputs.first_id:
            raise PlanError(
                CREATE_CONTAINER_ERROR,
                f'container "{container.name}": volumeMount "{mount.name}" cannot have mountPropagation Bidirectional '
                "with hostUsers: false",
                details="What is mounted in a user namespace never shows outside of it.",
                resolution="Use HostToContainer, or leave hostUsers out.",
            )
        # An image is mounted when the first container needs it: the pod's own mounts were copied before.
        if both_ways or volume.kind == "image":
            slot = first_slot + len(slots)
            slots.append(Slot("tree", volume.path, below=below))
        if below:
            volume = replace(volume, type="")  # which is that of the whole
            sub_paths.append(SubPath(mount.name, volume.path, below))
        bind = _bind(mount, volume, path, "" if slot != ops.NO_SLOT else below, slot, privileged, inputs)
        placed.append(Placed(path, bind))
    if len(slots) > MAX_TREES:
        raise PlanError(
            CREATE_CONTAINER_ERROR,
            f'container "{container.name}": at most {MAX_TREES} mounts can be of images or have mountPropagation Bidirectional',
        )
    placed.sort(key=lambda one: depth(one.path))
    return VolumeMounts(tuple(placed), tuple(sub_paths), tuple(slots))


def _bind(
    mount: VolumeMount,
    volume: VolumeSource,
    path: str,
    below: str,
    slot: int,
    privileged: bool,
    inputs: ContainerInputs,
) -> ops.Bind:
    flags = ["NSR_BIND_RECURSIVE", "NSR_BIND_MAKE_TARGET"]
    harmless = volume.kind == "hostPath" and posixpath.normpath(volume.path) in DEVICES
    # A node that is root's on the machine would be the root's of a pod with ids of its own.
    attributes = [] if (privileged and not inputs.first_id) or harmless else ["MOUNT_ATTR_NODEV"]
    if inputs.first_id and not harmless:
        # An overlay cannot be mapped: an image is shown as it is, its files belong to nobody there.
        flags.append("NSR_BIND_MAY_ID_MAP" if volume.kind == "image" else "NSR_BIND_ID_MAP")
    if volume.type:
        flags.append(_TYPES[volume.type.removesuffix("OrCreate")])
    if mount.readOnly or volume.read_only:
        recursive = mount.recursiveReadOnly in ("Enabled", "IfPossible")
        flags.append("NSR_BIND_RREADONLY" if recursive else "NSR_BIND_READONLY")
        attributes.insert(0, "MOUNT_ATTR_RDONLY")
    values = ("" if slot != ops.NO_SLOT else volume.path, path, "|".join(flags), "|".join(attributes))
    propagation = _PROPAGATION.get(mount.mountPropagation or "", _ALONE)
    why = f'{volume.kind} "{mount.name}"'
    if below:
        return ops.BindBelow(*values, propagation, slot, below=below, why=why)
    return ops.Bind(*values, propagation, slot, why=why)


def _check_place(container: Container, volume: VolumeSource, path: str) -> None:
    whole_proc = path == "/proc" and volume.kind == "hostPath" and posixpath.normpath(volume.path) == "/proc"
    if path == "/":
        problem = "a volume cannot be the root of the file system"
    elif (path == "/proc" or path.startswith("/proc/")) and path not in _IN_PROC and not whole_proc:
        problem = f'"{path}" cannot be mounted because it is inside /proc'
    else:
        return
    raise PlanError(CREATE_CONTAINER_ERROR, f'container "{container.name}": {problem}')
