# SPDX-License-Identifier: BSD-3-Clause
"""The program drain between two guests: every engine and path moves all frames, counts those of whole backlogs, and
outlives its guests. Needs neither hugepages nor two CPUs.

Usage: drain_test.py DRAIN RINGBENCH
"""
import json
import os
import subprocess
import sys
import tempfile
import unittest

DRAIN, RINGBENCH = sys.argv[1:3]
BACKLOG = 64
STAGES = {'forward': ('forward',), 'mbufs': ('dequeue', 'enqueue')}


class Drain:
    """The program, with a directory for its sockets."""

    def __init__(self, engine, path, burst=32):
        self.directory = tempfile.TemporaryDirectory(prefix='rwdrain-')
        self.sockets = [os.path.join(self.directory.name, f'{i}.sock') for i in range(2)]
        cpu = min(os.sched_getaffinity(0))
        argv = [DRAIN, '--engine', engine, '--path', path, '--backlog', str(BACKLOG), '--burst', str(burst)]
        for path_of in self.sockets:
            argv += ['--socket', path_of]
        argv += ['--', '--lcores', f'0@{cpu},1@{cpu}', '--no-huge', '-m', '128', '--no-pci', '--no-shconf',
                 '--no-telemetry', '--log-level=*:error']
        self.process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.first_line = self.process.stdout.readline()

    def read(self):
        self.process.stdin.write('read\n')
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def load(self, count=20000, features=''):
        """ringbench's report; every frame came through unharmed if "ok"."""
        argv = [RINGBENCH, '--json', '--topology', 'pair', '--batch', '128', '--verify', 'all', '--count',
                str(count), '--duration', '30', '--deadline', '20', '--stall', '20']
        argv += ['--features', features] if features else []
        for path_of in self.sockets:
            argv += ['--socket', path_of]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=90, check=False)
        return json.loads(done.stdout)

    def end(self):
        """Exit status after the end of its standard input."""
        self.process.stdin.close()
        status = self.process.wait(20)
        self.process.stdout.close()
        self.directory.cleanup()
        return status


class Engines(unittest.TestCase):
    def check(self, engine, path, burst=32):
        drain = Drain(engine, path, burst)
        try:
            self.assertEqual(drain.first_line, 'ready\n')
            report = drain.load()
            self.assertTrue(report['ok'], report)
            counters = drain.read()
            for stage in STAGES[path]:
                of = counters[stage]
                self.assertGreater(of['packets'], 0)
                self.assertEqual(of['packets'] % BACKLOG, 0)
                self.assertLessEqual(of['packets'], 2 * 20000)
                self.assertEqual(of['bursts'], of['packets'] // burst)
                self.assertGreater(of['cycles'], of['packets'])
            for stage in {'forward', 'dequeue', 'enqueue'} - set(STAGES[path]):
                self.assertEqual(counters[stage]['packets'], 0)
            # the next guests are served as the first were
            again = drain.load(count=2000)
            self.assertTrue(again['ok'], again)
        finally:
            status = drain.end()
        self.assertEqual(status, 0)

    def test_ringway_forwards_whole_backlogs(self):
        self.check('ringway', 'forward')

    def test_ringway_moves_whole_backlogs_to_mbufs_and_back(self):
        self.check('ringway', 'mbufs')

    def test_rte_vhost_forwards_whole_backlogs(self):
        self.check('rte_vhost', 'forward')

    def test_rte_vhost_moves_whole_backlogs_to_mbufs_and_back(self):
        self.check('rte_vhost', 'mbufs')

    def test_a_burst_is_as_long_as_was_said(self):
        self.check('ringway', 'forward', burst=4)
        self.check('rte_vhost', 'mbufs', burst=1)


class Features(unittest.TestCase):
    def test_the_features_of_guests_that_are_there_are_told(self):
        drain = Drain('rte_vhost', 'forward')
        try:
            self.assertEqual(drain.read()['features'], [0, 0])
        finally:
            self.assertEqual(drain.end(), 0)


class Usage(unittest.TestCase):
    def test_what_is_not_understood_is_said_with_status_2(self):
        for words in ([], ['--engine', 'vpp', '--socket', 'a', '--socket', 'b'],
                      ['--engine', 'ringway', '--socket', 'a'],
                      ['--engine', 'ringway', '--socket', 'a', '--socket', 'b', '--burst', '33'],
                      ['--engine', 'ringway', '--socket', 'a', '--socket', 'b', '--backlog', '0']):
            done = subprocess.run([DRAIN, *words], capture_output=True, text=True, timeout=20, check=False)
            self.assertEqual(done.returncode, 2, words)
            self.assertIn('usage:', done.stderr)


if __name__ == '__main__':
    unittest.main(argv=sys.argv[:1])
