# SPDX-License-Identifier: BSD-3-Clause
"""A hostile guest's rings (threats, tables Q and I) beside a good pair of ports under load."""
import os
import random
import struct
import time

import bed
from bed import ethernet
from hostile import EVIL, PEER, RingTest
from vhost_user import *

TOP = 1 << 64


class Chains(RingTest):
    """Chains that break the rules are returned unused and counted; what is around them passes."""

    features = DEFAULT_FEATURES | F_INDIRECT

    def refused_chains(self):
        buffer = self.scratch
        size = self.evil.tx.size
        one = (buffer, 100, 0, 0)
        loops = {
            'a loop of one': [(buffer, 100, NEXT, 0)],
            'a loop of two': [(buffer, 100, NEXT, 1), (buffer, 100, NEXT, 0)],
            'a loop of all': [(buffer, 1, NEXT, (i + 1) % size) for i in range(size)],
            'a loop in the tail': [(buffer, 100, NEXT, 1), (buffer, 100, NEXT, 2), (buffer, 100, NEXT, 1)],
            'a loop of nothing': [(buffer, 0, NEXT, 1), (buffer, 0, NEXT, 0)],
        }
        return {
            **loops,
            'next is the size': [(buffer, 100, NEXT, size), one],
            'next is 65535': [(buffer, 100, NEXT, 0xffff), one],
            'a buffer to write in a transmit ring': [(buffer, 100, WRITE, 0)],
            'a buffer to write behind one to read': [(buffer, 100, NEXT, 1), (buffer, 100, WRITE, 0)],
            'address 0': [(0, 100, 0, 0)],
            'the last byte of all': [(TOP - 1, 100, 0, 0)],
            'beyond the memory': [(buffer + (1 << 40), 100, 0, 0)],
            'all lengths zero': [(buffer, 0, NEXT, 1), (buffer, 0, 0, 0)],
            'four gigabytes': [(buffer, 2**32 - 1, 0, 0)],
        }

    def indirect_chains(self):
        table = self.scratch + 8192
        nested = self.scratch + 12288
        buffer = self.scratch
        write = self.evil.memory.write

        def entry(gpa, size, flags=0, next_slot=0):
            return struct.pack('<QIHH', gpa, size, flags, next_slot)

        def with_table(*entries, size=None):
            def prepare():
                write(table, b''.join(entries))
                return [(table, 16 * len(entries) if size is None else size, INDIRECT, 0)]
            return prepare
        good = entry(buffer, 100)
        write(nested, good)
        cases = {f'a table of {size} bytes': with_table(good, good, size=size) for size in (0, 8, 17, 16 * 65535, 2**32 - 16)}
        cases.update({
            'a table in a table': with_table(entry(nested, 16, INDIRECT)),
            'a table that is not the last': lambda: [(table, 16, INDIRECT | NEXT, 1), (buffer, 100, 0, 0)],
            'a table that loops': with_table(entry(buffer, 1, NEXT, 1), entry(buffer, 1, NEXT, 0)),
            'a next outside the table': with_table(entry(buffer, 100, NEXT, 1)),
            'a next of 65535': with_table(entry(buffer, 100, NEXT, 0xffff), good),
            'a table nowhere': lambda: [(TOP - 8, 16, INDIRECT, 0)],
            'a table that is longer than the ring': with_table(*[entry(buffer, 1, NEXT, i + 1) for i in range(65)]),
            'a table to be written': with_table(entry(buffer, 100, WRITE)),
            'the ring as table': lambda: [(self.evil.tx.desc, 16 * self.evil.tx.size, INDIRECT, 0)],
            'the used ring as table': lambda: [(self.evil.tx.used, 16 * 8, INDIRECT, 0)],
        })
        return cases

    def test_each_bad_chain_comes_back_unused_and_is_counted(self):
        n = self.drops().get('bad_chain', 0)
        for name, chain in {**self.refused_chains(), **self.indirect_chains()}.items():
            with self.subTest(name):
                self.push_chain(*(chain() if callable(chain) else chain))
                self.assert_returned()
                n += 1
                self.assertTrue(wait_for(lambda: self.drops().get('bad_chain') == n, 5), f'{name}: {self.drops()}')
                self.assert_evil_sends(2)

    def test_one_bad_chain_in_each_place_of_a_burst(self):
        """Q40."""
        for place in range(0, 32, 3):
            frames = []
            for i in range(32):
                if i == place:
                    slot = self.evil.pairs[0].tx_free.pop(0)
                    self.evil.tx.set_desc(slot, 0, 100, 0, 0)
                    self.evil.pairs[0].tx_chains[slot] = [slot]
                    self.evil.tx.push(slot)
                else:
                    frames.append(self.frame())
                    self.evil.queue(frames[-1])
            self.evil.tx.publish()
            self.assertEqual(self.peer.receive_data(len(frames)), frames)
            self.evil.drain()

    def test_flags_that_mean_nothing_are_not_looked_at(self):
        """Q12."""
        for bit in range(3, 16):
            frame = self.frame()
            self.evil.memory.write(self.scratch, net_header() + frame)
            self.push_chain((self.scratch, 12 + len(frame), 1 << bit, 0))
            self.assertEqual(self.peer.receive_data(), [frame], f'bit {bit}')
            self.assert_returned()

    def test_the_log_says_it_a_few_times_only(self):
        for _ in range(500):
            self.push_chain((0, 100, 0, 0))
            self.assert_returned()
        # Once more for whatever tells of it from time to time.
        time.sleep(0.5)
        self.assert_log_is_limited()
        self.assert_evil_sends()

    def test_good_frames_in_odd_shapes_pass(self):
        """Q11, N2: pieces of nothing, of one byte, the longest chain there can be; direct and in tables."""
        for pieces in ([0, 12, 0, 64, 0], [1] * 12 + [64], [11, 2, 63], [12, 14, 50], [1] * 64, [5] * 12 + [16]):
            frame = self.frame(sum(pieces) - 12)
            self.evil.memory.write(self.scratch, net_header() + frame)
            descs, gpa = [], self.scratch
            for i, size in enumerate(pieces):
                last = i + 1 == len(pieces)
                descs.append((gpa, size, 0 if last else NEXT, 0 if last else i + 1))
                gpa += size
            self.push_chain(*descs)
            self.assertEqual(self.peer.receive_data(), [frame], pieces)
            self.assert_returned()
            table = self.scratch + 8192
            self.evil.memory.write(table, b''.join(struct.pack('<QIHH', *desc) for desc in descs))
            self.push_chain((table, 16 * len(descs), INDIRECT, 0))
            self.assertEqual(self.peer.receive_data(), [frame], f'{pieces} in a table')
            self.assert_returned()


