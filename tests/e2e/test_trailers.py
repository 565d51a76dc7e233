"""Trailer sections pass, in both directions and between versions; what deceives a reader that
merges them into the head does not (RFC 9110 6.5, RFC 9112 7.1.2, RFC 9113 8.1)."""
import pathlib
import tempfile
import threading

import pytest
from hyperframe.frame import ContinuationFrame, HeadersFrame

from harness import client, h2wire, wire
from harness.backend import Backend, raw
from harness.fixtures import Weirs
from harness.h2endpoints import Answer, Origin
from harness.h2raw import Conn
from harness.tlspeers import Mint, TlsBackend, TlsOrigin
from harness.weir import GUARD, eventually

SHARED_CONF = {
    "listeners": {"web": {"protocols": ["http/1.1", "h2c"]}},
    "policies": {"hold": {"buffer": "64KiB"},
                 "edit": {"request_headers": {"remove": ["X-Inner"], "set": ["X-Role: guest"]},
                          "response_headers": {"remove": ["X-Debug"]}}},
    "routes": [{"name": "hold", "prefix": "/hold", "pool": "app", "policies": ["hold"]},
               {"name": "edit", "prefix": "/edit", "pool": "app", "policies": ["edit"]},
               {"name": "plain", "prefix": "/", "pool": "app"}],
}
TE = ["TE: trailers", "Connection: TE"]
GOOD = [(b"x-sum", b"7"), (b"x-empty", b""), (b"x-sum", b"8"), (b"grpc-status", b"0")]


def lines(rows):
    return b"".join(b"%s: %s\r\n" % row for row in rows)


def lower(rows):
    return [(name.lower(), value) for name, value in rows]


def chunked_head(path, *fields, method="POST"):
    return wire.request_bytes(method, path, ["Transfer-Encoding: chunked", *fields])


def answer(rows, *fields):
    """A handler: a chunked response with trailers."""
    head = wire.response_bytes(fields=["Transfer-Encoding: chunked", *fields], body=b"",
                               length=False)
    return raw(head + wire.chunked(b"one", b"two", end=b"0\r\n" + lines(rows) + b"\r\n"))


def sent_h1(pair, path, rows, *fields):
    conn = pair.client()
    conn.send(chunked_head(path, *fields)
              + wire.chunked(b"body", end=b"0\r\n" + lines(rows) + b"\r\n"))
    return conn


def sent_h2(conn, path, rows):
    stream = conn.open("POST", path, end=False)
    conn.send(stream, b"body")
    conn.trailers(stream, rows)
    return stream


# ---- requests ----

@pytest.mark.parametrize("path", ["/t", "/hold"])
def test_request_h1(pair, path):
    """To the endpoint as they came; the connection serves the next request."""
    conn = sent_h1(pair, path, GOOD, "Trailer: X-Sum, Grpc-Status")
    assert conn.response("POST").status == 200
    request = pair.backend.last
    assert request.body.data == b"body" and lower(request.trailers) == GOOD
    assert request.get("trailer") == "X-Sum, Grpc-Status"
    assert request.framing == "chunked"
    assert conn.get("/next").status == 200


@pytest.mark.parametrize("path", ["/t", "/hold"])
def test_request_h2(pair, talk, path):
    conn = talk("h2", pair.weir)
    stream = sent_h2(conn, path, GOOD)
    assert conn.whole(stream).status == 200
    request = pair.backend.last
    assert request.body.data == b"body" and lower(request.trailers) == GOOD


def test_request_without_body_but_trailers(pair, talk):
    for path in ("/t", "/hold"):
        conn = pair.client()
        conn.send(chunked_head(path) + b"0\r\n" + lines(GOOD) + b"\r\n")
        assert conn.response("POST").status == 200
        assert lower(pair.backend.last.trailers) == GOOD and not pair.backend.last.body.length
        conn = talk("h2", pair.weir)
        stream = conn.open("POST", path, end=False)
        conn.trailers(stream, GOOD)
        assert conn.whole(stream).status == 200
        assert lower(pair.backend.last.trailers) == GOOD and not pair.backend.last.body.length


