# SPDX-License-Identifier: BSD-3-Clause
"""What every test of the daemon stands on: a folder of its own, the daemon, ringbench and ringwayctl as child processes, all
gone afterwards on every path."""
import contextlib
import ctypes
import json
import os
import random
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
import unittest

from vhost_user import Guest, wait_for

RINGWAY = os.environ.get('RINGWAY', '')
RINGWAYCTL = os.environ.get('RINGWAYCTL', '')
RINGBENCH = os.environ.get('RINGBENCH', '')

PR_SET_PDEATHSIG = 1
BENCH_NO_CONNECTION = 3

# Generous: the machine may be busy. A test that waits this long has failed.
START_S = 60
STOP_S = 20

_libc = ctypes.CDLL(None, use_errno=True)


def _die_with_parent():
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def spawn(argv, before_exec=None, **kwargs):
    """A child that does not outlive the test, not even if that is killed."""
    def prepare():
        _die_with_parent()
        if before_exec is not None:
            before_exec()
            # Changing the user clears the wish.
            _die_with_parent()
    return subprocess.Popen(argv, preexec_fn=prepare, stdin=subprocess.DEVNULL, **kwargs)


def end(child, signal_number=signal.SIGKILL, timeout=STOP_S):
    """Ends a child by its pid and reaps it. Returns its exit status."""
    if child.poll() is None:
        child.send_signal(signal_number)
        try:
            child.wait(timeout)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
    for stream in (child.stdout, child.stderr):
        if stream is not None:
            stream.close()
    return child.returncode


class Daemon:
    def __init__(self, bed, config, name='ringway', wait=True, before_exec=None):
        self.bed = bed
        self.config_path = bed.path(f'{name}.json')
        self.log_path = bed.path(f'{name}.log')
        self.control = config['control']['socket']
        with open(self.config_path, 'w') as file:
            json.dump(config, file)
        self.start(wait, before_exec)

    def start(self, wait=True, before_exec=None):
        with open(self.log_path, 'ab') as log:
            self.log_start = log.tell()
            self.child = spawn([RINGWAY, '--config', self.config_path], before_exec, stdout=log, stderr=log)
        self.bed.addCleanup(self.finish, self.child)
        if wait:
            ready = wait_for(lambda: 'ready:' in self.log() or self.child.poll() is not None, START_S, 0.01)
            if not ready or self.child.poll() is not None:
                raise AssertionError(f'the daemon did not start:\n{self.log()}')

    def finish(self, child):
        """Whatever happened to it: asked to end, it ends well, and no sanitizer it was built with has a word to say."""
        ran = child.poll() is None
        status = end(child, signal.SIGTERM)
        log = self.log()
        assert not ran or status == 0, f'asked to end, the daemon ended with {status}:\n{log[-4000:]}'
        assert 'Sanitizer' not in log and 'runtime error:' not in log, log[-8000:]

    @property
    def pid(self):
        return self.child.pid

    def log(self):
        """What it has said since it was started last."""
        with open(self.log_path, errors='replace') as file:
            file.seek(self.log_start)
            return file.read()

    def stop(self, timeout=STOP_S):
        """SIGTERM; returns (exit status, seconds it took)."""
        start = time.monotonic()
        status = end(self.child, signal.SIGTERM, timeout)
        return status, time.monotonic() - start

    def ctl(self, *args):
        """(exit status, decoded answer)."""
        done = subprocess.run([RINGWAYCTL, '-s', self.control, '-j', *args], capture_output=True, text=True, timeout=STOP_S)
        return done.returncode, json.loads(done.stdout) if done.stdout.strip() else done.stderr

    def call(self, method, **params):
        """One question on the control socket: the result; an error is an AssertionError."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
            sock.settimeout(STOP_S)
            sock.connect(self.control)
            request = {'jsonrpc': '2.0', 'id': 1, 'method': method, 'params': params}
            sock.sendall(json.dumps(request).encode() + b'\n')
            line = sock.makefile('rb').readline()
        answer = json.loads(line)
        if 'error' in answer:
            raise AssertionError(f'{method} {params}: {answer["error"]["message"]}')
        return answer['result']

    def port(self, name):
        return self.call('port.show', name=name)['ports'][0]

    def counters(self, name):
        return self.port(name)['counters']

    def wait_state(self, name, state, timeout=20.0):
        got = wait_for(lambda: self.port(name)['state'] == state, timeout, 0.01)
        assert got, f'port {name} is {self.port(name)["state"]}, not {state}\n{self.log()[-2000:]}'

    def n_fds(self):
        """Without the one /dev/zero that the first connection of all opens, and the daemon keeps."""
        folder = f'/proc/{self.pid}/fd'
        links = []
        for name in os.listdir(folder):
            with contextlib.suppress(FileNotFoundError):
                links.append(os.readlink(os.path.join(folder, name)))
        return len(links) - ('/dev/zero' in links)

    def n_guest_maps(self):
        """Mappings of guest memory: ours is memfd "guest", ringbench's has its own name."""
        with open(f'/proc/{self.pid}/maps') as file:
            return sum('memfd:' in line for line in file)

    def n_maps(self):
        with open(f'/proc/{self.pid}/maps') as file:
            return sum(1 for _ in file)

    def resources(self):
        """What it holds once it has come to rest: a control connection just closed on our side is there for a moment."""
        seen = []
        while len(seen) < 5 or any(one != seen[-1] for one in seen[-5:]):
            seen.append({'fds': self.n_fds(), 'guest_maps': self.n_guest_maps()})
            time.sleep(0.004)
        return seen[-1]

    def is_alive(self):
        return self.child.poll() is None


