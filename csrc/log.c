/* SPDX-License-Identifier: Apache-2.0 */
/*
 * log.c - see log.h.
 *
 * One read, one pass that formats, one write for each turn of a stream. The two buffers are shared by all streams, mapped when something is read
 * and given back when less than QUIET_BYTES went through in CALM_NS. A buffer with bytes that cannot be written changes
 * hands: it belongs to the log then, and the pump maps another for the others.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <unistd.h>
#include "log_format.h"
#include "shim.h"

enum {
	READ_MAX = 262144,
	TURN_READS = 4,			/* then the other streams get their turn */
	DRAIN_READS = 64,		/* more than any pipe holds; who still writes then is not of the container */
	PIPE_CALM = 65536,
	PIPE_BUSY = 1048576,		/* /proc/sys/fs/pipe-max-size as it is everywhere */
	PIPE_UNKNOWN = 0,
	QUIET_BYTES = 65536,
};
#define IN_SIZE ((size_t)LOG_LINE_MAX + READ_MAX)
#define OUT_SIZE log_room(IN_SIZE)
#define CALM_NS (1000 * MILLISECOND)
#define BUSY_NS (2 * MILLISECOND)	/* two turns closer than this: a writer at work */
#define PARK_NS (1 * MILLISECOND)
#define RETRY_NS (200 * MILLISECOND)

static char *in_buffer, *out_buffer;
static int64_t calm_at = NEVER;
static uint64_t passed;			/* bytes since calm_at was set */

/* Not inherited by the children: they would pay for copying its page tables. */
static char *map(size_t size)
{
	void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (memory == MAP_FAILED)
		return NULL;
	madvise(memory, size, MADV_DONTFORK);
	madvise(memory, size, MADV_NOHUGEPAGE);
	return memory;
}

static void unmap(char **memory, size_t size)
{
	if (*memory != NULL)
		munmap(*memory, size);
	*memory = NULL;
}

static int have_buffers(struct stream *stream)
{
	if (in_buffer == NULL)
		in_buffer = map(IN_SIZE);
	if (out_buffer == NULL)
		out_buffer = map(OUT_SIZE);
	if (stream->rest == NULL)
		stream->rest = map(LOG_LINE_MAX);
	if (calm_at == NEVER) {
		calm_at = shim_now() + CALM_NS;
		passed = 0;
	}
	return in_buffer != NULL && out_buffer != NULL && stream->rest != NULL;
}

static void give_back(int64_t now)
{
	if (passed > QUIET_BYTES) {
		passed = 0;
		calm_at = now + CALM_NS;
		return;
	}
	calm_at = NEVER;
	unmap(&in_buffer, IN_SIZE);
	unmap(&out_buffer, OUT_SIZE);
	for (int i = 0; i < shim.n_instances; i++) {
		for (int s = 0; s < 2; s++) {
			struct stream *stream = &shim.instances[i].log.streams[s];

			if (stream->state == STREAM_CLOSED)
				continue;
			if (stream->n_rest == 0)
				unmap(&stream->rest, LOG_LINE_MAX);
			/* EBUSY when it holds more than that by now: it stays large until the next time. */
			if (stream->pipe_size <= PIPE_CALM || fcntl(stream->fd, F_SETPIPE_SZ, PIPE_CALM) > 0)
				stream->pipe_size = PIPE_UNKNOWN;
		}
	}
}

void log_init(struct log *log, int fd)
{
	memset(log, 0, sizeof(*log));
	log->fd = fd;
	log->old_fd = -1;
	log->streams[0].fd = log->streams[1].fd = -1;
}

static int source_index(int instance, int stream)
{
	return instance * 2 + stream;
}

static void park(struct stream *stream, int64_t at)
{
	stream->state = STREAM_PARKED;
	stream->at = at;
}

