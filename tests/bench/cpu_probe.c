/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * cpu_probe: what two CPUs get done per TSC cycle, right now.
 *
 * The TSC ticks at a fixed rate. The core's clock does not; a virtual CPU may share its core with a
 * stranger; and the host may move two virtual CPUs apart, so that a cache line takes four times
 * as long from one to the other. No counter inside the machine shows any of these, and each
 * changes the TSC cycles per packet of any program. Prints, in TSC cycles:
 *   adds           8 dependent additions on the first CPU: its clock
 *   parallel_adds  16 independent additions there: slower when the core is shared, too
 *   line           a cache line's way from the first CPU to the second and back
 */
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <x86intrin.h>

#define N_ROUNDS 5000
/* Each sample takes some 10 us, so the fastest of some is undisturbed. */
#define N_SAMPLES 20
#define N_TRIPS   3000

static struct {
	_Alignas(128) _Atomic uint32_t turn;
} echo;

/* A probe that hangs must not: it may run at real-time priority. */
#define TIMEOUT_S 5

static uint64_t dependent_adds(void)
{
	uint64_t begin = __rdtsc();

	for (uint32_t i = 0; i < N_ROUNDS; i++)
		__asm__ volatile("add $1, %%rax; add $1, %%rax; add $1, %%rax; add $1, %%rax;"
				 "add $1, %%rax; add $1, %%rax; add $1, %%rax; add $1, %%rax"
				 :
				 :
				 : "rax", "cc");
	return __rdtsc() - begin;
}

static uint64_t independent_adds(void)
{
	uint64_t begin = __rdtsc();

	for (uint32_t i = 0; i < N_ROUNDS; i++)
		__asm__ volatile("add $1, %%rax; add $1, %%rcx; add $1, %%rdx; add $1, %%rsi;"
				 "add $1, %%rdi; add $1, %%r8; add $1, %%r9; add $1, %%r10;"
				 "add $1, %%rax; add $1, %%rcx; add $1, %%rdx; add $1, %%rsi;"
				 "add $1, %%rdi; add $1, %%r8; add $1, %%r9; add $1, %%r10"
				 :
				 :
				 : "rax", "rcx", "rdx", "rsi", "rdi", "r8", "r9", "r10", "cc");
	return __rdtsc() - begin;
}

static double fastest(uint64_t (*loop)(void))
{
	uint64_t best = UINT64_MAX;

	for (int i = 0; i < N_SAMPLES; i++) {
		uint64_t cycles = loop();
		best = cycles < best ? cycles : best;
	}
	return (double)best / N_ROUNDS;
}

/* Gives every odd turn back as the next even one. */
static void *echo_main(void *arg)
{
	for (uint32_t i = 0; i < N_TRIPS; i++) {
		while (atomic_load_explicit(&echo.turn, memory_order_acquire) != 2 * i + 1)
			;
		atomic_store_explicit(&echo.turn, 2 * i + 2, memory_order_release);
	}
	return NULL;
}

static void cpu_set_one(cpu_set_t *set, int cpu)
{
	CPU_ZERO(set);
	CPU_SET((unsigned)cpu, set);
}

static int line_trip(int cpu, uint64_t *best)
{
	pthread_attr_t attr;
	pthread_t thread;
	cpu_set_t set;

	/* born on its CPU: on this one a real-time caller would never let it start */
	cpu_set_one(&set, cpu);
	pthread_attr_init(&attr);
	int rc = pthread_attr_setaffinity_np(&attr, sizeof(set), &set);
	if (rc == 0)
		rc = pthread_create(&thread, &attr, echo_main, NULL);
	pthread_attr_destroy(&attr);
	if (rc != 0)
		return -rc;
	*best = UINT64_MAX;
	for (uint32_t i = 0; i < N_TRIPS; i++) {
		uint64_t begin = __rdtsc();
		atomic_store_explicit(&echo.turn, 2 * i + 1, memory_order_release);
		while (atomic_load_explicit(&echo.turn, memory_order_acquire) != 2 * i + 2)
			;
		uint64_t cycles = __rdtsc() - begin;
		*best = cycles < *best ? cycles : *best;
	}
	return -pthread_join(thread, NULL);
}

int main(int argc, char **argv)
{
	uint64_t line = 0;
	cpu_set_t set;

	if (argc != 3) {
		fputs("usage: cpu_probe CPU OTHER_CPU\n", stderr);
		return 2;
	}
	int cpu = atoi(argv[1]), other = atoi(argv[2]);
	cpu_set_one(&set, cpu);
	if (cpu == other || sched_setaffinity(0, sizeof(set), &set) < 0) {
		fprintf(stderr,
			"cpu_probe: CPUs %s and %s: allowed are two different ones of ours\n",
			argv[1], argv[2]);
		return 2;
	}
	alarm(TIMEOUT_S);
	int rc = line_trip(other, &line);
	if (rc != 0) {
		fprintf(stderr, "cpu_probe: CPU %d: no thread there: %s\n", other, strerror(-rc));
		return 1;
	}
	printf("{\"adds\": %.3f, ", fastest(dependent_adds));
	printf("\"parallel_adds\": %.3f, ", fastest(independent_adds));
	printf("\"line\": %llu}\n", (unsigned long long)line);
	return 0;
}
