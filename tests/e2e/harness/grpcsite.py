"""A gRPC service without generated code (messages are bytes), and its client; both are grpcio's.

Run as a program it serves on a free port, which it prints, until it is killed; over TLS where it
is given the files of a certificate and its key.
"""
import json
import pathlib
import sys
import threading
import zlib
from concurrent import futures

import grpc

CHANNEL = (("grpc.enable_http_proxy", 0), ("grpc.max_reconnect_backoff_ms", 200))
SERVICE = "weir.Test"


def messages(count, size):
    """Messages that differ in content and length."""
    for number in range(count):
        yield b"%d:" % number + b"m" * (size + number % 7)


def digest(parts):
    """How many, how long, and what they said in this order."""
    count = length = crc = 0
    for part in parts:
        count, length, crc = count + 1, length + len(part), zlib.crc32(part, crc)
    return b"%d %d %08x" % (count, length, crc)


class Service:
    """gone is set when a call of Hang was cancelled; seen has the metadata of calls of Fields."""

    def __init__(self):
        self.gone, self.hanging = threading.Event(), threading.Event()
        self.calls = []

    def echo(self, request, context):
        context.set_trailing_metadata((("x-sum", "%d" % len(request)), ("x-bin", b"\x00\xff")))
        return request

    def fields(self, _request, context):
        rows = [(row.key, row.value if isinstance(row.value, str) else row.value.hex())
                for row in context.invocation_metadata()]
        context.send_initial_metadata((("x-first", "1"),))
        return json.dumps({"rows": rows, "left": context.time_remaining(),
                           "peer": context.peer()}).encode()

    def collect(self, requests, _context):
        return digest(requests)

    def spread(self, request, _context):
        yield from messages(*map(int, request.split()))

    def chat(self, requests, _context):
        yield from requests

    def status(self, request, context):
        """A call that fails before a message: (code, text)."""
        self.calls.append(request)
        code, _, text = request.decode().partition(" ")
        if int(code):
            context.abort(code_of(int(code)), text)
        return b"fine"

    def late(self, request, context):
        """A call that fails behind a message."""
        yield b"one"
        code, _, text = request.decode().partition(" ")
        if int(code):
            context.abort(code_of(int(code)), text)

    def hang(self, request, context):
        """One message, if it is asked for, then nothing."""
        stop = threading.Event()

        def ended():
            self.gone.set()
            stop.set()
        if not context.add_callback(ended):  # it is over already
            ended()
        self.hanging.set()
        if request:
            yield request
        stop.wait()


def code_of(number):
    return next(code for code in grpc.StatusCode if code.value[0] == number)


KINDS = {"echo": "unary_unary", "fields": "unary_unary", "status": "unary_unary",
         "collect": "stream_unary", "spread": "unary_stream", "late": "unary_stream",
         "hang": "unary_stream", "chat": "stream_stream"}


class Server:
    """Serves at once; address is what stands in a config. cert: files of a certificate and its
    key, for TLS."""

    def __init__(self, service=None, threads=16, cert=()):
        self.service = service or Service()
        self.server = grpc.server(futures.ThreadPoolExecutor(threads),
                                  options=(("grpc.so_reuseport", 0),))
        rows = {name: getattr(grpc, kind + "_rpc_method_handler")(getattr(self.service, name))
                for name, kind in KINDS.items()}
        handler = grpc.method_handlers_generic_handler(SERVICE, rows)
        self.server.add_generic_rpc_handlers((handler,))
        self.port = self.bind("127.0.0.1:0", cert)
        self.address = "127.0.0.1:%d" % self.port
        self.server.start()

    def bind(self, address, cert):
        if not cert:
            return self.server.add_insecure_port(address)
        chain, key = (pathlib.Path(path).read_bytes() for path in cert)
        return self.server.add_secure_port(address, grpc.ssl_server_credentials([(key, chain)]))

    def stop(self):
        self.server.stop(0).wait()


class Client:
    """A channel; each method of the service is one of it."""

    def __init__(self, port, ca=None, name="localhost", options=()):
        options = (*CHANNEL, *options)
        if ca:
            with open(ca, "rb") as file:
                credentials = grpc.ssl_channel_credentials(file.read())
            options += (("grpc.ssl_target_name_override", name),)
            self.channel = grpc.secure_channel("127.0.0.1:%d" % port, credentials, options)
        else:
            self.channel = grpc.insecure_channel("127.0.0.1:%d" % port, options)
        for method, kind in KINDS.items():
            setattr(self, method, getattr(self.channel, kind)("/%s/%s" % (SERVICE, method)))

    def method(self, path, kind="unary_unary"):
        return getattr(self.channel, kind)(path)

    def close(self):
        self.channel.close()


def main():
    server = Server(cert=sys.argv[1:])
    print(server.port, flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
