"""Start, drain, end, signals, logs (DESIGN.md sections 4, 6 and 8)."""
import fcntl
import json
import os
import re
import signal
import subprocess
import threading
import time

import pytest

from harness import client, proc, wire
from harness.weir import eventually

ASK = ["Connection: Upgrade", "Upgrade: websocket"]
SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"


class Held:
    """A handler that answers when released."""

    def __init__(self):
        self.go = threading.Event()

    def __call__(self, conn, request):
        conn.read_body(request)
        self.go.wait(30)
        return wire.response_bytes(body=b"held")


def test_health_pages(weir, backend):
    proxy = weir({}, backend)
    for path in ("/-/live", "/-/ready", "/-/started"):
        assert proxy.status_get(path).status == 200
    page = proxy.status_get("/")
    assert page.status == 200 and b"weir" in page.body.lower()
    assert proxy.status_get("/none").status == 404


def test_status_port_is_http(weir, backend):
    """Faults and foreign methods on the status port are answered, not fatal."""
    proxy = weir({}, backend)
    for data in (b"nonsense\r\n\r\n", b"GET / HTTP/9\r\n\r\n", b"\0" * 5000,
                 b"GET /" + b"x" * 100000, b""):
        conn = proxy.client(proxy.status)
        conn.try_send(data)
        try:
            conn.half_close()
            conn.read_all()
        except OSError:
            pass
    assert proxy.status_get("/-/live").status == 200
    with client.Client(proxy.status) as conn:
        assert conn.request("POST", "/metrics", body=b"x").status in (405, 413)
    with client.Client(proxy.status) as conn:
        assert conn.request("HEAD", "/metrics").status == 200


def test_slow_client_of_the_status_port_stops_nobody(weir, backend):
    proxy = weir({}, backend)
    held = [proxy.client(proxy.status) for _ in range(20)]
    for conn in held:
        conn.send(b"GET /metrics HTTP/1.1\r\n")
    assert proxy.status_get("/-/ready").status == 200
    assert proxy.get("/x").status == 200


def test_drain(weir, new_backend):
    """SIGTERM: readiness fails, what runs finishes with Connection: close, then exit 0."""
    held = Held()
    backend = new_backend(held)
    proxy = weir({"process": {"drain": "20s"}}, backend)
    busy, idle = proxy.client(), proxy.client()
    backend.default, default = (lambda _c, _r: wire.response_bytes()), backend.default
    assert idle.get("/idle").status == 200
    backend.default = default
    busy.send(wire.request_bytes(target="/busy"))
    backend.wait(2)
    proxy.signal(signal.SIGTERM)

    def unready():
        """/-/ready answers 503"""
        return proxy.status_get("/-/ready").status == 503
    eventually(unready)
    proxy.stderr_has("SIGTERM: draining 2 connections for at most 20 s")
    idle.expect_close()
    assert proxy.status_get("/-/live").status == 200
    held.go.set()
    response = busy.response()
    assert response.body == b"held" and response.get("connection") == "close"
    busy.expect_close()
    assert proxy.process.wait(30) == 0
    proxy.ended_ok = proxy.logged(path="/busy", end="ok")


def test_drain_settle(weir, backend):
    """During drain_settle readiness fails but new requests on new connections are served."""
    proxy = weir({"process": {"drain_settle": "1500ms", "drain": "5s"}}, backend)
    proxy.signal(signal.SIGTERM)

    def unready():
        """/-/ready answers 503"""
        return proxy.status_get("/-/ready").status == 503
    eventually(unready)
    assert proxy.get("/settling").status == 200
    assert proxy.process.wait(30) == 0