class Receive(RingTest):
    """The same in a receive ring: the peer's frames go to wherever they can."""

    def setUp(self):
        super().setUp()
        # The receive ring begins anew, with no buffer in it.
        self.evil.post_all = lambda pair: None
        self.restart(self.evil.rx)

    def give(self, *descs):
        self.push_chain(*descs, ring=self.evil.rx)

    def offer(self, n=1):
        self.peer.send(*[ethernet(i, source=PEER, destination=EVIL) for i in range(n)])
        self.peer.drain()

    def test_buffers_that_break_the_rules_come_back_empty(self):
        buffer = self.scratch
        chains = {
            'to be read': [(buffer, 2048, 0, 0)],
            'to be read behind': [(buffer, 6, WRITE | NEXT, 1), (buffer, 2048, 0, 0)],
            'a loop': [(buffer, 1, WRITE | NEXT, 0)],
            'nowhere': [(0, 2048, WRITE, 0)],
            'across the end': [(TOP - 100, 2048, WRITE, 0)],
            'of nothing': [(buffer, 0, WRITE, 0)],
            'next outside': [(buffer, 2048, WRITE | NEXT, 4096)],
            'shorter than a header': [(buffer, 11, WRITE, 0)],
            'a table not negotiated': [(buffer, 16, INDIRECT, 0)],
        }
        for name, chain in chains.items():
            with self.subTest(name):
                self.give(*chain)
                self.offer()
                self.assert_returned(self.evil.rx)
        self.give((buffer, 2048, WRITE, 0))
        self.offer()
        self.assert_returned(self.evil.rx, expected_len=76)

    def test_frames_larger_than_all_buffers_do_not_stick(self):
        """N4, N7."""
        ring = self.evil.rx
        for slot in range(ring.size):
            ring.set_desc(slot, self.scratch + 16 * slot, 13, WRITE)
            ring.push(slot)
        ring.publish()
        self.peer.send(ethernet(1, source=PEER, destination=EVIL, size=1514))
        self.peer.drain()
        self.restart(ring)
        self.give((self.scratch, 2048, WRITE, 0))
        self.offer()
        self.assert_returned(ring, expected_len=76)

    def test_without_buffers_frames_are_dropped_and_counted(self):
        before = self.drops().get('guest_no_buffers', 0)
        self.offer(100)
        self.assertTrue(wait_for(lambda: self.drops().get('guest_no_buffers', 0) == before + 100), self.drops())

    def test_nothing_is_written_outside_the_buffer(self):
        """Guard bytes around it stay."""
        guard = b'\xa5' * 256
        for size in (76, 77, 90, 200):
            self.evil.memory.write(self.scratch, guard * 3)
            self.give((self.scratch + 256, size, WRITE, 0))
            self.offer()
            self.assert_returned(self.evil.rx, expected_len=76)
            self.assertEqual(self.evil.memory.read(self.scratch, 256), guard)
            self.assertEqual(self.evil.memory.read(self.scratch + 256 + 76, 256), guard)


