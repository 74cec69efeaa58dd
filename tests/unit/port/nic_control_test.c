/* SPDX-License-Identifier: BSD-3-Clause */
#include <arpa/inet.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "nic_fixture.h"

static bool has_netns; /* this process has network interfaces of its own */

static void wrong_devices_are_refused_in_one_line_that_says_what_to_do(void **state)
{
	static const struct {
		const char *device, *says[2];
	} rows[] = {
		{"net_af_packet0,iface=no-such-if",
			{"interface 'no-such-if' does not exist", "ip link add"}},
		{"eth_af_packet0,iface=no-such-if",
			{"interface 'no-such-if' does not exist", "ip link add"}},
		{"net_af_packet0", {"iface=NAME", ""}},
		{"net_af_xdp0,iface=no-such-if", {"interface 'no-such-if' does not exist", ""}},
		{"net_pcap0,rx_pcap=/no/such/file",
			{"driver net_pcap refused it", "readable rx_pcap="}},
		{"net_nonsense0", {"DPDK knows no such device", "net_af_packet0,iface=eth1"}},
		{"ffff:1f:1f.7", {"no PCI device at this address", "dpdk-devbind.py"}},
		{"", {"DPDK knows no such device", ""}},
	};

	for (unsigned int i = 0; i < RTE_DIM(rows); i++) {
		assert_null(try_nic(rows[i].device, 1, 0));
		assert_non_null(strstr(error, "port up0: device "));
		assert_non_null(strstr(error, rows[i].device));
		for (unsigned int s = 0; s < 2; s++) {
			if (strstr(error, rows[i].says[s]) == NULL)
				fail_msg("'%s' is not in '%s'", rows[i].says[s], error);
		}
		assert_null(strchr(error, '\n'));
		assert_int_equal(rte_eth_dev_count_avail(), 0);
	}
}

static void error_line_never_passes_its_buffer(void **state)
{
	char device[600] = "net_af_packet0,iface=";
	const struct nic_config config = {
		.name = "up0",
		.device = device,
		.n_queues = 1,
		.pool_of_node = the_pool,
	};

	memset(device + strlen(device), 'x', 400);
	for (size_t size = 1; size < sizeof(error); size += 13) {
		memset(error, 'Z', sizeof(error));
		assert_null(nic_create(&config, NULL, error, size));
		assert_true(strnlen(error, size) < size);
		for (size_t i = size; i < sizeof(error); i++)
			assert_int_equal(error[i], 'Z');
	}
}

static void mtu_the_device_or_the_buffers_cannot_take_is_refused(void **state)
{
	assert_null(try_nic("net_ring0", 1, 40));
	assert_non_null(strstr(error, "mtu 40: the device takes 46.."));
	assert_null(try_nic("net_null0", 1, 3000));
	assert_non_null(strstr(error, "mtu 3000: "));
	assert_int_equal(rte_eth_dev_count_avail(), 0);
}

static void device_that_serves_a_port_is_refused_to_another(void **state)
{
	struct port *port = open_nic("net_ring0", 1, 0);

	assert_null(try_nic("net_ring0,x", 1, 0));
	assert_non_null(strstr(error, "'net_ring0' is in use by another port"));
	close_nic(port);
}

static void ports_come_and_go_without_a_trace(void **state)
{
	for (unsigned int i = 0; i < 40; i++) {
		struct port *port = open_nic(i % 2 ? "net_null0" : "net_ring0", 1, 0);

		close_nic(port);
	}
}

static void queues_are_cut_to_what_the_device_has_and_described(void **state)
{
	struct port *port = open_nic("net_null0", 16, 0);
	struct tx_queue *queues[PORT_MAX_QUEUES];
	json_t *object = json_object();
	unsigned int n;

	assert_string_equal(port->ops->kind, "nic");
	assert_int_equal(port->id, 3);
	n = port->ops->list_tx(port, queues);
	assert_true(n >= 1 && n <= 16);
	for (unsigned int i = 0; i < n; i++) {
		assert_int_equal(queues[i]->index, i);
		assert_ptr_equal(queues[i]->port, port);
	}
	port->ops->tick(port);
	port->ops->describe(port, object);
	assert_string_equal(json_string_value(json_object_get(object, "device")), "net_null0");
	assert_string_equal(json_string_value(json_object_get(object, "driver")), "net_null");
	assert_int_equal(json_integer_value(json_object_get(object, "queues")), n);
	assert_true(json_is_true(json_object_get(object, "link")));
	assert_true(json_is_integer(json_object_get(object, "numa_node")));
	assert_int_equal(strlen(json_string_value(json_object_get(object, "mac"))), 17);
	json_decref(object);
	close_nic(port);
}