class Bench:
    """ringbench in the background. Its checks are the verdict: nothing lost, doubled, reordered or corrupted."""

    def __init__(self, bed, *sockets, args=(), window=32, sleep=True, duration=600):
        argv = [RINGBENCH, '-j', '--duration', str(duration), '--stall', '8', '--deadline', '40']
        for path in sockets:
            argv += ['-s', path]
        if window:
            argv += ['--window', str(window)]
        if sleep:
            argv.append('--sleep')
        self.child = spawn(argv + list(args), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        bed.addCleanup(end, self.child)

    def finish(self, signal_number=signal.SIGTERM, timeout=60):
        """Its result; asserts that it ended by itself."""
        if signal_number is not None and self.child.poll() is None:
            self.child.send_signal(signal_number)
        out, err = self.child.communicate(timeout=timeout)
        lines = out.strip().splitlines()
        assert lines, f'ringbench ended with {self.child.returncode}: {err}'
        result = json.loads(lines[-1])
        result['status'] = self.child.returncode
        return result

    def check(self, signal_number=signal.SIGTERM, timeout=60):
        """The result, which must be good."""
        result = self.finish(signal_number, timeout)
        total = result.get('total', {})
        shown = {key: value for key, value in total.items() if value and not isinstance(value, dict)}
        assert result['ok'] and result['status'] == 0, \
            f'ringbench: {result["status"]} failed {result.get("failed")} {result.get("error")} {shown}'
        return result

    def kill(self):
        end(self.child)


class Bed:
    """A folder, and a daemon in it; whoever inherits it says what addCleanup() means. Paths are short enough for sockets."""

    daemon = None

    def make_folder(self):
        self.folder = tempfile.mkdtemp(prefix='rwt')
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)

    def path(self, name):
        return os.path.join(self.folder, name)

    def guest_port(self, name, **more):
        return {'name': name, 'type': 'guest', 'socket': self.path(f'{name}.sock'), 'role': 'listen', **more}

    def config(self, ports, bridges=(), cross_connects=(), control='control.sock', **more):
        cpus = sorted(os.sched_getaffinity(0))
        config = {'ports': ports, 'bridges': list(bridges), 'cross_connects': list(cross_connects),
                  'control': {'socket': self.path(control)}, 'memory': {'hugepages': 'never', 'mb': 128}}
        if len(cpus) > 1:
            # Several of these may run at once: not all on the same CPU.
            config['workers'] = {'cpus': str(random.choice(cpus))}
        config.update(more)
        return config

    def start(self, ports, bridges=(), cross_connects=(), **more):
        """Ports are names or objects."""
        ports = [self.guest_port(port) if isinstance(port, str) else port for port in ports]
        self.daemon = Daemon(self, self.config(ports, bridges, cross_connects, **more))
        return self.daemon

    def guest(self, name, **options):
        guest = Guest.start(self.path(f'{name}.sock'), **options)
        self.addCleanup(guest.close)
        return guest

    def bench(self, *names, **options):
        return Bench(self, *[self.path(f'{name}.sock') for name in names], **options)

    def bench_running(self, *names, minimum=1000, **options):
        """As bench(), and its frames flow already."""
        bench = self.bench(*names, **options)
        flows = wait_for(lambda: bench.child.poll() is not None or all(
            self.daemon.counters(name)['tx_packets'] >= minimum for name in names), 60, 0.02)
        if not flows or bench.child.poll() is not None:
            out, err = bench.child.communicate() if bench.child.poll() is not None else ('', 'no frames pass')
            raise AssertionError(f'ringbench does not run: {out} {err}\n{self.daemon.log()[-2000:]}')
        return bench


