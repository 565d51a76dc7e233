"""The proxies under test: their configurations, starting and stopping them.

Each runs with one worker (two for the row at start), upstream keepalive, no access log, and limits
high enough that none of them is ever the reason for a closed connection. What is not named is at
its default.
"""

import ctypes
import os
import signal
import socket
import subprocess
import time

BIG = 1000000000
CONNECTIONS_MAX = 9600
START_SECONDS = 10
NGINX_HOME = "/usr/share/nginx"  # where Debian has modules/

# What a proxy's configurations for HTTP and for TCP have in common.
NGINX_HEAD = """
{user}daemon off; worker_processes {workers}; pid {dir}/nginx.pid;
error_log {dir}/nginx.err crit; worker_rlimit_nofile {files};
events {{ worker_connections 19900; }}
"""

HAPROXY_HEAD = """
global
  nbthread {workers}
  maxconn {haproxy_connections}
  tune.pool-high-fd-ratio 95
  tune.pool-low-fd-ratio 90
defaults
  timeout connect 5s
  timeout client 600s
  timeout server 600s
  {splice}
"""

WEIR_HEAD = """
process = {{ workers = {workers}; drain = "1s"; }};
admin = {{ listen = "off"; }};
log = {{ level = "error"; access = {{ to = "off"; }}; }};
"""

NGINX = NGINX_HEAD + """
http {{
  access_log off; keepalive_requests {big}; keepalive_timeout 600s; client_max_body_size 0;
  client_body_temp_path {dir}/nginx.body; proxy_temp_path {dir}/nginx.proxy;
  fastcgi_temp_path {dir}/nginx.fcgi; uwsgi_temp_path {dir}/nginx.uwsgi;
  scgi_temp_path {dir}/nginx.scgi;
  upstream app {{
    server 127.0.0.1:{backend};
    keepalive {connections}; keepalive_requests {big}; keepalive_timeout 600s;
  }}
  server {{
    listen 127.0.0.1:{plain} backlog=4096;
    listen 127.0.0.1:{tls} ssl{nginx_h2} backlog=4096;
    ssl_certificate {dir}/cert.pem; ssl_certificate_key {dir}/key.pem;
    ssl_protocols TLSv1.2 TLSv1.3;
    location / {{
      proxy_pass http://app; proxy_http_version 1.1; proxy_set_header Connection "";
      proxy_request_buffering off; proxy_max_temp_file_size 0;
      {nginx_bulk}
    }}
  }}
}}
"""

# For bodies nginx at its defaults (8 buffers of 4 KiB, 16 KiB for request bodies) would be no
# opponent; for small responses large buffers would only cost it. Each kind of row has its own.
NGINX_BULK = """proxy_buffering off; proxy_buffer_size {size}; proxy_buffers 4 {size};
      proxy_busy_buffers_size {size}; client_body_buffer_size {size};"""

HAPROXY = HAPROXY_HEAD + """
  mode http
  timeout http-keep-alive 600s
frontend web
  bind 127.0.0.1:{plain}
  bind 127.0.0.1:{tls} ssl crt {dir}/both.pem alpn {alpn}
  default_backend app
backend app
  http-reuse always
  server one 127.0.0.1:{backend}
"""

WEIR = WEIR_HEAD + """
listeners = {{
  web = {{ bind = "127.0.0.1:{plain}"; timeouts = {{ idle = "600s"; }}; }};
  secure = {{
    bind = "127.0.0.1:{tls}";
    protocols = [ "{alpn}" ];
    timeouts = {{ idle = "600s"; }};
    tls = {{ certificates = ( {{ names = [ "localhost" ];
      cert = "file:{dir}/cert.pem"; key = "file:{dir}/key.pem"; }} ); }};
  }};
}};
pools = {{ app = {{
  endpoints = [ "127.0.0.1:{backend}" ];
  connections = {{ keepalive = "600s"; keepalive_max = {connections}; }};
}}; }};
routes = ( {{ prefix = "/"; pool = "app"; }} );
"""

