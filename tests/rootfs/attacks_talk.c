/* SPDX-License-Identifier: Apache-2.0 */
/* attacks_talk.c - what processes talk by: shared memory, queues, sockets, terminals. */
#include "attacks.h"
#include <dirent.h>
#include <mqueue.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/ioctl.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <termios.h>

#define ATTACK(name) static int name(int argc, char **argv)
#define UNUSED ((void)argc, (void)argv)

enum { KEY = 0x6e73 };

static int abstract(const char *name, int (*call)(int, const struct sockaddr *, socklen_t), int *kept)
{
	struct sockaddr_un place = {.sun_family = AF_UNIX};
	int result, fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	size_t length = strlen(name);

	if (fd < 0)
		return errno;
	if (length + 1 > sizeof(place.sun_path))
		return ENAMETOOLONG;
	memcpy(place.sun_path + 1, name, length);
	result = outcome(call(fd, (struct sockaddr *)&place,
			      (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + length)));
	if (kept)
		*kept = fd;
	else
		close(fd);
	return result;
}

/* NAME: everything that others might reach by that name, made and kept until the end. */
ATTACK(offer)
{
	struct mq_attr shape = {.mq_maxmsg = 1, .mq_msgsize = 16};
	char path[128];
	int fd, result;

	if (argc != 2)
		return EINVAL;
	snprintf(path, sizeof(path), "/dev/shm/%s", argv[1]);
	fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0666);
	if (fd < 0 || write(fd, argv[1], strlen(argv[1])) < 0 || fchmod(fd, 0666))
		return errno;
	if (shmget(KEY, 4096, IPC_CREAT | 0666) < 0)
		return errno;
	snprintf(path, sizeof(path), "/%s", argv[1]);
	if (mq_open(path, O_RDWR | O_CREAT, 0666, &shape) < 0)
		return errno;
	result = abstract(argv[1], bind, &fd);
	if (result || listen(fd, 16))
		return result ? result : errno;
	puts("offered");
	fflush(stdout);
	for (;;)
		pause();
}

ATTACK(shared_memory)
{
	UNUSED;
	return outcome(shmget(KEY, 0, 0));
}

ATTACK(queue)
{
	char path[128];

	if (argc != 2)
		return EINVAL;
	snprintf(path, sizeof(path), "/%s", argv[1]);
	return outcome(mq_open(path, O_RDONLY));
}

ATTACK(connect_abstract)
{
	return argc == 2 ? abstract(argv[1], connect, NULL) : EINVAL;
}

/* A socket in the file system, of either kind that nsrun has. */
ATTACK(connect_path)
{
	struct sockaddr_un place = {.sun_family = AF_UNIX};
	int result = 0;

	if (argc != 2 || strlen(argv[1]) >= sizeof(place.sun_path))
		return EINVAL;
	strcpy(place.sun_path, argv[1]);
	for (int type = SOCK_STREAM; type; type = type == SOCK_STREAM ? SOCK_SEQPACKET : 0) {
		int fd = socket(AF_UNIX, type | SOCK_CLOEXEC, 0);

		result = outcome(connect(fd, (struct sockaddr *)&place, sizeof(place)));
		if (!result) {
			char byte;

			/* The other end may hang up at once on whom it does not like. */
			result = recv(fd, &byte, 1, MSG_PEEK) == 1 ? 0 : EPIPE;
		}
		close(fd);
		if (result != EPROTOTYPE)
			break;
	}
	return result;
}

/* Abstract sockets that there are: names without those of the words. */
ATTACK(list_abstract)
{
	char line[512];
	FILE *file = fopen("/proc/net/unix", "re");

	UNUSED;
	if (!file)
		return errno;
	while (fgets(line, sizeof(line), file)) {
		char *name = strchr(line, '@');

		if (name)
			fputs(name, stdout);
	}
	fclose(file);
	return 0;
}

/* Input typed for whoever reads the terminal that is standard input. */
ATTACK(type)
{
	if (argc != 2)
		return EINVAL;
	for (const char *at = argv[1]; *at; at++)
		if (ioctl(0, TIOCSTI, at))
			return errno;
	return ioctl(0, TIOCSTI, "\n") ? errno : 0;
}

/* The virtual console's paste. */
ATTACK(paste)
{
	char command = 3; /* TIOCL_PASTESEL */

	UNUSED;
	return outcome(ioctl(0, TIOCLINUX, &command));
}

ATTACK(steal_terminal)
{
	UNUSED;
	return outcome(ioctl(0, TIOCSCTTY, 1));
}

/* What standard input, output and error are, and the device that a terminal's file is on. */
ATTACK(streams)
{
	UNUSED;
	for (int fd = 0; fd < 3; fd++) {
		char path[64], target[256];
		struct stat status;
		ssize_t length;

		snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
		length = readlink(path, target, sizeof(target) - 1);
		if (length < 0)
			return errno;
		target[length] = '\0';
		if (strchr(target, ':'))
			*strchr(target, ':') = '\0';
		if (isatty(fd) && !fstat(fd, &status))
			printf("%d %s on %ju\n", fd, target, (uintmax_t)status.st_dev);
		else
			printf("%d %s\n", fd, target);
	}
	return 0;
}

const struct attack talk_attacks[] = {
    {"connect_abstract", connect_abstract},
    {"connect_path", connect_path},
    {"list_abstract", list_abstract},
    {"offer", offer},
    {"paste", paste},
    {"queue", queue},
    {"shared_memory", shared_memory},
    {"steal_terminal", steal_terminal},
    {"streams", streams},
    {"type", type},
    {NULL, NULL},
};
