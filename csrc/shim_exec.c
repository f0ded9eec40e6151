/* SPDX-License-Identifier: Apache-2.0 */
/*
 * shim_exec.c - more processes in a running container. Who asked for one reads its fate from a socket of its own; the shim keeps
 * nothing of it, and nobody's absence changes anything for it. (What shim_job.c adds is a file instead of the socket.)
 */
#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include "message.h"
#include "shim.h"
#include "sys.h"

int exec_place(const struct nsr_start *start)
{
	int target = table_find_running(start->target);

	if (target < 0)
		return target;
	for (int i = 0; i < MAX_EXECS; i++)
		if (!shim.execs[i].used)
			return i;
	return -ENOBUFS;
}

void exec_free(int place)
{
	struct exec *exec = &shim.execs[place];

	shim_close(&exec->pidfd);
	shim_close(&exec->report_fd);
	shim_close(&exec->status_fd);
	shim_close(&exec->terminal_fd);
	shim_close(&exec->file_fd);
	shim_close(&exec->output_fd);
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

	if (exec->job) {
		job_told(exec, kind, wait_status);
		return;
	}
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

int exec_make(int place, const struct nsr_message *message, struct making *making, const int *fds, int n_fds)
{
	const struct nsr_start *start = &message->u.start;
	int target = table_find(start->target);
	int first = message_first_slot(message);
	struct exec *exec = &shim.execs[place];
	int error;

	for (int i = first; i < n_fds; i++)
		making->slots[making->n_slots++] = fds[i];
	making->clone_flags = start->clone_flags;
	making->join_flags = start->join_flags;
	making->target_pidfd = shim.instances[target].pidfd;
	if (start->flags & NSR_START_NO_CGROUP)
		making->cgroup_fd = shim.instances[target].cgroup_fd;
	error = program_load(fds[0], making);
	if (error == 0) {
		error = process_make(making);
		program_unload(making);
	}
	if (error < 0)
		return error;
	memset(exec, 0, sizeof(*exec));
	exec->used = 1;
	exec->pid = making->pid;
	exec->pidfd = making->pidfd;
	exec->report_fd = making->report_fd;
	exec->status_fd = exec->terminal_fd = exec->file_fd = exec->output_fd = -1;
	exec->target = target;
	if (place >= shim.n_execs)
		shim.n_execs = place + 1;
	error = shim_watch(exec->report_fd, EPOLLIN, SOURCE_EXEC_REPORT, place);
	if (error < 0) {
		exec->failed = 1;
		exec->report = (struct nsr_report){.kind = NSR_REPORT_FAILED, .error = -error};
		sys_pidfd_send_signal(exec->pidfd, 9);
	}
	return 0;
}

void exec_start(struct asker from, const struct nsr_message *message, int *fds, int n_fds)
{
	struct nsr_message answer = {.type = NSR_MSG_OK};
	struct making making = {.slots = {-1, -1, -1}, .n_slots = 3, .cgroup_fd = -1};
	int place = exec_place(&message->u.start);
	int error = place;

	if (error >= 0) {
		if (!(message->u.start.flags & NSR_START_TERMINAL))
			memcpy(making.slots, fds + message_first_slot(message) - 3, 3 * sizeof(int));
		if (!(message->u.start.flags & NSR_START_NO_CGROUP))
			making.cgroup_fd = fds[2];
		error = exec_make(place, message, &making, fds, n_fds);
	}
	if (error < 0) {
		client_fail(from, error);
		return;
	}
	shim.execs[place].status_fd = fds[1];
	fds[1] = -1;
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
	exec->pid = 0;
	shim_close(&exec->pidfd);
	if (exec->output_fd < 0)
		exec_free(index);
}

void exec_kill_of(int target)
{
	for (int i = 0; i < shim.n_execs; i++) {
		if (!shim.execs[i].used || shim.execs[i].target != target)
			continue;
		if (shim.execs[i].pid > 0)
			sys_pidfd_send_signal(shim.execs[i].pidfd, 9);
		else
			exec_free(i);
	}
}
