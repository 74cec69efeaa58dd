# SPDX-License-Identifier: BSD-3-Clause
"""A hostile front end's messages (threats, tables M and F) beside a good pair of ports under load."""
import contextlib
import os
import random
import struct
import time

import bed
from hostile import HostileTest
from vhost_user import *

ALL_REQUESTS = range(1, 46)


def every_good_message(memory):
    """(request, payload, number of descriptors) as a good front end sends them."""
    region = struct.pack('<QQQQ', *memory.regions[0])
    state = struct.pack('<II', 0, 0)
    return [
        (GET_FEATURES, b'', 0), (SET_FEATURES, struct.pack('<Q', DEFAULT_FEATURES), 0), (SET_OWNER, b'', 0),
        (SET_MEM_TABLE, struct.pack('<II', 1, 0) + region, 1), (SET_VRING_NUM, struct.pack('<II', 0, 256), 0),
        (SET_VRING_ADDR, struct.pack('<IIQQQQ', 0, 0, *[memory.regions[0][2]] * 3, 0), 0),
        (SET_VRING_BASE, state, 0), (GET_VRING_BASE, state, 0), (SET_VRING_KICK, struct.pack('<Q', 0), 1),
        (SET_VRING_CALL, struct.pack('<Q', 0), 1), (SET_VRING_ERR, struct.pack('<Q', 0), 1),
        (GET_PROTOCOL_FEATURES, b'', 0), (SET_PROTOCOL_FEATURES, struct.pack('<Q', 0), 0), (GET_QUEUE_NUM, b'', 0),
        (SET_VRING_ENABLE, state, 0), (ADD_MEM_REG, bytes(8) + region, 1), (REM_MEM_REG, bytes(8) + region, 0),
    ]


class Headers(HostileTest):
    def test_a_wrong_version_or_reply_bit_ends_the_connection(self):
        for flags in (0, 2, 3, FLAG_VERSION | FLAG_REPLY, FLAG_VERSION | FLAG_REPLY | FLAG_NEED_REPLY):
            with self.subTest(flags=flags):
                front_end = self.front_end()
                front_end.send_raw(FrontEnd.message(GET_FEATURES, flags=flags))
                self.assertTrue(front_end.is_closed())

    def test_reserved_flag_bits_are_not_echoed(self):
        front_end = self.front_end()
        for flags in (FLAG_VERSION | 0xfffffff0, FLAG_VERSION | FLAG_NEED_REPLY):
            front_end.send_raw(FrontEnd.message(GET_FEATURES, flags=flags))
            self.assertEqual(len(front_end.receive_reply(GET_FEATURES)), 8)

    def test_an_oversized_message_ends_the_connection_before_it_is_read(self):
        for request in (GET_FEATURES, SET_MEM_TABLE, 200):
            for size in (4097, 65536, 2**31 - 1, 2**31, 2**32 - 1):
                with self.subTest(request=request, size=size):
                    front_end = self.front_end()
                    front_end.send_raw(struct.pack('<III', request, FLAG_VERSION, size))
                    self.assertTrue(front_end.is_closed())

    def test_unknown_requests_are_refused_in_step(self):
        front_end = self.front_end(negotiate=True)
        for request in (0, *range(46, 256, 7), 2**31, 2**32 - 1):
            for payload in (b'', b'x' * 100, b'x' * 4096):
                with self.assertRaises(Refused):
                    front_end.tell(request, payload)
        self.assertEqual(front_end.ask_u64(GET_FEATURES), front_end.offered)
        self.assert_log_is_limited()

    def test_a_connection_lost_at_any_byte_of_any_message_leaves_nothing(self):
        memory = Memory(PAGE)
        self.addCleanup(memory.close)
        for request, payload, n_fds in every_good_message(memory):
            data = FrontEnd.message(request, payload)
            for n in {1, 12, 13, len(data) - 1}:
                if n >= len(data):
                    continue
                front_end = FrontEnd.connect(self.path('evil.sock'))
                # Turned away if the one before is still there: as good a moment to be cut.
                with contextlib.suppress(Closed):
                    front_end.send_raw(data[:n], [memory.fd] * n_fds)
                front_end.close()
        self.daemon.wait_state('evil', 'idle')
        self.assert_flat(self.before)

    def test_messages_in_one_piece_or_byte_by_byte_are_the_same(self):
        front_end = self.front_end()
        question = FrontEnd.message(GET_FEATURES)
        front_end.send_raw(question * 200)
        answers = {front_end.receive_reply(GET_FEATURES) for _ in range(200)}
        for byte in question:
            front_end.send_raw(bytes([byte]))
            time.sleep(0.005)
        answers.add(front_end.receive_reply(GET_FEATURES))
        self.assertEqual(len(answers), 1)


