/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_message.c - message_check() on any packet, and that what it lets through keeps the promises that the rest of the shim builds on.
 *
 * The input: one byte for the number of descriptors, then the packet; a packet of nearly the right length is made exactly so, because
 * everything else is refused by its size.
 */
#include <stdlib.h>
#include <string.h>
#include "message.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void promise(int kept)
{
	if (!kept)
		abort();
}

static void check(const void *packet, size_t size, int n_fds)
{
	struct nsr_message message;

	if (message_check(packet, size, n_fds) != 0)
		return;
	promise(size == sizeof(message));
	memcpy(&message, packet, sizeof(message));
	promise(message.type >= NSR_MSG_HELLO && message.type <= NSR_MSG_JOB);
	promise(n_fds >= 0 && n_fds <= NSR_FD_MAX && message.n_fds == (uint32_t)n_fds);
	switch (message.type) {
	case NSR_MSG_START:
	case NSR_MSG_EXEC:
	case NSR_MSG_JOB:
		promise(message_first_slot(&message) <= n_fds);
		promise(memchr(message.u.start.name, '\0', sizeof(message.u.start.name)) != NULL);
		promise(message_is_id(message.type == NSR_MSG_START ? message.u.start.id : message.u.start.target));
		break;
	case NSR_MSG_ATTACH:
		promise(message_is_id(message.u.attach.id) && n_fds <= 2);
		break;
	case NSR_MSG_REOPEN:
		promise(n_fds == 1);
		/* fall through */
	case NSR_MSG_SIGNAL:
	case NSR_MSG_KILL:
	case NSR_MSG_CLOSE_STDIN:
	case NSR_MSG_RESIZE:
	case NSR_MSG_FORGET:
		promise(message_is_id(message.u.signal.id));
		break;
	case NSR_MSG_SANDBOX:
		promise(n_fds >= 1);
		break;
	default:
		promise(n_fds == 0);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct nsr_message whole;
	void *exact;

	if (size == 0)
		return 0;
	/* On the heap and to the byte, so that reading past its end is found. */
	exact = malloc(size - 1 > 0 ? size - 1 : 1);
	if (exact == NULL)
		return 0;
	memcpy(exact, data + 1, size - 1);
	check(exact, size - 1, (int8_t)data[0]);
	free(exact);

	memset(&whole, 0, sizeof(whole));
	memcpy(&whole, data + 1, size - 1 < sizeof(whole) ? size - 1 : sizeof(whole));
	whole.n_fds = data[0] & 31;
	check(&whole, sizeof(whole), data[0] & 31);
	/* An id is too much to ask of chance. */
	memset(whole.u.signal.id, 'a', NSR_ID_LEN);
	whole.u.signal.id[NSR_ID_LEN] = '\0';
	whole.u.start.name[0] = 'n';
	check(&whole, sizeof(whole), data[0] & 31);
	return 0;
}
