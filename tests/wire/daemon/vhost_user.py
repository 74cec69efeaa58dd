# SPDX-License-Identifier: BSD-3-Clause
"""A vhost-user net front end and a virtqueue driver, split and packed, for tests of a back end.

Written from the specifications (vhost-user; virtio 1.2, 2.7, 2.8 and 5.1) and from nothing in lib/: what both sides had wrong in
the same way would not be seen otherwise. It does what it is told, so it can break any rule, too.

gpa: guest physical address, as in descriptors. uva: user address, as in SET_VRING_ADDR. They differ on purpose.
"""
import contextlib
import ctypes
import mmap
import os
import select
import socket
import struct
import time

# Requests.
GET_FEATURES, SET_FEATURES, SET_OWNER, RESET_OWNER, SET_MEM_TABLE, SET_LOG_BASE, SET_LOG_FD = range(1, 8)
SET_VRING_NUM, SET_VRING_ADDR, SET_VRING_BASE, GET_VRING_BASE = range(8, 12)
SET_VRING_KICK, SET_VRING_CALL, SET_VRING_ERR = range(12, 15)
GET_PROTOCOL_FEATURES, SET_PROTOCOL_FEATURES, GET_QUEUE_NUM, SET_VRING_ENABLE = range(15, 19)
SEND_RARP, NET_SET_MTU, SET_BACKEND_REQ_FD = range(19, 22)
RESET_DEVICE, GET_MAX_MEM_SLOTS, ADD_MEM_REG, REM_MEM_REG, SET_STATUS, GET_STATUS = 34, 36, 37, 38, 39, 40

# Virtio features.
F_CSUM, F_GUEST_CSUM, F_MTU = 1 << 0, 1 << 1, 1 << 3
F_GUEST_TSO4, F_GUEST_TSO6, F_HOST_TSO4, F_HOST_TSO6 = 1 << 7, 1 << 8, 1 << 11, 1 << 12
F_MRG_RXBUF, F_MQ = 1 << 15, 1 << 22
F_INDIRECT, F_EVENT_IDX, F_PROTOCOL, F_VERSION_1, F_PACKED, F_IN_ORDER = (1 << bit for bit in (28, 29, 30, 32, 34, 35))
DEFAULT_FEATURES = F_VERSION_1 | F_MRG_RXBUF | F_PROTOCOL

# Protocol features.
P_MQ, P_RARP, P_REPLY_ACK, P_MTU = 1 << 0, 1 << 2, 1 << 3, 1 << 4
P_RESET_DEVICE, P_MEM_SLOTS, P_STATUS = 1 << 13, 1 << 15, 1 << 16
DEFAULT_PROTOCOL = P_MQ | P_RARP | P_REPLY_ACK | P_MTU | P_RESET_DEVICE | P_MEM_SLOTS | P_STATUS

FLAG_VERSION, FLAG_REPLY, FLAG_NEED_REPLY = 1, 4, 8
NO_FD = 0x100

# Descriptor flags, the last two of packed rings.
NEXT, WRITE, INDIRECT = 1, 2, 4
AVAIL, USED = 1 << 7, 1 << 15

# Flags of a packed ring's event structures.
EVENT_ENABLE, EVENT_DISABLE, EVENT_DESC = range(3)

NET_HEADER_BYTES = 12
NEEDS_CSUM, DATA_VALID = 1, 2
GSO_NONE, GSO_TCPV4, GSO_TCPV6 = 0, 1, 4

PAGE = 4096


class Closed(Exception):
    """The back end ended the connection."""


class Refused(Exception):
    """The back end answered a request with a non-zero acknowledgement."""


def wait_for(condition, timeout=20.0, step=0.001):
    """The first true value of condition(), or its last false one when the time is over."""
    end = time.monotonic() + timeout
    while True:
        value = condition()
        if value or time.monotonic() >= end:
            return value
        time.sleep(step)


