/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * All schedules of two notifying threads and control, step by step of the library's own code.
 *
 * The source of lib/msix is compiled into this test with the four operations of state.h replaced: each lets the
 * scheduler decide who comes next, and then does its step. Threads are coroutines. A schedule is the list of the
 * decisions; the next one is found by replaying it up to the last decision that had another way to go (depth first), until none is
 * left.
 *
 * Stores are as late as x86 has them: what a notifier publishes before it notifies, as a used index is published, goes
 * to a store buffer and becomes visible at any later moment the scheduler likes, at the latest with the thread's next
 * locked instruction or its call. So a notification that was merged into another one's is found lost if the driver is
 * woken too early to see what it was for.
 *
 * Broken ways to do the four operations, which the search must find fault with, show that it can.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <ucontext.h>

#include <cmocka.h>

#include "../../../lib/msix/state.h"
#include <msix/msix.h>

#define N_NOTIFIERS   2
#define N_VECTORS     2
#define NOTIFICATIONS 2 /* of one notifier, at most */
#define STACK_BYTES   65536
#define MAX_DECISIONS 64

/* ---- What is run ---- */

enum verb {
	END,
	MASK,
	UNMASK,
	MASK_FUNCTION,
	UNMASK_FUNCTION,
	ENABLE,
	DISABLE,
	RESUME,
	N_VERBS,
};

struct deed {
	enum verb verb;
	unsigned int vector;
};

/* What blocks vectors, as PCI says it: the model of the model. */
struct masks {
	bool masked[N_VECTORS];
	bool function_masked, disabled, quiet;
};

struct scene {
	unsigned int n_vectors;
	unsigned int n_notifications[N_NOTIFIERS];
	unsigned int vectors[N_NOTIFIERS][NOTIFICATIONS]; /* which they notify */
	struct masks start;
	struct deed deeds[5]; /* control's */
};

enum breakage {
	SOUND,
	TORN_EXCHANGE,  /* load, then store */
	TORN_OR,        /* load, then store */
	TORN_REPLACE,   /* compare, then store */
	DOUBTFUL_REPLACE, /* replaces, looks again, and says it has not if the vector is open by then */
	UNFENCED_REPLACE, /* what is pending already is not written again */
	N_BREAKAGES,
};

enum verdict {
	GOOD,
	LOST,      /* told false, and not delivered though the vector is open, or delivered before it could be seen */
	DOUBLED,   /* more deliveries than notifications that were told false */
	STUCK,     /* pending and open at rest */
	WRONG_SIDE, /* true though blocked all the time, or false though open all the time */
	N_VERDICTS,
};

/* ---- One run ---- */

struct notification {
	bool has_ended;
	bool result;
	bool is_fired; /* since it was made, with its publication visible */
};

struct actor {
	ucontext_t context;
	bool is_done;
	bool has_stepped; /* in the present verb */
	/* Notifiers. */
	unsigned int n_published, n_visible;
	struct notification notifications[NOTIFICATIONS];
	/* How the vector stood at the verb's first step. */
	unsigned int n_changes_at_start;
	bool blocked_at_start, changing_at_start;
};

#define CONTROL N_NOTIFIERS

static const struct scene *scene;
static enum breakage breakage;
static struct msix *msix;
static struct actor actors[N_NOTIFIERS + 1];
static char stacks[N_NOTIFIERS + 1][STACK_BYTES] __attribute__((aligned(64)));
static ucontext_t scheduler;
static struct actor *running; /* NULL: the test itself */

static struct masks masks; /* after the last deed that has ended */
static bool is_changing[N_VECTORS];
static unsigned int n_changes[N_VECTORS];
static unsigned int n_fires[N_VECTORS];

static bool blocks(const struct masks *m, unsigned int vector)
{
	return m->masked[vector] || m->function_masked || m->disabled || m->quiet;
}

static struct masks after(struct masks m, struct deed deed)
{
	switch (deed.verb) {
	case MASK:
	case UNMASK:
		m.masked[deed.vector] = deed.verb == MASK;
		break;
	case MASK_FUNCTION:
	case UNMASK_FUNCTION:
		m.function_masked = deed.verb == MASK_FUNCTION;
		break;
	case ENABLE:
	case DISABLE:
		m.disabled = deed.verb == DISABLE;
		break;
	default:
		m.quiet = false;
	}
	return m;
}

