# SPDX-License-Identifier: BSD-3-Clause
"""A hostile guest's frames and their headers (threats, table N) beside a good pair of ports under load."""
import struct

import bed
from bed import ethernet
from hostile import PEER, RingTest
from vhost_user import *


class Frames(RingTest):
    features = DEFAULT_FEATURES | F_INDIRECT | F_CSUM | F_HOST_TSO4 | F_HOST_TSO6

    def dropped(self, reason, before):
        return wait_for(lambda: self.drops().get(reason, 0) == before + 1, 5)

    def test_buffers_too_short_for_a_frame_are_taken_and_counted(self):
        """N1: 1 to 12 + 13 bytes."""
        before = self.drops().get('too_short', 0)
        for i, size in enumerate(range(1, 26)):
            self.push_chain((self.scratch, size, 0, 0))
            self.assertTrue(wait_for(self.evil.tx.n_used), size)
            self.evil.tx.pop()
            self.assertTrue(self.dropped('too_short', before + i), f'{size} bytes: {self.drops()}')
        self.assertEqual(self.peer.receive(1, timeout=0.1), [])
        self.assert_evil_sends()

    def test_the_header_in_all_kinds_of_pieces(self):
        """N2."""
        for cuts in ([12], [1, 11], [6, 6], [10, 2], [1] * 12, [0, 12, 0], [11], [13]):
            frame = self.frame()
            data = net_header() + frame
            self.evil.memory.write(self.scratch, data)
            sizes = cuts + [len(data) - sum(cuts)]
            descs, gpa = [], self.scratch
            for i, size in enumerate(sizes):
                last = i + 1 == len(sizes)
                descs.append((gpa, size, 0 if last else NEXT, 0 if last else i + 1))
                gpa += size
            self.push_chain(*descs)
            self.assertEqual(self.peer.receive_data(), [frame], cuts)
            self.assert_returned()

    def test_frames_of_any_length_up_to_64k_pass_and_longer_ones_are_dropped(self):
        """N5, N6. The peer's buffers are of 2048 bytes and are merged."""
        memory = self.evil.memory
        for size in (14, 15, 59, 60, 63, 64, 65, 127, 128, 129, 1514, 2035, 2036, 2037, 4096, 9014, 65535):
            frame = self.frame(size) if size >= 18 else self.frame(18)[:size]
            if size > 60000:
                self.scratch = memory.alloc(70000)
            memory.write(self.scratch, net_header() + frame)
            self.push_chain((self.scratch, 12 + size, 0, 0))
            self.assertEqual(self.peer.receive_data(), [frame], f'{size} bytes')
            self.assert_returned()
        before = self.drops().get('too_long', 0)
        for i, chain in enumerate((
                [(self.scratch, 66000, 0, 0)],
                [(self.scratch, 60000, NEXT, 1), (self.scratch, 60000, 0, 0)],
                [(memory.regions[0][0], len(memory.map), 0, 0)])):
            self.push_chain(*chain)
            self.assert_returned()
            self.assertTrue(self.dropped('too_long', before + i), self.drops())
        # The same page again and again, past 2^32 in all: that many bytes are no chain at all.
        n = self.evil.tx.size
        size = len(memory.map)
        self.push_chain(*[(memory.regions[0][0], size, NEXT if i + 1 < n else 0, (i + 1) % n) for i in range(n)])
        self.assert_returned()
        self.assert_evil_sends()

    def test_offload_words_that_contradict_the_frame_are_dropped(self):
        """N10, N11, N12."""
        tcp = self.frame()[:12] + struct.pack('>H', 0x0800) + ipv4_tcp(2000)
        bad = [
            dict(flags=NEEDS_CSUM, csum_start=65535, csum_offset=65535), dict(flags=NEEDS_CSUM, csum_start=65535),
            dict(flags=NEEDS_CSUM, csum_offset=65535), dict(flags=NEEDS_CSUM, csum_start=len(tcp) - 1),
            dict(flags=NEEDS_CSUM, csum_start=34, csum_offset=len(tcp) - 34 - 1),
            dict(gso_type=GSO_TCPV4, gso_size=100),
            dict(gso_type=GSO_TCPV4, gso_size=0, flags=NEEDS_CSUM, csum_start=34, csum_offset=16),
            dict(gso_type=GSO_TCPV6, gso_size=100, flags=NEEDS_CSUM, csum_start=34, csum_offset=16),
            dict(gso_type=3, gso_size=100, flags=NEEDS_CSUM, csum_start=34, csum_offset=16),
            dict(gso_type=5, gso_size=100, flags=NEEDS_CSUM, csum_start=34, csum_offset=16),
            dict(gso_type=0xff, gso_size=100, flags=NEEDS_CSUM, csum_start=34, csum_offset=16),
            dict(gso_type=GSO_TCPV4, gso_size=100, flags=NEEDS_CSUM, csum_start=35, csum_offset=16),
            dict(gso_type=GSO_TCPV4, gso_size=100, flags=NEEDS_CSUM, csum_start=34, csum_offset=6),
            dict(gso_type=GSO_TCPV4 | 0x80, gso_size=100, flags=NEEDS_CSUM, csum_start=34, csum_offset=16),
        ]
        before = self.drops().get('bad_offload', 0)
        for i, words in enumerate(bad):
            with self.subTest(words=words):
                self.evil.send(tcp, header=net_header(**words))
                self.evil.drain()
                self.assertTrue(self.dropped('bad_offload', before + i), self.drops())
        self.assertEqual(self.peer.receive(1, timeout=0.1), [])
        # Length of headers, and bits we do not know, mean nothing.
        frame = self.frame()
        self.evil.send(frame, header=net_header(flags=0xf8 | DATA_VALID, hdr_len=0xffff, num_buffers=0xffff))
        self.assertEqual(self.peer.receive_data(), [frame])

    def test_gso_sizes_at_the_edges(self):
        tcp = self.frame()[:12] + struct.pack('>H', 0x0800) + ipv4_tcp(3000)
        for gso_size in (1, 8, 1448, 2999, 3000, 3001, 65535):
            self.evil.send(tcp, header=net_header(NEEDS_CSUM, GSO_TCPV4, 54, gso_size, 34, 16))
            self.evil.drain()
            got = b''
            while (frame := next(iter(self.peer.receive(1, timeout=1.0)), None)) is not None:
                self.assertLessEqual(len(frame.data) - 54, gso_size)
                got += frame.data[54:]
                if len(got) >= 3000:
                    break
            # So many segments are not made for anybody; then there are none at all.
            self.assertIn(got, (tcp[54:], b''), gso_size)
            if gso_size >= 1448:
                self.assertEqual(got, tcp[54:])
        self.assert_evil_sends()

    def test_frames_that_parsers_stumble_over_pass_as_they_are(self):
        """N21: 802.3 length, QinQ, ethertype without content, IPv6 headers without end, IPv4 without a header."""
        start = self.frame()[:12]
        for rest in (b'\x00\x10' + bytes(46), b'\x88\xa8\x00\x05\x81\x00\x00\x06\x08\x00' + bytes(40), b'\x08\x00', b'\x86\xdd',
                     b'\x86\xdd\x60' + bytes(5) + b'\x00' * 200, b'\x08\x00\x4f' + bytes(5), b'\x81\x00', b'\x81\x00\x00\x05',
                     b'\x08\x06' + bytes(28), b'\xff\xff' + bytes(1400)):
            frame = start + rest
            self.evil.send(frame)
            self.evil.drain()
            for got in self.peer.receive_data(1, timeout=0.3):
                self.assertEqual(got, frame)
        self.assert_evil_sends()

    def test_a_flood_of_addresses_fills_no_memory(self):
        """W8: the table is bounded, its overflow counted, and known stations keep their place."""
        for i in range(0, 3000, 30):
            self.evil.send(*[ethernet(0, source=bed.mac(0x10000 + i + n), destination=PEER) for n in range(30)])
            while self.peer.receive_now() is not None:
                pass
        self.evil.drain()
        while self.peer.receive(1, timeout=0.2):
            pass
        bridge = self.daemon.call('bridge.show', name='br1')['bridges'][0]
        self.assertLessEqual(bridge['fdb_entries'], bridge['fdb_max'])
        self.assert_evil_sends()


