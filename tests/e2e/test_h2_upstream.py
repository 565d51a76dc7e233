"""HTTP/2 to endpoints (pools.*.connections.protocol = "h2c"): one weir speaks it to another one,
which has the recording backend behind it; and to Node. Clients speak both versions."""
import concurrent.futures
import subprocess
import sys
import zlib

import pytest

from harness import servers, wire
from harness.weir import eventually, run

SIZES = [0, 1, 16383, 16384, 65535, 65536, 1 << 20, 5 << 20]


def pattern(size):
    return (b"0123456789abcdefghijklmnopqrstuvwxyz-+" * (size // 38 + 1))[:size]


def answer(conn, request):
    """/bytes/N gives N bytes, by length or (?chunked) in chunks; others give the body's sum."""
    conn.read_body(request)
    path, _, query = request.path.partition("?")
    body = pattern(int(path.split("/")[-1])) if path.startswith("/bytes/") else \
        b"%d %d" % (request.body.length, request.body.crc)
    if query == "chunked":
        parts = [body[i:i + 9999] for i in range(0, len(body), 9999)]
        end = b"0\r\nX-Sum: %d\r\n\r\n" % len(body)
        return wire.response_bytes(body=wire.chunked(*parts, end=end), length=False,
                                   fields=["Transfer-Encoding: chunked"])
    return wire.response_bytes(body=body)


@pytest.fixture
def chain(weir, new_backend):
    """(front, middle, backend): front speaks HTTP/2 to middle."""
    backend = new_backend(answer)
    middle = weir({"listeners": {"web": {"protocols": ["h2c", "http/1.1"],
                                          "h2": {"streams": 64}}}}, backend)
    front = weir({"process": {"workers": 1},
                  "listeners": {"web": {"protocols": ["h2c", "http/1.1"]}},
                  "pools": {"app": {"endpoints": ["127.0.0.1:%d" % middle.port],
                                    "connections": {"protocol": "h2c"}}},
                  "routes": [{"prefix": "/", "pool": "app"}]})
    return front, middle, backend


def curl(front, path, *words, version="--http1.1", **kwargs):
    return subprocess.run(["curl", "-sS", "-m", "60", version,
                           "http://127.0.0.1:%d%s" % (front.port, path), *words],
                          stdout=subprocess.PIPE, check=True, **kwargs).stdout


VERSIONS = pytest.mark.parametrize("version", ["--http1.1", "--http2-prior-knowledge"])


@VERSIONS
def test_bodies(chain, version):
    front, middle, _ = chain
    for size in SIZES:
        assert curl(front, "/bytes/%d" % size, version=version) == pattern(size)
        assert curl(front, "/bytes/%d?chunked" % size, version=version) == pattern(size)
        for head in ("X-A: b", "Transfer-Encoding: chunked"):
            if version != "--http1.1" and head[0] == "T":
                continue
            got = curl(front, "/echo", "-H", head, "-X", "PUT", "--data-binary", "@-",
                       version=version, input=pattern(size))
            assert got == b"%d %d" % (size, zlib.crc32(pattern(size))), (size, head)
    assert middle.metric("weir_downstream_connections_total") == 1
    records = front.logged(len(SIZES) * (4 if version == "--http1.1" else 3), end="ok")
    assert {r["network.protocol.version"] for r in middle.all_lines() if "weir.end" in r} == {"2"}
    assert len(records) and front.metric("weir_upstream_connections") == 1


def test_many_at_once_share_connections(chain):
    """More streams than the endpoint allows on one connection: a second one, no more."""
    front, middle, backend = chain
    with concurrent.futures.ThreadPoolExecutor(100) as threads:
        got = list(threads.map(lambda n: curl(front, "/bytes/%d" % (1000 + n)), range(100)))
    assert got == [pattern(1000 + n) for n in range(100)]
    assert len(backend.requests) == 100
    assert 1 <= middle.metric("weir_downstream_connections_total") <= 2


def test_heads(chain):
    front, _, backend = chain
    out = curl(front, "/echo", "-i", "-H", "X-Mixed-Case: v", "-H", "Cookie: a=b; c=d",
               "-H", "Connection: x-gone", "-H", "X-Gone: 1").decode().lower()
    assert out.startswith("http/1.1 200") and "connection:" not in out
    seen = backend.seen("/echo")[-1]
    assert seen.get("x-mixed-case") == "v" and seen.get("cookie") == "a=b; c=d"
    assert seen.get("x-gone") is None and seen.get("host") == "127.0.0.1:%d" % front.port
    assert seen.all("via") == ["1.1 weir", "2.0 weir"] or "2.0 weir" in ", ".join(seen.all("via"))
    head = curl(front, "/bytes/1000", "-I").decode().lower()
    assert "content-length: 1000" in head


def test_another_upgrade_is_ignored(chain):
    """That of HTTP/1.1 has no place in HTTP/2 (RFC 9110 7.8: a server may ignore it)."""
    front, _, backend = chain
    out = curl(front, "/echo", "-i", "-H", "Connection: Upgrade",
               "-H", "Upgrade: other").decode().lower()
    assert out.startswith("http/1.1 200")
    assert backend.seen("/echo")[-1].get("upgrade") is None


def test_the_endpoint_ends_and_comes_back(chain):
    """Idempotent requests go on over a new connection, or say what happened."""
    front, middle, _ = chain
    assert curl(front, "/bytes/5") == pattern(5)
    middle.process.kill()
    middle.process.wait()
    status = curl(front, "/bytes/5", "-o", "/dev/null", "-w", "%{http_code}")
    assert status == b"502"
    record = front.logged(status=502)
    assert record["weir.end"].startswith("upstream."), record
    middle.start()
    eventually(lambda: curl(front, "/bytes/5", "-o", "/dev/null", "-w", "%{http_code}") == b"200")


def test_a_drain_of_the_endpoint_loses_nothing(chain):
    """GOAWAY in two steps: streams go on, later ones take another connection."""
    front, middle, _ = chain
    assert curl(front, "/bytes/5") == pattern(5)
    middle.signal(15)
    assert middle.process.wait(30) == 0
    middle.process = None
    eventually(lambda: front.metric("weir_upstream_connections") == 0)
    middle.start()
    assert curl(front, "/bytes/5") == pattern(5)
    assert not [r for r in front.all_lines() if r.get("weir.end", "ok") != "ok"]


def test_a_reload_keeps_the_connection(chain):
    front, middle, _ = chain
    assert curl(front, "/bytes/5") == pattern(5)
    front.change(process={"drain": "3s"})
    assert run("reload", "-c", front.path).returncode == 0
    assert curl(front, "/bytes/5") == pattern(5)
    assert middle.metric("weir_downstream_connections_total") == 1


NODE = """
const http2 = require('http2');
const server = http2.createServer();
server.on('stream', (stream, headers) => {
  const parts = [];
  stream.on('data', (part) => parts.push(part));
  stream.on('end', () => {
    stream.respond({':status': 200, 'x-path': headers[':path'], 'x-scheme': headers[':scheme']},
                   {waitForTrailers: true});
    stream.on('wantTrailers', () => stream.sendTrailers({'x-count': String(parts.length)}));
    stream.end(Buffer.concat(parts));
  });
});
server.listen(Number(process.argv[1]), '127.0.0.1', () => console.log('ready'));
"""


def test_node(weir):
    port = servers.proc.free_port()
    node = subprocess.Popen(["node", "-e", NODE, str(port)], stdout=subprocess.PIPE,
                            stderr=sys.stderr, preexec_fn=servers.proc.die_with_parent)
    try:
        assert node.stdout.readline() == b"ready\n"
        front = weir({"listeners": {"web": {"protocols": ["h2c", "http/1.1"]}},
                      "pools": {"app": {"endpoints": ["127.0.0.1:%d" % port],
                                        "connections": {"protocol": "h2c"}}},
                      "routes": [{"prefix": "/", "pool": "app"}]})
        for version in ("--http1.1", "--http2-prior-knowledge"):
            for size in SIZES:
                out = curl(front, "/n?q=%d" % size, "--data-binary", "@-", "-D", "/dev/stderr",
                           version=version, input=pattern(size), stderr=subprocess.DEVNULL)
                assert out == pattern(size)
        out = curl(front, "/n?q=1", "-i", version="--http2-prior-knowledge").decode()
        assert "x-path: /n?q=1" in out and "x-scheme: http" in out
    finally:
        node.kill()
        node.wait()
        node.stdout.close()
