"""protocol = "tcp" (packaging/docs/tcp.md): bytes, ends and resets both ways, endpoints and
retries, limits, PROXY headers, TLS in front and behind, reload and drain, what commands say."""
import contextlib
import hashlib
import json
import signal
import socket
import ssl
import threading
import time

import pytest

from harness import proc, proxyheader, tcpsite, udpsite
from harness.tcpsite import connect, exactly, reset, to_end
from harness.weir import eventually, run

MIB = 1 << 20


@pytest.fixture
def endpoint():
    made = []

    def make(*args, **kwargs):
        made.append(tcpsite.Endpoint(*args, **kwargs))
        return made[-1]

    yield make
    for each in made:
        each.stop()


@pytest.fixture
def tcp(weir):
    """A weir with one TCP listener, `db`, and its pool; .port is the listener's."""
    def make(*endpoints, listener=None, pool=None, **more):
        port = proc.free_port()
        conf = {"listeners": {"web": None,
                              "db": {"bind": "127.0.0.1:%d" % port, "protocol": "tcp",
                                     "pool": "db", **(listener or {})}},
                "pools": {"db": {"endpoints": [each if isinstance(each, str) else each.address
                                               for each in endpoints], **(pool or {})}}, **more}
        made = weir(conf)
        made.port = port
        return made
    return make


def dead():
    return "127.0.0.1:%d" % proc.free_port()


# ---- bytes ----

def test_echo(tcp, endpoint):
    site = endpoint()
    proxy = tcp(site)
    with connect(proxy.port) as sock:
        for size in (1, 100, 4096, 70000, MIB):
            block = bytes([size % 251]) * size
            sender = threading.Thread(target=sock.sendall, args=(block,))
            sender.start()
            assert exactly(sock, size) == block
            sender.join()
        assert proxy.metric("weir_tcp_sessions") == 1 and proxy.metric("weir_tunnels") == 0
        mine = sock.getsockname()
    record = proxy.ended("ok")
    total = 1 + 100 + 4096 + 70000 + MIB
    assert record["network.protocol.name"] == "tcp" and record["weir.listener"] == "db"
    assert record["weir.pool"] == "db" and record["weir.endpoint"] == site.address
    assert record["client.address"] == record["network.peer.address"] == mine[0]
    assert record["network.peer.port"] == mine[1] and "server.address" not in record
    assert record["weir.bytes.received"] == record["weir.bytes.sent"] == total
    assert record["weir.attempts"] == 1 and record["weir.duration_ms.connect"] >= 0
    assert record["weir.duration_ms.total"] > 0
    for key in record:
        assert not key.startswith(("http.", "url.")), key
    metrics = proxy.metrics()
    assert metrics.get("weir_tcp_sessions") == 0 and metrics.get("weir_tcp_sessions_total") == 1
    assert metrics.get("weir_tcp_received_bytes_total") == total
    assert metrics.get("weir_tcp_sent_bytes_total") == total
    assert metrics.get("weir_listener_connections_total", listener="db") == 1
    assert metrics.get("weir_upstream_connections") == 0  # none is kept
    assert "http_server_request_duration_seconds_bucket{listener=\"db\"" not in \
        proxy.status_get("/metrics").body.decode()


def test_bytes_count_as_they_move(tcp, endpoint):
    """A session that lasts for days is seen while it does; in the end nothing counts twice."""
    proxy = tcp(endpoint())
    with connect(proxy.port) as sock:
        for count in (1000, 200000):
            before = proxy.metric("weir_tcp_received_bytes_total")
            sender = threading.Thread(target=sock.sendall, args=(bytes(count),))
            sender.start()
            assert exactly(sock, count) == bytes(count)
            sender.join()
            for way in ("received", "sent"):  # a moment after they have moved
                eventually(lambda want=before + count, name="weir_tcp_%s_bytes_total" % way:
                           proxy.metric(name) == want)
    proxy.ended("ok")
    assert proxy.metric("weir_tcp_received_bytes_total") == 201000
    assert proxy.metric("weir_tcp_sent_bytes_total") == 201000


def test_text_log(tcp, endpoint):
    proxy = tcp(endpoint(), log={"access": {"format": "text"}})
    with connect(proxy.port) as sock:
        sock.sendall(b"ping")
        assert exactly(sock, 4) == b"ping"
    eventually(lambda: proxy.access.exists() and b"\n" in proxy.access.read_bytes())
    line = proxy.access.read_text()
    assert line.startswith("127.0.0.1 - - [") and '] "TCP" 0 4 "-"' in line and "end=ok" in line


def test_server_speaks_first(tcp, endpoint):
    """Nobody waits for the client's first byte: the kernel neither."""
    def greet(sock):
        sock.sendall(b"220 hello\r\n")
        tcpsite.echo(sock)
    proxy = tcp(endpoint(greet))
    assert set(tcpsite.deferred(proxy.pid, proxy.port)) == {0}
    with connect(proxy.port) as sock:
        assert exactly(sock, 11) == b"220 hello\r\n"
        sock.sendall(b"QUIT")
        assert exactly(sock, 4) == b"QUIT"
    proxy.ended("ok")


def test_client_speaks_at_once(tcp, endpoint):
    """What comes before the endpoint is there is kept, and goes first."""
    proxy = tcp(endpoint())
    with connect(proxy.port) as sock:
        sock.sendall(b"x" * 300000)
        sock.shutdown(socket.SHUT_WR)
        assert to_end(sock) == b"x" * 300000


