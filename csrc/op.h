/* SPDX-License-Identifier: Apache-2.0 */
/*
 * op.h - what the op handlers share. Private to program.c and op_*.c.
 *
 * A handler answers 0 or -errno. Before a failing answer it may name what it failed on with nsr_at(); otherwise the op's
 * first string is the subject.
 */
#ifndef NSR_OP_H
#define NSR_OP_H
#include <sys/types.h>
#include "program.h"
#include "sys.h"

struct nsr_args {
	struct nsr_op head;
	const char *cursor;		/* the next string's length word */
	unsigned int left;		/* strings from the cursor on */
};

struct nsr_run {
	const struct nsr_context *context;
	struct nsr_report *report;
	int root;			/* O_PATH descriptor; -1 until it is needed */
	int user_namespace;		/* that of the pod, or -1 until it is needed */
	int empty_directory;		/* a mounted empty read-only tmpfs that masks are cloned from, or -1 */
	int propagation_cut;		/* PRIVATE has run: nothing that is unmounted here is unmounted outside */
	mode_t umask;			/* what the process gets; while ops run the mask is 0 so that modes are as written */
	struct nsr_args environment;
};

typedef int nsr_handler(struct nsr_run *run, struct nsr_args *args);

/* Decoding. The strings of a checked program, one after another; NULL after the last. */
const char *nsr_next(struct nsr_args *args, uint32_t *length);

/* Names the subject of a failure (cut from the left) and answers `error` again. */
int nsr_at(struct nsr_run *run, const char *subject, int error);

/* The descriptor in a slot, or -1 for NSR_NO_SLOT. */
int nsr_slot(const struct nsr_run *run, int64_t slot);

/* op_paths.c: everything below the root, never above it. Descriptors or -errno; close-on-exec. */
int nsr_root(struct nsr_run *run);
int nsr_open(struct nsr_run *run, const char *path, uint64_t flags, mode_t mode);
int nsr_open_no_links(struct nsr_run *run, const char *path, uint64_t flags); /* -ELOOP where there is one on the way */
int nsr_make_directories(struct nsr_run *run, const char *path, mode_t mode, int *made);
int nsr_make_file(struct nsr_run *run, const char *path, mode_t mode);
int nsr_open_parent(struct nsr_run *run, const char *path, const char **name);

/* op_user.c: a descriptor that stays the run's, or -errno; and the ids of a detached mount made those of that namespace */
int nsr_user_namespace(struct nsr_run *run);
int nsr_id_map(struct nsr_run *run, int tree);
int nsr_fs_user(uid_t uid, gid_t gid);

/* op_mount.c */
int nsr_attach(struct nsr_run *run, int tree, const char *target);
int nsr_attach_no_links(struct nsr_run *run, int tree, const char *target);
int nsr_set_attributes(int mount, uint64_t set, int recursive);

nsr_handler nsr_op_unshare, nsr_op_setns, nsr_op_hostname, nsr_op_loopback_up, nsr_op_sysctl,
    nsr_op_join_cgroup, nsr_op_user_namespace, nsr_op_enter_user, nsr_op_fs_user, nsr_op_id_map;
nsr_handler nsr_op_private, nsr_op_overlay, nsr_op_root, nsr_op_mount, nsr_op_bind, nsr_op_attr,
    nsr_op_mask, nsr_op_readonly, nsr_op_pivot_root;
nsr_handler nsr_op_mkdir, nsr_op_file, nsr_op_symlink, nsr_op_mknod;
nsr_handler nsr_op_chdir, nsr_op_umask, nsr_op_rlimit, nsr_op_oom_score_adj, nsr_op_setsid, nsr_op_stdio, nsr_op_stdio_owner, nsr_op_terminal,
    nsr_op_close_rest, nsr_op_user, nsr_op_bounding, nsr_op_caps, nsr_op_no_new_privs, nsr_op_seccomp, nsr_op_pdeathsig,
    nsr_op_signals_default, nsr_op_env, nsr_op_exec, nsr_op_apparmor;

#endif
