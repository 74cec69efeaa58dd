/* SPDX-License-Identifier: BSD-3-Clause */
#include "stepper.h"

#include <errno.h>
#include <signal.h>
#include <stddef.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>

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
	return WIFSTOPPED(*status) ? 0 : -ESRCH;
}

int stepper_attach(struct stepper *st, pid_t tid)
{
	int status;

	memset(st, 0, sizeof(*st));
	st->tid = tid;
	if (ptrace(PTRACE_SEIZE, tid, NULL, NULL) < 0)
		return -errno;
	if (ptrace(PTRACE_INTERRUPT, tid, NULL, NULL) < 0)
		return -errno;
	for (;;) {
		int rc = stop_wait(st, &status);
		if (rc == -EINTR)
			continue;
		if (rc < 0)
			return rc;
		if (status >> 16 == PTRACE_EVENT_STOP)
			return ip_read(st);
		/* a signal came first: hand it on, the interrupt is still to come */
		if (ptrace(PTRACE_CONT, tid, NULL, WSTOPSIG(status)) < 0)
			return -errno;
	}
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
			return repeat && ((byte >= 0xa4 && byte <= 0xa7) || (byte >= 0xaa && byte <= 0xaf));
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
	int signal_now = st->pending_signal;
	int status;
	int rc;

	st->pending_signal = 0;
	if (ptrace(PTRACE_SINGLESTEP, st->tid, NULL, signal_now) < 0)
		return -errno;
	do
		rc = stop_wait(st, &status);
	while (rc == -EINTR);
	if (rc < 0)
		return rc;
	if (WSTOPSIG(status) != SIGTRAP && status >> 16 == 0)
		st->pending_signal = WSTOPSIG(status);
	rc = ip_read(st);
	if (rc < 0)
		return rc;
	/* A signal stop, or the kernel entering a handler, executed nothing of the thread. */
	if (st->pending_signal != 0 || signal_now != 0 || status >> 16 != 0)
		return 0;
	if (!repeats(st, ip_before))
		st->n_instructions++;
	return 0;
}

void stepper_detach(struct stepper *st)
{
	ptrace(PTRACE_DETACH, st->tid, NULL, st->pending_signal);
	st->pending_signal = 0;
}
