# SPDX-License-Identifier: BSD-3-Clause
"""What the daemon says of its arguments and its configuration file, and with which status it ends."""
import os
import subprocess

import bed
from bed import Daemon, DaemonTest, RINGWAY


class Configuration(DaemonTest):
    def run_with(self, option, text, name='bad.yaml'):
        path = self.path(name)
        with open(path, 'w') as file:
            file.write(text)
        return subprocess.run([RINGWAY, option, path], capture_output=True, text=True, timeout=bed.START_S)

    def test_errors_end_it_with_2_and_one_line_with_file_and_line(self):
        cases = [
            ('ports:\n  - {name: a, type: guest, socket: /tmp/a, queues: 17}\n', ':2: ', 'queues'),
            ('ports:\n  - {name: a, type: guest, sokcet: /tmp/a}\n', ':2: ', 'sokcet'),
            ('ports: []\nbridges:\n  - {name: br0, ports: [nobody]}\n', ':3: ', 'nobody'),
            ('ports: [\n', ':', ''),
            ('workers: {cpus: "9-1"}\n', ':1: ', 'cpus'),
        ]
        for text, place, word in cases:
            for option in ('--config', '--check'):
                with self.subTest(text=text, option=option):
                    done = self.run_with(option, text)
                    self.assertEqual(done.returncode, 2, done.stderr)
                    self.assertEqual(len(done.stderr.strip().splitlines()), 1, done.stderr)
                    self.assertIn('bad.yaml' + place, done.stderr)
                    self.assertIn(word, done.stderr)

    def test_check_of_a_good_file_starts_nothing(self):
        sock = self.path('a.sock')
        done = self.run_with('--check', f'ports:\n  - {{name: a, type: guest, socket: {sock}, role: listen}}\n')
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(len(done.stdout.splitlines()), 1)
        self.assertFalse(os.path.exists(sock))

    def test_a_file_that_is_missing_or_a_folder(self):
        for path in (self.path('missing.yaml'), self.folder):
            done = subprocess.run([RINGWAY, '--config', path], capture_output=True, text=True, timeout=bed.START_S)
            self.assertEqual(done.returncode, 2)
            self.assertIn(path, done.stderr)
            self.assertEqual(len(done.stderr.strip().splitlines()), 1, done.stderr)

    def test_version_and_usage(self):
        def run(*args):
            return subprocess.run([RINGWAY, *args], capture_output=True, text=True, timeout=bed.START_S)
        version = run('--version')
        self.assertEqual(version.returncode, 0)
        self.assertRegex(version.stdout, r'^ringway \d+\.\d+\.\d+ ')
        self.assertEqual(run('--help').returncode, 0)
        for args in ((), ('--nonsense',), ('extra',), ('--config', 'a', '--check', 'b')):
            self.assertEqual(run(*args).returncode, 2, args)

    def test_a_cpu_that_is_not_allowed(self):
        config = self.config([], workers={'cpus': '1023'})
        daemon = Daemon(self, config, wait=False)
        self.assertEqual(daemon.child.wait(bed.START_S), 1)
        self.assertIn('1023', daemon.log())


if __name__ == '__main__':
    bed.main()
