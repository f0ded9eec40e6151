/* SPDX-License-Identifier: Apache-2.0 */
/* attacks_processes.c - other processes: those of other containers, and nsrun's own on their way into this one. */
#include "attacks.h"
#include <ctype.h>
#include <dirent.h>
#include <limits.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>

#define ATTACK(name) static int name(int argc, char **argv)
#define UNUSED ((void)argc, (void)argv)

ATTACK(signal_it)
{
	return argc == 3 ? outcome(kill((pid_t)number_of(argv[1]), (int)number_of(argv[2]))) : EINVAL;
}

/* By pidfd, which needs no number to stay what it is. */
ATTACK(signal_pidfd)
{
	long fd;

	if (argc != 2)
		return EINVAL;
	fd = syscall(SYS_pidfd_open, number_of(argv[1]), 0);
	return fd < 0 ? errno : outcome(syscall(SYS_pidfd_send_signal, fd, 0, NULL, 0));
}

ATTACK(trace)
{
	pid_t pid;

	if (argc != 2)
		return EINVAL;
	pid = (pid_t)number_of(argv[1]);
	if (ptrace(PTRACE_SEIZE, pid, 0, 0))
		return errno;
	ptrace(PTRACE_DETACH, pid, 0, 0);
	return 0;
}

ATTACK(read_memory)
{
	char byte;
	struct iovec here = {&byte, 1}, there = {(void *)0x400000, 1};
	long result;

	if (argc != 2)
		return EINVAL;
	result = process_vm_readv((pid_t)number_of(argv[1]), &here, 1, &there, 1, 0);
	/* Nothing lies at that address of a program that can be put anywhere: it was looked for all the same. */
	return result < 0 && errno == EFAULT ? 0 : outcome(result);
}

/* Another process's descriptor N. */
ATTACK(take_descriptor)
{
	long fd;

	if (argc != 3)
		return EINVAL;
	fd = syscall(SYS_pidfd_open, number_of(argv[1]), 0);
	return fd < 0 ? errno : outcome(syscall(SYS_pidfd_getfd, fd, number_of(argv[2]), 0));
}

/* Back to root: only a set-user-ID program can. Says who it is. */
ATTACK(become_root)
{
	int result = outcome(setresuid(0, 0, 0));

	UNUSED;
	printf("euid %d\n", (int)geteuid());
	return result;
}

/* Descriptors that somebody left open in here, and the way up from each: EBADF when there is none (CVE-2024-21626). */
ATTACK(descriptors)
{
	int found = 0;

	UNUSED;
	for (int fd = 3; fd < 4096; fd++) {
		char path[64], target[PATH_MAX];
		ssize_t length;
		int up;

		if (fcntl(fd, F_GETFD) < 0)
			continue;
		found++;
		snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
		length = readlink(path, target, sizeof(target) - 1);
		target[length < 0 ? 0 : length] = '\0';
		up = openat(fd, "../../../../..", O_PATH | O_CLOEXEC);
		printf("%d %s %s\n", fd, target, up < 0 ? strerrorname_np(errno) : "leads up");
		if (up >= 0)
			close(up);
	}
	return found ? 0 : EBADF;
}

ATTACK(directory)
{
	char path[PATH_MAX];

	UNUSED;
	if (!getcwd(path, sizeof(path)))
		return errno;
	puts(path);
	return 0;
}

/* --- nsrun's processes on their way into the container ------------------------------------------------------------------------ */

static double now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

static void name_of(long pid, char name[32])
{
	char path[64];
	ssize_t length = 0;
	int fd;

	snprintf(path, sizeof(path), "/proc/%ld/comm", pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd >= 0) {
		length = read(fd, name, 31);
		close(fd);
	}
	name[length > 0 ? length - 1 : 0] = '\0';
}

static const char *const doors[] = {"exe",  "root", "cwd",  "mem",  "environ", "maps", "auxv", "ns/mnt",
				    "fd/0", "fd/3", "fd/4", "fd/5", "fd/6",    "fd/7", "fd/8", "fd/9"};

struct sight {
	long seen;			/* times that the process was looked at */
	long opened[sizeof(doors) / sizeof(*doors)];
	long traced;
};

