#!/usr/bin/python3
"""Two honest clients, one of HTTP/2 and one of HTTP/1.1, each with one connection, take turns: a
request, its whole answer, a pause. A third one (version 0) asks the endpoint itself: what it waits
for is not the proxy's doing.

h2_honest.py PORT PAUSE_MS ENDPOINT   Prints "ready", and at the end of stdin a JSON list of
requests: [version, CLOCK_MONOTONIC at its begin in s, ms until its whole answer]. An answer that
is wrong, or a connection that ends, ends this with an error: an honest client is served, whatever
others do.
"""
import json
import pathlib
import select
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from harness import client  # noqa: E402
from harness.h2raw import Conn  # noqa: E402

BODY = b"honest"


def of_h1(port):
    conn = client.Client(port)

    def ask():
        response = conn.request("GET", "/honest")
        assert response.status == 200 and bytes(response.body) == BODY, response
    return ask


def of_h2(port):
    conn = Conn(port).handshake()

    def ask():
        response = conn.get("/honest")
        assert response.status == 200 and response.body == BODY, response
        conn.check.frames.clear()
        conn.check.streams.clear()
        assert not conn.check.goaways, conn.check.goaways
    return ask


def main():
    port, pause = int(sys.argv[1]), float(sys.argv[2]) / 1000
    clients = (1, of_h1(port)), (2, of_h2(port)), (0, of_h1(int(sys.argv[3])))
    found = []
    print("ready", flush=True)
    while not select.select([sys.stdin], [], [], pause)[0]:
        for version, ask in clients:
            begin = time.monotonic()
            ask()
            found.append((version, begin, 1000 * (time.monotonic() - begin)))
    print(json.dumps(found), flush=True)


main()
