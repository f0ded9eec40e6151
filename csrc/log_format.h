/* SPDX-License-Identifier: Apache-2.0 */
/*
 * log_format.h - a container's output as lines of a CRI log: "<RFC 3339 time> <stream> <F or P> <content>\n" (S-LOG).
 *
 * Pure: no descriptor, no clock, no state. Every byte of the input comes out once and in order; a carriage return before
 * a newline is content like any other byte.
 */
#ifndef NSR_LOG_FORMAT_H
#define NSR_LOG_FORMAT_H
#include <stddef.h>
#include <stdint.h>

enum {
	LOG_LINE_MAX = 16384,		/* content bytes of one log line; containerd's MaxContainerLogLineSize */
	LOG_PREFIX = 38,		/* "2006-01-02T15:04:05.999999999Z stdout ": both streams' names have six letters */
	LOG_LINE_EXTRA = LOG_PREFIX + 3	/* what a log line has besides its content: prefix, tag, space, newline */
};

/* The most bytes that log_lines() and log_rest() together can make of `n` bytes: every one a line of its own. */
static inline size_t log_room(size_t n)
{
	return (n + 1) * (LOG_LINE_EXTRA + 1);
}

/* Writes LOG_PREFIX bytes. `seconds` since the epoch, up to the year 9999; stream 0 is stdout, 1 is stderr. */
void log_prefix(char *prefix, int64_t seconds, uint32_t nanoseconds, int stream);

/*
 * Formats what `in` has of whole lines, and pieces of LOG_LINE_MAX bytes (tag P) of a line that is longer than that.
 * Returns the bytes written to `out`; *rest is the number of bytes at the end of `in`, LOG_LINE_MAX at most, that are still waiting for
 * more of their line.
 */
size_t log_lines(const char *in, size_t n, const char *prefix, char *out, size_t *rest);

/* Formats the last line of a stream that ended without a newline: tag P, as containerd does; nothing when n is 0. */
size_t log_rest(const char *in, size_t n, const char *prefix, char *out);

#endif
