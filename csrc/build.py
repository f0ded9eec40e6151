# SPDX-License-Identifier: Apache-2.0
"""Makes the cffi module `nsrun._native` (API mode): setup.py finds `ffibuilder` here.

The C headers are the only place where a structure or a number is written down: cffi reads wire.h and native.h themselves,
minus their preprocessor lines, and the constants of the kernel's headers are filled in by the C compiler.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from cffi import FFI

HERE = Path(__file__).resolve().parent

SOURCES = sorted(f"csrc/{path.name}" for path in [*HERE.glob("op_*.c"), HERE / "program.c", HERE / "native.c"])
"""The op interpreter and its caller, relative to setup.py."""

WARNINGS = [
    "-Wall",
    "-Wextra",
    "-Werror",
    "-Wshadow",
    "-Wundef",
    "-Wvla",
    "-Wpointer-arith",
    "-Wwrite-strings",
    "-Wstrict-prototypes",
    "-Wmissing-prototypes",
    "-Wmissing-declarations",
    "-Wold-style-definition",
    "-Wformat=2",
    "-Wimplicit-fallthrough",
    "-Wcast-align",
    "-Winit-self",
]
"""For every C file of ours; a warning is an error under gcc and clang."""


def sanitizer_flags() -> list[str]:
    """Compiler and linker flags that `NSRUN_SANITIZE=address,undefined` asks for."""
    wanted = os.environ.get("NSRUN_SANITIZE", "")
    if not wanted:
        return []
    return [f"-fsanitize={wanted}", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer", "-g"]


CONSTANTS = """
CLONE_NEWCGROUP CLONE_NEWIPC CLONE_NEWNET CLONE_NEWNS CLONE_NEWPID CLONE_NEWTIME CLONE_NEWUSER CLONE_NEWUTS
MS_BIND MS_MOVE MS_NODEV MS_NOEXEC MS_NOSUID MS_PRIVATE MS_RDONLY MS_REC MS_REMOUNT MS_SHARED MS_SLAVE MS_UNBINDABLE
MNT_DETACH MNT_FORCE UMOUNT_NOFOLLOW
MOUNT_ATTR_RDONLY MOUNT_ATTR_NOSUID MOUNT_ATTR_NODEV MOUNT_ATTR_NOEXEC MOUNT_ATTR_NOATIME MOUNT_ATTR_RELATIME
MOUNT_ATTR_STRICTATIME MOUNT_ATTR_NODIRATIME MOUNT_ATTR_NOSYMFOLLOW MOUNT_ATTR_IDMAP MOUNT_ATTR__ATIME
FSOPEN_CLOEXEC FSMOUNT_CLOEXEC FSCONFIG_SET_FLAG FSCONFIG_SET_STRING FSCONFIG_SET_FD FSCONFIG_CMD_CREATE
FSCONFIG_CMD_RECONFIGURE
OPEN_TREE_CLONE OPEN_TREE_CLOEXEC MOVE_MOUNT_F_EMPTY_PATH MOVE_MOUNT_T_EMPTY_PATH MOVE_MOUNT_F_SYMLINKS
MOVE_MOUNT_T_SYMLINKS
AT_EMPTY_PATH AT_RECURSIVE AT_SYMLINK_NOFOLLOW AT_FDCWD
RESOLVE_BENEATH RESOLVE_IN_ROOT RESOLVE_NO_MAGICLINKS RESOLVE_NO_SYMLINKS RESOLVE_NO_XDEV
CLOSE_RANGE_CLOEXEC
RLIMIT_AS RLIMIT_CORE RLIMIT_CPU RLIMIT_DATA RLIMIT_FSIZE RLIMIT_LOCKS RLIMIT_MEMLOCK RLIMIT_MSGQUEUE RLIMIT_NICE
RLIMIT_NOFILE RLIMIT_NPROC RLIMIT_RSS RLIMIT_RTPRIO RLIMIT_RTTIME RLIMIT_SIGPENDING RLIMIT_STACK
CAP_AUDIT_CONTROL CAP_AUDIT_READ CAP_AUDIT_WRITE CAP_BLOCK_SUSPEND CAP_BPF CAP_CHECKPOINT_RESTORE CAP_CHOWN
CAP_DAC_OVERRIDE CAP_DAC_READ_SEARCH CAP_FOWNER CAP_FSETID CAP_IPC_LOCK CAP_IPC_OWNER CAP_KILL CAP_LEASE
CAP_LINUX_IMMUTABLE CAP_MAC_ADMIN CAP_MAC_OVERRIDE CAP_MKNOD CAP_NET_ADMIN CAP_NET_BIND_SERVICE CAP_NET_BROADCAST
CAP_NET_RAW CAP_PERFMON CAP_SETFCAP CAP_SETGID CAP_SETPCAP CAP_SETUID CAP_SYSLOG CAP_SYS_ADMIN CAP_SYS_BOOT
CAP_SYS_CHROOT CAP_SYS_MODULE CAP_SYS_NICE CAP_SYS_PACCT CAP_SYS_PTRACE CAP_SYS_RAWIO CAP_SYS_RESOURCE CAP_SYS_TIME
CAP_SYS_TTY_CONFIG CAP_WAKE_ALARM CAP_LAST_CAP
S_IFCHR S_IFBLK S_IFIFO
FS_IOC_GETFLAGS FS_IOC_SETFLAGS FS_IMMUTABLE_FL FS_APPEND_FL
IN_CLOEXEC IN_NONBLOCK IN_MODIFY IN_CREATE IN_DELETE IN_DELETE_SELF IN_MOVED_FROM IN_MOVED_TO IN_MOVE_SELF IN_ATTRIB
IN_CLOSE_WRITE IN_ONLYDIR IN_DONT_FOLLOW IN_MASK_ADD IN_Q_OVERFLOW IN_IGNORED IN_ISDIR
"""
"""Of the kernel's and the C library's headers; their values come from the C compiler."""

CALLS = """
int sys_openat2(int dir, const char *path, uint64_t flags, uint64_t mode, uint64_t resolve);
int sys_open_tree(int dir, const char *path, unsigned int flags);
int sys_move_mount(int from_dir, const char *from, int to_dir, const char *to, unsigned int flags);
int sys_mount_setattr(int dir, const char *path, unsigned int flags, uint64_t set, uint64_t clear,
                      uint64_t propagation, int userns);
