"""Where limits are written: controllers of the version 2 tree, or version 1 hierarchies beside it with a directory of the same path."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from nsrun.cgroups.layout import Layout, mounts
from nsrun.cgroups.unit import is_one as is_pods_unit
from nsrun.errors import NsrunError, StepError
from nsrun.plan.resources import CPU, HUGE_PAGES, MEMORY, PIDS, Limits, shares

KNOWN = (CPU, MEMORY, PIDS, HUGE_PAGES)
"""Those that limits are written to."""
OF_SYSTEMD = ("cpu", "cpuset", "io", "memory", "pids")
"""Those that systemd switches on by itself, in all slices that a unit with `Delegate=yes` is in (systemd.resource-control(5))."""
COUNTED = (MEMORY, PIDS, "io")
"""Those of version 2 that tell what is used."""


class MissingControllerError(NsrunError):
    """A pod's limits need a controller that is not to be had here."""

    code = "step"

    def __init__(self, controller: str, why: str) -> None:
        super().__init__(
            f'the cgroup controller "{controller}", which the requests and limits of the pod need, is not available: {why}',
            details="Without it they would have no effect.",
            resolution="nsrun doctor says which controllers there are; or take resources out of the manifest.",
        )
        self.controller = controller


def legacy_mounts(mountinfo: Iterable[str]) -> dict[str, Path]:
    """Where the version 1 hierarchies of the controllers in `KNOWN` are mounted, of several mounts the shortest path."""
    found: dict[str, Path] = {}
    for kind, target, options in mounts(mountinfo):
        if kind != "cgroup":
            continue
        for name in KNOWN:
            if name in options and (name not in found or len(target.parts) < len(found[name].parts)):
                found[name] = target
    return found


