# SPDX-License-Identifier: BSD-3-Clause
"""ringbench, the project's load generator, as source and sink of frames."""
import json
import signal
import subprocess

from . import machine
from .process import BenchError, Process, threads, wait_until

# Longer than any measurement: the bench ends it with SIGINT, upon which it reports.
DURATION_S = 600
# A stepped worker takes a second for a burst; one at full speed that keeps frames so long has lost them.
STEPPED_STALL_S = 15
STALL_S = 1
# More than ringbench sends before it measures.
WARM_UP_PACKETS = 100
# To wait for the last frames, at real-time priority; and without.
ENDING_S = 0.2
LATE_S = 60


def _argv(context, sockets, options, duration_s, stall_s=STALL_S, cpu=None):
    argv = [context.program('app/ringbench/ringbench'), '--json', *options,
            '--duration', str(duration_s), '--stall', str(stall_s),
            '--cpu', str(context.generator_cpu if cpu is None else cpu)]
    for path in sockets:
        argv += ['--socket', path]
    return argv


def lacks(context, word):
    """Whether this build's ringbench does not know the option or feature."""
    done = subprocess.run([context.program('app/ringbench/ringbench'), '--help'],
                          capture_output=True, text=True, timeout=10, check=False)
    return word not in done.stdout


def report_of(context, backend, options, duration_s):
    """What a run of that length says at its end. It is shorter than what the kernel lets real-time
    threads take in a row."""
    process = Process(_argv(context, backend.sockets, options, duration_s), context.generator_cpu,
                      context.log_path('generator'), text=True, stdout=subprocess.PIPE)
    tids = {'worker': (backend.pid, backend.worker_tid()), 'generator': (process.pid, process.pid)}
    before = backend.packets_standing()
    try:
        # who answers at the socket may be a thread that is not to be pushed aside
        wait_until(lambda: not process.alive() or backend.packets_standing() > before + WARM_UP_PACKETS,
                   LATE_S, f'{backend.name}: first packets')
        with machine.Boost(tids, context.realtime):
            try:
                process.popen.wait(duration_s + ENDING_S)
            except subprocess.TimeoutExpired:
                pass  # a busy machine: go on without pushing others aside
        report = json.loads(process.popen.communicate(timeout=LATE_S)[0])
    except (subprocess.TimeoutExpired, ValueError) as err:
        raise BenchError(f'ringbench: no report; the end of its log {process.log_path}:\n'
                         f'{process.log_tail()}') from err
    finally:
        process.end()
    if 'own' not in report:
        raise BenchError(f'ringbench: {report.get("error", report)}')
    return report


def plain_report_of(context, sockets, options, duration_s, cpu=None):
    """The same for as long as it takes, beside whatever else the machine does; on the generator's CPU or another."""
    cpu = context.generator_cpu if cpu is None else cpu
    process = Process(_argv(context, sockets, options, duration_s, cpu=cpu), cpu,
                      context.log_path('generator'), text=True, stdout=subprocess.PIPE)
    try:
        report = json.loads(process.popen.communicate(timeout=duration_s + LATE_S)[0])
    except (subprocess.TimeoutExpired, ValueError) as err:
        raise BenchError(f'ringbench: no report; the end of its log {process.log_path}:\n'
                         f'{process.log_tail()}') from err
    finally:
        process.end()
    if 'own' not in report:
        raise BenchError(f'ringbench: {report.get("error", report)}')
    return report


class IdleGuests:
    """Guests that are connected and send a frame a second, or none; several to a process."""
    PER_PROCESS = 16
    RING = 64

    def __init__(self, context, sockets, traffic=True):
        self.processes = []
        for first in range(0, len(sockets), self.PER_PROCESS):
            some = sockets[first:first + self.PER_PROCESS]
            options = ['--topology', 'pair', '--ring', str(self.RING), '--sleep', '--deadline', '30']
            options += ['--rate', '1'] if traffic else ['--idle']
            self.processes.append(Process(_argv(context, some, options, DURATION_S),
                                          context.generator_cpu, context.log_path('idle')))

    def check_alive(self):
        for process in self.processes:
            process.check_alive()

    def end(self):
        for process in self.processes:
            process.end()


class RingbenchGenerator:
    """Closed loop; every frame carries a sequence number and a checksum."""
    name = 'ringbench'

    def __init__(self, context, sockets, case, stepped=False):
        """`stepped`: the back end's worker is going to be."""
        self.stall_s = STEPPED_STALL_S if stepped else STALL_S
        argv = _argv(context, sockets, case.generator_options(context), DURATION_S, self.stall_s)
        self.process = Process(argv, context.generator_cpu, context.log_path('generator'),
                               text=True, stdout=subprocess.PIPE)
        self.pid = self.process.pid

    def worker_tid(self):
        """The thread that polls: it has used the most CPU time."""
        return max(threads(self.pid), key=lambda tid: machine.thread_cpu_ns(self.pid, tid))

    def read(self):
        """ringbench tells its own cost once, at its end."""
        return None

    def summary(self):
        """Ends it; what it has counted, for a message."""
        total = self._report()['total']
        return ', '.join(f'{key} {total[key]}' for key in ('sent', 'received', 'lost', 'stalls'))

    def result(self):
        """Ends it; {cycles per frame, ...} and whether every check held."""
        report = self._report()
        return {'cycles_per_packet': report['own']['cycles_per_frame'],
                'frames_per_turn': report['own']['frames_per_turn'],
                'failed': report['failed']}

    def _report(self):
        self.process.popen.send_signal(signal.SIGINT)
        try:
            report = json.loads(self.process.popen.communicate(timeout=self.stall_s + 10)[0])
        except (subprocess.TimeoutExpired, ValueError) as err:
            raise BenchError(f'ringbench: no report after SIGINT; the end of its log '
                             f'{self.process.log_path}:\n{self.process.log_tail()}') from err
        finally:
            self.end()
        if 'own' not in report:
            raise BenchError(f'ringbench: {report}')
        return report

    def end(self):
        self.process.end()
