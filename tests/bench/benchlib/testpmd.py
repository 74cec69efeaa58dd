# SPDX-License-Identifier: BSD-3-Clause
"""DPDK's testpmd: net_vhost back end to compare with, virtio_user load generator."""
import os
import re

from .case import BURST
from .process import BenchError, Console, threads

PROMPT = 'testpmd>'
UNASKED = r'Port \d+: [\w ]+ event'
# of the feature bits net_vhost logs, those of a net device without offloads
FEATURES = {15: 'MRG_RXBUF', 22: 'MQ', 28: 'INDIRECT_DESC', 29: 'EVENT_IDX',
            30: 'PROTOCOL_FEATURES', 32: 'VERSION_1', 34: 'RING_PACKED', 35: 'IN_ORDER'}
MAC = '52:54:00:00:00:{:02x}'


def feature_names(word):
    """Of a net device's feature bits, as one string."""
    return ' '.join(FEATURES.get(bit, f'bit {bit}') for bit in range(64) if word >> bit & 1)


def features_logged(text, n_devices):
    """The sets that the last devices negotiated, from librte_vhost's log."""
    found = re.findall(r'negotiated Virtio features: (0x[0-9a-f]+)', text)
    return sorted({feature_names(int(word, 16)) for word in found[-n_devices:]})


class Testpmd(Console):
    """One worker lcore and the main lcore on the same CPU; the main lcore sleeps in the console."""

    def __init__(self, cpu, log_path, prefix, eal, arguments):
        super().__init__(
            ['dpdk-testpmd', '--lcores', f'0@{cpu},1@{cpu}', '--no-pci', '--in-memory',
             '--no-telemetry', '-m', '128', '--file-prefix', prefix, *eal, '--', '-i',
             '--total-num-mbufs=8192', '--record-core-cycles', '--record-burst-stats',
             '--no-flush-rx', f'--burst={BURST}', *arguments], cpu, log_path, PROMPT,
            UNASKED)
        self.read_prompt(timeout_s=60)  # memory touched for the first time can be slow
        self.command('set fwd io')

    def worker_tid(self):
        for tid, name in threads(self.pid).items():
            if 'worker' in name:
                return tid
        raise BenchError(f'testpmd {self.pid}: no worker thread found')

    def counters(self):
        """Since `start`: packets received, bursts sent, TSC cycles of rounds that had packets."""
        text = self.command('show fwd stats all')
        cycles = re.search(r'cycles=(\d+) / total \w+ packets=(\d+)', text)
        bursts = re.findall(r'TX-bursts : (\d+) \[', text)
        if cycles is None:
            return {'packets': 0, 'bursts': 0, 'busy_cycles': 0}
        return {'busy_cycles': int(cycles.group(1)), 'packets': int(cycles.group(2)),
                'bursts': sum(int(n) for n in bursts)}


class TestpmdBackend:
    """io forwarding between net_vhost ports; with one port its frames go back to it."""
    name = 'testpmd'
    anchor = 'rte_vhost_dequeue_burst'
    within = None
    # and a generator as large as itself
    hugepages_2mb = 160

    def __init__(self, context, case):
        self.sockets = [context.path(f'testpmd{i}.sock') for i in range(case.n_guests())]
        eal = []
        for i, path in enumerate(self.sockets):
            eal += ['--vdev', f'net_vhost{i},iface={path},queues=1']
        self.process = Testpmd(context.backend_cpu, context.log_path('testpmd'), 'rwbench_be',
                               eal, [])
        self.process.command('start')
        self.pid = self.process.pid

    def worker_tid(self):
        return self.process.worker_tid()

    def read(self):
        """Counters of one moment; the difference of two readings is a window."""
        return self.process.counters()

    def packets_standing(self):
        """Packets forwarded so far, readable while the worker is held."""
        text = self.process.command('show port stats all')
        return sum(int(n) for n in re.findall(r'RX-packets:\s*(\d+)', text))

    def features(self):
        """By name, of every port, from net_vhost's log."""
        return features_logged(self.process.log_text(), len(self.sockets))

    def select(self, case):
        """It does the same whatever comes."""

    def n_spoiled(self):
        """Every round counts."""
        return 0

    def end(self):
        self.process.end()
        for path in self.sockets:
            if os.path.exists(path):
                os.unlink(path)


class TestpmdGenerator:
    """virtio_user ports; the first frames circulate for ever through the back end."""
    name = 'testpmd'

    def __init__(self, context, sockets, case, stepped=False):
        if case.variant != 'split' or case.burst != BURST or case.size == 'imix' or case.axis:
            raise BenchError(f'{case.label()}: only the generator ringbench does that')
        eal = ['--single-file-segments']
        arguments = [f'--txd={context.ring}', f'--rxd={context.ring}']
        n = len(sockets)
        for i, path in enumerate(sockets):
            eal += ['--vdev', f'net_virtio_user{i},path={path},queue_size={context.ring},'
                              f'mrg_rxbuf=1,in_order=1,mac={MAC.format(i + 1)}']
            if n > 1:
                arguments.append(f'--eth-peer={i},{MAC.format((i ^ 1) + 1)}')
        self.process = Testpmd(context.generator_cpu, context.log_path('generator'), 'rwbench_ge',
                               eal, arguments)
        self.pid = self.process.pid
        self.process.command(f'set txpkts {case.size}')
        self.process.command(f'start tx_first {context.in_flight // BURST}')

    def worker_tid(self):
        return self.process.worker_tid()

    def read(self):
        """Packets received (and sent again) and the generator's own TSC cycles for them."""
        return self.process.counters()

    def summary(self):
        """What it has counted, for a message."""
        return str(self.read())

    def result(self):
        """Ends it. Its own TSC cycles per packet were read window by window; it checks nothing."""
        self.end()
        return {}

    def end(self):
        self.process.end()
