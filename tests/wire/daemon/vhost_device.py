# SPDX-License-Identifier: BSD-3-Clause
"""A vhost-user net device (back end) with split rings, for tests of a front end. As vhost_user.py it is written from the
specifications and from nothing in lib/, and does what it is told, lies included.

Threads answer front ends' messages; the test moves frames. Both hold `lock` meanwhile, so that a ring that was stopped is not
touched any more.
"""
import contextlib
import mmap
import os
import socket
import struct
import threading

from vhost_user import (DEFAULT_FEATURES, DEFAULT_PROTOCOL, FLAG_REPLY, FLAG_VERSION, FLAG_NEED_REPLY,
                        ADD_MEM_REG, GET_FEATURES, GET_MAX_MEM_SLOTS, GET_PROTOCOL_FEATURES, GET_QUEUE_NUM, GET_STATUS,
                        GET_VRING_BASE, NEXT, NO_FD, P_REPLY_ACK, SET_FEATURES, SET_MEM_TABLE, SET_PROTOCOL_FEATURES,
                        SET_VRING_ADDR, SET_VRING_BASE, SET_VRING_CALL, SET_VRING_ENABLE, SET_VRING_KICK, SET_VRING_NUM,
                        WRITE)

MESSAGE_FDS = 16


class DeviceRing:
    """One ring from the device's side. `started` from SET_VRING_KICK to GET_VRING_BASE."""

    def __init__(self, device):
        self.device = device
        self.size = self.last_avail = self.used_idx = 0
        self.desc = self.avail = self.used = 0
        self.kick = self.call = -1
        self.started = self.enabled = False

    def word(self, uva):
        return struct.unpack('<H', self.device.read(uva, 2))[0]

    @property
    def avail_idx(self):
        return self.word(self.avail + 2)

    def take(self):
        """The next available buffer as (head, [(gpa, size, flags)]), or None."""
        if self.avail_idx == self.last_avail:
            return None
        head = self.word(self.avail + 4 + 2 * (self.last_avail % self.size))
        self.last_avail = (self.last_avail + 1) & 0xffff
        pieces, slot = [], head
        while True:
            gpa, size, flags, slot_next = struct.unpack('<QIHH', self.device.read(self.desc + 16 * slot, 16))
            pieces.append((gpa, size, flags))
            assert len(pieces) <= self.size, 'a chain without end'
            if not flags & NEXT:
                return head, pieces
            slot = slot_next

    def put_used(self, head, size):
        """The entry, without telling."""
        self.device.write(self.used + 4 + 8 * (self.used_idx % self.size), struct.pack('<II', head, size))
        self.used_idx = (self.used_idx + 1) & 0xffff

    def publish(self, used_idx=None):
        self.device.write(self.used + 2, struct.pack('<H', self.used_idx if used_idx is None else used_idx))
        if self.call >= 0:
            os.eventfd_write(self.call, 1)


