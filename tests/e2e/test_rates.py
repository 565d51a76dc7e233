"""Rates of policies (packaging/docs/limits.md): whom a request is counted with, what a refusal
looks like, that nothing is granted beyond limit and burst over all workers. Rates are of the kind
1/h, so that the tests do not depend on how fast they run."""
import contextlib
import json
import re
import resource
import threading

from harness.backend import reply
from harness.weir import binary, eventually, run

TRUST = {"listeners": {"web": {"trusted_proxies": ["127.0.0.0/8"]}}}


def rated(rate, **more):
    """A configuration whose one route has a policy with this rate."""
    return {"policies": {"slow": {"rate": {"limit": "1/h", **rate}, **more}},
            "routes": [{"name": "all", "prefix": "/", "pool": "app", "policies": ["slow"]}]}


def granted(proxy, count, target="/", fields=()):
    """How many of count requests pass; the others are 429."""
    with_status = [proxy.get(target, fields).status for _ in range(count)]
    assert set(with_status) <= {200, 429}, with_status
    return with_status.count(200)


def results(proxy, policy="slow"):
    now = proxy.metrics()
    return {result: now.get("weir_rate_requests_total", policy=policy, result=result)
            for result in ("passed", "refused", "dry_run")}


def test_burst_then_refused(weir, backend):
    proxy = weir(rated({"burst": 3}), backend)
    conn = proxy.client()
    for left in (2, 1, 0):
        response = conn.get("/a")
        assert response.status == 200
        assert response.all("ratelimit-policy") == ['"slow";q=3;w=10800']
        assert re.fullmatch(r'"slow";r=%d;t=\d+' % left, response.get("ratelimit"))
        assert not response.all("retry-after")
    refused = conn.get("/b")
    assert refused.status == 429 and b"proxy.limit.rate" in refused.body
    wait = int(refused.get("retry-after"))
    assert 0 < wait <= 3600
    assert refused.get("ratelimit") == '"slow";r=0;t=%d' % wait
    assert 'details="proxy.limit.rate"' in refused.get("proxy-status")
    assert conn.get("/c").status == 429  # the connection is kept
    assert [r.path for r in backend.requests] == ["/a"] * 3
    record = proxy.ended("proxy.limit.rate", path="/b", status=429)
    assert record["weir.rate.policy"] == "slow" and record["weir.rate.dry_run"] is False
    assert "weir.rate.policy" not in proxy.logged(path="/a")
    assert eventually(lambda: results(proxy) == {"passed": 3, "refused": 2, "dry_run": 0})


def test_the_quota_is_the_limit_or_the_burst(weir, backend):
    proxy = weir(rated({"limit": "100/s", "burst": 200}), backend)
    assert proxy.get("/").get("ratelimit-policy") == '"slow";q=200;w=2'
    proxy.change(policies={"slow": {"rate": {"burst": 5}}})
    proxy.reload()
    response = proxy.get("/")
    assert response.get("ratelimit-policy") == '"slow";q=100;w=1'
    assert response.get("ratelimit").startswith('"slow";r=4;t=')
    proxy.change(policies={"slow": {"rate": {"burst": "auto"}}})
    proxy.reload()
    assert proxy.get("/").get("ratelimit").startswith('"slow";r=99;t=')


def test_it_comes_back(weir, backend):
    proxy = weir(rated({"limit": "20/s", "burst": 1}), backend)

    def refused_then_served():
        """a refusal, and service after it"""
        seen = [proxy.get("/").status for _ in range(20)]
        return 429 in seen and 200 in seen[seen.index(429):]
    eventually(refused_then_served)


def test_a_refusal_costs_nothing_upstream(weir, backend):
    """Before the body is asked for: who waits for 100 (Continue) is spared the upload."""
    proxy = weir(rated({"burst": 1}), backend)
    assert granted(proxy, 1) == 1
    conn, response = proxy.exchange(
        b"POST /e HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n")
    assert response.status == 429 and not response.interim
    conn.expect_close()
    assert len(backend.requests) == 1
    assert proxy.request("HEAD", "/").status == 429


# ---- keys ----


def forwarded(address):
    return ["X-Forwarded-For: " + address]


def test_clients_are_counted_apart(weir, backend):
    proxy = weir({**TRUST, **rated({"burst": 2})}, backend)
    assert granted(proxy, 3, fields=forwarded("192.0.2.1")) == 2
    assert granted(proxy, 3, fields=forwarded("192.0.2.2")) == 2
    assert granted(proxy, 3, fields=forwarded("::ffff:192.0.2.2")) == 0  # the same client
    assert granted(proxy, 3, fields=forwarded("2001:db8::1")) == 2
    assert granted(proxy, 3, fields=forwarded("2001:db8::ffff:1")) == 0  # the same /64
    assert granted(proxy, 3, fields=forwarded("2001:db8:0:1::1")) == 2
    proxy.ended("proxy.limit.rate", client__address="2001:db8:0:1::1")