def test_drain_has_a_deadline(weir, new_backend):
    """What does not finish within process.drain is ended, and the exit status is 0 all the
    same."""
    held = Held()
    backend = new_backend(held)
    proxy = weir({"process": {"drain": "500ms"}}, backend)
    busy = proxy.client()
    busy.send(wire.request_bytes(target="/busy"))
    backend.wait()
    proxy.signal(signal.SIGTERM)
    assert proxy.process.wait(30) == 0
    held.go.set()
    data = busy.read_all()
    assert data == b"" or data.startswith(b"HTTP/1.1 503 ")
    assert proxy.logged(path="/busy")["weir.end"] == "proxy.drain"


def test_drain_ends_tunnels_at_the_deadline(weir, new_backend):
    def tunnel(conn, _request):
        conn.send(SWITCH)
        while conn.reader.fill():
            pass
    proxy = weir({"process": {"drain": "500ms"}}, new_backend(tunnel))
    conn = proxy.client()
    conn.send(wire.request_bytes(target="/ws", fields=ASK))
    assert conn.response().status == 101
    proxy.signal(signal.SIGTERM)
    assert proxy.process.wait(30) == 0
    assert proxy.logged(path="/ws")["weir.end"] == "proxy.drain.tunnel"


def test_drain_with_pipelined_requests(weir, backend):
    """Requests that came before the drain are answered."""
    proxy = weir({"process": {"drain": "20s"}}, backend)
    conn = proxy.client()
    conn.send(b"".join(wire.request_bytes(target="/%d" % i) for i in range(200)))
    assert conn.response().body == b"GET /0"
    proxy.signal(signal.SIGTERM)
    answered = 1
    while True:
        try:
            response = conn.response()
        except wire.Truncated:
            break
        answered += 1
        if response.get("connection") == "close":
            break
    conn.expect_close()
    assert proxy.process.wait(30) == 0
    assert len(backend.requests) == answered


def test_drain_under_load(weir, nginx, load_client):
    """Every request that was accepted is answered: losses are only refused connects after the
    end."""
    server = nginx("origin")
    proxy = weir({"process": {"drain": "20s"}, "pools": {"app": {"endpoints": [server.address]}},
                  "routes": [{"prefix": "/", "pool": "app"}]})
    running = load_client(proxy.port, 64)
    time.sleep(0.5)
    proxy.signal(signal.SIGTERM)
    assert proxy.process.wait(30) == 0
    report = running.stop()
    assert report["ok"] > 200
    wrong = [f for f in report["failures"] if not f.startswith(("connect", "send"))]
    assert not wrong, wrong


@pytest.mark.parametrize("sig", [signal.SIGQUIT, signal.SIGINT])
def test_ends_at_once(weir, new_backend, sig):
    """SIGQUIT does not wait; neither may a second signal."""
    held = Held()
    backend = new_backend(held)
    proxy = weir({"process": {"drain": "1h"}}, backend)
    busy = proxy.client()
    busy.send(wire.request_bytes(target="/busy"))
    backend.wait()
    proxy.signal(sig)
    if sig == signal.SIGINT:
        time.sleep(0.2)
        proxy.signal(signal.SIGQUIT)
    status = proxy.process.wait(30)
    held.go.set()
    assert status == 0


def test_children_end_with_weir(weir, backend):
    """No loader process is left behind, even after SIGKILL."""
    proxy = weir({}, backend)
    pids = proc.tree(proxy.pid)
    proxy.process.kill()
    proxy.process.wait()
    proxy.process, leftover = None, pids[1:]

    def gone():
        """the helper processes ended"""
        return not [pid for pid in leftover if proc.runs(pid)]
    eventually(gone)


def test_sigusr1_reopens_the_log(weir, backend):
    proxy = weir({}, backend)
    assert proxy.get("/before").status == 200
    proxy.logged(path="/before")
    moved = proxy.access.with_suffix(".1")
    proxy.access.rename(moved)
    assert proxy.get("/between").status == 200
    eventually(lambda: b"/between" in moved.read_bytes())
    proxy.signal(signal.SIGUSR1)
    eventually(proxy.access.exists)
    proxy.read_to, proxy.records = 0, []
    assert proxy.get("/after").status == 200
    proxy.logged(path="/after")
    assert b"/after" not in moved.read_bytes()


