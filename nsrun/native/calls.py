"""System calls under their kernel names.

Each raises OSError with the kernel's errno; its text begins with the call's name and its filename is the path it was about.
Descriptors that are answered are close-on-exec and the caller's to close.
"""

from __future__ import annotations

import fcntl
import os

from nsrun._native import ffi, lib

TYPE_CHECKING = False
if TYPE_CHECKING:
    StrPath = str | bytes | os.PathLike[str]

_SEALS = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE


def answer(call: str, result: int, path: StrPath | None = None) -> int:
    """`result`, or OSError when it is a negative errno."""
    if result >= 0:
        return result
    text = f"{call}: {os.strerror(-result)}"
    raise OSError(-result, text) if path is None else OSError(-result, text, os.fspath(path))


def unshare(flags: int) -> None:
    """Give the calling thread namespaces of its own (unshare(2)); `flags` are CLONE_NEW*."""
    answer("unshare", lib.sys_unshare(flags))


def setns(fd: int, flags: int = 0) -> None:
    """Enter a namespace by its descriptor, or those of a pidfd that `flags` (CLONE_NEW*) name (setns(2))."""
    answer("setns", lib.sys_setns(fd, flags))


def pidfd_open(pid: int, flags: int = 0) -> int:
    """Make a descriptor for a process (pidfd_open(2))."""
    return answer("pidfd_open", lib.sys_pidfd_open(pid, flags), str(pid))


def pidfd_send_signal(pidfd: int, signal: int) -> None:
    """Signal the process behind a pidfd (pidfd_send_signal(2)). ESRCH: it has ended and been waited for."""
    answer("pidfd_send_signal", lib.sys_pidfd_send_signal(pidfd, signal))


def pidfd_getfd(pidfd: int, fd: int) -> int:
    """Duplicate descriptor `fd` of another process into this one (pidfd_getfd(2))."""
    return answer("pidfd_getfd", lib.sys_pidfd_getfd(pidfd, fd))


def open_tree(path: StrPath, flags: int, dir_fd: int | None = None) -> int:
    """Open a mount, or with OPEN_TREE_CLONE make a detached copy of it (open_tree(2)). Always close-on-exec."""
    return answer("open_tree", lib.sys_open_tree(_at(dir_fd), os.fsencode(path), flags | lib.OPEN_TREE_CLOEXEC), path)


def move_mount(from_fd: int, to: StrPath, flags: int | None = None, dir_fd: int | None = None) -> None:
    """Attach the mount of `from_fd` at `to` (move_mount(2)); `flags` are MOVE_MOUNT_F_EMPTY_PATH when not given."""
    how = lib.MOVE_MOUNT_F_EMPTY_PATH if flags is None else flags
    answer("move_mount", lib.sys_move_mount(from_fd, b"", _at(dir_fd), os.fsencode(to), how), to)


def mount_setattr(
    path: StrPath,
    *,
    attr_set: int = 0,
    attr_clr: int = 0,
    propagation: int = 0,
    recursive: bool = False,
    dir_fd: int | None = None,
    userns_fd: int = -1,
) -> None:
    """Change a mount's MOUNT_ATTR_* and propagation (mount_setattr(2)). An empty path is the mount of `dir_fd` itself."""
    flags = (lib.AT_RECURSIVE if recursive else 0) | (0 if os.fspath(path) else lib.AT_EMPTY_PATH)
    result = lib.sys_mount_setattr(_at(dir_fd), os.fsencode(path), flags, attr_set, attr_clr, propagation, userns_fd)
    answer("mount_setattr", result, path)


def fsopen(fstype: str) -> int:
    """Start to configure a new file system (fsopen(2)). ENODEV: this kernel does not have the type."""
    return answer("fsopen", lib.sys_fsopen(fstype.encode(), lib.FSOPEN_CLOEXEC), fstype)


def fsconfig_string(fs_fd: int, key: str, value: str | bytes) -> None:
    """Set an option with a value, at most 255 bytes long (fsconfig(2), FSCONFIG_SET_STRING)."""
    answer("fsconfig", lib.sys_fsconfig(fs_fd, lib.FSCONFIG_SET_STRING, key.encode(), os.fsencode(value), 0), key)


def fsconfig_flag(fs_fd: int, key: str) -> None:
    """Set an option without a value (fsconfig(2), FSCONFIG_SET_FLAG)."""
    answer("fsconfig", lib.sys_fsconfig(fs_fd, lib.FSCONFIG_SET_FLAG, key.encode(), ffi.NULL, 0), key)


def fsconfig_create(fs_fd: int) -> None:
    """Make the file system that was configured (fsconfig(2), FSCONFIG_CMD_CREATE)."""
    answer("fsconfig", lib.sys_fsconfig(fs_fd, lib.FSCONFIG_CMD_CREATE, ffi.NULL, ffi.NULL, 0))


