"""The attacks of THREATS.md rows 1 to 6 as bytes that are made before they are sent, for
tools/h2_attacker.py and test_h2_attacks_long.py. Here stands what is sent and how weir ends it;
sending is the tool's, judging the test's."""
import functools
import typing

from . import h2wire as h2

RESETS, FLOOD = "client.h2.resets", "client.h2.flood"
CALM = (h2.ENHANCE_YOUR_CALM,)
PATH = "/attack"


def get(number, fields=(), end=True, method="GET", path=PATH):
    return h2.headers(number, h2.request(fields, path=path, method=method), end)


def post(number, fields=()):
    """Is held until its body is whole."""
    return get(number, fields, False, "POST", "/upload")


# Resets that weir is made to send: frames of one stream (row 2).
MADE = {
    "window-update-of-0": lambda n: get(n) + h2.window_update(n, 0),
    "data-on-half-closed": lambda n: get(n) + h2.data(n, b"x"),
    "headers-on-half-closed": lambda n: get(n) + get(n),
    "length-too-small": lambda n: post(n, [("content-length", "1")]) + h2.data(n, b"more", True),
    "length-without-data": lambda n: get(n, [("content-length", "1")], True, "POST"),
    "window-overflow": lambda n: get(n) + h2.window_update(n, h2.WINDOW_MAX) * 2,
    "self-dependency": lambda n: get(n) + h2.priority(n, n),
    "priority-of-4": lambda n: get(n) + h2.frame(h2.PRIORITY, 0, n, bytes(4)),
    "malformed": lambda n: get(n, [("Upper", "case")]),
    "trailers-without-end": lambda n: post(n) + post(n),
}

ENTRY = h2.incremental("x-bomb", "v" * 4000)
# Field sections that are far larger than their blocks (row 4).
BOMBS = {
    "repeats-of-4k": lambda: ENTRY + h2.indexed(62) * 12000,
    "repeats-of-empty": lambda: h2.incremental("a", "") + h2.indexed(62) * 16000,
    "tiny-fields": lambda: b"\x00\x01a\x00" * 4000,
    "static-fields": lambda: h2.indexed(24) * 16000,  # cache-control
    "cookie-crumbs": lambda: h2.incremental("cookie", "a=b") + h2.indexed(62) * 16000,
    "empty-cookie-crumbs": lambda: h2.indexed(32) * 16000,
}


@functools.lru_cache(maxsize=None)
def bomb(what):
    return (h2.request(path=PATH) + BOMBS[what]())[:16384]


class Attack(typing.NamedTuple):
    """One way to attack: on each connection first, then burst(0), burst(1), ... while it is there.
    burst gives frames; those of the same number are the same on every connection."""
    words: tuple  # weir.end of what it ends; empty: it may go on, within its bounds
    burst: typing.Callable
    first: bytes = b""
    settings: tuple = ()
    codes: tuple = CALM  # of GOAWAY
    connections: int = 4  # at once
    sync: bool = False  # a PING's answer is waited for after each burst
    answers: int = 0  # so many streams that weir ended are waited for after each burst
    reads: bool = True
    credit: int = 0  # window given back for each DATA frame that comes
    stubborn: bool = False  # goes on behind GOAWAY and FIN, until a TCP reset
    per_second: float = 0  # bursts of one connection; 0: as fast as it is let
    receive_buffer: int = 0
    rest: bool = False  # after the first bursts it only waits
    grown_kib: int = 32 * 1024
    cpu_ms: float = 200  # of weir for one connection: a guard


def numbers(n, count):
    """The streams of the nth burst."""
    return [1 + 2 * (n * count + at) for at in range(count)]


def on_streams(make, count=50):
    """A burst of count new streams."""
    return lambda n: [make(number) for number in numbers(n, count)]


def reset_late(n):
    """10 requests that are held, and the last burst's reset after their way upstream began."""
    late = [h2.rst_stream(number) for number in numbers(n - 1, 10)] if n else []
    return late + [post(number) for number in numbers(n, 10)]


def all_late(fields=()):
    """All streams that may be, and the last burst's reset in the same breath."""
    def make(n):
        late = [h2.rst_stream(number) for number in numbers(n - 1, 128)] if n else []
        return late + [post(number, fields) for number in numbers(n, 128)]
    return make


def repeated(frame, count=200):
    return lambda n: [frame] * count