class DaemonTest(Bed, unittest.TestCase):
    """Each test has a folder of its own, and a daemon if it starts one."""

    last_log = ''
    daemon_ends = False  # set by tests that end it on purpose

    def setUp(self):
        self.make_folder()
        self.addCleanup(self.keep_log)

    def keep_log(self):
        if self.daemon is not None:
            self.last_log = self.daemon.log()[-6000:]

    def run(self, result=None):
        failed_before = len(result.failures) + len(result.errors) if result is not None else 0
        start = time.monotonic()
        super().run(result)
        print(f'  {time.monotonic() - start:.1f} s', file=sys.stderr)
        if result is not None and len(result.failures) + len(result.errors) > failed_before and self.last_log:
            print(f'{self.id()}: the daemon said:\n{self.last_log}', file=sys.stderr)

    def tearDown(self):
        """Nothing a test does may end the daemon."""
        if self.daemon is not None and not self.daemon_ends:
            self.assertIsNone(self.daemon.child.poll(), 'the daemon has ended')

    def assert_flat(self, before, timeout=20.0):
        """The daemon's descriptors and guest mappings are what they were."""
        wait_for(lambda: self.daemon.resources() == before, timeout, 0.01)
        self.assertEqual(self.daemon.resources(), before)

    def assert_passes(self, *names):
        """Two good guests exchange frames over these ports, and nothing stays behind."""
        before = self.daemon.resources()
        guests = [self.guest(name) for name in names]
        for sender, receiver in (guests, reversed(guests)):
            frames = [ethernet(i) for i in range(20)]
            sender.send(*frames)
            self.assertEqual(receiver.receive_data(len(frames)), frames)
        for guest in guests:
            guest.close()
        for name in names:
            self.daemon.wait_state(name, 'idle')
        self.assert_flat(before)


BROADCAST = b'\xff' * 6


def mac(number):
    return struct.pack('>HI', 0x0200, number)


def ethernet(sequence=0, source=mac(1), destination=BROADCAST, size=64, ethertype=0x88b5):
    """A frame of the local experimental ethertype whose bytes depend on its number."""
    payload = struct.pack('>I', sequence)
    payload += bytes((sequence + i) & 0xff for i in range(size - 14 - len(payload)))
    return destination + source + struct.pack('>H', ethertype) + payload


def main():
    for name in ('RINGWAY', 'RINGWAYCTL', 'RINGBENCH'):
        if not os.environ.get(name):
            sys.exit(f'{name}: not set; it names the built program')
    unittest.main(verbosity=2)