class Indices(RingTest):
    """What makes a ring useless breaks it: it stands still until it is set up again; the others go on."""

    def breaks_and_recovers(self, ring, spoil):
        spoil()
        if ring is self.evil.rx:
            self.peer.send(ethernet(1, source=PEER, destination=EVIL))
        self.assert_breaks(ring.index)
        self.assertIn('broken', self.daemon.port('evil')['last_error'])
        if ring is self.evil.rx:
            self.assert_evil_sends()
        self.restart(ring)
        self.assert_evil_sends()
        self.peer.send(ethernet(2, source=PEER, destination=EVIL))
        self.assertEqual(len(self.evil.receive(1)), 1)

    def test_an_available_index_that_leads_by_more_than_the_ring(self):
        """Q3."""
        for ring in (self.evil.tx, self.evil.rx):
            for jump in (ring.size + 1, 32768, 0xffff):
                with self.subTest(ring=ring.index, jump=jump):
                    idx = ring.word(ring.used + 2).value if ring is self.evil.rx else ring.avail_idx

                    def spoil():
                        ring.word(ring.avail + 2).value = (idx + jump) & 0xffff
                        ring.notify()
                    self.breaks_and_recovers(ring, spoil)

    def test_a_head_outside_the_ring(self):
        """Q4."""
        for head in (64, 0x100, 0xffff):
            def spoil():
                self.evil.tx.push(head)
                self.evil.tx.publish()
            with self.subTest(head=head):
                self.breaks_and_recovers(self.evil.tx, spoil)

    def test_status_asks_for_a_reset_and_the_error_descriptor_is_signalled(self):
        error = os.eventfd(0, os.EFD_NONBLOCK)
        self.addCleanup(os.close, error)
        self.evil.tell_u64(SET_VRING_ERR, self.evil.tx.index, [error])
        self.evil.tell_u64(SET_STATUS, 0xf)
        self.assertEqual(self.evil.ask_u64(GET_STATUS), 0xf)
        self.evil.tx.push(0xffff)
        self.evil.tx.publish()
        self.assert_breaks(self.evil.tx.index)
        self.assertEqual(os.eventfd_read(error), 1)
        self.assertEqual(self.evil.ask_u64(GET_STATUS), 0x4f)
        self.restart(self.evil.tx)
        self.assertEqual(self.evil.ask_u64(GET_STATUS), 0xf)

    def test_the_same_head_twice_and_heads_in_the_middle_of_chains(self):
        """Q6."""
        frame = self.frame()
        self.evil.memory.write(self.scratch, net_header() + frame)
        ring = self.evil.tx
        ring.set_desc(0, self.scratch, 12, NEXT, 1)
        ring.set_desc(1, self.scratch + 12, 64, 0, 0)
        for head in (0, 0, 1, 0, 1, 1):
            ring.push(head)
        ring.publish()
        self.assertTrue(wait_for(lambda: ring.n_used() == 6))
        self.assertEqual([ring.pop()[0] for _ in range(6)], [0, 0, 1, 0, 1, 1])
        self.assertEqual(self.peer.receive_data(6), [frame, frame, frame[12:], frame, frame[12:], frame[12:]])

    def test_a_base_beside_the_truth(self):
        """X12."""
        ring = self.evil.tx
        for base in (65535, ring.size * 3 + 5, 0):
            self.evil.stop_ring(ring)
            self.evil.start_ring(ring, base=base)
            time.sleep(0.02)
        for base in (65536, 65536 + 5, 2**32 - 1):
            with self.assertRaises(Refused):
                self.evil.tell_state(SET_VRING_BASE, 2, base)
        self.restart(ring)
        # What lay in the ring once may have been sent again: it was told to.
        while self.peer.receive(1, timeout=0.2):
            pass
        self.assert_evil_sends()