/* A capture file with frames of the given lengths, each with its number in the first payload bytes.
 */
static void write_capture(const char *path, const uint32_t *lengths, unsigned int n)
{
	const uint32_t header[] = {0xa1b2c3d4, 4 << 16 | 2, 0, 0, 65535, 1};
	FILE *file = fopen(path, "w");

	assert_non_null(file);
	fwrite(header, sizeof(header), 1, file);
	for (unsigned int i = 0; i < n; i++) {
		const uint32_t record[] = {0, 0, lengths[i], lengths[i]};
		uint8_t bytes[2000] = {2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x88, 0xb5, (uint8_t)i};

		fwrite(record, sizeof(record), 1, file);
		fwrite(bytes, lengths[i], 1, file);
	}
	fclose(file);
}

static void frames_of_a_capture_file_pass_and_the_short_ones_are_counted(void **state)
{
	static const uint32_t lengths[] = {60, 10, 100, 13, 1514, 14};
	char dir[] = "/tmp/ringway-test-XXXXXX", in[64], out[64], device[200];
	struct port *port;
	struct rx_queue *rx;
	unsigned int n = 0;
	FILE *file;
	long size;

	assert_non_null(mkdtemp(dir));
	snprintf(in, sizeof(in), "%s/in.pcap", dir);
	snprintf(out, sizeof(out), "%s/out.pcap", dir);
	snprintf(device, sizeof(device), "net_pcap0,rx_pcap=%s,tx_pcap=%s", in, out);
	write_capture(in, lengths, RTE_DIM(lengths));
	port = open_nic(device, 1, 0);
	rx = rx_of(port);
	for (unsigned int round = 0; round < 10; round++) {
		struct frame *frames[32];
		unsigned int n_now = rx->receive(rx, &counters, &batch, 32);

		for (unsigned int i = 0; i < n_now; i++)
			frames[i] = &batch.frames[i];
		if (n_now == 0)
			continue;
		assert_int_equal(tx_of(port)->send(tx_of(port), &counters, frames, n_now), n_now);
		rx->release(rx, &counters, &batch, n_now);
		n += n_now;
	}
	assert_int_equal(n, 4);
	assert_int_equal(counters.rx_packets, 4);
	assert_int_equal(counters.rx_bytes, 60 + 100 + 1514 + 14);
	assert_int_equal(counters.drops[DROP_TOO_SHORT], 2);
	close_nic(port);
	file = fopen(out, "r");
	assert_non_null(file);
	fseek(file, 0, SEEK_END);
	size = ftell(file);
	fclose(file);
	assert_int_equal(size, 24 + 4 * 16 + 60 + 100 + 1514 + 60);
	unlink(in);
	unlink(out);
	assert_int_equal(rmdir(dir), 0);
}

