/* SPDX-License-Identifier: Apache-2.0 */
/*
 * attacks - known ways out of a container, as one static program. `attacks NAME ARGS…` runs one of them and says `ok` or the errno as its
 * last line; `attacks try NAME…` runs several that take no words, each in a child, and says `NAME ok`, `NAME ERRNO` or `NAME killed N`.
 *
 * Each does the real thing as far as that can be undone or harms nobody where it is allowed: the tests run it there as well.
 */
#include "attacks.h"
#include <limits.h>
#include <signal.h>
#include <sys/wait.h>

long number_of(const char *text)
{
	char *end;
	long value;

	errno = 0;
	value = strtol(text, &end, 0);
	if (errno || end == text || *end) {
		fprintf(stderr, "attacks: not a number: %s\n", text);
		exit(2);
	}
	return value;
}

int opens_for_writing(const char *path)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC | O_NONBLOCK);

	if (fd < 0)
		return errno;
	close(fd);
	return 0;
}

int shows(const char *path)
{
	char text[4096];
	ssize_t length;
	int result, fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);

	if (fd < 0)
		return errno;
	length = read(fd, text, sizeof(text));
	result = outcome(length);
	close(fd);
	if (length > 0 && fwrite(text, 1, (size_t)length, stdout) && text[length - 1] != '\n')
		putchar('\n');
	return result;
}

static const struct attack *find(const char *name)
{
	const struct attack *const lists[] = {call_attacks, file_attacks, process_attacks, talk_attacks};

	for (size_t i = 0; i < sizeof(lists) / sizeof(*lists); i++)
		for (const struct attack *one = lists[i]; one->name; one++)
			if (!strcmp(one->name, name))
				return one;
	fprintf(stderr, "attacks: no such attack: %s\n", name);
	exit(2);
}

static const char *said(int number)
{
	return number ? strerrorname_np(number) ? strerrorname_np(number) : "?" : "ok";
}

static int try_each(int argc, char **argv)
{
	for (int i = 2; i < argc; i++) {
		const struct attack *attack = find(argv[i]);
		int status;
		pid_t child;

		fflush(stdout);
		child = fork();
		if (child < 0)
			return 1;
		if (child == 0) {
			char *words[] = {argv[i], NULL};
			int number = attack->run(1, words);

			fflush(stdout);
			_exit(number > 254 ? 254 : number);
		}
		while (waitpid(child, &status, 0) < 0 && errno == EINTR)
			;
		if (WIFSIGNALED(status))
			printf("%s killed %d\n", argv[i], WTERMSIG(status));
		else
			printf("%s %s\n", argv[i], said(WEXITSTATUS(status)));
	}
	return fflush(stdout) ? 1 : 0;
}

int main(int argc, char **argv)
{
	if (argc < 2) {
		fprintf(stderr, "usage: attacks NAME ARGS… | attacks try NAME…\n");
		return 2;
	}
	if (!strcmp(argv[1], "try"))
		return try_each(argc, argv);
	puts(said(find(argv[1])->run(argc - 1, argv + 1)));
	return fflush(stdout) ? 1 : 0;
}
