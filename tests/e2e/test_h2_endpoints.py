"""HTTP/2 endpoints that are slow, refuse, break off or lie: what it costs the request at hand, and
that it costs nobody else anything. Each comes from a finding of a review."""
import socket
import ssl
import threading
import time

import pytest

from harness import h2wire as h2
from harness.h2byhand import OK, ByHand, proxy_for
from harness.h2raw import Conn, take_frame
from harness.tlspeers import Mint
from harness.weir import eventually

CONNECT = (h2.ENABLE_CONNECT_PROTOCOL, 1)
ALL_RETRIES = {"attempts": 3, "on": ["connect", "reset", "503"], "budget": "100%"}


def plain(conn, stream, head):
    conn.send(h2.headers(stream, OK, end=False), h2.data(stream, b"fine", end=True))


def tunnel(conn):
    number = conn.new_stream("CONNECT")
    conn.send(h2.headers(number, h2.block([
        (":method", "CONNECT"), (":protocol", "websocket"), (":scheme", "http"),
        (":authority", "test.example"), (":path", "/ws"), ("sec-websocket-version", "13")]),
        end=False))
    return number, conn.stream(number)


def upgrade(proxy, *fields):
    """An HTTP/1.1 client asks for a WebSocket: (socket, its answer's head)."""
    sock = socket.create_connection(("127.0.0.1", proxy.port), 20)
    sock.sendall("\r\n".join(["GET /ws HTTP/1.1", "Host: test.example", "Connection: Upgrade",
                              "Upgrade: websocket", "Sec-WebSocket-Version: 13", *fields,
                              "", ""]).encode())
    came = b""
    while b"\r\n\r\n" not in came:
        more = sock.recv(4096)
        assert more, came
        came += more
    return sock, came.decode()


KEY = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="


# ---- tunnels ----

def echo(conn, stream, head):
    if head[":method"] != "CONNECT":
        plain(conn, stream, head)
        return
    conn.head(stream, ("sec-websocket-accept", "of nobody"))
    while len(conn.body) < 5:  # in a thread: what it raised would be another test's
        if conn.closed:
            return
        time.sleep(0.01)
    conn.send(h2.data(stream, bytes(conn.body), end=True))


def test_websocket_of_an_http_1_client(weir):
    """RFC 8441 section 5: an extended CONNECT without a key; weir answers the client's."""
    origin = ByHand(echo, CONNECT)
    proxy = proxy_for(weir, origin)
    sock, head = upgrade(proxy, KEY, "Sec-WebSocket-Protocol: chat")
    assert head.startswith("HTTP/1.1 101 ") and "upgrade: websocket" in head.lower()
    assert head.lower().count("sec-websocket-accept") == 1
    assert "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" in head  # RFC 6455 section 1.3
    sock.sendall(b"hello")
    assert sock.recv(5, socket.MSG_WAITALL) == b"hello"
    asked = origin.asked()[0]
    assert asked[":method"] == "CONNECT" and asked[":protocol"] == "websocket"
    assert asked["sec-websocket-protocol"] == "chat" and "sec-websocket-key" not in asked
    sock.close()
    proxy.logged(path="/ws", status=101)


def test_websocket_of_an_http_2_client(weir, talk):
    origin = ByHand(echo, CONNECT)
    proxy = proxy_for(weir, origin)
    conn = talk("h2-frames", proxy)
    number, stream = tunnel(conn)
    conn.pump(lambda: stream.over or stream.response.status, what="the tunnel")
    assert stream.response.status == 200
    conn.send(h2.data(number, b"hello"))
    conn.pump(lambda: stream.over or stream.response.payload.length >= 5, what="echo")
    assert stream.reset is None and origin.asked()[0][":protocol"] == "websocket"


@pytest.mark.parametrize("key", [(), ("Sec-WebSocket-Key: short",), (KEY, KEY)])
def test_websocket_key_of_an_http_1_client(weir, key):
    origin = ByHand(echo, CONNECT)
    proxy = proxy_for(weir, origin)
    sock, head = upgrade(proxy, *key)
    assert head.startswith("HTTP/1.1 400 ")
    proxy.logged(path="/ws", end="client.bad_request.upgrade")
    assert not origin.asked()
    sock.close()


def test_what_may_not_be_indexed(weir, talk):
    """A hop that encodes anew keeps never-indexed literals as such (RFC 7541 section 6.2.3): what
    a client keeps out of the tables of compression is in none of them behind weir, either."""
    origin = ByHand(plain)
    conn = talk("h2-frames", proxy_for(weir, origin))
    number = conn.new_stream()
    conn.send(h2.headers(number, b"\x82\x86" + h2.integer(1, 4, 0x10) + h2.text("secret.example")
                         + h2.integer(4, 4, 0x10) + h2.text("/token")
                         + b"\x10" + h2.text("x-hidden") + h2.text("this")
                         + b"\x00" + h2.text("x-open") + h2.text("that")))
    assert conn.wait(number).status == 200
    assert origin.conns[0].secret == {":authority", ":path", "x-hidden", "x-forwarded-host"}


