# SPDX-License-Identifier: BSD-3-Clause
"""Where frames go: learning, flooding, VLANs, cross-connects with and without loss, announcements, MTU."""
import os
import struct
import time

import bed
from bed import BROADCAST, DaemonTest, ethernet, mac
from vhost_user import *

QUIET_S = 0.15


def tagged(frame, vlan, priority=0):
    return frame[:12] + struct.pack('>HH', 0x8100, priority << 13 | vlan) + frame[12:]


class ForwardingTest(DaemonTest):
    def assert_gets(self, guest, *frames):
        """Exactly these, in this order."""
        self.assertEqual(guest.receive_data(len(frames)), list(frames))

    def assert_silent(self, *guests):
        time.sleep(QUIET_S)
        for guest in guests:
            self.assertIsNone(guest.receive_now())

    def fdb(self):
        return {(entry['vlan'], entry['mac']): entry['port'] for entry in self.daemon.call('fdb.show')['entries']}


class Learning(ForwardingTest):
    def setUp(self):
        super().setUp()
        self.start(['a', 'b', 'c'], [{'name': 'br0', 'ports': ['a', 'b', 'c']}])
        self.a, self.b, self.c = (self.guest(name) for name in 'abc')

    def test_broadcast_and_multicast_reach_all_but_the_sender(self):
        for destination in (BROADCAST, b'\x01\x00\x5e\0\0\1', b'\x33\x33\0\0\0\1'):
            frame = ethernet(1, destination=destination)
            self.a.send(frame)
            self.assert_gets(self.b, frame)
            self.assert_gets(self.c, frame)
        self.assert_silent(self.a, self.b, self.c)

    def test_an_unknown_destination_is_flooded_and_a_known_one_is_not(self):
        question = ethernet(1, source=mac(1), destination=mac(2))
        self.a.send(question)
        self.assert_gets(self.b, question)
        self.assert_gets(self.c, question)
        answer = ethernet(2, source=mac(2), destination=mac(1))
        self.b.send(answer)
        self.assert_gets(self.a, answer)
        self.a.send(question)
        self.assert_gets(self.b, question)
        self.assert_silent(self.a, self.b, self.c)
        self.assertEqual(self.fdb(), {(0, '02:00:00:00:00:01'): 'a', (0, '02:00:00:00:00:02'): 'b'})

    def test_a_station_that_moves_is_found_at_its_new_port(self):
        to_station = ethernet(9, source=mac(2), destination=mac(1))
        for home, elsewhere in ((self.a, self.c), (self.c, self.a), (self.a, self.c)):
            hello = ethernet(1, source=mac(1))
            home.send(hello)
            self.assert_gets(self.b, hello)
            self.assert_gets(elsewhere, hello)
            self.b.send(to_station)
            self.assert_gets(home, to_station)
        self.assert_silent(self.a, self.b, self.c)

    def test_group_addresses_are_never_learned(self):
        self.a.send(ethernet(1, source=b'\x03\0\0\0\0\1'))
        self.assertEqual(len(self.b.receive(1)), 1)
        self.assertEqual(self.fdb(), {})

    def test_a_frame_to_its_own_port_goes_nowhere(self):
        for guest in (self.b, self.c):
            self.a.send(ethernet(1, source=mac(1)))
            self.assertEqual(len(guest.receive(1)), 1)
        for guest in (self.b, self.c):
            self.assertEqual(len(guest.receive(1)), 1)
        self.a.send(ethernet(2, source=mac(5), destination=mac(1)))
        self.a.drain()
        self.assert_silent(self.a, self.b, self.c)
        self.assertEqual(self.daemon.counters('a')['drops'], {'no_destination': 1})

    def test_what_goes_to_a_port_that_is_down_is_counted(self):
        self.c.send(ethernet(1, source=mac(3)))
        self.assertEqual(len(self.a.receive(1)), 1)
        self.c.close()
        self.daemon.wait_state('c', 'idle')
        self.a.send(ethernet(2, destination=mac(3)))
        self.a.drain()
        self.assertEqual(self.daemon.counters('c')['drops'], {'port_down': 1})

    def test_counters_tell_frames_and_bytes(self):
        self.a.send(*[ethernet(i, size=100) for i in range(10)])
        self.assertEqual(len(self.b.receive(10)), 10)
        self.assertEqual(len(self.c.receive(10)), 10)
        self.a.drain()
        a, b = self.daemon.counters('a'), self.daemon.counters('b')
        self.assertEqual((a['rx_packets'], a['rx_bytes'], a['tx_packets']), (10, 1000, 0))
        self.assertEqual((b['tx_packets'], b['tx_bytes'], b['rx_packets']), (10, 1000, 0))

    def test_entries_are_forgotten_when_they_are_old(self):
        second = bed.Daemon(self, self.config([self.guest_port('x'), self.guest_port('y')],
                            [{'name': 'old', 'ports': ['x', 'y'], 'age_s': 1}], control='old.sock'), name='old')
        guest = self.guest('x')
        self.guest('y')
        guest.send(ethernet(1))
        self.assertTrue(wait_for(lambda: second.call('fdb.show')['entries'], 5, 0.01))
        self.assertTrue(wait_for(lambda: not second.call('fdb.show')['entries'], 10, 0.05), 'never forgotten')

    def test_the_announcement_of_a_guest_that_moved_here_reaches_the_others(self):
        """SEND_RARP: from the guest's address, which is learned by it."""
        self.b.tell(SEND_RARP, mac(0x42) + bytes(2))
        for guest in (self.a, self.c):
            frame, = guest.receive_data(1)
            self.assertEqual(frame[:14], BROADCAST + mac(0x42) + b'\x80\x35')
            self.assertEqual(frame[14:24], struct.pack('>HHBBH', 1, 0x0800, 6, 4, 3) + mac(0x42)[:2])
            self.assertEqual((frame[22:28], frame[32:38]), (mac(0x42), mac(0x42)))
            self.assertEqual(len(frame), 60)
        self.assert_silent(self.b)
        self.assertEqual(self.fdb()[0, '02:00:00:00:00:42'], 'b')

    def test_no_frame_longer_than_the_mtu_asked_for_is_delivered(self):
        self.b.tell_u64(NET_SET_MTU, 1000)
        self.assertEqual(self.daemon.port('b')['mtu'], 1000)
        fits, too_long = ethernet(1, size=1014), ethernet(2, size=1015)
        self.a.send(too_long, fits, too_long)
        self.assert_gets(self.b, fits)
        self.assert_gets(self.c, too_long, fits, too_long)
        self.assert_silent(self.b)
        self.assertEqual(self.daemon.counters('b')['drops'], {'over_mtu': 2})


