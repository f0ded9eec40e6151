/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pause.c - the first process of a PID namespace that the containers of a pod share.
 *
 * It is there so that the namespace is, and to reap whoever is left behind: everybody whose parent ended becomes its child. Nobody in it may
 * see anything but this program, so it needs none: no C library, no heap, no descriptor, a page of stack. It ends with SIGTERM and
 * SIGINT, as Kubernetes' own does, and the kernel then ends everybody else in the namespace.
 */
#include <linux/signal.h>
#include <linux/wait.h>
#include <sys/syscall.h>

enum { EINTR_ANSWER = -4 };

#define BIT(signal) (1UL << ((signal)-1))

#if defined(__x86_64__)
static long call4(long number, long a, long b, long c, long d)
{
	register long r10 __asm__("r10") = d;
	long answer;

	__asm__ volatile("syscall" : "=a"(answer) : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10) : "rcx", "r11", "memory");
	return answer;
}
#elif defined(__aarch64__)
static long call4(long number, long a, long b, long c, long d)
{
	register long x8 __asm__("x8") = number;
	register long x0 __asm__("x0") = a;
	register long x1 __asm__("x1") = b;
	register long x2 __asm__("x2") = c;
	register long x3 __asm__("x3") = d;

	__asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3) : "memory");
	return x0;
}
#elif defined(__riscv) && __riscv_xlen == 64
static long call4(long number, long a, long b, long c, long d)
{
	register long a7 __asm__("a7") = number;
	register long a0 __asm__("a0") = a;
	register long a1 __asm__("a1") = b;
	register long a2 __asm__("a2") = c;
	register long a3 __asm__("a3") = d;

	__asm__ volatile("ecall" : "+r"(a0) : "r"(a7), "r"(a1), "r"(a2), "r"(a3) : "memory");
	return a0;
}
#else
#error "pause.c: how a system call is made on this processor is not written down yet"
#endif

__attribute__((noreturn)) static void leave(int status)
{
	for (;;)
		call4(SYS_exit_group, status, 0, 0, 0);
}

__attribute__((noreturn, used)) void _start(void);

void _start(void)
{
	/* Blocked and asked for, not caught: of the first process of a namespace the kernel drops what would only have its default effect. */
	unsigned long wanted = BIT(SIGCHLD) | BIT(SIGTERM) | BIT(SIGINT);

	if (call4(SYS_rt_sigprocmask, SIG_BLOCK, (long)&wanted, 0, sizeof(wanted)) < 0)
		leave(1);
	for (;;) {
		long signal;

		/* One SIGCHLD may stand for many, and some may have been there before it was blocked. */
		while (call4(SYS_wait4, -1, 0, WNOHANG | __WALL, 0) > 0)
			;
		signal = call4(SYS_rt_sigtimedwait, (long)&wanted, 0, 0, sizeof(wanted));
		if (signal == SIGTERM || signal == SIGINT)
			leave(0);
		if (signal < 0 && signal != EINTR_ANSWER)
			leave(2);
	}
}
