# SPDX-License-Identifier: BSD-3-Clause
"""Where the instructions are: addresses to functions, inlined ones included, by addr2line."""
import collections
import os
import subprocess


def _chains(path, vaddrs):
    """{vaddr: [(function, file:line), ...]}, innermost first."""
    if not os.path.isfile(path):
        return {}
    done = subprocess.run(['addr2line', '-a', '-f', '-i', '-e', path],
                          input='\n'.join(f'{vaddr:#x}' for vaddr in vaddrs),
                          capture_output=True, text=True, check=False)
    chains, lines = {}, iter(done.stdout.splitlines())
    for line in lines:
        if line.startswith('0x'):
            chain = chains.setdefault(int(line, 16), [])
        else:
            chain.append((line, next(lines, '??:0').split(' (')[0]))
    return chains


def by_inline_function(counted):
    """Rows of a step_count address list: {name: [self, inclusive]} instructions per packet, and
    {file:line: self}."""
    functions = collections.defaultdict(lambda: [0.0, 0.0])
    lines = collections.Counter()
    objects = collections.defaultdict(list)
    for row in counted['addresses']:
        objects[row['object']].append(row)
    for path, rows in objects.items():
        chains = _chains(path, [row['vaddr'] for row in rows])
        for row in rows:
            chain = chains.get(row['vaddr'], [])
            names = [name for name, _ in chain if name != '??']
            if not names:
                names = [row['function'] or f'[{os.path.basename(path)}]']
            functions[names[0]][0] += row['per_packet']
            for name in set(names):
                functions[name][1] += row['per_packet']
            if chain and not chain[0][1].startswith('??'):
                lines['/'.join(chain[0][1].split('/')[-2:])] += row['per_packet']
    return functions, lines


def text(counted, n_lines=40):
    functions, lines = by_inline_function(counted)
    out = [f'{counted["per_packet"]:.1f} instructions per packet, {counted["packets"]} packets, '
           f'{counted["rounds"]} rounds',
           '    self  inclusive  function']
    for name, (own, inclusive) in sorted(functions.items(), key=lambda item: -item[1][0]):
        if inclusive >= 0.05:
            out.append(f'{own:8.2f}  {inclusive:9.2f}  {name}')
    out.append('    self  line')
    out += [f'{own:8.2f}  {place}' for place, own in lines.most_common(n_lines)]
    return '\n'.join(out)
