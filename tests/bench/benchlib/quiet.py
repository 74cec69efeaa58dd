# SPDX-License-Identifier: BSD-3-Clause
"""How quiet Ringway is with nothing to do, how fast it wakes up, and whether it ever misses that it should."""
import collections
import contextlib
import os
import statistics
import time
from typing import NamedTuple, Optional

from . import machine, measure
from .case import Case
from .ovs import OvsSleepBackend
from .process import BenchError
from .ringbench import RingbenchGenerator, plain_report_of, report_of
from .ringway import RingwayBackend
from .testpmd import TestpmdBackend

# What a run of ringbench that counts bursts may take at most.
BURSTS_LIMIT_S = 900
# Shorter than what the kernel lets real-time threads take in a row.
BOOSTED_S = 0.7
# After guests have connected: control has its own work, the worker learns addresses.
SETTLE_S = 1

RINGS = {'split': '', 'split, event index': '+event_idx', 'packed': '+packed',
         'packed, event index': '+packed,+event_idx'}
# Who else a trickle is measured with.
OTHERS = {'testpmd': TestpmdBackend, 'ovs': OvsSleepBackend}
COALESCE = {'frames': 32, 'us': 50}


class Scale(NamedTuple):
    """How long and how often."""
    guests: int = 64
    idle_s: float = 10
    windows: int = 10
    bursts: int = 1000000
    boosted_runs: int = 8
    trickle_s: float = 10
    pings: int = 1000


QUICK = Scale(guests=16, idle_s=2, windows=2, bursts=10000, boosted_runs=1, trickle_s=1.5, pings=50)


class Figure(NamedTuple):
    what: str
    value: Optional[float]  # None: not measured
    unit: str
    wanted: str       # '' : nothing in particular
    ok: Optional[bool]  # None: nothing to judge
    conditions: str = ''
    detail: Optional[dict] = None

    def verdict(self):
        if self.value is None:
            return 'not measured'
        return {True: 'ok', False: 'missed', None: '-'}[self.ok]


# ---- The daemon ----

def config(cpu, sockets, control, coalesce=None):
    """Guests in pairs, a bridge for each; one worker, in the mode that is the default."""
    lines = [f'workers: {{cpus: "{cpu}", mode: adaptive}}', 'ports:']
    extra = f', coalesce: {{frames: {coalesce["frames"]}, us: {coalesce["us"]}}}' if coalesce else ''
    lines += [f'  - {{name: {name}, type: guest, socket: {path}, role: listen{extra}}}'
              for name, path in sockets.items()]
    names = list(sockets)
    lines.append('bridges:')
    lines += [f'  - {{name: br{i // 2}, ports: [{names[i]}, {names[i + 1]}]}}'
              for i in range(0, len(names), 2)]
    return '\n'.join(lines + [f'control: {{socket: {control}}}', ''])


class QuietRingway(RingwayBackend):
    """`n_idle` guests that send nothing, and `n_busy` sockets for those that do."""

    def __init__(self, context, n_busy=2, n_idle=0, coalesce=None):
        self.rpc = None
        self.idle_guests = None
        self.select(Case())
        self.sockets = [context.path(f'quiet{i}.sock') for i in range(n_busy)]
        idle_sockets = [context.path(f'idle{i}.sock') for i in range(n_idle)]
        self.control = context.path('ringway.ctl')
        named = {f'vm{i + 1}': path for i, path in enumerate(self.sockets)}
        named |= {f'idle{i + 1}': path for i, path in enumerate(idle_sockets)}
        self._launch(context, config(context.backend_cpu, named, self.control, coalesce))
        if n_idle:
            self._idle_guests_start(context, idle_sockets, traffic=False)

    def worker(self, *fields):
        """A field of its one worker, by the names on the way to it."""
        value = self.ask('worker.show')['workers'][0]
        for i, name in enumerate(fields):
            if name not in value:
                raise BenchError(f'ringway: worker.show has no field {".".join(fields[:i + 1])}')
            value = value[name]
        return value

    def mode(self, word):
        self.ask('worker.mode', mode=word)