def test_what_may_not_be_indexed_in_a_copy(weir, talk):
    """The same of what a mirror sends, which is written anew; of Host that becomes :authority."""
    shadow, origin = ByHand(plain), ByHand(plain)
    pools = {name: {"endpoints": ["127.0.0.1:%d" % site.port], "connections": {"protocol": "h2c"}}
             for name, site in (("app", origin), ("shadow", shadow))}
    proxy = proxy_for(weir, origin, pools=pools, routes=[
        {"prefix": "/", "pool": "app", "mirror": {"pool": "shadow"}}])
    conn = talk("h2-frames", proxy)
    number = conn.new_stream()
    conn.send(h2.headers(number, b"\x82\x86" + h2.integer(4, 4, 0x10) + h2.text("/token?a")
                         + b"\x10" + h2.text("host") + h2.text("secret.example")
                         + b"\x10" + h2.text("x-hidden") + h2.text("this")
                         + b"\x00" + h2.text("x-open") + h2.text("that")
                         + b"\x10" + h2.text("x-other") + h2.text("this")))
    assert conn.wait(number).status == 200
    shadow.wait_asked(1)
    for site in (origin, shadow):
        assert site.conns[0].secret == {":authority", ":path", "x-hidden", "x-other",
                                        "x-forwarded-host"}
        assert site.asked()[0]["x-open"] == "that"


def test_what_may_not_be_indexed_in_a_copy_row_by_row(weir, talk):
    """Of fields of one name some may be, of many each by itself, whatever weir leaves out."""
    shadow, origin = ByHand(plain), ByHand(plain)
    pools = {name: {"endpoints": ["127.0.0.1:%d" % site.port], "connections": {"protocol": "h2c"}}
             for name, site in (("app", origin), ("shadow", shadow))}
    proxy = proxy_for(weir, origin, pools=pools, listeners={"web": {
        "protocols": ["h2c", "http/1.1"], "limits": {"headers": 400}}}, routes=[
            {"prefix": "/", "pool": "app", "mirror": {"pool": "shadow"}}])
    conn = talk("h2-frames", proxy)
    number = conn.new_stream()
    block = h2.block(h2.pseudo()) + b"".join(
        (b"\x10" if secret else b"\x00") + h2.text(name) + h2.text(value)
        for name, value, secret in [("x-two", "a", True), ("te", "trailers", True),
                                    ("x-forwarded-host", "away", True), ("x-two", "b", False),
                                    ("trailer", "x-sum", False), ("x-two", "c", True)]
        + [("x-%d" % at, "v", at % 3 == 0) for at in range(300)])
    conn.send(h2.headers(number, block))
    assert conn.wait(number).status == 200
    shadow.wait_asked(1)
    first, second = ([row for row in site.conns[0].rows if row[0].startswith("x-")]
                     for site in (origin, shadow))
    assert first == second and len(first) > 300
    assert [row for row in first if row[0] == "x-two"] == [
        ("x-two", "a", True), ("x-two", "b", False), ("x-two", "c", True)]
    assert [row[2] for row in first if row[1] == "v"] == [at % 3 == 0 for at in range(300)]


def test_what_may_not_be_indexed_and_has_our_word_behind_it(weir, talk):
    """A row that weir goes on with is the client's as well."""
    origin = ByHand(plain)
    proxy = proxy_for(weir, origin, listeners={"web": {
        "protocols": ["h2c", "http/1.1"], "trusted_proxies": ["127.0.0.0/8"]}})
    conn = talk("h2-frames", proxy)
    number = conn.new_stream()
    conn.send(h2.headers(number, h2.block(h2.pseudo()) + b"\x10" + h2.text("x-forwarded-for")
                         + h2.text("192.0.2.7")))
    assert conn.wait(number).status == 200
    assert origin.asked()[0]["x-forwarded-for"] == "192.0.2.7, 127.0.0.1"
    assert origin.conns[0].secret == {"x-forwarded-for"}


@pytest.mark.parametrize("name", [":authority", "host"])
def test_what_may_not_be_indexed_and_goes_on_by_other_names(weir, talk, name):
    """A host that the client keeps out of the tables is in none of them as ours, either."""
    origin = ByHand(plain)
    proxy = proxy_for(weir, origin, listeners={"web": {
        "protocols": ["h2c", "http/1.1"], "trusted_proxies": ["127.0.0.0/8"]}})
    conn = talk("h2-frames", proxy)
    number = conn.new_stream()
    conn.send(h2.headers(number, b"\x82\x86\x84\x10" + h2.text(name)
                         + h2.text("secret.example")
                         + b"\x00" + h2.text("forwarded") + h2.text("for=192.0.2.7")))
    assert conn.wait(number).status == 200
    head = origin.asked()[0]
    assert head["x-forwarded-host"] == "secret.example"
    assert head["forwarded"] == 'for=127.0.0.1;proto=http;host="secret.example"'
    assert origin.conns[0].secret == {":authority", "x-forwarded-host", "forwarded"}


def test_what_may_not_be_indexed_on_an_error_page(weir, talk):
    """What an endpoint says about its error itself goes on with a page in place of the body."""
    def refuse(conn, stream, _head):
        conn.send(h2.headers(stream, h2.block([(":status", "401")]) + b"\x10"
                             + h2.text("www-authenticate") + h2.text("Basic realm=\"vault 7\"")
                             + b"\x00" + h2.text("allow") + h2.text("GET"), end=True))
    page = {"errors": [{"status": "401", "body": "sorry", "upstream": True}]}
    proxy = proxy_for(weir, ByHand(refuse), policies={"page": page},
                      routes=[{"prefix": "/", "pool": "app", "policies": ["page"]}])
    conn = talk("h2-frames", proxy)
    answer = conn.get("/")
    assert answer.status == 401 and answer.payload.length == len("sorry")
    assert conn.check.secret == {"www-authenticate"}