# The rows of TCP: connections are passed on as they are.
NGINX_TCP = "load_module modules/ngx_stream_module.so;" + NGINX_HEAD + """
stream {{
  server {{
    listen 127.0.0.1:{plain} backlog=4096;
    proxy_pass 127.0.0.1:{backend}; proxy_timeout 600s;
    {nginx_bulk}
  }}
}}
"""
NGINX_TCP_BULK = "proxy_buffer_size {size};"

HAPROXY_TCP = HAPROXY_HEAD + """
  mode tcp
listen web
  bind 127.0.0.1:{plain}
  server one 127.0.0.1:{backend}
"""

WEIR_TCP = WEIR_HEAD + """
listeners = {{
  web = {{ bind = "127.0.0.1:{plain}"; protocol = "tcp"; pool = "app";
          timeouts = {{ tunnel = "600s"; }}; }};
}};
pools = {{ app = {{ endpoints = [ "127.0.0.1:{backend}" ]; }}; }};
"""

# Its plain port is there to be waited for. The key is in the worker, as it is everybody's: at its
# default (neverbleed) a second process would sign, and every full handshake pay for the way.
H2O = """
num-threads: {workers}
max-connections: {connections}
{h2o_user}listen: {{ host: 127.0.0.1, port: {plain} }}
listen:
  host: 127.0.0.1
  port: {tls}
  ssl:
    certificate-file: {dir}/cert.pem
    key-file: {dir}/key.pem
    ocsp-update-interval: 0
    neverbleed: OFF
http1-request-timeout: 600
http2-idle-timeout: 600
proxy.timeout.keepalive: 600000
pid-file: {dir}/h2o.pid
hosts:
  "localhost":
    paths:
      "/":
        proxy.reverse.url: "http://127.0.0.1:{backend}/"
        proxy.preserve-host: ON
"""


class BenchFault(Exception):
    """The bench itself could not do its work; the text says what and why."""


def die_with_parent():
    """In the child: get SIGTERM when the bench dies, however it dies (PR_SET_PDEATHSIG)."""
    ctypes.CDLL(None, use_errno=True).prctl(1, signal.SIGTERM)


def descendants(pid):
    """The process and all its descendants, oldest first."""
    parents = {}
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        try:
            with open(f"/proc/{entry}/stat", encoding="ascii", errors="replace") as stat:
                fields = stat.read().rsplit(")", 1)[1].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if fields[0] != "Z":
            parents[int(entry)] = int(fields[1])
    tree = [pid]
    for member in tree:
        tree.extend(child for child, parent in parents.items() if parent == member)
    return tree


class Ports:
    """Free ports below the ephemeral range, each given out once."""

    def __init__(self):
        self.next = 15000 + os.getpid() % 97 * 100

    def take(self):
        while True:
            self.next = self.next + 1 if self.next < 32000 else 15000
            with socket.socket() as probe:
                try:
                    probe.bind(("127.0.0.1", self.next))
                    return self.next
                except OSError:
                    continue


class Proxy:
    """One running proxy: its ports, its processes."""

    def __init__(self, name, command, ports, log, cores):
        self.name = name
        self.plain, self.tls = ports

        def prepare():
            die_with_parent()
            os.sched_setaffinity(0, cores)

        with open(log, "ab") as out:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out,
                                            stderr=out, preexec_fn=prepare)
        self.log = log
        try:
            self.wait_listening()
        except BenchFault:
            self.stop()
            raise
        self.pids = descendants(self.process.pid)

    def wait_listening(self):
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                break
            try:
                socket.create_connection(("127.0.0.1", self.plain), 1).close()
                time.sleep(0.3)
                return
            except OSError:
                time.sleep(0.05)
        with open(self.log, encoding="utf-8", errors="replace") as log:
            raise BenchFault(f"{self.name} did not start: {log.read()[-600:].strip()}")

    def pss_bytes(self):
        total = 0
        for pid in descendants(self.process.pid):
            with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as rollup:
                for line in rollup:
                    if line.startswith("Pss:"):
                        total += int(line.split()[1]) * 1024
        return total

    def stop(self):
        """Ends every process of this proxy, by pid, and waits for them."""
        tree = descendants(self.process.pid)
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(3)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        for pid in tree[1:]:
            self.end_orphan(pid)

    @staticmethod
    def end_orphan(pid):
        deadline = time.monotonic() + 2
        while time.monotonic() < deadline and os.path.exists(f"/proc/{pid}"):
            time.sleep(0.02)
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass


class Bench:
    """Where everything is: directory of this run, binaries, cores, the backend's port."""

    def __init__(self, directory, programs, cores, nginx_buffers):
        self.dir = directory
        self.nginx_buffers = nginx_buffers
        self.programs = programs          # name -> path: load, floor, peers, weir, h2load
        self.proxy_core, self.load_core = cores
        self.ports = Ports()
        self.backend = self.ports.take()

    def write(self, name, template, **values):
        path = os.path.join(self.dir, name)
        with open(path, "w", encoding="utf-8") as out:
            out.write(template.format(**values))
        return path

    def start(self, name, row, workers=1):
        """Starts one proxy for one row and returns it once it listens."""
        plain, tls = self.ports.take(), self.ports.take()
        values = {"dir": self.dir, "plain": plain, "tls": tls, "backend": self.backend,
                  "workers": workers, "connections": CONNECTIONS_MAX, "big": BIG,
                  "files": 20000, "user": "user root; " if os.geteuid() == 0 else ""}
        # HAProxy counts pipes among its descriptors: spliced and 9,000 connections do not fit.
        bulk = getattr(row, "unit", "") == "s/GiB"
        tcp = getattr(row, "tcp", False)
        buffers = NGINX_TCP_BULK if tcp else NGINX_BULK
        values["nginx_bulk"] = buffers.format(size=self.nginx_buffers) if bulk else ""
        h2 = bool(row.h2)
        values["alpn"] = "h2" if h2 else "http/1.1"
        values["h2o_user"] = "user: root\n" if os.geteuid() == 0 else ""
        values["nginx_h2"] = " http2" if h2 else ""
        values["splice"] = "option splice-auto" if bulk and not row.tls or tcp else ""
        values["haproxy_connections"] = 2000 if bulk or tcp else CONNECTIONS_MAX
        cores = {self.proxy_core} if workers == 1 else {self.proxy_core, self.load_core}
        command = self.command(name, row, values)
        log = os.path.join(self.dir, f"{name}.log")
        return Proxy(name, command, (plain, tls), log, cores)

    def command(self, name, row, values):
        program = self.programs[name]
        tcp = getattr(row, "tcp", False)
        if name == "nginx":
            conf = self.write("nginx.conf", NGINX_TCP if tcp else NGINX, **values)
            return [program, "-p", NGINX_HOME if tcp else self.dir, "-c", conf]
        if name == "haproxy":
            conf = self.write("haproxy.cfg", HAPROXY_TCP if tcp else HAPROXY, **values)
            return [program, "-db", "-f", conf]
        if name == "h2o":
            return [program, "-m", "worker", "-c", self.write("h2o.conf", H2O, **values)]
        if name == "weir":
            conf = self.write("weir.conf", WEIR_TCP if tcp else WEIR, **values)
            return [program, "run", "-c", conf]
        ports = ["--listen", str(values["plain"]), "--upstream", str(self.backend)]
        return [program] + ports + row.floor

    def make_certificate(self):
        """A self-signed ECDSA P-256 certificate for localhost."""
        cert, key = os.path.join(self.dir, "cert.pem"), os.path.join(self.dir, "key.pem")
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt",
                        "ec_paramgen_curve:P-256", "-nodes", "-days", "30", "-keyout", key,
                        "-out", cert, "-subj", "/CN=localhost",
                        "-addext", "subjectAltName=DNS:localhost"],
                       check=True, capture_output=True)
        with open(os.path.join(self.dir, "both.pem"), "w", encoding="ascii") as both:
            for part in (cert, key):
                with open(part, encoding="ascii") as text:
                    both.write(text.read())
