/* SPDX-License-Identifier: Apache-2.0 */
/*
 * program.c - decodes a program and runs its ops one after another until one fails.
 *
 * Runs as: a child of clone3 that has not exec'ed yet, or the shim itself for its sandbox. No heap, no stdio, no locks.
 */
#include <string.h>
#include <sys/stat.h>
#include "op.h"

#define SLOT(argument) (1u << (argument))

struct shape {
	nsr_handler *handler;
	uint16_t least, most;		/* strings */
	uint8_t slots;			/* which arguments are slots */
	uint8_t needed;			/* which of them must not be NSR_NO_SLOT */
	uint8_t binary;			/* its strings may hold NUL bytes */
};

#define ANY_NUMBER UINT16_MAX

/* op code -> what a well-formed record of it looks like, and who does it */
static const struct shape shapes[] = {
    [NSR_OP_UNSHARE] = {.handler = nsr_op_unshare},
    [NSR_OP_SETNS] = {.handler = nsr_op_setns, .slots = SLOT(0), .needed = SLOT(0)},
    [NSR_OP_HOSTNAME] = {.handler = nsr_op_hostname, .least = 1, .most = 1},
    [NSR_OP_LOOPBACK_UP] = {.handler = nsr_op_loopback_up},
    [NSR_OP_SYSCTL] = {.handler = nsr_op_sysctl, .least = 2, .most = 2},
    [NSR_OP_JOIN_CGROUP] = {.handler = nsr_op_join_cgroup, .slots = SLOT(0), .needed = SLOT(0)},
    [NSR_OP_PRIVATE] = {.handler = nsr_op_private},
    [NSR_OP_OVERLAY] = {.handler = nsr_op_overlay, .least = 4, .most = ANY_NUMBER},
    [NSR_OP_ROOT] = {.handler = nsr_op_root, .least = 1, .most = 1},
    [NSR_OP_MOUNT] = {.handler = nsr_op_mount, .least = 2, .most = ANY_NUMBER},
    [NSR_OP_BIND] = {.handler = nsr_op_bind, .least = 2, .most = 2, .slots = SLOT(0)},
    [NSR_OP_BIND_BELOW] = {.handler = nsr_op_bind, .least = 3, .most = 3, .slots = SLOT(0)},
    [NSR_OP_ATTR] = {.handler = nsr_op_attr, .least = 1, .most = 1},
    [NSR_OP_MKDIR] = {.handler = nsr_op_mkdir, .least = 1, .most = 1},
    [NSR_OP_FILE] = {.handler = nsr_op_file, .least = 1, .most = 1},
    [NSR_OP_SYMLINK] = {.handler = nsr_op_symlink, .least = 2, .most = 2},
    [NSR_OP_MKNOD] = {.handler = nsr_op_mknod, .least = 1, .most = 1},
    [NSR_OP_MASK] = {.handler = nsr_op_mask, .least = 1, .most = 1},
    [NSR_OP_READONLY] = {.handler = nsr_op_readonly, .least = 1, .most = 1},
    [NSR_OP_PIVOT_ROOT] = {.handler = nsr_op_pivot_root},
    [NSR_OP_CHDIR] = {.handler = nsr_op_chdir, .least = 1, .most = 1},
    [NSR_OP_UMASK] = {.handler = nsr_op_umask},
    [NSR_OP_RLIMIT] = {.handler = nsr_op_rlimit},
    [NSR_OP_OOM_SCORE_ADJ] = {.handler = nsr_op_oom_score_adj},
    [NSR_OP_SETSID] = {.handler = nsr_op_setsid},
    [NSR_OP_STDIO] = {.handler = nsr_op_stdio, .slots = SLOT(0) | SLOT(1) | SLOT(2)},
    [NSR_OP_TERMINAL] = {.handler = nsr_op_terminal},
    [NSR_OP_CLOSE_REST] = {.handler = nsr_op_close_rest},
    [NSR_OP_USER] = {.handler = nsr_op_user, .most = 1, .binary = 1},
    [NSR_OP_BOUNDING] = {.handler = nsr_op_bounding},
    [NSR_OP_CAPS] = {.handler = nsr_op_caps},
    [NSR_OP_NO_NEW_PRIVS] = {.handler = nsr_op_no_new_privs},
    [NSR_OP_SECCOMP] = {.handler = nsr_op_seccomp, .slots = SLOT(0), .needed = SLOT(0)},
    [NSR_OP_PDEATHSIG] = {.handler = nsr_op_pdeathsig},
    [NSR_OP_SIGNALS_DEFAULT] = {.handler = nsr_op_signals_default},
    [NSR_OP_ENV] = {.handler = nsr_op_env, .most = ANY_NUMBER},
    [NSR_OP_EXEC] = {.handler = nsr_op_exec, .least = 2, .most = ANY_NUMBER},
    [NSR_OP_USER_NAMESPACE] = {.handler = nsr_op_user_namespace},
    [NSR_OP_ENTER_USER] = {.handler = nsr_op_enter_user},
    [NSR_OP_ID_MAP] = {.handler = nsr_op_id_map, .least = 1, .most = 1},
    [NSR_OP_APPARMOR] = {.handler = nsr_op_apparmor, .least = 1, .most = 1},
    [NSR_OP_FS_USER] = {.handler = nsr_op_fs_user},
    [NSR_OP_STDIO_OWNER] = {.handler = nsr_op_stdio_owner},
};

