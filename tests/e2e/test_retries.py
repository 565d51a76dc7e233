"""Retries: what each key of pools.*.retry does, seen from both ends, in the log and in metrics."""
import socket
import struct
import threading
import time

import pytest

from harness import proc, wire
from harness.weir import eventually


class Flaky:
    """A handler that does what `moods` says, request by request, then answers well. It counts how
    often each path came, over all backends that share it."""

    def __init__(self, *moods):
        self.moods, self.seen, self.lock = list(moods), [], threading.Lock()
        self.hold = threading.Event()

    def __call__(self, conn, request):
        if request.path == "/warm":
            return wire.response_bytes()
        conn.read_body(request)
        with self.lock:
            self.seen.append((conn.backend.address, time.monotonic()))
            mood = self.moods.pop(0) if self.moods else "well"
        if mood == "well":
            return wire.response_bytes(body=b"well")
        if mood == "stall":
            self.hold.wait(20)
            conn.close()
        elif mood == "busy":
            return wire.response_bytes(503, fields=[("Retry-After", "1")])
        elif mood == "late":
            time.sleep(0.6)
            return wire.response_bytes(body=b"well")
        elif mood == "reset":
            conn.reset()
        elif mood == "close":
            conn.close()
        else:
            return wire.response_bytes(int(mood), reason="Mood", body=mood.encode())
        return None


@pytest.fixture
def served(weir, new_backend):
    """served(flaky, retry, backends=2): a weir before backends that share one handler."""
    made = []

    def make(flaky, backends=2, pool=None, **retry):
        made.append(flaky)
        each = [new_backend(flaky) for _ in range(backends)]
        conf = {"process": {"workers": 1}, "pools": {"app": {
            "outlier": {"consecutive_failures": 0}, "retry": retry, **(pool or {})}}}
        return weir(conf, *each)
    yield make
    for each in made:
        each.hold.set()


EACH = [("reset", "reset", 502), ("close", "reset", 502), ("503", "503", 503),
        ("502", "gateway", 502), ("500", "5xx", 500), ("429", "429", 429)]


@pytest.mark.parametrize("mood, word, status", EACH)
def test_on(served, mood, word, status):
    """Named: the other endpoint answers. Not named: the client sees what happened."""
    flaky = Flaky(mood)
    proxy = served(flaky, on=[word])
    assert proxy.get("/x").body == b"well"
    assert len({address for address, _ in flaky.seen}) == 2
    line = proxy.logged(path="/x")
    assert line["weir.attempts"] == 2 and line["weir.end"] == "ok"
    how = mood if mood.isdigit() else "upstream."
    assert line["weir.tries"].startswith("%s %s" % (flaky.seen[0][0], how))
    assert proxy.metric("weir_upstream_retries_total") == 1
    assert proxy.metric("weir_pool_retries_total", pool="app") == 1
    other = Flaky(mood)
    proxy = served(other, on=["connect"])
    assert proxy.get("/x").status == status
    assert len(other.seen) == 1 and "weir.tries" not in proxy.logged(path="/x")


def test_on_connect(weir, new_backend):
    """One of two ports is closed: nobody notices, whatever the method, unless it is told off."""
    closed = "127.0.0.1:%d" % proc.free_port()
    backend = new_backend()

    def conf(on):
        return {"process": {"workers": 1}, "pools": {"app": {
            "endpoints": [closed, backend.address], "balance": "round_robin",
            "outlier": {"consecutive_failures": 0}, "retry": {"on": on, "budget_min": 100}}},
            "routes": [{"prefix": "/", "pool": "app"}]}
    proxy = weir(conf(["connect"]))
    for number in range(10):
        assert proxy.request("POST", "/%d" % number, body=b"x").status == 200
    proxy = weir(conf(["reset"]))
    statuses = [proxy.get("/%d" % number).status for number in range(10)]
    assert statuses.count(502) == 5


def test_on_first_byte(served):
    flaky = Flaky("stall")
    proxy = served(flaky, on=["first_byte"], pool={"timeouts": {"first_byte": "600ms"}})
    assert proxy.get("/x").body == b"well"
    assert proxy.logged(path="/x")["weir.tries"].endswith(" upstream.first_byte.timeout")