@pytest.mark.parametrize("path", ["/t", "/hold"])
@pytest.mark.parametrize("step", [1, 7])
def test_request_in_pieces(pair, path, step):
    data = chunked_head(path) + wire.chunked(b"bo", b"dy", end=b"0\r\n" + lines(GOOD) + b"\r\n")
    conn = pair.client()
    for at in range(0, len(data), step):
        conn.send(data[at:at + step])
    assert conn.response("POST").status == 200
    assert pair.backend.last.body.data == b"body" and lower(pair.backend.last.trailers) == GOOD


def test_held_body_keeps_its_length_without_trailers(pair):
    """Only what was dropped there: nothing needs a trailer section."""
    conn = sent_h1(pair, "/hold", [(b"Content-Length", b"9")], "Trailer: Content-Length")
    assert conn.response("POST").status == 200
    request = pair.backend.last
    assert request.get("content-length") == "4" and not request.all("trailer")


def test_more_than_is_held(pair, talk):
    """A body that is partly held: chunked all the way, its trailers at the end."""
    body = bytes(range(256)) * 1000
    conn = pair.client()
    conn.send(chunked_head("/hold") + wire.chunked(body[:100000], body[100000:],
                                                   end=b"0\r\n" + lines(GOOD) + b"\r\n"))
    assert conn.response("POST").status == 200
    assert pair.backend.last.body.length == len(body) and lower(pair.backend.last.trailers) == GOOD
    conn = talk("h2", pair.weir)
    stream = conn.open("POST", "/hold", end=False)
    conn.send(stream, body)
    conn.trailers(stream, GOOD)
    assert conn.whole(stream).status == 200
    assert pair.backend.last.body.length == len(body) and lower(pair.backend.last.trailers) == GOOD


def test_request_with_a_length_has_no_place_for_them(pair, talk):
    """HTTP/2 allows both; HTTP/1.1 does not: they are dropped, and the announcement with them."""
    conn = talk("h2", pair.weir)
    stream = conn.open("POST", "/t", [("content-length", "4"), ("trailer", "x-sum")], end=False)
    conn.send(stream, b"body")
    conn.trailers(stream, GOOD)
    assert conn.whole(stream).status == 200
    request = pair.backend.last
    assert request.framing == "length" and request.body.data == b"body"
    assert not request.all("trailer")


# What a backend that merges trailers into the head would believe.
HOSTILE = [b"Host: evil", b"Content-Length: 9", b"Transfer-Encoding: chunked", b"TE: trailers",
           b"Trailer: x", b"X-Forwarded-For: 10.0.0.1", b"X-Forwarded-Proto: https",
           b"Forwarded: for=1", b"X-Real-IP: 10.0.0.1", b"Via: 1.1 x",
           b"Authorization: Basic eDp5", b"Cookie: a=b", b"Expect: 100-continue",
           b"Content-Type: text/evil", b"Range: bytes=0-",
           b"X-Forwarded-User: root", b"X_Forwarded_Scheme: https",
           b"X_Forwarded_For: 10.0.0.1", b"Content_Length: 9", b"set_cookie: a=b", b"Origin: x",
           b"Early_Data: 1",
           b"Connection: close", b"Upgrade: x", b"Keep-Alive: x", b"Proxy-Authorization: x"]


@pytest.mark.parametrize("line", HOSTILE, ids=lambda line: line.split(b":")[0].decode())
def test_hostile_request_trailers_are_dropped(pair, talk, line):
    name, _, value = line.partition(b": ")
    rows = [(name, value), (b"x-kept", b"1")]
    for path in ("/t", "/hold"):
        assert sent_h1(pair, path, rows).response("POST").status == 200
        assert pair.backend.last.trailers == [(b"x-kept", b"1")]
    if name.lower() in (b"connection", b"transfer-encoding", b"upgrade", b"keep-alive"):
        return  # malformed in HTTP/2
    conn = talk("h2", pair.weir, validate=False)
    stream = sent_h2(conn, "/t", [(name.lower(), value), (b"x-kept", b"1")])
    assert conn.whole(stream).status == 200
    assert pair.backend.last.trailers == [(b"x-kept", b"1")]


