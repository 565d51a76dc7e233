"""What has broken HTTP/2 servers (THREATS.md rows 1 to 8), against weir from outside. Each attack
runs on a few connections (under -m slow for 10 s) beside an honest client of the same worker,
which is answered every time; weir ends the attacker, says why in the log, and stays the size it
was."""
import threading
import time

import pytest

from harness import h2wire as h2, proc, wire
from harness.h2attacks import BOMBS, FLOOD, MADE, RESETS, bomb, get
from harness.h2fixtures import default_handler, h2make, read_body, speaks_h2  # noqa: F401
from harness.h2site import Site
from harness.h2storm import BURSTS, CALM, Storm, judge, logged, storm
from harness.weir import eventually

ONE = {"process": {"workers": 1}}
LONG = pytest.mark.parametrize("seconds", [
    pytest.param(0, id="short"), pytest.param(10, id="long", marks=pytest.mark.slow)])
ANY_H2 = "client.h2."
LIMITS = ("proxy.limit.header_bytes", "proxy.limit.headers")


class Busy:
    """A handler that counts how many requests are in the backend at once."""

    def __init__(self):
        self.lock, self.now, self.most, self.total = threading.Lock(), 0, 0, 0

    def __call__(self, conn, request):
        with self.lock:
            self.now += 1
            self.total += 1
            self.most = max(self.most, self.now)
        try:
            read_body(conn, request)
            if request.path != "/honest":
                self.until_gone(conn)
                return None
            return wire.response_bytes(body=b"GET /honest")
        finally:
            with self.lock:
                self.now -= 1

    @staticmethod
    def until_gone(conn):
        """Work that ends when weir says so."""
        while conn.reader.fill():
            pass


def early_answer(conn, _request):
    """What answers before it has read a body."""
    conn.send(wire.response_bytes(body=b"x" * 3000))
    conn.close()


def streams(conn, count, make):
    """Bursts of count new streams; make(number) gives their frames."""
    parts = []
    for _ in range(count):
        parts.append(make(conn.new_stream()))
    conn.send(*parts)


# ---- resets (rows 1 and 2) ----

@LONG
def test_rapid_reset(h2make, seconds):  # noqa: F811
    """A stream counts until its upstream work is gone; more resets than may be end it."""
    busy = Busy()
    made = h2make(ONE, handler=busy)
    found = storm(made, lambda conn, n: streams(
        conn, 50, lambda number: get(number) + h2.rst_stream(number)), seconds)
    judge(found, RESETS)
    assert busy.most <= 130, "%d requests at once in the backend" % busy.most
    eventually(lambda: busy.now == 0)
    if not seconds:
        assert found.bursts <= 3 * 10, "%d bursts of 50" % found.bursts


@LONG
def test_rapid_reset_after_a_pause(h2make, seconds):  # noqa: F811
    """The same in small bursts with a PING between, so that requests are on their way upstream."""
    def burst(conn, _n):
        numbers = [conn.new_stream() for _ in range(10)]
        conn.send(*map(get, numbers))
        if conn.ping():
            conn.send(*map(h2.rst_stream, numbers))
    busy = Busy()
    found = storm(h2make(ONE, handler=busy), burst, seconds)
    judge(found, RESETS)
    assert busy.most <= 130


class Late:
    """All streams that may be open, reset together when they are old enough that this does not
    count, and the next ones behind them in the same write."""

    def __init__(self, age, fields=()):
        self.age, self.fields = age, fields

    def __call__(self, conn, n):
        if n == 0:
            conn.old = []
            conn.ping()  # the first ones may be as many as weir has told of
        time.sleep(self.age if conn.old else 0)
        new = [conn.new_stream("POST") for _ in range(128)]
        conn.send(*map(h2.rst_stream, conn.old), *[
            get(number, self.fields, True, "POST") for number in new])
        conn.old = new


DEADLINE = [("content-type", "application/grpc"), ("te", "trailers"), ("grpc-timeout", "130m")]