/* The present deed takes effect somewhere between its first and its last step. */
static void begin_change(struct deed deed)
{
	struct masks next = after(masks, deed);

	for (unsigned int vector = 0; vector < scene->n_vectors; vector++) {
		is_changing[vector] = blocks(&masks, vector) != blocks(&next, vector);
		n_changes[vector] += is_changing[vector];
	}
}

static unsigned int deed_idx; /* control's present one */

/* Lets others go first. Afterwards the caller does its step, and goes on to its next one. */
static void step(void)
{
	struct actor *me = running;

	if (me == NULL)
		return;
	swapcontext(&me->context, &scheduler);
	if (me->has_stepped)
		return;
	me->has_stepped = true;
	if (me == &actors[CONTROL]) {
		begin_change(scene->deeds[deed_idx]);
	} else {
		unsigned int i = (unsigned int)(me - actors);
		unsigned int vector = scene->vectors[i][me->n_published - 1];

		me->n_changes_at_start = n_changes[vector];
		me->changing_at_start = is_changing[vector];
		me->blocked_at_start = blocks(&masks, vector);
	}
}

static void drain(struct actor *actor)
{
	actor->n_visible = actor->n_published;
}

static void drain_mine(void)
{
	if (running != NULL)
		drain(running);
}

static void perform(struct deed deed)
{
	switch (deed.verb) {
	case MASK:
		msix_mask(msix, deed.vector);
		break;
	case UNMASK:
		msix_unmask(msix, deed.vector);
		break;
	case MASK_FUNCTION:
		msix_mask_function(msix);
		break;
	case UNMASK_FUNCTION:
		msix_unmask_function(msix);
		break;
	case ENABLE:
		msix_enable(msix);
		break;
	case DISABLE:
		msix_disable(msix);
		break;
	default:
		msix_resume(msix);
	}
}

static void run_control(void)
{
	for (deed_idx = 0; scene->deeds[deed_idx].verb != END; deed_idx++) {
		struct deed deed = scene->deeds[deed_idx];

		actors[CONTROL].has_stepped = false;
		perform(deed);
		masks = after(masks, deed);
		memset(is_changing, 0, sizeof(is_changing));
	}
	actors[CONTROL].is_done = true;
}

static enum verdict verdict;

static void run_notifier(int number)
{
	struct actor *me = &actors[number];

	for (unsigned int i = 0; i < scene->n_notifications[number]; i++) {
		unsigned int vector = scene->vectors[number][i];
		struct notification *n = &me->notifications[i];

		me->has_stepped = false;
		me->n_published++;
		n->result = msix_notify(msix, vector);
		n->has_ended = true;
		/* A call is a system call: all is visible before it. */
		if (n->result)
			drain(me);
		if (!me->changing_at_start && me->n_changes_at_start == n_changes[vector] &&
		    n->result == me->blocked_at_start)
			verdict = WRONG_SIDE;
	}
	me->is_done = true;
}

static void fire(void *ctx, unsigned int vector)
{
	n_fires[vector]++;
	for (unsigned int i = 0; i < N_NOTIFIERS; i++) {
		for (unsigned int k = 0; k < actors[i].n_visible; k++) {
			if (scene->vectors[i][k] == vector)
				actors[i].notifications[k].is_fired = true;
		}
	}
}

/* ---- The four operations, and broken ones ---- */

uint32_t state_load(const uint32_t *state)
{
	step();
	return *state;
}

bool state_replace(uint32_t *state, uint32_t *expected, uint32_t wanted)
{
	step();
	if (breakage == UNFENCED_REPLACE && *state == *expected && *expected == wanted)
		return true;
	drain_mine();
	if (*state != *expected) {
		*expected = *state;
		return false;
	}
	if (breakage == TORN_REPLACE)
		step();
	*state = wanted;
	if (breakage == DOUBTFUL_REPLACE) {
		step();
		*expected = *state;
		return *state & STATE_BLOCKED;
	}
	return true;
}

uint32_t state_exchange(uint32_t *state, uint32_t wanted)
{
	uint32_t old;

	step();
	old = *state;
	if (breakage == TORN_EXCHANGE)
		step();
	*state = wanted;
	return old;
}

void state_or(uint32_t *state, uint32_t bits)
{
	uint32_t old;

	step();
	old = *state;
	if (breakage == TORN_OR)
		step();
	*state = old | bits;
}

/* ---- The search ---- */

