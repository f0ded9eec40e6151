"""What a container sees as its file system: the root, and what is mounted into it, in order.

Nothing of the host is in it but what stands here. Everything is mounted without device nodes except devpts and the single nodes of
/dev: CAP_MKNOD is in the default set, and a node that a container makes must not open a disk of the machine.
"""

from __future__ import annotations

import posixpath

from nsrun.plan import ops
from nsrun.plan.identity import Identity
from nsrun.plan.inputs import ContainerInputs
from nsrun.plan.mounts import Placed, VolumeMounts, depth
from nsrun.spec.model import Container, Pod

NODEV = "MOUNT_ATTR_NODEV"
SAFE = "MOUNT_ATTR_NOSUID|MOUNT_ATTR_NODEV|MOUNT_ATTR_NOEXEC"
READ_ONLY = f"MOUNT_ATTR_RDONLY|{SAFE}"
ALONE = "MS_PRIVATE|MS_REC"
"""Mounts that come or go on the host do not come or go in the container (S-VOL, mountPropagation None)."""

DEVICES: tuple[tuple[str, int, int], ...] = (
    ("null", 1, 3),
    ("zero", 1, 5),
    ("full", 1, 7),
    ("random", 1, 8),
    ("urandom", 1, 9),
    ("tty", 5, 0),
)
"""The character devices of every container (OCI runtime-spec config-linux.md, default devices): name, major, minor."""

LINKS: tuple[tuple[str, str], ...] = (
    ("/proc/self/fd", "/dev/fd"),
    ("/proc/self/fd/0", "/dev/stdin"),
    ("/proc/self/fd/1", "/dev/stdout"),
    ("/proc/self/fd/2", "/dev/stderr"),
    ("pts/ptmx", "/dev/ptmx"),
)
"""Symbolic links in /dev: text, path (runc libcontainer/rootfs_linux.go setupDevSymlinks)."""

MASKED: tuple[str, ...] = (
    "/proc/asound",
    "/proc/acpi",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
)
"""procMount Default hides these (Kubernetes pkg/securitycontext/util.go); thermal_throttle of each processor besides."""

INSTEAD = frozenset(("/dev", "/proc", "/sys"))
"""Places where a volume takes the place of what a container has there otherwise, and comes as early as that."""

READONLY: tuple[str, ...] = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")
"""procMount Default makes these read-only (same source)."""


def _mapped(inputs: ContainerInputs, flags: str, *, must: bool = True) -> str:
    """The flags of a bind whose files are to be the pod's users'."""
    if not inputs.first_id:
        return flags
    return "|".join((*(flags.split("|") if flags else ()), "NSR_BIND_ID_MAP" if must else "NSR_BIND_MAY_ID_MAP"))


def root(inputs: ContainerInputs, who: Identity) -> list[ops.Op]:
    """The root's own layers. Always writable at this point: mount points are still to be made in it."""
    upper, work, merged = (f"{inputs.instance_dir}/{name}" for name in ("upper", "work", "merged"))
    # With ids of its own a pod could be the owner of a disk's node that lies in a layer: then even a privileged one gets none.
    attributes = "" if who.privileged and not inputs.first_id else NODEV
    result: list[ops.Op] = [
        ops.Private(why="nothing mounted from here on shows on the host"),
        *_own_ids(inputs),
        ops.Overlay(
            merged,
            inputs.rootfs.lowers,
            upper,
            work,
            attributes,
            volatile=True,
            why="the image below, what this instance writes above",
        ),
        ops.Root(merged),
    ]
    result += [
        ops.Bind(
            bind.source,
            bind.target,
            _mapped(inputs, "NSR_BIND_RECURSIVE|NSR_BIND_RREADONLY|NSR_BIND_MAKE_TARGET", must=False),
            "MOUNT_ATTR_RDONLY|MOUNT_ATTR_NODEV",
            ALONE,
            why="part of the image",
        )
        for bind in inputs.rootfs.binds
    ]
    return result


def _own_ids(inputs: ContainerInputs) -> list[ops.Op]:
    """hostUsers: false: what is made in the root belongs to the pod's root, and so does what is root's in the image, without a copy."""
    if not inputs.first_id:
        return []
    result: list[ops.Op] = [ops.IdMap(lower, why="hostUsers: false") for lower in inputs.rootfs.lowers]
    root_id = inputs.host_id(0)
    result.append(ops.FsUser(root_id, root_id, why="what is made from here on is the pod's root's"))
    return result


def kernel(pod: Pod, inputs: ContainerInputs, who: Identity, volumes: VolumeMounts) -> list[ops.Op]:
    """/proc of its PID namespace, /sys of the pod's network namespace; where a volume has the place, that."""
    system = SAFE if who.privileged else READ_ONLY
    whose = "the container's own processes only"
    if pod.spec.hostPID:
        whose = "hostPID: every process of the machine"
    elif pod.spec.shareProcessNamespace:
        whose = "the processes of all containers of the pod"
    elif inputs.target:
        whose = f"the processes of {inputs.target} and its own"
    result: list[ops.Op] = volumes.at("/proc") or [
        ops.Mkdir("/proc"),
        ops.Mount("proc", "/proc", (), SAFE, why=whose),
    ]
    result += volumes.at("/sys") or [
        ops.Mkdir("/sys"),
        ops.Mount("sysfs", "/sys", (), system, why="network devices are the pod's"),
    ]
    if inputs.node.cgroup2 and "/sys/fs/cgroup" not in volumes.paths:
        result.append(ops.Mount("cgroup2", "/sys/fs/cgroup", (), system, why="its root is the container's own cgroup"))
    return result


