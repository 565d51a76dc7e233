"""weir under test: writes a configuration, runs the binary, reads its log and metrics, stops it.

Used through the fixtures of fixtures.py. stop() asserts what must hold after every test: exit
status 0 on SIGTERM, no sanitizer report, metrics and log agreeing. Knows no HTTP beyond a GET on
the status port; client.py speaks for the tests.
"""
import json
import os
import pathlib
import signal
import subprocess
import threading
import time

from . import client, confgen, proc
from .metrics import Metrics

ROOT = pathlib.Path(__file__).resolve().parents[3]
GENERATION = "weir_config_generation"
# A hang is called a hang after this long. Never a measure: WEIR_TEST_GUARD only speeds up
# debugging.
GUARD = client.GUARD
SANITIZERS = ("Sanitizer", "runtime error:", "check failed", "Assertion")


def binary():
    """WEIR_BIN, else the release build, else the dev build."""
    for path in (os.environ.get("WEIR_BIN"), ROOT / "build/release/weir", ROOT / "build/dev/weir"):
        if path and os.access(path, os.X_OK):
            return str(path)
    raise AssertionError("no weir binary: set WEIR_BIN or build the release preset")


def eventually(probe, guard=GUARD, every=0.01):
    """Waits until probe() is true and returns its value; guard stops a hang."""
    end = time.monotonic() + client.scaled(guard)
    while True:
        result = probe()
        if result:
            return result
        if time.monotonic() > end:
            raise AssertionError("did not become true in %d s: %s"
                                 % (guard, probe.__doc__ or probe))
        time.sleep(every)


def flatten(record, prefix=""):
    flat = {}
    for key, item in record.items():
        if isinstance(item, dict):
            flat.update(flatten(item, prefix + key + "."))
        else:
            flat[prefix + key] = item
    return flat


def run(*args, env=None, text=True, timeout=60, stdin=None, preexec=None, cwd=None):
    """One weir command to its end."""
    full = dict(os.environ, **(env or {}))
    return subprocess.run([binary(), *map(str, args)], env=full, text=text, timeout=timeout,
                          input=stdin, capture_output=True, preexec_fn=preexec, cwd=cwd)


