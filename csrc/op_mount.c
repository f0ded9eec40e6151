/* SPDX-License-Identifier: Apache-2.0 */
/*
 * op_mount.c - new file systems, binds, attributes, masks and the pivot.
 *
 * Each mount is made detached, given its attributes, and only then attached: nobody ever sees it writable for a moment.
 */
#include <limits.h>
#include <linux/magic.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/sysmacros.h>
#include "op.h"

enum { DETACHED_CLONE = OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC, BENEATH_TRIES = 1000 };

/* move_mount says EINVAL for a directory on a file and the other way round, as for much else: look again, to say which. */
static int explain(int tree, int target)
{
	struct stat from, to;

	if (fstat(tree, &from) || fstat(target, &to) || S_ISDIR(from.st_mode) == S_ISDIR(to.st_mode))
		return -EINVAL;
	return S_ISDIR(to.st_mode) ? -EISDIR : -ENOTDIR;
}

/*
 * What lies on a file of /proc decides what a process there is told, and what becomes of what is written there: its limits, its
 * security label. An image's link must not take us there; a path that begins so was asked for by name.
 */
static int led_into_proc(int target, const char *path)
{
	struct statfs status;

	if (!strncmp(path, "/proc", 5) && (path[5] == '/' || !path[5]))
		return 0;
	if (fstatfs(target, &status))
		return -errno;
	return status.f_type == PROC_SUPER_MAGIC ? -ELOOP : 0;
}

static int attach_to(struct nsr_run *run, int tree, int fd, const char *target)
{
	int result;

	if (fd < 0)
		return nsr_at(run, target, fd);
	result = led_into_proc(fd, target);
	if (!result)
		result = sys_move_mount(tree, "", fd, "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH);
	if (result == -EINVAL)
		result = explain(tree, fd);
	close(fd);
	return nsr_at(run, target, result);
}

int nsr_attach(struct nsr_run *run, int tree, const char *target)
{
	return attach_to(run, tree, nsr_open(run, target, O_PATH, 0), target);
}

int nsr_attach_no_links(struct nsr_run *run, int tree, const char *target)
{
	return attach_to(run, tree, nsr_open_no_links(run, target, O_PATH), target);
}

int nsr_set_attributes(int mount, uint64_t set, int recursive)
{
	/* The access-time attributes are one field, not bits: to set one the field has to be cleared in the same call. */
	uint64_t clear = set & MOUNT_ATTR__ATIME ? MOUNT_ATTR__ATIME : 0;

	if (!set)
		return 0;
	return sys_mount_setattr(mount, "", AT_EMPTY_PATH | (recursive ? AT_RECURSIVE : 0), set, clear, 0, -1);
}

int nsr_op_private(struct nsr_run *run, struct nsr_args *args)
{
	uint64_t propagation = args->head.arg[0] ? (uint64_t)args->head.arg[0] & ~(uint64_t)MS_REC : MS_SLAVE;
	int result = sys_mount_setattr(AT_FDCWD, "/", AT_RECURSIVE, 0, 0, propagation, -1);

	if (!result)
		run->propagation_cut = propagation == MS_SLAVE || propagation == MS_PRIVATE;
	return nsr_at(run, "/", result);
}

int nsr_op_root(struct nsr_run *run, struct nsr_args *args)
{
	const char *path = nsr_next(args, NULL);
	int tree, result, fd;

	if (args->head.arg[0]) {
		tree = sys_open_tree(AT_FDCWD, path, DETACHED_CLONE | AT_RECURSIVE);
		if (tree < 0)
			return tree;
		result = sys_move_mount(tree, "", AT_FDCWD, path, MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_SYMLINKS);
		close(tree);
		if (result)
			return result;
	}
	fd = sys_openat2(AT_FDCWD, path, O_PATH | O_DIRECTORY | O_CLOEXEC, 0, 0);
	if (fd < 0)
		return fd;
	if (run->root >= 0)
		close(run->root);
	run->root = fd;
	return 0;
}

/* One option of fsconfig: "k=v", or a flag when there is no '='. */
static int configure(int fs, const char *option)
{
	char key[NAME_MAX + 1];
	const char *equal = strchr(option, '=');

	if (!equal)
		return sys_fsconfig(fs, FSCONFIG_SET_FLAG, option, NULL, 0);
	if ((size_t)(equal - option) >= sizeof(key))
		return -EINVAL;
	memcpy(key, option, (size_t)(equal - option));
	key[equal - option] = '\0';
	return sys_fsconfig(fs, FSCONFIG_SET_STRING, key, equal + 1, 0);
}

int nsr_op_mount(struct nsr_run *run, struct nsr_args *args)
{
	const char *type = nsr_next(args, NULL), *target = nsr_next(args, NULL), *option;
	int has_source = 0, fs, mount, result = 0;

	fs = sys_fsopen(type, FSOPEN_CLOEXEC);
	if (fs == -ENODEV && args->head.arg[1])
		return 0;
	if (fs < 0)
		return nsr_at(run, type, fs);
	while (!result && (option = nsr_next(args, NULL))) {
		has_source |= !strncmp(option, "source=", 7);
		result = nsr_at(run, option, configure(fs, option));
	}
	if (!result && !has_source)
		result = sys_fsconfig(fs, FSCONFIG_SET_STRING, "source", type, 0);
	if (!result)
		result = nsr_at(run, target, sys_fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0));
	if (!result) {
		mount = sys_fsmount(fs, FSMOUNT_CLOEXEC, (unsigned int)args->head.arg[0]);
		/* Of /proc and the like every process asks by name: a link could be made to lead somewhere else later. */
		result = mount < 0 ? nsr_at(run, target, mount) : nsr_attach_no_links(run, mount, target);
		if (mount >= 0)
			close(mount);
	}
	close(fs);
	return result;
}

