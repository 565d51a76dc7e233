"""weir beside nginx, HAProxy and h2o: interleaved rounds, CPU per request, memory per connection.

Started by bench/compare.sh, which installs and builds what is needed. One generator, which is also
the backend (for HTTP/2 h2load beside it), spins on one core; the proxy under test has the other.
See bench/README.md for how to read it.
"""

import argparse
import fcntl
import json
import os
import resource
import shutil
import signal
import socket
import struct
import sys
import tempfile
import time
from contextlib import ExitStack

import report
import tcp
from measure import cpu_run, memory_run
from peers import Bench, BenchFault
from rows import CALIBRATION, CPU_ROWS, MEMORY_ROWS

SIOCSIFFLAGS = 0x8914
IFF_UP = 1
CONGESTION = "/proc/sys/net/ipv4/tcp_congestion_control"


def arguments():
    parser = argparse.ArgumentParser(prog="bench/compare.sh", description=__doc__.splitlines()[0])
    names = [row.name for row in CPU_ROWS + MEMORY_ROWS]
    parser.add_argument("--rows", default="", metavar="A,B", help="of " + " ".join(names))
    parser.add_argument("--rounds", type=int, default=5, help="interleaved rounds per row (5)")
    parser.add_argument("--seconds", type=float, default=1.5, help="counted seconds per run (1.5)")
    parser.add_argument("--quick", action="store_true",
                        help="3 rounds of 0.7 s: a look, no result")
    parser.add_argument("--memory", action="store_true", help="the memory rows too")
    parser.add_argument("--json", metavar="FILE", help="every run and every summary")
    parser.add_argument("--without-weir", action="store_true", help="peers and floor alone")
    parser.add_argument("--strict", action="store_true", help="exit 1 unless all is reached")
    parser.add_argument("--congestion", default=None, metavar="NAME",
                        help="TCP congestion control of the bench's own network, which it has as "
                             "root (reno); \"keep\" leaves the machine's")
    parser.add_argument("--nginx-buffers", default="128k", metavar="SIZE",
                        help="nginx's body buffers in the rows with bodies (128k)")
    parser.add_argument("--own-network", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--programs", required=True, help=argparse.SUPPRESS)
    parser.add_argument("--weir", default="", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.quick:
        args.rounds, args.seconds = 3, 0.7
    args.rows = [name for name in args.rows.split(",") if name]
    unknown = [name for name in args.rows if name not in names]
    if unknown or args.rounds < 1 or not 0.1 <= args.seconds <= 60:
        parser.error(f"no such row: {unknown[0]}" if unknown else "rounds or seconds out of range")
    return args


def chosen(rows, names):
    return [row for row in rows if not names or row.name in names]


def find_programs(args):
    programs = {"load": os.path.join(args.programs, "bench-load"),
                "floor": os.path.join(args.programs, "bench-floor")}
    path = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
    for name in report.PEERS:
        programs[name] = shutil.which(name, path=path)
    if not programs["h2o"]:
        print("h2o: not installed, its column stays empty", flush=True)
        del programs["h2o"]
    for name in {name for row in CPU_ROWS for name in row.needs}:
        found = shutil.which(name, path=tcp.postgres_path() + path)
        if found:
            programs[name] = found
    if not args.without_weir:
        programs["weir"] = args.weir
    for name, program in programs.items():
        if not program or not os.access(program, os.X_OK):
            raise BenchFault(f"{name}: no program at {program or 'any place in PATH'}")
    return programs


def cpu_row(bench, row, contenders, rounds, measure_ms):
    """All rounds of one row, the contenders started once and asked in turn."""
    runs = {name: [] for name in contenders}
    with ExitStack() as stack:
        proxies = []
        for name in contenders:
            proxy = bench.start(name, row)
            stack.callback(proxy.stop)
            proxies.append(proxy)
        for _ in range(rounds):
            for proxy in proxies:
                runs[proxy.name].append(cpu_run(bench, proxy, row, measure_ms))
    return runs


def contenders_of(row, programs, only=None):
    names = [name for name in report.COLUMNS if name in programs]
    if getattr(row, "floor", None) is None:
        names.remove("floor")
    if not (row.h2 or row.h2o) and "h2o" in names:
        names.remove("h2o")
    return [name for name in names if only is None or name in only]


def with_programs(rows, bench, record):
    """Those rows whose programs are installed; of the others it says what is missing."""
    kept = []
    for row in rows:
        missing = [name for name in row.needs if name not in bench.programs]
        if missing:
            print(f"{row.name}: left out, not installed: {' '.join(missing)}", flush=True)
            record["left_out"][row.name] = missing
        else:
            kept.append(row)
    return kept


def run_cpu_rows(bench, args, record):
    measure_ms = int(args.seconds * 1000)
    summaries = []
    for row in with_programs(chosen(CPU_ROWS, args.rows), bench, record):
        print(f"{row.title} ...", flush=True)
        runs = cpu_row(bench, row, contenders_of(row, bench.programs), args.rounds, measure_ms)
        report.print_latencies(row, runs)
        summaries.append(report.cpu_summary(row, runs))
        record["rows"][row.name] = {"runs": runs, "summary": summaries[-1]}
    return summaries


def run_memory_rows(bench, args, record):
    summaries = []
    rows = [row for row in MEMORY_ROWS if args.memory or row.name in args.rows]
    for row in chosen(rows, [name for name in args.rows if name.startswith("mem-")]):
        print(f"{row.title} ...", flush=True)
        names = contenders_of(row, bench.programs)
        runs = {name: [memory_run(bench, name, row)] for name in names}
        summaries.append(report.memory_summary(row, runs))
        record["rows"][row.name] = {"runs": runs, "summary": summaries[-1]}
    return summaries


def calibrate(bench, args, record):
    """floor over nginx at 64 connections: from the row itself, or measured for it."""
    if CALIBRATION in record["rows"]:
        runs = record["rows"][CALIBRATION]["runs"]
    elif all(name.startswith("mem-") for name in args.rows) and args.rows:
        return None
    else:
        print("calibration ...", flush=True)
        row = next(row for row in CPU_ROWS if row.name == CALIBRATION)
        runs = cpu_row(bench, row, ["nginx", "floor"], max(args.rounds, 3), 1000)
    return report.pair_ratio(runs, "floor", "nginx")


def network_up(args):
    """Brings up the loopback of the bench's own network and sets its congestion control."""
    if args.own_network:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
            fcntl.ioctl(control, SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", IFF_UP))
    name = args.congestion or ("reno" if args.own_network else "keep")
    if name != "keep":
        if not args.own_network:
            raise BenchFault("--congestion needs root: the bench then has a network of its own")
        try:
            with open(CONGESTION, "w", encoding="ascii") as setting:
                setting.write(name)
        except OSError as fault:
            raise BenchFault(f"--congestion {name}: {fault.strerror}") from fault
    with open(CONGESTION, encoding="ascii") as setting:
        return setting.read().strip()


def compare(args, directory):
    os.chmod(directory, 0o711)  # the database of a row lies in it and is another user's
    resource.setrlimit(resource.RLIMIT_NOFILE,
                       (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        raise BenchFault("two cores are needed: one for the proxy, one for the generator")
    bench = Bench(directory, find_programs(args), cores[:2], args.nginx_buffers)
    bench.make_certificate()
    record = {"started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "rounds": args.rounds,
              "seconds": args.seconds, "kernel": os.uname().release,
              "congestion": network_up(args), "nginx_buffers": args.nginx_buffers, "rows": {},
              "left_out": {}}
    print(f"{args.rounds} rounds of {args.seconds} s, proxy on core {cores[0]}, generator on core "
          f"{cores[1]}, congestion control {record['congestion']}, load "
          f"{os.getloadavg()[0]:.1f} before", flush=True)
    summaries = run_cpu_rows(bench, args, record) + run_memory_rows(bench, args, record)
    record["calibration"] = calibrate(bench, args, record)
    void = report.print_table(summaries, record["calibration"])
    if args.json:
        with open(args.json, "w", encoding="utf-8") as out:
            json.dump(record, out, indent=1)
    verdicts = [report.verdict(summary, void) for summary in summaries]
    if "FAULT" in verdicts:
        return 1
    reached = not record["left_out"] and all(word == "reached" for word in verdicts)
    return 1 if args.strict and not reached else 0


def leave(number, _frame):
    raise SystemExit(128 + number)


def main():
    args = arguments()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, leave)
    with tempfile.TemporaryDirectory(prefix="weir-bench-") as directory:
        try:
            return compare(args, directory)
        except BenchFault as fault:
            print(f"bench/compare.sh: {fault}", file=sys.stderr)
            return 1


if __name__ == "__main__":
    sys.exit(main())
