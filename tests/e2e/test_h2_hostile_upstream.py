"""An endpoint is as untrusted as a client (THREATS.md rows 1 to 8 on the other side): floods and
faults of an HTTP/2 endpoint end its connection, the request says whose fault it was, memory is
bounded, and neither other requests nor other endpoints notice."""
import concurrent.futures
import typing

import pytest

from harness import client, h2wire as h2, proc
from harness.h2byhand import FLOOD_MOST, Acts, response
from harness.h2fixtures import speaks_h2  # noqa: F401
from harness.h2raw import Conn
from harness.weir import eventually

CALM, PROTO = h2.ENHANCE_YOUR_CALM, h2.PROTOCOL_ERROR
FLOW, SIZE = h2.FLOW_CONTROL_ERROR, h2.FRAME_SIZE_ERROR
WORD = "upstream.h2."
GROWN_KIB = 12 * 1024


class Act(typing.NamedTuple):
    """What an endpoint does, and what comes of it."""
    act: typing.Callable  # act(conn, stream)
    end: tuple  # words
    codes: tuple = ()  # of weir's GOAWAY (None: it was not seen); empty: the connection may stay


def flood(piece, before=b""):
    """Frames that bring nothing on, for ever."""
    def act(conn, stream):
        first = before(stream) if callable(before) else before
        conn.send(first)
        conn.flood(piece(stream) if callable(piece) else piece)
    return Act(act, (WORD + "flood",), (CALM, None))  # who goes on sending may miss GOAWAY


def sends(end, code, *parts):
    """Once."""
    def act(conn, stream):
        conn.send(*[part(stream) if callable(part) else part for part in parts])
    return Act(act, (end,), (code,) if code is not None else ())


def growing(conn, stream):
    """Interim answers without end."""
    conn.flood(response(stream, [("link", "</a.css>")], "103"))


BOMB = h2.block([(":status", "200")]) + h2.incremental("x-bomb", "v" * 4000)


def unended(stream):
    """A head that does not end."""
    return h2.headers(stream, h2.block([(":status", "200")]), False, end_headers=False)


FLOODS = {
    "ping": flood(h2.ping()),
    "ping-ack": flood(h2.ping(ack=True)),
    "ping-with-a-byte": flood(lambda n: h2.data(n, b"x") + h2.ping() * 2, response),
    "settings": flood(h2.settings()),
    "settings-ack": flood(h2.SETTINGS_ACK),
    "settings-windows": flood(h2.settings((h2.INITIAL_WINDOW_SIZE, 0))
                              + h2.settings((h2.INITIAL_WINDOW_SIZE, 65535))),
    "settings-table": flood(h2.settings((h2.HEADER_TABLE_SIZE, 0))
                            + h2.settings((h2.HEADER_TABLE_SIZE, 4096))),
    "window-update": flood(h2.window_update(0, 1)),
    "window-update-of-the-stream": flood(lambda n: h2.window_update(n, 1)),
    "priority": flood(lambda n: h2.priority(n, 0)),
    "unknown": flood(h2.frame(0xEE, payload=b"nothing")),
    "data-empty": flood(h2.data, response),
    "data-of-padding": flood(lambda n: h2.data(n, b"", pad=20), response),
    "goaway": flood(h2.goaway(1)),
    "reset-of-a-closed-stream": flood(h2.rst_stream)._replace(end=(WORD + "rst_stream",)),
    "continuation-empty": flood(lambda n: h2.continuation(n, b"", False), unended),
    "continuation-of-one-field": flood(
        lambda n: h2.continuation(n, h2.literal("x-a", "b"), False), unended),
    "continuation-of-16384": flood(
        lambda n: h2.continuation(n, h2.block([("x-a", "v" * 400)] * 40)[:16320], False), unended),
}

