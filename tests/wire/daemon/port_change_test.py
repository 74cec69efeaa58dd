# SPDX-License-Identifier: BSD-3-Clause
"""Ports are added and removed while other ports' frames flow (threats X8)."""
import os

import bed
from bed import DaemonTest, ethernet, mac
from vhost_user import FrontEnd, GET_FEATURES, wait_for


class PortChange(DaemonTest):
    def setUp(self):
        super().setUp()
        self.start(['a', 'b'], [{'name': 'br0', 'ports': ['a', 'b']}])

    def add(self, name='c', bridge='br0', **more):
        if bridge:
            more['bridge'] = bridge
        self.daemon.call('port.add', **self.guest_port(name, **more))

    def remove(self, name='c'):
        self.daemon.call('port.remove', name=name)

    def fdb_ports(self):
        return {entry['mac']: entry['port'] for entry in self.daemon.call('fdb.show')['entries']}

    def test_200_changes_lose_nothing_of_the_others(self):
        bench = self.bench_running('a', 'b')
        before = self.daemon.resources()
        ids = set()
        for i in range(200):
            self.add(bridge='br0' if i % 2 else '')
            ids.add(self.daemon.port('c')['id'])
            self.remove()
        self.assert_flat(before)
        self.assertEqual(ids, {2}, 'the id of a removed port is free again')
        bench.check()

    def test_a_port_is_removed_with_its_guest_in_mid_traffic(self):
        bench = self.bench_running('a', 'b')
        before = self.daemon.resources()
        for i in range(25):
            self.add()
            guest = self.guest('c')
            guest.send(*[ethernet(n, source=mac(100 + i), destination=mac(0xfff)) for n in range(50)])
            self.remove()
            self.assertTrue(guest.is_closed())
            guest.close()
            self.assertFalse(os.path.exists(self.path('c.sock')))
        self.assert_flat(before)
        self.assertNotIn('c', set(self.fdb_ports().values()))
        result = bench.finish()
        # Unknown destinations were flooded to them as well: foreign, and in the way of nothing of their own but room.
        self.assertEqual(result['total']['corrupted'] + result['total']['duplicated'] + result['total']['misdirected'], 0)

    def test_a_port_is_removed_in_mid_handshake(self):
        before = self.daemon.resources()
        for n in range(1, 40):
            self.add()
            front_end = FrontEnd.connect(self.path('c.sock'))
            front_end.send_raw(FrontEnd.message(GET_FEATURES) * 3 + FrontEnd.message(GET_FEATURES)[:n % 12])
            self.remove()
            front_end.close()
        self.assert_flat(before)
        self.assert_passes('a', 'b')

    def test_addresses_of_a_removed_port_are_forgotten_and_its_id_starts_anew(self):
        self.add()
        guest, listener = self.guest('c'), self.guest('a')
        guest.send(ethernet(1, source=mac(9)))
        self.assertEqual(len(listener.receive(1)), 1)
        self.assertEqual(self.fdb_ports(), {'02:00:00:00:00:09': 'c'})
        self.assertEqual(self.daemon.counters('c')['rx_packets'], 1)
        self.remove()
        self.assertEqual(self.fdb_ports(), {})
        self.add('d')
        self.assertEqual(self.daemon.port('d')['id'], 2)
        self.assertEqual(self.daemon.counters('d')['rx_packets'], 0, 'the counters are the old port\'s')
        # What goes to the forgotten address is flooded, not sent to the port that has the id now alone.
        newcomer, sender = self.guest('d'), self.guest('b')
        frame = ethernet(2, source=mac(10), destination=mac(9))
        sender.send(frame)
        self.assertEqual(listener.receive_data(), [frame])
        self.assertEqual(newcomer.receive_data(), [frame])

    def test_a_port_outside_any_bridge_passes_nothing(self):
        self.add(bridge='')
        loner, listener = self.guest('c'), self.guest('a')
        loner.send(ethernet(1))
        loner.drain()
        self.assertEqual(self.daemon.counters('c')['drops'], {'no_destination': 1})
        self.assertEqual(listener.receive(1, timeout=0.2), [])

    def test_bad_arguments_change_nothing(self):
        def picture():
            ports = [port['name'] for port in self.daemon.call('port.show')['ports']]
            return ports, self.daemon.call('bridge.show'), self.daemon.resources(), sorted(os.listdir(self.folder))
        before = picture()
        sock = f'socket={self.path("c.sock")}'
        cases = [
            (['port', 'add', 'a', 'type=guest', sock, 'role=listen'], 1, 'taken'),
            (['port', 'add', 'c', 'type=guest', sock, 'role=listen', 'bridge=nobody'], 1, 'nobody'),
            (['port', 'add', 'c', 'type=guest', sock, 'role=listen', 'queues=99'], None, 'queues'),
            (['port', 'add', 'c', 'type=guest', sock, 'role=sideways'], None, 'role'),
            (['port', 'add', 'c', 'type=guest', 'socket=' + 'x' * 200, 'role=listen'], None, 'socket'),
            (['port', 'add', 'c', 'type=guest', f'socket={self.path("a.sock")}', 'role=listen'], None, 'a.sock'),
            (['port', 'add', 'c', 'type=guest', 'socket=/proc/no/such/place', 'role=listen'], 1, '/proc/no'),
            (['port', 'add', 'c', 'type=nic', 'device=net_nonsense0'], 1, 'net_nonsense0'),
            (['port', 'add', 'c', 'type=nic', 'device=net_af_packet0,iface=nosuchif0'], 1, 'nosuchif0'),
            (['port', 'add', 'c', 'type=banana'], None, 'type'),
            (['port', 'add', 'c'], None, ''),
            (['port', 'remove', 'c'], 1, 'c'),
            (['port', 'remove'], 2, ''),
            (['port', 'show', 'c'], 1, 'c'),
        ]
        for args, status, word in cases:
            with self.subTest(args=args):
                got, answer = self.daemon.ctl(*args)
                self.assertIn(got, (1, 2) if status is None else (status,), answer)
                self.assertIn(word, str(answer))
                self.assertEqual(picture(), before)
        self.assert_passes('a', 'b')

    def test_an_end_of_a_cross_connect_is_not_removed(self):
        second = bed.Daemon(self, self.config([self.guest_port('x'), self.guest_port('y')],
                            cross_connects=[{'ports': ['x', 'y']}], control='cross.sock'), name='cross')
        status, answer = second.ctl('port', 'remove', 'x')
        self.assertEqual(status, 1)
        self.assertIn('cross-connect', str(answer))
        self.bench('x', 'y', args=['--count', '2000']).check(None)

    def test_ports_up_to_the_limit_and_not_one_more(self):
        before = self.daemon.resources()
        names = [f'p{i}' for i in range(254)]
        for name in names:
            self.add(name, queues=1)
        with self.assertRaisesRegex(AssertionError, 'limit'):
            self.add('p254', queues=1)
        self.bench('a', 'b', args=['--count', '2000']).check(None)
        for name in names:
            self.remove(name)
        self.assert_flat(before)

    def test_the_same_port_name_comes_back_with_another_socket_and_vlan(self):
        for i in range(5):
            self.add('c', vlan={'access': 10 + i})
            guest = self.guest('c')
            self.assertEqual(self.daemon.port('c')['vlan'], f'access {10 + i}')
            guest.close()
            self.remove('c')
        self.assertTrue(wait_for(lambda: not os.path.exists(self.path('c.sock'))))


if __name__ == '__main__':
    bed.main()
