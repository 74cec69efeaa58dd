# SPDX-License-Identifier: BSD-3-Clause
"""QEMU guests under TCG with a shell on their second serial port."""
import itertools
import re
import socket
import time

from lib.bed import Failure, check

# Deadlines for machines that are shared with others: a quiet one boots a guest in 4 s.
BOOT_S = 180
AGENT_S = 30
COMMAND_S = 40
DEBIAN_QEMU = "qemu-system-x86_64"  # 7.2: crashes with MSI-X on vhost-user when there is no KVM, so vectors=0
OFFLOADS_OFF = ("csum=off,gso=off,guest_csum=off,guest_tso4=off,guest_tso6=off,guest_ecn=off,guest_ufo=off,"
	"host_tso4=off,host_tso6=off,host_ecn=off,host_ufo=off")


def vhost_user_nic(index, path, mac, role="listen", queues=1, properties="", reconnect=False):
	"""QEMU's arguments for one NIC. The role is Ringway's: where Ringway connects, QEMU listens."""
	chardev = f"socket,id=char{index},path={path}"
	if role == "connect":
		chardev += ",server=on,wait=off"
	elif reconnect:
		chardev += ",reconnect-ms=500"
	netdev = f"vhost-user,id=net{index},chardev=char{index}"
	device = f"virtio-net-pci,netdev=net{index},mac={mac}"
	if queues > 1:
		netdev += f",queues={queues}"
		device += f",mq=on,vectors={2 * queues + 2}"
	if properties:
		device += "," + properties
	return ["-chardev", chardev, "-netdev", netdev, "-device", device]


class Vm:
	"""A QEMU process and the way to type into its guest."""

	def __init__(self, bed, name, arguments, qemu=None, memory_mb=256, smp=1, accel="tcg,thread=multi", cpu="max", host_cpus=None):
		self.bed = bed
		self.name = name
		self.console = bed.path(f"{name}.console")
		self.agent = None
		self.received = ""
		# QEMU connects to us before the guest runs, so that not a word of it is lost.
		agent_path = bed.path(f"{name}.agent")
		agent_path.unlink(missing_ok=True)
		self.listener = socket.socket(socket.AF_UNIX)
		self.listener.bind(str(agent_path))
		self.listener.listen(1)
		self.listener.settimeout(AGENT_S)
		self.process = bed.start(name, [
			qemu or bed.cache / "qemu", "-accel", accel, "-cpu", cpu, "-m", str(memory_mb), "-smp", str(smp),
			"-nodefaults", "-display", "none",
			# Shared memory is what makes a guest visible to a vhost-user back end.
			"-object", f"memory-backend-memfd,id=memory,size={memory_mb}M,share=on", "-numa", "node,memdev=memory",
			"-serial", f"file:{self.console}",
			"-chardev", f"socket,id=agent,path={agent_path}", "-serial", "chardev:agent",
			*arguments], cpus=host_cpus)

	def console_text(self):
		return self.console.read_text(errors="replace") if self.console.exists() else ""

	def check_alive(self):
		check(self.process.alive(), f"{self.name}: QEMU ended with {self.process.child.poll()}: "
			f"{self.process.text()[-300:]} console: {self.console_text()[-300:]}")
		check("Kernel panic" not in self.console_text(), f"{self.name}: kernel panic: {self.console_text()[-600:]}")

	def _connect(self):
		if self.agent is None:
			try:
				self.agent, _ = self.listener.accept()
			except TimeoutError:
				self.check_alive()
				raise Failure(f"{self.name}: QEMU does not open its serial port") from None
			self.agent.settimeout(0.2)

	def _expect(self, pattern, seconds, what):
		"""The match of the pattern in what the guest sends; it and all before it are taken away."""
		end = time.monotonic() + seconds
		self._connect()
		while True:
			match = re.search(pattern, self.received, re.S)
			if match:
				self.received = self.received[match.end():]
				return match
			try:
				self.received += self.agent.recv(65536).decode(errors="replace")
			except TimeoutError:
				self.check_alive()
			check(time.monotonic() < end, f"{self.name}: {what} within {seconds} s; it said: {self.received[-200:]!r}")

	def wait_booted(self, seconds=BOOT_S):
		"""The guest's uptime when its shell was there."""
		return float(self._expect(r"@ready ([0-9.]+)\r?\n", seconds, "boots").group(1))

	def type(self, line):
		"""Starts something without waiting for it."""
		self._connect()
		self.agent.sendall(line.encode() + b"\n")

	def run(self, command, seconds=COMMAND_S, check_status=True):
		"""A shell command's output; Failure when it fails or takes too long."""
		# The marker is split so that an echoing terminal could not answer for the shell.
		self.type(f"{{ {command}\n}} 2>&1 </dev/null; echo '@''done' $?")
		match = self._expect(r"^(.*?)@done (\d+)\r?\n", seconds, f"'{command}' ends")
		output = match.group(1).replace("\r", "")
		if check_status and match.group(2) != "0":
			raise Failure(f"{self.name}: '{command}' ended with {match.group(2)}: {output.strip()[-300:]}")
		return output

	def interrupts(self, pattern):
		"""The sum of the counts of the matching lines of /proc/interrupts."""
		return sum(self.interrupts_by_name(pattern).values())

	def interrupts_by_name(self, pattern):
		"""{what the pattern matched: count, of all CPUs} from /proc/interrupts."""
		counts = {}
		for line in self.run("cat /proc/interrupts").splitlines():
			match = re.search(pattern, line)
			if match:
				# A count per CPU stands between the interrupt's number and its controller's name.
				words = itertools.takewhile(str.isdigit, line.split()[1:])
				counts[match.group(0)] = counts.get(match.group(0), 0) + sum(int(word) for word in words)
		return counts

	def kill(self):
		self.process.kill()
		self._hang_up()

	def power_off(self):
		self.type("poweroff -f")
		self.process.wait(20)
		self._hang_up()

	def _hang_up(self):
		self.listener.close()
		if self.agent:
			self.agent.close()


