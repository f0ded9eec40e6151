/* SPDX-License-Identifier: Apache-2.0 */
/*
 * shim_request.c - what each request does. The packet was checked; descriptors that are kept are taken out of the list.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/netlink.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <termios.h>
#include <unistd.h>
#include "program.h"
#include "shim.h"
#include "sys.h"

static int take(int *fd)
{
	int taken = *fd;

	*fd = -1;
	return taken;
}

static void ok(struct asker to)
{
	struct nsr_message message = {.type = NSR_MSG_OK};

	client_send(to, &message, NULL, 0);
}

/* OK, or FAILED with -error. */
static void answer(struct asker to, int error)
{
	if (error < 0)
		client_fail(to, error);
	else
		ok(to);
}

static void hello(struct asker from)
{
	struct nsr_message message = {.type = NSR_MSG_HELLO};

	message.u.hello.wire_version = NSR_WIRE_VERSION;
	message.u.hello.pid = getpid();
	message.u.hello.running = (uint32_t)table_running();
	message.u.hello.known = (uint32_t)table_known();
	message.u.hello.sandbox_ready = shim.sandbox == 1;
	message.u.hello.started_ns = shim.started_ns;
	client_send(from, &message, NULL, 0);
}

/* Runs in the shim itself, so that the namespaces it makes are the shim's. What failed half-way cannot be tried again: QUIT and start anew. */
static void sandbox(struct asker from, int *fds, int n_fds)
{
	struct nsr_message message = {.type = NSR_MSG_FAILED};
	struct nsr_context context = {.slots = fds + 1, .n_slots = n_fds - 1, .report_fd = -1};
	struct making making = {0};
	int error;

	if (shim.sandbox != 0) {
		client_fail(from, EALREADY);
		return;
	}
	making.n_slots = n_fds - 1;
	error = program_load(fds[0], &making);
	if (error < 0) {
		client_fail(from, error);
		return;
	}
	error = nsr_program_run(making.program, making.program_size, &context, &message.u.report);
	program_unload(&making);
	shim.sandbox = error < 0 ? -1 : 1;
	if (error == 0) {
		ok(from);
		return;
	}
	message.u.report.kind = NSR_REPORT_FAILED;
	message.error = -error;
	client_send(from, &message, NULL, 0);
}

static void network(struct asker from)
{
	struct nsr_message message = {.type = NSR_MSG_OK};
	int fds[2];

	fds[0] = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
	fds[1] = socket(AF_NETLINK, SOCK_DGRAM | SOCK_CLOEXEC, NETLINK_ROUTE);
	if (fds[0] < 0 || fds[1] < 0)
		client_fail(from, errno);
	else
		client_send(from, &message, fds, 2);
	shim_close(&fds[0]);
	shim_close(&fds[1]);
}

static int has_process(const struct instance *instance)
{
	return instance->phase == PHASE_SETUP || instance->phase == PHASE_RUNNING;
}

static void remember_stop(struct instance *instance, int signal)
{
	instance->record.stop_signal = signal;
	instance->record.stop_ns = shim_clock();
	record_write(instance, 0);
}

static int send_signal(int index, int signal, int stop)
{
	struct instance *instance = &shim.instances[index];
	if (signal < 0 || signal > 64)
		return -EINVAL;
	if (!has_process(instance))
		return -ESRCH;
	/* Before it is sent: an exit that follows at once must find it on disk. */
	if (stop)
		remember_stop(instance, signal);
	return sys_pidfd_send_signal(instance->pidfd, signal);
}

static int kill_all(int index)
{
	if (!has_process(&shim.instances[index]))
		return -ESRCH;
	/* After a stop signal this is its last step: when that one was sent is what counts. */
	if (shim.instances[index].record.stop_signal == 0)
		remember_stop(&shim.instances[index], 9);
	return instance_kill(index);
}

static int forget(int index)
{
	struct instance *instance = &shim.instances[index];
	int error;

	if (instance->phase != PHASE_ENDED)
		return -EBUSY;
	error = record_remove(instance);
	if (error < 0)
		return error;
	if (log_done(&instance->log))
		table_free(index);
	else
		instance->phase = PHASE_FORGOTTEN;
	return 0;
}

