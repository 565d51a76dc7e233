"""Requests that are not exactly RFC 9110 and 9112 are refused with one cause; nothing of them
reaches the upstream. THREATS.md rows 7 to 11, 13, 15, 18, 22."""
import pytest

from harness import wire
from harness.client import GUARD

BAD = "client.bad_request."
H = "Host: a.example\r\n"


def post(fields, body=""):
    return "POST /x HTTP/1.1\r\n" + H + fields + "\r\n\r\n" + body


def get(target, fields=""):
    return "GET %s HTTP/1.1\r\n%s%s\r\n" % (target, H, fields)


# name, bytes, status, words (one of)
REFUSED = [
    # lines
    ("bare_lf", "GET / HTTP/1.1\nHost: a\n\n", 400, ["line_end"]),
    ("bare_lf_in_fields", "GET / HTTP/1.1\r\nHost: a\nX: y\r\n\r\n", 400, ["line_end"]),
    ("bare_lf_at_the_end", "GET / HTTP/1.1\r\nHost: a\r\n\n", 400, ["line_end"]),
    ("bare_cr_in_value", get("/", "X: a\rb\r\n"), 400, ["line_end", "field_value"]),
    ("bare_cr_in_line", "GET /\r HTTP/1.1\r\nHost: a\r\n\r\n", 400,
     ["line_end", "request_line", "target", "path"]),
    ("double_cr", "GET / HTTP/1.1\r\r\nHost: a\r\n\r\n", 400,
     ["line_end", "request_line", "version"]),
    # request line
    ("no_version", "GET /\r\n\r\n", 400, ["request_line"]),
    ("two_spaces", "GET  / HTTP/1.1\r\n" + H + "\r\n", 400, ["request_line", "target"]),
    ("tabs", "GET\t/\tHTTP/1.1\r\n" + H + "\r\n", 400, ["request_line", "method"]),
    ("space_at_the_end", "GET / HTTP/1.1 \r\n" + H + "\r\n", 400, ["request_line", "version"]),
    ("space_at_the_start", " GET / HTTP/1.1\r\n" + H + "\r\n", 400, ["request_line", "method"]),
    ("space_in_target", "GET /a b HTTP/1.1\r\n" + H + "\r\n", 400,
     ["request_line", "target", "version"]),
    ("method_not_token", "GE(T / HTTP/1.1\r\n" + H + "\r\n", 400, ["method"]),
    ("version_lower_case", "GET / http/1.1\r\n" + H + "\r\n", (400, 505),
     ["version", "request_line"]),
    ("version_2_0", "GET / HTTP/2.0\r\n" + H + "\r\n", 505, ["version"]),
    ("version_0_9", "GET / HTTP/0.9\r\n" + H + "\r\n", 505, ["version"]),
    ("version_long", "GET / HTTP/1.11\r\n" + H + "\r\n", (400, 505), ["version", "request_line"]),
    ("h2_preface", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400, ["h2_preface"]),
    ("connect", "CONNECT a.example:80 HTTP/1.1\r\n" + H + "\r\n", (400, 501),
     ["method_not_served", "host_mismatch"]),
    # targets
    ("relative", get("x"), 400, ["target"]),
    ("asterisk_of_get", get("*"), 400, ["target"]),
    ("other_scheme", get("ftp://a.example/"), 400, ["target"]),
    ("userinfo", get("http://u@a.example/"), 400, ["target", "host"]),
    ("fragment", get("/a#b"), 400, ["path", "target"]),
    ("backslash", get("/a\\b"), 400, ["path", "target"]),
    ("percent_zz", get("/%zz"), 400, ["path_escape"]),
    ("percent_cut", get("/%4"), 400, ["path_escape"]),
    ("percent_00", get("/%00"), 400, ["path_escape"]),
    ("dot_dot", get("/a/../../b"), 400, ["path_dots"]),
    ("dot_dot_escaped", get("/a/%2e%2E/../b"), 400, ["path_dots"]),
    ("dot_dot_semicolon", get("/a/..;/b"), 400, ["path_dots"]),
    ("dot_dot_slash_escaped", get("/a/..%2fb"), 400, ["path_encoded_slash"]),
    ("overlong_slash", get("/a/..%c0%afb"), 400, ["path_utf8"]),
    ("high_byte", "GET /\xe9 HTTP/1.1\r\n" + H + "\r\n", 400, ["path", "target", "request_line"]),
    ("nul_in_target", "GET /\0 HTTP/1.1\r\n" + H + "\r\n", 400,
     ["path", "target", "request_line"]),
    ("fragment_in_query", get("/a?b#c"), 400, ["path", "target"]),
    # host
    ("host_missing", "GET / HTTP/1.1\r\n\r\n", 400, ["host_missing"]),
    ("host_twice", get("/", H), 400, ["host_repeated"]),
    ("host_empty", "GET / HTTP/1.1\r\nHost:\r\n\r\n", 400, ["host", "host_missing"]),
    ("host_two_names", "GET / HTTP/1.1\r\nHost: a, b\r\n\r\n", 400, ["host"]),
    ("host_space", "GET / HTTP/1.1\r\nHost: a b\r\n\r\n", 400, ["host"]),
    ("host_userinfo", "GET / HTTP/1.1\r\nHost: u@a\r\n\r\n", 400, ["host"]),
    ("host_path", "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", 400, ["host"]),
    ("host_port_big", "GET / HTTP/1.1\r\nHost: a:65536\r\n\r\n", 400, ["host"]),
    ("host_port_text", "GET / HTTP/1.1\r\nHost: a:80x\r\n\r\n", 400, ["host"]),
    ("host_percent", "GET / HTTP/1.1\r\nHost: a%2eb\r\n\r\n", 400, ["host"]),
    ("host_bad_v6", "GET / HTTP/1.1\r\nHost: [::1\r\n\r\n", 400, ["host"]),
    ("host_other_than_target", get("http://b.example/"), 400, ["host_mismatch"]),
    # fields
    ("space_before_colon", get("/", "X : y\r\n"), 400, ["field_name"]),
    ("tab_before_colon", get("/", "X\t: y\r\n"), 400, ["field_name"]),
    ("empty_name", get("/", ": y\r\n"), 400, ["field_name"]),
    ("no_colon", get("/", "nonsense\r\n"), 400, ["field_name"]),
    ("name_not_token", get("/", "X(y): z\r\n"), 400, ["field_name"]),
    ("name_high_byte", get("/", "X\xe9: z\r\n"), 400, ["field_name"]),
    ("nul_in_value", get("/", "X: a\0b\r\n"), 400, ["field_value"]),
    ("control_in_value", get("/", "X: a\x01b\r\n"), 400, ["field_value"]),
    ("del_in_value", get("/", "X: a\x7fb\r\n"), 400, ["field_value"]),
    ("obs_fold", get("/", "X: a\r\n b\r\n"), 400, ["obs_fold"]),
    ("obs_fold_tab", get("/", "X: a\r\n\tb\r\n"), 400, ["obs_fold"]),
    ("fold_first", "GET / HTTP/1.1\r\n X: y\r\n" + H + "\r\n", 400, ["obs_fold", "field_name"]),
    # framing
    ("te_and_cl", post("Content-Length: 5\r\nTransfer-Encoding: chunked", "0\r\n\r\n"), 400,
     ["te_and_cl"]),
    ("cl_and_te", post("Transfer-Encoding: chunked\r\nContent-Length: 5", "0\r\n\r\n"), 400,
     ["te_and_cl"]),
    ("cl_twice_same", post("Content-Length: 1\r\nContent-Length: 1", "x"), 400,
     ["content_length_repeated"]),
    ("cl_twice_other", post("Content-Length: 1\r\nContent-Length: 2", "xx"), 400,
     ["content_length_repeated"]),
    ("cl_list", post("Content-Length: 1, 1", "x"), 400, ["content_length"]),
    ("cl_plus", post("Content-Length: +1", "x"), 400, ["content_length"]),
    ("cl_minus", post("Content-Length: -1", "x"), 400, ["content_length"]),
    ("cl_hex", post("Content-Length: 0x1", "x"), 400, ["content_length"]),
    ("cl_empty", post("Content-Length:", "x"), 400, ["content_length"]),
    ("cl_space", post("Content-Length: 1 1", "x"), 400, ["content_length"]),
    ("cl_overflow", post("Content-Length: 18446744073709551617", "x"), 400, ["content_length"]),
    ("te_identity", post("Transfer-Encoding: identity"), (400, 501),
     ["transfer_encoding", "unknown_coding"]),
    ("te_gzip", post("Transfer-Encoding: gzip, chunked", "0\r\n\r\n"), (400, 501),
     ["transfer_encoding", "unknown_coding"]),
    ("te_chunked_twice", post("Transfer-Encoding: chunked, chunked", "0\r\n\r\n"), 400,
     ["transfer_encoding"]),
    ("te_two_lines", post("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", "0\r\n\r\n"),
     400,
     ["transfer_encoding"]),
    ("te_not_last", post("Transfer-Encoding: chunked, gzip", "0\r\n\r\n"), (400, 501),
     ["transfer_encoding", "unknown_coding"]),
    ("te_x", post("Transfer-Encoding: xchunked", "0\r\n\r\n"), (400, 501),
     ["transfer_encoding", "unknown_coding"]),
    ("te_parameter", post("Transfer-Encoding: chunked;q=1", "0\r\n\r\n"), (400, 501),
     ["transfer_encoding", "unknown_coding"]),
    ("te_vertical_tab", post("Transfer-Encoding: \x0bchunked", "0\r\n\r\n"), 400,
     ["field_value", "transfer_encoding"]),
    ("te_empty", post("Transfer-Encoding:", "0\r\n\r\n"), 400, ["transfer_encoding"]),
    ("te_in_1_0", "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400,
     ["te_in_1_0"]),
    # what Connection and Expect may not say
    ("connection_nominates_host", get("/", "Connection: host\r\n"), 400, ["connection"]),
    ("connection_nominates_cl", post("Connection: content-length\r\nContent-Length: 1", "x"), 400,
     ["connection"]),
    ("connection_nominates_xff", get("/", "Connection: X-Forwarded-For\r\n"), 400, ["connection"]),
    ("connection_nominates_xfu", get("/", "Connection: X_Forwarded-User\r\n"), 400,
     ["connection"]),
    ("connection_nominates_cookie", get("/", "Connection: close, Cookie\r\n"), 400,
     ["connection"]),
    ("expectation", post("Expect: 200-maybe\r\nContent-Length: 1", "x"), 417, ["expect"]),
]


