/* SPDX-License-Identifier: Apache-2.0 */
/*
 * native.c - starts a program from Python.
 *
 * The child never returns to the interpreter: between clone3 and execve there is only program.c. It has the parent's memory as it was,
 * with locks of threads that do not exist in it, so nothing here may take one.
 */
#include "native.h"
#include <linux/capability.h>
#include <signal.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>
#include "op.h"
#include "sys.h"

/* linux/landlock.h is not everywhere; the numbers are the same for every processor. */
#ifndef SYS_landlock_create_ruleset
#define SYS_landlock_create_ruleset 444
#define SYS_landlock_restrict_self 446
#endif
enum { LANDLOCK_VERSION = 1 };

enum { EXIT_FAILED = 128 };

/* Descriptors 0 to 2 are overwritten by STDIO, so what the program still needs is moved above them. */
static int above_stdio(int fd)
{
	return fd > 2 ? fd : sys_answer(fcntl(fd, F_DUPFD_CLOEXEC, 3));
}

static void run_child(const void *program, size_t size, const int *given, int n_slots, int report_fd, const sigset_t *mask)
{
	int slots[NSR_FD_MAX];
	struct nsr_context context = {.slots = slots, .n_slots = n_slots, .report_fd = report_fd};
	struct nsr_report report = {.kind = NSR_REPORT_FAILED};
	int result = 0;

	for (int i = 0; i < n_slots && result >= 0; i++) {
		result = above_stdio(given[i]);
		slots[i] = result;
	}
	/* CLONE_CLEAR_SIGHAND has taken the parent's handlers away: only now may signals come. */
	sigprocmask(SIG_SETMASK, mask, NULL);
	if (result >= 0)
		result = nsr_program_run(program, size, &context, &report);
	else
		report.error = -result;
	if (result >= 0)
		_exit(0);
	while (send(report_fd, &report, sizeof(report), MSG_NOSIGNAL) < 0 && errno == EINTR)
		;
	_exit(EXIT_FAILED);
}

/* One packet of the report socket: its length, 0 at the end, or -errno. */
static ssize_t receive(int fd, struct nsr_report *report, int *terminal)
{
	union {
		char space[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control;
	struct iovec data = {report, sizeof(*report)};
	struct msghdr message = {
	    .msg_iov = &data, .msg_iovlen = 1, .msg_control = control.space, .msg_controllen = sizeof(control.space)};
	struct cmsghdr *header;
	ssize_t n;

	do
		n = recvmsg(fd, &message, MSG_CMSG_CLOEXEC);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return errno == ECONNRESET ? 0 : -errno;
	header = CMSG_FIRSTHDR(&message);
	if (header && header->cmsg_level == SOL_SOCKET && header->cmsg_type == SCM_RIGHTS) {
		if (*terminal >= 0)
			close(*terminal);
		memcpy(terminal, CMSG_DATA(header), sizeof(int));
	}
	return n;
}

static int collect(int fd, struct nsrun_child *child)
{
	for (;;) {
		struct nsr_report report;
		ssize_t n = receive(fd, &report, &child->terminal);

		if (n < 0)
			return (int)n;
		if (n == 0)
			return 0;
		if (n == sizeof(report) && report.kind == NSR_REPORT_FAILED) {
			child->report = report;
			return 0;
		}
	}
}

static void bury(struct nsrun_child *child)
{
	siginfo_t info;

	while (waitid(P_PIDFD, (id_t)child->pidfd, &info, WEXITED) < 0 && errno == EINTR)
		;
	close(child->pidfd);
	if (child->terminal >= 0)
		close(child->terminal);
	child->pidfd = child->terminal = -1;
}

int nsrun_spawn(const void *program, size_t size, const int *slots, int n_slots, uint64_t clone_flags, int cgroup_fd,
		struct nsrun_child *child)
{
	int pair[2], pidfd = -1, result;
	struct clone_args arguments = {
	    .flags = clone_flags | CLONE_PIDFD | CLONE_CLEAR_SIGHAND | (cgroup_fd >= 0 ? CLONE_INTO_CGROUP : 0),
	    .pidfd = (uint64_t)(uintptr_t)&pidfd,
	    .exit_signal = SIGCHLD,
	    .cgroup = cgroup_fd >= 0 ? (uint64_t)cgroup_fd : 0,
	};
	sigset_t all, before;
	uint32_t step;

	memset(child, 0, sizeof(*child));
	child->pidfd = child->terminal = -1;
	if (n_slots < 0 || n_slots > NSR_FD_MAX)
		return -E2BIG;
	result = nsr_program_check(program, size, n_slots, &step);
	if (result) {
		child->report.kind = NSR_REPORT_FAILED;
		child->report.step = step;
		child->report.error = -result;
		return 0;
	}
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair))
		return -errno;
	sigfillset(&all);
	pthread_sigmask(SIG_BLOCK, &all, &before);
	result = sys_clone3(&arguments);
	if (result == 0) {
		int report_fd;

		close(pair[0]);
		report_fd = above_stdio(pair[1]);
		if (report_fd < 0)
			_exit(EXIT_FAILED);
		run_child(program, size, slots, n_slots, report_fd, &before);
	}
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	close(pair[1]);
	if (result > 0) {
		child->pid = result;
		child->pidfd = pidfd;
		result = collect(pair[0], child);
		if (child->report.kind == NSR_REPORT_FAILED)
			bury(child);
		else if (result) {
			sys_pidfd_send_signal(pidfd, SIGKILL);
			bury(child);
		}
	}
	close(pair[0]);
	return result;
}

