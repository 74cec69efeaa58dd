/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Shadow rings between a guest's driver and a device, both played by the library's other halves over one piece of memory.
 * Every buffer has a token; what counts is that each comes back exactly once, with what the device did to it, however often
 * the ring is switched between the shadow and the device itself.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <vring/shadow.h>

#include "guest.h"

#define RING         64 /* of the guest */
#define SHADOW_RING  32
#define BUFFERS      RING
#define BUFFER_BYTES 6000
#define MEMORY_BYTES (1024 * 1024)

/* What varies. */
struct way {
	bool packed, in_order, indirect, event_idx;
	enum vring_direction direction;
};

static uint8_t *memory;
static uint32_t memory_used;
static struct gmem *mem;
static struct way way;
static struct vring_driver *driver; /* the guest's */
static struct vring_device guest;   /* the device side of its ring */
static struct vring_shadow *shadow; /* NULL: the device serves the guest's ring itself */
static struct vring_device device;  /* the device side of the shadow's ring */
static struct vring_burst burst;
static uint8_t *buffers[BUFFERS];
static bool is_out[BUFFERS];     /* offered by the guest and not come back */
static uint32_t wrote[BUFFERS];  /* bytes the device wrote, by token */
static unsigned int n_used_by_device[BUFFERS];
static uint64_t n_posted, n_back;
static uint8_t log_bits[MEMORY_BYTES / GMEM_LOG_PAGE_BYTES / 8];
static struct gmem_log dirty_log;
static struct vring_dirty dirty;

static void *memory_take(size_t bytes)
{
	uint8_t *at = memory + memory_used;

	memory_used += (uint32_t)((bytes + 4095) & ~(size_t)4095);
	assert_true(memory_used <= MEMORY_BYTES);
	return at;
}

/* Guest addresses are offsets into the memory. */
static uint64_t gpa_of(const void *hva)
{
	return (uint64_t)((const uint8_t *)hva - memory);
}

static void start(void)
{
	struct vring_driver_config front = {
		.size = RING,
		.packed = way.packed,
		.in_order = way.in_order,
		.indirect = way.indirect,
		.indirect_max = 8,
		.event_idx = way.event_idx,
	};
	struct vring_config back = {
		.size = RING,
		.packed = way.packed,
		.in_order = way.in_order,
		.indirect = way.indirect,
		.event_idx = way.event_idx,
		.avail_idx = way.packed ? VRING_PACKED_START : 0,
		.used_idx = way.packed ? VRING_PACKED_START : 0,
	};

	memory = aligned_alloc(4096, MEMORY_BYTES);
	memset(memory, 0, MEMORY_BYTES);
	memory_used = 0;
	assert_int_equal(gmem_create_identity(memory, MEMORY_BYTES, &mem), 0);
	mem->regions[0].gpa = 0;
	gmem_index(mem);
	front.desc = back.desc = memory_take(vring_desc_bytes(RING));
	front.avail = back.avail = memory_take(vring_avail_bytes(RING));
	front.used = back.used = memory_take(vring_used_bytes(RING));
	front.indirect_area = memory_take((size_t)RING * 8 * 16);
	front.indirect_gpa = gpa_of(front.indirect_area);
	back.mem = mem;
	driver = vring_driver_create(&front);
	assert_non_null(driver);
	assert_int_equal(vring_device_init(&guest, &back), 0);
	for (unsigned int i = 0; i < BUFFERS; i++) {
		buffers[i] = memory_take(BUFFER_BYTES);
		is_out[i] = false;
		n_used_by_device[i] = 0;
	}
	n_posted = n_back = 0;
	memset(log_bits, 0, sizeof(log_bits));
	dirty_log = (struct gmem_log){ .bits = log_bits, .n_pages = MEMORY_BYTES / GMEM_LOG_PAGE_BYTES };
	dirty = (struct vring_dirty){
		.log = &dirty_log,
		.logs_ring = true,
		.ring_gpa = gpa_of(way.packed ? back.desc : back.used),
		.event_gpa = gpa_of(back.used),
	};
	shadow = NULL;
}

static void finish_test(void)
{
	vring_shadow_destroy(shadow);
	vring_driver_destroy(driver);
	gmem_free(mem);
	free(memory);
}

