"""Pods' and containers' cgroups below one base directory."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import select
import signal
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path

from nsrun.cgroups import unit
from nsrun.cgroups.controllers import Controllers, MissingControllerError, legacy_mounts
from nsrun.cgroups.layout import Layout, detect, own_cgroup
from nsrun.cgroups.memory import oom_kills
from nsrun.cgroups.usage import Places, Usage, read
from nsrun.errors import NsrunError, StepError
from nsrun.plan.resources import CPU, MEMORY, PIDS, Limits

BASE_VARIABLE = "NSRUN_CGROUP_BASE"
POD_PREFIX = "pod-"
SUPERVISOR = "supervisor"
RECORD = "cgroup-base"
KEPT = "trusted.nsrun.kept"
"""An extended attribute: whoever is in this cgroup may stay."""
NO_LIMITS = Limits()
PATIENCE = 10.0
"""Seconds that killed processes have to go; longer means one is stuck in the kernel."""


def choose_base(layout: Layout, root: str | os.PathLike[str] | None, run_dir: str | os.PathLike[str]) -> Path | None:
    """The directory for the cgroups of one root, made if it was not there; None where the layout has none.

    In this order: NSRUN_CGROUP_BASE; the server's own cgroup when systemd delegated it (`Delegate=yes`), the server moving into the leaf
    `supervisor`, as a cgroup with controllers may not hold processes of its own, and the pods beside it (in a scope) or in a unit of
    their own beside the server's (of a service, see `nsrun.cgroups.unit`; made with the first pod); what an earlier server of this root
    recorded in `run_dir/cgroup-base`; else `nsrun` at the top of the tree, with a hash of `root` if there is one.

    A delegated cgroup ends with its unit: new pods go into that of the server that makes them, where their shims are, too. Pods of an
    earlier server stay where they are, see `older_bases`.

    Args:
        layout: what `detect` found.
        root: of the server; None for the machine's own.
        run_dir: the server's run directory; must exist.

    Raises:
        StepError: the directory cannot be made, or not be written down.
    """
    named = os.environ.get(BASE_VARIABLE)
    if layout.mount is None:
        return None
    recorded = _recorded(run_dir, layout.mount)
    base = (
        Path(named) if named else _delegated(layout.mount) or (recorded[0] if recorded else layout.mount / _name(root))
    )
    bases = [base, *(older for older in recorded if older != base and _pods(older))]
    # Written down first: a cgroup that nobody knows of would stay for ever. What stands there already is not written again (its
    # cgroup may have gone with the last pod): a full disk keeps no server from starting.
    lines = [str(path) for path in bases]
    if _lines(run_dir) != lines:
        record = Path(run_dir, RECORD)
        temporary = record.with_name(f".{RECORD}.new")
        try:
            temporary.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
            os.replace(temporary, record)
        except OSError as error:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise StepError("write", str(record), error.errno or 0) from error
    if unit.is_one(base.parent) and not base.parent.is_dir():
        return base
    try:
        base.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StepError(
            "make cgroup", str(base), error.errno or 0, what="containers cannot be held together"
        ) from error
    return base


def older_bases(base: Path | None, layout: Layout, run_dir: str | os.PathLike[str]) -> list[Path]:
    """Bases of this root's earlier servers in which pods still live.

    Args:
        base: what `choose_base` gave.
        layout: what `detect` found.
        run_dir: the server's run directory.
    """
    if base is None or layout.mount is None:
        return []
    return [path for path in _recorded(run_dir, layout.mount) if path != base]


def _name(root: str | os.PathLike[str] | None) -> str:
    if root is None:
        return "nsrun"
    return f"nsrun-{hashlib.sha256(os.path.realpath(root).encode()).hexdigest()[:8]}"


def _recorded(run_dir: str | os.PathLike[str], mount: Path) -> list[Path]:
    """What is left of the bases in the record, the last server's first."""
    return [base for base in map(Path, _lines(run_dir)) if base.is_relative_to(mount) and base.is_dir()]


def _lines(run_dir: str | os.PathLike[str]) -> list[str]:
    """The record as it is; nothing where none can be read."""
    try:
        return Path(run_dir, RECORD).read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        return []