def test_no_extended_connect(weir, talk):
    """It is never sent to an endpoint that has not said that it takes it (RFC 8441 section 3)."""
    origin = ByHand(plain)
    proxy = proxy_for(weir, origin)
    conn = talk("h2-frames", proxy)
    number, stream = tunnel(conn)
    conn.pump(lambda: stream.over, what="an answer")
    assert stream.response.status == 502
    sock, head = upgrade(proxy, KEY)
    assert head.startswith("HTTP/1.1 502 ")
    sock.close()
    eventually(lambda: len([line for line in proxy.all_lines()
                            if line.get("weir.end") == "upstream.h2.no_upgrade"]) == 2)
    assert conn.get("/next").status == 200
    assert not [head for head in origin.asked() if ":protocol" in head]


def test_trailers_of_a_tunnel(weir, talk):
    """They end it, and are written nowhere: its request's memory is gone."""
    def handler(conn, stream, head):
        if head[":method"] != "CONNECT":
            plain(conn, stream, head)
            return
        conn.head(stream)
        eventually(lambda: len(conn.body) >= 2)
        conn.send(h2.data(stream, b"hello"),
                  h2.headers(stream, h2.block([("x-a", "b" * 100)]), end=True))
    proxy = proxy_for(weir, ByHand(handler, CONNECT))
    conn = talk("h2-frames", proxy)
    number, stream = tunnel(conn)
    conn.pump(lambda: stream.over or stream.response.status, what="the tunnel")
    conn.send(h2.data(number, b"go"))
    conn.pump(lambda: stream.over or stream.ended, what="the tunnel's end")
    assert stream.response.payload.length == 5
    assert conn.get("/next").status == 200


# ---- what one client does, and others feel ----

def test_many_cancelled_at_once(weir, talk):
    """Answers to 90 streams that were reset come late: the connection goes on for the others."""
    go = threading.Event()

    def handler(conn, stream, head):
        go.wait(20)
        if head[":path"] == "/last":
            eventually(lambda: len(conn.streams) == 91)
            time.sleep(0.2)  # behind the others' answers
        plain(conn, stream, head)
    origin = ByHand(handler)
    proxy = proxy_for(weir, origin)
    other, cancelled = talk("h2-frames", proxy), talk("h2-frames", proxy)
    last = other.open("POST", "/last", end=True)
    origin.wait_asked(1)
    for _ in range(90):
        cancelled.open("GET", "/cancelled")
    origin.wait_asked(91)
    cancelled.close()
    eventually(lambda: len(origin.conns[0].resets) == 90)
    go.set()
    assert other.wait(last).status == 200
    assert len(origin.conns) == 1 and origin.conns[0].goaway is None


def test_slow_readers_stall_nobody_else(weir, talk):
    """Eight clients that read nothing of large bodies, one that wants little: one connection."""
    def handler(conn, stream, head):
        conn.head(stream)
        conn.give(stream, int(head[":path"].split("/")[-1]))
    origin = ByHand(handler)
    proxy = proxy_for(weir, origin)
    for _ in range(8):
        talk("h2-frames", proxy, credit=False).open("GET", "/8000000")
    origin.wait_asked(8)
    eventually(lambda: len([s for c in origin.conns for s in c.windows.values() if s <= 0]) == 8)
    quick = talk("h2-frames", proxy)
    number = quick.open("GET", "/100000")
    assert quick.wait(number).payload.length == 100000
    assert len(origin.conns) == 1


def test_large_heads_wait_for_room(weir, talk):
    """100 heads of 4 KiB come in one turn: none is lost for want of room."""
    ready = threading.Semaphore(0)

    def handler(conn, stream, head):
        ready.release()
        if len(conn.streams) == 100:
            for _ in range(100):
                ready.acquire()
            conn.send(b"".join(
                h2.headers(s, h2.block([(":status", "200"), ("set-cookie", "a=" + "~" * 4000)]),
                           end=s % 4 == 1) + (b"" if s % 4 == 1 else h2.data(s, b"x", end=True))
                for s in list(conn.streams)))
    origin = ByHand(handler)
    conn = talk("h2-frames", proxy_for(weir, origin))
    numbers = [conn.open("GET", "/large") for _ in range(100)]
    answers = [conn.wait(number) for number in numbers]
    assert {answer.status for answer in answers} == {200}
    assert all(len(dict(a.fields)[b"set-cookie"]) == 4002 for a in answers)


def test_large_request_heads_wait_for_room(weir, talk):
    """The same towards an endpoint that does not read for a while."""
    origin = ByHand(plain)
    proxy = proxy_for(weir, origin)
    conns = [talk("h2-frames", proxy) for _ in range(8)]
    opened = [(conn, conn.open("GET", "/large", [("x-%d" % i, "~" * 3900) for i in range(3)]))
              for conn in conns for _ in range(12)]
    assert {conn.wait(number).status for conn, number in opened} == {200}
    assert all(len(head["x-2"]) == 3900 for head in origin.asked())


# ---- endpoints that break off, refuse, or never answer ----

def test_loss_of_a_connection_opens_few(weir, talk):
    """80 requests lose their connection: they share new ones."""
    def handler(conn, stream, head):
        if conn is not origin.conns[0]:
            plain(conn, stream, head)
        elif len(conn.streams) == 80:
            conn.cut()
    origin = ByHand(handler)
    conn = talk("h2-frames", proxy_for(weir, origin, pool={"retry": ALL_RETRIES}))
    numbers = [conn.open("GET", "/")]
    origin.wait_asked(1)
    numbers += [conn.open("GET", "/") for _ in range(79)]
    assert {conn.wait(number).status for number in numbers} == {200}
    assert len(origin.conns) < 6


