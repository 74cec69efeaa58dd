/* SPDX-License-Identifier: BSD-3-Clause */
/* Guest memory through messages: what is taken, what is refused, and what becomes of rings when it
 * changes. */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include <gmem/guard.h>

#include "session_fixture.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#elif defined(__has_feature)
#define SANITIZED (__has_feature(address_sanitizer) || __has_feature(thread_sanitizer))
#else
#define SANITIZED 0
#endif

#define N_ELEMENTS(array) (sizeof(array) / sizeof((array)[0]))
#define PAGE              4096u

/* cmocka puts its own handler for SIGBUS around each test. */
static struct sigaction guard;

static void bad_region_is_refused_and_the_old_table_stays(void **state)
{
	static const struct vu_region_payload bad[] = {
		{.gpa = 0, .size = 0, .uva = 0},
		{.gpa = UINT64_MAX - PAGE + 2, .size = PAGE, .uva = PAGE},
		{.gpa = UINT64_MAX, .size = PAGE, .uva = PAGE},
		{.gpa = 0, .size = PAGE, .uva = UINT64_MAX - PAGE + 2},
		{.gpa = PAGE, .size = UINT64_MAX, .uva = PAGE},
		{.gpa = 0, .size = PAGE, .uva = 0, .mmap_offset = UINT64_MAX - PAGE + 1},
		{.gpa = 0, .size = PAGE, .uva = 0, .mmap_offset = GUEST_BYTES},
		{.gpa = 0, .size = PAGE + 1, .uva = 0, .mmap_offset = GUEST_BYTES - PAGE},
		{.gpa = 0, .size = GUEST_BYTES + 1, .uva = 0},
		{.gpa = 0, .size = UINT64_C(64) << 40, .uva = 0},
		{.gpa = 0, .size = PAGE, .uva = 0, .mmap_offset = UINT64_C(1) << 63},
	};
	const struct gmem *table;
	struct resources before;
	struct fixture f;

	fixture_open(&f, NULL);
	client_start(&f);
	/* Out of the way of all of the above. */
	table = vu_backend_memory(f.session);
	before = resources_now();
	for (size_t i = 0; i < N_ELEMENTS(bad); i++) {
		assert_int_equal(client_add_region(&f, &bad[i], f.memory.fd), OUTCOME_REFUSED);
		assert_int_equal(client_set_table(&f, &bad[i], &f.memory.fd, 1), OUTCOME_REFUSED);
		assert_ptr_equal(vu_backend_memory(f.session), table);
	}
	resources_assert_flat(&before);
	assert_int_equal(vu_backend_ring(f.session, 0)->state, VU_RING_RUNNING);
	fixture_close(&f);
}

static void regions_at_the_ends_of_the_address_space_are_taken(void **state)
{
	const struct vu_region_payload regions[] = {
		{.gpa = 0, .size = PAGE, .uva = 0},
		{.gpa = UINT64_MAX - 2 * PAGE + 1, .size = PAGE, .uva = UINT64_MAX - 2 * PAGE + 1},
	};
	struct fixture f;
	int fds[2];

	fixture_open(&f, NULL);
	client_negotiate(&f);
	fds[0] = f.memory.fd;
	fds[1] = f.memory.fd;
	assert_int_equal(client_set_table(&f, regions, fds, 2), OUTCOME_OK);
	assert_int_equal(vu_backend_memory(f.session)->n_regions, 2);
	fixture_close(&f);
}

