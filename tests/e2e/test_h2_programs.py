"""HTTP/2 programs that people have, through weir: curl, nghttp, h2load, Node, httpx, h2."""
import hashlib
import json
import re
import socket
import subprocess

import h2.config
import h2.connection
import h2.events
import httpx
import pytest

from harness import servers
from harness.h2fixtures import h2make, h2pair, h2shared, speaks_h2  # noqa: F401
from harness.h2site import SIZES, Site, digest, pattern

BOTH = pytest.mark.parametrize("how", ["h2c", "tls"])
H2_EXTRA = {"limits": {"body_bytes": "8MiB"}}
CA = "ca.pem"


@pytest.fixture
def site(h2pair):  # noqa: F811
    h2pair.backend.default = h2pair.site = Site()
    h2pair.ca = str(h2pair.authority.path)
    yield h2pair
    h2pair.site.held.go.set()


def program(*args, timeout=120, **kwargs):
    result = subprocess.run([str(a) for a in args], capture_output=True, timeout=timeout,
                            check=False, **kwargs)
    assert result.returncode == 0, (args, result.stdout[-2000:], result.stderr[-2000:])
    return result.stdout


# ---- curl ----

def curl(site, how, path, *extra):
    version = ["--http2-prior-knowledge"] if how == "h2c" else ["--http2", "--cacert", site.ca]
    return program("curl", "-sS", "-m", "60", "--noproxy", "*", *version, *extra,
                   site.url(how, path))


@BOTH
@pytest.mark.parametrize("size", SIZES)
def test_curl_download(site, how, size):
    assert curl(site, how, "/bytes?n=%d" % size) == pattern(size)
    assert site.logged(path="/bytes")["network.protocol.version"] == "2"


@BOTH
@pytest.mark.parametrize("size", SIZES)
def test_curl_upload(site, how, size, work):
    (work / "body").write_bytes(pattern(size))
    for extra in ([], ["-H", "Expect:"], ["-H", "Content-Length:"]):
        out = curl(site, how, "/sum", "--data-binary", "@%s" % (work / "body"), *extra)
        assert out.decode() == digest(pattern(size))


def test_curl_many_at_once(site):
    """100 URLs on as few connections as curl wants (its parallel mode wants TLS for HTTP/2)."""
    outs = curl(site, "tls", "/last", "-Z", "--parallel-max", "50",
                *(site.url("tls", "/n%d" % n) for n in range(100)))
    assert sorted(re.findall(rb"GET /n\d+", outs)) == sorted(b"GET /n%d" % n for n in range(100))


@BOTH
def test_curl_sees_heads(site, how):
    out = curl(site, how, "/hints", "-i").decode()
    assert out.startswith("HTTP/2 103") and "HTTP/2 200" in out and out.endswith("hinted")
    assert "content-length: 1000" in curl(site, how, "/bytes?n=1000", "-I").decode()
    assert curl(site, how, "/204", "-o", "/dev/null", "-w", "%{http_code} %{http_version}") \
        == b"204 2"
    out = curl(site, how, "/trailers", "-D", "-", "-H", "TE: trailers").decode().lower()
    assert "x-sum: 7" in out


def test_curl_upgrade_falls_back(site):
    """curl --http2 on plaintext asks for Upgrade: h2c; it is served HTTP/1.1."""
    out = program("curl", "-sS", "-m", "60", "--noproxy", "*", "--http2", "-w", " %{http_version}",
                  site.url("h2c", "/up"))
    assert out == b"GET /up 1.1"


# ---- nghttp, h2load ----

@BOTH
def test_nghttp(site, how):
    out = program("nghttp", "--no-verify-peer", "-v", "-n", "-m", "20",
                  site.url(how, "/bytes?n=100000")).decode("utf-8", "replace")
    assert out.count(":status: 200") == 20 and "GOAWAY" in out
    plain = program("nghttp", "--no-verify-peer", site.url(how, "/bytes?n=100000"))
    assert plain == pattern(100000)


def test_nghttp_upload_with_trailers(site, work):
    (work / "body").write_bytes(pattern(100000))
    out = program("nghttp", "-d", work / "body", "--trailer", "x-sum: 9", "--no-content-length",
                  site.url("h2c", "/sum"))
    assert out.decode() == digest(pattern(100000))
    assert [(n.lower(), v) for n, v in site.backend.last.trailers] == [(b"x-sum", b"9")]


def test_nghttp_small_windows(site):
    out = program("nghttp", "-w", "10", "-W", "12", site.url("h2c", "/bytes?n=300000"))
    assert out == pattern(300000)


@pytest.fixture
def fast(h2make, nginx):  # noqa: F811
    """A weir of its own with nginx as the endpoint."""
    server = nginx("origin")
    (server.files / "f.txt").write_bytes(pattern(100000))
    return h2make({"pools": {"app": {"endpoints": [server.address]}}})


@BOTH
@pytest.mark.parametrize("connections,streams,requests,path", [
    (1, 1, 500, "/small"), (1, 100, 5000, "/small"), (10, 32, 5000, "/small"),
    (64, 1, 3000, "/small"), (4, 10, 400, "/files/f.txt")])
def test_h2load(fast, how, connections, streams, requests, path):
    """Every request succeeds, and the log counts as many."""
    out = program("h2load", "-n%d" % requests, "-c%d" % connections, "-m%d" % streams,
                  fast.url(how, path)).decode()
    assert "%d total, %d started, %d done, %d succeeded, 0 failed, 0 errored, 0 timeout" % (
        (requests,) * 4) in out, out
    assert "status codes: %d 2xx, 0 3xx, 0 4xx, 0 5xx" % requests in out, out
    protocol = "Application protocol: h2c" if how == "h2c" else "Application protocol: h2"
    assert protocol in out, out
    fast.logged(count=requests, path=path, end="ok", network__protocol__version="2")


