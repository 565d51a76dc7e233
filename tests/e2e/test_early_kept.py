"""A response that begins before its request has ended (RFC 9112 section 9.3): an HTTP/1.1 client
keeps its connection when the rest of its body comes soon and is small, and what is left of a body
is never taken for a request (THREATS.md rows 9 to 11). What ends the connection there has a line
of its own."""
import contextlib
import signal
import socket
import threading
import time

import pytest

from harness import wire
from harness.weir import GUARD, eventually

HOST = "a.example"
LINGER_S = 2
REST_MAX = 256 * 1024
EARLY = wire.response_bytes(200, b"early")
INNER = b"GET /inner HTTP/1.1\r\nHost: a.example\r\n\r\n"


def head(path, framing, size, *fields, minor=1):
    how = b"Content-Length: %d" % size if framing == "length" else b"Transfer-Encoding: chunked"
    rows = b"".join(b"%s\r\n" % row for row in fields)
    return b"POST %s HTTP/1.%d\r\nHost: a.example\r\n%s\r\n%s\r\n" % (path, minor, how, rows)


def part(framing, data):
    return data if framing == "length" else b"%x\r\n%s\r\n" % (len(data), data)


def last(framing):
    return b"" if framing == "length" else b"0\r\n\r\n"


def echo(conn, request):
    """Says 200 at once and gives back what comes, as it comes (node: req.pipe(res))."""
    conn.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")

    def back(size):
        piece = wire.Body()
        conn.reader.exactly(size, piece)
        conn.send(b"%x\r\n%s\r\n" % (size, piece.data))
        return size
    if request.framing == "chunked":
        while size := int(conn.reader.line(), 16):
            back(size)
            conn.reader.line()
        conn.reader.line()
    else:
        left = request.length
        while left:
            if not conn.reader.buf:
                conn.reader.fill()
            left -= back(min(left, len(conn.reader.buf)))
    request.complete = True
    conn.send(b"0\r\n\r\n")


def early(answer=EARLY):
    """Answers at the head. What follows is read (and a request that was whole is no early one)."""
    return lambda conn, _request: conn.send(answer)


@pytest.fixture(params=["length", "chunked"])
def framing(request):
    return request.param


@pytest.fixture(params=["plain", "tls"])
def site(request, weir, new_backend, authority):
    listener = {}
    if request.param == "tls":
        listener["tls"] = {"certificates": [authority.leaf(["a.example"])]}
    backend = new_backend()
    backend.early_bytes_ok = True
    backend.on("/echo", echo)
    backend.on("/early", early())
    made = weir({"listeners": {"web": listener}, "process": {"workers": 1}}, backend)
    made.backend = backend
    context = authority.client_context() if request.param == "tls" else None
    made.open = lambda: made.client(tls=context, sni="a.example" if context else None)
    made.served = lambda: [r.path for r in backend.requests]
    return made


def begun(conn):
    """The head of a response, whose connection is to go on."""
    response = wire.parse_response_head(conn.reader)
    assert response.status == 200 and response.get("connection") is None
    return response


def chunk(conn, want):
    got = b""
    while len(got) < len(want):
        piece = wire.Body()
        conn.reader.exactly(int(conn.reader.line(), 16), piece)
        assert conn.reader.line() == b""
        got += piece.data
    assert got == want


def told(site, conn, end=None):
    """Behind the request's line, which says that all is well, one of the connection says why it
    ended (None: of its own will), counted as all are."""
    site.ended("ok", path="/early")
    if end:
        line = site.ended(end)
        assert "url.path" not in line and "http.response.status_code" not in line
        assert line["network.peer.address"] == "127.0.0.1" and line["network.peer.port"]
        assert line["weir.listener"] == "web"
    site.settle()
    assert [line["weir.end"] for line in site.lines()] == ["ok"] + ([end] if end else [])


def closes(conn, within):
    """The connection ends, without a reset, and not later than that."""
    since = time.monotonic()
    conn.expect_close()
    assert not conn.reader.reset
    assert time.monotonic() - since < within