def test_what_connection_names_is_dropped(pair):
    conn = sent_h1(pair, "/t", [(b"X-Hop", b"1"), (b"x-kept", b"1")], "Connection: X-Hop")
    assert conn.response("POST").status == 200
    assert pair.backend.last.trailers == [(b"x-kept", b"1")]


def test_what_policies_edit_is_no_trailer(pair, talk):
    """A client may not say in a trailer what a policy takes out of the head, or sets there."""
    rows = [(b"x-inner", b"forged"), (b"x-role", b"admin"), (b"x_role", b"admin"),
            (b"x-kept", b"1")]
    assert sent_h1(pair, "/edit", rows).response("POST").status == 200
    assert pair.backend.last.trailers == [(b"x-kept", b"1")]
    assert pair.backend.last.get("x-role") == "guest"
    conn = talk("h2", pair.weir)
    stream = sent_h2(conn, "/edit", rows)
    assert conn.whole(stream).status == 200
    assert pair.backend.last.trailers == [(b"x-kept", b"1")]
    pair.backend.on("/edit", answer([(b"X-Debug", b"secret"), (b"X-Kept", b"1")]))
    assert pair.client().get("/edit", TE).trailers == [(b"X-Kept", b"1")]


BAD_LINES = [b"X : y", b"X", b": y", b"X: y\n", b"X: y\0", b" X: y", b"X: y\r\n z",
             b"X: " + b"y" * 8200] + [b"\r\n".join(b"X%d: y" % n for n in range(65))]


@pytest.mark.parametrize("path", ["/t", "/hold"])
@pytest.mark.parametrize("line", BAD_LINES, ids=range(len(BAD_LINES)))
def test_malformed_h1(pair, path, line):
    conn = pair.client()
    conn.try_send(chunked_head(path) + wire.chunked(b"body", end=b"0\r\n" + line + b"\r\n\r\n"))
    assert conn.response("POST").status == 400
    pair.ended("client.bad_request.trailer")
    assert not [r for r in pair.backend.requests if r.complete]


BAD_SECTIONS = [
    ("pseudo", [(b":path", b"/")], "trailer"), ("status", [(b":status", b"200")], "trailer"),
    ("connection", [(b"connection", b"close")], "connection_field"),
    ("coding", [(b"transfer-encoding", b"chunked")], "connection_field"),
    ("case", [(b"X-Sum", b"1")], "field_name"), ("value", [(b"x", b"a\0b")], "field_value"),
    ("space", [(b"x", b" a")], "field_value"),
    ("large", [(b"x", b"y" * 8200)], "trailer"),
    ("many", [(b"x%d" % n, b"y") for n in range(65)], "trailer"),
]


@pytest.mark.parametrize("rows,word", [row[1:] for row in BAD_SECTIONS],
                         ids=[row[0] for row in BAD_SECTIONS])
@pytest.mark.parametrize("path", ["/t", "/hold"])
def test_malformed_h2(pair, talk, path, rows, word):
    """A malformed message: the stream is reset, the connection goes on (RFC 9113 8.1.1)."""
    conn = talk("h2", pair.weir, validate=False)
    stream = sent_h2(conn, path, rows)
    assert conn.cut(stream) == 1
    pair.ended("client.bad_request." + word)
    assert not [r for r in pair.backend.requests if r.complete]
    after = conn.open("GET", "/after")
    assert conn.whole(after).status == 200


# ---- responses ----

def test_response_h1_to_who_asked(pair):
    pair.backend.on("/r", answer(GOOD, "Trailer: X-Sum"))
    conn = pair.client()
    response = conn.get("/r", TE)
    assert response.body == b"onetwo" and lower(response.trailers) == GOOD
    assert response.get("trailer") == "X-Sum"
    assert pair.backend.last.get("te") == "trailers"
    assert conn.get("/next").status == 200


@pytest.mark.parametrize("fields", [[], ["TE: gzip"], ["TE: gzip;q=0.5, trailersx"]])
def test_response_h1_to_others(pair, fields):
    """They did not say that they take trailers (RFC 9110 10.1.4)."""
    pair.backend.on("/r", answer(GOOD, "Trailer: X-Sum"))
    conn = pair.client()
    response = conn.get("/r", fields)
    assert response.body == b"onetwo" and response.trailers == []
    assert not response.all("trailer") and not pair.backend.last.all("te")
    assert conn.get("/next").status == 200


