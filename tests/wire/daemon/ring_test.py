# SPDX-License-Identifier: BSD-3-Clause
"""What the rings of a good guest may rely on: when they are served, when they are not, and that stopping loses nothing."""
import os
import random
import shutil
import struct
import subprocess
import time
import zlib

import bed
from bed import DaemonTest, ethernet
from vhost_user import *

# Long enough for a worker's next rounds, short enough to be tried often.
QUIET_S = 0.1


class RingTest(DaemonTest):
    """Two ports, each what the other one sends to, nothing lost between them."""

    def setUp(self):
        super().setUp()
        self.start(['a', 'b'], cross_connects=[{'ports': ['a', 'b'], 'lossless': True}])

    def bare(self, name, size=64):
        """A negotiated guest with memory and one pair of rings, of which the back end knows nothing."""
        guest = Guest.connect(self.path(f'{name}.sock'))
        self.addCleanup(guest.close)
        guest.negotiate()
        guest.memory = Memory(4 << 20)
        guest.set_mem_table(guest.memory)
        guest.pairs = [Pair(guest.memory, 0, size, 2048)]
        guest.post_all(guest.pairs[0])
        return guest

    def digest(self, ring):
        """Of all three parts of a ring."""
        memory = ring.memory
        return zlib.crc32(memory.read(ring.desc, 16 * ring.size) + memory.read(ring.avail, 6 + 2 * ring.size) +
                          memory.read(ring.used, 6 + 8 * ring.size))


