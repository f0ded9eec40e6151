/* SPDX-License-Identifier: Apache-2.0 */
/*
 * log.h - the pump: from an instance's stdout and stderr (pipes, or one pty) into its log file.
 *
 * Back-pressure is the pipe: while the log cannot be written the pump does not read, and the container's write waits. What was read and formatted
 * before stays in memory to the byte and goes on from there; nothing is dropped, nothing is written twice.
 */
#ifndef NSR_LOG_H
#define NSR_LOG_H
#include <stddef.h>
#include <stdint.h>

enum stream_state {
	STREAM_CLOSED = 0,
	STREAM_ARMED,			/* epoll tells when there is something to read */
	STREAM_PARKED,			/* read again when `at` has come: batches a busy writer's many small writes */
	STREAM_BLOCKED			/* not read: its log has bytes that cannot be written */
};

struct stream {
	int fd;
	enum stream_state state;
	int watched;			/* it is in the epoll set */
	int64_t at, last;		/* CLOCK_MONOTONIC: next turn when parked; last turn */
	int pipe_size;			/* 0: not asked yet */
	char *rest;			/* LOG_LINE_MAX bytes, mapped on demand: the line that is not complete yet */
	size_t n_rest;
};

struct log {
	int fd;
	int error;			/* errno of the write that failed, while bytes wait */
	int is_terminal;
	int64_t retry_at;
	char *waiting;			/* formatted bytes that could not be written: a whole buffer taken from the pump */
	size_t wait_from, wait_to;
	int old_fd;			/* after REOPEN: where the line that is half written has to be completed; or -1 */
	size_t old_left;		/* how many bytes of it */
	uint64_t bytes;
	struct stream streams[2];
};

void log_init(struct log *log, int fd);
/* Takes `stream` over and starts to read it. 0 or -errno. */
int log_open_stream(int instance, int stream, int fd);
void log_event(int instance, int stream);
/* Reads all that is there now, without waiting for anything. */
void log_drain(int instance);
/* Ends the streams: what they have of an incomplete line is written. */
void log_finish(int instance);
int log_done(const struct log *log);		/* no stream open, no byte waiting */
void log_reopen(int instance, int fd);
void log_close(struct log *log);		/* gives everything back; bytes that still wait are lost */
int64_t log_timers(int64_t now);

#endif
