"""Runs weir before four backends of modelled capacity under open-loop load while faults come and
go, and gathers all that was logged (test_brownout.py, test_metastable.py; what it means is said by
brownout_oracle.py). The configuration is that of packaging/docs/resilience.md."""
import pathlib
import re
import signal
import subprocess
import sys
import threading
import time

import pytest

from . import confgen, proc
from .brownout_oracle import Attempt, Fault, Record, Request, Run, Settings
from .dns import Dns
from .weir import ROOT, run as weir_command

TOOLS = pathlib.Path(__file__).resolve().parents[1] / "tools"
PAGE = ROOT / "packaging/docs/resilience.md"
SLOTS, MEAN_MS = 8, 120
COUNT = 4
LOAD = 0.7  # of capacity
SLOW = 20  # times
PATIENCE_S = 15
SEED = 20261121
HALF = SLOTS // 2
POLL_S = 0.25


class Backend:
    """One process of tools/brownout_backend.py on a port that it keeps."""

    def __init__(self, directory, number, slots=SLOTS, mean_ms=MEAN_MS):
        self.number, self.port = number, proc.free_port()
        self.address = "127.0.0.1:%d" % self.port
        self.log = directory / ("backend%d.log" % number)
        self.arguments = [str(slots), str(mean_ms), str(SEED + number)]
        self.process = None

    def start(self):
        self.process = subprocess.Popen(
            [sys.executable, str(TOOLS / "brownout_backend.py"), str(self.port), str(self.log),
             *self.arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            preexec_fn=proc.die_with_parent)
        assert self.process.stdout.readline() == "ready\n"

    def tell(self, command):
        self.process.stdin.write(command + "\n")
        self.process.stdin.flush()
        assert self.process.stdout.readline() == "done\n", command

    def kill(self):
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()

    def freeze(self):
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self):
        self.process.send_signal(signal.SIGCONT)

    def stop(self):
        if self.process and self.process.poll() is None:
            self.kill()


# What can befall an endpoint: (begin, end, what an ideal proxy has left of it). begin and end are
# called with the site and the backend. An endpoint whose answers cannot be relied on counts for
# nothing.
KINDS = {
    "slow": (lambda _, b: b.tell("slow %d" % SLOW), lambda _, b: b.tell("well"), 1 / SLOW),
    "failing": (lambda _, b: b.tell("fail 0.5"), lambda _, b: b.tell("well"), 0),
    "gone": (lambda _, b: b.kill(), lambda _, b: b.start(), 0),
    "frozen": (lambda _, b: b.freeze(), lambda _, b: b.thaw(), 0),
    "unresolved": (lambda site, _: site.dns.behave("*", "servfail"),
                   lambda site, _: site.dns.behave("*"), 1),  # the last answer is as good
    "half": (lambda _, b: b.tell("slots %d" % HALF), lambda _, b: b.tell("well"), 0.5),
}


def page_config():
    """The configuration of the page."""
    lines = PAGE.read_text().splitlines()
    first = next(i for i, line in enumerate(lines) if line.startswith("    listeners = "))
    block = []
    for line in lines[first:]:
        if line and not line.startswith("    "):
            break
        block.append(line[4:])
    return "\n".join(block) + "\n"


def flatten_dump(text):
    """{"pools.app.retry.budget": "20%"} of `weir dump --all`."""
    flat, path = {}, []
    for line in text.splitlines():
        line = line.split("  # ")[0].strip()
        if line.endswith(("= {", "= (")) or line == "{":
            path.append(line.split(" ")[0])
        elif line.startswith(("}", ")")):
            path = path[:-1]
        else:
            match = re.fullmatch(r'(\w+) = "?([^"]*?)"?;', line)
            if match:
                flat[".".join([*path, match[1]])] = match[2]
    return flat


def seconds(text):
    number, unit = re.fullmatch(r"(\d+)(ms|s|m)", text).groups()
    return int(number) * {"ms": 0.001, "s": 1, "m": 60}[unit]