def test_streams_that_are_reset_cost_attempts(weir, talk):
    """RST_STREAM is no race of a kept connection: nothing is replayed for free, nor elsewhere."""
    def handler(conn, stream, head):
        conn.send(h2.rst_stream(stream, h2.INTERNAL_ERROR))
    origin = ByHand(handler)
    proxy = proxy_for(weir, origin, pool={"retry": {"attempts": 1}})
    conn = talk("h2-frames", proxy)
    assert {conn.get("/bad").status for _ in range(20)} == {502}
    assert len(origin.conns) == 1 and len(origin.asked()) == 20
    proxy.logged(path="/bad", end="upstream.h2.rst_stream")


def test_refused_before_settings_came(weir, talk):
    """A burst beyond MAX_CONCURRENT_STREAMS, whose SETTINGS come too late: all are answered."""
    lock, live = threading.Lock(), {}

    def handler(conn, stream, head):
        with lock:
            live[conn] = live.get(conn, 0) + 1
            refused = live[conn] > 10
            live[conn] -= refused
        if refused:
            conn.send(h2.rst_stream(stream, h2.REFUSED_STREAM))
            return
        time.sleep(0.1)
        with lock:
            live[conn] -= 1
        plain(conn, stream, head)
    origin = ByHand(handler, (h2.MAX_CONCURRENT_STREAMS, 10))
    conn = talk("h2-frames", proxy_for(weir, origin))
    numbers = [conn.open("GET", "/") for _ in range(80)]
    assert {conn.wait(number).status for number in numbers} == {200}
    assert len(origin.conns) < 20


def test_refused_with_one_connection(weir, talk):
    """REFUSED_STREAM of one request: the connection has room for it still."""
    def handler(conn, stream, head):
        if len(conn.streams) == 1:
            conn.send(h2.rst_stream(stream, h2.REFUSED_STREAM))
        else:
            plain(conn, stream, head)
    origin = ByHand(handler)
    conn = talk("h2-frames", proxy_for(weir, origin, connections={"max_per_endpoint": 1}))
    assert conn.get("/").status == 200 and len(origin.conns) == 1


def test_connections_that_are_spent_make_room(weir, talk):
    """connections.requests with one permit: the next connection follows the last answer."""
    origin = ByHand(plain)
    proxy = proxy_for(weir, origin, connections={"max_per_endpoint": 1, "requests": 3})
    conn = talk("h2-frames", proxy)
    assert {conn.get("/").status for _ in range(10)} == {200}
    assert len(origin.conns) == 4


def test_idle_connections_are_given_up_for_other_workers(weir):
    origin = ByHand(plain)
    proxy = proxy_for(weir, origin, connections={"max_per_endpoint": 1}, process={"workers": 2})
    for _ in range(20):  # one after the other, by chance at either worker
        conn = Conn(proxy.port).handshake()
        assert conn.get("/").status == 200
        conn.close()


def test_an_endpoint_that_falls_silent(weir, talk):
    """connections.ping: it is asked, and given up; what it did not act on is tried elsewhere."""
    silent = ByHand(lambda *_: None, pongs=False)
    proxy = proxy_for(weir, silent, connections={"ping": "200ms", "ping_timeout": "300ms"},
                      pool={"retry": {"attempts": 1}})
    answer = talk("h2-frames", proxy).get("/silent")
    assert answer.status == 504
    proxy.logged(path="/silent", end="upstream.h2.ping")
    assert silent.conns[0].pings


def test_an_endpoint_that_thinks_is_not_given_up(weir, talk):
    """It answers each PING, and is asked again as soon as it is silent for so long again."""
    def handler(conn, stream, head):
        eventually(lambda: len(conn.pings) >= 3)
        plain(conn, stream, head)
    origin = ByHand(handler)
    proxy = proxy_for(weir, origin, connections={"ping": "100ms", "ping_timeout": "1h"})
    assert talk("h2-frames", proxy).get("/").status == 200 and len(origin.conns) == 1


def test_what_is_whole_outlives_its_connection(weir):
    """An endpoint that closes right behind its responses; the client reads them later."""
    def handler(conn, stream, head):
        conn.head(stream, ("content-length", "60000"))
        conn.send(h2.data(stream, b"x" * 15000) * 3, h2.data(stream, b"x" * 15000, end=True))
        if len(conn.streams) == 4:
            conn.cut()
    origin = ByHand(handler)
    proxy = proxy_for(weir, origin)
    socks = []
    for _ in range(4):
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.connect(("127.0.0.1", proxy.port))
        socks.append(sock)
    for number, sock in enumerate(socks):
        sock.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        origin.wait_asked(number + 1)
    eventually(lambda: origin.conns[0].closed)
    for sock in socks:
        came = b"".join(iter(lambda s=sock: s.recv(65536), b""))
        assert came.startswith(b"HTTP/1.1 200 ") and came.count(b"x" * 60000) == 1
        sock.close()


@pytest.mark.parametrize("goaway", [False, True], ids=["", "goaway"])
@pytest.mark.parametrize("streams", [1, 20])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_what_is_whole_outlives_its_reset_and_its_connection(weir, talk, method, streams, goaway):
    """RFC 9113 section 8.1: who does not want the rest of a request says RST_STREAM (NO_ERROR)
    behind its whole response, as nginx does, and may then close: all of it is good."""
    parts = []

    def handler(conn, stream, head):
        parts.append(h2.headers(stream, OK, end=False) + h2.data(stream, b"hello", end=True)
                     + h2.rst_stream(stream, h2.NO_ERROR))
        if len(parts) % streams == 0:
            conn.send(*parts[-streams:], *[h2.goaway(stream, h2.NO_ERROR)] * goaway)
            conn.cut()
    proxy = proxy_for(weir, ByHand(handler), pool={"retry": {"attempts": 1}})
    for _ in range(6):  # five failures would take it out of service
        conn = talk("h2-frames", proxy)
        asked = [conn.stream(conn.open(method, "/whole", end=method == "GET"))
                 for _ in range(streams)]
        conn.pump(lambda waits=asked: all(s.over for s in waits), what="their ends")
        assert [(s.response.status, bytes(s.response.body), s.reset in (None, h2.NO_ERROR))
                for s in asked] == [(200, b"hello", True)] * streams
        # none of the next round is to meet the end of this connection
        eventually(lambda: proxy.metric("weir_upstream_connections") == 0)
    proxy.logged(6 * streams, path="/whole", end="ok")


