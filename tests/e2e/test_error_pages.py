"""Bodies of error responses by status, and single values of policies: timeouts and limits
(packaging/docs/policies.md)."""
import pytest

from harness import client, wire
from harness.backend import raw, reply
from harness.weir import run

PAGES = {
    "all": {"errors": [
        {"status": ["5xx", "4xx"], "body": "<b>all</b>"},
        {"status": ["503", "413"], "body": "{}", "content_type": "application/json",
         "upstream": True},
        {"status": ["404"], "body": "not here", "upstream": True},
        {"status": "500", "body": "", "upstream": True},
    ]},
    "last": {"errors": [{"status": "502", "body": "last", "content_type": "text/x"}],
             "response_headers": {"set": ["X-Page: 1"]}},
    "small": {"limits": {"body_bytes": "10B"}},
    "large": {"limits": {"body_bytes": "0"}},
}
SHARED_CONF = {
    "policies": PAGES,
    "listeners": {"web": {"limits": {"body_bytes": "100B"}}},
    "pools": {"none": {"endpoints": ["127.0.0.1:1"]}},
    "routes": [
        {"name": "app", "prefix": "/", "pool": "app", "policies": ["all", "last"]},
        {"name": "plain", "prefix": "/plain", "pool": "app"},
        {"name": "down", "prefix": "/down", "pool": "none", "policies": ["all"]},
        {"name": "later", "prefix": "/later", "pool": "none", "policies": ["all", "last"]},
        {"name": "respond", "prefix": "/respond", "policies": ["all"],
         "respond": {"status": 503, "body": "own"}},
        {"name": "small", "prefix": "/small", "pool": "app", "policies": ["all", "small"]},
        {"name": "large", "prefix": "/large", "pool": "app", "policies": ["small", "large"]},
    ],
}


@pytest.mark.parametrize("path,body,kind", [("/down", b"<b>all</b>", "text/html; charset=utf-8"),
                                            ("/later", b"last", "text/x")])
def test_weirs_own_errors(pair, path, body, kind):
    for method in ("GET", "HEAD"):
        response = pair.request(method, path)
        assert response.status == 502 and response.get("content-type") == kind
        assert response.get("content-length") == str(len(body))
        assert response.body == (body if method == "GET" else b"")
        assert "connection_refused" in response.get("proxy-status")
        assert bool(response.all("x-page")) == (path == "/later")
    pair.ended("upstream.connect.refused", path=path, status=502)


def test_a_fixed_response_is_what_it_says(pair):
    assert pair.get("/respond").body == b"own"


def test_errors_before_a_route_are_plain(pair):
    response = pair.exchange(b"GET / HTTP/1.1\r\n\r\n")[1]
    assert response.status == 400 and b"host_missing" in response.body


FIELDS = ["Content-Type: text/plain", "Retry-After: 7", "Set-Cookie: a=b", "X-Powered-By: x"]


@pytest.mark.parametrize("status,body", [(503, b"{}"), (404, b"not here"), (500, b""),
                                         (502, None), (504, None), (200, None), (400, None)])
def test_errors_of_the_pool(pair, status, body):
    """Only where the page says so; what the pool sent is not passed on, but what it says about the
    error is."""
    pair.backend.on("/u", reply(status, b"stack trace", FIELDS))
    response = pair.client().get("/u")
    assert response.status == status
    assert response.body == (b"stack trace" if body is None else body)
    assert response.all("retry-after") == ["7"]
    assert bool(response.all("x-powered-by")) == (body is None)
    assert bool(response.all("set-cookie")) == (body is None)
    assert response.all("x-page") == ["1"]
    assert pair.backend.on and pair.logged(path="/u", status=status, end="ok")