def until_found_out(flat):
    """How long checks need for an endpoint that does not answer, at most."""
    wait, fast, timeout = (seconds(flat["pools.app.health." + key])
                           for key in ("interval", "fast_interval", "timeout"))
    slack = 1 + int(flat["pools.app.health.jitter"][:-1]) / 100
    more = int(flat["pools.app.health.unhealthy"]) - 1
    return wait * slack + more * max(fast * slack, timeout) + timeout


def settings_of(flat):
    pool = {key[len("pools.app."):]: value for key, value in flat.items()}
    return Settings(
        endpoints=COUNT, slots=SLOTS, mean_s=MEAN_MS / 1000,
        workers=int(flat["process.workers"]), attempts=int(pool["retry.attempts"]),
        budget=int(pool["retry.budget"][:-1]) / 100, budget_min=int(pool["retry.budget_min"]),
        queue_s=seconds(pool["connections.queue_timeout"]),
        consecutive_5xx=int(pool["outlier.consecutive_5xx"]),
        failure_rate=int(pool["outlier.failure_rate"][:-1]),
        window_s=seconds(pool["outlier.window"]), min_requests=int(pool["outlier.min_requests"]),
        eject_s=seconds(pool["outlier.eject"]), health_s=until_found_out(flat) + 0.5)


