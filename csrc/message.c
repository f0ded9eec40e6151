/* SPDX-License-Identifier: Apache-2.0 */
/*
 * message.c - see message.h.
 */
#include <errno.h>
#include <string.h>
#include "message.h"

#define KNOWN_FLAGS (NSR_START_STDIN | NSR_START_STDIN_ONCE | NSR_START_TERMINAL | NSR_START_NO_CGROUP)

/* request -> how many descriptors it may carry, and which member of the union it uses */
enum body { BODY_NONE, BODY_START, BODY_ID, BODY_ATTACH };

static const struct {
	uint8_t least, most;
	uint8_t body;
} requests[] = {
    [NSR_MSG_HELLO] = {0, 0, BODY_NONE},
    [NSR_MSG_SUBSCRIBE] = {0, 0, BODY_NONE},
    [NSR_MSG_SANDBOX] = {1, NSR_FD_MAX, BODY_NONE},
    [NSR_MSG_NETWORK] = {0, 0, BODY_NONE},
    [NSR_MSG_START] = {2, NSR_FD_MAX, BODY_START},
    [NSR_MSG_EXEC] = {2, NSR_FD_MAX, BODY_START},
    [NSR_MSG_SIGNAL] = {0, 0, BODY_ID},
    [NSR_MSG_KILL] = {0, 0, BODY_ID},
    [NSR_MSG_REOPEN] = {1, 1, BODY_ID},
    [NSR_MSG_ATTACH] = {0, 2, BODY_ATTACH},
    [NSR_MSG_CLOSE_STDIN] = {0, 0, BODY_ID},
    [NSR_MSG_RESIZE] = {0, 0, BODY_ID},
    [NSR_MSG_LIST] = {0, 0, BODY_NONE},
    [NSR_MSG_FORGET] = {0, 0, BODY_ID},
    [NSR_MSG_QUIT] = {0, 0, BODY_NONE},
    [NSR_MSG_JOB] = {1, NSR_FD_MAX, BODY_START},
};

int message_is_id(const char id[65])
{
	for (int i = 0; i < NSR_ID_LEN; i++)
		if ((id[i] < '0' || id[i] > '9') && (id[i] < 'a' || id[i] > 'f'))
			return 0;
	return id[NSR_ID_LEN] == '\0';
}

/* A DNS label. Nothing here depends on it but the records' readers, who should not find control characters. */
static int is_name(const char name[64])
{
	size_t n = strnlen(name, NSR_NAME_LEN + 1);

	if (n == 0 || n > NSR_NAME_LEN)
		return 0;
	for (size_t i = 0; i < n; i++)
		if ((name[i] < 'a' || name[i] > 'z') && (name[i] < '0' || name[i] > '9') && name[i] != '-')
			return 0;
	return 1;
}

int message_first_slot(const struct nsr_message *message)
{
	uint32_t flags = message->u.start.flags;
	int first = flags & NSR_START_NO_CGROUP ? 2 : 3;

	if (message->type == NSR_MSG_JOB)
		return first - 1;
	return message->type == NSR_MSG_EXEC && !(flags & NSR_START_TERMINAL) ? first + 3 : first;
}

static int check_start(const struct nsr_message *message)
{
	const struct nsr_start *start = &message->u.start;
	int job = message->type == NSR_MSG_JOB;
	int exec = message->type == NSR_MSG_EXEC || job;

	if (start->flags & ~(uint32_t)KNOWN_FLAGS || !is_name(start->name))
		return -EINVAL;
	if (exec ? !message_is_id(start->target) : !message_is_id(start->id))
		return -EINVAL;
	if (!exec && start->target[0] != '\0' && !message_is_id(start->target))
		return -EINVAL;
	if (exec && start->flags & (NSR_START_STDIN | NSR_START_STDIN_ONCE))
		return -EINVAL;
	if (job && start->flags & NSR_START_TERMINAL)
		return -EINVAL;
	return (int)message->n_fds < message_first_slot(message) ? -EINVAL : 0;
}

int message_check(const void *packet, size_t size, int n_fds)
{
	struct nsr_message message;

	if (size != sizeof(message))
		return -EPROTO;
	memcpy(&message, packet, sizeof(message));
	if (message.type == NSR_MSG_INVALID || message.type >= sizeof(requests) / sizeof(requests[0]))
		return -EINVAL;
	if (n_fds < 0 || message.n_fds != (uint32_t)n_fds || n_fds < requests[message.type].least ||
	    n_fds > requests[message.type].most)
		return -EINVAL;
	switch (requests[message.type].body) {
	case BODY_START:
		return check_start(&message);
	case BODY_ID:
		return message_is_id(message.u.signal.id) ? 0 : -EINVAL;
	case BODY_ATTACH:
		return message_is_id(message.u.attach.id) && message.u.attach.has_output == message.n_fds ? 0 : -EINVAL;
	default:
		return 0;
	}
}
