"""The loader process: its end is told at once, traffic goes on, and what needed it says so
(packaging/docs/lifecycle.md)."""
import json
import os
import pathlib
import signal
import time

from harness import proc
from harness.weir import eventually, run

ENDED = "the loader process has ended"
ALL = {"name": "all", "prefix": "/", "pool": "app"}


def loader_of(proxy):
    found = [pid for pid in proc.tree(proxy.pid) if pid != proxy.pid]
    assert len(found) == 1, found
    return found[0]


def end_loader(proxy):
    pid = loader_of(proxy)
    os.kill(pid, signal.SIGKILL)
    proxy.stderr_has(ENDED)
    return pid


def command(proxy, *args):
    return run(*args, "--admin", proxy.admin)


def told(proxy):
    return [line for line in proxy.errors.splitlines() if ENDED in line]


def test_its_end_is_told_at_once(weir, backend):
    """One line with the cause and the remedy; the metric; no zombie; requests go on."""
    proxy = weir({}, backend)
    assert proxy.metric("weir_loader_up") == 1
    keep = proxy.client()
    assert keep.get("/before").status == 200
    pid = end_loader(proxy)
    line, = told(proxy)
    assert "error" in line and "SIGKILL" in line and "restart weir" in line, line
    assert str(pid) in line
    eventually(lambda: proxy.metric("weir_loader_up") == 0)
    assert not pathlib.Path("/proc/%d" % pid).exists()
    assert keep.get("/after").status == 200 and proxy.get("/new").status == 200
    assert proxy.status_get("/-/ready").status == 200
    shown = json.loads(command(proxy, "status", "--json").stdout)["process"]
    assert shown["state"] == "running" and "restart" in shown["loader"], shown


def ignore_children():
    """As some supervisors start their services: the kernel waits for children."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)


def test_its_end_where_nobody_waits_for_children(weir, backend):
    """It is told, once, without a cause that nobody knows."""
    proxy = weir({}, backend, preexec=ignore_children)
    end_loader(proxy)
    line, = told(proxy)
    assert "nobody knows how" in line and "exit status" not in line, line
    eventually(lambda: proxy.metric("weir_loader_up") == 0)
    time.sleep(0.2)
    assert len(told(proxy)) == 1 and proxy.get("/x").status == 200


def test_a_reload_says_that_it_cannot(weir, backend):
    """Not that the file is bad: it is not."""
    proxy = weir({}, backend)
    end_loader(proxy)
    for args in (["reload"], ["plan"], ["plan", proxy.path]):
        result = command(proxy, *args, "--text")
        assert result.returncode == 1, result
        assert ENDED in result.stderr and "restart weir" in result.stderr, result
        assert "generation 1 keeps running" in result.stderr, result
        assert "W0303" not in result.stderr and "Broken pipe" not in result.stderr, result
    result = command(proxy, "reload", "--json")
    answer = json.loads(result.stdout)
    assert result.returncode == 1 and not answer["ok"], result
    assert answer["faults"] == [] and ENDED in answer["error"], answer
    proxy.signal(signal.SIGHUP)
    eventually(lambda: proxy.metric("weir_config_reloads_total", result="refused") == 3)
    assert "Broken pipe" not in proxy.errors
    assert proxy.generation() == 1 and proxy.get("/x").status == 200


def test_a_reload_right_behind_its_end(weir, backend):
    """Whoever notices first."""
    proxy = weir({}, backend)
    proxy.change(routes=[ALL, {"name": "new", "path": "/new", "respond": {"status": 200}}])
    os.kill(loader_of(proxy), signal.SIGKILL)
    result = command(proxy, "reload", "--text")
    assert result.returncode == 1 and ENDED in result.stderr, result
    assert "W0303" not in result.stderr, result
    proxy.stderr_has("killed by")


def test_certificates_and_logs(weir, backend, authority):
    """A changed file is not called bad, a log that cannot be reopened is written on."""
    port = proc.free_port()
    row = authority.leaf(["a.example"], stem="a")
    log = authority.directory / "errors.log"
    proxy = weir({"log": {"to": str(log)}, "listeners": {"tls": {
        "bind": "127.0.0.1:%d" % port,
        "tls": {"certificates": [dict(names=["a.example"], **row)]}}}}, backend)
    os.kill(loader_of(proxy), signal.SIGKILL)
    eventually(lambda: ENDED in log.read_text())
    authority.leaf(["a.example"], stem="a")
    moved = log.with_suffix(".1")
    log.rename(moved)
    proxy.signal(signal.SIGUSR1)
    eventually(lambda: "cannot be reopened" in moved.read_text())
    line = [each for each in moved.read_text().splitlines() if "cannot be reopened" in each][0]
    assert ENDED in line and "restart weir" in line, line
    conn = proxy.client(port, tls=authority.client_context(), sni="a.example")
    assert conn.get("/on", host="a.example").status == 200
    looks_pass(proxy)
    assert "Broken pipe" not in moved.read_text() and "a.crt" not in moved.read_text()
    assert proxy.metric("weir_certificate_files_refused") == 0
    assert proxy.metric("weir_certificate_updates_total", result="refused") == 0


def looks_pass(proxy):
    """Longer than two looks at the files take (COMPILER_WATCH_MS)."""
    end = time.monotonic() + 5
    while time.monotonic() < end:
        assert proxy.get("/x").status == 200
        time.sleep(0.2)


def test_two_names_in_ps(weir, backend):
    """Who looks for weir sees which of the two is which."""
    proxy = weir({}, backend)
    pid = loader_of(proxy)
    assert pathlib.Path("/proc/%d/comm" % pid).read_text() == "weir-loader\n"
    shown = pathlib.Path("/proc/%d/cmdline" % pid).read_bytes().rstrip(b"\0")
    assert shown.startswith(b"weir: loader"), shown
    own = pathlib.Path("/proc/%d/cmdline" % proxy.pid).read_bytes()
    assert own.split(b"\0")[1:3] == [b"run", b"-c"], own
