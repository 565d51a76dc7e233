"""Requests that their HTTP/2 endpoint answers by ending the connection, which others share: what
they cost those, and what they do not cost the endpoint."""
from harness import h2wire as h2
from harness.h2byhand import ByHand, proxy_for


def poisoned(conn, stream, head):
    """/bad ends the connection with GOAWAY; /wait is answered on a later one."""
    if head[":path"] == "/bad":
        conn.send(h2.goaway(stream, h2.ENHANCE_YOUR_CALM))
        conn.cut()
    elif head[":path"] != "/wait" or conn is not conn.origin.conns[0]:
        conn.send(h2.headers(stream, h2.block([(":status", "200")]), end=True))


def asked(origin, path):
    return sum(head[":path"] == path for head in origin.asked())


def test_endpoints_are_not_ejected(weir, talk):
    origins = [ByHand(poisoned), ByHand(poisoned)]
    proxy = proxy_for(weir, *origins, pool={"outlier": {"max_ejected": "100%"},
                                            "retry": {"budget": "100%"}})
    conn = talk("h2-frames", proxy)
    assert {conn.get("/bad").status for _ in range(12)} == {502}
    assert proxy.metric("weir_upstream_ejections_total") == 0
    assert sum(asked(origin, "/bad") for origin in origins) == 24
    record = proxy.logged(12, path="/bad", end="upstream.h2.goaway")
    assert record["weir.attempts"] == 2
    assert conn.get("/good").status == 200


def test_who_shares_a_connection_loses_it_once(weir, talk):
    origin = ByHand(poisoned)
    conn = talk("h2-frames", proxy_for(weir, origin))
    honest = [conn.open("GET", "/wait") for _ in range(20)]
    origin.wait_asked(20)
    bad = conn.open("GET", "/bad")
    assert {conn.wait(number).status for number in honest} == {200}
    assert conn.wait(bad).status == 502
    alone = [each for each in origin.conns[1:]
             if any(head[":path"] == "/bad" for head in each.heads.values())]
    assert [len(each.heads) for each in alone] == [1]
    assert asked(origin, "/wait") == 40 and len(origin.conns) < 6


def test_connections_that_are_shut(weir, talk):
    """Without GOAWAY nobody knows whose request it was: each is tried once more."""
    def fifth(conn, stream, head):
        if len(conn.streams) == 5:
            conn.cut()
    origin = ByHand(fifth)
    proxy = proxy_for(weir, origin, pool={"outlier": {"max_ejected": "100%"},
                                          "retry": {"budget": "100%"}})
    conn = talk("h2-frames", proxy)
    numbers = [conn.open("GET", "/")]
    origin.wait_asked(1)
    numbers += [conn.open("GET", "/") for _ in range(4)]
    assert {conn.wait(number).status for number in numbers} == {502}
    assert len(origin.asked()) == 10
    assert proxy.metric("weir_upstream_ejections_total") == 0


def test_connections_that_are_spent(weir, talk):
    """GOAWAY, when a connection has had its share of requests: no fault of the endpoint's."""
    answer = h2.block([(":status", "200")])

    def spent(conn, stream, head):
        waits = {0: 13, 1: 11}.get(origin.conns.index(conn), 0)  # requests 7 and 6
        if not waits:
            conn.send(h2.headers(stream, answer, end=True))
        elif stream == waits:
            conn.send(h2.headers(1, answer, end=True), h2.goaway(1, h2.NO_ERROR))
            conn.cut()
    origin = ByHand(spent)
    proxy = proxy_for(weir, origin, pool={"outlier": {"max_ejected": "100%"},
                                          "retry": {"attempts": 3, "budget": "100%"}})
    conn = talk("h2-frames", proxy)
    numbers = [conn.open("GET", "/first")]
    origin.wait_asked(1)
    numbers += [conn.open("GET", "/behind") for _ in range(6)]
    assert [conn.wait(number).status for number in numbers] == [200] * 7
    assert proxy.logged(6, path="/behind")["weir.tries"].endswith(" upstream.h2.goaway NO_ERROR")
    assert proxy.metric("weir_upstream_ejections_total") == 0
