"""Balancing as a client and an operator see it: policies, keys, tiers, panic, slow start."""
import threading
from collections import Counter

import pytest

from harness import confgen, proc, wire
from harness.backend import raw
from harness.weir import eventually

ROUTES = [{"name": "all", "prefix": "/", "pool": "app"}]
ONE = {"process": {"workers": 1}}
NEVER = {"outlier": {"consecutive_failures": 0}}


def counts(backends):
    return [len(b.requests) for b in backends]


def pool(backends, *extra, **settings):
    """The conf of one pool; extra gives keys of each endpoint in turn."""
    rows = [dict({"address": each.address}, **(extra[i] if i < len(extra) else {}))
            for i, each in enumerate(backends)]
    return dict(ONE, pools={"app": dict({"endpoints": rows}, **settings)}, routes=ROUTES)


def named(new_backend, count):
    """Backends that answer with their own number."""
    return [new_backend(raw(wire.response_bytes(body=b"%d" % i))) for i in range(count)]


def went_to(proxy, fields=(), target="/", conn=None):
    response = (conn or proxy).get(target, fields)
    assert response.status == 200, response
    return int(response.body)


# ---- policies ----


def test_random_by_weight(weir, new_backend):
    backends = named(new_backend, 3)
    conn = weir(pool(backends, {"weight": 3}, {"weight": 1}, {"weight": 0},
                     balance="random")).client()
    for _ in range(400):
        went_to(None, conn=conn)
    heavy, light, none = counts(backends)
    assert none == 0 and heavy + light == 400
    assert 250 < heavy < 350  # 300; six standard deviations are 52


def test_round_robin_is_smooth(weir, new_backend):
    backends = named(new_backend, 3)
    conn = weir(pool(backends, {"weight": 5}, balance="round_robin")).client()
    assert [went_to(None, conn=conn) for _ in range(14)] == [0, 0, 1, 0, 2, 0, 0] * 2


def test_peak_ewma_prefers_the_fast_one(weir, new_backend):
    """Both idle at each choice, so load says nothing: only latency does. A busy machine may make
    the fast one look slow now and then."""
    slow = new_backend(raw(0.3, wire.response_bytes(body=b"0")))
    fast = new_backend(raw(wire.response_bytes(body=b"1")))
    conn = weir(pool([slow, fast], balance="peak_ewma")).client()
    for _ in range(100):
        went_to(None, conn=conn)
    assert 1 <= len(slow.requests) <= 15, counts([slow, fast])


def test_peak_ewma_is_not_fooled_by_fast_failures(weir, new_backend):
    broken = new_backend(raw(wire.response_bytes(503, reason="Broken")))
    good = new_backend(raw(0.01, wire.response_bytes(body=b"1")))
    conn = weir(pool([broken, good], balance="peak_ewma", **NEVER)).client()
    for _ in range(60):
        conn.get("/")
    assert 1 <= len(broken.requests) <= 15, counts([broken, good])


# ---- hash keys ----

KEYS = {
    "header:X-User": lambda user: {"fields": [("X-User", user)]},
    "cookie:user": lambda user: {"fields": [("Cookie", "a=1; user=%s; b=2" % user)]},
    "query:user": lambda user: {"target": "/x?a=1&user=%s" % user},
    "path": lambda user: {"target": "/%s" % user},
}


@pytest.mark.parametrize("balance", ["ring", "maglev"])
@pytest.mark.parametrize("key", list(KEYS))
def test_a_key_has_a_home(weir, new_backend, balance, key):
    """The same value goes to one endpoint, values are spread over all, and a second weir that
    names the endpoints in another order agrees."""
    backends = named(new_backend, 4)
    settings = {"balance": balance, "hash": key}
    conn = weir(pool(backends, **settings)).client()
    other = weir(pool(backends[::-1], **settings)).client()
    homes = {}
    for user in map(str, range(40)):
        homes[user] = went_to(None, conn=conn, **KEYS[key](user))
        for again in (conn, other):
            assert went_to(None, conn=again, **KEYS[key](user)) == homes[user]
    spread = Counter(homes.values())
    assert len(spread) == 4 and max(spread.values()) <= 25, spread


def test_keys_are_read_before_the_filters(weir, new_backend):
    """A policy takes the field away before it is forwarded; its request keeps its endpoint, as it
    keeps its part of a split."""
    backends = named(new_backend, 4)
    conf = pool(backends, balance="maglev", hash="header:X-User")
    conf["policies"] = {"hide": {"request_headers": {"remove": ["X-User"]}}}
    conf["routes"] = [dict(ROUTES[0], policies=["hide"])]
    conn = weir(conf).client()
    for user in range(24):
        homes = {went_to(None, [("X-User", "u%d" % user)], conn=conn) for _ in range(4)}
        assert len(homes) == 1, homes
    assert not any(r.all("x-user") for each in backends for r in each.requests)


