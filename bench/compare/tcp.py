"""The rows of real servers behind TCP: redis-server and redis-benchmark, postgres and pgbench.

Server and generator are on the generator's core, all as batch processes, so waking one interrupts
nobody. The CPU clocks of the proxy are read here, at both ends of the generator's run: connections
are few and are part of it.
"""

import glob
import os
import re
import resource
import signal
import socket
import subprocess
import time
from contextlib import contextmanager

from h2 import generator_process
from peers import BenchFault, descendants, die_with_parent

RUN_SECONDS_MAX = 120
START_SECONDS = 10
END_SECONDS = 10
NOBODY = 65534
TICK_NS = 1_000_000_000 // os.sysconf("SC_CLK_TCK")
DEBIAN_POSTGRES = "/usr/lib/postgresql/*/bin"


def postgres_path():
    """Where Debian has PostgreSQL's own programs, the newest version first, for a PATH."""
    found = sorted(glob.glob(DEBIAN_POSTGRES), key=lambda path: float(path.split("/")[4]))
    return "".join(path + ":" for path in reversed(found))


def cpu_ns(pid):
    """User plus system time of a process, its threads included, in ns."""
    clock = (~pid << 3) | 2  # CPUCLOCK_SCHED of the process (clock_getcpuclockid)
    return time.clock_gettime_ns(clock)


def server_ns(pid):
    """That of a server and of its children that have ended, in ns."""
    with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as stat:
        fields = stat.read().rsplit(")", 1)[1].split()
    return cpu_ns(pid) + (int(fields[13]) + int(fields[14])) * TICK_NS


def children_ns():
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return int((usage.ru_utime + usage.ru_stime) * 1e9)


def until(condition, seconds):
    """Waits for a condition; whether it came."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def run_counted(bench, proxy, server, command, env=None):
    """The generator's run and what it cost; None when the proxy died."""
    family = descendants(server)
    began, cpu, own = time.monotonic(), sum(map(cpu_ns, proxy.pids)), children_ns()
    served = server_ns(server)
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=env,
                              timeout=RUN_SECONDS_MAX, stdin=subprocess.DEVNULL,
                              preexec_fn=lambda: generator_process(bench.load_core))
    except subprocess.TimeoutExpired as fault:
        raise BenchFault(f"{command[0]} against {proxy.name} hangs") from fault
    if proxy.process.poll() is not None:
        return None
    seconds = time.monotonic() - began
    cpu = sum(map(cpu_ns, proxy.pids)) - cpu
    own = children_ns() - own
    until(lambda: len(descendants(server)) <= len(family), END_SECONDS)
    own += server_ns(server) - served
    return done, {"seconds": seconds, "cpu_ns": cpu, "self_ns": own}


def figures(result, requests, faults, times):
    """The result with what a generator's summary says."""
    result.update(requests=requests, errors=0, backend_errors=0, first_error="", body_bytes=0,
                  handshakes=0, resumed=0, generator_faults=faults, **times)
    return result


# --- Redis.

@contextmanager
def redis_server(bench):
    """A Redis without persistence at the backend's port."""
    command = [bench.programs["redis-server"], "--port", str(bench.backend), "--bind",
               "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", bench.dir]

    def ready():
        try:
            socket.create_connection(("127.0.0.1", bench.backend), 1).close()
            return True
        except OSError:
            return redis.poll() is not None

    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                          stderr=subprocess.DEVNULL,
                          preexec_fn=lambda: generator_process(bench.load_core)) as redis:
        try:
            if not until(ready, START_SECONDS) or redis.poll() is not None:
                raise BenchFault("redis-server did not start")
            yield redis.pid
        finally:
            redis.terminate()


