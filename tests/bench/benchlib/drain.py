# SPDX-License-Identifier: BSD-3-Clause
"""The program drain as back end: the same loop around Ringway's libraries and around librte_vhost."""
import json
import os
import subprocess

from . import native_vhost
from .process import BenchError, Process, threads
from .testpmd import feature_names


class DrainBackend:
    """Counts whole backlogs that were worked through; waiting for them is not in its cycles."""
    name = None
    engine = None
    hugepages_2mb = 160

    def __init__(self, context, case):
        path, burst, _, _ = case.group()
        self.sockets = [context.path(f'drain-{self.name}-{i}.sock') for i in range(2)]
        argv = [self.program(context), '--engine', self.engine, '--path', path,
                '--burst', str(burst), '--backlog', str(context.backlog)]
        for socket in self.sockets:
            if os.path.exists(socket):
                os.unlink(socket)  # librte_vhost does not take over what a killed process left
            argv += ['--socket', socket]
        cpu = context.backend_cpu
        argv += ['--', '--lcores', f'0@{cpu},1@{cpu}', '--no-pci', '--in-memory', '-m', '64',
                 '--no-telemetry', '--file-prefix', 'rwbench_drain']
        self.process = Process(argv, cpu, context.log_path(f'drain-{self.name}'), text=True,
                               stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                               env=os.environ | self.environment(context))
        self.pid = self.process.pid
        if self.process.popen.stdout.readline() != 'ready\n':
            self.process.popen.wait(5)
            self.process.check_alive()
        self.select(case)

    def program(self, context):
        return context.program('tests/bench/drain/drain')

    def environment(self, context):
        return {}

    def select(self, case):
        """Which of the stages the counters are of."""
        self.stage = case.path
        self.anchor = self.within = f'drain_{case.path}'

    def _ask(self):
        self.process.popen.stdin.write('read\n')
        self.process.popen.stdin.flush()
        line = self.process.popen.stdout.readline()
        if not line:
            self.process.popen.wait(5)
            self.process.check_alive()
        return json.loads(line)

    def worker_tid(self):
        for tid, name in threads(self.pid).items():
            if 'worker' in name:
                return tid
        raise BenchError(f'drain {self.pid}: no worker thread found')

    def read(self):
        counters = self._ask()[self.stage]
        return {'packets': counters['packets'], 'busy_cycles': counters['cycles'],
                'bursts': counters['bursts']}

    def packets_standing(self):
        return self._ask()[self.stage]['packets']

    def n_spoiled(self):
        """Rounds so far that are in no other counter: the engine took fewer frames than there were."""
        return self._ask()[self.stage]['short']

    def features(self):
        return sorted({feature_names(word) for word in self._ask()['features']})

    def end(self):
        self.process.end()


class RingwayDrain(DrainBackend):
    """Guest ports, a bridge, a NIC port over a ring device; no daemon around them."""
    name = engine = 'ringway'


class VhostDrain(DrainBackend):
    """librte_vhost as Debian builds it."""
    name = engine = 'rte_vhost'


class NativeVhostDrain(DrainBackend):
    """librte_vhost built for this very CPU; the rest of DPDK stays Debian's."""
    name = 'native'
    engine = 'rte_vhost'

    def environment(self, context):
        return {'LD_LIBRARY_PATH': native_vhost.directory(context)}

    @staticmethod
    def unavailable(context):
        """Why it cannot be measured here, or None; builds it the first time."""
        return native_vhost.build(context)
