#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""ringbench's on/off traffic, and what it says of kicks and calls, against a back end that notifies well or badly.

Usage: notification_test.py RINGBENCH [unittest's arguments]
"""
import json
import os
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))
sys.dont_write_bytecode = True

from back_end import BackEnd  # noqa: E402

RINGBENCH = sys.argv.pop(1) if len(sys.argv) > 1 else None
LAYOUTS = ('', '+packed', '+event_idx', '+packed,+event_idx')


class NotificationTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix='ringbench')
        self.addCleanup(folder.cleanup)
        self.folder = folder.name

    def bench(self, back_end, *args, features='', status=0):
        """Runs ringbench; its result, and what it said on standard error in `self.said`."""
        command = [RINGBENCH, '-j', '-s', back_end.path, '--deadline', '20', '--stall', '0.3', *args]
        if features:
            command += ['--features', features]
        done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
        self.said = done.stderr
        result = json.loads(done.stdout.splitlines()[-1])
        self.assertEqual(done.returncode, status, (self.said, result))
        if os.path.exists(back_end.path):
            os.unlink(back_end.path)
        if features:
            for word in features.split(','):
                self.assertIn(word[1:], result['conditions']['sockets'][0]['features'].split(','))
        return result

    def assert_clean(self, result, n_bursts):
        total = result['total']
        self.assertEqual((result['ok'], result['failed'], result['losses']), (True, [], []), result)
        self.assertEqual((total['bursts'], total['lost_wakeups'], total['lost']), (n_bursts, 0, 0))
        self.assertEqual(total['sent'], total['received'])
        self.assertEqual(self.said, '')


class OnOffTraffic(NotificationTest):
    def test_all_bursts_asked_for_come_through_a_back_end_that_sleeps(self):
        for features in LAYOUTS:
            for way in ([], ['--sleep']):
                with self.subTest(features=features, way=way), BackEnd(self.folder) as back_end:
                    result = self.bench(back_end, '--bursts', '300', '--pause-us', '1000', *way, features=features)
                    self.assert_clean(result, 300)
                    # it is asleep when most of them begin
                    self.assertGreater(result['total']['kicked_bursts'], 100)

    def test_a_back_end_that_polls_is_never_kicked_and_nothing_is_timed(self):
        for features in LAYOUTS:
            with self.subTest(features=features), BackEnd(self.folder, polls=True) as back_end:
                result = self.bench(back_end, '--bursts', '100', '--pause-us', '100', features=features)
                self.assert_clean(result, 100)
                self.assertEqual(result['total']['kicked_bursts'], 0)
                self.assertEqual(result['ports'][0]['kicks'], 0)
                kicks = result['total']['kick_ns']
                self.assertEqual((kicks['n'], kicks['max'], kicks['buckets']), (0, 0, []))

    def test_a_burst_has_1_to_batch_frames_and_waits_for_the_one_before(self):
        for batch in (1, 5, 32):
            with self.subTest(batch=batch), BackEnd(self.folder) as back_end:
                result = self.bench(back_end, '--bursts', '200', '--pause-us', '300', '--batch', str(batch))
                self.assert_clean(result, 200)
                sent = result['total']['sent']
                # had it not waited, frames of the next would have been there, too
                self.assertLessEqual(max(back_end.backlogs), batch)
                self.assertLess(abs(sent / 200 - (1 + batch) / 2), 0.2 * batch if batch > 1 else 0.01)

    def test_the_same_seed_gives_the_same_bursts(self):
        def sent(*args):
            with BackEnd(self.folder) as back_end:
                result = self.bench(back_end, '--bursts', '50', '--pause-us', '10', *args)
                return result['total']['sent'], result['conditions']['bursts']
        first = sent('--seed', '7')
        self.assertEqual(first[1], {'per_queue': 50, 'pause_us': 10, 'seed': 7})
        self.assertEqual(sent('--seed', '7'), first)
        chosen = sent()
        self.assertEqual(sent('--seed', str(chosen[1]['seed'])), chosen)

    def test_pauses_take_their_time(self):
        """The mean pause of 0..1, 1..2, ... 16384..32768 us is 2048 us; 300 of them take 0.6 s and what serving takes."""
        with BackEnd(self.folder) as back_end:
            long = self.bench(back_end, '--bursts', '300', '--pause-us', '32768', '--seed', '1')
        with BackEnd(self.folder) as back_end:
            short = self.bench(back_end, '--bursts', '300', '--pause-us', '0', '--seed', '1')
        self.assertGreater(long['duration_s'] - short['duration_s'], 0.3)

    def test_without_a_number_bursts_go_on_for_the_duration(self):
        with BackEnd(self.folder) as back_end:
            result = self.bench(back_end, '--pause-us', '1000', '--duration', '0.5')
        self.assertGreater(result['total']['bursts'], 50)
        self.assertLess(result['duration_s'], 2)


class Losses(NotificationTest):
    def test_a_kick_that_comes_to_nothing_is_a_lost_wake_up(self):
        for features in LAYOUTS:
            with self.subTest(features=features), BackEnd(self.folder, ignored_kicks=[20]) as back_end:
                result = self.bench(back_end, '--bursts', '60', '--pause-us', '2000', features=features, status=1)
                self.assertEqual(result['failed'], ['lost_wakeups'], result)
                # the kick that follows the report has it go on
                self.assertEqual((result['total']['bursts'], result['total']['lost_wakeups']), (60, 1))
                loss, = result['losses']
                self.assertEqual((loss['kind'], loss['from'], loss['to'], loss['queue']), ('kick', 1, 1, 0))
                self.assertLess(loss['burst'], 60)
                self.assertEqual(loss['missing'], loss['frames'])
                ring = loss['transmit_ring']
                self.assertEqual(ring['with_device'], loss['frames'])
                self.assertFalse(ring['kick_unread'])
                self.assertIn(f'burst {loss["burst"]}', self.said)
                self.assertIn(back_end.path, self.said)
                self.assertIn('lost wake-up', self.said)
                self.assertEqual(ring['packed'], 'packed' in features)

    def test_the_words_of_both_sides_are_those_in_the_ring(self):
        with BackEnd(self.folder, ignored_kicks=[5]) as back_end:
            result = self.bench(back_end, '--bursts', '20', '--pause-us', '2000', features='+event_idx', status=1)
        ring = result['losses'][0]['transmit_ring']
        # split rings: what was published, less what was used; the event word is where the back end waits
        self.assertEqual((ring['available'] - ring['used']) & 0xffff, ring['with_device'])
        self.assertEqual(ring['device_event'], ring['used'])
        for word in ('available', 'used', 'device_event', 'driver_event'):
            self.assertIn(str(ring[word]), self.said)

    def test_a_call_that_does_not_come_is_a_lost_wake_up(self):
        for features in LAYOUTS:
            with self.subTest(features=features), BackEnd(self.folder, skipped_calls=[10]) as back_end:
                result = self.bench(back_end, '--bursts', '40', '--pause-us', '2000', '--sleep', features=features,
                                    status=1)
                self.assertEqual(result['failed'], ['lost_wakeups'], result)
                self.assertEqual(result['total']['bursts'], 40)
                loss, = result['losses']
                self.assertEqual((loss['kind'], loss['receive_ring']['pending']), ('call', loss['missing']))
                self.assertIn('lost call', self.said)

    def test_a_call_that_does_not_come_fails_other_traffic_too(self):
        with BackEnd(self.folder, polls=True, skipped_calls=[3]) as back_end:
            result = self.bench(back_end, '--count', '500', '--window', '4', '--sleep', status=1)
        self.assertEqual((result['failed'], result['total']['received']), (['lost_wakeups'], 500), result)
        self.assertEqual((result['losses'][0]['kind'], result['losses'][0]['burst']), ('call', None))

    def test_frames_that_are_taken_and_not_given_back_end_the_run(self):
        with BackEnd(self.folder, kept_frames=[200]) as back_end:
            result = self.bench(back_end, '--bursts', '400', '--pause-us', '100', status=1)
        self.assertEqual(set(result['failed']), {'lost', 'lost_wakeups', 'finished'}, result)
        self.assertEqual((result['losses'][0]['kind'], result['losses'][0]['missing']), ('frame', 1))
        self.assertIn('even after a kick', result['error'])


class Counts(NotificationTest):
    def test_a_call_is_counted_once_for_each_the_back_end_made(self):
        for features in LAYOUTS:
            for call_frames in (None, 2):
                with self.subTest(features=features, call_frames=call_frames), \
                        BackEnd(self.folder, call_frames=call_frames) as back_end:
                    result = self.bench(back_end, '--bursts', '200', '--pause-us', '500', '--sleep', features=features)
                port, = result['ports']
                self.assertGreater(port['calls'], 50)
                self.assertEqual(port['calls'], back_end.n_calls)
                self.assertEqual(port['received'], result['total']['received'])
                self.assertAlmostEqual(port['frames_per_call'], port['received'] / port['calls'], 3)

    def test_a_guest_that_polls_is_not_called(self):
        with BackEnd(self.folder) as back_end:
            result = self.bench(back_end, '--bursts', '100', '--pause-us', '500')
        port, = result['ports']
        self.assertEqual((port['calls'], port['frames_per_call'], back_end.n_calls), (0, 0, 0))

    def test_the_time_from_a_kick_to_the_first_used_buffer_is_that_of_waking_up(self):
        with BackEnd(self.folder, wake_s=0.004) as back_end:
            result = self.bench(back_end, '--bursts', '50', '--pause-us', '500')
        kicks = result['total']['kick_ns']
        self.assertEqual(kicks['n'], result['total']['kicked_bursts'])
        self.assertGreater(kicks['n'], 20)
        self.assertTrue(4000000 <= kicks['p50'] <= kicks['p90'] <= kicks['p99'] <= kicks['max'], kicks)
        self.assertEqual(sum(bucket['n'] for bucket in kicks['buckets']), kicks['n'])
        # the back end may find a frame on its way to sleep, of which it has asked to be told
        late = [bucket['n'] for bucket in kicks['buckets'] if bucket['below_ns'] > 4000000]
        self.assertGreater(sum(late), kicks['n'] * 0.7, kicks)

    def test_a_guest_that_sends_nothing_is_idle(self):
        with BackEnd(self.folder) as back_end:
            result = self.bench(back_end, '--idle', '--sleep', '--duration', '0.5')
        self.assertEqual((result['ok'], result['total']['sent'], result['ports'][0]['kicks']), (True, 0, 0), result)
        self.assertEqual((back_end.n_frames, back_end.has_worked), (0, True))  # warm-up only

    def test_the_text_names_what_the_json_has(self):
        with BackEnd(self.folder, wake_s=0.001) as back_end:
            done = subprocess.run([RINGBENCH, '-s', back_end.path, '--bursts', '50', '--sleep', '--seed', '3'],
                                  capture_output=True, text=True, timeout=60, check=True)
        for words in ('pauses of up to 1000 us, seed 3', '50 bursts have come through', 'kick to first buffer used',
                      'frames per call', ' below ', 'all checks hold'):
            self.assertIn(words, done.stdout)


if __name__ == '__main__':
    unittest.main()
