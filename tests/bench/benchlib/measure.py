# SPDX-License-Identifier: BSD-3-Clause
"""Windows of time for rate and cycles, windows of instructions for instructions per packet."""
import collections
import json
import subprocess
import time

from . import machine, stages
from .process import BenchError, Process, wait_until

# A polling thread that waited longer than this share of the window for its CPU was disturbed.
WAIT_SHARE_MAX = 0.01
# The answers to the counter queries may blur the window's length by this share.
BLUR_SHARE_MAX = 0.02
# Between what cpu_probe showed at its best and what counts as the same.
PROBE_FACTOR_MAX = 1.3
# Real-time windows in a row would make the kernel step in; others want the CPUs, too.
PAUSE_S = 0.15
# To connect, negotiate and learn where the peer is.
TRAFFIC_TIMEOUT_S = 15
# A generator that got no CPU time meanwhile leaves nothing to count.
STEPPING_ATTEMPTS_MIN = 8
# Against other programs, while a worker is stepped.
STEPPING_NICE = -10
# More than a generator sends to teach a bridge where it is.
TRAFFIC_PACKETS = 10000


def _reading(source):
    """(counters, when, how long the answer took)"""
    begin = time.monotonic()
    counters = source.read()
    end = time.monotonic()
    return counters, (begin + end) / 2, end - begin


def _window(context, backend, generator):
    tids = {'worker': (backend.pid, backend.worker_tid()),
            'generator': (generator.pid, generator.worker_tid())}
    interference = machine.Interference(tids)
    with machine.Boost(tids, context.realtime):
        probes = [machine.probe(context)]
        interference.begin()
        source_before = generator.read()
        before, begin, blur = _reading(backend)
        time.sleep(context.window_s)
        after, end, blur_end = _reading(backend)
        source_after = generator.read()
        disturbed_by = interference.end()
        probes.append(machine.probe(context))
    packets = after['packets'] - before['packets']
    bursts = after['bursts'] - before['bursts']
    if packets <= 0:
        raise BenchError(f'{backend.name}: no packets within {context.window_s} s')
    wait_ns = max(disturbed_by['worker_wait_ns'], disturbed_by['generator_wait_ns'])
    result = {
        'packets': packets,
        'mpps': packets / (end - begin) / 1e6,
        'cycles_per_packet': (after['busy_cycles'] - before['busy_cycles']) / packets,
        'packets_per_burst': packets / bursts if bursts > 0 else None,
        'interference': disturbed_by,
        'wait_share': wait_ns / 1e9 / (end - begin),
        'blur_share': (blur + blur_end) / 2 / (end - begin),
        'moved': abs(probes[0]['line'] / probes[1]['line'] - 1) > PROBE_FACTOR_MAX - 1,
        'probe': {key: max(probe[key] for probe in probes) for key in probes[0]},
    }
    if source_before is not None:
        source_packets = source_after['packets'] - source_before['packets']
        result['generator_cycles_per_packet'] = \
            (source_after['busy_cycles'] - source_before['busy_cycles']) / source_packets
    return result


def disturbances(result, best_probe):
    """What spoiled a window, as words; empty if nothing did."""
    found = []
    if result['interference']['steal'] > 0:
        found.append('steal')
    if result['wait_share'] > WAIT_SHARE_MAX:
        found.append('waited')
    if result['blur_share'] > BLUR_SHARE_MAX:
        found.append('late counters')
    if result['moved']:
        found.append('CPUs moved')
    if result['probe']['adds'] > best_probe['adds'] * PROBE_FACTOR_MAX or \
            result['probe']['parallel_adds'] > best_probe['parallel_adds'] * PROBE_FACTOR_MAX:
        found.append('slow CPU')
    return found


def placement(result, best_probe):
    """A virtual machine's host moves its CPUs: how far apart they were, against the run's best."""
    far = result['probe']['line'] > best_probe['line'] * PROBE_FACTOR_MAX
    return 'apart' if far else 'near'


