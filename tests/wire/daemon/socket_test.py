# SPDX-License-Identifier: BSD-3-Clause
"""Sockets the daemon finds where its own are to be: stale, in use, no sockets; and what a failed start leaves: nothing."""
import os
import socket
import stat

import bed
from bed import Daemon, DaemonTest, end


class Sockets(DaemonTest):
    def stale(self, path):
        with socket.socket(socket.AF_UNIX) as sock:
            sock.bind(path)

    def test_stale_sockets_are_replaced(self):
        self.stale(self.path('a.sock'))
        self.stale(self.path('control.sock'))
        self.start(['a', 'b'], [{'name': 'br0', 'ports': ['a', 'b']}])
        self.assert_passes('a', 'b')

    def test_sockets_left_by_a_killed_daemon_are_replaced(self):
        daemon = self.start(['a', 'b'], [{'name': 'br0', 'ports': ['a', 'b']}])
        end(daemon.child)
        self.assertTrue(os.path.exists(self.path('a.sock')))
        daemon.start()
        self.assert_passes('a', 'b')

    def refused(self, config, text):
        """The daemon says one line with `text` and ends with 1, leaving nothing."""
        daemon = Daemon(self, config, name='refused', wait=False)
        self.assertEqual(daemon.child.wait(bed.START_S), 1, daemon.log())
        errors = [line for line in daemon.log().splitlines() if line.startswith('error:')]
        self.assertEqual(len(errors), 1, daemon.log())
        self.assertIn(text, errors[0])
        return errors[0]

    def test_a_live_port_socket_is_refused_and_unharmed(self):
        with socket.socket(socket.AF_UNIX) as other:
            other.bind(self.path('b.sock'))
            other.listen()
            line = self.refused(self.config([self.guest_port('a'), self.guest_port('b')]), 'in use')
            self.assertIn('b.sock', line)
            self.assertFalse(os.path.exists(self.path('a.sock')), 'left half applied')
            self.assertFalse(os.path.exists(self.path('control.sock')), 'left half applied')
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(self.path('b.sock'))

    def test_a_second_daemon_on_the_same_control_socket_is_refused_and_the_first_goes_on(self):
        daemon = self.start(['a', 'b'], [{'name': 'br0', 'ports': ['a', 'b']}])
        self.refused(self.config([self.guest_port('c')]), 'in use')
        self.assertFalse(os.path.exists(self.path('c.sock')), 'left half applied')
        self.assertEqual(daemon.ctl('port', 'show', 'a')[0], 0)
        self.assert_passes('a', 'b')

    def test_a_file_that_is_no_socket_is_not_touched(self):
        with open(self.path('a.sock'), 'w') as file:
            file.write('precious')
        self.refused(self.config([self.guest_port('a')]), 'not a socket')
        with open(self.path('a.sock')) as file:
            self.assertEqual(file.read(), 'precious')

    def test_a_successor_s_socket_is_not_removed_at_the_end(self):
        daemon = self.start(['a'])
        self.daemon_ends = True
        os.unlink(self.path('a.sock'))
        self.stale(self.path('a.sock'))
        self.assertEqual(daemon.stop()[0], 0)
        self.assertTrue(os.path.exists(self.path('a.sock')))

    def test_mode_of_the_sockets_is_what_the_file_says(self):
        self.start([self.guest_port('a', mode='0600'), self.guest_port('b')])
        self.assertEqual(stat.S_IMODE(os.stat(self.path('a.sock')).st_mode), 0o600)
        self.assertEqual(stat.S_IMODE(os.stat(self.path('b.sock')).st_mode), 0o660)

    def test_a_missing_nic_ends_it_with_one_line_and_nothing_left(self):
        nic = {'name': 'up0', 'type': 'nic', 'device': 'net_af_packet0,iface=nosuchif0'}
        line = self.refused(self.config([self.guest_port('a'), nic]), 'up0')
        self.assertIn('net_af_packet0', line)
        self.assertFalse(os.path.exists(self.path('a.sock')), 'left half applied')
        self.assertFalse(os.path.exists(self.path('control.sock')), 'left half applied')


if __name__ == '__main__':
    bed.main()
