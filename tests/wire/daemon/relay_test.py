# SPDX-License-Identifier: BSD-3-Clause
"""Relay ports: a guest on one side, another device on the other. The device is a second Ringway, DPDK's testpmd, or one of our own
(vhost_device.py) that dies, falls silent or lies."""
import fcntl
import os
import random
import re
import shutil
import socket
import struct
import subprocess
import time

import bed
import migration_test
from bed import Bench, Daemon, DaemonTest, ethernet, mac
from migration_test import F_LOG_ALL, Log, MigratingGuest, expected
from vhost_device import Device
from vhost_user import (ADD_MEM_REG, DEFAULT_FEATURES, DEFAULT_PROTOCOL, F_EVENT_IDX, F_INDIRECT, F_IN_ORDER, F_MRG_RXBUF, F_PACKED,
                        F_PROTOCOL, F_VERSION_1, GET_MAX_MEM_SLOTS, GET_STATUS, P_MEM_SLOTS, REM_MEM_REG, RESET_DEVICE, SET_FEATURES,
                        SET_LOG_BASE, Guest, Memory, wait_for)

MODES = ('pass-through', 'shadow', 'auto')
# The state of a port whose rings run, when nobody asks for a dirty log.
RUNNING = {'pass-through': 'pass-through', 'shadow': 'shadow', 'auto': 'pass-through'}


class RelayTest(DaemonTest):
    """The daemon with relay ports, and what their devices are."""

    def relay_port(self, name, device, relay='auto', queues=1, **more):
        return {'name': name, 'type': 'relay', 'socket': self.path(f'{name}.sock'), 'role': 'listen', 'queues': queues,
                'device': self.path(f'{device}.sock'), 'relay': relay, **more}

    def start_device(self, ports=('d0', 'd1'), lossless=False, bridged=False):
        """A second daemon."""
        config = self.config(
            [self.guest_port(port) for port in ports],
            bridges=[{'name': 'br0', 'ports': list(ports)}] if bridged else [],
            cross_connects=[] if bridged else [{'ports': list(ports), 'lossless': lossless}], control='device.control')
        self.device = Daemon(self, config, name='device')
        return self.device

    def start_relays(self, relay, queues=1, more=(), **options):
        self.start([self.relay_port(f'r{i}', f'd{i}', relay, queues) for i in range(2)] + list(more), **options)
        for name in ('r0', 'r1'):
            self.daemon.wait_state(name, 'idle')

    def play_device(self, name, **options):
        """A device of our own."""
        device = Device(self.path(f'{name}.sock'), **options)
        self.addCleanup(device.close)
        return device

    def assert_echoes(self, device, guest, n=20, pair=0):
        frames = [ethernet(i) for i in range(n)]
        guest.send(*frames, pair=guest.pairs[pair])
        self.assertTrue(wait_for(lambda: device.echo(pair) or guest.pairs[pair].rx.n_used() >= n, 5))
        self.assertEqual(guest.receive_data(n, pair=guest.pairs[pair]), frames)

    def lines(self, word):
        return [line for line in self.daemon.log().splitlines() if word in line]


