/* SPDX-License-Identifier: BSD-3-Clause */
/* SET_LOG_BASE, LOG_ALL and the log flag of rings (L1, L6, L7, L8): who logs what, and when. */
#include <fcntl.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include <gmem/guard.h>
#include <gmem/log.h>

#include "session_fixture.h"

#define LOG_ALL VU_BIT(VHOST_USER_F_LOG_ALL)

/* Pages up to the end of the guest's memory, a bit each; all of it is a multiple of 8. */
#define LOG_BYTES ((GUEST_GPA + GUEST_BYTES) / GMEM_LOG_PAGE_BYTES / 8)

static bool is_packed;

static int use_split(void **state)
{
	is_packed = false;
	return 0;
}

static int use_packed(void **state)
{
	is_packed = true;
	return 0;
}

static uint64_t features_of(const struct fixture *f)
{
	return f->features | VU_BIT(VHOST_USER_F_PROTOCOL_FEATURES);
}

/* All rings run; LOG_ALL was offered and is acked or not. */
static void start(struct fixture *f, bool log_all)
{
	const struct vu_backend_config config = { .features = FIXTURE_FEATURES | LOG_ALL |
							      (is_packed ? FIXTURE_RING_PACKED : 0) };

	fixture_open(f, &config);
	client_negotiate(f);
	assert_int_equal(client_call_u64(f, VU_REQUEST_SET_FEATURES, features_of(f) & ~LOG_ALL), OUTCOME_OK);
	client_set_memory(f);
	for (uint32_t i = 0; i < FIXTURE_RINGS; i++)
		client_start_ring(f, i);
	if (log_all)
		assert_int_equal(client_call_u64(f, VU_REQUEST_SET_FEATURES, features_of(f)), OUTCOME_OK);
}

static int log_file(uint64_t size)
{
	int fd = memfd_create("log", MFD_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, (off_t)size), 0);
	return fd;
}

/* True: the reply is what was sent and nothing else; false: the session is over. */
static bool set_log(struct fixture *f, uint64_t size, uint64_t offset, const int *fds, unsigned int n_fds)
{
	const struct vu_log_payload payload = { .mmap_size = size, .mmap_offset = offset };
	struct vu_log_payload reply;
	struct vu_header header;

	client_write(f, VU_REQUEST_SET_LOG_BASE, VU_FLAGS_VERSION | VU_FLAGS_NEED_REPLY, sizeof(payload), &payload,
		sizeof(payload), fds, n_fds);
	if (session_run(f) < 0) {
		assert_false(client_read(f, &header, &reply, sizeof(reply)));
		return false;
	}
	assert_true(client_read(f, &header, &reply, sizeof(reply)));
	assert_int_equal(header.request, VU_REQUEST_SET_LOG_BASE);
	assert_int_equal(header.flags, VU_FLAGS_VERSION | VU_FLAGS_REPLY);
	assert_int_equal(header.size, sizeof(reply));
	assert_memory_equal(&reply, &payload, sizeof(reply));
	/* No acknowledgement beside it. */
	assert_false(client_read(f, &header, &reply, sizeof(reply)));
	return true;
}

static void set_good_log(struct fixture *f)
{
	int fd = log_file(LOG_BYTES);

	assert_true(set_log(f, LOG_BYTES, 0, &fd, 1));
	close(fd);
}

static const struct vring_dirty *dirty_of(struct fixture *f, uint32_t index)
{
	return &vu_backend_ring(f->session, index)->dirty;
}

static void expect_logging(struct fixture *f, bool expected)
{
	for (uint32_t i = 0; i < FIXTURE_RINGS; i++) {
		assert_int_equal(vu_backend_ring(f->session, i)->state, VU_RING_RUNNING);
		assert_int_equal(dirty_of(f, i)->log != NULL, expected);
	}
}

static enum outcome set_addr(struct fixture *f, uint32_t index, uint32_t flags, uint64_t log_gpa)
{
	struct vu_ring_addr_payload addr = guest_ring_addr(f, index);

	addr.flags = flags;
	addr.log_gpa = log_gpa;
	return client_call(f, VU_REQUEST_SET_VRING_ADDR, &addr, sizeof(addr), NULL, 0);
}

static uint64_t used_gpa(uint32_t index)
{
	return GUEST_GPA + index * RING_BYTES + RING_USED_SHIFT;
}

