"""Matching and actions: hosts, exact paths, segment prefixes, methods, listeners, strip_prefix,
redirect, respond, 404 and 405 (DESIGN.md section 7, Matching)."""
import pytest

from harness import client, proc, wire
from harness.weir import run


def to(name, **match):
    """A route that answers with its own name."""
    return dict(name=name, respond={"status": 200, "body": name}, **match)


SHARED_CONF = {"routes": [
    to("any"),
    to("api", prefix="/api"),
    to("api-v1", prefix="/api/v1"),
    to("api-exact", path="/api"),
    to("api-v1-post", prefix="/api/v1", methods=["POST"]),
    to("slash", path="/slash/"),
    to("deep", prefix="/a/b/c/d"),
    to("escaped", path="/%7Euser"),
    to("one", hosts=["one.example"]),
    to("one-x", hosts=["one.example"], prefix="/x"),
    to("wild", hosts=["*.wild.example"]),
    to("deeper-wild", hosts=["*.deep.wild.example"]),
    to("exact-in-wild", hosts=["exact.wild.example"], prefix="/only"),
    to("two-hosts", hosts=["h1.example", "h2.example"], prefix="/p"),
    to("get-only", hosts=["m.example"], prefix="/r", methods=["GET"]),
    to("put-only", hosts=["m.example"], prefix="/r/deep", methods=["PUT", "PATCH"]),
    to("v6", hosts=["[::1]"]),
]}

MATCHES = [
    # host, method, path, route (None: 404)
    ("x.example", "GET", "/", "any"),
    ("x.example", "GET", "/api", "api-exact"),
    ("x.example", "GET", "/api/", "api"),
    ("x.example", "GET", "/api/x", "api"),
    ("x.example", "GET", "/apix", "any"),
    ("x.example", "GET", "/api-x", "any"),
    ("x.example", "GET", "/api?x", "api-exact"),
    ("x.example", "GET", "/api/v1", "api-v1"),
    ("x.example", "GET", "/api/v1/users", "api-v1"),
    ("x.example", "GET", "/api/v10", "api"),
    ("x.example", "GET", "/api/v", "api"),
    ("x.example", "POST", "/api/v1/users", "api-v1-post"),
    ("x.example", "POST", "/api/v2", "api"),
    ("x.example", "GET", "/API", "any"),
    ("x.example", "GET", "/slash/", "slash"),
    ("x.example", "GET", "/slash", "any"),
    ("x.example", "GET", "/slash/x", "any"),
    ("x.example", "GET", "/a/b/c/d/e", "deep"),
    ("x.example", "GET", "/a/b/c", "any"),
    ("x.example", "GET", "//api", "api-exact"),
    ("x.example", "GET", "/api//v1", "api-v1"),
    ("x.example", "GET", "/api/v1/../v2", "api"),
    ("x.example", "GET", "/%7Euser", "escaped"),
    ("x.example", "GET", "/~user", "escaped"),
    ("x.example", "GET", "/%61pi", "api-exact"),
    ("one.example", "GET", "/", "one"),
    ("ONE.Example", "GET", "/x", "one-x"),
    ("one.example.", "GET", "/x/y", "one-x"),
    ("one.example:8080", "GET", "/xy", "one"),
    ("one.example", "GET", "/api/v1", "one"),
    ("a.wild.example", "GET", "/", "wild"),
    ("a.b.wild.example", "GET", "/", "wild"),
    ("wild.example", "GET", "/", "any"),
    ("xwild.example", "GET", "/", "any"),
    ("a.deep.wild.example", "GET", "/", "deeper-wild"),
    ("deep.wild.example", "GET", "/", "wild"),
    ("exact.wild.example", "GET", "/only/x", "exact-in-wild"),
    ("exact.wild.example", "GET", "/else", None),
    ("h1.example", "GET", "/p", "two-hosts"),
    ("h2.example", "GET", "/p/q", "two-hosts"),
    ("h2.example", "GET", "/", None),
    ("m.example", "GET", "/r", "get-only"),
    ("m.example", "PUT", "/r/deep/x", "put-only"),
    ("m.example", "GET", "/r/deep/x", "get-only"),
    ("[::1]", "GET", "/", "v6"),
    ("[0:0:0::1]:80", "GET", "/", "v6"),
]