class Frames(RelayTest):
    """ringbench's guests, with every byte compared: nothing is lost, doubled or reordered."""

    # Windows leave room for buffers that one guest has posted again and we have not seen yet when the other one sends.
    WAYS = [
        ['--window', '96'],
        ['--features', '+event_idx', '--sleep', '--size', 'imix', '--window', '96'],
        ['--features', '-mrg_rxbuf,-in_order', '--size', '1518', '--window', '96'],
        ['--size', '1400', '--segment', '300', '--rx-buffer', '400', '--window', '40'],
        ['--size', '1400', '--segment', '300', '--features', '-indirect,-in_order,+event_idx', '--ring', '1024', '--window', '600'],
        ['--size', '9000', '--rx-buffer', '600', '--regions', '5', '--window', '8', '--count', '3000'],
        ['--features', '+csum,+tso', '--size', '30000', '--window', '8', '--count', '2000'],
        ['--ring', '16', '--size', '128', '--window', '8', '--count', '3000'],
    ]

    def check(self, relay, ways, queues=1):
        # The device waits for buffers: how soon they come back is the machine's, and not what is looked at.
        self.start_device(lossless=True)
        self.start_relays(relay, queues)
        before = self.daemon.resources()
        for way in ways:
            with self.subTest(way=way):
                bench = self.bench('r0', 'r1', window=0, sleep=False,
                                   args=['--verify', 'all', *([] if '--count' in way else ['--count', '10000']), *way])
                result = bench.check(None)
                # The ports' own features came through.
                for port in result['conditions']['sockets']:
                    for word in re.findall(r'\+(\w+)', ' '.join(way).replace('csum', 'host_csum').replace('tso', 'host_tso4')):
                        self.assertIn(word, port['features'].split(','))
                sent = sum(direction['sent'] for direction in result['directions'])
                for name in ('r0', 'r1'):
                    self.daemon.wait_state(name, 'idle')
                moved = self.daemon.counters('r0')['rx_packets'] + self.daemon.counters('r1')['rx_packets']
                if RUNNING[relay] == 'pass-through':
                    self.assertEqual(moved, 0, 'frames came by here')
                else:
                    self.assertGreaterEqual(moved - getattr(self, 'moved', 0), sent)
                self.moved = moved
        # What was made for rings of ours stays: descriptor, not mapping of a guest.
        after = self.daemon.resources()
        self.assertLessEqual(after['fds'], before['fds'] + 2)

    def test_pass_through(self):
        self.check('pass-through', self.WAYS + [['--features', '+packed'],
                                                ['--features', '+packed', '--ring', '100', '--size', 'imix']])

    def test_shadow(self):
        self.check('shadow', self.WAYS)

    def test_queue_pairs(self):
        for relay in ('pass-through', 'shadow'):
            with self.subTest(relay=relay):
                self.check(relay, [['--queues', '4', '--flows', '16', '--size', 'imix', '--window', '400']], queues=4)
                self.daemon.stop()
                self.device.stop()
                self.moved = 0
        self.daemon_ends = True

    def test_a_log_all_the_time(self):
        self.check_log('auto')

    def test_a_log_all_the_time_in_shadow_mode(self):
        self.check_log('shadow')

    def check_log(self, relay):
        self.start_device()
        self.start_relays(relay)
        result = self.bench('r0', 'r1', window=0, sleep=False, args=['--verify', 'all', '--window', '96', '--count', '20000', '--log']).check(None)
        self.assertGreater(result['conditions']['pages_logged'], 0)

    def test_idle_guests_let_the_worker_sleep_and_kicks_wake_it(self):
        self.start_device()
        self.start_relays('shadow')
        idle = self.bench('r0', 'r1', window=0, args=['--idle'])
        for name in ('r0', 'r1'):
            self.daemon.wait_state(name, 'shadow')

        def worker():
            return self.daemon.call('worker.show')['workers'][0]
        self.assertTrue(wait_for(lambda: worker()['state'] == 'asleep', 10, 0.02), worker())
        time.sleep(0.2)
        before, start = worker(), time.monotonic()
        time.sleep(0.5)
        after = worker()
        # Questions of ours may wake it; frames do not.
        self.assertLess(after['rounds'] - before['rounds'], 2000, (before, after))
        self.assertLess(time.monotonic() - start, 5)
        idle.finish()
        for name in ('r0', 'r1'):
            self.daemon.wait_state(name, 'idle')
        result = self.bench('r0', 'r1', window=0, args=['--bursts', '200', '--pause-us', '2000', '--verify', 'all']).check(None)
        self.assertGreater(sum(port['kicks'] for port in result['ports']), 0)
        result = self.bench('r0', 'r1', window=0, args=['--bursts', '200', '--pause-us', '2000', '--features', '+event_idx']).check(None)
        self.assertGreater(sum(port['kicks'] for port in result['ports']), 0)

    def test_testpmd_is_the_device(self):
        if shutil.which('dpdk-testpmd') is None:
            self.skipTest('dpdk-testpmd is not installed')
        cpu = min(os.sched_getaffinity(0))
        vdevs = [word for i in range(2) for word in ('--vdev', f'net_vhost{i},iface={self.path(f"d{i}.sock")},queues=1,client=0')]
        with open(self.path('testpmd.log'), 'wb') as log:
            testpmd = bed.spawn(
                ['dpdk-testpmd', '--lcores', f'0@{cpu},1@{cpu}', '--no-pci', '--no-telemetry', '--no-huge', '--no-shconf', '-m', '128',
                 '--file-prefix', os.path.basename(self.folder), *vdevs, '--', '--no-mlockall', '--total-num-mbufs=4096',
                 '--no-flush-rx', '--auto-start', '--stats-period', '3600'], stdout=log, stderr=log)
        self.addCleanup(bed.end, testpmd)
        for relay in ('pass-through', 'shadow', 'auto'):
            with self.subTest(relay=relay):
                self.start_relays(relay)
                for way in (['--size', 'imix', '--features', '-in_order,+event_idx', '--segment', '300'],
                            *([['--log']] if relay != 'pass-through' else [['--features', '+packed']])):
                    with self.subTest(way=way):
                        self.bench('r0', 'r1', window=0, sleep=False, args=['--verify', 'all', '--window', '96', '--count', '10000', *way]).check(None)
                self.daemon.stop()
        self.daemon_ends = True


