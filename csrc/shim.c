/* SPDX-License-Identifier: Apache-2.0 */
/*
 * shim.c - nsrun-shim: one per pod. Owns the pod's namespaces, makes its processes, reaps them, pumps their output, remembers how they ended.
 *
 * usage: nsrun-shim NAME      (NAME is for ps)
 *
 * Inherits: 3 a listening SOCK_SEQPACKET socket, 4 the pod's directory, 5 a locked lock file whose lock lives as long as we do.
 * Runs as root in the host's mount and PID namespace; in network, IPC and UTS namespaces of its own after SANDBOX. Its parent is init.
 * It sleeps in one place, wait_until() below, and ends in one, loop(): after QUIT, or after SIGTERM once there is nothing left to look after.
 * What may fail fails before it says that it is ready.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include "shim.h"
#include "sys.h"

#ifndef PR_SET_MDWE
#define PR_SET_MDWE 65
#define PR_MDWE_REFUSE_EXEC_GAIN 1
#endif
#ifndef PR_MDWE_NO_INHERIT
#define PR_MDWE_NO_INHERIT 2
#endif

struct shim shim;

static int64_t clock_read(clockid_t clock)
{
	struct timespec now;

	clock_gettime(clock, &now);
	return now.tv_sec * INT64_C(1000000000) + now.tv_nsec;
}

int64_t shim_now(void)
{
	return clock_read(CLOCK_MONOTONIC);
}

int64_t shim_clock(void)
{
	return clock_read(CLOCK_REALTIME);
}

static int control(int operation, int fd, uint32_t events, enum source source, int index)
{
	struct epoll_event event = {.events = events, .data.u64 = (uint64_t)source << 32 | (uint32_t)index};

	return sys_answer(epoll_ctl(shim.epoll, operation, fd, &event));
}

int shim_watch(int fd, uint32_t events, enum source source, int index)
{
	return control(EPOLL_CTL_ADD, fd, events, source, index);
}

int shim_rewatch(int fd, uint32_t events, enum source source, int index)
{
	return control(EPOLL_CTL_MOD, fd, events, source, index);
}

void shim_unwatch(int fd)
{
	epoll_ctl(shim.epoll, EPOLL_CTL_DEL, fd, NULL);
}

void shim_close(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

static void signal_event(void)
{
	struct signalfd_siginfo info;

	/* One pending SIGCHLD may stand for many children: who is gone is asked of the kernel. */
	while (read(shim.signal_fd, &info, sizeof(info)) == sizeof(info))
		if (info.ssi_signo == SIGTERM)
			shim.ending = 1;
	process_reap();
}

static void dispatch(const struct epoll_event *event)
{
	int index = (int)(uint32_t)event->data.u64;

	switch ((enum source)(event->data.u64 >> 32)) {
	case SOURCE_SIGNAL:
		signal_event();
		break;
	case SOURCE_LISTENER:
		client_accept();
		break;
	case SOURCE_CLIENT:
		client_event(index, event->events);
		break;
	case SOURCE_REPORT:
		instance_report(index);
		break;
	case SOURCE_EXEC_REPORT:
		exec_report(index);
		break;
	case SOURCE_STREAM:
		log_event(index / 2, index % 2);
		break;
	case SOURCE_ATTACH:
		attach_event(index, event->events);
		break;
	case SOURCE_JOB:
		job_output(index);
		break;
	}
}

/* epoll_wait() counts in milliseconds, which is too coarse for the pump. */
static int wait_until(int64_t when, struct epoll_event *events, int n)
{
	int64_t left = when == NEVER ? 0 : when - shim_now();
	struct timespec timeout = {0};

	if (left > 0)
		timeout = (struct timespec){.tv_sec = left / INT64_C(1000000000), .tv_nsec = left % INT64_C(1000000000)};
	return (int)syscall(SYS_epoll_pwait2, shim.epoll, events, n, when == NEVER ? NULL : &timeout, NULL, 0);
}

static void loop(void)
{
	struct epoll_event events[64];

	/* The machine that shuts down tells everybody first, and ends the containers itself: nobody is to wait for an empty shim then. */
	while (!shim.quit && !(shim.ending && table_idle())) {
		int64_t now = shim_now();
		int64_t next = log_timers(now);
		int64_t other = instance_timers(now);
		int n;

		next = other < next ? other : next;
		other = attach_timers(now);
		next = other < next ? other : next;
		n = wait_until(next, events, sizeof(events) / sizeof(events[0]));
		for (int i = 0; i < n && !shim.quit; i++)
			dispatch(&events[i]);
	}
	if (!shim.quit)
		unlinkat(FD_DIRECTORY, "shim.sock", 0);
}

/* Standard streams that belong to nobody: /dev/null, and shim.log for what a sanitizer or the C library may have to say. */
static int streams(void)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	int log = openat(FD_DIRECTORY, "shim.log", O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600);

	if (null < 0)
		return -errno;
	if (dup2(null, 0) < 0 || dup2(null, 1) < 0 || dup2(log >= 0 ? log : null, 2) < 0)
		return -errno;
	if (null > FD_LOCK)
		close(null);
	if (log > FD_LOCK)
		close(log);
	return 0;
}