def test_log_to_stdout(weir, backend):
    """JSON lines on stdout, each whole."""
    read, write = os.pipe()
    proxy = weir({"log": {"access": {"to": "stdout"}}}, backend, stdout=write)
    os.close(write)
    for number in range(10):
        assert proxy.get("/%d" % number).status == 200
    text = b""
    while text.count(b"\n") < 10:
        text += os.read(read, 65536)
    lines = [json.loads(line) for line in text.splitlines()]
    assert sorted(line["url.path"] for line in lines) == ["/%d" % n for n in range(10)]
    os.close(read)


def dropped(proxy):
    """(lines told, in all) of each message about dropped lines."""
    return [(int(told), int(total)) for told, total in re.findall(
        r"log: (\d+) lines dropped \((\d+) in all\): stdout takes them too slowly", proxy.errors)]


def test_log_to_a_full_pipe_blocks_nobody(weir, nginx, load_client):
    """stdout that nobody reads: requests go on, dropped lines are counted, and the error log says
    so while it lasts, with the remedy."""
    read, write = os.pipe()
    fcntl.fcntl(read, 1031, 4096)  # F_SETPIPE_SZ
    server = nginx("origin")
    proxy = weir({"log": {"access": {"to": "stdout"}},
                  "pools": {"app": {"endpoints": [server.address]}},
                  "routes": [{"prefix": "/", "pool": "app"}]}, stdout=write)
    os.close(write)
    report = load_client(proxy.port, 64, 3).result()
    assert report["failed"] == 0 and report["ok"] > 500, report
    if report["ok"] > 20000:
        eventually(lambda: proxy.metric("weir_log_dropped_total") > 0)
        eventually(lambda: dropped(proxy))
        assert len(dropped(proxy)) <= 2  # one in ten seconds
        assert 0 < dropped(proxy)[0][0] == dropped(proxy)[0][1]
        proxy.stderr_has("log.access.sample")
    proxy.change(process={"drain": "3s"})
    proxy.reload()
    proxy.stderr_has("reloaded: generation 2 runs")  # the error log goes on
    assert proxy.get("/still").status == 200
    drained = threading.Thread(target=lambda: [None for _ in iter(lambda: os.read(read, 65536),
                                                                  b"")], daemon=True)
    drained.start()
    proxy.stop()
    drained.join(10)
    os.close(read)


def test_full_pipe_does_not_stop_the_drain(weir, backend):
    """A log that hangs for ever does not keep weir from ending."""
    read, write = os.pipe()
    fcntl.fcntl(read, 1031, 4096)
    proxy = weir({"log": {"access": {"to": "stdout"}}}, backend, stdout=write)
    os.close(write)
    conn = proxy.client()
    for number in range(300):
        assert conn.get("/" + "p" * 100 + str(number)).status == 200
    proxy.signal(signal.SIGTERM)
    try:
        assert proxy.process.wait(30) == 0
    finally:
        os.close(read)


def test_log_to_a_full_disk(weir, backend):
    """/dev/full: no request fails; weir counts the lines that are lost, and says so once in a
    while, with the cause."""
    proxy = weir({"log": {"access": {"to": "/dev/full"}}}, backend)
    for number in range(50):
        assert proxy.get("/%d" % number).status == 200
    eventually(lambda: proxy.metric("weir_log_lost_total") == 50)
    proxy.stderr_has("/dev/full does not take them: No space left on device")
    assert proxy.errors.count("lines lost") == 1


def test_stdout_closed(weir, backend):
    """A reader that went away is no reason to die."""
    read, write = os.pipe()
    proxy = weir({"log": {"access": {"to": "stdout"}}}, backend, stdout=write)
    os.close(write)
    os.close(read)
    for number in range(20):
        assert proxy.get("/%d" % number).status == 200
    assert proxy.process.poll() is None


