/* SPDX-License-Identifier: Apache-2.0 */
/*
 * shim_exec.c - more processes in a running container. Who asked for one reads its fate from a socket of its own; the shim keeps
 * nothing of it, and nobody's absence changes anything for it.
 */
#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include "message.h"
#include "shim.h"
#include "sys.h"

static int new_place(void)
{
	for (int i = 0; i < MAX_EXECS; i++) {
		if (shim.execs[i].used)
			continue;
		if (i >= shim.n_execs)
			shim.n_execs = i + 1;
		return i;
	}
	return -ENOBUFS;
}

static void free_place(int index)
{
	struct exec *exec = &shim.execs[index];

	shim_close(&exec->pidfd);
	shim_close(&exec->report_fd);
	shim_close(&exec->status_fd);
	shim_close(&exec->terminal_fd);
	exec->used = 0;
	while (shim.n_execs > 0 && !shim.execs[shim.n_execs - 1].used)
		shim.n_execs--;
}

/* The pty's master goes with STARTED, and with it the shim's last hold on the terminal: it hangs up when the client closes it. */
static void tell(struct exec *exec, uint32_t kind, int wait_status)
{
	struct nsr_exec_status status = {.kind = kind, .pid = exec->pid, .wait_status = wait_status};
	union {
		char bytes[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control;
	struct iovec part = {.iov_base = &status, .iov_len = sizeof(status)};
	struct msghdr header = {.msg_iov = &part, .msg_iovlen = 1};

	if (kind == NSR_EXEC_FAILED)
		status.report = exec->report;
	if (kind == NSR_EXEC_STARTED && exec->terminal_fd >= 0) {
		struct cmsghdr *rights;

		memset(&control, 0, sizeof(control));
		header.msg_control = control.bytes;
		header.msg_controllen = sizeof(control.bytes);
		rights = CMSG_FIRSTHDR(&header);
		rights->cmsg_level = SOL_SOCKET;
		rights->cmsg_type = SCM_RIGHTS;
		rights->cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(rights), &exec->terminal_fd, sizeof(int));
	}
	sendmsg(exec->status_fd, &header, MSG_DONTWAIT | MSG_NOSIGNAL);
	shim_close(&exec->terminal_fd);
}

void exec_start(struct asker from, const struct nsr_message *message, int *fds, int n_fds)
{
	const struct nsr_start *start = &message->u.start;
	struct nsr_message answer = {.type = NSR_MSG_OK};
	struct making making = {.slots = {-1, -1, -1}, .n_slots = 3, .clone_flags = start->clone_flags, .join_flags = start->join_flags};
	int target = table_find(start->target);
	int place = target < 0 ? -1 : new_place();
	int first = message_first_slot(message);
	struct exec *exec;
	int error = target < 0 ? target : place < 0 ? place : 0;

	if (error == 0 && shim.instances[target].phase != PHASE_RUNNING)
		error = -ESRCH;
	if (error < 0) {
		client_fail(from, error);
		return;
	}
	if (!(start->flags & NSR_START_TERMINAL))
		memcpy(making.slots, fds + first - 3, 3 * sizeof(int));
	for (int i = first; i < n_fds; i++)
		making.slots[making.n_slots++] = fds[i];
	making.target_pidfd = shim.instances[target].pidfd;
	making.cgroup_fd = start->flags & NSR_START_NO_CGROUP ? shim.instances[target].cgroup_fd : fds[2];
	error = program_load(fds[0], &making);
	if (error == 0) {
		error = process_make(&making);
		program_unload(&making);
	}
	if (error < 0) {
		client_fail(from, error);
		return;
	}
	exec = &shim.execs[place];
	*exec = (struct exec){.used = 1, .pid = making.pid, .pidfd = making.pidfd, .report_fd = making.report_fd,
			      .status_fd = fds[1], .terminal_fd = -1, .target = target};
	fds[1] = -1;
	error = shim_watch(exec->report_fd, EPOLLIN, SOURCE_EXEC_REPORT, place);
	if (error < 0) {
		exec->failed = 1;
		exec->report = (struct nsr_report){.kind = NSR_REPORT_FAILED, .error = -error};
		sys_pidfd_send_signal(exec->pidfd, 9);
	}
	client_send(from, &answer, NULL, 0);
}

void exec_report(int index)
{
	struct exec *exec = &shim.execs[index];

	while (exec->used && exec->report_fd >= 0) {
		int kind = report_receive(exec->report_fd, &exec->report, &exec->terminal_fd);

		if (kind == -EAGAIN)
			return;
		if (kind == 1)
			exec->failed = 1;
		if (kind == 0) {
			shim_close(&exec->report_fd);
			if (!exec->failed) {
				exec->started = 1;
				tell(exec, NSR_EXEC_STARTED, 0);
			}
		}
	}
}

void exec_reaped(int index, int status)
{
	struct exec *exec = &shim.execs[index];

	exec_report(index);
	if (!exec->failed && !exec->started)
		tell(exec, NSR_EXEC_STARTED, 0);
	tell(exec, exec->failed ? NSR_EXEC_FAILED : NSR_EXEC_EXITED, status);
	free_place(index);
}

void exec_kill_of(int target)
{
	for (int i = 0; i < shim.n_execs; i++)
		if (shim.execs[i].used && shim.execs[i].target == target)
			sys_pidfd_send_signal(shim.execs[i].pidfd, 9);
}