@LONG
@pytest.mark.parametrize("late", [Late(1.01), Late(0.11, DEADLINE)],
                         ids=["of-a-second", "at-deadlines"])
def test_resets_of_all_streams_when_they_are_old(h2make, late, seconds):  # noqa: F811
    """What is old when it is reset is bounded by how many streams there may be: in a second no
    more requests than that for each age reach the backend."""
    busy = Busy()
    found = Storm(h2make(ONE, handler=busy))
    begun = time.monotonic()
    conn = found.made.conn().handshake()
    for n in range(BURSTS):
        if conn.closed or conn.broken or time.monotonic() - begun > max(seconds, 3.5):
            break
        late(conn, n)
        conn.drain()
        found.be_honest()
        found.sample()
    took = time.monotonic() - begun
    conn.close()
    found.be_honest()
    assert conn.error is None or conn.error[1] in CALM, conn.state()
    # the endpoint may see late that the last ones are gone, and weir does not wait for that
    assert busy.most <= 2 * 128 + 2, "%d requests at once in the backend" % busy.most
    assert busy.total <= found.answered + 128 * (took / late.age + 2), busy.total
    assert found.grown_kib < 24 * 1024, "grew by %d KiB" % found.grown_kib
    eventually(lambda: busy.now == 0)


def test_a_reset_in_the_same_write_reaches_no_endpoint(h2make):  # noqa: F811
    """A request goes on its way when all that came with it was read: what the client has reset by
    then costs no connection to an endpoint. The log has it all the same."""
    made = h2make(ONE)
    conn = made.conn().handshake()
    for how in (lambda n: get(n) + h2.rst_stream(n), MADE["window-update-of-0"]):
        streams(conn, 50, how)
        conn.ping()
    made.weir.logged(50, end="client.reset", path="/attack")
    made.weir.logged(50, end="client.h2.protocol", path="/attack")
    assert made.weir.metric("weir_upstream_connects_total") <= 2
    assert conn.get("/honest").status == 200


@LONG
@pytest.mark.parametrize("how", MADE)
def test_made_you_reset(h2make, how, seconds):  # noqa: F811
    """Resets that weir is made to send count as the client's own. An error of the connection at
    once is as good."""
    busy = Busy()
    found = storm(h2make(ONE, handler=busy),
                  lambda conn, n: streams(conn, 50, MADE[how]), seconds)
    judge(found, ANY_H2, codes=(h2.ENHANCE_YOUR_CALM, h2.PROTOCOL_ERROR, h2.STREAM_CLOSED,
                                h2.FLOW_CONTROL_ERROR, h2.FRAME_SIZE_ERROR))
    assert busy.most <= 130
    eventually(lambda: busy.now == 0)


# ---- CONTINUATION (row 3) ----

def endless(payload):
    """HEADERS once, then CONTINUATION for ever."""
    def burst(conn, n):
        if n == 0:
            conn.send(h2.headers(conn.new_stream(), h2.request(), end_headers=False))
        conn.send(h2.continuation(1, payload, False) * max(1, min(500, 200000 // (
            len(payload) + 9))))
    return burst


PAYLOADS = {"of-16384": h2.block([("x-%02d" % n, "v" * 400) for n in range(40)])[:16384],
            "of-one-field": h2.literal("x-a", "b"), "of-one-byte": b"\x82", "empty": b"",
            "never-ending-value": None}


@LONG
@pytest.mark.parametrize("what", PAYLOADS)
def test_continuation_flood(h2make, what, seconds):  # noqa: F811
    payload = PAYLOADS[what]
    if payload is None:
        first = h2.headers(1, h2.request() + b"\x00" + h2.text("x-a")
                           + h2.integer(1 << 30, 7), end_headers=False)

        def burst(conn, n):
            if n == 0:
                conn.send(first)
            conn.send(h2.continuation(1, b"v" * 16384, False) * 10)
    else:
        burst = endless(payload)
    found = storm(h2make(ONE), burst, seconds)
    codes = (h2.ENHANCE_YOUR_CALM, h2.COMPRESSION_ERROR, h2.PROTOCOL_ERROR)
    judge(found, ANY_H2, *LIMITS, codes=codes[:1] if what == "empty" else codes,
          grown_kib=8 * 1024)
    assert not found.made.backend.seen("/case")


