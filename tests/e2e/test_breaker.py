"""Circuit breakers as a client and an operator see them (packaging/docs/overload.md)."""
import json
import threading
import time

import pytest

from harness import proc, wire
from harness.backend import raw
from harness.weir import eventually

NEVER_EJECT = {"consecutive_failures": 0}
# Long, so that nothing changes by itself while a test looks; those that wait set it short.
SETTINGS = {"failure_rate": "50%", "min_requests": 4, "open": "1h", "max_open": "1h", "probes": 3,
            "window": "1h"}


def conf(breaker=None, workers=1, **pool):
    return {"process": {"workers": workers},
            "pools": {"app": {"outlier": NEVER_EJECT, "breaker": {**SETTINGS, **(breaker or {})},
                              **pool}}}


class Switch:
    """A backend that answers with `status`, after `delay` seconds; None: it resets."""

    def __init__(self, new_backend, status=200):
        self.status, self.delay = status, 0
        self.backend = new_backend(self.answer)

    def answer(self, conn, request):
        conn.read_body(request)
        if self.status is None:
            conn.reset()
            return
        conn.send(self.delay, wire.response_bytes(self.status))


def row(proxy, pool="app"):
    rows = json.loads(proxy.status_get("/-/status").body)["pools"]
    return next(each for each in rows if each["name"] == pool)


def state(proxy):
    """The state by metric; the status page agrees."""
    metrics = proxy.metrics()
    found = [name for name in ("closed", "open", "half-open")
             if metrics.get("weir_breaker_state", pool="app", state=name)]
    assert found == [row(proxy)["breaker"]]
    return found[0]


def statuses(proxy, count, target="/"):
    return [proxy.get(target).status for _ in range(count)]


def refused(response):
    return response.status == 503 and "upstream.breaker.open" in (response.get("proxy-status")
                                                                  or "")


def test_opens_refuses_and_closes(weir, new_backend):
    switch = Switch(new_backend, 500)
    proxy = weir(conf({"open": "2s", "max_open": "2s"}), switch.backend)
    assert state(proxy) == "closed" and row(proxy)["reason"] == ""
    assert statuses(proxy, 4) == [500] * 4
    seen = len(switch.backend.requests)
    conn = proxy.client()
    response = conn.get("/refused")
    assert refused(response) and response.get("retry-after") in ("1", "2")
    assert refused(conn.get("/refused"))  # the connection goes on
    assert len(switch.backend.requests) == seen == 4
    proxy.ended("upstream.breaker.open", path="/refused", status=503, count=2)
    assert state(proxy) == "open"
    shown = row(proxy)
    assert shown["reason"] == "4 of 4 attempts failed (breaker.failure_rate)"
    assert shown["since"] and shown["refused"] == 2
    proxy.stderr_has("pool app: breaker open for 2000 ms: 4 of 4 attempts failed "
                     "(breaker.failure_rate)")
    metrics = proxy.metrics()
    assert metrics.get("weir_breaker_opened_total", pool="app", reason="failure_rate") == 1
    assert metrics.get("weir_breaker_refused_total", pool="app") == 2
    assert metrics.get("weir_breaker_since_timestamp_seconds", pool="app") > 1.6e9
    switch.status = 200
    eventually(lambda: proxy.get("/probe").status == 200, every=0.1)
    assert statuses(proxy, 2) == [200] * 2
    assert state(proxy) == "closed"
    assert row(proxy)["reason"] == "3 probes came back, 0 failed, 0 were slow"
    proxy.stderr_has("pool app: breaker half-open: probes are let through")
    proxy.stderr_has("pool app: breaker closed: 3 probes came back")


def test_off_by_default(weir, new_backend):
    switch = Switch(new_backend, 500)
    proxy = weir({"pools": {"app": {"outlier": NEVER_EJECT}}}, switch.backend)
    assert statuses(proxy, 30) == [500] * 30
    assert row(proxy)["breaker"] == "off"
    assert not proxy.metrics().series("weir_breaker_state")


@pytest.mark.parametrize("failure_rate,opens", [("40%", True), ("60%", False)])
def test_failure_rate(weir, new_backend, failure_rate, opens):
    switch = Switch(new_backend)
    proxy = weir(conf({"failure_rate": failure_rate, "min_requests": 10}), switch.backend)
    for index in range(20):
        switch.status = (200, 500)[index % 2]
        proxy.get("/")
    assert (state(proxy) == "open") == opens


def test_min_requests(weir, new_backend):
    switch = Switch(new_backend, 500)
    proxy = weir(conf({"min_requests": 30}), switch.backend)
    assert statuses(proxy, 29) == [500] * 29
    assert state(proxy) == "closed"
    proxy.get("/")
    assert state(proxy) == "open"