/*
 * What a slot of BIND holds: a tree that the sender detached (open_tree with OPEN_TREE_CLONE, fsmount), which is attached as it
 * is; or a descriptor below a mount of this very mount namespace, which is cloned.
 */
static int tree_of_slot(int fd, unsigned int recursive)
{
	int tree = sys_open_tree(fd, "", DETACHED_CLONE | AT_EMPTY_PATH | recursive);

	return tree == -EINVAL ? sys_answer(fcntl(fd, F_DUPFD_CLOEXEC, 3)) : tree;
}

static int make_target(struct nsr_run *run, int tree, const char *target)
{
	struct stat status;
	int fd;

	if (fstat(tree, &status))
		return -errno;
	if (S_ISDIR(status.st_mode))
		fd = nsr_make_directories(run, target, 0755, NULL);
	else
		fd = nsr_make_file(run, target, 0644);
	if (fd >= 0)
		close(fd);
	return fd < 0 ? fd : 0;
}

/*
 * A part of a directory that others write to, perhaps this very moment: whatever links they put in its way, what is found lies
 * below it, and what was found is cloned, not its name.
 */
static int tree_below(int directory, const char *path, unsigned int recursive)
{
	int fd, tree;

	for (int i = 0;; i++) {
		fd = sys_openat2(directory, path, O_PATH | O_CLOEXEC, 0, RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS);
		/* EAGAIN: something was renamed or mounted while a ".." was being walked. */
		if (fd != -EAGAIN || i == BENEATH_TRIES)
			break;
	}
	if (fd < 0)
		return fd;
	tree = sys_open_tree(fd, "", DETACHED_CLONE | AT_EMPTY_PATH | recursive);
	close(fd);
	return tree;
}

static int tree_of(const char *source, int slot, const char *below, unsigned int recursive)
{
	int directory, tree;

	if (!below)
		return slot >= 0 ? tree_of_slot(slot, recursive) : sys_open_tree(AT_FDCWD, source, DETACHED_CLONE | recursive);
	if (slot >= 0)
		return tree_below(slot, below, recursive);
	directory = sys_openat2(AT_FDCWD, source, O_PATH | O_DIRECTORY | O_CLOEXEC, 0, 0);
	if (directory < 0)
		return directory;
	tree = tree_below(directory, below, recursive);
	close(directory);
	return tree;
}

/* Not the target, as of everything else that fails: it is the file system of the source that cannot. */
static int cannot_be_mapped(struct nsr_run *run, const char *source, int error)
{
	static const char suffix[] = " (id-mapped)";
	char subject[PATH_MAX + sizeof(suffix)];
	size_t length = strlen(source);

	if (length > PATH_MAX)
		return nsr_at(run, source, error);
	memcpy(subject, source, length);
	memcpy(subject + length, suffix, sizeof(suffix));
	return nsr_at(run, subject, error);
}

/* Of the very thing that is going to be mounted: its name may be another one's since somebody looked. */
static int wrong_type(int tree, unsigned int how)
{
	static const struct {
		unsigned int flag;
		mode_t type;
		int error;
	} types[] = {
		{NSR_BIND_DIRECTORY, S_IFDIR, ENOTDIR}, {NSR_BIND_FILE, S_IFREG, EISDIR},	 {NSR_BIND_SOCKET, S_IFSOCK, ENOTSOCK},
		{NSR_BIND_CHARACTERS, S_IFCHR, ENODEV}, {NSR_BIND_BLOCKS, S_IFBLK, ENOTBLK},
	};
	struct stat status;

	for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
		if (!(how & types[i].flag))
			continue;
		if (fstat(tree, &status))
			return -errno;
		if ((status.st_mode & S_IFMT) != types[i].type)
			return types[i].type == S_IFREG && !S_ISDIR(status.st_mode) ? -EINVAL : -types[i].error;
	}
	return 0;
}

