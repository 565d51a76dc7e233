"""Real protocols behind protocol = "udp": DNS, with a server of the harness and dig where it is
installed, and datagrams as QUIC sends them: connection ids, up to the longest, many clients."""
import random
import shutil
import socket
import struct
import subprocess
import threading

import pytest

from harness import dns, udpsite
from harness.dns import Dns
from harness.udpsite import connect
from harness.weir import eventually

# ---- DNS ----


@pytest.fixture
def resolver(weir):
    """A weir on one port for UDP and TCP before two servers with the same zone."""
    servers = [Dns(), Dns()]
    for server in servers:
        server.set("a.example", a=["192.0.2.1"], aaaa=["2001:db8::1"])
        server.set("long.example", a=["192.0.2.%d" % i for i in range(1, 100)])
    port = udpsite.free_port()
    bind = {"bind": "127.0.0.1:%d" % port, "pool": "dns"}
    made = weir({
        "process": {"drain": "100ms"},
        "listeners": {"web": None, "tcp": {"protocol": "tcp", **bind},
                      "udp": {"protocol": "udp", "udp": {"responses": 1},
                              "timeouts": {"idle": "4s"}, **bind}},
        "pools": {"dns": {"endpoints": [server.address for server in servers],
                          "outlier": {"consecutive_failures": 1, "eject": "1h"},
                          "balance": "round_robin"}}})
    made.port, made.servers = port, servers
    yield made
    for server in servers:
        server.stop()


def question(name, kind, number):
    return struct.pack("!HHHHHH", number, 0x0100, 1, 0, 0, 0) + dns.encode_name(name) + \
        struct.pack("!HH", kind, 1)


def resolve(sock, name, kind=dns.A, number=7):
    sock.send(question(name, kind, number))
    answer = sock.recv(4096)
    assert struct.unpack("!H", answer[:2])[0] == number
    return answer


def test_dns(resolver):
    """A session for each question, over as soon as it is answered."""
    for number in range(1, 41):
        with connect(resolver.port) as sock:
            answer = resolve(sock, "a.example", number=number)
            assert answer.endswith(bytes([192, 0, 2, 1])) and answer[3] & 15 == 0
    eventually(lambda: resolver.metric("weir_udp_sessions") == 0)
    eventually(lambda: len(resolver.all_lines()) == 40)
    for record in resolver.all_lines():
        assert record["weir.end"] == "ok" and record["weir.datagrams.sent"] == 1
    assert [server.count("a.example") for server in resolver.servers] == [20, 20] or \
        min(server.count("a.example") for server in resolver.servers) >= 10  # two workers' turns


def test_many_questions_of_one_socket(resolver):
    """As resolvers ask: at once, from one port; every answer comes."""
    with connect(resolver.port) as sock:
        for number in range(50):
            sock.send(question("a.example", dns.A if number % 2 else dns.AAAA, number))
        numbers = {struct.unpack("!H", sock.recv(4096)[:2])[0] for _ in range(50)}
    assert numbers == set(range(50))
    eventually(lambda: resolver.metric("weir_udp_sessions") == 0)


def test_a_server_that_is_silent_is_left(resolver):
    resolver.servers[0].behave("*", "drop")
    resolver.servers[0].behave("a.example", "drop")

    def left():
        with connect(resolver.port) as sock:
            sock.send(question("a.example", dns.A, 1))
        return resolver.metric("weir_upstream_ejections_total") == 1
    eventually(left)
    resolver.ended("upstream.no_answer")
    with connect(resolver.port) as sock:
        resolve(sock, "a.example")


def test_dig(resolver):
    if not shutil.which("dig"):
        pytest.skip("dig is not installed: nothing is known of it behind weir")

    def dig(*words):
        return subprocess.run(["dig", "@127.0.0.1", "-p", str(resolver.port), "+short", "+tries=1",
                               *words], capture_output=True, text=True, timeout=60,
                              check=True).stdout.split()
    assert dig("a.example", "A") == ["192.0.2.1"]
    assert dig("a.example", "AAAA") == ["2001:db8::1"]
    assert len(dig("long.example", "A")) == 99  # truncated, and asked for again by TCP
    assert {r["weir.listener"] for r in resolver.all_lines()} <= {"udp", "tcp"}


# ---- as QUIC does ----

SMALL = [1200, 1252, 1452]
SIZES = [1200, 4096, 16384, 40000, 65507]


