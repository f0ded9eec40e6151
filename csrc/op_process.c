/* SPDX-License-Identifier: Apache-2.0 */
/* op_process.c - what a process carries through execve: directory, limits, session, standard streams, signals. */
#include <limits.h>
#include <linux/magic.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/sysmacros.h>
#include "op.h"

enum { EXIT_PARENT_GONE = 125 };

int nsr_op_chdir(struct nsr_run *run, struct nsr_args *args)
{
	const char *path = nsr_next(args, NULL);
	int result, fd = nsr_open(run, path, O_PATH | O_DIRECTORY, 0);

	if (fd == -ENOENT && args->head.arg[0])
		fd = nsr_make_directories(run, path, 0755, NULL);
	if (fd < 0)
		return fd;
	result = sys_answer(fchdir(fd));
	close(fd);
	return result;
}

int nsr_op_umask(struct nsr_run *run, struct nsr_args *args)
{
	run->umask = (mode_t)args->head.arg[0] & 0777;
	return 0;
}

int nsr_op_rlimit(struct nsr_run *run, struct nsr_args *args)
{
	const int64_t *arg = args->head.arg;
	struct {
		uint64_t soft, hard;
	} limit = {(uint64_t)arg[1], (uint64_t)arg[2]};

	(void)run;
	return sys_answer(syscall(SYS_prlimit64, 0, (int)arg[0], &limit, NULL));
}

/*
 * A command that enters a container finds the container's /proc, and is still all-powerful: what it writes to is on a procfs, on nothing
 * that was mounted there or that a link leads to.
 */
static int open_own(const char *path)
{
	int fd, proc = sys_openat2(AT_FDCWD, "/proc", O_PATH | O_DIRECTORY | O_CLOEXEC, 0, RESOLVE_NO_SYMLINKS);
	struct statfs status;

	if (proc < 0)
		return proc;
	if (fstatfs(proc, &status))
		fd = -errno;
	else if (status.f_type != PROC_SUPER_MAGIC)
		fd = -EXDEV;
	else
		fd = sys_openat2(proc, path, O_WRONLY | O_CLOEXEC, 0, RESOLVE_BENEATH | RESOLVE_NO_XDEV | RESOLVE_NO_MAGICLINKS);
	close(proc);
	return fd;
}

int nsr_op_oom_score_adj(struct nsr_run *run, struct nsr_args *args)
{
	static const char path[] = "/proc/self/oom_score_adj";
	int64_t value = args->head.arg[0];
	uint64_t rest = value < 0 ? -(uint64_t)value : (uint64_t)value;
	char text[24];
	size_t at = sizeof(text);
	int result, fd = open_own(path + strlen("/proc/"));

	if (fd < 0)
		return nsr_at(run, path, fd);
	do {
		text[--at] = (char)('0' + rest % 10);
		rest /= 10;
	} while (rest);
	if (value < 0)
		text[--at] = '-';
	result = write(fd, text + at, sizeof(text) - at) < 0 ? -errno : 0;
	close(fd);
	if (result == -EACCES && args->head.arg[1])
		return 0;
	return nsr_at(run, path, result);
}

/* What a process of AppArmor's becomes with its next execve; one write, or the kernel reads a part of it. */
int nsr_op_apparmor(struct nsr_run *run, struct nsr_args *args)
{
	static const char verb[] = "exec ";
	const size_t before = sizeof(verb) - 1;
	char text[4096];
	uint32_t length;
	const char *profile = nsr_next(args, &length);
	int result, fd;

	if (length > sizeof(text) - sizeof(verb))
		return nsr_at(run, profile, -ENAMETOOLONG);
	fd = open_own("self/attr/apparmor/exec");
	/* Before Linux 5.8 there is but the file that all security modules share. */
	if (fd == -ENOENT)
		fd = open_own("self/attr/exec");
	if (fd < 0)
		return nsr_at(run, "/proc/self/attr/apparmor/exec", fd);
	memcpy(text, verb, before);
	memcpy(text + before, profile, length);
	result = write(fd, text, before + length) < 0 ? -errno : 0;
	close(fd);
	return nsr_at(run, profile, result);
}

