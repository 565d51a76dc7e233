"""What weir itself says to gRPC calls, byte by byte: refusals and failures are one HEADERS frame
with grpc-status (Trailers-Only), a response that has begun ends by trailers; deadlines as they go
to the endpoint. PROTOCOL-HTTP2, and the HTTP status mapping of gRPC."""
import socket

import h2.errors
import pytest

from harness import h2wire, wire
from harness.backend import raw
from harness.h2byhand import ByHand, proxy_for
from harness.h2endpoints import GRPC, Plays
from harness.h2talk import Reset, Talk
from harness.proc import free_port
from harness.weir import GUARD, eventually

CALL = [("content-type", "application/grpc"), ("te", "trailers")]
EMPTY = b"\x00\x00\x00\x00\x00"  # a message without bytes
HANG = wire.response_bytes(fields=["Content-Type: application/grpc", "Transfer-Encoding: chunked"],
                           body=b"5\r\n" + EMPTY + b"\r\n", length=False)

SHARED_CONF = {
    "listeners": {"web": {"protocols": ["http/1.1", "h2c"], "limits": {"headers": 30}}},
    "pools": {"dead": {"endpoints": ["127.0.0.1:%d" % free_port()], "retry": {"attempts": 1}}},
    "policies": {
        "no": {"deny": ["127.0.0.0/8"]},
        "rare": {"rate": {"limit": "1/h", "burst": 1}},
        "small": {"limits": {"body_bytes": "10B"}},
        "quick": {"timeouts": {"first_byte": "100ms"}},
        "still": {"timeouts": {"idle": "200ms"}},
        "hold": {"buffer": "64KiB"},
        "page": {"errors": [{"status": ["5xx"], "body": "sorry", "upstream": True}]},
        "cors": {"cors": {"origins": ["https://page.example"]}}},
    "routes": [
        {"name": "dead", "prefix": "/dead", "pool": "dead", "policies": ["page", "cors"]},
        {"name": "no", "prefix": "/no", "pool": "app", "policies": ["no"]},
        {"name": "rare", "prefix": "/rare", "pool": "app", "policies": ["rare"]},
        {"name": "small", "prefix": "/small", "pool": "app", "policies": ["small"]},
        {"name": "quick", "prefix": "/quick", "pool": "app", "policies": ["quick"]},
        {"name": "still", "prefix": "/still", "pool": "app", "policies": ["still"]},
        {"name": "short", "prefix": "/short", "pool": "app", "timeout": "300ms"},
        {"name": "brief", "prefix": "/brief", "pool": "app", "timeout": "3s"},
        {"name": "hold", "prefix": "/hold", "pool": "app", "policies": ["hold"]},
        {"name": "page", "prefix": "/page", "pool": "app", "policies": ["page"]},
        {"name": "get", "prefix": "/get", "pool": "app", "methods": ["GET"]},
        {"name": "gone", "prefix": "/gone", "respond": {"status": 503, "body": "maintenance"}},
        {"name": "fine", "prefix": "/fine", "respond": {"status": 200, "body": "fine"}},
        {"name": "moved", "prefix": "/moved", "redirect": {"to": "https://other.example/"}},
        {"name": "call", "prefix": "/call", "pool": "app"}],
}


def called(conn, path, *fields, body=EMPTY, end=True, **pseudo):
    stream = conn.open("POST", path, [*CALL, *fields], end=False, **pseudo)
    if body is not None:
        conn.send(stream, body, end=end)
    return stream


def only_head(conn, stream):
    """The fields of a response that is one HEADERS frame."""
    conn.whole(stream)
    assert stream.bare and stream.trailers is None and not stream.body, stream.__dict__
    rows = {key.decode(): value.decode() for key, value in stream.headers}
    assert rows[":status"] == "200" and rows["content-type"] == "application/grpc", rows
    assert "content-length" not in rows
    return rows