class Controllers:
    """Switches controllers on and writes limits. Keeps nothing that cannot be asked of the file systems again.

    Args:
        layout: what `detect` found.
        legacy: what `legacy_mounts` found.
    """

    def __init__(self, layout: Layout, legacy: Mapping[str, Path]) -> None:
        self._mount = layout.mount
        # In a hybrid layout a controller is either here or there.
        self.legacy = dict(legacy) if layout.mount is not None else {}
        top = _words(self._mount / "cgroup.controllers") if self._mount is not None else []
        self._of_all = tuple(name for name in (CPU, *COUNTED) if name in top and name not in self.legacy)
        self._counted = tuple(name for name in self._of_all if name != CPU)

    def of_legacy(self, limits: Limits) -> tuple[str, ...]:
        """Those of the controllers that `limits` need which are version 1's here."""
        return tuple(name for name in limits.controllers if name in self.legacy)

    def twin(self, name: str, path: Path) -> Path:
        """The directory of version 1's controller `name` for a version 2 cgroup."""
        assert self._mount is not None
        return self.legacy[name] / path.relative_to(self._mount)

    def twins(self, path: Path) -> dict[str, Path]:
        """All of them, whether they are there or not, each directory once: `cpu` and `memory` may be mounted together."""
        if self._mount is None:
            return {}
        return {name: self.twin(name, path) for name in self.legacy}

    def prepare(self, directory: Path, limits: Limits) -> Limits:
        """See to it that cgroups can be made below `directory`, the base or a pod's, that have what `limits` need.

        Returns:
            Those limits; without huge pages where that controller is not to be had and none are asked for: to keep them from everybody is
            worth a controller, and no pod.

        Raises:
            MissingControllerError: a controller is not to be had.
        """
        for name in limits.controllers:
            if name in self.legacy:
                continue
            try:
                self._switch_on(name, directory)
            except MissingControllerError:
                if name != HUGE_PAGES or any(amount for _, amount in limits.huge_pages):
                    raise
                limits = replace(limits, controllers=tuple(one for one in limits.controllers if one != HUGE_PAGES))
        return limits

    def count_all(self, base: Path) -> None:
        """Have memory, processes and block devices of every pod counted, where version 2 can do that; what cannot be had is done without.

        A kubelet, too, makes cgroups of all controllers for every pod, whatever it asks for. Processor time is shared out from the
        first pod on: were that to begin with one that asks for some, those of before would have the usual weight, not the least.
        """
        for name in self._of_all:
            with contextlib.suppress(MissingControllerError):
                self._switch_on(name, base)

    def count(self, pod: Path) -> None:
        """The same for each container of a pod."""
        if self._counted:
            there = [name for name in _words(pod / "cgroup.controllers") if name in self._counted]
            with contextlib.suppress(OSError):
                _write(pod / "cgroup.subtree_control", " ".join(f"+{name}" for name in there))

    def weigh_base(self, base: Path, limits: Limits, cpus: int) -> None:
        """All pods together weigh as much as the machine has processors, as under a kubelet: in version 1 each process outside has 1024."""
        if CPU not in limits.controllers or CPU not in self.legacy:
            return
        twin = self.twin(CPU, base)
        if not twin.is_dir():
            _make(twin)
            with contextlib.suppress(OSError):
                _write(twin / "cpu.shares", str(shares(1000 * cpus)))

    def apply(self, path: Path, limits: Limits) -> None:
        """Make the directories that a cgroup needs and write its limits. Safe to repeat with other limits.

        Raises:
            StepError: the kernel refuses one.
        """
        for name in limits.controllers:
            if name in self.legacy:
                directory = self.twin(name, path)
                _make(directory)
                write = _LEGACY_WRITERS[name]
            else:
                directory = path
                write = _WRITERS[name]
            try:
                write(directory, limits)
            except OSError as error:
                raise StepError(
                    "limit", f"{name} of {directory}", error.errno or 0, what="its limits cannot be kept"
                ) from error

    def begun(self, path: Path, limits: Limits) -> Limits:
        """`limits` without the controllers that a cgroup was made without: nobody in it could be made to obey them."""
        switched_on = _words(path.parent / "cgroup.subtree_control")
        there = [
            name
            for name in limits.controllers
            if (self.twin(name, path).is_dir() if name in self.legacy else name in switched_on)
        ]
        return replace(limits, controllers=tuple(there))

    def memory_used(self, path: Path) -> int:
        """Bytes that a cgroup uses; 0 where nobody counts them."""
        place = self.twin(MEMORY, path) / "memory.usage_in_bytes" if MEMORY in self.legacy else path / "memory.current"
        words = _words(place)
        return int(words[0]) if words else 0

    def weigh(self, path: Path) -> None:
        """A pod that asks for nothing comes after those that ask, where they share a tree (version 2)."""
        if self._mount is not None and CPU not in self.legacy:
            with contextlib.suppress(OSError):
                _write(path / "cpu.weight", "1")

    def _switch_on(self, name: str, directory: Path) -> None:
        """Have controller `name` in the cgroups below `directory`, from the top of the tree down."""
        assert self._mount is not None
        if name in _words(directory / "cgroup.subtree_control"):
            return
        if name not in _words(self._mount / "cgroup.controllers"):
            raise MissingControllerError(
                name, "neither a version 2 tree nor a version 1 hierarchy that is mounted has it"
            )
        for one in _from(self._mount, directory):
            if name in _words(one / "cgroup.subtree_control"):
                continue
            if not _may_change(one, name):
                raise MissingControllerError(
                    name, f"it is not switched on in {one}/cgroup.subtree_control, which belongs to systemd"
                )
            try:
                _write(one / "cgroup.subtree_control", f"+{name}")
            except OSError as error:
                raise MissingControllerError(
                    name, f"{one}/cgroup.subtree_control: {os.strerror(error.errno or 0)}"
                ) from error


def _may_change(path: Path, name: str) -> bool:
    """Whether controller `name` may be switched on for what is below `path`.

    Not in a cgroup that is systemd's, unless systemd knows nothing of the controller. Nor in a service's own: systemd starts the next
    server in it, which the kernel refuses while pods of the last one hold controllers there. The pods' unit starts nothing again, nor
    does a scope.
    """
    if path.name.endswith(".slice"):
        return name not in OF_SYSTEMD
    return is_pods_unit(path) or not path.name.endswith(".service")


def available(layout: Layout, legacy: Mapping[str, Path]) -> frozenset[str]:
    """The controllers in `KNOWN` that this machine has."""
    if layout.mount is None:
        return frozenset()
    return frozenset(name for name in KNOWN if name in legacy or name in _words(layout.mount / "cgroup.controllers"))


def _from(top: Path, directory: Path) -> Iterator[Path]:
    """`top`, then each directory on the way to `directory`, then that."""
    yield top
    for part in directory.relative_to(top).parts:
        top = top / part
        yield top


