/* SPDX-License-Identifier: Apache-2.0 */
/*
 * shim_wire.c - clients and packets.
 *
 * Nothing here waits for a client. An answer or event that does not fit into its socket ends the connection: the client can come back
 * and LIST. A LIST is the one answer that may be longer than a socket's buffer: it goes out in pieces, each when the buffer is nearly empty.
 */
#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>
#include "message.h"
#include "shim.h"

enum {
	PACKETS_AT_ONCE = 16,		/* of one client, then the others get their turn */
	RECORDS_AT_ONCE = 16,
};

union control {
	char bytes[CMSG_SPACE(sizeof(int) * NSR_FD_MAX)];
	struct cmsghdr align;
};

static void drop(int index)
{
	struct client *client = &shim.clients[index];

	close(client->fd);
	client->fd = 0;
	client->generation++;
	while (shim.n_clients > 0 && shim.clients[shim.n_clients - 1].fd == 0)
		shim.n_clients--;
}

/* 0 or -errno, -EAGAIN when it does not fit now. */
static int send_packet(int socket, struct nsr_message *message, const int *fds, int n_fds)
{
	struct iovec part = {.iov_base = message, .iov_len = sizeof(*message)};
	struct msghdr header = {.msg_iov = &part, .msg_iovlen = 1};
	union control control;

	message->n_fds = (uint32_t)n_fds;
	if (n_fds > 0) {
		struct cmsghdr *rights;

		memset(&control, 0, sizeof(control));
		header.msg_control = control.bytes;
		header.msg_controllen = CMSG_SPACE(sizeof(int) * (size_t)n_fds);
		rights = CMSG_FIRSTHDR(&header);
		rights->cmsg_level = SOL_SOCKET;
		rights->cmsg_type = SCM_RIGHTS;
		rights->cmsg_len = CMSG_LEN(sizeof(int) * (size_t)n_fds);
		memcpy(CMSG_DATA(rights), fds, sizeof(int) * (size_t)n_fds);
	}
	return sendmsg(socket, &header, MSG_DONTWAIT | MSG_NOSIGNAL) < 0 ? -errno : 0;
}

int client_send(struct asker to, struct nsr_message *message, const int *fds, int n_fds)
{
	struct client *client = &shim.clients[to.client];

	if (client->fd == 0 || client->generation != to.generation)
		return 0;
	message->seq = to.seq;
	if (send_packet(client->fd, message, fds, n_fds) == 0)
		return 1;
	drop(to.client);
	return 0;
}

void client_fail(struct asker to, int error)
{
	struct nsr_message message = {.type = NSR_MSG_FAILED, .error = error < 0 ? -error : error};

	client_send(to, &message, NULL, 0);
}

void client_broadcast(struct nsr_message *message)
{
	message->seq = 0;
	for (int i = shim.n_clients - 1; i >= 0; i--)
		if (shim.clients[i].fd != 0 && shim.clients[i].subscribed && send_packet(shim.clients[i].fd, message, NULL, 0) < 0)
			drop(i);
}

void client_tell_log(int index, int error)
{
	struct nsr_message message = {.type = error != 0 ? NSR_MSG_LOG_BLOCKED : NSR_MSG_LOG_RESUMED};

	memcpy(message.u.signal.id, shim.instances[index].record.id, sizeof(message.u.signal.id));
	message.u.signal.signal = error;
	client_broadcast(&message);
}

static int is_ours(int socket)
{
	struct ucred peer;
	socklen_t size = sizeof(peer);

	return getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0 && (peer.uid == 0 || peer.uid == geteuid());
}

static int free_place(void)
{
	for (int i = 0; i < MAX_CLIENTS; i++)
		if (shim.clients[i].fd == 0)
			return i;
	return -1;
}

