"""Clients as people have them: wrk, httpx, curl, h2load; and the small commands of weir itself."""
import json
import re
import signal
import subprocess

import httpx
import pytest

from harness import certs, proc, tcpsite, udpsite
from harness.weir import binary, eventually, run

APP = {"name": "all", "prefix": "/", "pool": "app"}


@pytest.fixture
def served(weir, nginx):
    """weir in front of one nginx that has a file of 100,000 bytes."""
    server = nginx("origin")
    (server.files / "f.txt").write_bytes(b"0123456789" * 10000)
    proxy = weir({"pools": {"app": {"endpoints": [server.address]}}, "routes": [APP]})
    proxy.url = "http://127.0.0.1:%d" % proxy.port
    return proxy


@pytest.mark.parametrize("connections,path", [
    (64, "/small"), (500, "/small"), (32, "/files/f.txt")])
def test_wrk(served, connections, path):
    out = subprocess.run(["wrk", "-t1", "-c%d" % connections, "-d2s", served.url + path],
                         capture_output=True, text=True, timeout=60, check=True).stdout
    requests = int(re.search(r"(\d+) requests in", out)[1])
    assert requests > 500 and "Socket errors" not in out and "Non-2xx" not in out, out
    assert served.metric("weir_request_end_total", end="ok") >= requests


def test_h2load_speaks_http_1(served):
    out = subprocess.run(["h2load", "--h1", "-n5000", "-c32", "-m8", served.url + "/small"],
                         capture_output=True, text=True, timeout=60, check=True).stdout
    assert "5000 succeeded, 0 failed, 0 errored" in out, out


def test_httpx(served):
    with httpx.Client(base_url=served.url, trust_env=False) as session:
        assert session.get("/files/f.txt").text == "0123456789" * 10000
        assert session.head("/files/f.txt").headers["content-length"] == "100000"
        with session.stream("GET", "/files/f.txt") as response:
            assert sum(len(part) for part in response.iter_raw(999)) == 100000
        assert served.metric("weir_downstream_connections_total") == 1
        assert session.post("/small", content=iter([b"a" * 1000] * 50)).status_code == 200


CURL = {
    "get": ([], 200), "head": (["-I"], 200), "post": (["-d", "x" * 5000], 200),
    "expect": (["-H", "Expect: 100-continue", "-d", "x" * 5000], 200),
    "chunked": (["-H", "Transfer-Encoding: chunked", "-d", "x" * 5000], 200),
    "http_1_0": (["-0"], 200), "range": (["-r", "0-9"], 206),
    "upload": (["-T", "/etc/passwd"], 405),
}


@pytest.mark.parametrize("how", CURL)
def test_curl(served, how):
    extra, status = CURL[how]
    path = "/files/f.txt" if how in ("get", "head", "range", "upload") else "/small"
    result = subprocess.run(["curl", "-sS", "--noproxy", "*", "-o", "/dev/null", "-w",
                             "%{http_code}", *extra, served.url + path], capture_output=True,
                            text=True, timeout=60,
                            check=False)
    assert result.returncode == 0 and result.stdout == str(status), result


def test_health_command(weir, backend):
    """For containers: 0 when ready, 1 when not."""
    proxy = weir({}, backend)
    assert run("health", "-c", proxy.path).returncode == 0
    assert run("health", "127.0.0.1:%d" % proxy.status).returncode == 0
    assert run("health", "127.0.0.1:%d" % proc.free_port()).returncode == 1


def test_status_and_metrics_commands(weir, backend):
    proxy = weir({}, backend)
    assert proxy.get("/x").status == 200
    proxy.logged(path="/x")
    status = run("status", "-c", proxy.path)
    assert status.returncode == 0 and json.loads(status.stdout)
    metrics = run("metrics", "-c", proxy.path)
    assert metrics.returncode == 0 and 'weir_request_end_total{end="ok"} 1' in metrics.stdout


def test_drain_command(weir, backend):
    proxy = weir({}, backend)
    assert run("drain", "-c", proxy.path).returncode == 0
    assert proxy.process.wait(30) == 0


def test_completion():
    script = run("completion", "bash")
    assert script.returncode == 0 and "reload" in script.stdout
    subprocess.run(["bash", "-n"], input=script.stdout, text=True, check=True, timeout=20)


