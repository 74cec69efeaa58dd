# SPDX-License-Identifier: BSD-3-Clause
"""The command line of scripts/bench."""
import argparse
import os

from .bench import GENERATORS, SIDES
from .case import AXES, BURST, DRAIN_PATHS, VARIANTS

PARTS = ('compare', 'drain', 'latency', 'scale', 'quiet')
TOPOLOGIES = ('pair', 'loop')
# What comes with an installation of its own, or a build that takes a while, is not measured unasked.
DEFAULT_SIDES = ('ringway', 'testpmd', 'rte_vhost')


def names(allowed):
    def parse(text):
        chosen = text.split(',')
        unknown = [name for name in chosen if name not in allowed]
        if unknown:
            raise argparse.ArgumentTypeError(
                f'{unknown[0]!r} is none of {", ".join(allowed)}')
        return chosen
    return parse


def numbers(low, high, count=None):
    def parse(text):
        try:
            values = [int(part) for part in text.split(',')]
        except ValueError as err:
            raise argparse.ArgumentTypeError(f'{text!r} is no list of numbers') from err
        if not all(low <= value <= high for value in values):
            raise argparse.ArgumentTypeError(f'{text}: allowed are {low} to {high}')
        if count and len(set(values)) != count:
            raise argparse.ArgumentTypeError(f'{text}: {count} different numbers are wanted')
        return values
    return parse


def sizes(text):
    """Numbers and the word imix, in the order given."""
    parse = numbers(64, 1518)
    return [word if word == 'imix' else parse(word)[0] for word in text.split(',')]


def _parser(root, description):
    parser = argparse.ArgumentParser(description=description,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add('--build', default=os.path.join(root, 'build'), help='build directory (build)')
    add('--parts', type=names(PARTS), default=['compare'],
        help='compare: whole programs; drain: the datapath alone, backlog never empty; latency; '
             'scale: curves; quiet: with little or nothing to do (compare)')
    add('--targets', action='store_true', help='measure what the target table needs, and print it')
    add('--report', action='store_true',
        help='all parts, all sides; writes bench-report.md and plots')
    add('--output', default=os.path.join(root, 'doc'), help='where --report writes (doc)')
    add('--sides', type=names(SIDES), help='of ' + ','.join(SIDES) + ' (' +
        ','.join(DEFAULT_SIDES) + ')')
    add('--topologies', type=names(TOPOLOGIES), default=list(TOPOLOGIES), help='pair,loop')
    add('--paths', type=names(DRAIN_PATHS), default=list(DRAIN_PATHS),
        help='drain: ' + ','.join(DRAIN_PATHS))
    add('--axes', type=names(AXES), default=list(AXES), help='scale: ' + ','.join(AXES))
    add('--points', type=numbers(1, 65536),
        help='scale: values on each axis, as far as it has them (a curve)')
    add('--wakeups', type=numbers(8, 10**9, 1), help='quiet: bursts that a sleeping worker must not '
        'miss (1000000; with --quick 10000)')
    add('--sizes', type=sizes, help='frame sizes in bytes without FCS, or imix (64,256,1518)')
    add('--variants', type=names(VARIANTS), default=['split'],
        help='of ' + ','.join(VARIANTS) + ': the first with every size, others with the first '
             'size (split)')
    add('--bursts', type=numbers(1, BURST), default=[BURST],
        help=f'frames handled at a time; others than the first with the first size ({BURST})')
    add('--generator', choices=GENERATORS, default='ringbench', help='load generator (ringbench)')
    add('--rounds', type=int, default=5, help='interleaved rounds (5)')
    add('--window', type=float, default=0.25, help='seconds per measurement (0.25)')
    add('--settle', type=float, default=0.2, help='seconds of traffic before it (0.2)')
    add('--attempts', type=int, default=3, help='windows tried for an undisturbed one (3)')
    add('--instructions', type=int, default=150000,
        help='instructions stepped through per case, 0 for none (150000)')
    add('--cpus', type=numbers(0, 4095, 2), default=[0, 1],
        help='CPU of the back end and CPU of the generator (0,1)')
    add('--no-realtime', dest='realtime', action='store_false',
        help='no real-time priority within the windows')
    add('--ring', type=int, default=256, help='descriptors per ring (256)')
    add('--in-flight', type=int, default=224, help='frames in flight per direction (224)')
    add('--backlog', type=int, default=128,
        help='drain: frames that must be waiting before they are worked through (128)')
    add('--quick', action='store_true',
        help='one short round at 64 bytes: does everything run? its numbers mean little')
    add('--profile', action='store_true',
        help="only list where each side's instructions are, inlined functions apart")
    add('--require', action='store_true',
        help='exit 1 if ringway is slower than testpmd from guest to guest at 64 bytes')
    add('--keep-logs', action='store_true', help='leave logs and sockets behind, and say where')
    add('-j', '--json', action='store_true', help='print a JSON object')
    return parser


def _check(parser, options):
    if options.rounds < 1 or options.attempts < 1 or options.window <= 0 or options.settle < 0:
        parser.error('--rounds, --attempts: allowed are 1 and more; --window, --settle: seconds')
    if options.window > 0.8:
        parser.error(f'--window {options.window}: allowed is up to 0.8 s: the kernel takes the CPU '
                     'from real-time threads after that')
    if options.in_flight % BURST or not 0 < options.in_flight < options.ring:
        parser.error(f'--in-flight {options.in_flight}: allowed are multiples of {BURST} below '
                     f'the ring size {options.ring}')
    if options.backlog % BURST or not 0 < options.backlog <= min(options.in_flight, 512):
        parser.error(f'--backlog {options.backlog}: allowed are multiples of {BURST} up to the '
                     f'{options.in_flight} frames in flight, and up to 512')


def parse(root, description):
    parser = _parser(root, description)
    options = parser.parse_args()
    if options.report:
        options.parts = list(PARTS)
    if options.report or options.targets:
        options.sides = options.sides or list(SIDES)
    if options.targets and 'quiet' not in options.parts:
        options.parts.append('quiet')
    if options.parts == ['quiet'] and not options.sides:
        options.sides = [*DEFAULT_SIDES, 'ovs']
    options.wakeups = options.wakeups and options.wakeups[0]
    if options.report:
        options.variants, options.bursts = list(VARIANTS), [BURST, 4, 1]
        options.sizes = options.sizes or [64, 256, 1518, 'imix']
    options.sides = options.sides or list(DEFAULT_SIDES)
    options.sizes = options.sizes or [64, 256, 1518]
    if options.quick:
        options.rounds, options.window, options.settle, options.attempts = 1, 0.2, 0.2, 1
        options.sizes, options.instructions = [64], min(options.instructions, 30000)
    options.tolerant = options.report or options.targets
    _check(parser, options)
    return options