static void rings_log_while_log_all_is_set_and_there_is_a_log(void **state)
{
	struct fixture f;

	start(&f, false);
	expect_logging(&f, false);
	set_good_log(&f);
	expect_logging(&f, false);
	assert_int_equal(client_call_u64(&f, VU_REQUEST_SET_FEATURES, features_of(&f)), OUTCOME_OK);
	expect_logging(&f, true);
	assert_int_equal(client_call_u64(&f, VU_REQUEST_SET_FEATURES, features_of(&f) & ~LOG_ALL), OUTCOME_OK);
	expect_logging(&f, false);
	assert_int_equal(f.n_quiesce, f.n_resume);
	fixture_close(&f);
}

/* L7 */
static void without_a_log_log_all_does_nothing_until_there_is_one(void **state)
{
	struct fixture f;

	start(&f, true);
	expect_logging(&f, false);
	set_good_log(&f);
	expect_logging(&f, true);
	fixture_close(&f);
}

/* A driver that starts anew in the middle of a migration: the log comes after the rings. */
static void a_ring_that_is_started_under_log_all_waits_for_the_log(void **state)
{
	struct vu_ring_addr_payload addr;
	struct fixture f;

	start(&f, true);
	client_get_base(&f, 1);
	addr = guest_ring_addr(&f, 1);
	assert_int_equal(client_call(&f, VU_REQUEST_SET_VRING_ADDR, &addr, sizeof(addr), NULL, 0), OUTCOME_OK);
	assert_int_equal(client_call_fd(&f, VU_REQUEST_SET_VRING_KICK, 1 | VU_RING_FD_NONE, -1), OUTCOME_OK);
	assert_int_equal(vu_backend_ring(f.session, 1)->state, VU_RING_STARTED);
	set_good_log(&f);
	expect_logging(&f, true);
	fixture_close(&f);
}

static void no_other_feature_may_change_on_the_way(void **state)
{
	struct fixture f;

	start(&f, false);
	set_good_log(&f);
	assert_int_equal(
		client_call_u64(&f, VU_REQUEST_SET_FEATURES, features_of(&f) & ~VU_BIT(15)), OUTCOME_REFUSED);
	expect_logging(&f, false);
	assert_int_equal(vu_backend_features(f.session), features_of(&f) & ~LOG_ALL);
	fixture_close(&f);
}

/* Positions stay, rings go on. */
static void a_ring_s_own_parts_are_logged_if_its_flag_says_so(void **state)
{
	struct fixture f;

	start(&f, true);
	set_good_log(&f);
	for (uint32_t i = 0; i < FIXTURE_RINGS; i++) {
		uint32_t position = vring_device_position(&vu_backend_ring(f.session, i)->device);

		assert_false(dirty_of(&f, i)->logs_ring);
		assert_int_equal(set_addr(&f, i, VU_RING_ADDR_LOG, used_gpa(i)), OUTCOME_OK);
		assert_true(dirty_of(&f, i)->logs_ring);
		assert_int_equal(dirty_of(&f, i)->ring_gpa, is_packed ? used_gpa(i) - RING_USED_SHIFT : used_gpa(i));
		if (is_packed)
			assert_int_equal(dirty_of(&f, i)->event_gpa, used_gpa(i));
		assert_int_equal(vring_device_position(&vu_backend_ring(f.session, i)->device), position);
	}
	expect_logging(&f, true);
	assert_int_equal(set_addr(&f, 1, 0, 0), OUTCOME_OK);
	assert_false(dirty_of(&f, 1)->logs_ring);
	assert_true(dirty_of(&f, 0)->logs_ring);
	expect_logging(&f, true);
	/* No other flag, and no other address. */
	assert_int_equal(set_addr(&f, 0, 2, 0), OUTCOME_REFUSED);
	assert_int_equal(set_addr(&f, 0, 3, 0), OUTCOME_REFUSED);
	assert_true(dirty_of(&f, 0)->logs_ring);
	fixture_close(&f);
}

/* L6 */
static void the_message_s_log_address_is_not_believed(void **state)
{
	const uint64_t lies[] = { 0, 1, GUEST_GPA + GUEST_BYTES, UINT64_MAX - 1, UINT64_MAX };
	struct fixture f;

	start(&f, true);
	set_good_log(&f);
	for (unsigned int i = 0; i < sizeof(lies) / sizeof(lies[0]); i++) {
		assert_int_equal(set_addr(&f, 0, VU_RING_ADDR_LOG, lies[i]), OUTCOME_OK);
		assert_int_equal(dirty_of(&f, 0)->ring_gpa, is_packed ? GUEST_GPA : used_gpa(0));
	}
	fixture_close(&f);
}