PROXIED = [("8080", "9"), ("127.0.0.1:1234", "127.0.0.1:9"), ("--tls", "8443", "9"),
           ("http://:8080", "http://h:9/", "i:9"), ("tcp://5432", "127.0.0.1:9", "tcp://[::1]:9"),
           ("--tls", "tcp://:5432", "9"), ("tcp://unix:/run/x.sock", "unix:/run/y.sock"),
           ("udp://53", "udp://127.0.0.1:9")]


@pytest.mark.parametrize("args", PROXIED, ids=" ".join)
def test_print_config(work, args):
    """weir proxy --print-config gives a file that check accepts."""
    shown = run("proxy", "--print-config", *args)
    words = [word for word in args if word != "--tls"]
    kind = words[0].split(":")[0] if "://" in words[0] else "http"
    assert shown.returncode == 0, shown
    assert ('protocol = "%s"' % kind in shown.stdout) == (kind != "http"), shown
    assert ("routes" in shown.stdout) == (kind == "http"), shown
    for word in words:
        bare = word.split("://")[-1].strip("/").lstrip(":")
        assert '"%s%s"' % ("127.0.0.1:" if bare.isdigit() else "", bare) in shown.stdout, shown
    path = work / "proxy.conf"
    path.write_text(shown.stdout)
    cert, key = certs.Authority(work).pem(["localhost"])
    told = run("check", "--text", path, env={"WEIR_SELF_SIGNED_CERT": cert.decode(),
                                             "WEIR_SELF_SIGNED_KEY": key.decode()})
    assert told.returncode == 0, told


@pytest.mark.parametrize("args,why", [
    (("tcp://", "9"), '"tcp://" is no address'),
    (("tls://8080", "9"), '"tls://8080" is no address'),
    (("localhost", "9"), '"localhost" has no port, as in localhost:9001'),
    (("[::1]", "9"), '"[::1]" has no port'), (("70000", "9"), '"70000" is no address'),
    (("8080", "localhost"), '"localhost" has no port'),
    (("8080", "tcp://9"), '"tcp://9" is of another protocol than FROM'),
    (("tcp://8080", "udp://9"), '"udp://9" is of another protocol than FROM'),
    (("tcp://8080", "127.0.0.1:9", "http://9"), '"http://9" is of another protocol than FROM'),
    (("--tls", "udp://53", "9"), '"udp://53" is UDP: --tls means nothing there'),
    (("tcp://8080",), "proxy needs FROM and TO")], ids=str)
def test_proxy_command_refuses(args, why):
    told = run("proxy", "--print-config", *args)
    assert told.returncode == 2 and why in told.stderr and not told.stdout, told


def test_proxy_command_with_tcp_and_udp():
    """What no HTTP parser would take goes through as it is."""
    for kind, endpoint, connect in (
            ("tcp", tcpsite.Endpoint(), tcpsite.connect),
            ("udp", udpsite.Endpoint(), udpsite.connect)):
        port = udpsite.free_port()
        process = subprocess.Popen([binary(), "proxy", "%s://127.0.0.1:%d" % (kind, port),
                                    endpoint.address], stdout=subprocess.DEVNULL,
                                   stderr=subprocess.DEVNULL, preexec_fn=proc.die_with_parent)

        def answers():
            """weir proxy passes it on"""
            assert process.poll() is None
            try:
                with connect(port) as sock:
                    sock.settimeout(1)
                    sock.send(b"\0\r\n")
                    return sock.recv(3) == b"\0\r\n"
            except OSError:
                return False
        eventually(answers)
        process.send_signal(signal.SIGQUIT)
        assert process.wait(40) == 0
        endpoint.stop()


def test_proxy_command_with_tls(backend):
    """A self-signed certificate is made at start."""
    import ssl

    from harness import client
    port = proc.free_port()
    process = subprocess.Popen([binary(), "proxy", "--tls",
                                "127.0.0.1:%d" % port, backend.address], stdout=subprocess.DEVNULL,
                               stderr=subprocess.DEVNULL, preexec_fn=proc.die_with_parent)
    context = ssl._create_unverified_context()

    def answers():
        """weir proxy --tls answers"""
        assert process.poll() is None
        try:
            with client.Client(port, tls=context, sni="localhost") as conn:
                return conn.get("/t", host="localhost").body == b"GET /t"
        except OSError:
            return False
    eventually(answers)
    process.terminate()
    assert process.wait(40) == 0