static struct {
	unsigned int taken, n;
} decisions[MAX_DECISIONS];
static unsigned int n_decisions;

static unsigned int decide(unsigned int depth, unsigned int n)
{
	if (depth == n_decisions) {
		if (depth == MAX_DECISIONS)
			fail_msg("more than %d decisions in a schedule", MAX_DECISIONS);
		decisions[n_decisions].taken = 0;
		decisions[n_decisions++].n = n;
	}
	/* Else the run would depend on something that is not a decision. */
	assert_int_equal(decisions[depth].n, n);
	return decisions[depth].taken;
}

static bool next_schedule(void)
{
	while (n_decisions > 0 && decisions[n_decisions - 1].taken + 1 == decisions[n_decisions - 1].n)
		n_decisions--;
	if (n_decisions == 0)
		return false;
	decisions[n_decisions - 1].taken++;
	return true;
}

static void resume(struct actor *actor)
{
	running = actor;
	swapcontext(&scheduler, &actor->context);
	running = NULL;
}

/* A state as `start` says, without history. */
static void set_up(const struct masks *start)
{
	static union {
		struct msix_saved saved;
		char bytes[sizeof(struct msix_saved) + N_VECTORS * MSIX_ENTRY_BYTES];
	} room;
	const char *reason;

	msix_reset(msix);
	for (unsigned int vector = 0; vector < scene->n_vectors; vector++) {
		if (!start->masked[vector])
			msix_unmask(msix, vector);
	}
	msix_control_write(msix, (start->function_masked ? MSIX_CONTROL_FUNCTION_MASK : 0) |
		(start->disabled ? 0 : MSIX_CONTROL_ENABLE));
	if (start->quiet) {
		msix_save(msix, &room.saved);
		assert_int_equal(msix_load(msix, &room.saved, msix_saved_bytes(scene->n_vectors), &reason), 0);
	}
	masks = *start;
	memset(is_changing, 0, sizeof(is_changing));
	memset(n_changes, 0, sizeof(n_changes));
	memset(n_fires, 0, sizeof(n_fires));
}

/* With all threads at rest: what each vector owes. */
static enum verdict judge(void)
{
	for (unsigned int vector = 0; vector < scene->n_vectors; vector++) {
		unsigned int n_false = 0;

		for (unsigned int i = 0; i < N_NOTIFIERS; i++) {
			for (unsigned int k = 0; k < scene->n_notifications[i]; k++) {
				const struct notification *n = &actors[i].notifications[k];

				if (scene->vectors[i][k] != vector || n->result)
					continue;
				n_false++;
				if (!blocks(&masks, vector) && !n->is_fired)
					return LOST;
			}
		}
		if (n_fires[vector] > n_false)
			return DOUBLED;
		if (!blocks(&masks, vector) && msix_is_pending(msix, vector))
			return STUCK;
	}
	return verdict;
}

static enum verdict run_schedule(void)
{
	static const struct deed opening[] = {{RESUME, 0}, {ENABLE, 0}, {UNMASK_FUNCTION, 0}, {UNMASK, 0}, {UNMASK, 1}};
	enum verdict found;

	set_up(&scene->start);
	verdict = GOOD;
	for (unsigned int i = 0; i <= N_NOTIFIERS; i++) {
		struct actor *actor = &actors[i];

		memset(actor, 0, sizeof(*actor));
		getcontext(&actor->context);
		actor->context.uc_link = &scheduler;
		actor->context.uc_stack.ss_sp = stacks[i];
		actor->context.uc_stack.ss_size = STACK_BYTES;
		if (i == CONTROL)
			makecontext(&actor->context, run_control, 0);
		else
			makecontext(&actor->context, (void (*)(void))run_notifier, 1, (int)i);
		/* Up to its first step. */
		resume(actor);
	}
	for (unsigned int depth = 0, first_drain = 0;; depth++) {
		struct actor *choices[2 * N_NOTIFIERS + 1];
		bool drains[2 * N_NOTIFIERS + 1];
		unsigned int n = 0, choice;

		/* Only control's steps can tell when a store buffer was emptied: so just before one of them, lowest first. */
		for (unsigned int i = first_drain; i < N_NOTIFIERS && !actors[CONTROL].is_done; i++) {
			if (actors[i].n_visible < actors[i].n_published) {
				choices[n] = &actors[i];
				drains[n++] = true;
			}
		}
		for (unsigned int i = first_drain > 0 ? CONTROL : 0; i <= CONTROL; i++) {
			if (!actors[i].is_done) {
				choices[n] = &actors[i];
				drains[n++] = false;
			}
		}
		if (n == 0)
			break;
		choice = decide(depth, n);
		if (drains[choice]) {
			drain(choices[choice]);
			first_drain = (unsigned int)(choices[choice] - actors) + 1;
		} else {
			resume(choices[choice]);
			first_drain = 0;
		}
	}
	for (unsigned int i = 0; i < N_NOTIFIERS; i++)
		drain(&actors[i]);
	for (unsigned int i = 0; i < N_NOTIFIERS; i++)
		assert_int_equal(actors[i].n_published, scene->n_notifications[i]);

