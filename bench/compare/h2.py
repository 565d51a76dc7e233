"""The rows of HTTP/2: h2load is the generator, bench-load only the backend (--serve).

Both run on the generator's core. bench-load never sleeps and gives the core away whenever it has
nothing to do; h2load is a batch process, so waking it interrupts nobody: the proxy does not pay
for waking a core here either. bench-load reads the CPU clocks, h2load's summary says
if all went well.
"""

import json
import os
import re
import resource
import socket
import ssl
import subprocess
import threading
import time
from contextlib import contextmanager

from peers import BenchFault, die_with_parent

RUN_SECONDS_MAX = 120
SETTLE_SECONDS = 2.0
OFFER = ["--tls13-ciphers=TLS_AES_128_GCM_SHA256", "--groups=X25519", "--npn-list=h2"]
OFFERED = {"TLS Protocol": "TLSv1.3", "Cipher": "TLS_AES_128_GCM_SHA256",
           "Server Temp Key": "X25519 253 bits", "Application protocol": "h2"}
MICROSECONDS = {"us": 1, "ms": 1e3, "s": 1e6}


@contextmanager
def backend(bench, proxy, requests):
    """bench-load as backend of so many requests: yields what ends it and returns its figures."""
    command = [bench.programs["load"], "--backend", str(bench.backend), "--core",
               str(bench.load_core), "--serve", str(requests),
               "--watch", ",".join(str(pid) for pid in proxy.pids)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                          preexec_fn=die_with_parent) as load:
        watchdog = threading.Timer(RUN_SECONDS_MAX + 30, load.kill)
        watchdog.start()

        def end():
            lines = load.communicate()[0].strip().splitlines()
            if not lines:
                raise BenchFault(f"{proxy.name}: bench-load as the backend said nothing")
            return json.loads(lines[-1])

        try:
            if "serving" not in (load.stdout.readline() or ""):
                raise BenchFault("bench-load does not serve")
            yield end
        finally:
            watchdog.cancel()
            load.kill()


def pattern(count):
    """The body that bench-load expects (bench/load/body.c) of a request without a nonce."""
    x, out = 0x9E3779B97F4A7C15, bytearray()
    while len(out) < count:
        x ^= x << 13 & 0xFFFFFFFFFFFFFFFF
        x ^= x >> 7
        x ^= x << 17 & 0xFFFFFFFFFFFFFFFF
        out += x.to_bytes(8, "little")
    return b"0" * 8 + bytes(out[8:count])


def command_of(bench, proxy, ask, requests):
    command = [bench.programs["h2load"], "-n", str(requests), "-c", str(ask.connections), "-m",
               str(ask.streams), "-t", "1", f"--connect-to=127.0.0.1:{proxy.tls}"] + OFFER
    if ask.post:
        body = os.path.join(bench.dir, f"body-{ask.post}")
        if not os.path.exists(body):
            with open(body, "wb") as out:
                out.write(pattern(ask.post))
        command += ["-d", body]
    return command + [f"https://localhost:{proxy.tls}/bytes/{ask.get}"]


def generator_process(core):
    """In the child: on its core, where its waking preempts nobody."""
    die_with_parent()
    os.sched_setaffinity(0, {core})
    os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))


def summary_faults(text, ask, requests):
    """What in h2load's summary is not as if all requests had gone well."""
    faults = [f"{name} is not {value}" for name, value in OFFERED.items()
              if f"{name}: {value}\n" not in text]
    counts = re.search(r"^requests: .*$", text, re.M)
    good = (f"requests: {requests} total, {requests} started, {requests} done, "
            f"{requests} succeeded, 0 failed, 0 errored, 0 timeout")
    if not counts or counts[0] != good:
        faults.append(counts[0] if counts else f"no summary: {text.strip()[-100:]}")
    if f"status codes: {requests} 2xx, 0 3xx, 0 4xx, 0 5xx\n" not in text:
        faults.append("a status other than 2xx")
    data = re.search(r"\((\d+)\) data$", text, re.M)
    if not data or int(data[1]) != requests * ask.get:
        faults.append(f"{data[1] if data else 'no'} bytes of bodies, not {requests * ask.get}")
    return faults


