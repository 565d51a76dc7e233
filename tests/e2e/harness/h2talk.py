"""A client of HTTP/2 for tests that look at streams: python3-h2 over a blocking socket.

One object is one connection. Nothing is read but when a test waits for something; windows are
opened as data is read, unless the test says hold.
"""
import h2.config
import h2.connection
import h2.errors
import h2.events

from . import client


class Reset(Exception):
    """The stream was reset; code is its error."""

    def __init__(self, code):
        super().__init__("reset with %d" % code)
        self.code = code


class Stream:
    def __init__(self, number):
        self.number = number
        self.interim, self.headers, self.trailers = [], None, None
        self.body, self.ended, self.reset = bytearray(), False, None

    @property
    def status(self):
        return int(dict(self.headers)[b":status"])

    def get(self, name):
        found = [value for key, value in self.headers if key == name.encode()]
        assert len(found) <= 1, found
        return found[0].decode("latin-1") if found else None


class Talk:
    """validate False: the client sends what is malformed, too. sock: what it talks over, port
    says nothing then."""

    def __init__(self, port, validate=True, sock=None):
        self.sock = sock or client.connect(port)
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(
            client_side=True, header_encoding=None, validate_outbound_headers=validate,
            normalize_outbound_headers=validate))
        self.h2.initiate_connection()
        self.streams, self.goaway, self.eof, self.settings = {}, None, False, None
        self.hold, self.unread = False, bytearray()
        self.flush()

    def flush(self):
        data = self.h2.data_to_send()
        if data:
            self.sock.sendall(data)

    def close(self):
        self.sock.close()

    # ---- out ----

    def open(self, method="GET", path="/", fields=(), end=True, **pseudo):
        """pseudo: protocol="websocket", scheme, authority; None leaves one out."""
        rows = {"method": method, "scheme": "http", "authority": "test.example", "path": path,
                **pseudo}
        headers = [(":" + key, value) for key, value in rows.items() if value is not None]
        stream = Stream(self.h2.get_next_available_stream_id())
        self.streams[stream.number] = stream
        self.h2.send_headers(stream.number, headers + list(fields), end_stream=end)
        self.flush()
        return stream

    def send(self, stream, data, end=False):
        """Waits for windows as it must."""
        while data:
            room = min(self.h2.local_flow_control_window(stream.number),
                       self.h2.max_outbound_frame_size)
            if room <= 0:
                self.step()
                continue
            part, data = data[:room], data[room:]
            self.h2.send_data(stream.number, part)
            self.flush()
        if end:
            self.h2.end_stream(stream.number)
            self.flush()

    def trailers(self, stream, fields):
        self.h2.send_headers(stream.number, list(fields), end_stream=True)
        self.flush()

    def reset(self, stream, code=h2.errors.ErrorCodes.CANCEL):
        self.h2.reset_stream(stream.number, code)
        self.flush()

    # ---- in ----

    def step(self):
        """Reads once; False at the end of the connection."""
        data = self.sock.recv(65536)
        if not data:
            self.eof = True
            return False
        self.unread += data
        while len(self.unread) >= 9:  # frame by frame: the library takes GOAWAY for the end
            size = 9 + int.from_bytes(self.unread[:3], "big")
            if len(self.unread) < size:
                break
            one, self.unread = bytes(self.unread[:size]), self.unread[size:]
            for event in self.h2.receive_data(one):
                self.take(event)
            if self.goaway:
                self.h2.state_machine.state = h2.connection.ConnectionState.CLIENT_OPEN
        self.flush()
        return True

    def take(self, event):
        stream = self.streams.get(getattr(event, "stream_id", None))
        if isinstance(event, h2.events.RemoteSettingsChanged):
            self.settings = event.changed_settings
        elif isinstance(event, h2.events.ConnectionTerminated):
            self.goaway = event
        elif isinstance(event, h2.events.ResponseReceived):
            stream.headers = event.headers
            stream.bare = event.stream_ended is not None  # END_STREAM in the head
        elif isinstance(event, h2.events.InformationalResponseReceived):
            stream.interim.append(event.headers)
        elif isinstance(event, h2.events.TrailersReceived):
            stream.trailers = event.headers
        elif isinstance(event, h2.events.DataReceived):
            stream.body += event.data
            if not self.hold and event.flow_controlled_length:
                self.h2.acknowledge_received_data(event.flow_controlled_length, stream.number)
        elif isinstance(event, h2.events.StreamEnded):
            stream.ended = True
        elif isinstance(event, h2.events.StreamReset):
            stream.reset = int(event.error_code)

    def until(self, what):
        """Reads until what() is true; the socket's timeout is the guard."""
        while not what():
            assert self.step(), "the connection ended"
        return self

    def head(self, stream):
        self.until(lambda: stream.headers or stream.reset is not None)
        if not stream.headers:
            raise Reset(stream.reset)
        return stream

    def whole(self, stream):
        """The stream to its end, which must not be a reset before END_STREAM."""
        self.until(lambda: stream.ended or stream.reset is not None)
        if not stream.ended:
            raise Reset(stream.reset)
        return stream

    def cut(self, stream):
        """The code by which the stream was reset."""
        self.until(lambda: stream.ended or stream.reset is not None)
        assert not stream.ended, "it ended in order: %r" % stream.headers
        return stream.reset
