/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_program.c - libFuzzer target for the decoder of programs (nsr_program_check), and for the reading of what it lets through.
 *
 * program.c is compiled into this file with every handler replaced by one that only reads: each string must lie inside the input and end
 * in a NUL, each slot inside the array. So a fuzzer's program cannot mount or kill anything.
 */
#include <stdlib.h>

#define nsr_op_unshare walk
#define nsr_op_setns walk
#define nsr_op_hostname walk
#define nsr_op_loopback_up walk
#define nsr_op_sysctl walk
#define nsr_op_join_cgroup walk
#define nsr_op_private walk
#define nsr_op_overlay walk
#define nsr_op_root walk
#define nsr_op_mount walk
#define nsr_op_bind walk
#define nsr_op_attr walk
#define nsr_op_mask walk
#define nsr_op_readonly walk
#define nsr_op_pivot_root walk
#define nsr_op_mkdir walk
#define nsr_op_file walk
#define nsr_op_symlink walk
#define nsr_op_mknod walk
#define nsr_op_chdir walk
#define nsr_op_umask walk
#define nsr_op_rlimit walk
#define nsr_op_oom_score_adj walk
#define nsr_op_setsid walk
#define nsr_op_stdio walk
#define nsr_op_stdio_owner walk
#define nsr_op_terminal walk
#define nsr_op_close_rest walk
#define nsr_op_user walk
#define nsr_op_bounding walk
#define nsr_op_caps walk
#define nsr_op_no_new_privs walk
#define nsr_op_seccomp walk
#define nsr_op_pdeathsig walk
#define nsr_op_signals_default walk
#define nsr_op_env walk
#define nsr_op_exec walk
#define nsr_op_apparmor walk
#define nsr_op_enter_user walk
#define nsr_op_fs_user walk
#define nsr_op_id_map walk
#define nsr_op_user_namespace walk
/* The linker sees the real ones as well, of program.c by itself. */
#define nsr_program_check fuzzed_check
#define nsr_program_run fuzzed_run
#define nsr_next fuzzed_next
#define nsr_at fuzzed_at
#define nsr_slot fuzzed_slot
#include "../program.c"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const uint8_t *input;
static size_t input_size;
static volatile uint64_t sink;	/* so that reading is not optimised away */

int walk(struct nsr_run *run, struct nsr_args *args)
{
	uint16_t code = args->head.code;
	int slots = code == NSR_OP_STDIO ? 3 : code == NSR_OP_SETNS || code == NSR_OP_BIND || code == NSR_OP_SECCOMP;
	const char *string;
	uint32_t length;

	while ((string = nsr_next(args, &length))) {
		const uint8_t *start = (const uint8_t *)string;

		if (start < input || start + length >= input + input_size || start[length])
			abort();
		for (uint32_t i = 0; i <= length; i++)
			sink += start[i];
	}
	for (int i = 0; i < slots; i++)
		sink += (uint64_t)nsr_slot(run, args->head.arg[i]);
	return code == NSR_OP_EXEC ? -ENOENT : 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	/* Just as many as there are: a slot out of bounds is a read behind this array, which the sanitizer sees. */
	int *slots = calloc(3, sizeof(*slots));
	struct nsr_context context = {.slots = slots, .n_slots = 3, .report_fd = -1};
	struct nsr_report report;
	uint32_t step;

	if (!slots)
		abort();
	input = data;
	input_size = size;
	if (!nsr_program_check(data, size, context.n_slots, &step) && nsr_program_run(data, size, &context, &report) &&
	    (report.kind != NSR_REPORT_FAILED || report.code != NSR_OP_EXEC || !memchr(report.subject, 0, sizeof(report.subject))))
		abort();
	free(slots);
	return 0;
}