def ipv4_tcp(n_payload):
    total = 40 + n_payload
    header = struct.pack('>BBHHHBBH4s4s', 0x45, 0, total, 1, 0, 64, 6, 0, b'\x0a\0\0\1', b'\x0a\0\0\2')
    tcp = struct.pack('>HHIIBBHHH', 1000, 2000, 1, 1, 0x50, 0x18, 1000, 0, 0)
    return header + tcp + bytes(i * 7 & 0xff for i in range(n_payload))


class Headers(RingTest):
    def test_what_the_receiver_gets_is_defined_to_the_last_byte(self):
        """N20: our own header's bytes do not travel, nor does anything that was in the buffer."""
        for pair in self.peer.pairs:
            self.peer.memory.write(pair.rx_buffers, b'\xee' * (pair.rx.size * pair.buffer_bytes))
        self.evil.send(self.frame(), header=b'\x00\x00\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff')
        frame, = self.peer.receive(1)
        words = (frame.flags, frame.gso_type, frame.hdr_len, frame.gso_size, frame.csum_start, frame.csum_offset, frame.num_buffers)
        self.assertEqual(words, (0, 0, 0, 0, 0, 0, 1))

    def test_offload_words_without_offloads_mean_nothing(self):
        for words in (dict(flags=NEEDS_CSUM, csum_start=34, csum_offset=16), dict(gso_type=GSO_TCPV4, gso_size=10)):
            frame = self.frame()
            self.evil.send(frame, header=net_header(**words))
            self.assertEqual(self.peer.receive_data(), [frame])


if __name__ == '__main__':
    bed.main()