def test_prefix_lengths(weir, backend):
    proxy = weir({**TRUST, **rated({"burst": 1, "prefix4": 24, "prefix6": 48})}, backend)
    assert granted(proxy, 1, fields=forwarded("192.0.2.1")) == 1
    assert granted(proxy, 1, fields=forwarded("192.0.2.255")) == 0
    assert granted(proxy, 1, fields=forwarded("192.0.3.1")) == 1
    assert granted(proxy, 1, fields=forwarded("2001:db8:0:1::1")) == 1
    assert granted(proxy, 1, fields=forwarded("2001:db8:0:2::1")) == 0
    assert granted(proxy, 1, fields=forwarded("2001:db8:1::1")) == 1


def test_who_is_not_trusted_cannot_be_another(weir, backend):
    proxy = weir(rated({"burst": 2}), backend)
    assert sum(granted(proxy, 1, fields=forwarded("192.0.2.%d" % i)) for i in range(6)) == 2


def test_header(weir, backend):
    proxy = weir(rated({"key": "header:X-Api-Key", "burst": 2}), backend)
    assert granted(proxy, 3, fields=["X-Api-Key: one"]) == 2
    assert granted(proxy, 3, fields=["x-api-key: two"]) == 2
    assert granted(proxy, 1, fields=["X-API-KEY:one"]) == 0
    assert granted(proxy, 1, fields=["X-Api-Key: One"]) == 1  # values byte for byte


LACKING = [[], ["X-Api-Key:"], ["X_Api_Key: a"], ["Connection: X-Api-Key", "X-Api-Key: b"],
           ["X-Other: c"]]


def test_who_lacks_the_header_is_counted_together(weir, backend):
    """Leaving it out, or naming it so that a backend will not see it, gains nothing."""
    proxy = weir(rated({"key": "header:X-Api-Key", "burst": 2}), backend)
    assert sum(granted(proxy, 1, fields=fields) for fields in LACKING) == 2
    assert granted(proxy, 1, fields=["X-Api-Key: one"]) == 1


def test_cookie(weir, backend):
    proxy = weir(rated({"key": "cookie:user", "burst": 2}), backend)
    assert granted(proxy, 3, fields=["Cookie: a=b; user=one; c=d"]) == 2
    assert granted(proxy, 3, fields=["Cookie: user=two"]) == 2
    assert granted(proxy, 1, fields=["Cookie: user=one"]) == 0
    assert granted(proxy, 3, fields=["Cookie: users=one"]) == 2
    assert granted(proxy, 3) == 0  # both lack it


def test_route_and_none(weir, backend):
    routes = [{"name": name, "prefix": "/" + name, "pool": "app", "policies": [policy]}
              for name, policy in (("r1", "each"), ("r2", "each"), ("n1", "all"), ("n2", "all"))]
    proxy = weir({"policies": {"each": {"rate": {"key": "route", "limit": "1/h", "burst": 2}},
                               "all": {"rate": {"key": "none", "limit": "1/h", "burst": 2}}},
                  "routes": routes}, backend)
    assert [granted(proxy, 3, "/" + name) for name in ("r1", "r2", "n1", "n2")] == [2, 2, 2, 0]


def test_a_combination_is_one_key(weir, backend):
    proxy = weir({**TRUST, **rated({"key": ["client_ip", "header:X-Api-Key"], "burst": 1})},
                 backend)
    assert granted(proxy, 2, fields=["X-Api-Key: a", *forwarded("192.0.2.1")]) == 1
    assert granted(proxy, 2, fields=["X-Api-Key: a", *forwarded("192.0.2.2")]) == 1
    assert granted(proxy, 2, fields=["X-Api-Key: b", *forwarded("192.0.2.1")]) == 1
    assert granted(proxy, 2, fields=forwarded("192.0.2.1")) == 1


# ---- answers ----


def test_dry_run(weir, backend):
    proxy = weir(rated({"burst": 1, "dry_run": True}), backend)
    for path in ("/1", "/2", "/3"):
        response = proxy.get(path)
        assert response.status == 200 and not response.all("ratelimit")
    assert "weir.rate.policy" not in proxy.logged(path="/1")
    for path in ("/2", "/3"):
        record = proxy.logged(path=path, end="ok", weir__rate__policy="slow")
        assert record["weir.rate.dry_run"] is True
    assert results(proxy) == {"passed": 1, "refused": 0, "dry_run": 2}


