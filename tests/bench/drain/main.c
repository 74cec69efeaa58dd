/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * drain: TSC cycles per packet of a datapath whose backlog is never empty (worker.h), of Ringway's libraries or of
 * librte_vhost. The load comes from two guests at its sockets (ringbench).
 *
 * Reads commands from standard input, one per line, and answers each with one line of JSON:
 *   read     counters of every stage, and the features the guests negotiated
 * It ends with its standard input.
 */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <event2/event.h>
#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_launch.h>
#include <rte_lcore.h>

#include "worker.h"

#define BURST_MAX 32

static const struct engine *const engines[] = { &engine_ringway, &engine_rte_vhost };

static const char usage_text[] =
	"usage: drain --engine ringway|rte_vhost --socket PATH --socket PATH [options] [-- EAL options]\n"
	"  --path forward|mbufs  guest to guest; or guest to mbufs, then mbufs to guest (forward)\n"
	"  --backlog N           frames a guest must have waiting before they are worked through (128; up to 512)\n"
	"  --burst N             frames taken at a time (32; up to 32)\n"
	"Prints \"ready\"; then answers each line \"read\" with its counters. Ends with its standard input.\n"
	"exit status: 0 ended as told, 1 could not start, 2 usage\n";

struct options {
	struct worker_config worker;
	const char *sockets[DRAIN_GUESTS];
};

static int number_parse(const char *text, unsigned int max, unsigned int *out)
{
	char *end;

	errno = 0;
	unsigned long value = strtoul(text, &end, 10);
	if (errno != 0 || end == text || *end != '\0' || value < 1 || value > max)
		return -EINVAL;
	*out = (unsigned int)value;
	return 0;
}

static int engine_parse(const char *name, const struct engine **out)
{
	for (size_t i = 0; i < sizeof(engines) / sizeof(engines[0]); i++) {
		if (strcmp(engines[i]->name, name) == 0) {
			*out = engines[i];
			return 0;
		}
	}
	return -EINVAL;
}

static int path_parse(const char *name, bool *mbufs)
{
	*mbufs = strcmp(name, "mbufs") == 0;
	return *mbufs || strcmp(name, "forward") == 0 ? 0 : -EINVAL;
}

static int options_parse(int argc, char **argv, struct options *options)
{
	static const struct option table[] = {
		{ "engine", required_argument, NULL, 'e' },
		{ "socket", required_argument, NULL, 's' },
		{ "path", required_argument, NULL, 'p' },
		{ "backlog", required_argument, NULL, 'n' },
		{ "burst", required_argument, NULL, 'b' },
		{ NULL, 0, NULL, 0 },
	};
	struct worker_config *worker = &options->worker;
	unsigned int n_sockets = 0;
	int letter, rc = 0;

	*options = (struct options){ .worker = { .n_backlog = 128, .n_burst = BURST_MAX } };
	while ((letter = getopt_long(argc, argv, "", table, NULL)) != -1) {
		switch (letter) {
		case 'e':
			rc |= engine_parse(optarg, &worker->engine);
			break;
		case 's':
			if (n_sockets == DRAIN_GUESTS)
				return -EINVAL;
			options->sockets[n_sockets++] = optarg;
			break;
		case 'p':
			rc |= path_parse(optarg, &worker->mbufs);
			break;
		case 'n':
			rc |= number_parse(optarg, DRAIN_BACKLOG_MAX, &worker->n_backlog);
			break;
		case 'b':
			rc |= number_parse(optarg, BURST_MAX, &worker->n_burst);
			break;
		default:
			return -EINVAL;
		}
	}
	return rc != 0 || worker->engine == NULL || n_sockets != DRAIN_GUESTS ? -EINVAL : 0;
}

static void counters_print(const struct engine *engine)
{
	static const char *const names[N_STAGES] = { "forward", "dequeue", "enqueue" };

	printf("{\"features\": [%" PRIu64 ", %" PRIu64 "]", engine->features(0), engine->features(1));
	for (unsigned int stage = 0; stage < N_STAGES; stage++) {
		struct stage_counters counters;

		worker_read((enum stage)stage, &counters);
		printf(", \"%s\": {\"packets\": %" PRIu64 ", \"cycles\": %" PRIu64 ", \"bursts\": %" PRIu64
		       ", \"short\": %" PRIu64 "}",
			names[stage], counters.packets, counters.cycles, counters.n_bursts, counters.n_short);
	}
	printf("}\n");
	fflush(stdout);
}

struct console {
	struct event_base *events;
	const struct engine *engine;
	char line[64];
	size_t used;
};

static void on_input(evutil_socket_t fd, short what, void *ctx)
{
	struct console *console = ctx;
	ssize_t n = read(fd, &console->line[console->used], sizeof(console->line) - console->used - 1);
	char *end;

	if (n <= 0 || console->used + (size_t)n == sizeof(console->line) - 1) {
		event_base_loopbreak(console->events);
		return;
	}
	console->used += (size_t)n;
	console->line[console->used] = '\0';
	while ((end = strchr(console->line, '\n')) != NULL) {
		*end = '\0';
		if (strcmp(console->line, "read") == 0)
			counters_print(console->engine);
		else
			fprintf(stderr, "drain: \"%s\": the only command is read\n", console->line);
		console->used -= (size_t)(end + 1 - console->line);
		memmove(console->line, end + 1, console->used + 1);
	}
}

/* Serves guests and commands until standard input ends. */
static int serve(const struct options *options)
{
	struct worker_config worker = options->worker;
	struct event_base *events = event_base_new();
	struct console console = { .events = events, .engine = worker.engine };
	struct engine_config config = { .mbufs = worker.mbufs, .events = events };
	unsigned int lcore = rte_get_next_lcore(-1, 1, 0);
	struct event *input;
	char error[512];

	for (unsigned int i = 0; i < DRAIN_GUESTS; i++)
		config.sockets[i] = options->sockets[i];
	if (lcore == RTE_MAX_LCORE) {
		fprintf(stderr, "drain: EAL has one lcore; wanted are two: --lcores 0@CPU,1@CPU\n");
		return 1;
	}
	if (worker.engine->open(&config, error, sizeof(error)) != 0) {
		fprintf(stderr, "drain: %s: %s\n", worker.engine->name, error);
		return 1;
	}
	rte_eal_remote_launch(worker_main, &worker, lcore);
	input = event_new(events, STDIN_FILENO, EV_READ | EV_PERSIST, on_input, &console);
	event_add(input, NULL);
	printf("ready\n");
	fflush(stdout);
	event_base_dispatch(events);
	worker_stop();
	rte_eal_wait_lcore(lcore);
	event_free(input);
	worker.engine->close();
	event_base_free(events);
	return 0;
}

int main(int argc, char **argv)
{
	struct options options;
	int rc, n_ours = 1;

	/* EAL's part of the line is behind "--"; it takes a program's name before it. */
	while (n_ours < argc && strcmp(argv[n_ours], "--") != 0)
		n_ours++;
	if (options_parse(n_ours, argv, &options) != 0) {
		fputs(usage_text, stderr);
		return 2;
	}
	char program[] = "drain";
	char **eal = n_ours < argc ? argv + n_ours : argv;
	eal[0] = program;
	if (rte_eal_init(n_ours < argc ? argc - n_ours : 1, eal) < 0) {
		fprintf(stderr, "drain: DPDK did not start: %s\n", rte_strerror(rte_errno));
		return 1;
	}
	rc = serve(&options);
	rte_eal_cleanup();
	return rc;
}
