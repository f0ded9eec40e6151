"""Where everything lies below a root directory, and the check that nobody else can write there."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path

from nsrun.errors import NsrunError, PermissionDeniedError, StepError, errno_text

PRIVATE = 0o700
"""Mode of every directory that nsrun makes for itself."""
LOGS_MARK = ".nsrun"
"""Empty file in a pod's log directory: it was made by nsrun."""


@dataclass(frozen=True, slots=True)
class PodPaths:
    """The directory of one pod, `run/pods/<uid>`, and what lies in it.

    Args:
        directory: gone with a reboot, as the pod's namespaces are.
        roots: the containers' root file systems, one directory per instance; on disk, for what they write must not eat memory.
        disk_volumes: the volumes of the pod that are kept on disk, for the same reason.
    """

    directory: Path
    roots: Path
    disk_volumes: Path

    @property
    def wish(self) -> Path:
        """pod.json: the pod as it was asked for. It is there = the pod exists."""
        return self.directory / "pod.json"

    @property
    def ledger(self) -> Path:
        """ledger.json: what must outlive shims and servers."""
        return self.directory / "ledger.json"

    @property
    def shim_lock(self) -> Path:
        """shim.lock: held by the shim for its life."""
        return self.directory / "shim.lock"

    @property
    def shim_socket(self) -> Path:
        """shim.sock: where the shim listens."""
        return self.directory / "shim.sock"

    @property
    def containers(self) -> Path:
        """The records that the shim keeps of its containers."""
        return self.directory / "containers"

    @property
    def jobs(self) -> Path:
        """What the shim keeps of hooks that run, or ran, in its containers."""
        return self.directory / "jobs"

    @property
    def files(self) -> Path:
        """hosts, hostname and resolv.conf of the pod."""
        return self.directory / "files"

    @property
    def shm(self) -> Path:
        """What the containers of the pod share as /dev/shm."""
        return self.directory / "shm"

    @property
    def pause(self) -> Path:
        """Where the first process of a shared PID namespace has its empty root; an empty directory for everybody else."""
        return self.directory / "pause"

    @property
    def memory_volumes(self) -> Path:
        """Where the volumes of the pod that are kept in memory are mounted."""
        return self.directory / "volumes"

    def root(self, instance_id: str) -> Path:
        """The overlay directories of one instance."""
        return self.roots / instance_id


@dataclass(frozen=True, slots=True)
class Layout:
    """The four directories of a server.

    Args:
        run: gone with a reboot: socket, lock, pods.
        lib: survives a reboot: images, address leases.
        log: the containers' logs in CRI layout.
        etc: configuration.
        base: the directory given with --root, or None for the machine's own places.
    """

    run: Path
    lib: Path
    log: Path
    etc: Path
    base: Path | None = None

    @staticmethod
    def at(root: str | os.PathLike[str] | None) -> Layout:
        """The layout below `root`, or the machine's own for None."""
        if root is None:
            return Layout(Path("/run/nsrun"), Path("/var/lib/nsrun"), Path("/var/log"), Path("/etc/nsrun"))
        base = Path(os.path.abspath(root))
        return Layout(base / "run", base / "lib", base / "log", base / "etc", base)

    @property
    def lock(self) -> Path:
        """flock held by the server."""
        return self.run / "lock"

    @property
    def socket(self) -> Path:
        """The control socket."""
        return self.run / "nsrun.sock"

    @property
    def server_log(self) -> Path:
        """What the server has to say."""
        return self.run / "server.log"

    @property
    def dns(self) -> Path:
        """What the resolver of pods' names answers from; there while there is one."""
        return self.run / "dns"

    @property
    def pods(self) -> Path:
        """One directory per pod."""
        return self.run / "pods"

    @property
    def pod_logs(self) -> Path:
        """`<namespace>_<name>_<uid>` directories."""
        return self.log / "pods"

    @property
    def log_links(self) -> Path:
        """`<name>_<namespace>_<container>-<id>.log`: links to the log of each instance, which log collectors follow (S-LOG)."""
        return self.log / "containers"

    @property
    def config(self) -> Path:
        """The configuration file; it need not exist."""
        return self.etc / "config.toml"

    @property
    def manifests(self) -> Path:
        """Manifests of the pods that run as long as these lie here; it need not exist."""
        return self.etc / "manifests"

    @property
    def seccomp(self) -> Path:
        """Seccomp profiles that pods name (`type: Localhost`); it need not exist."""
        return self.etc / "seccomp"

    @property
    def roots(self) -> Path:
        """One directory per pod, with what its containers write into their root file systems."""
        return self.lib / "roots"

    @property
    def volumes(self) -> Path:
        """One directory per pod, with those of its volumes that are kept on disk; made with the first."""
        return self.lib / "volumes"

    @property
    def persistent(self) -> Path:
        """The volumes of nsrun's own that were made for claims, each below its name; they outlive pods and reboots."""
        return self.lib / "persistent"

    @property
    def objects(self) -> Path:
        """ConfigMaps and the like; on disk, so they outlive a reboot."""
        return self.lib / "objects"

    @property
    def secrets(self) -> Path:
        """Secrets, and what instances were made of them; always in memory (`nsrun.state.objects.ObjectStore`)."""
        return self.run / "objects"

    @property
    def versions(self) -> Path:
        """Where the versions of objects begin that this server gives."""
        return self.run / "versions"

    @property
    def kept(self) -> Path:
        """Objects that are kept until the next start of the machine: Events of clients, Leases."""
        return self.run / "kept"

    def pod(self, uid: str) -> PodPaths:
        """The directories of the pod with this uid."""
        return PodPaths(self.pods / uid, self.roots / uid, self.volumes / uid)

    def logs_of(self, namespace: str, name: str, uid: str) -> Path:
        """Log directory of a pod (S-LOG)."""
        return self.pod_logs / f"{namespace}_{name}_{uid}"

    def mark_logs(self, directory: Path) -> None:
        """Note that a pod's log directory is of nsrun, where others have theirs beside it: /var/log/pods is the kubelet's, too.

        Raises:
            OSError: the mark cannot be made.
        """
        if self.base is None:
            os.close(os.open(directory / LOGS_MARK, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644))

    def own_logs(self, directory: Path) -> bool:
        """Whether a directory below `pod_logs` is of this layout's server, which alone may remove it."""
        return self.base is not None or (directory / LOGS_MARK).exists()

    def let_in(self, group: int | None) -> None:
        """Have a group get as far as the control socket, and no further; None: nobody.

        Raises:
            StepError: it cannot be done.
        """
        try:
            if group is None:
                if stat.S_IMODE(os.lstat(self.run).st_mode) != PRIVATE:
                    os.chmod(self.run, PRIVATE)
                return
            for directory in (self.base, self.run):
                facts = None if directory is None else os.lstat(directory)
                if directory is not None and facts is not None and not facts.st_mode & stat.S_IXOTH:
                    os.chown(directory, -1, group)
                    os.chmod(directory, stat.S_IMODE(facts.st_mode) | stat.S_IXGRP)  # noqa: S103 - to go through, no more
        except OSError as error:
            raise StepError("let a group into", str(error.filename), error.errno or 0) from error

    def prepare(self) -> None:
        """Make the directories that are missing and check the others.

        Raises:
            PermissionDeniedError: one of them belongs to somebody else or others may write in it.
            StepError: one cannot be made.
        """
        if self.base is not None:
            _make(self.base, PRIVATE, check=False)
        _make(self.run, PRIVATE, group_pass=True)
        for directory in (self.pods, self.lib, self.roots):
            _make(directory, PRIVATE)
        if self.base is not None:
            _make(self.log, PRIVATE)
        else:
            _make(self.log, 0o755, check=False)
        _make(self.pod_logs, 0o755 if self.base is None else PRIVATE, group_read=True)


