"""Reload disturbs nothing that did not change; a broken one changes nothing (DESIGN.md promise 1,
section 7 Reload)."""
import contextlib
import json
import os
import pathlib
import random
import re
import signal
import socket
import threading
import time

import pytest

from harness import client, confgen, load, proc, tcpsite, wire
from harness.backend import raw
from harness.weir import GUARD, binary, eventually, run

ALL = {"name": "all", "prefix": "/", "pool": "app"}


def respond(name, path):
    return {"name": name, "path": path, "respond": {"status": 200, "body": name}}


def command(proxy, *args):
    """weir reload, by the admin socket of the configuration."""
    return run(*args, "-c", proxy.path)


def test_sighup(weir, backend):
    proxy = weir({}, backend)
    pid, inodes = proxy.pid, proc.listening(proxy.pid)
    assert proxy.generation() == 1 and proxy.get("/new").body == b"GET /new"
    proxy.change(routes=[ALL, respond("new", "/new")])
    proxy.reload()
    assert proxy.get("/new").body == b"new"
    proxy.change(routes=[ALL])
    proxy.reload()
    assert proxy.get("/new").body == b"GET /new"
    assert proxy.pid == pid and proc.listening(pid) == inodes


def test_reload_command(weir, backend):
    """Prints the outcome and what changed."""
    proxy = weir({}, backend)
    proxy.change(routes=[ALL, respond("fresh", "/fresh")])
    result = command(proxy, "reload")
    assert result.returncode == 0, result
    assert "fresh" in result.stdout
    assert proxy.get("/fresh").body == b"fresh" and proxy.generation() == 2


def test_reload_without_a_change(weir, backend):
    proxy = weir({}, backend)
    result = command(proxy, "reload")
    assert result.returncode == 0
    assert proxy.get("/x").status == 200


def test_included_files(weir, new_backend):
    """They are read again too: a changed one, a new one, one that is gone."""
    old, new = new_backend(), new_backend()
    proxy = weir({"include": ["weir.d/*.conf"]}, start=False)
    parts = proxy.directory / "weir.d"
    parts.mkdir()

    def part(name, **conf):
        (parts / name).write_text(confgen.body(conf))

    part("10-pools.conf", pools={"app": {"endpoints": [old.address]}})
    part("20-routes.conf", routes=[ALL, respond("gone", "/gone")])
    proxy.start()
    assert proxy.get("/gone").body == b"gone" and proxy.get("/a").status == 200
    part("10-pools.conf", pools={"app": {"endpoints": [new.address]}})
    (parts / "20-routes.conf").unlink()
    part("30-routes.conf", routes=[ALL, respond("come", "/come")])
    proxy.reload()
    assert proxy.get("/come").body == b"come" and proxy.get("/gone").status == 200
    assert [request.path for request in old.requests] == ["/a"]
    assert [request.path for request in new.requests] == ["/gone"]


def test_version(weir, backend):
    """A file of another format than this one is refused whole."""
    proxy = weir({"version": 1}, backend)
    proxy.change(version=2, routes=[ALL, respond("new", "/new")])
    refused = command(proxy, "reload", "--admin", "unix:%s" % proxy.admin)
    assert refused.returncode == 78 and "version = 2;" in refused.stdout, refused
    assert proxy.get("/new").body == b"GET /new" and proxy.generation() == 1


BROKEN = ['listeners = {', 'nonsense = 1;\n', 'routes = ( { prefix = "/"; pool = "none"; } );\n',
          '\0', '']


@pytest.mark.parametrize("text", BROKEN,
                         ids=["syntax", "unknown_key", "reference", "nul", "empty"])
def test_broken_reload_keeps_the_old(weir, backend, text):
    """The old generation runs on and says so; the next good file is taken."""
    proxy = weir({}, backend)
    conn = proxy.client()
    assert conn.get("/1").status == 200
    good = proxy.path.read_text()
    proxy.write(text)
    result = command(proxy, "reload", "--admin", "unix:%s" % proxy.admin)
    assert result.returncode in (1, 78), result
    assert "W0" in result.stdout + result.stderr
    proxy.signal(signal.SIGHUP)
    proxy.stderr_has("generation 1 keeps running")
    assert conn.get("/2").status == 200 and proxy.generation() == 1
    proxy.write(good)
    proxy.reload()
    assert conn.get("/3").status == 200