class Vlans(ForwardingTest):
    def setUp(self):
        super().setUp()
        vlans = {'a10': {'access': 10}, 'b10': {'access': 10}, 'a20': {'access': 20}, 'trunk': {'trunk': [10, 20]},
                 'native': {'trunk': [20], 'native': 10}}
        self.start([self.guest_port(name, vlan=vlan) for name, vlan in vlans.items()], [{'name': 'br0', 'ports': list(vlans)}])
        for name in vlans:
            setattr(self, name, self.guest(name))

    def test_access_ports_of_one_vlan_hear_each_other_and_no_other(self):
        frame = ethernet(1)
        self.a10.send(frame)
        self.assert_gets(self.b10, frame)
        self.assert_gets(self.trunk, tagged(frame, 10))
        self.assert_gets(self.native, frame)
        self.assert_silent(self.a10, self.a20)

    def test_a_trunk_carries_tagged_frames_of_its_vlans(self):
        for vlan, access, other in ((10, self.a10, self.a20), (20, self.a20, self.a10)):
            frame = ethernet(vlan)
            self.trunk.send(tagged(frame, vlan))
            self.assert_gets(access, frame)
            self.assert_gets(self.native, frame if vlan == 10 else tagged(frame, vlan))
            if vlan == 10:
                self.assert_gets(self.b10, frame)
            self.assert_silent(other)

    def test_what_a_port_may_not_send_is_dropped_and_counted(self):
        frame = ethernet(1)
        for name, bad in (('trunk', frame), ('trunk', tagged(frame, 30)), ('a10', tagged(frame, 20)),
                          ('native', tagged(frame, 30))):
            with self.subTest(port=name, frame=bad[12:18].hex()):
                guest = getattr(self, name)
                before = self.daemon.counters(name)['drops'].get('vlan_refused', 0)
                guest.send(bad)
                guest.drain()
                self.assertEqual(self.daemon.counters(name)['drops'].get('vlan_refused', 0), before + 1)
        self.assert_silent(self.a10, self.b10, self.a20, self.trunk, self.native)

    def test_addresses_are_learned_in_each_vlan_of_its_own(self):
        self.a10.send(ethernet(1, source=mac(1)))
        self.trunk.send(tagged(ethernet(2, source=mac(1)), 20))
        self.a20.receive(1)
        self.assertEqual(self.fdb(), {(10, '02:00:00:00:00:01'): 'a10', (20, '02:00:00:00:00:01'): 'trunk'})

    def test_frames_of_all_lengths_survive_the_change_of_their_tag(self):
        for size in (60, 64, 65, 128, 129, 1514, 9000):
            frame = ethernet(size, size=size)
            self.a10.send(frame)
            self.assert_gets(self.trunk, tagged(frame, 10))
            self.trunk.send(tagged(frame, 10, priority=3))
            self.assert_gets(self.a10, frame)
            self.assert_gets(self.b10, frame, frame)

    def test_ringbench_from_an_access_port_to_a_trunk(self):
        for guest in (self.a20, self.trunk):
            guest.close()
        for name in ('a20', 'trunk'):
            self.daemon.wait_state(name, 'idle')
        self.bench('a20', 'trunk', args=['--vlan', '2:20', '--count', '20000']).check(None)


