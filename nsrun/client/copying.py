"""Copies files and trees between this machine and a container, without a program in the container.

What is in the container belongs to somebody who may want to lead us astray while we walk: names from the command line are
resolved inside of the container's root (openat2, RESOLVE_IN_ROOT); below them each directory is opened by its name alone and
never through a symbolic link, and a file appears by a rename, so that nothing that stands under its name is written through.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
from collections.abc import Callable, Iterator
from typing import NamedTuple, Protocol

from nsrun.errors import NsrunError, StepError, UsageError

CHUNK = 1 << 30
BLOCK = 1 << 20
MAX_DEPTH = 250
"""Directories within directories: each is open while what is in it is copied."""
LINKS_KEPT = 200
"""Files with several names that are held open, so that their other names become links as well."""
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NO_RANGE = (errno.EXDEV, errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS, errno.EBADF, errno.ETXTBSY, errno.EPERM)


class Side(Protocol):
    """Where names from the command line are resolved.

    Attributes:
        root_id: what root is there, as this machine counts: not 0 where the pod has users of its own.
    """

    root_id: int

    def open(self, path: str, flags: int) -> int:
        """A descriptor of what `path` names; OSError when there is no such thing."""

    def named(self, path: str) -> str:
        """The path as it stands in messages."""


class Here:
    """This machine."""

    root_id = 0

    def open(self, path: str, flags: int) -> int:
        """As open(2)."""
        return os.open(path, flags | os.O_CLOEXEC)

    def named(self, path: str) -> str:
        """The path itself."""
        return path


class Inside:
    """A container.

    Args:
        root: descriptor of its root directory; stays the caller's.
        label: what stands before the colon in messages.
        workdir: where relative paths begin.
        root_id: what its root is, as this machine counts.
    """

    def __init__(self, root: int, label: str, workdir: str, root_id: int = 0) -> None:
        self._root, self._label, self._workdir = root, label, workdir
        self.root_id = root_id

    def open(self, path: str, flags: int) -> int:
        """Open below the container's root, wherever symbolic links and `..` lead."""
        from nsrun import native

        resolve = native.lib.RESOLVE_IN_ROOT | native.lib.RESOLVE_NO_MAGICLINKS
        return native.openat2(os.path.join(self._workdir, path), flags, dir_fd=self._root, resolve=resolve)

    def named(self, path: str) -> str:
        """POD:PATH."""
        return f"{self._label}:{path}"


class Copied(NamedTuple):
    """What was done.

    Attributes:
        files, directories, links: how many of each; bytes of the files.
        skipped: devices, sockets and named pipes, which are not copied.
    """

    files: int
    directories: int
    links: int
    bytes: int
    skipped: int


Owner = tuple[int, int]
"""uid and gid, as this machine counts."""


def copy(
    source: Side, path: str, target: Side, to: str, owner: Owner | None, on_skipped: Callable[[str], None]
) -> Copied:
    """Copy as cp(1) and docker cp do.

    A target that is a directory gets what is copied under its own name; a directory whose path ends in `/.` is copied without
    itself. A link that is named is followed, links below it are copied as links.

    Args:
        source, target: the sides.
        path, to: names on them.
        owner: whose what is made is; None keeps the source's owners, as each side counts them, and set-id bits.
        on_skipped: called with the path of each thing that cannot be copied.

    Raises:
        UsageError: a directory is to be copied over a file, or the like.
        StepError: what failed on what.
    """
    if not target.root_id:
        return _copy(source, path, target, to, owner, on_skipped)

    def as_its_root() -> Copied:
        from nsrun import native

        # Nobody but the pod's users can own what is made on its mounts, not even for a moment.
        native.fs_user(target.root_id, target.root_id)
        return _copy(source, path, target, to, owner, on_skipped)

    from concurrent.futures import ThreadPoolExecutor

    # The thread is somebody else from then on, and ends with the copy.
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="nsrun-cp") as thread:
        return thread.submit(as_its_root).result()


