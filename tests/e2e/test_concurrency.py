"""Adaptive concurrency as a client and an operator see it (packaging/docs/overload.md). How good
the controller is shows tests/unit/upstream/test_gradient.c; here is that it is wired up: what is
counted, what is refused, and that each key does something."""
import json
import threading
import time

import pytest

from harness import h2wire as h2, wire
from harness.h2raw import Conn
from harness.weir import eventually


class Slow:
    """Answers after `delay` seconds (of a path: its own in `delays`), or when `gate` opens."""

    def __init__(self, new_backend, delay=0.0):
        self.delay, self.delays, self.gate = delay, {}, None
        self.backend = new_backend(self.answer)

    def answer(self, conn, request):
        conn.read_body(request)
        if self.gate:
            self.gate.wait(60)
        conn.send(self.delays.get(request.path, self.delay), wire.response_bytes())


def conf(mode, workers=1, **settings):
    return {"process": {"workers": workers},
            "pools": {"app": {"concurrency": {"mode": mode, **settings}}}}


def limit(proxy):
    return proxy.metric("weir_concurrency_limit", pool="app")


def row(proxy):
    return json.loads(proxy.status_get("/-/status").body)["pools"][0]


def at_once(proxy, count, target="/"):
    """Sends count requests on as many connections, without waiting for answers."""
    clients = [proxy.client() for _ in range(count)]
    for conn in clients:
        conn.send(wire.request_bytes(target=target))
    return clients


class Load:
    """Clients that ask again and again until stopped."""

    def __init__(self, proxy, count):
        self.proxy, self.stopped = proxy, threading.Event()
        self.statuses, self.lock = {}, threading.Lock()
        self.threads = [threading.Thread(target=self.run, daemon=True) for _ in range(count)]
        for thread in self.threads:
            thread.start()

    def run(self):
        conn = self.proxy.client()
        while not self.stopped.is_set():
            status = conn.get("/load").status
            with self.lock:
                self.statuses[status] = self.statuses.get(status, 0) + 1
            if status != 200:
                self.stopped.wait(0.02)

    def stop(self):
        self.stopped.set()
        for thread in self.threads:
            thread.join(60)
        return self.statuses


def test_off_by_default(weir, backend):
    proxy = weir({}, backend)
    proxy.get("/")
    assert not proxy.metrics().series("weir_concurrency_limit")
    assert row(proxy)["limit"] is None


@pytest.mark.parametrize("workers", [1, 3])
def test_enforce_refuses_what_is_more(weir, new_backend, workers):
    """min = max: a fixed limit. With several workers at most one more of each."""
    slow = Slow(new_backend)
    slow.gate = threading.Event()
    proxy = weir(conf("enforce", workers, min=4, max=4), slow.backend)
    clients = at_once(proxy, 30)
    eventually(lambda: proxy.metric("weir_request_end_total", end="upstream.concurrency") >= 20)
    waiting = proxy.metric("weir_concurrency_waiting", pool="app")
    assert 4 <= waiting <= 4 + workers - 1
    assert row(proxy)["waiting"] == waiting and row(proxy)["limit"] == 4
    slow.gate.set()
    answers = [conn.response() for conn in clients]
    refused = [each for each in answers if each.status == 503]
    assert len(answers) - len(refused) == waiting == len(slow.backend.requests)
    assert all(each.get("retry-after") == "1" for each in refused)
    assert all("upstream.concurrency" in each.get("proxy-status") for each in refused)
    assert proxy.metric("weir_concurrency_refused_total", pool="app",
                        mode="enforce") == len(refused)
    proxy.ended("upstream.concurrency", status=503)
    assert proxy.get("/after").status == 200
    assert proxy.metric("weir_concurrency_waiting", pool="app") == 0


def test_observe_refuses_nothing(weir, new_backend):
    slow = Slow(new_backend)
    slow.gate = threading.Event()
    proxy = weir(conf("observe", min=4, max=4), slow.backend)
    clients = at_once(proxy, 12)
    eventually(lambda: len(slow.backend.requests) == 12)
    assert proxy.metric("weir_concurrency_refused_total", pool="app", mode="observe") == 8
    slow.gate.set()
    assert [conn.response().status for conn in clients] == [200] * 12
    assert row(proxy)["over_limit"] == 8


def test_initial(weir, backend):
    """Where it begins; with little to do it stays there."""
    proxy = weir(conf("enforce", initial=33), backend)
    assert limit(proxy) == 33
    for _ in range(40):
        assert proxy.get("/").status == 200
    assert limit(proxy) == 33


