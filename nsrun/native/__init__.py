"""The kernel from Python: the op interpreter of csrc/program.c and the system calls that the standard library lacks.

Everything comes from the cffi module `nsrun._native`, whose numbers the C compiler filled in. Calls have the kernel's names, raise OSError
with the kernel's errno and say which call it was. Importing this costs about a millisecond, so every command may.
"""

from __future__ import annotations

from os import path as _path

from nsrun._native import ffi, lib
from nsrun.native.calls import (
    capget,
    close_range,
    fs_user,
    fsconfig_create,
    fsconfig_flag,
    fsconfig_string,
    fsmount,
    fsopen,
    inotify_add_watch,
    inotify_init1,
    memfd,
    mount,
    mount_setattr,
    move_mount,
    only_read_files,
    open_tree,
    openat2,
    pidfd_getfd,
    pidfd_open,
    pidfd_send_signal,
    pivot_root,
    setns,
    syncfs,
    umount2,
    unshare,
    unwritable,
)
from nsrun.native.program import Child, ProgramError, RawOp, apply, clone3, decode, encode, flags, run
from nsrun.native.record import Record, Report, record_of, report_of, unpack_record


def shim_path() -> str:
    """The shim's executable, built into the package."""
    return _path.join(_path.dirname(_path.dirname(_path.abspath(__file__))), "bin", "nsrun-shim")


def pause_path() -> str:
    """The executable of the first process in a PID namespace that a pod's containers share, built into the package."""
    return _path.join(_path.dirname(shim_path()), "nsrun-pause")


__all__ = [
    "Child",
    "ProgramError",
    "RawOp",
    "Record",
    "Report",
    "apply",
    "capget",
    "clone3",
    "close_range",
    "decode",
    "encode",
    "ffi",
    "flags",
    "fs_user",
    "fsconfig_create",
    "fsconfig_flag",
    "fsconfig_string",
    "fsmount",
    "fsopen",
    "inotify_add_watch",
    "inotify_init1",
    "lib",
    "memfd",
    "mount",
    "mount_setattr",
    "move_mount",
    "only_read_files",
    "open_tree",
    "openat2",
    "pause_path",
    "pidfd_getfd",
    "pidfd_open",
    "pidfd_send_signal",
    "pivot_root",
    "record_of",
    "report_of",
    "run",
    "setns",
    "shim_path",
    "syncfs",
    "umount2",
    "unpack_record",
    "unshare",
    "unwritable",
]