def test_window(weir, new_backend):
    """What is older than the window does not count."""
    switch = Switch(new_backend, 500)
    proxy = weir(conf({"window": "1s"}), switch.backend)
    for _ in range(3):
        assert statuses(proxy, 3) == [500] * 3
        time.sleep(1.3)
    assert state(proxy) == "closed"
    proxy.change(pools={"app": {"breaker": {"window": "1h"}}})
    proxy.reload()
    assert statuses(proxy, 3) == [500] * 3
    time.sleep(1.3)
    assert statuses(proxy, 1) == [500]
    assert state(proxy) == "open"


@pytest.mark.parametrize("slow,slow_rate,opens", [("500ms", "70%", True), ("30s", "70%", False),
                                                  ("500ms", "80%", False)])
def test_slow(weir, new_backend, slow, slow_rate, opens):
    """Three of four are slow; a failure is none."""
    switch = Switch(new_backend, 500)
    breaker = {"failure_rate": None, "slow_rate": slow_rate, "slow": slow}
    proxy = weir(conf(breaker), switch.backend)
    proxy.get("/quick")
    switch.delay = 1
    statuses(proxy, 3)
    assert (state(proxy) == "open") == opens
    if opens:
        assert row(proxy)["reason"] == "3 of 4 attempts were slow (breaker.slow_rate)"
        assert proxy.metric("weir_breaker_opened_total", pool="app", reason="slow_rate") == 1


def test_slow_uploads_are_the_clients(weir, new_backend):
    """Time is counted from the end of the request."""
    switch = Switch(new_backend)
    breaker = {"failure_rate": None, "slow_rate": "1%", "slow": "1500ms", "min_requests": 1}
    proxy = weir(conf(breaker), switch.backend)
    conn = proxy.client()
    conn.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nab")
    time.sleep(2)
    conn.send(b"cd")
    assert conn.response("POST").status == 200
    assert state(proxy) == "closed"
    switch.delay = 2
    assert proxy.get("/").status == 200
    assert state(proxy) == "open"


def test_open_grows_up_to_max_open(weir, new_backend):
    switch = Switch(new_backend, 500)
    proxy = weir(conf({"open": "100ms", "max_open": "300ms", "probes": 1}), switch.backend)
    statuses(proxy, 4)
    for lasts in (100, 200, 300, 300):
        proxy.stderr_has("breaker open for %d ms" % lasts)
        eventually(lambda: proxy.get("/probe").status == 500)
    proxy.stderr_has("1 of 1 probes failed")
    assert "breaker open for 400" not in proxy.errors


@pytest.mark.parametrize("probes", [2, 4])
def test_probes(weir, new_backend, probes):
    """So many pass while half-open, over all workers, and no more while they are on their way."""
    switch = Switch(new_backend, 500)
    gate = threading.Event()

    def hang(_conn, _request):
        gate.wait(20)
        return wire.response_bytes()

    switch.backend.on("/probe", hang)
    proxy = weir(conf({"open": "5s", "max_open": "5s", "probes": probes}, workers=2),
                 switch.backend)
    statuses(proxy, 4)
    switch.status = 200
    eventually(lambda: proxy.get("/").status == 200, every=0.3)
    assert state(proxy) == "half-open"
    clients = [proxy.client() for _ in range(10)]
    for conn in clients:
        conn.send(wire.request_bytes(target="/probe"))
    eventually(lambda: len(switch.backend.seen("/probe")) == probes - 1)
    eventually(lambda: proxy.metric("weir_requests_inflight") == probes - 1)
    gate.set()
    answers = [conn.response().status for conn in clients]
    assert answers.count(200) == probes - 1 and answers.count(503) == 10 - (probes - 1)
    assert len(switch.backend.seen("/probe")) == probes - 1
    assert state(proxy) == "closed"


def test_all_workers_share_it(weir, new_backend):
    switch = Switch(new_backend, 500)
    proxy = weir(conf({"min_requests": 24}, workers=4), switch.backend)
    assert statuses(proxy, 24) == [500] * 24
    for _ in range(24):
        assert refused(proxy.get("/"))
    assert len(switch.backend.requests) == 24


def test_connect_failures_count(weir):
    proxy = weir({**conf(endpoints=["127.0.0.1:%d" % proc.free_port()]),
                  "routes": [{"name": "all", "prefix": "/", "pool": "app"}]})
    assert statuses(proxy, 4) == [502] * 4
    assert refused(proxy.get("/"))


def test_resets_and_timeouts_count(weir, new_backend):
    switch = Switch(new_backend, None)
    proxy = weir(conf(timeouts={"first_byte": "500ms"}), switch.backend)
    assert proxy.request("POST", body=b"x").status == 502
    assert proxy.request("POST", body=b"x").status == 502
    switch.status, switch.delay = 200, 1
    assert statuses(proxy, 2) == [504] * 2
    assert state(proxy) == "open"