def test_missing_file_keeps_the_old(weir, backend):
    proxy = weir({}, backend)
    proxy.path.unlink()
    proxy.signal(signal.SIGHUP)
    proxy.stderr_has("keeps running")
    assert proxy.get("/x").status == 200 and proxy.generation() == 1


def test_keepalive_connections_survive(weir, backend):
    """Client and upstream connections, their counters, and the listener's sockets."""
    proxy = weir({"process": {"workers": 1}}, backend)
    conn = proxy.client()
    assert conn.get("/0").status == 200
    for number in range(1, 6):
        proxy.change(routes=[ALL, respond("r%d" % number, "/r%d" % number)])
        proxy.reload()
        assert conn.get("/%d" % number).status == 200
        assert conn.get("/r%d" % number).body == b"r%d" % number
    assert len(backend.conns) == 1
    assert proxy.metric("weir_downstream_connections_total") == 1
    assert proxy.metric("weir_upstream_connects_total") == 1


def test_next_request_uses_the_new_rules(weir, new_backend):
    one, two = new_backend(), new_backend()
    proxy = weir({}, one)
    conn = proxy.client()
    assert conn.get("/1").status == 200
    proxy.change(pools={"app": {"endpoints": [two.address]}})
    proxy.reload()
    assert conn.get("/2").status == 200
    assert [r.path for r in one.requests] == ["/1"] and [r.path for r in two.requests] == ["/2"]
    assert one.conns[0].ended.wait(GUARD), "the connection to an endpoint that is gone stays open"


def test_running_requests_finish_under_the_old_rules(weir, new_backend):
    hold = threading.Event()

    def slow(conn, _request):
        conn.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nfirst")
        hold.wait(30)
        return b"-last"
    backend = new_backend(slow)
    proxy = weir({}, backend)
    conn = proxy.client()
    conn.send(wire.request_bytes(target="/slow"))
    backend.wait()
    for number in range(4):
        proxy.change(pools={"app": {"endpoints": ["127.0.0.1:%d" % (9000 + number)]}},
                     routes=[dict(ALL, name="other%d" % number)])
        proxy.reload()
    hold.set()
    assert conn.response().body == b"first-last"
    eventually(lambda: proxy.metric("weir_snapshots_live") <= 2)


def test_upload_in_flight_survives(weir, backend):
    proxy = weir({}, backend)
    conn = proxy.client()
    conn.send(b"POST /up HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n" + b"x" * 300000)
    backend.wait()
    proxy.change(routes=[ALL, respond("n", "/n")], pools={"app": {"timeouts": {"connect": "3s"}}})
    proxy.reload()
    conn.send(b"x" * 700000)
    assert conn.response().status == 200 and backend.last.body.length == 1000000


def test_queued_request_survives(weir, new_backend):
    hold = threading.Event()

    def slow(_conn, _request):
        hold.wait(30)
        return wire.response_bytes()
    backend = new_backend(slow)
    proxy = weir({"process": {"workers": 1}, "pools": {"app": {"connections": {
        "max_per_endpoint": 1, "queue_timeout": "20s"}}}}, backend)
    conns = [proxy.client() for _ in range(3)]
    for number, conn in enumerate(conns):
        conn.send(wire.request_bytes(target="/q%d" % number))
    eventually(lambda: proxy.metric("weir_upstream_queued") == 2)
    for number in range(3):
        proxy.change(routes=[ALL, respond("n%d" % number, "/n")])
        proxy.reload()
    hold.set()
    assert [conn.response().status for conn in conns] == [200] * 3