/* L7 */
static void a_log_may_be_replaced_while_rings_run(void **state)
{
	struct resources before;
	struct fixture f;

	start(&f, true);
	set_good_log(&f);
	before = resources_now();
	for (unsigned int i = 0; i < 1000; i++) {
		int fd = log_file(LOG_BYTES + 100);
		uint8_t *bits = mmap(NULL, LOG_BYTES + 100, PROT_READ, MAP_SHARED, fd, 0);

		assert_true(set_log(&f, LOG_BYTES, i % 100, &fd, 1));
		close(fd);
		expect_logging(&f, true);
		for (uint32_t ring = 0; ring < FIXTURE_RINGS; ring++) {
			gmem_log_mark(dirty_of(&f, ring)->log, ring * 8 * GMEM_LOG_PAGE_BYTES, 1);
			assert_int_equal(bits[i % 100 + ring], 1);
		}
		munmap(bits, LOG_BYTES + 100);
	}
	resources_assert_flat(&before);
	fixture_close(&f);
}

/* L1. A reply of its own cannot say no. */
static void a_log_that_cannot_be_ends_the_session(void **state)
{
	const uint64_t values[] = { 0, 1, 4095, 4096, 1ULL << 63, UINT64_MAX };
	const unsigned int n = sizeof(values) / sizeof(values[0]);

	for (unsigned int i = 0; i < n * n; i++) {
		uint64_t size = values[i / n], offset = values[i % n];
		struct fixture f;
		int fd;

		/* No memory is logged: any length will do. */
		start(&f, false);
		fd = log_file(4096);
		assert_int_equal(set_log(&f, size, offset, &fd, 1), size > 0 && size <= 4096 && offset <= 4096 - size);
		close(fd);
		fixture_close(&f);
	}
}

static void a_descriptor_of_another_kind_ends_the_session(void **state)
{
	for (unsigned int kind = 0; kind < 4; kind++) {
		int fds[2] = { -1, -1 };
		unsigned int n_fds = kind == 0 ? 0 : kind == 1 ? 2 : 1;
		struct fixture f;

		start(&f, true);
		fds[0] = kind == 2 ? eventfd(0, 0) : kind == 3 ? open("/dev/zero", O_RDWR) : log_file(LOG_BYTES);
		fds[1] = log_file(LOG_BYTES);
		assert_false(set_log(&f, LOG_BYTES, 0, fds, n_fds));
		close(fds[0]);
		close(fds[1]);
		fixture_close(&f);
	}
}

/* L6 */
static void a_log_without_a_bit_for_all_memory_is_refused_where_it_would_be_used(void **state)
{
	int fd;
	struct fixture f;

	start(&f, false);
	fd = log_file(LOG_BYTES);
	assert_true(set_log(&f, LOG_BYTES - 1, 0, &fd, 1));
	assert_int_equal(client_call_u64(&f, VU_REQUEST_SET_FEATURES, features_of(&f)), OUTCOME_REFUSED);
	expect_logging(&f, false);
	assert_true(set_log(&f, LOG_BYTES, 0, &fd, 1));
	assert_int_equal(client_call_u64(&f, VU_REQUEST_SET_FEATURES, features_of(&f)), OUTCOME_OK);
	expect_logging(&f, true);
	assert_false(set_log(&f, LOG_BYTES - 1, 0, &fd, 1));
	close(fd);
	fixture_close(&f);
}

/* L6. QEMU sends the longer log before the memory. */
static void memory_is_added_to_a_logging_guest_if_its_log_has_the_bits(void **state)
{
	struct vu_region_payload region;
	struct fixture f;
	int fd;

	start(&f, true);
	set_good_log(&f);
	region = guest_region(&f);
	region.gpa += GUEST_BYTES;
	region.uva += UINT64_C(1) << 32;
	assert_int_equal(client_add_region(&f, &region, f.memory.fd), OUTCOME_REFUSED);
	expect_logging(&f, true);
	fd = log_file(2 * LOG_BYTES);
	assert_true(set_log(&f, 2 * LOG_BYTES, 0, &fd, 1));
	close(fd);
	assert_int_equal(client_add_region(&f, &region, f.memory.fd), OUTCOME_OK);
	expect_logging(&f, true);
	/* One table for another. */
	region.gpa += 100 * GUEST_BYTES;
	assert_int_equal(client_set_table(&f, &region, &f.memory.fd, 1), OUTCOME_REFUSED);
	expect_logging(&f, true);
	client_set_memory(&f);
	expect_logging(&f, true);
	fixture_close(&f);
}

