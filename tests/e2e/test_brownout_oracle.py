"""The oracle of the brownout test itself, on made records: every rule must excuse what nobody
could have spared, and must not excuse the same thing a little otherwise. A judge that finds
nothing proves nothing."""
import dataclasses

import pytest

from harness import brownout_oracle as oracle
from harness import brownout_run
from harness.brownout_oracle import Attempt, Fault, Record, Request, Run, Settings

SETTINGS = Settings(endpoints=4, slots=8, mean_s=0.08, workers=2, attempts=3, budget=0.2,
                    budget_min=1, queue_s=1.0, consecutive_5xx=5, failure_rate=40, window_s=5,
                    min_requests=50, eject_s=30, health_s=2.5)


def request(trace="a", method="GET", begin=100.0, end=100.1, status=502, error="-", task=None):
    return Request(trace, task or trace, method, begin, end, status, error)


def record(end, trace="a", status=502, endpoint=1, attempts=1, tries=()):
    return Record(trace, end, status, endpoint, attempts, list(tries))


def attempt(begin, end, outcome, trace="a", method="POST", endpoint=1):
    return Attempt(trace, method, endpoint, begin, end, outcome)


def quiet(begin, end, rate):
    """Well-answered requests at a steady rate, which nobody's budget or queue is short of."""
    return [request("q%d" % i, begin=begin + i / rate, end=begin + i / rate + 0.08, status=200)
            for i in range(int((end - begin) * rate))]


def judged(asked, told, faults=(), attempts=(), others=(), stalls=(), settings=SETTINGS):
    """(avoidable, rule) of one error."""
    run = Run(settings, list(faults), [asked, *others], [told] if told else [], list(attempts),
              list(stalls))
    found = [each for each in oracle.labels(run) if each.request is asked]
    assert len(found) == 1
    return found[0].avoidable, found[0].rule


def fault(kind, begin=90.0, end=110.0, endpoint=1, capacity=0.0):
    return Fault(kind, endpoint, begin, end, capacity)


def test_what_was_answered_well_is_no_error():
    run = Run(SETTINGS, [], [request(status=200)], [record("ok", status=200)], [])
    assert oracle.labels(run) == [] and oracle.ends_missing(run) == []


def test_not_logged():
    assert judged(request(), None) == (True, "lost")


def test_nothing_excuses():
    """A healthy endpoint's error, a GET that was sent once, a refused connection."""
    assert judged(request(), record("upstream.reset"), others=quiet(80, 120, 50)) == (True, "none")
    gone = [fault("gone", 99.9)]
    assert judged(request(), record("upstream.connect.refused"), gone,
                  others=quiet(80, 120, 50)) == (True, "none")
    assert judged(request(method="POST"), record("upstream.connect.refused"), gone) \
        == (True, "none")


# ---- acted on ----


@pytest.mark.parametrize("kind, outcome", [("failing", "503"), ("slow", None), ("gone", None),
                                           ("frozen", None)])
def test_acted_on(kind, outcome):
    """A POST that the endpoint has begun; not once the fault is over."""
    asked, told = request(method="POST"), record("upstream.reset")
    seen = [attempt(100.01, 100.05 if outcome else None, outcome)]
    assert judged(asked, told, [fault(kind, 99.0)], seen) == (False, "acted_on")
    assert judged(asked, told, [fault(kind, 80.0, 99.0)], seen)[0]
    assert judged(asked, told, [fault(kind, 99.0, endpoint=2)], seen)[0]
    assert judged(request(), told, [fault(kind, 99.0)], seen, quiet(80, 120, 50))[0]


def test_acted_on_but_should_not_have_been_sent_there():
    """Checks had found out the endpoint long ago; or the connection had ended."""
    asked, told = request(method="POST"), record("upstream.first_byte.timeout", status=504)
    assert judged(asked, told, [fault("frozen", 98.0)]) == (False, "acted_on")
    assert judged(asked, told, [fault("frozen", 97.0)]) == (True, "acted_on")
    thawed = [attempt(110.1, 110.2, "gone")]
    assert judged(asked, told, [fault("frozen", 98.0)], thawed) == (False, "acted_on")
    assert judged(asked, told, [fault("frozen", 97.0)], thawed) == (True, "acted_on")
    waited = dataclasses.replace(told, queue_s=0.6)
    assert judged(asked, waited, [fault("frozen", 98.0)], thawed) == (True, "acted_on")
    told = record("upstream.reset")
    assert judged(asked, told, [fault("gone", 99.9)]) == (False, "acted_on")
    assert judged(asked, told, [fault("gone", 99.0)]) == (True, "acted_on")