class Memory:
    """Guest memory: one memfd, mapped here, in regions (gpa, size, uva, offset in the file)."""

    def __init__(self, size=8 << 20, gpa=0x4000_0000, uva=0x7e00_0000_0000, regions=None):
        self.fd = os.memfd_create('guest')
        os.ftruncate(self.fd, size)
        self.map = mmap.mmap(self.fd, size)
        self.regions = regions or [(gpa, size, uva, 0)]
        self.next = 0  # offset of the first byte not handed out

    def close(self):
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1
        with contextlib.suppress(BufferError):
            self.map.close()

    def alloc(self, size, align=PAGE):
        """Returns the gpa."""
        self.next = (self.next + align - 1) // align * align
        offset, self.next = self.next, self.next + size
        if self.next > len(self.map):
            raise MemoryError('guest memory is full')
        return self.gpa_of(offset)

    def gpa_of(self, offset):
        for gpa, size, _, start in self.regions:
            if start <= offset < start + size:
                return gpa + offset - start
        raise ValueError(hex(offset))

    def offset_of(self, gpa):
        for start_gpa, size, _, start in self.regions:
            if start_gpa <= gpa < start_gpa + size:
                return start + gpa - start_gpa
        raise ValueError(hex(gpa))

    def uva_of(self, gpa):
        for start_gpa, size, uva, _ in self.regions:
            if start_gpa <= gpa < start_gpa + size:
                return uva + gpa - start_gpa
        raise ValueError(hex(gpa))

    def read(self, gpa, size):
        offset = self.offset_of(gpa)
        return self.map[offset:offset + size]

    def write(self, gpa, data):
        offset = self.offset_of(gpa)
        self.map[offset:offset + len(data)] = data


class Queue:
    """What the driver sides of both layouts have: guest memory for the three parts, and notification."""

    def __init__(self, memory, index, size, avail_bytes, used_bytes):
        self.memory, self.index, self.size = memory, index, size
        self.desc = memory.alloc(16 * size)
        self.avail = memory.alloc(avail_bytes)
        self.used = memory.alloc(used_bytes)
        self.call = os.eventfd(0, os.EFD_NONBLOCK)
        self.kick = os.eventfd(0, os.EFD_NONBLOCK)

    def close(self):
        for fd in (self.call, self.kick):
            os.close(fd)

    def word(self, gpa):
        """A 16-bit word of guest memory that is read and written in one access."""
        return ctypes.c_uint16.from_buffer(self.memory.map, self.memory.offset_of(gpa))

    def notify(self):
        """A kick, whether it is asked for or not: one too many is legal."""
        os.eventfd_write(self.kick, 1)

    def n_calls(self):
        """How often the back end called since last asked."""
        try:
            return os.eventfd_read(self.call)
        except BlockingIOError:
            return 0


class Ring(Queue):
    """The driver side of a split virtqueue in guest memory. Indexes run freely; what is read from memory is not trusted
    less than the test wants: it is the back end's to write."""

    def __init__(self, memory, index, size):
        super().__init__(memory, index, size, 6 + 2 * size, 6 + 8 * size)
        self.avail_idx = 0  # as published, or to be published next
        self.last_used = 0

    @property
    def base(self):
        """Where a back end begins that has used all this driver has seen used."""
        return self.last_used

    def set_desc(self, slot, gpa, size, flags=0, next_slot=0):
        self.memory.write(self.desc + 16 * slot, struct.pack('<QIHH', gpa, size, flags, next_slot))

    def push(self, head):
        self.memory.write(self.avail + 4 + 2 * (self.avail_idx % self.size), struct.pack('<H', head))
        self.avail_idx = (self.avail_idx + 1) & 0xffff

    def publish(self):
        self.word(self.avail + 2).value = self.avail_idx
        self.notify()

    @property
    def used_idx(self):
        return self.word(self.used + 2).value

    def n_used(self):
        return (self.used_idx - self.last_used) & 0xffff

    def pop(self):
        """The next used entry as (id, length), or None."""
        if self.n_used() == 0:
            return None
        slot = self.last_used % self.size
        self.last_used = (self.last_used + 1) & 0xffff
        return struct.unpack('<II', self.memory.read(self.used + 4 + 8 * slot, 8))


