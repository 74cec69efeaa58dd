/* SPDX-License-Identifier: BSD-3-Clause */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "guest_datapath_fixture.h"

#define DATA_BYTES   (2 << 20)
#define MEMORY_BYTES (DATA_BYTES + (1 << 17))

struct way way;
uint8_t *memory;
size_t data_used;
struct port port;
unsigned int n_alarms;
struct port_counters *counters;
struct ring tx, rx;
struct guest_rx_queue from_guest;
struct guest_tx_queue to_guest;
struct frame_batch batch;

static struct gmem *mem;
static struct msix *msix;

/* The isa of the next way is -1 for that without runs. */
static unsigned int next_kind;
static int next_isa = -1;

bool way_next(void)
{
	/* That of the last way is not the best there is. */
	vring_isa_limit(VRING_N_ISAS - 1);
	if (next_isa > (int)vring_isa_best()) {
		next_kind++;
		next_isa = -1;
	}
	if (next_kind == 6)
		return false;
	/* What is written into buffers has no batches: in order or not is the same to senders. */
	way.packed = next_kind & 1;
	way.in_order = next_kind >> 1 & 1;
	way.shared = next_kind >> 2;
	way.runs = next_isa >= 0;
	way.isa = way.runs ? (enum vring_isa)next_isa : VRING_ISA_PORTABLE;
	next_isa++;
	printf("%s ring%s, %s%s\n", way.packed ? "packed" : "split", way.in_order ? " in order" : "",
		way.runs ? vring_isa_name(way.isa) : "without runs", way.shared ? ", shared" : "");
	vring_isa_limit(way.isa);
	return true;
}

static void ring_start(struct ring *ring, uint8_t *parts, uint16_t header_len, bool mergeable)
{
	struct vring_driver_config driver = {
		.size = RING,
		.packed = way.packed,
		.in_order = way.in_order,
		.desc = parts,
		.avail = parts + 8192,
		.used = parts + 16384,
	};
	struct vring_config device = {
		.size = RING,
		.packed = way.packed,
		.in_order = way.in_order,
		.avail_idx = way.packed ? VRING_PACKED_START : 0,
		.used_idx = way.packed ? VRING_PACKED_START : 0,
		.mergeable = mergeable,
		.header_len = header_len,
		.desc = driver.desc,
		.avail = driver.avail,
		.used = driver.used,
		.mem = mem,
	};

	memset(ring, 0, sizeof(*ring));
	ring->driver = vring_driver_create(&driver);
	assert_non_null(ring->driver);
	assert_int_equal(vring_device_init(&ring->ends.device, &device), 0);
	ring->ends.state = VU_RING_RUNNING;
	ring->ends.enabled = true;
	ring->ends.call_fd = -1;
}

void call_by(struct ring *ring, int fd)
{
	ring->ends.call_fd = fd;
	msix_unmask(msix, ring == &tx ? from_guest.caller.vector : to_guest.caller.vector);
}

void queues_update(void)
{
	if (!way.runs)
		return;
	guest_rx_queue_update(&from_guest);
	guest_tx_queue_update(&to_guest);
}

static void on_alarm(void *ctx, struct port *alarming)
{
	assert_ptr_equal(alarming, &port);
	n_alarms++;
}

static const struct port_host host = { .alarm = on_alarm };

static void start(uint16_t header_len, bool mergeable)
{
	static const struct port_ops ops = { .kind = "test" };

	/* Kept from test to test: new pages each time would take most of the time. */
	if (memory == NULL)
		memory = aligned_alloc(4096, MEMORY_BYTES);
	memset(memory, 0xaa, MEMORY_BYTES);
	assert_int_equal(gmem_create_identity(memory, MEMORY_BYTES, &mem), 0);
	data_used = 0;
	ring_start(&tx, memory + DATA_BYTES, header_len, mergeable);
	ring_start(&rx, memory + DATA_BYTES + 65536, header_len, mergeable);
	memset(&port, 0, sizeof(port));
	assert_int_equal(port_init(&port, &ops, &host, "vm", 0), 0);
	n_alarms = 0;
	counters = &port.counters[0];
	memset(&from_guest, 0, sizeof(from_guest));
	memset(&to_guest, 0, sizeof(to_guest));
	from_guest.base.port = to_guest.base.port = &port;
	from_guest.ring = &tx.ends;
	to_guest.ring = &rx.ends;
	from_guest.header_len = to_guest.header_len = header_len;
	from_guest.offloads = FRAME_NEEDS_CSUM | FRAME_NEEDS_TSO4 | FRAME_NEEDS_TSO6;
	to_guest.base.accepts = from_guest.offloads;
	to_guest.checks_csum = true;
	msix = msix_create(2, NULL, NULL);
	msix_enable(msix);
	from_guest.caller = (struct guest_caller){ .msix = msix, .vector = 0 };
	to_guest.caller = (struct guest_caller){ .msix = msix, .vector = 1 };
	guest_rx_queue_init(&from_guest);
	guest_tx_queue_init(&to_guest);
	queues_update();
}

