/* SPDX-License-Identifier: BSD-3-Clause */
#include <pty.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include <ctl.h>
#include <top.h>

#include "fake_daemon.h"

#define WORDS_MAX 8

/* Runs a line with `out`; what goes to standard error is in `err`, which the caller frees. */
static enum ctl_status run(const struct fake_daemon *fake, const char *line, FILE *out, char **err)
{
	char name[] = "ringwayctl", copy[256], *words[WORDS_MAX] = {name}, *rest = copy, *word;
	enum ctl_status status;
	size_t n_err;
	FILE *file = open_memstream(err, &n_err);
	int n = 1;

	snprintf(copy, sizeof(copy), "-s %s %s", fake->path, line);
	while ((word = strsep(&rest, " ")) != NULL)
		words[n++] = word;
	status = ctl_run(n, words, out, file);
	fclose(file);
	return status;
}

/* A signal that comes to somebody in a while; the caller reaps the child. */
static pid_t signal_later(pid_t to, int number, useconds_t after_us)
{
	pid_t child = fork();

	if (child == 0) {
		usleep(after_us);
		kill(to, number);
		_exit(0);
	}
	assert_true(child > 0);
	return child;
}

static unsigned int count(const char *text, const char *part)
{
	unsigned int n = 0;

	while ((text = strstr(text, part)) != NULL) {
		text += strlen(part);
		n++;
	}
	return n;
}

static void count_ends_it_after_a_block_for_each_interval(void **state)
{
	struct fake_daemon fake;
	char *text = NULL, *err = NULL;
	size_t n_bytes;
	FILE *out = open_memstream(&text, &n_bytes);

	assert_int_equal(fake_daemon_start(&fake), 0);
	assert_int_equal(run(&fake, "top interval=0.1 count=2", out, &err), CTL_DONE);
	fclose(out);
	assert_string_equal(err, "");
	assert_int_equal(count(text, "interval "), 2);
	assert_int_equal(count(text, "PACKETS/S  ROUNDS/S"), 2);
	/* between the lists, and between the blocks */
	assert_int_equal(count(text, "\n\n"), 3);
	assert_int_equal(count(text, "\033"), 0);
	free(text);
	free(err);
	assert_int_equal(fake_daemon_stop(&fake), 0);
}

static void json_is_one_object_for_each_interval(void **state)
{
	struct fake_daemon fake;
	char *text = NULL, *err = NULL, *rest, *line;
	size_t n_bytes, n_lines = 0;
	FILE *out = open_memstream(&text, &n_bytes);

	assert_int_equal(fake_daemon_start(&fake), 0);
	assert_int_equal(run(&fake, "top -j interval=0.1 count=3", out, &err), CTL_DONE);
	fclose(out);
	rest = text;
	while ((line = strsep(&rest, "\n")) != NULL && line[0] != '\0') {
		json_t *rates = json_loads(line, 0, NULL);

		assert_int_equal(json_array_size(json_object_get(rates, "workers")), 2);
		assert_int_equal(json_array_size(json_object_get(rates, "ports")), 2);
		assert_true(json_real_value(json_object_get(rates, "interval_s")) > 0.04);
		json_decref(rates);
		n_lines++;
	}
	assert_int_equal(n_lines, 3);
	free(text);
	free(err);
	assert_int_equal(fake_daemon_stop(&fake), 0);
}

static void interrupt_ends_it_as_done_and_leaves_the_signal_as_it_was(void **state)
{
	static const int signals[] = {SIGINT, SIGTERM};
	struct fake_daemon fake;

	assert_int_equal(fake_daemon_start(&fake), 0);
	for (size_t i = 0; i < 2; i++) {
		char *text = NULL, *err = NULL;
		size_t n_bytes;
		FILE *out = open_memstream(&text, &n_bytes);
		struct sigaction action;
		pid_t child = signal_later(getpid(), signals[i], 250000);

		assert_int_equal(run(&fake, "top interval=0.1", out, &err), CTL_DONE);
		fclose(out);
		waitpid(child, NULL, 0);
		assert_string_equal(err, "");
		sigaction(signals[i], NULL, &action);
		assert_ptr_equal(action.sa_handler, SIG_DFL);
		free(text);
		free(err);
	}
	assert_int_equal(fake_daemon_stop(&fake), 0);
}

