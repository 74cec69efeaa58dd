/* SPDX-License-Identifier: BSD-3-Clause */
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_log.h>
#include <rte_mbuf.h>

#include "eal.h"

#define DEFAULT_MEMORY_MB 192

/* Packets per node: every NIC queue full on both sides, plus what software segmentation holds for a moment. */
#define POOL_PACKETS 16383
#define POOL_CACHE   256

#define ARGS_MAX 64

/* Arguments for rte_eal_init(). */
struct arguments {
	int n;
	char *values[ARGS_MAX];
};

static void add(struct arguments *arguments, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

static void add(struct arguments *arguments, const char *format, ...)
{
	va_list args;

	if (arguments->n == ARGS_MAX - 1)
		return;
	va_start(args, format);
	if (vasprintf(&arguments->values[arguments->n], format, args) >= 0)
		arguments->n++;
	va_end(args);
}

/* "0-2,5" of a set. */
static void cpus_to_text(const cpu_set_t *set, char *text, size_t size)
{
	size_t used = 0;

	text[0] = '\0';
	for (int cpu = 0; cpu < CPU_SETSIZE && used < size; cpu++) {
		int last = cpu;

		if (!CPU_ISSET(cpu, set))
			continue;
		while (last + 1 < CPU_SETSIZE && CPU_ISSET(last + 1, set))
			last++;
		if (last > cpu)
			used += (size_t)snprintf(&text[used], size - used, "%s%d-%d",
				used > 0 ? "," : "", cpu, last);
		else
			used += (size_t)snprintf(
				&text[used], size - used, "%s%d", used > 0 ? "," : "", cpu);
		cpu = last;
	}
}

/* CPUs for the workers, in order, and for the rest. */
static int cpus_choose(const struct config *config, unsigned int *cpus, unsigned int *n_cpus,
	cpu_set_t *rest, char *error, size_t error_size)
{
	cpu_set_t allowed;
	char text[256];
	unsigned int n = 0;

	if (sched_getaffinity(0, sizeof(allowed), &allowed) != 0) {
		snprintf(error, error_size, "cannot read the allowed CPUs: %s", strerror(errno));
		return -errno;
	}
	cpus_to_text(&allowed, text, sizeof(text));
	*rest = allowed;
	for (uint32_t i = 0; i < config->workers.n_cpus; i++) {
		unsigned int cpu = config->workers.cpus[i];

		if (!CPU_ISSET(cpu, &allowed)) {
			snprintf(error, error_size,
				"workers.cpus: CPU %u is not allowed for this process; allowed: %s; "
				"change the list or the process's affinity (taskset, CPUAffinity=)",
				cpu, text);
			return -EINVAL;
		}
		if (n == PORT_MAX_WORKERS) {
			snprintf(error, error_size, "workers.cpus: %u CPUs; allowed: at most %d",
				config->workers.n_cpus, PORT_MAX_WORKERS);
			return -EINVAL;
		}
		cpus[n++] = cpu;
		CPU_CLR(cpu, rest);
	}
	if (n == 0) {
		/* All but the first, which stays for the control thread; the only one if there is but one. */
		int left = CPU_COUNT(&allowed) - 1;

		for (unsigned int cpu = CPU_SETSIZE; cpu-- > 0 && n < PORT_MAX_WORKERS;) {
			if (!CPU_ISSET(cpu, &allowed) || (n > 0 && left == 0))
				continue;
			cpus[n++] = cpu;
			CPU_CLR(cpu, rest);
			left--;
		}
	}
	if (CPU_COUNT(rest) == 0)
		*rest = allowed;
	*n_cpus = n;
	return 0;
}

/* MiB of free hugepages of all sizes. */
static uint64_t hugepages_free_mb(void)
{
	static const char root[] = "/sys/kernel/mm/hugepages";
	DIR *directory = opendir(root);
	struct dirent *entry;
	uint64_t kb = 0;

	while (directory != NULL && (entry = readdir(directory)) != NULL) {
		char path[sizeof(root) + sizeof(entry->d_name) + 32];
		unsigned long page_kb, n_free = 0;
		FILE *file;

		if (sscanf(entry->d_name, "hugepages-%lukB", &page_kb) != 1 || page_kb < 2048)
			continue;
		snprintf(path, sizeof(path), "%s/%s/free_hugepages", root, entry->d_name);
		file = fopen(path, "re");
		if (file == NULL)
			continue;
		if (fscanf(file, "%lu", &n_free) == 1)
			kb += n_free * page_kb;
		fclose(file);
	}
	if (directory != NULL)
		closedir(directory);
	return kb / 1024;
}

static void memory_choose(const struct config *config, struct arguments *arguments)
{
	uint64_t need_mb = config->memory.mb != 0 ? config->memory.mb : DEFAULT_MEMORY_MB;
	uint64_t free_mb = hugepages_free_mb();

	if (config->memory.hugepages == CONFIG_HUGEPAGES_AUTO && free_mb >= need_mb) {
		add(arguments, "--in-memory");
		return;
	}
	if (config->memory.hugepages == CONFIG_HUGEPAGES_AUTO)
		log_warn("memory: running without hugepages (%lu MiB free, %lu needed): every packet "
			 "costs more TLB misses; to have them: echo %lu > /proc/sys/vm/nr_hugepages",
			(unsigned long)free_mb, (unsigned long)need_mb,
			(unsigned long)(need_mb + 1) / 2);
	/* EAL refuses --in-memory together with --no-huge. */
	add(arguments, "--no-huge");
	add(arguments, "--no-shconf");
	add(arguments, "-m");
	add(arguments, "%lu", (unsigned long)need_mb);
}

int eal_start(
	const struct config *config, struct workers_config *workers, char *error, size_t error_size)
{
	struct arguments arguments = { 0 };
	unsigned int cpus[PORT_MAX_WORKERS];
	char lcores[PORT_MAX_WORKERS * 16 + 512];
	char *values[ARGS_MAX];
	char rest_text[256];
	size_t used;
	cpu_set_t rest;
	int rc = cpus_choose(config, cpus, &workers->n_workers, &rest, error, error_size);

	if (rc != 0)
		return rc;
	cpus_to_text(&rest, rest_text, sizeof(rest_text));
	used = (size_t)snprintf(lcores, sizeof(lcores), "0@(%s)", rest_text);
	for (unsigned int i = 0; i < workers->n_workers; i++) {
		workers->lcore_ids[i] = i + 1;
		used += (size_t)snprintf(
			&lcores[used], sizeof(lcores) - used, ",%u@%u", i + 1, cpus[i]);
	}
	add(&arguments, "ringway");
	add(&arguments, "--lcores");
	add(&arguments, "%s", lcores);
	add(&arguments, "--main-lcore");
	add(&arguments, "0");
	add(&arguments, "--file-prefix");
	add(&arguments, "ringway-%d", (int)getpid());
	add(&arguments, "--no-telemetry");
	add(&arguments, "--log-level=*:%s", config->log.level == LOG_LEVEL_DEBUG ? "info" : "error");
	memory_choose(config, &arguments);
	if (config->eal.vfio_intr != CONFIG_VFIO_INTR_AUTO)
		add(&arguments, "--vfio-intr=%s", config_vfio_intr_name(config->eal.vfio_intr));
	/*
	 * An allow list with nothing useful in it: no device is touched now, since it may be in use by somebody else, and
	 * ports attach theirs by name, also later. With --no-pci that would be impossible.
	 */
	add(&arguments, "-a");
	add(&arguments, "0000:00:00.0");

	/* EAL's libraries print to standard error by themselves; before their levels are parsed this one counts. */
	rte_log_set_global_level(
		config->log.level == LOG_LEVEL_DEBUG ? RTE_LOG_DEBUG : RTE_LOG_WARNING);
	/* EAL moves the pointers of the array it is given about, so it gets a copy. */
	memcpy(values, arguments.values, sizeof(values));
	rc = rte_eal_init(arguments.n, values);
	for (int i = 0; i < arguments.n; i++)
		free(arguments.values[i]);
	if (rc < 0) {
		snprintf(error, error_size,
			"DPDK did not start: %s; run with log: {level: debug} to see why",
			rte_strerror(rte_errno));
		return -rte_errno;
	}
	workers->pool_of_node = eal_pool_of_node;
	return 0;
}

struct rte_mempool *eal_pool_of_node(int numa_node)
{
	static struct rte_mempool *pools[RTE_MAX_NUMA_NODES + 1];
	struct rte_mempool **pool = &pools[numa_node + 1];
	char name[32];

	if (numa_node < -1 || numa_node >= RTE_MAX_NUMA_NODES)
		return eal_pool_of_node(-1);
	if (*pool == NULL) {
		snprintf(name, sizeof(name), "packets_%d", numa_node);
		*pool = rte_pktmbuf_pool_create(name, POOL_PACKETS, POOL_CACHE, 0,
			RTE_MBUF_DEFAULT_BUF_SIZE, numa_node);
	}
	return *pool;
}

void eal_stop(void)
{
	rte_eal_cleanup();
}
