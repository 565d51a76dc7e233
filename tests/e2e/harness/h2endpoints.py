"""Endpoints that speak HTTP/2 without TLS. Origin goes by the h2 package, which is strict about
what weir sends, and answers whole requests; Plays is one that says itself what it sends and when;
Script talks in raw bytes; those of h2byhand.py in frames, right or wrong; Grpc is grpcio's, with
the health service. What they do: answer and record. What they do not: stand for a fast server.
"""
import concurrent.futures
import os
import socket
import struct
import threading

import h2.config
import h2.connection
import h2.events
import h2.exceptions

from . import h2wire, proc

GUARD = 60
GRPC = [(":status", "200"), ("content-type", "application/grpc")]


class Endpoint:
    """What all endpoints are: it accepts on loopback, and each connection has its thread, which
    ends with stop(). How one behaves is a subclass: connection(sock) is what stands in conns, and
    serve() talks."""

    def __init__(self):
        self.sock = proc.listener(512)
        self.port = self.sock.getsockname()[1]
        self.address = "127.0.0.1:%d" % self.port
        self.conns, self.socks, self.threads = [], [], []
        self.violations, self.stopping = [], False
        self.lock = threading.Lock()
        threading.Thread(target=self.accept, daemon=True).start()

    def connection(self, sock):
        sock.settimeout(GUARD)
        return sock

    def accept(self):
        while True:
            try:
                sock, _ = self.sock.accept()
            except OSError:
                return
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            conn = self.connection(sock)
            thread = threading.Thread(target=self.run, args=(conn, sock), daemon=True)
            with self.lock:
                self.conns.append(conn)
                self.socks.append(sock)
                self.threads.append(thread)
            thread.start()

    def run(self, conn, sock):
        try:
            self.serve(conn)
        except OSError:
            pass
        finally:
            sock.close()

    def serve(self, conn):
        raise NotImplementedError

    def stop(self):
        self.stopping = True
        for sock in [self.sock, *self.socks]:
            try:
                sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            sock.close()


class Request:
    """One request of weir's: fields by name, in order, and its body."""

    def __init__(self, fields):
        self.fields = [(name.decode(), value.decode("latin-1")) for name, value in fields]
        self.headers = dict(self.fields)
        self.path, self.method = self.headers[":path"], self.headers[":method"]
        self.body, self.trailers = b"", {}


class Answer:
    """What Origin sends: interim heads, head, body, trailers."""

    def __init__(self, status=200, body=b"", fields=(), trailers=(), interim=()):
        self.status, self.body, self.interim = status, body, interim
        self.fields, self.trailers = list(fields), list(trailers)


class Talker:
    """A connection by the h2 package."""

    def __init__(self, sock):
        self.sock = sock
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(
            client_side=False, header_encoding=None))
        self.h2.initiate_connection()
        self.flush()

    def flush(self):
        data = self.h2.data_to_send()
        if data:
            self.sock.sendall(data)

    def head(self, stream, headers=None, end=False):
        self.h2.send_headers(stream, headers or GRPC, end_stream=end)
        self.flush()

    def data(self, stream, data, end=False):
        self.h2.send_data(stream, data, end_stream=end)
        self.flush()

    def trailers(self, stream, rows):
        self.h2.send_headers(stream, rows, end_stream=True)
        self.flush()

    def reset(self, stream, code):
        self.h2.reset_stream(stream, code)
        self.flush()

    def close(self):
        self.sock.shutdown(socket.SHUT_RDWR)


class Origin(Endpoint):
    """answer(request) gives an Answer, or None: the request is never answered. resets: (stream,
    code) that came, and then came is set."""

    def __init__(self, answer=None):
        self.answer = answer or (lambda request: Answer(body=request.path.encode()))
        self.requests, self.resets, self.came = [], [], threading.Event()
        super().__init__()

    def seen(self, path):
        return [r for r in self.requests if r.path == path]

    def serve(self, sock):
        talker, streams = Talker(sock), {}
        while data := sock.recv(65536):
            try:
                for event in talker.h2.receive_data(data):
                    self.take(talker, streams, event)
            except h2.exceptions.ProtocolError as error:
                self.violations.append("%s: %r" % (type(error).__name__, error))
                return
            talker.flush()

    def take(self, talker, streams, event):
        if isinstance(event, h2.events.RequestReceived):
            streams[event.stream_id] = Request(event.headers)
            self.begun(talker, event.stream_id, streams[event.stream_id])
        elif isinstance(event, h2.events.DataReceived):
            streams[event.stream_id].body += event.data
            talker.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, h2.events.TrailersReceived):
            streams[event.stream_id].trailers = dict(event.headers)
        elif isinstance(event, h2.events.StreamReset):
            self.resets.append((event.stream_id, int(event.error_code)))
            self.came.set()
        elif isinstance(event, h2.events.StreamEnded):
            self.ended(talker, event.stream_id, streams.pop(event.stream_id))

    def begun(self, talker, stream, request):
        """The head is there."""

    def ended(self, talker, stream, request):
        """All of it is."""
        self.requests.append(request)
        answer = self.answer(request)
        if answer:
            self.reply(talker.h2, stream, request, answer)

    @staticmethod
    def reply(conn, stream, request, answer):
        """Bodies of the tests fit into the first window."""
        body = b"" if request.method == "HEAD" else answer.body
        for status, fields in answer.interim:
            conn.send_headers(stream, [(":status", str(status)), *fields])
        end = not body and not answer.trailers
        conn.send_headers(stream, [(":status", str(answer.status)), *answer.fields],
                          end_stream=end)
        if end:
            return
        for at in range(0, len(body), 16384):
            last = at + 16384 >= len(body) and not answer.trailers
            conn.send_data(stream, body[at : at + 16384], end_stream=last)
        if answer.trailers:
            conn.send_headers(stream, answer.trailers, end_stream=True)


