"""Pools: balancing, keepalive, connection caps and queues, passive ejection."""
import threading
import time
from collections import Counter

import pytest

from harness import client, proc, wire
from harness.backend import raw
from harness.weir import GUARD, eventually

ROUTES = [{"name": "all", "prefix": "/", "pool": "app"}]
ONE = {"process": {"workers": 1}}


def counts(backends):
    return [len(b.requests) for b in backends]


def test_round_robin(weir, new_backend):
    backends = [new_backend() for _ in range(3)]
    proxy = weir(dict(ONE, pools={"app": {"balance": "round_robin"}}), *backends)
    conn = proxy.client()
    for number in range(30):
        assert conn.get("/%d" % number).status == 200
    assert counts(backends) == [10, 10, 10]


def test_round_robin_weights(weir, new_backend):
    backends = [new_backend() for _ in range(2)]
    endpoints = [{"address": backends[0].address, "weight": 3},
                 {"address": backends[1].address, "weight": 1}]
    proxy = weir(dict(ONE, pools={"app": {"balance": "round_robin", "endpoints": endpoints}},
                      routes=ROUTES))
    conn = proxy.client()
    for number in range(40):
        assert conn.get("/%d" % number).status == 200
    assert counts(backends) == [30, 10]


def test_least_request_avoids_the_busy_one(weir, new_backend):
    """Requests in flight decide: the endpoint that holds them gets few of the others."""
    hold = threading.Event()

    def slow(_conn, _request):
        hold.wait(30)
        return wire.response_bytes()
    backends = [new_backend(slow), new_backend()]
    proxy = weir(dict(ONE, pools={"app": {"balance": "least_request"}}), *backends)
    held = [proxy.client() for _ in range(40)]
    for conn in held:
        conn.send(wire.request_bytes(target="/held"))
    eventually(lambda: sum(counts(backends)) == 40)
    stuck = len(backends[0].requests)
    eventually(lambda: proxy.metric("weir_requests_inflight") == stuck)
    assert 1 <= stuck <= 30
    conn = proxy.client()
    for number in range(60):
        assert conn.get("/%d" % number).status == 200
    assert len(backends[0].requests) == stuck
    hold.set()


def test_least_request_spreads(weir, new_backend):
    backends = [new_backend() for _ in range(3)]
    proxy = weir(None, *backends)
    for number in range(90):
        assert proxy.get("/%d" % number).status == 200
    assert all(count >= 10 for count in counts(backends)), counts(backends)


def test_backup_is_used_only_when_needed(weir, new_backend):
    first, backup = new_backend(), new_backend()
    endpoints = [{"address": first.address}, {"address": backup.address, "backup": True}]
    proxy = weir({"pools": {"app": {"endpoints": endpoints}}, "routes": ROUTES})
    for _ in range(10):
        assert proxy.get("/x").status == 200
    assert counts([first, backup]) == [10, 0]
    first.stop()
    eventually(lambda: proxy.get("/y").status == 200 and backup.requests)


def test_keepalive_reuses_one_connection(weir, backend):
    proxy = weir(ONE, backend)
    for number in range(20):
        assert proxy.get("/%d" % number).status == 200
    assert len(backend.conns) == 1
    assert proxy.metric("weir_upstream_reused_total") == 19
    assert proxy.metric("weir_upstream_connections_idle") == 1


def test_keepalive_timeout(weir, backend):
    proxy = weir(dict(ONE, pools={"app": {"connections": {"keepalive": "200ms"}}}), backend)
    assert proxy.get("/1").status == 200
    assert backend.conns[0].ended.wait(GUARD)
    assert proxy.get("/2").status == 200 and len(backend.conns) == 2


def test_keepalive_max(weir, new_backend):
    together = threading.Barrier(4)

    def handler(_conn, _request):
        together.wait(20)
        return wire.response_bytes()
    backend = new_backend(handler)
    proxy = weir(dict(ONE, pools={"app": {"connections": {"keepalive_max": 2}}}), backend)
    conns = [proxy.client() for _ in range(4)]
    for conn in conns:
        conn.send(wire.request_bytes())
    for conn in conns:
        assert conn.response().status == 200
    eventually(lambda: proxy.metric("weir_upstream_connections") == 2)
    assert proxy.metric("weir_upstream_connections_idle") == 2


