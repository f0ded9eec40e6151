/* SPDX-License-Identifier: Apache-2.0 */
/* attacks_calls.c - system calls that reach the machine: mounts, namespaces, the kernel's own doors. */
#include "attacks.h"
#include <linux/audit.h>
#include <linux/capability.h>
#include <linux/keyctl.h>
#include <linux/reboot.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/ip_icmp.h>
#include <linux/if_alg.h>
#include <linux/if_packet.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <sys/fanotify.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/personality.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/time.h>
#include <sys/timex.h>
#include <sys/wait.h>
#include <time.h>

#define ATTACK(name) static int name(int argc, char **argv)
#define UNUSED ((void)argc, (void)argv)

/* --- mounts -------------------------------------------------------------------------------------------------------------- */

ATTACK(mount_tmpfs)
{
	int result = outcome(mount("none", "/tmp", "tmpfs", 0, NULL));

	UNUSED;
	if (!result)
		umount2("/tmp", MNT_DETACH);
	return result;
}

/* What hides /proc/timer_list. */
ATTACK(umount_mask)
{
	UNUSED;
	return outcome(umount2("/proc/timer_list", MNT_DETACH));
}

ATTACK(remount_proc_sys)
{
	UNUSED;
	return outcome(mount(NULL, "/proc/sys", NULL, MS_REMOUNT | MS_BIND, NULL));
}

/* A mask covered by another mount, so that the path below can be had again. */
ATTACK(bind_proc)
{
	int result = outcome(mount("/proc", "/tmp", NULL, MS_BIND, NULL));

	UNUSED;
	if (!result)
		umount2("/tmp", MNT_DETACH);
	return result;
}

/* A /proc without masks of the same processes. */
ATTACK(mount_proc)
{
	int result = outcome(mount("proc", "/tmp", "proc", 0, NULL));

	UNUSED;
	if (!result)
		umount2("/tmp", MNT_DETACH);
	return result;
}

ATTACK(fsopen_legacy)
{
	UNUSED;
	return outcome(syscall(SYS_fsopen, "tmpfs", 1));
}

ATTACK(open_tree_clone)
{
	UNUSED;
	return outcome(syscall(SYS_open_tree, AT_FDCWD, "/proc", 1 | O_CLOEXEC));
}

/* mount_setattr(2) that would take read-only away from /proc/sys. */
ATTACK(mount_attr)
{
	struct {
		uint64_t set, clear, propagation, userns;
	} attributes = {0, 1, 0, 0};

	UNUSED;
	return outcome(syscall(SYS_mount_setattr, AT_FDCWD, "/proc/sys", 0, &attributes, sizeof(attributes)));
}

