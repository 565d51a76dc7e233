"""/metrics: valid text, true numbers, bounded (DESIGN.md section 8)."""
import pathlib
import re

import pytest

from harness import wire
from harness.backend import raw
from harness.weir import ROOT, eventually

END_DEF = ROOT / "include/weir/base/end.def"
STATS_DEF = ROOT / "include/weir/proxy/stats.def"
BOUNDS = ["0.0005", "0.001", "0.0025", "0.005", "0.01", "0.025", "0.05", "0.1", "0.25", "0.5", "1",
          "2.5", "5",
          "10", "+Inf"]


def end_words():
    return re.findall(r'^END\(\w+, "([^"]+)"', END_DEF.read_text(), re.M)


def test_valid_and_stable(weir, backend):
    proxy = weir({}, backend)
    for text in range(2):
        metrics = proxy.metrics()
        metrics.check_histograms()
        proxy.get("/%d" % text)
    response = proxy.status_get("/metrics")
    assert response.get("content-type").startswith("text/plain")


def test_every_metric_of_the_table_is_there(weir, backend):
    """Counters exist from the start, with 0: a scraper sees the first increase."""
    proxy = weir({}, backend)
    metrics = proxy.metrics()
    names = re.findall(r'^STAT\(\w+, "([a-z_0-9]+)', STATS_DEF.read_text(), re.M)
    assert len(names) > 10
    assert [name for name in names if name not in metrics.samples] == []


def test_buckets(weir, backend):
    proxy = weir({}, backend)
    assert proxy.get("/b").status == 200
    proxy.logged(path="/b")
    for name in ("http_server_request_duration_seconds", "http_client_request_duration_seconds"):
        series = proxy.metrics().samples[name + "_bucket"]
        assert {dict(key)["le"] for key in series} == set(BOUNDS)


def test_end_counters_match_the_log(weir, new_backend):
    """A mix of good and bad requests: each word's counter equals its log lines."""
    backend = new_backend()
    backend.on("/502", raw(b"garbage\r\n\r\n", close=True))
    proxy = weir({"listeners": {"web": {"limits": {"body_bytes": "10B"}}}, "pools": {"app": {
        "outlier": {"consecutive_failures": 0}}},
        "routes": [{"prefix": "/up", "pool": "app"}, {"path": "/502", "pool": "app"},
                   {"prefix": "/get", "methods": ["GET"], "pool": "app"}]}, backend)
    for _ in range(3):
        for method, path in (("GET", "/up"), ("GET", "/502"), ("GET", "/404"), ("POST", "/get")):
            proxy.request(method, path)
        proxy.request("POST", "/up", body=b"x" * 11)
        conn, response = proxy.exchange(b"GET / HTTP/1.1\r\n\r\n")
        assert response.status == 400
    for word in ("ok", "upstream.bad_response.status_line", "proxy.no_route",
                 "proxy.method_not_allowed",
                 "proxy.limit.body_bytes", "client.bad_request.host_missing"):
        proxy.ended(word, count=3)
    assert proxy.metric("weir_requests_total") == 18


def test_end_words_are_those_of_the_table(weir, backend):
    proxy = weir({}, backend)
    proxy.get("/x")
    proxy.logged(path="/x")
    words = {dict(key)["end"] for key in proxy.metrics().samples["weir_request_end_total"]}
    assert words <= set(end_words()) and "ok" in words


def test_request_histogram(weir, backend):
    proxy = weir({}, backend)
    for method, count in (("GET", 4), ("POST", 2), ("BREW", 1)):
        for _ in range(count):
            proxy.request(method, "/h", body=b"x" if method == "POST" else None)
    proxy.logged(7, path="/h")
    name = "http_server_request_duration_seconds_count"
    series = proxy.metrics().samples[name]
    assert sum(series.values()) == 7
    assert sorted(series.values()) == [1, 2, 4]
    assert not any("BREW" in dict(key).values()
                   for key in series), "methods outside the list share one label"
    assert proxy.metric("http_client_request_duration_seconds_count") == 7


