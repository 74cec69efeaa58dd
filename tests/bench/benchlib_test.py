# SPDX-License-Identifier: BSD-3-Clause
"""The parts of scripts/bench that need nothing to run: cases, stages, targets, plots, page."""
import os
import sys
import tempfile
import types
import unittest
import unittest.mock
import xml.etree.ElementTree as ElementTree

sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))
sys.dont_write_bytecode = True

from benchlib import latency, page, quiet, report, scale, stages, svg, targets  # noqa: E402
from benchlib.bench import Bench  # noqa: E402
from benchlib.case import Case, sweep  # noqa: E402
from benchlib.process import BenchError  # noqa: E402

SVG = '{http://www.w3.org/2000/svg}'


def cell(cycles, instructions=100.0, placement='near', not_negotiated=None):
    """What a finished measurement left."""
    spread = {'median': cycles, 'min': cycles - 1, 'max': cycles + 1}
    numbers = {'cycles_per_packet': spread, 'mpps': spread, 'generator_cycles_per_packet': spread,
               'packets_per_burst': None, 'n_rounds': 5, 'line_cycles': 160,
               'switches': {'worker_nonvoluntary': 0, 'worker_voluntary': 0}}
    return {'numbers': {placement: numbers}, 'rounds': [], 'failed_checks': [], 'features': ['VERSION_1'],
            'not_negotiated': not_negotiated,
            'instructions': {'per_packet': instructions, 'packets_per_visit': 32, 'full': True,
                             'stages': {'parse': instructions}, 'other_functions': {}}}


class Cases(unittest.TestCase):
    def setUp(self):
        self.context = types.SimpleNamespace(ring=256, in_flight=224, backlog=128)

    def test_one_thing_is_varied_at_a_time(self):
        cases = sweep(['pair', 'loop'], [64, 'imix'], ['split', 'packed'], [32, 1])
        self.assertEqual(len(cases), len(set(cases)))
        self.assertEqual(set(cases), {
            Case('pair', 64), Case('pair', 'imix'), Case('loop', 64), Case('loop', 'imix'),
            Case('pair', 64, 'packed'), Case('pair', 64, burst=1)})

    def test_the_generator_is_told_size_features_and_bursts(self):
        options = ' '.join(Case('pair', 'imix', 'packed', 4).generator_options(self.context))
        self.assertIn('--size imix', options)
        self.assertIn('--features +packed', options)
        self.assertIn('--window 4 --batch 4', options)

    def test_in_drain_mode_short_bursts_leave_the_backlog_long(self):
        options = ' '.join(Case('forward', 64, burst=1).generator_options(self.context))
        self.assertIn('--window 224 --batch 128', options)

    def test_a_variant_that_was_not_negotiated_is_noticed(self):
        self.assertIsNone(Case(variant='packed').not_negotiated(['VERSION_1 RING_PACKED']))
        self.assertIn('RING_PACKED', Case(variant='packed').not_negotiated(
            ['VERSION_1 RING_PACKED', 'VERSION_1']))
        self.assertIn('IN_ORDER', Case(variant='any-order').not_negotiated(['IN_ORDER']))
        self.assertIsNone(Case(variant='single').not_negotiated(['IN_ORDER']))

    def test_full_bursts_are_known_by_the_packets_between_two_visits_of_the_anchor(self):
        self.assertEqual(Case(burst=4).packets_per_visit(), 4)
        self.assertEqual(Case(axis='idle', value=64).packets_per_visit(), 64)
        self.assertEqual(Case(axis='queues', value=4).packets_per_visit(), 256)