class Switches(migration_test.MigrationTest):
    """A guest that is migrated has its rings switched over while they run. Frames pass from and to it; peers are the other
    guests of the device."""

    relay = 'auto'

    def begin(self, features, seed, buffer_bytes=None, pieces=(1, 1, 2, 8), lossless=False):
        self.rng = random.Random(seed)
        names = ['d', 'b'] if lossless else ['d', 'b', 'c']
        self.device = Daemon(self, self.config(
            [self.guest_port(name) for name in names], bridges=[] if lossless else [{'name': 'br0', 'ports': names}],
            cross_connects=[{'ports': names, 'lossless': True}] if lossless else [], control='device.control'), name='device')
        self.start([{'name': 'a', 'type': 'relay', 'socket': self.path('a.sock'), 'role': 'listen', 'queues': 1,
                     'device': self.path('d.sock'), 'relay': self.relay}])
        self.daemon.wait_state('a', 'idle')
        self.a = MigratingGuest.arrive(self.path('a.sock'), features, self.rng, buffer_bytes or 2048, pieces)
        self.addCleanup(self.a.close)
        self.peers = [self.guest(name) for name in names[1:]]
        self.number, self.n_received = 0, 0

    def check_equality(self, features, relay='auto'):
        self.relay = relay
        self.begin(features, 1)
        self.assertEqual(self.daemon.port('a')['state'], RUNNING[relay])
        self.run_migration(30, 6)
        self.assert_equal()
        self.assertGreater(self.n_received, 500)
        # Memory that neither we nor the device may touch any more.
        frozen = self.a.memory.map[:]
        self.some_peer_traffic()
        self.assertEqual(self.a.memory.map[:], frozen)

    def some_peer_traffic(self):
        for number, peer in enumerate(self.peers):
            for _ in range(20):
                peer.queue(self.frame(mac(2 + number), mac(1), 64))
            peer.tx.publish()
            peer.drain()
        time.sleep(0.05)

    def test_what_the_device_wrote_is_in_the_log(self):
        self.check_equality(DEFAULT_FEATURES)

    def test_what_the_device_wrote_is_in_the_log_with_indirect_tables_and_event_index(self):
        self.check_equality(DEFAULT_FEATURES | F_INDIRECT | F_EVENT_IDX)

    def test_what_the_device_wrote_is_in_the_log_in_order(self):
        self.check_equality(DEFAULT_FEATURES | F_INDIRECT | F_EVENT_IDX | F_IN_ORDER)

    def test_what_the_device_wrote_is_in_the_log_in_shadow_mode(self):
        self.check_equality(DEFAULT_FEATURES | F_INDIRECT | F_EVENT_IDX, 'shadow')

    def test_the_comparison_sees_what_is_not_logged(self):
        for kind in ('buffers', 'used'):
            with self.subTest(kind=kind):
                self.begin(DEFAULT_FEATURES, 1)
                self.a.masked = self.a.pages_of(kind)
                self.run_migration(10, 6)
                self.assertNotEqual(self.a.pages_that_differ(), set())
                self.assertLessEqual(self.a.pages_that_differ(), self.a.masked)
                self.end()
                self.device.stop()

    def receive_numbers(self, guest, expected_number):
        """The frames that have come must be the next ones. Returns the number after them."""
        while (frame := guest.receive_now()) is not None:
            self.assertEqual(frame.data, expected(frame.data))
            number = struct.unpack_from('>I', frame.data, 14)[0]
            self.assertEqual(number, expected_number, 'lost, doubled or out of order')
            expected_number += 1
        return expected_number

    def check_order(self, features, n_switches=150):
        """Both directions, no more under way than there are buffers for."""
        self.begin(features, 2, lossless=True)
        log = self.a.log = self.a.new_log()
        a, b = self.a, self.peers[0]
        sent = {a: 0, b: 0}
        received = {a: 0, b: 0}  # by the other side

        def step():
            for sender, receiver, source, destination in ((a, b, mac(1), mac(2)), (b, a, mac(2), mac(1))):
                received[sender] = self.receive_numbers(receiver, received[sender])
                while sent[sender] - received[sender] < 100 and self.rng.random() < 0.95:
                    frame = ethernet(sent[sender], source, destination, self.rng.choice([60, 64, 500, 1514]))
                    if not (sender.queue_one(frame) if sender is a else sender.queue(frame)):
                        break
                    sent[sender] += 1
                sender.tx.publish()
        for i in range(n_switches):
            step()
            logged = i % 2 == 0
            if logged:
                a.set_log_base(log)
            a.set_logging(logged)
            for _ in range(self.rng.randrange(4)):
                step()
            if self.rng.random() < 0.1:
                time.sleep(0.003)  # the workers fall asleep
            if logged:
                pages = set(log.take())
                self.assertLessEqual(pages, a.pages_of('buffers', 'used'))
            else:
                log.take()
                step()
                self.assertEqual(log.take(), [], 'logged although nobody wants it')
            if i % 50 < 2:
                self.assertEqual(self.daemon.port('a')['state'], 'shadow' if logged else 'pass-through')
        self.assertTrue(wait_for(lambda: step() or min(received.values()) > 500, 20), received)
        last = dict(sent)

        def is_all_there():
            for sender, receiver in ((a, b), (b, a)):
                received[sender] = self.receive_numbers(receiver, received[sender])
            return received == last
        self.assertTrue(wait_for(is_all_there, 10), (received, last, self.daemon.port('a')))
        log.assert_alone()
        self.assertEqual(self.daemon.port('a')['switches'], n_switches)
        print(f'{last[a]} frames out, {last[b]} in, {n_switches} switches', flush=True)

    def test_each_frame_once_and_in_order(self):
        self.check_order(DEFAULT_FEATURES | F_INDIRECT | F_EVENT_IDX)

    def test_each_frame_once_and_in_order_without_event_index(self):
        self.check_order(DEFAULT_FEATURES & ~F_MRG_RXBUF, 60)

    def test_each_frame_once_and_in_order_with_buffers_in_order(self):
        self.check_order(DEFAULT_FEATURES | F_INDIRECT | F_EVENT_IDX | F_IN_ORDER, 60)

    def test_no_log_is_offered_in_pass_through(self):
        self.relay = 'pass-through'
        self.start([{'name': 'a', 'type': 'relay', 'socket': self.path('a.sock'), 'role': 'listen',
                     'device': self.path('d.sock'), 'relay': 'pass-through'}])
        self.device = Device(self.path('d.sock'))
        self.addCleanup(self.device.close)
        self.daemon.wait_state('a', 'idle')
        guest = self.guest('a')
        self.assertFalse(guest.offered & F_LOG_ALL)
        self.assertFalse(guest.offered & F_PACKED, 'the device has none')


