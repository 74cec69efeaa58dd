/* SPDX-License-Identifier: BSD-3-Clause */
#include "options.h"

#include <errno.h>
#include <getopt.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include <linux/virtio_config.h>

#include <base/unix_socket.h>
#include <gmem/gmem.h>

#include "frame.h"
#include "virtio_features.h"

static const char usage[] =
	"Usage: ringbench -s PATH[,listen] [-s PATH[,listen]]... [options]\n"
	"Drives the rings of vhost-user back ends as guests do: sends numbered frames, checks what "
	"comes back.\n"
	"\n"
	"  -s, --socket PATH[,listen]  a back end's socket (up to 16); with \"listen\" the back "
	"end connects to us\n"
	"      --topology loop|pair    frames come back on the socket they left by, or on its "
	"partner: 1<->2, 3<->4\n"
	"                              (default: loop for one socket, pair for an even number)\n"
	"      --one-way               pairs: only first -> second\n"
	"      --queues N              queue pairs per socket (1; up to 16)\n"
	"      --ring N                ring size, a power of two; any with +packed (256)\n"
	"      --regions N             memory regions per socket, buffers spread over them (1; up to 509)\n"
	"      --flows N               UDP flows per direction, spread over the queues (as many as "
	"queues)\n"
	"      --macs N                MAC addresses that each socket sends from in turn (1; up to 65536)\n"
	"      --features [N:]LIST     switch features, for all sockets or for socket N: "
	"+csum,+tso,-mrg_rxbuf,\n"
	"                              -in_order,-indirect,+event_idx,+packed; each is taken where the "
	"back end offers it\n"
	"      --vlan [N:]VID          tag frames (all sockets, or socket N)\n"
	"\n"
	"      --size N|imix           frame size in bytes without FCS (64); imix: 7:4:1 of 64, "
	"590 and 1518\n"
	"      --mss N                 with +tso: payload bytes per segment (1448)\n"
	"      --window N              closed loop: frames in flight per direction (7/8 of a "
	"ring)\n"
	"      --rate PPS              open loop: frames per second and direction\n"
	"      --bursts N              on/off traffic: each queue pair sends N bursts of 1 to --batch frames and waits for "
	"all of\n"
	"                              one before the next; one that does not come within --stall is a lost wake-up\n"
	"      --pause-us MAX          on/off traffic: pauses of 0 to MAX us, each power of two equally often (1000)\n"
	"      --seed N                of the lengths of bursts and pauses (random; the report names it)\n"
	"      --idle                  send nothing after the first frames\n"
	"      --log                   the back end notes each page that it writes in a dirty log, as if we were migrated\n"
	"      --batch N               most frames handled per ring at a time (32)\n"
	"      --rx-buffer BYTES       size of a receive buffer, header included\n"
	"      --segment BYTES         longer frames are sent as chains of pieces (4096)\n"
	"      --verify sampled|all|header\n"
	"                              every byte of one frame in 61, of every frame, or the "
	"record of each alone\n"
	"\n"
	"      --count N               frames per direction      --duration SECONDS  (5)\n"
	"      --deadline SECONDS      to connect and to see the first frames (10)\n"
	"      --stall SECONDS         silence after which sending goes on without the frames in "
	"flight (0.5; with\n"
	"                              on/off traffic 1)\n"
	"      --reconnect             when a back end goes away, connect again and go on\n"
	"      --sleep                 wait for calls instead of polling; one that does not come fails the run\n"
	"      --cpu N                 run on this CPU\n"
	"      --interval SECONDS      print a line that often      -j, --json  print JSON\n"
	"  -h, --help                  -V, --version\n"
	"\n"
	"Exit status: 0 all checks hold, 1 a check failed, 2 wrong usage, 3 no connection or no "
	"agreement.\n";

enum {
	OPT_TOPOLOGY = 256,
	OPT_ONE_WAY,
	OPT_QUEUES,
	OPT_RING,
	OPT_REGIONS,
	OPT_FLOWS,
	OPT_MACS,
	OPT_FEATURES,
	OPT_VLAN,
	OPT_SIZE,
	OPT_MSS,
	OPT_WINDOW,
	OPT_RATE,
	OPT_BURSTS,
	OPT_PAUSE_US,
	OPT_SEED,
	OPT_IDLE,
	OPT_LOG,
	OPT_BATCH,
	OPT_RX_BUFFER,
	OPT_SEGMENT,
	OPT_VERIFY,
	OPT_COUNT,
	OPT_DURATION,
	OPT_DEADLINE,
	OPT_STALL,
	OPT_RECONNECT,
	OPT_SLEEP,
	OPT_CPU,
	OPT_INTERVAL,
};