def fsmount(fs_fd: int, attributes: int = 0) -> int:
    """Make a detached mount of it; `attributes` are MOUNT_ATTR_* (fsmount(2))."""
    return answer("fsmount", lib.sys_fsmount(fs_fd, lib.FSMOUNT_CLOEXEC, attributes))


def mount(
    source: StrPath | None, target: StrPath, fstype: str | None, flags: int = 0, data: str | bytes | None = None
) -> None:
    """mount(2); `flags` are MS_*."""
    result = lib.sys_mount(
        ffi.NULL if source is None else ffi.from_buffer(os.fsencode(source) + b"\0"),
        os.fsencode(target),
        ffi.NULL if fstype is None else ffi.from_buffer(fstype.encode() + b"\0"),
        flags,
        ffi.NULL if data is None else ffi.from_buffer(os.fsencode(data) + b"\0"),
    )
    answer("mount", result, target)


def umount2(target: StrPath, flags: int = 0) -> None:
    """umount2(2); `flags` are MNT_* and UMOUNT_NOFOLLOW."""
    answer("umount2", lib.sys_umount2(os.fsencode(target), flags), target)


def pivot_root(new_root: StrPath, put_old: StrPath) -> None:
    """pivot_root(2)."""
    answer("pivot_root", lib.sys_pivot_root(os.fsencode(new_root), os.fsencode(put_old)), new_root)


def openat2(path: StrPath, flags: int, *, mode: int = 0, resolve: int = 0, dir_fd: int | None = None) -> int:
    """Open with rules for how the path may be resolved (openat2(2)); `resolve` are RESOLVE_*. Always close-on-exec."""
    result = lib.sys_openat2(_at(dir_fd), os.fsencode(path), flags | os.O_CLOEXEC, mode, resolve)
    return answer("openat2", result, path)


def close_range(first: int, last: int = 0xFFFFFFFF, flags: int = 0) -> None:
    """Close descriptors, or mark them close-on-exec with CLOSE_RANGE_CLOEXEC (close_range(2))."""
    answer("close_range", lib.sys_close_range(first, last, flags))


def fs_user(uid: int, gid: int) -> None:
    """Whose what the calling thread makes from here on is (setfsuid(2), setfsgid(2)); its capabilities stay."""
    answer("setfsuid", lib.nsrun_fs_user(uid, gid))


def syncfs(fd: int) -> None:
    """Write everything of the file system that `fd` lies on to its disk (syncfs(2))."""
    answer("syncfs", lib.nsrun_syncfs(fd))


def only_read_files() -> None:
    """Have the calling thread, and what it starts, write, make, remove and execute no file any more (landlock(7)).

    Descriptors that are open stay as they are. no_new_privs has to be set. OSError where the kernel has no Landlock (5.13).
    """
    answer("landlock_restrict_self", lib.nsrun_only_read_files())


def inotify_init1(flags: int = 0) -> int:
    """Make an inotify instance (inotify_init1(2)). Always close-on-exec. EMFILE: fs.inotify.max_user_instances."""
    return answer("inotify_init1", lib.nsrun_inotify_init1(flags | lib.IN_CLOEXEC))


def inotify_add_watch(fd: int, path: StrPath, mask: int) -> int:
    """Watch a path for IN_* events; answers the watch's number (inotify_add_watch(2)). ENOSPC: fs.inotify.max_user_watches."""
    return answer("inotify_add_watch", lib.nsrun_inotify_add_watch(fd, os.fsencode(path), mask), path)


def capget(pid: int = 0) -> tuple[int, int, int]:
    """(effective, permitted, inheritable) capability sets of a process as bit masks; 0 is the calling thread (capget(2))."""
    sets = ffi.new("uint64_t[3]")
    answer("capget", lib.nsrun_capabilities(pid, sets, sets + 1, sets + 2))
    return sets[0], sets[1], sets[2]


def memfd(data: bytes, name: str) -> int:
    """Make a sealed file in memory that holds `data`: whoever gets the descriptor can rely on it staying so (memfd_create(2))."""
    fd = os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(fd, view) :]
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _SEALS)
    except BaseException:
        os.close(fd)
        raise
    return fd


def unwritable(path: StrPath) -> int:
    """Open a program so that whoever runs it cannot be used to overwrite it.

    A process that enters a container can be made to execute /proc/self/exe, and root in there could then open that file for writing,
    which is the machine's own (CVE-2019-5736). Executed as /proc/self/fd/N of this descriptor, the program lies on a read-only mount
    that no mount namespace holds, so that nobody can make it writable.

    Raises:
        OSError: EPERM without CAP_SYS_ADMIN.
    """
    fd = open_tree(path, lib.OPEN_TREE_CLONE)
    try:
        mount_setattr("", attr_set=lib.MOUNT_ATTR_RDONLY, dir_fd=fd)
    except BaseException:
        os.close(fd)
        raise
    return fd


def _at(dir_fd: int | None) -> int:
    return lib.AT_FDCWD if dir_fd is None else dir_fd