class Starting(RingTest):
    def test_nothing_happens_before_the_rings_are_started(self):
        """D1: buffers are there, the status says more and more, and nobody touches them."""
        guest, peer = self.bare('a'), self.guest('b')
        for _ in range(10):
            guest.queue(ethernet())
        guest.tx.publish()
        peer.send(*[ethernet(i) for i in range(10)])
        for ring in (guest.rx, guest.tx):
            guest.tell_u64(SET_VRING_CALL, ring.index, [ring.call])
        for status in (1, 3, 11, 15):
            guest.tell_u64(SET_STATUS, status)
            time.sleep(QUIET_S / 4)
        for ring in (guest.rx, guest.tx):
            self.assertEqual((ring.used_idx, ring.n_calls()), (0, 0))
        self.assertEqual(peer.receive(1, timeout=0), [])
        for ring in (guest.tx, guest.rx):
            guest.enable_ring(ring)
            guest.start_ring(ring)
        self.assertEqual(len(peer.receive(10)), 10)
        self.assertEqual(len(guest.receive(10)), 10)

    def test_a_ring_filled_before_kick_and_enable_starts_by_itself(self):
        """K4: the kick came too early and is not repeated. A transmit ring that is started and not enabled is emptied, so that
        one is enabled first; a receive ring waits."""
        for enable_first in (False, True):
            guest, peer = self.bare('a'), self.guest('b')
            frames = [ethernet(i) for i in range(20)]
            for frame in frames:
                guest.queue(frame)
            guest.tx.publish()
            os.eventfd_write(guest.tx.kick, 1)
            guest.enable_ring(guest.tx)
            guest.start_ring(guest.tx, enable=False)
            self.assertEqual(peer.receive_data(20), frames)
            peer.send(*frames)
            if enable_first:
                guest.enable_ring(guest.rx)
            guest.start_ring(guest.rx, enable=not enable_first)
            self.assertEqual(guest.receive_data(20), frames)
            for one in (guest, peer):
                one.close()
            for name in 'ab':
                self.daemon.wait_state(name, 'idle')

    def test_the_order_of_set_up_does_not_matter(self):
        """M11, by chance: every message of both rings in any order; served when all are there, not before."""
        rng = random.Random(1)
        peer = self.guest('b')
        for round_number in range(12):
            guest = self.bare('a')
            uva = guest.memory.uva_of
            steps = []
            for ring in (guest.rx, guest.tx):
                addr = struct.pack('<IIQQQQ', ring.index, 0, uva(ring.desc), uva(ring.used), uva(ring.avail), 0)
                steps += [
                    lambda ring=ring: guest.tell_state(SET_VRING_NUM, ring.index, ring.size),
                    lambda ring=ring: guest.tell_state(SET_VRING_BASE, ring.index, 0),
                    lambda addr=addr: guest.tell(SET_VRING_ADDR, addr),
                    lambda ring=ring: guest.tell_u64(SET_VRING_CALL, ring.index, [ring.call]),
                    lambda ring=ring: guest.tell_u64(SET_VRING_KICK, ring.index, [ring.kick]),
                    lambda ring=ring: guest.enable_ring(ring),
                ]
            steps.append(lambda: guest.set_mem_table(guest.memory))
            rng.shuffle(steps)
            guest.set_mem_table(guest.memory, [])
            for step in steps:
                step()
            with self.subTest(round=round_number):
                guest.send(ethernet(round_number))
                self.assertEqual(peer.receive_data(), [ethernet(round_number)])
                peer.send(ethernet(round_number))
                self.assertEqual(guest.receive_data(), [ethernet(round_number)])
            guest.close()
            self.daemon.wait_state('a', 'idle')

    def test_a_kick_without_a_descriptor_starts_a_ring_too(self):
        guest, peer = self.bare('a'), self.guest('b')
        for ring in (guest.rx, guest.tx):
            guest.start_ring(ring)
            guest.stop_ring(ring)
            guest.tell_u64(SET_VRING_KICK, ring.index | NO_FD)
        guest.send(ethernet())
        self.assertEqual(peer.receive_data(), [ethernet()])

    def test_without_the_protocol_feature_all_rings_are_enabled(self):
        guest = Guest.connect(self.path('a.sock'))
        self.addCleanup(guest.close)
        guest.negotiate(features=F_VERSION_1 | F_MRG_RXBUF)
        guest.memory = Memory(4 << 20)
        guest.set_mem_table(guest.memory)
        guest.pairs = [Pair(guest.memory, 0, 64, 2048)]
        guest.post_all(guest.pairs[0])
        for ring in (guest.rx, guest.tx):
            guest.start_ring(ring, enable=False)
        peer = self.guest('b')
        guest.send(ethernet(1))
        self.assertEqual(peer.receive_data(), [ethernet(1)])
        peer.send(ethernet(2))
        self.assertEqual(guest.receive_data(), [ethernet(2)])

    def test_only_a_receive_or_only_a_transmit_ring_or_only_the_last_pair(self):
        """X3."""
        peer = self.guest('b')
        guest = self.bare('a')
        guest.start_ring(guest.tx)
        guest.send(ethernet(1))
        self.assertEqual(peer.receive_data(), [ethernet(1)])
        guest.stop_ring(guest.tx)
        guest.start_ring(guest.rx)
        peer.send(ethernet(2))
        self.assertEqual(guest.receive_data(), [ethernet(2)])
        guest.close()
        self.daemon.wait_state('a', 'idle')
        guest = self.bare('a')
        last = guest.ask_u64(GET_QUEUE_NUM) - 1
        guest.pairs[0].rx.index, guest.pairs[0].tx.index = 2 * last, 2 * last + 1
        for ring in (guest.rx, guest.tx):
            guest.start_ring(ring)
        guest.send(ethernet(3))
        self.assertEqual(peer.receive_data(), [ethernet(3)])
        peer.send(ethernet(4))
        self.assertEqual(guest.receive_data(), [ethernet(4)])


