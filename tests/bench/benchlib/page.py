# SPDX-License-Identifier: BSD-3-Clause
"""doc/bench-report.md and its plots: everything one run found, with its conditions."""
import os

from . import latency, quiet, report, scale, svg, targets
from .case import AXES, BURST, DRAIN_PATHS

INTRODUCTION = '''# Bench report

Written by `scripts/bench --report`; doc/benchmarks.md says how the numbers come about and how to read
them. Every value is a median, with the least and greatest of its rounds; the sides took turns within
one run.
'''


def _placement(cells):
    """The placement of the CPUs that most of them have numbers for: numbers of different ones do not
    belong in one plot."""
    return max((*report.PLACEMENTS, 'disturbed'),
               key=lambda placement: sum(placement in cell['numbers'] for cell in cells))


def _cycles(cell, placement):
    """(least, median, greatest) of the TSC cycles, or None."""
    if placement not in cell['numbers']:
        return None
    cycles = cell['numbers'][placement]['cycles_per_packet']
    return cycles['min'], cycles['median'], cycles['max']


def _instructions(cell, _placement):
    count = cell.get('instructions')
    return (count['per_packet'],) * 3 if count else None


def _bars(results, title, y_label, find):
    """One plot of all cases of `results`; None if there is nothing in it."""
    sides = list(dict.fromkeys(side for cells in results.values() for side in cells))
    several = len({case.path for case in results}) > 1
    groups = [f'{report.PATHS[case.path]}, {case.label()}' if several else case.label()
              for case in results]
    placement = _placement([cell for cells in results.values() for cell in cells.values()])
    series = {side: [find(cells[side], placement)
                     if side in cells and not cells[side]['not_negotiated'] else None
                     for cells in results.values()] for side in sides}
    series = {side: row for side, row in series.items() if any(row)}
    if not series:
        return None
    return svg.bars(title + (f', CPUs {placement}' if find is _cycles else ''), y_label, groups,
                    series)


def _comparison_plots(results, name, title):
    yield f'{name}-cycles.svg', _bars(results, f'{title}: TSC cycles per packet', 'TSC cycles', _cycles)
    yield (f'{name}-instructions.svg',
           _bars(results, f'{title}: instructions per packet', 'instructions', _instructions))


def _scale_plot(results, axis):
    points = [(case.value, cells['ringway']) for case, cells in results.items()
              if case.axis == axis and 'ringway' in cells]
    placement = _placement([cell for _, cell in points])
    series = {name: [(x, find(cell, placement)) for x, cell in points if find(cell, placement)]
              for name, find in (('TSC cycles', _cycles), ('instructions', _instructions))}
    series = {name: row for name, row in series.items() if row}
    if not series:
        return None
    return svg.lines(f'Ringway, 64 bytes: cost per packet over {axis}, CPUs {placement}',
                     AXES[axis][0], 'per packet', series)


def _latency_plot(results, quantile):
    placement = latency.common_placement(results)
    sides = {side: [(share * 100, latency.spread_us(by_placement[placement], quantile))
                    for share, by_placement in points.items() if placement in by_placement]
             for side, points in results.items()}
    sides = {side: row for side, row in sides.items() if row}
    return svg.lines(f'Latency guest to guest, 64 bytes: {quantile}, CPUs {placement}',
                     '% of the closed-loop rate', 'us', sides) if sides else None


def _split(results):
    """Results by part: whole programs by size, by variant, by burst; the same in drain mode; curves."""
    def pick(test):
        return {case: cells for case, cells in results.items() if test(case)}
    parts = {}
    for name, paths in (('pair', ('pair',)), ('loop', ('loop',)), ('drain', ('forward',))):
        plain = [case for case in results if case.path in paths and not case.axis]
        if not plain:
            continue
        variant, burst, size = plain[0].variant, plain[0].burst, plain[0].size
        parts[f'{name}-sizes'] = pick(lambda case: case in plain and case.variant == variant and
                                      case.burst == burst)
        for what, same in (('variants', lambda case: case.burst == burst and case.size == size),
                           ('bursts', lambda case: case.variant == variant and case.size == size)):
            found = pick(lambda case: case in plain and same(case))
            if len(found) > 1:
                parts[f'{name}-{what}'] = found
    mbufs = pick(lambda case: case.path in ('dequeue', 'enqueue') and case.burst == BURST)
    return parts | ({'drain-mbufs': mbufs} if mbufs else {})


TITLES = {'pair': 'Guest to guest, whole programs', 'loop': 'One guest, loop',
          'drain': 'Drain mode'}


def plots(results, latencies):
    """{file name: SVG text}"""
    found = {}
    for name, part in _split(results).items():
        found.update(_comparison_plots(part, name, TITLES[name.split('-')[0]]))
    for axis in AXES:
        found[f'scale-{axis}.svg'] = _scale_plot(results, axis)
    for quantile in ('p50', 'p99'):
        found[f'latency-{quantile}.svg'] = _latency_plot(latencies, quantile)
    return {name: text for name, text in found.items() if text}


def _block(text):
    return ['```', text, '```', ''] if text else []


def _images(names, prefix):
    return [line for name in names if name.startswith(prefix)
            for line in (f'![{name[:-4]}](bench/{name})', '')]


def text(info, results, latencies, figures, left_out, errors, names):
    """The page; `names`: files of plots."""
    whole = {case: cells for case, cells in results.items()
             if case.path not in DRAIN_PATHS and not case.axis}
    drain = {case: cells for case, cells in results.items() if case.path in DRAIN_PATHS}
    curves = {case: cells for case, cells in results.items() if case.axis}
    out = [INTRODUCTION, '## Conditions', '', *_block(report.heading(info))]
    if left_out:
        out += ['Left out:', '', *(f'- {what}: {why}' for what, why in left_out.items()), '']
    if errors:
        out += ['Measurements that failed, and were tried again:', '',
                *(f'- {line}' for line in errors), '']
    out += ['## Targets', '', *_block(targets.table(results))]
    for title, part, prefixes in (('Whole programs', whole, ('pair-', 'loop-')),
                                  ('Drain mode', drain, ('drain-',))):
        if part:
            out += [f'## {title}', '', *_block(report.table(part)), *_block(report.stage_table(part)),
                    *_images(names, prefixes)]
    if latencies:
        out += ['## Latency', '', *_block(latency.table(latencies)), *_images(names, 'latency-')]
    if figures:
        out += ['## Quiet', '', *_block(quiet.table(figures))]
    if curves:
        out += ['## Scale', '', *_block(scale.table(curves)), *_images(names, 'scale-')]
    return '\n'.join(out).rstrip() + '\n'


def write(root, info, results, latencies, figures, left_out, errors):
    """Writes page and plots below `root` (doc/); plots of an earlier run that this one has not go."""
    directory = os.path.join(root, 'bench')
    os.makedirs(directory, exist_ok=True)
    made = plots(results, latencies)
    for name in os.listdir(directory):
        if name.endswith('.svg') and name not in made:
            os.unlink(os.path.join(directory, name))
    for name, svg_text in made.items():
        with open(os.path.join(directory, name), 'w', encoding='utf-8') as file:
            file.write(svg_text)
    path = os.path.join(root, 'bench-report.md')
    with open(path, 'w', encoding='utf-8') as file:
        file.write(text(info, results, latencies, figures, left_out, errors, made))
    return path