def test_a_body_that_breaks_off_counts(weir, new_backend):
    cut = new_backend(raw(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf", reset=True))
    proxy = weir(conf(), cut)
    for _ in range(4):
        with proxy.client() as conn:
            conn.send(wire.request_bytes())
            assert conn.response(truncated_ok=True).status == 200
    eventually(lambda: state(proxy) == "open")
    assert "4 of 4 attempts failed" in row(proxy)["reason"]


def test_clients_faults_do_not_count(weir, new_backend):
    """Answers of 4xx, and clients that leave or send nonsense."""
    switch = Switch(new_backend, 404)
    proxy = weir(conf({"failure_rate": "1%"}), switch.backend)
    assert statuses(proxy, 20) == [404] * 20
    switch.delay = 5
    for index in range(8):
        conn = proxy.client()
        conn.send(wire.request_bytes(target="/leaves"))
        eventually(lambda want=index + 1: len(switch.backend.seen("/leaves")) == want)
        conn.reset()
    eventually(lambda: proxy.metric("weir_requests_inflight") == 0)
    assert state(proxy) == "closed"


def test_a_tunnel_counts_by_its_head(weir, new_backend):
    """A WebSocket that is refused by the endpoint fails; one that is open does not, however it
    ends."""
    ask = ["Connection: Upgrade", "Upgrade: websocket"]
    switching = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n" \
        b"Upgrade: websocket\r\n\r\n"
    backend = new_backend()

    def tunnel(conn, _request):
        conn.send(switching)
        conn.reader.fill()
        conn.reset()

    backend.on("/ws", tunnel)
    backend.on("/bad", raw(wire.response_bytes(503)))
    proxy = weir(conf(), backend)
    for _ in range(8):
        with proxy.client() as conn:
            conn.send(wire.request_bytes(target="/ws", fields=ask))
            assert conn.response().status == 101
            conn.send(b"x")
            assert not conn.read_all().endswith(b"x")
    assert state(proxy) == "closed"
    for _ in range(8):
        with proxy.client() as conn:
            assert conn.get("/bad", ask).status == 503
    assert state(proxy) == "open"
    assert row(proxy)["reason"] == "8 of 16 attempts failed (breaker.failure_rate)"


def test_reload_keeps_it(weir, new_backend):
    switch = Switch(new_backend, 500)
    other = new_backend()
    proxy = weir({**conf(), "routes": [{"name": "all", "prefix": "/", "pool": "app"}]},
                 switch.backend)
    statuses(proxy, 4)
    before = row(proxy)
    proxy.reload()
    assert row(proxy)["since"] == before["since"] and refused(proxy.get("/"))
    proxy.change(pools={"more": {"endpoints": [other.address]}},
                 routes=[{"name": "all", "prefix": "/", "pool": "app"},
                         {"name": "more", "prefix": "/more", "pool": "more"}])
    proxy.reload()
    assert refused(proxy.get("/")) and proxy.get("/more").status == 200
    assert len(switch.backend.requests) == 4
    # A pool that has no breaker any more refuses nothing.
    proxy.change(pools={"app": {"breaker": None}})
    proxy.reload()
    assert proxy.get("/").status == 500


def test_it_is_before_the_body(weir, new_backend):
    """An upload is spared: nothing of it is waited for."""
    switch = Switch(new_backend, 500)
    proxy = weir({**conf(), "policies": {"hold": {"buffer": "1MiB"}},
                  "routes": [{"name": "all", "prefix": "/", "pool": "app", "policies": ["hold"]}]},
                 switch.backend)
    statuses(proxy, 4)
    conn = proxy.client()
    conn.send(b"POST /up HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n")
    assert refused(conn.response("POST"))
    conn.expect_close()


@pytest.mark.parametrize("failover", [True, False])
def test_split_failover(weir, new_backend, failover):
    """A part whose breaker is open passes to the others, if the split says so."""
    switch, other = Switch(new_backend, 500), new_backend()
    proxy = weir({"process": {"workers": 1},
                  "pools": {"bad": {"endpoints": [switch.backend.address], "outlier": NEVER_EJECT,
                                    "breaker": SETTINGS},
                            "good": {"endpoints": [other.address]}},
                  "routes": [{"name": "part", "prefix": "/", "split_failover": failover,
                              "split": [{"pool": "bad", "weight": 1000}, {"pool": "good"}]}]})
    eventually(lambda: proxy.get("/").status != 500)
    seen = {proxy.get("/").status for _ in range(50)}
    assert seen == ({200} if failover else {503}) or (not failover and seen == {200, 503})


def test_no_second_attempt_while_it_is_open(weir, new_backend):
    """What fails and opens the breaker is not sent to another endpoint."""
    one, two = Switch(new_backend, None), Switch(new_backend, None)
    proxy = weir(conf({"min_requests": 1}), one.backend, two.backend)
    assert proxy.get("/").status == 502
    proxy.ended("upstream.reset", status=502)
    assert len(one.backend.requests) + len(two.backend.requests) <= 2
    assert state(proxy) == "open"
