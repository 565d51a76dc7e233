"""Conditions of routes from outside: regex, headers, query, cookies, sources, and what a request
that meets a regex's limit gets (DESIGN.md section 7, Matching; THREATS.md rows 15, 25)."""
import ipaddress

import pytest



def to(name, **match):
    """A route that answers with its own name."""
    return dict(name=name, respond={"status": 200, "body": name}, **match)


SHARED_CONF = {
    "listeners": {"web": {"trusted_proxies": ["127.0.0.0/8"]}},
    "routes": [
        to("any"),
        to("env-prod", headers=[{"name": "X-Env", "exact": "prod"}]),
        to("env-beta", headers=[{"name": "X-Env", "prefix": "beta-"}]),
        to("agent", headers=[{"name": "User-Agent", "regex": "^curl/[0-9.]+$"}]),
        to("debug", prefix="/d", headers=[{"name": "X-Debug", "present": True}]),
        to("quiet", prefix="/q", headers=[{"name": "X-Debug", "present": False}]),
        to("https", prefix="/p", headers=[{"name": "X-Forwarded-Proto", "exact": "https"}]),
        to("two", headers=[{"name": "X-Env", "exact": "prod"}, {"name": "X-B", "exact": ""}]),
        to("v2", query=[{"name": "v", "exact": "2"}]),
        to("word", query=[{"name": "q w", "prefix": "a b"}]),
        to("number", prefix="/n", query=[{"name": "id", "regex": "^[0-9]+$"}]),
        to("no-v", prefix="/nv", query=[{"name": "v", "present": False}]),
        to("beta", cookies=[{"name": "beta", "exact": "1"}]),
        to("sid", prefix="/s", cookies=[{"name": "sid", "regex": "^[0-9a-f]{8}$"}]),
        to("fresh", prefix="/f", cookies=[{"name": "sid", "present": False}]),
        to("user", prefix="/u", cookies=[{"name": "user", "prefix": "adm"}]),
        to("ten", prefix="/net", sources=["10.0.0.0/8"]),
        to("ten-one", prefix="/net", sources=["10.1.0.0/16", "2001:db8::/32"]),
        to("png", regex=r"\.png$"),
        to("img", regex="^/img/", methods=["GET"]),
        to("logo", prefix="/img/logo"),
        to("exact", path="/img/a.png"),
        to("slow", regex="^/users/.*/posts/.*/edit$"),
    ]}