@LONG
def test_continuations_with_end(h2make, seconds):  # noqa: F811
    """Whole requests, each in hundreds of empty CONTINUATIONs."""
    def burst(conn, _n):
        number = conn.new_stream()
        block = h2.request(path="/attack")
        conn.send(h2.headers(number, block, end_headers=False),
                  h2.continuation(number, b"", False) * 400, h2.continuation(number, b""))
    judge(storm(h2make(ONE), burst, seconds), FLOOD)


# ---- HPACK (row 4) ----

@LONG
@pytest.mark.parametrize("what", BOMBS)
def test_hpack_bomb(h2make, what, seconds):  # noqa: F811
    """A small block of a large section: refused by the limits on bytes and on the number of fields
    (cookie crumbs count), and never held in memory; many of them end the connection."""
    block = bomb(what)
    found = Storm(h2make(ONE))
    deadline, rounds = time.monotonic() + seconds, 0
    while time.monotonic() < deadline or rounds < 3:
        conn = found.made.conn().handshake()
        for _ in range(250):
            number = conn.new_stream()
            conn.send(h2.headers(number, block))
            conn.pump(lambda c=conn, n=number: c.stream(n).over or c.error or c.closed,
                      what="refusal")
            refusal = conn.stream(number)
            assert refusal.response.status in (None, 400, 431), refusal.response
            found.be_honest()
            if conn.error or conn.closed:
                break
        assert conn.error and conn.error[1] == h2.ENHANCE_YOUR_CALM, conn.state()
        found.sample()
        conn.close()
        rounds += 1
    assert found.grown_kib < 16 * 1024, "grew by %d KiB" % found.grown_kib
    assert not found.made.backend.seen("/attack")
    logged(found.weir, (ANY_H2, *LIMITS))


def test_hpack_bomb_on_every_stream(h2make):  # noqa: F811
    """The largest heads that may be, from one small block each, on all streams of ten connections
    whose windows are shut: no more heads are kept of a connection than sixteen of the largest;
    further streams are refused, and later ones served."""
    made = h2make(ONE, handler=Site())
    found = Storm(made)
    block = h2.request(path="/bytes?n=100000") + h2.incremental("x-bomb", "v" * 4000)
    again = h2.request(path="/bytes?n=100000") + h2.indexed(62) * 14
    conns = []
    for _ in range(10):
        conn = made.conn(settings=((h2.INITIAL_WINDOW_SIZE, 0),)).handshake()
        conn.send(h2.headers(conn.new_stream(), block))
        streams(conn, 99, lambda number: h2.headers(number, again))
        conns.append(conn)
    for conn in conns:
        conn.pump(lambda c=conn: c.closed or sum(
            s.response.status is not None or s.reset is not None
            for s in c.check.streams.values()) >= 100, what="100 answers or refusals")
        refused = [s for s in conn.check.streams.values() if s.reset is not None]
        assert 70 < len(refused) < 90 and {s.reset for s in refused} == {h2.REFUSED_STREAM}
        found.be_honest()
    found.sample()
    assert found.grown_kib < 40 * 1024, "1000 streams grew weir by %d KiB" % found.grown_kib
    for conn in conns:
        conn.close()
    found.weir.settle()
    found.be_honest()


# ---- frames that bring nothing on (row 5) ----

def repeated(frame, count=200):
    return lambda conn, n: conn.send(frame * count)


def on_a_stream(make, count=200):
    """A held request first, then frames that name it."""
    def burst(conn, n):
        if n == 0:
            conn.victim = conn.new_stream("POST")
            conn.send(get(conn.victim, (), False, "POST"))
        conn.send(make(conn.victim) * count)
    return burst