def test_listener_added_and_removed(weir, backend):
    port = proc.free_port()
    proxy = weir({}, backend)
    inodes = proc.listening(proxy.pid)
    proxy.change(listeners={"more": {"bind": "127.0.0.1:%d" % port}})
    proxy.reload()
    held = proxy.client(port)
    assert held.get("/more").status == 200
    assert set(proc.listening(proxy.pid)) == set(inodes) | {port}
    proxy.change(listeners={"more": None})
    proxy.reload()
    eventually(lambda: port not in proc.listening(proxy.pid))
    with pytest.raises(OSError):
        client.connect(port, timeout=5)
    assert {p: i for p, i in proc.listening(proxy.pid).items() if p in inodes} == inodes
    assert proxy.get("/web").status == 200


def test_removed_listener_serves_what_it_had_accepted(weir, new_backend):
    """A request in flight on a listener that goes away is answered, then its connection ends."""
    hold = threading.Event()

    def slow(_conn, _request):
        hold.wait(30)
        return wire.response_bytes(body=b"answered")
    backend = new_backend(slow)
    port = proc.free_port()
    proxy = weir({"listeners": {"more": {"bind": "127.0.0.1:%d" % port}}}, backend)
    busy, idle = proxy.client(port), proxy.client(port)
    busy.send(wire.request_bytes(target="/busy"))
    backend.wait()
    assert len(proxy.lines()) == 0 and idle
    proxy.change(listeners={"more": None})
    proxy.reload()
    hold.set()
    response = busy.response()
    assert response.body == b"answered" and response.get("connection") == "close"
    busy.expect_close()


@pytest.mark.parametrize("removed", [True, False], ids=["removed", "elsewhere"])
def test_requests_queued_at_a_socket_that_goes(weir, backend, removed):
    """Whom the system had accepted for it is not reset. Without an answer nothing was done."""
    limit, over, port = 4, 16, proc.free_port()
    proxy = weir({"process": {"workers": 1, "max_connections": limit},
                  "listeners": {"more": {"bind": "127.0.0.1:%d" % port}}}, backend)
    begun = [proxy.client() for _ in range(limit + over)]  # nobody else is accepted
    for conn in begun:
        conn.send(b"GET")
    eventually(lambda: proxy.metric("weir_downstream_connections") == limit + over)
    queued = [proxy.client(port) for _ in range(3)]
    for conn in queued:
        conn.send(wire.request_bytes())
    elsewhere = {"bind": "127.0.0.1:%d" % proc.free_port()}
    proxy.change(listeners={"more": None if removed else elsewhere},
                 process={"max_connections": 100})
    proxy.reload()
    ends = [tcpsite.ended(conn.sock) for conn in queued]
    assert {how for how, _ in ends} == {"fin"}
    answered = [answer for _, answer in ends if answer.startswith(b"HTTP/1.1 200")]
    assert len(backend.requests) == len(answered) == sum(bool(answer) for _, answer in ends)
    assert not (removed and answered)


def test_bind_added_to_a_listener(weir, backend):
    """The old socket of a listener stays when another address joins."""
    port = proc.free_port()
    proxy = weir({}, backend)
    before = proc.listening(proxy.pid)[proxy.port]
    proxy.change(listeners={"web": {"bind": ["127.0.0.1:%d" % proxy.port, "127.0.0.1:%d" % port]}})
    proxy.reload()
    assert proxy.get("/a", port=port).status == 200
    assert proc.listening(proxy.pid)[proxy.port] == before


def test_bind_that_is_taken_fails_the_reload(weir, backend, new_backend):
    other = new_backend()
    proxy = weir({}, backend)
    proxy.change(listeners={"more": {"bind": other.address}})
    result = command(proxy, "reload")
    assert result.returncode != 0 and str(other.port) in result.stdout + result.stderr, result
    assert proxy.get("/x").status == 200 and proxy.generation() == 1


def test_ejection_survives(weir, new_backend):
    """Health of an unchanged endpoint is not forgotten, nor when its weight changes."""
    bad, good = new_backend(raw(wire.response_bytes(500, reason="Bad"))), new_backend()
    proxy = weir({"process": {"workers": 1}, "pools": {"app": {
        "balance": "round_robin", "outlier": {"consecutive_5xx": 2, "eject": "60s"}}}}, bad, good)
    for number in range(10):
        proxy.get("/%d" % number)
    assert len(bad.requests) == 2
    proxy.change(routes=[ALL, respond("n", "/n")])
    proxy.reload()
    proxy.change(pools={"app": {"endpoints": [{"address": bad.address, "weight": 2},
                                              {"address": good.address}]}})
    proxy.reload()
    for number in range(10):
        assert proxy.get("/%d" % number).status == 200
    assert len(bad.requests) == 2
    assert proxy.metric("weir_upstream_ejections_total") == 1


