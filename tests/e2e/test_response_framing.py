"""Upstream responses: what is not exactly RFC 9112 becomes 502 or an aborted body, never bytes at
the client. An upstream is as untrusted as a client (THREATS.md rows 13, 21, 22)."""
import pytest

from harness import wire
from harness.backend import raw
from harness.client import GUARD

UP = "upstream."
BAD = "upstream.bad_response."
OK = b"HTTP/1.1 200 OK\r\n"

# name, response bytes, words (one of). The connection is closed after them.
REFUSED = [
    ("garbage", b"\x00\x01\x02 not http at all\r\n\r\n", ["status_line", "version", "line_end"]),
    ("http_0_9", b"<html>old</html>\r\n", ["status_line", "version"]),
    ("smtp", b"220 mail.example ESMTP\r\n\r\n", ["status_line", "version"]),
    ("version_2_0", b"HTTP/2.0 200 OK\r\n\r\n", ["version", "status_line"]),
    ("status_short", b"HTTP/1.1 20 OK\r\n\r\n", ["status_line", "status"]),
    ("status_long", b"HTTP/1.1 2000 OK\r\n\r\n", ["status_line", "status"]),
    ("status_text", b"HTTP/1.1 2x0 OK\r\n\r\n", ["status_line", "status"]),
    ("status_zero", b"HTTP/1.1 000 OK\r\n\r\n", ["status", "status_line"]),
    ("status_600", b"HTTP/1.1 600 OK\r\n\r\n", ["status", "status_line"]),
    ("reason_nul", b"HTTP/1.1 200 O\0K\r\n\r\n", ["status_line"]),
    ("reason_cr", b"HTTP/1.1 200 O\rK\r\n\r\n", ["status_line", "line_end"]),
    ("bare_lf", b"HTTP/1.1 200 OK\nContent-Length: 0\n\n", ["line_end"]),
    ("bare_lf_later", OK + b"A: b\nContent-Length: 0\r\n\r\n", ["line_end"]),
    ("bare_cr", OK + b"A: b\rc\r\n\r\n", ["line_end", "field_value"]),
    ("nul_in_value", OK + b"A: b\0\r\n\r\n", ["field_value"]),
    ("control_in_value", OK + b"A: b\x08\r\n\r\n", ["field_value"]),
    ("space_before_colon", OK + b"A : b\r\n\r\n", ["field_name"]),
    ("empty_name", OK + b": b\r\n\r\n", ["field_name"]),
    ("no_colon", OK + b"nonsense\r\n\r\n", ["field_name"]),
    ("obs_fold", OK + b"A: b\r\n c\r\n\r\n", ["obs_fold"]),
    ("te_and_cl", OK + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
     ["te_and_cl"]),
    ("cl_twice", OK + b"Content-Length: 1\r\nContent-Length: 1\r\n\r\nx", ["content_length"]),
    ("cl_two_values", OK + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nxx",
     ["content_length"]),
    ("cl_list", OK + b"Content-Length: 1, 1\r\n\r\nx", ["content_length"]),
    ("cl_negative", OK + b"Content-Length: -1\r\n\r\n", ["content_length"]),
    ("cl_overflow", OK + b"Content-Length: 18446744073709551617\r\n\r\nx", ["content_length"]),
    ("te_gzip", OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", ["transfer_encoding"]),
    ("te_identity", OK + b"Transfer-Encoding: identity\r\n\r\nabc", ["transfer_encoding"]),
    ("te_twice", OK + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
     ["transfer_encoding"]),
    ("te_in_1_0", b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
     ["transfer_encoding"]),
    ("switch_unasked",
     b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n",
     ["upgrade", "status"]),
    ("connection_nominates_cl", OK + b"Connection: content-length\r\nContent-Length: 0\r\n\r\n",
     ["connection"]),
    ("header_too_large", OK + b"A: " + b"b" * 300000 + b"\r\n\r\n", ["header_bytes"]),
    ("too_many_fields", OK + b"A: b\r\n" * 3000 + b"\r\n", ["headers", "header_bytes"]),
]


@pytest.mark.parametrize("data,words", [row[1:] for row in REFUSED],
                         ids=[row[0] for row in REFUSED])
def test_refused(pair, data, words):
    pair.backend.default = raw(data, close=True)
    conn = pair.client()
    response = conn.get("/r")
    assert response.status == 502 and "weir" in response.get("proxy-status")
    record = pair.logged(path="/r", status=502)
    assert record["weir.end"] in [BAD + word for word in words]
    pair.ended(record["weir.end"])
    pair.backend.default = raw(wire.response_bytes())
    if response.get("connection") == "close":
        conn.expect_close()
    else:
        assert conn.get("/good").body == b"ok"


# name, head and part of a body, words. The client must see a cut body.
CUT = [
    ("length_short", OK + b"Content-Length: 9\r\n\r\nabc", [UP + "truncated"]),
    ("chunk_short", OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\nabc", [UP + "truncated"]),
    ("last_chunk_missing", OK + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
     [UP + "truncated"]),
    ("last_line_missing", OK + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n",
     [UP + "truncated"]),
    ("chunk_not_hex", OK + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nzz\r\n",
     [BAD + "chunk"]),
    ("chunk_too_long", OK + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabcd\r\n0\r\n\r\n",
     [BAD + "chunk"]),
    ("chunk_overflow", OK + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nfffffffffffffffff\r\n",
     [BAD + "chunk"]),
    ("chunk_bare_lf", OK + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\n\n",
     [BAD + "chunk"]),
    ("trailer_bad", OK + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX : y\r\n\r\n",
     [BAD + "trailer", BAD + "chunk"]),
]


@pytest.mark.parametrize("pause", [0, 0.15], ids=["at_once", "later"])
@pytest.mark.parametrize("data,words", [row[1:] for row in CUT], ids=[row[0] for row in CUT])
def test_truncation_is_passed_on(pair, data, words, pause):
    """At once it may still become a 502; after the head was sent the body must be cut."""
    at = data.index(b"abc") + 3
    parts = (data[:at], pause, data[at:]) if pause else (data,)
    pair.backend.default = raw(*parts, close=True)
    with pair.client() as conn:
        conn.send(wire.request_bytes(target="/cut"))
        response = conn.response(truncated_ok=True)
    assert response.status == 502 or (response.status == 200 and not response.complete)
    assert not pause or response.status == 200
    record = pair.logged(path="/cut", status=response.status)
    assert record["weir.end"] in words
    pair.ended(record["weir.end"])


def test_reset_inside_the_body(pair):
    pair.backend.default = raw(OK + b"Content-Length: 9\r\n\r\nabc", 0.1, reset=True)
    with pair.client() as conn:
        conn.send(wire.request_bytes(target="/rst"))
        assert not conn.response(truncated_ok=True).complete
    assert pair.logged(path="/rst")["weir.end"] in ("upstream.reset", "upstream.truncated")


def test_reset_of_a_close_delimited_body_is_no_end(pair):
    """A body that ends by close has ended only by FIN; after a RST it is cut."""
    pair.backend.default = raw(b"HTTP/1.1 200 OK\r\n\r\nabc", 0.1, reset=True)
    with pair.client() as conn:
        conn.send(wire.request_bytes(target="/rst"))
        assert not conn.response(truncated_ok=True).complete
    assert pair.logged(path="/rst")["weir.end"] in ("upstream.reset", "upstream.truncated")


# name, request method, response, status and body at the client
PASSED = [
    ("no_reason", "GET", b"HTTP/1.1 200 \r\nContent-Length: 2\r\n\r\nok", 200, b"ok"),
    ("unknown_status", "GET", b"HTTP/1.1 299 Strange\r\nContent-Length: 2\r\n\r\nok", 299, b"ok"),
    ("http_1_0_close", "GET", b"HTTP/1.0 200 OK\r\n\r\nto the end", 200, b"to the end"),
    ("http_1_0_length", "GET", b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok", 200, b"ok"),
    ("close_delimited", "GET", OK + b"\r\nto the end", 200, b"to the end"),
    ("chunked", "GET", OK + b"Transfer-Encoding: chunked\r\n\r\n2;e\r\nok\r\n0\r\nT: 1\r\n\r\n",
     200, b"ok"),
    ("empty_chunked", "GET", OK + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 200, b""),
    ("obs_text", "GET", OK + b"X: caf\xe9\r\nContent-Length: 2\r\n\r\nok", 200, b"ok"),
    ("head_length", "HEAD", OK + b"Content-Length: 1000\r\n\r\n", 200, b""),
    ("head_chunked", "HEAD", OK + b"Transfer-Encoding: chunked\r\n\r\n", 200, b""),
    ("no_content", "GET", b"HTTP/1.1 204 No Content\r\n\r\n", 204, b""),
    ("not_modified", "GET",
     b"HTTP/1.1 304 Not Modified\r\nETag: \"x\"\r\nContent-Length: 99\r\n\r\n", 304, b""),
    ("reset_content", "GET", b"HTTP/1.1 205 Reset Content\r\nContent-Length: 0\r\n\r\n", 205, b""),
    ("upstream_500", "GET", b"HTTP/1.1 500 Broken\r\nContent-Length: 4\r\n\r\nbang", 500, b"bang"),
    ("upstream_503", "GET", b"HTTP/1.1 503 Busy\r\nContent-Length: 4\r\n\r\nbusy", 503, b"busy"),
    ("upstream_401", "GET",
     b"HTTP/1.1 401 No\r\nWWW-Authenticate: Basic\r\nContent-Length: 0\r\n\r\n", 401, b""),
]


@pytest.mark.parametrize("method,data,status,body", [row[1:] for row in PASSED],
                         ids=[row[0] for row in PASSED])
def test_passed_on(pair, method, data, status, body):
    """Relayed with end=ok (a 5xx of the upstream too); the client's connection goes on."""
    pair.backend.default = raw(data, close=b"\r\nto the end" in data or b"HTTP/1.0" in data)
    conn = pair.client()
    response = conn.request(method, "/p")
    assert (response.status, response.body) == (status, body)
    assert not response.get("proxy-status")
    record = pair.ended("ok", path="/p", status=status)
    assert record["http.response.body.size"] == len(body)
    pair.backend.default = raw(wire.response_bytes())
    if response.get("connection") == "close":
        conn.expect_close()
    else:
        assert conn.get("/next").body == b"ok"


def test_response_fields_are_kept(pair):
    pair.backend.default = raw(wire.response_bytes(fields=[
        "Set-Cookie: a=1", "Set-Cookie: b=2", "X-Empty:", "Server: mine", "Date: now",
        "Keep-Alive: timeout=5", "Connection: X-Hop", "X-Hop: 1", "Proxy-Connection: x"]))
    response = pair.client().get("/f")
    assert response.all("set-cookie") == ["a=1", "b=2"] and response.get("x-empty") == ""
    assert response.get("server") == "mine" and response.get("date") == "now"
    for name in ("keep-alive", "x-hop", "proxy-connection"):
        assert response.get(name) is None


# name, method, response with bytes behind it
EXTRA = [
    ("length", "GET", wire.response_bytes() + wire.response_bytes(body=b"POISON")),
    ("chunked", "GET",
     OK + b"Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\nHTTP/1.1 200 POISON\r\n\r\n"),
    ("no_content", "GET",
     b"HTTP/1.1 204 No Content\r\n\r\n" + wire.response_bytes(body=b"POISON")),
    ("no_content_length", "GET", b"HTTP/1.1 204 No Content\r\nContent-Length: 6\r\n\r\nPOISON"),
    ("not_modified", "GET", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 6\r\n\r\nPOISON"),
    ("head", "HEAD", OK + b"Content-Length: 6\r\n\r\nPOISON"),
    ("head_response", "HEAD",
     OK + b"Content-Length: 0\r\n\r\n" + wire.response_bytes(body=b"POISON")),
]


def end_of_first(data):
    """Where the first message of a row of EXTRA ends."""
    head = data.index(b"\r\n\r\n") + 4
    if b"chunked" in data:
        return data.index(b"0\r\n\r\n") + 5
    return head + 2 if data[head:].startswith(b"ok") else head


@pytest.mark.parametrize("pause", [0, 0.1], ids=["at_once", "later"])
@pytest.mark.parametrize("method,data", [row[1:] for row in EXTRA], ids=[row[0] for row in EXTRA])
def test_bytes_behind_a_response_poison_nobody(pair, method, data, pause):
    """They are dropped with their connection: no other response is ever made of them. Later: when
    they arrive while the connection is idle (bytes that cross the next request on their way are
    that request's, as no proxy can know better)."""
    at = end_of_first(data)
    pair.backend.on("/extra", raw(*((data[:at], pause, data[at:]) if pause else (data,))))
    conn = pair.client()
    first = conn.request(method, "/extra")
    assert first.status in (200, 204, 304, 502)
    poisoned = pair.backend.seen("/extra")[-1].connection
    if pause:
        assert pair.backend.conns[poisoned].ended.wait(GUARD)
    for number in range(8):
        if first.get("connection") == "close":
            conn = pair.client()
        first = conn.get("/clean/%d" % number)
        assert first.body == b"GET /clean/%d" % number
    assert poisoned not in {r.connection for r in pair.backend.requests if r.path != "/extra"}


def test_idle_connection_that_speaks_is_dropped(pair):
    """Bytes on an idle pooled connection remove it; the next request uses another one."""
    def handler(conn, _request):
        conn.send(wire.response_bytes(), 0.1, wire.response_bytes(body=b"POISON"))
    pair.backend.on("/idle", handler)
    conn = pair.client()
    assert conn.get("/idle").body == b"ok"
    first = pair.backend.last.connection
    pair.backend.conns[first].ended.wait(GUARD)
    assert conn.get("/next").body == b"GET /next" and pair.backend.last.connection != first


@pytest.mark.parametrize("step", [1, 5, 23])
def test_response_in_small_pieces(pair, step):
    data = (OK + b"A: b\r\nTransfer-Encoding: chunked\r\n\r\n"
            b"3\r\nabc\r\n4;x=y\r\ndefg\r\n0\r\nT: u\r\n\r\n")
    pair.backend.default = raw(*[data[i : i + step] for i in range(0, len(data), step)])
    conn = pair.client()
    assert conn.get("/s").body == b"abcdefg" and conn.get("/s").body == b"abcdefg"