REFUSED = [("/nowhere", 12, "proxy.no_route"), ("/get", 12, "proxy.method_not_allowed"),
           ("/no", 7, "proxy.denied.client"), ("/dead", 14, "upstream.connect.refused"),
           ("/quick", 14, "upstream.first_byte.timeout"), ("/short", 4, "upstream.timeout")]


@pytest.mark.parametrize("path,status,word", REFUSED)
def test_own_answers(pair, talk, path, status, word):
    pair.backend.default = lambda conn, request: conn.read_body(request)  # and no answer
    conn = talk("h2", pair.weir)
    rows = only_head(conn, called(conn, path))
    assert rows["grpc-status"] == str(status)
    assert rows["grpc-message"].startswith(word + ": ")
    assert 'details="%s"' % word in rows["proxy-status"]
    record = pair.ended(word, status=200)
    assert record["rpc.grpc.status_code"] == status and record["rpc.system"] == "grpc"
    pool = record.get("weir.pool", "")
    assert pair.metric("weir_grpc_responses_total", pool=pool, grpc_status=str(status)) >= 1
    assert only_head(conn, called(conn, "/nowhere"))["grpc-status"] == "12"  # it goes on


@pytest.mark.parametrize("path,status,word", REFUSED)
def test_own_answers_h1(pair, path, status, word):
    """The same in the head of an empty body."""
    pair.backend.default = lambda conn, request: conn.read_body(request)
    answer = pair.request("POST", path, ["Content-Type: application/grpc+proto"], EMPTY)
    assert answer.status == 200 and answer.body == b"" and answer.get("content-length") == "0"
    assert answer.get("content-type") == "application/grpc"
    assert answer.get("grpc-status") == str(status)
    assert answer.get("grpc-message").startswith(word)


def test_others_see_http(pair, talk):
    """A status of its own is for calls alone."""
    for kind in ("application/grpc-web", "application/grpcx", "text/plain"):
        conn = talk("h2", pair.weir)
        stream = conn.whole(conn.open("POST", "/nowhere", [("content-type", kind)]))
        assert stream.status == 404 and stream.get("grpc-status") is None
        assert b"proxy.no_route" in stream.body
    record = pair.logged(3, end="proxy.no_route")
    assert "rpc.system" not in record and "rpc.grpc.status_code" not in record


def test_a_rate(pair, talk):
    conn = talk("h2", pair.weir)
    conn.whole(called(conn, "/rare"))
    rows = only_head(conn, called(conn, "/rare"))
    assert rows["grpc-status"] == "8" and rows["grpc-message"].startswith("proxy.limit.rate")
    assert int(rows["retry-after"]) > 0


def test_a_body_that_is_too_large(pair, talk):
    conn = talk("h2", pair.weir)
    rows = only_head(conn, called(conn, "/small", body=b"x" * 100, end=False))
    assert rows["grpc-status"] == "8" and rows["grpc-message"].startswith("proxy.limit.body_bytes")


def test_a_head_that_is_too_large(pair, talk):
    """It was not read to its end, but looks like a call."""
    conn = talk("h2", pair.weir)
    rows = only_head(conn, called(conn, "/call", *[("x-%d" % n, "v") for n in range(40)]))
    assert rows["grpc-status"] == "8" and rows["grpc-message"].startswith("proxy.limit.headers")
    assert pair.ended("proxy.limit.headers")["rpc.grpc.status_code"] == 8


@pytest.mark.parametrize("protocol", ["websocket", None])
def test_a_tunnel_that_is_refused_is_no_call(pair, talk, protocol):
    """200 would tell who asked with CONNECT that there is one, also where its head is refused
    before anything was made of it."""
    conn, many = talk("h2", pair.weir, validate=False), [("x-%d" % n, "v") for n in range(40)]
    pseudo = {"protocol": protocol} if protocol else {"scheme": None,
                                                      "authority": "test.example:443"}
    path = "/call" if protocol else None
    stream = conn.whole(conn.open("CONNECT", path, [*CALL, *many], end=False, **pseudo))
    assert stream.status == 431
    assert "rpc.system" not in pair.ended("proxy.limit.headers", status=431)
    if not protocol:
        refused = conn.open("CONNECT", path, [*CALL], end=False, **pseudo)
        assert conn.whole(refused).status == 501
        pair.ended("client.bad_request.method_not_served", status=501)


