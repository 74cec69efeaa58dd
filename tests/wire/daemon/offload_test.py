# SPDX-License-Identifier: BSD-3-Clause
"""Checksums and segmentation, from guests that leave them to others to guests that cannot do them."""
import socket
import struct
import time

import bed
from bed import DaemonTest, mac
from vhost_user import *

SENDS = DEFAULT_FEATURES | F_CSUM | F_HOST_TSO4 | F_HOST_TSO6
TAKES = DEFAULT_FEATURES | F_GUEST_CSUM | F_GUEST_TSO4 | F_GUEST_TSO6
TCP, UDP = socket.IPPROTO_TCP, socket.IPPROTO_UDP
FIN, PSH, ACK, CWR = 0x01, 0x08, 0x10, 0x80
PORTS = struct.pack('>HH', 1000, 2000)


def ones_sum(data):
    if len(data) % 2:
        data += b'\0'
    total = sum(struct.unpack(f'>{len(data) // 2}H', data))
    while total > 0xffff:
        total = (total & 0xffff) + (total >> 16)
    return total


def payload(size):
    return bytes((i * 7 + (i >> 8)) & 0xff for i in range(size))


class Packet:
    """An Ethernet frame of TCP or UDP over IPv4 or IPv6 whose checksum is the pseudo header's, as NEEDS_CSUM wants it."""

    def __init__(self, version, protocol, size, flags=ACK, options=b'', source=1, destination=2, tag=None):
        ethertype = struct.pack('>H', 0x0800 if version == 4 else 0x86dd)
        self.l2 = mac(destination) + mac(source) + (struct.pack('>HH', 0x8100, tag) if tag else b'') + ethertype
        self.version, self.protocol, self.payload = version, protocol, payload(size)
        if protocol == TCP:
            offset = (20 + len(options)) // 4 << 4
            self.l4 = PORTS + struct.pack('>IIBBHHH', 0xfffff000, 7, offset, flags, 1000, 0, 0) + options
        else:
            self.l4 = PORTS + struct.pack('>HH', 8 + size, 0)
        length = len(self.l4) + size
        if version == 4:
            header = struct.pack('>BBHHHBBH4s4s', 0x45, 0, 20 + length, 0x1234, 0x4000, 64, protocol, 0,
                                 b'\x0a\0\0\1', b'\x0a\0\0\2')
            self.l3 = header[:10] + struct.pack('>H', ~ones_sum(header) & 0xffff) + header[12:]
        else:
            self.l3 = struct.pack('>IHBB', 6 << 28, length, protocol, 64) + bytes(range(16)) + bytes(range(16, 32))
        self.field = 16 if protocol == TCP else 6
        seed = struct.pack('>H', self.pseudo(self.l3, length))
        self.l4 = self.l4[:self.field] + seed + self.l4[self.field + 2:]
        self.data = self.l2 + self.l3 + self.l4 + self.payload
        self.start = len(self.l2) + len(self.l3)

    def pseudo(self, l3, length):
        addresses = l3[12:20] if self.version == 4 else l3[8:40]
        return ones_sum(addresses + struct.pack('>HI', self.protocol, length))

    def header(self, **more):
        return net_header(flags=NEEDS_CSUM, csum_start=self.start, csum_offset=self.field, **more)

    def tso_header(self, gso_size):
        kind = GSO_TCPV4 if self.version == 4 else GSO_TCPV6
        return self.header(gso_type=kind, gso_size=gso_size, hdr_len=self.start + len(self.l4))

    def check(self, data):
        """Headers and sums of a frame that came of this one. Returns (TCP header, payload)."""
        assert data[:len(self.l2)] == self.l2
        l3 = data[len(self.l2):self.start]
        rest = data[self.start:]
        if self.version == 4:
            assert ones_sum(l3) == 0xffff, 'IPv4 header checksum'
            assert struct.unpack_from('>H', l3, 2)[0] == len(l3) + len(rest), 'IPv4 length'
        else:
            assert struct.unpack_from('>H', l3, 4)[0] == len(rest), 'IPv6 length'
        assert (ones_sum(rest) + self.pseudo(l3, len(rest))) % 0xffff == 0, 'checksum'
        return rest[:len(self.l4)], rest[len(self.l4):]