def test_per_try_timeout(served):
    flaky = Flaky("stall", "late", "stall", "stall")
    proxy = served(flaky, on=["first_byte"], per_try_timeout="150ms", attempts=2,
                   pool={"timeouts": {"first_byte": "1500ms"}})
    assert proxy.get("/x").body == b"well"
    assert proxy.logged(path="/x")["weir.tries"].endswith(" upstream.try.timeout")
    assert len(flaky.seen) == 2
    assert proxy.get("/y").status == 504
    proxy.ended("upstream.first_byte.timeout", path="/y", status=504)
    assert len(flaky.seen) == 4


def test_per_try_timeout_never_costs_an_answer(served):
    """What cannot be sent again, or not for lack of budget, is waited for."""
    flaky = Flaky("late", "late", "late")
    proxy = served(flaky, on=["first_byte"], per_try_timeout="100ms", budget="0%", budget_min=0)
    assert proxy.request("POST", "/p").body == b"well"
    assert proxy.metric("weir_pool_retries_refused_total") == 0
    assert proxy.get("/g").body == b"well"
    assert proxy.metric("weir_pool_retries_refused_total") == 1
    proxy = served(flaky, on=["connect"], per_try_timeout="100ms")
    assert proxy.get("/c").body == b"well" and len(flaky.seen) == 3
    assert proxy.metric("weir_endpoint_failures_total") == 0


def test_attempts(served):
    flaky = Flaky(*["503"] * 9)
    proxy = served(flaky, backends=4, on=["503"], attempts=3)
    assert proxy.get("/x").status == 503
    assert len(flaky.seen) == 3 and len({address for address, _ in flaky.seen}) == 3
    assert proxy.logged(path="/x")["weir.attempts"] == 3
    proxy = served(Flaky("503"), on=["503"], attempts=1)
    assert proxy.get("/x").status == 503


def test_nothing_of_a_retried_response_is_seen(served):
    proxy = served(Flaky("503", "500"), on=["5xx"])
    response = proxy.get("/x")
    assert response.status == 200 and response.body == b"well"


def test_unsafe(served):
    """A POST that was sent is not sent again, unless the pool says so; one with a body never."""
    flaky = Flaky("503", "503")
    proxy = served(flaky, on=["503"])
    assert proxy.request("POST", "/x").status == 503
    assert len(flaky.seen) == 1
    flaky = Flaky("503")
    proxy = served(flaky, on=["503"], unsafe=True)
    assert proxy.request("POST", "/x").status == 200
    assert len(flaky.seen) == 2
    flaky.moods = ["503"]
    assert proxy.request("PUT", "/y", body=b"gone").status == 503
    assert len(flaky.seen) == 3


def test_backoff(served):
    """The same endpoint is asked again after a while, another one at once."""
    flaky = Flaky("503", "503", "503")
    proxy = served(flaky, backends=1, on=["503"], backoff={"base": "200ms", "max": "300ms"})
    for number in range(6):
        flaky.moods = ["503", "503"]
        assert proxy.get("/%d" % number).status == 200
    waits = [b - a for (_, a), (_, b) in zip(flaky.seen, flaky.seen[1:])]
    assert max(waits) < 2 and max(waits) > 0.05
    flaky = Flaky("503")
    proxy = served(flaky, on=["503"], backoff={"base": "20s", "max": "20s"})
    assert proxy.get("/x").status == 200
    assert flaky.seen[1][1] - flaky.seen[0][1] < 10


def test_budget(served):
    """Most requests fail: the rest of the budget is for those that can be helped."""
    flaky = Flaky(*["503"] * 1000)
    proxy = served(flaky, on=["503"], attempts=2, budget="10%", budget_min=0)
    conn = proxy.client()
    for number in range(200):
        assert conn.get("/%d" % number).status == 503
    assert 10 <= len(flaky.seen) - 200 <= 20
    assert proxy.metric("weir_pool_retries_total", pool="app") == len(flaky.seen) - 200
    refused = proxy.metric("weir_pool_retries_refused_total", pool="app")
    assert refused == 400 - len(flaky.seen)
    assert proxy.metric("weir_upstream_retries_refused_total") == refused


