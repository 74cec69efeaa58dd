# SPDX-License-Identifier: BSD-3-Clause
"""Where things are and how the measurement is set; handed to every part."""
import atexit
import os
import shutil
import sys
import tempfile

from .process import BenchError


class Context:
    """Built from the command line; owns the directory of sockets and logs."""

    def __init__(self, options):
        self.build = os.path.abspath(options.build)
        self.backend_cpu, self.generator_cpu = options.cpus
        self.ring = options.ring
        self.in_flight = options.in_flight
        self.backlog = options.backlog
        self.window_s = options.window
        self.settle_s = options.settle
        self.attempts = options.attempts
        self.realtime = options.realtime
        self.best_probe = None
        self.step_timeout_s = 120
        self.directory = tempfile.mkdtemp(prefix='rwbench-')
        self.keep = options.keep_logs
        self._n_logs = 0
        atexit.register(self._remove)

    def _remove(self):
        if not self.keep:
            shutil.rmtree(self.directory, ignore_errors=True)

    def probe_seen(self, probe):
        """Remembers the best the CPUs have shown in this run."""
        best = self.best_probe or probe
        self.best_probe = {key: min(best[key], probe[key]) for key in probe}

    def path(self, name):
        return os.path.join(self.directory, name)

    def log_path(self, name):
        """A new log each time."""
        self._n_logs += 1
        return self.path(f'{self._n_logs:03d}-{name}.log')

    def program(self, path):
        found = os.path.join(self.build, path)
        if not os.access(found, os.X_OK):
            raise BenchError(f'{found}: not built; run: ninja -C {self.build}, or name the build '
                             'directory with --build')
        return found

    @staticmethod
    def note(line):
        """Progress goes to standard error; standard output has the result alone."""
        print(line, file=sys.stderr, flush=True)