def test_response_h1_0(pair):
    pair.backend.on("/r", answer(GOOD))
    conn = pair.client()
    conn.send(b"GET /r HTTP/1.0\r\nHost: a\r\nTE: trailers\r\n\r\n")
    assert conn.response(minor=0).body == b"onetwo"


@pytest.mark.parametrize("fields", [[], [("te", "trailers")]])
def test_response_h2(pair, talk, fields):
    """They are a part of the message there; gRPC has its status in them."""
    pair.backend.on("/r", answer(GOOD))
    conn = talk("h2", pair.weir)
    for _ in range(3):  # the tables of HPACK stay in step
        stream = conn.whole(conn.open("GET", "/r", fields))
        assert stream.status == 200 and stream.body == b"onetwo"
        assert stream.trailers == GOOD
        assert pair.backend.last.get("te") == ("trailers" if fields else None)


def test_response_h2_without_body(pair, talk):
    pair.backend.on("/r", raw(
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nGrpc-Status: 5\r\n\r\n"))
    conn = talk("h2", pair.weir)
    stream = conn.whole(conn.open("GET", "/r"))
    assert stream.trailers == [(b"grpc-status", b"5")] and not stream.body


def test_response_h2_behind_a_closed_window(pair, talk):
    """The trailers wait behind data that waits for the client's window."""
    body = b"x" * 300000
    pair.backend.on("/r", raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
                              + wire.chunked(body, end=b"0\r\n" + lines(GOOD) + b"\r\n")))
    conn = talk("h2", pair.weir)
    conn.hold = True
    stream = conn.open("GET", "/r")
    conn.until(lambda: len(stream.body) == 65535)
    assert stream.trailers is None
    conn.hold = False
    conn.h2.increment_flow_control_window(400000)
    conn.h2.increment_flow_control_window(400000, stream.number)
    conn.flush()
    conn.whole(stream)
    assert stream.body == body and stream.trailers == GOOD


def test_many_responses_with_trailers_at_once(pair, talk):
    for number in range(20):
        rows = [(b"x-number", b"%d" % number), (b"x-long", b"v" * 4000)]
        pair.backend.on("/r%d" % number, answer(rows))
    conn = talk("h2", pair.weir)
    streams = [conn.open("GET", "/r%d" % number) for number in range(20)]
    for number, stream in enumerate(streams):
        conn.whole(stream)
        assert dict(stream.trailers)[b"x-number"] == b"%d" % number
        assert len(dict(stream.trailers)[b"x-long"]) == 4000


@pytest.mark.parametrize("line", HOSTILE, ids=lambda line: line.split(b":")[0].decode())
def test_hostile_response_trailers_are_dropped(pair, talk, line):
    name, _, value = line.partition(b": ")
    pair.backend.on("/r", answer([(name, value), (b"x-kept", b"1")]))
    assert pair.client().get("/r", TE).trailers == [(b"x-kept", b"1")]
    conn = talk("h2", pair.weir)
    assert conn.whole(conn.open("GET", "/r")).trailers == [(b"x-kept", b"1")]


def test_only_hostile_response_trailers(pair, talk):
    pair.backend.on("/r", answer([(b"Content-Length", b"1")]))
    assert pair.client().get("/r", TE).trailers == []
    conn = talk("h2", pair.weir)
    stream = conn.whole(conn.open("GET", "/r"))
    assert stream.body == b"onetwo" and stream.trailers is None


@pytest.mark.parametrize("line", BAD_LINES, ids=range(len(BAD_LINES)))
def test_malformed_response(pair, talk, line):
    """The client sees that the response is cut, whether it takes trailers or not."""
    pair.backend.on("/r", raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
                              + wire.chunked(b"one", end=b"0\r\n" + line + b"\r\n\r\n"),
                              close=True))
    for fields in ([], TE):
        conn = pair.client()
        conn.send(wire.request_bytes(target="/r", fields=fields))
        assert not conn.response(truncated_ok=True).complete
    conn = talk("h2", pair.weir)
    stream = conn.open("GET", "/r")
    assert conn.cut(stream) != 0
    assert stream.trailers is None
    eventually(lambda: len([r for r in pair.weir.lines()
                            if r["weir.end"] == "upstream.bad_response.trailer"]) == 3)


