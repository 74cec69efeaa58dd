# SPDX-License-Identifier: BSD-3-Clause
"""Front ends and the daemon come and go while frames flow (threats X14, X15, X17, X18)."""
import contextlib
import os
import socket
import time

import bed
from bed import DaemonTest, end, ethernet
from vhost_user import FrontEnd, GET_FEATURES, GET_MAX_MEM_SLOTS, wait_for


class Listen(DaemonTest):
    """The socket is the daemon's."""

    def setUp(self):
        super().setUp()
        self.start(['a', 'b'], [{'name': 'br0', 'ports': ['a', 'b']}])

    def test_a_front_end_killed_in_mid_traffic_comes_back_20_times(self):
        before = self.daemon.resources()
        for _ in range(20):
            self.bench_running('a', 'b', minimum=self.daemon.counters('b')['tx_packets'] + 500).kill()
            for name in ('a', 'b'):
                self.daemon.wait_state(name, 'idle')
        self.assert_flat(before)
        self.assertEqual(self.daemon.port('a')['connects'], 20)
        self.bench('a', 'b', args=['--count', '20000']).check(None)
        self.assert_flat(before)

    def test_a_second_front_end_is_turned_away_and_the_first_is_unharmed(self):
        bench = self.bench_running('a', 'b')
        before = self.daemon.resources()
        for _ in range(50):
            second = FrontEnd.connect(self.path('a.sock'))
            self.assertTrue(second.is_closed())
            second.close()
        self.assert_flat(before)
        bench.check()
        self.assertLess(self.daemon.log().count('turned away'), 12, 'log lines are not limited')

    def test_a_storm_of_connections_leaves_nothing_and_harms_nobody(self):
        before = self.daemon.resources()
        end_s = time.monotonic() + 2
        n = 0
        while time.monotonic() < end_s:
            with socket.socket(socket.AF_UNIX) as sock:
                sock.connect(self.path('a.sock'))
                with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                    sock.sendall(FrontEnd.message(GET_FEATURES)[:n % 13])
                n += 1
        self.daemon.wait_state('a', 'idle')
        self.assert_flat(before)
        self.assert_passes('a', 'b')
        n_lines = self.daemon.log().count('\n')
        self.assertLess(n_lines, 60, f'{n} connections made {n_lines} lines of log')

    def test_a_front_end_that_stops_for_a_while_delays_nobody_else(self):
        self.daemon.call('port.add', **self.guest_port('c'), bridge='br0')
        sleeper = self.guest('c', size=64)
        bench = self.bench_running('a', 'b')
        other = self.guest_sender_flood(sleeper)
        bench.check()
        # Its receive buffers are all used, and it is served again as soon as it looks.
        self.assertGreaterEqual(self.daemon.counters('c')['drops'].get('guest_no_buffers', 0), other - 64)
        frames = sleeper.receive(64)
        self.assertEqual(len(frames), 64)

    def guest_sender_flood(self, sleeper):
        """Frames for `sleeper`, which does not look, from a fourth port. Returns how many."""
        self.daemon.call('port.add', **self.guest_port('d'), bridge='br0')
        sender = self.guest('d')
        sleeper.send(ethernet(0, source=bed.mac(7), destination=bed.mac(8)))
        wait_for(lambda: any(entry['port'] == 'c' for entry in self.daemon.call('fdb.show')['entries']))
        for i in range(1000):
            sender.send(ethernet(i, source=bed.mac(8), destination=bed.mac(7)))
        sender.drain()
        return 1000


class Connect(DaemonTest):
    """The socket is the front end's; the daemon comes to it, again and again."""

    def setUp(self):
        super().setUp()
        ports = [self.guest_port(name, role='connect') for name in 'ab']
        self.start(ports, [{'name': 'br0', 'ports': ['a', 'b']}])

    def listen_bench(self, **options):
        return bed.Bench(self, *[self.path(f'{name}.sock,listen') for name in 'ab'], **options)

    def test_it_comes_when_the_socket_appears_and_again_after_restarts(self):
        before = self.daemon.resources()
        for name in 'ab':
            self.assertEqual(self.daemon.port(name)['state'], 'connecting')
        for _ in range(4):
            self.listen_bench(args=['--count', '5000']).check(None)
        for name in 'ab':
            self.daemon.wait_state(name, 'connecting')
        self.assert_flat(before)
        self.assertEqual(self.daemon.port('a')['connects'], 4)
        self.assertNotIn('warn', self.daemon.log(), 'a front end that is not there is no news')

    def test_a_front_end_killed_in_mid_traffic_is_found_again(self):
        for _ in range(4):
            before = self.daemon.counters('b')['tx_packets']
            bench = self.listen_bench()
            self.assertTrue(wait_for(lambda: self.daemon.counters('b')['tx_packets'] > before + 500, 40, 0.01))
            bench.kill()
            for name in 'ab':
                os.unlink(self.path(f'{name}.sock'))
                self.daemon.wait_state(name, 'connecting')
        self.listen_bench(args=['--count', '5000']).check(None)

    def test_odd_peers_do_not_hold_it_up(self):
        """X15: accepts nothing, closes at once, is no socket; then a good one."""
        path = self.path('a.sock')
        with open(path, 'w'):
            time.sleep(0.5)
        os.unlink(path)
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(path)
            server.listen(0)
            time.sleep(0.5)
            self.assertEqual(self.daemon.ctl('port', 'show', 'a')[0], 0)
            server.settimeout(10)
            for _ in range(5):
                server.accept()[0].close()
        os.unlink(path)
        self.daemon.wait_state('a', 'connecting')
        before = self.daemon.resources()
        self.listen_bench(args=['--count', '5000']).check(None)
        self.assert_flat(before)


class DaemonRestart(DaemonTest):
    def test_a_daemon_killed_and_restarted_serves_the_same_guests(self):
        daemon = self.start(['a', 'b'], [{'name': 'br0', 'ports': ['a', 'b']}])
        bench = self.bench_running('a', 'b', args=['--reconnect'])
        for _ in range(4):
            end(daemon.child)
            daemon.start()
            flows = wait_for(lambda: daemon.counters('b')['tx_packets'] > 1000, 40, 0.01)
            self.assertTrue(flows, 'no frames after the restart')
        result = bench.check()
        self.assertEqual(result['outages'], 4)

    def test_features_and_slots_do_not_shrink_over_a_restart(self):
        daemon = self.start(['a'])
        seen = []
        for _ in range(2):
            guest = self.guest('a')
            seen.append((guest.offered, guest.protocol, guest.ask(GET_MAX_MEM_SLOTS)))
            guest.close()
            end(daemon.child)
            daemon.start()
        self.assertEqual(seen[0], seen[1])


class Silent(DaemonTest):
    def test_a_front_end_that_never_says_a_word_does_not_hold_the_port_for_ever(self):
        """X14: connect and hold."""
        self.start(['a', 'b'], [{'name': 'br0', 'ports': ['a', 'b']}])
        silent = FrontEnd.connect(self.path('a.sock'))
        self.addCleanup(silent.close)
        self.assertTrue(silent.is_closed(15), 'a silent front end holds the port')
        self.assert_passes('a', 'b')


if __name__ == '__main__':
    bed.main()
