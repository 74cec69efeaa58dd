# SPDX-License-Identifier: BSD-3-Clause
"""A hostile front end's memory (threats, tables R, S and F8) beside a good pair of ports under load."""
import contextlib
import ctypes
import fcntl
import os
import socket
import struct
import tempfile
import time

import bed
from bed import ethernet
from hostile import EVIL, PEER, HostileTest, RingTest
from vhost_user import *

GPA, UVA, SIZE = 0x4000_0000, 0x7e00_0000_0000, 4 << 20
TOP = 1 << 64


class Regions(HostileTest):
    def setUp(self):
        super().setUp()
        self.memory = Memory(SIZE)
        self.addCleanup(self.memory.close)
        self.evil = self.front_end(negotiate=True)

    def refused(self, *regions, fds=None):
        with self.subTest(regions=[tuple(map(hex, region)) for region in regions], fds=fds):
            with self.assertRaises(Refused):
                self.evil.set_mem_table(self.memory, regions, fds)
            with self.assertRaises(Refused):
                for region, fd in zip(regions, fds or [self.memory.fd] * len(regions)):
                    self.evil.tell(ADD_MEM_REG, bytes(8) + struct.pack('<QQQQ', *region), [fd])
            for region in regions:
                with contextlib.suppress(Refused):
                    self.evil.tell(REM_MEM_REG, bytes(8) + struct.pack('<QQQQ', *region))

    def test_sizes_and_addresses_that_wrap_or_do_not_fit_the_file(self):
        for region in ((GPA, 0, UVA, 0), (TOP - SIZE + 1, SIZE, UVA, 0), (GPA, SIZE, TOP - SIZE + 1, 0),
                       (GPA, SIZE + 1, UVA, 0), (GPA, SIZE, UVA, PAGE), (GPA, SIZE, UVA, TOP - SIZE),
                       (GPA, SIZE, UVA, TOP - 1), (GPA, PAGE, UVA, SIZE), (GPA, 1 << 46, UVA, 0), (GPA, TOP - 1, UVA, 0)):
            self.refused(region)

    def test_regions_that_overlap(self):
        for gpa, uva in ((GPA, UVA + SIZE), (GPA + SIZE, UVA), (GPA, UVA), (GPA + PAGE, UVA + SIZE), (GPA - PAGE, UVA - SIZE)):
            self.refused((GPA, 2 * PAGE, UVA, 0), (gpa, 2 * PAGE, uva, 2 * PAGE))

    def test_regions_at_the_ends_of_the_address_space(self):
        self.evil.set_mem_table(self.memory, [(0, PAGE, UVA, 0), (TOP - PAGE, PAGE, UVA + SIZE, PAGE)])
        self.evil.set_mem_table(self.memory, [(0, PAGE, 0, 0), (GPA, PAGE, TOP - PAGE, PAGE)])
        self.assertEqual(len(self.daemon.port('evil')['memory']), 2)
        self.evil.set_mem_table(self.memory, [])
        self.assertEqual(self.daemon.port('evil')['memory'], [])

    def test_files_that_are_no_guest_memory(self):
        read_end, write_end = os.pipe()
        event = os.eventfd(0)
        sealed = os.memfd_create('guest', os.MFD_ALLOW_SEALING)
        os.ftruncate(sealed, SIZE)
        fcntl.fcntl(sealed, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE)
        read_only = os.open(f'/proc/self/fd/{self.memory.fd}', os.O_RDONLY)
        path_only = os.open(f'/proc/self/fd/{self.memory.fd}', os.O_PATH)
        sock = socket.socket(socket.AF_UNIX)
        regular = tempfile.TemporaryFile(dir=self.folder)
        regular.truncate(SIZE)
        folder = os.open(self.folder, os.O_RDONLY)
        devices = [os.open(name, os.O_RDWR) for name in ('/dev/null', '/dev/zero')]
        fds = [read_end, write_end, event, sealed, read_only, path_only, sock.fileno(), regular.fileno(), folder, *devices]
        for fd in fds:
            self.refused((GPA, PAGE, UVA, 0), fds=[fd])
        sock.detach()
        for fd in fds:
            if fd != regular.fileno():
                os.close(fd)
        regular.close()

    def test_slots_up_to_the_limit_and_in_any_order(self):
        n = struct.unpack('<Q', self.evil.ask(GET_MAX_MEM_SLOTS))[0]
        n_pages = SIZE // PAGE
        self.assertLessEqual(n, n_pages - 1)

        def payload(i):
            return bytes(8) + struct.pack('<QQQQ', GPA + 2 * i * PAGE, PAGE, UVA + 2 * i * PAGE, i * PAGE)
        for i in range(n):
            self.evil.tell(ADD_MEM_REG, payload(i), [self.memory.fd])
        with self.assertRaises(Refused):
            self.evil.tell(ADD_MEM_REG, payload(n), [self.memory.fd])
        self.assertEqual(self.daemon.resources()['guest_maps'], self.before['guest_maps'] + n)
        with self.assertRaises(Refused):
            self.evil.tell(REM_MEM_REG, bytes(8) + struct.pack('<QQQQ', GPA, 2 * PAGE, UVA, 0))
        for i in range(0, n, 2):
            self.evil.tell(REM_MEM_REG, payload(i), [self.memory.fd] if i % 4 else [])
            with self.assertRaises(Refused):
                self.evil.tell(REM_MEM_REG, payload(i))
        self.assertEqual(len(self.daemon.port('evil')['memory']), n // 2)

    def test_again_and_again(self):
        region = bytes(8) + struct.pack('<QQQQ', GPA, SIZE, UVA, 0)
        for _ in range(200):
            self.evil.tell(ADD_MEM_REG, region, [self.memory.fd])
            self.evil.tell(REM_MEM_REG, region)
        self.assert_flat({**self.before, 'fds': self.before['fds'] + 1})


class Truncation(RingTest):
    """S1, S2: memory goes away while the back end uses it."""

    def lost(self):
        """The daemon notices, and ends this connection alone."""
        self.assertTrue(self.evil.is_closed(), 'truncated memory was not noticed')
        self.assertIn('memory', self.daemon.port('evil')['last_error'])

    def fill(self):
        while self.evil.queue(self.frame()):
            pass

    def test_all_of_it_while_it_sends(self):
        self.fill()
        self.evil.tx.publish()
        os.ftruncate(self.evil.memory.fd, 0)
        self.lost()

    def test_all_of_it_while_it_receives(self):
        os.ftruncate(self.evil.memory.fd, 0)
        self.peer.send(*[ethernet(i, source=PEER, destination=EVIL) for i in range(100)])
        self.lost()

    def test_the_buffers_alone(self):
        self.fill()
        pair = self.evil.pairs[0]
        os.ftruncate(self.evil.memory.fd, self.evil.memory.offset_of(pair.tx_buffers))
        self.evil.tx.publish()
        self.lost()

    def test_an_idle_guest_that_shrinks_and_grows(self):
        size = len(self.evil.memory.map)
        for _ in range(50):
            os.ftruncate(self.evil.memory.fd, 0)
            os.ftruncate(self.evil.memory.fd, size)
        self.evil.is_closed(0.5)

    def test_holes_are_zeroes_and_no_fault(self):
        """S4."""
        offset = self.evil.memory.offset_of(self.evil.pairs[0].tx_buffers)
        ctypes.CDLL(None).fallocate(self.evil.memory.fd, 3, ctypes.c_long(offset), ctypes.c_long(PAGE))
        self.assert_evil_sends()


class Changes(RingTest):
    """Memory changes its shape while rings run."""

    def test_a_new_table_every_millisecond_under_traffic(self):
        """R20."""
        received, sent = [], []
        end = time.monotonic() + 3
        n_tables = 0
        while time.monotonic() < end:
            frame = self.frame()
            if self.evil.queue(frame):
                sent.append(frame)
                self.evil.tx.publish()
            self.evil.set_mem_table(self.evil.memory)
            n_tables += 1
            received += self.peer.receive_data(20, timeout=0.001)
        self.evil.drain()
        received += self.peer.receive_data(len(sent) - len(received))
        self.assertEqual(received, sent, f'after {n_tables} tables')

    def test_the_table_is_cut_differently_and_moved_to_other_descriptors(self):
        memory = self.evil.memory
        gpa, size, uva, _ = memory.regions[0]
        cuts = (size // 2 // PAGE * PAGE, 40 * PAGE, size - PAGE)
        for cut in cuts:
            self.evil.set_mem_table(memory, [(gpa + cut, size - cut, uva + cut, cut), (gpa, cut, uva, 0)])
            self.assert_evil_sends()
        other = os.dup(memory.fd)
        self.evil.set_mem_table(memory, fds=[other])
        os.close(other)
        self.assert_evil_sends()

    def test_rings_wait_while_their_memory_is_away(self):
        """R21."""
        memory = self.evil.memory
        region = bytes(8) + struct.pack('<QQQQ', *memory.regions[0])
        for _ in range(20):
            self.evil.tell(REM_MEM_REG, region)
            frame = self.frame()
            self.evil.send(frame)
            self.peer.send(ethernet(1, source=PEER, destination=EVIL))
            self.assertEqual(self.evil.tx.n_used(), 0)
            self.evil.tell(ADD_MEM_REG, region, [memory.fd])
            self.assertEqual(self.peer.receive_data(1), [frame])
            self.evil.drain()

    def test_buffers_across_regions_that_are_neighbours_for_the_guest_alone(self):
        """R10: neighbours in gpa, far apart in the file; then with a hole."""
        far = 40 * PAGE
        memory = Memory(8 << 20)
        memory.regions = [(GPA, far, UVA, 0), (GPA + far, far, UVA + 0x1000_0000, 100 * PAGE)]
        self.addCleanup(memory.close)
        self.evil.close()
        self.daemon.wait_state('evil', 'idle')
        evil = FrontEnd.connect(self.path('evil.sock'))
        self.guests.append(evil)
        evil.negotiate()
        evil.set_mem_table(memory)
        ring = Ring(memory, 1, 16)
        self.addCleanup(ring.close)
        evil.start_ring(ring)
        for length, before in ((200, 1), (200, 13), (200, 100), (1500, 1499)):
            frame = self.frame(length)
            gpa = GPA + far - before
            data = net_header() + frame
            memory.write(gpa, data[:before])
            memory.write(GPA + far, data[before:])
            self.push_chain((gpa, len(data), 0, 0), ring=ring)
            self.assertEqual(self.peer.receive_data(), [frame])
            self.assert_returned(ring)
        dropped = self.drops().get('bad_chain', 0)
        for gpa, size in ((GPA + 2 * far - 10, 100), (GPA - 1, 100), (GPA + 2 * far, 64), (0, 64), (TOP - 64, 64),
                          (TOP - 1, 100), (GPA, 2**32 - 1)):
            self.push_chain((gpa, size, 0, 0), ring=ring)
            self.assert_returned(ring)
            dropped += 1
        self.assertTrue(wait_for(lambda: self.drops().get('bad_chain', 0) == dropped), self.drops())
        evil.set_mem_table(memory, [memory.regions[0], (GPA + far + PAGE, far, UVA + 0x1000_0000, 100 * PAGE)])
        self.push_chain((GPA + far - 32, 100, 0, 0), ring=ring)
        self.assert_returned(ring)
        evil.close()

    def test_ring_addresses_that_lie_outside_straddle_or_are_misaligned(self):
        """R22."""
        ring = self.evil.tx
        self.evil.stop_ring(ring)
        _, size, uva, _ = self.evil.memory.regions[0]
        good = [self.evil.memory.uva_of(part) for part in (ring.desc, ring.used, ring.avail)]
        for part in range(3):
            for address in (0, uva - PAGE, uva + size, uva + size - 16, TOP - 16, TOP - 1, good[part] + 1, good[part] + 8 + 1):
                addresses = list(good)
                addresses[part] = address
                with self.subTest(part=part, address=hex(address)), self.assertRaises(Refused):
                    self.evil.tell(SET_VRING_ADDR, struct.pack('<IIQQQQ', ring.index, 0, *addresses, 0))
        with self.assertRaises(Refused):
            self.evil.tell(SET_VRING_ADDR, struct.pack('<IIQQQQ', ring.index, 2, *good, 0))
        self.evil.start_ring(ring)
        self.assert_evil_sends()

    def test_rings_that_overlap_each_other_and_buffers_hurt_only_their_guest(self):
        ring = self.evil.tx
        memory = self.evil.memory
        for used, avail in ((ring.desc, ring.avail), (ring.avail, ring.avail), (ring.desc, ring.desc),
                            (self.evil.rx.used, ring.avail), (self.evil.pairs[0].tx_buffers, ring.avail)):
            self.evil.stop_ring(ring)
            self.evil.tell(SET_VRING_ADDR, struct.pack('<IIQQQQ', ring.index, 0, memory.uva_of(ring.desc),
                           memory.uva_of(used), memory.uva_of(avail), 0))
            self.evil.tell_state(SET_VRING_BASE, ring.index, 0)
            self.evil.tell_u64(SET_VRING_KICK, ring.index, [ring.kick])
            for idx in (1, 64, 65, 1000):
                ring.word(avail + 2).value = idx
                ring.notify()
                time.sleep(0.005)


if __name__ == '__main__':
    bed.main()