def test_budget_min(served):
    flaky = Flaky(*["503"] * 1000)
    proxy = served(flaky, on=["503"], attempts=2, budget="0%", budget_min=1)
    for number in range(20):
        assert proxy.get("/%d" % number).status == 503
    assert 6 <= len(flaky.seen) - 20 <= 10


def test_the_route_timeout_spans_attempts(weir, new_backend):
    flaky = Flaky(*["stall"] * 10)
    proxy = weir({"pools": {"app": {"retry": {"on": ["first_byte"], "per_try_timeout": "150ms",
                                             "attempts": 8}}},
                  "routes": [{"prefix": "/", "pool": "app", "timeout": "400ms"}]},
                 new_backend(flaky), new_backend(flaky))
    start = time.monotonic()
    assert proxy.get("/x").status == 504
    assert time.monotonic() - start < 5
    line = proxy.ended("upstream.timeout", path="/x", status=504)
    flaky.hold.set()
    assert 2 <= line["weir.attempts"] <= 4 and len(flaky.seen) <= 4


def test_a_session_is_not_hedged(served):
    """Who has a sticky cookie waits for the endpoint that knows the session."""
    flaky = Flaky("well", "stall")
    proxy = served(flaky, hedge_after="300ms", budget_min=100,
                   pool={"sticky": {"cookie": "srv"}})
    cookie = proxy.get("/x").get("set-cookie").split(";")[0]
    conn = proxy.client()
    conn.send(wire.request_bytes("GET", "/y", fields=[("Cookie", cookie)]))
    eventually(lambda: len(flaky.seen) == 2)
    time.sleep(0.6)
    assert len(flaky.seen) == 2 and len({address for address, _ in flaky.seen}) == 1
    assert proxy.metric("weir_upstream_hedges_total") == 0
    flaky.moods = ["stall"]
    assert proxy.get("/z").body == b"well"
    assert proxy.metric("weir_upstream_hedges_total") == 1


def test_hedge_after(served):
    """A slow endpoint costs no more than the delay; a POST waits for it."""
    flaky = Flaky("stall")
    proxy = served(flaky, hedge_after="100ms", budget_min=100)
    start = time.monotonic()
    assert proxy.get("/x").body == b"well"
    assert 0.09 < time.monotonic() - start < 10
    assert len({address for address, _ in flaky.seen}) == 2
    line = proxy.logged(path="/x")
    assert line["weir.attempts"] == 2 and line["weir.tries"].endswith(" cancelled")
    assert proxy.metric("weir_upstream_hedges_total") == 1
    assert proxy.metric("weir_upstream_hedges_won_total") == 1
    assert proxy.metric("weir_endpoint_failures_total") == 0
    flaky.moods = ["stall"]
    conn = proxy.client()
    conn.send(wire.request_bytes("POST", "/y", body=b"once"))
    eventually(lambda: len(flaky.seen) == 3)
    time.sleep(0.5)
    assert len(flaky.seen) == 3
    flaky.hold.set()
    assert conn.response().status == 502


class Flapping:
    """A port that listens and does not, in turn, and resets what is open when it stops."""

    def __init__(self):
        self.port = proc.free_port()
        self.sock, self.conns, self.running = None, [], True

    def up(self):
        self.sock = socket.socket()
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.sock.bind(("127.0.0.1", self.port))
        self.sock.listen(128)
        threading.Thread(target=self.accept, args=(self.sock,), daemon=True).start()

    def accept(self, sock):
        while True:
            try:
                conn, _ = sock.accept()
            except OSError:
                return
            self.conns.append(conn)
            threading.Thread(target=self.serve, args=(conn,), daemon=True).start()

    @staticmethod
    def serve(conn):
        data = b""
        try:
            while True:
                got = conn.recv(65536)
                if not got:
                    return
                data += got
                while b"\r\n\r\n" in data:
                    data = data.split(b"\r\n\r\n", 1)[1]
                    conn.sendall(wire.response_bytes())
        except OSError:
            return

    def down(self):
        self.sock.shutdown(socket.SHUT_RDWR)
        self.sock.close()
        conns, self.conns = self.conns, []
        for conn in conns:
            try:
                conn.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                conn.close()
            except OSError:
                pass