class CrossConnects(ForwardingTest):
    def test_without_loss_the_sender_is_held_back_and_the_slow_receiver_gets_every_frame(self):
        self.start(['a', 'b'], cross_connects=[{'ports': ['a', 'b'], 'lossless': True}])
        sender, receiver = self.guest('a', size=64), self.guest('b', size=16)
        sent = 0
        while sender.queue(ethernet(sent)):
            sent += 1
        sender.tx.publish()
        time.sleep(QUIET_S)
        self.assertEqual(sender.tx.used_idx, 16, 'as many as the receiver has buffers for')
        self.assert_asleep()
        received = 0
        while received < 2000:
            while sent < 2000 and sender.queue(ethernet(sent)):
                sent += 1
            sender.tx.publish()
            frames = receiver.receive_data(7 if received < 1994 else 2000 - received)
            self.assertEqual(frames, [ethernet(received + i) for i in range(len(frames))])
            self.assertNotEqual(frames, [], 'it got stuck')
            received += len(frames)
        sender.drain()
        self.assertEqual(self.daemon.counters('b')['drops'], {})

    def test_without_loss_frames_wait_for_a_receiver_that_is_away(self):
        self.start(['a', 'b'], cross_connects=[{'ports': ['a', 'b'], 'lossless': True}])
        sender = self.guest('a', size=64)
        frames = [ethernet(i) for i in range(64)]
        sender.send(*frames)
        time.sleep(QUIET_S)
        self.assertEqual(sender.tx.used_idx, 0)
        self.assert_asleep()
        self.assert_gets(self.guest('b'), *frames)

    def assert_asleep(self):
        """Frames that wait for room cost no CPU time: the room wakes the worker."""
        worker = self.daemon.call('worker.show')['workers'][0]
        self.assertEqual(worker['state'], 'asleep', worker)

    def test_with_loss_the_sender_goes_on_and_the_drops_are_counted(self):
        self.start(['a', 'b'], cross_connects=[{'ports': ['a', 'b']}])
        sender, receiver = self.guest('a', size=64), self.guest('b', size=16)
        sender.send(*[ethernet(i) for i in range(500)])
        sender.drain()
        self.assert_gets(receiver, *[ethernet(i) for i in range(16)])
        self.assertEqual(self.daemon.counters('b')['drops'], {'guest_no_buffers': 484})
        receiver.close()
        self.daemon.wait_state('b', 'idle')
        sender.send(ethernet())
        sender.drain()
        self.assertEqual(self.daemon.counters('b')['drops'], {'guest_no_buffers': 484, 'port_down': 1})

    def test_everything_passes_unseen(self):
        self.start(['a', 'b'], cross_connects=[{'ports': ['a', 'b']}])
        sender, receiver = self.guest('a'), self.guest('b')
        for frame in (ethernet(1, destination=mac(1)), tagged(ethernet(2), 5), tagged(ethernet(3), 0),
                      ethernet(4, source=BROADCAST)):
            sender.send(frame)
            self.assert_gets(receiver, frame)


