/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * step_count: counts the instructions one thread of another process executes, exactly.
 *
 * To divide by packets, the window must cover whole rounds of the thread's loop: it begins and
 * ends at the same instruction, the anchor: the entry of a function that the loop calls, or else
 * found in a warm-up: of the addresses seen three times or more, the rarest is one that the
 * outermost loop passes. Between two visits of it the thread's packet counters have moved by
 * exactly the packets of those rounds, so even a short window has no rounding. With --sync the
 * caller is told when the thread stands at either end, and reads the counters while it stands.
 *
 * With --within only what one function and those it calls execute is counted, from its entry to its
 * return: for a part of a loop whose rest does something else. It must not call itself.
 */
#include "ip_histogram.h"
#include "stepper.h"
#include "symbols.h"

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Visits that make an address an anchor: fewer may be start-up code that never returns. */
#define ANCHOR_VISITS_MIN 3

struct options {
	pid_t tid;
	uint64_t n_instructions;
	uint64_t n_warm_up;
	const char *anchor; /* function, or NULL: look for one */
	const char *within; /* function, or NULL: everything counts */
	unsigned timeout_s;
	bool sync;
	bool addresses;
	bool json;
};

struct window {
	struct stepper stepper;
	struct ip_histogram hist;
	uint64_t anchor; /* 0: none, the window ends anywhere */
	uint64_t within; /* 0: everything counts */
	uint64_t within_end; /* where the call of `within` under way returns to; 0: none is */
	uint64_t n_instructions; /* that count */
	uint64_t n_rounds;
	bool aligned;
};

/* One function's (or with --addresses one instruction's) share of the window. */
struct share {
	struct symbol_place place;
	uint64_t n;
};

static volatile sig_atomic_t stop_signal;

static void on_signal(int number)
{
	stop_signal = number;
}

static void signals_catch(unsigned timeout_s)
{
	/* no SA_RESTART: the wait for a thread that sleeps in the kernel must end */
	struct sigaction act = {.sa_handler = on_signal};

	sigaction(SIGINT, &act, NULL);
	sigaction(SIGTERM, &act, NULL);
	sigaction(SIGALRM, &act, NULL);
	signal(SIGPIPE, SIG_IGN);
	alarm(timeout_s);
}

/* Whether the instruction the thread is about to execute counts; negative errno. */
static int step_counts(struct window *win)
{
	if (win->within == 0)
		return true;
	if (win->stepper.ip == win->within_end)
		win->within_end = 0;
	if (win->stepper.ip == win->within && win->within_end == 0) {
		int rc = stepper_return_address(&win->stepper, &win->within_end);
		if (rc < 0)
			return rc;
	}
	return win->within_end != 0;
}

/* One instruction; into the histogram goes the address it was executed at, if it counts. */
static int step_record(struct window *win)
{
	uint64_t ip = win->stepper.ip;
	uint64_t before = win->stepper.n_instructions;
	int counts = step_counts(win);
	int rc = counts;

	if (rc < 0)
		return rc;
	do
		rc = stop_signal ? -ECANCELED : stepper_step(&win->stepper);
	while (rc == -EINTR);
	if (rc < 0 || win->stepper.n_instructions == before || !counts)
		return rc;
	win->n_instructions++;
	return ip_histogram_add(&win->hist, ip);
}

/* Rarest address of those that come back; 0 when nothing did. */
static uint64_t anchor_choose(const struct ip_histogram *hist)
{
	uint64_t rarest = UINT64_MAX;
	uint64_t anchor = 0;

	for (size_t i = 0; i < hist->n_slots; i++) {
		const struct ip_count *slot = &hist->slots[i];
		if (slot->n >= ANCHOR_VISITS_MIN && slot->n < rarest) {
			rarest = slot->n;
			anchor = slot->ip;
		}
	}
	return anchor;
}

/* Where --within begins; -ENOENT if nothing is called so. */
static int within_find(struct window *win, const struct options *opt, const struct symbols *syms)
{
	if (opt->within == NULL)
		return 0;
	win->within = symbols_address(syms, opt->within);
	return win->within == 0 ? -ENOENT : 0;
}

/* Leaves the thread standing on the anchor; win->anchor is 0 if there is none. */
static int anchor_find(struct window *win, const struct options *opt, const struct symbols *syms)
{
	int rc = 0;

	if (opt->anchor != NULL) {
		win->anchor = symbols_address(syms, opt->anchor);
		if (win->anchor == 0)
			return -ENOENT;
	} else {
		while (rc == 0 && win->stepper.n_instructions < opt->n_warm_up)
			rc = step_record(win);
		win->anchor = anchor_choose(&win->hist);
	}
	uint64_t n_search = opt->n_instructions + opt->n_warm_up;
	for (uint64_t i = 0; rc == 0 && win->anchor != win->stepper.ip && i < n_search; i++)
		rc = step_record(win);
	if (win->anchor != win->stepper.ip)
		win->anchor = 0;
	ip_histogram_free(&win->hist);
	return rc;
}

