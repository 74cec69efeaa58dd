# SPDX-License-Identifier: BSD-3-Clause
"""One run: cases, sides and rounds, interleaved."""
import itertools

from . import machine, measure, profile, report
from .case import DRAIN_PATHS
from .context import Context
from .drain import NativeVhostDrain, RingwayDrain, VhostDrain
from .ovs import OvsBackend, OvsNormalBackend
from .process import BenchError, end_all
from .ringbench import RingbenchGenerator, lacks
from .ringway import RingwayBackend
from .testpmd import TestpmdBackend, TestpmdGenerator

GENERATORS = {'ringbench': RingbenchGenerator, 'testpmd': TestpmdGenerator}
# Who can do a case, by its path.
_PAIR = (RingwayBackend, TestpmdBackend, OvsBackend, OvsNormalBackend)
_DRAIN = (RingwayDrain, VhostDrain, NativeVhostDrain)
BACKENDS = {'pair': _PAIR, 'loop': (RingwayBackend, TestpmdBackend),
            **{path: _DRAIN for path in DRAIN_PATHS}}
SIDES = tuple(dict.fromkeys(cls.name for classes in BACKENDS.values() for cls in classes))


class Bench:
    """Collects {case: {side: cell}} in `results`, and what was left out, with the reason."""

    def __init__(self, options):
        self.options = options
        self.context = Context(options)
        self.generator = GENERATORS[options.generator]
        self.hugepages = machine.Hugepages(self.context.note)
        self.results = {}
        self.left_out = {}
        self.is_there = {}
        self.errors = []

    def backend_start(self, cls, case):
        self.hugepages.ensure(cls.hugepages_2mb)
        return cls(self.context, case)

    def classes(self, case):
        """The sides of a case: those wanted that can do it and are there."""
        found = []
        for cls in BACKENDS[case.path]:
            if cls.name not in self.options.sides or (case.axis and cls is not RingwayBackend):
                continue
            if cls not in self.is_there:
                reason = cls.unavailable(self.context) if hasattr(cls, 'unavailable') else None
                self.is_there[cls] = not reason
                if reason:
                    self.leave_out(cls.name, reason)
            if self.is_there[cls]:
                found.append(cls)
        return found

    def leave_out(self, what, reason):
        self.left_out[what] = reason
        self.context.note(f'{what}: left out: {reason}')

    def possible(self, cases):
        """Without those that this build's generator cannot make."""
        unknown = {word for word in dict.fromkeys(word for case in cases
                                                  for word in case.generator_words())
                   if lacks(self.context, word)}
        for word in sorted(unknown):
            self.leave_out(word, 'this ringbench does not know it')
        return [case for case in cases if not unknown & set(case.generator_words())]

    def cell(self, case, side):
        return self.results.setdefault(case, {}).setdefault(
            side, {'rounds': [], 'failed_checks': []})

    def measure(self, backend, case, cell):
        """One round of one cell; the first round also counts instructions."""
        backend.select(case)
        generator = self.generator(self.context, backend.sockets, case)
        try:
            one = measure.rate(self.context, backend, generator)
            if 'features' not in cell:
                cell['features'] = backend.features()
                cell['not_negotiated'] = case.not_negotiated(cell['features'])
            self.generator_result(cell, one, generator.result())
            # not before: a round of which nobody knows whether its frames arrived is none
            cell['rounds'].append(one)
            if self.options.instructions and 'instructions' not in cell:
                # another one: frames that the stepped worker holds up count as lost
                generator = self.generator(self.context, backend.sockets, case, stepped=True)
                cell['instructions'] = measure.by_stage_and_function(measure.instructions(
                    self.context, backend, generator, self.options.instructions,
                    case.packets_per_visit()))
        finally:
            generator.end()

    @staticmethod
    def generator_result(cell, one, result):
        """What the generator says at its end: its cost and what arrived wrong."""
        if 'cycles_per_packet' in result:
            one['generator_cycles_per_packet'] = result['cycles_per_packet']
        cell['failed_checks'].extend(result.get('failed', []))

    def round(self, cases):
        """Sides take turns as closely as their start allows; each starts afresh every time."""
        for _, group in itertools.groupby(sorted(cases, key=self.order.index),
                                          key=lambda case: case.group()):
            group = list(group)
            for cls in self.classes(group[0]):
                left = group
                while left:
                    left = self.group_measure(cls, left)

    def group_measure(self, cls, group):
        """One round of one side's cases that one start serves. What is left of them if one fails and the
        run is to go on: an hour's run is not to be lost for one bad moment of a busy machine."""
        n_done = 0
        try:
            backend = self.backend_start(cls, group[0])
            try:
                for case in group:
                    n_done += 1
                    self.measure(backend, case, self.cell(case, cls.name))
            finally:
                backend.end()
        except BenchError as err:
            if not self.options.tolerant:
                raise
            end_all()  # also what a start that failed half-way left
            what = f'{cls.name}, {group[max(n_done, 1) - 1].label()}: {err}'
            self.context.note(what)
            self.errors.append(what.splitlines()[0])
            return group[n_done:] if n_done else []
        return []

    def lacking(self, cases):
        """Cases that have too few undisturbed rounds to compare."""
        return [case for case in cases if len(self.results.get(case, ())) < len(self.classes(case))
                or not report.enough(self.results[case], self.context.best_probe,
                                     self.options.rounds)]

    def run(self, cases):
        """The rounds asked for, then up to as many again for what was disturbed."""
        # cases that one start serves side by side, in the order they were given
        groups = list(dict.fromkeys(case.group() for case in cases))
        self.order = sorted(self.possible(cases), key=lambda case: groups.index(case.group()))
        wanted = [case for case in self.order if self.classes(case)]
        if cases and not wanted:
            raise BenchError(f'nothing to measure: none of {", ".join(self.options.sides)} can do what is '
                             f'asked for here{self._reasons()}')
        for number in range(1 if self.options.quick else 2 * self.options.rounds):
            if not wanted:
                break
            self.context.note(f'round {number + 1} of {self.options.rounds}'
                              if number < self.options.rounds else
                              f'{len(wanted)} cases again for lack of undisturbed rounds')
            self.round(wanted)
            if number + 1 >= self.options.rounds:
                wanted = self.lacking(wanted)
        for case in self.order:
            sides = self.results.get(case, {})
            for side in [side for side, cell in sides.items() if not cell['rounds']]:
                del sides[side]
            for cell in sides.values():
                report.summarise(cell, self.context.best_probe)
        self.results = {case: self.results[case] for case in self.order if self.results.get(case)}

    def _reasons(self):
        return ''.join(f'; {what}: {why}' for what, why in self.left_out.items())

    def profile(self, cases):
        """Instructions by function and line of every case and side."""
        for case in cases:
            for cls in self.classes(case):
                backend = self.backend_start(cls, case)
                backend.select(case)
                generator = self.generator(self.context, backend.sockets, case, stepped=True)
                counted = measure.instructions(self.context, backend, generator,
                                               self.options.instructions or 150000,
                                               case.packets_per_visit())
                generator.end()
                backend.end()
                print(f'{cls.name}, {report.PATHS[case.path]}, {case.label()} bytes')
                print(profile.text(counted), flush=True)
