# SPDX-License-Identifier: BSD-3-Clause
"""A vhost-user net back end that hands every frame straight back, and notifies as it is told: well, or badly.

Written from the specifications (vhost-user; virtio 1.2, 2.7, 2.8): one connection, one queue pair, buffers of one
descriptor.
"""
import collections
import ctypes
import mmap
import os
import select
import socket
import struct
import threading
import time

F_MRG_RXBUF, F_EVENT_IDX, F_PROTOCOL, F_VERSION_1, F_PACKED = (1 << bit for bit in (15, 29, 30, 32, 34))
OFFERED = F_MRG_RXBUF | F_EVENT_IDX | F_PROTOCOL | F_VERSION_1 | F_PACKED

GET_FEATURES, SET_FEATURES, SET_OWNER, _, SET_MEM_TABLE = range(1, 6)
SET_VRING_NUM, SET_VRING_ADDR, SET_VRING_BASE, GET_VRING_BASE = range(8, 12)
SET_VRING_KICK, SET_VRING_CALL = 12, 13
GET_PROTOCOL_FEATURES, SET_PROTOCOL_FEATURES = 15, 16
NO_FD = 0x100

AVAIL, USED, WRITE = 1 << 7, 1 << 15, 2
EVENT_ENABLE, EVENT_DISABLE, EVENT_DESC = range(3)
NET_HEADER_BYTES = 12
UDP_OFFSET = NET_HEADER_BYTES + 14 + 20  # header, Ethernet, IPv4
FIRST_PORT = 49152  # of the frames that count


class Memory:
    def __init__(self, regions, fds):
        self.regions = []  # (gpa, size, uva, map, offset of the first byte)
        for (gpa, size, uva, offset), fd in zip(regions, fds):
            self.regions.append((gpa, size, uva, mmap.mmap(fd, offset + size), offset))
            os.close(fd)

    def at_uva(self, uva):
        for _, size, start, mapped, offset in self.regions:
            if start <= uva < start + size:
                return mapped, offset + uva - start
        raise ValueError(hex(uva))

    def at_gpa(self, gpa):
        for start, size, _, mapped, offset in self.regions:
            if start <= gpa < start + size:
                return mapped, offset + gpa - start
        raise ValueError(hex(gpa))


class Words:
    """16-bit words of guest memory, each read and written in one access."""

    def __init__(self, place):
        self.mapped, self.offset = place

    def _word(self, index):
        return ctypes.c_uint16.from_buffer(self.mapped, self.offset + 2 * index)

    def __getitem__(self, index):
        return self._word(index).value

    def __setitem__(self, index, value):
        self._word(index).value = value & 0xffff


class Ring:
    """What both layouts have."""

    def __init__(self, settings, memory, features):
        self.memory, self.size = memory, settings['num']
        self.desc, self.avail, self.used = (memory.at_uva(uva) for uva in settings['addr'])
        self.avail_words, self.used_words = Words(self.avail), Words(self.used)
        self.call, self.kick = settings['call'], settings['kick']
        self.event_idx = bool(features & F_EVENT_IDX)
        self.n_calls = 0
        self.want_kicks(False)

    def take(self):
        """The next (id, gpa, size), or None."""
        raise NotImplementedError

    def has_work(self):
        """Whether one can be taken."""
        raise NotImplementedError

    def backlog(self):
        """How many can be taken; None where that is not known."""

    def used_one(self, buffer_id, size):
        raise NotImplementedError


class SplitRing(Ring):
    def __init__(self, settings, memory, features):
        self.next_avail = self.next_used = self.called_used = settings['base']
        super().__init__(settings, memory, features)

    def has_work(self):
        return self.backlog() != 0

    def backlog(self):
        return (self.avail_words[1] - self.next_avail) & 0xffff

    def take(self):
        if not self.has_work():
            return None
        head = self.avail_words[2 + self.next_avail % self.size]
        self.next_avail = (self.next_avail + 1) & 0xffff
        mapped, offset = self.desc
        gpa, size = struct.unpack_from('<QI', mapped, offset + 16 * head)
        return head, gpa, size

    def used_one(self, buffer_id, size):
        mapped, offset = self.used
        struct.pack_into('<II', mapped, offset + 4 + 8 * (self.next_used % self.size), buffer_id, size)
        self.next_used = (self.next_used + 1) & 0xffff
        self.used_words[1] = self.next_used

    def want_kicks(self, wanted):
        if self.event_idx:
            self.used_words[2 + 4 * self.size] = self.next_avail if wanted else self.next_avail - 0x8000
        else:
            self.used_words[0] = 0 if wanted else 1

    def wants_call(self):
        old, new, self.called_used = self.called_used, self.next_used, self.next_used
        if self.event_idx:
            return (new - self.avail_words[2 + self.size] - 1) & 0xffff < (new - old) & 0xffff
        return old != new and not self.avail_words[0] & 1


