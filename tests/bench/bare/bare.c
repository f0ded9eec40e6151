/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bare.c - the floor: only the system calls of a pod with two containers, from nothing to both processes' end.
 *
 * usage: bare ROOTFS [COUNT]
 * ROOTFS has a bin/true that needs no other file. COUNT pods are run one after another; prints the milliseconds of each. No checks of
 * what a manifest says, no log, no network beyond lo, no policy: what is left is what the kernel takes.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <net/if.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { CONTAINERS = 2 };

static char work[] = "/tmp/nsrun-bare-XXXXXX";
static const char *rootfs;

static void must(long result, const char *what)
{
	if (result >= 0)
		return;
	fprintf(stderr, "bare: %s: %s\n", what, strerror(errno));
	_exit(1);
}

static const char *layer(int container, const char *name)
{
	static char path[3][64];
	static int next;

	next = (next + 1) % 3;
	snprintf(path[next], sizeof(path[next]), "%s/%d-%s", work, container, name);
	return path[next];
}

static void device(const char *path, unsigned int minor)
{
	must(mknod(path, S_IFCHR | 0666, makedev(1, minor)), path);
}

static void container(int number)
{
	char options[512];
	char *const argv[] = {"true", NULL}, *const environment[] = {"PATH=/bin", NULL};

	must(mount(NULL, "/", NULL, MS_SLAVE | MS_REC, NULL), "propagation");
	snprintf(options, sizeof(options), "lowerdir=%s,upperdir=%s,workdir=%s", rootfs, layer(number, "upper"), layer(number, "work"));
	must(mount("overlay", layer(number, "merged"), "overlay", 0, options), "overlay");
	must(chdir(layer(number, "merged")), "chdir");
	umask(0);
	must(mkdir("proc", 0755), "mkdir");
	must(mkdir("dev", 0755), "mkdir");
	must(mkdir("sys", 0755), "mkdir");
	must(mount("proc", "proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL), "proc");
	must(mount("tmpfs", "dev", "tmpfs", MS_NOSUID, "mode=755,size=64k"), "dev");
	must(mount("sysfs", "sys", "sysfs", MS_NOSUID | MS_NODEV | MS_NOEXEC | MS_RDONLY, NULL), "sysfs");
	device("dev/null", 3);
	device("dev/zero", 5);
	device("dev/full", 7);
	device("dev/random", 8);
	device("dev/urandom", 9);
	must(mkdir("dev/pts", 0755), "mkdir");
	must(mount("devpts", "dev/pts", "devpts", MS_NOSUID | MS_NOEXEC, "newinstance,ptmxmode=0666,mode=0620"), "devpts");
	must(syscall(SYS_pivot_root, ".", "."), "pivot_root");
	must(umount2(".", MNT_DETACH), "umount2");
	must(chdir("/"), "chdir");
	must(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no_new_privs");
	must(execve("/bin/true", argv, environment), "execve");
}

/* Network, IPC and UTS namespaces of the pod's; mount and PID namespaces of each container's. */
static void pod(void)
{
	struct ifreq lo = {.ifr_name = "lo", .ifr_flags = IFF_UP};
	pid_t pids[CONTAINERS];
	int fd, status;

	must(unshare(CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS), "unshare");
	must(sethostname("bare", 4), "sethostname");
	fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	must(fd, "socket");
	must(ioctl(fd, SIOCSIFFLAGS, &lo), "lo");
	close(fd);
	for (int i = 0; i < CONTAINERS; i++) {
		struct clone_args arguments = {.flags = CLONE_NEWNS | CLONE_NEWPID | CLONE_VFORK, .exit_signal = SIGCHLD};

		pids[i] = (pid_t)syscall(SYS_clone3, &arguments, sizeof(arguments));
		must(pids[i], "clone3");
		if (pids[i] == 0)
			container(i);
	}
	for (int i = 0; i < CONTAINERS; i++) {
		must(waitpid(pids[i], &status, 0), "waitpid");
		if (status)
			_exit(1);
	}
}

static void directories(int make)
{
	static const char *const names[] = {"upper", "work", "merged"};
	char command[64];

	if (!make) {
		snprintf(command, sizeof(command), "rm -rf %s", work);
		must(system(command) ? -1 : 0, "rm");
		return;
	}
	for (int i = 0; i < CONTAINERS; i++)
		for (int j = 0; j < 3; j++)
			must(mkdir(layer(i, names[j]), 0755), "mkdir");
}

int main(int argc, char **argv)
{
	int count = argc > 2 ? atoi(argv[2]) : 1;

	if (argc < 2 || count < 1) {
		fprintf(stderr, "usage: bare ROOTFS [COUNT]\n");
		return 2;
	}
	rootfs = argv[1];
	for (int i = 0; i < count; i++) {
		struct timespec start, end;
		int status;
		pid_t sandbox;

		strcpy(work + sizeof(work) - 7, "XXXXXX");
		must(mkdtemp(work) ? 0 : -1, "mkdtemp");
		clock_gettime(CLOCK_MONOTONIC, &start);
		directories(1);
		/* In a child, because a process cannot give its namespaces back. */
		sandbox = vfork();
		must(sandbox, "vfork");
		if (sandbox == 0) {
			pod();
			_exit(0);
		}
		must(waitpid(sandbox, &status, 0), "waitpid");
		clock_gettime(CLOCK_MONOTONIC, &end);
		directories(0);
		if (status)
			return 1;
		printf("%.3f\n", (double)(end.tv_sec - start.tv_sec) * 1e3 + (double)(end.tv_nsec - start.tv_nsec) / 1e6);
	}
	return 0;
}
