/* SPDX-License-Identifier: BSD-3-Clause */
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "options.h"
#include "report.h"
#include "run.h"
#include "tsc.h"

enum {
	EXIT_CHECK_FAILED = 1,
	EXIT_USAGE = 2,
	EXIT_NO_SESSION = 3,
};

static volatile sig_atomic_t stop;

static void request_stop(int signal_number)
{
	stop = 1;
}

static int pin(const struct options *options, char *error, size_t error_size)
{
	cpu_set_t cpus;

	if (options->cpu < 0)
		return 0;
	CPU_ZERO(&cpus);
	CPU_SET((size_t)options->cpu, &cpus);
	if (sched_setaffinity(0, sizeof(cpus), &cpus) == 0)
		return 0;
	snprintf(error, error_size, "--cpu %d: %s; taskset -p shows the allowed CPUs", options->cpu,
		strerror(errno));
	return -errno;
}

static int run_and_report(struct run *run, const struct options *options)
{
	enum run_status status = run_open(run, options, &stop);
	bool ok;

	if (status != RUN_OK) {
		report_failure(options->json, stop ? "stopped before the first frame" : run->error);
		return status == RUN_NO_SESSION ? EXIT_NO_SESSION : EXIT_CHECK_FAILED;
	}
	run->interval = options->interval_us != 0 ? report_interval : NULL;
	status = run_measure(run);
	if (status != RUN_OK)
		fprintf(stderr, "ringbench: %s\n", run->error);
	ok = report_result(run, status);
	return ok ? EXIT_SUCCESS : EXIT_CHECK_FAILED;
}

int main(int argc, char **argv)
{
	struct sigaction on_stop = {.sa_handler = request_stop};
	char error[OPTIONS_ERROR_MAX];
	struct options options;
	struct run *run;
	int status;

	switch (options_parse(&options, argc, argv, error, sizeof(error))) {
	case OPTIONS_DONE:
		return EXIT_SUCCESS;
	case OPTIONS_ERROR:
		report_failure(options.json, error);
		return EXIT_USAGE;
	case OPTIONS_RUN:
		break;
	}
	sigaction(SIGINT, &on_stop, NULL);
	sigaction(SIGTERM, &on_stop, NULL);
	signal(SIGPIPE, SIG_IGN);
	if (pin(&options, error, sizeof(error)) != 0) {
		report_failure(options.json, error);
		return EXIT_USAGE;
	}
	run = malloc(sizeof(*run));
	if (run == NULL) {
		report_failure(options.json, "out of memory");
		return EXIT_CHECK_FAILED;
	}
	tsc_hz();
	status = run_and_report(run, &options);
	run_close(run);
	free(run);
	return status;
}