def _words(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="ascii").split()
    except OSError:
        return []


def _make(directory: Path) -> None:
    try:
        try:
            os.mkdir(directory)
        except FileNotFoundError:
            directory.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        return
    except OSError as error:
        raise StepError("make cgroup", str(directory), error.errno or 0, what="its limits cannot be kept") from error


def _write_cpu(path: Path, limits: Limits) -> None:
    _write(path / "cpu.weight", str(limits.weight))
    _write(path / "cpu.max", f"{limits.quota_us or 'max'} {limits.period_us}")


def _write_legacy_cpu(path: Path, limits: Limits) -> None:
    _write(path / "cpu.shares", str(limits.shares))
    try:
        _write(path / "cpu.cfs_period_us", str(limits.period_us))
        _write(path / "cpu.cfs_quota_us", str(limits.quota_us or -1))
    except FileNotFoundError:
        # A kernel without CONFIG_CFS_BANDWIDTH: only a limit is missed there.
        if limits.quota_us:
            raise


def _write_memory(path: Path, limits: Limits) -> None:
    if limits.oom_group:
        _write(path / "memory.oom.group", "1")
    if limits.memory:
        # As under a kubelet without swap behaviour: memory that is used up is not made good with swap. Missing without swap accounting.
        with contextlib.suppress(FileNotFoundError):
            _write(path / "memory.swap.max", "0")
    _write(path / "memory.max", str(limits.memory or "max"))


def _write_legacy_memory(path: Path, limits: Limits) -> None:
    # Before Linux 5.11 a limit of the pod would not hold its containers otherwise; refused where it is so anyway.
    hierarchy = path / "memory.use_hierarchy"
    with contextlib.suppress(OSError):
        if hierarchy.read_text(encoding="ascii").strip() == "0":
            _write(hierarchy, "1")
    limit, both = path / "memory.limit_in_bytes", path / "memory.memsw.limit_in_bytes"
    text = str(limits.memory or -1)
    # Memory and swap together may never be less than memory: which comes first depends on whether it grows.
    for first, second in ((limit, both), (both, limit)):
        try:
            _write_if_there(first, text)
            _write_if_there(second, text)
            return
        except OSError as error:
            if error.errno != errno.EINVAL or first == both:
                raise


def _write_pids(path: Path, limits: Limits) -> None:
    """The pod's alone: a container has what its pod has (kubelet pkg/kubelet/cm/pod_container_manager_linux.go)."""
    _write(path / "pids.max", str(limits.pids or "max"))


def _write_huge_pages(path: Path, limits: Limits) -> None:
    for size, amount in limits.huge_pages:
        _write(path / f"hugetlb.{in_units(size)}.max", str(amount))
        with contextlib.suppress(FileNotFoundError):
            _write(path / f"hugetlb.{in_units(size)}.rsvd.max", str(amount))


def _write_legacy_huge_pages(path: Path, limits: Limits) -> None:
    for size, amount in limits.huge_pages:
        _write(path / f"hugetlb.{in_units(size)}.limit_in_bytes", str(amount))
        with contextlib.suppress(FileNotFoundError):
            _write(path / f"hugetlb.{in_units(size)}.rsvd.limit_in_bytes", str(amount))


def in_units(size: int) -> str:
    """A size of pages as the kernel's files are called: `64KB`, `2MB`, `1GB`."""
    for shift, unit in ((30, "GB"), (20, "MB")):
        if size >= 1 << shift:
            return f"{size >> shift}{unit}"
    return f"{size >> 10}KB"


_WRITERS = {CPU: _write_cpu, MEMORY: _write_memory, PIDS: _write_pids, HUGE_PAGES: _write_huge_pages}
_LEGACY_WRITERS = {
    CPU: _write_legacy_cpu,
    MEMORY: _write_legacy_memory,
    PIDS: _write_pids,
    HUGE_PAGES: _write_legacy_huge_pages,
}


def _write_if_there(path: Path, text: str) -> None:
    try:
        _write(path, text)
    except FileNotFoundError:
        if not path.name.startswith("memory.memsw"):
            raise


def _write(path: Path, text: str) -> None:
    # Not open(): a file that is not there is not to be made, and no buffer puts an error off.
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, text.encode("ascii"))
    finally:
        os.close(fd)
