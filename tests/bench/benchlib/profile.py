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


def rows_with_chains(counted):
    """(row, [(function, file:line), ...] innermost first) of every row of a step_count address list.
    The chain is empty for code without names."""
    objects = collections.defaultdict(list)
    for row in counted['addresses']:
        objects[row['object']].append(row)
    for path, rows in objects.items():
        chains = _chains(path, [row['vaddr'] for row in rows])
        for row in rows:
            chain = [(name, place) for name, place in chains.get(row['vaddr'], [])
                     if name != '??']
            if not chain and row['function']:
                chain = [(row['function'], '??:0')]
            yield row, chain


def by_inline_function(counted):
    """Rows of a step_count address list: {name: [self, inclusive]} instructions per packet, and
    {file:line: self}."""
    functions = collections.defaultdict(lambda: [0.0, 0.0])
    lines = collections.Counter()
    for row, chain in rows_with_chains(counted):
        names = [name for name, _ in chain] or [f'[{os.path.basename(row["object"])}]']
        functions[names[0]][0] += row['per_packet']
        for name in set(names):
            functions[name][1] += row['per_packet']
        if chain and not chain[0][1].startswith('??'):
            lines['/'.join(chain[0][1].split('/')[-2:])] += row['per_packet']
    return functions, lines


def text(counted, n_lines=40):
    """Tables of functions and of source lines."""
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
