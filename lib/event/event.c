/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Event sets over epoll.
 *
 * Theory of operation. A channel's id is its place in the table and what epoll hands back, so nothing that the kernel
 * still has in hand can point at memory that is gone. A channel that is shut out leaves the epoll set, since masking
 * its events would leave those that cannot be masked (EPOLLERR, which a peer can bring about). Leaving and entering
 * are under a lock that the control thread takes as well when it closes a channel: otherwise a descriptor might be
 * entered again after it was closed, or after its number was given to another file. No lock is taken by a wait that
 * finds no penalty to end.
 */
#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

#include <base/clock.h>
#include <event/event.h>

struct channel {
	/* The control thread's. */
	const void *owner;
	/* Under the lock. */
	int fd; /* -1: free */
	enum event_cause cause;
	bool is_level;
	bool is_shut_out;  /* others may look without the lock, and see a moment ago */
	uint64_t until_us; /* end of the penalty */
	/* Written by the waiting thread, and by the control thread when the place is taken. */
	uint64_t n_in_a_row;   /* for nothing */
	uint64_t penalty_us;   /* the last one; 0: none since it had something */
	uint64_t is_let_in;    /* not 0: the next report is due to the end of a penalty */
	uint64_t n_wakeups;
	uint64_t n_spurious;
	uint64_t n_penalties;
};

struct event_set {
	int epoll_fd;
	bool has_pwait2; /* else waits are rounded up to milliseconds */
	unsigned int max;
	pthread_mutex_t lock;
	struct event_set_report report;
	/* Ids that are shut out, under the lock; a wait may look whether there are any without it. */
	unsigned int n_shut_out;
	uint16_t *shut_out; /* room for all */
	struct channel channels[];
};

static const char *const cause_names[] = {
	[EVENT_KICK] = "kick",
	[EVENT_NIC] = "nic",
	[EVENT_REQUEST] = "request",
};
_Static_assert(sizeof(cause_names) / sizeof(cause_names[0]) == EVENT_N_CAUSES, "one name each");

const char *event_cause_name(enum event_cause cause)
{
	return cause_names[cause];
}

static uint64_t counted(const uint64_t *counter)
{
	return __atomic_load_n(counter, __ATOMIC_RELAXED);
}

static void set_to(uint64_t *counter, uint64_t n)
{
	__atomic_store_n(counter, n, __ATOMIC_RELAXED);
}

static void count(uint64_t *counter)
{
	set_to(counter, counted(counter) + 1);
}

struct event_set *event_set_create(unsigned int max)
{
	const struct timespec no_time = { 0 };
	struct epoll_event event;
	struct event_set *set;

	if (max == 0 || max > EVENT_CHANNELS_MAX) {
		errno = EINVAL;
		return NULL;
	}
	set = calloc(1, sizeof(*set) + max * (sizeof(set->channels[0]) + sizeof(set->shut_out[0])));
	if (set == NULL)
		return NULL;
	set->shut_out = (uint16_t *)&set->channels[max];
	set->max = max;
	for (unsigned int i = 0; i < max; i++)
		set->channels[i].fd = -1;
	pthread_mutex_init(&set->lock, NULL);
	set->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (set->epoll_fd < 0) {
		int error = errno;

		event_set_destroy(set);
		errno = error;
		return NULL;
	}
	/* Kernels before 5.11 do not have it, sandboxes may not know it. */
	set->has_pwait2 = epoll_pwait2(set->epoll_fd, &event, 1, &no_time, NULL) == 0;
	return set;
}

void event_set_destroy(struct event_set *set)
{
	if (set == NULL)
		return;
	if (set->epoll_fd >= 0)
		close(set->epoll_fd);
	pthread_mutex_destroy(&set->lock);
	free(set);
}

/*
 * What the kernel hands back for a channel: its id and its cause, which a wait can have without looking into the
 * table.
 */
static uint64_t key_of(unsigned int id, enum event_cause cause)
{
	return id | (uint64_t)cause << 32;
}

/* Under the lock. */
static int enter(struct event_set *set, unsigned int id)
{
	const struct channel *channel = &set->channels[id];
	struct epoll_event event = {
		.events = channel->is_level ? EPOLLIN : EPOLLIN | EPOLLET,
		.data.u64 = key_of(id, channel->cause),
	};

	return epoll_ctl(set->epoll_fd, EPOLL_CTL_ADD, channel->fd, &event) == 0 ? 0 : -errno;
}

