/* SPDX-License-Identifier: Apache-2.0 */
/* native.h - what the cffi module offers besides sys.h; read by cdef() too, like wire.h. */
#ifndef NSR_NATIVE_H
#define NSR_NATIVE_H
#include "program.h"

struct nsrun_child {
	int32_t pid;
	int32_t pidfd;
	int32_t terminal;		/* the master that NSR_OP_TERMINAL sent, or -1 */
	struct nsr_report report;	/* kind FAILED: the program failed, and the child is reaped already */
};

/*
 * clone3, then the program in the child. Returns when the child has exec'ed, ended or failed. 0 or -errno of making the child;
 * clone_flags are CLONE_NEW*. cgroup_fd -1 = the caller's cgroup.
 */
int nsrun_spawn(const void *program, size_t size, const int *slots, int n_slots, uint64_t clone_flags, int cgroup_fd,
		struct nsrun_child *child);

/* The program in the calling thread itself; it must not exec. 0 or -errno with the report filled. */
int nsrun_apply(const void *program, size_t size, const int *slots, int n_slots, struct nsr_report *report);

int nsrun_capabilities(int pid, uint64_t *effective, uint64_t *permitted, uint64_t *inheritable);

/* setfsuid(2) and setfsgid(2) of the calling thread, with all permitted capabilities in effect. 0 or -errno. */
int nsrun_fs_user(uint32_t uid, uint32_t gid);
int nsrun_syncfs(int fd);

/*
 * Landlock (Linux 5.13): from here on the calling thread, and what it starts, opens files for reading alone, makes and removes none and executes
 * none; descriptors that are open stay as they are. no_new_privs has to be set. 0 or -errno.
 */
int nsrun_only_read_files(void);
int nsrun_inotify_init1(int flags);
int nsrun_inotify_add_watch(int fd, const char *path, uint32_t mask);

#endif
