"""Queues and caps of pools: what every key of pools.*.connections does, over two workers."""
import threading

import pytest

from harness import wire
from harness.weir import eventually


class Gate:
    """A handler that holds requests until it is opened, and counts those at one time."""

    def __init__(self, pause=0.0):
        self.lock, self.open = threading.Lock(), threading.Event()
        self.now = self.most = 0
        self.order, self.pause = [], pause

    def __call__(self, _conn, request):
        with self.lock:
            self.now += 1
            self.most = max(self.most, self.now)
            self.order.append(request.path)
        self.open.wait(self.pause or 30)
        with self.lock:
            self.now -= 1
        return wire.response_bytes()


def conf(routes=None, workers=2, **connections):
    return {"process": {"workers": workers},
            "pools": {"app": {"connections": {"queue_timeout": "20s", **connections}}},
            "routes": routes or [{"name": "all", "prefix": "/", "pool": "app"}]}


def send(proxy, target, fields=(), queued=None):
    """A request on a connection of its own; returns when it stands in the queue."""
    conn = proxy.client()
    conn.send(wire.request_bytes(target=target, fields=fields))
    if queued is not None:
        eventually(lambda: proxy.metric("weir_upstream_queued") == queued)
    return conn


@pytest.mark.parametrize("caps, backends", [
    ({"max": 3}, 2), ({"max_requests": 3}, 2), ({"max_requests_per_endpoint": 3}, 1),
    ({"max": 4, "max_requests": 3, "max_per_endpoint": 2}, 2)])
def test_caps_are_exact(weir, new_backend, caps, backends):
    """However many ask at once, no more than so many are worked on; all are answered."""
    gate = Gate(0.01)
    each = [new_backend(gate) for _ in range(backends)]
    proxy = weir(conf(queue=1000, **caps), *each)
    conns = [proxy.client() for _ in range(40)]
    for _ in range(3):
        for conn in conns:
            conn.send(wire.request_bytes(target="/q"))
        for conn in conns:
            assert conn.response().status == 200
    assert 1 <= gate.most <= 3
    if "max" in caps:
        open_now = [c for one in each for c in one.conns if not c.ended.is_set()]
        assert len(open_now) <= caps["max"]
    assert proxy.metric("weir_pool_queue", pool="app") == 0
    assert proxy.metric("weir_pool_queued_total", pool="app") > 20
    assert proxy.metric("weir_pool_queue_seconds_total", pool="app") > 0.1


def test_the_bound_holds_over_workers(weir, new_backend):
    gate = Gate()
    proxy = weir(conf(max_requests=1, queue=4), new_backend(gate))
    held = [send(proxy, "/held") for _ in range(5)]
    eventually(lambda: proxy.metric("weir_pool_queue", pool="app") == 4)
    for _ in range(6):
        assert proxy.get("/full").status == 503
    proxy.ended("upstream.queue.full", path="/full", status=503)
    gate.open.set()
    for conn in held:
        assert conn.response().status == 200


def test_the_oldest_comes_first_over_workers(weir, new_backend):
    gate = Gate()
    proxy = weir(conf(max_requests=1), new_backend(gate))
    first = send(proxy, "/first")
    eventually(lambda: gate.order == ["/first"])
    conns = [send(proxy, "/%02d" % n, queued=n + 1) for n in range(12)]
    gate.open.set()
    for conn in [first] + conns:
        assert conn.response().status == 200
    assert gate.order == ["/first"] + ["/%02d" % n for n in range(12)]


ROOM = [
    {"connections": {"max": 5}}, {"connections": {"max_per_endpoint": 5, "max": None}},
    {"connections": {"max": None}}]


@pytest.mark.parametrize("room", ROOM, ids=["more", "other", "none"])
@pytest.mark.parametrize("workers", [1, 2])
def test_a_reload_gives_room(weir, new_backend, workers, room):
    """Who waits is served when caps are raised or go, and so is who comes then."""
    gate = Gate()
    proxy = weir(conf(workers=workers, max=1, queue_timeout="10m"), new_backend(gate))
    conns = [send(proxy, "/held")]
    eventually(lambda: gate.order == ["/held"])
    conns += [send(proxy, "/%d" % n, queued=n + 1) for n in range(3)]
    proxy.change(pools={"app": room})
    proxy.reload()
    eventually(lambda: gate.now == 4)
    conns.append(send(proxy, "/new"))
    eventually(lambda: gate.now == 5)
    gate.open.set()
    for conn in conns:
        assert conn.response().status == 200


@pytest.mark.parametrize("workers", [1, 2])
def test_an_endpoint_is_added(weir, new_backend, workers):
    """Its connections are for those who wait, in their order."""
    gate = Gate()
    backends = [new_backend(gate), new_backend(gate)]
    proxy = weir(conf(workers=workers, max_per_endpoint=1, queue_timeout="10m"), backends[0])
    conns = [send(proxy, "/held")]
    eventually(lambda: gate.order == ["/held"])
    conns += [send(proxy, "/%d" % n, queued=n + 1) for n in range(2)]
    proxy.change(pools={"app": {"endpoints": [each.address for each in backends]}})
    proxy.reload()
    eventually(lambda: gate.order == ["/held", "/0"])
    assert proxy.metric("weir_upstream_queued") == 1
    gate.open.set()
    for conn in conns:
        assert conn.response().status == 200


