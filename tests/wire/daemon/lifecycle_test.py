# SPDX-License-Identifier: BSD-3-Clause
"""The daemon starts and stops: signals, load, two side by side, without root."""
import os
import pwd
import signal
import stat
import subprocess
import time

import bed
from bed import Daemon, DaemonTest, RINGWAY, end, spawn

# Promised: under a second. The rest is for a machine that does other things as well.
STOP_LIMIT_S = 5


class StartAndStop(DaemonTest):
    def test_ready_line_names_ports_bridges_and_control_socket(self):
        daemon = self.start(['a', 'b'], [{'name': 'br0', 'ports': ['a', 'b']}])
        self.assertRegex(daemon.log(), r'ready: 2 ports, 1 bridges, 1 workers \(\w+\), control socket ' + daemon.control)
        for path in (daemon.control, self.path('a.sock'), self.path('b.sock')):
            self.assertTrue(stat.S_ISSOCK(os.stat(path).st_mode), path)

    def test_sigterm_ends_an_idle_daemon_with_status_0_and_removes_its_sockets(self):
        daemon = self.start(['a'])
        self.daemon_ends = True
        status, seconds = daemon.stop()
        self.assertEqual(status, 0, daemon.log())
        self.assertLess(seconds, STOP_LIMIT_S)
        self.assertEqual([name for name in os.listdir(self.folder) if name.endswith('.sock')], [])

    def test_sigint_ends_it_as_well(self):
        daemon = self.start(['a'])
        self.daemon_ends = True
        self.assertEqual(end(daemon.child, signal.SIGINT), 0)

    def test_sigterm_under_load_ends_it_with_status_0(self):
        daemon = self.start(['a', 'b'], [{'name': 'br0', 'ports': ['a', 'b']}])
        self.daemon_ends = True
        bench = self.bench_running('a', 'b', window=0, sleep=False)
        status, seconds = daemon.stop()
        self.assertEqual(status, 0, daemon.log())
        self.assertLess(seconds, STOP_LIMIT_S)
        self.assertIn('went away', bench.finish(None)['error'])

    def test_it_can_be_stopped_before_it_is_ready(self):
        daemon = Daemon(self, self.config([self.guest_port('a')]), wait=False)
        time.sleep(0.05)
        self.assertIn(end(daemon.child, signal.SIGTERM), (0, -signal.SIGTERM))

    def test_two_daemons_side_by_side(self):
        self.start(['a', 'b'], [{'name': 'br0', 'ports': ['a', 'b']}])
        second = Daemon(self, self.config([self.guest_port('c'), self.guest_port('d')],
                        [{'name': 'br0', 'ports': ['c', 'd']}], control='control2.sock'), name='second')
        first_bench = self.bench('a', 'b', args=['--count', '20000'])
        second_bench = self.bench('c', 'd', args=['--count', '20000'])
        first_bench.check(None)
        second_bench.check(None)
        self.assertEqual(second.stop()[0], 0)


class WithoutRoot(DaemonTest):
    def test_it_runs_as_an_ordinary_user(self):
        if os.geteuid() != 0:
            self.start(['a', 'b'], [{'name': 'br0', 'ports': ['a', 'b']}])
            self.assert_passes('a', 'b')
            return
        try:
            user = pwd.getpwnam('nobody')
        except KeyError:
            self.skipTest('there is no user "nobody" to become')
        if not self.can_execute(user):
            self.skipTest('user "nobody" may not execute the build: a folder above it is closed')
        os.chown(self.folder, user.pw_uid, user.pw_gid)

        def become():
            os.setgroups([])
            os.setgid(user.pw_gid)
            os.setuid(user.pw_uid)
        ports = [self.guest_port('a'), self.guest_port('b')]
        config = self.config(ports, [{'name': 'br0', 'ports': ['a', 'b']}])
        config['memory'] = {'mb': 128}
        self.daemon = Daemon(self, config, before_exec=become)
        self.assertEqual(os.stat(f'/proc/{self.daemon.pid}').st_uid, user.pw_uid)
        self.bench('a', 'b', args=['--count', '20000']).check(None)

    def can_execute(self, user):
        def become():
            os.setgid(user.pw_gid)
            os.setuid(user.pw_uid)
        try:
            child = spawn([RINGWAY, '--version'], become, stdout=subprocess.DEVNULL)
        except (PermissionError, subprocess.SubprocessError):
            return False
        return child.wait() == 0

    def test_guest_memory_is_not_in_core_dumps(self):
        daemon = self.start(['a'])
        self.guest('a')
        with open(f'/proc/{daemon.pid}/smaps') as file:
            text = file.read()
        block = text[text.index('memfd:guest'):]
        flags = next(line for line in block.splitlines() if line.startswith('VmFlags:'))
        self.assertIn(' dd', flags)


if __name__ == '__main__':
    bed.main()
