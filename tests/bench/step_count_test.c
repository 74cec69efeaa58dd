/* SPDX-License-Identifier: BSD-3-Clause */
#include "stepper.h"
#include "symbols.h"

#include <errno.h>
#include <inttypes.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define LOOP_ROUNDS 100
/* mov, then LOOP_ROUNDS times dec and jnz */
#define LOOP_INSTRUCTIONS (1 + 2 * LOOP_ROUNDS)
/* mov, mov, xor and one string instruction, however long it runs */
#define FILL_INSTRUCTIONS 4

void known_loop(void);
void known_fill(void *to);
extern const char known_loop_end[], known_fill_end[];

__asm__(".text\n"
	".globl known_loop, known_loop_end, known_fill, known_fill_end\n"
	".type known_loop, @function\n"
	"known_loop:\n"
	"	mov $100, %ecx\n"
	"1:	dec %ecx\n"
	"	jnz 1b\n"
	"known_loop_end:\n"
	"	ret\n"
	".size known_loop, . - known_loop\n"
	".type known_fill, @function\n"
	"known_fill:\n"
	"	mov $64, %ecx\n"
	"	mov %rdi, %rdx\n"
	"	xor %eax, %eax\n"
	"	rep stosb\n"
	"known_fill_end:\n"
	"	ret\n"
	".size known_fill, . - known_fill\n");

struct child {
	pid_t pid;
	/* shared with the child: it counts its rounds and the signals it got */
	struct {
		volatile uint64_t n_rounds;
		volatile uint64_t n_signals;
		char buffer[64];
	} * shared;
};

/* The handler finds the shared page here in the child. */
static volatile uint64_t *signals_seen;

static void on_usr1(int number)
{
	(*signals_seen)++;
}

static void child_main(struct child *child)
{
	signals_seen = &child->shared->n_signals;
	signal(SIGUSR1, on_usr1);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (;;) {
		known_loop();
		known_fill(child->shared->buffer);
		child->shared->n_rounds++;
	}
}