def _wait_for_traffic(context, backend, generator):
    """Until frames move, and then a little longer."""
    before = backend.packets_standing()

    def moving():
        generator.process.check_alive()
        return backend.packets_standing() > before + TRAFFIC_PACKETS
    wait_until(moving, TRAFFIC_TIMEOUT_S, f'{backend.name}: first packets')
    time.sleep(context.settle_s)


def rate(context, backend, generator):
    """The first undisturbed window of some, or the one with least waiting."""
    _wait_for_traffic(context, backend, generator)
    tried = []
    for _ in range(context.attempts):
        result = _window(context, backend, generator)
        context.probe_seen(result['probe'])
        tried.append(result)
        if not disturbances(result, context.best_probe):
            break
        time.sleep(PAUSE_S)
    else:
        result = min(tried, key=lambda one: (len(disturbances(one, context.best_probe)),
                                             one['wait_share']))
    result['replaced'] = len(tried) - 1
    return result


def instructions(context, backend, generator, n_instructions, packets_per_visit):
    """Instructions per packet of the worker, by address, at full bursts, which show as that many
    packets per visit of the anchor."""
    _wait_for_traffic(context, backend, generator)
    for _ in range(max(context.attempts, STEPPING_ATTEMPTS_MIN)):
        counted = _step(context, backend, generator, n_instructions)
        counted['full'] = not counted['spoiled'] and \
            counted['packets'] >= packets_per_visit * counted['rounds']
        if counted['full']:
            break
    if counted['packets'] <= 0:
        raise BenchError(f'{backend.name}: no packets in {counted["instructions"]} instructions; '
                         f'the generator: {generator.summary()}')
    for row in counted['addresses']:
        row['per_packet'] = row['instructions'] / counted['packets']
    counted['per_packet'] = counted['instructions'] / counted['packets']
    counted['packets_per_visit'] = counted['packets'] / counted['rounds']
    return counted


def by_stage_and_function(counted):
    """Adds the addresses of a count up: by function as the symbol tables know them, by stage."""
    functions = collections.Counter()
    for row in counted['addresses']:
        functions[row['object'], row['function']] += row['per_packet']
    by_stage, others = stages.group(counted)
    result = {key: value for key, value in counted.items() if key != 'addresses'}
    result['stages'], result['other_functions'] = by_stage, others
    result['functions'] = [{'object': path, 'function': name, 'per_packet': n}
                           for (path, name), n in functions.most_common()]
    return result


def _step(context, backend, generator, n_instructions):
    """Both ends at the entry of the worker's receive function, the packet counters read while it
    stands there: the quotient is exact."""
    argv = [context.program('tests/bench/step_count'), '--json', '--sync', '--addresses',
            '--tid', str(backend.worker_tid()), '--instructions', str(n_instructions),
            '--timeout', str(context.step_timeout_s), '--anchor', backend.anchor]
    argv += ['--within', backend.within] if backend.within else []
    # on the worker's CPU: the two take turns anyway
    stepper = Process(argv, context.backend_cpu, context.log_path('step_count'), text=True,
                      stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        for process in (stepper, backend, generator):
            machine.share_set(process.pid, STEPPING_NICE)
        packets, spoiled = [], []
        for expected in ('begin\n', 'end\n'):
            if stepper.popen.stdout.readline() != expected:
                stepper.popen.wait(5)
                raise BenchError(f'{backend.name}: {stepper.log_tail()}')
            packets.append(backend.packets_standing())
            spoiled.append(backend.n_spoiled())
            stepper.popen.stdin.write('\n')
            stepper.popen.stdin.flush()
        counted = json.loads(stepper.popen.stdout.read())
    finally:
        stepper.end()
        for process in (backend, generator):
            machine.share_set(process.pid, 0)
    counted['packets'] = packets[1] - packets[0]
    counted['spoiled'] = spoiled[1] != spoiled[0]
    return counted
