/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The demo starts the real daemon with two guest ports in a bridge, and ringbench, which is the two guests' drivers: real
 * processes, real sockets, real rings; no NIC, VM, hugepages or root. It then checks what the daemon and the guests say.
 */
#include <errno.h>
#include <getopt.h>
#include <libgen.h>
#include <limits.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <jansson.h>

#include <base/clock.h>
#include <control/client.h>

#include "demo.h"

#define FRAMES_EACH_WAY  500000
#define START_TIMEOUT_US (10 * 1000 * 1000)
#define RUN_TIMEOUT_US   (120 * 1000 * 1000)
#define TABLE_PERIOD_US  500000
#define POLL_US          20000

#define GUEST_A_MAC "52:54:00:72:62:01"
#define GUEST_B_MAC "52:54:00:72:62:02"

struct demo {
	bool once;
	bool json;
	bool all_good;
	char directory[64];
	char control[96];
	char ringway[PATH_MAX];
	char ringbench[PATH_MAX];
	pid_t daemon;
	pid_t guests;
	json_t *checks; /* what was checked and found, for -j */
	uint64_t table_us;
	json_int_t last_tx[2];
};

static volatile sig_atomic_t interrupted;

static void on_interrupt(int signal_number)
{
	interrupted = 1;
}

static void say(const struct demo *demo, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

static void say(const struct demo *demo, const char *format, ...)
{
	va_list args;

	if (demo->json)
		return;
	va_start(args, format);
	vprintf(format, args);
	va_end(args);
	fflush(stdout);
}

static void check(struct demo *demo, const char *name, bool good, const char *format, ...)
	__attribute__((format(printf, 4, 5)));

static void check(struct demo *demo, const char *name, bool good, const char *format, ...)
{
	char detail[512];
	va_list args;

	va_start(args, format);
	vsnprintf(detail, sizeof(detail), format, args);
	va_end(args);
	demo->all_good = demo->all_good && good;
	say(demo, "  %-28s %-6s %s\n", name, good ? "ok" : "FAILED", detail);
	json_array_append_new(demo->checks, json_pack("{s:s, s:b, s:s}", "check", name, "ok", good,
						    "detail", detail));
}

/* Finds the program beside ours: in the build tree each has a folder, installed they share one. */
static int find_programs(struct demo *demo)
{
	char self[PATH_MAX];
	char folder[PATH_MAX];
	ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);

	if (n < 0)
		return -errno;
	self[n] = '\0';
	snprintf(demo->ringway, sizeof(demo->ringway), "%s", self);
	snprintf(folder, sizeof(folder), "%s", dirname(self));
	if (snprintf(demo->ringbench, sizeof(demo->ringbench), "%s/ringbench", folder) >=
		(int)sizeof(demo->ringbench))
		return -ENAMETOOLONG;
	if (access(demo->ringbench, X_OK) == 0)
		return 0;
	if (snprintf(demo->ringbench, sizeof(demo->ringbench), "%s/../ringbench/ringbench", folder) >=
		(int)sizeof(demo->ringbench))
		return -ENAMETOOLONG;
	return access(demo->ringbench, X_OK) == 0 ? 0 : -ENOENT;
}

static int write_config(const struct demo *demo, char *path, size_t size)
{
	FILE *file;

	snprintf(path, size, "%s/demo.yaml", demo->directory);
	file = fopen(path, "we");
	if (file == NULL)
		return -errno;
	fprintf(file,
		"ports:\n"
		"  - {name: demo-a, type: guest, socket: %s/a.sock, role: listen}\n"
		"  - {name: demo-b, type: guest, socket: %s/b.sock, role: listen}\n"
		"bridges:\n"
		"  - {name: br0, ports: [demo-a, demo-b]}\n"
		"control: {socket: %s}\n"
		"log: {level: warn}\n"
		"memory: {hugepages: never, mb: 128}\n",
		demo->directory, demo->directory, demo->control);
	return fclose(file) == 0 ? 0 : -errno;
}

