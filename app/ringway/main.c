/* SPDX-License-Identifier: BSD-3-Clause */
#include <getopt.h>
#include <stdio.h>
#include <string.h>

#include <rte_version.h>

#include <base/log.h>

#include "daemon.h"
#include "demo.h"

#define EXIT_FAILED 1
#define EXIT_USAGE  2

static const char usage[] =
	"Usage: ringway --config FILE      run with the configuration in FILE (YAML or JSON)\n"
	"       ringway --check FILE       check FILE and say what is wrong with it\n"
	"       ringway demo [--once] [-j] show two guests exchanging frames; needs no root, NIC or VM\n"
	"       ringway --version\n"
	"       ringway --help\n"
	"\n"
	"A running ringway is looked at and changed with ringwayctl.\n"
	"Exit status: 0 done, 1 failed while running, 2 wrong arguments or configuration.\n";

static int usage_error(const char *what)
{
	fprintf(stderr, "ringway: %s\n\n%s", what, usage);
	return EXIT_USAGE;
}

static int run(const char *path, bool only_check)
{
	struct config_error error;
	struct config *config;
	int rc;

	if (config_load(path, &config, &error) != 0) {
		log_error("%s", error.message);
		return EXIT_USAGE;
	}
	if (only_check) {
		printf("%s: %u ports, %u bridges, %u cross-connects: good\n", path,
			config->n_ports, config->n_bridges, config->n_cross_connects);
		config_free(config);
		return 0;
	}
	log_set_level(config->log.level);
	rc = daemon_run(config);
	config_free(config);
	return rc == 0 ? 0 : EXIT_FAILED;
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "config", required_argument, NULL, 'c' },
		{ "check", required_argument, NULL, 'k' },
		{ "version", no_argument, NULL, 'v' },
		{ "help", no_argument, NULL, 'h' },
		{ NULL, 0, NULL, 0 },
	};
	const char *config = NULL, *check = NULL;
	int option;

	if (argc > 1 && strcmp(argv[1], "demo") == 0)
		return demo_main(argc - 1, argv + 1);
	while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (option) {
		case 'c':
			config = optarg;
			break;
		case 'k':
			check = optarg;
			break;
		case 'v':
			printf("ringway %s (%s)\n", RINGWAY_VERSION, rte_version());
			return 0;
		case 'h':
			fputs(usage, stdout);
			return 0;
		default:
			return usage_error("unknown option");
		}
	}
	if (optind < argc)
		return usage_error("unexpected argument");
	if ((config == NULL) == (check == NULL))
		return usage_error("give either --config FILE or --check FILE");
	return run(config != NULL ? config : check, check != NULL);
}
