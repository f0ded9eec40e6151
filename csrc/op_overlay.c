/* SPDX-License-Identifier: Apache-2.0 */
/*
 * op_overlay.c - the overlay root.
 *
 * Linux 6.7 takes layers one by one ("lowerdir+"); before that they are one string with escapes, at most a page long. A path
 * that does not go through either way (over 255 bytes, a backslash, too many for the page) is named by descriptor instead.
 */
#include <limits.h>
#include <string.h>
#include "op.h"

enum { FSCONFIG_STRING_MAX = 255, PAGE = 4096 };

struct layer_name {
	char text[32];
	int fd;
};

/* /proc/self/fd/N for a directory. The descriptor is open until the mount is made. */
static int by_descriptor(struct layer_name *name, const char *path)
{
	char digits[12];
	size_t n = sizeof(digits), at = strlen("/proc/self/fd/");
	int fd = sys_openat2(AT_FDCWD, path, O_PATH | O_DIRECTORY | O_CLOEXEC, 0, 0);

	name->fd = fd;
	if (fd < 0)
		return fd;
	do {
		digits[--n] = (char)('0' + fd % 10);
		fd /= 10;
	} while (fd);
	memcpy(name->text, "/proc/self/fd/", at);
	memcpy(name->text + at, digits + n, sizeof(digits) - n);
	name->text[at + sizeof(digits) - n] = '\0';
	return 0;
}

/* A layer is looked up while fsconfig runs, so its descriptor need not outlive the call. */
static int set_layer(int fs, const char *key, const char *path)
{
	struct layer_name name;
	int result;

	if (strlen(path) <= FSCONFIG_STRING_MAX && !strchr(path, '\\'))
		return sys_fsconfig(fs, FSCONFIG_SET_STRING, key, path, 0);
	result = by_descriptor(&name, path);
	if (!result) {
		result = sys_fsconfig(fs, FSCONFIG_SET_STRING, key, name.text, 0);
		close(name.fd);
	}
	return result;
}

/* The one string, and the descriptors that its names stand for until mount(2) has looked them up. */
struct page {
	char text[PAGE];
	size_t length;
	int fds[PAGE / sizeof("/proc/self/fd/")];
	size_t n_fds;
};

static int append(struct page *page, const char *text, size_t length)
{
	if (page->length + length >= sizeof(page->text))
		return -E2BIG;
	memcpy(page->text + page->length, text, length);
	page->length += length;
	page->text[page->length] = '\0';
	return 0;
}

static int append_layer(struct page *page, const char *before, const char *path, int by_fd)
{
	struct layer_name name;
	int result = append(page, before, strlen(before));

	if (by_fd && !result) {
		if (page->n_fds == sizeof(page->fds) / sizeof(*page->fds))
			return -E2BIG;
		result = by_descriptor(&name, path);
		if (result)
			return result;
		page->fds[page->n_fds++] = name.fd;
		return append(page, name.text, strlen(name.text));
	}
	for (; *path && !result; path++) {
		if (strchr(",:\\", *path))
			result = append(page, "\\", 1);
		if (!result)
			result = append(page, path, 1);
	}
	return result;
}

/* mount(2) does not tell which of many directories it did not find. */
static const char *not_found(const char *target, const char *upper, const char *work, struct nsr_args lowers)
{
	const char *lower;

	while ((lower = nsr_next(&lowers, NULL)))
		if (access(lower, F_OK))
			return lower;
	if (*upper && access(upper, F_OK))
		return upper;
	return *upper && access(work, F_OK) ? work : target;
}

static int mount_one_string(struct nsr_run *run, const char *target, const char *upper, const char *work,
			    struct nsr_args lowers, int64_t options, int by_fd)
{
	struct page page = {.length = 0};
	struct nsr_args all = lowers;
	const char *lower, *before = "lowerdir=";
	int result = 0;

