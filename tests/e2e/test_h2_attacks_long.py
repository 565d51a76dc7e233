"""Shows of issue 4: each known attack on HTTP/2 for 10 s, over h2c and one of each family over
TLS, beside honest clients of both versions on the same worker. pytest -m slow;
WEIR_ATTACKS_REPORT=FILE keeps the table that is printed at the end.

An attacker of its own process (nice 10) reconnects as fast as it is let. Its uploads go to an
endpoint of their own that keeps up with weir (the sink): what honest requests wait for is weir,
and those that go to nginx without weir are the control. Quiet time and attack take turns in one
run. What passes or fails are counts and bounds: honest requests answered in full on a connection
that stays, attackers ended with their word counted, memory, weir's CPU for a connection. Latency
is a figure, with a generous guard against starving.
"""
import collections
import json
import os
import pathlib
import subprocess
import sys
import time

import pytest

from harness import h2attacks, proc, servers
from harness.h2attacks import ATTACKS, BELOW
from harness.h2fixtures import make_pair, speaks_h2  # noqa: F401
from harness.weir import eventually

pytestmark = pytest.mark.slow
TOOLS = pathlib.Path(__file__).resolve().parent / "tools"
QUIET_S, ATTACK_S, ROUNDS = 1.5, 5, 2
PAUSE_MS = 4
HONEST_CONNS = 2
STARVED_MS = 500  # p50 of honest requests; only a guard: both cores may be somebody else's
OVER_TLS = ("rapid-reset", "made-window-update-of-0", "continuation-empty", "bomb-repeats-of-4k",
            "settings", "ping", "ping-unread", "priority", "data-empty", "data-bytewise",
            "window-update", "window-0", "streams", "uploads")
EXTRA = {"timeouts": {"send": "2s", "body": "2s"}}
HONEST = "location /honest { return 200 honest; }"
ROUTES = [{"name": "uploads", "prefix": "/upload", "pool": "sink"},
          {"name": "all", "prefix": "/", "pool": "app"}]


def conf_of(sink):
    return {"process": {"workers": 1}, "routes": ROUTES,
            "pools": {"sink": {"endpoints": [sink.address]}}}