# On a loaded machine a guest may get no CPU for so long that its kernel finds the timer broken and the TSC unstable.
KERNEL_ARGUMENTS = "console=ttyS0 quiet panic=-1 mitigations=off random.trust_cpu=on no_timer_check tsc=reliable"


class LinuxGuest(Vm):
	"""The small guest: Debian's kernel, busybox, iperf3, virtio-net."""

	def __init__(self, bed, name, nics, disks=(), machine="pc", kernel_arguments="", arguments=(), **more):
		drives = []
		for index, disk in enumerate(disks):
			# cache=unsafe: a guest's sync reaches the host's page cache and no further, which is all a comparison needs.
			drives += ["-drive", f"file={disk},format=raw,if=none,id=disk{index},cache=unsafe",
				"-device", f"virtio-blk-pci,drive=disk{index},serial=disk{index}"]
		super().__init__(bed, name, [
			"-M", machine, "-kernel", bed.cache / "vmlinux", "-initrd", bed.cache / "initrd.gz",
			"-append", f"{KERNEL_ARGUMENTS} root=small {kernel_arguments}",
			*drives, *[word for nic in nics for word in nic], *arguments], **more)

	def set_address(self, address, device="eth0", mtu=1500):
		self.run(f"ip addr flush dev {device}; ip link set {device} up mtu {mtu} && ip addr add {address}/24 dev {device}")

	def ping(self, address, count=3, size=56, seconds=COMMAND_S):
		"""Every ping must come back, but for the first, which may wait for ARP and learning."""
		output = self.run(f"ping -c {count} -i 0.2 -W 2 -s {size} {address}", seconds, check_status=False)
		match = re.search(r"(\d+) packets transmitted, (\d+) packets received", output)
		check(match and int(match.group(2)) >= count - 1 and int(match.group(2)) > 0,
			f"{self.name}: ping {address}: {output.strip()[-200:]}")

	def features(self, device="eth0"):
		"""The negotiated virtio feature bits of a NIC."""
		bits = self.run(f"cat /sys/class/net/{device}/device/features").strip()
		return {bit for bit, value in enumerate(bits) if value == "1"}


class HostGuest(Vm):
	"""A guest on this machine's own root file system (changes stay in the guest), with every module of its kernel."""

	def __init__(self, bed, name, share, machine="q35", kernel_arguments="", arguments=(), **more):
		shares = []
		for tag, path, access in (("host", "/", ",readonly=on,multidevs=remap"), ("work", share, ""),
				("modules", bed.cache / "modules", ",readonly=on")):
			shares += ["-fsdev", f"local,id={tag},path={path},security_model=none{access}",
				"-device", f"virtio-9p-pci,fsdev={tag},mount_tag={tag}"]
		super().__init__(bed, name, [
			"-M", machine, "-kernel", bed.cache / "vmlinux", "-initrd", bed.cache / "initrd.gz",
			"-append", f"{KERNEL_ARGUMENTS} root=host share={share} {kernel_arguments}", *shares, *arguments], **more)
