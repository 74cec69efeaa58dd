# SPDX-License-Identifier: BSD-3-Clause
"""OVS-DPDK with a database, sockets and logs of its own; the system's, if there is one, is not touched."""
import json
import os
import re
import shutil
import socket
import subprocess

from .process import BenchError, Process, threads, wait_until
from .testpmd import feature_names

# The package's own build: the program of the usual name may be the one without DPDK.
VSWITCHD = '/usr/lib/openvswitch-switch-dpdk/ovs-vswitchd-dpdk'
SCHEMA = '/usr/share/openvswitch/vswitch.ovsschema'
MEMORY_MB = 512


class Unixctl:
    """ovs-vswitchd's control socket, kept open: a new ovs-appctl each time would take CPU time from
    the threads being measured."""

    def __init__(self, path):
        self.path = path
        self.connection = None

    def ask(self, method, *params):
        if self.connection is None:
            self.connection = socket.socket(socket.AF_UNIX)
            self.connection.settimeout(20)
            self.connection.connect(self.path)
        try:
            self.connection.sendall(json.dumps(
                {'method': method, 'params': params, 'id': 0}).encode())
            answer = self._receive()
        except (OSError, ValueError) as err:
            raise BenchError(f'ovs: {method}: no answer on {self.path}: {err}') from err
        if answer.get('error'):
            raise BenchError(f'ovs: {method}: {answer["error"]}')
        return answer['result']

    def _receive(self):
        """One JSON text; nothing marks its end but itself."""
        data = b''
        while True:
            part = self.connection.recv(65536)
            if not part:
                raise ValueError('connection closed')
            data += part
            try:
                return json.loads(data)
            except ValueError:
                continue

    def close(self):
        if self.connection is not None:
            self.connection.close()
            self.connection = None


