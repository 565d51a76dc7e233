"""Message semantics end to end: methods, HEAD, 1xx and Expect chains, HTTP/1.0, pipelining, early
responses. RFC 9110 sections 9, 10.1.1, 15.2; RFC 9112 sections 2.5 and 9."""
import json
import socket
import threading
import time

import pytest

from harness import client, wire
from harness.backend import raw
from harness.weir import GUARD, eventually

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "PROPFIND",
                                    "get", "M-SEARCH", "x!y"])
def test_methods_pass(pair, method):
    """Any token is a method; case is kept."""
    conn = pair.client()
    body = b"payload" if method in ("POST", "PUT", "PATCH", "PROPFIND") else None
    assert conn.request(method, "/m", body=body).status == 200
    assert pair.backend.last.method == method
    assert pair.ended("ok", path="/m")["http.request.method"] == method


@pytest.mark.parametrize("method", ["TRACE", "CONNECT"])
def test_methods_that_are_not_served(pair, method):
    """TRACE would have the endpoint send back what weir adds."""
    target = "a.example:80" if method == "CONNECT" else "/t"
    response = pair.request(method, target, ["Max-Forwards: 5"])
    assert response.status == 501 and not pair.backend.requests
    pair.ended("client.bad_request.method_not_served", status=501)


def test_head(pair):
    pair.backend.default = raw(b"HTTP/1.1 200 OK\r\nContent-Length: 12345\r\n\r\n")
    conn = pair.client()
    for _ in range(3):
        response = conn.request("HEAD", "/h")
        assert response.get("content-length") == "12345" and response.body == b""
    assert pair.backend.last.connection == pair.backend.requests[0].connection
    assert pair.ended("ok", path="/h")["http.response.body.size"] == 0


def test_head_of_what_weir_answers(weir):
    """weir's own answers to HEAD have no body either."""
    proxy = weir({"routes": [{"path": "/x", "respond": {"status": 200, "body": "hello"}}]})
    conn = proxy.client()
    for target, status in (("/x", 200), ("/none", 404), ("/x", 200)):
        assert conn.request("HEAD", target).status == status
    assert conn.get("/x").body == b"hello"


def test_options_asterisk(pair):
    assert pair.client().request("OPTIONS", "*").status == 200
    assert pair.backend.last.target == b"*"


def test_absolute_form_becomes_origin_form(pair):
    conn = pair.client()
    assert conn.get("http://abs.example/p?q=1", host="abs.example").status == 200
    assert pair.backend.last.target == b"/p?q=1" and pair.backend.last.get("host") == "abs.example"
    assert conn.get("http://abs.example", host="abs.example").status == 200
    assert pair.backend.last.target == b"/"


@pytest.mark.parametrize("target",
                         ["/a?b", "/a?", "/a??b=/../c", "/%20%C3%A9;x", "/a/b/", "/a;b=c",
                                    "/~!$&'()*+,=:@", "/a?%00", "/" + "p" * 4000])
def test_target_is_forwarded_byte_for_byte(pair, target):
    assert pair.client().get(target).status == 200
    assert pair.backend.last.target == target.encode()


def test_expect_continue_from_the_upstream(pair):
    """The 100 is the upstream's own; the body follows it."""
    def handler(conn, request):
        assert request.body.length == 0
        conn.send(CONTINUE)
        conn.read_body(request)
        return wire.response_bytes(body=request.body.data)
    pair.backend.default = handler
    pair.backend.early_bytes_ok = True
    conn = pair.client()
    conn.send(b"POST /e HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n")
    head = wire.parse_response_head(conn.reader)
    assert head.status == 100
    conn.send(b"body")
    assert conn.response().body == b"body"
    assert pair.backend.last.get("expect") == "100-continue"
    pair.ended("ok", path="/e")


def test_expect_refused_by_the_upstream(pair):
    """A final answer instead of 100: the client gets it without having sent its body, and the
    upstream connection, which still waits for that body, serves nobody else."""
    def handler(conn, _request):
        conn.send(wire.response_bytes(413, b"no", reason="Too Large"))
        conn.ended.wait(GUARD)
    pair.backend.on("/e", handler)
    conn = pair.client()
    conn.send(b"POST /e HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n")
    response = conn.response()
    assert response.status == 413 and not response.interim
    first = pair.backend.last.connection
    # Whatever the client does now, what it sends is not a new request but at most that body.
    conn.try_send(b"GET ")
    assert pair.client().get("/other").body == b"GET /other"
    assert pair.backend.last.connection != first
    assert len(pair.backend.requests) == 2


def test_expect_in_http_1_0_is_ignored(pair):
    conn = pair.client()
    conn.send(
        b"POST /e HTTP/1.0\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\nok")
    response = conn.response(minor=0)
    assert response.status == 200 and not response.interim