/* Tells the caller where the thread stands and waits for its line. */
static int sync_with_caller(const struct options *opt, const char *what)
{
	char line[64];

	if (!opt->sync)
		return 0;
	printf("%s\n", what);
	fflush(stdout);
	return fgets(line, sizeof(line), stdin) == NULL ? -ECANCELED : 0;
}

static int window_step(struct window *win, const struct options *opt)
{
	uint64_t begin = win->stepper.n_instructions;
	/* whatever the anchor does, the window is bounded */
	uint64_t end_max = begin + opt->n_instructions + 2 * opt->n_warm_up;
	int rc = sync_with_caller(opt, "begin");

	/* a call that was under way when the window began would count in part */
	win->within_end = 0;
	win->n_instructions = 0;
	while (rc == 0) {
		rc = step_record(win);
		uint64_t now = win->stepper.n_instructions;
		bool at_anchor = win->anchor != 0 && win->stepper.ip == win->anchor;
		win->n_rounds += at_anchor;
		win->aligned = at_anchor;
		if (now - begin >= opt->n_instructions &&
			(at_anchor || win->anchor == 0 || now >= end_max))
			break;
	}
	return rc < 0 ? rc : sync_with_caller(opt, "end");
}

static int share_compare(const void *a, const void *b)
{
	const struct share *left = a, *right = b;

	return left->n > right->n ? -1 : left->n < right->n;
}

static bool same_place(const struct share *share, const struct symbol_place *place)
{
	return share->place.object == place->object && share->place.function == place->function;
}

/* Adds the addresses up by function; `shares` has room for all. Returns how many came out. */
static size_t shares_sum(
	const struct window *win, const struct symbols *syms, bool addresses, struct share *shares)
{
	size_t n_shares = 0;

	for (size_t i = 0; i < win->hist.n_used; i++) {
		const struct ip_count *count = &win->hist.slots[i];
		struct symbol_place place = symbols_lookup(syms, count->ip);
		size_t at = addresses ? n_shares : 0;
		while (at < n_shares && !same_place(&shares[at], &place))
			at++;
		if (at == n_shares)
			shares[n_shares++] = (struct share){.place = place};
		shares[at].n += count->n;
	}
	qsort(shares, n_shares, sizeof(*shares), share_compare);
	return n_shares;
}

static void json_string(const char *text)
{
	putchar('"');
	for (; *text != '\0'; text++) {
		if (*text == '"' || *text == '\\' || (unsigned char)*text < 0x20)
			printf("\\u%04x", (unsigned char)*text);
		else
			putchar(*text);
	}
	putchar('"');
}

static void shares_print_json(const struct window *win, const struct options *opt,
	const struct share *shares, size_t n_shares)
{
	printf("{\"tid\": %d, \"instructions\": %" PRIu64 ", \"rounds\": %" PRIu64
	       ", \"aligned\": %s, \"%s\": [",
		(int)opt->tid, win->n_instructions, win->n_rounds, win->aligned ? "true" : "false",
		opt->addresses ? "addresses" : "functions");
	for (size_t i = 0; i < n_shares; i++) {
		printf("%s{\"object\": ", i ? ", " : "");
		json_string(shares[i].place.object);
		printf(", \"function\": ");
		if (shares[i].place.function != NULL)
			json_string(shares[i].place.function);
		else
			printf("null");
		if (opt->addresses)
			printf(", \"vaddr\": %" PRIu64, shares[i].place.vaddr);
		printf(", \"instructions\": %" PRIu64 "}", shares[i].n);
	}
	printf("]}\n");
}

static void shares_print_text(const struct window *win, const struct options *opt,
	const struct share *shares, size_t n_shares)
{
	printf("%" PRIu64 " instructions in %" PRIu64 " rounds%s\n", win->n_instructions,
		win->n_rounds, win->aligned ? "" : " (not aligned to the loop)");
	for (size_t i = 0; i < n_shares; i++) {
		const struct symbol_place *place = &shares[i].place;
		const char *slash = strrchr(place->object, '/');
		printf("%12" PRIu64 " %5.1f%%  %s", shares[i].n,
			100.0 * (double)shares[i].n / (double)win->n_instructions,
			slash != NULL ? slash + 1 : place->object);
		if (place->function != NULL)
			printf(" %s", place->function);
		if (opt->addresses)
			printf(" 0x%" PRIx64, place->vaddr);
		printf("\n");
	}
}

static int window_print(struct window *win, const struct options *opt, const struct symbols *syms)
{
	struct share *shares = calloc(win->hist.n_used + 1, sizeof(*shares));

	if (shares == NULL)
		return -ENOMEM;
	ip_histogram_sort(&win->hist);
	size_t n_shares = shares_sum(win, syms, opt->addresses, shares);
	if (opt->json)
		shares_print_json(win, opt, shares, n_shares);
	else
		shares_print_text(win, opt, shares, n_shares);
	free(shares);
	return 0;
}

