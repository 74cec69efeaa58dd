# SPDX-License-Identifier: BSD-3-Clause
"""The bed a scenario lies in: its folder, its processes, its CPUs, its deadlines.

A scenario runs as the first process of its own pid, mount and network namespace (see run), so that whatever happens to
it, the kernel takes every process, interface and mount of it away. What is left to do here is to report, not to clean up.
"""
import os
import subprocess
import time
from pathlib import Path

HUGEPAGES = Path("/proc/sys/vm/nr_hugepages")


class Failure(Exception):
	"""A check of the scenario did not hold."""


class Skip(Exception):
	"""The scenario cannot run here; the text says why."""


def check(condition, text):
	if not condition:
		raise Failure(text)


def wait_until(condition, seconds, what, every=0.05):
	"""The condition's first true value, or Failure naming what was waited for."""
	end = time.monotonic() + seconds
	while True:
		value = condition()
		if value:
			return value
		if time.monotonic() > end:
			raise Failure(f"{what} within {seconds} s")
		time.sleep(every)


class Process:
	"""One child with its output in a file; ended by its own pid, never by name."""

	def __init__(self, name, argv, log, cpus, **popen):
		self.name = name
		self.log = log
		with open(log, "ab") as output:
			self.child = subprocess.Popen(
				argv, stdout=output, stderr=subprocess.STDOUT,
				# A session of its own is a share of its own where the kernel schedules by session (autogroup): guests
				# and the daemon then stand up to whatever else the machine does.
				start_new_session=True, preexec_fn=lambda: os.sched_setaffinity(0, cpus), **popen)

	@property
	def pid(self):
		return self.child.pid

	def alive(self):
		return self.child.poll() is None

	def text(self):
		return self.log.read_text(errors="replace")

	def wait(self, seconds):
		try:
			return self.child.wait(seconds)
		except subprocess.TimeoutExpired:
			raise Failure(f"{self.name} did not end within {seconds} s") from None

	def terminate(self, seconds):
		"""SIGTERM, and the exit status."""
		if self.alive():
			self.child.terminate()
		return self.wait(seconds)

	def kill(self):
		"""SIGKILL."""
		if self.alive():
			self.child.kill()
		self.child.wait()


class Bed:
	def __init__(self, folder, build, cache):
		self.folder = Path(folder)
		self.build = Path(build)
		self.cache = Path(cache)
		self.processes = []
		self.figures = []
		self.witnesses = []
		cpus = sorted(os.sched_getaffinity(0))
		# A worker polls, so it gets a CPU of its own; guests and peers share the others.
		self.worker_cpu = cpus[-1]
		self.guest_cpus = cpus[:-1] or cpus

	def path(self, name):
		return self.folder / name

	def start(self, name, argv, cpus=None, **popen):
		argv = [str(arg) for arg in argv]
		process = Process(name, argv, self.path(f"{name}.log"), cpus or self.guest_cpus, **popen)
		self.processes.append(process)
		return process

	def run(self, *argv, timeout=40, check_status=True):
		"""A short command; its output."""
		argv = [str(arg) for arg in argv]
		try:
			done = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
				timeout=timeout, check=False)
		except subprocess.TimeoutExpired:
			raise Failure(f"'{' '.join(argv)}' did not end within {timeout} s") from None
		if check_status and done.returncode:
			raise Failure(f"'{' '.join(argv)}' ended with {done.returncode}: {done.stdout.strip()}")
		return done.stdout

	def figure(self, text):
		"""Something for the PASS line."""
		self.figures.append(text)

	def witness(self, name, statement):
		"""Should the scenario fail, the file NAME will say what STATEMENT() says just then."""
		self.witnesses.append((name, statement))

	def hear_witnesses(self):
		for name, statement in self.witnesses:
			try:
				self.path(name).write_text(statement())
			except Exception as error:  # a dead daemon has nothing to say, and the failure that is reported is another
				self.path(name).write_text(f"{error}\n")

	def reserve_hugepages(self, pages):
		"""2 MB pages on top of those there are; the runner takes them back. False if the kernel has not got them."""
		before = int(HUGEPAGES.read_text())
		self.path("hugepages").write_text(f"{pages}\n")
		HUGEPAGES.write_text(f"{before + pages}\n")
		return int(HUGEPAGES.read_text()) >= before + pages


def release_hugepages(folder):
	"""The runner's half of reserve_hugepages, once the scenario's processes are gone."""
	mark = Path(folder) / "hugepages"
	if mark.exists():
		HUGEPAGES.write_text(f"{max(0, int(HUGEPAGES.read_text()) - int(mark.read_text()))}\n")
		mark.unlink()