def test_dry_run_of_a_tunnel_is_logged(weir, backend):
    def switch(conn, _request):
        conn.send(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n")
        conn.reader.fill()
        conn.close()
    backend.on("/ws", switch)
    proxy = weir(rated({"burst": 1, "dry_run": True}), backend)
    assert granted(proxy, 1) == 1
    conn = proxy.client()
    conn.send(b"GET /ws HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n")
    assert conn.response().status == 101
    conn.close()
    assert proxy.logged(path="/ws", weir__rate__policy="slow")["weir.rate.dry_run"] is True


def test_without_headers(weir, backend):
    proxy = weir(rated({"burst": 1, "headers": False}), backend)
    assert not proxy.get("/").all("ratelimit-policy")
    refused = proxy.get("/")
    assert refused.status == 429 and not refused.all("ratelimit") and refused.get("retry-after")


def test_status_and_page(weir, backend):
    pages = [{"status": ["503"], "body": "later", "content_type": "text/x"}]
    edits = {"set": ["X-Seen: yes"]}
    proxy = weir(rated({"burst": 1, "status": 503}, errors=pages, response_headers=edits), backend)
    assert granted(proxy, 1) == 1
    refused = proxy.get("/")
    assert refused.status == 503 and refused.body == b"later" and refused.get("retry-after")
    assert refused.get("content-type") == "text/x" and refused.get("x-seen") == "yes"
    proxy.ended("proxy.limit.rate", status=503)


def test_limits_of_the_pool_stay(weir, backend):
    backend.on("/", reply(200, b"", ['RateLimit: "own";r=5', 'RateLimit-Policy: "own";q=9']))
    response = weir(rated({"burst": 5}), backend).get("/")
    assert response.all("ratelimit")[0] == '"own";r=5' and len(response.all("ratelimit")) == 2
    assert len(response.all("ratelimit-policy")) == 2


def test_responses_of_weir_itself(weir, backend):
    """Fixed responses and preflights are counted too, and say what is left."""
    conf = rated({"burst": 2}, cors={"origins": ["https://a.example"]})
    conf["routes"] = [{"name": "tea", "prefix": "/", "policies": ["slow"],
                       "respond": {"status": 418, "body": "tea"}}]
    proxy = weir(conf, backend)
    assert proxy.get("/").get("ratelimit").startswith('"slow";r=1;')
    preflight = ["Origin: https://a.example", "Access-Control-Request-Method: GET"]
    assert proxy.request("OPTIONS", "/", preflight).status == 204
    refused = proxy.request("OPTIONS", "/", preflight)
    assert refused.status == 429
    assert refused.get("access-control-allow-origin") == "https://a.example"


def test_several_rates(weir, backend):
    """What one refuses is not taken from another; the fields tell of all that were asked."""
    proxy = weir({**TRUST, "policies": {
        "client": {"rate": {"limit": "1/h", "burst": 1}},
        "whole": {"rate": {"key": "none", "limit": "1/h", "burst": 3}}},
        "routes": [{"name": "all", "prefix": "/", "pool": "app",
                    "policies": ["client", "whole"]}]}, backend)
    first = proxy.get("/", forwarded("192.0.2.1"))
    assert first.get("ratelimit-policy") == '"client";q=1;w=3600, "whole";q=3;w=10800'
    assert re.fullmatch(r'"client";r=0;t=\d+, "whole";r=2;t=\d+', first.get("ratelimit"))
    assert granted(proxy, 5, fields=forwarded("192.0.2.1")) == 0
    assert granted(proxy, 1, fields=forwarded("192.0.2.2")) == 1
    assert granted(proxy, 1, fields=forwarded("192.0.2.3")) == 1
    assert granted(proxy, 1, fields=forwarded("192.0.2.4")) == 0
    assert results(proxy, "whole")["passed"] == 3
    proxy.logged(count=5, weir__rate__policy="client")
    proxy.logged(count=1, weir__rate__policy="whole")


def test_a_dry_run_decides_nothing_of_a_refusal(weir, backend):
    """Its wait is the longer one; a key that finds no place is refused after both were asked."""
    proxy = weir({"policies": {
        "dry": {"rate": {"key": "none", "limit": "1/h", "burst": 1, "dry_run": True,
                         "status": 503}},
        "real": {"rate": {"key": "header:X-Key", "limit": "2/h", "burst": 1, "entries": 16}}},
        "routes": [{"name": "all", "prefix": "/", "pool": "app", "policies": ["dry", "real"]}]},
        backend)
    conn = proxy.client()
    answers = [conn.get("/", ["X-Key: %d" % number]) for number in range(100)]
    refused = [answer for answer in answers if answer.status != 200]
    assert len(refused) == 100 - (4 * 7 + 4)
    assert {(answer.status, int(answer.get("retry-after")) <= 1800) for answer in refused} == {
        (429, True)}
    proxy.logged(count=len(refused), end="proxy.limit.rate", weir__rate__policy="real")


# ---- the table ----


def test_exact_over_workers(weir, backend):
    proxy = weir({**rated({"burst": 40}), "process": {"workers": 4}}, backend)
    passed, lock = [], threading.Lock()

    def hammer():
        count = granted(proxy, 30)
        with lock:
            passed.append(count)
    threads = [threading.Thread(target=hammer) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(passed) == 40
    assert results(proxy)["passed"] == 40 and results(proxy)["refused"] == 200


def test_a_full_table_shares(weir, backend):
    """No key is forgotten before its time: who finds no place is counted with others."""
    proxy = weir(rated({"key": "header:X-Id", "burst": 1, "entries": 16}), backend)
    conn = proxy.client()
    keys = ["X-Id: %d" % i for i in range(100)]
    first = [conn.get("/", [key]).status for key in keys]
    # 16 entries are 4 sets of 7 places and one for those who find none.
    assert first.count(200) == 4 * 7 + 4 and proxy.metric("weir_rate_shared_total") == 72
    assert not any(conn.get("/", [key]).status == 200 for key in keys)


def test_reload(weir, backend):
    """The same rate goes on; another one begins afresh."""
    proxy = weir(rated({"burst": 2}), backend)
    assert granted(proxy, 3) == 2
    proxy.change(policies={"slow": {"rate": {"status": 503}}})
    proxy.reload()
    assert proxy.get("/").status == 503
    proxy.change(policies={"other": {}, "slow": {"rate": {"status": 429}}},
                 routes=[{"name": "all", "prefix": "/", "pool": "app", "policies": ["slow"]},
                         {"name": "more", "prefix": "/x", "pool": "app",
                          "policies": ["other", "slow"]}])
    proxy.reload()
    assert granted(proxy, 2) == 0 and granted(proxy, 2, "/x") == 0
    proxy.change(policies={"slow": {"rate": {"burst": 3}}})
    proxy.reload()
    assert granted(proxy, 4) == 3


def test_status(weir, backend):
    proxy = weir(rated({"burst": 1, "entries": 16}), backend)
    assert granted(proxy, 3) == 1
    assert "Rates of policies" in proxy.status_get("/").body.decode()
    told = json.loads(proxy.status_get("/-/status").body)["rates"]
    assert told == [{"policy": "slow", "passed": 1, "refused": 2, "dry_run": 0, "shared": 0,
                     "bytes": 512}]


# ---- tables that find no memory ----

MANY = 4000000  # entries: 128 MB


@contextlib.contextmanager
def scarce(pid, room=96 << 20):
    """So much more address space may it take."""
    soft, hard = resource.prlimit(pid, resource.RLIMIT_AS)
    with open("/proc/%d/statm" % pid, encoding="ascii") as statm:
        pages = int(statm.read().split()[0])
    resource.prlimit(pid, resource.RLIMIT_AS, (pages * resource.getpagesize() + room, hard))
    yield
    resource.prlimit(pid, resource.RLIMIT_AS, (soft, hard))


def test_a_table_without_memory_changes_nothing(weir, backend):
    proxy = weir(rated({"burst": 2}), backend)
    assert granted(proxy, 1) == 1
    proxy.change(policies={"slow": {"rate": {"entries": MANY}}})
    with scarce(proxy.pid):
        refused = run("reload", "-c", proxy.path)
        assert refused.returncode != 0 and "W0350" in refused.stdout + refused.stderr, refused
        assert granted(proxy, 2) == 1  # the old table counts on
    proxy.reload()
    assert granted(proxy, 3) == 2


def test_clients_are_counted_by_what_may_connect(weir, backend):
    """Not by the number that the file wishes for: 640 MB for each listener."""
    proxy = weir({"process": {"max_connections": 10000000}}, backend)
    proxy.change(listeners={"web": {"connections_per_client": 5}})
    with scarce(proxy.pid):
        proxy.reload()
    assert proxy.get("/").status == 200


def test_what_only_looks_makes_no_tables(weir, backend):
    proxy = weir(rated({"burst": 2}), backend)
    proxy.change(policies={"slow": {"rate": {"entries": MANY}}})
    with scarce(proxy.pid):
        plan = run("plan", "-c", proxy.path)
    assert plan.returncode == 0 and json.loads(plan.stdout)["changes"][0]["name"] == "slow", plan
    with open(binary(), "rb") as file:
        program = file.read()
    if b"__asan_init" in program or b"__tsan_init" in program:
        return  # which need more address space than there is

    def few():
        resource.setrlimit(resource.RLIMIT_AS, (100 << 20, 100 << 20))
    assert run("check", proxy.path, preexec=few).returncode == 0
