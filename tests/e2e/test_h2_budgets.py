"""What ordinary programs do that looks like a flood: it is served, and costs them nothing of
listeners.*.h2.resets and glitches, which are next to nothing here. Frames by hand, in the shapes
of Go's net/http2 (both windows are opened for each 4 KiB that are read) and of gRPC's callers
(RST_STREAM behind a response that is whole), or of clients whose calls time out."""
import time

import pytest

from harness import h2wire as h2
from harness.client import Client
from harness.h2byhand import ByHand, Connection, proxy_for
from harness.h2raw import Conn
from harness.h2site import Site
from harness.weir import eventually

TIGHT = {"web": {"protocols": ["h2c", "http/1.1"], "h2": {"glitches": 10, "resets": 3}}}
READ = 4096
SIZE = 8 << 20
CALLS = 200


def openings(number, amount):
    """How much is left of amount, and both windows opened for the rest by READ at a time."""
    pair = h2.window_update(0, READ) + (h2.window_update(number, READ) if number else b"")
    return amount % READ, pair * (amount // READ)


class GoClient(Conn):
    """Reads as Go does."""
    unread = 0

    def give_back(self):
        out = b""
        for frame in self.new_frames():
            if frame.type == h2.DATA:
                number = 0 if self.check.streams[frame.stream].over else frame.stream
                self.unread, part = openings(number, self.unread + len(frame.payload))
                out += part
        return out


class GoReads(Connection):
    """The same of an endpoint, which answers when the body is whole."""
    unread = got = 0

    def on_data(self, frame):
        self.got += len(frame.payload)
        ended = frame.flags & h2.END_STREAM
        self.unread, out = openings(0 if ended else frame.stream,
                                    self.unread + len(frame.payload))
        self.send(out)
        if ended:
            self.head(frame.stream, end=True)


class GoEndpoint(ByHand):
    def __init__(self):
        super().__init__(lambda *_: None, (h2.INITIAL_WINDOW_SIZE, 1 << 20),
                         (h2.MAX_CONCURRENT_STREAMS, 250))

    def connection(self, sock):
        return GoReads(self, sock)


@pytest.fixture
def origins():
    made = []

    def make(origin):
        made.append(origin)
        return origin
    yield make
    for origin in made:
        origin.stop()


def test_a_client_opens_windows_as_it_reads(weir, new_backend):
    backend = new_backend(Site())
    proxy = weir({"listeners": TIGHT}, backend)
    with GoClient(proxy.port, settings=((h2.ENABLE_PUSH, 0),
                                        (h2.INITIAL_WINDOW_SIZE, 4 << 20))) as conn:
        conn.send(h2.window_update(0, (1 << 30) - 65535))
        for _ in range(2):
            got = conn.wait(conn.open(path="/bytes?n=%d" % SIZE))
            assert (got.status, got.payload.length) == (200, SIZE), conn.state()
        conn.expect_alive()
    proxy.logged(2, end="ok")


@pytest.mark.parametrize("how", ["h1", "h2"])
def test_an_endpoint_opens_windows_as_it_reads(weir, origins, how):
    origin = origins(GoEndpoint())
    proxy = proxy_for(weir, origin)
    body = bytes(64 << 20)
    if how == "h2":
        with Conn(proxy.port) as conn:
            number = conn.handshake().open("POST", "/up", end=False)
            assert conn.data(number, body), conn.state()
            assert conn.wait(number).status == 200
    else:
        with Client(proxy.port) as conn:
            conn.send(b"POST /up HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % len(body))
            conn.send(body)
            assert conn.response().status == 200
    assert [conn.got for conn in origin.conns] == [len(body)]
    proxy.logged(end="ok")


def answers(conn, stream, head):
    """A call whose server ends first; /held goes on, and /hang never begins."""
    if head[":path"] == "/hang":
        return
    conn.head(stream, ("content-type", "application/grpc"))
    conn.send(h2.data(stream, b"\0\0\0\0\0"))
    if head[":path"] != "/held":
        conn.send(h2.headers(stream, h2.block([("grpc-status", "0")]), True))


def call(conn, path="/call", timeout=None):
    deadline = [("grpc-timeout", timeout)] if timeout else []
    number = conn.open("POST", path, [("content-type", "application/grpc"), ("te", "trailers"),
                                      *deadline], end=False)
    conn.send(h2.data(number, b"\0\0\0\0\0"))
    return number


@pytest.mark.parametrize("code", [h2.NO_ERROR, h2.CANCEL], ids=["no-error", "cancel"])
def test_calls_that_the_server_ended(weir, origins, code):
    """The caller's RST_STREAM then is no reset, and weir's own to the endpoint says NO_ERROR: who
    counts them there finds nothing, either. One call stays all the time."""
    origin = origins(ByHand(answers))
    proxy = proxy_for(weir, origin, listeners=TIGHT)
    with Conn(proxy.port) as conn:
        held = call(conn.handshake(), "/held")
        conn.pump(lambda: conn.stream(held).response.payload.length == 5, what="the held call")
        for _ in range(CALLS):
            number = call(conn)
            got = conn.wait(number)
            assert (got.status, got.payload.length) == (200, 5), conn.state()
            conn.send(h2.rst_stream(number, code))
        conn.expect_alive()
        assert not conn.stream(held).over
        proxy.logged(CALLS, end="ok")
        eventually(lambda: sum(len(each.resets) for each in origin.conns) == CALLS)
        assert {code for each in origin.conns for _, code in each.resets} == {h2.NO_ERROR}
        conn.send(h2.rst_stream(held))
        eventually(lambda: origin.conns[0].resets[-1][1] == h2.CANCEL)


def gives_up(conn, timeout, after, until):
    """60 calls a second to what hangs, each given up after so long, beside some that are answered;
    how many were given up."""
    waiting, count, begun = [], 0, time.monotonic()
    for n in range(int(until * 60)):
        waiting.append((time.monotonic() + after, call(conn, "/hang", timeout)))
        if n % 10 == 0:
            assert conn.wait(call(conn)).payload.length == 5, conn.state()
        while waiting and waiting[0][0] <= time.monotonic():
            conn.send(h2.rst_stream(waiting.pop(0)[1]))
            count += 1
        time.sleep(max(0, begun + (n + 1) / 60 - time.monotonic()))
    return count


@pytest.mark.parametrize("timeout,after", [("1200m", 1.1), (None, 1.2), ("100m", 0.09)],
                         ids=["deadline-of-1200ms", "after-1200ms", "deadline-of-100ms"])
def test_calls_that_time_out(weir, origins, timeout, after):
    """An endpoint hangs: who gives its calls up at their deadlines keeps its connection, the calls
    that are answered, and the one that stays."""
    origin = origins(ByHand(answers))
    proxy = proxy_for(weir, origin, listeners=TIGHT)
    with Conn(proxy.port) as conn:
        held = call(conn.handshake(), "/held")
        conn.pump(lambda: conn.stream(held).response.payload.length == 5, what="the held call")
        assert gives_up(conn, timeout, after, after + 2.2) > 100
        conn.expect_alive()
        assert not conn.stream(held).over