ATTACK(move_mount_mask)
{
	UNUSED;
	close(open("/tmp/moved", O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
	return outcome(syscall(SYS_move_mount, AT_FDCWD, "/proc/interrupts", AT_FDCWD, "/tmp/moved", 0));
}

ATTACK(pivot)
{
	UNUSED;
	return outcome(syscall(SYS_pivot_root, "/nonexistent", "/nonexistent"));
}

/*
 * The release agent of a version 1 hierarchy is a program that the kernel runs as root of the machine (CVE-2022-0492). It is in the
 * hierarchy's root, and opened only.
 */
static int release_agent_below(const char *hierarchy)
{
	int result;

	mkdir("/tmp/hierarchy", 0700);
	result = outcome(mount("cgroup", "/tmp/hierarchy", "cgroup", 0, hierarchy));
	if (!result) {
		puts("mounted");
		result = opens_for_writing("/tmp/hierarchy/release_agent");
		umount2("/tmp/hierarchy", 0);
	}
	rmdir("/tmp/hierarchy");
	return result;
}

ATTACK(release_agent)
{
	UNUSED;
	return release_agent_below("memory");
}

/* The same in a user namespace of its own, where the attacker is root of a kind. */
ATTACK(release_agent_userns)
{
	UNUSED;
	if (unshare(CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWCGROUP))
		return errno;
	puts("unshared");
	return release_agent_below("memory");
}

ATTACK(mount_cgroup2)
{
	int result;

	UNUSED;
	mkdir("/tmp/unified", 0700);
	result = outcome(mount("cgroup2", "/tmp/unified", "cgroup2", 0, NULL));
	if (!result)
		umount2("/tmp/unified", 0);
	rmdir("/tmp/unified");
	return result;
}

/* --- namespaces ------------------------------------------------------------------------------------------------------------ */

static int unsharing(int flags)
{
	return outcome(unshare(flags));
}

ATTACK(unshare_mount) { UNUSED; return unsharing(CLONE_NEWNS); }
ATTACK(unshare_user) { UNUSED; return unsharing(CLONE_NEWUSER); }
ATTACK(unshare_user_net) { UNUSED; return unsharing(CLONE_NEWUSER | CLONE_NEWNET); }
ATTACK(unshare_cgroup) { UNUSED; return unsharing(CLONE_NEWCGROUP); }

ATTACK(clone_user)
{
	long child = syscall(SYS_clone, CLONE_NEWUSER | SIGCHLD, 0, 0, 0, 0);

	UNUSED;
	if (child == 0)
		_exit(0);
	if (child > 0)
		waitpid((pid_t)child, NULL, 0);
	return outcome(child);
}

/* Its flags are in memory, where no filter sees them. */
ATTACK(clone3_user)
{
	struct {
		uint64_t flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls;
	} args = {.flags = CLONE_NEWUSER, .exit_signal = SIGCHLD};
	long child = syscall(SYS_clone3, &args, sizeof(args));

	UNUSED;
	if (child == 0)
		_exit(0);
	if (child > 0)
		waitpid((pid_t)child, NULL, 0);
	return outcome(child);
}

ATTACK(setns_mount)
{
	int fd = open("/proc/1/ns/mnt", O_RDONLY | O_CLOEXEC);

	UNUSED;
	return fd < 0 ? errno : outcome(setns(fd, CLONE_NEWNS));
}

ATTACK(setns_pidfd)
{
	int fd = (int)syscall(SYS_pidfd_open, 1, 0);

	UNUSED;
	return fd < 0 ? errno : outcome(setns(fd, CLONE_NEWNS | CLONE_NEWUTS));
}

ATTACK(set_hostname)
{
	char name[65];

	UNUSED;
	return gethostname(name, sizeof(name)) ? errno : outcome(sethostname(name, strlen(name)));
}

/* --- the same calls by the doors of other ABIs ----------------------------------------------------------------------------- */

#ifdef __x86_64__
/* 32-bit: its arguments are cut to 32 bits, so what they point to lies low. */
static long low_call(int number, long first, long second)
{
	long result;

	__asm__ volatile("int $0x80"
	                 : "=a"(result)
	                 : "a"(number), "b"(first), "c"(second), "d"(0L)
	                 : "memory", "r8", "r9", "r10", "r11");
	return (int)result;
}

ATTACK(unshare_i386)
{
	long result = low_call(310, CLONE_NEWUSER, 0);

	UNUSED;
	return result < 0 ? (int)-result : 0;
}

ATTACK(bpf_i386)
{
	long result = low_call(357, 0, 0);

	UNUSED;
	return result < 0 ? (int)-result : 0;
}

ATTACK(unshare_x32)
{
	UNUSED;
	return outcome(syscall(0x40000000 + SYS_unshare, CLONE_NEWUSER));
}
#else
ATTACK(unshare_i386) { UNUSED; return EPERM; }
ATTACK(bpf_i386) { UNUSED; return EPERM; }
ATTACK(unshare_x32) { UNUSED; return EPERM; }
#endif

/* --- the kernel's own doors ---------------------------------------------------------------------------------------------------- */

ATTACK(keyring) { UNUSED; return outcome(syscall(SYS_keyctl, KEYCTL_GET_KEYRING_ID, KEY_SPEC_SESSION_KEYRING, 0)); }
ATTACK(add_key) { UNUSED; return outcome(syscall(SYS_add_key, "user", "escape", "x", 1, KEY_SPEC_PROCESS_KEYRING)); }
/* A key of the machine's own: in the session keyring that whoever started nsrun has. */
ATTACK(request_key)
{
	if (argc != 2)
		return EINVAL;
	return outcome(syscall(SYS_keyctl, KEYCTL_SEARCH, KEY_SPEC_SESSION_KEYRING, "user", argv[1], 0));
}
ATTACK(bpf)
{
	/* BPF_MAP_CREATE of an array with one element. */
	uint32_t attributes[32] = {2, 4, 4, 1};

	UNUSED;
	return outcome(syscall(SYS_bpf, 0, attributes, sizeof(attributes)));
}
ATTACK(perf_event)
{
	/* PERF_TYPE_SOFTWARE, PERF_COUNT_SW_CPU_CLOCK, of all processes on the first processor. */
	uint32_t attributes[28] = {1, sizeof(attributes)};

	UNUSED;
	return outcome(syscall(SYS_perf_event_open, attributes, -1, 0, -1, 0));
}
ATTACK(io_uring)
{
	unsigned char parameters[120] = {0};

	UNUSED;
	return outcome(syscall(SYS_io_uring_setup, 1, parameters));
}
ATTACK(userfault) { UNUSED; return outcome(syscall(SYS_userfaultfd, O_CLOEXEC)); }
ATTACK(init_module) { UNUSED; return outcome(syscall(SYS_init_module, NULL, 0, "")); }
ATTACK(finit_module) { UNUSED; return outcome(syscall(SYS_finit_module, -1, "", 0)); }
ATTACK(delete_module) { UNUSED; return outcome(syscall(SYS_delete_module, "no_such_module", O_NONBLOCK)); }
ATTACK(kexec) { UNUSED; return outcome(syscall(SYS_kexec_load, 0, 0, NULL, ~0UL)); }
#ifdef SYS_kexec_file_load
ATTACK(kexec_file) { UNUSED; return outcome(syscall(SYS_kexec_file_load, -1, -1, 0, NULL, ~0UL)); }
#else
ATTACK(kexec_file) { UNUSED; return ENOSYS; }
#endif
/* Ctrl-Alt-Del: in a PID namespace of its own the kernel takes no such order (EINVAL), and asks for the capability first. */
ATTACK(reboot_machine)
{
	UNUSED;
	return outcome(syscall(SYS_reboot, LINUX_REBOOT_MAGIC1, LINUX_REBOOT_MAGIC2, LINUX_REBOOT_CMD_CAD_OFF, NULL));
}
/* A time zone that is none: the kernel asks for the capability first. */
ATTACK(settime)
{
	struct timezone zone = {.tz_minuteswest = 100000};

	UNUSED;
	return outcome(syscall(SYS_settimeofday, NULL, &zone));
}
/* The clock set to what it says. */
ATTACK(clock_set)
{
	struct timespec now;

	UNUSED;
	clock_gettime(CLOCK_REALTIME, &now);
	return outcome(syscall(SYS_clock_settime, CLOCK_REALTIME, &now));
}
ATTACK(adjust_clock)
{
	struct timex change = {.modes = 0};

	UNUSED;
	if (adjtimex(&change) < 0)
		return errno;
	change.modes = ADJ_STATUS;
	return outcome(adjtimex(&change));
}
ATTACK(swap_on) { UNUSED; return outcome(syscall(SYS_swapon, "/nonexistent", 0)); }
ATTACK(account) { UNUSED; return outcome(syscall(SYS_acct, "/nonexistent")); }
ATTACK(kernel_log) { UNUSED; return outcome(syscall(SYS_syslog, 10, NULL, 0)); }
ATTACK(io_ports)
{
	UNUSED;
#ifdef SYS_ioperm
	return outcome(syscall(SYS_ioperm, 0x80, 1, 1));
#else
	return ENOSYS;
#endif
}
ATTACK(no_randomization) { UNUSED; return outcome(personality(ADDR_NO_RANDOMIZE)); }
ATTACK(hang_up) { UNUSED; return outcome(syscall(SYS_vhangup)); }
ATTACK(watch_machine) { UNUSED; return outcome(syscall(SYS_fanotify_init, FAN_CLASS_CONTENT, O_RDONLY)); }
ATTACK(oom_score)
{
	int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);

	if (argc != 2)
		return EINVAL;
	return fd < 0 ? errno : outcome(write(fd, argv[1], strlen(argv[1])));
}
/* Adds so much to the hard limit of open files. */
ATTACK(change_limit)
{
	struct rlimit limit;

	if (argc != 2)
		return EINVAL;
	if (getrlimit(RLIMIT_NOFILE, &limit))
		return errno;
	limit.rlim_max += (rlim_t)number_of(argv[1]);
	if (limit.rlim_cur > limit.rlim_max)
		limit.rlim_cur = limit.rlim_max;
	return outcome(setrlimit(RLIMIT_NOFILE, &limit));
}
ATTACK(real_time)
{
	struct sched_param parameters = {.sched_priority = 1};

	UNUSED;
	return outcome(sched_setscheduler(0, SCHED_FIFO, &parameters));
}
ATTACK(nicer) { UNUSED; return outcome(setpriority(PRIO_PROCESS, 0, -5)); }

/* --- networks ------------------------------------------------------------------------------------------------------------------ */

ATTACK(raw_socket) { UNUSED; return outcome(socket(AF_INET, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_ICMP)); }
ATTACK(packet_socket) { UNUSED; return outcome(socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0)); }
ATTACK(vsock) { UNUSED; return outcome(socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC, 0)); }
ATTACK(alg_socket) { UNUSED; return outcome(socket(AF_ALG, SOCK_SEQPACKET | SOCK_CLOEXEC, 0)); }