@contextlib.contextmanager
def started(bench, cls, *args, **kwargs):
    bench.hugepages.ensure(cls.hugepages_2mb)
    backend = cls(bench.context, *args, **kwargs)
    try:
        yield backend
    finally:
        backend.end()


def cpu_share(backend, duration_s, meanwhile=time.sleep):
    """Of one CPU, that the worker's thread takes while meanwhile(duration_s) runs; and what that returned."""
    tid = backend.worker_tid()
    begin, cpu_begin = time.monotonic(), machine.thread_cpu_ns(backend.pid, tid)
    result = meanwhile(duration_s)
    end, cpu_end = time.monotonic(), machine.thread_cpu_ns(backend.pid, tid)
    return (cpu_end - cpu_begin) / 1e9 / (end - begin), result


def boosted(bench, backend, options, n_runs):
    """Reports of short runs at real-time priority, where other programs do not get in between."""
    return [report_of(bench.context, backend, options, BOOSTED_S) for _ in range(n_runs)]


def quantiles_us(reports, name):
    """Of a quantity of each run's total: medians over the runs in microseconds, and the greatest of all."""
    found = [report['total'][name] for report in reports]
    result = {key: statistics.median(one[key] for one in found) / 1000 for key in ('p50', 'p90', 'p99')}
    return result | {'max': max(one['max'] for one in found) / 1000}


def in_words(quantiles):
    return ', '.join(f'{key} {value:.1f}' for key, value in quantiles.items()) + ' us'


# ---- The figures ----

def idle(bench, scale):
    """Nothing to do, and nothing done."""
    with started(bench, QuietRingway, n_busy=0, n_idle=scale.guests) as backend:
        time.sleep(SETTLE_S)
        # the reading itself is a request to the worker at most
        before = backend.worker('wakeups')
        share, _ = cpu_share(backend, scale.idle_s)
        after = backend.worker('wakeups')
        still_polling = backend.worker('keeps_polling')
    wakeups = {cause: after[cause] - before.get(cause, 0) for cause in after}
    if 'timer' not in wakeups:
        raise BenchError('ringway: worker.show has no field wakeups.timer')
    conditions = f'{scale.guests} guests that send nothing, adaptive, {scale.idle_s:g} s'
    detail = {'wakeups': wakeups, 'keeps_polling': still_polling}
    return [Figure('CPU of the worker, idle', share * 100, '%', '< 0.5', share < 0.005, conditions, detail),
            Figure('wake-ups by timer, idle', wakeups['timer'], '', '0', wakeups['timer'] == 0, conditions,
                   detail)]


def full_load(bench, scale):
    """Adaptive against poll, window by window in turn."""
    case, rates, cycles = Case(), collections.defaultdict(list), collections.defaultdict(list)
    with started(bench, QuietRingway) as backend:
        generator = RingbenchGenerator(bench.context, backend.sockets, case)
        try:
            for _ in range(scale.windows):
                for mode in ('poll', 'adaptive'):
                    backend.mode(mode)
                    one = measure.rate(bench.context, backend, generator)
                    rates[mode].append(one['mpps'])
                    cycles[mode].append(one['cycles_per_packet'])
        finally:
            generator.end()
    ratio = statistics.median(ours / theirs for ours, theirs in zip(rates['adaptive'], rates['poll']))
    return [Figure('full load, adaptive to poll', ratio, '', '>= 0.99', ratio >= 0.99,
                   f'{scale.windows} windows of {bench.context.window_s:g} s each, in turn, one daemon, 64 bytes; '
                   f'{statistics.median(rates["poll"]):.2f} Mpps, '
                   f'{statistics.median(cycles["poll"]):.1f} and {statistics.median(cycles["adaptive"]):.1f} TSC cycles',
                   {'mpps': dict(rates), 'cycles_per_packet': dict(cycles)})]