class Loss(RelayTest):
    """The device ends, comes back as another, or is not what it should be."""

    def check_restart(self, relay):
        self.start_device()
        self.start_relays(relay)
        bench = self.bench('r0', 'r1', args=['--reconnect', '--features', '-in_order'], sleep=False)
        for name in ('r0', 'r1'):
            self.daemon.wait_state(name, RUNNING[relay])
        time.sleep(0.3)
        n_lines = len(self.lines('warn:'))
        bed.end(self.device.child)
        for name in ('r0', 'r1'):
            self.daemon.wait_state(name, 'no device', 5)
            port = self.daemon.port(name)
            self.assertIn(self.path(f'd{name[1]}.sock'), port['last_error'])
            self.assertFalse(port['link'])
            self.assertFalse(os.path.exists(port['socket']), 'guests may come although there is no device')
        self.assertEqual(len(self.lines('warn:')) - n_lines, 2, self.lines('warn:'))
        self.device.start()
        for name in ('r0', 'r1'):
            self.daemon.wait_state(name, RUNNING[relay])
        time.sleep(0.5)
        result = bench.check()
        self.assertGreater(result['outages'], 0)
        self.assertIsNone(self.daemon.port('r0')['last_error'])

    def test_the_device_restarts_in_pass_through(self):
        self.check_restart('pass-through')

    def test_the_device_restarts_in_shadow_mode(self):
        self.check_restart('shadow')

    def test_a_device_that_offers_less_after_its_restart(self):
        more = DEFAULT_FEATURES | F_INDIRECT | F_EVENT_IDX
        device = self.play_device('d', features=more)
        self.start([self.relay_port('r', 'd')])
        self.daemon.wait_state('r', 'idle')
        guest = self.guest('r', features=more)
        self.assertEqual(guest.features, more)
        device.close()
        self.assertTrue(guest.is_closed(5))
        device.offered = F_VERSION_1 | F_PROTOCOL
        device.open()
        self.daemon.wait_state('r', 'idle')
        other = self.guest('r', features=more)
        self.assertEqual(other.offered & more, F_VERSION_1 | F_PROTOCOL)
        self.assert_echoes(device, other)

    def test_a_device_that_has_more_queues_after_its_restart(self):
        device = self.play_device('d', pairs=1)
        self.start([self.relay_port('r', 'd', queues=2)])
        self.daemon.wait_state('r', 'idle')
        self.assertEqual(self.daemon.port('r')['queue_pairs'], 1)
        device.close()
        self.daemon.wait_state('r', 'no device')
        device.n_pairs = 2
        device.open()
        self.daemon.wait_state('r', 'idle')
        self.assertEqual(self.daemon.port('r')['queue_pairs'], 2)
        guest = self.guest('r', pairs=2)
        for pair in range(2):
            self.assert_echoes(device, guest, pair=pair)

    def test_a_device_whose_queues_become_more_between_two_guests(self):
        """Its session is renewed between them."""
        for takes_over in (False, True):
            with self.subTest(takes_over=takes_over):
                device = self.play_device('d', pairs=1, takes_over=takes_over)
                self.start([self.relay_port('r', 'd', queues=2)])
                for n_pairs in (1, 2, 1):
                    device.n_pairs = n_pairs
                    self.daemon.wait_state('r', 'idle')
                    guest = self.guest('r')
                    self.assert_echoes(device, guest)
                    guest.close()
                self.daemon.stop()
                device.close()
        self.daemon_ends = True

    def test_guests_come_one_after_the_other(self):
        """Each gets what it needs at once: neither of us says no, whatever the one before it left behind."""
        self.start_device()
        for relay in MODES:
            with self.subTest(relay=relay):
                self.start_relays(relay)
                n_lines = len(self.lines('warn:'))
                for _ in range(10):
                    guest = self.guest('r0')
                    guest.close()
                for _ in range(5):
                    guest = self.guest('r0')
                    guest.close()
                    self.daemon.wait_state('r0', 'idle', 2)
                self.assertEqual(self.lines('warn:')[n_lines:], [])
                self.daemon.stop()
        self.daemon_ends = True

    def test_the_first_guest_of_a_device_that_was_away(self):
        device = self.play_device('d')
        self.start([self.relay_port('r', 'd')])
        for _ in range(3):
            self.daemon.wait_state('r', 'idle')
            n_sessions = device.n_sessions
            guest = self.guest('r')
            self.assert_echoes(device, guest)
            self.assertEqual(device.n_sessions, n_sessions, 'a session that nobody had used was renewed')
            device.restart()
            self.assertTrue(guest.is_closed(5))
            guest.close()

    def test_a_guest_that_has_gone_leaves_no_memory_with_the_device(self):
        device = self.play_device('d')
        for relay in MODES:
            with self.subTest(relay=relay):
                self.start([self.relay_port('r', 'd', relay)])
                self.daemon.wait_state('r', 'idle')
                memory = Memory(8 << 20)
                guest = self.guest('r', memory=memory)
                self.assert_echoes(device, guest)
                guest.close()
                self.daemon.wait_state('r', 'idle')
                is_free = wait_for(lambda: not any(region[1] == 8 << 20 for region in device.regions), 2)
                self.daemon.stop()
                self.assertTrue(is_free, 'the device still has the memory of a guest that has ended')
        self.daemon_ends = True

    def test_a_device_that_is_silent_from_the_start(self):
        device = self.play_device('d', is_silent=True)
        self.start(['a', 'b', self.relay_port('r', 'd')], cross_connects=[{'ports': ['a', 'b']}])
        bench = self.bench_running('a', 'b')
        self.assertEqual(self.daemon.port('r')['state'], 'no device')
        self.assertIn('no answer', self.daemon.port('r')['last_error'])
        # It is asked less and less often, for others cannot be controlled meanwhile.
        self.assertTrue(wait_for(lambda: self.lines('trying again in 8000 ms'), 15, 0.05), self.daemon.log())
        start = time.monotonic()
        for _ in range(50):
            self.daemon.port('a')
        self.assertLess(time.monotonic() - start, 0.8)
        bench.check()
        device.close()
        device.is_silent = False
        device.open()
        self.daemon.wait_state('r', 'idle', 10)

    def test_a_device_that_falls_silent(self):
        for relay in ('pass-through', 'shadow'):
            with self.subTest(relay=relay):
                device = self.play_device('d')
                self.start(['a', 'b', self.relay_port('r', 'd', relay)], cross_connects=[{'ports': ['a', 'b']}])
                self.daemon.wait_state('r', 'idle')
                bench = self.bench_running('a', 'b')
                guest = self.guest('r')
                self.assert_echoes(device, guest)
                device.is_silent = True
                start = time.monotonic()
                guest.stop_ring(guest.tx)
                self.assertTrue(guest.is_closed(5))
                self.assertLess(time.monotonic() - start, 3)
                self.assertTrue(self.lines('no answer'))
                bench.check()
                self.daemon.stop()
                device.close()
        self.daemon_ends = True

    def test_a_device_that_does_not_speak_for_enabling_is_refused_or_used(self):
        """Without VHOST_USER_F_PROTOCOL_FEATURES there is no SET_VRING_ENABLE, and rings are enabled from the start."""
        device = self.play_device('d', features=F_VERSION_1)
        self.start([self.relay_port('r', 'd')])
        if not wait_for(lambda: self.daemon.port('r')['state'] == 'idle', 2, 0.05):
            self.assertIn('PROTOCOL_FEATURES', self.daemon.port('r')['last_error'])
            return
        guest = self.guest('r')
        with device.lock:
            for ring in device.rings:
                ring.enabled = True
        self.assert_echoes(device, guest)

    def test_a_device_without_memory_slots(self):
        """It takes eight regions; the guest is told how many of these are its."""
        self.play_device('d', protocol=DEFAULT_PROTOCOL & ~P_MEM_SLOTS)
        self.start([self.relay_port('r', 'd', 'pass-through')])
        self.daemon.wait_state('r', 'idle')
        size = 8 << 20
        eighth = size // 8
        memory = Memory(size, regions=[(0x4000_0000 + i * eighth, eighth, 0x7e00_0000_0000 + i * eighth, i * eighth) for i in range(8)])
        guest = Guest.connect(self.path('r.sock'))
        self.addCleanup(guest.close)
        guest.setup(memory=memory)
        self.assertEqual(self.daemon.port('r')['state'], 'pass-through', self.daemon.log())
        guest.close()
        self.daemon.call('port.remove', name='r')
        self.daemon.call('port.add', **self.relay_port('r', 'd', 'auto'))
        self.daemon.wait_state('r', 'idle')
        guest = Guest.connect(self.path('r.sock'))
        self.addCleanup(guest.close)
        guest.negotiate()
        if guest.protocol & P_MEM_SLOTS:
            self.assertLessEqual(guest.ask_u64(GET_MAX_MEM_SLOTS), 7, 'one is for rings of ours')

    def test_a_device_that_cannot_be_connected_to_is_told_of(self):
        """One that is not there yet is no news; this is."""
        path = self.path('d.sock')
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
            other.bind(path)
            self.start([self.relay_port('r', 'd')])
            self.assertEqual(self.daemon.port('r')['state'], 'no device')
            self.assertIn(path, self.daemon.port('r')['last_error'] or '')
            time.sleep(1.2)
            self.assertEqual(len(self.lines('warn:')), 1, 'said again and again')

    def test_no_descriptor_is_left_behind(self):
        """200 guests, 50 restarts of devices."""
        devices = [self.play_device(f'd{i}') for i in range(10)]
        self.start([self.relay_port(f'r{i}', f'd{i}', MODES[i % 3]) for i in range(10)])

        def all_idle():
            return all(port['state'] == 'idle' for port in self.daemon.call('port.show')['ports'])

        def all_are(state):
            return all(port['state'] == state for port in self.daemon.call('port.show')['ports'])

        def one_each():
            for i, device in enumerate(devices):
                guest = self.guest(f'r{i}', size=16)
                self.assert_echoes(device, guest, 3)
                guest.close()
            self.assertTrue(wait_for(all_idle, 10, 0.01))
        self.assertTrue(wait_for(all_idle, 10, 0.01))
        # Memory for rings of ours is made when it is needed first.
        one_each()
        before = self.daemon.resources()
        for _ in range(19):
            one_each()
        self.assert_flat(before)
        for number in range(5):
            guests = [self.guest(f'r{i}', size=16) for i in range(10)] if number % 2 == 0 else []
            for device in devices:
                device.close()
            for guest in guests:
                self.assertTrue(guest.is_closed(5))
                guest.close()
            self.assertTrue(wait_for(lambda: all_are('no device'), 10, 0.01))
            for device in devices:
                device.open()
            self.assertTrue(wait_for(all_idle, 10, 0.01))
        self.assert_flat(before)
        one_each()
        self.assert_flat(before)


