"""Active health checks: what they send, what makes an endpoint go down and come up, and what is
seen of it: traffic, log line, metric, status (packaging/docs/health.md)."""
import json
import threading
import time

import pytest

from harness import proc, wire
from harness.backend import FullBacklog, raw
from harness.weir import eventually

ROUTES = [{"name": "all", "prefix": "/", "pool": "app"}]
# Quick, so that tests are: what is measured are orders and bounds from below, never speed.
QUICK = {"path": "/healthz", "interval": "100ms", "fast_interval": "50ms", "timeout": "5s",
         "healthy": 2, "unhealthy": 3}


def conf(health=None, **pool):
    return {"pools": {"app": {"balance": "round_robin", "health": {**QUICK, **(health or {})},
                              **pool}}, "routes": ROUTES}


def states(proxy):
    """{address: row of the status page}."""
    rows = json.loads(proxy.status_get("/-/status").body)["endpoints"]
    return {row["address"]: row for row in rows}


def state(proxy, backend):
    return states(proxy)[backend.address]["state"]


def becomes(proxy, backend, word):
    def is_so():
        return state(proxy, backend) == word
    is_so.__doc__ = "%s becomes %s; %s" % (backend.address, word, proxy.errors)
    eventually(is_so)
    return states(proxy)[backend.address]


def checks(backend, path="/healthz"):
    return [r for r in backend.requests if r.path == path]


def served(backend):
    return [r for r in backend.requests if r.path != "/healthz"]


class Switch:
    """Answers /healthz as told, everything else with 200."""

    def __init__(self, backend, status=200):
        self.status = status
        backend.on("/healthz", self.answer)

    def answer(self, _conn, _request):
        return wire.response_bytes(self.status, body=b"all is well")


# ---- down and up ----


def test_down_and_up(weir, new_backend):
    one, two = new_backend(), new_backend()
    switch, _ = Switch(one), Switch(two)
    proxy = weir(conf(), one, two)
    becomes(proxy, one, "in service")
    becomes(proxy, two, "in service")
    switch.status = 503
    row = becomes(proxy, one, "down")
    reason = "status 503 is not in 200-299 (health.expect), 3 checks in a row"
    assert row["reason"] == reason, row
    assert row["since"] and row["next_check_ms"] is not None
    proxy.stderr_has("pool app: endpoint %s: %s; marked down, 1 of 2 in service"
                     % (one.address, reason))
    before = len(served(one))
    for number in range(10):
        assert proxy.get("/%d" % number).status == 200
    assert len(served(one)) == before and len(served(two)) == 10
    switch.status = 204
    row = becomes(proxy, one, "in service")
    assert row["reason"] == "passed, 2 checks in a row"
    proxy.stderr_has("passed, 2 checks in a row; marked up, 2 of 2 in service")
    for number in range(10):
        assert proxy.get("/%d" % number).status == 200
    assert len(served(one)) > before


def test_metrics(weir, new_backend):
    """A scrape is valid text, and tells the same as the log."""
    one, two = new_backend(), new_backend()
    switch, _ = Switch(one), Switch(two)
    proxy = weir(conf(), one, two)
    becomes(proxy, one, "in service")
    becomes(proxy, two, "in service")
    metrics = proxy.metrics()
    assert metrics.get("weir_health_endpoints") == 2
    assert metrics.get("weir_health_checks_total", pool="app", result="pass") >= 2
    assert metrics.get("weir_endpoint_up", pool="app") == 2
    assert len(metrics.series("weir_health_checks_total", pool="app")) == 13
    switch.status = 500
    becomes(proxy, one, "down")
    metrics = proxy.metrics()
    assert metrics.get("weir_endpoint_up", pool="app", endpoint=one.address) == 0
    assert metrics.get("weir_endpoint_up", pool="app", endpoint=two.address) == 1
    assert metrics.get("weir_health_checks_total", pool="app", result="status") >= 3
    assert metrics.get("weir_health_changes_total", pool="app", to="up") == 2
    assert metrics.get("weir_health_changes_total", pool="app", to="down") == 1


