/* SPDX-License-Identifier: Apache-2.0 */
/*
 * testbox - one static program with sub-commands: the whole of a test's root file system.
 *
 * It is called by a sub-command's name (bin/sleep is a link to it) or as `testbox NAME ARGS…`. What it prints is made to be compared:
 * one fact a line, no addresses, no times. Unless said otherwise a sub-command exits with 0, with 1 when a system call failed
 * (`NAME: SUBJECT: ERRNO` on stderr) and with 2 for wrong words.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/audit.h>
#include <linux/capability.h>
#include <linux/keyctl.h>
#include <linux/reboot.h>
#include <mqueue.h>
#include <netinet/in.h>
#include <netinet/ip_icmp.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/reboot.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/time.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static const char *me = "testbox";

static int failed(const char *subject)
{
	int number = errno;

	fflush(stdout);
	fprintf(stderr, "%s: %s: %s\n", me, subject, strerrorname_np(number) ? strerrorname_np(number) : "?");
	return 1;
}

static int wrong(const char *usage)
{
	fprintf(stderr, "usage: %s %s\n", me, usage);
	return 2;
}

/* A full disk or a closed pipe must show in the exit status: output is what the tests look at. */
static int flushed(void)
{
	if (fflush(stdout) || ferror(stdout))
		return failed("stdout");
	return 0;
}

static long number(const char *text)
{
	char *end;
	long value;

	errno = 0;
	value = strtol(text, &end, 0);
	if (errno || end == text || *end) {
		fprintf(stderr, "%s: not a number: %s\n", me, text);
		exit(2);
	}
	return value;
}

static void rest(double seconds)
{
	struct timespec left = {(time_t)seconds, (long)((seconds - (double)(time_t)seconds) * 1e9)};

	while (nanosleep(&left, &left) && errno == EINTR)
		;
}

static double seconds(const char *text)
{
	char *end;
	double value = strtod(text, &end);

	if (end == text || *end || value < 0) {
		fprintf(stderr, "%s: not a number of seconds: %s\n", me, text);
		exit(2);
	}
	return value;
}

/* --- ending ------------------------------------------------------------------------------------------------------------ */

static int cmd_true(int argc, char **argv)
{
	(void)argc, (void)argv;
	return 0;
}

static int cmd_false(int argc, char **argv)
{
	(void)argc, (void)argv;
	return 1;
}

static int cmd_exit(int argc, char **argv)
{
	return argc == 2 ? (int)number(argv[1]) : wrong("STATUS");
}

static int cmd_sleep(int argc, char **argv)
{
	if (argc != 2)
		return wrong("SECONDS");
	rest(seconds(argv[1]));
	return 0;
}

static int cmd_pause(int argc, char **argv)
{
	(void)argc, (void)argv;
	while (pause() < 0)
		;
	return 1;
}

/* As PID 1 of a namespace a process survives its own signals (kill(2)): then exit status 3 says so. */
static int cmd_die(int argc, char **argv)
{
	if (argc != 2)
		return wrong("SIGNAL");
	if (kill(getpid(), (int)number(argv[1])))
		return failed(argv[1]);
	rest(0.2);
	return 3;
}

/* For restarts: ends with 1 the first TIMES times, then with 0. The count is the length of FILE, e.g. in /dev/shm, which the pod shares. */
static int cmd_failing(int argc, char **argv)
{
	struct stat status;
	int fd;

	if (argc < 3)
		return wrong("FILE TIMES [SECONDS-BEFORE]");
	fd = open(argv[1], O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
	if (fd < 0 || write(fd, ".", 1) != 1 || fstat(fd, &status))
		return failed(argv[1]);
	printf("run %ld\n", (long)status.st_size);
	if (argc > 3) {
		fflush(stdout);
		rest(seconds(argv[3]));
	}
	if (flushed())
		return 1;
	return status.st_size <= number(argv[2]);
}

/* --- output ------------------------------------------------------------------------------------------------------------ */

static int cmd_echo(int argc, char **argv)
{
	for (int i = 1; i < argc; i++)
		printf("%s%s", i > 1 ? " " : "", argv[i]);
	putchar('\n');
	return flushed();
}

static int cmd_args(int argc, char **argv)
{
	for (int i = 0; i < argc; i++)
		printf("%d:%s\n", i, argv[i]);
	return flushed();
}

/* Numbered lines at full speed: "N " and then text up to WIDTH bytes, the newline not counted. */
static int cmd_lines(int argc, char **argv)
{
	static char line[1 << 20], buffer[1 << 16];
	long count, width, delay, first;

	if (argc < 2)
		return wrong("COUNT(-1: for ever) [WIDTH [DELAY-MICROSECONDS [FIRST]]]");
	count = number(argv[1]);
	width = argc > 2 ? number(argv[2]) : 0;
	delay = argc > 3 ? number(argv[3]) : 0;
	first = argc > 4 ? number(argv[4]) : 1;
	if (width < 0 || width >= (long)sizeof(line))
		return wrong("WIDTH below 1 MiB");
	setvbuf(stdout, buffer, delay ? _IOLBF : _IOFBF, sizeof(buffer));
	memset(line, 'x', sizeof(line));
	for (long i = first; count < 0 || i < first + count; i++) {
		int n = printf("%ld", i);

		if (n + 1 < width) {
			putchar(' ');
			fwrite(line, 1, (size_t)(width - n - 1), stdout);
		}
		putchar('\n');
		if (ferror(stdout))
			return failed("stdout");
		if (delay)
			rest((double)delay / 1e6);
	}
	return flushed();
}

/* "out N" and "err N" by turns, each with one write(2). */
static int cmd_both(int argc, char **argv)
{
	if (argc != 2)
		return wrong("COUNT");
	for (long i = 1, count = number(argv[1]); i <= count; i++)
		if (dprintf(1, "out %ld\n", i) < 0 || dprintf(2, "err %ld\n", i) < 0)
			return failed("stdout");
	return 0;
}

/* A line of BYTES that does not end. */
static int cmd_flood(int argc, char **argv)
{
	static char buffer[65536];

	if (argc != 2)
		return wrong("BYTES");
	memset(buffer, 'x', sizeof(buffer));
	for (long left = number(argv[1]); left > 0;) {
		ssize_t n = write(1, buffer, left < (long)sizeof(buffer) ? (size_t)left : sizeof(buffer));

		if (n < 0)
			return failed("stdout");
		left -= n;
	}
	return 0;
}

static int copy(int fd, const char *name)
{
	char buffer[65536];
	ssize_t n;

	while ((n = read(fd, buffer, sizeof(buffer))) != 0) {
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return failed(name);
		for (ssize_t done = 0, m; done < n; done += m) {
			m = write(1, buffer + done, (size_t)(n - done));
			if (m < 0)
				return failed("stdout");
		}
	}
	return 0;
}

static int cmd_cat(int argc, char **argv)
{
	int bad = 0;

	if (argc == 1)
		return copy(0, "stdin");
	for (int i = 1; i < argc; i++) {
		int fd = open(argv[i], O_RDONLY | O_CLOEXEC);

		if (fd < 0)
			bad |= failed(argv[i]);
		else
			bad |= copy(fd, argv[i]);
		if (fd >= 0)
			close(fd);
	}
	return bad;
}

/* The first COUNT bytes of FILE are thrown away: "read COUNT" or what came. */
static int cmd_read(int argc, char **argv)
{
	char buffer[65536];
	long want, got = 0;
	int fd;

	if (argc != 3)
		return wrong("FILE COUNT");
	fd = open(argv[1], O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return failed(argv[1]);
	for (want = number(argv[2]); got < want;) {
		ssize_t n = read(fd, buffer, want - got < (long)sizeof(buffer) ? (size_t)(want - got) : sizeof(buffer));

		if (n < 0)
			return failed(argv[1]);
		if (n == 0)
			break;
		got += n;
	}
	printf("read %ld\n", got);
	return flushed();
}

static int put(const char *path, const char *text, int flags)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC | flags, 0644);

	if (fd < 0 || write(fd, text, strlen(text)) != (ssize_t)strlen(text) || close(fd))
		return failed(path);
	return 0;
}

