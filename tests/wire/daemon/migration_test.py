# SPDX-License-Identifier: BSD-3-Clause
"""The dirty log, as a VMM uses it to migrate a guest (vhost-user, "Migration"): a copy of the guest's memory is brought up to date
from the log alone, while frames go in and out, and at the end it must be equal in every byte.

Bytes that the driver itself writes are put into the copy by the driver: a VMM gets them from the hypervisor's log.
"""
import ctypes
import hashlib
import mmap
import os
import random
import struct
import time
import unittest

import bed
from bed import DaemonTest, ethernet, mac
from vhost_user import (DEFAULT_FEATURES, DEFAULT_PROTOCOL, F_EVENT_IDX, F_INDIRECT, F_IN_ORDER, F_PACKED, INDIRECT, NEXT, PAGE,
                        SET_FEATURES, SET_LOG_BASE, SET_VRING_ADDR, WRITE, Closed, Guest, Memory, Refused, net_header, wait_for)

F_LOG_ALL = 1 << 26
P_LOG_SHMFD = 1 << 1
ADDR_LOG = 1
GPA, UVA = 0x4000_0000, 0x7e00_0000_0000
RING_SIZE = 256
TABLE_ENTRIES = 256  # of an indirect table, at most
TABLE_BYTES = 16 * TABLE_ENTRIES

library = ctypes.CDLL(os.environ['DIRTY_LOG'])
library.log_take.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p]
library.log_take.restype = ctypes.c_size_t