@pytest.mark.parametrize("data,status,words", [row[1:] for row in REFUSED],
                         ids=[row[0] for row in REFUSED])
def test_refused(pair, data, status, words):
    """The refusal is valid, final, logged with its word, counted, and nothing was forwarded."""
    conn, response = pair.exchange(data.encode("latin-1"))
    assert response.status in (status if isinstance(status, tuple) else (status,))
    assert response.get("connection") == "close"
    assert "weir" in response.get("proxy-status")
    conn.expect_close()
    record = pair.logged(status=response.status)
    assert record["weir.end"] in [BAD + word for word in words]
    pair.ended(record["weir.end"])
    assert not pair.backend.requests


# What the log says of a refused request, as far as it was read: bytes, then method, path, query,
# host, agent, version.
SEEN = [
    ("field", "GET /a%20b?c=d HTTP/1.1\r\nHost: A.Example\r\nUser-Agent: me\r\nX : y\r\n\r\n",
     ("GET", "/a%20b", "c=d", "a.example", "me", "1.1")),
    ("framing", post("User-Agent: me\r\nContent-Length: 1\r\nTransfer-Encoding: chunked"),
     ("POST", "/x", None, "a.example", "me", "1.1")),
    ("host", "GET /x HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
     ("GET", "/x", None, None, None, "1.1")),
    ("no host", "GET /x HTTP/1.1\r\n\r\n", ("GET", "/x", None, None, None, "1.1")),
    ("version", "GET /x?y HTTP/3.0\r\n\r\n", ("GET", "/x", "y", None, None, None)),
    ("path", "GET /x\x01y HTTP/1.1\r\n\r\n", ("GET", "/x", None, None, None, None)),
    ("no version", "GET /x\r\n\r\n", ("GET", "/x", None, None, None, None)),
    ("target", get("x y"), ("GET", "x", None, None, None, None)),
    ("not served", "CONNECT a.example:80 HTTP/1.1\r\nHost: a.example\r\n\r\n",
     ("CONNECT", "a.example:80", None, None, None, "1.1")),
    ("any byte", "GET /x HTTP/1.1\r\nUser-Agent: \xff\"\\\r\nX\n",
     ("GET", "/x", None, None, "\ufffd\"\\", "1.1")),
    ("method", "GE(T /x HTTP/1.1\r\n\r\n", (None,) * 6),
    ("no request", "\x16\x03\x01 / HTTP/1.1\r\n\r\n", (None,) * 6),
]
SEEN_KEYS = ("http.request.method", "url.path", "url.query", "server.address",
             "user_agent.original", "network.protocol.version")


