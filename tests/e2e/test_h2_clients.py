"""HTTP/2 through weir as the raw client of the harness sees it, every frame checked: bodies both
ways, streams side by side, trailers, 1xx, cancels, reloads, drains, routes and the log.
RFC 9113, RFC 9110. Programs that people have (curl, node, ...) are in test_h2_programs.py."""
import json
import signal

import pytest

from harness import client, h2wire as h2
from harness.h2fixtures import (h2make, h2pair, h2shared, make_pair,  # noqa: F401
                                speaks_h2)
from harness.h2site import SIZES, Site, body_digest, digest, pattern
from harness.weir import eventually

BOTH = pytest.mark.parametrize("how", ["h2c", "tls"])
LARGE = ((h2.INITIAL_WINDOW_SIZE, 1 << 20),)
H2_EXTRA = {"limits": {"body_bytes": "8MiB"}}
H2_CONF = {"routes": [
    {"name": "all", "prefix": "/", "pool": "app"},
    {"name": "tea", "prefix": "/tea", "respond": {"status": 418, "body": "short and stout"}},
    {"name": "old", "path": "/old", "redirect": {"to": "https://x.example/new", "status": 308}},
    {"name": "get", "path": "/only-get", "methods": ["GET"], "pool": "app"},
    {"name": "host", "prefix": "/", "hosts": ["bare.example"],
     "respond": {"status": 200, "body": "bare"}}]}


@pytest.fixture
def site(h2pair):  # noqa: F811
    """h2pair with the pages of h2site.py; nothing stays held."""
    h2pair.backend.default = h2pair.site = Site()
    yield h2pair
    h2pair.site.held.go.set()


# ---- bodies ----

@BOTH
@pytest.mark.parametrize("size", SIZES)
def test_download(site, how, size):
    conn = site.conn(how, settings=LARGE).handshake()
    response = conn.get("/bytes?n=%d" % size)
    assert response.status == 200 and response.get("content-length") == str(size)
    assert body_digest(response.payload) == digest(pattern(size))
    assert site.logged(path="/bytes")["http.response.body.size"] == size


@BOTH
@pytest.mark.parametrize("size", SIZES)
def test_download_of_unknown_length(site, how, size):
    conn = site.conn(how).handshake()
    response = conn.get("/chunked?n=%d" % size)
    assert not response.all("content-length")
    assert body_digest(response.payload) == digest(pattern(size))


@BOTH
@pytest.mark.parametrize("sized", [True, False], ids=["length", "no-length"])
@pytest.mark.parametrize("size", SIZES)
def test_upload(site, how, size, sized):
    conn = site.conn(how).handshake()
    fields = [("content-length", str(size))] if sized else []
    response = conn.request("POST", "/sum", fields, pattern(size))
    assert response.body.decode() == digest(pattern(size))
    request = site.backend.last
    assert request.length == size if sized else request.framing in ("chunked", "length")
    assert site.logged(path="/sum")["http.request.body.size"] == size


@pytest.mark.parametrize("version", [1, 2])
def test_a_content_that_is_none(site, version):
    """An HTTP/1.1 endpoint is told so where the method is meant to have one (RFC 9110 8.6)."""
    for method in ("POST", "PUT", "PATCH", "GET", "DELETE", "OPTIONS", "REPORT"):
        if version == 2:
            response = site.conn("h2c").handshake().request(method, "/none")
        else:
            conn = site.client()
            conn.send(b"%s /none HTTP/1.1\r\nHost: x\r\n\r\n" % method.encode())
            response = conn.response(method)
        assert response.status == 200
        want = ["0"] if method in ("POST", "PUT", "PATCH") else []
        request = site.backend.last
        assert request.method == method and request.all("content-length") == want


@BOTH
@pytest.mark.parametrize("frame", [1, 255, 16384])
def test_frames_of_any_size(site, how, frame):
    body = pattern(2000 if frame == 1 else 100000)
    conn = site.conn(how).handshake()
    number = conn.open("POST", "/echo", end=False)
    assert conn.data(number, body, size=frame)
    assert conn.wait(number).body == body