def check_private(path: Path, *, group_read: bool = False, group_pass: bool = False) -> None:
    """Raise unless `path` is a directory of the calling user that nobody else can write in (nor, without `group_read`, read).

    `group_pass`: its group may go through it.

    Raises:
        PermissionDeniedError: wrong owner or mode; says which and the command that puts it right.
    """
    facts = os.lstat(path)
    if not stat.S_ISDIR(facts.st_mode):
        raise PermissionDeniedError(
            f"state directory {path} is not a directory",
            resolution="Move it out of the way, or choose another place with --root DIR or NSRUN_ROOT.",
        )
    me = os.geteuid()
    if facts.st_uid != me:
        raise PermissionDeniedError(
            f"state directory {path} belongs to uid {facts.st_uid}, and this is uid {me}",
            details="Who owns the state directory decides what runs as root, so nsrun uses only its own.",
            resolution=f"chown {me} {path} if you trust what is in it, or choose another place with --root DIR.",
        )
    forbidden = 0o022 if group_read else 0o077
    mode = stat.S_IMODE(facts.st_mode)
    if mode & forbidden and not (group_pass and mode == PRIVATE | stat.S_IXGRP):
        wanted = mode & ~forbidden
        raise PermissionDeniedError(
            f"state directory {path} has mode {mode:04o}, and others must have no access to it",
            details="Whoever can write there can have anything run as root.",
            resolution=f"chmod {wanted:04o} {path}",
        )


def _make(path: Path, mode: int, *, check: bool = True, group_read: bool = False, group_pass: bool = False) -> None:
    try:
        os.makedirs(path.parent, mode=0o755, exist_ok=True)
        try:
            os.mkdir(path, mode)
            os.chmod(path, mode)
        except FileExistsError:
            if check:
                check_private(path, group_read=group_read, group_pass=group_pass)
    except PermissionError as error:
        raise _not_allowed(path, error) from error
    except OSError as error:
        raise StepError("make the directory", str(error.filename or path), error.errno or 0) from error


def _not_allowed(path: Path, error: OSError) -> NsrunError:
    who = "" if os.geteuid() == 0 else f" as uid {os.geteuid()}"
    return PermissionDeniedError(
        f"make the directory {path}{who}: {errno_text(error.errno or 0)}",
        details=None if os.geteuid() == 0 else "Namespaces, mounts and addresses of pods need root.",
        resolution="Run it as root: sudo nsrun ...",
    )