/* The record's own promises: its strings lie inside it, each ends in a NUL, nothing but zeros follows them. */
static int check_strings(const struct shape *shape, const struct nsr_op *head, const char *record)
{
	size_t at = sizeof(*head);

	if (head->n_str < shape->least || head->n_str > shape->most)
		return -EINVAL;
	for (unsigned int i = 0; i < head->n_str; i++) {
		uint32_t length;

		if (head->size - at < sizeof(length))
			return -EINVAL;
		memcpy(&length, record + at, sizeof(length));
		at += sizeof(length);
		if (head->size - at <= length || record[at + length] != '\0')
			return -EINVAL;
		if (!shape->binary && memchr(record + at, '\0', length))
			return -EINVAL;
		at += (size_t)length + 1;
	}
	if (head->size - at >= 8)
		return -EINVAL;
	for (; at < head->size; at++)
		if (record[at] != '\0')
			return -EINVAL;
	return 0;
}

static int check_slots(const struct shape *shape, const struct nsr_op *head, int n_slots)
{
	for (unsigned int i = 0; i < NSR_OP_ARGS; i++) {
		if (!(shape->slots & SLOT(i)))
			continue;
		if (head->arg[i] == NSR_NO_SLOT && !(shape->needed & SLOT(i)))
			continue;
		if (head->arg[i] < 0 || head->arg[i] >= n_slots)
			return -EINVAL;
	}
	return 0;
}

int nsr_program_check(const void *bytes, size_t size, int n_slots, uint32_t *step)
{
	const char *record = bytes;
	struct nsr_program program;
	size_t left;

	*step = 0;
	if (size < sizeof(program) || size > NSR_PROGRAM_MAX)
		return -EINVAL;
	memcpy(&program, bytes, sizeof(program));
	if (program.magic != NSR_MAGIC || program.version != NSR_WIRE_VERSION || program.size != size || program.reserved)
		return -EINVAL;
	record += sizeof(program);
	left = size - sizeof(program);
	for (; *step < program.n_ops; ++*step) {
		const struct shape *shape;
		struct nsr_op head;

		if (left < sizeof(head))
			return -EINVAL;
		memcpy(&head, record, sizeof(head));
		if (head.size < sizeof(head) || head.size > left || head.size % 8)
			return -EINVAL;
		if (head.code >= sizeof(shapes) / sizeof(*shapes) || !shapes[head.code].handler)
			return -EINVAL;
		shape = &shapes[head.code];
		if (check_strings(shape, &head, record) || check_slots(shape, &head, n_slots))
			return -EINVAL;
		record += head.size;
		left -= head.size;
	}
	return left ? -EINVAL : 0;
}

const char *nsr_next(struct nsr_args *args, uint32_t *length)
{
	const char *string;
	uint32_t n;

	if (!args->left)
		return NULL;
	memcpy(&n, args->cursor, sizeof(n));
	string = args->cursor + sizeof(n);
	args->cursor = string + n + 1;
	args->left--;
	if (length)
		*length = n;
	return string;
}

int nsr_at(struct nsr_run *run, const char *subject, int error)
{
	size_t length = strlen(subject);

	if (error >= 0)
		return error;
	if (length > NSR_SUBJECT_LEN)
		subject += length - NSR_SUBJECT_LEN;
	length = strlen(subject);
	memcpy(run->report->subject, subject, length + 1);
	return error;
}

int nsr_slot(const struct nsr_run *run, int64_t slot)
{
	return slot < 0 ? -1 : run->context->slots[slot];
}

int nsr_program_run(const void *bytes, size_t size, const struct nsr_context *context, struct nsr_report *report)
{
	struct nsr_run run = {.context = context, .report = report, .root = -1, .user_namespace = -1, .empty_directory = -1};
	const char *record = (const char *)bytes + sizeof(struct nsr_program);
	const char *end = (const char *)bytes + size;
	int result = 0;

	memset(report, 0, sizeof(*report));
	run.umask = umask(0);
	for (uint32_t step = 0; record < end && !result; step++) {
		struct nsr_args args;

		memcpy(&args.head, record, sizeof(args.head));
		args.cursor = record + sizeof(args.head);
		args.left = args.head.n_str;
		result = shapes[args.head.code].handler(&run, &args);
		if (result) {
			report->kind = NSR_REPORT_FAILED;
			report->step = step;
			report->code = args.head.code;
			report->error = -result;
			if (!report->subject[0] && args.head.n_str && !shapes[args.head.code].binary)
				nsr_at(&run, record + sizeof(args.head) + sizeof(uint32_t), result);
		}
		record += args.head.size;
	}
	umask(run.umask);
	if (run.root >= 0)
		close(run.root);
	if (run.user_namespace >= 0)
		close(run.user_namespace);
	if (run.empty_directory >= 0)
		close(run.empty_directory);
	return result;
}
