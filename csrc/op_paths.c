/* SPDX-License-Identifier: Apache-2.0 */
/*
 * op_paths.c - paths in the container's root, which an image may have filled with any symlink it likes.
 *
 * The kernel does the resolving (RESOLVE_IN_ROOT): a link to /etc or ../../.. ends inside the root, a magic link of /proc ends
 * nowhere. Nothing here may look at a path and then use it by name again from above the root.
 */
#include <limits.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include "op.h"

enum { LINKS_MAX = 40, TRIES_MAX = 1000 };

int nsr_root(struct nsr_run *run)
{
	if (run->root < 0)
		run->root = sys_openat2(AT_FDCWD, "/", O_PATH | O_DIRECTORY | O_CLOEXEC, 0, 0);
	return run->root;
}

static int open_in_root(struct nsr_run *run, const char *path, uint64_t flags, mode_t mode, uint64_t resolve)
{
	int root = nsr_root(run), result = root;

	/* EAGAIN: somebody on this machine renamed or mounted something while a ".." was being walked. */
	for (int i = 0; root >= 0 && i < TRIES_MAX; i++) {
		result = sys_openat2(root, path, flags | O_CLOEXEC, mode, RESOLVE_IN_ROOT | resolve);
		if (result != -EAGAIN)
			break;
	}
	return result;
}

int nsr_open(struct nsr_run *run, const char *path, uint64_t flags, mode_t mode)
{
	return open_in_root(run, path, flags, mode, RESOLVE_NO_MAGICLINKS);
}

int nsr_open_no_links(struct nsr_run *run, const char *path, uint64_t flags)
{
	return open_in_root(run, path, flags, 0, RESOLVE_NO_SYMLINKS);
}

/* `path` with the link at [start, end) replaced by what it says: relative texts continue where the link stands. */
static int follow(int directory, char path[PATH_MAX], size_t start, size_t end)
{
	char text[PATH_MAX], name[NAME_MAX + 1];
	size_t head, tail = strlen(path + end);
	ssize_t length;

	if (end - start > NAME_MAX)
		return -ENAMETOOLONG;
	memcpy(name, path + start, end - start);
	name[end - start] = '\0';
	length = readlinkat(directory, name, text, sizeof(text));
	if (length < 0)
		return errno == EINVAL ? -ENOTDIR : -errno;
	if (length == 0)
		return -ENOENT;
	head = text[0] == '/' ? 0 : start;
	if (head + (size_t)length + tail >= PATH_MAX)
		return -ENAMETOOLONG;
	memmove(path + head + length, path + end, tail + 1);
	memcpy(path + head, text, (size_t)length);
	return 0;
}

/*
 * Opens the directory, making what is missing of the way to it. The walk goes from the top, each prefix resolved anew in the
 * root. A dangling link on the way (/var/run -> /run without /run) is followed and its target made, inside the root.
 */
int nsr_make_directories(struct nsr_run *run, const char *given, mode_t mode, int *made)
{
	char path[PATH_MAX];
	size_t start = 0, end;
	int parent, fd, links = 0;

	if (made)
		*made = 0;
	fd = nsr_open(run, *given ? given : "/", O_PATH | O_DIRECTORY, 0);
	if (fd != -ENOENT)
		return fd;
	if (strlen(given) >= sizeof(path))
		return -ENAMETOOLONG;
	strcpy(path, given);
	parent = nsr_open(run, "/", O_PATH | O_DIRECTORY, 0);
	while (parent >= 0) {
		char after, name[NAME_MAX + 1];
		int last, result;

		start += strspn(path + start, "/");
		if (!path[start])
			return parent;
		end = start + strcspn(path + start, "/");
		if (end - start > NAME_MAX) {
			close(parent);
			return -ENAMETOOLONG;
		}
		memcpy(name, path + start, end - start);
		name[end - start] = '\0';
		last = path[end + strspn(path + end, "/")] == '\0';
		after = path[end];
		path[end] = '\0';
		fd = nsr_open(run, path, O_PATH | O_DIRECTORY, 0);
		if (fd == -ENOENT) {
			result = sys_answer(mkdirat(parent, name, last ? mode : 0755));
			if (!result && last && made)
				*made = 1;
			if (!result)
				fd = nsr_open(run, path, O_PATH | O_DIRECTORY, 0);
			else
				fd = result;
		}
		path[end] = after;
		if (fd == -EEXIST) {
			result = ++links > LINKS_MAX ? -ELOOP : follow(parent, path, start, end);
			close(parent);
			if (result)
				return result;
			start = 0;
			parent = nsr_open(run, "/", O_PATH | O_DIRECTORY, 0);
			continue;
		}
		close(parent);
		parent = fd;
		start = end;
	}
	return parent;
}

