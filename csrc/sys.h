/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sys.h - system calls under the kernel's names that answer a result or -errno.
 *
 * They go straight to the kernel. Two reasons: the C library's setresuid() and its kin first signal every thread it
 * knows of, which in a child of clone3 are threads that do not exist there; and the mount calls then need no newer C library
 * than the kernel itself. <sys/mount.h> collides with <linux/mount.h>: include this file instead.
 */
#ifndef NSR_SYS_H
#define NSR_SYS_H
#include <errno.h>
#include <fcntl.h>
#include <linux/keyctl.h>
#include <linux/mount.h>
#include <linux/openat2.h>
#include <linux/sched.h>
#include <sched.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>

#ifndef MNT_DETACH
#define MNT_DETACH 2
#endif
#ifndef AT_RECURSIVE
#define AT_RECURSIVE 0x8000
#endif
#ifndef CLOSE_RANGE_CLOEXEC
#define CLOSE_RANGE_CLOEXEC 4
#endif

static inline int sys_answer(long result)
{
	return result == -1 ? -errno : (int)result;
}

/* A session keyring of its own, empty. Without keyrings in the kernel (ENOSYS), or where a filter hides them (EPERM), there are none to be kept apart. */
static inline int sys_new_keyring(void)
{
	int result = sys_answer(syscall(SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, NULL));

	return result == -ENOSYS || result == -EPERM ? 0 : result;
}

/* Whether the scheduling policy of this process is one that goes before all of SCHED_OTHER. */
static inline int sys_real_time(void)
{
	long policy = syscall(SYS_sched_getscheduler, 0) & ~SCHED_RESET_ON_FORK;

	return policy == SCHED_FIFO || policy == SCHED_RR;
}

static inline int sys_sched_other(void)
{
	struct sched_param none = {0};

	return sys_answer(syscall(SYS_sched_setscheduler, 0, SCHED_OTHER, &none));
}

static inline int sys_openat2(int dir, const char *path, uint64_t flags, uint64_t mode, uint64_t resolve)
{
	struct open_how how = {.flags = flags, .mode = mode, .resolve = resolve};

	return sys_answer(syscall(SYS_openat2, dir, path, &how, sizeof(how)));
}

static inline int sys_open_tree(int dir, const char *path, unsigned int flags)
{
	return sys_answer(syscall(SYS_open_tree, dir, path, flags));
}

static inline int sys_move_mount(int from_dir, const char *from, int to_dir, const char *to, unsigned int flags)
{
	return sys_answer(syscall(SYS_move_mount, from_dir, from, to_dir, to, flags));
}

static inline int sys_mount_setattr(int dir, const char *path, unsigned int flags, uint64_t set, uint64_t clear,
				    uint64_t propagation, int userns)
{
	uint64_t mapping = userns < 0 ? 0 : (uint64_t)(unsigned int)userns;
	struct mount_attr attr = {.attr_set = set, .attr_clr = clear, .propagation = propagation, .userns_fd = mapping};

	return sys_answer(syscall(SYS_mount_setattr, dir, path, flags, &attr, sizeof(attr)));
}

static inline int sys_fsopen(const char *type, unsigned int flags)
{
	return sys_answer(syscall(SYS_fsopen, type, flags));
}

static inline int sys_fsconfig(int fs, unsigned int command, const char *key, const void *value, int aux)
{
	return sys_answer(syscall(SYS_fsconfig, fs, command, key, value, aux));
}

static inline int sys_fsmount(int fs, unsigned int flags, unsigned int attributes)
{
	return sys_answer(syscall(SYS_fsmount, fs, flags, attributes));
}

static inline int sys_mount(const char *source, const char *target, const char *type, unsigned long flags, const void *data)
{
	return sys_answer(syscall(SYS_mount, source, target, type, flags, data));
}

static inline int sys_umount2(const char *target, int flags)
{
	return sys_answer(syscall(SYS_umount2, target, flags));
}

static inline int sys_pivot_root(const char *new_root, const char *put_old)
{
	return sys_answer(syscall(SYS_pivot_root, new_root, put_old));
}

static inline int sys_close_range(unsigned int first, unsigned int last, unsigned int flags)
{
	return sys_answer(syscall(SYS_close_range, first, last, flags));
}

static inline int sys_clone3(struct clone_args *arguments)
{
	return sys_answer(syscall(SYS_clone3, arguments, sizeof(*arguments)));
}

static inline int sys_unshare(uint64_t flags)
{
	return sys_answer(syscall(SYS_unshare, flags));
}

static inline int sys_setns(int fd, int flags)
{
	return sys_answer(syscall(SYS_setns, fd, flags));
}

static inline int sys_pidfd_open(pid_t pid, unsigned int flags)
{
	return sys_answer(syscall(SYS_pidfd_open, pid, flags));
}

static inline int sys_pidfd_send_signal(int pidfd, int signal)
{
	return sys_answer(syscall(SYS_pidfd_send_signal, pidfd, signal, NULL, 0));
}

static inline int sys_pidfd_getfd(int pidfd, int fd)
{
	return sys_answer(syscall(SYS_pidfd_getfd, pidfd, fd, 0));
}

#endif
