"""WebSocket over HTTP/2 to an endpoint of HTTP/1.1 (RFC 8441, RFC 6455): the handshake that weir
does for the client, what is no tunnel, bytes both ways, ends, limits."""
import asyncio
import base64
import contextlib
import hashlib
import threading

import pytest
import websockets
from h2.errors import ErrorCodes

from harness import proc, wire
from harness.backend import raw
from harness.h2talk import Reset
from harness.weir import GUARD, eventually

SHARED_CONF = {"listeners": {"web": {"protocols": ["http/1.1", "h2c"]}}}
ASK = [("sec-websocket-version", "13"), ("sec-websocket-protocol", "chat"),
       ("origin", "http://test.example")]


def accept_of(key):
    text = key.encode() + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
    return base64.b64encode(hashlib.sha1(text).digest()).decode()


def switch(request, *fields, accept=None):
    accept = accept or accept_of(request.get("sec-websocket-key"))
    return wire.response_bytes(101, b"", [
        "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Accept: " + accept, *fields],
        "Switching Protocols", False)


def echo(conn, request):
    """101, then every byte back until the end."""
    conn.send(switch(request, "Sec-WebSocket-Protocol: chat"))
    while True:
        if conn.reader.buf:
            conn.send(bytes(conn.reader.buf))
            conn.reader.buf.clear()
        if not conn.reader.fill():
            conn.close()
            return


def ask(conn, path="/ws", fields=tuple(ASK), **pseudo):
    pseudo.setdefault("protocol", "websocket")
    return conn.open("CONNECT", path, list(fields), end=False, **pseudo)


def opened(conn, path="/ws"):
    stream = conn.head(ask(conn, path))
    assert stream.status == 200, stream.headers
    return stream


def back(conn, stream, data):
    """Sends data and waits until it came back."""
    start = len(stream.body)
    conn.send(stream, data)
    conn.until(lambda: len(stream.body) >= start + len(data) or stream.reset is not None)
    assert bytes(stream.body[start:]) == data, stream.reset


# ---- the handshake ----

def test_settings_offer_it(pair, talk):
    conn = talk("h2", pair.weir)
    conn.until(lambda: conn.settings is not None)
    assert conn.settings[8].new_value == 1  # SETTINGS_ENABLE_CONNECT_PROTOCOL


def test_handshake(pair, talk):
    pair.backend.on("/ws", echo)
    conn = talk("h2", pair.weir)
    keys = set()
    for _ in range(3):
        stream = opened(conn, "/ws?q=1")
        assert stream.get("sec-websocket-protocol") == "chat"
        names = {name for name, _ in stream.headers}
        assert not names & {b"sec-websocket-accept", b"connection", b"upgrade", b"content-length"}
        request = pair.backend.last
        assert request.method == "GET" and request.target == b"/ws?q=1"
        assert request.get("upgrade") == "websocket" and request.get("host") == "test.example"
        assert request.get("sec-websocket-version") == "13"
        assert request.get("sec-websocket-protocol") == "chat"
        key = request.get("sec-websocket-key")
        assert len(base64.b64decode(key, validate=True)) == 16
        keys.add(key)
        back(conn, stream, b"hello")
        conn.reset(stream)
    assert len(keys) == 3


def test_a_clients_own_key_is_not_passed_on(pair, talk):
    pair.backend.on("/ws", echo)
    conn = talk("h2", pair.weir)
    mine = "dGhlIHNhbXBsZSBub25jZQ=="
    stream = conn.head(ask(conn, fields=[*ASK, ("sec-websocket-key", mine)]))
    assert stream.status == 200 and pair.backend.last.get("sec-websocket-key") != mine


BAD_ACCEPTS = ["x", accept_of("dGhlIHNhbXBsZSBub25jZQ=="), ""]


@pytest.mark.parametrize("accept", BAD_ACCEPTS)
def test_wrong_accept(pair, talk, accept):
    """Who did not read the key does not speak WebSocket; nothing it sends is passed on."""
    pair.backend.on("/ws", lambda conn, request: conn.send(
        switch(request, accept=accept or " ") + b"secret"))
    conn = talk("h2", pair.weir)
    stream = conn.whole(ask(conn))
    assert stream.status == 502 and b"secret" not in stream.body
    pair.ended("upstream.bad_response.websocket", path="/ws")
    assert conn.whole(conn.open("GET", "/next")).status == 200


