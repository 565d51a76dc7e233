"""A browser through weir in each version of TLS and of HTTP: a page of Chromium that fetches,
uploads and talks over a WebSocket, with HTTP/2 on one connection (RFC 9113, RFC 8441). Runs where
Chromium is there (Debian's chromium-headless-shell or chromium); pytest -m slow wants it
(WEIR_BROWSER=1 packaging/test.sh installs it)."""
import base64
import hashlib
import json
import shutil
import subprocess
import tempfile
import threading

import pytest

from harness import proc, wire
from harness.backend import default_handler
from harness.h2fixtures import h2make, read_body, speaks_h2  # noqa: F401
from harness.weir import GUARD

NAMES = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
FLAGS = ("--headless --no-sandbox --disable-gpu --disable-quic --no-first-run "
         "--disable-extensions --disable-background-networking --disable-component-update "
         "--disable-sync --ignore-certificate-errors --dump-dom").split()
FETCHES, UPLOAD = 100, 1 << 20
# By ALPN: what the log calls it, and method, status and end of a WebSocket. Without HTTP/2
# Chromium lets the socket go behind its close frame, with weir's close_notify unread: a reset.
HTTP = {"h2": ("2", "CONNECT", 200, ("ok",)),
        "http/1.1": ("1.1", "GET", 101, ("ok", "client.reset"))}
MAGIC = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455 1.3

# The page is loaded when /hold is answered, and that waits for /result: so the DOM is dumped last.
PAGE = b"""<!doctype html><meta charset="utf-8"><title>page</title><link rel="icon" href="data:,">
<body><pre id="out">nothing</pre><script>
function talk() {
  return new Promise((resolve, reject) => {
    const ws = new WebSocket(`wss://${location.host}/ws`), got = [];
    ws.onopen = () => ["hello", "again"].forEach((text) => ws.send(text));
    ws.onmessage = (event) => { if (got.push(event.data) === 2) ws.close(1000); };
    ws.onerror = () => reject(new Error("websocket"));
    ws.onclose = (event) => resolve([...got, event.code]);
  });
}
async function all() {
  const numbers = [...Array(%d).keys()];
  const texts = await Promise.all(numbers.map(async (n) => (await fetch(`/n/${n}`)).text()));
  const body = new Uint8Array(%d).fill(120);
  const sum = await (await fetch("/upload", {method: "POST", body})).text();
  const entry = performance.getEntriesByType("navigation")[0];
  return {fetches: texts.filter((text, n) => text === `GET /n/${n}`).length, upload: sum,
          websocket: await talk(), protocol: entry.nextHopProtocol};
}
all().catch((error) => ({error: String(error)})).then((found) => {
  const text = document.getElementById("out").textContent = JSON.stringify(found);
  return fetch("/result", {method: "POST", body: text});
});
</script><img src="/hold">""" % (FETCHES, UPLOAD)


def browser():
    return next(filter(None, map(shutil.which, NAMES)), None)


def websocket(conn, request):
    """Accepts, and sends each short text frame back unmasked until a close frame came."""
    key = request.get("sec-websocket-key").encode()
    conn.send(wire.response_bytes(101, b"", [
        "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Accept: "
        + base64.b64encode(hashlib.sha1(key + MAGIC).digest()).decode()],
        "Switching Protocols", False))
    kind = None
    while kind != 8:
        head = read_bytes(conn.reader, 2)
        mask = read_bytes(conn.reader, 4)
        kind, data = head[0] & 15, read_bytes(conn.reader, head[1] & 127)
        plain = bytes(byte ^ mask[at % 4] for at, byte in enumerate(data))
        conn.send(bytes([128 | kind, len(plain)]) + plain)
    conn.close()


def read_bytes(reader, count):
    while len(reader.buf) < count:
        assert reader.fill(), "the browser left"
    data = bytes(reader.buf[:count])
    del reader.buf[:count]
    return data


class Pages:
    """The origin; result is what the page found."""

    def __init__(self):
        self.result, self.there = None, threading.Event()

    def __call__(self, conn, request):
        if request.path == "/ws":
            return websocket(conn, request)
        read_body(conn, request)
        if request.path == "/":
            return wire.response_bytes(body=PAGE, fields=["Content-Type: text/html"])
        if request.path == "/upload":
            return wire.response_bytes(body=b"%d %d" % (request.body.length, request.body.crc))
        if request.path == "/result":
            self.result = json.loads(request.body.data)
            self.there.set()
        if request.path == "/hold":
            self.there.wait(GUARD)
        return default_handler(conn, request)


def dump(url):
    """What Chromium makes of the page."""
    with tempfile.TemporaryDirectory(prefix="weir-chromium-") as profile:
        done = subprocess.run([browser(), *FLAGS, "--user-data-dir=" + profile, url],
                              capture_output=True, text=True, timeout=2 * GUARD,
                              preexec_fn=proc.die_with_parent)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def page_in_a_browser(made, tls, http):
    pages, weir = made.backend.default, made.weir
    made.backend.early_bytes_ok = True
    dom = dump(made.url("tls", "/"))
    assert pages.result, dom[-2000:]
    assert pages.result == {
        "fetches": FETCHES, "upload": "%d %d" % (UPLOAD, wire_crc(b"x" * UPLOAD)),
        "websocket": ["hello", "again", 1000], "protocol": http}
    assert json.dumps(pages.result).replace(" ", "") in dom.replace("&quot;", '"').replace(" ", "")
    weir.settle()
    records = weir.lines()
    assert len([r for r in records if r["url.path"].startswith("/n/")]) == FETCHES
    version, method, switched, ends = HTTP[http]
    assert {r["network.protocol.version"] for r in records} == {version}, records
    assert {r["tls.protocol.version"] for r in records} == {tls}, records
    tunnel = weir.logged(path="/ws")
    assert {r["weir.end"] for r in records if r is not tunnel} == {"ok"}
    assert tunnel["http.request.method"] == method and tunnel["weir.end"] in ends
    assert tunnel["http.response.status_code"] == switched
    if http == "h2":
        assert weir.metric("weir_downstream_connections_total") <= 4
    request = made.backend.seen("/ws")[-1]
    assert request.get("upgrade") == "websocket"


def wire_crc(data):
    body = wire.Body()
    body.add(data)
    return body.crc


@pytest.mark.skipif(not browser(), reason="no Chromium here: pytest -m slow wants it")
@pytest.mark.parametrize("http", HTTP)
@pytest.mark.parametrize("tls", ["1.3", "1.2"])
def test_a_page(h2make, tls, http):  # noqa: F811
    made = h2make({"listeners": {"tls": {"protocols": [http], "tls": {"max_version": tls}}}},
                  handler=Pages())
    page_in_a_browser(made, tls, http)


@pytest.mark.slow
def test_chromium_is_there():
    assert browser(), "install one of: %s" % ", ".join(NAMES)