/* Puts a shadow between guest and device. */
static void shadow_begin(uint16_t size)
{
	struct vring_config back = { .size = size, .event_idx = way.event_idx, .in_order = way.in_order, .mem = mem };
	struct vring_shadow_config config = {
		.guest = &guest,
		.direction = way.direction,
		.size = size,
		.event_idx = way.event_idx,
		.in_order = way.in_order,
	};
	uint32_t before = memory_used;

	config.desc = back.desc = memory_take(vring_desc_bytes(size));
	config.avail = back.avail = memory_take(vring_avail_bytes(size));
	config.used = back.used = memory_take(vring_used_bytes(size));
	memset(memory + before, 0, memory_used - before);
	memory_used = before; /* the next one has the same place */
	shadow = vring_shadow_create(&config);
	assert_non_null(shadow);
	assert_int_equal(vring_device_init(&device, &back), 0);
}

static void shadow_end(void)
{
	vring_shadow_stop(shadow, &dirty);
	assert_int_equal(vring_shadow_outstanding(shadow), 0);
	vring_shadow_destroy(shadow);
	shadow = NULL;
}

/* The guest offers up to n buffers of random shapes. */
static void guest_offers(uint64_t *seed, unsigned int n)
{
	for (unsigned int token = 0; token < BUFFERS && n > 0; token++) {
		struct vring_extent extents[4];
		unsigned int n_pieces = 1 + (unsigned int)(random_next(seed) % 4);

		if (is_out[token])
			continue;
		for (unsigned int i = 0; i < n_pieces; i++)
			extents[i] = (struct vring_extent){ gpa_of(buffers[token]) + i * 1500,
				1 + (uint32_t)(random_next(seed) % 1500) };
		memcpy(buffers[token], &token, sizeof(token));
		extents[0].len = extents[0].len < 4 ? 4 : extents[0].len;
		if (vring_driver_post(driver, extents, way.direction == VRING_READABLE ? n_pieces : 0,
			    way.direction == VRING_WRITABLE ? n_pieces : 0, token) != 0)
			break;
		is_out[token] = true;
		wrote[token] = 0;
		n_posted++;
		n--;
	}
	vring_driver_publish(driver);
}

/* The device uses up to n buffers of a ring, and writes into them. */
static void device_serves(uint64_t *seed, struct vring_device *ring, unsigned int n)
{
	int n_buffers = vring_device_peek(ring, &burst, way.direction, n);

	assert_true(n_buffers >= 0);
	for (int i = 0; i < n_buffers; i++) {
		struct vring_buffer *buffer = &burst.buffers[i];
		uint32_t token;

		assert_int_equal(buffer->fault, VRING_OK);
		memcpy(&token, buffer->pieces[0].hva, sizeof(token));
		assert_true(token < BUFFERS && is_out[token]);
		n_used_by_device[token]++;
		if (way.direction != VRING_WRITABLE)
			continue;
		/* The token stays where it was. */
		buffer->used_len = 4 + (uint32_t)(random_next(seed) % (buffer->len - 3));
		wrote[token] = buffer->used_len;
		for (uint32_t at = 4, piece = 0, in = 4; at < buffer->used_len; at++, in++) {
			if (in == buffer->pieces[piece].len) {
				piece++;
				in = 0;
			}
			buffer->pieces[piece].hva[in] ^= 0xff;
		}
	}
	vring_device_return(ring, &burst, (unsigned int)n_buffers);
	vring_device_publish(ring);
}

/* The guest takes back what was used. */
static void guest_collects(void)
{
	struct vring_completion done[RING];
	int n = vring_driver_collect(driver, done, RING);

	assert_true(n >= 0);
	for (int i = 0; i < n; i++) {
		assert_true(is_out[done[i].token]);
		assert_int_equal(n_used_by_device[done[i].token], 1);
		assert_int_equal(done[i].len, way.direction == VRING_WRITABLE ? wrote[done[i].token] : 0);
		n_used_by_device[done[i].token] = 0;
		is_out[done[i].token] = false;
		n_back++;
	}
}

static void relay(uint64_t *seed, unsigned int n)
{
	assert_true(vring_shadow_forward(shadow, n) >= 0);
	device_serves(seed, &device, n);
	assert_true(vring_shadow_return(shadow, &dirty, n) >= 0);
}

static void everything_comes_back(uint64_t *seed)
{
	for (unsigned int i = 0; i < 4 * RING && n_back < n_posted; i++) {
		if (shadow != NULL)
			relay(seed, RING);
		else
			device_serves(seed, &guest, RING);
		guest_collects();
	}
	assert_int_equal(n_back, n_posted);
}