class OffloadTest(DaemonTest):
    def pair(self, sender=SENDS, receiver=DEFAULT_FEATURES, **options):
        self.start(['a', 'b'], [{'name': 'br0', 'ports': ['a', 'b']}])
        a, b = self.guest('a', features=sender, **options), self.guest('b', features=receiver, **options)
        self.assertEqual((a.features, b.features), (sender, receiver))
        return a, b


class Checksums(OffloadTest):
    def test_a_guest_that_cannot_sum_gets_whole_checksums(self):
        a, b = self.pair()
        for version in (4, 6):
            for protocol in (TCP, UDP):
                for size in (0, 1, 2, 11, 100, 1399, 1400, 9000):
                    for tag in (None, 5):
                        packet = Packet(version, protocol, size, tag=tag)
                        a.send(packet.data, header=packet.header())
                        frame, = b.receive(1)
                        with self.subTest(version=version, protocol=protocol, size=size, tag=tag):
                            self.assertEqual(frame.flags & NEEDS_CSUM, 0)
                            self.assertEqual(packet.check(frame.data)[1], packet.payload)

    def test_a_udp_sum_of_zero_is_sent_as_ffff(self):
        """N11, RFC 768: zero would say that there is none."""
        a, b = self.pair()
        packet = Packet(4, UDP, 2)
        # What makes the sum of everything ffff, whose complement is zero.
        word = ~ones_sum(packet.l4 + b'\0\0') & 0xffff
        data = packet.l2 + packet.l3 + packet.l4 + struct.pack('>H', word)
        a.send(data, header=packet.header())
        frame, = b.receive(1)
        self.assertEqual(frame.data[packet.start + 6:packet.start + 8], b'\xff\xff')

    def test_between_guests_that_both_can_the_words_travel_and_the_sum_is_not_made(self):
        a, b = self.pair(receiver=TAKES)
        packet = Packet(4, TCP, 100)
        a.send(packet.data, header=packet.header(hdr_len=0))
        frame, = b.receive(1)
        self.assertEqual(frame.data, packet.data)
        self.assertEqual((frame.flags, frame.csum_start, frame.csum_offset), (NEEDS_CSUM, packet.start, 16))

    def test_a_sum_in_the_middle_of_nowhere_is_made_inside_the_frame(self):
        """N10: any start and offset that lie in the frame are obeyed, byte for byte, odd ones as well."""
        a, b = self.pair()
        body = payload(301)
        for start, offset in ((0, 12), (14, 0), (15, 1), (33, 16), (200, 99), (299, 0), (13, 286), (298, 1)):
            a.send(body, header=net_header(NEEDS_CSUM, csum_start=start, csum_offset=offset))
            frame, = b.receive(1)
            at = start + offset
            value = ~ones_sum(body[start:]) & 0xffff
            expected = {body[:at] + struct.pack('>H', one) + body[at + 2:] for one in (value, value or 0xffff)}
            with self.subTest(start=start, offset=offset):
                self.assertIn(frame.data, expected)