static int inherited(void)
{
	struct stat stat;
	int type = 0;
	socklen_t size = sizeof(type);

	if (getsockopt(FD_LISTENER, SOL_SOCKET, SO_TYPE, &type, &size) < 0)
		return -errno;
	if (type != SOCK_SEQPACKET)
		return -EPROTOTYPE;
	if (fstat(FD_DIRECTORY, &stat) < 0)
		return -errno;
	if (!S_ISDIR(stat.st_mode))
		return -ENOTDIR;
	if (fstat(FD_LOCK, &stat) < 0)
		return -errno;
	for (int fd = FD_LISTENER; fd <= FD_LOCK; fd++)
		if (fcntl(fd, F_SETFD, FD_CLOEXEC) < 0)
			return -errno;
	return fcntl(FD_LISTENER, F_SETFL, O_NONBLOCK) < 0 ? -errno : 0;
}

/* A descriptor of it, or -errno. */
static int subdirectory(const char *name)
{
	if (mkdirat(FD_DIRECTORY, name, 0700) < 0 && errno != EEXIST)
		return -errno;
	return sys_answer(openat(FD_DIRECTORY, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW));
}

/* Everything that may fail. Runs in the process that stays: a signalfd in an epoll set belongs to the process that put it there. */
static int prepare(void)
{
	struct rlimit files;
	sigset_t signals;
	int error;

	if (setsid() < 0 || chdir("/") < 0 || prctl(PR_SET_CHILD_SUBREAPER, 1) < 0)
		return -errno;
	umask(0077);
	/* Commands that enter containers have this one; containers begin with keyrings of their own. */
	error = sys_new_keyring();
	if (error < 0)
		return error;
	/* Not for containers, whatever our starter has: they would go before all others, and RT_GROUP_SCHED keeps them out of their cgroups. */
	if (sys_real_time())
		sys_sched_other();
	prctl(PR_SET_DUMPABLE, 0);
	/* No memory of this program becomes executable. Linux 6.3; what it starts is not bound by it (6.6). */
	prctl(PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN | PR_MDWE_NO_INHERIT, 0, 0, 0);
	/* We were executed as /proc/self/fd/N, and the kernel may have taken that number for our name. */
	prctl(PR_SET_NAME, "nsrun-shim");
	error = streams();
	if (error < 0)
		return error;

	sigfillset(&signals);
	sigprocmask(SIG_SETMASK, &signals, NULL);
	sigemptyset(&signals);
	sigaddset(&signals, SIGCHLD);
	sigaddset(&signals, SIGTERM);
	shim.signal_fd = signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK);
	shim.epoll = epoll_create1(EPOLL_CLOEXEC);
	if (shim.signal_fd < 0 || shim.epoll < 0)
		return -errno;

	/* A full table needs more descriptors than the usual soft limit; a lower hard limit makes a start fail with EMFILE, cleanly. */
	if (getrlimit(RLIMIT_NOFILE, &shim.files) < 0)
		return -errno;
	files = (struct rlimit){.rlim_cur = shim.files.rlim_max, .rlim_max = shim.files.rlim_max};
	setrlimit(RLIMIT_NOFILE, &files);

	shim.records_fd = subdirectory("containers");
	shim.jobs_fd = subdirectory("jobs");
	shim.own_pid_ns = open("/proc/self/ns/pid", O_RDONLY | O_CLOEXEC);
	if (shim.own_pid_ns < 0)
		return -errno;
	if (shim.records_fd < 0 || shim.jobs_fd < 0)
		return shim.records_fd < 0 ? shim.records_fd : shim.jobs_fd;
	shim.started_ns = shim_clock();

	error = shim_watch(shim.signal_fd, EPOLLIN, SOURCE_SIGNAL, 0);
	return error < 0 ? error : shim_watch(FD_LISTENER, EPOLLIN, SOURCE_LISTENER, 0);
}

/* The process that was started waits here for the shim's errno and ends with it: 0 when the shim serves. */
static int wait_until_ready(int fd)
{
	unsigned char answer;

	return read(fd, &answer, 1) == 1 ? answer : ECHILD;
}

int main(int argc, char **argv)
{
	unsigned char answer;
	int ready[2];
	int error;

	(void)argv;
	if (argc != 2)
		return EINVAL;
	error = inherited();
	if (error < 0)
		return -error;
	sys_close_range(FD_LOCK + 1, ~0U, 0);
	if (pipe2(ready, O_CLOEXEC) < 0)
		return errno;
	switch (fork()) {
	case -1:
		return errno;
	case 0:
		break;
	default:
		close(ready[1]);
		_exit(wait_until_ready(ready[0]));
	}
	close(ready[0]);
	error = prepare();
	answer = (unsigned char)-error;
	if (write(ready[1], &answer, 1) != 1 || error < 0)
		_exit(1);
	close(ready[1]);
	loop();
	return 0;
}