def test_requests_per_connection(weir, backend):
    proxy = weir(dict(ONE, pools={"app": {"connections": {"requests": 5}}}), backend)
    conn = proxy.client()
    for number in range(20):
        assert conn.get("/%d" % number).status == 200
    assert sorted(Counter(r.connection for r in backend.requests).values()) == [5, 5, 5, 5]


class Gauge:
    """Counts how many requests are at the backend at once."""

    def __init__(self, pause):
        self.pause, self.now, self.most = pause, 0, 0
        self.lock = threading.Lock()

    def __call__(self, _conn, _request):
        with self.lock:
            self.now += 1
            self.most = max(self.most, self.now)
        time.sleep(self.pause)
        with self.lock:
            self.now -= 1
        return wire.response_bytes()


@pytest.mark.parametrize("workers", [1, 2])
def test_max_per_endpoint_is_exact(weir, new_backend, workers):
    """At most so many connections over all workers; the rest waits and is served."""
    gauge = Gauge(0.01)
    backend = new_backend(gauge)
    proxy = weir({"process": {"workers": workers}, "pools": {"app": {"connections": {
        "max_per_endpoint": 3, "queue": 1000, "queue_timeout": "20s"}}}}, backend)
    conns = [proxy.client() for _ in range(40)]
    for _ in range(3):
        for conn in conns:
            conn.send(wire.request_bytes(target="/q"))
        for conn in conns:
            assert conn.response().status == 200
    assert 1 <= gauge.most <= 3
    assert len([c for c in backend.conns if not c.ended.is_set()]) <= 3
    assert proxy.metric("weir_upstream_queued") == 0
    waited = [r for r in proxy.lines() if (r.get("weir.duration_ms.queue") or 0) > 1]
    assert len(waited) > 20


def test_queue_timeout(weir, new_backend):
    hold = threading.Event()

    def slow(_conn, _request):
        hold.wait(30)
        return wire.response_bytes()
    proxy = weir(dict(ONE, pools={"app": {"connections": {
        "max_per_endpoint": 1, "queue": 10, "queue_timeout": "200ms"}}}), new_backend(slow))
    first = proxy.client()
    first.send(wire.request_bytes(target="/first"))
    eventually(lambda: proxy.metric("weir_requests_inflight") == 1)
    assert proxy.get("/late").status == 503
    proxy.ended("upstream.queue.timeout", path="/late", status=503)
    hold.set()
    assert first.response().status == 200
    assert proxy.get("/free").status == 200


def test_queue_full(weir, new_backend):
    hold = threading.Event()

    def slow(_conn, _request):
        hold.wait(30)
        return wire.response_bytes()
    proxy = weir(dict(ONE, pools={"app": {"connections": {
        "max_per_endpoint": 1, "queue": 2, "queue_timeout": "20s"}}}), new_backend(slow))
    held = [proxy.client() for _ in range(3)]
    for number, conn in enumerate(held):
        conn.send(wire.request_bytes(target="/held"))
        eventually(lambda n=number: proxy.metric("weir_requests_inflight") == n + 1)
    assert proxy.metric("weir_upstream_queued") == 2
    assert proxy.get("/full").status == 503
    proxy.ended("upstream.queue.full", path="/full", status=503)
    hold.set()
    for conn in held:
        assert conn.response().status == 200


def test_client_that_leaves_the_queue(weir, new_backend):
    """Its place is free again, and the upstream never sees it."""
    hold = threading.Event()

    def slow(_conn, _request):
        hold.wait(30)
        return wire.response_bytes()
    backend = new_backend(slow)
    proxy = weir(dict(ONE, pools={"app": {"connections": {
        "max_per_endpoint": 1, "queue": 5, "queue_timeout": "20s"}}}), backend)
    first, second, third = proxy.client(), proxy.client(), proxy.client()
    for number, conn in enumerate((first, second, third)):
        conn.send(wire.request_bytes(target="/%d" % number))
        eventually(lambda n=number: proxy.metric("weir_requests_inflight") == n + 1)
    second.reset()
    assert proxy.logged(path="/1")["weir.end"] in ("client.closed", "client.reset")
    hold.set()
    assert first.response().status == 200 and third.response().status == 200
    assert [r.path for r in backend.requests] == ["/0", "/2"]


def ejection_conf(**outlier):
    return {"process": {"workers": 1},
            "pools": {"app": {"balance": "round_robin", "outlier": outlier}}}