# ---- hedges ----

@pytest.mark.parametrize("how", ["reset", "503"])
def test_the_other_attempt_takes_over(weir, talk, how):
    """The first fails while the second waits: head and body are of the same answer."""
    asked = []

    def handler(conn, stream, head):
        asked.append(conn)
        if len(asked) > 1:
            time.sleep(1)
            conn.head(stream, ("x-from", "good"), end=True)
            return
        eventually(lambda: len(asked) == 2)
        time.sleep(0.2)
        if how == "reset":
            conn.send(h2.rst_stream(stream, h2.INTERNAL_ERROR))
        else:
            conn.head(stream, ("x-from", "failed"), status=503, end=True)
    proxy = proxy_for(weir, ByHand(handler), ByHand(handler),
                      pool={"retry": {**ALL_RETRIES, "hedge_after": "100ms"}})
    answer = talk("h2-frames", proxy).get("/")
    assert answer.status == 200 and (b"x-from", b"good") in answer.fields


def test_trailers_of_the_attempt_that_won(weir, talk):
    asked = []

    def handler(conn, stream, head):
        asked.append(conn)
        if len(asked) == 1:
            return
        conn.send(h2.headers(stream, OK, end=False), h2.data(stream, b"abc"),
                  h2.headers(stream, h2.block([("grpc-status", "0")]), end=True))
    proxy = proxy_for(weir, ByHand(handler), ByHand(handler),
                      pool={"retry": {**ALL_RETRIES, "hedge_after": "100ms"}})
    conn = talk("h2-frames", proxy)
    number = conn.open("GET", "/", [("te", "trailers")])
    answer = conn.wait(number)
    assert answer.status == 200 and (b"grpc-status", b"0") in answer.trailers


# ---- bodies and trailers ----

def test_trailers_behind_a_length(weir, talk):
    def handler(conn, stream, head):
        conn.head(stream, ("content-length", "4"))
        conn.send(h2.data(stream, b"fine"))
        conn.send(h2.headers(stream, h2.block([("x-sum", "1")]), end=True))
    conn = talk("h2-frames", proxy_for(weir, ByHand(handler)))
    answer = conn.wait(conn.open("GET", "/", [("te", "trailers")]))
    assert answer.payload.length == 4 and (b"x-sum", b"1") in answer.trailers


def test_trailers_for_who_did_not_ask(weir):
    """An HTTP/1.1 client without TE: trailers gets none, as of an HTTP/1.1 endpoint."""
    def handler(conn, stream, head):
        conn.head(stream)
        conn.send(h2.data(stream, b"fine"), h2.headers(stream, h2.block([("x-sum", "1")])))
    proxy = proxy_for(weir, ByHand(handler))
    with socket.create_connection(("127.0.0.1", proxy.port), 20) as sock:
        sock.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        came = b"".join(iter(lambda: sock.recv(4096), b""))
    assert came.endswith(b"4\r\nfine\r\n0\r\n\r\n") and b"x-sum" not in came


# ---- faults, each with its word ----

def lies(*parts):
    def handler(conn, stream, head):
        conn.send(*[part(stream) if callable(part) else part for part in parts])
    return handler


def head_of(*fields, status="200", end=False):
    return lambda stream: h2.headers(stream, h2.block([(":status", status), *fields]), end=end)


def data_of(payload, end=True):
    return lambda stream: h2.data(stream, payload, end=end)


