# SPDX-License-Identifier: BSD-3-Clause
"""Child processes: every one that is started is ended, whatever happens."""
import atexit
import ctypes
import os
import re
import select
import signal
import subprocess
import time

PR_SET_PDEATHSIG = 1
_running = []


class BenchError(Exception):
    """Something that ends the run; the message is the one line the user sees."""


def _before_exec(cpu):
    def prepare():
        # also when the bench itself is killed outright
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        os.sched_setaffinity(0, {cpu})
    return prepare


class Process:
    """A child on one CPU. Its standard streams are files, pipes or (Console) a terminal."""

    def __init__(self, argv, cpu, log_path, **streams):
        self.argv = argv
        self.name = os.path.basename(argv[0])
        self.log_path = log_path
        self.log = open(log_path, 'wb')
        streams.setdefault('stdin', subprocess.DEVNULL)
        streams.setdefault('stdout', self.log)
        streams.setdefault('stderr', self.log)
        try:
            self.popen = subprocess.Popen(argv, preexec_fn=_before_exec(cpu),
                                          start_new_session=True, **streams)
        except OSError as err:
            raise BenchError(f'{argv[0]}: cannot be started: {err.strerror}') from err
        self.pid = self.popen.pid
        _running.append(self)

    def alive(self):
        return self.popen.poll() is None

    def check_alive(self):
        if not self.alive():
            raise BenchError(f'{self.name} ended with status {self.popen.returncode}; '
                             f'the end of its log {self.log_path}:\n{self.log_tail()}')

    def log_tail(self, n_lines=12):
        self.log.flush()
        with open(self.log_path, encoding='utf-8', errors='replace') as log:
            return ''.join(log.readlines()[-n_lines:]).rstrip()

    def log_text(self):
        self.log.flush()
        with open(self.log_path, encoding='utf-8', errors='replace') as log:
            return log.read()

    def end(self, timeout_s=5):
        """SIGTERM, then SIGKILL. Returns the exit status."""
        if self.alive():
            self.popen.terminate()
            try:
                self.popen.wait(timeout_s)
            except subprocess.TimeoutExpired:
                self.popen.kill()
                self.popen.wait()
        if self in _running:
            _running.remove(self)
        self.log.close()
        return self.popen.returncode


class Console(Process):
    """A program with a prompt, driven through pipes.

    No terminal: a kernel worker would carry its data, and wait for the real-time threads to end.
    """

    def __init__(self, argv, cpu, log_path, prompt, unasked):
        self.prompt = prompt
        # The prompt comes letter by letter; what other threads say may come in between.
        self.between = re.compile(unasked + r'|\s')
        super().__init__(['stdbuf', '-oL', *argv], cpu, log_path, stdin=subprocess.PIPE,
                         stdout=subprocess.PIPE)
        self.name = os.path.basename(argv[0])
        self.output = self.popen.stdout.fileno()

    def read_prompt(self, timeout_s=20):
        """Output up to the next prompt; what the program says unasked may follow it."""
        text = ''
        deadline = time.monotonic() + timeout_s
        while self.prompt not in self.between.sub('', text):
            ready, _, _ = select.select([self.output], [], [], max(0, deadline - time.monotonic()))
            if not ready:
                raise BenchError(f'{self.name}: no prompt within {timeout_s} s; the end of its '
                                 f'log {self.log_path}:\n{self.log_tail()}')
            data = os.read(self.output, 65536)
            if not data:
                self.popen.wait(5)
                self.check_alive()
            self.log.write(data)
            text = re.sub(r'\x1b\[[0-9;?]*[A-Za-z]|\r', '', text + data.decode(errors='replace'))
        return text

    def command(self, line, timeout_s=20):
        """Runs one command; returns what it printed."""
        os.write(self.popen.stdin.fileno(), line.encode() + b'\n')
        return self.read_prompt(timeout_s)

    def end(self, timeout_s=5):
        status = super().end(timeout_s)
        self.popen.stdin.close()
        self.popen.stdout.close()
        return status


def end_all():
    for process in list(reversed(_running)):
        process.end(timeout_s=2)


def threads(pid):
    """{tid: name} of a process."""
    found = {}
    for tid in os.listdir(f'/proc/{pid}/task'):
        with open(f'/proc/{pid}/task/{tid}/comm', encoding='utf-8') as comm:
            found[int(tid)] = comm.read().strip()
    return found


def wait_until(condition, timeout_s, what):
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise BenchError(f'{what}: not within {timeout_s} s')
        time.sleep(0.02)


def _on_signal(number, _frame):
    raise SystemExit(128 + number)


def signals_catch():
    """A signal ends the run as an exception does: with every child ended."""
    atexit.register(end_all)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _on_signal)