static void overlap_is_refused_and_neighbours_are_taken(void **state)
{
	const uint64_t far = UINT64_C(1) << 40;
	/* Beside { gpa 0x100000, uva 0x500000, size 0x10000 } */
	const struct {
		struct vu_region_payload region;
		enum outcome outcome;
	} cases[] = {
		{{.gpa = 0x100000, .size = 0x10000, .uva = 0x500000}, OUTCOME_REFUSED},
		{{.gpa = 0x100000, .size = 0x10000, .uva = far}, OUTCOME_REFUSED},
		{{.gpa = far, .size = 0x10000, .uva = 0x500000}, OUTCOME_REFUSED},
		{{.gpa = 0x104000, .size = 0x1000, .uva = far}, OUTCOME_REFUSED},
		{{.gpa = 0x0ff000, .size = 0x12000, .uva = far}, OUTCOME_REFUSED},
		{{.gpa = 0x10f000, .size = 0x2000, .uva = far}, OUTCOME_REFUSED},
		{{.gpa = far, .size = 0x2000, .uva = 0x4ff000}, OUTCOME_REFUSED},
		{{.gpa = 0x110000, .size = 0x1000, .uva = 0x510000}, OUTCOME_OK},
		{{.gpa = 0x0ff000, .size = 0x1000, .uva = 0x4ff000}, OUTCOME_OK},
	};
	const struct vu_region_payload first = {.gpa = 0x100000, .size = 0x10000, .uva = 0x500000};
	struct fixture f;

	fixture_open(&f, NULL);
	client_negotiate(&f);
	assert_int_equal(client_add_region(&f, &first, f.memory.fd), OUTCOME_OK);
	for (size_t i = 0; i < N_ELEMENTS(cases); i++) {
		const struct vu_region_payload both[] = {first, cases[i].region};
		const int fds[] = {f.memory.fd, f.memory.fd};

		assert_int_equal(
			client_add_region(&f, &cases[i].region, f.memory.fd), cases[i].outcome);
		if (cases[i].outcome == OUTCOME_OK)
			assert_int_equal(client_remove_region(&f, &cases[i].region), OUTCOME_OK);
		else
			assert_int_equal(client_set_table(&f, both, fds, 2), OUTCOME_REFUSED);
		assert_int_equal(vu_backend_memory(f.session)->n_regions, 1);
	}
	fixture_close(&f);
}

static void region_count_has_its_limits(void **state)
{
	struct vu_region_payload regions[8];
	struct vu_region_payload region;
	struct fixture f;
	int fds[8];

	fixture_open(&f, NULL);
	client_negotiate(&f);
	for (unsigned int i = 0; i < 8; i++) {
		regions[i] = (struct vu_region_payload){
			.gpa = i * PAGE, .size = PAGE, .uva = i * PAGE, .mmap_offset = i * PAGE};
		fds[i] = f.memory.fd;
	}
	assert_int_equal(client_set_table(&f, regions, fds, 8), OUTCOME_OK);
	assert_int_equal(vu_backend_memory(f.session)->n_regions, 8);
	for (uint64_t i = 8; i < GMEM_MAX_REGIONS + 2; i++) {
		region = (struct vu_region_payload){.gpa = i * PAGE, .size = PAGE, .uva = i * PAGE};
		assert_int_equal(client_add_region(&f, &region, f.memory.fd),
			i < GMEM_MAX_REGIONS ? OUTCOME_OK : OUTCOME_REFUSED);
	}
	assert_int_equal(vu_backend_memory(f.session)->n_regions, GMEM_MAX_REGIONS);
	/* No region at all is a table, too. */
	assert_int_equal(client_set_table(&f, regions, fds, 0), OUTCOME_OK);
	assert_int_equal(vu_backend_memory(f.session)->n_regions, 0);
	fixture_close(&f);
}

static void only_the_exact_region_is_removed(void **state)
{
	struct vu_region_payload region;
	struct vu_region_payload other;
	struct fixture f;

	fixture_open(&f, NULL);
	client_negotiate(&f);
	region = guest_region(&f);
	assert_int_equal(client_remove_region(&f, &region), OUTCOME_REFUSED);
	client_set_memory(&f);
	other = region;
	other.size -= PAGE;
	assert_int_equal(client_remove_region(&f, &other), OUTCOME_REFUSED);
	other = region;
	other.gpa += PAGE;
	assert_int_equal(client_remove_region(&f, &other), OUTCOME_REFUSED);
	other = region;
	other.uva += PAGE;
	assert_int_equal(client_remove_region(&f, &other), OUTCOME_REFUSED);
	/* The offset is not part of what names a region. */
	other = region;
	other.mmap_offset = 12345;
	assert_int_equal(client_remove_region(&f, &other), OUTCOME_OK);
	assert_int_equal(client_remove_region(&f, &region), OUTCOME_REFUSED);
	fixture_close(&f);
}

static void adding_and_removing_for_ever_leaves_resources_flat(void **state)
{
	struct vu_region_payload region = {.gpa = 0, .size = PAGE, .uva = 0};
	struct resources before;
	struct fixture f;

	fixture_open(&f, NULL);
	client_start(&f);
	before = resources_now();
	for (unsigned int i = 0; i < 5000; i++) {
		region.mmap_offset = i % 16 * PAGE;
		assert_int_equal(client_add_region(&f, &region, f.memory.fd), OUTCOME_OK);
		assert_int_equal(client_remove_region(&f, &region), OUTCOME_OK);
	}
	resources_assert_flat(&before);
	for (uint32_t i = 0; i < FIXTURE_RINGS; i++)
		assert_int_equal(vu_backend_ring(f.session, i)->state, VU_RING_RUNNING);
	fixture_close(&f);
}