@pytest.mark.parametrize("data,want", [row[1:] for row in SEEN], ids=[row[0] for row in SEEN])
def test_what_was_read_is_logged(pair, data, want):
    _, response = pair.exchange(data.encode("latin-1"))
    record = pair.logged(status=response.status)
    assert tuple(record.get(key) for key in SEEN_KEYS) == want


def test_what_is_too_long_is_logged_in_part(pair):
    _, response = pair.exchange(b"GET /" + b"x" * 20000)
    assert response.status == 414
    assert pair.logged(status=414)["url.path"] == "/" + "x" * 2047 + "..."


def test_what_came_of_a_cut_head_is_logged(pair):
    """A client that leaves inside its head, and one that is too slow with it."""
    conn = pair.client()
    conn.send(b"GET /cut HTTP/1.1\r\nHost: a.ex")
    conn.half_close()
    record = pair.ended(BAD + "truncated")
    assert (record["http.request.method"], record["url.path"]) == ("GET", "/cut")


# name, bytes after the head of a chunked POST, words
BAD_CHUNKS = [
    ("not_hex", "zz\r\nhello\r\n0\r\n\r\n", ["chunk_size", "chunk"]),
    ("empty_size", "\r\nhello\r\n0\r\n\r\n", ["chunk_size", "chunk"]),
    ("prefix_0x", "0x5\r\nhello\r\n0\r\n\r\n", ["chunk_size", "chunk"]),
    ("negative", "-5\r\nhello\r\n0\r\n\r\n", ["chunk_size", "chunk"]),
    ("plus", "+5\r\nhello\r\n0\r\n\r\n", ["chunk_size", "chunk"]),
    ("leading_space", " 5\r\nhello\r\n0\r\n\r\n", ["chunk_size", "chunk"]),
    ("bare_lf_after_size", "5\nhello\r\n0\r\n\r\n", ["chunk", "chunk_size", "line_end"]),
    ("bare_cr_after_size", "5\rhello\r\n0\r\n\r\n", ["chunk", "chunk_size", "line_end"]),
    ("overflow", "10000000000000005\r\nhello\r\n0\r\n\r\n", ["chunk_size", "chunk"]),
    ("seventeen_digits", "00000000000000005\r\nhello\r\n0\r\n\r\n", ["chunk_size", "chunk"]),
    ("data_too_long", "5\r\nhello!\r\n0\r\n\r\n", ["chunk"]),
    ("data_ends_in_lf", "5\r\nhello\n0\r\n\r\n", ["chunk", "line_end"]),
    ("extension_with_lf", "5;a\nb\r\nhello\r\n0\r\n\r\n", ["chunk", "chunk_size", "line_end"]),
    ("extension_with_cr", "5;a\rb\r\nhello\r\n0\r\n\r\n", ["chunk", "chunk_size", "line_end"]),
    ("extension_with_nul", "5;a=\0\r\nhello\r\n0\r\n\r\n", ["chunk", "chunk_size"]),
    ("extension_too_long", "5;" + "a" * 5000 + "\r\nhello\r\n0\r\n\r\n", ["chunk", "chunk_size"]),
    ("trailer_space_before_colon", "0\r\nX : y\r\n\r\n", ["trailer", "field_name"]),
    ("trailer_folded", "0\r\nX: y\r\n z\r\n\r\n", ["trailer", "obs_fold"]),
    ("trailer_bare_lf", "0\r\nX: y\n\r\n", ["trailer", "line_end"]),
    ("trailer_nul", "0\r\nX: \0\r\n\r\n", ["trailer", "field_value"]),
    ("trailers_too_large", "0\r\n" + "X: %s\r\n" % ("y" * 4000) * 4 + "\r\n", ["trailer"]),
]