class Races(RingTest):
    features = DEFAULT_FEATURES | F_INDIRECT | F_CSUM | F_HOST_TSO4

    def test_memory_full_of_chance_under_running_rings(self):
        """Q30: both rings' descriptors, heads, indices and headers are rewritten as fast as we can."""
        seed = 4711
        rng = random.Random(seed)
        memory = self.evil.memory
        end = time.monotonic() + 4
        n = 0
        while time.monotonic() < end:
            for ring in (self.evil.tx, self.evil.rx):
                for _ in range(40):
                    gpa = rng.choice((self.scratch, self.scratch + rng.randrange(4096), ring.desc, ring.used, ring.avail, 0,
                                      memory.regions[0][0] + memory.regions[0][1] - 20, rng.getrandbits(64)))
                    ring.set_desc(rng.randrange(ring.size), gpa, rng.choice((0, 1, 12, 26, 64, 1514, 66000, rng.getrandbits(32))),
                                  rng.choice((0, 1, 2, 3, 4, 5, rng.getrandbits(16))),
                                  rng.choice((rng.randrange(ring.size), 0xffff)))
                memory.write(self.scratch + rng.randrange(4096), rng.randbytes(12))
                for _ in range(20):
                    ring.push(rng.choice((rng.randrange(ring.size),) * 50 + (0xffff,)))
                ring.avail_idx = (ring.used_idx + rng.choice((1, 10, 64, 64, 64, 65))) & 0xffff
                ring.publish()
            self.peer.send(ethernet(n, source=PEER, destination=EVIL, size=rng.choice((64, 600, 1514))))
            while self.peer.receive_now() is not None:
                pass
            n += 1
            if n % 50 == 0:
                for ring in (self.evil.tx, self.evil.rx):
                    self.restart(ring)
        for ring in (self.evil.tx, self.evil.rx):
            self.restart(ring)
        while self.peer.receive(1, timeout=0.3):
            pass
        self.assert_evil_sends()