def outcomes(pattern, begin, step=0.01):
    return [attempt(begin + i * step, begin + i * step, "503" if bad == "x" else "ok", "o%d" % i,
                    "GET") for i, bad in enumerate(pattern)]


def test_acted_on_after_runs_of_failures():
    """Three runs of consecutive_5xx failures: it had to be ejected a second later."""
    asked, told = request(method="POST", status=503), record("ok", status=503)
    mine = attempt(100.01, 100.02, "503")
    bad = [fault("failing")]
    assert judged(asked, told, bad, [*outcomes("xxxxxo" * 3, 98), mine]) == (True, "acted_on")
    assert judged(asked, told, bad, [*outcomes("xxxxxo" * 2, 98), mine]) == (False, "acted_on")
    assert judged(asked, told, bad, [*outcomes("xxxxxo" * 3, 99.5), mine]) == (False, "acted_on")
    assert judged(asked, told, bad, [*outcomes("xxxxo" * 12, 98), mine])[0]  # 80 %: by the rate
    assert not judged(asked, told, bad, [*outcomes("xo" * 5, 98), mine])[0]
    late = [Fault("failing", 1, 60, 110, 0)]
    assert not judged(asked, told, late, [*outcomes("xxxxxo" * 3, 60), mine])[0]  # it came back


def test_what_was_under_way_at_an_ejection_does_not_prolong_it():
    """Out at once for 2 s; answers that came meanwhile belong to the time before."""
    quick = dataclasses.replace(SETTINGS, eject_s=2)
    mine = attempt(100.01, 100.02, "503")
    asked, told = request(method="POST", status=503), record("ok", status=503)
    before = [attempt(98.0, 98.0 + i / 20, "503", "o%d" % i, "GET") for i in range(15)]
    bad = [fault("failing")]
    assert judged(asked, told, bad, [*before, mine], settings=quick) == (False, "acted_on")
    still = attempt(99.5, 99.6, "ok", "between", "GET")
    assert judged(asked, told, bad, [*before, still, mine], settings=quick) \
        == (True, "acted_on")
    again = outcomes("xxxxx" * 3, 98)  # what came after it counts anew
    asked, mine = request(method="POST", begin=103, end=103.1), attempt(103.01, 103.02, "503")
    back = [dataclasses.replace(a, begin=a.begin + 3.5, end=a.end + 3.5, trace=a.trace + "b")
            for a in again]
    assert judged(asked, told, bad, [*again, *back, mine], settings=quick) == (True, "acted_on")


def test_a_replay_is_no_failure_of_the_endpoint():
    asked, told = request(method="POST", status=503), record("ok", status=503)
    mine, bad = attempt(100.01, 100.02, "503"), [fault("failing")]
    resets = [dataclasses.replace(a, outcome="reset") for a in outcomes("x" * 15, 98)]
    assert judged(asked, told, bad, [*resets, mine]) == (True, "acted_on")
    made_good = [dataclasses.replace(a, begin=a.begin + 0.001, end=a.end + 0.001, outcome="ok")
                 for a in resets]
    assert judged(asked, told, bad, [*resets, *made_good, mine]) == (False, "acted_on")
    elsewhere = [dataclasses.replace(a, endpoint=2) for a in made_good]
    assert judged(asked, told, bad, [*resets, *elsewhere, mine]) == (True, "acted_on")


def test_acted_on_after_a_failure_rate():
    asked, told = request(method="POST", status=503), record("ok", status=503)
    mine, bad = attempt(100.01, 100.02, "503"), [fault("failing")]
    assert judged(asked, told, bad, [*outcomes("xo" * 40, 98), mine]) == (True, "acted_on")
    assert not judged(asked, told, bad, [*outcomes("xo" * 25, 98), mine])[0]  # too few
    assert not judged(asked, told, bad, [*outcomes("xoo" * 30, 98), mine])[0]  # 33 %
    assert not judged(asked, told, bad, [*outcomes("xo" * 40, 98, 0.2), mine])[0]  # too slow


def test_cut_short():
    told = record("upstream.try.timeout", status=504)
    seen = [attempt(100.01, None, None)]
    assert judged(request(method="POST"), told, [fault("slow")], seen) == (True, "cut_short")


# ---- queue and capacity ----


