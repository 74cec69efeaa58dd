# SPDX-License-Identifier: BSD-3-Clause
"""What the first worker says it did between two looks at 'ringwayctl worker show'."""
from lib.bed import check


def worker_state(switch):
	return switch.ctl("worker", "show")["workers"][0]


class Interval:
	"""From a worker_state() to a later one."""

	def __init__(self, before, after):
		self.before = before
		self.after = after

	@classmethod
	def since(cls, before, switch):
		return cls(before, worker_state(switch))

	def grown(self, *path):
		"""By how much a counter has grown: grown("wakeups", "nic")."""
		values = []
		for value in (self.before, self.after):
			for key in path:
				check(key in value, f"'worker show' has no {'.'.join(path)}")
				value = value[key]
			values.append(value)
		return values[1] - values[0]

	def wakeups_by(self, port):
		"""(how often the port's queues woke the worker, how often for nothing)."""
		totals = []
		for counter in ("wakeups", "spurious"):
			before, after = (sum(queue[counter] for queue in state["queues"] if queue["port"] == port)
				for state in (self.before, self.after))
			totals.append(after - before)
		return tuple(totals)

	def asleep(self):
		"""Share of the time, 0 to 1."""
		return self.grown("sleep_cycles") / self.grown("total_cycles")

	def keeps_polling(self):
		"""Why it does not sleep, {(port, queue): reason}; empty: it may."""
		check("keeps_polling" in self.after, "'worker show' has no keeps_polling")
		return {(reason["port"], reason["queue"]): reason["why"] for reason in self.after["keeps_polling"]}

	def __str__(self):
		woken = ", ".join(f"{self.grown('wakeups', cause)} {cause}" for cause in sorted(self.after["wakeups"]))
		return f"{self.asleep():.0%} asleep, {self.grown('sleeps')} sleeps, woken by {woken}"


def check_quiet(interval, what, ports, times, share=0.5):
	"""The worker slept most of the time, and each of the ports woke it at least TIMES times for something, rarely for nothing.

	ports: {name: "kick" or "nic", the cause its wakeups are counted under}.
	"""
	check(not interval.keeps_polling(), f"{what}: the worker keeps polling: {interval.keeps_polling()}")
	for port, cause in ports.items():
		wakeups, spurious = interval.wakeups_by(port)
		check(wakeups - spurious >= times,
			f"{what}: {interval}; {port} woke it {wakeups} times, {spurious} for nothing, expected at least {times} for something")
		# vmxnet3 has one for nothing with each; the rest is for machines that are busy.
		check(spurious <= 2 * (wakeups - spurious), f"{what}: {interval}; {port} woke it {wakeups} times, {spurious} for nothing")
		check(interval.grown("wakeups", cause) >= wakeups, f"{what}: {interval}; {port}'s {wakeups} are not counted as {cause}")
	check(interval.grown("sleeps") >= times, f"{what}: {interval}; expected at least {times} sleeps")
	check(interval.asleep() >= share, f"{what}: {interval}; expected at least {share:.0%} asleep")