def test_half_close_of_the_client(tcp, endpoint):
    """All of the answer comes after the client's FIN."""
    def digest(sock):
        sock.sendall(hashlib.sha256(to_end(sock)).digest() * 1000)
    proxy = tcp(endpoint(digest))
    with connect(proxy.port) as sock:
        sock.sendall(b"y" * 100000)
        sock.shutdown(socket.SHUT_WR)
        assert to_end(sock) == hashlib.sha256(b"y" * 100000).digest() * 1000
    record = proxy.ended("ok")
    assert record["weir.bytes.received"] == 100000 and record["weir.bytes.sent"] == 32000


def test_half_close_of_the_endpoint(tcp, endpoint):
    """The client may go on sending after the endpoint's FIN."""
    got = []

    def listen(sock):
        sock.sendall(b"bye")
        sock.shutdown(socket.SHUT_WR)
        got.append(to_end(sock))
    proxy = tcp(endpoint(listen))
    with connect(proxy.port) as sock:
        assert to_end(sock) == b"bye"
        sock.sendall(b"z" * 200000)
    eventually(lambda: got)
    assert got == [b"z" * 200000]
    proxy.ended("ok")


def test_reset_of_the_client(tcp, endpoint):
    how = []

    def wait(sock):
        sock.sendall(b"!")
        how.append(tcpsite.ended(sock))
    proxy = tcp(endpoint(wait))
    sock = connect(proxy.port)
    sock.sendall(b"abc")
    assert exactly(sock, 1) == b"!"
    reset(sock)
    eventually(lambda: how)
    assert how[0][0] == "reset"
    proxy.ended("client.reset")


def test_reset_of_the_endpoint(tcp, endpoint):
    def cut(sock):
        exactly(sock, 3)
        reset(sock)
    proxy = tcp(endpoint(cut))
    with connect(proxy.port) as sock:
        sock.sendall(b"abc")
        assert tcpsite.ended(sock)[0] == "reset"
    proxy.ended("upstream.reset")


@pytest.mark.parametrize("way", ["down", "up"])
def test_bulk(tcp, endpoint, way):
    """200 MiB, whole."""
    sums = {}

    def send(sock):
        for block, made in tcpsite.stream(200 * MIB):
            sock.sendall(block)
        sums["sent"] = made.hexdigest()
        sock.shutdown(socket.SHUT_WR)

    def take(sock):
        made, count = hashlib.sha256(), 0
        while True:
            data = sock.recv(MIB)
            if not data:
                break
            made.update(data)
            count += len(data)
        sums["got"], sums["count"] = made.hexdigest(), count
    proxy = tcp(endpoint(send if way == "down" else take))
    with connect(proxy.port) as sock:
        (take if way == "down" else send)(sock)
        if way == "up":
            assert to_end(sock) == b""
    eventually(lambda: len(sums) == 3)
    assert sums["got"] == sums["sent"] and sums["count"] == 200 * MIB
    record = proxy.ended("ok")
    key = "weir.bytes.sent" if way == "down" else "weir.bytes.received"
    assert record[key] == 200 * MIB
    spliced = sum(proxy.metric("weir_relay_spliced_bytes_total", worker=str(i)) for i in range(2))
    assert spliced > 0  # it moves inside the kernel


def test_slow_reader(tcp, endpoint):
    """A client that does not read stops the endpoint, and weir holds little meanwhile."""
    sent = [0]

    def flood(sock):
        for block, _ in tcpsite.stream(200 * MIB):
            sock.sendall(block)
            sent[0] += len(block)
        sock.shutdown(socket.SHUT_WR)
    proxy = tcp(endpoint(flood))
    before = proc.memory_kib(proxy.pid)
    with connect(proxy.port) as sock:
        seen = []

        def stands():
            seen.append(sent[0])
            return len(seen) > 50 and seen[-50] == seen[-1] > 0
        eventually(stands)
        assert sent[0] < 100 * MIB
        assert proc.memory_kib(proxy.pid) - before < 8 * 1024
        assert len(to_end(sock)) == 200 * MIB
    proxy.ended("ok")


# ---- endpoints ----

def test_refused_goes_to_the_next(tcp, endpoint):
    down, site = dead(), endpoint()
    proxy = tcp(down, site, pool={"balance": "round_robin"})
    for _ in range(4):
        with connect(proxy.port) as sock:
            sock.sendall(b"ping")
            assert exactly(sock, 4) == b"ping"
    eventually(lambda: len(proxy.all_lines()) == 4)
    twice = [r for r in proxy.all_lines() if r["weir.attempts"] == 2]
    assert twice and all(r["weir.tries"] == down + " upstream.connect.refused" for r in twice)
    assert {r["weir.endpoint"] for r in proxy.all_lines()} == {site.address}
    assert {r["weir.end"] for r in proxy.all_lines()} == {"ok"}
    assert proxy.metric("weir_upstream_connect_failures_total") == len(twice)


def test_all_refuse(tcp):
    """Nothing was begun: the client is told by a reset, and the log why."""
    proxy = tcp(dead(), dead())
    with connect(proxy.port) as sock:
        assert tcpsite.ended(sock) == ("reset", b"")
    record = proxy.ended("upstream.connect.refused")
    assert record["weir.attempts"] == 2 and "http.response.status_code" not in record
    assert record["weir.bytes.sent"] == 0


def test_failures_eject(tcp, endpoint):
    """Endpoints that take no connections go out of service, as with HTTP."""
    down, site = dead(), endpoint()
    proxy = tcp(down, site, pool={"balance": "round_robin",
                                  "outlier": {"consecutive_failures": 2, "eject": "1h"}})

    def ejected():
        with connect(proxy.port) as sock:
            sock.sendall(b"x")
            assert exactly(sock, 1) == b"x"
        return proxy.metric("weir_upstream_ejections_total") == 1
    eventually(ejected)
    assert proxy.metric("weir_endpoint_up", pool="db", endpoint=down) == 0