class Log:
    """A log in a file of its own, amid bytes that are not part of it. Neither its place nor its length are round."""

    def __init__(self, n_pages, offset=PAGE + 40):
        self.size, self.offset = n_pages // 8 + 1, offset
        self.fd = os.memfd_create('log')
        os.ftruncate(self.fd, (offset + self.size + 2 * PAGE) // PAGE * PAGE)
        self.map = mmap.mmap(self.fd, 0)
        self.bits = (ctypes.c_uint8 * self.size).from_buffer(self.map, offset)
        self.taken = (ctypes.c_uint8 * self.size)()

    def take(self):
        """The numbers of the pages whose bits are set, which then are not."""
        if not library.log_take(self.bits, self.size, self.taken):
            return []
        pages = []
        for i, byte in enumerate(bytes(self.taken)):
            if byte:
                pages += [8 * i + bit for bit in range(8) if byte >> bit & 1]
        return pages

    def assert_alone(self):
        """Nothing was written around it."""
        assert not any(self.map[:self.offset]) and not any(self.map[self.offset + self.size:]), 'bits outside the log'

    def close(self):
        self.bits = None
        os.close(self.fd)


class MigratingMemory(Memory):
    """What the driver writes goes into the copy as well, once there is one. Two regions: next to each other for the guest."""

    copy = None

    def __init__(self, size):
        first = 48 * PAGE
        super().__init__(size, regions=[(GPA, first, UVA, 0), (GPA + first, size - first, UVA + (1 << 40), first)])

    def write(self, gpa, data):
        super().write(gpa, data)
        if self.copy is not None:
            offset = self.offset_of(gpa)
            self.copy[offset:offset + len(data)] = data


class Word:
    """Queue.word() for such memory."""

    def __init__(self, memory, gpa):
        self.memory, self.offset = memory, memory.offset_of(gpa)
        self.word = ctypes.c_uint16.from_buffer(memory.map, self.offset)

    @property
    def value(self):
        return self.word.value

    @value.setter
    def value(self, value):
        self.word.value = value
        if self.memory.copy is not None:
            self.memory.copy[self.offset:self.offset + 2] = struct.pack('<H', value)


class MigratingGuest(Guest):
    """A guest whose buffers are of all shapes, and the VMM that moves it."""

    @classmethod
    def arrive(cls, path, features, rng, buffer_bytes, pieces=(1, 1, 2, 8)):
        self = cls.connect(path)
        self.rng, self.pieces = rng, pieces
        memory = MigratingMemory((2 * RING_SIZE * (buffer_bytes + TABLE_BYTES) + 64 * PAGE) // PAGE * PAGE)
        self.setup(features, DEFAULT_PROTOCOL | P_LOG_SHMFD, 1, RING_SIZE, buffer_bytes, False, memory)
        self.tables = {id(ring): memory.alloc(RING_SIZE * TABLE_BYTES) for ring in (self.rx, self.tx)}
        for ring in (self.rx, self.tx):
            ring.word = lambda gpa: Word(memory, gpa)
        self.post_all(self.pairs[0])
        self.log = None
        self.masked = set()  # pages whose bits the VMM overlooks
        self.n_pages_copied = 0
        return self

    def close(self):
        super().close()
        if self.log is not None:
            self.log.close()
            self.log = None

    # ---- The driver ----

    def describe(self, ring, slot, gpa, size, flags):
        """One descriptor, or a table of some."""
        n = min(self.rng.choice(self.pieces), size) if self.features & F_INDIRECT else 1
        if n == 1:
            ring.set_desc(slot, gpa, size, flags)
            return
        table = self.tables[id(ring)] + slot * TABLE_BYTES
        cuts = [0] + sorted(self.rng.sample(range(1, size), n - 1)) + [size]
        entries = b''
        for i in range(n):
            last = i + 1 == n
            more = (i, flags) if self.features & F_PACKED else (flags | (0 if last else NEXT), 0 if last else i + 1)
            entries += struct.pack('<QIHH', gpa + cuts[i], cuts[i + 1] - cuts[i], *more)
        self.memory.write(table, entries)
        ring.set_desc(slot, table, len(entries), INDIRECT)

    def post(self, pair, slot):
        self.describe(pair.rx, slot, pair.rx_buffers + slot * pair.buffer_bytes, pair.buffer_bytes, WRITE)
        pair.rx.push(slot)

    def reclaim(self, pair):
        if self.features & F_PACKED or not self.features & F_IN_ORDER:
            super().reclaim(pair)
            return
        # One used entry may stand for several (virtio 2.7.9); which they are is known without it.
        n = pair.tx.n_used()
        pair.tx.last_used = (pair.tx.last_used + n) & 0xffff
        for head in list(pair.tx_chains)[:n]:
            pair.tx_free += pair.tx_chains.pop(head)

    def queue_one(self, frame):
        """As queue(), for a frame that fits into one buffer."""
        pair = self.pairs[0]
        if not pair.tx_free:
            self.reclaim(pair)
        if not pair.tx_free:
            return False
        slot = pair.tx_free.pop(0)
        gpa = pair.tx_buffers + slot * pair.buffer_bytes
        self.memory.write(gpa, net_header() + frame)
        self.describe(pair.tx, slot, gpa, len(net_header() + frame), 0)
        pair.tx_chains[slot] = [slot]
        pair.tx.push(slot)
        return True

    # ---- The VMM ----

    def set_log_base(self, log):
        payload = struct.pack('<QQ', log.size, log.offset)
        self.send_raw(self.message(SET_LOG_BASE, payload), [log.fd])
        assert self.receive_reply(SET_LOG_BASE) == payload, 'the reply is not what was asked for'

    def set_ring_log(self, ring, logged):
        uva = self.memory.uva_of
        self.tell(SET_VRING_ADDR, struct.pack('<IIQQQQ', ring.index, ADDR_LOG if logged else 0, uva(ring.desc), uva(ring.used),
                                              uva(ring.avail), ring.used))

    def set_logging(self, logged):
        """On running rings, as QEMU does."""
        self.tell_u64(SET_FEATURES, self.features | (F_LOG_ALL if logged else 0))
        for ring in (self.rx, self.tx):
            self.set_ring_log(ring, logged)

    def new_log(self):
        return Log((GPA + len(self.memory.map)) // PAGE, PAGE * self.rng.randrange(3) + self.rng.randrange(64))

    def migrate(self):
        """Frames are under way meanwhile."""
        self.log = self.new_log()
        self.set_log_base(self.log)
        self.set_logging(True)
        self.memory.copy = bytearray(self.memory.map[:])

    def copy_pages(self, pages):
        for page in pages:
            if page in self.masked:
                continue
            offset = self.memory.offset_of(page * PAGE)  # raises if it is no page of this guest
            self.memory.copy[offset:offset + PAGE] = self.memory.map[offset:offset + PAGE]
            self.n_pages_copied += 1

    def round(self):
        self.copy_pages(self.log.take())

    def change_log(self):
        """As QEMU does when the guest gets more memory: what the old one had at last is looked at when there is the new one."""
        old, self.log = self.log, self.new_log()
        self.set_log_base(self.log)
        self.copy_pages(old.take())
        old.assert_alone()
        old.close()

    def stop(self):
        for ring in (self.rx, self.tx):
            self.stop_ring(ring)

    def pages_of(self, *kinds):
        """Where the device writes."""
        pair = self.pairs[0]
        ring_bytes = 4 if self.features & F_PACKED else 6 + 8 * RING_SIZE
        places = {'buffers': [(pair.rx_buffers, RING_SIZE * pair.buffer_bytes)],
                  'used': [(ring.used, ring_bytes) for ring in (pair.rx, pair.tx)],
                  'descriptors': [(ring.desc, 16 * RING_SIZE) for ring in (pair.rx, pair.tx)]}
        return {page for kind in kinds for gpa, size in places[kind]
                for page in range(gpa // PAGE, (gpa + size - 1) // PAGE + 1)}

    def pages_that_differ(self):
        memory, copy = self.memory.map[:], bytes(self.memory.copy)
        return {(GPA + offset) // PAGE for offset in range(0, len(memory), PAGE)
                if memory[offset:offset + PAGE] != copy[offset:offset + PAGE]}


def expected(data):
    """The frame that a good one must be, from its number and addresses."""
    is_tagged = data[12:14] == b'\x81\x00'
    start = 18 if is_tagged else 14
    frame = ethernet(struct.unpack_from('>I', data, start)[0], data[6:12], data[:6], len(data) - start + 14)
    return frame[:12] + data[12:16] + frame[12:] if is_tagged else frame


class MigrationTest(DaemonTest):
    def begin(self, features, seed, buffer_bytes=None, pieces=(1, 1, 2, 8), cpus=1):
        """Three guests; one of them is to be moved."""
        self.rng = random.Random(seed)
        names = ['a', 'b', 'c']
        available = sorted(os.sched_getaffinity(0))
        if len(available) < cpus:
            self.skipTest(f'{cpus} workers need {cpus} CPUs')
        self.start(names, [{'name': 'br0', 'ports': names}], workers={'cpus': ','.join(map(str, available[-cpus:]))})
        self.a = MigratingGuest.arrive(self.path('a.sock'), features, self.rng,
                                       buffer_bytes or self.rng.choice([1514, 2048, 3000]), pieces)
        self.addCleanup(self.a.close)
        self.peers = [self.guest(name) for name in names[1:]]
        self.number, self.n_received = 0, 0

    def frame(self, source, destination, size):
        self.number += 1
        frame = ethernet(self.number, source, destination, size)
        if self.rng.random() < 0.2:
            frame = frame[:12] + struct.pack('>HH', 0x8100, self.rng.choice([10, 20])) + frame[12:]
        return frame

    def size(self):
        return self.rng.choice([60, 61, 64, 128, 590, 1500, 1514, self.rng.randrange(60, 1515), self.rng.randrange(2000, 9015)])

    def take_all(self):
        """What has come to anybody. The guest that moves gets good frames only."""
        for guest in [self.a] + self.peers:
            while (frame := guest.receive_now()) is not None:
                if guest is self.a:
                    self.n_received += 1
                    self.assertEqual(frame.data, expected(frame.data))

    def some_traffic(self, n=12):
        for number, peer in enumerate(self.peers):
            for _ in range(self.rng.randrange(n)):
                # Seldom to everybody; at times all of one size, so that there are runs.
                destination = b'\xff' * 6 if self.rng.random() < 0.1 else mac(1)
                peer.queue(self.frame(mac(2 + number), destination, self.size()))
            for _ in range(self.rng.choice([0, 0, 40])):
                peer.queue(self.frame(mac(2 + number), mac(1), 64))
            peer.tx.publish()
        for _ in range(self.rng.randrange(n)):
            destination = self.rng.choice([b'\xff' * 6, mac(2), mac(3)])
            frame = self.frame(mac(1), destination, self.size())
            fits = len(frame) + len(net_header()) <= self.a.pairs[0].buffer_bytes
            if not (self.a.queue_one(frame) if fits and self.rng.random() < 0.7 else self.a.queue(frame)):
                break
        self.a.tx.publish()
        self.take_all()

    def traffic_for(self, seconds):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.some_traffic(4)

    def run_migration(self, n_rounds, n_steps, step=None, changes_log=True):
        step = step or self.some_traffic
        for _ in range(5):
            step()
        self.a.migrate()
        for number in range(n_rounds):
            for _ in range(self.rng.randrange(n_steps)):
                step()
            # The worker goes to sleep now and then, and says so in the rings.
            if self.rng.random() < 0.2:
                time.sleep(0.003)
            self.a.round()
            if changes_log and number % 8 == 5:
                self.a.change_log()
        step()
        self.a.stop()
        self.a.round()
        self.a.log.assert_alone()

    def end(self):
        for guest in [self.a] + self.peers:
            guest.close()
        self.daemon.stop()
        self.daemon_ends = True

    def assert_equal(self):
        self.assertEqual(self.a.pages_that_differ(), set(), f'of buffers: {sorted(self.a.pages_of("buffers"))}, '
                         f'used: {self.a.pages_of("used")}, descriptors: {self.a.pages_of("descriptors")}')
        self.assertGreater(self.a.n_pages_copied, 0)


class Equality(MigrationTest):
    """Layouts and features; some seeds each."""

    def check(self, features, cpus=1, seeds=2, **options):
        for number in range(seeds):
            seed = int(os.environ.get('RINGWAY_TEST_SEED', number))
            with self.subTest(seed=seed):
                self.begin(features, seed, cpus=cpus, **options)
                self.run_migration(40, 6)
                self.assert_equal()
                self.assertGreater(self.n_received, 1000)
                print(f'seed {seed}: {self.n_received} frames in, {self.a.n_pages_copied} pages copied', flush=True)
                self.end()

    def test_split(self):
        self.check(DEFAULT_FEATURES)

    def test_split_with_indirect_tables_and_event_index(self):
        self.check(DEFAULT_FEATURES | F_INDIRECT | F_EVENT_IDX)

    def test_split_in_order(self):
        self.check(DEFAULT_FEATURES | F_INDIRECT | F_EVENT_IDX | F_IN_ORDER)

    def test_packed(self):
        self.check(DEFAULT_FEATURES | F_PACKED)

    def test_packed_with_indirect_tables_and_event_index(self):
        self.check(DEFAULT_FEATURES | F_PACKED | F_INDIRECT | F_EVENT_IDX)

    def test_packed_in_order(self):
        self.check(DEFAULT_FEATURES | F_PACKED | F_INDIRECT | F_EVENT_IDX | F_IN_ORDER)

    def test_two_workers_that_send_to_one_ring(self):
        self.check(DEFAULT_FEATURES | F_INDIRECT | F_EVENT_IDX, cpus=2)

    def test_two_workers_that_send_to_one_packed_ring(self):
        self.check(DEFAULT_FEATURES | F_PACKED | F_INDIRECT | F_EVENT_IDX, cpus=2)


class Sensitivity(MigrationTest):
    """The comparison sees each kind of page whose bits are overlooked, and no other page differs then."""

    def check(self, features, kind):
        self.begin(features, 1)
        self.a.masked = self.a.pages_of(kind)
        self.run_migration(20, 6)
        differ = self.a.pages_that_differ()
        self.assertNotEqual(differ, set())
        self.assertLessEqual(differ, self.a.masked)

    def test_buffers(self):
        self.check(DEFAULT_FEATURES, 'buffers')

    def test_used_rings(self):
        self.check(DEFAULT_FEATURES, 'used')

    def test_descriptors_of_packed_rings(self):
        self.check(DEFAULT_FEATURES | F_PACKED, 'descriptors')

    def test_event_structures_of_packed_rings(self):
        self.check(DEFAULT_FEATURES | F_PACKED | F_EVENT_IDX, 'used')

    def test_a_ring_whose_own_parts_are_not_to_be_logged(self):
        self.begin(DEFAULT_FEATURES, 1)
        self.a.set_ring_log = lambda ring, logged: None
        self.run_migration(20, 6, changes_log=False)
        differ = self.a.pages_that_differ()
        self.assertNotEqual(differ, set())
        self.assertLessEqual(differ, self.a.pages_of('used'))


class Fast(MigrationTest):
    """Under more frames than Python can make: most find no buffer, so the guest's ring is always about to run dry."""

    def check(self, features):
        self.rng = random.Random(1)
        ports = [self.guest_port('a'), self.guest_port('b')]
        self.start(ports, cross_connects=[{'ports': ['a', 'b']}])
        self.a = MigratingGuest.arrive(self.path('a.sock'), features, self.rng, 2048)
        self.addCleanup(self.a.close)
        bench = self.bench('b', window=0, sleep=False, args=['--rate', '300000'])
        self.n_received = 0

        def step(echo=False):
            for _ in range(200):
                frame = self.a.receive_now()
                self.n_received += frame is not None
                if echo and frame is not None:
                    self.a.send(frame.data)
        # It wants to see its first frames again.
        self.assertTrue(wait_for(lambda: step(True) or self.n_received > 500))
        self.n_received = 0
        self.run_migration(60, 6, step)
        self.assert_equal()
        print(f'{self.n_received} frames in, {self.a.n_pages_copied} pages copied', flush=True)
        self.assertGreater(self.n_received, 1000)
        bench.kill()

    def test_split(self):
        self.check(DEFAULT_FEATURES | F_EVENT_IDX)

    def test_packed(self):
        self.check(DEFAULT_FEATURES | F_PACKED | F_EVENT_IDX)


class Changes(MigrationTest):
    def check_toggling(self, features):
        """Logging comes and goes under chains of as many pieces as there may be, and the last time the copy is equal."""
        self.begin(features, 3, buffer_bytes=2048, pieces=(1, TABLE_ENTRIES))
        log = self.a.log = self.a.new_log()
        for _ in range(30):
            # It is sent each time: a migration brings a log of its own.
            self.a.set_log_base(log)
            self.a.set_logging(True)
            self.traffic_for(0.01)
            self.assertNotEqual(log.take(), [])
            self.a.set_logging(False)
            # Nothing is noted any more.
            log.take()
            self.traffic_for(0.01)
            self.assertEqual(log.take(), [])
        self.assertGreater(self.n_received, 100)
        log.assert_alone()
        log.close()
        self.run_migration(10, 4)
        self.assert_equal()

    def test_logging_comes_and_goes(self):
        self.check_toggling(DEFAULT_FEATURES | F_INDIRECT | F_EVENT_IDX)

    def test_logging_comes_and_goes_packed(self):
        self.check_toggling(DEFAULT_FEATURES | F_PACKED | F_INDIRECT | F_EVENT_IDX)

    def check_frozen(self, features):
        self.begin(features, 4)
        self.run_migration(10, 4)
        self.assert_equal()
        before = hashlib.sha256(self.a.memory.map).hexdigest()
        calls = [ring.n_calls() for ring in (self.a.rx, self.a.tx)]
        self.assertEqual(len(calls), 2)
        end = time.monotonic() + 1
        while time.monotonic() < end:
            for number, peer in enumerate(self.peers):
                peer.queue(self.frame(mac(2 + number), mac(1), 64))
                peer.tx.publish()
                peer.reclaim(peer.pairs[0])
            # With pauses, in which the worker falls asleep.
            time.sleep(self.rng.choice([0, 0.01]))
        self.assertEqual(hashlib.sha256(self.a.memory.map).hexdigest(), before)
        self.assertEqual(self.a.log.take(), [])
        self.assertEqual([ring.n_calls() for ring in (self.a.rx, self.a.tx)], [0, 0])

    def test_memory_is_frozen_once_all_rings_are_stopped(self):
        self.check_frozen(DEFAULT_FEATURES | F_EVENT_IDX)

    def test_memory_is_frozen_once_all_rings_are_stopped_packed(self):
        self.check_frozen(DEFAULT_FEATURES | F_PACKED | F_EVENT_IDX)

    def test_a_log_that_is_truncated_costs_its_own_port_only(self):
        self.begin(DEFAULT_FEATURES, 5)
        self.a.migrate()
        os.ftruncate(self.a.log.fd, 0)

        def send():
            self.peers[0].queue(self.frame(mac(2), mac(1), 64))
            self.peers[0].tx.publish()
            return self.daemon.port('a')['state'] == 'idle'
        self.assertTrue(wait_for(send))
        self.assertIn('took memory away', self.daemon.log())
        with self.assertRaises(Closed):
            self.a.stop()
        b, c = self.peers
        while c.receive_now() is not None:
            pass
        frames = [ethernet(i, mac(2), mac(3)) for i in range(50)]
        b.send(*frames)
        self.assertEqual(c.receive_data(50), frames)

    def short_log(self):
        log = Log((GPA + len(self.a.memory.map)) // PAGE // 8 * 8 - 9)
        self.addCleanup(log.close)
        return log

    def test_nothing_is_logged_where_there_is_no_room_for_all_of_it(self):
        self.begin(DEFAULT_FEATURES, 6)
        self.a.set_log_base(self.short_log())
        with self.assertRaises(Refused):
            self.a.set_logging(True)
        self.run_migration(5, 4)
        self.assert_equal()

    def test_a_log_that_is_shorter_than_the_memory_that_is_logged_ends_the_session(self):
        self.begin(DEFAULT_FEATURES, 6)
        self.a.migrate()
        with self.assertRaises(Closed):
            self.a.set_log_base(self.short_log())

    def test_the_ports_resources_come_back(self):
        self.begin(DEFAULT_FEATURES, 7)
        for guest in [self.a] + self.peers:
            guest.close()
        for name in 'abc':
            self.daemon.wait_state(name, 'idle')
        before = self.daemon.resources()
        for seed in range(3):
            self.a = MigratingGuest.arrive(self.path('a.sock'), DEFAULT_FEATURES, random.Random(seed), 2048)
            self.addCleanup(self.a.close)
            self.a.migrate()
            for _ in range(5):
                self.a.change_log()
            self.a.close()
            self.daemon.wait_state('a', 'idle')
        self.assert_flat(before)

    def test_frames_pass_whole_between_guests_that_are_logged_all_the_time(self):
        self.start(['a', 'b'], [{'name': 'br0', 'ports': ['a', 'b']}])
        for features in ('+event_idx', '+event_idx,+packed'):
            result = self.bench('a', 'b', duration=1, args=['--log', '--features', features]).check(None)
            self.assertGreater(result['conditions']['pages_logged'], 100)


if __name__ == '__main__':
    bed.main()