def test_access_log_off(weir, backend):
    proxy = weir({"log": {"access": {"to": "off"}}}, backend)
    assert proxy.get("/x").status == 200
    assert not proxy.access.exists()


def test_access_log_sample(weir, backend):
    """sample leaves out good requests, never failed ones."""
    proxy = weir({"log": {"access": {"sample": "0%"}},
                  "routes": [{"prefix": "/up", "pool": "app"}]}, backend)
    for _ in range(20):
        assert proxy.get("/up").status == 200
    assert proxy.get("/none").status == 404
    proxy.logged(path="/none", end="proxy.no_route")
    assert not [r for r in proxy.lines() if r["weir.end"] == "ok"]


def test_access_log_text(weir, backend):
    proxy = weir({"log": {"access": {"format": "text"}}}, backend)
    assert proxy.get("/for-people").status == 200
    eventually(lambda: proxy.access.exists() and "/for-people" in proxy.access.read_text())
    assert " 200 " in proxy.access.read_text() and not proxy.access.read_text().startswith("{")


HOSTILE = ["/%22%5C%0a", '/"quote"', "/'<script>", "/\x7e" + "x" * 3000, "/%e2%80%a8"]


@pytest.mark.parametrize("target", HOSTILE, ids=range(len(HOSTILE)))
def test_log_lines_cannot_be_forged(weir, backend, target):
    """Whatever a client sends stays one valid JSON line."""
    proxy = weir({}, backend)
    agent = 'evil"}\t{"weir.end":"ok"} \\ \xff\xfe'
    response = proxy.get(target, ["User-Agent: %s" % agent])
    assert response.status in (200, 400)
    proxy.logged(status=response.status)
    data = proxy.access.read_bytes()
    assert data.count(b"\n") == 1
    json.loads(data.decode("utf-8"))


LOG_KEYS = {
    "http.request.method": "GET", "url.scheme": "http", "url.path": "/keys", "url.query": "q=1",
    "server.address": "log.example", "http.route": "all", "http.response.status_code": 200,
    "network.protocol.name": "http", "network.protocol.version": "1.1",
    "client.address": "127.0.0.1",
    "network.peer.address": "127.0.0.1", "user_agent.original": "tester/1.0",
    "http.response.body.size": 13,
    "weir.pool": "app", "weir.attempts": 1, "weir.end": "ok"}


def test_log_keys(weir, backend):
    """DESIGN.md section 8, with the values of one request."""
    proxy = weir({}, backend)
    assert proxy.get("/keys?q=1", ["User-Agent: tester/1.0"], host="log.example").status == 200
    record = proxy.logged(path="/keys")
    assert {key: record.get(key) for key in LOG_KEYS} == LOG_KEYS
    assert record["weir.endpoint"] == backend.address
    for phase in ("total", "request", "connect", "first_byte", "response"):
        assert record["weir.duration_ms." + phase] >= 0
    assert "time" in record and "error.type" not in record


def test_error_type_in_the_log(weir):
    proxy = weir({"routes": [{"path": "/x", "respond": {"status": 200}}]})
    assert proxy.get("/none").status == 404
    assert proxy.logged(path="/none")["error.type"]


def test_traceparent_is_logged(weir, backend):
    proxy = weir({}, backend)
    trace = "0af7651916cd43dd8448eb211c80319c"
    assert proxy.get("/t", ["traceparent: 00-%s-b7ad6b7169203331-01" % trace]).status == 200
    assert proxy.logged(path="/t")["trace_id"] == trace
    assert proxy.get("/u", ["traceparent: nonsense"]).status == 200
    assert "trace_id" not in proxy.logged(path="/u")


def test_status_command(weir, backend):
    """weir status, drain and reload speak to the admin socket, which is closed to others."""
    from harness.weir import run
    proxy = weir({}, backend)
    assert os.stat(proxy.admin).st_mode & 0o777 == 0o600
    result = run("status", "-c", proxy.path)
    assert result.returncode in (0, 2)
    result = run("drain", "-c", proxy.path)
    if result.returncode == 0:
        assert proxy.process.wait(30) == 0