def first_frames(bench, scale):
    """On/off traffic: four ring forms, each against a worker that sleeps at once and against one that looks on for a
    while; the guests of the first sleep, too."""
    n_sockets, lost, n_bursts, kicked, runs = 4, 0, 0, 0, []
    with started(bench, QuietRingway, n_busy=n_sockets) as backend:
        for rings, features in RINGS.items():
            for mode, ways in (('interrupt', ['--sleep']), ('adaptive', [])):
                backend.mode(mode)
                options = ['--bursts', str(max(scale.bursts // (2 * len(RINGS) * n_sockets), 1)),
                           '--pause-us', '5000', *ways, *(['--features', features] if features else [])]
                report = plain_report_of(bench.context, backend.sockets, options, BURSTS_LIMIT_S)
                total = report['total']
                _require_features(report, features)
                runs.append({'rings': rings, 'mode': mode, 'seed': report['conditions']['bursts']['seed'],
                             'losses': report['losses'], 'ok': report['ok'],
                             **{key: total[key] for key in ('bursts', 'kicked_bursts', 'lost_wakeups', 'lost')}})
                lost += total['lost_wakeups'] + (0 if report['ok'] or total['lost_wakeups'] else 1)
                n_bursts, kicked = n_bursts + total['bursts'], kicked + total['kicked_bursts']
    # bursts that found the worker awake show nothing
    asleep = all(run['kicked_bursts'] > 0 for run in runs)
    return [Figure('bursts lost', lost, '', '0', lost == 0 and asleep,
                   f'{n_bursts} bursts, {kicked} of them kicked, pauses of 0 to 5000 us, {len(RINGS)} ring forms, '
                   'interrupt and adaptive' + ('' if asleep else '; in some runs the worker never slept'),
                   {'runs': runs})]


def _require_features(report, features):
    for word in filter(None, features.split(',')):
        for socket in report['conditions']['sockets']:
            if word[1:] not in socket['features'].split(','):
                raise BenchError(f'ringway: {word[1:]} was not negotiated')


def kick(bench, scale):
    """One frame at a time to a worker that sleeps."""
    with started(bench, QuietRingway) as backend:
        reports = boosted(bench, backend, ['--one-way', '--batch', '1', '--pause-us', '4000'],
                          scale.boosted_runs)
        own = backend.worker('wake_ns')
    bare = machine.wake_probe(bench.context)
    n_kicks = sum(report['total']['kick_ns']['n'] for report in reports)
    if not n_kicks:
        raise BenchError('ringway never asked for a kick: its worker did not sleep')
    us = quantiles_us(reports, 'kick_ns')
    buckets = collections.Counter()
    for report in reports:
        buckets.update({bucket['below_ns']: bucket['n'] for bucket in report['total']['kick_ns']['buckets']})
    n_frames = sum(report['total']['sent'] for report in reports)
    conditions = (f'{n_kicks} kicks of {n_frames} frames, pauses of 0 to 4000 us, adaptive; {in_words(us)}; '
                  f'of it in the worker p50 {own["p50"] / 1000:.1f} us; '
                  f'a bare eventfd on this machine p50 {bare["p50"] / 1000:.1f} us')
    return [Figure('kick to first frame, median', us['p50'], 'us', '< 15', us['p50'] < 15, conditions,
                   {'kick_us': us, 'worker_wake_ns': own, 'bare_wake_ns': bare,
                    'buckets': [{'below_ns': below, 'n': n} for below, n in sorted(buckets.items())]})]


def kick_on_one_cpu(bench, scale):
    """The same without an interrupt from CPU to CPU, which takes as long as the machine makes it: the generator is on the
    worker's CPU, and a worker that is woken goes first. Going to sleep again is within the figure."""
    with started(bench, QuietRingway) as backend:
        backend.mode('interrupt')
        try:
            os.sched_setscheduler(backend.worker_tid(), os.SCHED_FIFO, os.sched_param(1))
        except PermissionError:
            bench.leave_out('kick to first frame on one CPU', 'needs real-time scheduling')
            return []
        report = plain_report_of(bench.context, backend.sockets, ['--one-way', '--batch', '1', '--pause-us', '4000'],
                                 scale.trickle_s, bench.context.backend_cpu)
    kicks = report['total']['kick_ns']
    us = {key: kicks[key] / 1000 for key in ('p50', 'p90', 'p99', 'max')}
    return [Figure('the same on one CPU, median', us['p50'], 'us', '', None,
                   f'{kicks["n"]} kicks, worker goes first, interrupt; {in_words(us)}', {'kick_us': us})]


def trickle(bench, scale):
    """1000 frames a second, one way. What they cost in one long run, how long they take in short ones."""
    figures, options = [], ['--one-way', '--rate', '1000']
    sides = [('ringway', QuietRingway, ())]
    sides += [(name, cls, (Case(),)) for name, cls in OTHERS.items()
              if name in bench.options.sides and _is_there(bench, name, cls)]
    for name, cls, args in sides:
        with started(bench, cls, *args) as backend:
            time.sleep(SETTLE_S)
            share, report = cpu_share(backend, scale.trickle_s, lambda duration_s, backend=backend: plain_report_of(
                bench.context, backend.sockets, options, duration_s))
            latency = quantiles_us(boosted(bench, backend, options, scale.boosted_runs), 'latency_ns')
        what = {'ovs': f'ovs, pmd-maxsleep={OvsSleepBackend.SLEEP_US}'}.get(name, name)
        figures.append(Figure(
            f'CPU at 1000 frames/s: {what}', share * 100, '%', '< 5' if name == 'ringway' else '',
            share < 0.05 if name == 'ringway' else None,
            f'{report["total"]["received"]} frames, {report["total"]["lost"]} lost; latency {in_words(latency)}',
            {'latency_us': latency}))
    return figures


def _is_there(bench, name, cls):
    reason = cls.unavailable(bench.context) if hasattr(cls, 'unavailable') else None
    if reason:
        bench.leave_out(name, reason)
    return not reason


def calls_allowed(frames, duration_s):
    """With coalescing: one per so many frames or so much time, whichever is more."""
    return max(frames / COALESCE['frames'], duration_s * 1e6 / COALESCE['us'], 1)


def interrupts(bench, scale):
    """A guest that sleeps, and is sent a million frames a second."""
    figures = []
    with started(bench, QuietRingway, coalesce=COALESCE) as backend:
        for on in (True, False):
            if not on:
                backend.ask('port.coalesce', name='vm2', frames=0, us=0)
            reports = boosted(bench, backend, ['--one-way', '--rate', '1000000', '--sleep'], scale.boosted_runs)
            ports = [port for report in reports for port in report['ports'] if port['number'] == 2]
            calls, frames = (sum(port[key] for port in ports) for key in ('calls', 'received'))
            duration_s = sum(report['duration_s'] for report in reports)
            late = sum(report['total']['not_sent_in_time'] for report in reports)
            share = calls / calls_allowed(frames, duration_s)
            figures.append(Figure(
                'interrupts at 1 Mpps, ' + ('of those allowed' if on else 'without coalescing'),
                share if on else calls / max(frames, 1), '' if on else 'per frame',
                '<= 1' if on else '', share <= 1 if on else None,
                (f'coalesce {COALESCE["frames"]} frames, {COALESCE["us"]} us; ' if on else '') +
                f'{calls} calls for {frames} frames: one per {frames / max(calls, 1):.1f}, '
                f'{calls / duration_s:.0f}/s; {late} not sent in time', {'calls': calls, 'received': frames}))
    return figures


def requests(bench, scale):
    """control to the worker and back, each on a CPU of its own."""
    figures = []
    with started(bench, QuietRingway) as backend:
        # its first thread; a polling worker would not let it run
        os.sched_setaffinity(backend.pid, {bench.context.generator_cpu})
        for mode, asleep in (('poll', False), ('interrupt', True)):
            backend.mode(mode)
            time.sleep(0.1)
            answers = []
            for _ in range(scale.pings):
                answers += backend.ask('worker.ping')['workers']
                time.sleep(0.002)
            times = [answer['round_trip_ns'] / 1000 for answer in answers if answer['was_asleep'] == asleep]
            if not times:
                raise BenchError(f'ringway: worker.ping: the worker was never {"asleep" if asleep else "awake"}')
            times.sort()
            figures.append(Figure(
                f'request round trip, {"asleep" if asleep else "polling"}', statistics.median(times), 'us', '', None,
                f'{len(times)} of {len(answers)} requests, control on CPU '
                f'{bench.context.generator_cpu}; p99 {times[int(len(times) * 0.99)]:.1f}, max {times[-1]:.1f} us'))
    return figures


# What each measures, for the row that says it could not be.
MEASUREMENTS = ((idle, 'idle'), (full_load, 'full load, adaptive to poll'), (first_frames, 'bursts lost'),
                (kick, 'kick to first frame'), (kick_on_one_cpu, 'kick to first frame on one CPU'),
                (trickle, 'CPU at 1000 frames/s'),
                (interrupts, 'interrupts at 1 Mpps'), (requests, 'request round trip'))


def run(bench):
    """All figures; what could not be measured is one without a value, and the others go on."""
    scale = QUICK if bench.options.quick else Scale(windows=max(2 * bench.options.rounds, 2))
    if bench.options.wakeups:
        scale = scale._replace(bursts=bench.options.wakeups)
    figures = []
    for function, what in MEASUREMENTS:
        bench.context.note(f'quiet: {what}')
        try:
            figures += function(bench, scale)
        except (BenchError, KeyError) as err:
            lines = [f'no field {err}'] if isinstance(err, KeyError) else str(err).splitlines()
            # a program that ended says why in the last line of its log
            reason = ' '.join(dict.fromkeys((lines[0], lines[-1])))
            bench.context.note(f'quiet: {what}: {reason}')
            bench.errors.append(f'quiet: {what}: {reason}')
            figures.append(Figure(what, None, '', '', None, reason))
    return figures


def failure(figures):
    """None, or why a run has to fail: not for being slow, which a busy machine can bring about."""
    missing = [figure.what for figure in figures if figure.value is None]
    missed = [figure.what for figure in figures if figure.what == 'bursts lost' and figure.value]
    return '; '.join([f'{what}: not measured' for what in missing] + [f'{what}: some' for what in missed]) or None


ROW = '{:<42} {:>10} {:<10} {:>8}  {:<13} {}'


def _number(value):
    if value is None:
        return '-'
    return f'{value}' if isinstance(value, int) else f'{value:.3f}' if value < 10 else f'{value:.1f}'


def histogram(figures):
    """Lines of the kicks' histogram, if they were measured."""
    lines = []
    for figure in figures:
        for bucket in (figure.detail or {}).get('buckets', []):
            lines.append(f'{bucket["n"]:>12} kicks below {bucket["below_ns"] / 1000:.3f} us')
    return lines


def table(figures):
    out = [ROW.format('quiet', 'measured', 'unit', 'wanted', '', 'conditions')]
    out += [ROW.format(figure.what, _number(figure.value), figure.unit, figure.wanted or '-', figure.verdict(),
                       figure.conditions).rstrip() for figure in figures]
    return '\n'.join(out + histogram(figures))


def json_figures(figures):
    return [figure._asdict() | {'verdict': figure.verdict()} for figure in figures]