def test_breaker(tcp):
    proxy = tcp(dead(), pool={"breaker": {"failure_rate": "50%", "min_requests": 3, "open": "1h",
                                          "max_open": "1h"},
                              "outlier": {"consecutive_failures": 0}})

    def is_open():
        with connect(proxy.port) as sock:
            assert tcpsite.ended(sock)[0] == "reset"
        return any(r["weir.end"] == "upstream.breaker.open" for r in proxy.all_lines())
    eventually(is_open)
    proxy.ended("upstream.breaker.open")


def test_health(tcp, endpoint):
    """A TCP check finds the one that is down; it gets no connection."""
    down, site = dead(), endpoint()
    proxy = tcp(down, site, pool={"health": {"protocol": "tcp", "interval": "50ms",
                                             "unhealthy": 1, "healthy": 1},
                                  "balance": "round_robin"})
    eventually(lambda: proxy.metric("weir_endpoint_up", pool="db", endpoint=down) == 0 and
               proxy.metric("weir_endpoint_up", pool="db", endpoint=site.address) == 1)
    for _ in range(4):
        with connect(proxy.port) as sock:
            sock.sendall(b"x")
            assert exactly(sock, 1) == b"x"
    eventually(lambda: len(proxy.all_lines()) == 4)
    assert {r["weir.attempts"] for r in proxy.all_lines()} == {1}


def test_nobody_is_healthy(tcp):
    """What clients of a pool without an endpoint get, and what the log says of them."""
    proxy = tcp(dead(), pool={"health": {"protocol": "tcp", "interval": "50ms",
                                         "unhealthy": 1, "healthy": 1}})
    proxy.stderr_has("marked down, 0 of 1 in service: clients are reset (upstream.none_healthy)")
    with connect(proxy.port) as sock:
        assert tcpsite.ended(sock) == ("reset", b"")
    proxy.ended("upstream.none_healthy")
    proxy.change(listeners={"dns": {"bind": "127.0.0.1:%d" % udpsite.free_port(),
                                    "protocol": "udp", "pool": "db"}},
                 pools={"db": {"endpoints": [dead()]}})
    proxy.reload()
    proxy.stderr_has("clients are reset, datagrams dropped (upstream.none_healthy)")


def test_least_request(tcp, endpoint):
    """Connections count as long as they last."""
    sites = [endpoint(), endpoint()]
    proxy = tcp(*sites)
    with contextlib.ExitStack() as stack:
        for i in range(6):
            sock = stack.enter_context(connect(proxy.port))
            sock.sendall(b"x")
            assert exactly(sock, 1) == b"x"
        counts = [proxy.metric("weir_endpoint_requests_inflight", pool="db", endpoint=s.address)
                  for s in sites]
        assert sum(counts) == 6 and min(counts) >= 1


CLIENTS = ["127.0.0.%d" % i for i in range(1, 4)]


def places_of(proxy, port, clients=CLIENTS, sessions=4):
    """client -> the endpoints of its sessions, all of which are open at once."""
    before = len(proxy.all_lines())
    with contextlib.ExitStack() as stack:
        for _ in range(sessions):
            for source in clients:
                sock = stack.enter_context(connect(port, source_address=(source, 0)))
                sock.sendall(b"x")
                assert exactly(sock, 1) == b"x"
    records = eventually(lambda: len(proxy.all_lines()) == before + sessions * len(clients) and
                         proxy.all_lines()[before:])
    return {source: {r["weir.endpoint"] for r in records if r["client.address"] == source}
            for source in clients}


def test_hash_by_client(tcp, endpoint):
    """A client is kept where it is, however many sessions it has there already."""
    sites = [endpoint() for _ in range(3)]
    proxy = tcp(*sites, pool={"balance": "ring", "hash": "client_ip"})
    places = places_of(proxy, proxy.port)
    assert {len(each) for each in places.values()} == {1}, places
    assert places_of(proxy, proxy.port) == places


def test_hash_by_client_bounded(tcp, endpoint):
    """A bound that the file sets binds sessions too, also where it is what requests have."""
    pool = {"balance": "ring", "hash": "client_ip", "bounded_load": "125%"}
    proxy = tcp(*[endpoint() for _ in range(3)], pool=pool)
    assert len(places_of(proxy, proxy.port, CLIENTS[:1], 12)[CLIENTS[0]]) == 3
    assert 'bounded_load = "125%";' in run("dump", "-c", proxy.path).stdout
    proxy.change(pools={"db": {"bounded_load": None}})
    proxy.reload()
    assert len(places_of(proxy, proxy.port, CLIENTS[:1], 12)[CLIENTS[0]]) == 1
    assert 'bounded_load = "0%";  # default' in run("dump", "--all", "-c", proxy.path).stdout


def test_queue(tcp, endpoint):
    """Beyond the pool's cap clients wait, and are served when another has left."""
    proxy = tcp(endpoint(), pool={"connections": {"max_per_endpoint": 1, "queue_timeout": "1m"}})
    first = connect(proxy.port)
    first.sendall(b"1")
    assert exactly(first, 1) == b"1"
    with connect(proxy.port) as second:
        second.sendall(b"2")
        eventually(lambda: proxy.metric("weir_upstream_queued") == 1)
        first.close()
        assert exactly(second, 1) == b"2"
    eventually(lambda: len(proxy.all_lines()) == 2)
    assert [r["weir.end"] for r in proxy.all_lines()] == ["ok", "ok"]
    waited = [r for r in proxy.all_lines() if "weir.duration_ms.queue" in r]
    assert len(waited) == 1  # which line comes first is nobody's promise: workers write their own


