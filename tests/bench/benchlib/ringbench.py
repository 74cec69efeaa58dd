# SPDX-License-Identifier: BSD-3-Clause
"""ringbench, the project's load generator, as source and sink of frames."""
import json
import signal
import subprocess

from .process import BenchError, Process, threads

# Longer than any measurement: the bench ends it with SIGINT, upon which it reports.
DURATION_S = 600
# A stepped worker takes a second for a burst.
STALL_S = 15


class RingbenchGenerator:
    """Closed loop; every frame carries a sequence number and a checksum."""
    name = 'ringbench'

    def __init__(self, context, sockets, topology, size):
        argv = [context.program('app/ringbench/ringbench'), '--json', '--topology', topology,
                '--size', str(size), '--ring', str(context.ring),
                '--window', str(context.in_flight), '--duration', str(DURATION_S),
                '--stall', str(STALL_S),
                '--cpu', str(context.generator_cpu)]
        for path in sockets:
            argv += ['--socket', path]
        self.process = Process(argv, context.generator_cpu, context.log_path('generator'),
                               text=True, stdout=subprocess.PIPE)
        self.pid = self.process.pid

    def worker_tid(self):
        """The thread that polls: it has used the most CPU time."""
        def cpu_ns(tid):
            with open(f'/proc/{self.pid}/task/{tid}/schedstat', encoding='ascii') as file:
                return int(file.read().split()[0])
        return max(threads(self.pid), key=cpu_ns)

    def read(self):
        """ringbench tells its own cost once, at its end."""
        return None

    def result(self):
        """Ends it; {cycles per frame, ...} and whether every check held."""
        self.process.popen.send_signal(signal.SIGINT)
        try:
            report = json.loads(self.process.popen.communicate(timeout=10)[0])
        except (subprocess.TimeoutExpired, ValueError) as err:
            raise BenchError(f'ringbench: no report after SIGINT; the end of its log '
                             f'{self.process.log_path}:\n{self.process.log_tail()}') from err
        finally:
            self.end()
        if 'own' not in report:
            raise BenchError(f'ringbench: {report}')
        return {'cycles_per_packet': report['own']['cycles_per_frame'],
                'frames_per_turn': report['own']['frames_per_turn'],
                'failed': report['failed']}

    def end(self):
        self.process.end()
