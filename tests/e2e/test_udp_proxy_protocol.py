"""PROXY headers of datagrams (packaging/docs/udp.md): each has one of its own, of version 2. In:
whose session it is, and who may say so. Out: to endpoints, never to clients; what does not fit."""
import re
import socket

import pytest

from harness import proxyheader, udpsite
from harness.udpsite import ask, connect
from harness.weir import eventually
from test_udp import LONGEST, endpoint  # noqa: F401

DGRAM = {4: 0x12, 6: 0x22}
CLIENT, OTHER = "203.0.113.9", "203.0.113.10"
TRUSTED = {"trusted_proxies": ["127.0.0.0/8", "::1/128"]}


def header_in(client, *elements, sport=56324, to=None):
    """A header of datagrams; to: another (IPv4 address, port) that they were sent to."""
    whole = bytearray(proxyheader.v2(client, *elements, sport=sport))
    whole[13] = DGRAM[6 if ":" in client else 4]
    if to:
        whole[20:24] = socket.inet_aton(to[0])
        whole[26:28] = to[1].to_bytes(2, "big")
    return bytes(whole)


def cut(data, bare=False):
    """(header, what stands behind it) of a datagram that an endpoint got."""
    at = 0

    def exactly(count):
        nonlocal at
        at += count
        assert len(data) >= at, data
        return data[at - count:at]
    assert data[13] in DGRAM.values()
    stream = bytearray(data)  # its families are those of streams
    stream[13] -= 1
    size = int.from_bytes(data[14:16], "big")
    body = data[16:16 + size]
    header = proxyheader.read_block(data[12], stream[13], body)
    if not bare or header.get(3):
        proxyheader.checked(header, data[:16 + size])
    return header, data[16 + size:]


def behind_header(data, _peer):
    """Answers what stands behind the header."""
    return cut(data)[1]


TO_POOL = {"pool": {"proxy_protocol": "v2"}}


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
@pytest.mark.parametrize("balance", ["session", "datagram"])
def test_out(udp, endpoint, host, balance):
    """Each datagram has the session's header before it, answers have none."""
    site = endpoint(behind_header)
    listener = {"udp": {"balance": balance}, "timeouts": {"idle": "1s"}}
    port = udpsite.free_port()
    listener["bind"] = "[::]:%d" % port if ":" in host else "0.0.0.0:%d" % port
    proxy = udp(site, listener=listener, **TO_POOL)
    with connect(port, host) as sock:
        for size in (0, 1, 512, 1200, 9000):
            assert ask(sock, b"d" * size) == b"d" * size
        mine = sock.getsockname()[:2]
    headers = [cut(data)[0] for data in site.got]
    assert len(headers) == 5 and len({data[:16] + h.get(5) for data, h in
                                      zip(site.got, headers)}) == 1
    assert headers[0].src == mine and headers[0].dst == (host, port)
    assert [kind for kind, _ in headers[0].elements] == [5, 3]
    record = proxy.ended("ok")
    assert re.fullmatch("[0-9a-f]{32}", record["weir.unique_id"])
    assert record["weir.unique_id"].encode() == headers[0].get(5)
    assert record["weir.bytes.received"] == record["weir.bytes.sent"] == 10713


def test_too_long(udp, endpoint):
    """The header and the datagram have to fit into one; those that do go on."""
    site = endpoint(lambda data, _: b"%d" % len(data))
    proxy = udp(site, listener={"timeouts": {"idle": "1s"}}, **TO_POOL)
    with connect(proxy.port) as sock:
        size = LONGEST - 70  # addresses, an id of 32 bytes and a checksum
        assert ask(sock, b"x" * size) == b"%d" % LONGEST
        sock.send(b"x" * (size + 1))
        sock.send(b"x" * LONGEST)
        eventually(lambda: proxy.metric("weir_udp_dropped_datagrams_total", cause="unsent") == 2)
    assert len(site.got) == 1
    record = proxy.ended("proxy.limit.datagram")
    assert record["weir.datagrams.received"] == 1