def test_status_classes(weir, new_backend):
    backend = new_backend()
    for status in (201, 301, 404, 500):
        backend.on("/%d" % status, raw(wire.response_bytes(status, reason="X")))
    proxy = weir({"pools": {"app": {"outlier": {"consecutive_5xx": 0}}}}, backend)
    for status in (201, 301, 404, 500, 500):
        proxy.get("/%d" % status)
    proxy.logged(5, end="ok")
    series = proxy.metrics().samples["http_server_request_duration_seconds_count"]
    assert sorted(series.values()) == [1, 1, 1, 2]


def test_gauges(weir, backend):
    proxy = weir({}, backend)
    conns = [proxy.client() for _ in range(5)]
    for conn in conns:
        assert conn.get("/g").status == 200
    eventually(lambda: proxy.metric("weir_downstream_connections") == 5)
    eventually(lambda: proxy.metric("weir_downstream_connections_idle") == 5)
    assert proxy.metric("weir_requests_inflight") == 0
    assert proxy.metric("weir_upstream_connections_idle") == len(backend.conns)
    for conn in conns:
        conn.close()
    eventually(lambda: proxy.metric("weir_downstream_connections") == 0)
    assert proxy.metric("weir_downstream_connections_total") == 5


def test_byte_counters(weir, new_backend):
    backend = new_backend(raw(wire.response_bytes(body=b"d" * 5000)))
    proxy = weir({}, backend)
    assert proxy.request("POST", "/b", body=b"u" * 3000).status == 200
    proxy.logged(path="/b")
    eventually(lambda: proxy.metric("weir_downstream_received_bytes_total") == 3000)
    assert proxy.metric("weir_downstream_sent_bytes_total") == 5000


def test_reload_metrics(weir, backend):
    """Generation, last reload and whether it was good."""
    proxy = weir({}, backend)
    names = set(proxy.metrics().samples)
    assert "weir_snapshots_live" in names and "weir_config_generation" in names
    assert any("reload" in name for name in names), names
    before = {n: v for n in names if "reload" in n for v in [proxy.metric(n)]}
    proxy.change(routes=[{"name": "all", "prefix": "/", "pool": "app"},
                         {"path": "/n", "respond": {"status": 200}}])
    proxy.reload()
    after = {n: proxy.metric(n) for n in before}
    assert before != after


def test_cardinality_is_bounded(weir, backend):
    """Hosts, paths and methods that clients make up create no series."""
    proxy = weir({}, backend)
    conn = proxy.client()
    assert conn.get("/warm").status == 200
    proxy.logged(1, path="/warm")
    before = sum(len(series) for series in proxy.metrics().samples.values())
    for number in range(300):
        conn.request("M%d" % number, "/p%d" % number, host="h%d.example" % number)
    proxy.logged(path="/p299")
    after = sum(len(series) for series in proxy.metrics().samples.values())
    assert after - before <= 80


def test_label_escaping(weir, backend):
    """Names with odd characters stay valid text (the parser would fail)."""
    proxy = weir({"pools": {"a-b_c_d": {"endpoints": [backend.address]}},
                  "routes": [{"hosts": ["*.x.example"], "prefix": "/a%22b", "pool": "a-b_c_d"}]})
    assert proxy.get("/a%22b", host="y.x.example").status == 200
    proxy.logged(path="/a%22b")
    proxy.metrics().check_histograms()


@pytest.mark.parametrize("path", ["grafana", "docs"])
def test_every_end_word_is_documented(path):
    """packaging/ may show metrics: words that it names exist."""
    words = set(end_words())
    directory = ROOT / "packaging" / path
    for file in directory.rglob("*") if directory.exists() else []:
        if file.suffix in (".md", ".json"):
            for word in re.findall(r'end=\\?"([a-z_.]+)\\?"', file.read_text(errors="replace")):
                assert word in words, "%s: %s" % (file, word)
    assert len(words) > 60 and isinstance(ROOT, pathlib.Path)


def test_promtool_style_names(weir, backend):
    """Counters end in _total, nothing else does; times are in seconds."""
    proxy = weir({}, backend)
    metrics = proxy.metrics()
    for name, kind in metrics.types.items():
        assert (kind == "counter") == name.endswith("_total"), (name, kind)
        assert not re.search(r"_(ms|millis|us)(_|$)", name), name