class Rounds(unittest.TestCase):
    def setUp(self):
        self.bench = Bench.__new__(Bench)
        self.bench.options = types.SimpleNamespace(instructions=0)
        self.bench.context, self.bench.results = None, {}
        self.backend = types.SimpleNamespace(select=lambda case: None, sockets=[],
                                             features=lambda: ['VERSION_1'])

    def measure(self, result):
        self.bench.generator = lambda *_: types.SimpleNamespace(result=result, end=lambda: None)
        cell_of = self.bench.cell(Case(), 'ringway')
        with unittest.mock.patch('benchlib.measure.rate', lambda *_: {'mpps': 1}):
            self.bench.measure(self.backend, Case(), cell_of)

    def test_what_the_generator_found_wrong_is_kept_with_the_round(self):
        self.measure(lambda: {'failed': ['lost']})
        cell_of = self.bench.results[Case()]['ringway']
        self.assertEqual((len(cell_of['rounds']), cell_of['failed_checks']), (1, ['lost']))

    def test_a_round_whose_generator_says_nothing_does_not_count(self):
        def silence():
            raise BenchError('no report')
        with self.assertRaises(BenchError):
            self.measure(silence)
        cell_of = self.bench.results[Case()]['ringway']
        self.assertEqual((cell_of['rounds'], cell_of['failed_checks']), ([], []))


class Failures(unittest.TestCase):
    """One bad measurement, of three that one start serves."""

    def run_with(self, tolerant):
        bench = Bench.__new__(Bench)
        bench.options = types.SimpleNamespace(tolerant=tolerant)
        bench.context = types.SimpleNamespace(note=lambda line: None)
        bench.results, bench.errors, measured, starts = {}, [], [], []

        def measure(_backend, case, _cell):
            if case.size == 256:
                raise BenchError('no packets\nmore of it')
            measured.append(case.size)
        bench.measure = measure
        bench.backend_start = lambda cls, case: starts.append(1) or types.SimpleNamespace(end=lambda: None)
        bench.order = [Case(size=size) for size in (64, 256, 1518)]
        bench.classes = lambda case: [types.SimpleNamespace(name='ringway')]
        bench.round(bench.order)
        return measured, bench.errors, len(starts)

    def test_a_report_goes_on_with_a_fresh_start_and_says_what_failed(self):
        self.assertEqual(self.run_with(True), ([64, 1518], ['ringway, 256: no packets'], 2))

    def test_any_other_run_ends(self):
        with self.assertRaises(BenchError):
            self.run_with(False)


class Stages(unittest.TestCase):
    @staticmethod
    def stage(*chain):
        return stages.stage_of([stages.key(function, place) for function, place in chain])

    def test_functions_of_the_datapath_have_their_stage(self):
        for function, place, stage in (
                ('guest_receive', '../lib/port/guest_datapath.c:1', 'take'),
                ('frame_give', '../lib/port/guest_datapath.c:1', 'give'),
                ('guest_release', '../lib/port/guest_datapath.c:1', 'return'),
                ('vring_device_publish', '../lib/vring/device.c:1', 'return'),
                ('vring_device_needs_call', '../lib/vring/device.c:1', 'notify'),
                ('some_new_parser', '../lib/vring/new.c:1', 'parse'),
                ('give_run', '../lib/port/guest_run_body.h:1', 'give'),
                ('take_plain', '../lib/port/guest_run_body.h:1', 'take'),
                ('vring_fence', '../lib/vring/include/vring/fence.h:1', 'notify'),
                ('bridge_forward', '../lib/bridge/bridge.c:1', 'forward'),
                ('worker_main', '../lib/worker/worker.c:1', 'loop'),
                ('rte_vhost_dequeue_burst', '??:0', 'take')):
            self.assertEqual(self.stage((function, place)), stage, function)

    def test_a_helper_counts_for_whoever_called_it(self):
        memcpy = ('memcpy', '/usr/include/x86_64-linux-gnu/bits/string_fortified.h:29')
        self.assertEqual(self.stage(memcpy, ('frame_give', '../lib/port/guest_datapath.c:1')), 'give')
        self.assertEqual(self.stage(memcpy, ('frame_take', '../lib/port/guest_datapath.c:1')), 'take')

    def test_what_nobody_listed_is_other(self):
        self.assertEqual(self.stage(('surprise', '../lib/port/surprise.c:1')), stages.OTHER)

    def test_every_stage_has_its_place_in_the_order(self):
        self.assertEqual(set(stages.ORDER), {stage for stage, _ in stages.STAGES} | {stages.OTHER})

    def test_the_sum_of_the_stages_is_the_count(self):
        rows = [{'object': '/nowhere/librte_vhost.so.23', 'function': None, 'vaddr': 1, 'per_packet': 2.5},
                {'object': '/nowhere/x', 'function': 'surprise', 'vaddr': 2, 'per_packet': 1.5}]
        by_stage, others = stages.group({'addresses': rows})
        self.assertEqual(by_stage, {'librte_vhost': 2.5, stages.OTHER: 1.5})
        self.assertEqual(others, {':surprise': 1.5})