static int reopen(int index, int *fd)
{
	/* Nothing will be written any more. */
	if (shim.instances[index].phase == PHASE_ENDED && log_done(&shim.instances[index].log))
		return -ESRCH;
	log_reopen(index, take(fd));
	return 0;
}

static int close_stdin(int index)
{
	struct instance *instance = &shim.instances[index];

	if (instance->stdin_fd < 0)
		return -EPIPE;
	shim_close(&instance->stdin_fd);
	return 0;
}

static int resize(int index, uint32_t size)
{
	struct log *log = &shim.instances[index].log;
	struct winsize window = {.ws_row = (unsigned short)(size >> 16), .ws_col = (unsigned short)size};

	if (!log->is_terminal || log->streams[0].fd < 0)
		return -ENOTTY;
	return ioctl(log->streams[0].fd, TIOCSWINSZ, &window) < 0 ? -errno : 0;
}

/*
 * The write end of stdin goes to every attach that asks for it; with STDIN_ONCE the first gets the only one there is, so that
 * the container's stdin ends when that client closes it or dies, without anybody having to notice.
 */
static void attach(struct asker from, const struct nsr_attach *attach, int *fds, int n_fds)
{
	struct nsr_message message = {.type = NSR_MSG_OK};
	int index = table_find(attach->id);
	struct instance *instance = &shim.instances[index < 0 ? 0 : index];
	int added[2];
	int in = -1;
	int error = index < 0 ? index : 0;

	if (error == 0 && instance->phase != PHASE_RUNNING)
		error = -ESRCH;
	if (error == 0 && attach->want_stdin) {
		in = instance->log.is_terminal ? instance->log.streams[0].fd : instance->stdin_fd;
		if (in < 0)
			error = -EPIPE;
	}
	for (int i = 0; i < n_fds && error >= 0; i++) {
		/* One output gets both streams, the first of two stdout, the second stderr. */
		error = added[i] = attach_add(index, fds[i], n_fds == 1 ? 3 : 1U << i);
		if (error >= 0)
			take(&fds[i]);
		else if (i > 0)
			attach_remove(added[0]);
	}
	if (error < 0) {
		client_fail(from, error);
		return;
	}
	client_send(from, &message, &in, in >= 0 ? 1 : 0);
	if (in >= 0 && in == instance->stdin_fd && instance->record.flags & NSR_START_STDIN_ONCE)
		shim_close(&instance->stdin_fd);
}

static void quit(struct asker from)
{
	if (table_running() > 0) {
		client_fail(from, EBUSY);
		return;
	}
	/* The name goes before the answer: who has the answer may make a new shim here. */
	unlinkat(FD_DIRECTORY, "shim.sock", 0);
	ok(from);
	shim.quit = 1;
}

void request(struct asker from, const struct nsr_message *message, int *fds, int n_fds)
{
	int index = -ENOENT;

	switch (message->type) {
	case NSR_MSG_HELLO:
		hello(from);
		return;
	case NSR_MSG_SANDBOX:
		sandbox(from, fds, n_fds);
		return;
	case NSR_MSG_NETWORK:
		network(from);
		return;
	case NSR_MSG_START:
		instance_start(from, message, fds, n_fds);
		return;
	case NSR_MSG_EXEC:
		exec_start(from, message, fds, n_fds);
		return;
	case NSR_MSG_JOB:
		job_start(from, message, fds, n_fds);
		return;
	case NSR_MSG_ATTACH:
		attach(from, &message->u.attach, fds, n_fds);
		return;
	case NSR_MSG_QUIT:
		quit(from);
		return;
	default:
		break;
	}

	index = table_find(message->u.signal.id);
	if (index < 0) {
		client_fail(from, index);
		return;
	}
	switch (message->type) {
	case NSR_MSG_SIGNAL:
		answer(from, send_signal(index, message->u.signal.signal, message->u.signal.stop != 0));
		break;
	case NSR_MSG_KILL:
		answer(from, kill_all(index));
		break;
	case NSR_MSG_REOPEN:
		answer(from, reopen(index, fds));
		break;
	case NSR_MSG_CLOSE_STDIN:
		answer(from, close_stdin(index));
		break;
	case NSR_MSG_RESIZE:
		answer(from, resize(index, (uint32_t)message->u.signal.signal));
		break;
	case NSR_MSG_FORGET:
		answer(from, forget(index));
		break;
	default:
		client_fail(from, EINVAL);
	}
}
