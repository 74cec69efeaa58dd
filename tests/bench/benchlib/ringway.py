# SPDX-License-Identifier: BSD-3-Clause
"""Ringway's daemon as back end, ringbench as load generator."""
import json
import socket

from .process import BenchError, Process, threads, wait_until

CONFIG = {
    # Guest to guest: a bridge of two guest ports, which learns and looks up MAC addresses.
    'pair': '''workers: {{cpus: "{cpu}"}}
ports:
  - {{name: vm1, type: guest, socket: {sockets[0]}, role: listen}}
  - {{name: vm2, type: guest, socket: {sockets[1]}, role: listen}}
bridges:
  - {{name: br0, ports: [vm1, vm2]}}
control: {{socket: {control}}}
''',
    # One guest: its frames cross to a DPDK ring port, which hands every frame straight back.
    # Sizes are without FCS, so 1518 bytes are more than an MTU of 1500 lets through.
    'loop': '''workers: {{cpus: "{cpu}"}}
ports:
  - {{name: vm1, type: guest, socket: {sockets[0]}, role: listen}}
  - {{name: back, type: nic, device: net_ring0, mtu: 1504}}
cross_connects:
  - {{ports: [vm1, back], lossless: true}}
control: {{socket: {control}}}
''',
}


class RingwayBackend:
    """One worker on the back end's CPU, the control thread beside it."""
    name = 'ringway'
    anchor = 'guest_receive'

    def __init__(self, context, topology):
        self.rpc = None
        self.sockets = [context.path(f'ringway{i}.sock')
                        for i in range(2 if topology == 'pair' else 1)]
        self.control = context.path('ringway.ctl')
        config = context.path('ringway.yaml')
        with open(config, 'w', encoding='utf-8') as file:
            file.write(CONFIG[topology].format(cpu=context.backend_cpu, sockets=self.sockets,
                                               control=self.control))
        self.process = Process([context.program('app/ringway/ringway'), '--config', config],
                               context.backend_cpu, context.log_path('ringway'))
        self.pid = self.process.pid
        wait_until(self._ready, 20, f'ringway: control socket (log: {self.process.log_path})')

    def _ready(self):
        self.process.check_alive()
        return 'ready' in self.process.log_text()

    def _ask(self, method):
        """The result of one JSON-RPC call on the control socket, kept open: a new ringwayctl each
        time would take CPU time from the threads being measured."""
        if self.rpc is None:
            connection = socket.socket(socket.AF_UNIX)
            connection.settimeout(20)
            connection.connect(self.control)
            self.rpc = connection.makefile('rw', encoding='utf-8', newline='\n')
        try:
            self.rpc.write(json.dumps({'jsonrpc': '2.0', 'id': 1, 'method': method}) + '\n')
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
        worker = self._ask('worker.show')['workers'][0]
        return {'packets': self.packets_standing(), 'busy_cycles': worker['busy_cycles'],
                'bursts': 0}  # its rounds include idle ones

    def packets_standing(self):
        """Frames taken from guests so far, readable while the worker is held."""
        ports = self._ask('stats')['ports']
        return sum(port['rx_packets'] for port in ports if port['name'].startswith('vm'))

    def features(self):
        """By name, of every guest port."""
        ports = self._ask('port.show')['ports']
        return sorted({' '.join(port['features']) for port in ports if port['type'] == 'guest'})

    def end(self):
        if self.rpc is not None:
            self.rpc.close()
        self.process.end()
