# SPDX-License-Identifier: BSD-3-Clause
"""Instructions by stage of a frame's way.

STAGES is the one place that knows names of files and functions. An instruction lies in a chain of
inlined functions, innermost first; it belongs to the first of them that some pattern matches, so a
small helper counts for whoever called it unless it is listed itself. What matches nowhere is
'other', shown with names: a function that was renamed is noticed there.
"""
import collections
import os
import re

from . import profile

# (stage, pattern of "folder/file:function"; ":function" where nothing says which file it is from,
# "[file]" where nothing says which function). The first that matches counts. Folders are those of
# lib/, so a renamed function of lib/vring is still one that parses.
STAGES = (
    ('notify', r'.*:(\w*_notify|\w*(needs|wants)_call|event_passed|\w*event_(load|passed)|eventfd_write|'
               r'rte_vhost_vring_call\w*|vring_fence)'),
    ('return', r'.*:(\w+_return|\w+_publish|\w+_release)|vring/.*:\w*(return|used|publish)\w*'),
    ('forward', r'bridge/.*|.*:rte_hash_\w+|\[librte_hash\.so.*\]'),
    ('mbuf', r'.*:(rte_pktmbuf_\w+|rte_mempool_\w+|rte_mbuf_\w+|__rte_mbuf\w*|take_spare|have_spares|'
             r'mbuf_\w+|common_ring_\w+)|'
             r'\[librte_(mbuf|mempool\w*)\.so.*\]'),
    ('ring device', r'.*:(rte_eth_\w+|eth_ring_\w+|rte_ring_\w+)|\[librte_net_ring.*\]'),
    ('parse', r'(vring|gmem)/.*'),
    ('take', r'port/.*:(\w*receive\w*|\w*take\w*|gather\w*|\w*head\w*|frame_from_mbuf|frame_read_tag|'
             r'offload_validate|\w*arrivals?|inspect|load_one|preset|flow_\w+|frame_from_segment|checksum_is_good|'
             r'mask_of|announcement\w*)|'
             r'.*:rte_vhost_dequeue_burst'),
    ('give', r'port/.*:(\w*send\w*|\w*give\w*|\w*scatter\w*|frame_copy_out|frame_is_over_mtu|over_mtu|load|'
             r'prepare\w*|copy_\w+|cut_of|goes_by_reference|is_plain_departure)|.*:rte_vhost_enqueue_burst'),
    # calls of the C library's; what was compiled in place belongs to its caller
    ('copy', r'.*:__mem(cpy|move)\w*|\[libc\.so.*\]'),
    ('loop', r'(worker|drain)/.*|.*:rte_rcu_\w+'),
    ('librte_vhost', r'\[librte_vhost.*\]'),
    ('net_vhost', r'\[librte_net_vhost.*\]'),
    ('testpmd', r'\[dpdk-testpmd\]'),
    ('ovs', r'\[ovs-vswitchd.*\]'),
)
OTHER = 'other'
# As frames pass through them.
ORDER = ('parse', 'take', 'forward', 'mbuf', 'give', 'copy', 'return', 'notify', 'ring device', 'loop',
         'librte_vhost', 'net_vhost', 'testpmd', 'ovs', OTHER)
_compiled = [(stage, re.compile(pattern)) for stage, pattern in STAGES]
# Names that make up 'other', at most.
OTHER_NAMES = 4


def key(function, place):
    """What the patterns are matched with; `place` is "path:line", "??:0" if unknown."""
    path = place.rsplit(':', 1)[0]
    return ':' + function if path.startswith('??') else \
        '/'.join(path.split('/')[-2:]) + ':' + function


def stage_of(keys):
    """Of an instruction, by the keys of its chain, innermost first."""
    for one in keys:
        for stage, pattern in _compiled:
            if pattern.fullmatch(one):
                return stage
    return OTHER


def group(counted):
    """{stage: instructions per packet} in the order of a frame's way, and {name: ...} of 'other'."""
    sums, others = collections.Counter(), collections.Counter()
    for row, chain in profile.rows_with_chains(counted):
        keys = [key(function, place) for function, place in chain]
        # a library's file stands for its nameless functions
        keys.append(f'[{os.path.basename(row["object"])}]')
        stage = stage_of(keys)
        sums[stage] += row['per_packet']
        if stage == OTHER:
            others[keys[-2] if chain else keys[-1]] += row['per_packet']
    return ({stage: sums[stage] for stage in ORDER if sums[stage] > 0},
            dict(others.most_common(OTHER_NAMES)))
