"""What weir's own RST_STREAMs (clients that leave, times that pass) cost at endpoints that bear
but so many of them, and what PINGs cost at those that bear but few: the other streams of a
connection lose nothing by either."""
import threading
import time

import h2.events as h2lib
import pytest

from harness import h2wire as h2
from harness.h2byhand import ByHand, Connection, proxy_for
from harness.h2endpoints import Grpc, Origin
from harness.weir import eventually

MOST = 50  # cancels of a connection that others may still join (src/mux/h2_guard.c)
BATCH = 40
NOTHING = [("content-length", "0")]
LENIENT = {"web": {"protocols": ["h2c", "http/1.1"], "h2": {"resets": 1000000}}}


class Budget(Origin):
    """Ends a connection that brings more than so many RST_STREAMs in so many seconds, and with it
    all that it works on, as Netty does (200 in 30 s) and Varnish (100 in 60 s)."""

    def __init__(self, resets, seconds):
        self.most, self.seconds = resets, seconds
        self.hung, self.ends, self.go = 0, 0, threading.Event()
        super().__init__()

    def ended(self, talker, stream, request):
        if request.path == "/hold":
            self.held = talker, stream
            self.requests.append(request)
        elif request.path == "/hang":
            self.hung += 1
        else:
            super().ended(talker, stream, request)

    def take(self, talker, streams, event):
        super().take(talker, streams, event)
        if not isinstance(event, h2lib.StreamReset):
            return
        now = time.monotonic()
        came = [at for at in getattr(talker, "came", []) if at > now - self.seconds]
        talker.came = [*came, now]
        if len(talker.came) > self.most:
            self.ends += 1
            talker.h2.close_connection(error_code=h2.ENHANCE_YOUR_CALM)
            talker.flush()
            talker.close()

    def release(self):
        talker, stream = self.held
        talker.head(stream, [(":status", "200")], end=True)


def cancel(conn, count, begun):
    """count requests that are given up when begun() says that the endpoint has all of them."""
    numbers = [conn.open("GET", "/hang") for _ in range(count)]
    eventually(begun)
    conn.send(*map(h2.rst_stream, numbers))