/* One-shot, so that a parked or blocked stream whose writers are gone does not wake the loop again and again. */
static void arm(int instance, int s)
{
	struct stream *stream = &shim.instances[instance].log.streams[s];

	stream->state = STREAM_ARMED;
	if (stream->watched) {
		shim_rewatch(stream->fd, EPOLLIN | EPOLLONESHOT, SOURCE_STREAM, source_index(instance, s));
		return;
	}
	stream->watched = shim_watch(stream->fd, EPOLLIN | EPOLLONESHOT, SOURCE_STREAM, source_index(instance, s)) == 0;
	if (!stream->watched)
		park(stream, shim_now() + RETRY_NS);
}

/* Out of the set altogether: an entry in it, even a disarmed one, costs the writer a callback at every write. */
static void leave_alone(struct stream *stream, int64_t until)
{
	if (stream->watched)
		shim_unwatch(stream->fd);
	stream->watched = 0;
	park(stream, until);
}

int log_open_stream(int instance, int s, int fd)
{
	struct stream *stream = &shim.instances[instance].log.streams[s];
	int flags = fcntl(fd, F_GETFL);
	int error;

	if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0)
		return -errno;
	error = shim_watch(fd, EPOLLIN | EPOLLONESHOT, SOURCE_STREAM, source_index(instance, s));
	if (error < 0)
		return error;
	memset(stream, 0, sizeof(*stream));
	stream->fd = fd;
	stream->state = STREAM_ARMED;
	stream->watched = 1;
	return 0;
}

/* 0 when all that waits is written, else errno. A write that was cut short goes on at the byte it stopped at. */
static int write_waiting(struct log *log)
{
	while (log->wait_from < log->wait_to) {
		size_t left = log->wait_to - log->wait_from;
		int old = log->old_left > 0;
		ssize_t n = write(old ? log->old_fd : log->fd, log->waiting + log->wait_from, old ? log->old_left : left);

		if (n <= 0)
			return n < 0 ? errno : ENOSPC;
		log->wait_from += (size_t)n;
		log->bytes += (uint64_t)n;
		if (old) {
			log->old_left -= (size_t)n;
			if (log->old_left == 0)
				shim_close(&log->old_fd);
		}
	}
	return 0;
}

static void blocked(int index, int error)
{
	struct instance *instance = &shim.instances[index];
	struct log *log = &instance->log;

	log->error = error;
	log->retry_at = shim_now() + RETRY_NS;
	for (int s = 0; s < 2; s++)
		if (log->streams[s].state != STREAM_CLOSED)
			log->streams[s].state = STREAM_BLOCKED;
	if (instance->phase == PHASE_FORGOTTEN)
		return;			/* its id may be another's by now */
	instance->record.log_error = error;
	instance->record.log_bytes = log->bytes;
	record_write(instance, 0);
	client_tell_log(index, error);
	if (instance->phase == PHASE_DRAINING)
		instance_drained(index);
}

/* Writes `n` bytes of the pump's buffer. -1 when the log is blocked now. */
static int write_out(int index, size_t n)
{
	struct log *log = &shim.instances[index].log;
	int error;

	log->waiting = out_buffer;
	log->wait_from = 0;
	log->wait_to = n;
	error = write_waiting(log);
	if (error == 0) {
		log->waiting = NULL;
		return 0;
	}
	out_buffer = NULL;
	/* Earlier turns may have filled the buffer further. */
	n = (n + 4095) & ~(size_t)4095;
	madvise(log->waiting + n, OUT_SIZE - n, MADV_DONTNEED);
	blocked(index, error);
	return -1;
}

static void prefix_now(char *prefix, int stream)
{
	int64_t now = shim_clock();

	log_prefix(prefix, now / 1000000000, (uint32_t)(now % 1000000000), stream);
}