@pytest.mark.parametrize("key", ["max", "max_per_endpoint"])
def test_a_reload_gives_room(tcp, endpoint, key):
    """Who waits is served as soon as a reload raises the cap; who comes then, too."""
    proxy = tcp(endpoint(), pool={"connections": {key: 1, "queue_timeout": "10m"}})
    with connect(proxy.port) as first:
        first.sendall(b"1")
        assert exactly(first, 1) == b"1"  # before the other one comes: either might be the first
        with connect(proxy.port) as second:
            second.sendall(b"2")
            eventually(lambda: proxy.metric("weir_upstream_queued") == 1)
            proxy.change(pools={"db": {"connections": {key: 5}}})
            proxy.reload()
            assert exactly(second, 1) == b"2"
            with connect(proxy.port) as third:
                third.sendall(b"3")
                assert exactly(third, 1) == b"3"


def test_queue_timeout_and_reset(tcp, endpoint):
    proxy = tcp(endpoint(), pool={"connections": {"max_per_endpoint": 1,
                                                   "queue_timeout": "200ms"}})
    with connect(proxy.port) as first:
        first.sendall(b"1")
        assert exactly(first, 1) == b"1"
        with connect(proxy.port) as second:
            assert tcpsite.ended(second)[0] == "reset"
        proxy.ended("upstream.queue.timeout")
        proxy.change(pools={"db": {"connections": {"queue_timeout": "10m"}}})
        proxy.reload()
        third = connect(proxy.port)
        eventually(lambda: proxy.metric("weir_upstream_queued") == 1)
        reset(third)
        eventually(lambda: proxy.metric("weir_upstream_queued") == 0)
    eventually(lambda: len(proxy.all_lines()) == 3)


@pytest.mark.parametrize("size", [100, 16384, 60000])
def test_reset_of_one_that_sent_much_in_the_queue(tcp, endpoint, size):
    """What is held of it is full, and nothing more is read: its place is free all the same."""
    proxy = tcp(endpoint(), pool={"connections": {"max_per_endpoint": 1, "queue_timeout": "10m"}})
    with connect(proxy.port) as first:
        first.sendall(b"1")
        assert exactly(first, 1) == b"1"
        second = connect(proxy.port)
        second.sendall(b"x" * size)
        eventually(lambda: proxy.metric("weir_upstream_queued") == 1)
        time.sleep(0.3)  # all that is read of it was
        reset(second)
        eventually(lambda: proxy.metric("weir_upstream_queued") == 0)
    eventually(lambda: len(proxy.all_lines()) == 2)


def test_connect_timeout(tcp):
    """An endpoint whose queue of connections is full does not answer."""
    with socket.socket() as full, contextlib.ExitStack() as stack:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for _ in range(4):
            sock = stack.enter_context(socket.socket())
            sock.setblocking(False)
            sock.connect_ex(full.getsockname())
        proxy = tcp("127.0.0.1:%d" % full.getsockname()[1],
                    pool={"timeouts": {"connect": "200ms"}})
        with connect(proxy.port) as sock:
            assert tcpsite.ended(sock)[0] == "reset"
        proxy.ended("upstream.connect.timeout")


# ---- limits ----

def test_idle(tcp, endpoint):
    how = []
    proxy = tcp(endpoint(lambda sock: how.append(tcpsite.ended(sock))),
                listener={"timeouts": {"tunnel": "300ms"}})
    with connect(proxy.port) as sock:
        sock.sendall(b"x")
        assert tcpsite.ended(sock)[0] == "reset"
    proxy.ended("client.timeout.tunnel")
    eventually(lambda: how)
    assert how[0] == ("reset", b"x")


def test_networks(tcp, endpoint):
    proxy = tcp(endpoint(), listener={"deny": ["127.0.0.0/8"]})
    with connect(proxy.port) as sock:
        tcpsite.ended(sock)
    record = proxy.ended("proxy.denied.peer")
    assert record["network.protocol.name"] == "tcp" and "url.scheme" not in record


def test_connections_per_client(tcp, endpoint):
    proxy = tcp(endpoint(), listener={"connections_per_client": 1})
    with connect(proxy.port) as first:
        first.sendall(b"1")
        assert exactly(first, 1) == b"1"
        with connect(proxy.port) as second:
            tcpsite.ended(second)
        proxy.ended("proxy.limit.client_connections")


def test_max_connections(tcp, endpoint):
    """One worker, one connection: who comes then is refused, and served when there is room."""
    proxy = tcp(endpoint(), process={"workers": 1, "max_connections": 1})
    with connect(proxy.port) as first:
        first.sendall(b"1")
        assert exactly(first, 1) == b"1"
        with connect(proxy.port) as second:
            assert tcpsite.ended(second)[0] == "reset"
        proxy.ended("proxy.limit.connections")

    def served():
        with connect(proxy.port) as third:
            try:
                third.sendall(b"3")
                return third.recv(1) == b"3"
            except (ConnectionResetError, BrokenPipeError):
                return False
    eventually(served)


# ---- PROXY headers ----

