# SPDX-License-Identifier: BSD-3-Clause
"""Latency from guest to guest at shares of the closed-loop rate, by ringbench's own stamps."""
import collections
import statistics

from . import machine, measure
from .case import Case
from .process import BenchError
from .ringbench import report_of

SHARES = (0.1, 0.5, 0.9)
QUANTILES = ('p50', 'p90', 'p99', 'p99_9', 'max')
DIRECTIONS = 2
# The back ends compared.
SIDES = ('ringway', 'testpmd')


def _rate_options(case, context, rate_pps):
    """Open loop: the frames in flight are not bounded by a window."""
    options = case.generator_options(context)
    at = options.index('--window')
    return options[:at] + ['--rate', str(rate_pps)] + options[at + 2:]


def _one(context, backend, options, duration_s):
    """One run of the generator, with what the CPUs were like before and after it."""
    probes = [_probe(context)]
    report = report_of(context, backend, options, duration_s)
    probes.append(_probe(context))
    return report, {key: max(probe[key] for probe in probes) for key in probes[0]}


def _probe(context):
    # before the back end's worker, which polls
    with machine.Boost({}, context.realtime):
        probe = machine.probe(context)
    context.probe_seen(probe)
    return probe


def _measure(context, backend, case, duration_s, points):
    """Adds a round to every point of one side."""
    closed, _ = _one(context, backend, case.generator_options(context), duration_s)
    closed_pps = closed['total']['mpps'] * 1e6 / DIRECTIONS
    for share in SHARES:
        rate_pps = max(int(closed_pps * share), 1)
        report, probe = _one(context, backend, _rate_options(case, context, rate_pps), duration_s)
        total = report['total']
        points.setdefault(share, []).append({
            'rate_pps': rate_pps, 'probe': probe, 'lost': total['lost'],
            'not_sent_in_time': total['not_sent_in_time'],
            'preempted': report['own']['preempted'],
            'generator_cycles_per_packet': report['own']['cycles_per_frame'],
            'latency_ns': total['latency_ns']})


def run(bench, size=64):
    """{side: {share: {placement of the CPUs: [rounds]}}}; sides take turns."""
    case = Case('pair', size)
    results = {}
    duration_s = bench.context.settle_s + bench.context.window_s
    for number in range(bench.options.rounds):
        bench.context.note(f'latency: round {number + 1} of {bench.options.rounds}')
        for cls in bench.classes(case):
            if cls.name in SIDES:
                _side(bench, cls, case, duration_s, results.setdefault(cls.name, {}))
    return {side: {share: _by_placement(rounds, bench.context.best_probe)
                   for share, rounds in points.items()} for side, points in results.items()}


def _side(bench, cls, case, duration_s, points):
    backend = bench.backend_start(cls, case)
    try:
        _measure(bench.context, backend, case, duration_s, points)
    except BenchError as err:
        if not bench.options.tolerant:
            raise
        bench.errors.append(f'{cls.name}: latency: {str(err).splitlines()[0]}')
    finally:
        backend.end()


def _by_placement(rounds, best_probe):
    found = {}
    for one in rounds:
        found.setdefault(measure.placement(one, best_probe), []).append(one)
    return found


def common_placement(results):
    """The one with most rounds."""
    counts = collections.Counter()
    for points in results.values():
        for by_placement in points.values():
            counts.update({placement: len(rounds) for placement, rounds in by_placement.items()})
    return counts.most_common(1)[0][0] if counts else None


def _median(rounds, key):
    return statistics.median(one[key] for one in rounds)


def spread_us(rounds, quantile):
    """(least, median, greatest)"""
    values = [one['latency_ns'][quantile] / 1000 for one in rounds]
    return min(values), statistics.median(values), max(values)


ROW = '{:<10} {:>5} {:>10} {:>4} {:>2} ' + '{:>22} ' * 3 + '{:>9} {:>9} {:>9} {:>8} {:>9} {:>8}'


def table(results):
    """A row per side, share and placement of the CPUs: medians (least..greatest) in microseconds."""
    out = [ROW.format('side', 'load', 'Mpps/dir.', 'line', 'n', 'p50 us', 'p90 us', 'p99 us',
                      'p99.9 us', 'max us', 'not sent', 'lost', 'preempted', 'gen. TSC')]
    for side, points in results.items():
        for share, by_placement in points.items():
            for rounds in by_placement.values():
                cells = ['{1:.1f} ({0:.1f}..{2:.1f})'.format(*spread_us(rounds, quantile))
                         for quantile in QUANTILES[:3]]
                cells += [f'{spread_us(rounds, quantile)[1]:.1f}' for quantile in QUANTILES[3:]]
                out.append(ROW.format(
                    side, f'{share:.0%}', f'{_median(rounds, "rate_pps") / 1e6:.2f}',
                    f'{statistics.median(one["probe"]["line"] for one in rounds):.0f}', len(rounds),
                    *cells, *(sum(one[key] for one in rounds)
                              for key in ('not_sent_in_time', 'lost', 'preempted')),
                    f'{_median(rounds, "generator_cycles_per_packet"):.0f}'))
    return '\n'.join(out)
