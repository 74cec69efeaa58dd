# SPDX-License-Identifier: BSD-3-Clause
"""A daemon with two good ports whose frames flow, and two more for whatever a hostile front end or guest does.

What every such test asserts, beside its own: the daemon lives, the good pair loses nothing, the hostile port works for a good
guest afterwards, and no descriptor or mapping stays."""
import contextlib
import time

from bed import Bed, DaemonTest, ethernet, mac
from vhost_user import DEFAULT_FEATURES, FrontEnd, wait_for

EVIL, PEER = mac(0x666), mac(0x777)


class Stage(Bed):
    """What the tests of one class share: the daemon and the traffic of the good pair."""

    def __init__(self):
        self.stack = contextlib.ExitStack()
        self.addCleanup = self.stack.callback
        with contextlib.ExitStack() as on_error:
            on_error.callback(self.stack.close)
            self.make_folder()
            self.start(['good1', 'good2', 'evil', 'peer'],
                       [{'name': 'br0', 'ports': ['good1', 'good2']}, {'name': 'br1', 'ports': ['evil', 'peer']}])
            self.traffic = self.bench_running('good1', 'good2')
            on_error.pop_all()


class HostileTest(DaemonTest):
    @classmethod
    def setUpClass(cls):
        cls.stage = Stage()
        cls.addClassCleanup(cls.stage.stack.close)

    @classmethod
    def tearDownClass(cls):
        """Last of all: nothing that any test did has cost the good pair a frame."""
        cls.stage.traffic.check()

    def setUp(self):
        self.folder, self.daemon = self.stage.folder, self.stage.daemon
        self.guests = []
        self.last_front_end = None
        self.addCleanup(self.keep_log)
        # Tables, pools and the like that the first guest fills are there before anything is counted.
        self.assert_passes('evil', 'peer')
        self.before = self.daemon.resources()
        self.started = time.monotonic()
        self.log_start = len(self.daemon.log())

    def tearDown(self):
        super().tearDown()
        for guest in self.guests:
            guest.close()
        for name in ('evil', 'peer'):
            self.daemon.wait_state(name, 'idle', 20)
        self.assert_flat(self.before)
        self.assert_passes('evil', 'peer')
        self.assertIsNone(self.stage.traffic.child.poll(), 'the good pair\'s traffic has ended')

    def guest(self, name, **options):
        guest = super().guest(name, **options)
        self.guests.append(guest)
        return guest

    def front_end(self, negotiate=False):
        """A bare connection to the hostile port; the last one is closed first."""
        if self.last_front_end is not None:
            self.last_front_end.close()
        self.daemon.wait_state('evil', 'idle')
        front_end = FrontEnd.connect(self.path('evil.sock'))
        self.last_front_end = front_end
        self.guests.append(front_end)
        if negotiate:
            front_end.negotiate()
        return front_end

    def evil_log(self):
        return [line for line in self.daemon.log()[self.log_start:].splitlines() if 'evil' in line and not line.startswith('info:')]

    def assert_log_is_limited(self):
        """A limit is 10 lines in 10 s, and one more on what was kept back; a port has one and its session another."""
        lines = self.evil_log()
        self.assertIn('evil: ', self.daemon.log(), 'nothing was ever said about it')
        windows = 2 + (time.monotonic() - self.started) // 10
        self.assertLessEqual(len(lines), 22 * windows, '\n'.join(lines[:40]))


class RingTest(HostileTest):
    """The hostile guest's rings are set up, and a good peer listens to what comes through."""

    features = DEFAULT_FEATURES

    def setUp(self):
        super().setUp()
        self.peer = self.guest('peer')
        self.evil = self.guest('evil', features=self.features, size=64)
        # The bridge knows both, so nothing is flooded.
        self.peer.send(ethernet(0, source=PEER, destination=EVIL))
        self.evil.send(ethernet(0, source=EVIL, destination=PEER))
        self.assertEqual(len(self.peer.receive(1)), 1)
        self.peer.drain()
        self.evil.drain()
        while self.evil.receive_now() is not None:
            pass
        self.sequence = 0
        self.scratch = self.evil.memory.alloc(64 << 10)

    def frame(self, size=64):
        self.sequence += 1
        return ethernet(self.sequence, source=EVIL, destination=PEER, size=size)

    def drops(self, name='evil'):
        return self.daemon.counters(name)['drops']

    def assert_evil_sends(self, n=5):
        """Good frames of the hostile guest still pass."""
        frames = [self.frame() for _ in range(n)]
        self.evil.send(*frames)
        self.assertEqual(self.peer.receive_data(n), frames)

    def push_chain(self, *descs, ring=None):
        """A chain of (gpa, length, flags, next) from slot 0 on, whatever that means. Returns nothing: nobody waits for it."""
        ring = ring or self.evil.tx
        for slot, (gpa, size, flags, next_slot) in enumerate(descs):
            ring.set_desc(slot, gpa, size, flags, next_slot)
        ring.push(0)
        ring.publish()

    def assert_returned(self, ring=None, expected_len=0, timeout=10):
        """The back end gives the buffer back, unused."""
        ring = ring or self.evil.tx
        self.assertTrue(wait_for(ring.n_used, timeout), 'the buffer was not returned')
        self.assertEqual(ring.pop()[1], expected_len)

    def assert_breaks(self, number):
        """The ring is declared broken."""
        def is_broken():
            return any(ring['index'] == number and ring['broken'] for ring in self.daemon.port('evil')['rings'])
        self.assertTrue(wait_for(is_broken, 10, 0.01), self.daemon.port('evil')['rings'])

    def restart(self, ring):
        """What a driver does after its device has given up: stop, begin anew."""
        self.evil.stop_ring(ring)
        self.start_anew(ring)

    def start_anew(self, ring):
        memory = ring.memory
        memory.write(ring.avail, bytes(6 + 2 * ring.size))
        memory.write(ring.used, bytes(6 + 8 * ring.size))
        ring.avail_idx = ring.last_used = 0
        for pair in self.evil.pairs:
            if ring is pair.tx:
                pair.tx_chains.clear()
                pair.tx_free = list(range(ring.size))
            elif ring is pair.rx:
                self.evil.post_all(pair)
        self.evil.start_ring(ring, base=0)