def _pods(base: Path) -> list[str]:
    """Uids of the pods that have a cgroup in a base."""
    try:
        names = os.listdir(base)
    except FileNotFoundError:
        return []
    return [name.removeprefix(POD_PREFIX) for name in names if name.startswith(POD_PREFIX)]


def _delegated(mount: Path) -> Path | None:
    """The subtree that systemd gave to this process, freed of the process itself."""
    with open("/proc/self/cgroup", encoding="utf-8") as file:
        own = own_cgroup(file.read())
    if own is None or own == "/":
        return None
    server = mount / own.lstrip("/")
    if server.name == SUPERVISOR:
        server = server.parent
    if not _marked_delegated(server):
        return None
    try:
        (server / SUPERVISOR).mkdir(exist_ok=True)
        (server / SUPERVISOR / "cgroup.procs").write_text("0", encoding="ascii")
    except OSError as error:
        raise StepError("move the server to", str(server / SUPERVISOR), error.errno or 0) from error
    return (unit.beside(server) or server) / "pods"


def _marked_delegated(path: Path) -> bool:
    # systemd notes its promise in an extended attribute; which of the two depends on its version (org.freedesktop.systemd1(5), Delegate=).
    for name in ("trusted.delegate", "user.delegate"):
        try:
            if os.getxattr(path, name) == b"1":
                return True
        except OSError:
            continue
    return False