def test_no_accept_or_two(pair, talk):
    base = b"HTTP/1.1 101 S\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"

    def twice(conn, request):
        line = b"Sec-WebSocket-Accept: %s\r\n" % accept_of(
            request.get("sec-websocket-key")).encode()
        conn.send(base + line + line + b"\r\n")
    pair.backend.on("/none", raw(base + b"\r\n"))
    pair.backend.on("/two", twice)
    conn = talk("h2", pair.weir)
    for path in ("/none", "/two"):
        assert conn.whole(ask(conn, path)).status == 502
        pair.ended("upstream.bad_response.websocket", path=path)


def test_other_protocol_than_asked(pair, talk):
    pair.backend.on("/ws", lambda conn, request: conn.send(
        switch(request).replace(b"Upgrade: websocket", b"Upgrade: smtp")))
    conn = talk("h2", pair.weir)
    assert conn.whole(ask(conn)).status == 502
    pair.ended("upstream.bad_response.upgrade", path="/ws")


@pytest.mark.parametrize("status", [301, 401, 403, 404, 426, 503])
def test_refusals_are_passed_on(pair, talk, status):
    pair.backend.on("/ws", raw(wire.response_bytes(status, b"no", ["X-Why: so"])))
    conn = talk("h2", pair.weir)
    stream = conn.whole(ask(conn))
    assert stream.status == status and stream.body == b"no" and stream.get("x-why") == "so"
    pair.ended("ok", path="/ws", status=status)


@pytest.mark.parametrize("status", [200, 204, 299])
def test_success_without_switching_is_no_tunnel(pair, talk, status):
    """2xx to a CONNECT opens it for the client, who would read the body as frames."""
    body = b"" if status == 204 else b"<html>"
    pair.backend.on("/ws", raw(wire.response_bytes(status, body, length=status != 204)))
    conn = talk("h2", pair.weir)
    stream = conn.whole(ask(conn))
    assert stream.status == 501 and b"<html>" not in stream.body
    pair.ended("proxy.upgrade_declined", path="/ws", status=501)
    assert conn.whole(conn.open("GET", "/next")).status == 200


@pytest.mark.parametrize("status,answer", [(200, 501), (204, 501), (404, 404), (503, 503)])
def test_no_fixed_response_opens_a_tunnel(weir, talk, status, answer):
    fixed = {"status": status, **({} if status == 204 else {"body": "fixed"})}
    proxy = weir({"listeners": {"web": {"protocols": ["http/1.1", "h2c"]}},
                  "routes": [{"name": "fixed", "prefix": "/", "respond": fixed}]})
    conn = talk("h2", proxy)
    stream = conn.whole(ask(conn))
    assert stream.status == answer and (answer == status) == (stream.body == b"fixed")
    if answer == 501:
        proxy.ended("proxy.upgrade_declined", path="/ws", status=501)
    assert conn.whole(conn.open("GET", "/next")).status == status


# ---- other protocols, and CONNECT itself ----

def other_echo(conn, request):
    conn.send(b"HTTP/1.1 101 S\r\nConnection: Upgrade\r\nUpgrade: %s\r\n\r\n"
              % request.get("upgrade").encode())
    while conn.reader.fill():
        conn.send(bytes(conn.reader.buf))
        conn.reader.buf.clear()
    conn.close()


def test_another_protocol_that_the_endpoint_switches_to(pair, talk):
    pair.backend.on("/other", other_echo)
    conn = talk("h2", pair.weir)
    stream = conn.head(ask(conn, "/other", (), protocol="echo"))
    assert stream.status == 200 and not pair.backend.last.all("sec-websocket-key")
    back(conn, stream, b"hello")


def test_another_protocol_that_it_does_not_know(pair, talk):
    conn = talk("h2", pair.weir)
    stream = conn.whole(ask(conn, "/plain", (), protocol="connect-udp"))
    assert stream.status == 501
    pair.ended("proxy.upgrade_declined", path="/plain", status=501)