class Segments(OffloadTest):
    def segments_of(self, packet, gso_size, b):
        got, n_segments = b'', 0
        headers = []
        while len(got) < len(packet.payload):
            frames = b.receive(1)
            self.assertEqual(len(frames), 1, f'{len(got)} of {len(packet.payload)} bytes after {n_segments} segments')
            self.assertEqual((frames[0].flags, frames[0].gso_type), (0, 0))
            l4, part = packet.check(frames[0].data)
            self.assertLessEqual(len(part), gso_size)
            sequence, = struct.unpack_from('>I', l4, 4)
            self.assertEqual(sequence, (0xfffff000 + len(got)) & 0xffffffff)
            headers.append(l4)
            got += part
            n_segments += 1
        self.assertEqual(got, packet.payload)
        self.assertEqual(n_segments, (len(got) + gso_size - 1) // gso_size)
        return headers

    def test_a_guest_that_cannot_take_large_frames_gets_segments(self):
        a, b = self.pair()
        for version in (4, 6):
            for size, gso_size in ((1, 1448), (1448, 1448), (1449, 1448), (5000, 1448), (5000, 999), (64000, 1448), (8000, 8960)):
                for options in (b'', b'\x01\x01\x08\x0a' + bytes(8)):
                    packet = Packet(version, TCP, size, options=options)
                    with self.subTest(version=version, size=size, gso_size=gso_size):
                        a.send(packet.data, header=packet.tso_header(gso_size))
                        self.segments_of(packet, gso_size, b)

    def test_flags_that_belong_to_the_first_or_the_last_segment_stay_there(self):
        a, b = self.pair()
        packet = Packet(4, TCP, 3000, flags=ACK | PSH | FIN | CWR)
        a.send(packet.data, header=packet.tso_header(1000))
        flags = [header[13] for header in self.segments_of(packet, 1000, b)]
        self.assertEqual(flags, [ACK | CWR, ACK, ACK | PSH | FIN])

    def test_between_guests_that_both_can_it_stays_one_frame(self):
        a, b = self.pair(receiver=TAKES)
        for version in (4, 6):
            packet = Packet(version, TCP, 60000)
            a.send(packet.data, header=packet.tso_header(1448))
            frame, = b.receive(1)
            self.assertEqual(frame.data, packet.data)
            self.assertEqual((frame.gso_type, frame.gso_size), (GSO_TCPV4 if version == 4 else GSO_TCPV6, 1448))
            self.assertEqual((frame.flags, frame.csum_start, frame.csum_offset), (NEEDS_CSUM, packet.start, 16))
            self.assertEqual(frame.hdr_len, packet.start + 20)

    def test_a_guest_that_takes_one_ip_version_gets_segments_of_the_other(self):
        a, b = self.pair(receiver=DEFAULT_FEATURES | F_GUEST_CSUM | F_GUEST_TSO4)
        packet = Packet(4, TCP, 5000)
        a.send(packet.data, header=packet.tso_header(1448))
        self.assertEqual(b.receive_data(), [packet.data])
        packet = Packet(6, TCP, 5000)
        a.send(packet.data, header=packet.tso_header(1448))
        got = b''
        for frame in b.receive(4):
            self.assertEqual(frame.gso_type, GSO_NONE)
            got += frame.data[packet.start + 20:]
        self.assertEqual(got, packet.payload)

    def test_a_flood_of_segments_to_several_ports_is_made_for_each(self):
        self.start(['a', 'b', 'c', 'd'], [{'name': 'br0', 'ports': ['a', 'b', 'c', 'd']}])
        a = self.guest('a', features=SENDS)
        cannot, can, other = self.guest('b'), self.guest('c', features=TAKES), self.guest('d')
        packet = Packet(4, TCP, 20000)
        for _ in range(20):
            a.send(packet.data, header=packet.tso_header(1448))
            self.segments_of(packet, 1448, cannot)
            self.segments_of(packet, 1448, other)
            self.assertEqual(can.receive_data(), [packet.data])

    def test_ringbench_from_large_frames_to_a_guest_without(self):
        self.start(['a', 'b'], [{'name': 'br0', 'ports': ['a', 'b']}])
        result = self.bench('a', 'b', window=8, args=[
            '--features', '1:+csum,+tso', '--size', '30000', '--one-way', '--count', '3000', '--ring', '1024',
            '--rx-buffer', '2048']).check(None)
        self.assertGreater(result['total']['segmented'], 0)

    def test_segments_wait_for_a_slow_receiver_where_nothing_may_be_lost(self):
        """More segments than the receiver has buffers, over a lossless cross-connect."""
        self.start(['a', 'b'], cross_connects=[{'ports': ['a', 'b'], 'lossless': True}])
        a, b = self.guest('a', features=SENDS, size=64), self.guest('b', size=16)
        for size in (10000, 20000, 60000):
            packet = Packet(4, TCP, size)
            a.send(packet.data, header=packet.tso_header(1448))
            time.sleep(0.1)
            self.segments_of(packet, 1448, b)


if __name__ == '__main__':
    bed.main()
