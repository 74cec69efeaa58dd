# SPDX-License-Identifier: BSD-3-Clause
"""The table and what it takes to trust it."""
import statistics

from . import measure

CASES = {'pair': 'guest to guest', 'loop': 'one guest, loop'}
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


def _remarks(cell, placement, numbers):
    """What to know before believing the numbers."""
    remarks = []
    if placement == 'disturbed':
        remarks += sorted({word for one in cell['rounds'] for word in one['disturbed_by']})
    source = numbers['generator_cycles_per_packet']
    if source and source['median'] > numbers['cycles_per_packet']['median']:
        remarks.append('generator is slower')
    if cell['failed_checks']:
        remarks.append(f'ringbench: {", ".join(sorted(set(cell["failed_checks"])))}')
    count = cell.get('instructions')
    if count and count['packets_per_poll'] < measure.BURST:
        remarks.append(f'stepped at {count["packets_per_poll"]:.1f} packets per poll')
    return ', '.join(remarks)


ROW = '{:<16} {:>5} {:<8} {:>4} {:>2} {:>22} {:>24} {:>9} {:>8} {:>8}  {}'


def _row(case, side, cell, placement):
    topology, size = case
    numbers = cell['numbers'][placement]
    source = numbers['generator_cycles_per_packet']
    switches = numbers['switches']
    return ROW.format(
        CASES[topology], size, side, f'{numbers["line_cycles"]:.0f}', numbers['n_rounds'],
        _spread(numbers['mpps'], 2),
        _spread(numbers['cycles_per_packet'], 1),
        f'{cell["instructions"]["per_packet"]:.1f}' if 'instructions' in cell else '-',
        f'{source["median"]:.0f}' if source else '-',
        f'{switches["worker_nonvoluntary"]}/{switches["worker_voluntary"]}',
        _remarks(cell, placement, numbers)).rstrip()


def table(results):
    """A row per case, placement of the CPUs and side, and what ringway takes of testpmd's."""
    out = [ROW.format('case', 'bytes', 'side', 'line', 'n', 'Mpps', 'TSC cycles/packet',
                      'instr/pkt', 'gen. TSC', 'inv/vol', 'remarks')]
    for case, sides in results.items():
        for placement in (*PLACEMENTS, 'disturbed'):
            out += [_row(case, side, cell, placement) for side, cell in sides.items()
                    if placement in cell['numbers']]
        if len(sides) == 2:
            out.append(f'{"":<22} {_comparison(sides)}')
    return '\n'.join(out)


def _cycles_compared(sides):
    """[(TSC cycles of a line's way, ringway's per packet, testpmd's)] of undisturbed rounds."""
    ours, theirs = sides['ringway']['numbers'], sides['testpmd']['numbers']
    return [(ours[placement]['line_cycles'], ours[placement]['cycles_per_packet']['median'],
             theirs[placement]['cycles_per_packet']['median'])
            for placement in PLACEMENTS if placement in ours and placement in theirs]


def _instructions_compared(sides):
    """(ringway's instructions, testpmd's), or None."""
    counts = [sides[side].get('instructions') for side in ('ringway', 'testpmd')]
    return tuple(count['per_packet'] for count in counts) if all(counts) else None


def _comparison(sides):
    shares = [f'{ours / theirs:.2f} of the cycles (line {line:.0f})'
              for line, ours, theirs in _cycles_compared(sides)]
    counts = _instructions_compared(sides)
    if counts:
        shares.append(f'{counts[0] / counts[1]:.2f} of the instructions')
    return f'ringway takes {", ".join(shares)}' if shares else 'nothing to compare'


def features(results):
    """What was negotiated, by side; one set if it was the same in every case."""
    seen = {}
    for sides in results.values():
        for side, cell in sides.items():
            seen.setdefault(side, set()).update(cell['features'])
    return {f'{side} features': ' / '.join(sorted(sets)) for side, sets in seen.items()}


def heading(info):
    return '\n'.join(f'{key + ":":<18} {value}' for key, value in info.items())


def requirement(results):
    """None, or why ringway is not shown to be as fast from guest to guest at 64 bytes."""
    sides = results.get(('pair', 64), {})
    if not {'ringway', 'testpmd'} <= set(sides):
        return 'not measured on both sides'
    cycles = _cycles_compared(sides)
    if not cycles:
        return 'no undisturbed rounds to compare; the machine is too busy for TSC cycles'
    pairs = [(f'TSC cycles (line {line:.0f})', ours, theirs) for line, ours, theirs in cycles]
    counts = _instructions_compared(sides)
    if counts:
        pairs.append(('instructions', *counts))
    slower = [f'{ours:.1f} {what} per packet, testpmd {theirs:.1f}'
              for what, ours, theirs in pairs if ours > theirs]
    return '; '.join(slower) or None
