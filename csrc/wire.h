/* SPDX-License-Identifier: Apache-2.0 */
/*
 * wire.h - every number that two programs of nsrun must agree on.
 *
 * Two languages read this file: the C compiler (shim, op interpreter, cffi module) and cffi's cdef(), which is fed
 * this text minus its preprocessor lines. So: no function, no macro that Python needs, only enums and plain structs
 * with fixed-width members. Nothing here is ever stored longer than a boot; a server and a shim of another
 * NSR_WIRE_VERSION refuse each other by that number.
 */
#ifndef NSR_WIRE_H
#define NSR_WIRE_H
#include <stdint.h>

enum {
	NSR_WIRE_VERSION = 2,
	NSR_MAGIC = 0x6e737231,		/* "nsr1", first word of a program */
	NSR_ID_LEN = 64,		/* a container id: 64 lower-case hex digits */
	NSR_NAME_LEN = 63,		/* a container name: a DNS label */
	NSR_SUBJECT_LEN = 199,		/* bytes of a path or name kept in a report, cut from the left */
	NSR_FD_MAX = 16,		/* descriptors that one message may carry */
	NSR_OP_ARGS = 6,
	NSR_PROGRAM_MAX = 8388608,	/* bytes of one encoded program: argv and env of ARG_MAX and some */
	NSR_JOB_OUTPUT = 10240,		/* bytes of a job's output that are kept */
	NSR_NO_SLOT = -1
};

/*
 * A program: nsr_program, then n_ops records. A record is one nsr_op, then n_str strings, each a uint32_t length,
 * that many bytes and a NUL, the whole padded with zeros to a multiple of 8. `size` counts the record with its
 * strings. Descriptors are named by slot: an index into the list that came with the message.
 */
struct nsr_program {
	uint32_t magic;
	uint16_t version;
	uint16_t n_ops;
	uint32_t size;			/* of the whole program, this header included */
	uint32_t reserved;
};

struct nsr_op {
	uint16_t code;			/* enum nsr_op_code */
	uint16_t n_str;
	uint32_t size;
	int64_t arg[6];			/* NSR_OP_ARGS */
};

/* What an op does; "root" is the container's future root, opened by NSR_OP_ROOT: every target path given after it is
 * resolved with openat2(RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS) in it, until NSR_OP_PIVOT_ROOT makes it /. */
