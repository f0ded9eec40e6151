/* SPDX-License-Identifier: Apache-2.0 */
/*
 * shim.h - the state of nsrun-shim: one static table, no heap.
 *
 * An instance's life (phase), who moves it on, and what is promised by then:
 *
 *   FREE --START--> SETUP       record on disk, then the process made; its report socket is open
 *   SETUP --report socket ends--> RUNNING        execve succeeded; STARTED answered
 *   SETUP --report, process reaped--> ENDED      record START_FAILED on disk, then FAILED answered
 *   RUNNING --root process reaped--> DRAINING    the rest of the container killed
 *   DRAINING --pipes at their end, log blocked, or DRAIN_NS over--> ENDED    record EXITED on disk, then EXITED told
 *   ENDED --FORGET--> FREE, or FORGOTTEN while its last output still waits for room on disk
 *   FORGOTTEN --log written--> FREE
 */
#ifndef NSR_SHIM_H
#define NSR_SHIM_H
#include <sys/resource.h>
#include "log.h"
#include "wire.h"

enum {
	MAX_INSTANCES = 256,
	MAX_EXECS = 128,
	MAX_CLIENTS = 64,
	MAX_ATTACHES = 64,
	MAX_SLOTS = 3 + NSR_FD_MAX,

	/* descriptors that the shim is born with */
	FD_LISTENER = 3,
	FD_DIRECTORY = 4,
	FD_LOCK = 5,
};

#define MILLISECOND INT64_C(1000000)
#define DRAIN_NS (500 * MILLISECOND)	/* somebody outside of a dead container may hold its pipes for ever */
#define NEVER INT64_MAX

enum phase { PHASE_FREE = 0, PHASE_SETUP, PHASE_RUNNING, PHASE_DRAINING, PHASE_ENDED, PHASE_FORGOTTEN };

/* Who gets the answer of a START: a client's place in the table may have been taken by another meanwhile. */
struct asker {
	int client;
	uint32_t generation;
	uint32_t seq;
};

struct instance {
	enum phase phase;
	int failed;			/* SETUP: a FAILED report is in record.report */
	int pidfd, report_fd, cgroup_fd;
	int stdin_fd;			/* our write end, or -1 */
	int64_t drain_until;
	struct asker asker;
	struct log log;
	struct nsr_record record;
};

/* An EXEC or, with `job`, a JOB. That one's place is taken until its process is reaped and nobody holds its output any more: closing that
 * earlier would kill, with SIGPIPE, what it left running. */
struct exec {
	int used, failed, started, job;
	int pid, pidfd, report_fd;	/* pid 0: reaped */
	int status_fd, terminal_fd;	/* EXEC */
	int file_fd, output_fd;		/* JOB: its file; our end of the pipe that it writes to */
	int target;			/* index of its instance */
	struct nsr_report report;
	struct nsr_record record;	/* JOB */
};

struct client {
	int fd;				/* 0 = free */
	int subscribed, armed_out;
	int listing;			/* next instance that a LIST has to send, or -1 */
	uint32_t list_seq;
	uint32_t generation;
};

/* What an epoll event is about: kind << 32 | index. An event may be stale, its place taken by another: nothing is concluded from it but that
 * it is worth trying, and nothing here reads or writes in blocking mode. */
enum source { SOURCE_SIGNAL, SOURCE_LISTENER, SOURCE_CLIENT, SOURCE_REPORT, SOURCE_EXEC_REPORT, SOURCE_STREAM, SOURCE_ATTACH, SOURCE_JOB };

struct shim {
	int epoll, signal_fd, records_fd, jobs_fd, own_pid_ns;
	int sandbox;			/* 0 not run, 1 ready, -1 failed */
	int quit;
	int ending;			/* SIGTERM came */
	int64_t started_ns;
	struct rlimit files;		/* RLIMIT_NOFILE as it was given to us: containers get that back */
	int n_instances, n_execs, n_clients;	/* one more than the highest place ever used */
	struct instance instances[MAX_INSTANCES];
	struct exec execs[MAX_EXECS];
	struct client clients[MAX_CLIENTS];
};

