"""Upgrade: tunnels only after a 101 that was asked for, bytes both ways, ends, limits (RFC 9110
7.8; THREATS.md row 12)."""
import asyncio
import contextlib
import threading

import pytest
import websockets

from harness import proc, wire
from harness.backend import raw
from harness.weir import GUARD, eventually

ASK = ["Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
       "Sec-WebSocket-Version: 13"]
SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" \
    b"Sec-WebSocket-Accept: x\r\n\r\n"


def echo(conn, _request):
    """101, then every byte back until the end."""
    conn.send(SWITCH)
    while True:
        if conn.reader.buf:
            conn.send(bytes(conn.reader.buf))
            conn.reader.buf.clear()
        if not conn.reader.fill():
            conn.close()
            return


def opened(pair, target="/ws", fields=ASK):
    conn = pair.client()
    conn.send(wire.request_bytes(target=target, fields=fields))
    response = conn.response()
    assert response.status == 101, response
    return conn


def recv(conn, count):
    body = wire.Body()
    conn.reader.exactly(count, body)
    return body.data


def test_tunnel(pair):
    pair.backend.on("/ws", echo)
    conn = opened(pair)
    request = pair.backend.last
    assert request.get("upgrade") == "websocket" and request.get("sec-websocket-version") == "13"
    for size in (1, 100, 65536, 1000000):
        block = bytes([size % 251]) * size
        sender = threading.Thread(target=conn.sock.sendall, args=(block,))
        sender.start()
        assert recv(conn, size) == block
        sender.join()
    assert pair.metric("weir_tunnels") == 1
    conn.close()
    record = pair.logged(path="/ws", status=101)
    assert record["weir.end"] in ("ok", "client.closed")
    eventually(lambda: pair.metric("weir_tunnels") == 0)


def test_101_head_is_passed_on(pair):
    pair.backend.on("/ws", echo)
    conn = pair.client()
    conn.send(wire.request_bytes(target="/ws", fields=ASK))
    response = conn.response()
    assert response.get("upgrade") == "websocket" and response.get(
        "connection").lower() == "upgrade"
    assert response.get("sec-websocket-accept") == "x"


def test_bytes_right_behind_the_101(pair):
    """The upstream may speak first, in the same write as the head."""
    pair.backend.on("/ws", lambda conn, _r: (conn.send(SWITCH + b"hello"), conn.reader.fill())[0])
    assert recv(opened(pair), 5) == b"hello"


def test_bytes_behind_the_request_wait_for_the_101(pair):
    """They are the tunnel's when it opens: not sent before (the strict backend would see them)."""
    def handler(conn, request):
        conn.send(0.1)
        conn.backend.check_nothing_more(conn)
        echo(conn, request)
    pair.backend.on("/ws", handler)
    conn = pair.client()
    conn.send(wire.request_bytes(target="/ws", fields=ASK) + b"early bytes")
    assert conn.response().status == 101
    assert recv(conn, 11) == b"early bytes"


def test_bytes_behind_a_refused_upgrade_are_the_next_request(pair):
    """No 101: the connection stays HTTP, and what follows is parsed as such."""
    conn = pair.client()
    conn.send(wire.request_bytes(target="/no", fields=ASK) + wire.request_bytes(target="/next"))
    assert conn.response().body == b"GET /no" and conn.response().body == b"GET /next"


def test_other_protocol_than_asked(pair):
    pair.backend.on("/ws", raw(SWITCH.replace(b"websocket", b"smtp"), close=True))
    response = pair.client().get("/ws", ASK)
    assert response.status == 502
    pair.ended("upstream.bad_response.upgrade", path="/ws")


def test_upgrade_with_a_body_is_refused(pair):
    conn, response = pair.exchange(wire.request_bytes("POST", "/ws", ASK, b"body"))
    assert response.status in (400, 200)
    if response.status == 400:
        pair.ended("client.bad_request.upgrade")
        assert not pair.backend.requests
    else:
        assert not pair.backend.last.all("upgrade")


def test_upgrade_in_http_1_0_is_ignored(pair):
    conn = pair.client()
    conn.send(b"GET /ws HTTP/1.0\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n")
    assert conn.response(minor=0).status == 200
    assert not pair.backend.last.all("upgrade")


def test_upgrade_without_connection_is_dropped(pair):
    assert pair.client().get("/ws", ["Upgrade: websocket"]).status == 200
    assert not pair.backend.last.all("upgrade")


@pytest.mark.parametrize("ender", ["client", "upstream"])
def test_end_is_passed_on(pair, ender):
    """FIN of one side arrives at the other after the last byte."""
    def handler(conn, _request):
        conn.send(SWITCH)
        if ender == "upstream":
            conn.send(b"bye")
            conn.close()
        else:
            while conn.reader.fill():
                pass
    pair.backend.on("/ws", handler)
    conn = opened(pair)
    if ender == "upstream":
        assert recv(conn, 3) == b"bye"
        conn.expect_close()
        conn.close()
    else:
        conn.send(b"last words")
        conn.half_close()
        number = pair.backend.last.connection
        eventually(lambda: pair.backend.conns[number].reader.raw.endswith(b"last words"))
        conn.close()
        assert pair.backend.conns[number].ended.wait(GUARD)
    pair.logged(path="/ws", status=101)


def test_half_close_keeps_the_other_direction(pair):
    """A client that has sent all may still receive."""
    def handler(conn, _request):
        conn.send(SWITCH)
        while conn.reader.fill():
            pass
        conn.send(b"after your end")
        conn.close()
    pair.backend.on("/ws", handler)
    conn = opened(pair)
    conn.send(b"x")
    conn.half_close()
    assert recv(conn, 14) == b"after your end"


