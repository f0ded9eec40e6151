"""Layers (tar archives) to directories that overlayfs can stack, without trust in who made them.

Every name is taken apart and followed from the new directory downwards without ever going through a symbolic link, so no entry can lead
out, whatever was unpacked before it. An archive with a name, a link or a device that has no business in a root file system is refused
as a whole. Whiteouts and opaque directories (OCI image-spec layer.md) become those of overlayfs.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator, Sequence

from nsrun import native
from nsrun.errors import SpecError, StepError, errno_text
from nsrun.images import tar
from nsrun.images.compression import CompressionError
from nsrun.images.merged import HAS_WHITEOUTS, OPAQUE, Merged
from nsrun.images.tar import Entry, Source, TarError, TarReader, TooManyError
from nsrun.images.trees import MAX_DEPTH, keeps_attribute

MAX_DIRECTORIES = 500_000
"""Directories of one layer."""
MAX_NAMES = 128 << 20
"""Bytes of the names of one layer's directories and whiteouts, which are kept until its end: 250 for each of that many directories."""
_MAX_PATH = 4000
_MAX_ID = (1 << 32) - 2  # the last one means "leave it" to chown(2)
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_NIX = "/nix/"
"""Nix's dockerTools writes absolute names in its layers (nixpkgs stream_layered_image.py), below this alone; to be taken from the root."""
_WHITEOUT, _OPAQUE, _RESERVED = b".wh.", b".wh..wh..opq", b".wh..wh."
_OPEN_DIRECTORIES = 64
_CHUNK = 1 << 20
_MAX_LINKS = 10_000

Steps = tuple[bytes, ...]


class NeedsBelow(Exception):  # noqa: N818  not an error of anybody's: unpack it again, with the layers below
    """A hard link to a file of a layer below, or a way through a symbolic link there."""


