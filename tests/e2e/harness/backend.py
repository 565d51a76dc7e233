"""A recording backend: raw sockets, a thread per connection, the strict parser of wire.py.

Every byte that weir sends is parsed; what is not valid lands in `violations`, which the fixture
checks at the end of each test. What it answers is a handler's choice: handler(conn, request) may
return bytes (sent when the request body has been read;
to HEAD only their head) or act on conn by itself (split writes,
resets, early answers). Not for speed: servers.py has nginx and Node for that.
"""
import os
import socket
import struct
import threading
import time

from . import client, proc, wire


class BackendConn:
    """The backend's end of one connection; handlers use it."""

    def __init__(self, backend, sock, number):
        self.backend, self.sock, self.number = backend, sock, number
        self.reader = wire.Reader(sock)
        self.requests = 0
        self.closed = False
        self.ended = threading.Event()
        self.error = None

    def send(self, *parts):
        """Sends each part in a write of its own; a number is a pause in seconds."""
        for part in parts:
            if isinstance(part, (int, float)):
                time.sleep(part)
            else:
                self.sock.sendall(part)

    def read_body(self, request):
        wire.read_request_body(self.reader, request)

    def close(self):
        """FIN after what was sent; a RST follows when weir goes on sending, as with any server."""
        if not self.closed:
            self.closed = True
            try:
                self.sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            self.sock.close()

    def reset(self):
        """RST at once."""
        if not self.closed:
            self.closed = True
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.sock.close()

    def half_close(self):
        self.sock.shutdown(socket.SHUT_WR)


def default_handler(_conn, request):
    return wire.response_bytes(body=("%s %s" % (request.method, request.target.decode())).encode())


def reply(*args, **kwargs):
    """A handler that always answers the same response_bytes()."""
    data = wire.response_bytes(*args, **kwargs)
    return lambda _conn, _request: data


def raw(*parts, close=False, reset=False):
    """A handler that reads the request, sends parts as they stand, and may end the connection."""

    def handler(conn, request):
        conn.read_body(request)
        conn.send(*parts)
        if reset:
            conn.reset()
        elif close:
            conn.close()

    return handler


class Backend:
    """Listens at once. address is what stands in a config; requests are in order of arrival."""

    def __init__(self, handler=None, *, unix=None, host="127.0.0.1", port=0, backlog=512):
        self.default = handler or default_handler
        self.handlers = {}
        self.requests, self.violations, self.conns = [], [], []
        self.early_bytes_ok = False
        self.lock = threading.Condition()
        self.running = True
        if unix:
            self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            self.sock.bind(str(unix))
            self.address = "unix:%s" % unix
        else:
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            self.sock = socket.socket(family, socket.SOCK_STREAM)
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self.sock.bind((host, port or proc.free_port(family, host)))
            self.port = self.sock.getsockname()[1]
            self.address = ("[%s]:%d" if ":" in host else "%s:%d") % (host, self.port)
        self.unix = unix
        self.sock.listen(backlog)
        self.thread = threading.Thread(target=self.accept_loop, daemon=True)
        self.thread.start()

    def on(self, path, handler):
        """handler answers requests for exactly this path (query not counted)."""
        self.handlers[path] = handler
        return handler

    def accept_loop(self):
        while self.running:
            try:
                sock, _ = self.sock.accept()
            except OSError:
                return
            if not self.unix:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            conn = BackendConn(self, sock, len(self.conns))
            with self.lock:
                self.conns.append(conn)
                self.lock.notify_all()
            threading.Thread(target=self.serve, args=(conn,), daemon=True).start()

    def serve(self, conn):
        try:
            while not conn.closed and self.one(conn):
                pass
        except wire.Violation as error:
            self.violation(conn, "%s" % error)
        except wire.Truncated as error:
            conn.error = error
        except OSError as error:
            conn.error = error
        finally:
            conn.close()
            conn.ended.set()

    def violation(self, conn, text):
        self.violations.append("%s (conn %d): %r"
                               % (text, conn.number, bytes(conn.reader.raw[:600])))

    def one(self, conn):
        request = wire.parse_request(conn.reader)
        if request is None:
            return False
        request.connection = conn.number
        conn.requests += 1
        if request.complete:
            self.check_nothing_more(conn)
        handler = self.handlers.get(request.path, self.default)
        with self.lock:
            self.requests.append(request)
            self.lock.notify_all()
        answer = handler(conn, request)
        if not request.complete and not conn.closed:
            conn.read_body(request)
        if answer is not None and not conn.closed:
            self.check_nothing_more(conn)
            if request.method == "HEAD":
                answer = answer[: answer.index(b"\r\n\r\n") + 4]
            conn.sock.sendall(answer)
        with self.lock:
            self.lock.notify_all()
        return True

    def check_nothing_more(self, conn):
        """weir does not pipeline: bytes behind a request before its answer are extra."""
        if conn.reader.buf:
            self.violation(conn, "bytes after the request: %r" % bytes(conn.reader.buf[:120]))
            return
        try:
            more = conn.sock.recv(64, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except OSError:
            return
        if more and not self.early_bytes_ok:
            self.violation(conn, "bytes after the request: %r" % more)

    def wait(self, count=1, timeout=client.GUARD):
        """The last request once at least count came (a hang guard, not a measure)."""
        with self.lock:
            ok = self.lock.wait_for(lambda: len(self.requests) >= count, timeout)
        assert ok, "backend got %d requests, wanted %d" % (len(self.requests), count)
        return self.requests[-1]

    def seen(self, path):
        return [r for r in self.requests if r.path == path]

    @property
    def last(self):
        return self.requests[-1]

    def stop(self):
        """No accept any more and every connection closed, as when the process died."""
        self.running = False
        try:
            self.sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self.sock.close()
        for conn in list(self.conns):
            conn.close()
        self.thread.join(5)
        if self.unix and os.path.exists(self.unix):
            os.unlink(self.unix)


class FullBacklog:
    """A listener whose queue is full: a connect to it never finishes."""

    def __init__(self):
        self.sock = socket.socket()
        self.sock.bind(("127.0.0.1", 0))
        self.sock.listen(0)
        self.port = self.sock.getsockname()[1]
        self.address = "127.0.0.1:%d" % self.port
        self.held = []
        for _ in range(4):
            probe = socket.socket()
            probe.setblocking(False)
            probe.connect_ex(("127.0.0.1", self.port))
            self.held.append(probe)
        time.sleep(0.05)

    def stop(self):
        for probe in self.held:
            probe.close()
        self.sock.close()
