# SPDX-License-Identifier: BSD-3-Clause
"""The table and what it takes to trust it."""
import statistics

from . import measure
from .case import DRAIN_PATHS, PATHS, Case

PLACEMENTS = ('near', 'apart')


def _classify(cell, best_probe):
    for one in cell['rounds']:
        one['disturbed_by'] = measure.disturbances(one, best_probe)
        one['placement'] = measure.placement(one, best_probe)


def _undisturbed(cell, placement):
    return [one for one in cell['rounds']
            if not one['disturbed_by'] and one['placement'] == placement]


def enough(sides, best_probe, n_rounds):
    """Has some placement of the CPUs that many undisturbed rounds on every side?"""
    for cell in sides.values():
        _classify(cell, best_probe)
    return any(all(len(_undisturbed(cell, placement)) >= n_rounds for cell in sides.values())
               for placement in PLACEMENTS)


def _spread_of(rounds, key):
    values = [one[key] for one in rounds if one.get(key) is not None]
    if not values:
        return None
    return {'median': statistics.median(values), 'min': min(values), 'max': max(values)}


def _numbers(rounds):
    numbers = {key: _spread_of(rounds, key) for key in (
        'mpps', 'cycles_per_packet', 'generator_cycles_per_packet', 'packets_per_burst')}
    numbers['n_rounds'] = len(rounds)
    numbers['line_cycles'] = statistics.median(one['probe']['line'] for one in rounds)
    numbers['switches'] = {key: sum(one['interference'][key] for one in rounds) for key in (
        'worker_nonvoluntary', 'worker_voluntary', 'generator_nonvoluntary',
        'generator_voluntary', 'steal')}
    return numbers


def summarise(cell, best_probe):
    """Medians of one case of one side, apart for each placement of the CPUs; those of disturbed
    rounds only if there is nothing else."""
    _classify(cell, best_probe)
    cell['numbers'] = {placement: _numbers(_undisturbed(cell, placement))
                       for placement in PLACEMENTS if _undisturbed(cell, placement)}
    if not cell['numbers']:
        cell['numbers'] = {'disturbed': _numbers(cell['rounds'])}
    cell['disturbed_rounds'] = sum(bool(one['disturbed_by']) for one in cell['rounds'])
    cell['replaced_windows'] = sum(one['replaced'] for one in cell['rounds'])


def _spread(numbers, digits):
    if numbers is None:
        return '-'
    return (f'{numbers["median"]:.{digits}f} ({numbers["min"]:.{digits}f}..'
            f'{numbers["max"]:.{digits}f})')


def _remarks(case, cell, placement, numbers):
    """What to know before believing the numbers."""
    remarks = []
    if placement == 'disturbed':
        remarks += sorted({word for one in cell['rounds'] for word in one['disturbed_by']})
    source = numbers['generator_cycles_per_packet']
    # in drain mode nobody waits for it
    if case.path not in DRAIN_PATHS and source and source['median'] > numbers['cycles_per_packet']['median']:
        remarks.append('generator is slower')
    if cell['not_negotiated']:
        remarks.append(cell['not_negotiated'])
    if cell['failed_checks']:
        remarks.append(f'ringbench: {", ".join(sorted(set(cell["failed_checks"])))}')
    count = cell.get('instructions')
    if count and not count['full']:
        remarks.append(f'stepped at {count["packets_per_visit"]:.1f} packets per poll')
    return ', '.join(remarks)


ROW = '{:<16} {:<14} {:<10} {:>4} {:>2} {:>22} {:>24} {:>9} {:>8} {:>8}  {}'


def _row(case, side, cell, placement):
    numbers = cell['numbers'][placement]
    source = numbers['generator_cycles_per_packet']
    switches = numbers['switches']
    return ROW.format(
        PATHS[case.path], case.label(), side, f'{numbers["line_cycles"]:.0f}', numbers['n_rounds'],
        _spread(numbers['mpps'], 2),
        _spread(numbers['cycles_per_packet'], 1),
        f'{cell["instructions"]["per_packet"]:.1f}' if 'instructions' in cell else '-',
        f'{source["median"]:.0f}' if source else '-',
        f'{switches["worker_nonvoluntary"]}/{switches["worker_voluntary"]}',
        _remarks(case, cell, placement, numbers)).rstrip()