@pytest.mark.parametrize("version", ["v1", "v2"])
def test_proxy_header_in_and_out(tcp, endpoint, version):
    headers = []

    def behind(sock):
        def read(count):
            data = exactly(sock, count)
            assert len(data) == count
            return data
        headers.append(proxyheader.read(read))
        tcpsite.echo(sock)
    proxy = tcp(endpoint(behind), pool={"proxy_protocol": version},
                listener={"proxy_protocol": True, "trusted_proxies": ["127.0.0.0/8"]})
    with connect(proxy.port) as sock:
        sock.sendall(proxyheader.v2("203.0.113.9") + b"with the header")
        assert exactly(sock, 15) == b"with the header"
    with connect(proxy.port) as sock:
        sock.sendall(proxyheader.v2("203.0.113.9"))
        eventually(lambda: len(headers) == 2)  # without a byte behind it
        sock.sendall(b"later")
        assert exactly(sock, 5) == b"later"
    assert [h.src for h in headers] == [("203.0.113.9", 56324)] * 2
    eventually(lambda: len(proxy.all_lines()) == 2)
    ids = {h.get(5) for h in headers}
    told = {line.get("weir.unique_id") for line in proxy.all_lines()}
    assert told == {each.decode() for each in ids} if version == "v2" else told == {None}
    assert len(ids) == (2 if version == "v2" else 1)
    record = proxy.ended("ok")
    assert record["client.address"] == "203.0.113.9"
    assert record["network.peer.address"] == "127.0.0.1"


def test_proxy_header_missing(tcp, endpoint):
    proxy = tcp(endpoint(), listener={"proxy_protocol": True,
                                      "trusted_proxies": ["127.0.0.0/8"]})
    with connect(proxy.port) as sock:
        sock.sendall(b"hello, who is there\r\n")
        tcpsite.ended(sock)
    assert proxy.ended("client.proxy_protocol.missing")["weir.reason"] == "no PROXY header"


def test_no_proxy_header_where_the_server_speaks_first(tcp, endpoint):
    """Who says nothing for the time that a header has sends none; check says what that costs."""
    def greet(sock):
        sock.sendall(b"220 hello\r\n")
        tcpsite.echo(sock)
    proxy = tcp(endpoint(greet), listener={"proxy_protocol": "optional",
                                           "trusted_proxies": ["10.0.0.0/8"],
                                           "timeouts": {"header": "300ms"}})
    checked = run("check", "-c", proxy.path)
    assert checked.returncode == 0 and "W0445" in checked.stdout + checked.stderr, checked
    with connect(proxy.port) as sock:
        assert exactly(sock, 11) == b"220 hello\r\n"
        sock.sendall(b"QUIT")
        assert exactly(sock, 4) == b"QUIT"
    assert proxy.ended("ok")["client.address"] == "127.0.0.1"
    with connect(proxy.port) as sock:  # one that was begun is waited for, and is not the server's
        sock.sendall(proxyheader.v2("203.0.113.9")[:14])
        assert tcpsite.ended(sock)[1] == b""
    proxy.ended("client.proxy_protocol.timeout")
    proxy.change(listeners={"db": {"proxy_protocol": True, "trusted_proxies": ["127.0.0.0/8"]}})
    assert "W0445" not in run("check", "-c", proxy.path).stdout
    proxy.reload()
    with connect(proxy.port) as sock:
        assert tcpsite.ended(sock)[1] == b""
    proxy.ended("client.proxy_protocol.timeout")


OPTIONAL = {"proxy_protocol": "optional", "trusted_proxies": ["127.0.0.0/8"],
            "timeouts": {"header": "300ms"}}
NO_HEADERS = pytest.mark.parametrize("first", [
    b"\r\n", b"P", b"PROXY", proxyheader.SIGNATURE[:11]])
HEADERS = pytest.mark.parametrize("first", [
    b"PROXY ", b"PROXY TCP4 1", proxyheader.SIGNATURE, proxyheader.v2("203.0.113.9")[:14]])


@NO_HEADERS
def test_words_that_headers_begin_with(tcp, endpoint, first):
    """Whoever has said no more of a header than others may mean by it when the time is over, or
    ends there, is served: all of it goes on, and its end."""
    proxy = tcp(endpoint(), listener=OPTIONAL)
    with connect(proxy.port) as sock:
        sock.sendall(first)
        assert exactly(sock, len(first)) == first
        sock.sendall(b"more")
        assert exactly(sock, 4) == b"more"
    proxy.ended("ok", client__address="127.0.0.1")
    proxy.change(listeners={"db": {"timeouts": {"header": "1h"}}})
    proxy.reload()
    with connect(proxy.port) as sock:
        sock.sendall(first)
        sock.shutdown(socket.SHUT_WR)
        assert to_end(sock) == first
    eventually(lambda: [r["weir.end"] for r in proxy.all_lines()] == ["ok", "ok"])


@HEADERS
def test_headers_that_were_begun(tcp, endpoint, first):
    proxy = tcp(endpoint(), listener=OPTIONAL)
    with connect(proxy.port) as sock:
        sock.sendall(first)
        sock.shutdown(socket.SHUT_WR)
        assert tcpsite.ended(sock)[1] == b""
    proxy.ended("client.proxy_protocol.truncated")
    with connect(proxy.port) as sock:
        sock.sendall(first)
        assert tcpsite.ended(sock)[1] == b""
    proxy.ended("client.proxy_protocol.timeout")