def test_tunnel_timeout(weir, new_backend):
    backend = new_backend()
    backend.on("/ws", echo)
    proxy = weir({"listeners": {"web": {"timeouts": {"tunnel": "400ms"}}}}, backend)
    conn = proxy.client()
    conn.send(wire.request_bytes(target="/ws", fields=ASK))
    assert conn.response().status == 101
    conn.expect_close()
    proxy.ended("client.timeout.tunnel", path="/ws")


def test_other_timeouts_do_not_end_a_tunnel(weir, new_backend):
    """Only timeouts.tunnel counts: idle, body and send are shorter here."""
    backend = new_backend()
    backend.on("/ws", echo)
    proxy = weir({"listeners": {"web": {"timeouts": {
        "tunnel": "30s", "idle": "200ms", "body": "200ms", "send": "200ms", "header": "200ms"}}},
        "pools": {"app": {"timeouts": {"idle": "200ms", "first_byte": "200ms"}}},
        "routes": [{"prefix": "/", "pool": "app", "timeout": "200ms"}]}, backend)

    def opens():
        """a tunnel: where the machine is too slow for these times, the next one"""
        with contextlib.suppress(OSError, wire.Truncated):
            conn = proxy.client()
            conn.send(wire.request_bytes(target="/ws", fields=ASK))
            return conn.response().status == 101 and conn
    conn = eventually(opens)
    threading.Event().wait(1)
    conn.send(b"still here")
    assert recv(conn, 10) == b"still here"


def test_tunnel_survives_reloads(weir, new_backend):
    backend = new_backend()
    backend.on("/ws", echo)
    proxy = weir({}, backend)
    conn = proxy.client()
    conn.send(wire.request_bytes(target="/ws", fields=ASK))
    assert conn.response().status == 101
    for number in range(5):
        proxy.change(routes=[{"name": "all", "prefix": "/", "pool": "app"},
                             {"path": "/new%d" % number, "respond": {"status": 200}}])
        proxy.reload()
        conn.send(b"turn %d" % number)
        assert recv(conn, 6) == b"turn %d" % number
    assert proxy.metric("weir_snapshots_live") <= 2


def test_tunnel_of_a_removed_route_ends_after_drain(weir, new_backend):
    backend = new_backend()
    backend.default = lambda conn, request: echo(conn, request) if request.get("upgrade") else None
    proxy = weir({"process": {"drain": "300ms"},
                  "routes": [{"name": "ws", "prefix": "/ws", "pool": "app"},
                             {"name": "stay", "prefix": "/stay", "pool": "app"}]}, backend)
    conns = []
    for target in ("/ws", "/stay"):
        conn = proxy.client()
        conn.send(wire.request_bytes(target=target, fields=ASK))
        assert conn.response().status == 101
        conns.append(conn)
    proxy.change(routes=[{"name": "stay", "prefix": "/stay", "pool": "app"}])
    proxy.reload()
    conns[0].expect_close()
    proxy.ended("proxy.drain.tunnel", path="/ws")
    conns[1].send(b"stays")
    assert recv(conns[1], 5) == b"stays"


def test_tunnel_of_an_address_that_goes_ends_after_drain(weir, new_backend):
    """Its listener stays, with another address: no other reload has to come."""
    backend = new_backend()
    backend.default = lambda conn, request: echo(conn, request) if request.get("upgrade") else None
    port = proc.free_port()
    proxy = weir({"process": {"drain": "300ms"},
                  "listeners": {"more": {"bind": "127.0.0.1:%d" % port}}}, backend)
    conns = [proxy.client(port), proxy.client()]
    for conn in conns:
        conn.send(wire.request_bytes(target="/ws%d" % conns.index(conn), fields=ASK))
        assert conn.response().status == 101
    proxy.change(listeners={"more": {"bind": "127.0.0.1:%d" % proc.free_port()}})
    proxy.reload()
    conns[0].expect_close()
    proxy.ended("proxy.drain.tunnel", path="/ws0")
    conns[1].send(b"stays")
    assert recv(conns[1], 5) == b"stays"


async def websocket_echo(socket):
    async for message in socket:
        await socket.send(message)


def test_real_websockets(weir):
    """python3-websockets on both ends: frames, pings and closes pass."""
    port = proc.free_port()
    proxy = weir({"pools": {"app": {"endpoints": ["127.0.0.1:%d" % port]}},
                  "routes": [{"prefix": "/", "pool": "app"}]})

    async def talk():
        async with websockets.serve(websocket_echo, "127.0.0.1", port, max_size=None):
            url = "ws://127.0.0.1:%d/chat" % proxy.port
            async with websockets.connect(url, max_size=None) as socket:
                for message in ("hello", "x" * 200000, b"\0" * 1000000):
                    await socket.send(message)
                    assert await socket.recv() == message
                await asyncio.wait_for(await socket.ping(), 20)
            async with websockets.connect(url) as one, websockets.connect(url) as two:
                await one.send("1")
                await two.send("2")
                assert (await one.recv(), await two.recv()) == ("1", "2")
    asyncio.run(talk())
    proxy.logged(3, path="/chat", status=101)


def test_node_upgrade(weir, node):
    proxy = weir({"pools": {"app": {"endpoints": [node.address]}},
                  "routes": [{"prefix": "/", "pool": "app"}]})
    conn = proxy.client()
    conn.send(wire.request_bytes(target="/up", fields=["Connection: Upgrade", "Upgrade: echo"])
              + b"ab")
    assert conn.response().get("upgrade") == "echo"
    conn.send(b"cdef")
    assert recv(conn, 6) == b"abcdef"
