/* SPDX-License-Identifier: BSD-3-Clause */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <complete.h>

#include "fake_daemon.h"

#define WORDS_MAX 16

static struct fake_daemon fake;

/* Words are separated by '|', so that the last one may be empty. */
static void expect_at(const char *socket, const char *line, const char *expected)
{
	char copy[256], *words[WORDS_MAX], *rest = copy, *word, *text = NULL;
	size_t n = 0, n_bytes;
	FILE *out = open_memstream(&text, &n_bytes);

	snprintf(copy, sizeof(copy), "%s", line);
	while ((word = strsep(&rest, "|")) != NULL)
		words[n++] = word;
	complete_print(out, socket, words, n);
	fclose(out);
	assert_string_equal(text, expected);
	free(text);
}

static void expect(const char *line, const char *expected)
{
	expect_at(fake.path, line, expected);
}

static int group_setup(void **state)
{
	return fake_daemon_start(&fake);
}

static int group_teardown(void **state)
{
	return fake_daemon_stop(&fake);
}

static void nouns_and_verbs_come_from_the_table(void **state)
{
	expect("", "port\nbridge\nfdb\nworker\nstats\ntop\n");
	expect("p", "port\n");
	expect("port|", "show\nadd\nremove\nmode\ncoalesce\n");
	expect("port|re", "remove\n");
	expect("-j|bridge|s", "show\n");
	expect("nonsense|", "");
	expect("nonsense|x|", "");
}

static void options_come_after_a_dash(void **state)
{
	expect("--j", "--json\n");
	expect("port|show|--s", "--socket\n");
	/* files: the shell's business */
	expect("-s|", "");
	expect("--socket|/ru", "");
}

static void names_are_asked_from_the_daemon(void **state)
{
	char line[256];

	expect("port|show|", "vm1\nup0\n");
	expect("port|show|v", "vm1\n");
	expect("port|show|-j|v", "vm1\n");
	expect("port|remove|u", "up0\n");
	expect("stats|", "vm1\nup0\n");
	expect("fdb|show|", "br0\n");
	expect("bridge|show|b", "br0\n");
	/* one name is enough */
	expect("port|show|vm1|", "");
	expect("worker|show|", "0\n1\n");
	expect("worker|ping|1", "1\n");
	snprintf(line, sizeof(line), "-s|%s|port|show|v", fake.path);
	expect_at("/no/such.sock", line, "vm1\n");
}

static void daemon_that_is_not_there_offers_nothing(void **state)
{
	expect_at("/no/such.sock", "port|show|", "");
	expect_at("/no/such.sock", "port|s", "show\n");
}

static void keys_values_and_bridges_of_port_add_are_offered(void **state)
{
	/* a new name is nobody's to guess */
	expect("port|add|", "");
	expect("port|add|vm9|vl", "vlan.access=\nvlan.trunk=\nvlan.native=\n");
	expect("port|add|vm9|type=", "type=guest\ntype=nic\n");
	expect("port|add|vm9|type=n", "type=nic\n");
	expect("port|add|vm9|role=l", "role=listen\n");
	expect("port|add|vm9|bridge=", "bridge=br0\n");
	expect("port|add|vm9|bridge=x", "");
	expect("port|add|vm9|socket=", "");
	/* given once is enough */
	expect("port|add|vm9|type=nic|t", "");
	expect("port|add|vm9|mtu=9000|m", "mode=\n");
	expect("port|add|vm9|coal", "coalesce.frames=\ncoalesce.us=\n");
}

static void arguments_are_offered_by_their_place(void **state)
{
	expect("port|mode|v", "vm1\n");
	expect("port|mode|vm1|", "poll\nadaptive\ninterrupt\n");
	expect("port|mode|vm1|i", "interrupt\n");
	expect("port|mode|vm1|poll|", "");
	expect("port|coalesce|vm1|", "frames=\nus=\n");
	expect("port|coalesce|vm1|us=50|", "frames=\n");
	/* all workers, or one */
	expect("worker|mode|", "poll\nadaptive\ninterrupt\n0\n1\n");
	expect("worker|mode|1|a", "adaptive\n");
	expect("top|", "interval=\ncount=\n");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(nouns_and_verbs_come_from_the_table),
		cmocka_unit_test(options_come_after_a_dash),
		cmocka_unit_test(names_are_asked_from_the_daemon),
		cmocka_unit_test(daemon_that_is_not_there_offers_nothing),
		cmocka_unit_test(keys_values_and_bridges_of_port_add_are_offered),
		cmocka_unit_test(arguments_are_offered_by_their_place),
	};

	return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