/* Takes what is available in a transmit ring and returns it. */
static int use_all(struct fixture *f, uint32_t index)
{
	static struct vring_burst burst;
	struct vring_device *device = &vu_backend_ring(f->session, index)->device;
	int n = vring_device_peek(device, &burst, VRING_READABLE, 32);

	if (n > 0) {
		vring_device_return(device, &burst, (unsigned int)n);
		vring_device_publish(device);
	}
	return n;
}

static void table_replaced_under_a_running_ring_keeps_its_position(void **state)
{
	struct vu_region_payload halves[2];
	struct vring_used *used;
	struct fixture f;
	uint16_t idx = 0;
	int fds[2];

	fixture_open(&f, NULL);
	client_start(&f);
	used = (struct vring_used *)(f.memory.address + RING_BYTES + RING_USED_SHIFT);
	halves[0] = guest_region(&f);
	halves[1] = halves[0];
	halves[0].size /= 2;
	halves[1].size /= 2;
	halves[1].gpa += halves[0].size;
	halves[1].uva += halves[0].size;
	halves[1].mmap_offset += halves[0].size;
	fds[0] = f.memory.fd;
	fds[1] = f.memory.fd;
	for (unsigned int i = 0; i < 1000; i++) {
		unsigned int n_quiesce = f.n_quiesce;
		const struct gmem *old = vu_backend_memory(f.session);

		for (unsigned int k = 0; k < 1 + i % 3; k++)
			guest_offer(&f, 1, idx++, false);
		assert_int_equal(use_all(&f, 1), 1 + i % 3);
		if (i % 2 == 0)
			assert_int_equal(client_set_table(&f, halves, fds, 2), OUTCOME_OK);
		else
			client_set_memory(&f);
		assert_ptr_not_equal(vu_backend_memory(f.session), old);
		assert_int_equal(f.n_quiesce, n_quiesce + 1);
		assert_int_equal(f.n_resume, f.n_quiesce);
		assert_int_equal(vu_backend_ring(f.session, 1)->state, VU_RING_RUNNING);
		assert_ptr_equal(
			vu_backend_ring(f.session, 1)->device.mem, vu_backend_memory(f.session));
		assert_int_equal(used->idx, idx);
	}
	assert_int_equal(client_get_base(&f, 1), idx);
	fixture_close(&f);
}

static void ring_whose_memory_went_away_waits_until_it_is_back(void **state)
{
	struct vu_region_payload region;
	struct vu_ring *ring;
	struct fixture f;
	int call_fd;

	fixture_open(&f, NULL);
	client_start(&f);
	region = guest_region(&f);
	ring = vu_backend_ring(f.session, 1);
	call_fd = eventfd(0, EFD_CLOEXEC);
	assert_int_equal(client_call_fd(&f, VU_REQUEST_SET_VRING_CALL, 1, call_fd), OUTCOME_OK);
	eventfd_drain(call_fd);
	guest_offer(&f, 1, 0, false);
	assert_int_equal(use_all(&f, 1), 1);

	assert_int_equal(client_remove_region(&f, &region), OUTCOME_OK);
	assert_int_equal(ring->state, VU_RING_STARTED);
	assert_true(ring->enabled);
	assert_null(ring->device.desc);
	assert_int_equal(eventfd_drain(call_fd), 0);
	guest_offer(&f, 1, 1, false);
	assert_int_equal(client_add_region(&f, &region, f.memory.fd), OUTCOME_OK);
	assert_int_equal(ring->state, VU_RING_RUNNING);
	/* Whoever was told of the first buffer may not have got the call. */
	assert_int_equal(eventfd_drain(call_fd), 1);
	assert_int_equal(use_all(&f, 1), 1);
	assert_int_equal(client_get_base(&f, 1), 2);
	close(call_fd);
	fixture_close(&f);
}

