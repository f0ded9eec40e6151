/* SPDX-License-Identifier: Apache-2.0 */
/*
 * op_privilege.c - ids, capabilities, no_new_privs, seccomp.
 *
 * A capability that the caller does not hold cannot be given on. It is left out in silence, as crun and runc do in effect: machines differ in
 * what root may do (virtual machines and containers lack some), and a container that asks for the default set must start
 * on all of them. What a container got is in its /proc/self/status.
 */
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include "op.h"

struct sets {
	uint64_t effective, permitted, inheritable;
};

static int get_capabilities(struct sets *sets)
{
	struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3];

	if (syscall(SYS_capget, &header, data))
		return -errno;
	sets->effective = data[0].effective | (uint64_t)data[1].effective << 32;
	sets->permitted = data[0].permitted | (uint64_t)data[1].permitted << 32;
	sets->inheritable = data[0].inheritable | (uint64_t)data[1].inheritable << 32;
	return 0;
}

static int set_capabilities(const struct sets *sets)
{
	struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3] = {
	    {(uint32_t)sets->effective, (uint32_t)sets->permitted, (uint32_t)sets->inheritable},
	    {(uint32_t)(sets->effective >> 32), (uint32_t)(sets->permitted >> 32), (uint32_t)(sets->inheritable >> 32)},
	};

	return sys_answer(syscall(SYS_capset, &header, data));
}

/* Keeps `keep` of the bounding set. Only what is there needs dropping, and only dropping needs CAP_SETPCAP. */
int nsr_op_bounding(struct nsr_run *run, struct nsr_args *args)
{
	uint64_t keep = (uint64_t)args->head.arg[0];

	(void)run;
	for (int capability = 0; capability < 64; capability++) {
		int held = prctl(PR_CAPBSET_READ, capability, 0, 0, 0);

		if (held < 0)
			break; /* past the last one this kernel knows */
		if (held && !(keep >> capability & 1) && prctl(PR_CAPBSET_DROP, capability, 0, 0, 0))
			return -errno;
	}
	return 0;
}

static uint64_t bounding_set(void)
{
	uint64_t set = 0;

	for (int capability = 0; capability < 64; capability++) {
		int held = prctl(PR_CAPBSET_READ, capability, 0, 0, 0);

		if (held < 0)
			break;
		set |= (uint64_t)held << capability;
	}
	return set;
}

int nsr_op_caps(struct nsr_run *run, struct nsr_args *args)
{
	const int64_t *arg = args->head.arg;
	struct sets have = {0, 0, 0}, want;
	uint64_t ambient;
	int result = get_capabilities(&have);

	(void)run;
	if (result)
		return result;
	/* The three inclusions of capset(2) and the one of PR_CAP_AMBIENT_RAISE. */
	want.permitted = (uint64_t)arg[1] & have.permitted;
	want.effective = (uint64_t)arg[0] & want.permitted;
	want.inheritable = (uint64_t)arg[2] & (have.inheritable | have.permitted) & (have.inheritable | bounding_set());
	ambient = (uint64_t)arg[3] & want.permitted & want.inheritable;
	result = set_capabilities(&want);
	if (!result)
		result = sys_answer(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0));
	for (int capability = 0; capability < 64 && !result; capability++)
		if (ambient >> capability & 1)
			result = sys_answer(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, capability, 0, 0));
	return result;
}

int nsr_op_user(struct nsr_run *run, struct nsr_args *args)
{
	uid_t uid = (uid_t)args->head.arg[0];
	gid_t gid = (gid_t)args->head.arg[1];
	uint32_t length;
	const char *groups = nsr_next(args, &length);
	int result = 0;

	if (groups && length % sizeof(gid_t))
		return nsr_at(run, "supplementary groups", -EINVAL);
	/* Groups while still privileged, the user last. */
	if (groups)
		result = nsr_at(run, "supplementary groups",
				sys_answer(syscall(SYS_setgroups, length / sizeof(gid_t), length ? groups : NULL)));
	if (!result)
		result = nsr_at(run, "group", sys_answer(syscall(SYS_setresgid, gid, gid, gid)));
	if (!result)
		result = nsr_at(run, "user", sys_answer(syscall(SYS_setresuid, uid, uid, uid)));
	return result;
}

int nsr_op_no_new_privs(struct nsr_run *run, struct nsr_args *args)
{
	(void)run;
	(void)args;
	return sys_answer(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
}

int nsr_op_seccomp(struct nsr_run *run, struct nsr_args *args)
{
	union {
		struct sock_filter filter[BPF_MAXINSNS];
		char bytes[BPF_MAXINSNS * sizeof(struct sock_filter) + sizeof(uint32_t)];
	} read;
	struct sock_fprog program = {.filter = read.filter};
	int fd = nsr_slot(run, args->head.arg[0]);
	uint32_t flags = 0;
	struct stat status;
	size_t size, done = 0;

	if (fstat(fd, &status))
		return nsr_at(run, "filter", -errno);
	if (status.st_size < (off_t)sizeof(*program.filter) || (uint64_t)status.st_size > sizeof(read.bytes))
		return nsr_at(run, "filter", -EINVAL);
	while (done < (size_t)status.st_size) {
		ssize_t n = pread(fd, read.bytes + done, (size_t)status.st_size - done, (off_t)done);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return nsr_at(run, "filter", n < 0 ? -errno : -EINVAL);
		done += (size_t)n;
	}
	size = done - done % sizeof(*program.filter);
	if (done - size == sizeof(flags))
		memcpy(&flags, read.bytes + size, sizeof(flags));
	else if (done != size)
		return nsr_at(run, "filter", -EINVAL);
	program.len = (unsigned short)(size / sizeof(*program.filter));
	return nsr_at(run, "filter", sys_answer(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &program)));
}
