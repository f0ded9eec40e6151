/* SPDX-License-Identifier: Apache-2.0 */
/*
 * message.h - whether a packet that came in is a request at all. Pure: decodes hostile bytes.
 */
#ifndef NSR_MESSAGE_H
#define NSR_MESSAGE_H
#include <stddef.h>
#include "wire.h"

/*
 * 0 or -errno: the packet is a request of a known type whose strings end in a NUL, whose id is 64 lower-case hex digits (so that it
 * can name a file), whose flags are known and which carries as many descriptors as its type and flags ask for.
 * -EPROTO: not even a message (wrong size): there is no seq to answer.
 */
int message_check(const void *packet, size_t size, int n_fds);

/* The number of the first descriptor of a START, EXEC or JOB that is a slot. */
int message_first_slot(const struct nsr_message *message);

/* Whether `id` holds an id and nothing behind it. */
int message_is_id(const char id[65]);

#endif
