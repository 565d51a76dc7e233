"""UDP endpoints and clients for tests of protocol = "udp": an endpoint answers each datagram by a
function, in one thread, so that order is kept; a client is a connected socket with a guard."""
import socket
import threading

from . import client, confgen, proc

BUFFER = 4 << 20


def sized(sock):
    """Room for a burst, as far as the system allows."""
    for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
        sock.setsockopt(socket.SOL_SOCKET, option, BUFFER)
    return sock


def connect(port, host="127.0.0.1", source=None):
    """A client: its own address and port, connected to weir's."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = sized(socket.socket(family, socket.SOCK_DGRAM))
    sock.settimeout(client.scaled(client.GUARD))
    if source:
        sock.bind((source, 0))
    sock.connect((host, port))
    return sock


def ask(sock, data):
    """What one datagram is answered."""
    sock.send(data)
    return sock.recv(1 << 17)


def conf(port, endpoints, listener=None, pool=None, **more):
    """A configuration with one UDP listener, `dns`, and its pool."""
    return confgen.merge({
        "process": {"drain": "100ms"},
        "listeners": {"web": None, "dns": {"bind": "127.0.0.1:%d" % port, "protocol": "udp",
                                           "pool": "dns", **(listener or {})}},
        "pools": {"dns": {"endpoints": [each if isinstance(each, (str, dict)) else each.address
                                        for each in endpoints], **(pool or {})}}}, more)


def echo(data, _peer):
    return data


class Endpoint:
    """Answers datagrams by handler(data, peer): bytes, a list of them, or None for silence.
    `peers` has the address of every datagram's sender, `got` what it said."""

    def __init__(self, handler=echo, port=0, host="127.0.0.1"):
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.handler = handler
        self.sock = sized(socket.socket(family, socket.SOCK_DGRAM))
        self.sock.bind((host, port))
        self.port = self.sock.getsockname()[1]
        self.address = ("[%s]:%d" if ":" in host else "%s:%d") % (host, self.port)
        self.peers, self.got = [], []
        self.over = threading.Event()
        self.thread = threading.Thread(target=self.serve, daemon=True)
        self.thread.start()

    def serve(self):
        self.sock.settimeout(0.1)
        while not self.over.is_set():
            try:
                data, peer = self.sock.recvfrom(1 << 17)
            except socket.timeout:
                continue
            except OSError:
                return
            self.peers.append(peer)
            self.got.append(data)
            answers = self.handler(data, peer)
            for answer in [answers] if isinstance(answers, bytes) else answers or []:
                try:
                    self.sock.sendto(answer, peer)
                except OSError:
                    pass  # who asked is gone

    def stop(self):
        """From then on ICMP says that nobody is there."""
        self.over.set()
        self.thread.join()
        self.sock.close()


def free_port():
    """A port that is free for UDP and TCP."""
    while True:
        port = proc.free_port()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            try:
                sock.bind(("127.0.0.1", port))
                return port
            except OSError:
                continue
