"""Many small HTTP servers in one thread: a thousand endpoints on loopback ports. mode[i] says what
server i does with a request: a status to answer it with, "hang" or "close". Not strict (backend.py
is): it answers at the empty line and closes."""
import select
import threading
import time

from . import proc


class Farm:
    def __init__(self, count, status=200):
        self.mode = [status] * count
        self.times = [[] for _ in range(count)]  # of requests for /healthz
        self.served = [0] * count  # other requests
        self.epoll, self.conns, self.running = select.epoll(), {}, True
        self.most_held, self.listeners = 0, {}
        self.addresses = []
        for place in range(count):
            sock = proc.listener(64)
            sock.setblocking(False)
            self.listeners[sock.fileno()] = (sock, place)
            self.addresses.append("127.0.0.1:%d" % sock.getsockname()[1])
            self.epoll.register(sock.fileno(), select.EPOLLIN)
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        while self.running:
            for fd, _ in self.epoll.poll(0.05):
                if fd in self.listeners:
                    self.accept(*self.listeners[fd])
                elif fd in self.conns:
                    self.read(fd)

    def accept(self, listener, place):
        try:
            sock, _ = listener.accept()
        except OSError:
            return
        sock.setblocking(False)
        self.conns[sock.fileno()] = [sock, place, b""]
        self.most_held = max(self.most_held, len(self.conns))
        self.epoll.register(sock.fileno(), select.EPOLLIN)

    def drop(self, fd):
        self.epoll.unregister(fd)
        self.conns.pop(fd)[0].close()

    def read(self, fd):
        sock, place, got = self.conns[fd]
        try:
            data = sock.recv(65536)
        except OSError:
            data = b""
        if not data:
            self.drop(fd)
            return
        self.conns[fd][2] = got + data
        if b"\r\n\r\n" in got + data:
            self.answer(fd, sock, place, got + data)

    def answer(self, fd, sock, place, head):
        check = b" /healthz " in head.split(b"\r\n", 1)[0]
        if check:
            self.times[place].append(time.monotonic())
        else:
            self.served[place] += 1
        mode = self.mode[place]
        if mode == "hang" and check:
            return
        if mode != "close":
            status = mode if check and mode != "hang" else 200
            sock.send(b"HTTP/1.1 %d X\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"
                      % status)
        self.drop(fd)

    def checks(self):
        return sum(len(each) for each in self.times)

    def stop(self):
        self.running = False
        self.thread.join(5)
        for fd in list(self.conns):
            self.drop(fd)
        for sock, _ in self.listeners.values():
            sock.close()
        self.epoll.close()