static void end_stream(int index, int s)
{
	struct stream *stream = &shim.instances[index].log.streams[s];
	char prefix[LOG_PREFIX];
	size_t n = 0;

	if (stream->n_rest > 0) {
		if (!have_buffers(stream)) {
			park(stream, shim_now() + RETRY_NS);
			return;
		}
		prefix_now(prefix, s);
		n = log_rest(stream->rest, stream->n_rest, prefix, out_buffer);
	}
	shim_close(&stream->fd);
	stream->state = STREAM_CLOSED;
	stream->n_rest = 0;
	unmap(&stream->rest, LOG_LINE_MAX);
	if (n > 0)
		write_out(index, n);
}

enum { READ_LATER = 0, READ_ENDED = -1, READ_BLOCKED = -2 };

/* One read and what follows from it: the number of bytes, or one of the above. */
static ssize_t pump(int index, int s)
{
	struct instance *instance = &shim.instances[index];
	struct stream *stream = &instance->log.streams[s];
	char prefix[LOG_PREFIX];
	char *fresh, *start;
	size_t out, rest;
	ssize_t n;

	if (!have_buffers(stream)) {
		park(stream, shim_now() + RETRY_NS);
		return READ_BLOCKED;
	}
	/* What is left of the line goes right before what is read, so that formatting sees one piece. */
	fresh = in_buffer + LOG_LINE_MAX;
	start = fresh - stream->n_rest;
	n = read(stream->fd, fresh, READ_MAX);
	if (n < 0 && errno == EAGAIN)
		return READ_LATER;
	if (n <= 0) {
		/* A pty has no end while its container lives: somebody may open it again. */
		if (n < 0 && instance->log.is_terminal && instance->phase == PHASE_RUNNING) {
			park(stream, shim_now() + RETRY_NS);
			return READ_BLOCKED;
		}
		end_stream(index, s);
		return READ_ENDED;
	}
	passed += (uint64_t)n;
	attach_copy(index, s, fresh, (size_t)n);
	memcpy(start, stream->rest, stream->n_rest);
	prefix_now(prefix, s);
	out = log_lines(start, (size_t)(fresh + n - start), prefix, out_buffer, &rest);
	memcpy(stream->rest, fresh + n - rest, rest);
	stream->n_rest = rest;
	return out > 0 && write_out(index, out) < 0 ? READ_BLOCKED : n;
}

/*
 * When to read a busy writer's pipe again: when it will be five eighths full at the pace it was filled since the last turn. Meanwhile the
 * writer has the pipe for itself, which makes it twice as fast as a reader that is always there; and it must not wait for us.
 */
static int64_t pause_for(struct stream *stream, size_t total, int64_t since)
{
	int64_t pause;

	if (stream->pipe_size == PIPE_UNKNOWN) {
		int size = fcntl(stream->fd, F_GETPIPE_SZ);

		stream->pipe_size = size > 0 ? size : 4096;
	}
	if (stream->pipe_size == PIPE_CALM && total >= PIPE_CALM / 2) {
		int size = fcntl(stream->fd, F_SETPIPE_SZ, PIPE_BUSY);

		/* EPERM: root's share of pipe memory is used up. Not asked again until it is calm: an odd size says so. */
		stream->pipe_size = size > 0 ? size : PIPE_CALM - 1;
	}
	pause = since * (stream->pipe_size / 8 * 5) / (int64_t)total;
	return pause < PARK_NS ? pause : PARK_NS;
}

static void turn(int index, int s)
{
	struct stream *stream = &shim.instances[index].log.streams[s];
	int64_t now = shim_now();
	size_t total = 0;
	ssize_t n = 0;

	for (int i = 0; i < TURN_READS; i++) {
		n = pump(index, s);
		if (n < 0)
			break;
		total += (size_t)n;
		if (n < READ_MAX)
			break;
	}
	if (n == READ_ENDED)
		instance_drained(index);
	if (n < 0)
		return;
	if (total == 0 || now - stream->last > BUSY_NS)
		arm(index, s);
	else
		leave_alone(stream, now + pause_for(stream, total, now - stream->last));
	if (total > 0)
		stream->last = now;
}

