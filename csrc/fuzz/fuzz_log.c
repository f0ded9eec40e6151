/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_log.c - the log's formatter against a slow one that does what log_format.h says, over any content in any pieces.
 *
 * The input is a recipe, so that short inputs make long lines: pairs of a byte and a count. The content is handed over in pieces as the
 * pump does it, with the incomplete line before each; what comes out must be, line by line, what the whole content means.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "log_format.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { CONTENT_MAX = 1 << 18 };

static char content[CONTENT_MAX];
static char output[(CONTENT_MAX + 1) * (LOG_LINE_EXTRA + 1)];

static void promise(int kept)
{
	if (!kept)
		abort();
}

static size_t cook(const uint8_t *data, size_t size)
{
	static const size_t unit[4] = {1, 61, 4096, LOG_LINE_MAX};
	size_t n = 0;

	for (size_t i = 0; i + 1 < size; i += 2) {
		size_t count = (size_t)(data[i + 1] & 63) * unit[data[i + 1] >> 6];

		if (count > CONTENT_MAX - n)
			count = CONTENT_MAX - n;
		memset(content + n, data[i], count);
		n += count;
	}
	return n;
}

static size_t in_pieces(size_t n, const uint8_t *sizes, size_t n_sizes, const char *prefix)
{
	char *piece;
	char rest[LOG_LINE_MAX];
	size_t at = 0, written = 0, n_rest = 0;

	for (size_t i = 0; at < n; i++) {
		/* Not so many pieces that copying the incomplete line takes all the time. */
		size_t take = n_sizes == 0 || i > 300 ? n : 1 + (size_t)sizes[i % n_sizes] * 257;
		size_t total, made;

		if (take > n - at)
			take = n - at;
		/* To the byte, so that reading past it is found. */
		total = n_rest + take;
		piece = malloc(total);
		if (piece == NULL)
			abort();
		memcpy(piece, rest, n_rest);
		memcpy(piece + n_rest, content + at, take);
		made = log_lines(piece, total, prefix, output + written, &n_rest);
		promise(made + log_rest(piece, n_rest, prefix, output + written + made) <= log_room(total));
		promise(n_rest <= LOG_LINE_MAX);
		at += take;
		written += made;
		memcpy(rest, content + at - n_rest, n_rest);
		free(piece);
	}
	return written + log_rest(rest, n_rest, prefix, output + written);
}

/* One line of output that holds content[from..to) under that tag. */
static size_t expect(size_t at, const char *prefix, char tag, size_t from, size_t to)
{
	promise(memcmp(output + at, prefix, LOG_PREFIX) == 0);
	at += LOG_PREFIX;
	promise(output[at] == tag && output[at + 1] == ' ');
	at += 2;
	promise(memcmp(output + at, content + from, to - from) == 0);
	at += to - from;
	promise(output[at] == '\n');
	return at + 1;
}

static void check(size_t n, size_t written, const char *prefix)
{
	size_t at = 0, from = 0;

	for (size_t i = 0; i < n; i++) {
		if (content[i] == '\n') {
			at = expect(at, prefix, 'F', from, i);
			from = i + 1;
		} else if (i - from == LOG_LINE_MAX) {
			at = expect(at, prefix, 'P', from, i);
			from = i;
		}
	}
	if (from < n)
		at = expect(at, prefix, 'P', from, n);
	promise(at == written);
}

static void check_prefix(const char *prefix, int64_t seconds, uint32_t nanoseconds, int stream)
{
	time_t time = (time_t)seconds;
	char wanted[LOG_PREFIX + 1];
	struct tm parts;

	promise(gmtime_r(&time, &parts) != NULL && strftime(wanted, sizeof(wanted), "%Y-%m-%dT%H:%M:%S", &parts) == 19);
	snprintf(wanted + 19, sizeof(wanted) - 19, ".%09uZ %s ", nanoseconds, stream == 0 ? "stdout" : "stderr");
	promise(memcmp(prefix, wanted, LOG_PREFIX) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char prefix[LOG_PREFIX];
	int64_t seconds = 0;
	size_t n, n_sizes;

	if (size < 10)
		return 0;
	memcpy(&seconds, data, 5);
	seconds %= INT64_C(253402300800);	/* 10000-01-01 */
	log_prefix(prefix, seconds, data[5] * 3906250U, data[6] & 1);
	check_prefix(prefix, seconds, data[5] * 3906250U, data[6] & 1);
	n_sizes = data[7] & 7;
	data += 8;
	size -= 8;
	if (n_sizes > size)
		n_sizes = size;
	n = cook(data + n_sizes, size - n_sizes);
	check(n, in_pieces(n, data, n_sizes, prefix), prefix);
	return 0;
}
