"""Runs bench-load (or h2.py) against one proxy and reads its figures. All bounded in time."""

import json
import subprocess
import threading
import time

import h2
import tcp
from peers import BenchFault, die_with_parent, descendants

GIB = 1 << 30
RUN_SECONDS_MAX = 180
SETTLE_SECONDS = 2.0
ACTIVE_MS = 3000
AGREED = "TLSv1.3 TLS_AES_128_GCM_SHA256 X25519 EC"  # bench-load's words for what it offers


def load_command(bench, proxy, row_args, tls, timing):
    warmup_ms, measure_ms = timing
    return [bench.programs["load"], "--proxy", str(proxy.tls if tls else proxy.plain),
            "--backend", str(bench.backend), "--core", str(bench.load_core),
            "--watch", ",".join(str(pid) for pid in proxy.pids),
            "--warmup-ms", str(warmup_ms), "--measure-ms", str(measure_ms)] + row_args


def last_line_json(name, text):
    lines = text.strip().splitlines()
    if not lines:
        raise BenchFault(f"bench-load said nothing about {name}")
    return json.loads(lines[-1])


def judge(row, proxy, result):
    """Adds to result["faults"] what makes the run no result."""
    faults = result.pop("generator_faults", [])
    if result["errors"] or result["backend_errors"]:
        faults.append(f"{result['errors']} errors, first: {result['first_error']}")
    if result["requests"] == 0:
        faults.append("no requests")
    if descendants(proxy.process.pid) != proxy.pids:
        faults.append("its processes changed during the run")
    if row.tls and not row.h2 and result.get("tls") != AGREED:
        faults.append(f"TLS is {result.get('tls')}, not {AGREED}")
    if row.resumed is not None and result["handshakes"]:
        share = result["resumed"] / result["handshakes"]
        if abs(share - row.resumed) > 0.01:
            faults.append(f"{share:.0%} of the handshakes were resumed, wanted {row.resumed:.0%}")
    result["faults"] = faults


def dead_run(proxy):
    """Stands for a run against a proxy that is no longer there."""
    with open(proxy.log, encoding="utf-8", errors="replace") as log:
        why = " ".join(log.read()[-300:].split())
    return {"value": float("inf"), "requests": 0, "seconds": 0, "self_ns": 0, "p50_us": 0,
            "p99_us": 0, "p999_us": 0, "faults": [f"ended ({proxy.process.returncode}): {why}"]}


def cpu_run(bench, proxy, row, measure_ms):
    """One run of a CPU row: bench-load's own figures plus `value` in the row's unit."""
    if proxy.process.poll() is not None:
        return dead_run(proxy)
    if row.h2:
        result = h2.run(bench, proxy, row.h2, measure_ms)
    elif row.redis:
        result = tcp.redis_run(bench, proxy, row.redis, measure_ms)
    elif row.pgbench:
        result = tcp.pgbench_run(bench, proxy, row.pgbench, measure_ms)
    else:
        result = load_run(bench, proxy, row, measure_ms)
    if result is None or proxy.process.poll() is not None:
        return dead_run(proxy)
    judge(row, proxy, result)
    if row.unit == "us":
        result["value"] = result["cpu_ns"] / 1e3 / max(result["requests"], 1)
    else:
        result["value"] = result["cpu_ns"] / 1e9 / max(result["body_bytes"], 1) * GIB
    return result


def load_run(bench, proxy, row, measure_ms):
    """bench-load as generator and backend: its figures, None when the proxy died."""
    command = load_command(bench, proxy, row.load, row.tls, (row.warmup_ms, measure_ms))
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False,
                              timeout=RUN_SECONDS_MAX, stdin=subprocess.DEVNULL,
                              preexec_fn=die_with_parent)
    except subprocess.TimeoutExpired as fault:
        raise BenchFault(f"{row.name}: bench-load against {proxy.name} hangs") from fault
    if proxy.process.poll() is not None:
        return None
    if done.returncode not in (0, 1) or done.stderr:
        raise BenchFault(f"{row.name}, {proxy.name}: {done.stderr.strip() or done.returncode}")
    return last_line_json(proxy.name, done.stdout)


def idle_bytes(bench, proxy, row):
    """PSS per connection, after one request on each, all of them idle."""
    before = proxy.pss_bytes()
    args = ["--connections", str(row.connections), "--hold"] + (["--tls"] if row.tls else [])
    command = load_command(bench, proxy, args, row.tls, (0, 0))
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                          preexec_fn=die_with_parent) as load:
        watchdog = threading.Timer(RUN_SECONDS_MAX, load.kill)
        watchdog.start()
        try:
            first = json.loads(load.stdout.readline() or "{}")
            time.sleep(SETTLE_SECONDS if "held" in first else 0)
            after = proxy.pss_bytes()
            rest, _ = load.communicate()
        finally:
            watchdog.cancel()
    result = first if "held" not in first else last_line_json(proxy.name, rest)
    faults = [] if not result.get("errors") else [f"errors: {result['first_error']}"]
    return {"value": (after - before) / row.connections, "faults": faults}


def active_bytes(bench, proxy, row):
    """The highest PSS seen under load, per connection."""
    before = proxy.pss_bytes()
    args = ["--connections", str(row.connections), "--opening", "128"]
    command = load_command(bench, proxy, args, row.tls, (0, ACTIVE_MS))
    highest = before
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True,
                          preexec_fn=die_with_parent) as load:
        deadline = time.monotonic() + RUN_SECONDS_MAX
        while load.poll() is None:
            highest = max(highest, proxy.pss_bytes())
            time.sleep(0.1)
            if time.monotonic() > deadline:
                load.kill()
        result = last_line_json(proxy.name, load.stdout.read())
    faults = [] if not result["errors"] else [f"errors: {result['first_error']}"]
    return {"value": (highest - before) / row.connections, "faults": faults}


def memory_run(bench, name, row):
    """One memory row of one proxy, in a fresh process."""
    proxy = bench.start(name, row, workers=2 if row.kind == "start" else 1)
    try:
        if row.kind == "start":
            time.sleep(SETTLE_SECONDS)
            return {"value": float(proxy.pss_bytes()), "faults": []}
        if row.h2:
            return h2.idle_bytes(bench, proxy, row.connections)
        if row.kind == "idle":
            return idle_bytes(bench, proxy, row)
        return active_bytes(bench, proxy, row)
    finally:
        proxy.stop()
