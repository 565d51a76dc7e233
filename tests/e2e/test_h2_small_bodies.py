"""Small request bodies to HTTP/2 endpoints are kept until there is a response: what an endpoint
says it did not act on is sent again, whatever its method (RFC 9113 section 8.7)."""
import threading
import time

import pytest

from harness import client, h2wire as h2
from harness.h2byhand import ByHand, proxy_for
from harness.h2endpoints import Answer, Origin
from harness.h2raw import Conn
from harness.weir import eventually

SMALL = 16384  # src/proxy/held.c


def refuse_first(conn, stream, head):
    first = stream == 1 and conn is conn.origin.conns[0]
    if first and head[":path"] == "/refused":
        conn.send(h2.rst_stream(stream, h2.REFUSED_STREAM))
    elif first:
        conn.send(h2.goaway(0, h2.NO_ERROR))
    else:
        conn.head(stream, end=True)


@pytest.fixture
def refusing(weir):
    origin = ByHand(refuse_first)
    return proxy_for(weir, origin), origin


@pytest.mark.parametrize("path", ["/refused", "/goaway"])
@pytest.mark.parametrize("version", [1, 2])
def test_posts_are_sent_again(refusing, path, version):
    proxy, origin = refusing
    body = b"p" * SMALL
    if version == 1:
        assert proxy.client().request("POST", path, body=body).status == 200
    else:
        with Conn(proxy.port).handshake() as conn:
            assert conn.request("POST", path, [("content-length", str(len(body)))],
                                body).status == 200
    last = origin.conns[-1]
    eventually(lambda: len(last.body) >= SMALL)
    assert last.heads[last.streams[-1]]["content-length"] == str(SMALL)
    assert proxy.logged(path=path, status=200)["weir.attempts"] == 2
    eventually(lambda: proxy.metric("weir_buffered_bytes") == 0)


@pytest.mark.parametrize("body, fields", [(b"p" * (SMALL + 1), [("content-length", "16385")]),
                                          (b"p", [])])
def test_other_posts_are_not(refusing, body, fields):
    """Longer ones, and those whose length nobody said, go on their way at once."""
    proxy, origin = refusing
    with Conn(proxy.port).handshake() as conn:
        number = conn.open("POST", "/refused", fields, end=False)
        origin.wait_asked(1)
        conn.data(number, body)
        conn.pump(lambda: conn.stream(number).over, what="its end")
    assert len(origin.asked()) == 1


def test_who_waits_for_100_is_answered_by_the_endpoint(weir):
    def handler(conn, stream, head):
        conn.head(stream, status=100)
        eventually(lambda: len(conn.body) == 5)
        conn.head(stream, end=True)
    origin = ByHand(handler)
    proxy = proxy_for(weir, origin)
    with client.connect(proxy.port) as sock:
        sock.sendall(b"POST /e HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n"
                     b"Content-Length: 5\r\n\r\n")
        assert sock.recv(4096).startswith(b"HTTP/1.1 100 ")
        sock.sendall(b"hello")
        assert sock.recv(4096).startswith(b"HTTP/1.1 200 ")


def test_memory_goes_back_with_the_head(weir):
    """The body is not kept while its response is read."""
    over = threading.Event()

    def handler(conn, stream, head):
        conn.head(stream)
        over.wait(30)
        conn.send(h2.data(stream, b"", end=True))
    proxy = proxy_for(weir, ByHand(handler))
    with Conn(proxy.port).handshake() as conn:
        number = conn.open("POST", "/slow", [("content-length", "5")], end=False)
        conn.data(number, b"hello")
        assert conn.wait_head(number).status == 200
        eventually(lambda: proxy.metric("weir_buffered_bytes") == 0)
        over.set()
        assert conn.wait(number).status == 200
    assert proxy.metric("weir_requests_buffered_total") == 1


@pytest.mark.parametrize("policy", [{}, {"policies": ["hold"]}])
def test_a_length_of_nothing(weir, policy):
    """The end of the stream comes behind the head: there is nothing to wait for."""
    proxy = proxy_for(weir, ByHand(lambda conn, stream, head: conn.head(stream, end=True)),
                      policies={"hold": {"buffer": "64KiB"}},
                      routes=[{"prefix": "/", "pool": "app", **policy}])
    with Conn(proxy.port).handshake() as conn:
        number = conn.open("POST", "/none", [("content-length", "0")], end=False)
        conn.data(number, b"")
        assert conn.wait(number).status == 200


def nothing(conn, path, method="POST", trailers=None, **fields):
    """A length of 0 and the end of the stream behind the head, in one write; the stream."""
    number = conn.new_stream(method)
    rows = h2.pseudo(method, path) + [("content-length", "0"), *fields.items()]
    end = h2.headers(number, h2.block(trailers)) if trailers else h2.data(number, b"", True)
    conn.send(h2.headers(number, h2.block(rows), end=False) + end)
    return number


@pytest.mark.parametrize("path", ["/refused", "/goaway"])
def test_a_length_of_nothing_is_sent_again(refusing, path):
    """It has no body of which a byte could be gone: the head says to the endpoint that it ends."""
    proxy, origin = refusing
    with Conn(proxy.port).handshake() as conn:
        assert conn.wait(nothing(conn, path)).status == 200
    assert [head["content-length"] for head in origin.asked(path)] == ["0", "0"]
    assert proxy.logged(path=path, status=200)["weir.attempts"] == 2