/* Starts a program that ends when we do; its standard output goes to `output` (-1: ours). */
static pid_t start(char *const argv[], int output)
{
	pid_t pid = fork();

	if (pid != 0)
		return pid;
	prctl(PR_SET_PDEATHSIG, SIGTERM);
	/* Ctrl-C is for us: we end the children, in order. */
	setpgid(0, 0);
	if (output >= 0)
		dup2(output, STDOUT_FILENO);
	execv(argv[0], argv);
	fprintf(stderr, "ringway demo: cannot start %s: %s\n", argv[0], strerror(errno));
	_exit(127);
}

/* Ends a child and takes its status; -1 if there is none. */
static int stop(pid_t *pid)
{
	int status = -1;

	if (*pid <= 0)
		return -1;
	kill(*pid, SIGTERM);
	waitpid(*pid, &status, 0);
	*pid = 0;
	return status;
}

static json_t *ask(const struct demo *demo, const char *method)
{
	struct control_error error;
	json_t *result;

	return control_client_call(demo->control, method, NULL, 2000, &result, &error) == 0 ?
		       result :
		       NULL;
}

static bool wait_for_daemon(struct demo *demo)
{
	uint64_t begin_us = clock_now_us();
	json_t *workers;

	while (clock_now_us() - begin_us < START_TIMEOUT_US && !interrupted) {
		workers = ask(demo, "worker.show");
		if (workers != NULL) {
			json_t *worker = json_array_get(json_object_get(workers, "workers"), 0);

			check(demo, "daemon runs", true, "after %lu ms, %zu worker(s), first on CPU %d",
				(unsigned long)((clock_now_us() - begin_us) / 1000),
				json_array_size(json_object_get(workers, "workers")),
				(int)json_integer_value(json_object_get(worker, "cpu")));
			json_decref(workers);
			return true;
		}
		if (waitpid(demo->daemon, NULL, WNOHANG) == demo->daemon) {
			demo->daemon = 0;
			break;
		}
		usleep(POLL_US);
	}
	check(demo, "daemon runs", false, "no answer on %s; its last words are above", demo->control);
	return false;
}

/* A line for each port: frames towards it and what was dropped, since the last call. */
static void print_table(struct demo *demo)
{
	uint64_t now_us = clock_now_us();
	json_t *result, *port;
	size_t i;

	if (demo->json || now_us - demo->table_us < TABLE_PERIOD_US)
		return;
	result = ask(demo, "stats");
	json_array_foreach(json_object_get(result, "ports"), i, port)
	{
		json_int_t tx = json_integer_value(json_object_get(port, "tx_packets"));
		json_t *drops = json_object_get(port, "drops"), *count;
		const char *reason;
		json_int_t n_dropped = 0;

		if (i >= 2)
			break;
		json_object_foreach(drops, reason, count)
			n_dropped += json_integer_value(count);
		if (demo->table_us != 0)
			printf("  %-28s %7.3f Mpps to the guest, %lld frames so far, %lld dropped\n",
				json_string_value(json_object_get(port, "name")),
				(double)(tx - demo->last_tx[i]) / (double)(now_us - demo->table_us),
				(long long)tx, (long long)n_dropped);
		demo->last_tx[i] = tx;
	}
	demo->table_us = now_us;
	json_decref(result);
	fflush(stdout);
}

/* Starts the two guests' drivers; what they report at the end comes out of *report. */
static pid_t start_guests(struct demo *demo, bool for_ever, int *report)
{
	char a[96], b[96], amount[32], cpu[16];
	char *argv[16] = { demo->ringbench, (char *)"-j", (char *)"-s", a, (char *)"-s", b };
	int n = 6;
	int ends[2];
	cpu_set_t allowed;

	snprintf(a, sizeof(a), "%s/a.sock", demo->directory);
	snprintf(b, sizeof(b), "%s/b.sock", demo->directory);
	argv[n++] = (char *)(for_ever ? "--duration" : "--count");
	snprintf(amount, sizeof(amount), "%d", for_ever ? 86400 : FRAMES_EACH_WAY);
	argv[n++] = amount;
	/* The daemon's worker has the last CPU; share none of it if there is another. */
	if (sched_getaffinity(0, sizeof(allowed), &allowed) == 0 && CPU_COUNT(&allowed) > 1) {
		int first = 0;

		while (!CPU_ISSET(first, &allowed))
			first++;
		snprintf(cpu, sizeof(cpu), "%d", first);
		argv[n++] = (char *)"--cpu";
		argv[n++] = cpu;
	} else {
		argv[n++] = (char *)"--sleep";
	}
	if (pipe(ends) != 0)
		return -1;
	demo->guests = start(argv, ends[1]);
	close(ends[1]);
	*report = ends[0];
	return demo->guests;
}