def test_counters_survive(weir, backend):
    proxy = weir({}, backend)
    for _ in range(5):
        proxy.get("/c")
    proxy.ended("ok", count=5, path="/c")
    proxy.change(routes=[ALL, respond("n", "/n")])
    proxy.reload()
    for _ in range(5):
        proxy.get("/c")
    proxy.ended("ok", count=10, path="/c")
    series = proxy.metrics().series("http_server_request_duration_seconds_count")
    assert 10 in series.values(), series


def test_series_of_removed_routes_go(weir, backend):
    """Nothing grows with reloads: series of names that are gone are forgotten."""
    proxy = weir({}, backend)
    for number in range(12):
        proxy.change(routes=[ALL, respond("gen%d" % number, "/g")])
        proxy.reload()
        assert proxy.get("/g").body == b"gen%d" % number
    proxy.change(routes=[ALL])
    proxy.reload()

    def forgotten():
        """no series of a removed route"""
        names = {value for key in proxy.metrics().samples.get(
            "http_server_request_duration_seconds_count", {})
                 for _, value in key}
        return not [name for name in names if name.startswith("gen")]
    eventually(forgotten)


def test_settings_change_on_a_live_listener(weir, backend):
    proxy = weir({}, backend)
    conn = proxy.client()
    assert conn.request("POST", "/b", body=b"x" * 5000).status == 200
    inodes = proc.listening(proxy.pid)
    proxy.change(listeners={"web": {"limits": {"body_bytes": "1KiB"}}})
    proxy.reload()
    assert conn.request("POST", "/b", body=b"x" * 5000).status == 413
    assert proc.listening(proxy.pid) == inodes


# ---- settings of the process ----

def told(proxy, *words):
    """The lines that a person gets; 0."""
    result = command(proxy, *words, "--text")
    assert result.returncode == 0, result
    return result.stdout.splitlines()


SETTINGS = [({"process": {"drain": "7s"}}, 'process.drain: "2s" -> "7s"'),
            ({"process": {"drain_settle": "1s"}}, 'process.drain_settle: "0s" -> "1s"'),
            ({"process": {"max_connections": 100}}, 'process.max_connections: "auto" -> 100'),
            ({"log": {"level": "debug"}}, 'log.level: "info" -> "debug"'),
            ({"log": {"access": {"format": "text"}}}, 'log.access.format: "json" -> "text"'),
            ({"log": {"access": {"sample": "5%"}}}, 'log.access.sample: "100%" -> "5%"')]


@pytest.mark.parametrize("over,line", SETTINGS, ids=[line.split(":")[0] for _, line in SETTINGS])
def test_changed_settings_are_named(weir, backend, over, line):
    """Key, old and new value; in the log too, for who sends a signal; nothing is left the next
    time."""
    proxy = weir({}, backend)
    proxy.change(**over)
    assert told(proxy, "reload") == ["~ setting " + line, "generation 2 runs, 1 change"]
    proxy.stderr_has("reloaded: generation 2 runs, 1 change\\n~ setting "
                     + line.replace('"', '\\"'))
    assert told(proxy, "reload") == ["generation 3 runs, 0 changes"]


def test_changed_settings_as_json(weir, backend):
    proxy = weir({}, backend)
    proxy.change(process={"drain": "7s"})
    result = command(proxy, "reload")
    assert json.loads(result.stdout) == {
        "ok": True, "generation": 2, "waiting_for_restart": 0, "faults": [], "changes": [
            {"change": "changed", "kind": "setting", "name": "process.drain",
             "detail": '"2s" -> "7s"'}]}


