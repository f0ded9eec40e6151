/* SPDX-License-Identifier: Apache-2.0 */
/*
 * shim_table.c - the instances, and their records in the pod's directory.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>
#include "shim.h"

int table_find(const char *id)
{
	for (int i = 0; i < shim.n_instances; i++) {
		enum phase phase = shim.instances[i].phase;

		if (phase != PHASE_FREE && phase != PHASE_FORGOTTEN && memcmp(shim.instances[i].record.id, id, NSR_ID_LEN) == 0)
			return i;
	}
	return -ENOENT;
}

int table_find_running(const char *id)
{
	int index = table_find(id);

	return index >= 0 && shim.instances[index].phase != PHASE_RUNNING ? -ESRCH : index;
}

/* A killed server's request may still lie in its socket when the next server has made its own: one of them must be refused. */
static int is_second(const struct instance *instance, const struct nsr_start *start)
{
	enum phase phase = instance->phase;

	if (phase == PHASE_FREE || phase == PHASE_FORGOTTEN || strcmp(instance->record.name, start->name) != 0)
		return 0;
	return phase != PHASE_ENDED || instance->record.attempt == start->attempt;
}

int table_new(const struct nsr_start *start)
{
	if (table_find(start->id) >= 0)
		return -EEXIST;
	for (int i = 0; i < shim.n_instances; i++)
		if (is_second(&shim.instances[i], start))
			return -EEXIST;
	for (int i = 0; i < MAX_INSTANCES; i++) {
		struct instance *instance = &shim.instances[i];

		if (instance->phase != PHASE_FREE)
			continue;
		memset(instance, 0, sizeof(*instance));
		instance->pidfd = instance->report_fd = instance->cgroup_fd = instance->stdin_fd = -1;
		log_init(&instance->log, -1);
		if (i >= shim.n_instances)
			shim.n_instances = i + 1;
		return i;
	}
	return -ENOBUFS;
}

void table_free(int index)
{
	struct instance *instance = &shim.instances[index];

	attach_end(index);
	log_close(&instance->log);
	shim_close(&instance->pidfd);
	shim_close(&instance->report_fd);
	shim_close(&instance->cgroup_fd);
	shim_close(&instance->stdin_fd);
	instance->phase = PHASE_FREE;
	while (shim.n_instances > 0 && shim.instances[shim.n_instances - 1].phase == PHASE_FREE)
		shim.n_instances--;
}

int table_running(void)
{
	int running = 0;

	for (int i = 0; i < shim.n_instances; i++) {
		enum phase phase = shim.instances[i].phase;

		running += phase == PHASE_SETUP || phase == PHASE_RUNNING || phase == PHASE_DRAINING;
	}
	for (int i = 0; i < shim.n_execs; i++)
		running += shim.execs[i].used && shim.execs[i].pid > 0;
	return running;
}

int table_idle(void)
{
	if (table_running() > 0)
		return 0;
	for (int i = 0; i < shim.n_instances; i++)
		if (shim.instances[i].phase != PHASE_FREE && !log_done(&shim.instances[i].log))
			return 0;
	return 1;
}

int table_known(void)
{
	int known = 0;

	for (int i = 0; i < shim.n_instances; i++)
		known += shim.instances[i].phase != PHASE_FREE && shim.instances[i].phase != PHASE_FORGOTTEN;
	return known;
}

void record_fill(struct nsr_record *record, const struct nsr_start *start, const char *id)
{
	record->magic = NSR_MAGIC;
	record->version = NSR_WIRE_VERSION;
	record->state = NSR_STATE_STARTING;
	memcpy(record->id, id, sizeof(record->id));
	memcpy(record->name, start->name, sizeof(record->name));
	record->attempt = start->attempt;
	record->flags = start->flags;
}

/*
 * The first write makes the file and thereby takes its room on disk; later ones overwrite it, in one write that a kill cannot cut
 * in two.
 */
int record_write(struct instance *instance, int create)
{
	int flags = O_WRONLY | O_CLOEXEC | O_NOFOLLOW | (create ? O_CREAT | O_EXCL : 0);
	int fd = openat(shim.records_fd, instance->record.id, flags, 0600);
	int error = 0;
	ssize_t n;

	if (fd < 0)
		return -errno;
	n = pwrite(fd, &instance->record, sizeof(instance->record), 0);
	if (n != sizeof(instance->record))
		error = n < 0 ? -errno : -ENOSPC;
	close(fd);
	if (error < 0 && create)
		unlinkat(shim.records_fd, instance->record.id, 0);
	return error;
}

int record_remove(const struct instance *instance)
{
	return unlinkat(shim.records_fd, instance->record.id, 0) < 0 && errno != ENOENT ? -errno : 0;
}