class Patience(HostileTest):
    def test_half_a_message_and_then_silence_ends_at_the_deadline_and_holds_nobody_up(self):
        memory = Memory(PAGE)
        self.addCleanup(memory.close)
        data = FrontEnd.message(SET_MEM_TABLE, struct.pack('<II', 1, 0) + struct.pack('<QQQQ', *memory.regions[0]))
        for n in (5, 30):
            front_end = self.front_end()
            front_end.send_raw(data[:n], [memory.fd])
            # Everybody else is served meanwhile.
            self.assertEqual(self.daemon.ctl('port', 'show', 'good1')[0], 0)
            self.assertTrue(front_end.is_closed(20))
        self.assert_log_is_limited()

    def test_dripping_bytes_do_not_hold_a_message_open_for_ever(self):
        front_end = self.front_end()
        with self.assertRaises(Closed):
            for byte in FrontEnd.message(GET_FEATURES, b'x' * 4096):
                front_end.send_raw(bytes([byte]))
                time.sleep(0.2)

    def test_questions_whose_answers_are_not_read_end_at_the_deadline(self):
        front_end = self.front_end()
        question = FrontEnd.message(GET_FEATURES) * 100
        front_end.sock.settimeout(0.5)
        n = 0
        with contextlib.suppress(TimeoutError, Closed):
            for n in range(10000):
                front_end.send_raw(question)
        self.assertLess(n, 9999, 'it takes what it cannot answer')
        self.daemon.wait_state('evil', 'idle', 20)