static int cmd_write(int argc, char **argv)
{
	return argc == 3 ? put(argv[1], argv[2], O_TRUNC) : wrong("FILE TEXT");
}

static int cmd_append(int argc, char **argv)
{
	return argc == 3 ? put(argv[1], argv[2], O_APPEND) : wrong("FILE TEXT");
}

static int cmd_mkdir(int argc, char **argv)
{
	if (argc != 2)
		return wrong("DIRECTORY");
	return mkdir(argv[1], 0755) ? failed(argv[1]) : 0;
}

static int cmd_rm(int argc, char **argv)
{
	if (argc != 2)
		return wrong("FILE");
	return remove(argv[1]) ? failed(argv[1]) : 0;
}

/* Waits until FILE is there: at most SECONDS (60), then 1. */
static int cmd_await(int argc, char **argv)
{
	if (argc < 2)
		return wrong("FILE [SECONDS]");
	for (double left = argc > 2 ? seconds(argv[2]) : 60; left > 0; left -= 0.005) {
		if (access(argv[1], F_OK) == 0)
			return 0;
		rest(0.005);
	}
	errno = ETIMEDOUT;
	return failed(argv[1]);
}

/* --- what is visible ---------------------------------------------------------------------------------------------------- */

static int cmd_env(int argc, char **argv)
{
	(void)argc, (void)argv;
	for (char **entry = environ; *entry; entry++)
		puts(*entry);
	return flushed();
}

static int by_name(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static int by_number(const void *a, const void *b)
{
	long left = atol(*(char *const *)a), right = atol(*(char *const *)b);

	return (left > right) - (left < right);
}

/* The names in a directory, sorted; the descriptor that reads it stays out of /proc/self/fd. */
static long names(const char *path, char ***list, bool digits_only)
{
	size_t room = 64, count = 0;
	struct dirent *entry;
	char own[32];
	DIR *directory = opendir(path);

	if (!directory)
		return -1;
	snprintf(own, sizeof(own), "%d", dirfd(directory));
	*list = calloc(room, sizeof(char *));
	while (*list && (entry = readdir(directory))) {
		if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, ".."))
			continue;
		if (digits_only && (entry->d_name[0] < '0' || entry->d_name[0] > '9'))
			continue;
		if (!strcmp(path, "/proc/self/fd") && !strcmp(entry->d_name, own))
			continue;
		if (count + 1 == room)
			*list = realloc(*list, (room *= 2) * sizeof(char *));
		if (*list)
			(*list)[count++] = strdup(entry->d_name);
	}
	closedir(directory);
	if (!*list)
		return -1;
	qsort(*list, count, sizeof(char *), digits_only ? by_number : by_name);
	return (long)count;
}

static int cmd_ls(int argc, char **argv)
{
	int bad = 0;

	if (argc < 2)
		return wrong("DIRECTORY…");
	for (int i = 1; i < argc; i++) {
		char **list;
		long count = names(argv[i], &list, false);

		if (count < 0)
			bad |= failed(argv[i]);
		for (long j = 0; j < count; j++)
			puts(list[j]);
	}
	return flushed() | bad;
}

/* PATH TYPE MODE UID GID SIZE-or-RDEV [-> LINK] */
static int cmd_stat(int argc, char **argv)
{
	int bad = 0;

	for (int i = 1; i < argc; i++) {
		struct stat status;
		char link[PATH_MAX];
		ssize_t n;

		if (lstat(argv[i], &status)) {
			bad |= failed(argv[i]);
			continue;
		}
		printf("%s %c %04o %u %u ", argv[i], "?pc?d?b?-?l?s???"[(status.st_mode & S_IFMT) >> 12], status.st_mode & 07777,
		       status.st_uid, status.st_gid);
		if (S_ISCHR(status.st_mode) || S_ISBLK(status.st_mode))
			printf("%u:%u", major(status.st_rdev), minor(status.st_rdev));
		else
			printf("%ld", S_ISDIR(status.st_mode) ? 0L : (long)status.st_size);
		if (S_ISLNK(status.st_mode) && (n = readlink(argv[i], link, sizeof(link))) >= 0)
			printf(" -> %.*s", (int)n, link);
		putchar('\n');
	}
	return flushed() | bad;
}

/* Which descriptors are open, and on what. */
static int cmd_fds(int argc, char **argv)
{
	char **list;
	long count = names("/proc/self/fd", &list, true);

	(void)argc, (void)argv;
	if (count < 0)
		return failed("/proc/self/fd");
	for (long i = 0; i < count; i++) {
		char path[64], link[PATH_MAX];
		ssize_t n;

		snprintf(path, sizeof(path), "/proc/self/fd/%s", list[i]);
		n = readlink(path, link, sizeof(link));
		printf("%s %.*s\n", list[i], n < 0 ? 1 : (int)n, n < 0 ? "?" : link);
	}
	return flushed();
}

