# SPDX-License-Identifier: BSD-3-Clause
"""Ringway's daemon as back end."""
import json
import socket

from .process import BenchError, Process, threads, wait_until
from .ringbench import IdleGuests

# One guest: its frames cross to a DPDK ring port, which hands every frame straight back.
# Sizes are without FCS, so 1518 bytes are more than an MTU of 1500 lets through.
LOOP_CONFIG = '''workers: {{cpus: "{cpu}"}}
ports:
  - {{name: vm1, type: guest, socket: {sockets[0]}, role: listen}}
  - {{name: back, type: nic, device: net_ring0, mtu: 1504}}
cross_connects:
  - {{ports: [vm1, back], lossless: true}}
control: {{socket: {control}}}
'''

# Twice what the curves offer it: addresses for which there is no room would be flooded.
FDB_MAX = 262144


def _pair_config(cpu, sockets, idle_sockets, control, fdb):
    """Guest to guest: a bridge of two guest ports, which learns and looks up MAC addresses; and
    another bridge with the ports that are only there."""
    names = [f'vm{i + 1}' for i in range(len(sockets))]
    idle = [f'idle{i + 1}' for i in range(len(idle_sockets))]
    lines = [f'workers: {{cpus: "{cpu}"}}', 'ports:']
    lines += [f'  - {{name: {name}, type: guest, socket: {path}, role: listen}}'
              for name, path in zip(names + idle, list(sockets) + list(idle_sockets))]
    lines += ['bridges:', f'  - {{name: br0, ports: [{", ".join(names)}]{fdb}}}']
    if idle:
        lines.append(f'  - {{name: br1, ports: [{", ".join(idle)}]}}')
    return '\n'.join(lines + [f'control: {{socket: {control}}}', ''])


class RingwayBackend:
    """One worker on the back end's CPU, the control thread beside it."""
    name = 'ringway'
    within = None
    hugepages_2mb = 160

    def __init__(self, context, case):
        self.rpc = None
        self.idle_guests = None
        self.select(case)
        self.sockets = [context.path(f'ringway{i}.sock') for i in range(case.n_guests())]
        n_idle = case.value - len(self.sockets) if case.axis in ('ports', 'idle') else 0
        idle_sockets = [context.path(f'idle{i}.sock') for i in range(n_idle)]
        self.control = context.path('ringway.ctl')
        if case.path == 'loop':
            text = LOOP_CONFIG.format(cpu=context.backend_cpu, sockets=self.sockets,
                                      control=self.control)
        else:
            text = _pair_config(context.backend_cpu, self.sockets, idle_sockets, self.control,
                                f', fdb_max: {FDB_MAX}' if case.axis == 'macs' else '')
        self._launch(context, text)
        if case.axis == 'idle' and n_idle > 0:
            self._idle_guests_start(context, idle_sockets)

    def _launch(self, context, text):
        config = context.path('ringway.yaml')
        with open(config, 'w', encoding='utf-8') as file:
            file.write(text)
        self.process = Process([context.program('app/ringway/ringway'), '--config', config],
                               context.backend_cpu, context.log_path('ringway'))
        self.pid = self.process.pid
        wait_until(self._ready, 20, f'ringway: control socket (log: {self.process.log_path})')

    def _idle_guests_start(self, context, sockets, traffic=True):
        self.idle_guests = IdleGuests(context, sockets, traffic)
        wait_until(lambda: self._idle_running(len(sockets)), 60,
                   f'ringway: {len(sockets)} idle guests')

    def _idle_running(self, n_idle):
        self.idle_guests.check_alive()
        ports = self.ask('port.show')['ports']
        return sum(port['name'].startswith('idle') and port['state'] == 'running'
                   for port in ports) == n_idle

    def _ready(self):
        self.process.check_alive()
        return 'ready' in self.process.log_text()

    def ask(self, method, **params):
        """The result of one JSON-RPC call on the control socket, kept open: a new ringwayctl each
        time would take CPU time from the threads being measured."""
        if self.rpc is None:
            connection = socket.socket(socket.AF_UNIX)
            connection.settimeout(20)
            connection.connect(self.control)
            self.rpc = connection.makefile('rw', encoding='utf-8', newline='\n')
        try:
            request = {'jsonrpc': '2.0', 'id': 1, 'method': method}
            self.rpc.write(json.dumps(request | ({'params': params} if params else {})) + '\n')
            self.rpc.flush()
            answer = json.loads(self.rpc.readline())
        except (OSError, ValueError) as err:
            self.process.check_alive()
            raise BenchError(f'ringway: {method}: no answer on {self.control}: {err}') from err
        if 'error' in answer:
            raise BenchError(f'ringway: {method}: {answer["error"]["message"]}')
        return answer['result']

    def worker_tid(self):
        for tid, name in threads(self.pid).items():
            if 'worker' in name:
                return tid
        raise BenchError(f'ringway {self.pid}: no worker thread found')

    def read(self):
        """Counters of one moment; the difference of two readings is a window."""
        worker = self.ask('worker.show')['workers'][0]
        return {'packets': self.packets_standing(), 'busy_cycles': worker['busy_cycles'],
                'bursts': 0}  # its rounds include idle ones

    def packets_standing(self):
        """Frames taken from guests so far, readable while the worker is held."""
        ports = self.ask('stats')['ports']
        return sum(port['rx_packets'] for port in ports if port['name'].startswith('vm'))

    def features(self):
        """By name, of every guest port that is measured."""
        ports = self.ask('port.show')['ports']
        return sorted({' '.join(port['features']) for port in ports
                       if port['name'].startswith('vm')})

    def select(self, case):
        """With many queues only whole rounds are comparable: what the worker calls once in each."""
        self.anchor = 'forward_notify' if case.axis else 'guest_receive'

    def n_spoiled(self):
        """Every round counts."""
        return 0

    def end(self):
        if self.idle_guests is not None:
            self.idle_guests.end()
        if self.rpc is not None:
            self.rpc.close()
        self.process.end()
