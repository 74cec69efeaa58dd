/* SPDX-License-Identifier: BSD-3-Clause */
#include <string.h>

#include "command.h"
#include "render.h"

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
		.argument = "NAME",
		.parameter = "name",
		.completer = COMPLETE_PORTS,
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
		.argument = "NAME",
		.parameter = "name",
		.is_argument_required = true,
		.takes_pairs = true,
	},
	{
		.noun = "port",
		.verb = "remove",
		.summary = "remove a port at run time",
		.details =
			"Its peer is disconnected, its rings are stopped and its MAC addresses are "
			"forgotten.",
		.method = "port.remove",
		.argument = "NAME",
		.parameter = "name",
		.is_argument_required = true,
		.completer = COMPLETE_PORTS,
	},
	{
		.noun = "bridge",
		.verb = "show",
		.summary = "list the bridges and cross-connects",
		.details = "With the members of each and the use of its table of MAC addresses.",
		.method = "bridge.show",
		.argument = "NAME",
		.parameter = "name",
		.completer = COMPLETE_BRIDGES,
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
		.argument = "BRIDGE",
		.parameter = "bridge",
		.completer = COMPLETE_BRIDGES,
		.render = render_fdb,
	},
	{
		.noun = "worker",
		.verb = "show",
		.summary = "list the worker threads, their load and their queues",
		.details =
			"BUSY is the share of time spent on frames since the start; CYCLES is what "
			"one packet took on average.",
		.method = "worker.show",
		.render = render_workers,
	},
	{
		.noun = "stats",
		.summary = "show the counters of the ports",
		.details = "DROPS is the sum and, in brackets, the count for each reason.",
		.method = "stats",
		.argument = "PORT",
		.parameter = "name",
		.completer = COMPLETE_PORTS,
		.render = render_stats,
	},
};

const size_t n_commands = sizeof(commands) / sizeof(commands[0]);

const struct pair_key pair_keys[] = {
	{"type", PAIR_TEXT, "guest|nic", COMPLETE_NOTHING},
	{"role", PAIR_TEXT, "connect|listen", COMPLETE_NOTHING},
	{"socket", PAIR_TEXT, "PATH", COMPLETE_NOTHING},
	{"owner", PAIR_TEXT, "USER", COMPLETE_NOTHING},
	{"group", PAIR_TEXT, "GROUP", COMPLETE_NOTHING},
	{"mode", PAIR_TEXT, "OCTAL", COMPLETE_NOTHING},
	{"device", PAIR_TEXT, "DEVICE", COMPLETE_NOTHING},
	{"queues", PAIR_NUMBER, "N", COMPLETE_NOTHING},
	{"mtu", PAIR_NUMBER, "BYTES", COMPLETE_NOTHING},
	{"vlan.access", PAIR_NUMBER, "VID", COMPLETE_NOTHING},
	{"vlan.trunk", PAIR_LIST, "VID,VID-VID...", COMPLETE_NOTHING},
	{"vlan.native", PAIR_NUMBER, "VID", COMPLETE_NOTHING},
	{"bridge", PAIR_TEXT, "NAME", COMPLETE_BRIDGES},
};

const size_t n_pair_keys = sizeof(pair_keys) / sizeof(pair_keys[0]);

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

const char *command_usage(const struct command *command, char *text, size_t size)
{
	const char *argument = command->argument != NULL ? command->argument : "";
	bool is_optional = command->argument != NULL && !command->is_argument_required;

	snprintf(text, size, "%s%s%s%s%s%s%s%s", command->noun, command->verb != NULL ? " " : "",
		command->verb != NULL ? command->verb : "", argument[0] != '\0' ? " " : "",
		is_optional ? "[" : "", argument, is_optional ? "]" : "",
		command->takes_pairs ? " KEY=VALUE..." : "");
	return text;
}