int sys_fsopen(const char *type, unsigned int flags);
int sys_fsconfig(int fs, unsigned int command, const char *key, const void *value, int aux);
int sys_fsmount(int fs, unsigned int flags, unsigned int attributes);
int sys_mount(const char *source, const char *target, const char *type, unsigned long flags, const void *data);
int sys_umount2(const char *target, int flags);
int sys_pivot_root(const char *new_root, const char *put_old);
int sys_close_range(unsigned int first, unsigned int last, unsigned int flags);
int sys_unshare(uint64_t flags);
int sys_setns(int fd, int flags);
int sys_pidfd_open(pid_t pid, unsigned int flags);
int sys_pidfd_send_signal(int pidfd, int signal);
int sys_pidfd_getfd(int pidfd, int fd);
int nsr_program_check(const void *bytes, size_t size, int n_slots, uint32_t *step);
"""


def declarations(header: str) -> str:
    """A header of ours without its preprocessor lines."""
    text = (HERE / header).read_text(encoding="utf-8")
    return re.sub(r"^#.*$", "", text, flags=re.MULTILINE)


ffibuilder = FFI()
ffibuilder.cdef("typedef int pid_t;")
ffibuilder.cdef(declarations("wire.h"))
ffibuilder.cdef(declarations("native.h"))
ffibuilder.cdef(CALLS)
ffibuilder.cdef("".join(f"#define {name} ...\n" for name in CONSTANTS.split()))
ffibuilder.set_source(
    "nsrun._native",
    """
    #include <linux/capability.h>
    #include <linux/close_range.h>
    #include <linux/fs.h>
    #include <sys/inotify.h>
    #include <sys/resource.h>
    #include <sys/stat.h>
    #include "sys.h"
    #include "native.h"
    #ifndef MNT_FORCE
    #define MNT_FORCE 1
    #endif
    #ifndef UMOUNT_NOFOLLOW
    #define UMOUNT_NOFOLLOW 8
    #endif
    """,
    sources=SOURCES,
    include_dirs=["csrc"],
    depends=sorted(f"csrc/{path.name}" for path in HERE.glob("*.h")),
    # The generated file is not ours to lint, so the strict warnings are for the shim's build of the same sources.
    extra_compile_args=["-O2", "-D_GNU_SOURCE", "-Wall", "-Werror", *sanitizer_flags()],
    extra_link_args=sanitizer_flags(),
)