def test_expect_with_the_body_at_once(pair):
    """A client need not wait."""
    pair.backend.default = lambda conn, request: (
        conn.send(CONTINUE), conn.read_body(request),
        wire.response_bytes(body=request.body.data))[-1]
    pair.backend.early_bytes_ok = True
    conn = pair.client()
    response = conn.request("POST", "/e", ["Expect: 100-continue"], b"hello")
    assert response.body == b"hello" and conn.get("/x").status == 200


@pytest.mark.parametrize("told", [True, False], ids=["100", "none"])
def test_expect_without_100_ends_the_connection(pair, told):
    """Who answers 100 (Continue) takes the body for a body. Who answers without may take it for
    the next request, and answer that to whoever comes next (THREATS.md row 11)."""
    def handler(conn, request):
        if told:
            conn.send(CONTINUE)
        conn.read_body(request)
        return wire.response_bytes(401, b"denied", reason="Unauthorized")
    pair.backend.on("/e", handler)
    pair.backend.early_bytes_ok = True
    for body, fields in ((b"GET /x HTTP/1.1\r\nX: ", []),
                         ((b"4\r\nbody\r\n0\r\n\r\n"), ["Transfer-Encoding: chunked"])):
        fields = fields or ["Content-Length: %d" % len(body)]
        head = "\r\n".join(["POST /e HTTP/1.1", "Host: a", "Expect: 100-continue", *fields])
        conn = pair.client()
        conn.send(head.encode() + b"\r\n\r\n" + body)
        assert conn.response("POST").status == 401
        first = pair.backend.last.connection
        assert conn.get("/next").body == b"GET /next"
        assert (pair.backend.last.connection == first) is told


def test_early_hints_pass(pair):
    pair.backend.default = raw(
        b"HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\nConnection: "
        b"x\r\nX: 1\r\n\r\n",
        0.02, wire.response_bytes())
    response = pair.client().get("/hints")
    assert response.body == b"ok"
    hints = [r for r in response.interim if r.status == 103]
    assert len(hints) == 1 and hints[0].get("link") == "</a>" and hints[0].get("x") is None
    pair.ended("ok", path="/hints", status=200)


@pytest.mark.parametrize("count, status, end", [(16, 200, "ok"),
                                                (17, 502, "upstream.bad_response.interim")])
def test_so_many_interims(pair, count, status, end):
    pair.backend.default = raw(b"HTTP/1.1 103 Early Hints\r\n\r\n" * count
                               + wire.response_bytes())
    assert pair.client().get("/many").status == status
    pair.ended(end, path="/many", status=status)


def test_interim_is_not_sent_to_http_1_0(pair):
    pair.backend.default = raw(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
                               + wire.response_bytes())
    conn = pair.client()
    conn.send(b"GET / HTTP/1.0\r\nHost: a\r\n\r\n")
    response = conn.response(minor=0)
    assert response.status == 200 and not response.interim