def test_what_waits_for_no_head_is_not_counted(weir, new_backend):
    """Long bodies and tunnels hold no place."""
    gate = threading.Event()

    def long_body(conn, request):
        conn.read_body(request)
        conn.send(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nab")
        gate.wait(60)
        conn.send(b"cd")

    def tunnel(conn, _request):
        conn.send(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n"
                  b"Upgrade: websocket\r\n\r\n")
        gate.wait(60)
        conn.close()

    backend = new_backend()
    backend.on("/long", long_body)
    backend.on("/ws", tunnel)
    proxy = weir(conf("enforce", min=2, max=2), backend)
    held = []
    for index in range(6):
        fields = ["Connection: Upgrade", "Upgrade: websocket"] if index % 2 else []
        conn = proxy.client()
        conn.send(wire.request_bytes(target="/ws" if index % 2 else "/long", fields=fields))
        eventually(lambda want=index + 1: len(backend.requests) == want)
        eventually(lambda: proxy.metric("weir_concurrency_waiting", pool="app") == 0)
        held.append(conn)
    assert proxy.get("/").status == 200
    gate.set()


def test_a_client_that_leaves_gives_its_place_back(weir, new_backend):
    slow = Slow(new_backend)
    slow.gate = threading.Event()
    proxy = weir(conf("enforce", min=1, max=1), slow.backend)
    for index in range(5):
        conn, = at_once(proxy, 1)
        eventually(lambda want=index + 1: len(slow.backend.requests) == want)
        assert proxy.metric("weir_concurrency_waiting", pool="app") == 1
        conn.reset()
        eventually(lambda: proxy.metric("weir_concurrency_waiting", pool="app") == 0)
    slow.gate.set()


@pytest.mark.parametrize("bound,want", [("max", 12), ("min", 7)])
def test_max_and_min(weir, new_backend, bound, want):
    """With every answer as quick as the last the limit rises to max; when they become much slower
    it falls to min."""
    slow = Slow(new_backend, 0.02)
    settings = {"max": {"min": 5, "initial": 10, "max": 12, "tolerance": "5"},
                "min": {"min": 7, "initial": 20, "max": 20, "baseline": "1h"}}[bound]
    proxy = weir(conf("enforce", window="10ms", **settings), slow.backend)
    load = Load(proxy, 24)
    if bound == "min":
        eventually(lambda: proxy.metric("weir_concurrency_baseline_seconds", pool="app") > 0)
        slow.delay = 0.5
    eventually(lambda: limit(proxy) == want)
    load.stop()
    assert limit(proxy) <= 20


def test_tolerance_and_window(weir, new_backend):
    """Four times the baseline is within one tolerance and beyond the other; with a long window
    nothing is looked at meanwhile."""
    slow = Slow(new_backend, 0.2)
    pools = {name: {"endpoints": [slow.backend.address],
                    "concurrency": {"mode": "observe", "min": 2, "initial": 8, "max": 12,
                                    "baseline": "1h", "window": window, "tolerance": tolerance}}
             for name, tolerance, window in (("wide", "5", "10ms"), ("narrow", "1.5", "10ms"),
                                             ("long", "1.5", "1m"))}
    proxy = weir({"process": {"workers": 1}, "pools": pools,
                  "routes": [{"name": name, "prefix": "/" + name, "pool": name}
                             for name in pools]})

    def rounds(count):
        """The longest of them, in seconds."""
        took = []
        for _ in range(count):
            begun = time.monotonic()
            clients = [conn for name in pools for conn in at_once(proxy, 20, "/" + name)]
            for conn in clients:
                assert conn.response().status == 200
                conn.close()
            took.append(time.monotonic() - begun)
        return max(took)

    def limit_of(name):
        return proxy.metric("weir_concurrency_limit", pool=name)

    def baseline_of(name):
        return proxy.metric("weir_concurrency_baseline_seconds", pool=name)

    longest = rounds(3)
    assert 0.19 < baseline_of("narrow") <= longest
    slow.delays = {"/" + name: 4 * baseline_of(name) for name in ("wide", "narrow")}

    def narrow_falls():
        """the limit with the narrow tolerance goes below where it began"""
        rounds(1)
        return limit_of("narrow") < 8
    eventually(narrow_falls, guard=120)
    assert limit_of("wide") >= 8
    assert limit_of("long") == 8


def test_baseline(weir, new_backend):
    """It is measured anew after so long, up as well as down."""
    slow = Slow(new_backend, 0.02)
    proxy = weir(conf("enforce", window="10ms", baseline="200ms", min=4, initial=8), slow.backend)
    load = Load(proxy, 16)
    eventually(lambda: proxy.metric("weir_concurrency_baseline_seconds", pool="app") > 0.015)
    slow.delay = 0.2
    eventually(lambda: proxy.metric("weir_concurrency_baseline_seconds", pool="app") > 0.15)
    slow.delay = 0.02
    eventually(lambda: proxy.metric("weir_concurrency_baseline_seconds", pool="app") < 0.1)
    assert proxy.metric("weir_concurrency_latency_seconds", pool="app") > 0
    assert set(load.stop()) <= {200, 503}


def test_reload_keeps_the_limit(weir, new_backend):
    slow = Slow(new_backend, 0.02)
    proxy = weir(conf("enforce", window="10ms", initial=10, max=40, tolerance="5"), slow.backend)
    load = Load(proxy, 24)
    eventually(lambda: limit(proxy) > 14)
    load.stop()
    before = limit(proxy)
    proxy.reload()
    assert limit(proxy) == before
    proxy.change(pools={"app": {"concurrency": {"max": 12}}})
    proxy.reload()
    assert limit(proxy) <= 12


def test_an_answer_that_does_not_leave_holds_no_place(weir, new_backend):
    """A refusal in the middle of an upload, behind a client's shut window: the pool has its place
    back, whenever the client takes its answer."""
    slow = Slow(new_backend)
    slow.gate = threading.Event()
    settings = {**conf("enforce", min=1, max=1), "listeners": {
        "web": {"protocols": ["h2c"], "limits": {"body_bytes": "1KiB"},
                "timeouts": {"send": "1h"}}}}
    proxy = weir(settings, slow.backend)
    shut = ((h2.INITIAL_WINDOW_SIZE, 0),)
    with Conn(proxy.port, settings=shut, credit=False).handshake() as one:
        number = one.open("POST", end=False)
        eventually(lambda: proxy.metric("weir_concurrency_waiting", pool="app") == 1)
        one.data(number, b"x" * 2000, end=False)
        one.wait_head(number)
        assert one.stream(number).response.status == 413
        eventually(lambda: proxy.metric("weir_concurrency_waiting", pool="app") == 0)
        assert proxy.metric("weir_requests_inflight") == 1
    slow.gate.set()