class PackedRing(Ring):
    """A place counts from 0 to twice the ring's size: the wrap counter is 1 in the first lap."""

    def __init__(self, settings, memory, features):
        self.next_avail = self.next_used = self.called_used = 0
        super().__init__(settings, memory, features)

    def _flags(self, place):
        return Words((self.desc[0], self.desc[1] + 16 * (place % self.size)))

    def _word(self, place):
        return place % self.size | (place < self.size) << 15

    def has_work(self):
        flags = self._flags(self.next_avail)[7]
        return flags & (AVAIL | USED) == (AVAIL if self.next_avail < self.size else USED)

    def take(self):
        if not self.has_work():
            return None
        mapped, offset = self.desc
        gpa, size, buffer_id = struct.unpack_from('<QIH', mapped, offset + 16 * (self.next_avail % self.size))
        self.next_avail = (self.next_avail + 1) % (2 * self.size)
        return buffer_id, gpa, size

    def used_one(self, buffer_id, size):
        mapped, offset = self.desc
        struct.pack_into('<IH', mapped, offset + 16 * (self.next_used % self.size) + 8, size, buffer_id)
        self._flags(self.next_used)[7] = (AVAIL | USED if self.next_used < self.size else 0) | (WRITE if size else 0)
        self.next_used = (self.next_used + 1) % (2 * self.size)

    def want_kicks(self, wanted):
        self.used_words[0] = self._word(self.next_avail)
        self.used_words[1] = (EVENT_DESC if self.event_idx else EVENT_ENABLE) if wanted else EVENT_DISABLE

    def wants_call(self):
        n, self.called_used = (self.next_used - self.called_used) % (2 * self.size), self.next_used
        flags = self.avail_words[1] & 3
        if n == 0 or flags == EVENT_DISABLE:
            return False
        if flags == EVENT_ENABLE:
            return True
        event = self.avail_words[0]
        place = (event & 0x7fff) + (0 if event >> 15 else self.size)
        return (self.next_used - place - 1) % (2 * self.size) < n