static const struct option long_options[] = {
	{"socket", required_argument, NULL, 's'},
	{"topology", required_argument, NULL, OPT_TOPOLOGY},
	{"one-way", no_argument, NULL, OPT_ONE_WAY},
	{"queues", required_argument, NULL, OPT_QUEUES},
	{"ring", required_argument, NULL, OPT_RING},
	{"regions", required_argument, NULL, OPT_REGIONS},
	{"flows", required_argument, NULL, OPT_FLOWS},
	{"macs", required_argument, NULL, OPT_MACS},
	{"features", required_argument, NULL, OPT_FEATURES},
	{"vlan", required_argument, NULL, OPT_VLAN},
	{"size", required_argument, NULL, OPT_SIZE},
	{"mss", required_argument, NULL, OPT_MSS},
	{"window", required_argument, NULL, OPT_WINDOW},
	{"rate", required_argument, NULL, OPT_RATE},
	{"bursts", required_argument, NULL, OPT_BURSTS},
	{"pause-us", required_argument, NULL, OPT_PAUSE_US},
	{"seed", required_argument, NULL, OPT_SEED},
	{"idle", no_argument, NULL, OPT_IDLE},
	{"log", no_argument, NULL, OPT_LOG},
	{"batch", required_argument, NULL, OPT_BATCH},
	{"rx-buffer", required_argument, NULL, OPT_RX_BUFFER},
	{"segment", required_argument, NULL, OPT_SEGMENT},
	{"verify", required_argument, NULL, OPT_VERIFY},
	{"count", required_argument, NULL, OPT_COUNT},
	{"duration", required_argument, NULL, OPT_DURATION},
	{"deadline", required_argument, NULL, OPT_DEADLINE},
	{"stall", required_argument, NULL, OPT_STALL},
	{"reconnect", no_argument, NULL, OPT_RECONNECT},
	{"sleep", no_argument, NULL, OPT_SLEEP},
	{"cpu", required_argument, NULL, OPT_CPU},
	{"interval", required_argument, NULL, OPT_INTERVAL},
	{"json", no_argument, NULL, 'j'},
	{"help", no_argument, NULL, 'h'},
	{"version", no_argument, NULL, 'V'},
	{NULL, 0, NULL, 0},
};

/* Where messages go while parsing. */
struct parser {
	struct options *options;
	char *error;
	size_t error_size;
	bool topology_given;
	bool duration_given;
	bool seed_given;
	/* Per-socket options may come before the socket they name. */
	unsigned int highest_socket;
	struct options_socket all;
	struct options_socket each[OPTIONS_MAX_SOCKETS];
};

__attribute__((format(printf, 2, 3))) static int fail(
	struct parser *parser, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(parser->error, parser->error_size, format, args);
	va_end(args);
	return -EINVAL;
}

static int number(struct parser *parser, const char *name, const char *text, uint64_t min,
	uint64_t max, uint64_t *value)
{
	char *end;

	errno = 0;
	*value = strtoull(text, &end, 10);
	if (text[0] < '0' || text[0] > '9' || *end != '\0' || errno != 0 || *value < min ||
		*value > max)
		return fail(parser, "--%s %s: give a whole number from %llu to %llu", name, text,
			(unsigned long long)min, (unsigned long long)max);
	return 0;
}

static int number32(struct parser *parser, const char *name, const char *text, uint32_t min,
	uint32_t max, uint32_t *value)
{
	uint64_t wide;

	if (number(parser, name, text, min, max, &wide) != 0)
		return -EINVAL;
	*value = (uint32_t)wide;
	return 0;
}

static int seconds(struct parser *parser, const char *name, const char *text, double min,
	double max, uint64_t *us)
{
	char *end;
	double value = strtod(text, &end);

	/* Written so that a NaN fails. */
	if (end == text || *end != '\0' || !(value >= min && value <= max))
		return fail(parser, "--%s %s: give seconds from %g to %g", name, text, min, max);
	*us = (uint64_t)(value * 1e6);
	return 0;
}