enum nsr_op_code {
	NSR_OP_INVALID = 0,
	/* namespaces */
	NSR_OP_UNSHARE = 1,		/* arg0 CLONE_NEW* flags */
	NSR_OP_SETNS = 2,		/* arg0 slot of a namespace or pid descriptor, arg1 CLONE_NEW* flags */
	NSR_OP_HOSTNAME = 3,		/* str0 */
	NSR_OP_LOOPBACK_UP = 5,
	NSR_OP_SYSCTL = 6,		/* str0 name with '/' separators below /proc/sys, str1 value; before PIVOT_ROOT; arg0 the machine's uid of the root that the pod's namespaces belong to: it is tried as that one where it is refused */
	NSR_OP_JOIN_CGROUP = 7,		/* arg0 slot of a version 1 cgroup's "tasks", opened for writing: this process, still of one thread, moves there */
	NSR_OP_USER_NAMESPACE = 8,	/* a user namespace whose ids from 0 on are the machine's from arg0 on, arg1 of them, and the namespaces arg2 (CLONE_NEW*, the network's among them) that belong to it; these are entered, the user namespace itself is not */
	NSR_OP_ENTER_USER = 9,		/* enters the user namespace that the present network namespace belongs to, with all its capabilities and as nobody in it; then unshares arg0, CLONE_NEW* flags */
	/* the root file system */
	NSR_OP_PRIVATE = 10,		/* make every mount of a fresh mount namespace MS_SLAVE|MS_REC; arg0 MS_* propagation to use */
	NSR_OP_OVERLAY = 11,		/* str0 target (host path), str1 upper ("" = read-only), str2 work, str3.. lowers, topmost first; arg0 MOUNT_ATTR_*, arg1 enum nsr_overlay */
	NSR_OP_ROOT = 12,		/* str0 host path of a directory or mount; arg0 1: bind it on itself first */
	NSR_OP_MOUNT = 13,		/* a new file system: str0 fstype, str1 target in root, str2.. options "k=v" or "flag"; arg0 MOUNT_ATTR_*; arg1 1: missing fs type is not an error */
	NSR_OP_BIND = 14,		/* str0 source (host path; "" with a slot), str1 target in root; arg0 source slot or -1; arg1 enum nsr_bind; arg2 MOUNT_ATTR_* set recursively when NSR_BIND_RREADONLY, else on the top mount (but MOUNT_ATTR_NODEV recursively when NSR_BIND_RECURSIVE); arg3 MS_* propagation or 0 */
	NSR_OP_ATTR = 16,		/* mount_setattr: str0 target in root, arg0 set, arg1 clear, arg2 1 = recursive */
	NSR_OP_MKDIR = 17,		/* str0 path in root, arg0 mode, arg1 uid, arg2 gid; parents made 0755; existing directory is fine */
	NSR_OP_FILE = 18,		/* str0 path in root, arg0 mode; made empty if missing (a mount point); parents made */
	NSR_OP_SYMLINK = 19,		/* str0 text, str1 path in root; existing is fine */
	NSR_OP_MKNOD = 20,		/* str0 path in root, arg0 mode with S_IF*, arg1 major, arg2 minor; EPERM falls back to binding the host's node of the same path */
	NSR_OP_MASK = 21,		/* str0 path in root: /dev/null over a file, an empty read-only tmpfs over a directory; missing is fine */
	NSR_OP_READONLY = 22,		/* str0 path in root: bound on itself read-only, recursively; missing is fine */
	NSR_OP_PIVOT_ROOT = 23,
	NSR_OP_BIND_BELOW = 24,		/* as BIND, with str2: a path below the source, which is a directory then; nothing on the way may lead out of it (RESOLVE_BENEATH) */
	NSR_OP_ID_MAP = 25,		/* str0 host path of a directory: bound on itself, with its ids those of the user namespace that the network namespace belongs to */
	/* the process */
	NSR_OP_CHDIR = 30,		/* str0; arg0 1: make it (0755, parents too) when missing */
	NSR_OP_UMASK = 31,		/* arg0 */
	NSR_OP_RLIMIT = 32,		/* arg0 RLIMIT_*, arg1 soft, arg2 hard (-1 = RLIM_INFINITY) */
	NSR_OP_OOM_SCORE_ADJ = 33,	/* arg0; before PIVOT_ROOT hides the host's /proc; arg1 1: being refused (EACCES, no CAP_SYS_RESOURCE to go lower) is not an error */
	NSR_OP_SETSID = 34,
	NSR_OP_STDIO = 35,		/* arg0,1,2 slots dup'ed to 0,1,2; -1 = /dev/null */
	NSR_OP_TERMINAL = 36,		/* new pty from /dev/ptmx of this mount namespace: master sent up the report socket, slave = 0,1,2 and controlling terminal; arg0 rows, arg1 columns, arg2 uid that owns the slave, arg3 1: slave bound on /dev/console as well */
	NSR_OP_CLOSE_REST = 37,		/* close-on-exec on every descriptor from 3 up */
	NSR_OP_USER = 38,		/* arg0 uid, arg1 gid; str0: supplementary groups as an array of uint32_t */
	NSR_OP_BOUNDING = 39,		/* arg0 set to keep in the bounding set */
	NSR_OP_CAPS = 40,		/* arg0 effective, arg1 permitted, arg2 inheritable, arg3 ambient */
	NSR_OP_NO_NEW_PRIVS = 41,
	NSR_OP_SECCOMP = 42,		/* arg0 slot of a descriptor: an array of struct sock_filter, then perhaps 4 bytes: flags of seccomp(2) */
	NSR_OP_PDEATHSIG = 43,		/* arg0 signal; then looks whether the parent is already gone */
	NSR_OP_SIGNALS_DEFAULT = 44,	/* every disposition to SIG_DFL, empty mask */
	NSR_OP_ENV = 45,		/* str*: KEY=VALUE, the whole environment */
	NSR_OP_EXEC = 46,		/* str0 file (searched in PATH of NSR_OP_ENV when it has no '/'), str1.. argv */
	NSR_OP_STDIO_OWNER = 49,	/* arg0 uid: fchown(uid, -1) of those of 0, 1, 2 that are a pipe, socket or terminal (never /dev/null or a file):
					 * else a container that is not root cannot open /dev/stdout; EINVAL, EPERM and EROFS are fine; arg1 1: those that are a pipe without a name alone */
	NSR_OP_APPARMOR = 51,		/* str0: AppArmor's profile from execve on; the kernel has it already */
	NSR_OP_FS_USER = 50		/* arg0 uid, arg1 gid that own what is made from here on (setfsuid), until USER; capabilities stay */
};

