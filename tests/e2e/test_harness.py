"""The harness itself: parsers that accept what is valid and refuse what is not, tools that notice.

A test that cannot fail is worth nothing: here each instrument is shown a fault it must report.
"""
import json
import pathlib
import socket
import subprocess
import sys
import threading

import pytest

from harness import client, confgen, load, metrics, proc, servers, wire
from harness.backend import Backend, FullBacklog


class Fed:
    """A socket that gives out fixed bytes, a few at a time."""

    def __init__(self, data, step):
        self.parts = [data[i : i + step] for i in range(0, len(data), step)]

    def recv(self, _size):
        return self.parts.pop(0) if self.parts else b""


def reader(data, step=7):
    return wire.Reader(Fed(data, step))


GOOD_RESPONSES = [
    (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", "GET", b"ok"),
    (b"HTTP/1.1 200 \r\nContent-Length: 0\r\n\r\n", "GET", b""),
    (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", "GET", b"ok"),
    (b"HTTP/1.1 200 OK\r\n\r\nto the end", "GET", b"to the end"),
    (b"HTTP/1.1 204 No Content\r\n\r\n", "GET", b""),
    (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n", "GET", b""),
    (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", "HEAD", b""),
    (b"HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx",
     "GET", b"x"),
]


@pytest.mark.parametrize("step", [1, 7, 4096])
@pytest.mark.parametrize("data,method,body", GOOD_RESPONSES)
def test_good_response(data, method, body, step):
    source = reader(data, step)
    response = wire.read_response(source, method)
    assert response.complete and response.body == body and not source.buf


BAD_RESPONSES = [
    b"HTTP/1.0 200 OK\r\n\r\n", b"HTTP/1.1 200\r\n\r\n", b"HTTP/1.1 2000 OK\r\n\r\n",
    b"HTTP/1.1 200 OK\nContent-Length: 0\n\n", b"HTTP/1.1 200 OK\r\nA : b\r\n\r\n",
    b"HTTP/1.1 200 OK\r\n: b\r\n\r\n", b"HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nA: b\x00\r\n\r\n", b"HTTP/1.1 200 OK\r\nA: b\rc\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 1, 1\r\n\r\nx",
    b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\nx",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0x2\r\nok\r\n0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;e=1\r\nok\r\n0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nokay\r\n0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nHost: x\r\n\r\n",
    b"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 100 Continue\r\nTransfer-Encoding: chunked\r\n\r\n",
]


@pytest.mark.parametrize("data", BAD_RESPONSES)
def test_bad_response(data):
    with pytest.raises(wire.Violation):
        wire.read_response(reader(data))


@pytest.mark.parametrize("data", [
    b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n",
])
def test_truncated_response(data):
    assert not wire.read_response(reader(data)).complete


BAD_REQUESTS = [
    b"GET http://a/ HTTP/1.1\r\nHost: a\r\n\r\n", b"GET / HTTP/1.0\r\nHost: a\r\n\r\n",
    b"GET / HTTP/1.1\r\n\r\n", b"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
    b"GET /a b HTTP/1.1\r\nHost: a\r\n\r\n", b"G(T / HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nTE: trailers\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nConnection: x-foo\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: h2c\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n\r\n",
]


@pytest.mark.parametrize("data", BAD_REQUESTS)
def test_bad_request(data):
    with pytest.raises(wire.Violation):
        wire.parse_request(reader(data))


def test_backend_reports_extra_bytes():
    backend = Backend()
    with client.Client(backend.port) as conn:
        conn.send(wire.request_bytes() + wire.request_bytes(target="/smuggled"))
        assert conn.response().status == 200
    backend.stop()
    assert backend.violations and "bytes after the request" in backend.violations[0]


def test_backend_records():
    backend = Backend()
    with client.Client(backend.port) as conn:
        assert conn.request("POST", "/a?b=c", ["X-A: 1"], b"hello").body == b"POST /a?b=c"
        assert conn.get("/second").status == 200
    backend.stop()
    first, second = backend.requests
    assert not backend.violations
    assert (first.body.data, first.get("x-a"), first.path) == (b"hello", "1", "/a")
    assert first.raw_head == b"POST /a?b=c HTTP/1.1\r\nHost: test.example\r\nX-A: 1\r\n" \
        b"Content-Length: 5\r\n\r\n"
    assert second.raw_head.startswith(b"GET /second ") and second.connection == first.connection


def test_full_backlog_never_accepts():
    full = FullBacklog()
    with pytest.raises(TimeoutError):
        client.connect(full.port, timeout=0.3)
    full.stop()


def test_load_client_counts_right_answers(nginx, load_client):
    server = nginx("origin")
    report = load_client(server.port, 16, 0.5).result()
    load.clean(report, 100)
    assert report["names"] == {"origin": report["ok"]}
    closing = load_client(server.port, 16, 0.3, close=True).result()
    load.clean(closing, 50)
    assert closing["opened"] >= closing["ok"]


LIES = {
    "nonce": b"HTTP/1.1 200 OK\r\nContent-Length: 19\r\n\r\n0123456789abcdef up",
    "status": b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n",
    "bytes after the body": b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nxHTTP/1.1 200 OK\r\n",
    "before the response was complete": b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nx",
}


@pytest.mark.parametrize("what", LIES)
def test_load_client_notices(what, load_client):
    def handler(conn, _request):
        conn.send(LIES[what])
        conn.close()
    backend = Backend(handler)
    report = load_client(backend.port, 2, 0.2).result()
    backend.stop()
    assert report["failed"] > 0 and report["ok"] == 0
    assert any(what in sample for sample in report["failures"]), report


def test_load_client_notices_refusal(load_client):
    report = load_client(proc.free_port(), 2, 0.2).result()
    assert report["failed"] > 0 and "connect" in report["failures"][0]


GOOD_METRICS = """# HELP a Things
# TYPE a counter
a{x="1"} 3
a{x="2"} 4
# HELP h Seconds
# TYPE h histogram
h_bucket{le="1"} 1
h_bucket{le="+Inf"} 2
h_sum 3.5
h_count 2
"""


def test_metrics_parser():
    parsed = metrics.Metrics(GOOD_METRICS)
    parsed.check_histograms()
    assert parsed.get("a") == 7 and parsed.get("a", x="2") == 4
    for old, new in [('{x="2"}', '{x="1"}'), ("a{", "b{"), ('le="+Inf"} 2', 'le="+Inf"} 0'),
                     ("# TYPE a counter\n", ""), ('x="1"', "x=1"), ("h_count 2\n", "")]:
        with pytest.raises(AssertionError):
            metrics.Metrics(GOOD_METRICS.replace(old, new)).check_histograms()


def test_confgen():
    text = confgen.body({"a": {"b": ["x", 'q"\\'], "c": True, "d": 3}, "r": [{"p": "/"}]})
    assert text == ('a = {\n  b = [ "x", "q\\"\\\\" ];\n  c = true;\n  d = 3;\n};\n'
                    'r = ( {\n    p = "/";\n  } );\n')
    assert confgen.merge({"a": {"b": 1, "c": 2}}, {"a": {"b": None, "d": 3}}) == \
        {"a": {"c": 2, "d": 3}}


def test_listening_sees_inodes():
    import os
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        inode = os.fstat(listener.fileno()).st_ino
        assert proc.listening(os.getpid())[port] == [inode]
    assert port not in proc.listening(os.getpid())


def test_a_lent_port_is_nobody_elses():
    """Tests run in several processes: what one was given, closed or not, no other is, until the
    first has ended."""
    def other(text):
        return subprocess.run([sys.executable, "-B", "-c", "from harness import proc\n" + text],
                              cwd=pathlib.Path(__file__).parent, capture_output=True, text=True,
                              timeout=60, check=True).stdout.strip()
    with proc.listener() as sock:
        port = sock.getsockname()[1]
    assert other("print(proc.LENT.take(%d))" % port) == "False"
    assert not proc.LENT.take(port)
    assert any(proc.LENT.take(int(other("print(proc.free_port())"))) for _ in range(3))


def test_node_origin(node):
    with client.Client(node.port) as conn:
        assert json.loads(conn.get("/x").body)["url"] == "/x"
        hinted = conn.get("/hints")
        assert [r.status for r in hinted.interim] == [103] and hinted.body == b"hinted"
        assert conn.request("POST", "/echo", body=b"abc").body == b"abc"


def test_nginx_proxy_passes_the_strict_backend(nginx):
    """The strict backend is content with a proxy that is known to be right."""
    backend = Backend()
    extra = "location /up/ { proxy_http_version 1.1; proxy_set_header Connection \"\"; " \
        "proxy_pass http://%s/; }" % backend.address
    proxy = nginx("proxy", extra=extra)
    with client.Client(proxy.port) as conn:
        assert conn.request("POST", "/up/x", body=b"abc").status == 200
        assert conn.get("/up/y").status == 200
    backend.stop()
    assert not backend.violations and [r.path for r in backend.requests] == ["/x", "/y"]


def test_server_is_killed_at_once(nginx):
    server = nginx("victim")
    sock = client.connect(server.port)
    server.kill()
    try:
        assert sock.recv(1) == b""
    except ConnectionResetError:
        pass
    with pytest.raises(OSError):
        client.connect(server.port, timeout=1)
    assert isinstance(server, servers.Nginx) and threading.active_count() >= 1