class Stopping(RingTest):
    def test_after_the_answer_nothing_is_touched_and_nobody_called(self):
        """D69, D7: also in the middle of a stream, and after a reset."""
        guest, peer = self.guest('a', size=64), self.guest('b', size=64)
        stops = {
            'GET_VRING_BASE': lambda ring: guest.stop_ring(ring),
            'SET_STATUS 0': lambda ring: guest.tell_u64(SET_STATUS, 0),
            'RESET_DEVICE': lambda ring: guest.tell(RESET_DEVICE),
        }
        for name, stop in stops.items():
            for which in ('rx', 'tx'):
                ring = getattr(guest, which)
                peer.send(*[ethernet(i) for i in range(40)])
                while guest.queue(ethernet()):
                    pass
                guest.tx.publish()
                stop(ring)
                ring.n_calls()
                before = self.digest(ring), ring.memory.read(guest.pairs[0].rx_buffers, 64 * 2048)
                # More work for it, which it must not see.
                if ring is guest.tx:
                    ring.word(ring.avail + 2).value += 1
                    ring.notify()
                    before = self.digest(ring), before[1]
                time.sleep(QUIET_S)
                with self.subTest(stop=name, ring=which):
                    self.assertEqual(self.digest(ring), before[0])
                    if ring is guest.rx:
                        self.assertEqual(ring.memory.read(guest.pairs[0].rx_buffers, 64 * 2048), before[1])
                    self.assertEqual(ring.n_calls(), 0)
                guest.close()
                self.daemon.wait_state('a', 'idle')
                peer.close()
                self.daemon.wait_state('b', 'idle')
                guest, peer = self.guest('a', size=64), self.guest('b', size=64)

    def test_the_base_is_asked_for_in_any_state(self):
        """X2, X13."""
        guest = self.bare('a')
        for ring in (guest.rx, guest.tx):
            self.assertEqual(guest.stop_ring(ring), 0)
        guest.tell_state(SET_VRING_BASE, 1, 77)
        self.assertEqual(guest.stop_ring(guest.tx), 77)
        guest.tell_state(SET_VRING_BASE, 1, 0)
        for ring in (guest.rx, guest.tx):
            guest.start_ring(ring)
        peer = self.guest('b')
        guest.send(*[ethernet(i) for i in range(10)])
        guest.drain()
        self.assertEqual([guest.stop_ring(guest.tx), guest.stop_ring(guest.tx)], [10, 10])
        # Begun again where it stopped, with nothing told anew but the kick.
        guest.tell_u64(SET_VRING_KICK, 1, [guest.tx.kick])
        guest.send(ethernet(10))
        self.assertEqual(peer.receive_data(11), [ethernet(i) for i in range(11)])

    def test_200_stops_and_starts_under_load_lose_and_double_nothing(self):
        """X1: both rings of the one guest, while both send all the time."""
        guest, peer = self.guest('a', size=64), self.guest('b', size=64)
        sent = {guest: 0, peer: 0}
        received = {guest: 0, peer: 0}

        def traffic():
            for one in (guest, peer):
                for _ in range(8):
                    if not one.queue(ethernet(sent[one])):
                        break
                    sent[one] += 1
                one.tx.publish()
            collect()

        def collect():
            for one in (guest, peer):
                while (frame := one.receive_now()) is not None:
                    self.assertEqual(frame.data, ethernet(received[one]), 'lost, doubled or out of order')
                    received[one] += 1
        for _ in range(200):
            for ring in (guest.rx, guest.tx):
                traffic()
                base = guest.stop_ring(ring)
                self.assertEqual(base, ring.used_idx, 'a buffer was taken and not returned')
                traffic()
                guest.start_ring(ring, base=base)
            traffic()
        wait_for(lambda: collect() or (received[peer], received[guest]) == (sent[guest], sent[peer]))
        self.assertEqual((received[peer], received[guest]), (sent[guest], sent[peer]))
        self.assertGreater(sent[guest], 500)

    def test_indices_that_wrap(self):
        """Q1, with rings so small that they wrap at once; base in the last numbers before 0."""
        peer = self.guest('b')
        for size in (2, 4, 16):
            guest = self.bare('a', size=size)
            for ring in (guest.rx, guest.tx):
                n_posted = ring.avail_idx
                ring.avail_idx = ring.last_used = 65530
                ring.word(ring.avail + 2).value = ring.word(ring.used + 2).value = 65530
                if n_posted:
                    guest.post_all(guest.pairs[0])
                guest.start_ring(ring, base=65530)
            for i in range(20):
                guest.send(ethernet(i))
                self.assertEqual(peer.receive_data(), [ethernet(i)])
                peer.send(ethernet(i))
                self.assertEqual(guest.receive_data(), [ethernet(i)])
            guest.close()
            self.daemon.wait_state('a', 'idle')