# ---- clients that wait ----

PATIENT = {"web": {"protocols": ["h2c", "http/1.1"], "timeouts": {"body": "1h"}}}


def begins(proxy, version, body, path="/part"):
    """A request of 9 bytes by a client that sends some of them."""
    if version == 1:
        conn = proxy.client()
        conn.send(b"POST %s HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n%s"
                  % (path.encode(), body))
        return conn, conn.send, lambda: conn.response("POST").status
    conn = Conn(proxy.port).handshake()
    number = conn.open("POST", path, [("content-length", "9")], end=False)
    if body:
        conn.data(number, body, end=False)
    return conn, lambda data: conn.data(number, data), lambda: conn.wait(number).status


@pytest.mark.parametrize("body", [b"", b"abc"])
@pytest.mark.parametrize("version", [1, 2])
def test_an_answer_to_a_part(weir, version, body):
    """Who sends no more until it is answered is answered by the endpoint."""
    origin = ByHand(lambda conn, stream, head: conn.head(stream, status=401, end=True))
    proxy = proxy_for(weir, origin, listeners=PATIENT)
    conn, _, status = begins(proxy, version, body)
    assert status() == 401
    record = proxy.logged(path="/part", status=401)
    assert record["http.request.body.size"] == len(body)
    assert origin.asked()[0]["content-length"] == "9"
    eventually(lambda: proxy.metric("weir_buffered_bytes") == 0)
    conn.close()


@pytest.mark.parametrize("body", [b"", b"abc"])
@pytest.mark.parametrize("version", [1, 2])
def test_the_rest_comes_later(weir, version, body):
    """The endpoint hears of the request before, and gets the rest behind what was held."""
    def handler(conn, stream, head):
        eventually(lambda: len(conn.body) == 9)
        conn.head(stream, end=True)
    origin = ByHand(handler)
    proxy = proxy_for(weir, origin)
    conn, send, status = begins(proxy, version, body)
    origin.wait_asked(1)
    send(b"abcdefghi"[len(body):])
    assert status() == 200 and bytes(origin.conns[0].body) == b"abcdefghi"
    proxy.logged(path="/part", end="ok")
    conn.close()


@pytest.mark.parametrize("timeout", ["10ms", "400ms"])
@pytest.mark.parametrize("version", [1, 2])
def test_the_routes_timeout_counts(weir, version, timeout):
    """While some of the body is held, and when it is not any more."""
    proxy = proxy_for(weir, ByHand(lambda conn, stream, head: None),
                      listeners=PATIENT,
                      routes=[{"prefix": "/", "pool": "app", "timeout": timeout}])
    conn, _, status = begins(proxy, version, b"abc")
    assert status() == 504
    proxy.logged(path="/part", end="upstream.timeout")
    conn.close()


def test_a_policy_waits_longer(weir):
    """Held whole, it is sent again."""
    origin = ByHand(refuse_first)
    proxy = proxy_for(weir, origin, policies={"hold": {"buffer": "64KiB"}},
                      routes=[{"prefix": "/", "pool": "app", "policies": ["hold"]}])
    conn, send, status = begins(proxy, 2, b"abc", "/refused")
    time.sleep(0.3)  # longer than one without a policy is held
    send(b"defghi")
    assert status() == 200
    assert proxy.logged(path="/refused", status=200)["weir.attempts"] == 2
    conn.close()


class Refuses(Origin):
    """Refuses the first request when all of it came."""

    def ended(self, talker, stream, request):
        super().ended(talker, stream, request)
        if len(self.requests) == 1:
            talker.h2.reset_stream(stream, h2.REFUSED_STREAM)


def test_a_length_of_nothing_that_ends_late(weir):
    """The endpoint had the head before the client said that nothing follows."""
    heads = threading.Semaphore(0)
    origin = Refuses(lambda request: Answer() if len(origin.requests) > 1 else None)
    origin.begun = lambda *_: heads.release()
    proxy = proxy_for(weir, origin)
    with Conn(proxy.port).handshake() as conn:
        number = conn.open("POST", "/late", [("content-length", "0")], end=False)
        assert heads.acquire(timeout=30)
        conn.data(number, b"")
        assert conn.wait(number).status == 200
    assert len(origin.seen("/late")) == 2 and not origin.violations
    origin.stop()


def test_a_length_of_nothing_and_trailers(weir):
    """They go on, and are not sent a second time."""
    origin = Refuses(lambda request: None)
    proxy = proxy_for(weir, origin)
    with Conn(proxy.port).handshake() as conn:
        number = nothing(conn, "/t", trailers=[("x-sum", "7")], trailer="x-sum")
        assert conn.wait(number).status == 502
    assert [request.trailers for request in origin.seen("/t")] == [{b"x-sum": b"7"}]
    origin.stop()


def test_a_length_of_nothing_is_hedged(weir):
    slow, over = ByHand(lambda conn, stream, head: over.wait(30)), threading.Event()
    quick = ByHand(lambda conn, stream, head: conn.head(stream, end=True))
    proxy = proxy_for(weir, slow, quick, pool={
        "balance": "round_robin", "retry": {"hedge_after": "400ms", "budget_min": 100}})
    with Conn(proxy.port).handshake() as conn:
        for _ in range(2):
            assert conn.wait(nothing(conn, "/x", "PUT")).status == 200
    assert len(slow.asked("/x")) == 1 and len(quick.asked("/x")) == 2
    over.set()