	/* As control left it, and then with everything opened: nothing may be missing, or come twice, later either. */
	found = judge();
	for (unsigned int i = 0; found == GOOD && i < sizeof(opening) / sizeof(opening[0]); i++) {
		if (opening[i].vector >= scene->n_vectors)
			continue;
		perform(opening[i]);
		masks = after(masks, opening[i]);
		found = judge();
	}
	return found;
}

static unsigned long n_schedules;
static unsigned int n_found[N_VERDICTS];

/* All schedules of a scene, or as many as it takes to find fault. */
static enum verdict search(const struct scene *which)
{
	enum verdict found;

	scene = which;
	msix = msix_create(scene->n_vectors, fire, NULL);
	assert_non_null(msix);
	n_decisions = 0;
	do {
		found = run_schedule();
		n_schedules++;
	} while (found == GOOD && next_schedule());
	msix_destroy(msix);
	return found;
}

static const char *const verb_names[N_VERBS] = {
	[MASK] = "mask", [UNMASK] = "unmask", [MASK_FUNCTION] = "mask function", [UNMASK_FUNCTION] = "unmask function",
	[ENABLE] = "enable", [DISABLE] = "disable", [RESUME] = "resume",
};
static const char *const verdict_names[N_VERDICTS] = {
	[LOST] = "lost", [DOUBLED] = "doubled", [STUCK] = "pending though open", [WRONG_SIDE] = "on the wrong side",
};

static void search_soundly(const struct scene *which)
{
	enum verdict found = search(which);

	if (found == GOOD)
		return;
	for (unsigned int i = 0; which->deeds[i].verb != END; i++)
		print_error("%s %u; ", verb_names[which->deeds[i].verb], which->deeds[i].vector);
	print_error("schedule");
	for (unsigned int i = 0; i < n_decisions; i++)
		print_error(" %u/%u", decisions[i].taken, decisions[i].n);
	fail_msg("a notification is %s", verdict_names[found]);
}

/* ---- Scenes ---- */

/*
 * One vector, each state it can start in, each pair of verbs. Returns how many scenes; with a breakage, faults are
 * counted in n_found.
 */
static unsigned int search_pairs(unsigned int second_notifies)
{
	unsigned int n_scenes = 0;

	for (unsigned int start = 0; start < 16; start++) {
		for (enum verb first = MASK; first < N_VERBS; first++) {
			for (enum verb second = END; second < N_VERBS; second++) {
				struct scene pair = {
					.n_vectors = 1,
					.n_notifications = {1, second_notifies},
					.start = {.masked = {start & 1}, .function_masked = start & 2,
						.disabled = start & 4, .quiet = start & 8},
					.deeds = {{first, 0}, {second, 0}},
				};

				n_scenes++;
				if (breakage == SOUND)
					search_soundly(&pair);
				else
					n_found[search(&pair)]++;
			}
		}
	}
	return n_scenes;
}

static void nothing_is_lost_or_doubled_whatever_two_verbs_meet_two_notifications(void **state)
{
	breakage = SOUND;
	n_schedules = 0;
	assert_int_equal(search_pairs(1), 16 * 7 * 8);
	/* Else not much was tried. */
	assert_true(n_schedules > 100000);
	print_message("%lu schedules\n", n_schedules);
}