class Device:
    """Listens on a path. One front end at a time, others wait; or with `takes_over` the newest is served and the older ones' words
    have no effect. `is_silent`: takes connections and answers nothing."""

    def __init__(self, path, features=DEFAULT_FEATURES, protocol=DEFAULT_PROTOCOL, pairs=1, slots=32, is_silent=False,
                 takes_over=False):
        self.path, self.offered, self.protocol_offered = path, features, protocol
        self.n_pairs, self.n_slots, self.is_silent, self.takes_over = pairs, slots, is_silent, takes_over
        self.lock = threading.RLock()
        self.n_sessions = 0
        self.error = None
        self.open()

    def open(self):
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.path)
        self.listener.bind(self.path)
        self.listener.listen(8)
        self.sock = None
        self.reset()
        self.is_open = True
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def reset(self):
        self.regions = []  # (gpa, size, uva, map, offset in the map)
        self.features = self.protocol = self.status = 0
        self.rings = [DeviceRing(self) for _ in range(2 * self.n_pairs)]

    def close(self):
        """As if its process had ended."""
        if not self.is_open:
            return
        self.is_open = False
        for sock in (self.listener, self.sock):
            if sock is not None:
                with contextlib.suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)
        self.thread.join(10)
        self.listener.close()
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.path)
        if self.error is not None:
            raise self.error

    def restart(self):
        self.close()
        self.open()

    def run(self):
        while self.is_open:
            try:
                sock, _ = self.listener.accept()
            except OSError:
                return
            with self.lock:
                self.forget()
                self.sock = sock
                self.n_sessions += 1
                self.reset()
            session = threading.Thread(target=self.run_session, args=(sock,), daemon=True)
            session.start()
            if not self.takes_over:
                session.join()

    def run_session(self, sock):
        try:
            while self.serve(sock):
                pass
        except (ConnectionError, OSError):
            pass
        except Exception as error:
            self.error = error
        with self.lock:
            if self.sock is sock:
                self.forget()
                self.sock = None
        sock.close()

    def forget(self):
        for ring in self.rings:
            ring.started = False
            for fd in (ring.kick, ring.call):
                if fd >= 0:
                    os.close(fd)
            ring.kick = ring.call = -1
        for region in self.regions:
            region[3].close()
        self.regions = []

    # ---- Memory ----

    def add_region(self, gpa, size, uva, offset, fd):
        page = offset // mmap.ALLOCATIONGRANULARITY * mmap.ALLOCATIONGRANULARITY
        self.regions.append((gpa, size, uva, mmap.mmap(fd, offset - page + size, offset=page), offset - page))

    def place(self, address, size, key):
        for region in self.regions:
            start = region[key]
            if start <= address and address + size <= start + region[1]:
                return region[3], region[4] + address - start
        raise ValueError(f'{address:#x} is in no region')

    def read(self, uva, size):
        memory, at = self.place(uva, size, 2)
        return memory[at:at + size]

    def write(self, uva, data):
        memory, at = self.place(uva, len(data), 2)
        memory[at:at + len(data)] = data

    def read_gpa(self, gpa, size):
        memory, at = self.place(gpa, size, 0)
        return memory[at:at + size]

    def write_gpa(self, gpa, data):
        memory, at = self.place(gpa, len(data), 0)
        memory[at:at + len(data)] = data

    # ---- Messages ----

    def receive_exactly(self, sock, size, fds):
        data = b''
        while len(data) < size:
            if fds is not None and not data:
                part, got, _, _ = socket.recv_fds(sock, size, MESSAGE_FDS)
                fds += got
            else:
                part = sock.recv(size - len(data))
            if not part:
                raise ConnectionResetError()
            data += part
        return data

    def serve(self, sock):
        fds = []
        request, flags, size = struct.unpack('<III', self.receive_exactly(sock, 12, fds))
        payload = self.receive_exactly(sock, size, None) if size else b''
        if self.is_silent or self.sock is not sock:
            return True
        with self.lock:
            ack = self.protocol & P_REPLY_ACK and flags & FLAG_NEED_REPLY
            answer = self.handle(request, payload, fds)
        for fd in fds:
            os.close(fd)
        if answer is None and ack:
            answer = struct.pack('<Q', 0)
        if answer is not None:
            sock.sendall(struct.pack('<III', request, FLAG_VERSION | FLAG_REPLY, len(answer)) + answer)
        return True

    def handle(self, request, payload, fds):
        """The reply's payload, or None. Descriptors that are kept leave `fds`."""
        values = {GET_FEATURES: self.offered, GET_PROTOCOL_FEATURES: self.protocol_offered, GET_QUEUE_NUM: self.n_pairs,
                  GET_MAX_MEM_SLOTS: self.n_slots, GET_STATUS: self.status}
        if request in values:
            return struct.pack('<Q', values[request])
        if request == SET_FEATURES:
            self.features = struct.unpack('<Q', payload)[0]
            assert not self.features & ~self.offered, 'features that were not offered'
        elif request == SET_PROTOCOL_FEATURES:
            self.protocol = struct.unpack('<Q', payload)[0]
        elif request == SET_MEM_TABLE:
            for region in self.regions:
                region[3].close()
            self.regions = []
            for i, fd in enumerate(fds):
                self.add_region(*struct.unpack_from('<QQQQ', payload, 8 + 32 * i), fd)
        elif request == ADD_MEM_REG:
            self.add_region(*struct.unpack_from('<QQQQ', payload, 8), fds[0])
        elif SET_VRING_NUM <= request <= SET_VRING_CALL or request == SET_VRING_ENABLE:
            return self.handle_ring(request, payload, fds)
        return None

    def handle_ring(self, request, payload, fds):
        index, value = struct.unpack_from('<II', payload)
        ring = self.rings[index & 0xff]
        if request == SET_VRING_NUM:
            ring.size = value
        elif request == SET_VRING_BASE:
            ring.last_avail = ring.used_idx = value
        elif request == SET_VRING_ADDR:
            ring.desc, ring.used, ring.avail = struct.unpack_from('<QQQ', payload, 8)
        elif request == SET_VRING_ENABLE:
            ring.enabled = bool(value)
        elif request == GET_VRING_BASE:
            ring.started = False
            return struct.pack('<II', index, ring.last_avail)
        else:
            name = 'kick' if request == SET_VRING_KICK else 'call'
            if getattr(ring, name) >= 0:
                os.close(getattr(ring, name))
            setattr(ring, name, -1 if index & NO_FD else fds.pop(0))
            ring.started |= name == 'kick'
        return None

    # ---- Frames ----

    def ring(self, index):
        """The ring, if it runs."""
        ring = self.rings[index]
        return ring if ring.started and ring.enabled else None

    def echo(self, pair=0):
        """Returns to the guest what it has sent, as far as it has buffers. Returns how many frames."""
        n = 0
        with self.lock:
            rx, tx = self.ring(2 * pair), self.ring(2 * pair + 1)
            if rx is None or tx is None:
                return 0
            while rx.avail_idx != rx.last_avail and (sent := tx.take()) is not None:
                data = b''.join(self.read_gpa(gpa, size) for gpa, size, _ in sent[1])
                head, pieces = rx.take()
                # One buffer holds it.
                data, size = data[:10] + b'\x01\0' + data[12:], len(data)
                for gpa, room, flags in pieces:
                    assert flags & WRITE
                    self.write_gpa(gpa, data[:room])
                    data = data[room:]
                assert not data, 'a receive buffer is too small'
                rx.put_used(head, size)
                tx.put_used(sent[0], 0)
                n += 1
            if n > 0:
                rx.publish()
                tx.publish()
        return n
