"""What a service manager gives and is told: sockets that it passes (LISTEN_FDS), READY, RELOADING
and STOPPING (NOTIFY_SOCKET), the shipped unit. The manager is the test itself."""
import contextlib
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys

import pytest

from harness import client, proc, wire
from harness.weir import binary, eventually, run

ROOT = pathlib.Path(__file__).resolve().parents[2]
# Puts descriptors where systemd does, 3 and on, in the process that becomes weir.
LAUNCH = """
import fcntl, os, sys
names, fds, rest = sys.argv[1], [int(n) for n in sys.argv[2].split(",") if n], sys.argv[3:]
high = [fcntl.fcntl(fd, fcntl.F_DUPFD, 100) for fd in fds]
for place, fd in enumerate(high, 3):
    os.dup2(fd, place)
    os.close(fd)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=str(len(fds)))
if names != "-":
    os.environ["LISTEN_FDNAMES"] = names
os.execv(rest[0], rest)
"""
WEB = {"listeners": {"web": {"bind": "fd:web"}}}


def passed(names, *sockets):
    """Options for a start with these sockets under these names ("-": without names)."""
    fds = [each.fileno() for each in sockets]
    return {"launch": [sys.executable, "-c", LAUNCH, names, ",".join(map(str, fds))],
            "pass_fds": fds}


@contextlib.contextmanager
def tcp(listening=True):
    with socket.socket() as made:
        made.bind(("127.0.0.1", 0))
        if listening:
            made.listen(64)
        yield made


@pytest.fixture
def web():
    with tcp() as made:
        yield made


def port_of(made):
    return made.getsockname()[1]


# ---- sockets that are passed ----

def test_passed_socket_serves(weir, backend, web):
    """Also what was queued before weir ran; the socket is the manager's own."""
    early = client.Client(port_of(web))
    early.send(wire.request_bytes(target="/early"))
    proxy = weir(WEB, backend, **passed("web", web))
    assert early.response().body == b"GET /early"
    early.close()
    assert os.fstat(web.fileno()).st_ino in proc.sockets(proxy.pid)
    for number in range(8):  # whichever worker takes it
        assert proxy.get("/%d" % number, port=port_of(web)).body == b"GET /%d" % number


def test_passed_socket_over_reloads(weir, backend, web):
    """Connections stay; a listener that goes and comes back finds its socket again, and what was
    queued meanwhile is served."""
    with tcp() as more:
        proxy = weir(WEB, backend, **passed("web:more", web, more))
        conn = proxy.client(port_of(web))
        assert conn.get("/1").status == 200
        proxy.change(routes=[{"name": "all", "prefix": "/", "pool": "app", "timeout": "9s"}])
        proxy.reload()
        proxy.change(listeners={"more": {"bind": "fd:more"}})
        proxy.reload()
        assert proxy.get("/more", port=port_of(more)).status == 200
        proxy.change(listeners={"more": None})
        proxy.reload()
        late = proxy.client(port_of(more))
        late.send(wire.request_bytes(target="/late"))
        proxy.change(listeners={"more": {"bind": "fd:more"}})
        proxy.reload()
        assert late.response().body == b"GET /late"
        assert conn.get("/2").status == 200 and len(backend.conns) <= 4
        assert proxy.metric("weir_config_reloads_total", result="ok") == 4


def test_passed_socket_beside_a_bound_one(weir, backend, web):
    proxy = weir({}, backend, start=False, **passed("x:web:y", web, web, web))
    proxy.change(listeners={"web": {"bind": ["127.0.0.1:%d" % proxy.port, "fd:web"]}})
    proxy.start()
    assert proxy.get("/a").status == proxy.get("/b", port=port_of(web)).status == 200


def test_passed_unix_socket(weir, backend, work):
    path = str(work / "passed.sock")
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(path)
        made.listen(16)
        weir(WEB, backend, **passed("web", made))
        with socket.socket(socket.AF_UNIX) as conn:
            conn.settimeout(30)
            conn.connect(path)
            conn.sendall(wire.request_bytes(target="/u", fields=["Connection: close"]))
            assert conn.recv(4096).startswith(b"HTTP/1.1 200 ")


def test_passed_without_names(weir, backend, web):
    """systemd calls those "unknown"."""
    proxy = weir({"listeners": {"web": {"bind": "fd:unknown"}}}, backend, **passed("-", web))
    assert proxy.get("/x", port=port_of(web)).status == 200