static const struct scene long_scenes[] = {
	/* Back and forth, with two that meet. */
	{1, {1, 1}, {{0}, {0}}, {.masked = {false}}, {{MASK, 0}, {UNMASK, 0}, {MASK, 0}, {UNMASK, 0}, {END, 0}}},
	{1, {2, 1}, {{0, 0}, {0}}, {.masked = {true}}, {{UNMASK, 0}, {MASK, 0}, {UNMASK, 0}, {END, 0}}},
	{1, {2, 2}, {{0, 0}, {0, 0}}, {.masked = {true}}, {{UNMASK, 0}, {MASK, 0}, {UNMASK, 0}, {END, 0}}},
	/* Two each, crosswise. */
	{2, {2, 2}, {{0, 1}, {1, 0}}, {.masked = {true, true}}, {{UNMASK, 0}, {UNMASK, 1}, {END, 0}}},
	/* Verbs over all vectors, two steps each. */
	{2, {1, 1}, {{0}, {1}}, {.masked = {false, false}}, {{MASK_FUNCTION, 0}, {UNMASK_FUNCTION, 0}, {END, 0}}},
	{2, {1, 1}, {{1}, {1}}, {.disabled = true}, {{ENABLE, 0}, {DISABLE, 0}, {END, 0}}},
	{2, {2, 1}, {{0, 1}, {1}}, {.function_masked = true}, {{UNMASK_FUNCTION, 0}, {END, 0}}},
	/* One opens while another still blocks. */
	{2, {1, 1}, {{0}, {1}}, {.masked = {true, false}, .disabled = true},
		{{ENABLE, 0}, {UNMASK, 0}, {MASK, 1}, {END, 0}}},
	/* After a load, with workers running. */
	{2, {1, 1}, {{0}, {1}}, {.quiet = true}, {{MASK, 0}, {RESUME, 0}, {UNMASK, 0}, {END, 0}}},
};

static void nothing_is_lost_or_doubled_in_longer_scenes_with_two_vectors(void **state)
{
	breakage = SOUND;
	n_schedules = 0;
	for (unsigned int i = 0; i < sizeof(long_scenes) / sizeof(long_scenes[0]); i++) {
		unsigned long before = n_schedules;

		search_soundly(&long_scenes[i]);
		assert_true(n_schedules - before > 1000);
	}
	print_message("%lu schedules\n", n_schedules);
}

/* Searches the pairs with a broken operation, and expects this fault among what is found, and no other but these two. */
static void expect_found(enum breakage which, unsigned int second_notifies, enum verdict expected, enum verdict also)
{
	breakage = which;
	memset(n_found, 0, sizeof(n_found));
	search_pairs(second_notifies);
	assert_true(n_found[expected] > 0);
	/* And where it does no harm, none. */
	assert_true(n_found[GOOD] > 0);
	for (enum verdict v = LOST; v < N_VERDICTS; v++) {
		if (v != expected && v != also)
			assert_int_equal(n_found[v], 0);
	}
	breakage = SOUND;
}

static void the_search_finds_a_pending_bit_overwritten_by_unmask(void **state)
{
	expect_found(TORN_EXCHANGE, 0, LOST, LOST);
}

static void the_search_finds_a_pending_bit_overwritten_by_mask(void **state)
{
	expect_found(TORN_OR, 0, LOST, LOST);
}

static void the_search_finds_a_pending_bit_set_after_unmask_has_looked(void **state)
{
	expect_found(TORN_REPLACE, 0, LOST, WRONG_SIDE);
}

static void the_search_finds_a_notification_delivered_by_both(void **state)
{
	expect_found(DOUBTFUL_REPLACE, 0, DOUBLED, DOUBLED);
}

static void the_search_finds_a_driver_woken_before_it_can_see_what_for(void **state)
{
	expect_found(UNFENCED_REPLACE, 1, LOST, LOST);
	/* It takes two to meet. */
	breakage = UNFENCED_REPLACE;
	memset(n_found, 0, sizeof(n_found));
	assert_int_equal(search_pairs(0), 16 * 7 * 8);
	assert_int_equal(n_found[GOOD], 16 * 7 * 8);
	breakage = SOUND;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(nothing_is_lost_or_doubled_whatever_two_verbs_meet_two_notifications),
		cmocka_unit_test(nothing_is_lost_or_doubled_in_longer_scenes_with_two_vectors),
		cmocka_unit_test(the_search_finds_a_pending_bit_overwritten_by_unmask),
		cmocka_unit_test(the_search_finds_a_pending_bit_overwritten_by_mask),
		cmocka_unit_test(the_search_finds_a_pending_bit_set_after_unmask_has_looked),
		cmocka_unit_test(the_search_finds_a_notification_delivered_by_both),
		cmocka_unit_test(the_search_finds_a_driver_woken_before_it_can_see_what_for),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
