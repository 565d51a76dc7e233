"""Health of a thousand endpoints: checks are spread and bounded, those that hang hold up nobody,
state survives reloads; and passive health, which looks at all of a pool."""
import collections
import json
import os
import resource
import threading
import time

import pytest

from harness import proc, wire
from harness.backend import raw
from harness.farm import Farm
from harness.weir import eventually, run

MANY = 1000
ROUTES = [{"name": "all", "prefix": "/", "pool": "app"}]
HEALTH = {"path": "/healthz", "interval": "2s", "fast_interval": "1s", "timeout": "1s",
          "healthy": 2, "unhealthy": 3}


@pytest.fixture
def farm():
    made = []

    def make(*args, **kwargs):
        made.append(Farm(*args, **kwargs))
        return made[-1]
    yield make
    for each in made:
        each.stop()


def conf(farm, health=None, **pool):
    return {"pools": {"app": {"endpoints": farm.addresses, "health": {**HEALTH, **(health or {})},
                              **pool}}, "routes": ROUTES}


def up(proxy):
    return proxy.metric("weir_endpoint_up", pool="app")


def busiest(times, window):
    """The most events within any window of so many seconds."""
    most, first = 0, 0
    for last, at in enumerate(times):
        while times[first] < at - window:
            first += 1
        most = max(most, last - first + 1)
    return most


def test_a_thousand_endpoints(weir, farm):
    """All are found up; the first checks are spread, and later ones more so."""
    many = farm(MANY)
    proxy = weir(conf(many), start=True)
    eventually(lambda: up(proxy) == MANY)
    first = sorted(each[0] for each in many.times)
    assert first[-1] - first[0] > 0.8, "first checks came within %.3f s" % (first[-1] - first[0])
    # 128 may have waited for the farm itself, 16 start in 4 ms.
    assert busiest(first, 0.02) <= 256, busiest(first, 0.02)
    assert many.most_held <= 128 + 64  # at once; and what the farm has not dropped yet
    eventually(lambda: many.checks() > 3 * MANY)
    assert up(proxy) == MANY and proxy.metric("weir_health_changes_total", to="down") == 0
    metrics = proxy.metrics()
    assert metrics.get("weir_health_endpoints") == MANY
    assert metrics.get("weir_health_checks_total", result="pass") >= 2 * MANY


def test_a_thousand_after_a_reload(weir, farm):
    """An unchanged check is not repeated; a changed one neither hits all endpoints at once."""
    many = farm(MANY)
    proxy = weir(conf(many, {"interval": "1h", "fast_interval": "1h"}))
    eventually(lambda: up(proxy) == MANY)
    assert many.checks() == MANY
    proxy.change(pools={"app": {"timeouts": {"connect": "1s"}}})
    proxy.reload()
    assert many.checks() == MANY and up(proxy) == MANY
    before = time.monotonic()
    proxy.change(pools={"app": {"health": {"interval": "2s", "fast_interval": "2s"}}})
    proxy.reload()
    eventually(lambda: many.checks() >= 2 * MANY)
    again = sorted(at for each in many.times for at in each if at > before)[:MANY]
    assert busiest(again, 0.02) <= 256, busiest(again, 0.02)
    assert again[-1] - again[0] > 0.8