def test_hash_of_the_client_address(weir, new_backend):
    """Of client.address: behind a trusted proxy the client's own, otherwise the peer's."""
    backends = named(new_backend, 4)
    conf = pool(backends, balance="maglev", hash="client_ip")
    plain = weir(conf).client()
    trusting = weir(confgen.merge(conf, {"listeners": {"web": {
        "trusted_proxies": ["127.0.0.1"]}}})).client()

    def from_client(number):
        return [("X-Forwarded-For", "192.0.2.%d" % number)]
    homes = {}
    for number in range(256):  # 30 miss one of four at 7 in 10,000 runs: then some more
        if number >= 30 and len(set(homes.values())) == 4:
            break
        homes[number] = went_to(None, from_client(number), conn=trusting)
    assert len(set(homes.values())) == 4
    for number, home in homes.items():
        assert went_to(None, from_client(number), conn=trusting) == home
    assert len({went_to(None, from_client(number), conn=plain) for number in range(30)}) == 1


def test_without_the_key_requests_are_spread(weir, new_backend):
    backends = named(new_backend, 3)
    conn = weir(pool(backends, balance="ring", hash="cookie:user")).client()
    for _ in range(90):
        went_to(None, [("Cookie", "users=1; User=2; user=")], conn=conn)
    assert min(counts(backends)) >= 10, counts(backends)


def test_an_endpoint_that_is_out_moves_its_keys_only(weir, new_backend):
    backends = named(new_backend, 4)
    proxy = weir(pool(backends, balance="ring", hash="path",
                      outlier={"consecutive_failures": 1, "eject": "1h"}))
    conn = proxy.client()
    homes = {i: went_to(None, target="/%d" % i, conn=conn) for i in range(60)}
    backends[2].stop()
    moved = {i: went_to(None, target="/%d" % i, conn=conn) for i in range(60)}
    assert all(moved[i] == home for i, home in homes.items() if home != 2)
    assert {moved[i] for i, home in homes.items() if home == 2} <= {0, 1, 3}


class Holding:
    """A handler that answers when it is told to."""

    def __init__(self):
        self.go = threading.Event()

    def __call__(self, _conn, _request):
        self.go.wait(60)
        return wire.response_bytes()


@pytest.mark.parametrize("bound, most", [("125%", 5), ("200%", 8), ("0%", 12)])
def test_bounded_load(weir, new_backend, bound, most):
    """Twelve requests of one key at once over three endpoints: at home ceil(c * 12 / 3)."""
    hold = Holding()
    backends = [new_backend(hold) for _ in range(3)]
    proxy = weir(pool(backends, balance="maglev", hash="header:X-User", bounded_load=bound))
    held = [proxy.client() for _ in range(12)]
    for i, conn in enumerate(held):
        conn.send(wire.request_bytes(fields=[("X-User", "hot")]))
        eventually(lambda n=i: sum(counts(backends)) == n + 1)
    hold.go.set()
    assert max(counts(backends)) == most, counts(backends)
    for conn in held:
        assert conn.response().status == 200


# ---- tiers, panic ----


def dead():
    """An endpoint that refuses connections, and has a name of its own."""
    class Dead:
        address = "127.0.0.1:%d" % proc.free_port()
    return Dead


EJECTS = {"outlier": {"consecutive_failures": 1, "eject": "1h", "max_ejected": "100%"}}


def settled(proxy, ejections):
    """Sends until so many endpoints are out of service."""
    conn = proxy.client()

    def out():
        conn.get("/")
        return proxy.metric("weir_upstream_ejections_total") == ejections
    eventually(out)
    return conn


# 5 standard deviations of 400 draws: 9.0 about 114, 10 about 200.
@pytest.mark.parametrize("overflow, low, high", [("70%", 69, 160), ("50%", 400, 400),
                                                 ("100%", 150, 250)])
def test_priority_overflow(weir, new_backend, overflow, low, high):
    """Half of priority 0 is out: it keeps 50/70 of the traffic by default, all of it with 50%,
    half of it with 100%."""
    first, second = named(new_backend, 2)
    gone = dead()
    proxy = weir(pool([second, gone, first], {"priority": 1}, balance="random",
                      overflow=overflow, **EJECTS))
    conn = settled(proxy, 1)
    before = counts([first, second])
    for _ in range(400):
        assert conn.get("/").status == 200
    at_first, at_second = (now - was for now, was in zip(counts([first, second]), before))
    assert at_first + at_second == 400
    if overflow == "50%":
        assert at_first == 400
    else:
        assert low <= at_second <= high, (at_first, at_second)