/* Every process that can be seen: PID COMM. */
static int cmd_pids(int argc, char **argv)
{
	char **list;
	long count = names("/proc", &list, true);

	(void)argc, (void)argv;
	if (count < 0)
		return failed("/proc");
	for (long i = 0; i < count; i++) {
		char path[64], comm[64] = "?";
		FILE *file;

		snprintf(path, sizeof(path), "/proc/%s/comm", list[i]);
		file = fopen(path, "re");
		if (file) {
			if (fgets(comm, sizeof(comm), file))
				comm[strcspn(comm, "\n")] = 0;
			fclose(file);
		}
		printf("%s %s\n", list[i], comm);
	}
	return flushed();
}

/* /proc/self/mountinfo without what differs from run to run: MOUNTPOINT ROOT MOUNT-OPTIONS PROPAGATION TYPE SUPER-OPTIONS(ro or rw). */
static int cmd_mounts(int argc, char **argv)
{
	FILE *file = fopen("/proc/self/mountinfo", "re");
	char line[16384];

	(void)argc, (void)argv;
	if (!file)
		return failed("/proc/self/mountinfo");
	while (fgets(line, sizeof(line), file)) {
		const char *type = "?", *super = "?", *shared = "private";
		char *save, *field[64];
		int n = 0;

		for (char *word = strtok_r(line, " \n", &save); word && n < 64; word = strtok_r(NULL, " \n", &save))
			field[n++] = word;
		for (int i = 6; i < n; i++) {
			if (!strncmp(field[i], "shared:", 7))
				shared = "shared";
			if (!strncmp(field[i], "master:", 7))
				shared = "slave";
			if (!strcmp(field[i], "-") && i + 3 < n) {
				type = field[i + 1];
				field[i + 3][strcspn(field[i + 3], ",")] = 0;
				super = field[i + 3];
			}
		}
		if (n > 6)
			printf("%s %s %s %s %s %s\n", field[4], field[3], field[5], shared, type, super);
	}
	fclose(file);
	return flushed();
}

static int cmd_ids(int argc, char **argv)
{
	gid_t groups[1024];
	int count = getgroups(1024, groups);

	(void)argc, (void)argv;
	printf("uid=%u euid=%u gid=%u egid=%u groups=", getuid(), geteuid(), getgid(), getegid());
	for (int i = 0; i < count; i++)
		printf("%s%u", i ? "," : "", groups[i]);
	putchar('\n');
	return flushed();
}

/* Lines of /proc/self/status whose names are given (all without): "NAME VALUE". */
static int print_status(int argc, const char *const *argv)
{
	FILE *file = fopen("/proc/self/status", "re");
	char line[4096];

	if (!file)
		return failed("/proc/self/status");
	while (fgets(line, sizeof(line), file)) {
		char *value = strchr(line, ':');
		bool wanted = argc == 1;

		if (!value)
			continue;
		*value++ = 0;
		value += strspn(value, " \t");
		value[strcspn(value, "\n")] = 0;
		for (int i = 1; i < argc; i++)
			wanted |= !strcmp(argv[i], line);
		if (wanted)
			printf("%s %s\n", line, value);
	}
	fclose(file);
	return flushed();
}

static int cmd_status(int argc, char **argv)
{
	return print_status(argc, (const char *const *)argv);
}

static int cmd_caps(int argc, char **argv)
{
	static const char *const fields[] = {"status", "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp"};

	(void)argc, (void)argv;
	return print_status(8, fields);
}

static int cmd_ns(int argc, char **argv)
{
	static const char *const kinds[] = {"cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts"};

	(void)argc, (void)argv;
	for (size_t i = 0; i < sizeof(kinds) / sizeof(*kinds); i++) {
		char path[64];
		struct stat status;

		snprintf(path, sizeof(path), "/proc/self/ns/%s", kinds[i]);
		if (stat(path, &status))
			return failed(path);
		printf("%s %lu\n", kinds[i], (unsigned long)status.st_ino);
	}
	return flushed();
}

static int cmd_cwd(int argc, char **argv)
{
	char path[PATH_MAX];

	(void)argc, (void)argv;
	if (!getcwd(path, sizeof(path)))
		return failed("getcwd");
	puts(path);
	return flushed();
}

static int cmd_hostname(int argc, char **argv)
{
	char name[256], domain[256];

	(void)argc, (void)argv;
	if (gethostname(name, sizeof(name)) || getdomainname(domain, sizeof(domain)))
		return failed("gethostname");
	printf("%s %s\n", name, domain);
	return flushed();
}

