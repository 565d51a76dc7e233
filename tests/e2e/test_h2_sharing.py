"""What HTTP/2 connections to endpoints are shared by whom: how many streams each has, before its
endpoint has said a word, and when it answers by nothing but resets."""
import socket
import threading
import time

import pytest

from harness import client
from harness import h2wire as h2
from harness.h2byhand import OK, ByHand, proxy_for
from harness.weir import eventually


class Strict(ByHand):
    """Takes `most` streams at once on a connection and refuses the others; says so late, and
    nothing at all before that (later: of all connections but the first). peak: streams at once on
    any connection; refused: how many were."""

    def __init__(self, most, late=0.3, lasts=0.05, later=None, says=()):
        self.most, self.late, self.lasts, self.says = most, late, lasts, says
        self.later = late if later is None else later
        self.guard, self.live = threading.Condition(), {}
        self.said, self.refused, self.peak = set(), [], 0
        super().__init__(self.on_head, start=b"", acks=False, reads=False)

    def connection(self, sock):
        conn = super().connection(sock)
        late = self.later if self.conns else self.late
        threading.Thread(target=self.say, args=(conn, late), daemon=True).start()
        return conn

    def say(self, conn, late):
        time.sleep(late)
        conn.send(h2.settings((h2.MAX_CONCURRENT_STREAMS, self.most), *self.says),
                  h2.SETTINGS_ACK)
        with self.guard:
            self.said.add(conn)
            self.guard.notify_all()

    def on_head(self, conn, stream, head):
        with self.guard:
            self.live[conn] = self.live.get(conn, 0) + 1
            takes = self.live[conn] <= self.most
            self.live[conn] -= not takes
            self.peak = max(self.peak, self.live[conn])
            self.guard.wait_for(lambda: conn in self.said, 20)
        if not takes:
            self.refused.append(head[":method"])
            conn.send(h2.rst_stream(stream, h2.REFUSED_STREAM))
            return
        time.sleep(self.lasts)
        with self.guard:
            self.live[conn] -= 1
        conn.send(h2.headers(stream, OK, end=False), h2.data(stream, b"fine", end=True))


class Deaf(ByHand):
    """From deafen() on it takes no connection: `how` "refused", or "late": no connect is answered.
    says: after how long, and how many streams, of each connection before that."""

    def __init__(self, handler, *says):
        self.over, self.probes, self.says = threading.Event(), [], says
        super().__init__(handler, start=b"" if says else None, acks=not says)

    def connection(self, sock):
        while self.probes and not self.over.wait(20):
            pass
        conn = super().connection(sock)
        if len(self.conns) < len(self.says):
            after, most = self.says[len(self.conns)]
            rows = (h2.MAX_CONCURRENT_STREAMS, most), (h2.ENABLE_CONNECT_PROTOCOL, 1)
            threading.Timer(after, conn.send, [h2.settings(*rows), h2.SETTINGS_ACK]).start()
        return conn

    def deafen(self, how):
        if how == "refused":
            self.sock.shutdown(socket.SHUT_RDWR)
            self.sock.close()
            return
        self.sock.listen(0)
        for _ in range(4):  # one is accepted, the others fill the queue
            self.probes.append(socket.socket())
            self.probes[-1].setblocking(False)
            self.probes[-1].connect_ex(("127.0.0.1", self.port))
            time.sleep(0.02)

    def stop(self):
        self.over.set()
        for probe in self.probes:
            probe.close()
        super().stop()


def uploads(conn, count):
    """Opens so many requests whose body goes at once, and cannot be sent again."""
    numbers = [conn.open("POST", "/up", end=False) for _ in range(count)]
    for number in numbers:
        conn.data(number, b"body of some bytes")
    return numbers