extern struct shim shim;

/* shim.c */
int64_t shim_now(void);				/* CLOCK_MONOTONIC */
int64_t shim_clock(void);			/* CLOCK_REALTIME */
int shim_watch(int fd, uint32_t events, enum source source, int index);
int shim_rewatch(int fd, uint32_t events, enum source source, int index);
void shim_unwatch(int fd);
void shim_close(int *fd);			/* and sets it to -1 */

/* shim_table.c: instances and their records on disk */
int table_new(const struct nsr_start *start);	/* index; -EEXIST: the id, the attempt, or a living instance of that name; -ENOBUFS */
int table_find(const char *id);			/* index or -ENOENT */
int table_find_running(const char *id);	/* its place; -ENOENT, or -ESRCH when it does not run */
void table_free(int index);
int table_running(void);			/* instances and execs with a process or with output to come */
int table_idle(void);				/* nothing runs, and no byte of a log waits */
int table_known(void);
int record_write(struct instance *instance, int create);
int record_remove(const struct instance *instance);
void record_fill(struct nsr_record *record, const struct nsr_start *start, const char *id);	/* a zeroed one */

/* shim_wire.c: clients, packets */
void client_accept(void);
void client_event(int index, uint32_t events);
int client_send(struct asker to, struct nsr_message *message, const int *fds, int n_fds);
void client_fail(struct asker to, int error);
void client_broadcast(struct nsr_message *message);
void client_tell_log(int index, int error);	/* LOG_BLOCKED, or LOG_RESUMED when 0 */

/* shim_request.c */
void request(struct asker from, const struct nsr_message *message, int *fds, int n_fds);

/* shim_spawn.c: processes; what START and EXEC share */
struct making {
	const char *program;
	size_t program_size;
	int slots[MAX_SLOTS];
	int n_slots;
	uint64_t clone_flags, join_flags;
	int cgroup_fd;			/* or -1 */
	int target_pidfd;		/* whose PID namespace is joined and, of an EXEC, others; or -1 */
	int pid, pidfd, report_fd;	/* result */
};
int program_load(int fd, struct making *making);
void program_unload(struct making *making);
int process_make(struct making *making);	/* 0 or -errno */
int report_receive(int fd, struct nsr_report *report, int *terminal);	/* 1 FAILED, 2 TERMINAL, 0 end, -EAGAIN */
void process_reap(void);

/* shim_start.c */
void instance_start(struct asker from, const struct nsr_message *message, int *fds, int n_fds);
void instance_report(int index);
void instance_reaped(int index, int status);
void instance_drained(int index);		/* to be called when a stream has ended or its log is blocked */
int instance_kill(int index);
int64_t instance_timers(int64_t now);		/* does what is due; when to come again */

/* shim_exec.c; a place is an index of shim.execs */
void exec_start(struct asker from, const struct nsr_message *message, int *fds, int n_fds);
int exec_place(const struct nsr_start *start);	/* a free one; -ENOENT, -ESRCH: the target; -ENOBUFS */
int exec_make(int place, const struct nsr_message *message, struct making *making, const int *fds, int n_fds);	/* 0 or -errno: nothing runs */
void exec_free(int place);
void exec_report(int index);
void exec_reaped(int index, int status);
void exec_kill_of(int target);

/* shim_job.c */
void job_start(struct asker from, const struct nsr_message *message, int *fds, int n_fds);
void job_output(int index);
void job_told(struct exec *exec, uint32_t kind, int wait_status);	/* writes down what an EXEC's status socket would be told */

/* attach.c: copies of the output */
int attach_add(int instance, int fd, unsigned int streams);	/* its number, or -errno; takes fd over when it succeeds */
void attach_remove(int index);
void attach_copy(int instance, int stream, const char *data, size_t n);
void attach_end(int instance);
void attach_event(int index, uint32_t events);
int64_t attach_timers(int64_t now);

#endif