class Lies(RelayTest):
    """Devices that say they used what they were not given. In shadow mode that is found out."""

    def begin(self, relay='shadow', features=DEFAULT_FEATURES):
        device = self.play_device('d', features=features)
        self.start(['a', 'b', self.relay_port('r', 'd', relay)], cross_connects=[{'ports': ['a', 'b']}])
        self.daemon.wait_state('r', 'idle')
        self.victim = self.guest('r', features=features)
        return device

    def check(self, lie, features=DEFAULT_FEATURES):
        device = self.begin(features=features)
        guest = self.victim
        frames = [ethernet(i) for i in range(10)]
        guest.send(*frames)
        self.assertTrue(wait_for(lambda: device.echo() or guest.rx.n_used() == 10, 5))
        self.assertEqual(guest.receive_data(10), frames)
        guest.drain()
        guest.send(*[ethernet(i) for i in range(10, 14)])
        self.assertTrue(wait_for(lambda: device.rings[1].avail_idx != device.rings[1].last_avail, 5))
        with device.lock:
            lie(device)
        self.assertTrue(guest.is_closed(5), self.daemon.port('r'))
        self.assertTrue(wait_for(lambda: self.lines('used what it was not given'), 5), self.daemon.log())
        self.assertEqual(len(self.lines('used what it was not given')), 1)
        # The guest's rings: what is used was made available, each once.
        for ring in (guest.rx, guest.tx):
            self.assertLessEqual((ring.used_idx - ring.last_used) & 0xffff, (ring.avail_idx - ring.last_used) & 0xffff)
            ids = []
            while (entry := ring.pop()) is not None:
                ids.append(entry[0])
                self.assertLess(entry[0], ring.size)
                self.assertLessEqual(entry[1], 2048)
            self.assertEqual(len(ids), len(set(ids)))
        # The device gets another chance, and so does the guest.
        self.daemon.wait_state('r', 'idle', 5)
        other = self.guest('r', features=features)
        other.send(*frames)
        self.assertTrue(wait_for(lambda: device.echo() or other.rx.n_used() == 10, 5))
        self.assertEqual(other.receive_data(10), frames)
        self.assert_passes('a', 'b')

    def test_an_id_out_of_range(self):
        def lie(device):
            device.rings[1].put_used(256, 0)
            device.rings[1].publish()
        self.check(lie)

    def test_an_id_that_is_huge(self):
        def lie(device):
            device.rings[0].put_used(0xffff_0000, 64)
            device.rings[0].publish()
        self.check(lie)

    def test_one_buffer_twice(self):
        def lie(device):
            ring = device.rings[1]
            head = ring.take()[0]
            ring.put_used(head, 0)
            ring.put_used(head, 0)
            ring.publish()
        self.check(lie)

    def test_an_index_that_jumps(self):
        def lie(device):
            device.rings[0].publish(device.rings[0].used_idx + 1000)
        self.check(lie)

    def test_an_index_that_goes_back(self):
        def lie(device):
            device.rings[0].publish((device.rings[0].used_idx - 1) & 0xffff)
        self.check(lie)

    def test_ids_out_of_order_though_in_order_was_negotiated(self):
        def lie(device):
            ring = device.rings[1]
            heads = [ring.take()[0] for _ in range(4)]
            # One for itself: the first is passed over, which is not how one entry stands for several.
            ring.put_used(heads[0] + 100, 0)
            ring.publish()
        self.check(lie, DEFAULT_FEATURES | F_IN_ORDER)

    def test_lengths_beyond_the_buffer_are_cut(self):
        device = self.begin()
        with device.lock:
            ring = device.rings[0]
            wait_for(lambda: ring.avail_idx != ring.last_avail, 5)
            head, _ = ring.take()
            ring.put_used(head, 0xffff_ffff)
            ring.publish()
        self.assertTrue(wait_for(lambda: self.victim.rx.n_used(), 5))
        self.assertEqual(self.victim.rx.pop()[1], 2048)

    def test_buffers_that_come_back_in_any_order(self):
        device = self.begin()
        guest, rng = self.victim, random.Random(1)
        for round_number in range(20):
            frames = [ethernet(100 * round_number + i) for i in range(50)]
            guest.send(*frames)
            self.assertTrue(wait_for(lambda: (device.rings[1].avail_idx - device.rings[1].last_avail) & 0xffff == 50, 5))
            with device.lock:
                heads = [device.rings[1].take()[0] for _ in range(50)]
                rng.shuffle(heads)
                for head in heads:
                    device.rings[1].put_used(head, 0)
                device.rings[1].publish()
            guest.drain(timeout=5)

    def test_a_ring_stopped_with_buffers_out_gives_them_to_the_next_device(self):
        """What was not used is offered again from the oldest on, whichever way the ring goes then."""
        device = self.begin('auto')
        guest = self.victim
        frames = [ethernet(i) for i in range(30)]
        guest.send(*frames)

        def taken():
            return (device.rings[1].avail_idx - device.rings[1].last_avail) & 0xffff
        self.assertTrue(wait_for(lambda: taken() == 30, 5))
        log = Log(0x5000_0000 // 4096)
        self.addCleanup(log.close)

        def set_log_base():
            guest.send_raw(guest.message(SET_LOG_BASE, struct.pack('<QQ', log.size, log.offset)), [log.fd])
            guest.receive_reply(SET_LOG_BASE)
        set_log_base()
        for number in range(6):
            guest.tell_u64(SET_FEATURES, guest.features | (F_LOG_ALL if number % 2 == 0 else 0))
            self.assertEqual(self.daemon.port('r')['state'], 'shadow' if number % 2 == 0 else 'pass-through')
            self.assertTrue(wait_for(lambda: taken() == 30 - 5 * number, 5))
            with device.lock:
                for _ in range(5):
                    head, pieces = device.rings[1].take()
                    device.rings[1].put_used(head, 0)
                    self.assertEqual(device.read_gpa(pieces[0][0], pieces[0][1])[12:], frames.pop(0))
                device.rings[1].publish()
            # Seen by us before the next switch, or else in the switch: both are right.
            if number % 4 == 0:
                self.assertTrue(wait_for(lambda: guest.tx.n_used() == 5 * (number + 1), 5))
            if number % 2 == 1:
                set_log_base()
        guest.drain(timeout=5)
        self.assertEqual(frames, [])

    def test_a_kick_descriptor_made_blocking_costs_nobody_else_anything(self):
        device = self.begin()
        self.assertTrue(wait_for(lambda: device.rings[1].started, 5))
        with device.lock:
            kick = device.rings[1].kick
            try:
                os.eventfd_read(kick)
            except BlockingIOError:
                pass
            os.eventfd_write(kick, 2**64 - 2)
            fcntl.fcntl(kick, fcntl.F_SETFL, 0)
        bench = self.bench('a', 'b', args=['--count', '20000', '--rate', '20000'], window=0)
        # Each asks for a kick.
        for i in range(200):
            self.victim.send(ethernet(i))
            time.sleep(0.005)
        result = bench.check(None)
        self.assertLess(result['total']['latency_ns']['max'], 1_000_000_000)
        # It is known who did that.
        self.assertTrue(self.lines('d.sock'), 'nothing is said about the device')


class Guests(RelayTest):
    """What guests do to a relay port, and the device behind it."""

    def begin(self, relay, **options):
        self.device = self.play_device('d', **options)
        self.start(['a', 'b', self.relay_port('r', 'd', relay)], cross_connects=[{'ports': ['a', 'b']}])
        self.daemon.wait_state('r', 'idle')

    def for_both(self, check, **options):
        for relay in ('pass-through', 'shadow'):
            with self.subTest(relay=relay):
                self.begin(relay, **options)
                check(relay)
                self.daemon.stop()
                self.device.close()
        self.daemon_ends = True

    def test_memory_changes_while_rings_run(self):
        def check(relay):
            guest = self.guest('r')
            more = Memory(1 << 20, gpa=0x8000_0000, uva=0x7f00_0000_0000)
            payload = struct.pack('<QQQQQ', 0, *more.regions[0])
            for _ in range(5):
                self.assert_echoes(self.device, guest)
                guest.tell(ADD_MEM_REG, payload, [more.fd])
                self.assertIn(1 << 20, [region[1] for region in self.device.regions])
                self.assert_echoes(self.device, guest)
                guest.tell(REM_MEM_REG, payload)
                self.assertNotIn(1 << 20, [region[1] for region in self.device.regions])
                guest.set_mem_table(guest.memory)
            self.assert_echoes(self.device, guest)
            more.close()
        self.for_both(check)

    def test_a_guest_that_resets_and_takes_other_features(self):
        def check(relay):
            more = DEFAULT_FEATURES | F_EVENT_IDX
            guest = self.guest('r', features=more)
            self.assert_echoes(self.device, guest)
            guest.tell(RESET_DEVICE)
            self.assertFalse(any(ring.started for ring in self.device.rings))
            self.assertEqual(self.daemon.port('r')['state'], 'connected')
            guest.memory.next = 0
            for ring in (guest.rx, guest.tx):
                ring.close()
            for features in (DEFAULT_FEATURES, more):
                guest.setup(features, memory=Memory(8 << 20))
                self.assertEqual(self.device.features & F_EVENT_IDX, features & F_EVENT_IDX)
                self.assert_echoes(self.device, guest)
                guest.tell(RESET_DEVICE)
        self.for_both(check, features=DEFAULT_FEATURES | F_EVENT_IDX)

    def test_a_guest_that_breaks_its_ring_in_shadow_mode(self):
        self.begin('shadow')
        guest = self.guest('r')
        self.assert_echoes(self.device, guest)
        guest.tx.avail_idx += 1000
        guest.tx.publish()
        self.assertTrue(wait_for(lambda: guest.ask_u64(GET_STATUS) & 0x40, 5), 'NEEDS_RESET')
        self.assertEqual(self.device.n_sessions, 1, 'the device has nothing to do with it')
        guest.close()
        self.daemon.wait_state('r', 'idle')
        self.assert_echoes(self.device, self.guest('r'))
        self.assert_passes('a', 'b')

    def test_a_guest_that_takes_its_memory_away(self):
        self.start_device(['d0', 'd1', 'd2'], bridged=True)
        self.start_relays('shadow')
        bench = self.bench_running('r0', 'r1')
        for relay in ('pass-through', 'shadow'):
            with self.subTest(relay=relay):
                self.daemon.call('port.add', **self.relay_port('r2', 'd2', relay))
                self.daemon.wait_state('r2', 'idle')
                guest = self.guest('r2')
                guest.send(ethernet(1, source=mac(77), destination=mac(78)))
                guest.drain()
                os.ftruncate(guest.memory.fd, 0)
                # Whoever looks first: we, or the device, which then is done with this guest.
                end = time.monotonic() + 10
                while not guest.is_closed(0.01) and time.monotonic() < end:
                    guest.tx.notify()
                self.assertTrue(guest.is_closed(0.1))
                self.daemon.wait_state('r2', 'idle', 5)
                self.daemon.call('port.remove', name='r2')
        result = bench.finish()
        self.assertEqual(result['total']['corrupted'] + result['total']['duplicated'] + result['total']['lost'], 0)

    def test_the_guest_s_side_listens(self):
        self.start_device()
        self.start([self.relay_port(f'r{i}', f'd{i}', 'auto', role='connect') for i in range(2)])
        for _ in range(2):
            bench = Bench(self, *[self.path(f'r{i}.sock,listen') for i in range(2)], window=64, args=['--count', '10000'])
            bench.check(None)


class Changes(RelayTest):
    def test_relay_ports_come_and_go_under_traffic(self):
        self.start_device(['d0', 'd1', 'd2'], bridged=True)
        self.start_relays('shadow')
        bench = self.bench_running('r0', 'r1')
        before = self.daemon.resources()
        for i in range(20):
            self.daemon.call('port.add', **self.relay_port('r2', 'd2', MODES[i % 3]))
            self.daemon.wait_state('r2', 'idle')
            guest = self.guest('r2')
            guest.send(*[ethernet(n, source=mac(100 + i), destination=mac(0xfff)) for n in range(20)])
            if i % 2:
                guest.drain(timeout=5)
            self.daemon.call('port.remove', name='r2')
            self.assertTrue(guest.is_closed(5))
            guest.close()
            self.assertFalse(os.path.exists(self.path('r2.sock')))
        self.assert_flat(before)
        result = bench.finish()
        self.assertEqual(result['total']['corrupted'] + result['total']['duplicated'] + result['total']['reordered'], 0)

    def test_bad_ports_are_refused_and_change_nothing(self):
        self.start(['a'], [{'name': 'br0', 'ports': ['a']}])
        sock, device = f'socket={self.path("r.sock")}', f'device={self.path("d.sock")}'
        before = self.daemon.resources()
        cases = [
            ([sock, 'role=listen'], 'device'),
            ([device, 'role=listen'], 'socket'),
            ([sock, device, 'role=listen', 'relay=both'], 'relay'),
            ([sock, device, 'role=listen', 'queues=9'], 'queues'),
            ([sock, device, 'role=listen', 'queues=0'], 'queues'),
            ([sock, device, 'role=listen', 'bridge=br0'], 'bridge'),
            ([sock, device, 'role=listen', 'mtu=1500'], 'mtu'),
            ([sock, 'device=' + 'x' * 200, 'role=listen'], 'x'),
        ]
        for args, word in cases:
            with self.subTest(args=args):
                status, answer = self.daemon.ctl('port', 'add', 'r', 'type=relay', *args)
                if status == 0:
                    self.daemon.ctl('port', 'remove', 'r')
                self.assertIn(status, (1, 2), answer)
                self.assertIn(word, str(answer))
                self.assertEqual([port['name'] for port in self.daemon.call('port.show')['ports']], ['a'])
        self.assert_flat(before)

    def test_a_device_that_is_a_port_of_ours(self):
        """It would wait for itself."""
        self.start(['a', 'b'])
        status, answer = self.daemon.ctl('port', 'add', 'r', 'type=relay', f'socket={self.path("r.sock")}', 'role=listen',
                                         f'device={self.path("a.sock")}')
        if status != 0:
            self.assertIn('a.sock', str(answer))
            return
        self.assertEqual(self.daemon.port('r')['state'], 'no device')
        self.assertIn('this daemon', self.daemon.port('r')['last_error'])
        start = time.monotonic()
        for _ in range(20):
            self.daemon.port('a')
        self.assertLess(time.monotonic() - start, 0.8)

    def test_bad_files_end_with_one_line(self):
        ports = [
            ('{name: r, type: relay, socket: /tmp/r}', 'device'),
            ('{name: r, type: relay, socket: /tmp/r, device: /tmp/d, relay: pass}', 'relay'),
            ('{name: r, type: relay, socket: /tmp/r, device: /tmp/d, queues: 16}', 'queues'),
            ('{name: r, type: relay, socket: /tmp/r, device: /tmp/d, vlan: {access: 3}}', 'vlan'),
        ]
        for text, word in ports:
            with self.subTest(text=text):
                path = self.path('bad.yaml')
                with open(path, 'w') as file:
                    file.write(f'ports:\n  - {text}\n')
                done = subprocess.run([bed.RINGWAY, '--check', path], capture_output=True, text=True, timeout=bed.START_S)
                self.assertEqual(done.returncode, 2, done.stdout)
                self.assertEqual(len(done.stderr.strip().splitlines()), 1, done.stderr)
                self.assertIn('bad.yaml:2: ', done.stderr)
                self.assertIn(word, done.stderr)


if __name__ == '__main__':
    bed.main()