static int child_start(void **state)
{
	static struct child child;

	child.shared = mmap(NULL, sizeof(*child.shared), PROT_READ | PROT_WRITE,
		MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (child.shared == MAP_FAILED)
		return -1;
	child.pid = fork();
	if (child.pid == 0)
		child_main(&child);
	while (child.pid > 0 && child.shared->n_rounds == 0)
		usleep(1000);
	*state = &child;
	return child.pid > 0 ? 0 : -1;
}

static int child_end(void **state)
{
	struct child *child = *state;

	kill(child->pid, SIGKILL);
	waitpid(child->pid, NULL, 0);
	munmap(child->shared, sizeof(*child->shared));
	return 0;
}

static void attach_or_skip(struct stepper *st, pid_t pid)
{
	int rc = stepper_attach(st, pid);

	if (rc == -EPERM) {
		print_message("skipped: tracing a child is not allowed here\n");
		skip();
	}
	assert_int_equal(rc, 0);
}

/* Instructions from the first visit of `from` to the next of `to`. */
static uint64_t count_between(struct stepper *st, const void *from, const void *to)
{
	while (st->ip != (uintptr_t)from)
		assert_int_equal(stepper_step(st), 0);
	uint64_t begin = st->n_instructions;
	while (st->ip != (uintptr_t)to)
		assert_int_equal(stepper_step(st), 0);
	return st->n_instructions - begin;
}

static void a_known_loop_is_counted_exactly_each_time(void **state)
{
	struct child *child = *state;
	struct stepper st;

	attach_or_skip(&st, child->pid);
	for (int run = 0; run < 2; run++)
		assert_int_equal(count_between(&st, (const void *)known_loop, known_loop_end),
			LOOP_INSTRUCTIONS);
	stepper_detach(&st);
}

static void a_repeated_string_instruction_counts_once(void **state)
{
	struct child *child = *state;
	struct stepper st;

	attach_or_skip(&st, child->pid);
	assert_int_equal(
		count_between(&st, (const void *)known_fill, known_fill_end), FILL_INSTRUCTIONS);
	stepper_detach(&st);
}

static void a_detached_thread_runs_on(void **state)
{
	struct child *child = *state;
	struct stepper st;

	attach_or_skip(&st, child->pid);
	assert_int_equal(stepper_step(&st), 0);
	uint64_t standing = child->shared->n_rounds;
	usleep(20000);
	assert_int_equal(child->shared->n_rounds, standing);
	stepper_detach(&st);
	for (int i = 0; i < 1000 && child->shared->n_rounds < standing + 2; i++)
		usleep(1000);
	assert_true(child->shared->n_rounds >= standing + 2);
}

static void a_signal_is_not_counted_and_reaches_the_thread_afterwards(void **state)
{
	struct child *child = *state;
	struct stepper st;

	attach_or_skip(&st, child->pid);
	kill(child->pid, SIGUSR1);
	assert_int_equal(
		count_between(&st, (const void *)known_loop, known_loop_end), LOOP_INSTRUCTIONS);
	assert_int_equal(child->shared->n_signals, 0);
	stepper_detach(&st);
	for (int i = 0; i < 1000 && child->shared->n_signals == 0; i++)
		usleep(1000);
	assert_int_equal(child->shared->n_signals, 1);
}

static void a_thread_that_ends_is_reported(void **state)
{
	struct child *child = *state;
	struct stepper st;
	int rc = 0;

	attach_or_skip(&st, child->pid);
	kill(child->pid, SIGKILL);
	for (int i = 0; i < 1000 && rc == 0; i++)
		rc = stepper_step(&st);
	assert_int_equal(rc, -ESRCH);
}

static void addresses_get_the_names_of_their_functions(void **state)
{
	struct child *child = *state;
	struct symbols *syms;

	assert_int_equal(symbols_load(child->pid, &syms), 0);
	assert_int_equal(symbols_address(syms, "known_loop"), (uintptr_t)known_loop);
	assert_int_equal(symbols_address(syms, "no such function"), 0);
	struct symbol_place place = symbols_lookup(syms, (uintptr_t)known_loop_end);
	assert_string_equal(place.function, "known_loop");
	assert_non_null(strstr(place.object, "step_count_test"));
	assert_string_equal(symbols_lookup(syms, 0).object, "?");
	symbols_free(syms);
}

struct tool_result {
	uint64_t n_instructions;
	uint64_t n_rounds;
};

static struct tool_result tool_run(pid_t pid, const char *options)
{
	struct tool_result res = {0};
	char line[4096];

	snprintf(line, sizeof(line), "exec '%s' --json --instructions 5000 --tid %d %s",
		getenv("STEP_COUNT"), (int)pid, options);
	FILE *pipe = popen(line, "r");
	assert_non_null(pipe);
	assert_non_null(fgets(line, sizeof(line), pipe));
	assert_int_equal(pclose(pipe), 0);
	assert_non_null(strstr(line, "\"aligned\": true"));
	const char *counted = strstr(line, "\"instructions\": ");
	assert_non_null(counted);
	assert_int_equal(sscanf(counted, "\"instructions\": %" SCNu64 ", \"rounds\": %" SCNu64,
				 &res.n_instructions, &res.n_rounds),
		2);
	return res;
}

static void the_tool_counts_whole_rounds_and_the_same_twice(void **state)
{
	struct child *child = *state;
	struct stepper st;

	if (getenv("STEP_COUNT") == NULL) {
		print_message("skipped: STEP_COUNT does not name the step_count program\n");
		skip();
	}
	attach_or_skip(&st, child->pid);
	const void *loop = (const void *)known_loop;
	uint64_t round = count_between(&st, loop, known_loop_end) + /* and back to its beginning */
			 count_between(&st, known_loop_end, loop);
	stepper_detach(&st);

	const char *ways[] = {"--anchor known_loop", "--anchor known_loop", "--warm-up 5000"};
	for (size_t i = 0; i < sizeof(ways) / sizeof(ways[0]); i++) {
		struct tool_result res = tool_run(child->pid, ways[i]);
		assert_true(res.n_rounds >= 5000 / round);
		assert_int_equal(res.n_instructions, res.n_rounds * round);
	}
}

static void only_one_functions_share_is_counted_if_asked_for(void **state)
{
	struct child *child = *state;

	if (getenv("STEP_COUNT") == NULL) {
		print_message("skipped: STEP_COUNT does not name the step_count program\n");
		skip();
	}
	/* each with its ret */
	struct tool_result loop = tool_run(child->pid, "--anchor known_loop --within known_loop");
	assert_int_equal(loop.n_instructions, loop.n_rounds * (LOOP_INSTRUCTIONS + 1));
	struct tool_result fill = tool_run(child->pid, "--anchor known_loop --within known_fill");
	assert_int_equal(fill.n_instructions, fill.n_rounds * (FILL_INSTRUCTIONS + 1));
}

int main(void)
{
#define WITH_CHILD(test) cmocka_unit_test_setup_teardown(test, child_start, child_end)
	const struct CMUnitTest tests[] = {
		WITH_CHILD(a_known_loop_is_counted_exactly_each_time),
		WITH_CHILD(a_repeated_string_instruction_counts_once),
		WITH_CHILD(a_detached_thread_runs_on),
		WITH_CHILD(a_signal_is_not_counted_and_reaches_the_thread_afterwards),
		WITH_CHILD(a_thread_that_ends_is_reported),
		WITH_CHILD(addresses_get_the_names_of_their_functions),
		WITH_CHILD(the_tool_counts_whole_rounds_and_the_same_twice),
		WITH_CHILD(only_one_functions_share_is_counted_if_asked_for),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
