"""Names that stand for endpoints: addresses and SRV records from a DNS server of our own, its
failures, and what a change leaves alone (packaging/docs/discovery.md)."""
import json
import threading

import pytest

from harness import load, proc, wire
from harness.backend import Backend, raw
from harness.dns import A, AAAA, Dns
from harness.weir import eventually, run

NAME, SRV_NAME = "svc.test", "_http._tcp.svc.test"
# Quick, so that tests are: what is measured are orders and counts, never speed. A server that
# answers has time for it: a question that is asked again would count twice.
QUICK = {"min_ttl": "30ms", "max_ttl": "1h", "timeout": "5s", "attempts": 2, "retry": "30ms",
         "max_retry": "60ms", "jitter": "0%"}
LONG = {"min_ttl": "1h", "max_ttl": "1h", "retry": "1h", "max_retry": "1h"}


@pytest.fixture
def dns():
    made = Dns()
    yield made
    made.stop()


@pytest.fixture
def fleet(new_backend):
    """Backends on 127.0.0.2, 127.0.0.3, ... with one port, as a name's addresses have."""
    def make(count, *handlers):
        for _ in range(50):
            port, made = proc.free_port(), []
            try:
                for i in range(count):
                    handler = handlers[i] if i < len(handlers) else None
                    made.append(Backend(handler, host="127.0.0.%d" % (i + 2), port=port))
            except OSError:
                for each in made:
                    each.stop()
                continue
            new_backend.extend(made)
            return made
        raise AssertionError("no free port")
    return make


def hosts(backends):
    return [each.address.rpartition(":")[0] for each in backends]


def discover(server, port, **over):
    return {"dns": "%s:%d" % (NAME, port), "servers": [server.address], **QUICK, **over}


def conf(server, port, pool=None, **over):
    return {"process": {"workers": 1},
            "pools": {"app": {"balance": "round_robin", "discover": discover(server, port, **over),
                              **(pool or {})}},
            "routes": [{"name": "all", "prefix": "/", "pool": "app"}]}


def status(proxy):
    return json.loads(proxy.status_get("/-/status").body)


def endpoints(proxy, pool="app"):
    """{resolved address: row}; names without any are left out."""
    return {row["endpoint"]: row for row in status(proxy)["endpoints"]
            if row["pool"] == pool and row["endpoint"]}


def name_row(proxy, name=NAME):
    return next((row for row in status(proxy)["names"] if row["name"] == name), None)


def becomes(proxy, backends, pool="app"):
    """Waits until these, and no others, are the pool's endpoints."""
    wanted = {each.address for each in backends}

    def so():
        return set(endpoints(proxy, pool)) == wanted
    so.__doc__ = "the endpoints become %s; they are %s\n%s" % (wanted, endpoints(proxy, pool),
                                                               proxy.errors)
    eventually(so)


def state_becomes(proxy, word, name=NAME):
    def so():
        row = name_row(proxy, name)
        return row and row["state"] == word and row
    so.__doc__ = "%s is %s; it is %s" % (name, word, name_row(proxy, name))
    return eventually(so)


def asked_more(dns, times, name=NAME):
    """Waits for so many further questions."""
    before = dns.count(name)
    eventually(lambda: dns.count(name) >= before + times)


def reaches(proxy, backends, requests=12):
    """Requests are answered, and each of these backends gets some of them."""
    before = [len(each.requests) for each in backends]
    for number in range(requests):
        assert proxy.get("/r%d" % number).status == 200
    assert all(len(each.requests) > was for each, was in zip(backends, before))


# ---- addresses ----


def test_addresses_are_endpoints(weir, dns, fleet):
    backends = fleet(3)
    dns.set(NAME, a=hosts(backends))
    proxy = weir(conf(dns, backends[0].port))
    becomes(proxy, backends)
    reaches(proxy, backends)
    assert proxy.metric("weir_pool_endpoints", pool="app") == 3
    assert proxy.logged(path="/r0")["weir.endpoint"] in {each.address for each in backends}
    row = name_row(proxy)
    assert row["state"] == "resolved" and row["addresses"] == 3 and row["type"] == "address", row


