/* SPDX-License-Identifier: Apache-2.0 */
/*
 * op_user.c - the user namespace of a pod: made with the namespaces that belong to it, found again, entered.
 *
 * Nobody has to keep or pass on a descriptor of it. Whoever is in the pod's network namespace asks the kernel who owns that; and the
 * network namespace lives as long as the shim.
 */
#include <linux/capability.h>
#include <linux/nsfs.h>
#include <linux/sockios.h>
#include <signal.h>
#include <string.h>
#include <sys/fsuid.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include "op.h"

enum { DIGITS = 20, MAP_MAX = 64 };

static size_t put_number(char *to, uint64_t number)
{
	char digits[DIGITS];
	size_t at = sizeof(digits), length;

	do {
		digits[--at] = (char)('0' + number % 10);
		number /= 10;
	} while (number);
	length = sizeof(digits) - at;
	memcpy(to, digits + at, length);
	return length;
}

static size_t put_text(char *to, const char *text)
{
	size_t length = strlen(text);

	memcpy(to, text, length);
	return length;
}

/* The ids from 0 on of a process's user namespace are the machine's from `first` on. */
static int write_map(pid_t pid, const char *name, uint64_t first, uint64_t count)
{
	char path[MAP_MAX], map[MAP_MAX];
	size_t n = put_text(path, "/proc/");
	int fd, result;

	n += put_number(path + n, (uint64_t)pid);
	n += put_text(path + n, name);
	path[n] = '\0';
	n = put_text(map, "0 ");
	n += put_number(map + n, first);
	n += put_text(map + n, " ");
	n += put_number(map + n, count);
	fd = sys_openat2(AT_FDCWD, path, O_WRONLY | O_CLOEXEC, 0, 0);
	if (fd < 0)
		return fd;
	result = write(fd, map, n) < 0 ? -errno : 0;
	close(fd);
	return result;
}

/*
 * In the new user namespace, as nobody in it yet. It becomes root there before it makes the other namespaces, so that what the kernel puts into
 * them (the files of /dev/mqueue, of /sys/class/net) is that root's. Then it waits to be killed, or for the end of who made it.
 */
static void first_process(int socket, uint64_t namespaces)
{
	char go;
	int result;

	if (recv(socket, &go, 1, 0) != 1)
		_exit(1);
	result = sys_answer(syscall(SYS_setgroups, 0, NULL));
	if (!result)
		result = sys_answer(syscall(SYS_setresgid, 0, 0, 0));
	if (!result)
		result = sys_answer(syscall(SYS_setresuid, 0, 0, 0));
	if (!result)
		result = sys_unshare(namespaces);
	if (send(socket, &result, sizeof(result), MSG_NOSIGNAL) == sizeof(result))
		recv(socket, &go, 1, 0);
	_exit(0);
}

static int prepare_namespaces(struct nsr_run *run, pid_t pid, int socket, const int64_t *arg)
{
	int answer, result = nsr_at(run, "uid_map", write_map(pid, "/uid_map", (uint64_t)arg[0], (uint64_t)arg[1]));

	if (!result)
		result = nsr_at(run, "gid_map", write_map(pid, "/gid_map", (uint64_t)arg[0], (uint64_t)arg[1]));
	if (!result && send(socket, "", 1, MSG_NOSIGNAL) != 1)
		result = -errno;
	if (!result && recv(socket, &answer, sizeof(answer), 0) != sizeof(answer))
		result = -ESRCH;
	return result ? result : nsr_at(run, "its namespaces", answer);
}