enum nsr_overlay {
	NSR_OVERLAY_VOLATILE = 1	/* the upper layer need not outlive a crash: unmounting does not flush its whole file system */
};

enum nsr_bind {
	NSR_BIND_RECURSIVE = 1,
	NSR_BIND_READONLY = 2,
	NSR_BIND_RREADONLY = 4,
	NSR_BIND_OPTIONAL = 8,		/* a missing source is not an error */
	NSR_BIND_MAKE_TARGET = 16,	/* make a missing target: a directory or an empty file, as the source is */
	NSR_BIND_ID_MAP = 32,		/* its ids (of the mount on top) are those of the user namespace that the network namespace belongs to */
	NSR_BIND_MAY_ID_MAP = 64,	/* the same where the file system can; else nobody owns what is in there */
	NSR_BIND_DIRECTORY = 128,	/* what the source is, or it is not bound */
	NSR_BIND_FILE = 256,
	NSR_BIND_SOCKET = 512,
	NSR_BIND_CHARACTERS = 1024,	/* a device */
	NSR_BIND_BLOCKS = 2048
};

/* One failing step, sent up the report socket by whoever runs a program. No report and end of file: execve succeeded. */
struct nsr_report {
	uint32_t kind;			/* enum nsr_report_kind */
	uint32_t step;			/* index of the op in its program */
	uint16_t code;			/* its enum nsr_op_code */
	uint16_t reserved;
	int32_t error;			/* errno */
	char subject[200];		/* NSR_SUBJECT_LEN + NUL: the path or name it failed on */
};

enum nsr_report_kind {
	NSR_REPORT_FAILED = 1,
	NSR_REPORT_TERMINAL = 2		/* carries one descriptor: the pty's master */
};

/*
 * Slots of a program that START or EXEC runs: 0, 1 and 2 are always its standard streams (-1, thus /dev/null in NSR_OP_STDIO,
 * where there is none; all three are -1 with NSR_START_TERMINAL), and the descriptors of the message that are "slots" below
 * follow from 3 on. START and JOB: the shim makes the pipes. EXEC without NSR_START_TERMINAL: the first three of the slots are stdin, stdout, stderr.
 * SANDBOX: the slots of its program are numbered from 0.
 */

/*
 * The shim's socket: SOCK_SEQPACKET, one struct nsr_message per packet, both ways, descriptors by SCM_RIGHTS.
 * A request has a seq of the client's choosing; its answer repeats it. Events have seq 0.
 */
