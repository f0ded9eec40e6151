/* SPDX-License-Identifier: Apache-2.0 */
/* op_namespace.c - making and joining namespaces, and what a fresh one needs before anybody lives in it. */
#include <net/if.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include "op.h"

int nsr_op_unshare(struct nsr_run *run, struct nsr_args *args)
{
	(void)run;
	return sys_unshare((uint64_t)args->head.arg[0]);
}

int nsr_op_setns(struct nsr_run *run, struct nsr_args *args)
{
	int result = sys_setns(nsr_slot(run, args->head.arg[0]), (int)args->head.arg[1]);

	/* Entering a mount namespace moves / as well: a root opened before is of the old one. */
	if (!result && run->root >= 0) {
		close(run->root);
		run->root = -1;
	}
	return result;
}

/* Through "tasks" and not "cgroup.procs": a thread that moves itself needs no lock of the whole machine, which takes 10 ms to get. */
int nsr_op_join_cgroup(struct nsr_run *run, struct nsr_args *args)
{
	return write(nsr_slot(run, args->head.arg[0]), "0", 1) < 0 ? -errno : 0;
}

int nsr_op_hostname(struct nsr_run *run, struct nsr_args *args)
{
	uint32_t length;
	const char *name = nsr_next(args, &length);

	(void)run;
	return sys_answer(syscall(SYS_sethostname, name, (size_t)length));
}

int nsr_op_loopback_up(struct nsr_run *run, struct nsr_args *args)
{
	struct ifreq request = {.ifr_name = "lo"};
	int result, fd;

	(void)args;
	fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0 && errno == EAFNOSUPPORT)
		fd = socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return nsr_at(run, "lo", -errno);
	result = sys_answer(ioctl(fd, SIOCGIFFLAGS, &request));
	if (!result) {
		request.ifr_flags |= IFF_UP;
		result = sys_answer(ioctl(fd, SIOCSIFFLAGS, &request));
	}
	close(fd);
	return nsr_at(run, "lo", result);
}

static int write_sysctl(struct nsr_run *run, const char *name, const char *value, uint32_t length)
{
	int directory, fd, result;
	ssize_t written;

	directory = sys_openat2(AT_FDCWD, "/proc/sys", O_PATH | O_DIRECTORY | O_CLOEXEC, 0, 0);
	if (directory < 0)
		return nsr_at(run, "/proc/sys", directory);
	fd = sys_openat2(directory, name, O_WRONLY | O_CLOEXEC, 0, RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS);
	close(directory);
	if (fd < 0)
		return fd;
	written = write(fd, value, length);
	result = written < 0 ? -errno : (size_t)written == length ? 0 : -EINVAL;
	close(fd);
	return result;
}

int nsr_op_sysctl(struct nsr_run *run, struct nsr_args *args)
{
	uint32_t length;
	const char *name = nsr_next(args, NULL), *value = nsr_next(args, &length);
	uid_t owner = (uid_t)args->head.arg[0];
	int result = write_sysctl(run, name, value, length);

	/* Some look at who writes, not at what that one may do (the kernel's ipc_permissions): only the root of their user namespace can. */
	if ((result == -EACCES || result == -EPERM) && owner && !syscall(SYS_setresuid, -1, owner, -1)) {
		result = write_sysctl(run, name, value, length);
		if (syscall(SYS_setresuid, -1, 0, -1))
			return -errno;
	}
	return result;
}