def test_proxy_header_and_no_endpoint(tcp):
    """The session ends inside the reading of the header."""
    proxy = tcp("127.0.0.1:1", pool={"breaker": {"failure_rate": "1%", "min_requests": 1,
                                                 "open": "1h", "max_open": "1h"}},
                listener={"proxy_protocol": True, "trusted_proxies": ["127.0.0.0/8"]})
    for _ in range(8):
        with connect(proxy.port) as sock:
            sock.sendall(proxyheader.v2("203.0.113.9") + b"some bytes behind it")
            assert tcpsite.ended(sock)[0] == "reset"
    proxy.ended("upstream.breaker.open")


# ---- TLS ----

def tls_listener(authority, **more):
    return {"tls": {"certificates": [authority.leaf(["db.example"])]}, **more}


@pytest.mark.parametrize("alpn", [None, ["postgresql"], ["h2", "http/1.1"]])
def test_tls_in_front(tcp, endpoint, authority, alpn):
    """Whatever ALPN a client offers: none is chosen, it is not for us to say what is spoken."""
    proxy = tcp(endpoint(), listener=tls_listener(authority))
    context = authority.client_context(alpn=alpn)
    with context.wrap_socket(connect(proxy.port), server_hostname="db.example") as sock:
        assert sock.selected_alpn_protocol() is None
        for _ in range(10):  # in turn: Python's TLS sockets are for one thread
            sock.sendall(b"t" * 50000)
            assert exactly(sock, 50000) == b"t" * 50000
        sock.unwrap()
    record = proxy.ended("ok")
    assert record["tls.protocol.version"] == "1.3" and record["weir.bytes.sent"] == 500000
    assert record["server.address"] == "db.example"
    assert "weir.duration_ms.tls" in record


def test_refused_name_is_logged(tcp, endpoint, authority):
    proxy = tcp(endpoint(), listener=tls_listener(authority))
    context = authority.client_context()
    context.check_hostname = False
    with connect(proxy.port) as sock, pytest.raises(ssl.SSLError):
        context.wrap_socket(sock, server_hostname="Other.example")
    assert proxy.ended("client.tls.unrecognized_name")["server.address"] == "other.example"


def test_the_total_holds_the_handshake(tcp, endpoint, authority):
    """A slow one, of a session that is short."""
    proxy = tcp(endpoint(), listener=tls_listener(authority))
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = authority.client_context().wrap_bio(incoming, outgoing, server_hostname="db.example")
    with connect(proxy.port) as sock:
        while True:
            try:
                tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                out = outgoing.read()
            if out:
                sock.sendall(out[:50])
                eventually(lambda: proxy.metric("weir_downstream_connections") == 1)
                time.sleep(0.3)  # from the accept on, which is behind the first byte
                sock.sendall(out[50:])
            incoming.write(sock.recv(65536))
        sock.sendall(outgoing.read())
        tls.write(b"ping")
        sock.sendall(outgoing.read())
        sock.recv(65536)
    record = proxy.logged()
    assert 300 <= record["weir.duration_ms.tls"] <= record["weir.duration_ms.total"]


def test_tls_server_speaks_first(tcp, endpoint, authority):
    proxy = tcp(endpoint(lambda sock: sock.sendall(b"welcome")), listener=tls_listener(authority))
    context = authority.client_context()
    with context.wrap_socket(connect(proxy.port), server_hostname="db.example") as sock:
        assert exactly(sock, 7) == b"welcome"


def test_tls_without_close_notify(tcp, endpoint, authority):
    """A FIN alone is no end that TLS vouches for: the endpoint sees a reset."""
    how = []

    def serve(sock):
        sock.sendall(b"!")
        how.append(tcpsite.ended(sock))
    proxy = tcp(endpoint(serve), listener=tls_listener(authority))
    context = authority.client_context()
    with context.wrap_socket(connect(proxy.port), server_hostname="db.example") as sock:
        assert exactly(sock, 1) == b"!"
    eventually(lambda: how)
    assert how[0][0] == "reset"
    proxy.ended("client.closed")


def test_plain_to_tls(tcp, endpoint, authority):
    proxy = tcp(endpoint(), listener=tls_listener(authority))
    with connect(proxy.port) as sock:
        sock.sendall(b"GET / HTTP/1.1\r\n\r\n")
        assert b"HTTP" not in tcpsite.ended(sock)[1]
    proxy.ended("client.tls.plain_http")


def test_tls_handshake_timeout(tcp, endpoint, authority):
    site = endpoint()
    proxy = tcp(site, listener=tls_listener(authority, timeouts={"handshake": "200ms"}))
    with connect(proxy.port) as sock:
        sock.sendall(b"\x16")
        tcpsite.ended(sock)
    proxy.ended("client.tls.timeout")
    assert not site.sockets


@pytest.mark.parametrize("first", ["client", "server"])
def test_tls_behind(tcp, endpoint, authority, first):
    """The endpoint is verified, offered no ALPN, and may be the one to speak first."""
    leaf = authority.leaf(["db.internal"])
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(leaf["cert"][5:], leaf["key"][5:])
    context.set_alpn_protocols(["h2", "http/1.1"])
    chosen = []

    def serve(sock):
        chosen.append(sock.selected_alpn_protocol())
        if first == "server":
            sock.sendall(b"220 ready")
        tcpsite.exactly(sock, 4)
        sock.sendall(b"pong" * 50000)
        sock.unwrap()
    proxy = tcp(endpoint(serve, context=context),
                pool={"tls": {"ca": "file:%s" % authority.path, "sni": "db.internal"}})
    with connect(proxy.port) as sock:
        if first == "server":
            assert exactly(sock, 9) == b"220 ready"
        sock.sendall(b"ping")
        assert exactly(sock, 200000) == b"pong" * 50000
        assert to_end(sock) == b""
    proxy.ended("ok")
    assert chosen == [None]
    assert proxy.metric("weir_upstream_tls_handshakes_total", resumed="false") == 1