def test_an_endpoint_comes_back(weir, new_backend):
    """By a check: who waits for the other one is served by it."""
    gate = Gate()
    ill = threading.Event()

    def second(conn, request):
        if request.path == "/health":
            return wire.response_bytes(503 if ill.is_set() else 200)
        return gate(conn, request)

    def first(conn, request):
        return wire.response_bytes() if request.path == "/health" else gate(conn, request)

    ill.set()
    made = conf(max_requests_per_endpoint=1, queue_timeout="10m")
    made["pools"]["app"]["health"] = {"path": "/health", "interval": "20ms", "timeout": "10s",
                                      "healthy": 1, "unhealthy": 1}
    away = new_backend(second)
    proxy = weir(made, new_backend(first), away)
    eventually(lambda: proxy.metric("weir_endpoint_up", pool="app", endpoint=away.address) == 0)
    conns = [send(proxy, "/held")]
    eventually(lambda: gate.order == ["/held"])
    conns.append(send(proxy, "/waits", queued=1))
    ill.clear()
    eventually(lambda: gate.order == ["/held", "/waits"])
    gate.open.set()
    for conn in conns:
        assert conn.response().status == 200


def test_priority_by_header_and_route(weir, new_backend):
    gate = Gate()
    routes = [{"name": "all", "prefix": "/", "pool": "app"},
              {"name": "slow", "prefix": "/slow", "pool": "app", "priority": 6},
              {"name": "fast", "prefix": "/fast", "pool": "app", "priority": 0}]
    proxy = weir(conf(routes, max_requests=1, priority={"header": "Priority"}), new_backend(gate))
    conns = [send(proxy, "/first")]
    eventually(lambda: gate.order == ["/first"])
    wanted = [("/slow/1", ()), ("/a", ()), ("/fast/1", ()), ("/b", (("Priority", "u=7"),)),
              ("/c", (("Priority", "u=1, i"),)), ("/slow/2", (("priority", "2"),)), ("/d", ())]
    for n, (target, fields) in enumerate(wanted):
        conns.append(send(proxy, target, fields, queued=n + 1))
    gate.open.set()
    for conn in conns:
        assert conn.response().status == 200
    assert gate.order == ["/first", "/fast/1", "/c", "/slow/2", "/a", "/d", "/slow/1", "/b"]


@pytest.mark.parametrize("fields, order", [
    ({"remove": ["Priority"]}, ["/first", "/a", "/sly"]),
    ({"set": ["Priority: 5"]}, ["/first", "/fast", "/a", "/sly"])])
def test_priority_is_what_the_policies_left(weir, new_backend, fields, order):
    """A field that a policy took out, or replaced, says nothing: the endpoint does not see it."""
    gate = Gate()
    routes = [{"name": "all", "prefix": "/", "pool": "app", "policies": ["rank"]},
              {"name": "fast", "prefix": "/fast", "pool": "app", "priority": 4}]
    text = conf(routes, workers=1, max_requests=1, priority={"header": "Priority"})
    text["policies"] = {"rank": {"request_headers": fields}}
    proxy = weir(text, new_backend(gate))
    conns = [send(proxy, "/first")]
    eventually(lambda: gate.order == ["/first"])
    for n, target in enumerate(order[-2:] + order[1:-2]):
        priority = (("Priority", "0"),) if target == "/sly" else ()
        conns.append(send(proxy, target, priority, queued=n + 1))
    gate.open.set()
    for conn in conns:
        assert conn.response().status == 200
    assert gate.order == order


def test_a_flood_of_one_route_does_not_hold_up_another(weir, new_backend):
    gate = Gate()
    routes = [{"name": "all", "prefix": "/", "pool": "app"},
              {"name": "quiet", "prefix": "/quiet", "pool": "app"}]
    proxy = weir(conf(routes, max_requests=1), new_backend(gate))
    conns = [send(proxy, "/first")]
    eventually(lambda: gate.order == ["/first"])
    for n in range(10):
        conns.append(send(proxy, "/flood/%d" % n, queued=n + 1))
    conns.append(send(proxy, "/quiet/1", queued=11))
    conns.append(send(proxy, "/quiet/2", queued=12))
    gate.open.set()
    for conn in conns:
        assert conn.response().status == 200
    assert gate.order.index("/quiet/1") <= 2
    assert gate.order.index("/quiet/2") <= 4


def test_a_full_queue_gives_way_to_the_better_claim(weir, new_backend):
    gate = Gate()
    routes = [{"name": "all", "prefix": "/", "pool": "app"},
              {"name": "fast", "prefix": "/fast", "pool": "app", "priority": 0}]
    proxy = weir(conf(routes, workers=1, max_requests=1, queue=2), new_backend(gate))
    conns = [send(proxy, "/first")]
    eventually(lambda: gate.order == ["/first"])
    conns += [send(proxy, "/a", queued=1)]
    late = send(proxy, "/b", queued=2)
    fast = send(proxy, "/fast")
    assert late.response().status == 503
    proxy.ended("upstream.queue.displaced", path="/b", status=503)
    gate.open.set()
    for conn in conns + [fast]:
        assert conn.response().status == 200
    assert gate.order == ["/first", "/fast", "/a"]


def test_connections_of_other_workers_are_given_up(weir, new_backend):
    """Idle connections hold permits: a worker without any gets one from a worker that has some."""
    backend = new_backend()
    proxy = weir(conf(max=2, queue_timeout="5s"), backend)
    conns = [proxy.client() for _ in range(16)]  # over both workers
    for _ in range(3):
        for conn in conns:  # one at a time: each may find the permits on the other side
            conn.send(wire.request_bytes(target="/x"))
            assert conn.response().status == 200
    assert len([c for c in backend.conns if not c.ended.is_set()]) <= 2