static int add_socket(struct parser *parser, char *text)
{
	struct options *options = parser->options;
	struct options_socket *entry;
	char *comma = strrchr(text, ',');

	if (options->n_sockets == OPTIONS_MAX_SOCKETS)
		return fail(parser,
			"--socket %s: more than %u sockets; start a second ringbench for the rest",
			text, OPTIONS_MAX_SOCKETS);
	entry = &options->sockets[options->n_sockets];
	if (comma != NULL && strcmp(comma, ",listen") == 0) {
		*comma = '\0';
		entry->listen = true;
	} else if (comma != NULL && strcmp(comma, ",connect") == 0) {
		*comma = '\0';
	}
	entry->path = text;
	options->n_sockets++;
	return unix_socket_path_check(text, parser->error, parser->error_size);
}

/* "N:rest" or "rest": which socket's settings are meant. */
static struct options_socket *select_socket(
	struct parser *parser, const char *name, const char **text)
{
	const char *colon = strchr(*text, ':');
	char *end;
	unsigned long socket;

	if (colon == NULL)
		return &parser->all;
	socket = strtoul(*text, &end, 10);
	if (end != colon || socket < 1 || socket > OPTIONS_MAX_SOCKETS) {
		fail(parser, "--%s %s: before the colon stands a socket's number, from 1 to %u",
			name, *text, OPTIONS_MAX_SOCKETS);
		return NULL;
	}
	if (socket > parser->highest_socket)
		parser->highest_socket = (unsigned int)socket;
	*text = colon + 1;
	return &parser->each[socket - 1];
}

static int parse_features(struct parser *parser, const char *text)
{
	struct options_socket *settings = select_socket(parser, "features", &text);

	if (settings == NULL)
		return -EINVAL;
	return features_parse(text, &settings->features_on, &settings->features_off, parser->error,
		parser->error_size);
}

static int parse_vlan(struct parser *parser, const char *text)
{
	struct options_socket *settings = select_socket(parser, "vlan", &text);
	uint32_t vid;

	if (settings == NULL || number32(parser, "vlan", text, 1, 4094, &vid) != 0)
		return -EINVAL;
	settings->vlan = (uint16_t)vid;
	return 0;
}

static int parse_size(struct parser *parser, const char *text)
{
	struct options *options = parser->options;

	options->imix = strcmp(text, "imix") == 0;
	if (options->imix)
		return 0;
	return number32(parser, "size", text, FRAME_SIZE_MIN, FRAME_SIZE_MAX, &options->size);
}

/* The index of `text` among the NULL-terminated `words`, or a negative errno. */
static int word(struct parser *parser, const char *name, const char *text, const char *const *words)
{
	char all[64] = "";

	for (int i = 0; words[i] != NULL; i++) {
		size_t used = strlen(all);

		if (strcmp(text, words[i]) == 0)
			return i;
		snprintf(all + used, sizeof(all) - used, "%s%s", i == 0 ? "" : ", ", words[i]);
	}
	return fail(parser, "--%s %s: give one of %s", name, text, all);
}