void log_event(int index, int s)
{
	/* Anything else: an event from before it was parked or closed. */
	if (shim.instances[index].log.streams[s].state == STREAM_ARMED)
		turn(index, s);
}

void log_drain(int index)
{
	struct log *log = &shim.instances[index].log;

	for (int s = 0; s < 2; s++) {
		struct stream *stream = &log->streams[s];

		if (stream->state != STREAM_ARMED && stream->state != STREAM_PARKED)
			continue;
		for (int i = 0; i < DRAIN_READS && pump(index, s) > 0; i++)
			;
		if (stream->state == STREAM_ARMED || stream->state == STREAM_PARKED)
			arm(index, s);
	}
}

void log_finish(int index)
{
	for (int s = 0; s < 2; s++)
		if (shim.instances[index].log.streams[s].state != STREAM_CLOSED)
			end_stream(index, s);
}

int log_done(const struct log *log)
{
	return log->streams[0].state == STREAM_CLOSED && log->streams[1].state == STREAM_CLOSED && log->waiting == NULL;
}

static void retry(int index, int64_t now)
{
	struct instance *instance = &shim.instances[index];
	struct log *log = &instance->log;
	int error = write_waiting(log);

	if (error != 0) {
		log->error = instance->record.log_error = error;
		log->retry_at = now + RETRY_NS;
		return;
	}
	unmap(&log->waiting, OUT_SIZE);
	log->error = 0;
	for (int s = 0; s < 2; s++)
		if (log->streams[s].state == STREAM_BLOCKED)
			park(&log->streams[s], now);
	instance->record.log_error = 0;
	instance->record.log_bytes = log->bytes;
	if (instance->phase != PHASE_FORGOTTEN) {
		record_write(instance, 0);
		client_tell_log(index, 0);
	}
	instance_drained(index);
}

void log_reopen(int index, int fd)
{
	struct log *log = &shim.instances[index].log;

	if (log->waiting != NULL && log->old_left == 0 && log->wait_from > 0 && log->waiting[log->wait_from - 1] != '\n') {
		const char *at = log->waiting + log->wait_from;
		const char *newline = memchr(at, '\n', log->wait_to - log->wait_from);

		/* Whatever waits ends with a newline. */
		log->old_left = (size_t)(newline + 1 - at);
		log->old_fd = log->fd;
		log->fd = -1;
	}
	shim_close(&log->fd);
	log->fd = fd;
	if (log->waiting != NULL)
		retry(index, shim_now());
}

void log_close(struct log *log)
{
	for (int s = 0; s < 2; s++) {
		shim_close(&log->streams[s].fd);
		unmap(&log->streams[s].rest, LOG_LINE_MAX);
		log->streams[s].state = STREAM_CLOSED;
	}
	unmap(&log->waiting, OUT_SIZE);
	shim_close(&log->fd);
	shim_close(&log->old_fd);
}

static int64_t earlier(int64_t a, int64_t b)
{
	return a < b ? a : b;
}

int64_t log_timers(int64_t now)
{
	int64_t next;

	if (calm_at <= now)
		give_back(now);
	next = calm_at;
	for (int i = 0; i < shim.n_instances; i++) {
		struct log *log = &shim.instances[i].log;

		if (shim.instances[i].phase == PHASE_FREE)
			continue;
		if (log->waiting != NULL && log->retry_at <= now)
			retry(i, now);
		for (int s = 0; s < 2; s++)
			if (log->streams[s].state == STREAM_PARKED && log->streams[s].at <= now)
				turn(i, s);
		if (log->waiting != NULL)
			next = earlier(next, log->retry_at);
		for (int s = 0; s < 2; s++)
			if (log->streams[s].state == STREAM_PARKED)
				next = earlier(next, log->streams[s].at);
	}
	return next;
}