@pytest.mark.parametrize("resets,seconds", [(200, 30), (100, 60)])
def test_others_are_not_lost_by_cancels(weir, talk, serve, resets, seconds):
    """A client that leaves what it asks for, 400 times, beside one that waits for its answer."""
    origin = serve(Budget, resets, seconds)
    proxy = proxy_for(weir, origin, listeners=LENIENT)
    honest, leaves = talk("h2-frames", proxy), talk("h2-frames", proxy)
    assert honest.get("/first").status == 200
    held = honest.open("POST", "/hold", NOTHING)
    eventually(lambda: origin.seen("/hold"))
    for n in range(1, 400 // BATCH + 1):
        cancel(leaves, BATCH, lambda n=n: origin.hung == n * BATCH)
        eventually(lambda n=n: len(origin.resets) == n * BATCH or origin.ends)
        assert origin.ends == 0, n * BATCH
    origin.release()
    assert honest.wait(held).status == 200
    assert {record["weir.end"] for record in proxy.all_lines()} <= {"ok", "client.reset"}


# ---- which connection ----

def answers(conn, stream, head):
    """/hang is never answered, /hold when the test says so."""
    if head[":path"] == "/hold":
        conn.origin.go.wait(20)
    if head[":path"] != "/hang":
        conn.head(stream, end=True)


class Hangs(ByHand):
    def __init__(self, *settings):
        self.go = threading.Event()
        super().__init__(answers, *settings)

    def hung(self):
        return len(self.asked("/hang"))

    def stop(self):
        self.go.set()
        super().stop()


def leave(conn, origin, times):
    """So many cancels at once, which are at the endpoint when it returns."""
    before = origin.hung()
    cancel(conn, times, lambda: origin.hung() == before + times)
    eventually(lambda: sum(len(c.resets) for c in origin.conns) == before + times)


def test_a_connection_ends_after_so_many(weir, talk, serve):
    """With nobody else on it, it is closed by agreement, and another one opened for the next."""
    origin = serve(Hangs)
    conn = talk("h2-frames", proxy_for(weir, origin, listeners=LENIENT))
    for times in (MOST, MOST, 5):
        leave(conn, origin, times)
    assert [len(each.resets) for each in origin.conns] == [MOST, MOST, 5]
    eventually(lambda: all(each.closed for each in origin.conns[:2]))
    assert [each.code for each in origin.conns] == [h2.NO_ERROR, h2.NO_ERROR, None]


def test_who_is_there_stays(weir, talk, serve):
    """New requests go to another connection; the answer that was waited for comes on the old."""
    origin = serve(Hangs)
    proxy = proxy_for(weir, origin, listeners=LENIENT)
    honest, leaves = talk("h2-frames", proxy), talk("h2-frames", proxy)
    held = honest.open("GET", "/hold")
    origin.wait_asked(1)
    leave(leaves, origin, MOST)
    assert len(origin.conns) == 1
    assert [honest.get("/next").status for _ in range(3)] == [200] * 3
    assert len(origin.conns) == 2 and len(origin.conns[1].heads) == 3
    assert not origin.conns[0].closed and origin.conns[0].goaway is None
    origin.go.set()
    assert honest.wait(held).status == 200
    eventually(lambda: origin.conns[0].closed)
    assert origin.conns[0].code == h2.NO_ERROR


def test_it_comes_back_with_time(weir, talk, serve):
    """What rests has room for more: connections with long streams do not pile up."""
    origin = serve(Hangs)
    proxy = proxy_for(weir, origin, listeners=LENIENT)
    honest, leaves = talk("h2-frames", proxy), talk("h2-frames", proxy)
    numbers = [honest.open("GET", "/hold")]
    origin.wait_asked(1)
    leave(leaves, origin, MOST)
    numbers.append(honest.open("GET", "/hold"))
    origin.wait_asked(MOST + 2)
    leave(leaves, origin, MOST)
    assert len(origin.conns) == 2
    time.sleep(2.5)
    leave(leaves, origin, 2)
    assert sum(len(each.resets) for each in origin.conns) == 2 * MOST + 2
    assert len(origin.conns) == 2
    origin.go.set()
    assert {honest.wait(number).status for number in numbers} == {200}


def test_a_flood_opens_few(weir, talk, serve):
    """Eight connections at once and eight a second are left for it, each with somebody on it."""
    origin = serve(Hangs)
    proxy = proxy_for(weir, origin, listeners=LENIENT)
    holds, leaves = talk("h2-frames", proxy), talk("h2-frames", proxy)
    held, begun = [], time.monotonic()
    for n in range(1, 31):
        held.append(holds.open("GET", "/hold"))
        cancel(leaves, MOST, lambda n=n: origin.hung() == n * MOST)
    took = time.monotonic() - begun
    assert 8 <= len(origin.conns) <= 10 + 8 * took, took
    holds.drain()
    assert not any(holds.stream(number).over for number in held)
    origin.go.set()
    assert {holds.wait(number).status for number in held} == {200}


def test_where_no_other_may_be_opened(weir, talk, serve):
    """One connection is all there is: it goes on, and ends when nobody is on it."""
    origin = serve(Hangs)
    proxy = proxy_for(weir, origin, listeners=LENIENT, connections={"max_per_endpoint": 1})
    honest, leaves = talk("h2-frames", proxy), talk("h2-frames", proxy)
    held = honest.open("GET", "/hold")
    origin.wait_asked(1)
    leave(leaves, origin, MOST + 10)
    assert honest.get("/next").status == 200
    assert len(origin.conns) == 1
    origin.go.set()
    assert honest.wait(held).status == 200
    eventually(lambda: origin.conns[0].closed)
    assert honest.get("/next").status == 200
    assert len(origin.conns) == 2


# ---- an endpoint that has had enough ----

@pytest.mark.parametrize("method", ["GET", "POST"])
def test_calm_loses_nothing_that_was_not_begun(weir, talk, serve, method):
    """GOAWAY by ENHANCE_YOUR_CALM names the last stream that the endpoint works on: what came
    behind it goes elsewhere, whatever its method, and what it works on is answered."""
    def handler(conn, stream, head):
        if conn is not conn.origin.conns[0]:
            conn.head(stream, end=True)
        elif stream == 11:
            conn.send(h2.goaway(5, h2.ENHANCE_YOUR_CALM))
            eventually(lambda: len(conn.origin.conns) == 2)
            for number in (1, 3, 5):
                conn.head(number, ("x-first", "1"), end=True)
    origin = serve(ByHand, handler)
    proxy = proxy_for(weir, origin, pool={"retry": {"budget": "100%"}})
    conn = talk("h2-frames", proxy)
    numbers = [conn.open("GET", "/first")]
    origin.wait_asked(1)
    for n in range(2, 7):
        numbers.append(conn.open(method, "/n", NOTHING))
        origin.wait_asked(n)
    got = [conn.wait(number) for number in numbers]
    assert [each.status for each in got] == [200] * 6
    assert [each.get("x-first") for each in got] == ["1"] * 3 + [None] * 3
    assert len(origin.conns) == 2 and len(origin.conns[1].heads) == 3


# ---- PINGs ----

class Asked(Connection):
    """Ends the connection with its third PING, and says why."""
    why = b"too_many_pings"

    def __init__(self, origin, sock):
        super().__init__(origin, sock)
        self.at = []

    def on_ping(self, frame):
        super().on_ping(frame)
        self.at.append(time.monotonic())
        if len(self.pings) == 3:
            self.send(h2.goaway(self.streams[-1], h2.ENHANCE_YOUR_CALM, self.why))
            self.cut()

    def apart(self):
        return (self.at[2] - self.at[0]) / 2


class AskedOften(ByHand):
    def __init__(self, why=None):
        self.why = why
        super().__init__(lambda *_: None)

    def connection(self, sock):
        made = Asked(self, sock)
        made.why = made.why if self.why is None else self.why
        return made


def rounds(proxy, origin, talk, count):
    """count requests, each of which loses its connection: how far apart the PINGs of each were."""
    conn = talk("h2-frames", proxy)
    for n in range(count):
        assert conn.request("POST", "/wait", NOTHING).status == 502
        assert len(origin.conns) == n + 1
    return [each.apart() for each in origin.conns]


def test_pings_are_sent_half_as_often(weir, talk, serve):
    """GOAWAY, ENHANCE_YOUR_CALM, "too_many_pings": the next connection waits twice as long (gRPC
    proposal A8, as gRPC's own clients do)."""
    origin = serve(AskedOften)
    proxy = proxy_for(weir, origin, connections={"ping": "100ms"},
                      pool={"outlier": {"max_ejected": "0%"}})
    apart = rounds(proxy, origin, talk, 4)
    for got, least in zip(apart, (0.1, 0.2, 0.4, 0.8)):
        assert got > least * 0.75, apart


def test_who_gives_up_asks_less_often(weir, talk, serve):
    """Without connections.ping weir asks where a request was given up in silence. An endpoint that
    found that too much is not asked twice by the next connection."""
    origin = serve(AskedOften)
    proxy = proxy_for(weir, origin, pool={"outlier": {"max_ejected": "0%"}})
    honest, leaves = talk("h2-frames", proxy), talk("h2-frames", proxy)

    def resets():
        return sum(len(conn.resets) for conn in origin.conns)

    def given_up(times):
        for _ in range(times):
            asked, before = len(origin.asked()), resets()
            number = leaves.open("GET", "/hang")
            origin.wait_asked(asked + 1)
            time.sleep(0.6)
            leaves.send(h2.rst_stream(number))
            eventually(lambda before=before: resets() > before)
            time.sleep(0.1)  # for PING and its answer

    def hold():
        asked = len(origin.asked())
        number = honest.open("POST", "/wait", NOTHING)
        origin.wait_asked(asked + 1)
        return number
    held = hold()
    given_up(3)
    assert honest.wait(held).status == 502
    assert len(origin.conns[0].pings) == 3
    held = hold()
    given_up(4)
    assert len(origin.conns) == 2 and len(origin.conns[1].pings) == 1
    honest.drain()
    assert not honest.stream(held).over


@pytest.mark.parametrize("why", [b"", b"too_many_pings, really", b"too_many_rsts"])
def test_other_words_change_nothing(weir, talk, serve, why):
    origin = serve(AskedOften, why)
    proxy = proxy_for(weir, origin, connections={"ping": "100ms"},
                      pool={"outlier": {"max_ejected": "0%"}})
    assert min(rounds(proxy, origin, talk, 4)[1:]) < 0.15


class Slow(Grpc):
    """Takes two PINGs that it finds too early, as gRPC's servers do, and three seconds a call."""

    def get(self, request, context):
        time.sleep(3)
        return super().get(request, context)


def test_a_grpc_server_that_is_asked_too_often(weir, talk, serve):
    """With its defaults (a PING in five minutes): calls that take longer than some PINGs fail
    only until weir has learnt."""
    server = serve(Slow)
    proxy = proxy_for(weir, server, connections={"ping": "200ms"},
                      pool={"outlier": {"max_ejected": "0%"}})
    conn = talk("h2-frames", proxy)

    def call():
        response = conn.request("POST", "/weir.Test/Get", [
            ("content-type", "application/grpc"), ("te", "trailers")], b"\0\0\0\0\0")
        return dict(response.fields + response.trailers).get(b"grpc-status")
    got = [call() for _ in range(6)]
    assert got[0] == b"14" and got[-2:] == [b"0", b"0"], got
