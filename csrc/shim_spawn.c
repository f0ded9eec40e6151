/* SPDX-License-Identifier: Apache-2.0 */
/*
 * shim_spawn.c - making processes: what START and EXEC share, and the reaping of them.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include "program.h"
#include "shim.h"
#include "sys.h"

/* Copied, not mapped: a file that its sender cuts short must not be able to kill the shim with SIGBUS. */
int program_load(int fd, struct making *making)
{
	struct stat stat;
	size_t size, got = 0;
	uint32_t step;
	char *program;
	int error;

	if (fstat(fd, &stat) < 0)
		return -errno;
	if (!S_ISREG(stat.st_mode) || stat.st_size < (off_t)sizeof(struct nsr_program))
		return -EINVAL;
	if (stat.st_size > NSR_PROGRAM_MAX)
		return -E2BIG;
	size = (size_t)stat.st_size;
	program = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (program == MAP_FAILED)
		return -errno;
	making->program = program;
	making->program_size = size;
	while (got < size) {
		ssize_t n = pread(fd, program + got, size - got, (off_t)got);

		if (n <= 0) {
			error = n < 0 ? -errno : -EINVAL;
			program_unload(making);
			return error;
		}
		got += (size_t)n;
	}
	error = nsr_program_check(program, size, making->n_slots, &step);
	if (error < 0)
		program_unload(making);
	return error;
}

void program_unload(struct making *making)
{
	munmap((void *)(uintptr_t)making->program, making->program_size);
	making->program = NULL;
}

/*
 * Closes every descriptor from 3 up but those that the program uses. Not left to close-on-exec: a program may take its time (a slow mount),
 * and until its execve it would hold the shim's lock, other containers' stdin and the clients' connections.
 */
static void close_others(const struct making *making, int report_fd)
{
	int keep[MAX_SLOTS + 2];
	int n = 0;
	unsigned int from = 3;

	keep[n++] = report_fd;
	if (making->target_pidfd >= 0)
		keep[n++] = making->target_pidfd;
	for (int i = 0; i < making->n_slots; i++)
		if (making->slots[i] >= 3)
			keep[n++] = making->slots[i];
	for (;;) {
		unsigned int lowest = ~0U;

		for (int i = 0; i < n; i++)
			if ((unsigned int)keep[i] >= from && (unsigned int)keep[i] < lowest)
				lowest = (unsigned int)keep[i];
		if (lowest == ~0U)
			break;
		if (lowest > from)
			sys_close_range(from, lowest - 1, 0);
		from = lowest + 1;
	}
	sys_close_range(from, ~0U, 0);
}

/* In the child, until its execve. Whatever goes wrong is told on the report socket. */
static void child(const struct making *making, int report_fd)
{
	struct nsr_context context = {.slots = making->slots, .n_slots = making->n_slots, .report_fd = report_fd};
	struct nsr_report report;
	uint64_t join = making->join_flags & ~(uint64_t)CLONE_NEWPID;
	int error;

	memset(&report, 0, sizeof(report));
	prctl(PR_SET_NAME, "nsrun-start");
	/* Processes of the container that it enters must not reach what is still open here, or its memory, through /proc. execve undoes it. */
	prctl(PR_SET_DUMPABLE, 0);
	close_others(making, report_fd);
	setrlimit(RLIMIT_NOFILE, &shim.files);
	error = join != 0 ? sys_setns(making->target_pidfd, (int)join) : sys_new_keyring();
	if (error < 0) {
		report.code = join != 0 ? NSR_OP_SETNS : 0;
		report.error = -error;
		strcpy(report.subject, join != 0 ? "the container's namespaces" : "a session keyring");
	} else {
		nsr_program_run(making->program, making->program_size, &context, &report);
	}
	report.kind = NSR_REPORT_FAILED;
	send(report_fd, &report, sizeof(report), MSG_NOSIGNAL);
	_exit(127);
}

