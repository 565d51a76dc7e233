"""Servers as backends: nginx (echoes a nonce, serves files, fast), Node, and a sink in C."""
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import time

from . import proc

TOOLS = pathlib.Path(__file__).resolve().parents[1] / "tools"

NGINX = """
daemon off; worker_processes 1; pid {dir}/nginx.pid; error_log {dir}/error.log warn;
events {{ worker_connections 4096; }}
http {{
  access_log off; default_type text/plain; client_body_temp_path {dir}/body;
  proxy_temp_path {dir}/proxy; fastcgi_temp_path {dir}/f; uwsgi_temp_path {dir}/u;
  scgi_temp_path {dir}/s; client_max_body_size 0; keepalive_requests 1000000;
  keepalive_timeout 60s; sendfile on; tcp_nodelay on;
  server {{
    listen {listen};
    location /files/ {{ alias {files}/; }}
    location /nonce {{ return 200 "$http_x_nonce {name}"; }}
    location /put {{ dav_methods PUT; root {dir}/put; }}
    location / {{ return 200 "{name} $request_method $request_uri"; }}
    {extra}
  }}
}}
"""


def compiled(directory, name):
    """Compiles tools/NAME.c; its path."""
    out = pathlib.Path(directory) / name
    subprocess.run(["gcc", "-std=gnu17", "-O2", "-Wall", "-o", out, TOOLS / (name + ".c")],
                   check=True)
    return out


def wait_port(address, guard=20):
    end = time.monotonic() + guard
    while True:
        try:
            socket.create_connection(address, 1).close()
            return
        except OSError:
            assert time.monotonic() < end, "no listener on %s:%d" % address
            time.sleep(0.01)


def gone(pid):
    """Waits until a killed process that is not our child holds nothing any more."""
    for _ in range(1000):
        try:
            with open("/proc/%d/stat" % pid, encoding="ascii", errors="replace") as stat:
                if stat.read().rsplit(")", 1)[1].split()[0] in "ZX":
                    return
        except (FileNotFoundError, ProcessLookupError):
            return
        time.sleep(0.005)


class Server:
    """A child process that listens on 127.0.0.1:port."""

    def __init__(self, directory, name, port=None):
        self.directory = pathlib.Path(directory) / name
        self.directory.mkdir(parents=True, exist_ok=True)
        self.name, self.port = name, port or proc.free_port()
        self.address = "127.0.0.1:%d" % self.port
        self.process = None

    def command(self):
        raise NotImplementedError

    def start(self):
        self.process = subprocess.Popen(self.command(), stdin=subprocess.DEVNULL,
                                        stdout=subprocess.DEVNULL,
                                        stderr=(self.directory / "stderr").open("ab"),
                                        preexec_fn=proc.die_with_parent)
        wait_port(("127.0.0.1", self.port))
        return self

    def kill(self):
        """At once, connections and all; the parent first, as it would start others."""
        pids = proc.tree(self.process.pid)
        os.kill(self.process.pid, signal.SIGKILL)
        self.process.wait()
        for pid in pids[1:]:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        for pid in pids[1:]:
            gone(pid)
        self.process = None

    def stop(self):
        if self.process is None:
            return
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.kill()
        self.process = None


class Nginx(Server):
    def __init__(self, directory, name="nginx", port=None, extra="", files=None):
        super().__init__(directory, name, port)
        self.files = files or self.directory / "files"
        for part in (self.files, self.directory / "put"):
            part.mkdir(exist_ok=True)
        shutil.chown(self.directory / "put", "www-data") if os.getuid() == 0 else None
        self.directory.chmod(0o755)
        self.conf = self.directory / "nginx.conf"
        user = "user root;" if os.getuid() == 0 else ""
        self.conf.write_text(user + NGINX.format(dir=self.directory, listen=self.address,
                                                 files=self.files, name=name, extra=extra))

    def command(self):
        return ["nginx", "-p", str(self.directory), "-c", str(self.conf)]


class Node(Server):
    def command(self):
        return ["node", str(TOOLS / "origin.js"), str(self.port)]


class Sink(Server):
    """Takes what comes and never answers; keeps up with weir (tools/sink.c)."""

    def __init__(self, directory, name="sink", port=None):
        super().__init__(directory, name, port)
        self.binary = compiled(self.directory, "sink")

    def command(self):
        return [str(self.binary), str(self.port)]