def test_client_resets_before_the_trailers(pair, talk):
    """A stream that is gone leaves nothing behind for its trailers."""
    def slow(conn, _request):
        conn.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n", 0.2,
                  b"0\r\n" + lines(GOOD) + b"\r\n")
    pair.backend.on("/r", slow)
    conn = talk("h2", pair.weir)
    stream = conn.head(conn.open("GET", "/r"))
    conn.reset(stream)
    assert conn.whole(conn.open("GET", "/after")).status == 200


def test_answer_inside_a_trailer_section(pair, talk):
    """The stream ends while its trailers are half here: the rest is read into nothing, and the
    tables of HPACK stay in step."""
    go = threading.Event()

    def early(conn, _request):
        assert go.wait(GUARD)
        conn.send(wire.response_bytes(body=b"early"))
        conn.close()
    pair.backend.on("/early", early)
    conn = talk("h2", pair.weir)
    assert conn.whole(conn.open("GET", "/settings")).status == 200  # its ACK may not stand between
    conn.hold = True
    stream = conn.open("POST", "/early", end=False)
    conn.send(stream, b"body")
    block = conn.h2.encoder.encode([(b"x-long", b"v" * 3000), (b"x-later", b"1")])
    first = HeadersFrame(stream.number, block[:1000], flags=["END_STREAM"])
    conn.sock.sendall(first.serialize())
    go.set()
    conn.until(lambda: stream.ended or stream.reset is not None)
    rest = ContinuationFrame(stream.number, block[1000:], flags=["END_HEADERS"])
    conn.sock.sendall(rest.serialize())
    for _ in range(3):
        after = conn.open("GET", "/after", [("x-later", "1")])
        assert conn.whole(after).status == 200
        assert pair.backend.last.get("x-later") == "1"


# ---- retries ----

