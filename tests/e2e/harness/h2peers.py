"""Other HTTP/2 servers in weir's place, to try the tests themselves: WEIR_H2_PEER=nghttpd etc.

Each listens with h2c by prior knowledge (node too) and answers /case and /well; the proxies pass
requests to the recording backend of the test.
"""
import pathlib

from . import servers

NGINX_H2 = """
  server {{
    listen {h2} http2;
    location / {{ proxy_pass http://{backend}; proxy_http_version 1.1;
                  proxy_set_header Connection ""; proxy_request_buffering off; }}
  }}
"""

HAPROXY = """
defaults
  mode http
  timeout client 20s
  timeout server 20s
  timeout connect 5s
frontend f
  bind {listen} proto h2
  default_backend b
backend b
  server s {backend}
"""


class Peer(servers.Server):
    """backend: the address requests go to, where the server is a proxy."""

    def __init__(self, directory, backend):
        super().__init__(directory, type(self).__name__.lower())
        self.backend = backend


class Nghttpd(Peer):
    def command(self):
        for name in ("case", "well", "other"):
            (self.directory / name).write_text("GET /case")
        return ["nghttpd", "--no-tls", "-d", str(self.directory), str(self.port)]


class Nghttpx(Peer):
    def command(self):
        return ["nghttpx", "--conf=/dev/null", "-f127.0.0.1,%d;no-tls" % self.port,
                "-b%s" % self.backend.replace(":", ","), "--workers=1", "--log-level=ERROR",
                "--accesslog-file=/dev/null"]


class Nginx(Peer):
    def command(self):
        inner = servers.Nginx(self.directory, "inner", extra="} " + NGINX_H2.format(
            h2=self.address, backend=self.backend).rstrip().rstrip("}"))
        return inner.command()


class Haproxy(Peer):
    def command(self):
        path = pathlib.Path(self.directory / "haproxy.cfg")
        path.write_text(HAPROXY.format(listen=self.address, backend=self.backend))
        return ["haproxy", "-db", "-q", "-f", str(path)]


class Node(Peer):
    def command(self):
        return ["node", "-e", "require('http2').createServer((q, r) => {"
                "q.resume(); q.on('end', () => r.end('GET /case')); q.on('error', () => 0);"
                "}).on('sessionError', () => 0).listen(%d, '127.0.0.1')" % self.port]


KINDS = {"nghttpd": Nghttpd, "nghttpx": Nghttpx, "nginx": Nginx, "haproxy": Haproxy, "node": Node}
RECORDS = ("nghttpx", "nginx", "haproxy")  # these pass requests on