class Flow(threading.Thread):
    """A client with a connection id: `count` datagrams by number, `window` of them on their way;
    each answer is checked to its last byte, and that they come in order. Where the kernel's
    buffers were too small for all at once (on a machine with other work) what is missing is sent
    again, by flows with a window of one; `again` counts that."""

    def __init__(self, port, seed, sizes, count=300, window=1):
        super().__init__(daemon=True)
        self.sizes, self.count, self.window, self.again = sizes, count, window, 0
        self.cid = struct.pack("!Q", seed)
        self.sock, self.faults, self.done = connect(port), [], 0
        if window == 1:
            self.sock.settimeout(2)
        self.start()

    def made(self, number):
        size = self.sizes[number % len(self.sizes)]
        body = random.Random(number).randbytes(997)
        return (self.cid + struct.pack("!I", number) + body * (size // 997 + 1))[:size]

    def answer(self):
        """The next one, not one to what was sent again."""
        while True:
            try:
                got = self.sock.recv(1 << 17)
            except socket.timeout:
                if self.window > 1 or self.again > 30:
                    raise
                self.again += 1
                self.sock.send(self.made(self.done))
                continue
            if not self.again or struct.unpack("!I", got[8:12])[0] >= self.done:
                return got

    def run(self):
        try:
            sent = 0
            while self.done < self.count:
                while sent < self.count and sent < self.done + self.window:
                    self.sock.send(self.made(sent))
                    sent += 1
                if self.answer() != self.made(self.done):
                    self.faults.append("answer %d is another" % self.done)
                    return
                self.done += 1
        except OSError as error:
            self.faults.append("after %d answers: %r" % (self.done, error))
        finally:
            self.sock.close()


def finished(flows):
    for flow in flows:
        flow.join()
    assert [fault for flow in flows for fault in flow.faults] == []
    return sum(flow.again for flow in flows)


def test_flows_like_quic(weir):
    """Eight clients at once over three endpoints: no datagram lost, changed or out of order, and a
    connection id is at one endpoint."""
    sites = [udpsite.Endpoint() for _ in range(3)]
    port = udpsite.free_port()
    proxy = weir({"process": {"drain": "100ms"},
                  "listeners": {"web": None, "quic": {
                      "bind": "127.0.0.1:%d" % port, "protocol": "udp", "pool": "quic"}},
                  "pools": {"quic": {"endpoints": [site.address for site in sites],
                                     "balance": "round_robin"}}})
    flows = [Flow(port, seed, SIZES) for seed in range(1, 5)]
    flows += [Flow(port, seed, SMALL, window=6) for seed in range(5, 9)]
    again = finished(flows)
    for flow in flows:
        homes = [site for site in sites if any(got[:8] == flow.cid for got in site.got)]
        assert len(homes) == 1
        numbers = [struct.unpack("!I", got[8:12])[0] for got in homes[0].got
                   if got[:8] == flow.cid]
        assert numbers == sorted(numbers) and set(numbers) == set(range(flow.count))
    metrics = proxy.metrics()
    assert metrics.get("weir_udp_sessions") == 8
    assert 0 <= metrics.get("weir_udp_received_datagrams_total") - 8 * 300 <= again
    assert metrics.get("weir_udp_dropped_datagrams_total", cause="unsent") == 0
    for site in sites:
        site.stop()


def test_sessions_live_through_reloads_under_load(weir):
    sites = [udpsite.Endpoint() for _ in range(2)]
    port = udpsite.free_port()
    proxy = weir({"process": {"drain": "100ms"},
                  "listeners": {"web": None, "quic": {
                      "bind": "127.0.0.1:%d" % port, "protocol": "udp", "pool": "quic"}},
                  "pools": {"quic": {"endpoints": [site.address for site in sites]}}})
    flows = [Flow(port, seed, SIZES, count=1000) for seed in range(1, 5)]
    for seconds in range(50, 54):
        proxy.change(listeners={"quic": {"timeouts": {"idle": "%ds" % seconds}}})
        proxy.reload()
    finished(flows)
    assert proxy.metric("weir_udp_sessions_total") == 4
    assert sum(len(set(site.peers)) for site in sites) == 4
    for site in sites:
        site.stop()


UDP_SEGMENT = 103  # of linux/udp.h


@pytest.mark.parametrize("balance", ["session", "datagram"])
def test_trains(weir, balance):
    """Datagrams that the kernel carries together (UDP_SEGMENT, as QUIC's senders use it), both
    ways, stay what they are and in order; balanced by datagram each goes its own way."""
    sites = [udpsite.Endpoint() for _ in range(2)]
    for site in sites:  # an answer is a train too: ten for one
        site.handler = lambda data, _: data * 10
        site.sock.setsockopt(socket.IPPROTO_UDP, UDP_SEGMENT, 1200)
    port = udpsite.free_port()
    proxy = weir({"process": {"drain": "100ms"},
                  "listeners": {"web": None, "quic": {
                      "bind": "127.0.0.1:%d" % port, "protocol": "udp", "pool": "quic",
                      "udp": {"balance": balance}}},
                  "pools": {"quic": {"endpoints": [site.address for site in sites],
                                     "balance": "round_robin"}}})
    parts = [bytes([i]) * 1200 for i in range(10)]
    with connect(port) as sock:
        sock.setsockopt(socket.IPPROTO_UDP, UDP_SEGMENT, 1200)
        sock.send(b"".join(parts))
        answers = [sock.recv(1 << 17) for _ in range(100)]
    assert all(len(answer) == 1200 for answer in answers)
    if balance == "session":
        assert answers == [part for part in parts for _ in range(10)]
        assert sorted(len(site.got) for site in sites) == [0, 10]
    else:
        assert sorted(answers) == sorted(parts * 10)
        assert [len(site.got) for site in sites] == [5, 5]
    assert proxy.metric("weir_udp_received_datagrams_total") == 10
    eventually(lambda: proxy.metric("weir_udp_sent_datagrams_total") == 100)
    assert proxy.metric("weir_udp_sent_bytes_total") == 120000
    for site in sites:
        site.stop()


def test_an_unrelated_socket_gets_no_answers(weir):
    """Only the endpoint itself is heard on a session's socket, and only its client gets it."""
    site, port = udpsite.Endpoint(), udpsite.free_port()
    proxy = weir({"process": {"drain": "100ms"},
                  "listeners": {"web": None, "echo": {
                      "bind": "127.0.0.1:%d" % port, "protocol": "udp", "pool": "echo"}},
                  "pools": {"echo": {"endpoints": [site.address]}}})
    with connect(port) as sock, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as rogue:
        assert udpsite.ask(sock, b"x") == b"x"
        for _ in range(5):
            rogue.sendto(b"forged", site.peers[0])
        assert udpsite.ask(sock, b"y") == b"y"
    eventually(lambda: proxy.metric("weir_udp_sent_datagrams_total") == 2)
    site.stop()