class Weir:
    """One process. conf is a dict merged over base(); or text as it stands."""

    def __init__(self, directory, conf=None, text=None, **options):
        self.directory = pathlib.Path(directory)
        self.directory.mkdir(exist_ok=True)
        self.path = self.directory / "weir.conf"
        self.access = self.directory / "access.log"
        self.admin = self.directory / "admin.sock"
        self.port, self.status = proc.free_port(), proc.free_port()
        self.options = options
        self.env = options.get("env") or {}
        self.process, self.stderr = None, []
        self.clients = []
        self.mark, self.read_to, self.records = 0, 0, []
        self.conf = confgen.merge(self.base(), conf or {})
        self.write(text if text is not None else None)

    def base(self):
        return {
            "process": {"workers": 2, "drain": "2s", "drain_settle": "0s"},
            "admin": {"listen": "unix:%s" % self.admin, "status": "127.0.0.1:%d" % self.status},
            "log": {"level": "info", "to": "stderr", "access": {"to": str(self.access)}},
            "listeners": {"web": {"bind": "127.0.0.1:%d" % self.port}},
        }

    def write(self, text=None):
        """Replaces the file at once: a reload never sees half of it."""
        fresh = self.path.with_suffix(".new")
        fresh.write_text(text if text is not None else confgen.body(self.conf))
        fresh.replace(self.path)

    def change(self, **over):
        """Merges over into the configuration and writes it; a reload is the caller's."""
        self.conf = confgen.merge(self.conf, over)
        self.write()

    # ---- life ----

    def start(self, wait=True):
        env = dict(os.environ, **self.env)
        env.setdefault("ASAN_OPTIONS", "detect_stack_use_after_return=1:abort_on_error=0")
        env.setdefault("UBSAN_OPTIONS", "print_stacktrace=1:halt_on_error=1")
        preexec = self.options.get("preexec")

        def prepare():
            proc.die_with_parent()
            if preexec:
                preexec()

        self.process = subprocess.Popen(
            [*self.options.get("launch", ()), binary(), "run", *self.options.get("flags", ()),
             "-c", str(self.path)], env=env,
            preexec_fn=prepare, pass_fds=self.options.get("pass_fds", ()),
            stdin=subprocess.DEVNULL, stdout=self.options.get("stdout", subprocess.DEVNULL),
            stderr=subprocess.PIPE, cwd=self.directory)
        self.drainer = threading.Thread(target=self.drain_stderr, daemon=True)
        self.drainer.start()
        if wait:
            self.wait_ready()
        return self

    def drain_stderr(self):
        for line in self.process.stderr:
            self.stderr.append(line.decode("utf-8", "replace"))

    @property
    def errors(self):
        return "".join(self.stderr)

    @property
    def pid(self):
        return self.process.pid

    def wait_ready(self):
        def ready():
            """/-/ready answers 200"""
            assert self.process.poll() is None, "weir ended with %s:\n%s" % (
                self.process.returncode, self.errors)
            try:
                return self.status_get("/-/ready").status == 200
            except OSError:
                return False
        eventually(ready)

    def stop(self, sig=signal.SIGTERM, code=0, guard=30):
        """Ends the process and checks how it went."""
        for each in self.clients:
            each.close()
        if self.process is None:
            return
        if self.process.poll() is None:
            self.process.send_signal(sig)
        try:
            self.process.wait(guard)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise AssertionError("weir did not end within %d s after %s" % (guard, sig)) from None
        self.drainer.join(5)
        returncode, self.process = self.process.returncode, None
        self.check_stderr()
        assert returncode == code, "exit status %s, wanted %s\n%s" % (returncode, code,
                                                                      self.errors)

    def check_stderr(self):
        for word in SANITIZERS:
            assert word not in self.errors, self.errors

    def signal(self, sig):
        self.process.send_signal(sig)

    # ---- clients ----

    def client(self, port=None, **kwargs):
        made = client.Client(port or self.port, **kwargs)
        self.clients.append(made)
        return made

    def request(self, method="GET", target="/", fields=(), body=None, port=None, **kwargs):
        """One request on a connection of its own."""
        with client.Client(port or self.port) as conn:
            return conn.request(method, target, fields, body, **kwargs)

    def get(self, target="/", fields=(), **kwargs):
        return self.request("GET", target, fields, **kwargs)

    def exchange(self, data, port=None, method="GET", minor=1):
        """Sends data on a new connection and gives the one response; the connection goes on."""
        conn = self.client(port)
        conn.try_send(data)
        return conn, conn.response(method, minor)

    def status_get(self, path):
        with client.Client(self.status) as conn:
            return conn.get(path, host="127.0.0.1")

    # ---- log and metrics ----

    def all_lines(self):
        """All access records so far, flat."""
        if self.access.exists():
            with self.access.open("rb") as file:
                file.seek(self.read_to)
                *lines, _ = file.read().split(b"\n")
            self.read_to += sum(len(line) + 1 for line in lines)
            self.records += [flatten(json.loads(line)) for line in lines]
        return self.records

    def lines(self):
        """The access records since mark (a shared process sets it at the start of each test)."""
        return self.all_lines()[self.mark :]

    def logged(self, count=1, guard=GUARD, **want):
        """Waits for count records with these values; gives the last. Keys: status, end, path, or
        any key of the log with its dots as __."""
        names = {"status": "http.response.status_code", "end": "weir.end", "path": "url.path",
                 "method": "http.request.method", "route": "http.route"}
        pairs = {names.get(key, key.replace("__", ".")): item for key, item in want.items()}

        def matching():
            return [r for r in self.lines() if all(r.get(k) == v for k, v in pairs.items())]

        end = time.monotonic() + client.scaled(guard)
        while len(matching()) < count:
            if time.monotonic() > end:
                raise AssertionError("no %d records with %r in:\n%s\n%s" % (
                    count, pairs, "\n".join(map(str, self.lines()[-12:])), self.errors[-2000:]))
            time.sleep(0.01)
        return matching()[-1]

    def ended(self, end, **want):
        """The record of a request that ended so; the counter of the word agrees with the log."""
        record = self.logged(end=end, **want)

        def agree():
            logged = sum(1 for r in self.all_lines() if r.get("weir.end") == end)
            return self.metrics().get("weir_request_end_total", end=end) == logged

        agree.__doc__ = "weir_request_end_total{end=%s} equals the log's %d" % (
            end, sum(1 for r in self.all_lines() if r.get("weir.end") == end))
        eventually(agree)
        return record

    def settle(self):
        """Waits until nothing is in flight and every request that was counted is in the log."""
        def quiet():
            """no request in flight, all of them logged"""
            now = self.metrics()
            told = now.get("weir_request_end_total") - now.get("weir_log_left_out_total")
            return now.get("weir_requests_inflight") == 0 and told == len(self.all_lines())
        eventually(quiet)

    def metrics(self):
        response = self.status_get("/metrics")
        assert response.status == 200, response
        return Metrics(response.body.decode())

    def metric(self, name, **labels):
        return self.metrics().get(name, **labels)

    # ---- reload ----

    def generation(self):
        return int(self.metric(GENERATION))

    def reload(self):
        """SIGHUP, and waits until the next generation serves."""
        before = self.generation()
        self.signal(signal.SIGHUP)
        eventually(lambda: self.generation() == before + 1)

    def stderr_has(self, text, guard=GUARD):
        def has():
            return text in self.errors
        has.__doc__ = "stderr has %r; it has:\n%s" % (text, self.errors)
        eventually(has, guard)
