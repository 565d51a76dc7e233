"""Real servers behind protocol = "tcp": Redis and PostgreSQL with their own clients. Each is a
server of the test's own, as an unprivileged user; where one is not installed the test is skipped
and says so."""
import pathlib
import shutil
import socket
import subprocess

import pytest

from harness import proc, tcpsite
from harness.weir import eventually

POSTGRES = sorted(pathlib.Path("/usr/lib/postgresql").glob("*/bin/postgres"))


def answers(port):
    """The server takes connections."""
    def probe():
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return True
        except OSError:
            return False
    eventually(probe)


@pytest.fixture
def place(work):
    path = work / "server"
    path.mkdir()
    path.chmod(0o777)
    return path


@pytest.fixture
def tcp(weir):
    def make(endpoint, **pool):
        port = proc.free_port()
        made = weir({"listeners": {"web": None, "db": {"bind": "127.0.0.1:%d" % port,
                                                       "protocol": "tcp", "pool": "db"}},
                     "pools": {"db": {"endpoints": ["127.0.0.1:%d" % endpoint], **pool}}})
        made.port = port
        return made
    return make


@pytest.fixture
def redis(place):
    if not shutil.which("redis-server"):
        pytest.skip("redis-server is not installed: nothing is known of Redis behind weir")
    port = proc.free_port()
    server = tcpsite.Server(place, "redis-server", "--port", port, "--bind", "127.0.0.1",
                            "--save", "", "--appendonly", "no", "--dir", place)
    answers(port)
    yield port
    server.stop()


def command(port, *words, stdin=None):
    done = subprocess.run(["redis-cli", "-p", str(port), *words], input=stdin, timeout=120,
                          capture_output=True, check=True)
    return done.stdout


def test_redis(redis, tcp):
    proxy = tcp(redis)
    assert command(proxy.port, "PING") == b"PONG\n"
    assert command(proxy.port, "SET", "key", "value") == b"OK\n"
    assert command(proxy.port, "GET", "key") == b"value\n"
    big = b"x" * (8 << 20)
    assert command(proxy.port, "-x", "SET", "big", stdin=big) == b"OK\n"
    assert command(proxy.port, "GET", "big") == big + b"\n"
    eventually(lambda: len(proxy.all_lines()) == 5)
    assert {r["weir.end"] for r in proxy.all_lines()} == {"ok"}


def test_redis_pipeline_and_push(redis, tcp):
    """Many commands at once, and messages that nobody asked for just then."""
    proxy = tcp(redis)
    lines = b"".join(b"INCR n\r\n" for _ in range(20000))
    with tcpsite.connect(proxy.port) as sock:
        sock.sendall(lines)
        sock.shutdown(socket.SHUT_WR)
        replies = tcpsite.to_end(sock).split(b"\r\n")
    assert replies[0] == b":1" and replies[-2] == b":20000"
    with tcpsite.connect(proxy.port) as listener:
        listener.sendall(b"SUBSCRIBE news\r\n")
        assert b"subscribe" in listener.recv(1000)
        assert command(proxy.port, "PUBLISH", "news", "hello") == b"1\n"
        assert b"hello" in listener.recv(1000)


@pytest.fixture
def postgres(place):
    if not POSTGRES or not shutil.which("psql"):
        pytest.skip("PostgreSQL is not installed: nothing is known of it behind weir")
    bin_dir, data, port = POSTGRES[-1].parent, place / "data", proc.free_port()
    made = subprocess.run([bin_dir / "initdb", "-D", data, "-A", "trust", "-U", "weir", "-N"],
                          preexec_fn=tcpsite.as_nobody, timeout=240, capture_output=True,
                          check=False)
    assert made.returncode == 0, made.stderr.decode()
    server = tcpsite.Server(place, bin_dir / "postgres", "-D", data, "-p", port, "-F", "-h",
                            "127.0.0.1", "-k", place)
    answers(port)

    def ready():
        return subprocess.run([bin_dir / "pg_isready", "-h", "127.0.0.1", "-p", str(port)],
                              capture_output=True, timeout=60, check=False).returncode == 0
    eventually(ready)
    yield port
    server.stop()


def sql(port, text, *options):
    psql = ["psql", "-XqAt", "-h", "127.0.0.1", "-p", str(port), "-U", "weir"]
    done = subprocess.run([*psql, *options, "postgres"], input=text, text=True,
                          timeout=120, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_postgres(postgres, tcp):
    proxy = tcp(postgres, health={"protocol": "tcp", "interval": "100ms"})
    assert sql(proxy.port, "select 6 * 7") == "42\n"
    rows = "".join("%d\t%s\n" % (i, "x" * 200) for i in range(20000))
    sql(proxy.port, "create table t (a int, b text);\ncopy t from stdin;\n%s\\.\n" % rows)
    assert sql(proxy.port, "select count(*), sum(a) from t") == "20000|199990000\n"
    assert sql(proxy.port, "copy t to stdout") == rows
    eventually(lambda: len(proxy.all_lines()) == 4)
    assert {r["weir.end"] for r in proxy.all_lines()} == {"ok"}


def test_pgbench(postgres, tcp):
    pgbench = POSTGRES[-1].parent / "pgbench"
    proxy = tcp(postgres)
    where = ["-h", "127.0.0.1", "-p", str(proxy.port), "-U", "weir", "postgres"]
    for options in (["-i", "-q"], ["-c", "8", "-j", "2", "-t", "50", "-C"]):
        done = subprocess.run([pgbench, *options, *where], timeout=240, text=True, check=False,
                              capture_output=True)
        assert done.returncode == 0, done.stderr
    assert "number of failed transactions: 0 " in done.stdout, done.stdout
    assert "transactions actually processed: 400/400" in done.stdout, done.stdout
    proxy.settle()
    assert {r["weir.end"] for r in proxy.all_lines()} == {"ok"}