def test_an_echo_keeps_its_connection(site, framing):
    conn = site.open()
    for _ in range(3):
        conn.send(head(b"/echo", framing, 15) + part(framing, b"first"))
        begun(conn)
        chunk(conn, b"first")
        conn.send(part(framing, b"other"))
        chunk(conn, b"other")
        conn.send(part(framing, b"third") + last(framing))
        chunk(conn, b"third")
        assert conn.reader.line() == b"0" and conn.reader.line() == b""
    assert conn.get("/next", host=HOST).body == b"GET /next"
    assert site.ended("ok", path="/echo")["http.request.body.size"] == 15
    assert len(site.backend.conns) == 1, "the endpoint's connection is kept too"


@pytest.mark.parametrize("size", [3, 5000, 200000, REST_MAX])
def test_what_is_left_is_dropped(site, framing, size):
    if framing == "chunked" and size == REST_MAX:
        size -= 100  # its lines count
    body = (INNER * (size // len(INNER) + 1))[:size]
    conn = site.open()
    conn.send(head(b"/early", framing, size))
    assert conn.response("POST").get("connection") is None
    site.ended("ok", path="/early", status=200)
    for at in range(0, size, 50000):
        conn.send(part(framing, body[at : at + 50000]))
    conn.send(last(framing))
    assert conn.get("/next", host=HOST).body == b"GET /next"
    assert site.served() == ["/early", "/next"]
    assert site.backend.requests[1].connection != 0, "its request was not whole"


def test_what_stands_behind_the_rest_is_the_next_request(site, framing):
    conn = site.open()
    conn.send(head(b"/early", framing, 2 * len(INNER)) + part(framing, INNER))
    assert conn.response("POST").body == b"early"
    conn.send(part(framing, INNER) + last(framing) + wire.request_bytes(target="/a", host=HOST)
              + wire.request_bytes(target="/b", host=HOST))
    assert conn.response().body == b"GET /a"
    assert conn.response().body == b"GET /b"
    assert site.served() == ["/early", "/a", "/b"]


@pytest.mark.parametrize("step", [1, 7])
def test_byte_by_byte(site, framing, step):
    data = (part(framing, INNER) + part(framing, INNER) + last(framing)
            + wire.request_bytes(target="/a", host=HOST))
    conn = site.open()
    conn.send(head(b"/early", framing, 2 * len(INNER)))
    assert conn.response("POST").body == b"early"
    for at in range(0, len(data), step):
        conn.send(data[at : at + step])
    assert conn.response().body == b"GET /a"


def test_the_next_request_waits_behind_a_body_of_which_nothing_was_read(site, framing):
    """All of it stands in one write, also what comes behind it."""
    conn = site.open()
    body = part(framing, b"x" * 30000) + last(framing)
    conn.send(b"".join(head(b"/early", framing, 30000) + body
                       + wire.request_bytes(target="/%d" % i, host=HOST) for i in range(4)))
    for i in range(4):
        assert conn.response("POST").body == b"early"
        assert conn.response().body == b"GET /%d" % i


def test_a_rest_that_never_comes(site, framing):
    conn = site.open()
    conn.send(head(b"/early", framing, 100))
    assert conn.response("POST").get("connection") is None
    closes(conn, LINGER_S + 1)
    told(site, conn, "client.timeout.rest")


def test_a_rest_that_dribbles(site, framing):
    conn = site.open()
    conn.send(head(b"/early", framing, 100000))
    assert conn.response("POST").status == 200
    since, stop = time.monotonic(), threading.Event()

    def dribble():
        while not stop.wait(0.1) and conn.try_send(part(framing, b"x")):
            pass
    writer = threading.Thread(target=dribble)
    if site.served():
        writer.start()
    try:
        conn.expect_close()
        assert LINGER_S - 0.2 < time.monotonic() - since < LINGER_S + 1
        told(site, conn, "client.timeout.rest")
    finally:
        stop.set()
        writer.join()


def test_a_client_that_ends_inside_the_rest(site, framing):
    conn = site.open()
    conn.send(head(b"/early", framing, 100))
    assert conn.response("POST").status == 200
    conn.send(part(framing, b"x"))
    if not hasattr(conn.sock, "context"):
        conn.half_close()
        closes(conn, 1)
    else:
        conn.close()

    def gone():
        """no connection of a client is left"""
        return site.metric("weir_downstream_connections") == 0
    eventually(gone)
    told(site, conn)  # it has its response, and may leave (RFC 9112 section 9.6)


def test_a_client_that_resets_inside_the_rest(site, framing):
    conn = site.open()
    conn.send(head(b"/early", framing, 100))
    assert conn.response("POST").status == 200
    conn.send(part(framing, b"x"))
    site.ended("ok", path="/early")
    conn.reset()
    told(site, conn, "client.reset")


@pytest.mark.parametrize("site", ["tls"], indirect=True)
def test_a_tls_fault_inside_the_rest(site, framing):
    """Of the many words for what may befall TLS each stays what it is."""
    conn = site.open()
    conn.send(head(b"/early", framing, 100))
    assert conn.response("POST").status == 200
    raw = socket.socket(fileno=conn.sock.detach())
    with raw:
        raw.sendall(b"\x17\x03\x03\x00\x20" + b"x" * 32)
        assert site.ended("client.tls.record").get("url.path") is None


# What stands where chunks do, and why it is none.
FAULTS = {
    "letters": (b"zz\r\n", "chunk_size"),
    "sign": (b"+0\r\n\r\n", "chunk_size"),
    "minus": (b"-1\r\n", "chunk_size"),
    "hex-prefix": (b"0x0\r\n\r\n", "chunk_size"),
    "underscore": (b"1_0\r\n", "chunk_size"),
    "blank-in-front": (b" 0\r\n\r\n", "chunk_size"),
    "no-size": (b"\r\n0\r\n\r\n", "chunk_size"),
    "17-digits": (b"0" * 17 + b"\r\n\r\n", "chunk_size"),
    "64-bits": (b"f" * 16 + b"\r\n", "chunk_size"),
    "wraps-to-0": (b"1" + b"0" * 16 + b"\r\n\r\n", "chunk_size"),
    "size-lf": (b"0\n\r\n", "chunk"),
    "size-cr-cr-lf": (b"0\r\r\n\r\n", "chunk"),
    "blank-behind": (b"0 \r\n\r\n", "chunk"),
    "ext-lf": (b"0;\n\r\n", "chunk"),
    "ext-lf-data": (b"2;\nxx\r\n0\r\n\r\n", "chunk"),
    "ext-cr": (b"1;a\rb\r\nx\r\n", "chunk"),
    "ext-long": (b"1;" + b"a" * 300 + b"\r\nx\r\n", "chunk"),
    "data-too-long": (b"3\r\nabcd\r\n0\r\n\r\n", "chunk"),
    "data-too-short": (b"7\r\nabc\r\n0\r\n\r\n", "chunk"),
    "data-no-crlf": (b"1\r\nx0\r\n\r\n", "chunk"),
    "data-lf": (b"1\r\nx\n0\r\n\r\n", "chunk"),
    "data-cr": (b"1\r\nx\r0\r\n\r\n", "chunk"),
    "last-lf": (b"0\r\n\n", "trailer"),
    "last-cr": (b"0\r\n\rX", "trailer"),
    "trailer-none": (b"0\r\nbad trailer\r\n\r\n", "trailer"),
    "trailer-is-a-request": (b"0\r\n", "trailer"),
    "trailer-no-name": (b"0\r\n: x\r\n\r\n", "trailer"),
    "trailer-blank": (b"0\r\nA : b\r\n\r\n", "trailer"),
    "trailer-folded": (b"0\r\nA: b\r\n c\r\n\r\n", "trailer"),
    "trailer-nul": (b"0\r\nA: \0\r\n\r\n", "trailer"),
    "trailer-lf": (b"0\r\nA: b\n\r\n", "trailer"),
    "trailer-long": (b"0\r\nA: " + b"b" * 8200 + b"\r\n\r\n", "trailer"),
    "trailers-many": (b"0\r\n" + b"A: b\r\n" * 65 + b"\r\n", "trailer"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_rest_with_faults(site, name):
    rest, word = FAULTS[name]
    conn = site.open()
    conn.send(head(b"/early", "chunked", 0))
    assert conn.response("POST").status == 200
    conn.send(rest + INNER)
    closes(conn, 1)
    assert site.served() == ["/early"]
    told(site, conn, "client.bad_request." + word)


# Where a reader of another mind would see the end of the body, or none.
HIDDEN = {
    "as-data": part("chunked", INNER),
    "as-data-behind-an-end": part("chunked", b"0\r\n\r\n" + INNER),
    "in-two": part("chunked", INNER[:9]) + part("chunked", INNER[9:]),
    "in-an-extension": b"1;a=0;b=\"GET /inner HTTP/1.1\"\r\nx\r\n",
    "zeros": part("chunked", b"x") + b"0000000000000001\r\nx\r\n",
    "upper": b"0A\r\n0123456789\r\n",
    "blank-before-extension": b"1 \t;a\r\nx\r\n",
}
ENDS = {
    "plain": b"0\r\n\r\n",
    "zeros": b"0000;x\r\n\r\n",
    "framing": b"0\r\nTransfer-Encoding: chunked\r\nContent-Length: 50\r\nHost: b\r\n\r\n",
    "many": b"0\r\n" + b"A: b\r\n" * 64 + b"\r\n",
}


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("status", [200, 403])
def test_what_a_rest_hides_is_no_request(site, end, status):
    """However it is cut, and wherever the rest begins."""
    site.backend.on("/early", early(wire.response_bytes(status, b"early")))
    rounds = 0
    for name, hidden in HIDDEN.items():
        body = hidden + ENDS[end]
        for cut in (0, 1, 2, 7, len(hidden) - 1, len(hidden), len(hidden) + 2):
            conn = site.open()
            conn.send(head(b"/early", "chunked", 0) + body[:cut])
            assert conn.response("POST").get("connection") is None, (name, cut)
            for at in range(cut, len(body), 31):
                conn.send(body[at : at + 31])
            assert conn.get("/next", host=HOST).body == b"GET /next", (name, cut)
            conn.close()
            rounds += 1
    assert site.served() == ["/early", "/next"] * rounds


@pytest.mark.parametrize("name", ["minus", "size-lf", "data-too-long", "data-lf", "trailer-none"])
def test_faults_wherever_the_rest_begins(site, name):
    """The response comes in the middle of a chunk line, of data, or behind."""
    before = b"5;a=b\r\nhello\r\n"
    rest, word = FAULTS[name]
    site.backend.on("/early", early(wire.response_bytes(403, b"early")))
    for cut in range(len(before) + 1):
        conn = site.open()
        conn.send(head(b"/early", "chunked", 0) + before[:cut])
        assert conn.response("POST").get("connection") is None
        conn.send(before[cut:] + rest + INNER)
        closes(conn, 1)
    assert set(site.served()) == {"/early"}
    site.logged(end="client.bad_request." + word, count=len(before) + 1)


def test_trailers_of_the_rest_are_dropped(site):
    conn = site.open()
    conn.send(head(b"/early", "chunked", 0))
    assert conn.response("POST").status == 200
    conn.send(b"1\r\nx\r\n0\r\nX-One: 1\r\n\r\n")
    assert conn.get("/next", host=HOST).body == b"GET /next"
    assert [line["weir.end"] for line in site.lines()] == ["ok"] * len(site.lines())


def upload(conn, framing, size):
    piece = part(framing, b"x" * 16384)
    for _ in range(size // 16384):
        if not conn.try_send(piece):
            return


@pytest.mark.parametrize("status", [200, 413])
def test_a_rest_that_is_too_large(site, framing, status):
    """Who is refused is told to stop; who is not, and goes on for too long, is stopped."""
    site.backend.on("/early", early(wire.response_bytes(status, b"early")))
    conn = site.open()
    conn.send(head(b"/early", framing, 8 << 20))
    response = conn.response("POST")
    assert response.body == b"early"
    assert response.get("connection") == (None if status == 200 else "close")
    conn.sock.settimeout(GUARD)
    if not hasattr(conn.sock, "context"):
        writer = threading.Thread(target=upload, args=(conn, framing, 8 << 20))
        writer.start()
        conn.expect_close()
        writer.join()
    else:
        upload(conn, framing, REST_MAX + 32768)
    told(site, conn, "proxy.limit.rest" if status == 200 else None)
    assert site.served() == ["/early"]


@pytest.mark.parametrize("over", [0, 1])
def test_chunks_count_with_their_lines(site, over):
    """256 KiB of chunks, the last one and its trailers included, and not a byte more."""
    site.backend.on("/early", early(wire.response_bytes(403, b"early")))
    ends = b"0\r\nA: b\r\n\r\n"
    lines = len(b"10000\r\n\r\n")
    sizes = [65536, 65536, 65536, 65536 - 4 * lines - len(ends) + over + 1]
    body = b"".join(part("chunked", b"x" * size) for size in sizes) + ends
    assert len(body) == REST_MAX + over
    conn = site.open()
    conn.send(head(b"/early", "chunked", 0))
    assert conn.response("POST").get("connection") is None
    conn.send(body)
    if over:
        closes(conn, 1)
        told(site, conn, "proxy.limit.rest")
    else:
        assert conn.get("/next", host=HOST).body == b"GET /next"


@pytest.mark.parametrize("status", [401, 403, 429, 503])
@pytest.mark.parametrize("step", [1, 700])
def test_a_refusal_keeps_who_sends_few_chunks(site, status, step):
    site.backend.on("/early", early(wire.response_bytes(status, b"no")))
    conn = site.open()
    body = part("chunked", INNER) + part("chunked", b"y" * 300) + last("chunked")
    for _ in range(3):
        conn.send(head(b"/early", "chunked", 0))
        response = conn.response("POST")
        assert (response.status, response.get("connection")) == (status, None)
        for at in range(0, len(body), step):
            conn.send(body[at : at + step])
    assert conn.get("/next", host=HOST).body == b"GET /next"
    assert site.served() == ["/early"] * 3 + ["/next"]


def sees(backend, size):
    """A handler that refuses once it has so many bytes of the body."""
    def handler(conn, _request):
        got = len(conn.reader.buf)
        while got < size:
            got += len(conn.sock.recv(65536))
        conn.send(wire.response_bytes(403, b"no"))
        backend.early_bytes_ok = True
    return handler


@pytest.mark.parametrize("name", ["large-chunk", "large-so-far", "413"])
def test_a_refusal_tells_who_sends_much_to_stop(site, name):
    """What can be known of a chunked body: how long its present chunk is, how much there was."""
    body = part("chunked", b"x" * 1000)
    if name == "large-chunk":
        body = b"%x\r\nabc" % (REST_MAX + 4)
    if name == "large-so-far":
        body = part("chunked", b"x" * 20000) * 14
        site.backend.on("/early", sees(site.backend, 20000 * 14))
    else:
        status = 413 if name == "413" else 403
        site.backend.on("/early", early(wire.response_bytes(status, b"no")))
    conn = site.open()
    conn.send(head(b"/early", "chunked", 0) + body)
    assert conn.response("POST").get("connection") == "close"
    conn.close()
    told(site, conn)


@pytest.mark.parametrize("size,kept", [(REST_MAX, True), (REST_MAX + 1, False)])
def test_a_refusal_keeps_who_has_little_left(site, size, kept):
    site.backend.on("/early", early(wire.response_bytes(403, b"no")))
    conn = site.open()
    conn.send(head(b"/early", "length", size))
    assert (conn.response("POST").get("connection") is None) == kept
    if kept:
        conn.send(b"x" * size)
        assert conn.get("/next", host=HOST).status == 200


def test_http_1_0_closes(site):
    conn = site.open()
    conn.send(head(b"/early", "length", 5, b"Connection: keep-alive", minor=0))
    assert conn.response("POST", minor=0).get("connection") == "close"
    closes(conn, 1)


@pytest.mark.parametrize("asked", [False, True])
def test_expectations(site, framing, asked):
    """Whether a client that was not told to go on sends its body is not ours to know."""
    go_on = b"HTTP/1.1 100 Continue\r\n\r\n" if asked else b""
    site.backend.on("/early", early(go_on + EARLY))
    conn = site.open()
    conn.send(head(b"/early", framing, 5, b"Expect: 100-continue"))
    response = conn.response("POST")
    assert response.get("connection") == (None if asked else "close")
    if asked:
        conn.send(part(framing, b"12345") + last(framing))
        assert conn.get("/next", host=HOST).body == b"GET /next"
    else:
        closes(conn, 1)


def test_a_client_that_closes_is_closed(site, framing):
    conn = site.open()
    conn.send(head(b"/early", framing, 5, b"Connection: close"))
    assert conn.response("POST").get("connection") == "close"
    closes(conn, 1)


def test_a_response_that_ends_with_its_connection(site):
    """A 1.0 endpoint's response is chunked for us; for its request nothing changes."""
    def until_close(conn, _request):
        conn.send(b"HTTP/1.1 200 OK\r\n\r\nall")
        conn.half_close()
        conn.ended.wait(GUARD)
    site.backend.on("/early", until_close)
    conn = site.open()
    conn.send(head(b"/early", "length", 5))
    assert conn.response("POST").body == b"all"
    conn.send(b"12345")
    assert conn.get("/next", host=HOST).status == 200


def test_a_drain_waits_no_longer(site, framing):
    conn = site.open()
    conn.send(head(b"/early", framing, 100))
    assert conn.response("POST").status == 200
    site.clients.remove(conn)
    since = time.monotonic()
    site.stop()
    assert time.monotonic() - since < LINGER_S + 1.5  # what is idle has as long
    conn.close()


def test_a_drain_says_close(site, framing):
    """A response that begins while draining ends its connection, whatever is left of its request;
    one that began before goes on to its end."""
    go = threading.Event()

    def late(conn, _request):
        go.wait(GUARD)
        conn.send(EARLY)
    site.backend.on("/early", late)
    late_one, echoed = site.open(), site.open()
    late_one.send(head(b"/early", framing, 5))
    echoed.send(head(b"/echo", framing, 10) + part(framing, b"first"))
    begun(echoed)
    chunk(echoed, b"first")
    site.backend.wait(2)
    site.signal(signal.SIGTERM)
    site.stderr_has("SIGTERM: draining 2 connections")
    go.set()
    assert late_one.response("POST").get("connection") == "close"
    echoed.send(part(framing, b"other") + last(framing))
    chunk(echoed, b"other")
    assert echoed.reader.line() == b"0"
    assert site.process.wait(GUARD) == 0


def test_what_a_pipe_held_is_counted(weir, new_backend):
    """The endpoint stops reading in the middle of a body that is spliced, and answers: what weir
    had read of it and not sent is part of the body, not of what follows."""
    backend = new_backend()
    backend.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
    backend.early_bytes_ok = True
    go = threading.Event()

    def stalls(conn, _request):
        go.wait(GUARD)
        conn.send(EARLY)
        time.sleep(0.2)  # then it reads on: where all was sent, the next request comes here, too
    backend.on("/early", stalls)
    proxy = weir({"process": {"workers": 1}}, backend)

    def spliced():
        return proxy.metric("weir_relay_spliced_bytes_total")

    def stalled():
        """nothing is moving any more"""
        before = spliced()
        time.sleep(0.15)
        return before and spliced() == before

    def exchange(size):
        """Uploads that much; what was spliced, and whether the connection was kept."""
        go.clear()
        before = spliced()
        conn = proxy.client()
        conn.send(head(b"/early", "length", size))
        data = b"x" * size + wire.request_bytes(target="/after")

        def write():
            with contextlib.suppress(OSError):
                conn.sock.sendall(data)
        writer = threading.Thread(target=write)
        writer.start()
        eventually(stalled)
        moved = spliced() - before
        go.set()
        assert conn.response("POST").body == b"early"
        if size - moved > REST_MAX:
            kept = False
            conn.sock.settimeout(GUARD)
        else:
            kept = conn.response().body == b"GET /after"
        conn.sock.shutdown(socket.SHUT_RDWR)
        writer.join()
        conn.close()
        return moved, kept
    moved, _ = exchange(16 << 20)
    assert moved < 16 << 20
    kept = 0
    for over in range(10000, 250000, 40000):
        kept += exchange(int(moved) + over)[1]
    assert kept
    assert {r.path for r in backend.requests} == {"/early", "/after"}


# ---- answers of weir itself ----

OWN = {"/fixed": 200, "/moved": 308, "/denied": 403, "/get": 405, "/none": 404, "/full": 503,
       "/often": 429}
FULL = {"max_per_endpoint": 1, "queue": 0}


def fill(conn, backend):
    """A request that does not end: another one finds no connection to the endpoint."""
    backend.on("/full/up", lambda conn, _request: conn.ended.wait(GUARD) and None)
    conn.send(wire.request_bytes(target="/full/up", host=HOST))
    backend.wait()
    backend.requests.clear()


@pytest.fixture(params=["plain", "tls"])
def own(request, weir, new_backend, authority):
    listener = {}
    if request.param == "tls":
        listener["tls"] = {"certificates": [authority.leaf(["a.example"])]}
    backend = new_backend()
    made = weir({
        "listeners": {"web": listener}, "process": {"workers": 1},
        "policies": {"nobody": {"deny": ["0.0.0.0/0"]},
                     "seldom": {"rate": {"limit": "1/h", "burst": 1}}},
        "pools": {"app": {"endpoints": [backend.address]},
                  "full": {"endpoints": [backend.address], "connections": FULL}},
        "routes": [{"name": "fixed", "path": "/fixed", "respond": {"body": "fixed"}},
                   {"name": "moved", "path": "/moved",
                    "redirect": {"to": "https://b.example/", "status": 308}},
                   {"name": "denied", "path": "/denied", "pool": "app", "policies": ["nobody"]},
                   {"name": "often", "path": "/often", "pool": "app", "policies": ["seldom"]},
                   {"name": "get", "path": "/get", "pool": "app", "methods": ["GET"]},
                   {"name": "full", "prefix": "/full", "pool": "full"},
                   {"name": "next", "path": "/next", "pool": "app"},
                   {"name": "inner", "path": "/inner", "pool": "app"}]})
    made.backend = backend
    context = authority.client_context() if request.param == "tls" else None
    made.open = lambda: made.client(tls=context, sni="a.example" if context else None)
    made.served = lambda: [r.path for r in backend.requests if r.path != "/often"]
    fill(made.open(), backend)
    with made.open() as conn:
        assert conn.get("/often", host=HOST).status == 200
    return made


@pytest.mark.parametrize("path", OWN)
@pytest.mark.parametrize("how", ["at-once", "behind", "bytes"])
def test_an_own_answer_keeps_its_connection(own, framing, path, how):
    body = (part(framing, INNER) + part(framing, INNER[:7]) + part(framing, INNER[7:])
            + last(framing))
    conn = own.open()
    for _ in range(2):
        request = head(path.encode(), framing, 2 * len(INNER))
        conn.send(request + body if how == "at-once" else request)
        response = conn.response("POST")
        assert (response.status, response.get("connection")) == (OWN[path], None)
        step = len(body) if how == "behind" else 1
        for at in range(0, len(body) if how != "at-once" else 0, step):
            conn.send(body[at : at + step])
    assert conn.get("/next", host=HOST).body == b"GET /next"
    assert own.served() == ["/next"]


@pytest.mark.parametrize("path", ["/fixed", "/denied"])
@pytest.mark.parametrize("name", ["large", "expects", "1.0", "close"])
def test_an_own_answer_ends_who_sends_much(own, path, name):
    fields = {"expects": [b"Expect: 100-continue"], "close": [b"Connection: close"],
              "1.0": [b"Connection: keep-alive"]}.get(name, [])
    minor = 0 if name == "1.0" else 1
    size = REST_MAX + 1 if name == "large" else 5
    conn = own.open()
    conn.send(head(path.encode(), "length", size, *fields, minor=minor))
    response = conn.response("POST", minor=minor)
    assert (response.status, response.get("connection")) == (OWN[path], "close")


@pytest.mark.parametrize("name", FAULTS)
def test_an_own_answer_and_a_rest_with_faults(own, name):
    """At once, and cut behind the head."""
    rest, word = FAULTS[name]
    for cut in (False, True):
        conn = own.open()
        request = head(b"/denied", "chunked", 0)
        conn.send(request if cut else request + rest + INNER)
        assert conn.response("POST").status == 403
        if cut:
            conn.send(rest + INNER)
        closes(conn, 1)
    assert own.served() == []
    own.logged(end="client.bad_request." + word, count=2)


def test_a_held_body_and_its_rest(weir, new_backend, framing):
    """A part of it is kept when weir answers: what is dropped begins behind that."""
    backend = new_backend()
    proxy = weir({"process": {"workers": 1},
                  "policies": {"hold": {"buffer": "2KiB"}},
                  "pools": {"app": {"endpoints": [backend.address]},
                            "full": {"endpoints": [backend.address], "connections": FULL}},
                  "routes": [{"name": "full", "path": "/full/up", "pool": "full"},
                             {"name": "held", "path": "/held", "pool": "full",
                              "policies": ["hold"]},
                             {"name": "rest", "prefix": "/", "pool": "app"}]}, backend)
    fill(proxy.client(), backend)
    body = (INNER * 400)[:16000]
    for cut in (1500, 2048, 2100, 4096, 5000, 15000):
        conn = proxy.client()
        data = b"".join(part(framing, body[at : at + 1000]) for at in range(0, 16000, 1000))
        conn.send(head(b"/held", framing, 16000) + data[:cut])
        time.sleep(0.02)
        conn.send(data[cut:] + last(framing))
        response = conn.response("POST")
        assert (response.status, response.get("connection")) == (503, None)
        assert conn.get("/next").body == b"GET /next"
    assert {r.path for r in backend.requests} == {"/next"}