int nsr_op_user_namespace(struct nsr_run *run, struct nsr_args *args)
{
	const int64_t *arg = args->head.arg;
	int pair[2], pid, result, pidfd = -1;
	/* No exit signal: whoever runs this program waits for its other children, and is not to find this one among them. */
	struct clone_args arguments = {.flags = CLONE_NEWUSER | CLONE_PIDFD, .pidfd = (uint64_t)(uintptr_t)&pidfd};
	siginfo_t info;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair))
		return -errno;
	pid = sys_clone3(&arguments);
	if (pid == 0) {
		close(pair[0]);
		first_process(pair[1], (uint64_t)arg[2]);
	}
	close(pair[1]);
	if (pid < 0) {
		close(pair[0]);
		return nsr_at(run, "user namespace", pid);
	}
	result = prepare_namespaces(run, pid, pair[0], arg);
	if (!result)
		result = nsr_at(run, "its namespaces", sys_setns(pidfd, (int)arg[2]));
	sys_pidfd_send_signal(pidfd, SIGKILL);
	while (waitid(P_PIDFD, (id_t)pidfd, &info, WEXITED | __WALL) < 0 && errno == EINTR)
		;
	close(pidfd);
	close(pair[0]);
	return result;
}

int nsr_user_namespace(struct nsr_run *run)
{
	int network, socket_fd;

	if (run->user_namespace >= 0)
		return run->user_namespace;
	/* Not by way of /proc: what lies there may be anything by now. */
	socket_fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (socket_fd < 0)
		return -errno;
	network = sys_answer(ioctl(socket_fd, SIOCGSKNS));
	close(socket_fd);
	if (network < 0)
		return network;
	run->user_namespace = sys_answer(ioctl(network, NS_GET_USERNS));
	close(network);
	return run->user_namespace;
}

int nsr_op_enter_user(struct nsr_run *run, struct nsr_args *args)
{
	uint64_t more = (uint64_t)args->head.arg[0];
	int result, fd = nsr_user_namespace(run);

	if (fd < 0)
		return nsr_at(run, "user namespace", fd);
	result = nsr_at(run, "user namespace", sys_setns(fd, CLONE_NEWUSER));
	if (!result && more)
		result = nsr_at(run, "its namespaces", sys_unshare(more));
	/* What was opened before is of the mount namespace that was left. */
	if (run->root >= 0)
		close(run->root);
	run->root = -1;
	return result;
}

/* Capabilities over files, which the kernel takes from whoever is not root there, are taken up again: paths are still to be walked. */
int nsr_fs_user(uid_t uid, gid_t gid)
{
	struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3];

	syscall(SYS_setfsgid, gid);
	syscall(SYS_setfsuid, uid);
	/* They answer what was before, whether they succeed or not. */
	if ((gid_t)syscall(SYS_setfsgid, (gid_t)-1) != gid || (uid_t)syscall(SYS_setfsuid, (uid_t)-1) != uid)
		return -EPERM;
	if (syscall(SYS_capget, &header, data))
		return -errno;
	for (int i = 0; i < _LINUX_CAPABILITY_U32S_3; i++)
		data[i].effective = data[i].permitted;
	return sys_answer(syscall(SYS_capset, &header, data));
}

/* The file system's idea of who this is: what is made from here on belongs to that user. */
int nsr_op_fs_user(struct nsr_run *run, struct nsr_args *args)
{
	(void)run;
	return nsr_fs_user((uid_t)args->head.arg[0], (gid_t)args->head.arg[1]);
}

int nsr_id_map(struct nsr_run *run, int tree)
{
	int fd = nsr_user_namespace(run);

	return fd < 0 ? fd : sys_mount_setattr(tree, "", AT_EMPTY_PATH, MOUNT_ATTR_IDMAP, 0, 0, fd);
}

/* On itself: whoever names the directory after this gets it with the pod's ids, an overlay among them. */
int nsr_op_id_map(struct nsr_run *run, struct nsr_args *args)
{
	const char *path = nsr_next(args, NULL);
	int result, tree = sys_open_tree(AT_FDCWD, path, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);

	if (tree < 0)
		return tree;
	result = nsr_id_map(run, tree);
	if (!result)
		result = sys_move_mount(tree, "", AT_FDCWD, path, MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_SYMLINKS);
	close(tree);
	return result;
}