def test_priority_rests_while_the_first_is_well(weir, new_backend):
    backends = named(new_backend, 3)
    conn = weir(pool(backends, {}, {"priority": 3}, {"backup": True})).client()
    for _ in range(50):
        went_to(None, conn=conn)
    assert counts(backends) == [50, 0, 0]


def test_priorities_then_backups(weir, new_backend):
    backends = named(new_backend, 3)
    proxy = weir(pool(backends, {}, {"priority": 3}, {"backup": True}, **EJECTS))
    assert went_to(proxy) == 0
    backends[0].stop()
    eventually(lambda: proxy.get("/").body == b"1")
    backends[1].stop()
    eventually(lambda: proxy.get("/").body == b"2")


@pytest.mark.parametrize("panic", ["0%", "50%"])
def test_panic(weir, new_backend, panic):
    """Three of four are out: with panic all are used, also those."""
    good = new_backend()
    gone = [new_backend(raw(wire.response_bytes(500, reason="Bad"))) for _ in range(3)]
    proxy = weir(pool([good] + gone, balance="round_robin", panic=panic, outlier={
        "consecutive_5xx": 1, "eject": "1h", "max_ejected": "100%"}))
    conn = settled(proxy, 3)
    before = counts(gone)
    statuses = Counter(conn.get("/").status for _ in range(80))
    if panic == "0%":
        assert statuses == {200: 80} and counts(gone) == before
        assert proxy.metric("weir_pool_panics_total", pool="app") == 0
    else:
        assert statuses[500] >= 40, statuses
        assert proxy.metric("weir_pool_panics_total", pool="app") > 40


# ---- slow start ----


@pytest.mark.parametrize("slow_start, share", [("1h", 18), ("0s", 100)])
def test_slow_start_of_a_new_endpoint(weir, new_backend, slow_start, share):
    """Beside one that was there a new one begins with a tenth of its weight: 0.1 / 1.1."""
    backends = named(new_backend, 2)
    conf = pool(backends[:1], balance="round_robin", slow_start=slow_start)
    proxy = weir(conf)
    assert went_to(proxy) == 0
    proxy.change(pools={"app": {"endpoints": [each.address for each in backends]}})
    proxy.reload()
    conn = proxy.client()
    for _ in range(200):
        went_to(None, conn=conn)
    assert abs(len(backends[1].requests) - share) <= 1, counts(backends)


def test_no_slow_start_at_the_start(weir, new_backend):
    backends = named(new_backend, 3)
    conn = weir(pool(backends, balance="round_robin", slow_start="1h")).client()
    for _ in range(60):
        went_to(None, conn=conn)
    assert counts(backends) == [20, 20, 20]


def test_slow_start_over_a_short_time(weir, new_backend):
    """It ends: after the time shares are even."""
    backends = named(new_backend, 2)
    proxy = weir(pool(backends[:1], balance="round_robin", slow_start="200ms"))
    proxy.change(pools={"app": {"endpoints": [each.address for each in backends]}})
    proxy.reload()
    conn = proxy.client()

    def even():
        return [went_to(None, conn=conn) for _ in range(10)].count(1) == 5
    eventually(even)


# ---- reload ----


def test_changed_priorities_keep_connections(weir, new_backend):
    backends = named(new_backend, 2)
    proxy = weir(pool(backends, {}, {"priority": 1}))
    assert went_to(proxy) == 0
    proxy.change(pools={"app": {"endpoints": [
        {"address": backends[0].address, "priority": 1}, {"address": backends[1].address}]}})
    proxy.reload()
    assert went_to(proxy) == 1
    proxy.change(pools={"app": {"endpoints": [
        {"address": backends[0].address}, {"address": backends[1].address, "weight": 0}]}})
    proxy.reload()
    assert went_to(proxy) == 0
    assert len(backends[0].conns) == 1


def test_changed_policy(weir, new_backend):
    backends = named(new_backend, 2)
    proxy = weir(pool(backends, balance="round_robin"))
    conn = proxy.client()
    assert [went_to(None, conn=conn) for _ in range(4)] == [0, 1, 0, 1]
    proxy.change(pools={"app": {"balance": "ring", "hash": "path"}})
    proxy.reload()
    assert len({went_to(None, target="/same", conn=conn) for _ in range(20)}) == 1
