/* SPDX-License-Identifier: Apache-2.0 */
/*
 * shim_job.c - processes in a running container that must neither depend on who asked for them nor run twice.
 *
 * The file jobs/TARGET.NAME is made before the process, and stays: it is what refuses a second one of that name, also when both were asked
 * for by different servers. It holds a nsr_record, and behind it the beginning of what the job wrote. Whoever wants to know how
 * it ended reads the file, or waits for JOB_ENDED and then reads it.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/stat.h>
#include <unistd.h>
#include "message.h"
#include "shim.h"

enum { CHUNK = 8192, READS_AT_ONCE = 64 };

static void file_name(char *name, size_t size, const struct nsr_start *start)
{
	snprintf(name, size, "%s.%s", start->target, start->name);
}

static int write_record(int fd, const struct nsr_record *record)
{
	ssize_t n = pwrite(fd, record, sizeof(*record), 0);

	if (n < 0)
		return -errno;
	return n == sizeof(*record) ? 0 : -ENOSPC;
}

/* Reads what is there. What comes behind the kept beginning is thrown away: a job never waits for a reader. */
static void read_output(struct exec *exec)
{
	char chunk[CHUNK];

	for (int i = 0; i < READS_AT_ONCE && exec->output_fd >= 0; i++) {
		ssize_t n = read(exec->output_fd, chunk, sizeof(chunk));
		size_t room = NSR_JOB_OUTPUT - (size_t)exec->record.log_bytes;

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			return;
		if (n <= 0) {
			shim_close(&exec->output_fd);
			return;
		}
		if (exec->file_fd < 0 || exec->record.log_error != 0 || room == 0)
			continue;
		n = pwrite(exec->file_fd, chunk, (size_t)n < room ? (size_t)n : room,
			   (off_t)(sizeof(exec->record) + exec->record.log_bytes));
		if (n < 0)
			exec->record.log_error = errno;
		else
			exec->record.log_bytes += (uint64_t)n;
	}
}

void job_output(int index)
{
	struct exec *exec = &shim.execs[index];

	if (!exec->used || exec->output_fd < 0)
		return;
	read_output(exec);
	if (exec->output_fd < 0 && exec->pid == 0)
		exec_free(index);
}

/* Order: file, pipe, process. What fails leaves no file: then nothing ran, and it may be asked for again. */
void job_start(struct asker from, const struct nsr_message *message, int *fds, int n_fds)
{
	const struct nsr_start *start = &message->u.start;
	struct nsr_message answer = {.type = NSR_MSG_OK};
	struct making making = {.slots = {-1, -1, -1}, .n_slots = 3, .cgroup_fd = -1};
	struct nsr_record record;
	char name[NSR_ID_LEN + 1 + NSR_NAME_LEN + 1];
	int place = exec_place(start);
	int output[2] = {-1, -1};
	int error = place < 0 ? place : 0;
	int fd = -1;

	file_name(name, sizeof(name), start);
	memset(&record, 0, sizeof(record));
	record_fill(&record, start, start->target);
	if (error == 0) {
		fd = openat(shim.jobs_fd, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
		error = fd < 0 ? -errno : write_record(fd, &record);
	}
	if (error == 0 && pipe2(output, O_CLOEXEC) < 0)
		error = -errno;
	if (error == 0 && fcntl(output[0], F_SETFL, O_NONBLOCK) < 0)
		error = -errno;
	if (error == 0)
		error = shim_watch(output[0], EPOLLIN, SOURCE_JOB, place);
	if (error == 0) {
		making.slots[1] = making.slots[2] = output[1];
		if (!(start->flags & NSR_START_NO_CGROUP))
			making.cgroup_fd = fds[1];
		error = exec_make(place, message, &making, fds, n_fds);
	}
	shim_close(&output[1]);
	if (error < 0) {
		shim_close(&output[0]);
		if (fd >= 0)
			unlinkat(shim.jobs_fd, name, 0);
		shim_close(&fd);
		client_fail(from, error);
		return;
	}
	shim.execs[place].job = 1;
	shim.execs[place].file_fd = fd;
	shim.execs[place].record = record;
	shim.execs[place].record.pid = making.pid;
	shim.execs[place].output_fd = output[0];
	client_send(from, &answer, NULL, 0);
}

void job_told(struct exec *exec, uint32_t kind, int wait_status)
{
	struct nsr_message message = {.type = NSR_MSG_JOB_ENDED};

	if (kind == NSR_EXEC_STARTED) {
		exec->record.state = NSR_STATE_RUNNING;
		exec->record.started_ns = shim_clock();
		write_record(exec->file_fd, &exec->record);
		return;
	}
	read_output(exec);
	exec->record.state = kind == NSR_EXEC_FAILED ? NSR_STATE_START_FAILED : NSR_STATE_EXITED;
	if (kind == NSR_EXEC_FAILED)
		exec->record.report = exec->report;
	else
		exec->record.wait_status = wait_status;
	exec->record.finished_ns = shim_clock();
	write_record(exec->file_fd, &exec->record);
	shim_close(&exec->file_fd);
	message.u.record = exec->record;
	client_broadcast(&message);
}