RESTART = [({"process": {"workers": 1}}, "process.workers: 2 -> 1"),
           ({"process": {"user": "nobody"}}, 'process.user: unset -> "nobody"'),
           ({"admin": {"status": "off"}}, '-> "off"'),
           ({"admin": {"listen": "off"}}, '-> "off"'),
           ({"log": {"to": "stdout"}}, 'log.to: "stderr" -> "stdout"'),
           ({"log": {"access": {"to": "off"}}}, '-> "off"')]


@pytest.mark.parametrize("over,line", RESTART)
def test_restart_only_keys_are_said(weir, backend, over, line):
    """With both values and the place, at each reload, until the file says again what runs; and
    what runs goes on as it was."""
    proxy = weir({}, backend)
    before = proxy.conf
    for generation in (2, 3):
        proxy.change(**over)
        lines = told(proxy, "reload", "--admin", proxy.admin)
        assert lines[0].startswith("warning[W0406]: ") and lines[0].endswith(
            line + " needs a restart"), lines
        assert "weir.conf:" in lines[1], lines
        assert lines[-1] == "generation %d runs, 0 changes, 1 key waits for a restart" % generation
        assert proxy.get("/%d" % generation).status == 200
        proxy.logged(path="/%d" % generation)
    proxy.conf = before
    proxy.write()
    assert told(proxy, "reload") == ["generation 4 runs, 0 changes"]


def test_dump_says_what_waits_for_a_restart(weir, backend):
    proxy = weir({}, backend)
    proxy.change(process={"workers": 1})
    proxy.reload()
    dump = run("dump", "--admin", proxy.admin).stdout
    assert re.search(r"workers = 1;  # weir\.conf:\d+; until a restart: 2\n", dump), dump


def test_log_format_changes_with_a_reload(weir, backend):
    proxy = weir({}, backend)
    assert proxy.get("/json").status == 200
    proxy.logged(path="/json")
    proxy.change(log={"access": {"format": "text"}})
    proxy.reload()
    assert proxy.get("/text").status == 200
    eventually(lambda: proxy.access.read_text().count("\n") == 2)
    first, second = proxy.access.read_text().splitlines()
    assert first.startswith("{") and "GET /text HTTP/1.1" in second


# ---- weir plan ----

def test_plan_changes_nothing(weir, backend):
    """The same lines as the reload that follows; till then nothing has happened."""
    port = proc.free_port()
    proxy = weir({}, backend)
    inodes = proc.listening(proxy.pid)
    proxy.change(process={"drain": "7s"}, listeners={"more": {"bind": "127.0.0.1:%d" % port}},
                 routes=[ALL, respond("new", "/new")])
    for _ in range(3):
        planned = told(proxy, "plan")
        assert planned[-1] == "a reload would make 3 changes; generation 1 keeps running", planned
    assert proxy.generation() == 1 and proc.listening(proxy.pid) == inodes
    assert proxy.get("/new").body == b"GET /new"
    assert proxy.metric("weir_config_reloads_total", result="ok") == 0
    eventually(lambda: proxy.metric("weir_snapshots_live") == 1)
    done = told(proxy, "reload")
    assert done[:-1] == planned[:-1] and done[-1] == "generation 2 runs, 3 changes"
    assert told(proxy, "plan") == ["a reload would make 0 changes; generation 2 keeps running"]


def test_plan_of_another_file(weir, backend):
    """By its path, also a relative one with a space; faults are those of a reload, 78."""
    proxy = weir({}, backend)
    other = proxy.directory / "next one.conf"
    other.write_text(proxy.path.read_text().replace('name = "all"', 'name = "every"'))
    result = run("plan", other.name, "--text", "--admin", proxy.admin, cwd=proxy.directory)
    assert result.returncode == 0, result
    assert result.stdout.splitlines() == ["+ route every", "- route all",
                                          "a reload would make 2 changes; generation 1 keeps "
                                          "running"]
    other.write_text(other.read_text().replace('pool = "app"', 'pool = "ap"'))
    result = run("plan", other, "--text", "--admin", proxy.admin)
    assert result.returncode == 78 and "W0104" in result.stderr
    assert "next one.conf" in result.stderr and "generation 1 keeps running" in result.stderr
    result = run("plan", other, "--json", "--admin", proxy.admin)
    answer = json.loads(result.stdout)
    assert result.returncode == 78 and not answer["ok"] and answer["faults"][0]["code"] == "W0104"
    result = run("plan", proxy.directory / "none.conf", "--text", "--admin", proxy.admin)
    assert result.returncode == 78 and "W0303" in result.stderr
    assert proxy.generation() == 1 and proxy.get("/x").status == 200