static const char usage_text[] =
	"usage: step_count --tid TID --instructions N [options]\n"
	"Counts the instructions a thread executes, by single-stepping it.\n"
	"  -t, --tid TID          thread to step (a process id is its main thread's)\n"
	"  -n, --instructions N   step at least N, then on to the end of the thread's loop\n"
	"  -A, --anchor FUNCTION  begin and end at the entry of a function that the loop calls\n"
	"  -W, --within FUNCTION  count only from that function's entry to its return\n"
	"  -w, --warm-up N        steps that look for the loop otherwise (200000; 0: do not "
	"align)\n"
	"  -s, --sync             print \"begin\" and \"end\" while the thread stands at either "
	"end,\n"
	"                         and wait for a line on standard input each time\n"
	"  -a, --addresses        one row per instruction address, not per function\n"
	"  -T, --timeout SECONDS  give up after that long (120)\n"
	"  -j, --json             print a JSON object\n"
	"exit status: 0 counted, 1 failed (the thread runs on), 2 usage\n";

static int number_parse(const char *text, uint64_t max, uint64_t *out)
{
	char *end;

	errno = 0;
	unsigned long long value = strtoull(text, &end, 10);
	if (errno != 0 || end == text || *end != '\0' || *text == '-' || value > max)
		return -EINVAL;
	*out = value;
	return 0;
}

static int options_parse(int argc, char **argv, struct options *opt)
{
	static const struct option table[] = {
		{"tid", required_argument, NULL, 't'},
		{"instructions", required_argument, NULL, 'n'},
		{"anchor", required_argument, NULL, 'A'},
		{"within", required_argument, NULL, 'W'},
		{"warm-up", required_argument, NULL, 'w'},
		{"timeout", required_argument, NULL, 'T'},
		{"sync", no_argument, NULL, 's'},
		{"addresses", no_argument, NULL, 'a'},
		{"json", no_argument, NULL, 'j'},
		{NULL, 0, NULL, 0},
	};
	uint64_t tid = 0, timeout_s = 120;
	int letter, rc = 0;

	*opt = (struct options){.n_warm_up = 200000};
	while ((letter = getopt_long(argc, argv, "t:n:A:W:w:T:saj", table, NULL)) != -1) {
		switch (letter) {
		case 't':
			rc |= number_parse(optarg, INT32_MAX, &tid);
			break;
		case 'n':
			rc |= number_parse(optarg, INT64_MAX / 4, &opt->n_instructions);
			break;
		case 'A':
			opt->anchor = optarg;
			break;
		case 'W':
			opt->within = optarg;
			break;
		case 'w':
			rc |= number_parse(optarg, INT64_MAX / 4, &opt->n_warm_up);
			break;
		case 'T':
			rc |= number_parse(optarg, 86400, &timeout_s);
			break;
		case 's':
			opt->sync = true;
			break;
		case 'a':
			opt->addresses = true;
			break;
		case 'j':
			opt->json = true;
			break;
		default:
			return -EINVAL;
		}
	}
	opt->tid = (pid_t)tid;
	opt->timeout_s = (unsigned)timeout_s;
	return rc != 0 || optind != argc || tid == 0 || opt->n_instructions == 0 ? -EINVAL : 0;
}

int main(int argc, char **argv)
{
	struct options opt;
	struct window win = {0};
	struct symbols *syms = NULL;

	if (options_parse(argc, argv, &opt) < 0) {
		fputs(usage_text, stderr);
		return 2;
	}
	signals_catch(opt.timeout_s);
	int rc = symbols_load(opt.tid, &syms);
	if (rc < 0) {
		fprintf(stderr, "step_count: thread %d: no such thread, or not ours to trace\n",
			(int)opt.tid);
		return 1;
	}
	rc = stepper_attach(&win.stepper, opt.tid);
	if (rc == 0) {
		if (opt.n_warm_up != 0)
			rc = anchor_find(&win, &opt, syms);
		if (rc == 0)
			rc = within_find(&win, &opt, syms);
		if (rc == 0)
			rc = window_step(&win, &opt);
		stepper_detach(&win.stepper);
	}
	if (rc == 0)
		rc = window_print(&win, &opt, syms);
	if (rc < 0)
		fprintf(stderr, "step_count: thread %d: %s\n", (int)opt.tid,
			rc == -ENOENT            ? "no function of that name in its symbol tables"
			: stop_signal == SIGALRM ? "timed out; is the thread asleep?"
			: stop_signal != 0       ? "interrupted"
						 : strerror(-rc));
	ip_histogram_free(&win.hist);
	symbols_free(syms);
	return rc < 0 ? 1 : 0;
}