class Cgroups:
    """Makes, kills and removes cgroups. Every call blocks: microseconds, or as long as killed processes take to go.

    Args:
        base: an existing cgroup directory, see `choose_base`; None makes every call do nothing.
        layout: what `detect` found; looked up when left out.
        older: bases of earlier servers: the pods that are there stay there, new ones go into `base`.
        legacy: where version 1's controllers are mounted; looked up when left out.
    """

    def __init__(
        self,
        base: Path | None,
        layout: Layout | None = None,
        older: Sequence[Path] = (),
        legacy: Mapping[str, Path] | None = None,
    ) -> None:
        self.base = base
        self.older = list(older)
        self.layout = layout if layout is not None else detect()
        self.controllers = Controllers(self.layout, _legacy(self.layout) if legacy is None else legacy)
        self._unit = base.parent if base is not None and unit.is_one(base.parent) else None
        self._unit_seen = False
        self._tasks: dict[Path, dict[str, int]] = {}
        self._tops: dict[Path, tuple[str, str | None, str | None, str | None]] = {}

    def create_pod(self, pod_uid: str, limits: Limits = NO_LIMITS) -> None:
        """Make the pod's cgroup with its limits; one that is there gets these.

        Raises:
            MissingControllerError: a controller that the limits need is not to be had.
            NsrunError: it cannot be made.
        """
        if self.base is None:
            if limits.controllers:
                raise MissingControllerError(limits.controllers[0], self.layout.reason)
            return
        path = self._pod(pod_uid)
        self._make(path.parent)
        limits = self.controllers.prepare(path.parent, limits)
        self.controllers.count_all(path.parent)
        self.controllers.weigh_base(path.parent, limits, os.cpu_count() or 1)
        self._make(path)
        self.controllers.count(path)
        self.controllers.apply(path, limits)
        if CPU not in limits.controllers:
            self.controllers.weigh(path)

    def create_container(
        self, pod_uid: str, container_id: str, limits: Limits = NO_LIMITS, of_pod: Limits = NO_LIMITS
    ) -> int | None:
        """Make a container's cgroup with its limits; and the pod's with `of_pod` where somebody removed it.

        Returns:
            A descriptor of its directory for CLONE_INTO_CGROUP, the caller's to close; None where there are no cgroups.

        Raises:
            MissingControllerError, NsrunError: as `create_pod`.
        """
        if self.base is None:
            return None
        pod = self._pod(pod_uid)
        path = pod / container_id
        # The version 2 directory comes first and goes last: whatever is left of a container is found by it.
        if not pod.is_dir():
            # It was made with the sandbox. Its unit may have been stopped since, which takes all that is in there along.
            self.create_pod(pod_uid, of_pod)
        limits = self.controllers.prepare(pod, limits)
        self._make(path)
        self.controllers.apply(path, limits)
        return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def limit_pod(self, pod_uid: str, limits: Limits) -> None:
        """Give a pod that runs other limits. One without cgroup is passed over, and so are controllers that it did not begin with.

        Raises:
            StepError: the kernel refuses one.
        """
        self._limit(self._path(pod_uid, None), limits)

    def limit_container(self, pod_uid: str, container_id: str, limits: Limits) -> None:
        """As `limit_pod`, for one container."""
        self._limit(self._path(pod_uid, container_id), limits)

    def check_memory(self, pod_uid: str, container_id: str | None, limits: Limits) -> None:
        """See that a limit of memory is not below what is in use: it would be met by killing.

        Raises:
            NsrunError: it is.
        """
        path = self._path(pod_uid, container_id)
        if path is None or not limits.memory or MEMORY not in limits.controllers:
            return
        used = self.controllers.memory_used(path)
        if used > limits.memory:
            raise NsrunError(
                f"attempting to set memory limit ({limits.memory}) below current usage ({used})", code="step"
            )

    def _limit(self, path: Path | None, limits: Limits) -> None:
        if path is not None and path.is_dir():
            self.controllers.apply(path, self.controllers.begun(path, limits))

    def tasks(self, pod_uid: str, container_id: str) -> dict[str, int]:
        """Descriptors of a container's version 1 cgroups for JOIN_CGROUP, by controller; they stay this object's.

        Only of the cgroups that were made for it.
        """
        path = self._path(pod_uid, container_id)
        if path is None or not self.controllers.legacy:
            return {}
        found = self._tasks.get(path)
        if found is None:
            found = {}
            for name, twin in self.controllers.twins(path).items():
                with contextlib.suppress(FileNotFoundError):
                    found[name] = os.open(twin / "tasks", os.O_WRONLY | os.O_CLOEXEC)
            if found:
                self._tasks[path] = found
        return found

    def processes(self, pod_uid: str, container_id: str | None = None) -> list[int]:
        """Pids of the pod's, or one container's, living processes, cgroups below included; 0 for one outside of our PID namespace."""
        path = self._path(pod_uid, container_id)
        return [] if path is None else list(_processes(path))

    def oom_kills(self, pod_uid: str, container_id: str) -> int:
        """How many processes of a container were killed because its memory, or the machine's, was used up.

        0 where nobody counts that: the memory controller is not in this tree, nor has the container a cgroup of the same path in version
        1's. The count is there until the cgroup is removed.
        """
        path = self._path(pod_uid, container_id)
        if path is None:
            return 0
        kills = oom_kills(path)
        if kills == 0 and MEMORY in self.controllers.legacy:
            kills = oom_kills(self.controllers.twin(MEMORY, path))
        return kills

    def usage(self, pod_uid: str, container_id: str | None = None) -> Usage | None:
        """What a pod, or one of its containers, has used; None when it has no cgroup. May be called in any thread."""
        if self.base is None:
            return None
        base = self.base if not self.older else self._pod(pod_uid).parent
        # As text: there may be hundreds to look at, and a Path costs as much as reading a file.
        tops = self._tops.get(base)
        if tops is None:
            twins = {name: str(twin) for name, twin in self.controllers.twins(base).items()}
            tops = self._tops[base] = (str(base), twins.get(CPU), twins.get(MEMORY), twins.get(PIDS))
        below = f"/{POD_PREFIX}{pod_uid}" + (f"/{container_id}" if container_id is not None else "")
        unified, *legacy = (None if top is None else top + below for top in tops)
        return read(Places(str(unified), *legacy))

    def name(self, pod_uid: str, container_id: str | None = None) -> str:
        """The path of a pod's or a container's cgroup from the top of its tree; "" where there are no cgroups."""
        path, mount = self._path(pod_uid, container_id), self.layout.mount
        return "" if path is None or mount is None else f"/{path.relative_to(mount)}"

    def kill_pod(self, pod_uid: str) -> None:
        """SIGKILL to every process of the pod. Returns before they are gone; a pod without cgroup is fine.

        Raises:
            StepError: the kernel refuses.
        """
        self._kill(self._path(pod_uid, None))

    def kill_container(self, pod_uid: str, container_id: str) -> None:
        """SIGKILL to every process of one container, as `kill_pod`."""
        self._kill(self._path(pod_uid, container_id))

    def create_below(self, pod_uid: str, container_id: str) -> int | None:
        """Make a cgroup below a container's (`container_id` is a path); a descriptor as `create_container` gives it.

        None when the container has no cgroup (any more): then nothing is made.

        Raises:
            StepError: it cannot be made.
        """
        path = self._path(pod_uid, container_id)
        if path is None:
            return None
        try:
            os.mkdir(path)
            return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StepError("make cgroup", str(path), error.errno or 0) from error

    def drop(self, pod_uid: str, container_id: str) -> bool:
        """Remove a cgroup below a container's (`container_id` is a path) unless somebody is in it; whether it is gone."""
        path = self._path(pod_uid, container_id)
        if path is None:
            return True
        try:
            os.rmdir(path)
        except FileNotFoundError:
            return True
        except OSError:
            return False
        return True

    def keep(self, pod_uid: str, container_id: str) -> None:
        """Mark a cgroup below a container's: its processes may stay."""
        path = self._path(pod_uid, container_id)
        if path is not None:
            with contextlib.suppress(OSError):
                os.setxattr(path, KEPT, b"1")

    def below(self, pod_uid: str, container_id: str) -> dict[str, bool]:
        """The names of the cgroups below a container's, and whether each was marked by `keep`."""
        path = self._path(pod_uid, container_id)
        if path is None or not path.is_dir():
            return {}
        names = [entry.name for entry in os.scandir(path) if entry.is_dir(follow_symlinks=False)]
        return {name: _is_kept(path / name) for name in names}

    def remove_container(self, pod_uid: str, container_id: str, *, patience: float = PATIENCE) -> None:
        """Kill what is left in a container's cgroup, wait until it is empty, remove it.

        Args:
            patience: seconds to wait for killed processes.

        Raises:
            NsrunError: a process cannot be killed; it names the pids.
        """
        self._remove(self._path(pod_uid, container_id), patience)

    def remove_pod(self, pod_uid: str, *, patience: float = PATIENCE) -> None:
        """As `remove_container`, for the whole pod."""
        self._remove(self._path(pod_uid, None), patience)

    def pods(self) -> list[str]:
        """Uids of the pods that have a cgroup."""
        if self.base is None:
            return []
        return [uid for base in (self.base, *self.older) for uid in _pods(base)]

    def collect(self, alive: Collection[str]) -> list[str]:
        """Remove the cgroups, and kill what lives in them, of pods that are not in `alive` (uids); the uids that went.

        A base without any pod goes, too; the next pod makes it again.
        """
        gone = [uid for uid in self.pods() if uid not in alive]
        for uid in gone:
            self.kill_pod(uid)
        for uid in gone:
            self.remove_pod(uid)
        for base in [] if self.base is None else [self.base, *self.older]:
            if not _pods(base):
                self._remove_base(base)
        return gone

    def close(self, *, remove: bool = False) -> None:
        """With `remove` every pod's cgroup goes, and the base. Without any pod their unit of systemd ends."""
        if remove:
            self.collect(())
        if self._unit is not None and self._unit.is_dir() and not self.pods():
            unit.stop(self._unit)
        for path in list(self._tasks):
            self._forget(path)

    def _forget(self, path: Path) -> None:
        """Close what `tasks` opened of a cgroup and those below it."""
        for one in [known for known in list(self._tasks) if known.is_relative_to(path)]:
            for fd in self._tasks.pop(one, {}).values():
                os.close(fd)

    def _remove_base(self, base: Path) -> None:
        try:
            for twin in self.controllers.twins(base).values():
                with contextlib.suppress(FileNotFoundError):
                    os.rmdir(twin)
            os.rmdir(base)
        except FileNotFoundError:
            pass
        except OSError as error:
            # A pod was made meanwhile, or the base is a mount point.
            if error.errno not in (errno.EBUSY, errno.ENOTEMPTY):
                raise StepError("remove cgroup", str(base), error.errno or 0) from error

    def _pod(self, pod_uid: str) -> Path:
        assert self.base is not None
        name = f"{POD_PREFIX}{pod_uid}"
        for older in self.older:
            if (older / name).is_dir():
                return older / name
        return self.base / name

    def _path(self, pod_uid: str, container_id: str | None) -> Path | None:
        if self.base is None:
            return None
        return self._pod(pod_uid) / container_id if container_id is not None else self._pod(pod_uid)

    def _make(self, path: Path) -> None:
        if self._unit is not None and path.is_relative_to(self._unit) and not (self._unit_seen and self._unit.is_dir()):
            # Before this server's first pod, or somebody stopped it, and that ended them all.
            unit.make(self._unit)
            self._unit_seen = True
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StepError(
                "make cgroup", str(path), error.errno or 0, what="the container cannot be held together"
            ) from error

    def _kill(self, path: Path | None) -> None:
        if path is None:
            return
        try:
            if self.layout.kill:
                _write(path / "cgroup.kill", "1")
            else:
                _kill_frozen(path)
        except FileNotFoundError:
            return
        except OSError as error:
            if error.errno != errno.ENODEV:
                raise StepError("kill cgroup", str(path), error.errno or 0) from error

    def _remove(self, path: Path | None, patience: float) -> None:
        if path is None:
            return
        deadline = time.monotonic() + patience
        self._forget(path)
        while True:
            try:
                for twin in self.controllers.twins(path).values():
                    _remove_tree(twin)
                _remove_tree(path)
                return
            except OSError as error:
                if error.errno != errno.EBUSY:
                    raise StepError("remove cgroup", str(path), error.errno or 0) from error
            self._kill(path)
            if not _wait_for(path, "populated", "0", deadline - time.monotonic()):
                pids = ", ".join(map(str, _processes(path)))
                raise NsrunError(
                    f"cannot remove cgroup {path}: processes {pids} do not end {patience:.0f} s after SIGKILL",
                    details="A process in uninterruptible sleep (state D in ps) waits for a device or a network file system.",
                    resolution="See what it waits for: cat /proc/PID/stack. Then take the pod down again.",
                    code="step",
                )