/* pid, parent, session, process group, umask, nice value, oom_score_adj */
static int cmd_self(int argc, char **argv)
{
	mode_t mask = umask(0);
	char text[32] = "?\n";
	int fd = open("/proc/self/oom_score_adj", O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? 0 : read(fd, text, sizeof(text) - 1);

	(void)argc, (void)argv;
	if (n > 0)
		text[n] = 0;
	printf("pid=%d ppid=%d sid=%d pgid=%d umask=%04o nice=%d oom_score_adj=%s", getpid(), getppid(), getsid(0), getpgrp(), mask,
	       getpriority(PRIO_PROCESS, 0), text);
	if (fd >= 0)
		close(fd);
	umask(mask);
	return flushed();
}

static int cmd_rlimits(int argc, char **argv)
{
	static const struct {
		const char *name;
		int resource;
	} all[] = {{"core", RLIMIT_CORE}, {"nofile", RLIMIT_NOFILE}, {"nproc", RLIMIT_NPROC}, {"stack", RLIMIT_STACK}, {"memlock", RLIMIT_MEMLOCK}};

	(void)argc, (void)argv;
	for (size_t i = 0; i < sizeof(all) / sizeof(*all); i++) {
		struct rlimit limit;

		if (getrlimit(all[i].resource, &limit))
			return failed(all[i].name);
		printf("%s %lld %lld\n", all[i].name, (long long)limit.rlim_cur, (long long)limit.rlim_max);
	}
	return flushed();
}

/* Which signals are blocked, ignored, and what PR_SET_PDEATHSIG says. */
static int cmd_signals(int argc, char **argv)
{
	sigset_t blocked;
	int parent = 0;

	(void)argc, (void)argv;
	sigprocmask(SIG_SETMASK, NULL, &blocked);
	prctl(PR_GET_PDEATHSIG, &parent);
	for (int i = 1; i < 65; i++) {
		struct sigaction action;

		if (sigismember(&blocked, i) == 1)
			printf("blocked %d\n", i);
		if (!sigaction(i, NULL, &action) && action.sa_handler != SIG_DFL)
			printf("ignored %d\n", i);
	}
	printf("pdeathsig %d\n", parent);
	return flushed();
}

/* --- terminal ------------------------------------------------------------------------------------------------------------ */

static int cmd_tty(int argc, char **argv)
{
	(void)argc, (void)argv;
	for (int fd = 0; fd < 3; fd++) {
		struct winsize size = {0};

		if (!isatty(fd)) {
			printf("%d no\n", fd);
			continue;
		}
		ioctl(fd, TIOCGWINSZ, &size);
		printf("%d %s rows=%d columns=%d foreground=%d\n", fd, ttyname(fd) ? ttyname(fd) : "?", size.ws_row, size.ws_col,
		       tcgetpgrp(fd) == getpgrp());
	}
	return flushed();
}

static void on_resize(int signal)
{
	struct winsize size = {0};

	(void)signal;
	ioctl(0, TIOCGWINSZ, &size);
	dprintf(1, "rows=%d columns=%d\n", size.ws_row, size.ws_col);
}

/* The terminal's size now and whenever it changes, until end of file on stdin. */
static int cmd_winch(int argc, char **argv)
{
	struct sigaction action = {.sa_handler = on_resize, .sa_flags = SA_RESTART};
	char byte;

	(void)argc, (void)argv;
	sigaction(SIGWINCH, &action, NULL);
	on_resize(0);
	while (read(0, &byte, 1) > 0 || errno == EINTR)
		errno = 0;
	return 0;
}

/* --- signals ------------------------------------------------------------------------------------------------------------- */

static volatile sig_atomic_t caught;

static void on_signal(int signal)
{
	caught = signal;
	dprintf(1, "signal %d\n", signal);
}

static int cmd_kill(int argc, char **argv)
{
	if (argc != 3)
		return wrong("SIGNAL PID");
	return kill((pid_t)number(argv[2]), (int)number(argv[1])) ? failed(argv[2]) : 0;
}

/* Says "ready", then each signal that comes; ends with STATUS after SIGTERM, SECONDS later. */
static int cmd_trap(int argc, char **argv)
{
	struct sigaction action = {.sa_handler = on_signal};
	sigset_t all, none;

	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, NULL);
	for (int i = 1; i < 65; i++)
		if (i != SIGKILL && i != SIGSTOP && i != SIGSEGV && i != SIGBUS && i != SIGILL && i != SIGFPE)
			sigaction(i, &action, NULL);
	dprintf(1, "ready\n");
	sigemptyset(&none);
	do
		sigsuspend(&none);
	while (caught != SIGTERM);
	if (argc > 2)
		rest(seconds(argv[2]));
	return argc > 1 ? (int)number(argv[1]) : 0;
}

/* Says "ready" and then ignores whatever can be ignored, for ever. */
static int cmd_stubborn(int argc, char **argv)
{
	(void)argc, (void)argv;
	for (int i = 1; i < 65; i++)
		signal(i, SIG_IGN);
	dprintf(1, "ready\n");
	while (pause() < 0)
		;
	return 1;
}

/* COUNT children in sessions of their own that outlive this process, each sleeping SECONDS; they write "orphan N" when they end by themselves. */
static int cmd_orphans(int argc, char **argv)
{
	if (argc < 3)
		return wrong("COUNT SECONDS [SECONDS-OF-THE-PARENT]");
	for (long i = 1, count = number(argv[1]); i <= count; i++) {
		pid_t child = fork();

		if (child < 0)
			return failed("fork");
		if (child == 0) {
			if (fork())
				_exit(0);
			setsid();
			for (int s = 1; s < 65; s++)
				signal(s, SIG_IGN);
			rest(seconds(argv[2]));
			dprintf(1, "orphan %ld\n", i);
			_exit(0);
		}
		while (waitpid(child, NULL, 0) < 0 && errno == EINTR)
			;
	}
	dprintf(1, "ready\n");
	if (argc > 3)
		rest(seconds(argv[3]));
	return 0;
}

/* Forks for ever, SECONDS long or until it cannot. */
static int cmd_forkmany(int argc, char **argv)
{
	if (argc != 3)
		return wrong("COUNT SECONDS");
	for (long i = 0, count = number(argv[1]); i < count; i++) {
		pid_t child = fork();

		if (child < 0)
			return failed("fork");
		if (child == 0) {
			rest(seconds(argv[2]));
			_exit(0);
		}
	}
	dprintf(1, "ready\n");
	rest(seconds(argv[2]));
	return 0;
}

/* --- telling the test ------------------------------------------------------------------------------------------------------ */

/* "SECONDS.MICROSECONDS TEXT" as a datagram to PORT of the default gateway, or of this machine where there is none: kept whatever becomes of the pod. */
static int tell(long port, const char *text)
{
	struct sockaddr_in place = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr = {htonl(INADDR_LOOPBACK)}};
	FILE *routes = fopen("/proc/net/route", "re");
	char line[512], message[1024];
	struct timespec now;
	int fd, n;

	while (routes && fgets(line, sizeof(line), routes)) {
		unsigned int destination, gateway;

		if (sscanf(line, "%*s %x %x", &destination, &gateway) == 2 && destination == 0 && gateway)
			place.sin_addr.s_addr = gateway;
	}
	if (routes)
		fclose(routes);
	clock_gettime(CLOCK_REALTIME, &now);
	n = snprintf(message, sizeof(message), "%lld.%06ld %s", (long long)now.tv_sec, now.tv_nsec / 1000, text);
	fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0 || sendto(fd, message, (size_t)n, 0, (struct sockaddr *)&place, sizeof(place)) != n)
		return failed("tell");
	close(fd);
	return 0;
}

static int cmd_tell(int argc, char **argv)
{
	return argc == 3 ? tell(number(argv[1]), argv[2]) : wrong("PORT TEXT");
}

static void on_term(int signal)
{
	caught = signal;
}