@pytest.mark.parametrize("path,status,text", [("/gone", 14, "Service Unavailable"),
                                              ("/moved", 2, "Permanent Redirect")])
def test_actions(pair, talk, path, status, text):
    """A fixed response that is no success says so in the words of gRPC."""
    conn = talk("h2", pair.weir)
    rows = only_head(conn, called(conn, path))
    assert rows["grpc-status"] == str(status) and rows["grpc-message"] == text
    stream = conn.whole(called(conn, "/fine"))
    assert stream.body == b"fine" and stream.get("grpc-status") is None


def test_policies_hold(pair, talk):
    """Fields of policies (CORS here) stand in such answers too; pages do not."""
    conn = talk("h2", pair.weir)
    rows = only_head(conn, called(conn, "/dead", ("origin", "https://page.example")))
    assert rows["access-control-allow-origin"] == "https://page.example"
    pair.backend.on("/page", raw(wire.response_bytes(503, b"endpoint's own")))
    assert only_head(conn, called(conn, "/page"))["grpc-status"] == "14"


def test_an_endpoint_that_speaks_no_grpc(pair, talk):
    """Its answer passes as it is; the log has what clients make of it."""
    conn = talk("h2", pair.weir)
    for http, status in ((200, 2), (404, 12), (503, 14), (429, 14), (418, 2)):
        pair.backend.on("/call", raw(wire.response_bytes(http, b"text")))
        stream = conn.whole(called(conn, "/call"))
        assert stream.status == http and stream.body == b"text"
        assert stream.get("grpc-status") is None
        pair.logged(status=http, rpc__grpc__status_code=status)


# ---- deadlines ----

@pytest.mark.parametrize("said,most,unit", [("5S", 5000, "m"), ("90M", 5400000, "m"),
                                            ("300000u", 300, "m"), ("99999999n", 100, "m"),
                                            ("48H", 172800, "S"), ("99999999H", 31536000, "S")])
def test_the_time_that_is_left_goes_on(pair, talk, said, most, unit):
    pair.backend.default = raw(wire.response_bytes(
        body=b"", fields=["Content-Type: application/grpc", "grpc-status: 0"]))
    conn = talk("h2", pair.weir)
    conn.whole(called(conn, "/call", ("grpc-timeout", said)))
    if not pair.backend.seen("/call"):
        pytest.skip("the machine was slower than the deadline")
    told = pair.backend.seen("/call")[-1].get("grpc-timeout")
    assert told[-1] == unit and 0 < int(told[:-1]) <= most, told
    assert int(told[:-1]) >= most * 0.3 or most < 1000, told


def test_none_goes_on_as_none(pair, talk):
    conn = talk("h2", pair.weir)
    conn.whole(called(conn, "/brief"))
    assert pair.backend.seen("/brief")[-1].get("grpc-timeout") is None


def test_the_routes_timeout_is_the_most(pair, talk):
    conn = talk("h2", pair.weir)
    conn.whole(called(conn, "/brief", ("grpc-timeout", "1H")))
    told = pair.backend.seen("/brief")[-1].get("grpc-timeout")
    assert told[-1] == "m" and 0 < int(told[:-1]) <= 3000


@pytest.mark.parametrize("values", [["5"], ["S"], ["5s"], ["-5S"], ["123456789S"], ["1S", "2S"],
                                    ["1.5S"], ["5 S"]])
def test_malformed_deadlines(pair, talk, values):
    conn = talk("h2", pair.weir)
    rows = only_head(conn, called(conn, "/call", *[("grpc-timeout", each) for each in values]))
    assert rows["grpc-status"] == "13"
    assert rows["grpc-message"].startswith("client.bad_request.grpc_timeout")
    pair.ended("client.bad_request.grpc_timeout")
    assert not pair.backend.seen("/call")