static void look_at(long pid, const char *wanted, struct sight *sight)
{
	char name[32], path[80];
	long opened[sizeof(doors) / sizeof(*doors)] = {0};

	name_of(pid, name);
	if (strcmp(name, wanted))
		return;
	sight->seen++;
	for (size_t i = 0; i < sizeof(doors) / sizeof(*doors); i++) {
		int fd;

		snprintf(path, sizeof(path), "/proc/%ld/%s", pid, doors[i]);
		fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
		if (fd >= 0) {
			opened[i] = 1;
			close(fd);
		}
	}
	/* By now it may be what it was to become: then what was opened was a program of this container. */
	name_of(pid, name);
	if (strcmp(name, wanted))
		return;
	for (size_t i = 0; i < sizeof(doors) / sizeof(*doors); i++)
		sight->opened[i] += opened[i];
	if (!ptrace(PTRACE_SEIZE, (pid_t)pid, 0, 0)) {
		ptrace(PTRACE_INTERRUPT, (pid_t)pid, 0, 0);
		waitpid((pid_t)pid, NULL, __WALL);
		/* Now it stands still: as what? */
		name_of(pid, name);
		sight->traced += !strcmp(name, wanted);
		ptrace(PTRACE_DETACH, (pid_t)pid, 0, 0);
	}
}

/* SECONDS NAME: all that can be had of each process of that name as it comes by; `NAME seen N`, and a line for each door that opened. */
ATTACK(spy)
{
	struct sight sight = {0};
	double end;
	int opened = 0;
	DIR *proc;

	if (argc != 3)
		return EINVAL;
	proc = opendir("/proc");
	if (!proc)
		return errno;
	for (end = now() + (double)number_of(argv[1]); now() < end; rewinddir(proc))
		for (struct dirent *entry; (entry = readdir(proc));)
			if (isdigit(entry->d_name[0]) && atol(entry->d_name) != getpid())
				look_at(atol(entry->d_name), argv[2], &sight);
	closedir(proc);
	printf("%s seen %s\n", argv[2], sight.seen ? "often" : "never");
	for (size_t i = 0; i < sizeof(doors) / sizeof(*doors); i++)
		if (sight.opened[i])
			opened = printf("opened %s\n", doors[i]);
	if (sight.traced)
		opened = printf("traced\n");
	return opened ? 0 : EACCES;
}

/* A file that was opened through /proc/PID/exe, tried until nobody executes it any more. */
static int write_through(int file, double end)
{
	char path[64];
	int fd;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", file);
	do {
		fd = open(path, O_WRONLY | O_CLOEXEC);
	} while (fd < 0 && errno == ETXTBSY && now() < end);
	if (fd < 0)
		return errno;
	close(fd);
	return 0;
}

/*
 * SECONDS NAME: waits for a process of that name, holds on to its program, changes its mode and opens it for writing
 * (CVE-2019-5736). ESRCH when none could be had. It is not written to.
 */
ATTACK(overwrite)
{
	double end;
	DIR *proc;

	if (argc != 3)
		return EINVAL;
	proc = opendir("/proc");
	if (!proc)
		return errno;
	for (end = now() + (double)number_of(argv[1]); now() < end; rewinddir(proc)) {
		for (struct dirent *entry; (entry = readdir(proc));) {
			char path[64], name[32];
			int file;

			if (!isdigit(entry->d_name[0]))
				continue;
			name_of(atol(entry->d_name), name);
			if (strcmp(name, argv[2]))
				continue;
			snprintf(path, sizeof(path), "/proc/%ld/exe", atol(entry->d_name));
			file = open(path, O_PATH | O_CLOEXEC);
			if (file < 0)
				continue;
			name_of(atol(entry->d_name), name);
			if (!strcmp(name, argv[2])) {
				snprintf(path, sizeof(path), "/proc/self/fd/%d", file);
				printf("held\nmode %s\n", chmod(path, 0755) ? strerrorname_np(errno) : "ok");
				return write_through(file, end);
			}
			close(file);
		}
	}
	return ESRCH;
}

/* Its own program executed anew, as FILE says. */
ATTACK(execute)
{
	if (argc < 2)
		return EINVAL;
	fflush(stdout);
	execv(argv[1], argv + 1);
	return errno;
}

const struct attack process_attacks[] = {
    {"become_root", become_root},
    {"descriptors", descriptors},
    {"directory", directory},
    {"execute", execute},
    {"overwrite", overwrite},
    {"read_memory", read_memory},
    {"signal", signal_it},
    {"signal_pidfd", signal_pidfd},
    {"spy", spy},
    {"take_descriptor", take_descriptor},
    {"trace", trace},
    {NULL, NULL},
};