class BackEnd:
    """Serves one front end in a thread, from the time it is entered to the time it is left.

    polls: it never asks for kicks. Else it sleeps whenever nothing is left to do, and is woken by a kick.
    ignored_kicks, skipped_calls: numbers, from 1, of those that come to nothing; of a kick that number or the next that
    tells of something new. kept_frames: of frames that it takes and never gives back. Frames of the warm-up, which are
    known by their UDP port, do not count, nor do kicks before the first frame of all.
    wake_s: how long it takes to wake up. call_frames: it calls when so many frames have been given, or none is left.
    """

    def __init__(self, folder, polls=False, ignored_kicks=(), skipped_calls=(), kept_frames=(), wake_s=0, call_frames=None):
        self.path = os.path.join(folder, 'back_end.sock')
        self.polls, self.wake_s, self.call_frames = polls, wake_s, call_frames
        self.ignored_kicks, self.skipped_calls, self.kept_frames = set(ignored_kicks), set(skipped_calls), set(kept_frames)
        # What happened, in the order of the kicks and calls.
        self.n_kicks = self.n_calls = self.n_frames = 0
        self.has_worked = False
        self.backlogs = set()  # frames that were waiting whenever one was taken: split rings only
        self.settings = collections.defaultdict(dict)
        self.memory, self.features, self.rings, self.ended, self.error = None, 0, None, False, None
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(self.path)
        self.listener.listen(1)
        self.thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.ended = True
        self.thread.join(10)
        self.listener.close()
        if self.error is not None:
            raise self.error

    # ---- Messages ----

    def _serve(self):
        try:
            if select.select([self.listener], [], [], 20)[0]:
                self.connection, _ = self.listener.accept()
                with self.connection:
                    while not self.ended and self._turn():
                        pass
        except Exception as error:  # pylint: disable=broad-except
            self.error = error

    def _message(self):
        """False: the front end has gone."""
        head, fds, _, _ = socket.recv_fds(self.connection, 12, 8)
        if len(head) < 12:
            return False
        request, _, size = struct.unpack('<III', head)
        payload = self.connection.recv(size, socket.MSG_WAITALL) if size else b''
        self._handle(request, payload, fds)
        return True

    def _answer(self, request, payload):
        self.connection.sendall(struct.pack('<III', request, 5, len(payload)) + payload)

    def _handle(self, request, payload, fds):
        if request == GET_FEATURES:
            self._answer(request, struct.pack('<Q', OFFERED))
        elif request == SET_FEATURES:
            self.features = struct.unpack('<Q', payload)[0]
        elif request == GET_PROTOCOL_FEATURES:
            self._answer(request, struct.pack('<Q', 0))
        elif request == SET_MEM_TABLE:
            n = struct.unpack_from('<I', payload)[0]
            self.memory = Memory([struct.unpack_from('<QQQQ', payload, 8 + 32 * i) for i in range(n)], fds)
        elif request in (SET_VRING_NUM, SET_VRING_BASE):
            index, value = struct.unpack('<II', payload)
            self.settings[index]['num' if request == SET_VRING_NUM else 'base'] = value
        elif request == SET_VRING_ADDR:
            index, _, desc, used, avail, _ = struct.unpack('<IIQQQQ', payload)
            self.settings[index]['addr'] = (desc, avail, used)
        elif request in (SET_VRING_CALL, SET_VRING_KICK):
            value = struct.unpack('<Q', payload)[0]
            self.settings[value & 0xff]['call' if request == SET_VRING_CALL else 'kick'] = fds[0]
            if request == SET_VRING_KICK and all('kick' in self.settings[i] for i in range(2)):
                kind = PackedRing if self.features & F_PACKED else SplitRing
                self.rings = [kind(self.settings[i], self.memory, self.features) for i in range(2)]
        elif request == GET_VRING_BASE:
            self.rings = None
            self._answer(request, struct.pack('<II', struct.unpack_from('<I', payload)[0], 0))

    # ---- Frames ----

    def _turn(self):
        """Works until nothing is left, then sleeps. False: the front end has gone."""
        if self._work():
            return True
        kick = self.rings[1].kick if self.rings else None
        if kick is not None and not self.polls:
            self.rings[1].want_kicks(True)
            if self._work():
                self.rings[1].want_kicks(False)
                return True
        return self._sleep(kick)

    def _sleep(self, kick):
        poller = select.poll()
        poller.register(self.connection, select.POLLIN)
        if kick is not None and not self.polls:
            poller.register(kick, select.POLLIN)
        while not self.ended:
            ready = dict(poller.poll(0 if kick is not None and self.polls else 50))
            if self.connection.fileno() in ready:
                return self._message()
            if kick in ready and self._is_woken(kick):
                return True
            if self.polls and kick is not None:
                return True
        return False

    def _is_woken(self, kick):
        os.eventfd_read(kick)
        self.n_kicks += self.has_worked  # the first only says that the ring is there
        if self.ignored_kicks and self.n_kicks >= min(self.ignored_kicks) and self.rings[1].has_work():
            self.ignored_kicks.remove(min(self.ignored_kicks))
            return False
        time.sleep(self.wake_s)
        self.rings[1].want_kicks(False)
        return True

    def _work(self):
        if self.rings is None:
            return 0
        rx, tx = self.rings
        found, n_given = False, 0
        while tx.has_work():
            backlog, sent = tx.backlog(), tx.take()
            found = self.has_worked = True
            buffer_id, gpa, size = sent
            mapped, offset = self.memory.at_gpa(gpa)
            if struct.unpack_from('>H', mapped, offset + UDP_OFFSET)[0] >= FIRST_PORT:
                self.n_frames += 1
                self.backlogs.add(backlog)
                if self.n_frames in self.kept_frames:
                    tx.used_one(buffer_id, 0)
                    continue
            frame = bytes(NET_HEADER_BYTES - 2) + b'\1\0' + mapped[offset + NET_HEADER_BYTES:offset + size]
            tx.used_one(buffer_id, 0)
            received = rx.take()
            assert received is not None and received[2] >= len(frame), 'no receive buffer for a frame'
            mapped, offset = self.memory.at_gpa(received[1])
            mapped[offset:offset + len(frame)] = frame
            rx.used_one(received[0], len(frame))
            n_given += 1
            if n_given == self.call_frames:
                self._call(rx)
                n_given = 0
        if n_given:
            self._call(rx)
        return found

    def _call(self, ring):
        if not ring.wants_call():
            return
        self.n_calls += 1
        if self.n_calls in self.skipped_calls:
            return
        os.eventfd_write(ring.call, 1)