class PackedRing(Queue):
    """The same of a packed virtqueue, behind the same verbs: chains are described in a table of slots of our own, as a split
    ring has it, and copied into the ring when they are published. A place is slot | wrap counter << 15."""

    def __init__(self, memory, index, size, in_order=False):
        super().__init__(memory, index, size, 4, 4)
        self.in_order = in_order
        self.chains = {}  # slot of ours -> (gpa, size, flags, next)
        self.begin_at(0x8000)

    def begin_at(self, place):
        """As if nothing were in flight there."""
        self.avail_place = self.used_place = place
        self.pushed = []  # heads, not yet published
        self.outstanding = []  # (id, slots of the ring)
        self.popped = []  # used by one descriptor for several
        slot, wrap = place & 0x7fff, place >> 15
        for i in range(self.size):
            self.flags(i).value = AVAIL | USED if (i < slot) == bool(wrap) else 0

    def flags(self, slot):
        return self.word(self.desc + 16 * slot + 14)

    def advance(self, place, n):
        slot, wrap = (place & 0x7fff) + n, place & 0x8000
        return slot | wrap if slot < self.size else (slot - self.size) | (wrap ^ 0x8000)

    @property
    def base(self):
        return self.used_place | self.used_place << 16

    def set_desc(self, slot, gpa, size, flags=0, next_slot=0):
        self.chains[slot] = (gpa, size, flags, next_slot)

    def push(self, head):
        self.pushed.append(head)

    def descs_of(self, head):
        """The chain from head on as [gpa, size, id, flags]: the id in the last alone, and garbage in the others."""
        descs = []
        while True:
            gpa, size, flags, next_slot = self.chains[head if not descs else slot]
            descs.append([gpa, size, 0xffff, flags])
            if not flags & NEXT or len(descs) == self.size:
                descs[-1][2] = head
                return descs
            slot = next_slot

    def publish(self):
        """Of each chain the first descriptor last."""
        for head in self.pushed:
            descs = self.descs_of(head)
            self.put(descs)
            self.outstanding.append((head, len(descs)))
        self.pushed = []

    def put(self, descs):
        """Descriptors as they are, made available at the next places."""
        places = [self.avail_place]
        for _ in descs:
            places.append(self.advance(places[-1], 1))
        self.avail_place = places.pop()
        for place, (gpa, size, buffer_id, flags) in reversed(list(zip(places, descs))):
            slot = place & 0x7fff
            self.memory.write(self.desc + 16 * slot, struct.pack('<QIH', gpa, size, buffer_id))
            self.flags(slot).value = flags | (AVAIL if place & 0x8000 else USED)
        self.notify()

    def n_used(self):
        """Not how many, but whether there are any."""
        used = AVAIL | USED if self.used_place & 0x8000 else 0
        return len(self.popped) + (self.flags(self.used_place & 0x7fff).value & (AVAIL | USED) == used)

    def pop(self):
        """The next used buffer as (id, length), or None."""
        if self.n_used() == 0:
            return None
        if not self.popped:
            at = self.desc + 16 * (self.used_place & 0x7fff)
            size, buffer_id = struct.unpack('<IH', self.memory.read(at + 8, 6))
            ids = [one for one, _ in self.outstanding]
            assert buffer_id in ids, f'used descriptor with id {buffer_id}'
            if not self.in_order:
                assert ids[0] == buffer_id, 'the back end uses buffers in order, negotiated or not'
            n = ids.index(buffer_id) + 1
            self.used_place = self.advance(self.used_place, sum(slots for _, slots in self.outstanding[:n]))
            self.popped = [(one, size) for one in ids[:n]]
            del self.outstanding[:n]
        return self.popped.pop(0)

    def want_calls(self, flags, place=0):
        self.memory.write(self.avail, struct.pack('<HH', place, flags))


