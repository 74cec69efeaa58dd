/* SPDX-License-Identifier: BSD-3-Clause */
#include <string.h>

#include "command.h"
#include "render.h"

#define MODES     "poll|adaptive|interrupt"
#define N_ROWS(a) (sizeof(a) / sizeof((a)[0]))

static const struct pair_key port_keys[] = {
	{"type", VALUE_TEXT, "guest|nic", COMPLETE_NOTHING},
	{"role", VALUE_TEXT, "connect|listen", COMPLETE_NOTHING},
	{"socket", VALUE_TEXT, "PATH", COMPLETE_NOTHING},
	{"owner", VALUE_TEXT, "USER", COMPLETE_NOTHING},
	{"group", VALUE_TEXT, "GROUP", COMPLETE_NOTHING},
	{"socket_mode", VALUE_TEXT, "OCTAL", COMPLETE_NOTHING},
	{"device", VALUE_TEXT, "DEVICE", COMPLETE_NOTHING},
	{"queues", VALUE_NUMBER, "N", COMPLETE_NOTHING},
	{"mtu", VALUE_NUMBER, "BYTES", COMPLETE_NOTHING},
	{"vlan.access", VALUE_NUMBER, "VID", COMPLETE_NOTHING},
	{"vlan.trunk", VALUE_LIST, "VID,VID-VID...", COMPLETE_NOTHING},
	{"vlan.native", VALUE_NUMBER, "VID", COMPLETE_NOTHING},
	{"mode", VALUE_TEXT, MODES, COMPLETE_NOTHING},
	{"coalesce.frames", VALUE_NUMBER, "N", COMPLETE_NOTHING},
	{"coalesce.us", VALUE_NUMBER, "N", COMPLETE_NOTHING},
	{"bridge", VALUE_TEXT, "NAME", COMPLETE_BRIDGES},
};

static const struct pair_key coalesce_keys[] = {
	{"frames", VALUE_NUMBER, "N", COMPLETE_NOTHING},
	{"us", VALUE_NUMBER, "N", COMPLETE_NOTHING},
};

static const struct pair_key top_keys[] = {
	{"interval", VALUE_TEXT, "S", COMPLETE_NOTHING},
	{"count", VALUE_NUMBER, "N", COMPLETE_NOTHING},
};