class Site:
    """Backends, weir and load; a test drives faults by apply(), waits, and takes run()."""

    def __init__(self, make_weir, work, *, short=False, resends=0):
        self.work, self.faults, self.samples, self.dns = work, [], [], Dns()
        self.backends = [Backend(work, i) for i in range(COUNT)]
        for each in self.backends:
            each.start()
        self.weir = make_weir(start=False)
        self.weir.write(self.config(short))
        dump = weir_command("dump", "--all", self.weir.path)
        assert dump.returncode == 0, dump.stderr
        self.settings = settings_of(flatten_dump(dump.stdout))
        self.weir.start()
        self.rate = LOAD * COUNT * SLOTS / (MEAN_MS / 1000)
        self.load_log = work / "load.log"
        self.load = subprocess.Popen(
            [sys.executable, str(TOOLS / "brownout_load.py"), str(self.weir.port),
             str(self.load_log), str(self.rate), str(SEED), str(PATIENCE_S), str(resends)],
            stdin=subprocess.PIPE, preexec_fn=proc.die_with_parent)
        self.polling = True
        self.poller = threading.Thread(target=self.poll, daemon=True)
        self.poller.start()

    def config(self, short):
        text = page_config()
        addresses = re.findall(r'"([\w.-]+:8080)"', re.search(r"endpoints = .*\]", text)[0])
        assert len(addresses) == COUNT, addresses
        for address, backend in zip(addresses, self.backends):
            host = address.split(":")[0]
            if not host[0].isdigit():
                self.dns.set(host, a=["127.0.0.1"], ttl=1)
                backend.address = "%s:%d" % (host, backend.port)
            text = text.replace(address, backend.address)
        text, found = re.subn(r"discover\s*= {", 'discover = { servers = "%s"; min_ttl = "500ms";'
                              % self.dns.address, text)
        assert found == 1  # no question may go to the system's servers
        text = re.sub(r"listeners = .*\n", "", text)
        if short:  # so that an ejection is over before the next fault
            text = re.sub(r'eject = "\d+s"', 'eject = "2s"', text)
        base = self.weir.base()
        return confgen.body(base) + text

    # ---- driving ----

    def wait(self, span_s):
        """Lets time pass, of which each process of the test must see the end alive."""
        time.sleep(span_s)
        assert self.weir.process.poll() is None, self.weir.errors
        assert self.load.poll() is None, "the load generator ended"

    def fault(self, kind, endpoint, span_s):
        """One fault for a time; endpoint None: all of them."""
        begin, end, left = KINDS[kind]
        hit = self.backends if endpoint is None else [self.backends[endpoint]]
        fault = Fault(kind, endpoint, time.monotonic(), float("inf"), left)
        self.faults.append(fault)
        for each in hit:
            begin(self, each)
        self.wait(span_s)
        for each in hit:
            end(self, each)
        fault.end = time.monotonic()
        return fault

    def poll(self):
        """Samples of the counters, for the budget: (time, requests, retries)."""
        while self.polling:
            try:
                now = self.weir.metrics()
            except OSError:
                break
            self.samples.append((time.monotonic(), now.get("weir_pool_requests_total"),
                                 now.get("weir_pool_retries_total")))
            time.sleep(POLL_S)

    def finish(self):
        """Ends the load, waits for what is under way; gives the Run."""
        self.load.stdin.close()
        assert self.load.wait(60) == 0
        self.polling = False
        self.poller.join()
        self.weir.settle()
        self.final = self.weir.metrics()
        requests, stalls = self.read_load()
        attempts = []
        for each in self.backends:
            attempts += self.read_backend(each, stalls)
        records = [self.record(row) for row in self.weir.all_lines() if "trace_id" in row]
        return Run(self.settings, self.faults, requests, records, attempts, stalls)

    def stop(self):
        self.polling = False
        self.load.kill()
        self.load.wait()
        self.load.stdin.close()
        for each in self.backends:
            each.stop()
        self.dns.stop()

    # ---- reading what was logged ----

    def read_load(self):
        requests, stalls = [], []
        for line in self.load_log.read_text().splitlines():
            kind, *words = line.split(" ")
            if kind == "s":
                stalls.append((float(words[0]), float(words[1])))
                continue
            trace, task, method, begin, end, status, error = words
            requests.append(Request(trace, task, method, float(begin), float(end), int(status),
                                    error))
        return requests, stalls

    def read_backend(self, backend, stalls):
        found = {}
        for line in backend.log.read_text().splitlines():
            kind, when, *words = line.split(" ")
            if kind == "b":
                number, trace, method = words
                found[number] = Attempt(trace, method, backend.number, float(when))
            elif kind == "e":
                ended = found[words[0]]
                ended.end, ended.outcome, ended.work_s = float(when), words[1], float(words[2])
            elif not any(f.kind == "frozen" and f.at(backend.number, float(when) - 1,
                                                     float(when) + 1) for f in self.faults):
                stalls.append((float(when), float(words[0])))
        return list(found.values())

    def number_of(self, address):
        return next((b.number for b in self.backends if b.address == address), None)

    def record(self, row):
        tries = []
        for part in filter(None, row.get("weir.tries", "").split(", ")):
            address, how, *_code = part.split(" ")
            tries.append((self.number_of(address), how))
        return Record(row["trace_id"], row["weir.end"], row["http.response.status_code"],
                      self.number_of(row.get("weir.endpoint")), row.get("weir.attempts", 0), tries,
                      row.get("weir.duration_ms.queue", 0) / 1000)

    # ---- what the counters say of the budget ----

    def exceeded_by_counters(self):
        """Windows of samples with more retries than the budget allows: the counters count exactly
        what the budget was asked for."""
        s, found = self.settings, []
        floor = s.budget_min * 8 * 1.024 + s.workers - 1
        for i, (now, _, retries) in enumerate(self.samples):
            for then, _, before in self.samples[:i]:
                if now - then > 7 * 1.024 - 2 * POLL_S:
                    continue
                asked = [r for t, r, _ in self.samples if t <= now - 8 * 1.024 - 2 * POLL_S]
                requests = self.samples[i][1] - (asked[-1] if asked else 0)
                if retries - before > requests * s.budget + floor:
                    found.append((now, retries - before, requests))
                break
        return found


@pytest.fixture
def site(weir, work):
    """site(): a Site that ends with the test."""
    made = []

    def make(**kwargs):
        made.append(Site(weir, work, **kwargs))
        return made[-1]

    yield make
    for each in made:
        each.stop()