FLOODS = {
    "settings-empty": repeated(h2.settings()),
    "settings-of-100": repeated(h2.settings(*[(h2.INITIAL_WINDOW_SIZE, n) for n in range(100)]),
                                20),
    "settings-table-size": repeated(h2.settings((h2.HEADER_TABLE_SIZE, 0))
                                    + h2.settings((h2.HEADER_TABLE_SIZE, 4096)), 100),
    "settings-ack": repeated(h2.SETTINGS_ACK),
    "ping": repeated(h2.ping()),
    "ping-ack": repeated(h2.ping(ack=True)),
    "ping-with-a-byte": on_a_stream(lambda n: h2.data(n, b"x") + h2.ping() * 2),
    "priority-update-with-a-byte": on_a_stream(
        lambda n: h2.data(n, b"x") + h2.priority_update(n) * 2),
    "priority": on_a_stream(lambda n: h2.priority(n, 0)),
    "priority-idle": lambda conn, n: conn.send(b"".join(
        h2.priority(n * 400 + at, 0) for at in range(1001, 1401, 2))),
    "priority-update": on_a_stream(h2.priority_update),
    "priority-update-idle": lambda conn, n: conn.send(b"".join(
        h2.priority_update(n * 400 + at) for at in range(1001, 1401, 2))),
    "data-empty": on_a_stream(h2.data),
    "data-of-padding": on_a_stream(lambda n: h2.data(n, b"", pad=10)),
    "window-update": repeated(h2.window_update(0, 1)),
    "window-update-of-a-stream": on_a_stream(lambda n: h2.window_update(n, 1)),
    "unknown": repeated(h2.frame(0xEE, payload=b"nothing")),
    "rst-of-a-closed-stream": lambda conn, n: conn.send(
        get(conn.new_stream()) + h2.rst_stream(1) if n == 0 else h2.rst_stream(1) * 200),
    "goaway": on_a_stream(lambda n: h2.goaway()),  # without a stream the first one ends it
}


@LONG
@pytest.mark.parametrize("what", FLOODS)
def test_flood(h2make, what, seconds):  # noqa: F811
    found = storm(h2make(ONE, {"timeouts": {"body": "20s"}}), FLOODS[what], seconds)
    codes = (h2.ENHANCE_YOUR_CALM,)
    if what in ("rst-of-a-closed-stream",):
        codes += (h2.STREAM_CLOSED, h2.PROTOCOL_ERROR)
    judge(found, ANY_H2, codes=codes, grown_kib=8 * 1024)


@LONG
@pytest.mark.parametrize("what", ["settings", "ping", "requests"])
def test_flood_that_reads_nothing(h2make, what, seconds):  # noqa: F811
    """Answers that the client does not take are not queued without end: weir stops reading, or
    ends the connection; its memory stays."""
    frame = {"settings": h2.settings(), "ping": h2.ping(), "requests": None}[what]
    found = Storm(h2make(ONE, {"timeouts": {"send": "5s"}}))
    deadline, stuck, number = time.monotonic() + (seconds or 5), 0, 1
    conn = found.made.conn(receive_buffer=4096).handshake()
    rest = b""
    while time.monotonic() < deadline and not conn.broken and stuck < 200:
        if not rest:
            rest = frame * 500 if frame else b"".join(
                get(number + 2 * at) for at in range(100))
            number += 200
        sent = conn.offer(rest)
        rest = rest[sent:]
        stuck = 0 if sent else stuck + 1
        found.be_honest()
        found.sample()
    conn.close()
    assert found.grown_kib < 8 * 1024, "grew by %d KiB" % found.grown_kib
    found.be_honest()


# ---- windows (row 6) ----

@pytest.mark.parametrize("window", [0, 1])
def test_window_stall(h2make, window):  # noqa: F811
    """100 streams of 1 MiB each whose window stays shut: what weir holds of them is bounded, the
    endpoint is held back, and timeouts.send ends them."""
    made = h2make(ONE, {"timeouts": {"send": "2s"}}, Site())
    found = Storm(made)
    conn = made.conn(settings=((h2.INITIAL_WINDOW_SIZE, window),), credit=False).handshake()
    streams(conn, 100, lambda number: h2.headers(
        number, h2.request(path="/bytes?n=1048576")))
    found.wait_over(conn, list(conn.check.streams))
    assert found.grown_kib < 32 * 1024, "grew by %d KiB" % found.grown_kib
    assert all(s.response.payload.length <= window for s in conn.check.streams.values())
    logged(found.weir, ("client.timeout.send",))
    found.be_honest()