class Calls(RingTest):
    def test_used_buffers_are_called_for_and_not_when_the_driver_says_so(self):
        guest, peer = self.guest('a'), self.guest('b')
        time.sleep(QUIET_S)
        for ring in (guest.rx, guest.tx):
            ring.n_calls()
        guest.send(ethernet())
        self.assertTrue(wait_for(guest.tx.n_calls))
        peer.send(ethernet())
        self.assertTrue(wait_for(guest.rx.n_calls))
        for ring in (guest.rx, guest.tx):
            ring.word(ring.avail).value = 1  # VRING_AVAIL_F_NO_INTERRUPT
        guest.send(ethernet())
        peer.send(ethernet())
        guest.drain()
        self.assertEqual(len(guest.receive(2)), 2)
        time.sleep(QUIET_S)
        self.assertEqual((guest.tx.n_calls(), guest.rx.n_calls()), (0, 0))

    def test_with_event_index_the_call_comes_at_the_entry_asked_for(self):
        """K5."""
        guest = self.guest('a', features=DEFAULT_FEATURES | F_EVENT_IDX, size=64)
        self.guest('b')
        ring = guest.tx
        used_event = ring.word(ring.avail + 4 + 2 * ring.size)

        def send_one():
            guest.send(ethernet())
            guest.drain()
        send_one()
        for _ in range(3):
            used_event.value = (ring.used_idx + 4) & 0xffff
            time.sleep(QUIET_S / 2)
            ring.n_calls()
            for _ in range(4):
                send_one()
            time.sleep(QUIET_S / 2)
            self.assertEqual(ring.n_calls(), 0, 'called too early')
            send_one()
            self.assertEqual(wait_for(ring.n_calls), 1)

    def test_a_call_descriptor_replaced_on_a_running_ring_is_told_of_what_is_there(self):
        guest, peer = self.guest('a'), self.guest('b')
        peer.send(ethernet())
        self.assertTrue(wait_for(guest.rx.n_used))
        guest.rx.n_calls()
        new = os.eventfd(0, os.EFD_NONBLOCK)
        self.addCleanup(os.close, new)
        guest.tell_u64(SET_VRING_CALL, 0, [new])
        self.assertGreaterEqual(os.eventfd_read(new), 1)
        self.assertEqual(guest.rx.n_calls(), 0)
        guest.tell_u64(SET_VRING_CALL, 0 | NO_FD)
        peer.send(ethernet())
        self.assertEqual(len(guest.receive(2)), 2)
        with self.assertRaises(BlockingIOError):
            os.eventfd_read(new)


class Queues(RingTest):
    def test_a_disabled_ring_receives_nothing_and_what_it_sends_is_dropped(self):
        guest, peer = self.guest('a'), self.guest('b')
        guest.enable_ring(guest.tx, False)
        guest.send(*[ethernet(i) for i in range(30)])
        guest.drain()
        self.assertEqual(self.daemon.counters('a')['drops'], {'queue_disabled': 30})
        self.assertEqual(peer.receive(1, timeout=QUIET_S), [])
        guest.enable_ring(guest.tx)
        guest.enable_ring(guest.rx, False)
        peer.send(*[ethernet(i) for i in range(30)])
        self.assertEqual(guest.receive(1, timeout=QUIET_S), [])
        # Between lossless ends they have waited.
        guest.enable_ring(guest.rx)
        self.assertEqual(guest.receive_data(30), [ethernet(i) for i in range(30)])

    def test_four_pairs_that_are_enabled_and_disabled_as_a_guest_does(self):
        guest, peer = self.guest('a', pairs=4, size=64), self.guest('b', pairs=4, size=64)
        self.assertEqual(guest.ask_u64(GET_QUEUE_NUM), 16)
        for n_enabled in (1, 4, 2, 3, 1, 4):
            for number, pair in enumerate(peer.pairs):
                for ring in (pair.rx, pair.tx):
                    peer.enable_ring(ring, number < n_enabled)
            frames = []
            for number, pair in enumerate(guest.pairs):
                for i in range(10):
                    frames.append(ethernet(1000 * number + i))
                    guest.send(frames[-1], pair=pair)
            got = []

            def collect():
                for number, pair in enumerate(peer.pairs):
                    while (frame := peer.receive_now(pair)) is not None:
                        self.assertLess(number, n_enabled, 'received on a disabled queue')
                        got.append(frame.data)
                return len(got) >= len(frames)
            wait_for(collect)
            self.assertEqual(sorted(got), sorted(frames))

    def test_sixteen_pairs_and_not_one_more(self):
        guest = self.guest('a', pairs=16, size=16)
        peer = self.guest('b', pairs=16, size=16)
        for number, pair in enumerate(guest.pairs):
            guest.send(ethernet(number), pair=pair)
        got = []

        def collect():
            for pair in peer.pairs:
                while (frame := peer.receive_now(pair)) is not None:
                    got.append(frame.data)
            return len(got) == 16
        wait_for(collect)
        self.assertEqual(sorted(got), [ethernet(number) for number in range(16)])

    def test_a_port_with_two_queues_says_so(self):
        self.daemon.call('port.add', **self.guest_port('c', queues=2))
        guest = self.guest('c', pairs=2, size=16)
        self.assertEqual(guest.ask_u64(GET_QUEUE_NUM), 2)
        with self.assertRaises(Refused):
            guest.tell_state(SET_VRING_NUM, 4, 16)

    def test_ringbench_with_four_queues_loses_nothing(self):
        self.bench('a', 'b', args=['--queues', '4', '--count', '50000']).check(None)