FAULTS = {
    "data of no stream": (lies(h2.data(0, b"x")), "upstream.h2.protocol"),
    "hpack": (lies(lambda s: h2.headers(s, b"\xff" * 5)), "upstream.h2.compression"),
    "pushed": (lies(lambda s: h2.push_promise(s, 2, OK)), "upstream.h2.protocol"),
    "huge frame": (lies(lambda s: h2.frame(h2.DATA, 0, s, b"", length=1 << 20)),
                   "upstream.h2.frame_size"),
    "window": (lies(h2.window_update(0, (1 << 31) - 1)), "upstream.h2.flow_control"),
    "too much": (lies(head_of(("content-length", "3")), data_of(b"abcdef")),
                 "upstream.bad_response.length_mismatch"),
    "too little": (lies(head_of(("content-length", "9")), data_of(b"abcdef")),
                   "upstream.bad_response.length_mismatch"),
    "interim end": (lies(head_of(status="103", end=True)), "upstream.bad_response.status"),
    "body first": (lies(data_of(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi")),
                   "upstream.h2.protocol"),
    "two statuses": (lies(head_of((":status", "200"), end=True)), "upstream.bad_response.pseudo"),
    "connection": (lies(head_of(("connection", "close"), end=True)),
                   "upstream.bad_response.connection_field"),
    "trailers": (lies(head_of(), data_of(b"abc", False), head_of(end=True)),
                 "upstream.bad_response.trailer"),
    "open trailers": (lies(head_of(), data_of(b"abc", False),
                           lambda s: h2.headers(s, h2.block([("a", "b")]), end=False)),
                      "upstream.h2.protocol"),
    "reset": (lies(lambda s: h2.rst_stream(s, h2.INTERNAL_ERROR)), "upstream.h2.rst_stream"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_faults_have_words(weir, talk, name):
    handler, word = FAULTS[name]
    proxy = proxy_for(weir, ByHand(handler), pool={"retry": {"attempts": 1}})
    conn = talk("h2-frames", proxy)
    stream = conn.stream(conn.open("POST", "/fault", end=True))
    conn.pump(lambda: stream.over, what="its end")
    assert stream.response.status in (200, 502)
    proxy.logged(path="/fault", end=word)


def test_goaway_with_an_error(weir, talk):
    def handler(conn, stream, head):
        conn.send(h2.goaway(stream, h2.ENHANCE_YOUR_CALM))
        conn.cut()
    proxy = proxy_for(weir, ByHand(handler), pool={"retry": {"attempts": 1}})
    assert talk("h2-frames", proxy).get("/fault").status == 502
    proxy.logged(path="/fault", end="upstream.h2.goaway")


def test_one_that_was_asked_for_is_one_of_http_1_later(weir, work, talk):
    """A request that goes alone (its GOAWAY accused it) finds that the endpoint has HTTP/1.1 by
    now. Its connection is kept, and that the endpoint ends it is the race of any that was idle:
    what meets it is sent again, which is no retry."""
    mint, accepted = Mint(work), []
    leaf = mint.leaf("127.0.0.1")
    listening = socket.create_server(("127.0.0.1", 0))

    def by_h2(sock):
        came = bytearray()
        while len(came) < len(h2.PREFACE):
            came += sock.recv(len(h2.PREFACE) - len(came))
        came.clear()
        sock.sendall(h2.settings())
        while (frame := take_frame(came)) is None or frame.type != h2.HEADERS:
            came += sock.recv(4096) if frame is None else b""
        sock.sendall(h2.goaway(1, h2.ENHANCE_YOUR_CALM))

    def by_h1(sock):
        assert b"\r\n\r\n" in sock.recv(4096)
        sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfine")
        sock.recv(4096)  # the next request, or the end

    def serve():
        for how, alpn in ((by_h2, "h2"), (by_h1, "http/1.1"), (by_h1, "http/1.1")):
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(leaf.path, leaf.key_path)
            context.set_alpn_protocols([alpn])
            with context.wrap_socket(listening.accept()[0], server_side=True) as sock:
                accepted.append(alpn)
                how(sock)
    threading.Thread(target=serve, daemon=True).start()
    proxy = proxy_for(weir, connections={"protocol": "auto"}, pool={
        "endpoints": ["127.0.0.1:%d" % listening.getsockname()[1]], "retry": ALL_RETRIES,
        "tls": {"ca": "file:%s" % mint.root.path}})
    conn = talk("h2-frames", proxy)
    for path in ("/first", "/second"):
        assert conn.get(path).status == 200
    assert accepted == ["h2", "http/1.1", "http/1.1"]
    assert proxy.metric("weir_upstream_retries_total") == 1
    assert proxy.metric("weir_upstream_replays_total") == 1


def test_an_endpoint_of_http_1(weir, talk):
    alien = socket.create_server(("127.0.0.1", 0))

    def answer():
        conn = alien.accept()[0]
        conn.recv(4096)
        conn.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
    threading.Thread(target=answer, daemon=True).start()
    proxy = weir({"pools": {"app": {"endpoints": ["127.0.0.1:%d" % alien.getsockname()[1]],
                                    "connections": {"protocol": "h2c"},
                                    "retry": {"attempts": 1}}},
                  "listeners": {"web": {"protocols": ["h2c", "http/1.1"]}},
                  "routes": [{"prefix": "/", "pool": "app"}]})
    assert talk("h2-frames", proxy).get("/alien").status == 502
    proxy.logged(path="/alien", end="upstream.h2.preface")
    alien.close()


def preface_of(*settings):
    return h2.settings(*settings)


PREFACES = {
    "push": (preface_of((h2.ENABLE_PUSH, 1)), h2.PROTOCOL_ERROR),
    "window": (preface_of((h2.INITIAL_WINDOW_SIZE, 1 << 31)), h2.FLOW_CONTROL_ERROR),
    "frame size": (preface_of((h2.MAX_FRAME_SIZE, 100)), h2.PROTOCOL_ERROR),
    "connect protocol": (preface_of((h2.ENABLE_CONNECT_PROTOCOL, 2)), h2.PROTOCOL_ERROR),
    "no settings": (h2.ping(), h2.PROTOCOL_ERROR),
}


@pytest.mark.parametrize("name", PREFACES)
def test_what_a_wrong_preface_is_told(weir, talk, name):
    """RFC 9113 3.4, 6.5.2."""
    start, code = PREFACES[name]
    origin = ByHand(plain, start=start)
    proxy = proxy_for(weir, origin, pool={"retry": {"attempts": 1}})
    assert talk("h2-frames", proxy).get("/preface").status == 502
    proxy.logged(path="/preface", end="upstream.h2.preface")
    eventually(lambda: [conn.code for conn in origin.conns] == [code])


PART = b"what was said before"


@pytest.mark.parametrize("fields", [(), (("content-length", "100"),)], ids=["open", "length"])
def test_what_came_before_a_reset(weir, talk, fields):
    """It comes in one piece with it, and its reader has it before the error."""
    def handler(conn, stream, head):
        conn.send(h2.headers(stream, OK + h2.block(fields), end=False), h2.data(stream, PART),
                  h2.data(stream, PART), h2.rst_stream(stream, h2.INTERNAL_ERROR))
    proxy = proxy_for(weir, ByHand(handler), pool={"retry": {"attempts": 1}})
    conn = talk("h2-frames", proxy)
    stream = conn.stream(conn.open("GET", "/part", end=True))
    conn.pump(lambda: stream.over, what="its end")
    assert stream.reset is not None
    assert (stream.response.status, bytes(stream.response.body)) == (200, PART * 2)
    proxy.logged(path="/part", end="upstream.h2.rst_stream")


def test_what_came_before_the_end_of_an_http_1_endpoint(weir, talk):
    """A chunk and the end of its connection come in one."""
    origin = socket.create_server(("127.0.0.1", 0))

    def answer():
        conn = origin.accept()[0]
        conn.recv(4096)
        conn.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n14\r\n%s\r\n" % PART)
        conn.close()
    threading.Thread(target=answer, daemon=True).start()
    proxy = weir({"pools": {"app": {"endpoints": ["127.0.0.1:%d" % origin.getsockname()[1]]}},
                  "listeners": {"web": {"protocols": ["h2c"]}},
                  "routes": [{"prefix": "/", "pool": "app"}]})
    conn = talk("h2-frames", proxy)
    stream = conn.stream(conn.open("GET", "/part", end=True))
    conn.pump(lambda: stream.over, what="its end")
    assert stream.reset is not None
    assert (stream.response.status, bytes(stream.response.body)) == (200, PART)
    proxy.logged(path="/part", end="upstream.truncated")
    origin.close()


# ---- clients ----

def test_windows_hold_from_their_acknowledgement_on(weir):
    """RFC 9113 6.9.3: 64 KiB may come before a client has seen that it may send less."""
    origin = ByHand(plain)
    web = {"protocols": ["h2c", "http/1.1"], "h2": {"stream_window": "16KiB"}}
    proxy = proxy_for(weir, origin, listeners={"web": web})
    sock = socket.create_connection(("127.0.0.1", proxy.port), 20)
    block = h2.block(h2.pseudo("POST", "/early") + [("content-length", "48000")])
    sock.sendall(h2.PREFACE + h2.settings() + h2.headers(1, block, end=False) +
                 h2.data(1, b"x" * 16000) * 2 + h2.data(1, b"x" * 16000, end=True))
    proxy.logged(path="/early", end="ok")
    sock.close()


def test_a_listener_of_h2c_alone(weir):
    proxy = proxy_for(weir, ByHand(plain), listeners={"web": {"protocols": ["h2c"]}})
    with socket.create_connection(("127.0.0.1", proxy.port), 20) as sock:
        sock.sendall(b"GET /old HTTP/1.1\r\nHost: a\r\n\r\n")
        assert sock.recv(4096).startswith(b"HTTP/1.1 505 ")
    proxy.logged(end="client.bad_request.version")


def test_a_byte_now_and_then_is_no_reading(weir, talk):
    """Windows opened by a byte each (THREATS.md row 6) do not keep a response for ever."""
    def handler(conn, stream, head):
        conn.head(stream)
        conn.give(stream, 100000)
    web = {"protocols": ["h2c", "http/1.1"], "timeouts": {"send": "1s"}}
    proxy = proxy_for(weir, ByHand(handler), listeners={"web": web})
    conn = talk("h2-frames", proxy, settings=[(h2.INITIAL_WINDOW_SIZE, 100)], credit=False)
    number = conn.open("GET", "/dribble")
    stream = conn.stream(number)
    end = time.monotonic() + 30
    while not stream.over and time.monotonic() < end:
        conn.send(h2.window_update(number, 1))
        conn.drain()
        time.sleep(0.2)
    assert stream.over
    proxy.logged(path="/dribble", end="client.timeout.send")


def test_a_burst_before_settings_were_read(weir):
    """More requests than there may be, from a client that could not know: most are refused, the
    others answered, and the connection goes on."""
    proxy = proxy_for(weir, ByHand(plain))
    sock = socket.create_connection(("127.0.0.1", proxy.port), 20)
    block = h2.block(h2.pseudo("GET", "/burst"))
    sock.sendall(h2.PREFACE + h2.settings() +
                 b"".join(h2.headers(number, block) for number in range(1, 801, 2)))
    proxy.logged(path="/burst", count=100, end="ok")
    assert not [line for line in proxy.all_lines() if line["weir.end"] == "client.h2.resets"]
    sock.close()


def test_a_connection_that_fell_silent_is_left(weir, talk):
    """The first connection answers nothing any more: the next requests have another one."""
    def handler(conn, stream, head):
        if conn is not origin.conns[0]:
            plain(conn, stream, head)
    origin = ByHand(handler, pongs=False)
    proxy = proxy_for(weir, origin, pool={"timeouts": {"first_byte": "700ms"},
                                          "retry": {"attempts": 1}})
    conn = talk("h2-frames", proxy)
    assert conn.get("/silent").status == 504
    assert {conn.get("/next").status for _ in range(5)} == {200}


def test_trailers_of_a_request_that_comes_whole(weir):
    """Head, body and trailers in one read, before there is a route: its policies hold for all."""
    def handler(conn, stream, head):
        eventually(lambda: stream in conn.trailers)
        plain(conn, stream, head)
    origin = ByHand(handler)
    proxy = proxy_for(weir, origin, policies={
        "hide": {"request_headers": {"remove": ["X-Role"]}}},
        routes=[{"prefix": "/", "pool": "app", "policies": ["hide"]}])
    head = h2.block(h2.pseudo("POST", "/whole") + [("te", "trailers")])
    with socket.create_connection(("127.0.0.1", proxy.port), 20) as sock:
        sock.sendall(h2.PREFACE + h2.settings() + h2.headers(1, head, end=False) +
                     h2.data(1, b"body") +
                     h2.headers(1, h2.block([("x-role", "admin"), ("x-sum", "1")]), end=True))
        proxy.logged(path="/whole", end="ok")
    assert list(origin.conns[0].trailers.values()) == [{"x-sum": "1"}]


# ---- connections that end while whole responses are still read ----

def early_and_whole(weir, talk, tail):
    """An upload whose whole response the client has no window for; then tail(conn, stream)."""
    def handler(conn, stream, head):
        if head[":path"] != "/early":
            plain(conn, stream, head)
            return
        conn.send(h2.headers(stream, OK, end=False), h2.data(stream, b"x" * 3000, end=True))
        told.set()
        go.wait(20)
        tail(conn, stream)
        done.set()
    told, go, done = threading.Event(), threading.Event(), threading.Event()
    proxy = proxy_for(weir, ByHand(handler))
    client = talk("h2-frames", proxy, settings=[(h2.INITIAL_WINDOW_SIZE, 100)], credit=False)
    number = client.open("POST", "/early", end=False)
    stream = client.stream(number)
    client.pump(lambda: stream.response.status, what="the head")
    go.set()
    assert done.wait(20)
    return proxy, client, number


LATE = {
    "cut": lambda conn, stream: conn.cut(),
    "window": lambda conn, stream: conn.send(h2.window_update(0, h2.WINDOW_MAX), h2.ping() * 50),
    "frames": lambda conn, stream: conn.send(h2.data(0, b"x") * 5, h2.goaway(0, 0), h2.ping()),
}


@pytest.mark.parametrize("what", ["upload", "read", "reset"])
@pytest.mark.parametrize("tail", LATE)
def test_ends_beside_a_whole_response(weir, talk, tail, what):
    proxy, client, number = early_and_whole(weir, talk, LATE[tail])
    if what == "upload":
        client.send(h2.data(number, b"abc", end=False))
        client.send(h2.data(number, b"abc", end=True))
    elif what == "read":
        client.send(h2.window_update(number, 50000))
    else:
        client.send(h2.rst_stream(number))
    assert talk("h2-frames", proxy).get("/next").status == 200


def test_another_protocol_of_an_http_2_client(weir, talk):
    """An extended CONNECT that is no WebSocket goes on as it came."""
    origin = ByHand(echo, CONNECT)
    conn = talk("h2-frames", proxy_for(weir, origin))
    number = conn.new_stream("CONNECT")
    conn.send(h2.headers(number, h2.block([
        (":method", "CONNECT"), (":protocol", "foo"), (":scheme", "http"),
        (":authority", "test.example"), (":path", "/ws")]), end=False))
    stream = conn.stream(number)
    conn.pump(lambda: stream.over or stream.response.status, what="the tunnel")
    assert stream.response.status == 200 and origin.asked()[0][":protocol"] == "foo"
    conn.send(h2.data(number, b"hello", end=True))
    conn.pump(lambda: stream.over or stream.response.payload.length >= 5, what="echo")
    assert stream.reset is None


def test_cancelling_takes_no_connection_from_others(weir, talk):
    """Who gives up a request on a connection that was silent makes weir ask, no more."""
    def handler(conn, stream, head):
        if head[":path"] != "/hang":
            plain(conn, stream, head)
    origin = ByHand(handler)
    proxy = proxy_for(weir, origin, connections={"max_per_endpoint": 1})
    holds, leaves = talk("h2-frames", proxy), talk("h2-frames", proxy)
    holds.open("GET", "/hang")
    number = leaves.open("GET", "/hang")
    origin.wait_asked(2)
    time.sleep(0.8)  # beyond what makes it suspicious
    leaves.send(h2.rst_stream(number))
    eventually(lambda: origin.conns[0].resets)
    eventually(lambda: origin.conns[0].pings)
    assert {talk("h2-frames", proxy).get("/next").status for _ in range(3)} == {200}
    assert len(origin.conns) == 1


@pytest.mark.parametrize("update", [False, True])
def test_priority_of_heads_that_wait(weir, update):
    """PRIORITY_UPDATE for responses whose heads found no room yet: all of them come."""
    fields = [("set-cookie", "~" * 3000)] * 13
    block = h2.block([(":status", "200"), *fields])

    def handler(conn, stream, head):
        conn.send(h2.split_headers(stream, block, [16000, 16000], end=False),
                  h2.data(stream, b"x" * 100, end=True))
    origin = ByHand(handler)
    proxy = proxy_for(weir, origin)
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 32768)
        sock.connect(("127.0.0.1", proxy.port))
        sock.settimeout(30)
        numbers = range(1, 221, 2)
        get = h2.block(h2.pseudo("GET", "/large"))
        sock.sendall(h2.PREFACE + h2.settings() + h2.SETTINGS_ACK +
                     b"".join(h2.headers(number, get) for number in numbers))
        origin.wait_asked(110)
        time.sleep(0.5)  # the heads wait
        if update:
            sock.sendall(b"".join(h2.priority_update(number, b"u=1") for number in numbers))
        came, ended = bytearray(), set()
        while len(ended) < 110:
            came += sock.recv(65536)
            while (frame := take_frame(came)) is not None:
                if frame.type == h2.DATA and frame.flags & h2.END_STREAM:
                    ended.add(frame.stream)