@pytest.mark.parametrize("client", [CLIENT, "2001:db8::9"])
def test_in(udp, endpoint, client):
    """The header is cut off; the client is the header's, answers go to who sent it, without."""
    site = endpoint()
    proxy = udp(site, listener={"proxy_protocol": True, "timeouts": {"idle": "1s"}, **TRUSTED})
    with connect(proxy.port) as sock:
        for data in (b"one", b"", b"three"):
            assert ask(sock, header_in(client, proxyheader.tlv(5, b"abc")) + data) == data
    assert site.got == [b"one", b"", b"three"] and len(set(site.peers)) == 1
    record = proxy.ended("ok")
    assert record["client.address"] == client and record["weir.unique_id"] == "abc"
    assert record["network.peer.address"] == "127.0.0.1"
    assert record["weir.bytes.received"] == 8 and record["weir.datagrams.received"] == 3


def test_sessions_by_the_header(udp, endpoint):
    """One socket of a proxy carries many clients, and two sockets may tell of one: each is a
    session of its own, whose answers go where its datagrams came from."""
    site = endpoint()
    proxy = udp(site, listener={"proxy_protocol": True, **TRUSTED})
    with connect(proxy.port) as one, connect(proxy.port) as two:
        assert ask(one, header_in(CLIENT) + b"a") == b"a"
        assert ask(one, header_in(OTHER) + b"b") == b"b"
        assert ask(one, header_in(CLIENT, sport=7) + b"c") == b"c"
        assert ask(two, header_in(CLIENT) + b"d") == b"d"
        assert ask(one, header_in(CLIENT) + b"e") == b"e"
        assert proxy.metric("weir_udp_sessions") == 4 and len(set(site.peers)) == 4


def test_sessions_by_what_was_sent_to(udp, endpoint):
    """One client that sends to two addresses has two sessions, whose endpoints are told of each,
    as if both were weir's own."""
    site = endpoint(behind_header)
    proxy = udp(site, listener={"proxy_protocol": True, **TRUSTED}, **TO_POOL)
    tos = [("198.51.100.7", 443), ("198.51.100.8", 443), ("198.51.100.7", 8443)]
    with connect(proxy.port) as sock:
        for i in range(6):
            data = b"%d" % i
            assert ask(sock, header_in(CLIENT, to=tos[i % 3]) + data) == data
        assert proxy.metric("weir_udp_sessions") == 3 and len(set(site.peers)) == 3
    assert [cut(data)[0].dst for data in site.got] == tos * 2


def test_gates_judge_the_client(udp, endpoint):
    site = endpoint()
    proxy = udp(site, listener={"proxy_protocol": True, "deny": OTHER + "/32", **TRUSTED})
    with connect(proxy.port) as sock:
        sock.send(header_in(OTHER, proxyheader.tlv(5, b"abc")) + b"denied")
        assert ask(sock, header_in(CLIENT) + b"served") == b"served"
    assert site.got == [b"served"]
    record = proxy.ended("proxy.denied.peer")
    assert record["client.address"] == OTHER and record["weir.unique_id"] == "abc"
    assert record["network.peer.address"] == "127.0.0.1"


def test_proxys_own(udp, endpoint):
    """LOCAL and what has no addresses count as the sender's own."""
    site = endpoint()
    proxy = udp(site, listener={"proxy_protocol": True, "timeouts": {"idle": "1s"}, **TRUSTED})
    with connect(proxy.port) as sock:
        assert ask(sock, proxyheader.local() + b"check") == b"check"
        assert ask(sock, proxyheader.block(b"", 0x21, 0) + b"more") == b"more"
    assert proxy.ended("ok")["client.address"] == "127.0.0.1" and len(set(site.peers)) == 1


NONE, CUT = "no PROXY header", "the datagram ends inside the header"
BAD = [
    (b"no header", "missing", NONE), (b"", "missing", NONE),
    (proxyheader.v1(CLIENT) + b"x", "missing", NONE),
    (header_in(CLIENT)[:27], "truncated", CUT), (proxyheader.SIGNATURE, "truncated", CUT),
    (proxyheader.SIGNATURE + b"\x31\x12\0\0", "version", "the version is not 2"),
    (header_in(CLIENT, b"\1\0\1"), "tlv", "an element goes beyond the header"),
    (header_in(CLIENT, proxyheader.tlv(3, b"wxyz")) + b"x", "checksum", "the checksum is wrong"),
]