def test_all_down(weir, backend):
    switch = Switch(backend)
    proxy = weir(conf(), backend)
    becomes(proxy, backend, "in service")
    switch.status = 404
    becomes(proxy, backend, "down")
    assert proxy.get("/x").status == 503
    proxy.ended("upstream.none_healthy", path="/x", status=503)
    proxy.stderr_has("0 of 1 in service: requests get 503 (upstream.none_healthy)")
    switch.status = 200
    becomes(proxy, backend, "in service")
    assert proxy.get("/y").status == 200


def test_counts(weir, backend):
    """unhealthy and healthy are what they say: so many in a row, and one is not enough."""
    answers = []

    def answer(_conn, _request):
        status = answers.pop(0) if answers else 200
        return wire.response_bytes(status)
    backend.on("/healthz", answer)
    proxy = weir(conf({"unhealthy": 4, "healthy": 5}), backend)
    becomes(proxy, backend, "in service")
    answers += [500, 500, 500, 200, 500, 500, 500]  # never four in a row
    eventually(lambda: not answers)
    answers += [500] * 4 + [200] * 4 + [500] + [200]
    row = becomes(proxy, backend, "down")
    assert "4 checks in a row" in row["reason"]
    row = becomes(proxy, backend, "in service")
    assert row["reason"] == "passed, 5 checks in a row"
    assert proxy.metric("weir_health_changes_total", to="down") == 1
    assert proxy.metric("weir_health_changes_total", to="up") == 2


# ---- what makes a check fail ----


def hang(conn, _request):
    conn.ended.wait(30)


def close_within_body(conn, _request):
    conn.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
    conn.close()


FAULTS = {
    "garbage": (raw(b"SSH-2.0-OpenSSH_9.2\r\n", close=True), {}, "bad_response",
                "the answer is not good HTTP (upstream.bad_response."),
    "chunked twice": (raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, chunked\r\n\r\n",
                          close=True), {}, "bad_response", "the answer is not good HTTP"),
    "endless head": (raw(b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 5000), {}, "bad_response",
                     "the answer is not good HTTP"),
    "closes": (raw(close=True), {}, "closed", "closed without an answer"),
    "closes in head": (raw(b"HTTP/1.1 200 OK\r\nServer:", close=True), {}, "closed",
                       "closed within the head of its answer"),
    "closes in body": (close_within_body, {"body": "ok"}, "closed",
                       "closed within the body of its answer"),
    "resets": (raw(reset=True), {}, "reset", "connection reset"),
    "hangs": (hang, {"timeout": "80ms"}, "timeout", "no answer after 80 ms (health.timeout)"),
    "drips": (raw(b"HTTP/1.1 200 OK\r\n", 0.3, b"A: b\r\n", 0.3, b"\r\n"), {"timeout": "100ms"},
              "timeout", "no answer after 100 ms (health.timeout)"),
    "status": (raw(wire.response_bytes(301)), {}, "status",
               "status 301 is not in 200-299 (health.expect)"),
    "other status": (raw(wire.response_bytes(200)), {"expect": ["201", "300-399"]}, "status",
                     "status 200 is not in 201, 300-399 (health.expect)"),
    "body": (raw(wire.response_bytes(200, body=b"starting up")), {"body": "ready"}, "body",
             'the body does not contain "ready" (health.body)'),
    "no body": (raw(wire.response_bytes(204)), {"body": "ready"}, "body",
                'the body does not contain "ready" (health.body)'),
}