@pytest.mark.parametrize("size", [1, 4000])
def test_window_stall_of_small_bodies(h2make, size):  # noqa: F811
    """Bodies that fit a buffer wait for their window as long as large ones do: they are requests
    in flight until then, and no more was delivered than left."""
    made = h2make(ONE, {"timeouts": {"send": "1500ms"}}, Site())
    conn = made.conn(settings=((h2.INITIAL_WINDOW_SIZE, 0),), credit=False).handshake()
    begun = time.monotonic()
    streams(conn, 100, lambda number: h2.headers(
        number, h2.request(path="/bytes?n=%d" % size)))
    eventually(lambda: made.weir.metric("weir_requests_inflight") == 100)
    found = list(conn.check.streams)
    conn.pump(lambda: all(conn.stream(n).reset is not None for n in found), what="resets")
    assert time.monotonic() - begun < 10
    assert {conn.stream(n).reset for n in found} == {h2.CANCEL}
    eventually(lambda: len(made.weir.lines()) == 100)
    lines = made.weir.lines()
    assert {r["weir.end"] for r in lines} == {"client.timeout.send"}
    assert {r["http.response.body.size"] for r in lines} == {0}


@pytest.mark.parametrize("path", ["/bytes?n=3000", "/chunked?n=3000", "/trailers?n=3000"])
def test_small_bodies_go_when_their_window_opens(h2make, path):  # noqa: F811
    made = h2make(ONE, {"timeouts": {"send": "5s"}}, Site())
    conn = made.conn(settings=((h2.INITIAL_WINDOW_SIZE, 0),), credit=False).handshake()
    number = conn.new_stream("GET")
    conn.send(h2.headers(number, h2.request(path=path)))
    conn.wait_head(number)
    time.sleep(0.2)
    assert not made.weir.lines()
    conn.send(h2.window_update(number, 5))
    time.sleep(0.2)
    assert not made.weir.lines()
    conn.send(h2.window_update(number, 1 << 20))
    conn.pump(lambda: conn.stream(number).over, what="its end")
    assert conn.stream(number).reset is None
    made.weir.logged(end="ok")


def test_uploads_behind_a_shut_window(h2make):  # noqa: F811
    """The answer is complete, but not gone, while the client still sends the body, and its end."""
    made = h2make(ONE, {"timeouts": {"send": "1500ms"}}, early_answer)
    conn = made.conn(settings=((h2.INITIAL_WINDOW_SIZE, 0),), credit=False).handshake()
    found = []
    for end in (True, False):
        number = conn.new_stream("POST")
        found.append(number)
        conn.send(h2.headers(number, h2.request(method="POST", path="/early"), end=False))
        conn.wait_head(number)
        conn.send(h2.data(number, b"x" * 1000))
        time.sleep(0.1)
        conn.send(h2.data(number, b"x" * 1000, end=end))
    conn.pump(lambda: all(conn.stream(n).reset is not None for n in found), what="resets")
    assert {conn.stream(n).reset for n in found} == {h2.CANCEL}
    eventually(lambda: len(made.weir.lines()) == 2)
    assert {r["weir.end"] for r in made.weir.lines()} == {"client.timeout.send"}


def test_small_bodies_and_the_window_of_the_connection(h2make):  # noqa: F811
    """Each of them fits it, all of them do not."""
    made = h2make(ONE, {"timeouts": {"send": "1500ms"}}, Site())
    conn = made.conn(settings=((h2.INITIAL_WINDOW_SIZE, 1 << 20),), credit=False).handshake()
    streams(conn, 40, lambda number: h2.headers(number, h2.request(path="/bytes?n=4000")))
    found = list(conn.check.streams)
    conn.pump(lambda: all(conn.stream(n).over for n in found), what="ends")
    eventually(lambda: len(made.weir.lines()) == 40)
    ends = [r["weir.end"] for r in made.weir.lines()]
    assert (ends.count("ok"), ends.count("client.timeout.send")) == (16, 24)
    assert sum(r["http.response.body.size"] for r in made.weir.lines()) == 65535


