# SPDX-License-Identifier: BSD-3-Clause
"""librte_vhost built with -march=native, kept in the build directory."""
import os
import subprocess

SCRIPT = os.path.join(os.path.dirname(os.path.dirname(os.path.realpath(__file__))),
                      'build_native_vhost')
TIMEOUT_S = 600


def directory(context):
    """Holds that one library: to be named in LD_LIBRARY_PATH."""
    return os.path.join(context.build, 'tests', 'bench', 'native-vhost')


def build(context):
    """None, or one line that says why there is none. Builds it unless it is there."""
    context.note('librte_vhost for this CPU: looking for it, or building it')
    try:
        done = subprocess.run([SCRIPT, directory(context)], capture_output=True, text=True,
                              timeout=TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as err:
        return str(err)
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines()
        return lines[-1] if lines else f'{SCRIPT}: status {done.returncode}'
    return None