def test_ejection_after_5xx(weir, new_backend):
    bad, good = new_backend(raw(wire.response_bytes(500, reason="Bad"))), new_backend()
    proxy = weir(ejection_conf(consecutive_5xx=3, eject="30s", max_ejected="50%"), bad, good)
    statuses = [proxy.get("/%d" % number).status for number in range(30)]
    assert statuses.count(500) == 3 and len(bad.requests) == 3
    assert proxy.metric("weir_upstream_ejections_total") == 1


def test_ejection_ends(weir, new_backend):
    bad, good = new_backend(raw(wire.response_bytes(500, reason="Bad"))), new_backend()
    proxy = weir(ejection_conf(consecutive_5xx=2, eject="300ms", max_ejected="50%"), bad, good)
    for number in range(10):
        proxy.get("/%d" % number)
    assert len(bad.requests) == 2
    bad.default = raw(wire.response_bytes(body=b"well again"))
    eventually(lambda: proxy.get("/again").body == b"well again")
    proxy.stderr_has("endpoint %s: its ejection is over, 2 of 2 in service" % bad.address)


def test_consecutive_means_consecutive(weir, new_backend):
    """A success between failures starts the count anew."""
    turn = [0]

    def flaky(_conn, _request):
        turn[0] += 1
        return wire.response_bytes(500 if turn[0] % 3 else 200, reason="X")
    flaky_one, good = new_backend(flaky), new_backend()
    proxy = weir(ejection_conf(consecutive_5xx=3, eject="30s", max_ejected="50%"), flaky_one, good)
    for number in range(40):
        proxy.get("/%d" % number)
    assert len(flaky_one.requests) == 20
    assert proxy.metric("weir_upstream_ejections_total") == 0


def test_max_ejected_is_kept(weir, new_backend):
    """Not more than the share: with every endpoint failing, traffic still goes somewhere."""
    backends = [new_backend(raw(wire.response_bytes(500, reason="Bad"))) for _ in range(4)]
    proxy = weir(ejection_conf(consecutive_5xx=2, eject="30s", max_ejected="50%"), *backends)
    statuses = {proxy.get("/%d" % number).status for number in range(40)}
    assert statuses == {500}
    assert proxy.metric("weir_upstream_ejections_total") == 2
    assert sorted(count > 2 for count in counts(backends)) == [False, False, True, True]


def test_all_ejected(weir, new_backend):
    bad = new_backend(raw(wire.response_bytes(500, reason="Bad")))
    proxy = weir(ejection_conf(consecutive_5xx=2, eject="30s", max_ejected="100%"), bad)
    statuses = [proxy.get("/%d" % number).status for number in range(6)]
    assert statuses[:2] == [500, 500] and set(statuses[2:]) == {503}
    proxy.ended("upstream.none_healthy", status=503)


def test_connect_failures_eject(weir, new_backend):
    good = new_backend()
    dead = "127.0.0.1:%d" % proc.free_port()
    conf = ejection_conf(consecutive_failures=2, eject="30s", max_ejected="50%")
    conf["pools"]["app"]["endpoints"] = [dead, good.address]
    conf["routes"] = ROUTES
    proxy = weir(conf)
    for number in range(20):
        assert proxy.get("/%d" % number).status == 200
    assert proxy.metric("weir_upstream_connect_failures_total") == 2
    assert proxy.metric("weir_upstream_ejections_total") == 1


def test_two_pools_do_not_share(weir, new_backend):
    one, two = new_backend(), new_backend()
    proxy = weir({"pools": {"a": {"endpoints": [one.address]}, "b": {"endpoints": [two.address]}},
                  "routes": [{"prefix": "/a", "pool": "a"}, {"prefix": "/b", "pool": "b"}]})
    conn = proxy.client()
    for target in ("/a/1", "/b/1", "/a/2", "/b/2"):
        assert conn.get(target).status == 200
    assert [r.path for r in one.requests] == ["/a/1", "/a/2"]
    assert [r.path for r in two.requests] == ["/b/1", "/b/2"]


def test_same_endpoint_in_two_pools(weir, backend):
    """Identity is the pool and the address: each pool has its own connections."""
    proxy = weir(dict(ONE, pools={"a": {"endpoints": [backend.address]},
                                  "b": {"endpoints": [backend.address]}},
                      routes=[{"prefix": "/a", "pool": "a"}, {"prefix": "/b", "pool": "b"}]))
    for target in ("/a", "/b", "/a", "/b"):
        assert client.Client(proxy.port).get(target).status == 200
    assert len(backend.conns) == 2