def test_plan_of_a_file_asks_the_weir_of_its_socket(weir, backend, work):
    """Also where another weir has the default one; that is asked of files that lead to none."""
    usual = weir({"admin": {"listen": "unix:%s/admin.sock" % work}}, backend)
    proxy = weir({}, backend)
    proxy.reload()
    env = {"RUNTIME_DIRECTORY": str(work), "WEIR_CONFIG": "", "WEIR_ADMIN": ""}
    own, none = "0 changes; generation 2 keeps running", "unix:%s/none.sock" % work

    def planned(path, where=env):
        return run("plan", path, "--text", env=where, cwd=proxy.directory)
    for path in (proxy.path, proxy.path.name):
        assert planned(path).stdout == "a reload would make %s\n" % own, planned(path)
    other = work / "other.conf"
    other.write_text(proxy.path.read_text().replace('name = "all"', 'name = "every"'))
    assert "2 changes; generation 2 keeps" in planned(other).stdout, planned(other)
    other.write_text(other.read_text().replace('pool = "app"', 'pool = "ap"'))
    assert planned(other).returncode == 78 and "W0104" in planned(other).stderr
    other.write_text(usual.path.read_text().replace("unix:%s/admin.sock" % work, none))
    if not pathlib.Path("/etc/weir/weir.conf").exists():  # a machine's own weir would be meant
        assert "generation 1 keeps running" in planned(other).stdout, planned(other)
    failed = planned(other, {**env, "RUNTIME_DIRECTORY": str(work / "nowhere")})
    assert failed.returncode == 1 and none[5:] in failed.stderr, failed
    assert "/etc/weir" not in failed.stderr, failed


def test_plan_tells_what_waits_for_a_restart(weir, backend):
    proxy = weir({}, backend)
    proxy.change(process={"workers": 1, "drain": "7s"})
    planned = told(proxy, "plan")
    assert "process.workers: 2 -> 1 needs a restart" in planned[0], planned
    assert planned[-1] == ("a reload would make 1 change, 1 key waits for a restart; "
                           "generation 1 keeps running")
    proxy.change(process={"workers": 2, "drain": "2s"})
    assert told(proxy, "plan") == ["a reload would make 0 changes; generation 1 keeps running"]


def test_plan_of_two_files(work):
    """Without a running weir."""
    old, new = work / "old.conf", work / "new.conf"
    text = ('process = { workers = 1; };\nlisteners = { web = { bind = "127.0.0.1:8080"; }; };\n'
            'pools = { app = { endpoints = [ "127.0.0.1:9001" ]; }; };\n'
            'routes = ( { name = "all"; pool = "app"; } );\n')
    old.write_text(text)
    new.write_text(text.replace("workers = 1;", 'workers = 2; drain = "1s";')
                   .replace("127.0.0.1:9001", "127.0.0.1:9002"))
    result = run("plan", old, new, "--text")
    assert result.returncode == 0, result
    lines = result.stdout.splitlines()
    assert "process.workers: 1 -> 2 needs a restart" in lines[0]
    assert lines[-3:] == ['~ setting process.drain: "30s" -> "1s"',
                          "~ pool app: endpoint 127.0.0.1:9002 added, endpoint 127.0.0.1:9001 "
                          "removed", "a reload would make 2 changes, 1 key waits for a restart"]
    answer = json.loads(run("plan", old, new).stdout)
    assert answer["ok"] and [c["name"] for c in answer["changes"]] == ["process.drain", "app"]
    new.write_text("nonsense = 1;\n" + text)
    assert run("plan", old, new).returncode == run("plan", new, old).returncode == 78
    assert run("plan", old, old).returncode == 0
    assert run("plan", old, new, old).returncode == 2