def test_a_protocol_is_a_token(pair, talk):
    conn = talk("h2", pair.weir)
    assert conn.cut(ask(conn, protocol="a b")) == 1
    pair.ended("client.bad_request.upgrade")


def test_h2c_is_no_protocol(pair, talk):
    conn = talk("h2", pair.weir)
    assert conn.cut(ask(conn, protocol="h2c")) == 1
    pair.ended("client.bad_request.upgrade")
    assert not pair.backend.requests


def test_plain_connect_is_not_served(pair, talk):
    """As over HTTP/1.1: 501 and the same word; the connection goes on."""
    conn = talk("h2", pair.weir, validate=False)
    stream = conn.open("CONNECT", None, end=False, scheme=None, authority="test.example:443")
    assert conn.whole(stream).status == 501
    pair.ended("client.bad_request.method_not_served", status=501)
    assert conn.whole(conn.open("GET", "/next")).status == 200


# ---- bytes ----

def test_many_messages(pair, talk):
    pair.backend.on("/ws", echo)
    conn = talk("h2", pair.weir)
    stream = opened(conn)
    for number in range(500):
        back(conn, stream, b"message %d" % number)
    for size in (1, 16384, 65535, 65536, 1000000):
        back(conn, stream, bytes([size % 251]) * size)
    assert pair.metric("weir_tunnels") == 1
    conn.send(stream, b"", end=True)
    conn.whole(stream)
    record = pair.ended("ok", path="/ws", status=200)
    assert record["network.protocol.version"] == "2"
    eventually(lambda: pair.metric("weir_tunnels") == 0)


def test_tunnels_and_requests_share_a_connection(pair, talk):
    pair.backend.on("/ws", echo)
    conn = talk("h2", pair.weir)
    streams = [opened(conn) for _ in range(10)]
    for turn in range(3):
        for number, stream in enumerate(streams):
            back(conn, stream, b"%d of %d" % (turn, number))
            assert conn.whole(conn.open("GET", "/g")).status == 200


def test_bytes_before_the_answer_wait_for_it(pair, talk):
    def handler(conn, request):
        conn.send(0.1)
        conn.backend.check_nothing_more(conn)
        echo(conn, request)
    pair.backend.on("/ws", handler)
    conn = talk("h2", pair.weir)
    stream = ask(conn)
    conn.send(stream, b"early bytes")
    conn.until(lambda: len(stream.body) == 11)
    assert stream.status == 200 and stream.body == b"early bytes"