def test_overload():
    """280 requests a second before half of 400: the queue must lose some; 560 before all of 400
    too; 280 before 400 must not."""
    told = record("upstream.queue.timeout", status=503, endpoint=None)
    asked = request(begin=104, end=105, status=503)
    half = [Fault("half", None, 100, 120, 0.5)]
    assert judged(asked, told, half, others=quiet(95, 110, 280)) == (False, "overloaded")
    assert judged(asked, told, others=quiet(95, 110, 560)) == (False, "overloaded")
    assert judged(asked, told, others=quiet(95, 110, 280)) == (True, "overloaded")
    three = [fault("gone", 95)]
    assert judged(asked, told, three, others=quiet(95, 110, 280)) == (True, "overloaded")
    early = request(begin=100.1, end=100.2, status=503)
    assert judged(early, told, half, others=quiet(95, 110, 280)) == (True, "overloaded")


def test_overload_is_over():
    """What waits has gone soon after the capacity is back."""
    told = record("upstream.queue.timeout", status=503, endpoint=None)
    half = [Fault("half", None, 100, 120, 0.5)]
    for begin, avoidable in ((119, False), (120.2, False), (124, True)):
        asked = request(begin=begin, end=begin + 1, status=503)
        assert judged(asked, told, half, others=quiet(95, 130, 280)) == (avoidable, "overloaded")


def test_the_ideal_queue_is_as_quick_as_the_backends_were():
    """A busy machine: what was drawn as 80 ms took 200."""
    told = record("upstream.queue.timeout", status=503, endpoint=None)
    asked = request(begin=104, end=105, status=503)
    for work_s, avoidable in ((0.08, True), (0.2, False)):
        worked = [dataclasses.replace(attempt(t, t + work_s, "ok", "w%d" % i, "GET", 2),
                                      work_s=work_s)
                  for i, t in enumerate(95 + n / 100 for n in range(1500))]
        assert judged(asked, told, attempts=worked, others=quiet(95, 110, 280)) \
            == (avoidable, "overloaded")


def test_a_stall_lengthens_the_ideal_queue_by_what_came_meanwhile():
    run = Run(SETTINGS, [], quiet(95, 110, 280), [], [], [(100.0, 0.4)])
    assert 0.2 < oracle.wait_of(run.queue, 100, 101) < 0.4
    assert oracle.wait_of(run.queue, 103, 110) == 0


def test_ideal_queue_is_bounded_by_the_queue_timeout():
    run = Run(SETTINGS, [Fault("half", None, 100, 120, 0.5)], quiet(95, 130, 280), [], [])
    assert oracle.wait_of(run.queue, 95, 99) == 0
    assert 0.9 < oracle.wait_of(run.queue, 110, 120) < 1.3
    assert oracle.wait_of(run.queue, 124, 130) == 0


def test_stalls():
    """A machine that stood still excuses timeouts, nothing else; and no short ones."""
    told = record("upstream.first_byte.timeout", status=504)
    others = quiet(80, 120, 50)
    assert judged(request(end=101), told, stalls=[(100.2, 0.5)], others=others) \
        == (False, "stalled")
    assert judged(request(end=101), told, stalls=[(100.2, 0.1)], others=others)[0]
    assert judged(request(end=101), told, stalls=[(102, 0.5)], others=others)[0]
    assert judged(request(end=103), told, stalls=[(100.2, 0.5)], others=others)[0]
    assert judged(request(end=101), record("upstream.reset"), stalls=[(100.2, 0.5)],
                  others=others)[0]


# ---- attempts and budget ----


def test_spent():
    """All attempts failed: excused only if no well endpoint was left out."""
    told = record("upstream.reset", endpoint=2, attempts=3,
                  tries=[(0, "503"), (1, "upstream.reset")])
    three = [fault("failing", endpoint=e) for e in (0, 1, 2)]
    assert judged(request(), told, three) == (True, "spent")
    assert judged(request(), told, [*three, fault("gone", endpoint=3)]) == (False, "spent")


def retried(count, begin, end):
    """Requests with one further attempt each, and what the log says of them."""
    asked = [request("r%d" % i, begin=begin + (end - begin) * i / count, status=200)
             for i in range(count)]
    for each in asked:
        each.end = each.begin + 0.01
    told = [record("ok", each.trace, 200, 0, 2, [(1, "503")]) for each in asked]
    return asked, told


@pytest.mark.parametrize("retries, avoidable", [(98, False), (60, True)])
def test_budget(retries, avoidable):
    """50 requests a second: 8 s allow 80 retries, and 8 at one a second."""
    asked, told = retried(retries, 92.0, 99.9)
    mine = request(begin=100, end=100.01)
    others = quiet(80, 100, 50)
    run = Run(SETTINGS, [fault("failing")], [mine, *others, *asked],
              [record("upstream.reset"), *told], [])
    assert [each.avoidable for each in oracle.labels(run)] == [avoidable]


