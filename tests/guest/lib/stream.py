# SPDX-License-Identifier: BSD-3-Clause
"""A stream of noise by TCP from this machine to a guest, as long as it is wanted, kept here for a comparison."""
import itertools
import random
import socket
import threading
import time

from lib.bed import Failure, check

BLOCK_BYTES = 65536
BLOCKS = 16
STALL_S = 60  # a guest that takes nothing for so long takes nothing any more
# Small, or the rate would be that of filling it.
SEND_BUFFER_BYTES = 262144


class Stream(threading.Thread):
	"""Sends from its making until finish(), in order; each block has its number in front.

	pause_s: between two blocks, for a stream that must not outrun its receiver's buffer.
	"""

	def __init__(self, address, port, copy, pause_s=0):
		super().__init__(daemon=True)
		self.copy = copy
		self.pause_s = pause_s
		self.ending = threading.Event()
		self.error = None
		self.progress = [(time.time(), 0)]
		self.socket = socket.socket()
		self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
		self.socket.settimeout(STALL_S)
		try:
			self.socket.connect((address, port))
		except OSError as error:
			raise Failure(f"the stream into {copy.name} cannot connect to {address}:{port}: {error}") from None
		self.start()

	def run(self):
		noise = random.Random(1)
		blocks = [noise.randbytes(BLOCK_BYTES - 8) for _ in range(BLOCKS)]
		try:
			with self.socket, open(self.copy, "wb") as copy:
				for number in itertools.count():
					if self.ending.wait(self.pause_s) if self.pause_s else self.ending.is_set():
						break
					block = number.to_bytes(8, "big") + blocks[number % BLOCKS]
					copy.write(block)
					self.socket.sendall(block)
					self.progress.append((time.time(), (number + 1) * BLOCK_BYTES))
		except OSError as error:
			self.error = error

	@property
	def n_bytes(self):
		return self.progress[-1][1]

	def check_alive(self):
		check(self.error is None, f"the stream into {self.copy.name} broke after {self.n_bytes} bytes: {self.error!r}")

	def finish(self):
		"""Ends it behind a whole block; the bytes sent."""
		self.ending.set()
		self.join(STALL_S + 10)
		if self.is_alive():
			raise Failure(f"the stream into {self.copy.name} does not end")
		self.check_alive()
		return self.n_bytes

	def rate_mb_s(self, start_s, end_s):
		"""The mean between two moments on the system's clock."""
		before = max(total for moment, total in self.progress if moment <= start_s or total == 0)
		after = max(total for moment, total in self.progress if moment <= end_s or total == 0)
		return (after - before) / (end_s - start_s) / 1e6
