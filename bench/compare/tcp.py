"""The row of a real Redis: redis-server and redis-benchmark on the generator's core.

Both are batch processes there, so waking one interrupts nobody. The CPU clocks of the proxy are
read here, at both ends of redis-benchmark's run: connections are few and are part of it.
"""

import os
import re
import resource
import socket
import subprocess
import time
from contextlib import contextmanager

from h2 import generator_process
from peers import BenchFault

RUN_SECONDS_MAX = 120
START_SECONDS = 10


@contextmanager
def server(bench):
    """A Redis without persistence at the backend's port."""
    command = [bench.programs["redis-server"], "--port", str(bench.backend), "--bind",
               "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", bench.dir]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                          stderr=subprocess.DEVNULL,
                          preexec_fn=lambda: generator_process(bench.load_core)) as redis:
        try:
            deadline = time.monotonic() + START_SECONDS
            while True:
                try:
                    socket.create_connection(("127.0.0.1", bench.backend), 1).close()
                    break
                except OSError as fault:
                    if redis.poll() is not None or time.monotonic() > deadline:
                        raise BenchFault("redis-server did not start") from fault
                    time.sleep(0.02)
            yield redis.pid
        finally:
            redis.terminate()


def cpu_ns(pid):
    """User plus system time of a process, its threads included, in ns."""
    clock = (~pid << 3) | 2  # CPUCLOCK_SCHED of the process (clock_getcpuclockid)
    return time.clock_gettime_ns(clock)


def children_ns():
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return int((usage.ru_utime + usage.ru_stime) * 1e9)


def redis_run(bench, proxy, ask, measure_ms):
    """One run: GETs of a key with 128 bytes, each connection one at a time."""
    requests = max(ask.requests * measure_ms // 1000, ask.connections)
    command = [bench.programs["redis-benchmark"], "-p", str(proxy.plain), "-c",
               str(ask.connections), "-n", str(requests), "-d", "128", "-t", "get", "--precision",
               "3"]
    with server(bench) as redis:
        began, cpu, own = time.monotonic(), sum(map(cpu_ns, proxy.pids)), children_ns()
        served = cpu_ns(redis)
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False,
                                  timeout=RUN_SECONDS_MAX, stdin=subprocess.DEVNULL,
                                  preexec_fn=lambda: generator_process(bench.load_core))
        except subprocess.TimeoutExpired as fault:
            raise BenchFault(f"redis-benchmark against {proxy.name} hangs") from fault
        if proxy.process.poll() is not None:
            return None
        seconds = time.monotonic() - began
        cpu = sum(map(cpu_ns, proxy.pids)) - cpu
        own = children_ns() - own + cpu_ns(redis) - served
    return figures(done, requests, {"seconds": seconds, "cpu_ns": cpu, "self_ns": own})


def figures(done, requests, result):
    """With what redis-benchmark says of the run, and whether it is a result."""
    text = done.stdout.replace("\r", "\n")
    finished = re.search(r"^ +(\d+) requests completed in", text, re.M)
    rate = re.search(r"throughput summary: ([0-9.]+) requests per second", text)
    head = re.search(r"^ +avg +min +p50 +p95 +p99 +max *\n(.*)$", text, re.M)
    times = [float(word) * 1000 for word in head[1].split()] if head else [0.0] * 6
    good = finished and int(finished[1]) == requests and not done.stderr and done.returncode == 0
    faults = [] if good else [f"redis-benchmark: {(done.stderr or text).strip()[-200:]}"]
    result.update(requests=requests, errors=0, backend_errors=0, first_error="", body_bytes=0,
                  handshakes=0, resumed=0, p50_us=times[2], p99_us=times[4], p999_us=times[5],
                  rps=float(rate[1]) if rate else 0.0, generator_faults=faults)
    return result