@pytest.mark.parametrize("body,words", [row[1:] for row in BAD_CHUNKS],
                         ids=[row[0] for row in BAD_CHUNKS])
def test_bad_chunked_body(pair, body, words):
    """The upstream never sees a complete message, the client gets 400 and the end."""
    head = post("Transfer-Encoding: chunked").encode()
    conn, response = pair.exchange(head + b"2\r\nok\r\n" + body.encode("latin-1"))
    assert response.status == 400
    conn.expect_close()
    record = pair.logged(path="/x")
    assert record["weir.end"] in [BAD + word for word in words]
    pair.ended(record["weir.end"])
    for request in pair.backend.requests:
        pair.backend.conns[request.connection].ended.wait(GUARD)
        assert not request.complete


# name, bytes, framing at the upstream, body there
ACCEPTED = [
    ("empty_lines_first", "\r\n\r\nPOST /x HTTP/1.1\r\n" + H + "Content-Length: 2\r\n\r\nok",
     b"ok"),
    ("no_space_after_colon", "POST /x HTTP/1.1\r\nHost:a\r\nContent-Length:2\r\n\r\nok", b"ok"),
    ("spaces_around_value", "POST /x HTTP/1.1\r\nHost: \t a \t\r\nContent-Length: 2 \r\n\r\nok",
     b"ok"),
    ("coding_in_capitals", post("Transfer-Encoding: CHUNKED", "2\r\nok\r\n0\r\n\r\n"), b"ok"),
    ("leading_zeros", post("Content-Length: 0002", "ok"), b"ok"),
    ("chunk_leading_zeros", post("Transfer-Encoding: chunked", "0002\r\nok\r\n000\r\n\r\n"),
     b"ok"),
    ("chunk_extension", post("Transfer-Encoding: chunked", "2;a=b;c=\"d\"\r\nok\r\n0;x\r\n\r\n"),
     b"ok"),
    ("trailers",
     post("Transfer-Encoding: chunked", "2\r\nok\r\n0\r\nX-T: 1\r\nHost: evil\r\n\r\n"), b"ok"),
    ("hex_capitals", post("Transfer-Encoding: chunked", "A\r\n0123456789\r\n0\r\n\r\n"),
     b"0123456789"),
    ("many_chunks", post("Transfer-Encoding: chunked", "1\r\nx\r\n" * 300 + "0\r\n\r\n"),
     b"x" * 300),
    ("no_body", post("Content-Length: 0"), b""),
    ("empty_chunked", post("Transfer-Encoding: chunked", "0\r\n\r\n"), b""),
]