class FrontEnd:
    """One connection: messages in, messages out."""

    def __init__(self, sock, timeout=30.0):
        self.sock = sock
        self.sock.settimeout(timeout)
        self.reply_ack = False

    @classmethod
    def connect(cls, path, timeout=30.0):
        end = time.monotonic() + timeout
        while True:
            sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            sock.settimeout(timeout)
            try:
                sock.connect(path)
                return cls(sock, timeout)
            except (FileNotFoundError, ConnectionRefusedError, BlockingIOError):
                sock.close()
                if time.monotonic() >= end:
                    raise
                time.sleep(0.01)

    def close(self):
        self.sock.close()

    def send_raw(self, data, fds=()):
        try:
            if fds:
                sent = socket.send_fds(self.sock, [data], list(fds))
                data = data[sent:]
            self.sock.sendall(data)
        except (BrokenPipeError, ConnectionResetError) as error:
            raise Closed() from error

    @staticmethod
    def message(request, payload=b'', flags=FLAG_VERSION):
        return struct.pack('<III', request, flags, len(payload)) + payload

    def _receive_exactly(self, size):
        data = b''
        while len(data) < size:
            try:
                part = self.sock.recv(size - len(data))
            except ConnectionResetError as error:
                raise Closed() from error
            if not part:
                raise Closed()
            data += part
        return data

    def receive_reply(self, request):
        """The payload of the reply to `request`."""
        got, flags, size = struct.unpack('<III', self._receive_exactly(12))
        if got != request or flags != FLAG_VERSION | FLAG_REPLY:
            raise AssertionError(f'reply to request {request}: request {got}, flags {flags:#x}')
        return self._receive_exactly(size)

    def ask(self, request, payload=b''):
        """A request that has a reply of its own."""
        self.send_raw(self.message(request, payload))
        return self.receive_reply(request)

    def ask_u64(self, request):
        reply = self.ask(request)
        assert len(reply) == 8, f'reply to request {request} has {len(reply)} bytes'
        return struct.unpack('<Q', reply)[0]

    def tell(self, request, payload=b'', fds=()):
        """A request without one: waits for its acknowledgement, or else for a question's answer, so that it is done."""
        if self.reply_ack:
            self.send_raw(self.message(request, payload, FLAG_VERSION | FLAG_NEED_REPLY), fds)
            code = struct.unpack('<Q', self.receive_reply(request))[0]
            if code != 0:
                raise Refused(f'request {request} refused: {code}')
        else:
            self.send_raw(self.message(request, payload), fds)
            self.ask_u64(GET_FEATURES)

    def tell_u64(self, request, value, fds=()):
        self.tell(request, struct.pack('<Q', value), fds)

    def tell_state(self, request, index, value):
        self.tell(request, struct.pack('<II', index, value))

    def is_closed(self, timeout=20.0):
        """Whether the back end closes the connection in that time; what it still says meanwhile is thrown away."""
        end = time.monotonic() + timeout
        poller = select.poll()
        poller.register(self.sock, select.POLLIN | select.POLLRDHUP)
        while time.monotonic() < end:
            if not poller.poll(max(0, int((end - time.monotonic()) * 1000))):
                break
            try:
                if self.sock.recv(65536, socket.MSG_DONTWAIT) == b'':
                    return True
            except BlockingIOError:
                continue
            except ConnectionResetError:
                return True
        return False

    # ---- Set-up ----

    def negotiate(self, features=DEFAULT_FEATURES, protocol=DEFAULT_PROTOCOL):
        """Takes what is both wanted and offered."""
        self.offered = self.ask_u64(GET_FEATURES)
        self.features = features & self.offered
        self.tell(SET_OWNER)
        if self.features & F_PROTOCOL:
            self.protocol = protocol & self.ask_u64(GET_PROTOCOL_FEATURES)
            self.tell_u64(SET_PROTOCOL_FEATURES, self.protocol)
            self.reply_ack = bool(self.protocol & P_REPLY_ACK)
        self.tell_u64(SET_FEATURES, self.features)

    def set_mem_table(self, memory, regions=None, fds=None):
        regions = memory.regions if regions is None else regions
        payload = struct.pack('<II', len(regions), 0)
        payload += b''.join(struct.pack('<QQQQ', *region) for region in regions)
        self.tell(SET_MEM_TABLE, payload, [memory.fd] * len(regions) if fds is None else fds)

    def set_ring_addr(self, ring):
        uva = ring.memory.uva_of
        self.tell(SET_VRING_ADDR, struct.pack('<IIQQQQ', ring.index, 0, uva(ring.desc), uva(ring.used), uva(ring.avail), 0))

    def start_ring(self, ring, base=None, enable=True):
        self.tell_state(SET_VRING_NUM, ring.index, ring.size)
        self.tell_state(SET_VRING_BASE, ring.index, ring.base if base is None else base)
        self.set_ring_addr(ring)
        self.tell_u64(SET_VRING_CALL, ring.index, [ring.call])
        self.tell_u64(SET_VRING_KICK, ring.index, [ring.kick])
        if enable:
            self.enable_ring(ring)

    def enable_ring(self, ring, enabled=True):
        self.tell_state(SET_VRING_ENABLE, ring.index, int(enabled))

    def stop_ring(self, ring):
        """Returns the available index at which the back end stands."""
        reply = self.ask(GET_VRING_BASE, struct.pack('<II', ring.index, 0))
        assert len(reply) == 8, f'reply to GET_VRING_BASE has {len(reply)} bytes'
        index, base = struct.unpack('<II', reply)
        assert index == ring.index
        return base


