# SPDX-License-Identifier: BSD-3-Clause
"""Cost per packet against the number of ports, queues, MAC addresses and memory regions."""
from .case import AXES, Case
from .report import PLACEMENTS

POINTS = {
    'ports': (2, 8, 32, 128, 256),
    'idle': (2, 16, 64, 128, 256),
    'queues': (1, 2, 4, 8, 16),
    'macs': (1, 64, 1024, 4096, 16384, 65536),
    'regions': (1, 8, 32, 128, 509),
}
QUICK_POINTS = {'ports': (2, 8), 'idle': (2, 4), 'queues': (1, 2), 'macs': (1, 64), 'regions': (1, 8)}


def cases(axes, points, quick):
    """`points`: values asked for, of which each axis takes those it can have; or None."""
    usual = QUICK_POINTS if quick else POINTS
    return [Case('pair', 64, axis=axis, value=value) for axis in axes
            for value in (points or usual[axis]) if POINTS[axis][0] <= value <= POINTS[axis][-1]]


ROW = '{:<36} {:>6} {:>4} {:>2} {:>24} {:>9} {:>11} {:>8}  {}'


def table(results):
    """A row per point; ringway only."""
    out = [ROW.format('axis', 'value', 'line', 'n', 'TSC cycles/packet', 'instr/pkt', 'pkts/round',
                      'gen. TSC', 'remarks')]
    for case, sides in results.items():
        for side, cell in sides.items():
            for placement in (*PLACEMENTS, 'disturbed'):
                numbers = cell['numbers'].get(placement)
                if not case.axis or not numbers:
                    continue
                cycles, source = numbers['cycles_per_packet'], numbers['generator_cycles_per_packet']
                count = cell.get('instructions')
                remarks = sorted({word for one in cell['rounds'] for word in one['disturbed_by']}
                                 if placement == 'disturbed' else set())
                remarks += sorted({f'ringbench: {name}' for name in cell['failed_checks']})
                out.append(ROW.format(
                    AXES[case.axis][0], case.value, f'{numbers["line_cycles"]:.0f}',
                    numbers['n_rounds'],
                    f'{cycles["median"]:.1f} ({cycles["min"]:.1f}..{cycles["max"]:.1f})',
                    f'{count["per_packet"]:.1f}' if count else '-',
                    f'{count["packets_per_visit"]:.1f}' if count else '-',
                    f'{source["median"]:.0f}' if source else '-', ', '.join(remarks)).rstrip())
    return '\n'.join(out)
