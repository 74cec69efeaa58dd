/* SPDX-License-Identifier: BSD-3-Clause */
/* The program without its process: what main() does, testable. */
#ifndef CTL_H
#define CTL_H

#include <stdio.h>

#define CTL_SOCKET_VARIABLE "RINGWAY_SOCKET"
#define CTL_TIMEOUT_MS      10000

enum ctl_status {
	CTL_DONE = 0,
	CTL_REFUSED = 1,     /* by the daemon */
	CTL_USAGE = 2,       /* by us */
	CTL_UNREACHABLE = 3, /* no connection, or no answer */
};

/* Results go to `out`, errors to `err`. Not reentrant: getopt_long(3). */
enum ctl_status ctl_run(int argc, char **argv, FILE *out, FILE *err);

#endif