def test_larger_frames_when_the_client_takes_them(site):
    conn = site.conn(settings=LARGE + ((h2.MAX_FRAME_SIZE, 1 << 18),)).handshake()
    assert body_digest(conn.get("/bytes?n=1048576").payload) == digest(pattern(1 << 20))


@pytest.mark.parametrize("window", [1, 7, 1000])
def test_small_windows(site, window):
    """The client's window is never exceeded (the check counts), and the body is whole."""
    size = 300 if window == 1 else 5000
    conn = site.conn(settings=((h2.INITIAL_WINDOW_SIZE, window),)).handshake()
    assert conn.get("/bytes?n=%d" % size).body == pattern(size)


@BOTH
def test_full_duplex(site, how):
    """Ten uploads and ten downloads of 1 MiB on one connection."""
    conn = site.conn(how).handshake()
    down = [conn.open("GET", "/bytes?n=%d" % (1 << 20)) for _ in range(10)]
    up = [conn.open("POST", "/sum", end=False) for _ in range(10)]
    for number in up:
        assert conn.data(number, pattern(1 << 20))
    for number in up:
        assert conn.wait(number).body.decode() == digest(pattern(1 << 20))
    for number in down:
        assert body_digest(conn.wait(number).payload) == digest(pattern(1 << 20))


# ---- streams side by side ----

@BOTH
def test_hundred_streams(site, how):
    conn = site.conn(how).handshake()
    numbers = [conn.open(path="/n%d" % n) for n in range(100)]
    bodies = [conn.wait(number).body for number in numbers]
    assert bodies == [b"GET /n%d" % n for n in range(100)]
    conn.expect_alive()
    assert site.metric("weir_downstream_connections") >= 1


@BOTH
def test_hundred_streams_at_once_in_the_backend(site, how):
    """All of them are there together; one more connection is served meanwhile."""
    conn = site.conn(how).handshake()
    numbers = [conn.open(path="/held") for _ in range(100)]
    site.site.held.wait("arrived", 100)
    assert site.get("/other").status == 200
    assert conn.get("/meanwhile").body == b"GET /meanwhile"
    site.site.held.go.set()
    assert [conn.wait(number).body for number in numbers] == [b"held"] * 100


def test_interleaved_uploads(site):
    """Frames of 50 uploads in turn; each arrives whole and unmixed."""
    conn = site.conn().handshake()
    bodies = [pattern(1000 + n)[n:] for n in range(50)]
    numbers = [conn.open("POST", "/echo", end=False) for _ in bodies]
    for at in range(0, 1000, 100):
        for number, body in zip(numbers, bodies):
            conn.send(h2.data(number, body[at : at + 100], 0 < len(body) - at <= 100))
    assert [conn.wait(number).body for number in numbers] == bodies


@BOTH
def test_slow_reader_with_other_streams(site, how):
    """A stream whose window is shut holds up no other of its connection."""
    conn = site.conn(how, credit=False).handshake()
    conn.send(h2.window_update(0, 1 << 30))
    slow = conn.open(path="/bytes?n=%d" % (1 << 20))
    conn.pump(lambda: conn.stream(slow).response.payload.length == 65535, what="a full window")
    for n in range(30):
        assert conn.get("/n%d" % n).body == b"GET /n%d" % n
    assert conn.stream(slow).response.payload.length == 65535
    conn.send(h2.window_update(slow, 1 << 20))
    assert body_digest(conn.wait(slow).payload) == digest(pattern(1 << 20))


def test_slow_endpoint_with_other_streams(site):
    """An upload that its endpoint does not read holds up no other stream."""
    conn = site.conn().handshake()
    held = conn.open(path="/held")
    for n in range(30):
        assert conn.get("/n%d" % n).body == b"GET /n%d" % n
    site.site.held.go.set()
    assert conn.wait(held).body == b"held"


def test_many_requests_on_one_connection(site):
    before = site.metric("weir_upstream_connects_total")
    conn = site.conn().handshake()
    for _ in range(1000):
        assert conn.get("/n").status == 200
    assert site.logged(count=1000, path="/n")
    made = site.metric("weir_upstream_connects_total") - before
    assert made <= 10, "upstream connections are not used again"


