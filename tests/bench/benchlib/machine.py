# SPDX-License-Identifier: BSD-3-Clause
"""The machine under the measurement: description, hugepages, who took the CPU away."""
import atexit
import json
import os
import platform
import re
import subprocess

from .process import BenchError

HUGEPAGES = '/sys/kernel/mm/hugepages/hugepages-2048kB'


def _read(path):
    with open(path, encoding='utf-8', errors='replace') as file:
        return file.read()


def describe():
    cpuinfo = _read('/proc/cpuinfo')
    model = re.search(r'model name\s*:\s*(.*)', cpuinfo)
    virtual = 'hypervisor' in cpuinfo
    return {
        'cpu': (model.group(1) if model else platform.machine()) +
               f' x {os.cpu_count()}' + (' (virtual)' if virtual else ''),
        'kernel': f'{platform.system()} {platform.release()}',
        'load_average': _read('/proc/loadavg').split()[0],
    }


def thread_cpu_ns(pid, tid):
    """What a thread has had of its CPU since it began."""
    return int(_read(f'/proc/{pid}/task/{tid}/schedstat').split()[0])


class Hugepages:
    """Keeps enough 2 MB pages free; what was added is given back at exit."""

    def __init__(self, note):
        self.note = note
        self.added = 0

    def ensure(self, n_wanted):
        """To be called before every start that needs pages: others use the same pool."""
        free = int(_read(f'{HUGEPAGES}/free_hugepages'))
        if free >= n_wanted:
            return
        total = int(_read(f'{HUGEPAGES}/nr_hugepages'))
        wanted_total = total + n_wanted - free
        try:
            _hugepages_set(wanted_total)
        except PermissionError as err:
            raise BenchError(f'hugepages: {free} of 2 MB free, {n_wanted} wanted: run as root, or '
                             f'first: echo {wanted_total} > {HUGEPAGES}/nr_hugepages') from err
        if not self.added:
            atexit.register(self._release)
        self.added += n_wanted - free
        got = int(_read(f'{HUGEPAGES}/free_hugepages'))
        if got < n_wanted:
            raise BenchError(f'hugepages: only {got} of {n_wanted} could be reserved; '
                             'memory is short or too fragmented')
        self.note(f'hugepages: raised from {total} to {wanted_total} for this run')

    def _release(self):
        total = int(_read(f'{HUGEPAGES}/nr_hugepages'))
        _hugepages_set(max(total - self.added, 0))
        self.note(f'hugepages: back to {_read(f"{HUGEPAGES}/nr_hugepages").strip()}')


def _hugepages_set(total):
    with open(f'{HUGEPAGES}/nr_hugepages', 'w', encoding='ascii') as file:
        file.write(str(total))


class Interference:
    """What kept threads from their CPU between begin() and end()."""

    def __init__(self, tids):
        self.tids = tids  # {role: (pid, tid)}

    def _now(self):
        now = {'steal': int(_read('/proc/stat').split('\n', 1)[0].split()[8])}
        for role, (pid, tid) in self.tids.items():
            status = _read(f'/proc/{pid}/task/{tid}/status')
            for kind in ('voluntary', 'nonvoluntary'):
                found = re.search(rf'^{kind}_ctxt_switches:\s*(\d+)', status, re.M)
                now[f'{role}_{kind}'] = int(found.group(1))
            schedstat = _read(f'/proc/{pid}/task/{tid}/schedstat').split()
            now[f'{role}_wait_ns'] = int(schedstat[1])
        return now

    def begin(self):
        self.before = self._now()

    def end(self):
        """Deltas: steal in ticks, per thread context switches and time spent waiting for a CPU."""
        after = self._now()
        return {key: after[key] - self.before[key] for key in after}


class Boost:
    """Real-time priority for one window, where that is allowed: nobody else gets the two CPUs.

    A window is shorter than what the kernel lets real-time threads take in a row. The main threads,
    which answer counter queries, come before the polling ones; other threads stay as they are, for
    they may spin on a lock that a polling thread beside them holds.
    """

    POLLING, ANSWERING, ASKING = 21, 22, 23

    def __init__(self, tids, enabled):
        self.tids = tids  # {role: (pid, polling tid)}
        self.enabled = enabled

    def _set(self, tid, priority):
        policy = os.SCHED_FIFO if priority else os.SCHED_OTHER
        try:
            os.sched_setscheduler(tid, policy, os.sched_param(priority))
        except ProcessLookupError:
            pass
        except PermissionError:
            self.enabled = False

    def _set_threads(self, polling, answering):
        for pid, poller in self.tids.values():
            self._set(pid, answering)
            self._set(poller, polling)

    def __enter__(self):
        if self.enabled:
            self._set(os.getpid(), self.ASKING)
            self._set_threads(self.POLLING, self.ANSWERING)

    def __exit__(self, *_):
        if self.enabled:
            # this process last: before, it might not get to the others
            self._set_threads(0, 0)
            self._set(os.getpid(), 0)


def share_set(pid, nice):
    """A process's share of its CPU, where it may be set: that of its session's scheduling group if
    autogroups are on, else of its threads."""
    try:
        with open(f'/proc/{pid}/autogroup', 'w', encoding='ascii') as file:
            file.write(str(nice))
    except OSError:
        pass
    try:
        tids = os.listdir(f'/proc/{pid}/task')
    except FileNotFoundError:
        return  # it has ended
    for tid in map(int, tids):
        try:
            os.setpriority(os.PRIO_PROCESS, tid, nice)
        except OSError:
            pass


def probe(context):
    """The CPUs' speed and the way between them, in TSC cycles (see cpu_probe.c)."""
    return _probe(context, 'cpu_probe')


def wake_probe(context):
    """What waking a thread on the back end's CPU takes at least, in nanoseconds (see wake_probe.c)."""
    with Boost({}, context.realtime):
        return _probe(context, 'wake_probe')


def _probe(context, name):
    argv = [context.program(f'tests/bench/{name}'), str(context.backend_cpu),
            str(context.generator_cpu)]
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=20, check=False)
    except subprocess.TimeoutExpired as err:
        raise BenchError(f'CPU {context.backend_cpu} or {context.generator_cpu}: no time for '
                         f'{name} within 20 s; is another real-time program there?') from err
    if done.returncode != 0:
        raise BenchError(done.stderr.strip() or
                         f'CPU {context.backend_cpu} or {context.generator_cpu}: {name} got too '
                         'little time; without real-time priority others must leave it some')
    return json.loads(done.stdout)
