"""Archives (tar, also with gzip, bzip2 or xz) to root directories, without trust in who made them.

Every name is taken apart and followed from the new root directory downwards without ever going through a symbolic link, so no entry can
lead out, whatever was unpacked before it. An archive with a name, a link or a device that has no business in a root file system is
refused as a whole.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import tarfile
from pathlib import Path
from typing import IO

from nsrun import native
from nsrun.errors import SpecError, StepError, errno_text
from nsrun.images.trees import MAX_DEPTH, keeps_attribute

_CHUNK = 1 << 20
_ZSTD = b"\x28\xb5\x2f\xfd"
_XATTR = "SCHILY.xattr."
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Unpack:
    """Unpacks one archive into a fresh, empty directory that nobody else can reach.

    Args:
        archive: path of the archive.
        target: the directory.
    """

    def __init__(self, archive: str, target: Path) -> None:
        self._archive = archive
        self._target = target
        self._root = -1
        self._times: dict[tuple[str, ...], tuple[int, float]] = {}
        self._may_chown = os.geteuid() == 0
        self.size = 0
        self.digest = ""

    def run(self) -> None:
        """Unpacks; `size` and `digest` (64 hexadecimal digits, of the archive's bytes) are known afterwards.

        Raises:
            SpecError: it is not an archive, or not one of a root file system, or has something in it that must not be.
            StepError: it cannot be read, or the disk is full.
        """
        try:
            with open(self._archive, "rb") as file:
                self.digest = hashlib.file_digest(file, "sha256").hexdigest()
                file.seek(0)
                self._root = os.open(self._target, _DIRECTORY)
                try:
                    self._unpack(file)
                finally:
                    os.close(self._root)
        except OSError as error:
            raise StepError("import", error.filename or self._archive, error.errno or 0) from error

    def _unpack(self, file: IO[bytes]) -> None:
        magic = file.read(4)
        file.seek(0)
        if magic == _ZSTD:
            raise SpecError(
                f"cannot import {self._archive}: it is compressed with zstd",
                resolution=f"Unpack it first: zstd -d {self._archive}",
            )
        try:
            with tarfile.open(fileobj=file, mode="r:*", errorlevel=2) as archive:
                for member in archive:
                    self._member(archive, member)
        except (tarfile.TarError, EOFError, ValueError, OverflowError) as error:
            # Several lines: what each decompressor has against it, where none of them could begin.
            why = "" if "\n" in str(error) else f": {error}"
            raise SpecError(
                f"cannot import {self._archive}: not a whole tar archive{why}",
                details="Understood are tar archives, also compressed with gzip, bzip2 or xz.",
            ) from error
        except OSError as error:
            # The decompressors report bad data as OSError without errno.
            if error.errno is None:
                raise SpecError(f"cannot import {self._archive}: not a whole tar archive: {error}") from error
            raise
        self._finish_directories()

    def _refuse(self, member: tarfile.TarInfo, why: str) -> SpecError:
        return SpecError(
            f"cannot import {self._archive}: the entry {member.name!r} {why}",
            details="Nothing was imported. An archive made from a root file system has no such entry.",
        )

    def _steps(self, member: tarfile.TarInfo, name: str) -> tuple[str, ...]:
        """The components of a name, checked."""
        steps = tuple(step for step in name.split("/") if step not in ("", "."))
        if name.startswith("/"):
            raise self._refuse(member, "has an absolute name")
        if ".." in steps or "\0" in name:
            raise self._refuse(member, "leads out of the root directory")
        if len(steps) > MAX_DEPTH:
            raise self._refuse(member, f"is more than {MAX_DEPTH} directories deep")
        return steps

    def _parent(self, member: tarfile.TarInfo, steps: tuple[str, ...]) -> int:
        """A descriptor of the directory that holds the entry; missing ones are made, links are never followed."""
        path = "/".join(steps[:-1]) or "."
        resolve = native.lib.RESOLVE_BENEATH | native.lib.RESOLVE_NO_SYMLINKS
        try:
            return native.openat2(path, _DIRECTORY, resolve=resolve, dir_fd=self._root)
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.ENOTDIR):
                raise self._refuse(member, "lies behind a symbolic link or a file") from None
            if error.errno != errno.ENOENT:
                raise
        fd = os.dup(self._root)
        try:
            for step in steps[:-1]:
                with contextlib.suppress(FileExistsError):
                    os.mkdir(step, 0o755, dir_fd=fd)
                try:
                    inner = os.open(step, _DIRECTORY, dir_fd=fd)
                except OSError as error:
                    if error.errno in (errno.ELOOP, errno.ENOTDIR):
                        raise self._refuse(member, "lies behind a symbolic link or a file") from None
                    raise
                os.close(fd)
                fd = inner
        except BaseException:
            os.close(fd)
            raise
        return fd

    def _member(self, archive: tarfile.TarFile, member: tarfile.TarInfo) -> None:
        steps = self._steps(member, member.name)
        if not steps:
            if not member.isdir():
                raise self._refuse(member, "is the root and not a directory")
            self._directory(member, (), self._root)
            return
        if (member.ischr() or member.isblk()) and steps[0] == "dev":
            return  # a container has a /dev of its own
        if member.ischr() or member.isblk():
            raise self._refuse(member, "is a device node")
        parent = self._parent(member, steps)
        try:
            self._make(archive, member, steps, parent)
        except OSError as error:
            if error.errno is not None and error.filename is None:
                error.filename = member.name
            raise
        finally:
            os.close(parent)

    def _make(self, archive: tarfile.TarFile, member: tarfile.TarInfo, steps: tuple[str, ...], parent: int) -> None:
        name = steps[-1]
        if member.isdir():
            self._make_directory(member, steps, parent)
            return
        with contextlib.suppress(FileNotFoundError):
            try:
                os.unlink(name, dir_fd=parent)  # a later entry replaces an earlier one
            except IsADirectoryError:
                raise self._refuse(member, "replaces a directory by something else") from None
        if member.issym():
            if "\0" in member.linkname or not member.linkname:
                raise self._refuse(member, "is a symbolic link to nothing")
            os.symlink(member.linkname, name, dir_fd=parent)
            self._own(member, name, parent)
        elif member.islnk():
            self._hard_link(member, name, parent)
        elif member.isfifo():
            os.mkfifo(name, 0o600, dir_fd=parent)
            self._own(member, name, parent)
            os.chmod(name, member.mode & 0o7777, dir_fd=parent)
        elif member.isreg():
            self._file(archive, member, name, parent)
        else:
            raise self._refuse(member, f"is of the unknown type {member.type!r}")

    def _make_directory(self, member: tarfile.TarInfo, steps: tuple[str, ...], parent: int) -> None:
        with contextlib.suppress(FileExistsError):
            os.mkdir(steps[-1], 0o700, dir_fd=parent)
        try:
            fd = os.open(steps[-1], _DIRECTORY, dir_fd=parent)
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.ENOTDIR):
                raise self._refuse(member, "is a directory in the place of something else") from None
            raise
        try:
            self._directory(member, steps, fd)
        finally:
            os.close(fd)

    def _directory(self, member: tarfile.TarInfo, steps: tuple[str, ...], fd: int) -> None:
        if self._may_chown:
            os.fchown(fd, member.uid, member.gid)
        self._attributes(member, fd)
        # Mode and time last, when nothing is written into it any more.
        self._times[steps] = (member.mode & 0o7777, member.mtime)

    def _finish_directories(self) -> None:
        for steps in sorted(self._times, key=len, reverse=True):
            mode, mtime = self._times[steps]
            fd = native.openat2(
                "/".join(steps) or ".",
                _DIRECTORY,
                resolve=native.lib.RESOLVE_BENEATH | native.lib.RESOLVE_NO_SYMLINKS,
                dir_fd=self._root,
            )
            try:
                os.fchmod(fd, mode)
                with contextlib.suppress(OverflowError):
                    os.utime(fd, (mtime, mtime))
            finally:
                os.close(fd)

    def _hard_link(self, member: tarfile.TarInfo, name: str, parent: int) -> None:
        target = self._steps(member, member.linkname)
        if not target:
            raise self._refuse(member, "is a hard link to the root")
        holder = self._parent(member, target)
        try:
            os.link(target[-1], name, src_dir_fd=holder, dst_dir_fd=parent, follow_symlinks=False)
        except FileNotFoundError:
            raise self._refuse(member, f"is a hard link to {member.linkname!r}, which is not there") from None
        except PermissionError:
            raise self._refuse(member, f"is a hard link to {member.linkname!r}, which is no file") from None
        finally:
            os.close(holder)

    def _file(self, archive: tarfile.TarFile, member: tarfile.TarInfo, name: str, parent: int) -> None:
        reader = archive.extractfile(member)
        assert reader is not None
        fd = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=parent)
        with reader, open(fd, "wb", buffering=0) as writer:
            while data := reader.read(_CHUNK):
                view = memoryview(data)
                while view:
                    view = view[writer.write(view) :]
                self.size += len(data)
            if self._may_chown:
                os.fchown(fd, member.uid, member.gid)
            os.fchmod(fd, member.mode & 0o7777)  # after the owner: chown takes set-user-ID away
            self._attributes(member, fd)
            with contextlib.suppress(OverflowError):
                os.utime(fd, (member.mtime, member.mtime))

    def _own(self, member: tarfile.TarInfo, name: str, parent: int) -> None:
        if self._may_chown:
            os.chown(name, member.uid, member.gid, dir_fd=parent, follow_symlinks=False)

    def _attributes(self, member: tarfile.TarInfo, fd: int) -> None:
        for key, value in member.pax_headers.items():
            name = key.removeprefix(_XATTR)
            if name != key and keeps_attribute(name):
                try:
                    os.setxattr(fd, name, value.encode("utf-8", "surrogateescape"))
                except OSError as error:
                    raise self._refuse(member, f"has the attribute {name}: {errno_text(error.errno or 0)}") from error