def dev(pod: Pod, inputs: ContainerInputs, who: Identity, volumes: VolumeMounts) -> list[ops.Op]:
    """A /dev of its own, or a volume with the terminals and what the pod shares on it."""
    terminals = ("newinstance", "ptmxmode=0666", "mode=0620", f"gid={inputs.host_id(5)}")
    shm = "/dev/shm" if pod.spec.hostIPC else inputs.shm_dir
    of_volume = volumes.at("/dev")
    result: list[ops.Op] = of_volume or [ops.Mkdir("/dev")]
    if of_volume:
        pass
    elif who.privileged:
        result.append(
            ops.Mount("tmpfs", "/dev", ("mode=755", "size=65536k"), "MOUNT_ATTR_NOSUID", why="privileged: every device")
        )
        result += _all_devices(inputs)
    else:
        result.append(ops.Mount("tmpfs", "/dev", ("mode=755", "size=65536k"), "MOUNT_ATTR_NOSUID|MOUNT_ATTR_NODEV"))
        # Bound read-only rather than made: on this tmpfs a node does not work, and through a read-only mount a device can be
        # written to while the machine's own node keeps its mode and owner.
        result += [
            ops.Bind(
                f"/dev/{name}",
                f"/dev/{name}",
                "NSR_BIND_READONLY|NSR_BIND_MAKE_TARGET",
                "MOUNT_ATTR_RDONLY|MOUNT_ATTR_NOSUID|MOUNT_ATTR_NOEXEC",
                ALONE,
            )
            for name, _, _ in DEVICES
        ]
    parts: list[tuple[str, ops.Op]] = [
        (
            "/dev/pts",
            ops.Mount(
                "devpts",
                "/dev/pts",
                terminals,
                "MOUNT_ATTR_NOSUID|MOUNT_ATTR_NOEXEC",
                why="terminals of its own",
            ),
        ),
        ("/dev/shm", ops.Bind(shm, "/dev/shm", "", SAFE, ALONE, why="shared by the containers of the pod")),
        (
            "/dev/mqueue",
            ops.Mount("mqueue", "/dev/mqueue", (), SAFE, optional=True, why="of the pod's IPC namespace"),
        ),
    ]
    for path, op in parts:
        if path not in volumes.paths:
            result += [ops.Mkdir(path), op]
    if not of_volume:
        result += [ops.Symlink(text, path) for text, path in LINKS]
    return result


def _all_devices(inputs: ContainerInputs) -> list[ops.Op]:
    """The machine's nodes as they are now, or the usual ones where nobody looked."""
    result: list[ops.Op] = []
    made = {"/dev"}
    if inputs.first_id:
        # Nodes that were made here would be the pod's root's, and every disk with them: bound, they are whose they are on the machine.
        return [
            ops.Bind(path, path, "NSR_BIND_MAKE_TARGET|NSR_BIND_OPTIONAL", "", ALONE)
            for path in ([one.path for one in inputs.node.devices] or [f"/dev/{name}" for name, _, _ in DEVICES])
        ]
    for device in inputs.node.devices:
        parent = device.path.rpartition("/")[0]
        if parent not in made:
            made.add(parent)
            result.append(ops.Mkdir(parent))
        result.append(ops.Mknod(device.path, device.kind, device.mode, device.major, device.minor))
    if not result:
        result = [ops.Mknod(f"/dev/{name}", "c", 0o666, major, minor) for name, major, minor in DEVICES]
    return result


def files(container: Container, inputs: ContainerInputs, volumes: VolumeMounts) -> list[ops.Op]:
    """The pod's own files, the one for the termination message, and the volumes: what lies above comes first (as runtimes sort them)."""
    read_only = bool(container.securityContext and container.securityContext.readOnlyRootFilesystem)
    flags = "NSR_BIND_READONLY|NSR_BIND_MAKE_TARGET" if read_only else "NSR_BIND_MAKE_TARGET"
    attributes = f"MOUNT_ATTR_RDONLY|{NODEV}" if read_only else NODEV
    result = [
        Placed(
            path,
            ops.Bind(f"{inputs.files_dir}/{name}", path, _mapped(inputs, flags), attributes, ALONE, why="the pod's"),
        )
        for name in ("hosts", "hostname", "resolv.conf")
        if (path := f"/etc/{name}") not in volumes.paths
    ]
    result += [one for one in volumes.placed if one.path not in INSTEAD]
    if inputs.termination_log:
        path = container.terminationMessagePath or "/dev/termination-log"
        flags = _mapped(inputs, "NSR_BIND_MAKE_TARGET")
        bind = ops.Bind(inputs.termination_log, path, flags, NODEV, ALONE, why="read when the container ends")
        result.append(Placed(posixpath.normpath(path), bind))
    return [one.op for one in sorted(result, key=lambda one: depth(one.path))]


def covers(container: Container, inputs: ContainerInputs, who: Identity) -> list[ops.Op]:
    """Last of the mounts: what is hidden or made read-only of those before."""
    context = container.securityContext
    result: list[ops.Op] = []
    if not who.privileged and (context is None or context.procMount in (None, "", "Default")):
        result += [ops.Mask(path) for path in (*MASKED, *inputs.node.thermal_throttle)]
        result += [ops.Readonly(path) for path in READONLY]
    if context is not None and context.readOnlyRootFilesystem:
        result.append(ops.Attr("/", "MOUNT_ATTR_RDONLY", why="readOnlyRootFilesystem"))
    return result