def _legacy(layout: Layout) -> dict[str, Path]:
    if layout.kind != "hybrid":
        return {}
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        return legacy_mounts(file)


def _is_kept(path: Path) -> bool:
    try:
        return bool(os.getxattr(path, KEPT))
    except OSError:
        return False


def _remove_tree(path: Path) -> None:
    for directory, _, _ in os.walk(path, topdown=False):
        try:
            os.rmdir(directory)
        except FileNotFoundError:
            continue


def _processes(path: Path) -> Iterator[int]:
    for directory, _, _ in os.walk(path):
        try:
            with open(os.path.join(directory, "cgroup.procs"), encoding="ascii") as file:
                yield from [int(line) for line in file]
        except OSError as error:
            # Gone meanwhile (ENODEV while open), or a threaded cgroup, whose processes its parent lists.
            if error.errno not in (errno.ENOENT, errno.ENODEV, errno.EOPNOTSUPP):
                raise


def _kill_frozen(path: Path) -> None:
    """What cgroup.kill does, for kernels before it: nobody forks while frozen, and SIGKILL reaches the frozen."""
    _write(path / "cgroup.freeze", "1")
    try:
        _wait_for(path, "frozen", "1", 1.0)
        for pid in _processes(path):
            try:
                if pid > 0:
                    os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
    finally:
        _write(path / "cgroup.freeze", "0")


def _wait_for(path: Path, key: str, value: str, seconds: float) -> bool:
    """Sleep until a line `key value` stands in cgroup.events: the kernel wakes a poll(2) for POLLPRI on each change (cgroups(7))."""
    deadline = time.monotonic() + seconds
    try:
        fd = os.open(path / "cgroup.events", os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return True
    try:
        poll = select.poll()
        poll.register(fd, select.POLLPRI)
        while True:
            # Read before poll: reading is also what arms the next wake-up.
            if f"{key} {value}" in os.pread(fd, 4096, 0).decode("ascii").splitlines():
                return True
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            poll.poll(left * 1000)
    except OSError as error:
        if error.errno == errno.ENODEV:
            return True
        raise
    finally:
        os.close(fd)


def _write(path: Path, text: str) -> None:
    with open(path, "w", encoding="ascii") as file:
        file.write(text)