def table(results):
    """A row per case, placement of the CPUs and side, and what ringway takes of the others'."""
    out = [ROW.format('case', 'bytes', 'side', 'line', 'n', 'Mpps', 'TSC cycles/packet',
                      'instr/pkt', 'gen. TSC', 'inv/vol', 'remarks')]
    for case, sides in results.items():
        for placement in (*PLACEMENTS, 'disturbed'):
            out += [_row(case, side, cell, placement) for side, cell in sides.items()
                    if placement in cell['numbers']]
        out += [f'{"":<31} {_comparison(sides, side)}' for side in sides
                if side != 'ringway' and 'ringway' in sides]
    return '\n'.join(out)


def cycles_compared(sides, other):
    """[(TSC cycles of a line's way, ringway's per packet, the other's)] of undisturbed rounds."""
    ours, theirs = sides['ringway']['numbers'], sides[other]['numbers']
    return [(ours[placement]['line_cycles'], ours[placement]['cycles_per_packet']['median'],
             theirs[placement]['cycles_per_packet']['median'])
            for placement in PLACEMENTS if placement in ours and placement in theirs]


def _instructions_compared(sides, other):
    """(ringway's instructions, the other's), or None."""
    counts = [sides[side].get('instructions') for side in ('ringway', other)]
    return tuple(count['per_packet'] for count in counts) if all(counts) else None


def _comparison(sides, other):
    if any(sides[side]['not_negotiated'] for side in ('ringway', other)):
        return f'{other}: different features, nothing to compare'
    shares = [f'{ours / theirs:.2f} of the cycles (line {line:.0f})'
              for line, ours, theirs in cycles_compared(sides, other)]
    counts = _instructions_compared(sides, other)
    if counts:
        shares.append(f'{counts[0] / counts[1]:.2f} of the instructions')
    return (f'ringway takes of {other}: {", ".join(shares)}' if shares else
            f'{other}: no undisturbed rounds to compare')


STAGE_ROW = '{:<16} {:<14} {:<10} {}'


def stage_table(results):
    """Instructions per packet by stage (stages.py), a row per case and side."""
    out = []
    for case, sides in results.items():
        for side, cell in sides.items():
            count = cell.get('instructions')
            if not count:
                continue
            words = [f'{stage} {n:.1f}' for stage, n in count['stages'].items()]
            if count['other_functions']:
                words.append('(' + ', '.join(f'{name} {n:.1f}' for name, n in
                                             count['other_functions'].items()) + ')')
            out.append(STAGE_ROW.format(PATHS[case.path], case.label(), side, ' '.join(words)))
    if out:
        out.insert(0, STAGE_ROW.format('case', 'bytes', 'side', 'instructions per packet by stage'))
    return '\n'.join(out)


def features(results):
    """What was negotiated, by variant and side."""
    seen = {}
    for case, sides in results.items():
        for side, cell in sides.items():
            name = f'{side} features' if case.variant == 'split' else f'{side} {case.variant}'
            seen.setdefault(name, set()).update(cell['features'])
    return {name: ' / '.join(sorted(sets)) for name, sets in seen.items()}


def json_cells(results):
    """Every cell with what it is of."""
    return [{'topology': case.path, 'size': case.size, 'variant': case.variant, 'burst': case.burst,
             'axis': case.axis, 'value': case.value, 'side': side, **cell}
            for case, sides in results.items() for side, cell in sides.items()]


def heading(info):
    return '\n'.join(f'{key + ":":<20} {value}' for key, value in info.items())


def requirement(results):
    """None, or why ringway is not shown to be as fast from guest to guest at 64 bytes."""
    sides = results.get(Case('pair', 64), {})
    if not {'ringway', 'testpmd'} <= set(sides):
        return 'not measured on both sides'
    cycles = cycles_compared(sides, 'testpmd')
    if not cycles:
        return 'no undisturbed rounds to compare; the machine is too busy for TSC cycles'
    pairs = [(f'TSC cycles (line {line:.0f})', ours, theirs) for line, ours, theirs in cycles]
    counts = _instructions_compared(sides, 'testpmd')
    if counts:
        pairs.append(('instructions', *counts))
    slower = [f'{ours:.1f} {what} per packet, testpmd {theirs:.1f}'
              for what, ours, theirs in pairs if ours > theirs]
    return '; '.join(slower) or None