class Plays(Origin):
    """play(talker, stream, request) is called for each head; requests has it from then on."""

    def __init__(self, play):
        self.play = play
        super().__init__()

    def begun(self, talker, stream, request):
        self.requests.append(request)
        self.play(talker, stream, request)

    def ended(self, talker, stream, request):
        pass


class Script(Endpoint):
    """script(sock) talks in raw bytes; weir's first ones have been read until its HEADERS."""

    def __init__(self, script):
        self.script, self.sent = script, 0
        super().__init__()

    def serve(self, sock):
        self.read_request(sock)
        self.script(sock)
        self.drain(sock)

    @staticmethod
    def exactly(sock, count):
        data = b""
        while len(data) < count:
            piece = sock.recv(count - len(data))
            if not piece:
                raise ConnectionError("weir went")
            data += piece
        return data

    def read_request(self, sock):
        self.exactly(sock, len(h2wire.PREFACE))
        kind = None
        while kind != h2wire.HEADERS:
            head = self.exactly(sock, 9)
            kind = head[3]
            self.exactly(sock, struct.unpack(">I", b"\0" + head[:3])[0])

    @staticmethod
    def drain(sock):
        """Reads until weir goes: a close with bytes unread would be a reset."""
        while sock.recv(65536):
            pass


HEALTH = "grpc.health.v1.Health"
SERVING, NOT_SERVING = 1, 2


class Grpc:
    """A grpcio server. status: what Check answers, by service; a service not in it is not known.
    Any other method answers this server's name. cert (tlspeers.Cert): over TLS."""

    def __init__(self, name="one", health=True, cert=None):
        import grpc  # pylint: disable=import-outside-toplevel

        self.name, self.calls, self.metadata = name.encode(), [], []
        self.status = {b"": SERVING}
        self.grpc = grpc
        self.server = grpc.server(concurrent.futures.ThreadPoolExecutor(8),
                                  options=[("grpc.so_reuseport", 0)])
        handlers = [self.Any(self)]
        if health:
            check = grpc.unary_unary_rpc_method_handler(self.check)
            handlers.insert(0, grpc.method_handlers_generic_handler(HEALTH, {"Check": check}))
        self.server.add_generic_rpc_handlers(handlers)
        self.port = self.bind("127.0.0.1:%d" % proc.free_port(), cert)
        self.address = "127.0.0.1:%d" % self.port
        self.server.start()

    def bind(self, address, cert):
        if cert is None:
            return self.server.add_insecure_port(address)
        pair = (cert.key_path.read_bytes(), cert.path.read_bytes())
        return self.server.add_secure_port(address, self.grpc.ssl_server_credentials([pair]))

    class Any:
        def __init__(self, owner):
            self.owner = owner

        def service(self, details):
            if details.method.startswith("/" + HEALTH):
                return None
            return self.owner.grpc.unary_unary_rpc_method_handler(self.owner.get)

    def get(self, _request, _context):
        self.calls.append("get")
        return self.name

    def check(self, request, context):
        """HealthCheckRequest: nothing, or field 1 of less than 128 bytes."""
        service = request[2:] if request else b""
        assert not request or (request[0] == 0x0A and request[1] == len(service)), request
        self.metadata.append(dict(context.invocation_metadata()))
        self.calls.append(service)
        status = self.status.get(service)
        if isinstance(status, self.grpc.StatusCode):
            context.abort(status, "told to")
        if status is None:
            context.abort(self.grpc.StatusCode.NOT_FOUND, "unknown service")
        return bytes([0x08, status])

    def stop(self):
        self.server.stop(0).wait(GUARD)


def ask(address, method="/shop.Cart/Get", timeout=GUARD):
    """One call through weir: the name of the server that answered."""
    import grpc  # pylint: disable=import-outside-toplevel

    options = [("grpc.enable_http_proxy", 0), ("grpc.use_local_subchannel_pool", 1)]
    with grpc.insecure_channel(address, options) as channel:
        return channel.unary_unary(method)(b"", timeout=timeout, wait_for_ready=True).decode()


os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
os.environ.setdefault("GRPC_VERBOSITY", "NONE")