static void lost_daemon_is_one_line_and_status_3(void **state)
{
	struct fake_daemon fake;
	char *text = NULL, *err = NULL, expected[512];
	size_t n_bytes;
	FILE *out = open_memstream(&text, &n_bytes);
	pid_t child;

	assert_int_equal(fake_daemon_start(&fake), 0);
	child = signal_later(fake.child, SIGKILL, 250000);
	assert_int_equal(run(&fake, "top interval=0.1", out, &err), CTL_UNREACHABLE);
	fclose(out);
	waitpid(child, NULL, 0);
	snprintf(expected, sizeof(expected), "'%s'", fake.path);
	assert_non_null(strstr(err, expected));
	assert_int_equal(count(err, "\n"), 1);
	free(text);
	free(err);
	assert_int_equal(fake_daemon_stop(&fake), 0);
}

static void terminal_is_redrawn_within_its_window(void **state)
{
	struct winsize window = {.ws_row = 3, .ws_col = 20};
	struct fake_daemon fake;
	char text[1024], *err = NULL;
	int terminal, program;
	size_t n_bytes = 0;
	ssize_t n;
	FILE *out;

	assert_int_equal(fake_daemon_start(&fake), 0);
	assert_int_equal(openpty(&terminal, &program, NULL, NULL, &window), 0);
	out = fdopen(program, "w");
	assert_int_equal(run(&fake, "top interval=0.1 count=2", out, &err), CTL_DONE);
	/* What was written is still there to read; then comes an error. */
	fclose(out);
	while ((n = read(terminal, text + n_bytes, sizeof(text) - 1 - n_bytes)) > 0)
		n_bytes += (size_t)n;
	text[n_bytes] = '\0';
	assert_int_equal(count(text, "\033[H\033[J"), 2);
	assert_int_equal(strncmp(text, "\033[H\033[J", 6), 0);
	/* two line ends within a screen of three lines, one behind the last */
	assert_int_equal(count(text, "\n"), 5);
	assert_int_equal(count(text, "ID  CPU  MODE      S\r\n"), 2);
	close(terminal);
	free(err);
	assert_int_equal(fake_daemon_stop(&fake), 0);
}

static void output_that_takes_no_more_ends_it_with_an_error(void **state)
{
	struct fake_daemon fake;
	char *err = NULL;
	FILE *out = fopen("/dev/full", "w");

	assert_non_null(out);
	assert_int_equal(fake_daemon_start(&fake), 0);
	assert_int_equal(run(&fake, "top interval=0.1", out, &err), CTL_REFUSED);
	assert_string_equal(err, "ringwayctl: cannot write: No space left on device\n");
	fclose(out);
	free(err);
	assert_int_equal(fake_daemon_stop(&fake), 0);
}

static void text_is_cut_to_the_window(void **state)
{
	static const struct {
		const char *text;
		unsigned int n_rows, n_columns;
		const char *expected;
	} rows[] = {
		{"ab\ncd\nef\n", 2, 80, "ab\ncd"},
		{"ab\ncd\nef\n", 9, 1, "a\nc\ne"},
		{"ab\n\ncd", 3, 2, "ab\n\ncd"},
		{"", 3, 2, ""},
		{"ab", 0, 2, ""},
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		char *text = NULL;
		size_t n_bytes;
		FILE *out = open_memstream(&text, &n_bytes);

		top_print_cut(out, rows[i].text, rows[i].n_rows, rows[i].n_columns);
		fclose(out);
		assert_string_equal(text, rows[i].expected);
		free(text);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(count_ends_it_after_a_block_for_each_interval),
		cmocka_unit_test(json_is_one_object_for_each_interval),
		cmocka_unit_test(interrupt_ends_it_as_done_and_leaves_the_signal_as_it_was),
		cmocka_unit_test(lost_daemon_is_one_line_and_status_3),
		cmocka_unit_test(terminal_is_redrawn_within_its_window),
		cmocka_unit_test(output_that_takes_no_more_ends_it_with_an_error),
		cmocka_unit_test(text_is_cut_to_the_window),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
