"""hostPath: what has to be at a path of this machine (Kubernetes pkg/volume/hostpath/host_path.go)."""

from __future__ import annotations

import contextlib
import os
import stat

from nsrun.volumes.errors import VolumeError

_KINDS = {
    "Directory": "directory",
    "File": "file",
    "Socket": "socket file",
    "CharDevice": "character device",
    "BlockDevice": "block device",
}


def check_host_path(path: str, kind: str) -> None:
    """Raise unless `path` is what `kind` (hostPath.type) says; ...OrCreate makes what is missing. An empty kind asks for nothing.

    Raises:
        VolumeError: it is something else, or missing, in the kubelet's words.
        OSError: it cannot be made.
    """
    if not kind:
        return
    if kind == "DirectoryOrCreate" and not os.path.exists(path):
        os.makedirs(path, mode=0o755, exist_ok=True)
        return
    if kind == "FileOrCreate" and not os.path.exists(path):
        # O_EXCL: a link that leads nowhere is none to make a file through.
        with contextlib.suppress(FileExistsError):
            os.close(os.open(path, os.O_RDONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644))
            return
    wanted = kind.removesuffix("OrCreate")
    if not os.path.exists(path):
        raise VolumeError(f"hostPath {path} doesn't exist")
    found = _kind_of(os.stat(path).st_mode)
    if not found:
        raise VolumeError(
            f"hostPath type check failed, {path} is not a {_KINDS[wanted]}, unable to determine its type: "
            "only recognise file, directory, socket, block device and character device"
        )
    if found != wanted:
        raise VolumeError(f"hostPath type check failed: {path} is not a {_KINDS[wanted]}, it's a {found}")


def _kind_of(mode: int) -> str:
    tests = {
        "Directory": stat.S_ISDIR,
        "File": stat.S_ISREG,
        "Socket": stat.S_ISSOCK,
        "CharDevice": stat.S_ISCHR,
        "BlockDevice": stat.S_ISBLK,
    }
    return next((name for name, test in tests.items() if test(mode)), "")


def make_missing(path: str) -> None:
    """Make the directory of a hostPath without a type, as runtimes do (containerd internal/cri/opts WithMounts).

    Raises:
        OSError: it cannot be made.
    """
    if not os.path.exists(path):
        os.makedirs(path, mode=0o755, exist_ok=True)