def test_named_endpoints(weir, dns, fleet):
    """Names in endpoints are asked for again too; addresses beside them stay as they are."""
    backends = fleet(3)
    dns.set(NAME, a=hosts(backends[:1]))
    port = backends[0].port
    settings = {key: item for key, item in discover(dns, port).items() if key != "dns"}
    proxy = weir({"pools": {"app": {"endpoints": ["%s:%d" % (NAME, port), backends[2].address],
                                    "balance": "round_robin", "discover": settings}},
                  "routes": [{"prefix": "/", "pool": "app"}]})
    becomes(proxy, [backends[0], backends[2]])
    dns.set(NAME, a=hosts(backends[1:2]))
    becomes(proxy, backends[1:])
    reaches(proxy, backends[1:])


def test_changes_without_a_reload(weir, dns, fleet):
    backends = fleet(3)
    port = backends[0].port
    dns.set(NAME, a=hosts(backends[:1]))
    proxy = weir(conf(dns, port))
    becomes(proxy, backends[:1])
    revision = proxy.metric("weir_config_revision")
    dns.set(NAME, a=hosts(backends))
    becomes(proxy, backends)
    reaches(proxy, backends)
    dns.set(NAME, a=hosts(backends[2:]))
    becomes(proxy, backends[2:])
    reaches(proxy, backends[2:])
    assert proxy.generation() == 1 and proxy.metric("weir_config_reloads_total") == 0
    assert proxy.metric("weir_config_revision") == revision + 2
    proxy.stderr_has("names resolved anew: ~ pool app: endpoint %s:%d (%s) added" % (
        NAME, port, backends[1].address))
    proxy.stderr_has("endpoint %s:%d (%s) removed" % (NAME, port, backends[0].address))


def test_hosts_file_comes_first(weir, dns, backend):
    dns.set("localhost", a=["127.0.0.9"])
    proxy = weir(conf(dns, backend.port, dns="localhost:%d" % backend.port, family="v4"))
    becomes(proxy, [backend])
    assert dns.count("localhost") == 0


def test_aliases(weir, dns, fleet):
    backends = fleet(2)
    dns.set(NAME, cname="alias.test", ttl=40)
    dns.set("alias.test", cname="real.test", ttl=20)
    dns.set("real.test", a=hosts(backends), ttl=30)
    proxy = weir(conf(dns, backends[0].port))
    becomes(proxy, backends)
    assert name_row(proxy)["ttl_ms"] == 20000


def test_order_and_doubles_are_no_change(weir, dns, fleet):
    backends = fleet(4)
    dns.set(NAME, a=hosts(backends) + hosts(backends[:2]))  # the server turns them each time
    proxy = weir(conf(dns, backends[0].port))
    becomes(proxy, backends)
    revision = proxy.metric("weir_config_revision")
    asked_more(dns, 40)
    assert proxy.metric("weir_config_revision") == revision
    assert proxy.errors.count("resolved anew") <= 1, proxy.errors