static void leave(struct event_set *set, unsigned int id)
{
	epoll_ctl(set->epoll_fd, EPOLL_CTL_DEL, set->channels[id].fd, NULL);
}

int event_channel_open(struct event_set *set, const struct event_channel_config *config)
{
	unsigned int id = 0;
	struct channel *channel;
	int rc;

	while (id < set->max && set->channels[id].fd >= 0)
		id++;
	if (id == set->max)
		return -ENOSPC;
	channel = &set->channels[id];
	pthread_mutex_lock(&set->lock);
	channel->fd = config->fd;
	channel->cause = config->cause;
	channel->is_level = config->is_level;
	/* Before it can be reported. */
	set_to(&channel->n_in_a_row, 0);
	set_to(&channel->penalty_us, 0);
	set_to(&channel->is_let_in, 0);
	set_to(&channel->n_wakeups, 0);
	set_to(&channel->n_spurious, 0);
	set_to(&channel->n_penalties, 0);
	rc = enter(set, id);
	if (rc != 0)
		channel->fd = -1;
	pthread_mutex_unlock(&set->lock);
	if (rc != 0)
		return rc;
	channel->owner = config->owner;
	return (int)id;
}

/* Takes the entry at `place` off the list. Under the lock. */
static void let_in(struct event_set *set, unsigned int place)
{
	unsigned int n = set->n_shut_out - 1;

	__atomic_store_n(&set->channels[set->shut_out[place]].is_shut_out, false, __ATOMIC_RELAXED);
	set->shut_out[place] = set->shut_out[n];
	__atomic_store_n(&set->n_shut_out, n, __ATOMIC_RELAXED);
}

void event_channel_close(struct event_set *set, int id)
{
	struct channel *channel = &set->channels[id];

	pthread_mutex_lock(&set->lock);
	if (channel->is_shut_out) {
		unsigned int place = 0;

		while (set->shut_out[place] != id)
			place++;
		let_in(set, place);
	} else {
		leave(set, (unsigned int)id);
	}
	channel->fd = -1;
	pthread_mutex_unlock(&set->lock);
	channel->owner = NULL;
}

const void *event_channel_owner(const struct event_set *set, int id)
{
	return set->channels[id].owner;
}

void event_channel_report(const struct event_set *set, int id, struct event_channel_report *report)
{
	const struct channel *channel = &set->channels[id];

	*report = (struct event_channel_report){
		.n_wakeups = counted(&channel->n_wakeups),
		.n_spurious = counted(&channel->n_spurious),
		.n_penalties = counted(&channel->n_penalties),
		.is_shut_out = __atomic_load_n(&channel->is_shut_out, __ATOMIC_RELAXED),
	};
}

void event_set_report(const struct event_set *set, struct event_set_report *report)
{
	for (unsigned int cause = 0; cause < EVENT_N_CAUSES; cause++)
		report->n_wakeups[cause] = counted(&set->report.n_wakeups[cause]);
	report->n_spurious = counted(&set->report.n_spurious);
	report->n_penalties = counted(&set->report.n_penalties);
	report->n_timeouts = counted(&set->report.n_timeouts);
}

/*
 * Lets channels in again whose penalty has ended. The kernel reports what is readable when it enters, and an eventfd
 * that was written once stays readable.
 */
static void penalties_end(struct event_set *set)
{
	uint64_t now_us = clock_now_us();

	pthread_mutex_lock(&set->lock);
	for (unsigned int i = 0; i < set->n_shut_out;) {
		struct channel *channel = &set->channels[set->shut_out[i]];

		if (channel->until_us > now_us) {
			i++;
			continue;
		}
		set_to(&channel->is_let_in, 1);
		if (enter(set, set->shut_out[i]) == 0) {
			let_in(set, i);
			continue;
		}
		/* No memory for it now: it waits another time. */
		channel->until_us = now_us + EVENT_PENALTY_MAX_US;
		i++;
	}
	pthread_mutex_unlock(&set->lock);
}

