"""What a container sees as its file system: the root, and what is mounted into it, in order.

Nothing of the host is in it but what stands here. Everything is mounted without device nodes except devpts and the single nodes of
/dev: CAP_MKNOD is in the default set, and a node that a container makes must not open a disk of the machine.
"""

from __future__ import annotations

from nsrun.plan import ops
from nsrun.plan.identity import Identity
from nsrun.plan.inputs import ContainerInputs
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

READONLY: tuple[str, ...] = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")
"""procMount Default makes these read-only (same source)."""


def root(inputs: ContainerInputs, who: Identity) -> list[ops.Op]:
    """The root's own layers. Always writable at this point: mount points are still to be made in it."""
    upper, work, merged = (f"{inputs.instance_dir}/{name}" for name in ("upper", "work", "merged"))
    attributes = "" if who.privileged else NODEV
    result: list[ops.Op] = [
        ops.Private(why="nothing mounted from here on shows on the host"),
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
            "NSR_BIND_RECURSIVE|NSR_BIND_RREADONLY|NSR_BIND_MAKE_TARGET",
            "MOUNT_ATTR_RDONLY|MOUNT_ATTR_NODEV",
            ALONE,
            why="part of the image",
        )
        for bind in inputs.rootfs.binds
    ]
    return result


def kernel(inputs: ContainerInputs, who: Identity) -> list[ops.Op]:
    """/proc of its PID namespace, /sys of the pod's network namespace."""
    system = SAFE if who.privileged else READ_ONLY
    whose = f"the processes of {inputs.target} and its own" if inputs.target else "the container's own processes only"
    result: list[ops.Op] = [
        ops.Mkdir("/proc"),
        ops.Mount("proc", "/proc", (), SAFE, why=whose),
        ops.Mkdir("/sys"),
        ops.Mount("sysfs", "/sys", (), system, why="network devices are the pod's"),
    ]
    if inputs.node.cgroup2:
        result.append(ops.Mount("cgroup2", "/sys/fs/cgroup", (), system, why="its root is the container's own cgroup"))
    return result


def dev(pod: Pod, inputs: ContainerInputs, who: Identity) -> list[ops.Op]:
    """A /dev of its own."""
    shm = "/dev/shm" if pod.spec.hostIPC else inputs.shm_dir
    result: list[ops.Op] = [ops.Mkdir("/dev")]
    if who.privileged:
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
    result += [
        ops.Mkdir("/dev/pts"),
        ops.Mount(
            "devpts",
            "/dev/pts",
            ("newinstance", "ptmxmode=0666", "mode=0620", "gid=5"),
            "MOUNT_ATTR_NOSUID|MOUNT_ATTR_NOEXEC",
            why="terminals of its own",
        ),
        ops.Mkdir("/dev/shm"),
        ops.Bind(shm, "/dev/shm", "", SAFE, ALONE, why="shared by the containers of the pod"),
        ops.Mkdir("/dev/mqueue"),
        ops.Mount("mqueue", "/dev/mqueue", (), SAFE, optional=True, why="of the pod's IPC namespace"),
    ]
    result += [ops.Symlink(text, path) for text, path in LINKS]
    return result


def _all_devices(inputs: ContainerInputs) -> list[ops.Op]:
    """The machine's nodes as they are now, or the usual ones where nobody looked."""
    result: list[ops.Op] = []
    made = {"/dev"}
    for device in inputs.node.devices:
        parent = device.path.rpartition("/")[0]
        if parent not in made:
            made.add(parent)
            result.append(ops.Mkdir(parent))
        result.append(ops.Mknod(device.path, device.kind, device.mode, device.major, device.minor))
    if not result:
        result = [ops.Mknod(f"/dev/{name}", "c", 0o666, major, minor) for name, major, minor in DEVICES]
    return result


def files(container: Container, inputs: ContainerInputs) -> list[ops.Op]:
    """The pod's own files, and the one for the termination message."""
    read_only = bool(container.securityContext and container.securityContext.readOnlyRootFilesystem)
    flags = "NSR_BIND_READONLY|NSR_BIND_MAKE_TARGET" if read_only else "NSR_BIND_MAKE_TARGET"
    attributes = f"MOUNT_ATTR_RDONLY|{NODEV}" if read_only else NODEV
    result: list[ops.Op] = [
        ops.Bind(f"{inputs.files_dir}/{name}", f"/etc/{name}", flags, attributes, ALONE, why="the pod's")
        for name in ("hosts", "hostname", "resolv.conf")
    ]
    if inputs.termination_log:
        path = container.terminationMessagePath or "/dev/termination-log"
        result.append(
            ops.Bind(
                inputs.termination_log, path, "NSR_BIND_MAKE_TARGET", NODEV, ALONE, why="read when the container ends"
            )
        )
    return result


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
