# SPDX-License-Identifier: BSD-3-Clause
"""What is measured: a frame's way, its size, the features of the guests, the burst."""
from typing import NamedTuple, Union

# Frames that either worker takes in one poll at most.
BURST = 32

# Through a program: pair, loop. Through the same code alone, in drain mode: forward, dequeue, enqueue.
PATHS = {
    'pair': 'guest to guest',
    'loop': 'one guest, loop',
    'forward': 'guest to guest',
    'dequeue': 'guest to mbufs',
    'enqueue': 'mbufs to guest',
}
DRAIN_PATHS = ('forward', 'dequeue', 'enqueue')

# ringbench's --features, the feature that tells whether it was heeded, and whether that is to be on
VARIANTS = {
    'split': ('', 'RING_PACKED', False),
    'packed': ('+packed', 'RING_PACKED', True),
    'single': ('-mrg_rxbuf', 'MRG_RXBUF', False),
    'any-order': ('-in_order', 'IN_ORDER', False),
    'event-idx': ('+event_idx', 'EVENT_IDX', True),
}

# What the curves run over: the x axis, and ringbench's option for it.
AXES = {
    'ports': ('ports configured, 2 with guests', None),
    'idle': ('ports with guests, 2 of them busy', None),
    'queues': ('queue pairs per guest', '--queues'),
    'macs': ('MAC addresses per guest', '--macs'),
    'regions': ('memory regions per guest', '--regions'),
}
# Between that many queues each still has full bursts.
QUEUES_RING, QUEUES_IN_FLIGHT = 1024, 896


class Case(NamedTuple):
    path: str = 'pair'
    size: Union[int, str] = 64
    variant: str = 'split'
    burst: int = BURST
    axis: str = ''
    value: int = 0

    def group(self):
        """Cases of one group are measured with one start of the back end."""
        burst = self.burst if self.path in DRAIN_PATHS else 0
        path = 'mbufs' if self.path in ('dequeue', 'enqueue') else self.path
        return path, burst, self.axis, self.value

    def n_guests(self):
        return 1 if self.path == 'loop' else 2

    def ring(self, context):
        return QUEUES_RING if self.axis == 'queues' else context.ring

    def in_flight(self, context):
        """Frames per direction. In drain mode bursts are the back end's affair: the backlog stays."""
        if self.path not in DRAIN_PATHS and self.burst < BURST:
            return self.burst
        return QUEUES_IN_FLIGHT if self.axis == 'queues' else context.in_flight

    def generator_options(self, context):
        """ringbench's, but for sockets and duration."""
        batch = context.backlog if self.path in DRAIN_PATHS else self.burst
        options = ['--topology', 'loop' if self.path == 'loop' else 'pair',
                   '--size', str(self.size), '--ring', str(self.ring(context)),
                   '--window', str(self.in_flight(context)), '--batch', str(batch)]
        features = VARIANTS[self.variant][0]
        if features:
            options += ['--features', features]
        if self.axis and AXES[self.axis][1]:
            options += [AXES[self.axis][1], str(self.value)]
        return options

    def generator_words(self):
        """Options and features that ringbench has not always had."""
        words = [VARIANTS[self.variant][0], AXES[self.axis][1] if self.axis else '']
        return [word for word in words if word]

    def packets_per_visit(self):
        """Between two visits of the anchor, with full bursts. On a curve that is a round of the worker, of
        all its queues; else a poll."""
        n_queues = self.value if self.axis == 'queues' else 1
        return self.burst * (self.n_guests() * n_queues if self.axis else 1)

    def not_negotiated(self, features):
        """What the variant is about and the guests did not get, or None. `features`: sets of names."""
        _, name, wanted = VARIANTS[self.variant]
        if all((name in names.split()) == wanted for names in features):
            return None
        return f'{name} {"not negotiated" if wanted else "negotiated"}'

    def label(self):
        """Size and what else is not as usual."""
        words = [str(self.size)]
        if self.variant != 'split':
            words.append(self.variant)
        if self.burst != BURST:
            words.append(f'burst {self.burst}')
        if self.axis:
            words.append(f'{self.value} {self.axis}')
        return ' '.join(words)


def sweep(paths, sizes, variants, bursts):
    """Every size on every path with the first variant and burst; the other variants and bursts, one
    at a time, on the first path with the first size."""
    cases = [Case(path, size, variants[0], bursts[0]) for path in paths for size in sizes]
    cases += [Case(paths[0], sizes[0], variant, bursts[0]) for variant in variants[1:]]
    cases += [Case(paths[0], sizes[0], variants[0], burst) for burst in bursts[1:]]
    return list(dict.fromkeys(cases))