class Targets(unittest.TestCase):
    @staticmethod
    def verdict(results, what):
        return next((word, outcome) for target, outcome, word in targets.verdicts(results)
                    if target.what == what)

    def test_met_missed_and_not_measured_are_told_apart(self):
        case = Case('pair', 64)
        self.assertEqual(self.verdict({case: {'ringway': cell(50, 150)}}, 'split, 64 bytes')[0], 'ok')
        self.assertEqual(self.verdict({case: {'ringway': cell(50, 151)}}, 'split, 64 bytes')[0], 'missed')
        self.assertEqual(self.verdict({}, 'split, 64 bytes')[0], 'not measured')

    def test_a_variant_that_was_not_negotiated_meets_nothing(self):
        results = {Case('pair', 64, 'packed'): {'ringway': cell(20, 100, not_negotiated='RING_PACKED')}}
        self.assertEqual(self.verdict(results, 'packed, 64 bytes')[0], 'not measured')

    def test_only_the_same_placement_of_the_CPUs_is_compared(self):
        case = Case('pair', 64)
        apart = {case: {'ringway': cell(20), 'ovs': cell(200, placement='apart')}}
        self.assertEqual(self.verdict(apart, '64 bytes, of OVS with flows')[0], 'not measured')
        near = {case: {'ringway': cell(20), 'ovs': cell(200)}}
        word, outcome = self.verdict(near, '64 bytes, of OVS with flows')
        self.assertEqual((word, outcome.value), ('ok', 0.1))

    def test_a_variant_is_measured_against_the_best(self):
        results = {Case('forward', 64, name): {'ringway': cell(cycles)}
                   for name, cycles in (('split', 50), ('single', 40), ('any-order', 44), ('event-idx', 60))}
        self.assertEqual(self.verdict(results, 'any-order, drain')[0], 'ok')
        word, outcome = self.verdict(results, 'event-idx, drain')
        self.assertEqual((word, outcome.value), ('missed', 1.5))

    def test_the_cases_to_measure_are_enough_for_every_target(self):
        sides = ('ringway', 'testpmd', 'ovs', 'ovs-normal', 'rte_vhost')
        results = {case: {side: cell(50) for side in sides} for case in targets.cases()}
        self.assertNotIn('not measured', [word for _, _, word in targets.verdicts(results)])


class FakeRingway:
    """What a daemon would say; `reports` are those of the generator, one for each run."""

    def __init__(self, worker, pings=()):
        self.show, self.pings, self.modes = worker, list(pings), []
        self.pid, self.sockets = os.getpid(), []

    worker = quiet.QuietRingway.worker

    def ask(self, method, **_params):
        return {'workers': [self.pings.pop(0) if method == 'worker.ping' else self.show]}

    def mode(self, word):
        self.modes.append(word)

    def worker_tid(self):
        return self.pid

    def end(self):
        pass