CASES = [
    # method, target, fields, route
    ("GET", "/", [], "any"),
    ("GET", "/", [("X-Env", "prod")], "env-prod"),
    ("GET", "/", [("x-ENV", "prod")], "env-prod"),
    ("GET", "/", [("X-Env", "Prod")], "any"),
    ("GET", "/", [("X-Env", "dev"), ("X-Env", "prod")], "env-prod"),
    ("GET", "/", [("X-Env", "prod"), ("Connection", "X-Env")], "any"),
    ("GET", "/", [("X-Env", "beta-1")], "env-beta"),
    ("GET", "/", [("X-Env", "prod"), ("X-B", "")], "two"),
    ("GET", "/", [("X-Env", "prod"), ("X-B", "1")], "env-prod"),
    ("GET", "/", [("User-Agent", "curl/7.88.1")], "agent"),
    ("GET", "/", [("User-Agent", "xcurl/7.88.1")], "any"),
    ("GET", "/d", [("X-Debug", "")], "debug"),
    ("GET", "/d", [], "any"),
    ("GET", "/q", [], "quiet"),
    ("GET", "/q", [("X-Debug", "1")], "any"),
    ("GET", "/p", [("X-Forwarded-Proto", "https")], "https"),
    ("GET", "/p", [("X_Forwarded_Proto", "https")], "any"),
    ("GET", "/?v=2", [], "v2"),
    ("GET", "/?a&v=%32", [], "v2"),
    ("GET", "/?v=22", [], "any"),
    ("GET", "/?q+w=a%20bc", [], "word"),
    ("GET", "/?q%20w=a+b", [], "word"),
    ("GET", "/?q%2Bw=a+b", [], "any"),
    ("GET", "/n?id=7", [], "number"),
    ("GET", "/n?id=7x", [], "any"),
    ("GET", "/nv?w=2", [], "no-v"),
    ("GET", "/nv?v", [], "any"),
    ("GET", "/", [("Cookie", "a=1; beta=1")], "beta"),
    ("GET", "/", [("Cookie", "a=1"), ("Cookie", "beta=1")], "beta"),
    ("GET", "/", [("Cookie", "beta=2")], "any"),
    ("GET", "/s", [("Cookie", "sid=0011aaff")], "sid"),
    ("GET", "/s", [("Cookie", "sid=0011aafg")], "any"),
    ("GET", "/f", [], "fresh"),
    ("GET", "/f", [("Cookie", "sid=x")], "any"),
    ("GET", "/u", [("Cookie", "user=admin")], "user"),
    ("GET", "/u", [("Cookie", "user=bob")], "any"),
    ("GET", "/net", [], "any"),
    ("GET", "/net", [("X-Forwarded-For", "10.9.0.1")], "ten"),
    ("GET", "/net", [("X-Forwarded-For", "10.1.0.1")], "ten-one"),
    ("GET", "/net", [("X-Forwarded-For", "10.1.0.1, 192.0.2.1")], "any"),
    ("GET", "/net", [("X-Forwarded-For", "192.0.2.1, 10.1.0.1, 127.0.0.9")], "ten-one"),
    ("GET", "/net", [("X-Forwarded-For", "2001:db8::1")], "ten-one"),
    ("GET", "/img/a.png", [], "exact"),
    ("GET", "/img/b.png", [], "png"),
    ("GET", "/img/logo", [], "img"),
    ("PUT", "/img/logo", [], "logo"),
    ("GET", "/users/1/posts/2/edit", [], "slow"),
    ("GET", "/users/1/posts/2/editx", [], "any"),
]


@pytest.mark.parametrize("method,target,fields,route", CASES)
def test_match(pair, method, target, fields, route):
    response = pair.client().request(method, target, fields=fields)
    assert (response.status, response.body) == (200, route.encode())
    assert pair.ended("ok")["http.route"] == route


def test_limit_is_no_match_and_no_bypass(pair):
    """A path that costs the regex too much is refused, never handed to the next route."""
    path = "/users" + "/posts" * 2000 + "/edit!"
    response = pair.client().get(path)
    assert response.status == 400 and response.get("proxy-status").endswith(
        'details="proxy.limit.regex"')
    record = pair.ended("proxy.limit.regex", status=400)
    assert "http.route" not in record
    assert pair.client().get("/users/1/posts/2/edit").body == b"slow"


def test_long_query_value_is_refused(pair):
    """A value that is longer than the room for decoding is not called "no match"; one that needs
    no decoding needs no room."""
    assert pair.client().get("/n?id=" + "7" * 15000).body == b"number"
    assert pair.client().get("/n?id=%37" + "7" * 8000).body == b"number"
    assert pair.client().get("/n?id=%37" + "7" * 9000).status == 400
    pair.ended("proxy.limit.regex")


def test_client_address_is_logged_also_without_a_route(weir):
    proxy = weir({"listeners": {"web": {"trusted_proxies": ["127.0.0.1"]}},
                  "routes": [to("x", prefix="/x")]})
    assert proxy.client().get("/y", fields=[("X-Forwarded-For", "192.0.2.7")]).status == 404
    assert proxy.ended("proxy.no_route")["client.address"] == "192.0.2.7"