class OvsBackend:
    """Two dpdkvhostuserclient ports on a bridge, one PMD thread; the ports' rules fixed by flows."""
    name = 'ovs'
    anchor = 'rte_vhost_dequeue_burst'
    within = None
    hugepages_2mb = MEMORY_MB // 2 + 64
    flows = ('in_port=1,actions=output:2', 'in_port=2,actions=output:1')
    other_config = ()

    def __init__(self, context, case):
        self.directory = context.path('ovs')
        shutil.rmtree(self.directory, ignore_errors=True)
        os.mkdir(self.directory)
        self.context = context
        self.environment = os.environ | {f'OVS_{kind}DIR': self.directory
                                         for kind in ('RUN', 'LOG', 'DB')}
        self.bridge = f'rwb{os.getpid()}'
        paths = [self._path(f'vh{i}') for i in range(case.n_guests())]
        # OVS connects
        self.sockets = [f'{path},listen' for path in paths]
        self.database = self._database_start()
        self.process = self._switch_start()
        self.pid = self.process.pid
        self.control = Unixctl(self._path('vswitchd.ctl'))
        self._bridge_make(paths)

    def _path(self, name):
        return os.path.join(self.directory, name)

    def _run(self, *argv):
        done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False,
                              env=self.environment)
        if done.returncode != 0:
            raise BenchError(f'{" ".join(argv)}: {done.stderr.strip()}')
        return done.stdout

    def _vsctl(self, *words):
        return self._run('ovs-vsctl', f'--db=unix:{self._path("db.sock")}', '--timeout=30', *words)

    def _database_start(self):
        self._run('ovsdb-tool', 'create', self._path('conf.db'), SCHEMA)
        database = Process(
            ['ovsdb-server', self._path('conf.db'), f'--remote=punix:{self._path("db.sock")}',
             f'--unixctl={self._path("ovsdb.ctl")}', '--no-chdir', '-vconsole:warn'],
            self.context.generator_cpu, self.context.log_path('ovsdb'), env=self.environment)
        wait_until(lambda: os.path.exists(self._path('db.sock')), 20, 'ovs: database')
        return database

    def _switch_start(self):
        mask = hex(1 << self.context.backend_cpu)
        self._vsctl('--no-wait', 'init')
        self._vsctl('--no-wait', 'set', 'Open_vSwitch', '.', 'other_config:dpdk-init=true',
                    'other_config:dpdk-extra=--no-pci --in-memory --no-telemetry '
                    '--file-prefix=rwbench_ovs', f'other_config:dpdk-lcore-mask={mask}',
                    f'other_config:pmd-cpu-mask={mask}',
                    f'other_config:dpdk-socket-mem={MEMORY_MB}',
                    f'other_config:dpdk-socket-limit={MEMORY_MB}',
                    *(f'other_config:{setting}' for setting in self.other_config))
        return Process(
            [VSWITCHD, f'unix:{self._path("db.sock")}', f'--unixctl={self._path("vswitchd.ctl")}',
             '--no-chdir', '-vconsole:info'],
            self.context.backend_cpu, self.context.log_path('ovs'), env=self.environment)

    def _bridge_make(self, paths):
        words = ['add-br', self.bridge, '--', 'set', 'bridge', self.bridge, 'datapath_type=netdev']
        for i, path in enumerate(paths):
            words += ['--', 'add-port', self.bridge, f'vh{i}', '--', 'set', 'Interface', f'vh{i}',
                      'type=dpdkvhostuserclient', f'options:vhost-server-path={path}',
                      'options:n_rxq=1', f'ofport_request={i + 1}']
        self._vsctl(*words)
        self.process.check_alive()
        management = f'unix:{self._path(self.bridge)}.mgmt'
        self._run('ovs-ofctl', 'del-flows', management)
        for flow in self.flows:
            self._run('ovs-ofctl', 'add-flow', management, flow)

    def worker_tid(self):
        for tid, name in threads(self.pid).items():
            if name.startswith('pmd'):
                return tid
        raise BenchError(f'ovs {self.pid}: no PMD thread found')

    def read(self):
        """Counters of one moment, as the PMD thread keeps them: processing cycles are those of rounds
        that had packets."""
        text = self.control.ask('dpif-netdev/pmd-stats-show').split('main thread')[0]
        cycles = re.search(r'processing cycles: (\d+)', text)
        packets = re.search(r'packets received: (\d+)', text)
        return {'packets': int(packets.group(1)) if packets else 0,
                'busy_cycles': int(cycles.group(1)) if cycles else 0, 'bursts': 0}

    def packets_standing(self):
        return self.read()['packets']

    def features(self):
        # not from the log: OVS drops lines of it when there are many
        words = [self._vsctl('get', 'Interface', f'vh{i}', 'status:features').strip().strip('"')
                 for i in range(len(self.sockets))]
        return sorted({feature_names(int(word, 16)) for word in words})

    def select(self, case):
        """It does the same whatever comes."""

    def n_spoiled(self):
        """Every round counts."""
        return 0

    def end(self):
        """The switch first, so that its network devices go."""
        try:
            self.control.ask('exit', '--cleanup')
            self.process.popen.wait(10)
        except (BenchError, OSError, subprocess.TimeoutExpired):
            pass  # it is killed below
        self.control.close()
        self.process.end()
        self.database.end()

    @staticmethod
    def unavailable(_context):
        """Why it cannot be measured here, or None."""
        for program in (VSWITCHD, SCHEMA, 'ovsdb-server', 'ovsdb-tool', 'ovs-vsctl', 'ovs-ofctl'):
            if not (os.path.exists(program) or shutil.which(program)):
                return f'{program} is not installed (package openvswitch-switch-dpdk)'
        return None


class OvsNormalBackend(OvsBackend):
    """The same with the action NORMAL: it learns MAC addresses, as a bridge of Ringway does."""
    name = 'ovs-normal'
    flows = ('actions=NORMAL',)


class OvsSleepBackend(OvsBackend):
    """Its PMD thread sleeps between rounds with little to do, longer each time, up to SLEEP_US (OVS 3.1 and later
    have two names for it, of which each version takes its own)."""
    name = 'ovs'
    SLEEP_US = 100
    other_config = (f'pmd-maxsleep={SLEEP_US}', f'pmd-sleep-max={SLEEP_US}')