def test_others_have_no_deadline(pair, talk):
    """grpc-timeout of what is no call is a field like any other."""
    conn = talk("h2", pair.weir)
    conn.whole(conn.open("POST", "/call", [("grpc-timeout", "0n")]))
    assert pair.backend.seen("/call")[-1].get("grpc-timeout") == "0n"


def test_a_deadline_that_is_over(pair, talk):
    """Clients send 0 when they have no time left: the endpoint is not asked."""
    conn = talk("h2", pair.weir)
    rows = only_head(conn, called(conn, "/call", ("grpc-timeout", "0n")))
    assert rows["grpc-status"] == "4" and rows["grpc-message"].startswith("client.deadline")
    pair.ended("client.deadline")
    assert not pair.backend.seen("/call")


def test_a_deadline_before_the_head(pair, talk):
    pair.backend.default = lambda conn, request: conn.read_body(request)
    conn = talk("h2", pair.weir)
    rows = only_head(conn, called(conn, "/call", ("grpc-timeout", "150m")))
    assert rows["grpc-status"] == "4" and rows["grpc-message"].startswith("client.deadline")


@pytest.mark.parametrize("path", ["/call", "/hold"])
def test_a_deadline_while_the_body_comes(pair, talk, path):
    """It spans the request too, also one that is slow to come."""
    conn = talk("h2", pair.weir)
    stream = called(conn, path, ("grpc-timeout", "150m"), body=None)
    assert only_head(conn, stream)["grpc-status"] == "4"
    pair.ended("client.deadline")


@pytest.mark.parametrize("path,fields,word,status", [
    ("/call", [("grpc-timeout", "300m")], "client.deadline", "4"),
    ("/short", [("grpc-timeout", "1H")], "client.deadline", "4"),
    ("/still", [], "upstream.idle.timeout", "14")])
def test_after_the_head(pair, talk, path, fields, word, status):
    """The response has begun: it ends by trailers, and the connection goes on."""
    pair.backend.default = lambda conn, request: conn.send(HANG)
    conn = talk("h2", pair.weir)

    def begun():
        """a response: where the machine is too slow for these times, the next one"""
        stream = conn.whole(called(conn, path, *fields))
        return not stream.bare and stream
    stream = eventually(begun)
    assert bytes(stream.body) == EMPTY and stream.status == 200
    rows = {key.decode(): value.decode() for key, value in stream.trailers}
    assert rows["grpc-status"] == status and rows["grpc-message"].startswith(word)
    assert pair.ended(word)["rpc.grpc.status_code"] == int(status)
    assert only_head(conn, called(conn, "/nowhere"))["grpc-status"] == "12"


def test_without_a_deadline_a_timeout_spares_bodies(pair, talk):
    """The route's timeout ends with the response head (routes.*.timeout)."""
    tail = wire.chunked(b"late", end=b"0\r\ngrpc-status: 0\r\n\r\n")
    pair.backend.default = lambda conn, request: conn.send(HANG, 0.6, tail)
    conn = talk("h2", pair.weir)

    def begun():
        """a response: where the machine is too slow for this time, the next one"""
        stream = conn.whole(called(conn, "/short"))
        return not stream.bare and stream
    stream = eventually(begun)
    assert bytes(stream.body) == EMPTY + b"late" and dict(stream.trailers)[b"grpc-status"] == b"0"


# ---- endpoints that are gone without a word ----

def begins(conn, stream, head):
    if head[":path"] == "/head":
        fields = [(":status", "200"), ("content-type", "application/grpc")]
        conn.send(h2wire.headers(stream, h2wire.block(fields), False), h2wire.data(stream, EMPTY))