static double monotonic(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

/* Until SECONDS are over (below 0: never) or SIGTERM has come; true when it has. */
static bool until_term(double length)
{
	double end = monotonic() + length;

	for (;;) {
		struct timespec some = {3600, 0};
		sigset_t open;

		sigemptyset(&open);
		if (caught == SIGTERM)
			return true;
		if (length >= 0) {
			double left = end - monotonic();

			if (left <= 0)
				return false;
			some.tv_sec = (time_t)left;
			some.tv_nsec = (long)((left - (double)some.tv_sec) * 1e9);
		}
		ppoll(NULL, 0, &some, &open);
	}
}

/*
 * A life that the test hears of: "NAME start", then "NAME term" if SIGTERM comes, and "NAME exit CODE" at the end. Words KEY=VALUE:
 *   delay=SECONDS    before "start"              seconds=SECONDS  after it (below 0, as without: until SIGTERM)
 *   code=STATUS      at the end (0)              linger=SECONDS   after SIGTERM (0; below 0: SIGTERM changes nothing)
 *   touch=FILE       made at "start"             say=TEXT         one line on standard output at "start"
 *   count=FILE codes=STATUS,STATUS,…             run number n ends with the n-th status, the last one again and again
 */
static int cmd_life(int argc, char **argv)
{
	double delay = 0, length = -1, linger = 0;
	const char *touch = NULL, *say = NULL, *count = NULL, *codes = NULL;
	struct sigaction action = {.sa_handler = on_term};
	char text[512];
	sigset_t term;
	int code = 0;
	long port;

	if (argc < 3)
		return wrong("PORT NAME [KEY=VALUE…]");
	port = number(argv[1]);
	for (int i = 3; i < argc; i++) {
		char *value = strchr(argv[i], '=');

		if (!value)
			return wrong("PORT NAME [KEY=VALUE…]");
		*value++ = 0;
		if (!strcmp(argv[i], "delay"))
			delay = seconds(value);
		else if (!strcmp(argv[i], "seconds"))
			length = *value == '-' ? -1 : seconds(value);
		else if (!strcmp(argv[i], "linger"))
			linger = *value == '-' ? -1 : seconds(value);
		else if (!strcmp(argv[i], "code"))
			code = (int)number(value);
		else if (!strcmp(argv[i], "touch"))
			touch = value;
		else if (!strcmp(argv[i], "say"))
			say = value;
		else if (!strcmp(argv[i], "count"))
			count = value;
		else if (!strcmp(argv[i], "codes"))
			codes = value;
		else
			return wrong("PORT NAME [KEY=VALUE…]");
	}
	sigemptyset(&term);
	sigaddset(&term, SIGTERM);
	sigprocmask(SIG_BLOCK, &term, NULL);
	sigaction(SIGTERM, &action, NULL);
	if (count && codes) {
		int fd = open(count, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
		struct stat status;

		if (fd < 0 || write(fd, ".", 1) != 1 || fstat(fd, &status) || close(fd))
			return failed(count);
		code = (int)strtol(codes, NULL, 10);
		for (long run = 1; run < status.st_size && (codes = strchr(codes, ',')); run++)
			code = (int)strtol(++codes, NULL, 10);
	}
	rest(delay);
	snprintf(text, sizeof(text), "%s start", argv[2]);
	if (tell(port, text))
		return 1;
	if (touch && put(touch, "", 0))
		return 1;
	if (say)
		dprintf(1, "%s\n", say);
	if (until_term(length)) {
		snprintf(text, sizeof(text), "%s term", argv[2]);
		tell(port, text);
		if (linger < 0) {
			caught = 0;
			sigprocmask(SIG_BLOCK, &term, NULL);
			signal(SIGTERM, SIG_IGN);
			until_term(length);
		}
		rest(linger);
	}
	snprintf(text, sizeof(text), "%s exit %d", argv[2], code);
	tell(port, text);
	return code;
}

/* Closes standard output and error, and lives on for SECONDS. */
static int cmd_mute(int argc, char **argv)
{
	if (argc != 2)
		return wrong("SECONDS");
	close(1);
	close(2);
	rest(seconds(argv[1]));
	return 0;
}

/* Forks without end, and so does every child. */
static int cmd_forkbomb(int argc, char **argv)
{
	(void)argc, (void)argv;
	dprintf(1, "ready\n");
	while (fork() >= 0 || errno == EAGAIN)
		;
	return failed("fork");
}

/* --- load ---------------------------------------------------------------------------------------------------------------- */

static int cmd_spin(int argc, char **argv)
{
	struct timespec now;
	double end;

	if (argc != 2)
		return wrong("SECONDS");
	clock_gettime(CLOCK_MONOTONIC, &now);
	end = (double)now.tv_sec + (double)now.tv_nsec / 1e9 + seconds(argv[1]);
	do
		clock_gettime(CLOCK_MONOTONIC, &now);
	while ((double)now.tv_sec + (double)now.tv_nsec / 1e9 < end);
	return 0;
}

/* Has a piece of memory, every page of `step` bytes of it, and says so. */
static int use_memory(int argc, char **argv, int flags, size_t step)
{
	size_t size;
	char *memory;

	if (argc < 2)
		return wrong("MIB [SECONDS]");
	size = (size_t)number(argv[1]) << 20;
	memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | flags, -1, 0);
	if (memory == MAP_FAILED)
		return failed("mmap");
	for (size_t i = 0; i < size; i += step)
		((volatile char *)memory)[i] = 1;
	dprintf(1, "ready\n");
	rest(argc > 2 ? seconds(argv[2]) : 0);
	return 0;
}

static int cmd_alloc(int argc, char **argv)
{
	return use_memory(argc, argv, 0, 4096);
}

/* Pages of 2 MiB that the machine has set aside: who may not have them is told so at once, or by a SIGBUS. */
static int cmd_huge(int argc, char **argv)
{
	return use_memory(argc, argv, MAP_HUGETLB | 21 << MAP_HUGE_SHIFT, 2 << 20);
}

/* --- network ------------------------------------------------------------------------------------------------------------- */

static bool address(const char *host, const char *port, struct sockaddr_storage *place, socklen_t *length)
{
	struct sockaddr_in *four = (struct sockaddr_in *)place;
	struct sockaddr_in6 *six = (struct sockaddr_in6 *)place;

	memset(place, 0, sizeof(*place));
	if (inet_pton(AF_INET, host, &four->sin_addr) == 1) {
		four->sin_family = AF_INET;
		four->sin_port = htons((uint16_t)number(port));
		*length = sizeof(*four);
		return true;
	}
	if (inet_pton(AF_INET6, host, &six->sin6_addr) == 1) {
		six->sin6_family = AF_INET6;
		six->sin6_port = htons((uint16_t)number(port));
		*length = sizeof(*six);
		return true;
	}
	return false;
}

/* TCP: greets every client with TEXT and a newline, then gives back what it says until it is done. COUNT clients, else for ever. */
static int cmd_netserver(int argc, char **argv)
{
	struct sockaddr_storage place;
	socklen_t length;
	int one = 1, listener;
	long count;

	if (argc < 3 || !address(argc > 4 ? argv[4] : "0.0.0.0", argv[1], &place, &length))
		return wrong("PORT TEXT [COUNT(-1) [ADDRESS]]");
	count = argc > 3 ? number(argv[3]) : -1;
	listener = socket(place.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (listener < 0)
		return failed("socket");
	setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (bind(listener, (struct sockaddr *)&place, length) || listen(listener, 128))
		return failed(argv[1]);
	signal(SIGPIPE, SIG_IGN);
	dprintf(1, "ready\n");
	while (count < 0 || count-- > 0) {
		char buffer[4096];
		ssize_t n;
		int client = accept4(listener, NULL, NULL, SOCK_CLOEXEC);

		if (client < 0)
			return failed("accept");
		dprintf(client, "%s\n", argv[2]);
		while ((n = read(client, buffer, sizeof(buffer))) > 0)
			if (write(client, buffer, (size_t)n) < 0)
				break;
		close(client);
	}
	return 0;
}

/* One request: prints its first line and, below /headers, its headers; answers as its path says. */
static void answer_http(int client, const char *file)
{
	static char request[8192];
	char *path = request + 4, *end;
	size_t have = 0;
	int code = 200;

	while (!strstr(request, "\r\n\r\n")) {
		ssize_t n = read(client, request + have, sizeof(request) - 1 - have);

		if (n <= 0)
			return;
		have += (size_t)n;
	}
	end = strstr(request, !strncmp(path, "/headers", 8) ? "\r\n\r\n" : "\r\n");
	*end = 0;
	for (char *at = request; (at = strchr(at, '\r'));)
		memmove(at, at + 1, strlen(at));
	if (!strncmp(path, "/time", 5)) {
		struct timespec now;

		clock_gettime(CLOCK_REALTIME, &now);
		dprintf(1, "at %lld.%09ld\n", (long long)now.tv_sec, now.tv_nsec);
	}
	dprintf(1, "%s\n", request);
	path[strcspn(path, " \n")] = 0;
	if (!strncmp(path, "/hang", 5)) {
		pause();
	} else if (!strncmp(path, "/to", 3)) {
		dprintf(client, "HTTP/1.1 302 Found\r\nLocation: %s\r\nContent-Length: 5\r\n\r\nmoved", path + 3);
		return;
	} else if (!strncmp(path, "/status/", 8)) {
		code = atoi(path + 8);
	} else if (strcmp(file, "-") && access(file, F_OK)) {
		code = 503;
	}
	dprintf(client, "HTTP/1.1 %d Said\r\nContent-Length: 3\r\nConnection: close\r\n\r\nso\n", code);
}

/*
 * An HTTP server: 200 while FILE exists ("-": always), else 503; /status/NNN answers that, /to/X leads to /X (/tohttp://… there), /hang says
 * nothing, /time is told when it was asked for. DELAY: begins to listen so much later.
 */
static int cmd_httpd(int argc, char **argv)
{
	struct sockaddr_storage place;
	socklen_t length;
	int one = 1, listener;

	if (argc < 2 || !address("0.0.0.0", argv[1], &place, &length))
		return wrong("PORT [FILE(-) [DELAY]]");
	if (argc > 3)
		usleep((useconds_t)(seconds(argv[3]) * 1e6));
	listener = socket(place.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (listener < 0)
		return failed("socket");
	setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (bind(listener, (struct sockaddr *)&place, length) || listen(listener, 128))
		return failed(argv[1]);
	signal(SIGCHLD, SIG_IGN);
	signal(SIGPIPE, SIG_IGN);
	dprintf(1, "ready\n");
	for (;;) {
		int client = accept4(listener, NULL, NULL, SOCK_CLOEXEC);

		if (client < 0)
			return failed("accept");
		if (fork() == 0) {
			answer_http(client, argc > 2 ? argv[2] : "-");
			_exit(0);
		}
		close(client);
	}
}

/* Connects (tries for SECONDS), says TEXT, and prints all that comes back. */
static int cmd_netclient(int argc, char **argv)
{
	struct sockaddr_storage place;
	socklen_t length;
	int fd = -1;

	if (argc < 3 || !address(argv[1], argv[2], &place, &length))
		return wrong("ADDRESS PORT [TEXT [SECONDS(0)]]");
	for (double left = argc > 4 ? seconds(argv[4]) : 0;; left -= 0.02) {
		struct timeval patience = {5, 0};

		fd = socket(place.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
		setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
		setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
		if (fd < 0 || !connect(fd, (struct sockaddr *)&place, length) || left <= 0)
			break;
		close(fd);
		rest(0.02);
	}
	if (fd < 0 || (argc > 3 && write(fd, argv[3], strlen(argv[3])) < 0) || shutdown(fd, SHUT_WR))
		return failed(argv[1]);
	return copy(fd, argv[1]);
}

/* Interfaces, from /proc/self/net/dev: names, sorted; then the routes as the kernel prints them. */
static int cmd_links(int argc, char **argv)
{
	char **list;
	long count = names("/sys/class/net", &list, false);

	(void)argc, (void)argv;
	if (count < 0)
		return failed("/sys/class/net");
	for (long i = 0; i < count; i++)
		puts(list[i]);
	return flushed();
}

/* --- what is refused ------------------------------------------------------------------------------------------------------ */

/* Each tries one thing in a form that does no harm where it is allowed. */
static long try_umount_mask(void) { return umount2("/proc/keys", MNT_DETACH); }
static long try_mount(void) { return mount("none", "/tmp", "tmpfs", 0, NULL); }
static long try_umount(void) { return umount2("/nonexistent", UMOUNT_NOFOLLOW); }
static long try_remount_sys(void) { return mount(NULL, "/sys", NULL, MS_REMOUNT | MS_BIND, NULL); }
static long try_unshare(void) { return unshare(CLONE_NEWNS); }
static long try_unshare_user(void) { return unshare(CLONE_NEWUSER); }
static long try_clone_user(void)
{
	long pid = syscall(SYS_clone, CLONE_NEWUSER | SIGCHLD, 0, 0, 0, 0);

	if (pid == 0)
		_exit(0);
	return pid;
}
static long try_clone3(void) { return syscall(SYS_clone3, NULL, 0); }
static long try_setns(void)
{
	int fd = open("/proc/self/ns/uts", O_RDONLY | O_CLOEXEC);
	long result = syscall(SYS_setns, fd, 0);
	int error = errno;

	close(fd);
	errno = error;
	return result;
}
static long try_keyctl(void) { return syscall(SYS_keyctl, KEYCTL_GET_KEYRING_ID, KEY_SPEC_SESSION_KEYRING, 0); }
static long try_add_key(void) { return syscall(SYS_add_key, "user", "testbox", "x", 1, KEY_SPEC_PROCESS_KEYRING); }
static long try_bpf(void) { return syscall(SYS_bpf, 0, NULL, 0); }
static long try_perf(void) { return syscall(SYS_perf_event_open, NULL, 0, -1, -1, 0); }
static long try_io_uring(void) { return syscall(SYS_io_uring_setup, 0, NULL); }
static long try_userfaultfd(void) { return syscall(SYS_userfaultfd, O_CLOEXEC); }
static long try_init_module(void) { return syscall(SYS_init_module, NULL, 0, ""); }
static long try_kexec(void) { return syscall(SYS_kexec_load, 0, 0, NULL, ~0UL); }
static long try_reboot(void) { return syscall(SYS_reboot, 0, 0, 0, 0); }
static long try_swapon(void) { return syscall(SYS_swapon, "/nonexistent", 0); }
static long try_open_by_handle(void) { return syscall(SYS_open_by_handle_at, AT_FDCWD, NULL, 0); }
static long try_ptrace(void) { return ptrace(PTRACE_TRACEME, 0, 0, 0); }
static long try_personality(void) { return personality(ADDR_NO_RANDOMIZE); }
static long try_personality_query(void) { return personality(0xffffffff); }
static long try_vsock(void) { return socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC, 0); }
static long try_sethostname(void) { return sethostname("testbox", 7); }
static long try_settime(void) { return syscall(SYS_settimeofday, NULL, NULL); }
static long try_chroot(void) { return chroot("/"); }
static long try_mknod(void)
{
	unlink("/tmp/testbox-null");
	return mknod("/tmp/testbox-null", S_IFCHR | 0666, makedev(1, 3));
}
static long try_mknod_disk(void)
{
	unlink("/tmp/testbox-disk");
	return mknod("/tmp/testbox-disk", S_IFBLK | 0600, makedev(254, 0));
}
static long try_open_disk(void)
{
	if (try_mknod_disk())
		return -1;
	return open("/tmp/testbox-disk", O_RDONLY | O_CLOEXEC);
}
static long try_chown(void)
{
	int fd = open("/tmp/testbox-chown", O_RDONLY | O_CREAT | O_CLOEXEC, 0600);

	return fd < 0 ? -1 : fchown(fd, 12345, 12345);
}
static long try_chmod_null(void) { return chmod("/dev/null", 0666); }
static long try_chmod_mask(void) { return chmod("/proc/keys", 0666); }
static long try_setuid(void) { return setresuid(12345, 12345, 12345); }
static long try_raw_socket(void) { return socket(AF_INET, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_ICMP); }
static long try_ping_socket(void) { return socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, IPPROTO_ICMP); }
static long try_low_port(void)
{
	struct sockaddr_in place = {.sin_family = AF_INET, .sin_port = htons(80), .sin_addr = {htonl(INADDR_LOOPBACK)}};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	return fd < 0 ? -1 : bind(fd, (struct sockaddr *)&place, sizeof(place));
}
static long try_mqueue(void)
{
	struct mq_attr shape = {.mq_maxmsg = 1, .mq_msgsize = 16};

	return mq_open("/testbox", O_RDWR | O_CREAT | O_CLOEXEC, 0600, &shape);
}
static long try_iopl(void)
{
#ifdef SYS_iopl
	return syscall(SYS_iopl, 3);
#else
	errno = ENOSYS;
	return -1;
#endif
}
static long try_write_proc_sys(void) { return open("/proc/sys/kernel/core_pattern", O_WRONLY | O_CLOEXEC); }
static long try_sysrq(void) { return open("/proc/sysrq-trigger", O_WRONLY | O_CLOEXEC); }
static long try_write_root(void) { return open("/testbox-written", O_WRONLY | O_CREAT | O_CLOEXEC, 0600); }
static long try_write_sys(void) { return mkdir("/sys/fs/cgroup/testbox", 0755); }
static long try_nice(void) { return setpriority(PRIO_PROCESS, 0, -5); }
static long try_dmesg(void) { return syscall(SYS_syslog, 10, NULL, 0); }

static const struct {
	const char *name;
	long (*call)(void);
} tries[] = {
	{"add_key", try_add_key},
	{"bpf", try_bpf},
	{"chmod_mask", try_chmod_mask},
	{"chmod_null", try_chmod_null},
	{"chown", try_chown},
	{"chroot", try_chroot},
	{"clone3", try_clone3},
	{"clone_user", try_clone_user},
	{"dmesg", try_dmesg},
	{"init_module", try_init_module},
	{"io_uring", try_io_uring},
	{"iopl", try_iopl},
	{"kexec", try_kexec},
	{"keyctl", try_keyctl},
	{"low_port", try_low_port},
	{"mknod", try_mknod},
	{"mknod_disk", try_mknod_disk},
	{"mount", try_mount},
	{"mqueue", try_mqueue},
	{"nice", try_nice},
	{"open_by_handle", try_open_by_handle},
	{"open_disk", try_open_disk},
	{"perf", try_perf},
	{"personality", try_personality},
	{"personality_query", try_personality_query},
	{"ping_socket", try_ping_socket},
	{"ptrace", try_ptrace},
	{"raw_socket", try_raw_socket},
	{"reboot", try_reboot},
	{"remount_sys", try_remount_sys},
	{"sethostname", try_sethostname},
	{"setns", try_setns},
	{"settime", try_settime},
	{"setuid", try_setuid},
	{"swapon", try_swapon},
	{"sysrq", try_sysrq},
	{"umount", try_umount},
	{"umount_mask", try_umount_mask},
	{"unshare", try_unshare},
	{"unshare_user", try_unshare_user},
	{"userfaultfd", try_userfaultfd},
	{"vsock", try_vsock},
	{"write_proc_sys", try_write_proc_sys},
	{"write_root", try_write_root},
	{"write_sys", try_write_sys},
};

/* NAME ok, or NAME ERRNO, for each thing tried, each in a child of its own. Always 0: the lines are the answer. */
static int cmd_try(int argc, char **argv)
{
	if (argc < 2)
		return wrong("THING…");
	for (int i = 1; i < argc; i++) {
		size_t j = 0, count = sizeof(tries) / sizeof(*tries);
		int status;
		pid_t child;

		while (j < count && strcmp(tries[j].name, argv[i]))
			j++;
		if (j == count)
			return wrong("THING: not one of those in testbox.c");
		fflush(stdout);
		child = fork();
		if (child < 0)
			return failed("fork");
		if (child == 0)
			_exit(tries[j].call() < 0 ? errno : 0);
		while (waitpid(child, &status, 0) < 0 && errno == EINTR)
			;
		if (WIFSIGNALED(status))
			printf("%s killed %d\n", argv[i], WTERMSIG(status));
		else
			printf("%s %s\n", argv[i], WEXITSTATUS(status) ? strerrorname_np(WEXITSTATUS(status)) : "ok");
	}
	return flushed();
}

/* --- together ------------------------------------------------------------------------------------------------------------- */

static int run(int argc, char **argv);

/* Several sub-commands, separated by an argument ";", each in a child and under a title; goes on when one fails. The last failure's status. */
static int cmd_seq(int argc, char **argv)
{
	int result = 0;

	for (int first = 1; first < argc;) {
		int count = 0, status;
		pid_t child;

		while (first + count < argc && strcmp(argv[first + count], ";"))
			count++;
		if (count) {
			printf("== %s\n", argv[first]);
			fflush(stdout);
			child = fork();
			if (child < 0)
				return failed("fork");
			if (child == 0) {
				argv[first + count] = NULL;
				exit(run(count, argv + first));
			}
			while (waitpid(child, &status, 0) < 0 && errno == EINTR)
				;
			if (status)
				result = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
		}
		first += count + 1;
	}
	return result;
}

/* The same, but ends with the first failure, and without titles: the poor man's `a && b`. The last one takes this process's place. */
static int cmd_then(int argc, char **argv)
{
	for (int first = 1; first < argc;) {
		int count = 0, status = 0;
		pid_t child;

		while (first + count < argc && strcmp(argv[first + count], ";"))
			count++;
		argv[first + count] = NULL;
		if (first + count >= argc - 1)
			return count ? run(count, argv + first) : 0;
		fflush(stdout);
		child = fork();
		if (child < 0)
			return failed("fork");
		if (child == 0)
			exit(run(count, argv + first));
		while (waitpid(child, &status, 0) < 0 && errno == EINTR)
			;
		if (status)
			return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
		first += count + 1;
	}
	return 0;
}

static int cmd_exec(int argc, char **argv)
{
	if (argc < 2)
		return wrong("FILE ARGS…");
	execv(argv[1], argv + 1);
	return failed(argv[1]);
}

static const struct {
	const char *name;
	int (*run)(int, char **);
} commands[] = {
	{"alloc", cmd_alloc},
	{"append", cmd_append},
	{"args", cmd_args},
	{"await", cmd_await},
	{"both", cmd_both},
	{"caps", cmd_caps},
	{"cat", cmd_cat},
	{"cwd", cmd_cwd},
	{"die", cmd_die},
	{"echo", cmd_echo},
	{"env", cmd_env},
	{"exec", cmd_exec},
	{"exit", cmd_exit},
	{"failing", cmd_failing},
	{"false", cmd_false},
	{"fds", cmd_fds},
	{"flood", cmd_flood},
	{"forkbomb", cmd_forkbomb},
	{"forkmany", cmd_forkmany},
	{"hostname", cmd_hostname},
	{"httpd", cmd_httpd},
	{"huge", cmd_huge},
	{"ids", cmd_ids},
	{"kill", cmd_kill},
	{"life", cmd_life},
	{"lines", cmd_lines},
	{"links", cmd_links},
	{"ls", cmd_ls},
	{"mkdir", cmd_mkdir},
	{"mounts", cmd_mounts},
	{"mute", cmd_mute},
	{"netclient", cmd_netclient},
	{"netserver", cmd_netserver},
	{"ns", cmd_ns},
	{"orphans", cmd_orphans},
	{"pause", cmd_pause},
	{"pids", cmd_pids},
	{"read", cmd_read},
	{"rlimits", cmd_rlimits},
	{"rm", cmd_rm},
	{"self", cmd_self},
	{"seq", cmd_seq},
	{"signals", cmd_signals},
	{"sleep", cmd_sleep},
	{"spin", cmd_spin},
	{"stat", cmd_stat},
	{"status", cmd_status},
	{"stubborn", cmd_stubborn},
	{"tell", cmd_tell},
	{"then", cmd_then},
	{"trap", cmd_trap},
	{"true", cmd_true},
	{"try", cmd_try},
	{"tty", cmd_tty},
	{"winch", cmd_winch},
	{"write", cmd_write},
};

static int run(int argc, char **argv)
{
	me = argv[0];
	for (size_t i = 0; i < sizeof(commands) / sizeof(*commands); i++)
		if (!strcmp(commands[i].name, argv[0]))
			return commands[i].run(argc, argv);
	fprintf(stderr, "testbox: no such sub-command: %s\n", argv[0]);
	return 2;
}

int main(int argc, char **argv)
{
	char *base;

	if (argc < 1)
		return 2;
	base = strrchr(argv[0], '/');
	base = base ? base + 1 : argv[0];
	if (!strcmp(base, "testbox")) {
		if (argc == 1) {
			for (size_t i = 0; i < sizeof(commands) / sizeof(*commands); i++)
				puts(commands[i].name);
			return flushed();
		}
		return run(argc - 1, argv + 1);
	}
	argv[0] = base;
	return run(argc, argv);
}