def test_a_backend_that_flaps(weir, new_backend):
    """One of two comes and goes under load: no GET fails."""
    flapping = Flapping()
    flapping.up()
    steady = new_backend()
    proxy = weir({"pools": {"app": {"endpoints": [steady.address, "127.0.0.1:%d" % flapping.port],
                                    "outlier": {"eject": "200ms"}}},
                  "routes": [{"prefix": "/", "pool": "app"}]})
    stop, failed, done = threading.Event(), [], [0]

    def load():
        with_conn = proxy.client()
        while not stop.is_set():
            response = with_conn.get("/x")
            done[0] += 1
            if response.status != 200:
                failed.append(response.status)
    threads = [threading.Thread(target=load) for _ in range(8)]
    for thread in threads:
        thread.start()
    for _ in range(6):
        time.sleep(0.25)
        flapping.down()
        time.sleep(0.25)
        flapping.up()
    stop.set()
    for thread in threads:
        thread.join(20)
    flapping.down()
    assert done[0] > 200 and failed == []
    eventually(lambda: proxy.metric("weir_requests_inflight") == 0)


def test_a_hedge_waits_for_a_permit(served):
    """Both endpoints are full when the time for a second attempt comes; it is made when one of
    them is not any more, and costs no budget before."""
    flaky = Flaky("late", "stall")
    proxy = served(flaky, hedge_after="100ms", budget="0%", budget_min=1,
                   pool={"connections": {"max_requests_per_endpoint": 1}})
    first, second = proxy.client(), proxy.client()
    first.send(wire.request_bytes("POST", "/a"))
    eventually(lambda: len(flaky.seen) == 1)
    second.send(wire.request_bytes("GET", "/b"))
    assert second.response("GET").body == b"well" and first.response("POST").body == b"well"
    assert flaky.seen[2][0] == flaky.seen[0][0] != flaky.seen[1][0]
    assert proxy.metric("weir_upstream_hedges_total") == 1
    assert proxy.metric("weir_pool_retries_total") == 1
    assert proxy.metric("weir_pool_retries_refused_total") == 0


def test_retry_after_while_the_others_are_full(served):
    """Another endpoint has no permit left at this moment: that is no reason to give up."""
    flaky = Flaky("late", "busy")
    proxy = served(flaky, on=["503"], pool={"connections": {"max_requests_per_endpoint": 1}})
    first = proxy.client()
    first.send(wire.request_bytes("POST", "/a"))
    eventually(lambda: len(flaky.seen) == 1)
    assert proxy.get("/b").body == b"well" and first.response("POST").body == b"well"


def test_an_endpoint_that_failed_comes_after_those_that_are_full(served):
    """One that fails at once always has room: a request waits for another one (up to backoff.max),
    then asks anybody."""
    flaky = Flaky("late", "503", "503")
    proxy = served(flaky, on=["503"], backoff={"base": "1ms", "max": "10s"},
                   pool={"connections": {"max_requests_per_endpoint": 1, "queue_timeout": "20s"}})
    first = proxy.client()
    first.send(wire.request_bytes("POST", "/a"))
    eventually(lambda: len(flaky.seen) == 1)
    flaky.moods = ["503"]
    assert proxy.get("/b").body == b"well" and first.response("POST").body == b"well"
    assert [address for address, _ in flaky.seen[1:]] == [flaky.seen[1][0], flaky.seen[0][0]]
    flaky.moods, flaky.seen = ["stall", "503"], []
    proxy.change(pools={"app": {"retry": {"backoff": {"base": "1ms", "max": "50ms"}}}})
    proxy.reload()
    first.send(wire.request_bytes("POST", "/c"))
    eventually(lambda: len(flaky.seen) == 1)
    assert proxy.get("/d").body == b"well"
    assert flaky.seen[2][0] == flaky.seen[1][0] != flaky.seen[0][0]
    flaky.hold.set()
