"""Files that change all at once (S-ATOMIC; Kubernetes pkg/volume/util/atomic_writer.go).

Whoever opens a file by way of its name finds all files as they were, or all as they are:

    key       -> ..data/key
    ..data    -> ..2026_11_22_20_00_00.123456789/
    ..2026_11_22_20_00_00.123456789/key
"""

from __future__ import annotations

import contextlib
import os
import secrets
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from nsrun.plan import VolumeFile
from nsrun.volumes.errors import VolumeError

DATA, NEW_DATA = "..data", "..data_tmp"
_LONGEST_NAME, _LONGEST_PATH = 255, 4096
_DIRECTORY_MODE = 0o755
_GROUP_READS, _GROUP_ENTERS = 0o440, 0o2110


def write_files(
    target: Path,
    files: Mapping[str, VolumeFile],
    now: float,
    remove_tree: Callable[[Path], None],
    group: int | None = None,
) -> bool:
    """Have these files, and no others, below `target`; whether anything changed. What an earlier call left half-done is cleared away.

    Args:
        target: a directory of nobody else's.
        files: by path, relative and clean.
        now: seconds since the epoch, for the name of the directory.
        remove_tree: removes a directory without following links.
        group: fsGroup: all belongs to it, and it may read all.

    Raises:
        VolumeError: a path that cannot be.
        OSError: they cannot be written; then the old ones are all there.
    """
    for path in files:
        _check(path)
        for parent in _parents(path):
            if parent in files:
                raise VolumeError(f"invalid path: {parent} is a file, and {path} is to lie in it")
    place = os.fspath(target)
    current = _current(place)
    changed = current is None or _contents(f"{place}/{current}") != {path: one.data for path, one in files.items()}
    if changed:
        stamp = time.strftime("..%Y_%m_%d_%H_%M_%S", time.gmtime(now))
        fresh = f"{stamp}.{secrets.randbelow(10**9):09d}"
        try:
            _write(f"{place}/{fresh}", files, group)
            with contextlib.suppress(FileNotFoundError):
                os.unlink(f"{place}/{NEW_DATA}")
            os.symlink(fresh, f"{place}/{NEW_DATA}")
            os.rename(f"{place}/{NEW_DATA}", f"{place}/{DATA}")
        except BaseException:
            remove_tree(Path(place, fresh))
            raise
        current = fresh
    names = os.listdir(place)
    _links(place, names, {path.partition("/")[0] for path in files}, group)
    _sweep(place, names, str(current), remove_tree)
    return changed


def _check(path: str) -> None:
    names = path.split("/")
    problem = ""
    if not path or path.startswith("/") or {"", "."} & set(names):
        problem = "must be relative and clean"
    elif len(os.fsencode(path)) > _LONGEST_PATH:
        problem = f"must be less than or equal to {_LONGEST_PATH} characters"
    elif ".." in names:
        problem = "must not contain '..'"
    elif any(len(os.fsencode(name)) > _LONGEST_NAME for name in names):
        problem = f"filenames must be less than or equal to {_LONGEST_NAME} characters"
    elif names[0].startswith(".."):
        problem = "must not start with '..'"
    if problem:
        raise VolumeError(f"invalid path: {problem}: {path}")


def _parents(path: str) -> list[str]:
    """The directories that a file lies in, the topmost first."""
    names = path.split("/")
    return ["/".join(names[:depth]) for depth in range(1, len(names))]


def _current(place: str) -> str | None:
    try:
        return os.readlink(f"{place}/{DATA}")
    except FileNotFoundError:
        return None


def _contents(directory: str) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    for parent, _, names in os.walk(directory):
        for name in names:
            path = os.path.join(parent, name)
            with open(path, "rb") as file:
                found[os.path.relpath(path, directory)] = file.read()
    return found


def _write(directory: str, files: Mapping[str, VolumeFile], group: int | None) -> None:
    _make(directory, group)
    made = {""}
    for path, content in sorted(files.items()):
        for parent in _parents(path):
            if parent not in made:
                made.add(parent)
                _make(f"{directory}/{parent}", group)
        fd = os.open(f"{directory}/{path}", os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            view = memoryview(content.data)
            while view:
                view = view[os.write(fd, view) :]
            if group is not None:
                os.fchown(fd, -1, group)
            os.fchmod(fd, content.mode | (_GROUP_READS if group is not None else 0))
        finally:
            os.close(fd)


def _make(directory: str, group: int | None) -> None:
    os.mkdir(directory, 0o700)
    if group is not None:
        os.chown(directory, -1, group)
    os.chmod(directory, _DIRECTORY_MODE | (_GROUP_READS | _GROUP_ENTERS if group is not None else 0))


def _links(place: str, names: list[str], wanted: set[str], group: int | None) -> None:
    """The names that users see: those that are new, then without those that went."""
    there = {name for name in names if not name.startswith("..")}
    for name in wanted - there:
        os.symlink(f"{DATA}/{name}", f"{place}/{name}")
        if group is not None:
            os.chown(f"{place}/{name}", -1, group, follow_symlinks=False)
    for name in there - wanted:
        if os.path.islink(f"{place}/{name}"):
            os.unlink(f"{place}/{name}")


def _sweep(place: str, names: list[str], current: str, remove_tree: Callable[[Path], None]) -> None:
    for name in names:
        if name.startswith("..") and name not in (DATA, current):
            if os.path.islink(f"{place}/{name}"):
                os.unlink(f"{place}/{name}")
            else:
                remove_tree(Path(place, name))
