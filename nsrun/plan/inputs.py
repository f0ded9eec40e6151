"""What a plan is made from besides the pod, and what it is: plain values that the caller looked up on the machine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from nsrun.errors import NsrunError
from nsrun.plan.capabilities import ALL_CAPABILITIES
from nsrun.plan.dns import CLUSTER_DOMAIN
from nsrun.plan.image import ImageConfig, ImageUser, RootFs
from nsrun.plan.ops import Flags, Op


class PlanError(NsrunError):
    """A pod that is valid but cannot be run as it is, in the kubelet's words.

    `reason` is the reason of the waiting container or the failed pod (S-REASONS, S-ADMIT), e.g. CreateContainerConfigError.
    """

    code = "spec"

    def __init__(self, reason: str, brief: str, *, details: str | None = None, resolution: str | None = None) -> None:
        super().__init__(brief, details=details, resolution=resolution)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Device:
    """A device node of the machine, for privileged containers."""

    path: str
    kind: str
    """`c` or `b`."""
    major: int
    minor: int
    mode: int


@dataclass(frozen=True, slots=True)
class NodeFacts:
    """What the machine is like, as far as programs depend on it."""

    name: str = "localhost"
    cpus: int = 1
    memory: int = 0
    """Bytes."""
    ephemeral_storage: int = 0
    """Bytes of the file system that containers write to."""
    cgroup2: bool = False
    """The machine has one unified cgroup tree (not a hybrid one)."""
    capabilities: frozenset[str] = frozenset(ALL_CAPABILITIES)
    """Those that the server can hand on."""
    nofile: int = 0
    """Hard limit of open files that the server can hand on; 0: leave as it is."""
    thermal_throttle: tuple[str, ...] = ()
    """/sys/devices/system/cpu/cpuN/thermal_throttle where that exists: masked."""
    devices: tuple[Device, ...] = ()
    """All of /dev, for privileged containers."""
    pids_limit: int = 0
    """Processes and threads that a pod may have (the kubelet's podPidsLimit); 0: as many as the machine."""
    huge_pages: tuple[int, ...] = ()
    """Sizes, in bytes, of the huge pages that the machine has set aside, where there is a controller that keeps pods from them."""
    domain: str = CLUSTER_DOMAIN
    """What all names of pods end in."""


@dataclass(frozen=True, slots=True)
class VolumeSource:
    """A volume of the pod that has been set up: `path` is where it lies on the host."""

    path: str
    kind: str
    """The field of the manifest's volume: emptyDir, hostPath, ..."""
    read_only: bool = False
    """No container may write to it, whatever its mount says."""
    type: str = ""
    """What it has to be when it is mounted, as hostPath.type says: Directory, DirectoryOrCreate, File, ..., or "" for anything."""


@dataclass(frozen=True, slots=True)
class ObjectValues:
    """What the ConfigMaps and Secrets hold that the variables of a container refer to: name -> key -> value.

    A name that is not there is an object that does not exist. Bytes of a Secret that are no UTF-8 are surrogates, as os.fsdecode
    makes them. Values are not shown by repr: some are secret.
    """

    config_maps: Mapping[str, Mapping[str, str]] = field(default_factory=dict, repr=False)
    secrets: Mapping[str, Mapping[str, str]] = field(default_factory=dict, repr=False)
    files: Mapping[str, str] = field(default_factory=dict, repr=False)
    """What the files hold that its variables are read from (`env_files`), by volume and path: `volume/path`."""
    services: Mapping[str, str] = field(default_factory=dict)
    """The variables that tell of Services."""


NO_VALUES = ObjectValues()


IDS_PER_POD = 65536
"""How many users, and groups, a pod with hostUsers: false has (userNamespaces.idsPerPod of a kubelet's configuration, its default)."""


@dataclass(frozen=True, slots=True)
class ContainerInputs:
    """What one instance of a container needs to be known about its surroundings. All paths are the host's, absolute."""

    rootfs: RootFs
    image_config: ImageConfig
    user: ImageUser
    hostname: str
    files_dir: str
    """Directory with the pod's hosts, hostname and resolv.conf."""
    shm_dir: str
    """Where the sandbox program mounted the /dev/shm of the pod."""
    instance_dir: str
    """Directory with upper, work and merged of this instance."""
    node: NodeFacts
    pod_ips: tuple[str, ...] = ()
    host_ips: tuple[str, ...] = ()
    target: str = ""
    """The container whose processes this one sees (an ephemeral container's targetContainerName); empty: it has its own (S-NS)."""
    termination_log: str = ""
    """File that the container sees as its terminationMessagePath; empty: none (S-TERMMSG)."""
    legacy_controllers: tuple[str, ...] = ()
    """Version 1 cgroup controllers in which this instance has a cgroup of its own, to be joined (S-CGROUP)."""
    volumes: Mapping[str, VolumeSource] = field(default_factory=dict)
    """The pod's volumes by name."""
    objects: ObjectValues = NO_VALUES
    """What the container's variables refer to (`environment.references`)."""
    first_id: int = 0
    """hostUsers: false: which of the machine's ids, users and groups, is 0 in the pod; 0: the pod has the machine's ids."""

    def host_id(self, number: int) -> int:
        """The machine's id for one of the pod's."""
        return self.first_id + number


@dataclass(frozen=True, slots=True)
class SandboxInputs:
    """What the pod's sandbox needs: `shm_dir` is an empty directory of the host."""

    shm_dir: str
    node: NodeFacts
    first_id: int = 0
    """As of `ContainerInputs`."""
    pause_dir: str = ""
    """An empty directory, and `pause_file` the program, of the first process of a PID namespace that the pod's containers share."""
    pause_file: str = ""


@dataclass(frozen=True, slots=True)
class Slot:
    """A descriptor that whoever runs a program opens for it.

    kind `seccomp`: a sealed file with the filter for `profile` under these capabilities (`nsrun.security.seccomp_filter`).
    kind `cgroup`: the `tasks` file of the instance's cgroup of the version 1 controller `profile`.
    kind `tree`: the mounts at the path `profile` and below, as a tree that takes part in what is mounted on the host (open_tree(2)).
    """

    kind: str
    profile: str
    capabilities: frozenset[str] = frozenset()
    below: str = ""
    """Of a tree: the part of it that is meant, from which nothing may lead out of it."""


@dataclass(frozen=True, slots=True)
class SubPath:
    """A part of a volume that is mounted: whoever runs the program makes it first, as a directory, where it is missing (S-VOL)."""

    mount: str
    """Name of the volume."""
    source: str
    below: str


FIRST_SLOT = 3
"""Slots 0, 1 and 2 of a program are its standard streams (csrc/wire.h); `Program.slots` begins here."""


@dataclass(frozen=True, slots=True)
class Program:
    """The operations between clone3 and execve, in order, and what they need."""

    ops: tuple[Op, ...]
    clone_flags: Flags = ""
    """Namespaces that clone3 makes."""
    join_flags: Flags = ""
    """Namespaces of a running container that an exec enters before its program."""
    slots: tuple[Slot, ...] = ()
    sub_paths: tuple[SubPath, ...] = ()