class SharedQueues(ForwardingTest):
    """More workers than the receiver has queues: all send to the one it has."""
    def setUp(self):
        super().setUp()
        self.cpus = sorted(os.sched_getaffinity(0))[:2]
        if len(self.cpus) < 2:
            self.skipTest('two workers need two CPUs')

    def start_two_workers(self, names):
        self.start(names, [{'name': 'br0', 'ports': names}], workers={'cpus': ','.join(map(str, self.cpus))})

    def make_known(self, senders, receiver):
        """Every worker knows every port, and every address is learned. Workers take up ports in their own time."""
        waits_for = {mac(1), mac(2)}

        def all_known():
            receiver.send(ethernet(0, source=mac(3)))
            for number, sender in enumerate(senders):
                while sender.receive_now() is not None:
                    pass
                sender.send(ethernet(0, source=mac(1 + number), destination=mac(3)))
            while (frame := receiver.receive_now()) is not None:
                waits_for.discard(frame.data[6:12])
            return not waits_for
        self.assertTrue(wait_for(all_known, step=0.01))
        for guest in senders + [receiver]:
            guest.drain()
        while receiver.receive_now() is not None:
            pass

    def check_two_senders(self, features):
        self.start_two_workers(['a', 'b', 'c'])
        senders = [self.guest('a'), self.guest('b')]
        # Buffers so small that every third frame needs several.
        receiver = self.guest('c', features=features, buffer_bytes=256)
        workers = {ring['worker'] for name in 'ab' for ring in self.daemon.port(name)['rings'] if ring['worker'] >= 0}
        self.assertEqual(workers, {0, 1})
        self.make_known(senders, receiver)
        drops = self.daemon.counters('c')['drops']
        for round_number in range(60):
            sent = [[ethernet(40 * round_number + i, source=mac(1 + number), destination=mac(3),
                              size=(60, 61, 700)[i % 3]) for i in range(40)]
                    for number in range(len(senders))]
            for start in range(0, 40, 10):
                for sender, frames in zip(senders, sent):
                    for frame in frames[start:start + 10]:
                        self.assertTrue(sender.queue(frame))
                for sender in senders:
                    sender.tx.publish()
            frames = receiver.receive_data(80)
            self.assertEqual(len(frames), 80)
            for number in range(len(senders)):
                self.assertEqual([frame for frame in frames if frame[6:12] == mac(1 + number)], sent[number])
        self.assertEqual(self.daemon.counters('c')['drops'], drops)

    def test_frames_of_two_senders_arrive_once_whole_and_in_each_ones_order(self):
        self.check_two_senders(DEFAULT_FEATURES)

    def test_the_same_with_a_packed_ring(self):
        self.check_two_senders(DEFAULT_FEATURES | F_PACKED)

    def test_a_load_passes_whole_with_calls_and_without(self):
        self.start_two_workers(['a', 'b'])
        for features in ('-mrg_rxbuf', '+packed'):
            for sleep in (False, True):
                bench = self.bench('a', 'b', duration=1, sleep=sleep, args=[
                    '--size', 'imix', '--verify', 'all', '--features', features])
                result = bench.check(signal_number=None)
                self.assertGreater(result['total']['received'], 1000)


if __name__ == '__main__':
    bed.main()
