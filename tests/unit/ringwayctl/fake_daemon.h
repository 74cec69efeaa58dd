/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A daemon with canned answers behind a real control socket, in a child process. Known are: ports
 * vm1 (guest) and up0 (NIC), bridge br0, a cross-connect, two workers. Methods that change
 * something answer with their params; port.remove refuses.
 */
#ifndef FAKE_DAEMON_H
#define FAKE_DAEMON_H

#include <sys/types.h>

#include <jansson.h>

struct fake_daemon {
	char dir[64];
	char path[96];
	pid_t child;
};

/* 0, or -1. */
int fake_daemon_start(struct fake_daemon *daemon);

/* 0, or -1 if something was left behind. */
int fake_daemon_stop(struct fake_daemon *daemon);

/* The canned result of a method, as a new reference; NULL: none. */
json_t *fake_daemon_result(const char *method);

#endif