# ---- heads ----

@BOTH
def test_head(site, how):
    conn = site.conn(how).handshake()
    response = conn.request("HEAD", "/bytes?n=1000")
    assert response.status == 200 and response.get("content-length") == "1000"
    assert conn.get("/after").body == b"GET /after"


@pytest.mark.parametrize("status", [204, 304])
def test_no_content(site, status):
    conn = site.conn().handshake()
    response = conn.get("/%d" % status)
    assert response.status == status and response.payload.length == 0
    assert conn.get("/after").body == b"GET /after"


@BOTH
def test_early_hints(site, how):
    response = site.conn(how).handshake().get("/hints")
    assert [status for status, _ in response.interim] == [103]
    assert (b"link", b"</a.css>; rel=preload") in response.interim[0][1]
    assert response.status == 200 and response.body == b"hinted"


@BOTH
def test_continue(site, how):
    """The client waits for 100 before it sends the body."""
    conn = site.conn(how).handshake()
    number = conn.open("POST", "/echo", [("expect", "100-continue"), ("content-length", "4")],
                       end=False)
    response = conn.stream(number).response
    conn.pump(lambda: response.interim, what="100")
    assert {status for status, _ in response.interim} == {100} and response.status is None
    conn.data(number, b"test")
    assert conn.wait(number).body == b"test"


@BOTH
def test_other_expectations(site, how):
    """A request in order that cannot be met is answered (RFC 9110 section 10.1.1), not reset."""
    conn = site.conn(how).handshake()
    response = conn.get("/echo", [("expect", "200-ok")])
    assert response.status == 417 and "client.bad_request.expect" in response.get("proxy-status")
    assert conn.get("/after").body == b"GET /after"
    conn.expect_alive()


@BOTH
def test_response_trailers(site, how):
    response = site.conn(how).handshake().get("/trailers", [("te", "trailers")])
    assert response.body == b"with trailers"
    assert response.trailers == [(b"x-sum", b"7"), (b"x-more", b"a")]


@BOTH
@pytest.mark.parametrize("body", [b"body", None])
def test_request_trailers(site, how, body):
    conn = site.conn(how).handshake()
    response = conn.request("POST", "/echo", body=body, trailers=[("x-sum", "9")])
    assert response.body == (body or b"")
    request = site.backend.last
    assert [(n.lower(), v) for n, v in request.trailers] == [(b"x-sum", b"9")]


def test_forbidden_trailers_are_dropped(site):
    """RFC 9110 6.5.1: framing, routing and the like mean nothing in trailers."""
    conn = site.conn().handshake()
    trailers = [("content-length", "99"), ("host", "evil.example"), ("x-forwarded-for", "6.6.6.6"),
                ("authorization", "evil"), ("x-sum", "9")]
    assert conn.request("POST", "/echo", body=b"x", trailers=trailers).status in (200, 400)
    for request in site.backend.requests:
        assert {n.lower() for n, _ in request.trailers} <= {b"x-sum"}


def test_cookies_in_crumbs(site):
    conn = site.conn().handshake()
    crumbs = ["a=%d" % n for n in range(20)]
    response = conn.get("/fields", [("cookie", each) for each in crumbs])
    cookies = [v for n, v in json.loads(response.body) if n == "cookie"]
    assert cookies == ["; ".join(crumbs)]


@BOTH
def test_large_request_head(site, how):
    """One field longer than a frame, and fifty of 800 bytes: CONTINUATION both."""
    conn = site.conn(how).handshake()
    fields = [("x-%d" % n, "v" * 800) for n in range(50)]
    got = json.loads(conn.get("/fields", fields).body)
    assert [v for n, v in got if n.startswith("x-") and "forwarded" not in n] == ["v" * 800] * 50
    got = json.loads(conn.get("/fields", [("x-long", "w" * 40000)]).body)
    assert [v for n, v in got if n == "x-long"] == ["w" * 40000]