def test_retry_sends_held_trailers_again(weir, new_backend):
    bad, good = new_backend(), new_backend()
    bad.default = raw(b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n")
    proxy = weir({"listeners": {"web": {"protocols": ["http/1.1", "h2c"]}},
                  "policies": {"hold": {"buffer": "64KiB"}},
                  "pools": {"app": {"balance": "round_robin",
                                    "retry": {"attempts": 2, "on": ["503"], "budget_min": 100}}},
                  "routes": [{"prefix": "/", "pool": "app", "policies": ["hold"]}]}, bad, good)
    for _ in range(2):
        with proxy.client() as conn:
            conn.send(chunked_head("/x", method="PUT")
                      + wire.chunked(b"body", end=b"0\r\n" + lines(GOOD) + b"\r\n"))
            assert conn.response("PUT").status == 200
    assert bad.requests and len(good.requests) == 2
    for request in bad.requests + good.requests:
        assert request.body.data == b"body" and lower(request.trailers) == GOOD


# ---- all ways, from each version to each ----

SUM = [(b"x-sum", b"7"), (b"x-more", b"a")]
# Where trailers have a place: not behind a length of HTTP/1.1, on either side.
WAYS = [(brought, onward, brought != "h1-length" and (onward == "h2" or "length" not in brought))
        for brought in ("h1-chunked", "h1-length", "h2-length", "h2-unknown")
        for onward in ("h1", "h2")]
WAY_IDS = ["%s-to-%s" % row[:2] for row in WAYS]


@pytest.fixture(scope="module")
def crossing(session_dir):
    """A weir with an HTTP/1.1 pool at /h1 and an HTTP/2 one at /h2, each also held; the two."""
    backend, origin = Backend(), Origin()
    weirs = Weirs(pathlib.Path(tempfile.mkdtemp(prefix="x", dir=session_dir)))
    calm = {"consecutive_failures": 0, "consecutive_5xx": 0}
    made = weirs({
        "listeners": {"web": {"protocols": ["http/1.1", "h2c"]}},
        "policies": {"hold": {"buffer": "64KiB"}},
        "pools": {"one": {"endpoints": [backend.address], "outlier": calm},
                  "two": {"endpoints": [origin.address], "outlier": calm,
                          "connections": {"protocol": "h2c"}}},
        "routes": [{"prefix": "/h1", "pool": "one"}, {"prefix": "/h2", "pool": "two"},
                   {"prefix": "/held/h1", "pool": "one", "policies": ["hold"]},
                   {"prefix": "/held/h2", "pool": "two", "policies": ["hold"]}]})
    yield made, backend, origin
    weirs.finish()
    backend.stop()
    origin.stop()
    assert not backend.violations and not origin.violations


def pieces(body):
    """Of chunks: one that is empty is the last."""
    return [body] if body else []


def bring(port, talk, brought, path, body):
    """A request with SUM behind it; what its endpoint is told of the length; its status."""
    version, framing = brought.split("-")
    announced = ("trailer", "x-sum")
    if version == "h2":
        conn = talk("h2", port)
        length = [("content-length", "%d" % len(body))] if framing == "length" else []
        stream = conn.open("POST", path, [announced, *length], end=False)
        conn.send(stream, body)
        conn.trailers(stream, SUM)
        return conn.whole(stream).status
    with client.Client(port) as conn:
        if framing == "length":
            conn.send(wire.request_bytes("POST", path, ["Trailer: x-sum"], body))
        else:
            conn.send(chunked_head(path, "Trailer: x-sum")
                      + wire.chunked(*pieces(body), end=b"0\r\n" + lines(SUM) + b"\r\n"))
        return conn.response("POST").status


@pytest.mark.parametrize("size", [0, 4, 40000, 300000])
@pytest.mark.parametrize("held", ["", "/held"])
@pytest.mark.parametrize("brought,onward,reach", WAYS, ids=WAY_IDS)
def test_requests_all_ways(crossing, talk, brought, onward, reach, held, size):
    """Small bodies to HTTP/2 are held without a policy; 300000 are more than is."""
    proxy, backend, origin = crossing
    body, path = b"b" * size, "%s/%s/%s-%d" % (held, onward, brought, size)
    assert bring(proxy.port, talk, brought, path, body) == 200
    request = (backend if onward == "h1" else origin).seen(path)[-1]
    if onward == "h1":
        came, got, announced = lower(request.trailers), request.body.length, request.get("trailer")
        length = request.get("content-length")
    else:
        came, got = list(request.trailers.items()), len(request.body)
        announced, length = request.headers.get("trailer"), request.headers.get("content-length")
    assert got == size and came == (SUM if reach else [])
    assert announced == ("x-sum" if reach else None)
    assert length == ("%d" % size if "length" in brought else None)


def answers(brought, body):
    """How an endpoint answers by `brought` with SUM behind it: of Backend, or of Origin."""
    version, framing = brought.split("-")
    if version == "h2":
        length = [("content-length", "%d" % len(body))] if framing == "length" else []
        return Answer(body=body, fields=[("trailer", "x-sum"), *length], trailers=SUM)
    if framing == "length":
        return raw(wire.response_bytes(body=body, fields=["Trailer: x-sum"]))
    head = wire.response_bytes(fields=["Transfer-Encoding: chunked", "Trailer: x-sum"], body=b"",
                               length=False)
    return raw(head + wire.chunked(*pieces(body), end=b"0\r\n" + lines(SUM) + b"\r\n"))


@pytest.mark.parametrize("size", [0, 4, 40000])
@pytest.mark.parametrize("brought,onward,reach", WAYS, ids=WAY_IDS)
def test_responses_all_ways(crossing, talk, brought, onward, reach, size):
    proxy, backend, origin = crossing
    body, path = b"b" * size, "/%s/%s-to-%s" % (brought[:2], brought, onward)
    if brought.startswith("h1"):
        backend.on(path, answers(brought, body))
    else:
        origin.answer = lambda request: answers(brought, body)
    if onward == "h2":
        conn = talk("h2", proxy.port)
        stream = conn.whole(conn.open("GET", path))
        got, came = stream.body, stream.trailers or []
        announced, length = stream.get("trailer"), stream.get("content-length")
    else:
        with client.Client(proxy.port) as conn:
            response = conn.get(path, TE)
        got, came = response.body, lower(response.trailers)
        announced, length = response.get("trailer"), response.get("content-length")
    assert got == body and came == (SUM if reach else [])
    assert announced == ("x-sum" if reach else None)
    assert length == ("%d" % size if "length" in brought else None)


def test_towards_http_1_a_length_is_the_end(crossing, talk):
    """Who says END_STREAM late, or never, costs no connection to the endpoint."""
    proxy, backend, _origin = crossing
    conn = talk("h2", proxy.port)  # one: connections to endpoints are a worker's
    for _ in range(2):
        stream = conn.open("POST", "/h1/late", [("content-length", "4")], end=False)
        conn.send(stream, b"body")
        assert conn.whole(stream).status == 200
        conn.reset(stream)  # who has many streams open would be given a new connection
    first, second = backend.seen("/h1/late")
    assert first.connection == second.connection and second.body.data == b"body"


def test_towards_http_1_a_length_of_0_is_the_end(crossing, talk):
    """Neither waits for END_STREAM, nor is the connection lost without it."""
    proxy, backend, _origin = crossing
    conn = talk("h2", proxy.port)
    for _ in range(2):
        stream = conn.open("POST", "/h1/none", [("content-length", "0")], end=False)
        assert conn.whole(stream).status == 200
        conn.reset(stream)
    first, second = backend.seen("/h1/none")
    assert first.connection == second.connection and second.get("content-length") == "0"


@pytest.mark.parametrize("ends", [True, False])
def test_a_length_of_0_meets_the_end_of_a_kept_connection(weir, backend, ends):
    """The race costs the client nothing: it is sent again on a fresh connection."""
    def close(conn, _request):
        if conn.number == 0 and conn.requests == 2:
            conn.close()
            return None
        return wire.response_bytes()
    backend.default = close
    web = {"protocols": ["h2c"]}
    proxy = weir({"process": {"workers": 1}, "listeners": {"web": web}}, backend)
    conn = Conn(proxy.port).handshake()
    for _ in range(2):
        number = conn.new_stream("PUT")
        head = h2wire.block(h2wire.pseudo("PUT", "/race") + [("content-length", "0")])
        end = h2wire.data(number, b"", True) if ends else b""
        conn.send(h2wire.headers(number, head, end=False) + end)
        assert conn.wait(number).status == 200
        conn.send(h2wire.rst_stream(number) if not ends else b"")
    conn.close()
    assert [r.connection for r in backend.seen("/race")] == [0, 0, 1]
    assert proxy.metric("weir_upstream_replays_total") == 1


def test_trailers_by_http_2_after_a_try_by_http_1(weir, work, talk):
    """The first endpoint had no place for them; the second is told of them, and gets them."""
    mint = Mint(work)
    bad = TlsBackend(mint.leaf("127.0.0.1"), raw(b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n"))
    good = TlsOrigin(mint.leaf("127.0.0.1"))
    proxy = weir({"listeners": {"web": {"protocols": ["h2c"]}},
                  "policies": {"hold": {"buffer": "64KiB"}},
                  "process": {"workers": 1},
                  "pools": {"app": {"endpoints": [bad.address, good.address],
                                    "balance": "round_robin", "outlier": {"consecutive_5xx": 0},
                                    "tls": {"ca": "file:%s" % mint.root.path},
                                    "retry": {"attempts": 2, "on": ["503"], "budget_min": 100}}},
                  "routes": [{"prefix": "/", "pool": "app", "policies": ["hold"]}]})
    conn = talk("h2", proxy.port)
    for _ in range(2):
        stream = conn.open("PUT", "/x", [("content-length", "4"), ("trailer", "x-sum")], end=False)
        conn.send(stream, b"body")
        conn.trailers(stream, SUM)
        assert conn.whole(stream).status == 200
    assert len(bad.requests) == 1 and not bad.requests[0].all("trailer")
    for request in good.seen("/x"):
        assert request.headers.get("trailer") == "x-sum" and list(request.trailers.items()) == SUM
    assert len(good.seen("/x")) == 2
    bad.stop()
    good.stop()
    assert not bad.violations and not good.violations
