/* SPDX-License-Identifier: BSD-3-Clause */
/* What the table of commands says, for people: --help and the manual page. */
#ifndef HELP_H
#define HELP_H

#include <stdio.h>

#include "command.h"

/* Every command, the options, the exit status. */
void help_print(FILE *out);

/* One command; NULL as for help_print(). */
void help_print_command(FILE *out, const struct command *command);

/* The manual page in roff(7) with the man(7) macros. */
void help_print_man(FILE *out);

#endif
