"""The facts of this machine that plans depend on, read from /proc, /sys and /dev."""

from __future__ import annotations

import contextlib
import glob
import os
import platform
import resource
import stat
from collections.abc import Iterator, Sequence

from nsrun.plan.capabilities import ALL_CAPABILITIES
from nsrun.plan.inputs import Device, NodeFacts

_NOT_DEVICES = frozenset({"pts", "shm", "fd", "mqueue", "console", "ptmx", ".lxc", ".lxd-mounts", ".udev"})
"""Of /dev, what a container has of its own."""


def machine(*, name: str = "", cgroup2: bool = False, storage: str = "/") -> NodeFacts:
    """Reads them; about a millisecond, to be done once per server.

    Args:
        name: the node's name; the host name without it.
        cgroup2: one unified cgroup tree.
        storage: a path on the file system that containers write to.
    """
    _, nofile = resource.getrlimit(resource.RLIMIT_NOFILE)
    space = os.statvfs(storage)
    return NodeFacts(
        name=name or platform.node(),
        cpus=os.cpu_count() or 1,
        memory=os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"),
        ephemeral_storage=space.f_frsize * space.f_blocks,
        cgroup2=cgroup2,
        capabilities=_capabilities(),
        nofile=max(nofile, 0),
        thermal_throttle=tuple(sorted(glob.glob("/sys/devices/system/cpu/cpu[0-9]*/thermal_throttle"))),
    )


def huge_pages(directory: str = "/sys/kernel/mm/hugepages") -> dict[int, int]:
    """The huge pages that the machine has set aside: bytes by size in bytes; only sizes of which there are any."""
    found = {}
    for path in glob.glob(f"{directory}/hugepages-*kB/nr_hugepages"):
        size = int(path.rpartition("/hugepages-")[2].partition("kB")[0]) << 10
        with contextlib.suppress(OSError, ValueError), open(path, encoding="ascii") as file:
            count = int(file.read())
            if count > 0:
                found[size] = count * size
    return dict(sorted(found.items()))


def huge_page_name(size: int) -> str:
    """The resource of pages of this size, as a node has it: `hugepages-2Mi`."""
    for shift, unit in ((30, "Gi"), (20, "Mi")):
        if size % (1 << shift) == 0:
            return f"hugepages-{size >> shift}{unit}"
    return f"hugepages-{size >> 10}Ki"


def _capabilities() -> frozenset[str]:
    """What this process could keep or hand on: permitted, and not gone from the bounding set."""
    masks = {}
    with open("/proc/self/status", encoding="utf-8") as status:
        for line in status:
            key, _, value = line.partition(":")
            if key in ("CapPrm", "CapBnd"):
                masks[key] = int(value, 16)
    usable = masks.get("CapPrm", 0) & masks.get("CapBnd", 0)
    return frozenset(name for number, name in enumerate(ALL_CAPABILITIES) if usable >> number & 1)


def host_devices() -> tuple[Device, ...]:
    """Every device node below /dev, for privileged containers (containerd pkg/oci HostDevices)."""
    return tuple(_devices("/dev", os.listdir("/dev")))


def _devices(directory: str, names: Sequence[str]) -> Iterator[Device]:
    for name in sorted(names):
        if name in _NOT_DEVICES:
            continue
        path = f"{directory}/{name}"
        try:
            status = os.lstat(path)
            inside = os.listdir(path) if stat.S_ISDIR(status.st_mode) else []
        except FileNotFoundError:
            continue  # unplugged meanwhile
        if inside:
            yield from _devices(path, inside)
        elif stat.S_ISCHR(status.st_mode) or stat.S_ISBLK(status.st_mode):
            yield Device(
                path,
                "c" if stat.S_ISCHR(status.st_mode) else "b",
                os.major(status.st_rdev),
                os.minor(status.st_rdev),
                stat.S_IMODE(status.st_mode),
            )