def cannot_start(proxy, names, *sockets, env=None):
    options = passed(names, *sockets)
    result = subprocess.run([*options["launch"], binary(), "run", "-c", str(proxy.path)],
                            pass_fds=options["pass_fds"], capture_output=True, text=True,
                            timeout=60, check=False, env=dict(os.environ, **(env or {})))
    assert result.returncode == 75, result
    return result.stderr


def test_name_that_was_not_passed(weir, backend, web):
    """Which names there are, and where they come from; the same at a reload, which then changes
    nothing."""
    proxy = weir(WEB, backend, start=False)
    said = cannot_start(proxy, "http:admin", web, web)
    assert "fd:web" in said and "fd:http, fd:admin" in said and "FileDescriptorName" in said
    assert "(listener web)" in said
    proxy = weir({}, backend, **passed("other", web))
    proxy.change(listeners={"more": {"bind": "fd:more"}})
    result = run("reload", "--text", "--admin", proxy.admin)
    assert result.returncode == 1 and "fd:more" in result.stderr and "fd:other" in result.stderr
    assert proxy.generation() == 1 and proxy.get("/x").status == 200


def test_nothing_was_passed(weir, backend):
    proxy = weir(WEB, backend, start=False)
    result = run("run", "-c", proxy.path)
    assert result.returncode == 75 and "no descriptor was passed" in result.stderr
    assert ".socket unit" in result.stderr and "fd:web" in result.stderr
    stale = run("run", "-c", proxy.path, env={"LISTEN_PID": "1", "LISTEN_FDS": "1",
                                              "LISTEN_FDNAMES": "web"})
    assert stale.returncode == 75 and "no descriptor was passed" in stale.stderr


def test_name_that_was_passed_twice(weir, backend, web):
    proxy = weir(WEB, backend, start=False)
    assert "several descriptors have that name" in cannot_start(proxy, "web:web", web, web)


def test_passed_socket_that_does_not_listen(weir, backend):
    proxy = weir(WEB, backend, start=False)
    with tcp(listening=False) as idle, socket.socket(type=socket.SOCK_DGRAM) as datagrams:
        for made in (idle, datagrams):
            assert "no listening stream socket" in cannot_start(proxy, "web", made)


def test_check_of_a_passed_name(conf_text):
    """Check does not ask for the descriptor; addresses that cannot be passed are refused."""
    assert conf_text("fd:web").returncode == 0
    wrong = conf_text("fd:a:b")
    assert wrong.returncode == 78 and "W0206" in wrong.stdout


@pytest.fixture
def conf_text(work):
    def check(bind):
        path = work / "weir.conf"
        path.write_text('listeners = { web = { bind = "%s"; }; };\n'
                        'routes = ( { respond = { status = 200; }; } );\n' % bind)
        return run("check", path)
    return check


def test_children_get_no_passed_descriptor(weir, backend, web):
    """The loader process neither keeps the socket nor the variables."""
    proxy = weir(WEB, backend, **passed("web", web))
    inode = os.fstat(web.fileno()).st_ino
    loader = [pid for pid in proc.tree(proxy.pid) if pid != proxy.pid]
    assert loader and all(inode not in proc.sockets(pid) for pid in loader)


# ---- what the manager is told ----

class Manager:
    """The other end of NOTIFY_SOCKET."""

    def __init__(self, address):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(address)
        self.socket.settimeout(30)
        if address[0] != "\0":
            os.chmod(address, 0o777)
        self.env = {"NOTIFY_SOCKET": "@" + address[1:] if address[0] == "\0" else address}

    def next(self):
        """One message, its lines as a dict."""
        text = self.socket.recv(4096).decode()
        return dict(line.split("=", 1) for line in text.split("\n"))


@pytest.fixture(params=["path", "abstract"])
def manager(request, work):
    made = Manager(str(work / "notify") if request.param == "path" else
                   "\0weir-test-%d-%s" % (os.getpid(), work.name))
    yield made
    made.socket.close()


def test_the_manager_is_told(weir, backend, manager):
    """READY when everything listens; RELOADING with its time and READY again, also when the file
    is bad; STOPPING when the drain begins."""
    proxy = weir({"process": {"drain": "20s"}}, backend, start=False, env=manager.env)
    proxy.start(wait=False)
    ready = manager.next()
    assert ready["READY"] == "1" and ready["STATUS"] == "generation 1 runs"
    assert proxy.get("/at-once").status == 200
    good = proxy.path.read_text()
    for text, status in ((good, "generation 2 runs"), ("nonsense", "generation 2 keeps running"),
                         (good, "generation 3 runs")):
        proxy.write(text)
        proxy.signal(signal.SIGHUP)
        reloading, ready = manager.next(), manager.next()
        assert reloading["RELOADING"] == "1" and int(reloading["MONOTONIC_USEC"]) > 0
        assert ready["READY"] == "1" and status in ready["STATUS"], ready
    proxy.signal(signal.SIGTERM)
    assert manager.next()["STOPPING"] == "1"
    assert proxy.process.wait(30) == 0


