/* SPDX-License-Identifier: BSD-3-Clause */
#include <stdlib.h>
#include <string.h>

#include <config/config.h>

#include "ctl.h"
#include "help.h"

struct entry {
	const char *name;
	const char *text;
};

static const struct entry options[] = {
	{"-s, --socket PATH", "control socket of the daemon (default: $" CTL_SOCKET_VARIABLE
			      " or " CONFIG_CONTROL_SOCKET ")"},
	{"-j, --json", "print JSON, errors included (on standard error)"},
	{"-h, --help", "print this help, or that of a command"},
	{"-V, --version", "print the version"},
};

static const struct entry statuses[] = {
	{"0", "done"},
	{"1", "refused by the daemon; it says why"},
	{"2", "usage error"},
	{"3", "the daemon cannot be reached, or does not answer"},
};

#define N(entries) (sizeof(entries) / sizeof((entries)[0]))

#define NAME_WIDTH 26

/* A name that is too long has the text on the next line. */
static void print_entry(FILE *out, const char *name, const char *text)
{
	if (strlen(name) > NAME_WIDTH)
		fprintf(out, "  %s\n  %*s  %s\n", name, NAME_WIDTH, "", text);
	else
		fprintf(out, "  %-*s  %s\n", NAME_WIDTH, name, text);
}

static void print_entries(FILE *out, const struct entry *entries, size_t n)
{
	for (size_t i = 0; i < n; i++)
		print_entry(out, entries[i].name, entries[i].text);
}

void help_print(FILE *out)
{
	char usage[COMMAND_USAGE_MAX];

	fprintf(out, "usage: ringwayctl [-s SOCKET] [-j] COMMAND\n\ncommands:\n");
	for (size_t i = 0; i < n_commands; i++)
		print_entry(out, command_usage(&commands[i], usage, sizeof(usage)),
			commands[i].summary);
	fprintf(out, "\noptions:\n");
	print_entries(out, options, N(options));
	fprintf(out, "\nexit status:\n");
	print_entries(out, statuses, N(statuses));
}

/* Breaks at blanks; words longer than a line stay whole. */
static void print_wrapped(FILE *out, const char *text, size_t width)
{
	size_t column = 0;

	while (*text != '\0') {
		size_t n = strcspn(text, " ");

		if (column > 0 && column + 1 + n > width) {
			fputc('\n', out);
			column = 0;
		}
		column += (size_t)fprintf(out, "%s%.*s", column > 0 ? " " : "", (int)n, text);
		text += n + strspn(text + n, " ");
	}
	fputc('\n', out);
}

void help_print_command(FILE *out, const struct command *command)
{
	char usage[COMMAND_USAGE_MAX];

	if (command == NULL) {
		help_print(out);
		return;
	}
	fprintf(out, "usage: ringwayctl [-s SOCKET] [-j] %s\n\n",
		command_usage(command, usage, sizeof(usage)));
	print_wrapped(out, command->details, 78);
	if (command->n_pairs == 0)
		return;
	fprintf(out, "\nkeys:\n");
	for (size_t i = 0; i < command->n_pairs; i++)
		fprintf(out, "  %s=%s\n", command->pairs[i].name, command->pairs[i].values);
}

/* Text for roff: its own characters escaped. */
static void print_roff(FILE *out, const char *text)
{
	for (const char *c = text; *c != '\0'; c++) {
		if (*c == '\\')
			fputs("\\e", out);
		else if (*c == '-')
			fputs("\\-", out);
		else if ((c == text || c[-1] == '\n') && (*c == '.' || *c == '\''))
			fprintf(out, "\\&%c", *c);
		else
			fputc(*c, out);
	}
}

static void print_roff_entry(FILE *out, const char *name, const char *text)
{
	fputs(".TP\n.B ", out);
	print_roff(out, name);
	fputc('\n', out);
	print_roff(out, text);
	fputc('\n', out);
}

static void print_roff_command(FILE *out, const struct command *command)
{
	char usage[COMMAND_USAGE_MAX];

	print_roff_entry(out, command_usage(command, usage, sizeof(usage)), command->summary);
	fputs(".IP\n", out);
	print_roff(out, command->details);
	fputc('\n', out);
	if (command->n_pairs == 0)
		return;
	fputs(".IP\nKeys:\n", out);
	for (size_t i = 0; i < command->n_pairs; i++) {
		fputs(i == 0 ? ".BR " : ", \n.BR ", out);
		print_roff(out, command->pairs[i].name);
		fputs("=\n.I ", out);
		print_roff(out, command->pairs[i].values);
		fputc('\n', out);
	}
}

void help_print_man(FILE *out)
{
	fputs(".TH RINGWAYCTL 1 \"\" \"Ringway " RINGWAY_VERSION "\" \"Ringway manual\"\n"
	      ".SH NAME\nringwayctl \\- control a running Ringway switch\n"
	      ".SH SYNOPSIS\n.B ringwayctl\n.RB [ \\-s\n.IR SOCKET ]\n.RB [ \\-j ]\n"
	      ".IR COMMAND \" ...\"\n"
	      ".SH DESCRIPTION\nShows and changes what the daemon\n.BR ringway (1)\ndoes, over its "
	      "control socket.\n"
	      ".SH COMMANDS\n",
		out);
	for (size_t i = 0; i < n_commands; i++)
		print_roff_command(out, &commands[i]);
	fputs(".SH OPTIONS\n", out);
	for (size_t i = 0; i < N(options); i++)
		print_roff_entry(out, options[i].name, options[i].text);
	fputs(".SH EXIT STATUS\n", out);
	for (size_t i = 0; i < N(statuses); i++)
		print_roff_entry(out, statuses[i].name, statuses[i].text);
	fputs(".SH EXAMPLES\n.nf\n"
	      "ringwayctl port show\n"
	      "ringwayctl \\-j port show vm1\n"
	      "ringwayctl port add vm9 type=guest socket=/run/ringway/vm9.sock bridge=br0\n"
	      "ringwayctl port coalesce vm1 frames=32 us=50\n"
	      "ringwayctl worker mode 0 poll\n"
	      "ringwayctl top interval=2\n"
	      "ringwayctl port add up1 type=nic device=net_tap0,iface=tap0 vlan.trunk=10,20\\-29\n"
	      ".fi\n",
		out);
}
