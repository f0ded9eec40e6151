/* SPDX-License-Identifier: Apache-2.0 */
/*
 * attach.c - copies of what a container writes, as it is, for clients that watch.
 *
 * The log never waits for one of them: what a client does not take at once is kept, up to BACKLOG bytes, in memory that is mapped then and
 * given back when it has caught up; one that falls behind further is hung up on. When the container is gone it has LINGER_NS to take the rest.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>
#include "shim.h"

#define BACKLOG ((size_t)4 << 20)
#define LINGER_NS (5000 * MILLISECOND)

struct attach {
	int used, fd, is_socket;
	int instance;			/* -1 when that is gone */
	unsigned int streams;		/* 1 stdout, 2 stderr */
	char *backlog;
	size_t from, to;
	int64_t until;
};

static struct attach attaches[MAX_ATTACHES];
static int n_attaches;

void attach_remove(int index)
{
	struct attach *attach = &attaches[index];

	if (attach->backlog != NULL)
		munmap(attach->backlog, BACKLOG);
	close(attach->fd);
	memset(attach, 0, sizeof(*attach));
	while (n_attaches > 0 && !attaches[n_attaches - 1].used)
		n_attaches--;
}

/* A descriptor of our own for a pipe: O_NONBLOCK on the one that came would show in its sender's. */
static int own_pipe_end(int fd)
{
	static const char directory[] = "/proc/self/fd/";
	char path[sizeof(directory) + 10];
	int own, digits = 1;

	for (int left = fd; left > 9; left /= 10)
		digits++;
	memcpy(path, directory, sizeof(directory));
	path[sizeof(directory) - 1 + (size_t)digits] = '\0';
	for (char *at = path + sizeof(directory) - 2 + digits; digits > 0; digits--, fd /= 10)
		*at-- = (char)('0' + fd % 10);
	own = open(path, O_WRONLY | O_NONBLOCK | O_CLOEXEC);
	return own < 0 ? -errno : own;
}

int attach_add(int instance, int fd, unsigned int streams)
{
	struct stat stat;
	int index = 0, type = 0, own = fd, error;
	socklen_t size = sizeof(type);

	if (fstat(fd, &stat) < 0)
		return -errno;
	if (S_ISSOCK(stat.st_mode)) {
		if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size) < 0 || type != SOCK_STREAM)
			return -EINVAL;
	} else if (!S_ISFIFO(stat.st_mode)) {
		return -EINVAL;
	}
	while (index < MAX_ATTACHES && attaches[index].used)
		index++;
	if (index == MAX_ATTACHES)
		return -ENOBUFS;
	if (S_ISFIFO(stat.st_mode)) {
		own = own_pipe_end(fd);
		if (own < 0)
			return own;
	}
	/* No interest yet but in its end. */
	error = shim_watch(own, 0, SOURCE_ATTACH, index);
	if (error < 0) {
		if (own != fd)
			close(own);
		return error;
	}
	if (own != fd)
		close(fd);
	attaches[index] = (struct attach){.used = 1, .fd = own, .is_socket = S_ISSOCK(stat.st_mode), .instance = instance, .streams = streams};
	if (index >= n_attaches)
		n_attaches = index + 1;
	return index;
}

/* Bytes written, 0 when it is full, or -errno. */
static ssize_t put(const struct attach *attach, const char *data, size_t n)
{
	ssize_t written = attach->is_socket ? send(attach->fd, data, n, MSG_DONTWAIT | MSG_NOSIGNAL) : write(attach->fd, data, n);

	if (written >= 0)
		return written;
	return errno == EAGAIN ? 0 : -errno;
}

static int keep(int index, const char *data, size_t n)
{
	struct attach *attach = &attaches[index];

	if (attach->backlog == NULL) {
		void *memory = mmap(NULL, BACKLOG, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

		if (memory == MAP_FAILED)
			return -ENOMEM;
		madvise(memory, BACKLOG, MADV_DONTFORK);
		attach->backlog = memory;
		attach->from = attach->to = 0;
		shim_rewatch(attach->fd, EPOLLOUT, SOURCE_ATTACH, index);
	}
	if (BACKLOG - attach->to < n) {
		memmove(attach->backlog, attach->backlog + attach->from, attach->to - attach->from);
		attach->to -= attach->from;
		attach->from = 0;
	}
	if (BACKLOG - attach->to < n)
		return -EPIPE;
	memcpy(attach->backlog + attach->to, data, n);
	attach->to += n;
	return 0;
}

void attach_copy(int instance, int stream, const char *data, size_t n)
{
	for (int i = n_attaches - 1; i >= 0; i--) {
		ssize_t written = 0;

		if (!attaches[i].used || attaches[i].instance != instance || !(attaches[i].streams & 1U << stream))
			continue;
		if (attaches[i].backlog == NULL)
			written = put(&attaches[i], data, n);
		if (written < 0 || ((size_t)written < n && keep(i, data + written, n - (size_t)written) < 0))
			attach_remove(i);
	}
}

void attach_end(int instance)
{
	for (int i = n_attaches - 1; i >= 0; i--) {
		if (!attaches[i].used || attaches[i].instance != instance)
			continue;
		attaches[i].instance = -1;
		attaches[i].until = shim_now() + LINGER_NS;
		if (attaches[i].backlog == NULL)
			attach_remove(i);
	}
}

static int is_gone(int fd)
{
	struct pollfd ask = {.fd = fd};

	return poll(&ask, 1, 0) == 1 && ask.revents & (POLLHUP | POLLERR);
}

void attach_event(int index, uint32_t events)
{
	struct attach *attach = &attaches[index];
	ssize_t written;

	if (!attach->used)
		return;
	/* Asked again: the event may be from before somebody else got this place. */
	if (events & (EPOLLHUP | EPOLLERR) && is_gone(attach->fd)) {
		attach_remove(index);
		return;
	}
	if (attach->backlog == NULL)
		return;
	written = put(attach, attach->backlog + attach->from, attach->to - attach->from);
	if (written < 0) {
		attach_remove(index);
		return;
	}
	attach->from += (size_t)written;
	if (attach->from < attach->to)
		return;
	munmap(attach->backlog, BACKLOG);
	attach->backlog = NULL;
	shim_rewatch(attach->fd, 0, SOURCE_ATTACH, index);
	if (attach->instance < 0)
		attach_remove(index);
}

int64_t attach_timers(int64_t now)
{
	int64_t next = NEVER;

	for (int i = n_attaches - 1; i >= 0; i--) {
		if (!attaches[i].used || attaches[i].instance >= 0)
			continue;
		if (attaches[i].until <= now)
			attach_remove(i);
		else if (attaches[i].until < next)
			next = attaches[i].until;
	}
	return next;
}