def test_the_manager_is_told_of_an_end_at_once(weir, backend, manager):
    proxy = weir({}, backend, env=manager.env)
    assert manager.next()["READY"] == "1"
    proxy.signal(signal.SIGQUIT)
    assert manager.next()["STOPPING"] == "1"
    assert proxy.process.wait(30) == 0


def test_a_start_that_fails_is_not_ready(weir, backend, manager):
    proxy = weir({"listeners": {"web": {"bind": backend.address}}}, backend, start=False)
    result = run("run", "-c", proxy.path, env=manager.env)
    assert result.returncode == 75
    manager.socket.setblocking(False)
    with pytest.raises(BlockingIOError):
        manager.next()


def test_a_manager_that_is_gone_stops_nothing(weir, backend, work):
    proxy = weir({}, backend, env={"NOTIFY_SOCKET": str(work / "nobody")})
    proxy.reload()
    assert proxy.get("/x").status == 200


# ---- the unit ----

UNIT = ROOT / "packaging/systemd/weir.service"


def unit(key):
    return [line.split("=", 1)[1] for line in UNIT.read_text().splitlines()
            if line.startswith(key + "=")]


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="no systemd-analyze here")
def test_unit_is_good(work):
    """systemd finds nothing to complain about, with the binary and its file where they are."""
    copy = work / "weir.service"
    copy.write_text(UNIT.read_text().replace("/usr/sbin/weir", binary()))
    result = subprocess.run(["systemd-analyze", "verify", str(copy)], capture_output=True,
                            text=True, timeout=60, check=False)
    assert result.returncode == 0 and not result.stdout + result.stderr, result


def test_commands_of_the_unit():
    """They are commands of this weir: start, and a reload that fails when the file is bad."""
    for line in unit("ExecStart") + unit("ExecReload"):
        words = line.lstrip("+-").split()
        assert words[0] == "/usr/sbin/weir"
        asked = run("help", words[1])
        assert asked.returncode == 0
        for flag in words[2:]:
            assert not flag.startswith("-") or flag in asked.stdout, (flag, asked.stdout)
    assert unit("RestartPreventExitStatus") == ["2 78"] and unit("Type") == ["notify"]


CAPABILITIES = {"CAP_CHOWN": 0, "CAP_DAC_READ_SEARCH": 2, "CAP_SETGID": 6, "CAP_SETUID": 7,
                "CAP_NET_BIND_SERVICE": 10}


@pytest.mark.skipif(os.getuid() != 0, reason="needs root to give up rights")
def test_rights_of_the_unit_suffice(weir, backend, authority, work):
    """With the unit's capabilities only: a key that another user owns is read, at the start and
    at a reload, logs are reopened, the user is dropped, the admin socket serves root."""
    bounds = {CAPABILITIES[name] for name in unit("CapabilityBoundingSet")[0].split()}

    def give_up():
        for number in range(41):
            if number not in bounds and proc.LIBC.prctl(24, number, 0, 0, 0):  # PR_CAPBSET_DROP
                assert number > 36
        proc.LIBC.prctl(proc.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        proc.keep_capabilities(bounds)
    rows = [dict(names=["a.example"], **authority.leaf(["a.example"], stem="a"))]
    os.chown(authority.directory / "a.key", 12345, 12345)
    assert os.stat(authority.directory / "a.key").st_mode & 0o777 == 0o600
    port = proc.free_port()
    tls = {"tls": {"bind": "127.0.0.1:%d" % port, "tls": {"certificates": rows}}}
    proxy = weir({"process": {"user": "nobody"}, "listeners": tls}, backend, preexec=give_up)
    with client.Client(port, tls=authority.client_context(), sni="a.example") as conn:
        assert conn.get("/", host="a.example").status == 200
    proxy.logged(path="/")
    moved = proxy.access.with_suffix(".1")
    proxy.access.rename(moved)
    proxy.signal(signal.SIGUSR1)
    eventually(proxy.access.exists)
    result = run("reload", "--text", "--admin", proxy.admin)
    assert result.returncode == 0 and "0 changes" in result.stdout, result