@pytest.mark.parametrize("data, word, reason", BAD)
def test_refused(udp, endpoint, data, word, reason):
    """It is dropped, counted and logged, and nobody else is held up."""
    site = endpoint()
    proxy = udp(site, listener={"proxy_protocol": True, **TRUSTED})
    with connect(proxy.port) as sock:
        sock.send(data)
        assert ask(sock, header_in(CLIENT) + b"good") == b"good"
        assert proxy.metric("weir_udp_dropped_datagrams_total", cause="refused") == 1
    assert site.got == [b"good"]
    assert proxy.ended("client.proxy_protocol." + word)["weir.reason"] == reason


def test_untrusted(udp, endpoint):
    """Who is not trusted is dropped, with a header or without; where it is optional only with."""
    site, nets = endpoint(), {"trusted_proxies": ["192.0.2.0/24"]}
    proxy = udp(site, listener={"proxy_protocol": True, **nets})
    with connect(proxy.port) as sock:
        for data in (header_in(CLIENT) + b"x", b"plain"):
            sock.send(data)
        eventually(lambda: proxy.metric("weir_udp_dropped_datagrams_total", cause="refused") == 2)
    eventually(lambda: len(proxy.all_lines()) >= 2)
    assert {line["weir.end"] for line in proxy.all_lines()} == {"client.proxy_protocol.untrusted"}
    proxy.change(listeners={"dns": {"proxy_protocol": "optional"}})
    proxy.reload()
    with connect(proxy.port) as sock:
        sock.send(header_in(CLIENT) + b"x")
        assert ask(sock, b"plain") == b"plain"
    assert site.got == [b"plain"]


def test_optional(udp, endpoint):
    site = endpoint()
    proxy = udp(site, listener={"proxy_protocol": "optional", **TRUSTED})
    with connect(proxy.port) as sock:
        for data in (b"plain", b"", b"\r\n\r\n", b"PROXY TCP4 as it stands\r\n"):
            assert ask(sock, data) == data
        assert ask(sock, header_in(CLIENT) + b"told") == b"told"
        sock.send(header_in(CLIENT)[:20])
        assert ask(sock, b"plain") == b"plain"
        assert proxy.metric("weir_udp_sessions") == 2
    proxy.ended("client.proxy_protocol.truncated")


def test_chain(udp, endpoint):
    """The one behind learns of the client, what it sent to, and its id, through both."""
    site = endpoint(behind_header)
    inner = udp(site, listener={"proxy_protocol": True, **TRUSTED}, **TO_POOL)
    outer = udp("127.0.0.1:%d" % inner.port, listener={"proxy_protocol": "optional", **TRUSTED},
                **TO_POOL)
    with connect(outer.port) as sock:
        assert ask(sock, b"mine") == b"mine"
        mine = sock.getsockname()
        assert ask(sock, header_in(CLIENT, proxyheader.tlv(5, b"i" * 128)) + b"told") == b"told"
    first, second = (cut(data)[0] for data in site.got)
    assert first.src == mine and first.dst == ("127.0.0.1", outer.port)
    assert second.src == (CLIENT, 56324) and second.dst == ("198.51.100.7", 443)
    assert len(first.get(5)) == 32 and second.get(5) == b"i" * 128


def test_reload(udp, endpoint):
    """A session that goes on has headers from the reload on that asks for them, and none after
    the one that does not."""
    site = endpoint(lambda data, _: data[-4:])
    proxy = udp(site)
    with connect(proxy.port) as sock:
        for i, version in enumerate([None, "v2", "off"]):
            if version:
                proxy.change(pools={"dns": {"proxy_protocol": version}})
                proxy.reload()
            assert ask(sock, b"dgr%d" % i) == b"dgr%d" % i
        assert proxy.metric("weir_udp_sessions_total") == 1
    assert site.got[0] == b"dgr0" and site.got[2] == b"dgr2"
    assert cut(site.got[1])[1] == b"dgr1" and len(set(site.peers)) == 1


def test_trains(udp, endpoint):
    """Datagrams that the kernel carries together have a header each."""
    site = endpoint(lambda data, _: None)
    proxy = udp(site, **TO_POOL)
    with connect(proxy.port) as sock:
        sock.setsockopt(socket.IPPROTO_UDP, 103, 700)  # UDP_SEGMENT
        sock.send(bytes(range(256)) * 28)
        eventually(lambda: len(site.got) == 11)
    rows = [cut(data) for data in site.got]
    assert {h.src for h, _ in rows} == {rows[0][0].src} and len(rows[-1][1]) == 168
    assert b"".join(data for _, data in rows) == bytes(range(256)) * 28