def _copy(
    source: Side, path: str, target: Side, to: str, owner: Owner | None, on_skipped: Callable[[str], None]
) -> Copied:
    with contextlib.ExitStack() as stack:
        found = _opened(source, path, os.O_PATH)
        stack.callback(os.close, found)
        status = os.fstat(found)
        directory = stat.S_ISDIR(status.st_mode)
        if not directory and not stat.S_ISREG(status.st_mode):
            raise UsageError(f"{source.named(path)} is neither a file nor a directory, but {_kind(status.st_mode)}")
        contents = directory and (path.endswith("/.") or path == ".")
        into, name = _place(target, to, "" if contents else os.path.basename(os.path.normpath(path)), directory, stack)
        copier = Copier(owner, target.root_id - source.root_id, on_skipped)
        try:
            # The magic link is one of our own process: it leads to what has been looked at, whatever its name means by now.
            # O_NONBLOCK: files of proc may have nothing to read until something happens.
            kind = os.O_DIRECTORY if directory else os.O_NONBLOCK
            with _step("open", source.named(path)):
                opened = os.open(f"/proc/self/fd/{found}", os.O_RDONLY | os.O_CLOEXEC | kind)
            if not directory:
                copier.file(opened, into, name, status, source.named(path))
            elif name:
                copier.directory(opened, into, name, status, source.named(path))
            else:
                copier.contents(opened, into, source.named(path.removesuffix("/.")))
        finally:
            copier.close()
        return copier.done


def _opened(side: Side, path: str, flags: int) -> int:
    try:
        return side.open(path, flags)
    except OSError as error:
        raise StepError("open", side.named(path), error.errno or 0) from error


def _place(target: Side, to: str, base: str, directory: bool, stack: contextlib.ExitStack) -> tuple[int, str]:
    """(descriptor of the directory, name in it) under which the copy is made; no name: into the directory itself."""
    try:
        fd = target.open(to, os.O_RDONLY | os.O_DIRECTORY)
    except NotADirectoryError:
        if directory:
            raise UsageError(
                f"{target.named(to)} is a file, and a directory cannot be copied over it",
                resolution="Name another target, or remove the file.",
            ) from None
        if to.endswith("/"):
            raise UsageError(f"{target.named(to)} is no directory") from None
    except FileNotFoundError:
        if to.endswith("/") and not directory:
            raise UsageError(
                f"{target.named(to)} is no directory: it does not exist", resolution="Make it first, or name a file."
            ) from None
    except OSError as error:
        raise StepError("open", target.named(to), error.errno or 0) from error
    else:
        stack.callback(os.close, fd)
        return fd, base
    parent, name = os.path.split(to.rstrip("/"))
    fd = _opened(target, parent or ".", os.O_RDONLY | os.O_DIRECTORY)
    stack.callback(os.close, fd)
    return fd, name


def _kind(mode: int) -> str:
    for test, words in (
        (stat.S_ISFIFO, "a named pipe"),
        (stat.S_ISSOCK, "a socket"),
        (stat.S_ISCHR, "a character device"),
        (stat.S_ISBLK, "a block device"),
    ):
        if test(mode):
            return words
    return "something else"