class Frame:
    """A received frame: its virtio-net header's fields, and its bytes."""

    def __init__(self, header, data):
        (self.flags, self.gso_type, self.hdr_len, self.gso_size, self.csum_start, self.csum_offset,
         self.num_buffers) = struct.unpack('<BBHHHHH', header)
        self.data = data

    def __repr__(self):
        return f'<Frame {len(self.data)} bytes {self.data[:24].hex()}>'


def net_header(flags=0, gso_type=0, hdr_len=0, gso_size=0, csum_start=0, csum_offset=0, num_buffers=0):
    return struct.pack('<BBHHHHH', flags, gso_type, hdr_len, gso_size, csum_start, csum_offset, num_buffers)


class Pair:
    """A receive and a transmit ring with buffers."""

    def __init__(self, memory, number, size, buffer_bytes, features=0):
        def ring(index):
            if features & F_PACKED:
                return PackedRing(memory, index, size, bool(features & F_IN_ORDER))
            return Ring(memory, index, size)
        self.rx = ring(2 * number)
        self.tx = ring(2 * number + 1)
        self.buffer_bytes = buffer_bytes
        self.rx_buffers = memory.alloc(size * buffer_bytes)
        self.tx_buffers = memory.alloc(size * buffer_bytes)
        self.tx_free = list(range(size))
        self.tx_chains = {}  # head -> slots


