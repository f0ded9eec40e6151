/* SPDX-License-Identifier: Apache-2.0 */
/*
 * shim_start.c - an instance's way through the phases of shim.h.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/wait.h>
#include <unistd.h>
#include "message.h"
#include "shim.h"
#include "sys.h"

/* Both ends of the standard streams; ours go into the instance, the child's into the program's first slots. */
static int make_streams(struct instance *instance, struct making *making, int ours[2])
{
	uint32_t flags = instance->record.flags;
	int pair[2];

	if (flags & NSR_START_TERMINAL)
		return 0;
	if (flags & NSR_START_STDIN) {
		if (pipe2(pair, O_CLOEXEC) < 0)
			return -errno;
		making->slots[0] = pair[0];
		instance->stdin_fd = pair[1];
	}
	for (int s = 0; s < 2; s++) {
		if (pipe2(pair, O_CLOEXEC) < 0)
			return -errno;
		ours[s] = pair[0];
		making->slots[1 + s] = pair[1];
	}
	return 0;
}

/* To who asked; if that was a server that is gone, to its successor, who may have listed the instance as one that starts. */
static void answer(const struct instance *instance, struct nsr_message *message)
{
	struct nsr_message event = {.type = NSR_MSG_START_ENDED};

	if (client_send(instance->asker, message, NULL, 0))
		return;
	event.u.record = instance->record;
	client_broadcast(&event);
}

static void answer_started(const struct instance *instance)
{
	struct nsr_message message = {.type = NSR_MSG_STARTED};

	message.u.record = instance->record;
	answer(instance, &message);
}

/* The record says why; with a report the client gets that, else errno alone. */
static void start_failed(int index, int error)
{
	struct instance *instance = &shim.instances[index];
	struct nsr_message message = {.type = NSR_MSG_FAILED};

	if (!instance->failed)
		instance->record.report = (struct nsr_report){.error = error};
	instance->record.state = NSR_STATE_START_FAILED;
	instance->record.finished_ns = shim_clock();
	instance->phase = PHASE_ENDED;
	attach_end(index);
	log_close(&instance->log);
	shim_close(&instance->pidfd);
	shim_close(&instance->report_fd);
	shim_close(&instance->cgroup_fd);
	shim_close(&instance->stdin_fd);
	record_write(instance, 0);
	message.u.report = instance->record.report;
	message.error = error;
	answer(instance, &message);
}

/* Order: table, record on disk, pipes, process. What fails up to the record leaves nothing behind; what fails later is a START_FAILED. */
void instance_start(struct asker from, const struct nsr_message *message, int *fds, int n_fds)
{
	const struct nsr_start *start = &message->u.start;
	int first = message_first_slot(message);
	struct making making = {.slots = {-1, -1, -1}, .clone_flags = start->clone_flags, .cgroup_fd = -1, .target_pidfd = -1};
	struct instance *instance;
	int ours[2] = {-1, -1};
	int index, error;

	if (start->target[0] != '\0') {
		/* Before the record: a target that is not there yet makes no instance of this one, and it may be asked for again. */
		error = table_find_running(start->target);
		if (error < 0) {
			client_fail(from, error);
			return;
		}
		making.target_pidfd = shim.instances[error].pidfd;
	}
	making.n_slots = 3;
	for (int i = first; i < n_fds; i++)
		making.slots[making.n_slots++] = fds[i];
	error = program_load(fds[0], &making);
	if (error < 0) {
		client_fail(from, error);
		return;
	}
	index = table_new(start);
	if (index < 0) {
		program_unload(&making);
		client_fail(from, index);
		return;
	}
	instance = &shim.instances[index];
	instance->asker = from;
	record_fill(&instance->record, start, start->id);
	error = record_write(instance, 1);
	if (error < 0) {
		program_unload(&making);
		table_free(index);
		client_fail(from, error);
		return;
	}

	instance->phase = PHASE_SETUP;
	log_init(&instance->log, fds[1]);
	fds[1] = -1;
	instance->log.is_terminal = (start->flags & NSR_START_TERMINAL) != 0;
	if (!(start->flags & NSR_START_NO_CGROUP)) {
		instance->cgroup_fd = making.cgroup_fd = fds[2];
		fds[2] = -1;
	}
	error = make_streams(instance, &making, ours);
	if (error == 0)
		error = process_make(&making);
	program_unload(&making);
	for (int i = 0; i < 3; i++)
		shim_close(&making.slots[i]);
	if (error < 0) {
		shim_close(&ours[0]);
		shim_close(&ours[1]);
		start_failed(index, -error);
		return;
	}

	instance->pidfd = making.pidfd;
	instance->report_fd = making.report_fd;
	instance->record.pid = making.pid;
	error = shim_watch(instance->report_fd, EPOLLIN, SOURCE_REPORT, index);
	for (int s = 0; s < 2 && ours[s] >= 0; s++) {
		int opened = log_open_stream(index, s, ours[s]);

		if (opened < 0) {
			shim_close(&ours[s]);
			error = opened;
		}
	}
	if (error < 0) {
		/* Only memory can be short here. The process goes; its end is what makes the start a failed one. */
		instance->failed = 1;
		instance->record.report = (struct nsr_report){.kind = NSR_REPORT_FAILED, .error = -error};
		instance_kill(index);
	}
}