class Unpack:
    """Unpacks one layer into a fresh, empty directory that nobody else can reach.

    Args:
        source: the archive, decompressed.
        target: the directory.
        subject: what errors begin with, such as `cannot import /tmp/x.tar`.
        below: the layers that it lies on, topmost first; None where they are not there yet.
    """

    def __init__(self, source: Source, target: str, *, subject: str, below: Sequence[str] | None = ()) -> None:
        self._source = source
        self._target = os.fsencode(target)
        self._subject = subject
        self._below = None if below is None else Merged(below)
        self._root = -1
        self._open: dict[Steps, int] = {}
        self._moved: dict[Steps, Steps] = {}
        """Directories of this layer's names that lie elsewhere, because a layer below has a symbolic link of the name."""
        self._directories: dict[bytes, tuple[int, int] | None] = {}
        self._whiteouts: set[bytes] = set()
        self._opaque: set[bytes] = set()
        """Directories that show nothing of those below."""
        self._names = 0
        self._links = 0
        self._may_chown = os.geteuid() == 0
        self.size = 0
        """Bytes of its files."""
        self.entries = 0
        self.opaque = False
        """The whole layer hides what is below."""
        self.depends = False
        """What was made depends on the layers below."""

    @property
    def implicit(self) -> list[str]:
        """The directories that no entry describes: "" is the root."""
        return [os.fsdecode(path) for path, facts in self._directories.items() if facts is None]

    def run(self) -> None:
        """Unpacks.

        Raises:
            SpecError: it is not an archive, or not one of a root file system, or has something in it that must not be.
            StepError: it cannot be read, or the disk is full.
            NeedsBelow: only without `below`.
        """
        try:
            self._root = os.open(self._target, _DIRECTORY)
            self._directories[b""] = None
            try:
                reader = TarReader(self._source)
                for entry in reader:
                    self.entries += 1
                    self._entry(reader, entry)
                self._finish_directories()
            finally:
                for fd in self._open.values():
                    os.close(fd)
                os.close(self._root)
        except TooManyError as error:
            raise SpecError(
                f"{self._subject}: {error}", details="Nothing was kept. No layer of an image needs so many."
            ) from error
        except (TarError, CompressionError) as error:
            raise SpecError(
                f"{self._subject}: not a whole tar archive: {error}",
                details="Understood are tar archives, also compressed with gzip, bzip2, xz or zstd.",
            ) from error
        except OSError as error:
            name = os.fsdecode(error.filename) if error.filename else ""
            raise StepError("unpack", name, error.errno or 0, what=self._subject) from error

    def _refuse(self, entry: Entry, why: str) -> SpecError:
        shown = os.fsdecode(entry.name)
        return SpecError(
            f"{self._subject}: the entry {shown!r} {why}",
            details="Nothing was kept. An archive made from a root file system has no such entry.",
        )

    def _steps(self, entry: Entry, name: bytes) -> Steps:
        """The components of a name, checked."""
        if name.startswith(b"/") and not f"{os.fsdecode(name)}/".startswith(_NIX):
            raise self._refuse(entry, "has an absolute name")
        parts = name.split(b"/")
        if b"" in parts or b"." in parts:
            parts = [step for step in parts if step not in (b"", b".")]
        steps = tuple(parts)
        if b".." in steps:
            raise self._refuse(entry, "leads out of the root directory")
        if len(steps) > MAX_DEPTH:
            raise self._refuse(entry, f"is more than {MAX_DEPTH} directories deep")
        if len(name) > 255 and (len(name) > _MAX_PATH or any(len(step) > 255 for step in steps)):
            raise self._refuse(entry, "has too long a name")
        return steps

    # --- directories -----------------------------------------------------------------------------------------------------

    def _directory(self, entry: Entry, steps: Steps) -> int:
        """A descriptor of a directory, which stays this object's; missing ones are made. Links are never followed.

        Directories are never removed or replaced while a layer is unpacked, so what was opened once stays right (see `_hide` for one
        that is a link below).
        """
        if not steps:
            return self._root
        fd = self._open.get(steps)
        if fd is not None:
            return fd
        fd = self._open_directory(entry, steps)
        while len(self._open) >= _OPEN_DIRECTORIES:
            os.close(self._open.pop(next(iter(self._open))))
        self._open[steps] = fd
        return fd

    def _open_directory(self, entry: Entry, steps: Steps) -> int:
        path = b"/".join(steps)
        resolve = native.lib.RESOLVE_BENEATH | native.lib.RESOLVE_NO_SYMLINKS
        try:
            return native.openat2(path, _DIRECTORY, resolve=resolve, dir_fd=self._root)
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.ENOTDIR):
                if not any(b"/".join(steps[: depth + 1]) in self._whiteouts for depth in range(len(steps))):
                    raise self._refuse(entry, "lies behind a symbolic link or a file") from None
            elif error.errno != errno.ENOENT:
                raise
        if len(steps) > 1:
            self._directory(entry, steps[:-1])
            real = self._settled(steps)
            if real != steps:
                return os.dup(self._directory(entry, real))
        elsewhere = self._behind_link(entry, steps)
        if elsewhere is not None:
            self._moved[steps] = elsewhere
            return os.dup(self._directory(entry, elsewhere))
        self._new_directory(entry, steps, 0o755)
        return os.open(steps[-1], _DIRECTORY, dir_fd=self._directory(entry, steps[:-1]))

    def _keep(self, path: bytes) -> None:
        """Count a name that is to be remembered: with long ones and little data, an archive could fill the memory."""
        self._names += len(path)
        if self._names > MAX_NAMES:
            raise SpecError(
                f"{self._subject}: the names of its directories and whiteouts have more than {MAX_NAMES} bytes"
            )

    def _settled(self, steps: Steps) -> Steps:
        """The same entry by the path at which its directory really lies, which has been opened."""
        if not self._moved:
            return steps
        done: Steps = ()
        for step in steps[:-1]:
            done = (*done, step)
            done = self._moved.get(done, done)
        return (*done, steps[-1])

    def _hide(self, steps: Steps) -> None:
        """An entry takes the place of something below: if that was a link, no name leads through it any more."""
        if steps in self._moved:
            depth = len(steps)
            self._moved = {name: to for name, to in self._moved.items() if name[:depth] != steps}
            for name in [name for name in self._open if name[:depth] == steps]:
                os.close(self._open.pop(name))

    def _behind_link(self, entry: Entry, steps: Steps) -> Steps | None:
        """Where a directory that is not in this layer really is, when the layers below have a symbolic link of its name.

        As a runtime has it that unpacks onto the mounted layers below (containerd); the link is followed inside their root.
        """
        path = b"/".join(steps)
        if self._below is None or not self._shows_below(steps):
            return None
        found = self._below.find(path)
        kind = 0 if found is None else os.lstat(found).st_mode
        if found is None or stat.S_ISDIR(kind):
            return None
        self._links += 1
        target = self._below.target(path) if self._links <= _MAX_LINKS and stat.S_ISLNK(kind) else None
        there = None if target is None else self._below.find(b"/".join(target))
        if target is None or (there is not None and not stat.S_ISDIR(os.lstat(there).st_mode)):
            raise self._refuse(entry, "lies behind a file or a broken link of a layer below")
        self.depends = True
        return target

    def _new_directory(self, entry: Entry, steps: Steps, mode: int) -> bool:
        """Makes a directory unless it is there; whether it was made."""
        parent, name, path = self._directory(entry, steps[:-1]), steps[-1], b"/".join(steps)
        if len(self._directories) > MAX_DIRECTORIES:
            raise SpecError(f"{self._subject}: it has more than {MAX_DIRECTORIES} directories")
        try:
            os.mkdir(name, mode, dir_fd=parent)
        except FileExistsError:
            if path not in self._whiteouts:
                if path not in self._directories:
                    raise self._refuse(entry, "is a directory in the place of something else") from None
                return False
            # It is gone below, and another one is here: all that the one below had is hidden.
            self._whiteouts.discard(path)
            os.unlink(name, dir_fd=parent)
            os.mkdir(name, mode, dir_fd=parent)
            self._set_opaque(steps)
            self._directories[path] = (0o755, 0)  # described, as it were: it does not look as the one below did
        else:
            self._keep(path)
            self._directories[path] = None
        if self._may_chown:
            status = os.stat(name, dir_fd=parent, follow_symlinks=False)
            if status.st_uid or status.st_gid:
                os.chown(name, 0, 0, dir_fd=parent, follow_symlinks=False)
        return True

    def _shows_below(self, steps: Steps) -> bool:
        """Whether what the layers below have at a path is not hidden by what this one has had so far."""
        above = (b"/".join(steps[:depth]) for depth in range(len(steps)))
        return b"/".join(steps) not in self._whiteouts and (not self._opaque or self._opaque.isdisjoint(above))

    def _set_opaque(self, steps: Steps) -> None:
        self._opaque.add(b"/".join(steps))
        if not steps:
            self.opaque = True
            return
        os.setxattr(os.path.join(self._target, *steps), OPAQUE, b"y", follow_symlinks=False)

    def _describe_directory(self, entry: Entry, steps: Steps) -> None:
        fd = self._directory(entry, steps)
        if self._may_chown:
            status = os.fstat(fd)
            if status.st_uid != entry.uid or status.st_gid != entry.gid:
                os.fchown(fd, entry.uid, entry.gid)
        self._attributes(entry, fd)
        # Mode and time last, when nothing is written into it any more.
        self._directories[b"/".join(steps)] = (entry.mode, entry.mtime)

    def _finish_directories(self) -> None:
        for path in {path.rpartition(b"/")[0] for path in self._whiteouts}:
            os.setxattr(os.path.join(os.fsencode(self._target), path), HAS_WHITEOUTS, b"", follow_symlinks=False)
        for path, facts in self._directories.items():
            mode, mtime = facts or (0o755, 0)
            name = path or b"."
            os.chmod(name, mode, dir_fd=self._root)
            with contextlib.suppress(OverflowError):
                os.utime(name, ns=(mtime, mtime), dir_fd=self._root)

    # --- entries ---------------------------------------------------------------------------------------------------------

    def _entry(self, reader: TarReader, entry: Entry) -> None:
        steps = self._steps(entry, entry.name)
        if entry.type in (tar.CHARACTER, tar.BLOCK_DEVICE):
            if len(steps) > 1 and steps[0] == b"dev":
                return  # a container has a /dev of its own
            raise self._refuse(entry, "is a device node")
        if not 0 <= entry.uid <= _MAX_ID or not 0 <= entry.gid <= _MAX_ID:
            raise self._refuse(entry, f"belongs to {entry.uid}:{entry.gid}")
        if not steps:
            if entry.type != tar.DIRECTORY:
                raise self._refuse(entry, "is the root and not a directory")
            self._describe_directory(entry, ())
            return
        try:
            if len(steps) > 1:
                self._directory(entry, steps[:-1])
                steps = self._settled(steps)
            self._hide(steps)
            if steps[-1].startswith(_WHITEOUT):
                self._whiteout(entry, steps)
            elif entry.type == tar.DIRECTORY:
                if not self._new_directory(entry, steps, 0o700) and self._below is None:
                    path = b"/".join(steps)
                    if self._directories[path] is None:
                        # What the archive had in it so far may lie behind a link below, which only from now on is gone.
                        raise NeedsBelow
                self._describe_directory(entry, steps)
            else:
                self._make(reader, entry, steps)
        except OSError as error:
            if error.errno == errno.ENAMETOOLONG:
                raise self._refuse(entry, "has too long a name") from error
            error.filename = entry.name
            raise

    def _whiteout(self, entry: Entry, steps: Steps) -> None:
        parents, name = steps[:-1], steps[-1]
        if name == _OPAQUE:
            self._directory(entry, parents)
            self._set_opaque(parents)
            return
        if name.startswith(_RESERVED):
            return  # what aufs keeps for itself
        hidden = name[len(_WHITEOUT) :]
        if hidden in (b"", b".", b".."):
            raise self._refuse(entry, "removes nothing that can have a name")
        gone = (*parents, hidden)
        self._hide(gone)
        path = b"/".join(gone)
        if path in self._directories:
            self._set_opaque(gone)
            return
        with contextlib.suppress(FileExistsError):
            os.mknod(hidden, stat.S_IFCHR | 0o600, 0, dir_fd=self._directory(entry, parents))
            self._keep(path)
            self._whiteouts.add(path)

    def _clear(self, entry: Entry, name: bytes, parent: int, steps: Steps) -> None:
        """A later entry replaces an earlier one; a directory is not replaced by anything else."""
        try:
            os.unlink(name, dir_fd=parent)
        except IsADirectoryError:
            if self._below is None and self._directories.get(b"/".join(steps), (0, 0)) is None:
                # What the archive had in it may lie behind a link below, and this takes the link's place.
                raise NeedsBelow from None
            raise self._refuse(entry, "replaces a directory by something else") from None
        self._whiteouts.discard(b"/".join(steps))

    def _make(self, reader: TarReader, entry: Entry, steps: Steps) -> None:
        if entry.type == tar.SYMLINK and not entry.link:
            raise self._refuse(entry, "is a symbolic link to nothing")
        if entry.type == tar.HARD_LINK:
            self._hard_link(entry, steps)
            return
        parent, name = self._directory(entry, steps[:-1]), steps[-1]
        if entry.type == tar.FILE:
            # The mode that it is to have: then there is nothing to change. Nobody else comes here before the layer has its name.
            mode = entry.mode & 0o777
            try:
                fd = os.open(name, _NEW_FILE, mode, dir_fd=parent)
            except FileExistsError:
                self._clear(entry, name, parent, steps)
                fd = os.open(name, _NEW_FILE, mode, dir_fd=parent)
            try:
                self._file(reader, entry, fd)
            finally:
                os.close(fd)
            return
        if entry.type not in (tar.SYMLINK, tar.FIFO):
            raise self._refuse(entry, f"is of the unknown type {entry.type!r}")
        try:
            self._special(entry, name, parent)
        except FileExistsError:
            self._clear(entry, name, parent, steps)
            self._special(entry, name, parent)

    def _special(self, entry: Entry, name: bytes, parent: int) -> None:
        if entry.type == tar.SYMLINK:
            os.symlink(entry.link, name, dir_fd=parent)
        else:
            os.mkfifo(name, 0o600, dir_fd=parent)
        if self._may_chown:
            status = os.stat(name, dir_fd=parent, follow_symlinks=False)
            if status.st_uid != entry.uid or status.st_gid != entry.gid:
                os.chown(name, entry.uid, entry.gid, dir_fd=parent, follow_symlinks=False)
        if entry.type == tar.FIFO:
            os.chmod(name, entry.mode, dir_fd=parent)
        with contextlib.suppress(OverflowError):
            os.utime(name, ns=(entry.mtime, entry.mtime), dir_fd=parent, follow_symlinks=False)

    def _file(self, reader: TarReader, entry: Entry, fd: int) -> None:
        if entry.sparse is None:
            while data := reader.data():
                _write(fd, data)
        else:
            for piece in self._sparse(reader, entry):
                os.lseek(fd, piece[0], os.SEEK_SET)
                _write(fd, piece[1])
            os.ftruncate(fd, entry.size)
        self.size += entry.size
        self._rights(entry, fd)
        if entry.xattrs:
            self._attributes(entry, fd)
        with contextlib.suppress(OverflowError):
            os.utime(fd, ns=(entry.mtime, entry.mtime))

    def _rights(self, entry: Entry, fd: int) -> None:
        """Owner and mode, where a new file's are others: asking costs less than each change, which the disk's journal has to hear of."""
        status = os.fstat(fd)
        changed = self._may_chown and (status.st_uid != entry.uid or status.st_gid != entry.gid)
        if changed:
            os.fchown(fd, entry.uid, entry.gid)
        # After the owner: chown takes set-user-ID away.
        if changed or stat.S_IMODE(status.st_mode) != entry.mode:
            os.fchmod(fd, entry.mode)

    def _sparse(self, reader: TarReader, entry: Entry) -> Iterator[tuple[int, bytes]]:
        data = b""
        for offset, length in entry.sparse or ():
            at, end = offset, offset + length
            while at < end:
                data = data or reader.data()
                yield at, data[: end - at]
                taken = min(end - at, len(data))
                at, data = at + taken, data[taken:]

    def _attributes(self, entry: Entry, fd: int) -> None:
        for key, value in entry.xattrs.items():
            name = os.fsdecode(key)
            if keeps_attribute(name):
                try:
                    os.setxattr(fd, key, value)
                except OSError as error:
                    if error.errno == errno.ENOSPC:
                        raise
                    raise self._refuse(entry, f"has the attribute {name}: {errno_text(error.errno or 0)}") from error

    # --- hard links ------------------------------------------------------------------------------------------------------

    def _hard_link(self, entry: Entry, steps: Steps) -> None:
        target = self._steps(entry, entry.link)
        if not target:
            raise self._refuse(entry, "is a hard link to the root")
        missing = f"is a hard link to {os.fsdecode(entry.link)!r}, which is not there"
        if b"/".join(target) in self._whiteouts:
            raise self._refuse(entry, missing)
        if self._link(entry, target, steps):
            return
        if self._below is None:
            raise NeedsBelow
        if len(target) > 1:
            # The way to it may lead through links below.
            self._directory(entry, target[:-1])
            target = self._settled(target)
        if b"/".join(target) in self._whiteouts:
            raise self._refuse(entry, missing)
        if self._link(entry, target, steps):
            return
        if not self._shows_below(target):
            raise self._refuse(entry, missing)
        self._fetch(entry, target, self._below)
        if not self._link(entry, target, steps):
            raise self._refuse(entry, missing)

    def _link(self, entry: Entry, target: Steps, steps: Steps) -> bool:
        """Makes the link; False where there is nothing to link to."""
        parent, name = self._directory(entry, steps[:-1]), steps[-1]
        resolve = native.lib.RESOLVE_BENEATH | native.lib.RESOLVE_NO_SYMLINKS
        holder = self._root
        try:
            if target[:-1]:
                holder = native.openat2(b"/".join(target[:-1]), _DIRECTORY, resolve=resolve, dir_fd=self._root)
            try:
                os.link(target[-1], name, src_dir_fd=holder, dst_dir_fd=parent, follow_symlinks=False)
            except FileExistsError:
                if target == steps:
                    raise self._refuse(entry, "is a hard link to itself") from None
                self._clear(entry, name, parent, steps)
                os.link(target[-1], name, src_dir_fd=holder, dst_dir_fd=parent, follow_symlinks=False)
        except FileNotFoundError:
            return False
        except PermissionError:
            raise self._refuse(entry, f"is a hard link to {os.fsdecode(entry.link)!r}, which is no file") from None
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.ENOTDIR):
                raise self._refuse(entry, "is a hard link that leads through a symbolic link or a file") from None
            raise
        finally:
            if holder >= 0 and holder != self._root:
                os.close(holder)
        return True

    def _fetch(self, entry: Entry, target: Steps, below: Merged) -> None:
        """Brings a file of a layer below into this one, as it is when it is linked to in an overlay."""
        found = below.find(b"/".join(target))
        if found is None:
            return
        status = os.lstat(found)
        if not stat.S_ISREG(status.st_mode):
            raise self._refuse(entry, f"is a hard link to {os.fsdecode(entry.link)!r}, which is no file")
        self.depends = True
        parent = self._directory(entry, target[:-1])
        fd = os.open(target[-1], _NEW_FILE, 0o600, dir_fd=parent)
        try:
            with open(found, "rb", buffering=0) as reader:
                while data := reader.read(_CHUNK):
                    _write(fd, data)
            if self._may_chown:
                os.fchown(fd, status.st_uid, status.st_gid)
            os.fchmod(fd, stat.S_IMODE(status.st_mode))
            for attribute in os.listxattr(found):
                if keeps_attribute(attribute):
                    os.setxattr(fd, attribute, os.getxattr(found, attribute))
            os.utime(fd, ns=(status.st_mtime_ns, status.st_mtime_ns))
        finally:
            os.close(fd)
        self.size += status.st_size


def _write(fd: int, data: bytes) -> None:
    done = os.write(fd, data)
    while done < len(data):
        done += os.write(fd, memoryview(data)[done:])