void client_accept(void)
{
	for (;;) {
		int fd = accept4(FD_LISTENER, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
		struct nsr_message refusal = {.type = NSR_MSG_FAILED};
		int place = free_place();

		if (fd < 0)
			return;
		if (!is_ours(fd))
			refusal.error = EPERM;
		else if (place < 0)
			refusal.error = ENOBUFS;
		else
			refusal.error = -shim_watch(fd, EPOLLIN, SOURCE_CLIENT, place);
		if (refusal.error != 0) {
			send_packet(fd, &refusal, NULL, 0);
			close(fd);
			continue;
		}
		shim.clients[place] = (struct client){.fd = fd, .listing = -1, .generation = shim.clients[place].generation};
		if (place >= shim.n_clients)
			shim.n_clients = place + 1;
	}
}

static void list_on(int index)
{
	struct client *client = &shim.clients[index];
	struct asker to = {.client = index, .generation = client->generation, .seq = client->list_seq};
	struct nsr_message message;

	for (int sent = 0; sent < RECORDS_AT_ONCE && client->listing < shim.n_instances; client->listing++) {
		const struct instance *instance = &shim.instances[client->listing];

		if (instance->phase == PHASE_FREE || instance->phase == PHASE_FORGOTTEN)
			continue;
		memset(&message, 0, sizeof(message));
		message.type = NSR_MSG_RECORD;
		message.u.record = instance->record;
		client_send(to, &message, NULL, 0);
		if (client->generation != to.generation)
			return;
		sent++;
	}
	if (client->listing >= shim.n_instances) {
		memset(&message, 0, sizeof(message));
		message.type = NSR_MSG_OK;
		client->listing = -1;
		client_send(to, &message, NULL, 0);
		if (client->generation != to.generation)
			return;
	}
	if (client->armed_out != (client->listing >= 0)) {
		client->armed_out = client->listing >= 0;
		shim_rewatch(client->fd, EPOLLIN | (client->armed_out ? EPOLLOUT : 0U), SOURCE_CLIENT, index);
	}
}

static void list(int index, uint32_t seq)
{
	struct client *client = &shim.clients[index];

	if (client->listing >= 0) {
		client_fail((struct asker){.client = index, .generation = client->generation, .seq = seq}, EBUSY);
		return;
	}
	client->listing = 0;
	client->list_seq = seq;
	list_on(index);
}

/* One packet. 0 when there is none. */
static int receive(int index)
{
	struct client *client = &shim.clients[index];
	/* One byte more than a message, so that a longer packet shows. */
	struct {
		struct nsr_message message;
		char more;
	} packet;
	struct iovec part = {.iov_base = &packet, .iov_len = sizeof(packet.message) + 1};
	union control control;
	struct msghdr header = {
	    .msg_iov = &part, .msg_iovlen = 1, .msg_control = control.bytes, .msg_controllen = sizeof(control.bytes)};
	struct asker from = {.client = index, .generation = client->generation};
	int fds[NSR_FD_MAX + 1];
	int n_fds = 0;
	int error;
	ssize_t n = recvmsg(client->fd, &header, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);

	/* ECONNRESET: it hung up with an answer unread. That is said once, and what it sent before is still there. */
	if (n < 0 && (errno == EAGAIN || errno == ECONNRESET))
		return errno == ECONNRESET;
	if (n < 0)
		header.msg_controllen = 0;
	for (struct cmsghdr *part_of = CMSG_FIRSTHDR(&header); part_of != NULL; part_of = CMSG_NXTHDR(&header, part_of)) {
		if (part_of->cmsg_level != SOL_SOCKET || part_of->cmsg_type != SCM_RIGHTS)
			continue;
		n_fds = (int)((part_of->cmsg_len - CMSG_LEN(0)) / sizeof(int));
		memcpy(fds, CMSG_DATA(part_of), sizeof(int) * (size_t)n_fds);
	}
	error = n < 0 ? -EPROTO : message_check(&packet, (size_t)n, n_fds);
	if (error != -EPROTO && header.msg_flags & MSG_CTRUNC)
		error = -EMFILE;
	from.seq = error == -EPROTO ? 0 : packet.message.seq;
	/* The end of the connection too. */
	if (error == -EPROTO)
		drop(index);
	else if (error < 0)
		client_fail(from, error);
	else if (packet.message.type == NSR_MSG_SUBSCRIBE) {
		struct nsr_message answer = {.type = NSR_MSG_OK};

		client->subscribed = 1;
		client_send(from, &answer, NULL, 0);
	} else if (packet.message.type == NSR_MSG_LIST)
		list(index, from.seq);
	else
		request(from, &packet.message, fds, n_fds);
	/* Who keeps one has taken it out of the list. */
	for (int i = 0; i < n_fds; i++)
		shim_close(&fds[i]);
	return client->generation == from.generation;
}

void client_event(int index, uint32_t events)
{
	if (shim.clients[index].fd == 0)
		return;
	if (events & EPOLLOUT && shim.clients[index].listing >= 0)
		list_on(index);
	if (events & (EPOLLIN | EPOLLHUP | EPOLLERR))
		for (int i = 0; i < PACKETS_AT_ONCE && shim.clients[index].fd != 0 && receive(index); i++)
			;
}
