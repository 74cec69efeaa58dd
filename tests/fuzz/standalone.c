/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * main() for fuzz targets where libFuzzer is not: with file names it replays them, else it makes inputs up.
 *     TARGET [-runs=N] [-seed=S] [FILE...]
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_BYTES 4096U

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static uint64_t next_random(uint64_t *state)
{
	*state ^= *state >> 12;
	*state ^= *state << 25;
	*state ^= *state >> 27;
	return *state * 0x2545f4914f6cdd1dULL;
}

static int replay(const char *path)
{
	static uint8_t bytes[1U << 20];
	FILE *file = fopen(path, "rb");
	size_t n;

	if (file == NULL) {
		perror(path);
		return 1;
	}
	n = fread(bytes, 1, sizeof(bytes), file);
	fclose(file);
	LLVMFuzzerTestOneInput(bytes, n);
	return 0;
}

int main(int argc, char **argv)
{
	uint64_t seed = 1, runs = 20000;
	unsigned int n_files = 0;

	for (int i = 1; i < argc; i++) {
		if (strncmp(argv[i], "-runs=", 6) == 0)
			runs = strtoull(argv[i] + 6, NULL, 0);
		else if (strncmp(argv[i], "-seed=", 6) == 0)
			seed = strtoull(argv[i] + 6, NULL, 0);
		else if (replay(argv[i]) != 0)
			return 1;
		else
			n_files++;
	}
	if (n_files > 0)
		return 0;
	for (uint64_t run = 0; run < runs; run++) {
		/* A buffer of the exact size, so that a sanitizer sees a read past it. */
		uint64_t state = (seed << 32) + run + 1;
		size_t n = next_random(&state) % MAX_BYTES;
		uint8_t *bytes = malloc(n + 1);

		if (bytes == NULL)
			return 1;
		for (size_t i = 0; i < n; i++)
			bytes[i] = (uint8_t)(next_random(&state) >> 56);
		LLVMFuzzerTestOneInput(bytes, n);
		free(bytes);
	}
	printf("%llu inputs from seed %llu\n", (unsigned long long)runs, (unsigned long long)seed);
	return 0;
}
