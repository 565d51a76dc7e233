"""listeners.*.h2: each key says something to a client, or ends a connection that is beyond it."""
import pytest

from harness import h2wire as h2
from harness.h2raw import Conn


@pytest.fixture
def limited(weir, backend):
    """limited(key=value, ...): a connection to a listener with these."""
    made = []

    def make(**keys):
        proxy = weir({"listeners": {"web": {"protocols": ["h2c", "http/1.1"], "h2": keys}}},
                     backend)
        made.append(Conn(proxy.port))
        return proxy, made[-1].handshake()

    yield make
    for conn in made:
        conn.close()


def announced(conn, which):
    return conn.check.settings[which]


def test_streams(limited):
    _, conn = limited(streams=7)
    assert announced(conn, h2.MAX_CONCURRENT_STREAMS) == 7


def test_windows(limited):
    _, conn = limited(stream_window="32KiB", window="128KiB")
    assert announced(conn, h2.INITIAL_WINDOW_SIZE) == 32768
    assert conn.check.send_window == 131072


def test_resets(limited):
    """So many, and half of the streams: 3 + 4 of 8."""
    proxy, conn = limited(resets=3)
    for _ in range(6):
        number = conn.open("POST", "/", end=False)
        conn.send(h2.rst_stream(number))
    conn.ping()
    conn.expect_alive()
    for _ in range(20):
        number = conn.open("POST", "/", end=False)
        conn.send(h2.rst_stream(number))
    conn.expect_connection_error(h2.ENHANCE_YOUR_CALM)
    proxy.logged(end="client.h2.resets")


def test_glitches(limited):
    proxy, conn = limited(glitches=10)
    for _ in range(30):
        conn.send(h2.priority(1))
    conn.expect_connection_error(h2.ENHANCE_YOUR_CALM)
    proxy.logged(end="client.h2.flood")


def test_age(limited):
    """An old connection is asked to end, and is served to its end."""
    _, conn = limited(age="1s")
    assert conn.get().status == 200
    conn.pump(lambda: conn.check.goaways, what="GOAWAY")
    assert conn.check.goaways[0][1] == h2.NO_ERROR
    conn.expect_closed()