def test_frozen(weir):
    """No deadline was set, so none was exceeded: the endpoint is not there."""
    origin = ByHand(begins, pongs=False)
    try:
        proxy = proxy_for(weir, origin, connections={"ping": "1s", "ping_timeout": "1s"})
        conn = Talk(proxy.port)
        quiet, head = called(conn, "/quiet"), called(conn, "/head")
        rows = only_head(conn, quiet)
        assert rows["grpc-status"] == "14"
        assert rows["grpc-message"].startswith("upstream.h2.ping")
        assert dict(conn.whole(head).trailers)[b"grpc-status"] == b"14"
        conn.close()
    finally:
        origin.stop()
    proxy.logged(2, end="upstream.h2.ping", rpc__grpc__status_code=14)


def test_mute_at_the_handshake(weir):
    with socket.create_server(("127.0.0.1", 0)) as mute:
        proxy = weir({"listeners": {"web": {"protocols": ["h2c"]}},
                      "pools": {"app": {"endpoints": ["127.0.0.1:%d" % mute.getsockname()[1]],
                                        "tls": {"verify": "none"}, "retry": {"attempts": 1},
                                        "timeouts": {"connect": "500ms"}}},
                      "routes": [{"prefix": "/", "pool": "app"}]})
        conn = Talk(proxy.port)
        rows = only_head(conn, called(conn, "/call"))
        conn.close()
    assert rows["grpc-status"] == "14"
    assert rows["grpc-message"].startswith("upstream.tls.timeout")
    proxy.logged(end="upstream.tls.timeout", rpc__grpc__status_code=14)


# ---- endpoints of HTTP/2 that fail in the middle ----

@pytest.fixture
def origins():
    made = []

    def make(play):
        made.append(Plays(play))
        return made[-1]
    yield make
    for each in made:
        each.stop()


def over_h2(weir, origin, **rest):
    return weir({"listeners": {"web": {"protocols": ["h2c", "http/1.1"]}},
                 "pools": {"app": {"endpoints": [origin.address],
                                   "connections": {"protocol": "h2c"}}},
                 "routes": [{"prefix": "/", "pool": "app"}], **rest})


def reset(code):
    def play(talker, stream, _request):
        talker.head(stream)
        talker.data(stream, EMPTY)
        talker.reset(stream, code)
    return play


def goes_away(talker, stream, _request):
    talker.head(stream)
    talker.data(stream, EMPTY)
    talker.close()


# PROTOCOL-HTTP2, Errors
CODES = h2.errors.ErrorCodes
RESETS = {CODES.REFUSED_STREAM: 14, CODES.CANCEL: 1, CODES.ENHANCE_YOUR_CALM: 8,
          CODES.INADEQUATE_SECURITY: 7}


@pytest.mark.parametrize("play, status", [(reset(CODES.INTERNAL_ERROR), b"13"),
                                          (reset(CODES.CANCEL), b"1"), (goes_away, b"14")])
def test_cut_behind_the_head(weir, origins, play, status):
    origin = origins(play)
    proxy = over_h2(weir, origin)
    conn = Talk(proxy.port)
    stream = conn.whole(called(conn, "/call"))
    rows = dict(stream.trailers)
    assert rows[b"grpc-status"] == status and rows[b"grpc-message"].startswith(b"upstream.")
    assert proxy.logged(rpc__grpc__status_code=int(status))["weir.end"].startswith("upstream.")
    # an HTTP/1.1 client sees a cut
    with proxy.client() as plain:
        plain.send(wire.request_bytes("POST", "/call", ["Content-Type: application/grpc"],
                                      EMPTY))
        assert not plain.response("POST", truncated_ok=True).complete
    conn.close()