/* The answer to a netlink request: it makes a link (a dummy that is not there for long), or an nftables batch is begun. */
static int asked(int protocol, void *request, size_t size)
{
	struct {
		struct nlmsghdr head;
		struct nlmsgerr error;
		char rest[256];
	} answer;
	int result, fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, protocol);

	if (fd < 0)
		return errno;
	if (send(fd, request, size, 0) < 0 || recv(fd, &answer, sizeof(answer), 0) < 0)
		result = errno;
	else
		result = answer.head.nlmsg_type == NLMSG_ERROR ? -answer.error.error : 0;
	close(fd);
	return result;
}

/* Sets a link down and up again. */
ATTACK(change_link)
{
	struct {
		struct nlmsghdr head;
		struct ifinfomsg link;
	} request = {
	    .head = {.nlmsg_len = sizeof(request), .nlmsg_type = RTM_NEWLINK, .nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK},
	    .link = {.ifi_family = AF_UNSPEC, .ifi_index = 1, .ifi_change = IFF_UP, .ifi_flags = IFF_UP},
	};

	UNUSED;
	return asked(NETLINK_ROUTE, &request, sizeof(request));
}

const struct attack call_attacks[] = {
    {"account", account},
    {"add_key", add_key},
    {"adjust_clock", adjust_clock},
    {"alg_socket", alg_socket},
    {"bind_proc", bind_proc},
    {"bpf", bpf},
    {"bpf_i386", bpf_i386},
    {"change_link", change_link},
    {"change_limit", change_limit},
    {"clock_set", clock_set},
    {"clone3_user", clone3_user},
    {"clone_user", clone_user},
    {"delete_module", delete_module},
    {"finit_module", finit_module},
    {"fsopen", fsopen_legacy},
    {"hang_up", hang_up},
    {"init_module", init_module},
    {"io_ports", io_ports},
    {"io_uring", io_uring},
    {"kernel_log", kernel_log},
    {"kexec", kexec},
    {"kexec_file", kexec_file},
    {"keyring", keyring},
    {"mount", mount_tmpfs},
    {"mount_attr", mount_attr},
    {"mount_cgroup2", mount_cgroup2},
    {"mount_proc", mount_proc},
    {"move_mount", move_mount_mask},
    {"nicer", nicer},
    {"no_randomization", no_randomization},
    {"oom_score", oom_score},
    {"open_tree", open_tree_clone},
    {"packet_socket", packet_socket},
    {"perf_event", perf_event},
    {"pivot_root", pivot},
    {"raw_socket", raw_socket},
    {"real_time", real_time},
    {"reboot", reboot_machine},
    {"release_agent", release_agent},
    {"release_agent_userns", release_agent_userns},
    {"remount_proc_sys", remount_proc_sys},
    {"request_key", request_key},
    {"set_hostname", set_hostname},
    {"setns_mount", setns_mount},
    {"setns_pidfd", setns_pidfd},
    {"settime", settime},
    {"swap_on", swap_on},
    {"umount_mask", umount_mask},
    {"unshare_cgroup", unshare_cgroup},
    {"unshare_i386", unshare_i386},
    {"unshare_mount", unshare_mount},
    {"unshare_user", unshare_user},
    {"unshare_user_net", unshare_user_net},
    {"unshare_x32", unshare_x32},
    {"userfault", userfault},
    {"vsock", vsock},
    {"watch_machine", watch_machine},
    {NULL, NULL},
};
