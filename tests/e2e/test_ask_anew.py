"""Requests that wait for one connection and then ask for another: the endpoint chose HTTP/1.1 in
the handshake that all of a burst waited for, no permit is left, a second attempt is under way."""
import socket
import ssl
import threading
import time

import pytest

CALM = {"consecutive_failures": 0, "consecutive_5xx": 0}
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class Origin:
    """An endpoint of HTTP/1.1 over TLS. pause says how long the handshake of its n-th connection
    waits; act answers a path."""

    def __init__(self, leaf, pause, act=lambda conn, path: conn.sendall(OK)):
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(leaf.path, leaf.key_path)
        self.context.set_alpn_protocols(["http/1.1"])
        self.pause, self.act, self.count = pause, act, 0
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.address = "127.0.0.1:%d" % self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                raw, _ = self.listener.accept()
            except OSError:
                return
            self.count += 1
            threading.Thread(target=self.serve, args=(raw, self.count), daemon=True).start()

    def serve(self, raw, number):
        try:
            time.sleep(self.pause(number))
            with self.context.wrap_socket(raw, server_side=True) as conn:
                self.answer(conn)
        except OSError:
            pass  # weir has left

    def answer(self, conn):
        got = b""
        while True:
            while b"\r\n\r\n" not in got:
                more = conn.recv(4096)
                if not more:
                    return
                got += more
            head, got = got.split(b"\r\n\r\n", 1)
            self.act(conn, head.split()[1].decode())


@pytest.fixture
def origin(mint):
    leaf, made = mint.leaf("127.0.0.1"), []

    def make(*args):
        made.append(Origin(leaf, *args))
        return made[-1]
    yield make
    for one in made:
        one.listener.close()


def start(weir, mint, origins, timeouts=None, **pool):
    return weir({"process": {"workers": 1},
                 "pools": {"app": {"endpoints": origins, "outlier": CALM,
                                   "timeouts": timeouts or {},
                                   "tls": {"ca": "file:%s" % mint.root.path}, **pool}},
                 "routes": [{"prefix": "/", "pool": "app"}]})


def all_at_once(count, ask):
    got = []
    threads = [threading.Thread(target=lambda: got.append(ask())) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    return got


def test_the_handshake_that_finds_the_protocol_is_charged_to_nobody(weir, mint, origin):
    """Each of a burst then has timeouts.connect for a handshake of its own."""
    one = origin(lambda number: 1.4)
    front = start(weir, mint, [one.address], {"connect": "2s"}, retry={"attempts": 1})
    assert all_at_once(8, lambda: front.get("/").status) == [200] * 8


def test_what_one_endpoint_took_another_one_is_not_charged(weir, mint, origin):
    slow, quick = origin(lambda number: 1.4), origin(lambda number: 0.8)
    front = start(weir, mint, [slow.address, quick.address], {"connect": "2s"},
                  balance="round_robin", retry={"attempts": 1},
                  connections={"max_per_endpoint": 1, "keepalive": "0s", "queue_timeout": "25s"})
    assert all_at_once(6, lambda: front.get("/").status) == [200] * 6


def test_a_second_attempt_goes_on_where_no_permit_is_left(weir, mint, origin):
    """The first one asks anew in vain: it does not wait in the queue beside the second one."""
    def slow(conn, path):
        time.sleep(1.0)
        conn.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nslow")

    def quick(conn, path):
        if path == "/held":
            time.sleep(20)
            return
        time.sleep(0.7)
        conn.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n")
        for digit in range(10):
            time.sleep(0.2)
            conn.sendall(b"%d" % digit)

    first = origin(lambda number: 0.5 if number == 1 else 0, slow)
    second = origin(lambda number: 0, quick)
    front = start(weir, mint, [{"address": first.address},
                               {"address": second.address, "priority": 1}],
                  connections={"max": 3, "queue_timeout": "10s"},
                  retry={"attempts": 2, "hedge_after": "50ms", "budget": "100%"})
    got = {}

    def ask(path):
        got[path] = front.get(path).body
    threads = [threading.Thread(target=ask, args=(path,)) for path in ("/held", "/digits")]
    for thread in threads:
        thread.start()
        time.sleep(0.02)
    for thread in threads:
        thread.join(30)
    assert got == {"/held": b"slow", "/digits": b"0123456789"}
    assert front.get("/after").status == 200