@pytest.mark.parametrize("host,method,path,route", MATCHES)
def test_match(pair, host, method, path, route):
    response = pair.client().request(method, path, host=host)
    if route is None:
        assert response.status == 404
        pair.ended("proxy.no_route", path=path)
    else:
        assert (response.status, response.body) == (200, route.encode())
        assert pair.ended("ok")["http.route"] == route


@pytest.mark.parametrize("method,path,allowed", [
    ("POST", "/r", {"GET"}), ("DELETE", "/r/deep", {"GET", "PUT", "PATCH"}),
    ("HEAD", "/r", {"GET"})])
def test_method_not_allowed(pair, method, path, allowed):
    """405 with Allow when only the method was wrong."""
    response = pair.client().request(method, path, host="m.example")
    assert response.status == 405
    assert {word.strip() for word in response.get("allow").split(",")} == allowed
    pair.ended("proxy.method_not_allowed", path=path, status=405)


def test_keepalive_after_404(pair):
    """What weir answers by itself does not end a connection."""
    conn = pair.client()
    for _ in range(3):
        assert conn.get("/else", host="exact.wild.example").status == 404
        assert conn.get("/", host="one.example").body == b"one"
    refused = conn.request("POST", "/else", body=b"x" * 1000, host="exact.wild.example")
    assert refused.status == 404
    if refused.get("connection") == "close":
        conn.expect_close()
    else:
        assert conn.get("/", host="one.example").body == b"one"


def test_log_names_what_matched(pair):
    assert pair.get("/api/v1/x?secret=1", host="q.example").status == 200
    record = pair.logged(path="/api/v1/x")
    assert record["http.route"] == "api-v1" and record["url.query"] == "secret=1"
    assert record["weir.listener"] == "web" and record["server.address"] == "q.example"
    assert "weir.pool" not in record


def test_request_series(pair):
    """The histogram counts by listener, route, method and status class."""
    before = pair.weir.metrics()
    for _ in range(3):
        pair.get("/api/v1/x")
    pair.logged(3, path="/api/v1/x")
    after = pair.weir.metrics()
    name = "http_server_request_duration_seconds_count"
    labels = {key for series in after.samples[name] for key, _ in series}
    assert not any("path" in label for label in labels)
    grown = [dict(k) for k,
             v in after.samples[name].items() if v - before.samples.get(name, {}).get(k, 0) == 3]
    assert len(grown) == 1 and "api-v1" in grown[0].values() and "GET" in grown[0].values(), grown


def test_per_listener(weir):
    """A route that names listeners is invisible at the others."""
    port = proc.free_port()
    proxy = weir({"listeners": {"inner": {"bind": "127.0.0.1:%d" % port}},
                  "routes": [to("both"), to("inner", prefix="/in", listeners=["inner"]),
                             to("web", prefix="/out", listeners=["web"])]})
    seen = {(where, path): proxy.get(path, port=number).body.decode()
            for where,
            number in (("web", proxy.port), ("inner", port)) for path in ("/", "/in", "/out")}
    assert seen == {("web", "/"): "both", ("web", "/in"): "both", ("web", "/out"): "web",
                    ("inner", "/"): "both", ("inner", "/in"): "inner", ("inner", "/out"): "both"}


