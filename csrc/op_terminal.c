/* SPDX-License-Identifier: Apache-2.0 */
/* op_terminal.c - a terminal of the container's own devpts; its master goes up the report socket. */
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include "op.h"

static int send_master(const struct nsr_run *run, int master)
{
	struct nsr_report report = {.kind = NSR_REPORT_TERMINAL, .code = NSR_OP_TERMINAL};
	union {
		char space[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control = {{0}};
	struct iovec data = {&report, sizeof(report)};
	struct msghdr message = {
	    .msg_iov = &data, .msg_iovlen = 1, .msg_control = control.space, .msg_controllen = sizeof(control.space)};
	struct cmsghdr *header = CMSG_FIRSTHDR(&message);

	header->cmsg_level = SOL_SOCKET;
	header->cmsg_type = SCM_RIGHTS;
	header->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(header), &master, sizeof(int));
	while (sendmsg(run->context->report_fd, &message, MSG_NOSIGNAL) < 0)
		if (errno != EINTR)
			return -errno;
	return 0;
}

static int bind_console(struct nsr_run *run, int slave)
{
	int file, result, tree = sys_open_tree(slave, "", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH);

	if (tree < 0)
		return nsr_at(run, "/dev/console", tree);
	file = nsr_make_file(run, "/dev/console", 0600);
	result = file < 0 ? nsr_at(run, "/dev/console", file) : nsr_attach(run, tree, "/dev/console");
	if (file >= 0)
		close(file);
	close(tree);
	return result;
}

static int take(struct nsr_run *run, const int64_t *arg, int master, int slave)
{
	struct winsize size = {.ws_row = (unsigned short)arg[0], .ws_col = (unsigned short)arg[1]};
	int result = sys_answer(ioctl(slave, TIOCSWINSZ, &size));

	if (!result && arg[2])
		result = sys_answer(fchown(slave, (uid_t)arg[2], (gid_t)-1));
	if (!result && arg[3])
		result = bind_console(run, slave);
	/* A session leader already (EPERM) is as good. */
	if (!result && setsid() < 0 && errno != EPERM)
		result = -errno;
	if (!result)
		result = sys_answer(ioctl(slave, TIOCSCTTY, 0));
	for (int i = 0; i < 3 && !result; i++)
		result = dup2(slave, i) < 0 ? -errno : 0;
	return result ? result : send_master(run, master);
}

int nsr_op_terminal(struct nsr_run *run, struct nsr_args *args)
{
	int unlock = 0, slave, result, master = nsr_open(run, "/dev/ptmx", O_RDWR | O_NOCTTY, 0);

	if (master < 0)
		return nsr_at(run, "/dev/ptmx", master);
	result = sys_answer(ioctl(master, TIOCSPTLCK, &unlock));
	slave = result ? result : sys_answer(ioctl(master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC));
	result = slave < 0 ? slave : take(run, args->head.arg, master, slave);
	if (slave >= 0)
		close(slave);
	close(master);
	return nsr_at(run, "/dev/ptmx", result);
}