FAULTS = {
    "push-promise": sends(WORD + "protocol", PROTO,
                          lambda n: h2.push_promise(n, 2, h2.request())),
    "priority-update": sends(WORD + "protocol", PROTO, lambda n: h2.priority_update(n)),
    "data-on-stream-0": sends(WORD + "protocol", PROTO, h2.data(0, b"x")),
    "data-on-an-idle-stream": sends(WORD + "protocol", PROTO, h2.data(99, b"x")),
    "headers-on-an-idle-stream": sends(WORD + "protocol", PROTO, response(99)),
    "headers-on-a-stream-of-its-own": sends(WORD + "protocol", PROTO, response(2)),
    "reset-of-an-idle-stream": sends(WORD + "protocol", PROTO, h2.rst_stream(99)),
    "window-of-0": sends(WORD + "protocol", PROTO, h2.window_update(0, 0)),
    "window-too-large": sends(WORD + "flow_control", FLOW, h2.window_update(0, h2.WINDOW_MAX)),
    "windows-of-settings": sends(WORD + "flow_control", FLOW,
                                 h2.settings((h2.INITIAL_WINDOW_SIZE, 1 << 31))),
    "settings-push-1": sends(WORD + "protocol", PROTO, h2.settings((h2.ENABLE_PUSH, 1))),
    "settings-of-5": sends(WORD + "frame_size", SIZE, h2.frame(h2.SETTINGS, 0, 0, bytes(5))),
    "ping-of-7": sends(WORD + "frame_size", SIZE, h2.frame(h2.PING, 0, 0, bytes(7))),
    "frame-too-large": sends(WORD + "frame_size", SIZE, response,
                             lambda n: h2.frame(h2.HEADERS, 4, n, bytes(16385))),
    "hpack-garbage": sends(WORD + "compression", h2.COMPRESSION_ERROR,
                           lambda n: h2.headers(n, h2.indexed(0))),
    "block-interrupted": sends(WORD + "protocol", PROTO, unended, h2.ping()),
    "not-http2": sends(WORD + "frame_size", SIZE,
                       b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"),
}

# Faults of one message: the connection stays, or is ended.
MESSAGES = {
    "data-before-headers": sends(WORD + "protocol", None, lambda n: h2.data(n, b"x")),
    "data-longer-than-said": sends("upstream.bad_response.length_mismatch", None,
                                   lambda n: response(n, [("content-length", "1")])
                                   + h2.data(n, b"much more", True)),
    "data-shorter-than-said": sends("upstream.bad_response.length_mismatch", None,
                                    lambda n: response(n, [("content-length", "9")])
                                    + h2.data(n, b"less", True)),
    "no-status": sends("upstream.bad_response.pseudo", None,
                       lambda n: h2.headers(n, h2.block([("x-a", "b")]), False)),
    "connection-field": sends("upstream.bad_response.connection_field", None,
                              lambda n: response(n, [("connection", "close")])),
    "upper-case": sends("upstream.bad_response.field_name", None,
                        lambda n: response(n, [("X-Up", "b")])),
    "line-feed-in-a-value": sends("upstream.bad_response.field_value", None,
                                  lambda n: response(n, [("x-a", "b\r\nevil: 1")])),
    "many-fields": sends("upstream.bad_response.headers", None,
                         lambda n: h2.headers(n, h2.block(
                             [(":status", "200")] + [("x", "")] * 400), False)),
    "bomb": sends("upstream.bad_response.header_bytes", None,
                  lambda n: h2.headers(n, BOMB + h2.indexed(62) * 100, False)),
    "data-beyond-the-window": sends(WORD + "flow_control", None, response,
                                    lambda n: h2.data(n, bytes(16384)) * 512),
    "interim-without-end": Act(growing, ("upstream.bad_response.interim",)),
    "reset": sends(WORD + "rst_stream", None, h2.rst_stream),
    "reset-after-the-head": sends(WORD + "rst_stream", None, response, h2.rst_stream),
    "stream-window-too-large": sends(WORD + "flow_control", None, lambda n: h2.window_update(
        n, h2.WINDOW_MAX)),
    "stream-window-of-0": sends(WORD + "protocol", None, lambda n: h2.window_update(n, 0)),
    "trailers-without-end": sends(WORD + "protocol", None, response,
                                  lambda n: h2.data(n, b"x") + response(n, [], "200")),
}


@pytest.fixture
def hostile(weir, backend):
    """hostile(acts, pool settings, **of the endpoint): (weir, the hostile endpoint)."""
    made = []

    def make(acts, settings=None, **kwargs):
        endpoint = Acts(acts, **kwargs)
        made.append(endpoint)
        calm = {"outlier": {"consecutive_failures": 0, "consecutive_5xx": 0}}
        proxy = weir({
            "process": {"workers": 1},
            "listeners": {"web": {"protocols": ["h2c", "http/1.1"]}},
            "pools": {"evil": {"endpoints": [endpoint.address], **calm,
                               "connections": {"protocol": "h2c"}, "retry": {"attempts": 1},
                               **(settings or {})},
                      "good": {"endpoints": [backend.address], **calm}},
            "routes": [{"prefix": "/good", "pool": "good"}, {"prefix": "/", "pool": "evil"}]})
        return proxy, endpoint

    yield make
    for each in made:
        each.stop()


def ask(proxy, path, how):
    """(status, body) of a response, None where the client was told of its end."""
    if how == "h2":
        with Conn(proxy.port) as conn:
            number = conn.open("GET", path)
            stream = conn.stream(number)
            conn.pump(lambda: stream.over or conn.closed, what="the end of a response")
            return stream.response.status, stream.response.body if stream.ended else None
    with client.Client(proxy.port) as conn:
        conn.send(b"GET %s HTTP/1.1\r\nHost: test.example\r\n\r\n" % path.encode())
        got = conn.response(truncated_ok=True)
        return got.status, got.body if got.complete else None


def unharmed(proxy, endpoint):
    """The other pool, and new connections to the same endpoint, answer."""
    for how in ("h1", "h2"):
        assert ask(proxy, "/good", how) == (200, b"GET /good")
        assert ask(proxy, "/well", how) == (200, b"/well")
    assert len(endpoint.asked("/well")) == 2


def judge(proxy, endpoint, row, how):
    before = proc.memory_kib(proxy.pid, "Rss")
    status, body = ask(proxy, "/evil", how)
    assert status == 502 or (status == 200 and body is None), (status, body)
    record = proxy.logged(path="/evil")
    assert record["weir.end"] in row.end, record["weir.end"]
    proxy.ended(record["weir.end"])
    conn = endpoint.conns[0]
    assert conn.sent < FLOOD_MOST, "weir bears it"
    if row.codes:
        assert conn.over.wait(30), "the connection stays"
        assert conn.code in row.codes, conn.code
        eventually(lambda: proxy.metric("weir_upstream_connections") == 0)
    assert proc.memory_kib(proxy.pid, "Rss") - before < GROWN_KIB
    assert len(endpoint.asked("/evil")) == 1
    unharmed(proxy, endpoint)


HOW = pytest.mark.parametrize("how", ["h1", "h2"])


@HOW
@pytest.mark.parametrize("name", FLOODS)
def test_flood(hostile, name, how):
    proxy, endpoint = hostile({"/evil": FLOODS[name].act})
    judge(proxy, endpoint, FLOODS[name], how)


@HOW
@pytest.mark.parametrize("name", FAULTS)
def test_fault_of_the_connection(hostile, name, how):
    proxy, endpoint = hostile({"/evil": FAULTS[name].act})
    judge(proxy, endpoint, FAULTS[name], how)


@HOW
@pytest.mark.parametrize("name", MESSAGES)
def test_fault_of_a_message(hostile, name, how):
    proxy, endpoint = hostile({"/evil": MESSAGES[name].act})
    judge(proxy, endpoint, MESSAGES[name], how)


# ---- what is not one request's ----

def test_a_flood_fails_its_neighbours_but_not_for_good(hostile):
    """Requests on the same connection end with its word, or go on elsewhere where they may."""
    held = []

    def hold(conn, stream):
        held.append(stream)

    def evil(conn, _stream):
        conn.flood(h2.ping())
    proxy, endpoint = hostile({"/held": hold, "/evil": evil})
    with Conn(proxy.port) as conn:
        numbers = [conn.open("POST", "/held") for _ in range(20)]
        eventually(lambda: len(held) == 20)
        assert len(endpoint.conns) == 1
        numbers.append(conn.open("POST", "/evil"))
        for number in numbers:
            assert conn.wait(number).status == 502
    proxy.logged(21, end=WORD + "flood")
    assert endpoint.conns[0].code in (CALM, None)
    unharmed(proxy, endpoint)


def test_idempotent_requests_go_on_elsewhere(hostile, new_backend):
    """retry.on reset: the endpoint that floods is left, another one of the pool answers."""
    other = Acts()
    try:
        proxy, endpoint = hostile({"/evil": FLOODS["ping"].act}, {
            "retry": {"on": ["connect", "reset"], "attempts": 3}})
        proxy.change(pools={"evil": {"endpoints": [endpoint.address, other.address]}})
        proxy.reload()
        for _ in range(200):  # whom the balancing draws is chance
            assert ask(proxy, "/evil", "h1") == (200, b"/evil")
            if len(endpoint.asked("/evil")):
                break
        assert len(endpoint.asked("/evil"))
        proxy.settle()
        assert {r["weir.end"] for r in proxy.lines()} == {"ok"}
    finally:
        other.stop()


def test_a_flood_on_an_idle_connection(hostile):
    """Nobody waits for anything on it: it is closed all the same."""
    def later(conn, stream):
        conn.send(response(stream, end=True))
        conn.flood(h2.ping())
    proxy, endpoint = hostile({"/later": later})
    assert ask(proxy, "/later", "h1") == (200, b"")
    conn = endpoint.conns[0]
    assert conn.over.wait(30) and conn.sent < FLOOD_MOST
    assert conn.code in (CALM, None)
    eventually(lambda: proxy.metric("weir_upstream_connections") == 0)
    assert ask(proxy, "/well", "h1") == (200, b"/well")


@pytest.mark.parametrize("start", [None, h2.settings()], ids=["no-settings", "no-ack"])
def test_an_endpoint_that_says_little(hostile, start):
    """Without SETTINGS, or an acknowledgment, requests are answered or time out; nothing hangs."""
    proxy, _endpoint = hostile({}, {"timeouts": {"first_byte": "2s"}}, start=start, silent=True)
    status, _ = ask(proxy, "/well", "h1")
    assert status in (200, 502, 504)
    proxy.settle()


def test_refusals_without_end(hostile):
    """REFUSED_STREAM may be sent again, but not for ever."""
    proxy, endpoint = hostile({"/evil": lambda conn, n: conn.send(
        h2.rst_stream(n, h2.REFUSED_STREAM))}, {"retry": {"attempts": 3, "budget": "100%"}})
    for _ in range(10):
        assert ask(proxy, "/evil", "h1")[0] in (502, 503)
    assert len(endpoint.asked("/evil")) <= 10 * 4
    unharmed(proxy, endpoint)


def test_goaway_to_every_request(hostile):
    """An endpoint that ends each connection before its request is answered."""
    proxy, endpoint = hostile({"/evil": lambda conn, n: conn.send(h2.goaway(0))},
                              {"retry": {"attempts": 3, "budget": "100%"}})
    for _ in range(10):
        assert ask(proxy, "/evil", "h1")[0] in (502, 503)
    assert len(endpoint.asked("/evil")) <= 10 * 4
    eventually(lambda: proxy.metric("weir_upstream_connections") <= 1)
    unharmed(proxy, endpoint)


def test_no_streams_at_all(hostile):
    """MAX_CONCURRENT_STREAMS of 0: requests end, connections do not pile up."""
    proxy, endpoint = hostile({"/evil": lambda conn, n: None},
                              {"timeouts": {"first_byte": "1s"}},
                              start=h2.settings((h2.MAX_CONCURRENT_STREAMS, 0)))
    with concurrent.futures.ThreadPoolExecutor(10) as threads:
        got = list(threads.map(lambda n: ask(proxy, "/evil", "h1")[0], range(20)))
    assert set(got) <= {502, 503, 504}
    eventually(lambda: proxy.metric("weir_upstream_connections") == 0)
    assert len(endpoint.conns) <= 40
    assert ask(proxy, "/good", "h1") == (200, b"GET /good")


def test_no_streams_for_those_who_wait_for_settings(hostile):
    """Who waits to hear how many there may be hears of none: no reason to ask elsewhere."""
    proxy, endpoint = hostile({"/evil": lambda conn, n: None},
                              {"timeouts": {"first_byte": "1s", "connect": "2s"}},
                              start=h2.settings((h2.MAX_CONCURRENT_STREAMS, 0),
                                                (h2.ENABLE_CONNECT_PROTOCOL, 1)))
    conns = [client.Client(proxy.port) for _ in range(3)]
    for conn in conns:
        conn.send(b"GET /evil HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n"
                  b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: %s==\r\n\r\n" % (b"A" * 22))
    for conn in conns:
        assert conn.response(truncated_ok=True).status in (502, 503, 504)
        conn.close()
    assert len(endpoint.conns) <= 12


def test_an_upload_that_is_not_read(hostile):
    """No window comes back: the client is held back, timeouts.idle ends it."""
    proxy, endpoint = hostile({"/evil": lambda conn, n: None}, {"timeouts": {"idle": "1s"}})
    before = proc.memory_kib(proxy.pid, "Rss")
    with client.Client(proxy.port) as conn:
        conn.send(b"POST /evil HTTP/1.1\r\nHost: a\r\nContent-Length: 100000000\r\n\r\n")
        conn.sock.settimeout(30)
        while conn.try_send(bytes(65536)):
            pass
    record = proxy.logged(path="/evil")
    assert record["weir.end"] == "upstream.send.timeout", record["weir.end"]
    assert proc.memory_kib(proxy.pid, "Rss") - before < GROWN_KIB
    unharmed(proxy, endpoint)


def test_responses_that_the_client_does_not_read(hostile):
    """One stream that nobody reads does not hold up others of its connection, nor fill memory."""
    def large(conn, stream):
        conn.send(response(stream), h2.data(stream, bytes(16384)) * 512)
    proxy, endpoint = hostile({"/large": large})
    before = proc.memory_kib(proxy.pid, "Rss")
    slow = Conn(proxy.port, settings=((h2.INITIAL_WINDOW_SIZE, 0),), credit=False).handshake()
    slow.open("GET", "/large")
    eventually(lambda: len(endpoint.asked("/large")))
    assert ask(proxy, "/good", "h2") == (200, b"GET /good")
    assert ask(proxy, "/well", "h2") == (200, b"/well")
    eventually(lambda: endpoint.conns[0].resets)
    assert endpoint.conns[0].resets == [(1, FLOW)] and len(endpoint.conns) == 1
    assert proc.memory_kib(proxy.pid, "Rss") - before < GROWN_KIB
    slow.close()