@BOTH
def test_large_response_head(site, how):
    response = site.conn(how).handshake().get("/large-head")
    assert response.body == b"large"
    assert [response.get("x-%d" % n) for n in range(40)] == ["v" * 1000] * 40


def test_hop_by_hop_fields_of_the_response(site):
    """The check of the harness refuses them; what Connection names goes, the rest stays."""
    response = site.conn().handshake().get("/hop-by-hop")
    assert response.get("x-hop") is None and response.get("x-stays") == "1"


def test_same_fields_every_time(site):
    """The dynamic tables of both sides stay in step over many requests."""
    conn = site.conn(settings=((h2.HEADER_TABLE_SIZE, 200),)).handshake()
    for n in range(50):
        conn.check.methods[conn.next_stream] = "GET"
        number = conn.new_stream()
        block = h2.block(h2.pseudo(path="/large-head")) + h2.incremental("x-a", "v%d" % (n % 7))
        conn.send(h2.headers(number, block))
        assert conn.wait(number).get("x-39") == "v" * 1000


# ---- what is told and forwarded ----

@BOTH
def test_forwarded_fields(site, how):
    conn = site.conn(how).handshake()
    forged = [("x-forwarded-for", "6.6.6.6"), ("x-forwarded-proto", "evil"),
              ("x-forwarded-host", "evil.example"), ("forwarded", "for=6.6.6.6")]
    assert conn.get("/f", forged).status == 200
    request = site.backend.last
    assert request.get("host") == "test.example"
    assert request.get("x-forwarded-for") == "127.0.0.1"
    assert request.get("x-forwarded-proto") == ("https" if how == "tls" else "http")
    assert request.get("x-forwarded-host") == "test.example"
    assert not request.all("forwarded")


@BOTH
def test_access_log(site, how):
    conn = site.conn(how).handshake()
    number = conn.open("POST", "/echo?q=1", [("user-agent", "raw")], end=False)
    conn.data(number, b"12345")
    conn.wait(number)
    record = site.logged(path="/echo", end="ok", status=200)
    want = {"network.protocol.name": "http", "network.protocol.version": "2",
            "http.request.method": "POST", "url.query": "q=1", "http.route": "all",
            "url.scheme": "https" if how == "tls" else "http", "server.address": "test.example",
            "client.address": "127.0.0.1", "user_agent.original": "raw",
            "http.request.body.size": 5, "http.response.body.size": 5, "weir.pool": "app"}
    assert {key: record.get(key) for key in want} == want
    if how == "tls":
        assert record["tls.protocol.version"] == "1.3"


def test_counters(site):
    """Requests, not connections, are counted; nothing stays in flight."""
    before = site.metric("weir_request_end_total", end="ok")
    conn = site.conn().handshake()
    for number in [conn.open(path="/c") for _ in range(25)]:
        conn.wait(number)
    eventually(lambda: site.metric("weir_request_end_total", end="ok") == before + 25)
    assert site.metric("weir_requests_inflight") == 0


# ---- routes and errors ----

@BOTH
def test_respond_and_redirect(site, how):
    conn = site.conn(how).handshake()
    tea = conn.get("/tea/pot")
    assert (tea.status, tea.body) == (418, b"short and stout")
    old = conn.get("/old")
    assert old.status == 308 and old.get("location") == "https://x.example/new"
    number = conn.open(path="/", authority="bare.example")
    assert conn.wait(number).body == b"bare"
    assert conn.request("POST", "/tea", body=pattern(100000)).status == 418
    assert conn.get("/after").body == b"GET /after"
    assert not [r for r in site.backend.requests if r.path != "/after"]


def test_method_not_allowed(site):
    conn = site.conn().handshake()
    response = conn.request("POST", "/only-get", body=b"x")
    assert response.status in (405, 200)  # "/" takes every method
    no_host = conn.open(path="/x", authority="bare.example")
    assert conn.wait(no_host).status == 200


def test_no_route(h2make):  # noqa: F811
    made = h2make({"routes": [{"name": "one", "path": "/one", "pool": "app"}]})
    conn = made.conn().handshake()
    assert conn.get("/two").status == 404
    assert conn.get("/one").status == 200
    made.weir.ended("proxy.no_route", status=404)