class Packed(RingTest):
    """The same in a packed ring (threats, table P)."""

    features = DEFAULT_FEATURES | F_INDIRECT | F_PACKED

    def start_anew(self, ring):
        self.evil.memory.write(ring.avail, bytes(4))
        ring.begin_at(0x8000)
        for pair in self.evil.pairs:
            if ring is pair.tx:
                pair.tx_chains.clear()
                pair.tx_free = list(range(ring.size))
            else:
                self.evil.post_all(pair)
        self.evil.start_ring(ring)

    def put(self, *descs):
        """Available descriptors (gpa, length, id, flags) as they are; nothing is known of buffers among them."""
        self.evil.tx.put([list(desc) for desc in descs])

    def test_each_bad_chain_comes_back_by_the_id_of_its_last_descriptor(self):
        """P1, P2, P3."""
        buffer, table = self.scratch, self.scratch + 8192
        self.evil.memory.write(table, struct.pack('<QIHH', buffer, 100, 0, 0))
        bad = {
            'a buffer to write': (buffer, 100, WRITE), 'address 0': (0, 100, 0), 'the end of all': (TOP - 1, 100, 0),
            'four gigabytes': (buffer, 2**32 - 1, 0), 'a table of 17 bytes': (table, 17, INDIRECT),
            'a table nowhere': (TOP - 8, 16, INDIRECT), 'a table longer than the ring': (table, 16 * 65, INDIRECT),
        }
        n = self.drops().get('bad_chain', 0)
        for number, (name, (gpa, size, flags)) in enumerate(bad.items()):
            for length in (1, 2, 5):
                for at in range(length):
                    descs = [(buffer, 100, 0xfff0 + i, NEXT) for i in range(length)]
                    descs[at] = (gpa, size, 0xfff0 + at, flags | NEXT)
                    last = 1000 * number + length
                    descs[-1] = descs[-1][:2] + (last, descs[-1][3] & ~NEXT)
                    self.evil.tx.outstanding.append((last, length))
                    self.put(*descs)
                    with self.subTest(name, length=length, at=at):
                        self.assertTrue(wait_for(self.evil.tx.n_used, 10), 'not returned')
                        self.assertEqual(self.evil.tx.pop(), (last, 0))
                        n += 1
                        self.assertTrue(wait_for(lambda: self.drops().get('bad_chain') == n, 5), self.drops())
            self.assert_evil_sends(2)
            self.evil.drain()

    def test_a_chain_without_an_end_breaks_the_ring_and_no_other(self):
        """P6."""
        ring = self.evil.tx
        buffer = self.scratch
        endless = {
            'NEXT in all slots': [(buffer, 1, i, NEXT) for i in range(ring.size)],
            'NEXT and nothing there': [(buffer, 100, 7, NEXT)],
            'NEXT behind a good one': [(buffer, 100, 1, 0), (buffer, 100, 2, NEXT)],
            'NEXT on a table': [(buffer, 16, 3, NEXT | INDIRECT)],
        }
        for name, descs in endless.items():
            with self.subTest(name):
                self.put(*descs)
                self.assert_breaks(ring.index)
                self.assertIn('broken', self.daemon.port('evil')['last_error'])
                self.peer.send(ethernet(1, source=PEER, destination=EVIL))
                self.assertEqual(len(self.evil.receive(1)), 1)
                self.restart(ring)
                while self.peer.receive(1, timeout=0.1):
                    pass
                self.assert_evil_sends()

    def test_a_descriptor_of_the_wrong_lap_is_not_looked_at(self):
        """P7."""
        ring = self.evil.tx
        slot = ring.avail_place & 0x7fff
        for flags in (0, AVAIL | USED, USED if ring.avail_place & 0x8000 else AVAIL):
            ring.memory.write(ring.desc + 16 * slot, struct.pack('<QIH', 0, 100, 5))
            ring.flags(slot).value = flags
            ring.notify()
            time.sleep(0.02)
            self.assertEqual(struct.unpack('<IHH', ring.memory.read(ring.desc + 16 * slot + 8, 8)), (100, 5, flags))
        self.assert_evil_sends()

    def test_a_base_outside_the_ring_is_refused(self):
        """X12."""
        ring = self.evil.tx
        base = self.evil.stop_ring(ring)
        for bad in (ring.size, 0x7fff, 0x8000 | ring.size, ring.size << 16 | base & 0xffff, 2**32 - 1):
            with self.assertRaises(Refused, msg=hex(bad)):
                self.evil.tell_state(SET_VRING_BASE, ring.index, bad)
        self.evil.tell_state(SET_VRING_BASE, ring.index, base)
        self.evil.start_ring(ring, base=base)
        self.assert_evil_sends()

    def test_memory_full_of_chance_under_running_rings(self):
        """P10: descriptors, their flags and the event structures are rewritten as fast as we can."""
        rng = random.Random(4711)
        memory = self.evil.memory
        end = time.monotonic() + 4
        n = 0
        while time.monotonic() < end:
            for ring in (self.evil.tx, self.evil.rx):
                for _ in range(60):
                    gpa = rng.choice((self.scratch, self.scratch + rng.randrange(4096), ring.desc, ring.used, ring.avail, 0,
                                      memory.regions[0][0] + memory.regions[0][1] - 20, rng.getrandbits(64)))
                    slot = rng.randrange(ring.size)
                    memory.write(ring.desc + 16 * slot, struct.pack(
                        '<QIH', gpa, rng.choice((0, 1, 12, 26, 64, 1514, 66000, rng.getrandbits(32))), rng.getrandbits(16)))
                    ring.flags(slot).value = rng.choice((0, 0, 0, 1, 2, 3, 4, rng.getrandbits(16))) | rng.choice((AVAIL, USED))
                ring.want_calls(rng.randrange(4), rng.getrandbits(16))
                ring.notify()
                memory.write(self.scratch + rng.randrange(4096), rng.randbytes(12))
            self.peer.send(ethernet(n, source=PEER, destination=EVIL, size=rng.choice((64, 600, 1514))))
            while self.peer.receive_now() is not None:
                pass
            n += 1
            if n % 20 == 0:
                for ring in (self.evil.tx, self.evil.rx):
                    self.restart(ring)
        for ring in (self.evil.tx, self.evil.rx):
            self.restart(ring)
        while self.peer.receive(1, timeout=0.3):
            pass
        self.assert_evil_sends()


if __name__ == '__main__':
    bed.main()