@pytest.mark.parametrize("name", FAULTS)
def test_fault(weir, new_backend, name):
    handler, health, result, reason = FAULTS[name]
    backend = new_backend()
    backend.on("/healthz", handler)
    proxy = weir(conf(health), backend)
    row = becomes(proxy, backend, "down")
    assert row["reason"].startswith(reason), row
    assert proxy.metric("weir_health_checks_total", pool="app", result=result) >= 1
    proxy.stderr_has("pool app: endpoint %s: %s" % (backend.address, reason.replace('"', '\\"')))


def test_refused(weir):
    dead = "127.0.0.1:%d" % proc.free_port()
    proxy = weir(conf(endpoints=[dead]))
    eventually(lambda: states(proxy)[dead]["state"] == "down")
    assert states(proxy)[dead]["reason"] == "connect refused"
    assert proxy.metric("weir_health_checks_total", result="refused") >= 1


def test_no_such_socket(weir, work):
    dead = "unix:%s/none.sock" % work
    proxy = weir(conf(endpoints=[dead]))
    eventually(lambda: states(proxy)[dead]["state"] == "down")
    assert states(proxy)[dead]["reason"] == "there is no such socket"


def test_connect_timeout(weir):
    full = FullBacklog()
    try:
        proxy = weir(conf({"timeout": "100ms"}, endpoints=[full.address]))
        row = becomes(proxy, full, "down")
        assert row["reason"] == "connect timed out after 100 ms (health.timeout)"
        assert proxy.metric("weir_health_checks_total", result="connect_timeout") >= 1
    finally:
        full.stop()