static bool learned(const json_t *entries, const char *mac, const char *port)
{
	const json_t *entry;
	size_t i;

	json_array_foreach(entries, i, entry)
	{
		if (strcmp(json_string_value(json_object_get(entry, "mac")), mac) == 0)
			return strcmp(json_string_value(json_object_get(entry, "port")), port) == 0;
	}
	return false;
}

static void check_daemon(struct demo *demo)
{
	json_t *result = ask(demo, "port.show");
	json_t *fdb = ask(demo, "fdb.show");
	json_t *entries = json_object_get(fdb, "entries");
	json_t *port;
	size_t i, n_running = 0;

	json_array_foreach(json_object_get(result, "ports"), i, port)
		n_running += json_integer_value(json_object_get(port, "connects")) > 0;
	check(demo, "two guests connected", n_running == 2, "%zu of 2 ports", n_running);
	check(demo, "addresses learned",
		learned(entries, GUEST_A_MAC, "demo-a") && learned(entries, GUEST_B_MAC, "demo-b"),
		"%zu in the table, each at its port", json_array_size(entries));
	json_decref(result);
	json_decref(fdb);
}

static json_int_t number(const json_t *object, const char *key)
{
	return json_integer_value(json_object_get(object, key));
}

static void check_report(struct demo *demo, json_t *report, int status)
{
	json_t *total = json_object_get(report, "total");
	json_int_t n = number(total, "received");

	check(demo, "frames arrived", n == 2 * FRAMES_EACH_WAY && number(total, "lost") == 0,
		"%lld of %d, %lld lost, %.2f Mpps", (long long)n, 2 * FRAMES_EACH_WAY,
		(long long)number(total, "lost"),
		json_number_value(json_object_get(total, "mpps")));
	check(demo, "in order, once each",
		n > 0 && number(total, "reordered") == 0 && number(total, "duplicated") == 0,
		"%lld reordered, %lld duplicated", (long long)number(total, "reordered"),
		(long long)number(total, "duplicated"));
	check(demo, "content unchanged", n > 0 && number(total, "corrupted") == 0,
		"%lld corrupted", (long long)number(total, "corrupted"));
	check(demo, "the guests agree", WIFEXITED(status) && WEXITSTATUS(status) == 0,
		"exit status %d", WIFEXITED(status) ? WEXITSTATUS(status) : -1);
}

/* Follows the guests until they end or time is up. Returns their wait status, -1 if they had to be ended. */
static int follow_guests(struct demo *demo, bool for_ever)
{
	uint64_t begin_us = clock_now_us();
	int status;

	demo->table_us = 0;
	while (!interrupted && (for_ever || clock_now_us() - begin_us < RUN_TIMEOUT_US)) {
		if (waitpid(demo->guests, &status, WNOHANG) == demo->guests) {
			demo->guests = 0;
			return status;
		}
		print_table(demo);
		usleep(POLL_US);
	}
	stop(&demo->guests);
	return -1;
}

static void run_million(struct demo *demo)
{
	json_error_t error;
	json_t *report;
	int output, status;

	if (start_guests(demo, false, &output) < 0) {
		check(demo, "guests start", false, "%s", strerror(errno));
		return;
	}
	status = follow_guests(demo, false);
	/* At most a few kilobytes, which the pipe holds: reading after the end is early enough. */
	report = json_loadfd(output, JSON_DISABLE_EOF_CHECK, &error);
	close(output);
	check_daemon(demo);
	check_report(demo, report, status);
	json_decref(report);
}

