# SPDX-License-Identifier: BSD-3-Clause
"""The table and what it takes to trust it."""
import statistics

from . import measure


def summary(values):
    values = [value for value in values if value is not None]
    if not values:
        return None
    return {'median': statistics.median(values), 'min': min(values), 'max': max(values),
            'n': len(values)}


def _kinds(cell):
    """Rounds by how far they can be trusted: undisturbed ones, and those with nothing against them
    but that the host had moved the CPUs apart, which compare with their like."""
    return {'clean': [one for one in cell['rounds'] if not one['disturbed_by']],
            'CPUs apart': [one for one in cell['rounds'] if one['disturbed_by'] == ['CPUs apart']]}


def summarise(cell, best_probe):
    """Fills in the medians of one case of one side: of its clean rounds, if it has any."""
    for one in cell['rounds']:
        one['disturbed_by'] = measure.disturbances(one, best_probe)
    kinds = _kinds(cell)
    chosen = kinds['clean'] or kinds['CPUs apart'] or cell['rounds']
    for key in ('mpps', 'cycles_per_packet', 'generator_cycles_per_packet', 'packets_per_burst'):
        cell[key] = summary([one.get(key) for one in chosen])
    cell['clean_rounds'] = len(kinds['clean'])
    cell['replaced_windows'] = sum(one['replaced'] for one in cell['rounds'])
    for key in ('worker_nonvoluntary', 'worker_voluntary', 'generator_nonvoluntary',
                'generator_voluntary', 'steal'):
        cell[key] = sum(one['interference'][key] for one in chosen)
    return cell


def compared_cycles(ours, theirs):
    """(median of ringway's cycles, of testpmd's, kind of rounds), or None: nothing comparable."""
    for kind in ('clean', 'CPUs apart'):
        pair = [[one['cycles_per_packet'] for one in _kinds(cell)[kind]] for cell in (ours, theirs)]
        if all(pair):
            return statistics.median(pair[0]), statistics.median(pair[1]), kind
    return None


def _spread(numbers, digits):
    if numbers is None:
        return '-'
    return (f'{numbers["median"]:.{digits}f} ({numbers["min"]:.{digits}f}..'
            f'{numbers["max"]:.{digits}f})')


def _remarks(cell):
    """What to know before believing the cycles."""
    remarks = []
    if cell['clean_rounds'] == 0:
        reasons = sorted({word for one in cell['rounds'] for word in one['disturbed_by']})
        remarks.append(f'no clean round ({", ".join(reasons)})')
    elif cell['clean_rounds'] < len(cell['rounds']):
        remarks.append(f'{cell["clean_rounds"]} of {len(cell["rounds"])} rounds clean')
    source = cell['generator_cycles_per_packet']
    if source and source['median'] > cell['cycles_per_packet']['median']:
        remarks.append('generator is slower')
    if cell['failed_checks']:
        remarks.append(f'ringbench: {", ".join(sorted(set(cell["failed_checks"])))}')
    return ', '.join(remarks)


CASES = {'pair': 'guest to guest', 'loop': 'one guest, loop'}


def table(results):
    """One row per case and side, and per case the ratio of ringway to testpmd."""
    form = '{:<16} {:>5} {:<8} {:>22} {:>24} {:>9} {:>9} {:>12}  {}'
    out = [form.format('case', 'bytes', 'side', 'Mpps', 'TSC cycles/packet', 'instr/pkt',
                       'gen. TSC', 'csw inv/vol', 'remarks')]
    for (topology, size), sides in results.items():
        for side, cell in sides.items():
            count = cell.get('instructions')
            source = cell['generator_cycles_per_packet']
            switches = f'{cell["worker_nonvoluntary"]}/{cell["worker_voluntary"]}'
            out.append(form.format(
                CASES[topology], size, side, _spread(cell['mpps'], 2),
                _spread(cell['cycles_per_packet'], 1),
                f'{count["per_packet"]:.1f}' if count else '-',
                f'{source["median"]:.0f}' if source else '-',
                switches, _remarks(cell)).rstrip())
        if len(sides) == 2:
            out.append(f'{"":<22} {_comparison(sides["ringway"], sides["testpmd"])}')
    return '\n'.join(out)


def _comparison(ours, theirs):
    shares = []
    cycles = compared_cycles(ours, theirs)
    if cycles:
        shares.append(f'{cycles[0] / cycles[1]:.2f} of the cycles'
                      + (f' ({cycles[2]})' if cycles[2] != 'clean' else ''))
    if 'instructions' in ours and 'instructions' in theirs:
        share = ours['instructions']['per_packet'] / theirs['instructions']['per_packet']
        shares.append(f'{share:.2f} of the instructions')
    return f'ringway takes {" and ".join(shares)}' if shares else 'cycles cannot be compared'


def features(results):
    """What was negotiated, by side; one line if it was the same in every case."""
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
    ours, theirs = sides['ringway'], sides['testpmd']
    cycles = compared_cycles(ours, theirs)
    if cycles is None:
        return 'no rounds to compare; the machine is too busy for TSC cycles'
    pairs = [('TSC cycles', cycles[0], cycles[1])]
    if 'instructions' in ours and 'instructions' in theirs:
        pairs.append(('instructions', ours['instructions']['per_packet'],
                      theirs['instructions']['per_packet']))
    slower = [f'{mine:.1f} {what} per packet, testpmd {other:.1f}'
              for what, mine, other in pairs if mine > other]
    return '; '.join(slower) or None
