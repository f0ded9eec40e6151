/* SPDX-License-Identifier: Apache-2.0 */
/*
 * program.h - the op interpreter: what happens between clone3 and execve, and in the shim for its sandbox.
 *
 * No heap, no stdio, only async-signal-safe calls: the caller may be a child of a multi-threaded process.
 */
#ifndef NSR_PROGRAM_H
#define NSR_PROGRAM_H
#include <stddef.h>
#include "wire.h"

struct nsr_context {
	const int *slots;		/* descriptors that ops name by index; each from 3 up, as STDIO and TERMINAL fill 0, 1 and 2 */
	int n_slots;
	int report_fd;			/* SOCK_SEQPACKET end for struct nsr_report, close-on-exec, from 3 up; -1 = none. Its peer closed = the parent is gone:
					   the child must have closed its own copy of the parent's end */
};

/* 0, or -EINVAL with *step set: the bytes are a well-formed program all of whose strings and slots are within bounds. Decodes hostile bytes. */
int nsr_program_check(const void *bytes, size_t size, int n_slots, uint32_t *step);

/* Runs a checked program. With NSR_OP_EXEC it returns only on failure; without, 0 after the last op.
 * On failure returns -errno and fills *report (the caller sends it). */
int nsr_program_run(const void *bytes, size_t size, const struct nsr_context *context, struct nsr_report *report);

#endif