	for (; !result && (lower = nsr_next(&lowers, NULL)); before = ":")
		result = nsr_at(run, lower, append_layer(&page, before, lower, by_fd));
	if (!result && *upper) {
		result = nsr_at(run, upper, append_layer(&page, ",upperdir=", upper, by_fd));
		if (!result)
			result = nsr_at(run, work, append_layer(&page, ",workdir=", work, by_fd));
		if (!result && options & NSR_OVERLAY_VOLATILE)
			result = append(&page, ",volatile", strlen(",volatile"));
	}
	if (!result) {
		result = sys_mount("overlay", target, "overlay", 0, page.text);
		if (result == -ENOENT)
			target = not_found(target, upper, work, all);
		result = nsr_at(run, target, result);
	}
	while (page.n_fds)
		close(page.fds[--page.n_fds]);
	return result;
}

static int put(struct nsr_run *run, int tree, const char *target)
{
	return nsr_at(run, target,
		      sys_move_mount(tree, "", AT_FDCWD, target, MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_SYMLINKS));
}

/* Overlay wants two layers; one alone that nobody writes to is a bind. */
static int bind_only_layer(struct nsr_run *run, const char *target, const char *lower, uint64_t attributes)
{
	int result, tree = sys_open_tree(AT_FDCWD, lower, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);

	if (tree < 0)
		return nsr_at(run, lower, tree);
	result = nsr_at(run, target, nsr_set_attributes(tree, attributes | MOUNT_ATTR_RDONLY, 0));
	if (!result)
		result = put(run, tree, target);
	close(tree);
	return result;
}

static int attributes_of_target(struct nsr_run *run, const char *target, uint64_t attributes)
{
	uint64_t clear = attributes & MOUNT_ATTR__ATIME ? MOUNT_ATTR__ATIME : 0;

	if (!attributes)
		return 0;
	return nsr_at(run, target, sys_mount_setattr(AT_FDCWD, target, 0, attributes, clear, 0, -1));
}

/* The fsconfig way. */
static int configure(struct nsr_run *run, int fs, const char *upper, const char *work, struct nsr_args lowers,
		     int64_t options)
{
	const char *lower;
	int result = 0;

	while (!result && (lower = nsr_next(&lowers, NULL)))
		result = nsr_at(run, lower, set_layer(fs, "lowerdir+", lower));
	if (!result && *upper) {
		result = nsr_at(run, upper, set_layer(fs, "upperdir", upper));
		if (!result)
			result = nsr_at(run, work, set_layer(fs, "workdir", work));
		if (!result && options & NSR_OVERLAY_VOLATILE)
			result = sys_fsconfig(fs, FSCONFIG_SET_FLAG, "volatile", NULL, 0);
	}
	if (!result)
		result = sys_fsconfig(fs, FSCONFIG_SET_STRING, "source", "overlay", 0);
	return result;
}

int nsr_op_overlay(struct nsr_run *run, struct nsr_args *args)
{
	const char *target = nsr_next(args, NULL), *upper = nsr_next(args, NULL), *work = nsr_next(args, NULL);
	uint64_t attributes = (uint64_t)args->head.arg[0];
	int64_t options = args->head.arg[1];
	struct nsr_args first = *args;
	int fs, mount, result;

	if (!*upper && args->left == 1)
		return bind_only_layer(run, target, nsr_next(&first, NULL), attributes);
	fs = sys_fsopen("overlay", FSOPEN_CLOEXEC);
	if (fs < 0)
		return nsr_at(run, target, fs);
	/*
	 * Linux 6.5 and 6.6 refuse the first layer's key. Those before collect whatever they are given for overlay's old parser, which
	 * knows the key as little, and complains in the kernel's log: they are told by taking a key that is none.
	 */
	result = sys_fsconfig(fs, FSCONFIG_SET_FLAG, "none", NULL, 0) ? 0 : -EINVAL;
	if (!result)
		result = configure(run, fs, upper, work, *args, options);
	if (!result)
		result = nsr_at(run, target, sys_fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0));
	if (!result) {
		mount = sys_fsmount(fs, FSMOUNT_CLOEXEC, (unsigned int)attributes);
		result = mount < 0 ? nsr_at(run, target, mount) : put(run, mount, target);
		if (mount >= 0)
			close(mount);
	}
	close(fs);
	/* EINVAL for another reason comes again. */
	if (result != -EINVAL)
		return result;
	result = mount_one_string(run, target, upper, work, *args, options, 0);
	if (result == -E2BIG)
		result = mount_one_string(run, target, upper, work, *args, options, 1);
	return result ? result : attributes_of_target(run, target, attributes);
}