@pytest.mark.parametrize("data,body", [row[1:] for row in ACCEPTED],
                         ids=[row[0] for row in ACCEPTED])
def test_accepted(pair, data, body):
    """Forwarded as weir understood it, and the connection serves the next request."""
    conn, response = pair.exchange(data.encode("latin-1"))
    assert response.status == 200 and response.body == b"POST /x"
    request = pair.backend.last
    assert request.complete and request.body.data == body
    assert b"evil" not in bytes(request.raw_head)
    record = pair.ended("ok", path="/x", status=200)
    assert record["http.request.body.size"] == len(body)
    assert conn.get("/next").body == b"GET /next"


@pytest.mark.parametrize("step", [1, 3, 17])
def test_head_and_body_in_small_pieces(pair, step):
    data = (post("Transfer-Encoding: chunked\r\nX-Long: " + "v" * 50,
                 "2;e\r\nok\r\n3\r\nnow\r\n0\r\n\r\n")
            + get("/second")).encode()
    conn = pair.client()
    for at in range(0, len(data), step):
        conn.send(data[at : at + step])
    assert conn.response().body == b"POST /x" and conn.response().body == b"GET /second"
    assert pair.backend.requests[0].body.data == b"oknow"


def test_length_body_is_not_read_as_a_request(pair):
    """What a body holds stays a body, whatever it looks like."""
    inner = b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"
    data = post("Content-Length: %d"
                % len(inner)).encode() + inner + wire.request_bytes(target="/after")
    conn, response = pair.exchange(data)
    assert response.body == b"POST /x" and conn.response().body == b"GET /after"
    assert [r.path for r in pair.backend.requests] == ["/x", "/after"]
    assert pair.backend.requests[0].body.data == inner


def test_get_with_body_is_framed(pair):
    conn, response = pair.exchange(get("/g", "Content-Length: 3\r\n").encode() + b"abc")
    assert response.status == 200 and pair.backend.last.body.data == b"abc"
    assert conn.get("/h").status == 200


def test_third_empty_line_is_refused(pair):
    conn, response = pair.exchange(b"\r\n\r\n\r\n\r\n" + wire.request_bytes())
    assert response.status == 400
    conn.expect_close()
    assert not pair.backend.requests


def test_refusal_behind_good_requests(pair):
    """Answers of what came before are complete; the fault ends the connection."""
    conn = pair.client()
    conn.send(wire.request_bytes(target="/1") + wire.request_bytes(target="/2") + b"BAD\r\n\r\n"
              + wire.request_bytes(target="/3"))
    assert [conn.response().body for _ in range(2)] == [b"GET /1", b"GET /2"]
    assert conn.response().status == 400
    conn.expect_close()
    assert [r.path for r in pair.backend.requests] == ["/1", "/2"]


@pytest.mark.parametrize("chunked", [False, True])
def test_client_ends_inside_the_body(pair, chunked):
    """The upstream sees a cut request, never a complete one."""
    framing = "Transfer-Encoding: chunked" if chunked else "Content-Length: 100"
    conn = pair.client()
    conn.send(post(framing).encode() + (b"5\r\nhello\r\n" if chunked else b"hello"))
    request = pair.backend.wait()
    conn.half_close()
    pair.backend.conns[request.connection].ended.wait(GUARD)
    assert not request.complete and request.body.data == b"hello"
    record = pair.logged(path="/x")
    assert record["weir.end"] in ("client.closed", BAD + "truncated")
    pair.ended(record["weir.end"])