def test_many_addresses_over_tcp(weir, dns):
    """More than fit a datagram; more than are used: the same ones each time."""
    every = ["127.1.%d.%d" % (i // 200, i % 200 + 1) for i in range(400)]
    dns.set(NAME, a=every)
    proxy = weir(conf(dns, 80))
    eventually(lambda: proxy.metric("weir_pool_endpoints", pool="app") == 256)
    assert any(proto == "tcp" for _, _, proto in dns.asked)
    proxy.stderr_has("%s: has 400 addresses; the first 256 are used" % NAME)
    revision = proxy.metric("weir_config_revision")
    asked_more(dns, 12)
    assert proxy.metric("weir_config_revision") == revision
    assert set(endpoints(proxy)) == {ip + ":80" for ip in every[:256]}
    assert "144 further" in name_row(proxy)["reason"]
    assert proxy.errors.count("has 400 addresses") == 1


def test_answers_are_data(weir, dns):
    """Whatever the address: who controls the DNS controls where requests go. An IPv4 address
    in the form of IPv6 is the IPv4 one."""
    dns.set(NAME, a=["0.0.0.0", "127.0.0.1", "224.0.0.1"], aaaa=["::ffff:127.0.0.1", "::1"])
    proxy = weir(conf(dns, 81))
    eventually(lambda: set(endpoints(proxy)) == {
        "0.0.0.0:81", "127.0.0.1:81", "224.0.0.1:81", "[::1]:81"})


# ---- keys ----


@pytest.mark.parametrize("family, wanted, kinds", [
    ("any", {"127.0.0.2:82", "[::1]:82"}, {A, AAAA}), ("v4", {"127.0.0.2:82"}, {A}),
    ("v6", {"[::1]:82"}, {AAAA})])
def test_family(weir, dns, family, wanted, kinds):
    dns.set(NAME, a=["127.0.0.2"], aaaa=["::1"])
    proxy = weir(conf(dns, 82, family=family))
    eventually(lambda: set(endpoints(proxy)) == wanted)
    assert {kind for _, kind, _ in dns.asked} == kinds


def test_family_of_mapped_addresses(weir, dns):
    """An AAAA record can hold an IPv4 address: one of IPv4, which family = "v6" leaves out."""
    dns.set(NAME, aaaa=["::ffff:127.0.0.2", "::1"])
    proxy = weir(conf(dns, 82, family="v6"))
    eventually(lambda: set(endpoints(proxy)) == {"[::1]:82"})
    dns.set(NAME, aaaa=["::ffff:127.0.0.2"])
    row = state_becomes(proxy, "kept")
    assert "no such record" in row["reason"], row


def two_pools(dns, first, second):
    """Two names, one.test and two.test, with other keys each."""
    pools = {name: {"discover": discover(dns, 83, dns="%s.test:83" % name, family="v4", **over)}
             for name, over in (("one", first), ("two", second))}
    return {"pools": pools, "routes": [{"prefix": "/1", "pool": "one"},
                                       {"prefix": "/2", "pool": "two"}]}


@pytest.mark.parametrize("often, seldom, ttl", [
    ({"min_ttl": "30ms"}, {"min_ttl": "1h"}, 0),
    ({"max_ttl": "50ms"}, {"max_ttl": "1h"}, 3600),
    ({"min_ttl": "30ms"}, {"min_ttl": "1h"}, 1 << 31)])
def test_ttl_bounds(weir, dns, often, seldom, ttl):
    for name in ("one.test", "two.test"):
        dns.set(name, a=["127.0.0.2"], ttl=ttl)
    proxy = weir(two_pools(dns, often, seldom))
    eventually(lambda: dns.count("one.test") >= 12)
    assert dns.count("two.test") == 1
    assert name_row(proxy, "one.test")["ttl_ms"] <= 50
    assert name_row(proxy, "two.test")["ttl_ms"] == 3600000


def test_ttl_of_the_answer(weir, dns):
    for name, ttl in (("one.test", 0), ("two.test", 100)):
        dns.set(name, a=["127.0.0.2"], ttl=ttl)
    proxy = weir(two_pools(dns, {}, {}))
    eventually(lambda: dns.count("one.test") >= 12)
    row = name_row(proxy, "two.test")
    assert dns.count("two.test") == 1 and row["ttl_ms"] == 100000
    assert 100000 - 2000 <= row["age_ms"] + row["next_ms"] <= 100000 + 2000  # jitter = "0%"


def test_jitter(weir, dns):
    names = ["j%d.test" % i for i in range(12)]
    pools = {}
    for name in names:
        dns.set(name, a=["127.0.0.2"], ttl=1000)
        pools[name[:-5]] = {"discover": discover(dns, 84, dns=name + ":84", jitter="50%")}
    proxy = weir({"pools": pools, "routes": [{"prefix": "/" + p, "pool": p} for p in pools]})
    for name in names:
        state_becomes(proxy, "resolved", name)
    rows = [name_row(proxy, name) for name in names]
    pauses = [row["age_ms"] + row["next_ms"] for row in rows]
    assert all(499000 <= pause <= 1501000 for pause in pauses), pauses
    assert max(pauses) - min(pauses) > 100000, pauses


def test_attempts(weir, dns):
    dns.behave("*", "drop")
    weir(two_pools(dns, {**LONG, "attempts": 1, "timeout": "50ms"},
                   {**LONG, "attempts": 4, "timeout": "50ms"}))
    eventually(lambda: dns.count("two.test") == 4)
    assert dns.count("one.test") == 1


def test_timeout(weir, dns):
    for name in ("one.test", "two.test"):
        dns.set(name, a=["127.0.0.2"])
        dns.behave(name, delay=0.5)
    proxy = weir(two_pools(dns, {**LONG, "attempts": 1, "timeout": "50ms"},
                           {**LONG, "attempts": 1, "timeout": "30s"}))
    state_becomes(proxy, "resolved", "two.test")
    assert "no DNS server answered" in state_becomes(proxy, "unresolved", "one.test")["reason"]


@pytest.mark.parametrize("often, seldom", [
    ({"retry": "30ms"}, {"retry": "1h", "max_retry": "1h"}),
    ({"max_retry": "30ms"}, {"max_retry": "1h"})])
def test_retry(weir, dns, often, seldom):
    """Names that do not exist are asked for again, with pauses that grow up to a limit."""
    weir(two_pools(dns, often, seldom))
    eventually(lambda: dns.count("one.test") >= 24)
    assert dns.count("two.test") * 2 < dns.count("one.test")


def test_servers(weir, dns, backend):
    """The second is asked when the first is not there."""
    dead = "127.0.0.1:%d" % proc.free_port()
    dns.set(NAME, a=["127.0.0.1"])
    proxy = weir(conf(dns, backend.port, servers=[dead, dns.address],
                      timeout="300ms"))
    becomes(proxy, [backend])
    assert proxy.get("/s").status == 200


def test_one_question_for_two_pools(weir, dns, backend):
    dns.set(NAME, a=["127.0.0.1"], ttl=1000)
    text = conf(dns, backend.port)
    text["pools"]["two"] = {"discover": discover(dns, 9)}
    text["routes"].append({"prefix": "/two", "pool": "two"})
    proxy = weir(text)
    becomes(proxy, [backend])
    eventually(lambda: set(endpoints(proxy, "two")) == {"127.0.0.1:9"})
    assert dns.count(NAME, A) == 1 and proxy.metric("weir_resolver_names") == 1


# ---- failures ----

FAULTS = {
    "servfail": ("servfail", "SERVFAIL"), "refused": ("refused", "REFUSED"),
    "nxdomain": ("nxdomain", "NXDOMAIN"), "drop": ("timeout", "no DNS server answered"),
    "empty": ("empty", "no such record"), "garbage": ("bad_answer", "malformed"),
    "gone": ("unreachable", "no DNS server"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_failure_keeps_the_last_answer(weir, dns, fleet, fault):
    backends = fleet(2)
    dns.set(NAME, a=hosts(backends))
    silent = fault in ("drop", "gone")
    proxy = weir(conf(dns, backends[0].port, timeout="50ms" if silent else "5s"))
    becomes(proxy, backends)
    outcome, words = FAULTS[fault]
    if fault == "gone":
        dns.stop()
    elif fault == "empty":
        dns.set(NAME)
    else:
        dns.behave(NAME, fault)
    row = state_becomes(proxy, "kept")
    if fault != "gone":
        assert words in row["reason"], row
    reaches(proxy, backends)
    eventually(lambda: proxy.metric("weir_resolver_failures_total") >= 5)
    if fault != "gone":
        assert proxy.metric("weir_resolver_resolutions_total", outcome=outcome) >= 3
        assert proxy.errors.count("the last answer stays in use (2 addresses") == 1, proxy.errors
    assert proxy.metric("weir_resolver_name_ok", dns_name=NAME) == 0
    assert proxy.metric("weir_resolver_names_unresolved") == 0
    becomes(proxy, backends)
    if fault == "gone":
        return
    dns.behave(NAME)
    dns.set(NAME, a=hosts(backends[:1]))
    becomes(proxy, backends[:1])
    proxy.stderr_has("name %s: resolved, after failing for " % NAME)
    assert proxy.metric("weir_resolver_name_ok", dns_name=NAME) == 1


def test_changed_settings_keep_the_last_answer(weir, dns, fleet):
    """A reload while the DNS fails: the answer that is in use outlives other times and servers."""
    backends = fleet(2)
    dns.set(NAME, a=hosts(backends))
    proxy = weir(conf(dns, backends[0].port))
    becomes(proxy, backends)
    dns.behave("*", "servfail")
    state_becomes(proxy, "kept")
    proxy.change(pools={"app": {"balance": "round_robin",
                                "discover": discover(dns, backends[0].port, max_retry="90ms")}})
    proxy.reload()
    assert proxy.get("/x").status == 200
    state_becomes(proxy, "kept")
    reaches(proxy, backends)


def test_one_family_fails(weir, dns, fleet):
    """The addresses of the family that is not answered stay, those of the other change."""
    backends = fleet(2)
    port = backends[0].port
    dns.set(NAME, a=hosts(backends[:1]), aaaa=["::1"])
    proxy = weir(conf(dns, port))
    both = {backends[0].address, "[::1]:%d" % port}
    eventually(lambda: set(endpoints(proxy)) == both)
    dns.behave(NAME, "servfail", types=[AAAA])
    asked_more(dns, 12)
    assert set(endpoints(proxy)) == both
    dns.set(NAME, a=hosts(backends[1:]), aaaa=["::1"])
    eventually(lambda: set(endpoints(proxy)) == {backends[1].address, "[::1]:%d" % port})
    row = state_becomes(proxy, "kept")
    assert row["reason"].startswith("IPv6 (AAAA): the DNS servers failed (SERVFAIL), for"), row
    assert proxy.errors.count("IPv6 (AAAA): the DNS servers failed") == 1, proxy.errors
    dns.behave(NAME)
    state_becomes(proxy, "resolved")
    proxy.stderr_has("name %s: IPv6 (AAAA): answered again, after failing for " % NAME)


@pytest.mark.parametrize("fault", ["nxdomain", "drop", "servfail"])
def test_dead_name_at_start(weir, dns, backend, fault):
    dns.behave(NAME, fault)
    proxy = weir(conf(dns, backend.port, timeout="50ms"))
    assert proxy.get("/dead").status == 503
    proxy.ended("upstream.resolve.failed", path="/dead", status=503)
    state_becomes(proxy, "unresolved")
    assert proxy.metric("weir_pool_unresolved_names", pool="app") == 1
    assert proxy.metric("weir_resolver_names_unresolved") == 1
    proxy.stderr_has("no address is known, it is asked for again")
    dns.behave(NAME)
    dns.set(NAME, a=["127.0.0.1"])
    eventually(lambda: proxy.get("/alive").status == 200)
    assert proxy.generation() == 1
    assert proxy.metric("weir_pool_unresolved_names", pool="app") == 0


def test_dead_server_costs_a_reload_nothing(weir, dns, backend):
    """The name is being asked for, and goes on being so: nobody waited for the answer."""
    dns.set(NAME, a=["127.0.0.1"])
    proxy = weir(conf(dns, backend.port, timeout="60s", attempts=1))
    becomes(proxy, [backend])
    dns.behave("*", "drop")
    asked = dns.count(NAME)
    eventually(lambda: dns.count(NAME) > asked + 1 and name_row(proxy)["next_ms"] == 0)
    proxy.change(routes=[{"name": "all", "prefix": "/", "pool": "app", "timeout": "9s"}])
    proxy.reload()
    assert name_row(proxy)["state"] == "resolved" and name_row(proxy)["next_ms"] == 0
    more = {"two": {"discover": discover(dns, 9, dns="new.test:9", timeout="60s", attempts=1)}}
    proxy.change(pools=more, routes=[{"name": "all", "prefix": "/", "pool": "app"},
                                     {"prefix": "/two", "pool": "two"}])
    proxy.reload()
    assert name_row(proxy, "new.test")["state"] == "asking"
    assert proxy.get("/x").status == 200 and proxy.get("/two").status == 503
    proxy.ended("upstream.resolve.failed", path="/two")


def test_pool_removed_while_it_is_asked_for(weir, dns, backend):
    dns.set(NAME, a=["127.0.0.1"])
    dns.set("late.test", a=["127.0.0.1"])
    dns.behave("late.test", delay=0.7)
    both = conf(dns, backend.port)
    both["pools"]["late"] = {"discover": discover(dns, 9, dns="late.test:9", timeout="30s")}
    both["routes"].append({"prefix": "/late", "pool": "late"})
    proxy = weir(both, start=False).start(wait=False)
    proxy.wait_ready()
    for _ in range(3):
        proxy.change(pools={"late": None}, routes=both["routes"][:1])
        proxy.reload()
        proxy.change(pools={"late": both["pools"]["late"]}, routes=both["routes"])
        proxy.reload()
    proxy.change(pools={"late": None}, routes=both["routes"][:1])
    proxy.reload()
    eventually(lambda: proxy.metric("weir_resolver_names") == 1)
    assert proxy.get("/x").status == 200


def test_refused_reload_loses_no_change(weir, dns, fleet):
    backends = fleet(2)
    dns.set(NAME, a=hosts(backends[:1]))
    proxy = weir(conf(dns, backends[0].port))
    becomes(proxy, backends[:1])
    proxy.write("this is no configuration")
    for turn in range(6):
        dns.set(NAME, a=hosts(backends[turn % 2 : turn % 2 + 1]))
        run("reload", "--admin", "unix:%s" % proxy.admin)
        becomes(proxy, backends[turn % 2 : turn % 2 + 1])
    assert proxy.generation() == 1


# ---- SRV ----


def srv_conf(server, pool=None, **over):
    text = conf(server, 1, pool, **over)
    text["pools"]["app"]["discover"].pop("dns")
    text["pools"]["app"]["discover"]["srv"] = SRV_NAME
    return text


def name_hosts(dns, backends):
    """h0.test, h1.test, ... stand for the backends."""
    for i, each in enumerate(backends):
        dns.set("h%d.test" % i, a=hosts([each]), ttl=100)


def counts(proxy, backends, requests):
    before = [len(each.requests) for each in backends]
    for number in range(requests):
        assert proxy.get("/c%d" % number).status == 200
    return [len(each.requests) - was for each, was in zip(backends, before)]


def test_srv_priorities_and_weights(weir, dns, new_backend):
    backends = [new_backend() for _ in range(3)]
    name_hosts(dns, backends)
    rows = [(10, 3, backends[0].port, "h0.test"), (10, 1, backends[1].port, "h1.test"),
            (20, 1, backends[2].port, "h2.test")]
    for i, each in enumerate(backends):
        dns.set("h%d.test" % i, a=["127.0.0.1"], ttl=100)
    dns.set(SRV_NAME, srv=rows)
    proxy = weir(srv_conf(dns))
    becomes(proxy, backends)
    assert counts(proxy, backends, 40) == [30, 10, 0]
    assert endpoints(proxy)[backends[0].address]["address"] == "h0.test:%d" % backends[0].port
    dns.set(SRV_NAME, srv=[(10, 1, *rows[0][2:]), (10, 1, *rows[1][2:]), rows[2]])
    proxy.stderr_has("(%s) changed" % backends[0].address)
    assert counts(proxy, backends, 40) == [20, 20, 0]
    dns.set(SRV_NAME, srv=rows[2:])
    becomes(proxy, backends[2:])
    assert counts(proxy, backends, 4) == [0, 0, 4]
    assert proxy.generation() == 1
    assert dns.count("h2.test", A) == 1  # its TTL is not over: a host is not asked for again
    assert name_row(proxy, SRV_NAME)["type"] == "srv"
    eventually(lambda: proxy.metric("weir_resolver_names") == 2)  # h0 and h1 are forgotten


def test_srv_hosts_change(weir, dns, fleet):
    backends = fleet(3)
    port = backends[0].port
    dns.set("h.test", a=hosts(backends[:2]))
    dns.set(SRV_NAME, srv=[(0, 0, port, "h.test")], ttl=100)
    proxy = weir(srv_conf(dns))
    becomes(proxy, backends[:2])
    dns.set("h.test", a=hosts(backends[1:]))
    becomes(proxy, backends[1:])
    reaches(proxy, backends[1:])
    assert dns.count(SRV_NAME) == 1


@pytest.mark.parametrize("fault", ["servfail", "nxdomain", "drop", "garbage", "cut", "."])
def test_srv_failure_keeps_the_last_answer(weir, dns, fleet, fault):
    backends = fleet(2)
    name_hosts(dns, backends)
    dns.set(SRV_NAME, srv=[(0, 1, each.port, "h%d.test" % i) for i, each in enumerate(backends)])
    proxy = weir(srv_conf(dns, timeout="50ms"))
    becomes(proxy, backends)
    if fault == ".":
        dns.set(SRV_NAME, srv=[(0, 0, 0, ".")])
    else:
        dns.behave(SRV_NAME, fault)
    state_becomes(proxy, "kept", SRV_NAME)
    proxy.stderr_has("SRV name %s: " % SRV_NAME)
    proxy.stderr_has("the last answer stays in use (2 records")
    reaches(proxy, backends)
    dns.behave(SRV_NAME)
    dns.set(SRV_NAME, srv=[(0, 1, backends[1].port, "h1.test")])
    becomes(proxy, backends[1:])


def test_srv_answer_without_addresses_is_not_taken(weir, dns, fleet):
    """Records whose hosts do not exist: the old ones stay until one of the new resolves."""
    backends = fleet(2)
    name_hosts(dns, backends[:1])
    dns.set(SRV_NAME, srv=[(0, 1, backends[0].port, "h0.test")])
    proxy = weir(srv_conf(dns))
    becomes(proxy, backends[:1])
    dns.set(SRV_NAME, srv=[(0, 1, backends[1].port, "h1.test"), (0, 1, 9, "h9.test")])
    state_becomes(proxy, "unresolved", "h1.test.")
    asked_more(dns, 6, SRV_NAME)
    reaches(proxy, backends[:1])
    name_hosts(dns, backends)
    becomes(proxy, backends[1:])


def test_srv_odd_records(weir, dns, backend):
    """Targets that are no host names, ports that are none, more records than are used."""
    dns.set("h.test", a=["127.0.0.1"])
    rows = [(0, 1, backend.port, "h.test"), (0, 1, 0, "h.test"), (0, 1, 80, "a b.test"),
            (0, 1, 80, "x\r\ny.test")]
    dns.set(SRV_NAME, srv=rows)
    proxy = weir(srv_conf(dns))
    becomes(proxy, [backend])
    proxy.stderr_has("1 records are used, 0 above the limit of 256 and 3 without a good host")
    dns.set(SRV_NAME, srv=[(0, 1, 10000 + i, "h.test") for i in range(300)])
    eventually(lambda: proxy.metric("weir_pool_endpoints", pool="app") == 256)
    revision = proxy.metric("weir_config_revision")
    asked_more(dns, 5, SRV_NAME)
    assert proxy.metric("weir_config_revision") == revision


# ---- what a change leaves alone ----


def test_ejection_survives(weir, dns, fleet):
    backends = fleet(3, raw(wire.response_bytes(500, reason="Bad")))
    bad = backends[0]
    dns.set(NAME, a=hosts(backends[:2]))
    proxy = weir(conf(dns, bad.port, {"outlier": {"consecutive_5xx": 2, "eject": "60s"}}))
    becomes(proxy, backends[:2])
    for number in range(8):
        proxy.get("/%d" % number)
    assert len(bad.requests) == 2
    for turn in range(4):
        dns.set(NAME, a=hosts(backends[: 3 - turn % 2]))
        becomes(proxy, backends[: 3 - turn % 2])
        reaches(proxy, backends[1 : 3 - turn % 2])
    assert len(bad.requests) == 2
    assert proxy.metric("weir_upstream_ejections_total") == 1


def test_connections_survive(weir, dns, fleet):
    """Those to an unchanged endpoint are reused; unused ones to one that went are closed."""
    backends = fleet(2)
    dns.set(NAME, a=hosts(backends))
    proxy = weir(conf(dns, backends[0].port))
    becomes(proxy, backends)
    reaches(proxy, backends)
    for _ in range(5):
        dns.set(NAME, a=hosts(backends[:1]))
        becomes(proxy, backends[:1])
        eventually(lambda: all(conn.ended.is_set() for conn in backends[1].conns))
        dns.set(NAME, a=hosts(backends))
        becomes(proxy, backends)
        reaches(proxy, backends)
    assert len(backends[0].conns) == 1 and len(backends[1].conns) == 6


def test_requests_of_a_removed_address_finish(weir, dns, fleet):
    backends = fleet(2)
    arrived, go_on = threading.Event(), threading.Event()

    def slow(_conn, _request):
        arrived.set()
        assert go_on.wait(60)
        return wire.response_bytes(body=b"late")

    backends[0].on("/slow", slow)
    dns.set(NAME, a=hosts(backends[:1]))
    proxy = weir(conf(dns, backends[0].port))
    becomes(proxy, backends[:1])
    answers = []
    thread = threading.Thread(target=lambda: answers.append(proxy.get("/slow")))
    thread.start()
    assert arrived.wait(60)
    dns.set(NAME, a=hosts(backends[1:]))
    becomes(proxy, backends[1:])
    reaches(proxy, backends[1:], 3)
    go_on.set()
    thread.join(60)
    assert answers[0].status == 200 and answers[0].body == b"late"
    eventually(lambda: all(conn.ended.is_set() for conn in backends[0].conns))


def test_health_of_what_is_new_and_what_stays(weir, dns, fleet):
    """A new address gets traffic after its first pass; one that stays keeps state and schedule."""
    backends = fleet(2)
    status_of = [200, 503]
    for i, each in enumerate(backends):
        each.on("/healthz", lambda _c, _r, i=i: wire.response_bytes(status_of[i]))
    dns.set(NAME, a=hosts(backends[:1]))
    health = {"path": "/healthz", "interval": "50ms", "fast_interval": "50ms", "timeout": "5s"}
    proxy = weir(conf(dns, backends[0].port, {"health": health}))
    eventually(lambda: endpoints(proxy)[backends[0].address]["state"] == "in service")
    since = endpoints(proxy)[backends[0].address]["since"]
    dns.set(NAME, a=hosts(backends))
    becomes(proxy, backends)
    eventually(lambda: endpoints(proxy)[backends[1].address]["state"] == "down")
    for number in range(8):
        assert proxy.get("/h%d" % number).status == 200
    assert all(r.path == "/healthz" for r in backends[1].requests)
    assert endpoints(proxy)[backends[0].address]["since"] == since
    status_of[1] = 200
    eventually(lambda: endpoints(proxy)[backends[1].address]["state"] == "in service")
    reaches(proxy, backends)
    dns.set(NAME, a=hosts(backends[:1]))
    becomes(proxy, backends[:1])
    eventually(lambda: proxy.metric("weir_health_endpoints") == 1)


def test_load_sees_nothing(weir, dns, nginx, load_client):
    """No request is lost, refused or answered wrongly while the answer changes."""
    port = proc.free_port()
    more = "".join("listen 127.0.0.%d:%d; " % (i, port) for i in (2, 3, 4))
    nginx("one", port=port, extra=more)
    every = ["127.0.0.%d" % i for i in (1, 2, 3, 4)]
    dns.set(NAME, a=every)
    proxy = weir({**conf(dns, port), "process": {"workers": 2}})
    eventually(lambda: len(endpoints(proxy)) == 4)
    running = load_client(proxy.port, 32)
    for turn in range(30):
        now = [every[(turn + i) % 4] for i in range(1 + turn % 3)]
        dns.set(NAME, a=now)
        eventually(lambda: set(endpoints(proxy)) == {"%s:%d" % (ip, port) for ip in now})
    report = running.stop()
    load.clean(report, 200)
    assert not [r for r in proxy.lines() if r["weir.end"] != "ok"][:3]


def test_memory_is_bounded(weir, dns):
    """Hundreds of changes: no snapshot, endpoint or name stays behind, and memory does not
    grow."""
    dns.set(NAME, a=["127.2.0.1"])
    proxy = weir({**conf(dns, 85, min_ttl="10ms"), "process": {"workers": 2}})
    eventually(lambda: len(endpoints(proxy)) == 1)

    def change(first, count):
        for turn in range(first, first + count):
            before = proxy.metric("weir_config_revision")
            dns.set(NAME, a=["127.1.%d.%d" % (turn % 200, i + 1) for i in range(1 + turn % 24)])
            eventually(lambda: proxy.metric("weir_config_revision") > before)

    def size():
        eventually(lambda: proxy.metric("weir_snapshots_live") == 1)
        return min(proc.tree_kib(proxy.pid, proc.OWN) for _ in range(3))
    change(0, 60)
    start = size()
    change(60, 240)
    eventually(lambda: size() <= start + 384, guard=60, every=0.5)
    assert len(proxy.metrics().series("weir_endpoint_up")) <= 24 * 2
    assert proxy.generation() == 1 and proxy.metric("weir_config_revision") >= 300


def test_status_command(weir, dns, fleet):
    backends = fleet(1)
    dns.set(NAME, a=hosts(backends))
    proxy = weir(conf(dns, backends[0].port))
    becomes(proxy, backends)
    dns.behave(NAME, "nxdomain")
    state_becomes(proxy, "kept")
    told = run("status", "--admin", "unix:%s" % proxy.admin).stdout
    assert NAME in told and "kept" in told and "NXDOMAIN" in told, told
