"""An endpoint that speaks HTTP/2 (python3-h2), a thread per connection: for tests that say what
it sends frame by frame. play(origin, stream, event) is called for each event of a stream."""
import socket
import threading

import h2.config
import h2.connection
import h2.events

from . import proc

GRPC = [(":status", "200"), ("content-type", "application/grpc")]


class Talker:
    """One connection, for the script."""

    def __init__(self, sock):
        self.sock, self.lock = sock, threading.RLock()
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(
            client_side=False, header_encoding="latin-1"))
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


class Origin:
    """requests: the fields of each; resets: (stream, code) that came."""

    def __init__(self, play):
        self.play, self.requests, self.resets = play, [], []
        self.came = threading.Event()
        self.socks, self.threads = [], []
        self.listener = proc.listener()
        self.port = self.listener.getsockname()[1]
        self.address = "127.0.0.1:%d" % self.port
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                sock, _ = self.listener.accept()
            except OSError:
                return
            self.socks.append(sock)
            threading.Thread(target=self.serve, args=(sock,), daemon=True).start()

    def serve(self, sock):
        try:
            talker = Talker(sock)
            while True:
                data = sock.recv(65536)
                if not data:
                    return
                for event in talker.h2.receive_data(data):
                    self.take(talker, event)
                talker.flush()
        except (OSError, h2.exceptions.ProtocolError):
            pass

    def take(self, talker, event):
        if isinstance(event, h2.events.RequestReceived):
            self.requests.append(dict(event.headers))
            self.play(talker, event.stream_id, event)
        elif isinstance(event, h2.events.StreamReset):
            self.resets.append((event.stream_id, int(event.error_code)))
            self.came.set()
        elif isinstance(event, h2.events.DataReceived):
            talker.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)

    def stop(self):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        for sock in self.socks:
            sock.close()