enum nsr_message_type {
	NSR_MSG_INVALID = 0,
	/* requests */
	NSR_MSG_HELLO = 1,		/* -> HELLO: u.hello */
	NSR_MSG_SUBSCRIBE = 2,		/* -> OK; from then on events come on this connection */
	NSR_MSG_SANDBOX = 3,		/* fd0 program, then its slots; run by the shim in itself, once -> OK or FAILED */
	NSR_MSG_NETWORK = 4,		/* -> OK with fd0 the network namespace, fd1 a NETLINK_ROUTE SOCK_DGRAM socket opened in it */
	/* A cgroup that cgroup.kill was ever written to is used up: Linux 6.18 kills who is born into it (CLONE_INTO_CGROUP) at once. */
	NSR_MSG_START = 5,		/* u.start; fd0 program, fd1 log file, fd2 cgroup directory or absent (flag), then the program's slots -> STARTED or FAILED */
	NSR_MSG_EXEC = 6,		/* u.start with target; fd0 program, fd1 status socket, fd2 cgroup directory or absent (flag: the target's own is taken), then stdin, stdout, stderr (absent with TERMINAL), then slots -> OK (accepted) or FAILED; everything else goes to the status socket */
	NSR_MSG_SIGNAL = 7,		/* u.signal: to the root process; with `stop` it is noted in its record; ESRCH when it is gone -> OK or FAILED */
	NSR_MSG_KILL = 8,		/* u.signal.id: SIGKILL to all of the container (cgroup.kill, and the root process) -> OK or FAILED */
	NSR_MSG_REOPEN = 9,		/* u.signal.id; fd0 the new log file -> OK; ESRCH when it has ended and all is written */
	NSR_MSG_ATTACH = 10,		/* u.attach; fd0 socket or pipe that output is copied to, fd1 another for stderr alone (as many as has_output says) -> OK with fd0 = write end of stdin or the pty's master when asked for */
	NSR_MSG_CLOSE_STDIN = 11,	/* u.signal.id -> OK */
	NSR_MSG_RESIZE = 12,		/* u.signal.id, signal = rows << 16 | columns -> OK */
	NSR_MSG_LIST = 13,		/* -> one RECORD for each instance known, then OK */
	NSR_MSG_FORGET = 14,		/* u.signal.id: an exited instance's record goes -> OK; EBUSY while it runs */
	NSR_MSG_QUIT = 15,		/* -> OK and the shim ends; EBUSY while anything runs. What a blocked log still waits to write is lost then */
	/* As EXEC, for a process that must not depend on who asked for it, nor run twice: known by its target and name, once for each target,
	 * it reads /dev/null, and its end and the beginning of its output are kept in the file jobs/TARGET.NAME of the pod's directory. */
	NSR_MSG_JOB = 16,		/* u.start with target; fd0 program, fd1 cgroup directory or absent (flag: the target's own is taken), then slots -> OK (accepted; the file is there) or FAILED: EEXIST when it was asked for before */
	/* answers */
	NSR_MSG_OK = 32,
	NSR_MSG_FAILED = 33,		/* u.report */
	NSR_MSG_STARTED = 34,		/* u.record */
	NSR_MSG_RECORD = 35,		/* u.record */
	/* events */
	NSR_MSG_EXITED = 48,		/* u.record, already on disk */
	NSR_MSG_LOG_BLOCKED = 49,	/* u.signal.id, signal = errno: the log cannot be written; the container's output waits */
	NSR_MSG_LOG_RESUMED = 50,	/* u.signal.id */
	NSR_MSG_JOB_ENDED = 51,		/* u.record of a job, already on disk */
	NSR_MSG_START_ENDED = 52	/* u.record, already on disk: it runs, or START_FAILED, and the client that asked for it is gone */
};

enum nsr_start_flag {
	NSR_START_STDIN = 1,		/* keep a stdin pipe open; else /dev/null */
	NSR_START_STDIN_ONCE = 2,	/* close it when the first attach ends */
	NSR_START_TERMINAL = 4,		/* the program has NSR_OP_TERMINAL; its master is pumped as stdout */
	NSR_START_NO_CGROUP = 8		/* fd2 is absent */
};

