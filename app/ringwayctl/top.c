/* SPDX-License-Identifier: BSD-3-Clause */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <base/clock.h>

#include <control/client.h>

#include "ctl.h"
#include "field.h"
#include "params.h"
#include "rates.h"
#include "render.h"
#include "top.h"

#define INTERVAL_S_MIN 0.1
#define INTERVAL_S_MAX 3600
#define COUNT_MAX      1000000000

#define HOME_AND_CLEAR "\033[H\033[J"

/* Plain decimals only: no sign, no exponent, no "inf". */
static bool interval_parse(const char *text, uint32_t *interval_ms)
{
	double seconds;

	if (text == NULL || text[0] == '\0' || text[strspn(text, "0123456789.")] != '\0')
		return false;
	seconds = strtod(text, NULL);
	if (seconds < INTERVAL_S_MIN || seconds > INTERVAL_S_MAX)
		return false;
	*interval_ms = (uint32_t)(seconds * 1000 + 0.5);
	return true;
}

int top_options_read(
	const json_t *params, struct top_options *options, char *error, size_t error_size)
{
	const char *key;
	json_t *value;

	*options = (struct top_options){.interval_ms = TOP_INTERVAL_MS_DEFAULT};
	json_object_foreach((json_t *)params, key, value)
	{
		json_int_t count = json_integer_value(value);
		struct field_text given;

		field_show(params, key, &given);
		if (strcmp(key, "interval") == 0) {
			if (!interval_parse(json_string_value(value), &options->interval_ms))
				return params_refuse(error, error_size,
					"interval: value '%.64s' is not allowed; allowed: 0.1 to "
					"3600 (seconds), such as interval=0.5",
					given.bytes);
		} else if (strcmp(key, "count") == 0) {
			if (count < 1 || count > COUNT_MAX)
				return params_refuse(error, error_size,
					"count: value '%.64s' is not allowed; allowed: 1 to %d "
					"(intervals); leave it out to go on until interrupted",
					given.bytes, COUNT_MAX);
			options->count = (uint32_t)count;
		} else {
			return params_refuse(error, error_size,
				"'%s' is not allowed; allowed: interval, count; see 'ringwayctl "
				"top --help'",
				key);
		}
	}
	return 0;
}

/* Set by a signal: the loop ends where it would wait. */
static volatile sig_atomic_t is_stopped;

static void on_signal(int number)
{
	(void)number;
	is_stopped = 1;
}

/* What the two signals did before. */
struct signals {
	struct sigaction on_int;
	struct sigaction on_term;
};

static void signals_take(struct signals *before)
{
	/* Once: a user who presses the key again wants to leave, whatever we wait for. */
	struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESETHAND};

	is_stopped = 0;
	sigaction(SIGINT, &action, &before->on_int);
	sigaction(SIGTERM, &action, &before->on_term);
}

static void signals_return(const struct signals *before)
{
	sigaction(SIGINT, &before->on_int, NULL);
	sigaction(SIGTERM, &before->on_term, NULL);
}

/* The signals are let in only while we look for them: one that comes between the look and the wait
 * is not lost. */
static void wait_until(uint64_t time_us)
{
	sigset_t ours, before;

	sigemptyset(&ours);
	sigaddset(&ours, SIGINT);
	sigaddset(&ours, SIGTERM);
	sigprocmask(SIG_BLOCK, &ours, &before);
	while (!is_stopped) {
		uint64_t now_us = clock_now_us(), left_us;
		struct timespec left;

		if (now_us >= time_us)
			break;
		left_us = time_us - now_us;
		left.tv_sec = (time_t)(left_us / 1000000);
		left.tv_nsec = (long)(left_us % 1000000) * 1000;
		ppoll(NULL, 0, &left, &before);
	}
	sigprocmask(SIG_SETMASK, &before, NULL);
}

static void sample_clear(struct rates_sample *sample)
{
	json_decref(sample->workers);
	json_decref(sample->stats);
	*sample = (struct rates_sample){0};
}