/* A raw socket on the other end of the veth. */
static int open_wire(const char *interface)
{
	struct sockaddr_ll address = {
		.sll_family = AF_PACKET,
		.sll_protocol = htons(0x0003),
		.sll_ifindex = if_nametoindex(interface),
	};
	struct timeval patience = {.tv_sec = 5};
	int fd = socket(AF_PACKET, SOCK_RAW, htons(0x0003));

	assert_true(fd >= 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	return fd;
}

/* One frame of ours from the port: the kernel may send some of its own. */
static bool receive_ours(struct rx_queue *rx)
{
	for (unsigned int i = 0; i < 5000; i++) {
		unsigned int n = rx->receive(rx, &counters, &batch, 1);

		if (n == 1 && memcmp(batch.frames[0].head, packet.bytes, 12) == 0)
			return true;
		if (n == 1)
			rx->release(rx, &counters, &batch, 1);
		usleep(1000);
	}
	return false;
}

static bool wire_has_ours(int fd, uint8_t *got, ssize_t *len)
{
	for (unsigned int i = 0; i < 100; i++) {
		*len = recv(fd, got, 4000, 0);
		if (*len < 0)
			return false;
		if (memcmp(got, packet.bytes, 12) == 0)
			return true;
	}
	return false;
}

static void skip_without_netns(void)
{
	if (!has_netns) {
		print_message(
			"skipped: network interfaces of one's own need root and unshare(2)\n");
		skip();
	}
}

static void frames_pass_both_ways_through_an_interface_with_and_without_tag(void **state)
{
	static uint8_t got[4000];
	struct port *port;
	int fd;

	skip_without_netns();
	port = open_nic("net_af_packet0,iface=rwtest0", 1, 0);
	fd = open_wire("rwtest1");
	for (unsigned int i = 0; i < 12; i++) {
		struct packet_spec spec = {
			.n_tags = i % 2,
			.ip_version = 4,
			.protocol = IPPROTO_UDP,
			.payload_len = 18 + i * 131,
		};
		ssize_t len;

		/* Onto the wire. A packet socket shows the tag apart, so an untagged one shows all.
		 */
		packet_make(&packet, &spec);
		if (spec.n_tags == 0) {
			assert_int_equal(send_packet(tx_of(port)), 1);
			assert_true(wire_has_ours(fd, got, &len));
			assert_int_equal(len, packet.len);
			assert_memory_equal(got, packet.bytes, packet.len);
		}
		/* And from it: the driver takes the tag off, and it must be back in its place. */
		assert_int_equal(send(fd, packet.bytes, packet.len, 0), packet.len);
		assert_true(receive_ours(rx_of(port)));
		assert_int_equal(batch.frames[0].len, packet.len);
		assert_int_equal(batch.frames[0].tagged, spec.n_tags > 0);
		frame_copy_out(&batch.frames[0], got);
		assert_memory_equal(got, packet.bytes, packet.len);
		rx_of(port)->release(rx_of(port), &counters, &batch, 1);
	}
	close(fd);
	close_nic(port);
}

static void configured_mtu_reaches_the_interface(void **state)
{
	struct port *port;

	skip_without_netns();
	port = open_nic("net_af_packet0,iface=rwtest0", 1, 1400);
	assert_int_equal(port->mtu, 1400);
	assert_int_equal(system("ip link show rwtest0 | grep -q 'mtu 1400 '"), 0);
	close_nic(port);
	assert_int_equal(system("ip link set rwtest0 mtu 1500"), 0);
}

static void tap_port_makes_its_interface_and_takes_frames_from_it(void **state)
{
	struct port *port;
	int fd;

	skip_without_netns();
	if (access("/dev/net/tun", R_OK | W_OK) != 0) {
		print_message("skipped: there is no /dev/net/tun\n");
		skip();
	}
	port = open_nic("net_tap0,iface=rwtap0", 1, 0);
	assert_int_equal(tx_of(port)->accepts, FRAME_NEEDS_CSUM);
	assert_int_equal(system("ip link set rwtap0 up"), 0);
	fd = open_wire("rwtap0");
	make_udp(200);
	assert_int_equal(send(fd, packet.bytes, packet.len, 0), packet.len);
	assert_true(receive_ours(rx_of(port)));
	assert_int_equal(batch.frames[0].len, packet.len);
	rx_of(port)->release(rx_of(port), &counters, &batch, 1);
	close(fd);
	close_nic(port);
	assert_int_equal(if_nametoindex("rwtap0"), 0);
}

/* Interfaces of our own, so that nothing of the machine's is touched. */
static bool make_netns(void)
{
	return geteuid() == 0 && unshare(CLONE_NEWNET) == 0 &&
	       system("ip link add rwtest0 type veth peer name rwtest1 && "
		      "ip link set rwtest0 up && ip link set rwtest1 up") == 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(wrong_devices_are_refused_in_one_line_that_says_what_to_do),
		cmocka_unit_test(error_line_never_passes_its_buffer),
		cmocka_unit_test(mtu_the_device_or_the_buffers_cannot_take_is_refused),
		cmocka_unit_test(device_that_serves_a_port_is_refused_to_another),
		cmocka_unit_test(ports_come_and_go_without_a_trace),
		cmocka_unit_test(queues_are_cut_to_what_the_device_has_and_described),
		cmocka_unit_test(frames_of_a_capture_file_pass_and_the_short_ones_are_counted),
		cmocka_unit_test(frames_pass_both_ways_through_an_interface_with_and_without_tag),
		cmocka_unit_test(configured_mtu_reaches_the_interface),
		cmocka_unit_test(tap_port_makes_its_interface_and_takes_frames_from_it),
	};

	has_netns = make_netns();
	dpdk_start();
	pool = dpdk_pool("nic_test", 4095, 2048);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