def test_tls_behind_untrusted(tcp, endpoint, authority, work):
    leaf = authority.leaf(["other.internal"])
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(leaf["cert"][5:], leaf["key"][5:])
    proxy = tcp(endpoint(context=context),
                pool={"tls": {"ca": "file:%s" % authority.path, "sni": "db.internal"}})
    with connect(proxy.port) as sock:
        assert tcpsite.ended(sock)[0] == "reset"
    assert proxy.ended("upstream.tls.name_mismatch")["weir.attempts"] == 1


# ---- reload and drain ----

def test_reload(tcp, endpoint):
    """A session lives through reloads, its pool's change too; new ones go where the file says."""
    old, new = endpoint(), endpoint()
    proxy = tcp(old)
    with connect(proxy.port) as sock:
        sock.sendall(b"a")
        assert exactly(sock, 1) == b"a"
        proxy.change(pools={"db": {"endpoints": [new.address]}})
        proxy.reload()
        sock.sendall(b"b")
        assert exactly(sock, 1) == b"b"
        with connect(proxy.port) as other:
            other.sendall(b"c")
            assert exactly(other, 1) == b"c"
        assert len(old.sockets) == len(new.sockets) == 1
    proxy.ended("ok")


def test_protocol_changes(tcp, endpoint, new_backend):
    """The same socket serves HTTP after one reload and TCP after the next; a session stays."""
    proxy = tcp(endpoint())
    backend = new_backend()
    with connect(proxy.port) as sock:
        sock.sendall(b"a")
        assert exactly(sock, 1) == b"a"
        proxy.change(listeners={"db": {"protocol": None, "pool": None}},
                     pools={"db": None, "app": {"endpoints": [backend.address]}},
                     routes=[{"prefix": "/", "pool": "app"}])
        proxy.reload()
        assert proxy.get("/x").status == 200
        assert 0 not in tcpsite.deferred(proxy.pid, proxy.port)
        sock.sendall(b"b")
        assert exactly(sock, 1) == b"b"
    proxy.conf.pop("routes")
    proxy.change(listeners={"db": {"protocol": "tcp", "pool": "app"}})
    proxy.reload()
    eventually(lambda: set(tcpsite.deferred(proxy.pid, proxy.port)) == {0})


def test_removed_listener(tcp, endpoint):
    """Its sessions end when the drain time is over, not before."""
    proxy = tcp(endpoint(), process={"drain": "1s"})
    with connect(proxy.port) as sock:
        sock.sendall(b"a")
        assert exactly(sock, 1) == b"a"
        proxy.change(listeners={"db": None, "web": {"bind": "127.0.0.1:%d" % proc.free_port()}},
                     pools={"db": None})
        proxy.reload()
        sock.sendall(b"b")
        assert exactly(sock, 1) == b"b"
        assert tcpsite.ended(sock)[0] == "reset"
    proxy.ended("proxy.drain.tunnel")


def test_removed_listener_and_its_queue(tcp, endpoint):
    """Who waits in the pool's queue has the same drain time, not one of its own when its turn
    comes: nobody is served after it."""
    proxy = tcp(endpoint(), pool={"connections": {"max": 1, "queue_timeout": "10m"}},
                process={"drain": "1s", "workers": 1})
    with contextlib.ExitStack() as stack:
        socks = [stack.enter_context(connect(proxy.port)) for _ in range(4)]
        for sock in socks:
            sock.sendall(b"a")
        eventually(lambda: proxy.metric("weir_upstream_queued") == 3)
        proxy.change(listeners={"db": None, "web": {"bind": "127.0.0.1:%d" % proc.free_port()}},
                     pools={"db": None})
        proxy.reload()
        assert sorted(tcpsite.ended(sock)[1] for sock in socks) == [b"", b"", b"", b"a"]
        eventually(lambda: len(proxy.all_lines()) == 4)
    ends = sorted(line["weir.end"] for line in proxy.all_lines())
    assert ends == ["proxy.drain"] * 3 + ["proxy.drain.tunnel"]


def leave(proxy, how, **more):
    """The socket of `db` goes: with its listener and pool, or as that is elsewhere now."""
    if how == "removed":
        proxy.change(listeners={"db": None}, pools={"db": None}, **more)
    else:
        elsewhere = "127.0.0.1:%d" % proc.free_port()
        proxy.change(listeners={"db": {"bind": elsewhere}}, **more)
    proxy.reload()


WAYS = pytest.mark.parametrize("how", ["removed", "elsewhere"])
LIMIT, OVER = 4, 16  # weir accepts so many beyond the limit, to tell them of it


@WAYS
def test_who_is_queued_at_a_socket_that_goes(tcp, endpoint, how):
    """Whom the system had accepted for it is served, as long as those whom weir had accepted."""
    web = {"bind": "127.0.0.1:%d" % proc.free_port()}
    proxy = tcp(endpoint(), process={"drain": "2s", "workers": 1, "max_connections": LIMIT})
    proxy.change(listeners={"web": web})
    proxy.reload()
    with contextlib.ExitStack() as stack:
        for _ in range(LIMIT + OVER):  # heads that come to no end: nobody else is accepted
            sock = stack.enter_context(connect(int(web["bind"].split(":")[1])))
            sock.sendall(b"GET")
        eventually(lambda: proxy.metric("weir_downstream_connections") == LIMIT + OVER)
        queued = [stack.enter_context(connect(proxy.port)) for _ in range(3)]
        for sock in queued:
            sock.sendall(b"a")
        leave(proxy, how, process={"max_connections": 100})
        assert [exactly(sock, 1) for sock in queued] == [b"a"] * 3
        assert [tcpsite.ended(sock)[0] for sock in queued] == ["reset"] * 3
    eventually(lambda: sum(line["weir.end"] == "proxy.drain.tunnel" for line in
                           proxy.all_lines()) == 3)


