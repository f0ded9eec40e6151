/* SPDX-License-Identifier: Apache-2.0 */
/*
 * log_format.c - see log_format.h.
 */
#include <string.h>
#include "log_format.h"

static void digits(char *text, uint32_t number, int width)
{
	while (width-- > 0) {
		text[width] = (char)('0' + number % 10);
		number /= 10;
	}
}

void log_prefix(char *prefix, int64_t seconds, uint32_t nanoseconds, int stream)
{
	/* Days to date: eras of 400 years that begin on the first of March, so that the odd day is each one's last. */
	int64_t days = seconds / 86400 + 719468;
	uint32_t clock = (uint32_t)(seconds % 86400);
	int64_t era = days / 146097;
	uint32_t day = (uint32_t)(days - era * 146097);
	uint32_t year = (day - day / 1460 + day / 36524 - day / 146096) / 365;
	uint32_t of_year = day - (365 * year + year / 4 - year / 100);
	uint32_t shifted = (5 * of_year + 2) / 153;
	uint32_t month = shifted < 10 ? shifted + 3 : shifted - 9;

	memcpy(prefix, "yyyy-mm-ddThh:mm:ss.nnnnnnnnnZ ", 31);
	digits(prefix, (uint32_t)(era * 400) + year + (month <= 2), 4);
	digits(prefix + 5, month, 2);
	digits(prefix + 8, of_year - (153 * shifted + 2) / 5 + 1, 2);
	digits(prefix + 11, clock / 3600, 2);
	digits(prefix + 14, clock / 60 % 60, 2);
	digits(prefix + 17, clock % 60, 2);
	digits(prefix + 20, nanoseconds, 9);
	memcpy(prefix + 31, stream == 0 ? "stdout " : "stderr ", 7);
}

static char *put(char *out, const char *prefix, char tag, const char *content, size_t n)
{
	memcpy(out, prefix, LOG_PREFIX);
	out[LOG_PREFIX] = tag;
	out[LOG_PREFIX + 1] = ' ';
	out += LOG_PREFIX + 2;
	memcpy(out, content, n);
	out[n] = '\n';
	return out + n + 1;
}

size_t log_lines(const char *in, size_t n, const char *prefix, char *out, size_t *rest)
{
	const char *end = in + n;
	char *at = out;

	while (in < end) {
		const char *newline = memchr(in, '\n', (size_t)(end - in));
		const char *stop = newline != NULL ? newline : end;

		while (stop - in > LOG_LINE_MAX) {
			at = put(at, prefix, 'P', in, LOG_LINE_MAX);
			in += LOG_LINE_MAX;
		}
		if (newline == NULL)
			break;
		at = put(at, prefix, 'F', in, (size_t)(stop - in));
		in = stop + 1;
	}
	*rest = (size_t)(end - in);
	return (size_t)(at - out);
}

size_t log_rest(const char *in, size_t n, const char *prefix, char *out)
{
	return n == 0 ? 0 : (size_t)(put(out, prefix, 'P', in, n) - out);
}