class Quiet(unittest.TestCase):
    SCALE = quiet.QUICK._replace(idle_s=0.01, trickle_s=0.01, pings=2)

    def setUp(self):
        self.notes = []
        self.bench = types.SimpleNamespace(
            context=types.SimpleNamespace(note=self.notes.append, generator_cpu=1, window_s=0.2),
            hugepages=types.SimpleNamespace(ensure=lambda n: None), errors=[], left_out={},
            options=types.SimpleNamespace(sides=['ringway'], quick=True, wakeups=None, rounds=1))

    def figures(self, function, backend, *reports, cpu_ns=(0, 0)):
        reports = list(reports)
        with unittest.mock.patch('benchlib.quiet.QuietRingway', unittest.mock.Mock(
                return_value=backend, hugepages_2mb=0)), \
                unittest.mock.patch('benchlib.quiet.plain_report_of', lambda *_: reports.pop(0)), \
                unittest.mock.patch('benchlib.quiet.report_of', lambda *_: reports.pop(0)), \
                unittest.mock.patch('benchlib.quiet.SETTLE_S', 0), \
                unittest.mock.patch('os.sched_setaffinity', lambda *_: None), \
                unittest.mock.patch('benchlib.machine.wake_probe', lambda _: {'p50': 4300}), \
                unittest.mock.patch('benchlib.machine.thread_cpu_ns',
                                    unittest.mock.Mock(side_effect=list(cpu_ns))):
            return function(self.bench, self.SCALE)

    def test_a_worker_that_slept_through_is_quiet_and_one_that_a_timer_woke_is_not(self):
        wakeups = iter([{'timer': 5, 'kick': 9}, {'timer': 5, 'kick': 9}, {'timer': 5}, {'timer': 6}])
        backend = FakeRingway({'keeps_polling': []})
        backend.worker = lambda name: next(wakeups) if name == 'wakeups' else []
        self.assertEqual([f.verdict() for f in self.figures(quiet.idle, backend, cpu_ns=(7, 8))], ['ok', 'ok'])
        # all of the time, and more than a hundredth of a second is sure to have passed
        self.assertEqual([f.verdict() for f in self.figures(quiet.idle, backend, cpu_ns=(0, 10 ** 9))],
                         ['missed', 'missed'])

    def test_a_field_that_is_missing_is_named(self):
        with self.assertRaisesRegex(BenchError, 'no field wakeups'):
            self.figures(quiet.idle, FakeRingway({}))

    @staticmethod
    def bursts(lost=0, kicked=9, features=''):
        return {'ok': not lost, 'losses': [], 'total': {
            'bursts': 10, 'kicked_bursts': kicked, 'lost_wakeups': lost, 'lost': 0},
                'conditions': {'bursts': {'seed': 1}, 'sockets': [{'features': features.replace('+', '')}]}}

    def all_bursts(self, **first):
        reports = [self.bursts(features=features) for features in quiet.RINGS.values() for _ in range(2)]
        reports[0] = self.bursts(**first)
        return self.figures(quiet.first_frames, FakeRingway({}), *reports)

    def test_one_lost_burst_is_too_many(self):
        figure, = self.all_bursts()
        self.assertEqual((figure.value, figure.verdict()), (0, 'ok'))
        self.assertIn('80 bursts, 72 of them kicked', figure.conditions)
        figure, = self.all_bursts(lost=1)
        self.assertEqual((figure.value, figure.verdict()), (1, 'missed'))
        self.assertIn('bursts lost', quiet.failure([figure]))

    def test_bursts_that_found_the_worker_awake_prove_nothing(self):
        figure, = self.all_bursts(kicked=0)
        self.assertEqual((figure.value, figure.verdict()), (0, 'missed'))
        self.assertIn('never slept', figure.conditions)

    def test_a_ring_form_that_was_not_negotiated_is_an_error(self):
        with self.assertRaisesRegex(BenchError, 'event_idx was not negotiated'):
            self.figures(quiet.first_frames, FakeRingway({}), *[self.bursts()] * 8)

    @staticmethod
    def kicks(n, p50):
        return {'total': {'sent': 20, 'kick_ns': {
            'n': n, 'p50': p50, 'p90': p50, 'p99': p50, 'max': p50, 'buckets': [{'below_ns': 16384, 'n': n}]}}}

    def test_the_median_from_kick_to_frame_is_judged(self):
        backend = FakeRingway({'wake_ns': {'p50': 300}})
        for p50, verdict in ((14999, 'ok'), (15000, 'missed')):
            figure, = self.figures(quiet.kick, backend, self.kicks(9, p50))
            self.assertEqual(figure.verdict(), verdict)
            # what the machine takes at least stands beside it
            self.assertIn('a bare eventfd on this machine p50 4.3 us', figure.conditions)
            self.assertIn('9 kicks below 16.384 us', quiet.table([figure]))

    def test_a_worker_that_never_asked_for_a_kick_has_no_time_to_wake_up(self):
        with self.assertRaisesRegex(BenchError, 'did not sleep'):
            self.figures(quiet.kick, FakeRingway({'wake_ns': {'p50': 0}}), self.kicks(0, 0))

    @staticmethod
    def calls(calls, received, duration_s=1.0):
        return {'duration_s': duration_s, 'total': {'not_sent_in_time': 0}, 'ports': [
            {'number': 1, 'calls': 0, 'received': 0}, {'number': 2, 'calls': calls, 'received': received}]}

    def test_calls_are_one_per_frames_or_time_whichever_is_more(self):
        self.assertEqual(quiet.calls_allowed(640000, 1), 20000)
        self.assertEqual(quiet.calls_allowed(960000, 1), 30000)
        for calls, verdict in ((30000, 'ok'), (30001, 'missed')):
            figures = self.figures(quiet.interrupts, FakeRingway({}), self.calls(calls, 960000), self.calls(1, 1))
            self.assertEqual([figure.verdict() for figure in figures], [verdict, '-'])

    def test_only_answers_in_the_state_asked_about_count(self):
        def ping(ns, asleep):
            return {'round_trip_ns': ns, 'was_asleep': asleep}
        pings = [ping(1000, False), ping(9000, True), ping(5000, True), ping(5000, True)]
        figures = self.figures(quiet.requests, FakeRingway({}, pings))
        self.assertEqual([figure.value for figure in figures], [1, 5])
        with self.assertRaisesRegex(BenchError, 'never asleep'):
            self.figures(quiet.requests, FakeRingway({}, [ping(1, False)] * 4))

    def test_what_cannot_be_measured_is_a_row_that_says_why_and_the_others_go_on(self):
        def broken(_bench, _scale):
            raise BenchError('ringway ended with status 2; the end of its log x:\nsome line\n'
                             'error: workers.mode: unknown key')
        fine = quiet.Figure('fine', 1, 'us', '', None)
        with unittest.mock.patch('benchlib.quiet.MEASUREMENTS',
                                 ((broken, 'broken'), (lambda *_: [fine], 'fine'))):
            figures = quiet.run(self.bench)
        self.assertEqual([figure.verdict() for figure in figures], ['not measured', '-'])
        self.assertIn('workers.mode: unknown key', quiet.table(figures))
        self.assertEqual(len(self.bench.errors), 1)
        self.assertEqual(quiet.failure(figures), 'broken: not measured')

    def test_guests_are_paired_and_coalescing_is_asked_for_only_where_it_is_measured(self):
        text = quiet.config(0, {name: f'/{name}' for name in ('a', 'b', 'c', 'd')}, '/ctl')
        self.assertIn('ports: [a, b]', text)
        self.assertIn('ports: [c, d]', text)
        self.assertIn('mode: adaptive', text)
        self.assertNotIn('coalesce', text)
        self.assertEqual(quiet.config(0, {'a': '/a', 'b': '/b'}, '/ctl', quiet.COALESCE).count(
            'coalesce: {frames: 32, us: 50}'), 2)