class Contents(HostileTest):
    def refused(self, front_end, request, payload, fds=()):
        with self.assertRaises(Refused):
            front_end.tell(request, payload, fds)

    def test_every_index_that_is_no_ring_is_refused(self):
        """M7. 0x100 is the no-fd bit of three of them, and nothing is cut to fewer bits."""
        front_end = self.front_end(negotiate=True)
        n_rings = 2 * front_end.ask_u64(GET_QUEUE_NUM)
        event = os.eventfd(0, os.EFD_NONBLOCK)
        self.addCleanup(os.close, event)
        for index in (n_rings, 0xff, 0x100, 0x101, 0x10000, 2**32 - 1):
            with self.subTest(index=index):
                for request in (SET_VRING_NUM, SET_VRING_BASE, SET_VRING_ENABLE):
                    self.refused(front_end, request, struct.pack('<II', index, 1))
                self.refused(front_end, SET_VRING_ADDR, struct.pack('<IIQQQQ', index, 0, 0, 0, 0, 0))
                for request in (SET_VRING_KICK, SET_VRING_CALL, SET_VRING_ERR):
                    if index not in (0x100, 0x101):
                        fds = () if index & NO_FD else [event]
                        self.refused(front_end, request, struct.pack('<Q', index), fds)
                    self.refused(front_end, request, struct.pack('<Q', (1 << 32) + 0), [event])
        self.assertEqual(front_end.ask_u64(GET_FEATURES), front_end.offered)
        front_end.send_raw(FrontEnd.message(GET_VRING_BASE, struct.pack('<II', n_rings, 0)))
        self.assertTrue(front_end.is_closed(), 'a question without an answer')

    def test_ring_sizes(self):
        front_end = self.front_end(negotiate=True)
        for size in (0, 3, 5, 257, 32769, 65536, 2**31, 2**32 - 1):
            self.refused(front_end, SET_VRING_NUM, struct.pack('<II', 0, size))
        for size in (1, 2, 256, 32768):
            front_end.tell_state(SET_VRING_NUM, 0, size)

    def test_counts_of_regions_that_contradict_the_message(self):
        memory = Memory(PAGE)
        self.addCleanup(memory.close)
        region = struct.pack('<QQQQ', *memory.regions[0])
        front_end = self.front_end(negotiate=True)
        for n in (0, 2, 8, 9, 255, 2**31, 2**32 - 1):
            self.refused(front_end, SET_MEM_TABLE, struct.pack('<II', n, 0) + region, [memory.fd])
        self.refused(front_end, SET_MEM_TABLE, struct.pack('<II', 9, 0) + region * 9, [memory.fd] * 9)
        self.refused(front_end, SET_MEM_TABLE, struct.pack('<II', 1, 0) + region, [])
        self.refused(front_end, SET_MEM_TABLE, struct.pack('<II', 1, 0) + region[:-1], [memory.fd])
        front_end.set_mem_table(memory)

    def test_each_payload_too_short_or_too_long_is_refused_or_ends_the_connection(self):
        memory = Memory(PAGE)
        self.addCleanup(memory.close)
        front_end = self.front_end(negotiate=True)
        for request, payload, n_fds in every_good_message(memory):
            for size in {0, 1, len(payload) // 2, max(len(payload) - 5, 0), len(payload) + 1, len(payload) + 300}:
                if size == len(payload) or request in (ADD_MEM_REG, REM_MEM_REG) and size == 36:
                    continue
                with self.subTest(request=request, size=size), self.assertRaises((Refused, Closed)) as raised:
                    front_end.tell(request, (payload + bytes(300))[:size], [memory.fd] * n_fds)
                if isinstance(raised.exception, Closed):
                    front_end = self.front_end(negotiate=True)

    def test_features_that_were_not_offered_or_contradict_each_other(self):
        front_end = self.front_end(negotiate=True)
        for bits in (2**64 - 1, 1 << 33, 1 << 36, 1 << 60, DEFAULT_FEATURES | F_HOST_TSO4, DEFAULT_FEATURES | F_GUEST_TSO4):
            self.refused(front_end, SET_FEATURES, struct.pack('<Q', bits))
        for bits in (1 << 14, 1 << 63, 2**64 - 1):
            self.refused(front_end, SET_PROTOCOL_FEATURES, struct.pack('<Q', bits))
        for mtu in (0, 67, 65536, 2**32 + 1500, 2**64 - 1):
            self.refused(front_end, NET_SET_MTU, struct.pack('<Q', mtu))

    def test_surplus_descriptors_are_closed_and_the_message_refused(self):
        memory = Memory(PAGE)
        self.addCleanup(memory.close)
        front_end = self.front_end(negotiate=True)
        for request, payload, n_fds in every_good_message(memory):
            for n in {1, 9, 253} - {n_fds}:
                if request == REM_MEM_REG and n == 1:
                    continue
                # A question cannot be refused; with descriptors, the connection ends.
                with self.subTest(request=request, n=n), self.assertRaises((Refused, Closed)) as raised:
                    front_end.tell(request, payload, [memory.fd] * n)
                if isinstance(raised.exception, Closed):
                    front_end = self.front_end(negotiate=True)
        self.last_front_end.close()
        self.daemon.wait_state('evil', 'idle')
        self.assert_flat(self.before)

    def test_descriptors_in_the_middle_of_a_message_end_the_connection_or_are_lost(self):
        event = os.eventfd(0)
        self.addCleanup(os.close, event)
        data = FrontEnd.message(SET_VRING_CALL, struct.pack('<Q', 0))
        for cut in (1, 6, 12, 15):
            front_end = self.front_end(negotiate=True)
            front_end.send_raw(data[:cut])
            time.sleep(0.02)
            with contextlib.suppress(Closed):
                front_end.send_raw(data[cut:], [event])
            self.assertTrue(front_end.is_closed())
        self.daemon.wait_state('evil', 'idle')
        self.assert_flat(self.before)


class Floods(HostileTest):
    def test_each_message_again_and_again_leaves_nothing(self):
        memory = Memory(PAGE)
        self.addCleanup(memory.close)
        event = os.eventfd(0, os.EFD_NONBLOCK)
        self.addCleanup(os.close, event)
        front_end = self.front_end(negotiate=True)
        once = None
        end = time.monotonic() + 4
        while time.monotonic() < end:
            for request, payload, n_fds in every_good_message(memory):
                if request in (GET_FEATURES, GET_VRING_BASE, GET_PROTOCOL_FEATURES, GET_QUEUE_NUM):
                    front_end.ask(request, payload)
                    continue
                if request == SET_PROTOCOL_FEATURES:
                    payload = struct.pack('<Q', front_end.protocol)
                fds = [event] if request in (SET_VRING_KICK, SET_VRING_CALL, SET_VRING_ERR) else [memory.fd] * n_fds
                with contextlib.suppress(Refused):
                    front_end.tell(request, payload, fds)
            once = once or self.daemon.resources()
        self.assertEqual(self.daemon.resources(), once)
        self.assert_log_is_limited()

    def test_random_bytes_and_random_messages(self):
        seed = 20240817
        rng = random.Random(seed)
        memory = Memory(PAGE)
        self.addCleanup(memory.close)
        event = os.eventfd(0, os.EFD_NONBLOCK)
        self.addCleanup(os.close, event)
        end = time.monotonic() + 3
        while time.monotonic() < end:
            front_end = self.front_end()
            with contextlib.suppress(Closed, TimeoutError):
                if rng.random() < 0.2:
                    front_end.send_raw(rng.randbytes(rng.randrange(1, 500)))
                    continue
                front_end.sock.settimeout(0.2)
                for _ in range(rng.randrange(1, 60)):
                    request = rng.choice(ALL_REQUESTS)
                    payload = rng.choice((struct.pack('<II', rng.randrange(4), rng.choice((0, 1, 256))),
                                          rng.randbytes(rng.choice((0, 8, 16, 40, 72))), b''))
                    fds = rng.choice(((), (), [event], [memory.fd]))
                    front_end.send_raw(FrontEnd.message(request, payload, rng.choice((1, 1, 9))), fds)

    def test_refusals_over_many_connections_are_limited_in_the_log_as_well(self):
        for _ in range(100):
            front_end = FrontEnd.connect(self.path('evil.sock'))
            with contextlib.suppress(Closed):
                front_end.send_raw(FrontEnd.message(SET_FEATURES, struct.pack('<Q', 1 << 63)))
            self.assertTrue(front_end.is_closed())
            front_end.close()
        self.assert_log_is_limited()

    def test_polite_refusals_over_many_connections_are_limited_as_well(self):
        """The connection survives a refusal that can be said, and its line must not start a new limit each time."""
        for _ in range(100):
            front_end = self.front_end(negotiate=True)
            with self.assertRaises(Refused):
                front_end.tell_u64(NET_SET_MTU, 1)
        self.assert_log_is_limited()


if __name__ == '__main__':
    bed.main()