def test_reload_command_without_a_weir(weir, backend):
    from harness.weir import run
    proxy = weir({}, backend, start=False)
    result = run("reload", "-c", proxy.path)
    assert result.returncode == 1 and result.stderr + result.stdout


def test_stale_admin_socket_is_replaced(weir, backend):
    """After SIGKILL the socket file is left: the next start takes it over."""
    proxy = weir({}, backend)
    proxy.process.kill()
    proxy.process.wait()
    assert proxy.admin.exists()
    proxy.start()
    assert proxy.get("/x").status == 200


def test_start_is_said(weir, backend):
    proxy = weir({}, backend)
    proxy.stderr_has("generation 1")
    lines = [json.loads(line) for line in proxy.errors.splitlines()]
    assert any("generation 1" in line["message"] for line in lines), proxy.errors


def test_no_descriptor_leak(weir, backend):
    """Descriptors are the same after traffic of every kind as before."""
    proxy = weir({"process": {"workers": 1}}, backend)

    def round_of_traffic():
        conn = proxy.client()
        assert conn.get("/a").status == 200
        conn.send(b"BAD\r\n\r\n")
        assert conn.response().status == 400
        for _ in range(10):
            assert proxy.request("POST", "/b", body=b"x" * 100000).status == 200
        proxy.client().reset()
        for each in proxy.clients:
            each.close()
        eventually(lambda: proxy.metric("weir_downstream_connections") == 0)
    round_of_traffic()
    before = eventually(lambda: proc.fd_count(proxy.pid))
    for _ in range(5):
        round_of_traffic()
    eventually(lambda: proc.fd_count(proxy.pid) <= before + 1)


def test_daemon_output_is_clean(weir, backend):
    """A quiet start logs no warning."""
    proxy = weir({}, backend)
    assert "warn" not in proxy.errors.lower() and "error" not in proxy.errors.lower(), proxy.errors


@pytest.mark.skipif(os.getuid() != 0, reason="needs root")
def test_root_is_told_once(weir, backend):
    """Who stays root is told at the start, and not again at each reload; who became another user,
    or was one, is not."""
    root = weir({}, backend)
    root.stderr_has("runs: generation 1")
    line, = [each for each in root.errors.splitlines() if "as root" in each]
    assert "process.user" in line and "info" in line, line
    root.reload()
    assert root.errors.count("as root") == 1, root.errors
    user = weir({"process": {"user": "nobody"}}, backend)
    user.reload()
    user.stderr_has("reloaded")
    assert "as root" not in user.errors, user.errors


def test_idle_costs_no_cpu(weir, backend):
    """Without traffic no thread spins: less than 5 % of one core over two seconds is generous."""
    proxy = weir({}, backend)
    conns = [proxy.client() for _ in range(50)]
    for conn in conns:
        assert conn.get("/warm").status == 200
    time.sleep(0.5)
    before = proc.cpu_seconds(proxy.pid)
    time.sleep(2)
    assert proc.cpu_seconds(proxy.pid) - before < 0.3


def test_python_http_backend(weir, work):
    """The standard library's server as an upstream."""
    port = proc.free_port()
    (work / "page.txt").write_text("from python")
    server = subprocess.Popen(["/usr/bin/python3", "-m", "http.server", str(port), "--bind",
                               "127.0.0.1", "-d", str(work)],
                              stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                              preexec_fn=proc.die_with_parent)
    proxy = weir({"pools": {"app": {"endpoints": ["127.0.0.1:%d" % port]}},
                  "routes": [{"prefix": "/", "pool": "app"}]})
    eventually(lambda: proxy.get("/page.txt").body == b"from python")
    conn = proxy.client()
    for _ in range(10):
        assert conn.get("/page.txt").body == b"from python"
    assert conn.get("/none").status == 404
    server.kill()
    server.wait()