def test_endless_interim_is_refused(pair):
    """1xx without end is not relayed without end."""
    def handler(conn, _request):
        for _ in range(100000):
            conn.send(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" * 16)
    pair.backend.default = handler
    response = pair.client().get("/many")
    assert response.status == 502
    assert pair.logged(path="/many")["weir.end"].startswith("upstream.bad_response.")


@pytest.mark.parametrize("upstream", ["length", "chunked", "close"])
def test_http_1_0_client(pair, upstream):
    """No chunked to 1.0; the connection ends unless kept alive with a length."""
    data = {"length": wire.response_bytes(body=b"data"),
            "chunked": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: "
                       b"chunked\r\n\r\n4\r\ndata\r\n0\r\n\r\n",
            "close": b"HTTP/1.1 200 OK\r\n\r\ndata"}[upstream]
    pair.backend.default = raw(data, close=upstream == "close")
    conn = pair.client()
    conn.send(b"GET /old HTTP/1.0\r\n\r\n")
    assert conn.response(minor=0).body == b"data"
    conn.expect_close()
    assert pair.ended("ok", path="/old")["network.protocol.version"] == "1.0"


def test_http_1_0_keepalive(pair):
    conn = pair.client()
    for _ in range(3):
        conn.send(b"GET /k HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n")
        response = conn.response(minor=0)
        assert response.get("connection") == "keep-alive" and response.body == b"GET /k"
    conn.send(b"GET /k HTTP/1.0\r\nHost: a\r\n\r\n")
    conn.response(minor=0)
    conn.expect_close()


def test_connection_close_is_honoured(pair):
    conn = pair.client()
    assert conn.get("/c", ["Connection: close"]).get("connection") == "close"
    conn.expect_close()


def test_upstream_close_does_not_close_the_client(pair):
    pair.backend.default = raw(wire.response_bytes(fields=["Connection: close"]), close=True)
    conn = pair.client()
    for _ in range(4):
        response = conn.get("/c")
        assert response.body == b"ok" and response.get("connection") != "close"
    assert len({r.connection for r in pair.backend.requests}) == 4


def test_pipelining_keeps_the_order(pair):
    """Slow and quick answers, bodies of all kinds: the order is that of the requests."""
    def handler(conn, request):
        conn.read_body(request)
        number = int(request.path[3:])
        time.sleep(0.03 if number % 3 == 0 else 0)
        body = b"%d" % number * 50
        if number % 2:
            return b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + wire.chunked(body)
        return wire.response_bytes(body=body)
    pair.backend.default = handler
    data = b"".join(
        wire.request_bytes("POST", "/n/%d" % i, ["Transfer-Encoding: chunked"],
                           wire.chunked(b"x" * i))
        if i % 4 == 1 else wire.request_bytes("POST", "/n/%d" % i, [], b"y" * i)
        if i % 4 == 2 else wire.request_bytes("GET", "/n/%d" % i) for i in range(40))
    conn = pair.client()
    conn.send(data)
    for i in range(40):
        assert conn.response().body == b"%d" % i * 50
    assert [r.path for r in pair.backend.requests] == ["/n/%d" % i for i in range(40)]
    assert pair.backend.requests[37].body.data == b"x" * 37
    pair.logged(40, end="ok")


def test_pipelined_close_ends_the_rest(pair):
    conn = pair.client()
    conn.send(wire.request_bytes(target="/1")
              + wire.request_bytes(target="/2", fields=["Connection: close"])
              + wire.request_bytes(target="/3"))
    assert conn.response().body == b"GET /1" and conn.response().body == b"GET /2"
    conn.expect_close()
    assert not pair.backend.seen("/3")


def test_half_closed_client_gets_its_answer(pair):
    pair.backend.default = raw(0.1, wire.response_bytes(body=b"late"))
    conn = pair.client()
    conn.send(wire.request_bytes(target="/half"))
    conn.half_close()
    assert conn.response().body == b"late"
    pair.ended("ok", path="/half")


@pytest.mark.parametrize("chunked", [False, True])
def test_early_response_before_the_body_ends(pair, chunked):
    """The answer arrives while the body is still being sent; neither side is poisoned."""
    sent = threading.Event()

    def handler(conn, _request):
        conn.send(wire.response_bytes(413, b"too much", reason="Too Large"))
        sent.wait(20)
        conn.close()
    pair.backend.on("/early", handler)
    conn = pair.client()
    framing = "Transfer-Encoding: chunked" if chunked else "Content-Length: 10000000"
    conn.send(("POST /early HTTP/1.1\r\nHost: a\r\n%s\r\n\r\n" % framing).encode()
              + (b"5\r\nhello\r\n" if chunked else b"hello"))
    response = conn.response()
    sent.set()
    assert response.status == 413 and response.body == b"too much"
    first = pair.backend.last.connection
    # The rest of the body is never a request.
    conn.try_send(b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n" if not chunked else b"zz\r\n")
    assert pair.client().get("/after").body == b"GET /after"
    assert not pair.backend.seen("/smuggled") and pair.backend.last.connection != first
    pair.logged(path="/early", status=413)


def test_early_response_while_the_upstream_reads_on(pair):
    """An endpoint that answers early but reads the body to its end: all is well."""
    def handler(conn, request):
        conn.send(wire.response_bytes(body=b"early"))
        conn.read_body(request)
    pair.backend.on("/early", handler)
    pair.backend.early_bytes_ok = True
    conn = pair.client()
    body = b"z" * 300000
    conn.send(b"POST /early HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % len(body))
    conn.send(body[:1000])
    response = conn.response()
    assert response.body == b"early"
    conn.try_send(body[1000:])
    assert pair.client().get("/after").body == b"GET /after"
    assert not [r for r in pair.backend.requests if r.path not in ("/early", "/after")]


def test_own_refusal_before_the_body_ends(weir, backend):
    """413 by weir's limit arrives even though the client is still sending: no reset eats it."""
    proxy = weir({"listeners": {"web": {"limits": {"body_bytes": "100KiB"}}}}, backend)
    conn = proxy.client()
    conn.send(b"POST /big HTTP/1.1\r\nHost: a\r\nContent-Length: 5000000\r\n\r\n")
    conn.try_send(b"x" * 5000000)
    assert conn.response().status == 413
    proxy.ended("proxy.limit.body_bytes", path="/big", status=413)
    assert not backend.requests


def test_client_leaves_before_the_answer(pair):
    """Logged as 499, and the upstream request is abandoned with its connection."""
    left = threading.Event()

    def handler(conn, _request):
        left.set()
        conn.ended.wait(0)
        conn.reader.fill()  # until weir closes
    pair.backend.on("/left", handler)
    conn = pair.client()
    conn.send(wire.request_bytes(target="/left"))
    assert left.wait(GUARD)
    conn.reset()
    record = pair.logged(path="/left", status=499)
    assert record["weir.end"] in ("client.reset", "client.closed")
    pair.ended(record["weir.end"])
    number = pair.backend.last.connection
    assert pair.backend.conns[number].ended.wait(GUARD)


def test_client_leaves_inside_the_response(pair):
    block = b"d" * 65536

    def handler(conn, _request):
        conn.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n")
        while True:
            conn.send(block)
    pair.backend.on("/left", handler)
    conn = pair.client()
    conn.send(wire.request_bytes(target="/left"))
    conn.reader.fill()
    conn.reset()
    record = pair.logged(path="/left")
    assert record["weir.end"] in ("client.reset", "client.closed")
    assert pair.backend.conns[pair.backend.last.connection].ended.wait(GUARD)
    eventually(lambda: pair.metric("weir_requests_inflight") == 0)


def test_real_node(weir, node):
    """What a real HTTP stack says passes: 103, chunked echo, trailers, keepalive. An echo begins
    before the request has ended: how early, so that its connection ends with it, is chance."""
    proxy = weir({"pools": {"app": {"endpoints": [node.address]}},
                  "routes": [{"prefix": "/", "pool": "app"}]})
    body = bytes(range(256)) * 2000
    for fields, sent in [(["Transfer-Encoding: chunked"],
                          wire.chunked(body[:7], body[7:99999], body[99999:])), ([], body)]:
        assert proxy.client().request("POST", "/echo", fields, sent).body == body
    before = proxy.metric("weir_upstream_connects_total")
    conn = proxy.client()
    assert json.loads(conn.get("/x?y=%20").body)["url"] == "/x?y=%20"
    hinted = conn.get("/hints")
    assert [r.status for r in hinted.interim] == [103] and hinted.body == b"hinted"
    assert conn.get("/trailers").body == b"with trailers"
    assert conn.get("/stream?n=100&size=10007").payload.length == 1000700
    assert conn.request("HEAD", "/x").status == 200
    assert conn.get("/last").status == 200
    assert proxy.metric("weir_upstream_connects_total") <= before + 1


def test_real_nginx(weir, nginx):
    server = nginx("origin")
    (server.files / "f.bin").write_bytes(bytes(range(256)) * 4000)
    proxy = weir({"pools": {"app": {"endpoints": [server.address]}},
                  "routes": [{"prefix": "/", "pool": "app"}]})
    conn = proxy.client()
    assert conn.get("/files/f.bin").body == bytes(range(256)) * 4000
    part = conn.get("/files/f.bin", ["Range: bytes=256-511"])
    assert part.status == 206 and part.body == bytes(range(256))
    etag = conn.request("HEAD", "/files/f.bin").get("etag")
    assert conn.get("/files/f.bin", ["If-None-Match: %s" % etag]).status == 304
    assert conn.get("/nonexistent/../../x").status == 400


def test_unix_listener(weir, backend):
    """A listener on a unix socket serves like any other."""
    proxy = weir({"listeners": {"web": None}}, backend, start=False)
    path = proxy.directory / "in.sock"
    proxy.change(listeners={"sock": {"bind": "unix:%s" % path}})
    proxy.start()
    conn = client.Client("unix:%s" % path)
    proxy.clients.append(conn)
    assert conn.get("/u").body == b"GET /u" and conn.get("/v").body == b"GET /v"
    assert proxy.ended("ok", path="/v")


def test_ipv6_listener(weir, backend):
    proxy = weir({}, backend, start=False)
    proxy.change(listeners={"web": {"bind": ["127.0.0.1:%d" % proxy.port,
                                             "[::1]:%d" % proxy.port]}})
    proxy.start()
    for host in ("127.0.0.1", "::1"):
        conn = client.Client((host, proxy.port))
        proxy.clients.append(conn)
        assert conn.get("/" + host.replace(":", "")).status == 200
        assert backend.last.get("x-forwarded-for") == host
    assert proxy.logged(path="/1")["client.address"] == "::1"


def test_client_that_says_nothing_is_no_request(pair):
    """A connection opened and closed is neither a request nor an error."""
    before = pair.weir.metric("weir_requests_total")
    for _ in range(5):
        socket.create_connection(("127.0.0.1", pair.weir.port)).close()
    assert pair.client().get("/one").status == 200
    pair.logged(path="/one")
    assert pair.weir.metric("weir_requests_total") == before + 1