def uploads(n):
    """100 uploads that stop inside the body."""
    if n:
        return []
    return [post(number, [("content-length", "1000")]) + h2.data(number, b"begun")
            for number in numbers(0, 100)]


def downloads(n):
    """100 requests for 1 MiB each."""
    return [get(number, path="/files/big") for number in numbers(0, 100)] if n == 0 else []


def bytewise(count):
    """A byte for each of count uploads that are open, again and again."""
    def make(n):
        if n == 0:
            return [post(number) for number in numbers(0, count)]
        return [h2.data(number, b"x") for number in numbers(0, count)]
    return make


def opened_bytewise(n):
    """100 downloads whose windows are opened by a byte."""
    return downloads(n) or [h2.window_update(number, 1) for number in numbers(0, 100)]


def continuations(payload, count):
    return lambda n: [h2.continuation(1, payload, False)] * count


OPENED = h2.headers(1, h2.request(path=PATH), end_headers=False)
ENDLESS = h2.headers(1, h2.request(path=PATH) + b"\x00" + h2.text("x-a") + h2.integer(1 << 30, 7),
                     end_headers=False)
OF_16384 = h2.block([("x-%02d" % n, "v" * 400) for n in range(40)])[:16384]
HEADS = ("proxy.limit.header_bytes", "proxy.limit.headers")
ERRORS = CALM + (h2.PROTOCOL_ERROR, h2.STREAM_CLOSED, h2.FLOW_CONTROL_ERROR, h2.FRAME_SIZE_ERROR)
ANY_WORD = (RESETS, FLOOD, "client.h2.protocol", "client.h2.stream_closed",
            "client.h2.flow_control", "client.h2.frame_size")
HELD = post(1)
WIDE = h2.window_update(0, h2.WINDOW_MAX - 65535)  # answers never wait for a window


def made(what):
    return Attack(ANY_WORD, on_streams(MADE[what]), codes=ERRORS)


def on_held(frame):
    """Frames that name a request that is held open."""
    return Attack((FLOOD,), repeated(frame), first=HELD)


