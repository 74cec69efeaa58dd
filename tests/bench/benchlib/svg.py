# SPDX-License-Identifier: BSD-3-Clause
"""Two kinds of plot as SVG text: bars in groups, and lines over an axis, both with their spread.

A value is (least, median, greatest). Colours are legible on white and told apart without them: lines have
markers, bars their order in the legend.
"""
import math
from xml.sax.saxutils import escape

WIDTH, HEIGHT = 760, 380
LEFT, RIGHT, TOP, BOTTOM = 64, 16, 56, 56
COLOURS = ('#1b6ca8', '#d1662f', '#4d8f4d', '#8a5aa8', '#777777', '#b8993a')
MARKERS = ('circle', 'square', 'diamond')
FONT = 'font-family="sans-serif" font-size="12"'


def _number(value):
    return f'{value:.1f}'.rstrip('0').rstrip('.')


def ticks(greatest, n_wanted=6):
    """0 and round numbers up to at least `greatest`."""
    if greatest <= 0:
        return [0, 1]
    step = 10 ** math.floor(math.log10(greatest / n_wanted))
    step *= next(factor for factor in (1, 2, 5, 10) if greatest / (step * factor) <= n_wanted)
    n = math.ceil(greatest / step - 1e-9)
    return [i * step for i in range(n + 1)]


class _Plot:
    """The frame of a plot; y grows upwards from 0."""

    def __init__(self, title, y_label, greatest):
        self.marks = ticks(greatest)
        self.parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
            f'width="{WIDTH}" height="{HEIGHT}" {FONT}>',
            f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>']
        self.text(WIDTH / 2, 20, title, 'middle', 'font-weight="bold"')
        self.text(16, TOP + self.plot_height() / 2, y_label, 'middle',
                  f'transform="rotate(-90 16 {TOP + self.plot_height() / 2:.1f})"')
        for mark in self.marks:
            self.line(LEFT, self.y(mark), WIDTH - RIGHT, self.y(mark), '#dddddd')
            self.text(LEFT - 6, self.y(mark) + 4, _number(mark), 'end')

    @staticmethod
    def plot_height():
        return HEIGHT - TOP - BOTTOM

    def y(self, value):
        return TOP + self.plot_height() * (1 - value / self.marks[-1])

    def text(self, x, y, text, anchor, more=''):
        self.parts.append(f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" {more}>'
                          f'{escape(str(text))}</text>')

    def line(self, x1, y1, x2, y2, colour, width=1):
        self.parts.append(f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" '
                          f'stroke="{colour}" stroke-width="{width}"/>')

    def spread(self, x, value):
        """A whisker from least to greatest."""
        low, _, high = value
        self.line(x, self.y(low), x, self.y(high), '#333333')
        for end in (low, high):
            self.line(x - 3, self.y(end), x + 3, self.y(end), '#333333')

    def marker(self, x, y, i):
        colour, shape = COLOURS[i % len(COLOURS)], MARKERS[i % len(MARKERS)]
        if shape == 'circle':
            self.parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{colour}"/>')
            return
        turn = f' transform="rotate(45 {x:.1f} {y:.1f})"' if shape == 'diamond' else ''
        self.parts.append(f'<rect x="{x - 4:.1f}" y="{y - 4:.1f}" width="8" height="8" '
                          f'fill="{colour}"{turn}/>')

    def legend(self, names):
        x = LEFT
        for i, name in enumerate(names):
            self.marker(x + 5, 38, i)
            self.text(x + 14, 42, name, 'start')
            x += 34 + 7 * len(name)

    def finish(self):
        self.line(LEFT, self.y(0), WIDTH - RIGHT, self.y(0), '#333333')
        return '\n'.join(self.parts + ['</svg>', ''])


def bars(title, y_label, groups, series):
    """groups: names on the x axis; series: {name: [value of each group, or None]}."""
    values = [value for row in series.values() for value in row if value]
    plot = _Plot(title, y_label, max(value[2] for value in values))
    plot.legend(series)
    group_width = (WIDTH - LEFT - RIGHT) / len(groups)
    bar_width = group_width * 0.8 / len(series)
    for g, group in enumerate(groups):
        begin = LEFT + group_width * (g + 0.1)
        plot.text(LEFT + group_width * (g + 0.5), HEIGHT - BOTTOM + 18, group, 'middle')
        for i, row in enumerate(series.values()):
            if not row[g]:
                continue
            x, top = begin + bar_width * i, plot.y(row[g][1])
            plot.parts.append(
                f'<rect x="{x:.1f}" y="{top:.1f}" width="{bar_width * 0.92:.1f}" '
                f'height="{plot.y(0) - top:.1f}" fill="{COLOURS[i % len(COLOURS)]}"/>')
            plot.spread(x + bar_width * 0.46, row[g])
            plot.text(x + bar_width * 0.46, plot.y(row[g][2]) - 4, _number(row[g][1]), 'middle')
    return plot.finish()


def lines(title, x_label, y_label, series):
    """series: {name: [(x, value)]}, x > 0; the x axis is logarithmic, with a tick at every x."""
    xs = sorted({x for points in series.values() for x, _ in points})
    values = [value for points in series.values() for _, value in points]
    plot = _Plot(title, y_label, max(value[2] for value in values))
    plot.legend(series)
    first, last = math.log(xs[0]), math.log(max(xs[-1], xs[0] * 2))

    def place(x):
        return LEFT + 20 + (WIDTH - LEFT - RIGHT - 40) * (math.log(x) - first) / (last - first)
    for x in xs:
        plot.line(place(x), plot.y(0), place(x), plot.y(0) + 5, '#333333')
        plot.text(place(x), HEIGHT - BOTTOM + 18, _number(x), 'middle')
    plot.text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 14, x_label, 'middle')
    for i, points in enumerate(series.values()):
        path = ' '.join(f'{place(x):.1f},{plot.y(value[1]):.1f}' for x, value in points)
        plot.parts.append(f'<polyline points="{path}" fill="none" '
                          f'stroke="{COLOURS[i % len(COLOURS)]}" stroke-width="2"/>')
        for x, value in points:
            plot.spread(place(x), value)
            plot.marker(place(x), plot.y(value[1]), i)
    return plot.finish()