def upgrade(proxy):
    """A client that asks for a tunnel, which waits for what the endpoint says of tunnels."""
    conn = client.Client(proxy.port)
    conn.send(b"GET /ws HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n"
              b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: %s==\r\n\r\n" % (b"A" * 22))
    time.sleep(0.1)
    return conn


# ---- before the endpoint has spoken ----

def test_bodies_wait_for_the_limit(weir, talk):
    """Nobody knows how many streams the endpoint takes: what could not be sent again waits."""
    origin = Strict(3)
    conn = talk("h2-frames", proxy_for(weir, origin))
    numbers = uploads(conn, 40)
    assert {conn.wait(number).status for number in numbers} == {200}
    assert not origin.refused and origin.peak == 3
    assert {conn.wait(number).status for number in uploads(conn, 20)} == {200}
    assert not origin.refused


def test_one_alone_waits_for_nobody(weir, talk):
    """The first request goes at once, also with a body, and one without always."""
    origin = Strict(1, late=3)
    conn = talk("h2-frames", proxy_for(weir, origin))
    begun = time.monotonic()
    (first,) = uploads(conn, 1)
    second = conn.open("GET", "/")
    origin.wait_asked(2)
    assert time.monotonic() - begun < 2
    assert {conn.wait(number).status for number in (first, second)} == {200}


def test_bodies_wait_behind_others(weir, talk):
    """Requests without a body went before: what they leave of the limit is for bodies."""
    origin = Strict(5, lasts=0.5)
    conn = talk("h2-frames", proxy_for(weir, origin))
    numbers = [conn.open("GET", "/") for _ in range(3)]
    numbers += uploads(conn, 10)
    assert {conn.wait(number).status for number in numbers} == {200}
    assert not origin.refused and 3 <= len(origin.conns) <= 5


def test_bodies_wait_with_few_connections(weir, talk):
    """No other connection may be opened: those beyond the limit are in the queue."""
    origin = Strict(4)
    conn = talk("h2-frames", proxy_for(weir, origin, connections={"max_per_endpoint": 2}))
    numbers = uploads(conn, 40)
    assert {conn.wait(number).status for number in numbers} == {200}
    assert not origin.refused and len(origin.conns) == 2


def test_settings_that_never_come(weir, talk):
    """The time to connect bounds how long a body waits for them."""
    origin = ByHand(lambda conn, stream, head: None, start=b"", acks=False, reads=False)
    proxy = proxy_for(weir, origin, pool={"timeouts": {"connect": "300ms"},
                                          "retry": {"attempts": 1}})
    conn = talk("h2-frames", proxy)
    uploads(conn, 1)
    origin.wait_asked(1)
    (late,) = uploads(conn, 1)
    assert conn.wait(late).status == 504
    proxy.logged(path="/up", end="upstream.connect.timeout")


def test_settings_that_come_on_no_connection(weir):
    """Another connection that is there and has room, of which nobody knows what it can do, either.
    """
    origin = ByHand(lambda conn, stream, head: None, start=b"", acks=False)
    proxy = proxy_for(weir, origin, connections={"streams": 1},
                      pool={"timeouts": {"connect": "300ms"}, "retry": {"attempts": 1}})
    clients = [upgrade(proxy), upgrade(proxy)]
    for conn in clients:
        assert conn.response(truncated_ok=True).status == 504
        conn.close()
    assert len(origin.conns) == 2
    proxy.logged(2, path="/ws", end="upstream.connect.timeout")


@pytest.mark.parametrize("connections", [{}, {"max_per_endpoint": 1, "requests": 2}],
                         ids=["at-once", "queued"])
def test_the_time_to_connect_is_one(weir, connections):
    """Who asks anew for a connection has what is left of it, also when it had to wait for a permit
    in between."""
    origin = Strict(1, late=1.2, says=[(h2.ENABLE_CONNECT_PROTOCOL, 1)])
    proxy = proxy_for(weir, origin, connections=connections,
                      pool={"timeouts": {"connect": "2s"}, "retry": {"attempts": 1}})
    first, second = upgrade(proxy), upgrade(proxy)
    assert first.response(truncated_ok=True).status == 101
    if connections:
        first.close()  # who waits for a permit gets one
    assert second.response(truncated_ok=True).status == 504
    for conn in (first, second):
        conn.close()
    assert len(origin.conns) == 2
    proxy.logged(path="/ws", end="upstream.connect.timeout")


def test_workers_share_the_limit(weir, talk):
    """What a worker was told of the endpoint the other one need not wait for."""
    origin = Strict(2, late=0, later=1.5)
    proxy = proxy_for(weir, origin, process={"workers": 2},
                      pool={"timeouts": {"connect": "1s"}, "retry": {"attempts": 1}})
    conns = [talk("h2-frames", proxy) for _ in range(10)]
    assert conns[0].get("/").status == 200
    numbers = [(conn, number) for conn in conns for number in uploads(conn, 3)]
    assert {conn.wait(number).status for conn, number in numbers} == {200}
    assert not origin.refused


def test_copies_wait_for_the_limit(weir, talk):
    """Nobody sends a copy again, with a body or without."""
    origin, shadow = Strict(10), Strict(2, lasts=0.01)
    proxy = proxy_for(weir, origin, pools={
        "app": {"endpoints": ["127.0.0.1:%d" % origin.port], "connections": {"protocol": "h2c"}},
        "shadow": {"endpoints": ["127.0.0.1:%d" % shadow.port],
                   "connections": {"protocol": "h2c"}}},
        routes=[{"prefix": "/", "pool": "app", "mirror": {"pool": "shadow"}}])
    conn = talk("h2-frames", proxy)
    numbers = [conn.open("GET", "/") for _ in range(10)]
    assert {conn.wait(number).status for number in numbers} == {200}
    shadow.wait_asked(10)
    assert not shadow.refused


# ---- an endpoint that resets ----

def turns(code, after=3, bad=lambda conn: conn is conn.origin.conns[0]):
    """A handler: a bad connection answers `after` requests, then resets all by code."""
    def handler(conn, stream, head):
        if bad(conn) and len(conn.streams) > after:
            conn.resets.append(stream)
            conn.send(h2.rst_stream(stream, code))
        else:
            conn.send(h2.headers(stream, OK, end=False), h2.data(stream, b"fine", end=True))
    return handler


@pytest.mark.parametrize("code", [h2.ENHANCE_YOUR_CALM, h2.REFUSED_STREAM])
def test_a_connection_that_resets_all_is_left(weir, talk, code):
    origin = ByHand(turns(code))
    conn = talk("h2-frames", proxy_for(weir, origin))
    assert {conn.get("/").status for _ in range(30)} == {200}
    assert len(origin.conns) == 2
    assert len(origin.conns[0].streams) == 4 + (code == h2.REFUSED_STREAM)
    assert origin.conns[0].over.wait(20)


def test_resets_in_a_row(weir, talk):
    """Any code, for long enough; one that answers in between is no such connection."""
    origin = ByHand(turns(h2.INTERNAL_ERROR))
    conn = talk("h2-frames", proxy_for(weir, origin, pool={"retry": {"attempts": 1}}))
    statuses = [conn.get("/").status for _ in range(60)]
    assert statuses == 3 * [200] + 32 * [502] + 25 * [200] and len(origin.conns) == 2


def test_one_that_answers_is_not_left(weir, talk):
    def every_other(conn, stream, head):
        turns(h2.INTERNAL_ERROR if stream % 4 == 1 else 0, 0, lambda _: stream % 4 == 1)(
            conn, stream, head)
    origin = ByHand(every_other)
    conn = talk("h2-frames", proxy_for(weir, origin, pool={"retry": {"attempts": 1}}))
    statuses = [conn.get("/").status for _ in range(100)]
    assert statuses == 50 * [502, 200] and len(origin.conns) == 1


def test_streams_that_run_outlive_it(weir, talk):
    """Only new ones go elsewhere."""
    go_on = threading.Event()

    def handler(conn, stream, head):
        if head[":path"] == "/slow":
            go_on.wait(20)
        turns(h2.ENHANCE_YOUR_CALM, 1, lambda c: c is origin.conns[0] and stream != 1)(
            conn, stream, head)
    origin = ByHand(handler)
    conn = talk("h2-frames", proxy_for(weir, origin))
    slow = conn.open("GET", "/slow")
    origin.wait_asked(1)
    assert {conn.get("/").status for _ in range(10)} == {200}
    assert len(origin.conns) == 2 and not origin.conns[0].over.is_set()
    go_on.set()
    assert conn.wait(slow).status == 200
    assert origin.conns[0].over.wait(20)


def test_the_only_connection_is_not_left(weir, talk):
    """No other one may be opened while its other streams run: better than none."""
    go_on = threading.Event()

    def handler(conn, stream, head):
        if head[":path"] == "/slow":
            go_on.wait(20)
        turns(h2.ENHANCE_YOUR_CALM, 0, lambda _: stream == 3)(conn, stream, head)
    origin = ByHand(handler)
    conn = talk("h2-frames", proxy_for(weir, origin, connections={"max_per_endpoint": 1}))
    slow = conn.open("GET", "/slow")
    origin.wait_asked(1)
    assert {conn.get("/").status for _ in range(5)} == {200}
    assert len(origin.conns) == 1
    go_on.set()
    assert conn.wait(slow).status == 200


def test_an_endpoint_that_resets_everywhere_is_not_stormed(weir, talk):
    origin = ByHand(turns(h2.ENHANCE_YOUR_CALM, 0, lambda _: True))
    proxy = proxy_for(weir, origin, pool={"outlier": {"max_ejected": "0%"}})
    conn = talk("h2-frames", proxy)
    begun = time.monotonic()
    assert {conn.get("/").status for _ in range(60)} == {502}
    assert len(origin.conns) <= 10 + 8 * (time.monotonic() - begun)


def test_a_limit_makes_no_new_connections(weir, talk):
    """REFUSED_STREAM for the limit that SETTINGS say: who is refused goes on beside the others."""
    origin = Strict(5, late=0.1)
    conn = talk("h2-frames", proxy_for(weir, origin))
    numbers = [conn.open("GET", "/") for _ in range(60)]
    assert {conn.wait(number).status for number in numbers} == {200}
    assert origin.refused and not any(each.over.is_set() for each in origin.conns)


# ---- connections.streams ----

def spread(weir, talk, requests, **connections):
    """So many requests wait at their endpoint at once, then are answered: the streams of each of
    its connections."""
    go_on = threading.Event()

    def handler(conn, stream, head):
        go_on.wait(20)
        conn.send(h2.headers(stream, OK, end=False), h2.data(stream, b"fine", end=True))
    origin = ByHand(handler)
    conn = talk("h2-frames", proxy_for(weir, origin, connections=connections))
    numbers = [conn.open("GET", "/") for _ in range(requests)]
    origin.wait_asked(requests)
    go_on.set()
    assert {conn.wait(number).status for number in numbers} == {200}
    assert {conn.get("/").status for _ in range(5)} == {200}
    return sorted(len(each.streams) for each in origin.conns)


def test_all_on_one(weir, talk):
    assert spread(weir, talk, 60) == [65]


def test_streams_of_a_connection(weir, talk):
    counts = spread(weir, talk, 60, streams=15)
    assert len(counts) == 4 and sum(counts) == 65


def test_a_connection_for_each(weir, talk):
    assert len(spread(weir, talk, 30, streams=1)) == 30


def test_streams_of_few_connections(weir, talk):
    """Where no other one may be opened, streams are spread evenly over those that are there."""
    counts = spread(weir, talk, 60, streams=1, max_per_endpoint=4)
    assert len(counts) == 4 and counts[0] == 15 and sum(counts) == 65


def test_streams_change_with_a_reload(weir, talk):
    origin = Strict(100, late=0, lasts=0.5)
    proxy = proxy_for(weir, origin)
    conn = talk("h2-frames", proxy)
    assert conn.get("/").status == 200
    proxy.change(pools={"app": {"connections": {"streams": 5}}})
    proxy.reload()
    numbers = [conn.open("GET", "/") for _ in range(20)]
    assert {conn.wait(number).status for number in numbers} == {200}
    assert len(origin.conns) == 4


@pytest.mark.parametrize("how", ["refused", "late"])
@pytest.mark.parametrize("why", ["streams", "shunned"])
def test_another_connection_that_does_not_come_to_be(weir, talk, why, how):
    """There is a connection with room, only fuller than it should be, or shunned: it has to do."""
    held = threading.Event()

    def handler(conn, stream, head):
        if head[":path"] == "/calm":
            conn.send(h2.rst_stream(stream, h2.ENHANCE_YOUR_CALM))
            return
        if head[":path"] == "/held":
            held.wait(20)
        conn.send(h2.headers(stream, OK, end=False), h2.data(stream, b"fine", end=True))
    origin = Deaf(handler)
    proxy = proxy_for(weir, origin, connections={"streams": 1} if why == "streams" else {},
                      pool={"retry": {"attempts": 1}, "timeouts": {"connect": "500ms"}})
    conn = talk("h2-frames", proxy)
    first = conn.open("GET", "/held")
    origin.wait_asked(1)
    origin.deafen(how)
    if why == "shunned":
        assert conn.wait(conn.open("GET", "/calm")).status == 502
    for _ in range(10):
        assert conn.wait(conn.open("GET", "/")).status == 200
    held.set()
    assert conn.wait(first).status == 200 and len(origin.conns) == 1
    origin.stop()


def test_those_that_have_to_do_and_one_is_shunned(weir, talk):
    """It has fewer streams, and comes after the other one all the same."""
    held = threading.Event()

    def handler(conn, stream, head):
        if head[":path"] == "/calm":
            conn.send(h2.rst_stream(stream, h2.ENHANCE_YOUR_CALM))
            return
        if head[":path"] == "/held":
            held.wait(20)
        conn.send(h2.headers(stream, OK, end=False), h2.data(stream, b"fine", end=True))
    origin = Deaf(handler)
    proxy = proxy_for(weir, origin, connections={"streams": 2}, pool={"retry": {"attempts": 1}})
    conn = talk("h2-frames", proxy)
    numbers = [conn.open("GET", "/held")]
    origin.wait_asked(1)
    assert conn.wait(conn.open("GET", "/calm")).status == 502
    numbers += [conn.open("GET", "/held") for _ in range(2)]
    origin.wait_asked(4)
    origin.deafen("refused")
    assert {conn.get("/").status for _ in range(5)} == {200}
    assert [len(each.streams) for each in origin.conns] == [2, 7]
    held.set()
    assert {conn.wait(number).status for number in numbers} == {200}
    origin.stop()


def test_others_that_do_not_come_to_be_are_not_waited_for(weir, talk):
    """Whose connection does not come in time takes the one that is there, not one that does not
    come either."""
    held = threading.Event()

    def handler(conn, stream, head):
        held.wait(20)
        conn.send(h2.headers(stream, OK, end=False), h2.data(stream, b"fine", end=True))
    origin = Deaf(handler)
    proxy = proxy_for(weir, origin, connections={"streams": 1},
                      pool={"retry": {"attempts": 1}, "timeouts": {"connect": "500ms"}})
    conn = talk("h2-frames", proxy)
    numbers = [conn.open("GET", "/")]
    origin.wait_asked(1)
    origin.deafen("late")
    for _ in range(4):
        numbers.append(conn.open("GET", "/"))
        time.sleep(0.1)
    origin.wait_asked(5)
    held.set()
    assert {conn.wait(number).status for number in numbers} == {200}
    origin.stop()


def test_late_on_a_connection_that_has_time(weir, talk):
    """A request that asked anew has less of it than the connection that it waits for."""
    held = threading.Event()

    def handler(conn, stream, head):
        if head[":path"] == "/held":
            held.wait(20)
        conn.send(h2.headers(stream, OK, end=False), h2.data(stream, b"fine", end=True))
    origin = Deaf(handler, (0, 100), (1.2, 1))
    proxy = proxy_for(weir, origin, connections={"streams": 2},
                      pool={"retry": {"attempts": 1}, "timeouts": {"connect": "2s"}})
    conn = talk("h2-frames", proxy)
    numbers = [conn.open("GET", "/held") for _ in range(2)]
    origin.wait_asked(2)
    clients = [upgrade(proxy), upgrade(proxy)]
    eventually(lambda: len(origin.conns) == 2)
    origin.deafen("late")
    assert {each.response(truncated_ok=True).status for each in clients} == {101}
    assert [len(each.streams) for each in origin.conns] == [3, 1]
    held.set()
    assert {conn.wait(number).status for number in numbers} == {200}
    for each in clients:
        each.close()
    origin.stop()
