/* SPDX-License-Identifier: Apache-2.0 */
/* attacks.h - what the files of the attacks program share. */
#ifndef NSRUN_TESTS_ATTACKS_H
#define NSRUN_TESTS_ATTACKS_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

/* One attack: 0 when it succeeded, else the errno it failed with. ARGV[0] is its name. */
struct attack {
	const char *name;
	int (*run)(int argc, char **argv);
};

/* Each ends with a nameless one. */
extern const struct attack call_attacks[], file_attacks[], process_attacks[], talk_attacks[];

/* What a system call came to. */
static inline int outcome(long result)
{
	return result < 0 ? errno : 0;
}

/* A number that stands in ARGV, or the end of the program. */
long number_of(const char *text);

/* Whether a file can be opened for writing; it is not written to. */
int opens_for_writing(const char *path);

/* Like stat of `ls`: everything that PATH's first 4096 bytes hold, on a line of its own on standard output. */
int shows(const char *path);

#endif