class Tool:
    """One of tools/, talked to by lines."""

    def __init__(self, name, *args):
        self.process = subprocess.Popen(
            [sys.executable, str(TOOLS / name), *map(str, args)], stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, text=True, preexec_fn=proc.die_with_parent)
        assert self.process.stdout.readline() == "ready\n", "%s did not start" % name

    def say(self, line):
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def answer(self):
        line = self.process.stdout.readline()
        assert line, "it ended with %s" % self.process.wait()
        return json.loads(line)

    def finish(self):
        """Ends it by the end of its input; what it says then."""
        self.process.stdin.close()
        rest = self.process.stdout.read()
        self.process.stdout.close()
        assert self.process.wait(60) == 0, "it ended with %s" % self.process.returncode
        return rest

    def kill(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()


@pytest.fixture
def site(work, speaks_h2):  # noqa: F811
    """(weir with nginx and the sink behind it, tools to be ended, nginx)."""
    backend, sink = servers.Nginx(work, extra=HONEST), servers.Sink(work)
    (backend.files / "big").write_bytes(bytes(1 << 20))
    backend.start()
    sink.start()
    weirs, pair = make_pair(work, backend, conf_of(sink), EXTRA)
    tools = []
    yield pair, tools, backend
    for tool in tools:
        tool.kill()
    weirs.finish()
    backend.stop()
    sink.stop()


class Phases:
    """Quiet and attack in turns: when each was, weir's CPU and memory in it."""

    def __init__(self, weir, attacker):
        self.weir, self.attacker = weir, attacker
        self.spans, self.found = [], collections.Counter()
        self.ended, self.cpu = collections.Counter(), collections.Counter()
        self.wall = collections.Counter()
        self.before = self.peak = proc.memory_kib(weir.pid, "Rss")

    def alone(self):
        """weir has done with what attackers left in its sockets"""
        return self.weir.metric("weir_downstream_connections") <= HONEST_CONNS

    def run(self, what, seconds):
        if what == "quiet":
            eventually(self.alone, guard=60)
        begin, cpu = time.monotonic(), proc.cpu_seconds(self.weir.pid)
        if what == "attack":
            self.attacker.say("go %g" % seconds)
        while time.monotonic() < begin + seconds:
            time.sleep(0.1)
            self.peak = max(self.peak, proc.memory_kib(self.weir.pid, "Rss"))
        if what == "attack":
            self.take(self.attacker.answer())
        end = time.monotonic()
        self.spans.append((what, begin, end))
        self.cpu[what] += proc.cpu_seconds(self.weir.pid) - cpu
        self.wall[what] += end - begin

    def take(self, found):
        self.ended.update(found.pop("ended"))
        self.found.update(found)

    @property
    def attack_cpu_s(self):
        """What the attack cost beyond what the honest clients do."""
        idle = self.cpu["quiet"] / self.wall["quiet"]
        return max(0.0, self.cpu["attack"] - idle * self.wall["attack"])


def quantile(values, q):
    values = sorted(values)
    return values[min(len(values) - 1, int(len(values) * q))] if values else 0.0


def latencies(honest, phases):
    """{(version, what): [ms]} of the requests that began inside a span."""
    found = collections.defaultdict(list)
    for version, begin, ms in honest:
        for what, since, until in phases.spans:
            if since <= begin < until:
                found[version, what].append(ms)
    return found


def run_attack(site, kind, name, how):
    """(figures, latencies)."""
    pair, tools, backend = site
    weir = pair.weir
    tls = (pair.tls_port, pair.authority.path) if how == "tls" else (weir.port,)
    tools.append(Tool("h2_attacker.py", kind, name, *tls))
    tools.append(Tool("h2_honest.py", weir.port, PAUSE_MS, backend.port))
    attacker, honest = tools
    time.sleep(0.3)
    phases = Phases(weir, attacker)
    for _ in range(ROUNDS):
        phases.run("quiet", QUIET_S)
        phases.run("attack", ATTACK_S)
    phases.run("quiet", QUIET_S)
    attacker.finish()
    return phases, latencies(json.loads(honest.finish()), phases)


def row_of(name, how, phases, times):
    found, opened = phases.found, max(1, phases.found["opened"])
    cpu = phases.attack_cpu_s
    row = {"attack": name, "over": how, "connections": found["opened"],
           "frames": found["frames"], "mib": round(found["sent"] / (1 << 20), 1),
           "ended": dict(phases.ended), "weir_cpu": round(cpu / phases.wall["attack"], 2),
           "ms_a_conn": round(1000 * cpu / opened, 2),
           "us_a_frame": round(1e6 * cpu / max(1, found["frames"]), 2),
           "grown_kib": phases.peak - phases.before,
           "attacker_cpu": round(found["cpu_s"] / phases.wall["attack"], 2)}
    for version in (0, 1, 2):
        for q in (50, 99):
            row["h%d_p%d" % (version, q)] = [
                round(quantile(times[version, what], q / 100), 2) for what in ("quiet", "attack")]
    return row


@pytest.fixture(scope="module")
def table(request):
    rows = []
    yield rows
    capture = request.config.pluginmanager.getplugin("capturemanager")
    with capture.global_and_fixture_disabled():
        print("\n" + "\n".join(map(line_of, rows)))
    if os.environ.get("WEIR_ATTACKS_REPORT"):
        with open(os.environ["WEIR_ATTACKS_REPORT"], "a", encoding="ascii") as out:
            out.writelines(json.dumps(row) + "\n" for row in rows)


def line_of(row):
    def pair(key):
        return "%6.2f>%7.2f" % tuple(row[key])
    return ("%-32s %-3s %6d conns %8d frames %7.1f MiB, weir %.2f cores (attacker %.2f) %7.2f ms "
            "a conn %6.2f us a frame, +%d KiB, h1 ms p50 %s p99 %s, h2 p50 %s p99 %s, "
            "without weir p50 %s, %s" % (
                row["attack"], row["over"], row["connections"], row["frames"], row["mib"],
                row["weir_cpu"], row["attacker_cpu"], row["ms_a_conn"], row["us_a_frame"],
                row["grown_kib"], pair("h1_p50"), pair("h1_p99"), pair("h2_p50"), pair("h2_p99"),
                pair("h0_p50"), row["ended"]))


def check_honest(times):
    """Both versions were served all the time (the tool fails where an answer is wrong)."""
    for version in (1, 2):
        quiet, attack = times[version, "quiet"], times[version, "attack"]
        assert len(attack) >= 10, "only %d honest requests of HTTP/%d" % (len(attack), version)
        bound = max(STARVED_MS, 50 * quantile(quiet, 0.5))
        assert quantile(attack, 0.5) < bound, "HTTP/%d is starved" % version


def ended_by_words(weir, words):
    """How many ends of these words are counted."""
    metrics = weir.metrics()
    return sum(metrics.get("weir_request_end_total", end=word) for word in words)


def check_ends(weir, attack, phases):
    """Attackers were ended as the attack's row says, and counted."""
    said = {how: count for how, count in phases.ended.items() if how.isupper()}
    allowed = {h2attacks.h2.code_name(code) for code in attack.codes} | {"NO_ERROR"}
    assert set(said) <= allowed, phases.ended
    if not attack.words:
        return
    if attack.rest:  # its streams are ended, one by one; the connection when it is idle
        eventually(lambda: ended_by_words(weir, attack.words) >= phases.found["opened"] * 50)
        return
    calm = sum(said.values())
    closed = calm + phases.ended["eof"] + phases.ended["reset"]
    assert closed, "no connection was ended: %s" % phases.ended
    assert phases.ended["left"] <= attack.connections * ROUNDS, phases.ended
    eventually(lambda: ended_by_words(weir, attack.words) >= max(1, calm))


def check_bounds(attack, phases):
    grown = phases.peak - phases.before
    assert grown < attack.grown_kib, "grew by %d KiB" % grown
    if attack.words and not attack.rest:
        each = 1000 * phases.attack_cpu_s / max(1, phases.found["opened"])
        assert each < attack.cpu_ms, "%.1f ms of CPU for each connection" % each


CASES = [(name, "h2c") for name in ATTACKS] + [(name, "tls") for name in OVER_TLS]


@pytest.mark.parametrize("name,how", CASES, ids=["-".join(case) for case in CASES])
def test_attack(site, table, name, how):
    phases, times = run_attack(site, "attack", name, how)
    table.append(row_of(name, how, phases, times))
    weir = site[0].weir
    check_honest(times)
    check_bounds(ATTACKS[name], phases)
    check_ends(weir, ATTACKS[name], phases)
    eventually(lambda: weir.metric("weir_requests_inflight") == 0)
    assert not [line for line in weir.stderr if "check failed" in line]


@pytest.mark.parametrize("name", BELOW)
def test_below_the_budgets(site, table, name):
    """What stays below each budget for ever is served like everybody; its price is a figure."""
    phases, times = run_attack(site, "below", name, "h2c")
    table.append(row_of("below: " + name, "h2c", phases, times))
    check_honest(times)
    assert set(phases.ended) <= {"left"}, phases.ended
    assert phases.peak - phases.before < BELOW[name].grown_kib