int nsr_op_bind(struct nsr_run *run, struct nsr_args *args)
{
	const char *source = nsr_next(args, NULL), *target = nsr_next(args, NULL), *below = nsr_next(args, NULL);
	const int64_t *arg = args->head.arg;
	unsigned int how = (unsigned int)arg[1], recursive = how & NSR_BIND_RECURSIVE ? AT_RECURSIVE : 0;
	uint64_t attributes = (uint64_t)arg[2];
	int result = 0, tree, slot = nsr_slot(run, arg[0]);

	tree = tree_of(source, slot, below, recursive);
	if (tree == -ENOENT && how & NSR_BIND_OPTIONAL)
		return 0;
	if (tree < 0)
		return nsr_at(run, source, tree);
	result = wrong_type(tree, how);
	if (result) {
		close(tree);
		return nsr_at(run, source, result);
	}
	if (how & (NSR_BIND_ID_MAP | NSR_BIND_MAY_ID_MAP)) {
		result = nsr_id_map(run, tree);
		if (result == -EINVAL && how & NSR_BIND_MAY_ID_MAP)
			result = 0;
		if (result) {
			close(tree);
			return cannot_be_mapped(run, source, result);
		}
	}
	if (how & (NSR_BIND_READONLY | NSR_BIND_RREADONLY))
		attributes |= MOUNT_ATTR_RDONLY;
	result = nsr_at(run, target, nsr_set_attributes(tree, attributes, how & NSR_BIND_RREADONLY));
	/* Unlike being read-only, this is for the machine's sake: a /dev further down must not give what the one on top does not. */
	if (!result && recursive && attributes & MOUNT_ATTR_NODEV)
		result = nsr_at(run, target, nsr_set_attributes(tree, MOUNT_ATTR_NODEV, 1));
	if (!result && how & NSR_BIND_MAKE_TARGET)
		result = nsr_at(run, target, make_target(run, tree, target));
	if (!result)
		result = nsr_attach(run, tree, target);
	/* Last: a mount that is nowhere yet has no peers to be given. */
	if (!result && arg[3])
		result = sys_mount_setattr(tree, "", AT_EMPTY_PATH | (arg[3] & MS_REC ? AT_RECURSIVE : 0), 0, 0,
					   (uint64_t)arg[3] & ~(uint64_t)MS_REC, -1);
	close(tree);
	return nsr_at(run, result ? target : "", result);
}

static int change(struct nsr_run *run, const char *target, uint64_t set, uint64_t clear, uint64_t propagation, int recursive)
{
	int result, fd = nsr_open(run, target, O_PATH, 0);

	if (fd < 0)
		return fd;
	if (set & MOUNT_ATTR__ATIME)
		clear |= MOUNT_ATTR__ATIME;
	result = sys_mount_setattr(fd, "", AT_EMPTY_PATH | (recursive ? AT_RECURSIVE : 0), set, clear, propagation, -1);
	close(fd);
	return result;
}

int nsr_op_attr(struct nsr_run *run, struct nsr_args *args)
{
	const int64_t *arg = args->head.arg;

	return change(run, nsr_next(args, NULL), (uint64_t)arg[0], (uint64_t)arg[1], 0, arg[2] != 0);
}

static int mask_directory(struct nsr_run *run, const char *path)
{
	int fs, result, tree;

	/* One empty file system serves all masks: the first is mounted, the others are clones of it. */
	if (run->empty_directory >= 0) {
		tree = sys_open_tree(run->empty_directory, "", DETACHED_CLONE | AT_EMPTY_PATH);
		result = tree < 0 ? tree : nsr_attach(run, tree, path);
		if (tree >= 0)
			close(tree);
		return result;
	}
	fs = sys_fsopen("tmpfs", FSOPEN_CLOEXEC);
	if (fs < 0)
		return fs;
	result = sys_fsconfig(fs, FSCONFIG_SET_STRING, "mode", "0555", 0);
	if (!result)
		result = sys_fsconfig(fs, FSCONFIG_SET_STRING, "nr_inodes", "1", 0);
	if (!result)
		result = sys_fsconfig(fs, FSCONFIG_SET_FLAG, "ro", NULL, 0);
	if (!result)
		result = sys_fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0);
	if (!result) {
		tree = sys_fsmount(fs, FSMOUNT_CLOEXEC,
				   MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC);
		result = tree < 0 ? tree : nsr_attach(run, tree, path);
		if (!result)
			run->empty_directory = tree;
		else if (tree >= 0)
			close(tree);
	}
	close(fs);
	return result;
}

