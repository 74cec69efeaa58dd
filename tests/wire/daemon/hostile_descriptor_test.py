# SPDX-License-Identifier: BSD-3-Clause
"""A hostile front end's kick, call and error descriptors, and storms of changes (threats F9 to F12, K3, K6, X10)."""
import contextlib
import fcntl
import os
import resource
import socket
import struct
import tempfile
import time

import bed
from bed import ethernet
from hostile import EVIL, PEER, RingTest
from vhost_user import *


class Descriptors(RingTest):
    def strange_descriptors(self):
        read_end, write_end = os.pipe()
        left, right = socket.socketpair()
        right.close()
        regular = tempfile.TemporaryFile(dir=self.folder)
        semaphore = os.eventfd(5, os.EFD_SEMAPHORE | os.EFD_NONBLOCK)
        own = os.dup(self.evil.sock.fileno())
        null = os.open('/dev/null', os.O_RDWR)
        memory = os.dup(self.evil.memory.fd)
        fds = {'pipe': write_end, 'pipe to read': read_end, 'socket without peer': left.detach(), 'file': os.dup(regular.fileno()),
               'semaphore': semaphore, 'the connection itself': own, '/dev/null': null, 'guest memory': memory}
        regular.close()
        return fds

    def test_what_is_no_eventfd_is_refused(self):
        for name, fd in self.strange_descriptors().items():
            for request in (SET_VRING_KICK, SET_VRING_CALL, SET_VRING_ERR):
                with self.subTest(name, request=request), self.assertRaises(Refused):
                    self.evil.tell_u64(request, 1, [fd])
            os.close(fd)
        self.assert_evil_sends()

    def test_a_kick_descriptor_that_is_always_readable_costs_nothing(self):
        """F9."""
        full = os.eventfd(2**32 - 1)
        self.addCleanup(os.close, full)
        for ring in (self.evil.rx, self.evil.tx):
            self.evil.tell_u64(SET_VRING_KICK, ring.index, [full])
        self.assert_evil_sends()
        used = self.cpu_seconds()
        time.sleep(0.5)
        self.assertLess(self.cpu_seconds() - used, 0.25, 'the control thread is busy')

    def cpu_seconds(self):
        """Of the control thread, which is the first."""
        with open(f'/proc/{self.daemon.pid}/task/{self.daemon.pid}/stat') as file:
            fields = file.read().rsplit(')', 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf('SC_CLK_TCK')

    def test_one_descriptor_for_everything(self):
        """F12."""
        one = os.eventfd(0, os.EFD_NONBLOCK)
        self.addCleanup(os.close, one)
        for index in (0, 1):
            for request in (SET_VRING_KICK, SET_VRING_CALL, SET_VRING_ERR):
                self.evil.tell_u64(request, index, [one])
        self.assert_evil_sends()

    def test_call_descriptors_replaced_in_bursts_are_never_another_one_s(self):
        """K6: each is watched after it was replaced; nothing is ever signalled on it again."""
        ring = self.evil.tx
        old = []
        end = time.monotonic() + 3
        while time.monotonic() < end:
            event = os.eventfd(0, os.EFD_NONBLOCK)
            self.evil.tell_u64(SET_VRING_CALL, ring.index, [event])
            if old:
                try:
                    os.eventfd_read(old[-1])
                except BlockingIOError:
                    pass
            old.append(event)
            for _ in range(4):
                self.evil.queue(self.frame())
            ring.publish()
            if len(old) > 200:
                os.close(old.pop(0))
            self.evil.reclaim(self.evil.pairs[0])
            while self.peer.receive_now() is not None:
                pass
        self.evil.drain()
        while self.peer.receive(1, timeout=0.2):
            pass
        stale = 0
        for event in old[:-1]:
            try:
                stale += os.eventfd_read(event)
            except BlockingIOError:
                pass
        self.assertGreaterEqual(os.eventfd_read(old[-1]), 1)
        for event in old:
            os.close(event)
        self.assertEqual(stale, 0)


class Blocking(RingTest):
    """K3, F10: the call descriptor's counter is at its end, and O_NONBLOCK is taken away behind the daemon's back. Whoever
    does that may lose his port; nobody else may lose anything."""

    def fill_up(self, ring):
        full = os.eventfd(0)
        self.addCleanup(os.close, full)
        self.evil.tell_u64(SET_VRING_CALL, ring.index, [full])
        time.sleep(0.05)
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(full)
        os.eventfd_write(full, 2**64 - 2)
        fcntl.fcntl(full, fcntl.F_SETFL, 0)
        return full

    def assert_ended_or(self, passes):
        """All frames passed, or the hostile one was cut off and the daemon says why."""
        if not wait_for(passes, 5) and self.evil.is_closed():
            self.assertIn('call', self.daemon.port('evil')['last_error'])
        else:
            self.assertTrue(passes())
        # Control does not hang in it either.
        self.assertEqual(self.daemon.ctl('port', 'show')[0], 0)

    def test_of_a_transmit_ring(self):
        self.fill_up(self.evil.tx)
        frames = [self.frame() for _ in range(40)]
        self.evil.send(*frames)
        received = []

        def passes():
            received.extend(self.peer.receive_data(40 - len(received), timeout=0))
            return received == frames
        self.assert_ended_or(passes)

    def test_of_a_receive_ring(self):
        self.fill_up(self.evil.rx)
        self.peer.send(*[ethernet(i, source=PEER, destination=EVIL) for i in range(40)])
        self.assert_ended_or(lambda: self.evil.rx.n_used() == 40)

    def test_while_the_ring_is_stopped_and_the_descriptor_replaced(self):
        for ring in (self.evil.tx, self.evil.rx):
            full = self.fill_up(ring)
            with contextlib.suppress(Closed, Refused):
                self.evil.tell_u64(SET_VRING_CALL, ring.index, [full])
                self.evil.stop_ring(ring)
        self.assertEqual(self.daemon.ctl('port', 'show')[0], 0)


class Storms(RingTest):
    def test_rings_started_and_stopped_as_fast_as_we_can(self):
        end = time.monotonic() + 3
        while time.monotonic() < end:
            self.peer.send(ethernet(1, source=PEER, destination=EVIL))
            for ring in (self.evil.tx, self.evil.rx):
                self.evil.enable_ring(ring, False)
                self.evil.stop_ring(ring)
                self.evil.enable_ring(ring)
                self.start_anew(ring)
        self.assert_evil_sends()

    def test_resets_under_traffic(self):
        """X10."""
        for i in range(60):
            for _ in range(30):
                self.evil.queue(self.frame())
            self.evil.tx.publish()
            if i % 3 == 0:
                self.evil.tell(RESET_DEVICE)
            elif i % 3 == 1:
                self.evil.tell_u64(SET_STATUS, 0)
            else:
                self.evil.tell(RESET_OWNER)
                for ring in (self.evil.tx, self.evil.rx):
                    self.evil.stop_ring(ring)
            self.evil.tell_u64(SET_FEATURES, self.evil.features)
            for ring in (self.evil.tx, self.evil.rx):
                self.start_anew(ring)
            while self.peer.receive_now() is not None:
                pass
        while self.peer.receive(1, timeout=0.2):
            pass
        self.assert_evil_sends()

    def test_what_must_not_change_on_a_running_ring_is_refused(self):
        """X4, X5."""
        ring = self.evil.tx
        uva = self.evil.memory.uva_of
        with self.assertRaises(Refused):
            self.evil.tell_u64(SET_FEATURES, self.evil.features & ~F_MRG_RXBUF)
        with self.assertRaises(Refused):
            self.evil.tell_u64(SET_FEATURES, self.evil.features & ~F_VERSION_1)
        with self.assertRaises(Refused):
            self.evil.tell_state(SET_VRING_NUM, ring.index, 128)
        with self.assertRaises(Refused):
            self.evil.tell_state(SET_VRING_BASE, ring.index, 1000)
        with self.assertRaises(Refused):
            self.evil.tell(SET_VRING_ADDR, struct.pack('<IIQQQQ', ring.index, 0, uva(ring.desc), uva(ring.used), uva(ring.desc), 0))
        # The same again is legal, and with the log flag.
        self.evil.tell_u64(SET_FEATURES, self.evil.features)
        self.evil.tell_state(SET_VRING_NUM, ring.index, ring.size)
        self.evil.tell(SET_VRING_ADDR, struct.pack('<IIQQQQ', ring.index, 1, uva(ring.desc), uva(ring.used), uva(ring.avail), 0))
        self.assert_evil_sends()

    def test_the_daemon_out_of_descriptors_recovers(self):
        """F4: the limit is lowered under it; connections wait or end, and work again afterwards."""
        limits = resource.prlimit(self.daemon.pid, resource.RLIMIT_NOFILE)
        resource.prlimit(self.daemon.pid, resource.RLIMIT_NOFILE, (self.daemon.n_fds() + 2, limits[1]))
        try:
            self.evil.close()
            time.sleep(0.2)
            for _ in range(20):
                with contextlib.suppress(OSError, Closed, Refused):
                    front_end = FrontEnd.connect(self.path('evil.sock'), 0.3)
                    self.addCleanup(front_end.close)
                    front_end.negotiate()
                    front_end.set_mem_table(self.peer.memory, [(i * PAGE, PAGE, i * PAGE, i * PAGE) for i in range(8)])
                front_end.close()
        finally:
            resource.prlimit(self.daemon.pid, resource.RLIMIT_NOFILE, limits)
        self.daemon.wait_state('evil', 'idle', 20)


if __name__ == '__main__':
    bed.main()