def test_early_bytes_of_a_refused_tunnel_go_nowhere(pair, talk):
    pair.backend.on("/ws", raw(wire.response_bytes(403, b"no")))
    conn = talk("h2", pair.weir)
    stream = ask(conn)
    conn.send(stream, b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n")
    assert conn.whole(stream).status == 403
    assert conn.whole(conn.open("GET", "/next")).status == 200
    assert [r.path for r in pair.backend.requests] == ["/ws", "/next"]


def test_bytes_right_behind_the_101(pair, talk):
    pair.backend.on("/ws", lambda conn, request: (
        conn.send(switch(request) + b"hello"), conn.reader.fill())[0])
    conn = talk("h2", pair.weir)
    stream = opened(conn)
    conn.until(lambda: stream.body == b"hello")


def test_a_client_that_does_not_read_holds_the_endpoint_up(pair, talk):
    """Backpressure to the endpoint; other streams go on."""
    total = 4_000_000
    pair.backend.on("/ws", lambda conn, request: (
        conn.send(switch(request) + b"x" * total), conn.close())[0])
    conn = talk("h2", pair.weir)
    conn.hold = True
    stream = opened(conn)
    conn.until(lambda: len(stream.body) == 65535)
    conn.h2.increment_flow_control_window(100000)
    conn.flush()
    assert conn.whole(conn.open("GET", "/g")).status == 200
    conn.hold = False
    for number in (None, stream.number):
        conn.h2.increment_flow_control_window(total, number)
    conn.flush()
    conn.whole(stream)
    assert len(stream.body) == total


# ---- ends ----

def test_half_close_of_the_client(pair, talk):
    """END_STREAM is a FIN there; the other direction goes on."""
    def handler(conn, request):
        conn.send(switch(request))
        while conn.reader.fill():
            pass
        conn.send(b"after your end")
        conn.close()
    pair.backend.on("/ws", handler)
    conn = talk("h2", pair.weir)
    stream = opened(conn)
    conn.send(stream, b"last words", end=True)
    conn.whole(stream)
    assert stream.body == b"after your end"
    number = pair.backend.last.connection
    assert pair.backend.conns[number].reader.raw.endswith(b"last words")
    pair.ended("ok", path="/ws")


def test_half_close_of_the_endpoint(pair, talk):
    """FIN there is END_STREAM here; the client may go on."""
    got = []

    def handler(conn, request):
        conn.send(switch(request) + b"bye")
        conn.half_close()
        while conn.reader.fill():
            pass
        got.append(bytes(conn.reader.buf))
        conn.close()
    pair.backend.on("/ws", handler)
    conn = talk("h2", pair.weir)
    stream = opened(conn)
    conn.whole(stream)
    assert stream.body == b"bye" and stream.reset is None
    conn.send(stream, b"still here", end=True)
    eventually(lambda: got == [b"still here"])
    pair.ended("ok", path="/ws")


def test_reset_of_the_client(pair, talk):
    pair.backend.on("/ws", echo)
    conn = talk("h2", pair.weir)
    stream, other = opened(conn), opened(conn)
    number = pair.backend.requests[0].connection
    conn.reset(stream, ErrorCodes.CANCEL)
    assert pair.backend.conns[number].ended.wait(GUARD)
    pair.ended("client.reset", path="/ws")
    back(conn, other, b"goes on")


def test_reset_of_the_endpoint(pair, talk):
    """The client sees a reset, not an end."""
    def handler(conn, request):
        conn.send(switch(request))
        conn.reader.fill()
        conn.reset()
    pair.backend.on("/ws", handler)
    conn = talk("h2", pair.weir)
    stream = opened(conn)
    conn.send(stream, b"x")
    assert conn.cut(stream) != 0
    pair.logged(path="/ws", status=200, end="upstream.reset")
    assert conn.whole(conn.open("GET", "/next")).status == 200


def test_the_connection_ends(pair, talk):
    pair.backend.on("/ws", echo)
    conn = talk("h2", pair.weir)
    for _ in range(3):
        opened(conn)
    conn.close()
    for request in pair.backend.requests:
        assert pair.backend.conns[request.connection].ended.wait(GUARD)
    eventually(lambda: pair.metric("weir_tunnels") == 0)


def test_trailers_end_a_tunnel_as_its_end(pair, talk):
    """A field section says nothing there; what it ends is ended."""
    pair.backend.on("/ws", echo)
    conn = talk("h2", pair.weir)
    stream = opened(conn)
    back(conn, stream, b"x")
    conn.trailers(stream, [("x-late", "1")])
    conn.until(lambda: stream.ended or stream.reset is not None)
    assert conn.whole(conn.open("GET", "/next")).status == 200


# ---- limits, reloads, drain ----

def proxy_with(weir, backend, **conf):
    web = {"protocols": ["http/1.1", "h2c"], **conf.pop("web", {})}
    return weir({"listeners": {"web": web}, **conf}, backend)


def test_tunnel_timeout(weir, new_backend, talk):
    backend = new_backend()
    backend.on("/ws", echo)
    proxy = proxy_with(weir, backend, web={"timeouts": {"tunnel": "400ms"}})
    conn = talk("h2", proxy)
    assert conn.cut(opened(conn)) != 0
    proxy.ended("client.timeout.tunnel", path="/ws")
    assert conn.whole(conn.open("GET", "/next")).status == 200


def test_other_timeouts_do_not_end_a_tunnel(weir, new_backend, talk):
    backend = new_backend()
    backend.on("/ws", echo)
    proxy = proxy_with(
        weir, backend,
        web={"timeouts": {"tunnel": "30s", "idle": "200ms", "body": "200ms", "send": "200ms",
                          "header": "200ms"}},
        pools={"app": {"timeouts": {"idle": "200ms", "first_byte": "200ms"}}},
        routes=[{"prefix": "/", "pool": "app", "timeout": "200ms"}])

    def opens():
        """a tunnel: where the machine is too slow for these times, the next one"""
        with contextlib.suppress(OSError, AssertionError, Reset):
            conn = talk("h2", proxy)
            return conn, opened(conn)
    conn, stream = eventually(opens)
    threading.Event().wait(1)
    back(conn, stream, b"still here")


def test_tunnel_survives_reloads(weir, new_backend, talk):
    backend = new_backend()
    backend.on("/ws", echo)
    proxy = proxy_with(weir, backend)
    conn = talk("h2", proxy)
    stream = opened(conn)
    for number in range(4):
        proxy.change(routes=[{"name": "all", "prefix": "/", "pool": "app"},
                             {"path": "/new%d" % number, "respond": {"status": 200}}])
        proxy.reload()
        back(conn, stream, b"turn %d" % number)
        assert conn.whole(conn.open("GET", "/new%d" % number)).status == 200
    assert proxy.metric("weir_snapshots_live") <= 2


def test_tunnel_of_a_removed_route_ends_after_drain(weir, new_backend, talk):
    backend = new_backend()
    backend.default = lambda conn, request: echo(conn, request) if request.get("upgrade") else None
    proxy = proxy_with(weir, backend, process={"drain": "300ms"},
                       routes=[{"name": "ws", "prefix": "/ws", "pool": "app"},
                               {"name": "stay", "prefix": "/stay", "pool": "app"}])
    conn = talk("h2", proxy)
    gone, stays = opened(conn), opened(conn, "/stay")
    proxy.change(routes=[{"name": "stay", "prefix": "/stay", "pool": "app"}])
    proxy.reload()
    assert conn.cut(gone) != 0
    proxy.ended("proxy.drain.tunnel", path="/ws")
    back(conn, stays, b"stays")


def test_drain(weir, new_backend, talk):
    """SIGTERM: GOAWAY, the tunnel goes on for process.drain, then it is reset; exit status 0."""
    backend = new_backend()
    backend.on("/ws", echo)
    proxy = proxy_with(weir, backend, process={"drain": "1500ms"})
    conn = talk("h2", proxy)
    stream = opened(conn)
    proxy.signal(15)
    conn.until(lambda: conn.goaway)
    conn.until(lambda: stream.ended or stream.reset is not None or conn.eof)
    assert not stream.ended
    proxy.logged(path="/ws", end="proxy.drain.tunnel")


async def websocket_echo(socket):
    async for message in socket:
        await socket.send(message)


def frame(data, mask=b"abcd"):
    """A masked binary frame of a client (RFC 6455 5.2)."""
    head = bytes([0x82, 0x80 | 126]) + len(data).to_bytes(2, "big")
    return head + mask + bytes(c ^ mask[i % 4] for i, c in enumerate(data))


def test_real_websockets_server(weir, talk):
    """python3-websockets at the endpoint takes the handshake, and weir its answer."""
    port, ready, stop = proc.free_port(), threading.Event(), threading.Event()

    async def serve():
        async with websockets.serve(websocket_echo, "127.0.0.1", port):
            ready.set()
            while not stop.is_set():
                await asyncio.sleep(0.02)
    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    try:
        assert ready.wait(GUARD)
        proxy = weir({"listeners": {"web": {"protocols": ["http/1.1", "h2c"]}},
                      "pools": {"app": {"endpoints": ["127.0.0.1:%d" % port]}},
                      "routes": [{"prefix": "/", "pool": "app"}]})
        conn = talk("h2", proxy)
        stream = conn.head(ask(conn, fields=[("sec-websocket-version", "13")]))
        assert stream.status == 200
        for number in range(50):
            data = b"%03d" % number + b"y" * 500
            start = len(stream.body)
            conn.send(stream, frame(data))
            conn.until(lambda: len(stream.body) == start + 4 + len(data))
            assert stream.body.endswith(data)
        conn.reset(stream)
    finally:
        stop.set()
        thread.join(GUARD)