int setup(void **state)
{
	start(12, true);
	return 0;
}

int setup_single(void **state)
{
	start(12, false);
	return 0;
}

int setup_legacy(void **state)
{
	start(10, false);
	return 0;
}

int teardown(void **state)
{
	vring_driver_destroy(tx.driver);
	vring_driver_destroy(rx.driver);
	msix_destroy(msix);
	port_fini(&port);
	gmem_free(mem);
	return 0;
}

static uint8_t *data_alloc(size_t bytes)
{
	uint8_t *data = memory + data_used;

	data_used += bytes;
	assert_true(data_used <= DATA_BYTES);
	return data;
}

void transmit(const uint8_t *bytes, uint32_t len, const uint32_t *cuts)
{
	struct vring_extent extents[RING];
	uint8_t *data = data_alloc(len + 1);
	unsigned int n = 0;
	uint32_t at = 0;

	memcpy(data, bytes, len);
	for (; *cuts != 0 && *cuts < len; cuts++) {
		extents[n++] = (struct vring_extent){ (uintptr_t)data + at, *cuts - at };
		at = *cuts;
	}
	extents[n++] = (struct vring_extent){ (uintptr_t)data + at, len - at };
	assert_int_equal(vring_driver_post(tx.driver, extents, n, 0, 0), 0);
	vring_driver_publish(tx.driver);
}

const uint32_t uncut[] = { 0 };

uint32_t packet_of(uint8_t *packet, uint32_t len)
{
	uint32_t header_len = from_guest.header_len;

	memset(packet, 0, header_len);
	for (uint32_t i = 0; i < len; i++)
		packet[header_len + i] = (uint8_t)(i * 7 + len);
	/* No tag by accident. */
	if (len > 13)
		packet[header_len + 12] = 0x88;
	return header_len + len;
}

unsigned int receive(void)
{
	return from_guest.base.receive(&from_guest.base, counters, &batch, FRAME_BURST);
}

void release(unsigned int n)
{
	from_guest.base.release(&from_guest.base, counters, &batch, n);
}

unsigned int send_list(
	struct port_counters *sender, struct frame *const *frames, unsigned int n)
{
	return way.shared ? to_guest.base.send_shared(&to_guest.base, sender, frames, n)
			  : to_guest.base.send(&to_guest.base, sender, frames, n);
}

unsigned int send_burst(unsigned int n)
{
	struct frame *list[FRAME_BURST];

	for (unsigned int i = 0; i < n; i++)
		list[i] = &batch.frames[i];
	return send_list(counters, list, n);
}

void offer(unsigned int n, uint32_t bytes)
{
	for (unsigned int i = 0; i < n; i++) {
		uint8_t *data = data_alloc(bytes);
		struct vring_extent extent = { (uintptr_t)data, bytes };

		assert_int_equal(vring_driver_post(rx.driver, &extent, 0, 1,
					 (uint32_t)(data - memory)),
			0);
	}
	vring_driver_publish(rx.driver);
}

uint32_t collect(uint8_t *bytes, unsigned int *n_buffers)
{
	struct vring_completion done;
	uint32_t len = 0;

	*n_buffers = 0;
	while (vring_driver_collect(rx.driver, &done, 1) == 1) {
		memcpy(bytes + len, memory + done.token, done.len);
		len += done.len;
		(*n_buffers)++;
	}
	return len;
}

unsigned int transmit_completions(void)
{
	struct vring_completion done[RING];
	int n = vring_driver_collect(tx.driver, done, RING);

	for (int i = 0; i < n; i++)
		assert_int_equal(done[i].len, 0);
	return (unsigned int)n;
}