static void region_with_buffers_only_can_go_while_the_ring_runs(void **state)
{
	struct vu_region_payload rings;
	struct vu_region_payload buffers;
	static struct vring_burst burst;
	struct vu_ring *ring;
	struct fixture f;

	fixture_open(&f, NULL);
	client_negotiate(&f);
	rings = guest_region(&f);
	rings.size = GUEST_BYTES / 2;
	buffers = rings;
	buffers.gpa += GUEST_BYTES / 2;
	buffers.uva += GUEST_BYTES / 2;
	buffers.mmap_offset = GUEST_BYTES / 2;
	assert_int_equal(client_add_region(&f, &rings, f.memory.fd), OUTCOME_OK);
	assert_int_equal(client_add_region(&f, &buffers, f.memory.fd), OUTCOME_OK);
	client_start_ring(&f, 1);
	ring = vu_backend_ring(f.session, 1);
	guest_offer(&f, 1, 0, false);
	assert_int_equal(client_remove_region(&f, &buffers), OUTCOME_OK);
	assert_int_equal(ring->state, VU_RING_RUNNING);
	/* The buffer that lay there is refused, the ring lives. */
	assert_int_equal(vring_device_peek(&ring->device, &burst, VRING_READABLE, 8), 1);
	assert_int_equal(burst.buffers[0].fault, VRING_FAULT_ADDRESS);
	fixture_close(&f);
}

static void ring_parts_outside_memory_or_misaligned_are_refused(void **state)
{
	static const uint64_t far = UINT64_C(1) << 45;
	struct vu_ring_addr_payload addr;
	struct fixture f;

	fixture_open(&f, NULL);
	client_negotiate(&f);
	client_set_memory(&f);
	assert_int_equal(
		client_call_state(&f, VU_REQUEST_SET_VRING_NUM, 0, FIXTURE_RING_SIZE), OUTCOME_OK);
	for (unsigned int part = 0; part < 3; part++) {
		static const unsigned int align[] = {16, 2, 4};
		static const unsigned int bytes[] = {16 * FIXTURE_RING_SIZE,
			6 + 2 * FIXTURE_RING_SIZE, 6 + 8 * FIXTURE_RING_SIZE};
		uint64_t end = (uintptr_t)f.memory.address + GUEST_BYTES;
		uint64_t last = (end - bytes[part]) / align[part] * align[part];
		uint64_t *field;

		addr = guest_ring_addr(&f, 0);
		field = part == 0 ? &addr.desc_uva : part == 1 ? &addr.avail_uva : &addr.used_uva;
		for (unsigned int off = 1; off < align[part]; off *= 2) {
			*field += off;
			assert_int_equal(client_call(&f, VU_REQUEST_SET_VRING_ADDR, &addr,
						 sizeof(addr), NULL, 0),
				OUTCOME_REFUSED);
			*field -= off;
		}
		*field = far;
		assert_int_equal(
			client_call(&f, VU_REQUEST_SET_VRING_ADDR, &addr, sizeof(addr), NULL, 0),
			OUTCOME_REFUSED);
		*field = (uintptr_t)f.memory.address - align[part];
		assert_int_equal(
			client_call(&f, VU_REQUEST_SET_VRING_ADDR, &addr, sizeof(addr), NULL, 0),
			OUTCOME_REFUSED);
		/* One step past the last place that fits. */
		*field = last + align[part];
		assert_int_equal(
			client_call(&f, VU_REQUEST_SET_VRING_ADDR, &addr, sizeof(addr), NULL, 0),
			OUTCOME_REFUSED);
		*field = last;
		assert_int_equal(
			client_call(&f, VU_REQUEST_SET_VRING_ADDR, &addr, sizeof(addr), NULL, 0),
			OUTCOME_OK);
	}
	/* Parts on top of each other are the guest's own business. */
	addr.avail_uva = addr.desc_uva = addr.used_uva = (uintptr_t)f.memory.address;
	assert_int_equal(client_call(&f, VU_REQUEST_SET_VRING_ADDR, &addr, sizeof(addr), NULL, 0),
		OUTCOME_OK);
	fixture_close(&f);
}

