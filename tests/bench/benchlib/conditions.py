# SPDX-License-Identifier: BSD-3-Clause
"""The conditions of a run, as printed above its results: machine, versions, load, placement."""
import subprocess

from . import machine, report
from .case import BURST
from .ovs import VSWITCHD


def _version(argv):
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=20, check=False)
    except OSError:
        return 'not found'
    lines = (done.stdout + done.stderr).strip().splitlines()
    return lines[0] if lines else 'unknown'


def describe(bench):
    """To be taken before the run: the machine's load is then not its own."""
    options, context = bench.options, bench.context
    info = machine.describe()
    load_average = info.pop('load_average')
    versions = [_version([context.program('app/ringway/ringway'), '--version'])
                if 'ringway' in options.sides else 'without ringway',
                'DPDK ' + _version(['pkg-config', '--modversion', 'libdpdk'])]
    if any(side.startswith('ovs') for side in options.sides):
        versions.append(_version([VSWITCHD, '--version']))
    info['versions'] = ', '.join(versions)
    info['load'] = (f'{options.generator}, ring {context.ring}, {context.in_flight} in flight per '
                    f'direction, testpmd burst {BURST}, drain backlog {context.backlog}')
    info['windows'] = (f'{options.rounds} rounds of {context.window_s} s, up to '
                       f'{context.attempts} tries each, load average at start {load_average}')
    return info


def complete(info, bench):
    """What only the run shows."""
    options, best = bench.options, bench.context.best_probe
    info['CPUs'] = f'worker {options.cpus[0]}, generator {options.cpus[1]}'
    if best:
        info['CPUs'] += f'; at best {best["line"]} TSC cycles for a line there and back'
    info |= report.features(bench.results)