PASSES = {
    "body in chunks": (raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nrea\r\n",
                           0.01, b"2\r\ndy\r\n0\r\n\r\n"), {"body": "ready"}),
    "body until close": (raw(b"HTTP/1.0 200 OK\r\n\r\nI am rea", 0.01, b"dy", close=True),
                         {"body": "am ready"}),
    "slow": (raw(b"HTTP/1.1 2", 0.05, b"00 OK\r", 0.05, b"\n\r", 0.05, b"\n"), {}),
    "early hints": (raw(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\n\r\n"),
                    {}),
    "body never ends": (raw(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\nx"), {}),
    "range": (raw(wire.response_bytes(404)), {"expect": ["200", "400-499"]}),
}


@pytest.mark.parametrize("name", PASSES)
def test_pass(weir, new_backend, name):
    handler, health = PASSES[name]
    backend = new_backend()
    backend.on("/healthz", handler)
    proxy = weir(conf(health), backend)
    becomes(proxy, backend, "in service")
    assert proxy.metric("weir_endpoint_up", endpoint=backend.address) == 1


# ---- what is sent ----


def test_request(weir, backend):
    weir(conf({"path": "/up/now?deep=1&x=%20", "method": "OPTIONS", "host": "app.internal:81",
               "headers": ["X-Check: weir; q=1", "User-Agent: mine", "Accept: text/plain"]}),
         backend)
    request = backend.wait()
    assert request.raw_head == (
        b"OPTIONS /up/now?deep=1&x=%20 HTTP/1.1\r\nHost: app.internal:81\r\nX-Check: weir; q=1\r\n"
        b"User-Agent: mine\r\nAccept: text/plain\r\nConnection: close\r\n\r\n")


def test_request_defaults(weir, backend):
    weir(conf(), backend)
    request = backend.wait()
    assert request.raw_head == (
        b"GET /healthz HTTP/1.1\r\nHost: " + backend.address.encode() + b"\r\nUser-Agent: weir "
        b"(health check)\r\nAccept: */*\r\nConnection: close\r\n\r\n")


def test_head(weir, backend):
    Switch(backend)
    proxy = weir(conf({"method": "HEAD"}), backend)
    becomes(proxy, backend, "in service")
    assert {r.method for r in checks(backend)} == {"HEAD"}


def test_unix(weir, new_backend, work):
    backend = new_backend(unix=work / "app.sock")
    switch = Switch(backend)
    proxy = weir(conf(), backend)
    becomes(proxy, backend, "in service")
    assert checks(backend)[0].get("host") == "localhost"
    switch.status = 500
    becomes(proxy, backend, "down")


def test_ipv6(weir, new_backend):
    backend = new_backend(host="::1")
    Switch(backend)
    proxy = weir(conf(), backend)
    becomes(proxy, backend, "in service")
    assert checks(backend)[0].get("host") == backend.address


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_other_port(weir, new_backend, host):
    backend, checked = new_backend(host=host), new_backend(host=host)
    switch = Switch(checked)
    proxy = weir(conf({"port": checked.port}), backend)
    becomes(proxy, backend, "in service")
    assert proxy.get("/x").status == 200
    assert not checks(backend) and checks(checked) and served(backend)
    switch.status = 500
    becomes(proxy, backend, "down")


def test_tcp(weir, new_backend):
    """A connection is enough, and nothing is sent on it."""
    backend = new_backend()
    proxy = weir({"pools": {"app": {"health": {"protocol": "tcp", "interval": "50ms",
                                               "fast_interval": "50ms"}}}}, backend)
    becomes(proxy, backend, "in service")
    eventually(lambda: len(backend.conns) > 5)
    assert not backend.requests
    assert proxy.get("/x").status == 200
    backend.stop()
    row = becomes(proxy, backend, "down")
    assert row["reason"] == "connect refused, 3 checks in a row"


# ---- when ----


def gaps(backend, count):
    times = []

    def answer(_conn, _request):
        times.append(time.monotonic())
        return wire.response_bytes()
    backend.on("/healthz", answer)
    return times, lambda: len(times) > count


def test_intervals(weir, new_backend):
    """interval while all is well; fast_interval while it is not."""
    calm, bad = new_backend(), new_backend()
    times, enough = gaps(calm, 6)
    Switch(bad, 500)
    proxy = weir(conf({"interval": "400ms", "fast_interval": "40ms", "jitter": "0%"}), calm, bad)
    eventually(enough)
    steady = [b - a for a, b in zip(times[1:], times[2:])]
    assert sum(steady) / len(steady) >= 0.2, steady  # the first may have been seen late
    assert len(checks(bad)) > 2 * len(times), (len(checks(bad)), len(times))
    assert state(proxy, bad) == "down"


def test_jitter(weir, new_backend):
    backend = new_backend()
    times, enough = gaps(backend, 30)
    weir(conf({"interval": "60ms", "fast_interval": "60ms", "jitter": "50%"}), backend)
    eventually(enough)
    steady = sorted(b - a for a, b in zip(times, times[1:]))
    assert steady[2] < 0.052 and steady[-3] > 0.062, steady


# ---- new endpoints ----


class Gate:
    """Holds the answers to /healthz until open is set."""

    def __init__(self, backend):
        self.open = threading.Event()
        backend.on("/healthz", self.answer)

    def answer(self, _conn, _request):
        self.open.wait(60)
        return wire.response_bytes()


def test_a_new_endpoint_waits_for_its_first_pass(weir, new_backend):
    old, new = new_backend(), new_backend()
    Switch(old)
    gate = Gate(new)
    proxy = weir(conf({"timeout": "60s"}), old)
    becomes(proxy, old, "in service")
    proxy.change(pools={"app": {"endpoints": [old.address, new.address]}})
    proxy.reload()
    for number in range(20):
        assert proxy.get("/%d" % number).status == 200
    assert state(proxy, new) == "unknown" and not served(new) and len(served(old)) == 20
    gate.open.set()
    becomes(proxy, new, "in service")
    for number in range(10):
        assert proxy.get("/%d" % number).status == 200
    assert served(new)


def test_new_endpoints_serve_when_there_is_no_other(weir, new_backend):
    backends = [new_backend(), new_backend()]
    gates = [Gate(each) for each in backends]
    proxy = weir(conf({"timeout": "60s"}), *backends)
    for number in range(10):
        assert proxy.get("/%d" % number).status == 200
    assert all(served(each) for each in backends)
    assert [state(proxy, each) for each in backends] == ["unknown", "unknown"]
    assert proxy.metric("weir_endpoint_up") == 0
    gates[0].open.set()
    becomes(proxy, backends[0], "in service")
    before = len(served(backends[1]))
    for number in range(10):
        assert proxy.get("/%d" % number).status == 200
    assert len(served(backends[1])) == before
    gates[1].open.set()


# ---- reloads ----


def test_state_survives(weir, new_backend):
    """Unchanged endpoints keep their state, with a new weight too; their checks go on."""
    up, down = new_backend(), new_backend()
    Switch(up)
    Switch(down, 500)
    proxy = weir(conf({"interval": "60s", "fast_interval": "60s"}), up, down)
    becomes(proxy, up, "in service")
    since = becomes(proxy, down, "down")["since"]
    asked = len(checks(up)), len(checks(down))
    proxy.change(pools={"app": {"endpoints": [{"address": up.address, "weight": 3},
                                              {"address": down.address, "backup": True}]}})
    proxy.reload()
    proxy.change(routes=ROUTES + [{"name": "n", "path": "/n", "respond": {"body": "n"}}])
    proxy.reload()
    assert [state(proxy, each) for each in (up, down)] == ["in service", "down"]
    assert states(proxy)[down.address]["since"] == since
    for number in range(10):
        assert proxy.get("/%d" % number).status == 200
    assert not served(down)
    assert (len(checks(up)), len(checks(down))) == asked  # nobody was asked again
    assert proxy.metric("weir_health_changes_total") == 2


def test_changed_settings_are_used(weir, backend):
    """The state stays; the next check comes by the new settings, also before the old interval is
    over."""
    Switch(backend)
    gate = threading.Event()

    def other(_conn, _request):
        gate.wait(60)
        return wire.response_bytes(500)
    backend.on("/other", other)
    proxy = weir(conf({"interval": "1h", "fast_interval": "1h", "timeout": "60s"}), backend)
    becomes(proxy, backend, "in service")
    proxy.change(pools={"app": {"health": {"path": "/other", "interval": "100ms",
                                           "fast_interval": "50ms"}}})
    proxy.reload()
    eventually(lambda: checks(backend, "/other"))
    assert state(proxy, backend) == "in service"
    gate.set()
    row = becomes(proxy, backend, "down")
    assert "3 checks in a row" in row["reason"]


def test_health_comes_and_goes(weir, new_backend):
    """Set on a pool that serves, it takes nothing out before a check has failed; taken away, all
    are in service again."""
    one, two = new_backend(), new_backend()
    gate, _ = Gate(one), Switch(two, 500)
    proxy = weir({"pools": {"app": {"balance": "round_robin"}}, "routes": ROUTES}, one, two)
    assert states(proxy)[one.address]["since"] == ""
    proxy.change(**conf({"timeout": "60s"}))
    proxy.reload()
    eventually(lambda: checks(one))
    assert states(proxy)[one.address]["reason"] == "was in service before it was checked"
    assert state(proxy, one) == "in service"
    assert proxy.get("/x").status == 200
    becomes(proxy, two, "down")
    proxy.change(pools={"app": {"health": None}})
    proxy.reload()
    becomes(proxy, two, "in service")
    assert proxy.metric("weir_health_endpoints") == 0
    for number in range(4):
        assert proxy.get("/%d" % number).status == 200
    assert served(one) and served(two)
    gate.open.set()


def test_a_removed_endpoint_is_new_when_it_comes_back(weir, new_backend):
    stays, goes = new_backend(), new_backend()
    Switch(stays)
    Switch(goes, 500)
    proxy = weir(conf(), stays, goes)
    becomes(proxy, goes, "down")
    proxy.change(pools={"app": {"endpoints": [stays.address]}})
    proxy.reload()
    eventually(lambda: proxy.metric("weir_health_endpoints") == 1)
    eventually(lambda: not proxy.metrics().series("weir_endpoint_up", endpoint=goes.address))
    gate = Gate(goes)
    proxy.change(pools={"app": {"endpoints": [stays.address, goes.address],
                                "health": {"timeout": "60s"}}})
    proxy.reload()
    becomes(proxy, goes, "unknown")
    gate.open.set()
    becomes(proxy, goes, "in service")


def test_reload_while_flapping(weir, new_backend):
    """Endpoints go up and down all the time, the configuration changes all the time: no request
    fails, nothing grows."""
    steady = new_backend()
    Switch(steady)
    flappers = [new_backend() for _ in range(4)]
    switches = [Switch(each) for each in flappers]
    quick = {"interval": "20ms", "fast_interval": "20ms", "healthy": 1, "unhealthy": 1}
    proxy = weir(conf(quick), steady, *flappers)
    stop = threading.Event()

    def flap():
        turn = 0
        while not stop.wait(0.05):
            switches[turn % 4].status ^= 200 ^ 500
            turn += 1
    thread = threading.Thread(target=flap)
    thread.start()
    try:
        for turn in range(15):
            chosen = [each.address for i, each in enumerate(flappers) if (turn >> i % 3) & 1]
            proxy.change(pools={"app": {"endpoints": [steady.address] + chosen,
                                        "timeouts": {"connect": "%ds" % (turn + 1)}}})
            proxy.reload()
            for number in range(10):
                assert proxy.get("/%d" % number).status == 200
        eventually(lambda: proxy.metric("weir_health_changes_total", to="down") > 5)
    finally:
        stop.set()
        thread.join()
    proxy.change(pools={"app": {"endpoints": [steady.address]}})
    proxy.reload()

    def one_left():
        """only the steady endpoint is known and checked"""
        metrics = proxy.metrics()
        return (metrics.get("weir_health_endpoints") == 1
                and len(metrics.series("weir_endpoint_up")) == 1
                and metrics.get("weir_snapshots_live") == 1)
    eventually(one_left)


# ---- with passive health ----


def test_ejection_for_failures_ends_early(weir, new_backend):
    """Checks see connections: so they end an ejection for those, long before its time."""
    flaky, good = new_backend(), new_backend()
    broken = threading.Event()
    broken.set()

    def answer(conn, request):
        if broken.is_set() and request.path != "/healthz":
            conn.reset()
            return None
        return wire.response_bytes()
    flaky.default = answer
    Switch(good)
    proxy = weir(conf(outlier={"consecutive_failures": 2, "eject": "1h"})
                 | {"process": {"workers": 1}}, flaky, good)
    becomes(proxy, flaky, "in service")
    becomes(proxy, good, "in service")
    eventually(lambda: proxy.get("/x") and state(proxy, flaky) == "ejected")
    broken.clear()
    becomes(proxy, flaky, "in service")
    proxy.stderr_has("passed, 2 checks in a row; its ejection ends early, 2 of 2 in service")


def test_ejection_for_5xx_runs_its_time(weir, new_backend):
    """Checks do not see what requests get: such an ejection is not ended by them."""
    bad, good = new_backend(raw(wire.response_bytes(500))), new_backend()
    Switch(bad)
    Switch(good)
    proxy = weir(conf(outlier={"consecutive_5xx": 2, "eject": "1h"}) |
                 {"process": {"workers": 1}}, bad, good)
    becomes(proxy, bad, "in service")
    becomes(proxy, good, "in service")
    eventually(lambda: proxy.get("/x") and state(proxy, bad) == "ejected")
    assert states(proxy)[bad.address]["reason"].startswith("outlier.consecutive_5xx, 3")
    passed = len(checks(bad))
    eventually(lambda: len(checks(bad)) > passed + 6)
    assert state(proxy, bad) == "ejected"