def test_refused_endpoint(h2make):  # noqa: F811
    made = h2make()
    made.backend.stop()
    conn = made.conn().handshake()
    numbers = [conn.open(path="/gone") for _ in range(5)]
    assert [conn.wait(number).status for number in numbers] == [502] * 5
    conn.expect_alive()
    made.weir.ended("upstream.connect.refused", count=5, status=502)


def test_endpoint_dies_inside_a_body(site):
    """The stream is reset, never ended well; the connection goes on."""
    def cut(conn, _request):
        conn.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nshort")
        conn.close()
    site.backend.on("/cut", cut)
    conn = site.conn().handshake()
    number = conn.open(path="/cut")
    conn.pump(lambda: conn.stream(number).over, what="the end of the stream")
    assert conn.stream(number).reset == h2.INTERNAL_ERROR or conn.stream(number).reset
    assert conn.get("/after").status == 200
    assert site.logged(path="/cut")["weir.end"].startswith("upstream.")


def test_body_too_large(h2make):  # noqa: F811
    made = h2make(extra={"limits": {"body_bytes": "64KiB"}})
    conn = made.conn().handshake()
    response = conn.request("POST", "/b", [("content-length", "65537")], end_of(65537))
    assert response.status == 413
    number = conn.open("POST", "/b", end=False)
    conn.data(number, pattern(200000))
    stream = conn.stream(number)
    conn.pump(lambda: stream.over, what="refusal of a body without a length")
    assert stream.response.status == 413 or stream.reset is not None
    assert conn.get("/after").status == 200
    made.weir.logged(count=2, end="proxy.limit.body_bytes")
    assert not [r for r in made.backend.seen("/b") if r.complete]


def end_of(size):
    return pattern(size)


@pytest.mark.parametrize("fields,end", [
    ([("x-%d" % n, "v") for n in range(110)], "proxy.limit.headers"),
    ([("x-long", "v" * 70000)], "proxy.limit.header_bytes")])
def test_head_too_large(site, fields, end):
    """431 or an error, and nothing reaches the backend."""
    conn = site.conn().handshake()
    number = conn.open(path="/large", fields=fields)
    stream = conn.stream(number)
    conn.pump(lambda: stream.over or conn.closed, what="refusal")
    assert stream.response.status == 431 or stream.reset or conn.error, conn.state()
    assert site.conn().handshake().get("/after").status == 200
    assert not site.backend.seen("/large")
    assert site.logged(end=end)


def test_uri_too_long(site):
    conn = site.conn().handshake()
    assert conn.get("/" + "p" * 20000).status == 414
    assert conn.get("/after").status == 200