class Plots(unittest.TestCase):
    def test_ticks_are_round_and_reach_the_greatest_value(self):
        for greatest in (0.3, 1, 7, 99, 100, 101, 1337):
            marks = svg.ticks(greatest)
            self.assertEqual(marks[0], 0)
            self.assertGreaterEqual(marks[-1] + 1e-9, greatest)
            self.assertLessEqual(len(marks), 8)

    def test_a_bar_is_as_high_as_its_value_and_a_missing_one_is_not_drawn(self):
        tree = ElementTree.fromstring(svg.bars('a < b', 'y', ['one', 'two'],
                                               {'s': [(40, 50, 60), None], 't': [(90, 100, 100), (0, 25, 25)]}))
        heights = [float(rect.get('height')) for rect in tree.iter(SVG + 'rect')
                   if rect.get('fill') in svg.COLOURS and float(rect.get('height')) != 8]
        full = svg.HEIGHT - svg.TOP - svg.BOTTOM
        self.assertEqual([round(height / full, 2) for height in heights], [0.5, 1.0, 0.25])

    def test_a_line_has_a_marker_at_every_value(self):
        tree = ElementTree.fromstring(svg.lines('t', 'x', 'y', {'s': [(1, (1, 2, 3)), (64, (2, 3, 4))]}))
        # and one in the legend
        self.assertEqual(len(list(tree.iter(SVG + 'circle'))), 3)
        self.assertEqual(len(list(tree.iter(SVG + 'polyline'))), 1)

    def test_a_single_value_is_a_plot_too(self):
        ElementTree.fromstring(svg.lines('t', 'x', 'y', {'s': [(1, (1, 2, 3))]}))