def test_half_of_a_thousand_go(weir, farm):
    many = farm(MANY)
    proxy = weir(conf(many, {"interval": "1s", "fast_interval": "500ms"}))
    eventually(lambda: up(proxy) == MANY)
    for place in range(0, MANY, 2):
        many.mode[place] = 503
    eventually(lambda: up(proxy) == MANY // 2, guard=60)
    before = list(many.served)
    for number in range(100):
        assert proxy.get("/%d" % number).status == 200
    assert all(many.served[place] == before[place] for place in range(0, MANY, 2))
    assert proxy.metric("weir_health_changes_total", to="down") == MANY // 2


def test_hanging_checks_delay_nothing(weir, farm, new_backend):
    """More endpoints hang, for an hour, than are checked at once: reload, admin socket, status
    port and drain do not wait for them; each would wait longer than any guard."""
    many, good = farm(300), new_backend()
    good.on("/healthz", raw(wire.response_bytes()))
    many.mode = ["hang"] * 300
    pools = {"stuck": {"endpoints": many.addresses,
                       "health": {**HEALTH, "timeout": "1h", "interval": "1h",
                                  "fast_interval": "1h"}},
             "app": {"endpoints": [good.address]}}
    proxy = weir({"pools": pools, "routes": ROUTES + [{"path": "/stuck", "pool": "stuck"}]})
    eventually(lambda: proxy.metric("weir_health_checks_running") == 128)
    admin = "unix:%s" % proxy.admin
    for turn in range(3):
        proxy.change(pools={"app": {"timeouts": {"connect": "%ds" % (turn + 1)}}})
        result = run("reload", "--admin", admin)
        assert result.returncode == 0, result
        told = json.loads(run("status", "--json", "--admin", admin).stdout)
        assert told["process"]["state"] == "running"
        assert proxy.get("/%d" % turn).status == 200
    assert proxy.metric("weir_health_checks_running") == 128  # they still hang
    assert proxy.get("/stuck").status == 200  # unknown, and no other: it gets traffic
    proxy.change(pools={"stuck": None}, routes=ROUTES)
    proxy.reload()
    eventually(lambda: proxy.metric("weir_health_checks_running") == 0)
    assert run("drain", "--admin", admin).returncode == 0
    assert proxy.process.wait(30) == 0


def test_hanging_checks_and_others(weir, farm):
    """Endpoints that hang take their turns, but all others get theirs: they are found down, and
    the others stay up."""
    many = farm(400)
    many.mode = ["hang"] * 200 + [200] * 200
    proxy = weir(conf(many, {"timeout": "2s", "interval": "1s", "fast_interval": "500ms"}))
    eventually(lambda: up(proxy) == 200 and
               proxy.metric("weir_health_changes_total", to="down") == 200)
    seen = [len(each) for each in many.times[200:]]
    eventually(lambda: all(len(each) >= count + 3 for each, count in zip(many.times[200:], seen)))
    assert up(proxy) == 200 and proxy.metric("weir_health_changes_total", to="down") == 200


def test_out_of_descriptors_is_not_the_endpoints_fault(weir, new_backend):
    """A check that weir itself cannot make changes nothing."""
    backend = new_backend()
    backend.on("/healthz", raw(wire.response_bytes()))
    proxy = weir({"pools": {"app": {"health": {**HEALTH, "interval": "50ms",
                                               "fast_interval": "50ms"}}}}, backend)
    eventually(lambda: up(proxy) == 1)
    limit = resource.prlimit(proxy.pid, resource.RLIMIT_NOFILE)
    conn = proxy.client(proxy.status)  # open before there are no more
    conn.get("/-/live", host="x")
    lowest = limit[0]
    try:
        def skipped():
            """a check found no descriptor: the limit sinks to the first that is free between two
            checks, each of which has one for a moment"""
            nonlocal lowest
            used = {int(fd) for fd in os.listdir("/proc/%d/fd" % proxy.pid)}
            lowest = min(lowest, next(fd for fd in range(1000) if fd not in used))
            resource.prlimit(proxy.pid, resource.RLIMIT_NOFILE, (lowest, limit[1]))
            text = conn.get("/metrics", host="x").body.decode()
            return [line for line in text.splitlines() if 'result="skipped"' in line
                    and not line.endswith(" 0")]
        eventually(skipped)
    finally:
        resource.prlimit(proxy.pid, resource.RLIMIT_NOFILE, limit)
    assert up(proxy) == 1
    assert proxy.metric("weir_health_changes_total", to="down") == 0


# ---- passive health that compares endpoints ----


class Sometimes:
    """Answers 500 to a share of requests, in turn."""

    def __init__(self, percent):
        self.percent, self.sum, self.lock = percent, 0, threading.Lock()

    def __call__(self, _conn, _request):
        with self.lock:
            self.sum += self.percent
            bad = self.sum >= 100
            self.sum -= 100 if bad else 0
        return wire.response_bytes(500 if bad else 200)


def outlier(**settings):
    return {"pools": {"app": {"balance": "round_robin", "outlier": {
        "consecutive_failures": 0, "eject": "1h", **settings}}}, "routes": ROUTES}


def load(proxy, until, most=20000):
    conn = proxy.client()
    statuses = collections.Counter()
    for number in range(most):
        statuses[conn.get("/%d" % number).status] += 1
        if number % 50 == 0 and until():
            return statuses
    raise AssertionError("%s after %s\n%s" % (until.__doc__, statuses, proxy.errors))


def ejected(proxy):
    rows = json.loads(proxy.status_get("/-/status").body)["endpoints"]
    return {row["address"]: row["reason"] for row in rows if row["state"] == "ejected"}


def test_failure_rate(weir, new_backend):
    """Half of the requests fail, never two in a row: by their share the endpoint is taken out."""
    bad, fair, good = new_backend(Sometimes(50)), new_backend(Sometimes(20)), new_backend()
    proxy = weir(outlier(consecutive_5xx=2, failure_rate="40%", window="2s", min_requests=20),
                 bad, fair, good)
    load(proxy, lambda: ejected(proxy))
    assert list(ejected(proxy)) == [bad.address]
    assert ejected(proxy)[bad.address].startswith("outlier.failure_rate, ")
    proxy.stderr_has("requests failed in 2000 ms (outlier.failure_rate); taken out for "
                     "3600000 ms, 2 of 3 in service")
    assert proxy.metric("weir_outlier_ejections_total", rule="failure_rate") == 1
    before = len(bad.requests)
    load(proxy, lambda: len(good.requests) > 100)
    assert len(bad.requests) == before
    proxy.change(pools={"app": {"timeouts": {"connect": "1s"}}})
    proxy.reload()  # it survives
    assert list(ejected(proxy)) == [bad.address]


def test_too_few_requests_judge_nobody(weir, new_backend):
    bad, good = new_backend(raw(wire.response_bytes(500))), new_backend()
    proxy = weir(outlier(failure_rate="10%", window="1s", min_requests=1000000), bad, good)
    count = [0]

    def enough():
        count[0] += 1
        return count[0] > 20
    load(proxy, enough)
    assert not ejected(proxy)


def test_deviation(weir, new_backend):
    """One of five is far below the others."""
    backends = [new_backend(Sometimes(2)) for _ in range(4)] + [new_backend(Sometimes(30))]
    proxy = weir(outlier(deviations="1.9", window="2s", min_requests=20), *backends)
    load(proxy, lambda: ejected(proxy))
    assert list(ejected(proxy)) == [backends[4].address]
    proxy.stderr_has("(outlier.deviations); taken out for 3600000 ms, 4 of 5 in service")
    assert proxy.metric("weir_outlier_ejections_total", rule="deviations") == 1


def test_min_endpoints(weir, new_backend):
    backends = [new_backend() for _ in range(3)] + [new_backend(Sometimes(60))]
    proxy = weir(outlier(deviations="1.5", window="1s", min_requests=20, min_endpoints=5),
                 *backends)
    load(proxy, lambda: len(backends[3].requests) > 300)
    assert not ejected(proxy)
    proxy.change(pools={"app": {"outlier": {"min_endpoints": 4}}})
    proxy.reload()
    load(proxy, lambda: ejected(proxy))
    assert list(ejected(proxy)) == [backends[3].address]


def test_max_eject(weir, new_backend):
    """The time out grows, but not beyond max_eject."""
    bad, good = new_backend(raw(wire.response_bytes(500))), new_backend()
    proxy = weir(outlier(consecutive_5xx=1, eject="100ms", max_eject="150ms"), bad, good)
    outs = []

    def thrice():
        outs.extend(ejected(proxy).values())
        return proxy.metric("weir_endpoint_ejections_total", endpoint=bad.address) >= 6
    load(proxy, thrice)
    left = [int(reason.split(", ")[1].split()[0]) for reason in outs]
    assert left and max(left) <= 150, left


def test_all_workers_count_together(weir, new_backend):
    """Each worker sees too few requests; together they are enough."""
    bad, good = new_backend(Sometimes(50)), new_backend()
    conf_ = outlier(failure_rate="40%", window="60s", min_requests=60)
    proxy = weir({**conf_, "process": {"workers": 2}}, bad, good)
    for number in range(400):
        proxy.get("/%d" % number)
        if number % 20 == 0 and ejected(proxy):
            break
    eventually(lambda: ejected(proxy))
    assert proc.runs(proxy.pid)