def times_of(text):
    """Mean and highest time for a request in microseconds, and requests per second."""
    times = re.search(r"^time for request: +(\S+) +(\S+) +(\S+) ", text, re.M)
    rate = re.search(r"^finished in \S+, ([0-9.]+) req/s", text, re.M)
    mean, highest = 0.0, 0.0
    if times:
        highest, mean = (float(re.match(r"[0-9.]+", word)[0])
                         * MICROSECONDS[re.search(r"[a-z]+$", word)[0]]
                         for word in (times[2], times[3]))
    return {"mean_us": mean, "max_us": highest, "rps": float(rate[1]) if rate else 0.0}


def children_ns():
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return int((usage.ru_utime + usage.ru_stime) * 1e9)


def run(bench, proxy, ask, measure_ms):
    """One run: bench-load's figures with h2load's times and faults."""
    requests = max(ask.rate * measure_ms // 1000, ask.connections * ask.streams)
    with backend(bench, proxy, requests) as end:
        before, began = children_ns(), time.monotonic()
        try:
            done = subprocess.run(command_of(bench, proxy, ask, requests), capture_output=True,
                                  text=True, check=False, timeout=RUN_SECONDS_MAX,
                                  stdin=subprocess.DEVNULL,
                                  preexec_fn=lambda: generator_process(bench.load_core))
        except subprocess.TimeoutExpired as fault:
            raise BenchFault(f"h2load against {proxy.name} hangs") from fault
        share = (children_ns() - before) / 1e9 / (time.monotonic() - began)
        result = end()
    result["self_ns"] += int(share * result["seconds"] * 1e9)  # both generators' part of the core
    result.update(times_of(done.stdout), p50_us=0, p99_us=0, p999_us=0,
                  generator_faults=[f"h2load: {fault}"
                                    for fault in summary_faults(done.stdout, ask, requests)]
                  + ([f"h2load: exit {done.returncode}: {done.stderr.strip()[-200:]}"]
                     if done.returncode or done.stderr else []))
    return result


# --- idle connections: a little client of its own, because h2load closes what has nothing to do.

END_STREAM = 1
FRAMES_WITH_END = (0, 1)           # DATA, HEADERS
SETTINGS_ACK = b"\0\0\0\4\1\0\0\0\0"
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0"


def request_bytes():
    """Preface, SETTINGS and GET /bytes/128 on stream 1; :method and :scheme from the static table,
    :path and :authority as literals."""
    path, authority = b"/bytes/128", b"localhost"
    block = (b"\x82\x87\x04" + bytes([len(path)]) + path
             + b"\x01" + bytes([len(authority)]) + authority)
    return PREFACE + len(block).to_bytes(3, "big") + b"\1\5\0\0\0\1" + block


def answered(data):
    """Is stream 1 ended by the whole frames in data?"""
    at = 0
    while len(data) >= at + 9:
        size, kind, flags = int.from_bytes(data[at:at + 3], "big"), data[at + 3], data[at + 4]
        at += 9 + size
        if kind in FRAMES_WITH_END and flags & END_STREAM and len(data) >= at:
            return True
    return False


def connect(context, port):
    """One connection with one request answered on it."""
    plain = socket.create_connection(("127.0.0.1", port), 10)
    conn = context.wrap_socket(plain, server_hostname="localhost")
    if conn.selected_alpn_protocol() != "h2":
        raise BenchFault("h2 was not agreed on")
    conn.sendall(request_bytes())
    data = b""
    while not answered(data):
        more = conn.recv(65536)
        if not more:
            raise BenchFault("the connection was closed before its answer")
        data += more
    conn.sendall(SETTINGS_ACK)
    return conn


def idle_bytes(bench, proxy, connections):
    """PSS per connection, after one request on each, all of them idle."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.set_alpn_protocols(["h2"])
    held, faults = [], []
    with backend(bench, proxy, connections) as end:
        before = proxy.pss_bytes()
        try:
            for _ in range(connections):
                held.append(connect(context, proxy.tls))
        except (OSError, BenchFault) as fault:
            faults.append(f"connection {len(held) + 1}: {fault}")
        time.sleep(SETTLE_SECONDS)
        after = proxy.pss_bytes()
        for conn in held:
            conn.close()
        result = end()
    if result["errors"] and not faults:
        faults.append(result["first_error"])
    return {"value": (after - before) / connections, "faults": faults}
