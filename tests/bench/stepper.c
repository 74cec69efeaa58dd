/* SPDX-License-Identifier: BSD-3-Clause */
#include "stepper.h"

#include <errno.h>
#include <signal.h>
#include <stddef.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

/* Longest x86 instruction. */
#define INSTRUCTION_BYTES_MAX 15

static int ip_read(struct stepper *st)
{
	errno = 0;
	long ip = ptrace(PTRACE_PEEKUSER, st->tid, offsetof(struct user, regs.rip), NULL);
	if (errno != 0)
		return -errno;
	st->ip = (uint64_t)ip;
	return 0;
}

/* Waits for the next stop of the thread; *status as waitpid gives it. */
static int stop_wait(struct stepper *st, int *status)
{
	if (waitpid(st->tid, status, __WALL) < 0)
		return -errno;
	st->running = false;
	return WIFSTOPPED(*status) ? 0 : -ESRCH;
}

static int resume(struct stepper *st, enum __ptrace_request how, int signal_now)
{
	if (ptrace(how, st->tid, NULL, signal_now) < 0)
		return -errno;
	st->running = true;
	return 0;
}

/* A thread cannot go on without its fault being handled; anything else can wait. */
static void signal_keep(struct stepper *st, int number)
{
	if (number == SIGSEGV || number == SIGBUS || number == SIGFPE || number == SIGILL)
		st->fault_signal = number;
	else
		st->held_signals |= UINT64_C(1) << (number - 1);
}

/* Stops the running thread. */
static int interrupt(struct stepper *st)
{
	int status;
	int rc;

	if (ptrace(PTRACE_INTERRUPT, st->tid, NULL, NULL) < 0)
		return -errno;
	for (;;) {
		rc = stop_wait(st, &status);
		if (rc == -EINTR)
			continue;
		if (rc < 0 || status >> 16 == PTRACE_EVENT_STOP)
			return rc;
		if (WSTOPSIG(status) == SIGTRAP)
			return 0; /* the step under way ended before the interrupt */
		signal_keep(st, WSTOPSIG(status));
		rc = resume(st, PTRACE_CONT, st->fault_signal);
		if (rc < 0)
			return rc;
		st->fault_signal = 0;
	}
}

int stepper_attach(struct stepper *st, pid_t tid)
{
	memset(st, 0, sizeof(*st));
	st->tid = tid;
	if (ptrace(PTRACE_SEIZE, tid, NULL, NULL) < 0)
		return -errno;
	st->running = true;
	int rc = interrupt(st);
	return rc < 0 ? rc : ip_read(st);
}

/* Does the instruction at `ip` carry a repeat prefix and a string opcode? */
static bool string_instruction_at(pid_t pid, uint64_t ip)
{
	uint8_t code[INSTRUCTION_BYTES_MAX];
	struct iovec local = {code, sizeof(code)};
	struct iovec remote = {(void *)(uintptr_t)ip, sizeof(code)};
	ssize_t n = process_vm_readv(pid, &local, 1, &remote, 1, 0);
	bool repeat = false;

	for (ssize_t i = 0; i < n; i++) {
		uint8_t byte = code[i];
		if (byte == 0xf2 || byte == 0xf3)
			repeat = true;
		else if (byte == 0x66 || byte == 0x67 || (byte & 0xf0) == 0x40)
			continue; /* operand size, address size, REX */
		else
			return repeat &&
			       ((byte >= 0xa4 && byte <= 0xa7) || (byte >= 0xaa && byte <= 0xaf));
	}
	return false;
}

/* Is arriving at the address just left another iteration, rather than a new execution? */
static bool repeats(struct stepper *st, uint64_t ip_before)
{
	if (st->ip != ip_before)
		return false;
	if (!st->repeat_known || st->repeat_ip != st->ip) {
		st->repeat_known = true;
		st->repeat_ip = st->ip;
		st->repeat_is_string = string_instruction_at(st->tid, st->ip);
	}
	return st->repeat_is_string;
}

int stepper_step(struct stepper *st)
{
	uint64_t ip_before = st->ip;
	int status;
	int rc;

	if (!st->running) {
		st->delivering = st->fault_signal != 0;
		rc = resume(st, PTRACE_SINGLESTEP, st->fault_signal);
		if (rc < 0)
			return rc;
		st->fault_signal = 0;
	}
	rc = stop_wait(st, &status);
	if (rc < 0)
		return rc;
	bool trap = WSTOPSIG(status) == SIGTRAP && status >> 16 == 0;
	if (WSTOPSIG(status) != SIGTRAP && status >> 16 == 0)
		signal_keep(st, WSTOPSIG(status));
	rc = ip_read(st);
	if (rc < 0)
		return rc;
	if (trap && !st->delivering && !repeats(st, ip_before))
		st->n_instructions++;
	return 0;
}

int stepper_return_address(const struct stepper *st, uint64_t *address)
{
	errno = 0;
	long sp = ptrace(PTRACE_PEEKUSER, st->tid, offsetof(struct user, regs.rsp), NULL);
	if (errno == 0)
		*address = (uint64_t)ptrace(PTRACE_PEEKDATA, st->tid, sp, NULL);
	return -errno;
}

void stepper_detach(struct stepper *st)
{
	if (st->running && interrupt(st) < 0)
		return;
	ptrace(PTRACE_DETACH, st->tid, NULL, st->fault_signal);
	for (int number = 1; number <= 64; number++)
		if (st->held_signals & (UINT64_C(1) << (number - 1)))
			syscall(SYS_tkill, st->tid, number);
	st->fault_signal = 0;
	st->held_signals = 0;
}