def test_window_of_the_connection_stalls(h2make):  # noqa: F811
    """The connection's window is used up and never grows; pings go on all the time."""
    made = h2make(ONE, {"timeouts": {"send": "2s"}}, Site())
    found = Storm(made)
    conn = made.conn(settings=((h2.INITIAL_WINDOW_SIZE, 1 << 20),), credit=False).handshake()
    streams(conn, 100, lambda number: h2.headers(number, h2.request(path="/bytes?n=1048576")))
    found.wait_over(conn, list(conn.check.streams), lambda: conn.send(h2.ping()))
    assert found.grown_kib < 32 * 1024, "grew by %d KiB" % found.grown_kib
    assert sum(s.response.payload.length for s in conn.check.streams.values()) <= 65535
    logged(found.weir, ("client.timeout.send",))


def test_client_that_never_reads(h2make):  # noqa: F811
    """Large windows, but the socket is not read: memory bounded, the endpoint held back, ended by
    timeouts.send."""
    made = h2make(ONE, {"timeouts": {"send": "2s"}}, Site())
    found = Storm(made)
    conn = made.conn(settings=((h2.INITIAL_WINDOW_SIZE, 1 << 30),), receive_buffer=4096)
    conn.send(h2.window_update(0, 1 << 30))
    streams(conn, 100, lambda number: h2.headers(number, h2.request(path="/bytes?n=5242880")))

    def over():
        """timeouts.send ended the streams of a client that does not read"""
        found.be_honest()
        found.sample()
        return [r for r in made.weir.lines() if r["weir.end"] == "client.timeout.send"]
    eventually(over)
    assert found.grown_kib < 48 * 1024, "grew by %d KiB" % found.grown_kib


@LONG
def test_window_bytewise(h2make, seconds):  # noqa: F811
    """A window that is given back byte by byte is progress, at a bounded price."""
    made = h2make(ONE, handler=Site())
    found = Storm(made)
    conn = made.conn(settings=((h2.INITIAL_WINDOW_SIZE, 1),)).handshake()
    streams(conn, 100, lambda number: h2.headers(number, h2.request(path="/bytes?n=100000")))
    deadline, rounds = time.monotonic() + seconds, 0
    while (time.monotonic() < deadline or rounds < 100) and not conn.closed:
        conn.drain()
        found.be_honest()
        rounds += 1
        if rounds % 20 == 0:
            found.sample()
    assert found.grown_kib < 32 * 1024, "grew by %d KiB" % found.grown_kib


# ---- counts and stalls ----

@LONG
def test_more_streams_than_may_be(h2make, seconds):  # noqa: F811
    """What is above the limit is refused before any work; the others go on."""
    busy = Busy()
    made = h2make(ONE, {"h2": {"streams": 20}}, busy)
    found = Storm(made)
    assert found.honest.check.settings[h2.MAX_CONCURRENT_STREAMS] == 20
    deadline, rounds = time.monotonic() + seconds, 0
    while time.monotonic() < deadline or rounds < 3:
        conn = made.conn().handshake()
        streams(conn, 60, get)
        conn.pump(lambda c=conn: c.closed or c.error or sum(
            s.reset is not None for s in c.check.streams.values()) >= 40, what="40 refusals")
        resets = [s.reset for s in conn.check.streams.values() if s.reset is not None]
        assert set(resets) <= {h2.REFUSED_STREAM} and (len(resets) == 40 or conn.error)
        found.be_honest()
        conn.close()
        rounds += 1
        eventually(lambda: busy.now == 0)
    assert busy.most <= 21
    found.sample()
    assert found.grown_kib < 16 * 1024