const struct command commands[] = {
	{
		.noun = "port",
		.verb = "show",
		.summary = "list the ports, or show one in full",
		.details =
			"Without NAME one line for each port. With NAME everything about it: peer, "
			"negotiated features, guest memory, the state of each ring, and drops by "
			"reason. rx is what comes from the guest or NIC into the switch, tx what "
			"goes to it.",
		.method = "port.show",
		.arguments = {{"NAME", "name", .completer = COMPLETE_PORTS}},
		.render = render_ports,
		.render_one = render_port,
	},
	{
		.noun = "port",
		.verb = "add",
		.summary = "add a port at run time",
		.details =
			"The keys are those of a port in the configuration file, and bridge, which "
			"names the bridge that the port joins. The port is gone after a restart "
			"unless it is added to the file, too.",
		.method = "port.add",
		.arguments = {{"NAME", "name", .is_required = true}},
		.pairs = port_keys,
		.n_pairs = N_ROWS(port_keys),
	},
	{
		.noun = "port",
		.verb = "remove",
		.summary = "remove a port at run time",
		.details =
			"Its peer is disconnected, its rings are stopped and its MAC addresses are "
			"forgotten.",
		.method = "port.remove",
		.arguments = {{"NAME", "name", .is_required = true, .completer = COMPLETE_PORTS}},
	},
	{
		.noun = "port",
		.verb = "mode",
		.summary = "set how long a port keeps its workers awake",
		.details =
			"poll: a worker that serves the port never sleeps. adaptive: it sleeps "
			"when "
			"it has found nothing to do for a while. interrupt: the port does not keep "
			"it awake. Lasts until a restart; the configuration file has it for good.",
		.method = "port.mode",
		.arguments = {{"NAME", "name", .is_required = true, .completer = COMPLETE_PORTS},
			{"MODE", "mode", .is_required = true, .values = MODES}},
	},
	{
		.noun = "port",
		.verb = "coalesce",
		.summary = "set when a guest is called for frames it has received",
		.details =
			"A call waits until so many frames were moved since the last one, or so "
			"many "
			"microseconds have passed since the first of them, or the worker goes to "
			"sleep. us=0: calls do not wait. frames=0: they wait for the time alone.",
		.method = "port.coalesce",
		.arguments = {{"NAME", "name", .is_required = true, .completer = COMPLETE_PORTS}},
		.pairs = coalesce_keys,
		.n_pairs = N_ROWS(coalesce_keys),
	},
	{
		.noun = "bridge",
		.verb = "show",
		.summary = "list the bridges and cross-connects",
		.details = "With the members of each and the use of its table of MAC addresses.",
		.method = "bridge.show",
		.arguments = {{"NAME", "name", .completer = COMPLETE_BRIDGES}},
		.render = render_bridges,
	},
	{
		.noun = "fdb",
		.verb = "show",
		.summary = "list the learned MAC addresses",
		.details =
			"One line for each VLAN and MAC address, with the port behind which it was "
			"last seen and how long ago.",
		.method = "fdb.show",
		.arguments = {{"BRIDGE", "bridge", .completer = COMPLETE_BRIDGES}},
		.render = render_fdb,
	},
	{
		.noun = "worker",
		.verb = "show",
		.summary = "list the worker threads, or show one in full",
		.details =
			"BUSY, IDLE and SLEEP are shares of the time since the start: spent on "
			"frames, on looking in vain, and asleep. WINDOW is how long a worker looks "
			"in vain before it sleeps, P50 and P99 how long the first frame waits for "
			"a "
			"worker that wakes, CYCLES what one packet took on average. With ID the "
			"wake-ups of each queue and how the times are spread.",
		.method = "worker.show",
		.arguments = {{"ID", "id", .kind = VALUE_NUMBER, .completer = COMPLETE_WORKERS}},
		.filtered_list = "workers",
		.render = render_workers,
		.render_one = render_worker,
	},
	{
		.noun = "worker",
		.verb = "mode",
		.summary = "set when a worker, or all of them, sleep",
		.details = "poll: never. adaptive: when there has been nothing to do for a while, "
			   "which "
			   "the ports' modes shorten or forbid. interrupt: as soon as there is "
			   "nothing "
			   "to do. Lasts until a restart; the configuration file has it for good.",
		.method = "worker.mode",
		.arguments = {{"ID", "id", .kind = VALUE_NUMBER, .completer = COMPLETE_WORKERS},
			{"MODE", "mode", .is_required = true, .values = MODES}},
	},
	{
		.noun = "worker",
		.verb = "ping",
		.summary = "measure how soon a worker, or all of them, answer",
		.details = "Wakes a worker that is asleep. One that does not answer in time is an "
			   "error that names it.",
		.method = "worker.ping",
		.arguments = {{"ID", "id", .kind = VALUE_NUMBER, .completer = COMPLETE_WORKERS}},
		.render = render_pings,
	},
	{
		.noun = "stats",
		.summary = "show the counters of the ports",
		.details = "DROPS is the sum and, in brackets, the count for each reason.",
		.method = "stats",
		.arguments = {{"PORT", "name", .completer = COMPLETE_PORTS}},
		.render = render_stats,
	},
	{
		.noun = "top",
		.summary = "show again and again what workers and ports do per second",
		.details =
			"Every `interval` seconds (0.1 to 3600, default 1), `count` times or until "
			"interrupted: for each worker the shares of the interval that it was busy, "
			"idle and asleep, packets, rounds and wake-ups by cause, and the cycles of "
			"a packet; for each port packets and drops. Those with most traffic come "
			"first. A terminal is redrawn; with -j each interval is one line.",
		.method = "worker.show",
		.pairs = top_keys,
		.n_pairs = N_ROWS(top_keys),
		.is_live = true,
	},
};

const size_t n_commands = N_ROWS(commands);

const struct command *command_find(const char *noun, const char *verb)
{
	for (size_t i = 0; i < n_commands; i++) {
		const struct command *c = &commands[i];

		if (strcmp(c->noun, noun) != 0)
			continue;
		if (c->verb == NULL || (verb != NULL && strcmp(c->verb, verb) == 0))
			return c;
	}
	return NULL;
}

static size_t arguments_required(const struct command *command)
{
	size_t n = 0;

	for (size_t i = 0; i < ARGUMENTS_MAX; i++)
		n += command->arguments[i].name != NULL && command->arguments[i].is_required;
	return n;
}

/* Optional ones get what the required ones leave. */
const struct argument *command_argument(const struct command *command, size_t word, size_t n_words)
{
	size_t n_required = arguments_required(command);
	size_t n_optional = n_words > n_required ? n_words - n_required : 0;

	for (size_t i = 0; i < ARGUMENTS_MAX && command->arguments[i].name != NULL; i++) {
		const struct argument *argument = &command->arguments[i];

		if (!argument->is_required && n_optional == 0)
			continue;
		if (word-- == 0)
			return argument;
		n_optional -= !argument->is_required;
	}
	return NULL;
}

/* More keys than this are not worth a line of usage. */
#define USAGE_KEYS_MAX 3

const char *command_usage(const struct command *command, char *text, size_t size)
{
	FILE *out = fmemopen(text, size, "w");

	if (out == NULL) {
		snprintf(text, size, "%s", command->noun);
		return text;
	}
	fprintf(out, "%s", command->noun);
	if (command->verb != NULL)
		fprintf(out, " %s", command->verb);
	for (size_t i = 0; i < ARGUMENTS_MAX && command->arguments[i].name != NULL; i++)
		fprintf(out, command->arguments[i].is_required ? " %s" : " [%s]",
			command->arguments[i].name);
	if (command->n_pairs > USAGE_KEYS_MAX)
		fputs(" KEY=VALUE...", out);
	for (size_t i = 0; command->n_pairs <= USAGE_KEYS_MAX && i < command->n_pairs; i++)
		fprintf(out, " [%s=%s]", command->pairs[i].name, command->pairs[i].values);
	fclose(out);
	return text;
}