def test_budget_exceeded():
    for retries, beside, found in ((80, 0, False), (130, 0, True), (130, 30, False)):
        asked, told = retried(retries, 92.9, 99.9)
        run = Run(SETTINGS, [], [*quiet(80, 100, 50), *asked], told, [])
        assert bool(run.ledger.exceeded(beside)) == found, retries


def test_budget_takes_the_times_that_backends_saw():
    """A retry counts when it was made, not when its request began."""
    slow = [request("r%d" % i, begin=100, end=170, status=200) for i in range(60)]
    told = [record("ok", each.trace, 200, 0, 2, [(1, "503")]) for each in slow]
    spread = [Attempt("r%d" % i, "GET", e, when, when, "ok")
              for i in range(60) for e, when in ((1, 100.0), (0, 101 + i))]
    once = [Attempt("r%d" % i, "GET", e, when, when, "ok")
            for i in range(60) for e, when in ((1, 100.0), (0, 120.0))]
    assert not Run(SETTINGS, [], slow, told, spread).ledger.exceeded(0)
    assert Run(SETTINGS, [], slow, told, once).ledger.exceeded(0)


def test_nobody_left():
    told = record("upstream.none_healthy", status=503, endpoint=None)
    everywhere = [fault("gone", endpoint=e) for e in range(4)]
    assert judged(request(status=503), told, everywhere) == (False, "nobody_left")
    assert judged(request(status=503), told, everywhere[:3]) == (True, "nobody_left")


# ---- what must hold besides ----


def test_end_words():
    """weir's own errors need a word, an endpoint's have ok, and the log knows the status."""
    def missing(end, status=502, told=502, outcome=None):
        seen = [attempt(100.0, 100.1, outcome)] if outcome else []
        return oracle.ends_missing(Run(SETTINGS, [], [request(status=status)],
                                       [record(end, status=told)], seen))
    assert not missing("upstream.reset")
    assert missing("ok") and missing("") and missing("upstream.reset", 503)
    assert not missing("ok", 503, 503, "503")
    assert missing("ok", 503, 503, "500")


def test_sent_twice():
    def twice(method):
        return oracle.sent_twice(Run(SETTINGS, [], [], [], [
            attempt(1, 2, "ok", method=method), attempt(3, 4, "ok", method=method, endpoint=2)]))
    assert twice("POST") and not twice("PUT")


def test_figures():
    assert oracle.quantile([], 0.99) == 0 and oracle.quantile([3], 0.99) == 3
    assert oracle.quantile(range(1, 101), 0.99) == 99 and oracle.quantile([1, 9], 0.5) == 1
    first = request("a", begin=10, end=10.5, status=503)
    again = request("b", begin=11, end=11.2, status=200, task="a")
    late = request("c", begin=10, end=19, status=200)
    run = Run(SETTINGS, [], [first, again, late], [], [])
    assert oracle.goodput(run, 10, 20, 2) == 0.1 and oracle.goodput(run, 10, 20, 9) == 0.2
    assert oracle.p99(run, 10, 12) == 9 and oracle.p99(run, 10.5, 12) == pytest.approx(0.2)


# ---- the settings are those of the page ----


def test_settings_come_from_the_dump():
    text = """process = {
  workers = 2;  # weir.conf:2
};
pools = {
  app = {
    endpoints = (
      {
        address = "127.0.0.1:1";  # weir.conf:9
      },
      {
        address = "127.0.0.1:2";  # weir.conf:9
      }
    );
    balance = "peak_ewma";  # weir.conf:4
    health = {
      interval = "1s";  # default
    };
  };
};
"""
    flat = brownout_run.flatten_dump(text)
    assert flat["process.workers"] == "2" and flat["pools.app.health.interval"] == "1s"
    assert flat["pools.app.balance"] == "peak_ewma"
    assert brownout_run.seconds("250ms") == 0.25 and brownout_run.seconds("2m") == 120


def test_until_found_out():
    flat = {"pools.app.health." + key: value for key, value in dict(
        interval="1s", fast_interval="500ms", timeout="500ms", unhealthy="2",
        jitter="10%").items()}
    assert brownout_run.until_found_out(flat) == pytest.approx(1.1 + 0.55 + 0.5)


def test_exceeded_by_counters():
    site = object.__new__(brownout_run.Site)
    site.settings = dataclasses.replace(SETTINGS, budget_min=0)
    steady = [(i * 0.25, 25 * i, 5 * i) for i in range(80)]
    site.samples = steady
    assert not site.exceeded_by_counters()
    site.samples = [(t, asked, tries + (60 if t > 10 else 0)) for t, asked, tries in steady]
    assert site.exceeded_by_counters()