@pytest.mark.parametrize("trickle", [False, True])
def test_stalled_uploads(h2make, trickle):  # noqa: F811
    """100 uploads that stop: ended by timeouts.body. One that trickles makes progress, and its
    neighbours' timeouts are not its."""
    made = h2make(ONE, {"timeouts": {"body": "1s"}})
    found = Storm(made)
    conn = made.conn().handshake()
    streams(conn, 100, lambda number: get(number, [("content-length", "1000")], False, "POST")
            + h2.data(number, b"begun"))
    moving = conn.new_stream("POST")
    conn.send(get(moving, (), False, "POST"))
    found.wait_over(conn, [n for n in conn.check.streams if n != moving],
                    lambda: trickle and conn.send(h2.data(moving, b"x")))
    assert found.grown_kib < 24 * 1024
    assert len(logged(found.weir, ("client.timeout.body",))) >= 1
    if trickle and not conn.closed:
        assert not conn.stream(moving).over
        conn.data(moving, b"end")
        assert conn.wait(moving).status == 200
    assert not [r for r in made.backend.seen("/attack") if r.complete and r.length]


def test_pings_do_not_keep_a_connection(h2make):  # noqa: F811
    """timeouts.idle of a connection without streams is not moved by control frames."""
    made = h2make(ONE, {"timeouts": {"idle": "1s"}})
    conn = made.conn().handshake()
    assert conn.get("/once").status == 200
    for _ in range(300):
        if conn.closed or conn.broken:
            break
        conn.send(h2.ping())
        conn.drain()
        time.sleep(0.1)
    conn.expect_closed()
    assert conn.error is None and conn.check.goaways, conn.state()


@pytest.mark.parametrize("start", [b"", h2.PREFACE[:10], h2.PREFACE, h2.PREFACE + b"\0\0\6\4",
                                   h2.PREFACE + h2.settings() + h2.headers(
                                       1, h2.request()[:9], end_headers=False)])
def test_connections_that_begin_and_stop(h2make, start):  # noqa: F811
    """200 connections inside the preface, a frame or a block: let go by a timeout."""
    made = h2make(ONE, {"timeouts": {"header": "1s", "idle": "8s"}})  # the honest one idles, too
    found = Storm(made)
    conns = [made.conn(start=False) for _ in range(200)]
    for conn in conns:
        conn.send(start)
    found.be_honest()
    found.sample()
    for conn in conns:
        conn.expect_closed()
        conn.close()
    assert found.grown_kib < 24 * 1024


def test_memory_of_attacks_does_not_add_up(h2make):  # noqa: F811
    """A first round of attacks may fill what weir keeps for later; the next ones find it there."""
    made = h2make(ONE)
    found = Storm(made)
    sizes = [proc.memory_kib(made.weir.pid, proc.OWN)]
    for _ in range(4):
        for burst in (FLOODS["ping"], FLOODS["settings-empty"], endless(PAYLOADS["of-16384"])):
            for _ in range(10):
                assert found.one(burst, time.monotonic() + 60)
        found.weir.settle()
        sizes.append(proc.memory_kib(made.weir.pid, proc.OWN))
    assert sizes[1] - sizes[0] < 16 * 1024 and sizes[4] - sizes[3] < 2 * 1024, sizes


@pytest.mark.parametrize("what", ["repeats-of-4k", "tiny-fields"])
def test_memory_of_refused_heads_does_not_add_up(h2make, what):  # noqa: F811
    """What a refused head took is given back: the second half of them costs nothing more."""
    made, sizes, block = h2make(ONE), [], bomb(what)
    for _ in range(4):
        for _ in range(25):
            conn = made.conn().handshake()
            for _ in range(20):
                number = conn.new_stream()
                conn.send(h2.headers(number, block))
                conn.pump(lambda c=conn, n=number: c.stream(n).over or c.error or c.closed,
                          what="refusal")
                if conn.error or conn.closed:
                    break
            conn.close()
        made.weir.settle()
        sizes.append(proc.memory_kib(made.weir.pid, proc.OWN))
    assert sizes[3] - sizes[1] < 2 * 1024, "%s KiB after each 25 connections" % sizes