static void run_for_ever(struct demo *demo)
{
	int output;

	say(demo, "\nrunning until Ctrl-C; look at it with:  ringwayctl -s %s port show\n\n",
		demo->control);
	if (start_guests(demo, true, &output) < 0)
		return;
	follow_guests(demo, true);
	close(output);
}

static void run(struct demo *demo)
{
	char config[128];
	char *argv[] = { demo->ringway, (char *)"--config", config, NULL };

	if (write_config(demo, config, sizeof(config)) != 0) {
		check(demo, "daemon runs", false, "cannot write %s: %s", config, strerror(errno));
		return;
	}
	demo->daemon = start(argv, -1);
	if (demo->daemon < 0 || !wait_for_daemon(demo))
		return;
	run_million(demo);
	if (!demo->once && !interrupted)
		run_for_ever(demo);
	stop(&demo->guests);
	if (interrupted == 0 || !demo->once) {
		int status = stop(&demo->daemon);

		check(demo, "daemon stops cleanly", WIFEXITED(status) && WEXITSTATUS(status) == 0,
			"exit status %d", WIFEXITED(status) ? WEXITSTATUS(status) : -1);
	}
}

static void clean(struct demo *demo)
{
	static const char *const names[] = { "demo.yaml", "a.sock", "b.sock", "control.sock" };

	stop(&demo->guests);
	stop(&demo->daemon);
	for (unsigned int i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		char path[128];

		snprintf(path, sizeof(path), "%s/%s", demo->directory, names[i]);
		unlink(path);
	}
	rmdir(demo->directory);
}

static int options_parse(struct demo *demo, int argc, char **argv)
{
	static const struct option options[] = {
		{ "once", no_argument, NULL, 'o' },
		{ "json", no_argument, NULL, 'j' },
		{ NULL, 0, NULL, 0 },
	};
	int option;

	while ((option = getopt_long(argc, argv, "j", options, NULL)) != -1) {
		if (option == 'o')
			demo->once = true;
		else if (option == 'j')
			demo->json = true;
		else
			return -1;
	}
	return optind == argc ? 0 : -1;
}

int demo_main(int argc, char **argv)
{
	struct demo demo = { .all_good = true };
	const char *runtime = getenv("XDG_RUNTIME_DIR");
	struct sigaction action = { .sa_handler = on_interrupt };

	if (options_parse(&demo, argc, argv) != 0) {
		fprintf(stderr, "Usage: ringway demo [--once] [-j]\n");
		return 2;
	}
	if (find_programs(&demo) != 0) {
		fprintf(stderr, "ringway demo: no ringbench beside ringway; build or install it too\n");
		return 1;
	}
	if (runtime == NULL || access(runtime, W_OK) != 0 || strlen(runtime) > 40)
		runtime = "/tmp";
	snprintf(demo.directory, sizeof(demo.directory), "%s/ringway-XXXXXX", runtime);
	if (mkdtemp(demo.directory) == NULL) {
		fprintf(stderr, "ringway demo: cannot make %s: %s\n", demo.directory,
			strerror(errno));
		return 1;
	}
	snprintf(demo.control, sizeof(demo.control), "%s/control.sock", demo.directory);
	demo.checks = json_array();
	sigaction(SIGINT, &action, NULL);
	sigaction(SIGTERM, &action, NULL);

	say(&demo, "ringway %s demo: two virtio-net guests on a learning bridge\n", RINGWAY_VERSION);
	run(&demo);
	clean(&demo);
	if (demo.json) {
		json_t *result = json_pack("{s:b, s:o}", "ok", demo.all_good, "checks", demo.checks);

		json_dumpf(result, stdout, JSON_INDENT(2));
		printf("\n");
		json_decref(result);
	} else {
		json_decref(demo.checks);
	}
	say(&demo, demo.all_good ? "all good\n" : "something is wrong: see FAILED above\n");
	return demo.all_good ? 0 : 1;
}