static int parse_one(struct parser *parser, int option, char *text)
{
	static const char *const topologies[] = {"loop", "pair", NULL};
	static const char *const verifies[] = {"sampled", "header", "all", NULL};
	struct options *options = parser->options;
	uint32_t value;
	int ret;

	switch (option) {
	case 's':
		return add_socket(parser, text);
	case 'j':
		options->json = true;
		return 0;
	case OPT_TOPOLOGY:
		ret = word(parser, "topology", text, topologies);
		options->topology = (enum options_topology)ret;
		parser->topology_given = true;
		return ret < 0 ? ret : 0;
	case OPT_VERIFY:
		ret = word(parser, "verify", text, verifies);
		options->verify = (enum options_verify)ret;
		return ret < 0 ? ret : 0;
	case OPT_ONE_WAY:
		options->one_way = true;
		return 0;
	case OPT_LOG:
		options->log = true;
		return 0;
	case OPT_SLEEP:
		options->sleep = true;
		return 0;
	case OPT_RECONNECT:
		options->reconnect = true;
		return 0;
	case OPT_QUEUES:
		return number32(parser, "queues", text, 1, OPTIONS_MAX_QUEUES, &options->n_queues);
	case OPT_RING:
		return number32(parser, "ring", text, 2, 32768, &options->ring_size);
	case OPT_FLOWS:
		return number32(parser, "flows", text, 1, FRAME_MAX_FLOWS, &options->n_flows);
	case OPT_REGIONS:
		return number32(parser, "regions", text, 1, GMEM_MAX_REGIONS, &options->n_regions);
	case OPT_MACS:
		return number32(parser, "macs", text, 1, FRAME_MAX_ADDRESSES, &options->n_macs);
	case OPT_FEATURES:
		return parse_features(parser, text);
	case OPT_VLAN:
		return parse_vlan(parser, text);
	case OPT_SIZE:
		return parse_size(parser, text);
	case OPT_MSS:
		return number32(parser, "mss", text, 88, 65000, &options->mss);
	case OPT_WINDOW:
		return number32(
			parser, "window", text, 1, OPTIONS_MAX_QUEUES * 32768, &options->window);
	case OPT_RATE:
		return number(parser, "rate", text, 1, 1000000000, &options->rate_pps);
	case OPT_BURSTS:
		return number(parser, "bursts", text, 1, UINT64_C(1) << 48, &options->n_bursts);
	case OPT_PAUSE_US:
		return number(parser, "pause-us", text, 0, 10 * 1000 * 1000, &options->pause_us);
	case OPT_SEED:
		parser->seed_given = true;
		return number(parser, "seed", text, 0, UINT32_MAX, &options->seed);
	case OPT_IDLE:
		options->idle = true;
		return 0;
	case OPT_BATCH:
		return number32(parser, "batch", text, 1, 256, &options->batch);
	case OPT_RX_BUFFER:
		return number32(parser, "rx-buffer", text, 128, 1 << 20, &options->rx_buffer_bytes);
	case OPT_SEGMENT:
		return number32(parser, "segment", text, 64, 1 << 20, &options->segment_bytes);
	case OPT_COUNT:
		return number(parser, "count", text, 1, UINT64_C(1) << 48, &options->count);
	case OPT_DURATION:
		parser->duration_given = true;
		return seconds(parser, "duration", text, 0.001, 1e6, &options->duration_us);
	case OPT_DEADLINE:
		return seconds(parser, "deadline", text, 0.001, 1e5, &options->deadline_us);
	case OPT_STALL:
		return seconds(parser, "stall", text, 0.001, 100, &options->stall_us);
	case OPT_INTERVAL:
		return seconds(parser, "interval", text, 0.01, 1e5, &options->interval_us);
	case OPT_CPU:
		if (number32(parser, "cpu", text, 0, 1023, &value) != 0)
			return -EINVAL;
		options->cpu = (int)value;
		return 0;
	default:
		return fail(parser, "unknown option; see ringbench --help");
	}
}

static int apply_socket_settings(struct parser *parser)
{
	struct options *options = parser->options;

	if (parser->highest_socket > options->n_sockets)
		return fail(parser, "a setting names socket %u, but there are only %u (--socket)",
			parser->highest_socket, options->n_sockets);
	for (unsigned int i = 0; i < options->n_sockets; i++) {
		struct options_socket *entry = &options->sockets[i];
		const struct options_socket *own = &parser->each[i];

		entry->features_on =
			(parser->all.features_on & ~own->features_off) | own->features_on;
		entry->features_off =
			(parser->all.features_off & ~own->features_on) | own->features_off;
		entry->vlan = own->vlan != 0 ? own->vlan : parser->all.vlan;
	}
	return 0;
}

static int check_topology(struct parser *parser)
{
	struct options *options = parser->options;

	if (!parser->topology_given)
		options->topology = options->n_sockets == 1 ? TOPOLOGY_LOOP : TOPOLOGY_PAIR;
	if (options->topology == TOPOLOGY_PAIR && options->n_sockets % 2 != 0)
		return fail(parser,
			"%u sockets cannot be paired: give an even number of --socket, or "
			"--topology loop",
			options->n_sockets);
	if (options->topology == TOPOLOGY_LOOP && options->one_way)
		return fail(parser, "--one-way needs pairs of sockets (--topology pair)");
	return 0;
}

uint32_t options_next_split_size(const struct options *options)
{
	uint32_t next = 2;

	while (next < options->ring_size)
		next *= 2;
	return next;
}

static int check_ring(struct parser *parser)
{
	struct options *options = parser->options;

	for (unsigned int i = 0; i < options->n_sockets; i++)
		if (!options_ring_is_split_size(options) &&
			!(options->sockets[i].features_on & FEATURE(VIRTIO_F_RING_PACKED)))
			return fail(parser,
				"--ring %u: a ring's size is a power of two, unless it is packed; try "
				"--ring %u, or --features +packed",
				options->ring_size, options_next_split_size(options));
	return 0;
}

static int check_sizes(struct parser *parser)
{
	struct options *options = parser->options;
	uint32_t smallest = options->imix ? 64 : options->size;

	for (unsigned int i = 0; i < options->n_sockets; i++) {
		struct frame_format format;

		frame_format_init(&format, 1, 2, options->sockets[i].vlan, false, 0);
		if (smallest < frame_size_min(&format))
			return fail(parser,
				"--size %u: a tagged frame (--vlan) has room for its record from "
				"%u on",
				smallest, frame_size_min(&format));
	}
	return 0;
}