@pytest.mark.skipif(os.getuid() != 0, reason="needs root to drop privileges")
def test_plan_reads_no_file_for_others(weir, backend, work):
    """weir's own user may not have the loader, which reads what root may, show a file of his
    choice; the running weir's own file he may plan."""
    proxy = weir({"process": {"user": "nobody"}}, backend, start=False)
    proxy.directory.chmod(0o755)
    proxy.start()
    secret = work / "secret"
    secret.write_text("root:$6$SECRET\n")
    secret.chmod(0o600)

    def as_nobody():
        os.setgroups([])
        os.setgid(65534)
        os.setuid(65534)
    binary_dir = pathlib.Path(binary()).parent
    if not all(d.stat().st_mode & 0o005 == 0o005 for d in [binary_dir, *binary_dir.parents]):
        pytest.skip("nobody cannot run the binary where it stands")
    refused = run("plan", secret, "--text", "--admin", proxy.admin, preexec=as_nobody)
    assert refused.returncode == 1 and "SECRET" not in refused.stdout + refused.stderr, refused
    assert "only root may name a file" in refused.stderr
    allowed = run("plan", "--text", "--admin", proxy.admin, preexec=as_nobody)
    assert allowed.returncode == 0 and "0 changes" in allowed.stdout, allowed


def test_reload_storm(weir, backend):
    """Many SIGHUPs at once: the last file wins, nothing is lost."""
    proxy = weir({}, backend)
    conn = proxy.client()
    for number in range(60):
        proxy.change(routes=[ALL, respond("storm%d" % number, "/storm")])
        proxy.signal(signal.SIGHUP)
        assert conn.get("/ok").status == 200
    eventually(lambda: proxy.get("/storm").body == b"storm59")
    eventually(lambda: proxy.metric("weir_snapshots_live") <= 2)


@pytest.mark.skipif(os.getuid() != 0, reason="needs root to drop privileges")
def test_privileged_key_after_setuid(weir, backend, authority):
    """A 0600 key of root, read by a weir that became nobody, at start and again at a reload; also
    a port below 1024."""
    tls_port = proc.free_port()

    def rows(*stems):
        return [dict(names=["%s.example" % s], **authority.leaf(["%s.example" % s], stem=s))
                for s in stems]
    proxy = weir({"process": {"user": "nobody"}, "listeners": {
        "tls": {"bind": "127.0.0.1:%d" % tls_port, "tls": {"certificates": rows("k1")}}}}, backend)
    assert os.stat("/proc/%d" % proxy.pid).st_uid != 0
    assert os.stat(authority.directory / "k1.key").st_mode & 0o777 == 0o600
    for low in low_ports():
        proxy.change(listeners={"tls": {"tls": {"certificates": rows("k1", "k2")}},
                                "low": {"bind": "127.0.0.1:%d" % low}})
        result = run("reload", "--admin", proxy.admin, "--text")
        if result.returncode == 0:
            break
        assert "in use" in result.stderr, result  # another one was faster
    for name in ("k1.example", "k2.example"):
        conn = proxy.client(tls_port, tls=authority.client_context(), sni=name)
        assert conn.get("/" + name, host=name).status == 200
    assert proxy.get("/low", port=low).status == 200


def low_ports():
    """Privileged ports that were free a moment ago, on all addresses, in any order."""
    for port in random.sample(range(600, 1024), 50):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("0.0.0.0", port))
            probe.close()
            yield port


def test_load_sees_nothing(weir, nginx, load_client):
    """Closed-loop load over 30 reloads, new connections too: nothing fails, no connection is
    cut."""
    server = nginx("origin")
    proxy = weir({"pools": {"app": {"endpoints": [server.address]}}, "routes": [ALL]})
    keep, fresh = load_client(proxy.port, 64), load_client(proxy.port, 8, close=True)
    time.sleep(0.3)
    for number in range(30):
        proxy.change(routes=[ALL, respond("n%d" % number, "/n%d" % number)])
        proxy.reload()
    report, closing = keep.stop(), fresh.stop()
    load.clean(report, 500)
    load.clean(closing, 50)
    assert report["opened"] == 64 and report["closed_idle"] == 0