static void ring_over_two_regions_that_are_not_neighbours_here_does_not_run(void **state)
{
	struct vu_region_payload regions[2];
	struct vu_ring_addr_payload addr;
	struct fixture f;
	int fds[2];

	fixture_open(&f, NULL);
	client_negotiate(&f);
	/* The pages of the file in the other order: adjacent for the guest only. */
	regions[0] = guest_region(&f);
	regions[0].size = PAGE;
	regions[0].mmap_offset = PAGE;
	regions[1] = regions[0];
	regions[1].gpa += PAGE;
	regions[1].uva += PAGE;
	regions[1].mmap_offset = 0;
	fds[0] = f.memory.fd;
	fds[1] = f.memory.fd;
	assert_int_equal(client_set_table(&f, regions, fds, 2), OUTCOME_OK);
	addr = (struct vu_ring_addr_payload){
		.desc_uva = regions[1].uva - 64,
		.avail_uva = regions[0].uva,
		.used_uva = regions[0].uva + 512,
	};
	/* 8 descriptors are 128 bytes: half of them in either region. */
	assert_int_equal(
		client_call_state(&f, VU_REQUEST_SET_VRING_NUM, 0, FIXTURE_RING_SIZE), OUTCOME_OK);
	assert_int_equal(client_call(&f, VU_REQUEST_SET_VRING_ADDR, &addr, sizeof(addr), NULL, 0),
		OUTCOME_REFUSED);
	fixture_close(&f);
}

static void memory_taken_away_ends_the_session(void **state)
{
	struct vu_region_payload region;
	struct fixture f;
	int fd;

	assert_int_equal(sigaction(SIGBUS, &guard, NULL), 0);
	fixture_open(&f, NULL);
	client_negotiate(&f);
	fd = memfd_create("shrinks", MFD_CLOEXEC);
	assert_int_equal(ftruncate(fd, PAGE), 0);
	region = guest_region(&f);
	region.size = PAGE;
	assert_int_equal(client_set_table(&f, &region, &fd, 1), OUTCOME_OK);
	assert_int_equal(ftruncate(fd, 0), 0);
	close(fd);
	/* What a worker would do, guarded. */
	*(volatile uint8_t *)vu_backend_memory(f.session)->regions[0].hva = 1;
	assert_int_equal(session_run(&f), -1);
	assert_int_equal(vu_backend_close_reason(f.session), VU_CLOSE_MEMORY);
	fixture_close(&f);
}

static void mapping_that_fails_is_refused_and_leaves_nothing(void **state)
{
#if SANITIZED
	print_message("skipped: a sanitizer's shadow memory does not live under RLIMIT_AS\n");
	skip();
#else
	const struct vu_region_payload region = {.gpa = 0, .size = UINT64_C(1) << 34, .uva = PAGE};
	struct rlimit old;
	struct rlimit low;
	struct fixture f;
	int fd;

	fixture_open(&f, NULL);
	client_start(&f);
	fd = memfd_create("big", MFD_CLOEXEC);
	assert_int_equal(ftruncate(fd, (off_t)region.size), 0);
	assert_int_equal(getrlimit(RLIMIT_AS, &old), 0);
	low = old;
	low.rlim_cur = UINT64_C(1) << 32;
	assert_int_equal(setrlimit(RLIMIT_AS, &low), 0);
	assert_int_equal(client_add_region(&f, &region, fd), OUTCOME_REFUSED);
	assert_int_equal(client_set_table(&f, &region, &fd, 1), OUTCOME_REFUSED);
	assert_int_equal(setrlimit(RLIMIT_AS, &old), 0);
	assert_int_equal(vu_backend_ring(f.session, 0)->state, VU_RING_RUNNING);
	close(fd);
	fixture_close(&f);
#endif
}

static int install_guard(void **state)
{
	return gmem_guard_install() < 0 || sigaction(SIGBUS, NULL, &guard) < 0 ? -1 : 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(bad_region_is_refused_and_the_old_table_stays),
		cmocka_unit_test(regions_at_the_ends_of_the_address_space_are_taken),
		cmocka_unit_test(overlap_is_refused_and_neighbours_are_taken),
		cmocka_unit_test(region_count_has_its_limits),
		cmocka_unit_test(only_the_exact_region_is_removed),
		cmocka_unit_test(adding_and_removing_for_ever_leaves_resources_flat),
		cmocka_unit_test(table_replaced_under_a_running_ring_keeps_its_position),
		cmocka_unit_test(ring_whose_memory_went_away_waits_until_it_is_back),
		cmocka_unit_test(region_with_buffers_only_can_go_while_the_ring_runs),
		cmocka_unit_test(ring_parts_outside_memory_or_misaligned_are_refused),
		cmocka_unit_test(ring_over_two_regions_that_are_not_neighbours_here_does_not_run),
		cmocka_unit_test(memory_taken_away_ends_the_session),
		cmocka_unit_test(mapping_that_fails_is_refused_and_leaves_nothing),
	};

	return cmocka_run_group_tests(tests, install_guard, NULL);
}
