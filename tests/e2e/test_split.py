"""Routes that part their requests among pools: shares, who stays where, pools that are out."""
from collections import Counter

from harness import proc, wire
from harness.backend import raw


def conf_of(pools, split, **route):
    rows = [{"pool": name} if weight is None else {"pool": name, "weight": weight}
            for name, weight in split]
    return {"process": {"workers": 2},
            "pools": {name: {"endpoints": [address]} for name, address in pools.items()},
            "routes": [dict({"name": "part", "prefix": "/", "split": rows}, **route)]}


def three(new_backend):
    return {name: new_backend(raw(wire.response_bytes(body=name.encode())))
            for name in ("a", "b", "c")}


def addresses(backends):
    return {name: each.address for name, each in backends.items()}


def share(proxy, count, **kwargs):
    seen = Counter()
    conn = proxy.client()
    for i in range(count):
        fields = [(name, text % i) for name, text in kwargs.items()]
        response = conn.get("/%d" % i, [(name.replace("_", "-"), text) for name, text in fields])
        seen[response.body.decode() if response.status == 200 else response.status] += 1
    return seen


def test_shares(weir, new_backend):
    """Three to one; a part without weight gets nothing; each is counted and logged by its pool."""
    backends = three(new_backend)
    proxy = weir(conf_of(addresses(backends), [("a", 3), ("b", None), ("c", 0)]))
    seen = share(proxy, 400)
    assert set(seen) == {"a", "b"} and 250 < seen["a"] < 350, seen
    for name in ("a", "b", "c"):
        assert proxy.metric("weir_pool_requests_total", pool=name) == seen[name]
    proxy.settle()
    logged = Counter(record["weir.pool"] for record in proxy.lines() if record["http.route"])
    assert logged == {"a": seen["a"], "b": seen["b"]}


def test_the_drawn_pool_is_known_to_policies(weir, new_backend):
    """${pool.name} is the part that was drawn, in what is sent and in what is answered."""
    backends = three(new_backend)
    conf = conf_of(addresses(backends), [("a", 1), ("b", 1)], policies=["told"])
    conf["policies"] = {"told": {"request_headers": {"set": ["X-Pool: ${pool.name}"]},
                                 "response_headers": {"set": ["X-Pool: ${pool.name}"]}}}
    conn = weir(conf).client()
    seen = {conn.get("/").all("x-pool")[0] for _ in range(40)}
    assert seen == {"a", "b"}
    for name in seen:
        assert backends[name].last.all("x-pool") == [name]


def test_split_by_header(weir, new_backend):
    """The same value stays with its part; without one each request is drawn by itself."""
    backends = three(new_backend)
    proxy = weir(conf_of(addresses(backends), [("a", 1), ("b", 1)], split_by="header:X-User"))
    conn = proxy.client()
    parts = {}
    for _ in range(3):
        for user in range(60):
            went = conn.get("/", [("X-User", "u%d" % user)]).body
            assert parts.setdefault(user, went) == went
    assert 15 <= Counter(parts.values())[b"a"] <= 45
    assert len({conn.get("/").body for _ in range(40)}) == 2


def test_a_grown_part_takes_and_gives_to_nobody_else(weir, new_backend):
    """From 50:50 to 80:20 users move to the first part only, and about 30 in 100 do. The same
    holds for another weir."""
    backends = three(new_backend)
    rows = [("a", 50), ("b", 50)]
    proxy = weir(conf_of(addresses(backends), rows, split_by="cookie:id"))
    conn = proxy.client()

    def parts(of):
        return {user: of.get("/", [("Cookie", "id=%d" % user)]).body for user in range(200)}
    before = parts(conn)
    proxy.change(routes=conf_of({}, [("a", 80), ("b", 20)], split_by="cookie:id")["routes"])
    proxy.reload()
    after = parts(conn)
    moved = [user for user in before if before[user] != after[user]]
    assert all(after[user] == b"a" for user in moved) and 30 <= len(moved) <= 90
    twin = weir(conf_of(addresses(backends), [("a", 80), ("b", 20)], split_by="cookie:id"))
    assert parts(twin.client()) == after


def test_two_routes_draw_apart(weir, new_backend):
    """Who is in the small part of one route is not for that in that of the other."""
    backends = three(new_backend)
    rows = [{"pool": "a"}, {"pool": "b"}]
    conf = conf_of(addresses(backends), [("a", 1), ("b", 1)])
    conf["routes"] = [
        {"name": name, "prefix": "/" + name, "split": rows, "split_by": "header:X-User"}
        for name in ("one", "two")]
    conn = weir(conf).client()
    pairs = Counter(tuple(conn.get("/" + name, [("X-User", "u%d" % i)]).body
                          for name in ("one", "two")) for i in range(80))
    assert len(pairs) == 4, pairs


def test_a_part_without_endpoints(weir, new_backend):
    """By default its requests fail, as they would with a route of its own."""
    backends = three(new_backend)
    pools = dict(addresses(backends), b="127.0.0.1:%d" % proc.free_port())
    conf = conf_of(pools, [("a", 1), ("b", 1)])
    conf["pools"]["b"]["outlier"] = {"consecutive_failures": 1, "eject": "1h",
                                     "max_ejected": "100%"}
    proxy = weir(conf)
    seen = share(proxy, 60)
    assert seen["a"] >= 10 and seen[502] == 1 and seen[503] >= 10, seen
    record = proxy.ended("upstream.none_healthy", status=503)
    assert record["weir.pool"] == "b"


def test_split_failover(weir, new_backend):
    backends = three(new_backend)
    pools = dict(addresses(backends), b="127.0.0.1:%d" % proc.free_port())
    conf = conf_of(pools, [("a", 1), ("b", 1), ("c", 2)], split_failover=True)
    conf["pools"]["b"]["outlier"] = {"consecutive_failures": 1, "eject": "1h",
                                     "max_ejected": "100%"}
    proxy = weir(conf)
    seen = share(proxy, 120)
    assert seen[503] == 0 and seen[502] == 1, seen
    assert seen["c"] > seen["a"] > 10, seen  # c took b's share: it is the heaviest


def test_split_with_filters(weir, new_backend):
    """A split is an action like pool: strip_prefix and timeout hold."""
    backends = three(new_backend)
    proxy = weir(conf_of(addresses(backends), [("a", 1)], prefix="/api", strip_prefix=True))
    assert proxy.get("/api/x").status == 200
    assert backends["a"].last.path == "/x"


def test_reload_of_a_part(weir, new_backend):
    """A pool that changes under a split is taken; the route goes on."""
    backends = three(new_backend)
    proxy = weir(conf_of(addresses(backends), [("a", 1)]))
    assert proxy.get("/").body == b"a"
    proxy.change(pools={"a": {"endpoints": [backends["b"].address]}})
    proxy.reload()
    assert proxy.get("/").body == b"b"
    proxy.change(routes=conf_of({}, [("c", 1)])["routes"])
    proxy.reload()
    assert proxy.get("/").body == b"c"