static void a_ring_that_is_stopped_logs_nothing_and_does_again_when_it_is_restarted(void **state)
{
	struct fixture f;

	start(&f, true);
	set_good_log(&f);
	for (uint32_t i = 0; i < FIXTURE_RINGS; i++) {
		client_get_base(&f, i);
		assert_null(dirty_of(&f, i)->log);
	}
	for (uint32_t i = 0; i < FIXTURE_RINGS; i++)
		client_start_ring(&f, i);
	expect_logging(&f, true);
	assert_int_equal(client_call(&f, VU_REQUEST_RESET_DEVICE, NULL, 0, NULL, 0), OUTCOME_OK);
	for (uint32_t i = 0; i < FIXTURE_RINGS; i++)
		assert_null(dirty_of(&f, i)->log);
	fixture_close(&f);
}

static void a_log_goes_when_logging_ends(void **state)
{
	struct resources before;
	struct fixture f;

	start(&f, false);
	before = resources_now();
	for (unsigned int i = 0; i < 100; i++) {
		set_good_log(&f);
		assert_int_equal(client_call_u64(&f, VU_REQUEST_SET_FEATURES, features_of(&f)), OUTCOME_OK);
		assert_int_equal(client_call_u64(&f, VU_REQUEST_SET_FEATURES, features_of(&f) & ~LOG_ALL), OUTCOME_OK);
	}
	resources_assert_flat(&before);
	fixture_close(&f);
}

/* cmocka puts a handler of its own in place for each test; ours goes back over it. */
static struct sigaction guard;

/* L8 */
static void a_log_that_was_truncated_ends_the_session(void **state)
{
	struct fixture f;
	int fd;

	assert_int_equal(sigaction(SIGBUS, &guard, NULL), 0);
	start(&f, true);
	fd = log_file(LOG_BYTES);
	assert_true(set_log(&f, LOG_BYTES, 0, &fd, 1));
	assert_int_equal(ftruncate(fd, 0), 0);
	assert_false(vu_backend_memory_is_broken(f.session));
	gmem_log_mark(dirty_of(&f, 0)->log, GUEST_GPA, 1);
	assert_true(vu_backend_memory_is_broken(f.session));
	/* Not even by a better one is it made good: bits are lost. */
	assert_int_equal(ftruncate(fd, LOG_BYTES), 0);
	assert_false(set_log(&f, LOG_BYTES, 0, &fd, 1));
	assert_int_equal(vu_backend_close_reason(f.session), VU_CLOSE_MEMORY);
	close(fd);
	fixture_close(&f);
}

/* It would be signalled for each change of the log; QEMU polls. */
static void the_log_s_eventfd_is_closed(void **state)
{
	struct resources before;
	struct fixture f;

	start(&f, true);
	before = resources_now();
	for (unsigned int i = 0; i < 100; i++) {
		int fd = eventfd(0, EFD_CLOEXEC);

		assert_int_equal(client_call_fd(&f, VU_REQUEST_SET_LOG_FD, 0, fd), OUTCOME_OK);
		close(fd);
	}
	resources_assert_flat(&before);
	fixture_close(&f);
}

#define both(test)                                              \
	{ #test, test, use_split, NULL, NULL },                 \
	{                                                       \
		#test " (packed)", test, use_packed, NULL, NULL \
	}

int main(void)
{
	const struct CMUnitTest tests[] = {
		both(rings_log_while_log_all_is_set_and_there_is_a_log),
		both(without_a_log_log_all_does_nothing_until_there_is_one),
		both(a_ring_that_is_started_under_log_all_waits_for_the_log),
		both(no_other_feature_may_change_on_the_way),
		both(a_ring_s_own_parts_are_logged_if_its_flag_says_so),
		both(the_message_s_log_address_is_not_believed),
		both(a_log_may_be_replaced_while_rings_run),
		both(a_log_that_cannot_be_ends_the_session),
		both(a_descriptor_of_another_kind_ends_the_session),
		both(a_log_without_a_bit_for_all_memory_is_refused_where_it_would_be_used),
		both(memory_is_added_to_a_logging_guest_if_its_log_has_the_bits),
		both(a_ring_that_is_stopped_logs_nothing_and_does_again_when_it_is_restarted),
		both(a_log_goes_when_logging_ends),
		both(a_log_that_was_truncated_ends_the_session),
		both(the_log_s_eventfd_is_closed),
	};

	assert_true(gmem_guard_install() >= 0);
	sigaction(SIGBUS, NULL, &guard);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