def test_h2load_uploads(fast, work):
    (work / "body").write_bytes(pattern(70000))
    out = program("h2load", "-n300", "-c3", "-m20", "-d", work / "body",
                  fast.url("h2c", "/small")).decode()
    assert "300 succeeded, 0 failed, 0 errored" in out and "300 2xx" in out, out


# ---- Node ----

@BOTH
def test_node(site, how):
    out = json.loads(program("node", servers.TOOLS / "h2_client.js", site.url(how),
                             *([site.ca] if how == "tls" else [])))
    assert set(out["expect"][0]) == {100}
    out["expect"] = out["expect"][1]
    assert out == {
        "sizes": [True] * 8, "uploads": [True] * 8, "many": 100,
        "trailers": ["with trailers", "7"], "hints": [[103], 200], "head": [200, "1000", 0],
        "empty": [204, 304], "expect": "late", "sent": "body", "cookies": ["a=b; c=d"],
        "large": 1000, "cancel": 8, "ping": True, "settings": 128}
    site.site.held.wait("gone", 1)
    trailers = [r.trailers for r in site.backend.seen("/echo") if r.body.data == b"body"]
    assert [[(n.lower(), v) for n, v in each] for each in trailers] == [[(b"x-sum", b"9")]]


# ---- Python ----

@pytest.fixture
def session(site):
    with httpx.Client(http2=True, verify=site.ca, base_url=site.url("tls"), trust_env=False,
                      timeout=60) as made:
        yield made


def test_httpx(site, session):
    for size in SIZES:
        response = session.get("/bytes", params={"n": size})
        assert response.http_version == "HTTP/2" and response.content == pattern(size)
        assert session.post("/sum", content=pattern(size)).text == digest(pattern(size))
    with session.stream("GET", "/bytes?n=1048576") as response:
        assert sum(len(part) for part in response.iter_raw(999)) == 1 << 20
    assert session.head("/bytes?n=1000").headers["content-length"] == "1000"
    assert session.get("/204").status_code == 204
    chunks = iter([b"a" * 1000] * 50)
    assert session.post("/sum", content=chunks).text == digest(b"a" * 50000)
    session.cookies.update({"a": "b", "c": "d"})
    fields = dict(session.get("/fields").json())
    assert fields["cookie"] == "a=b; c=d" and fields["host"].startswith("localhost")


def test_httpx_leaves_in_the_middle(site, session):
    """It leaves streams unread and their window taken, 16 MiB at most; the next is served."""
    for _ in range(2):
        with session.stream("GET", "/bytes?n=5242880") as response:
            assert len(next(response.iter_raw(1000)))
    assert session.get("/after").text == "GET /after"


class Library:
    """python3-h2, the state machine, over a socket."""

    def __init__(self, port):
        self.sock = socket.create_connection(("127.0.0.1", port), 60)
        config = h2.config.H2Configuration(header_encoding="utf-8")
        self.conn = h2.connection.H2Connection(config)
        self.conn.initiate_connection()
        self.bodies, self.heads, self.ended = {}, {}, set()
        self.flush()

    def flush(self):
        self.sock.sendall(self.conn.data_to_send())

    def open(self, path, method="GET", end=True):
        number = self.conn.get_next_available_stream_id()
        self.conn.send_headers(number, [(":method", method), (":path", path), (":scheme", "http"),
                                        (":authority", "test.example")], end_stream=end)
        self.flush()
        return number

    def read(self):
        data = self.sock.recv(65536)
        assert data, "the connection ended"
        for event in self.conn.receive_data(data):
            number = getattr(event, "stream_id", 0)
            if isinstance(event, h2.events.ResponseReceived):
                self.heads[number] = dict(event.headers)
            elif isinstance(event, h2.events.DataReceived):
                self.bodies.setdefault(number, hashlib.sha256()).update(event.data)
                self.conn.acknowledge_received_data(event.flow_controlled_length, number)
            elif isinstance(event, h2.events.StreamEnded):
                self.ended.add(number)
            else:
                assert not isinstance(event, (h2.events.StreamReset,
                                              h2.events.ConnectionTerminated)), event
        self.flush()

    def send(self, number, body):
        view = memoryview(body)
        while view:
            room = min(self.conn.local_flow_control_window(number),
                       self.conn.max_outbound_frame_size, len(view))
            if not room:
                self.read()
                continue
            self.conn.send_data(number, bytes(view[:room]))
            self.flush()
            view = view[room:]
        self.conn.end_stream(number)
        self.flush()

    def wait(self, *numbers):
        while not self.ended >= set(numbers):
            self.read()

    def digest(self, number):
        return self.bodies.setdefault(number, hashlib.sha256()).hexdigest()


def test_python_h2(site):
    """The state machine of the library refuses what a server may not send."""
    lib = Library(site.weir.port)
    gets = {lib.open("/bytes?n=%d" % size): size for size in SIZES}
    lib.wait(*gets)
    for number, size in gets.items():
        assert lib.digest(number) == hashlib.sha256(pattern(size)).hexdigest()
    posts = {lib.open("/sum", "POST", end=False): size for size in SIZES}
    for number, size in posts.items():
        lib.send(number, pattern(size))
    lib.wait(*posts)
    for number, size in posts.items():
        want = hashlib.sha256(digest(pattern(size)).encode()).hexdigest()
        assert lib.digest(number) == want
    many = [lib.open("/n") for _ in range(100)]
    lib.wait(*many)
    assert {lib.heads[number][":status"] for number in many} == {"200"}
    lib.conn.close_connection()
    lib.flush()
    lib.sock.close()