/* What is left open about on/off traffic, and what it excludes. */
static int check_bursts(struct parser *parser)
{
	struct options *options = parser->options;
	uint32_t seed;

	if (options->n_bursts != 0 && !options_are_bursts(options))
		options->pause_us = 1000;
	if (options->stall_us == 0)
		options->stall_us = options_are_bursts(options) ? 1000 * 1000 : 500 * 1000;
	if (options->idle && (options_are_bursts(options) || options->rate_pps != 0 || options->count != 0))
		return fail(parser, "--idle sends nothing: leave out --bursts, --pause-us, --rate and --count");
	if (!options_are_bursts(options))
		return parser->seed_given ? fail(parser, "--seed belongs to on/off traffic: --bursts or --pause-us") : 0;
	if (options->rate_pps != 0 || options->count != 0)
		return fail(parser, "--bursts and --pause-us say how much is sent and when: leave out --%s",
			options->rate_pps != 0 ? "rate" : "count");
	if (!parser->seed_given) {
		if (getrandom(&seed, sizeof(seed), 0) != sizeof(seed))
			return fail(parser, "no random number for --seed; give one");
		options->seed = seed;
	}
	if (options->n_bursts != 0 && !parser->duration_given)
		options->duration_us = UINT64_MAX;
	return 0;
}

static int check_all(struct parser *parser)
{
	struct options *options = parser->options;

	if (options->n_sockets == 0)
		return fail(parser, "no socket given: ringbench -s PATH; see ringbench --help");
	if (options->n_flows == 0)
		options->n_flows = options->n_queues;
	if (options->n_flows < options->n_queues)
		return fail(parser,
			"--flows %u: each of the %u queue pairs needs a flow of its own",
			options->n_flows, options->n_queues);
	if (options->count != 0 && !parser->duration_given)
		options->duration_us = UINT64_MAX;
	if (options->rate_pps != 0 && options->window != 0)
		return fail(parser, "--window belongs to the closed loop and --rate to the open "
				    "one; give one of them");
	if (check_bursts(parser) != 0 || check_topology(parser) != 0 || apply_socket_settings(parser) != 0 ||
		check_ring(parser) != 0)
		return -EINVAL;
	return check_sizes(parser);
}

enum options_result options_parse(
	struct options *options, int argc, char **argv, char *error, size_t error_size)
{
	struct parser parser = {.options = options, .error = error, .error_size = error_size};
	int option;

	*options = (struct options){
		.n_queues = 1,
		.n_macs = 1,
		.n_regions = 1,
		.ring_size = 256,
		.size = 64,
		.mss = 1448,
		.batch = 32,
		.segment_bytes = 4096,
		.duration_us = 5 * 1000 * 1000,
		.deadline_us = 10 * 1000 * 1000,
		.pause_us = OPTIONS_NO_BURSTS,
		.cpu = -1,
	};
	error[0] = '\0';
	optind = 0; /* start over, also when called twice (tests) */
	opterr = 0;
	while ((option = getopt_long(argc, argv, ":s:jhV", long_options, NULL)) != -1) {
		if (option == 'h') {
			fputs(usage, stdout);
			return OPTIONS_DONE;
		}
		if (option == 'V') {
			puts("ringbench " RINGWAY_VERSION);
			return OPTIONS_DONE;
		}
		if (option == '?' || option == ':') {
			fail(&parser,
				option == ':' ? "%s needs a value; see ringbench --help"
					      : "%s is not an option; see ringbench --help",
				argv[optind - 1]);
			return OPTIONS_ERROR;
		}
		if (parse_one(&parser, option, optarg) != 0)
			return OPTIONS_ERROR;
	}
	if (optind < argc) {
		fail(&parser,
			"%s: there are no arguments besides options; sockets are given with -s",
			argv[optind]);
		return OPTIONS_ERROR;
	}
	return check_all(&parser) == 0 ? OPTIONS_RUN : OPTIONS_ERROR;
}

uint32_t options_max_size(const struct options *options)
{
	return options->imix ? 1518 : options->size;
}

uint32_t options_slot_size(const struct options *options, unsigned int slot)
{
	/* Spread as evenly as 7:4:1 goes, so that every stretch of the ring has the mix. */
	static const uint16_t imix[12] = {64, 590, 64, 64, 590, 64, 1518, 64, 590, 64, 590, 64};

	return options->imix ? imix[slot % 12] : options->size;
}