@pytest.mark.parametrize("begun", [False, True])
def test_the_code_of_a_reset(weir, origins, begun):
    """Each code is the status that the caller would have made of it, alone or behind a head."""
    def play(talker, stream, request):
        if begun:
            talker.head(stream)
            talker.data(stream, EMPTY)
        talker.reset(stream, int(request.path[1:]))
    proxy = over_h2(weir, origins(play))
    conn = Talk(proxy.port)
    for code in range(14):
        stream = conn.whole(called(conn, "/%d" % code))
        rows = dict(stream.trailers if begun else stream.headers)
        want = RESETS.get(code, 13)
        assert rows[b"grpc-status"] == b"%d" % want, (code, rows)
        assert rows[b"grpc-message"].startswith(b"upstream.h2.rst_stream")
        proxy.logged(url__path="/%d" % code, end="upstream.h2.rst_stream",
                     rpc__grpc__status_code=want)
    conn.close()


@pytest.mark.parametrize("more", [[], [("content-length", "0")]])
def test_a_head_alone_stays_alone(weir, origins, more):
    """Trailers-Only of an endpoint is one HEADERS frame with END_STREAM for the caller too."""
    def play(talker, stream, _request):
        talker.head(stream, [*GRPC, ("grpc-status", "5"), *more], end=True)
    proxy = over_h2(weir, origins(play))
    conn = Talk(proxy.port)
    stream = conn.whole(called(conn, "/call"))
    assert stream.bare and stream.get("grpc-status") == "5"
    assert proxy.logged(end="ok")["rpc.grpc.status_code"] == 5
    conn.close()


def test_cut_behind_a_length(pair, talk):
    """Of an HTTP/1.1 endpoint, whose length is passed on: trailers have no place there."""
    head = wire.response_bytes(fields=["Content-Type: application/grpc", "Content-Length: 100"],
                               body=EMPTY, length=False)
    pair.backend.on("/call", raw(head, reset=True))
    conn = talk("h2", pair.weir)
    with pytest.raises(Reset):
        conn.whole(called(conn, "/call"))


def test_trailers_behind_a_length_of_0(weir, origins):
    def play(talker, stream, _request):
        talker.head(stream, [*GRPC, ("content-length", "0")])
        talker.trailers(stream, [("grpc-status", "5")])
    proxy = over_h2(weir, origins(play))
    conn = Talk(proxy.port)
    stream = conn.whole(called(conn, "/call"))
    assert dict(stream.trailers)[b"grpc-status"] == b"5"
    proxy.logged(end="ok", rpc__grpc__status_code=5)
    conn.close()


@pytest.mark.parametrize("whole", [True, False])
def test_trailers_behind_a_length(weir, origins, whole):
    """An endpoint of HTTP/2 may say both: its status is passed on, or weir's own."""
    def play(talker, stream, _request):
        talker.head(stream, [*GRPC, ("content-length", str(len(EMPTY)))])
        if whole:
            talker.data(stream, EMPTY)
            talker.trailers(stream, [("grpc-status", "7")])
        else:
            talker.data(stream, EMPTY[:3])
            talker.reset(stream, h2.errors.ErrorCodes.INTERNAL_ERROR)
    proxy = over_h2(weir, origins(play))
    conn = Talk(proxy.port)
    stream = conn.whole(called(conn, "/call"))
    assert bytes(stream.body) in (EMPTY, EMPTY[:3], b"")
    assert dict(stream.trailers)[b"grpc-status"] == (b"7" if whole else b"13")
    conn.close()


def test_a_deadline_cancels_upstream(weir, origins):
    def play(talker, stream, request):
        if request.path == "/begun":
            talker.head(stream)
            talker.data(stream, EMPTY)
    origin = origins(play)
    proxy = over_h2(weir, origin)
    conn = Talk(proxy.port)
    for path in ("/silent", "/begun"):
        origin.came.clear()
        stream = conn.whole(called(conn, path, ("grpc-timeout", "200m"), end=False))
        assert dict(stream.trailers or stream.headers)[b"grpc-status"] == b"4"
        assert origin.came.wait(GUARD)
        assert origin.resets[-1][1] == h2.errors.ErrorCodes.CANCEL
    conn.close()


