#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""ringbench against DPDK testpmd's net_vhost ports: every feature path, both roles, restart, and failures that must show.

Usage: ringbench_testpmd.py RINGBENCH [CASE...]
"""
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time

RINGBENCH = sys.argv[1]
SKIP = 77


class Testpmd:
    """A testpmd with n vhost ports that forward in pairs (or a single one that loops)."""

    def __init__(self, folder, n_ports, queues=1, client=False, extra="", forward="io", start=True):
        self.paths = [os.path.join(folder, f"v{i}.sock") for i in range(n_ports)]
        command = ["dpdk-testpmd", "--lcores", "0@0,1@0", "--no-pci", "--no-huge", "-m", "256",
                   "--file-prefix", f"rb{os.getpid()}"]
        for i, path in enumerate(self.paths):
            if not client and os.path.exists(path):
                os.unlink(path)
            command += ["--vdev", f"net_vhost{i},iface={path},queues={queues},"
                        f"client={int(client)}{extra}"]
        command += ["--", "-i", "--total-num-mbufs=16384", "--no-flush-rx", f"--rxq={queues}",
                    f"--txq={queues}"]
        self.log = []
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=subprocess.STDOUT, text=True, bufsize=1)
        self.ready = threading.Event()
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()
        if not self.ready.wait(30):
            self.close()
            raise RuntimeError("testpmd did not start:\n" + "".join(self.log))
        self.say(f"set fwd {forward}")
        if start:
            self.say("start")

    def _read(self):
        for line in self.process.stdout:
            self.log.append(line)
            if "Checking link statuses" in line:
                self.ready.set()

    def say(self, text):
        self.process.stdin.write(text + "\n")
        self.process.stdin.flush()

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def close(self):
        if self.process.poll() is None:
            try:
                self.say("stop\nquit")
                self.process.wait(10)
            except (BrokenPipeError, subprocess.TimeoutExpired):
                self.kill()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def start_ringbench(paths, *args):
    command = [RINGBENCH, "-j", "--deadline", "30", "--stall", "3"]
    for path in paths:
        command += ["-s", path]
    return subprocess.Popen(command + list(args), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                            text=True)


def finish(process):
    out, err = process.communicate(timeout=60)
    lines = [json.loads(line) for line in out.splitlines()]
    return process.returncode, lines, err


def run(paths, *args):
    return finish(start_ringbench(paths, *args))


def expect(condition, what, *context):
    if not condition:
        raise AssertionError(what + "".join(f"\n    {item}" for item in context))


def expect_clean(status, lines, err, count=None):
    result = lines[-1] if lines else {}
    expect(status == 0, f"exit status {status}", err, result)
    expect(result["ok"] and result["failed"] == [], "a check failed", result)
    for name in ("lost", "duplicated", "corrupted", "misdirected"):
        expect(result["total"][name] == 0, f"{name} is not 0", result)
    if count is not None:
        for direction in result["directions"]:
            expect(direction["sent"] == direction["received"] == count, "a count is wrong",
                   direction)
    return result


def every_way_of_passing_frames_is_clean(folder):
    ways = [
        ["--size", "64"],
        ["--size", "1518", "--features", "-mrg_rxbuf"],
        ["--size", "imix", "--verify", "all", "--features", "-in_order"],
        ["--size", "1518", "--rx-buffer", "300", "--ring", "1024"],
        ["--size", "1400", "--segment", "512"],
        ["--size", "1400", "--segment", "512", "--features", "-indirect"],
        ["--size", "200", "--features", "+csum", "--verify", "all"],
        ["--size", "90", "--vlan", "7", "--flows", "16"],
        ["--size", "64", "--features", "+event_idx", "--sleep"],
        ["--size", "128", "--ring", "2048", "--window", "1000", "--features", "-in_order,-mrg_rxbuf"],
    ]
    with Testpmd(folder, 2) as back_end:
        for way in ways:
            result = expect_clean(*run(back_end.paths, "--count", "30000", *way), count=30000)
            expect([d["from"] for d in result["directions"]] == [1, 2], "directions", way)


def packed_rings_pass_frames_in_every_way(folder):
    ways = [
        [],
        ["--ring", "100", "--verify", "all"],
        ["--ring", "257", "--size", "imix", "--verify", "all", "--features", "-in_order"],
        ["--ring", "1000", "--size", "1518", "--rx-buffer", "300"],
        ["--ring", "250", "--size", "1400", "--segment", "512"],
        ["--ring", "301", "--size", "1400", "--segment", "512", "--features", "-indirect"],
        ["--size", "1518", "--features", "-mrg_rxbuf"],
        ["--features", "+event_idx", "--sleep"],
        ["--features", "+csum", "--size", "200", "--flows", "9"],
    ]
    with Testpmd(folder, 2) as back_end:
        for way in ways:
            result = expect_clean(*run(back_end.paths, "--count", "30000", "--features", "+packed",
                                       *way), count=30000)
            for socket in result["conditions"]["sockets"]:
                expect("packed" in socket["features"].split(","), "features", way, socket)


def many_mac_addresses_pass_both_ways(folder):
    with Testpmd(folder, 2) as back_end:
        for flows in ("1", "8"):
            result = expect_clean(*run(back_end.paths, "--count", "30000", "--macs", "3000",
                                       "--flows", flows, "--verify", "all"), count=30000)
            expect(result["conditions"]["macs"] == 3000, "macs", result["conditions"])


def memory_comes_in_as_many_regions_as_asked_for(folder):
    with Testpmd(folder, 2) as back_end:
        for way in (["--regions", "2"], ["--regions", "8", "--ring", "250", "--features", "+packed",
                                         "--size", "imix", "--verify", "all"]):
            expect_clean(*run(back_end.paths, "--count", "30000", *way), count=30000)
        # Without memory slots a back end takes eight: so they really are announced one by one.
        status, _, err = run(back_end.paths, "--count", "1000", "--regions", "9")
        expect(status == 3 and "at most 8" in err, f"exit status {status}", err)


def one_socket_is_a_loop(folder):
    with Testpmd(folder, 1) as back_end:
        result = expect_clean(*run(back_end.paths, "--count", "30000"), count=30000)
        expect(result["conditions"]["topology"] == "loop", "topology", result["conditions"])


def one_way_sends_one_way(folder):
    with Testpmd(folder, 2) as back_end:
        result = expect_clean(*run(back_end.paths, "--count", "20000", "--one-way"), count=20000)
        expect(len(result["directions"]) == 1, "directions", result["directions"])


def the_open_loop_keeps_its_rate(folder):
    with Testpmd(folder, 2) as back_end:
        status, lines, err = run(back_end.paths, "--rate", "20000", "--duration", "1",
                                 "--stall", "0.3")
        expect(status == 0, f"exit status {status}", err)
        for direction in lines[-1]["directions"]:
            due = direction["sent"] + direction["not_sent_in_time"]
            expect(19000 <= due <= 21000, "frames due in a second", direction)


def all_queue_pairs_carry_frames(folder):
    with Testpmd(folder, 2, queues=4) as back_end:
        expect_clean(*run(back_end.paths, "--queues", "4", "--flows", "8", "--count", "40000"),
                     count=40000)


def the_back_end_may_be_the_one_that_connects(folder):
    paths = [os.path.join(folder, f"v{i}.sock") for i in range(2)]
    bench = start_ringbench([path + ",listen" for path in paths], "--count", "20000")
    with Testpmd(folder, 2, client=True):
        expect_clean(*finish(bench), count=20000)
    expect(not any(os.path.exists(path) for path in paths), "a socket was left behind")


def live_lines_are_json_objects(folder):
    with Testpmd(folder, 2) as back_end:
        status, lines, err = run(back_end.paths, "--duration", "1", "--interval", "0.2")
        expect_clean(status, lines, err)
        expect(len(lines) >= 3, "live lines", lines)
        for line in lines[:-1]:
            expect(line["type"] == "interval" and line["total"]["received"] >= 0, "line", line)
        expect(lines[-1]["type"] == "result", "last line", lines[-1])


def a_killed_back_end_is_an_outage_with_reconnect(folder, *way):
    back_end = Testpmd(folder, 2)
    bench = start_ringbench(back_end.paths, "--reconnect", "--duration", "6", "--interval", "0.1",
                            *way)
    bench.stdout.readline()
    back_end.kill()
    with Testpmd(folder, 2):
        status, lines, err = finish(bench)
    result = expect_clean(status, lines, err)
    expect(result["outages"] == 1 and result["outage_s"] > 0, "outages", result)


def packed_rings_go_on_with_the_next_back_end(folder):
    a_killed_back_end_is_an_outage_with_reconnect(folder, "--features", "+packed", "--ring", "300")
    a_killed_back_end_is_an_outage_with_reconnect(folder, "--features", "+packed,-in_order",
                                                  "--macs", "100")


def a_killed_back_end_ends_the_run_without_reconnect(folder):
    back_end = Testpmd(folder, 2)
    bench = start_ringbench(back_end.paths, "--duration", "20", "--interval", "0.1")
    bench.stdout.readline()
    back_end.kill()
    status, lines, err = finish(bench)
    expect(status == 1, f"exit status {status}", err)
    expect("finished" in lines[-1]["failed"], "failed", lines[-1])
    expect("went away" in err and "--reconnect" in err, "message", err)


def changed_frames_fail_the_run(folder):
    with Testpmd(folder, 2, forward="macswap") as back_end:
        status, lines, err = run(back_end.paths, "--count", "20000")
        expect(status == 1, f"exit status {status}", err)
        result = lines[-1]
        expect("corrupted" in result["failed"], "failed", result)
        expect(result["total"]["faults"]["ethernet"] > 0, "faults", result)


def frames_that_lose_their_segmentation_words_fail_the_run(folder):
    with Testpmd(folder, 2, extra=",tso=1") as back_end:
        status, lines, err = run(back_end.paths, "--count", "200", "--features", "+tso", "--size",
                                 "9000")
        expect(status == 1, f"exit status {status}", err)
        expect(lines[-1]["total"]["faults"]["virtio_header"] == 400, "faults", lines[-1])


def nobody_at_the_socket_is_status_3(folder):
    path = os.path.join(folder, "nobody.sock")
    status, lines, err = run([path], "--deadline", "0.3")
    expect(status == 3 and path in err, f"exit status {status}", err)
    expect(lines[-1]["ok"] is False and path in lines[-1]["error"], "JSON", lines)


def a_back_end_that_does_not_forward_is_status_3_and_says_so(folder):
    with Testpmd(folder, 2, start=False) as back_end:
        status, _, err = run(back_end.paths, "--deadline", "1")
        expect(status == 3, f"exit status {status}", err)
        expect("has taken no frame" in err, "message", err)
    with Testpmd(folder, 2, forward="rxonly") as back_end:
        status, _, err = run(back_end.paths, "--deadline", "1")
        expect(status == 3, f"exit status {status}", err)
        expect("does it forward" in err, "message", err)


def a_queue_pair_that_nobody_serves_is_status_3_and_named(folder):
    with Testpmd(folder, 1) as back_end:
        status, _, err = run(back_end.paths, "--queues", "2", "--deadline", "1")
        expect(status == 3 and "queue pair 1" in err, f"exit status {status}", err)


def wrong_usage_is_status_2(folder):
    status, lines, err = run([os.path.join(folder, "x")], "--ring", "100")
    expect(status == 2 and "--ring 128" in err, f"exit status {status}", err)


CASES = [
    wrong_usage_is_status_2,
    nobody_at_the_socket_is_status_3,
    one_socket_is_a_loop,
    every_way_of_passing_frames_is_clean,
    packed_rings_pass_frames_in_every_way,
    many_mac_addresses_pass_both_ways,
    memory_comes_in_as_many_regions_as_asked_for,
    one_way_sends_one_way,
    the_open_loop_keeps_its_rate,
    all_queue_pairs_carry_frames,
    the_back_end_may_be_the_one_that_connects,
    live_lines_are_json_objects,
    a_killed_back_end_is_an_outage_with_reconnect,
    packed_rings_go_on_with_the_next_back_end,
    a_killed_back_end_ends_the_run_without_reconnect,
    changed_frames_fail_the_run,
    frames_that_lose_their_segmentation_words_fail_the_run,
    a_back_end_that_does_not_forward_is_status_3_and_says_so,
    a_queue_pair_that_nobody_serves_is_status_3_and_named,
]


def main():
    if shutil.which("dpdk-testpmd") is None:
        print("SKIP: dpdk-testpmd is not installed (package dpdk)")
        return SKIP
    wanted = sys.argv[2:]
    n_failed = 0
    for case in CASES:
        if wanted and case.__name__ not in wanted:
            continue
        start = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="ringbench") as folder:
            try:
                case(folder)
                verdict = "ok  "
            except Exception as problem:  # pylint: disable=broad-except
                verdict = "FAIL"
                n_failed += 1
                print(problem)
        print(f"{verdict} {case.__name__} ({time.monotonic() - start:.1f} s)", flush=True)
    return 1 if n_failed else 0


if __name__ == "__main__":
    sys.exit(main())