class Guest(FrontEnd):
    """A well-behaved guest: rings set up, receive buffers posted, frames sent and received whole."""

    @classmethod
    def start(cls, path, features=DEFAULT_FEATURES, protocol=DEFAULT_PROTOCOL, pairs=1, size=256, buffer_bytes=2048,
              post=True, memory=None):
        self = cls.connect(path)
        self.setup(features, protocol, pairs, size, buffer_bytes, post, memory)
        return self

    def setup(self, features=DEFAULT_FEATURES, protocol=DEFAULT_PROTOCOL, pairs=1, size=256, buffer_bytes=2048,
              post=True, memory=None):
        per_pair = 2 * (size * buffer_bytes + size * 26 + 4 * PAGE)
        self.memory = memory or Memory((pairs * per_pair + (1 << 20) + PAGE - 1) // PAGE * PAGE)
        self.negotiate(features, protocol)
        self.set_mem_table(self.memory)
        self.pairs = [Pair(self.memory, number, size, buffer_bytes, self.features) for number in range(pairs)]
        for pair in self.pairs:
            if post:
                self.post_all(pair)
            self.start_ring(pair.rx)
            self.start_ring(pair.tx)

    @property
    def rx(self):
        return self.pairs[0].rx

    @property
    def tx(self):
        return self.pairs[0].tx

    def close(self):
        super().close()
        for pair in getattr(self, 'pairs', []):
            pair.rx.close()
            pair.tx.close()
        self.pairs = []
        if hasattr(self, 'memory'):
            self.memory.close()

    def post(self, pair, slot):
        pair.rx.set_desc(slot, pair.rx_buffers + slot * pair.buffer_bytes, pair.buffer_bytes, WRITE)
        pair.rx.push(slot)

    def post_all(self, pair):
        for slot in range(pair.rx.size):
            self.post(pair, slot)
        pair.rx.publish()

    def reclaim(self, pair):
        while (entry := pair.tx.pop()) is not None:
            slots = pair.tx_chains.pop(entry[0], None)
            assert slots is not None, f'transmit buffer {entry[0]} came back twice'
            pair.tx_free += slots

    def queue(self, frame, header=net_header(), pair=None):
        """Makes a frame ready in the transmit ring, without telling. False if there is no room."""
        pair = pair or self.pairs[0]
        data = header + frame
        n = (len(data) + pair.buffer_bytes - 1) // pair.buffer_bytes
        if len(pair.tx_free) < n:
            self.reclaim(pair)
        if len(pair.tx_free) < n:
            return False
        slots = [pair.tx_free.pop(0) for _ in range(n)]
        for i, slot in enumerate(slots):
            part = data[i * pair.buffer_bytes:(i + 1) * pair.buffer_bytes]
            gpa = pair.tx_buffers + slot * pair.buffer_bytes
            self.memory.write(gpa, part)
            last = i + 1 == n
            pair.tx.set_desc(slot, gpa, len(part), 0 if last else NEXT, 0 if last else slots[i + 1])
        pair.tx_chains[slots[0]] = slots
        pair.tx.push(slots[0])
        return True

    def send(self, *frames, header=net_header(), pair=None, timeout=20.0):
        pair = pair or self.pairs[0]
        for frame in frames:
            if not self.queue(frame, header, pair):
                pair.tx.publish()
                assert wait_for(lambda: self.queue(frame, header, pair), timeout), 'the back end takes no frames'
        pair.tx.publish()

    def drain(self, pair=None, timeout=20.0):
        """Waits until the back end has returned every transmit buffer."""
        pair = pair or self.pairs[0]

        def is_drained():
            self.reclaim(pair)
            return not pair.tx_chains
        assert wait_for(is_drained, timeout), f'{len(pair.tx_chains)} frames were not taken'

    def receive_now(self, pair=None, recycle=True):
        """A frame that is there, or None."""
        pair = pair or self.pairs[0]
        ring = pair.rx
        if ring.n_used() == 0:
            return None
        slots, data, n_buffers = [], b'', 1
        while len(slots) < n_buffers:
            entry = ring.pop()
            assert entry is not None, 'a frame ends before the buffers its header tells of'
            slot, size = entry
            assert slot < ring.size and size <= pair.buffer_bytes, f'used entry ({slot}, {size})'
            data += self.memory.read(pair.rx_buffers + slot * pair.buffer_bytes, size)
            if not slots and self.features & F_MRG_RXBUF:
                n_buffers = struct.unpack_from('<H', data, 10)[0]
                assert 1 <= n_buffers <= ring.size, f'num_buffers is {n_buffers}'
            slots.append(slot)
        if recycle:
            for slot in slots:
                self.post(pair, slot)
            ring.publish()
        return Frame(data[:NET_HEADER_BYTES], data[NET_HEADER_BYTES:])

    def receive(self, n=1, timeout=20.0, pair=None):
        """The next n frames; fewer if they do not come in time."""
        frames = []

        def more():
            while len(frames) < n and (frame := self.receive_now(pair)) is not None:
                frames.append(frame)
            return len(frames) == n
        wait_for(more, timeout)
        return frames

    def receive_data(self, n=1, timeout=20.0, pair=None):
        return [frame.data for frame in self.receive(n, timeout, pair)]