static void for_every_way(void (*function)(uint64_t *seed))
{
	uint64_t seed = seed_get();

	for (unsigned int bits = 0; bits < 32; bits++) {
		way = (struct way){ bits & 1, bits & 2, bits & 4, bits & 8,
			bits & 16 ? VRING_WRITABLE : VRING_READABLE };
		start();
		function(&seed);
		finish_test();
	}
}

static void relay_at_random(uint64_t *seed)
{
	shadow_begin(SHADOW_RING);
	for (unsigned int i = 0; i < 3000; i++) {
		guest_offers(seed, (unsigned int)(random_next(seed) % 8));
		relay(seed, 1 + (unsigned int)(random_next(seed) % 16));
		guest_collects();
	}
	everything_comes_back(seed);
	assert_true(n_back > 3000);
}

static void every_buffer_comes_back_once_with_what_the_device_did(void **state)
{
	for_every_way(relay_at_random);
}

/* The index of a split ring wraps at 65535 in every phase; a packed ring wraps all the time. */
static void switch_at_random(uint64_t *seed)
{
	unsigned int n_switches = 0;

	for (unsigned int i = 0; i < 20000; i++) {
		uint64_t dice = random_next(seed) % 16;

		if (dice < 5)
			guest_offers(seed, 1 + (unsigned int)(random_next(seed) % 12));
		else if (dice < 8)
			guest_collects();
		else if (shadow == NULL && dice < 14)
			device_serves(seed, &guest, (unsigned int)(random_next(seed) % 8));
		else if (shadow == NULL)
			shadow_begin(SHADOW_RING);
		else if (dice < 10)
			vring_shadow_forward(shadow, (unsigned int)(random_next(seed) % 16));
		else if (dice < 12)
			device_serves(seed, &device, (unsigned int)(random_next(seed) % 8));
		else if (dice < 15)
			assert_true(vring_shadow_return(shadow, &dirty, (unsigned int)(random_next(seed) % 8)) >= 0);
		else if (++n_switches > 0)
			shadow_end();
	}
	everything_comes_back(seed);
	assert_true(n_switches > 100);
}

static void switches_in_any_phase_offer_each_buffer_once(void **state)
{
	for_every_way(switch_at_random);
}

/* A copy of the memory that is given only the pages with a bit is equal in the end. */
static void log_at_random(uint64_t *seed)
{
	uint8_t *copy = malloc(MEMORY_BYTES);

	shadow_begin(SHADOW_RING);
	for (unsigned int i = 0; i < 300; i++) {
		guest_offers(seed, (unsigned int)(random_next(seed) % 8));
		assert_true(vring_shadow_forward(shadow, 16) >= 0);
		/* What guest and shadow ring wrote is theirs; from here on only the device and its shadow write. */
		memcpy(copy, memory, MEMORY_BYTES);
		memset(log_bits, 0, sizeof(log_bits));
		device_serves(seed, &device, 16);
		assert_true(vring_shadow_return(shadow, &dirty, 16) >= 0);
		for (uint32_t page = 0; page < MEMORY_BYTES / 4096; page++) {
			if (log_bits[page / 8] >> page % 8 & 1)
				memcpy(copy + page * 4096, memory + page * 4096, 4096);
		}
		/* The shadow's ring is our own memory and not the guest's. */
		assert_memory_equal(copy, memory, memory_used);
		guest_collects();
	}
	free(copy);
	everything_comes_back(seed);
}

static void what_the_device_wrote_is_in_the_log(void **state)
{
	for_every_way(log_at_random);
}

static void a_buffer_with_more_pieces_than_the_ring_has_descriptors_is_refused(void **state)
{
	uint64_t seed = seed_get();
	struct vring_extent extents[8];

	way = (struct way){ .direction = VRING_READABLE };
	start();
	shadow_begin(4);
	for (unsigned int i = 0; i < 8; i++)
		extents[i] = (struct vring_extent){ gpa_of(buffers[0]) + 8 * i, 8 };
	assert_int_equal(vring_driver_post(driver, extents, 8, 0, 0), 0);
	is_out[0] = true;
	n_used_by_device[0] = 1;
	n_posted++;
	vring_driver_publish(driver);
	guest_offers(&seed, 3);
	everything_comes_back(&seed);
	assert_int_equal(guest.n_faults[VRING_FAULT_CHAIN], 1);
	finish_test();
}