HEAD = b"HTTP/1.1 503 No\r\nContent-Type: text/plain\r\n"
BODIES = {
    "length": (HEAD + b"Content-Length: 5\r\n\r\nerror",),
    "none": (HEAD + b"Content-Length: 0\r\n\r\n",),
    "chunked": (HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\nerror\r\n0\r\n\r\n",),
}
UNREAD = {
    "in parts": (HEAD + b"Content-Length: 5\r\n\r\ner", 0.05, b"ror"),
    "extra": (HEAD + b"Content-Length: 5\r\n\r\nerror"
              b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil",),
    "chunks": (HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\nerror\r\n", 0.05, b"0\r\n\r\n"),
    "more chunks": (HEAD + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",),
    "bad chunks": (HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",),
    "close": (HEAD + b"Connection: close\r\n\r\nerror",),
}


@pytest.mark.parametrize("parts", BODIES.values(), ids=BODIES)
def test_the_endpoint_stays_connected(pair, parts):
    pair.backend.on("/u", raw(*parts))
    conn = pair.client()
    for _ in range(3):
        response = conn.get("/u")
        assert response.status == 503 and response.body == b"{}"
    assert len({r.connection for r in pair.backend.requests}) == 1


@pytest.mark.parametrize("parts", UNREAD.values(), ids=UNREAD)
def test_what_was_not_read_is_nobodys(pair, parts):
    """THREATS.md row 13: the rest of a replaced response is never the next one."""
    pair.backend.on("/u", raw(*parts))
    conn = pair.client()
    for _ in range(2):
        assert conn.get("/u").body == b"{}"
        assert conn.get("/x").body == b"GET /x"
    first = [r.connection for r in pair.backend.requests]
    assert first[0] != first[1]


def test_early_error_with_the_body_owed(pair):
    """The pool answers before it read the request: the page goes out, the connection ends."""
    def early(conn, _request):
        conn.send(BODIES["length"][0])
        conn.close()
    pair.backend.on("/u", early)
    conn = pair.client()
    conn.send(b"POST /u HTTP/1.1\r\nHost: h\r\nContent-Length: 90\r\n\r\nx")
    response = conn.response("POST")
    assert response.status == 503 and response.body == b"{}"
    assert response.get("connection") == "close"
    conn.expect_close()


def test_file_page(weir, work):
    page = work / "5xx.html"
    page.write_text("one")
    proxy = weir({"policies": {"p": {"errors": [{"status": "5xx", "file": str(page)}]}},
                  "pools": {"none": {"endpoints": ["127.0.0.1:1"]}},
                  "routes": [{"prefix": "/", "pool": "none", "policies": ["p"]}]})
    assert proxy.get("/").body == b"one"
    page.write_text("two")
    result = run("reload", "--text", "--admin", "unix:%s" % proxy.admin)
    assert result.returncode == 0 and "~ policy p: settings" in result.stdout
    assert proxy.get("/").body == b"two"


# ---- limits ----


@pytest.mark.parametrize("path,most", [("/small", 10), ("/plain", 100), ("/large", 5000)])
def test_body_limit(pair, path, most):
    """The route's policies stand in place of the listener's limit, up and down."""
    assert pair.request("POST", path, body=b"x" * most).status == 200
    parts = wire.chunked(b"y" * most)
    conn = pair.client()
    conn.send(b"POST %s HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n%s" % (
        path.encode(), parts))
    assert conn.response("POST").status == 200
    if path == "/large":
        return
    response = pair.request("POST", path, body=b"x" * (most + 1))
    assert response.status == 413
    assert response.body == b"{}" if path == "/small" else b"body_bytes" in response.body
    pair.ended("proxy.limit.body_bytes", path=path, status=413)
    conn = pair.client()
    conn.try_send(b"POST %s HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n%s" % (
        path.encode(), wire.chunked(b"y" * (most + 1))))
    assert conn.response("POST").status == 413
    pair.backend.violations.clear()  # the request was cut, as it must be


# ---- timeouts ----


def slow(seconds):
    return lambda conn, request: conn.send(seconds, wire.response_bytes(body=b"late"))


TIMEOUTS = {
    "fast": {"timeouts": {"first_byte": "200ms"}},
    "total": {"timeouts": {"request": "200ms"}},
    "none": {"timeouts": {"request": "0s", "first_byte": "0s"}},
    "idle": {"timeouts": {"idle": "200ms"}},
    "body": {"timeouts": {"body": "200ms"}},
}


@pytest.fixture(scope="module")
def timed(session_dir):
    from harness.backend import Backend
    from harness.fixtures import Weirs
    backend, made = Backend(), Weirs(session_dir)
    routes = [{"name": name, "prefix": "/" + name, "pool": "app", "policies": [name]}
              for name in TIMEOUTS]
    routes += [{"name": "long", "prefix": "/long", "pool": "app"},
               {"name": "own", "prefix": "/own", "pool": "app", "timeout": "10s",
                "policies": ["total"]},
               {"name": "both", "prefix": "/both", "pool": "app", "policies": ["total", "none"]},
               {"name": "off", "prefix": "/off", "pool": "app", "timeout": "0s",
                "policies": ["total"]}]
    calm = {"outlier": {"consecutive_failures": 0}}
    yield made({"policies": TIMEOUTS, "pools": {"app": calm}, "routes": routes}, backend), backend
    made.finish()
    backend.stop()


@pytest.mark.parametrize("path,end", [("/fast", "upstream.first_byte.timeout"),
                                      ("/total", "upstream.timeout")])
def test_shorter_timeout(timed, path, end):
    proxy, backend = timed
    backend.on(path, slow(30))
    assert proxy.get(path).status == 504
    proxy.ended(end, path=path, status=504)


@pytest.mark.parametrize("path", ["/long", "/none", "/own", "/both", "/off"])
def test_other_timeouts_stay(timed, path):
    """What no policy of the route says is the pool's; the route's own timeout comes before its
    policies', the later policy before the earlier."""
    proxy, backend = timed
    backend.on(path, slow(0.6))
    assert proxy.get(path).status == 200


def test_idle_timeout_of_the_response(timed):
    proxy, backend = timed
    backend.on("/idle", raw(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf", 30))
    conn = proxy.client()
    conn.send(b"GET /idle HTTP/1.1\r\nHost: h\r\n\r\n")
    assert not conn.response(truncated_ok=True).complete
    proxy.ended("upstream.idle.timeout", path="/idle")


def test_body_timeout(timed):
    proxy, _ = timed
    conn = proxy.client()
    conn.send(b"POST /body HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\nhalf")
    assert conn.response("POST").status == 408
    proxy.ended("client.timeout.body", path="/body", status=408)


def test_send_timeout(weir, backend):
    """A client that does not read: the policy's time counts, not the listener's 30 s."""
    proxy = weir({"policies": {"p": {"timeouts": {"send": "300ms"}}},
                  "routes": [{"prefix": "/", "pool": "app", "policies": ["p"]}]}, backend)
    backend.on("/big", reply(200, b"x" * 50_000_000))
    conn = client.Client(proxy.port)
    conn.send(b"GET /big HTTP/1.1\r\nHost: h\r\n\r\n")
    proxy.ended("client.timeout.send", path="/big")
    conn.close()