class Page(unittest.TestCase):
    def setUp(self):
        self.results = {
            Case('pair', 64): {'ringway': cell(50), 'testpmd': cell(100)},
            Case('pair', 64, burst=1): {'ringway': cell(500), 'testpmd': cell(900)},
            Case('forward', 64): {'ringway': cell(40), 'rte_vhost': cell(90)},
            Case('dequeue', 64): {'ringway': cell(20), 'rte_vhost': cell(30)},
            Case('pair', 64, axis='ports', value=2): {'ringway': cell(50)},
            Case('pair', 64, axis='ports', value=256): {'ringway': cell(80)},
        }
        one = {'rate_pps': 1000000, 'lost': 0, 'not_sent_in_time': 0, 'preempted': 0,
               'generator_cycles_per_packet': 44, 'probe': {'line': 160},
               'latency_ns': {'p50': 1000, 'p90': 2000, 'p99': 3000, 'p99_9': 4000, 'max': 5000}}
        self.latencies = {'ringway': {0.1: {'near': [one]}, 0.9: {'near': [one], 'apart': [one]}}}

    def test_everything_measured_and_all_conditions_are_on_it(self):
        with tempfile.TemporaryDirectory() as directory:
            path = page.write(directory, {'cpu': 'some CPU'}, self.results, self.latencies,
                              [quiet.Figure('bursts lost', 0, '', '0', True)], {'native': 'no source'}, ['ovs: no packets'])
            with open(path, encoding='utf-8') as file:
                text = file.read()
            for words in ('some CPU', 'native: no source', 'ovs: no packets', '## Targets', '## Whole programs',
                          '## Drain mode', '## Latency', '## Quiet', 'bursts lost', '## Scale', report.table(self.results).splitlines()[0],
                          scale.table(self.results).splitlines()[0], latency.table(self.latencies)):
                self.assertIn(words, text)
            images = [line for line in text.splitlines() if line.startswith('![')]
            self.assertGreaterEqual(len(images), 8)
            for line in images:
                file_name = line.split('(')[1].rstrip(')')
                ElementTree.parse(os.path.join(directory, file_name))

    def test_plots_of_an_earlier_run_do_not_stay(self):
        with tempfile.TemporaryDirectory() as directory:
            page.write(directory, {}, self.results, self.latencies, [], {}, [])
            some = {Case('pair', 64): self.results[Case('pair', 64)]}
            page.write(directory, {}, some, {}, [], {}, [])
            names = os.listdir(os.path.join(directory, 'bench'))
            self.assertEqual(sorted(names), ['pair-sizes-cycles.svg', 'pair-sizes-instructions.svg'])

    def test_one_plot_shows_one_placement_of_the_CPUs(self):
        self.results[Case('pair', 256)] = {'ringway': cell(10, placement='apart')}
        plots = page.plots(self.results, {})
        self.assertIn('CPUs near', plots['pair-sizes-cycles.svg'])
        self.assertEqual(plots['pair-sizes-cycles.svg'].count('>10<'), 0)


if __name__ == '__main__':
    unittest.main()