/* A device that says what cannot be is believed no more; the guest's ring stays sane. */
static void a_device_that_lies_is_found_out_and_the_guest_goes_on(void **state)
{
	static const struct {
		uint32_t id;
		uint16_t idx;
	} lies[] = { { 31, 1 }, { SHADOW_RING, 1 }, { UINT32_MAX, 1 }, { 0, 40 }, { 0, 0x8000 } };

	for (size_t i = 0; i < sizeof(lies) / sizeof(lies[0]); i++) {
		uint64_t seed = seed_get();

		way = (struct way){ .direction = VRING_WRITABLE };
		start();
		shadow_begin(SHADOW_RING);
		guest_offers(&seed, 2);
		assert_int_equal(vring_shadow_forward(shadow, 16), 2);
		device.used->ring[0].id = lies[i].id;
		device.used->ring[0].len = 10;
		device.used->idx = lies[i].idx;
		assert_int_equal(vring_shadow_return(shadow, &dirty, 16), -EPROTO);
		assert_int_equal(vring_shadow_return(shadow, &dirty, 16), -EPROTO);
		guest_collects();
		assert_int_equal(n_back, 0);
		shadow_end();
		everything_comes_back(&seed);
		finish_test();
	}
}

static void a_length_beyond_the_buffer_is_cut(void **state)
{
	uint64_t seed = seed_get();
	struct vring_completion done;
	uint32_t most;

	way = (struct way){ .direction = VRING_WRITABLE };
	start();
	shadow_begin(SHADOW_RING);
	guest_offers(&seed, 1);
	assert_int_equal(vring_shadow_forward(shadow, 16), 1);
	assert_int_equal(vring_device_peek(&device, &burst, VRING_WRITABLE, 1), 1);
	most = burst.buffers[0].len;
	burst.buffers[0].used_len = UINT32_MAX;
	vring_device_return(&device, &burst, 1);
	vring_device_publish(&device);
	assert_int_equal(vring_shadow_return(shadow, &dirty, 16), 1);
	assert_int_equal(guest.used->ring[0].len, most);
	assert_int_equal(vring_driver_collect(driver, &done, 1), 1);
	finish_test();
}

/* It died with older buffers in hand: those cannot be offered again alone. */
static void a_device_that_leaves_older_buffers_out_costs_those_alone(void **state)
{
	uint64_t seed = seed_get();

	way = (struct way){ .direction = VRING_WRITABLE };
	start();
	shadow_begin(SHADOW_RING);
	guest_offers(&seed, 4);
	assert_int_equal(vring_shadow_forward(shadow, 16), 4);
	assert_int_equal(vring_device_peek(&device, &burst, VRING_WRITABLE, 4), 4);
	/* The second of four alone. */
	n_used_by_device[1] = 1;
	wrote[1] = 4;
	device.used->ring[0].id = burst.buffers[1].id;
	device.used->ring[0].len = 4;
	device.used->idx = 1;
	assert_int_equal(vring_shadow_stop(shadow, &dirty), 2);
	n_used_by_device[0] = 1;
	guest_collects();
	assert_int_equal(n_back, 2);
	vring_shadow_destroy(shadow);
	shadow = NULL;
	everything_comes_back(&seed);
	finish_test();
}

static void a_ring_that_is_no_power_of_two_is_refused(void **state)
{
	static uint8_t parts[3][4096] __attribute__((aligned(4096)));
	const struct vring_shadow_config config = {
		.guest = &guest, .size = 12, .desc = parts[0], .avail = parts[1], .used = parts[2]
	};

	assert_null(vring_shadow_create(&config));
	assert_int_equal(errno, EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_buffer_comes_back_once_with_what_the_device_did),
		cmocka_unit_test(switches_in_any_phase_offer_each_buffer_once),
		cmocka_unit_test(what_the_device_wrote_is_in_the_log),
		cmocka_unit_test(a_buffer_with_more_pieces_than_the_ring_has_descriptors_is_refused),
		cmocka_unit_test(a_device_that_lies_is_found_out_and_the_guest_goes_on),
		cmocka_unit_test(a_length_beyond_the_buffer_is_cut),
		cmocka_unit_test(a_device_that_leaves_older_buffers_out_costs_those_alone),
		cmocka_unit_test(a_ring_that_is_no_power_of_two_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