def test_early_answer_to_an_upload(site):
    """The endpoint answers before the body is there: the response is whole, the rest is told off
    with RST_STREAM NO_ERROR or taken (RFC 9113 8.1)."""
    def early(conn, _request):
        conn.send(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno")
        conn.close()
    site.backend.on("/early", early)
    conn = site.conn().handshake()
    number = conn.open("POST", "/early", end=False)
    response = conn.wait_head(number)
    conn.pump(lambda: conn.stream(number).over, what="the end")
    assert (response.status, response.body) == (403, b"no")
    conn.data(number, pattern(1000))
    conn.drain()
    assert conn.stream(number).reset in (None, h2.NO_ERROR, h2.STREAM_CLOSED)
    assert conn.get("/after").status == 200


# ---- cancel ----

@BOTH
def test_cancel_reaches_the_backend(site, how):
    """RST_STREAM ends the backend's work at once; the other streams go on."""
    conn = site.conn(how).handshake()
    numbers = [conn.open(path="/held") for _ in range(10)]
    site.site.held.wait("arrived", 10)
    for number in numbers[:9]:
        conn.send(h2.rst_stream(number, h2.CANCEL))
    site.site.held.wait("gone", 9)
    assert conn.get("/after").body == b"GET /after"
    site.site.held.go.set()
    assert conn.wait(numbers[9]).body == b"held"
    site.logged(count=9, path="/held", status=499)
    site.logged(path="/held", end="ok")
    ends = {r["weir.end"] for r in site.weir.lines() if r["url.path"] == "/held"}
    assert ends <= {"ok", "client.reset", "client.closed"} and len(ends) == 2


def test_cancel_inside_an_upload(site):
    conn = site.conn().handshake()
    number = conn.open("POST", "/echo", [("content-length", "1000")], end=False)
    conn.send(h2.data(number, bytes(10)))
    site.backend.wait()
    conn.send(h2.rst_stream(number))
    assert conn.get("/after").status == 200
    upstream = site.backend.conns[site.backend.seen("/echo")[0].connection]
    assert upstream.ended.wait(30)
    assert site.logged(path="/echo")["weir.end"].startswith("client.")


def test_cancel_inside_a_download(site):
    """Window that DATA of a cancelled stream took comes back to the connection's streams."""
    conn = site.conn(credit=False).handshake()
    for _ in range(5):
        number = conn.open(path="/bytes?n=1000000")
        conn.pump(lambda n=number: conn.stream(n).response.payload.length > 0, what="DATA")
        conn.send(h2.rst_stream(number))
        conn.expect_alive()
        conn.send(h2.window_update(0, h2.WINDOW_DEFAULT - conn.check.window))
    assert conn.get("/after").status == 200


def test_connection_lost_with_streams(site):
    """All of them are cancelled upstream and logged."""
    conn = site.conn().handshake()
    for _ in range(20):
        conn.open(path="/held")
    site.site.held.wait("arrived", 20)
    conn.close()
    site.site.held.wait("gone", 20)
    site.logged(count=20, path="/held", status=499)
    site.weir.settle()


# ---- reload and drain ----

def test_reload_with_streams(h2make):  # noqa: F811
    """Running streams finish, and the next request of the connection sees the new routes."""
    site = Site()
    made = h2make(handler=site)
    conn = made.conn().handshake()
    numbers = [conn.open(path="/held") for _ in range(10)]
    upload = conn.open("POST", "/sum", end=False)
    site.held.wait("arrived", 10)
    made.weir.change(routes=[{"name": "new", "prefix": "/", "pool": "app"},
                             {"name": "tea", "path": "/tea", "respond": {"status": 418}}])
    made.weir.reload()
    assert conn.get("/tea").status == 418
    assert conn.data(upload, pattern(300000))
    assert conn.wait(upload).body.decode() == digest(pattern(300000))
    site.held.go.set()
    assert [conn.wait(number).body for number in numbers] == [b"held"] * 10
    assert conn.error is None and conn.get("/after").status == 200
    assert made.weir.logged(path="/after")["http.route"] == "new"


def test_drain(h2make):  # noqa: F811
    """GOAWAY twice: 2^31-1 first, then the last stream that is served; what runs finishes, and
    the connection ends without an error (RFC 9113 6.8)."""
    site = Site()
    made = h2make({"process": {"drain": "20s"}}, handler=site)
    busy, idle = made.conn().handshake(), made.conn("tls").handshake()
    assert idle.get("/idle").status == 200
    numbers = [busy.open(path="/held") for _ in range(5)]
    site.held.wait("arrived", 5)
    made.weir.signal(signal.SIGTERM)
    busy.pump(lambda: len(busy.check.goaways) >= 2, what="two GOAWAYs")
    assert [g[:2] for g in busy.check.goaways] == [(h2.WINDOW_MAX, 0), (numbers[-1], 0)]
    idle.expect_closed()
    assert idle.check.goaways[-1][:2] == (1, 0) and idle.closed == "eof"
    assert made.weir.status_get("/-/live").status == 200
    site.held.go.set()
    assert [busy.wait(number).body for number in numbers] == [b"held"] * 5
    busy.expect_closed()
    assert busy.closed == "eof"
    assert made.weir.process.wait(30) == 0
    made.weir.logged(count=5, path="/held", end="ok")


def test_stream_between_the_goaways(h2make):  # noqa: F811
    """A request that was under way when the drain began is served or refused, never lost."""
    site = Site()
    made = h2make({"process": {"drain": "20s"}}, handler=site)
    conn = made.conn().handshake()
    held = conn.open(path="/held")
    site.held.wait("arrived", 1)
    made.weir.signal(signal.SIGTERM)
    late = conn.open(path="/late")
    conn.pump(lambda: len(conn.check.goaways) >= 2, what="two GOAWAYs")
    site.held.go.set()
    assert conn.wait(held).body == b"held"
    if late <= conn.check.goaways[-1][0]:
        conn.pump(lambda: conn.stream(late).over, what="the late request")
        assert conn.stream(late).response.status in (200, 503)
    else:
        conn.expect_closed()
        assert not made.backend.seen("/late")


def test_drain_has_a_deadline(h2make):  # noqa: F811
    site = Site()
    made = h2make({"process": {"drain": "500ms"}}, handler=site)
    conn = made.conn().handshake()
    conn.open(path="/held")
    site.held.wait("arrived", 1)
    made.weir.signal(signal.SIGTERM)
    conn.expect_closed()
    site.held.go.set()
    assert made.weir.process.wait(30) == 0
    assert made.weir.logged(path="/held")["weir.end"] == "proxy.drain"


# ---- HTTP/1.1 on the same port ----

def test_both_versions_on_a_plaintext_port(site):
    assert site.get("/one").status == 200
    assert site.conn().handshake().get("/two").status == 200
    assert site.logged(path="/one")["network.protocol.version"] == "1.1"
    assert site.logged(path="/two")["network.protocol.version"] == "2"


@pytest.mark.parametrize("offer,chosen", [
    (["h2", "http/1.1"], "h2"), (["http/1.1", "h2"], "h2"), (["http/1.1"], "http/1.1"),
    (["http/1.0", "http/1.1"], "http/1.1"), (None, None)])
def test_alpn(site, offer, chosen):
    """The server's order decides (RFC 7301 3.2); without ALPN it is HTTP/1.1."""
    context = site.authority.client_context(alpn=offer)
    with client.Client(site.tls_port, tls=context, sni="test.example") as conn:
        assert conn.sock.selected_alpn_protocol() == chosen
        if chosen != "h2":
            assert conn.get("/alpn", host="test.example").body == b"GET /alpn"
    if chosen == "h2":
        assert site.conn("tls").handshake().get("/alpn").status == 200


def test_h2c_is_not_served_where_it_is_not_configured(h2make):  # noqa: F811
    """Nor h2 by ALPN where protocols leaves it out."""
    made = h2make(extra={"protocols": ["http/1.1"]})
    with client.Client(made.weir.port) as conn:
        conn.try_send(h2.PREFACE + h2.settings())
        assert conn.response().status == 400
    made.weir.ended("client.bad_request.h2_preface")
    context = made.authority.client_context(alpn=["h2", "http/1.1"])
    with client.Client(made.tls_port, tls=context, sni="test.example") as conn:
        assert conn.sock.selected_alpn_protocol() == "http/1.1"
        assert conn.get("/x", host="test.example").status == 200


def test_upgrade_to_h2c_is_not_taken(site):
    """RFC 9113 3.1 has no Upgrade: h2c any more; the request is served as HTTP/1.1."""
    response = site.get("/u", ["Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c",
                               "HTTP2-Settings: AAMAAABkAAQAAP__"])
    assert response.status == 200 and response.body == b"GET /u"
    assert not site.backend.last.all("http2-settings")


def test_preface_in_single_bytes(site):
    conn = site.conn(start=False)
    for at in range(len(h2.PREFACE)):
        conn.send(h2.PREFACE[at : at + 1])
    conn.send(h2.settings())
    assert conn.handshake().get("/bytewise").status == 200


def test_everything_in_single_bytes(site):
    """However frames are cut, the result is the same."""
    conn = site.conn(start=False)
    body = h2.split_headers(1, h2.request(method="POST", path="/echo"), [9, 3], end=False)
    whole = h2.PREFACE + h2.settings() + body + h2.data(1, b"cut", pad=3) + h2.data(1, b"!", True)
    for at in range(len(whole)):
        conn.send(whole[at : at + 1])
    assert conn.wait(1).body == b"cut!"