static int mask_file(struct nsr_run *run, const char *path)
{
	struct stat status;
	int result, tree = sys_open_tree(AT_FDCWD, "/dev/null", DETACHED_CLONE | AT_SYMLINK_NOFOLLOW);

	if (tree < 0)
		return nsr_at(run, "/dev/null", tree);
	/* An image that brings a /dev/null of its own must not decide what covers /proc/kcore. */
	result = sys_answer(fstat(tree, &status));
	if (!result && (!S_ISCHR(status.st_mode) || status.st_rdev != makedev(1, 3)))
		result = nsr_at(run, "/dev/null", -ENODEV);
	/* Read-only: else chmod of what is masked would be chmod of the machine's /dev/null. */
	if (!result)
		result = nsr_at(run, path,
				nsr_set_attributes(tree, MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC, 0));
	if (!result)
		result = nsr_attach(run, tree, path);
	close(tree);
	return result;
}

int nsr_op_mask(struct nsr_run *run, struct nsr_args *args)
{
	const char *path = nsr_next(args, NULL);
	struct stat status;
	int result, fd = nsr_open(run, path, O_PATH, 0);

	if (fd == -ENOENT || fd == -ENOTDIR)
		return 0;
	if (fd < 0)
		return fd;
	result = sys_answer(fstat(fd, &status));
	close(fd);
	if (result)
		return result;
	return S_ISDIR(status.st_mode) ? mask_directory(run, path) : mask_file(run, path);
}

int nsr_op_readonly(struct nsr_run *run, struct nsr_args *args)
{
	const char *path = nsr_next(args, NULL);
	int result, tree, fd = nsr_open(run, path, O_PATH, 0);

	if (fd == -ENOENT || fd == -ENOTDIR)
		return 0;
	if (fd < 0)
		return fd;
	tree = sys_open_tree(fd, "", DETACHED_CLONE | AT_RECURSIVE | AT_EMPTY_PATH);
	close(fd);
	if (tree < 0)
		return tree;
	result = nsr_set_attributes(tree, MOUNT_ATTR_RDONLY, 1);
	if (!result)
		result = nsr_attach(run, tree, path);
	close(tree);
	return result;
}

/*
 * Makes the root of the mount namespace our root. They differ where nsrun was started in a chroot: there pivot_root would exchange the
 * chroot's mount, and whoever joins the namespace later, as every exec does, would be put into the machine's root below it.
 */
static int leave_chroot(void)
{
	int result, self = sys_pidfd_open((pid_t)syscall(SYS_getpid), 0);

	if (self < 0)
		return self;
	result = sys_setns(self, CLONE_NEWNS);
	close(self);
	return result;
}

int nsr_op_pivot_root(struct nsr_run *run, struct nsr_args *args)
{
	int fd, old, result = nsr_root(run);

	(void)args;
	if (result < 0)
		return result;
	/* Without this the unmount below would travel to every peer of the old root: the machine's own / among them. */
	if (!run->propagation_cut) {
		result = sys_mount_setattr(AT_FDCWD, "/", AT_RECURSIVE, 0, 0, MS_SLAVE, -1);
		if (result)
			return nsr_at(run, "/", result);
		run->propagation_cut = 1;
	}
	result = leave_chroot();
	if (result)
		return nsr_at(run, "/", result);
	old = sys_openat2(AT_FDCWD, "/", O_PATH | O_DIRECTORY | O_CLOEXEC, 0, 0);
	if (old < 0)
		return nsr_at(run, "/", old);
	result = sys_answer(fchdir(run->root));
	/* The old root ends up on top of the new one at ".", from where it is taken off: no directory has to be made for it. */
	if (!result)
		result = sys_pivot_root(".", ".");
	/* What lies outside of a chroot was not reached by the first cut. */
	if (!result)
		result = sys_mount_setattr(old, "", AT_EMPTY_PATH | AT_RECURSIVE, 0, 0, MS_SLAVE, -1);
	close(old);
	if (!result)
		result = sys_umount2(".", MNT_DETACH);
	if (!result)
		result = sys_answer(chdir("/"));
	if (result)
		return nsr_at(run, "/", result);
	fd = sys_openat2(AT_FDCWD, "/", O_PATH | O_DIRECTORY | O_CLOEXEC, 0, 0);
	if (fd < 0)
		return fd;
	close(run->root);
	run->root = fd;
	return 0;
}