/* The end of the penalty that ends first, or `until_us` if that is before it. */
static uint64_t wait_end(struct event_set *set, uint64_t until_us)
{
	pthread_mutex_lock(&set->lock);
	for (unsigned int i = 0; i < set->n_shut_out; i++) {
		const struct channel *channel = &set->channels[set->shut_out[i]];

		if (channel->until_us < until_us)
			until_us = channel->until_us;
	}
	pthread_mutex_unlock(&set->lock);
	return until_us;
}

/* As epoll_wait(2), until a time. */
static int wait_until(const struct event_set *set, struct epoll_event *events, uint64_t until_us)
{
	uint64_t now_us = until_us == 0 || until_us == EVENT_FOREVER ? 0 : clock_now_us();
	uint64_t us = until_us > now_us ? until_us - now_us : 0;
	const struct timespec timeout = {
		.tv_sec = (time_t)(us / 1000000),
		.tv_nsec = (long)(us % 1000000 * 1000),
	};

	if (set->has_pwait2)
		return epoll_pwait2(set->epoll_fd, events, EVENT_WAIT_MAX,
			until_us == EVENT_FOREVER ? NULL : &timeout, NULL);
	us = us / 1000 < INT_MAX ? us / 1000 + (us % 1000 != 0) : INT_MAX;
	return epoll_wait(set->epoll_fd, events, EVENT_WAIT_MAX, until_us == EVENT_FOREVER ? -1 : (int)us);
}

unsigned int event_set_wait(struct event_set *set, uint64_t until_us, uint16_t *ids)
{
	struct epoll_event events[EVENT_WAIT_MAX];
	uint64_t end_us = until_us;
	int n;

	if (__atomic_load_n(&set->n_shut_out, __ATOMIC_RELAXED) > 0) {
		penalties_end(set);
		end_us = wait_end(set, until_us);
	}
	n = wait_until(set, events, end_us);
	if (n == 0 && end_us != 0)
		count(&set->report.n_timeouts);
	if (n == 0 && end_us < until_us) {
		penalties_end(set);
		n = wait_until(set, events, 0);
	}
	for (int i = 0; i < n; i++) {
		unsigned int id = (uint32_t)events[i].data.u64;

		ids[i] = (uint16_t)id;
		count(&set->channels[id].n_wakeups);
		count(&set->report.n_wakeups[events[i].data.u64 >> 32]);
	}
	return n > 0 ? (unsigned int)n : 0;
}

/* False: it was closed meanwhile. */
static bool shut_out(struct event_set *set, unsigned int id)
{
	struct channel *channel = &set->channels[id];
	uint64_t penalty_us = 2 * counted(&channel->penalty_us);
	bool is_open;

	if (penalty_us < EVENT_PENALTY_MIN_US)
		penalty_us = EVENT_PENALTY_MIN_US;
	if (penalty_us > EVENT_PENALTY_MAX_US)
		penalty_us = EVENT_PENALTY_MAX_US;
	pthread_mutex_lock(&set->lock);
	is_open = channel->fd >= 0 && !channel->is_shut_out;
	if (is_open) {
		leave(set, id);
		channel->until_us = clock_now_us() + penalty_us;
		set_to(&channel->penalty_us, penalty_us);
		count(&channel->n_penalties);
		count(&set->report.n_penalties);
		__atomic_store_n(&channel->is_shut_out, true, __ATOMIC_RELAXED);
		set->shut_out[set->n_shut_out] = (uint16_t)id;
		__atomic_store_n(&set->n_shut_out, set->n_shut_out + 1, __ATOMIC_RELAXED);
	}
	pthread_mutex_unlock(&set->lock);
	return is_open;
}

bool event_channel_judge(struct event_set *set, int id, bool was_real)
{
	struct channel *channel = &set->channels[id];
	bool is_let_in = counted(&channel->is_let_in) != 0;

	set_to(&channel->is_let_in, 0);
	if (was_real) {
		set_to(&channel->n_in_a_row, 0);
		set_to(&channel->penalty_us, 0);
		return false;
	}
	/* That was us and not the peer; the next time it is. */
	if (is_let_in) {
		set_to(&channel->n_in_a_row, EVENT_SPURIOUS_MAX - 1);
		return false;
	}
	count(&channel->n_spurious);
	count(&set->report.n_spurious);
	count(&channel->n_in_a_row);
	return counted(&channel->n_in_a_row) >= EVENT_SPURIOUS_MAX && shut_out(set, (unsigned int)id);
}