static int sample_take(const char *socket, struct rates_sample *sample, struct control_error *error)
{
	int ret;

	*sample = (struct rates_sample){0};
	ret = control_client_call(
		socket, "worker.show", NULL, CTL_TIMEOUT_MS, &sample->workers, error);
	if (ret == 0)
		ret = control_client_call(
			socket, "stats", NULL, CTL_TIMEOUT_MS, &sample->stats, error);
	if (ret < 0) {
		sample_clear(sample);
		return ret;
	}
	sample->time_us = clock_now_us();
	return 0;
}

void top_print_cut(FILE *out, const char *text, unsigned int n_rows, unsigned int n_columns)
{
	for (unsigned int row = 0; row < n_rows && text[0] != '\0'; row++) {
		size_t n = strcspn(text, "\n");

		fprintf(out, "%s%.*s", row > 0 ? "\n" : "", n < n_columns ? (int)n : (int)n_columns,
			text);
		text += n + (text[n] == '\n');
	}
}

/* The block in one write, so that a terminal does not flicker. */
static void redraw(FILE *out, const json_t *rates)
{
	struct winsize window = {0};
	char *text = NULL;
	size_t n_bytes;
	FILE *memory = open_memstream(&text, &n_bytes);

	if (memory == NULL)
		return;
	render_rates(memory, rates);
	fclose(memory);
	fputs(HOME_AND_CLEAR, out);
	if (ioctl(fileno(out), TIOCGWINSZ, &window) < 0 || window.ws_row == 0 || window.ws_col == 0)
		fputs(text, out);
	else
		top_print_cut(out, text, window.ws_row, window.ws_col);
	free(text);
}

static void print_json(FILE *out, const json_t *rates)
{
	json_dumpf(rates, out, JSON_COMPACT | JSON_REAL_PRECISION(9));
	fputc('\n', out);
}

/* -EIO if `out` has failed. */
static int show(FILE *out, const json_t *rates, bool is_json, bool is_first)
{
	if (is_json) {
		print_json(out, rates);
	} else if (isatty(fileno(out))) {
		redraw(out, rates);
	} else {
		fputs(is_first ? "" : "\n", out);
		render_rates(out, rates);
	}
	return fflush(out) == 0 && !ferror(out) ? 0 : -EIO;
}

static int show_interval(const struct rates_sample *before, const struct rates_sample *after,
	bool is_json, bool is_first, FILE *out, struct control_error *error)
{
	json_t *rates = rates_between(before, after);
	int ret;

	if (rates == NULL)
		return control_fail(error, 0, -ENOMEM, "out of memory");
	ret = show(out, rates, is_json, is_first);
	json_decref(rates);
	return ret == 0 ? 0 : control_fail(error, 0, ret, "cannot write: %s", strerror(errno));
}

int top_run(const char *socket, const struct top_options *options, bool is_json, FILE *out,
	struct control_error *error)
{
	const uint64_t interval_us = (uint64_t)options->interval_ms * 1000;
	struct rates_sample before, after;
	struct signals signals;
	uint32_t n_shown = 0;
	uint64_t next_us;
	int ret = sample_take(socket, &before, error);

	if (ret < 0)
		return ret;
	signals_take(&signals);
	next_us = before.time_us;
	while (ret == 0 && (options->count == 0 || n_shown < options->count)) {
		/* In step, but an answer that was late does not make the next interval short. */
		next_us += interval_us;
		if (next_us < before.time_us + interval_us / 2)
			next_us = before.time_us + interval_us;
		wait_until(next_us);
		if (is_stopped)
			break;
		ret = sample_take(socket, &after, error);
		if (ret < 0)
			break;
		ret = show_interval(&before, &after, is_json, n_shown == 0, out, error);
		n_shown++;
		sample_clear(&before);
		before = after;
	}
	sample_clear(&before);
	if (!is_json && n_shown > 0 && isatty(fileno(out)))
		fputc('\n', out);
	signals_return(&signals);
	return ret;
}
