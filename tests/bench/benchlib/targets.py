# SPDX-License-Identifier: BSD-3-Clause
"""The target table: what was aimed at, what was measured, whether it was met."""
from typing import Callable, NamedTuple, Optional

from .case import Case
from .report import PLACEMENTS

PAIR = 'pair'
VARIANTS = ('single', 'any-order', 'event-idx')
VARIANT_FACTOR_MAX = 1.15


class Outcome(NamedTuple):
    value: float
    placement: str  # of the CPUs, '' where it does not matter


class Target(NamedTuple):
    what: str
    limit: float
    unit: str
    find: Callable  # (results) -> Outcome or None


def _cell(results, case, side):
    """None if there is none, or if what it is about was not negotiated."""
    cell = results.get(case, {}).get(side)
    return None if cell is None or cell['not_negotiated'] else cell


def _instructions(case, side='ringway'):
    def find(results):
        cell = _cell(results, case, side)
        count = cell and cell.get('instructions')
        return Outcome(count['per_packet'], '') if count else None
    return find


def _own_instructions(case):
    """Without the ring device that stands for a NIC: librte_vhost's function, which the target is about, has none."""
    def find(results):
        cell = _cell(results, case, 'ringway')
        count = cell and cell.get('instructions')
        return Outcome(count['per_packet'] - count['stages'].get('ring device', 0), '') if count else None
    return find


def _common_placement(cells) -> Optional[str]:
    """The best in which all of them have numbers."""
    if not all(cells):
        return None
    for placement in (*PLACEMENTS, 'disturbed'):
        if all(placement in cell['numbers'] for cell in cells):
            return placement
    return None


def _median(cell, placement):
    return cell['numbers'][placement]['cycles_per_packet']['median']


def _cycles(case, side='ringway'):
    def find(results):
        cell = _cell(results, case, side)
        placement = _common_placement([cell])
        return Outcome(_median(cell, placement), placement) if placement else None
    return find


def _ratio(case, other):
    """Of ringway's cycles and the other's, in the same placement of the CPUs."""
    def find(results):
        ours, theirs = _cell(results, case, 'ringway'), _cell(results, case, other)
        placement = _common_placement([ours, theirs])
        if not placement:
            return None
        return Outcome(_median(ours, placement) / _median(theirs, placement), placement)
    return find


def _variant_ratio(variant, case):
    """Of a variant's cycles and those of the best variant."""
    def find(results):
        cells = [_cell(results, case._replace(variant=name), 'ringway')
                 for name in ('split', *VARIANTS)]
        wanted = _cell(results, case._replace(variant=variant), 'ringway')
        present = [cell for cell in cells if cell]
        placement = _common_placement(present + [wanted])
        if not placement:
            return None
        best = min(_median(cell, placement) for cell in present)
        return Outcome(_median(wanted, placement) / best, placement)
    return find


DRAIN = Case('forward', 64)
INSTRUCTIONS, CYCLES = 'instructions', 'TSC cycles'

TARGETS = (
    Target('split, 64 bytes', 150, INSTRUCTIONS, _instructions(Case(PAIR, 64))),
    Target('split, 64 bytes, drain', 40, CYCLES, _cycles(DRAIN)),
    Target('packed, 64 bytes', 120, INSTRUCTIONS, _instructions(Case(PAIR, 64, 'packed'))),
    Target('packed, 64 bytes, drain', 30, CYCLES, _cycles(Case('forward', 64, 'packed'))),
    Target('split, 1518 bytes, drain', 115, CYCLES, _cycles(Case('forward', 1518))),
    Target('split, IMIX, drain', 55, CYCLES, _cycles(Case('forward', 'imix'))),
    Target('guest to mbufs less ring device', 110, INSTRUCTIONS, _own_instructions(Case('dequeue', 64))),
    Target('mbufs to guest less ring device', 130, INSTRUCTIONS, _own_instructions(Case('enqueue', 64))),
    Target('bursts of 1, of testpmd', 0.5, 'of its cycles', _ratio(Case(PAIR, 64, burst=1), 'testpmd')),
    Target('bursts of 1, drain, of rte_vhost', 0.5, 'of its cycles',
           _ratio(Case('forward', 64, burst=1), 'rte_vhost')),
    Target('64 bytes, of OVS with flows', 0.25, 'of its cycles', _ratio(Case(PAIR, 64), 'ovs')),
    Target('64 bytes, of OVS with NORMAL', 0.25, 'of its cycles',
           _ratio(Case(PAIR, 64), 'ovs-normal')),
    *(Target(f'{variant}, drain', VARIANT_FACTOR_MAX, 'of the best variant',
             _variant_ratio(variant, DRAIN)) for variant in VARIANTS),
)


def cases():
    """All that the table needs."""
    pair = [Case(PAIR, 64), Case(PAIR, 64, 'packed'), Case(PAIR, 64, burst=1)]
    drain = [Case('forward', size) for size in (64, 1518, 'imix')]
    drain += [Case('forward', 64, variant) for variant in ('packed', *VARIANTS)]
    drain += [Case('dequeue', 64), Case('enqueue', 64), Case('forward', 64, burst=1)]
    return pair + drain


def verdicts(results):
    """[(target, outcome or None, 'ok', 'missed' or 'not measured')]"""
    rows = []
    for target in TARGETS:
        outcome = target.find(results)
        word = 'not measured' if outcome is None else \
            'ok' if outcome.value <= target.limit else 'missed'
        rows.append((target, outcome, word))
    return rows


ROW = '{:<34} {:>8} {:>9}  {:<20} {:<10} {}'


def table(results):
    out = [ROW.format('target', 'at most', 'measured', 'unit', 'CPUs', '')]
    for target, outcome, word in verdicts(results):
        digits = 2 if target.limit < 2 else 1
        out.append(ROW.format(
            target.what, f'{target.limit:g}', f'{outcome.value:.{digits}f}' if outcome else '-',
            target.unit, outcome.placement if outcome else '-', word))
    return '\n'.join(out)