static int clone_into(struct making *making, int report_fd)
{
	struct clone_args arguments = {
	    .flags = CLONE_PIDFD | making->clone_flags,
	    .pidfd = (uint64_t)(uintptr_t)&making->pidfd,
	    .exit_signal = SIGCHLD,
	};
	int pid;

	if (making->cgroup_fd >= 0) {
		arguments.flags |= CLONE_INTO_CGROUP;
		arguments.cgroup = (uint64_t)(unsigned int)making->cgroup_fd;
	}
	pid = sys_clone3(&arguments);
	if (pid == 0)
		child(making, report_fd);
	return pid;
}

/* 0 with pid, pidfd and report_fd (ours, non-blocking), or -errno. */
int process_make(struct making *making)
{
	const uint64_t namespaces = CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWUSER |
				    CLONE_NEWCGROUP;
	int pair[2];
	int pid;

	if (making->clone_flags & ~namespaces || making->join_flags & ~namespaces)
		return -EINVAL;
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return -errno;
	if (fcntl(pair[0], F_SETFL, O_NONBLOCK) < 0) {
		pid = -errno;
	} else if (making->target_pidfd >= 0) {
		/* Only processes made after this are in the target's PID namespace, so ours is put back at once. */
		pid = sys_setns(making->target_pidfd, CLONE_NEWPID);
		if (pid == 0) {
			pid = clone_into(making, pair[1]);
			sys_setns(shim.own_pid_ns, CLONE_NEWPID);
			/* What the kernel says when that namespace's first process is dying. */
			if (pid == -ENOMEM && sys_pidfd_send_signal(making->target_pidfd, 0) == -ESRCH)
				pid = -ESRCH;
		}
	} else {
		pid = clone_into(making, pair[1]);
	}
	shim_close(&pair[1]);
	if (pid < 0) {
		shim_close(&pair[0]);
		return pid;
	}
	making->pid = pid;
	making->report_fd = pair[0];
	return 0;
}

int report_receive(int fd, struct nsr_report *report, int *terminal)
{
	struct nsr_report packet;
	union {
		char bytes[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control;
	struct iovec part = {.iov_base = &packet, .iov_len = sizeof(packet)};
	struct msghdr header = {
	    .msg_iov = &part, .msg_iovlen = 1, .msg_control = control.bytes, .msg_controllen = sizeof(control.bytes)};
	struct cmsghdr *rights;
	int received = -1;
	ssize_t n = recvmsg(fd, &header, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);

	if (n < 0)
		return errno == EAGAIN ? -EAGAIN : 0;
	rights = CMSG_FIRSTHDR(&header);
	if (rights != NULL && rights->cmsg_level == SOL_SOCKET && rights->cmsg_type == SCM_RIGHTS)
		memcpy(&received, CMSG_DATA(rights), sizeof(received));
	if (n == sizeof(packet) && packet.kind == NSR_REPORT_TERMINAL && received >= 0) {
		shim_close(terminal);
		*terminal = received;
		return 2;
	}
	shim_close(&received);
	if (n != sizeof(packet))
		return 0;
	*report = packet;
	report->subject[NSR_SUBJECT_LEN] = '\0';
	return 1;
}

void process_reap(void)
{
	int status;
	pid_t pid;

	while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
		int known = 0;

		for (int i = 0; i < shim.n_instances && !known; i++) {
			const struct instance *instance = &shim.instances[i];

			if ((instance->phase == PHASE_SETUP || instance->phase == PHASE_RUNNING) && instance->record.pid == pid) {
				instance_reaped(i, status);
				known = 1;
			}
		}
		/* Anybody else is an orphan of a container without a PID namespace of its own. */
		for (int i = 0; i < shim.n_execs && !known; i++) {
			if (shim.execs[i].used && shim.execs[i].pid == pid) {
				exec_reaped(i, status);
				known = 1;
			}
		}
	}
}
