"""Early data (0-RTT): openssl s_client as the client, behind a wire that can be cut in two.

Tap stands between s_client and weir and keeps what weir says until release(): so the client's
handshake does not go on, and what it sent is its first flight, byte for byte. Python's ssl module
has no early data.
"""
import os
import select
import socket
import subprocess
import threading
import time

from . import client, proc


class Tap:
    """One connection, or several after another. hold: weir's bytes wait for release()."""

    def __init__(self, port, hold=False):
        self.port, self.flight, self.far = port, b"", None
        self.released = threading.Event()
        if not hold:
            self.released.set()
        self.listener = proc.listener()
        self.at = self.listener.getsockname()[1]
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def release(self):
        self.released.set()

    def run(self):
        near, _ = self.listener.accept()
        self.far = far = client.connect(self.port)
        waiting = b""
        while True:
            ready, _, _ = select.select([near, far], [], [], 0.02)
            if self.released.is_set() and waiting:
                near.sendall(waiting)
                waiting = b""
            for sock in ready:
                try:
                    data = sock.recv(65536)
                except OSError:
                    data = b""
                if not data:
                    near.close()
                    far.close()
                    return
                if sock is near:
                    if not self.released.is_set():
                        self.flight += data
                    far.sendall(data)
                elif self.released.is_set():
                    near.sendall(data)
                else:
                    waiting += data


class Visit:
    """A running s_client; text is all that it has printed."""

    def __init__(self, command):
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=subprocess.STDOUT, preexec_fn=proc.die_with_parent)
        self.data = b""
        os.set_blocking(self.process.stdout.fileno(), False)

    def read(self):
        while True:
            try:
                part = self.process.stdout.read()
            except BlockingIOError:
                part = None
            if not part:
                return self.data
            self.data += part

    def until(self, mark, guard=client.GUARD):
        """Reads until mark was printed."""
        end = time.monotonic() + client.scaled(guard)
        while mark not in self.read():
            assert time.monotonic() < end, "no %r in %r" % (mark, self.data)
            if self.process.poll() is not None and mark not in self.read():
                raise AssertionError("ended without %r: %r" % (mark, self.data))
            time.sleep(0.01)
        return self.data

    def close(self):
        self.process.stdin.close()
        try:
            self.process.wait(client.scaled(client.GUARD))
        finally:
            self.process.kill()
            self.process.wait()
        return self.read()


class Zero:
    """Early data to one port of weir under one name."""

    def __init__(self, directory, port, authority, name="a.example", alpn=None):
        self.directory, self.port, self.name = directory, port, name
        self.base = ["openssl", "s_client", "-tls1_3", "-servername", name,
                     "-CAfile", str(authority.path)] + (["-alpn", alpn] if alpn else [])
        self.visits, self.count = [], 0

    def command(self, port, *args):
        return self.base + ["-connect", "127.0.0.1:%d" % port, *map(str, args)]

    def session(self, request, answer):
        """A full handshake and a request; the file of a session that was given afterwards."""
        self.count += 1
        path = self.directory / ("session%d.pem" % self.count)
        visit = Visit(self.command(self.port, "-sess_out", path))
        self.visits.append(visit)
        visit.process.stdin.write(request)
        visit.process.stdin.flush()
        visit.until(answer)
        visit.close()
        assert path.exists(), visit.data
        return path

    def early(self, session, request, tap=None):
        self.count += 1
        path = self.directory / ("early%d" % self.count)
        path.write_bytes(request)
        visit = Visit(self.command(tap.at if tap else self.port, "-sess_in", session,
                                   "-early_data", path))
        self.visits.append(visit)
        return visit

    def stop(self):
        for visit in self.visits:
            visit.process.kill()
            visit.process.wait()


def replay(port, flight):
    """Sends a captured first flight once more, and hears how the other side takes it."""
    sock = client.connect(port)
    sock.sendall(flight)
    return sock