def test_untrusted_fields_take_no_part(weir):
    """What a client says of itself is not passed on and not matched."""
    proxy = weir({"routes": [
        to("any"),
        to("https", headers=[{"name": "X-Forwarded-Proto", "exact": "https"}]),
        to("no-proto", prefix="/n", headers=[{"name": "X-Forwarded-Proto", "present": False}]),
        to("staff", headers=[{"name": "X-Forwarded-User", "exact": "root"}]),
        to("nobody", prefix="/u", headers=[{"name": "X-Forwarded-User", "present": False}]),
        to("lo", prefix="/lo", sources=["127.0.0.0/8"]),
        to("ten", prefix="/lo", sources=["10.0.0.0/8"])]})
    conn = proxy.client()
    assert conn.get("/", fields=[("X-Forwarded-Proto", "https")]).body == b"any"
    assert conn.get("/n", fields=[("X-Forwarded-Proto", "https")]).body == b"no-proto"
    assert conn.get("/lo", fields=[("X-Forwarded-For", "10.1.1.1")]).body == b"lo"
    for name in ("X-Forwarded-User", "x-forwarded-user", "X_Forwarded_User"):
        assert conn.get("/", fields=[(name, "root")]).body == b"any"
        assert conn.get("/u", fields=[(name, "root")]).body == b"nobody"


def test_upgrade_is_a_condition(weir, backend):
    """Hop-by-hop as it is, Upgrade tells web sockets apart, while it is really asked for."""
    proxy = weir({"routes": [
        {"name": "all", "pool": "app"},
        to("ws", prefix="/ws", headers=[{"name": "Upgrade", "exact": "websocket"}])]}, backend)
    conn = proxy.client()
    fields = [("Connection", "upgrade"), ("Upgrade", "websocket")]
    assert conn.get("/ws", fields=fields).body == b"ws"
    assert conn.get("/ws", fields=fields[1:]).body == b"GET /ws"
    assert conn.get("/ws").body == b"GET /ws"


def test_method_not_allowed_only_when_the_rest_fits(weir):
    proxy = weir({"routes": [to("g", prefix="/a", methods=["GET"],
                                headers=[{"name": "X-A", "exact": "1"}]),
                             to("r", regex="^/r", methods=["PUT"])]})
    conn = proxy.client()
    assert conn.request("POST", "/a", fields=[("X-A", "2")]).status == 404
    refused = conn.request("POST", "/a", fields=[("X-A", "1")])
    assert (refused.status, refused.get("allow")) == (405, "GET")
    assert conn.request("GET", "/r").get("allow") == "PUT"


def test_conditions_change_with_a_reload(weir):
    """A changed condition is a changed route; an unchanged one is the same object."""
    proxy = weir({"routes": [to("a", regex="^/a", headers=[{"name": "X-A", "exact": "1"}]),
                             to("any")]})
    assert proxy.client().get("/a", fields=[("X-A", "1")]).body == b"a"
    proxy.change(routes=[to("a", regex="^/a", headers=[{"name": "X-A", "exact": "2"}]), to("any")])
    proxy.reload()
    assert proxy.client().get("/a", fields=[("X-A", "1")]).body == b"any"
    assert proxy.client().get("/a", fields=[("X-A", "2")]).body == b"a"


def test_many_source_networks(weir):
    """The longest network wins, whatever the order of the file."""
    nets = [ipaddress.ip_network("10.0.0.0/%d" % bits) for bits in (9, 30, 8, 24, 16, 12, 32)]
    proxy = weir({"listeners": {"web": {"trusted_proxies": ["127.0.0.1"]}},
                  "routes": [to("any")] + [to("n%d" % n.prefixlen, sources=[str(n)])
                                           for n in nets]})
    conn = proxy.client()
    for last in range(0, 256, 5):
        address = ipaddress.ip_address("10.0.0.%d" % last)
        best = max(n.prefixlen for n in nets if address in n)
        got = conn.get("/", fields=[("X-Forwarded-For", str(address))]).body
        assert got == b"n%d" % best, address