class Copier:
    """Copies one tree. `done` counts.

    Args:
        owner: whose all of it is to be; None keeps owners.
        shift: what is added to an owner that is kept.
        on_skipped: called with the path of what is not copied.
    """

    def __init__(self, owner: Owner | None, shift: int, on_skipped: Callable[[str], None]) -> None:
        self._owner = owner
        self._shift = shift
        self._on_skipped = on_skipped
        self._links: dict[tuple[int, int], int] = {}
        self._range = True
        self._depth = 0
        self._files = self._directories = self._symlinks = self._bytes = self._skipped = 0

    @property
    def done(self) -> Copied:
        """What has been done so far."""
        return Copied(self._files, self._directories, self._symlinks, self._bytes, self._skipped)

    def close(self) -> None:
        """Let go of the files with several names."""
        for fd in self._links.values():
            os.close(fd)
        self._links.clear()

    def directory(self, source: int, into: int, name: str, status: os.stat_result, label: str) -> None:
        """Copy the directory `source`, whose descriptor is closed, to `name` in the directory `into`."""
        try:
            with _step("mkdir", label):
                made = True
                try:
                    os.mkdir(name, 0o700, dir_fd=into)
                except FileExistsError:
                    made = False
                try:
                    target = os.open(name, _DIRECTORY, dir_fd=into)
                except NotADirectoryError:
                    raise UsageError(
                        f"{label} is a directory, and under its name there is something else at the target already"
                    ) from None
        except BaseException:
            os.close(source)
            raise
        try:
            self.contents(source, target, label)
            if made:
                # Last: it may become one in which nothing can be made, and whose time is not to be changed again.
                with _step("set owner and mode of", label):
                    self._dress(target, status)
            self._directories += 1
        finally:
            os.close(target)

    def contents(self, source: int, target: int, label: str) -> None:
        """Copy all that is in the directory `source`, whose descriptor is closed, into the directory `target`."""
        self._depth += 1
        try:
            if self._depth > MAX_DEPTH:
                raise NsrunError(
                    f"cannot copy {label[:80]}…: it is more than {MAX_DEPTH} directories deep",
                    details="What was copied before it stays.",
                    resolution="Name a directory further down, or have it packed: nsrun pod exec POD -- tar c PATH | tar x",
                    code="step",
                )
            with _step("read directory", label):
                names = os.listdir(source)
            for name in names:
                self._entry(source, target, name, f"{label}/{name}")
        finally:
            self._depth -= 1
            os.close(source)

    def _entry(self, source: int, target: int, name: str, label: str) -> None:
        try:
            status = os.stat(name, dir_fd=source, follow_symlinks=False)
        except FileNotFoundError:
            # Somebody removed it since the directory was read.
            return
        if stat.S_ISREG(status.st_mode):
            with _step("open", label):
                # O_NONBLOCK: a named pipe that has taken its place by now would never open.
                fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=source)
            self.file(fd, target, name, status, label)
        elif stat.S_ISDIR(status.st_mode):
            with _step("open", label):
                fd = os.open(name, _DIRECTORY, dir_fd=source)
            self.directory(fd, target, name, status, label)
        elif stat.S_ISLNK(status.st_mode):
            with _step("copy the link", label):
                text = os.readlink(name, dir_fd=source)
                self._under_its_name(target, name, lambda other: os.symlink(text, other, dir_fd=target))
                self._dress_link(target, name, status)
            self._symlinks += 1
        else:
            self._skipped += 1
            self._on_skipped(f"{label} ({_kind(status.st_mode)})")

    def file(self, source: int, into: int, name: str, status: os.stat_result, label: str) -> None:
        """Copy the file `source`, whose descriptor is closed, to `name` in the directory `into`."""
        try:
            with _step("copy", label):
                status = os.fstat(source)
                if not stat.S_ISREG(status.st_mode):
                    raise UsageError(f"{label} is a file no more: it was exchanged while it was copied")
                known = self._links.get((status.st_dev, status.st_ino))
                if known is not None:
                    self._under_its_name(
                        into, name, lambda other: os.link(f"/proc/self/fd/{known}", other, dst_dir_fd=into)
                    )
                    self._files += 1
                    return
                self._new_file(source, into, name, status)
        finally:
            os.close(source)
        self._files += 1

    def _new_file(self, source: int, into: int, name: str, status: os.stat_result) -> None:
        other = _beside()
        target = os.open(other, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=into)
        try:
            try:
                self._pour(source, target, status.st_size)
                self._dress(target, status)
                try:
                    os.rename(other, name, src_dir_fd=into, dst_dir_fd=into)
                except OSError as error:
                    if error.errno != errno.EBUSY:
                        raise
                    # Something is mounted on the file, as on /etc/hosts: it can be written, and not exchanged.
                    self._write_over(source, into, name, status)
                    os.unlink(other, dir_fd=into)
            except BaseException:
                with contextlib.suppress(OSError):
                    os.unlink(other, dir_fd=into)
                raise
            if status.st_nlink > 1 and len(self._links) < LINKS_KEPT:
                self._links[status.st_dev, status.st_ino] = os.dup(target)
        finally:
            os.close(target)

    def _write_over(self, source: int, into: int, name: str, status: os.stat_result) -> None:
        fd = os.open(name, os.O_WRONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=into)
        try:
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))
            os.ftruncate(fd, 0)
            os.lseek(source, 0, os.SEEK_SET)
            self._pour(source, fd, status.st_size)
        finally:
            os.close(fd)

    def _under_its_name(self, into: int, name: str, make: Callable[[str], None]) -> None:
        """Make something that takes the place of what has the name."""
        other = _beside()
        make(other)
        try:
            os.rename(other, name, src_dir_fd=into, dst_dir_fd=into)
            # Two names of one file: rename(2) does nothing, and leaves both.
            with contextlib.suppress(FileNotFoundError):
                os.unlink(other, dir_fd=into)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(other, dir_fd=into)
            raise

    def _pour(self, source: int, target: int, size: int) -> None:
        """The bytes, holes left as holes."""
        if size:
            for start, stop in _data(source, size):
                os.lseek(target, start, os.SEEK_SET)
                self._part(source, target, start, stop)
            # A hole at the end; or it has become shorter since it was looked at.
            size = min(size, os.fstat(source).st_size)
            os.ftruncate(target, size)
        else:
            # Files of proc and sys say that they are empty.
            while block := os.read(source, BLOCK):
                size += len(block)
                view = memoryview(block)
                while view:
                    view = view[os.write(target, view) :]
        self._bytes += size

    def _part(self, source: int, target: int, at: int, stop: int) -> None:
        while at < stop:
            count = 0
            if self._range:
                try:
                    count = os.copy_file_range(source, target, min(stop - at, CHUNK), at, at)
                except OSError as error:
                    if error.errno not in _NO_RANGE:
                        raise
                    self._range = False
                    continue
            else:
                count = os.sendfile(target, source, at, min(stop - at, CHUNK))
            if not count:
                # It has become shorter.
                break
            at += count

    def _dress(self, fd: int, status: os.stat_result) -> None:
        """Owner, mode and times of what was made. Owner first: chown takes set-id bits away."""
        mode = stat.S_IMODE(status.st_mode)
        if self._owner is not None:
            # Somebody else's program would become one that runs as the new owner.
            mode &= ~(stat.S_ISUID | stat.S_ISGID)
        os.chown(fd, *self._owner_of(status))
        os.fchmod(fd, mode)
        os.utime(fd, ns=(status.st_atime_ns, status.st_mtime_ns))

    def _dress_link(self, into: int, name: str, status: os.stat_result) -> None:
        with contextlib.suppress(FileNotFoundError):
            os.chown(name, *self._owner_of(status), dir_fd=into, follow_symlinks=False)

    def _owner_of(self, status: os.stat_result) -> Owner:
        return self._owner or (status.st_uid + self._shift, status.st_gid + self._shift)


def _beside() -> str:
    """A name that nobody has."""
    return f".nsrun-cp-{secrets.token_hex(8)}"


def _data(fd: int, size: int) -> Iterator[tuple[int, int]]:
    """The parts of a file that are no holes."""
    at = 0
    while at < size:
        try:
            start = os.lseek(fd, at, os.SEEK_DATA)
            stop = os.lseek(fd, start, os.SEEK_HOLE)
        except OSError as error:
            if error.errno == errno.ENXIO:
                # Nothing but a hole from here on.
                return
            # A file system that does not know of holes.
            yield at, size
            return
        yield start, min(stop, size)
        at = stop


@contextlib.contextmanager
def _step(what: str, label: str) -> Iterator[None]:
    """An error of the system, with what was done on what."""
    try:
        yield
    except NsrunError:
        raise
    except OSError as error:
        failure = StepError(what, label, error.errno or 0)
        if error.errno == errno.EROFS:
            # Of the target, whichever side that is: nsrun's own root has nothing to do with it.
            failure.resolution = "Name a target that can be written to; in a container, a volume for instance."
        raise failure from error