def redis_run(bench, proxy, ask, measure_ms):
    """One run: GETs of a key with 128 bytes, each connection one at a time."""
    requests = max(ask.requests * measure_ms // 1000, ask.connections)
    command = [bench.programs["redis-benchmark"], "-p", str(proxy.plain), "-c",
               str(ask.connections), "-n", str(requests), "-d", "128", "-t", "get", "--precision",
               "3"]
    with redis_server(bench) as server:
        run = run_counted(bench, proxy, server, command)
    return run and redis_figures(*run, requests)


def redis_figures(done, result, requests):
    """With what redis-benchmark says of the run, and whether it is a result."""
    text = done.stdout.replace("\r", "\n")
    finished = re.search(r"^ +(\d+) requests completed in", text, re.M)
    rate = re.search(r"throughput summary: ([0-9.]+) requests per second", text)
    head = re.search(r"^ +avg +min +p50 +p95 +p99 +max *\n(.*)$", text, re.M)
    times = [float(word) * 1000 for word in head[1].split()] if head else [0.0] * 6
    good = finished and int(finished[1]) == requests and not done.stderr and done.returncode == 0
    faults = [] if good else [f"redis-benchmark: {(done.stderr or text).strip()[-200:]}"]
    return figures(result, requests, faults,
                   {"p50_us": times[2], "p99_us": times[4], "p999_us": times[5],
                    "rps": float(rate[1]) if rate else 0.0})


# --- PostgreSQL.

# TCP alone, nothing durable, nothing in the background that would share the core.
SETTINGS = ["-F", "-h", "127.0.0.1", "-c", "unix_socket_directories=", "-c", "autovacuum=off",
            "-c", "full_page_writes=off", "-c", "max_connections=100", "-c", "jit=off"]


def postgres_env():
    """No settings of whoever runs the bench; no question of TLS or Kerberos at the begin."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
    return env | {"PGSSLMODE": "disable", "PGGSSENCMODE": "disable", "PGUSER": "bench",
                  "PGHOST": "127.0.0.1", "PGDATABASE": "postgres", "PGCONNECT_TIMEOUT": "10"}


def postgres_process(core):
    """In the child: PostgreSQL refuses to be root."""
    generator_process(core)
    if os.geteuid() == 0:
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)
        die_with_parent()  # a change of user clears it


def pg_call(bench, name, args):
    """One of PostgreSQL's programs to its end; what it said when it failed is a fault."""
    done = subprocess.run([bench.programs[name]] + args, capture_output=True, text=True,
                          check=False, timeout=RUN_SECONDS_MAX, stdin=subprocess.DEVNULL,
                          cwd=bench.dir, env=postgres_env(),
                          preexec_fn=lambda: postgres_process(bench.load_core))
    if done.returncode:
        raise BenchFault(f"{name}: {(done.stderr or done.stdout).strip()[-300:]}")


@contextmanager
def postgres_server(bench):
    """A PostgreSQL with pgbench's tables (scale 1) at the backend's port. The first one of a bench
    makes them."""
    data, fresh = os.path.join(bench.dir, "postgres"), False
    if not os.path.exists(data):
        os.mkdir(data, 0o700)
        if os.geteuid() == 0:
            os.chown(data, NOBODY, NOBODY)
        pg_call(bench, "initdb", ["-D", data, "-A", "trust", "-U", "bench", "-N", "--no-locale"])
        fresh = True
    command = [bench.programs["postgres"], "-D", data, "-p", str(bench.backend)] + SETTINGS
    log = os.path.join(bench.dir, "postgres.log")

    def ready():
        asked = subprocess.run([bench.programs["pg_isready"], "-q", "-p", str(bench.backend)],
                               check=False, env=postgres_env(), timeout=RUN_SECONDS_MAX)
        return asked.returncode == 0 or postgres.poll() is not None

    with open(log, "ab") as out:
        postgres = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out,
                                    cwd=data, env=postgres_env(),
                                    preexec_fn=lambda: postgres_process(bench.load_core))
    try:
        if not until(ready, START_SECONDS) or postgres.poll() is not None:
            with open(log, encoding="utf-8", errors="replace") as said:
                raise BenchFault(f"postgres did not start: {said.read()[-300:].strip()}")
        if fresh:
            pg_call(bench, "pgbench", ["-i", "-q", "-s", "1", "-p", str(bench.backend)])
        yield postgres.pid
    finally:
        postgres_end(postgres)


def postgres_end(postgres):
    """Fast shutdown; at once when that takes too long. Its processes end with it."""
    for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGKILL):
        postgres.send_signal(number)
        try:
            postgres.wait(END_SECONDS)
            return
        except subprocess.TimeoutExpired:
            pass


def pgbench_run(bench, proxy, ask, measure_ms):
    """One run of the builtin script "select only": one row by its key, each connection one at a
    time."""
    each = max(ask.transactions * measure_ms // 1000 // ask.connections, 1)
    command = [bench.programs["pgbench"], "-n", "-S", "-M", ask.mode, "-c", str(ask.connections),
               "-j", "1", "-t", str(each), "-p", str(proxy.plain)]
    with postgres_server(bench) as server:
        run = run_counted(bench, proxy, server, command, postgres_env())
    return run and pgbench_figures(*run, each * ask.connections)


def pgbench_figures(done, result, requests):
    """With what pgbench says of the run, and whether it is a result."""
    text = done.stdout
    rate = re.search(r"^tps = ([0-9.]+) ", text, re.M)
    mean = re.search(r"^latency average = ([0-9.]+) ms", text, re.M)
    good = (f"transactions actually processed: {requests}/{requests}\n" in text
            and "number of failed transactions: 0 " in text and done.returncode == 0)
    faults = [] if good else [f"pgbench: {(done.stderr or text).strip()[-200:]}"]
    return figures(result, requests, faults,
                   {"p50_us": 0, "p99_us": 0, "p999_us": 0, "max_us": 0,
                    "mean_us": float(mean[1]) * 1000 if mean else 0.0,
                    "rps": float(rate[1]) if rate else 0.0})