/* execve has succeeded. A terminal came up the report socket before. */
static void started(int index)
{
	struct instance *instance = &shim.instances[index];

	instance->phase = PHASE_RUNNING;
	instance->record.state = NSR_STATE_RUNNING;
	instance->record.started_ns = shim_clock();
	record_write(instance, 0);
	answer_started(instance);
}

void instance_report(int index)
{
	struct instance *instance = &shim.instances[index];

	while (instance->phase == PHASE_SETUP && instance->report_fd >= 0) {
		int terminal = -1;
		int kind = report_receive(instance->report_fd, &instance->record.report, &terminal);

		if (kind == -EAGAIN)
			return;
		if (kind == 1)
			instance->failed = 1;
		if (kind == 2 && (!instance->log.is_terminal || log_open_stream(index, 0, terminal) < 0))
			shim_close(&terminal);
		if (kind == 0) {
			shim_close(&instance->report_fd);
			/* With a FAILED report it is over when the process is reaped. */
			if (!instance->failed)
				started(index);
		}
	}
}

int instance_kill(int index)
{
	struct instance *instance = &shim.instances[index];
	int by_cgroup = -ENOENT;
	int by_pidfd = sys_pidfd_send_signal(instance->pidfd, 9);

	if (instance->cgroup_fd >= 0) {
		int fd = openat(instance->cgroup_fd, "cgroup.kill", O_WRONLY | O_CLOEXEC);

		by_cgroup = fd >= 0 && write(fd, "1", 1) == 1 ? 0 : -errno;
		shim_close(&fd);
	}
	exec_kill_of(index);
	return by_pidfd < 0 ? by_cgroup < 0 ? by_pidfd : 0 : 0;
}

void instance_reaped(int index, int status)
{
	struct instance *instance = &shim.instances[index];

	/* It may have exec'ed and ended before we looked, or it may have reported why not. */
	instance_report(index);
	if (instance->phase == PHASE_SETUP && instance->failed) {
		start_failed(index, instance->record.report.error);
		return;
	}
	if (instance->phase == PHASE_SETUP) {
		/* The report socket is held by a process it left behind. */
		shim_close(&instance->report_fd);
		started(index);
	}
	instance->record.wait_status = status;
	instance->record.finished_ns = shim_clock();
	instance->phase = PHASE_DRAINING;
	instance->drain_until = shim_now() + DRAIN_NS;
	instance_kill(index);
	shim_close(&instance->stdin_fd);
	log_drain(index);
	instance_drained(index);
}

static void ended(int index, int done)
{
	struct instance *instance = &shim.instances[index];
	struct nsr_message message = {.type = NSR_MSG_EXITED};

	instance->phase = PHASE_ENDED;
	instance->record.state = NSR_STATE_EXITED;
	instance->record.log_bytes = instance->log.bytes;
	record_write(instance, 0);
	shim_close(&instance->pidfd);
	shim_close(&instance->cgroup_fd);
	if (done) {
		attach_end(index);
		log_close(&instance->log);
	}
	message.u.record = instance->record;
	client_broadcast(&message);
}

/*
 * An exit is told when all output is in the log; but a log that cannot be written does not keep it back (record.log_error tells), and
 * its bytes wait on, even when the instance is forgotten.
 */
void instance_drained(int index)
{
	struct instance *instance = &shim.instances[index];
	int done = log_done(&instance->log);

	if (instance->phase == PHASE_DRAINING && (done || instance->log.waiting != NULL)) {
		ended(index, done);
	} else if (instance->phase == PHASE_ENDED && done) {
		instance->record.log_bytes = instance->log.bytes;
		record_write(instance, 0);
		attach_end(index);
		log_close(&instance->log);
	} else if (instance->phase == PHASE_FORGOTTEN && done) {
		table_free(index);
	}
}

int64_t instance_timers(int64_t now)
{
	int64_t next = NEVER;

	for (int i = 0; i < shim.n_instances; i++) {
		struct instance *instance = &shim.instances[i];

		if (instance->phase != PHASE_DRAINING)
			continue;
		if (instance->drain_until <= now) {
			log_finish(i);
			instance_drained(i);
		} else if (instance->drain_until < next) {
			next = instance->drain_until;
		}
	}
	return next;
}