int nsrun_apply(const void *program, size_t size, const int *slots, int n_slots, struct nsr_report *report)
{
	struct nsr_context context = {.slots = slots, .n_slots = n_slots, .report_fd = -1};
	uint32_t step;
	int result;

	memset(report, 0, sizeof(*report));
	result = nsr_program_check(program, size, n_slots, &step);
	if (!result)
		return nsr_program_run(program, size, &context, report);
	report->kind = NSR_REPORT_FAILED;
	report->step = step;
	report->error = -result;
	return result;
}

int nsrun_capabilities(int pid, uint64_t *effective, uint64_t *permitted, uint64_t *inheritable)
{
	struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3, .pid = pid};
	struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3];

	if (syscall(SYS_capget, &header, data))
		return -errno;
	*effective = data[0].effective | (uint64_t)data[1].effective << 32;
	*permitted = data[0].permitted | (uint64_t)data[1].permitted << 32;
	*inheritable = data[0].inheritable | (uint64_t)data[1].inheritable << 32;
	return 0;
}

int nsrun_fs_user(uint32_t uid, uint32_t gid)
{
	return nsr_fs_user(uid, gid);
}

int nsrun_syncfs(int fd)
{
	return sys_answer(syncfs(fd));
}

int nsrun_only_read_files(void)
{
	/* What each version of Landlock can forbid, of all but READ_FILE (4) and READ_DIR (8); later ones begin no new bits of files. */
	static const uint64_t known[] = {0, 0x1fff, 0x3fff, 0x7fff, 0x7fff, 0xffff};
	int ruleset, result, last = (int)(sizeof(known) / sizeof(known[0])) - 1;
	uint64_t handled;

	result = sys_answer(syscall(SYS_landlock_create_ruleset, NULL, (size_t)0, LANDLOCK_VERSION));
	if (result < 0)
		return result;
	handled = known[result < last ? result : last] & ~(uint64_t)12;
	ruleset = sys_answer(syscall(SYS_landlock_create_ruleset, &handled, sizeof(handled), 0));
	if (ruleset < 0)
		return ruleset;
	result = sys_answer(syscall(SYS_landlock_restrict_self, ruleset, 0));
	close(ruleset);
	return result;
}

int nsrun_inotify_init1(int flags)
{
	return sys_answer(inotify_init1(flags));
}

int nsrun_inotify_add_watch(int fd, const char *path, uint32_t mask)
{
	return sys_answer(inotify_add_watch(fd, path, mask));
}