class Packed(RingTest):
    """The same promises for a packed ring, and its own (virtio 2.8)."""

    def assert_passes_frames(self, one, other, n=40):
        for sender, receiver in ((one, other), (other, one)):
            frames = [ethernet(i, size=60 + i) for i in range(n)]
            sender.send(*frames)
            self.assertEqual(receiver.receive_data(n), frames)
            sender.drain()

    def test_frames_pass_with_any_size_and_any_features(self):
        """P4: chains that cross the end of rings whose size is no power of two; beside a split ring at the other port."""
        peer = self.guest('b', size=64)
        more = (0, F_IN_ORDER, F_EVENT_IDX, F_INDIRECT | F_IN_ORDER | F_EVENT_IDX)
        for number, size in enumerate((1, 2, 3, 7, 255, 256, 257)):
            features = DEFAULT_FEATURES | F_PACKED | more[number % len(more)]
            guest = self.guest('a', features=features, size=size, buffer_bytes=100 if size > 7 else 2048)
            with self.subTest(size=size, features=hex(features)):
                self.assertEqual(guest.features, features, 'not offered')
                self.assert_passes_frames(guest, peer)
                if size > 7:
                    big = [ethernet(i, size=300 + i) for i in range(80)]
                    for sender, receiver in ((guest, peer), (peer, guest)):
                        sender.send(*big)
                        self.assertEqual(receiver.receive_data(80), big)
            guest.close()
            self.daemon.wait_state('a', 'idle')

    def test_both_ends_packed(self):
        features = DEFAULT_FEATURES | F_PACKED | F_IN_ORDER
        guest, peer = self.guest('a', features=features, size=48), self.guest('b', features=features, size=37)
        for _ in range(20):
            self.assert_passes_frames(guest, peer, 30)

    def test_100_stops_and_starts_under_load_lose_and_double_nothing(self):
        """X1: the place where a ring stopped is where it goes on, told in full, told in 16 bits as DPDK does, or not at all."""
        features = DEFAULT_FEATURES | F_PACKED
        guest, peer = self.guest('a', features=features, size=51), self.guest('b', size=64)
        sent = {guest: 0, peer: 0}
        received = {guest: 0, peer: 0}

        def collect():
            for one in (guest, peer):
                while (frame := one.receive_now()) is not None:
                    self.assertEqual(frame.data, ethernet(received[one]), 'lost, doubled or out of order')
                    received[one] += 1

        def traffic():
            for one in (guest, peer):
                for _ in range(8):
                    if not one.queue(ethernet(sent[one])):
                        break
                    sent[one] += 1
                one.tx.publish()
            collect()
        for number in range(100):
            for ring in (guest.rx, guest.tx):
                traffic()
                base = guest.stop_ring(ring)
                self.assertEqual(base & 0xffff, base >> 16, 'something is in flight')
                collect()
                guest.reclaim(guest.pairs[0])
                self.assertEqual(base, ring.base, 'a buffer was taken and not returned')
                traffic()
                if number % 3 == 2:
                    guest.tell_u64(SET_VRING_KICK, ring.index, [ring.kick])
                else:
                    guest.start_ring(ring, base=base if number % 3 == 0 else base & 0xffff)
            traffic()
        wait_for(lambda: collect() or (received[peer], received[guest]) == (sent[guest], sent[peer]))
        self.assertEqual((received[peer], received[guest]), (sent[guest], sent[peer]))
        self.assertGreater(sent[guest], 300)

    def test_a_stopped_ring_is_not_touched(self):
        """D69."""
        guest, peer = self.guest('a', features=DEFAULT_FEATURES | F_PACKED, size=64), self.guest('b', size=64)
        for ring in (guest.rx, guest.tx):
            peer.send(*[ethernet(i) for i in range(20)])
            guest.stop_ring(ring)
            ring.n_calls()
            before = ring.memory.read(ring.desc, 16 * 64), ring.memory.read(ring.used, 4)
            if ring is guest.tx:
                while guest.queue(ethernet()):
                    pass
                guest.tx.publish()
                before = ring.memory.read(ring.desc, 16 * 64), before[1]
            time.sleep(QUIET_S)
            self.assertEqual((ring.memory.read(ring.desc, 16 * 64), ring.memory.read(ring.used, 4)), before)
            self.assertEqual(ring.n_calls(), 0)

    def test_calls_come_as_the_event_structure_wants_them(self):
        """D66."""
        guest = self.guest('a', features=DEFAULT_FEATURES | F_PACKED | F_EVENT_IDX, size=10)
        self.guest('b')
        ring = guest.tx

        def calls_after_one():
            guest.send(ethernet())
            guest.drain()
            time.sleep(QUIET_S / 4)
            return ring.n_calls()
        calls_after_one()
        for round_number in range(12):
            ring.want_calls(EVENT_DISABLE)
            self.assertEqual(calls_after_one(), 0)
            ring.want_calls(EVENT_ENABLE)
            self.assertEqual(calls_after_one(), 1)
            ring.want_calls(3)
            self.assertEqual(calls_after_one(), 1)
            ring.want_calls(EVENT_DESC, ring.advance(ring.used_place, 2))
            self.assertEqual([calls_after_one() for _ in range(4)], [0, 0, 1, 0], f'round {round_number}')

    def test_a_polling_back_end_wants_no_kicks(self):
        """D66, for the device's own structure."""
        self.daemon.call('worker.mode', mode='poll')
        for more in (0, F_EVENT_IDX):
            guest = self.guest('a', features=DEFAULT_FEATURES | F_PACKED | more, size=5)
            for ring in (guest.rx, guest.tx):
                self.assertTrue(wait_for(lambda: struct.unpack('<HH', ring.memory.read(ring.used, 4))[1] == EVENT_DISABLE))
            guest.close()
            self.daemon.wait_state('a', 'idle')

    def test_dpdk_drivers_pass_frames(self):
        """virtio_user of an installed DPDK, which sends 16 bits of base; its frames circulate between two ports."""
        if shutil.which('dpdk-testpmd') is None:
            self.skipTest('dpdk-testpmd is not installed')
        cpu = min(os.sched_getaffinity(0))
        for mix in ('mrg_rxbuf=1,in_order=0', 'mrg_rxbuf=0,in_order=1'):
            vdevs = [word for number, name in enumerate('ab') for word in (
                '--vdev', f'net_virtio_user{number},path={self.path(name)}.sock,queue_size=256,packed_vq=1,{mix}')]
            with open(self.path('testpmd.log'), 'wb') as log:
                testpmd = subprocess.Popen(
                    ['dpdk-testpmd', '--lcores', f'0@{cpu},1@{cpu}', '--no-pci', '--no-telemetry', '--no-huge', '--no-shconf',
                     '-m', '128', '--file-prefix', os.path.basename(self.folder), *vdevs, '--', '--no-mlockall', '--rxd=256', '--txd=256',
                     '--total-num-mbufs=2048', '--auto-start', '--tx-first'],
                    stdin=subprocess.PIPE, stdout=log, stderr=log)
            self.addCleanup(bed.end, testpmd)
            with self.subTest(mix):
                for name in 'ab':
                    before = self.daemon.counters(name)['rx_packets']
                    # Many times the 32 there are, and more than two laps of the ring.
                    if not wait_for(lambda: self.daemon.counters(name)['rx_packets'] > before + 600, 60, 0.05):
                        with open(self.path('testpmd.log'), encoding='utf-8') as log:
                            self.fail(f'{name} gets no frames; testpmd said:\n{log.read()}')
                self.assertIn('RING_PACKED', self.daemon.port('a')['features'])
            testpmd.communicate(b'\n', 30)
            for name in 'ab':
                self.daemon.wait_state(name, 'idle')


if __name__ == '__main__':
    bed.main()