@WAYS
def test_sessions_of_a_socket_that_goes(tcp, endpoint, how):
    """They end when the drain time is over, without another reload. One worker: of two the second
    may serve who waits, for the moment until its own time is over."""
    proxy = tcp(endpoint(), process={"drain": "1s", "workers": 1},
                pool={"connections": {"max": 1, "queue_timeout": "10m"}})
    proxy.change(listeners={"web": {"bind": "127.0.0.1:%d" % proc.free_port()}})
    with connect(proxy.port) as sock:
        sock.sendall(b"a")
        assert exactly(sock, 1) == b"a"
        with connect(proxy.port) as waits:
            eventually(lambda: proxy.metric("weir_upstream_queued") == 1)
            leave(proxy, how)
            sock.sendall(b"b")
            assert exactly(sock, 1) == b"b"
            assert {tcpsite.ended(each)[0] for each in (sock, waits)} == {"reset"}
    eventually(lambda: sorted(line["weir.end"] for line in proxy.all_lines())
               == ["proxy.drain", "proxy.drain.tunnel"])


def test_drain(tcp, endpoint):
    """SIGTERM: sessions may end by themselves until the drain time is over."""
    proxy = tcp(endpoint(), process={"drain": "1m"})
    with connect(proxy.port) as sock, connect(proxy.port) as other:
        for each in (sock, other):
            each.sendall(b"a")
            assert exactly(each, 1) == b"a"
        proxy.signal(signal.SIGTERM)
        eventually(lambda: proxy.metric("weir_draining") == 1)
        for each in (sock, other):
            each.sendall(b"b")
            assert exactly(each, 1) == b"b"
    eventually(lambda: len(proxy.all_lines()) == 2)
    proxy.stop()
    assert [r["weir.end"] for r in proxy.all_lines()] == ["ok", "ok"]


def test_drain_deadline(tcp, endpoint):
    proxy = tcp(endpoint(), process={"drain": "300ms"})
    with connect(proxy.port) as sock:
        sock.sendall(b"a")
        assert exactly(sock, 1) == b"a"
        proxy.signal(signal.SIGTERM)
        assert tcpsite.ended(sock)[0] == "reset"
        proxy.stop()
    assert proxy.all_lines()[-1]["weir.end"] == "proxy.drain.tunnel"


# ---- commands ----

IDLE = [
    ({"timeouts": {"header": "3s"}}, {"proxy_protocol": True, "trusted_proxies": "127.0.0.1"},
     "timeouts.header"),
    ({"trusted_proxies": "127.0.0.1"}, {"connections_per_client": 5}, "trusted_proxies"),
    ({"timeouts": {"handshake": "3s"}}, {"protocol": "tls_passthrough"}, "timeouts.handshake"),
]


@pytest.mark.parametrize("idle, with_it, key", IDLE)
def test_idle_keys(weir, idle, with_it, key):
    """What means something together with another key alone is refused without it."""
    base = {"bind": "127.0.0.1:5432", "protocol": "tcp", "pool": "db"}

    def check(listener):
        proxy = weir({"listeners": {"web": None, "db": listener},
                      "pools": {"db": {"endpoints": ["127.0.0.1:5433"]}}}, start=False)
        return run("check", "--text", proxy.path)
    result = check({**base, **idle})
    assert result.returncode == 78 and "W0181" in result.stdout
    assert key + " means nothing" in result.stdout, result.stdout
    result = check({**base, **idle, **with_it})
    assert result.returncode == 0, result.stdout


def test_commands(tcp, endpoint):
    site, other = endpoint(), endpoint()
    proxy = tcp(site)
    running = ["--admin", proxy.admin]
    text = run("explain", "GET", "/", "--listener", "db", "--text", *running).stdout
    assert "TCP: the connection goes to pool db" in text and site.address in text
    for where in (running, ["-c", proxy.path]):
        told = json.loads(run("explain", "GET", "/", "--listener", "db", "--json", *where).stdout)
        assert told["action"] == "tcp" and told["pool"]["name"] == "db" and told["end"] == "ok"
        assert told["pool"]["endpoints"][0]["address"] == site.address
    refused = run("explain", "GET", "http://127.0.0.1:%d/" % proxy.port, *running)
    assert refused.returncode != 0  # nobody serves that URL
    listeners = json.loads(run("status", "--json", *running).stdout)["listeners"]
    assert listeners[0]["protocol"] == "tcp" and listeners[0]["pool"] == "db"
    dumped = proxy.directory / "dumped.conf"
    dumped.write_text(run("dump", "-c", proxy.path).stdout)
    assert 'protocol = "tcp"' in dumped.read_text()
    assert run("check", dumped).returncode == 0, run("check", dumped).stderr
    proxy.change(pools={"two": {"endpoints": [other.address]}}, listeners={"db": {"pool": "two"}})
    plan = run("plan", proxy.path, "--text", *running)
    assert "~ listener db: pool two" in plan.stdout, plan
    proxy.change(listeners={"db": {"protocol": None, "pool": None}},
                 routes=[{"prefix": "/", "pool": "db"}])
    plan = run("plan", proxy.path, "--text", *running)
    assert "~ listener db: protocol" in plan.stdout, plan