/* The directory that holds the path's last component, made if missing; *name is that component. */
int nsr_open_parent(struct nsr_run *run, const char *path, const char **name)
{
	char directory[PATH_MAX];
	const char *slash = strrchr(path, '/');
	size_t length = slash ? (size_t)(slash - path) : 0;

	*name = slash ? slash + 1 : path;
	if (!**name || !strcmp(*name, ".") || !strcmp(*name, ".."))
		return -EINVAL;
	if (length >= sizeof(directory))
		return -ENAMETOOLONG;
	memcpy(directory, path, length);
	directory[length] = '\0';
	return nsr_make_directories(run, directory, 0755, NULL);
}

int nsr_make_file(struct nsr_run *run, const char *path, mode_t mode)
{
	char target[PATH_MAX];
	const char *name;
	int fd, parent, result;

	fd = nsr_open(run, path, O_PATH, 0);
	if (fd != -ENOENT)
		return fd;
	if (strlen(path) >= sizeof(target))
		return -ENAMETOOLONG;
	strcpy(target, path);
	for (int links = 0; links <= LINKS_MAX; links++) {
		parent = nsr_open_parent(run, target, &name);
		if (parent < 0)
			return parent;
		/* O_NOFOLLOW and the loop instead of a followed O_CREAT: the directories of a dangling link's target are made too. */
		fd = sys_answer(openat(parent, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, mode));
		if (fd != -EEXIST) {
			close(parent);
			return fd;
		}
		result = follow(parent, target, (size_t)(name - target), strlen(target));
		close(parent);
		if (result)
			return result;
		fd = nsr_open(run, target, O_PATH, 0);
		if (fd != -ENOENT)
			return fd;
	}
	return -ELOOP;
}

int nsr_op_mkdir(struct nsr_run *run, struct nsr_args *args)
{
	const int64_t *arg = args->head.arg;
	int made, result = 0, fd = nsr_make_directories(run, nsr_next(args, NULL), (mode_t)arg[0] & 07777, &made);

	if (fd < 0)
		return fd;
	if (made && (arg[1] || arg[2]))
		result = sys_answer(fchownat(fd, "", (uid_t)arg[1], (gid_t)arg[2], AT_EMPTY_PATH));
	close(fd);
	return result;
}

int nsr_op_file(struct nsr_run *run, struct nsr_args *args)
{
	struct stat status;
	int result, fd = nsr_make_file(run, nsr_next(args, NULL), (mode_t)args->head.arg[0] & 07777);

	if (fd < 0)
		return fd;
	result = sys_answer(fstat(fd, &status));
	if (!result && S_ISDIR(status.st_mode))
		result = -EISDIR;
	close(fd);
	return result;
}

int nsr_op_symlink(struct nsr_run *run, struct nsr_args *args)
{
	const char *text = nsr_next(args, NULL), *path = nsr_next(args, NULL), *name;
	int result, parent = nsr_open_parent(run, path, &name);

	if (parent < 0)
		return nsr_at(run, path, parent);
	result = sys_answer(symlinkat(text, parent, name));
	close(parent);
	return result == -EEXIST ? 0 : nsr_at(run, path, result);
}

/* A node there already is fine when it is the one that was asked for. */
static int same_node(int parent, const char *name, mode_t mode, dev_t device)
{
	struct stat status;

	if (fstatat(parent, name, &status, AT_SYMLINK_NOFOLLOW))
		return -errno;
	if ((status.st_mode & S_IFMT) != (mode & S_IFMT))
		return -EEXIST;
	if ((S_ISCHR(mode) || S_ISBLK(mode)) && status.st_rdev != device)
		return -EEXIST;
	return 0;
}

/* In a user namespace nobody makes devices: the host's node of the same name serves, if it is that device. */
static int bind_node(struct nsr_run *run, const char *path, mode_t mode, dev_t device)
{
	struct stat status;
	int file, result, tree = sys_open_tree(AT_FDCWD, path, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_SYMLINK_NOFOLLOW);

	if (tree < 0)
		return tree;
	result = sys_answer(fstat(tree, &status));
	if (!result && ((status.st_mode & S_IFMT) != (mode & S_IFMT) || status.st_rdev != device))
		result = -ENODEV;
	if (!result) {
		file = nsr_make_file(run, path, 0666);
		result = file < 0 ? file : nsr_attach(run, tree, path);
		if (file >= 0)
			close(file);
	}
	close(tree);
	return result;
}

int nsr_op_mknod(struct nsr_run *run, struct nsr_args *args)
{
	mode_t mode = (mode_t)args->head.arg[0];
	dev_t device = makedev((unsigned int)args->head.arg[1], (unsigned int)args->head.arg[2]);
	const char *name, *path = nsr_next(args, NULL);
	int result, parent = nsr_open_parent(run, path, &name);

	if (parent < 0)
		return parent;
	result = sys_answer(mknodat(parent, name, mode, device));
	if (result == -EEXIST)
		result = same_node(parent, name, mode, device);
	close(parent);
	if (result == -EPERM && (S_ISCHR(mode) || S_ISBLK(mode)))
		result = bind_node(run, path, mode, device);
	return result;
}