enum nsr_state {
	NSR_STATE_NONE = 0,
	NSR_STATE_STARTING = 1,		/* record written, process not yet exec'ed */
	NSR_STATE_RUNNING = 2,
	NSR_STATE_EXITED = 3,
	NSR_STATE_START_FAILED = 4	/* never exec'ed: error, code, step, subject say why */
};

/*
 * One instance of a container, or one job in it (then `id` is the target's, and `log_bytes` of output follow the record in its file;
 * fewer than there were, and `log_error`, when the disk is full). Kept in the shim's table, sent as it is, and written as it is to the file
 * containers/<id> of the pod's directory: first whole before the process is made (so that a full disk is an error of the start),
 * then overwritten in place.
 */
struct nsr_record {
	uint32_t magic;
	uint16_t version;
	uint16_t state;			/* enum nsr_state */
	char id[65];
	char name[64];
	char reserved[7];
	uint32_t attempt;		/* how many instances of this name came before */
	int32_t pid;			/* as the shim sees it */
	int32_t wait_status;		/* of wait(2), when exited */
	int32_t stop_signal;		/* the last that MSG_SIGNAL sent with `stop`; SIGKILL when there was none and MSG_KILL came; or 0 */
	int64_t started_ns;		/* CLOCK_REALTIME; 0 = never */
	int64_t finished_ns;
	int64_t stop_ns;		/* when stop_signal was sent */
	uint64_t log_bytes;		/* written to its log files */
	int32_t log_error;		/* errno while the log is blocked, else 0 */
	uint32_t flags;			/* enum nsr_start_flag */
	struct nsr_report report;	/* when state is START_FAILED */
};

struct nsr_start {
	char id[65];
	char name[64];
	char target[65];		/* EXEC, JOB: the id of the running container whose namespaces are joined; START: the one whose PID namespace is, or empty */
	char reserved[6];
	uint32_t attempt;
	uint32_t flags;			/* enum nsr_start_flag */
	uint64_t clone_flags;		/* CLONE_NEW* given to clone3 */
	uint64_t join_flags;		/* EXEC, JOB: CLONE_NEW* of the target that the child enters before its program; CLONE_NEWPID is entered too */
};

/* On the status socket of an EXEC (SOCK_SEQPACKET or SOCK_STREAM, the client's end is read until end of file). */
struct nsr_exec_status {
	uint32_t kind;			/* enum nsr_exec_kind; STARTED carries the pty's master when NSR_START_TERMINAL */
	int32_t pid;
	int32_t wait_status;
	uint32_t reserved;
	struct nsr_report report;
};

enum nsr_exec_kind {
	NSR_EXEC_STARTED = 1,
	NSR_EXEC_FAILED = 2,
	NSR_EXEC_EXITED = 3
};

struct nsr_signal {
	char id[65];
	char reserved[7];
	int32_t signal;
	uint32_t stop;			/* SIGNAL: 1 = this is the signal that is to end the container */
};

struct nsr_attach {
	char id[65];
	char reserved[7];
	uint32_t want_stdin;
	uint32_t has_output;		/* number of output descriptors: 0, 1 (both streams to fd0) or 2 (stdout to fd0, stderr to fd1) */
};

struct nsr_hello {
	uint32_t wire_version;
	int32_t pid;
	uint32_t running;
	uint32_t known;
	uint32_t sandbox_ready;
	uint32_t reserved;
	int64_t started_ns;
};

struct nsr_message {
	uint32_t type;			/* enum nsr_message_type */
	uint32_t seq;
	uint32_t n_fds;
	int32_t error;			/* FAILED: errno when there is no report */
	union {
		struct nsr_hello hello;
		struct nsr_start start;
		struct nsr_signal signal;
		struct nsr_attach attach;
		struct nsr_record record;
		struct nsr_report report;
	} u;
};

#endif