int nsr_op_setsid(struct nsr_run *run, struct nsr_args *args)
{
	(void)run;
	(void)args;
	return setsid() < 0 ? -errno : 0;
}

/* The container's, whose mode and owner nobody can change through it. A volume at /dev may hold anything of that name. */
static int open_null(struct nsr_run *run)
{
	int fd = nsr_open_no_links(run, "/dev/null", O_RDWR | O_NOCTTY);
	struct stat status;

	if (fd < 0)
		return fd;
	if (!fstat(fd, &status) && S_ISCHR(status.st_mode) && status.st_rdev == makedev(1, 3))
		return fd;
	close(fd);
	return -ENODEV;
}

int nsr_op_stdio(struct nsr_run *run, struct nsr_args *args)
{
	int fds[3], null = -1, result = 0;

	for (int i = 0; i < 3; i++) {
		fds[i] = nsr_slot(run, args->head.arg[i]);
		if (fds[i] >= 0)
			continue;
		if (null < 0) {
			null = open_null(run);
			if (null < 0)
				return nsr_at(run, "/dev/null", null);
		}
		fds[i] = null;
	}
	/* Slots are never 0, 1 or 2 themselves (program.h), so no copy overwrites a source that is still wanted. */
	for (int i = 0; i < 3 && !result; i++)
		result = dup2(fds[i], i) < 0 ? -errno : 0;
	if (null > 2)
		close(null);
	return result;
}

static int is_nameless_pipe(int fd)
{
	struct statfs system;

	return !fstatfs(fd, &system) && system.f_type == PIPEFS_MAGIC;
}

/* /dev/null is a device of everybody and a file may be anything: only what was made for this process changes hands. */
int nsr_op_stdio_owner(struct nsr_run *run, struct nsr_args *args)
{
	int pipes_alone = args->head.arg[1] != 0;

	(void)run;
	for (int fd = 0; fd < 3; fd++) {
		struct winsize size;
		struct stat status;

		if (fstat(fd, &status))
			return -errno;
		if (pipes_alone && !is_nameless_pipe(fd))
			continue;
		if (!S_ISFIFO(status.st_mode) && !S_ISSOCK(status.st_mode) &&
		    !(S_ISCHR(status.st_mode) && !ioctl(fd, TIOCGWINSZ, &size)))
			continue;
		if (fchown(fd, (uid_t)args->head.arg[0], (gid_t)-1) && errno != EINVAL && errno != EPERM && errno != EROFS)
			return -errno;
	}
	return 0;
}

int nsr_op_close_rest(struct nsr_run *run, struct nsr_args *args)
{
	(void)run;
	(void)args;
	return sys_close_range(3, ~0u, CLOSE_RANGE_CLOEXEC);
}

int nsr_op_signals_default(struct nsr_run *run, struct nsr_args *args)
{
	/* The kernel's own structure: all zeros is SIG_DFL without flags. */
	struct {
		uint64_t handler, flags, restorer, mask;
	} action = {0, 0, 0, 0};
	uint64_t none = 0;

	(void)run;
	(void)args;
	for (int signal = 1; signal <= 64; signal++)
		if (signal != SIGKILL && signal != SIGSTOP &&
		    syscall(SYS_rt_sigaction, signal, &action, NULL, sizeof(uint64_t)))
			return -errno;
	return sys_answer(syscall(SYS_rt_sigprocmask, SIG_SETMASK, &none, NULL, sizeof(none)));
}

/*
 * After USER, because a change of ids clears the setting. A parent that died before the setting was made sends nothing any
 * more, and getppid() says 0 in a new PID namespace whether it lives or not: the other end of the report socket tells.
 */
int nsr_op_pdeathsig(struct nsr_run *run, struct nsr_args *args)
{
	struct pollfd peer = {.fd = run->context->report_fd};
	int result = sys_answer(prctl(PR_SET_PDEATHSIG, (unsigned long)args->head.arg[0], 0, 0, 0));

	if (result || peer.fd < 0)
		return result;
	while (poll(&peer, 1, 0) < 0)
		if (errno != EINTR)
			return -errno;
	if (peer.revents & (POLLHUP | POLLERR))
		_exit(EXIT_PARENT_GONE);
	return 0;
}