def test_a_listener_of_its_own_before_all(weir):
    """The same route for one listener and one host before that for all of them: no fault, and the
    place in the file decides."""
    port = proc.free_port()
    proxy = weir({"listeners": {"inner": {"bind": "127.0.0.1:%d" % port}},
                  "routes": [to("inner", listeners=["inner"]), to("all"),
                             to("a", hosts=["a.test"]),
                             to("a-and-b", hosts=["a.test", "b.test"])]})
    assert run("check", proxy.path).returncode == 0
    for at, host, name in ((proxy.port, "x.test", "all"), (port, "x.test", "inner"),
                           (port, "a.test", "a"), (proxy.port, "b.test", "a-and-b")):
        with client.Client(at) as conn:
            assert conn.get("/x", host=host).body == name.encode()


STRIPPED = [("/api", "/"), ("/api/", "/"), ("/api/x", "/x"), ("/api/x?y=/api", "/x?y=/api"),
            ("/api?q", "/?q"),
            ("/api//x", "/x"), ("/api/%2e%2ex", "/..x"), ("/api/a/api/b", "/a/api/b"),
            ("/x/../%61pi/./y", "/y")]


@pytest.mark.parametrize("sent,arrives", STRIPPED)
def test_strip_prefix(weir, backend, sent, arrives):
    proxy = weir({"routes": [{"prefix": "/api", "pool": "app", "strip_prefix": True}]}, backend)
    response = proxy.get(sent)
    assert response.status == 200 and backend.last.target == arrives.encode()
    assert proxy.logged()["url.path"].startswith("/api")


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirect(weir, status):
    proxy = weir({"routes": [{"path": "/old",
                              "redirect": {"to": "https://example.com/new", "status": status}}]})
    conn = proxy.client()
    for method in ("GET", "HEAD", "POST"):
        response = conn.request(method, "/old?x=1", body=b"b" if method == "POST" else None)
        assert response.status == status and response.get("location") == "https://example.com/new"
    proxy.ended("ok", path="/old", status=status)


def test_redirect_default_status(weir):
    proxy = weir({"routes": [{"path": "/old", "redirect": {"to": "/new"}}]})
    response = proxy.get("/old")
    assert response.status == 308 and response.get("location") == "/new"


def test_respond(weir):
    proxy = weir({"routes": [
        {"path": "/tea",
         "respond": {"status": 418, "body": "short and stout\n", "content_type": "text/x-tea"}},
        {"path": "/empty", "respond": {"status": 204}},
        {"path": "/plain", "respond": {"body": "hi"}}]})
    conn = proxy.client()
    tea = conn.get("/tea")
    assert tea.status == 418 and tea.body == b"short and stout\n" and tea.get(
        "content-type") == "text/x-tea"
    assert conn.get("/empty").status == 204
    plain = conn.get("/plain")
    assert plain.status == 200 and plain.get("content-type") == "text/plain; charset=utf-8"
    assert conn.get("/plain").body == b"hi"
    assert conn.request("POST", "/tea", body=b"w" * 70000).status == 418
    proxy.ended("ok", path="/tea", status=418)


def test_many_routes(weir):
    """The large table answers as the small one (THREATS.md row 15)."""
    routes = [to("h%d-%d" % (h, p), hosts=["h%d.example" % h], prefix="/p%d" % p)
              for h in range(60) for p in range(20)]
    proxy = weir({"routes": routes})
    conn = proxy.client()
    for host in range(0, 60, 7):
        for number in range(0, 20, 3):
            assert conn.get("/p%d/x" % number,
                            host="H%d.Example." % host).body == b"h%d-%d" % (host, number)
    assert conn.get("/p20", host="h1.example").status == 404
    assert conn.get("/p1", host="h60.example").status == 404


def test_proxied_and_own_answers_mix_on_one_connection(weir, backend):
    proxy = weir({"routes": [to("own", prefix="/own"),
                             {"name": "up", "prefix": "/", "pool": "app"}]}, backend)
    conn = proxy.client()
    conn.send(b"".join(wire.request_bytes(target="/own/%d" % i if i % 2 else "/up/%d" % i)
                       for i in range(20)))
    assert [conn.response().body for _ in range(20)] == [b"own" if i % 2 else b"GET /up/%d" % i
                                                         for i in range(20)]
