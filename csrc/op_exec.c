/* SPDX-License-Identifier: Apache-2.0 */
/*
 * op_exec.c - the environment, the search in its PATH, and execve.
 *
 * The search is execvp's: EACCES is remembered while going on, names that are not there are passed over, anything else ends it. Unlike
 * execvp a file without a magic number stays an error (ENOEXEC): no shell is ever tried. A directory is EISDIR rather than EACCES.
 */
#include <limits.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include "op.h"

int nsr_op_env(struct nsr_run *run, struct nsr_args *args)
{
	run->environment = *args;
	return 0;
}

/* The strings as a vector that ends in NULL. Pages of its own: there is no heap here, and the stack is too small for ARG_MAX. */
static char **vector(struct nsr_args strings)
{
	size_t size = ((size_t)strings.left + 1) * sizeof(char *);
	char **vector = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	const char *string;
	size_t i = 0;

	if (vector == MAP_FAILED)
		return NULL;
	/* execve takes char *const[] for C's history; nothing writes through it. */
	while ((string = nsr_next(&strings, NULL)))
		memcpy(&vector[i++], &string, sizeof(string));
	return vector;
}

static void drop_vector(char **vector, unsigned int n)
{
	if (vector)
		munmap(vector, ((size_t)n + 1) * sizeof(char *));
}

/* One file. Answers why it could not be, and in *there whether it is there at all (ENOENT: its interpreter is missing). */
static int try(const char *file, char *const *argv, char *const *env, int *there)
{
	struct stat status;
	int error;

	execve(file, argv, env);
	error = -errno;
	*there = !fstatat(AT_FDCWD, file, &status, 0);
	if (error == -EACCES && *there && S_ISDIR(status.st_mode))
		error = -EISDIR;
	return error;
}

static int passed_over(int error)
{
	return error == -ENOENT || error == -ENOTDIR || error == -ESTALE || error == -ENODEV || error == -ETIMEDOUT ||
	       error == -EACCES || error == -EISDIR || error == -ENAMETOOLONG;
}

/* Better reasons have higher ranks: a file that is there and must not be run beats one without its interpreter beats nothing there. */
static int rank(int error, int there)
{
	if (!there)
		return error == -EACCES ? 1 : 0;
	return error == -EACCES ? 4 : error == -EISDIR ? 2 : 3;
}

static int search(struct nsr_run *run, const char *file, const char *path, char *const *argv, char *const *env)
{
	char candidate[PATH_MAX];
	size_t length = strlen(file);
	int best = -ENOENT, best_rank = 0, error, there;

	for (;; path++) {
		size_t n = strcspn(path, ":");

		if (n + 1 + length >= sizeof(candidate)) {
			error = -ENAMETOOLONG;
			there = 0;
		} else {
			memcpy(candidate, path, n);
			if (n)
				candidate[n] = '/';
			memcpy(candidate + n + (n ? 1 : 0), file, length + 1);
			error = try(candidate, argv, env, &there);
		}
		if (!passed_over(error))
			return nsr_at(run, candidate, error);
		if (rank(error, there) > best_rank) {
			best_rank = rank(error, there);
			best = error;
			nsr_at(run, candidate, error);
		}
		path += n;
		if (!*path)
			return best_rank ? best : nsr_at(run, file, best);
	}
}

/* The value of PATH, or NULL. Of two the first counts, as in getenv. */
static const char *search_path(struct nsr_args environment)
{
	const char *string;

	while ((string = nsr_next(&environment, NULL)))
		if (!strncmp(string, "PATH=", 5))
			return string + 5;
	return NULL;
}

int nsr_op_exec(struct nsr_run *run, struct nsr_args *args)
{
	const char *file = nsr_next(args, NULL), *path = search_path(run->environment);
	char **argv = vector(*args), **env = vector(run->environment);
	int there, result;

	umask(run->umask);
	if (!argv || !env)
		result = -ENOMEM;
	else if (!*file)
		result = -ENOENT;
	else if (strchr(file, '/'))
		result = nsr_at(run, file, try(file, argv, env, &there));
	else
		result = path ? search(run, file, path, argv, env) : nsr_at(run, file, -ENOENT);
	drop_vector(argv, args->left);
	drop_vector(env, run->environment.left);
	umask(0);
	return result;
}