@pytest.mark.parametrize("begun", [False, True])
def test_metadata_beyond_the_limit(weir, origins, begun):
    """It would be no smaller the next time: not UNAVAILABLE, which callers try again."""
    def play(talker, stream, _request):
        large = [("x-%d" % n, "v" * 100) for n in range(20)]
        if begun:
            talker.head(stream)
            talker.data(stream, EMPTY)
            talker.trailers(stream, [("grpc-status", "9"), *large])
        else:
            talker.head(stream, [*GRPC, ("grpc-status", "9"), *large], end=True)
    origin = origins(play)
    proxy = over_h2(weir, origin, pools={"app": {
        "endpoints": [origin.address], "limits": {"header_bytes": "1KiB"},
        "connections": {"protocol": "h2c"}}})
    conn = Talk(proxy.port)
    stream = conn.whole(called(conn, "/call"))
    rows = dict(stream.trailers if begun else stream.headers)
    assert rows[b"grpc-status"] == b"8"
    assert rows[b"grpc-message"].startswith(b"upstream.bad_response.header_bytes")
    proxy.logged(end="upstream.bad_response.header_bytes", rpc__grpc__status_code=8)
    conn.close()


def test_no_status_at_all(weir, origins):
    """A response that ends without one passes; to callers it is UNKNOWN, and to the log."""
    def play(talker, stream, _request):
        talker.head(stream)
        talker.data(stream, EMPTY, end=True)
    proxy = over_h2(weir, origins(play))
    conn = Talk(proxy.port)
    stream = conn.whole(called(conn, "/call"))
    assert bytes(stream.body) == EMPTY and stream.trailers is None
    proxy.logged(end="ok", rpc__grpc__status_code=2)
    conn.close()


def test_a_slow_reader_gets_no_trailers_in_between(weir, origins):
    """What waits for the caller's window goes out before the status does, or the stream is
    reset."""
    def play(talker, stream, _request):
        talker.head(stream)
        talker.data(stream, b"y" * 16384)
        talker.data(stream, b"z" * 16384)
        talker.close()
    proxy = over_h2(weir, origins(play))
    conn = Talk(proxy.port)
    stream = conn.whole(called(conn, "/call"))
    assert dict(stream.trailers)[b"grpc-status"] == b"14"
    assert set(stream.body) <= set(b"yz") and len(stream.body) <= 32768
    conn.close()


def test_a_proxy_before_it_is_a_socket(weir, origins):
    """A call over HTTP/1.1 to an endpoint of HTTP/2: trailers come in the last chunk."""
    def play(talker, stream, _request):
        talker.head(stream)
        talker.data(stream, EMPTY)
        talker.trailers(stream, [("grpc-status", "5"), ("grpc-message", "no such thing")])
    proxy = over_h2(weir, origins(play))
    with socket.create_connection(("127.0.0.1", proxy.port), GUARD) as sock:
        sock.sendall(wire.request_bytes("POST", "/call", ["Content-Type: application/grpc",
                                                          "TE: trailers", "Connection: TE"],
                                        EMPTY))
        answer = wire.Reader(sock)
        response = wire.read_response(answer, "POST")
    assert response.body == EMPTY
    assert (b"grpc-status", b"5") in [(k.lower(), v) for k, v in response.trailers]
    proxy.logged(end="ok", rpc__grpc__status_code=5)


def test_a_caller_that_takes_no_trailers(weir, origins, new_backend):
    """HTTP/1.1 without TE: they are left out, but weir reads them; of endpoints of either version.
    """
    def play(talker, stream, _request):
        talker.head(stream)
        talker.data(stream, EMPTY)
        talker.trailers(stream, [("grpc-status", "5")])
    backend = new_backend(raw(HANG + wire.chunked(end=b"0\r\ngrpc-status: 5\r\n\r\n")))
    old = weir({}, backend)
    for proxy in (over_h2(weir, origins(play)), old):
        answer = proxy.request("POST", "/call", ["Content-Type: application/grpc"], EMPTY)
        assert answer.status == 200 and answer.body == EMPTY and not answer.trailers
        proxy.logged(end="ok", rpc__grpc__status_code=5)