ATTACKS = {
    # rows 1 and 2
    "rapid-reset": Attack((RESETS,), on_streams(lambda n: get(n) + h2.rst_stream(n))),
    "rapid-reset-late": Attack((RESETS,), reset_late, sync=True),
    "rapid-reset-stubborn": Attack((RESETS,), on_streams(lambda n: get(n) + h2.rst_stream(n)),
                                   stubborn=True),
    # these are not early, and bounded by the streams that may be (h2_guard.c)
    "resets-of-a-second": Attack((), all_late(), per_second=0.9, connections=10,
                                 grown_kib=64 * 1024),
    "resets-at-deadlines": Attack((), all_late([
        ("content-type", "application/grpc"), ("te", "trailers"), ("grpc-timeout", "70m")]),
        per_second=18, grown_kib=64 * 1024),
    **{"made-" + what: made(what) for what in MADE},
    # row 3
    "continuation-empty": Attack((FLOOD,), continuations(b"", 200), first=OPENED),
    "continuation-of-16384": Attack((FLOOD, *HEADS), continuations(OF_16384, 8), first=OPENED),
    "continuation-never-ending": Attack((FLOOD, *HEADS), continuations(b"v" * 16384, 8),
                                        first=ENDLESS),
    "continuation-with-end": Attack((FLOOD,), on_streams(
        lambda n: h2.headers(n, h2.request(path=PATH), end_headers=False)
        + h2.continuation(n, b"", False) * 50 + h2.continuation(n, b""), 10)),
    # row 4
    **{"bomb-" + what: Attack((FLOOD, RESETS, *HEADS), on_streams(
        lambda n, what=what: h2.headers(n, bomb(what)), 3)) for what in BOMBS},
    "bomb-of-nearly-512k": Attack((RESETS, *HEADS), on_streams(
        lambda n: h2.headers(n, h2.request(path=PATH) + ENTRY + h2.indexed(62) * 125), 20)),
    # row 5
    "settings": Attack((FLOOD,), repeated(h2.settings())),
    "settings-of-100": Attack((FLOOD,), repeated(h2.settings(
        *[(h2.INITIAL_WINDOW_SIZE, n) for n in range(100)]), 20)),
    "settings-with-requests": Attack((FLOOD,), on_streams(lambda n: get(n) + h2.settings() * 2),
                                     answers=50, first=WIDE),
    "settings-windows-of-100-streams": Attack((FLOOD,), lambda n: downloads(n) + [
        h2.settings((h2.INITIAL_WINDOW_SIZE, 0)), h2.settings((h2.INITIAL_WINDOW_SIZE, 1))] * 50,
        grown_kib=64 * 1024),  # 400 downloads that stand still, as with window-bytewise
    "settings-ack": Attack((FLOOD,), repeated(h2.SETTINGS_ACK)),
    "ping": Attack((FLOOD,), repeated(h2.ping())),
    "ping-with-a-byte": on_held(h2.data(1, b"x") + h2.ping() * 2),
    "ping-unread": Attack((), repeated(h2.ping()), reads=False, receive_buffer=4096),
    "settings-unread": Attack((), repeated(h2.settings()), reads=False, receive_buffer=4096),
    "requests-unread": Attack((), on_streams(get), reads=False, receive_buffer=4096),
    "priority": on_held(h2.priority(1, 0)),
    "priority-update": on_held(h2.priority_update(1)),
    "data-empty": on_held(h2.data(1)),
    "data-bytewise": Attack((), bytewise(100), grown_kib=64 * 1024),
    "data-bytewise-of-10": Attack((), bytewise(10)),
    "data-of-padding": on_held(h2.data(1, b"", pad=10)),
    "window-update": Attack((FLOOD,), repeated(h2.window_update(0, 1))),
    "window-update-of-a-stream": on_held(h2.window_update(1, 1)),
    "unknown": Attack((FLOOD,), repeated(h2.frame(0xEE, payload=b"nothing"))),
    # row 6
    "window-0": Attack(("client.timeout.send",), downloads,
                       settings=((h2.INITIAL_WINDOW_SIZE, 0),), codes=(), rest=True,
                       connections=10, grown_kib=96 * 1024),
    "window-bytewise": Attack((), downloads, settings=((h2.INITIAL_WINDOW_SIZE, 1),), credit=1,
                              rest=True, grown_kib=64 * 1024),
    "window-0-opened-bytewise": Attack((FLOOD,), opened_bytewise, grown_kib=64 * 1024,
                                       settings=((h2.INITIAL_WINDOW_SIZE, 0),)),
    "never-reads": Attack(("client.timeout.send",), downloads, reads=False, receive_buffer=4096,
                          settings=((h2.INITIAL_WINDOW_SIZE, 1 << 30),), codes=(), rest=True,
                          first=h2.window_update(0, 1 << 30), connections=10,
                          grown_kib=96 * 1024),
    # counts and stalls
    "streams": Attack((RESETS, FLOOD), on_streams(post, 300)),
    "uploads": Attack(("client.timeout.body",), uploads, codes=(), rest=True, connections=5,
                      grown_kib=96 * 1024),
}

# What stays just below each budget for ever: the attacks' prices, and an ordinary client's.
BELOW = {
    "ordinary": Attack((), on_streams(get), answers=50, first=WIDE),
    "resets-of-half": Attack((), lambda n: [
        get(number) + (h2.rst_stream(number) if at % 2 else b"")
        for at, number in enumerate(numbers(n, 50))], answers=25, first=WIDE),
    "made-resets-of-half": Attack((), lambda n: [
        get(number) + (h2.window_update(number, 0) if at % 2 else b"")
        for at, number in enumerate(numbers(n, 50))], answers=50, first=WIDE),
    "two-pings-a-request": Attack((), on_streams(lambda n: get(n) + h2.ping() * 2),
                                  answers=50, first=WIDE),
    "pings-of-950-in-10s": Attack((), repeated(h2.ping(), 19), per_second=5, connections=50),
    "settings-of-950-in-10s": Attack((), repeated(h2.settings(), 19), per_second=5,
                                     connections=50),
    "heads-of-64k": Attack((), on_streams(lambda n: h2.headers(n, h2.request(
        path=PATH) + ENTRY + h2.indexed(62) * 14), 20), answers=20, first=WIDE,
        grown_kib=128 * 1024),
}


@functools.lru_cache(maxsize=2000)
def burst(kind, name, n):
    """(bytes, frames that a reader would count) of the nth burst."""
    parts = (ATTACKS if kind == "attack" else BELOW)[name].burst(n)
    data = b"".join(parts)
    return data, frames_of(data)


def frames_of(data):
    count = at = 0
    while at + 9 <= len(data):
        count += 1
        at += 9 + int.from_bytes(data[at : at + 3], "big")
    return count
